"""A ring that grows: discovery.json gains a node while the others serve."""
import json

from harness import DEMO, check, until

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
