"""Checks that dashboards and alerts name metrics that the programs have, and use each by its kind.

    python3 -m unittest discover -s infra/dashboards

The names and kinds are read from core/telemetry/src/metrics.rs, where all are declared. If `promtool` is installed
(Debian: apt-get install prometheus; or PROMTOOL=path), every dashboard query, every rule and prometheus.yaml is parsed by it,
and alerts_test.yaml is run; otherwise that test is skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import pages

FOLDER = Path(__file__).resolve().parent
CONSTANTS = FOLDER.parents[1] / "core" / "telemetry" / "src" / "metrics.rs"
NAME = re.compile(r"\binfera_[a-z_]+")


def known() -> dict[str, str]:
    """Returns the name and kind of every metric."""
    found = re.findall(r'^    (Counter|Gauge|Histogram) [A-Z_]+ = "(infera_[a-z_]+)":', CONSTANTS.read_text(), re.M)
    return {name: kind for kind, name in found}


def series(metrics: dict[str, str]) -> dict[str, str]:
    """Returns the names that Prometheus stores, and the kind as which each may be used."""
    stored = {name: kind for name, kind in metrics.items() if kind != "Histogram"}
    for name, kind in metrics.items():
        if kind == "Histogram":
            stored |= {f"{name}{suffix}": "Counter" for suffix in ("_bucket", "_sum", "_count")}
    return stored


def queries() -> list[tuple[str, str]]:
    """Returns every query of the dashboards' files with its place."""
    asked = []
    for path in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            asked += [(f"{path.name}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return asked


def rules() -> list[tuple[str, str]]:
    """Returns every alert's name and expression; promtool checks the file's shape."""
    text = (FOLDER / "alerts.yaml").read_text()
    blocks = re.split(r"^      - alert: ", text, flags=re.M)[1:]
    found = []
    for block in blocks:
        expression = re.search(r"expr:(.*?)^        (?:for|labels):", block, re.S | re.M)
        found.append((block.split("\n")[0], expression.group(1)))
    return found


def faults(expression: str, stored: dict[str, str]) -> list[str]:
    """Returns what is wrong with the names in an expression."""
    wrong = []
    # Quoted label values are not names.
    for match in NAME.finditer(re.sub(r'"[^"]*"', '""', expression)):
        name = match.group()
        if name not in stored:
            wrong.append(f"{name} is not a metric of the programs")
            continue
        grows = re.search(r"(rate|increase)\($", expression_before(expression, name))
        if (stored[name] == "Counter") != bool(grows):
            wrong.append(f"{name} is a {stored[name]}, asked for {'with' if grows else 'without'} rate")
    return wrong


def expression_before(expression: str, name: str) -> str:
    """Returns the text before a name's first use."""
    return expression[: re.search(rf"\b{name}\b", expression).start()]


class Dashboards(unittest.TestCase):
    """What dashboards and alerts refer to exists."""

    def test_the_constants_are_found(self) -> None:
        metrics = known()
        self.assertEqual(metrics.get("infera_gateway_requests_total"), "Counter")
        self.assertEqual(len(metrics), CONSTANTS.read_text().count('" : "') + CONSTANTS.read_text().count('": "'))

    def test_a_wrong_name_and_a_wrong_use_are_told(self) -> None:
        stored = series(known())
        self.assertEqual(faults("sum(rate(infera_gateway_requests_total[5m]))", stored), [])
        self.assertTrue(faults("sum(rate(infera_gateway_request_total[5m]))", stored))
        self.assertTrue(faults("infera_gateway_requests_total", stored), "a counter as it is")
        self.assertTrue(faults("rate(infera_gateway_waiters[5m])", stored), "a gauge's rate")
        self.assertTrue(faults("rate(infera_gateway_request_seconds[5m])", stored), "a histogram without its part")

    def test_every_query_names_metrics_that_are_there(self) -> None:
        stored = series(known())
        asked = queries()
        self.assertGreater(len(asked), 30)
        for where, expression in asked + rules():
            self.assertTrue(NAME.search(expression) or "up{" in expression, where)
            self.assertEqual(faults(expression, stored), [], f"{where}: {expression}")

    def test_the_files_are_what_the_pages_say(self) -> None:
        self.assertEqual({path.stem for path in FOLDER.glob("*.json")}, set(pages.PAGES))
        for name in pages.PAGES:
            text = (FOLDER / f"{name}.json").read_text()
            self.assertEqual(text, pages.rendered(name), f"{name}.json: run infra/dashboards/pages.py")

    def test_every_alert_says_what_to_do(self) -> None:
        text = (FOLDER / "alerts.yaml").read_text()
        count = len(rules())
        self.assertGreater(count, 10)
        for word in ("summary: ", "action: ", "severity: page}", "severity: look}"):
            self.assertIn(word, text)
        self.assertEqual(text.count("summary: "), count)
        self.assertEqual(text.count("action: "), count)

    def test_the_alerts_know_the_jobs_that_are_scraped(self) -> None:
        known_by = re.findall(r'job=~"([^"]+)"', (FOLDER / "alerts.yaml").read_text())
        jobs = re.findall(r"job_name: (\S+)", (FOLDER / "prometheus.yaml").read_text())
        self.assertTrue(known_by)
        self.assertEqual(jobs, ["infera-gateway", "infera-verifier", "infera-worker"])
        for pattern in known_by:
            self.assertEqual([job for job in jobs if not re.fullmatch(pattern, job)], [], pattern)

    def test_promtool_takes_all_of_it(self) -> None:
        promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
        if not promtool:
            self.skipTest("promtool is not there: apt-get install prometheus")
        for arguments in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
            done = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        done = subprocess.run(
            [promtool, "check", "config", "prometheus.yaml"], cwd=FOLDER, capture_output=True, text=True, timeout=120
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # promtool parses queries only in rules, so the dashboards' queries are written as rules.
        recorded = "groups:\n- name: pages\n  rules:\n" + "".join(
            f"  - record: page:query{number}\n    expr: {json.dumps(expression.replace('$__rate_interval', '1m'))}\n"
            for number, (_, expression) in enumerate(queries())
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pages.yaml"
            path.write_text(recorded)
            done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
