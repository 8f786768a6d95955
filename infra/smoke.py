#!/usr/bin/env python3
"""Does what a newcomer does with `infera up`: starts it at a terminal, pastes the printed request, stops it, starts it
again as a service would, closes the terminal of a third, and has SIGTERM end a stream that goes on afterwards.

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
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
from pathlib import Path

from promises import Tally
from service.place import ROOT
from service.process import free_port

# A machine that is busy with other things is slow, and not broken; what is measured is printed.
READY_MAX_S = 60
SECOND_READY_MAX_S = 10
ANSWER_MAX_S = 120
END_MAX_S = 60
# The last words of the welcome; the request is printed above them.
WELCOME_ENDS = "Ctrl-C ends it"


class Network:
    """One `infera up`, at a terminal of its own or with a pipe for its output."""

    def __init__(self, binary, data, port, at_terminal, options=()):
        """Starts it, and reads what it prints until it is ready or ends."""
        command = [binary, "up", "--data", data, "--set", f"listen=127.0.0.1:{port}", *options]
        # A newcomer has no settings in the environment.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERA_")}
        self.terminal, inside = pty.openpty() if at_terminal else os.pipe()
        streams = {"stdin": inside, "stdout": inside, "stderr": inside} if at_terminal else {"stdout": inside}
        began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            # Makes the terminal the controlling one, so that its hang-up and its Ctrl-C become signals.
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
        # Later output is read too, so that a full pipe never blocks the program.
        self.closing = threading.Event()
        self.reader = threading.Thread(target=self.read_on, daemon=True)
        self.reader.start()

    def read(self):
        """Reads what it has printed; nothing if it has ended."""
        try:
            return os.read(self.terminal, 65536)
        except OSError:
            return b""

    def read_on(self):
        """Reads until it ends or `closing` is set. A blocking read would keep the terminal open."""
        while not self.closing.is_set():
            if select.select([self.terminal], [], [], 0.1)[0] and not self.read():
                break

    @property
    def is_ready(self):
        """Whether it printed the whole welcome."""
        return WELCOME_ENDS in self.welcome

    def request(self):
        """Returns the command to paste: the paragraph after the words that say so."""
        return re.search(r"^Paste this.*?\n\n(.*?)\n\n", self.welcome, re.DOTALL | re.MULTILINE).group(1)

    def close_terminal(self):
        """Closes the terminal, as closing its window does."""
        self.closing.set()
        self.reader.join()
        os.close(self.terminal)

    def type_interrupt(self):
        """Types Ctrl-C at its terminal."""
        os.write(self.terminal, b"\x03")

    def end(self):
        """Sends SIGINT; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self):
        """Waits until it ends; returns the exit status. A process that does not end is killed."""
        try:
            return self.process.wait(timeout=END_MAX_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def pasted(network):
    """Runs the printed request; returns the answer, which is empty if there is none."""
    command = ["bash", "-c", network.request()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_MAX_S, stdin=subprocess.DEVNULL)
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        print(f"smoke: the request got no answer: {error}")
        return {}


def check_answer(promises, start, reply):
    """The answer to 47 + 38 is right, and three owners gave the same. `start` tells the starts' promises apart."""
    choices = reply.get("choices") or [{"message": {"content": ""}}]
    verification = reply.get("verification") or {}
    promises.hold(f"{start}: the answer is right", "85" in choices[0]["message"]["content"], reply)
    promises.hold(f"{start}: the answer is verified", verification.get("status") == "verified", verification)
    three = {"asked": 3, "answered": 3, "agreed": 3}
    promises.hold(f"{start}: three were asked, answered and agreed", verification.get("replicas") == three, verification)
    promises.hold(f"{start}: they agreed bit by bit", verification.get("rung") == "identical", verification)


def local_key(data):
    """Reads the key for local use from the note."""
    return note(data).get("INFERA_API_KEY")


def note(data):
    """Reads the note for local clients."""
    return dict(line.split("=", 1) for line in (Path(data) / "local.env").read_text().splitlines())


def names_itself(promises, binary):
    """`--version` names the version and the commit, as a bug report needs them."""
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
        check_answer(promises, "first start", pasted(network))
        print(f"smoke: ready after {network.ready_s:.2f} s, the request took {time.monotonic() - began:.2f} s", flush=True)
        promises.hold("the note names the address", note(data).get("INFERA_URL") == f"http://127.0.0.1:{port}", note(data))
        promises.hold("the note names the printed key", f" {local_key(data)} " in network.welcome)
        taken = subprocess.run(
            [binary, "up", "--data", data], cwd=ROOT, capture_output=True, text=True, timeout=READY_MAX_S, check=False
        )
        promises.hold("a second process on the same folder is refused", taken.returncode != 0 and "in use" in taken.stderr, taken)
        network.type_interrupt()
        status = network.ended()
        promises.hold("Ctrl-C ends it with status 0", status == 0, status)
    finally:
        network.end()


def second_start(promises, binary, data, port):
    """Starts again on the same folder as a service does: quickly, with the same key, which no journal sees."""
    key = local_key(data)
    network = Network(binary, data, port, at_terminal=False)
    try:
        is_quick = network.is_ready and network.ready_s < SECOND_READY_MAX_S
        promises.hold(f"it starts again within {SECOND_READY_MAX_S} s", is_quick, network.ready_s)
        promises.hold("the key is the same", local_key(data) == key)
        promises.hold("without a terminal the key is not printed", key not in network.welcome, network.welcome)
        promises.hold("without a terminal the key's file is named", f"{data}/local.env" in network.welcome, network.welcome)
        if network.is_ready:
            check_answer(promises, "second start", pasted(network))
        print(f"smoke: ready again after {network.ready_s:.2f} s", flush=True)
    finally:
        status = network.end()
    promises.hold("SIGINT ends it with status 0", status == 0, status)


def third_start(promises, binary, data, port):
    """Closes the terminal: the program drains, although its output can no longer be written."""
    network = Network(binary, data, port, at_terminal=True)
    promises.hold("it starts a third time", network.is_ready, network.welcome)
    network.close_terminal()
    status = network.ended()
    promises.hold("a closed terminal ends it with status 0", status == 0, status)


def request(data, path, body=None, **headers):
    """Sends a request with the local key; returns the reply, which may still be coming."""
    headers = {"Authorization": f"Bearer {local_key(data)}", "Content-Type": "application/json", **headers}
    asked = urllib.request.Request(note(data)["INFERA_URL"] + path, body and json.dumps(body).encode(), headers)
    return urllib.request.urlopen(asked, timeout=ANSWER_MAX_S)


def event_data(reply):
    """Yields the data of each event of a reply."""
    for line in reply:
        if line.startswith(b"data: {"):
            yield json.loads(line[len(b"data: "):])


def drained_stream(promises, binary, data, port):
    """SIGTERM ends a stream with where it goes on, and from there it goes on at the next start."""
    # Half a second a token, so that eight are not written within the drain of a second.
    slow = ["--set", "engine.kind=stub", "--set", "engine.stub.decode_us=500000", "--set", "gateway.drain_ms=1000"]
    question = [{"role": "user", "content": "What is 47 + 38?"}]
    body = {"model": "infera-tiny", "messages": question, "temperature": 0, "max_tokens": 16, "stream": True}
    network = Network(binary, data, port, at_terminal=False, options=slow)
    shown, error = "", {}
    try:
        promises.hold("it starts with slow nodes", network.is_ready, network.welcome)
        with request(data, "/v1/chat/completions", body) as reply:
            for event in event_data(reply):
                if "error" in event:
                    error = event["error"]
                    break
                more = event["choices"][0]["delta"].get("content") or ""
                if more and not shown:
                    network.process.send_signal(signal.SIGTERM)
                shown += more
    finally:
        status = network.ended()
    promises.hold("SIGTERM ends it with status 0", status == 0, status)
    promises.hold("SIGTERM ends a stream with an error", error.get("code") == "shutting_down", error)
    promises.hold("the error says where the stream goes on", {"job_id", "events_url", "last_event_id"} <= error.keys(), error)
    if "last_event_id" not in error:
        return
    quick = ["--set", "engine.kind=stub"]
    network = Network(binary, data, port, at_terminal=False, options=quick)
    try:
        promises.hold("it starts with quick nodes", network.is_ready, network.welcome)
        with request(data, error["events_url"], **{"Last-Event-ID": error["last_event_id"]}) as reply:
            events = list(event_data(reply))
        with request(data, "/v1/jobs/" + error["job_id"]) as reply:
            job = json.load(reply)
    finally:
        network.end()
    rest = "".join(event.get("text", "") for event in events)
    whole = job.get("result", {}).get("choices", [{"message": {"content": None}}])[0]["message"]["content"]
    is_whole = shown and shown + rest == whole
    promises.hold("the stream goes on at the next start, nothing twice and nothing lost", is_whole, (shown, rest, job))
    print(f"smoke: a stream went on after a drain: {len(shown)} of {len(shown + rest)} characters came before", flush=True)


def main():
    """Runs the starts and prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/infera")
    binary = str((ROOT / parser.parse_args().binary).resolve())
    port = free_port()
    promises = Tally("smoke")
    names_itself(promises, binary)
    with tempfile.TemporaryDirectory(prefix="infera-smoke-") as folder:
        data = str(Path(folder) / "data")
        first_start(promises, binary, data, port)
        if promises.broken == 0:
            second_start(promises, binary, data, port)
            third_start(promises, binary, data, port)
            drained_stream(promises, binary, data, port)
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
