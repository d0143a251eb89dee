"""The rows of the table of faults that are no stream through a fault: idle rings, prefill, heads, long absences,
restarts under load, nodes that are started wrong.  survive.py has the others."""
import json
import random
import re
import signal
import threading
import time

from harness import MIB, NO_END, Failure, check, until
from marks import long, needs, seeded
from stories import (BACK, LONG, NOTICE, SHORT, Watched, all_serve, as_before, each, ranges, remember, wrong_view)
from survive import Fault, start_for
import hosts


def row(name):
    """Its name in the table of docs/TESTING.md."""
    def mark(fn):
        fn.row = name
        return fn
    return mark


class Open:
    """A ring of tiny_model's, started and warm, and what one node says to the usual questions."""

    def __init__(self, lab, *flags, n=3, fault=None, **how):
        self.lab, self.flags, self.n, self.fault, self.how = lab, flags, n, fault, how
        self.want, self.short = (lab.right(lab.tiny(), text, **fields) for text, fields in
                                 (("Lost", LONG), ("Short", SHORT)))

    def __enter__(self):
        self.opened = self.lab.ring(self.n, self.lab.tiny(), lan=True, **self.how)
        self.ring = ring = self.opened.__enter__()
        try:
            if self.fault:
                start_for(self.lab, ring, self.fault, *self.flags)
            else:
                ring.flags += self.flags
                ring.start()
            ring.head.ask(ring.chat("Lost", stream=True, **LONG)).check_whole(self.want)
            remember(ring)
        except BaseException as e:
            self.__exit__(type(e), e, e.__traceback__)
            raise
        return self

    def __exit__(self, *why):
        for p in getattr(self.ring, "proxies", []):
            p.close()
        return self.opened.__exit__(*why)

    def stream(self, node=0, n=None, rng=None, **fields):
        """A long stream through a node that has said something: as much as the seed chooses."""
        watched = Watched(self.ring, self.ring.nodes[node], stream=True, **{**LONG, **fields})
        watched.until_text(n or rng.randint(1, 600))
        return watched

    def noticed(self, stream, since):
        until(lambda: stream.reply or stream.live.waits, NOTICE, self.ring.logs)
        check(stream.live.waits, "no word of the loss:", stream.reply)
        took = stream.live.waits[0][0] - since
        check(took <= NOTICE, "noticed late:", took, "\n" + self.ring.logs())
        return took


# ---- killed --------------------------------------------------------------------------------------


@row("worker killed while nothing runs")
@needs("hosts")
@seeded()
def test_an_idle_ring_loses_a_worker(lab, seeds):
    """/health says so within 5 s; a request meanwhile waits or gets 503; the worker is used when it is back"""
    with Open(lab) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            i, asker = rng.choice((1, 2)), rng.choice((0, 0, 1, 2))
            killed = time.monotonic()
            ring.nodes[i].kill()
            until(lambda: ring.head.health()[0] == 503, NOTICE, ring.head.health)
            times.notice.append(time.monotonic() - killed)
            waits = Watched(ring, ring.nodes[asker if asker != i else 0], "Short", stream=rng.random() < 0.5, **SHORT)
            time.sleep(rng.uniform(0, 2))
            ring.start_node(i)
            back = time.monotonic()
            reply = waits.end()
            if reply.status == 200:
                reply.check_whole(o.short)
            else:
                check(reply.status == 503 and reply.seconds <= 1, reply)
            times.recover.append(as_before(ring, o.short) - back)

        return each(seeds, story, ring)


@row("worker killed in prefill, then the other")
@needs("hosts")
@seeded(daily=1)
def test_a_worker_lost_in_prefill(lab, seeds):
    """a prompt of 3000 tokens in chunks of 16: killed at a random moment of it, twice in one request"""
    text = "Prompt " * 430
    fields = {"max_tokens": 40, "logit_bias": NO_END}
    want = lab.right(lab.tiny(), text, **fields)
    with Open(lab, "--chunk", 16) as o:
        ring = o.ring
        whole = ring.head.ask(ring.chat(text, stream=True, **fields)).check_whole(want).seconds

        def story(seed, times):
            rng = random.Random(seed)
            stream = Watched(ring, ring.head, text, stream=True, **fields)
            for i in rng.sample((1, 2), 2):
                time.sleep(rng.uniform(0.05, 0.8) * whole)
                ring.nodes[i].kill()
                ring.start_node(i)
                time.sleep(1)
            stream.end().check_whole(want)
            as_before(ring, o.short)

        return each(seeds, story, ring)


@row("worker killed under whole, streamed, forwarded and new requests")
@needs("hosts")
@seeded(daily=1)
def test_every_kind_of_request_survives(lab, seeds):
    """whole and streamed ones, at the head, at the other worker, at once: each has its whole answer"""
    with Open(lab, "--parallel", 8) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            lost = rng.choice((1, 2))
            asked = [Watched(ring, ring.nodes[node], stream=stream, **LONG)
                     for node in (0, 3 - lost) for stream in (True, False, True)]
            asked[0].until_text(rng.randint(1, 400))
            killed = time.monotonic()
            ring.nodes[lost].kill()
            times.notice.append(o.noticed(asked[0], killed))
            new = [Watched(ring, ring.nodes[node], "Short", stream=stream, **SHORT)
                   for node in (0, 3 - lost) for stream in (True, False)]
            time.sleep(rng.uniform(0.5, 2))
            ring.start_node(lost)
            back = time.monotonic()
            for w in asked:
                w.end().check_whole(o.want)
            times.recover.append(asked[0].after(max(back, asked[0].reply.waits[-1][0])) - back)
            for w in new:
                reply = w.end()
                if reply.status == 200:
                    reply.check_whole(o.short)
                else:
                    check(reply.status == 503 and reply.error in ("node_lost", "loading"), reply)
            check(all(w.reply.waits for w in asked if w.body["stream"]),
                  "a stream was told nothing:", [str(w.reply) for w in asked if not w.reply.waits])
            as_before(ring, o.short)

        return each(seeds, story, ring)


@row("worker stays away past `--node-timeout 3`")
@needs("hosts")
@seeded(daily=1)
def test_the_node_timeout(lab, seeds):
    """3 s after the loss: a beginning of the answer, then the error, also for who waits in the queue"""
    with Open(lab, "--node-timeout", 3, "--parallel", 1) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            lost = rng.choice((1, 2))
            asked = [o.stream(n=rng.randint(1, 400))]
            asked += [Watched(ring, ring.head, stream=stream, **LONG) for stream in (True, False)]
            killed = time.monotonic()
            ring.nodes[lost].kill()
            times.notice.append(o.noticed(asked[0], killed))
            noticed = killed + times.notice[-1]
            late = []
            for w in asked:
                reply = w.end().check_prefix(o.want)
                check(reply.error == "node_lost", reply)
                late.append(reply.ended - noticed)
            check(all(2.5 <= s <= 4 for s in late), "not 3 to 4 s after the loss:", late)
            answer = ring.head.request("POST", "/v1/chat/completions", json.dumps(ring.chat("Short", **SHORT)))
            check(answer.status == 503 and answer.headers["Retry-After"] == "1", answer.status, answer.body)
            ring.start_node(lost)
            back = time.monotonic()
            times.recover.append(as_before(ring, o.short) - back)
            times.notes.append(f"errors up to {max(late):.2f} s after the loss was noticed")

        return each(seeds, story, ring)


@row("worker stays away: the others take its layers, and give them back")
@needs("hosts")
@seeded(daily=1)
def test_the_others_take_over(lab, seeds):
    """the worker stays away: its layers go to the others, the stream goes on; back, it has layers again"""
    with Open(lab, "--rejoin-grace", 1) as o:
        ring, again = o.ring, []

        def story(seed, times):
            rng = random.Random(seed)
            lost = rng.randint(1, 2)
            stream = o.stream(rng=rng)
            killed = time.monotonic()
            ring.nodes[lost].kill()
            times.notice.append(o.noticed(stream, killed))
            noticed = time.monotonic()
            until(lambda: stream.reply or stream.after(noticed), BACK + 1, ring.logs)
            times.recover.append(stream.after(noticed) - killed)
            ring.head.ask(ring.chat("Short", **SHORT)).check_whole(o.short)
            stream.end().check_whole(o.want)
            second = Watched(ring, ring.head, stream=True, **LONG)
            begin = time.monotonic()
            ring.start_node(lost)
            until(lambda: None not in ranges(ring).get(ring.ids[lost], (None,)) and all_serve(ring), BACK,
                  lambda: f"{ranges(ring)}\n{ring.logs()}")
            again.append(time.monotonic() - begin)
            second.end().check_whole(o.want)
            as_before(ring, o.short)
            times.notes.append(f"the worker used again after up to {max(again):.2f} s")

        return each(seeds, story, ring)


@row("worker stays away, the others have no room: they wait for it")
@needs("hosts")
@seeded(daily=1)
def test_too_large_for_the_others(lab, seeds):
    """what remains has no room for the layers: the request waits for the worker, and goes on with it"""
    with Open(lab, "--rejoin-grace", 1, "--ctx", 4096, "--parallel", 32, n=2, memory=[680, 680]) as o:  # KV: 220 MiB
        ring = o.ring

        def story(seed, times):
            stream = o.stream(rng=random.Random(seed))
            killed = time.monotonic()
            ring.nodes[1].kill()
            times.notice.append(o.noticed(stream, killed))
            time.sleep(3)
            check(not stream.reply, "it did not wait:", stream.reply)
            check("no plan" in ring.head.log(), "no word of a plan that does not fit", ring.head.log())
            ring.start_node(1)
            back = time.monotonic()
            stream.end().check_whole(o.want)
            times.recover.append(stream.after(back) - back)
            as_before(ring, o.short)

        return each(seeds, story, ring)


@row("head killed under streams")
@needs("hosts")
@seeded()
def test_a_head_lost_and_back(lab, seeds):
    """clients of the workers get the error, the workers free its model; after its start everything is served"""
    tiny = lab.tiny()
    with Open(lab) as o:
        ring, epochs = o.ring, set()

        def story(seed, times):
            streams = [o.stream(node, rng=random.Random(seed)) for node in (1, 2)]
            whole = Watched(ring, ring.nodes[1], **LONG)
            check(all(n.maps(tiny) for n in ring.nodes[1:]), "a worker maps nothing of the model")
            killed = time.monotonic()
            ring.head.kill()
            for w in streams:
                reply = w.end().check_prefix(o.want)
                check(reply.error == "node_lost" and reply.ended - killed <= NOTICE, reply)
                times.notice.append(reply.ended - killed)
            reply = whole.end()
            check(reply.closed or reply.error == "node_lost", "no error:", reply)
            until(lambda: not any(n.maps(tiny) for n in ring.nodes[1:]), NOTICE, "a worker holds on to the model")
            ring.start_node(0)
            back = time.monotonic()
            times.recover.append(as_before(ring, o.short) - back)
            epoch = str(ring.head.health()[1]["epoch"])
            check(epoch not in epochs, "a number of an earlier head's:", epoch)
            epochs.add(epoch)

        return each(seeds, story, ring)


# ---- away for long -------------------------------------------------------------------------------


@row("worker stopped for 60 s")
@long
@needs("hosts")
@seeded(piece=2, waits=True)
def test_a_worker_stopped_for_a_minute(lab, seeds):
    """the others take over; what it says afterwards changes nothing, and it is used again"""
    with Open(lab) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            i = rng.choice((1, 2))
            stream = o.stream(rng=rng)
            stopped = time.monotonic()
            ring.nodes[i].send(signal.SIGSTOP)
            times.notice.append(o.noticed(stream, stopped))
            stream.end().check_whole(o.want)
            epoch = ring.head.health()[1]["epoch"]
            check(ranges(ring)[ring.ids[i]] == (None, None), "a stopped worker has layers:", ranges(ring))
            time.sleep(max(0, stopped + 60 - time.monotonic()))
            second = o.stream(n=10)
            awake = time.monotonic()
            ring.nodes[i].send(signal.SIGCONT)
            until(lambda: not wrong_view(ring), BACK, lambda: wrong_view(ring) + "\n" + ring.logs())
            times.recover.append(time.monotonic() - awake)
            second.end().check_whole(o.want)
            as_before(ring, o.short)
            check(ring.head.health()[1]["epoch"] != epoch, "the worker is back, and no new plan:", epoch)

        return each(seeds, story, ring)


def cut_somewhere(ring, rng):
    """One of the ways to be cut off. -> how to end it"""
    i = rng.choice((1, 2))
    kind = rng.choice(("cable", "there", "back", "workers"))
    if kind == "cable":
        ring.net.cut(i)
        return lambda: ring.net.plug(i)
    a, b = {"there": (0, i), "back": (i, 0), "workers": (i, 3 - i)}[kind]
    ring.net.drop(a, b)
    return lambda: ring.net.pass_all(a)


@row("worker cut off for 120 s (cable, or one way)")
@long
@needs("hosts", "drop")
@seeded(piece=2, waits=True)
def test_a_worker_cut_off_for_two_minutes(lab, seeds):
    """the others take over, and it is used again within 10 s"""
    with Open(lab) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            stream = o.stream(rng=rng)
            plug = cut_somewhere(ring, rng)
            cut = time.monotonic()
            times.notice.append(o.noticed(stream, cut))
            stream.end().check_whole(o.want)
            time.sleep(max(0, cut + 120 - time.monotonic()))
            second = o.stream(n=10)
            plugged = time.monotonic()
            plug()
            until(lambda: not wrong_view(ring), BACK, lambda: wrong_view(ring) + "\n" + ring.logs())
            times.recover.append(time.monotonic() - plugged)
            second.end().check_whole(o.want)
            as_before(ring, o.short)

        return each(seeds, story, ring)


@row("the same, and nobody takes over: the stream waits")
@long
@needs("hosts", "drop")
@seeded(piece=2, waits=True)
def test_a_stream_that_waits_for_two_minutes(lab, seeds):
    """--rejoin-grace and --node-timeout are longer: it goes on where it was"""
    with Open(lab, "--node-timeout", 300, "--rejoin-grace", 300) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            stream = o.stream(rng=rng)
            plug = cut_somewhere(ring, rng)
            cut = time.monotonic()
            times.notice.append(o.noticed(stream, cut))
            time.sleep(max(0, cut + 120 - time.monotonic()))
            plugged = time.monotonic()
            plug()
            until(lambda: stream.after(plugged), BACK, ring.logs)
            times.recover.append(stream.after(plugged) - plugged)
            stream.end().check_whole(o.want)
            as_before(ring, o.short)

        return each(seeds, story, ring)


@row("two workers that do not reach each other: one of them takes over")
@needs("hosts", "drop")
@seeded(daily=1)
def test_workers_apart(lab, seeds):
    """the head sees both: the stream goes on without one of them; when they are together again it is used again"""
    with Open(lab, "--rejoin-grace", 1) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            stream = o.stream(rng=rng)
            a = rng.choice((1, 2))
            ring.net.drop(a, 3 - a)
            cut = time.monotonic()
            times.notice.append(o.noticed(stream, cut))
            stream.end(60).check_whole(o.want)
            over = time.monotonic() - cut
            check(over <= 30, "it took", over)
            ring.nodes[3 - a].ask(ring.chat("Short", **SHORT)).check_whole(o.short)
            together = time.monotonic()
            ring.net.pass_all(a)
            until(lambda: not wrong_view(ring), BACK, lambda: wrong_view(ring) + "\n" + ring.logs())
            times.recover.append(time.monotonic() - together)
            as_before(ring, o.short)
            times.notes.append(f"the stream whole up to {over:.1f} s after the cut")

        return each(seeds, story, ring)


def count_dials(ring):
    """From now on the SYNs that each host sends to each other one are counted."""
    for host in ring.net.hosts:
        for other in ring.net.hosts:
            if other is not host:
                host.space.run("iptables", "-I", "OUTPUT", "-d", other.address, "-p", "tcp", "--syn", "--dport",
                               str(other.port))


def dials(ring):
    """-> how many between each two hosts"""
    found = {}
    for i, host in enumerate(ring.net.hosts):
        for line in host.space.run("iptables", "-L", "OUTPUT", "-v", "-x", "-n").splitlines():
            said = re.match(r"\s*(\d+)\s+\d+\s.*\s10\.77\.0\.(\d+)\s+tcp.*flags:", line)
            if said:
                found[i, int(said[2]) - 1] = int(said[1])
    return found


@row("cable flaps once a second for 60 s under streams")
@long
@needs("hosts", "drop")
@seeded(piece=2, waits=True)
def test_a_flapping_cable(lab, seeds):
    """no storm of dials, right answers, and the ring is there 10 s after it stops"""
    with Open(lab) as o:
        ring = o.ring
        count_dials(ring)

        def story(seed, times):
            rng = random.Random(seed)
            i = rng.choice((1, 2))
            base, begin = dials(ring), time.monotonic()
            stream, ended = None, 0
            while time.monotonic() < begin + 60:
                if not stream or stream.reply:
                    if stream:
                        stream.end().check_whole(o.want)
                        ended += 1
                    stream = Watched(ring, ring.nodes[rng.choice((0, 0, 3 - i))], stream=True, **LONG)
                ring.net.cut(i)
                time.sleep(0.5)
                ring.net.plug(i)
                time.sleep(0.5)
            healed = time.monotonic()
            until(lambda: not wrong_view(ring), BACK, lambda: wrong_view(ring) + "\n" + ring.logs())
            times.recover.append(time.monotonic() - healed)
            stream.end().check_whole(o.want)
            as_before(ring, o.short)
            each_s = {way: (n - base[way]) / (healed - begin) for way, n in dials(ring).items()}
            times.notes.append(f"{ended} streams, at most {max(each_s.values()):.2f} dials a second to a peer")
            check(max(each_s.values()) <= 1, "a storm of dials, a second:", each_s)
            lines = len(ring.head.log().splitlines())
            check(lines < 60 * 20, "a storm of log lines:", lines)

        return each(seeds, story, ring)


# ---- bytes, readers, restarts --------------------------------------------------------------------


@row("connections cut after each of their first 400 bytes")
@long
@needs("hosts", "proxy")
@seeded(waits=True)
def test_cut_at_every_border(lab, seeds):
    """each seed has twenty of the lengths, up or down: greetings, settings, headers and Hello break off everywhere;
    the ring is there each time, and the answers are right"""
    with Open(lab, fault=Fault(None, None, proxies=True)) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            for n in range(seed - 1, 400, 20):
                stream = Watched(ring, ring.head, "Short", stream=True, **SHORT)
                proxy = rng.choice(ring.proxies)
                proxy.say("cut")
                proxy.say(f"cut {rng.choice(('up', 'down'))} {n}")
                stream.end().check_whole(o.short)
            for p in ring.proxies:
                p.say("clear")
            as_before(ring, o.short)

        return each(seeds, story, ring)


@row("a peer that reads 50 kB/s, eight long prompts")
@needs("hosts", "proxy")
@seeded(daily=1)
def test_a_peer_that_reads_slowly(lab, seeds):
    """the others do not pile up what it does not read; the answers are right"""
    text = "Prompt " * 430
    fields = {"max_tokens": 20, "logit_bias": NO_END}
    want = lab.right(lab.tiny(), text, **fields)
    with Open(lab, "--parallel", 8, "--chunk", 256, fault=Fault(None, None, proxies=True)) as o:
        ring, most = o.ring, [0]

        def story(seed, times):
            rng = random.Random(seed)
            slow = rng.choice([p for p in ring.proxies if p.carries()])
            slow.say("rate 50000")
            asked = [Watched(ring, ring.nodes[i % 3], text, stream=i % 2 == 0, **fields) for i in range(8)]
            end = time.monotonic() + rng.uniform(3, 5)
            while time.monotonic() < end:
                grown = max(n.holds()[2] - base[2] for n, base in zip(ring.nodes, ring.base))
                most[0] = max(most[0], grown)
                time.sleep(0.05)
            slow.say("clear")
            for w in asked:
                w.end().check_whole(want)
            check(most[0] <= 64 * MIB, "memory piles up:", most[0])
            as_before(ring, o.short)
            times.notes.append(f"memory grew by {most[0] / MIB:.1f} MiB at most")

        return each(seeds, story, ring)


class Load:
    """Clients with little pause through all nodes; what became of their requests."""

    def __init__(self, ring, want, fields, clients=4):
        self.ring, self.want, self.fields = ring, want, fields
        self.whole = self.begun = self.refused = 0
        self.wrong, self.stop = [], threading.Event()
        self.kills = []  # (when, which node)
        self.threads = [threading.Thread(target=self._client, args=(i,)) for i in range(clients)]
        for t in self.threads:
            t.start()

    def _client(self, i):
        while not self.stop.is_set():
            node = self.ring.nodes[i % 3]
            reply = node.ask(self.ring.chat("Load", stream=i % 4 != 3, **self.fields))
            if not reply.closed:
                try:
                    reply.check_prefix(self.want)
                except Failure as e:
                    self.wrong.append(str(e))
            elif not self.want.startswith(reply.text) or not self._was_killed(i % 3, reply):
                self.wrong.append(str(reply))
            if not reply.closed and not reply.error:
                self.whole += 1
            elif reply.status == 200:
                self.begun += 1
            else:
                self.refused += 1
            time.sleep(0.1)

    def _was_killed(self, i, reply):
        """That node, or the head that it had asked: only then may an answer be cut off."""
        return any(who in (0, i) and reply.began - 1 < when < reply.ended + 0.1 for when, who in self.kills)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join()


@row("each node killed and started in turn, 50 times under load")
@long
@needs("hosts")
@seeded(piece=1)
def test_every_node_restarted_under_load(lab, seeds):
    """four clients through all nodes: no wrong byte; none fails but what was under way"""
    fields = {"max_tokens": 200, "logit_bias": NO_END}
    want = lab.right(lab.tiny(), "Load", **fields)
    with Open(lab) as o:
        ring = o.ring

        def story(seed, times):
            rng = random.Random(seed)
            load = Load(ring, want, fields)
            try:
                for turn in range(50):
                    time.sleep(rng.uniform(0.1, 0.8))
                    load.kills.append((time.monotonic(), turn % 3))
                    ring.nodes[turn % 3].kill()
                    ring.start_node(turn % 3)
                    back = time.monotonic()
                    until(lambda: all_serve(ring), BACK, ring.logs)
                    times.recover.append(time.monotonic() - back)
            finally:
                load.end()
            check(not load.wrong, len(load.wrong), "wrong answers, the first:", load.wrong[:1])
            check(load.begun <= 50 * len(load.threads), "more failed than were under way:", load.begun)
            as_before(ring, o.short)
            times.notes.append(f"{load.whole} whole, {load.begun} broken off, {load.refused} refused")

        return each(seeds, story, ring)


# ---- started wrong -------------------------------------------------------------------------------


def with_names(ring, i):
    """Node i sees a hosts file and a resolver of its own. -> the hosts file"""
    names, resolver = ring.dir / f"hosts-{i}", ring.dir / f"resolver-{i}"
    names.write_text("127.0.0.1 localhost\n")
    resolver.write_text("nameserver 127.0.0.1\n")
    ring.nodes[i].runner = ["unshare", "--mount", "sh", "-c", f"mount --bind {names} /etc/hosts && mount --bind "
                            f"{resolver} /etc/resolv.conf && exec \"$@\"", "sh"]
    return names


@row("names of nodes that DNS does not know (yet)")
@needs("hosts")
@seeded(daily=1)
def test_names_that_do_not_resolve(lab, seeds):
    """the own name: one line and an exit status within a second; a peer's: it is said once and tried again, and the
    peer is used when its name is known"""
    tiny = lab.tiny()
    short = lab.right(tiny, "Short", **SHORT)

    def story(seed, times):
        with lab.ring(2, tiny, lan=True) as ring:
            def named(peers):
                peers["w1"]["address"] = "renga-w1.test"

            names = ring.write_discovery(ring.dir / "names.json", named)
            with_names(ring, 1)
            begin = time.monotonic()
            ring.start_node(1, discovery=names)
            check(ring.nodes[1].wait_exit(5) == 4, "exit", ring.nodes[1].process.returncode)
            check(time.monotonic() - begin <= 1, f"it took {time.monotonic() - begin:.1f} s")
            lines = ring.nodes[1].log().strip().splitlines()
            check(lines[-1].startswith("renga: ") and "renga-w1.test" in lines[-1], "not the reason:", lines)
            ring.nodes[1].runner = []
            ring.start_node(1)  # it has the address
            known = with_names(ring, 0)
            ring.start_node(0, discovery=names)
            ring.head.wait_log(r"w1.*renga-w1\.test.*(resolve|no such)", 5)
            time.sleep(random.Random(seed).uniform(2, 5))
            said = [x for x in ring.head.log().splitlines() if "renga-w1.test" in x]
            check(len(said) <= 4, "a log line for every try:", *said)
            known.write_text(known.read_text() + "10.77.0.2 renga-w1.test\n")
            begin = time.monotonic()
            until(lambda: all_serve(ring), BACK, ring.logs)
            times.recover.append(time.monotonic() - begin)
            ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)

    return each(seeds, story)


def _repeat():
    """Tests of hosts.py that are rows of the table too; every run has them once as they are."""
    for name, test in (("a second head", hosts.test_a_second_head),
                       ("a node id twice", hosts.test_the_same_node_twice),
                       ("two heads that each claim the other", hosts.test_two_heads_refuse_each_other),
                       ("port taken", hosts.test_a_taken_port),
                       ("address that is not this machine's", hosts.test_an_address_that_is_not_this_machines)):
        def again(lab, seeds, test=test):
            return each(seeds, lambda seed, times: test(lab) and None)

        again.__doc__, again.row, again.long = test.__doc__, name, True
        again.needs = getattr(test, "needs", ())
        globals()["test_again_" + test.__name__[5:]] = seeded()(again)


_repeat()
