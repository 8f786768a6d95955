"""The changes to a chaos campaign's evidence that break promises of its own; the others are in `infra/sabotage.py`."""

from dataclasses import replace

import sabotage
from sabotage import changed, with_end

from .checker import check


def late(evidence):
    """Moves the first end an hour on."""
    return replace(evidence, settlements=changed(evidence.settlements, lambda one: replace(one, settled_ms=one.settled_ms + 3_600_000)))


def ended_as(reason):
    """Returns the change that makes the first end a failure for this reason."""

    def change(evidence):
        return replace(evidence, settlements=changed(evidence.settlements, lambda one: with_end(one, status="failed", reason=reason)))

    return change


def many_expired(evidence):
    """Makes one in twenty ends `expired`."""
    ends = [with_end(one, status="expired") if at % 20 == 0 else one for at, one in enumerate(evidence.settlements)]
    return replace(evidence, settlements=ends)


# The promise that must be seen broken, and the change that breaks it.
SABOTAGES = [
    ("ended too late", late),
    ("ended as poison", ended_as("poison")),
    ("ended as no_consensus", ended_as("no_consensus")),
    ("succeeded less often than 99%", many_expired),
    ("expired before its deadline", many_expired),
]


def missed(evidence):
    """Returns the changes that the chaos campaign's checker does not see."""
    return sabotage.missed(evidence, check, SABOTAGES)
