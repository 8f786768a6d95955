"""The programs of the cluster that is broken: those of `make cluster`, with each way to a server through the proxy and an
engine without a model. How each is started is cluster.py's.
"""

from urllib.parse import urlsplit

import cluster
from cluster_members import GATEWAY_PORTS, HOME, services
from service.process import Trouble, wait_until
from service.web import ask

from .fleet import Member
from .schedule import LONGEST_FAULT_S

MODEL = "infera-tiny"

# Every end that a fault held up has two minutes beside the fault.
DEADLINE_MS = (LONGEST_FAULT_S + 120) * 1000

# A job takes about 0.7 s on an idle machine, so that there are always some under way; none of it is work for the CPU.
ENGINE = {"engine.stub.prefill_us": 50_000, "engine.stub.decode_us": 40_000}

# Archiving often, and again soon, puts more of it under faults and ends the campaign sooner.
VERIFIER = {"verifier.archive_ms": 1_000, "verifier.archive_wait_ms": 2_000, "verifier.archive_retry_ms": 15_000}


def through(port, url):
    """The same URL at another port of this machine."""
    parts = urlsplit(url)
    user = f"{parts.username}:{parts.password}@" if parts.username else ""
    return parts._replace(netloc=f"{user}127.0.0.1:{port}").geturl()


def rewired(name, settings, proxy):
    """A program's settings with its servers behind its own links."""
    role = name.split("-")[0]
    changed = dict(settings)
    links = {"broker.url": "rabbitmq", "ledger.url": "postgres", "archive.endpoint": "minio"}
    for key, server in links.items():
        if key in changed:
            changed[key] = through(proxy.port(f"{role}-{server}"), changed[key])
    if role == "gateway":
        # Workers are told by their gateway where the broker is.
        changed["nodes.broker_url"] = through(proxy.port("worker-rabbitmq"), changed["nodes.broker_url"])
        changed["gateway.submit_deadline_ms"] = DEADLINE_MS
    changed.update(VERIFIER if role == "verifier" else ENGINE if role == "worker" else {})
    return changed


def of(binaries):
    """How `Fleet` makes them: by role, started and ready."""

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
    """Until every gateway knows the model: the verifiers list it when they start, and a gateway reads that a moment later."""
    for member, url in zip(fleet.members["gateway"], cluster.GATEWAYS):
        wait_until(member.process, lambda url=url: MODEL in ask(f"{url}/v1/models", key=fleet.key).text, cluster.PATIENCE_S)


def access():
    """Where clients come in, and where the archive is, past the proxy."""
    return GATEWAY_PORTS, services()["TEST_S3_URL"]
