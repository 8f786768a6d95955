"""A campaign: the load, the faults one after another, the drain. The only thing judged here is standstill; see `checker`.

Each fault is healed, and the next begins only when a job that was accepted after the heal has ended. If no such job ends for
a minute while everything runs, the campaign ends as a standstill and writes down the state of everything.
"""

import json
import os
import signal
import time
from pathlib import Path

from service.process import reap

from . import ledger
from .schedule import LINKS

# Longer than every wait of a program (a lease of 15 s, a statement of 12 s, a database's reconnect) together.
STANDSTILL_S = 60
# A component must be back within this time. A broker took 48 s on a busy machine.
BACK_S = 120
# The first nodes have to register and send a heartbeat.
START_S = 180
LOOK_S = 0.25
# How long a fault of a link waits for traffic. The archive is written every half minute, other links are always in use.
# Together with the longest fault of a link this is within what the jobs' deadlines allow for.
MEET_S = 40
# How long a fault of a component waits for jobs under way.
OPEN_S = 10


class Broken(Exception):
    """The campaign can't go on: a component did not come back, or no job ends."""


def now_ms():
    """Returns the time of the wall clock, by which deadlines are set."""
    return round(time.time() * 1000)


class Campaign:
    """One run of a schedule against a fleet."""

    def __init__(self, fleet, load, folder, faults):
        self.fleet, self.load, self.folder, self.faults = fleet, load, Path(folder), faults
        self.log = open(self.folder / "faults.jsonl", "w", encoding="utf-8")
        self.done = []

    def run(self, size):
        """Offers jobs, breaks and heals, and waits until all is done."""
        began_ms = now_ms()
        self.load.start(size.rate)
        self.wait_for_progress(began_ms, "the start", START_S)
        for fault in self.faults:
            time.sleep(fault.calm_s)
            self.suffer(fault)
        while self.load.offered < size.jobs:
            time.sleep(LOOK_S)
        self.load.stop()
        self.drain()

    def wait_until_met(self, link):
        """Waits until the fault of a link affects something; otherwise it would test nothing."""
        until = time.monotonic() + MEET_S
        while not self.fleet.proxy.met(link) and time.monotonic() < until:
            time.sleep(LOOK_S)

    def suffer(self, fault):
        """Runs one fault from its beginning to the recovery."""
        row = {"number": fault.number, "kind": fault.name, "target": fault.target, "began_ms": now_ms()}
        if fault.target in LINKS:
            self.fleet.proxy.break_down(fault.target, fault.kind, fault.direction, fault.delay_s)
            self.wait_until_met(fault.target)
            time.sleep(fault.lasts_s)
            row["met"] = self.fleet.proxy.heal(fault.target)
        else:
            member = self.fleet.pick(fault.target, fault.pick)
            row["member"] = member.name
            row["open_jobs"] = self.open_jobs()
            row["began_ms"] = now_ms()
            if fault.kind == "kill":
                self.kill(member, fault.lasts_s)
            else:
                freeze(member, fault.lasts_s)
        row["healed_ms"] = now_ms()
        self.wait_for_progress(row["healed_ms"], f"{fault.name} of {row.get('member', fault.target)}")
        row["recovered_ms"] = now_ms()
        self.log.write(json.dumps(row) + "\n")
        self.log.flush()
        self.done.append(row)
        lasted, recovered = row["healed_ms"] - row["began_ms"], row["recovered_ms"] - row["healed_ms"]
        what = f"{fault.name} {row.get('member', fault.target)}"
        offered = f"{self.load.accepted}/{self.load.offered} accepted"
        took = f"{lasted / 1000:.1f} s, recovered in {recovered / 1000:.1f} s"
        print(f"chaos: {fault.number + 1}/{len(self.faults)} {what}: {took}; {offered}", flush=True)

    def open_jobs(self):
        """Waits until jobs are under way, so that the fault tests something; returns how many."""
        until = time.monotonic() + OPEN_S
        while True:
            left = ledger.left()
            if left is not None and (left["jobs"] > 0 or time.monotonic() > until):
                return left["jobs"]
            time.sleep(LOOK_S)

    def kill(self, member, down_s):
        """Kills a process, waits, and starts it again."""
        for pid in member.pids()[:1]:
            os.kill(pid, signal.SIGKILL)
            time.sleep(down_s)
            reap(pid)
        until = time.monotonic() + BACK_S
        member.start()
        while not member.answers():
            if time.monotonic() > until:
                raise self.standstill(f"{member.name} isn't back {BACK_S} s after it was started")
            if not member.pids():
                # PostgreSQL ends at once while its predecessor's shared memory is still in use; a service manager would retry.
                time.sleep(LOOK_S)
                member.start()
            time.sleep(LOOK_S)

    def wait_for_progress(self, since_ms, what, patience_s=STANDSTILL_S):
        """Waits until a job that was accepted since then has ended."""
        until = time.monotonic() + patience_s
        while not ledger.has_moved_since(since_ms):
            if time.monotonic() > until:
                raise self.standstill(f"no job accepted after {what} has ended for {patience_s} s")
            time.sleep(LOOK_S)

    def drain(self):
        """Waits until nothing is left to do, or nothing has changed for `STANDSTILL_S`."""
        before, until = None, time.monotonic() + STANDSTILL_S
        while True:
            left = ledger.left()
            if left is not None and not any(left.values()):
                return
            if left != before:
                before, until = left, time.monotonic() + STANDSTILL_S
            if time.monotonic() > until:
                raise self.standstill(f"work is left over and nothing has changed for {STANDSTILL_S} s: {left}")
            time.sleep(1)

    def standstill(self, why):
        """Writes down the state of everything; returns the exception to raise."""
        path = self.folder / "standstill.txt"
        path.write_text(ledger.account_of(why) + self.fleet.account(), encoding="utf-8")
        return Broken(f"{why}; see {path}")


def freeze(member, lasts_s):
    """Stops a process and its children for a while (SIGSTOP, SIGCONT)."""
    stopped = []
    try:
        for pid in member.pids():
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        time.sleep(lasts_s)
    finally:
        for pid in reversed(stopped):
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass  # it was about to end when it was stopped
