"""`renga plan`: the two Macs of the example file, what does not fit, layers by hand."""
import json
import shutil
from pathlib import Path

import sparse_kimi
from client import check

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "tests" / "golden" / "tiny"
MACS = ROOT / "config" / "discovery.json"
NODE = {"id", "head", "first_layer", "last_layer", "weight_bytes", "kv_bytes", "reserve_bytes",
        "memory_bytes", "headroom_bytes"}


def ring(renga, name, **nodes):
    """A discovery file of nodes id=(memory in MiB, chip or None); the first is the head."""
    path = renga.work / f"{name}.json"
    peers = {}
    for i, (node, (memory, chip)) in enumerate(nodes.items()):
        capabilities = {"memory": memory, **({"chip": chip} if chip else {})}
        peers[node] = {"address": f"10.0.2.{i + 1}", "port": 50051, "device_capabilities": capabilities}
    path.write_text(json.dumps({"peers": peers}))
    return path


def planned(renga, model, nodes, *flags, code=0):
    p = renga("plan", model, "--discovery-config-path", nodes, "--json", *flags)
    check(p.returncode == code, flags, "exit", p.returncode, p.stderr.decode())
    got = json.loads(p.stdout)
    check(set(got) == {"schema", "fits", "context", "parallel", "nodes", "predicted"}, set(got))
    check(got["schema"] == "renga.plan/1" and set(got["predicted"]) == {"tokens_per_s"}, got)
    check(got["fits"] == (code == 0), got["fits"])
    for node in got["nodes"]:
        check(set(node) == NODE, set(node))
        left = node["memory_bytes"] - node["weight_bytes"] - node["kv_bytes"] - node["reserve_bytes"]
        check(node["headroom_bytes"] == left, node)
    if code:
        lines = p.stderr.decode().splitlines()
        check(len(lines) == 1 and lines[0].startswith("renga: "), lines)
        return got, lines[0]
    return got


def ranges(got):
    return {n["id"]: (n["first_layer"], n["last_layer"]) for n in got["nodes"]}


def test_kimi_k2_over_the_two_macs(renga):
    model = sparse_kimi.make(renga, "kimi-plan")
    got = planned(renga, model, MACS)
    check(ranges(got) == {"m3-studio-worker": (0, 43), "m2-studio-main": (44, 60)}, ranges(got))
    check([n["head"] for n in got["nodes"]] == [False, True], got["nodes"])
    check(sum(n["weight_bytes"] for n in got["nodes"]) == 511313293312, got["nodes"])
    check(all(n["headroom_bytes"] > 0 for n in got["nodes"]), got["nodes"])
    # MLA keeps 512 + 64 halves a token and layer
    check(got["nodes"][0]["kv_bytes"] == 44 * got["context"] * got["parallel"] * 576 * 2, got["nodes"][0])
    check(got["predicted"]["tokens_per_s"] > 0, got["predicted"])
    text = renga.good("plan", model, "--discovery-config-path", MACS).decode()
    check("0-43" in text and "44-60" in text and "0.75 of its chip's" in text, text)

    # with more context 17 layers are too much for the M2: one goes over
    got = planned(renga, model, MACS, "--ctx", 131072, "--parallel", 16)
    check(ranges(got) == {"m3-studio-worker": (0, 44), "m2-studio-main": (45, 60)}, ranges(got))
    layer = 7467800064 + 131072 * 16 * 576 * 2
    check(got["nodes"][1]["headroom_bytes"] < layer, got["nodes"][1])
    # a context that nobody asked for is halved until it fits, one that was asked for is not
    got = planned(renga, model, MACS, "--parallel", 256)
    check(got["context"] in (16384, 8192, 4096), got["context"])
    planned(renga, model, MACS, "--parallel", 256, "--ctx", 2 * got["context"], code=3)

    # a fourth of the memory: nothing fits, the table comes all the same
    small = ring(renga, "small", m2=(49152, "Apple M2 Ultra"), m3=(131072, "Apple M3 Ultra"))
    got, line = planned(renga, model, small, code=3)
    for node in got["nodes"]:
        lack = f"{node['id']} is short of {-node['headroom_bytes'] / 1e9:.2f} GB"
        check((lack in line) == (node["headroom_bytes"] < 0), lack, line)
    check(sum(n["headroom_bytes"] < 0 for n in got["nodes"]) >= 1, got["nodes"])
    p = renga("plan", model, "--discovery-config-path", small)
    check(p.returncode == 3 and b"headroom" in p.stdout, p.stdout)
    shutil.rmtree(model)


def test_plan_without_known_chips_predicts_nothing(renga):
    model = TINY / "llama-mixed_346"
    n = len(json.loads(renga.good("inspect", model, "--json"))["layers"])
    nodes = ring(renga, "even", a=(4096, "Apple M4"), b=(4096, "Z80"))
    got = planned(renga, model, nodes)
    check(ranges(got)["a"][1] == n - 1 and ranges(got)["b"][0] == 0, ranges(got))
    check(got["predicted"]["tokens_per_s"] is None, got["predicted"])
    check(b"chip Z80 is not known" in renga.good("plan", model, "--discovery-config-path", nodes), "Z80")


def test_plan_by_hand(renga):
    model = TINY / "llama-mixed_346"
    n = len(json.loads(renga.good("inspect", model, "--json"))["layers"])
    three = ring(renga, "three", a=(4096, None), b=(4096, None), c=(4096, None))
    got = planned(renga, model, three, "--layers", f"c=0-{n - 1},a=none")
    check(ranges(got) == {"c": (0, n - 1), "a": (None, None), "b": (None, None)}, ranges(got))
    check([x["id"] for x in got["nodes"]] == ["c", "a", "b"], got["nodes"])
    plan = ("plan", model, "--discovery-config-path", three, "--layers")
    renga.refused(2, "nobody has layer 0", *plan, f"c=1-{n - 1}")
    renga.refused(2, "a is the head", *plan, f"a=0,b=1-{n - 1}")
    renga.refused(2, "no peer 'd'", *plan, f"d=0-{n - 1}")
    renga.refused(2, "give ID=A-B", *plan, "a")


def test_plan_says_what_is_missing(renga):
    model = TINY / "llama-mixed_346"
    renga.refused(2, "--discovery-config-path", "plan", model)
    renga.refused(2, "/nonexistent", "plan", model, "--discovery-config-path", "/nonexistent")
    bad = renga.work / "bad-ring.json"
    bad.write_text('{"peers":{"a":{"address":"h","port":70000,"device_capabilities":{"memory":1}}}}')
    renga.refused(2, "70000", "plan", model, "--discovery-config-path", bad)
    renga.refused(2, "a model is missing", "plan", "--discovery-config-path", MACS)
    renga.refused(2, "context of", "plan", model, "--discovery-config-path", MACS, "--ctx", 1 << 24)
