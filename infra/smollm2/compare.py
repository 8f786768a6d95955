"""Holds the model folder against llama.cpp's server on the GGUF file: tokens, rendered template, most probable tokens.

    bash infra/smollm2.sh compare [--positions 2000] [--program target/debug/examples/model_answers]

It is run by hand: models/smollm2-135m-instruct.md has its result. What is on our side comes from the project's own code, by
the example `model_answers`, which it builds unless it is named.
"""

import json
import os
import statistics
import subprocess
import sys

import place
import texts
from llama_server import LlamaServer

# Positions are compared in windows of a document, each from its own beginning.
WINDOW = 128
TEXTS_MIN, AGREE_MIN = 500, 0.95
VARIANTS = ("model", "int8", "q4")
LIBRARY = place.RUNTIME / "onnxruntime" / "libonnxruntime.so.1.31.1"
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "docs/operators.md", "docs/api.md", "gateway/src/jobs/accept.rs", "infra/setup.py")
# The tokens that end a text: <|endoftext|> and <|im_end|>.
ENDS = (0, 2)
# Differences that are printed of each variant.
SHOWN_MAX = 40


def program(named):
    """Returns the path of the example; builds it unless it is named."""
    if named:
        return named
    command = [os.environ.get("CARGO", "cargo"), "build", "--workspace", "--all-features", "--locked", "--example", "model_answers"]
    if subprocess.run(command, cwd=place.ROOT, check=False).returncode:
        sys.exit("smollm2: the example model_answers could not be built")
    return place.ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "examples" / "model_answers"


def ours(path, variant, requests):
    """Returns what the project makes of these requests."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([path, place.FOLDER, variant, LIBRARY], input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"smollm2: model_answers failed: {done.stderr}")
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def compare_tokens(server, path):
    """Compares the tokens of all texts; returns whether they are equal."""
    all_texts = texts.texts()
    found = ours(path, VARIANTS[0], [{"text": text} for text in all_texts])
    differ = [text for text, said in zip(all_texts, found) if server.tokens(text) != said["tokens"]]
    print(f"tokens: {len(all_texts) - len(differ)} of {len(all_texts)} texts equal")
    for text in differ[:SHOWN_MAX]:
        print(f"  differs: {text!r}: {server.tokens(text)} there, {found[all_texts.index(text)]['tokens']} here")
    return not differ and len(all_texts) >= TEXTS_MIN


def compare_prompts(server, path):
    """Compares the rendered conversations byte for byte; returns whether they are equal."""
    conversations = texts.conversations()
    found = ours(path, VARIANTS[0], [{"messages": messages} for messages in conversations])
    differ = [pair for pair in zip(conversations, found) if server.prompt(pair[0]) != pair[1]["prompt"]]
    print(f"template: {len(conversations) - len(differ)} of {len(conversations)} conversations equal, byte for byte")
    for messages, said in differ[:SHOWN_MAX]:
        print(f"  differs: {messages}: {server.prompt(messages)!r} there, {said['prompt']!r} here")
    return not differ


def windows(server, count):
    """Returns windows of tokens from the repository's own documents, in turn, with as many positions as are wanted."""
    tokens = [server.tokens((place.ROOT / name).read_text(encoding="utf-8")) for name in DOCUMENTS]
    found, begin = [], 0
    while (WINDOW - 1) * len(found) < count:
        found += [ids[begin : begin + WINDOW] for ids in tokens if len(ids) >= begin + WINDOW]
        begin += WINDOW
    return found[: -(-count // (WINDOW - 1))]


def compare_positions(server, path, count):
    """Compares the most probable tokens; returns whether the exact variant agrees often enough."""
    asked = windows(server, count)
    theirs = [[server.most_probable(ids[: end + 1]) for end in range(WINDOW - 1)] for ids in asked]
    agreed = {}
    for variant in VARIANTS:
        found = ours(path, variant, [{"ids": ids} for ids in asked])
        equal, gaps, total, shown = 0, [], 0, []
        for number, (there, said) in enumerate(zip(theirs, found)):
            for end, (best, (token, score)) in enumerate(zip(there, said["positions"])):
                total += 1
                is_equal = token in ENDS if best[0][0] is None else token == best[0][0]
                equal += is_equal
                if is_equal and best[0][1] is not None:
                    gaps.append(abs(best[0][1] - score))
                if not is_equal:
                    second = next((value for other, value in best if other == token), None)
                    shown.append(f"window {number}, position {end}: there {best[0]}, ours {token} at {score:.3f}, there {second}")
        agreed[variant] = equal / total
        print(f"{variant}: {equal} of {total} positions have the same most probable token ({100 * agreed[variant]:.2f} %)")
        print(f"  its log-probability differs by {statistics.mean(gaps):.4f} in the mean, {max(gaps):.3f} at most")
        if variant == VARIANTS[0]:
            print("".join(f"  differs: {line}\n" for line in shown[:SHOWN_MAX]), end="")
            print(f"  and {max(0, len(shown) - SHOWN_MAX)} more", flush=True)
    return agreed[VARIANTS[0]] >= AGREE_MIN


def run(options):
    """Compares everything; exits with 1 if something differs more than it may."""
    path = program(options.program)
    server = LlamaServer(place.gguf(), os.cpu_count() or 1)
    try:
        held = [compare_tokens(server, path), compare_prompts(server, path)]
        held.append(compare_positions(server, path, options.positions))
    finally:
        server.close()
    sys.exit(0 if all(held) else 1)
