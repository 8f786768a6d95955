"""llama.cpp's server from Debian's packages, on loopback, for as long as a comparison takes."""

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time

import place

sys.path.insert(0, str(place.ROOT / "infra"))
from service import debian  # noqa: E402

SUITE, PACKAGES = "forky", ["llama.cpp-tools", "bash", "coreutils"]
FOLDER = place.RUNTIME / "llama.cpp-forky"
READY_MAX_S = 120
CONTEXT = 2048


class LlamaServer:
    """The server with one slot, which keeps the prompt's common beginning between requests."""

    def __init__(self, model, threads):
        """Fetches the packages once, starts the server and waits until it has loaded the model."""
        if not FOLDER.exists():
            print(f"smollm2: llama.cpp from Debian's {SUITE} into {FOLDER.relative_to(place.ROOT)} (once)", flush=True)
            if not debian.unpack_packages(FOLDER, SUITE, PACKAGES, "usr/bin/llama-server"):
                sys.exit(f"smollm2: Debian's {SUITE} has no llama-server in {PACKAGES[0]} any more")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = ["/usr/bin/llama-server", "--model", model, "--host", "127.0.0.1", "--port", self.port, "--parallel", 1]
        command += ["--ctx-size", CONTEXT, "--threads", threads, "--no-webui"]
        self.log = tempfile.TemporaryFile()
        words = [str(word) for word in debian.within(FOLDER, command)]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.connection = None
        try:
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self):
        """Waits until it is ready."""
        began = time.monotonic()
        while time.monotonic() - began < READY_MAX_S and self.process.poll() is None:
            try:
                if self.ask("GET", "/health").get("status") == "ok":
                    return
            except (OSError, ValueError, http.client.HTTPException):
                self.connection = None
            time.sleep(0.2)
        self.log.seek(0)
        sys.exit(f"smollm2: llama-server isn't ready:\n{self.log.read()[-2000:].decode(errors='replace')}")

    def ask(self, method, path, body=None):
        """Sends a request; returns the JSON of the answer."""
        text = None if body is None else json.dumps(body)
        try:
            reply = self.send(method, path, text)
        except (OSError, http.client.HTTPException):
            # The server closes a connection that was idle for some seconds.
            self.connection = None
            reply = self.send(method, path, text)
        said = json.loads(reply.read())
        if reply.status >= 400 and path != "/health":
            sys.exit(f"smollm2: llama-server answers {reply.status} to {path}: {said}")
        return said

    def send(self, method, path, text):
        """Sends a request on the connection that is there, or a new one."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        self.connection.request(method, path, text, {"Content-Type": "application/json"})
        return self.connection.getresponse()

    def tokens(self, text):
        """Returns a text's tokens, among them the special ones that it spells."""
        return self.ask("POST", "/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]

    def prompt(self, messages):
        """Returns the prompt of a conversation."""
        return self.ask("POST", "/apply-template", {"messages": messages})["prompt"]

    def most_probable(self, ids):
        """Returns the most probable next tokens, each with its log-probability, the best first. None stands for a token that
        ends the text, and for the log-probability of a token that begins a character, which the server doesn't tell.
        """
        settings = {"n_predict": 1, "temperature": 0, "n_probs": 5, "cache_prompt": True, "id_slot": 0, "return_tokens": True}
        said = self.ask("POST", "/completion", {"prompt": ids, **settings})
        if said.get("completion_probabilities"):
            return [(one["id"], one["logprob"]) for one in said["completion_probabilities"][0]["top_logprobs"]]
        return [(said["tokens"][0] if said["tokens"] else None, None)]

    def close(self):
        """Ends the server."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
