"""Generates questions outside the small model's domain; the answer is always "I do not know."

Variety matters more than volume here: a model that sees a dozen refusal templates
learns those templates, one that sees thousands of shapes learns what it can answer.
So: many hand-written shapes x many slot words, a small grammar of random sentences,
near misses of every taught topic, and junk (gibberish, code, other languages).

The evaluation list outside.txt was written apart from this file and is not read here.
"""

import random
import string

import facts
import near_misses
import refusal_words as words
from near_misses import COUNTRIES, made_up_word, noun

ANSWERS = ["I do not know.", "Sorry, I do not know that.", "I do not know that.", "Sorry, I do not know."]
DEFINED_WORDS = sorted(facts.DEFINITIONS)


def _filled(rng: random.Random, shape: str) -> str:
    number = rng.randrange(3000) if rng.random() < 0.5 else rng.randrange(100)
    text = shape
    while "{y}" in text:
        text = text.replace("{y}", str(number), 1)
        number = rng.randrange(200)
    slots = dict(p=rng.choice(words.PEOPLE) if rng.random() < 0.7 else made_up_word(rng).capitalize())
    slots |= dict(c=rng.choice(words.PLACES) if rng.random() < 0.7 else made_up_word(rng).capitalize())
    slots |= dict(t=rng.choice(words.TOPICS) if rng.random() < 0.6 else rng.choice(words.NOUNS))
    slots |= dict(n=noun(rng), m=noun(rng), j=rng.choice(words.ADJECTIVES), v=rng.choice(words.VERBS))
    slots |= dict(d=rng.choice(words.PAST), k=rng.choice(COUNTRIES), w=rng.choice(DEFINED_WORDS))
    return text.format(**slots)


def hand_written(rng: random.Random) -> str:
    text = _filled(rng, rng.choice(words.SHAPES))
    kind = rng.random()
    if kind < 0.07:
        text = rng.choice(words.LEAD_INS) + text[0].lower() + text[1:]
    elif kind < 0.12:
        text += " " + _filled(rng, rng.choice(words.SHAPES))
    return text[0].upper() + text[1:]


def from_grammar(rng: random.Random) -> str:
    """A random sentence: opener, then phrases, so that nearly every shape is seen once only."""

    def noun_phrase() -> str:
        start = rng.choice(words.DETERMINERS)
        middle = f" {rng.choice(words.ADJECTIVES)}" if rng.random() < 0.4 else ""
        return f"{start}{middle} {rng.choice(DEFINED_WORDS) if rng.random() < 0.2 else noun(rng)}"

    def complement() -> str:
        kind = rng.choice(["phrase", "place", "topic", "country", "number"])
        if kind == "phrase":
            return noun_phrase()
        if kind == "number":
            return str(rng.randrange(2100))
        return rng.choice(dict(place=words.PLACES, topic=words.TOPICS, country=COUNTRIES)[kind])

    phrases = [rng.choice(words.OPENERS), noun_phrase(), rng.choice(words.VERBS)]
    for _ in range(rng.choice([0, 1, 1, 2])):
        phrases += [rng.choice(words.PREPOSITIONS), complement()]
    text = " ".join(phrases) + rng.choice(["?", "?", ".", "", "!"])
    return text[0].upper() + text[1:]


def junk(rng: random.Random) -> str:
    """Gibberish, code, other languages, loose words and punctuation."""
    kind = rng.random()
    if kind < 0.25:
        return _filled(rng, rng.choice(words.CODE))
    if kind < 0.45:
        return rng.choice(words.SENTENCES_ELSEWHERE)
    if kind < 0.6:
        return " ".join(
            "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 9)))
            for _ in range(rng.randint(1, 4))
        )
    if kind < 0.75:
        return " ".join(made_up_word(rng) for _ in range(rng.randint(1, 7))) + rng.choice(["", "?", "."])
    if kind < 0.9:
        pool = words.NOUNS + words.VERBS + words.ADJECTIVES + DEFINED_WORDS + facts.MONTHS + COUNTRIES
        return " ".join(rng.choice(pool) for _ in range(rng.randint(2, 6))) + rng.choice(["", "?", "."])
    return "".join(rng.choice(words.CHARACTERS) for _ in range(rng.randint(1, 16))).strip() or "?"


KINDS = [
    (hand_written, 0.36),
    (from_grammar, 0.17),
    (near_misses.arithmetic, 0.15),
    (near_misses.geography, 0.07),
    (near_misses.unknown_words, 0.11),
    (near_misses.units_and_calendar, 0.06),
    (junk, 0.08),
]


def question(rng: random.Random) -> str:
    """One question whose right answer is a refusal."""
    return rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0](rng)
