#!/usr/bin/env python3
"""Golden tests: renga eval against the logits of mlx-lm, and every variant against every other.

usage: run.py --binary build/release/renga [--filter TEXT] [--quick] [--runner COMMAND]

For each directory of tests/golden/tiny (made by tools/oracle/make_tiny.py):
  f32       max|difference| <= 1e-3 max|logit|; greedy tokens equal where there is no tie
  int8      greedy tokens equal where the oracle's margin is > 5 % of max|logit|; median KL <= 3e-3
  identity  threads, chunks and CPU kernels give the same bytes, both for the fixture's tokens and
            for a list long enough to cross blocks and chunks
--quick leaves out most identity variants; --runner puts a command (an emulator) before the binary.
"""
import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from npy import read_rows

F32_BOUND = 1e-3
TIE = 2 * F32_BOUND  # two logits that may each be off by the bound
INT8_MARGIN = 0.05
INT8_MEDIAN_KL = 3e-3
LONG_TOKENS = 150  # two borders of 64 keys, three of 50 rows

VARIANTS = [["--threads", "1"], ["--threads", "2"], ["--threads", "5"],
            ["--chunk", "1"], ["--chunk", "7"], ["--chunk", "64"], ["--chunk", "512"]]
QUICK_VARIANTS = [["--threads", "5", "--chunk", "7"]]


# Prefixes of the long list that end at and beside a border of 64 positions.
PREFIXES = [1, 63, 64, 65, 127, 128, 129]
QUICK_PREFIXES = [65]


class Failure(Exception):
    """What differed; the fixture's line says it."""


def cpu_flags():
    try:
        return Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return []


class Renga:
    def __init__(self, binary, runner, scratch):
        self.command = shlex.split(runner) + [str(binary)]
        self.emulated = bool(runner)
        self.scratch = Path(scratch)

    def eval(self, model, tokens, flags):
        """-> the path of the .npy written"""
        out = self.scratch / "logits.npy"
        out.unlink(missing_ok=True)
        command = self.command + ["eval", str(model), "--tokens", str(tokens), "--logits", str(out)]
        done = subprocess.run(command + flags, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise Failure(f"eval {' '.join(flags)}: exit {done.returncode}: {last[0]}")
        return out

    def kernels(self, model, tokens):
        """The vector kernels to compare with scalar, and why the others are left out.  On a CPU
        known to have AVX2 a refusal is a failure, not a skip."""
        have, left_out = [], []
        for name in ("avx2", "neon"):
            if name == "avx2" and not self.emulated and name in cpu_flags():
                have.append(name)
                continue
            try:
                self.eval(model, tokens, ["--cpu-kernels", name])
                have.append(name)
            except Failure as failure:
                left_out.append(f"skipped {name} kernels: {failure}")
        return have, left_out


def argmax(row):
    return max(range(len(row)), key=row.__getitem__)


def margin(row):
    second, first = sorted(row)[-2:]
    return first - second


def log_softmax(row):
    top = max(row)
    total = math.log(sum(math.exp(x - top) for x in row))
    return [x - top - total for x in row]


def divergence(want, got):
    """KL(want || got) in nats"""
    p, q = log_softmax(want), log_softmax(got)
    return sum(math.exp(a) * (a - b) for a, b in zip(p, q))


def check_shape(want, got):
    if len(want) != len(got) or len(want[0]) != len(got[0]):
        raise Failure(f"shape [{len(got)}][{len(got[0])}], expected [{len(want)}][{len(want[0])}]")


def check_greedy(want, got, least_margin, what):
    for i, (w, g) in enumerate(zip(want, got)):
        if argmax(w) != argmax(g) and margin(w) > least_margin:
            raise Failure(f"{what}: token {i}: greedy {argmax(g)}, expected {argmax(w)} "
                          f"(margin {margin(w):.3g})")


def check_f32(want, got):
    check_shape(want, got)
    scale = max(abs(x) for row in want for x in row)
    if not all(math.isfinite(x) for row in got for x in row):
        raise Failure("f32: a logit is not finite")
    worst, at = max((abs(a - b), i) for i, (w, g) in enumerate(zip(want, got))
                    for a, b in zip(w, g))
    if worst > F32_BOUND * scale:
        raise Failure(f"f32: difference {worst / scale:.2e} of max|logit| at token {at}")
    check_greedy(want, got, TIE * scale, "f32")
    return worst / scale


def check_int8(want, got):
    check_shape(want, got)
    scale = max(abs(x) for row in want for x in row)
    kl = sorted(divergence(w, g) for w, g in zip(want, got))
    middle = kl[len(kl) // 2]
    if not middle <= INT8_MEDIAN_KL:
        raise Failure(f"int8: median KL {middle:.2e}")
    check_greedy(want, got, INT8_MARGIN * scale, "int8")
    return middle


def long_token_list(fixture, scratch):
    """The fixture's own tokens over and over with a changing stride; no logits are known for it."""
    tokens = json.loads((fixture / "tokens.json").read_text())
    n = len(tokens)
    path = Path(scratch) / "long.json"
    path.write_text(json.dumps([tokens[(i * 5 + i // n) % n] for i in range(LONG_TOKENS)]))
    return path


def check_prefixes(renga, fixture, flags, tokens, lengths):
    """Row i depends on tokens 0..i only: the first n tokens give the first n rows."""
    whole = read_rows(renga.eval(fixture, tokens, flags))
    ids = json.loads(tokens.read_text())
    part = renga.scratch / "prefix.json"
    for n in lengths:
        part.write_text(json.dumps(ids[:n]))
        if read_rows(renga.eval(fixture, part, flags)) != whole[:n]:
            raise Failure(f"identity: {' '.join(flags)}: {n} tokens alone differ from the first "
                          f"{n} of {len(ids)}")
    return len(lengths)


def check_identity(renga, fixture, activations, quick):
    """-> the number of variants compared"""
    variants = [["--cpu-kernels", name] for name in renga.vector_kernels]
    variants += QUICK_VARIANTS if quick else VARIANTS
    flags = ["--activations", activations]
    count = 0
    long_list = long_token_list(fixture, renga.scratch)
    for tokens in (fixture / "tokens.json", long_list):
        first = renga.eval(fixture, tokens, flags + ["--cpu-kernels", "scalar"]).read_bytes()
        for variant in variants:
            if renga.eval(fixture, tokens, flags + variant).read_bytes() != first:
                raise Failure(f"identity: {activations}, {tokens.name}: "
                              f"{' '.join(variant)} differs from --cpu-kernels scalar")
            count += 1
    lengths = QUICK_PREFIXES if quick else PREFIXES
    return count + check_prefixes(renga, fixture, flags, long_list, lengths)


def run_fixture(renga, fixture, quick):
    want = read_rows(fixture / "logits.npy")
    tokens = fixture / "tokens.json"
    exact = check_f32(want, read_rows(renga.eval(fixture, tokens, ["--activations", "f32"])))
    median = check_int8(want, read_rows(renga.eval(fixture, tokens, [])))
    same = sum(check_identity(renga, fixture, a, quick) for a in ("int8", "f32"))
    return f"f32 {exact:.1e}, int8 median KL {median:.1e}, {same} variants identical"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--filter", default="", help="only fixtures whose name contains this")
    parser.add_argument("--quick", action="store_true", help="few identity variants")
    parser.add_argument("--runner", default="", help="a command before the binary, e.g. qemu")
    parser.add_argument("--fixtures", type=Path,
                        default=Path(__file__).resolve().parent / "tiny", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse_arguments()
    fixtures = sorted(d for d in args.fixtures.iterdir() if args.filter in d.name and d.is_dir())
    if not fixtures:
        sys.exit(f"run.py: no fixture of {args.fixtures} has {args.filter!r} in its name")
    if not os.access(args.binary, os.X_OK):
        sys.exit(f"run.py: {args.binary}: not an executable: build it first")
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        renga = Renga(args.binary, args.runner, scratch)
        renga.vector_kernels, left_out = renga.kernels(fixtures[0], fixtures[0] / "tokens.json")
        for line in left_out:
            print(line)
        for fixture in fixtures:
            try:
                said = run_fixture(renga, fixture, args.quick)
                print(f"ok   {fixture.name}: {said}", flush=True)
                passed += 1
            except (Failure, OSError, ValueError, subprocess.TimeoutExpired) as failure:
                print(f"FAIL {fixture.name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
