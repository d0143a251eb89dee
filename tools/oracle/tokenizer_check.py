#!/usr/bin/env python3
"""Compares `renga tokenize` with Hugging Face's tokenizers and with tiktoken, and makes fixtures.

    python tools/oracle/tokenizer_check.py check RENGA [MODEL_DIR...]   compare on 2.5 MB of text
    python tools/oracle/tokenizer_check.py fixtures                     write tests/fixtures/tokenizer

`check` trains small vocabularies for each kind of tokenizer on a generated multilingual corpus, and
also takes real model directories with a tokenizer.json.  It needs the PyPI packages tokenizers 0.23,
tiktoken 0.14 and prints one line per tokenizer; the exit status is 1 if an id differs.
(It must not be called tokenizers.py: other oracle scripts import the package of that name.)
"""

import base64
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pt
from tokenizers import trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "tokenizer"

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
O200K_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (r"[^\r\n\p{L}\p{N}]?" + O200K_UPPER + "*" + O200K_LOWER + "+" + CONTRACTIONS + "?|"
         r"[^\r\n\p{L}\p{N}]?" + O200K_UPPER + "+" + O200K_LOWER + "*" + CONTRACTIONS + "?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
KIMI_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?" + KIMI_UPPER + "*" + KIMI_LOWER + "+" + CONTRACTIONS + "?|"
        r"[^\r\n\p{L}\p{N}]?" + KIMI_UPPER + "+" + KIMI_LOWER + "*" + CONTRACTIONS + "?|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
# What the other dialects' corners look like; no model has this one.
CORNERS = (r"a{2,3}+|(?:\p{Greek}\w)+?(?=\s)|^\h+$|[\p{L}&&[^\p{Lo}\p{Lm}]]{2}|(?<=x)\d+|[^\S\n]+|"
           r"[\w-]+|\W{,2}?\u00e9|[[:alpha:][:digit:]\p{^Han}\x{3042}-\x{3044}]|.")

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


# ---- the tokenizers ------------------------------------------------------------------------------

def split(pattern, behavior="isolated", invert=False):
    return pt.Split(Regex(pattern), behavior, invert)


def byte_level(**kwargs):
    return pt.ByteLevel(**{"add_prefix_space": False, "use_regex": False, **kwargs})


def kinds():
    """name: (pre-tokenizer, normalizer, ignore_merges)"""
    seq = pt.Sequence
    return {
        "smollm2": (seq([pt.Digits(True), byte_level(use_regex=True)]), None, False),
        "gpt2": (byte_level(use_regex=True, add_prefix_space=True), None, False),
        "llama3": (seq([split(LLAMA3), byte_level()]), None, True),
        "glm4": (seq([split(LLAMA3), byte_level()]), None, True),
        "qwen2": (seq([split(QWEN2), byte_level()]), normalizers.NFC(), False),
        "qwen35": (seq([split(QWEN35), byte_level()]), normalizers.NFC(), False),
        "deepseek": (seq([split(p) for p in DEEPSEEK] + [byte_level()]), normalizers.Sequence([]), False),
        "o200k": (seq([split(O200K), byte_level()]), None, True),
        "kimi_json": (seq([split(KIMI), byte_level()]), None, False),
        "falcon": (seq([pt.Punctuation("contiguous"), byte_level(use_regex=True), pt.Digits(False),
                        split("[0-9][0-9][0-9]")]), None, False),
        "corners": (seq([split(CORNERS, "merged_with_previous"), split(r"\s+", "merged_with_next"),
                         pt.Split(".", "removed"), split(r"\p{Lu}|", "contiguous", True),
                         split("[\\p{Greek}\\p{Han}]", "isolated", True), pt.Punctuation("isolated"),
                         byte_level(add_prefix_space=True)]), None, False),
    }


def train(name, texts, vocab_size):
    pre_tokenizer, normalizer, ignore_merges = kinds()[name]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizer
    t.decoder = decoders.ByteLevel()
    if normalizer:
        t.normalizer = normalizer
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pt.ByteLevel.alphabet(), show_progress=False,
        special_tokens=SPECIALS[:1] if name == "smollm2" else []))
    t.add_special_tokens([AddedToken(s, normalized=False) for s in SPECIALS[:3]])
    t.add_tokens([AddedToken(s, normalized=False) for s in SPECIALS[3:]])
    if name in ("gpt2", "qwen2"):
        t.add_tokens([AddedToken("word", single_word=True, normalized=False),
                      AddedToken("<l>", lstrip=True, normalized=False),
                      AddedToken("<r>", rstrip=True, normalized=False), AddedToken("  ", normalized=True),
                      AddedToken("s\u0307", normalized=True), AddedToken("\r\n\n", normalized=True),
                      AddedToken("time", single_word=True, lstrip=True, rstrip=True, normalized=True)])
    j = json.loads(t.to_str())
    j["model"]["ignore_merges"] = ignore_merges
    if name == "glm4":
        j["model"]["merges"] = ["#version: 0.2"] + [" ".join(m) for m in j["model"]["merges"]]
    if name == "deepseek":
        del j["model"]["ignore_merges"]
    return json.dumps(j, ensure_ascii=name != "o200k")


class HuggingFace:
    def __init__(self, text):
        self.t = Tokenizer.from_str(text)

    def encode(self, data, special):
        self.t.encode_special_tokens = not special
        return self.t.encode(data.decode("utf-8", "replace"), add_special_tokens=False).ids

    def decode(self, ids):
        return self.t.decode(ids, skip_special_tokens=False)


KIMI_NAMES = {0: "[BOS]", 1: "[EOS]", 2: "<|im_end|>", 3: "<|im_start|>", 10: "<|im_system|>",
              11: "<|tool_calls_section_begin|>", 22: "<think>", 23: "<｜User｜>"}
KIMI_ORDINARY = (11, 22)  # special: false


class Kimi:
    """tokenization_kimi.py over tiktoken."""

    def __init__(self, ranks):
        base = len(ranks)
        self.names = {base + i: KIMI_NAMES.get(i, f"<|reserved_token_{base + i}|>") for i in range(256)}
        self.ordinary = {KIMI_NAMES[i] for i in KIMI_ORDINARY}
        self.t = tiktoken.Encoding("kimi", pat_str=KIMI, mergeable_ranks=ranks,
                                   special_tokens={s: i for i, s in self.names.items()})

    @staticmethod
    def slices(text, longest=25000):
        start = run = 0
        is_space = text[0].isspace() if text else False
        for i, c in enumerate(text):
            if is_space != c.isspace():
                run = 1
                is_space = not is_space
            else:
                run += 1
                if run > longest:
                    yield text[start:i]
                    start, run = i, 1
        yield text[start:]

    def encode(self, data, special):
        text = data.decode("utf-8", "replace")
        allowed = "all" if special else self.ordinary
        ids = []
        for at in range(0, len(text), 400000):
            for part in self.slices(text[at:at + 400000]):
                ids += self.t.encode(part, allowed_special=allowed, disallowed_special=())
        return ids

    def decode(self, ids):
        return self.t.decode_bytes(ids).decode("utf-8", "replace")


def make_kimi(directory, texts, vocab_size):
    """A rank file from a trained merge list: bytes first, then the merges' results."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = kinds()["kimi_json"][0]
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pt.ByteLevel.alphabet(), show_progress=False))
    chars = {}
    n = 0
    for b in range(256):
        printable = 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b
        chars[chr(b if printable else 0x100 + n)] = b
        n += not printable
    ordered = sorted(t.get_vocab().items(), key=lambda item: item[1])
    ranks = {bytes(chars[c] for c in token): rank for token, rank in ordered}
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    (directory / "tiktoken.model").write_text("".join(lines))
    kimi = Kimi(ranks)
    decoder = {str(len(ranks) + i): {"content": s, "special": i not in KIMI_ORDINARY}
               for i, s in KIMI_NAMES.items()}
    (directory / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": decoder}, ensure_ascii=False))
    (directory / "config.json").write_text(json.dumps({"vocab_size": len(ranks) + 256}))
    return kimi


# ---- the commands --------------------------------------------------------------------------------

def renga(binary, directory, data, special):
    command = [binary, "tokenize", str(directory)] + (["--special"] if special else [])
    r = subprocess.run(command, input=data, capture_output=True)
    if r.returncode:
        sys.exit(f"{' '.join(command)}: {r.stderr.decode(errors='replace')}")
    return json.loads(r.stdout)


def renga_bytes(binary, directory, ids):
    command = [binary, "tokenize", str(directory), "--decode"]
    return subprocess.run(command, input=json.dumps(ids).encode(), capture_output=True, check=True).stdout


def compare(binary, name, directory, reference, data):
    wrong = n_ids = n_bytes = 0
    for i, d in enumerate(data):
        for special in (False, True):
            want = reference.encode(d, special)
            have = renga(binary, directory, d, special)
            n_ids += len(want)
            if want != have:
                wrong += 1
                at = next((k for k, (a, b) in enumerate(zip(want, have)) if a != b), min(len(want), len(have)))
                print(f"  {name}: text {i}, special={special}: id {at}: {want[at:at + 8]} {have[at:at + 8]} after "
                      f"{renga_bytes(binary, directory, have[:at])[-40:]!r}")
        n_bytes += len(d)
        # The reference gives a normalised added token back in its normalised form.
        text = renga_bytes(binary, directory, want).decode("utf-8", "replace").replace("s\u0307", "\u1e61")
        if text != reference.decode(want).replace("s\u0307", "\u1e61"):
            wrong += 1
            print(f"  {name}: text {i}: decoding gives another text")
    print(f"{name}: {len(data)} texts, {n_bytes} bytes, {n_ids} ids compared, {wrong} differ", flush=True)
    return wrong


def check(binary, model_dirs):
    data = corpus()
    texts = [d.decode("utf-8", "replace") for d in data[:90]]
    wrong = 0
    for d in model_dirs:
        text = (pathlib.Path(d) / "tokenizer.json").read_text()
        wrong += compare(binary, d, d, HuggingFace(text), data)
    with tempfile.TemporaryDirectory() as tmp:
        for name in kinds():
            directory = pathlib.Path(tmp) / name
            directory.mkdir()
            text = train(name, texts, 4000)
            (directory / "tokenizer.json").write_text(text)
            wrong += compare(binary, name, directory, HuggingFace(text), data)
        directory = pathlib.Path(tmp) / "kimi"
        directory.mkdir()
        wrong += compare(binary, "kimi", directory, make_kimi(directory, texts, 4000), data)
    return 1 if wrong else 0


def fixtures():
    rng = random.Random(1)
    text = document(rng, 4000).encode() + break_utf8(rng, document(rng, 2500).encode())
    text += "\r\n\n word <l> <r> \n s\u0307\u1e61 timetime time , swordword word<|im_end|> ".encode()
    texts = [document(rng, 20000) for _ in range(4)]
    FIXTURES.mkdir(parents=True, exist_ok=True)
    (FIXTURES / "text.bin").write_bytes(text)
    references = {}
    for name in kinds():
        (FIXTURES / name).mkdir(exist_ok=True)
        content = train(name, texts, 900)
        (FIXTURES / name / "tokenizer.json").write_text(content)
        references[name] = HuggingFace(content)
    (FIXTURES / "kimi").mkdir(exist_ok=True)
    references["kimi"] = make_kimi(FIXTURES / "kimi", texts, 900)
    for name, reference in references.items():
        for special in (False, True):
            ids = reference.encode(text, special)
            path = FIXTURES / name / ("special.json" if special else "plain.json")
            path.write_text(json.dumps(ids, separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) >= 3 and sys.argv[1] == "check":
        sys.exit(check(sys.argv[2], sys.argv[3:]))
    if sys.argv[1:] == ["fixtures"]:
        sys.exit(fixtures())
    sys.exit(__doc__)
