#!/usr/bin/env python3
"""Asks SmolLM2 many questions behind one long system prompt, and holds the network to what is promised of shared beginnings:

    shared_prompt.py --binary target/release/infera

An account's prompts compute no more than their question, the template and one chunk; another account's first request finds
nothing of it; and every answer is the same, byte for byte, as from nodes that keep no prompts.

`make model-smollm2` must have made the folder. It takes some ten minutes on two cores, most of them without the cache.
Standard library only. Exits with 1 if a promise is broken.
"""

import argparse
import re
import subprocess
import sys

from asking import Client, in_turn, served
from promises import Tally
from service.place import ROOT

ANSWER_TOKENS = 8
SYSTEM_TOKENS_MIN = 1000
QUESTION_TOKENS_MAX = 30
SUBJECTS = ("the sea", "an old lamp", "rain on a roof", "a train at night", "bread", "the number seven", "a lost key", "snow")
SENTENCE = "Rule {}: keep to the point, name the thing itself, and leave out whatever the question did not ask for. "
# A system prompt that is as good as none: its one token is what the long one is measured against.
SHORT = "."


def questions(count):
    """Returns short questions, no two alike."""
    kinds = ("What comes to mind at {}, number {}?", "Say something about {}. ({})", "{}: why? Take {}.")
    return [kinds[index % 3].format(SUBJECTS[index % len(SUBJECTS)], index) for index in range(count)]


def ask(client, system, question, index=0):
    """Returns an answer's text, end and usage. Every other one is sampled, by the seed that its index is."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    reply = client.chat(messages, 0.8 * (index % 2), index, ANSWER_TOKENS)
    usage = reply["usage"]
    return {
        "answer": (reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"], usage["completion_tokens"]),
        "prompt": usage["prompt_tokens"],
        "cached": usage["prompt_tokens_details"]["cached_tokens"],
    }


def ask_all(client, system, asked):
    """Asks all questions, some at once; returns the answers in order, and the time."""
    return in_turn(lambda index, question: ask(client, system, question, index), asked)


def chunk_tokens(binary):
    """Returns the tokens of a chunk, as a network would have it."""
    command = [binary, "config", "--model", "smollm2"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    return int(re.search(r"^chunk_tokens = (\d+)$", said, re.MULTILINE).group(1))


def shared(promises, system, asked, chunk):
    """Returns what asks a network whose nodes keep prompts, and holds it to all promises but the answers' equality."""

    def use(client):
        short = ask(client, SHORT, asked[0])
        first = ask(client, system, asked[0])
        system_tokens = first["prompt"] - short["prompt"] + 1
        promises.hold(f"the system prompt has {SYSTEM_TOKENS_MIN} tokens or more", system_tokens >= SYSTEM_TOKENS_MIN, system_tokens)
        promises.hold("the first request finds nothing", first["cached"] == 0, first)
        answers, took_s = ask_all(client, system, asked)
        promises.each(
            "a request computes question, template and a chunk at most",
            answers,
            lambda one: one["prompt"] - one["cached"] > one["prompt"] - system_tokens + chunk,
        )
        template = short["prompt"] - 1
        promises.each(
            f"a question has {QUESTION_TOKENS_MAX} tokens at most, with the template",
            answers,
            lambda one: one["prompt"] - system_tokens > QUESTION_TOKENS_MAX + template,
        )
        made = client.call("/signup_user", {"email": "another@example.com"})
        other = Client(client.url, made["api_key"], client.verification["replicas"])
        found = [ask(other, system, asked[0])["cached"] for _ in range(2)]
        promises.hold("another account's first request finds nothing", found[0] == 0, found)
        promises.hold("its second finds its own", found[1] > 0, found)
        computed = sorted(one["prompt"] - one["cached"] for one in answers)
        total = sum(one["prompt"] for one in answers)
        print(
            f"shared: {len(asked)} requests, {system_tokens} tokens of system prompt, chunks of {chunk}: {total} prompt tokens, of which"
            f" {sum(computed)} computed ({computed[0]} to {computed[-1]} each), by three nodes in {took_s:.0f} s",
            flush=True,
        )
        return answers

    return use


def main():
    """Asks with the cache, then without, and prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/infera")
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    binary = str((ROOT / arguments.binary).resolve())
    promises = Tally("shared")
    system = "".join(SENTENCE.format(number) for number in range(1, 46))
    asked = questions(arguments.requests)
    chunk = chunk_tokens(binary)
    with_cache = served(promises, binary, [], 3, shared(promises, system, asked, chunk))
    alone = ["--set", "engine.prefix_cache_bytes=0", "--set", "nodes.count=1", "--set", "engine.threads=2"]
    without, took_s = served(promises, binary, alone, 1, lambda client: ask_all(client, system, asked)) or (None, 0)
    if with_cache and without:
        print(f"shared: without the cache one node of two threads took {took_s:.0f} s", flush=True)
        promises.each("without a cache nothing is cached", without, lambda one: one["cached"] != 0)
        pairs = list(zip(with_cache, without, strict=True))
        promises.each("the answers are the same without the cache", pairs, lambda pair: pair[0]["answer"] != pair[1]["answer"])
        print(f"shared: {len({one['answer'] for one in without})} different answers, the first {without[0]['answer'][0]!r}", flush=True)
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
