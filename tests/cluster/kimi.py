"""Kimi-K2 in full size without its data (511 GB of zeros) on an M2 of 192 GB and an M3 of 512 GB."""
import json
import subprocess
import time

from harness import ROOT, check
from marks import long, needs

MEMORY = [196608, 524288]  # MiB


def test_the_plan_of_the_two_macs(lab):
    """layers 0-43 on the M3 and 44-60 on the M2, from headers alone"""
    model = lab.sparse_kimi()
    begin = time.monotonic()
    p = subprocess.run([lab.binary, "plan", model, "--discovery-config-path",
                        ROOT / "config" / "discovery.json", "--json"], capture_output=True, text=True)
    check(p.returncode == 0, p.returncode, p.stderr)
    got = json.loads(p.stdout)
    nodes = {n["id"]: (n["first_layer"], n["last_layer"]) for n in got["nodes"]}
    check(nodes == {"m3-studio-worker": (0, 43), "m2-studio-main": (44, 60)}, nodes)
    check(got["fits"] and got["predicted"]["tokens_per_s"] > 0, got)
    check(sum(n["weight_bytes"] for n in got["nodes"]) <= 511313293312, got)
    return f"{time.monotonic() - begin:.2f} s, {got['predicted']['tokens_per_s']:.1f} tokens/s predicted"


def private_bytes(pid):
    """Memory that is the process's own: not pages of files."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Anonymous:"):
                total += int(line.split()[1]) * 1024
    return total


@long
@needs("hosts")
def test_one_token_all_the_way_round(lab):
    """both load in 10 s; a token takes long, and busy is not dead"""
    model = lab.sparse_kimi()
    with lab.ring(2, model, lan=True, memory=MEMORY) as ring:
        begin = time.monotonic()
        ring.start("--overcommit", "--ctx", 512, "--parallel", 1, "--threads", 2, wait=False)
        ring.wait(60)
        loaded = time.monotonic() - begin
        check(loaded <= 10, f"loaded after {loaded:.1f} s")
        nodes = {n["id"]: n for n in ring.head.health()[1]["nodes"]}
        check((nodes["w1"]["first_layer"], nodes["w1"]["last_layer"]) == (0, 43), nodes)
        reply = ring.head.ask(ring.chat("Hi", max_tokens=2, stream=True), timeout=1500)
        reply.check_end()
        check(reply.error is None, reply, ring.logs())
        plan = json.loads(subprocess.run(
            [lab.binary, "plan", model, "--discovery-config-path", ring.discovery, "--ctx", "512",
             "--parallel", "1", "--json"], capture_output=True, text=True).stdout)
        said = []
        for node, id in zip(ring.nodes, ring.ids):
            part = next(n for n in plan["nodes"] if n["id"] == id)
            want = part["kv_bytes"] + part["reserve_bytes"]
            got = private_bytes(node.pid)
            said.append(f"{id} {got >> 20} of {want >> 20} MiB")
            check(got <= want * 1.05, id, "holds", got, "bytes, the plan said", want)
        check(ring.head.log().count("epoch") < 50, "the ring broke on the way", ring.logs())
        return f"loaded in {loaded:.1f} s, answered in {reply.seconds:.0f} s; own memory " + ", ".join(said)
