"""What the stories of lost nodes share: a stream that is watched, times, and what must hold after every fault."""
import statistics
import threading
import time

from harness import NO_END, Failure, check, until
from basic import settled

LONG = {"max_tokens": 2000, "logit_bias": NO_END}
SHORT = {"max_tokens": 30, "logit_bias": NO_END}
NOTICE = 5.0  # seconds until a lost node is noticed
BACK = 10.0   # and until a ring that is whole again serves
REST = 5.0    # and until nothing is left of what was under way


class Watched:
    """A request in a thread of its own: when its text came, and when it waited."""

    def __init__(self, ring, node, text="Lost", **fields):
        self.times = []  # of each piece of text
        self.length, self.reply = 0, None
        self.node, self.body = node, ring.chat(text, **fields)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        self.reply = self.node.ask(self.body, on_text=self._take, timeout=200)

    def _take(self, reply):
        self.live = reply
        if len(reply.text) > self.length:
            self.length = len(reply.text)
            self.times.append(time.monotonic())

    def until_text(self, n, seconds=30):
        until(lambda: self.length >= n or self.reply, seconds, f"{n} characters of text")
        check(not self.reply, "it ended too soon:", self.reply)

    def end(self, seconds=90):
        self.thread.join(seconds)
        check(self.reply, "the stream hangs after", self.length, "characters")
        return self.reply

    def after(self, moment):
        """When the first text after a moment came."""
        return next((t for t in self.times if t > moment), None)


# ---- after a fault -------------------------------------------------------------------------------


def all_serve(ring):
    return all(n.health()[0] == 200 for n in ring.nodes)


def ranges(ring):
    """Which layers the head says each node has."""
    return {n["id"]: (n["first_layer"], n["last_layer"]) for n in ring.head.health()[1].get("nodes", [])}


def wrong_view(ring):
    """What is not right in what the nodes say of the ring; '': they agree on one plan that all have a part in."""
    said = [n.health() for n in ring.nodes]
    if any(status != 200 for status, _ in said):
        return f"not all serve: {said}"
    if len({str(s["epoch"]) for _, s in said}) != 1 or any(s["epoch_state"] != "running" for _, s in said):
        return f"not the same plan: {[(s['epoch'], s['epoch_state']) for _, s in said]}"
    nodes = said[0][1]["nodes"]
    if any(n["state"] != "up" or not n["ready"] or n["first_layer"] is None for n in nodes):
        return f"not all nodes are used: {nodes}"
    parts, next_ = sorted((n["first_layer"], n["last_layer"]) for n in nodes), 0
    for first, last in parts:
        if first != next_:
            return f"the layers are not whole: {parts}"
        next_ = last + 1
    return ""


def under_way(ring):
    """What the head's engine still holds."""
    said = ring.head.health()[1]
    held = {**said.get("requests", {"?": 1}), "kv_blocks": said.get("kv_blocks", {}).get("used", 1)}
    return held if any(held.values()) else None


def remember(ring):
    """What the nodes hold when nothing has happened yet, for as_before()."""
    until(lambda: not under_way(ring), REST, lambda: under_way(ring))
    ring.base = [n.holds() for n in ring.nodes]


def as_before(ring, short):
    """The ring serves; its nodes agree on a plan of all of them; every node answers right; and then nothing is
    under way, no block of KV is held, and descriptors, threads and memory are what they were.
    -> when the nodes agreed"""
    took = until(lambda: all_serve(ring), BACK, ring.logs)
    until(lambda: not wrong_view(ring), max(0.1, BACK - took), lambda: wrong_view(ring) + "\n" + ring.logs())
    agreed = time.monotonic()
    for node in ring.nodes:
        node.ask(ring.chat("Short", **SHORT)).check_whole(short)
    until(lambda: not under_way(ring), REST, lambda: under_way(ring))
    settled(ring, ring.base, seconds=REST)
    return agreed


# ---- times ---------------------------------------------------------------------------------------


class Times:
    """What the runs of one row came to; of pieces that ran beside each other, their sum."""

    def __init__(self):
        self.passed = self.again = 0
        self.notice, self.recover, self.notes = [], [], []
        self.rates = []  # pieces of text a second while the fault lasted

    def add(self, other):
        self.passed += other.passed
        self.again += other.again
        self.notice += other.notice
        self.recover += other.recover
        self.notes += other.notes
        self.rates += other.rates
        return self

    def __str__(self):
        def both(name, values):
            return f"{name} {statistics.median(values):.2f} s, at most {max(values):.2f}" if values else ""

        rates = f"{statistics.median(self.rates):.0f} tokens/s meanwhile" if self.rates else ""
        again = f"{self.again} again, for the machine stood still" if self.again else ""
        return f"{self.passed} of {self.passed}; " + ", ".join(filter(None, (
            both("noticed after", self.notice), both("went on", self.recover), rates, again, *self.notes[-1:])))

    def row(self, name):
        """For the table of docs/TESTING.md."""
        def both(values):
            return f"{statistics.median(values):.2f} / {max(values):.2f}" if values else "-"

        noticed = both(self.notice) if self.notice or not self.rates else "no pause"
        return f"| {name} | {self.passed} of {self.passed} | {noticed} | {both(self.recover)} |"


class Stillness:
    """Whether the whole machine stood still (a virtual one that was paused): its faults are not ours."""

    def __enter__(self):
        self.longest, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self):
        last = time.monotonic()
        while not self.over.wait(0.1):
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def each(seeds, story, ring=None):
    """story(seed, times) for every seed; one that failed while the machine stood still for over a second, so that
    times mean nothing, is done again.  -> Times"""
    whole = Times()
    for seed in seeds:
        for again in range(6):
            seen = Times()
            with Stillness() as still:
                try:
                    story(seed, seen)
                    break
                except Exception as e:
                    if still.longest < 1 or again == 5:
                        raise Failure(f"seed {seed}: {e}") from e
                    print(f"seed {seed}: the machine stood still for {still.longest:.1f} s: {str(e)[:200]}")
                    whole.again += 1
                    if ring:
                        until(lambda: all_serve(ring), 60, ring.logs)
        seen.passed = 1
        whole.add(seen)
    return whole
