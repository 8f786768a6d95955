"""Every promise, checked from the client's own log, the ledger's file and the archive's objects, none of it through
Infera's code; and the checker's own trial on spoilt copies."""

import hashlib
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path

import zstandard


def rows(connection, statement):
    """A table's rows as a list."""
    return connection.execute(statement).fetchall()


def job_text(raw):
    """A job's id as clients see it, from the bytes in the ledger."""
    return "job_" + bytes(raw).hex()


class Checker:
    """Holds the client's log, the ledger and the archive against each other. Counts breaches by promise."""

    def __init__(self, data, client, is_quiet=False):
        self.data, self.client, self.is_quiet = data, client, is_quiet
        self.breaches = {}
        self.ledger = sqlite3.connect(f"file:{data}/ledger.sqlite?mode=ro", uri=True)
        self.settlements = {
            job_text(job): json.loads(text) for job, text in rows(self.ledger, "SELECT job_id, settlement FROM settlements")
        }
        self.groups = {
            job_text(job): (closed, json.loads(record))
            for job, closed, record in rows(self.ledger, "SELECT job_id, is_closed, record FROM groups")
        }
        self.postings = [
            (name, job_text(job), json.loads(entry))
            for name, job, entry in rows(self.ledger, "SELECT id, job_id, entry FROM postings")
        ]

    def count(self, promise, broken, example=None):
        """Adds breaches of one promise and shows the first."""
        self.breaches[promise] = self.breaches.get(promise, 0) + int(broken)
        if broken and not self.is_quiet and example is not None and self.breaches[promise] == int(broken):
            print(f"  first breach of '{promise}': {example}")

    def ends(self):
        """Accepted means ended, once, with an answer; and nothing ended that was never asked for."""
        accepted = self.client.accepted.values()
        for odd in self.client.odd:
            self.count("submit answered oddly", 1, odd)
        for job in accepted:
            self.count("accepted and never ended", job not in self.settlements, job)
        in_ledger = {job_text(job) for (job,) in rows(self.ledger, "SELECT id FROM jobs")}
        self.count("jobs that nobody submitted", len(in_ledger - set(accepted)))
        self.count("one key, two jobs", len(self.client.accepted) - len(set(accepted)))
        for job, settlement in self.settlements.items():
            end = settlement["end"]
            word = end["status"] if end["status"] != "failed" else end["reason"]
            self.count("ended otherwise than succeeded", word != "succeeded", (job, word))

    def postings_complete(self):
        """Each job's usage once and right; one verdict for each assignment of each group; balances are their sums."""
        names = [name for name, _, _ in self.postings]
        self.count("posted twice", len(names) - len(set(names)))
        posted = {name: entry for name, _, entry in self.postings}
        owed = set()
        for job, settlement in self.settlements.items():
            if settlement["end"]["status"] != "succeeded":
                continue
            answer = settlement["end"]["answer"]
            owed.add(f"usage:{job}")
            entry = posted.get(f"usage:{job}")
            right = entry and (entry["prompt_tokens"], entry["completion_tokens"]) == (answer["prompt_tokens"], len(answer["tokens"]))
            self.count("usage owed and not posted, or wrong", not right, job)
        # One VALID for each node of a job: who has it from another assignment of that job is judged.
        valid = {(job, entry["node"]) for _, job, entry in self.postings if entry.get("verdict") == "valid"}
        for job, (closed, record) in self.groups.items():
            self.count("groups never closed", not closed, job)
            for assignment in record["assignments"]:
                name = f"verdict:{assignment['id']}"
                owed.add(name)
                is_missing = name not in posted and (job, assignment["node"]) not in valid
                self.count("verdict owed and not posted", is_missing, (job, assignment["state"]))
        self.count("posted and not owed", len(set(posted) - owed), next(iter(set(posted) - owed), None))
        paid = [entry for entry in posted.values() if entry["kind"] == "verdict" and entry["verdict"] == "valid"]
        self.count("valid work that earned nothing", sum(entry["millipoints"] <= 0 for entry in paid))
        self.balances()

    def balances(self):
        """Balances, folded anew from the postings."""
        expected = {}
        for _, _, entry in self.postings:
            subject = entry.get("account") or entry.get("node")
            total = expected.setdefault(subject, [0, 0])
            total[0] += entry.get("millipoints", 0)
            total[1] += 1
        found = {s: [points, count] for s, points, count in rows(self.ledger, "SELECT subject, millipoints, postings FROM balances")}
        self.count("balances that don't follow from the postings", expected != found, (len(expected), len(found)))

    def groups_sound(self):
        """Three nodes of three owners; at least a quorum of owners answered; nobody honest was called a liar."""
        for job, (_, record) in self.groups.items():
            asked = [a for a in record["assignments"] if a["state"] != "neutral"]
            self.count("a node twice in a group", len({a["node"] for a in asked}) != len(asked), job)
            self.count("an owner twice in a group", len({a["owner"] for a in asked}) != len(asked), job)
            answered = {a["owner"] for a in asked if a["state"] == "answered"}
            self.count("settled with fewer than two owners", len(answered) < 2, job)
        invalid = [e for _, _, e in self.postings if e.get("verdict") == "invalid"]
        self.count("honest work judged invalid", len(invalid))
        self.count("disputes among honest nodes", len(rows(self.ledger, "SELECT job_id FROM disputes")))

    def archive(self):
        """One record per settled job, at the place and with the hash that the ledger names, saying what it says."""
        segments = dict(rows(self.ledger, "SELECT id, object_key FROM segments WHERE object_key IS NOT NULL"))
        folder = self.data / "archive"
        objects = {str(path.relative_to(folder)) for path in folder.rglob("*.zst")}
        self.count("objects that the ledger doesn't know", len(objects - set(segments.values())))
        seen = set()
        places = rows(self.ledger, "SELECT job_id, segment, frame_offset, frame_length, line, hash FROM records")
        for raw, segment, offset, length, line, digest in places:
            job = job_text(raw)
            if segment not in segments or digest is None:
                self.count("archive record missing", 1, job)
                continue
            data = (folder / segments[segment]).read_bytes()[offset : offset + length]
            try:
                text = zstandard.ZstdDecompressor().decompressobj().decompress(data).split(b"\n")[line]
            except (zstandard.ZstdError, IndexError):
                text = b"{}"
            record = json.loads(text)
            same = hashlib.sha256(text).digest() == bytes(digest) and record.get("job_id") == job
            ends_same = same and record["settlement"]["end"] == self.settlements.get(job, {}).get("end")
            self.count("archive record different", not ends_same, job)
            seen.add(job)
        self.count("archive record missing", len(set(self.settlements) - seen))

    def tokens(self):
        """The tokens of each request's answer, by the request's number."""
        ends = {index: self.settlements.get(job, {}).get("end", {}) for index, job in self.client.accepted.items()}
        return {index: end.get("answer", {}).get("tokens") for index, end in ends.items()}

    def all(self):
        """Every check; returns the answers' tokens."""
        self.ends()
        self.postings_complete()
        self.groups_sound()
        self.archive()
        return self.tokens()


# What the checker must notice: a change to a finished run's ledger, and the promise that it breaks.
SABOTAGES = [
    ("accepted and never ended", "DELETE FROM settlements WHERE rowid = 1"),
    ("jobs that nobody submitted", "UPDATE jobs SET id = randomblob(16) WHERE rowid = 1"),
    ("ended otherwise than succeeded", "UPDATE settlements SET settlement = json_set(settlement, '$.end.status', 'expired') WHERE rowid = 1"),
    ("usage owed and not posted, or wrong", "DELETE FROM postings WHERE sequence = (SELECT min(sequence) FROM postings WHERE id LIKE 'usage:%')"),
    ("verdict owed and not posted", "DELETE FROM postings WHERE sequence = (SELECT min(sequence) FROM postings WHERE id LIKE 'verdict:%')"),
    ("posted and not owed", "UPDATE postings SET id = 'verdict:other' WHERE sequence = (SELECT min(sequence) FROM postings WHERE id LIKE 'verdict:%')"),
    ("balances that don't follow from the postings", "UPDATE balances SET millipoints = millipoints + 1 WHERE rowid = 1"),
    ("groups never closed", "UPDATE groups SET is_closed = 0 WHERE rowid = 1"),
    ("an owner twice in a group", "UPDATE groups SET record = json_set(CAST(record AS TEXT), '$.assignments[0].owner', json_extract(CAST(record AS TEXT), '$.assignments[1].owner')) WHERE rowid = 1"),
    ("archive record missing", "DELETE FROM records WHERE rowid = 1"),
    ("archive record different", "UPDATE records SET hash = randomblob(32) WHERE rowid = 1"),
    ("archive record different", "UPDATE settlements SET settlement = json_set(settlement, '$.end.answer.tokens[0]', 0) WHERE rowid = 1"),
]


def sabotaged(data, client):
    """Tries the checker on copies of a finished run with one change each; returns the changes that it missed."""
    missed = []
    for promise, change in SABOTAGES:
        with tempfile.TemporaryDirectory(prefix="infera-sabotage-") as folder:
            copy = Path(folder) / "data"
            shutil.copytree(data, copy)
            connection = sqlite3.connect(copy / "ledger.sqlite")
            with connection:
                changed = connection.execute(change).rowcount
            connection.close()
            checker = Checker(copy, client, is_quiet=True)
            checker.all()
            checker.ledger.close()
            if changed != 1 or not checker.breaches.get(promise):
                missed.append((promise, change))
    return missed
