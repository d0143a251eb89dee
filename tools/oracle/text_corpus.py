"""Texts on which tokenizers are compared: generated ones from a seed, and files of this machine.

corpus() is the same everywhere: hard cases, every assigned character, broken UTF-8.  large(n) adds
generated documents and what the machine has in many languages and forms (manual pages, message
catalogues, locales, sources, binaries) until there are n bytes; it depends on what is installed.
"""

import glob
import gzip
import pathlib
import random
import unicodedata

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<｜User｜>", "<think>", "</think>"]
LOOKALIKES = SPECIALS + ["<|im_start", "<|im_end|", "|im_end|>", "<think", "<|endoftext|> ", "<|<|im_end|>",
                         "< |im_end|>", "<|IM_END|>", "<｜User|>", "<|im_startm_start|>"]

# ---- the corpus ----------------------------------------------------------------------------------

WORDS = ("the of and to a in is that it was for on are as with his they at be this from have or by one had "
         "not but what all were when we there can an your which their said if do will each about how up out "
         "them then she many some so these would other into has more her two like him see time could no make "
         "than first been its who now people my made over did down only way find use may water long little "
         "very after words called just where most know don't I'll we've they're it's you'd HTTPServer "
         "getElementById snake_case_name CamelCase README.md e.g. i.e. naïve café Zürich São smörgåsbord").split()
BLOCKS = [(0x20, 0x7E), (0xA1, 0xFF), (0x100, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x370, 0x3FF),
          (0x400, 0x4FF), (0x531, 0x58A), (0x5D0, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF),
          (0xB80, 0xBFF), (0xC00, 0xC7F), (0xE01, 0xE5B), (0xE80, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F),
          (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF), (0x1780, 0x17FF),
          (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20CF), (0x2100, 0x21FF),
          (0x2200, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2E80, 0x2FFF), (0x3000, 0x30FF),
          (0x3130, 0x318F), (0x3200, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xA640, 0xA7FF),
          (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF),
          (0x10000, 0x100FF), (0x10400, 0x1044F), (0x11100, 0x1114F), (0x12000, 0x120FF),
          (0x1D100, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1F000, 0x1F2FF), (0x1F300, 0x1F6FF),
          (0x1F900, 0x1FAFF), (0x20000, 0x200FF), (0x2EBF0, 0x2EC80), (0x31350, 0x31400), (0xE0100, 0xE010F)]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\n\n", " \n ", "\u00a0", "\u3000", "\u2003", "\u2028",
          "\u180e", "\u200b", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\u202f", "\ufeff"]
MARKS = [chr(c) for c in (0x300, 0x301, 0x302, 0x303, 0x308, 0x30A, 0x315, 0x31B, 0x323, 0x327, 0x328, 0x334,
                          0x338, 0x345, 0x591, 0x5B0, 0x64B, 0x651, 0x93C, 0x94D, 0xE38, 0xF71, 0xF72,
                          0x3099, 0x309A, 0x20D0, 0x1D165, 0x11C9, 0x1E944)]


def word(rng):
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(WORDS)
    if kind < 0.5:
        return rng.choice(WORDS).upper() + rng.choice(["", "'S", "'LL", "'ſ", "'re", "’s", "'K"])
    if kind < 0.6:
        return "".join(chr(rng.randint(0x30, 0x39)) for _ in range(rng.randint(1, 9)))
    if kind < 0.63:
        return "".join(rng.choice("٠١٢३४५６７８ⅣⅧ½²௧") for _ in range(rng.randint(1, 5)))
    low, high = rng.choice(BLOCKS)
    text = "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8)))
    if kind > 0.9:
        text = "".join(c + "".join(rng.choices(MARKS, k=rng.randint(0, 3))) for c in text)
    return text


def code_line(rng):
    name = "_".join(rng.choices(["x", "foo", "HTTP", "get", "i2", "buf"], k=rng.randint(1, 3)))
    return rng.choice([
        f"    if ({name} != {rng.randint(0, 99999)}) {{ return {name}->next[0x{rng.getrandbits(20):X}]; }}",
        f"\tfor (int i = 0; i < {name}.size(); ++i)  // {rng.choice(WORDS)}",
        f"def {name}(self, *args, **kwargs):\r\n        '''{rng.choice(WORDS)}'''",
        f"{{\"{name}\": [1,2.5e-{rng.randint(1, 30)},null], 'k': `a|b`, @x: #{rng.getrandbits(24):06x}}}",
        f"https://example.org/{name}?q={rng.randint(0, 9)}&r=%20{name}#~", "=" * rng.randint(1, 90),
        "\\" * rng.randint(1, 5) + "n" + "-" * rng.randint(1, 40), "&&||!=<=>=::..." * rng.randint(1, 3)])


def emoji(rng):
    base = [chr(rng.randint(0x1F300, 0x1F64F)), chr(rng.randint(0x1F900, 0x1F9FF)),
            chr(rng.randint(0x1FA70, 0x1FAFF)), "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇯🇵🇩🇪", "👍🏽", "❤️", "1️⃣", "🩷", "🫨"]
    return "".join(rng.choices(base, k=rng.randint(1, 4)))


def document(rng, size):
    out = []
    n = 0
    while n < size:
        kind = rng.random()
        if kind < 0.72:
            part = word(rng) + rng.choice([" ", " ", " ", " ", ", ", ". ", "", "-", "/"])
        elif kind < 0.80:
            part = code_line(rng) + "\n"
        elif kind < 0.86:
            part = "".join(rng.choices(SPACES, k=rng.randint(1, 12)))
        elif kind < 0.90:
            part = emoji(rng)
        elif kind < 0.94:
            part = rng.choice(LOOKALIKES)
        elif kind < 0.97:
            part = rng.choice(["a", "A", "é", "漢", "🙂", " ", "\n", "0", "'", "ab"]) * rng.randint(1, 70)
        else:
            part = "".join(chr(c) for c in (rng.randint(1, 0x10FFFF) for _ in range(6))
                           if not 0xD800 <= c < 0xE000)
        out.append(part)
        n += len(part)
    return "".join(out)


def sweep():
    """Every character that is assigned, or was between Unicode 14 and 16, in three places."""
    young = [range(0x10940, 0x11FFF), range(0x1CC00, 0x1CEFF), range(0x1E000, 0x1E6FF), range(0x2EBF0, 0x2EE60)]
    points = {c for r in young for c in r}
    points |= {c for c in range(1, 0x32400) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")}
    points -= {c for c in points if 0x3400 <= c < 0x9FF0 and c % 16} | set(range(0xD800, 0xE000))
    points -= {c for c in points if 0x20000 <= c < 0x31300 and c % 16}
    points -= {c for c in points if 0xAC00 <= c < 0xD7A4 and c % 8}
    text = [f"{chr(c)}a{chr(c)}{chr(c)}, {chr(c)}A\u0301{chr(c)}1" for c in sorted(points)]
    return [" ".join(text[i:i + 4000]) for i in range(0, len(text), 4000)]


def break_utf8(rng, data):
    """Flips, cuts and inserts bytes."""
    data = bytearray(data)
    for _ in range(len(data) // 60):
        at = rng.randrange(len(data))
        kind = rng.random()
        if kind < 0.4:
            data[at] = rng.randrange(256)
        elif kind < 0.7:
            del data[at]
        else:
            data[at:at] = rng.choice([b"\x80", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
                                      b"\xe2\x82", b"\xf0\x9f\x98", b"\xe0\x80", b"\xf8\x88"])
    return bytes(data)


def corpus():
    rng = random.Random(20261122)
    texts = [document(rng, 16000) for _ in range(60)]
    data = [t.encode() for t in texts] + [t.encode() for t in sweep()]
    data += [break_utf8(rng, document(rng, 12000).encode()) for _ in range(8)]
    data += [b"", b" ", b"\n", b"a" * 20000, "é".encode() * 9000, b" " * 30000 + b"x", b"x" * 60000 + b" y",
             ("\u0301" * 5000).encode(), ("漢字" * 20000 + "\n").encode(), b"<" * 5000, b"\xff" * 3000,
             ("ab " * 150000 + " " * 26000 + "z" * 51000).encode()]
    return data


# ---- what the machine has ------------------------------------------------------------------------

SOURCES = [  # glob, share of the bytes taken from files
    ("/usr/share/man/*/man*/*.gz", 0.25), ("/usr/share/man/man*/*.gz", 0.1),
    ("/usr/share/locale/*/LC_MESSAGES/*.mo", 0.25), ("/usr/share/i18n/locales/*", 0.08),
    ("/usr/lib/python3*/**/*.py", 0.08), ("/usr/include/**/*.h", 0.06), ("/usr/share/perl/**/*.p[lm]", 0.06),
    ("/usr/share/doc/**/*", 0.06), ("/usr/bin/*", 0.06)]
FILE_BYTES = 48000  # of one file at most, so that many take part


def read_some(path, rng):
    opener = gzip.open if path.endswith(".gz") else open
    try:
        with opener(path, "rb") as f:
            data = f.read(20 * FILE_BYTES)
    except (OSError, EOFError):
        return b""
    at = rng.randrange(max(1, len(data) - FILE_BYTES + 1))
    return data[at:at + FILE_BYTES]


def machine_text(rng, size):
    """About `size` bytes of files; a cut through a character is one more broken sequence."""
    out = []
    for pattern, share in SOURCES:
        paths = sorted(p for p in glob.glob(pattern, recursive=True) if pathlib.Path(p).is_file())
        rng.shuffle(paths)
        need = int(size * share)
        for path in paths:
            if need <= 0:
                break
            out.append(read_some(path, rng))
            need -= len(out[-1])
    rng.shuffle(out)
    return out


def large(size, chunk=1000000):
    """corpus(), files and generated documents: at least `size` bytes in texts of about `chunk`."""
    data = corpus()
    rng = random.Random(20261123)
    have = sum(len(d) for d in data)
    parts = machine_text(rng, (size - have) * 0.5)
    have += sum(len(p) for p in parts)
    while have < size:
        parts.append(document(rng, 20000).encode())
        if rng.random() < 0.15:
            parts[-1] = break_utf8(rng, parts[-1])
        have += len(parts[-1])
    rng.shuffle(parts)
    text = bytearray()
    for part in parts:
        text += part
        text += rng.choice(LOOKALIKES).encode() if rng.random() < 0.3 else b""
        if len(text) >= chunk:
            data.append(bytes(text))
            text.clear()
    return data + [bytes(text)]
