"""`renga doctor`: with and without a peer, files that are there, damaged and gone, digests."""
import contextlib
import hashlib
import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import sparse_kimi
from client import check

TINY = Path(__file__).resolve().parent.parent / "golden" / "tiny"
PEER = {"id", "address", "port", "interface", "reachable", "reason", "rtt_ms", "rtt_p99_ms", "hop_ms",
        "send_gb_s", "receive_gb_s", "clock_ms", "token_loss_percent", "build"}
FIGURES = ("rtt_ms", "rtt_p99_ms", "hop_ms", "send_gb_s", "receive_gb_s")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ring(renga, name, memory=1024):
    """A head `near` and a worker `far`; -> the file, far's port"""
    path, port = renga.work / f"{name}.json", free_port()
    common = {"address": "127.0.0.1",
              "device_capabilities": {"memory": memory, "chip": "Apple M2 Ultra"}}
    path.write_text(json.dumps({"peers": {"near": {"port": free_port(), **common},
                                          "far": {"port": port, **common}}}))
    return path, port


@contextlib.contextmanager
def worker(renga, nodes, *flags):
    """The daemon of `far`, from the moment that it listens for peers."""
    p = subprocess.Popen([renga.binary, "serve", "--default-model", renga.model, "--api-port", "0",
                          "--discovery-config-path", nodes, "--node-id", "far", *flags],
                         stderr=subprocess.PIPE, text=True)
    try:
        seen = [p.stderr.readline()]
        while "listening for peers" not in seen[-1] and seen[-1]:
            seen.append(p.stderr.readline())
        check(seen[-1], "no daemon:", seen)
        yield p
    finally:
        p.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            p.communicate(timeout=30)
        p.kill()


def examined(renga, nodes, *flags, code=0, **how):
    p = renga("doctor", "--discovery-config-path", nodes, "--json", *flags, **how)
    check(p.returncode == code, flags, "exit", p.returncode, p.stdout, p.stderr.decode())
    lines = [x for x in p.stderr.decode().splitlines() if " INFO " not in x]
    check(len(lines) == (code != 0) and all(x.startswith("renga: doctor: ") for x in lines), lines)
    got = json.loads(p.stdout)
    check(set(got) == {"schema", "self", "peers", "checks", "files"}, set(got))
    check(got["schema"] == "renga.doctor/1", got["schema"])
    for peer in got["peers"]:
        check(set(peer) == PEER, set(peer))
    for c in got["checks"]:
        check(set(c) == {"name", "ok", "stops_ring", "message"}, c)
        check(not (c["ok"] and c["stops_ring"]) and c["message"] and "\n" not in c["message"], c)
    return got


def check_of(got, name):
    found = [c for c in got["checks"] if c["name"] == name]
    check(len(found) == 1, name, got["checks"])
    return found[0]


def test_doctor_measures_a_peer_that_is_there(renga):
    nodes, port = ring(renga, "doctor-there")
    with worker(renga, nodes):
        got = examined(renga, nodes, "--node-id", "near", "--default-model", renga.model)
        text = renga.good("doctor", "--discovery-config-path", nodes, "--node-id", "near").decode()
        unknown = renga.work / "doctor-chip.json"
        unknown.write_text(nodes.read_text().replace("Apple M2 Ultra", "Z80"))
        chip = renga.good("doctor", "--discovery-config-path", unknown, "--node-id", "near",
                          "--default-model", renga.model).decode()
    check(got["self"] == "near" and len(got["peers"]) == 1, got)
    far = got["peers"][0]
    check((far["id"], far["address"], far["port"]) == ("far", "127.0.0.1", port), far)
    check(far["reachable"] and far["reason"] is None and far["interface"] == "lo", far)
    check(all(far[f] > 0 for f in FIGURES) and far["rtt_ms"] <= far["rtt_p99_ms"], far)
    check(0 < far["token_loss_percent"] < 100 and abs(far["clock_ms"]) < 1000, far)
    version = json.loads(renga.good("version", "--json"))["version"]
    check(far["build"] == f"renga {version}", far)
    for name in ("discovery", "address", "files", "plan", "tls", "memory"):
        check(check_of(got, name)["ok"], check_of(got, name))
    check(re.search(r"^ok +peer +far, 127\.0\.0\.1:\d+ over lo: [\d.]+ ms there and back", text, re.M), text)
    check("no --default-model was given" in text and "FAIL" not in text, text)
    check("not known: the memory bandwidth of the chip Z80 is not known" in chip, chip)


def test_doctor_names_a_peer_that_is_not_there(renga):
    nodes, _ = ring(renga, "doctor-gone")
    got = examined(renga, nodes, "--node-id", "near", code=4)
    far = got["peers"][0]
    check(not far["reachable"] and "refused" in far["reason"], far)
    check(all(far[f] is None for f in (*FIGURES, "token_loss_percent", "clock_ms", "build")), far)
    p = renga("doctor", "--discovery-config-path", nodes, "--node-id", "near")
    check(p.returncode == 4 and re.search(rb"^FAIL +peer +far, .*not reachable", p.stdout, re.M), p.stdout)
    check(b"far is not reachable" in p.stderr, p.stderr)


def test_doctor_sees_who_speaks_no_tls(renga):
    nodes, _ = ring(renga, "doctor-tls")
    certs = renga.work / "doctor-certs"
    renga.good("certs", "--discovery-config-path", nodes, "--out", certs)
    mine = ("--node-id", "near", "--tls-dir", certs / "near")
    with worker(renga, nodes, "--tls-dir", certs / "far"):
        got = examined(renga, nodes, *mine)
        check(got["peers"][0]["reachable"] and check_of(got, "tls")["ok"], got)
        got = examined(renga, nodes, "--node-id", "near", code=4)
        check("TLS" in got["peers"][0]["reason"], got["peers"][0])
    got = examined(renga, nodes, "--node-id", "near", "--tls-dir", "/nonexistent", code=4)
    check(check_of(got, "tls")["stops_ring"] and "see tls" in got["peers"][0]["reason"], got)


def test_doctor_says_what_would_stop_the_ring(renga):
    nodes, _ = ring(renga, "doctor-memory", memory=1 << 24)
    with worker(renga, nodes, "--overcommit"):
        got = examined(renga, nodes, "--node-id", "near", code=1)
        check("16384.0 GiB" in check_of(got, "memory")["message"], got["checks"])
        check(check_of(got, "memory")["stops_ring"], got["checks"])
        got = examined(renga, nodes, code=4)  # two peers have an address of this machine
        check(got["self"] is None and check_of(got, "discovery")["stops_ring"], got)
        check([p["id"] for p in got["peers"]] == ["near", "far"], got["peers"])


def test_doctor_looks_at_the_files(renga):
    nodes, _ = ring(renga, "doctor-files")
    mine = ("--node-id", "far")  # who is no head: layers may be missing
    kimi = sparse_kimi.make(renga, "kimi-doctor")
    for i in range(1, 18):
        (kimi / f"model-{i:05}-of-00062.safetensors").unlink()
    got = examined(renga, nodes, *mine, "--default-model", kimi, code=4)
    files = check_of(got, "files")
    check(files["ok"] and "layers 17-60 of 0-60 are there; 17 shards are not" in files["message"], files)
    check("model-00001-of-00062.safetensors" in files["message"], files)
    (kimi / "model-00062-of-00062.safetensors").unlink()
    got = examined(renga, nodes, "--node-id", "near", "--default-model", kimi, code=4)
    check(check_of(got, "files")["stops_ring"], got["checks"])
    check("the head and needs the embedding" in check_of(got, "files")["message"], got["checks"])
    shutil.rmtree(kimi)

    cut = renga.copy("llama-mixed_346", "doctor-cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    got = examined(renga, nodes, *mine, "--default-model", cut, code=4)
    check(check_of(got, "files")["stops_ring"], got["checks"])
    got = examined(renga, nodes, *mine, "--default-model", "/nonexistent", code=4)
    check("/nonexistent" in check_of(got, "files")["message"], got["checks"])


def test_doctor_hashes_files_once(renga):
    nodes, _ = ring(renga, "doctor-deep")
    home = renga.work / "doctor-home"
    home.mkdir()
    model = renga.copy("llama-mixed_346", "doctor-deep-model")
    weights = model / "model.safetensors"
    deep = ("--node-id", "near", "--default-model", model, "--deep")

    def file_of(**how):
        got = examined(renga, nodes, *deep, code=4, env={"HOME": str(home)}, **how)
        check(len(got["files"]) == 1 and got["files"][0]["path"] == str(weights), got["files"])
        return got["files"][0], check_of(got, "digests")

    first, said = file_of()
    check(first["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest(), first)
    check(first["size_bytes"] == weights.stat().st_size and not first["cached"] and said["ok"], first)
    again, _ = file_of()
    check(again == {**first, "cached": True}, again)

    # a file that was written since is read again; what else was in the cache stays there
    cache = home / ".cache" / "renga" / "file-digests"
    other = "0" * 64 + " 1 2 3 4 /other/model.safetensors\n"
    cache.write_text(cache.read_text() + other)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed, _ = file_of()
    check(not changed["cached"] and changed["sha256"] == hashlib.sha256(data).hexdigest(), changed)
    check(other in cache.read_text() and len(cache.read_text().splitlines()) == 2, cache.read_text())
    cache.write_text("rubbish\n\0\n" + "f" * 64)  # which is as good as none
    check(not file_of()[0]["cached"] and file_of()[0]["cached"], "a damaged cache")
    p = renga("doctor", "--discovery-config-path", nodes, *deep, env={"HOME": str(home)})
    check(f"{changed['sha256']}  {weights}\n".encode() in p.stdout, p.stdout)

    # the note of the program that downloaded it
    note = model / ".cache" / "huggingface" / "download" / "model.safetensors.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'c' * 40}\n{changed['sha256']}\n{time.time()}\n")
    check("as they were downloaded" in file_of()[1]["message"], "a right note")
    note.write_text(f"{'c' * 40}\n{first['sha256']}\n{time.time()}\n")
    check(file_of()[1]["stops_ring"] and "get it again" in file_of()[1]["message"], "a wrong note")
    note.write_text(f"{'c' * 40}\n{first['sha256']}\n{weights.stat().st_mtime - 60}\n")
    check("compare the list" in file_of()[1]["message"], "a note of an older file")


def test_doctor_needs_the_nodes(renga):
    renga.refused(2, "--discovery-config-path", "doctor")
    renga.refused(2, "/nonexistent", "doctor", "--discovery-config-path", "/nonexistent")
