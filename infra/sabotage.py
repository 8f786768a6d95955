"""Tries a checker: spoils a finished campaign's evidence in one place at a time, and looks whether the checker sees it."""

from dataclasses import replace

from evidence import Posting


def first(rows, fits):
    """Returns the position of the first row that fits."""
    return next(at for at, row in enumerate(rows) if fits(row))


def without(rows, fits=lambda row: True):
    """Returns all rows but the first that fits."""
    at = first(rows, fits)
    return rows[:at] + rows[at + 1 :]


def changed(rows, change, fits=lambda row: True):
    """Returns all rows, the first that fits changed."""
    at = first(rows, fits)
    return rows[:at] + [change(rows[at])] + rows[at + 1 :]


def is_usage(posting):
    return posting.entry["kind"] == "usage"


def is_valid(posting):
    return posting.entry.get("verdict") == "valid"


def is_collected(line):
    return line["phase"] == "collected"


def is_plain(group):
    """Whether three nodes were asked and none gave the assignment back."""
    return len(group.assignments) == 3 and all(one[3] != "neutral" for one in group.assignments)


def with_entry(posting, **fields):
    """Returns a posting with other fields in its entry."""
    return replace(posting, entry={**posting.entry, **fields})


def with_end(one, **fields):
    """Returns a settlement with other fields in its end."""
    return replace(one, end={**one.end, **fields})


def in_assignments(group, column, value):
    """Returns a group with another value in a column of its first assignment."""
    own = list(group.assignments[0])
    own[column] = value
    return replace(group, assignments=(tuple(own), *group.assignments[1:]))


def flipped(objects):
    """Returns the objects with one byte changed in the middle of the first, as a bad disk does it."""
    key = sorted(objects)[0]
    data = bytearray(objects[key])
    data[len(data) // 2] ^= 1
    return {**objects, key: bytes(data)}


def paid_again(postings):
    """Returns the postings and another verdict for a node that was paid."""
    one = postings[first(postings, is_valid)]
    return [*postings, Posting(one.sequence + 1_000_000, "verdict:again", one.job, one.posted_ms, one.entry)]


def other_verdict(postings):
    """Renames the first verdict: one is then missing, and one was never owed."""
    return changed(postings, lambda one: replace(one, id="verdict:other", job="job_other"), is_valid)


def told_ok(evidence, **fields):
    """Changes the first acceptance in the client's log."""
    return replace(evidence, history=changed(evidence.history, lambda line: {**line, **fields}, lambda line: line["phase"] == "ok"))


def refusal(**fields):
    """Returns a refusal as the client logs it."""
    return {"t": 0, "phase": "fail", "index": 0, "attempt": 0, "gateway": 0, **fields}


# The promise that must be seen broken, and the change that breaks it. A campaign's own promises have a table of their own.
SABOTAGES = [
    ("accepted and never ended", lambda e: replace(e, settlements=without(e.settlements))),
    ("ended twice", lambda e: replace(e, settlements=e.settlements + e.settlements[:1])),
    ("in the ledger and never ended", lambda e: replace(e, jobs=changed(e.jobs, lambda job: replace(job, state=1)))),
    ("accepted and not in the ledger", lambda e: replace(e, jobs=without(e.jobs))),
    ("ended and never accepted", lambda e: replace(e, jobs=without(e.jobs))),
    ("jobs that were never submitted", lambda e: replace(e, jobs=changed(e.jobs, lambda job: replace(job, seed=-5)))),
    ("one key, two jobs", lambda e: replace(e, jobs=e.jobs + [replace(e.jobs[0], id="job_other")])),
    ("one key, two jobs", lambda e: replace(e, history=[*e.history, {"phase": "ok", "index": 0, "job": "job_other"}])),
    ("two keys, one job", lambda e: replace(e, history=[*e.history, {"phase": "ok", "index": -1, "job": e.jobs[0].id}])),
    ("accepted and never ended", lambda e: told_ok(e, job="job_other")),
    ("429 or 503 without Retry-After", lambda e: replace(e, history=[*e.history, refusal(status=503, retry_after=None)])),
    ("answers other than 200, 429, 503", lambda e: replace(e, history=[*e.history, refusal(status=500)])),
    ("a gateway told another end than the ledger's", lambda e: replace(e, history=[*e.history, {"phase": "end", "job": e.jobs[0].id, "end": "cancelled"}])),
    ("results left an end out", lambda e: replace(e, history=without(e.history, is_collected))),
    ("results gave an end twice", lambda e: replace(e, history=[*e.history, e.history[first(e.history, is_collected)]])),
    ("results gave another end than the ledger's", lambda e: replace(e, history=changed(e.history, lambda line: {**line, "end": "other"}, is_collected))),
    ("posted twice", lambda e: replace(e, postings=e.postings + e.postings[:1])),
    ("usage owed and not posted, or wrong", lambda e: replace(e, postings=without(e.postings, is_usage))),
    ("usage owed and not posted, or wrong", lambda e: replace(e, postings=changed(e.postings, lambda one: with_entry(one, completion_tokens=9_999), is_usage))),
    ("verdict owed and not posted", lambda e: replace(e, postings=without(e.postings, is_valid))),
    ("posted and not owed", lambda e: replace(e, postings=other_verdict(e.postings))),
    ("a node paid twice for a job", lambda e: replace(e, postings=paid_again(e.postings))),
    ("honest work judged invalid", lambda e: replace(e, postings=changed(e.postings, lambda one: with_entry(one, verdict="invalid"), is_valid))),
    ("paid, and not valid", lambda e: replace(e, postings=changed(e.postings, lambda one: with_entry(one, verdict="missed"), is_valid))),
    ("valid work that earned nothing", lambda e: replace(e, postings=changed(e.postings, lambda one: with_entry(one, millipoints=0), is_valid))),
    ("balances that don't follow from the postings", lambda e: replace(e, balances=changed(e.balances, lambda row: (row[0], row[1] + 1, *row[2:])))),
    ("balances that don't follow from the postings", lambda e: replace(e, postings=e.postings + e.postings[:1])),
    ("groups never closed", lambda e: replace(e, groups=changed(e.groups, lambda group: replace(group, is_closed=False)))),
    ("a node twice in a group", lambda e: replace(e, groups=changed(e.groups, lambda g: in_assignments(g, 1, g.assignments[1][1]), is_plain))),
    ("an owner twice in a group", lambda e: replace(e, groups=changed(e.groups, lambda g: in_assignments(g, 2, g.assignments[1][2]), is_plain))),
    ("settled with fewer than two owners", lambda e: replace(e, groups=changed(e.groups, lambda g: replace(g, assignments=g.assignments[:1]), is_plain))),
    ("a job with two groups", lambda e: replace(e, groups=e.groups + e.groups[:1])),
    ("an answer without a group", lambda e: replace(e, groups=without(e.groups, is_plain))),
    ("disputes among honest nodes", lambda e: replace(e, disputes=[("job_other", "open", "conflicts")])),
    ("archive record missing", lambda e: replace(e, records=without(e.records))),
    ("archive record missing", lambda e: replace(e, objects={})),
    ("archive record missing", lambda e: replace(e, segments=without(e.segments))),
    ("archive record different", lambda e: replace(e, records=changed(e.records, lambda place: replace(place, sha256="0" * 64)))),
    ("archive record different", lambda e: replace(e, settlements=changed(e.settlements, lambda one: with_end(one, status="cancelled")))),
    ("a job archived twice", lambda e: replace(e, records=e.records + e.records[:1])),
    ("objects that the ledger doesn't know", lambda e: replace(e, objects={**e.objects, "jobs/other.ndjson.zst": b""})),
]

# A changed byte makes a record unreadable or different: which of the two depends on where it lies.
DAMAGED = ("archive record missing", "archive record different")


def missed(evidence, check, own):
    """Returns the changes that a checker does not see, by the promises that they break.

    `check(evidence)` returns a tally; `own` are changes beside `SABOTAGES`.
    """
    before = check(evidence).breaches

    def is_seen(spoilt, promises):
        after = check(spoilt).breaches
        return any(after.get(promise, 0) > before.get(promise, 0) for promise in promises)

    found = [promise for promise, change in [*SABOTAGES, *own] if not is_seen(change(evidence), [promise])]
    if not is_seen(replace(evidence, objects=flipped(evidence.objects)), DAMAGED):
        found.append("a changed byte")
    return found
