"""Whole connections at random: requests in a row, cut, changed, ended in every way, many at once.

RENGA_FRAMES_SEED repeats a run, RENGA_FRAMES (1500) is the number of connections.
"""
import json
import os
import random
import re
import socket
import struct
import threading
import time

import http_matrix
from client import check, cpu_seconds

THREADS = 12
ALLOWED = {100, 200, 400, 403, 404, 405, 408, 413, 414, 415, 417, 429, 431}
HOST = b"Host: localhost\r\n"


def chat(server, rng):
    body = server.body("Random", max_tokens=rng.choice((1, 2, 30)), stream=rng.random() < 0.5,
                       n=rng.choice((1, 1, 2)))
    if rng.random() < 0.2:
        body["temperature"] = 9
    data = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    if rng.random() < 0.1:
        head += b"Expect: 100-continue\r\n"
    status = 400 if body["temperature"] == 9 else 200
    if rng.random() < 0.6:
        return head + b"Content-Length: %d\r\n\r\n" % len(data) + data, status
    pieces, at = b"", 0
    while at < len(data):
        n = rng.randint(1, len(data))
        pieces += b"%x\r\n%s\r\n" % (len(data[at:at + n]), data[at:at + n])
        at += n
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n", status


def request(server, rng):
    """-> the bytes and the status of a good request"""
    kind = rng.random()
    if kind < 0.4:
        return chat(server, rng)
    path, status = rng.choice(((b"/health", 200), (b"/v1/models", 200), (b"/nothing", 404),
                               (b"/v1/models/other", 404), (b"/v1/chat/completions", 405)))
    length = rng.choice((0, 0, 0, 5, 100000))
    line = b"GET " + path + b" HTTP/1.1\r\n" + HOST
    return line + (b"Content-Length: %d\r\n\r\n" % length if length else b"\r\n") + b"x" * length, \
        status


def change(data, rng, bad):
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            data[at:at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            data[at:at] = rng.choice((b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"0", b"\r\n\r\n"))
        elif kind == 2:
            del data[at:at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = rng.choice(bad)
        else:
            del data[at:]
    return bytes(data)


def responses(data):
    """-> the statuses, and whether the last answer is whole"""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        if not end:
            return found, False
        match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+((?:\r\n[\x20-\x7e]+)*)", head)
        check(match, "no head of an answer:", head[:300])
        found.append(int(match[1]))
        fields = match[2].lower()
        length = re.search(rb"\r\ncontent-length: (\d+)", fields)
        if found[-1] == 100:
            continue
        if length:
            if len(data) < int(length[1]):
                return found, False
            data = data[int(length[1]):]
            continue
        check(b"\r\ntransfer-encoding: chunked" in fields, "neither length nor chunks:", head)
        size = None
        while size != 0:
            line, end, rest = data.partition(b"\r\n")
            if not end or len(rest) < int(line, 16) + 2:
                return found, False
            size = int(line, 16)
            check(rest[size:size + 2] == b"\r\n", "the end of a chunk", rest[size:size + 20])
            data = rest[size + 2:]
    return found, True


def send(s, data, rng):
    at = 0
    while at < len(data):
        n = rng.choice((1, 7, 100, 5000, len(data)))
        s.sendall(data[at:at + n])
        at += n
        if rng.random() < 0.1:
            time.sleep(0.001)


def connection(server, rng, bad):
    """One of them; checks what it is answered."""
    wanted, data = [], b""
    for _ in range(rng.randint(1, 5)):
        more, status = request(server, rng)
        data += more
        wanted.append(status)
    good = rng.random() < 0.4
    if not good:
        data = change(data, rng, bad)
    data += b"GET /health HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    way = rng.choice(("read", "read", "read", "leave", "reset", "half"))
    got = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if way in ("leave", "reset"):
                send(s, data[:rng.randrange(len(data))], rng)
                if way == "reset":
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            send(s, data, rng)
            if way == "half" or not good:
                # What was changed may be the beginning of a request that never ends.
                s.shutdown(socket.SHUT_WR)
            while piece := s.recv(65536):
                got += piece
        except ConnectionError:
            check(not good or way == "half", "a good connection was cut", data[:3000], got[-300:])
    found, whole = responses(got)
    check(set(found) <= ALLOWED, "statuses", found, "for", data[:3000])
    if good and way == "read":
        check([f for f in found if f != 100] == wanted + [200], found, "not", wanted, data[:3000])
        check(whole, "the last answer is cut:", got[-300:])


def test_random_connections(server):
    seed = int(os.environ.get("RENGA_FRAMES_SEED", random.randrange(2**31)))
    count = int(os.environ.get("RENGA_FRAMES", 1500))
    bad = [data for status, _, data in http_matrix.cases() if status != "ok"]
    files = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    failures = []

    def work(k):
        for i in range(k, count, THREADS):
            try:
                connection(server, random.Random(f"{seed} {i}"), bad)
            except Exception as e:
                failures.append(f"seed {seed}, connection {i}: {type(e).__name__} {e}")
                return

    threads = [threading.Thread(target=work, args=(k,)) for k in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not failures, "; ".join(failures[:3]))
    check(server.request("GET", "/health").status == 200, "health, seed", seed)
    time.sleep(2.5)  # for connections that linger
    before = cpu_seconds(server.process.pid)
    time.sleep(1)
    check(cpu_seconds(server.process.pid) - before <= 0.2, "the engine is still at work, seed", seed)
    now = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    check(now <= files, f"{now} files are open, before {files}; seed", seed)
    return f"{count} connections, seed {seed}"
