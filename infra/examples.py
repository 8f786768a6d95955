#!/usr/bin/env python3
"""Runs every example of docs/api.md against an `infera up` of its own.

    examples.py --binary target/debug/infera

Each block of sh, Python and JavaScript is a program of its own, which must end well. The block of text behind it is what it must
print, where … stands for anything. Run by infra/examples.sh, whose environment has OpenAI's client. Exits with 1 if a promise is
broken.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from promises import Tally
from service.place import ROOT
from service.process import free_port

PAGE = ROOT / "docs/api.md"
# A machine that is busy with other things is slow, and not broken.
READY_MAX_S = 60
EXAMPLE_MAX_S = 60
END_MAX_S = 60
PROGRAMS = {
    "sh": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "--input-type=module", "--eval"],
}
# Fewer would mean that the page was cut or its blocks are no longer found.
EXAMPLES_MIN = 19


class Example(NamedTuple):
    """One block of the page."""

    name: str
    language: str
    code: str
    output: str


def examples(page):
    """Returns the examples of a page, each with the text that must be printed."""
    found, language, block, heading = [], None, [], ""
    for number, line in enumerate(page.splitlines(), 1):
        if language is None and line.startswith("```"):
            language, block, began = line[3:].strip(), [], number
        elif line == "```":
            text = "\n".join(block)
            if language in PROGRAMS:
                found.append(Example(f"line {began}, {heading}, {language}", language, text, ""))
            elif language == "text" and found:
                found[-1] = found[-1]._replace(output=text)
            language = None
        elif language is None and line.startswith("## "):
            heading = line[3:]
        else:
            block.append(line)
    return found


def is_printed(expected, printed):
    """Tells whether this was printed, … standing for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, printed.strip().replace("\r", ""), re.DOTALL) is not None


def run(example, environment):
    """Runs an example; returns whether it ended well, and what it printed."""
    command = [*PROGRAMS[example.language], example.code]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=EXAMPLE_MAX_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        return False, f"no end after {error.timeout} s"
    return done.returncode == 0, done.stdout if done.returncode == 0 else done.stdout + done.stderr


def started(binary, data, log):
    """Starts a network; returns its process once it is ready."""
    command = [binary, "up", "--data", str(data), "--set", f"listen=127.0.0.1:{free_port()}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + READY_MAX_S
    while "Ctrl-C ends it" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            sys.exit(f"examples: infera ended or was not ready within {READY_MAX_S} s:\n{log.read_text(errors='replace')}")
        time.sleep(0.1)
    return process


def main():
    """Runs the examples and prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/infera")
    binary = str((ROOT / parser.parse_args().binary).resolve())
    promises = Tally("examples")
    found = examples(PAGE.read_text())
    promises.hold(f"docs/api.md has at least {EXAMPLES_MIN} examples", len(found) >= EXAMPLES_MIN, len(found))
    for language in PROGRAMS:
        promises.hold(f"some are in {language}", any(one.language == language for one in found))
    with tempfile.TemporaryDirectory(prefix="infera-examples-") as folder:
        network = started(binary, Path(folder) / "data", Path(folder) / "log")
        try:
            note = (Path(folder) / "data/local.env").read_text().splitlines()
            environment = {**os.environ, **dict(line.split("=", 1) for line in note if "=" in line)}
            for example in found:
                began = time.monotonic()
                ended_well, printed = run(example, environment)
                promises.hold(f"{example.name}: ends well", ended_well, printed)
                # What prints nothing by design, such as a client's set-up, would prove nothing.
                promises.hold(f"{example.name}: has an output to compare", bool(example.output))
                if ended_well:
                    promises.hold(f"{example.name}: prints what the page says", is_printed(example.output, printed), printed)
                print(f"examples: {example.name} ({time.monotonic() - began:.1f} s)", flush=True)
        finally:
            network.send_signal(signal.SIGINT)
            try:
                network.wait(timeout=END_MAX_S)
            except subprocess.TimeoutExpired:
                network.kill()
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
