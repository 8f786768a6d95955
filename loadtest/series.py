#!/usr/bin/env python3
"""Turns samples (CSV, one line each, as k6 and the driver of streams write them) into series over time: rates, latency percentiles, checks.

    series.py k6.csv > series.json
"""

import csv
import json
import sys
from collections import Counter, defaultdict
from functools import lru_cache

# Trends of lib/metrics.js. Every sample is kept, so that percentiles of any window are exact.
LATENCIES = ("submit_latency", "answer_latency", "settle_latency")
TRENDS = (*LATENCIES, "lateness")
# Trends of streams/journey.py. All are milliseconds but token_rate, which is tokens a second of one stream.
STREAM_LATENCIES = ("first_token", "token_gap", "stream_latency")
STREAM_TRENDS = (*STREAM_LATENCIES, "token_rate", "lateness")
PERCENTILES = (50, 95, 99)

# More points than this can't be told apart on the page, so longer runs have wider steps.
STEPS_MAX = 300

# The window of the search for the knee. Ten seconds have enough arrivals for a p95 at twenty a second.
KNEE_WINDOW_S = 10
# A slower synchronous answer is late: a hundred times what an idle network with the stub engine takes.
KNEE_ANSWER_P95_MS = 1000


def percentile(ordered, percent):
    """Returns the nearest-rank percentile of an ordered list; None of an empty one."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def percentiles(values):
    """Returns the percentiles of the report, with count, minimum and maximum."""
    ordered = sorted(values)
    named = {f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES}
    lowest, highest = (ordered[0], ordered[-1]) if ordered else (None, None)
    return {"count": len(ordered), "min": lowest, **named, "max": highest}


@lru_cache(maxsize=1024)
def tags_of(text):
    """Parses `a=1&b=2` into a dictionary, which samples with the same tags share."""
    return dict(pair.split("=", 1) for pair in text.split("&") if "=" in pair)


class Series:
    """Collects samples one at a time and makes the series from them."""

    def __init__(self, names=TRENDS):
        """`names`: the trends that the load generator has."""
        self.names = names
        self.columns = None
        self.first_ms = self.last_ms = None
        self.trends = defaultdict(list)  # name: [(ms, value, tags)]
        self.counts = defaultdict(Counter)  # series: {second since the epoch: count}
        self.requests = defaultdict(list)  # request's name: [ms that it took]
        self.statuses = defaultdict(Counter)  # request's name: {status: count}
        self.checks = defaultdict(lambda: [0, 0])  # sentence: [held, broken]
        self.users = {}  # second: virtual users at work, or streams open
        self.released = defaultdict(Counter)  # release: {end, or tokens: count}

    def feed(self, line):
        """Takes one line of k6's CSV; the first line names the columns."""
        row = next(csv.reader([line]))
        if self.columns is None:
            self.columns = {name: index for index, name in enumerate(row)}
            return
        metric, at_ms, value = row[0], int(row[1]), float(row[2])
        take = getattr(self, f"_take_{metric}", None)
        if metric in self.names:
            self.trends[metric].append((at_ms, value, tags_of(self._column(row, "extra_tags"))))
            if metric == "lateness":
                self.counts["started"][at_ms // 1000] += 1
        elif take is not None:
            take(row, at_ms, value)
        else:
            return
        self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)
        self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)

    def _column(self, row, name):
        return row[self.columns[name]]

    def _take_http_reqs(self, row, at_ms, value):
        status = self._column(row, "status") or "0"
        # k6 writes 0 where there was no reply.
        status = "no reply" if status == "0" else status
        self.counts[f"status {status}"][at_ms // 1000] += int(value)
        self.statuses[self._column(row, "name")][status] += int(value)

    def _take_http_req_duration(self, row, _, value):
        self.requests[self._column(row, "name")].append(value)

    def _take_ends(self, row, at_ms, value):
        end = tags_of(self._column(row, "extra_tags")).get("end", "?")
        self.counts[f"end {end}"][at_ms // 1000] += int(value)

    def _take_stream_errors(self, row, at_ms, value):
        code = tags_of(self._column(row, "extra_tags")).get("code", "?")
        self.counts[f"error event {code}"][at_ms // 1000] += int(value)

    def _take_streams_by_release(self, row, _, value):
        tags = tags_of(self._column(row, "extra_tags"))
        self.released[tags.get("release", "?")][tags.get("end", "?")] += int(value)

    def _take_released_tokens(self, row, at_ms, value):
        self.counts["released tokens"][at_ms // 1000] += int(value)
        self.released[tags_of(self._column(row, "extra_tags")).get("release", "?")]["tokens"] += int(value)

    def _take_dropped_iterations(self, _, at_ms, value):
        self.counts["dropped"][at_ms // 1000] += int(value)

    def _take_checks(self, row, _, value):
        self.checks[self._column(row, "check")][0 if value else 1] += 1

    def _take_vus(self, _, at_ms, value):
        self.users[at_ms // 1000] = int(value)

    def as_dict(self):
        """Returns all series and totals."""
        first, last = (self.first_ms or 0) // 1000, (self.last_ms or 0) // 1000
        step_s = max(1, -(-(last - first + 1) // STEPS_MAX))
        steps = (last - first) // step_s + 1
        return {
            "began_s": first,
            "step_s": step_s,
            "steps": steps,
            "per_second": {name: self._rates(counts, first, step_s, steps) for name, counts in sorted(self.counts.items())},
            "latency_ms": {name: self._over_time(name, first, step_s, steps) for name in self._latencies()},
            "virtual_users": [self._users_in(first + step * step_s, step_s) for step in range(steps)],
            "totals": {name: sum(counts.values()) for name, counts in sorted(self.counts.items())},
            "latency_total_ms": {name: percentiles([value for _, value, _ in self.trends[name]]) for name in self._latencies()},
            "latency_by_phase_ms": self._by_tag("phase"),
            "latency_by_release_ms": self._by_tag("release"),
            "tokens_per_s_by_release": self._token_rates(),
            "released": {release: dict(sorted(counts.items())) for release, counts in sorted(self.released.items())},
            "requests": self._requests(),
            "checks": {name: {"held": held, "broken": broken} for name, (held, broken) in sorted(self.checks.items())},
            "knee": self.knee(),
        }

    @staticmethod
    def _rates(counts, first, step_s, steps):
        rates = [0] * steps
        for second, count in counts.items():
            rates[min(steps - 1, (second - first) // step_s)] += count
        return [round(count / step_s, 3) for count in rates]

    def _over_time(self, name, first, step_s, steps):
        windows = [[] for _ in range(steps)]
        for at_ms, value, _ in self.trends[name]:
            windows[min(steps - 1, (at_ms // 1000 - first) // step_s)].append(value)
        found = [percentiles(values) for values in windows]
        return {f"p{percent}": [window[f"p{percent}"] for window in found] for percent in PERCENTILES}

    def _users_in(self, second, step_s):
        seen = [self.users[at] for at in range(second, second + step_s) if at in self.users]
        return max(seen) if seen else None

    def _latencies(self):
        return [name for name in self.names if name != "token_rate"]

    def _token_rates(self):
        rates = defaultdict(list)
        for _, value, tags in self.trends["token_rate"]:
            rates[tags.get("release", "?")].append(value)
        return {release: percentiles(values) for release, values in rates.items()}

    def _by_tag(self, tag):
        words = {}
        for name in self._latencies():
            for _, value, tags in self.trends[name]:
                if tag in tags and name != "lateness":
                    words.setdefault(tags[tag], {}).setdefault(name, []).append(value)
        return {word: {name: percentiles(values) for name, values in found.items()} for word, found in words.items()}

    def _requests(self):
        names = sorted(self.requests)
        return {name: {**percentiles(self.requests[name]), "statuses": dict(self.statuses[name])} for name in names}

    def knee(self):
        """Finds the highest rate of arrivals in a window that was served: nearly none dropped, shed or broken, answers in time."""
        best = None
        first, last = (self.first_ms or 0) // 1000, (self.last_ms or 0) // 1000
        answers = defaultdict(list)
        for at_ms, value, _ in self.trends["answer_latency"]:
            answers[(at_ms // 1000 - first) // KNEE_WINDOW_S].append(value)
        for window in range((last - first + 1) // KNEE_WINDOW_S):
            begin = first + window * KNEE_WINDOW_S
            summed = {
                name: sum(counts[second] for second in range(begin, begin + KNEE_WINDOW_S))
                for name, counts in self.counts.items()
            }
            bad = summed.get("dropped", 0) + summed.get("end shed", 0) + 20 * summed.get("end broken", 0)
            p95_ms = percentile(sorted(answers[window]), 95)
            in_time = p95_ms is not None and p95_ms <= KNEE_ANSWER_P95_MS
            rate = summed.get("started", 0) / KNEE_WINDOW_S
            if in_time and bad <= summed.get("started", 0) * 0.05 and (best is None or rate > best["per_second"]):
                best = {"per_second": rate, "answer_p95_ms": round(p95_ms, 1), "at_s": window * KNEE_WINDOW_S}
        return best


def main():
    """Prints the series of a recorded file."""
    series = Series()
    with open(sys.argv[1], encoding="utf-8", newline="") as lines:
        for line in lines:
            series.feed(line)
    json.dump(series.as_dict(), sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
