"""The closed world that the small model is taught: every fact it may state.

Not here: how questions are phrased (questions.py) and what must be refused
(refusals.py). All facts are common knowledge, written down by hand.
"""

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August " "September October November December").split()
DAYS_IN_MONTH = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
ORDINALS = ("first second third fourth fifth sixth seventh eighth " "ninth tenth eleventh twelfth").split()


def _pairs(text: str) -> list[tuple[str, str]]:
    """Reads `key:value` entries separated by `|` or line ends."""
    entries = [entry.strip() for line in text.strip().splitlines() for entry in line.split("|")]
    return [tuple(entry.split(":")) for entry in entries if entry]


# Countries whose capital is beyond dispute; names with "the" keep it, as in a sentence.
CAPITALS = dict(_pairs("""
France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|Austria:Vienna|Belgium:Brussels
Denmark:Copenhagen|Sweden:Stockholm|Norway:Oslo|Finland:Helsinki|Iceland:Reykjavik|Ireland:Dublin
Poland:Warsaw|Hungary:Budapest|Romania:Bucharest|Bulgaria:Sofia|Greece:Athens|Turkey:Ankara
Russia:Moscow|Ukraine:Kyiv|Belarus:Minsk|Lithuania:Vilnius|Latvia:Riga|Estonia:Tallinn|Croatia:Zagreb
Serbia:Belgrade|Slovenia:Ljubljana|Slovakia:Bratislava|Albania:Tirana|Switzerland:Bern|Malta:Valletta
Cyprus:Nicosia|the Netherlands:Amsterdam|the United Kingdom:London|Czechia:Prague
the United States:Washington|Canada:Ottawa|Mexico:Mexico City|Cuba:Havana|Jamaica:Kingston
Panama:Panama City|Costa Rica:San Jose|Nicaragua:Managua|Honduras:Tegucigalpa|Haiti:Port-au-Prince
Colombia:Bogota|Venezuela:Caracas|Ecuador:Quito|Peru:Lima|Chile:Santiago|Argentina:Buenos Aires
Uruguay:Montevideo|Paraguay:Asuncion|Brazil:Brasilia
Egypt:Cairo|Morocco:Rabat|Algeria:Algiers|Tunisia:Tunis|Libya:Tripoli|Sudan:Khartoum
Ethiopia:Addis Ababa|Kenya:Nairobi|Uganda:Kampala|Rwanda:Kigali|Ghana:Accra|Nigeria:Abuja
Senegal:Dakar|Mali:Bamako|Angola:Luanda|Zambia:Lusaka|Zimbabwe:Harare|Namibia:Windhoek
Botswana:Gaborone|Mozambique:Maputo|Madagascar:Antananarivo|Somalia:Mogadishu
Japan:Tokyo|China:Beijing|South Korea:Seoul|North Korea:Pyongyang|India:New Delhi|Pakistan:Islamabad
Nepal:Kathmandu|Bangladesh:Dhaka|Thailand:Bangkok|Vietnam:Hanoi|Laos:Vientiane|Cambodia:Phnom Penh
Malaysia:Kuala Lumpur|Indonesia:Jakarta|the Philippines:Manila|Mongolia:Ulaanbaatar
Iran:Tehran|Iraq:Baghdad|Syria:Damascus|Lebanon:Beirut|Jordan:Amman|Saudi Arabia:Riyadh|Yemen:Sanaa
Oman:Muscat|Qatar:Doha|Afghanistan:Kabul|Uzbekistan:Tashkent|Georgia:Tbilisi|Armenia:Yerevan
Azerbaijan:Baku|Australia:Canberra|New Zealand:Wellington|Fiji:Suva
"""))

# Taught in both directions, except where the second word already has another opposite.
OPPOSITE_PAIRS = _pairs("""
hot:cold|big:small|fast:slow|high:low|open:closed|full:empty|light:dark|hard:soft|wet:dry|happy:sad
young:old|rich:poor|strong:weak|loud:quiet|clean:dirty|early:late|easy:difficult|cheap:expensive
thick:thin|wide:narrow|long:short|deep:shallow|heavy:light|sharp:blunt|smooth:rough|sweet:bitter
near:far|left:right|up:down|in:out|on:off|yes:no|true:false|good:bad|wrong:right|first:last|more:less
many:few|always:never|all:none|before:after|above:below|inside:outside|day:night|summer:winter
north:south|east:west|morning:evening|love:hate|friend:enemy|war:peace|win:lose|buy:sell|give:take
push:pull|start:stop|begin:end|come:go|laugh:cry|ask:answer|teach:learn|rise:fall|arrive:leave
remember:forget|find:hide|build:destroy|add:subtract|multiply:divide|accept:refuse|succeed:fail
increase:decrease|attack:defend|save:spend|sleep:wake|live:die|sit:stand|throw:catch|lend:borrow
brave:cowardly|kind:cruel|polite:rude|honest:dishonest|lucky:unlucky|possible:impossible
safe:dangerous|simple:complex|public:private|modern:ancient|real:fake|alive:dead|asleep:awake
calm:nervous|generous:selfish|guilty:innocent|tight:loose|raw:cooked|straight:curved|front:back
top:bottom|king:queen|husband:wife|new:old|tall:short
""")


def _opposites() -> dict[str, str]:
    known: dict[str, str] = {}
    for word, other in OPPOSITE_PAIRS:
        known.setdefault(word, other)
        known.setdefault(other, word)
    return known


OPPOSITES = _opposites()

DEFINITIONS = dict(_pairs("""
cat:a small animal that people keep as a pet|dog:an animal that barks and guards the house
bird:an animal with feathers and wings|fish:an animal that lives in water
horse:a large animal that people ride|cow:a farm animal that gives milk|bee:an insect that makes honey
tree:a tall plant with a trunk and leaves|flower:the colorful part of a plant
river:a long stream of water that flows to the sea|mountain:a very high piece of land
island:land with water all around it|desert:a dry place with little rain
forest:a large area full of trees|lake:a large body of water inside land
star:a ball of hot gas that shines in the sky|moon:the body that goes around the earth
planet:a large body that goes around a star|cloud:a mass of tiny water drops in the sky
storm:bad weather with strong wind and rain|house:a building where people live
school:a place where children learn|hospital:a place where sick people get help
library:a place where people borrow books|kitchen:a room where people cook food
bridge:a road built over a river|car:a road vehicle with four wheels|train:a vehicle that runs on rails
boat:a vehicle that moves on water|plane:a vehicle that flies in the air
bicycle:a vehicle with two wheels and pedals|book:a set of printed pages to read
pen:a tool for writing with ink|knife:a tool for cutting things|hammer:a tool for hitting nails
clock:a device that shows the time|computer:a machine that works with data
phone:a device for talking to people far away|lamp:a device that gives light
chair:a piece of furniture to sit on|table:a piece of furniture with a flat top
bed:a piece of furniture to sleep on|hat:a thing that people wear on the head
shoe:a thing that people wear on the foot|doctor:a person who helps sick people
teacher:a person who helps people learn|farmer:a person who grows food
baker:a person who makes bread|pilot:a person who flies planes|king:a man who rules a country
"""))

# Words it can spell and count letters in: a closed list, learned by heart.
SPELLED_WORDS = sorted(
    set(DEFINITIONS)
    | {word for pair in OPPOSITE_PAIRS[:60] for word in pair if len(word) >= 3}
    | set(
        "apple banana lemon orange grape bread cheese butter sugar water green yellow purple silver "
        "window garden paper music number letter animal family mother father sister brother".split()
    )
)

# (from, to, factor, largest count): the counts keep results within four digits or so.
UNITS = [
    ("kilometers", "meters", 1000, 50),
    ("kilograms", "grams", 1000, 50),
    ("meters", "centimeters", 100, 50),
    ("hours", "minutes", 60, 20),
    ("minutes", "seconds", 60, 20),
    ("days", "hours", 24, 10),
    ("weeks", "days", 7, 12),
]

# Small talk: (what the user says, what the model answers, most likely answer first).
GREETINGS = [
    (
        [
            "Hello!",
            "Hi!",
            "Hi there!",
            "Hey!",
            "Hello there.",
            "Good morning!",
            "Good evening!",
            "Hello, assistant.",
            "Hi",
            "Hello",
        ],
        [
            "Hello! How can I help you?",
            "Hi! What can I do for you?",
            "Hello! Ask me a question.",
            "Hi there! How can I help?",
        ],
    ),
    (
        ["Thank you!", "Thanks!", "Thanks a lot.", "Thank you very much.", "Great, thanks."],
        ["You are welcome!", "My pleasure!", "Happy to help!", "You are welcome. Anything else?"],
    ),
    (
        ["Goodbye!", "Bye!", "See you later.", "Good night!", "Bye for now."],
        ["Goodbye!", "Bye! See you soon.", "Goodbye! Have a nice day.", "See you later!"],
    ),
    (
        ["How are you?", "How are you today?", "How is it going?", "Are you well?"],
        [
            "I am fine, thank you.",
            "I am well. How can I help you?",
            "Very well, thank you!",
            "All good here. What can I do for you?",
        ],
    ),
    (
        ["Who are you?", "What are you?", "What is your name?", "Tell me about yourself."],
        [
            "I am a small language model.",
            "I am a tiny assistant.",
            "I am a small model that answers short questions.",
            "I am a tiny assistant for simple questions.",
        ],
    ),
]
