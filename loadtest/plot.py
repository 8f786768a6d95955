"""Draws lines over time as inline SVG, without scripts, fonts or links. Colours are custom properties of the page, which
has a light and a dark scheme.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 26
COLOURS = 8  # --line-0 … --line-7 in the page's style


@dataclass
class Line:
    """One line: a name and a value for each step, None for a gap."""

    name: str
    values: list
    # Seconds of each value; None if they lie one step apart.
    at_s: list | None = None


@dataclass
class Plot:
    """A diagram of lines over seconds, with one unit."""

    title: str
    unit: str
    lines: list
    step_s: float = 1
    is_logarithmic: bool = False
    note: str = ""


def points(plot, line):
    """Returns (seconds, value or None) of a line. On a logarithmic scale values that aren't positive become None."""
    moments = line.at_s or [index * plot.step_s for index in range(len(line.values))]
    is_drawn = (lambda value: value is not None and value > 0) if plot.is_logarithmic else lambda value: value is not None
    return [(moment, value if is_drawn(value) else None) for moment, value in zip(moments, line.values)]


def nice_step(span, ticks):
    """Returns 1, 2 or 5 times a power of ten, such that a span has about this number of ticks."""
    raw = max(span, 1e-9) / ticks
    power = 10 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)


def linear_ticks(highest):
    """Returns ticks from 0 to at least the highest value."""
    step = nice_step(highest or 1, 4)
    return [step * index for index in range(math.ceil((highest or 1) / step - 1e-9) + 1)]


def logarithmic_ticks(lowest, highest):
    """Returns powers of ten around the values, with 2 and 5 between them where there are few."""
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    last = max(last, first + 1)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last) for factor in factors] + [10.0**last]
    begin = max((index for index, tick in enumerate(ticks) if tick <= lowest), default=0)
    end = min((index for index, tick in enumerate(ticks) if tick >= highest), default=len(ticks) - 1)
    # A single value needs two ticks around it.
    begin, end = (begin, end) if begin < end else (max(0, begin - 1), max(1, end))
    return ticks[begin : end + 1]


def shown(value):
    """Formats a number without needless digits."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def clock(seconds):
    """Formats seconds as m:ss, or h:mm:ss."""
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


class Scale:
    """Maps moments and values to places in the picture."""

    def __init__(self, plot):
        drawn = [point for line in plot.lines for point in points(plot, line) if point[1] is not None]
        values = [value for _, value in drawn] or [1]
        self.end_s = max([moment for moment, _ in drawn] or [1]) or 1
        self.is_logarithmic = plot.is_logarithmic
        self.ticks = logarithmic_ticks(min(values), max(values)) if plot.is_logarithmic else linear_ticks(max(values))

    def x(self, seconds):
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.end_s

    def y(self, value):
        low, high = self.ticks[0], self.ticks[-1]
        if self.is_logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    def times(self):
        """Returns the moments to label: whole seconds, minutes or hours."""
        steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)
        step = next((step for step in steps if self.end_s / step <= 8), 14400)
        return range(0, int(self.end_s) + 1, step)


def grid(scale):
    """Draws the ticks of both axes with their labels."""
    parts = []
    for tick in scale.ticks:
        y = scale.y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{shown(tick)}</text>')
    for moment in scale.times():
        parts.append(f'<text x="{scale.x(moment):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{clock(moment)}</text>')
    return parts


def path(scale, drawn, colour):
    """Draws one line with gaps where values are missing; a single value between two gaps is a dot."""
    commands, dots, run = [], [], []
    for moment, value in [*drawn, (0, None)]:
        if value is not None:
            run.append(f"{scale.x(moment):.1f} {scale.y(value):.1f}")
            continue
        if len(run) == 1:
            x, y = run[0].split()
            dots.append(f'<circle cx="{x}" cy="{y}" r="2" fill="var(--line-{colour})"/>')
        elif run:
            commands.append("M" + " L".join(run))
        run = []
    stroke = f'<path d="{" ".join(commands)}" stroke="var(--line-{colour})"/>' if commands else ""
    return [stroke, *dots]


def svg(plot):
    """Draws the diagram as a figure with a title, a legend and a note."""
    scale = Scale(plot)
    parts = grid(scale)
    for index, line in enumerate(plot.lines):
        parts += path(scale, points(plot, line), index % COLOURS)
    legend = "".join(
        f'<span><i style="background:var(--line-{index % COLOURS})"></i>{escape(line.name)}</span>'
        for index, line in enumerate(plot.lines)
    )
    unit = f"{plot.unit}, logarithmic" if plot.is_logarithmic else plot.unit
    note = f"<p>{escape(plot.note)}</p>" if plot.note else ""
    title = escape(plot.title)
    return (
        f'<figure><figcaption><b>{title}</b> <small>{escape(unit)}</small> {legend}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>{note}</figure>'
    )
