#!/usr/bin/env python3
"""Asks SmolLM2 200 varied questions of up to 2,000 tokens, each greedily and sampled, of three nodes that must all agree, and
counts the answers that are verified and identical to the bit:

    agreement.py --binary target/release/infera

With `--url` it asks a network that runs already, started by `infera up --model smollm2`, with the key in INFERA_API_KEY.
`make model-smollm2` must have made the folder. It takes some fifteen minutes on two cores, most of them for the prompts.
Standard library only. Exits with 1 if a promise is broken.
"""

import argparse
import os
import random
import statistics
import sys
import time

from asking import Client, in_turn, served
from promises import Tally
from service.place import ROOT
from smollm2.texts import texts

TOKENS = (20, 2000)
TEMPERATURES = (0, 0.8)
ANSWER_TOKENS = (8, 16, 24, 32)
THREE = {"asked": 3, "answered": 3, "agreed": 3}
# The template with the model's own system prompt, in tokens.
TEMPLATE_TOKENS = 36
# The kinds of text, and the characters of a token of each (of scripts the bytes), as the model's tokenizer cuts them, so that the
# longest prompts are near the bound and not above it.
KINDS = {"prose": 4.8, "code": 3.1, "figures": 0.98, "scripts": 1.25, "conversation": 2.2}
NAMES = ("count", "total", "index", "buffer", "result", "width", "node", "answer")


def prose(dice, length):
    """Returns a piece of this repository's licence, which doesn't change, and a question."""
    text = (ROOT / "LICENSE-APACHE").read_text(encoding="utf-8")
    text = " ".join(text.split()) + " "
    start = dice.randrange(len(text))
    return "Summarise this: " + (text[start:] + text * 2)[:length]


def code(dice, length):
    """Returns functions of a small program."""
    lines = ["What does this do?"]
    while sum(map(len, lines)) < length:
        one, other = dice.sample(NAMES, 2)
        lines.append(f"def {one}_{dice.randrange(100)}({other}, {one}=None):\n    if {other} > {dice.randrange(1000)}:")
        lines.append(f"        return [{one} + {other} * {dice.randrange(10)} for {one} in range({other})]\n    return {one}\n")
    return "\n".join(lines)[:length]


def figures(dice, length):
    """Returns a table of numbers."""
    rows = ["Which is the largest?"]
    while sum(map(len, rows)) < length:
        rows.append(f"{len(rows)};{dice.randrange(10**6)};{dice.random():.4f};-{dice.randrange(100)}")
    return "\n".join(rows)[:length]


def scripts(dice, length):
    """Returns letters and signs of many scripts."""
    found = texts()
    dice.shuffle(found)
    # What marks turns would be refused, or end them.
    plain = [text for text in found if "|" not in text and "\x00" not in text]
    # In bytes, because that is what letters outside the vocabulary become.
    return "Repeat: " + " ".join(plain).encode()[:length].decode(errors="ignore")


def conversation(dice, length):
    """Returns the turns of a conversation."""
    turns = []
    while sum(map(len, turns)) < length or len(turns) % 2 == 0:
        about = dice.choice(NAMES)
        said = (f"Tell me about a {about}, in {dice.randrange(2, 90)} words.", f"A {about} is what one {dice.choice(NAMES)} makes of it.")
        turns.append(said[len(turns) % 2])
    return turns


def conversations(count):
    """Returns the messages of each request: as many short prompts as long ones, on a logarithmic scale, mixed."""
    dice = random.Random(2026)
    made = []
    for place in range(count):
        kind = list(KINDS)[place % len(KINDS)]
        tokens = TOKENS[0] * (TOKENS[1] / TOKENS[0]) ** (place / max(1, count - 1))
        length = max(8, int((tokens - TEMPLATE_TOKENS) * KINDS[kind]))
        content = globals()[kind](dice, length)
        turns = content if isinstance(content, list) else [content]
        made.append([{"role": ("user", "assistant")[at % 2], "content": said} for at, said in enumerate(turns)])
    dice.shuffle(made)
    return made


def ask(client, index, messages):
    """Asks at each temperature in turn, so that the second finds the beginning of its prompt; returns what came of each."""
    found = []
    for temperature in TEMPERATURES:
        began = time.monotonic()
        try:
            reply = client.chat(messages, temperature, index, ANSWER_TOKENS[index % len(ANSWER_TOKENS)])
        except (OSError, ValueError) as error:
            reply = {"error": str(error)}
        found.append({"temperature": temperature, "reply": reply, "took_s": time.monotonic() - began})
    return found


def verification(one):
    """Returns what an answer says of its verification, as far as there is an answer."""
    return one["reply"].get("verification") or {}


def tokens_of(one, name):
    """Returns a count of the usage."""
    return (one["reply"].get("usage") or {}).get(name, 0)


def count(promises, answers, took_s):
    """Holds the answers to what is promised, and prints what was seen."""
    promises.each("an answer to each request", answers, lambda one: not one["reply"].get("choices"))
    promises.each(
        "verified, 3 of 3", answers, lambda one: (verification(one).get("status"), verification(one).get("replicas")) != ("verified", THREE)
    )
    promises.each("identical to the bit", answers, lambda one: verification(one).get("rung") != "identical")
    promises.each("numbers inside their tolerance", answers, lambda one: verification(one).get("numbers") != "inside")
    lengths = sorted(tokens_of(one, "prompt_tokens") for one in answers)
    promises.hold(f"no prompt has more than {TOKENS[1]} tokens", lengths[-1] <= TOKENS[1], lengths[-1])
    for temperature in TEMPERATURES:
        these = [one for one in answers if one["temperature"] == temperature]
        verified = sum(verification(one).get("status") == "verified" for one in these)
        identical = sum(verification(one).get("rung") == "identical" for one in these)
        said = len({one["reply"]["choices"][0]["message"]["content"] for one in these if one["reply"].get("choices")})
        made, took = sum(tokens_of(one, "completion_tokens") for one in these), sorted(one["took_s"] for one in these)
        print(
            f"agreement: temperature {temperature}: {len(these)} requests, {verified} verified, {identical} identical, {said} different"
            f" texts, {made} tokens of answers; {statistics.median(took):.1f} s at the median, {took[-1]:.1f} s at most"
        )
    print(
        f"agreement: prompts of {lengths[0]} to {lengths[-1]} tokens, {statistics.mean(lengths):.0f} on average; all in {took_s:.0f} s",
        flush=True,
    )


def main():
    """Asks all, and prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/infera")
    parser.add_argument("--url", help="a network that runs already")
    parser.add_argument("--requests", type=int, default=200, help="how many prompts; each is asked twice")
    arguments = parser.parse_args()
    promises = Tally("agreement")
    asked = conversations(arguments.requests)

    def use(client):
        found, took_s = in_turn(lambda index, messages: ask(client, index, messages), asked)
        count(promises, [one for both in found for one in both], took_s)

    if arguments.url:
        use(Client(arguments.url, os.environ.get("INFERA_API_KEY", ""), 3))
    else:
        served(promises, str((ROOT / arguments.binary).resolve()), [], 3, use)
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
