"""Certificates between nodes: made by `renga certs`, asked for off loopback, each wrong one refused."""
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time

from harness import DEMO, check, until
from marks import needs

QUESTION = "What is the capital of France?"


def make(lab, ring, name="tls", discovery=None):
    """-> the directory with a bundle for each node"""
    out = ring.dir / name
    p = subprocess.run([lab.binary, "certs", "--discovery-config-path", str(discovery or ring.discovery),
                        "--out", str(out)], capture_output=True, text=True)
    check(p.returncode == 0, "certs:", p.returncode, p.stderr)
    return out


def start(ring, tls, only=None):
    ring.flags = []
    for i in only if only is not None else range(ring.n):
        ring.start_node(i, "--tls-dir", tls[ring.ids[i]])


def bundles(ring, out):
    return {id: out / id for id in ring.ids}


def test_certs(lab):
    """an authority and a bundle per node, private keys for the owner alone; nothing is overwritten"""
    with lab.ring(3, DEMO) as ring:
        out = make(lab, ring)
        for id in ring.ids:
            check(sorted(os.listdir(out / id)) == ["ca.pem", "node.key", "node.pem"], os.listdir(out / id))
            check((out / id / "node.key").stat().st_mode & 0o777 == 0o600, "mode of", id)
        before = {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}
        make(lab, ring)
        after = {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}
        check(before == after, "a second run changed files")
        shutil.rmtree(out / "w2")
        make(lab, ring)
        check((out / "w2" / "node.pem").exists() and (out / "ca.pem").read_bytes() == before[out / "ca.pem"],
              "a bundle added later")
        if shutil.which("openssl"):
            for id in ring.ids:
                p = subprocess.run(["openssl", "verify", "-CAfile", out / "ca.pem", out / id / "node.pem"],
                                   capture_output=True, text=True)
                check(p.returncode == 0, p.stdout, p.stderr)
                p = subprocess.run(["openssl", "x509", "-in", out / id / "node.pem", "-noout", "-ext",
                                    "subjectAltName"], capture_output=True, text=True)
                check(f"DNS:{id}" in p.stdout, p.stdout)


@needs("hosts")
def test_a_ring_with_certificates(lab):
    with lab.ring(3, DEMO, lan=True) as ring:
        start(ring, bundles(ring, make(lab, ring)))
        ring.wait()
        want = lab.right(DEMO, QUESTION)
        for node in ring.nodes:
            node.ask(ring.chat(QUESTION, stream=True)).check_whole(want)
        ring.stop()


@needs("hosts")
def test_no_certificates_off_loopback(lab):
    """refused at the start, exit status 2; the line shows the way out"""
    with lab.ring(2, DEMO, lan=True) as ring:
        ring.flags = []
        ring.start_node(0)
        check(ring.head.wait_exit(5) == 2, "exit", ring.head.process.returncode, ring.head.log())
        last = ring.head.log().strip().splitlines()[-1]
        check(last.startswith("renga: ") and "--tls-dir" in last and "--insecure-peers" in last, last)


@needs("hosts")
def test_wrong_certificates(lab):
    """another authority, another node's, none, a name that is not in the file: never a ring, and why"""
    with lab.ring(2, DEMO, lan=True) as ring:
        good = bundles(ring, make(lab, ring))
        other = bundles(ring, make(lab, ring, "other"))

        def third(peers):
            peers["w1-old"] = peers.pop("w1")

        strange = make(lab, ring, "tls", ring.write_discovery(ring.dir / "third.json", third)) / "w1-old"
        cases = {"another authority": other["w1"], "the head's own": good["head"], "not listed": strange}
        for what, bundle in cases.items():
            start(ring, good, only=[0])
            ring.nodes[1].start(DEMO, "--discovery-config-path", ring.discovery, "--node-id", "w1",
                                "--tls-dir", bundle)
            if ring.nodes[1].process.poll() is None:
                ring.head.wait_log(r"(?i)w1.*(tls|certificate|ssl|handshake|cluster|refused)", 10)
            check(ring.head.health()[0] == 503, what, ring.head.health())
            ring.nodes[1].kill()
            ring.head.kill()
        # One side plain.
        start(ring, good, only=[0])
        ring.flags = ["--insecure-peers"]
        ring.start_node(1)
        ring.head.wait_log(r"(?i)w1.*(tls|certificate|ssl|handshake|plain)", 10)
        check(ring.head.health()[0] == 503, ring.head.health())
        ring.nodes[1].kill()
        # And the right one is still taken.
        start(ring, good, only=[1])
        ring.wait()
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))


@needs("hosts")
def test_a_damaged_bundle(lab):
    """a missing or cut file is named at the start, exit status 2"""
    with lab.ring(2, DEMO, lan=True) as ring:
        out = make(lab, ring)
        for name in ("ca.pem", "node.pem", "node.key"):
            for how in ("gone", "cut"):
                bad = ring.dir / f"bad-{name}-{how}"
                shutil.copytree(out / "head", bad)
                if how == "gone":
                    (bad / name).unlink()
                else:
                    (bad / name).write_bytes((bad / name).read_bytes()[:100])
                ring.flags = []
                ring.start_node(0, "--tls-dir", bad)
                check(ring.head.wait_exit(5) == 2, name, how, "exit", ring.head.process.returncode,
                      ring.head.log())
                last = ring.head.log().strip().splitlines()[-1]
                check(last.startswith("renga: ") and name in last, name, how, last)


# ---- certificates at the port itself: a client and a server that are not Renga ----------------


HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # and empty SETTINGS


def signed(ring, out, name, id, begin_s, end_s):
    """A bundle for a node, signed by the authority of `out`, valid between these seconds from now."""
    bundle = ring.dir / name
    bundle.mkdir()
    stamp = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + s)) for s in (begin_s, end_s)]
    (bundle / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=c\n[c]\nnew_certs_dir={bundle}\ndatabase={bundle}/index\nrand_serial=yes\n"
        f"default_md=sha256\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n"
        f"[x]\nbasicConstraints=critical,CA:FALSE\n" + (f"subjectAltName=DNS:{id}\n" if id else ""))
    (bundle / "index").write_text("")
    for command in (
            ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
             f"/CN={id or 'nobody'}", "-keyout", bundle / "node.key", "-out", bundle / "node.csr"],
            ["ca", "-batch", "-notext", "-config", bundle / "ca.cnf", "-cert", out / "ca.pem", "-keyfile",
             out / "ca.key", "-in", bundle / "node.csr", "-out", bundle / "node.pem", "-startdate", stamp[0],
             "-enddate", stamp[1]]):
        p = subprocess.run(["openssl", *map(str, command)], capture_output=True, text=True)
        check(p.returncode == 0, command[0], p.stderr)
    shutil.copy(out / "ca.pem", bundle / "ca.pem")
    return bundle


def client(bundle):
    c = ssl.create_default_context(cafile=bundle / "ca.pem")
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE  # what the node thinks of us is the question
    c.set_alpn_protocols(["h2"])
    c.load_cert_chain(bundle / "node.pem", bundle / "node.key")
    return c


def gets_http2(ring, context):
    """Whether the worker speaks HTTP/2 with this client, beyond the handshake."""
    host = ring.net.hosts[1]
    sock = ring.net.hosts[0].connect(host.address, host.port, 5)
    try:
        if context:
            sock = context.wrap_socket(sock, server_hostname="w1")
        sock.sendall(HELLO)
        return len(sock.recv(9)) > 0
    except OSError:  # ssl's errors among them
        return False
    finally:
        sock.close()


@needs("hosts", "openssl")
def test_certificates_at_the_door(lab):
    """a client that is not Renga: expired, not yet valid, of another authority, none, no TLS at all: HTTP/2
    is not reached; with a good one it is"""
    day = 86400
    with lab.ring(2, DEMO, lan=True) as ring:
        out = make(lab, ring)
        start(ring, bundles(ring, out), only=[1])
        ring.nodes[1].wait_log("listening for peers")
        check(gets_http2(ring, client(signed(ring, out, "good", "head", -day, day))), "a good one is refused")
        for name, begin, end in (("expired", -2 * day, -60), ("early", 3600, day)):
            bad = signed(ring, out, name, "head", begin, end)
            check(not gets_http2(ring, client(bad)), name, "is let in")
            # And Renga itself says so before it begins.
            ring.nodes[0].start(DEMO, "--discovery-config-path", ring.discovery, "--node-id", "head",
                                "--tls-dir", bad)
            check(ring.head.wait_exit(5) == 2, "exit", ring.head.process.returncode)
            last = ring.head.log().strip().splitlines()[-1]
            check(last.startswith("renga: ") and "node.pem" in last, last)
        other = make(lab, ring, "other")
        check(not gets_http2(ring, client(other / "head")), "another authority's is let in")
        none = ssl.create_default_context(cafile=out / "ca.pem")
        none.check_hostname, none.verify_mode = False, ssl.CERT_NONE
        none.set_alpn_protocols(["h2"])
        check(not gets_http2(ring, none), "a client without one is let in")
        check(not gets_http2(ring, None), "plain bytes reach HTTP/2")


@needs("hosts", "openssl")
def test_servers_that_are_not_the_node(lab):
    """in the worker's place a server with an expired, a foreign or another node's certificate, or without
    TLS: the head sends it nothing"""
    day = 86400
    with lab.ring(2, DEMO, lan=True) as ring:
        out = make(lab, ring)
        cases = {"expired": signed(ring, out, "expired", "w1", -2 * day, -60),
                 "another node's": signed(ring, out, "head2", "head", -day, day),
                 "another authority's": make(lab, ring, "other") / "w1", "plain": None,
                 "good": signed(ring, out, "good", "w1", -day, day)}
        start(ring, bundles(ring, out), only=[0])
        for what, bundle in cases.items():
            got = accept_one(ring, bundle)
            # Without TLS the greeting of TLS is all that comes.
            check((b"HTTP/2.0" in got) == (what == "good"), what, "was sent", got[:60])
        check(ring.head.health()[0] == 503, ring.head.health())


def accept_one(ring, bundle, seconds=6):
    """-> what the head says to whoever listens in the worker's place"""
    host = ring.net.hosts[1]
    with host.inside():
        server = socket.create_server((host.address, host.port))
    server.settimeout(seconds)
    try:
        while True:
            sock, _ = server.accept()
            sock.settimeout(2)
            try:
                if bundle:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(bundle / "node.pem", bundle / "node.key")
                    context.set_alpn_protocols(["h2"])
                    sock = context.wrap_socket(sock, server_side=True)
                return sock.recv(4096)
            except OSError:
                return b""
            finally:
                sock.close()
    finally:
        server.close()


@needs("hosts", "openssl")
def test_a_certificate_that_expires_while_the_ring_runs(lab):
    """the links that are there live on, and new ones are refused: the node is out after its next restart"""
    with lab.ring(2, DEMO, lan=True) as ring:
        out = make(lab, ring)
        good = bundles(ring, out)
        soon = time.time() + 8
        good["w1"] = signed(ring, out, "soon", "w1", -86400, 8)
        start(ring, good)
        ring.wait()
        want = lab.right(DEMO, QUESTION)
        ring.head.ask(ring.chat(QUESTION)).check_whole(want)
        time.sleep(max(0, soon - time.time()) + 2)
        ring.head.ask(ring.chat(QUESTION, stream=True)).check_whole(want)
        check(not gets_http2(ring, client(good["w1"])), "a new link with an expired certificate")
        ring.nodes[1].kill()
        start(ring, good, only=[1])
        check(ring.nodes[1].wait_exit(5) == 2 and "expired" in ring.nodes[1].log(), ring.nodes[1].log())


# ---- what both sides say ---------------------------------------------------------------------


class Place:
    """The third node's place in a ring of three that serves with two."""

    def __init__(self, lab, ring, want):
        self.lab, self.ring, self.want = lab, ring, want
        self.node = ring.nodes[2]

    def comes(self, id, bundle, theirs, ours, discovery=None):
        """Somebody comes with this bundle: a line that fits on each side, and the others serve on."""
        marks = [len(n.log()) for n in self.ring.nodes[:2]]
        flags = ["--tls-dir", bundle] if bundle else ["--insecure-peers"]
        self.node.start(DEMO, "--discovery-config-path", discovery or self.ring.discovery, "--node-id", id,
                        "--threads", 1, *flags)
        if theirs:
            self.node.wait_log(theirs, 8)
        until(lambda: any(re.search(ours, n.log()[m:]) for n, m in zip(self.ring.nodes, marks)), 8,
              lambda: f"no {ours!r}\n" + self.ring.logs())
        for node in self.ring.nodes[:2]:
            node.ask(self.ring.chat(QUESTION)).check_whole(self.want)
        check(self.node.health()[0] != 200, "it serves")
        for node, mark in zip(self.ring.nodes, marks):
            said = node.log()[mark:].count("\n")
            check(said <= 8, said, "lines in", node.log_path.name, node.log()[mark:])
        self.node.kill()


@needs("hosts", "openssl")
def test_each_refusal_is_a_line_on_both_sides(lab):
    """another authority, a name that is not in the file, files that were replaced while the node ran (--long: no
    TLS): both logs say why, the rest of the ring serves on"""
    want = lab.right(DEMO, QUESTION)
    with lab.ring(3, DEMO, lan=True) as ring:
        out = make(lab, ring)
        good, other = bundles(ring, out), bundles(ring, make(lab, ring, "other"))

        def stranger(peers):
            moved = {"w9": peers.pop("w2"), **peers}
            moved["head"]["head"] = True
            return moved

        nine = ring.write_discovery(ring.dir / "nine.json", stranger)
        ring.flags = []
        for i in (0, 1):
            ring.start_node(i, "--tls-dir", good[ring.ids[i]], "--wait-for-peers", 1)
        ring.wait(nodes=ring.nodes[:2])
        place = Place(lab, ring, want)
        ended = "a peer stays out: TLS: .*ended the handshake"
        place.comes("w2", other["w2"], ended, "w2 is not there: .*certificate verify failed")
        place.comes("w9", make(lab, ring, "tls", nine) / "w9", "it refuses this node's link",
                    "its certificate is of 'w9', and no node", nine)
        if lab.long:
            place.comes("w2", None, None, "w2 is not there: .*answers without TLS")
        # Files are read at the start: who replaces them changes nothing until then.
        for name in ("ca.pem", "node.pem", "node.key"):
            shutil.copy(other["w1"] / name, good["w1"] / name)
        for node in ring.nodes[:2]:
            node.ask(ring.chat(QUESTION)).check_whole(want)
        ring.nodes[1].kill()
        ring.start_node(1, "--tls-dir", good["w1"])
        ring.nodes[1].wait_log(ended, 8)
        ring.head.wait_log("w1 is not there: .*certificate verify failed", 8)
        check(ring.head.health()[0] == 503, ring.head.health())
        ring.nodes[1].kill()
        shutil.rmtree(good["w1"])
        make(lab, ring)
        ring.start_node(1, "--tls-dir", good["w1"])
        ring.wait(nodes=ring.nodes[:2])
        ring.nodes[1].ask(ring.chat(QUESTION)).check_whole(want)
