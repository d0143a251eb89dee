"""What grows: a ring whose discovery.json gains a node, and memory that must not."""
import json
import threading

from harness import DEMO, NO_END, check, until
from marks import alone, long

QUESTION = "What is the capital of France?"


def rewrite(ring, change):
    """One file for all nodes, replaced as an editor does it."""
    path = ring.dir / "discovery.json"
    file = json.loads(path.read_text())
    change(file["peers"])
    new = path.with_suffix(".new")
    new.write_text(json.dumps(file))
    new.replace(path)


def nodes_of(node):
    return sorted(n["id"] for n in node.health()[1].get("nodes", []) if n["first_layer"] is not None)


def serves(node):
    return node.health()[0] == 200


def test_a_new_node_waits_for_the_next_plan(lab):
    """a node added to the file of a working ring gets layers when the next plan is made, and not before"""
    with lab.ring(3, DEMO) as ring:
        held = {}

        def take_out(peers):
            held["w2"] = peers.pop("w2")

        rewrite(ring, take_out)
        ring.start_node(1)
        ring.start_node(0)
        until(lambda: serves(ring.head), 30, "two nodes serve")
        rewrite(ring, lambda peers: peers.update(held))
        for node in ring.nodes[:2]:
            node.wait_log(r"they count for the next plan", 10)
        ring.start_node(2)
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))
        check(nodes_of(ring.head) == ["head", "w1"], nodes_of(ring.head))
        ring.nodes[1].kill()
        ring.start_node(1)
        until(lambda: nodes_of(ring.head) == ["head", "w1", "w2"], 30, "a plan of three")
        until(lambda: serves(ring.head), 30, "three nodes serve")
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))
        ring.stop()


def fill(ring):
    """Long requests through every node, so that all keys and values are written once."""
    body = ring.chat("abcdefgh" * 180, stream=True, max_tokens=300, logit_bias=NO_END)
    replies = []

    def ask(node):
        for _ in range(4):
            replies.append(node.ask(body))

    threads = [threading.Thread(target=ask, args=(n,)) for n in ring.nodes for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r in replies:
        check(r.check_end().error is None, r)


@alone
@long
def test_memory_after_many_plans(lab):
    """a worker is lost six times for so long that plans are made without it and with it again: the others
    hold what they held after the first time (heaps with holes made it 2 to 5 MiB more)"""
    with lab.ring(3, lab.tiny()) as ring:
        ring.start("--parallel", 4)
        fill(ring)
        held = []
        for _ in range(6):
            ring.nodes[1].kill()
            until(lambda: nodes_of(ring.head) == ["head", "w2"] and serves(ring.head), 60, ring.logs)
            ring.start_node(1, "--parallel", 4)
            until(lambda: len(nodes_of(ring.head)) == 3 and all(map(serves, ring.nodes)), 60, ring.logs)
            fill(ring)
            held.append([ring.nodes[i].written_kib() for i in (0, 2)])
        for first, last, name in zip(held[0], held[-1], ("head", "w2")):
            check(last - first <= 1024, f"{name} holds more with every plan, KiB:", held)
        ring.stop()
        return "KiB of head and w2: " + ", ".join(f"{a} {b}" for a, b in held)
