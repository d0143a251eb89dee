#!/usr/bin/env python3
"""Tests of a ring: real daemons on hosts of their own (network namespaces), and what goes wrong there.

usage: run.py --binary build/release/renga [--filter TEXT,...] [--long] [--list] [--jobs N]
              [--seeds N] [--table FILE] [--smollm2 DIR] [--arm build/aarch64/renga]

The oracle of every test: the bytes that a client gets are the answer of one node without faults, or a
beginning of it and then the error.  --long adds what takes minutes.  --jobs: that many at a time (jobs.py).
--seeds: how often each row of the table of faults (survive.py, rows.py); --table: its rows, as docs/TESTING.md
has them.  --smollm2 is the checkpoint of tools/get_smollm2; --arm a renga for 64-bit Arm, run
under qemu-aarch64.  What is left out is said.  Without root the tests run in a user namespace; where that
is not allowed either, on loopback addresses alone.  The last line is `N passed, N failed`.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import basic
import crowds
import faults
import growth
import grpc_js
import harness
import hostile
import hosts
import jobs
import kimi
import liar
import net
import overload
import own_range
import rows
import same_bits
import shards
import shown
import survive
import tls

MODULES = (basic, same_bits, hosts, faults, survive, rows, overload, crowds, shards, shown,
           own_range, growth, tls, grpc_js, hostile, liar, kimi)
# They measure rates, memory and processor time: nothing runs beside one of their tests.
ALONE = (overload, crowds, hostile)


def enter_user_namespace():
    """Starts this program again where it may make namespaces, if it may not here."""
    if net.possible() or os.environ.get("RENGA_CLUSTER_USER_NAMESPACE") or not shutil.which("unshare"):
        return
    probe = subprocess.run(["unshare", "-Urn", "true"], capture_output=True)
    if probe.returncode == 0:
        os.environ["RENGA_CLUSTER_USER_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-Urn", sys.executable, *sys.argv])


def tests_of(module):
    return [(f"{module.__name__}.{n}", f) for n, f in vars(module).items() if n.startswith("test_")]


def why_not(fn, lab):
    """Why a test is left out; None: it is not."""
    if getattr(fn, "long", False) and not lab.long:
        return "takes minutes (--long)"
    for what in getattr(fn, "needs", ()):
        if what == "hosts" and not net.possible():
            return "no network namespaces here"
        if what == "drop" and not net.can_drop():
            return "no iptables here (tools/install_packages cluster)"
        if what == "proxy" and not lab.fault_proxy.exists():
            return f"no {lab.fault_proxy} (build the target fault_proxy)"
        if what == "faketime" and not Path(survive.FAKETIME).exists():
            return "no libfaketime here (tools/install_packages cluster)"
        if what == "bad_disk" and not lab.bad_disk.exists():
            return f"no {lab.bad_disk} (build the target bad_disk)"
        if what == "groups" and not overload.can_group():
            return "no control groups of version 1 that may be made here"
        if what == "openssl" and not shutil.which("openssl"):
            return "no openssl here"
        if what == "smollm2" and not lab.smollm2:
            return "no checkpoint of SmolLM2 (--smollm2)"
        if what == "grpc_js" and not grpc_js.MODULES.exists():
            return "no grpc-js (tools/install_packages grpc)"
        if what == "h2" and not hostile.HERE:
            return "no python3-h2 (tools/install_packages grpc)"
        if what == "arm" and not lab.arm:
            return "no renga for Arm (--arm)"
    return None


class Told:
    """Prints how each test ended, and counts them."""

    def __init__(self, table):
        self.passed = self.failed = 0
        self.table = table

    def __call__(self, name, status, said, seconds, out=""):
        if out:
            print(out, end="", file=sys.stderr if status == "FAIL" else sys.stdout)
        self.passed += status == "ok"
        self.failed += status != "ok"
        print(f"{status:4} {name} ({seconds:.1f} s){': ' + str(said) if said else ''}", flush=True)
        fn = next(f for m in MODULES for n, f in tests_of(m) if n == name)
        if self.table and hasattr(fn, "row"):
            with open(self.table, "a") as f:
                print(said.row(fn.row) if status == "ok" else f"| {fn.row} | FAILED | | |", file=f)


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--binary", required=True, type=Path)
    p.add_argument("--filter", default="")
    p.add_argument("--long", action="store_true")
    p.add_argument("--list", action="store_true")
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--seeds", type=int)
    p.add_argument("--table", type=Path)
    p.add_argument("--smollm2", type=Path)
    p.add_argument("--arm", type=Path)
    p.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    tests = [(n, f) for m in MODULES for n, f in tests_of(m) if any(x in n for x in args.filter.split(","))]
    if args.list:
        for name, fn in tests:
            print(f"{name}: {fn.__doc__}" if fn.__doc__ else name)
        return 0
    enter_user_namespace()
    with tempfile.TemporaryDirectory(prefix="renga-cluster-") as scratch:
        os.chmod(scratch, 0o755)
        lab = harness.Lab(args.binary.resolve(), scratch, args.long)
        lab.fault_proxy = args.binary.resolve().parent / "tests" / "fault_proxy"
        lab.bad_disk = lab.fault_proxy.with_name("libbad_disk.so")
        lab.seeds = args.seeds
        lab.smollm2, lab.arm = args.smollm2, args.arm and args.arm.resolve()
        told = Told(args.table)
        here = []
        for name, fn in tests:
            reason = why_not(fn, lab)
            if reason:
                print(f"skip {name}: {reason}")
            else:
                fn.alone = getattr(fn, "alone", False) or name.split(".")[0] in [m.__name__ for m in ALONE]
                here.append((name, fn))
        if args.jobs > 1:
            survive.prepare(lab)  # once, not in every process
            jobs.run(here, lab, args.jobs, told)
        else:
            for name, fn in here:
                begin = time.monotonic()
                result = jobs.call(fn, lab, jobs.seeds_of(fn, lab) if hasattr(fn, "piece") else None)
                told(name, *result, time.monotonic() - begin)
        if args.keep:
            shutil.copytree(scratch, "/tmp/renga-cluster-kept", dirs_exist_ok=True, symlinks=True,
                            ignore=shutil.ignore_patterns("*.safetensors"))
    print(f"{told.passed} passed, {told.failed} failed")
    return 1 if told.failed else 0


if __name__ == "__main__":
    sys.exit(main())
