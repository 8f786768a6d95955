"""The parts of the load of streams that need no network: when arrivals are due, what is asked, events, checks, thresholds."""

import math
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import run
from streams import checks, samples, scenarios, schedule
from streams.asked import asked, unstreamed
from streams.events import EventReader
from streams.transcript import Transcript
from tests.gateway import ALL_LIES
from tests.lies import LIES, completion_of, events

JOB = "job_" + "a" * 32


def everything():
    """Returns a request that asks for all that can be checked."""
    found = next(one for one in (asked(index, "infera-tiny", 0) for index in range(200))
                 if one.has_usage and one.has_token_ids and one.is_compared)
    return replace(found, body={**found.body, "n": 2}, n=2)


def broken(lie, one):
    """Returns the sentences that a stream with a lie breaks."""
    heard = Transcript("infera-tiny")
    for number, data in enumerate(events(JOB, one.body, lie)):
        heard.hear(data, number / 10)
    heard.end()
    pairs = [*checks.every_stream(heard)]
    pairs += checks.error_event(heard) if heard.error else []
    if heard.is_done:
        pairs += [*checks.whole(heard, one), *checks.same_unstreamed(heard, completion_of(JOB, one.body))]
    return {sentence for sentence, holds in pairs if not holds}, heard


class Checks(unittest.TestCase):
    """Each lie breaks its own promises and no others."""

    def test_what_is_right_breaks_none(self):
        found, heard = broken("", everything())
        self.assertEqual(found, set())
        self.assertEqual((checks.end_of(heard), heard.token_count(), heard.job()), ("verified", 6, JOB))
        # Roles come first, so the first text is the second event; of each of two answers three texts come, 0.1 s apart.
        self.assertAlmostEqual(heard.first_text_s, 0.1)
        self.assertEqual([round(gap_s, 9) for gap_s in heard.gaps_s], [0.1] * 4)

    def test_each_lie(self):
        for lie, sentences in LIES.items():
            with self.subTest(lie):
                self.assertEqual(broken(lie, everything())[0], sentences)

    def test_each_kind_of_stream_meets_each_lie(self):
        # The lengths of the turns in asked.py.
        for turn in (2, 3, 4, 5, 7, 8, 10, 11):
            self.assertEqual(math.gcd(len(ALL_LIES), turn), 1, turn)

    def test_ends(self):
        self.assertEqual(checks.end_of(broken("disputed", everything())[1]), "disputed")
        self.assertEqual(checks.end_of(broken("an error without a code", everything())[1]), "failed")
        self.assertEqual(checks.end_of(broken("no finish", everything())[1]), "broken")

    def test_refusals(self):
        honest = {"error": {"code": "queue_full"}}
        for status, retry_after, body, expected in [
            (429, "3", honest, [True]), (503, "0", {"detail": "away"}, [True]), (429, None, honest, [False]),
            (429, "soon", honest, [False]), (503, "3", {}, [False]), (500, "3", honest, []),
        ]:
            self.assertEqual([holds for _, holds in checks.refusal(status, retry_after, body)], expected, (status, retry_after, body))

    def test_a_stream_of_anything_is_wrong_and_no_fault_of_ours(self):
        for data in ("null", "[]", "3", '"x"', '{"choices": 3}', '{"choices": [3]}', '{"choices": [{"index": 0, "delta": 3}]}',
                     '{"choices": [{"index": 99, "delta": {}}]}', '{"choices": [{"index": [], "delta": {}}]}', '{"usage": []}', "{"):
            heard = Transcript("infera-tiny")
            heard.hear(data, 0.0)
            heard.end()
            self.assertFalse(all(holds for _, holds in checks.every_stream(heard)), data)


class Events(unittest.TestCase):
    """Bodies come in any pieces."""

    def test_pieces(self):
        body = "data: {\"a\":1}\n\n: keep-alive\n\ndata:b\r\n\r\nevent: x\nid: 3\ndata: é\ndata: f\n\n".encode()
        for size in range(1, len(body) + 1):
            reader, found = EventReader(), []
            for begin in range(0, len(body), size):
                found += reader.feed(body[begin:begin + size])
            self.assertEqual(found, ['{"a":1}', "b", "é\nf"])
            self.assertFalse(reader.is_cut)

    def test_what_is_cut_or_has_no_end(self):
        reader = EventReader()
        reader.feed(b"data: a\n")
        self.assertTrue(reader.is_cut)
        with self.assertRaises(ValueError):
            reader.feed(b"x" * (2 << 20))


class Schedule(unittest.TestCase):
    """Arrivals are due when the area under the rate says so."""

    def test_moments(self):
        self.assertEqual([*schedule.moments((4, [(1, 4)]))], [0, 0.25, 0.5, 0.75])
        # From 0 to 2 a second in 10 s: number n when t²/10 = n. Then 2 a second.
        hill = [*schedule.moments((0, [(10, 2), (5, 2), (10, 0)]))]
        self.assertEqual(len(hill), 30)
        self.assertEqual([round(moment, 6) for moment in hill[:3]], [0, 3.162278, 4.472136])
        self.assertEqual([round(moment, 6) for moment in hill[10:12]], [10, 10.5])
        self.assertEqual(hill, sorted(hill))
        self.assertLessEqual(hill[-1], 25)

    def test_phases(self):
        phases = [("before", 5), ("after", float("inf"))]
        self.assertEqual([schedule.phase_at(phases, moment) for moment in (4.9, 5, 99)], ["before", "after", "after"])
        self.assertIsNone(schedule.phase_at([], 1))

    def test_scenarios(self):
        self.assertEqual(run.STREAM_SCENARIOS, scenarios.NAMES)
        for name, arrivals, phases in (("stream-smoke", 120, 0), ("stream-average", 1590, 0), ("stream-spike", 7150, 4)):
            made = scenarios.scenario(name, {})
            self.assertEqual((len([*schedule.moments(made.shape)]), len(made.phases)), (arrivals, phases), name)
            self.assertIn("dropped_iterations", made.thresholds)
            self.assertGreaterEqual(made.open_max, 20)
        self.assertEqual(len([*schedule.moments(scenarios.scenario("stream-smoke", {"RATE": "3", "DURATION": "10"}).shape)]), 30)
        for text in ("0", "-1", "many"):
            with self.assertRaises(scenarios.NoNumber):
                scenarios.scenario("stream-smoke", {"RATE": text})

    def test_every_kind_of_stream_is_asked_for_soon(self):
        made = [asked(index, "m", 0) for index in range(60)]
        for release in ("agreed", "first", "verified"):
            ours = [one for one in made if one.release == release]
            for what in ("is_compared", "has_usage", "has_token_ids"):
                self.assertEqual({getattr(one, what) for one in ours}, {True, False}, (release, what))
            self.assertEqual({one.n for one in ours}, {1, 2})
            self.assertEqual({one.path for one in ours}, {"/v1/chat/completions", "/chat/completions"})
            self.assertEqual(any(one.hangs_up for one in ours), release != "verified")
        self.assertEqual(unstreamed(made[1].body).keys() & {"stream", "stream_options"}, set())
        self.assertEqual(unstreamed(made[1].body)["seed"], made[1].body["seed"])


class Samples(unittest.TestCase):
    """Thresholds are judged as k6 judges them, but for those without a sample."""

    def test_thresholds(self):
        values = {"rate": 1.0, "count": 0, "p(95)": 10}
        for rule, expected in [("rate==1", True), ("rate>0.999", True), ("count==0", True), ("p(95)<10", False),
                               ("p(95)<=10", True), ("p(99)<10", False)]:
            self.assertEqual(samples.holds(rule, values), expected, rule)

    def test_the_summary(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "points"
            taken = samples.Samples(path, lambda: 1000)
            taken.trend("first_token", 7.0, {"phase": "after", "release": "agreed"})
            taken.check("a sentence", True)
            taken.rate("broken", False)
            wanted = {"first_token{phase:after}": ["p(95)<10"], "token_gap": ["p(99)<10"], "shed": ["count==0"], "broken": ["rate==0"]}
            summary = taken.summary(wanted)
            taken.close()
            self.assertIn('first_token,1000,7.000000,"",,,"",streams,,phase=after&release=agreed,', path.read_text().splitlines())
        metrics = summary["metrics"]
        self.assertTrue(metrics["first_token{phase:after}"]["thresholds"]["p(95)<10"]["ok"])
        self.assertEqual((metrics["token_gap"]["type"], metrics["token_gap"]["thresholds"]["p(99)<10"]["ok"]), ("trend", False))
        self.assertTrue(metrics["shed"]["thresholds"]["count==0"]["ok"])
        self.assertTrue(metrics["broken"]["thresholds"]["rate==0"]["ok"])
        self.assertFalse(samples.is_kept(summary))


if __name__ == "__main__":
    unittest.main()
