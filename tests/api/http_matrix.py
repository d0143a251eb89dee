"""Requests that break HTTP's rules, and some that look as if they did (http_cases.txt)."""
import json
import re
import socket
import threading
import time
from pathlib import Path

from client import check, read_to_end

CASES = Path(__file__).parent / "http_cases.txt"
BEHIND = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def cases():
    lines = [l for l in CASES.read_text().split("\n") if l and not l.startswith("#")]
    for title, text in zip(lines[::2], lines[1::2]):
        status, name = title.split(" ", 1)
        yield status, name, text.encode().decode("unicode_escape").encode("latin-1")


def statuses(data):
    return [s.decode() for s in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def expect(status, name, how, got):
    if status == "ok":
        check(len(got) == 2 and got[1] == "200" and got[0] in ("200", "404"), name, how, got)
    else:
        check(got == [status], name, how, got)


def test_each_case_is_answered_once(server):
    n = 0
    for status, name, data in cases():
        # HTTP/1.0 closes after its answer, so nothing behind it is looked at.
        if b"HTTP/1.0" in data and status == "ok":
            continue
        answer = server.raw(data + BEHIND)
        expect(status, name, "at once", statuses(answer))
        if status != "ok":
            head, _, body = answer.partition(b"\r\n\r\n")
            check(b"Connection: close" in head, name, head)
            check(json.loads(body)["error"]["message"], name, body)
        n += 1
    check(n >= 100, n, "cases")


class Batch:
    """Many connections at once; what is sent first on each is read before the rest is sent."""

    SIZE, PER_ADDRESS = 400, 100  # the server takes 256 of an address

    def __init__(self, server):
        self.port = server.port
        self.beat = server.connect()

    def wait_until_read(self):
        # The server is one loop: answers on another connection, asked for after the first pieces
        # were sent, come after these were read.
        for _ in range(3):
            self.beat.request("GET", "/health")
            self.beat.getresponse().read()

    def open(self, i):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=20,
                                     source_address=(f"127.0.0.{2 + i // self.PER_ADDRESS}", 0))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def answers(self, pieces):
        """pieces: up to SIZE pairs (first, second) -> everything each connection received"""
        self.wait_until_read()  # the end of the connections before these
        sockets = [self.open(i) for i in range(len(pieces))]
        for s, (first, _) in zip(sockets, pieces):
            s.sendall(first)
        self.wait_until_read()
        for s, (_, second) in zip(sockets, pieces):
            try:
                s.sendall(second)
            except OSError:  # refused already, and closed
                pass
        got = [read_to_end(s) for s in sockets]
        for s in sockets:
            s.close()
        return got


def every_cut():
    for status, name, data in cases():
        only_one = b"HTTP/1.0" in data and status == "ok"
        for cut in range(1, len(data)):
            yield status, name, cut, only_one, data[:cut], data[cut:] + BEHIND


def test_each_case_is_the_same_cut_at_every_byte(server):
    batch, all_ = Batch(server), list(every_cut())
    for at in range(0, len(all_), batch.SIZE):
        part = all_[at:at + batch.SIZE]
        for case, answer in zip(part, batch.answers([c[4:6] for c in part])):
            status, name, cut, only_one = case[:4]
            got = statuses(answer)
            if only_one:
                check(got in (["200"], ["404"]), name, "cut at", cut, got)
            else:
                expect(status, name, f"cut at {cut}", got)
            if status != "ok":
                check(b"\r\nConnection: close\r\n" in answer, name, "cut at", cut, answer[:300])
    return f"{len(all_)} connections"


def test_limits_of_url_and_headers(server):
    def get(target="/health", headers=b""):
        data = server.raw(b"GET " + target.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                          b"Connection: close\r\n" + headers + b"\r\n")
        return statuses(data)

    check(get("/health?" + "a" * 2040) == ["200"], "URL of 2048 bytes")
    check(get("/health?" + "a" * 2041) == ["414"], "URL of 2049 bytes")
    # The field lines with their line ends, and the empty line.
    fixed = len(b"Host: localhost\r\nConnection: close\r\nX: \r\n\r\n")
    check(get(headers=b"X: " + b"a" * (16384 - fixed) + b"\r\n") == ["200"], "headers of 16 KiB")
    check(get(headers=b"X: " + b"a" * (16385 - fixed) + b"\r\n") == ["431"], "one byte more")
    check(get(headers=b"X: b\r\n" * 98) == ["200"], "100 headers")
    check(get(headers=b"X: b\r\n" * 99) == ["431"], "101 headers")
    check(get(headers=b"X" * 20000) == ["431"], "a name of 20000 bytes")


def test_limits_of_the_body(server):
    def post(size, sent):
        data = server.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: "
                          b"close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                          % size + b" " * sent, wait=20)
        return statuses(data)

    check(post(8 << 20, 8 << 20) == ["400"], "8 MiB of nothing is bad JSON")
    check(post((8 << 20) + 1, 0) == ["413"], "8 MiB + 1 is refused before it came")
    check(post(1 << 30, 10) == ["413"], "1 GiB")


def test_a_chunked_body_over_the_limit(server):
    head = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            b"application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
    full = (b"100000\r\n" + b" " * (1 << 20) + b"\r\n") * 8
    for last, status in ((b"0\r\n\r\n", "400"), (b"1\r\n", "413"), (b"100000\r\n", "413")):
        data = server.raw(head + full, last, wait=20)
        check(statuses(data) == [status], "8 MiB and", last, statuses(data))
    check(statuses(server.raw(head + b"800001\r\n")) == ["413"], "one chunk over the limit")


def test_100_continue_only_for_a_body_that_may_come(server):
    def first(method="POST", path="/v1/chat/completions", kind="application/json",
              length=b"Content-Length: 2", body=b"{}"):
        head = (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Expect: 100-continue\r\nContent-Type: {kind}\r\n").encode()
        return statuses(server.raw(head + length + b"\r\n\r\n", body, pause=0.05))

    check(first() == ["100", "400"], first())
    chunks = {"length": b"Transfer-Encoding: chunked", "body": b"2\r\n{}\r\n0\r\n\r\n"}
    check(first(**chunks) == ["100", "400"], "chunks", first(**chunks))
    for status, how in (("415", {"kind": "text/plain"}), ("404", {"path": "/nothing"}),
                        ("405", {"method": "PUT"}), ("413", {"length": b"Content-Length: 9999999"}),
                        ("400", {"length": b"Content-Length: 2\r\nContent-Length: 2"})):
        check(first(**how) == [status], how, first(**how))
    # Without a body there is nothing to wait for.
    check(first(length=b"Content-Length: 0", body=b"") == ["400"], "no body")


def test_wrong_methods_say_what_is_allowed(server):
    allowed = {"/v1/chat/completions": "POST", "/v1/models": "GET, HEAD",
               f"/v1/models/{server.model}": "GET, HEAD", "/health": "GET, HEAD"}
    for path, allow in allowed.items():
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            if method in allow:
                continue
            a = server.request(method, path, headers={"Content-Type": "application/json"})
            check(a.status == 405 and a.headers["Allow"] == allow, method, path, a.status)
            check(method == "HEAD" or a.code == "unsupported", a.body)
            check("Access-Control-Allow-Origin" not in a.headers, "CORS headers")
    for path in ("/", "/v1", "/v1/", "/v1/chat/completions/", "//v1/models", "/v1/models/",
                 "/V1/models", "/v1/chat%2Fcompletions", "/health/", "/../health", "/health%00"):
        check(server.request("GET", path).status == 404, path)


def test_many_requests_sent_ahead(server):
    data = server.raw(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200 + BEHIND)
    check(statuses(data) == ["200"] * 201, len(statuses(data)))


SLOW_HEAD = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
             b"application/json\r\n")


def drip(server, begin, piece, every_s):
    """Sends begin, then piece again and again -> what came back, and after how long."""
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
        s.sendall(begin)
        s.settimeout(every_s)
        data = b""
        while time.monotonic() - start < 20:
            try:
                got = s.recv(65536)
            except socket.timeout:
                s.sendall(piece)
                continue
            data += got
            if not got:
                break
        return data, time.monotonic() - start


def test_slow_requests_are_cut(server):
    sized = SLOW_HEAD + b"Content-Length: 100000\r\n\r\n"
    chunked = SLOW_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    # name: what is sent, a piece, seconds between two, and when the answer is due
    slow = {
        "headers that stop": (SLOW_HEAD[:30], b"", 20, 10),
        "headers that drip": (SLOW_HEAD, b"X: y\r\n", 1, 10),
        "one header that drips": (SLOW_HEAD + b"X: ", b"y", 0.5, 10),
        "nothing": (b"", b"", 20, 10),
        "a body that stops": (sized + b" " * 60000, b"", 20, 10),
        "a body that drips": (sized, b" " * 100, 1, 5),
        "chunks that drip": (chunked, b"1\r\n \r\n", 0.2, 5),
        "no last chunk": (chunked + b"8000\r\n" + b" " * 0x8000 + b"\r\n", b"", 20, 10),
    }
    got = {}

    def one(name):
        got[name] = drip(server, *slow[name][:3])

    threads = [threading.Thread(target=one, args=(name,)) for name in slow]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for name, (*_, due_s) in slow.items():
        data, took_s = got[name]
        check(statuses(data) == ([] if name == "nothing" else ["408"]), name, data[:200])
        check(due_s - 1 <= took_s <= due_s + 2.5, f"{name}: after {took_s:.1f} s")
