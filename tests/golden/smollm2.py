#!/usr/bin/env python3
"""SmolLM2, a real model: renga against what mlx-lm (float32) made of it.

usage: smollm2.py --binary build/release/renga --model DIR [--runner COMMAND]

The expected files were written by tools/oracle/smollm2.py.  Checked are the tokens of the text,
every position's next-token distribution on --activations f32 and int8, and the greedy answers to
the prompts on f32, word for word.  The divergence is that of the 64 likeliest tokens and one bin
for all others, so it is a little below the full KL that tools/oracle/smollm2.py measures.
"""
import argparse
import json
import math
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from npy import read_npy, read_rows

MEAN_KL = {"f32": 1e-6, "int8": 3e-3}
LEAST_TOKENS = 500
LEAST_PROMPTS = 20
TIE = 1e-4  # difference of log-probabilities under which either greedy token is right


class Failure(Exception):
    """What differed."""


def run(command, **options):
    done = subprocess.run(command, capture_output=True, timeout=1200, **options)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Failure(f"{' '.join(command[-6:])}: exit {done.returncode}: {said}")
    return done.stdout


def check_tokens(renga, model):
    got = json.loads(run(renga + ["tokenize", model],
                         input=(HERE / "smollm2_text.txt").read_bytes()))
    want = json.loads((HERE / "smollm2_tokens.json").read_text())
    if got != want:
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        raise Failure(f"token {at} differs ({len(got)} tokens, expected {len(want)})")
    if len(want) < LEAST_TOKENS:
        raise Failure(f"{len(want)} tokens are too few to judge by")
    return f"{len(want)} tokens"


def log_sum_exp(row):
    top = max(row)
    return top + math.log(sum(map(math.exp, (x - top for x in row))))


def coarse_divergence(ids, want, row):
    """KL over the listed tokens and one bin for the rest; want: log-probabilities of the list."""
    total = log_sum_exp(row)
    kl, rest_p, rest_q = 0.0, 1.0, 1.0
    for token, p in zip(ids, want):
        q = row[token] - total
        kl += math.exp(p) * (p - q)
        rest_p -= math.exp(p)
        rest_q -= math.exp(q)
    if rest_p > 1e-6 and rest_q > 1e-9:
        kl += rest_p * math.log(rest_p / rest_q)
    return kl


def check_logits(renga, model, activations, scratch):
    out = Path(scratch) / "logits.npy"
    run(renga + ["eval", model, "--tokens", str(HERE / "smollm2_tokens.json"), "--logits", str(out),
                 "--activations", activations])
    ids, want = read_rows(HERE / "smollm2_top_ids.npy"), read_rows(HERE / "smollm2_top_logp.npy")
    (n, width), logits = read_npy(out)
    if n != len(ids):
        raise Failure(f"{n} rows, expected {len(ids)}")
    kl, same = 0.0, 0
    for i in range(n):
        row = logits[i * width:(i + 1) * width]
        kl += coarse_divergence(ids[i], want[i], row)
        greedy = max(range(width), key=row.__getitem__)
        same += greedy == ids[i][0]
        tie = want[i][0] - want[i][1] < TIE
        if activations == "f32" and greedy != ids[i][0] and not tie:
            raise Failure(f"position {i}: greedy {greedy}, expected {ids[i][0]}")
    if not kl / n <= MEAN_KL[activations]:
        raise Failure(f"mean KL {kl / n:.2e} nats, allowed {MEAN_KL[activations]:.0e}")
    return f"mean KL {kl / n:.1e} nats over {n} tokens, greedy equal {same / n:.1%}"


def check_answers(renga, model):
    expected = json.loads((HERE / "smollm2_answers.json").read_text(encoding="utf-8"))
    if len(expected["answers"]) < LEAST_PROMPTS:
        raise Failure(f"{len(expected['answers'])} prompts are too few")
    for one in expected["answers"]:
        got = run(renga + ["run", model, "--prompt", one["prompt"], "--temperature", "0",
                           "--max-tokens", str(expected["max_tokens"]), "--activations", "f32"])
        got = got.decode("utf-8")
        if got.removesuffix("\n") != one["answer"]:
            raise Failure(f"{one['prompt']!r}: answered {got!r}, expected {one['answer']!r}")
    return f"{len(expected['answers'])} answers word for word"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True, help="the MLX checkpoint of SmolLM2")
    parser.add_argument("--runner", default="", help="a command before the binary, e.g. qemu")
    args = parser.parse_args()
    renga = shlex.split(args.runner) + [args.binary]
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        checks = [("text", lambda: check_tokens(renga, args.model)),
                  ("f32", lambda: check_logits(renga, args.model, "f32", scratch)),
                  ("int8", lambda: check_logits(renga, args.model, "int8", scratch)),
                  ("answers", lambda: check_answers(renga, args.model))]
        for name, check in checks:
            try:
                print(f"ok   smollm2 {name}: {check()}", flush=True)
                passed += 1
            except (Failure, OSError, ValueError, subprocess.TimeoutExpired) as failure:
                print(f"FAIL smollm2 {name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
