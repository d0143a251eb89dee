"""Nodes are lost and come back; the answers are those of a ring without faults.

FAULTS is the table: each fault hits a ring of three in the middle of a stream; the seed chooses the token, the node
and how long it lasts.  run.py runs some with 2 seeds each, with --long all with 20; rows.py has what is no stream
through a fault.  docs/TESTING.md has what was measured.
"""
import calendar
import json
import random
import re
import signal
import statistics
import subprocess
import threading
import time

from harness import check, until
from marks import needs, seeded
from stories import (BACK, LONG, NOTICE, REST, SHORT, Times, Watched, all_serve, as_before, each, ranges,  # noqa: F401
                     remember)
import tls


# ---- the table -----------------------------------------------------------------------------------


class Fault:
    """What is done to a ring of three, and what is to be seen of it.  strike(ring, rng, i) and heal(ring, i) are about
    the worker i that the seed chooses; pauses: the stream is told that it waits (None: it may be)."""

    def __init__(self, strike, heal, lasts=(0.2, 1.5), pauses=True, once=False, proxies=False, certificates=False,
                 clock=False, sees=None):
        self.strike, self.heal, self.lasts, self.pauses = strike, heal, lasts, pauses
        self.proxies, self.certificates, self.clock = proxies, certificates, clock
        self.once = once  # over as soon as it has happened: recovery counts from then
        self.sees = sees  # sees(ring, i): what else is to be seen while it lasts


def stop(lasts, pauses):
    return Fault(lambda r, _, i: r.nodes[i].send(signal.SIGSTOP), lambda r, i: r.nodes[i].send(signal.SIGCONT),
                 lasts=lasts, pauses=pauses)


def restart(r, _, i):
    r.nodes[i].kill()
    r.start_node(i)


def struck(command):
    """command(ring, i), of a program that may take its time: the fault counts from its end."""
    def strike(r, _, i):
        command(r, i)
        r.struck = time.monotonic()
    return strike


def packets(way):
    """Packets are lost on the way(i) from one host to another, for the 10 s of a table of faults."""
    return Fault(struck(lambda r, i: r.net.drop(*way(i))), lambda r, i: r.net.pass_all(way(i)[0]), lasts=(10, 10))


def link_down(lasts, pauses=True):
    return Fault(struck(lambda r, i: r.net.cut(i)), lambda r, i: r.net.plug(i), lasts=lasts, pauses=pauses)


def loss(share):
    def strike(r, _, i):
        r.net.drop(0, i, share)
        r.net.drop(i, 0, share)

    def heal(r, i):
        r.net.pass_all(0)
        r.net.pass_all(i)

    return Fault(strike, heal, lasts=(3, 4), pauses=None)


def slow_cable(r, _, i):
    for j in range(3):
        r.net.rate(j, 10)


def fast_cable(r, i):
    for j in range(3):
        r.net.hosts[j].space.run("tc", "qdisc", "del", "dev", "eth0", "root")


def small_packets(size):
    def strike(r, *_):
        for host in r.net.hosts:
            host.space.run("ip", "link", "set", "eth0", "mtu", str(size))
    return strike


class Slowed:
    """A worker that runs a tenth of the time: 20 ms, then stopped for 180."""

    def __init__(self, node):
        self.node, self.over = node, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.over.is_set():
            self.node.send(signal.SIGSTOP)
            time.sleep(0.18)
            self.node.send(signal.SIGCONT)
            time.sleep(0.02)

    def end(self):
        self.over.set()
        self.thread.join()


def slow_worker(r, _, i):
    r.slowed = Slowed(r.nodes[i])


def health_tells_the_rate(r, _):
    """tokens_per_s of /health, of the last second, is what the client gets"""
    def told():
        now, said = time.monotonic(), r.head.health()[1]["tokens_per_s"]
        got = sum(t > now - 1 for t in r.stream.times)
        return r.stream.reply or (said > 0 and got / 2 - 5 <= said <= got * 2 + 5)

    until(told, 4, lambda: f"{r.head.health()[1]['tokens_per_s']} tokens/s by /health, {r.stream.times[-9:]}")


FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


def faked(file):
    """The daemon's wall clock is what the file says; its monotonic one and the times of files stay."""
    return ["env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={file}", "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"]


def set_clock(r, i, offset):
    new = r.dir / "clock-new"
    new.write_text(offset)
    new.replace(r.dir / f"clock-{i}")


def jump(r, rng, i):
    r.ahead = rng.choice((1, -1))
    r.jumped = rng.choice((0, 1, 2))
    set_clock(r, r.jumped, f"{'+' if r.ahead > 0 else '-'}3600s")


def has_jumped(r, _):
    """its log shows the hour"""
    r.nodes[r.jumped].ask(r.chat("Short", **SHORT))

    def hours():
        last = r.nodes[r.jumped].log().splitlines()[-1]
        return (time.time() - calendar.timegm(time.strptime(last[:19], "%Y-%m-%dT%H:%M:%S"))) / -3600

    until(lambda: abs(hours() - r.ahead) < 0.1, 5, lambda: f"the clock did not jump: {hours()} hours")


def proxied(command, pauses=True, lasts=(1.0, 2.0), once=False, certificates=False):
    """command(rng) to the proxy on the way from one node to another (chosen by the seed)."""
    def strike(r, rng, _):
        rng.choice([p for p in r.proxies if p.carries()]).say(command(rng))

    return Fault(strike, clear, lasts=lasts, pauses=pauses, once=once, proxies=True,
                 certificates=certificates)


def stall(r, rng, _):
    """Steps go from each node to the next; a link of theirs that stalls must stop the stream.  Another one, or the
    way back, is noticed too, but a short stream may have ended by then."""
    proxy, way = rng.choice([p for p in r.proxies if p.carries()]), rng.choice(("up", "down"))
    proxy.say(f"stall {way}")
    r.must_pause = way == "up" and proxy.j == (proxy.i + 1) % 3


def clear(r, _):
    for p in r.proxies:
        p.say("clear")


def somewhere(name):
    return lambda rng: f"{name} {rng.choice(('up', 'down'))} {rng.randint(0, 40000)}"


FAULTS = {
    "worker killed": Fault(lambda r, _, i: r.nodes[i].kill(), lambda r, i: r.start_node(i)),
    "worker killed and started at once": Fault(restart, lambda r, i: None, lasts=(0, 0), once=True),
    "worker stopped for 2 s": stop((2, 2), False),
    "worker stopped for 6 to 9 s": stop((6, 9), True),
    "worker ten times slower": Fault(slow_worker, lambda r, i: r.slowed.end(), lasts=(1, 2), pauses=False,
                                     sees=health_tells_the_rate),
    "cable of a worker out for 10 s": link_down((10, 10)),
    "cable out for a second": link_down((1, 1), None),
    "head to worker silent for 10 s": packets(lambda i: (0, i)),
    "worker to head silent for 10 s": packets(lambda i: (i, 0)),
    "worker to worker silent for 10 s": packets(lambda i: (i, 3 - i)),
    "1 % of packets lost": loss(0.01),
    "5 % of packets lost": loss(0.05),
    "10 Mbit/s": Fault(slow_cable, fast_cable, lasts=(2, 3), pauses=None),
    "packets of 600 bytes": Fault(small_packets(600), lambda r, i: small_packets(1500)(r), lasts=(1, 2),
                                  pauses=False),
    "delay of 50 ms ± 20": proxied(lambda _: "delay 50 20", pauses=False, lasts=(3, 4)),
    "connections reset": proxied(lambda _: "rst", once=True),
    "connections cut": proxied(lambda _: "cut", once=True),
    "reset at a byte": proxied(somewhere("rst"), pauses=None, once=True),
    "cut at a byte": proxied(somewhere("cut"), pauses=None, once=True),
    "a way stalls": Fault(stall, clear, pauses=None, lasts=(6, 7), proxies=True),
    "a byte flipped, with certificates": proxied(somewhere("flip"), pauses=None, once=True, certificates=True),
    "bytes doubled, with certificates": proxied(somewhere("dup"), pauses=None, once=True, certificates=True),
    "100 kB/s": proxied(lambda _: "rate 100000", pauses=None, lasts=(2, 3)),
    "a node's clock jumps by an hour": Fault(jump, lambda r, i: set_clock(r, r.jumped, "+0s"), lasts=(1, 2),
                                             pauses=False, clock=True, sees=has_jumped),
    "the same with certificates": Fault(jump, lambda r, i: set_clock(r, r.jumped, "+0s"), lasts=(1, 2), pauses=False,
                                        clock=True, certificates=True, sees=has_jumped),
}
# Those of every change; --long has all of them.
DAILY = ("worker killed", "worker killed and started at once", "worker stopped for 2 s",
         "worker to worker silent for 10 s", "delay of 50 ms ± 20", "a way stalls", "connections reset",
         "a byte flipped, with certificates", "a node's clock jumps by an hour")


class Proxy:
    """The way from one host to the peer port of another."""

    def __init__(self, lab, ring, i, j):
        self.i, self.j = i, j
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
    if fault.clock:
        for i, node in enumerate(ring.nodes):
            set_clock(ring, i, "+0s")
            node.runner = faked(ring.dir / f"clock-{i}")
    ring.flags = []
    plain = ring.start_node
    ring.start_node = lambda i: plain(i, *kept[i], discovery=files[i])
    for i in range(ring.n):
        ring.start_node(i)
    ring.wait()


def one_story(ring, fault, rng, want, short, times):
    """A stream, a fault in the middle of it, its end; all is as before."""
    ring.stream = stream = Watched(ring, ring.head, stream=True, **LONG)
    stream.until_text(rng.randint(1, 600))
    i = rng.choice((1, 2))
    ring.struck, ring.must_pause = None, fault.pauses
    begin = time.monotonic()
    fault.strike(ring, rng, i)
    begin = ring.struck or begin
    if ring.must_pause:
        until(lambda: stream.reply or stream.live.waits, NOTICE,
              lambda: f"no comment that it waits\n{ring.logs()}")
    if fault.sees:
        fault.sees(ring, i)
    time.sleep(max(0, rng.uniform(*fault.lasts) - (time.monotonic() - begin)))
    healed = begin if fault.once else time.monotonic()
    fault.heal(ring, i)
    reply = stream.end()
    reply.check_whole(want)
    if reply.waits:
        times.notice.append(max(0, reply.waits[0][0] - begin))
        check(times.notice[-1] <= NOTICE, "noticed late:", times.notice[-1])
        on = stream.after(max(healed, reply.waits[-1][0]))
        if on:
            times.recover.append(on - healed)
            check(times.recover[-1] <= BACK, "went on late:", times.recover[-1])
    check(fault.pauses is not False or not reply.waits, "a pause that is none:", reply.waits)
    check(not ring.must_pause or reply.waits, "it ended before the fault")
    if not fault.pauses and not fault.once:
        lasted = [t for t in stream.times if begin <= t <= healed]
        times.rates.append(len(lasted) / (min(healed, reply.ended) - begin))
    as_before(ring, short)


def run_fault(lab, name, seeds):
    fault, tiny = FAULTS[name], lab.tiny()
    want, short = lab.right(tiny, "Lost", **LONG), lab.right(tiny, "Short", **SHORT)
    with lab.ring(3, tiny, lan=True) as ring:
        try:
            start_for(lab, ring, fault)
            ring.head.ask(ring.chat("Lost", stream=True, **LONG)).check_whole(want)
            remember(ring)
            return each(seeds, lambda seed, times: one_story(ring, fault, random.Random(f"{name} {seed}"), want, short,
                                                             times), ring)
        finally:
            for p in getattr(ring, "proxies", []):
                p.close()


def _add_table():
    for name, fault in FAULTS.items():
        def test(lab, seeds, name=name):
            return run_fault(lab, name, seeds)

        test.__doc__ = test.row = name
        test.needs = ("hosts", "drop") + (("proxy",) if fault.proxies else ()) + (("faketime",) if fault.clock else ())
        test.long = name not in DAILY
        globals()["test_fault_" + re.sub(r"\W+", "_", name)] = seeded()(test)


_add_table()


def prepare(lab):
    """Makes the model and the right answers that every row wants."""
    for text, fields in (("Lost", LONG), ("Short", SHORT)):
        lab.right(lab.tiny(), text, **fields)
