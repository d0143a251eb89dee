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


def test_no_wrong_key_is_nearly_right(binary, model):
    key = "Sesame-0123456789-" + "x" * 238  # the longest
    with tempfile.NamedTemporaryFile("w", suffix=".key") as f:
        f.write(key + "\n")
        f.flush()
        server = Server(binary, model, ["--api-key-file", f.name])
        try:
            wrong = [key[:n] for n in range(0, 256, 5)] + [key[:255], key + "x", key * 2,
                     "y" + key[1:], key[:-1] + "y", key.lower(), key.upper(), key + " x",
                     key + ",", '"' + key + '"', key + "\xa0", "*", "null", "Bearer " + key]
            for k in wrong:
                a = server.request("GET", "/v1/models", headers={"Authorization": f"Bearer {k}"})
                check(a.status == 401 and a.code == "invalid_api_key", k, a.status)
                check(a.headers["WWW-Authenticate"] == "Bearer", a.headers)
                check(key[:8] not in a.body.decode(), "the answer shows a key")
            for value in (f"Bearer {key}", f"bearer   {key}", f"BEARER {key}  "):
                a = server.request("GET", "/v1/models", headers={"Authorization": value})
                check(a.status == 200, value, a.status)
            for value in (key, f"Basic {key}", f"Bearer{key}", f"Token {key}", "Bearer"):
                a = server.request("GET", "/v1/models", headers={"Authorization": value})
                check(a.status == 401, value, a.status)
            # Refused before the body: what is in it, or how long it is, says nothing.
            check(server.post(b"{").status == 401, "no key")
            a = server.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                           b"Expect: 100-continue\r\nContent-Length: 8000000\r\n\r\n")
            check(a.startswith(b"HTTP/1.1 401"), a[:100])
        finally:
            server.stop()


def test_other_sites_are_refused_everywhere(binary, model):
    """DNS rebinding: the Host is the attacker's name, or the Origin is."""
    server = Server(binary, model)
    try:
        for headers in ({"Host": "evil.example"}, {"Host": "localhost.evil.example"},
                        {"Host": "127.0.0.1.evil.example"}, {"Host": "evil.example:80"},
                        {"Host": "0.0.0.0"}, {"Host": "10.0.0.1"}, {"Host": "[::]"},
                        {"Host": "localhost:80@evil.example"}, {"Host": "localhost, evil.example"},
                        {"Host": "localhost evil.example"}, {"Host": "1270.0.0.1"},
                        {"Origin": "http://evil.example"}, {"Origin": "null"},
                        {"Origin": "http://localhost.evil.example"}, {"Origin": "file://"},
                        {"Origin": "http://localhost@evil.example"}, {"Origin": "localhost"},
                        {"Origin": "chrome-extension://abc"}, {"Origin": ""}):
            for method, path in (("GET", "/health"), ("GET", "/v1/models"), ("GET", "/nothing"),
                                 ("POST", "/v1/chat/completions"),
                                 ("OPTIONS", "/v1/chat/completions")):
                a = server.request(method, path, headers=headers)
                check(a.status == 403, headers, method, path, a.status)
                check(a.json["error"]["type"] == "permission_error", a.body)
                check(not [h for h in a.headers if h.lower().startswith("access-control")], headers)
    finally:
        server.stop()


def test_nothing_from_outside_is_in_the_log_as_it_came(binary, model):
    evil = b"x\r\n2026-01-01T00:00:00.000Z ERROR api msg=forged\x1b[2J\x1b]0;title\x07"
    quoted = json.dumps(evil.decode()).encode()
    percent = b"".join(b"%%%02x" % b for b in evil)
    head = b"Host: localhost\r\nConnection: close\r\n"
    said = b'"messages":[{"role":"user","content":"a"}],"max_tokens":1'
    for flags in ((), ("--log-level", "debug"),
                  ("--log-level", "debug", "--log-format", "json")):
        with tempfile.TemporaryFile() as log:
            server = Server(binary, model, flags, log=log)
            for request in (
                    b"GET /%s HTTP/1.1\r\n%s\r\n" % (evil, head),
                    b"GET /%s HTTP/1.1\r\n%s\r\n" % (percent, head),
                    b"GET /v1/models/%s HTTP/1.1\r\n%s\r\n" % (percent, head),
                    b"GET /health HTTP/1.1\r\n%sX-Request-Id: %s\r\n\r\n" % (head, evil),
                    b"GET /health HTTP/1.1\r\n%sUser-Agent: \xff%s\r\n\r\n" % (head, percent),
                    b"%s /health HTTP/1.1\r\n%s\r\n" % (evil[17:], head)):
                server.raw(request)
            name = server.model.encode()
            for body in (b'{"model":%s,%s}' % (quoted, said),
                         b'{"model":"%s",%s,"user":%s}' % (name, said, quoted),
                         b'{"model":"%s",%s,%s:1}' % (name, said, quoted),
                         b'{"model":"%s",%s,"stop":%s}' % (name, said, quoted[:40] + b'"'),
                         b'{"model":"%s","messages":[{"role":"user","content":%s}],'
                         b'"max_tokens":1}' % (name, quoted)):
                server.post(body)
            server.stop()
            log.seek(0)
            text = log.read()
        check(b"forged" not in text and b"%0d" not in text, "what clients sent:", text[-2000:])
        check(not [b for b in text if b < 32 and b != 10 or b == 127], "control characters", text)
        for line in text.splitlines():
            if "json" in flags:
                check(json.loads(line)["level"] in ("DEBUG", "INFO", "WARN", "ERROR"), line)
            else:
                check(line[:2] == b"20" and line[23:24] == b"Z", line)


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
