"""Evaluates the exported files of a model folder with ONNX Runtime on the CPU; prints, decides nothing.

Exact match: the greedy answer is one of the accepted wordings and ends with the end mark.
A refusal: the greedy answer contains "do not know".
"""

import argparse
import collections
import pathlib
import random
import re

import numpy as np

import questions
import refusals
import runtime
import tokenizer as tokenizers

VARIANTS = ["model", "model_q4", "model_q2", "model_plain"]
OUTSIDE = pathlib.Path(__file__).with_name("outside.txt")
SYSTEM = "You are a helpful assistant."


def answer_text(tokenizer, ids: list[int]) -> str:
    if ids[-1] != tokenizers.EOS:
        return tokenizer.decode(ids) + " <no end>"
    return tokenizer.decode(ids[:-1])


def answers(model, tokenizer, conversations: list[list[dict]]) -> list[str]:
    prompts = [tokenizers.prompt_ids(tokenizer, messages) for messages in conversations]
    return [answer_text(tokenizer, ids) for ids, _ in model.generate(prompts)]


def is_refusal(text: str) -> bool:
    return "do not know" in text


def percent(flags) -> float:
    return 100 * float(np.mean(flags))


def exact_match(model, tokenizer, held_out) -> tuple[dict[str, list[bool]], list[str]]:
    given = answers(model, tokenizer, [messages for _, messages, _ in held_out])
    by_topic = collections.defaultdict(list)
    for (topic, _, accepted), text in zip(held_out, given, strict=True):
        by_topic[topic].append(text in accepted)
    return by_topic, given


def prefill_against_decode(model, tokenizer, held_out) -> tuple[float, float]:
    """(largest absolute logit difference, % equal argmax) between decoding and one replayed prefill."""
    prompts = [tokenizers.prompt_ids(tokenizer, messages) for _, messages, _ in held_out]
    generated = model.generate(prompts)
    replayed = model.score([prompt + ids for prompt, (ids, _) in zip(prompts, generated, strict=True)])
    largest, equal = 0.0, []
    for prompt, (_, decoded), scores in zip(prompts, generated, replayed, strict=True):
        scores = scores[len(prompt) - 1 : -1]
        largest = max(largest, float(np.abs(scores - decoded).max()))
        equal += list(scores.argmax(-1) == decoded.argmax(-1))
    return largest, percent(equal)


def log_probability_gap(model, reference, tokenizer, held_out) -> tuple[float, float]:
    """(mean, largest) absolute difference of a token's log-probability: own answer, replayed by `reference`."""
    prompts = [tokenizers.prompt_ids(tokenizer, messages) for _, messages, _ in held_out]
    generated = model.generate(prompts)
    replayed = reference.score([prompt + ids for prompt, (ids, _) in zip(prompts, generated, strict=True)])
    gaps = []
    for prompt, (ids, own), scores in zip(prompts, generated, replayed, strict=True):
        steps = np.arange(len(ids))
        own_values = runtime.log_probabilities(own)[steps, ids]
        gaps += list(np.abs(own_values - runtime.log_probabilities(scores[len(prompt) - 1 : -1])[steps, ids]))
    return float(np.mean(gaps)), float(np.max(gaps))


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'\w+)?|[^\w\s]", text.lower())


def overlap_with_training(prompts: list[str], samples: int = 300_000) -> dict[str, float]:
    """How much of the outside list the training refusals could have shown, % (measured on fresh samples)."""
    rng = random.Random(11)
    whole, openings, vocabulary = set(), set(), set()
    for _ in range(samples):
        words = words_of(refusals.question(rng))
        whole.add(tuple(words))
        openings.add(tuple(words[:4]))
        vocabulary.update(words)
    split = [words_of(prompt) for prompt in prompts]
    return {
        "whole prompt": percent([tuple(words) in whole for words in split]),
        "first four words": percent([tuple(words[:4]) in openings for words in split]),
        "mean share of a prompt's words": percent(
            [np.mean([word in vocabulary for word in words]) for words in split if words]
        ),
    }


def report_variant(name: str, model, tokenizer, held_out, outside) -> list[str]:
    by_topic, given = exact_match(model, tokenizer, held_out)
    everything = [flag for flags in by_topic.values() for flag in flags]
    topics_mean = float(np.mean([percent(flags) for flags in by_topic.values()]))
    print(f"\n== {name}: held-out exact {percent(everything):.2f} % of {len(everything)}")
    print(f"   mean of topics {topics_mean:.2f} %")
    print("   " + ", ".join(f"{topic} {percent(flags):.1f} ({len(flags)})" for topic, flags in by_topic.items()))
    wrong = [
        (messages[-1]["content"], text)
        for (_, messages, accepted), text in zip(held_out, given, strict=True)
        if text not in accepted
    ]
    for question, text in wrong[:: max(1, len(wrong) // 6)][:6]:
        print(f"   wrong: {question!r} -> {text!r}")
    refused = [is_refusal(text) for text in answers(model, tokenizer, outside)]
    print(f"   outside the domain: {sum(refused)} of {len(refused)} refused ({percent(refused):.1f} %)")
    largest, equal = prefill_against_decode(model, tokenizer, held_out[::4])
    print(f"   prefill against decode: largest logit difference {largest:.1e}, argmax equal {equal:.2f} %")
    return given


def report_reference_only(model, tokenizer, outside: list[list[dict]], show: bool) -> None:
    """System turns, bare results, second turns, wrongly refused training questions; the reference file alone."""
    brief = questions.held_out_questions(brief=True)
    by_topic, _ = exact_match(model, tokenizer, brief)
    print(f"\n== model, {questions.BRIEF_SYSTEM!r}: {percent([f for flags in by_topic.values() for f in flags]):.2f} %")
    print("   " + ", ".join(f"{topic} {percent(flags):.1f}" for topic, flags in by_topic.items()))
    plain = questions.held_out_questions()
    with_system = [(t, [dict(role="system", content=SYSTEM), *m], a) for t, m, a in plain]
    by_topic, _ = exact_match(model, tokenizer, with_system)
    print(f"== model, {SYSTEM!r}: {percent([f for flags in by_topic.values() for f in flags]):.2f} %")
    earlier = [
        dict(role="user", content="What is the capital of France?"),
        dict(role="assistant", content="The capital of France is Paris."),
    ]
    by_topic, _ = exact_match(model, tokenizer, [(t, earlier + m, a) for t, m, a in plain])
    print(f"== model, as a second turn: {percent([f for flags in by_topic.values() for f in flags]):.2f} %")
    rng = random.Random(12)
    seen = [[dict(role="user", content=refusals.question(rng))] for _ in range(1000)]
    refused = percent([is_refusal(text) for text in answers(model, tokenizer, seen)])
    print(f"== model, fresh questions of the training refusals: {refused:.1f} % refused")
    if show:
        for messages, text in zip(outside, answers(model, tokenizer, outside), strict=True):
            print(f"   {'refused ' if is_refusal(text) else 'ANSWERED'} {messages[0]['content']!r} -> {text!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--show-outside", action="store_true", help="print every answer to outside.txt")
    arguments = parser.parse_args()
    tokenizer = tokenizers.load(arguments.folder)
    held_out = questions.held_out_questions()
    prompts = OUTSIDE.read_text().splitlines()
    outside = [[dict(role="user", content=prompt)] for prompt in prompts]
    print(
        "outside.txt found in training refusals: "
        + ", ".join(f"{name} {share:.1f} %" for name, share in overlap_with_training(prompts).items())
    )
    models = {name: runtime.Model(arguments.folder / "onnx" / f"{name}.onnx") for name in VARIANTS}
    given = {name: report_variant(name, model, tokenizer, held_out, outside) for name, model in models.items()}
    print("\n== against model.onnx: greedy text differs, own log-probability against a replay by model.onnx")
    for name in VARIANTS[1:]:
        differs = percent([a != b for a, b in zip(given[name], given["model"], strict=True)])
        mean, largest = log_probability_gap(models[name], models["model"], tokenizer, held_out[::4])
        print(f"   {name}: text {differs:.2f} %, log-probability mean {mean:.1e}, largest {largest:.1e}")
    report_reference_only(models["model"], tokenizer, outside, arguments.show_outside)


if __name__ == "__main__":
    main()
