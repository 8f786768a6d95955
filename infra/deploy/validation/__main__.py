"""Runs every rule, prints every problem, and fails if there is one."""

import argparse
import sys
from pathlib import Path

from . import compose, keda, kubernetes, machines, settings
from .place import DEPLOY, documents


def syntax():
    """Checks that every YAML file parses and has no key twice."""
    for path in sorted(DEPLOY.rglob("*.yaml")):
        documents(path)
    return ()


def main():
    """Runs every rule."""
    parser = argparse.ArgumentParser(prog="infra/deploy/validate.sh")
    parser.add_argument("--binaries", type=Path, help="the folder of our programs, which then check their settings")
    binaries = parser.parse_args().binaries
    rules = [syntax, *compose.RULES, *kubernetes.RULES, *keda.RULES, *machines.RULES]
    broken = 0
    for rule in rules:
        problems = [problem for problem in rule() if problem]
        print(f"validate: {rule.__module__.rpartition('.')[2]}.{rule.__name__}: {'broken' if problems else 'holds'}")
        broken += bool(problems)
        print(*(f"  - {problem}" for problem in problems), sep="\n", end="\n" if problems else "")
    if binaries is None:
        print("validate: settings: NOT checked by our programs; --binaries FOLDER does that")
    else:
        problems = list(settings.refusals(binaries.resolve()))
        broken += bool(problems)
        print(f"validate: settings: {'broken' if problems else 'accepted by every program'}")
        print(*(f"  - {problem}" for problem in problems), sep="\n", end="\n" if problems else "")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
