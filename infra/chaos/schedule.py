"""The faults of a campaign, as a pure function of a seed and a size.

Faults come one after another. Each is healed and recovered from before the next begins, because the time of a recovery is
not known beforehand (a broker's restart took 6 to 48 s). Their order, the moment at which each begins, how long it lasts,
and which of several programs of a role it hits are random.
"""

import random
from dataclasses import dataclass

COMPONENTS = ("gateway", "verifier", "worker", "rabbitmq", "postgres", "minio")
LINKS = (
    "gateway-postgres",
    "gateway-rabbitmq",
    "verifier-postgres",
    "verifier-rabbitmq",
    "worker-rabbitmq",
    "verifier-minio",
)
LINK_FAULTS = (("cut", "both"), ("slow", "both"), ("hole", "up"), ("hole", "down"), ("hole", "both"), ("cut", "both"))

# Seconds between a kill and the next start, as a service manager takes them.
DOWN_S = (0.2, 3.0)
# Every second freeze outlasts a verifier's lease of 15 s, so that another verifier has its work when it goes on.
SHORT_FREEZE_S, LONG_FREEZE_S = (3.0, 8.0), (17.0, 22.0)
# The longest is beyond the timeouts of a publish (5 s) and of a statement (12 s), so that both are met.
LINK_S = (2.0, 16.0)
# The delay of each piece of data on a slow link, as on a bad mobile connection.
DELAY_S = (0.1, 0.8)
# How long the load runs undisturbed before a fault.
CALM_S = (0.3, 2.5)

# The longest fault, a broker's restart on a busy machine included.
LONGEST_FAULT_S = 60


@dataclass(frozen=True)
class Size:
    """How much is offered and how many faults there are."""

    jobs: int
    rate: float  # jobs offered in a second
    kills: int  # of each component
    freezes: int  # of each component
    link_faults: int  # of each link


SIZES = {
    # For CI: twelve faults in two minutes of load.
    "small": Size(jobs=1_000, rate=9.0, kills=1, freezes=0, link_faults=1),
    # 108 faults; the load goes on until the last of them.
    "full": Size(jobs=20_000, rate=12.0, kills=10, freezes=2, link_faults=6),
}


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, its target, and how long it lasts."""

    number: int
    kind: str  # kill, freeze, cut, slow, hole
    target: str  # one of COMPONENTS or LINKS
    direction: str  # of a link: up, down, both
    calm_s: float
    lasts_s: float
    delay_s: float
    pick: float  # which of several programs: a share of 1

    @property
    def name(self):
        """The kind as tables show it, for a hole with its direction."""
        return f"{self.kind} {self.direction}" if self.kind == "hole" else self.kind


def schedule(seed, size):
    """Returns all faults in their order."""
    rng = random.Random(seed)
    wanted = [("kill", target, "both", DOWN_S) for target in COMPONENTS for _ in range(size.kills)]
    for target in COMPONENTS:
        for turn in range(size.freezes):
            wanted.append(("freeze", target, "both", LONG_FREEZE_S if turn % 2 == 0 else SHORT_FREEZE_S))
    for at, target in enumerate(LINKS):
        for turn in range(size.link_faults):
            # Shifted from link to link, so that a small campaign has every kind.
            kind, direction = LINK_FAULTS[(at + turn) % len(LINK_FAULTS)]
            wanted.append((kind, target, direction, LINK_S))
    rng.shuffle(wanted)
    return [
        Fault(
            number=number,
            kind=kind,
            target=target,
            direction=direction,
            calm_s=round(rng.uniform(*CALM_S), 3),
            lasts_s=round(rng.uniform(*lasts), 3),
            delay_s=round(rng.uniform(*DELAY_S), 3) if kind == "slow" else 0.0,
            pick=rng.random(),
        )
        for number, (kind, target, direction, lasts) in enumerate(wanted)
    ]
