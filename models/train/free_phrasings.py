"""Asks the bundled model questions of its domain in words that it wasn't trained on; prints how many it gets right.

The list was written by hand as strangers type, before any answer was looked at: a question, a tab, and the word that a right
answer contains. An answer with "do not know" is a refusal; every other one is wrong. Needs no JAX.
"""

import argparse
import pathlib
import re

import runtime
import tokenizer as tokenizers

QUESTIONS = pathlib.Path(__file__).with_name("free_phrasings.txt")


def judged(answer: str, expected: str) -> str:
    if "do not know" in answer:
        return "refused"
    found = re.search(rf"(?<![\w-]){re.escape(expected)}(?![\w-])", answer, re.IGNORECASE)
    return "right" if found else "wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    tokenizer = tokenizers.load(arguments.folder)
    model = runtime.Model(arguments.folder / "onnx" / "model.onnx")
    rows = [line.split("\t") for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    prompts = [tokenizers.prompt_ids(tokenizer, [{"role": "user", "content": question}]) for question, _ in rows]
    counts = dict.fromkeys(("right", "refused", "wrong"), 0)
    for (question, expected), (ids, _) in zip(rows, model.generate(prompts), strict=True):
        answer = tokenizer.decode(ids)
        verdict = judged(answer, expected)
        counts[verdict] += 1
        print(f"{verdict:8}{question!r} -> {answer!r}")
    print(", ".join(f"{count} of {len(rows)} {verdict}" for verdict, count in counts.items()))


if __name__ == "__main__":
    main()
