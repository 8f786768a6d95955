#!/usr/bin/env python3
"""Submits many jobs in few requests and writes each result as a line of JSON: 10,000 jobs in under 100 requests.

    INFERA_URL=http://127.0.0.1:8710 INFERA_API_KEY=... python3 docs/examples/collect.py --input questions.ndjson --output results.ndjson

Each line of the input is a body of /v1/chat/completions, or its messages' text alone as a JSON string; without an input, sums are
asked for (`--jobs`). Each line of the output is the job object as the gateway sends it: `result` or `error`, and in `metadata`
the `row` of the input. It needs nothing but Python.

It may be stopped at any moment, and the same command goes on where it was. What it has done is in OUTPUT.state, which is written after
each request: bodies that were sent are not sent again but for the last, whose idempotency key makes it the same jobs, and results
are read on from the cursor behind the last page. A page that was written in part is cut off first, so that no result stands twice.
Remove both files to begin again. With `--output -` results go to standard output, and nothing is kept: a run that is stopped is lost.
"""

import argparse
import contextlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

# What one request takes: so many jobs, in a body of 512 KiB, less some for what stands around them.
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


class State:
    """What was done, in a file that is replaced whole, so that it is never half written."""

    def __init__(self, path):
        self.path = path
        self.known = {}
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                self.known = json.loads(path.read_text())

    def keep(self, **changes):
        """Changes what is known, and keeps it."""
        self.known.update(changes)
        if self.path is not None:
            draft = self.path.with_name(self.path.name + ".new")
            with draft.open("w") as file:
                json.dump(self.known, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)


def asked(path, count):
    """Yields what is asked: the lines of a file, or this many sums."""
    if path is None:
        for number in range(count):
            yield {"messages": f"What is {number % 90 + 1} + {number % 7 + 1}?", "max_tokens": 16, "temperature": 0}
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                read = json.loads(line)
                yield {"messages": read} if isinstance(read, str) else read


def jobs(rows, model, run):
    """Yields a job for each row: a body of /v1/chat/completions, and metadata to know it again by."""
    for row, body in enumerate(rows):
        messages = body["messages"]
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        metadata = {**body.get("metadata", {}), "run": run, "row": str(row)}
        yield {"model": model, **body, "messages": messages, "metadata": metadata}


def bodies(all_jobs):
    """Splits jobs into bodies of at most a thousand jobs and half a megabyte."""
    body, size = [], 0
    for one in all_jobs:
        length = len(json.dumps(one)) + 2
        if body and (len(body) == JOBS_MAX or size + length > BODY_MAX_BYTES):
            yield body
            body, size = [], 0
        body.append(one)
        size += length
    if body:
        yield body


def submit(gateway, state, all_jobs):
    """Submits the jobs that weren't before. A body that is sent twice makes the same jobs, by its key."""
    run, sent, wanted = state.known["run"], state.known["sent"], 0
    for number, body in enumerate(bodies(all_jobs)):
        wanted += len(body)
        if number >= sent:
            gateway.ask("POST", "/v1/jobs", {"jobs": body}, {"Idempotency-Key": f"{run}-{number}"})
            state.keep(sent=number + 1)
    return wanted


def collect(gateway, state, wanted, output):
    """Writes the results of the run as its jobs end; others of the account are left out."""
    statuses = state.known["statuses"]
    missing = wanted - sum(statuses.values())
    while missing > 0:
        page = min(PAGE, missing)
        path = f"/v1/jobs/results?after={state.known['cursor']}&limit={PAGE}&min={page}&wait=60"
        headers, lines = gateway.ask("GET", path)
        lines = lines.decode().splitlines()
        for line in lines:
            result = json.loads(line)
            if result.get("metadata", {}).get("run") == state.known["run"]:
                output.write(line.encode() + b"\n")
                statuses[result["status"]] = statuses.get(result["status"], 0) + 1
                missing -= 1
        output.flush()
        if output.seekable():
            os.fsync(output.fileno())
        # Only now: what is kept is behind what is written.
        place = output.tell() if output.seekable() else 0
        state.keep(cursor=headers["x-next-cursor"], statuses=statuses, bytes=place)
        if not lines and headers["x-jobs-live"] == "0":
            sys.exit(f"{missing} results are missing, and no job is left that could end")


def opened(path, written):
    """Opens the output behind what was written whole."""
    if path is None:
        return sys.stdout.buffer
    output = path.open("r+b" if written else "wb")
    output.truncate(written)
    output.seek(written)
    return output


def main():
    """Submits, collects, and says on standard error what it took, as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, help="a file with a question a line, which stays as it is until the end")
    parser.add_argument("--output", default="results.ndjson", help="the file for the results, or - (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=10_000, help="the number of sums without an input (default: %(default)s)")
    parser.add_argument("--model", default="infera-tiny", help="for lines that name none (default: %(default)s)")
    parser.add_argument("--url", default=os.environ.get("INFERA_URL", "http://127.0.0.1:8710"))
    arguments = parser.parse_args()
    gateway = Gateway(arguments.url, os.environ["INFERA_API_KEY"])
    path = None if arguments.output == "-" else Path(arguments.output)
    state = State(path and path.with_name(path.name + ".state"))

    began = time.time()
    if "run" not in state.known:
        # Before the first job, so that no end is missed.
        headers, _ = gateway.ask("GET", "/v1/jobs/results?after=latest")
        state.keep(run=f"run-{began}", cursor=headers["x-next-cursor"], sent=0, statuses={}, bytes=0)
    output = opened(path, state.known["bytes"])
    wanted = submit(gateway, state, jobs(asked(arguments.input, arguments.jobs), arguments.model, state.known["run"]))
    submitted = time.time()
    collect(gateway, state, wanted, output)
    told = {
        "jobs": wanted,
        "requests": gateway.requests,
        "statuses": state.known["statuses"],
        "submitting_s": round(submitted - began, 3),
        "collecting_s": round(time.time() - submitted, 3),
    }
    print(json.dumps(told), file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
