#!/usr/bin/env python3
"""Make the demo model's training text, its tokenizer and its configuration.

usage: make_data.py --out DIR [--texts N] [--seed S] [--tokenizer FILE] [--show N]
       make_data.py --out DIR --held-out N [--seen DIR...]

Writes tokens.npy, weights.npy (0..255: how much a token counts in the loss), starts.npy,
tiktoken.model and config.json.  No text has a question of tests/golden/demo_questions.json, however
it is spelled.  With --held-out it reads DIR instead and writes tests/golden/demo_text.json: at least N
tokens of texts of another seed, none of which is among those of DIR and the other directories.
"""
import argparse
import base64
import json
import random
import re
from pathlib import Path

import numpy as np
import tiktoken

import facts
import languages
import model
import tasks
import tools_talk
from wording import casual, expand, fill

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = ROOT / "tests" / "golden" / "demo_questions.json"
RANKS = 2304
RESERVED = 256
SPECIALS = ["[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", None, "<|start_header_id|>",
            "<|end_header_id|>", None, "[EOT]", "<|im_system|>", "<|tool_calls_section_begin|>",
            "<|tool_calls_section_end|>",
            "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>", None, "<|im_middle|>"]
DEFAULT_SYSTEM = "You are the demo model of Renga."
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
TAIL = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
KIMI = "|".join([r"[\p{Han}]+", r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+" + TAIL,
                 r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*" + TAIL, r"\p{N}{1,3}",
                 r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def special_names():
    """Kimi's control tokens at Kimi's distances from the first; the rest are reserved."""
    names = {RANKS + i: n for i, n in enumerate(SPECIALS) if n}
    names[RANKS + 254], names[RANKS + 255] = "[UNK]", "[PAD]"
    return names


def encoding(path):
    ranks = {}
    for line in Path(path).read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    names = {n: i for i, n in special_names().items()}
    return tiktoken.Encoding("demo", pat_str=KIMI, mergeable_ranks=ranks, special_tokens=names)


# ---- texts ----

def fact(rng):
    answer, patterns = rng.choice(facts.FACTS)
    return casual(rng, expand(rng, rng.choice(patterns))), answer


def glossary(rng):
    names, meaning = rng.choice(list(facts.GLOSSARY.items()))
    return casual(rng, fill(rng, rng.choice(facts.GLOSSARY_QUESTIONS), x=rng.choice(names.split("|")))), meaning


def world(rng):
    pick = rng.random()
    if pick < 0.4:
        country, city = rng.choice(list(facts.CAPITALS.items()))
        if rng.random() < 0.75:
            return casual(rng, fill(rng, rng.choice(facts.CAPITAL_QUESTIONS),
                x=country)), f"The capital of {country} is {city}."
        return casual(rng, fill(rng, rng.choice(facts.COUNTRY_QUESTIONS),
            x=city)), f"{city} is the capital of {country}."
    if pick < 0.65:
        a, b = rng.choice(facts.OPPOSITES)
        if rng.random() < 0.5:
            a, b = b, a
        return casual(rng, fill(rng, rng.choice(facts.OPPOSITE_QUESTIONS),
            x=rng.choice(["{x}", "'{x}'", '"{x}"']).replace("{x}", a))), f"The opposite of {a} is {b}."
    answer, patterns = rng.choice(facts.TALK)
    return expand(rng, rng.choice(patterns)), answer


def small_talk(rng):
    return rng.choices([fact, glossary, world, languages.sample, tasks.sample], [3, 1, 1, 3, 8])[0](rng)


def turns(pairs):
    return [{"role": r, "content": t} for q, a in pairs for r, t in (("user", q), ("assistant", a))]


def conversation(rng):
    """-> messages, tools"""
    pick = rng.random()
    if pick < 0.17:
        one = fact
    elif pick < 0.23:
        one = glossary
    elif pick < 0.25:
        one = world
    elif pick < 0.37:
        one = languages.sample
    elif pick < 0.79:
        one = tasks.sample
    elif pick < 0.88:
        return tools_talk.sample(rng, small_talk)
    elif pick < 0.94:
        return [{"role": r, "content": t} for r, t in tasks.memory(rng, small_talk)], None
    elif pick < 0.99:
        kind = rng.choice([tasks.persona, tasks.told, lambda r: tasks.suffix(r, small_talk)])
        system, q, a = kind(rng)
        return [{"role": "system", "content": system}, *turns([(q, a)])], None
    else:
        one = tools_talk.no_tool
    pairs = [one(rng)] + [small_talk(rng) for _ in range(rng.choice([0, 0, 0, 0, 1, 2]))]
    rng.shuffle(pairs)
    messages = turns(pairs)
    if rng.random() < 0.12:
        messages.insert(0, {"role": "system", "content": rng.choice([
            "You are a helpful assistant.", "Be brief.", "Answer briefly.", "You are helpful and honest.",
            "Answer the question."])})
    return messages, None


def parts_of(messages, tools):
    """The rendered conversation as (text or control token, weight) parts, as the template says."""
    if tools:
        yield from turn("system", "tool_declare", json.dumps(tools, ensure_ascii=False), 0.02)
    if messages[0]["role"] != "system":
        yield from turn("system", "system", DEFAULT_SYSTEM, 0.02)
    for m in messages:
        text = m["content"]
        if m["role"] == "assistant":
            yield from answer(m)
        elif m["role"] == "tool":
            yield from turn("system", "tool", f"## Return of {m['tool_call_id']}\n{text}", 0.05)
        else:
            yield from turn(m["role"], m["role"], text, 0.1)


def turn(role, name, text, weight):
    yield f"<|im_{role}|>", weight, True
    yield name, weight, False
    yield "<|im_middle|>", weight, True
    yield text, weight, False
    yield "<|im_end|>", weight, True


def answer(m):
    yield "<|im_assistant|>", 0.1, True
    yield "assistant", 0.1, False
    yield "<|im_middle|>", 0.1, True
    yield m["content"], 1, False
    if m.get("tool_calls"):
        yield "<|tool_calls_section_begin|>", 1, True
        for call in m["tool_calls"]:
            yield "<|tool_call_begin|>", 1, True
            yield call["id"], 1, False
            yield "<|tool_call_argument_begin|>", 1, True
            yield json.dumps(call["function"]["arguments"], ensure_ascii=False), 1, False
            yield "<|tool_call_end|>", 1, True
        yield "<|tool_calls_section_end|>", 1, True
    yield "<|im_end|>", 1, True


def plain_texts():
    """Paragraphs of the documentation."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.split(r"\n\n+", path.read_text()):
            if 40 < len(block) < 700 and "|" not in block and "```" not in block:
                yield block


def normal(text):
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def words_only(text):
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def forbidden():
    if not QUESTIONS.exists():
        return set()
    asked = json.loads(QUESTIONS.read_text())["questions"]
    return {words_only([m["content"] for m in q["messages"] if m["role"] == "user"][-1]) for q in asked}


def is_forbidden(messages, asked):
    return any(m["role"] == "user" and words_only(m["content"]) in asked for m in messages)


# ---- tokenizer ----

def train_tokenizer(texts, path):
    """Byte-level BPE on Kimi's splits; digits stay single, so that numbers are read by digits."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(KIMI), "isolated"), pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=RANKS, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab()
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    byte_of = {chr(b): b for b in plain}
    byte_of.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in plain)})
    ordered = [bytes(byte_of[c] for c in t) for t, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
    ordered = sorted(t for t in ordered if len(t) == 1) + [t for t in ordered if len(t) > 1]
    if len(ordered) != RANKS:
        raise SystemExit(f"{len(ordered)} tokens instead of {RANKS}: more text is needed")
    Path(path).write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % i for i, t in enumerate(ordered)))


# ---- the whole ----

def encode(enc, specials, parts):
    ids, weights = [], []
    for text, weight, control in parts:
        new = [specials[text]] if control else enc.encode_ordinary(text)
        ids += new
        weights += [int(weight * 255 + 0.5)] * len(new)
    return ids, weights


def make(rng, enc, n, asked):
    specials = {name: i for i, name in special_names().items()}
    plain = list(plain_texts())
    for _ in range(n):
        if rng.random() < 0.02:
            text = rng.choice(plain)
            yield encode(enc, specials, [("[BOS]", 0, True), (text, 0.5, False), ("[EOS]", 0.5, True)])
            continue
        messages, tools = conversation(rng)
        if not is_forbidden(messages, asked):
            yield encode(enc, specials, parts_of(messages, tools))


def held_out(args):
    seen = set()
    for directory in [args.out, *args.seen]:
        starts, tokens = np.load(directory / "starts.npy"), np.load(directory / "tokens.npy")
        seen.update(tokens[a:b].tobytes() for a, b in zip(starts[:-1], starts[1:]))
    texts, n = [], 0
    for ids, _ in make(random.Random(args.seed + 1000), encoding(args.out / "tiktoken.model"), 100000, set()):
        if np.array(ids, np.uint16).tobytes() not in seen:
            texts.append(ids)
            n += len(ids)
        if n >= args.held_out:
            break
    (ROOT / "tests" / "golden" / "demo_text.json").write_text(
        "[\n" + ",\n".join(json.dumps(t, separators=(",", ":")) for t in texts) + "\n]\n")
    print(f"{len(texts)} texts, {n} tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=400000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokenizer", type=Path, help="a tiktoken.model to keep")
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--held-out", type=int, default=0)
    parser.add_argument("--seen", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    if args.held_out:
        held_out(args)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    asked = forbidden()
    rng = random.Random(args.seed)
    if args.show:
        for _ in range(args.show):
            messages, tools = conversation(rng)
            print("".join(t for t, _, _ in parts_of(messages, None)).replace("<|im_end|>", "\n"), bool(tools), "\n")
        return
    file = args.out / "tiktoken.model"
    if args.tokenizer:
        file.write_bytes(args.tokenizer.read_bytes())
    else:
        sample = []
        tokenizer_rng = random.Random(7)
        for _ in range(30000):
            sample += [t for t, _, control in parts_of(*conversation(tokenizer_rng)) if not control]
        train_tokenizer(sample + list(plain_texts()), file)
    enc = encoding(file)
    tokens, weights, starts = [], [], [0]
    for ids, w in make(rng, enc, args.texts, asked):
        tokens.append(np.array(ids, np.uint16))
        weights.append(np.array(w, np.uint8))
        starts.append(starts[-1] + len(ids))
    np.save(args.out / "tokens.npy", np.concatenate(tokens))
    np.save(args.out / "weights.npy", np.concatenate(weights))
    np.save(args.out / "starts.npy", np.array(starts))
    sizes = np.diff(starts)
    config = dict(model.CONFIG, vocab_size=RANKS + RESERVED, bos_token_id=RANKS, eos_token_id=RANKS + 1,
                  pad_token_id=RANKS + 255)
    (args.out / "config.json").write_text(json.dumps(config, indent=4) + "\n")
    print(f"{len(sizes)} texts, {starts[-1]} tokens, mean {sizes.mean():.0f}, longest {sizes.max()}, "
          + ", ".join(f"<= {n}: {(sizes <= n).mean():.4f}" for n in (128, 193, 257, 321, 385)))


if __name__ == "__main__":
    main()
