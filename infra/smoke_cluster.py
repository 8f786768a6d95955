#!/usr/bin/env python3
"""Does what a client does with a cluster that is up: every promise is tried at one gateway and looked at from the other.

    infra/smoke_cluster.py

Reads data/cluster.env. Standard library only. Exits with 1 if a promise is broken.
"""

import json
import secrets
import sys
import time
import urllib.error
import urllib.request

from service.collector import Collector
from service.place import ROOT
from service.web import Answer, ask

# A job of the bundled model takes well under a second; a busy machine is slow, and not broken.
ENDS_WITHIN_S = 60
KEPT, BROKEN = [], []


def hold(promise, is_kept, found=""):
    """Counts a promise; shows it if it is broken."""
    (KEPT if is_kept else BROKEN).append(promise)
    if not is_kept:
        print(f"smoke: broken: {promise}: {getattr(found, 'text', found)}")


def environment():
    """Addresses and key of the cluster that is up."""
    path = ROOT / "data" / "cluster.env"
    if not path.exists():
        sys.exit("smoke: no cluster is up: `make cluster`")
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


class Client:
    """One account at both gateways."""

    def __init__(self, at):
        self.urls = [at["CLUSTER_GATEWAY_1_URL"], at["CLUSTER_GATEWAY_2_URL"]]
        self.key, self.model = at["INFERA_API_KEY"], at.get("INFERA_MODEL", "infera-tiny")

    def order(self, **more):
        """A request's body."""
        return {"model": self.model, "messages": [{"role": "user", "content": "What is 47 + 38?"}], **more}

    def send(self, gateway, method, path, body=None, idempotency=None, traceparent=None):
        """A request with a method and headers that `ask` doesn't have."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        if idempotency:
            headers["Idempotency-Key"] = idempotency
        if traceparent:
            headers["traceparent"] = traceparent
        request = urllib.request.Request(self.urls[gateway] + path, body, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=ENDS_WITHIN_S) as answer:
                return Answer(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode(errors="replace"))
        except OSError as error:
            return Answer(0, str(error))

    def submit(self, gateway, idempotency=None, **more):
        """A job that nobody waits for."""
        body = json.dumps(self.order(**{"max_output": 64, "temperature": 0.7, **more})).encode()
        return self.send(gateway, "POST", "/submit_job", body, idempotency)

    def end(self, gateway, job):
        """The job object once it has ended, as this gateway sees it."""
        until = time.monotonic() + ENDS_WITHIN_S
        while True:
            answer = ask(f"{self.urls[gateway]}/v1/jobs/{job}", key=self.key)
            if answer.status != 200 or answer.json()["status"] not in ("queued", "running") or time.monotonic() > until:
                return answer
            time.sleep(0.1)


def chats(client):
    """The same request at either gateway: right, by three of three."""
    for number, url in enumerate(client.urls, 1):
        answer = ask(f"{url}/v1/chat/completions", client.order(verification={"quorum": 3}), client.key, ENDS_WITHIN_S)
        hold(f"gateway {number} answers", answer.status == 200, answer)
        if answer.status != 200:
            continue
        reply = answer.json()
        three = {"asked": 3, "answered": 3, "agreed": 3}
        hold(f"gateway {number}: it is verified", reply["verification"]["status"] == "verified", reply)
        hold(f"gateway {number}: by three of three", reply["verification"]["replicas"] == three, reply)


def jobs(client):
    """Submitted at one, read, repeated and cancelled at the other."""
    name = secrets.token_hex(8)
    first = client.submit(0, name)
    hold("gateway 1 accepts a job", first.status == 200, first)
    if first.status != 200:
        return
    job = first.json()["job_id"]
    again = client.submit(1, name)
    hold("the same idempotency key at gateway 2 is the same job", again.status == 200 and again.json()["job_id"] == job, again)
    other = client.submit(1, name, temperature=0.5)
    hold("the same key for another body is refused", other.status == 422, other)
    ended = client.end(1, job)
    hold("gateway 2 tells its end", ended.status == 200 and ended.json()["status"] == "succeeded", ended)
    seen = client.end(0, job)
    hold("both gateways tell the same", seen.status == 200 and seen.json() == ended.json(), seen)
    doomed = client.submit(0).json()["job_id"]
    client.send(1, "DELETE", f"/v1/jobs/{doomed}")
    end = client.end(0, doomed)
    fine = end.status == 200 and end.json()["status"] in ("cancelled", "succeeded")
    hold("a job is called off at the other gateway, unless it had ended", fine, end)
    stranger = Client({"CLUSTER_GATEWAY_1_URL": client.urls[0], "CLUSTER_GATEWAY_2_URL": client.urls[1], "INFERA_API_KEY": "inf_x"})
    hold("no key, no job", ask(f"{stranger.urls[1]}/v1/jobs/{job}", key=stranger.key).status == 401)


def traces(client, url):
    """One request of a client that traces: gateway, verifier and workers send spans of that trace to the collector."""
    programs = {"infera-gateway", "infera-verifier", "infera-worker"}
    collector = Collector(url)
    try:
        trace = secrets.token_hex(16)
        body = json.dumps(client.order(max_tokens=16)).encode()
        answer = client.send(0, "POST", "/v1/chat/completions", body, traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")
        hold("a traced request is answered", answer.status == 200, answer)
        until = time.monotonic() + ENDS_WITHIN_S
        while (found := collector.senders(trace, programs)) != programs and time.monotonic() < until:
            time.sleep(0.2)
        hold("gateway, verifier and worker tell of it in one trace", found == programs, sorted(found))
        hold("nobody tells of a trace that was not", not collector.senders(secrets.token_hex(16), programs))
    finally:
        collector.close()


def main():
    """All of it, and the sum."""
    at = environment()
    client = Client(at)
    began = time.monotonic()
    chats(client)
    jobs(client)
    if "TEST_TRACES_URL" in at:
        traces(client, at["TEST_TRACES_URL"])
    print(f"smoke: the cluster was tried for {time.monotonic() - began:.1f} s")
    print(f"smoke: {len(KEPT)} promises kept, {len(BROKEN)} broken")
    sys.exit(1 if BROKEN else 0)


if __name__ == "__main__":
    main()
