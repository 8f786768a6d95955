"""Holds what a chaos campaign left against what is promised: the client's log, the ledger and the archive.

    python -m chaos.checker FOLDER

It asks no server and uses no code of the programs. Most promises are `promises.py`'s; here are those that depend on faults.
"""

import sys

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

from .evidence import read_back

# The sweeper that expires a job looks every second, and may first have to get its lease.
END_GRACE_MS = 15_000
# Within two minutes of a fault's end everything that it held up must be over.
AFTER_HEAL_MS = 120_000
SUCCEEDED_MIN = 0.99
# No fault of a server or a link excuses these ends.
NEVER = ("poison", "no_consensus")
# A silent node may be asked again when there is no other.
ASKED = ("open", "answered")


def check_words(evidence, tally):
    """Checks that nearly all jobs ended with an answer, and none with an end that no fault excuses."""
    words = {}
    for one in evidence.settlements:
        words[one.word] = words.get(one.word, 0) + 1
    for word in NEVER:
        tally.count(f"ended as {word}", words.get(word, 0))
    share = words.get("succeeded", 0) / max(len(evidence.settlements), 1)
    tally.count(f"succeeded less often than {SUCCEEDED_MIN:.0%}", share < SUCCEEDED_MIN, f"{share:.3%}")
    tally.figure("ends", dict(sorted(words.items())))


def check_times(evidence, tally):
    """Checks that each end comes by its deadline, or within `AFTER_HEAL_MS` of the last heal of a fault that began before it."""

    def latest(job):
        heals = [fault["healed_ms"] for fault in evidence.faults if fault["began_ms"] <= job.deadline_ms]
        return max(job.deadline_ms + END_GRACE_MS, max(heals, default=0) + AFTER_HEAL_MS)

    ended = {one.job: one for one in evidence.settlements}
    both = [(job, ended[job.id]) for job in evidence.jobs if job.id in ended]
    tally.each("ended too late", both, lambda pair: pair[1].settled_ms > latest(pair[0]))
    expired = [pair for pair in both if pair[1].word == "expired"]
    tally.each("expired before its deadline", expired, lambda pair: pair[1].settled_ms < pair[0].deadline_ms)


def check_outside(evidence, tally, others):
    """Checks that all other postings are verdicts on work for a verifier that lost the job to another one."""
    ended = {one.job for one in evidence.settlements}
    tally.each("posted and not owed", others, lambda one: one.entry["kind"] != "verdict" or one.job not in ended)
    tally.figure("verdicts on work for a verifier that lost the job to another", len(others))


def check(evidence, tally=None):
    """Checks every promise; returns the tally."""
    tally = tally or Tally("chaos")
    check_answers(evidence, tally)
    check_ends(evidence, tally)
    check_collected(evidence, tally)
    check_words(evidence, tally)
    check_times(evidence, tally)
    check_outside(evidence, tally, check_postings(evidence, tally))
    check_groups(evidence, tally, ASKED)
    check_archive(evidence, tally)
    sent = offered(evidence)
    tally.figure("offered", len(sent))
    tally.figure("offered, never accepted", len(sent - set(told_jobs(evidence))))
    return tally


def main():
    """Checks a folder that a campaign left."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tally = check(read_back(sys.argv[1]))
    tally.print_table()
    sys.exit(tally.print_sum())


if __name__ == "__main__":
    main()
