"""The API of a node that is not the head: what the head answers comes through it unchanged."""
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import body_matrix
import chat
from client import JSON, Failure, Server, check, events, free_port, joined

# A forwarded answer ends its connection, other nodes' connections are not the head's, and times are
# those of one server.
NOT_FORWARDED = {"test_deep_bodies_cost_little", "test_keep_alive", "test_a_second_request_waits_for_the_stream",
                 "test_idle_connections_cost_little", "test_the_1025th_connection_is_told"}


class Ring(Server):
    """A head and a worker on loopback; requests go to the worker."""

    def __init__(self, binary, model, head_flags=(), worker_flags=()):
        self.scratch = tempfile.TemporaryDirectory(prefix="renga-ring-")
        self.nodes, self.ports, self.commands = [], [free_port(), free_port()], []
        path = Path(self.scratch.name) / "discovery.json"
        path.write_text(json.dumps({"peers": {
            name: {"address": "127.0.0.1", "port": free_port(), "device_capabilities": {"memory": 4096}}
            for name in ("a-head", "b-worker")}}))
        for name, port, flags in zip(("a-head", "b-worker"), self.ports, (head_flags, worker_flags)):
            self.commands.append([binary, "serve", "--default-model", model, "--api-port", str(port),
                                  "--node-id", name, "--discovery-config-path", str(path), *flags])
            self.nodes.append(self.start(len(self.nodes)))
        self.process, self.port = self.nodes[1], self.ports[1]
        self.model = os.path.basename(model)

    def start(self, i):
        return subprocess.Popen(self.commands[i], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_formed(self):
        end = time.monotonic() + 60
        for self.port in self.ports:
            self.wait_for(200, end)
        return self

    def wait_for(self, status, end):
        while time.monotonic() < end:
            try:
                if self.request("GET", "/health").status == status:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise Failure(f"/health did not become {status}")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        codes = []
        for p in reversed(self.nodes):
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
                try:
                    codes.append(p.wait(40))
                except subprocess.TimeoutExpired:
                    p.kill()
                    codes.append("none within 40 s")
        self.scratch.cleanup()
        if kind is None:
            check(not any(codes), "exit statuses", codes)


def test_chat_through_a_worker(binary, model):
    n = 0
    with Ring(binary, model) as ring:
        ring.wait_formed()
        for module in (chat, body_matrix):
            for name, fn in vars(module).items():
                if name.startswith("test_") and name not in NOT_FORWARDED:
                    try:
                        fn(ring)
                    except Failure as e:
                        raise Failure(f"{name}: {e}") from e
                    n += 1
    return f"{n} tests"


def same_but_id(answer):
    whole = json.loads(answer)
    whole.pop("id", None)
    whole.pop("created", None)
    return whole


def test_an_answer_is_the_heads(binary, model):
    with Ring(binary, model) as ring:
        ring.wait_formed()
        for method, path, body, headers in (
                ("GET", "/v1/models", None, {}), ("HEAD", "/v1/models", None, {}),
                ("GET", "/nothing?a=b", None, {}), ("PUT", "/v1/models", b"x", {}),
                ("POST", "/v1/chat/completions", b"{", JSON), ("POST", "/v1/chat/completions", b"{}", {}),
                ("POST", "/v1/chat/completions", b"{}", {**JSON, "Content-Encoding": "gzip"}),
                ("POST", "/v1/chat/completions", json.dumps(ring.body("Hi", max_tokens=5)).encode(), JSON)):
            answers = []
            for ring.port in ring.ports:
                a = ring.request(method, path, body, headers)
                keep = {k: v for k, v in a.headers.items()
                        if k not in ("Date", "Connection", "Content-Length")}
                answers.append((a.status, keep, same_but_id(a.body) if a.body else a.body))
            answers[0][2] and "data" in answers[0][2] and [
                d.pop("created", None) for a in answers for d in a[2]["data"]]
            check(answers[0] == answers[1], method, path, answers)


def test_health_is_each_nodes_own(binary, model):
    with Ring(binary, model) as ring:
        ring.wait_formed()
        for ring.port, name, role in zip(ring.ports, ("a-head", "b-worker"), ("head", "worker")):
            got = ring.request("GET", "/health").json
            check(got["status"] == "ok" and got["node"] == name and got["role"] == role, got)
            check(got["head"] == "a-head" and got["epoch_state"] == "running", got)
            check([n["id"] for n in got["nodes"]] == ["a-head", "b-worker"], got)
            check(all("address" in n for n in got["nodes"]), got)


def test_keys_of_both_nodes(binary, model):
    with tempfile.TemporaryDirectory() as scratch:
        keys = Path(scratch) / "keys"
        keys.write_text("open-sesame-1\n")
        auth = {"Authorization": "Bearer open-sesame-1"}
        flags = ["--api-key-file", str(keys)]
        # the node asks; both ask; only the head asks
        for head, worker, without in (([], flags, 401), (flags, flags, 401), (flags, [], 401)):
            with Ring(binary, model, head, worker) as ring:
                ring.wait_formed()
                a = ring.request("GET", "/v1/models")
                check(a.status == without and a.code == "invalid_api_key", head, worker, a.status)
                check(ring.request("GET", "/v1/models", headers=auth).status == 200, head, worker)
                open_, full = ring.request("GET", "/health"), ring.request("GET", "/health", headers=auth)
                check(open_.status == full.status == 200, open_.status)
                check(all("address" in n for n in full.json["nodes"]), full.body)
                check((b"127.0.0.1" in open_.body) == (not worker), head, worker, open_.body)
                check({"id", "head", "state", "first_layer", "last_layer", "progress"}
                      <= set(open_.json["nodes"][0]), open_.body)


def test_large_and_slow(binary, model):
    """The largest body, one over it, and an answer that is read late."""
    with Ring(binary, model) as ring:
        ring.wait_formed()
        text = "x" * (8 << 20)
        body = json.dumps(ring.body(text)).encode()
        check(ring.post(body).status == 413, "a body over 8 MiB")
        body = json.dumps(ring.body(text[:-200])).encode()
        check(len(body) <= 8 << 20, len(body))
        a = ring.post(body)
        check(a.status == 400 and a.code == "context_length_exceeded", a.status, a.body[:200])
        request = json.dumps(ring.body("Long", max_tokens=400, stream=True, logprobs=True, top_logprobs=20,
                                       seed=1, temperature=1, logit_bias={"258": -100, "257": -100})).encode()
        want = events(ring.post(request).body)[0]
        c = ring.connect(60)
        c.request("POST", "/v1/chat/completions", request, JSON)
        r = c.getresponse()
        got = b""
        while piece := r.read(20000):
            got += piece
            time.sleep(0.02)
        c.close()

        def tokens(data):
            """Of all chunks together: which tokens share one is a matter of time."""
            return [t for d in data if d != "[DONE]" for c in json.loads(d)["choices"]
                    for t in (c["logprobs"] or {"content": []})["content"]]

        got = events(got)[0]
        check(len(tokens(got)) == 400 and tokens(got) == tokens(want), len(tokens(got)), len(tokens(want)))
        check(joined(got) == joined(want) and got[-1] == "[DONE]", got[-1])


def test_a_head_that_dies(binary, model):
    """A stream ends with the error, later requests get 503, and the head is named."""
    with Ring(binary, model) as ring:
        ring.wait_formed()
        got = []

        def ask():
            got.append(ring.stream("Go", max_tokens=4000, logit_bias={"258": -100, "257": -100}))

        t = threading.Thread(target=ask)
        t.start()
        time.sleep(0.5)
        ring.nodes[0].kill()
        ring.nodes[0].wait()
        t.join(20)
        check(got and got[0][0][-1] == "[DONE]", got and got[0][0][-2:])
        check(json.loads(got[0][0][-2])["error"]["code"] == "node_lost", got[0][0][-2])
        begin = time.monotonic()
        a = ring.request("GET", "/v1/models")
        check(a.status == 503 and a.code == "node_lost" and b"a-head" in a.body, a.status, a.body)
        check(a.headers["Retry-After"] == "1" and time.monotonic() - begin < 6, a.headers)
        ring.wait_for(503, time.monotonic() + 10)
        ring.nodes.pop(0)


def stream_across_a_loss(binary, model, client):
    """An SDK reads a stream at the head whose worker is killed and started again; client(url, body) is its
    command, as openai_sdk_stream.* take it.  A stream beside it says whether there was something to wait for."""
    with Ring(binary, model) as ring:
        ring.wait_formed()
        ring.port = ring.ports[0]
        body = ring.body("Long", max_tokens=3000, logit_bias={"258": -100, "257": -100})
        want = ring.post(body).json["choices"][0]["message"]["content"]
        plain = []
        beside = threading.Thread(target=lambda: plain.append(events(ring.post({**body, "stream": True}).body)))
        with subprocess.Popen([str(c) for c in client(ring.url, json.dumps(body))], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as sdk:
            beside.start()
            begun = sdk.stdout.readline()
            ring.nodes[1].kill()
            ring.nodes[1].wait()
            time.sleep(0.5)
            ring.nodes[1] = ring.start(1)
            out, err = sdk.communicate(timeout=60)
        beside.join(60)
        check(begun == "begun\n" and sdk.returncode == 0, begun, out[-300:], err[-1500:])
        check(json.loads(out) == want, "another text:", out[:300], want[:300])
        check(plain and joined(plain[0][0]) == want, "another text without the SDK")
        waits = [c for c in plain[0][1] if c.startswith(": waiting: ")]
        check(len(waits) == 1, "it did not wait:", plain[0][1])
        ring.wait_formed()
    return waits[0]


def test_a_head_told_to_end_while_a_worker_is_lost(binary, model):
    """What waits has the time of running answers; a second signal ends it at once."""
    with Ring(binary, model) as ring:
        ring.wait_formed()
        ring.port = ring.ports[0]
        ring.nodes[1].kill()
        ring.nodes[1].wait()
        ring.wait_for(503, time.monotonic() + 5)
        c = ring.connect(60)
        c.request("POST", "/v1/chat/completions", json.dumps(ring.body("Wait", stream=True)), JSON)
        r = c.getresponse()
        check(r.status == 200 and r.readline().startswith(b": waiting: "), r.status)
        ring.nodes[0].send_signal(signal.SIGTERM)
        time.sleep(1)
        check(ring.nodes[0].poll() is None, "it did not wait for the answer")
        ring.nodes[0].send_signal(signal.SIGTERM)
        begin = time.monotonic()
        check(ring.nodes[0].wait(10) == 0 and time.monotonic() - begin < 2, ring.nodes[0].returncode)
        c.close()
        ring.nodes.pop(1)
