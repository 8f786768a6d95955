"""Queries the ledger's database with psql, past the proxy: whether jobs end, what is left to do, and all tables at the end."""

import csv
import os
import subprocess

from service.place import NAME, POSTGRES_PORT, USER, password
from service.postgres import postgres_bin

PATIENCE_S = 20
COLLECT_S = 600

# Work that must be done at the end: live jobs, open groups, ends that aren't archived, postings that aren't in the balances.
LEFT = """SELECT (SELECT count(*) FROM jobs WHERE state < 2),
    (SELECT count(*) FROM groups WHERE is_closed = 0),
    (SELECT count(*) FROM settlements) - (SELECT count(*) FROM records WHERE hash IS NOT NULL),
    coalesce((SELECT max(sequence) FROM postings), 0) - coalesce((SELECT max(sequence) FROM projected), 0)"""
LEFT_NAMES = ("jobs", "groups", "records", "postings")

# What is written down at a standstill.
QUESTIONS = {
    "jobs by state": "SELECT state, owner, is_handed_out, unconfirmed_ms IS NULL AS confirmed, count(*) FROM jobs GROUP BY 1, 2, 3, 4",
    "jobs that wait longest": """SELECT encode(id, 'hex'), state, owner, handouts, lost_handouts, accepted_ms, deadline_ms, unconfirmed_ms
        FROM jobs WHERE state < 2 ORDER BY accepted_ms LIMIT 5""",
    "leases": "SELECT name, holder, until_ms FROM leases",
    "groups by state": "SELECT verifier, is_closed, length(record) > 0 AS known, count(*) FROM groups GROUP BY 1, 2, 3",
    "settlements": "SELECT count(*), max(settled_ms) FROM settlements",
    "unfinished segments": "SELECT encode(id, 'hex'), claimed_ms FROM segments WHERE object_key IS NULL",
    "database sessions and what they wait for": """SELECT pid, state, wait_event_type, wait_event, left(query, 120)
        FROM pg_stat_activity WHERE datname IS NOT NULL""",
    "now": "SELECT (extract(epoch FROM now()) * 1000)::bigint",
}


def client(*arguments, stdout=subprocess.PIPE, patience_s=PATIENCE_S):
    """Runs psql on the server's own port."""
    where = ["-h", "127.0.0.1", "-p", str(POSTGRES_PORT), "-U", USER, "-d", NAME, "-X", "-q"]
    environment = {**os.environ, "PGPASSWORD": password(), "PGCONNECT_TIMEOUT": "3"}
    command = [str(postgres_bin() / "psql"), *where, *arguments]
    return subprocess.run(command, env=environment, stdout=stdout, stderr=subprocess.PIPE, timeout=patience_s, check=True)


def rows(query):
    """Returns a query's rows as text; None while the database doesn't answer."""
    try:
        done = client("--csv", "-t", "-c", query)
    except (subprocess.SubprocessError, OSError):
        return None
    return list(csv.reader(done.stdout.decode().splitlines()))


def copy_table(query, path):
    """Writes a query's rows to a file as CSV."""
    with open(path, "wb") as file:
        client("-c", f"COPY ({query}) TO STDOUT WITH (FORMAT csv)", stdout=file, patience_s=COLLECT_S)


def has_moved_since(moment_ms):
    """Whether a job that was accepted after this moment has ended."""
    query = f"SELECT count(*) FROM jobs JOIN settlements ON job_id = id WHERE accepted_ms > {int(moment_ms)}"
    found = rows(query)
    return bool(found) and int(found[0][0]) > 0


def left():
    """Counts what is still to be done, by kind; None while the database doesn't answer."""
    found = rows(LEFT)
    return dict(zip(LEFT_NAMES, map(int, found[0]))) if found else None


def ended():
    """Counts the ends; 0 while the database doesn't answer."""
    found = rows("SELECT count(*) FROM settlements")
    return int(found[0][0]) if found else 0


def account_of(moment):
    """Returns the answers to `QUESTIONS` as text."""
    parts = [f"# {moment}"]
    for title, query in QUESTIONS.items():
        found = rows(query)
        parts.append(f"## {title}\n" + ("(no answer)" if found is None else "\n".join("  ".join(row) for row in found)))
    return "\n".join(parts) + "\n"
