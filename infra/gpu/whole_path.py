#!/usr/bin/env python3
"""Serves a model from three nodes on a device, as `infera up` does, and holds the answer to a question to what is promised.

    whole_path.py --binary target/release/infera --model FOLDER --variant fp16 --library FILE --device cuda

Standard library only. Exits with 1 if a promise is broken.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from promises import Tally  # noqa: E402
from service.process import free_port  # noqa: E402
from smoke import Network, check_answer, pasted  # noqa: E402


def main():
    """Starts the network, pastes the request that it prints, and ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--binary", "--model", "--variant", "--library", "--device"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    settings = {"variant": options.variant, "library": options.library, "self_check": "on", "batch_buckets": "[16]"}
    words = ["--model", options.model, "--device", options.device]
    for name, value in settings.items():
        words += ["--set", f"engine.{name}={value}"]
    promises = Tally("whole path")
    with tempfile.TemporaryDirectory(prefix="infera-gpu-") as folder:
        network = Network(str(Path(options.binary).resolve()), f"{folder}/data", free_port(), at_terminal=True, options=words)
        try:
            promises.hold("it says that it is ready", network.is_ready, network.welcome)
            if network.is_ready:
                began = time.monotonic()
                reply = pasted(network)
                check_answer(promises, options.device, reply)
                took_s = time.monotonic() - began
                print(f"whole path: ready after {network.ready_s:.1f} s, answered in {took_s:.2f} s", flush=True)
                print(f"whole path: {json.dumps(reply.get('verification'))}", flush=True)
        finally:
            status = network.end()
        promises.hold("SIGINT ends it with status 0", status == 0, status)
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
