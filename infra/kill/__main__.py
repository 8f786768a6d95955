#!/usr/bin/env python3
"""Submits jobs to `infera up`, kills it with -9 at random moments, and checks what is left.

    infra/kill.sh --binary target/release/infera --jobs 2000 --kills 10

There are two runs of the same requests, each with a user seed: one undisturbed, one killed. Every promise is checked from the
client's log, the ledger's file and the archive's objects, none of it through Infera's code. The seed of the kill schedule is
printed; the same seed gives the same schedule. Exits with 1 if a promise is broken.
"""

import argparse
import os
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from client import Account, History, Load, api_key, read_ends
from collector import Collector
from evidence import lines
from promises import Tally
from service.place import ROOT

from . import checker, evidence
from .network import Network

DRAIN_MAX_S = 600
STUCK_MAX_S = 120
# Everything has ended by then; only pages remain.
COLLECT_MAX_S = 60
# A kill waits for this many accepted jobs that have not ended.
OPEN_MIN = 8
# Requests under way at once.
AT_ONCE = 16

# Two slots a node keep a queue, so that kills find jobs in every state; limits on clients are not what is tried; archiving at
# once lets the run end sooner; groups stay until they are checked. None of it changes what is checked.
SETTINGS = [
    "worker.slots=2",
    "gateway.requests_per_minute=0",
    "gateway.tokens_per_minute=0",
    "gateway.looks_per_minute=0",
    "gateway.waiting_max=1000000",
    "verifier.archive_ms=500",
    "verifier.archive_wait_ms=500",
    "verifier.archive_retry_ms=2000",
    "verifier.group_retention_ms=86400000",
]

# Groups that are open, ended jobs that are not archived, postings that are not in the balances.
LEFT_OVER = """SELECT (SELECT count(*) FROM groups WHERE is_closed = 0)
    + (SELECT count(*) FROM settlements) - (SELECT count(*) FROM records WHERE hash IS NOT NULL)
    + (SELECT max(sequence) FROM postings) - (SELECT max(sequence) FROM projected)"""


def ended(network):
    """Counts the jobs that have ended, from the ledger's file; 0 while it can't be read."""
    try:
        with closing(evidence.connect(network.data)) as ledger:
            return ledger.execute("SELECT count(*) FROM settlements").fetchone()[0]
    except sqlite3.Error:
        return 0


def campaign(network, load, jobs, moments):
    """Submits everything and kills at these moments, which are shares of the work done so that they fall within it on fast
    and slow machines; returns when all jobs have ended, or when none does any more."""
    began = time.monotonic()
    load.start_closed(jobs, AT_ONCE)
    in_flight = []
    for moment, delay_s in moments:
        while ended(network) < moment * jobs and time.monotonic() - began < DRAIN_MAX_S:
            time.sleep(0.01)
        time.sleep(delay_s)
        # A kill that finds nothing open tries nothing, so it waits for work unless all has been submitted.
        while load.accepted - ended(network) < OPEN_MIN and load.offered < jobs:
            time.sleep(0.001)
        network.kill()
        in_flight.append(load.accepted - ended(network))
        network.start()
    if moments:
        print(f"kill: accepted and not ended at each kill: {in_flight}", flush=True)
    load.wait(DRAIN_MAX_S)
    last, since = -1, time.monotonic()
    while (count := ended(network)) < jobs:
        if count != last:
            last, since = count, time.monotonic()
        if time.monotonic() - since > STUCK_MAX_S:
            print(f"kill: stuck: {count} of {jobs} jobs have ended, and none more for {STUCK_MAX_S} s", flush=True)
            break
        time.sleep(0.1)


def drained(network, jobs):
    """Waits until every ended job is scored, summed and archived; False if that takes too long."""
    deadline = time.monotonic() + DRAIN_MAX_S
    while time.monotonic() < deadline:
        with closing(evidence.connect(network.data)) as ledger:
            left = ledger.execute(LEFT_OVER).fetchone()[0]
        if left == 0 and ended(network) >= jobs:
            return True
        time.sleep(0.2)
    return False


def run(options, name, moments, tally):
    """One run on a folder of its own, and the checks; returns the tokens of each answer."""
    arguments = [word for setting in [*SETTINGS, *options.set] for word in ("--set", setting)]
    with tempfile.TemporaryDirectory(prefix="infera-kill-") as folder:
        network = Network(options.binary, folder, arguments)
        history = History(Path(folder) / "history.jsonl")
        try:
            network.start()
            load = Load(Account([network.url], api_key(network.key())), history, name)
            collector = Collector(load.account, history)
            collector.start()
            began = time.monotonic()
            campaign(network, load, options.jobs, moments)
            seconds = time.monotonic() - began
            tally.count("work left over after the drain", not drained(network, options.jobs))
            read_ends(load)
            collector.finish(ended(network), COLLECT_MAX_S)
            history.close()
            told = lines(Path(folder) / "history.jsonl")
            found = evidence.read(network.data, told)
            checker.check(found, tally)
            if not moments:
                network.stop()
                missed = checker.missed(network.data, told)
                tally.each("changes that the checker missed", missed, lambda _: True)
        finally:
            network.stop()
            history.close()
    checked = f"{load.accepted} accepted, {len(found.settlements)} ended, {len(found.postings)} postings"
    print(f"kill: {name}: {checked}, {network.starts} starts, {seconds:.0f} s, results in {collector.pages} pages", flush=True)
    return checker.tokens(found)


def main():
    """Both runs, the table, and the sum."""
    parser = argparse.ArgumentParser(prog="infra/kill.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/infera"))
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--set", action="append", default=[], help="passed on to infera up")
    options = parser.parse_args()
    print(f"kill: {options.jobs} jobs, {options.kills} kills, schedule seed {options.seed}", flush=True)
    rng = random.Random(options.seed)
    moments = sorted((rng.uniform(0.02, 0.95), rng.uniform(0, 0.1)) for _ in range(options.kills))
    tally = Tally("kill")
    undisturbed = run(options, "undisturbed", [], tally)
    killed = run(options, "killed", moments, tally)
    different = [index for index in range(options.jobs) if undisturbed.get(index) != killed.get(index)]
    tally.each("tokens differ from the undisturbed run", different, lambda _: True)
    tally.print_table()
    if tally.broken == 0:
        print(f"kill: of {options.jobs} jobs none broke a promise: at most {3 / options.jobs:.2%} do (rule of three, 95 %);")
        print(f"kill: of {options.kills} kills none did: at most {min(1, 3 / max(options.kills, 1)):.0%} of them do.")
    sys.exit(tally.print_sum())


if __name__ == "__main__":
    main()
