"""A node is lost while it works, and requests do not wait for it (--node-timeout 0): who notices, how they end,
and how the ring comes back.  survive.py is about those that wait."""
import signal
import threading
import time

from harness import NO_END, Failure, check, until
from marks import long, needs
from basic import settled

LONG = {"max_tokens": 3500, "logit_bias": NO_END}
SHORT = {"max_tokens": 30, "logit_bias": NO_END}
AT_ONCE = ("--node-timeout", 0)
NOTICE = 5.0  # seconds until a lost node is noticed
BACK = 10.0   # and until a ring that is whole again serves, loading apart


def begun(ring, node, want, lose):
    """A stream through `node` in whose midst lose() is called. -> the reply, seconds from loss to end"""
    lost = []

    def once(reply):
        if not lost and len(reply.text) >= 20:
            lost.append(time.monotonic())
            lose()

    reply = node.ask(ring.chat("Lost", stream=True, **LONG), on_text=once)
    check(lost, "no text came", reply)
    reply.check_prefix(want)
    return reply, reply.ended - lost[0]


def lose_and_come_back(lab, ring, lose, back, restarts=None):
    """The whole story of one fault."""
    want, short = lab.right(lab.tiny(), "Lost", **LONG), lab.right(lab.tiny(), "Short", **SHORT)
    ring.start(*AT_ONCE)
    ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)
    base = [n.holds() for n in ring.nodes]
    begin = []

    def now():
        begin.append(time.monotonic())
        lose()

    reply, seconds = begun(ring, ring.head, want, now)
    check(reply.error == "node_lost", "not node_lost:", reply)
    check(seconds <= NOTICE, f"it took {seconds:.1f} s:", reply)
    until(lambda: ring.head.health()[0] == 503, max(0.5, NOTICE - seconds), ring.head.health)
    # What comes now is answered with the typed error soon, or waits and is right.
    next_ = ring.head.ask(ring.chat("Short", stream=True, **SHORT))
    check(next_.status == 503 and next_.error in ("node_lost", "loading") and next_.seconds <= 2, next_)
    back()
    took = until(lambda: all(n.health()[0] == 200 for n in ring.nodes), BACK, ring.logs)
    for node in ring.nodes:
        node.ask(ring.chat("Short", **SHORT)).check_whole(short)
    same = [i for i in range(ring.n) if i != restarts]
    settled_of(ring, base, same)
    return f"error after {seconds:.1f} s, served again {took:.1f} s after it was back"


def settled_of(ring, base, which):
    class Some:
        nodes = [ring.nodes[i] for i in which]

    return settled(Some, [base[i] for i in which], seconds=8)


@needs("hosts")
def test_a_killed_worker(lab):
    with lab.ring(3, lab.tiny(), lan=True) as ring:
        return lose_and_come_back(lab, ring, ring.nodes[1].kill, lambda: ring.start_node(1), restarts=1)


@needs("hosts")
def test_a_stopped_worker(lab):
    """SIGSTOP for long; after SIGCONT its late answers change nothing"""
    with lab.ring(3, lab.tiny(), lan=True) as ring:
        return lose_and_come_back(lab, ring, lambda: ring.nodes[2].send(signal.SIGSTOP),
                                  lambda: ring.nodes[2].send(signal.SIGCONT))


@needs("hosts")
def test_a_pulled_cable(lab):
    with lab.ring(3, lab.tiny(), lan=True) as ring:
        return lose_and_come_back(lab, ring, lambda: ring.net.cut(1), lambda: ring.net.plug(1))


@needs("hosts", "drop")
def test_one_way_silence(lab):
    """packets from the head to a worker are lost, those back are not; then the other way round"""
    said = []
    for i, j in ((0, 1), (1, 0)):
        with lab.ring(2, lab.tiny(), lan=True) as ring:
            said.append(lose_and_come_back(lab, ring, lambda: ring.net.drop(i, j),
                                           lambda: ring.net.pass_all(i)))
    return "; ".join(said)


@needs("hosts", "drop")
def test_two_workers_that_lose_each_other(lab):
    """the head still sees both"""
    with lab.ring(3, lab.tiny(), lan=True) as ring:
        return lose_and_come_back(lab, ring, lambda: ring.net.drop(1, 2), lambda: ring.net.pass_all(1))


@needs("hosts")
def test_a_short_stop_is_only_a_pause(lab):
    """a worker that stands still for 2 s: the answer is whole and right"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Lost", **LONG)
    with lab.ring(2, tiny, lan=True) as ring:
        ring.start()

        def pause():
            ring.nodes[1].send(signal.SIGSTOP)
            threading.Timer(2, ring.nodes[1].send, (signal.SIGCONT,)).start()

        reply, _ = begun(ring, ring.head, want, pause)
        reply.check_whole(want)


@needs("hosts")
def test_a_worker_killed_under_a_forwarded_stream(lab):
    """the client is at another worker, at the killed one, and at none: each request ends once"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Lost", **LONG)
    with lab.ring(3, tiny, lan=True) as ring:
        ring.start(*AT_ONCE)
        reply, seconds = begun(ring, ring.nodes[2], want, ring.nodes[1].kill)
        check(reply.error == "node_lost" and seconds <= NOTICE, reply, seconds)


@needs("hosts")
def test_several_streams_and_a_killed_worker(lab):
    """eight streams, some not yet begun: each is a prefix and the error"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Lost", **LONG)
    with lab.ring(2, tiny, lan=True) as ring:
        ring.start(*AT_ONCE, "--parallel", 4)
        replies = [None] * 8

        def ask(i):
            replies[i] = ring.head.ask(ring.chat("Lost", stream=i % 4 != 3, **LONG))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        time.sleep(0.5)
        killed = time.monotonic()
        ring.nodes[1].kill()
        for t in threads:
            t.join()
        for reply in replies:
            reply.check_prefix(want)
            check(reply.error == "node_lost", reply)
            check(reply.ended - killed <= NOTICE, "ended late:", reply.ended - killed, reply)


@needs("hosts")
def test_a_killed_head(lab):
    """workers let go of everything within 5 s, name the head in a 503, and serve the next one"""
    tiny = lab.tiny()
    short = lab.right(tiny, "Short", **SHORT)
    with lab.ring(3, tiny, lan=True) as ring:
        ring.start()
        workers = ring.nodes[1:]
        check(all(n.maps(tiny) for n in workers), "a worker maps nothing", [n.maps(tiny) for n in workers])
        asked = []
        t = threading.Thread(target=lambda: asked.append(
            workers[0].ask(ring.chat("Lost", stream=True, **LONG))))
        t.start()
        time.sleep(0.4)
        killed = time.monotonic()
        ring.head.kill()
        freed = until(lambda: not any(n.maps(tiny) for n in workers), NOTICE, "a worker holds on to the model")
        t.join()
        check(asked[0].error == "node_lost" and asked[0].ended - killed <= NOTICE, asked[0])
        asked[0].check_prefix(lab.right(tiny, "Lost", **LONG))
        reply = workers[1].ask(ring.chat("Short", **SHORT))
        check(reply.status == 503 and reply.error == "node_lost" and b"head" in reply.body, reply)
        check(reply.seconds <= 6, reply)
        ring.start_node(0)
        back = until(lambda: all(n.health()[0] == 200 for n in ring.nodes), BACK, ring.logs)
        for node in ring.nodes:
            node.ask(ring.chat("Short", **SHORT)).check_whole(short)
        return f"freed after {freed:.1f} s, served {back:.1f} s after the head's start"


@needs("hosts")
def test_a_worker_killed_while_it_loads(lab):
    """in turn at several moments after its start; the ring forms in the end"""
    tiny = lab.tiny()
    short = lab.right(tiny, "Short", **SHORT)
    with lab.ring(2, tiny, lan=True) as ring:
        ring.start_node(0)
        for wait in (0.02, 0.1, 0.2, 0.4, 0.8):
            ring.start_node(1)
            time.sleep(wait)
            ring.nodes[1].kill()
        ring.start_node(1)
        until(lambda: all(n.health()[0] == 200 for n in ring.nodes), BACK, ring.logs)
        ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)


@needs("hosts", "drop")
def test_a_bad_cable(lab):
    """5 % of packets lost both ways, then 10 Mbit/s: the same bytes, only later"""
    tiny = lab.tiny()
    fields = {"max_tokens": 60, "logit_bias": NO_END}
    want = lab.right(tiny, "Loss", **fields)
    with lab.ring(2, tiny, lan=True) as ring:
        ring.start()
        for i, j in ((0, 1), (1, 0)):
            ring.net.drop(i, j, 0.05)
        lossy = ring.head.ask(ring.chat("Loss", stream=True, **fields)).check_whole(want)
        for i in range(2):
            ring.net.pass_all(i)
            ring.net.rate(i, 10)
        slow = ring.head.ask(ring.chat("Loss", stream=True, **fields)).check_whole(want)
        return f"{lossy.seconds:.1f} s with loss, {slow.seconds:.1f} s at 10 Mbit/s"


@needs("hosts")
def test_a_worker_told_to_end(lab):
    """SIGTERM mid-stream: the answer is whole, then the worker ends; twice: at once, with the error"""
    tiny = lab.tiny()
    want, short = lab.right(tiny, "Lost", **LONG), lab.right(tiny, "Short", **SHORT)
    said = []
    with lab.ring(2, tiny, lan=True) as ring:
        ring.start(*AT_ONCE)
        for times in (1, 2):
            def end():
                for _ in range(times):
                    ring.nodes[1].send(signal.SIGTERM)
                    time.sleep(0.3)

            reply, seconds = begun(ring, ring.head, want, end)
            check((reply.error is None) == (times == 1), times, reply)
            begin = time.monotonic()
            check(ring.nodes[1].wait_exit(5) == 0, "exit", ring.nodes[1].process.returncode)
            said.append(f"{reply.error or 'whole'} after {seconds:.1f} s, ended {time.monotonic() - begin:.1f} s later")
            ring.start_node(1)
            until(lambda: all(n.health()[0] == 200 for n in ring.nodes), BACK, ring.logs)
            ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)
    return "; ".join(said)


@needs("hosts")
def test_all_nodes_told_to_end(lab):
    """SIGTERM to all of them mid-stream: the answer is whole, all end with exit status 0"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Lost", **LONG)
    with lab.ring(3, tiny, lan=True) as ring:
        ring.start()

        def end():
            for node in reversed(ring.nodes):
                node.send(signal.SIGTERM)

        reply, seconds = begun(ring, ring.nodes[1], want, end)
        reply.check_whole(want)
        for node in ring.nodes:
            check(node.wait_exit(5) == 0, node.log_path.name, "exit", node.process.returncode)
        return f"whole after {seconds:.1f} s"


@long
@needs("hosts")
def test_workers_killed_again_and_again(lab):
    """each worker twenty times at a random token: a prefix and the error, then the right answer"""
    import random
    rng = random.Random(20261123)
    tiny = lab.tiny()
    want, short = lab.right(tiny, "Lost", **LONG), lab.right(tiny, "Short", **SHORT)
    with lab.ring(3, tiny, lan=True) as ring:
        ring.start(*AT_ONCE)
        for _ in range(20):
            i, at = rng.randint(1, 2), rng.randint(0, 600)
            lost = []

            def once(reply):
                if not lost and len(reply.text) >= at:
                    lost.append(time.monotonic())
                    ring.nodes[i].kill()

            reply = ring.nodes[0].ask(ring.chat("Lost", stream=True, **LONG), on_text=once)
            if not lost:
                raise Failure(f"token {at} never came: {reply}")
            reply.check_prefix(want)
            check(reply.error == "node_lost" and reply.ended - lost[0] <= NOTICE, at, reply)
            ring.start_node(i)
            until(lambda: all(n.health()[0] == 200 for n in ring.nodes), BACK, ring.logs)
            ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)
