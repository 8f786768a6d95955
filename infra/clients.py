#!/usr/bin/env python3
"""Has clients that people use with OpenAI's API stream from an `infera up` of its own, and holds each to its own unstreamed answer.

    clients.py --binary target/debug/infera --node DIR --litellm PYTHON [--model smollm2|stub]

The bundled model says few words, and so fast that they come in one piece or two. `stub` says sixteen tokens without sense, one in 30 ms.

Run by infra/clients.sh, which installs the clients. Each is a script in infra/clients/: its package's first example, with this network's
address, key and model. Exits with 1 if a promise is broken.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from asking import ANSWER_MAX_S
from promises import Tally
from service.place import ROOT
from service.process import free_port
from smoke import Network, note

FOLDER = ROOT / "infra/clients"
PYTHON_CLIENTS = ("langchain", "pydantic_ai", "agents")
# What a model is served as by its word on the command line.
SERVED = {"infera-tiny": "infera-tiny", "smollm2": "smollm2-135m-instruct", "stub": "infera-tiny"}
OPTIONS = {
    "infera-tiny": [],
    "smollm2": ["--model", "smollm2"],
    "stub": ["--set", "engine.kind=stub", "--set", "engine.stub.prefill_us=30000", "--set", "engine.stub.decode_us=30000"],
}
# Pieces that an answer comes in at least, where the model is slow enough for that to be seen.
PIECES_MIN = {"infera-tiny": 1, "smollm2": 3, "stub": 3}
WITHOUT_PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def said(promises, name, command, environment):
    """Runs a client; returns the lines of JSON that it printed, none if it failed."""
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=ANSWER_MAX_S, check=False)
    promises.hold(f"{name} ends without an error", done.returncode == 0, (done.stdout + done.stderr)[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] if done.returncode == 0 else []


def stream_first_example(promises, name, command, environment, pieces_min):
    """Has one of the Python clients stream its first example."""
    for seen in said(promises, name, command, environment):
        streamed = "".join(seen["pieces"])
        promises.hold(f"{name}: the stream is the answer", streamed != "" and streamed == seen["whole"], seen)
        promises.hold(f"{name}: it comes as it is written", len(seen["pieces"]) >= pieces_min, seen)
        promises.hold(f"{name}: so is what it gathers", seen.get("final", streamed) == streamed, seen)
        promises.hold(f"{name}: the usage is the same", seen["usage"] == seen["whole_usage"], seen)
        print(f"clients: {name}: {len(seen['pieces'])} pieces, {seen['usage']} tokens: {streamed!r}")


def use(promises, arguments, url, key):
    """Runs all clients."""
    kept = {name: value for name, value in os.environ.items() if name not in WITHOUT_PROXIES}
    environment = {**kept, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key, "CLIENTS_MODEL": SERVED[arguments.model],
                   "CLIENTS_NODE": str(Path(arguments.node).resolve())}
    pythons = {**dict.fromkeys(PYTHON_CLIENTS, sys.executable), "litellm": arguments.litellm}
    for name, python in pythons.items():
        command = [python, FOLDER / f"stream_{name}.py"]
        stream_first_example(promises, name, command, environment, PIECES_MIN[arguments.model])
    found = said(promises, "Node", ["node", FOLDER / "stream_node.mjs"], environment)
    for one in found:
        promises.hold(one["promise"], one["kept"], one.get("found"))
    promises.hold("Node: all promises were checked", len(found) == 78, len(found))
    model = ["--model", SERVED[arguments.model]]
    here = {**environment, "INFERA_URL": url, "INFERA_API_KEY": key}
    done = subprocess.run([sys.executable, ROOT / "infra/streams.py", *model], env=here, timeout=2 * ANSWER_MAX_S, check=False)
    promises.hold("OpenAI's client for Python (streams.py, above)", done.returncode == 0, done.returncode)


def main():
    """Starts a network, runs the clients, and prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--node", required=True, help="the folder with OpenAI's package for Node")
    parser.add_argument("--litellm", required=True, help="the Python that has LiteLLM")
    parser.add_argument("--model", choices=SERVED, default="infera-tiny")
    arguments = parser.parse_args()
    promises = Tally("clients")
    with tempfile.TemporaryDirectory(prefix="infera-clients-") as folder:
        data, port = os.path.join(folder, "data"), free_port()
        # Two hundred requests or so are made within a minute or two.
        options = ["--set", "gateway.requests_per_minute=0", *OPTIONS[arguments.model]]
        network = Network(os.path.abspath(arguments.binary), data, port, at_terminal=True, options=options)
        try:
            promises.hold("it says that it is ready", network.is_ready, network.welcome)
            if network.is_ready:
                use(promises, arguments, f"http://127.0.0.1:{port}", note(data).get("INFERA_API_KEY"))
        finally:
            network.end()
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
