"""The programs of the cluster that a campaign breaks: those of `make cluster`, connected to the servers through the proxy,
with an engine that needs no model. `cluster.py` says how each is started.
"""

from urllib.parse import urlsplit

import cluster
from client import ask
from cluster_members import GATEWAYS, HOME, services
from service.process import Trouble, wait_until

from .fleet import Member
from .schedule import LONGEST_FAULT_S

MODEL = "infera-tiny"

# A job that a fault delays has two minutes beside the longest fault.
DEADLINE_MS = (LONGEST_FAULT_S + 120) * 1000

# A job takes about 0.7 s on an idle machine, so that some are always under way. The stub engine sleeps and costs no CPU.
ENGINE = {"engine.stub.prefill_us": 50_000, "engine.stub.decode_us": 40_000}

# More of the archiving falls under faults if it is frequent, and the campaign ends sooner.
VERIFIER = {
    "verifier.archive_ms": 1_000,
    "verifier.archive_wait_ms": 2_000,
    "verifier.archive_retry_ms": 15_000,
    "verifier.group_retention_ms": 86_400_000,
}


def through(port, url):
    """Returns the URL with loopback and this port for its host."""
    parts = urlsplit(url)
    user = f"{parts.username}:{parts.password}@" if parts.username else ""
    return parts._replace(netloc=f"{user}127.0.0.1:{port}").geturl()


def rewired(name, settings, proxy):
    """Returns a program's settings with its servers replaced by links of the proxy."""
    role = name.split("-")[0]
    changed = dict(settings)
    links = {"broker.url": "rabbitmq", "ledger.url": "postgres", "archive.endpoint": "minio"}
    for key, server in links.items():
        if key in changed:
            changed[key] = through(proxy.port(f"{role}-{server}"), changed[key])
    if role == "gateway":
        # Workers learn the broker's address from their gateway.
        changed["nodes.broker_url"] = through(proxy.port("worker-rabbitmq"), changed["nodes.broker_url"])
        changed["gateway.submit_deadline_ms"] = DEADLINE_MS
    changed.update(VERIFIER if role == "verifier" else ENGINE if role == "worker" else {})
    return changed


def of(binaries):
    """Returns the function by which `Fleet` starts the programs."""

    def make(proxy):
        HOME.mkdir(parents=True)
        programs = list(cluster.members(binaries.resolve(), "stub"))
        for program in programs:
            if not program.program.exists():
                raise Trouble(f"{program.program} is missing: `make cluster` builds it")
            program.settings = rewired(program.name, program.settings, proxy)
        gateways = [program for program in programs if program.name.startswith("gateway")]
        for program in gateways:
            program.up()
        for program in gateways:
            wait_until(program.process, program.answers, cluster.PATIENCE_S)
        keys = cluster.accounts(gateways[0])
        members = {}
        for program in programs:
            owner = next((owner for owner in cluster.OWNERS if f"-{owner}-" in program.name), None)
            key = keys[owner]["key"] if owner else None
            member = Member(program.name, program.process, lambda program=program, key=key: program.up(key), program.answers)
            member.start()
            members.setdefault(program.name.split("-")[0], []).append(member)
        return members, keys["local"]["key"]

    return make


def wait_for_model(fleet):
    """Waits until every gateway serves the model, which verifiers list at their start and gateways read a moment later."""
    for member, url in zip(fleet.members["gateway"], GATEWAYS):
        wait_until(member.process, lambda url=url: MODEL in ask(f"{url}/v1/models", key=fleet.key).text, cluster.PATIENCE_S)


def access():
    """Returns the gateways' URLs, and the archive's past the proxy."""
    return GATEWAYS, services()["TEST_S3_URL"]
