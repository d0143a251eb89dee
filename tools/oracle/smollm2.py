#!/usr/bin/env python3
"""What mlx-lm (float32) makes of SmolLM2: logits of a text and greedy answers to prompts.

usage: smollm2.py expected MODEL             writes tests/golden/smollm2_*.npy and _answers.json
       smollm2.py kl MODEL --binary RENGA    renga's logits against the full distributions

MODEL is the MLX checkpoint of SmolLM2-135M-Instruct that tools/demo makes.  `expected` needs
mlx[cpu] and mlx-lm (README.md).  The repository holds the 64 likeliest tokens of every position,
enough for tests/golden/smollm2.py; `kl` uses all 49,152 of them.
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm import load, stream_generate
from mlx_lm.sample_utils import make_sampler

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
TOP = 64
MAX_TOKENS = 64


def open_model(path):
    mx.set_default_device(mx.cpu)
    model, tokenizer = load(path)
    model.set_dtype(mx.float32)
    return model, tokenizer


def text_tokens(tokenizer):
    text = (GOLDEN / "smollm2_text.txt").read_text(encoding="utf-8")
    return tokenizer.encode(text, add_special_tokens=False)


def log_probabilities(logits):
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def oracle_log_probabilities(model, tokens):
    return log_probabilities(np.array(model(mx.array([tokens]))[0]))


def greedy_answer(model, tokenizer, prompt):
    ids = tokenizer.apply_chat_template([{"role": "user", "content": prompt}],
                                        add_generation_prompt=True, tokenize=True,
                                        return_dict=False)
    answer = []
    for step in stream_generate(model, tokenizer, ids, max_tokens=MAX_TOKENS,
                                sampler=make_sampler(temp=0.0)):
        if step.token not in tokenizer.eos_token_ids:
            answer.append(int(step.token))
    text = tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return {"prompt": prompt, "answer": text}


def write_expected(args):
    model, tokenizer = open_model(args.model)
    tokens = text_tokens(tokenizer)
    logp = oracle_log_probabilities(model, tokens)
    ids = np.argsort(-logp, axis=-1, kind="stable")[:, :TOP]
    following = [float(logp[i, t]) for i, t in enumerate(tokens[1:])]
    (GOLDEN / "smollm2_tokens.json").write_text(json.dumps(tokens) + "\n")
    np.save(GOLDEN / "smollm2_top_ids.npy", ids.astype("<i4"))
    np.save(GOLDEN / "smollm2_top_logp.npy", np.take_along_axis(logp, ids, -1).astype("<f4"))
    np.save(GOLDEN / "smollm2_next_logp.npy", np.array(following, "<f4"))
    prompts = json.loads((GOLDEN / "smollm2_prompts.json").read_text(encoding="utf-8"))
    answers = [greedy_answer(model, tokenizer, prompt) for prompt in prompts]
    (GOLDEN / "smollm2_answers.json").write_text(
        json.dumps({"max_tokens": MAX_TOKENS, "answers": answers}, indent=1, ensure_ascii=False)
        + "\n", encoding="utf-8")
    print(f"{len(tokens)} tokens, {len(answers)} answers, mean log-probability of the text "
          f"{np.mean(following):.3f}")


def compare(args):
    model, tokenizer = open_model(args.model)
    tokens = text_tokens(tokenizer)
    p = oracle_log_probabilities(model, tokens)
    with tempfile.TemporaryDirectory() as scratch:
        ids, out = Path(scratch) / "tokens.json", Path(scratch) / "logits.npy"
        ids.write_text(json.dumps(tokens))
        for activations in ("f32", "int8"):
            subprocess.run([args.binary, "eval", args.model, "--tokens", str(ids), "--logits",
                            str(out), "--activations", activations], check=True)
            q = log_probabilities(np.load(out))
            kl = (np.exp(p) * (p - q)).sum(axis=-1)
            same = (p.argmax(-1) == q.argmax(-1)).mean()
            print(f"{activations}: {len(tokens)} tokens, KL mean {kl.mean():.3e} median "
                  f"{np.median(kl):.3e} largest {kl.max():.3e} nats, greedy equal {same:.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    expected = commands.add_parser("expected")
    expected.set_defaults(run=write_expected)
    kl = commands.add_parser("kl")
    kl.add_argument("--binary", required=True)
    kl.set_defaults(run=compare)
    for command in (expected, kl):
        command.add_argument("model")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
