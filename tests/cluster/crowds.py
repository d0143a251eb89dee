"""Clients that leave at any moment, more contexts than there is room for, and crowds that never stop."""
import json
import random
import socket
import struct
import threading
import time

from basic import settled
from harness import NO_END, check, until
from marks import long
from overload import begin

BESIDE = {"max_tokens": 300, "logit_bias": NO_END}
SHORT = {"max_tokens": 12, "logit_bias": NO_END}
GONE = {"max_tokens": 3500, "logit_bias": NO_END}


def blocks(ring):
    return ring.head.health()[1]["kv_blocks"]["used"]


def leave(ring, node, rng):
    """A request whose client goes away: at once, in the prompt, or after some text; with FIN or RST."""
    s = begin(node, ring.chat("Gone " * rng.randint(1, 40), stream=True, **GONE))
    way = rng.random()
    if way > 0.3:
        s.recv(1)
        for _ in range(rng.randint(0, 20)):
            s.recv(rng.randint(1, 4000))
    elif way > 0.1:
        time.sleep(rng.random() * 0.02)
    if rng.random() < 0.5:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Always:
    """Streams, one after the other on each node, until stop(); all must be whole."""

    def __init__(self, ring, n, text, want, fields):
        self.over, self.replies, self.failures = threading.Event(), [], []

        def run(i):
            try:
                while not self.over.is_set():
                    node = ring.nodes[i % ring.n]
                    self.replies.append(node.ask(ring.chat(text, stream=True, **fields)).check_whole(want))
            except Exception as e:
                self.failures.append(e)

        self.threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
        for t in self.threads:
            t.start()

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join()
        if self.failures:
            raise self.failures[0]
        return len(self.replies)


def test_200_clients_leave(lab):
    """at random moments, eight at a time, through all nodes of a ring of three, beside eight streams whose bytes stay
    right; the blocks of one that left are free within 500 ms, and none is in use at the end"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Beside", **BESIDE)
    with lab.ring(3, tiny) as ring:
        ring.start("--parallel", 16)
        Always(ring, 3, "Beside", want, BESIDE).stop()
        until(lambda: blocks(ring) == 0, 2, ring.head.health)
        before = [n.holds() for n in ring.nodes]
        beside = Always(ring, 8, "Beside", want, BESIDE)

        def leavers(seed):
            rng = random.Random(seed)
            for _ in range(25):
                leave(ring, rng.choice(ring.nodes), rng)

        threads = [threading.Thread(target=leavers, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        whole = beside.stop()
        until(lambda: blocks(ring) == 0, 1, ring.head.health)
        rng, slowest = random.Random(9), 0
        for _ in range(10):
            node = rng.choice(ring.nodes)
            s = begin(node, ring.chat("Gone", stream=True, **GONE))
            s.recv(12)
            until(lambda: blocks(ring) > 0, 2, ring.head.health)
            s.close()
            slowest = max(slowest, until(lambda: blocks(ring) == 0, 2, ring.head.health))
        # What /health says is up to 0.1 s old.
        check(slowest <= 0.6, f"blocks are free {slowest:.2f} s after a client left")
        settled(ring, before)
        return f"{whole} whole streams beside them; blocks free after at most {slowest:.2f} s"


def test_contexts_that_fill_all_memory(lab):
    """four contexts fit, twelve requests want a whole one each: all are answered right, in turn; a longer one is 400"""
    tiny = lab.tiny()
    fields = {"max_tokens": 230, "logit_bias": NO_END}
    want = lab.right(tiny, "Fill", **fields)
    with lab.ring(2, tiny) as ring:
        ring.start("--parallel", 4, "--ctx", 256)
        replies = []
        threads = [threading.Thread(target=lambda i=i: replies.append(
            ring.nodes[i % 2].ask(ring.chat("Fill", stream=i % 3 > 0, **fields)))) for i in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for reply in replies:
            reply.check_whole(want)
        for node in ring.nodes:
            over = node.ask(ring.chat("Fill " * 100, **fields)).check_end()
            check(over.status == 400 and over.error == "context_length_exceeded", over)
        until(lambda: blocks(ring) == 0, 2, ring.head.health)


def saturate(lab, seconds, clients):
    tiny = lab.tiny()
    want = lab.right(tiny, "Crowd", **SHORT)
    with lab.ring(3, tiny) as ring:
        ring.start()
        body = json.dumps(ring.chat("Crowd", **SHORT))
        for node in ring.nodes:
            node.ask(ring.chat("Crowd", **SHORT)).check_whole(want)
        before = [n.holds() for n in ring.nodes]
        end, counts, bad, slow = time.monotonic() + seconds, {}, [], []

        def run(i):
            node = ring.nodes[i % 3]
            while time.monotonic() < end and not bad:
                asked = time.monotonic()
                try:
                    a = node.request("POST", "/v1/chat/completions", body, timeout=60)
                except Exception as e:
                    bad.append(repr(e))
                    return
                slow.append(time.monotonic() - asked)
                what = a.status if a.status == 200 else f"{a.status} {a.json['error']['code']}"
                counts[what] = counts.get(what, 0) + 1
                if a.status == 200:
                    text = a.json["choices"][0]["message"]["content"]
                    if text != want:
                        bad.append(f"another answer: {text!r}")
                elif a.status not in (429, 503) or "Retry-After" not in a.headers:
                    bad.append(f"{a.status} {a.headers} {a.body[:300]}")
                else:
                    time.sleep(0.05)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        check(not bad, len(bad), "wrong:", *bad[:3])
        check(counts.get(200), "nothing was answered", counts)
        # A machine that has no time for its keepalives calls a link lost; a head that refuses is not lost.
        lost = counts.get("503 node_lost", 0)
        check(lost <= 0.01 * sum(counts.values()), "refused as if a node were lost:", counts)
        until(lambda: blocks(ring) == 0, 2, ring.head.health)
        settled(ring, before)
        check(ring.head.log().count("the ring serves") == 1, "the ring broke", ring.head.log())
        return f"{counts} in {seconds} s of {clients} clients; slowest {max(slow):.1f} s"


def test_a_crowd(lab):
    """more clients than waiting places, through all nodes, for some seconds: each answer is right or 429 or 503 with
    Retry-After"""
    return saturate(lab, 3, 300)


@long
def test_a_crowd_for_a_minute(lab):
    return saturate(lab, 60, 400)
