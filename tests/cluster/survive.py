"""Nodes are lost and come back; the answers are those of a ring without faults.

FAULTS is the table: each fault hits a ring in the middle of a stream, at a token that the seed chooses; run.py
runs some with 2 seeds each, with --long all with 20.  docs/TESTING.md has what was measured.
"""
import json
import random
import re
import signal
import statistics
import subprocess
import threading
import time

from harness import NO_END, Failure, check, until
from marks import long, needs
from basic import settled
import tls

LONG = {"max_tokens": 3000, "logit_bias": NO_END}
SHORT = {"max_tokens": 30, "logit_bias": NO_END}
NOTICE = 5.0  # seconds until a lost node is noticed
BACK = 10.0   # and until a ring that is whole again serves


# ---- a stream that is watched ------------------------------------------------------------------


class Watched:
    """A request in a thread of its own: when its text came, and when it waited."""

    def __init__(self, ring, node, text="Lost", **fields):
        self.times = []  # of each piece of text
        self.length, self.reply = 0, None
        self.node, self.body = node, ring.chat(text, **fields)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        self.reply = self.node.ask(self.body, on_text=self._take, timeout=120)

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


def all_serve(ring):
    return all(n.health()[0] == 200 for n in ring.nodes)


def ranges(ring):
    """Which layers the head says each node has."""
    return {n["id"]: (n["first_layer"], n["last_layer"]) for n in ring.head.health()[1].get("nodes", [])}


def whole_again(ring, short):
    took = until(lambda: all_serve(ring), BACK, ring.logs)
    for node in ring.nodes:
        node.ask(ring.chat("Short", **SHORT)).check_whole(short)
    return took


# ---- the table -----------------------------------------------------------------------------------


class Fault:
    """What is done to a ring of three, and what is to be seen of it."""

    def __init__(self, strike, heal, lasts=(0.2, 1.5), pauses=True, restarts=None, once=False, proxies=False,
                 certificates=False):
        self.strike, self.heal, self.lasts, self.pauses = strike, heal, lasts, pauses
        self.restarts, self.proxies, self.certificates = restarts, proxies, certificates
        self.once = once  # over as soon as it has happened: recovery counts from then


def kill(i):
    return Fault(lambda r, _: r.nodes[i].kill(), lambda r: r.start_node(i), restarts=i)


def stop(i, seconds, pauses):
    return Fault(lambda r, _: r.nodes[i].send(signal.SIGSTOP), lambda r: r.nodes[i].send(signal.SIGCONT),
                 lasts=(seconds, seconds), pauses=pauses)


def restart(r, _):
    r.nodes[1].kill()
    r.start_node(1)


def packets(i, j):
    """Packets from host i to host j are lost."""
    return Fault(lambda r, _: r.net.drop(i, j), lambda r: r.net.pass_all(i), lasts=(6, 7))


def link_down(lasts=(6, 7), pauses=True):
    return Fault(lambda r, _: r.net.cut(1), lambda r: r.net.plug(1), lasts=lasts, pauses=pauses)


def loss(share):
    def strike(r, _):
        r.net.drop(0, 1, share)
        r.net.drop(1, 0, share)

    def heal(r):
        r.net.pass_all(0)
        r.net.pass_all(1)

    return Fault(strike, heal, lasts=(3, 4), pauses=None)


def slow_cable(r, _):
    for i in range(3):
        r.net.rate(i, 10)


def fast_cable(r):
    for i in range(3):
        r.net.hosts[i].space.run("tc", "qdisc", "del", "dev", "eth0", "root")


def small_packets(size):
    def strike(r, _):
        for host in r.net.hosts:
            host.space.run("ip", "link", "set", "eth0", "mtu", str(size))
    return strike


def proxied(command, pauses=True, lasts=(1.0, 2.0), once=False, certificates=False):
    """command(rng) to the proxy on the way from one node to another (chosen by the seed)."""
    def strike(r, rng):
        rng.choice([p for p in r.proxies if p.carries()]).say(command(rng))

    def heal(r):
        for p in r.proxies:
            p.say("clear")

    return Fault(strike, heal, lasts=lasts, pauses=pauses, once=once, proxies=True,
                 certificates=certificates)


def somewhere(name):
    return lambda rng: f"{name} {rng.choice(('up', 'down'))} {rng.randint(0, 40000)}"


FAULTS = {
    "worker killed": kill(1),
    "other worker killed": kill(2),
    "worker killed and started at once": Fault(restart, lambda r: None, lasts=(0, 0), restarts=1, once=True),
    "worker stopped for 2 s": stop(1, 2, False),
    "worker stopped for 8 s": stop(2, 8, True),
    "cable of a worker pulled": link_down(),
    "cable out for a second": link_down((1, 1), None),
    "head to worker silent": packets(0, 1),
    "worker to head silent": packets(2, 0),
    "worker to worker silent": packets(1, 2),
    "1 % of packets lost": loss(0.01),
    "5 % of packets lost": loss(0.05),
    "10 Mbit/s": Fault(slow_cable, fast_cable, lasts=(2, 3), pauses=None),
    "packets of 600 bytes": Fault(small_packets(600), lambda r: small_packets(1500)(r, None), lasts=(1, 2),
                                  pauses=False),
    "delay of 50 ms ± 20": proxied(lambda _: "delay 50 20", pauses=False, lasts=(3, 4)),
    "connections reset": proxied(lambda _: "rst", once=True),
    "connections cut": proxied(lambda _: "cut", once=True),
    "reset at a byte": proxied(somewhere("rst"), pauses=None, once=True),
    "cut at a byte": proxied(somewhere("cut"), pauses=None, once=True),
    "a way stalls": proxied(lambda rng: f"stall {rng.choice(('up', 'down'))}", lasts=(6, 7)),
    "a byte flipped, with certificates": proxied(somewhere("flip"), pauses=None, once=True, certificates=True),
    "bytes doubled, with certificates": proxied(somewhere("dup"), pauses=None, once=True, certificates=True),
    "100 kB/s": proxied(lambda _: "rate 100000", pauses=None, lasts=(2, 3)),
}
# Those of every change; --long has all of them.
DAILY = ("worker killed", "worker killed and started at once", "worker stopped for 2 s", "cable of a worker pulled",
         "worker to worker silent", "delay of 50 ms ± 20", "connections reset", "a byte flipped, with certificates")


class Proxy:
    """The way from one host to the peer port of another."""

    def __init__(self, lab, ring, i, j):
        self.port, self.log = 6000 + j, ring.dir / f"proxy-{i}-{j}.log"
        with ring.net.hosts[i].inside():
            self.process = subprocess.Popen(
                [lab.fault_proxy, ring.net.hosts[i].address, str(self.port), ring.net.hosts[j].address,
                 str(ring.net.hosts[j].port), str(10 * i + j)],
                stdin=subprocess.PIPE, stdout=open(self.log, "wb"), text=True)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def carries(self):
        said = self.log.read_text()
        return said.count("open ") > said.count("closed ")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


def behind_proxies(lab, ring):
    """Each node reaches the others through proxies on its own host. -> the discovery file of each node"""
    ring.proxies, files = [], []
    for i in range(ring.n):
        ways = {j: Proxy(lab, ring, i, j) for j in range(ring.n) if j != i}
        ring.proxies += ways.values()

        def through(peers):
            for j, p in ways.items():
                peers[ring.ids[j]].update(address=ring.net.hosts[i].address, port=p.port)

        files.append(ring.write_discovery(ring.dir / f"discovery-{i}.json", through))
    return files


def start_for(lab, ring, fault, *flags):
    """Starts the ring as the fault needs it; start_node(i) starts a node of it again the same way."""
    files = behind_proxies(lab, ring) if fault.proxies else [ring.discovery] * ring.n
    kept = [list(flags) + ([] if fault.certificates else ["--insecure-peers"]) for _ in range(ring.n)]
    if fault.certificates:
        bundles = tls.make(lab, ring)
        for i, id in enumerate(ring.ids):
            kept[i] += ["--tls-dir", bundles / id]
    ring.flags = []
    plain = ring.start_node
    ring.start_node = lambda i: plain(i, *kept[i], discovery=files[i])
    for i in range(ring.n):
        ring.start_node(i)
    ring.wait()


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


class Times:
    def __init__(self):
        self.notice, self.recover = [], []

    def __str__(self):
        def both(name, values):
            return f"{name} {statistics.median(values):.2f} s, at most {max(values):.2f}" if values else ""

        return ", ".join(filter(None, (both("noticed after", self.notice), both("went on", self.recover))))


def one_story(ring, fault, rng, want, short, times):
    """A stream, a fault in the middle of it, its end; all is as before."""
    stream = Watched(ring, ring.head, stream=True, **LONG)
    stream.until_text(rng.randint(1, 800))
    begin = time.monotonic()
    fault.strike(ring, rng)
    if fault.pauses:
        until(lambda: stream.reply or stream.live.waits, NOTICE,
              lambda: f"no comment that it waits\n{ring.logs()}")
    time.sleep(rng.uniform(*fault.lasts))
    healed = begin if fault.once else time.monotonic()
    fault.heal(ring)
    reply = stream.end()
    reply.check_whole(want)
    if reply.waits:
        times.notice.append(reply.waits[0][0] - begin)
        check(times.notice[-1] <= NOTICE, "noticed late:", times.notice[-1])
        on = stream.after(max(healed, reply.waits[-1][0]))
        if on:
            times.recover.append(on - healed)
            check(times.recover[-1] <= BACK, "went on late:", times.recover[-1])
    check(fault.pauses is not False or not reply.waits, "a pause that is none:", reply.waits)
    whole_again(ring, short)


def until_undisturbed(ring, fault, seed, want, short, times):
    """-> how often the machine stood still for over a second, so that times mean nothing, and it was done again"""
    for again in range(5):
        seen = Times()
        with Stillness() as still:
            try:
                one_story(ring, fault, random.Random(seed), want, short, seen)
            except Exception as e:
                if still.longest < 1:
                    raise Failure(f"seed '{seed}': {e}") from e
                print(f"seed '{seed}': the machine stood still for {still.longest:.1f} s: {str(e)[:200]}")
                until(lambda: all_serve(ring), 60, ring.logs)
        if still.longest < 1:
            times.notice += seen.notice
            times.recover += seen.recover
            return again
    raise Failure("the machine stands still again and again")


def seeds(lab):
    return range(1, 1 + (lab.seeds or (20 if lab.long else 2)))


def run_fault(lab, name):
    fault, times, passed, again = FAULTS[name], Times(), 0, 0
    tiny = lab.tiny()
    want, short = lab.right(tiny, "Lost", **LONG), lab.right(tiny, "Short", **SHORT)
    with lab.ring(3, tiny, lan=True) as ring:
        try:
            start_for(lab, ring, fault)
            ring.head.ask(ring.chat("Lost", stream=True, **LONG)).check_whole(want)
            base = [n.holds() for n in ring.nodes]
            for seed in seeds(lab):
                again += until_undisturbed(ring, fault, f"{name} {seed}", want, short, times)
                passed += 1
            same = [i for i in range(ring.n) if i != fault.restarts]
            settled_of(ring, base, same)
        finally:
            for p in getattr(ring, "proxies", []):
                p.close()
        still = f"; {again} again, for the machine stood still" if again else ""
        return f"{passed} of {passed}; {times}{still}"


def settled_of(ring, base, which):
    class Some:
        nodes = [ring.nodes[i] for i in which]

    return settled(Some, [base[i] for i in which], seconds=8)


def _add_table():
    for name, fault in FAULTS.items():
        def test(lab, name=name):
            return run_fault(lab, name)

        test.__doc__ = name
        test.needs = ("hosts", "drop") + (("proxy",) if fault.proxies else ())
        test.long = name not in DAILY
        globals()["test_fault_" + re.sub(r"\W+", "_", name)] = test


_add_table()


# ---- what is not a row of the table ---------------------------------------------------------------


def tiny_ring(lab, *flags, n=3, **how):
    """Opens a ring on hosts of its own, started, and what it says to the usual questions."""
    ring = lab.ring(n, lab.tiny(), lan=True, **how)
    return ring, lab.right(lab.tiny(), "Lost", **LONG), lab.right(lab.tiny(), "Short", **SHORT)


def comes_back(ring, i, after):
    threading.Timer(after, ring.start_node, (i,)).start()


@needs("hosts")
def test_an_idle_ring_loses_a_worker(lab):
    """/health says so within 5 s; a request meanwhile waits or gets 503; the worker is used when it is back"""
    opened, _, short = tiny_ring(lab)
    with opened as ring:
        ring.start()
        killed = time.monotonic()
        ring.nodes[1].kill()
        until(lambda: ring.head.health()[0] == 503, NOTICE, ring.head.health)
        noticed = time.monotonic() - killed
        waits = Watched(ring, ring.head, "Short", stream=True, **SHORT)
        time.sleep(0.5)
        ring.start_node(1)
        took = until(lambda: all_serve(ring), BACK, ring.logs)
        reply = waits.end()
        if reply.status == 200:
            reply.check_whole(short)
        else:
            check(reply.status == 503 and reply.seconds <= 1, reply)
        whole_again(ring, short)
        return f"noticed after {noticed:.2f} s, back after {took:.2f} s, meanwhile {reply.status}"


@needs("hosts")
def test_a_worker_lost_in_prefill(lab):
    """a prompt of 3000 tokens in chunks of 16: killed at a random moment of it, twice in one request"""
    opened, _, short = tiny_ring(lab)
    text = "Prompt " * 430
    fields = {"max_tokens": 40, "logit_bias": NO_END}
    want = lab.right(lab.tiny(), text, **fields)
    with opened as ring:
        ring.start("--chunk", 16)
        whole = ring.head.ask(ring.chat(text, stream=True, **fields)).check_whole(want).seconds
        for seed in seeds(lab):
            rng = random.Random(seed)
            stream = Watched(ring, ring.head, text, stream=True, **fields)
            for i in (1, 2):
                time.sleep(rng.uniform(0.1, 0.8) * whole)
                ring.nodes[i].kill()
                ring.start_node(i, "--chunk", 16)
                time.sleep(1)
            stream.end().check_whole(want)
            whole_again(ring, short)
        return f"{whole:.1f} s without a fault"


@needs("hosts")
def test_every_kind_of_request_survives(lab):
    """whole and streamed ones, at the head, at the other worker, at once: each has its whole answer"""
    opened, want, short = tiny_ring(lab)
    with opened as ring:
        ring.start("--parallel", 8)
        for seed in seeds(lab):
            rng = random.Random(seed)
            asked = [Watched(ring, ring.nodes[node], stream=stream, **LONG)
                     for node in (0, 2) for stream in (True, False, True)]
            asked[0].until_text(rng.randint(1, 400))
            ring.nodes[1].kill()
            until(lambda: asked[0].live.waits, NOTICE, ring.logs)
            new = [Watched(ring, ring.nodes[node], "Short", stream=stream, **SHORT)
                   for node in (0, 2) for stream in (True, False)]
            comes_back(ring, 1, rng.uniform(0.5, 2))
            for w in asked:
                w.end().check_whole(want)
            for w in new:
                reply = w.end()
                if reply.status == 200:
                    reply.check_whole(short)
                else:
                    check(reply.status == 503 and reply.error in ("node_lost", "loading"), reply)
            check(all(w.reply.waits for w in asked if w.body["stream"]),
                  "a stream was told nothing:", [str(w.reply) for w in asked if not w.reply.waits])
            whole_again(ring, short)
        return "meanwhile: " + " ".join(str(w.reply.status) for w in new)


@needs("hosts")
def test_the_node_timeout(lab):
    """3 s after the loss: a beginning of the answer, then the error, also for who waits in the queue"""
    opened, want, short = tiny_ring(lab)
    with opened as ring:
        ring.start("--node-timeout", 3, "--parallel", 1)
        asked = [Watched(ring, ring.head, stream=stream, **LONG) for stream in (True, True, False)]
        until(lambda: any(w.length > 50 for w in asked), 20, "no text")
        ring.nodes[2].kill()
        until(lambda: any(w.length and w.live.waits for w in asked), NOTICE, ring.logs)
        noticed = time.monotonic()
        late = []
        for w in asked:
            reply = w.end().check_prefix(want)
            check(reply.error == "node_lost", reply)
            late.append(reply.ended - noticed)
        check(all(2.5 <= s <= 4 for s in late), "not 3 to 4 s after the loss:", late)
        answer = ring.head.request("POST", "/v1/chat/completions", json.dumps(ring.chat("Short", **SHORT)))
        check(answer.status == 503 and answer.headers["Retry-After"], answer.status, answer.body)
        ring.start_node(2, "--node-timeout", 3)
        whole_again(ring, short)
        return "errors " + ", ".join(f"{s:.2f}" for s in sorted(late)) + " s after the loss was noticed"


@needs("hosts")
def test_the_others_take_over(lab):
    """the worker stays away: its layers go to the others, the stream goes on; back, it has layers again"""
    opened, want, short = tiny_ring(lab)
    notice, over, again = [], [], []
    with opened as ring:
        ring.start("--rejoin-grace", 1)
        for seed in seeds(lab):
            rng = random.Random(seed)
            lost = rng.randint(1, 2)
            stream = Watched(ring, ring.head, stream=True, **LONG)
            stream.until_text(rng.randint(1, 500))
            killed = time.monotonic()
            ring.nodes[lost].kill()
            until(lambda: stream.reply or stream.live.waits, NOTICE, ring.logs)
            noticed = time.monotonic()
            until(lambda: stream.reply or stream.after(noticed), BACK + 1, ring.logs)
            notice.append(noticed - killed)
            over.append(stream.after(noticed) - killed)
            ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)
            stream.end().check_whole(want)
            second = Watched(ring, ring.head, stream=True, **LONG)
            begin = time.monotonic()
            ring.start_node(lost, "--rejoin-grace", 1)
            until(lambda: None not in ranges(ring).get(ring.ids[lost], (None,)) and all_serve(ring), BACK,
                  lambda: f"{ranges(ring)}\n{ring.logs()}")
            again.append(time.monotonic() - begin)
            second.end().check_whole(want)
            whole_again(ring, short)
    return (f"noticed {max(notice):.2f} s, went on {statistics.median(over):.2f} (at most {max(over):.2f}) s after "
            f"the kill, used again after {max(again):.2f} s")


@needs("hosts")
def test_too_large_for_the_others(lab):
    """what remains has no room for the layers: the request waits for the worker, and goes on with it"""
    opened, want, short = tiny_ring(lab, n=2, memory=[680, 680])
    with opened as ring:
        flags = ("--rejoin-grace", 1, "--ctx", 4096, "--parallel", 32)  # KV of 220 MiB
        ring.start(*flags)
        stream = Watched(ring, ring.head, stream=True, **LONG)
        stream.until_text(100)
        ring.nodes[1].kill()
        until(lambda: stream.live.waits, NOTICE, ring.logs)
        time.sleep(3)
        check(not stream.reply, "it did not wait:", stream.reply)
        check("no plan" in ring.head.log(), "no word of a plan that does not fit", ring.head.log())
        ring.start_node(1, *flags)
        stream.end().check_whole(want)
        whole_again(ring, short)


@needs("hosts")
def test_a_head_lost_and_back(lab):
    """clients of a worker get the error; after the head's start everything is served, with new numbers"""
    opened, want, short = tiny_ring(lab)
    took = []
    with opened as ring:
        ring.start()
        base = [n.holds() for n in ring.nodes]
        for seed in seeds(lab):
            stream = Watched(ring, ring.nodes[1], stream=True, **LONG)
            stream.until_text(random.Random(seed).randint(1, 800))
            killed = time.monotonic()
            ring.head.kill()
            reply = stream.end().check_prefix(want)
            check(reply.error == "node_lost" and reply.ended - killed <= NOTICE, reply)
            ring.start_node(0)
            took.append(whole_again(ring, short))
        settled_of(ring, base, (1, 2))
    return f"served {statistics.median(took):.2f} s (at most {max(took):.2f}) after the head's start"


@long
@needs("hosts")
def test_a_worker_stopped_for_a_minute(lab):
    """the others take over; what it says afterwards changes nothing"""
    opened, want, short = tiny_ring(lab)
    with opened as ring:
        ring.start("--rejoin-grace", 2)
        stream = Watched(ring, ring.head, stream=True, **LONG)
        stream.until_text(100)
        ring.nodes[1].send(signal.SIGSTOP)
        stream.end().check_whole(want)
        time.sleep(60)
        second = Watched(ring, ring.head, stream=True, **LONG)
        second.until_text(10)
        ring.nodes[1].send(signal.SIGCONT)
        second.end().check_whole(want)
        whole_again(ring, short)


@long
@needs("hosts")
def test_a_cable_out_for_two_minutes(lab):
    opened, want, short = tiny_ring(lab)
    with opened as ring:
        ring.start("--node-timeout", 300, "--rejoin-grace", 300)
        stream = Watched(ring, ring.head, stream=True, **LONG)
        stream.until_text(100)
        ring.net.cut(2)
        time.sleep(120)
        ring.net.plug(2)
        plugged = time.monotonic()
        until(lambda: stream.after(plugged), BACK, ring.logs)
        stream.end(120).check_whole(want)
        whole_again(ring, short)
