#!/usr/bin/env python3
"""Turn a training's result into an MLX checkpoint: mlx-lm's classes, quantiser and writer.

usage: convert.py --data DIR --checkpoint last.pt --out DIR
"""
import argparse
import json
import shutil
from pathlib import Path

import mlx.core as mx
import torch
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.utils import _get_classes, quantize_model, save_config, save_model

import make_data
import model as M

HERE = Path(__file__).resolve().parent


def float_model(config, state):
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    weights = {n: mx.array(w.float().numpy()).astype(mx.bfloat16) for n, w in state["weights"].items()}
    moe = [i for i in range(config["num_hidden_layers"]) if i >= config["first_k_dense_replace"]]
    for i, bias in zip(moe, state["bias"]):
        weights[f"model.layers.{i}.mlp.gate.e_score_correction_bias"] = mx.array(bias.numpy())
    expected = {n: w.shape for n, w in tree_flatten(model.parameters())}
    if {n: tuple(w.shape) for n, w in weights.items()} != {n: tuple(s) for n, s in expected.items()}:
        raise SystemExit("the trained parameters are not those of mlx-lm's model")
    model.update(tree_unflatten(list(weights.items())))
    mx.eval(model.parameters())
    return model


def tokenizer_files(out, data):
    shutil.copyfile(data / "tiktoken.model", out / "tiktoken.model")
    shutil.copyfile(HERE / "chat_template.jinja", out / "chat_template.jinja")
    added = {str(i): {"content": name, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                      "special": not name.startswith("<|tool_call")} for i,
                      name in make_data.special_names().items()}
    write(out / "tokenizer_config.json", {
        "added_tokens_decoder": added, "bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "clean_up_tokenization_spaces": False, "model_max_length": M.CONFIG["max_position_embeddings"],
        "tokenizer_class": "TikTokenTokenizer"})


def write(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    state = torch.load(args.checkpoint)
    config = state["config"]
    args.out.mkdir(parents=True, exist_ok=True)
    model = float_model(config, state)

    def predicate(path, module):
        if not hasattr(module, "to_quantized"):
            return False
        bits, group = M.bits_of(path, config["num_hidden_layers"])
        return {"bits": bits, "group_size": group, "mode": "affine"}

    # mlx-lm leaves out what the global group does not divide, and embed_q has 32 columns.
    model, config = quantize_model(model, dict(config), 32, 4, quant_predicate=predicate)
    save_model(args.out, model)
    save_config(config, args.out / "config.json")
    for name in ("config.json", "model.safetensors.index.json"):  # mlx-lm's have no last newline
        text = (args.out / name).read_text()
        (args.out / name).write_text(text.rstrip() + "\n")
    tokenizer_files(args.out, args.data)
    end = make_data.RANKS + make_data.SPECIALS.index("<|im_end|>")
    write(args.out / "generation_config.json", {"eos_token_id": end,
        "max_length": M.CONFIG["max_position_embeddings"],
                                                "temperature": 0.0})
    size = sum(f.stat().st_size for f in args.out.iterdir())
    print(f"{args.out}: {size} bytes")


if __name__ == "__main__":
    main()
