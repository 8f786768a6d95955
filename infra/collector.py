"""Collects the results of an account's jobs while a campaign breaks the network: pages by cursor, each at the next gateway.

Each line of a page is written to the load's log as `collected`, with the job and its end. A page that can't be had, or breaks off,
is asked for again from the same cursor at the next gateway. Standard library only.
"""

import asyncio
import json
import threading
import time

from client import ATTEMPT_S, WAIT_S, exchange

PAGE = 500
# Shorter than an attempt's patience, so that a page at the end comes empty and the cursor is used again.
HOLD_S = 5
BEGIN_MAX_S = 60


class Collector:
    """Reads on, in a thread of its own, until `finish`."""

    def __init__(self, account, history):
        self.account, self.history = account, history
        self.collected, self.pages, self.tries = 0, 0, 0
        self.wanted, self.until = None, None
        self.begun = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.read()), name="collector", daemon=True)

    def start(self):
        """Begins with the ends after this moment; returns when a gateway has told where that is."""
        self.thread.start()
        if not self.begun.wait(BEGIN_MAX_S):
            raise TimeoutError(f"no gateway told for {BEGIN_MAX_S} s where the results begin")

    def finish(self, wanted, patience_s):
        """Reads on until this many ends were collected, at most for this time."""
        self.wanted, self.until = wanted, time.monotonic() + patience_s
        self.thread.join(timeout=patience_s + 2 * ATTEMPT_S)

    def is_over(self):
        """Whether everything was collected, or the time for it is up."""
        return self.wanted is not None and (self.collected >= self.wanted or time.monotonic() > self.until)

    async def read(self):
        """Reads page after page."""
        cursor = "latest"
        while not self.is_over():
            page = await self.page(cursor)
            if page is None:
                await asyncio.sleep(WAIT_S)
                continue
            cursor, lines = page
            self.begun.set()
            for line in lines:
                self.history.write(phase="collected", job=line["id"], end=line["status"])
            self.collected += len(lines)
            self.pages += 1

    async def page(self, cursor):
        """Returns the next cursor and a page's lines, or None if no whole page came."""
        gateway = self.tries % len(self.account.urls)
        self.tries += 1
        hold = 0 if cursor == "latest" else HOLD_S
        url = f"{self.account.urls[gateway]}/v1/jobs/results?after={cursor}&limit={PAGE}&wait={hold}"
        try:
            answer = await asyncio.wait_for(exchange("GET", url, self.account.credentials), ATTEMPT_S)
            if answer.status != 200:
                return None
            return answer.headers["x-next-cursor"], [json.loads(line) for line in answer.text.splitlines()]
        except (OSError, asyncio.TimeoutError, ValueError):
            return None
