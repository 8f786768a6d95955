"""Runs a campaign and checks what is left.

    infra/chaos.sh --size small --binaries target/debug
    infra/chaos.sh --seed 7          the schedule that seed 7 makes

The seed of the schedule is printed; the same seed gives the same faults. The evidence stays in the folder. The last line
counts the promises kept and broken. Exits with 1 if one is broken.
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

from client import Account, History, Load, api_key, read_ends
from collector import Collector
from promises import Tally
from service.place import ROOT
from service.process import Trouble

from . import checker, ledger, programs, sabotage
from .campaign import Broken, Campaign
from .evidence import collect, read_back
from .fleet import Fleet
from .s3 import Bucket
from .schedule import LONGEST_FAULT_S, SIZES, schedule

# Everything has ended by then; only pages remain.
COLLECT_S = 60
FOLDER = ROOT / ".runtime" / "chaos"


def arguments():
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--binaries", type=Path, default=ROOT / "target" / "release")
    parser.add_argument("--folder", type=Path, default=FOLDER / "last", help="where the evidence is written; an earlier one is removed")
    return parser.parse_args()


def run(options, tally):
    """Runs the campaign and collects what it leaves; returns the faults that were suffered."""
    size = SIZES[options.size]
    faults = schedule(options.seed, size)
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    fleet = Fleet(programs.of(options.binaries))
    history = History(options.folder / "history.jsonl")
    try:
        fleet.up()
        programs.wait_for_model(fleet)
        urls, bucket = programs.access()
        load = Load(Account(urls, api_key(fleet.key), programs.MODEL), history, f"chaos-{options.seed}")
        collector = Collector(load.account, history)
        collector.start()
        campaign = Campaign(fleet, load, options.folder, faults)
        began = time.monotonic()
        try:
            campaign.run(size)
            tally.count("standstills", 0)
        except Broken as broken:
            tally.count("standstills", 1, str(broken))
            load.stop()
        print(f"chaos: {load.offered} jobs offered in {time.monotonic() - began:.0f} s", flush=True)
        read_ends(load)
        collector.finish(ledger.ended(), COLLECT_S)
        print(f"chaos: {collector.collected} results collected in {collector.pages} pages of {collector.tries} tries", flush=True)
        history.close()
        collect(options.folder, ledger.copy_table, Bucket(bucket))
        tally.count("jobs that the client could not send in time", load.dropped)
        return campaign.done
    finally:
        fleet.down()


def report_faults(done, tally):
    """Prints the faults by kind and target: how many, how long they lasted, how long until a later job had ended."""
    groups = {}
    for row in done:
        groups.setdefault((row["kind"], row["target"]), []).append(row)
    print(f"  {'fault':<10} {'target':<18} {'count':>5} {'lasted s':>16} {'recovered s':>16}   (median, longest)")
    for (kind, target), rows in sorted(groups.items()):
        lasted = [(row["healed_ms"] - row["began_ms"]) / 1000 for row in rows]
        recovered = [(row["recovered_ms"] - row["healed_ms"]) / 1000 for row in rows]
        both = "".join(f"{statistics.median(one):>9.1f}{max(one):>8.1f}" for one in (lasted, recovered))
        print(f"  {kind:<10} {target:<18} {len(rows):>5} {both}")
    tally.each("faults that met nothing", done, lambda row: row.get("met") == 0 or row.get("open_jobs") == 0)
    longest_ms = LONGEST_FAULT_S * 1000
    tally.each("faults longer than the jobs' deadline allows for", done, lambda row: row["healed_ms"] - row["began_ms"] > longest_ms)


def report_bounds(evidence, done):
    """Prints the bounds that follow from having seen no breach (rule of three, 95 %)."""
    ended = len(evidence.settlements)
    print(f"chaos: of {ended} jobs none broke a promise: at most {3 / max(ended, 1):.3%} do (rule of three, 95 %);")
    for kind, word in (("kill", "kills"), ("freeze", "freezes"), (None, "faults of a link")):
        count = sum(row["kind"] == kind if kind else "met" in row for row in done)
        if count:
            print(f"chaos: of {count} {word} none did: at most {min(1, 3 / count):.0%} of them do.")


def main():
    """Runs the campaign and the checks, and prints the table and the sum."""
    options = arguments()
    size = SIZES[options.size]
    count = len(schedule(options.seed, size))
    print(f"chaos: {options.size}: {size.jobs} jobs at {size.rate:g}/s, {count} faults, schedule seed {options.seed}", flush=True)
    tally = Tally("chaos")
    try:
        done = run(options, tally)
    except Trouble as trouble:
        sys.exit(f"chaos: {trouble}")
    evidence = read_back(options.folder)
    report_faults(done, tally)
    tally.each("faults of the schedule left out", range(count - len(done)), lambda _: True)
    checker.check(evidence, tally)
    missed = sabotage.missed(evidence)
    tally.each("changes that the checker missed", missed, lambda _: True)
    tally.print_table()
    if tally.broken == 0:
        report_bounds(evidence, done)
    sys.exit(tally.print_sum())


if __name__ == "__main__":
    main()
