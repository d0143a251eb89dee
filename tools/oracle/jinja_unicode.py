#!/usr/bin/env python3
"""Writes src/text/jinja_unicode_table.h: what Python's str knows about characters.

usage: jinja_unicode.py > src/text/jinja_unicode_table.h
The Unicode version is that of the Python that runs this (unicodedata.unidata_version).
"""
import sys
import unicodedata

ALL = [cp for cp in range(0x110000) if not 0xD800 <= cp <= 0xDFFF]


def ranges(test):
    out = []
    for cp in range(0x110000):
        if not (0xD800 <= cp <= 0xDFFF or test(cp)) or (0xD800 <= cp <= 0xDFFF and not test(cp)):
            continue
        if out and out[-1][1] == cp - 1:
            out[-1][1] = cp
        else:
            out.append([cp, cp])
    return out


def runs(mapping):
    """(first, last, step, delta) of code points that map to one other."""
    out = []
    for cp in sorted(mapping):
        delta = mapping[cp] - cp
        if out:
            first, last, step, d = out[-1]
            gap = cp - last
            if d == delta and gap in (1, 2) and (step in (0, gap)):
                out[-1] = (first, cp, gap, d)
                continue
        out.append((cp, cp, 0, delta))
    return [(a, b, s or 1, d) for a, b, s, d in out]


def emit(kind, name, rows, form, per_line):
    print(f"static const struct {kind} {name}[] = {{")
    for i in range(0, len(rows), per_line):
        print("    " + " ".join("{" + form(r) + "}," for r in rows[i:i + per_line]))
    print("};\n")


def is_cased(cp):
    c = chr(cp)
    # str.title() makes a letter after a cased one small: 'A' then shows what c is.
    return (c + "A").title()[-1] == "a"


def main():
    print("/* jinja_unicode_table.h - Python's str tables, Unicode "
          f"{unicodedata.unidata_version}.\n"
          " * Made by tools/oracle/jinja_unicode.py; do not edit.\n *\n"
          " * Ranges are sorted; a case run maps every step-th code point by delta; a long\n"
          " * mapping is one to several. */")
    print("#ifndef RG_TEXT_JINJA_UNICODE_TABLE_H\n#define RG_TEXT_JINJA_UNICODE_TABLE_H\n")
    print("/* clang-format off */")
    two = lambda r: f"0x{r[0]:X}, 0x{r[1]:X}"
    four = lambda r: f"0x{r[0]:X}, 0x{r[1]:X}, {r[2]}, {r[3]}"
    emit("range", "hidden", ranges(lambda cp: not chr(cp).isprintable()), two, 4)
    emit("range", "cased", ranges(is_cased), two, 4)
    for name, method in (("upper", str.upper), ("lower", str.lower), ("title", str.title)):
        one, many = {}, []
        for cp in ALL:
            got = method(chr(cp))
            if got == (chr(cp).upper() if name == "title" else chr(cp)):
                continue
            if len(got) == 1:
                one[cp] = ord(got)
            else:
                many.append((cp, [ord(x) for x in got]))
        emit("case_run", name + "_runs", runs(one), four, 3)
        form = lambda r: f"0x{r[0]:X}, {{" + ", ".join(f"0x{x:X}" for x in r[1]) + "}"
        emit("case_long", name + "_long", many, form, 3)
    print("/* clang-format on */\n#endif")


sys.exit(main())
