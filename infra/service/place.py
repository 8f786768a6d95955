"""Folders, ports and credentials that all services share."""

import os
import secrets
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RUNTIME = ROOT / ".runtime"
# Not in data/, which is private to `infera up`: for root PostgreSQL runs as a user that can't enter it.
FOLDER = Path(os.environ.get("SERVICES_DIR") or RUNTIME / "services").resolve()

# The file with the addresses of the services that run.
ADDRESSES = Path(os.environ.get("SERVICES_ENV") or ROOT / "data" / "services.env").resolve()

# Is added to every port, so that a second set can run beside the first, such as one that a campaign kills.
SHIFT = int(os.environ.get("SERVICES_PORT_SHIFT") or 0)

# Other ports than the usual ones, so that a developer's own servers are left alone. Below 32768, from where the system takes
# ports for outgoing connections: a program that retries a connection to an absent server may get the server's own port, which
# connects it to itself and keeps the server from starting (seen). RabbitMQ's own tools use 35672 to 35682.
AMQPS_PORT = 5684 + SHIFT
AMQP_PORT, AMQP_NODE_PORT, EPMD_PORT = 5683 + SHIFT, 25683 + SHIFT, 4380 + SHIFT
MANAGEMENT_PORT, METRICS_PORT = 15683 + SHIFT, 15793 + SHIFT
POSTGRES_PORT = 15442 + SHIFT
MINIO_PORT, MOTO_PORT = 9010 + SHIFT, 9011 + SHIFT

USER = "infera"
NAME = "infera"  # database and bucket


def output(*command):
    """Returns what a command prints, or None if it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def password():
    """Returns the password of all services, which is made once."""
    path = FOLDER / "password"
    if not path.exists():
        write_private(path, secrets.token_hex(16))
    return path.read_text()


def write_private(path, text):
    """Writes a file that only its owner can read."""
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
