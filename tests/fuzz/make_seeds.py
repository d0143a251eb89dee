#!/usr/bin/env python3
"""Writes the first inputs of the fuzz targets, from which tests/fuzz/update_corpus grows the corpora.

usage: tests/fuzz/make_seeds.py OUT_DIR      -> OUT_DIR/TARGET/NNN

Everything comes from the tests' own fixtures and from the lists below.
"""
import base64
import json
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
SEPARATOR = b"\n====\n"


def dump(value):
    return json.dumps(value, separators=(",", ":")).encode()


def parts(*files):
    return SEPARATOR.join(files)


# ---- safetensors --------------------------------------------------------------------------------

DTYPES = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16,
          "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64,
          "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3FNUZ": 8,
          "F8_E5M2FNUZ": 8}


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def broken_headers():
    good = {"a": tensor("F32", [2], 0, 8)}
    yield b'{"a\\'
    yield b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}     '
    for key in ("dtype", "shape", "data_offsets"):
        yield dump({"a": {k: v for k, v in good["a"].items() if k != key}})
        yield dump({"a": dict(good["a"], **{key: None})})
        yield dump({"a": dict(good["a"], **{key: [good["a"][key]]})})
        text = dump(good)[:-2] + b',"' + key.encode() + b'":' + dump(good["a"][key]) + b"}}"
        yield text
    for number in ("+1", "-1", "1e1", "01", "1.0", "9007199254740993", "18446744073709551616"):
        yield ('{"a":{"dtype":"U8","shape":[%s],"data_offsets":[0,1]}}' % number).encode()
        yield ('{"a":{"dtype":"U8","shape":[1],"data_offsets":[%s,1]}}' % number).encode()
    yield dump({"a": tensor("F99", [2], 0, 8)})
    yield dump({"a": tensor("U8", [1] * 9, 0, 1)})
    yield dump({"a": tensor("U8", [8, 8], 0, 8)})
    yield dump({"a": tensor("U8", [0, 1 << 52, 1 << 52], 0, 0)})
    yield dump({"a": tensor("U8", [4], 4, 0), "b": tensor("U8", [4], 0, 4)})
    yield dump({"a": tensor("F4", [3], 0, 8)})
    yield dump({"a": dict(tensor("U8", [8], 0, 8), extra=1)})
    yield dump({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8, 8]}})
    yield dump({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0]}})
    yield dump({"a" * 513: tensor("U8", [8], 0, 8)})
    yield dump({"": tensor("U8", [8], 0, 8)})
    yield b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"\\u0061":' + dump(
        tensor("U8", [0], 8, 8)) + b"}"
    yield b'{"\\u0000":' + dump(tensor("U8", [8], 0, 8)) + b"}"
    for metadata in ({"a": 1}, {"a": {}}, [], None, "x"):
        yield dump({"__metadata__": metadata, "a": tensor("U8", [8], 0, 8)})
    yield b'{"__metadata__":{},"__metadata__":{}}'
    yield b"[]"
    yield b"1"
    yield b"{}{}"
    yield b"{"
    yield b"\xff{}"


def safetensors_seeds():
    yield safetensors({"a": tensor("F32", [2, 2], 0, 16)}, bytes(16))
    yield safetensors({"__metadata__": {"format": "mlx", "}": "{"}, "a": tensor("U8", [3], 0, 3),
                       "b.weight": tensor("BF16", [2], 3, 7)}, bytes(7))
    yield safetensors({"a": tensor("F16", [], 0, 2), "b": tensor("I64", [0, 5], 2, 2)}, bytes(2))
    yield safetensors({"a": tensor("U32", [1] * 8, 0, 4)}, bytes(4))
    yield safetensors({}, b"")
    yield safetensors({"a": tensor("F32", [4294967296, 4294967296], 0, 16)}, bytes(16))
    yield safetensors({"a": tensor("F32", [4294967296, 4294967296], 0, 0)})
    yield safetensors({"a": tensor("U8", [2, (1 << 53) - 1, 1 << 10, 1], 0, 0)})
    yield safetensors({"a": tensor("F32", [2], 8, 16), "b": tensor("F32", [2], 0, 8)}, bytes(16))
    yield safetensors({"a": tensor("F32", [2], 0, 8), "b": tensor("F32", [2], 4, 12)}, bytes(12))
    yield safetensors({"a": tensor("F32", [2], 0, 8), "b": tensor("F32", [2], 12, 20)}, bytes(20))
    yield safetensors({"a": tensor("F32", [2], 0, 8)}, bytes(9))
    yield safetensors({"a": tensor("F32", [1], 0, 4)}, bytes(4), length=1 << 63)
    yield safetensors({"a": tensor("F32", [1], 0, 4)}, bytes(4), length=100000001)
    yield b"1234567"
    for dtype, bits in DTYPES.items():
        n = 4 * bits // 8
        yield safetensors({"a": tensor(dtype, [2, 2], 0, n)}, bytes(n))
    for header in broken_headers():
        yield safetensors(header, bytes(8))
    yield from sharded_seeds()


def sharded_seeds():
    one = safetensors({"a": tensor("U8", [2], 0, 2)}, b"ab")
    two = safetensors({"b": tensor("U8", [2], 0, 2)}, b"ab")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"metadata": {"total_size": 4}, "weight_map": {"a": names[0], "b": names[1]}}
    yield parts(one, two, dump(index))
    yield parts(one, two, dump(dict(index, metadata={"total_size": 4.0})))
    yield parts(one, one, dump(index))
    for wrong in (dict(index, metadata={"total_size": 5}), dict(index, metadata=None),
                  dict(index, metadata=[]), {"metadata": {}}, {"weight_map": []}, [],
                  dict(index, weight_map={"a": names[0]}),
                  dict(index, weight_map={"a": names[1], "b": names[1]}),
                  dict(index, weight_map={"a": names[0], "b": 1}),
                  dict(index, weight_map={"a": names[0], "b": "model-00003-of-00003.safetensors"}),
                  dict(index, weight_map={"a": names[0], "b": names[1], "c": names[1]}),
                  dict(index, metadata={"total_size": "4"}), dict(index, more=[{"x": 1}])):
        yield parts(one, two, dump(wrong))
    yield parts(one, two, b'{"weight_map":{"a":"' + names[0].encode() + b'","a":"'
                + names[0].encode() + b'"}}')
    yield parts(one, dump({"weight_map": {"a": "model.safetensors"}}))
    yield parts(one, dump({"weight_map": {"\u0000": "model.safetensors"}}))
    yield parts(one, b"")


# ---- JSON ---------------------------------------------------------------------------------------

def json_seeds():
    yield from (b"{}", b"[1,-0.5e+3,true,false,null]",
                b'{"a":{"b":[{"c":"\\u00e9\\ud83d\\ude00"}]}}', b'"\\"\\\\\\/\\b\\f\\n\\r\\t"',
                b" [ 9007199254740993 , 1E400 ] ", b'{"a":1,"a":2}',
                "[\"\u65e5\u672c \U0001f600\"]".encode(), b"[" * 70 + b"]" * 70, b'["\\ud800"]',
                b"[1,]", b'{"\\u0000":"\\u0000"}', b"[" * 100000)


# ---- tokenizers ---------------------------------------------------------------------------------

def byte_characters():
    """ByteLevel's 256 characters."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def tokenizer(vocab=None, merges=(), pre=None, normalizer=None, added=(), **model):
    if vocab is None:
        vocab = {c: i for i, c in enumerate("abcdefgh \u0120\u010a")}
    return {"version": "1.0", "added_tokens": list(added), "normalizer": normalizer,
            "pre_tokenizer": pre, "decoder": {"type": "ByteLevel"},
            "model": dict({"type": "BPE", "vocab": vocab, "merges": list(merges)}, **model)}


def added(i, content, **flags):
    base = {"id": i, "content": content, "special": True, "lstrip": False, "rstrip": False,
            "normalized": False, "single_word": False}
    return dict(base, **flags)


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
BYTE_LEVEL_REGEX = dict(BYTE_LEVEL, use_regex=True)
PATTERNS = [r"\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{Han}+|.",
            r"(?i:'s|'t|'re)|[\p{Lu}&&[^\p{Han}]]+", r"a{2,3}+|(?:\p{Greek}\w)+?(?=\s)|^\h+$",
            r"[^\S\n]+|[\w-]+|\W{,2}?\u00e9", r"[[:alpha:][:digit:]\p{^Han}\x{3042}-\x{3044}]",
            r"(?<=x)\d+|(?<!y)\D", r"(a|b)*c", r"(", r"[z-a]", r"\p{Nothing}", r"\1(a)", r"(?P<n>a)",
            r"\Aa\z|\bb\B", r"[a-c--b]", r"[a~~b]", r"\Q.\E", r"(?x) a b # c", r"\u{1F600}|\x41|\t",
            r"(?s:.)|(?-i:a)|(?m:^)", r"[\d\s\w\D\S\W]", r"[]a]|[^]a]", r"\p{L}\P{L}\pL", r"a**", "",
            r"(?>a+)|(?=a)|(?!b)", r"\h\H\R\X\N", r"[\p{L}--\p{Lu}]", r"\0|\07|\o{7}|\cA", r"$",
            r"[\p{L}&&\p{Lu}]", r"[^a&&b]", r"[\p{L}\p{N}&&[\p{Lu}\p{N}]]", r"[^\p{L}&&[^\p{N}]]",
            r"[\p{L}&&[^a]]", r"[a-c&&[b]]", r"[\p{L}&&\p{N}]", r"[\p{L}\P{L}]", r"[^\p{L}\P{L}]",
            "a\\", r"(?i)a", r"(?i)(?-i)b", "(" * 70 + "a" + ")" * 70, r"[[[[[[[[[a]]]]]]]]]",
            r"[\b]", "[a\\", r"[\k]", r"\x{110000}", r"\x", r"\u12", r"\uD800", r"\p{", r"\p{^L}"]


def tokenizer_seeds():
    end = added(14, "<|im_end|>")
    vocab = {c: i for i, c in enumerate("abcdefgh \u0120\u010a")}
    vocab.update({"ab": 11, "abc": 12, "\u0120a": 13})
    merges = ["a b", "ab c", "\u0120 a"]
    yield dump(tokenizer(vocab, merges, BYTE_LEVEL_REGEX, added=[end]))
    pre = sequence({"type": "Digits", "individual_digits": True}, split(PATTERNS[0]), BYTE_LEVEL)
    yield json.dumps(tokenizer(vocab, [["a", "b"], ["ab", "c"]], pre, {"type": "NFC"}, [end]),
                     ensure_ascii=False).encode()
    yield dump(tokenizer(vocab, merges, pre, ignore_merges=True, unk_token=None, dropout=None,
                         byte_fallback=False, continuing_subword_prefix="", end_of_word_suffix=""))
    full = {c: i for i, c in enumerate(byte_characters())}
    yield json.dumps(tokenizer(full, pre=BYTE_LEVEL, unk_token="<unk>"),
                     ensure_ascii=False).encode()
    for pattern in PATTERNS:
        yield dump(tokenizer(pre=sequence(split(pattern), BYTE_LEVEL)))
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous",
                     "Other"):
        for invert in (False, True):
            yield dump(tokenizer(pre=sequence(split(r"\s+", behavior, invert), BYTE_LEVEL)))
    yield dump(tokenizer(pre=sequence(split(".", kind="String"), BYTE_LEVEL)))
    for step in ({"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Punctuation"},
                 {"type": "Digits", "individual_digits": False}, {"type": "Whitespace"},
                 {"type": "Metaspace"}, {"type": "Sequence", "pretokenizers": []}, None, 1, {},
                 dict(BYTE_LEVEL, add_prefix_space=True), {"type": "Split"},
                 {"type": "ByteLevel", "trim_offsets": True}):
        yield dump(tokenizer(pre=step))
        yield dump(tokenizer(pre=sequence(step, BYTE_LEVEL)))
    for flag in ("special", "lstrip", "rstrip", "normalized", "single_word"):
        yield dump(tokenizer(vocab, merges, BYTE_LEVEL, {"type": "NFC"},
                             [added(14, "w\u00f6rld", **{flag: True}), added(15, "123")]))
    for wrong in ([1], [{}], [added(99, "x")], [added(-1, "x")], [added(14, "")], [added(0, "a")],
                  [added(14, "x", special=1)], {}, [added(14, "x"), added(15, "x")]):
        yield dump(tokenizer(vocab, merges, BYTE_LEVEL, None, wrong))
    for normalizer in ({"type": "Sequence", "normalizers": [{"type": "NFC"}]}, {"type": "NFKC"}, [],
                       {"type": "Sequence", "normalizers": 1}):
        yield dump(tokenizer(normalizer=normalizer, pre=BYTE_LEVEL))
    for model in ({"type": "WordPiece"}, {"type": "BPE"}, {"dropout": 0.1}, {"byte_fallback": True},
                  {"vocab": {"a": 0, "b": 0}}, {"vocab": {"a": 1 << 23}}, {"vocab": {"a": -1}},
                  {"vocab": {"\u65e5": 0, "": 1}}, {"vocab": []}, {"vocab": {"a": "b"}},
                  {"ignore_merges": 1}, {"unk_token": "a"}, {"vocab": {"a": 0, "\u0061": 1}}):
        yield dump(tokenizer(pre=BYTE_LEVEL, **{k: v for k, v in model.items() if k != "vocab"})
                   if "vocab" not in model else tokenizer(model["vocab"], pre=BYTE_LEVEL))
    for wrong in (["a"], ["a b c"], [["a"]], [["a", "b", "c"]], [1], ["a z"], ["a b", "a b"],
                  ["b c"], {}, [["a", 1]], ["a b", ["b", "c"]]):
        j = tokenizer(vocab, [], BYTE_LEVEL)
        j["model"]["merges"] = wrong
        yield dump(j)
    for key in ("model", "decoder", "pre_tokenizer", "added_tokens", "normalizer"):
        j = tokenizer(vocab, merges, BYTE_LEVEL)
        del j[key]
        yield dump(j)
        yield dump(dict(j, **{key: None}))
    yield dump(dict(tokenizer(vocab, merges, BYTE_LEVEL),
                    decoder={"type": "Sequence", "decoders": [{"type": "ByteLevel"}]}))
    yield dump(tokenizer(vocab, merges, BYTE_LEVEL))[:-1] + b',"model":{}}'


def rank_line(token, rank):
    return base64.b64encode(token) + b" %d\n" % rank


def tiktoken_seeds():
    tokens = [b"ab", b"abc", b" a", b"He", b"ll", b"Hell", b"o,", b"12", b"123", "ö".encode(), b"  "]
    lines = b"".join(rank_line(t, 256 + i) for i, t in enumerate(tokens))
    names = {str(256 + len(tokens) + i): {"content": c, "special": s} for i, (c, s) in enumerate(
        [("[BOS]", True), ("<|im_end|>", True), ("<think>", False), ("it's", True)])}
    config = {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": names}
    yield b"+"
    yield b"+" + lines
    yield parts(b"+" + lines, dump(config))
    yield parts(b"+" + lines, dump(config), dump({"vocab_size": 270}))
    yield parts(b"+" + lines, dump(config), dump({"vocab_size": 100}))
    yield parts(b"+" + lines, dump(config), dump({"text_config": {"vocab_size": 271}}))
    yield b"".join(rank_line(bytes([i]), i) for i in range(256))
    for line in (b"", b"x\n", b"YWI=\n", b"YWI= x\n", b"YWI= 256", b"YWI= 256\r\n", b"YW=I 256\n",
                 b"YWI 256\n", b"YWI= 0\n", b"YWI= 300\n", b"YWI= 4194304\n", b"YWI= 1234567890\n",
                 b"YQ== 256\n", b" 256\n", b"==== 256\n", b"YWI=  256\n", b"YWI= 256\nYWI= 257\n",
                 b"YWI= 256\n\n\nYWJj 257\n", base64.b64encode(b"x" * 4097) + b" 256\n",
                 base64.b64encode(b"a" * 3000) + b" 256\n"):
        yield b"+" + line
    for wrong in ({}, [], {"added_tokens_decoder": []}, {"added_tokens_decoder": {"267": []}},
                  {"added_tokens_decoder": {"267": {"content": 1}}},
                  {"added_tokens_decoder": {"267": {"content": "", "special": 1}}},
                  {"added_tokens_decoder": {"267": {"content": "x"}, "268": {"content": "x"}}}):
        yield parts(b"+" + lines, dump(wrong))
    yield parts(b"+" + lines, b"{")
    yield parts(b"+" + lines, b"{}", b"{")
    for size in (-1, 0, 1 << 40, "x", 267, 268, 523, 524):
        yield parts(b"+" + lines, b"{}", dump({"vocab_size": size}))


TEXTS = ["Hello, world!", "it's 12345 o'clock, I'LL we've DON'T", "  a\n\n b\t\r\n c   ",
         "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0 \u4e2d\u6587\uff0c",
         "na\u00efve cafe\u0301 \u212b \u1e9b\u0323 \uac00\u1100\u1161\u11a8",
         "\U0001f600\u200d\U0001f468 \U0001f1e9\U0001f1ea \u0e01\u0e33 \u0627\u0644",
         "<|im_start|>user<|im_end|> <think></think><\uff5cUser\uff5c>", "<|im_ <|im_end|",
         "aaaaaaaa    ....", "def f(x):\n    return x ** 2  # y\n",
         "x\u0300\u0301\u0302\u0345\u0315", "\u0378\U0001fae8\U0001c8ff", "3.14e-10 0x1F 1,000",
         "CamelCaseHTTPServer snake_case", " word <l> <r>  time \u0073\u0323\u0307 \r\n\n",
         "\u1112\u1161\u11ab\u1100\u1173\u11af", "\u00a0\u2003\u3000\u0085"]


def roundtrip_seeds():
    for i, text in enumerate(TEXTS):
        for which in range(12):
            flags = (0, 1, 0x1f, 0)[(i + which) % 4]
            yield bytes([which, flags]) + text.encode()
    for which in range(12):
        yield bytes([which, 0]) + b"\xff\xc3 \xe2\x82 \xf0\x9f\x98 a\xc3\xa9\x80"
        yield bytes([which, 0xff]) + b"ab "
        yield bytes([which, 0xff]) + "\u0301\u0316".encode()


# ---- templates and requests ---------------------------------------------------------------------

def fixture_json(name):
    return json.loads((TESTS / "fixtures" / "templates" / name).read_text())


def template_seeds():
    yield (b"{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m.content }}<|im_end|>\n"
           b"{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    yield b"{{ 'x' * 100000 }}{{ range(1000000)|list }}"
    yield b"(" * 300 + b"{{" + b"(" * 300
    yield b"{{" + b"(" * 60000
    yield b"{% if a %}" * 20000
    for x in ("l.extend(words)", "l.extend(l)", "l.extend('ab')", "l.insert(0, 9)", "l.insert(99, 9)",
              "l.insert(-2, 9)", "l.insert(-99, 9)", "l.pop(-9)", "l.pop(9)", "l.pop(0)", "empty.pop()",
              "l.index(3)", "l.index('x')", "mixed.count(1)", "l.count(none)", "l.copy()", "d.copy()",
              "d.pop('no')", "d.pop('no', 1)", "d.pop('a')", "d.setdefault('q', 1)", "d.update(1)",
              "d.update(nested)", "d.update(q=1)", "d.items()|list", "d.keys()|list|sort",
              "rows|map('upper')", "rows|groupby('n')|list", "rows|selectattr('n', 'lt', 3)|list",
              "rows|rejectattr('ok')|map(attribute='name', default='z')|join", "l|select('le', 3)|list",
              "l|batch(2, 'x')|list", "l|slice(2)|list", "words|sort(reverse=true)|join(',')",
              "words|unique|list", "rows|sum(attribute='n')", "l|max", "rows|min(attribute='n')",
              "u[::2]", "u[-2:]", "u[99:]", "u[5:1]", "l[-99:99:3]", "l[::-1]", "u.find('本')",
              "u.rfind('x')", "u.replace('ö', '', 1)", "u.split('本')", "sp.rsplit(None, 1)",
              "s.partition(', ')", "u.center(40)", "s.zfill(20)", "'%s|%d|%r' % (s, n, l)",
              "n is lt(8)", "n is le 7", "n is ge(7)", "l is sameas l", "n is divisibleby 'x'",
              "big * big", "big // 3", "-9223372036854775808 // -1", "2 ** 64", "1e308 * 10",
              "json|from_json", "d|tojson(indent=3, sort_keys=true)", "nested|pprint", "l|random"):
        yield b"{%% set r = %s %%}{{ r }}{{ l }}{{ d }}" % x.encode()
    yield b"{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}"
    yield b"{% for x in l %}{{ loop.cycle() }}{% endfor %}"
    yield b"{% for x in l if x is odd %}{{ loop.revindex }}{% break %}{% else %}e{% endfor %}"
    constructs = fixture_json("constructs.json")
    for c in constructs:
        yield c["template"].encode()
    chat = (b"{{ bos_token }}{% for m in messages %}{{ m }}{% endfor %}{{ tools }}{{ documents }}"
            b"{{ enable_thinking }}{{ x }}")
    request = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
                            {"role": "assistant", "content": None, "reasoning_content": "r",
                             "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
               "documents": [{"title": "t"}], "enable_thinking": True, "reasoning_effort": "low",
               "chat_template_kwargs": {"x": [1, 2.5, None, {"y": "z"}]}}
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": None}
    yield parts(chat, dump(request))
    yield parts(chat, dump(request), dump(config))
    yield parts(b"", dump(request), dump(dict(config, chat_template="{{ bos_token }}{{ x }}")))
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b{{ tools }}"},
             {"name": "rag", "template": "c"}]
    yield parts(b"", dump(dict(request, tools=[{}])), dump(dict(config, chat_template=named)))
    for wrong in ([{}], [1], named + named[:1], 1, None):
        yield parts(b"", dump(request), dump({"chat_template": wrong}))
    for wrong in (None, 1, [None], [{}], [{"role": 1}], [{"role": "user", "content": 1}],
                  [{"role": "user", "content": [1]}],
                  [{"role": "assistant", "tool_calls": [1, {"function": 1}, {}]}],
                  [{"role": "assistant", "tool_calls": [{"function": {"arguments": "[1"}}]}]):
        yield parts(chat, dump({"messages": wrong}))
    yield parts(chat, dump({"messages": [], "chat_template_kwargs": 1}))
    yield parts(chat, b"[]")


def chat_seeds():
    hello = [{"role": "user", "content": "Hello"}]
    base = {"model": "m", "messages": hello}
    yield dump(base)
    yield b" " + dump(base)
    numbers = {"temperature": [0, 0.5, 2, 2.1, -1, "1"], "top_p": [0, 0.5, 1, 1.5],
               "top_k": [0, 40, -1, 1.5, 4194305], "min_p": [0, 0.1, 2], "n": [1, 4, 5, 0, 1e99],
               "max_tokens": [1, 2048, 2049, 0], "max_completion_tokens": [1, 99999999],
               "repetition_penalty": [1, 0, 10, 11], "presence_penalty": [2, -3],
               "frequency_penalty": [-2, 3], "seed": [0, -1, 9007199254740993, 1.5, "x"],
               "logprobs": [True, False, 1], "top_logprobs": [0, 20, 21], "stream": [True, 0],
               "stop": ["a", ["a", "b"], [], [""], ["a"] * 5, [1], "x" * 65, 1],
               "logit_bias": [{}, {"1": 5}, {"-1": 0}, {"1": 101}, {"99999": 1}, {"1": "x"}, {"": 1},
                              {"1234567890": 1}],
               "stream_options": [{"include_usage": True}, {"x": 1}, {}], "user": ["u", 1],
               "metadata": [{"a": "b"}], "store": [False, True], "service_tier": ["auto", "flex"],
               "verbosity": ["medium", "low"], "modalities": [["text"], ["audio"], []],
               "response_format": [{"type": "text"}, {"type": "json_object"}, {}],
               "parallel_tool_calls": [True], "tools": [[], [{}]], "functions": [[], [1]],
               "tool_choice": ["auto", "none", "required", {}], "function_call": ["none", {}],
               "audio": [{}, None], "prediction": [{}], "web_search_options": [{}],
               "chat_template_kwargs": [{}, {"x": 1}, {"messages": []}, {"tools": 1}],
               "enable_thinking": [True, False], "reasoning_effort": ["low", "huge", 1],
               "documents": [[], [{}], [1]], "prompt_cache_key": ["k"], "nothing": [1],
               "model": ["other", 1, None], "messages": [[], {}, None]}
    for key, values in numbers.items():
        for value in values:
            yield dump(dict(base, **{key: value}))
    yield dump(dict(base, stream=True, stream_options={"include_usage": True}))
    yield dump(dict(base, logprobs=True, top_logprobs=5))
    yield dump(dict(base, max_tokens=5, max_completion_tokens=6))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}
    messages = [
        {"role": "system", "content": "s"}, {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "text", "text": "t"}], "name": "n"},
        {"role": "assistant", "content": None, "tool_calls": [call, dict(call, index=0)]},
        {"role": "assistant", "content": "", "reasoning_content": "r"},
        {"role": "assistant", "content": "", "reasoning": "r", "refusal": None},
        {"role": "tool", "tool_call_id": "c", "content": "3"},
        {"role": "function", "name": "f", "content": "3"},
        {"role": "assistant", "content": "x", "tool_calls": [dict(call, function=dict(
            call["function"], arguments={"x": 1}))]}]
    for space in (b"", b" "):
        yield space + dump(dict(base, messages=messages))
        for m in messages:
            yield space + dump(dict(base, messages=[m]))
    for m in ({}, 1, {"role": 1}, {"role": "x"}, {"role": "user"}, {"role": "user", "content": 1},
              {"role": "user", "content": [1]}, {"role": "user", "content": [{}]},
              {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
              {"role": "user", "content": [{"type": "text"}]}, {"role": "tool", "content": "x"},
              {"role": "user", "content": "x", "tool_calls": []}, {"role": "function"},
              {"role": "user", "content": "x", "tool_call_id": "c"},
              {"role": "assistant", "tool_calls": [1]}, {"role": "assistant", "tool_calls": [{}]},
              {"role": "assistant", "tool_calls": [dict(call, type="x")]},
              {"role": "assistant", "tool_calls": [dict(call, function={})]},
              {"role": "assistant", "tool_calls": [dict(call, function={"name": "f",
                                                                        "arguments": 1})]},
              {"role": "user", "content": "<|im_start|>system\n<|im_end|>" * 8}):
        yield dump(dict(base, messages=[m]))
    for text in TEXTS:
        yield dump(dict(base, messages=[{"role": "user", "content": text}]))
    yield from (b"", b"{", b"[]", b"null", b'{"model":"m","model":"m"}', b'{"model":"\\u0000"}',
                b'{"model":"m","messages":' + b"[" * 70 + b"]" * 70 + b"}",
                b'{"model":"m","messages":' + b"[" * 100000)


# ---- streams ------------------------------------------------------------------------------------

def stream(stops, tokens, flags=0):
    out = bytes([flags & 0xf8 | len(stops)]) if (flags & 0xf8 | len(stops)) % 5 == len(stops) \
        else bytes([next(f for f in range(flags & 0xf8, 256) if f % 5 == len(stops))])
    for s in stops:
        out += bytes([len(s) - 1]) + s
    for t in tokens:
        head, text = t if isinstance(t, tuple) else (0, t)
        out += bytes([head | len(text)]) + text
    return out


def stream_seeds():
    texts = [t.encode() for t in TEXTS] + [b"\xff\xc3 \xe2\x82 \xf0\x9f\x98 a\xc3\xa9\x80",
                                           b"\xf0\x9f\x98", b"\xe2\x82", b"\xed\xa0\x80", b"a\x00b"]
    for text in texts:
        for step in (1, 2, 3, 7, 31):
            tokens = [text[i:i + step] for i in range(0, len(text), step)]
            yield stream([], [(0x40 if i % 2 else 0, t) for i, t in enumerate(tokens)])
    text = "one END two\u65e5STOP three".encode()
    for stops in ([b"END"], [b"ND t", b"END"], [b"\xe6\x97\xa5"], ["\u65e5STOP".encode(), b"STOP"],
                  [b"\xef\xbf\xbd"], [b"three", b"tw", b"o", b"n"], [b"x", b"xx", b"xxx", b"xxxx"],
                  [b"e" * 64]):
        for step in (1, 3, 5, 31):
            tokens = [(0x40, text[i:i + step]) for i in range(0, len(text), step)]
            yield stream(stops, tokens)
            yield stream(stops, tokens + [(0x80, b"<|im_end|>")], 0x18)
    yield stream([b"aab"], [b"a", b"a", b"a", b"a", b"b"], 0x08)
    yield stream([b"\xef\xbf\xbdx"], [b"\xff", b"x"])
    yield stream([], [(0x80, b"<s>"), b"a", (0xc0, b"</s>"), b""], 0x10)


# ---- HTTP ---------------------------------------------------------------------------------------

def unescape(line):
    return line.encode().decode("unicode_escape").encode("latin-1")


def http_seeds():
    lines = [x for x in (TESTS / "api" / "http_cases.txt").read_text().splitlines()
             if x and not x.startswith("#")]
    for i in range(0, len(lines) - 1, 2):
        yield bytes([i % 16]) + unescape(lines[i + 1])
    body = b'{"model":"m","messages":[]}'
    post = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    get = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    chunked = (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"5\r\nhello\r\n0\r\n\r\n")
    for request in (post + get, chunked + post, get * 3, chunked * 2):
        yield b"\0" + request
        yield b"\6" + request
    yield b"\3HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n" + get
    yield b"\1GET /" + b"a" * 2048 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    yield b"\1GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(101)) + b"\r\n"
    for extra in (b"Expect: 100-continue", b"Expect: x", b"Connection: close",
                  b"Connection: keep-alive", b"X: " + b"y" * 17000, b"Connection: upgrade\r\nUpgrade: h2c"):
        yield b"\2POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n" + extra + b"\r\n\r\n{}"


def response_seeds():
    heads = [b"HTTP/1.1 200 OK", b"HTTP/1.0 404 Not Found", b"HTTP/1.1 503 ", b"HTTP/1.1 204 No Content",
             b"HTTP/2.0 200 OK", b"HTTP/1.1 1000 x", b"HTTP/1.1 20", b"ICY 200 OK", b"HTTP/1.1 200"]
    for i, head in enumerate(heads):
        yield bytes([i]) + head + b"\r\nContent-Length: 2\r\n\r\n{}"
        yield bytes([i + 3]) + head + b"\r\n\r\n{}"
    ok = b"HTTP/1.1 200 OK\r\n"
    for fields in (b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: -1", b"Content-Length: 1\r\n"
                   b"Content-Length: 2", b"Content-Length: 18446744073709551616", b"Content-Length:\t2 ",
                   b"Transfer-Encoding: chunked\r\nContent-Length: 2", b"Connection: close", b"A: b\r\n c",
                   b"A : b", b"\x00: b", b"A: b\n", b"A: \x80", b"Connection: upgrade\r\nUpgrade: h2c",
                   b"X: " + b"y" * 16400, b"Transfer-Encoding: gzip, chunked"):
        yield b"\4" + ok + fields + b"\r\n\r\nabcdefg"
    stream = (ok + b"Content-Type: text/event-stream\r\nConnection: close\r\n"
              b"Transfer-Encoding: chunked\r\n\r\n")
    for body in (b"", b"9\r\ndata: 1\n\n\r\n", b"9\r\ndata: 1\n\n\r\n0\r\n\r\n", b"9\r\ndata: 1\n\n\r\n5\r\nda",
                 b"1\r\na\r\n0\r\nT: t\r\n\r\n", b"1;a=b\r\na\r\n0;c\r\n\r\n",
                 b"A\r\n0123456789\r\na\r\n0123456789\r\n", b"g",
                 b"1\na\n", b"1\r\nab", b"100001\r\n", b"0000001\r\na\r\n", b"ffffffffffffffffff\r\n",
                 b"0\r\n\r\nmore", b"1\r\na\r\n" * 3, b"400\r\n" + b"x" * 1024 + b"\r\n1\r\nx\r\n",
                 b"\r\n", b"1 \r\na\r\n"):
        yield b"\0" + stream + body
        yield b"\6" + stream.replace(b"text/event-stream", b"text/plain") + body
    for early in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n",
                  b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"):
        yield b"\2" + early + ok + b"Content-Length: 1\r\n\r\nx"
        yield b"\1" + early * 2
    yield b"\5" + ok + b"\r\n" + b"x" * 1025
    yield b"\5SSH-2.0-OpenSSH_9.2p1\r\n"


# ---- configurations -----------------------------------------------------------------------------

def small(value, key=""):
    """A configuration with its long lists cut, which keeps seeds short."""
    if isinstance(value, dict):
        keep = list(value.items())
        if key in ("quantization", "quantization_config"):
            keep = keep[:8]
        return {k: small(v, k) for k, v in keep}
    return value


def model_config_seeds():
    seen = set()
    for path in sorted((TESTS / "golden" / "tiny").glob("*/config.json")):
        text = dump(small(json.loads(path.read_text())))
        if text not in seen:
            seen.add(text)
            yield text
    yield b'{"model_type": "kimi_k25", "text_config": {"model_type": "kimi_k2"}}'
    base = json.loads((TESTS / "golden" / "tiny" / "llama-q4_64" / "config.json").read_text())
    for key in base:
        yield dump({k: v for k, v in base.items() if k != key})
        for value in (0, -1, 1 << 40, 1.5, "x", None, [], {}, True):
            if value in (0, 1 << 40, "x") or isinstance(value, dict):
                yield dump(dict(base, **{key: value}))
    for rope in ({"type": "x"}, {"rope_type": "yarn"}, {"type": "linear", "factor": 0},
                 {"rope_type": "longrope", "long_factor": [1, "x"], "factor": 2},
                 {"type": "dynamic", "factor": 2}, [], 1):
        yield dump(dict(base, rope_scaling=rope))
    for quant in ({"bits": 4}, {"group_size": 64, "bits": 9}, {"group_size": 0, "bits": 4},
                  {"group_size": 32, "bits": 4, "mode": "mxfp4"}, {"mode": "x", "bits": 4}, [],
                  {"group_size": 64, "bits": 4, "model.a": False, "model.b": {"bits": 3}},
                  {"group_size": 16, "bits": 4, "mode": "nvfp4"},
                  {"group_size": 32, "bits": 8, "mode": "mxfp8"}):
        yield dump(dict(base, quantization=quant))
        yield dump(dict({k: v for k, v in base.items() if k != "quantization"},
                        quantization_config=quant))
    tiny = TESTS / "golden" / "tiny"
    qwen = json.loads((tiny / "qwen3_moe-q4_64" / "config.json").read_text())
    for more in ({"eos_token_id": [1, 2, 3]}, {"eos_token_id": [1] * 17}, {"eos_token_id": ["x"]},
                 {"head_dim": 65536, "num_attention_heads": 4096}, {"head_dim": 65537},
                 {"rms_norm_eps": {"__float__": "Infinity"}}, {"rms_norm_eps": {"__float__": "NaN"}},
                 {"rope_theta": {"__float__": "-Infinity"}}, {"rope_theta": {"__float__": "x"}},
                 {"rope_theta": 1e300}, {"rope_theta": 1e-300},
                 {"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                                   "high_freq_factor": 1,
                                   "original_max_position_embeddings": 8192}},
                 {"rope_scaling": {"rope_type": "yarn", "factor": 1e30,
                                   "original_max_position_embeddings": 64}}):
        yield dump(dict(base, **more))
    for more in ({"mlp_only_layers": 1}, {"mlp_only_layers": [0, 1, 99]}, {"mlp_only_layers": []},
                 {"decoder_sparse_step": 0}, {"num_experts": 3, "num_experts_per_tok": 4}):
        yield dump(dict(qwen, **more))
    deep = json.loads((tiny / "deepseek_v3-q4_64" / "config.json").read_text())
    for more in ({"n_shared_experts": 4096, "moe_intermediate_size": 1 << 20}, {"n_group": 3},
                 {"topk_group": 9}, {"q_lora_rank": None}, {"v_head_dim": 65536},
                 {"moe_layer_freq": 0}, {"scoring_func": "softmax"}, {"topk_method": "x"},
                 {"first_k_dense_replace": 99}):
        yield dump(dict(deep, **more))
    native = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32,
                                                       "symmetric": True, "type": "int",
                                                       "strategy": "group"}}}, "ignore": ["lm_head"]}
    fp8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128],
           "activation_scheme": "dynamic"}
    for quant in (native, fp8, dict(fp8, weight_block_size=[64]), {"quant_method": "gptq"},
                  dict(native, quantize_activations=True), dict(fp8, weight_block_size=[128] * 3),
                  dict(native, config_groups={})):
        yield dump(dict({k: v for k, v in base.items() if k != "quantization"},
                        quantization_config=quant))


def config_file_seeds():
    yield b"serve"
    lines = [b"serve", b"run m", b"bench m --json", b"inspect m", b"tokenize m --special=false",
             b"render m --ids", b"eval m --tokens t --logits l", b"version", b"help", b"--help",
             b"--version", b"serve --help", b"nothing", b"serve --api-port 65536",
             b"serve --api-port", b"run m x", b"run --max-tokens 1e3 m", b"serve --threads=4"]
    files = [{}, {"threads": 4, "api-port": 8000, "default-model": "m", "insecure-api": True},
             {"temperature": 0.5, "max-tokens": 10, "prompt": "p", "seed": 9007199254740992},
             {"rounds": 3, "depth": 0, "prefill": 64, "decode-tokens": 2, "chunk": 16},
             {"threads": 0}, {"threads": "4"}, {"threads": 1.5}, {"threads": None}, {"nothing": 1},
             {"config": "x"}, {"json": 1}, {"json": False}, {"json": "maybe"}, [], 1,
             {"temperature": "nan"}, {"temperature": 3}, {"ctx": 16777217}, {"ctx": 15}]
    for i, line in enumerate(lines):
        yield parts(line, dump(files[i % len(files)]))
    for i, value in enumerate(files):
        yield parts((b"serve m", b"run m", b"bench m")[i % 3], dump(value))
    for flag in ("api-host", "api-key-file", "chatgpt-api-port", "parallel", "activations",
                 "cpu-kernels", "system", "registry", "log-level", "log-format", "disable-tui",
                 "inference-engine", "discovery-module"):
        yield parts(b"serve m", dump({flag: 1}))
        yield parts(b"run --%s 1 m" % flag.encode(), b"{}")
    for registry in ({}, {"m": {"path": "/"}}, {"m": {"path": "~/x"}}, {"m": {"path": "."}},
                     {"m": {"path": "a/b"}}, {"m": {"path": "~"}}, {"m": {"path": ""}},
                     {"m": {"path": 1}}, {"m": {}}, {"m": []}, {"a": {}}, {"a": {}, "b": {}}, [], 1):
        yield parts(b"serve m", b"{}", dump(registry))
    yield parts(b"serve /", b"{}", b"{}")
    yield parts(b"serve ..", b"{}", b"{}")
    yield parts(b"serve a/b", b"{}", b"{}")
    for g in ({}, {"eos_token_id": 1}, {"eos_token_id": [1, 2, 3]}, {"eos_token_id": [1] * 20},
              {"eos_token_id": 1000}, {"eos_token_id": None}, {"eos_token_id": "x"},
              {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0, "repetition_penalty": 1},
              {"temperature": -1, "top_p": 0, "top_k": -1, "min_p": 2}, {"temperature": None}, [],
              {"temperature": "x"}):
        yield parts(b"", b"{}", b"{}", dump(g))
    for t in ({"eos_token": "<|im_end|>"}, {"eos_token": {"content": "<|im_end|>"}},
              {"eos_token": 1}, {"eos_token": "x"}, [], {}):
        yield parts(b"", b"{}", b"{}", b"{}", dump(t))
    yield parts(b"", b"{}", b"{}", b"{", b"{")


# ---- discovery ----------------------------------------------------------------------------------

def peer(address="10.0.2.1", port=50051, memory=196608, **more):
    return {"address": address, "port": port, "device_capabilities": {"memory": memory}, **more}


def discovery_seeds():
    yield (TESTS.parent / "config" / "discovery.json").read_bytes()
    two = {"a": peer(), "b": peer("10.0.2.2", 50052, 524288)}
    three = {**two, "c": peer("fe80::1%bridge0", 1, 1, head=True)}
    for layers in ("b=0-8,a=9-11", "a=0-11", "b=0-11,a=none", "a=0-5,b=6-11", "b=0-5,a=7-11",
                   "b=0-6,a=6-11", "a=x", "a=", "=1", "a=1-", "a=3-2", "a=1024", "a=0-3,a=4-11", ",",
                   "c=0-11", "b=0-11,zz=none", "b=0-5,zz=6-11", "", "a=1-2,"):
        yield parts(dump({"peers": two}), layers.encode())
    yield parts(dump({"peers": three}), b"a=0-3,b=4-7,c=8-11")
    yield parts(dump({"peers": three}), b"a=0-3,c=4-7,b=8-11")
    yield dump({"peers": {f"n{i}": peer(port=i + 1, memory=1 + i) for i in range(64)}})
    yield dump({"peers": {f"n{i}": peer(port=i + 1) for i in range(65)}})
    for root in ([], 1, {}, {"peers": []}, {"peers": {}}, {"peers": {"a": 1}}, {"x": 1}):
        yield dump(root)
    for name in ("", "a b", "\u00e9", "a" * 128, "a" * 129, "a/b", ".", "_-.", "a\n"):
        yield dump({"peers": {name: peer()}})
    for key in ("address", "port", "device_capabilities"):
        for value in (None, "", "x", 0, -1, 1.5, 65536, [], {}, True):
            yield dump({"peers": {"a": {**peer(), key: value}}})
        yield dump({"peers": {"a": {k: v for k, v in peer().items() if k != key}}})
    for address in ("0.0.0.0", "::", "[::1]", "a.b-c_d", "10.0.2.1/24", "a" * 253, "a" * 254):
        yield dump({"peers": {"a": peer(address)}})
    for memory in (0, -1, 1, 1 << 30, (1 << 30) + 1, 0.5, "1", None, 1e30):
        yield dump({"peers": {"a": peer(memory=memory)}})
    for more in ({"chip": 1}, {"chip": "M4"}, {"model": "x" * 129}, {"model": "\n"}, {"flops": 1},
                 {"flops": {"fp32": 1e3, "fp16": 0, "int8": 1}}, {"flops": {"fp32": -1}},
                 {"flops": {"int8": "1"}}, {"gpu": [1]}):
        yield dump({"peers": {"a": {**peer(), "device_capabilities": {"memory": 5, **more}}}})
    yield dump({"peers": {"a": peer(head=True), "b": peer(port=2, head=True)}})
    yield dump({"peers": {"a": peer(head=1)}})
    yield dump({"peers": {"a": peer(), "b": peer()}})
    yield b'{"peers":{"a":{},"a":{}}}'
    yield b'{"peers":{"a":{"address":"x","port":1,"device_capabilities":{"memory":1,"flops":{"fp32":1e999}}}}}'


# ---- peer messages ------------------------------------------------------------------------------

CONTROL, STEP, OPEN, FORWARD, PROBE, HISTORY = range(6)
HELLO, REFUSE, HEARTBEAT, PROPOSE, READY, COMMIT, ACK, ABORT = range(1, 9)


def varint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    """A field of the protocol: int, bytes, str, or ("fixed64", n)."""
    if isinstance(value, tuple):
        return varint(number << 3 | 1) + struct.pack("<Q", value[1])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(values):
    return b"".join(field(number, value) for number, value in values.items())


def control(kind, values):
    return field(kind, fields(values))


def an_epoch(boot=1000, n=1):
    return fields({1: ("fixed64", boot), 2: n})


DIGEST = bytes(16)
MODEL = (field(1, DIGEST) + field(2, 3)
         + b"".join(field(3, fields({1: i, 2: 1, 3: DIGEST})) for i in range(3)))


def hello(node, **more):
    values = {1: 1, 2: 0, 3: "0.1.0", 4: node, 5: ("fixed64", 1000 + "abc".find(node)), 6: "a",
              7: "plain", 8: "cpu-1", 9: 1, 10: 1, 11: 1, 12: MODEL}
    values.update({int(k[1:]): v for k, v in more.items()})
    return control(HELLO, {k: v for k, v in values.items() if v is not None})


def proposal(n=1, nodes=(("b", 0, 1), ("a", 1, 2)), **more):
    values = {1: an_epoch(n=n), 3: 1024, 4: 4, 5: 64, 6: 64, 7: 512, 8: "int8", 9: DIGEST}
    values.update({int(k[1:]): v for k, v in more.items()})
    return field(PROPOSE, b"".join(field(2, fields({1: i, 2: f, 3: c})) for i, f, c in nodes)
                 + fields({k: v for k, v in values.items() if v is not None}))


def beat(**more):
    values = {1: 5, 2: 4, 3: 3, 4: 2, 5: 1, 6: an_epoch(), 7: 10, 8: 11}
    values.update({int(k[1:]): v for k, v in more.items()})
    return control(HEARTBEAT, values)


def seq(n_rows, position, blocks, **more):
    packed = b"".join(varint(b) for b in blocks)
    return field(3, fields({1: n_rows, 2: position, 3: packed})
                 + fields({int(k[1:]): v for k, v in more.items()}))


# max_rows 20, parallel 3, 300 blocks of 16 positions, context 128, hidden 3
STEP_LIMITS = bytes([19, 2, 43, 1, 127, 0, 2])


def step(seqs, n_rows, number=1, epoch=an_epoch(), more=b"", rows=None):
    rows = bytes(12 * n_rows) if rows is None else rows
    inner = field(1, epoch) + field(2, number) + seqs + more + (field(15, rows) if rows else b"")
    return bytes([STEP]) + STEP_LIMITS + field(2, inner)


def step_seeds():
    one, two = seq(1, 31, [7, 299]), seq(5, 0, [0])
    yield step(one, 1)
    yield step(one + two, 6)
    yield step(one + two + seq(2, 126, range(8)), 8, number=1 << 40)
    yield step(one, 0, more=field(4, "not finite") + field(5, 10), rows=b"")
    yield step(one, 1, more=field(4, "x"))
    yield step(one, 1, number=0)
    yield step(one, 1, epoch=b"")
    yield step(one, 2)
    yield step(one, 1, rows=bytes(13))
    yield step(seq(0, 1, [1]), 0)
    yield step(seq(1, 31, [7]), 1)
    yield step(seq(1, 31, [7, 300]), 1)
    yield step(seq(1, 128, range(9)), 1)
    yield step(seq(20, 0, [1, 2]), 20)
    yield step(seq(21, 0, [1, 2]), 21)
    yield step(one * 4, 4)
    yield step(field(3, fields({1: 1, 2: 0}) + field(3, 7)), 1)
    yield step(one, 1, more=field(9, "later"))
    yield step(seq(1, 31, [7, 8], _4=1), 1)
    yield step(one, 1) + field(7, 1)
    yield bytes([STEP]) + STEP_LIMITS + field(3, 1) + step(one, 1)[8:]
    yield bytes([STEP]) + STEP_LIMITS + field(1, b"")
    yield bytes([STEP]) + STEP_LIMITS + field(2, field(3, b"") * 100)


def event(kind, peer, value, message=b""):
    head = bytes([kind + 8 * peer, value])
    return head + (struct.pack("<H", len(message)) + message if kind == 2 else b"")


UP, DOWN, MESSAGE, LOADED, LOAD_FAILED, RING_DOWN, WORK, TICK = range(8)


def history_seeds():
    def of_head(*more):
        return b"".join((bytes([HISTORY, 0]), event(UP, 1, 0), event(UP, 2, 0),
                         event(MESSAGE, 1, 0, hello("b")), event(MESSAGE, 2, 0, hello("c")),
                         event(TICK, 0, 20)) + more)

    def of_worker(*more):
        return b"".join((bytes([HISTORY, 1]), event(UP, 0, 0), event(UP, 2, 0),
                         event(MESSAGE, 0, 0, hello("a")), event(MESSAGE, 2, 0, hello("c")))
                        + more)

    epoch = {1: an_epoch()}
    served = (event(LOADED, 0, 0), event(MESSAGE, 1, 0, control(READY, epoch)),
              event(MESSAGE, 2, 0, control(READY, epoch)),
              event(MESSAGE, 1, 0, control(ACK, epoch)), event(MESSAGE, 2, 0, control(ACK, epoch)))
    began = (event(MESSAGE, 0, 0, proposal()), event(LOADED, 0, 0),
             event(MESSAGE, 0, 0, control(COMMIT, epoch)))
    aborted = control(ABORT, {1: an_epoch(), 2: "over", 3: "c"})
    yield of_head()
    yield of_head(*served)
    yield of_head(*served, event(WORK, 0, 5), event(MESSAGE, 1, 1, beat()), event(TICK, 0, 250))
    yield of_head(*served, event(RING_DOWN, 0, 0), event(TICK, 0, 250), *served)
    yield of_head(*served, event(DOWN, 1, 0), event(TICK, 0, 250))
    yield of_head(*served, event(MESSAGE, 1, 0, aborted), event(TICK, 0, 250))
    yield of_head(event(LOAD_FAILED, 0, 0), event(TICK, 0, 250))
    yield of_head(event(MESSAGE, 1, 0, control(READY, {1: an_epoch(), 2: "full", 3: 7})))
    yield of_head(event(MESSAGE, 1, 0, proposal()))
    yield of_worker()
    yield of_worker(*began)
    yield of_worker(*began, event(MESSAGE, 0, 0, aborted), event(MESSAGE, 0, 0, proposal(n=2)))
    yield of_worker(*began, event(MESSAGE, 0, 0, proposal(n=1)))
    yield of_worker(*began, event(DOWN, 0, 0), event(UP, 0, 9), event(MESSAGE, 0, 0, hello("a")))
    yield of_worker(*began, event(RING_DOWN, 0, 0))
    yield of_worker(event(MESSAGE, 0, 0, proposal(nodes=(("c", 0, 1), ("a", 1, 2)))))
    yield of_worker(event(MESSAGE, 2, 0, proposal()))
    yield of_worker(event(MESSAGE, 0, 0, control(COMMIT, epoch)))
    yield bytes([HISTORY, 2]) + event(UP, 0, 0) + event(MESSAGE, 0, 0, hello("b"))
    yield bytes([HISTORY, 2]) + event(UP, 0, 0) + event(TICK, 0, 255)
    yield bytes([HISTORY, 1]) + event(UP, 0, 0) + event(
        MESSAGE, 0, 0, control(REFUSE, {1: "model", 2: "x", 3: "y"}))


def control_seeds():
    yield from (hello("b"), hello("b", _1=2), hello("b", _4=""), hello("b", _5=("fixed64", 0)),
                hello("b", _7="0123456789abcdef"), hello("b", _7="x"), hello("b", _8="x" * 64),
                hello("b", _10=1 << 60), hello("b", _12=None), hello("b", _12=MODEL + MODEL),
                hello("b", _12=field(1, DIGEST) + field(2, 1024)), hello("b", _13="later"),
                hello("b", _12=MODEL + field(4, fields({2: 5, 3: DIGEST}))),
                hello("b", _3="\x1b[31m\u202e\u00e9"), hello("b", _4="x" * 129),
                hello("b", _12=field(1, DIGEST) + field(2, 9) + field(3, b"") * 2000))
    yield from (proposal(), proposal(n=0), proposal(nodes=()), proposal(_3=1 << 25),
                proposal(nodes=(("a", 0, 3),)), proposal(nodes=(("b", 0, 3), ("a", 3, 0))),
                proposal(nodes=(("b", 0, 1), ("b", 1, 1), ("a", 2, 1))),
                proposal(nodes=(("b", 1, 1), ("a", 2, 1))), proposal(_4=0), proposal(_5=15),
                proposal(_6=24), proposal(_7=1 << 20), proposal(_8="f32"), proposal(_8=""),
                proposal(_9=b"x"), proposal(nodes=tuple((f"n{i}", i, 1) for i in range(65))))
    yield from (beat(), beat(_1=1 << 63), beat(_5=2), beat(_6=b""), control(HEARTBEAT, {}))
    for values in ({}, {1: an_epoch()}, {1: an_epoch(), 2: "why", 3: 6}, {1: an_epoch(), 3: 6},
                   {1: an_epoch(), 2: "why", 3: 99}, {1: an_epoch(boot=0)}):
        yield control(READY, values)
    for kind in (COMMIT, ACK, ABORT, REFUSE):
        yield control(kind, {})
        yield control(kind, {1: an_epoch()})
        yield control(kind, {1: an_epoch(), 2: "why", 3: "b"})
    yield control(REFUSE, {1: "head", 2: "a", 3: "b"})
    yield control(REFUSE, {1: "a\0b"})
    yield field(9, b"") + field(REFUSE, field(1, "x"))
    yield field(REFUSE, b"") + field(COMMIT, b"")
    yield b"\x13\x14"
    yield b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"


def peer_message_seeds():
    for data in control_seeds():
        yield bytes([CONTROL]) + data
    yield from step_seeds()
    for values in ({1: an_epoch(), 2: "b"}, {1: an_epoch()}, {2: "b"}, {1: an_epoch(), 2: "b c"}):
        yield bytes([OPEN]) + field(1, fields(values))
    yield bytes([OPEN]) + field(2, b"")
    yield bytes([FORWARD]) + field(1, "GET / HTTP/1.1\r\n\r\n")
    yield bytes([FORWARD]) + field(1, "")
    yield bytes([FORWARD]) + field(2, 1) + field(1, "x") + field(3, 1)
    probe = {1: 1, 2: 1024, 3: 1 << 40, 4: "0.1.0", 15: bytes(20)}
    yield bytes([PROBE]) + fields(probe)
    yield bytes([PROBE]) + fields({**probe, 2: 1 << 31})
    yield bytes([PROBE]) + fields({15: b"x", 1: 1})
    yield from history_seeds()


TARGETS = {"safetensors": safetensors_seeds, "json": json_seeds,
           "tokenizer_json": tokenizer_seeds, "tiktoken_model": tiktoken_seeds,
           "tokenize_roundtrip": roundtrip_seeds, "chat_template": template_seeds,
           "chat_json": chat_seeds, "sse_utf8": stream_seeds, "http_request": http_seeds,
           "http_response": response_seeds,
           "model_config": model_config_seeds, "config_file": config_file_seeds,
           "discovery": discovery_seeds, "peer_message": peer_message_seeds}


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
