"""File descriptors that run out, a disk that is full: the daemon serves on."""
import resource
import socket
import time

from client import Server, check, cpu_seconds

FILES = 64


def open_many(port, n):
    sockets = []
    for _ in range(n):
        s = socket.socket()
        s.settimeout(5)
        sockets.append(s)
        s.connect(("127.0.0.1", port))
    return sockets


def served(s):
    """Whether the server answers on this connection."""
    try:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return b"200 OK" in s.recv(4096)
    except OSError:
        return False


def test_file_descriptors_run_out(binary, model):
    server = Server(binary, model)
    sockets = []
    try:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        sockets = open_many(server.port, 2 * FILES)
        check(served(sockets[0]), "the first connection is not served")
        before = cpu_seconds(server.process.pid)
        time.sleep(3)
        used = cpu_seconds(server.process.pid) - before
        check(used <= 0.3, f"{used:.2f} s of CPU in 3 s for connections that cannot be taken")
        answered = sum(served(s) for s in sockets[:FILES // 2])
        check(answered == FILES // 2, answered, "of the first", FILES // 2, "are served")
        for s in sockets:
            s.close()
        sockets = []
        time.sleep(0.5)
        check(server.text("Hello", max_tokens=3), "no answer after they were closed")
        return f"{used:.2f} s of CPU in 3 s"
    finally:
        for s in sockets:
            s.close()
        check(server.stop() == 0, "exit status", server.process.returncode)


def test_the_log_is_on_a_full_disk(binary, model):
    with open("/dev/full", "w") as full:
        server = Server(binary, model, log=full)
        try:
            want = server.text("Hello", max_tokens=5)
            check(want == server.text("Hello", max_tokens=5), "another answer")
            check(server.post(b"{").status == 400, "a bad request")
        finally:
            check(server.stop() == 0, "exit status", server.process.returncode)
