"""The scenarios: which shape of load, and what a run must keep. The numbers of one are changed by the environment, as k6's are."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.schedule import peak

# A run with dropped arrivals says nothing about the server: the load was not what it claims to be.
VALID = {"dropped_iterations": ["count==0"]}

# Nothing is wrong, refused, failed or unexplained.
FLAWLESS = {
    **VALID, "checks": ["rate==1"], "broken": ["rate==0"], "failed": ["rate==0"], "disputed": ["count==0"], "shed": ["count==0"],
}

# Ordinary load. Ten seconds to the first token are a reader's patience, and the nodes of strangers are slow; a pause of two seconds
# within a sentence is one that a reader notices.
AVERAGE = {
    **VALID, "checks": ["rate>0.999"], "broken": ["rate<0.001"], "failed": ["rate<0.001"], "disputed": ["count==0"],
    "shed": ["count==0"], "first_token": ["p(95)<10000"], "token_gap": ["p(99)<2000"], "stream_latency": ["p(99)<60000"],
}

# Nothing breaks in the spike, where honest refusals are fine, and a minute later everything is as it was.
SPIKE = {
    **VALID, "checks": ["rate>0.999"], "broken": ["rate<0.001"], "failed": ["rate<0.001"], "disputed": ["count==0"],
    "first_token{phase:before}": ["p(95)<10000"], "first_token{phase:after}": ["p(95)<10000"], "token_gap{phase:after}": ["p(99)<2000"],
}

CALM_S, EDGE_S = 30, 10
# What was queued may take this long to be worked off; then the ordinary thresholds hold again.
RECOVERY_S = 60

# Arrivals a second on an ordinary day. 5: a stream of 16 tokens at 20 tokens a second holds a slot of three nodes for a second, and a
# node has sixteen unless its operator says otherwise.
RATE = 5.0
# Seconds that an arrival may stay at the highest rate before arrivals are dropped. 10: a stream takes longer than an answer alone.
HOLD_S = 10.0


class NoNumber(Exception):
    """A setting that should be a positive number and isn't."""


@dataclass
class Scenario:
    """A shape of load, its phases and thresholds, and how many arrivals may be open at once."""

    shape: tuple
    thresholds: dict
    open_max: int
    phases: list = field(default_factory=list)


def number(environment, name, standard):
    """Returns a positive number of the environment, or the standard one."""
    text = environment.get(name, "")
    if not text:
        return standard
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise NoNumber(f"{name}={text}: a positive number is needed")
    return value


def smoke(environment):
    """Makes the load that nothing waits in: is anything wrong at all? Two a second stay within a gateway's ordinary limits."""
    rate, seconds = number(environment, "RATE", 2.0), number(environment, "DURATION", 60.0)
    return (rate, [(seconds, rate)]), [], FLAWLESS


def average(environment):
    """Makes an ordinary day: it ramps up, so that caches and connections are warm, and holds."""
    rate, seconds = number(environment, "RATE", RATE), number(environment, "DURATION", 300.0)
    return (min(1.0, rate), [(max(10.0, seconds / 10), rate), (seconds, rate)]), [], AVERAGE


def spike(environment):
    """Makes ten times the ordinary rate within ten seconds, and goes back."""
    rate, seconds, times = (number(environment, name, standard) for name, standard in
                            (("RATE", RATE), ("DURATION", 120.0), ("TIMES", 10.0)))
    stages = [(CALM_S, rate), (EDGE_S, times * rate), (seconds, times * rate), (EDGE_S, rate), (RECOVERY_S + CALM_S, rate)]
    over_s = CALM_S + EDGE_S + seconds + EDGE_S
    phases = [("before", CALM_S), ("spike", over_s), ("recovery", over_s + RECOVERY_S), ("after", float("inf"))]
    return (rate, stages), phases, SPIKE


MADE = {"stream-smoke": smoke, "stream-average": average, "stream-spike": spike}
NAMES = sorted(MADE)


def scenario(name, environment):
    """Returns the scenario of this name with the environment's numbers; NoNumber if one of them is none."""
    shape, phases, thresholds = MADE[name](environment)
    open_max = int(peak(shape) * number(environment, "HOLD_S", HOLD_S)) + 2
    return Scenario(shape, thresholds, open_max, phases)
