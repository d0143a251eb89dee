#!/usr/bin/env python3
"""Make the tiny random checkpoints of tests/golden/tiny and the logits mlx-lm gets from them.

usage: make_tiny.py [--out DIR] [--filter TEXT]          (needs mlx[cpu] and mlx-lm, see README.md)

The checkpoints come out of mlx-lm's own classes, quantiser, recipes and writer.  The logits are
those of the stored (rounded, quantised) weights with all arithmetic in float32: MLX's bf16 path on
a CPU is no oracle.  Things mlx-lm would not do are done by hand: store_old_kv, rewrite, and the
formats of other programs (hf_layout.py).
"""
import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path, tree_unflatten
from mlx_lm.convert import mixed_quant_predicate_builder
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.utils import _get_classes, load_model, quantize_model, save_config, save_model

import hf_layout
from tiny_specs import ROWS

LOGIT_SPREAD = 3.0  # standard deviation of the logits
BLOCK_MODES = {"mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}

# Rows of mxfp4, nvfp4 and mxfp8 are bf16 whatever the model is; the sum after them must not be.
embedding_row = nn.QuantizedEmbedding.__call__
nn.QuantizedEmbedding.__call__ = lambda self, x: embedding_row(self, x).astype(mx.float32)


def generator(*names):
    digest = hashlib.sha256("/".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def random_weight(checkpoint, path, shape, tied, latent):
    """Weights with a gain that keeps the stream near unit size, so that every part shows."""
    x = generator(checkpoint, path).standard_normal(shape).astype(np.float32)
    fan_in = np.sqrt(shape[-1])
    if path.endswith("e_score_correction_bias"):
        return 0.1 * x
    if path.endswith(".bias"):
        return 0.3 * x
    if "norm" in path:
        return 1 + 0.25 * x
    if "lm_head" in path or ("embed_tokens" in path and tied):
        return x * LOGIT_SPREAD / fan_in
    if "embed_tokens" in path:
        return x
    if path.endswith("mlp.gate.weight"):
        return x * 2 / fan_in
    if "q_proj" in path or "k_proj" in path or "q_b_proj" in path:
        return x * 1.4 / fan_in
    if "q_a_proj" in path or "kv_a_proj" in path:
        return x * latent / fan_in
    return x / fan_in


def float_model(name, config, dtype, latent):
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    tied = not any("lm_head" in path for path, _ in tree_flatten(model.parameters()))
    keep = getattr(model, "cast_predicate", lambda _: True)

    def fill(path, old):
        new = mx.array(random_weight(name, path, old.shape, tied, latent))
        return new.astype(getattr(mx, dtype)) if keep(path) else new

    model.update(tree_map_with_path(fill, model.parameters()))
    return model


def seeds_mix(model):
    """Embedding 3-bit, attention 4-bit, the rest as in mixed_3_6 (head 6-bit)."""
    base = mixed_quant_predicate_builder("mixed_3_6", model, 64)

    def predicate(path, module):
        if ".self_attn." in path:
            return {"group_size": 64, "bits": 4, "mode": "affine"}
        return base(path, module)

    return predicate


def modes_mix(path, module):
    """Every mode in one model."""
    kinds = {"embed_tokens": "nvfp4", "o_proj": "mxfp8", "gate_proj": "nvfp4", "down_proj": "mxfp8",
             "kv_a_proj_with_mqa": "affine", "lm_head": "affine", "up_proj": "mxfp4"}
    mode = kinds.get(path.rpartition(".")[2], "mxfp4")
    group, bits = BLOCK_MODES.get(mode, (64, 6))
    return {"group_size": group, "bits": bits, "mode": mode}


def predicate_for(model, scheme, options):
    if scheme == "mixed_346":
        chosen = seeds_mix(model)
    elif scheme == "mixed_modes":
        chosen = modes_mix
    elif scheme.startswith("mixed"):
        chosen = mixed_quant_predicate_builder(scheme, model, 64)
    else:
        chosen = getattr(model, "quant_predicate", None) or (lambda path, module: True)
    router = options.get("router", 8)
    bits = {0: False, 4: True}
    left_out = options.get("false_for")

    def predicate(path, module):
        if path == left_out or (options.get("old_kv") and is_mla_part(path)):
            return False
        if path.endswith("mlp.gate") and router in bits:
            return bits[router]
        return chosen(path, module)

    return predicate


def is_mla_part(path):
    return path.endswith((".embed_q", ".unembed_out"))


def quantised(model, config, scheme, options):
    if scheme is None:
        return model, config
    group, bits, mode = 64, 4, "affine"
    if scheme in BLOCK_MODES:
        (group, bits), mode = BLOCK_MODES[scheme], scheme
    elif scheme == "mixed_modes":
        group, bits, mode = 32, 4, "mxfp4"
    elif not scheme.startswith("mixed"):
        bits, group = map(int, scheme.split("/"))
    model, config = quantize_model(model, config, group, bits, mode,
                                   options.get("global_scale", False),
                                   quant_predicate=predicate_for(model, scheme, options))
    if options.get("unlisted"):
        for key in [k for k, v in config["quantization"].items() if isinstance(v, dict)]:
            del config["quantization"][key]
    if "false_for" in options:
        config["quantization"][options["false_for"]] = False
    return model, config


def kv_b_format(layer, n_layers, scheme):
    """The bits and group of an old kv_b_proj: mixed_3_6 between October 2025 and February 2026
    gave it the high width in boosted layers, the seeds' mix has 4 bits."""
    if scheme is None:
        return None
    if scheme == "mixed_346":
        return 4, 64
    if scheme == "mixed_3_6":
        return (6 if layer >= 7 * n_layers // 8 or layer % 3 == 2 else 3), 64
    return tuple(map(int, scheme.split("/")))


def store_old_kv(model, config, scheme):
    """kv_b_proj in place of embed_q and unembed_out.  Returns the stored tensors; the model is left
    with float parts made from what was stored, because current mlx-lm would quantise them anew on
    another axis and so change the model."""
    stored = {}
    layers = model.layers
    for i, layer in enumerate(layers):
        attention = layer.self_attn
        wk, wv = attention.embed_q.weight, attention.unembed_out.weight
        joined = mx.concatenate([wk.swapaxes(-1, -2), wv], axis=1)
        joined = mx.contiguous(joined.reshape(-1, joined.shape[-1]))
        path = f"model.layers.{i}.self_attn.kv_b_proj"
        fmt = kv_b_format(i, len(layers), scheme)
        if fmt is None:
            stored[path + ".weight"] = joined
        else:
            bits, group = fmt
            w, s, b = mx.quantize(joined, group_size=group, bits=bits)
            stored.update({path + ".weight": w, path + ".scales": s, path + ".biases": b})
            if scheme.startswith("mixed"):
                config["quantization"][path] = {"group_size": group, "bits": bits, "mode": "affine"}
            joined = mx.dequantize(w, s.astype(mx.float32), b.astype(mx.float32), group, bits)
        parts = joined.astype(mx.float32).reshape(wk.shape[0], -1, joined.shape[-1])
        nope = config["qk_nope_head_dim"]
        attention.embed_q.weight = mx.contiguous(parts[:, :nope].swapaxes(-1, -2))
        attention.unembed_out.weight = mx.contiguous(parts[:, nope:])
    return stored


def check_modes(name, model):
    """mlx's float modes against their definition; a stack with global scales becomes floats,
    because mlx multiplies by those on a GPU only."""
    for path, module in model.named_modules():
        mode = getattr(module, "mode", "affine")
        if mode not in BLOCK_MODES:
            continue
        scale = module.get("global_scale")
        want = hf_layout.decode_mlx(module.weight, module.scales, mode, scale)
        if scale is None:
            got = mx.dequantize(module.weight, module.scales, mode=mode, dtype=mx.float32)
            if not np.array_equal(np.array(got), want):
                sys.exit(f"{name}: {path}: mlx does not read {mode} as defined")
            continue
        assert isinstance(module, QuantizedSwitchLinear)
        dense = SwitchLinear(want.shape[2], want.shape[1], want.shape[0], bias=False)
        dense.weight = mx.array(want)
        model.update_modules(tree_unflatten([(path, dense)]))


def float32_logits(model, tokens):
    model.set_dtype(mx.float32)
    return np.array(model(mx.array([tokens]))[0].astype(mx.float32))


def is_stable(name, model, tokens, logits):
    """A router choice or a tie that hangs on the last bits would make the fixture a lottery."""
    noise = generator(name, "noise")

    def shake(path, x):
        if "norm" not in path:
            return x
        return x * mx.array(1 + 1e-5 * noise.standard_normal(x.shape).astype(np.float32))

    model.update(tree_map_with_path(shake, model.parameters()))
    moved = np.abs(float32_logits(model, tokens) - logits).max() / np.abs(logits).max()
    return moved < 2e-4


def rewrite(directory, tensors, config, options):
    """Names and config of the same model as other converters write them."""
    if options.get("unstacked"):
        for key in [k for k in tensors if ".switch_mlp." in k]:
            stack = tensors.pop(key)
            for e in range(stack.shape[0]):
                tensors[key.replace(".switch_mlp.", f".experts.{e}.")] = mx.contiguous(stack[e])
    for key, shape in options.get("extra", {}).items():
        tensors[key] = mx.ones(shape, dtype=mx.bfloat16)
    for key, value in options.get("config", {}).items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    write_tensors(directory, tensors, options.get("shards", 1))


def write_tensors(directory, tensors, n_shards):
    for old in directory.glob("model*"):
        old.unlink()
    names = list(tensors)
    weight_map = {}
    for i in range(n_shards):
        file = "model.safetensors"
        if n_shards > 1:
            file = f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors"
        part = names[len(names) * i // n_shards:len(names) * (i + 1) // n_shards]
        mx.save_safetensors(str(directory / file), {k: tensors[k] for k in part},
                            metadata={"format": "mlx"})
        weight_map.update({k: file for k in part})
    index = {"metadata": {"total_size": sum(v.nbytes for v in tensors.values())},
             "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, separators=(",", ":"))
    (directory / "model.safetensors.index.json").write_text(text)


def is_foreign(scheme):
    return scheme is not None and scheme.partition("/")[0] in (
        "hf", "int4", "fp8", "fp8_block", "mxfp4_packed")


def make_foreign(directory, name, model, config, scheme, options):
    """A checkpoint of another program.  The logits are those of the float32 weights that it means;
    where mlx-lm loads the directory, it must get the same."""
    weights = hf_layout.transformers_names(dict(tree_flatten(model.parameters())), config)
    if options.get("head_copy"):
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    tensors, meaning = hf_layout.encode(weights, scheme)
    quantization = hf_layout.quantization_config(scheme)
    if quantization:
        where = config["text_config"] if "text_config" in config else config
        where["quantization_config"] = quantization
    hf_layout.write_safetensors(directory / "model.safetensors", tensors)
    (directory / "config.json").write_text(json.dumps(config, indent=4) + "\n")
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    model.load_weights(list(model.sanitize(meaning).items()))
    model.eval()
    if options.get("mlx_lm", True):
        same, _ = load_model(directory)
        tokens = list(range(20))
        want, got = float32_logits(model, tokens), float32_logits(same, tokens)
        if np.abs(want - got).max() > 1e-5 * np.abs(want).max():
            sys.exit(f"{name}: mlx-lm reads it differently")
        model = same
    for key, shape in options.get("extra", {}).items():
        tensors[key] = hf_layout.stored(mx.ones(shape, dtype=mx.bfloat16))
    for key, value in options.get("config", {}).items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    hf_layout.write_safetensors(directory / "model.safetensors", tensors)
    (directory / "config.json").write_text(json.dumps(config, indent=4) + "\n")
    store_expected(directory, name, model, config, options)


def make(out, name, config, scheme, options):
    directory = out / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    dtype = options.get("dtype", "bfloat16")
    config = {**json.loads(json.dumps(config)), "torch_dtype": dtype}
    model = float_model(name, config, dtype, options.get("latent", 1.0))
    if is_foreign(scheme):
        make_foreign(directory, name, model, config, scheme, options)
        return
    model, config = quantised(model, config, scheme, options)
    edited = {"old_kv", "unstacked", "extra", "config", "shards"} & set(options)
    if options.get("old_kv"):
        old = store_old_kv(model, config, scheme)
        tensors = dict(tree_flatten(model.parameters()))
        tensors = {k: v for k, v in tensors.items() if not is_mla_part(k.rpartition(".")[0])}
        tensors.update(old)
    else:
        save_model(directory, model)
        save_config(dict(config), directory / "config.json")
        model, _ = load_model(directory)
        tensors = dict(tree_flatten(model.parameters()))
        check_modes(name, model)
    if edited:
        rewrite(directory, tensors, config, options)
        save_config(config, directory / "config.json")
    if not options.get("index", True):
        (directory / "model.safetensors.index.json").unlink()
    store_expected(directory, name, model, config, options)


def store_expected(directory, name, model, config, options):
    vocab = config.get("text_config", config)["vocab_size"]
    weights = [(k, v) for k, v in tree_flatten(model.parameters())]
    for attempt in range(20):
        rng = generator(name, "tokens", str(attempt))
        tokens = [int(t) for t in rng.integers(0, vocab, options.get("n_tokens", 28))]
        model.update(tree_unflatten(weights))
        logits = float32_logits(model, tokens)
        if is_stable(name, model, tokens, logits):
            break
    else:
        sys.exit(f"{name}: no token list whose logits do not hang on the last bits")
    (directory / "tokens.json").write_text(json.dumps(tokens) + "\n")
    np.save(directory / "logits.npy", logits.astype("<f4"))
    top = np.sort(logits, axis=-1)
    margins = top[:, -1] - top[:, -2] > 0.05 * np.abs(logits).max()
    size = sum(f.stat().st_size for f in directory.iterdir())
    print(f"{name}: {size} bytes, logits std {logits.std():.2f} max {np.abs(logits).max():.1f}, "
          f"{margins.sum()} of {len(tokens)} margins count", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--out", type=Path, default=here / "tests" / "golden" / "tiny")
    parser.add_argument("--filter", default="")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    for name, config, scheme, options in ROWS:
        if args.filter in name:
            make(args.out, name, config, scheme, options)


if __name__ == "__main__":
    main()
