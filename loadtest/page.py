#!/usr/bin/env python3
"""Makes the page about one run, of k6 or of streams/, from what run.py wrote. It needs no network, and has a light and a dark scheme.

    page.py FOLDER      reads run.json, summary.json and series.json, writes report.html

What is measured, and the thresholds, are elsewhere.
"""

import json
import re
import sys
from html import escape
from pathlib import Path

from plot import Line, Plot, clock, svg

TITLES = {
    "answer_latency": "Synchronous answers: intended start to verified answer",
    "settle_latency": "Submitted jobs: intended start to the poll that finds the end",
    "submit_latency": "Submissions: intended start to the job's id",
    "first_token": "Streams: intended start to the first text",
    "token_gap": "Streams: from one piece of an answer's text to the next",
    "stream_latency": "Streams: intended start to the end of the whole stream",
}

DROPPED = (
    '<p class="bad">Arrivals were dropped: the load generator had no user free for them. The load was not what the scenario says. k6 gives '
    "dropped arrivals no number, so that those after the first seem later than they were. Judge by what came before it.</p>"
)

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1b1f24; --quiet: #5b6570; --rule: #d7dce1; --good: #116b2f;
  --bad: #b3261e; --line-0: #1f5fbf; --line-1: #c4571a; --line-2: #1d7d5f; --line-3: #8a3ab9; --line-4: #a8323e;
  --line-5: #6b6b00; --line-6: #4a5568; --line-7: #0e7490; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --text: #e4e8ec; --quiet: #9aa5b1; --rule: #343b43;
  --good: #5bd182; --bad: #ff8a80; --line-0: #74aaff; --line-1: #ff9d5c; --line-2: #56d3ae; --line-3: #cf93f5;
  --line-4: #ff8591; --line-5: #d6d65a; --line-6: #b6c2d1; --line-7: #5fd4ea; } }
body { font: 15px/1.45 system-ui, sans-serif; background: var(--ground); color: var(--text); margin: 2rem auto;
  max-width: 54rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td.n, th.n { text-align: right; } small, .quiet, figure p { color: var(--quiet); }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
figure { margin: 1.2rem 0; } figure p { margin: .2rem 0 0; font-size: 13px; }
figcaption span { margin-left: .8rem; white-space: nowrap; font-size: 13px; }
figcaption i { display: inline-block; width: .9rem; height: 3px; margin-right: .3rem; vertical-align: middle; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--quiet); }
svg .grid { stroke: var(--rule); } svg path { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.wide { overflow-x: auto; }
"""


def number(value, digits=1):
    """Formats a number for a cell; None becomes a dash."""
    if value is None:
        return "–"
    return f"{value:,.{digits}f}" if isinstance(value, float) else f"{value:,}"


def is_figure(cell):
    """Whether a cell is a number or a dash; such columns are aligned to the right."""
    return re.fullmatch(r"[0-9.,–]+", str(cell)) is not None


def table(heads, rows):
    """Makes a table. Cells that begin with `raw:` are HTML already."""
    to_the_right = [bool(rows) and is_figure(rows[0][column]) for column in range(len(heads))]

    def cells(values, tag):
        texts = [value[4:] if value.startswith("raw:") else escape(value) for value in map(str, values)]
        classes = [" class=n" if right else "" for right in to_the_right]
        return "".join(f"<{tag}{name}>{text}</{tag}>" for name, text in zip(classes, texts))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells(heads, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def mark(holds):
    """Makes a cell that says pass or fail."""
    return 'raw:<span class="good">pass</span>' if holds else 'raw:<span class="bad">FAIL</span>'


def thresholds(summary):
    """Returns (metric, rule, found, whether it holds) of each threshold. Without samples it does not hold, unlike in k6."""
    rows = []
    for metric, about in sorted(summary["metrics"].items()):
        is_empty = about.get("type") == "trend" and not about["values"].get("count")
        for rule, result in about.get("thresholds", {}).items():
            found = about["values"].get(re.split(r"[<>=!]", rule)[0].strip())
            shown = number(float(found), 4).rstrip("0").rstrip(".") if found is not None else "–"
            rows.append((metric, rule, "no samples" if is_empty else shown, result["ok"] and not is_empty))
    return rows


def latency_rows(found):
    """Returns rows of percentiles."""
    return [
        (label, *(number(values.get(key)) for key in ("count", "min", "p50", "p95", "p99", "max")))
        for label, values in found.items()
    ]


HEADS = ("", "count", "min ms", "p50 ms", "p95 ms", "p99 ms", "max ms")


def plots(series, resources):
    """Yields all diagrams of a run."""
    step_s, per_second = series["step_s"], series["per_second"]
    ended = [values for name, values in per_second.items() if name.startswith("end ")]
    arrivals = [Line("started", per_second.get("started", [])), Line("all ends", [sum(counts) for counts in zip(*ended)])]
    for name, label in (("end shed", "shed"), ("end broken", "broken"), ("dropped", "dropped")):
        arrivals += [Line(label, per_second[name])] if name in per_second else []
    yield Plot("Arrivals, and what they came to", "per second", arrivals, step_s,
               note="Where fewer end than started, arrivals wait.")
    for name in (name for name in TITLES if name in series["latency_ms"]):
        title, lines = TITLES[name], [Line(percent, values) for percent, values in series["latency_ms"][name].items()]
        yield Plot(title, "ms", lines, step_s, is_logarithmic=True, note="By the moment of the end of what is timed.")
    statuses = [Line(name.removeprefix("status "), values) for name, values in per_second.items() if name.startswith("status ")]
    if "released tokens" in per_second:
        yield Plot("Tokens shown", "per second", [Line("tokens", per_second["released tokens"])], step_s,
                   note="Of streams that told their usage, by the moment of their end.")
    yield Plot("Replies by status", "per second", statuses, step_s, note="401, 404 and 422 are asked for: mistakes are part of the load.")
    late = series["latency_ms"]["lateness"]
    yield Plot("How late the load generator starts what is due", "ms", [Line("p50", late["p50"]), Line("p99", late["p99"])], step_s,
               note="Part of every latency above: it shares the machine with what it measures.")
    yield Plot("Virtual users at work, or streams open", "users", [Line("users", series["virtual_users"])], step_s)
    for key, title, unit in (("cores", "Processor", "cores in use"), ("mib", "Memory", "MiB, without shared pages")):
        lines = [
            Line(name, found[key], [max(0.0, at_s - series["began_s"]) for at_s in found["at_s"]])
            for name, found in sorted(resources.items())
        ]
        if lines:
            yield Plot(f"{title} by program, children included", unit, lines)


def facts(run, series):
    """Makes the table of the run's circumstances and totals."""
    totals = series["totals"]
    ends = ", ".join(f"{number(count)} {name.removeprefix('end ')}" for name, count in totals.items() if name.startswith("end "))
    rows = [
        ("when", f"{run['began']}, {clock(run['seconds'])} long"),
        ("machine", run["machine"]),
        ("revision", run["revision"] or "not a clone"),
        ("load generator", run["generator"]),
        ("target", f"{run['target']}: {', '.join(run['urls'])}"),
        ("settings", ", ".join(f"{name}={value}" for name, value in run["settings"].items()) or "the scenario's own"),
        ("arrivals", f"{number(totals.get('started', 0))} started, {number(totals.get('dropped', 0))} dropped: {ends or 'none ended'}"),
    ]
    knee = series["knee"]
    if run["scenario"] == "breakpoint":
        found = f"{knee['per_second']:.0f} arrivals a second, answers' p95 {knee['answer_p95_ms']} ms" if knee else "not found"
        rows.append(("knee", found))
    return table(("", ""), rows)


def by_release(series):
    """Makes the tables of streams by their release: what they came to, their times and speeds, and error events."""
    if not series["released"]:
        return []
    ends = sorted({end for counts in series["released"].values() for end in counts})
    counted = [(release, *(number(counts.get(end, 0)) for end in ends)) for release, counts in series["released"].items()]
    times = {
        f"{release}: {name.removesuffix('_latency').replace('_', ' ')}": values
        for release, found in series["latency_by_release_ms"].items()
        for name, values in found.items()
    }
    errors = [(name.removeprefix("error event "), number(count)) for name, count in series["totals"].items()
              if name.startswith("error event ")]
    return [
        "<h2>Streams by release</h2>",
        "<p class=quiet>What they came to: verified, disputed (the verdict in the last chunk), overturned (what was shown is wrong), "
        "failed (another error event), broken (a promise). Tokens are those of streams that told their usage.</p>",
        table(("release", *ends), counted),
        table(HEADS, latency_rows(times)),
        table(("tokens a second of a stream", *(head.replace(" ms", "") for head in HEADS[1:])),
              latency_rows(series["tokens_per_s_by_release"])),
        *(["<h3>Error events</h3>", table(("code", "count"), errors)] if errors else []),
    ]


def html(run, summary, series):
    """Makes the whole page."""
    rules = thresholds(summary)
    checks = [
        (sentence, number(found["held"]), number(found["broken"]), mark(found["broken"] == 0))
        for sentence, found in series["checks"].items()
    ]
    is_kept = run["broken"] == 0
    verdict = "kept" if is_kept else "broken"
    phases = {
        f"{phase}: {name.removesuffix('_latency')}": values
        for phase, found in series["latency_by_phase_ms"].items()
        for name, values in found.items()
    }
    requests = [
        (name, *row[1:], ", ".join(f"{status}: {number(count)}" for status, count in sorted(series["requests"][name]["statuses"].items())))
        for row in latency_rows(series["requests"])
        for name in [row[0]]
    ]
    sections = [
        f'<h1>Load: {escape(run["scenario"])} <span class="{"good" if is_kept else "bad"}">{verdict}</span></h1>',
        f'<p>{run["kept"]} promises kept, {run["broken"]} broken. The load generator ended with {run["status"]}.</p>',
        facts(run, series),
        *([DROPPED] if series["totals"].get("dropped") else []),
        "<h2>Thresholds</h2>",
        table(("metric", "rule", "found", ""), [(m, rule, found, mark(ok)) for m, rule, found, ok in rules]),
        "<h2>Latency from the intended start</h2>",
        table(HEADS, latency_rows(series["latency_total_ms"])),
        "<p class=quiet>The least lateness is the load generator waking up for an arrival: every latency here is too long by that, and "
        "none too short.</p>",
        *(["<h3>By phase</h3>", table(HEADS, latency_rows(phases))] if phases else []),
        *by_release(series),
        "<h2>Over time</h2>",
        *(svg(plot) for plot in plots(series, run["resources"])),
        "<h2>Requests</h2>",
        "<p class=quiet>From the first byte sent to the last one read; the queue in front of the load generator is not in it.</p>",
        table((*HEADS, "statuses"), requests),
        "<h2>Checks of what came back</h2>",
        table(("what holds", "held", "broken", ""), checks),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>Load: {escape(run["scenario"])}, {verdict}</title><style>{STYLE}</style></head><body>'
        f'{"".join(sections)}</body></html>\n'
    )


def write(folder):
    """Writes the page of a run's folder; returns its path."""
    folder = Path(folder)
    parts = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("run", "summary", "series")]
    page = folder / "report.html"
    page.write_text(html(*parts), encoding="utf-8")
    return page


if __name__ == "__main__":
    print(write(sys.argv[1]))
