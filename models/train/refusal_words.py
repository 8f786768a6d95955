"""Words and question shapes for the refusals: what fills them, not how they are mixed (refusals.py)."""

import facts


def entries(text: str) -> list[str]:
    """Entries separated by `|` or line ends."""
    return text.strip().replace("\n", "|").split("|")


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
TOPICS = entries("""
world war two|climate change|quantum physics|the stock market|time travel|modern art|black holes|human rights
artificial intelligence|the roman empire|machine learning|video games|healthy food|classical music|the bible
online shopping|space travel|organic farming|the french revolution|global warming|public transport|sports cars
mental health|street food|social media|the middle ages|nuclear power|wild animals|good manners|folk tales|love
politics|money|sleep|fashion|happiness|history|biology|geography|grammar|poetry|mathematics|justice|freedom
""")
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
PEOPLE = entries("""
the president|the prime minister|my neighbor|Napoleon|Shakespeare|Einstein|Cleopatra|Mozart|a famous actor|my boss
Julius Caesar|Queen Victoria|Leonardo|Picasso|Galileo|Newton|Beethoven|Columbus|the queen of England|my grandmother
Gandhi|Darwin|Marie Curie|Lincoln|the mayor|Alice|Bob|Maria|John|Peter|my sister|the teacher|Plato|Aristotle|Homer
""")
# Places that have no capital in facts.py: made up, cities, regions, or left out there.
PLACES = entries("""
Atlantis|Narnia|Mordor|Wakanda|Gotham|Utopia|Mars|Jupiter|the moon|Europe|Africa|Asia|Antarctica|the ocean|Texas
California|Florida|Bavaria|Tuscany|Siberia|Alaska|Hawaii|Scotland|Wales|Catalonia|Quebec|Ontario|Bolivia|Israel
South Africa|Sicily|Normandy|Brittany|Greenland|Tibet|Kosovo|Taiwan|Barcelona|Milan|Munich|New York|Chicago|Sydney
Mumbai|Shanghai|Middle Earth|the world|the universe|heaven|Krypton|Oz|Elbonia|Freedonia|Zamunda|my town|Elsewhere
Hamburg|Lyon|Naples|Venice|Kansas|Ohio|Virginia|Punjab|Bali|Crete|Corsica|Sardinia|Patagonia|Amazonia|Eurasia
""")

# Slots: n noun, m another noun, t topic, j adjective, v verb, d past verb, p person, c place, k country, y a number,
# w a word the model knows in other questions. Every entry is outside the domain whatever the slots hold.
SHAPES = entries("""
Write a poem about {t}.|Write a short story about a {n}.|Write an essay on {t}.|Write a letter to {p}.
Write a song about {n}s.|Compose an email about the {n}.|Draft a speech on {t}.|Make up a joke about a {n}.
Tell me a joke about {p}.|Tell me a story.|Tell me a fun fact about {n}s.|Tell me something about {t}.
Tell me about {p}.|Tell me about the {n} in {c}.|Tell me why {n}s are {j}.|Who invented the {n}?|Who {d} the {n}?
Who was the first to {v} a {n}?|Who is {p}?|Who is the richest {n} in {c}?|Who was {p}?|Who wrote the book about {t}?
Who won the {n} prize in {y}?|Who is the president of {k}?|Who is the king of {c}?|Who do you work for?
Who painted the {j} {n}?|Who discovered {t}?|Who lives in {c}?|Whose {n} is this?|Who are the members of the {n}?
When was the {n} invented?|When did {p} die?|When was {p} born?|When did the war in {k} end?|When does the {n} open?
When will it rain in {c}?|When did people first {v} {n}s?|When is the best time to {v} a {n}?|When is the next {n}?
What year did {p} visit {c}?|Where is {c}?|Where is {k}?|Where can I buy a {n}?|Where can I find a {j} {n}?
Where do {n}s live?|Where does {n} come from?|Where was {p} born?|Where did I put my {n}?|Where are you from?
Where should I {v} my {n}?|Where is the nearest {n}?|Why is the {n} {j}?|Why is the sky {j}?|Why do {n}s {v}?
Why does the {n} need a {m}?|Why did {p} go to {c}?|Why are {n}s so {j}?|Why is {t} important?|Why should I {v} a {n}?
Why do we have {t}?|Why can a {n} not {v}?|How do I {v} a {n}?|How do you {v} the {n}?|How can I {v} a {j} {n}?
How does a {n} work?|How does {t} work?|How is a {n} made?|How old is the {n}?|How old is {p}?|How tall is the {n}?
How tall is {p}?|How far is {c} from {k}?|How much does a {n} cost?|How much does a {n} weigh?|How long is a {n}?
How long does it take to {v} a {n}?|How many {n}s are in {c}?|How many {n}s does {p} have?
How many people live in {k}?|How many legs does a {n} have?|How many {n}s are in a {m}?|How big is the {n}?
How fast is a {n}?|How fast can a {n} run?|How deep is the {n}?|How hot is a {n}?|How often should I {v} my {n}?
How did {p} {v} the {n}?|How should I {v} {t}?|How would you {v} a {n}?|How come the {n} is {j}?|How important is {t}?
What is {t}?|What is a {n}?|What is the {n}?|What is the best {n}?|What is your favorite {n}?
What is the history of the {n}?|What is the meaning of {t}?|What is the color of a {n}?|What is the population of {k}?
What is the currency of {k}?|What is the language of {k}?|What is the largest {n} in {k}?|What is the longest {n}?
What is the name of the {n}?|What is the price of a {n}?|What is the difference between a {n} and a {m}?
What is the purpose of a {n}?|What is the weather in {c}?|What is the temperature of the {n}?
What is the formula of {n}?|What is inside a {n}?|What is the recipe for {n}?|What is the square root of {y}?
What is {y} percent of {y}?|What is the value of pi?|What is the time in {c}?|What time is it?|What day is it today?
What is the date today?|What year is it?|What happened in {y}?|What happened to {p}?|What happens if I {v} a {n}?
What causes a {n}?|What color is the {n}?|What color is a {j} {n}?|What do {n}s eat?|What do you think about {t}?
What did {p} {v}?|What does a {n} look like?|What does a {n} eat?|What does {p} do?|What are {n}s made of?
What are the rules of {n}?|What are you doing?|What kind of {n} is {j}?|What kind of {n} do you like?
What makes a {n} {j}?|What movie should I {v}?|What language do they speak in {k}?|What should I {v}?
What should I cook with {n}?|What was the name of {p}?|What would happen without {t}?|What will the {n} be tomorrow?
What else can you {v}?|What can I do with a {n}?|What sound does a {n} make?|What size is the {n}?|What's a {n}?
What's your {n}?|Which {n} is the best?|Which {n} is {j}?|Which is better, a {n} or a {m}?|Which {n} should I {v}?
Which country makes the best {n}?|Which team won the {n}?|Which planet is the biggest?|Which animal is the {j}?
Which came first, the {n} or the {m}?|Which language has the most words?|Is the {n} {j}?|Is {p} {j}?
Is it {j} to {v} a {n}?|Is {t} real?|Is {k} bigger than {c}?|Is a {n} heavier than a {m}?|Is there a {n} in {c}?
Is {y} a prime number?|Are {n}s {j}?|Are you {j}?|Are there {n}s in {k}?|Are you a {n}?|Was {p} {j}?
Were there {n}s in {y}?|Do you like {n}s?|Do you have a {n}?|Do you believe in {t}?|Do {n}s {v}?
Do I need a {n} to {v} a {m}?|Do you remember {p}?|Do you want a {n}?|Does a {n} {v}?|Does {p} like {t}?
Does the {n} have a {m}?|Did {p} {v} a {n}?|Did you {v} the {n}?|Have you seen my {n}?|Has {p} been in {c}?
Can you {v} a {n}?|Can I {v} a {n} in {k}?|Can a {n} {v} a {m}?|Can you help me with {t}?|Could you {v} this {n}?
Could {p} {v}?|Should I {v} my {n}?|Should {t} be allowed?|Will it {v} tomorrow?|Will {p} win?|Would you {v} a {n}?
May I have a {n}?|Must I {v} it?|Explain {t} to me.|Explain how a {n} works.|Explain why the {n} is {j}.
Describe a {j} {n}.|Describe {p}.|Describe the {n} of {c}.|Give me a recipe for {n}.|Give me three examples of {t}.
Give me advice about {t}.|Give me a list of {n}s.|Give me the name of a {n}.|Give me an idea for a {n}.
List the {n}s of {c}.|List {y} {n}s.|Name three {n}s.|Name a {j} {n}.|Name the author of {t}.
Name the biggest {n} in {k}.|Compare a {n} and a {m}.|Compare {k} with {c}.|Summarize {t}.
Summarize this text: the {n} is {j}.|Translate {n} into French.|Translate the {j} {n} into German.|Draw a {n}.
Draw me a picture of {t}.|Play a {n} song.|Play some music.|Sing a song.|Show me a {n}.|Show me how to {v} a {n}.
Show me {c} on a map.|Find a {n} near me.|Find me a {j} {n}.|Recommend a {n}.|Recommend a book about {t}.
Suggest a name for my {n}.|Help me {v} a {n}.|Help me with my {n}.|Teach me {t}.|Teach me how to {v}.
Imagine you are a {n}.|Pretend to be {p}.|Act as a {n}.|Let us talk about {t}.|Let's play a game.|Guess my {n}.
Fix this code for my {n}.|Solve this equation: {y}x = {y}.|Solve the {n} problem.|Order a {n} for me.
Book a {n} in {c}.|Call {p}.|Remind me to {v} the {n}.|Buy me a {n}.|Turn on the {n}.|Open the {n}.
Set a timer for {y} minutes.|Search for {t}.|Continue the story of the {n}.|Finish this sentence: the {n} is
I want a {n}.|I want to {v} a {n}.|I need help with {t}.|I need a {j} {n}.|I like {n}s.|I hate {n}s.|I am {j}.
I feel {j} today.|I think the {n} is {j}.|I lost my {n}.|I have a {n}. What should I do?|I live in {c}.
I am learning about {t}.|I bought a {j} {n} in {k}. Is it good?|My {n} is {j}.|My {n} does not {v}.|My name is {p}.
My {n} hurts.|My {n} and my {m} are {j}.|You are a {n}.|You are wrong.|You should {v} a {n}.|That is {j}.
This {n} is {j}.|We need to {v} the {n}.|The {n} is {j}.|The {n} in {c} is {j}, is it not?|The {j} {n}|{n}|{n} and {m}
{j} {n}|{t}|{p}|{n}?|{t}?|About {t}|More about {n}s|{n} in {k}|Rhyme with {n}.|What rhymes with {n}?|A synonym of {n}?
What is another word for {n}?|What is the plural of {n}?|Use {n} in a sentence.|What part of speech is {n}?
Is {n} a verb or a noun?|How do you say {n} in Spanish?|How do you pronounce {n}?|What is the past tense of {v}?
What language is the word {n} from?|What is {k}?|What is {k} famous for?|Is {k} in {c}?|How big is {k}?
Tell me about {k}.|What should I see in {k}?|Which river flows through {k}?|What food do they eat in {k}?
Why is {w} called {w}?|How do I feed a {w}?|What color is a {w}?|How much is a {w}?|Who invented the {w}?
Tell me a story about a {w}.|Can I eat a {w}?|Where is my {w}?|Do you like {w}?|Is a {w} a {n}?|What is the best {w}?
Draw a {w}.|Write about a {w}.|How many {w}s are there?|Why is the {w} {j}?|What is the {w} made of?
Why is Monday {j}?|What do people do in July?|Who named Tuesday?|Is Friday a {n}?|What happened on Sunday?
Is it cold in January in {k}?|Are we open on Saturday?|Why do we count?|Why is {y} {j}?|Is {y} bigger than {y}?
What comes after {y}?|Count to {y}.|Round {y} to the nearest ten.|Is {y} even or odd?|Sort {y}, {y} and {y}.
What is the average of {y} and {y}?|What is the next number: {y}, {y}, {y}?|Convert {y} to binary.
What is {y} in Roman numerals?|How do I add {n}s?|What is x if x + {y} = {y}?
""")

SENTENCES_ELSEWHERE = entries("""
Quelle est la capitale de la France?|Comment ca va?|Je ne sais pas.|Bonjour, je voudrais un cafe.|Qui est le roi?
Combien font deux et deux?|Was ist die Hauptstadt von Spanien?|Wie geht es dir?|Ich habe einen Hund.
Wo ist der Bahnhof?|Guten Tag|Was kostet das Brot?|Warum ist das so?|Como estas?|Donde esta la biblioteca?
Cual es tu nombre?|Tengo mucha hambre.|Que hora es?|Cuanto es tres por cuatro?|Buenos dias|Come stai?
Dove si trova il museo?|Buongiorno a tutti|Quanto costa una pizza?|Mi piace il gelato.|Che cosa fai domani?
Como vai voce?|Onde fica a praia?|Obrigado pela ajuda|Eu gosto de futebol.|Hoe gaat het met je?|Waar woon je?
Ik spreek geen Engels.|Hvor er du?|Vad heter du?|Missa olet?|Jak se mas?|Gdzie jest dworzec?|Nerede oturuyorsun?
Kde je nadrazi?|Cogito ergo sum|Carpe diem
""")
CODE = entries("""
def {n}({m}):|import {n}|print("{n}")|for {n} in range({y}):|SELECT * FROM {n}s;|<div>{n}</div>
int main() {{ return {y}; }}|{n} = [{y}, {y}]|console.log("{n}")|git commit -m "{n}"|sudo apt install {n}
if ({n} == {y}) {{ {v}(); }}|Write a Python function that can {v} a {n}.|Debug this: {n}.{v}()
Write a program that counts {n}s.|How do I {v} a list in Java?|What does {n}.{v}() return?
Write a regular expression for a {n}.|{{"{n}": {y}}}|curl http://{n}.com/{m}|Write SQL to {v} all {n}s.
Explain this code: {n} += {y}|#include <{n}.h>|fn {v}({n}: i32) -> i32|class {n}:|while True: {v}({n})|let {n} = {y};
rm -rf {n}
""")

ONSETS = "b bl c d dr f g gr h j k l m n p pl qu r s sk t tr v w z".split()
CODAS = ["", "", "n", "r", "x", "sh", "m", "ck", "lt"]
SYLLABLES = [onset + vowel + coda for onset in ONSETS for vowel in "aeiou" for coda in CODAS]
LONG_WORDS = """
encyclopedia refrigerator necessary rhythm pharmacy accommodation conscience embarrass psychology bureaucracy
entrepreneur restaurant mississippi chrysanthemum questionnaire parliament thoroughly hippopotamus archaeology
mischievous dictionary
""".split()

# For the grammar of random sentences.
OPENERS = entries("""
what|who|why does|how can|when did|where will|is|are|does|can|should|could|tell me if|explain how|I think|maybe|if
because
which of|do you know why|what if|give|write|show|name|let|please|do not|would|how much of|how many of|since when
what about
in what way does|for whom did|how often does|how well does|what sort of|wow,
""")
DETERMINERS = entries("the|a|my|your|this|our|every|some|that|all the|no|their")
PREPOSITIONS = """
in on with for under and or about than without near to from of like after before during between against
""".split()

LEAD_INS = ["Please ", "Hey, ", "Hello, ", "I wonder: ", "Quick question: ", "So, "]
CHARACTERS = "?!.,;:#@$%&*()[]<>0123456789 abcxyz"
