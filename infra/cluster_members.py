"""The members of a cluster: their settings, commands and readiness. `cluster.py` decides which members there are."""

import hashlib
import json
import os
import secrets
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from client import ask
from service.place import ADDRESSES, FOLDER, ROOT, SHIFT, write_private
from service.process import Process, Trouble

HOME = FOLDER / "cluster"

GATEWAY_PORTS = [8721 + SHIFT, 8722 + SHIFT]
GATEWAYS = [f"http://127.0.0.1:{port}" for port in GATEWAY_PORTS]

# The model digest that the stub engine announces; the catalogue must list it.
STUB_DIGEST = hashlib.sha256(b"infera stub").hexdigest()


class Member:
    """One process. Its settings are in a private file beside its log."""

    def __init__(self, name, program, ports, settings):
        self.name, self.program, self.ports, self.settings = name, program, ports, settings
        self.process = Process(name, HOME)
        self.file = HOME / f"{name}.toml"

    def up(self, api_key=None):
        """Writes its settings and starts it, unless it runs already."""
        if self.process.pid() is not None:
            return
        settings = dict(self.settings)
        if api_key:
            settings["node.api_key"] = api_key
        write_private(self.file, toml(settings))
        self.process.start([*without_settings(), self.program, "--config", self.file])

    def answers(self):
        """Whether its operations port says that it is ready."""
        return ask(f"http://127.0.0.1:{self.ports[-1]}/readyz", patience_s=5).status == 200

    def command(self, *words):
        """Runs one of the program's own commands with this member's settings; returns what it prints."""
        done = subprocess.run(
            [*without_settings(), self.program, "--config", self.file, *words],
            cwd=HOME,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Trouble(f"{self.program.name} {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout


def without_settings():
    """Returns the words before a command that hide the settings of the caller's environment from it."""
    return ["env", *(word for name in os.environ if name.startswith("INFERA_") for word in ("-u", name))]


def toml(value, name=None):
    """Writes settings by dotted keys as TOML. JSON's scalars and lists are TOML's too; tables are written inline."""
    if name is None:
        return "".join(toml(one, key) for key, one in value.items())
    return f"{name} = {inline(value)}\n"


def inline(value):
    """Writes one value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def services():
    """Reads the addresses that `make services` wrote."""
    lines = ADDRESSES.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def broker_without_user(address):
    """Returns a broker's address without its credentials, as nodes get it."""
    parts = urlsplit(address)
    return parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl()


def gateway(name, binaries, ports):
    """Makes a gateway; `ports` are those of clients and of operations."""
    at = services()
    public, operations = ports
    settings = {
        "listen": f"127.0.0.1:{public}",
        "operations.listen": f"127.0.0.1:{operations}",
        "broker.url": at["TEST_RABBITMQ_URL"],
        "ledger.url": at["TEST_POSTGRES_URL"],
        "nodes.token_key_file": at["TEST_TOKEN_KEY"],
        "nodes.broker_url": broker_without_user(at["TEST_RABBITMQ_URL"]),
        # Load comes from one machine with one key; the gateway's limits are not what is measured.
        "gateway.requests_per_minute": 0,
        "gateway.tokens_per_minute": 0,
        "gateway.looks_per_minute": 0,
        "gateway.signups_per_minute": 0,
        "gateway.in_flight_max": 0,
        "gateway.waiting_max": 0,
        "gateway.account_stored_max_bytes": 0,
        "gateway.stored_max_bytes": 0,
    }
    return Member(name, binaries / "infera-gateway", ports, settings)


def verifier(name, binaries, operations, engine):
    """Makes a verifier, which also lists the model that the workers serve."""
    at = services()
    store = urlsplit(at["TEST_S3_URL"])
    model = {"folder": ROOT / "models" / "infera-tiny"}
    if engine == "stub":
        # It has no weights that a token's time could be reckoned from.
        model |= {"variants": [], "digests": [STUB_DIGEST], "reference_token_us": 150}
    settings = {
        "operations.listen": f"127.0.0.1:{operations}",
        "broker.url": at["TEST_RABBITMQ_URL"],
        "ledger.url": at["TEST_POSTGRES_URL"],
        "archive.endpoint": f"{store.scheme}://{store.hostname}:{store.port}",
        "archive.bucket": store.path.strip("/"),
        "archive.access_key_id": store.username,
        "archive.secret_access_key": store.password,
        "management.url": at["TEST_RABBITMQ_MANAGEMENT_URL"],
        "models": [model],
    }
    return Member(name, binaries / "infera-verifier", [operations], settings)


def worker(name, binaries, operations, engine):
    """Makes a worker, which knows the gateways and none of the servers behind them."""
    secret = HOME / f"{name}.secret"
    if not secret.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        write_private(secret, secrets.token_hex(16))
    settings = {
        "gateway": GATEWAYS,
        "operations.listen": f"127.0.0.1:{operations}",
        "node.name": name,
        "node.secret": secret.read_text(),
        "engine.kind": engine,
        "engine.folder": ROOT / "models" / "infera-tiny",
        "engine.library": next((ROOT / ".runtime" / "onnxruntime").glob("libonnxruntime.*"), "not-set-up"),
    }
    return Member(name, binaries / "infera-worker", [operations], settings)
