#!/usr/bin/env python3
"""What mlx-lm (float32) answers to the questions of the demo model.

usage: demo_model.py [MODEL]          writes tests/golden/demo_answers.json (config/demo-model)

The weights are loaded by mlx-lm, the prompt is rendered by jinja2 with the model's own template and
tokenised by tiktoken with the model's own ranks; the answers are greedy.  Needs mlx[cpu], mlx-lm,
jinja2 and tiktoken.
"""
import base64
import json
import sys
from pathlib import Path

import jinja2
import mlx.core as mx
import tiktoken
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MAX_TOKENS = 100
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
TAIL = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
KIMI = "|".join([r"[\p{Han}]+", r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+" + TAIL,
                 r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*" + TAIL, r"\p{N}{1,3}",
                 r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def open_tokenizer(model):
    ranks = {}
    for line in (model / "tiktoken.model").read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    added = json.loads((model / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    special = {one["content"]: int(i) for i, one in added.items()}
    return tiktoken.Encoding("demo", pat_str=KIMI, mergeable_ranks=ranks, special_tokens=special)


def open_template(model):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
    return environment.from_string((model / "chat_template.jinja").read_text(encoding="utf-8"))


def prepared(message):
    """Arguments in text become the object that they hold, as every client of a template does."""
    message = json.loads(json.dumps(message))
    for call in message.get("tool_calls", []):
        if isinstance(call["function"]["arguments"], str):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return message


def answer(model, end, prompt):
    out = []
    for token, _ in generate_step(mx.array(prompt), model, max_tokens=MAX_TOKENS):
        if int(token) == end:
            break
        out.append(int(token))
    return out


def main():
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "config" / "demo-model"
    mx.set_default_device(mx.cpu)
    model, _ = load_model(path)
    model.set_dtype(mx.float32)
    tokenizer, template = open_tokenizer(path), open_template(path)
    end = json.loads((path / "generation_config.json").read_text())["eos_token_id"]
    questions = json.loads((GOLDEN / "demo_questions.json").read_text(encoding="utf-8"))["questions"]
    rows = {}
    for q in questions:
        prompt = template.render(messages=[prepared(m) for m in q["messages"]],
                                 tools=q.get("tools"), add_generation_prompt=True)
        ids = tokenizer.encode(prompt, allowed_special="all")
        said = answer(model, end, ids)
        rows[q["id"]] = {"prompt": ids, "answer": said, "text": tokenizer.decode(said)}
        print(f"{q['id']}: {rows[q['id']]['text']!r}", flush=True)
    text = ",\n".join(f" {json.dumps(i)}: {json.dumps(row, ensure_ascii=False)}" for i, row in rows.items())
    (GOLDEN / "demo_answers.json").write_text("{\n" + text + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
