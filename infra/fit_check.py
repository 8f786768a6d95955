#!/usr/bin/env python3
"""Compares `infera model fit` with the growth of a real `infera up` that serves SmolLM2 from one node.

By hand, on Linux, after `make model-smollm2`: infra/fit_check.py --binary target/debug/infera
Each case sends its requests at once. The growth is the process's peak beyond an `infera up` without nodes on the bundled
model. A ratio below 1 is a mistake of fit's; how far above 1 it is depends on how many prompts come together.
"""

import argparse
import json
import re
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

MODEL = "smollm2-135m-instruct"
# Variant, words of the prompt, requests at once.
CASES = [("q4", 200, 16), ("int8", 400, 4), ("model", 1500, 1)]
READY_WITHIN_S = 120


def status_mib(pid: int, name: str) -> int:
    """Returns a line of the process's status, in MiB."""
    found = re.search(name + r":\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) >> 10 if found else 0


def up(binary: str, data: str, arguments: list[str]) -> tuple[subprocess.Popen, dict[str, str]]:
    """Starts `infera up` and returns it with its address and key, once it says that it is ready."""
    command = [binary, "up", "--data", data, "--set", "listen=127.0.0.1:0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        if "Infera" in process.stdout.readline():
            note = Path(data, "local.env").read_text().split()
            return process, dict(line.split("=", 1) for line in note)
    process.kill()
    raise SystemExit(f"{' '.join(command)} isn't ready within {READY_WITHIN_S} s")


def ask(env: dict[str, str], words: int, number: int, tokens: list[int]) -> None:
    """Sends one request and keeps how many tokens prompt and answer had."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"{number} " + "sea " * words}],
        "max_tokens": 24,
        "temperature": 0,
        "verification": {"replicas": 1},
    }
    headers = {"Authorization": f"Bearer {env['INFERA_API_KEY']}", "Content-Type": "application/json"}
    url = env["INFERA_URL"] + "/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=300) as reply:
        tokens.append(json.load(reply)["usage"]["total_tokens"])


def peak(binary: str, variant: str, words: int, requests: int) -> tuple[int, int]:
    """Returns the process's peak in MiB and the tokens of its longest sequence."""
    arguments = ["--model", "smollm2", "--set", "nodes.count=1", "--set", f"engine.variant={variant}"]
    with tempfile.TemporaryDirectory() as data:
        process, env = up(binary, data, arguments)
        try:
            tokens: list[int] = []
            threads = [threading.Thread(target=ask, args=(env, words, n, tokens)) for n in range(requests)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if len(tokens) < requests:
                raise SystemExit(f"{requests - len(tokens)} of {requests} requests were not answered")
            return status_mib(process.pid, "VmHWM"), max(tokens)
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    """Prints a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/debug/infera")
    binary = parser.parse_args().binary
    with tempfile.TemporaryDirectory() as data:
        process, _ = up(binary, data, ["--set", "nodes.count=0"])
        base = status_mib(process.pid, "VmRSS")
        process.terminate()
        process.wait()
    below = False
    for variant, words, requests in CASES:
        mib, context = peak(binary, variant, words, requests)
        load = ["--variant", variant, "--context", str(context), "--batch", str(requests)]
        fit = json.loads(subprocess.check_output([binary, "model", "fit", "smollm2", *load, "--json"]))
        needed = fit["lines"][0]["needed_bytes"] >> 20
        ratio = needed / (mib - base)
        below |= ratio < 1
        print(f"{variant}, {requests} of {context} tokens: grown by {mib - base} MiB, fit says {needed}, ratio {ratio:.2f}")
    if below:
        raise SystemExit("fit says less than was measured")


if __name__ == "__main__":
    main()
