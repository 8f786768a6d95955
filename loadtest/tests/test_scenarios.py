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


def load(gateway, **settings):
    """Runs smoke against a gateway; returns (exit status, promises broken by name, summary, the folder's series)."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "LOAD_URLS": f"{gateway.url},{gateway.url}", "INFERA_API_KEY": "inf_test", "REPORTS": folder,
            "RATE": "20", "DURATION": "3", **settings,
        }
        words = io.StringIO()
        with mock.patch.dict(os.environ, environment, clear=True), mock.patch("sys.argv", ["run.py", "smoke"]):
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
        cls.k6 = run.k6_program()

    def test_each_is_an_open_model_that_fails_on_dropped_arrivals(self):
        self.assertEqual(run.SCENARIOS, ["average", "breakpoint", "smoke", "soak", "spike", "stress"])
        for name in run.SCENARIOS:
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


if __name__ == "__main__":
    unittest.main()
