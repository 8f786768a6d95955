"""What a campaign leaves in its folder: the client's log, the faults, the ledger's tables, the archive's objects. Taken
from the real servers by `collect`, read back by `Evidence.load`; the checker looks at nothing else.
"""

import csv
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

# The ledger's tables as text: bytes as hexadecimal digits, JSON as it stands.
QUERIES = {
    "jobs": """SELECT encode(id, 'hex'), state, accepted_ms, deadline_ms, lost_handouts,
        convert_from(request, 'UTF8')::json ->> 'seed' FROM jobs""",
    "settlements": "SELECT encode(job_id, 'hex'), settled_ms, settlement FROM settlements",
    "groups": "SELECT encode(job_id, 'hex'), is_closed, convert_from(record, 'UTF8') FROM groups",
    "postings": "SELECT sequence, id, encode(job_id, 'hex'), posted_ms, entry FROM postings",
    "balances": "SELECT subject, millipoints, prompt_tokens, completion_tokens, postings FROM balances",
    "disputes": "SELECT encode(job_id, 'hex'), status, detail FROM disputes",
    "segments": "SELECT encode(id, 'hex'), object_key FROM segments",
    "records": """SELECT encode(job_id, 'hex'), encode(segment, 'hex'), frame_offset, frame_length, line,
        encode(hash, 'hex') FROM records""",
}

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


def collect(folder, copy_table, bucket):
    """Takes the ledger and the archive: `copy_table(query, path)` writes a query's rows as CSV."""
    folder = Path(folder)
    for name, query in QUERIES.items():
        copy_table(query, folder / f"{name}.csv")
    for key in bucket.keys():
        path = folder / "objects" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.read(key))


def job_text(digits):
    """A job's id as clients see it, from its digits in the ledger."""
    return f"job_{digits}"


@dataclass(frozen=True)
class Job:
    """One accepted job."""

    id: str
    state: int  # 0 queued, 1 running, 2 ended
    accepted_ms: int
    deadline_ms: int
    lost_handouts: int  # how often its verifier died
    seed: int  # the number of the client's request


@dataclass(frozen=True)
class Ended:
    """One settlement."""

    job: str
    settled_ms: int
    end: dict

    @property
    def word(self):
        """How it ended; the reason where it failed."""
        return self.end["reason"] if self.end["status"] == "failed" else self.end["status"]


@dataclass(frozen=True)
class Group:
    """Who was asked for a job."""

    job: str
    is_closed: bool
    assignments: tuple  # of (id, node, owner, state)


@dataclass(frozen=True)
class Posting:
    """One line of the account book."""

    sequence: int
    id: str
    job: str
    posted_ms: int
    entry: dict


@dataclass(frozen=True)
class Place:
    """Where a job's record lies in the archive, as the ledger says."""

    job: str
    segment: str
    offset: int
    length: int
    line: int
    sha256: str


@dataclass(frozen=True)
class Evidence:
    """All of it. Lists and not tables by key: a row that is there twice must be seen."""

    history: list
    faults: list
    jobs: list
    settlements: list
    groups: list
    postings: list
    balances: list
    disputes: list
    segments: list
    records: list
    objects: dict = field(repr=False)

    @classmethod
    def load(cls, folder):
        """Reads a folder that `collect` filled."""
        folder = Path(folder)
        objects = folder / "objects"
        paths = [path for path in objects.rglob("*") if path.is_file()]
        return cls(
            history=lines(folder / "history.jsonl"),
            faults=lines(folder / "faults.jsonl"),
            jobs=[Job(job_text(row[0]), *map(number, row[1:])) for row in rows(folder, "jobs")],
            settlements=[Ended(job_text(row[0]), int(row[1]), json.loads(row[2])["end"]) for row in rows(folder, "settlements")],
            groups=[group(row) for row in rows(folder, "groups")],
            postings=[Posting(int(s), name, job_text(job), int(t), json.loads(e)) for s, name, job, t, e in rows(folder, "postings")],
            balances=[(row[0], *map(int, row[1:])) for row in rows(folder, "balances")],
            disputes=[(job_text(row[0]), *row[1:]) for row in rows(folder, "disputes")],
            segments=[tuple(row) for row in rows(folder, "segments")],
            records=[Place(job_text(row[0]), row[1], *map(number, row[2:5]), row[5]) for row in rows(folder, "records")],
            objects={str(path.relative_to(objects)): path.read_bytes() for path in paths},
        )


def lines(path):
    """A file with a JSON object on each line; a last line that was cut off is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.endswith("}"):
            found.append(json.loads(line))
    return found


def rows(folder, name):
    """A table's rows, one at a time: groups are large."""
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
        yield from csv.reader(file)


def number(text):
    """A count; one that isn't there is -1."""
    return int(text) if text else -1


def group(row):
    """A group without its replicas' numbers, which are most of it. One that never came is empty."""
    digits, is_closed, record = row
    found = json.loads(record)["assignments"] if record else []
    asked = tuple((one["id"], one["node"], one["owner"], one["state"]) for one in found)
    return Group(job_text(digits), is_closed == "1", asked)
