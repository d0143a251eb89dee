"""Daemons on the hosts of a net, requests to them, and what must be true of every answer."""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "api"))

import net
import tiny_model
from client import Answer, Failure, check, cpu_seconds, events, joined, rss_bytes  # noqa: F401

DEMO = ROOT / "config" / "demo-model"
GOLDEN = ROOT / "tests" / "golden" / "tiny"
MIB = 1 << 20
NO_END = {"257": -100}  # logit_bias: tiny_model's end token never comes


# ---- answers ---------------------------------------------------------------------------------


class Reply:
    """One request's answer, and how it ended."""

    def __init__(self):
        self.status, self.body, self.data, self.comments = None, b"", [], 0
        self.waits = []  # when a comment said that it waits for a node, and what it said
        self.text, self.finish, self.error, self.done = "", None, None, 0
        self.closed = None  # the exception that ended the connection early
        self.began = self.ended = time.monotonic()

    @property
    def seconds(self):
        return self.ended - self.began

    def take(self, line):
        if line.startswith(b":"):
            self.comments += 1
            if line.startswith(b": waiting"):
                self.waits.append((time.monotonic(), line.decode().strip()))
        if not line.startswith(b"data: "):
            return
        payload = line[6:].decode().rstrip("\n")
        self.data.append(payload)
        if payload == "[DONE]":
            self.done += 1
            return
        event = json.loads(payload)
        if "error" in event:
            check(self.error is None, "a second error:", payload)
            self.error = event["error"]["code"]
        for choice in event.get("choices", []):
            self.text += choice["delta"].get("content") or ""
            if choice["finish_reason"]:
                check(self.finish is None, "a second end:", payload)
                self.finish = choice["finish_reason"]

    def __str__(self):
        return (f"status={self.status} finish={self.finish} error={self.error} done={self.done} "
                f"closed={self.closed!r} text={self.text[:60]!r} after {self.seconds:.1f} s "
                f"{self.body[:200]!r}")

    def check_end(self):
        """It ended exactly once: a finish, or a typed error; in a stream with one [DONE], last."""
        check(self.closed is None, "cut off:", self)
        if self.status == 200:
            check((self.finish is None) != (self.error is None), "two ends or none:", self)
            if self.data:
                check(self.done == 1 and self.data[-1] == "[DONE]", "no [DONE] at the end:", self)
        else:
            check(self.error, "a status without an error:", self)
        return self

    def check_prefix(self, want):
        """The oracle: the fault-free single-node answer, or a beginning of it and then the error."""
        self.check_end()
        if self.error:
            check(want.startswith(self.text), "no beginning of the right answer:", self, repr(want[:80]))
        else:
            check(self.text == want, "another answer:", self, repr(want[:80]))
        return self

    def check_whole(self, want):
        self.check_prefix(want)
        check(self.error is None, "an error:", self)
        return self


class _Connection(http.client.HTTPConnection):
    def __init__(self, host, address, port, timeout):
        super().__init__(address, port, timeout=timeout)
        self.from_host = host

    def connect(self):
        self.sock = self.from_host.connect(self.host, self.port, self.timeout)


# ---- a daemon --------------------------------------------------------------------------------


class Daemon:
    """A `renga serve` on a host, from start() to its end; may be started again."""

    def __init__(self, binary, host, api_host, log, runner=()):
        self.binary, self.host, self.log_path, self.runner = binary, host, Path(log), list(runner)
        self.api_host = api_host or host.address
        self.process = None

    def start(self, model, *flags):
        command = [*self.runner, self.binary, "serve", "--default-model", str(model), "--api-host",
                   self.api_host, "--api-port", str(self.host.api_port), *map(str, flags)]
        # A run that is killed takes its daemons along.
        if shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        env = {k: v for k, v in os.environ.items() if not k.startswith("RENGA_")}
        self.log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log, self.host.inside():
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**env, "HOME": str(self.log_path.parent)})
        return self

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        """What was logged since the last start."""
        if not self.log_path.exists():
            return ""
        with open(self.log_path, "rb") as f:
            f.seek(self.log_start)
            return f.read().decode(errors="replace")

    def wait_log(self, pattern, seconds=10):
        """-> the match; a pattern that does not come is a failure"""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.log())
            if found:
                return found
            if time.monotonic() > end:
                raise Failure(f"{self.log_path.name}: no {pattern!r} within {seconds} s:\n"
                              + self.log()[-1500:])
            time.sleep(0.02)

    def wait_exit(self, seconds=10):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.log_path.name}: still runs after {seconds} s:\n{self.log()[-1500:]}") \
                from None

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def stop(self):
        """SIGTERM -> the exit status"""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait_exit(40)

    # ---- requests ----

    def connection(self, timeout=30, source=None):
        return _Connection(source or self.host, self.api_host, self.host.api_port, timeout)

    def request(self, method, path, body=None, timeout=30):
        c = self.connection(timeout)
        try:
            c.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            r = c.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            c.close()

    def health(self):
        """-> the status, None when nobody answers; the parsed body"""
        try:
            a = self.request("GET", "/health", timeout=5)
            return a.status, a.json
        except (OSError, http.client.HTTPException, ValueError):
            return None, {}

    def ask(self, body, on_text=None, timeout=60):
        """Sends a chat request; on_text(reply) is called after each piece.  Never raises for what
        the network does: the reply says it."""
        reply = Reply()
        c = self.connection(timeout)
        try:
            c.request("POST", "/v1/chat/completions", json.dumps(body),
                      {"Content-Type": "application/json"})
            r = c.getresponse()
            reply.status = r.status
            if r.status == 200 and body.get("stream"):
                while True:
                    line = r.readline()
                    if not line:
                        break
                    reply.take(line)
                    if on_text and line.startswith(b"data: "):
                        on_text(reply)
                if not reply.done:  # http.client takes a connection that ends between chunks as an end
                    reply.closed = EOFError("no [DONE] before the end of the connection")
            else:
                reply.body = r.read()
                self._take_whole(reply)
        except (OSError, http.client.HTTPException) as e:
            reply.closed = e
        finally:
            reply.ended = time.monotonic()
            c.close()
        return reply

    @staticmethod
    def _take_whole(reply):
        parsed = json.loads(reply.body)
        if "error" in parsed:
            reply.error = parsed["error"]["code"]
        else:
            reply.text = parsed["choices"][0]["message"]["content"]
            reply.finish = parsed["choices"][0]["finish_reason"]

    # ---- what it holds ----

    def holds(self):
        """-> descriptors, threads, bytes of memory"""
        return (len(os.listdir(f"/proc/{self.pid}/fd")), len(os.listdir(f"/proc/{self.pid}/task")),
                rss_bytes(self.pid))

    def written_kib(self):
        """Memory that it has written: without the model's file and the libraries"""
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))

    def maps(self, directory):
        """The mapped files under a directory (links followed)."""
        real = os.path.realpath(directory)
        with open(f"/proc/{self.pid}/maps") as f:
            return sorted({line.split(None, 5)[5].strip() for line in f if f" {real}/" in line})


def chat(text, model=None, **fields):
    return {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}


# ---- a ring ----------------------------------------------------------------------------------


class Ring:
    """Daemons that share a discovery file.  Node 0 is the head."""

    def __init__(self, lab, net_, model, memory=None, name="ring"):
        self.lab, self.net, self.model = lab, net_, Path(model)
        self.dir = lab.scratch / f"{name}-{lab.number()}"
        self.dir.mkdir()
        self.n = len(net_.hosts)
        self.ids = ["head", *(f"w{i}" for i in range(1, self.n))]
        self.discovery = self.dir / "discovery.json"
        self.memory = memory or [4096] * self.n
        self.write_discovery(self.discovery)
        self.nodes = [Daemon(lab.binary, h, net_.api_host, self.dir / f"{id}.log")
                      for h, id in zip(net_.hosts, self.ids)]
        self.flags = ["--insecure-peers"]
        self.name = self.model.name

    def peers(self):
        return {id: {"address": h.address, "port": h.port, "device_capabilities": {
                    "model": "test", "chip": "test", "memory": m,
                    "flops": {"fp32": 1, "fp16": 1, "int8": 1}}}
                for id, h, m in zip(self.ids, self.net.hosts, self.memory)}

    def write_discovery(self, path, change=None):
        peers = self.peers()
        if change:
            peers = change(peers) or peers
        path.write_text(json.dumps({"peers": peers}, indent=1))
        return path

    def start_node(self, i, *flags, model=None, discovery=None):
        return self.nodes[i].start(model or self.model, "--discovery-config-path",
                                   discovery or self.discovery, "--node-id", self.ids[i],
                                   "--threads", 1, *self.flags, *flags)

    def start(self, *flags, order=None, wait=True):
        for i in order or range(self.n):
            self.start_node(i, *flags)
        if wait:
            self.wait()
        return self

    @property
    def head(self):
        return self.nodes[0]

    def wait(self, seconds=30, nodes=None):
        """Until /health of these nodes (all) is 200."""
        end = time.monotonic() + seconds
        for node in nodes or self.nodes:
            while True:
                check(node.process.poll() is None, node.log_path.name, "ended with",
                      node.process.returncode, node.log()[-800:])
                status, said = node.health()
                if status == 200:
                    break
                check(time.monotonic() < end, node.log_path.name, "is not ready after", seconds,
                      "s:", status, said, "\n" + self.logs())
                time.sleep(0.05)

    def logs(self, lines=12):
        return "\n".join(f"---- {n.log_path.name}\n" + "\n".join(n.log().splitlines()[-lines:])
                         for n in self.nodes)

    def chat(self, text, **fields):
        return chat(text, self.name, **fields)

    def eval(self, tokens, out, *flags):
        """`renga eval` as the head, with the workers that run."""
        command = [self.lab.binary, "eval", self.model, "--discovery-config-path", self.discovery,
                   "--node-id", "head", "--tokens", tokens, "--logits", out, "--threads", 1,
                   *self.flags, *flags]
        with self.net.hosts[0].inside():
            return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)

    def stop(self):
        """Ends all of them well; -> nothing, or a failure"""
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.process.terminate()
        for node in self.nodes:
            if node.process:
                check(node.wait_exit(40) == 0, node.log_path.name, "ended with",
                      node.process.returncode, node.log()[-500:])

    def check_logs(self):
        """No daemon died of a signal of its own, of an assertion, or under a sanitizer's report."""
        for node in self.nodes:
            whole = node.log_path.read_text(errors="replace") if node.log_path.exists() else ""
            found = re.search(r"^.*(Assertion|Sanitizer|runtime error:|malloc_consolidate|stack smashing).*$",
                              whole, re.M)
            if found:
                raise Failure(f"{node.log_path.name}: {found.group(0)}\n{whole[found.start():][:3000]}")
            code = node.process.poll() if node.process else None
            check(code in (None, -signal.SIGKILL) or code >= 0, node.log_path.name, "died of signal", code)

    def close(self):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                with contextlib.suppress(OSError):
                    node.process.send_signal(signal.SIGCONT)
                node.kill()
        self.net.close()


# ---- what the tests share --------------------------------------------------------------------


class Lab:
    """The binary, a scratch directory, models, and right answers."""

    def __init__(self, binary, scratch, long):
        self.binary, self.scratch, self.long = str(binary), Path(scratch), long
        self.count, self.answers, self.models = 0, {}, {}

    def number(self):
        self.count += 1
        return self.count

    @contextlib.contextmanager
    def ring(self, n, model, lan=False, **how):
        ring = Ring(self, net.Lan(n) if lan else net.Loopback(n), model, **how)
        try:
            yield ring
            ring.check_logs()
        except BaseException:
            print(ring.logs(), file=sys.stderr)
            raise
        finally:
            ring.close()

    def tiny(self, layers=7):
        """A random model with that many layers that can go on for ever (NO_END)."""
        if layers not in self.models:
            path = self.scratch / f"tiny-{layers}"
            tiny_model.main(path, layers)
            self.models[layers] = path
        return self.models[layers]

    def sparse_kimi(self):
        """Kimi-K2 in full size, its data a hole; with the demo model's tokenizer and template."""
        if "kimi" not in self.models:
            path = self.scratch / "Kimi-K2-sparse"
            subprocess.run([sys.executable, ROOT / "tools" / "make_sparse_kimi", path], check=True,
                           timeout=120, capture_output=True)
            for file in ("tiktoken.model", "tokenizer_config.json", "chat_template.jinja"):
                shutil.copy(DEMO / file, path)
            self.models["kimi"] = path
        return self.models["kimi"]

    def right(self, model, text, **fields):
        """What one node says: the text of the fault-free answer."""
        key = (str(model), text, json.dumps(fields, sort_keys=True))
        if key not in self.answers:
            place = net.Loopback(1)
            alone = Daemon(self.binary, place.hosts[0], place.api_host,
                           self.scratch / f"alone-{self.number()}.log")
            try:
                alone.start(model, "--threads", 1)
                end = time.monotonic() + 60
                while alone.health()[0] != 200:
                    check(alone.process.poll() is None and time.monotonic() < end, alone.log()[-800:])
                    time.sleep(0.05)
                reply = alone.ask(chat(text, Path(model).name, **fields))
                reply.check_end()
                check(reply.error is None, reply)
                self.answers[key] = reply.text
            finally:
                alone.kill()
                place.close()
        return self.answers[key]

    def eval_alone(self, model, tokens, out, *flags):
        p = subprocess.run([self.binary, "eval", str(model), "--tokens", str(tokens), "--logits",
                            str(out), "--threads", "1", *map(str, flags)], capture_output=True,
                           text=True, timeout=120)
        check(p.returncode == 0, "eval alone:", p.stderr[-500:])
        return Path(out).read_bytes()


def until(fn, seconds, what):
    """Calls fn until it is true; -> how long that took"""
    begin = time.monotonic()
    while not fn():
        check(time.monotonic() - begin < seconds, f"not within {seconds} s:", what() if callable(what)
              else what)
        time.sleep(0.05)
    return time.monotonic() - begin
