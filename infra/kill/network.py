"""One `infera up` as a process that can be killed and started again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from client import ask
from service.place import ROOT
from service.process import free_port

READY_MAX_S = 60


class Network:
    """One `infera up` on a data folder of its own."""

    def __init__(self, binary, folder, arguments):
        """`folder`: where its data and its log are written; `arguments`: more of its command line."""
        self.binary, self.folder, self.port = binary, Path(folder), free_port()
        self.data = self.folder / "data"
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = arguments
        self.process = None
        self.log = open(self.folder / "infera.log", "ab")
        self.starts = 0

    def start(self):
        """Starts it and waits until it says that it is ready."""
        command = [self.binary, "up", "--data", str(self.data), "--set", f"listen=127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command + self.arguments, stdout=self.log, stderr=self.log, cwd=ROOT)
        self.starts += 1
        deadline = time.monotonic() + READY_MAX_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"kill: infera ended by itself with status {self.process.returncode}; its log is {self.log.name}")
            if ask(f"{self.url}/readyz", patience_s=2).status == 200:
                return
            time.sleep(0.02)
        sys.exit(f"kill: infera was not ready within {READY_MAX_S} s; its log is {self.log.name}")

    def kill(self):
        """Ends it without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Asks it to end and waits, if it runs."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def key(self):
        """Reads the API key for local use from the note that it writes."""
        lines = (self.data / "local.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)["INFERA_API_KEY"]
