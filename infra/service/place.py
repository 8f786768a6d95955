"""Where the services lie and which ports they have; no service in particular."""

import os
import secrets
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RUNTIME = ROOT / ".runtime"
# Not in data/: that folder is private to `infera up`, and as root PostgreSQL runs as a user who couldn't enter it.
FOLDER = Path(os.environ.get("SERVICES_DIR") or RUNTIME / "services").resolve()

# Where the addresses of what runs are noted.
ADDRESSES = Path(os.environ.get("SERVICES_ENV") or ROOT / "data" / "services.env").resolve()

# For a second set beside the first, such as one that is to be killed: every port moves by as many.
SHIFT = int(os.environ.get("SERVICES_PORT_SHIFT") or 0)

# Beside the usual ports, so that a developer's own servers are left alone. Below 32768, where the system takes ports for
# outgoing connections from: a program that tries again and again to reach a server that is away meets itself there sooner
# or later, and keeps the server from coming back (seen). RabbitMQ's own tools use 35672 to 35682.
AMQPS_PORT = 5684 + SHIFT
AMQP_PORT, AMQP_NODE_PORT, EPMD_PORT = 5683 + SHIFT, 25683 + SHIFT, 4380 + SHIFT
MANAGEMENT_PORT, METRICS_PORT = 15683 + SHIFT, 15793 + SHIFT
POSTGRES_PORT = 15442 + SHIFT
MINIO_PORT, MOTO_PORT = 9010 + SHIFT, 9011 + SHIFT

USER = "infera"
NAME = "infera"  # database and bucket


def output(*command):
    """What a command prints, or None if it isn't there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def password():
    """One password for all of them, made once."""
    path = FOLDER / "password"
    if not path.exists():
        write_private(path, secrets.token_hex(16))
    return path.read_text()


def write_private(path, text):
    """Writes a file that only its owner can read."""
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
