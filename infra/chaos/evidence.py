"""Takes a campaign's evidence from the real servers into its folder (`collect`) and reads it back (`read_back`)."""

import csv
import json
import sys
from pathlib import Path

import packed
from evidence import Ended, Evidence, Job, Place, Posting, group, job_text, lines

# The ledger's tables as text: bytes as hexadecimal digits, JSON as it is stored. Postings have an id and an entry, or the same packed.
QUERIES = {
    "jobs": """SELECT encode(id, 'hex'), state, accepted_ms, deadline_ms, lost_handouts,
        convert_from(request, 'UTF8')::json ->> 'seed' FROM jobs""",
    "settlements": "SELECT encode(job_id, 'hex'), settled_ms, settlement FROM settlements",
    "groups": "SELECT encode(job_id, 'hex'), is_closed, encode(record, 'hex') FROM groups",
    "postings": """SELECT sequence, id, encode(job_id, 'hex'), posted_ms, entry, encode(key, 'hex'), encode(line, 'hex'), valid_node
        FROM postings""",
    "balances": "SELECT subject, millipoints, prompt_tokens, completion_tokens, postings FROM balances",
    "disputes": "SELECT encode(job_id, 'hex'), status, detail FROM disputes",
    "segments": "SELECT encode(id, 'hex'), object_key FROM segments",
    "records": """SELECT encode(job_id, 'hex'), encode(segment, 'hex'), frame_offset, frame_length, line,
        encode(hash, 'hex') FROM records""",
}

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


def collect(folder, copy_table, bucket):
    """Copies the ledger and the archive into the folder: `copy_table(query, path)` writes a query's rows as CSV."""
    folder = Path(folder)
    for name, query in QUERIES.items():
        copy_table(query, folder / f"{name}.csv")
    for key in bucket.keys():
        path = folder / "objects" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.read(key))


def read_back(folder):
    """Reads a folder that `collect` filled."""
    folder = Path(folder)
    objects = folder / "objects"
    paths = [path for path in objects.rglob("*") if path.is_file()]
    return Evidence(
        history=lines(folder / "history.jsonl"),
        faults=lines(folder / "faults.jsonl"),
        jobs=[Job(job_text(row[0]), *map(number, row[1:])) for row in rows(folder, "jobs")],
        settlements=[Ended(job_text(row[0]), int(row[1]), json.loads(row[2])["end"]) for row in rows(folder, "settlements")],
        groups=[group(digits, is_closed == "1", bytes.fromhex(record)) for digits, is_closed, record in rows(folder, "groups")],
        postings=[posting(row) for row in rows(folder, "postings")],
        balances=[(row[0], *map(int, row[1:])) for row in rows(folder, "balances")],
        disputes=[(job_text(row[0]), *row[1:]) for row in rows(folder, "disputes")],
        segments=[tuple(row) for row in rows(folder, "segments")],
        records=[Place(job_text(row[0]), row[1], *map(number, row[2:5]), row[5]) for row in rows(folder, "records")],
        objects={str(path.relative_to(objects)): path.read_bytes() for path in paths},
    )


def posting(row):
    """Makes a posting of a row: packed if it has a key."""
    sequence, name, job, moment, entry, key, line, valid_node = row
    if key:
        name, entry = packed.posting_id(bytes.fromhex(key)), bytes.fromhex(line)
    return Posting(int(sequence), name, job_text(job), int(moment), packed.entry(entry, valid_node))


def rows(folder, name):
    """Yields a table's rows one at a time, because groups are large."""
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
        yield from csv.reader(file)


def number(text):
    """Reads a number; an absent one is -1."""
    return int(text) if text else -1
