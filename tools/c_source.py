"""What tools/check_style and tools/check_layers know about C text.

Not a C parser: it relies on the house layout (a function's braces stand alone in column 0), which
.clang-format gives and check_style demands.
"""
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_TOKEN = re.compile(r"""
    (?P<block>/\*.*?\*/)
  | (?P<line>//[^\n]*)
  | (?P<string>"(?:\\.|[^"\\\n])*")
  | (?P<char>'(?:\\.|[^'\\\n])*')
""", re.S | re.X)


def files(*patterns):
    """Tracked files, and new ones that git does not ignore, that match one of the globs."""
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
                         cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(p for p in set(out.splitlines()) if (ROOT / p).is_file())


def read(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def blank(text, strings=True):
    """The text with comments (and the insides of literals) as spaces; lines stay where they are."""
    def spaces(m):
        s = m.group(0)
        if m.lastgroup in ("string", "char"):
            return s if not strings else s[0] + " " * (len(s) - 2) + s[-1]
        return "".join(c if c == "\n" else " " for c in s)
    return _TOKEN.sub(spaces, text)


def includes(text):
    """[(line number, '<' or '"', header)] of the text."""
    found = []
    for number, line in enumerate(blank(text, strings=False).split("\n"), 1):
        m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if m:
            found.append((number, m.group(1), m.group(2)))
    return found


class Function:
    def __init__(self, name, static, parameters, first, last, body):
        self.name = name
        self.static = static
        self.parameters = parameters
        self.first = first
        self.last = last
        self.body = body

    @property
    def lines(self):
        return self.last - self.first + 1

    @property
    def depth(self):
        """Blocks inside blocks; the function's own braces are 0, data braces don't count."""
        deepest, stack = 0, []
        previous = ""
        for token in re.findall(r"[{}]|\w+|[^\s\w]", self.body):
            if token == "{":
                stack.append(previous not in ("=", ",", "{", "(") or previous == ")")
                deepest = max(deepest, sum(stack) - 1)
            elif token == "}" and stack:
                stack.pop()
            previous = token
        return deepest

    @property
    def complexity(self):
        """McCabe's number with a switch counted once, as pmccabe does by default."""
        words = re.findall(r"\b(?:if|for|while|switch)\b|&&|\|\||\?", self.body)
        return 1 + len(words)


def _split_parameters(text):
    depth, count, seen = 0, 0, False
    for c in text:
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            count += 1
        seen = seen or not c.isspace()
    if not seen or text.strip() == "void":
        return 0
    return count + 1


def _signature(lines, brace):
    """First line and text of what stands above a '{' in column 0."""
    first = brace
    while first > 0:
        above = lines[first - 1]
        if not above.strip() or above.startswith("#") or above.rstrip().endswith((";", "}", "\\")):
            break
        first -= 1
    return first, " ".join(lines[first:brace])


def functions(text):
    lines = blank(text).split("\n")
    found = []
    for i, line in enumerate(lines):
        if line.rstrip() != "{":
            continue
        first, head = _signature(lines, i)
        head = re.sub(r"__attribute__\s*\(\(.*?\)\)\s*", "", head)
        head = re.sub(r"\bRG_(CHECKED|PRINTF\s*\([^()]*\))", " ", head)
        m = re.search(r"(\w+)\s*\(", head)
        if not m:
            continue
        depth, end = 1, m.end()
        while end < len(head) and depth:
            depth += {"(": 1, ")": -1}.get(head[end], 0)
            end += 1
        last = next((j for j in range(i + 1, len(lines)) if lines[j].startswith("}")), i)
        # A macro in front of the name, or as the name, is taken to hold the `static`.
        static = re.search(r"\b(static|[A-Z][A-Z0-9_]{2,})\b", head[:m.end()])
        found.append(Function(m.group(1), bool(static),
                              _split_parameters(head[m.end():end - 1]), first + 1, last + 1,
                              "\n".join(lines[i:last + 1])))
    return found
