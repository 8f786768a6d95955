"""RabbitMQ, PostgreSQL and MinIO by Docker Compose (compose.yaml beside this), where a Docker daemon answers: the same
ports, passwords, certificates and addresses as the private processes, so that users see no difference.

A second set ($SERVICES_DIR, $SERVICES_PORT_SHIFT) is always private processes, because campaigns kill it by pid. So is the
first with SERVICES=processes, or if RABBIT names a version.
"""

import os
import subprocess
from pathlib import Path

from . import place, postgres, rabbitmq, s3
from .place import FOLDER, SHIFT, write_private
from .process import Trouble

FILE = Path(__file__).resolve().parent / "compose.yaml"
NAMES = ("rabbitmq", "postgres", "minio")
# A daemon that doesn't answer within this time is taken for absent.
ASKING_S = 10
# The first start fetches images and builds MinIO.
STARTING_S = 1800
# PostgreSQL refuses to run as root, so for root the servers run as this user, which owns their files.
NOBODY = 10001


def owner():
    """Returns the user and the group that the servers run as."""
    return (NOBODY, NOBODY) if os.getuid() == 0 else (os.getuid(), os.getgid())


def docker(*words, patience_s=60):
    """Runs docker; None if it is missing or hangs."""
    ports = {name: str(value) for name, value in vars(place).items() if name.endswith("_PORT")}
    user, group = owner()
    told = {"SERVICES_DIR": str(FOLDER), "SERVICES_USER": f"{user}:{group}", **ports}
    options = {"capture_output": True, "text": True, "check": False, "timeout": patience_s}
    try:
        return subprocess.run(["docker", *words], env={**os.environ, **told}, **options)
    except (OSError, subprocess.TimeoutExpired):
        return None


def compose(*words, patience_s=60):
    """Runs docker compose on our file."""
    return docker("compose", "--file", str(FILE), *words, patience_s=patience_s)


def answers(*words):
    """Whether a docker command succeeds within `ASKING_S`."""
    done = docker(*words, patience_s=ASKING_S)
    return done is not None and done.returncode == 0


def wanted(private):
    """Whether containers are used: Docker has compose, nothing asks for processes, and no private process runs."""
    if any(os.environ.get(name) for name in ("SERVICES_DIR", "RABBIT")) or SHIFT or os.environ.get("SERVICES") == "processes":
        return False
    if any(service.process.pid() for service in private):
        return False
    return answers("info") and answers("compose", "version")


class Containers:
    """The three servers as one service, which is also its own process."""

    name = "docker compose"
    title = "RabbitMQ, PostgreSQL and MinIO in containers"
    log = "docker compose logs"
    ports = ()

    def __init__(self):
        self.process = self
        self.parts = [rabbitmq.RabbitMq(), postgres.Postgres(), s3.Minio()]

    def pid(self):
        """Returns None if no container runs, and otherwise 0, because containers have no pid here."""
        done = compose("ps", "--quiet")
        return 0 if done is not None and done.returncode == 0 and done.stdout.strip() else None

    def up(self):
        """Starts them and waits until each passes its own health check."""
        for name in NAMES:
            (FOLDER / f"{name}-container").mkdir(parents=True, exist_ok=True)
        folder = FOLDER / "rabbitmq-container"
        write_private(folder / "rabbitmq.conf", rabbitmq.configuration("4.1"))
        (folder / "enabled_plugins").write_text(f"[{','.join(rabbitmq.PLUGINS)}].\n")
        place.password()
        if os.getuid() == 0:
            for name in ("password", "certificates", "tokens", *(f"{name}-container" for name in NAMES)):
                for path in (FOLDER / name, *(FOLDER / name).glob("*")):
                    os.chown(path, *owner())
        done = compose("up", "--detach", "--build", "--wait", patience_s=STARTING_S)
        if done is None or done.returncode:
            words = "it took too long" if done is None else done.stderr.strip()
            raise Trouble(f"docker compose didn't start them: {words}\nSERVICES=processes starts private processes instead")

    def answers(self):
        """Whether the broker answers; its user gets its tags on the way. All were healthy when they were started."""
        return self.parts[0].greets() and self.parts[0].sets_tags()

    def last_words(self):
        """Returns the end of their logs."""
        done = compose("logs", "--tail", "8")
        return done.stdout if done else "(no logs)"

    def down(self):
        """Ends them; their data stay in the services' folder. True if they were running."""
        if self.pid() is None:
            return False
        done = compose("down", patience_s=120)
        if done is None or done.returncode:
            raise Trouble(f"docker compose didn't end them: {done.stderr.strip() if done else 'it took too long'}")
        return True

    def addresses(self):
        """Returns the addresses of its parts."""
        return {name: value for part in self.parts for name, value in part.addresses().items()}
