"""When arrivals are due. Pure functions of a shape, in which nothing waits for an earlier arrival."""

import math


def peak(shape):
    """Returns the highest rate of a shape: (rate at the start, [(seconds, rate at their end), …]), in arrivals a second."""
    start, stages = shape
    return max(start, *(rate for _, rate in stages))


def moments(shape):
    """Yields the seconds from the start at which each arrival is due: the first at once, number n when the area under the rate is n."""
    rate, stages = shape
    before_s, due = 0.0, 0
    passed = 0.0  # The area up to the stage's beginning.
    for seconds, end_rate in stages:
        area = (rate + end_rate) / 2 * seconds
        while due < passed + area:
            yield before_s + within(rate, end_rate, seconds, due - passed)
            due += 1
        before_s, passed, rate = before_s + seconds, passed + area, end_rate


def within(rate, end_rate, seconds, area):
    """Returns the seconds into a stage at which the area under its rate is `area`: the root of rate·t + slope·t²/2."""
    slope = (end_rate - rate) / seconds
    if slope == 0:
        return area / rate
    # Rounding may put the last arrival of a falling stage a hair beyond its end.
    return (math.sqrt(max(0.0, rate * rate + 2 * slope * area)) - rate) / slope


def phase_at(phases, seconds):
    """Returns the name of the phase at a moment: [(name, end in seconds), …], of which the last has no end; None without phases."""
    return next((name for name, until_s in phases if seconds < until_s), phases[-1][0] if phases else None)
