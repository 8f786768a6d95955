#!/usr/bin/env python3
"""Submits jobs to `infera up`, kills it with -9 at random moments, and checks what is left with its own eyes.

    infra/kill.sh --binary target/release/infera --jobs 2000 --kills 10

Two runs of the same requests, each with a user seed: one undisturbed, one killed. Then every promise is checked from the
client's own log, the ledger's file and the archive's objects, none of it through Infera's code. The seed of the kill
schedule is printed; the same seed gives the same schedule. Exits with 1 if a promise is broken.
"""

import argparse
import os
import random
import sqlite3
import sys
import tempfile
import time

from kill.checker import Checker, sabotaged
from kill.client import Client, requests
from kill.network import ROOT, Network

DRAIN_MAX_S = 600
# A kill waits until so many accepted jobs have not ended.
OPEN_MIN = 8


def ended(network):
    """How many jobs have ended, by the ledger's own file, read only."""
    try:
        connection = sqlite3.connect(f"file:{network.data}/data/ledger.sqlite?mode=ro", uri=True, timeout=5)
        try:
            return connection.execute("SELECT count(*) FROM settlements").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error:
        return 0


def campaign(network, bodies, kills, seed, run):
    """Submits everything, killing at random moments in between; returns the client when all jobs have ended."""
    rng = random.Random(seed)
    network.start()
    client = Client(network, bodies, 16, run)
    began = time.monotonic()
    client.start()
    # Moments are shares of the work done, so that they fall within it on a fast machine and on a slow one.
    in_flight = []
    moments = sorted(rng.uniform(0.02, 0.95) for _ in range(kills))
    for moment in moments:
        while ended(network) < moment * len(bodies) and time.monotonic() - began < DRAIN_MAX_S:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        # A kill that finds nothing open tries nothing: wait for work, unless all has been submitted.
        while len(client.accepted) - ended(network) < OPEN_MIN and client.next < len(bodies):
            time.sleep(0.001)
        network.kill()
        in_flight.append(len(client.accepted) - ended(network))
        network.start()
    if kills:
        print(f"kill: accepted and not ended at each kill: {in_flight}", flush=True)
    for thread in client.threads:
        thread.join(timeout=DRAIN_MAX_S)
    last, since = -1, time.monotonic()
    while (count := ended(network)) < len(bodies):
        if count != last:
            last, since = count, time.monotonic()
        if time.monotonic() - since > 120:
            print(f"kill: stuck at {count} of {len(bodies)} ended for 120 s", flush=True)
            break
        time.sleep(0.1)
    return client, time.monotonic() - began


def drained(network, count):
    """Waits until every settled job is scored, folded and archived; False if that takes too long."""
    open_work = """SELECT (SELECT count(*) FROM groups WHERE is_closed = 0)
        + (SELECT count(*) FROM settlements) - (SELECT count(*) FROM records WHERE hash IS NOT NULL)
        + (SELECT max(sequence) FROM postings) - (SELECT max(sequence) FROM projected)"""
    deadline = time.monotonic() + DRAIN_MAX_S
    while time.monotonic() < deadline:
        connection = sqlite3.connect(f"file:{network.data}/data/ledger.sqlite?mode=ro", uri=True, timeout=5)
        left = connection.execute(open_work).fetchone()[0]
        connection.close()
        if left == 0 and ended(network) >= count:
            return True
        time.sleep(0.2)
    return False


def main():
    """Both runs, the table, and the verdict."""
    parser = argparse.ArgumentParser(prog="infra/kill.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/infera"))
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--set", action="append", default=[], help="passed on to infera up")
    options = parser.parse_args()
    # Limits are for strangers; archiving at once lets the run end sooner; two slots a node keep a queue, so that kills
    # find jobs in every state. None of it changes what is checked.
    settings = ["worker.slots=2", "gateway.requests_per_minute=0", "gateway.waiting_max=1000000"]
    settings += ["verifier.archive_ms=500", "verifier.archive_wait_ms=500", "verifier.archive_retry_ms=2000"]
    arguments = [word for setting in [*settings, *options.set] for word in ("--set", setting)]
    bodies = requests(options.jobs)
    tokens, breaches = [], {}
    print(f"kill: {options.jobs} jobs, {options.kills} kills, schedule seed {options.seed}", flush=True)
    for run, kills in (("undisturbed", 0), ("killed", options.kills)):
        with tempfile.TemporaryDirectory(prefix="infera-kill-") as data:
            network = Network(options.binary, data, arguments)
            try:
                client, seconds = campaign(network, bodies, kills, options.seed, run)
                is_drained = drained(network, len(bodies))
                checker = Checker(network.data / "data", client)
                checker.count("work left over after the drain", not is_drained)
                tokens.append(checker.all())
                if kills == 0:
                    network.stop()
                    missed = sabotaged(network.data / "data", client)
                    checker.count("changes that the checker missed", len(missed), missed)
            finally:
                if network.process and network.process.poll() is None:
                    network.stop()
            checked = f"{len(client.accepted)} accepted, {len(checker.settlements)} ended, {len(checker.postings)} postings"
            print(f"kill: {run}: {checked}, {network.starts} starts, {seconds:.0f} s", flush=True)
            for promise, count in checker.breaches.items():
                breaches[promise] = breaches.get(promise, 0) + count
    breaches["tokens differ from the undisturbed run"] = sum(tokens[0].get(i) != tokens[1].get(i) for i in range(options.jobs))
    width = max(map(len, breaches))
    for promise, count in breaches.items():
        print(f"  {promise:<{width}}  {count}")
    print(f"kill: with 0 breaches in {options.jobs} jobs, at most {3 / options.jobs:.2%} of jobs break one (rule of three, 95 %);")
    print(f"kill: with 0 in {options.kills} kills, at most {min(1, 3 / max(options.kills, 1)):.0%} of kills do.")
    failed = sum(count > 0 for count in breaches.values())
    print(f"kill: {len(breaches) - failed} promises kept, {failed} broken")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
