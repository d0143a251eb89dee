"""A peer that is let in and lies: what a node sends in the midst of a stream is changed on its way, as if the node
had sent it so.  What is allowed to come of it: the right answer, or a beginning of it and a typed error."""
import contextlib
import socket
import struct
import threading

from harness import NO_END, check, until
from marks import needs
from survive import BACK, SHORT, Watched, all_serve

import hostile  # has looked for python3-h2

if hostile.HERE:
    import hpack

STEPS = "/renga.v1.Peer/Steps"
TEXT = {"max_tokens": 500, "logit_bias": NO_END}


# ---- protobuf, as much as a lie takes ------------------------------------------------------------


def varint(n):
    out = b""
    while n > 127:
        out += bytes((n & 127 | 128,))
        n >>= 7
    return out + bytes((n,))


def read_varint(data, at):
    n = shift = 0
    while True:
        n |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return n, at


def fields(data):
    """-> [[number, wire type, value]], of which a value may be changed"""
    out, at = [], 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        elif key & 7 == 2:
            n, at = read_varint(data, at)
            value, at = data[at:at + n], at + n
        else:
            n = 8 if key & 7 == 1 else 4
            value, at = data[at:at + n], at + n
        out.append([key >> 3, key & 7, value])
    return out


def packed(parts):
    return b"".join(varint(number << 3 | kind) + (varint(value) if kind == 0 else
                                                  varint(len(value)) + value if kind == 2 else value)
                    for number, kind, value in parts)


class Step:
    """A StepsMessage that holds a Step."""

    def __init__(self, data):
        (number, _, inner), = fields(data)
        self.is_step = number == 2
        self.parts = fields(inner) if self.is_step else None

    def part(self, number):
        return next(p for p in self.parts if p[0] == number)

    def put(self, number, kind, value):
        self.parts = [p for p in self.parts if p[0] != number]
        at = sum(p[0] < number for p in self.parts)
        self.parts.insert(at, [number, kind, value])

    def inside(self, number, field, value):
        """Changes a number in a message of this step."""
        part = self.part(number)
        inner = fields(part[2])
        found = [p for p in inner if p[0] == field]
        if found:
            found[0][2] = value if found[0][1] == 0 else varint(value)
        else:
            inner.append([field, 0, value])
        part[2] = packed(inner)

    def bytes(self):
        return packed([[2, 2, packed(self.parts)]])


# ---- the lies: a step -> the messages that are sent in its place -----------------------------------


def lie(change):
    """One that changes a step."""
    def tell(data):
        step = Step(data)
        change(step)
        return [step.bytes()]
    return tell


def rows_of(value):
    def change(step):
        rows = step.part(15)
        rows[2] = rows[2][:-8] + struct.pack("<f", value) + rows[2][-4:]
    return change


def seq_up(data, by):
    step = Step(data)
    step.part(2)[2] += by
    return step.bytes()


def says_error(step):
    step.put(4, 2, b"forged\r\n2026-11-23T00:00:00Z ERROR x msg=\"a line\"\x1b[31m\" \xe2\x80\xae")
    step.put(5, 0, 7)
    step.parts = [p for p in step.parts if p[0] != 15]


LIES = {
    "a NaN": lie(rows_of(float("nan"))),
    "an infinity": lie(rows_of(float("-inf"))),
    "a row too few": lie(lambda s: s.part(15).__setitem__(2, s.part(15)[2][:-256])),
    "a float too many": lie(lambda s: s.part(15).__setitem__(2, s.part(15)[2] + bytes(4))),
    "more rows than there are": lie(lambda s: s.inside(3, 1, 4000)),
    "a position outside": lie(lambda s: s.inside(3, 2, 1 << 31)),
    "a position of before": lie(lambda s: s.inside(3, 2, 1)),
    "a block outside": lie(lambda s: s.inside(3, 3, 1 << 20)),
    "an epoch that is over": lie(lambda s: s.inside(1, 2, 0)),
    "an epoch to come": lie(lambda s: s.inside(1, 2, 1 << 40)),
    "a step twice": lambda data: [data, data],
    "a step left out": lambda data: [],
    "a flood of steps": lambda data: [seq_up(data, i) for i in range(300)],
    "a flood of the largest": lambda data: [b"\x12\xff\xff\xff\x7f" + bytes(1 << 20)] * 20,
    "no protobuf": lambda data: [b"\xff" * 64],
    "an error with control characters": lie(says_error),
}


# Those of every change; --long has all of them, from both nodes.
DAILY = ("a NaN", "a step twice", "a step left out", "a flood of steps",
         "an error with control characters")


class Liar:
    """A way to a node's peer port on which steps may be changed."""

    def __init__(self, ring, i, j):
        self.target = ring.net.hosts[j]
        self.source = ring.net.hosts[i]
        self.tell, self.told, self.steps = None, 0, 0
        self.port = 7000 + 10 * i + j
        with self.source.inside():
            self.server = socket.create_server((self.source.address, self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.server.accept()
                try:
                    far = self.source.connect(self.target.address, self.target.port, 5)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                threading.Thread(target=self.carry, args=(near, far), daemon=True).start()
                threading.Thread(target=self.change, args=(near, far), daemon=True).start()

    @staticmethod
    def end(*sockets):
        for s in sockets:
            with contextlib.suppress(OSError):
                s.shutdown(2)

    def carry(self, near, far):
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)
        self.end(near, far)

    def change(self, near, far):
        """Frames of HTTP/2; those with a step's data are put together to whole messages first."""
        decoder, steps, waiting = hpack.Decoder(), set(), {}
        with contextlib.suppress(OSError):
            stream = near.makefile("rb")
            far.sendall(stream.read(24))  # the preface
            while len(head := stream.read(9)) == 9:
                n, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                number = int.from_bytes(head[5:9], "big") & 0x7fffffff
                data = stream.read(n)
                if kind == 1:
                    at = 5 if flags & 0x20 else 0
                    if (":path", STEPS) in decoder.decode(data[at:]):
                        steps.add(number)
                if kind != 0 or number not in steps:
                    far.sendall(head + data)
                    continue
                rest = waiting.get(number, b"") + data
                out = b""
                while len(rest) >= 5 and len(rest) >= 5 + int.from_bytes(rest[1:5], "big"):
                    end = 5 + int.from_bytes(rest[1:5], "big")
                    for message in self.said(rest[5:end]):
                        out += b"\0" + struct.pack(">I", len(message)) + message
                    rest = rest[end:]
                waiting[number] = rest
                for i in range(0, max(1, len(out)), 16384):
                    part = out[i:i + 16384]
                    last = flags if i + 16384 >= len(out) else 0
                    far.sendall(struct.pack(">I", len(part))[1:] + bytes((0, last)) + head[5:9] + part)
        self.end(near, far)

    def said(self, message):
        if fields(message)[0][0] != 2:
            return [message]
        self.steps += 1
        tell = self.tell
        if not tell:
            return [message]
        self.told += 1
        if not self.always:
            self.tell = None
        return tell(message)

    def lies(self, tell, always=False):
        self.always, self.told, self.tell = always, 0, tell

    def honest(self):
        self.tell = None


@contextlib.contextmanager
def ring_of_a_liar(lab, *flags):
    """Three nodes; what w1 sends to w2, and what w2 sends to the head, may be changed."""
    with lab.ring(3, lab.tiny()) as ring:
        ways = {1: Liar(ring, 1, 2), 2: Liar(ring, 2, 0)}
        files = [ring.discovery]
        for i, j in ((1, 2), (2, 0)):
            def through(peers, i=i, j=j):
                peers[ring.ids[j]].update(address=ring.net.hosts[i].address, port=ways[i].port)

            files.append(ring.write_discovery(ring.dir / f"liar-{i}.json", through))
        for i in range(3):
            ring.start_node(i, *flags, discovery=files[i])
        ring.wait()
        ring.liars = ways
        try:
            yield ring
        finally:
            for way in ways.values():
                way.server.close()


def told(ring, liar, name, want, always=False):
    """A stream in whose midst the lie is told. -> its reply"""
    stream = Watched(ring, ring.head, stream=True, **TEXT)
    stream.until_text(60)
    liar.lies(LIES[name], always)
    until(lambda: liar.told or stream.reply, 10, "no step is sent")
    reply = stream.end(60)
    liar.honest()
    check(liar.told, "the lie was not told")
    return reply.check_prefix(want)


@needs("h2")
def test_lies_in_a_stream(lab):
    """each lie of the table, once, by a worker to the next one and by the last one to the head: the answer is whole, or
    a beginning and a typed error; the ring serves again; no log has a forged line"""
    tiny, said = lab.tiny(), {}
    want, short = lab.right(tiny, "Lost", **TEXT), lab.right(tiny, "Short", **SHORT)
    with ring_of_a_liar(lab, "--stuck-timeout", 2) as ring:
        ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)
        for n, name in enumerate(LIES if lab.long else DAILY):
            for i in (1, 2) if lab.long else (1 + n % 2,):
                try:
                    reply = told(ring, ring.liars[i], name, want)
                    until(lambda: all_serve(ring), BACK, ring.logs)
                    ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)
                except Exception as e:
                    raise type(e)(f"{name}, from {ring.ids[i]}: {e}") from e
                said.setdefault(reply.error or ("waited" if reply.waits else "whole"), []).append(name)
        check(all(n.process.poll() is None for n in ring.nodes), "a node ended")
        for node in ring.nodes:
            check("\x1b" not in node.log() and "\n2026-11-23T00:00:00Z ERROR x" not in node.log(), "a forged line")
    return "; ".join(f"{how}: {', '.join(names)}" for how, names in said.items())


@needs("h2")
def test_a_peer_that_never_stops_lying(lab):
    """NaN in every step: the request ends with an error that names who sent it, nothing of it is text, and requests go
    on when it is honest"""
    tiny = lab.tiny()
    want, short = lab.right(tiny, "Lost", **TEXT), lab.right(tiny, "Short", **SHORT)
    with ring_of_a_liar(lab) as ring:
        for i in (1, 2):
            reply = told(ring, ring.liars[i], "a NaN", want, always=True)
            check(reply.error == "internal" and f"from node w{i} hold" in reply.data[-2], reply, reply.data[-2:])
            ring.liars[i].lies(LIES["a NaN"], always=True)
            whole = ring.nodes[2].ask(ring.chat("Short", **SHORT)).check_end()
            check(whole.status == 500 and whole.error, whole)
            ring.liars[i].honest()
            ring.nodes[2].ask(ring.chat("Short", **SHORT)).check_whole(short)
        check(ring.head.log().count("the ring serves") == 1, "the ring broke")
