"""Series and page, from samples that k6 recorded (recorded.csv: the first six seconds of a smoke run, every fifth check) and
from made-up ones. The page is parsed, and opened in a browser if there is one.
"""

import shutil
import subprocess
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

import page
import plot
from series import STREAM_TRENDS, Series, percentiles
from target import Trouble, find, of_settings, settings

RECORDED = Path(__file__).parent / "recorded.csv"
COLUMNS = "metric_name,timestamp,metric_value,check,error_code,expected_response,name,scenario,status,extra_tags,metadata"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VOID = {"meta", "line", "path", "circle"}


def series_of(lines):
    """Returns the series of a list of lines."""
    series = Series()
    for line in lines:
        series.feed(line)
    return series.as_dict()


def recorded():
    """Returns the series of the recorded samples."""
    return series_of(RECORDED.read_text().splitlines())


class Parsed(HTMLParser):
    """Parses a page, and checks that its tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.references, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        self.texts.append(data)


RUN = {
    "scenario": "smoke", "settings": {"RATE": "3"}, "began": "2026-11-22 18:42:44 UTC", "seconds": 6.0,
    "machine": "a machine & more", "revision": "abc", "generator": "k6 v1.1.0", "target": "local", "urls": ["http://127.0.0.1:1"],
    "status": 0, "kept": 3, "broken": 0,
    "resources": {"k6": {"at_s": [1795372965.0, 1795372966.0], "cores": [0.1, 0.2], "mib": [50.0, 51.0]}},
}


def made_page(rate_ok=True):
    """Makes a page from the recorded samples and a made-up summary."""
    values = {"rate": 1.0 if rate_ok else 0.97}
    summary = {"metrics": {"checks": {"values": values, "thresholds": {"rate==1": {"ok": rate_ok}}}, "vus": {"values": {}}}}
    return page.html({**RUN, "broken": 0 if rate_ok else 1}, summary, recorded())


class SeriesOfSamples(unittest.TestCase):
    """Counts and percentiles, compared with figures counted in the file by other means."""

    def test_recorded_samples(self):
        series = recorded()
        self.assertEqual(series["totals"], {"end looked": 2, "end succeeded": 17, "started": 19, "status 200": 29})
        self.assertEqual((series["steps"], series["step_s"]), (7, 1))
        self.assertEqual(series["per_second"]["started"], [3, 2, 3, 2, 5, 2, 2])
        self.assertEqual({name: found["count"] for name, found in series["requests"].items()}["chat"], 9)
        submits = series["latency_total_ms"]["submit_latency"]
        self.assertEqual(submits, {"count": 8, "min": 2.0, "p50": 3.0, "p95": 9.333252, "p99": 9.333252, "max": 9.333252})
        self.assertEqual(sum(found["held"] for found in series["checks"].values()), 60)

    def test_percentiles_are_nearest_rank(self):
        self.assertEqual(percentiles(range(1, 201)), {"count": 200, "min": 1, "p50": 100, "p95": 190, "p99": 198, "max": 200})
        self.assertEqual(percentiles([7]), {"count": 1, "min": 7, "p50": 7, "p95": 7, "p99": 7, "max": 7})
        self.assertEqual(percentiles([])["p99"], None)

    def test_no_reply_dropped_phases_and_broken_checks_are_told(self):
        series = series_of([
            COLUMNS,
            "http_reqs,1000,1,,1050,false,chat,answer,0,,",
            "dropped_iterations,1500,2,,,,,answer,,,",
            "checks,1500,0,a sentence,,,,answer,,,",
            "answer_latency,2500,12.5,,,,,answer,,phase=spike,",
            "ends,2500,1,,,,,answer,,phase=spike&end=broken,",
        ])
        self.assertEqual(series["totals"], {"dropped": 2, "end broken": 1, "status no reply": 1})
        self.assertEqual(series["checks"], {"a sentence": {"held": 0, "broken": 1}})
        self.assertEqual(series["latency_by_phase_ms"]["spike"]["answer_latency"]["p50"], 12.5)

    def test_long_runs_get_wider_steps(self):
        lines = [COLUMNS] + [f"lateness,{second * 1000},1,,,,,answer,,," for second in range(1000)]
        series = series_of(lines)
        self.assertEqual((series["step_s"], series["steps"]), (4, 250))
        self.assertEqual(series["per_second"]["started"], [1.0] * 250)

    def test_the_knee_is_the_highest_rate_served_in_time(self):
        lines = [COLUMNS]
        # Three windows of ten seconds: 2/s answered at once, 4/s still in time, 8/s too late.
        for window, (rate, answer_ms) in enumerate([(2, 20), (4, 800), (8, 5000)]):
            for arrival in range(rate * 10):
                at_ms = window * 10_000 + arrival * 1000 // rate
                lines += [f"lateness,{at_ms},1,,,,,answer,,,", f"answer_latency,{at_ms},{answer_ms},,,,,answer,,,"]
        knee = series_of(lines)["knee"]
        self.assertEqual(knee, {"per_second": 4.0, "answer_p95_ms": 800.0, "at_s": 10})
        self.assertIsNone(series_of([COLUMNS])["knee"])


class Page(unittest.TestCase):
    """What a reader sees."""

    def test_it_is_whole_and_needs_nothing_from_elsewhere(self):
        text = made_page()
        parsed = Parsed(text)
        self.assertEqual((parsed.open, parsed.references), ([], []))
        self.assertNotIn("url(", text)
        self.assertNotIn("nan", " ".join(line for line in text.split("<") if line.startswith("path")))
        self.assertIn("prefers-color-scheme: dark", text)
        self.assertEqual(parsed.tags.count("svg"), 9)
        words = " ".join(parsed.texts)
        for word in ("a machine & more", "k6 v1.1.0", "smoke", "kept", "rate==1", "pass", "p99 ms", "RATE=3"):
            self.assertIn(word, words)
        self.assertNotIn("FAIL", words)

    def test_streams_are_told_by_release(self):
        series = Series(STREAM_TRENDS)
        series.feed(COLUMNS)
        for at_ms in (1795372965000, 1795372966000):
            for release, gap_ms in (("agreed", 50), ("first", 40)):
                tags = f"release={release}"
                ended = "&end=verified"
                for metric, value, more in (
                    ("lateness", 1, ""), ("first_token", 120, ""), ("token_gap", gap_ms, ""), ("token_rate", 20, ""),
                    ("stream_latency", 900, ""), ("released_tokens", 16, ""), ("streams_by_release", 1, ended), ("ends", 1, ended),
                ):
                    series.feed(f"{metric},{at_ms},{value},,,,,streams,,{tags}{more},")
        series.feed("stream_errors,1795372966000,1,,,,,streams,,code=no_consensus,")
        found = series.as_dict()
        self.assertEqual(found["released"], {"agreed": {"tokens": 32, "verified": 2}, "first": {"tokens": 32, "verified": 2}})
        self.assertEqual(found["latency_by_release_ms"]["first"]["token_gap"]["max"], 40)
        self.assertNotIn("token_rate", found["latency_total_ms"])
        self.assertEqual(found["totals"]["released tokens"], 64)
        parsed = Parsed(page.html(RUN, {"metrics": {}}, found))
        self.assertEqual((parsed.open, parsed.references), ([], []))
        words = " ".join(parsed.texts)
        for word in ("Streams by release", "agreed: first token", "first: token gap", "tokens a second of a stream", "no_consensus",
                     "Tokens shown", "Streams: from one piece"):
            self.assertIn(word, words)
        self.assertNotIn("Synchronous answers", words)

    def test_a_broken_threshold_is_seen(self):
        words = " ".join(Parsed(made_page(rate_ok=False)).texts)
        self.assertIn("FAIL", words)
        self.assertIn("0.97", words)

    def test_a_threshold_that_nothing_was_measured_for_is_broken(self):
        empty = {"type": "trend", "values": {"count": 0, "p(99)": 0}, "thresholds": {"p(99)<200": {"ok": True}}}
        self.assertEqual(page.thresholds({"metrics": {"m{phase:after}": empty}}), [("m{phase:after}", "p(99)<200", "no samples", False)])

    @unittest.skipUnless(any(map(shutil.which, BROWSERS)), "no browser here: the page was parsed instead")
    def test_a_browser_draws_it(self):
        browser = next(filter(None, map(shutil.which, BROWSERS)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            # After a browser's layout every figure must have a size and every line a length.
            script = (
                "<script>document.title = [...document.querySelectorAll('figure svg')].map((s) => Math.round("
                "s.getBoundingClientRect().width) + ':' + Math.round([...s.querySelectorAll('path')].reduce((sum, p) =>"
                " sum + p.getTotalLength(), 0))).join(' ')</script>"
            )
            path.write_text(made_page() + script)
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
                       "--window-size=1000,800", "--dump-dom", path.as_uri()]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        title = done.stdout.partition("<title>")[2].partition("</title>")[0]
        figures = [tuple(map(int, figure.split(":"))) for figure in title.split()]
        self.assertEqual(len(figures), 9, title)
        for width, length in figures:
            self.assertGreater(width, 600)
            self.assertGreater(length, 100)


class Plots(unittest.TestCase):
    """The axes of diagrams."""

    def test_ticks(self):
        self.assertEqual(plot.linear_ticks(9), [0, 5, 10])
        self.assertEqual(plot.linear_ticks(0), [0, 0.5, 1.0])
        self.assertEqual(plot.logarithmic_ticks(3, 45), [2, 5, 10, 20, 50])
        self.assertEqual(plot.logarithmic_ticks(1, 1), [1, 2])
        self.assertEqual(plot.logarithmic_ticks(5, 5), [2, 5])
        self.assertEqual(plot.logarithmic_ticks(3, 4500), [1, 10, 100, 1000, 10000])

    def test_gaps_and_lonely_values(self):
        text = plot.svg(plot.Plot("t", "ms", [plot.Line("a", [1, None, 2, 3, None])]))
        self.assertEqual((text.count("<circle"), text.count("M")), (1, 1))
        self.assertIn("<svg", plot.svg(plot.Plot("t", "ms", [plot.Line("a", [])], is_logarithmic=True)))

    def test_clock(self):
        self.assertEqual([plot.clock(seconds) for seconds in (0, 61, 3725)], ["0:00", "1:01", "1:02:05"])


class Targets(unittest.TestCase):
    """The choice of a run's target."""

    def test_env_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cluster.env"
            path.write_text("# two\nCLUSTER_GATEWAY_2_URL=http://b\nexport CLUSTER_GATEWAY_1_URL='http://a'\nINFERA_API_KEY=k\n")
            target = of_settings("cluster", settings(path))
            self.assertEqual((target.urls, target.key), (["http://a", "http://b"], "k"))
            self.assertNotIn("'k'", repr(target))
            # Named, but nothing listens there.
            with self.assertRaises(Trouble):
                find({"TARGET": "cluster"}, folder)
            with self.assertRaises(Trouble):
                find({}, Path(folder) / "nothing")
        self.assertIsNone(of_settings("x", {"INFERA_URL": "http://a"}))

    def test_what_the_caller_named_is_what_is_blamed(self):
        with tempfile.TemporaryDirectory() as folder:
            keyless, silent = Path(folder) / "keyless.env", Path(folder) / "silent.env"
            keyless.write_text("INFERA_URL=http://127.0.0.1:1\n")
            silent.write_text("INFERA_URL=http://127.0.0.1:1\nINFERA_API_KEY=k\n")
            for environment, words in [
                ({"TARGET": "/nope.env"}, ["TARGET=/nope.env", "no file /nope.env"]),
                ({"TARGET": "local"}, ["TARGET=local", f"no file {folder}/local.env"]),
                ({"TARGET": folder}, [f"no file {folder}"]),
                ({"TARGET": str(keyless)}, [f"{keyless} names no gateway or no key"]),
                ({"TARGET": str(silent)}, [f"{silent} names http://127.0.0.1:1, where nothing answers"]),
                ({"LOAD_URLS": "http://127.0.0.1:1"}, ["INFERA_API_KEY", "isn't set"]),
                ({"LOAD_URLS": "http://127.0.0.1:1,b:x", "INFERA_API_KEY": "k"}, ["LOAD_URLS names http://127.0.0.1:1, b:x"]),
            ]:
                with self.subTest(environment), self.assertRaises(Trouble) as raised:
                    find(environment, folder)
                for word in [*words]:
                    self.assertIn(word, str(raised.exception))
                self.assertNotIn("neither", str(raised.exception))


if __name__ == "__main__":
    unittest.main()
