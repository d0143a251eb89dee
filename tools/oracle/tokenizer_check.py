#!/usr/bin/env python3
"""Compares `renga tokenize` with Hugging Face's tokenizers and with tiktoken, and makes fixtures.

    python tools/oracle/tokenizer_check.py check --renga RENGA [--bytes N] [--only REGEX] [MODEL_DIR...]
    python tools/oracle/tokenizer_check.py cost --renga RENGA [--only REGEX] [MODEL_DIR...]
    python tools/oracle/tokenizer_check.py fixtures            write tests/fixtures/tokenizer

`check` trains a small vocabulary for each kind of tokenizer_kinds.py and compares the ids on the
texts of text_corpus.py, N bytes for each kind.  Given model directories with a tokenizer.json are
compared too; the vocabulary of a directory named by --ranks also serves as a rank file for Kimi.
Texts of less than 500 kB are encoded twice, with control tokens recognised and without, longer ones
in turn.  `cost` prints for each kind the processor time of `renga tokenize` on English and on 1 MB of one
character, loading and the printing of ids left out as far as an empty text and as many ids tell.
It needs the PyPI packages tokenizers 0.23 and tiktoken 0.14 and prints one line per
tokenizer; the exit status is 1 if an id differs.
(It must not be called tokenizers.py: other oracle scripts import the package of that name.)
"""

import argparse
import base64
import json
import pathlib
import random
import re
import resource
import subprocess
import sys
import tempfile

import tiktoken
from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers import pre_tokenizers as pt
from tokenizers import trainers

from text_corpus import SPECIALS, break_utf8, corpus, document, large
from tokenizer_kinds import KIMI, kinds

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "tokenizer"
FIXTURE_KINDS = ("smollm2", "gpt2", "llama3", "glm4", "qwen2", "qwen35", "deepseek", "o200k", "kimi_json",
                 "falcon", "corners")


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


def byte_chars():
    """ByteLevel's characters and their bytes."""
    chars = {}
    n = 0
    for b in range(256):
        printable = 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b
        chars[chr(b if printable else 0x100 + n)] = b
        n += not printable
    return chars


def trained_ranks(texts, vocab_size):
    """A merge list's results as ranks: bytes first, then the merges."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = kinds()["kimi_json"][0]
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pt.ByteLevel.alphabet(), show_progress=False))
    return as_ranks(t.get_vocab())


def as_ranks(vocab):
    chars = byte_chars()
    ordered = sorted(vocab.items(), key=lambda item: item[1])
    return {bytes(chars[c] for c in token): rank for rank, (token, _) in enumerate(ordered)}


def make_kimi(directory, ranks):
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    (directory / "tiktoken.model").write_text("".join(lines))
    kimi = Kimi(ranks)
    decoder = {str(len(ranks) + i): {"content": s, "special": i not in KIMI_ORDINARY}
               for i, s in KIMI_NAMES.items()}
    (directory / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": decoder}, ensure_ascii=False))
    (directory / "config.json").write_text(json.dumps({"vocab_size": len(ranks) + 256}))
    return kimi


# Ordinary prose with names, numbers and quotes.
ENGLISH = """The old house at 14 Mill Lane had stood empty for nearly thirty years when Mrs. Calloway bought
it in the spring of 1987. "It wants a family," she told the agent, who didn't believe her; nobody in the
village did. By autumn, though, there were lamps in every window, and on Sundays one could hear somebody
practising the same four bars of Schubert (badly, but with great patience) until the light went. It's said
that the river rose twice that winter -- 2.4 metres on the 9th of January, and again in March -- and that
both times the water stopped three steps below the door.

"""


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


def differs(binary, name, directory, reference, i, data, special):
    """(ids, whether they differ)"""
    want = reference.encode(data, special)
    have = renga(binary, directory, data, special)
    if want == have:
        return want, False
    at = next((k for k, (a, b) in enumerate(zip(want, have)) if a != b), min(len(want), len(have)))
    print(f"  {name}: text {i}, special={special}: id {at}: {want[at:at + 8]} {have[at:at + 8]} after "
          f"{renga_bytes(binary, directory, have[:at])[-40:]!r}")
    return want, True


def compare(binary, name, directory, reference, data):
    wrong = n_ids = n_bytes = 0
    for i, d in enumerate(data):
        modes = (False, True) if len(d) < 500000 else (i % 2 == 1,)
        for special in modes:
            want, bad = differs(binary, name, directory, reference, i, d, special)
            wrong += bad
            n_ids += len(want)
        n_bytes += len(d)
        if i % 8 and len(d) < 500000:
            continue
        # The reference gives a normalised added token back in its normalised form.
        text = renga_bytes(binary, directory, want).decode("utf-8", "replace").replace("s\u0307", "\u1e61")
        if text != reference.decode(want).replace("s\u0307", "\u1e61"):
            wrong += 1
            print(f"  {name}: text {i}: decoding gives another text")
    print(f"{name}: {len(data)} texts, {n_bytes} bytes, {n_ids} ids compared, {wrong} differ", flush=True)
    return wrong


def trained_kinds(only, tmp):
    """(name, directory, reference) of every kind whose name `only` matches."""
    texts = [d.decode("utf-8", "replace") for d in corpus()[:90]]
    for name in [*kinds(), "kimi"]:
        if not re.search(only, name):
            continue
        directory = pathlib.Path(tmp) / name
        directory.mkdir()
        if name == "kimi":
            yield name, directory, make_kimi(directory, trained_ranks(texts, 4000))
        else:
            text = train(name, texts, 4000)
            (directory / "tokenizer.json").write_text(text)
            yield name, directory, HuggingFace(text)


def processor_seconds(binary, directory, data):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    r = subprocess.run([binary, "tokenize", str(directory)], input=data, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if r.returncode:
        sys.exit(f"{directory}: exit status {r.returncode}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


ONE_CHARACTER = [b"a", b"7", b" ", b"\n", b".", "\u00e9".encode(), "\u4e2d".encode(), "\u0301".encode(),
                 "\U0001f600".encode(), b"\x80", b"\xff"]


def cost(args):
    english = ENGLISH.encode() * (4000000 // len(ENGLISH))
    slow = 0
    with tempfile.TemporaryDirectory() as tmp:
        models = [(d, d, None) for d in args.models] + list(trained_kinds(args.only, tmp))
        for name, directory, _ in models:
            load = min(processor_seconds(args.renga, directory, b"") for _ in range(3))
            best = min(processor_seconds(args.renga, directory, english) for _ in range(3)) - load
            worst, of = max((processor_seconds(args.renga, directory, c * (1000000 // len(c))) - load, c)
                            for c in ONE_CHARACTER)
            slow += worst > 1
            print(f"{name}: English {len(english) / 1e6 / best:.1f} MB/s, 1 MB of {of!r} {worst:.2f} s, "
                  f"loading {load:.2f} s", flush=True)
    return 1 if slow else 0


def check(args):
    data = large(args.bytes)
    wrong = 0
    for d in args.models:
        text = (pathlib.Path(d) / "tokenizer.json").read_text()
        wrong += compare(args.renga, d, d, HuggingFace(text), data)
    with tempfile.TemporaryDirectory() as tmp:
        for name, directory, reference in trained_kinds(args.only, tmp):
            wrong += compare(args.renga, name, directory, reference, data)
        if args.ranks:
            vocab = json.loads((pathlib.Path(args.ranks) / "tokenizer.json").read_text())["model"]["vocab"]
            directory = pathlib.Path(tmp) / "kimi_ranks"
            directory.mkdir()
            wrong += compare(args.renga, "kimi with the ranks of " + args.ranks, directory,
                             make_kimi(directory, as_ranks(vocab)), data)
    return 1 if wrong else 0


def fixtures(_args):
    rng = random.Random(1)
    text = document(rng, 4000).encode() + break_utf8(rng, document(rng, 2500).encode())
    text += "\r\n\n word <l> <r> \n s\u0307\u1e61 timetime time , swordword word<|im_end|> ".encode()
    texts = [document(rng, 20000) for _ in range(4)]
    FIXTURES.mkdir(parents=True, exist_ok=True)
    (FIXTURES / "text.bin").write_bytes(text)
    references = {}
    for name in FIXTURE_KINDS:
        (FIXTURES / name).mkdir(exist_ok=True)
        content = train(name, texts, 900)
        (FIXTURES / name / "tokenizer.json").write_text(content)
        references[name] = HuggingFace(content)
    (FIXTURES / "kimi").mkdir(exist_ok=True)
    references["kimi"] = make_kimi(FIXTURES / "kimi", trained_ranks(texts, 900))
    for name, reference in references.items():
        for special in (False, True):
            ids = reference.encode(text, special)
            path = FIXTURES / name / ("special.json" if special else "plain.json")
            path.write_text(json.dumps(ids, separators=(",", ":")) + "\n")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("check")
    p.add_argument("--renga", required=True)
    p.add_argument("--bytes", type=int, default=10500000)
    p.add_argument("--only", default="", help="regular expression on the names of kinds")
    p.add_argument("--ranks", help="directory with a tokenizer.json to make a rank file of")
    p.add_argument("models", nargs="*")
    p.set_defaults(run=check)
    p = commands.add_parser("cost")
    p.add_argument("--renga", required=True)
    p.add_argument("--only", default="")
    p.add_argument("models", nargs="*")
    p.set_defaults(run=cost)
    commands.add_parser("fixtures").set_defaults(run=fixtures)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
