#!/usr/bin/env python3
"""Measures what one account's backlog does to another account's chats: `python3 loadtest/fairness.py`.

Two accounts of the target that `make load` would take: the target's own key submits a backlog of jobs, and a fresh account,
signed up for the run, asks one-token chats at a fixed rate, one connection, first while nothing else runs and then while the
backlog waits. Printed as one line of JSON: both distributions, the backlog's jobs a second, the median time of a chat as long as
one of the backlog's jobs, idle and beside it, and the ratio of the busy p99 to its bound: twice the idle p99 and the time of one
job, once the idle time and once that beside the backlog. Exits with 1 if a request failed.
"""

import argparse
import http.client
import json
import statistics
import sys
import threading
import time
from urllib.parse import urlsplit

from target import Trouble, find

# The rate stays below the default of 600 requests a minute.
CHATS_PER_S = 8
JOBS_PER_BODY = 1_000
# The jobs ask for as many tokens as those of `make bench`.
JOB_TOKENS = 16
CHATS_WARM = 40
WAIT_MAX_S = 60


class Line:
    """One connection that is kept, to one gateway, with one account's key."""

    def __init__(self, url, key=None):
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=WAIT_MAX_S + 10)
        self.headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}

    def ask(self, method, path, body=None):
        """Returns a reply's headers and text; stops the run if it isn't a 200."""
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, self.headers)
        reply = self.connection.getresponse()
        text = reply.read().decode()
        if reply.status not in (200, 202):
            sys.exit(f"fairness: {method} {path}: {reply.status} {text}")
        return reply.headers, text


def body(model, number, tokens):
    """A request of /v1/chat/completions whose text is its own."""
    question = f"What is {number % 90 + 1} + {number // 90 % 90 + 1}?"
    return {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": tokens, "temperature": 0}


def chats(line, model, count, tokens=1):
    """Asks chats at the rate, one after the other; returns each one's milliseconds."""
    taken, begun = [], time.monotonic()
    for number in range(count):
        due = begun + number / CHATS_PER_S
        time.sleep(max(0, due - time.monotonic()))
        sent = time.monotonic()
        line.ask("POST", "/v1/chat/completions", body(model, number, tokens))
        taken.append((time.monotonic() - sent) * 1_000)
    return taken


def quantiles(taken):
    """Median, 99th percentile and worst of the times, in milliseconds."""
    ordered = sorted(taken)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return {"p50_ms": round(statistics.median(ordered), 2), "p99_ms": round(p99, 2), "worst_ms": round(ordered[-1], 2)}


class Backlog(threading.Thread):
    """Submits the jobs and collects their results, and keeps when each page of them had ended."""

    def __init__(self, url, key, model, count):
        super().__init__(daemon=True)
        self.line, self.model, self.count = Line(url, key), model, count
        headers, _ = self.line.ask("GET", "/v1/jobs/results?after=latest")
        self.cursor = headers["x-next-cursor"]
        self.ended, self.pages, self.waits = 0, [], threading.Event()

    def submit(self):
        """Submits all jobs."""
        for first in range(0, self.count, JOBS_PER_BODY):
            jobs = [body(self.model, number, JOB_TOKENS) for number in range(first, min(first + JOBS_PER_BODY, self.count))]
            self.line.ask("POST", "/v1/jobs", {"jobs": jobs})

    def run(self):
        """Collects until every job has ended."""
        while self.ended < self.count:
            least = min(JOBS_PER_BODY, self.count - self.ended)
            path = f"/v1/jobs/results?after={self.cursor}&limit={JOBS_PER_BODY}&min={least}&wait={WAIT_MAX_S}"
            headers, lines = self.line.ask("GET", path)
            self.cursor = headers["x-next-cursor"]
            self.ended += len(lines.splitlines())
            self.pages.append((time.monotonic(), self.ended))

    def rate(self):
        """Jobs a second between the first page of results and the last."""
        (begun, first), (over, last) = self.pages[0], self.pages[-1]
        return (last - first) / (over - begun)


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--chats", type=int, default=300, help="in each phase; 300 take 38 s")
    parser.add_argument("--model", default="infera-tiny")
    arguments = parser.parse_args()
    try:
        target = find()
    except Trouble as trouble:
        sys.exit(f"fairness: {trouble}")
    url = target.urls[0]
    _, signed = Line(url).ask("POST", "/signup_user", {"email": f"fairness-{time.time_ns()}@example.com"})
    chatter = Line(url, json.loads(signed)["api_key"])

    chats(chatter, arguments.model, CHATS_WARM)
    idle = chats(chatter, arguments.model, arguments.chats)
    one_job_ms = statistics.median(chats(chatter, arguments.model, CHATS_WARM, JOB_TOKENS))

    backlog = Backlog(target.urls[-1], target.key, arguments.model, arguments.jobs)
    backlog.submit()
    backlog.start()
    busy = []
    beside_ms = []
    while len(busy) < arguments.chats and backlog.ended < arguments.jobs * 9 // 10:
        busy += chats(chatter, arguments.model, CHATS_PER_S)
        beside_ms += chats(chatter, arguments.model, 1, JOB_TOKENS)
    left = arguments.jobs - backlog.ended
    backlog.join()

    bound_ms = 2 * quantiles(idle)["p99_ms"] + one_job_ms
    bound_beside_ms = 2 * quantiles(idle)["p99_ms"] + statistics.median(beside_ms)
    told = {
        "target": target.name,
        "jobs": arguments.jobs,
        "jobs_per_s": round(backlog.rate(), 1),
        "chats_beside": len(busy),
        "jobs_left_then": left,
        "idle": quantiles(idle),
        "beside": quantiles(busy),
        "one_job_ms": round(one_job_ms, 2),
        "one_job_beside_ms": round(statistics.median(beside_ms), 2),
        "p99_to_bound": round(quantiles(busy)["p99_ms"] / bound_ms, 2),
        "p99_to_bound_beside": round(quantiles(busy)["p99_ms"] / bound_beside_ms, 2),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
