#!/usr/bin/env python3
"""Does what a newcomer does with `infera up`: starts it at a terminal, pastes the printed request, stops it, starts it
again as a service would, and closes the terminal of a third.

    smoke.py --binary target/debug/infera

The request is run by bash exactly as it was printed. Standard library only. Exits with 1 if a promise is broken.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
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
    """One `infera up`, and what it prints until it is ready: to a terminal of its own, or to a pipe."""

    def __init__(self, binary, data, port, at_terminal):
        command = [binary, "up", "--data", data, "--set", f"listen=127.0.0.1:{port}"]
        # Settings of the caller's shell are not what a newcomer has.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERA_")}
        self.terminal, inside = pty.openpty() if at_terminal else os.pipe()
        streams = {"stdin": inside, "stdout": inside, "stderr": inside} if at_terminal else {"stdout": inside}
        began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            # The terminal is then the one whose end and whose Ctrl-C the program is told of.
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if at_terminal else None,
            **{"stdin": subprocess.DEVNULL, **streams},
        )
        os.close(inside)
        # A start that hangs ends here, so that reading what it prints ends too.
        watchdog = threading.Timer(READY_MAX_S, self.process.kill)
        watchdog.start()
        printed = b""
        while WELCOME_ENDS.encode() not in printed:
            chunk = self.read()
            if not chunk:
                break
            printed += chunk
        watchdog.cancel()
        self.ready_s = time.monotonic() - began
        self.welcome = printed.decode(errors="replace").replace("\r\n", "\n")
        # What it says later is read, so that it never waits for a reader.
        self.closing = threading.Event()
        self.reader = threading.Thread(target=self.read_on, daemon=True)
        self.reader.start()

    def read(self):
        """What it printed since, or nothing if it has ended."""
        try:
            return os.read(self.terminal, 65536)
        except OSError:
            return b""

    def read_on(self):
        """Reads until it ends or the terminal is to be closed, which a read that waits would keep open."""
        while not self.closing.is_set():
            if select.select([self.terminal], [], [], 0.1)[0] and not self.read():
                break

    @property
    def is_ready(self):
        return WELCOME_ENDS in self.welcome

    def request(self):
        """The command to paste: the paragraph after the words that say so."""
        return re.search(r"^Paste this.*?\n\n(.*?)\n\n", self.welcome, re.DOTALL | re.MULTILINE).group(1)

    def close_terminal(self):
        """As a window that is closed."""
        self.closing.set()
        self.reader.join()
        os.close(self.terminal)

    def type_interrupt(self):
        """Ctrl-C at its terminal."""
        os.write(self.terminal, b"\x03")

    def end(self):
        """SIGINT, and how it ended: 0 is well."""
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self):
        """How it ended: 0 is well."""
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


def local_key(data):
    """The key for local use, as the note has it."""
    return note(data).get("INFERA_API_KEY")


def note(data):
    """The note for local clients."""
    return dict(line.split("=", 1) for line in (Path(data) / "local.env").read_text().splitlines())


def names_itself(promises, binary):
    """The version and the commit, as a bug report needs them."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=READY_MAX_S, check=False).stdout.strip()
    is_whole = re.fullmatch(r"infera \d+\.\d+\.\d+ \((development build, )?([0-9a-f]{12}( or later)?|unknown commit)\)", said)
    promises.hold("it names its version and commit", is_whole, said)


def first_start(promises, binary, data, port):
    """Starts at a terminal on an empty folder, pastes the request, reads the note, types Ctrl-C."""
    network = Network(binary, data, port, at_terminal=True)
    try:
        promises.hold("it says that it is ready", network.is_ready, network.welcome)
        if not network.is_ready:
            return
        began = time.monotonic()
        check_answer(promises, pasted(network))
        print(f"smoke: ready after {network.ready_s:.2f} s, the request took {time.monotonic() - began:.2f} s", flush=True)
        promises.hold("the note has the address", note(data).get("INFERA_URL") == f"http://127.0.0.1:{port}", note(data))
        promises.hold("the note has the printed key", f" {local_key(data)} " in network.welcome)
        taken = subprocess.run(
            [binary, "up", "--data", data], cwd=ROOT, capture_output=True, text=True, timeout=READY_MAX_S, check=False
        )
        promises.hold("a second one on the same folder is refused", taken.returncode != 0 and "in use" in taken.stderr, taken)
        network.type_interrupt()
        status = network.ended()
        promises.hold("Ctrl-C ends it well", status == 0, status)
    finally:
        network.end()


def second_start(promises, binary, data, port):
    """Starts again on the same folder, as a service: quick, and it answers; the key is the same, and in no journal."""
    key = local_key(data)
    network = Network(binary, data, port, at_terminal=False)
    try:
        promises.hold("it starts again soon", network.is_ready and network.ready_s < SECOND_READY_MAX_S, network.ready_s)
        promises.hold("the key is the same", local_key(data) == key)
        promises.hold("without a terminal no key is printed", key not in network.welcome, network.welcome)
        promises.hold("but where it lies", f"{data}/local.env" in network.welcome, network.welcome)
        if network.is_ready:
            check_answer(promises, pasted(network))
        print(f"smoke: ready again after {network.ready_s:.2f} s", flush=True)
    finally:
        status = network.end()
    promises.hold("SIGINT ends it well", status == 0, status)


def third_start(promises, binary, data, port):
    """A terminal that is closed: it drains, though nothing that it says can be written any more."""
    network = Network(binary, data, port, at_terminal=True)
    promises.hold("it starts a third time", network.is_ready, network.welcome)
    network.close_terminal()
    status = network.ended()
    promises.hold("a closed terminal ends it well", status == 0, status)


def main():
    """Both starts and the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/infera")
    binary = str((ROOT / parser.parse_args().binary).resolve())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    promises = Promises()
    names_itself(promises, binary)
    with tempfile.TemporaryDirectory(prefix="infera-smoke-") as folder:
        data = str(Path(folder) / "data")
        first_start(promises, binary, data, port)
        if promises.broken == 0:
            second_start(promises, binary, data, port)
            third_start(promises, binary, data, port)
    print(f"smoke: {promises.kept} promises kept, {promises.broken} broken")
    sys.exit(1 if promises.broken else 0)


if __name__ == "__main__":
    main()
