"""Builds the byte-level BPE tokenizer and its chat template; turns conversations into token ids.

Not a general tokenizer: its merges come from the generated conversations alone.
Digits are never merged, so that arithmetic sees one token a digit.
"""

import argparse
import json
import pathlib
import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import questions

VOCABULARY_SIZE = 768
MAX_POSITIONS = 512
SPECIAL_TOKENS = ["<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, END = range(len(SPECIAL_TOKENS))
ROLES = dict(system=SYSTEM, user=USER, assistant=ASSISTANT)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build(seed: int = 5, conversations: int = 40_000) -> Tokenizer:
    rng = random.Random(seed)
    texts = [m["content"] for _ in range(conversations) for m in questions.conversation(rng)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY_SIZE,
            special_tokens=SPECIAL_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def save(tokenizer: Tokenizer, folder: pathlib.Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json as the Hub lays them out."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {
            str(i): dict(content=token, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
            for i, token in enumerate(SPECIAL_TOKENS)
        },
        "bos_token": SPECIAL_TOKENS[BOS],
        "eos_token": SPECIAL_TOKENS[EOS],
        "pad_token": SPECIAL_TOKENS[PAD],
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_POSITIONS,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(folder: pathlib.Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def encode(tokenizer: Tokenizer, messages: list[dict]) -> tuple[list[int], list[int]]:
    """Token ids, and 1 where a token is the assistant's (its text and the end mark), else 0."""
    ids, supervised = [BOS], [0]
    for message in messages:
        content = tokenizer.encode(message["content"], add_special_tokens=False).ids
        answers = message["role"] == "assistant"
        ids += [ROLES[message["role"]], *content, EOS if answers else END]
        supervised += [0] + [int(answers)] * (len(content) + 1)
    return ids, supervised


def prompt_ids(tokenizer: Tokenizer, messages: list[dict]) -> list[int]:
    """What the template renders with add_generation_prompt, as ids."""
    return [*encode(tokenizer, messages)[0], ASSISTANT]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="where tokenizer.json and tokenizer_config.json go")
    tokenizer = build()
    save(tokenizer, parser.parse_args().folder)
    print(f"{tokenizer.get_vocab_size()} tokens")
    for text in ("What is 47 + 8?", "The capital of France is Paris.", "K-i-t-c-h-e-n.", "I do not know."):
        encoded = tokenizer.encode(text)
        print(encoded.tokens, tokenizer.decode(encoded.ids) == text)


if __name__ == "__main__":
    main()
