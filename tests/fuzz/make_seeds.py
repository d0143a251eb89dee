#!/usr/bin/env python3
"""Writes the fuzz targets' first inputs: small valid files and what lies beside them.

usage: tests/fuzz/make_seeds.py OUT_DIR      -> OUT_DIR/TARGET/NNN
"""
import json
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def safetensors(header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    yield safetensors({"a": tensor("F32", [2, 2], 0, 16)}, bytes(16))
    yield safetensors({"__metadata__": {"format": "mlx", "}": "{"}, "a": tensor("U8", [3], 0, 3),
                       "b.weight": tensor("BF16", [2], 3, 7)}, bytes(7))
    yield safetensors({"a": tensor("F16", [], 0, 2), "b": tensor("I64", [0, 5], 2, 2)}, bytes(2))
    yield safetensors({"a": tensor("U32", [1] * 8, 0, 4)}, bytes(4))
    yield safetensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}     ', bytes(16))
    yield safetensors({}, b"")
    yield safetensors({"a": tensor("F32", [4294967296, 4294967296], 0, 16)}, bytes(16))
    yield safetensors({"a": tensor("F32", [2], 8, 16), "b": tensor("F32", [2], 0, 8)}, bytes(16))
    yield safetensors(b'{"a\\', b"")
    yield safetensors({"a": tensor("F32", [1], 0, 4)}, bytes(4), length=1 << 63)


def json_seeds():
    yield from (b"{}", b"[1,-0.5e+3,true,false,null]",
                b'{"a":{"b":[{"c":"\\u00e9\\ud83d\\ude00"}]}}', b'"\\"\\\\\\/\\b\\f\\n\\r\\t"',
                b" [ 9007199254740993 , 1E400 ] ", b'{"a":1,"a":2}',
                "[\"\u65e5\u672c \U0001f600\"]".encode(), b"[" * 70 + b"]" * 70, b'["\\ud800"]',
                b"[1,]", b'{"\\u0000":"\\u0000"}')


def tokenizer_seeds():
    vocab = {c: i for i, c in enumerate("abcdefgh \u0120\u010a")}
    vocab.update({"ab": 11, "abc": 12, "\u0120a": 13})
    base = {"version": "1.0", "added_tokens": [
        {"id": 14, "content": "<|im_end|>", "special": True, "lstrip": False, "rstrip": False,
         "normalized": False, "single_word": False}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["a b", "ab c", "\u0120 a"]}}
    yield json.dumps(base).encode()
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"},
             "behavior": "Isolated", "invert": False}
    base["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, split,
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}
    base["normalizer"] = {"type": "NFC"}
    base["model"]["merges"] = [["a", "b"], ["ab", "c"]]
    yield json.dumps(base, ensure_ascii=False).encode()
    base["model"]["ignore_merges"] = True
    yield json.dumps(base).encode()


def template_seeds():
    yield (b"{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m.content }}<|im_end|>\n"
           b"{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    yield (b"{%- set ns = namespace(n=0) -%}{% for x in [1, 2.5, 'a'] %}"
           b"{% set ns.n = loop.index %}{{ x ~ ns.n }}{% endfor %}")
    yield b"{% macro f(a, b=2) %}{{ a|upper|replace('A', 'b') }}{{ b }}{% endmacro %}{{ f('a') }}"
    yield b"{{ tools | tojson(indent=2) }}{{ messages[-1]['content'][1:3:2] }}{{ (1, 2)|length }}"
    yield (b"{% if messages[0].role == 'system' and not tools is defined %}"
           b"{{ 1 // 2 ** 3 % 4 }}{% endif %}")
    yield b"{{ messages | map(attribute='role') | join(', ') | trim }}{{ raise_exception('no') }}"
    yield b"{{ 'x' * 100000 }}{{ range(1000000)|list }}"
    yield b"(" * 300 + b"{{" + b"(" * 300


def http_seeds():
    body = b'{"model":"m","messages":[]}'
    post = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    get = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    chunked = (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"5\r\nhello\r\n0\r\n\r\n")
    for request in (post, get, chunked, post + get, chunked + post,
                    b"GET / HTTP/1.0\r\n\r\n",
                    b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked"
                    b"\r\n\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
                    b"PRI * HTTP/2.0\r\n\r\n",
                    b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n"):
        for piece in (0, 6):
            yield bytes([piece]) + request


def config_seeds():
    for path in sorted((HERE.parent / "golden" / "tiny").glob("*/config.json")):
        yield path.read_bytes()
    yield b'{"model_type": "kimi_k25", "text_config": {"model_type": "kimi_k2"}}'


TARGETS = {"fuzz_safetensors": safetensors_seeds, "fuzz_json": json_seeds,
           "fuzz_tokenizer_json": tokenizer_seeds, "fuzz_chat_template": template_seeds,
           "fuzz_http_request": http_seeds, "fuzz_model_config": config_seeds}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name, seeds in TARGETS.items():
        out = Path(sys.argv[1]) / name
        out.mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(seeds()):
            (out / f"{i:03d}").write_bytes(data)


if __name__ == "__main__":
    main()
