#!/usr/bin/env python3
"""What content may do to a prompt, and what a long prompt costs, for every template of a directory.

    python tools/oracle/template_trust.py trust --templates DIR --renga RENGA [--count N]
    python tools/oracle/template_trust.py cost --templates DIR --renga RENGA --tokenizer MODEL_DIR

trust  gives each template a tokenizer whose control tokens are the special strings of its own text,
       and puts these strings into every string of a conversation: contents, parts, names, ids,
       descriptions, arguments (keys too), results, reasoning, documents.  A second conversation has
       harmless twins in their place.  Both must give the same control tokens; the harmless one must
       give all that are in its text.  Where a template looks for such a string in a content (most
       search for </think>), the texts differ; then the control tokens must be those that lie in the
       template's own bytes.  In both cases no byte of a content may be marked as the template's.
cost   renders and tokenises 1 MB as one message, as 1,000 messages, and as tools; prints the
       processor seconds beyond those of a short conversation.
"""
import argparse
import json
import pathlib
import random
import re
import resource
import subprocess
import sys
import tempfile

import conversations
from templates import TOKENS, renga_render

SPECIAL = re.compile(r"<\|[^|<>{}\n]{1,40}\|>|<｜[^｜<>{}\n]{1,40}｜>|</?[A-Za-z][A-Za-z0-9_:]{1,30}>"
                     r"|\[/?[A-Z_]{3,30}\]")
ROLES = ("system", "developer", "user", "assistant", "tool")
MARK = "⟪"  # begins every string of a user; no template has it
STRUCTURE = ("role", "type")  # strings that templates compare, and the API checks


# ---- a tokenizer with the template's control tokens --------------------------------------------

def specials(source):
    found = set(SPECIAL.findall(source))
    found |= {t["content"] if isinstance(t, dict) else t for t in TOKENS.values() if t}
    if re.search(r"<\|['\"{]", source):  # put together from a role
        found |= {f"<|{role}|>" for role in ROLES}
    return sorted(found)


def byte_level_vocab():
    chars, n = [], 0
    for b in range(256):
        printable = 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b
        chars.append(chr(b if printable else 0x100 + n))
        n += not printable
    return {c: i for i, c in enumerate(chars)}


def write_model(directory, path, names):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    source = path.read_text()
    # One that is not special is a control token because the template writes it.
    added = [{"id": 256 + i, "content": s, "special": i % 2 == 0 or s not in source, **flags}
             for i, s in enumerate(names)]
    step = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False, "trim_offsets": True}
    (directory / "chat_template.jinja").write_bytes(path.read_bytes())
    (directory / "tokenizer_config.json").write_text(json.dumps(TOKENS))
    (directory / "tokenizer.json").write_text(json.dumps({
        "added_tokens": added, "normalizer": None, "pre_tokenizer": step, "decoder": step,
        "model": {"type": "BPE", "vocab": byte_level_vocab(), "merges": []}}))


# ---- conversations ------------------------------------------------------------------------------

def infect(r, x, names, key=None, rename=False):
    """x with control-token look-alikes in every string, and in the keys of arguments and schemas."""
    def spoil(s):
        return MARK + r.choice(names) + s + r.choice(names) if r.random() < 0.9 else MARK + s

    if isinstance(x, str):
        if key in STRUCTURE:
            return x
        if key == "arguments":
            try:
                return json.dumps(infect(r, json.loads(x), names, None, True), ensure_ascii=False)
            except ValueError:
                pass
        return spoil(x)
    if isinstance(x, list):
        return [infect(r, v, names, key, rename) for v in x]
    if isinstance(x, dict):
        out = {}
        for k, v in x.items():
            inner = rename or k in ("arguments", "properties")
            out[spoil(k) if rename and k not in STRUCTURE else k] = infect(r, v, names, k, inner)
        return out
    return x


def twin(name):
    """As long, and no control token."""
    at = len(name) // 2
    return name[:at] + ("ǂ" if name[at].isascii() else "一") + name[at + 1:]


def with_twins(text, names):
    """Every place where a name stands, also inside another."""
    pattern = "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
    while True:
        changed = re.sub(pattern, lambda m: twin(m.group()), text)
        if changed == text:
            return text
        text = changed


def twins_in(x, names, key=None):
    if isinstance(x, str):
        if key == "arguments":  # JSON may write a name otherwise: <|\"|>
            try:
                return json.dumps(twins_in(json.loads(x), names), ensure_ascii=False)
            except ValueError:
                pass
        return with_twins(x, names)
    if isinstance(x, list):
        return [twins_in(v, names) for v in x]
    if isinstance(x, dict):
        return {with_twins(k, names): twins_in(v, names, k) for k, v in x.items()}
    return x


def conversation(r, names):
    request = conversations.make(r)
    for key in ("messages", "tools", "documents", "chat_template_kwargs"):
        if key in request:
            request[key] = infect(r, request[key], names)
    return request, twins_in(request, names)


# ---- what came out ------------------------------------------------------------------------------

def run(renga, command, directory, data, *flags):
    done = subprocess.run([renga, command, str(directory), *flags], input=data, capture_output=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def in_trusted(spans, names):
    """The control tokens whose bytes all lie in trusted spans, leftmost and longest first."""
    text = "".join(s["text"] for s in spans)
    trusted = bytearray()
    for s in spans:
        trusted += bytes([s["trusted"]]) * len(s["text"])
    pattern = re.compile("|".join(re.escape(n) for n in sorted(names, key=len, reverse=True)))
    found, at = [], 0
    while m := pattern.search(text, at):
        whole = all(trusted[m.start():m.end()])
        if whole:
            found.append(256 + names.index(m.group()))
        at = m.end() if whole else m.start() + 1
    return found


def controls(ids):
    return [i for i in ids if i >= 256]


def judge(renga, directory, names, spoilt, harmless):
    """(kind, what is wrong); kinds: refused, equal, looks."""
    body = [json.dumps(x, ensure_ascii=False).encode() for x in (spoilt, harmless)]
    spans = [run(renga, "render", directory, b, "--spans") for b in body]
    if spans[0] is None:
        return "refused", None
    ids = [run(renga, "render", directory, b, "--ids") for b in body]
    text = ["".join(s["text"] for s in p) if p is not None else None for p in spans]
    leaked = [s["text"] for s in spans[0] if s["trusted"] and (MARK in s["text"] or "ǂ" in s["text"])]
    if leaked:
        return "equal", f"trusted content: {leaked[0][:80]!r}"
    have = controls(ids[0])
    if have != in_trusted(spans[0], names):
        return "looks", f"control tokens outside of the template's bytes: {have}"
    if text[1] is None or not same_shape(text, names):
        return "looks", None
    if have != controls(ids[1]):
        return "equal", f"{len(have)} control tokens, {len(controls(ids[1]))} without look-alikes"
    plain = run(renga, "tokenize", directory, text[1].encode(), "--special")
    if ids[1] != plain:
        return "equal", f"control tokens of the template are lost: {len(controls(ids[1]))} of " \
                        f"{len(controls(plain))}"
    return "equal", None


def same_shape(text, names):
    return with_twins(text[0], names) == with_twins(text[1], names)


def trust_one(args, path):
    source = path.read_bytes().decode()
    names = specials(source)
    counts = {"refused": 0, "equal": 0, "looks": 0}
    tokens = wrong = i = 0
    with tempfile.TemporaryDirectory() as tmp:
        directory = pathlib.Path(tmp)
        write_model(directory, path, names)
        while counts["equal"] + counts["looks"] < args.count and i < 20 * args.count:
            spoilt, harmless = conversation(random.Random(f"{args.seed}/{path.name}/{i}"), names)
            kind, why = judge(args.renga, directory, names, spoilt, harmless)
            counts[kind] += 1
            if why:
                wrong += 1
                if wrong <= args.show:
                    print(f"  {path.name} #{i}: {why}")
            i += 1
    print(f"{path.name}: {len(names)} control tokens; {counts['equal']} conversations equal to their "
          f"twins, {counts['looks']} where the template looks into a content, {counts['refused']} "
          f"refused; {wrong} wrong", flush=True)
    return wrong


def trust(args):
    paths = [p for p in sorted(pathlib.Path(args.templates).glob("*.jinja")) if re.search(args.only, p.name)]
    wrong = sum(trust_one(args, p) for p in paths)
    print(f"{len(paths)} templates, {wrong} wrong")
    return 1 if wrong or not paths else 0


# ---- cost ---------------------------------------------------------------------------------------

def kilobyte(r):
    words = ["the", "number", "of", "things", "naïve", "x = f(y);", "日本語", "42", "\n", "and", "so", "on."]
    text = ""
    while len(text.encode()) < 1000:
        text += r.choice(words) + " "
    return text


def shapes():
    r = random.Random(1)
    user = {"role": "user", "content": "Hello"}
    turns = [{"role": ("user", "assistant")[i % 2], "content": kilobyte(r)} for i in range(999)]
    tools = [tool(r, i, 900) for i in range(500)]
    return {"short": {"messages": [user]},
            "one": {"messages": [{"role": "user", "content": "".join(kilobyte(r) for _ in range(1024))}]},
            "many": {"messages": turns},
            "tools": {"messages": [user], "tools": tools}}


def tool(r, i, size):
    properties = {k: {"type": "string", "description": kilobyte(r)[:size // 2]} for k in "ab"}
    return {"type": "function", "function": {
        "name": f"tool_{i}", "description": kilobyte(r)[:size],
        "parameters": {"type": "object", "required": ["a"], "properties": properties}}}


def seconds(renga, directory, request):
    """Processor seconds, the best of two, or the message of the failure."""
    best = None
    for _ in range(2):
        begin = processor()
        code, _, err = renga_render(renga, directory, request, "--ids")
        took = processor() - begin
        if code:
            return err.strip()[-100:]
        best = took if best is None else min(best, took)
    return best


def processor():
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime


def any_seconds(renga, directory, request):
    """Also for templates that insist on tools, or want them as text in a variable of their own."""
    took = seconds(renga, directory, request)
    if isinstance(took, str):
        tools = request.get("tools", [tool(random.Random(2), 0, 100)])
        more = {"functions": json.dumps(tools), "datetime": "now"}
        took = min(took, seconds(renga, directory, {**request, "tools": tools}), key=lambda t: isinstance(t, str))
        if isinstance(took, str):
            took = seconds(renga, directory, {"messages": request["messages"], "chat_template_kwargs": more})
    return took


def cost_one(args, path, requests):
    with tempfile.TemporaryDirectory() as tmp:
        directory = pathlib.Path(tmp)
        (directory / "chat_template.jinja").write_bytes(path.read_bytes())
        (directory / "tokenizer_config.json").write_text(json.dumps(TOKENS))
        (directory / "tokenizer.json").symlink_to((pathlib.Path(args.tokenizer) / "tokenizer.json").resolve())
        took = {name: any_seconds(args.renga, tmp, request) for name, request in requests.items()}
    base = took.pop("short")
    row = {k: v if isinstance(v, str) or isinstance(base, str) else max(0.0, v - base) for k, v in took.items()}
    print(f"{path.name}: " + ", ".join(f"{k} {v if isinstance(v, str) else f'{v:.2f}'}" for k, v in row.items()),
          flush=True)
    return row


def cost(args):
    paths = [p for p in sorted(pathlib.Path(args.templates).glob("*.jinja")) if re.search(args.only, p.name)]
    requests = shapes()
    print({k: len(json.dumps(v, ensure_ascii=False).encode()) for k, v in requests.items()}, "bytes")
    rows = [cost_one(args, p, requests) for p in paths]
    for name in ("one", "many", "tools"):
        values = [r[name] for r in rows if not isinstance(r[name], str)]
        print(f"{name}: {len(values)} rendered, at most {max(values, default=0):.2f} s, "
              f"{sum(v > 1 for v in values)} over 1 s")
    return 0 if rows else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("trust", trust), ("cost", cost)):
        p = commands.add_parser(name)
        p.add_argument("--templates", required=True)
        p.add_argument("--renga", required=True)
        p.add_argument("--only", default="", help="regular expression on file names")
        p.set_defaults(run=function)
        if name == "trust":
            p.add_argument("--count", type=int, default=100)
            p.add_argument("--seed", default="1")
            p.add_argument("--show", type=int, default=3, help="wrong ones shown per template")
        else:
            p.add_argument("--tokenizer", required=True, help="a directory with tokenizer.json")
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
