#!/usr/bin/env python3
"""Writes an MLX checkpoint with a real model's layer shapes and random weights, to measure with.

usage: tools/mk_bench_checkpoint.py {dense|moe|mla} OUT_DIR [--layers N] [--seed N]

  dense  Qwen3-0.6B: 28 layers, tied 6-bit embedding           0.4 GB, 0.37 GB read per token
  moe    layers of Qwen3-30B-A3B, 8 of its 48                  2.9 GB, 0.32 GB read per token
  mla    layers like DeepSeek-V3's and Kimi-K2's, scaled down: hidden 2048, 64 experts, 8 layers
                                                               1.8 GB, 0.38 GB read per token

Affine 4-bit in groups of 64 with bf16 scales, except: 6 bits for lm_head or the tied embedding, 8
bits for k_proj, v_proj and the router of moe and for embed_q and unembed_out of mla.  The text of
such a model is noise.  Standard library only; the same seed gives the same bytes.
"""
import argparse
import json
import random
import struct
from pathlib import Path

GROUP = 64
SHARD_BYTES = 5 << 30
CHUNK = 1 << 22
SIZES = {"U32": 4, "BF16": 2, "F32": 4}
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def bf16(x):
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def product(shape):
    n = 1
    for d in shape:
        n *= d
    return n


class Checkpoint:
    """Tensors by name in file order; their bytes are made when they are written."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.tensors = []  # (name, dtype, shape, chunks: bytes count -> iterator of bytes)
        self.quantization = {"group_size": GROUP, "bits": 4}

    def add(self, name, dtype, shape, chunks):
        self.tensors.append((name, dtype, list(shape), chunks))

    def noise(self, n):
        for at in range(0, n, CHUNK):
            yield self.random.randbytes(min(CHUNK, n - at))

    def values(self, make, code):
        """A writer of one table of 8192 made values, over and over."""
        def chunks(n):
            table = struct.pack("<8192" + code, *(make() for _ in range(8192)))
            for at in range(0, n, len(table)):
                yield table[:n - at]
        return chunks

    def constant(self, name, n):
        self.add(name + ".weight", "BF16", [n], self.values(lambda: bf16(1.0), "H"))

    def float(self, name, shape, deviation, f32=False):
        gauss = self.random.gauss
        if f32:
            self.add(name, "F32", shape, self.values(lambda: gauss(0, deviation), "f"))
        else:
            self.add(name, "BF16", shape, self.values(lambda: bf16(gauss(0, deviation)), "H"))

    def linear(self, path, *shape, bits=4, deviation=0.02):
        """shape = [..., out, in].  Uniform codes, centred at 0 by the biases."""
        *lead, columns = shape
        levels = 2 ** bits
        scale = deviation * 12 ** 0.5 / levels
        middle = -scale * (levels - 1) / 2
        gauss = self.random.gauss
        if bits != 4:
            self.quantization[path] = {"group_size": GROUP, "bits": bits}
        self.add(path + ".weight", "U32", [*lead, columns * bits // 32], self.noise)
        groups = [*lead, columns // GROUP]
        self.add(path + ".scales", "BF16", groups,
                 self.values(lambda: bf16(scale * (1 + 0.1 * gauss(0, 1))), "H"))
        self.add(path + ".biases", "BF16", groups,
                 self.values(lambda: bf16(middle * (1 + 0.02 * gauss(0, 1))), "H"))

    def mlp(self, path, hidden, inner):
        self.linear(path + "gate_proj", inner, hidden)
        self.linear(path + "up_proj", inner, hidden)
        self.linear(path + "down_proj", hidden, inner)

    def experts(self, path, n, hidden, inner):
        self.linear(path + "switch_mlp.gate_proj", n, inner, hidden)
        self.linear(path + "switch_mlp.up_proj", n, inner, hidden)
        self.linear(path + "switch_mlp.down_proj", n, hidden, inner)

    def attention(self, path, c, kv_bits):
        hidden, head = c["hidden_size"], c["head_dim"]
        q_rows, kv_rows = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
        self.linear(path + "q_proj", q_rows, hidden)
        self.linear(path + "k_proj", kv_rows, hidden, bits=kv_bits)
        self.linear(path + "v_proj", kv_rows, hidden, bits=kv_bits)
        self.linear(path + "o_proj", hidden, q_rows)
        self.constant(path + "q_norm", head)
        self.constant(path + "k_norm", head)

    def latent_attention(self, path, c):
        hidden, heads = c["hidden_size"], c["num_attention_heads"]
        q_rank, kv_rank = c["q_lora_rank"], c["kv_lora_rank"]
        rope, nope, value = c["qk_rope_head_dim"], c["qk_nope_head_dim"], c["v_head_dim"]
        self.linear(path + "q_a_proj", q_rank, hidden)
        self.constant(path + "q_a_layernorm", q_rank)
        self.linear(path + "q_b_proj", heads * (nope + rope), q_rank)
        self.linear(path + "kv_a_proj_with_mqa", kv_rank + rope, hidden)
        self.constant(path + "kv_a_layernorm", kv_rank)
        self.linear(path + "embed_q", heads, kv_rank, nope, bits=8)
        self.linear(path + "unembed_out", heads, value, kv_rank, bits=8)
        self.linear(path + "o_proj", hidden, heads * value)


COMMON = {"rms_norm_eps": 1e-6, "max_position_embeddings": 40960, "torch_dtype": "bfloat16",
          "bos_token_id": 256, "eos_token_id": 258}
CONFIGS = {
    "dense": {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024,
        "num_hidden_layers": 28, "intermediate_size": 3072, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "rope_theta": 1e6,
        "tie_word_embeddings": True},
    "moe": {
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 2048,
        "num_hidden_layers": 8, "intermediate_size": 6144, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 32768, "rope_theta": 1e6,
        "tie_word_embeddings": False, "num_experts": 128, "num_experts_per_tok": 8,
        "moe_intermediate_size": 768, "norm_topk_prob": True, "decoder_sparse_step": 1,
        "mlp_only_layers": []},
    "mla": {
        "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"],
        "hidden_size": 2048, "num_hidden_layers": 8, "intermediate_size": 5632,
        "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 32768,
        "rope_theta": 50000.0, "rope_scaling": None, "attention_bias": False,
        "tie_word_embeddings": False, "q_lora_rank": 1536, "kv_lora_rank": 512,
        "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
        "moe_intermediate_size": 1024, "n_shared_experts": 1, "n_routed_experts": 64,
        "num_experts_per_tok": 8, "routed_scaling_factor": 2.5, "topk_method": "noaux_tc",
        "scoring_func": "sigmoid", "norm_topk_prob": True, "n_group": 1, "topk_group": 1,
        "moe_layer_freq": 1, "first_k_dense_replace": 1},
}


def add_layer(ck, kind, c, layer):
    p = f"model.layers.{layer}."
    hidden = c["hidden_size"]
    ck.constant(p + "input_layernorm", hidden)
    ck.constant(p + "post_attention_layernorm", hidden)
    if kind == "mla":
        ck.latent_attention(p + "self_attn.", c)
    else:
        ck.attention(p + "self_attn.", c, kv_bits=8 if kind == "moe" else 4)
    if kind == "dense" or layer < c.get("first_k_dense_replace", 0):
        ck.mlp(p + "mlp.", hidden, c["intermediate_size"])
    elif kind == "moe":
        ck.linear(p + "mlp.gate", c["num_experts"], hidden, bits=8)
        ck.experts(p + "mlp.", c["num_experts"], hidden, c["moe_intermediate_size"])
    else:
        n = c["n_routed_experts"]
        ck.float(p + "mlp.gate.weight", [n, hidden], 0.02)
        ck.float(p + "mlp.gate.e_score_correction_bias", [n], 0.01, f32=True)
        ck.experts(p + "mlp.", n, hidden, c["moe_intermediate_size"])
        ck.mlp(p + "mlp.shared_experts.", hidden, c["moe_intermediate_size"])


def write_shards(out, tensors):
    """-> total bytes; files of at most SHARD_BYTES and the index."""
    shards, filled = [[]], 0
    for t in tensors:
        n = product(t[2]) * SIZES[t[1]]
        if shards[-1] and filled + n > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append((t, n))
        filled += n
    weight_map, total = {}, 0
    for i, shard in enumerate(shards, 1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        header, at = {"__metadata__": {"format": "mlx"}}, 0
        for (tensor, dtype, shape, _), n in shard:
            header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
            weight_map[tensor] = name
            at += n
        head = json.dumps(header).encode()
        with open(out / name, "wb") as f:
            f.write(struct.pack("<Q", len(head)) + head)
            for (_, _, _, chunks), n in shard:
                for chunk in chunks(n):
                    f.write(chunk)
        total += at
    write_json(out / "model.safetensors.index.json",
               {"metadata": {"total_size": total}, "weight_map": weight_map})
    return total


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def byte_names():
    """Byte -> the printable character that byte-level BPE vocabularies write for it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names, extra = {b: chr(b) for b in plain}, 256
    for b in range(256):
        if b not in names:
            names[b] = chr(extra)
            extra += 1
    return names


def write_tokenizer(out):
    """256 bytes and three control tokens; the rest of the embedding is unused."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
    write_json(out / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 256 + i, "content": s, **plain} for i, s in enumerate(CONTROL)],
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {name: b for b, name in sorted(byte_names().items())}, "merges": []}})
    write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": CONTROL[2],
        "chat_template":
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"})
    write_json(out / "generation_config.json", {"eos_token_id": [258]})


def bytes_per_token(kind, config, tensors):
    """Weights read for one token: the chosen experts only, no embedding unless it is the head."""
    total = 0
    for name, dtype, shape, _ in tensors:
        n = product(shape) * SIZES[dtype]
        if name.startswith("model.embed_tokens") and kind != "dense":
            continue
        if ".switch_mlp." in name:
            n = n * config["num_experts_per_tok"] // shape[0]
        total += n
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(CONFIGS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--seed", type=int, default=1234)
    args = parser.parse_args()

    config = {**CONFIGS[args.kind], **COMMON}
    if args.layers:
        config["num_hidden_layers"] = args.layers
    ck = Checkpoint(args.seed)
    vocab, hidden = config["vocab_size"], config["hidden_size"]
    ck.linear("model.embed_tokens", vocab, hidden, bits=6 if args.kind == "dense" else 4)
    if args.kind != "dense":
        ck.linear("lm_head", vocab, hidden, bits=6)
    ck.constant("model.norm", hidden)
    for layer in range(config["num_hidden_layers"]):
        add_layer(ck, args.kind, config, layer)

    args.out.mkdir(parents=True, exist_ok=True)
    total = write_shards(args.out, ck.tensors)
    config["quantization"] = config["quantization_config"] = ck.quantization
    write_json(args.out / "config.json", config)
    write_tokenizer(args.out)
    read = bytes_per_token(args.kind, config, ck.tensors)
    print(f"{args.out}: {total / 1e9:.3f} GB, {read / 1e6:.1f} MB read per token")


if __name__ == "__main__":
    main()
