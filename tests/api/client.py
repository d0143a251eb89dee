"""A renga server under test, and ways to talk to it: whole requests, streams, raw bytes."""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

JSON = {"Content-Type": "application/json"}


class Failure(Exception):
    """What was expected and what came."""


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


def free_port():
    # Free on every address: a test may listen on 0.0.0.0, and closed connections of 127.0.0.2 ...
    # still hold ports of theirs.
    with socket.socket() as s:
        s.bind(("", 0))
        return s.getsockname()[1]


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The error's code, after a look at its shape."""
        error = self.json["error"]
        check(list(self.json) == ["error"], "an error beside other keys:", self.body[:200])
        check(set(error) == {"message", "type", "param", "code"}, "keys of an error:", error)
        check(isinstance(error["message"], str) and error["message"], "an empty message:", error)
        return error["code"]


class Server:
    """Runs `renga serve` with a model until stop()."""

    def __init__(self, binary, model, flags=(), log=None):
        self.port = free_port()
        self.log = log or subprocess.DEVNULL
        self.process = subprocess.Popen(
            [binary, "serve", "--default-model", model, "--api-port", str(self.port), *flags],
            stdout=self.log, stderr=self.log)
        self.wait()
        answer = self.request("GET", "/v1/models")
        self.model = answer.json["data"][0]["id"] if answer.status == 200 else None

    def wait(self):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            check(self.process.poll() is None, "the server ended with", self.process.returncode)
            try:
                if self.request("GET", "/health").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise Failure("the server is not ready after 120 s")

    def stop(self, by=signal.SIGTERM):
        """-> the exit status"""
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure("the server did not end within 40 s") from None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    # ---- whole requests ----

    def connect(self, timeout=30):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=30):
        c = self.connect(timeout)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            c.close()

    def body(self, text="Hello", **fields):
        return {"model": self.model, "messages": [{"role": "user", "content": text}],
                "temperature": 0, **fields}

    def post(self, body, headers=None, timeout=60):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", "/v1/chat/completions", data, headers or JSON, timeout)

    def chat(self, text="Hello", **fields):
        """-> the parsed answer; anything but 200 is a failure"""
        a = self.post(self.body(text, **fields))
        check(a.status == 200, a.status, a.body[:300])
        return a.json

    def text(self, text="Hello", **fields):
        return self.chat(text, **fields)["choices"][0]["message"]["content"]

    # ---- streams ----

    def stream(self, text="Hello", **fields):
        """-> the payloads of all data lines, [DONE] included, and the comment lines"""
        a = self.post(self.body(text, stream=True, **fields))
        check(a.status == 200, a.status, a.body[:300])
        check(a.headers["Content-Type"] == "text/event-stream", a.headers["Content-Type"])
        return events(a.body)

    # ---- raw bytes ----

    def raw(self, *pieces, wait=10, pause=0.01):
        """Sends the pieces one by one, then takes all until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i, piece in enumerate(pieces):
                if i:
                    time.sleep(pause)
                try:
                    s.sendall(piece)
                except OSError:
                    break
            return read_to_end(s)


def read_to_end(s):
    data = b""
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionResetError:
            return data
        except socket.timeout:
            raise Failure("the connection stays open; received " + repr(data[:200])) from None
        if not piece:
            return data
        data += piece


def events(body):
    data, comments = [], []
    for block in body.decode().split("\n\n"):
        if block.startswith("data: "):
            check("\n" not in block, "an event of two lines:", block[:200])
            data.append(block[6:])
        elif block.startswith(":"):
            comments.append(block)
        else:
            check(block == "", "neither data nor comment:", block[:200])
    return data, comments


def joined(data, index=0):
    """The text that the deltas of a choice make together."""
    text = ""
    for payload in data:
        if payload == "[DONE]":
            continue
        for choice in json.loads(payload).get("choices", []):
            if choice["index"] == index:
                text += choice["delta"].get("content") or ""
    return text


def cpu_seconds(pid):
    """What the process has used so far, all of its threads."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
