#!/usr/bin/env python3
"""Reads streams with OpenAI's client, unmodified, from a network that runs, and holds them to the same answers unstreamed:

    set -a; . data/local.env; .runtime/venv-examples/bin/python infra/streams.py [--model infera-tiny]

The environment of infra/examples.sh has the client. Run by hand. Exits with 1 if a promise is broken.
"""

import argparse
import os
import sys
import time

import openai

from promises import Tally

QUESTIONS = ("What is 47 + 38?", "What is the capital of France?", "What is the opposite of hot?", "Say hello.")


def create(client, model, question, **more):
    """Asks one question; `verification` and the like go beside what the client knows."""
    extra = {name: more.pop(name) for name in ("verification", "top_k", "min_p", "min_tokens", "ignore_eos") if name in more}
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(model=model, messages=messages, max_tokens=48, extra_body=extra or None, **more)


def streamed(client, model, question, **more):
    """Returns each answer's text, the answers' ends, the last chunks and the times of a stream."""
    began, texts, ends, first = time.monotonic(), {}, {}, None
    last, usage, chunks = None, None, 0
    for chunk in create(client, model, question, stream=True, stream_options={"include_usage": True}, **more):
        chunks += 1
        for choice in chunk.choices:
            if choice.delta.content:
                first = first or time.monotonic() - began
                texts[choice.index] = texts.get(choice.index, "") + choice.delta.content
            if choice.finish_reason:
                ends[choice.index] = choice
                last = chunk
        usage = chunk.usage or usage
    return {"texts": texts, "ends": ends, "last": last, "usage": usage, "chunks": chunks, "first_s": first,
            "all_s": time.monotonic() - began}


def compare(promises, client, model):
    """Streams by each release and with each knob, and compares with the answer unstreamed."""
    mixes = [
        {"temperature": 0},
        {"temperature": 0.8, "seed": 7},
        {"temperature": 0.8, "seed": 2**64 - 1, "top_p": 0.9, "frequency_penalty": 0.3},
        {"temperature": 1, "seed": 5, "n": 3},
        {"temperature": 0, "stop": ["8", " is"]},
        {"temperature": 0.7, "seed": 3, "logprobs": True, "top_logprobs": 3},
        {"temperature": 0.7, "seed": 9, "top_k": 5, "min_p": 0.05, "min_tokens": 4},
    ]
    for mix in mixes:
        for question in QUESTIONS:
            whole = create(client, model, question, **mix)
            for release in ("agreed", "first", "verified"):
                seen = streamed(client, model, question, verification={"release": release}, **mix)
                what = f"{release}, {mix}"
                texts = {choice.index: choice.message.content for choice in whole.choices if choice.message.content}
                promises.count(f"the text is the answer's: {what}", seen["texts"] != texts, (question, seen["texts"], texts))
                ends = {choice.index: choice.finish_reason for choice in whole.choices}
                ended = {index: choice.finish_reason for index, choice in seen["ends"].items()}
                promises.count(f"so are the ends: {what}", ended != ends, (ended, ends))
                promises.count(f"and the usage: {what}", seen["usage"].completion_tokens != whole.usage.completion_tokens, seen["usage"])
                status = seen["last"].model_extra["verification"]["status"]
                promises.count(f"verified: {what}", status != "verified", status)
                if mix.get("logprobs"):
                    told = seen["ends"][0].logprobs.content
                    asked = whole.choices[0].logprobs.content
                    promises.count(f"log-probabilities: {what}", [t.token for t in told] != [t.token for t in asked], told)


def helper(promises, client, model):
    """Uses the client's own helper for streams."""
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    with client.chat.completions.stream(model=model, messages=messages, temperature=0, max_tokens=48) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    promises.hold("the client's .stream() helper gathers the answer", final.choices[0].message.content == deltas and deltas, final)


def refusals(promises, client, model):
    """Looks at what is refused."""
    for what, more, code in (
        ("stream_options without stream", {"stream_options": {"include_usage": True}}, "invalid_value"),
        ("agreed of one", {"stream": True, "verification": {"replicas": 1, "release": "agreed"}}, "invalid_value"),
    ):
        try:
            create(client, model, "x", **more)
            promises.hold(f"refused: {what}", False, "it was answered")
        except openai.BadRequestError as error:
            promises.hold(f"refused: {what}", error.code == code, error)


def main():
    """Checks all, and prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="infera-tiny")
    arguments = parser.parse_args()
    promises = Tally("streams")
    client = openai.OpenAI(base_url=os.environ["INFERA_URL"] + "/v1", api_key=os.environ["INFERA_API_KEY"], timeout=600)
    compare(promises, client, arguments.model)
    helper(promises, client, arguments.model)
    refusals(promises, client, arguments.model)
    seen = streamed(client, arguments.model, QUESTIONS[3], temperature=0)
    print(f"streams: {seen['chunks']} chunks, the first text after {seen['first_s'] or 0:.3f} s, all after {seen['all_s']:.3f} s")
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
