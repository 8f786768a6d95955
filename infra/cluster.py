#!/usr/bin/env python3
"""Starts and ends a cluster on this machine, in which every role is a process of its own.

    infra/cluster.py up [--engine onnx|stub] [--binaries DIR] [--traces URL]
    infra/cluster.py down
    infra/cluster.py status

Two gateways, two verifiers, and six workers of three owners; the key that is printed belongs to a fourth account. They use
the servers of `make services`. Settings, logs and noted pids are in .runtime/services/cluster/ (or $SERVICES_DIR/cluster);
the addresses and the key are in data/cluster.env. Needs Python 3.9, nothing else.
"""

import argparse
import json
import secrets
import sys
from pathlib import Path

from client import ask
from cluster_members import GATEWAY_PORTS, GATEWAYS, HOME, gateway, verifier, worker
from service.place import ADDRESSES, ROOT, SHIFT, write_private
from service.process import Process, Trouble, is_taken, wait_until

ENVIRONMENT = ROOT / "data" / "cluster.env"
ACCOUNTS = HOME / "accounts.json"

OPERATIONS_PORT = 8731 + SHIFT  # of the first member; the others follow
OWNERS = ["owner-1", "owner-2", "owner-3"]
WORKERS_PER_OWNER = 2

# A program is up within a second on an idle machine; a development build on a busy one was seen to take ten.
PATIENCE_S = 60
# A verifier counts a node after its first heartbeat, and tells gateways of capacity once a second.
FLEET_PATIENCE_S = 120


def members(binaries, engine):
    """Yields every member in the order in which they start."""
    operations = iter(range(OPERATIONS_PORT, OPERATIONS_PORT + 100))
    for number, port in enumerate(GATEWAY_PORTS, 1):
        yield gateway(f"gateway-{number}", binaries, (port, next(operations)))
    for number in (1, 2):
        yield verifier(f"verifier-{number}", binaries, next(operations), engine)
    for owner in OWNERS:
        for number in range(1, WORKERS_PER_OWNER + 1):
            yield worker(f"worker-{owner}-{number}", binaries, next(operations), engine)


def accounts(gateway_process):
    """Returns the accounts of the owners and the one for local use, by name; makes those that don't exist."""
    known = json.loads(ACCOUNTS.read_text()) if ACCOUNTS.exists() else {}
    for name in (*OWNERS, "local"):
        if name in known and ask(f"{GATEWAYS[0]}/v1/models", key=known[name]["key"]).status == 200:
            continue
        email = f"{name}-{secrets.token_hex(4)}@example.com"  # a new one each time, because the ledger may be a new one
        answer = ask(f"{GATEWAYS[0]}/signup_user", {"email": email})
        if answer.status != 200 or not answer.json().get("api_key"):
            raise Trouble(f"no account for {name}: the gateway answers {answer.status}: {answer.text[:300]}")
        known[name] = {"email": email, "key": answer.json()["api_key"]}
        write_private(ACCOUNTS, json.dumps(known))
        if name in OWNERS:
            gateway_process.command("account", "fleet", email)
    return known


def up(options):
    """Starts what isn't running and waits until both gateways answer a request."""
    binaries = options.binaries.resolve()
    for program in ("infera-gateway", "infera-verifier", "infera-worker"):
        if not (binaries / program).exists():
            raise Trouble(f"{binaries / program} is missing: `make cluster` builds it")
    if not ADDRESSES.exists():
        raise Trouble("the servers are not up: `make services`")
    HOME.mkdir(parents=True, exist_ok=True)
    fleet = list(members(binaries, options.engine))
    for member in fleet:
        if options.traces:
            member.settings["traces.endpoint"] = options.traces
        for port in member.ports:
            if member.process.pid() is None and is_taken(port):
                raise Trouble(f"port {port} of {member.name} is taken by another process: end that process")
    gateways = [member for member in fleet if member.name.startswith("gateway")]
    for member in gateways:
        member.up()
    for member in gateways:
        wait_until(member.process, member.answers, PATIENCE_S)
    keys = accounts(gateways[0])
    for member in fleet[len(gateways) :]:
        owner = next((owner for owner in OWNERS if f"-{owner}-" in member.name), None)
        member.up(keys[owner]["key"] if owner else None)
    for member in fleet[len(gateways) :]:
        wait_until(member.process, member.answers, PATIENCE_S)
    model = wait_for_fleet(gateways, keys["local"]["key"])
    note(keys["local"]["key"], model, options.traces)
    print(f"cluster: {len(fleet)} processes; logs in {HOME}; end them with `make cluster-down`")


def wait_for_fleet(gateways, key):
    """Waits until both gateways answer a request, which takes nodes of three owners; returns the model's name."""
    model = None
    for member, url in zip(gateways, GATEWAYS):

        def answered(url=url):
            nonlocal model
            listed = ask(f"{url}/v1/models", key=key)
            if listed.status != 200 or not listed.json()["data"]:
                return False
            model = listed.json()["data"][0]["id"]
            body = {"model": model, "messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 16}
            return ask(f"{url}/v1/chat/completions", body, key).status == 200

        wait_until(member.process, answered, FLEET_PATIENCE_S)
    return model


def note(key, model, traces):
    """Writes the addresses and the key to data/cluster.env, and prints a request to paste."""
    lines = {f"CLUSTER_GATEWAY_{number}_URL": url for number, url in enumerate(GATEWAYS, 1)}
    lines |= {"INFERA_URL": GATEWAYS[0], "INFERA_API_KEY": key, "INFERA_MODEL": model}
    if traces:
        lines["TEST_TRACES_URL"] = traces
    ENVIRONMENT.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(ENVIRONMENT, "".join(f"{name}={value}\n" for name, value in lines.items()))
    print(f"\nThe cluster is ready: six nodes of three owners serve {model}. The same request works at either gateway:\n")
    # The key is printed at a terminal only, because a log would keep it.
    shown = f"'Authorization: Bearer {key}'" if sys.stdout.isatty() else '"Authorization: Bearer $INFERA_API_KEY"'
    if not sys.stdout.isatty():
        print(f"  . {ENVIRONMENT}\n")
    for url in GATEWAYS:
        print(
            f"  curl -s {url}/v1/chat/completions \\\n"
            f"    -H {shown} -H 'Content-Type: application/json' \\\n"
            f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is 47 + 38?"}}]}}\'\n'
        )


def running():
    """Returns the processes that were noted, in the order in which they end."""
    order = ("gateway", "verifier", "worker")
    names = sorted((note.stem for note in HOME.glob("*.pid")), key=lambda name: order.index(name.split("-")[0]))
    return [Process(name, HOME) for name in names]


def down(_options):
    """Ends every process that was noted. Gateways go first, so that the jobs they accepted are still answered."""
    ENVIRONMENT.unlink(missing_ok=True)
    for process in running():
        print(f"cluster: {process.name} {'ended' if process.stop() else 'was not running'}", flush=True)


def status(_options):
    """Prints which processes run."""
    for process in running():
        pid = process.pid()
        print(f"cluster: {process.name}: {'not running' if pid is None else f'pid {pid}'}")


def main():
    """Runs one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--engine", choices=["onnx", "stub"], default="onnx", help="stub: runs no model, to measure the rest")
    parser.add_argument("--binaries", type=Path, default=ROOT / "target" / "release", help="the folder of the programs")
    parser.add_argument("--traces", metavar="URL", help="where programs send traces, such as http://127.0.0.1:4318/v1/traces")
    options = parser.parse_args()
    try:
        {"up": up, "down": down, "status": status}[options.command](options)
    except Trouble as trouble:
        sys.exit(f"cluster: {trouble}")


if __name__ == "__main__":
    main()
