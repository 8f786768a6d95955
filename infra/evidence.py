"""What a campaign leaves, as the checkers read it: the client's log, the faults, the ledger's rows, the archive's objects.

`chaos.evidence` takes it from PostgreSQL and S3, `kill.evidence` from SQLite and a folder.
"""

import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

import packed


def job_text(digits):
    """Returns a job's id as clients see it, from its hexadecimal digits in the ledger."""
    return f"job_{digits}"


@dataclass(frozen=True)
class Job:
    """One accepted job."""

    id: str
    state: int  # 0 queued, 1 running, 2 ended
    accepted_ms: int
    deadline_ms: int
    lost_handouts: int  # how often the verifier that held it died
    seed: int  # the number of the client's request

    @property
    def has_ended(self):
        """Whether the job's own row says that it has ended."""
        return self.state == 2


@dataclass(frozen=True)
class Ended:
    """One settlement."""

    job: str
    settled_ms: int
    end: dict

    @property
    def word(self):
        """The job's last status; for a failed job the reason."""
        return self.end["reason"] if self.end["status"] == "failed" else self.end["status"]


@dataclass(frozen=True)
class Group:
    """The assignments of one job."""

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
    """Where the ledger says that a job's archived record lies."""

    job: str
    segment: str
    offset: int
    length: int
    line: int  # within the frame; negative if the record was not written yet
    sha256: str


@dataclass(frozen=True)
class Archived:
    """One record as it was read from the archive; a line that is no record has no job."""

    sha256: str
    job: str = None
    end: dict = None
    entries: dict = field(default_factory=dict)  # of its postings, by id


@dataclass(frozen=True)
class Evidence:
    """All of it. Rows are lists and not tables by key, so that a row that exists twice is seen."""

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

    @functools.cached_property
    def keys(self):
        """The objects' keys by segment, as the ledger has them."""
        return dict(self.segments)

    def archived(self, place):
        """Returns the record at a place in the archive; None if nothing can be read there."""
        data = self.objects.get(self.keys.get(place.segment), b"")
        records = frame_records(data[place.offset : place.offset + place.length]) if place.line >= 0 else []
        return records[place.line] if place.line < len(records) else None


# Kept, because the records of one frame are asked for one after the other, and again for each trial of a checker.
@functools.cache
def frame_records(frame):
    """Returns the records of a zstandard frame, none if it is damaged."""
    try:
        text = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    except zstandard.ZstdError:
        return []
    return [archived_record(line) for line in text.split(b"\n")[:-1]]


def archived_record(line):
    """Reads one line of a segment."""
    digest = hashlib.sha256(line).hexdigest()
    try:
        record = json.loads(line)
        entries = {one["id"]: one["entry"] for one in record["postings"]}
        return Archived(digest, record["job_id"], record["settlement"]["end"], entries)
    except (ValueError, KeyError):
        return Archived(digest)


def group(digits, is_closed, record):
    """Makes a group from a row of the ledger. The replicas' numbers, which are most of the row, are left out."""
    # It is empty if the job's verifier died before it wrote the group.
    found = json.loads(packed.group_text(record))["assignments"] if record else []
    return Group(job_text(digits), is_closed, tuple((one["id"], one["node"], one["owner"], one["state"]) for one in found))


def lines(path):
    """Reads a file that has a JSON object on each line. A last line that was cut off is left out."""
    found = Path(path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in found if line.endswith("}")]
