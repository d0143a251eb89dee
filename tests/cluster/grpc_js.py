"""A gRPC client that nobody here wrote (grpc-js) plays the head of a worker: tests/cluster/grpc_js.mjs."""
import re
import subprocess
from pathlib import Path

import tls
from harness import DEMO, ROOT, check
from marks import needs

MODULES = ROOT / ".cache" / "grpc" / "node_modules"


def run(ring, tls_dir=None):
    """-> the checks that passed"""
    host = ring.net.hosts[1]
    command = ["node", ROOT / "tests" / "cluster" / "grpc_js.mjs", MODULES.parent,
               ROOT / "proto" / "renga.proto", f"{host.address}:{host.port}", ring.ids[1], ring.ids[0]]
    if tls_dir:
        command.append(Path(tls_dir))
    with ring.net.hosts[0].inside():
        p = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    check(p.returncode == 0, p.stdout, p.stderr[-2000:])
    check(ring.nodes[1].process.poll() is None, "the worker ended:", ring.nodes[1].log()[-1000:])
    return re.search(r"^(\d+) passed, 0 failed$", p.stdout, re.M)[1] + " checks"


@needs("grpc_js")
def test_a_foreign_client(lab):
    """hello, heartbeats, refusals, limits, probe and health, as the proto file says them"""
    with lab.ring(2, DEMO) as ring:
        ring.start_node(1)
        ring.nodes[1].wait_log("listening for peers")
        return run(ring)


@needs("grpc_js")
def test_a_foreign_client_with_certificates(lab):
    """the same over mutual TLS"""
    with lab.ring(2, DEMO) as ring:
        bundles = tls.bundles(ring, tls.make(lab, ring))
        tls.start(ring, bundles, only=[1])
        ring.nodes[1].wait_log("listening for peers")
        return run(ring, bundles["head"])
