"""The client against gateways that misbehave: what it takes for an answer, and what it writes down."""

import asyncio
import socket
import tempfile
import threading
import time
import unittest
from pathlib import Path

import client
from client import Account, History, Load, api_key, ask, bearer
from evidence import lines
from promises import Tally, check_answers


class Gateway:
    """A server with a list of replies, of which each connection gets the next."""

    def __init__(self, *replies, hold_s=0.0):
        self.replies, self.hold_s = replies, hold_s
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.heard = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with self.listener:
            for reply in self.replies:
                connection, _ = self.listener.accept()
                with connection:
                    self.heard.append(connection.recv(10_000))
                    time.sleep(self.hold_s)
                    connection.sendall(reply)


def reply(status, body, *fields):
    """Returns a whole reply."""
    head = [f"HTTP/1.1 {status} -", f"content-length: {len(body)}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


ACCEPTED = reply(200, b'{"job_id":"j_1"}')
AWAY = reply(503, b"{}", "Retry-After: 0")
BROKEN_OFF = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"


class AnswerTest(unittest.TestCase):
    """One request."""

    def ask(self, reply, **more):
        gateway = Gateway(reply)
        answer = ask(f"{gateway.url}/path?a=1", key="k", **more)
        gateway.thread.join(timeout=5)
        return gateway.heard[0], answer

    def test_a_whole_reply_is_an_answer(self):
        heard, answer = self.ask(reply(404, b'{"a": 1}', "X-Name: value"))
        self.assertEqual((answer.status, answer.json(), answer.headers["x-name"]), (404, {"a": 1}, "value"))
        self.assertTrue(heard.startswith(b"GET /path?a=1 HTTP/1.1\r\n"))
        self.assertIn(b"authorization: Bearer k\r\n", heard)

    def test_a_body_is_posted_as_json(self):
        heard, _ = self.ask(AWAY, body={"b": 2})
        self.assertTrue(heard.startswith(b"POST /path?a=1 HTTP/1.1\r\n"))
        self.assertTrue(heard.endswith(b'content-length: 8\r\nauthorization: Bearer k\r\n\r\n{"b": 2}'))

    def test_a_reply_in_chunks_is_put_together(self):
        _, answer = self.ask(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n")
        self.assertEqual(answer.json(), [1, 2])

    def test_a_reply_that_broke_off_is_none(self):
        in_a_chunk = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1"
        for part in (b"", b"noise", b"HTTP/1.1 200 OK\r\nretry-af", BROKEN_OFF, in_a_chunk):
            _, answer = self.ask(part)
            self.assertEqual(answer.status, 0, part)
            self.assertRegex(answer.text, "broke off")

    def test_a_reply_without_end_is_none(self):
        bound, client.ANSWER_MAX_BYTES = client.ANSWER_MAX_BYTES, 100
        try:
            _, answer = self.ask(reply(200, b"x" * 101))
        finally:
            client.ANSWER_MAX_BYTES = bound
        self.assertEqual(answer.status, 0)
        self.assertRegex(answer.text, "more than 100 bytes")

    def test_silence_ends(self):
        gateway = Gateway(AWAY, hold_s=1.0)
        answer = ask(gateway.url, patience_s=0.1)
        self.assertEqual(answer.status, 0)
        self.assertRegex(answer.text, "TimeoutError")
        gateway.thread.join(timeout=5)

    def test_no_listener_is_no_answer(self):
        gateway = Gateway()
        gateway.thread.join(timeout=5)
        answer = ask(gateway.url)
        self.assertEqual(answer.status, 0)
        self.assertRegex(answer.text, "ConnectionRefusedError")


class AccountTest(unittest.TestCase):
    """One account at two gateways."""

    def test_an_end_is_waited_for(self):
        running, ended = reply(200, b'{"status": "running"}'), reply(200, b'{"status": "cancelled"}')
        gateway = Gateway(running, running, ended)
        answer = Account(["http://127.0.0.1:9", gateway.url], bearer("k")).end(1, "j_1", patience_s=10)
        self.assertEqual(answer.json()["status"], "cancelled")
        self.assertTrue(all(heard.startswith(b"GET /v1/jobs/j_1 ") for heard in gateway.heard))

    def test_an_end_that_does_not_come_is_told(self):
        gateway = Gateway(reply(200, b'{"status": "queued"}'))
        self.assertEqual(Account([gateway.url], bearer("k")).end(0, "j_1", patience_s=0).json()["status"], "queued")


class LoadTest(unittest.TestCase):
    """What is logged. `work(load)` is awaited."""

    def run_load(self, gateways, work):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history.jsonl"
            history = History(path)
            load = Load(Account([gateway.url for gateway in gateways], api_key("k"), "model"), history, "run")
            asyncio.run(work(load))
            history.close()
            return load, lines(path)

    def test_one_job_is_asked_for_under_one_key_until_it_is_accepted(self):
        first, second = Gateway(b"", AWAY), Gateway(BROKEN_OFF, ACCEPTED)
        load, written = self.run_load([first, second], lambda load: load.submit(0))
        phases = [line["phase"] for line in written]
        self.assertEqual(phases.count("invoke"), 4)  # sent to both at first
        self.assertEqual(sorted(set(phases) - {"invoke"}), ["fail", "info", "ok"])
        self.assertEqual([line["retry_after"] for line in written if line["phase"] == "fail"], ["0"])
        self.assertEqual(load.jobs, {0: "j_1"})
        for heard in first.heard + second.heard:
            self.assertIn(b"api_key: k\r\n", heard)
            self.assertIn(b"idempotency-key: run-0\r\n", heard)

    def test_an_acceptance_without_a_job_breaks_a_promise(self):
        gateway = Gateway(reply(200, b"{}"), reply(200, b"[]"), reply(200, b"no JSON"), ACCEPTED)
        load, written = self.run_load([gateway], lambda load: load.submit(1))
        self.assertEqual([line["status"] for line in written if line["phase"] == "fail"], [200, 200, 200])
        self.assertEqual(load.jobs, {1: "j_1"})
        tally = Tally("test")
        check_answers(type("Evidence", (), {"history": written}), tally)
        self.assertEqual(tally.breaches["answers other than 200, 429, 503"], 3)

    def test_a_closed_load_offers_each_number_once(self):
        gateway = Gateway(*[ACCEPTED] * 5)
        load, written = self.run_load([gateway], lambda load: load.offer_all(5, at_once=2))
        self.assertEqual(sorted(line["index"] for line in written if line["phase"] == "invoke"), list(range(5)))
        self.assertEqual((load.offered, load.accepted, load.at_once), (5, 5, 0))

    def test_ends_are_written_down_whatever_they_are(self):
        gateway = Gateway(reply(200, b'{"status": "succeeded"}'), reply(404, b"{}"), reply(200, b"[]"), b"")
        with tempfile.TemporaryDirectory() as folder:
            history = History(Path(folder) / "history.jsonl")
            load = Load(Account([gateway.url], api_key("k")), history, "run")
            load.jobs = {1: "j_1", 2: "j_2", 3: "j_3", 4: "j_4"}
            client.read_ends(load, at_once=1)
            history.close()
            ends = [line["end"] for line in lines(Path(folder) / "history.jsonl")]
        self.assertEqual(ends[:2], ["succeeded", "HTTP 404"])
        self.assertRegex(ends[2], "TypeError")
        self.assertRegex(ends[3], "broke off")


if __name__ == "__main__":
    unittest.main()
