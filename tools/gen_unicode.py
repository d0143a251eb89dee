#!/usr/bin/env python3
"""Makes src/text/unicode_data.c and src/text/nfc_data.c by asking Hugging Face's tokenizers.

The tables must agree with the reference, whose parts have tables of different age, so every property
is probed there, character by character; Python's own tables (Unicode 14 in Python 3.11, the version of
PCRE2 10.42) say only what to ask and which characters are younger.

    python3.11 -m venv v && v/bin/pip install tokenizers==0.23.3 && v/bin/python tools/gen_unicode.py
"""

import pathlib
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

OUT = pathlib.Path(__file__).resolve().parent.parent / "src" / "text"
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HEAD = ("/* {name} - {what}\n * Made by tools/gen_unicode.py; do not edit.  Size rules do not apply: "
        "generated table. */\n")

def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def pieces(pre_tokenizer, points):
    for at in range(0, len(points), 4096):
        text = "a" + "a".join(map(chr, points[at:at + 4096])) + "a"
        for piece, _ in pre_tokenizer.pre_tokenize_str(text):
            yield piece


def matching(pre_tokenizer, points):
    """Those of points that are in the pieces of 'a'-separated text."""
    found = set()
    for piece in pieces(pre_tokenizer, points):
        found.update(ord(c) for c in piece)
    return found & set(points)


def regex_class(pattern, points):
    return matching(pre_tokenizers.Split(Regex(pattern), "removed", invert=True), points)


def rows(items, per_line):
    lines = []
    for at in range(0, len(items), per_line):
        lines.append("    " + ", ".join(items[at:at + per_line]) + ",")
    return "\n".join(lines)


def range_rows(points):
    return rows([f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(points)], 5)


def younger_classes():
    """[(code point, class)] of what the reference knows and Unicode 14 does not."""
    unknown = [c for c in SCALARS if unicodedata.category(chr(c)) == "Cn"]
    out = {}
    for name in ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So "
                 "Zs Zl Zp Cf").split():
        for c in regex_class(r"\p{%s}" % name, unknown):
            out[c] = name
    for c in regex_class(r"\p{Han}", unknown):
        out[c] = "Han" if out.get(c) == "Lo" else out[c]
    return out


def proxy_rows():
    """For runs of younger characters the nearest older one of the same class and UTF-8 length: the
    nearest also stands in the same ranges that a pattern writes out, such as [\u0e80-\u0eff]."""
    classes = younger_classes()
    han = regex_class(r"\p{Han}", SCALARS)
    older = {}
    for c in SCALARS:
        name = unicodedata.category(chr(c))
        if name != "Cn":
            key = ("Han" if name == "Lo" and c in han else name, len(chr(c).encode()))
            older.setdefault(key, []).append(c)
    out = []
    for name in sorted(set(classes.values())):
        for a, b in ranges(c for c in classes if classes[c] == name):
            candidates = older[(name, len(chr(a).encode()))]
            out.append((a, b, min(candidates, key=lambda c: (abs(c - a), c))))
    return rows([f"{{0x{a:X}, 0x{b:X}, 0x{p:X}}}" for a, b, p in sorted(out)], 3)


def word_points():
    """Characters that keep an added token with single_word from matching beside them."""
    t = Tokenizer(models.BPE())
    t.add_tokens([AddedToken("<X>", single_word=True, normalized=False)])
    found = set()
    for at in range(0, len(SCALARS), 65536):
        part = SCALARS[at:at + 65536]
        for c, e in zip(part, t.encode_batch([chr(c) + "<X>" for c in part])):
            if not e.ids:
                found.add(c)
    return found


def unicode_data():
    punctuation = matching(pre_tokenizers.Punctuation("removed"), SCALARS)
    punctuation = set(SCALARS) - punctuation  # removed pieces are what is missing
    text = HEAD.format(name="unicode_data.c", what="character classes of Hugging Face's tokenizers.")
    text += '#include "text/unicode.h"\n\n'
    text += "const struct rg_code_proxy rg_code_proxies[] = {\n" + proxy_rows() + "\n};\n"
    text += ("const size_t rg_n_code_proxies = sizeof rg_code_proxies / sizeof rg_code_proxies[0];\n\n")
    numeric = {ord(p) for p in pieces(pre_tokenizers.Digits(True), SCALARS) if len(p) == 1} - {ord("a")}
    for name, points in (("punctuation", punctuation), ("numeric", numeric), ("word", word_points())):
        text += f"const struct rg_code_range rg_{name}[] = {{\n{range_rows(points)}\n}};\n"
        text += f"const size_t rg_n_{name} = sizeof rg_{name} / sizeof rg_{name}[0];\n\n"
    (OUT / "unicode_data.c").write_text(text.rstrip("\n") + "\n")


def combining_classes(nfc):
    """{code point: class} as the reference orders them."""
    out = {}
    for c in SCALARS:
        k = unicodedata.combining(chr(c))
        if k == 0:
            continue
        # U+0334 has class 1 and U+0345 class 240: the character must move against one of them.
        before = nfc.normalize_str("q" + chr(c) + "\u0334")
        after = nfc.normalize_str("q\u0345" + chr(c))
        plain = unicodedata.normalize("NFD", chr(c))
        if (k > 1 and before == "q\u0334" + plain) or (k < 240 and after == "q" + plain + "\u0345"):
            out[c] = k
        elif c == 0x345:
            out[c] = 240
    return out


def decompositions(nfd):
    out = {}
    for c in SCALARS:
        if 0xAC00 <= c < 0xD7A4:
            continue
        d = unicodedata.decomposition(chr(c))
        if not d or d.startswith("<") or nfd.normalize_str(chr(c)) == chr(c):
            continue
        parts = [int(x, 16) for x in d.split()]
        out[c] = (parts + [0])[:2]
    return out


def nfc_data():
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    classes = combining_classes(nfc)
    split = decompositions(nfd)
    joined = {c: p for c, p in split.items() if p[1] and nfc.normalize_str(chr(c)) == chr(c)}
    # Not inert: moves, changes, or may join a character before it.
    moving = set(classes) | (set(split) - set(joined)) | {p[1] for p in joined.values()}
    moving |= set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    class_rows = []
    for a, b in ranges(classes):
        start = a
        for c in range(a, b + 2):
            if c > b or classes[c] != classes[start]:
                class_rows.append(f"{{0x{start:X}, 0x{c - 1:X}, {classes[start]}}}")
                start = c
    text = HEAD.format(name="nfc_data.c", what="canonical composition, as Hugging Face's NFC has it.")
    text += '#include "text/nfc_data.h"\n\n'
    text += "const struct rg_nfc_class rg_nfc_classes[] = {\n" + rows(class_rows, 5) + "\n};\n"
    text += "const size_t rg_n_nfc_classes = sizeof rg_nfc_classes / sizeof rg_nfc_classes[0];\n\n"
    text += "const struct rg_nfc_pair rg_nfc_splits[] = {\n"
    text += rows([f"{{0x{c:X}, 0x{a:X}, 0x{b:X}}}" for c, (a, b) in sorted(split.items())], 4)
    text += "\n};\nconst size_t rg_n_nfc_splits = sizeof rg_nfc_splits / sizeof rg_nfc_splits[0];\n\n"
    text += "const struct rg_nfc_pair rg_nfc_joins[] = {\n"
    order = sorted(joined.items(), key=lambda item: item[1])
    text += rows([f"{{0x{c:X}, 0x{a:X}, 0x{b:X}}}" for c, (a, b) in order], 4)
    text += "\n};\nconst size_t rg_n_nfc_joins = sizeof rg_nfc_joins / sizeof rg_nfc_joins[0];\n\n"
    text += f"const struct rg_code_range rg_nfc_moving[] = {{\n{range_rows(moving)}\n}};\n"
    text += "const size_t rg_n_nfc_moving = sizeof rg_nfc_moving / sizeof rg_nfc_moving[0];\n"
    (OUT / "nfc_data.c").write_text(text)


if __name__ == "__main__":
    assert unicodedata.unidata_version == "14.0.0", "run it with Python 3.11: PCRE2's tables"
    unicode_data()
    nfc_data()
