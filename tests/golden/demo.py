#!/usr/bin/env python3
"""config/demo-model: are its answers right, and does int8 say what f32 says?

usage: demo.py --binary build/release/renga [--model config/demo-model] [--filter TEXT] [--show]

Asked are the questions of demo_questions.json, greedy, with --activations int8 and f32.  Questions
without tools go through `renga serve`; those with tools through `renga render` and `renga eval`,
token by token, because a request with tools is not served yet.  demo_answers.json holds what mlx-lm
says to the same prompts (tools/oracle/demo_model.py wrote it): the prompts must be the same tokens
and the f32 answers the same words.  demo_text.json holds texts like those of the training that the
model has not seen: on them the two paths' distributions are compared.
"""
import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "api")]
from client import Failure, Server
from npy import read_npy

LEAST_RIGHT = 45
LEAST_TOKENS = 2000
MEAN_KL, LEAST_SAME = 4e-3, 0.97
MAX_TOKENS = 100
CALL = re.compile(r"<\|tool_call_begin\|>\s*functions\.(\w+):\d+\s*"
                  r"<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>", re.S)


# ---- what is right ----

def calls_in(text):
    return [{"name": name, "arguments": json.loads(arguments)} for name, arguments in CALL.findall(text)]


def is_right(accept, text):
    (kind, want), = accept.items()
    if kind == "contains":
        return all(part in text for part in want)
    if kind == "equals":
        return text.strip() in want
    try:
        return (json.loads(text) if kind == "json" else calls_in(text)) == want
    except ValueError:
        return False


def judge(questions, answers):
    """-> the ids of the wrongly answered"""
    return [q["id"] for q in questions if not is_right(q["accept"], answers[q["id"]])]


# ---- renga's answers ----

class Renga:
    def __init__(self, binary, model, scratch):
        self.binary, self.model, self.scratch = binary, str(model), Path(scratch)
        self.end = json.loads((Path(model) / "generation_config.json").read_text())["eos_token_id"]

    def run(self, *arguments, stdin=None):
        done = subprocess.run([self.binary, *arguments], input=stdin, capture_output=True, timeout=600)
        if done.returncode != 0:
            raise Failure(f"renga {arguments[0]}: exit {done.returncode}: {done.stderr[-300:]!r}")
        return done.stdout

    def prompt_ids(self, question):
        body = {k: question[k] for k in ("messages", "tools") if k in question}
        return json.loads(self.run("render", self.model, "--ids", stdin=json.dumps(body).encode()))

    def logits(self, ids, activations):
        """-> the vocabulary's size and the rows, one after another"""
        tokens, out = self.scratch / "tokens.json", self.scratch / "logits.npy"
        tokens.write_text(json.dumps(ids))
        self.run("eval", self.model, "--tokens", str(tokens), "--logits", str(out), "--activations", activations)
        (_, width), values = read_npy(out)
        return width, values

    def greedy_ids(self, prompt, activations, guess):
        """The guess is taken as far as it is what greedy decoding gives: one run, not one a token."""
        answer = []
        while len(answer) < MAX_TOKENS:
            ahead = guess[len(answer):] if guess[:len(answer)] == answer else []
            width, values = self.logits(prompt + answer + ahead, activations)
            for at in range(len(ahead) + 1):
                row = len(prompt) + len(answer) - 1
                scores = values[row * width:(row + 1) * width]
                token = max(range(width), key=scores.__getitem__)
                if token == self.end:
                    return answer
                answer.append(token)
                if at < len(ahead) and token != ahead[at]:
                    break
        return answer

    def text_of(self, ids):
        return self.run("tokenize", self.model, "--decode", stdin=json.dumps(ids).encode()).decode()


def answers_of(renga, questions, activations, expected):
    answers = {}
    server = Server(renga.binary, renga.model, ["--activations", activations])
    try:
        for q in questions:
            if "tools" in q:
                guess = expected.get(q["id"], {}).get("answer", [])
                answers[q["id"]] = renga.text_of(renga.greedy_ids(renga.prompt_ids(q), activations, guess))
            else:
                reply = server.chat(messages=q["messages"], max_tokens=MAX_TOKENS)
                answers[q["id"]] = reply["choices"][0]["message"]["content"]
    finally:
        server.stop()
    return answers


# ---- the checks ----

def check_prompts(renga, questions, expected):
    for q in questions:
        got = renga.prompt_ids(q)
        if got != expected[q["id"]]["prompt"]:
            raise Failure(f"{q['id']}: the prompt's tokens differ: {got}")
    return f"{len(questions)} prompts, the tokens of jinja2 and tiktoken"


def check_oracle(questions, expected):
    wrong = judge(questions, {i: one["text"] for i, one in expected.items()})
    right = len(questions) - len(wrong)
    if right < LEAST_RIGHT:
        raise Failure(f"mlx-lm answers {right} of {len(questions)} rightly, not {wrong}")
    return f"{right} of {len(questions)} right" + (f", not {', '.join(wrong)}" if wrong else "")


def check_answers(renga, questions, expected, activations, show):
    answers = answers_of(renga, questions, activations, expected)
    wrong = judge(questions, answers)
    right = len(questions) - len(wrong)
    if show:
        for q in questions:
            print(f"  {'no ' if q['id'] in wrong else '   '} {q['id']}: {answers[q['id']]!r}")
    if right < LEAST_RIGHT:
        raise Failure(f"{right} of {len(questions)} right, not {', '.join(wrong)}")
    other = [i for i in answers if expected and answers[i] != expected[i]["text"]]
    if other and activations == "f32":
        raise Failure(f"other words than mlx-lm's: {[(i, answers[i], expected[i]['text']) for i in other]}")
    return (f"{right} of {len(questions)} right, {len(answers) - len(other)} word for word mlx-lm's"
            + (f"; wrong: {', '.join(wrong)}" if wrong else ""))


def log_softmax(row):
    top = max(row)
    total = top + math.log(sum(map(math.exp, (x - top for x in row))))
    return [x - total for x in row]


def check_divergence(renga):
    kl = same = n = 0
    for ids in json.loads((HERE / "demo_text.json").read_text()):
        width, exact = renga.logits(ids, "f32")
        _, other = renga.logits(ids, "int8")
        for i in range(len(ids)):
            p = log_softmax(exact[i * width:(i + 1) * width])
            q = log_softmax(other[i * width:(i + 1) * width])
            kl += sum(math.exp(a) * (a - b) for a, b in zip(p, q) if a > -30)
            same += max(range(width), key=p.__getitem__) == max(range(width), key=q.__getitem__)
        n += len(ids)
    said = f"mean KL {kl / n:.2e} nats over {n} tokens, greedy equal {same / n:.2%}"
    if n < LEAST_TOKENS or not kl / n <= MEAN_KL or same / n < LEAST_SAME:
        raise Failure(said)
    return said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", type=Path, default=ROOT / "config" / "demo-model")
    parser.add_argument("--filter", default="", help="only the checks whose name has this")
    parser.add_argument("--show", action="store_true", help="print the answers")
    args = parser.parse_args()
    questions = json.loads((HERE / "demo_questions.json").read_text(encoding="utf-8"))["questions"]
    file = HERE / "demo_answers.json"
    expected = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        renga = Renga(args.binary, args.model, scratch)
        checks = [("prompts", lambda: check_prompts(renga, questions, expected)),
                  ("mlx-lm", lambda: check_oracle(questions, expected)),
                  ("answers int8", lambda: check_answers(renga, questions, expected, "int8", args.show)),
                  ("answers f32", lambda: check_answers(renga, questions, expected, "f32", args.show)),
                  ("divergence", lambda: check_divergence(renga))]
        for name, check in checks:
            if args.filter not in name:
                continue
            try:
                print(f"ok   demo model, {name}: {check()}", flush=True)
                passed += 1
            except (Failure, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as failure:
                print(f"FAIL demo model, {name}: {type(failure).__name__} {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
