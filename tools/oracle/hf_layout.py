"""Checkpoints as transformers, compressed-tensors and DeepSeek store them, and what they mean.

Encoders and decoders here are numpy, written from the formats' definitions; make_tiny.py compares
them with mlx-lm where mlx-lm reads the format.  A stored tensor is (dtype, shape, bytes).
"""
import json
import struct

import mlx.core as mx
import numpy as np

FP8_BLOCK = 128
E2M1 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6], np.float32)
NVFP4_GLOBAL = 448 * 6


def e4m3(code):
    code = np.asarray(code, np.uint8).astype(np.int32)
    exponent, mantissa = code >> 3 & 15, code & 7
    size = np.where(exponent == 0, mantissa / 8 * 2.0 ** -6,
                    (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    size = np.where(code & 127 == 127, np.nan, size)
    return np.where(code & 128, -size, size).astype(np.float32)


def e8m0(code):
    return 2.0 ** (np.asarray(code, np.float64) - 127)


def nibbles(data):
    """[..., n] bytes -> [..., 2 n] codes, low nibble first"""
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], -1)


def decode_mlx(weight, scales, mode, global_scale=None):
    """mxfp4, nvfp4 and mxfp8 as mlx.core.quantize stores them -> float32"""
    data = np.array(weight).view(np.uint8)
    codes = e4m3(data) if mode == "mxfp8" else E2M1[nibbles(data)]
    scales = np.array(scales)
    scale = e4m3(scales) if mode == "nvfp4" else e8m0(scales)
    value = codes * np.repeat(scale, codes.shape[-1] // scale.shape[-1], axis=-1)
    if global_scale is not None:
        value = value * (np.array(global_scale) / NVFP4_GLOBAL)[:, None, None]
    return value.astype(np.float32)


def rounded(x, dtype):
    """float32 rounded to "BF16", "F16" or "F32", as float32"""
    kind = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}[dtype]
    return np.array(mx.array(x).astype(kind).astype(mx.float32))


def stored(x, dtype=None):
    """An array of mlx, or numpy floats with the dtype they are stored in."""
    if dtype:
        x = mx.array(x).astype({"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}[dtype])
    name = {mx.bfloat16: "BF16", mx.float16: "F16", mx.float32: "F32", mx.uint8: "U8"}[x.dtype]
    raw = np.array(x.view(mx.uint16) if x.dtype == mx.bfloat16 else x)
    return name, list(x.shape), raw.tobytes()


def int4(w, group, dtype, wide_shape):
    """compressed-tensors' pack-quantized -> {suffix: stored tensor}, the float32 it means"""
    rows, cols = w.shape
    parts = w.reshape(rows, -1, group)
    scale = rounded(np.abs(parts).max(-1) / 7.5, dtype)
    codes = np.clip(np.rint(parts / scale[..., None]), -8, 7) + 8
    meaning = ((codes - 8) * scale[..., None]).reshape(rows, cols).astype(np.float32)
    codes = codes.reshape(rows, -1, 8).astype(np.uint32)
    packed = (codes << (4 * np.arange(8, dtype=np.uint32))).sum(-1).astype(np.uint32)
    shape = np.array([rows, cols], np.int64 if wide_shape else np.int32)
    return {"weight_packed": ("I32", [rows, cols // 8], packed.tobytes()),
            "weight_scale": stored(scale, dtype),
            "weight_shape": ("I64" if wide_shape else "I32", [2], shape.tobytes())}, meaning


def fp8(w, dtype):
    """DeepSeek's F8_E4M3 with one scale per block of 128 x 128"""
    rows, cols = w.shape
    down, across = -(-rows // FP8_BLOCK), -(-cols // FP8_BLOCK)
    scale = np.zeros((down, across), np.float32)
    for i in range(down):
        for j in range(across):
            block = w[i * FP8_BLOCK:(i + 1) * FP8_BLOCK, j * FP8_BLOCK:(j + 1) * FP8_BLOCK]
            scale[i, j] = np.abs(block).max() / 448
    scale = rounded(scale, dtype)
    spread = np.repeat(np.repeat(scale, FP8_BLOCK, 0), FP8_BLOCK, 1)[:rows, :cols]
    values = e4m3(np.arange(127))  # ascending from 0 to 448
    size = np.abs(w / spread)
    code = np.searchsorted((values[1:] + values[:-1]) / 2, size).astype(np.uint8)
    code |= np.where(w < 0, 128, 0).astype(np.uint8)
    meaning = rounded(e4m3(code) * spread, "BF16")
    return {"weight": ("F8_E4M3", [rows, cols], code.tobytes()),
            "weight_scale_inv": stored(scale, dtype)}, meaning


def mxfp4_packed(w):
    """compressed-tensors' mxfp4-pack-quantized"""
    codes, scales = mx.quantize(mx.array(w).astype(mx.bfloat16), mode="mxfp4")
    data = np.array(codes).view(np.uint8)
    return {"weight_packed": ("U8", list(data.shape), data.tobytes()),
            "weight_scale": stored(scales)}, decode_mlx(codes, scales, "mxfp4")


def transformers_names(weights, config):
    """mlx-lm's names -> transformers': experts one by one, kv_b_proj in one piece"""
    out = {}
    for key, value in weights.items():
        if ".switch_mlp." in key:
            for e in range(value.shape[0]):
                out[key.replace(".switch_mlp.", f".experts.{e}.")] = value[e]
        elif key.endswith(".embed_q.weight"):
            wv = weights[key.replace("embed_q", "unembed_out")]
            joined = mx.concatenate([value.swapaxes(-1, -2), wv], axis=1)
            out[key.replace("embed_q", "kv_b_proj")] = joined.reshape(-1, joined.shape[-1])
        elif not key.endswith(".unembed_out.weight"):
            out[key] = value
    return out


def is_linear(key):
    """What the quantisers of transformers take: not embedding, router, norms, head."""
    return key.endswith("_proj.weight") or key.endswith("_with_mqa.weight")


def encode(weights, scheme):
    """-> stored tensors, and the float32 weights that they mean"""
    method, _, rest = scheme.partition("/")
    group, _, what = rest.partition("/")
    tensors, meaning = {}, {}
    for i, (key, value) in enumerate(weights.items()):
        path = key.rpartition(".")[0]
        w = np.array(value.astype(mx.float32))
        chosen = is_linear(key) and (what != "experts" or ".mlp.experts." in key)
        if method == "hf" or not chosen:
            tensors[key], meaning[key] = stored(value), w
            continue
        if method == "int4":
            parts, w = int4(w, int(group), what if what != "experts" else "BF16", i % 2)
        elif method == "fp8":
            parts, w = fp8(w, group or "F32")
        elif method == "fp8_block":
            parts, w = fp8(w, "BF16")
            parts["weight_scale"] = parts.pop("weight_scale_inv")
        else:
            parts, w = mxfp4_packed(w)
        tensors.update({f"{path}.{suffix}": part for suffix, part in parts.items()})
        meaning[key] = w
    return tensors, {k: mx.array(v) for k, v in meaning.items()}


def quantization_config(scheme):
    """As the programs write it (config.json of Kimi-K2-Thinking, DeepSeek-V3, Qwen3-FP8)."""
    method, _, rest = scheme.partition("/")
    if method == "hf":
        return None
    if method == "fp8":
        return {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                "weight_block_size": [FP8_BLOCK, FP8_BLOCK],
                "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate"]}
    packed = method == "int4"
    group, _, what = rest.partition("/")
    experts = ["re:.*self_attn.*", "re:.*shared_experts.*",
               "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"]
    weights = {"actorder": None, "block_structure": None, "dynamic": False,
               "group_size": int(group or 32), "num_bits": 4, "observer": "minmax",
               "observer_kwargs": {}, "strategy": "group", "symmetric": True,
               "type": "int" if packed else "float"}
    if method == "fp8_block":
        weights.update({"block_structure": [FP8_BLOCK, FP8_BLOCK], "group_size": None,
                        "num_bits": 8, "strategy": "block"})
    return {"config_groups": {"group_0": {"input_activations": None, "output_activations": None,
                                          "targets": ["Linear"], "weights": weights}},
            "format": {"int4": "pack-quantized", "fp8_block": "float-quantized",
                       "mxfp4_packed": "mxfp4-pack-quantized"}[method],
            "ignore": ["lm_head"] + (experts if what == "experts" else ["re:.*mlp.gate$"]),
            "kv_cache_scheme": None, "quant_method": "compressed-tensors",
            "quantization_status": "compressed"}


ALIGNMENT = {"I64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2}


def write_safetensors(path, tensors):
    """As the safetensors library writes: widest type first, then by name; the header padded."""
    names = sorted(tensors, key=lambda k: (-ALIGNMENT.get(tensors[k][0], 1), k))
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors[k][2] for k in names))
