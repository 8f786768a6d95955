"""Describes the machine, and samples the CPU time and memory of the processes under load each second.

Reads /proc, so it tells less on other systems than Linux. What k6 measures is elsewhere.
"""

import os
import platform
import re
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def describe():
    """Returns processor, cores, memory and system in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_gib = PAGE_BYTES * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor()}, {cores} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"


def processor():
    """Returns the processor's name."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", (PROC / "cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def revision():
    """Returns the tree's commit, with a mark if files differ from it; empty outside a clone."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def stat(pid):
    """Returns (parent, CPU seconds, private bytes) of a process; None if it is gone.

    Shared pages, such as PostgreSQL's buffers, are left out: summed over processes they would count many times.
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        _, resident, shared, *_ = map(int, (PROC / str(pid) / "statm").read_text().split())
    except (OSError, ValueError):
        return None
    busy_s = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return int(fields[1]), busy_s, (resident - shared) * PAGE_BYTES


def listener(url):
    """Returns the pid that listens at a URL's port on this machine; None if it can't be found."""
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK or not parts.port:
        return None
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        fields = (row.split() for row in rows)
        inodes |= {f"socket:[{f[9]}]" for f in fields if f[3] == "0A" and int(f[1].rpartition(":")[2], 16) == parts.port}
    for descriptor in PROC.glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) in inodes:
                return int(descriptor.parts[2])
        except OSError:
            continue
    return None


def watched(target, load_generator, load_generator_pid):
    """Returns {name: [pid, …]} of the processes to watch: those that are noted, or else the listeners at the gateways' ports."""
    groups = {load_generator: [load_generator_pid]}
    for folder in target.notes:
        for note in sorted([*Path(folder).glob("*.pid"), *Path(folder).glob("*/*.pid")]):
            # A note of infra has the pid and the time of the start; a file with a pid alone is a program's own.
            pid, _, began = note.read_text(encoding="utf-8").strip().partition("\n")
            # gateway-1 and gateway-2 are one line, because the report is about roles.
            name = note.stem.split("-")[0]
            if pid.isdigit() and began and stat(pid):
                groups.setdefault(name, []).append(int(pid))
    if len(groups) == 1:
        pids = {pid for pid in map(listener, target.urls) if pid}
        if pids:
            groups["infera"] = sorted(pids)
    return groups


def usage(groups):
    """Returns {name: (CPU seconds, bytes)} now, children included."""
    everything = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := stat(entry.name)):
            everything[int(entry.name)] = found
    names = {pid: name for name, pids in groups.items() for pid in pids}
    sums = {name: [0.0, 0] for name in groups}
    for pid, (parent, busy_s, own_bytes) in everything.items():
        name = names.get(pid)
        while name is None and parent in everything:
            name, parent = names.get(parent), everything[parent][0]
        if name is not None:
            sums[name][0] += busy_s
            sums[name][1] += own_bytes
    return {name: tuple(found) for name, found in sums.items()}


class Watch(threading.Thread):
    """Samples the usage each second until `stop`."""

    def __init__(self, groups):
        super().__init__(daemon=True)
        self.groups = groups
        self.samples = []  # (seconds since the epoch, usage)
        self.is_over = threading.Event()

    def run(self):
        while True:
            if PROC.is_dir():
                self.samples.append((time.time(), usage(self.groups)))
            if self.is_over.wait(1.0):
                return

    def stop(self):
        """Takes a last sample; returns the series by name: cores in use and MiB, per second."""
        self.is_over.set()
        self.join(timeout=5)
        series = {}
        for (before_s, before), (after_s, after) in zip(self.samples, self.samples[1:]):
            for name, (busy_s, own_bytes) in after.items():
                found = series.setdefault(name, {"at_s": [], "cores": [], "mib": []})
                found["at_s"].append(round(after_s, 1))
                found["cores"].append(round(max(0.0, busy_s - before[name][0]) / (after_s - before_s), 3))
                found["mib"].append(round(own_bytes / 2**20, 1))
        return series
