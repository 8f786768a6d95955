#!/usr/bin/env python3
"""Counts four habits of prose in the comments of our Rust sources and fails if one occurs too often.

Each of them costs a reader a second reading; CONTRIBUTING shows what to write instead. A few uses are right, so the bound is
not zero. `python3 infra/prose.py --list` names every place.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("core", "gateway", "queue-worker", "verifier", "standalone")
USES_MAX = 5

HABITS = {
    '"nobody" in place of the thing that is missing': re.compile(r"\bnobody(?:'s)?\b", re.IGNORECASE),
    'a sentence whose subject is "Who" or "Whoever"': re.compile(r"(?:^|[.:;!?]\s+)Who(?:ever|se|m)?\b(?![^.:;!]*\?)"),
    '"so many", "so long", "so often" in place of a quantity': re.compile(r"\bso (?:many|long|often)\b", re.IGNORECASE),
    '"anew" in place of "again"': re.compile(r"\banew\b", re.IGNORECASE),
}

COMMENT = re.compile(r"(?:^|\s)//[/!]?\s?(.*)$")


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Yields each comment block's first line number and its text on one line."""
    block: list[str] = []
    first = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        stripped = line.strip()
        inline = COMMENT.search(line) if "//" in line and "://" not in line else None
        whole = stripped.startswith("//")
        if block and not whole:
            yield first, " ".join(block)
            block = []
        if inline is None:
            continue
        if whole:
            first = first if block else number
            block.append(inline.group(1))
        else:
            yield number, inline.group(1)


def uses(text: str, habit: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yields the line and the words around each use of a habit in a source's comments."""
    for number, comment in comments(text):
        for found in habit.finditer(comment):
            yield number, comment[max(0, found.start() - 30) : found.end() + 40]


def sources() -> list[Path]:
    """Returns every Rust source of the product, in a stable order."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.rs")) if "target" not in path.parts]
    if len(files) < 100:
        sys.exit("prose: the sources were not found")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="name every place")
    arguments = parser.parse_args()
    failed = False
    for name, habit in HABITS.items():
        places = [
            (path.relative_to(ROOT), number, words)
            for path in sources()
            for number, words in uses(path.read_text(encoding="utf-8"), habit)
        ]
        print(f"{len(places):4d} of at most {USES_MAX}  {name}")
        failed |= len(places) > USES_MAX
        if arguments.list or len(places) > USES_MAX:
            for path, number, words in places:
                print(f"        {path}:{number}: …{words}…")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
