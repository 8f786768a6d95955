"""Finds the target of a load: what the caller names, otherwise the cluster if one is up, otherwise `infera up`."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"

NOTHING_THERE = """nothing to load: no gateway of data/cluster.env or data/local.env answers. Start one of them:
  make cluster    two gateways, two verifiers, six workers, on RabbitMQ, PostgreSQL and MinIO
  make run        all in one process; INFERA_ENGINE__KIND=stub measures everything but the model
                  (for all scenarios but smoke: INFERA_GATEWAY__REQUESTS_PER_MINUTE=0 INFERA_GATEWAY__IN_FLIGHT_MAX=0)
or name gateways and key: LOAD_URLS=http://…,http://… INFERA_API_KEY=inf_… make load"""


TARGETS = "It is `cluster`, `local`, or a file of NAME=value lines with INFERA_URL (or LOAD_URLS) and INFERA_API_KEY"


class Trouble(Exception):
    """Why a run can't be made, and what to do about it."""


@dataclass
class Target:
    """Gateways, their API key, and the folders that note the processes behind them."""

    name: str
    urls: list
    key: str = field(repr=False)
    # Folders with infra's notes `NAME.pid`, directly or one folder below. The report shows the CPU time and memory of these.
    notes: list = field(default_factory=list)


def settings(path):
    """Reads a file of NAME=value lines, as a shell does; empty if it doesn't exist."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.removeprefix("export ").partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}


def of_settings(name, values):
    """Makes a target from a file's values; None if they name no gateway or no key."""
    urls = [values[key] for key in sorted(values) if key.startswith("CLUSTER_GATEWAY_") and key.endswith("_URL")]
    urls = values["LOAD_URLS"].split(",") if values.get("LOAD_URLS") else urls
    urls = urls or ([values["INFERA_URL"]] if values.get("INFERA_URL") else [])
    key = values.get("INFERA_API_KEY")
    if not urls or not key:
        return None
    return Target(name, urls, key, [notes(os.environ)] if name == "cluster" else [])


def notes(environment):
    """Returns the folder in which `make services` and `make cluster` note their processes."""
    return Path(environment.get("SERVICES_DIR") or ROOT / ".runtime" / "services")


def answers(url):
    """Whether something listens at a URL's address."""
    try:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def find(environment=None, data=DATA):
    """Returns the target of this run. TARGET may name an env file, or `cluster` or `local` for those in data/."""
    environment = os.environ if environment is None else environment
    if environment.get("LOAD_URLS"):
        if not environment.get("INFERA_API_KEY"):
            raise Trouble("LOAD_URLS names gateways, and INFERA_API_KEY, their key, isn't set")
        return answering(of_settings("the named gateways", environment), "LOAD_URLS")
    if environment.get("TARGET"):
        return named(environment["TARGET"], data)
    for name in ("cluster", "local"):
        target = of_settings(name, settings(Path(data) / f"{name}.env"))
        if target and all(answers(url) for url in target.urls):
            return target
    raise Trouble(NOTHING_THERE)


def named(chosen, data):
    """Returns the target that the caller named; Trouble if it can't be used."""
    path = Path(data) / f"{chosen}.env" if chosen in ("cluster", "local") else Path(chosen)
    if not path.is_file():
        raise Trouble(f"TARGET={chosen}: there is no file {path}. {TARGETS}")
    try:
        target = of_settings(path.stem, settings(path))
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"TARGET={chosen}: {path} can't be read: {error}") from error
    if target is None:
        raise Trouble(f"TARGET={chosen}: {path} names no gateway or no key. {TARGETS}")
    return answering(target, f"TARGET={chosen}: {path}")


def answering(target, source):
    """Returns the target if all of its gateways answer; `source` is what named them."""
    silent = [url for url in target.urls if not answers(url)]
    if silent:
        raise Trouble(f"{source} names {', '.join(silent)}, where nothing answers")
    return target
