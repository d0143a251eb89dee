"""Abuse of the peer port below the protocol: HTTP/2 frames made by hand, against a worker that runs.

What a test finds is the daemon's, or the packaged gRPC's: docs/THREATS.md has the table.
"""
import contextlib
import itertools
import socket
import ssl
import struct
import sys
import time

import tls
from harness import DEMO, MIB, check, until
from marks import needs

sys.path.append("/usr/lib/python3/dist-packages")  # Debian's python3-h2, for a Python beside Debian's
try:
    import hpack
    from hyperframe.frame import (ContinuationFrame, DataFrame, HeadersFrame, PingFrame, RstStreamFrame,
                                  SettingsFrame, WindowUpdateFrame)
    HERE = True
except ImportError:
    HERE = False
sys.path.pop()

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CONTROL = [(":method", "POST"), (":scheme", "http"), (":path", "/renga.v1.Peer/Control"),
           (":authority", "renga"), ("content-type", "application/grpc"), ("te", "trailers")]
CHECK = [(k, "/grpc.health.v1.Health/Check" if k == ":path" else v) for k, v in CONTROL]


class Wire:
    """A connection that says what it is told to, and reads when it is asked to."""

    def __init__(self, ring, context=None, preface=True):
        host = ring.net.hosts[1]
        self.sock = ring.net.hosts[0].connect(host.address, host.port, 5)
        if context:
            self.sock = context.wrap_socket(self.sock, server_hostname="w1")
        self.encoder = hpack.Encoder()
        if preface:
            self.send(PREFACE, SettingsFrame(0))

    def send(self, *parts):
        self.sock.sendall(b"".join(p if isinstance(p, bytes) else p.serialize() for p in parts))

    def headers(self, stream, fields, end=False):
        flags = ["END_HEADERS"] + (["END_STREAM"] if end else [])
        return HeadersFrame(stream, self.encoder.encode(fields), flags=flags)

    def read(self, seconds):
        """-> what comes until the connection ends or this time is over; whether it ended"""
        got, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                part = self.sock.recv(65536)
            except (TimeoutError, socket.timeout):
                break
            except OSError:
                return got, True
            if not part:
                return got, True
            got += part
        return got, False

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.close()


def healthy(ring, seconds=1):
    """A good client is answered within that time."""
    w = Wire(ring)
    try:
        w.send(w.headers(1, CHECK), DataFrame(1, b"\0" + struct.pack(">I", 0), flags=["END_STREAM"]))
        began = time.monotonic()
        got = b""
        while b"\x08\x01" not in got and b"\x08\x02" not in got and time.monotonic() - began < 3 * seconds:
            got += w.read(0.1)[0]
        took = time.monotonic() - began
    finally:
        w.close()
    check(b"\x08\x01" in got or b"\x08\x02" in got, "no answer to a health check:", got[:200])
    check(took < seconds, "a health check took", took, "s")


@contextlib.contextmanager
def attacked(lab, grow_mib=64):
    """A worker that must live through it, answer, and not keep more memory than that."""
    with lab.ring(2, DEMO) as ring:
        ring.start_node(1)
        worker = ring.nodes[1]
        worker.wait_log("listening for peers")
        healthy(ring)
        before = worker.holds()
        yield ring, worker
        check(worker.process.poll() is None, "the worker ended with", worker.process.returncode,
              worker.log()[-1500:])
        healthy(ring)
        grown = (worker.holds()[2] - before[2]) / MIB
        check(grown < grow_mib, "it holds", grown, "MiB more")
        check(worker.stop() == 0, "exit", worker.process.returncode)


def flood(w, parts):
    """Sends until the other side ends the connection; -> what was sent"""
    n = 0
    for part in parts:
        try:
            w.send(part)
        except OSError:
            break
        n += 1
    return n


@needs("h2")
def test_garbage(lab):
    """no HTTP/2: random bytes, HTTP/1.1, a TLS greeting, half a preface and silence"""
    with attacked(lab) as (ring, _):
        quiet = Wire(ring, preface=False)
        quiet.send(PREFACE[:10])
        for text in (b"\0" * 4096, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc",
                     PREFACE + b"\xff" * 4096):
            w = Wire(ring, preface=False)
            w.send(text)
            w.read(0.3)
            w.close()
        quiet.close()


@needs("h2")
def test_rapid_reset(lab):
    """four times 10 000 streams that are reset as soon as they are opened (CVE-2023-44487)"""
    # The memory of one is used again by the next, or goes back: as in test_many_streams, and for its reason.
    with attacked(lab, grow_mib=320) as (ring, worker):
        before, held = worker.holds()[2], []
        began = time.monotonic()
        for _ in range(4):
            w = Wire(ring)
            n = flood(w, (w.headers(1 + 2 * i, CONTROL).serialize()
                          + RstStreamFrame(1 + 2 * i, 8).serialize() for i in range(10000)))
            healthy(ring, 3)
            w.close()
            held.append((worker.holds()[2] - before) / MIB)
        return (f"4 x {n} streams in {time.monotonic() - began:.1f} s, held after each: "
                + ", ".join(f"{x:.0f}" for x in held) + " MiB")


@needs("h2")
def test_many_streams(lab):
    """four times 10 000 streams at once on one connection: 64 are allowed to who acknowledged the settings;
    who never does so opens them all, and the memory goes back to the system within a minute (--long)"""
    # A stream costs some 22 KiB while it is there, and how many of the 10 000 are there at once is a race
    # between their coming and their refusal: 30 to 220 MiB.  If each attack left that, four would be over
    # the limit here.
    with attacked(lab, grow_mib=320) as (ring, worker):
        before, held = worker.holds()[2], []
        for _ in range(4):
            w = Wire(ring)
            n = flood(w, (w.headers(1 + 2 * i, CONTROL) for i in range(10000)))
            healthy(ring, 3)  # behind 10 000 streams that came first
            w.close()
            held.append((worker.holds()[2] - before) / MIB)
        w = Wire(ring)
        w.read(0.3)
        w.send(SettingsFrame(0, flags=["ACK"]))
        few = flood(w, (w.headers(1 + 2 * i, CONTROL) for i in range(100000)))
        check(w.read(2)[1], "64 streams were allowed,", few, "sent, and the connection lives")
        w.close()
        said = f"{n} were sent, held after each: " + ", ".join(f"{x:.0f}" for x in held) + " MiB"
        if lab.long:
            took = until(lambda: worker.holds()[2] - before < 8 * MIB, 75, lambda: worker.holds()[2] - before)
            said += f", less than 8 after {took:.0f} s"
        return said


@needs("h2")
def test_many_connections(lab):
    """300 connections with a link each, kept open; the links over the limit are refused"""
    with attacked(lab) as (ring, worker):
        wires = []
        for _ in range(300):
            w = Wire(ring)
            w.send(w.headers(1, CONTROL))
            wires.append(w)
        healthy(ring)
        for w in wires:
            w.close()


@needs("h2")
def test_headers_over_the_limit_with_a_wrong_value(lab):
    """`te: x`, `:scheme: x` and their like with headers over the limit (CVE-2023-1428)"""
    wrong = (("te", "x"), (":scheme", "x"), ("grpclb_client_stats", "x"), ("grpc-timeout", "x"),
             ("grpc-encoding", "x"), ("grpc-accept-encoding", "x"), ("content-type", "x"))
    fills = ([("x-fill", "a" * 9000)], [(f"x-fill-{i}", "a" * 1000) for i in range(10)])
    with attacked(lab) as (ring, _):
        n = 0
        for (key, value), fill, indexed in itertools.product(wrong, fills, (True, False)):
            for before in (True, False):
                fields = [(k, v) for k, v in CONTROL if k != key]
                at = 0 if before or key.startswith(":") else len(fields)
                fields.insert(at, (key, value))
                fields += fill
                if not indexed:
                    fields = [hpack.NeverIndexedHeaderTuple(k, v) for k, v in fields]
                w = Wire(ring)
                with contextlib.suppress(OSError):
                    w.send(w.headers(1, fields))
                    w.read(0.05)
                w.close()
                n += 1
        return f"{n} variants"


@needs("h2")
def test_long_varint(lab):
    """an HPACK number of a million bytes (CVE-2023-33953)"""
    with attacked(lab) as (ring, _):
        w = Wire(ring)
        # A literal whose name's length never ends.
        w.send(HeadersFrame(1, b"\0\x7f" + b"\x80" * 16000))
        n = flood(w, (ContinuationFrame(1, b"\x80" * 16000) for _ in range(64)))
        w.read(0.5)
        w.close()
        return f"{n * 16000} bytes were taken"


@needs("h2")
def test_endless_headers(lab):
    """8 MiB of header frames that never end; gRPC keeps them until the connection ends"""
    with attacked(lab) as (ring, _):
        w = Wire(ring)
        w.send(HeadersFrame(1, w.encoder.encode(CONTROL)))
        piece = w.encoder.encode([("x-fill", "a" * 8000)], huffman=False)
        n = flood(w, (ContinuationFrame(1, piece) for _ in range(8 * MIB // len(piece))))
        w.read(0.5)
        w.close()
        return f"{n * len(piece) >> 20} MiB were taken"


@needs("h2")
def test_messages_of_four_gigabytes(lab):
    """on 64 streams their length is said, and their bytes come as long as they are taken"""
    with attacked(lab, grow_mib=700) as (ring, worker):
        w = Wire(ring)
        w.send(WindowUpdateFrame(0, window_increment=1 << 30))
        window = dict.fromkeys(range(1, 128, 2), 65535)
        for stream in window:
            w.send(w.headers(stream, CONTROL), DataFrame(stream, b"\0\xff\xff\xff\xff"))
            window[stream] -= 5
        window[0] = 65535 - 5 * 64
        sent, rest, peak = 0, b"", 0
        end = time.monotonic() + 8
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                ready = [s for s in window if s and min(window[s], window[0]) >= 16384]
                for stream in ready:
                    w.send(DataFrame(stream, b"x" * 16384))
                    window[stream] -= 16384
                    window[0] -= 16384
                    sent += 16384
                    if window[0] < 16384:
                        break
                got, ended = w.read(0.02 if ready else 0.3)
                rest = take_windows(window, rest + got)
                peak = max(peak, worker.holds()[2])
                if ended or len(window) == 1:
                    break
        w.close()
        return f"{sent >> 20} MiB were taken, at most {peak >> 20} MiB held"


def take_windows(window, data):
    """Adds what these frames open; streams that they end are taken out.  -> the rest of the bytes"""
    while len(data) >= 9:
        n, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
        stream = int.from_bytes(data[5:9], "big")
        if len(data) < 9 + n:
            break
        if kind == 8 and stream in window:
            window[stream] += int.from_bytes(data[9:13], "big")
        if stream and (kind == 3 or kind == 1 and flags & 1):
            window.pop(stream, None)
        data = data[9 + n:]
    return data


@needs("h2")
def test_a_compressed_message(lab):
    """the flag of compression ends the link: no bombs"""
    with attacked(lab) as (ring, _):
        w = Wire(ring)
        w.send(w.headers(1, [*CONTROL, ("grpc-encoding", "gzip")]))
        w.send(DataFrame(1, b"\1" + struct.pack(">I", 10) + b"0123456789"))
        got, _ = w.read(1)
        w.close()
        check(got, "no answer")


@needs("h2")
def test_ping_and_settings_floods(lab):
    """100 000 of each, never reading the answers"""
    with attacked(lab) as (ring, _):
        said = []
        for frame in (PingFrame(0, b"12345678"), SettingsFrame(0), WindowUpdateFrame(0, window_increment=1)):
            w = Wire(ring)
            w.sock.settimeout(5)
            n = flood(w, (frame.serialize() * 100 for _ in range(1000)))
            said.append(f"{n * 100} {type(frame).__name__}")
            healthy(ring)
            w.close()
        return ", ".join(said)


@needs("h2", "openssl")
def test_a_certificate_without_names(lab):
    """of the cluster's authority: it may be nobody, so it is refused, and the log says so"""
    with lab.ring(2, DEMO) as ring:
        out = tls.make(lab, ring)
        tls.start(ring, tls.bundles(ring, out), only=[1])
        worker = ring.nodes[1]
        worker.wait_log("listening for peers")
        for name, answer in (("head", b"renga"), ("", b"refused")):
            w = Wire(ring, tls.client(tls.signed(ring, out, f"named-{name}", name, -86400, 86400)))
            w.send(w.headers(1, CONTROL))
            got, _ = w.read(0.5)
            w.close()
            # The header that opens a link, or the refusal, as HPACK writes them.
            check(huffman(answer) in got or answer in got, name, got)
        worker.wait_log("its certificate is of ''", 2)
        check(worker.stop() == 0, "exit", worker.process.returncode)


def huffman(text):
    return hpack.Encoder().huffman_coder.encode(text)


@needs("h2")
def test_without_a_certificate_nothing_is_reached(lab):
    """behind mutual TLS none of this comes to HTTP/2: the handshake ends it"""
    with lab.ring(2, DEMO) as ring:
        tls.start(ring, tls.bundles(ring, tls.make(lab, ring)), only=[1])
        worker = ring.nodes[1]
        worker.wait_log("listening for peers")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        for maximum in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.maximum_version = maximum
            with contextlib.suppress(OSError):
                w = Wire(ring, context)
                fields = [(k, "x" if k == "te" else v) for k, v in CONTROL] + [("x-fill", "a" * 9000)]
                w.send(w.headers(1, fields))
                got, ended = w.read(2)
                check(ended and b"grpc" not in got, "reached:", got[:100])
                w.close()
        check(worker.process.poll() is None, worker.log()[-500:])
        worker.wait_log("certificate|handshake", 2)
        check(worker.stop() == 0, "exit", worker.process.returncode)
