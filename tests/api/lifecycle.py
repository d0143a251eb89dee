"""Starting and ending: drain, keys, exposure.  Each starts servers of its own."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

from client import Server, check, events, free_port, joined


def test_sigterm_lets_the_answer_finish(binary, model):
    server = Server(binary, model)
    long = {"max_tokens": 1500, "logit_bias": {"257": -100}}
    want = server.text("Good-bye", **long)
    got = []

    def ask():
        got.append(server.post(server.body("Good-bye", stream=True, **long)))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.05)
    check(not got, "the answer was over before the signal")
    check(server.stop(signal.SIGTERM) == 0, "exit status", server.process.returncode)
    asking.join()
    check(got and joined(events(got[0].body)[0]) == want, "the last answer")


def test_keys(binary, model):
    with tempfile.NamedTemporaryFile("w", suffix=".key") as f:
        f.write("# keys\nsesame-open-1\nsesame-open-2\n")
        f.flush()
        server = Server(binary, model, ["--api-key-file", f.name])
        try:
            for key, status in ((None, 401), ("sesame-open", 401), ("sesame-open-12", 401),
                                ("x" * 5000, 401), ("sesame-open-1", 200),
                                ("sesame-open-2", 200)):
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                a = server.request("GET", "/v1/models", headers=headers)
                check(a.status == status, key, a.status)
                if status == 401:
                    check(a.code == "invalid_api_key", a.body)
            check(server.request("GET", "/health").status == 200, "health without a key")
        finally:
            server.stop()


def refused(binary, model, *flags):
    """-> exit status and stderr of a server that must not start"""
    p = subprocess.run([binary, "serve", "--default-model", model, *flags],
                       capture_output=True, text=True, timeout=20)
    return p.returncode, p.stderr


def test_elsewhere_it_wants_keys(binary, model):
    status, error = refused(binary, model, "--api-host", "0.0.0.0", "--api-port", "0")
    check(status == 2, status, error)
    check("--api-host 0.0.0.0" in error and "--api-key-file" in error and
          "--insecure-api" in error, error)
    check(len(error.strip().split("\n")) == 1, error)
    server = Server(binary, model, ["--api-host", "0.0.0.0", "--insecure-api"])
    try:
        check(server.request("GET", "/v1/models", headers={"Host": "any.example"}).status == 200,
              "any Host off loopback")
    finally:
        server.stop()


def test_a_taken_port_is_one_line(binary, model):
    with socket.socket() as s:
        s.bind(("127.0.0.1", free_port()))
        s.listen()
        status, error = refused(binary, model, "--api-port", str(s.getsockname()[1]))
    check(status == 1, status, error)
    check("address already in use" in error, error)
    check(len(error.strip().split("\n")) == 1, error)


def test_the_log_has_no_prompt(binary, model):
    with tempfile.TemporaryFile("w+") as log:
        server = Server(binary, model, log=log)
        server.text("xyzzy-plugh", max_tokens=2)
        server.post(json.dumps({**server.body("xyzzy-plugh"), "bad": 1}).encode())
        server.stop()
        log.seek(0)
        text = log.read()
    check("xyzzy" not in text, "the prompt is in the log")
    check("completion_tokens=" in text or os.environ.get("RENGA_LOG_LEVEL"), text[-300:])
