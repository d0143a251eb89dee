"""More than there is room for: requests, unread streams, descriptors, disk, memory, threads."""
import contextlib
import itertools
import json
import os
import resource
import select
import socket
import threading
import time
from pathlib import Path

from basic import idle, settled
from harness import MIB, NO_END, check, cpu_seconds, until
from marks import needs

LONG = {"max_tokens": 3500, "logit_bias": NO_END}
TINY = {"max_tokens": 2, "logit_bias": NO_END}
QUEUE = 256
JSON = {"Content-Type": "application/json"}


def begin(node, body, rcvbuf=0):
    """A request whose answer nobody reads yet. -> its socket"""
    raw = json.dumps(body).encode()
    with node.host.inside():
        s = socket.socket()
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.settimeout(10)
        s.connect((node.api_host, node.host.api_port))
    s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
    return s


@contextlib.contextmanager
def occupied(ring, n):
    """The head has that many requests that do not end by themselves soon."""
    sockets = [begin(ring.head, ring.chat("Hold", stream=True, **LONG)) for _ in range(n)]
    try:
        check(sockets[0].recv(12) == b"HTTP/1.1 200", "no stream begins")
        yield
    finally:
        for s in sockets:
            s.close()


class Crowd:
    """Requests at the same time, whole answers."""

    def __init__(self, ring, node, n):
        self.answers, self.failures, body = [], [], json.dumps(ring.chat("Tiny", **TINY))

        def ask():
            sent = time.monotonic()
            try:
                answer = node.request("POST", "/v1/chat/completions", body, timeout=60)
                self.answers.append((answer, time.monotonic() - sent))
            except OSError as e:
                self.failures.append(repr(e))

        self.threads = [threading.Thread(target=ask) for _ in range(n)]
        for t in self.threads:
            t.start()

    def refused(self):
        return [(a, s) for a, s in self.answers if a.status != 200]

    def join(self):
        for t in self.threads:
            t.join()
        check(not self.failures, len(self.failures), "without an answer:", self.failures[:2])
        return self


def check_refusals(crowd, statuses, seconds):
    for answer, took in crowd.refused():
        check(answer.status in statuses and answer.json["error"]["code"] == "queue_full",
              answer.status, answer.body[:200])
        check(answer.headers["Retry-After"] == "1", "no Retry-After:", answer.headers)
        check(took <= seconds, f"a refusal took {took:.1f} s")


def check_right(crowd, want):
    texts = {a.json["choices"][0]["message"]["content"] for a, _ in crowd.answers if a.status == 200}
    check(texts <= {want}, "another answer:", texts, want)


def test_more_requests_than_the_queue(lab):
    """the ones too many get a 429 with Retry-After at once, at the head and at another node; the queued
    ones are answered right"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Tiny", **TINY)
    with lab.ring(2, tiny) as ring:
        ring.start("--parallel", 1)
        ring.head.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        with occupied(ring, 3):
            crowd = Crowd(ring, ring.head, QUEUE + 20)
            until(lambda: len(crowd.refused()) >= 20, 8, lambda: f"{len(crowd.refused())} refused")
            late = Crowd(ring, ring.nodes[1], 20).join()
            check(len(late.refused()) == 20, "20 through the worker, refused:", len(late.refused()))
            check_refusals(late, (429,), 2)
        crowd.join()
        check_refusals(crowd, (429,), 8)
        for c in (crowd, late):
            check_right(c, want)
        whole = len(crowd.answers) - len(crowd.refused())
        check(whole >= QUEUE - 2, "only", whole, "were answered")
        for node in ring.nodes:
            node.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        return f"{whole} answered, {len(crowd.refused())} + 20 refused; slowest refusal {slowest(late):.2f} s"


def slowest(crowd):
    return max(s for _, s in crowd.refused())


def test_more_forwarded_requests_than_a_head_takes(lab):
    """through one worker: each is answered right, or refused with Retry-After; none stalls"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Tiny", **TINY)
    with lab.ring(2, tiny) as ring:
        ring.start("--parallel", 1)
        ring.nodes[1].ask(ring.chat("Tiny", **TINY)).check_whole(want)
        before = [n.holds() for n in ring.nodes]
        with occupied(ring, 1):
            crowd = Crowd(ring, ring.nodes[1], 200)
            until(lambda: len(crowd.refused()) >= 200 - 128, 8, lambda: f"{len(crowd.refused())} refused")
        crowd.join()
        check_refusals(crowd, (429,), 8)
        check_right(crowd, want)
        check(len(crowd.refused()) == 200 - 128, len(crowd.refused()), "refused")
        settled(ring, before)
        ring.nodes[1].ask(ring.chat("Tiny", **TINY)).check_whole(want)
        return f"{200 - len(crowd.refused())} answered, {len(crowd.refused())} refused"


# ---- streams that nobody reads ---------------------------------------------------------------


WIDE = {"logprobs": True, "top_logprobs": 20, **LONG}  # some 2 KB a token


def unread(node, ring):
    return begin(node, ring.chat("Wide", stream=True, **WIDE), rcvbuf=4096)


def was_cut(s):
    """Whether the other side has reset the connection; reads nothing."""
    p = select.poll()
    p.register(s, 0)
    return any(what & (select.POLLERR | select.POLLHUP) for _, what in p.poll(0))


def neighbours(ring, want, fields):
    """A stream through each node at once. -> the longest time of one, its longest silence"""
    took, gaps = [], []

    def ask(node):
        last = [time.monotonic()]

        def note(reply):
            now = time.monotonic()
            gaps.append(now - last[0])
            last[0] = now

        reply = node.ask(ring.chat("Beside", stream=True, **fields), on_text=note)
        took.append((reply, reply.seconds))

    threads = [threading.Thread(target=ask, args=(n,)) for n in ring.nodes]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for reply, _ in took:
        reply.check_whole(want)
    return max(s for _, s in took), max(gaps)


def test_a_stream_that_nobody_reads(lab):
    """is cut at its limit, at the head and through a worker; the streams beside it keep their bytes and
    their rate, and nothing is left of it"""
    tiny = lab.tiny()
    fields = {"max_tokens": 500, "logit_bias": NO_END}
    want = lab.right(tiny, "Beside", **fields)
    said = []
    with lab.ring(2, tiny) as ring:
        ring.start()
        neighbours(ring, want, fields)
        before = [n.holds() for n in ring.nodes]
        for node in ring.nodes:
            # What runs beside it is the same load, but read.
            read = threading.Thread(target=node.ask, args=(ring.chat("Wide", stream=True, **{
                **WIDE, "max_tokens": 700}),))
            read.start()
            usual, _ = neighbours(ring, want, fields)
            read.join()
            s = unread(node, ring)
            began = time.monotonic()
            beside, gap = neighbours(ring, want, fields)
            until(lambda: was_cut(s), 45, "it is not cut")
            cut = time.monotonic() - began
            s.close()
            settled(ring, before)
            until(lambda: idle(ring), 5, "it is still computed")
            check(beside <= 3 * usual + 1, f"{beside:.1f} s beside an unread stream, {usual:.1f} s beside a read")
            check(gap <= 2, f"a silence of {gap:.1f} s beside an unread stream")
            said.append(f"{node.log_path.stem}: cut after {cut:.1f} s, beside it {beside:.1f} s, usual {usual:.1f} s")
        neighbours(ring, want, fields)
    return "; ".join(said)


# ---- descriptors -----------------------------------------------------------------------------


def few_descriptors(node, spare):
    """Leaves it that many more than it has open. -> the limits before"""
    most = max(int(fd) for fd in os.listdir(f"/proc/{node.pid}/fd")) + 1
    old = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (most + spare, old[1]))
    return old


def crowd_of_connections(node, n):
    sockets = []
    for _ in range(n):
        with node.host.inside():
            s = socket.socket()
        s.settimeout(3)
        sockets.append(s)
        s.connect((node.api_host, node.host.api_port))
    return sockets


def cpu_share(node, seconds):
    before = cpu_seconds(node.pid)
    time.sleep(seconds)
    return (cpu_seconds(node.pid) - before) / seconds


@needs("hosts")
def test_descriptors_run_out(lab):
    """of a node, by connections to its API, while it serves: it neither spins nor loses its ring, and takes
    connections again when there are descriptors"""
    tiny = lab.tiny()
    fields = {"max_tokens": 30, "logit_bias": NO_END}
    want = lab.right(tiny, "Few", **fields)
    said = []
    with lab.ring(3, tiny, lan=True) as ring:
        ring.start()
        for node in ring.nodes:
            node.ask(ring.chat("Few", **fields)).check_whole(want)
        for node, other in ((ring.nodes[1], ring.head), (ring.head, ring.head)):
            kept = other.connection()
            kept.connect()
            usual = cpu_share(node, 2)
            old = few_descriptors(node, 24)
            crowd = crowd_of_connections(node, 80)
            try:
                time.sleep(0.5)
                share = cpu_share(node, 3)
                check(share <= 0.1 + usual, f"{100 * share:.0f} % of a processor, {100 * usual:.0f} % before")
                # A connection that was there before is served, and the ring computes.
                kept.request("POST", "/v1/chat/completions", json.dumps(ring.chat("Few", **fields)), JSON)
                answer = json.loads(kept.getresponse().read())
                check(answer["choices"][0]["message"]["content"] == want, answer)
            finally:
                resource.prlimit(node.pid, resource.RLIMIT_NOFILE, old)
                for s in crowd:
                    s.close()
                kept.close()
            until(lambda: node.health()[0] == 200, 5, node.health)
            node.ask(ring.chat("Few", **fields)).check_whole(want)
            said.append(f"{node.log_path.stem} {100 * share:.0f} % (before {100 * usual:.0f} %)")
        check(ring.head.log().count("the ring serves") == 1, "the ring broke", ring.head.log())
        # A peer that comes anew is taken.
        ring.nodes[2].kill()
        ring.start_node(2)
        until(lambda: all(n.health()[0] == 200 for n in ring.nodes), 15, ring.logs)
        for node in ring.nodes:
            node.ask(ring.chat("Few", **fields)).check_whole(want)
    return "processor: " + ", ".join(said)


def test_few_descriptors_from_the_start(lab):
    """a node with 64 of them: clients that hold connections leave those that its peers need"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Tiny", **TINY)
    with lab.ring(3, tiny) as ring:
        ring.nodes[1].runner = ["prlimit", "--nofile=64:64"]
        ring.start()
        node = ring.nodes[1]
        node.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        crowd = crowd_of_connections(node, 80)
        time.sleep(0.3)
        ring.nodes[2].kill()
        ring.start_node(2)
        took = until(lambda: ring.head.health()[0] == ring.nodes[2].health()[0] == 200, 15, ring.logs)
        ring.head.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        for s in crowd:
            s.close()
        until(lambda: node.health()[0] == 200, 5, node.health)
        node.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        return f"a peer came back within {took:.1f} s under full connections"


def no_descriptors(node):
    """Not one more than it has open. -> the limits before"""
    have = {int(fd) for fd in os.listdir(f"/proc/{node.pid}/fd")}
    free = next(fd for fd in itertools.count() if fd not in have)
    old = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (free, old[1]))
    return old


def test_a_peer_comes_while_there_is_no_descriptor(lab):
    """links are cut and cannot be made anew, for the accepting node may have no descriptor; when it may,
    they are: nothing is restarted by hand, and the links that lived through it live on"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Tiny", **TINY)
    said = []
    with lab.ring(3, tiny) as ring:
        ring.start()
        ring.head.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        for node in ring.nodes[1:]:
            open_before = node.holds()[0]
            ring.head.kill()
            until(lambda: node.holds()[0] < open_before, 10, "its links to the head are still open")
            time.sleep(0.5)
            old = no_descriptors(node)
            try:
                ring.start_node(0)
                node.wait_log("no descriptor for a peer's connection", 10)
                time.sleep(3)
                check(ring.head.health()[0] != 200, "it links without a descriptor")
            finally:
                resource.prlimit(node.pid, resource.RLIMIT_NOFILE, old)
            took = until(lambda: all(n.health()[0] == 200 for n in ring.nodes), 15, ring.logs)
            for n in ring.nodes:
                n.ask(ring.chat("Tiny", **TINY)).check_whole(want)
            said.append(f"{node.log_path.stem}: all serve {took:.1f} s after it may have descriptors again")
        ring.stop()
    return "; ".join(said)


# ---- disk ------------------------------------------------------------------------------------


def test_the_logs_are_on_a_full_disk(lab):
    """a log file on a full disk, stderr of another node that takes nothing, stderr of a third that is a pipe
    which nobody reads: all serve on; when there is room again the file has whole lines"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Tiny", **TINY)
    with lab.ring(3, tiny) as ring:
        place = ring.dir / "disk"
        place.mkdir()
        head, worker, other = ring.nodes
        head.runner = ["unshare", "-m", "sh", "-c",
                       f"mount -t tmpfs -o size=64k renga-test {place} && exec \"$@\"", "sh"]
        worker.runner = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"]
        fifo = ring.dir / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        other.runner = ["sh", "-c", f"exec \"$@\" 2>{fifo}", "sh"]
        ring.start_node(0, "--log-file", place / "head.log")
        ring.start_node(1)
        ring.start_node(2, "--log-level", "debug")
        ring.wait()
        inside = Path(f"/proc/{head.pid}/root{place}")
        filler = inside / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as f:
            while True:
                f.write(bytes(1000))
        # More lines than the last page of the log has room for, and than a pipe takes.
        for _ in range(120):
            for node in ring.nodes:
                node.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        seconds = max(node.ask(ring.chat("Tiny", **TINY)).check_whole(want).seconds for node in ring.nodes)
        check(seconds <= 2, f"an answer took {seconds:.1f} s")
        size = (inside / "head.log").stat().st_size
        filler.unlink()
        for _ in range(3):
            head.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        text = (inside / "head.log").read_text()
        check(len(text) > size, "nothing is logged any more")
        last = text[size:].splitlines()
        check(all(line.endswith('"') and 'msg="' in line for line in last if line), "torn lines:", last)
        ring.stop()
        os.close(reader)


# ---- memory and threads ----------------------------------------------------------------------


groups = itertools.count()


@contextlib.contextmanager
def group(controller, **limits):
    """A control group (version 1) with these limits; None where none can be made."""
    path = Path(f"/sys/fs/cgroup/{controller}/renga-test-{os.getpid()}-{next(groups)}")
    try:
        path.mkdir()
        for name, value in limits.items():
            (path / name.replace("__", ".")).write_text(str(value))
    except OSError:
        with contextlib.suppress(OSError):
            path.rmdir()
        yield None
        return
    try:
        yield path
    finally:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.05)


def inside_group(path):
    return ["sh", "-c", f"echo $$ >{path}/cgroup.procs && exec \"$@\"", "sh"]


def one_line(node, code):
    check(node.wait_exit(60) == code, "exit", node.process.returncode, node.log()[-800:])
    lines = node.log().strip().splitlines()
    check(sum(x.startswith("renga: ") for x in lines) == 1 and lines[-1].startswith("renga: "), lines[-5:])
    return lines[-1]


def can_group():
    with group("memory") as memory, group("pids") as pids:
        return memory is not None and pids is not None


@needs("groups")
def test_a_memory_limit(lab):
    """of a control group: a part that does not fit is refused with numbers and exit status 3 before anything
    is loaded; a smaller one is served under the same limit"""
    tiny = lab.tiny()
    want = lab.right(tiny, "Tiny", **TINY)
    with lab.ring(2, tiny, memory=[16384, 16384]) as ring, \
            group("memory", memory__limit_in_bytes=160 * MIB) as small:
        ring.start_node(1)
        ring.head.runner = inside_group(small)
        ring.start_node(0, "--parallel", 256, "--ctx", 4096)
        line = one_line(ring.head, 3)
        check("GB" in line, "no numbers:", line)
        check(not ring.nodes[1].maps(tiny), "the worker loaded something")
        ring.start_node(0, "--parallel", 1, "--ctx", 256)
        ring.wait()
        ring.head.ask(ring.chat("Tiny", **TINY)).check_whole(want)
        check(int((small / "memory.failcnt").read_text()) == 0, "it met the limit")
        ring.stop()
        return line


@needs("groups")
def test_a_worker_with_a_memory_limit(lab):
    """its part does not fit: the head says so with numbers, and nobody is killed for memory"""
    tiny = lab.tiny()
    with lab.ring(2, tiny, memory=[16384, 16384]) as ring, \
            group("memory", memory__limit_in_bytes=160 * MIB) as small:
        ring.nodes[1].runner = inside_group(small)
        ring.start_node(1)
        ring.start_node(0, "--parallel", 256, "--ctx", 4096, "--layers", "w1=0-4,head=5-6")
        line = one_line(ring.head, 3)
        check("GB" in line and "w1" in line, "no numbers of w1:", line)
        check(ring.nodes[1].process.poll() is None, "the worker ended", ring.nodes[1].log()[-500:])
        check(int((small / "memory.failcnt").read_text()) == 0, "it met the limit")
        return line


def test_a_limit_of_the_address_space(lab):
    """a start that cannot have the memory it needs ends with one line; no signal"""
    tiny, said = lab.tiny(), []
    with lab.ring(2, tiny) as ring:
        for mib in (64, 100, 150):
            ring.head.runner = ["prlimit", f"--as={mib * MIB}"]
            ring.start_node(0)
            end = time.monotonic() + 3
            while time.monotonic() < end and ring.head.process.poll() is None:
                time.sleep(0.05)
            code = ring.head.process.poll()
            said.append(f"{mib} MiB: {'runs' if code is None else code}")
            if code is None:
                ring.head.kill()
                continue
            check(code > 0, f"{mib} MiB: ended by signal", code, ring.head.log()[-600:])
            last = ring.head.log().strip().splitlines()[-1]
            check(mib <= 64 or last.startswith("renga: "), f"{mib} MiB:", last)
    return ", ".join(said)


@needs("groups")
def test_a_limit_of_threads(lab):
    """too few threads at the start: one line and an exit status, no signal; enough: it serves"""
    tiny, said = lab.tiny(), []
    want = lab.right(tiny, "Tiny", **TINY)
    for most in (1, 4, 12, 24, 40):
        with lab.ring(1, tiny) as ring, group("pids", pids__max=most) as few:
            ring.head.runner = inside_group(few)
            ring.start_node(0)
            end = time.monotonic() + 5
            while time.monotonic() < end and ring.head.process.poll() is None and \
                    ring.head.health()[0] != 200:
                time.sleep(0.05)
            if ring.head.process.poll() is None:
                ring.head.ask(ring.chat("Tiny", **TINY)).check_whole(want)
                ring.stop()
                said.append(f"{most}: serves")
            else:
                code = ring.head.process.returncode
                said.append(f"{most}: {code}")
                check(code > 0, most, "threads: ended by signal", code, ring.head.log()[-600:])
                line = one_line(ring.head, code)
                check("thread" in line, "the line does not speak of threads:", line)
    return ", ".join(said)
