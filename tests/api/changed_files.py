"""The model's file is cut, written to, replaced or removed while a server uses it."""
import json
import os
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from client import JSON, Server, check, events, joined

LONG = {"max_tokens": 2000, "logit_bias": {"257": -100}}


def overwrite(path):
    data = path.read_bytes()
    with open(path, "r+b") as f:
        f.write(data[:len(data) // 2])


def replace(path):
    other = path.with_suffix(".new")
    shutil.copyfile(path, other)
    os.replace(other, path)


WAYS = {
    "was truncated": [lambda p: os.truncate(p, 0), lambda p: os.truncate(p, p.stat().st_size // 2)],
    "was written to": [overwrite],
    "was replaced or removed": [replace, lambda p: p.unlink()],
}


@contextmanager
def served_copy(binary, model, *flags):
    """A server of a copy of the model, and the copy's file of weights."""
    with tempfile.TemporaryDirectory(prefix="renga-files-") as scratch:
        copy = Path(scratch) / "copied"
        shutil.copytree(model, copy)
        server = Server(binary, str(copy), flags)
        try:
            yield server, copy / "model.safetensors"
            check(server.process.poll() is None, "the server died:", server.process.returncode)
            check(server.stop() == 0, "exit status", server.process.returncode)
        finally:
            server.process.kill()
            server.process.wait()


def check_failed(server, says):
    """/health and every new request say what happened, again and again."""
    for _ in range(2):
        health = server.request("GET", "/health")
        check(health.status == 503, "/health is", health.status, health.body)
        check(health.json["status"] == "failed", health.body)
        reason = health.json["reason"]
        check("model.safetensors" in reason and says in reason, reason, "does not say", says)
        check("/" not in reason, "a path is told to everybody:", reason)
        for stream in False, True:
            a = server.post(server.body("again", stream=stream))
            check(a.status == 503 and a.code == "node_lost", a.status, a.body)
            check(says in a.json["error"]["message"], a.body)
    check(server.request("GET", "/v1/models").status == 200, "the list of models")


def test_a_stream_ends_with_the_reason(binary, model):
    whole = None
    for says, ways in WAYS.items():
        for change in ways:
            with served_copy(binary, model) as (server, file):
                whole = whole or server.text("Tell me", **LONG)
                c = server.connect()
                c.request("POST", "/v1/chat/completions",
                          json.dumps(server.body("Tell me", stream=True, **LONG)), JSON)
                r = c.getresponse()
                check(r.status == 200, r.status)
                first = r.read(1)
                change(file)
                data, _ = events(first + r.read())
                check(data[-1] == "[DONE]", data[-1])
                error = json.loads(data[-2]).get("error")
                check(error and error["code"] == "node_lost", "the last event is", data[-2])
                check("model.safetensors" in error["message"] and says in error["message"], error)
                check(whole.startswith(joined(data[:-2])), "text that the model did not say")
                check_failed(server, says)


def test_all_that_run_and_wait_end(binary, model):
    with served_copy(binary, model, "--parallel", "2") as (server, file):
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(
            server.post(server.body("Tell me", **LONG)))) for _ in range(8)]
        for t in asking:
            t.start()
        time.sleep(0.1)
        os.truncate(file, 100)
        for t in asking:
            t.join()
        lost = [a for a in answers if a.status == 503]
        check(len(answers) == 8 and len(lost) >= 6, [a.status for a in answers])
        for a in lost:
            check(a.code == "node_lost" and "was truncated" in a.json["error"]["message"], a.body)
        check(all(a.status in (200, 503) for a in answers), [a.status for a in answers])
        check_failed(server, "was truncated")


def test_an_idle_server_notices(binary, model):
    with served_copy(binary, model) as (server, file):
        check(server.request("GET", "/health").status == 200, "well at first")
        os.truncate(file, 1000)
        end = time.monotonic() + 5
        while server.request("GET", "/health").status == 200:
            check(time.monotonic() < end, "not noticed within 5 s")
            time.sleep(0.05)
        check_failed(server, "was truncated")


def test_another_name_of_the_file_changes_nothing(binary, model):
    with served_copy(binary, model) as (server, file):
        before = server.text("Tell me", max_tokens=20)
        os.link(file, file.with_suffix(".backup"))
        os.chmod(file, 0o400)
        check(server.text("Tell me", max_tokens=20) == before, "another answer")
        file.with_suffix(".backup").unlink()
        time.sleep(1.2)
        check(server.request("GET", "/health").status == 200, "a hard link made it ill")
