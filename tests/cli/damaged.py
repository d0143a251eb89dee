"""Shards that are cut, swapped, foreign, half copied or not there: one line that names the file."""
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

from client import check

TINY = Path(__file__).resolve().parent.parent / "golden" / "tiny"
SOURCE = "llama-mixed_346"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = "model.safetensors.index.json"


def read(path):
    """-> {name: (dtype, shape, bytes)}"""
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], raw[8 + n + t["data_offsets"][0]:
                                               8 + n + t["data_offsets"][1]])
            for name, t in header.items()}


def write(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text +
                     b"".join(data for _, _, data in tensors.values()))


def sharded(renga, index=True, source=SOURCE):
    """A tiny checkpoint in two shards, in a new directory."""
    target = renga.work / "sharded"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(TINY / source, target)
    whole = target / "model.safetensors"
    tensors = read(whole)
    whole.unlink()
    names = sorted(tensors)
    halves = [names[:len(names) // 2], names[len(names) // 2:]]
    for file, half in zip(SHARDS, halves):
        write(target / file, {name: tensors[name] for name in half})
    (target / INDEX).unlink(missing_ok=True)
    if index:
        total = sum(len(data) for _, _, data in tensors.values())
        (target / INDEX).write_text(json.dumps({
            "metadata": {"total_size": total},
            "weight_map": {name: file for file, half in zip(SHARDS, halves) for name in half}}))
    return target


def refused(renga, model, *parts):
    for part in parts:
        renga.refused(2, part, "inspect", model)


def test_the_two_shards_are_fine(renga):
    for index in True, False:
        check(renga.good("inspect", sharded(renga, index)), "nothing")


def test_a_cut_shard(renga):
    model = sharded(renga)
    shard = model / SHARDS[1]
    whole = shard.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for size, says in ((len(whole) - 1, "cut short or damaged, download it again"),
                       (len(whole) // 2, "cut short or damaged, download it again"),
                       (header, "cut short or damaged, download it again"),
                       (header - 1, "it is cut short or not a safetensors file: download it again"),
                       (5, "5 bytes, a safetensors file has at least 8; it is cut short"),
                       (0, "0 bytes, a safetensors file has at least 8; it is cut short")):
        shard.write_bytes(whole[:size])
        refused(renga, model, SHARDS[1], says)
    shard.write_bytes(whole + b"\0")
    refused(renga, model, SHARDS[1], f"the file has {len(whole) - header + 1} data bytes")


def test_swapped_shards(renga):
    for index in True, False:
        model = sharded(renga, index)
        (model / SHARDS[0]).rename(model / "other")
        (model / SHARDS[1]).rename(model / SHARDS[0])
        (model / "other").rename(model / SHARDS[1])
        if index:
            refused(renga, model, f"should be in {SHARDS[0]}, but is in {SHARDS[1]}",
                    "renamed or swapped")
        else:
            renga.good("inspect", model)  # nothing says which name belongs to which


def test_a_shard_of_another_model(renga):
    foreign = (sharded(renga, source="kimi_k2-q4_64-unstacked") / SHARDS[1]).read_bytes()
    model = sharded(renga)
    (model / SHARDS[1]).write_bytes(foreign)
    refused(renga, model, f"should be in {SHARDS[1]}, but that file has none of this name",
            "of another model or download")
    (model / INDEX).unlink()
    refused(renga, model, f"{SHARDS[1]} has 'model.layers.1.", "which belongs to another model")


def test_a_shard_with_the_same_names_and_other_shapes(renga):
    model = sharded(renga)
    tensors = read(model / SHARDS[1])
    name = next(n for n, t in tensors.items() if n.endswith("_proj.weight"))
    dtype, (rows, *rest), data = tensors[name]
    tensors[name] = (dtype, [2 * rows, *rest], data + data)
    write(model / SHARDS[1], tensors)
    refused(renga, model, f"{SHARDS[1]}: '{name}' is [{2 * rows}, ")
    tensors[name] = (dtype, [rows, *rest], data)
    write(model / SHARDS[1], tensors)


def test_a_total_size_of_other_things_is_only_a_warning(renga):
    model = sharded(renga)
    index = json.loads((model / INDEX).read_text())
    index["metadata"]["total_size"] += 1
    (model / INDEX).write_text(json.dumps(index))
    result = renga("inspect", model)
    check(result.returncode == 0 and b"metadata.total_size is" in result.stderr, result.stderr)


def test_a_missing_shard_and_what_is_there_instead(renga):
    for index in True, False:
        for i in 0, 1:
            model = sharded(renga, index)
            shard = model / SHARDS[i]
            shard.rename(model / "somewhere-else")
            refused(renga, model, f"shard {SHARDS[i]} is missing; is the download complete?")
            for name in (SHARDS[i] + ".part", SHARDS[i] + ".incomplete", SHARDS[i] + ".tmp",
                         "." + SHARDS[i] + ".Xa3d1F", SHARDS[i] + ".crdownload"):
                (model / name).write_bytes(b"x")
                refused(renga, model, f"shard {SHARDS[i]} is missing; {name} is there: its copy or "
                                      "download has not finished")
                (model / name).unlink()
    model = sharded(renga)
    (model / SHARDS[0]).rename(model / (SHARDS[0] + ".part"))
    (model / SHARDS[1]).unlink()
    refused(renga, model, f"no model*.safetensors there; {SHARDS[0]}.part is")


def test_an_unfinished_download_of_full_size(renga):
    model = sharded(renga)
    control = model / (SHARDS[1] + ".aria2")
    control.write_bytes(b"x")
    refused(renga, model, SHARDS[1], "its download has not finished")
    control.unlink()
    renga.good("inspect", model)


def test_names_left_over_beside_a_whole_model_do_not_matter(renga):
    model = sharded(renga)
    (model / (SHARDS[0] + ".part")).write_bytes(b"x")
    (model / "consolidated.safetensors").write_bytes(b"x")
    renga.good("inspect", model)


def test_an_index_that_names_a_file_that_is_not_there(renga):
    model = sharded(renga)
    text = (model / INDEX).read_text()
    (model / INDEX).write_text(text.replace(SHARDS[1], "model-extra.safetensors"))
    refused(renga, model, "shard model-extra.safetensors is missing; is the download complete?")


def test_not_a_file(renga):
    model = sharded(renga)
    shard = model / SHARDS[1]
    shard.unlink()
    shard.mkdir()
    refused(renga, model, f"{SHARDS[1]}: is a directory, a safetensors file is expected")
    shard.rmdir()
    os.symlink("../../blobs/0123abcd", shard)  # as in a cache of huggingface_hub
    refused(renga, model, f"{SHARDS[1]}: is a link to ../../blobs/0123abcd, which is not there")
    shard.unlink()
    os.mkfifo(shard)
    refused(renga, model, f"{SHARDS[1]}: not a regular file")


def test_a_changed_file_ends_run_with_one_line(renga):
    model = renga.work / "changing"
    shutil.copytree(renga.model, model)
    p = subprocess.Popen([renga.binary, "run", str(model), "--prompt", "x", "--temperature", "0"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        p.stdout.read(1)
        os.truncate(model / "model.safetensors", 0)
        _, err = p.communicate(timeout=60)
    finally:
        p.kill()
    lines = [x for x in err.decode().splitlines() if x.startswith("renga: ")]
    check(p.returncode == 1, "exit", p.returncode, err.decode())
    check(len(lines) == 1 and "model.safetensors: was truncated from" in lines[0], lines)
