"""`renga inspect` on a Kimi-K2 of full size without its data: every number, and the time it takes."""
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from client import check

TOOL = Path(__file__).resolve().parent.parent.parent / "tools" / "make_sparse_kimi"
BOOSTED = {*range(7), *range(9, 52, 3), *range(53, 61)}


def make(renga, name, *flags):
    target = renga.work / name
    subprocess.run([sys.executable, str(TOOL), str(target), *flags], check=True, timeout=120,
                   capture_output=True)
    return target


def seconds(renga, model):
    """Processor time, the best of three: on a busy machine the clock on the wall measures the others.
    Sanitizers make everything slower."""
    best = None
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        renga.good("inspect", model)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = took if best is None else min(best, took)
    limit = 20 if b"__asan_init" in Path(renga.binary).read_bytes() else 1
    check(best <= limit, f"inspect took {best:.2f} s")
    return best


def inspected(renga, model, total, bits):
    got = json.loads(renga.good("inspect", model, "--json"))
    check(got["parameters"] == 1026408232448, got["parameters"])
    check(got["total_bytes"] == total, got["total_bytes"])
    check(abs(got["bits_per_weight"] - 8 * total / got["parameters"]) < 1e-6, got["bits_per_weight"])
    check(f"{got['bits_per_weight']:.3f}" == bits, got["bits_per_weight"])
    check(f" {bits} bits per weight" in renga.good("inspect", model).decode(), "the table's bits")
    return got, [layer["bytes"] for layer in got["layers"]]


def module_bits(got, role):
    """-> the layers that have `role` in 6 bits; the others have it in 3"""
    of_role = {m["name"]: m["bits"] for m in got["modules"] if m["name"].endswith(role)}
    check(set(of_role.values()) <= {3, 6}, role, set(of_role.values()))
    return {int(name.split(".")[2]) for name, bits in of_role.items() if bits == 6}


def test_kimi_k2_with_embed_q(renga):
    model = make(renga, "kimi-embed-q")
    got, layers = inspected(renga, model, 511313293312, "3.985")
    check(got["embedding_bytes"] == 513802240, got["embedding_bytes"])
    check(got["head_bytes"] == 954204160 + 2 * 7168, got["head_bytes"])
    check(layers[0] == 268775424, layers[0])
    for i in range(1, 61):
        check(layers[i] == (9588782592 if i in BOOSTED else 7467800064), i, layers[i])
    check(module_bits(got, ".kv_a_proj_with_mqa") == BOOSTED, "kv_a_proj_with_mqa")
    check(module_bits(got, ".switch_mlp.down_proj") == BOOSTED - {0}, "switch_mlp.down_proj")
    check(module_bits(got, ".self_attn.embed_q") == set(), "embed_q")
    took = seconds(renga, model)
    shutil.rmtree(model)
    return f"inspect in {took:.2f} s"


def test_kimi_k2_with_kv_b_proj(renga):
    model = make(renga, "kimi-kv-b", "--layout", "kv_b_proj")
    got, layers = inspected(renga, model, 511266844672, "3.985")
    check(got["embedding_bytes"] + got["head_bytes"] + sum(layers) == 511266844672, "the sum")
    check(layers[7] == 7467800064, layers[7])  # only boosted layers differ between the two
    check(module_bits(got, ".kv_a_proj_with_mqa") == set(), "kv_a_proj_with_mqa")
    check(module_bits(got, ".self_attn.kv_b_proj") == set(), "kv_b_proj")
    took = seconds(renga, model)
    shutil.rmtree(model)
    return f"inspect in {took:.2f} s"


def test_two_hundred_thousand_tensors(renga):
    model = make(renga, "kimi-unstacked", "--recipe", "4bit", "--unstacked")
    index = json.loads((model / "model.safetensors.index.json").read_text())
    check(len(index["weight_map"]) > 200000, len(index["weight_map"]))
    got, layers = inspected(renga, model, 577593561088, "4.502")
    check(layers == [279867392] + 60 * [9599874560], layers)
    up = [m for m in got["modules"] if m["name"] == "model.layers.60.mlp.switch_mlp.up_proj"]
    check(up and up[0]["shape"] == [384, 2048, 7168], up)
    took = seconds(renga, model)
    shutil.rmtree(model)
    return f"{len(index['weight_map'])} tensors in {took:.2f} s"
