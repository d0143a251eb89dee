"""Requests that break HTTP's rules, and some that look as if they did (http_cases.txt)."""
import json
import re
import time
from pathlib import Path

from client import check

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


def test_each_case_is_the_same_in_two_pieces(server):
    for status, name, data in cases():
        if b"HTTP/1.0" in data and status == "ok":
            continue
        cut = len(data) // 2
        expect(status, name, "in two pieces",
               statuses(server.raw(data[:cut], data[cut:] + BEHIND)))


def test_limits_of_url_and_headers(server):
    def get(target="/health", headers=b""):
        data = server.raw(b"GET " + target.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                          b"Connection: close\r\n" + headers + b"\r\n")
        return statuses(data)

    check(get("/health?" + "a" * 2040) == ["200"], "URL of 2048 bytes")
    check(get("/health?" + "a" * 2041) == ["414"], "URL of 2049 bytes")
    check(get(headers=b"X: " + b"a" * 16000 + b"\r\n") == ["200"], "headers of 16 kB")
    check(get(headers=b"X: " + b"a" * 16384 + b"\r\n") == ["431"], "headers over 16 KiB")
    check(get(headers=b"X: b\r\n" * 98) == ["200"], "100 headers")
    check(get(headers=b"X: b\r\n" * 99) == ["431"], "101 headers")


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
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    data = server.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                      b"application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 8,
                      chunk, wait=20)
    check(statuses(data) == ["413"], statuses(data))


def test_many_requests_sent_ahead(server):
    data = server.raw(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200 + BEHIND)
    check(statuses(data) == ["200"] * 201, len(statuses(data)))


def test_slow_headers_are_cut(server):
    begin = time.monotonic()
    data = server.raw(b"GET /health HTTP/1.1\r\nHost: localh", wait=15)
    took = time.monotonic() - begin
    check(statuses(data) == ["408"], data[:200])
    check(9 <= took <= 11.5, f"after {took:.1f} s")
