"""Sentences out of patterns: `[a|b|]` is one of its alternatives, brackets may be nested, and
`{name}` is filled from a dict."""
import re


def expand(rng, pattern):
    """One sentence of the pattern, chosen by rng."""
    out, _ = _sequence(rng, pattern, 0, False)
    out = re.sub(r" +", " ", out).strip()
    return re.sub(r" ([,.?!:;])", r"\1", out)


def _sequence(rng, p, at, inside):
    """The text of p[at:] up to the end, or inside brackets to the closing one; where it ended."""
    options, text = [], ""
    while at < len(p):
        c = p[at]
        if c == "[":
            part, at = _sequence(rng, p, at + 1, True)
            text += part
            continue
        if inside and c in "|]":
            options.append(text)
            text = ""
            if c == "]":
                return rng.choice(options), at + 1
        else:
            text += c
        at += 1
    if inside:
        raise ValueError(f"no ] in {p!r}")
    return text, at


def fill(rng, pattern, **values):
    """Expanded first, so that values may hold brackets."""
    out = expand(rng, pattern)
    for name, value in values.items():
        out = out.replace("{" + name + "}", str(value))
    return out


BEFORE = ["Please tell me: ", "Hi, ", "Hello! ", "Quick question: ", "Hey, ", "One more thing: ",
    "Just wondering: ",
          "I'd like to know: ", "Question: ", "So, ", "Ok, ", "Now, ", "Tell me, ", "I have a question. ",
          "I am new here. ",
          "My friend asks: ", "For my notes: ", "By the way, ", "Excuse me, ", "Help me out: ", "I was asked: ",
          "Well, ",
          "Sorry, ", "I forgot: ", "Just to be sure: ", "My boss wants to know: ", "Dear model, ", "Next: ",
          "I wonder: ",
          "I am reading the docs. ", "I have installed Renga. ", "I am writing a script. ", "Good evening, ",
          "And ", "Then "]
AFTER = [" Thanks!", " Please.", " Answer briefly.", " Thank you.", " I forgot.", " Keep it short.",
    " I'm curious.", " I need it for a script.",
         " One sentence is enough.", " Do you know?"]
ORDERS = ("Repeat Copy Say Write Count List Name Give Tell Spell Reverse Translate Add Subtract Multiply "
          "Calculate Compute "
          "Convert Turn Make Put Print Type Echo Check Look Find Explain Describe Define Answer Return Extract "
          "Uppercase "
          "Work Sum Take Show Introduce Change").split()
POLITE = ["Please ", "Please ", "Could you ", "Can you ", "Would you ", "Could you please ", "I want you to ",
    "I'd like you to ", "Now ",
          "Now please ", "Your task: ", "You should ", "Kindly ", "Hello, please ", "Can you please ",
          "Let's try this: ", "I need you to "]


SMALL_WORDS = ("a an the is are do does did i you it me my of to in on for with what which how can could would "
               "tell give "
               "please be that this by from").split()


def polite(rng, order):
    """An order as a request, sometimes."""
    if order.split(" ")[0] in ORDERS and rng.random() < 0.35:
        return rng.choice(POLITE) + order[0].lower() + order[1:]
    return order


def casual(rng, question):
    """The same question as people type it: a word before or after, a word left out, no capital, no
    question mark."""
    text = polite(rng, question)
    if rng.random() < 0.07 and text.count(" ") > 3:
        kept = [w for w in text.split(" ") if w.lower().strip("?.,") not in SMALL_WORDS]
        text = " ".join(kept) if len(kept) > 1 else text
    elif rng.random() < 0.22 and text.count(" ") > 3:
        # What is left still names the thing: what is asked must be found by its important words.
        words = text.split(" ")
        text = " ".join(w for i, w in enumerate(words) if i == 0 or rng.random() > 0.12)
    if rng.random() < 0.45:
        if not text.startswith(("I ", "I'", "Renga", "JSON", "KV", "MLA", "Mo", "Ro", "RMS")):
            text = text[0].lower() + text[1:]
        text = rng.choice(BEFORE) + text
    if rng.random() < 0.18:
        text += rng.choice(AFTER)
    chance = rng.random()
    if chance < 0.10:
        text = text.lower()
    elif chance < 0.16:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.10:
        text = text.rstrip("?.!")
    return text
