"""`renga status`: the nodes of a daemon as a table and as JSON, and what it says when there is none."""
import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from client import Server, check, free_port

KEY = "sesame-open-twice"
GIB = 1 << 30


def node(name, head=False, state="up", first=0, last=3, **more):
    return {"id": name, "head": head, "address": "10.0.2.1", "port": 50051, "state": state,
            "reason": "", "first_layer": first, "last_layer": last, "loaded_bytes": 5, "load_bytes": 5,
            "progress": 1, "rtt_ms": 0.437, "ready": True, "busy": False, "layers_done": 12345678901,
            "memory_bytes": 192 * GIB, "build": "0.1.0", **more}


def health(status="ok", nodes=(), **more):
    return {"status": status, "role": "head", "node": "m2", "head": "m2",
            "epoch": {"boot": "00000000000000ff", "n": 3}, "epoch_state": "running",
            "tokens_per_s": 12.3, "nodes": list(nodes), **more}


RING = health(nodes=[node("m2", head=True, first=44, last=60, rtt_ms=0),
                     node("m3-studio", last=43, memory_bytes=512 * GIB)])


@contextlib.contextmanager
def daemon(answer, status=200, how="length"):
    """A server with one answer -> its port and the requests it got."""
    got = []
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            got.append((self.path, dict(self.headers)))
            if how == "chunked":
                self.protocol_version = "HTTP/1.1"
            self.send_response(status)
            if how == "length":
                self.send_header("Content-Length", str(len(body)))
            elif how == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            pieces = [body[i:i + 7] for i in range(0, len(body), 7)] if how == "chunked" else [body]
            for p in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(p), p) if how == "chunked" else p)
            if how == "chunked":
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def status(renga, port, *flags, code=0, **how):
    p = renga("status", "--api-port", port, *flags, **how)
    lines = p.stderr.decode().splitlines()
    check(p.returncode == code, flags, "exit", p.returncode, "expected", code, lines)
    check(len(lines) == (code != 0), lines)
    check(not lines or lines[0].startswith("renga: "), lines)
    return p.stdout.decode(), lines[0] if lines else ""


def test_status_is_a_table(renga):
    for how in ("length", "chunked", "close"):
        with daemon(RING, how=how) as (port, got):
            out, _ = status(renga, port)
            check(got[0][0] == "/health" and "Authorization" not in got[0][1], got)
        lines = [x.split() for x in out.splitlines()]
        check(lines == [["node", "role", "layers", "state", "loaded", "link", "memory"],
                        ["m2", "head", "44-60", "up", "100%", "-", "192.0", "GiB"],
                        ["m3-studio", "worker", "0-43", "up", "100%", "0.44", "ms", "512.0", "GiB"],
                        ["ok,", "epoch", "3", "running,", "12.3", "tokens/s"]], how, out)


def test_status_as_json_has_all_members(renga):
    with daemon(RING) as (port, _):
        out, _ = status(renga, port, "--json")
        check(json.loads(out) == {"schema": "renga.status/1", **RING}, out)
        check(out.count("\n") == 1 and "12345678901" in out, out)


def test_status_sends_the_first_key(renga):
    keys = renga.work / "status-keys"
    keys.write_text(f"# mine\n{KEY}\nanother-key-of-mine\n")
    with daemon(RING) as (port, got):
        status(renga, port, "--api-key-file", keys)
        check(got[0][1]["Authorization"] == f"Bearer {KEY}", got)
    renga.refused(2, "nokeys", "status", "--api-key-file", renga.work / "nokeys")


def test_status_of_a_ring_that_does_not_run(renga):
    lost = [node("m2", head=True), node("m3", state="down", reason="10.0.2.2: connection refused",
                                        first_layer=None, last_layer=None, memory_bytes=0)]
    for answer, part in ((health("degraded", lost, reason="waiting for m3: refused"), "waiting for m3: refused"),
                         (health("degraded", lost), "m3 is down"),
                         (health("loading", lost, progress=0.2, reason="waiting for m3"), "waiting for m3")):
        with daemon(answer, 503) as (port, _):
            out, line = status(renga, port, code=4)
            check(part in line, line)
            check("connection refused" in out and " - " in out, out)
            out, _ = status(renga, port, "--json", code=4)
            check(json.loads(out)["nodes"] == lost, out)


def test_status_while_it_loads(renga):
    nodes = [node("m2", head=True, progress=0.5), node("m3", progress=0.425, busy=True)]
    with daemon(health("loading", nodes, progress=0.4567), 503) as (port, _):
        out, _ = status(renga, port)
        check("loading 46%" in out and "50%" in out and "busy" in out, out)


def test_status_of_one_node(renga):
    with daemon({"status": "ok"}) as (port, _):
        check(status(renga, port)[0] == "ok\n")
    for state in ("failed", "degraded"):
        with daemon({"status": state, "reason": "a file was changed"}, 503) as (port, _):
            out, line = status(renga, port, code=1)
            check(out == state + "\n" and "a file was changed" in line, out, line)
    with daemon({"status": "loading", "progress": 0}, 503) as (port, _):
        check(status(renga, port)[0] == "loading 0%\n")


def test_status_without_a_daemon(renga):
    renga.refused(4, "renga serve", "status", "--api-port", free_port())
    renga.refused(4, "renga serve", "status", "--json", "--api-port", free_port())
    for answer, code in ((b"{}", 200), (b"", 200), (b"[1]", 200), (b'{"status":1}', 200),
                         (b'{"status":"ok","nodes":{}}', 200), (b'{"status":"ok","nodes":[1]}', 200),
                         (b'{"status":"ok"', 200), (b"<html>", 404)):
        with daemon(answer, code) as (port, _):
            renga.refused(4, "not the state of a renga daemon", "status", "--api-port", port)
    with daemon(b"x" * (2 << 20)) as (port, _):
        renga.refused(1, "limit", "status", "--api-port", port)


def test_status_waits_five_seconds_at_most(renga):
    with socket.create_server(("127.0.0.1", 0)) as s:
        began = time.monotonic()
        renga.refused(4, "no answer in time", "status", "--api-port", s.getsockname()[1])
        check(4 < time.monotonic() - began < 9, time.monotonic() - began)


def test_status_shows_no_control_characters(renga):
    nasty = health(nodes=[node("a\x1b[2Jb\u009bc", state="up\r\n")], reason="\x07", epoch_state="\x1b]0;x\x07")
    with daemon(nasty) as (port, _):
        out, _ = status(renga, port)
        check("a?[2Jb?c" in out, out)
        check(not [c for c in out if ord(c) < 32 and c != "\n" or 0x7f <= ord(c) < 0xa0], repr(out))


def test_status_knows_the_nodes_of_a_file(renga):
    def ring(name, *ids):
        path = renga.work / name
        path.write_text(json.dumps({"peers": {x: {"address": f"10.0.2.{i}", "port": 50051,
                                                  "device_capabilities": {"memory": 1024}}
                                              for i, x in enumerate(ids)}}))
        return path

    with daemon(RING) as (port, _):
        status(renga, port, "--discovery-config-path", ring("status-two.json", "m2", "m3-studio"))
        _, line = status(renga, port, "--discovery-config-path",
                         ring("status-three.json", "m2", "m3-studio", "m4"), code=4)
        check("m4" in line, line)


def test_status_of_a_real_daemon(renga):
    server = Server(renga.binary, str(renga.model))
    try:
        check(status(renga, server.port)[0] == "ok\n")
        out, _ = status(renga, server.port, "--json", "--api-host", "localhost")
        check(json.loads(out) == {"schema": "renga.status/1", "status": "ok"}, out)
    finally:
        check(server.stop() == 0, "exit")
