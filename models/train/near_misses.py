"""Questions that look like taught ones but lie just outside: refusals must not hang on the shape alone.

Larger operands and other operators, places without a taught capital, words outside the
closed lists, units and calendar questions that are not taught.
"""

import random

import facts
import refusal_words as words

KNOWN_WORDS = set(facts.OPPOSITES) | set(facts.DEFINITIONS) | set(facts.SPELLED_WORDS)
COUNTRIES = list(facts.CAPITALS)
CITIES = set(facts.CAPITALS.values())


def made_up_word(rng: random.Random) -> str:
    return "".join(rng.choice(words.SYLLABLES) for _ in range(rng.choice([1, 2, 2, 3])))


def noun(rng: random.Random) -> str:
    return rng.choice(words.NOUNS) if rng.random() < 0.8 else made_up_word(rng)


def unknown_word(rng: random.Random) -> str:
    """A word that no taught topic covers: real, long or made up."""
    while True:
        kind = rng.random()
        pool = words.NOUNS if kind < 0.45 else words.ADJECTIVES + words.VERBS if kind < 0.55 else words.LONG_WORDS
        word = rng.choice(pool) if kind < 0.62 else made_up_word(rng)
        if word not in KNOWN_WORDS:
            return word


def large_number(rng: random.Random) -> int:
    """At least 100: beyond the operands that are taught."""
    return rng.randrange(100, 10 ** rng.choice([3, 3, 3, 4, 5, 7]))


SUM_FRAMES = "What is {}?|{}|{} = ?|Calculate {}.|How much is {}?|Compute {}.|Solve {}|{} equals?".split("|")
# a, b, c lie below 100 (d, e, f: their last digits), n is large, l and r are two operands of which one is large,
# k lies between 13 and 99.
SUMS = words.entries("""
{l} {sign} {r}|{l}{tight}{r}|{l} {sign} {r}|{a} / {b}|{a} divided by {b}|{n} / {a}|{a} % {b}|{a} + {b} + {c}
{a} - {b} - {c}|{a} {sign} {b} {second} {c}|({a} + {b}) * {c}|{a}^{power}|{a} ** {e}|{a} squared
{a} to the power of {b10}|{a}.{b} {third} {c}|{a}.{b} + {c}.{a}|{k} * {b}|{b} * {k}|{k} times {b}|{b} times {k}
{e1}/{d1} + 1/{f1}|half of {a}|a third of {a}|the square root of {n}|{a}!|log {n}|sin({a})|{a} modulo {b}|twice {a}
{n} squared
""")
WORDED_SUMS = words.entries("""
Divide {a} by {b}.|Add {n} and {a}.|Add {a}, {b} and {c}.|Subtract {a} from {n}.|Multiply {k} by {b}.
Multiply {n} by {a}.
What is the sum of {l} and {r}?|What is the product of {k} and {b}?|What is the difference of {l} and {r}?
Take {a} away from {n}.|I have {n} and get {a} more. How many do I have?|What is {a} divided by {b}?
What is {a} of {b}?
""")


def arithmetic(rng: random.Random) -> str:
    """Sums that are not taught: large operands, other operators, three operands, fractions, powers."""
    a, b, c, n = rng.randrange(100), rng.randrange(100), rng.randrange(100), large_number(rng)
    frame = rng.choice(SUM_FRAMES)
    sign = rng.choice(["+", "-", "*", "+", "-", "plus", "minus", "times"])
    left, right = rng.choice([(n, a), (a, n), (n, large_number(rng))])
    slots = dict(a=a, b=b, c=c, n=n, l=left, r=right, sign=sign, k=rng.randrange(13, 100))
    slots |= dict(e=b % 9, b10=b % 10, d1=a % 9 + 1, e1=b % 9 + 1, f1=c % 9 + 1)
    slots |= dict(
        tight=rng.choice("+-*"), second=rng.choice("+-*/"), power=rng.randrange(2, 9), third=rng.choice("+-*/")
    )
    if rng.random() < 0.7:
        return frame.format(rng.choice(SUMS).format(**slots))
    return rng.choice(WORDED_SUMS).format(**slots)


ABOUT_CAPITALS = words.entries("""
What was the capital of {} in 1850?|What is the second city of {}?|Is there a capital in {}?
What is the capital of {}'s neighbor?|How far is the capital of {}?
""")
CAPITAL_OF = words.entries("""
What is the capital of {}?|Name the capital of {}.|Tell me the capital of {}.|Which city is the capital of {}?
Capital of {}?
Do you know the capital of {}?|What city is the capital city of {}?|What's the capital of {}?
""")
COUNTRY_OF = words.entries("""
{} is the capital of which country?|Which country has the capital {}?|What country is {} the capital of?
Name the country whose capital is {}.
""")


def geography(rng: random.Random) -> str:
    """Capitals of what has none, or none that is taught."""
    kind = rng.random()
    if kind < 0.55:
        place = rng.choice(words.PLACES)
    elif kind < 0.85:
        place = made_up_word(rng).capitalize()
    else:
        place = f"the {noun(rng)}"
    if kind > 0.9 and rng.random() < 0.5:
        country = rng.choice(COUNTRIES)
        return rng.choice(ABOUT_CAPITALS).format(country)
    if rng.random() < 0.25 and place not in CITIES:
        return rng.choice(COUNTRY_OF).format(place)
    return rng.choice(CAPITAL_OF).format(place)


ABOUT_WORDS = words.entries("""
What is the opposite of {w}?|Give me the opposite of {w}.|Opposite of {w}?|Which word is the opposite of {w}?
Name the opposite of the word {w}.|What word means the opposite of {w}?|Tell me the opposite of {w}.|Spell {w}.
How do you spell {w}?|Spell the word {w}.|Can you spell {w}?|Please spell {w} for me.|How many letters are in {w}?
How many letters does {w} have?|Count the letters in {w}.|What is the number of letters in {w}?
Tell me how many letters are in the word {w}.|What is {a} {w}?|What is {a} {w}?|What is {w}?|Define {w}.
Define the word {w}.
What does {w} mean?|What does the word {w} mean?|Explain what {a} {w} is.|Tell me what {a} {w} is.
Give me a short definition of {w}.|Spell {w} backwards.
""")


def unknown_words(rng: random.Random) -> str:
    """Opposite, spelling, letters and definition of words that are not taught."""
    word = unknown_word(rng)
    return rng.choice(ABOUT_WORDS).format(w=word, a="an" if word[0] in "aeiou" else "a")


UNIT_NAMES = words.entries("""
miles|feet|inches|pounds|ounces|liters|gallons|yards|acres|volts|watts|degrees|years|dollars|euros|bytes|cups|meters
minutes
grams|hours|days|seconds
""")
ODD_UNITS = words.entries("""
miles|feet|inches|pounds|ounces|liters|gallons|Celsius|Kelvin|yen|megabytes|spoons|decades|light years
""")
TIMES = words.entries("Christmas|Easter|tomorrow|yesterday|the year|a decade|spring")
ODD_ORDINALS = words.entries("thirteenth|twentieth|last|best|zeroth|hundredth")
ABOUT_UNITS = words.entries("""
How many {odd} are in {n} {unit}?|Convert {n} {unit} to {odd}.|What is {n} {unit} in {odd}?
How many {odd} is {n} {unit}?
{n} {unit} in {odd}?|Change {n} {unit} into {odd}.|Which day comes after {thing}?|What month comes before {thing}?
What day comes before {thing}?|How many days are in {thing}?|How many days until {thing}?
How many weeks are in {thing}?
What is the {rank} month of the year?|What is the {nth} {ranked}?|What date is {day}?
What is the weather like in {month}?
What day is {date}?|How many {odd} does {last_month} have?
""")


def units_and_calendar(rng: random.Random) -> str:
    """Units, days and months asked for what is not taught."""
    unit = rng.choice([*UNIT_NAMES, made_up_word(rng)])
    odd = rng.choice([*ODD_UNITS, noun(rng) + "s"])
    n = rng.choice([rng.randrange(1, 100), large_number(rng)])
    thing = rng.choice([noun(rng), made_up_word(rng), *TIMES, rng.choice(words.PLACES), rng.choice(words.PEOPLE)])
    slots = dict(unit=unit, odd=odd, n=n, thing=thing, rank=rng.choice(ODD_ORDINALS), nth=rng.choice(facts.ORDINALS))
    slots |= dict(ranked=rng.choice(["day", "letter", "planet", "president", "book", noun(rng)]))
    slots |= dict(day=rng.choice(facts.DAYS), month=rng.choice(facts.MONTHS))
    slots |= dict(date=f"{rng.choice(facts.MONTHS)} {n % 31 + 1}", last_month=rng.choice(facts.MONTHS))
    return rng.choice(ABOUT_UNITS).format(**slots)
