"""Writes expected.json: what the engine must reproduce for the exported model.

Answers are the greedy ones of model.onnx; a question is only listed if its answer is
an accepted one (or a refusal, for questions outside the domain). Renderings hold the
template's text and the token ids of it, for checks of template and tokenizer.
"""

import argparse
import json
import pathlib

import jinja2

import evaluate
import questions
import runtime
import tokenizer as tokenizers

OUTSIDE = ["What is 123 + 456?", "What is the capital of Atlantis?", "Write a poem about the sea."]
EXCHANGE = [dict(role="user", content="What is 47 + 38?"), dict(role="assistant", content="47 + 38 = 85.")]
RENDERED = [
    [dict(role="user", content="Hello!")],
    [dict(role="user", content="")],
    [dict(role="user", content=" leading and trailing ")],
    [dict(role="user", content="two\nlines\r\n\tand a tab")],
    [dict(role="user", content="12 + 345 - 6,789.0")],
    [dict(role="user", content="I'm here, you're there; it's 5 o'clock")],
    [dict(role="user", content="Zürich, São Paulo, Kraków")],
    [dict(role="user", content="今天天气怎么样")],
    [dict(role="user", content="🙂 smile")],
    [dict(role="user", content="<|eos|> in the text")],
    [dict(role="user", content="a < b && c > d")],
    [dict(role="user", content="{{ bos_token }}")],
    [dict(role="system", content="You are a helpful assistant."), dict(role="user", content="What is 7 * 8?")],
    [dict(role="system", content=questions.BRIEF_SYSTEM), dict(role="user", content="What is 7 * 8?")],
    [dict(role="system", content="You are a friendly tutor."), *EXCHANGE, dict(role="user", content="Spell bread.")],
    [*EXCHANGE, dict(role="user", content="What is the capital of Peru?")],
    [*EXCHANGE, *EXCHANGE, dict(role="user", content="Thanks!")],
    [dict(role="user", content="What is the opposite of cheap?")],
    [dict(role="user", content="How many meters are in 3 kilometers?")],
    [dict(role="user", content="double  spaces   here")],
]


def render(messages: list[dict]) -> str:
    """As loaders render it: block lines trimmed, generation prompt added."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(tokenizers.CHAT_TEMPLATE).render(
        messages=messages,
        add_generation_prompt=True,
        bos_token=tokenizers.SPECIAL_TOKENS[tokenizers.BOS],
        eos_token=tokenizers.SPECIAL_TOKENS[tokenizers.EOS],
    )


def rendering(tokenizer, messages: list[dict]) -> dict:
    text = render(messages)
    return dict(messages=messages, text=text, token_ids=tokenizer.encode(text, add_special_tokens=False).ids)


def check_prompt_ids(tokenizer, conversations) -> None:
    """The trainer builds ids without the template; both ways must agree."""
    for messages in conversations:
        if rendering(tokenizer, messages)["token_ids"] != tokenizers.prompt_ids(tokenizer, messages):
            raise SystemExit(f"template and trainer disagree on {messages}")


def listed_answers(model, tokenizer) -> list[dict]:
    held_out = questions.held_out_questions()
    by_topic: dict[str, list] = {}
    for topic, messages, accepted in held_out:
        by_topic.setdefault(topic, []).append((topic, messages, accepted))
    chosen = [entry for entries in by_topic.values() for entry in entries[:2]]
    chosen += [("refusal", [dict(role="user", content=text)], questions.refusals.ANSWERS) for text in OUTSIDE]
    brief = questions.held_out_questions(brief=True)
    chosen += [entry for entry in brief if entry[0] == "capital"][:2]
    given = model.generate([tokenizers.prompt_ids(tokenizer, messages) for _, messages, _ in chosen])
    listed = []
    for (topic, messages, accepted), (ids, _) in zip(chosen, given, strict=True):
        text = evaluate.answer_text(tokenizer, ids)
        if text not in accepted:
            print(f"left out, answered {text!r}: {messages}")
            continue
        listed.append(dict(topic=topic, messages=messages, accepted=accepted, greedy=text, greedy_token_ids=ids))
    return listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    tokenizer = tokenizers.load(folder)
    check_prompt_ids(tokenizer, [messages for _, messages, _ in questions.held_out_questions()])
    # One prompt at a time: what an engine must give for a lone request.
    model = runtime.Model(folder / "onnx" / "model.onnx", threads=1)
    content = dict(
        model="onnx/model.onnx",
        answers=listed_answers(model, tokenizer),
        renderings=[rendering(tokenizer, messages) for messages in RENDERED],
    )
    (folder / "expected.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(content['answers'])} answers, {len(content['renderings'])} renderings")


if __name__ == "__main__":
    main()
