"""What scripts share that ask a network of SmolLM2: starting one, and a client of it. Standard library only."""

import concurrent.futures
import json
import os
import tempfile
import time
import urllib.error
import urllib.request

from service.process import free_port
from smoke import Network, note

MODEL = "smollm2-135m-instruct"
# A machine that is busy with other things is slow, and not broken.
ANSWER_MAX_S = 1800
# Requests at once: as many as keep three nodes of two cores busy.
AT_ONCE = 4

# As the official clients do: nodes of a busy machine run out of time now and then.
RETRIES = 2
RETRIED = (408, 409, 429, 500, 502, 503, 504)


class Client:
    """Asks one network under one key."""

    def __init__(self, url, key, replicas):
        """`replicas`: how many nodes answer each request; all of them must agree."""
        self.url, self.key = url, key
        self.verification = {"replicas": replicas, "quorum": replicas}

    def call(self, path, body):
        """Posts JSON and returns the reply's."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers)
        for retries_left in range(RETRIES, -1, -1):
            try:
                with urllib.request.urlopen(request, timeout=ANSWER_MAX_S) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                if retries_left == 0 or error.code not in RETRIED:
                    raise
                time.sleep(float(error.headers.get("Retry-After") or 1))

    def chat(self, messages, temperature, seed, tokens_max):
        """Returns the reply to one request."""
        body = {
            "model": MODEL,
            "messages": messages,
            "temperature": temperature,
            "seed": seed,
            "max_tokens": tokens_max,
            "verification": self.verification,
        }
        return self.call("/v1/chat/completions", body)


def in_turn(work, items):
    """Does `work(index, item)` for all items, some at once; returns what came of each, in order, and the time."""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda one: work(*one), enumerate(items))), time.monotonic() - began


def served(promises, binary, options, replicas, use):
    """Runs a network, and `use` with a client of it."""
    with tempfile.TemporaryDirectory(prefix="infera-asked-") as folder:
        data, port = os.path.join(folder, "data"), free_port()
        network = Network(binary, data, port, at_terminal=True, options=["--model", "smollm2", *options])
        try:
            promises.hold(f"it says that it is ready, with {options}", network.is_ready, network.welcome)
            return use(Client(f"http://127.0.0.1:{port}", note(data).get("INFERA_API_KEY"), replicas)) if network.is_ready else None
        finally:
            network.end()
