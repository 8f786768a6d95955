"""Processes that outlive the command that started them. Each has a log, and a note of its pid by which it is ended.

A note has the pid and the time at which the process began, so that a pid that the system has given to another process since
is never taken for ours.
"""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path


class Trouble(Exception):
    """A fault of a service or of the machine; the text says what to do about it."""


def began(pid):
    """Returns the time at which a process began, as `ps` prints it; None if it doesn't exist or has ended."""
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
        """Returns the pid of the process that was noted, if it still runs."""
        try:
            pid, moment = self.note.read_text().split("\n")[:2]
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if began(pid) == moment else None

    def note_pid(self, pid):
        """Writes the note of a process that runs."""
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
        """Asks the noted process to end, and kills it if it doesn't. True if it was running."""
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
                raise Trouble(f"{self.name} (pid {pid}) doesn't end, not even when it is killed: look at {self.log}")
        self.note.unlink(missing_ok=True)
        return pid is not None

    def last_words(self):
        """Returns the end of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
        except FileNotFoundError:
            return "(no log)"


def reap(pid):
    """Takes the exit status of a child, so that it doesn't stay as a zombie. Does nothing for other processes."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def free_port():
    """Returns a port of loopback on which nothing listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_taken(port):
    """Whether something listens on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(process, answers, patience_s):
    """Waits until `answers()` is true. Trouble with the end of the log if the process ends or time is up."""
    until = time.monotonic() + patience_s
    while not answers():
        pid = process.pid()
        if pid is not None:
            reap(pid)
        if pid is None or time.monotonic() > until:
            why = "ended" if pid is None else f"doesn't answer after {patience_s} s"
            raise Trouble(f"{process.name} {why}. The end of {process.log}:\n{process.last_words()}")
        time.sleep(0.2)
