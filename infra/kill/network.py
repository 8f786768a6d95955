"""One `infera up` as a process that can be killed and started again, and how it is spoken to."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
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
