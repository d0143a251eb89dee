#!/usr/bin/env python3
"""Train the demo model.

usage: train.py --data DIR --out DIR [--minutes M] [--quantised SHARE] [--resume FILE] ...

Two processes of one thread each: a batch's halves are computed side by side, gradients meet in
shared memory once per step.  Every process keeps the float32 weights and AdamW's state of its half
of the parameters and publishes them, rounded to bfloat16 and in the last part of the training
quantised as mlx-lm will quantise them, to the other.
"""
import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp

import model as M

PROCESSES = 2
PAD_TEXT = -1


def batches(data, seed, rows, length):
    """Endless [rows, length + 1] batches: token, loss weight, number of the text."""
    tokens = np.load(data / "tokens.npy", mmap_mode="r")
    weights = np.load(data / "weights.npy", mmap_mode="r")
    starts = np.load(data / "starts.npy")
    rng = np.random.default_rng(seed)
    sizes = np.diff(starts)
    while True:
        order = rng.permutation(np.nonzero(sizes <= length + 1)[0])
        at = 0
        open_rows = [[] for _ in range(rows)]
        room = [length + 1] * rows
        while at < len(order):
            i = order[at]
            fits = [r for r in range(rows) if room[r] >= sizes[i]]
            if fits:
                r = min(fits, key=room.__getitem__)
                open_rows[r].append(i)
                room[r] -= sizes[i]
                at += 1
                continue
            yield fill(open_rows, length, starts, tokens, weights)
            open_rows = [[] for _ in range(rows)]
            room = [length + 1] * rows


def fill(rows, length, starts, tokens, weights):
    ids = np.zeros((len(rows), length + 1), np.int64)
    w = np.zeros((len(rows), length + 1), np.float32)
    text = np.full((len(rows), length + 1), PAD_TEXT, np.int64)
    for r, members in enumerate(rows):
        at = 0
        for n, i in enumerate(members):
            a, b = starts[i], starts[i + 1]
            ids[r, at:at + b - a] = tokens[a:b]
            w[r, at:at + b - a] = weights[a:b] * (1 / 255)
            w[r, at] = 0
            text[r, at:at + b - a] = n
            at += b - a
    return torch.from_numpy(ids), torch.from_numpy(w), torch.from_numpy(text)


def make_model(config, shared16):
    """The model whose parameters are views into one shared bfloat16 buffer."""
    model = M.Model(config)
    at = 0
    for p in model.parameters():
        view = shared16[at:at + p.numel()].view(p.shape)
        p.data = view
        at += p.numel()
    return model


def initial(config):
    torch.manual_seed(1)
    model = M.Model(config)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


class Half:
    """The parameters one process trains: float32 weights in shared memory, AdamW on them."""

    def __init__(self, rank, names, shared, args, n_layers):
        self.n_layers = n_layers
        self.names = names[rank]
        self.master = {n: torch.nn.Parameter(shared["master"][n]) for n in self.names}
        matrix = [p for n, p in self.master.items() if p.dim() > 1]
        vector = [p for n, p in self.master.items() if p.dim() == 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrix, "weight_decay": args.decay},
             {"params": vector, "weight_decay": 0.0}],
            lr=1e-3, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def publish(self, model_parameters, quantised):
        with torch.no_grad():
            for n in self.names:
                w = self.master[n]
                module = n.removesuffix(".weight")
                if quantised and w.dim() > 1 and not n.endswith("mlp.gate.weight"):
                    w = M.fake_quantise(w.detach(), *M.bits_of(module, self.n_layers))
                model_parameters[n].copy_(w)


def learning_rate(args, share):
    """Of the share of the time that is over: warm-up, then a cosine to a tenth, then to 0."""
    warm = min(1.0, share / args.warm) if args.warm else 1.0
    return args.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def worker(rank, args, config, shared, names, barrier):
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    model = make_model(config, shared["w16"])
    parameters = dict(model.named_parameters())
    half = Half(rank, names, shared, args, config["num_hidden_layers"])
    for gate, bias in zip((m.gate for m in model.moe_layers()), shared["bias"]):
        gate.e_score_correction_bias = bias
    if args.resume:
        state = torch.load(Path(args.resume).with_suffix(f".opt{rank}"))
        half.optimiser.load_state_dict(state)
    half.publish(parameters, args.quantised >= 1)
    grads = shared["grads"]
    at = 0
    for p in model.parameters():
        p.grad = grads[rank][at:at + p.numel()].view(p.shape)
        at += p.numel()
    place, at = {}, 0
    for n, p in model.named_parameters():
        place[n] = (at, at + p.numel())
        at += p.numel()

    def loss_of(ids, w, text):
        logits = model.lm_head(model.hidden(ids[:, :-1], text[:, :-1])).float()
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(),
                                                 reduction="none")
        w = w[:, 1:].flatten()
        return (each * w).sum() / w.sum().clamp_min(1), (each * w).sum(), w.sum()

    if rank:  # the first process compiles, the other finds it in the cache
        barrier.wait()
    if not args.eager:
        loss_of = torch.compile(loss_of, dynamic=False)
    data = batches(Path(args.data), 100 * args.seed + rank, args.rows, args.length)
    if rank == 0:
        loss_of(*next(data))[0].backward()
        grads[0].zero_()
        barrier.wait()
    barrier.wait()
    started = time.monotonic()
    step, last, sums, quantised = 0, started, [0.0, 0.0], args.quantised >= 1
    log = open(Path(args.out) / "train.log", "a") if rank == 0 else None
    while True:
        share = shared["share"]
        if rank == 0:
            share[0] = (time.monotonic() - started) / (60 * args.minutes)
        ids, w, text = next(data)
        grads[rank].zero_()
        loss, total, weight = loss_of(ids, w, text)
        loss.backward()
        sums[0] += float(total)
        sums[1] += float(weight)
        for i, moe in enumerate(model.moe_layers()):
            shared["load"][rank, i] = moe.load
        barrier.wait()
        now = float(share[0])
        square = 0.0
        for n in half.names:
            a, b = place[n]
            g = (grads[0, a:b].float() + grads[1, a:b].float()).mul_(1 / PROCESSES)
            half.master[n].grad = g.view(half.master[n].shape)
            square += float(g.dot(g))
        shared["square"][rank] = square
        barrier.wait()
        norm = math.sqrt(float(shared["square"].sum()))
        clip = min(1.0, args.clip / max(norm, 1e-9))
        if clip < 1:
            for p in half.master.values():
                p.grad.mul_(clip)
        rate = learning_rate(args, args.begin + (1 - args.begin) * now)
        for group in half.optimiser.param_groups:
            group["lr"] = rate
        if math.isfinite(norm):
            half.optimiser.step()
        quantised = now >= 1 - args.quantised
        half.publish(parameters, quantised)
        if rank == 0:
            speed = args.balance * max(0.0, min(1.0, (0.8 - now) * 4))
            load = shared["load"].sum(0)
            for bias, one in zip(shared["bias"], load):
                bias += speed * torch.sign(one.mean() - one)
        step += 1
        if rank == 0 and step % 20 == 0:
            took = (time.monotonic() - last) / 20
            last = time.monotonic()
            crowd = (load.max(1).values / load.mean(1)).max()
            line = (f"{step} {(last - started) / 60:.1f} min loss {sums[0] / sums[1]:.4f} "
                    f"norm {norm:.2f} lr {rate:.5f} crowd {float(crowd):.2f} "
                    f"{took * 1e3:.0f} ms {PROCESSES * args.rows * args.length / took:.0f} tok/s"
                    f"{' quantised' if quantised else ''}")
            print(line, flush=True)
            log.write(line + "\n")
            log.flush()
            sums = [0.0, 0.0]
        if rank == 0:
            stop = now >= 1 or os.path.exists(Path(args.out) / "stop")
            due = step % args.save_every == 0
            shared["order"][0] = (2 if stop else 1 if due else 0)
        barrier.wait()
        order = int(shared["order"][0])
        if order:
            save(rank, args, half, shared, step, now)
            if order == 2:
                return


def save(rank, args, half, shared, step, now):
    out = Path(args.out)
    torch.save(half.optimiser.state_dict(), out / f"last.opt{rank}")
    if rank == 0:
        torch.save({"weights": {n: p.clone() for n, p in shared["master"].items()},
                    "bias": [b.clone() for b in shared["bias"]], "step": step, "share": now,
                    "config": json.loads((Path(args.data) / "config.json").read_text())},
                   out / "new.pt")
        os.replace(out / "new.pt", out / "last.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--begin", type=float, default=0.0, help="where on the cosine to begin")
    parser.add_argument("--quantised", type=float, default=0.2, help="share at the end")
    parser.add_argument("--resume")
    parser.add_argument("--rows", type=int, default=8, help="of one process")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warm", type=float, default=0.02)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--balance", type=float, default=2e-3)
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--eager", action="store_true")
    args = parser.parse_args()
    config = json.loads((Path(args.data) / "config.json").read_text())
    Path(args.out).mkdir(parents=True, exist_ok=True)
    weights = initial(config)
    moe = config["num_hidden_layers"] - config["first_k_dense_replace"]
    bias = [torch.zeros(config["n_routed_experts"]) for _ in range(moe)]
    if args.resume:
        state = torch.load(args.resume)
        weights, bias = state["weights"], state["bias"]
    size = sum(p.numel() for p in weights.values())
    shared = {"master": {n: p.share_memory_() for n, p in weights.items()},
              "bias": [b.share_memory_() for b in bias],
              "w16": torch.zeros(size, dtype=torch.bfloat16).share_memory_(),
              "grads": torch.zeros(PROCESSES, size, dtype=torch.bfloat16).share_memory_(),
              "load": torch.zeros(PROCESSES, moe, config["n_routed_experts"]).share_memory_(),
              "square": torch.zeros(PROCESSES, dtype=torch.float64).share_memory_(),
              "share": torch.zeros(1, dtype=torch.float64).share_memory_(),
              "order": torch.zeros(1, dtype=torch.int64).share_memory_()}
    names, loads = [[] for _ in range(PROCESSES)], [0] * PROCESSES
    for n, p in sorted(weights.items(), key=lambda item: -item[1].numel()):
        rank = loads.index(min(loads))
        names[rank].append(n)
        loads[rank] += p.numel()
    print(f"{size / 1e6:.2f} M parameters", flush=True)
    context = mp.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    mp.spawn(worker, (args, config, shared, names, barrier), nprocs=PROCESSES)


if __name__ == "__main__":
    main()
