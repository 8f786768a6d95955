"""Generates the conversations that the small model learns from, and the held-out questions.

Everything is made here from facts.py and refusals.py with fixed seeds; nothing is
downloaded. A question is a (topic, fact, phrasing) triple. Held out by hash:
15 % of unordered operand pairs of sums and differences in every phrasing, and
15 % of phrasing-and-fact combinations of the other topics (each such fact is
seen in other phrasings, each phrasing with other facts).
"""

import hashlib
import random

import facts
import refusals

HELD_OUT_SHARE = 0.15
REFUSAL_SHARE = 0.14
GREETING_SHARE = 0.02
# Greedy decoding is stable because one wording dominates; sampling still varies.
WORDING_WEIGHTS = [0.55, 0.2, 0.15, 0.1]
REFUSAL_WEIGHTS = [0.7, 0.1, 0.1, 0.1]
TURN_WEIGHTS = [0.55, 0.28, 0.17]
# Differences with |a - b| < 10 are one in five among uniform pairs and the last thing to be learned.
SMALL_DIFFERENCE_SHARE = 0.2

BRIEF_SYSTEM = "Answer with the result only."
SYSTEMS = [
    (None, 0.48),
    ("You are a helpful assistant.", 0.26),
    (BRIEF_SYSTEM, 0.14),
    ("You are a friendly tutor.", 0.04),
    ("You are an AI assistant.", 0.04),
    ("Answer the question.", 0.04),
]

# topic -> (weight, question phrasings, answer wordings, bare result)
TOPICS = {
    "add": (
        24,
        [
            "What is {a} + {b}?",
            "What is {a} plus {b}?",
            "{a} + {b}",
            "{a} + {b} = ?",
            "Add {a} and {b}.",
            "Calculate {a} + {b}.",
            "How much is {a} plus {b}?",
            "What is the sum of {a} and {b}?",
            "Compute {a} plus {b}, please.",
            "I have {a} and get {b} more. How many do I have?",
            "{a}+{b}",
        ],
        [
            "{a} + {b} = {r}.",
            "{a} plus {b} is {r}.",
            "The answer is {a} + {b} = {r}.",
            "The sum of {a} and {b} is {r}.",
        ],
        "{r}",
    ),
    "subtract": (
        28,
        [
            "What is {a} - {b}?",
            "What is {a} minus {b}?",
            "{a} - {b}",
            "{a} - {b} = ?",
            "Subtract {b} from {a}.",
            "Calculate {a} - {b}.",
            "How much is {a} minus {b}?",
            "What is the difference of {a} and {b}?",
            "Compute {a} minus {b}, please.",
            "Take {b} away from {a}.",
            "{a}-{b}",
        ],
        [
            "{a} - {b} = {r}.",
            "{a} minus {b} is {r}.",
            "The answer is {a} - {b} = {r}.",
            "The difference of {a} and {b} is {r}.",
        ],
        "{r}",
    ),
    "multiply": (
        5,
        [
            "What is {a} * {b}?",
            "What is {a} times {b}?",
            "{a} * {b}",
            "{a} * {b} = ?",
            "Multiply {a} by {b}.",
            "Calculate {a} * {b}.",
            "How much is {a} times {b}?",
            "What is the product of {a} and {b}?",
            "Compute {a} times {b}, please.",
        ],
        [
            "{a} * {b} = {r}.",
            "{a} times {b} is {r}.",
            "The answer is {a} * {b} = {r}.",
            "The product of {a} and {b} is {r}.",
        ],
        "{r}",
    ),
    "capital": (
        6,
        [
            "What is the capital of {c}?",
            "Name the capital of {c}.",
            "Tell me the capital of {c}.",
            "Which city is the capital of {c}?",
            "Capital of {c}?",
            "Do you know the capital of {c}?",
            "What city is the capital city of {c}?",
            "What's the capital of {c}?",
        ],
        ["The capital of {c} is {r}.", "{r} is the capital of {c}.", "It is {r}.", "The capital city of {c} is {r}."],
        "{r}",
    ),
    "country": (
        3.5,
        [
            "{r} is the capital of which country?",
            "Which country has the capital {r}?",
            "What country is {r} the capital of?",
            "Name the country whose capital is {r}.",
        ],
        ["{r} is the capital of {c}.", "The country is {c}.", "It is {c}.", "The capital of {c} is {r}."],
        "{c}",
    ),
    "opposite": (
        6,
        [
            "What is the opposite of {w}?",
            "Give me the opposite of {w}.",
            "Opposite of {w}?",
            "Which word is the opposite of {w}?",
            "Name the opposite of the word {w}.",
            "What word means the opposite of {w}?",
            "Tell me the opposite of {w}.",
        ],
        ["The opposite of {w} is {r}.", "It is {r}.", "{r} is the opposite of {w}.", "The opposite is {r}."],
        "{r}",
    ),
    "unit": (
        6,
        [
            "How many {v} are in {n} {u}?",
            "Convert {n} {u} to {v}.",
            "What is {n} {u} in {v}?",
            "How many {v} is {n} {u}?",
            "{n} {u} in {v}?",
            "Change {n} {u} into {v}.",
        ],
        ["{n} {u} is {r} {v}.", "There are {r} {v} in {n} {u}.", "{n} {u} = {r} {v}.", "That is {r} {v}."],
        "{r} {v}",
    ),
    "day": (
        1.2,
        [
            "What day comes {o} {d}?",
            "Which day is {o} {d}?",
            "What is the day {o} {d}?",
            "Name the day {o} {d}.",
            "Tell me which day comes {o} {d}.",
            "Which day of the week comes {o} {d}?",
        ],
        ["{r} comes {o} {d}.", "The day {o} {d} is {r}.", "It is {r}.", "{r} is the day {o} {d}."],
        "{r}",
    ),
    "month": (
        1.4,
        [
            "What month comes {o} {d}?",
            "Which month is {o} {d}?",
            "What is the month {o} {d}?",
            "Name the month {o} {d}.",
            "Tell me which month comes {o} {d}.",
            "Which month of the year comes {o} {d}?",
        ],
        ["{r} comes {o} {d}.", "The month {o} {d} is {r}.", "It is {r}.", "{r} is the month {o} {d}."],
        "{r}",
    ),
    "nth_month": (
        0.9,
        [
            "What is the {o} month of the year?",
            "Which month is the {o}?",
            "Name the {o} month.",
            "Tell me the {o} month of the year.",
        ],
        ["The {o} month is {r}.", "It is {r}.", "{r} is the {o} month of the year.", "{r} is the {o} month."],
        "{r}",
    ),
    "month_days": (
        0.9,
        [
            "How many days are in {d}?",
            "How many days does {d} have?",
            "What is the number of days in {d}?",
            "Tell me how many days {d} has.",
        ],
        ["{d} has {r} days.", "There are {r} days in {d}.", "It has {r} days.", "{r} days."],
        "{r}",
    ),
    "spell": (
        5,
        [
            "Spell {w}.",
            "How do you spell {w}?",
            "Spell the word {w}.",
            "Can you spell {w}?",
            "Please spell {w} for me.",
        ],
        ["{r}.", "{w} is spelled {r}.", "It is spelled {r}.", "The word {w} is spelled {r}."],
        "{r}",
    ),
    "count": (
        3.5,
        [
            "How many letters are in {w}?",
            "How many letters does {w} have?",
            "Count the letters in {w}.",
            "What is the number of letters in {w}?",
            "Tell me how many letters are in the word {w}.",
        ],
        [
            "{w} has {r} letters.",
            "There are {r} letters in {w}.",
            "The word {w} has {r} letters.",
            "It has {r} letters.",
        ],
        "{r}",
    ),
    "define": (
        4.5,
        [
            "What is {aw}?",
            "Define {w}.",
            "Define the word {w}.",
            "What does {w} mean?",
            "What does the word {w} mean?",
            "Explain what {aw} is.",
            "Tell me what {aw} is.",
            "Give me a short definition of {w}.",
        ],
        ["{aw} is {r}.", "It is {r}.", "The word {w} means {r}.", "{w} means {r}."],
        "{r}",
    ),
}
TOPIC_NAMES = list(TOPICS)
TOPIC_WEIGHTS = [entry[0] for entry in TOPICS.values()]


def capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def all_facts() -> dict[str, list[dict]]:
    """topic -> the slot values of each fact."""
    found: dict[str, list[dict]] = {topic: [] for topic in TOPICS}
    for a in range(100):
        for b in range(100):
            found["add"].append(dict(a=a, b=b, r=a + b))
            found["subtract"].append(dict(a=a, b=b, r=a - b))
    found["multiply"] = [dict(a=a, b=b, r=a * b) for a in range(13) for b in range(13)]
    for country, city in facts.CAPITALS.items():
        found["capital"].append(dict(c=country, r=city))
        found["country"].append(dict(c=country, r=city))
    found["opposite"] = [dict(w=word, r=other) for word, other in facts.OPPOSITES.items()]
    for source, target, factor, largest in facts.UNITS:
        for n in range(1, largest + 1):
            found["unit"].append(dict(n=n, u=source[:-1] if n == 1 else source, v=target, r=n * factor))
    for topic, names in (("day", facts.DAYS), ("month", facts.MONTHS)):
        for i, name in enumerate(names):
            found[topic].append(dict(o="after", d=name, r=names[(i + 1) % len(names)]))
            found[topic].append(dict(o="before", d=name, r=names[i - 1]))
    for ordinal, month, days in zip(facts.ORDINALS, facts.MONTHS, facts.DAYS_IN_MONTH, strict=True):
        found["nth_month"].append(dict(o=ordinal, r=month))
        found["month_days"].append(dict(d=month, r=days))
    for word in facts.SPELLED_WORDS:
        found["spell"].append(dict(w=word, r="-".join(word)))
        found["count"].append(dict(w=word, r=len(word)))
    for word, meaning in facts.DEFINITIONS.items():
        article = "an" if word[0] in "aeiou" else "a"
        found["define"].append(dict(w=word, aw=f"{article} {word}", r=meaning))
    return found


FACTS = all_facts()


def _hash_share(*parts) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def is_held_out(topic: str, fact: dict, phrasing: int) -> bool:
    if topic in ("add", "subtract"):
        low, high = sorted((fact["a"], fact["b"]))
        return _hash_share("pair", topic, low, high) < HELD_OUT_SHARE
    return _hash_share("combination", topic, sorted(fact.items()), phrasing) < HELD_OUT_SHARE


def question_text(topic: str, fact: dict, phrasing: int) -> str:
    return TOPICS[topic][1][phrasing].format(**fact)


def answer_texts(topic: str, fact: dict, brief: bool = False) -> list[str]:
    """All accepted wordings, most likely first; one bare result for `brief`."""
    if brief:
        return [capitalised(TOPICS[topic][3].format(**fact))]
    return [capitalised(wording.format(**fact)) for wording in TOPICS[topic][2]]


def _training_triple(rng: random.Random) -> tuple[str, dict, int]:
    while True:
        topic = rng.choices(TOPIC_NAMES, TOPIC_WEIGHTS)[0]
        phrasing = rng.randrange(len(TOPICS[topic][1]))
        if topic == "subtract" and rng.random() < SMALL_DIFFERENCE_SHARE:
            a = rng.randrange(100)
            b = min(99, max(0, a + rng.randint(-9, 9)))
            fact = dict(a=a, b=b, r=a - b)
        else:
            fact = rng.choice(FACTS[topic])
        if not is_held_out(topic, fact, phrasing):
            return topic, fact, phrasing


def _as_typed(rng: random.Random, text: str) -> str:
    """Sometimes as people type: small letters, or without the final mark."""
    kind = rng.random()
    if kind < 0.04:
        text = text.lower()
    elif kind < 0.10:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.06 and text[-1] in ".?":
        text = text[:-1]
    return text


def exchange(rng: random.Random, brief: bool) -> tuple[str, str]:
    """One training question and its answer."""
    kind = rng.random()
    if kind < REFUSAL_SHARE:
        answer = refusals.ANSWERS[0] if brief else rng.choices(refusals.ANSWERS, REFUSAL_WEIGHTS)[0]
        return _as_typed(rng, refusals.question(rng)), answer
    if kind < REFUSAL_SHARE + GREETING_SHARE:
        said, answers = rng.choice(facts.GREETINGS)
        return rng.choice(said), rng.choices(answers, WORDING_WEIGHTS)[0]
    topic, fact, phrasing = _training_triple(rng)
    answers = answer_texts(topic, fact, brief)
    answer = answers[0] if brief else rng.choices(answers, WORDING_WEIGHTS)[0]
    return _as_typed(rng, question_text(topic, fact, phrasing)), answer


def conversation(rng: random.Random) -> list[dict]:
    """One to three exchanges, with or without a system turn, as chat messages."""
    system = rng.choices([s for s, _ in SYSTEMS], [w for _, w in SYSTEMS])[0]
    messages = [] if system is None else [dict(role="system", content=system)]
    for _ in range(rng.choices([1, 2, 3], TURN_WEIGHTS)[0]):
        asked, answer = exchange(rng, system == BRIEF_SYSTEM)
        messages += [dict(role="user", content=asked), dict(role="assistant", content=answer)]
    return messages


def held_out_questions(seed: int = 99, most_per_topic: int = 1000, brief: bool = False):
    """(topic, messages, accepted answers) for the evaluation; never trained on."""
    rng = random.Random(seed)
    chosen = []
    for topic, (_, phrasings, _, _) in TOPICS.items():
        triples = [(fact, i) for fact in FACTS[topic] for i in range(len(phrasings)) if is_held_out(topic, fact, i)]
        rng.shuffle(triples)
        for fact, phrasing in triples[:most_per_topic]:
            messages = [dict(role="system", content=BRIEF_SYSTEM)] if brief else []
            messages.append(dict(role="user", content=question_text(topic, fact, phrasing)))
            chosen.append((topic, messages, answer_texts(topic, fact, brief)))
    return chosen
