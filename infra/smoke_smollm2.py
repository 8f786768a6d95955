#!/usr/bin/env python3
"""Serves SmolLM2 from three nodes, as `infera up --model smollm2` does, and holds its answers to what is promised of them.

    smoke_smollm2.py --binary target/debug/infera

`make model-smollm2` must have made the folder. Standard library only. Exits with 1 if a promise is broken.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

from promises import Tally
from service.place import ROOT
from service.process import free_port
from smoke import Network, note, pasted

MODEL = "smollm2-135m-instruct"
ANSWER_MAX_S = 180
THREE = {"asked": 3, "answered": 3, "agreed": 3}
# Sentences of different lengths and scripts, each asked at both temperatures. The last one's prompt has some 700 tokens.
QUESTIONS = (
    "Hello!",
    "Write one sentence about the sea.",
    "Repeat this: Grüße aus Köln, 東京 and 🎉.",
    "Summarise: " + "The nodes answer, the verifier compares, and the ledger keeps what was agreed. " * 40,
)


def chat(url, key, content, temperature):
    """Sends one request; returns the answer, which is empty if there is none, and its time."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "temperature": temperature,
        "max_tokens": 24,
        "verification": {"quorum": 3},
    }
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    began = time.monotonic()
    try:
        request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=ANSWER_MAX_S) as reply:
            return json.load(reply), time.monotonic() - began
    except (OSError, ValueError) as error:
        print(f"smollm2: {content[:40]!r} got no answer: {error}")
        return {}, time.monotonic() - began


def check(promises, what, reply):
    """The answer has a text, and three owners gave the same to the bit."""
    verification = reply.get("verification") or {}
    choices = reply.get("choices") or [{"message": {"content": ""}}]
    promises.hold(f"{what}: there is an answer", choices[0]["message"]["content"].strip(), reply)
    verified = verification.get("status") == "verified" and verification.get("replicas") == THREE
    promises.hold(f"{what}: verified, 3 of 3", verified, verification)
    promises.hold(f"{what}: identical", verification.get("rung") == "identical", verification)


def answers(promises, network, data, port):
    """Asks all questions, and looks at the list of models."""
    url, key = f"http://127.0.0.1:{port}", note(data).get("INFERA_API_KEY")
    check(promises, "the printed request", pasted(network))
    for number, content in enumerate(QUESTIONS):
        for temperature in (0, 0.8):
            reply, took_s = chat(url, key, content, temperature)
            check(promises, f"question {number} at {temperature}", reply)
            said = (reply.get("choices") or [{"message": {"content": ""}}])[0]["message"]["content"]
            used = reply.get("usage") or {}
            print(f"smollm2: {used.get('prompt_tokens')} + {used.get('completion_tokens')} tokens in {took_s:.1f} s: {said!r}")
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=ANSWER_MAX_S) as reply:
        listed = [model["id"] for model in json.load(reply)["data"]]
    promises.hold("the model is listed under its folder's name", MODEL in listed, listed)


def says_what_makes_it(promises, binary):
    """Where the folder isn't there, the command that makes it is named. Any folder without one will do."""
    with tempfile.TemporaryDirectory(prefix="infera-smollm2-") as elsewhere:
        command = [binary, "up", "--model", "smollm2", "--data", f"{elsewhere}/data"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERA_")}
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60, check=False)
    promises.hold("without the folder it names the command", "make model-smollm2" in done.stderr and done.returncode == 2, done)


def main():
    """Starts the network, asks, ends it, and prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/infera")
    binary = str((ROOT / parser.parse_args().binary).resolve())
    promises = Tally("smollm")
    says_what_makes_it(promises, binary)
    with tempfile.TemporaryDirectory(prefix="infera-smollm2-") as folder:
        data, port = os.path.join(folder, "data"), free_port()
        network = Network(binary, data, port, at_terminal=True, options=["--model", "smollm2"])
        try:
            promises.hold("it says that it is ready", network.is_ready, network.welcome)
            if network.is_ready:
                print(f"smollm2: ready after {network.ready_s:.1f} s", flush=True)
                answers(promises, network, data, port)
        finally:
            status = network.end()
        promises.hold("it ends with status 0", status == 0, status)
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
