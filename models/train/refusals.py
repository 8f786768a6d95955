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

ANSWERS = ["I do not know.", "Sorry, I do not know that.", "I do not know that.", "Sorry, I do not know."]

NOUNS = """
ocean internet telephone engine economy football painting galaxy rocket camera piano cookie robot dragon castle
pizza guitar virus atom chess movie bank insurance coat recipe weather airport algorithm ankle anthem arrow artist
asteroid athlete avocado backpack bacteria balloon bamboo bandage banjo barn basket battery beach beard belt
blanket blood bone bottle bowl box brain branch brick brush bucket button cable cactus cake calendar candle candy
canyon carpet carrot cave ceiling cell cement ceremony champion channel charity chemistry chimney chocolate church
circle city coal coffee coin comet compass concert concrete copper coral corn cotton court crab crown crystal
culture cup currency curtain dance democracy dentist diamond diet dinosaur diploma disease dolphin donkey door
dream drum duck dust eagle earthquake elbow election electricity elephant elevator email emperor energy envelope
equation essay exam factory feather fence festival fever film fire flag flame flute fog fork fossil fountain fox
friendship fruit funeral furniture gallery game gas gene ghost giraffe glacier glass glove goat gold goose
government grass gravity guard gun hair hamster harbor heart helmet herb hill hobby holiday honey hotel hurricane
ice iron ivory jacket jail jazz jewel journey judge jungle jury kangaroo keyboard kidney kite kingdom knee knight
ladder language laptop laser law lawyer leaf leather legend lens lightning lion lizard lobster lock loan lung
machine magnet malaria map marble market marriage mask meat medicine melody memory metal microscope milk mine
mirror missile mushroom muscle museum mustard myth nail napkin neck needle nerve nest net newspaper noise novel
nurse nut oak oil olive onion opera orchestra organ owl oxygen oyster page palace panda parade parent park parrot
party passport password peach peanut pencil penguin pension pepper perfume philosophy photo physics pig pill
pillow pipe pirate plastic plate poem poet poison police pollution pool pope potato pottery prison prize
professor protein proverb pumpkin puppet pyramid rabbit radio rainbow rat religion rent restaurant rice ring
road rock roof root rope rose rubber ruler sail salad salary salt sand sandwich satellite sauce sausage scarf
science scissors screen sculpture seed senator shadow shark sheep shell ship shirt shop shoulder silk singer
skeleton skill skin skull skyscraper slave smoke snail snake snow soap soccer sock software soil soldier song
soul soup spice spider spoon sport squirrel stadium stamp statue steel stomach stone stove strategy straw street
string student submarine subway suitcase sunset supermarket surgeon sweater sword symphony tattoo taxi tea
telescope television temple tennis tent theater theorem thread throne thunder ticket tie tiger toilet tomato
tongue tooth tornado towel tower toy tractor traffic treasure treaty trial triangle truck trumpet tunnel turtle
umbrella uniform universe university vaccine valley vegetable vein village vinegar violin vitamin volcano vote
wage waiter wall wallet walnut warrior watch wave wax wedding whale wheat wheel whistle wine wing witch wizard
wolf wood wool worm wound zebra zipper zoo
""".split()
NOUNS = [noun for noun in NOUNS if noun not in facts.DEFINITIONS and noun not in facts.SPELLED_WORDS]
TOPICS = """
world war two|climate change|quantum physics|the stock market|time travel|modern art|black holes|human rights
artificial intelligence|the roman empire|machine learning|video games|healthy food|classical music|the bible
online shopping|space travel|organic farming|the french revolution|global warming|public transport|sports cars
mental health|street food|social media|the middle ages|nuclear power|wild animals|good manners|folk tales|love
politics|money|sleep|fashion|happiness|history|biology|geography|grammar|poetry|mathematics|justice|freedom
""".strip().replace("\n", "|").split("|")
ADJECTIVES = """
famous important strange beautiful dangerous useful popular ancient expensive tiny huge best worst fastest oldest
strongest biggest common rare political secret magical digital electric wooden golden broken lazy angry hungry
tired clever funny boring perfect modern favorite blue red green black white warm noisy quiet wild
""".split()
VERBS = """
build repair buy sell cook bake paint draw grow clean open close break invent discover explain describe compare
translate write read play watch find lose carry move drive ride catch hunt feed wash sew knit install delete
download upload program test measure weigh cut burn freeze melt fold hide steal borrow share forgive visit
climb swim fight vote marry study memorize print record design plant collect improve avoid protect calculate
""".split()
PAST = """
invented discovered built painted wrote founded destroyed designed won lost stole killed married conquered
directed composed named ruled sold bought crossed attacked cooked broke
""".split()
PEOPLE = """
the president|the prime minister|my neighbor|Napoleon|Shakespeare|Einstein|Cleopatra|Mozart|a famous actor|my boss
Julius Caesar|Queen Victoria|Leonardo|Picasso|Galileo|Newton|Beethoven|Columbus|the queen of England|my grandmother
Gandhi|Darwin|Marie Curie|Lincoln|the mayor|Alice|Bob|Maria|John|Peter|my sister|the teacher|Plato|Aristotle|Homer
""".strip().replace("\n", "|").split("|")
# Places that have no capital in facts.py: made up, cities, regions, or left out there.
PLACES = """
Atlantis|Narnia|Mordor|Wakanda|Gotham|Utopia|Mars|Jupiter|the moon|Europe|Africa|Asia|Antarctica|the ocean|Texas
California|Florida|Bavaria|Tuscany|Siberia|Alaska|Hawaii|Scotland|Wales|Catalonia|Quebec|Ontario|Bolivia|Israel
South Africa|Sicily|Normandy|Brittany|Greenland|Tibet|Kosovo|Taiwan|Barcelona|Milan|Munich|New York|Chicago|Sydney
Mumbai|Shanghai|Middle Earth|the world|the universe|heaven|Krypton|Oz|Elbonia|Freedonia|Zamunda|my town|Elsewhere
Hamburg|Lyon|Naples|Venice|Kansas|Ohio|Virginia|Punjab|Bali|Crete|Corsica|Sardinia|Patagonia|Amazonia|Eurasia
""".strip().replace("\n", "|").split("|")

# Slots: n noun, m another noun, t topic, j adjective, v verb, d past verb, p person, c place, k country, y a number,
# w a word the model knows in other questions. Every entry is outside the domain whatever the slots hold.
SHAPES = """
Write a poem about {t}.|Write a short story about a {n}.|Write an essay on {t}.|Write a letter to {p}.|Write a song about {n}s.
Compose an email about the {n}.|Draft a speech on {t}.|Make up a joke about a {n}.|Tell me a joke about {p}.|Tell me a story.
Tell me a fun fact about {n}s.|Tell me something about {t}.|Tell me about {p}.|Tell me about the {n} in {c}.|Tell me why {n}s are {j}.
Who invented the {n}?|Who {d} the {n}?|Who was the first to {v} a {n}?|Who is {p}?|Who is the richest {n} in {c}?|Who was {p}?
Who wrote the book about {t}?|Who won the {n} prize in {y}?|Who is the president of {k}?|Who is the king of {c}?|Who do you work for?
Who painted the {j} {n}?|Who discovered {t}?|Who lives in {c}?|Whose {n} is this?|Who are the members of the {n}?
When was the {n} invented?|When did {p} die?|When was {p} born?|When did the war in {k} end?|When does the {n} open?|When will it rain in {c}?
When did people first {v} {n}s?|When is the best time to {v} a {n}?|When is the next {n}?|What year did {p} visit {c}?
Where is {c}?|Where is {k}?|Where can I buy a {n}?|Where can I find a {j} {n}?|Where do {n}s live?|Where does {n} come from?|Where was {p} born?
Where did I put my {n}?|Where are you from?|Where should I {v} my {n}?|Where is the nearest {n}?
Why is the {n} {j}?|Why is the sky {j}?|Why do {n}s {v}?|Why does the {n} need a {m}?|Why did {p} go to {c}?|Why are {n}s so {j}?|Why is {t} important?
Why should I {v} a {n}?|Why do we have {t}?|Why can a {n} not {v}?
How do I {v} a {n}?|How do you {v} the {n}?|How can I {v} a {j} {n}?|How does a {n} work?|How does {t} work?|How is a {n} made?|How old is the {n}?
How old is {p}?|How tall is the {n}?|How tall is {p}?|How far is {c} from {k}?|How much does a {n} cost?|How much does a {n} weigh?|How long is a {n}?
How long does it take to {v} a {n}?|How many {n}s are in {c}?|How many {n}s does {p} have?|How many people live in {k}?|How many legs does a {n} have?
How many {n}s are in a {m}?|How big is the {n}?|How fast is a {n}?|How fast can a {n} run?|How deep is the {n}?|How hot is a {n}?|How often should I {v} my {n}?
How did {p} {v} the {n}?|How should I {v} {t}?|How would you {v} a {n}?|How come the {n} is {j}?|How important is {t}?
What is {t}?|What is a {n}?|What is the {n}?|What is the best {n}?|What is your favorite {n}?|What is the history of the {n}?|What is the meaning of {t}?
What is the color of a {n}?|What is the population of {k}?|What is the currency of {k}?|What is the language of {k}?|What is the largest {n} in {k}?
What is the longest {n}?|What is the name of the {n}?|What is the price of a {n}?|What is the difference between a {n} and a {m}?
What is the purpose of a {n}?|What is the weather in {c}?|What is the temperature of the {n}?|What is the formula of {n}?|What is inside a {n}?
What is the recipe for {n}?|What is the square root of {y}?|What is {y} percent of {y}?|What is the value of pi?|What is the time in {c}?
What time is it?|What day is it today?|What is the date today?|What year is it?|What happened in {y}?|What happened to {p}?|What happens if I {v} a {n}?
What causes a {n}?|What color is the {n}?|What color is a {j} {n}?|What do {n}s eat?|What do you think about {t}?|What did {p} {v}?
What does a {n} look like?|What does a {n} eat?|What does {p} do?|What are {n}s made of?|What are the rules of {n}?|What are you doing?
What kind of {n} is {j}?|What kind of {n} do you like?|What makes a {n} {j}?|What movie should I {v}?|What language do they speak in {k}?
What should I {v}?|What should I cook with {n}?|What was the name of {p}?|What would happen without {t}?|What will the {n} be tomorrow?
What else can you {v}?|What can I do with a {n}?|What sound does a {n} make?|What size is the {n}?|What's a {n}?|What's your {n}?
Which {n} is the best?|Which {n} is {j}?|Which is better, a {n} or a {m}?|Which {n} should I {v}?|Which country makes the best {n}?|Which team won the {n}?
Which planet is the biggest?|Which animal is the {j}?|Which came first, the {n} or the {m}?|Which language has the most words?
Is the {n} {j}?|Is {p} {j}?|Is it {j} to {v} a {n}?|Is {t} real?|Is {k} bigger than {c}?|Is a {n} heavier than a {m}?|Is there a {n} in {c}?|Is {y} a prime number?
Are {n}s {j}?|Are you {j}?|Are there {n}s in {k}?|Are you a {n}?|Was {p} {j}?|Were there {n}s in {y}?
Do you like {n}s?|Do you have a {n}?|Do you believe in {t}?|Do {n}s {v}?|Do I need a {n} to {v} a {m}?|Do you remember {p}?|Do you want a {n}?
Does a {n} {v}?|Does {p} like {t}?|Does the {n} have a {m}?|Did {p} {v} a {n}?|Did you {v} the {n}?|Have you seen my {n}?|Has {p} been in {c}?
Can you {v} a {n}?|Can I {v} a {n} in {k}?|Can a {n} {v} a {m}?|Can you help me with {t}?|Could you {v} this {n}?|Could {p} {v}?
Should I {v} my {n}?|Should {t} be allowed?|Will it {v} tomorrow?|Will {p} win?|Would you {v} a {n}?|May I have a {n}?|Must I {v} it?
Explain {t} to me.|Explain how a {n} works.|Explain why the {n} is {j}.|Describe a {j} {n}.|Describe {p}.|Describe the {n} of {c}.
Give me a recipe for {n}.|Give me three examples of {t}.|Give me advice about {t}.|Give me a list of {n}s.|Give me the name of a {n}.|Give me an idea for a {n}.
List the {n}s of {c}.|List {y} {n}s.|Name three {n}s.|Name a {j} {n}.|Name the author of {t}.|Name the biggest {n} in {k}.
Compare a {n} and a {m}.|Compare {k} with {c}.|Summarize {t}.|Summarize this text: the {n} is {j}.|Translate {n} into French.|Translate the {j} {n} into German.
Draw a {n}.|Draw me a picture of {t}.|Play a {n} song.|Play some music.|Sing a song.|Show me a {n}.|Show me how to {v} a {n}.|Show me {c} on a map.
Find a {n} near me.|Find me a {j} {n}.|Recommend a {n}.|Recommend a book about {t}.|Suggest a name for my {n}.|Help me {v} a {n}.|Help me with my {n}.
Teach me {t}.|Teach me how to {v}.|Imagine you are a {n}.|Pretend to be {p}.|Act as a {n}.|Let us talk about {t}.|Let's play a game.|Guess my {n}.
Fix this code for my {n}.|Solve this equation: {y}x = {y}.|Solve the {n} problem.|Order a {n} for me.|Book a {n} in {c}.|Call {p}.|Remind me to {v} the {n}.
Buy me a {n}.|Turn on the {n}.|Open the {n}.|Set a timer for {y} minutes.|Search for {t}.|Continue the story of the {n}.|Finish this sentence: the {n} is
I want a {n}.|I want to {v} a {n}.|I need help with {t}.|I need a {j} {n}.|I like {n}s.|I hate {n}s.|I am {j}.|I feel {j} today.|I think the {n} is {j}.|I lost my {n}.
I have a {n}. What should I do?|I live in {c}.|I am learning about {t}.|I bought a {j} {n} in {k}. Is it good?|My {n} is {j}.|My {n} does not {v}.|My name is {p}.
My {n} hurts.|My {n} and my {m} are {j}.|You are a {n}.|You are wrong.|You should {v} a {n}.|That is {j}.|This {n} is {j}.|We need to {v} the {n}.
The {n} is {j}.|The {n} in {c} is {j}, is it not?|The {j} {n}|{n}|{n} and {m}|{j} {n}|{t}|{p}|{n}?|{t}?|About {t}|More about {n}s|{n} in {k}
Rhyme with {n}.|What rhymes with {n}?|A synonym of {n}?|What is another word for {n}?|What is the plural of {n}?|Use {n} in a sentence.|What part of speech is {n}?
Is {n} a verb or a noun?|How do you say {n} in Spanish?|How do you pronounce {n}?|What is the past tense of {v}?|What language is the word {n} from?
What is {k}?|What is {k} famous for?|Is {k} in {c}?|How big is {k}?|Tell me about {k}.|What should I see in {k}?|Which river flows through {k}?|What food do they eat in {k}?
Why is {w} called {w}?|How do I feed a {w}?|What color is a {w}?|How much is a {w}?|Who invented the {w}?|Tell me a story about a {w}.|Can I eat a {w}?|Where is my {w}?
Do you like {w}?|Is a {w} a {n}?|What is the best {w}?|Draw a {w}.|Write about a {w}.|How many {w}s are there?|Why is the {w} {j}?|What is the {w} made of?
Why is Monday {j}?|What do people do in July?|Who named Tuesday?|Is Friday a {n}?|What happened on Sunday?|Is it cold in January in {k}?|Are we open on Saturday?
Why do we count?|Why is {y} {j}?|Is {y} bigger than {y}?|What comes after {y}?|Count to {y}.|Round {y} to the nearest ten.|Is {y} even or odd?|Sort {y}, {y} and {y}.
What is the average of {y} and {y}?|What is the next number: {y}, {y}, {y}?|Convert {y} to binary.|What is {y} in Roman numerals?|How do I add {n}s?|What is x if x + {y} = {y}?
"""
SHAPES = [shape.strip() for line in SHAPES.strip().splitlines() for shape in line.split("|")]

SENTENCES_ELSEWHERE = """
Quelle est la capitale de la France?|Comment ca va?|Je ne sais pas.|Bonjour, je voudrais un cafe.|Qui est le roi?|Combien font deux et deux?
Was ist die Hauptstadt von Spanien?|Wie geht es dir?|Ich habe einen Hund.|Wo ist der Bahnhof?|Guten Tag|Was kostet das Brot?|Warum ist das so?
Como estas?|Donde esta la biblioteca?|Cual es tu nombre?|Tengo mucha hambre.|Que hora es?|Cuanto es tres por cuatro?|Buenos dias
Come stai?|Dove si trova il museo?|Buongiorno a tutti|Quanto costa una pizza?|Mi piace il gelato.|Che cosa fai domani?
Como vai voce?|Onde fica a praia?|Obrigado pela ajuda|Eu gosto de futebol.|Hoe gaat het met je?|Waar woon je?|Ik spreek geen Engels.
Hvor er du?|Vad heter du?|Missa olet?|Jak se mas?|Gdzie jest dworzec?|Nerede oturuyorsun?|Kde je nadrazi?|Cogito ergo sum|Carpe diem
""".strip().replace("\n", "|").split("|")
CODE = """
def {n}({m}):|import {n}|print("{n}")|for {n} in range({y}):|SELECT * FROM {n}s;|<div>{n}</div>|int main() {{ return {y}; }}|{n} = [{y}, {y}]
console.log("{n}")|git commit -m "{n}"|sudo apt install {n}|if ({n} == {y}) {{ {v}(); }}|Write a Python function that can {v} a {n}.|Debug this: {n}.{v}()
Write a program that counts {n}s.|How do I {v} a list in Java?|What does {n}.{v}() return?|Write a regular expression for a {n}.|{{"{n}": {y}}}|curl http://{n}.com/{m}
Write SQL to {v} all {n}s.|Explain this code: {n} += {y}|#include <{n}.h>|fn {v}({n}: i32) -> i32|class {n}:|while True: {v}({n})|let {n} = {y};|rm -rf {n}
""".strip().replace("\n", "|").split("|")

SYLLABLES = [c + v + e for c in ["b", "bl", "c", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "qu", "r",
             "s", "sk", "t", "tr", "v", "w", "z"] for v in "aeiou" for e in ["", "", "n", "r", "x", "sh", "m", "ck", "lt"]]
LONG_WORDS = """
encyclopedia refrigerator necessary rhythm pharmacy accommodation conscience embarrass psychology bureaucracy entrepreneur
restaurant mississippi chrysanthemum questionnaire parliament thoroughly hippopotamus archaeology mischievous dictionary
""".split()


def made_up_word(rng: random.Random) -> str:
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.choice([1, 2, 2, 3])))


def _known_words() -> set[str]:
    return set(facts.OPPOSITES) | set(facts.DEFINITIONS) | set(facts.SPELLED_WORDS)


KNOWN_WORDS = _known_words()
KNOWN_LIST = sorted(facts.DEFINITIONS)
COUNTRIES = list(facts.CAPITALS)
CITIES = set(facts.CAPITALS.values())


def unknown_word(rng: random.Random) -> str:
    """A word that no taught topic covers: real, long or made up."""
    while True:
        kind = rng.random()
        pool = NOUNS if kind < 0.45 else ADJECTIVES + VERBS if kind < 0.55 else LONG_WORDS
        word = rng.choice(pool) if kind < 0.62 else made_up_word(rng)
        if word not in KNOWN_WORDS:
            return word


def large_number(rng: random.Random) -> int:
    """At least 100: beyond the operands that are taught."""
    return rng.randrange(100, 10 ** rng.choice([3, 3, 3, 4, 5, 7]))


def _noun(rng: random.Random) -> str:
    return rng.choice(NOUNS) if rng.random() < 0.8 else made_up_word(rng)


def _fill(rng: random.Random, shape: str) -> str:
    number = rng.randrange(3000) if rng.random() < 0.5 else rng.randrange(100)
    text = shape
    while "{y}" in text:
        text = text.replace("{y}", str(number), 1)
        number = rng.randrange(200)
    person = rng.choice(PEOPLE) if rng.random() < 0.7 else made_up_word(rng).capitalize()
    place = rng.choice(PLACES) if rng.random() < 0.7 else made_up_word(rng).capitalize()
    topic = rng.choice(TOPICS) if rng.random() < 0.6 else rng.choice(NOUNS)
    return text.format(n=_noun(rng), m=_noun(rng), t=topic, j=rng.choice(ADJECTIVES), v=rng.choice(VERBS),
                       d=rng.choice(PAST), p=person, c=place, k=rng.choice(COUNTRIES), w=rng.choice(KNOWN_LIST))


def hand_written(rng: random.Random) -> str:
    text = _fill(rng, rng.choice(SHAPES))
    kind = rng.random()
    if kind < 0.07:
        text = rng.choice(["Please ", "Hey, ", "Hello, ", "I wonder: ", "Quick question: ", "So, "]) + text[0].lower() + text[1:]
    elif kind < 0.12:
        text += " " + _fill(rng, rng.choice(SHAPES))
    return text[0].upper() + text[1:]


def from_grammar(rng: random.Random) -> str:
    """A random sentence: openers, then phrases, so that nearly every shape is seen once only."""
    def noun_phrase() -> str:
        start = rng.choice(["the", "a", "my", "your", "this", "our", "every", "some", "that", "all the", "no", "their"])
        middle = f" {rng.choice(ADJECTIVES)}" if rng.random() < 0.4 else ""
        noun = rng.choice(KNOWN_LIST) if rng.random() < 0.2 else _noun(rng)
        return f"{start}{middle} {noun}"

    opener = rng.choice([
        "what", "who", "why does", "how can", "when did", "where will", "is", "are", "does", "can", "should", "could",
        "tell me if", "explain how", "I think", "maybe", "if", "because", "which of", "do you know why", "what if",
        "give", "write", "show", "name", "let", "please", "do not", "would", "how much of", "how many of", "since when",
        "what about", "in what way does", "for whom did", "how often does", "how well does", "what sort of", "wow,"])
    words = [opener, noun_phrase(), rng.choice(VERBS)]
    for _ in range(rng.choice([0, 1, 1, 2])):
        words.append(rng.choice(["in", "on", "with", "for", "under", "and", "or", "about", "than", "without", "near", "to",
                                 "from", "of", "like", "after", "before", "during", "between", "against"]))
        words.append(rng.choice([noun_phrase, lambda: rng.choice(PLACES), lambda: rng.choice(TOPICS),
                                 lambda: rng.choice(COUNTRIES), lambda: str(rng.randrange(2100))])())
    text = " ".join(words) + rng.choice(["?", "?", ".", "", "!"])
    return text[0].upper() + text[1:]


def arithmetic(rng: random.Random) -> str:
    """Sums that are not taught: large operands, other operators, three operands, fractions, powers."""
    small, other, third, large = rng.randrange(100), rng.randrange(100), rng.randrange(100), large_number(rng)
    plain = rng.choice(["What is {}?", "{}", "{} = ?", "Calculate {}.", "How much is {}?", "Compute {}.", "Solve {}", "{} equals?"])
    signs = rng.choice(["+", "-", "*", "+", "-", "plus", "minus", "times"])
    left, right = rng.choice([(large, small), (small, large), (large, large_number(rng))])
    factor = rng.randrange(13, 100)
    shapes = [
        f"{left} {signs} {right}", f"{left}{rng.choice('+-*')}{right}", f"{left} {signs} {right}",
        f"{small} / {other}", f"{small} divided by {other}", f"{large} / {small}", f"{small} % {other}",
        f"{small} + {other} + {third}", f"{small} - {other} - {third}", f"{small} {signs} {other} {rng.choice('+-*/')} {third}",
        f"({small} + {other}) * {third}", f"{small}^{rng.randrange(2, 9)}", f"{small} ** {other % 9}", f"{small} squared",
        f"{small} to the power of {other % 10}", f"{small}.{other} {rng.choice('+-*/')} {third}", f"{small}.{other} + {third}.{small}",
        f"{factor} * {other}", f"{other} * {factor}", f"{factor} times {other}", f"{other} times {factor}",
        f"{other % 9 + 1}/{small % 9 + 1} + 1/{third % 9 + 1}", f"half of {small}", f"a third of {small}", f"the square root of {large}",
        f"{small}!", f"log {large}", f"sin({small})", f"{small} modulo {other}", f"twice {small}", f"{large} squared",
    ]
    worded = [
        f"Divide {small} by {other}.", f"Add {large} and {small}.", f"Add {small}, {other} and {third}.", f"Subtract {small} from {large}.",
        f"Multiply {factor} by {other}.", f"Multiply {large} by {small}.", f"What is the sum of {left} and {right}?",
        f"What is the product of {factor} and {other}?", f"What is the difference of {left} and {right}?", f"Take {small} away from {large}.",
        f"I have {large} and get {small} more. How many do I have?", f"What is {small} divided by {other}?", f"What is {small} of {other}?",
    ]
    return plain.format(rng.choice(shapes)) if rng.random() < 0.7 else rng.choice(worded)


def near_geography(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.55:
        place = rng.choice(PLACES)
    elif kind < 0.85:
        place = made_up_word(rng).capitalize()
    else:
        place = f"the {_noun(rng)}"
    if kind > 0.9 and rng.random() < 0.5:
        country = rng.choice(COUNTRIES)
        return rng.choice(["What was the capital of {} in 1850?", "What is the second city of {}?", "Is there a capital in {}?",
                           "What is the capital of {}'s neighbor?", "How far is the capital of {}?"]).format(country)
    shapes = ["What is the capital of {}?", "Name the capital of {}.", "Tell me the capital of {}.", "Which city is the capital of {}?",
              "Capital of {}?", "Do you know the capital of {}?", "What city is the capital city of {}?", "What's the capital of {}?"]
    reverse = ["{} is the capital of which country?", "Which country has the capital {}?", "What country is {} the capital of?",
               "Name the country whose capital is {}."]
    if rng.random() < 0.25 and place not in CITIES:
        return rng.choice(reverse).format(place)
    return rng.choice(shapes).format(place)


def near_words(rng: random.Random) -> str:
    """Opposite, spelling, letters and definition of words that are not taught."""
    word = unknown_word(rng)
    article = "an" if word[0] in "aeiou" else "a"
    return rng.choice([
        "What is the opposite of {w}?", "Give me the opposite of {w}.", "Opposite of {w}?", "Which word is the opposite of {w}?",
        "Name the opposite of the word {w}.", "What word means the opposite of {w}?", "Tell me the opposite of {w}.",
        "Spell {w}.", "How do you spell {w}?", "Spell the word {w}.", "Can you spell {w}?", "Please spell {w} for me.",
        "How many letters are in {w}?", "How many letters does {w} have?", "Count the letters in {w}.",
        "What is the number of letters in {w}?", "Tell me how many letters are in the word {w}.",
        "What is {a} {w}?", "What is {a} {w}?", "What is {w}?", "Define {w}.", "Define the word {w}.", "What does {w} mean?", "What does the word {w} mean?",
        "Explain what {a} {w} is.", "Tell me what {a} {w} is.", "Give me a short definition of {w}.", "Spell {w} backwards.",
    ]).format(w=word, a=article)


def near_units(rng: random.Random) -> str:
    """Units, days and months asked for what is not taught."""
    unit = rng.choice(["miles", "feet", "inches", "pounds", "ounces", "liters", "gallons", "yards", "acres", "volts", "watts", "degrees",
                       "years", "dollars", "euros", "bytes", "cups", "meters", "minutes", "grams", "hours", "days", "seconds", made_up_word(rng)])
    odd = rng.choice(["miles", "feet", "inches", "pounds", "ounces", "liters", "gallons", "Celsius", "Kelvin", "yen", "megabytes", "spoons",
                      "decades", "light years", _noun(rng) + "s"])
    n = rng.choice([rng.randrange(1, 100), large_number(rng)])
    thing = rng.choice([_noun(rng), made_up_word(rng), "Christmas", "Easter", "tomorrow", "yesterday", "the year", "a decade", "spring",
                        rng.choice(PLACES), rng.choice(PEOPLE)])
    return rng.choice([
        f"How many {odd} are in {n} {unit}?", f"Convert {n} {unit} to {odd}.", f"What is {n} {unit} in {odd}?", f"How many {odd} is {n} {unit}?",
        f"{n} {unit} in {odd}?", f"Change {n} {unit} into {odd}.", f"Which day comes after {thing}?", f"What month comes before {thing}?",
        f"What day comes before {thing}?", f"How many days are in {thing}?", f"How many days until {thing}?", f"How many weeks are in {thing}?",
        f"What is the {rng.choice(['thirteenth', 'twentieth', 'last', 'best', 'zeroth', 'hundredth'])} month of the year?",
        f"What is the {rng.choice(facts.ORDINALS)} {rng.choice(['day', 'letter', 'planet', 'president', 'book', _noun(rng)])}?",
        f"What date is {rng.choice(facts.DAYS)}?", f"What is the weather like in {rng.choice(facts.MONTHS)}?",
        f"What day is {rng.choice(facts.MONTHS)} {n % 31 + 1}?", f"How many {odd} does {rng.choice(facts.MONTHS)} have?",
    ])


def junk(rng: random.Random) -> str:
    """Gibberish, code, other languages, loose words and punctuation."""
    kind = rng.random()
    if kind < 0.25:
        return _fill(rng, rng.choice(CODE))
    if kind < 0.45:
        return rng.choice(SENTENCES_ELSEWHERE)
    if kind < 0.6:
        return " ".join("".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 9))) for _ in range(rng.randint(1, 4)))
    if kind < 0.75:
        return " ".join(made_up_word(rng) for _ in range(rng.randint(1, 7))) + rng.choice(["", "?", "."])
    if kind < 0.9:
        pool = NOUNS + VERBS + ADJECTIVES + KNOWN_LIST + facts.MONTHS + COUNTRIES
        return " ".join(rng.choice(pool) for _ in range(rng.randint(2, 6))) + rng.choice(["", "?", "."])
    return "".join(rng.choice("?!.,;:#@$%&*()[]<>0123456789 abcxyz") for _ in range(rng.randint(1, 16))).strip() or "?"


KINDS = [(hand_written, 0.36), (from_grammar, 0.17), (arithmetic, 0.15), (near_geography, 0.07), (near_words, 0.11),
         (near_units, 0.06), (junk, 0.08)]


def question(rng: random.Random) -> str:
    """One question whose right answer is a refusal."""
    return rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0](rng)
