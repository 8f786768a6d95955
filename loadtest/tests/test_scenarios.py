"""The scenarios in k6 itself: their shapes, and that a run notices every fault of a gateway."""

import contextlib
import io
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import run
from tests.gateway import Gateway
from tests.lies import LIES as LIES_OF_STREAMS
from tests.lies import LIES_OF_CONNECTIONS

# The checks that a gateway breaks which lies in every reply.
LIES = {
    "answer: text is not empty",
    "answer: a chat.completion of the model asked for",
    "answer: role and finish_reason",
    "answer: ids belong together",
    "usage: prompt and completion are counted",
    "usage: the total is their sum",
    "verification: status is verified",
    "verification: 3 of 3 replicas were asked",
    "verification: the quorum answered",
    "verification: the quorum agreed",
    "verification: a rung and numbers inside",
    "every reply: JSON",
    "every reply: x-request-id",
    "every reply: not to be stored",
    "submit: a job id, in body and header",
    "network_stats: 200 and counts",
    "mistakes under /v1: the expected code",
    "mistakes under /v1: message, type and param",
    "mistakes on the network's paths: FastAPI's detail",
}


def load(gateway, scenario="smoke", **settings):
    """Runs a scenario against a gateway; returns (exit status, promises broken by name, summary, the folder's series)."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "LOAD_URLS": f"{gateway.url},{gateway.url}", "INFERA_API_KEY": "inf_test", "REPORTS": folder,
            "RATE": "20", "DURATION": "3", **settings,
        }
        words = io.StringIO()
        with mock.patch.dict(os.environ, environment, clear=True), mock.patch("sys.argv", ["run.py", scenario]):
            with contextlib.redirect_stdout(words):
                try:
                    run.main()
                    status = 0
                except SystemExit as end:
                    status = end.code
        (report,) = Path(folder).iterdir()
        page_is_there = (report / "report.html").exists()
        series = json.loads((report / "series.json").read_text())
        summary = json.loads((report / "summary.json").read_text())
    assert page_is_there
    return status, words.getvalue(), summary, series


class Scenarios(unittest.TestCase):
    """k6 reads the executors of each scenario as intended."""

    @classmethod
    def setUpClass(cls):
        cls.k6 = run.installed() / "k6"

    def test_each_is_an_open_model_that_fails_on_dropped_arrivals(self):
        self.assertEqual(run.K6_SCENARIOS, ["average", "breakpoint", "smoke", "soak", "spike", "stress"])
        for name in run.K6_SCENARIOS:
            command = [self.k6, "inspect", run.FOLDER / "scenarios" / f"{name}.js"]
            options = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            executors = {about["executor"] for about in options["scenarios"].values()}
            self.assertLessEqual(executors, {"constant-arrival-rate", "ramping-arrival-rate"}, name)
            self.assertEqual(set(options["scenarios"]), {"answer", "submit", "look"}, name)
            self.assertIn("dropped_iterations", options["thresholds"], name)

    def test_arrivals_are_due_when_the_table_says(self):
        command = [self.k6, "run", "--quiet", run.FOLDER / "tests" / "schedule.js"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Smoke(unittest.TestCase):
    """A whole run against gateways that are right, lie, stall and refuse."""

    def test_what_is_right_passes(self):
        with Gateway() as gateway:
            status, words, _, series = load(gateway)
        self.assertEqual(status, 0, words)
        self.assertRegex(words, r"load: [0-9]+ promises kept, 0 broken\n$")
        self.assertGreaterEqual(series["totals"]["started"], 55)
        self.assertGreater(series["totals"]["end cancelled"], 0)
        self.assertIn("submit again: marked as a replay", series["checks"])

    def test_every_lie_is_noticed(self):
        with Gateway(lies=True) as gateway:
            status, words, _, series = load(gateway)
        self.assertEqual(status, 1, words)
        noticed = {sentence for sentence, found in series["checks"].items() if found["broken"] > 0}
        self.assertEqual(LIES - noticed, set(), words)
        self.assertNotIn("end succeeded", series["totals"])

    def test_a_stalled_gateway_fails_the_run_by_dropped_arrivals(self):
        with Gateway(delay_s=3.0) as gateway:
            status, words, summary, _ = load(gateway, HOLD_S="1")
        self.assertEqual(status, 1, words)
        self.assertFalse(summary["metrics"]["dropped_iterations"]["thresholds"]["count==0"]["ok"])
        # Arrivals that started late have that wait in their latency; coordinated omission would hide it.
        self.assertGreater(summary["metrics"]["answer_latency"]["values"]["max"], 3000)

    def test_a_refusal_is_honest_or_broken(self):
        with Gateway(refusal={"retry_after": "1"}) as gateway:
            _, words, _, honest = load(gateway)
        self.assertIn("end shed", honest["totals"], words)
        self.assertNotIn("end broken", honest["totals"], words)
        with Gateway(refusal={}) as gateway:
            status, words, _, rude = load(gateway)
        self.assertEqual(status, 1)
        self.assertNotIn("end shed", rude["totals"], words)
        self.assertGreater(rude["checks"]["refusals: Retry-After and a reason"]["broken"], 0)


class StreamSmoke(unittest.TestCase):
    """A whole run of streams against gateways that are right, lie, refuse and end streams by errors."""

    def test_what_is_right_passes(self):
        with Gateway() as gateway:
            status, words, summary, series = load(gateway, "stream-smoke")
        self.assertEqual(status, 0, words)
        self.assertRegex(words, r"load: [0-9]+ promises kept, 0 broken\n$")
        self.assertGreaterEqual(series["totals"]["started"], 55)
        self.assertEqual(set(series["released"]), {"agreed", "first", "verified"})
        self.assertGreater(series["totals"]["end hung up: cancelled"] + series["totals"].get("end hung up: succeeded", 0), 0, words)
        self.assertIn("same seed unstreamed: the same text", series["checks"])
        self.assertGreater(summary["metrics"]["token_gap"]["values"]["max"], 5, "events come 10 ms apart")
        self.assertEqual(series["latency_total_ms"]["first_token"]["count"], series["totals"]["started"])

    def test_every_lie_is_noticed(self):
        with Gateway(lies=True) as gateway:
            status, words, _, series = load(gateway, "stream-smoke", RATE="60", DURATION="6", HOLD_S="30")
        self.assertEqual(status, 1, words)
        noticed = {sentence for sentence, found in series["checks"].items() if found["broken"] > 0}
        told = set().union(*LIES_OF_STREAMS.values(), *LIES_OF_CONNECTIONS.values())
        self.assertEqual((told - noticed), set(), words)
        self.assertTrue(any(sentence.startswith("no reply is lost: ") for sentence in noticed), words)
        self.assertIn("hung up: the job ends within a minute, cancelled or answered", noticed)

    def test_arrivals_that_find_no_place_fail_the_run_and_late_ones_count_from_when_they_were_due(self):
        with Gateway(delay_s=1.5) as gateway:
            status, words, summary, series = load(gateway, "stream-smoke", HOLD_S="0.2", DURATION="2")
        self.assertEqual(status, 1, words)
        self.assertFalse(summary["metrics"]["dropped_iterations"]["thresholds"]["count==0"]["ok"])
        self.assertGreater(series["latency_total_ms"]["first_token"]["min"], 1500)

    def test_a_refusal_is_honest_or_broken(self):
        for refusal, end, other in (({"retry_after": "1"}, "shed", "broken"), ({}, "broken", "shed")):
            with Gateway(refusal=refusal) as gateway:
                status, words, _, series = load(gateway, "stream-smoke", DURATION="1")
            self.assertEqual(status, 1, words)
            self.assertIn(f"end {end}", series["totals"], words)
            self.assertNotIn(f"end {other}", series["totals"], words)

    def test_error_events_are_told_by_their_code(self):
        for code, end in (("no_consensus", "failed"), ("stream_overturned", "overturned"), ("stream_too_slow", "cut off")):
            with Gateway(event={"code": code, "message": "no"}) as gateway:
                status, words, summary, series = load(gateway, "stream-smoke", DURATION="1")
            self.assertEqual(status, 1, words)
            self.assertFalse(summary["metrics"]["failed"]["thresholds"]["rate==0"]["ok"])
            self.assertIn(f"error event {code}", series["totals"])
            self.assertIn(f"end {end}", series["totals"])
            self.assertNotIn("end broken", series["totals"], words)

    def test_a_run_that_would_measure_a_limit_is_not_made(self):
        with tempfile.TemporaryDirectory() as folder, Gateway() as gateway:
            environment = {**os.environ, "LOAD_URLS": gateway.url, "INFERA_API_KEY": "k", "REPORTS": folder, "MODEL": "another"}
            said = io.StringIO()
            with mock.patch.dict(os.environ, environment), mock.patch("sys.argv", ["run.py", "stream-smoke"]):
                with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), self.assertRaises(SystemExit) as end:
                    run.main()
        self.assertEqual(end.exception.code, 2)
        self.assertIn("three nodes of another are needed", said.getvalue())


if __name__ == "__main__":
    unittest.main()
