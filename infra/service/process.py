"""Processes that outlive the command that started them: started with a log, noted by pid, ended by that note.

A note holds the pid and the moment at which that process began, so that a pid which the system has given to somebody
else since is never taken for ours.
"""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path


class Trouble(Exception):
    """What went wrong with a service, and what to do about it."""


def began(pid):
    """When the process began, as `ps` says it; None if there is none or it has ended."""
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, moment = done.stdout.strip().partition(" ")
    return moment.strip() if moment and not state.startswith("Z") else None


class Process:
    """One process of one service."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = Path(folder)
        self.note = self.folder / f"{name}.pid"
        self.log = self.folder / f"{name}.log"

    def pid(self):
        """The pid of the process that was noted, if it still runs."""
        try:
            pid, moment = self.note.read_text().split("\n")[:2]
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if began(pid) == moment else None

    def note_pid(self, pid):
        """Notes a process that something else started."""
        self.note.write_text(f"{pid}\n{began(pid)}\n")

    def start(self, command, environment=None, user=None):
        """Starts the command in a session of its own, so that an interrupt at the terminal doesn't reach it."""
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **({"user": user, "group": user, "extra_groups": []} if user else {}),
            )
        self.note_pid(started.pid)
        return started

    def stop(self, patience_s=30, how=signal.SIGTERM):
        """Asks the noted process to end, then makes it. True if there was one."""
        pid = self.pid()
        if pid is not None:
            for number, patience in ((how, patience_s), (signal.SIGKILL, 5)):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    break
                until = time.monotonic() + patience
                while self.pid() is not None and time.monotonic() < until:
                    reap(pid)
                    time.sleep(0.1)
                if self.pid() is None:
                    break
            else:
                raise Trouble(f"{self.name} (pid {pid}) doesn't end: look at {self.log}")
        self.note.unlink(missing_ok=True)
        return pid is not None

    def last_words(self):
        """The end of the log, for whoever has to find out why."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
        except FileNotFoundError:
            return "(no log)"


def reap(pid):
    """Takes the exit status of a child, so that it isn't kept as a zombie. Other processes are not ours to reap."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def is_taken(port):
    """Whether somebody listens on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(process, answers, patience_s):
    """Waits until `answers()` is true; says what the log says if the process ends or time is up."""
    until = time.monotonic() + patience_s
    while not answers():
        pid = process.pid()
        if pid is not None:
            reap(pid)
        if pid is None or time.monotonic() > until:
            why = "ended" if pid is None else f"doesn't answer after {patience_s} s"
            raise Trouble(f"{process.name} {why}. The end of {process.log}:\n{process.last_words()}")
        time.sleep(0.2)
