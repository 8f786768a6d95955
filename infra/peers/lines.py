"""What the benchmark says to an engine in Python, and what it is told: see loadtest/bench/benches/models/piped.rs. It needs the
standard library alone, because each engine has packages of its own.
"""

import json
import queue
import sys
import threading


class Asked:
    """Requests that come on standard input."""

    def __init__(self):
        """Says that the engine is ready, and reads from here on."""
        self.waiting = queue.SimpleQueue()
        threading.Thread(target=self.read, daemon=True).start()
        tell("ready")

    def read(self):
        """Reads until the benchmark ends."""
        for line in sys.stdin:
            self.waiting.put(json.loads(line))
        self.waiting.put(None)

    def take(self, is_idle):
        """Yields the requests that have come; waits for one if there is nothing else to do. Ends the process with the input."""
        while is_idle or not self.waiting.empty():
            asked = self.waiting.get()
            if asked is None:
                sys.exit(0)
            is_idle = False
            yield asked


def tell(*words):
    """Tells of tokens by the numbers of their requests, all in one write."""
    if words:
        sys.stdout.write("".join(f"{word}\n" for word in words))
        sys.stdout.flush()
