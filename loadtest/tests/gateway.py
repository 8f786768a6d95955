"""A stand-in for a gateway, to test the load programs: it replies as a scenario expects, or wrongly in every way that a check
must notice. Streams are right, or each lies in its own way (lies.py).
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.lies import LIES, LIES_OF_CONNECTIONS, completion_of, events

# The pause between two events of a stream.
EVENT_PAUSE_S = 0.01
ALL_LIES = [*LIES, *LIES_OF_CONNECTIONS]

MODELS = {"object": "list", "data": [{"id": "infera-tiny", "object": "model", "created": 1, "context_length": 512, "nodes": 3}]}
COUNTS = dict.fromkeys(("accepted", "queued", "running", "succeeded", "failed", "cancelled", "expired", "nodes"), 1)


def completion(job, lies):
    """Returns a chat.completion, in which every part is wrong if it lies."""
    text, status, asked, total = ("", "unverified", 2, 9) if lies else ("85.", "verified", 3, 8)
    return {
        "id": f"chatcmpl-{'' if lies else job.removeprefix('job_')}", "object": "text" if lies else "chat.completion",
        "model": "infera-tiny", "job_id": job,
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "no" if lies else "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 99 if lies else 3, "total_tokens": total},
        "verification": {
            "status": status, "rung": "identical", "numbers": "outside" if lies else "inside",
            "replicas": {"asked": asked, "answered": 1 if lies else 3, "agreed": 1 if lies else 3},
        },
    }


class Gateway(ThreadingHTTPServer):
    """Listens on a port of its own, and answers after `delay_s`."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, lies=False, delay_s=0.0, refusal=None, event=None):
        """`event`: an error that every stream ends with after its first text, as a gateway would say it."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.lies, self.delay_s, self.refusal, self.event = lies, delay_s, refusal, event
        self.jobs = {}  # id: status
        self.keys = {}  # idempotency key: id
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Prints no connection that a client closed, as those do who hang up."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def job(self, key=None):
        """Returns a job's id, and whether the key had it before."""
        with self.lock:
            known = key is not None and key in self.keys
            number = len(self.jobs) + 1
            # If it lies, it forgets keys and writes ids in capitals.
            name = f"JOB_{number:032X}" if self.lies and key else self.keys[key] if known else f"job_{number:032x}"
            self.keys[key] = name
            self.jobs.setdefault(name, "succeeded")
            return name, known


class Handler(BaseHTTPRequestHandler):
    """Routes and replies."""

    protocol_version = "HTTP/1.1"
    # Without it the second of two small writes would wait for the acknowledgement of the first.
    disable_nagle_algorithm = True

    def reply(self, status, body, **headers):
        """Sends JSON with the headers that every reply has."""
        data = json.dumps(body).encode()
        common = {"content-type": "application/json", "cache-control": "no-store", "x-request-id": "req_1"}
        common = {"content-type": "text/plain"} if self.server.lies and self.path != "/v1/models" else common
        self.send_response(status)
        for name, value in {**common, **headers, "content-length": str(len(data))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, code):
        """Sends an error in the shape of either API."""
        if self.server.lies:
            return self.reply(status, {"error": "no"})
        if self.path.startswith("/v1/"):
            error = {"message": code, "type": "invalid_request_error", "param": None, "code": code}
            return self.reply(status, {"error": error})
        entry = {"type": "missing", "loc": ["body", "model"], "msg": "Field required"}
        return self.reply(status, {"detail": [entry, entry]})

    def do_GET(self):
        """Replies with models, counts and jobs."""
        if self.path == "/v1/models":
            if not self.headers.get("authorization"):
                return self.error(401, "missing_api_key")
            return self.reply(200, MODELS)
        if self.path == "/network_stats":
            return self.reply(200, {} if self.server.lies else COUNTS)
        name = self.path.rpartition("/")[2]
        status = self.server.jobs.get(name)
        if status is None:
            return self.error(404, "not_found")
        body = {"id": name, "job_id": name, "status": status, "created": 1, "expires": 2}
        return self.reply(200, {**body, "result": completion(name, self.server.lies)})

    def do_DELETE(self):
        """Cancels any job; if it lies, it forgets the job at once."""
        name = self.path.rpartition("/")[2]
        self.server.jobs[name] = "running" if self.server.lies else "cancelled"
        return self.reply(200, {"id": name, "job_id": name, "status": "cancelled", "created": 1, "expires": 2})

    def do_POST(self):
        """Replies to conversations."""
        ask = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(self.server.delay_s)
        if self.server.refusal is not None:
            return self.reply(429, {"detail": "Too many", "error": {"code": "queue_full"}}, **self.server.refusal)
        if ask.get("model") != "infera-tiny":
            return self.error(404 if ask.get("model") else 422, "model_not_found")
        job, known = self.server.job(self.headers.get("idempotency-key"))
        if ask.get("stream"):
            return self.stream(job, ask)
        if "seed" in ask:
            # Only the load of streams says a seed, and it compares what it asked both ways.
            return self.reply(200, completion_of(job, ask), x_job_id=job)
        if self.path == "/submit_job":
            replayed = {"idempotent_replayed": "true"} if known else {}
            return self.reply(200, {"job_id": job, "status": "queued"}, x_job_id=job, **replayed)
        return self.reply(200, completion(job, self.server.lies), x_job_id=job)

    def stream(self, job, ask):
        """Replies with events. If the gateway lies, each stream does so in the way that its seed names."""
        lie = ALL_LIES[ask["seed"] % len(ALL_LIES)] if self.server.lies else ""
        self.send_response(200)
        kind = "application/json" if lie == "no event stream" else "text/event-stream"
        for name, value in (("content-type", kind), ("cache-control", "no-store"), ("x-request-id", "req_1"),
                            ("transfer-encoding", "chunked")):
            self.send_header(name, value)
        self.end_headers()
        told = events(job, ask, lie)
        if self.server.event:
            # The role and the first text stay.
            told = [*told[:2], json.dumps({"error": self.server.event, "job_id": job})]
        try:
            for data in told:
                time.sleep(EVENT_PAUSE_S)
                if lie == "closed":
                    self.close_connection = True
                    return self.connection.close()
                self.chunk(f"data: {data}\n\n")
            if lie == "cut within an event":
                self.chunk(f"data: {told[0][:20]}")
            self.chunk("")
        except OSError:
            self.server.jobs[job] = "failed" if self.server.lies else "cancelled"
        return None

    def chunk(self, text):
        """Writes one chunk of a body; the empty one ends it."""
        data = text.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, *_):
        """Prints no line for each request."""
