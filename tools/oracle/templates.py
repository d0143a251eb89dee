#!/usr/bin/env python3
"""Compares `renga render` with jinja2, set up as transformers sets it up, on generated conversations.

    python3 -m venv build/oracle && build/oracle/bin/pip install jinja2==3.1.6
    build/oracle/bin/python tools/oracle/templates.py compare --templates DIR --renga build/release/renga
    build/oracle/bin/python tools/oracle/templates.py fixtures

compare   every *.jinja of DIR with --count conversations each; where jinja2 fails, renga must fail,
          and with the same message when the template raised it.
fixtures  writes tests/fixtures/templates/*.json: what jinja2 makes of template_cases.py.

Two things differ from transformers: lists and dicts of the request may be changed by a template
(append and pop are refused there, but circulating templates need them), and from_json exists.
"""
import argparse
import datetime
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

import conversations

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOW = 1753000000  # RENGA_NOW of every comparison
TOKENS = {"bos_token": "<s-bos>", "eos_token": "<s-eos>", "pad_token": None,
          "unk_token": {"content": "<s-unk>", "special": True}}


# ---- jinja2 as transformers has it -----------------------------------------------------------

class Generation(jinja2.ext.Extension):
    """{% generation %}: its body, in a scope of its own."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Environment(ImmutableSandboxedEnvironment):
    def is_safe_attribute(self, obj, attr, value):
        return not attr.startswith("_")


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


class Raised(jinja2.exceptions.TemplateError):
    """raise_exception() of a template."""


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def strftime_now(text):
    return datetime.datetime.fromtimestamp(NOW).strftime(text)


def environment():
    env = Environment(trim_blocks=True, lstrip_blocks=True,
                      extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.filters["from_json"] = json.loads
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    env.globals["namespace"] = Namespace
    return env


# ---- a request to variables ------------------------------------------------------------------

def without_nulls(d):
    return {k: v for k, v in d.items() if v is not None}


def prepare_call(call):
    call = without_nulls(call)
    if isinstance(call.get("function"), dict):
        has_arguments = "arguments" in call["function"]
        function = without_nulls(call["function"])
        arguments = call["function"].get("arguments")
        if has_arguments and arguments in ("", None):
            function["arguments"] = {}
        elif isinstance(arguments, str):
            try:
                parsed = json.loads(arguments)
            except ValueError:
                parsed = None
            if isinstance(parsed, dict):
                function["arguments"] = parsed
        call["function"] = function
    return call


def prepare_message(message):
    content = message.get("content")
    message = without_nulls(message)
    if content is None:
        message["content"] = ""
    elif isinstance(content, list):
        message["content"] = "".join(p if isinstance(p, str) else p["text"] for p in content)
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = [prepare_call(c) for c in message["tool_calls"]]
    names = ("reasoning_content", "thinking", "reasoning")
    found = [message[n] for n in names if n in message]
    if found:
        for n in names:
            message.setdefault(n, found[0])
    return message


def variables(request, tokens):
    out = {}
    for name, token in tokens.items():
        if isinstance(token, dict):
            token = token["content"]
        if token is not None:
            out[name] = token
    out["messages"] = [prepare_message(m) for m in request["messages"]]
    out["tools"] = request.get("tools")
    out["documents"] = request.get("documents")
    out["add_generation_prompt"] = True
    for name in ("enable_thinking", "reasoning_effort"):
        if request.get(name) is not None:
            out[name] = request[name]
    out.update(request.get("chat_template_kwargs") or {})
    return out


def oracle(template, request, tokens):
    """(text, None) or (None, message); the message is "" unless the template raised it."""
    try:
        return template.render(**variables(json.loads(json.dumps(request)), tokens)), None
    except Raised as e:
        return None, e.message or ""
    except Exception as e:  # every other failure is a wrong use of data
        return None, ""


# ---- compare ---------------------------------------------------------------------------------

def renga_render(renga, model_dir, request, *flags):
    env = dict(os.environ, RENGA_NOW=str(NOW))
    run = subprocess.run([renga, "render", model_dir, *flags], input=json.dumps(request).encode(),
                         env=env, capture_output=True)
    return run.returncode, run.stdout.decode(), run.stderr.decode()


def first_difference(a, b):
    n = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"at {n}: {a[max(0, n - 60):n + 60]!r}\n   renga: {b[max(0, n - 60):n + 60]!r}"


def check(renga, model_dir, template, request):
    """None, or what is wrong."""
    text, message = oracle(template, request, TOKENS)
    code, out, err = renga_render(renga, model_dir, request)
    if text is not None:
        if code != 0:
            return f"renga failed: {err.strip()}"
        return None if out == text else first_difference(text, out)
    if code == 0:
        return f"jinja2 failed ({message!r}), renga gave {len(out)} bytes"
    if code not in (1, 2):
        return f"exit code {code}: {err.strip()}"
    return None if message.split("\n")[0][:300] in err else f"message {message!r}: {err.strip()}"


def compare_one(args, path, env):
    source = path.read_bytes().decode()
    template = env.from_string(source)
    wrong = rendered = 0
    with tempfile.TemporaryDirectory() as model_dir:
        (pathlib.Path(model_dir) / "chat_template.jinja").write_bytes(path.read_bytes())
        (pathlib.Path(model_dir) / "tokenizer_config.json").write_text(json.dumps(TOKENS))
        for i in range(args.count):
            request = conversations.make(random.Random(f"{args.seed}/{path.name}/{i}"))
            why = check(args.renga, model_dir, template, request)
            rendered += oracle(template, request, TOKENS)[0] is not None
            if not why:
                continue
            wrong += 1
            if wrong <= args.show:
                print(f"  {path.name} #{i}: {why}")
                if args.keep:
                    pathlib.Path(args.keep).write_text(json.dumps(request, ensure_ascii=False))
    print(f"{path.name}: {args.count - wrong} of {args.count} equal ({rendered} rendered)",
          flush=True)
    return wrong


def compare(args):
    paths = sorted(pathlib.Path(args.templates).glob("*.jinja"))
    paths = [p for p in paths if re.search(args.only, p.name)]
    env = environment()
    wrong = sum(compare_one(args, p, env) for p in paths)
    print(f"{len(paths)} templates, {len(paths) * args.count} conversations, {wrong} differ")
    return 1 if wrong or not paths else 0


# ---- fixtures --------------------------------------------------------------------------------

def fixtures(_args):
    import template_cases
    out = ROOT / "tests/fixtures/templates"
    env = environment()
    rows = []
    for name, source in template_cases.cases():
        row = {"name": name, "template": source}
        try:
            values = json.loads(json.dumps(template_cases.V))
            row["expected"] = env.from_string(source).render(**values)
        except Raised as e:
            row["raises"] = e.message
        except Exception:
            row["fails"] = True
        rows.append(row)
    out.mkdir(parents=True, exist_ok=True)
    (out / "variables.json").write_text(json.dumps(template_cases.V, ensure_ascii=False) + "\n")
    write(out / "constructs.json", rows)
    rows = []
    for name, source in template_cases.templates():
        (out / name).mkdir(exist_ok=True)
        (out / name / "chat_template.jinja").write_text(source)
        (out / name / "tokenizer_config.json").write_text(json.dumps(TOKENS) + "\n")
        template = env.from_string(source)
        for i in range(25):
            request = conversations.make(random.Random(f"fixture/{name}/{i}"))
            text, message = oracle(template, request, TOKENS)
            result = {"expected": text} if text is not None else {"raises": message}
            rows.append({"name": f"{name} {i}", "model": name, "request": request, **result})
    write(out / "chats.json", rows)
    return 0


def write(path, rows):
    lines = ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{path.relative_to(ROOT)}: {len(rows)} cases, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("compare")
    p.add_argument("--templates", required=True)
    p.add_argument("--renga", required=True)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--seed", default="1")
    p.add_argument("--only", default="", help="regular expression on file names")
    p.add_argument("--show", type=int, default=3, help="differences shown per template")
    p.add_argument("--keep", help="file for the last request that differed")
    p.set_defaults(run=compare)
    commands.add_parser("fixtures").set_defaults(run=fixtures)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
