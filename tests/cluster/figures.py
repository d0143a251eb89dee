#!/usr/bin/env python3
"""What a split costs: two nodes against one, the same model, the same threads for each node.

usage: figures.py --binary build/release/renga --model DIR [--threads 1] [--tokens 48] [--rounds 9]
                  [--prompt-words 400] [--nodes 2] [--tls]

One node and a ring of nodes on this machine answer in turn; the nodes of a ring work one after the
other, so it has as many threads at work as the one node.  Decode is the time of an answer less that of an
answer of one token; prefill the time of an answer of one token to a prompt that no cache has.  Each line
is the median of all rounds, and the quotient is taken within each round.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import net


def end_tokens(model):
    """logit_bias under which the model never ends by itself."""
    ends = set()
    for name in ("config.json", "generation_config.json"):
        path = model / name
        said = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
        ends.update(said if isinstance(said, list) else [] if said is None else [said])
    return {str(t): -100 for t in ends}


def seconds(node, model, text, tokens, bias=None):
    """-> how long an answer of that many tokens takes, and how many the prompt has"""
    reply = node.ask(harness.chat(text, model, max_tokens=tokens, logit_bias=bias or {}), timeout=600)
    reply.check_end()
    usage = json.loads(reply.body)["usage"]
    harness.check(usage["completion_tokens"] == tokens, "the model ended by itself", reply)
    return reply.seconds, usage["prompt_tokens"]


def decode(node, model, tokens, bias):
    short = min(seconds(node, model, "Tell me a story.", 1, bias)[0] for _ in range(3))
    return (tokens - 1) / (seconds(node, model, "Tell me a story.", tokens, bias)[0] - short)


def prefill(node, model, words, number):
    # Its first words are new each time, so that no block of an earlier prompt fits.
    text = f"{number} " + " ".join(f"{(i * 7919 + number) % 1000}" for i in range(words))
    took, n = seconds(node, model, text, 1)
    return n / took


def measure(args, alone, ring):
    name, bias = args.model.name, end_tokens(args.model)
    pairs = {"decode": [], "prefill": []}
    for i in range(args.rounds + 1):
        # Who goes first changes from round to round.
        order = (alone, ring) if i % 2 else (ring, alone)
        d = {n: decode(n, name, args.tokens, bias) for n in order}
        p = {n: prefill(n, name, args.prompt_words, 2 * i + 1) for n in order}
        if i > 0:  # the first round warms up
            pairs["decode"].append((d[alone], d[ring]))
            pairs["prefill"].append((p[alone], p[ring]))
    for what, values in pairs.items():
        one, many = (statistics.median(v[k] for v in values) for k in (0, 1))
        share = sorted(b / a for a, b in values)
        print(f"{name} {what}: one node {one:.2f} tokens/s, {args.nodes} nodes {many:.2f} tokens/s, "
              f"{statistics.median(share):.3f} x ({share[0]:.3f} to {share[-1]:.3f}), {args.threads} thread(s) "
              f"per node, {args.rounds} rounds")


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--binary", required=True, type=Path)
    p.add_argument("--model", required=True, type=Path)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--nodes", type=int, default=2)
    p.add_argument("--tokens", type=int, default=48)
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--prompt-words", type=int, default=400)
    p.add_argument("--tls", action="store_true")
    args = p.parse_args()
    args.model = args.model.resolve()
    with tempfile.TemporaryDirectory(prefix="renga-figures-") as scratch:
        lab = harness.Lab(args.binary.resolve(), scratch, False)
        with lab.ring(args.nodes, args.model, memory=[65536] * args.nodes) as ring:
            place = net.Loopback(1)
            alone = harness.Daemon(lab.binary, place.hosts[0], place.api_host, lab.scratch / "alone.log")
            flags = ["--threads", args.threads, "--ctx", 4096, "--parallel", 1]
            try:
                alone.start(args.model, *flags)
                if args.tls:
                    subprocess.run([lab.binary, "certs", "--discovery-config-path", ring.discovery, "--out",
                                    ring.dir / "tls"], check=True)
                for i, id in enumerate(ring.ids):
                    ring.start_node(i, *flags, "--overcommit",
                                    *(["--tls-dir", ring.dir / "tls" / id] if args.tls else []))
                ring.wait(120)
                harness.until(lambda: alone.health()[0] == 200, 120, alone.log)
                measure(args, alone, ring.head)
            finally:
                alone.kill()
                place.close()


if __name__ == "__main__":
    main()
