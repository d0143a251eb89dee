"""Two nodes answer as one: through both API ports, streamed or not, alone or at the same time."""
import json
import signal
import socket
import threading
import time

from harness import DEMO, NO_END, Reply, check, until

QUESTION = "What is the capital of France?"
COUNT = "Count from 3 to 9."
LONG = {"max_tokens": 1500, "logit_bias": NO_END}


def merged(data):
    """A stream as one event: what differs from request to request is gone, and so is where the text was
    cut, which is a matter of time."""
    check(data[-1] == "[DONE]", data[-1:])
    kept, text = [], ""
    for event in map(json.loads, data[:-1]):
        for choice in event["choices"]:
            text += choice["delta"].pop("content", None) or ""
        if not all(c["delta"] == {} and c["finish_reason"] is None for c in event["choices"]):
            kept.append({k: v for k, v in event.items() if k not in ("id", "created")})
    return text, kept


def test_two_nodes_answer_as_one(lab):
    """whole answers, streams and refusals are those of one node, through the head and the worker"""
    with lab.ring(1, DEMO) as alone, lab.ring(2, DEMO) as ring:
        alone.start_node(0)
        alone.wait()
        ring.start()
        for text in (QUESTION, COUNT):
            want = lab.right(DEMO, text)
            events = alone.head.ask(alone.chat(text, stream=True))
            for node in ring.nodes:
                node.ask(ring.chat(text)).check_whole(want)
                got = node.ask(ring.chat(text, stream=True)).check_whole(want)
                check(merged(got.data) == merged(events.data), node.log_path.name, merged(got.data),
                      merged(events.data))
        for method, path, body in (("GET", "/v1/models", None), ("GET", "/nothing", None),
                                   ("DELETE", "/v1/models", None),
                                   ("POST", "/v1/chat/completions", b"{"),
                                   ("POST", "/v1/chat/completions", b'{"model":"x","unknown":1}')):
            want = alone.head.request(method, path, body)
            for node in ring.nodes:
                got = node.request(method, path, body)
                check(got.status == want.status, method, path, got.status, want.status)
                check(without_time(got.body) == without_time(want.body), got.body, want.body)
        ring.stop()


def without_time(body):
    if not body:
        return body
    parsed = json.loads(body)
    for item in parsed.get("data", []):
        item.pop("created", None)
    return parsed


def test_both_nodes_work(lab):
    """the worker computes layers of its own, by its own word and by the head's"""
    with lab.ring(2, DEMO) as ring:
        ring.start()
        before = [layers_done(ring, i) for i in range(2)]
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))
        until(lambda: all(layers_done(ring, i) > b for i, b in enumerate(before)), 3,
              lambda: ring.head.health())
        maps = [n.maps(DEMO) for n in ring.nodes]
        check(all(maps), "a node maps nothing of the model", maps)


def layers_done(ring, i):
    nodes = {n["id"]: n for n in ring.head.health()[1]["nodes"]}
    return nodes[ring.ids[i]]["layers_done"]


def test_sixteen_at_once_answer_as_alone(lab):
    """through both ports, streamed; afterwards descriptors, threads and memory are as before"""
    tiny = lab.tiny()
    texts = [f"Number {i}" for i in range(4)]
    fields = {"max_tokens": 150, "logit_bias": NO_END}
    want = [lab.right(tiny, t, **fields) for t in texts]
    with lab.ring(2, tiny) as ring:
        ring.start("--parallel", 8)
        at_once(ring, texts, want, fields)  # libraries start their threads with the first work
        before = [n.holds() for n in ring.nodes]
        for _ in range(3):
            at_once(ring, texts, want, fields)
        settled(ring, before)
        ring.stop()


def at_once(ring, texts, want, fields):
    replies = [None] * 16

    def ask(i):
        replies[i] = ring.nodes[i % 2].ask(ring.chat(texts[i // 4], stream=True, **fields))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i, reply in enumerate(replies):
        reply.check_whole(want[i // 4])


def settled(ring, before, seconds=5, memory=32 << 20):
    """Descriptors, threads and memory are back where they were.  gRPC's pools may have grown by a few."""
    def back():
        now = [n.holds() for n in ring.nodes]
        return all(a[0] <= b[0] + 2 and a[1] <= b[1] + 4 and a[2] <= b[2] + memory
                   for a, b in zip(now, before))

    return until(back, seconds, lambda: f"before {before}, now {[n.holds() for n in ring.nodes]}")


def test_a_client_that_leaves_a_forwarded_stream(lab):
    """ends the request at the head too"""
    tiny = lab.tiny()
    with lab.ring(2, tiny) as ring:
        ring.start()
        want = lab.right(tiny, "Stay", max_tokens=20, logit_bias=NO_END)
        ring.nodes[1].ask(ring.chat("Stay", max_tokens=20, logit_bias=NO_END)).check_whole(want)
        before = [n.holds() for n in ring.nodes]
        for _ in range(5):
            c = ring.nodes[1].connection()
            c.request("POST", "/v1/chat/completions", json.dumps(
                ring.chat("Go", stream=True, **LONG)), {"Content-Type": "application/json"})
            sock = c.sock  # the response takes it over
            r = c.getresponse()
            for _ in range(6):
                r.readline()
            sock.shutdown(socket.SHUT_RDWR)
            r.close()
        settled(ring, before)
        until(lambda: idle(ring), 3, "a node still computes for a client that left")
        ring.nodes[1].ask(ring.chat("Stay", max_tokens=20, logit_bias=NO_END)).check_whole(want)


def idle(ring):
    first = [layers_done(ring, i) for i in range(ring.n)]
    time.sleep(0.7)  # more than a heartbeat
    return first == [layers_done(ring, i) for i in range(ring.n)]


def test_a_slow_reader_of_a_forwarded_stream(lab):
    """gets the same bytes, late, and holds up nobody"""
    tiny = lab.tiny()
    fields = {"max_tokens": 300, "logit_bias": NO_END}
    want = lab.right(tiny, "Slow", **fields)
    with lab.ring(2, tiny) as ring:
        ring.start()
        slow = []

        def dawdle(reply):
            if len(reply.data) % 20 == 0:
                time.sleep(0.05)

        t = threading.Thread(target=lambda: slow.append(
            ring.nodes[1].ask(ring.chat("Slow", stream=True, **fields), on_text=dawdle)))
        t.start()
        ring.head.ask(ring.chat("Slow", **fields)).check_whole(want)
        t.join()
        slow[0].check_whole(want)


def test_sigterm_lets_the_answers_finish(lab):
    """of the head: a stream through the worker is whole, both end with exit status 0"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Good-bye", **LONG)
    with lab.ring(2, tiny) as ring:
        ring.start()
        got = []

        def once(reply):
            if not got and reply.text:
                got.append(1)
                ring.head.send(signal.SIGTERM)

        reply = ring.nodes[1].ask(ring.chat("Good-bye", stream=True, **LONG), on_text=once)
        check(got, "no text came", reply)
        reply.check_whole(want)
        check(ring.head.wait_exit(10) == 0, "the head ended with", ring.head.process.returncode)
        check(ring.nodes[1].process.poll() is None, "the worker ended with its head")
        check(ring.nodes[1].stop() == 0, "the worker ended with", ring.nodes[1].process.returncode)


def test_a_second_sigterm_ends_at_once(lab):
    tiny = lab.tiny()
    fields = {"max_tokens": 4000, "logit_bias": NO_END}
    with lab.ring(2, tiny) as ring:
        ring.start()
        sent = []

        def twice(reply):
            if reply.text and not sent:
                sent.append(time.monotonic())
                ring.head.send(signal.SIGTERM)
                time.sleep(0.1)
                ring.head.send(signal.SIGTERM)

        reply = ring.head.ask(ring.chat("Bye", stream=True, **fields), on_text=twice)
        check(ring.head.wait_exit(3) == 0, "exit status", ring.head.process.returncode)
        check(sent and time.monotonic() - sent[0] < 3, "it took its time", reply)


def test_signals_that_end_nothing(lab):
    """SIGPIPE, and SIGHUP with --log-file, to every node in the midst of a stream: it is whole, and each log goes on in
    a new file"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Signals", **LONG)
    with lab.ring(2, tiny) as ring:
        logs = [ring.dir / f"{id}-own.log" for id in ring.ids]
        for i, log in enumerate(logs):
            ring.start_node(i, "--log-file", log)
        ring.wait()
        moved = []

        def send(reply):
            if not moved and reply.text:
                for node, log in zip(ring.nodes, logs):
                    moved.append(log.rename(log.with_suffix(".0")))
                    node.send(signal.SIGPIPE)
                    node.send(signal.SIGHUP)

        ring.nodes[1].ask(ring.chat("Signals", stream=True, **LONG), on_text=send).check_whole(want)
        until(lambda: all(log.exists() and "answered" in log.read_text() for log in logs), 2, "no new log")
        check(all(n.process.poll() is None for n in ring.nodes), "a node ended")
        ring.stop()


def test_the_oracle_sees(lab):
    """a reply that lies is caught: the checks of this harness on replies made by hand"""
    def reply(lines, status=200):
        r = Reply()
        r.status = status
        for line in lines:
            r.take(line)
        return r

    def event(text=None, finish=None):
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text},
                                                    "finish_reason": finish}]}).encode() + b"\n"

    error, done = b'data: {"error":{"code":"node_lost"}}\n', b"data: [DONE]\n"
    reply([event("ab"), event("c"), event(finish="stop"), done]).check_whole("abc")
    reply([event("ab"), error, done]).check_prefix("abc")
    bad = {"no end": [event("abc")], "no finish": [event("abc"), done],
           "wrong text": [event("abd"), event(finish="stop"), done],
           "too little": [event("ab"), event(finish="stop"), done],
           "not a prefix": [event("b"), error, done], "no [DONE]": [event("ab"), error],
           "two errors": [error, error, done], "two [DONE]": [error, done, done],
           "both ends": [event("abc"), event(finish="stop"), error, done],
           "text after the end": [event("abc"), event(finish="stop"), done, event("")]}
    for what, lines in bad.items():
        try:
            reply(lines).check_prefix("abc")
        except Exception:
            continue
        check(False, "not seen:", what)
