"""Reads the evidence that `infera up` left: the ledger's SQLite file and the archive's folder, none of it by Infera's code."""

import sqlite3
from pathlib import Path

import packed
from evidence import Ended, Evidence, Job, Place, Posting, group, job_text

# The ledger's tables: ids as hexadecimal digits; settlements, groups and postings as they are stored, packed or JSON.
QUERIES = {
    "jobs": """SELECT lower(hex(id)), state, accepted_ms, deadline_ms, lost_handouts,
        json_extract(CAST(request AS TEXT), '$.seed') FROM jobs""",
    "settlements": "SELECT lower(hex(job_id)), settled_ms, settlement FROM settlements",
    "groups": "SELECT lower(hex(job_id)), is_closed, record FROM groups",
    "postings": "SELECT sequence, id, lower(hex(job_id)), posted_ms, entry, valid_node FROM postings",
    "balances": "SELECT subject, millipoints, prompt_tokens, completion_tokens, postings FROM balances",
    "disputes": "SELECT lower(hex(job_id)), status, detail FROM disputes",
    "segments": "SELECT lower(hex(id)), object_key FROM segments",
    "records": """SELECT lower(hex(job_id)), lower(hex(segment)), frame_offset, frame_length, line,
        lower(hex(hash)) FROM records""",
}


def connect(data):
    """Opens the ledger's file for reading only."""
    return sqlite3.connect(f"file:{data}/ledger.sqlite?mode=ro", uri=True, timeout=5)


def read(data, history):
    """Reads a data folder; `history` is the client's log."""
    ledger = connect(data)
    try:
        rows = {name: ledger.execute(query).fetchall() for name, query in QUERIES.items()}
    finally:
        ledger.close()
    archive = Path(data) / "archive"
    return Evidence(
        history=history,
        faults=[],
        jobs=[Job(job_text(digits), *map(number, others)) for digits, *others in rows["jobs"]],
        settlements=[Ended(job_text(digits), moment, packed.end(row)) for digits, moment, row in rows["settlements"]],
        groups=[group(digits, is_closed == 1, record) for digits, is_closed, record in rows["groups"]],
        postings=[
            Posting(number, packed.posting_id(name), job_text(job), moment, packed.entry(entry, node))
            for number, name, job, moment, entry, node in rows["postings"]
        ],
        balances=rows["balances"],
        disputes=[(job_text(digits), *others) for digits, *others in rows["disputes"]],
        segments=rows["segments"],
        records=[Place(job_text(row[0]), row[1], *map(number, row[2:5]), row[5]) for row in rows["records"]],
        objects={str(path.relative_to(archive)): path.read_bytes() for path in archive.rglob("*.zst")},
    )


def number(value):
    """Reads a number; an absent one is -1."""
    return -1 if value is None else value
