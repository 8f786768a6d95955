#!/usr/bin/env python3
"""Does what a client does with a cluster that is up: what is done at one gateway is looked at from the other.

    infra/smoke_cluster.py

Reads data/cluster.env. Standard library only. Exits with 1 if a promise is broken.
"""

import secrets
import sys
import time

from client import Account, ask, bearer
from promises import Tally
from service.collector import Collector
from service.place import ROOT

# A job of the bundled model takes well under a second; a busy machine is slow, and not broken.
ENDS_WITHIN_S = 60


def environment():
    """Reads the addresses and the key of the cluster that is up."""
    path = ROOT / "data" / "cluster.env"
    if not path.exists():
        sys.exit("smoke: no cluster is up: `make cluster` starts one")
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def order(account, **more):
    """Returns the body of a request."""
    return {"model": account.model, "messages": [{"role": "user", "content": "What is 47 + 38?"}], **more}


def submit(account, gateway, idempotency_key=None, **more):
    """Submits a job without waiting for its end."""
    headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
    return account.send(gateway, "POST", "/submit_job", order(account, max_output=64, **{"temperature": 0.7, **more}), headers)


def chats(account, tally):
    """The same request at either gateway is answered, by three of three."""
    for gateway in range(len(account.urls)):
        body = order(account, verification={"quorum": 3})
        answer = account.send(gateway, "POST", "/v1/chat/completions", body, patience_s=ENDS_WITHIN_S)
        name = f"gateway {gateway + 1}"
        tally.hold(f"{name} answers", answer.status == 200, answer)
        if answer.status != 200:
            continue
        reply = answer.json()
        three = {"asked": 3, "answered": 3, "agreed": 3}
        tally.hold(f"{name}: the answer is verified", reply["verification"]["status"] == "verified", reply)
        tally.hold(f"{name}: three of three agree", reply["verification"]["replicas"] == three, reply)


def jobs(account, tally):
    """A job that is submitted at one gateway is read, repeated and cancelled at the other."""
    name = secrets.token_hex(8)
    first = submit(account, 0, name)
    tally.hold("gateway 1 accepts a job", first.status == 200, first)
    if first.status != 200:
        return
    job = first.json()["job_id"]
    again = submit(account, 1, name)
    is_same = again.status == 200 and again.json()["job_id"] == job
    tally.hold("the same idempotency key at gateway 2 is the same job", is_same, again)
    other = submit(account, 1, name, temperature=0.5)
    tally.hold("the same key for another body is refused", other.status == 422, other)
    ended = account.end(1, job, ENDS_WITHIN_S)
    tally.hold("gateway 2 tells its end", ended.status == 200 and ended.json()["status"] == "succeeded", ended)
    seen = account.end(0, job, ENDS_WITHIN_S)
    tally.hold("both gateways tell the same", seen.status == 200 and seen.json() == ended.json(), seen)
    doomed = submit(account, 0).json()["job_id"]
    account.send(1, "DELETE", f"/v1/jobs/{doomed}")
    end = account.end(0, doomed, ENDS_WITHIN_S)
    is_over = end.status == 200 and end.json()["status"] in ("cancelled", "succeeded")
    tally.hold("a job is cancelled at the other gateway, unless it had ended", is_over, end)
    stranger = ask(f"{account.urls[1]}/v1/jobs/{job}", key="inf_x")
    tally.hold("an unknown key reads no job", stranger.status == 401, stranger)


def traces(account, tally, url):
    """One traced request: gateway, verifier and workers send spans of its trace to the collector."""
    programs = {"infera-gateway", "infera-verifier", "infera-worker"}
    collector = Collector(url)
    try:
        trace = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        body = order(account, max_tokens=16)
        answer = account.send(0, "POST", "/v1/chat/completions", body, headers, patience_s=ENDS_WITHIN_S)
        tally.hold("a traced request is answered", answer.status == 200, answer)
        until = time.monotonic() + ENDS_WITHIN_S
        while (found := collector.senders(trace, programs)) != programs and time.monotonic() < until:
            time.sleep(0.2)
        tally.hold("gateway, verifier and worker send spans of one trace", found == programs, sorted(found))
        unknown = collector.senders(secrets.token_hex(16), programs)
        tally.hold("no program sends spans of a trace that was not begun", not unknown, sorted(unknown))
    finally:
        collector.close()


def main():
    """Tries everything and prints the sum."""
    at = environment()
    urls = [at["CLUSTER_GATEWAY_1_URL"], at["CLUSTER_GATEWAY_2_URL"]]
    account = Account(urls, bearer(at["INFERA_API_KEY"]), at.get("INFERA_MODEL", "infera-tiny"))
    tally = Tally("smoke")
    began = time.monotonic()
    chats(account, tally)
    jobs(account, tally)
    if "TEST_TRACES_URL" in at:
        traces(account, tally, at["TEST_TRACES_URL"])
    print(f"smoke: the cluster was tried for {time.monotonic() - began:.1f} s")
    sys.exit(tally.print_sum())


if __name__ == "__main__":
    main()
