#!/usr/bin/env python3
"""Submits many jobs and collects all of their results in few requests: 10,000 jobs in under 100.

    INFERA_URL=http://127.0.0.1:8710 INFERA_API_KEY=... python3 docs/examples/collect.py --jobs 10000

Jobs go out up to a thousand a request, each body under the gateway's bound of 512 KiB. Results come back as JSON lines, in the
order in which jobs end, a page at a time; `x-next-cursor` says where to go on. It needs nothing but Python, and stops and goes on
as it is told: a request that fails is sent again under its idempotency key, a page is read again from its cursor.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request

JOBS_MAX = 1_000
BODY_MAX_BYTES = 512 * 1024 - 4_096
PAGE = 1_000
TRIES = 8


class Gateway:
    """Sends requests and counts them."""

    def __init__(self, url, key):
        self.url = url.rstrip("/")
        self.key = key
        self.requests = 0

    def ask(self, method, path, body=None, headers=None):
        """Returns a reply's headers and bytes. A busy or broken gateway is asked again after the time that it names."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **(headers or {})}
        for attempt in range(TRIES):
            request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
            self.requests += 1
            try:
                with urllib.request.urlopen(request, timeout=90) as reply:
                    return reply.headers, reply.read()
            except urllib.error.HTTPError as error:
                text = error.read().decode(errors="replace")
                if error.code not in (429, 500, 502, 503, 504) or attempt + 1 == TRIES:
                    sys.exit(f"{method} {path}: {error.code} {text}")
                time.sleep(float(error.headers.get("retry-after-ms") or 1_000) / 1_000)
            except OSError as error:
                if attempt + 1 == TRIES:
                    sys.exit(f"{method} {path}: {error}")
                time.sleep(1)
        raise AssertionError("unreachable")


def job(model, number):
    """One job: a body of /v1/chat/completions, and metadata to know it again by."""
    question = f"What is {number % 90 + 1} + {number % 7 + 1}?"
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 16,
        "temperature": 0,
        "metadata": {"row": str(number)},
    }


def bodies(jobs):
    """Splits jobs into bodies of at most a thousand jobs and half a megabyte."""
    body, size = [], 0
    for one in jobs:
        length = len(json.dumps(one)) + 2
        if body and (len(body) == JOBS_MAX or size + length > BODY_MAX_BYTES):
            yield body
            body, size = [], 0
        body.append(one)
        size += length
    if body:
        yield body


def submit(gateway, jobs, run):
    """Submits all jobs and returns their ids. The key makes a body that is sent twice the same jobs."""
    ids = []
    for number, body in enumerate(bodies(jobs)):
        headers = {"Idempotency-Key": f"{run}-{number}"}
        _, reply = gateway.ask("POST", "/v1/jobs", {"jobs": body}, headers)
        ids += [accepted["id"] for accepted in json.loads(reply)["data"]]
    return ids


def collect(gateway, cursor, wanted):
    """Yields the results of the wanted jobs as they end, others of the account left out."""
    missing = set(wanted)
    while missing:
        page = min(PAGE, len(missing))
        headers, lines = gateway.ask("GET", f"/v1/jobs/results?after={cursor}&limit={PAGE}&min={page}&wait=60")
        cursor = headers["x-next-cursor"]
        for line in lines.decode().splitlines():
            result = json.loads(line)
            if result["id"] in missing:
                missing.remove(result["id"])
                yield result


def main():
    """Submits, collects, and prints what it took as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--model", default="infera-tiny")
    parser.add_argument("--url", default=os.environ.get("INFERA_URL", "http://127.0.0.1:8710"))
    arguments = parser.parse_args()
    gateway = Gateway(arguments.url, os.environ["INFERA_API_KEY"])

    began = time.time()
    headers, _ = gateway.ask("GET", "/v1/jobs/results?after=latest")
    ids = submit(gateway, (job(arguments.model, number) for number in range(arguments.jobs)), f"run-{began}")
    submitted = time.time()
    statuses, rows = {}, set()
    for result in collect(gateway, headers["x-next-cursor"], ids):
        statuses[result["status"]] = statuses.get(result["status"], 0) + 1
        rows.add(int(result["metadata"]["row"]))
    if rows != set(range(arguments.jobs)):
        sys.exit(f"{arguments.jobs - len(rows)} rows are missing")
    told = {
        "jobs": len(ids),
        "requests": gateway.requests,
        "statuses": statuses,
        "submitting_s": round(submitted - began, 3),
        "collecting_s": round(time.time() - submitted, 3),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
