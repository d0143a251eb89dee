"""Hosts of their own: who starts when, who may take part, and what the logs say of who may not."""
import itertools
import json
import re
import shutil
import socket
import subprocess
import time

from harness import DEMO, ROOT, Daemon, Failure, check, until
from marks import needs
from net import Host

QUESTION = "What is the capital of France?"


@needs("hosts", "drop")
def test_the_hosts_of_this_harness(lab):
    """reach each other, and a cut, a drop and a plug do what their names say"""
    with lab.ring(2, DEMO, lan=True) as ring:
        a, b = ring.net.hosts
        with b.inside():
            server = socket.create_server((b.address, 5000))

        def reaches():
            try:
                a.connect(b.address, 5000, 1).close()
                return True
            except OSError:
                return False

        until(reaches, 3, "two hosts do not reach each other")
        ring.net.cut(1)
        check(not reaches(), "a cut cable carries packets")
        ring.net.plug(1)
        until(reaches, 3, "a plugged cable carries nothing")
        for i, j in ((0, 1), (1, 0)):
            ring.net.drop(i, j)
            check(not reaches(), "dropped packets arrive")
            ring.net.pass_all(i)
            until(reaches, 3, "packets are still dropped")
        server.close()


@needs("hosts")
def test_any_order_of_starts(lab):
    """three hosts, each of the six orders: the ring forms and answers right"""
    want = lab.right(DEMO, QUESTION)
    took = []
    for order in itertools.permutations(range(3)):
        with lab.ring(3, DEMO, lan=True) as ring:
            for i in order:
                ring.start_node(i, "--wait-for-peers", 2 if i == 0 else 0)
                time.sleep(0.4)  # long enough that a dial fails first
            begin = time.monotonic()
            ring.wait()
            took.append(time.monotonic() - begin)
            for node in ring.nodes:
                node.ask(ring.chat(QUESTION, stream=True)).check_whole(want)
    return f"formed at most {max(took):.1f} s after the last start"


@needs("hosts")
def test_wait_for_fewer_peers(lab):
    """a ring of three serves with two when told to, and takes the third one in later or never"""
    want = lab.right(DEMO, QUESTION)
    with lab.ring(3, DEMO, lan=True) as ring:
        ring.start_node(0, "--wait-for-peers", 1)
        ring.start_node(2)
        ring.wait(nodes=[ring.nodes[0], ring.nodes[2]])
        ring.head.ask(ring.chat(QUESTION)).check_whole(want)
        ring.start_node(1)
        time.sleep(2)
        ring.head.ask(ring.chat(QUESTION)).check_whole(want)
        ring.nodes[2].ask(ring.chat(QUESTION)).check_whole(want)


@needs("hosts")
def test_a_head_that_waits_says_for_whom(lab):
    """/health is not 200, a request is a 503, both name the node; then it comes"""
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.start_node(0)
        until(lambda: ring.head.health()[0] is not None, 5, "no /health")
        status, said = until_value(lambda: named(ring.head.health(), "w1"), 5)
        check(status == 503, status, said)
        reply = ring.head.ask(ring.chat(QUESTION))
        check(reply.status == 503 and reply.error in ("loading", "node_lost"), reply)
        ring.start_node(1)
        ring.wait()
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))


def named(health, id):
    return health if id in json.dumps(health[1]) else None


def until_value(fn, seconds):
    end = time.monotonic() + seconds
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"nothing within {seconds} s")
        time.sleep(0.05)


@needs("hosts")
def test_an_address_that_is_not_this_machines(lab):
    """exit status 4, one line with the address and with those that are"""
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.nodes[0].start(DEMO, "--discovery-config-path", ring.discovery, "--node-id", "w1",
                            "--insecure-peers")
        check(ring.head.wait_exit(5) == 4, "exit", ring.head.process.returncode, ring.head.log())
        last = ring.head.log().strip().splitlines()[-1]
        check(last.startswith("renga: ") and "10.77.0.2" in last and "10.77.0.1" in last, last)


@needs("hosts")
def test_the_own_id_is_found_by_address(lab):
    with lab.ring(2, DEMO, lan=True) as ring:
        for node in ring.nodes:
            node.start(DEMO, "--discovery-config-path", ring.discovery, "--insecure-peers")
        ring.wait()
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))


@needs("hosts")
def test_a_taken_port(lab):
    """exit status other than 0 with one line within a second, for peers and for the API"""
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.start_node(1)
        until(lambda: ring.nodes[1].health()[0] is not None, 5, "no /health")
        base = [lab.binary, "serve", "--default-model", DEMO, "--discovery-config-path", ring.discovery,
                "--node-id", "w1", "--insecure-peers"]
        for flags, port in ((["--api-port", 52416], "50051"), (["--node-port", 50099], "52415")):
            begin = time.monotonic()
            with ring.net.hosts[1].inside():
                p = subprocess.run(list(map(str, base + flags)), capture_output=True, text=True, timeout=20)
            took = time.monotonic() - begin
            line = p.stderr.strip().splitlines()[-1]
            check(p.returncode not in (0, -6, -11), "exit", p.returncode, line)
            check(line.startswith("renga: ") and port in line, "the line does not name the port:", line)
            check(took <= 1.0, f"it took {took:.1f} s")


@needs("hosts", "drop")
def test_reasons_of_a_peer_that_is_not_there(lab):
    """refused, no route and silence are told apart in the log, with the node's id and the interface"""
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.start_node(0)
        ring.head.wait_log(r"(?i)w1.*refused", 5)
        ring.head.wait_log(r"eth0", 1)
        ring.head.kill()
        ring.net.hosts[0].space.run("ip", "route", "add", "unreachable", "10.77.0.2")
        ring.start_node(0)
        ring.head.wait_log(r"(?i)w1.*(no route|unreachable)", 5)
        ring.head.kill()
        ring.net.hosts[0].space.run("ip", "route", "del", "unreachable", "10.77.0.2")
        ring.net.drop(0, 1)
        ring.start_node(0)
        ring.head.wait_log(r"(?i)w1.*(timed out|timeout|no answer)", 12)
        lines = [x for x in ring.head.log().splitlines() if "w1" in x]
        check(len(lines) <= 12, "a log line for every try:", len(lines), *lines[:20])


@needs("hosts")
def test_another_model_is_refused(lab):
    """both logs name both, nothing is computed, and the right model is taken when it comes"""
    other = lab.tiny(7)
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.start_node(0)
        ring.start_node(1, model=other)
        for node in ring.nodes:
            node.wait_log(r"(?i)refused.*model|model.*refused", 10)
        check(ring.head.health()[0] == 503, ring.head.health())
        mine, yours = (set(re.findall(r"\b[0-9a-f]{16,32}\b", n.log())) for n in ring.nodes)
        check(len(mine & yours) >= 2, "not both digests in both logs:", mine, yours)
        ring.nodes[1].stop()
        ring.start_node(1)
        ring.wait()
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))


@needs("hosts")
def test_another_fine_tune_is_refused(lab):
    """same config, same tensor table, other weights in one layer"""
    tuned = lab.scratch / "tuned" / DEMO.name
    shutil.copytree(DEMO, tuned)
    file = tuned / "model.safetensors"
    raw = bytearray(file.read_bytes())
    head = 8 + int.from_bytes(raw[:8], "little")
    entry = next(v for k, v in json.loads(raw[8:head]).items()
                 if ".layers.2." in k and k.endswith("experts.down_proj.weight")
                 or ".layers.2." in k and k.endswith("switch_mlp.down_proj.weight"))
    begin, end = (head + x for x in entry["data_offsets"])
    raw[begin:end] = bytes(b ^ 0x11 for b in raw[begin:end])
    file.write_bytes(raw)
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.start_node(0)
        ring.start_node(1, model=tuned)
        found = ring.head.wait_log(r"(?i)(refused|differ)[^\n]*layer[^\n]*|layer[^\n]*(refused|differ)[^\n]*", 10)
        check("2" in found.group(0), "the layer is not named:", found.group(0))
        check(ring.head.health()[0] == 503, ring.head.health())


@needs("hosts")
def test_two_heads_refuse_each_other(lab):
    """two files that name different heads: both logs name both nodes"""
    with lab.ring(2, DEMO, lan=True) as ring:
        def other_head(peers):
            peers["w1"]["head"] = True

        theirs = ring.write_discovery(ring.dir / "other.json", other_head)
        ring.start_node(0)
        ring.start_node(1, discovery=theirs)
        for node in ring.nodes:
            found = node.wait_log(r"[^\n]*refused, head: here[^\n]*", 10)  # not "connection refused"
            check(re.search(r"\bhead\b", found.group(0)) and "w1" in found.group(0), found.group(0))
        check(all(n.health()[0] == 503 for n in ring.nodes), [n.health() for n in ring.nodes])


@needs("hosts")
def test_a_plan_that_does_not_fit(lab):
    """exit status 3 and the shortfall of each node, before anything is loaded"""
    model = lab.sparse_kimi()
    with lab.ring(2, model, lan=True, memory=[100000, 100000]) as ring:
        ring.start_node(1)
        ring.start_node(0)
        check(ring.head.wait_exit(10) == 3, "exit", ring.head.process.returncode, ring.head.log()[-600:])
        last = ring.head.log().strip().splitlines()[-1]
        check(last.startswith("renga: ") and "head" in last and "w1" in last and "short" in last, last)
        check(not ring.nodes[1].maps(model), "the worker loaded something")
        p = subprocess.run([lab.binary, "plan", model, "--discovery-config-path", ring.discovery],
                           capture_output=True, text=True)
        check(p.returncode == 3 and "w1" in p.stderr and "head" in p.stderr, p.returncode, p.stderr)
        return last


@needs("hosts")
def test_layers_by_hand_that_make_no_sense(lab):
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.start_node(1)
        for layers in ("w1=0-1,head=3-4", "w1=0-9", "w9=0-4", "w1=0-2,head=2-4", "x", "head=0-1,w1=2-4"):
            ring.start_node(0, "--layers", layers)
            check(ring.head.wait_exit(10) == 2, layers, "exit", ring.head.process.returncode)
            last = ring.head.log().strip().splitlines()[-1]
            check(last.startswith("renga: ") and "layers" in last, last)


@needs("hosts")
def test_status_of_a_ring(lab):
    """`renga status` on any node: every node with its layers; one object with --json"""
    with lab.ring(3, DEMO, lan=True) as ring:
        ring.start()
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))
        for host in ring.net.hosts:
            with host.inside():
                p = subprocess.run([lab.binary, "status", "--json"], capture_output=True, text=True, timeout=20)
            check(p.returncode == 0, p.returncode, p.stderr)
            got = json.loads(p.stdout)
            check(got["schema"] == "renga.status/1", got)
            check([n["id"] for n in got["nodes"]] and {n["id"] for n in got["nodes"]} == set(ring.ids), got)


@needs("hosts")
def test_discovery_of_the_example(lab):
    """config/discovery.json as it is: on a machine that has neither address exit status is not 0"""
    p = subprocess.run([lab.binary, "serve", "--default-model", DEMO, "--discovery-config-path",
                        ROOT / "config" / "discovery.json"], capture_output=True, text=True, timeout=20)
    last = p.stderr.strip().splitlines()[-1]
    check(p.returncode in (2, 4) and "discovery.json" in last, p.returncode, last)


@needs("hosts")
def test_a_changed_discovery_file(lab):
    """is read again: a node that moved to another port is found; a bad file keeps the old one"""
    want = lab.right(DEMO, QUESTION)
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.start()
        good = ring.discovery.read_text()
        ring.discovery.write_text(good[:-20])
        ring.head.wait_log(r"kept=[^\n]*discovery\.json", 10)
        ring.head.ask(ring.chat(QUESTION)).check_whole(want)
        ring.nodes[1].stop()
        ring.net.hosts[1].port = 50061
        ring.write_discovery(ring.discovery)
        ring.start_node(1)
        ring.wait()
        for node in ring.nodes:
            node.ask(ring.chat(QUESTION)).check_whole(want)


def with_a_twin(lab, id):
    """A second daemon under a node's id on another host. -> its log, a worker's log"""
    want = lab.right(DEMO, QUESTION)
    with lab.ring(3, DEMO, lan=True) as ring:
        ring.start()
        ring.nodes[2].wait_log("w1 is up", 5)
        twin = Daemon(lab.binary, Host(ring.net.hosts[2].space, "10.77.0.3", 50052, 52416), "127.0.0.1",
                      ring.dir / "twin.log")
        twin.start(DEMO, "--discovery-config-path", ring.discovery, "--node-id", id, "--node-host",
                   "10.77.0.3", "--node-port", 50052, "--insecure-peers", "--threads", 1)
        try:
            for _ in range(15):
                for node in ring.nodes:
                    node.ask(ring.chat(QUESTION, stream=True)).check_whole(want)
                time.sleep(0.2)
            check(twin.health()[0] == 503, twin.health())
        finally:
            twin.kill()
        check(ring.head.log().count("the ring serves") == 1, "the ring broke", ring.head.log())
        ring.nodes[2].wait_log(f"two nodes call themselves {id}", 1)
        return twin.log(), ring.nodes[2].log()


@needs("hosts")
def test_the_same_node_twice(lab):
    """the second daemon under a worker's id is refused, with a clear line; the ring does not notice"""
    said, log = with_a_twin(lab, "w1")
    check("two nodes call themselves w1" in said, said, log)
    check(log.count("two nodes call themselves") == 1, "a log line for every try", log)


@needs("hosts")
def test_a_second_head(lab):
    """the same for a head: the workers stay with the first"""
    said, log = with_a_twin(lab, "head")
    check("two nodes call themselves head" in said, said, log)
    check(log.count("two nodes call themselves") == 1, "a log line for every try", log)
