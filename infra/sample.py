"""Evidence made by hand, in which every promise is kept. Tests spoil it."""

import hashlib
import json

import zstandard

from evidence import Ended, Evidence, Group, Job, Place, Posting

BEGAN_MS = 1_700_000_000_000
JOBS = 4


def job_id(number):
    """Returns the id of the job with this number."""
    return f"job_{number:032x}"


def postings_of(number, first_sequence):
    """Returns a job's postings: one usage and three verdicts."""
    job, time_ms = job_id(number), BEGAN_MS + number
    usage = {"kind": "usage", "account": "acct1", "prompt_tokens": 9, "completion_tokens": 2}
    found = [Posting(first_sequence, f"usage:{job}", job, time_ms, usage)]
    for node in range(3):
        entry = {"kind": "verdict", "node": f"n{node}", "verdict": "valid", "millipoints": 5, "tokens": 2}
        found.append(Posting(first_sequence + 1 + node, f"verdict:asg_{number}_{node}", job, time_ms, entry))
    return found


def segment(settlements, postings):
    """Returns a frame with all records, and their places."""
    lines = []
    for one in settlements:
        entries = [{"id": p.id, "entry": p.entry} for p in postings if p.job == one.job]
        lines.append(json.dumps({"job_id": one.job, "settlement": {"end": one.end}, "postings": entries}).encode())
    frame = zstandard.ZstdCompressor().compress(b"".join(line + b"\n" for line in lines))
    places = [
        Place(one.job, "s1", 0, len(frame), at, hashlib.sha256(line).hexdigest()) for at, (one, line) in enumerate(zip(settlements, lines))
    ]
    return frame, places


def sound_evidence():
    """Returns the evidence of four jobs that went well through one fault."""
    answer = {"tokens": [7, 8], "prompt_tokens": 9, "text": "a"}
    end = {"status": "succeeded", "answer": answer, "verification": {}}
    settlements = [Ended(job_id(n), BEGAN_MS + 500, end) for n in range(JOBS)]
    postings = [one for n in range(JOBS) for one in postings_of(n, 1 + 4 * n)]
    frame, places = segment(settlements, postings)
    asked = [tuple((f"asg_{n}_{node}", f"n{node}", f"o{node}", "answered") for node in range(3)) for n in range(JOBS)]
    history = [{"phase": "invoke", "index": n} for n in range(JOBS)]
    history += [{"phase": "ok", "index": n, "job": job_id(n)} for n in range(JOBS)]
    history += [{"phase": "fail", "index": 0, "status": 503, "retry_after": "1"}]
    history += [{"phase": "end", "index": n, "job": job_id(n), "end": "succeeded"} for n in range(JOBS)]
    history += [{"phase": "collected", "job": job_id(n), "end": "succeeded"} for n in range(JOBS)]
    return Evidence(
        history=history,
        faults=[{"began_ms": BEGAN_MS, "healed_ms": BEGAN_MS + 5_000}],
        jobs=[Job(job_id(n), 2, BEGAN_MS, BEGAN_MS + 180_000, 0, n) for n in range(JOBS)],
        settlements=settlements,
        groups=[Group(job_id(n), True, asked[n]) for n in range(JOBS)],
        postings=postings,
        balances=[("acct1", 0, 9 * JOBS, 2 * JOBS, JOBS)] + [(f"n{node}", 5 * JOBS, 0, 2 * JOBS, JOBS) for node in range(3)],
        disputes=[],
        segments=[("s1", "jobs/1.ndjson.zst")],
        records=places,
        objects={"jobs/1.ndjson.zst": frame},
    )
