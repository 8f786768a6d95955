"""The HTTP client of every check in infra: one request, one account's requests, and a load of jobs with a log.

A load offers jobs at a fixed rate, whatever becomes of earlier ones (an open model), or a given number with a bound on how
many are under way at once (a closed model). It logs each request when it is sent and when its outcome is known, one line of
JSON each:

    invoke   sent
    ok       accepted; the job's id
    fail     refused: an answer that isn't 200, or no listener. After a 503 the job may still exist.
    info     unknown: the connection broke, or no answer came in time

An outcome other than `ok` is tried again under the same idempotency key at the next gateway, within bounds. One job in
twenty is sent to all gateways at once. Standard library only.
"""

import asyncio
import http.client
import io
import json
import random
import threading
import time
from urllib.parse import urlsplit

# A synchronous chat may wait for its group to come up.
PATIENCE_S = 30
# Far beyond any answer of the programs, of which the largest is a model list of a few KiB.
ANSWER_MAX_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 64 * 1024
# How often a job is looked at whose end is waited for.
LOOK_S = 0.1

# Longer than a gateway waits for its ledger.
ATTEMPT_S = 20
# A client gives a job up after this time, or this number of tries.
PATIENCE_OF_JOB_S = 120
TRIES_MAX = 60
WAIT_S, WAIT_MAX_S = 0.25, 2.0
# A longer Retry-After is not obeyed, so that a campaign ends.
RETRY_AFTER_MAX_S = 5.0
# Beyond this the load is a mistake of ours: further requests are not sent, and counted.
AT_ONCE_MAX = 3_000
TWIN_EVERY = 20


class Answer:
    """One reply. Its status is 0 if none came, and its text is then the reason."""

    def __init__(self, status, text, headers=None):
        self.status, self.text, self.headers = status, text, headers or {}

    def json(self):
        """The body, which must be JSON."""
        return json.loads(self.text)


class Received:
    """Bytes that were read from a connection, in the shape of the socket that `http.client` reads."""

    def __init__(self, raw):
        self.raw = raw

    def makefile(self, _mode):
        """Opens them for reading."""
        return io.BytesIO(self.raw)


def parsed(method, raw):
    """Reads a whole reply; ConnectionError if it broke off."""
    response = http.client.HTTPResponse(Received(raw), method=method)
    try:
        response.begin()
        content = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"the answer broke off: {error!r}") from error
    if b"\r\n\r\n" not in raw:
        raise ConnectionError("the answer broke off in its head")
    return Answer(response.status, content.decode(errors="replace"), response.headers)


async def exchange(method, url, headers, body=None):
    """Sends one request, over plain HTTP on a connection of its own, past any proxy. OSError where no whole answer comes.

    `body`: bytes, or a value that is sent as JSON.
    """
    parts = urlsplit(url)
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields = {"host": parts.netloc, "connection": "close", "content-type": "application/json"}
    fields.update({"content-length": str(len(data)), **headers})
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())])
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        writer.write(head.encode() + b"\r\n\r\n" + data)
        await writer.drain()
        raw = bytearray()
        while piece := await reader.read(PIECE_BYTES):
            raw += piece
            if len(raw) > ANSWER_MAX_BYTES:
                raise ConnectionError(f"the answer has more than {ANSWER_MAX_BYTES} bytes")
    finally:
        writer.transport.abort()
    return parsed(method, bytes(raw))


def bearer(key):
    """The header that shows an API key as OpenAI's clients do."""
    return {"authorization": f"Bearer {key}"}


def api_key(key):
    """The header that shows an API key as the network's own clients do."""
    return {"api_key": key}


def send(method, url, headers, body=None, patience_s=PATIENCE_S):
    """Sends one request and waits for the answer, whose status is 0 if none comes in time."""
    try:
        return asyncio.run(asyncio.wait_for(exchange(method, url, headers, body), patience_s))
    # Until Python 3.10 asyncio's TimeoutError is not an OSError.
    except (OSError, asyncio.TimeoutError) as error:
        return Answer(0, f"{type(error).__name__}: {error}")


def ask(url, body=None, key=None, patience_s=PATIENCE_S):
    """Sends a GET, or a POST of a JSON body, with an API key if there is one."""
    return send("GET" if body is None else "POST", url, bearer(key) if key else {}, body, patience_s)


class Account:
    """One account at one or more gateways, by its credentials (`bearer` or `api_key`)."""

    def __init__(self, urls, credentials, model="infera-tiny"):
        self.urls, self.credentials, self.model = list(urls), credentials, model

    def send(self, gateway, method, path, body=None, headers=None, patience_s=PATIENCE_S):
        """Sends one request to the gateway with this number."""
        return send(method, self.urls[gateway] + path, {**self.credentials, **(headers or {})}, body, patience_s)

    def end(self, gateway, job, patience_s):
        """Waits for a job's end; returns the last answer about it, as this gateway gives it."""
        until = time.monotonic() + patience_s
        while True:
            answer = self.send(gateway, "GET", f"/v1/jobs/{job}")
            if answer.status != 200 or answer.json()["status"] not in ("queued", "running") or time.monotonic() > until:
                return answer
            time.sleep(LOOK_S)


def question(model, index):
    """The request with this number. The number is its seed, so that the ledger's rows can be told apart."""
    rng = random.Random(index)
    first, second = rng.randrange(100), rng.randrange(100)
    text = rng.choice([f"What is {first} + {second}?", f"Subtract {second} from {first}.", f"What is {first} plus {second}?"])
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_output": 32,
        "temperature": rng.choice([0, 0, 0.7, 1.0]),
        "seed": index,
    }


class History:
    """The log of a load, as a file."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()

    def write(self, **line):
        """Writes one line; `t` is the moment in milliseconds."""
        with self.lock:
            self.file.write(json.dumps({"t": round(time.time() * 1000), **line}) + "\n")

    def close(self):
        """Writes all of it out."""
        with self.lock:
            self.file.close()


class Load:
    """Offers an account's jobs, on an event loop in a thread of its own."""

    def __init__(self, account, history, run):
        """`run`: the beginning of each idempotency key."""
        self.account, self.history, self.run = account, history, run
        self.offered, self.dropped, self.at_once = 0, 0, 0
        self.jobs = {}
        self.stopped = threading.Event()
        self.thread = None

    @property
    def accepted(self):
        """The number of requests that were accepted."""
        return len(self.jobs)

    def start(self, rate):
        """Begins to offer jobs at a rate per second, until `stop`."""
        self.begin(self.offer(rate))

    def start_closed(self, jobs, at_once):
        """Begins to offer a number of jobs, each as soon as one of the earlier is accepted or given up."""
        self.begin(self.offer_all(jobs, at_once))

    def begin(self, work):
        """Runs the work in a thread."""
        self.thread = threading.Thread(target=lambda: asyncio.run(work), name="load", daemon=True)
        self.thread.start()

    def stop(self):
        """Offers nothing more, and waits for what is under way."""
        self.stopped.set()
        self.thread.join(timeout=PATIENCE_OF_JOB_S + 2 * ATTEMPT_S)

    def wait(self, patience_s):
        """Waits until all jobs of a closed load were accepted or given up."""
        self.thread.join(timeout=patience_s)

    async def offer(self, rate):
        """Offers one job every 1/rate seconds from the first on; a late one is sent at once."""
        began = time.monotonic()
        tasks = set()
        while not self.stopped.is_set():
            wait = began + self.offered / rate - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            index, self.offered = self.offered, self.offered + 1
            if self.at_once >= AT_ONCE_MAX:
                self.dropped += 1
                continue
            task = asyncio.ensure_future(self.submit(index))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def offer_all(self, jobs, at_once):
        """Offers this number of jobs, until `stop`."""
        numbers = iter(range(jobs))

        async def work():
            for index in numbers:
                if self.stopped.is_set():
                    return
                self.offered += 1
                await self.submit(index)

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def submit(self, index):
        """Submits one job until it is accepted or given up."""
        self.at_once += 1
        gateways = len(self.account.urls)
        rng = random.Random(f"{self.run}-{index}")
        first = rng.randrange(gateways)
        began = time.monotonic()
        try:
            for attempt in range(TRIES_MAX):
                twins = [(first + attempt) % gateways]
                if attempt == 0 and index % TWIN_EVERY == 0:
                    twins = range(gateways)
                outcomes = await asyncio.gather(*(self.attempt(index, attempt, one) for one in twins))
                if any(job for job, _ in outcomes):
                    return
                asked = max(wait for _, wait in outcomes)
                wait = max(asked, min(WAIT_S * 2**attempt, WAIT_MAX_S) * rng.uniform(0.5, 1.0))
                if time.monotonic() - began + wait > PATIENCE_OF_JOB_S:
                    break
                await asyncio.sleep(wait)
            self.history.write(phase="given up", index=index)
        finally:
            self.at_once -= 1

    async def attempt(self, index, attempt, gateway):
        """Tries one gateway once; returns the job's id if it was accepted, and how long we were asked to wait."""
        about = {"index": index, "attempt": attempt, "gateway": gateway}
        self.history.write(phase="invoke", **about)
        headers = {**self.account.credentials, "idempotency-key": f"{self.run}-{index}"}
        asked = exchange("POST", f"{self.account.urls[gateway]}/submit_job", headers, question(self.account.model, index))
        answer = None
        try:
            answer = await asyncio.wait_for(asked, ATTEMPT_S)
            job = answer.json()["job_id"] if answer.status == 200 else None
        except ConnectionRefusedError:
            self.history.write(phase="fail", reason="refused", **about)
            return None, 0.0
        except (OSError, asyncio.TimeoutError) as error:
            self.history.write(phase="info", reason=f"{type(error).__name__}: {error}", **about)
            return None, 0.0
        except (ValueError, KeyError, TypeError) as error:
            if answer is None:
                self.history.write(phase="info", reason=f"{type(error).__name__}: {error}", **about)
                return None, 0.0
            job = None  # a 200 that names no job: written down as a refusal, which a 200 must not be
        if job is not None:
            self.jobs[index] = job
            self.history.write(phase="ok", job=job, **about)
            return job, 0.0
        after = answer.headers.get("retry-after")
        self.history.write(phase="fail", status=answer.status, retry_after=after, body=answer.text[:200], **about)
        wait = float(after) if after and after.isdigit() else 0.0
        return None, min(wait, RETRY_AFTER_MAX_S)


def read_ends(load, at_once=16):
    """Asks the gateways in turn how each accepted job ended, and logs the answers."""
    account = load.account

    async def read_end(gateway, job):
        try:
            answer = await asyncio.wait_for(exchange("GET", f"{account.urls[gateway]}/v1/jobs/{job}", account.credentials), ATTEMPT_S)
            return answer.json()["status"] if answer.status == 200 else f"HTTP {answer.status}"
        except (OSError, asyncio.TimeoutError, ValueError, KeyError, TypeError) as error:
            return f"{type(error).__name__}: {error}"

    async def all_of_them():
        places = asyncio.Semaphore(at_once)

        async def one(index, job):
            async with places:
                end = await read_end(index % len(account.urls), job)
                load.history.write(phase="end", index=index, job=job, end=end)

        await asyncio.gather(*(one(index, job) for index, job in load.jobs.items()))

    asyncio.run(all_of_them())
