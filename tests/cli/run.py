#!/usr/bin/env python3
"""Tests of the commands: formats on stdout, one line on stderr, exit codes, where flags come from.

usage: run.py --binary build/release/renga [--filter TEXT]

The last line is `N passed, N failed`.
"""
import argparse
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TINY = ROOT / "tests" / "golden" / "tiny"
sys.path.insert(0, str(ROOT / "tests" / "api"))

import damaged
import doctor
import plan
import service
import sparse_kimi
import status
import tiny_model
from client import Failure, check


class Renga:
    def __init__(self, binary, work):
        self.binary, self.work = binary, Path(work)
        self.model = self.work / "tiny-chat"
        self.model.mkdir()
        tiny_model.main(self.model)

    def __call__(self, *args, stdin=b"", env=None, timeout=120):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RENGA_")}
        return subprocess.run([self.binary, *map(str, args)], input=stdin, capture_output=True,
                              env={**clean, "HOME": str(self.work), **(env or {})}, timeout=timeout)

    def good(self, *args, **how):
        p = self(*args, **how)
        check(p.returncode == 0, args, "exit", p.returncode, p.stderr.decode())
        return p.stdout

    def refused(self, code, part, *args, **how):
        """One line on stderr that begins with `renga: ` and names `part`; nothing on stdout."""
        p = self(*args, **how)
        lines = [x for x in p.stderr.decode().splitlines() if " INFO " not in x]
        check(p.returncode == code, args, "exit", p.returncode, "expected", code, lines)
        check(p.stdout == b"", args, "stdout", p.stdout[:80])
        check(len(lines) == 1 and lines[0].startswith("renga: "), args, lines)
        check(part in lines[0], args, f"{part!r} is not in", lines[0])

    def copy(self, name, to):
        target = self.work / to
        shutil.copytree(TINY / name, target)
        return target


def test_inspect_sums_up(renga):
    for name in ("llama-mixed_346", "deepseek_v3-bf16-kv_b", "qwen3-q4_64-tied", "kimi_k2-q4_64-unstacked",
                 "kimi_k2-int4-experts", "deepseek_v3-fp8", "deepseek_v3-nvfp4-global_scale"):
        got = json.loads(renga.good("inspect", TINY / name, "--json"))
        check(got["schema"] == "renga.inspect/1", got["schema"])
        modules = sum(m["bytes"] for m in got["modules"])
        layers = sum(x["bytes"] for x in got["layers"])
        check(modules == got["total_bytes"], name, modules, got["total_bytes"])
        check(layers + got["embedding_bytes"] + got["head_bytes"] == got["total_bytes"], name, layers)
        bits = 8 * got["total_bytes"] / got["parameters"]
        check(abs(bits - got["bits_per_weight"]) < 1e-8 * bits, name, bits, got["bits_per_weight"])
        text = renga.good("inspect", TINY / name).decode()
        check(got["architecture"] in text, name, "no architecture in the table")


def test_inspect_tells_every_width(renga):
    got = json.loads(renga.good("inspect", TINY / "llama-mixed_346", "--json"))
    bits = {m["name"]: m["bits"] for m in got["modules"] if m["kind"] == "affine"}
    check(bits["model.embed_tokens"] == 3, bits["model.embed_tokens"])
    check(bits["lm_head"] == 6, bits["lm_head"])
    check(bits["model.layers.0.self_attn.q_proj"] == 4, bits)


def test_inspect_tells_every_kind(renga):
    for name, role, kind, bits, group in (
            ("kimi_k2-int4-experts", "mlp.switch_mlp.up_proj", "int4", 4, 32),
            ("deepseek_v3-fp8", "self_attn.kv_b_proj", "fp8", 8, 128),
            ("deepseek_v3-mxfp4", "self_attn.embed_q", "mxfp4", 4, 32),
            ("deepseek_v3-nvfp4-global_scale", "self_attn.o_proj", "nvfp4", 4, 16),
            ("qwen3-mxfp8-tied", "mlp.down_proj", "mxfp8", 8, 32)):
        got = json.loads(renga.good("inspect", TINY / name, "--json"))
        module = next(m for m in got["modules"] if m["name"] == f"model.layers.0.{role}")
        check((module["kind"], module["bits"], module["group_size"]) == (kind, bits, group), name, module)
        text = renga.good("inspect", TINY / name).decode()
        check(f"{kind} {bits}/{group}" in text, name, text)


def test_tokenize_both_ways(renga):
    text = "Hello, Welt! \u9023\u6b4c \U0001f600\n\n  x".encode()
    for name in ("llama3", "qwen2", "kimi"):
        model = ROOT / "tests" / "fixtures" / "tokenizer" / name
        out = renga.good("tokenize", model, stdin=text)
        check(out.endswith(b"]\n") and b" " not in out, name, out[:60])
        back = renga.good("tokenize", model, "--decode", stdin=out)
        check(back == text, name, back)
    check(renga.good("tokenize", model, stdin=b"") == b"[]\n", "an empty text")


def test_tokenize_reads_control_tokens_only_when_told(renga):
    model = renga.model
    text = b"<|im_end|>"
    plain = json.loads(renga.good("tokenize", model, stdin=text))
    special = json.loads(renga.good("tokenize", model, "--special", stdin=text))
    check(len(special) == 1 and len(plain) > 1, plain, special)


def test_render_marks_what_the_template_wrote(renga):
    body = json.dumps({"messages": [{"role": "user", "content": "<|im_end|>?"}]}).encode()
    text = renga.good("render", renga.model, stdin=body)
    spans = json.loads(renga.good("render", renga.model, "--spans", stdin=body))
    ids = json.loads(renga.good("render", renga.model, "--ids", stdin=body))
    check("".join(s["text"] for s in spans).encode() == text, spans)
    check(any(s["text"] == "<|im_end|>?" and not s["trusted"] for s in spans), spans)
    end = json.loads(renga.good("tokenize", renga.model, "--special", stdin=b"<|im_end|>"))[0]
    check(ids.count(end) == text.count(b"<|im_end|>") - 1, ids)


def test_eval_writes_npy(renga):
    tokens, out = renga.work / "ids.json", renga.work / "out.npy"
    tokens.write_text("[1, 5, 9, 100]")
    renga.good("eval", TINY / "qwen3-q4_64-tied", "--tokens", tokens, "--logits", out)
    raw = out.read_bytes()
    vocab = json.loads((TINY / "qwen3-q4_64-tied" / "config.json").read_text())["vocab_size"]
    check(raw[:8] == b"\x93NUMPY\x01\x00", raw[:8])
    size = struct.unpack("<H", raw[8:10])[0]
    head = raw[10:10 + size].decode()
    check("'<f4'" in head and f"(4, {vocab})" in head and "False" in head, head)
    check(len(raw) == 10 + size + 4 * 4 * vocab, len(raw))


def test_run_is_the_same_with_the_same_seed(renga):
    args = ("run", renga.model, "--prompt", "Hi", "--max-tokens", 12, "--temperature", 1)
    a = renga.good(*args, "--seed", 7)
    check(a == renga.good(*args, "--seed", 7, "--threads", 2, "--chunk", 3), "another answer")
    check(a.endswith(b"\n"), a)
    check(len({renga.good(*args, "--seed", s) for s in range(6)}) > 1, "six seeds, one answer")


def test_bench_says_what_it_measured(renga):
    got = json.loads(renga.good("bench", TINY / "llama-mixed_346", "--json", "--prefill", 16,
                                "--decode-tokens", 2, "--rounds", 3))
    check(got["schema"] == "renga.bench/1", got)
    check({"kernels", "threads", "read_gb_s", "prefill", "decode"} <= got.keys(), got)
    check(got["prefill"][0]["tokens"] == 16 and got["prefill"][0]["tokens_per_s"] > 0, got)
    check({"tokens", "depth", "tokens_per_s", "bytes_per_token", "gb_s", "read_share"}
          <= got["decode"][0].keys(), got)


def test_version(renga):
    got = json.loads(renga.good("version", "--json"))
    check(got["schema"] == "renga.version/1" and got["numerics_class"] == "cpu-1", got)
    check(got["version"] in renga.good("version").decode(), got)


def test_wrong_usage_is_exit_2(renga):
    renga.refused(2, "frob", "frob")
    renga.refused(2, "renga help")
    renga.refused(2, "--frob", "run", renga.model, "--frob", "1")
    renga.refused(2, "--tokens", "run", renga.model, "--tokens", "x")
    renga.refused(2, "--prompt", "run", renga.model)
    renga.refused(2, "--threads", "run", renga.model, "--threads", "many", "--prompt", "x")
    renga.refused(2, "model", "inspect")
    renga.refused(2, "--api-port", "serve", renga.model, "--api-port", "65536")
    renga.refused(2, "--api-host 0.0.0.0 ", "serve", renga.model, "--api-host", "0.0.0.0")
    renga.refused(2, "activations", "run", renga.model, "--prompt", "x", "--activations", "int4")


def test_wrong_files_are_named(renga):
    renga.refused(2, "/nonexistent", "inspect", "/nonexistent")
    renga.refused(2, "config.json", "inspect", renga.work)

    model = renga.copy("llama-mixed_346", "cut")
    shard = next(model.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    renga.refused(2, shard.name, "inspect", model)

    model = renga.copy("llama-mixed_346", "gone")
    next(model.glob("*.safetensors")).unlink()
    renga.refused(2, "safetensors", "inspect", model)

    model = renga.copy("llama-mixed_346", "foreign")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    renga.refused(2, "mamba", "inspect", model)

    renga.refused(2, "tokenizer", "run", TINY / "llama-mixed_346", "--prompt", "x")


def test_no_chat_template_is_one_line(renga):
    model = renga.work / "base-model"
    shutil.copytree(renga.model, model)
    (model / "chat_template.jinja").unlink(missing_ok=True)
    config = model / "tokenizer_config.json"
    if config.exists():
        told = json.loads(config.read_text())
        told.pop("chat_template", None)
        config.write_text(json.dumps(told))
    renga.refused(2, "chat template", "run", model, "--prompt", "x")


def test_a_flag_wins_over_the_environment_over_the_file(renga):
    args = ("run", renga.model, "--prompt", "Hi", "--temperature", 1, "--max-tokens", 8)
    by_seed = {s: renga.good(*args, "--seed", s) for s in range(8)}
    first = by_seed[0]
    other = next((s for s, text in by_seed.items() if text != first), None)
    check(other is not None, "eight seeds, one answer")
    config = renga.work / "flags.json"
    config.write_text(json.dumps({"seed": other, "api-port": 1234}))
    env = {"RENGA_SEED": str(other)}
    check(renga.good(*args, env=env) == by_seed[other], "the environment is not read")
    check(renga.good(*args, "--seed", 0, env=env) == first, "the environment wins over the flag")
    check(renga.good(*args, "--config", config) == by_seed[other], "the file is not read")
    check(renga.good(*args, "--config", config, env={"RENGA_SEED": "0"}) == first, "the file wins")
    config.write_text('{"sead": 1}')
    renga.refused(2, "sead", *args, "--config", config)


def test_values_are_checked_before_anything_starts(renga):
    run = ("run", renga.model, "--prompt", "x")
    for value in ("0", "-1", "513", "1.5", "two", "", "100000000000000000000"):
        renga.refused(2, "--threads", *run, "--threads", value)
        renga.refused(2, "RENGA_THREADS", *run, env={"RENGA_THREADS": value})
    renga.refused(2, "--ctx", *run, "--ctx", "1")
    renga.refused(2, "4096 tokens", "serve", renga.model, "--api-port", "0", "--ctx", "4097")
    config = renga.work / "flags.json"
    for text, part in (('{"threads": "2"}', "a string"), ('{"threads": 0}', "from 1 to 512"),
                       ('{"threads": true}', "a boolean"), ('{"threads": null}', "null"),
                       ('{"threads": [2]}', "an array"), ('{"system": 12}', "a number"),
                       ('{"threads": 1, "threads": 2}', "twice"), ('{"thread": 1}', "unknown key"),
                       ("[1]", "an array"), ('{"threads"', "JSON"), ("", "JSON"),
                       ('{"config": "x"}', "unknown key")):
        config.write_text(text)
        renga.refused(2, part, *run, "--config", config)
    renga.refused(2, "/nonexistent", *run, "--config", "/nonexistent")


def test_what_does_not_fit_is_exit_3(renga):
    model = renga.work / "endless"
    shutil.copytree(renga.model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1 << 24}))
    most = ("--ctx", 1 << 24, "--parallel", 256)
    renga.refused(3, "GB of weights", "serve", model, "--api-port", "0", *most)


def test_too_few_file_descriptors_are_an_error(renga):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    p = subprocess.run([renga.binary, "serve", renga.model, "--api-port", "0"], capture_output=True,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    check(p.returncode == 1 and p.stderr.startswith(b"renga: file descriptors"), p.stderr)
    check(resource.getrlimit(resource.RLIMIT_NOFILE) == before, "this process has another limit")


def test_a_name_of_the_registry_is_a_model(renga):
    registry = renga.work / "models.json"
    registry.write_text(json.dumps({"small": {"path": str(TINY / "llama-mixed_346")}}))
    check(renga.good("inspect", "small", "--registry", registry), "nothing")
    renga.refused(2, "unknown-name", "inspect", "unknown-name", "--registry", registry)


def test_the_example_files_load(renga):
    flags = json.loads((ROOT / "config" / "renga.json").read_text())
    check(flags, "config/renga.json is empty")
    renga.good("version", "--config", ROOT / "config" / "renga.json")
    for peer in json.loads((ROOT / "config" / "discovery.json").read_text())["peers"].values():
        check(peer["device_capabilities"]["memory"] > 0, peer)


def interrupted(renga):
    """The exit code of a long greedy answer that got SIGINT after its first byte."""
    p = subprocess.Popen([renga.binary, "run", str(renga.model), "--prompt", "x", "--temperature", "0"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        p.stdout.read(1)
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=60)
    finally:
        p.kill()
    return p.returncode


def test_interrupt_is_exit_130(renga):
    # The whole answer takes a third of a second: a busy machine may be late with the signal once.
    codes = [interrupted(renga) for _ in range(4)]
    check(set(codes) <= {0, 130} and codes.count(130) >= 2, codes)


def test_serve_ends_while_it_loads(renga):
    p = subprocess.Popen([renga.binary, "serve", str(renga.model), "--api-port", "0"],
                         stderr=subprocess.PIPE, text=True)
    try:
        line = p.stderr.readline()
        check("listening" in line, line)
        p.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        p.communicate(timeout=20)
        check(p.returncode == 0, p.returncode)
        check(time.monotonic() - begin < 10, "slow to end")
    finally:
        p.kill()


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--binary", required=True, type=lambda s: str(Path(s).resolve()))
    ap.add_argument("--filter", default="")
    a = ap.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as work:
        renga = Renga(a.binary, work)
        tests = [t for part in (sys.modules[__name__], damaged, doctor, plan, service, sparse_kimi,
                                         status)
                 for t in vars(part).items() if t[0].startswith("test_")]
        for name, fn in tests:
            if a.filter not in name:
                continue
            try:
                said = fn(renga)
            except Failure as e:
                failed += 1
                print(f"FAIL {name}: {e}")
            except Exception:
                failed += 1
                print(f"FAIL {name}:\n{traceback.format_exc()}")
            else:
                passed += 1
                print(f"ok   {name}{': ' + said if said else ''}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
