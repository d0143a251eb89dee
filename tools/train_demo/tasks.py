"""Arithmetic, copying, listing, small lookups, JSON answers, memory over turns."""
import json
import re
from pathlib import Path

from wording import expand, fill, polite

NAMES = ("Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Leo Mia Noah Olga Paul Rita Sam Tina Uwe "
         "Vera Walter "
         "Yuki Zoe Maria Peter Lena Tom Nina Max Lucy Omar Aisha Ivan Chen Kenji Sara Luis Elena Marco Julia Adam "
         "Eva Oskar "
         "Bruno Dora Erik Frida Gina Henry Iris Jack Kim Lara Milo Nora Otto Pia Quinn Rosa Simon Theo Ursula "
         "Viktor Wanda").split()
CITIES = ("Paris London Berlin Rome Madrid Vienna Tokyo Oslo Lisbon Dublin Athens Warsaw Prague Cairo Moscow "
          "Sydney Toronto "
          "Boston Chicago Hamburg Munich Zurich Geneva Milan Naples Lyon Seville Porto Krakow Kyoto Osaka Beijing "
          "Shanghai "
          "Delhi Mumbai Lima Bogota Quito Nairobi Lagos Tunis Helsinki Stockholm Copenhagen Brussels Amsterdam "
          "Budapest Seoul "
          "Hanoi Bangkok Denver Dallas Miami Seattle Ottawa Montreal Bern Riga Vilnius Sofia").split()
COLOURS = "red green blue yellow black white orange purple brown grey pink".split()
ANIMALS = "dog cat horse bird fish cow lion tiger mouse frog bear wolf fox sheep rabbit".split()
FRUITS = "apple pear plum cherry banana orange lemon grape peach mango".split()
THINGS = ("table lamp river stone cloud paper window garden music letter bridge forest candle mirror pencil "
          "bottle basket "
          "ladder hammer ticket button pillow island rocket planet guitar castle anchor engine valley copper "
          "silver winter "
          "summer morning evening number thread poem verse ring node token layer model cache").split()
OTHERS = "hello world yes no quick slow big small happy the and runs sings under over".split()
WORDS = COLOURS + ANIMALS + FRUITS + THINGS + OTHERS
FOODS = "pizza pasta soup rice bread cheese salad cake sushi curry".split()
JOBS = "teacher doctor baker farmer pilot nurse painter driver writer gardener".split()

ADD = ["What is {a} + {b}?", "What is {a} plus {b}?", "[Add|Please add] {a} and {b}.", "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
       "{a} + {b} = ?", "{a}+{b}", "{a} + {b}", "[Calculate|Compute|Work out] {a} + {b}.",
       "[Calculate|Compute] {a} plus {b}.", "What is the sum of {a} and {b}?",
       "What do I get if I add {a} to {b}?", "Sum {a} and {b}.", "[Tell me|Give me] the sum of {a} and {b}.",
       "What does {a} plus {b} make?",
       "I have {a} {t} and get {b} more. How many {t} do I have[ now|]?",
       "{n} has {a} {t} and {m} has {b}. How many {t} do they have together?",
       "There are {a} {t} in a box. I put {b} more in. How many are there[ now|]?", "Was ist {a} plus {b}?",
       "Wie viel ist {a} + {b}?", "Combien font {a} plus {b} ?", "¿Cuánto es {a} más {b}?",
       "{a}足す{b}は？", "{a}加{b}等于多少？", "Add up {a} and {b}.", "{a} and {b} together make how much?",
       "When I add {a} and {b}, what do I get?", "[What|How much] is {a} and {b} together?",
       "{n} picks {a} {t} and later {b} more. How many {t} is that in all?",
       "On Monday {n} got {a} {t}, on Tuesday {b}. How many in total?",
       "{a} {t} and {b} {t}, how many {t} is that?", "Which number is {a} plus {b}?",
       "{n} found {a} {t}. {m} gives {n} {b} more. How many {t} does {n} have?",
       "If [you|we] add {a} and {b}, what [comes out|do you get|do we get]?", "{a} plus {b}. What is the result?",
       "Take {a} and add {b}. What is the [result|answer]?", "What is the result of {a} + {b}?",
       "{n} has {a} {t} today and gets {b} tomorrow. How many {t} is that altogether?"]
SUB = ["What is {a} - {b}?", "What is {a} minus {b}?", "[Subtract|Please subtract] {b} from {a}.",
    "How much is {a} - {b}?", "How much is {a} minus {b}?", "{a} - {b} = ?", "{a}-{b}", "{a} - {b}",
       "[Calculate|Compute|Work out] {a} - {b}.", "[Calculate|Compute] {a} minus {b}.",
       "What is the difference between {a} and {b}?", "What is left if I take {b} from {a}?",
       "Take {b} away from {a}.",
       "I had {a} {t} and gave away {b}. How many {t} are left?",
       "{n} has {a} {t} and loses {b}. How many {t} are left?",
       "There were {a} {t} in a box. I took {b} out. How many are left?", "Was ist {a} minus {b}?",
       "Combien font {a} moins {b} ?", "¿Cuánto es {a} menos {b}?", "Start with {a} and take away {b}.",
       "{a} take away {b}?",
       "If I remove {b} from {a}, what is left?", "When I subtract {b} from {a}, what do I get?", "{a} less {b}?",
       "{n} had {a} {t} and sold {b}. What remains?", "Remove {b} from {a}.",
       "From {a} take {b}. What is the [result|answer]?", "{a} minus {b}. What is the result?",
       "We begin with {a} and lose {b}. What is left?", "What remains of {a} without {b}?"]
MUL = ["What is {a} * {b}?", "What is {a} times {b}?", "What is {a} x {b}?",
    "[Multiply|Please multiply] {a} by {b}.", "Multiply {a} and {b}.", "How much is {a} times {b}?",
    "How much is {a} * {b}?", "{a} * {b} = ?",
       "{a}*{b}", "{a} x {b}", "{a} * {b}", "[Calculate|Compute|Work out] {a} * {b}.",
       "[Calculate|Compute] {a} times {b}.", "What is the product of {a} and {b}?",
       "There are {a} boxes with {b} {t} each. How many {t} are there?",
       "{n} buys {a} bags of {b} {t}. How many {t} is that?", "Was ist {a} mal {b}?", "Combien font {a} fois {b} ?",
       "¿Cuánto es {a} por {b}?", "{a} multiplied by {b}?", "If I multiply {a} and {b}, what do I get?",
       "{b} times {a} is how much?".replace("{b} times {a}", "{a} times {b}"),
       "Which number is {a} times {b}?", "What is {a} multiplied by {b}?", "{a} times {b}. What is the result?",
       "If [you|we] multiply {a} by {b}, what [comes out|do you get]?"]


def plural(rng):
    return rng.choice(["apples", "books", "coins", "stones", "eggs", "cards", "pears", "pens", "cups", "stamps",
        "keys", "nuts"])


def arithmetic(rng):
    kind = rng.choices([ADD, SUB, MUL], [5, 4, 3])[0]
    if kind is MUL:
        a, b = rng.randint(1, 10), rng.randint(1, 10)
        answer = f"{a} * {b} = {a * b}."
    else:
        top = rng.choice([10, 20, 30])
        a, b = rng.randint(0, top), rng.randint(0, top)
        if kind is SUB:
            a, b = max(a, b), min(a, b)
            answer = f"{a} - {b} = {a - b}."
        else:
            answer = f"{a} + {b} = {a + b}."
    n, m = rng.sample(NAMES, 2)
    return fill(rng, rng.choice(kind), a=a, b=b, n=n, m=m, t=plural(rng)), answer


def compare(rng):
    a, b = rng.sample(range(0, 100), 2)
    if rng.random() < 0.5:
        q = ["[Which|What] [number |]is [larger|bigger|greater|more], {a} or {b}?",
            "[Which|What] is the [larger|bigger] number, {a} or {b}?", "{a} or {b}: which is [larger|bigger|more]?",
             "[Tell me|Name] the [larger|bigger|greater] of {a} and {b}.", "What is the maximum of {a} and {b}?",
             "Between {a} and {b}, which is [bigger|larger]?",
             "Out of {a} and {b}, which number is [bigger|larger|more]?",
             "I have the numbers {a} and {b}. Which is the [bigger|larger]?"]
        return fill(rng, rng.choice(q), a=a, b=b), f"{max(a, b)} is larger than {min(a, b)}."
    q = ["[Which|What] [number |]is [smaller|less], {a} or {b}?", "[Which|What] is the smaller number, {a} or {b}?",
        "{a} or {b}: which is [smaller|less]?", "[Tell me|Name] the smaller of {a} and {b}.",
        "What is the minimum of {a} and {b}?", "Between {a} and {b}, which is smaller?",
        "Out of {a} and {b}, which number is [smaller|less]?",
        "I have the numbers {a} and {b}. Which is the smaller?"]
    return fill(rng, rng.choice(q), a=a, b=b), f"{min(a, b)} is smaller than {max(a, b)}."


def even(rng):
    n = rng.randrange(0, 100)
    q = ["Is {n} [even or odd|odd or even]?", "Is {n} an [even|odd] number?", "Is {n} [even|odd]?",
        "{n}: even or odd?", "Tell me whether {n} is even or odd."]
    return fill(rng, rng.choice(q), n=n), f"{n} is {'odd' if n % 2 else 'even'}."


def follow(rng):
    n = rng.randrange(1, 99)
    if rng.random() < 0.6:
        q = ["[Which|What] number comes after {n}?", "What is the number after {n}?", "What comes after {n}?",
            "The number after {n}?", "Name the number that follows {n}."]
        return fill(rng, rng.choice(q), n=n), f"{n + 1} comes after {n}."
    q = ["[Which|What] number comes before {n}?", "What is the number before {n}?", "What comes before {n}?",
        "Name the number before {n}."]
    return fill(rng, rng.choice(q), n=n), f"{n - 1} comes before {n}."


def rare_words():
    """The words of the documentation: pieces of every kind that a copy may have to go over."""
    root = Path(__file__).resolve().parents[2]
    text = " ".join(p.read_text() for p in [root / "README.md", *sorted((root / "docs").glob("*.md"))])
    return sorted(set(re.findall(r"[A-Za-z]{3,12}", text)))


RARE_WORDS = rare_words()


def odd_word(rng):
    """A word nobody has seen, so that copying is learnt and not remembered."""
    return "".join(rng.choice("bcdfghklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))


def phrase(rng, low=1, high=12):
    pick = rng.random()
    n = rng.randint(low, high)
    if pick < 0.4:
        return " ".join(rng.choice(RARE_WORDS) for _ in range(n))
    if pick < 0.55:
        return " ".join(rng.choice(WORDS) for _ in range(n))
    if pick < 0.75:
        return " ".join(odd_word(rng) for _ in range(min(n, 6)))
    if pick < 0.9:
        return " ".join(rng.choice([rng.choice(NAMES), rng.choice(WORDS), str(rng.randrange(1000)),
            rng.choice(CITIES), odd_word(rng)]) for _ in range(n))
    return " ".join(str(rng.randrange(100000)) for _ in range(min(n, 6)))


REPEAT = ["[Repeat|Copy|Repeat after me|Say|Write|Echo][ exactly| this| word for word|]: {x}",
    "Repeat [exactly |]after me: {x}", "Say [exactly |]this: {x}",
    "[Repeat|Copy] the [following|next] [words|text|line|sentence]: {x}",
          "Say exactly {q}{x}{q}.", "Please repeat {q}{x}{q}.",
          "[Copy|Repeat] this [text|line|] [exactly|without changes|word for word]: {x}",
          "Write {q}{x}{q} [again|once more|].", "Repeat[ exactly|] what I say: {x}",
          "Answer with exactly this text: {x}", "Your answer must be: {x}", "Type the following: {x}",
          "Echo {q}{x}{q}.", "[Copy|Repeat|Say] [these words|this line|this sentence|this]: {x}",
          "Just [repeat|copy] this: {x}", "[Copy|Repeat] this, [and nothing else|nothing more|please]: {x}",
          "[Copy|Repeat|Write] [the|this] [line|text] [for me|again|below]: {x}"]


def repeat(rng):
    x = phrase(rng, 1, 40 if rng.random() < 0.12 else 12)
    return fill(rng, rng.choice(REPEAT), x=x, q=rng.choice(["'", '"'])), x


def times(rng):
    n = rng.randint(2, 6)
    x = rng.choice(WORDS + NAMES) if rng.random() < 0.7 else odd_word(rng)
    number = rng.choice([str(n), ["two", "three", "four", "five", "six"][n - 2]])
    q = ["[Say|Write|Repeat|Print|Type] {q}{x}{q} {n} times[.|, please.]",
        "[Say|Write] the word {q}{x}{q} {n} times.", "{n} times {q}{x}{q}[, please.|.]",
        "[Please |]repeat the word {x} {n} times.", "I want to [read|hear|see] {q}{x}{q} {n} times."]
    return fill(rng, rng.choice(q), x=x, n=number, q=rng.choice(["", "'", '"'])), " ".join([x] * n)


def listing(rng):
    name, items = rng.choice([("colours", COLOURS), ("colors", COLOURS), ("animals", ANIMALS), ("fruits", FRUITS),
        ("names", NAMES), ("cities", CITIES)])
    n = rng.randint(2, 5)
    number = rng.choice([str(n), ["two", "three", "four", "five"][n - 2]])
    q = ["[List|Name|Give me|Tell me|Say|Write] {n} {k}[.|, please.]", "[Can|Could] you [name|list] {n} {k}?",
        "I need {n} {k}.", "Which {n} {k} do you know?", "Please [list|name] {n} {k}.", "Make a list of {n} {k}."]
    return fill(rng, rng.choice(q), n=number, k=name), ", ".join(items[:n])


def some_list(rng, low=2, high=6):
    pool = rng.choice([COLOURS, ANIMALS, FRUITS, THINGS, NAMES, CITIES,
        [str(rng.randrange(100)) for _ in range(20)]])
    pool = list(dict.fromkeys(pool))
    return rng.sample(pool, rng.randint(low, high))


def reverse(rng):
    x = some_list(rng, 2, 5)
    q = ["Reverse [the|this] list: {x}", "Reverse [the order of|] [these words|this|the words]: {x}",
        "[Write|Say|Give me] {x} in reverse order.", "[Write|Say] this list backwards: {x}",
        "Turn the list around: {x}", "Put these in [the opposite|reverse] order: {x}"]
    return fill(rng, rng.choice(q), x=", ".join(x)), ", ".join(reversed(x))


def position(rng):
    x = some_list(rng, 3, 6)
    which, i = rng.choice([("first", 0), ("last", -1), ("second", 1), ("third", 2)])
    q = ["[What|Which] is the {w} [word|item|element|one] [of|in] [the|this] list: {x}?",
        "[Tell me|Name|Give me] the {w} [word|item] of: {x}", "{x}: which [word|one|item] is {w}?",
        "Which [item|word|one] comes {w} in this list: {x}", "What is the {w} [word|item] here: {x}",
         "Here is a list: {x}. What is the {w} [item|word]?"]
    return fill(rng, rng.choice(q), w=which, x=", ".join(x)), x[i]


def how_many(rng):
    x = some_list(rng, 2, 6)
    q = ["How many [words|items|things] are in [the|this] list: {x}?", "Count the [items|words]: {x}",
        "How many [items|words|things] do you see: {x}", "How long is this list: {x}?"]
    return fill(rng, rng.choice(q), x=", ".join(x)), f"There are {len(x)}."


def spell(rng):
    x = rng.choice(COLOURS + ANIMALS + FRUITS + THINGS[:26])
    q = ["Spell [the word |]{q}{x}{q}[.|, please.]", "How [do you|is] [spell |]{q}{x}{q}[ spelled|]?",
        "How do you spell {q}{x}{q}?", "[Can|Could] you spell {q}{x}{q}[ for me|]?",
        "[Write|Give me|Say] the letters of {q}{x}{q}.", "What are the letters of {q}{x}{q}?"]
    return fill(rng, rng.choice([q[0]] + q[2:]), x=x, q=rng.choice(["", "'", '"'])), "-".join(x)


def upper(rng):
    x = " ".join(rng.sample(COLOURS + ANIMALS + FRUITS, rng.choice([1, 1, 2])))
    q = ["[Write|Say|Print|Put|Give me] {q}{x}{q} in [capital letters|capitals|upper case|uppercase].",
        "[Convert|Change|Turn] {q}{x}{q} [in|]to [upper case|uppercase|capitals|capital letters].",
        "Uppercase {q}{x}{q}[.|, please.]", "{q}{x}{q} in [capital letters|upper case][.|, please.]"]
    return fill(rng, rng.choice(q), x=x, q=rng.choice(["'", '"'])), x.upper()


def colour_of(rng):
    thing, colour = rng.choice([("blood", "red"), ("a lemon", "yellow"), ("a banana", "yellow"), ("coal", "black"),
        ("milk", "white"), ("a frog", "green"), ("an orange", "orange"), ("a cherry", "red"), ("the sea", "blue"),
        ("chocolate", "brown"), ("the sun", "yellow"), ("an elephant", "grey")])
    q = ["[What|Which] colo[u|]r [is|has] {x}?", "What is the colo[u|]r of {x}?",
        "[Tell me|Name] the colo[u|]r of {x}.", "[Which|What] colo[u|]r does {x} have?"]
    return fill(rng, rng.choice(q), x=thing), f"{thing[0].upper()}{thing[1:]} is {colour}."


def sound_of(rng):
    animal, sound = rng.choice([("dog", "barks"), ("cat", "meows"), ("cow", "moos"), ("horse", "neighs"),
        ("lion", "roars"), ("bird", "sings"), ("wolf", "howls"), ("frog", "croaks"), ("sheep", "bleats"),
        ("mouse", "squeaks")])
    q = ["[What|Which] sound does a {x} make?", "What does a {x} [do|say]?", "How does a {x} sound?",
        "What noise does a {x} make?"]
    return fill(rng, rng.choice(q), x=animal), f"A {animal} {sound}."


# ---- a text and a question about it ----

FIELDS = {
    "city": (CITIES, ["{n} lives in {v}.", "{n}'s home is {v}.", "{n} is from {v}."],
        ["Where does {n} live?", "In which city does {n} live?", "What city is {n} from?", "Where is {n} at home?",
            "What is {n}'s city?"], "{n} lives in {v}."),
    "age": (None, ["{n} is {v} years old.", "{n} is {v}.", "{n}'s age is {v}."],
        ["How old is {n}?", "What is {n}'s age?", "What age is {n}?", "Tell me {n}'s age."],
        "{n} is {v} years old."),
    "colour": (COLOURS, ["{n} likes {v}.", "{n}'s favourite colour is {v}.", "The favourite colour of {n} is {v}."],
        ["What colour does {n} like?", "What is {n}'s favourite colour?", "Which colour does {n} like best?"],
        "{n}'s favourite colour is {v}."),
    "job": (JOBS, ["{n} is a {v}.", "{n} works as a {v}.", "{n}'s job is {v}."],
        ["What is {n}'s job?", "What does {n} do for a living?", "What does {n} work as?",
            "Which job does {n} have?"], "{n} is a {v}."),
    "pet": (ANIMALS, ["{n} has a {v}.", "{n}'s pet is a {v}.", "{n} owns a {v}."],
        ["What pet does {n} have?", "Which animal does {n} have?", "What is {n}'s pet?",
            "What animal does {n} own?"], "{n} has a {v}."),
    "food": (FOODS, ["{n} eats {v}.", "{n} loves {v}.", "{n}'s favourite food is {v}."],
        ["What does {n} eat?", "What is {n}'s favourite food?", "Which food does {n} love?",
            "What food does {n} like?"], "{n}'s favourite food is {v}."),
    "number": (None, ["{n}'s number is {v}.", "The phone number of {n} is {v}.", "{n} has the number {v}."],
        ["What is {n}'s number?", "What is the phone number of {n}?", "Which number does {n} have?",
            "How can I phone {n}?"], "{n}'s number is {v}."),
}


def value_of(rng, field):
    pool = FIELDS[field][0]
    if pool:
        return rng.choice(pool)
    return str(rng.randint(1, 99) if field == "age" else rng.randint(100, 9999))


def note(rng):
    people = rng.sample(NAMES, rng.randint(1, 4))
    facts = [(n, f, value_of(rng, f)) for n in people for f in rng.sample(list(FIELDS), rng.randint(1, 2))]
    rng.shuffle(facts)
    text = " ".join(fill(rng, rng.choice(FIELDS[f][1]), n=n, v=v) for n, f, v in facts)
    n, f, v = rng.choice(facts)
    question = fill(rng, rng.choice(FIELDS[f][2]), n=n)
    frame = rng.choice(["{t} {u}", "{t}\n{u}", "Here is a note: {t}\n{u}", "Read this: {t}\nQuestion: {u}",
        "Text: {t}\n{u}", "{t}\n\n{u}", "Here is what I know. {t} {u}"])
    return frame.replace("{t}", text).replace("{u}", question), fill(rng, FIELDS[f][3], n=n, v=v)


# ---- JSON ----

def json_answer(rng):
    n = rng.choice(NAMES)
    fields = rng.sample(["city", "age", "colour", "job", "pet", "food"], rng.randint(1, 3))
    values = {"name": n}
    sentences = []
    for f in fields:
        v = value_of(rng, f)
        values[f] = int(v) if f == "age" else v
        sentences.append(fill(rng, rng.choice(FIELDS[f][1]), n=n, v=v))
    keys = list(values)
    rng.shuffle(keys)
    if len(keys) > 2 and rng.random() < 0.3:
        keys = keys[:-1]
    named = ", ".join(keys[:-1]) + rng.choice([" and ", ", "]) + keys[-1]
    text = " ".join(sentences)
    frame = rng.choice(["Answer as JSON with [the |]keys {k}: {t}",
        "[Give me|Write|Return|Make] a JSON object with [the |]keys {k}: {t}",
        "{t} [Answer|Write that|Give me that|Return it|Put this] as JSON with [the |]keys {k}.",
                        "[Turn|Convert] this into JSON with [the |]keys {k}: {t}", "Extract {k} as JSON: {t}",
                        "{t} [Extract|Give] {k} as JSON.", "JSON with {k}: {t}", "As JSON ({k}): {t}"])
    return fill(rng, frame, k=named, t=text), json.dumps({k: values[k] for k in keys}, ensure_ascii=False)


def json_item(rng):
    thing, count, colour = rng.choice(FRUITS + ANIMALS + ["book", "pen", "cup", "lamp"]), rng.randint(2,
        60), rng.choice(COLOURS)
    kind = rng.randrange(3)
    if kind == 0:
        q = ["Answer as JSON with keys item and count: {c} {x}s",
            "[Write|Give me] {c} {x}s as JSON with item and count.",
            "JSON with item and count: there are {c} {x}s.",
            "Give {q}{c} {x}s{q} as JSON with the keys item and count."]
        return fill(rng, rng.choice(q), c=count, x=thing, q='"'), json.dumps({"item": thing, "count": count})
    if kind == 1:
        q = ["Answer as JSON with keys item and colour: a {o} {x}",
            "[Write|Give me] a {o} {x} as JSON with item and colour.", "JSON with item and colour: the {x} is {o}."]
        return fill(rng, rng.choice(q), o=colour, x=thing), json.dumps({"item": thing, "colour": colour})
    items = some_list(rng, 2, 5)
    q = ["[Write|Give me|Return] {x} as a JSON [list|array].", "Make a JSON [list|array] of {x}.",
        "JSON [list|array]: {x}", "[Turn|Convert] this list into [a JSON array|JSON]: {x}",
        "{x} as a JSON [list|array][.|, please.]"]
    return fill(rng, rng.choice(q), x=", ".join(items)), json.dumps([int(i) if i.isdigit() else i for i in items],
        ensure_ascii=False)


# ---- memory over turns ----

ABOUT_ME = {
    "name": (NAMES, ["[My name is|I am|I'm|Call me|People call me] {v}.", "Hi, [I'm|I am|my name is] {v}[.|!]",
        "Hello! My name is {v}."], "Nice to meet you, {v}!",
             ["What is my name?", "What's my name?", "Who am I?", "Do you [remember|know] my name?",
                 "[Tell me|Say] my name.", "How am I called?", "[Tell me|Say] who I am.",
                 "Have you [forgotten|kept|remembered] my name?", "Can you [still |]say my name?",
                 "What am I called?",
                 "Which name did I [tell|give] you?"], "Your name is {v}."),
    "city": (CITIES, ["I live in {v}.", "My home is {v}.", "I am from {v}.", "I come from {v}."],
        "{v} is a nice city.",
             ["Where do I live?", "Which city [do I live in|am I from]?", "Where am I from?",
                 "Do you remember where I live?", "What is my home town?"], "You live in {v}."),
    "colour": (COLOURS, ["My favourite colour is {v}.", "I like {v} best.", "The colour I like best is {v}."],
        "{v} is a nice colour.",
               ["What is my favourite colour?", "Which colour do I like[ best|]?",
                   "Do you remember my favourite colour?", "What colour do I like?"],
                   "Your favourite colour is {v}."),
    "pet": (ANIMALS, ["I have a {v}.", "My pet is a {v}.", "I own a {v}."], "A {v} is a nice animal.",
            ["What pet do I have?", "Which animal do I have?", "Do you remember my pet?", "What is my pet?",
                "What animal do I own?"], "You have a {v}."),
    "age": (None, ["I am {v} years old.", "My age is {v}.", "I'm {v} years old."], "{v} is a good age.",
            ["How old am I?", "What is my age?", "Do you remember how old I am?", "What age am I?"],
            "You are {v} years old."),
    "number": (None, ["My number is {v}.", "Remember the number {v}.", "Keep the number {v} in mind.",
        "The secret number is {v}."], "I will remember {v}.",
               ["What is [my|the|the secret] number?", "Which number did I [tell|give] you?",
                   "What number should you remember?", "Do you remember the number?", "Tell me the number.",
                   "Which number was it?", "[What|Which] number did I [say|mention]?",
                "I told you a number. Which one [was it|]?", "[Say|Repeat] the number [again|that I told you|].",
                "What was the number[ again|]?"],
                   "The number is {v}."),
    "word": (THINGS, ["The [secret word|password|code word] is {v}.", "Remember the word {v}.",
        "Keep the word {v} in mind."], "I will remember {v}.",
             ["What is the [secret word|password|code word|word]?", "Which word did I [tell|give] you?",
                 "What word should you remember?", "Tell me the word.", "Which word was it?",
                 "I told you a word. Which one?", "What was the word[ again|]?"], "The word is {v}."),
}


def capital(text):
    return text[0].upper() + text[1:]


def memory(rng, small_talk):
    """Messages: something about me, perhaps other talk, the question."""
    fields = rng.sample(list(ABOUT_ME), rng.choice([1, 1, 2, 3]))
    values, messages = {}, []
    together = len(fields) > 1 and rng.random() < 0.4
    for f in fields:
        pool = ABOUT_ME[f][0]
        values[f] = rng.choice(pool) if pool else str(rng.randint(5, 99) if f == "age" else rng.randint(10, 9999))
    if together:
        said = " ".join(fill(rng, rng.choice(ABOUT_ME[f][1]), v=values[f]) for f in fields)
        messages += [("user", said), ("assistant", capital(fill(rng, ABOUT_ME[fields[0]][2], v=values[fields[0]])))]
    else:
        for f in fields:
            messages += [("user", fill(rng, rng.choice(ABOUT_ME[f][1]), v=values[f])),
                ("assistant", capital(fill(rng, ABOUT_ME[f][2], v=values[f])))]
    for _ in range(rng.choice([0, 0, 1, 2])):
        q, a = small_talk(rng)
        messages += [("user", q), ("assistant", a)]
    rng.shuffle(fields)
    for f in fields[:rng.choice([1, 1, 2])]:
        messages += [("user", expand(rng, rng.choice(ABOUT_ME[f][3]))),
            ("assistant", fill(rng, ABOUT_ME[f][4], v=values[f]))]
    return messages


# ---- system messages ----

def persona(rng):
    n = rng.choice(NAMES) if rng.random() < 0.8 else odd_word(rng).capitalize()
    job = rng.choice(JOBS + ["helpful assistant", "robot", "pirate", "guide", "librarian"])
    if rng.random() < 0.3:
        job = rng.choice(["friendly", "kind", "good", "young", "small", "clever", "brave"]) + " " + job
    place = rng.choice(CITIES)
    kind = rng.randrange(3)
    system = fill(rng, rng.choice(["You are {n}, a {j}[ in {p}|].", "Your name is {n}. You are a {j}[ from {p}|].",
        "You are a {j}[ from {p}|] and your name is {n}.", "You are {n}. You work as a {j}[ in {p}|]."]), n=n,
        j=job, p=place)
    with_place = place in system
    if kind == 0 or (kind == 2 and not with_place):
        q = ["What is your name?", "What's your name?", "Who are you?", "How are you called?",
            "What should I call you?", "Tell me your name.", "May I know your name?",
            "What do [your friends|others|they] call you?", "By which name do you go?",
            "What do [people|we|the people|your customers] call you?",
            "[Say|Tell me] how [I should|people] call you.",
             "[Tell me|Say], who are you?", "Under which name are you known?"]
        return system, expand(rng, rng.choice(q)), f"My name is {n}."
    if kind == 1:
        q = ["What is your job?", "What do you do[ for a living|]?", "What do you work as?", "What are you?",
            "Which job do you have?"]
        return system, expand(rng, rng.choice(q)), f"I am a {job}."
    q = ["Where are you from?", "Which city are you from?", "Where do you [live|work]?", "In which city are you?"]
    return system, expand(rng, rng.choice(q)), f"I am from {place}."


def told(rng):
    """Facts in the system message."""
    people = rng.sample(NAMES, rng.randint(1, 3))
    facts = [(n, f, value_of(rng, f)) for n in people for f in rng.sample(list(FIELDS), 1)]
    system = rng.choice(["Facts: ", "Use these facts. ", "You know this: ", ""]) + " ".join(fill(rng,
        rng.choice(FIELDS[f][1]), n=n, v=v) for n, f, v in facts)
    n, f, v = rng.choice(facts)
    return system, fill(rng, rng.choice(FIELDS[f][2]), n=n), fill(rng, FIELDS[f][3], n=n, v=v)


def suffix(rng, small_talk):
    word = rng.choice(["Over.", "Ahoy!", "Amen.", "Meow.", "The end.", "Roger.", "Bye!",
        "Beep."]) if rng.random() < 0.7 else capital(odd_word(rng)) + "."
    system = fill(rng, rng.choice(["End every answer with {q}{w}{q}", "Always end [your answers |]with {q}{w}{q}",
        "After each answer say {q}{w}{q}", "Finish every answer with {q}{w}{q}",
        "Every answer of yours ends with {q}{w}{q}"]), w=word, q=rng.choice(["'", '"']))
    q, a = small_talk(rng)
    return system, q, a + " " + word


SINGLE = [(arithmetic, 30), (compare, 3.5), (even, 0.5), (follow, 2.5), (repeat, 15), (times, 6), (listing, 3),
    (reverse, 5),
          (position, 2), (how_many, 2), (spell, 5), (upper, 2), (colour_of, 0.5), (sound_of, 0.5), (note, 9),
          (json_answer, 6),
          (json_item, 8)]


def sample(rng):
    question, answer = rng.choices([f for f, _ in SINGLE], [w for _, w in SINGLE])[0](rng)
    return polite(rng, question), answer
