"""What each arrival asks for: a pure function of its number, so that every kind of stream comes in every run."""

from __future__ import annotations

from dataclasses import dataclass

# Tokens of an answer at most. 16: what the stub engine answers, and enough for the bundled model's sentences.
TOKENS_MAX = 16
RELEASES = ("agreed", "first", "verified")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass
class Asked:
    """One arrival's request and what is done with its stream."""

    body: dict
    release: str
    n: int
    quorum: int
    tokens_max: int
    has_usage: bool
    has_token_ids: bool
    # Whether the answer is asked for again, unstreamed, under the same seed.
    is_compared: bool
    # Whether the client goes away after the first text.
    hangs_up: bool
    # The path, by the face that is spoken to.
    path: str


def asked(index, model, run_seed):
    """Returns what arrival number `index` asks for. The turns have lengths without a common factor, so that all meet."""
    release, n = RELEASES[index % 3], 2 if index % 7 == 5 else 1
    quorum = 3 if index % 4 == 3 else 2
    has_usage, has_token_ids = index % 11 != 6, index % 2 == 0
    question = f"What is {index % 90 + 1} plus {NUMBERS[index // 90 % len(NUMBERS)]}?"
    body = {
        "model": model, "messages": [{"role": "user", "content": question}], "max_tokens": TOKENS_MAX, "temperature": 0.7,
        "seed": run_seed + index, "stream": True, "verification": {"quorum": quorum, "release": release},
        **({"n": n} if n > 1 else {}),
        **({"stream_options": {"include_usage": True}} if has_usage else {}),
        **({"return_token_ids": True} if has_token_ids else {}),
    }
    hangs_up = index % 10 == 7 and release != "verified"
    is_compared = index % 5 == 1 and not hangs_up
    path = "/v1/chat/completions" if index % 8 < 5 else "/chat/completions"
    return Asked(body, release, n, quorum, TOKENS_MAX, has_usage, has_token_ids, is_compared, hangs_up, path)


def unstreamed(body):
    """Returns the same request without the stream."""
    left_out = ("stream", "stream_options")
    verification = {"quorum": body["verification"]["quorum"]}
    return {**{name: value for name, value in body.items() if name not in left_out}, "verification": verification}
