"""Samples of a run, written as k6 writes them: a line of CSV each, and a summary with thresholds. It measures nothing."""

from __future__ import annotations

import json
import queue
import re
import threading
from collections import Counter, defaultdict

from series import percentile

COLUMNS = "metric_name,timestamp,metric_value,check,error_code,expected_response,name,scenario,status,extra_tags,metadata"
# Lines that wait for the reader of the pipe, at most: some seconds of the highest spike. A full queue waits for it.
LINES_MAX = 50_000
COMPARED = re.compile(r"^(?P<part>[^<>=!]+)(?P<sign><=|>=|==|<|>)(?P<limit>[0-9.]+)$")


class Samples:
    """Takes samples from one thread, writes them by another, and keeps what the summary is made of."""

    def __init__(self, path, clock):
        """`clock` gives milliseconds since the epoch; `path` is read while this writes."""
        self.clock = clock
        self.trends = defaultdict(list)
        self.counts, self.rates = Counter(), defaultdict(lambda: [0, 0])
        self.lines = queue.Queue(LINES_MAX)
        self.writer = threading.Thread(target=self._write, args=(path,), daemon=True)
        self.writer.start()
        self.lines.put(COLUMNS)

    def _write(self, path):
        with open(path, "w", encoding="utf-8", buffering=1) as out:
            while (line := self.lines.get()) is not None:
                out.write(f"{line}\n")

    def close(self):
        """Waits until all is written."""
        self.lines.put(None)
        self.writer.join()

    def _line(self, metric, value, check="", name="", status="", tags=None):
        extra = "&".join(f"{key}={word}" for key, word in (tags or {}).items() if word)
        fields = (metric, str(int(self.clock())), f"{value:.6f}", f'"{check}"', "", "", f'"{name}"', "streams", status, extra, "")
        self.lines.put(",".join(fields))

    def trend(self, name, value, tags):
        """Takes a value of a distribution."""
        self.trends[name].append(value)
        if tags.get("phase"):
            self.trends[f"{name}{{phase:{tags['phase']}}}"].append(value)
        self._line(name, value, tags=tags)

    def count(self, name, amount=1, tags=None):
        """Adds to a counter."""
        self.counts[name] += amount
        self._line(name, amount, tags=tags)

    def rate(self, name, is_so):
        """Takes whether something is so. The page needs no series of it."""
        self.rates[name][0 if is_so else 1] += 1

    def check(self, sentence, holds):
        """Takes whether a sentence holds."""
        self.rate("checks", holds)
        self._line("checks", 1 if holds else 0, check=sentence)

    def request(self, name, status, took_ms):
        """Takes one request: its status (0 without a reply), and the milliseconds to its last byte."""
        self._line("http_reqs", 1, name=name, status=str(status))
        self._line("http_req_duration", took_ms, name=name, status=str(status))

    def users(self, open_count):
        """Takes how many arrivals are open."""
        self._line("vus", open_count)

    def values(self, name):
        """Returns the type of a metric with its values, by k6's names."""
        if name in self.rates:
            held, broken = self.rates[name]
            return "rate", {"rate": held / max(1, held + broken), "passes": held, "fails": broken}
        if name in self.trends:
            ordered = sorted(self.trends[name])
            return "trend", {"count": len(ordered), "max": ordered[-1], **{f"p({p})": percentile(ordered, p) for p in (50, 95, 99)}}
        return "counter", {"count": self.counts[name]}

    def summary(self, thresholds):
        """Returns k6's summary, in which each threshold is judged; one of a distribution without samples is not kept."""
        metrics = {}
        for name in sorted({*thresholds, *self.rates, *self.trends, *self.counts}):
            kind, values = self.values(name)
            if kind == "counter" and any("p(" in rule for rule in thresholds.get(name, [])):
                kind, values = "trend", {"count": 0}
            rules = {rule: {"ok": holds(rule, values)} for rule in thresholds.get(name, [])}
            metrics[name] = {"type": kind, "values": values, **({"thresholds": rules} if rules else {})}
        return {"metrics": metrics}


def holds(rule, values):
    """Returns whether the values keep a rule such as `p(95)<100`."""
    said = COMPARED.match(rule)
    found, limit = values.get(said["part"]), float(said["limit"])
    if found is None:
        return False
    return {"<": found < limit, "<=": found <= limit, ">": found > limit, ">=": found >= limit, "==": found == limit}[said["sign"]]


def write_summary(path, summary):
    """Writes the summary where run.py reads it."""
    with open(path, "w", encoding="utf-8") as out:
        json.dump(summary, out, indent=1)


def is_kept(summary):
    """Whether each threshold is kept."""
    return all(rule["ok"] for metric in summary["metrics"].values() for rule in metric.get("thresholds", {}).values())
