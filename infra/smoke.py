#!/usr/bin/env python3
"""Does what a newcomer does with `infera up`: starts it, pastes the printed request, stops it, starts it again.

    smoke.py --binary target/debug/infera

The request is run by bash exactly as it was printed. Standard library only. Exits with 1 if a promise is broken.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A machine that is busy with other things is slow, and not broken; what is measured is printed.
READY_MAX_S = 60
SECOND_READY_MAX_S = 10
ANSWER_MAX_S = 120
END_MAX_S = 60
# The welcome's last words: the whole request stands above them.
WELCOME_ENDS = "Ctrl-C ends it"


class Network:
    """One `infera up`, and what it prints until it is ready."""

    def __init__(self, binary, data, port):
        command = [binary, "up", "--data", data, "--set", f"listen=127.0.0.1:{port}"]
        # Settings of the caller's shell are not what a newcomer has.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERA_")}
        began = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        # A start that hangs ends here, so that reading what it prints ends too.
        watchdog = threading.Timer(READY_MAX_S, self.process.kill)
        watchdog.start()
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith(WELCOME_ENDS):
                break
        watchdog.cancel()
        self.ready_s = time.monotonic() - began
        self.welcome = "".join(lines)

    @property
    def is_ready(self):
        return WELCOME_ENDS in self.welcome

    def request(self):
        """The command to paste: from `curl` to the end of its paragraph."""
        return re.search(r"^  (curl .*?)\n\n", self.welcome, re.DOTALL | re.MULTILINE).group(1)

    def end(self):
        """Ctrl-C, and how it ended: 0 is well."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=END_MAX_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Promises:
    """Counts the promises kept and broken; shows those broken."""

    def __init__(self):
        self.kept, self.broken = 0, 0

    def hold(self, promise, is_kept, found=""):
        if is_kept:
            self.kept += 1
        else:
            self.broken += 1
            print(f"smoke: broken: {promise}: {found}")


def pasted(network):
    """The answer to the printed request, as JSON; an empty one if there is none."""
    command = ["bash", "-c", network.request()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_MAX_S, stdin=subprocess.DEVNULL)
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        print(f"smoke: the request got no answer: {error}")
        return {}


def check_answer(promises, reply):
    """The question is 47 + 38; three owners answered, and the same."""
    choices = reply.get("choices") or [{"message": {"content": ""}}]
    verification = reply.get("verification") or {}
    promises.hold("the answer is right", "85" in choices[0]["message"]["content"], reply)
    promises.hold("it is verified", verification.get("status") == "verified", verification)
    three = {"asked": 3, "answered": 3, "agreed": 3}
    promises.hold("three were asked, answered and agreed", verification.get("replicas") == three, verification)
    promises.hold("they agreed bit by bit", verification.get("rung") == "identical", verification)


def first_start(promises, binary, data, port):
    """Starts on an empty folder, pastes the request, reads the note, ends it; returns the welcome."""
    network = Network(binary, data, port)
    try:
        promises.hold("it says that it is ready", network.is_ready, network.welcome)
        if not network.is_ready:
            return network.welcome
        began = time.monotonic()
        check_answer(promises, pasted(network))
        print(f"smoke: ready after {network.ready_s:.2f} s, the request took {time.monotonic() - began:.2f} s", flush=True)
        note = dict(line.split("=", 1) for line in (Path(data) / "local.env").read_text().splitlines())
        promises.hold("the note has the address", note.get("INFERA_URL") == f"http://127.0.0.1:{port}", note)
        promises.hold("the note has the printed key", f" {note.get('INFERA_API_KEY')} " in network.welcome)
        taken = subprocess.run(
            [binary, "up", "--data", data], cwd=ROOT, capture_output=True, text=True, timeout=READY_MAX_S, check=False
        )
        promises.hold("a second one on the same folder is refused", taken.returncode != 0 and "in use" in taken.stderr, taken)
    finally:
        status = network.end()
    promises.hold("Ctrl-C ends it well", status == 0, status)
    return network.welcome


def second_start(promises, binary, data, port, welcome):
    """Starts again on the same folder: quick, the same key, and it answers."""
    network = Network(binary, data, port)
    try:
        promises.hold("it starts again soon", network.is_ready and network.ready_s < SECOND_READY_MAX_S, network.ready_s)
        promises.hold("it prints the same", network.welcome == welcome, network.welcome)
        if network.is_ready:
            check_answer(promises, pasted(network))
        print(f"smoke: ready again after {network.ready_s:.2f} s", flush=True)
    finally:
        status = network.end()
    promises.hold("Ctrl-C ends it well again", status == 0, status)


def main():
    """Both starts and the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/infera")
    binary = str((ROOT / parser.parse_args().binary).resolve())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    promises = Promises()
    with tempfile.TemporaryDirectory(prefix="infera-smoke-") as folder:
        data = str(Path(folder) / "data")
        welcome = first_start(promises, binary, data, port)
        if promises.broken == 0:
            second_start(promises, binary, data, port, welcome)
    print(f"smoke: {promises.kept} promises kept, {promises.broken} broken")
    sys.exit(1 if promises.broken else 0)


if __name__ == "__main__":
    main()
