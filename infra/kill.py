#!/usr/bin/env python3
"""Submits jobs to `infera up`, kills it with -9 at random moments, and checks what is left with its own eyes.

    kill.py --binary target/release/infera --jobs 2000 --kills 10

Two runs of the same requests, each with a user seed: one undisturbed, one killed. Then every promise is checked from the
client's own log, the ledger's file and the archive's objects, none of it through Infera's code. The seed of the kill
schedule is printed; the same seed gives the same schedule. Exits with 1 if a promise is broken.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import zstandard

ROOT = Path(__file__).resolve().parent.parent
MODEL = "infera-tiny"
# A submit that got no answer (the process was killed under it) is sent again under the same idempotency key.
TRIES_MAX = 400
DRAIN_MAX_S = 600
# A kill waits until so many accepted jobs have not ended.
OPEN_MIN = 8
READY_MAX_S = 60


def free_port():
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Network:
    """One `infera up` on its own data folder, which may be killed and started again."""

    def __init__(self, binary, data, engine_arguments):
        self.binary, self.data, self.port = binary, Path(data), free_port()
        self.arguments = engine_arguments
        self.process = None
        self.log = open(self.data / "infera.log", "ab")
        self.starts = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Starts it and waits until it says that it is ready."""
        command = [self.binary, "up", "--data", str(self.data / "data"), "--set", f"listen=127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command + self.arguments, stdout=self.log, stderr=self.log, cwd=ROOT)
        self.starts += 1
        deadline = time.monotonic() + READY_MAX_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"kill: infera ended by itself with {self.process.returncode}; see {self.log.name}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as reply:
                    if reply.status == 200:
                        return
            except (OSError, urllib.error.URLError):
                time.sleep(0.02)
        sys.exit(f"kill: infera was not ready within {READY_MAX_S} s; see {self.log.name}")

    def kill(self):
        """Ends it without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Asks it to end, and waits."""
        self.process.terminate()
        self.process.wait(timeout=60)

    def key(self):
        """The key for local use, as the file says."""
        lines = (self.data / "data" / "local.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)["INFERA_API_KEY"]

    def call(self, method, path, body=None, headers=None):
        """One request: (status, JSON), or (None, reason) when the connection broke."""
        request = urllib.request.Request(self.url + path, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("api_key", self.key())
        request.add_header("content-type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except (OSError, urllib.error.URLError, ValueError) as error:
            return None, str(error)


def requests(count):
    """The requests of both runs: questions of the model's domain, some sampled, each with its own user seed."""
    rng = random.Random(7)
    made = []
    for index in range(count):
        first, second = rng.randrange(100), rng.randrange(100)
        text = rng.choice([f"What is {first} + {second}?", f"Subtract {second} from {first}.", f"What is {first} plus {second}?"])
        temperature = rng.choice([0, 0, 0.7, 1.0])
        made.append({
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_output": 32,
            "temperature": temperature,
            "seed": index,
        })
    return made


class Client:
    """Submits from several threads and writes down what it was told: the log that the checker believes."""

    def __init__(self, network, bodies, threads, run):
        self.network, self.bodies, self.run = network, bodies, run
        self.next, self.lock = 0, threading.Lock()
        self.accepted = {}
        self.odd = []
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def work(self):
        while True:
            with self.lock:
                index, self.next = self.next, self.next + 1
            if index >= len(self.bodies):
                return
            self.submit(index)

    def submit(self, index):
        headers = {"idempotency-key": f"{self.run}-{index}"}
        for _ in range(TRIES_MAX):
            status, reply = self.network.call("POST", "/submit_job", self.bodies[index], headers)
            if status == 200:
                with self.lock:
                    self.accepted[index] = reply["job_id"]
                return
            if status is not None and status not in (409, 429, 503):
                self.odd.append((index, status, reply))
                return
            time.sleep(0.1)
        self.odd.append((index, "no answer", TRIES_MAX))


def ended(network):
    """How many jobs have ended, by the ledger's own file, read only."""
    try:
        connection = sqlite3.connect(f"file:{network.data}/data/ledger.sqlite?mode=ro", uri=True, timeout=5)
        try:
            return connection.execute("SELECT count(*) FROM settlements").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error:
        return 0


def campaign(network, bodies, kills, seed, run):
    """Submits everything, killing at random moments in between; returns the client when all jobs have ended."""
    rng = random.Random(seed)
    network.start()
    client = Client(network, bodies, 16, run)
    began = time.monotonic()
    client.start()
    # Moments are shares of the work done, so that they fall within it on a fast machine and on a slow one.
    in_flight = []
    moments = sorted(rng.uniform(0.02, 0.95) for _ in range(kills))
    for moment in moments:
        while ended(network) < moment * len(bodies) and time.monotonic() - began < DRAIN_MAX_S:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        # A kill that finds nothing open tries nothing: wait for work, unless all has been submitted.
        while len(client.accepted) - ended(network) < OPEN_MIN and client.next < len(bodies):
            time.sleep(0.001)
        network.kill()
        in_flight.append(len(client.accepted) - ended(network))
        network.start()
    if kills:
        print(f"kill: accepted and not ended at each kill: {in_flight}", flush=True)
    for thread in client.threads:
        thread.join(timeout=DRAIN_MAX_S)
    last, since = -1, time.monotonic()
    while (count := ended(network)) < len(bodies):
        if count != last:
            last, since = count, time.monotonic()
        if time.monotonic() - since > 120:
            print(f"kill: stuck at {count} of {len(bodies)} ended for 120 s", flush=True)
            break
        time.sleep(0.1)
    return client, time.monotonic() - began


def drained(network, count):
    """Waits until every settled job is scored, folded and archived; False if that takes too long."""
    open_work = """SELECT (SELECT count(*) FROM groups WHERE is_closed = 0)
        + (SELECT count(*) FROM settlements) - (SELECT count(*) FROM records WHERE hash IS NOT NULL)
        + (SELECT max(sequence) FROM postings) - (SELECT max(sequence) FROM projected)"""
    deadline = time.monotonic() + DRAIN_MAX_S
    while time.monotonic() < deadline:
        connection = sqlite3.connect(f"file:{network.data}/data/ledger.sqlite?mode=ro", uri=True, timeout=5)
        left = connection.execute(open_work).fetchone()[0]
        connection.close()
        if left == 0 and ended(network) >= count:
            return True
        time.sleep(0.2)
    return False


def rows(connection, statement):
    """A table's rows as a list."""
    return connection.execute(statement).fetchall()


def job_text(raw):
    """A job's id as clients see it, from the bytes in the ledger."""
    return "job_" + bytes(raw).hex()


class Checker:
    """Holds the client's log, the ledger and the archive against each other. Counts breaches by promise."""

    def __init__(self, data, client, is_quiet=False):
        self.data, self.client, self.is_quiet = data, client, is_quiet
        self.breaches = {}
        self.ledger = sqlite3.connect(f"file:{data}/ledger.sqlite?mode=ro", uri=True)
        self.settlements = {
            job_text(job): json.loads(text) for job, text in rows(self.ledger, "SELECT job_id, settlement FROM settlements")
        }
        self.groups = {
            job_text(job): (closed, json.loads(record))
            for job, closed, record in rows(self.ledger, "SELECT job_id, is_closed, record FROM groups")
        }
        self.postings = [
            (name, job_text(job), json.loads(entry))
            for name, job, entry in rows(self.ledger, "SELECT id, job_id, entry FROM postings")
        ]

    def count(self, promise, broken, example=None):
        """Adds breaches of one promise and shows the first."""
        self.breaches[promise] = self.breaches.get(promise, 0) + int(broken)
        if broken and not self.is_quiet and example is not None and self.breaches[promise] == int(broken):
            print(f"  first breach of '{promise}': {example}")

    def ends(self):
        """Accepted means ended, once, with an answer; and nothing ended that was never asked for."""
        accepted = self.client.accepted.values()
        for odd in self.client.odd:
            self.count("submit answered oddly", 1, odd)
        for job in accepted:
            self.count("accepted and never ended", job not in self.settlements, job)
        in_ledger = {job_text(job) for (job,) in rows(self.ledger, "SELECT id FROM jobs")}
        self.count("jobs that nobody submitted", len(in_ledger - set(accepted)))
        self.count("one key, two jobs", len(self.client.accepted) - len(set(accepted)))
        for job, settlement in self.settlements.items():
            end = settlement["end"]
            word = end["status"] if end["status"] != "failed" else end["reason"]
            self.count("ended otherwise than succeeded", word != "succeeded", (job, word))

    def postings_complete(self):
        """Each job's usage once and right; one verdict for each assignment of each group; balances are their sums."""
        names = [name for name, _, _ in self.postings]
        self.count("posted twice", len(names) - len(set(names)))
        posted = {name: entry for name, _, entry in self.postings}
        owed = set()
        for job, settlement in self.settlements.items():
            if settlement["end"]["status"] != "succeeded":
                continue
            answer = settlement["end"]["answer"]
            owed.add(f"usage:{job}")
            entry = posted.get(f"usage:{job}")
            right = entry and (entry["prompt_tokens"], entry["completion_tokens"]) == (answer["prompt_tokens"], len(answer["tokens"]))
            self.count("usage owed and not posted, or wrong", not right, job)
        # One VALID for each node of a job: who has it from another assignment of that job is judged.
        valid = {(job, entry["node"]) for _, job, entry in self.postings if entry.get("verdict") == "valid"}
        for job, (closed, record) in self.groups.items():
            self.count("groups never closed", not closed, job)
            for assignment in record["assignments"]:
                name = f"verdict:{assignment['id']}"
                owed.add(name)
                self.count("verdict owed and not posted", name not in posted and (job, assignment["node"]) not in valid, (job, assignment["state"]))
        self.count("posted and not owed", len(set(posted) - owed), next(iter(set(posted) - owed), None))
        paid = [entry for entry in posted.values() if entry["kind"] == "verdict" and entry["verdict"] == "valid"]
        self.count("valid work that earned nothing", sum(entry["millipoints"] <= 0 for entry in paid))
        self.balances()

    def balances(self):
        """Balances, folded anew from the postings."""
        expected = {}
        for _, _, entry in self.postings:
            subject = entry.get("account") or entry.get("node")
            total = expected.setdefault(subject, [0, 0])
            total[0] += entry.get("millipoints", 0)
            total[1] += 1
        found = {s: [points, count] for s, points, count in rows(self.ledger, "SELECT subject, millipoints, postings FROM balances")}
        self.count("balances that don't follow from the postings", expected != found, (len(expected), len(found)))

    def groups_sound(self):
        """Three nodes of three owners; at least a quorum of owners answered; nobody honest was called a liar."""
        for job, (_, record) in self.groups.items():
            asked = [a for a in record["assignments"] if a["state"] != "neutral"]
            self.count("a node twice in a group", len({a["node"] for a in asked}) != len(asked), job)
            self.count("an owner twice in a group", len({a["owner"] for a in asked}) != len(asked), job)
            answered = {a["owner"] for a in asked if a["state"] == "answered"}
            self.count("settled with fewer than two owners", len(answered) < 2, job)
        invalid = [e for _, _, e in self.postings if e.get("verdict") == "invalid"]
        self.count("honest work judged invalid", len(invalid))
        self.count("disputes among honest nodes", len(rows(self.ledger, "SELECT job_id FROM disputes")))

    def archive(self):
        """One record per settled job, at the place and with the hash that the ledger names, saying what it says."""
        segments = dict(rows(self.ledger, "SELECT id, object_key FROM segments WHERE object_key IS NOT NULL"))
        folder = self.data / "archive"
        objects = {str(path.relative_to(folder)) for path in folder.rglob("*.zst")}
        self.count("objects that the ledger doesn't know", len(objects - set(segments.values())))
        seen = set()
        places = rows(self.ledger, "SELECT job_id, segment, frame_offset, frame_length, line, hash FROM records")
        for raw, segment, offset, length, line, digest in places:
            job = job_text(raw)
            if segment not in segments or digest is None:
                self.count("archive record missing", 1, job)
                continue
            data = (folder / segments[segment]).read_bytes()[offset : offset + length]
            try:
                text = zstandard.ZstdDecompressor().decompressobj().decompress(data).split(b"\n")[line]
            except (zstandard.ZstdError, IndexError):
                text = b"{}"
            record = json.loads(text)
            same = hashlib.sha256(text).digest() == bytes(digest) and record.get("job_id") == job
            ends_same = same and record["settlement"]["end"] == self.settlements.get(job, {}).get("end")
            self.count("archive record different", not ends_same, job)
            seen.add(job)
        self.count("archive record missing", len(set(self.settlements) - seen))

    def tokens(self):
        """The tokens of each request's answer, by the request's number."""
        ends = {index: self.settlements.get(job, {}).get("end", {}) for index, job in self.client.accepted.items()}
        return {index: end.get("answer", {}).get("tokens") for index, end in ends.items()}

    def all(self):
        """Every check; returns the answers' tokens."""
        self.ends()
        self.postings_complete()
        self.groups_sound()
        self.archive()
        return self.tokens()


# What the checker must notice: a change to a finished run's ledger, and the promise that it breaks.
SABOTAGES = [
    ("accepted and never ended", "DELETE FROM settlements WHERE rowid = 1"),
    ("jobs that nobody submitted", "UPDATE jobs SET id = randomblob(16) WHERE rowid = 1"),
    ("ended otherwise than succeeded", "UPDATE settlements SET settlement = json_set(settlement, '$.end.status', 'expired') WHERE rowid = 1"),
    ("usage owed and not posted, or wrong", "DELETE FROM postings WHERE sequence = (SELECT min(sequence) FROM postings WHERE id LIKE 'usage:%')"),
    ("verdict owed and not posted", "DELETE FROM postings WHERE sequence = (SELECT min(sequence) FROM postings WHERE id LIKE 'verdict:%')"),
    ("posted and not owed", "UPDATE postings SET id = 'verdict:other' WHERE sequence = (SELECT min(sequence) FROM postings WHERE id LIKE 'verdict:%')"),
    ("balances that don't follow from the postings", "UPDATE balances SET millipoints = millipoints + 1 WHERE rowid = 1"),
    ("groups never closed", "UPDATE groups SET is_closed = 0 WHERE rowid = 1"),
    ("an owner twice in a group", "UPDATE groups SET record = json_set(CAST(record AS TEXT), '$.assignments[0].owner', json_extract(CAST(record AS TEXT), '$.assignments[1].owner')) WHERE rowid = 1"),
    ("archive record missing", "DELETE FROM records WHERE rowid = 1"),
    ("archive record different", "UPDATE records SET hash = randomblob(32) WHERE rowid = 1"),
    ("archive record different", "UPDATE settlements SET settlement = json_set(settlement, '$.end.answer.tokens[0]', 0) WHERE rowid = 1"),
]


def sabotaged(data, client):
    """Tries the checker on copies of a finished run with one change each; returns the changes that it missed."""
    missed = []
    for promise, change in SABOTAGES:
        with tempfile.TemporaryDirectory(prefix="infera-sabotage-") as folder:
            copy = Path(folder) / "data"
            shutil.copytree(data, copy)
            connection = sqlite3.connect(copy / "ledger.sqlite")
            with connection:
                changed = connection.execute(change).rowcount
            connection.close()
            checker = Checker(copy, client, is_quiet=True)
            checker.all()
            checker.ledger.close()
            if changed != 1 or not checker.breaches.get(promise):
                missed.append((promise, change))
    return missed


def main():
    """Both runs, the table, and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/infera"))
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--set", action="append", default=[], help="passed on to infera up")
    options = parser.parse_args()
    # Limits are for strangers; archiving at once lets the run end sooner; two slots a node keep a queue, so that kills
    # find jobs in every state. None of it changes what is checked.
    settings = ["worker.slots=2", "gateway.requests_per_minute=0", "gateway.waiting_max=1000000", "verifier.archive_ms=500", "verifier.archive_wait_ms=500", "verifier.archive_retry_ms=2000"] + options.set
    arguments = [word for setting in settings for word in ("--set", setting)]
    bodies = requests(options.jobs)
    tokens, breaches = [], {}
    print(f"kill: {options.jobs} jobs, {options.kills} kills, schedule seed {options.seed}", flush=True)
    for run, kills in (("undisturbed", 0), ("killed", options.kills)):
        with tempfile.TemporaryDirectory(prefix="infera-kill-") as data:
            network = Network(options.binary, data, arguments)
            try:
                client, seconds = campaign(network, bodies, kills, options.seed, run)
                is_drained = drained(network, len(bodies))
                checker = Checker(network.data / "data", client)
                checker.count("work left over after the drain", not is_drained)
                tokens.append(checker.all())
                if kills == 0:
                    network.stop()
                    missed = sabotaged(network.data / "data", client)
                    checker.count("changes that the checker missed", len(missed), missed)
            finally:
                if network.process and network.process.poll() is None:
                    network.stop()
            checked = f"{len(client.accepted)} accepted, {len(checker.settlements)} ended, {len(checker.postings)} postings"
            print(f"kill: {run}: {checked}, {network.starts} starts, {seconds:.0f} s", flush=True)
            for promise, count in checker.breaches.items():
                breaches[promise] = breaches.get(promise, 0) + count
    breaches["tokens differ from the undisturbed run"] = sum(tokens[0].get(i) != tokens[1].get(i) for i in range(options.jobs))
    width = max(map(len, breaches))
    for promise, count in breaches.items():
        print(f"  {promise:<{width}}  {count}")
    print(f"kill: with 0 breaches in {options.jobs} jobs, at most {3 / options.jobs:.2%} of jobs break one (rule of three, 95 %);")
    print(f"kill: with 0 in {options.kills} kills, at most {min(1, 3 / max(options.kills, 1)):.0%} of kills do.")
    failed = sum(count > 0 for count in breaches.values())
    print(f"kill: {len(breaches) - failed} promises kept, {failed} broken")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
