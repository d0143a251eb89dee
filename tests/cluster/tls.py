"""Certificates between nodes: made by `renga certs`, asked for off loopback, each wrong one refused."""
import json
import os
import shutil
import subprocess

from harness import DEMO, check
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
