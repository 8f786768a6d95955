"""Holds what `infera up` left against what is promised, and tries the checker on spoilt copies.

Most promises are `promises.py`'s. Here are those that hold because nothing but the one process is killed: every request is
accepted, every job succeeds, and no verifier works for another.
"""

import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import packed
import sabotage
from promises import (
    Tally,
    check_answers,
    check_archive,
    check_collected,
    check_ends,
    check_groups,
    check_postings,
    offered,
    told_jobs,
)
from sabotage import changed, with_end

from . import evidence

# Also a node that missed its assignment is not asked again: there are others.
ASKED = ("open", "answered", "missed")


def check(evidence, tally=None):
    """Checks every promise; returns the tally."""
    tally = tally or Tally("kill")
    told = told_jobs(evidence)
    check_answers(evidence, tally)
    tally.each("offered and never accepted", sorted(offered(evidence)), lambda index: index not in told)
    check_ends(evidence, tally)
    check_collected(evidence, tally)
    accepted = set().union(*told.values())
    tally.each("in the ledger and never told to the client", evidence.jobs, lambda job: job.id not in accepted)
    tally.each("ended otherwise than succeeded", evidence.settlements, lambda one: one.word != "succeeded")
    tally.each("posted and not owed", check_postings(evidence, tally), lambda _: True)
    check_groups(evidence, tally, ASKED)
    check_archive(evidence, tally)
    return tally


def tokens(evidence):
    """Returns the tokens of each request's answer, by the request's number."""
    answers = {one.job: one.end.get("answer", {}).get("tokens") for one in evidence.settlements}
    return {index: answers.get(job) for index, jobs in told_jobs(evidence).items() for job in jobs}


# The promise of this campaign that must be seen broken, and the change to the evidence that breaks it.
SABOTAGES = [
    ("offered and never accepted", lambda e: replace(e, history=[*e.history, {"phase": "invoke", "index": -1}])),
    ("in the ledger and never told to the client", lambda e: replace(e, jobs=[*e.jobs, replace(e.jobs[0], id="job_other")])),
    ("ended otherwise than succeeded", lambda e: replace(e, settlements=changed(e.settlements, lambda one: with_end(one, status="expired")))),
]

# The same for changes to the ledger's file, so that the reading of it is tried too.
FILE_SABOTAGES = [
    ("accepted and never ended", "DELETE FROM settlements WHERE rowid = 1"),
    ("accepted and not in the ledger", "UPDATE jobs SET id = randomblob(16) WHERE rowid = 1"),
    ("in the ledger and never told to the client", "UPDATE jobs SET id = randomblob(16) WHERE rowid = 1"),
    ("jobs that were never submitted", "UPDATE jobs SET request = json_set(CAST(request AS TEXT), '$.seed', -5) WHERE rowid = 1"),
    ("ended otherwise than succeeded", "UPDATE settlements SET settlement = json_set(plain_settlement(settlement), '$.end.status', 'expired') WHERE rowid = 1"),
    ("usage owed and not posted, or wrong", "DELETE FROM postings WHERE sequence = (SELECT min(sequence) FROM postings WHERE plain_id(id) LIKE 'usage:%')"),
    ("verdict owed and not posted", "DELETE FROM postings WHERE sequence = (SELECT min(sequence) FROM postings WHERE plain_id(id) LIKE 'verdict:%')"),
    ("posted and not owed", "UPDATE postings SET id = 'verdict:other' WHERE sequence = (SELECT min(sequence) FROM postings WHERE plain_id(id) LIKE 'verdict:%')"),
    ("balances that don't follow from the postings", "UPDATE balances SET millipoints = millipoints + 1 WHERE rowid = 1"),
    ("groups never closed", "UPDATE groups SET is_closed = 0 WHERE rowid = 1"),
    ("an owner twice in a group", "UPDATE groups SET record = json_set(plain_group(record), '$.assignments[0].owner', json_extract(plain_group(record), '$.assignments[1].owner')) WHERE rowid = 1"),
    ("archive record missing", "DELETE FROM records WHERE rowid = 1"),
    ("archive record different", "UPDATE records SET hash = randomblob(32) WHERE rowid = 1"),
    ("archive record different", "UPDATE settlements SET settlement = json_set(plain_settlement(settlement), '$.end.answer.tokens[0]', 0) WHERE rowid = 1"),
]


def missed(data, history):
    """Tries the checker on a finished run with one change each; returns the changes that it does not see."""
    found = sabotage.missed(evidence.read(data, history), check, SABOTAGES)
    for promise, change in FILE_SABOTAGES:
        with tempfile.TemporaryDirectory(prefix="infera-sabotage-") as folder:
            copy = Path(folder) / "data"
            shutil.copytree(data, copy)
            ledger = sqlite3.connect(copy / "ledger.sqlite")
            packed.add_functions(ledger)
            with ledger:
                rows = ledger.execute(change).rowcount
            ledger.close()
            if rows != 1 or not check(evidence.read(copy, history)).breaches.get(promise):
                found.append((promise, change))
    return found
