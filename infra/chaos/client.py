"""Offers jobs to both gateways at a fixed rate, whatever becomes of earlier ones (an open model), and writes down what
it was told: one line of JSON for each request when it is sent and when its outcome is known.

    invoke   sent
    ok       accepted; the job's id
    fail     refused: an answer that isn't 200, or nobody listened. 503 may still mean that the job is there.
    info     unknown: the connection broke, or no answer came in time

An outcome other than `ok` is tried again under the same idempotency key at the other gateway, within bounds. One job in
twenty is sent to both at once.
"""

import asyncio
import json
import random
import threading
import time

# As long as the ledger may leave a gateway without an answer, and a bit.
ATTEMPT_S = 20
# A client gives a job up after so long, or so many tries.
PATIENCE_S = 120
TRIES_MAX = 60
WAIT_S, WAIT_MAX_S = 0.25, 2.0
# More requests than this at once are a client's mistake: they aren't sent, and counted.
AT_ONCE_MAX = 3_000
TWIN_EVERY = 20


def question(model, index):
    """The request with this number; the number is its seed, so that the ledger's rows can be told apart."""
    rng = random.Random(index)
    text = f"What is {rng.randrange(100)} + {rng.randrange(100)}?"
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_output": 32,
        "temperature": rng.choice([0, 0, 0.7, 1.0]),
        "seed": index,
    }


class History:
    """The client's own log."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()

    def write(self, **line):
        """One line; `t` is the moment in milliseconds."""
        with self.lock:
            self.file.write(json.dumps({"t": round(time.time() * 1000), **line}) + "\n")

    def close(self):
        """Writes all of it out."""
        with self.lock:
            self.file.close()


async def exchange(port, method, path, key, body=None, headers=()):
    """One request on a connection of its own: (status, headers, body). OSError where there is no whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{port}", f"api_key: {key}", "connection: close"]
        head += ["content-type: application/json", f"content-length: {len(data)}", *headers]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + data)
        await writer.drain()
        answer = await reader.read(-1)
    finally:
        writer.transport.abort()
    top, end, content = answer.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if not end or len(content) != int(fields.get("content-length", len(content))):
        raise ConnectionError("the answer broke off")
    return int(lines[0].split(" ")[1]), fields, content


class Client:
    """The load: runs on an event loop in a thread of its own."""

    def __init__(self, ports, key, history, model, run):
        self.ports, self.key, self.history, self.model, self.run = ports, key, history, model, run
        self.offered, self.dropped, self.accepted, self.at_once = 0, 0, 0, 0
        self.jobs = {}
        self.stopped = threading.Event()
        self.thread = None

    def start(self, rate):
        """Begins to offer jobs, until `stop`."""
        self.thread = threading.Thread(target=lambda: asyncio.run(self.offer(rate)), name="client", daemon=True)
        self.thread.start()

    def stop(self):
        """Offers nothing more, and waits for what is under way."""
        self.stopped.set()
        self.thread.join(timeout=PATIENCE_S + 2 * ATTEMPT_S)

    async def offer(self, rate):
        """One job every 1/rate seconds from the first on; a late one is sent at once."""
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

    async def submit(self, index):
        """One job until it is accepted or given up."""
        self.at_once += 1
        rng = random.Random(f"{self.run}-{index}")
        first = rng.randrange(len(self.ports))
        began = time.monotonic()
        try:
            for attempt in range(TRIES_MAX):
                gateway = (first + attempt) % len(self.ports)
                twins = [gateway]
                if attempt == 0 and index % TWIN_EVERY == 0:
                    twins = range(len(self.ports))
                outcomes = await asyncio.gather(*(self.attempt(index, attempt, one) for one in twins))
                if any(job for job, _ in outcomes):
                    self.accepted += 1
                    return
                asked = max(wait for _, wait in outcomes)
                wait = max(asked, min(WAIT_S * 2**attempt, WAIT_MAX_S) * rng.uniform(0.5, 1.0))
                if time.monotonic() - began + wait > PATIENCE_S:
                    break
                await asyncio.sleep(wait)
            self.history.write(phase="given up", index=index)
        finally:
            self.at_once -= 1

    async def attempt(self, index, attempt, gateway):
        """One try at one gateway: the job's id if it was accepted, and how long we were asked to wait."""
        about = {"index": index, "attempt": attempt, "gateway": gateway}
        self.history.write(phase="invoke", **about)
        body, headers = question(self.model, index), [f"idempotency-key: {self.run}-{index}"]
        asked = exchange(self.ports[gateway], "POST", "/submit_job", self.key, body, headers)
        try:
            status, fields, content = await asyncio.wait_for(asked, ATTEMPT_S)
        except ConnectionRefusedError:
            self.history.write(phase="fail", reason="refused", **about)
            return None, 0.0
        except (OSError, asyncio.TimeoutError, ValueError, IndexError) as error:
            self.history.write(phase="info", reason=f"{type(error).__name__}: {error}", **about)
            return None, 0.0
        if status == 200:
            job = json.loads(content)["job_id"]
            self.jobs[index] = job
            self.history.write(phase="ok", job=job, **about)
            return job, 0.0
        after = fields.get("retry-after")
        self.history.write(phase="fail", status=status, retry_after=after, body=content[:200].decode("latin-1"), **about)
        wait = float(after) if after and after.isdigit() else 0.0
        return None, min(wait, 5.0)


async def read_end(port, key, job):
    """How the job ended, as a gateway tells its account; None without an answer."""
    try:
        asked = exchange(port, "GET", f"/v1/jobs/{job}", key)
        status, _, content = await asyncio.wait_for(asked, ATTEMPT_S)
        return json.loads(content).get("status") if status == 200 else f"HTTP {status}"
    except (OSError, asyncio.TimeoutError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {error}"


def read_ends(client, at_once=16):
    """Asks for every accepted job's end, each at a gateway other than the last one's, and writes down the answers."""

    async def all_of_them():
        places = asyncio.Semaphore(at_once)

        async def one(index, job):
            async with places:
                end = await read_end(client.ports[index % len(client.ports)], client.key, job)
                client.history.write(phase="end", index=index, job=job, end=end)

        await asyncio.gather(*(one(index, job) for index, job in client.jobs.items()))

    asyncio.run(all_of_them())
