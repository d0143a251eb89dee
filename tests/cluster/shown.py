"""tools/fault, as a person runs it."""
import re
import subprocess
import sys

from harness import ROOT, check


def test_tools_fault(lab):
    """kill-worker: exit status 0; the deed, the comment, and the stream that goes on and is right"""
    p = subprocess.run([sys.executable, ROOT / "tools" / "fault", "kill-worker", "--binary", lab.binary],
                       capture_output=True, text=True, timeout=120)
    check(p.returncode == 0, "exit", p.returncode, p.stdout[-3000:], p.stderr[-1000:])
    shown = (r"==== kill -9 of w1 ", r"\| \.\.\. \d+ characters so far", r"\| : waiting: ",
             r"==== w1 is started again ", r"plan 2 runs on 3 nodes", r"\| after \d+\.\d\d s it goes on:",
             r"end: length\n", r"\nfault: the stream paused for \d+\.\d\d s")
    at = 0
    for pattern in shown:
        found = re.compile(pattern).search(p.stdout, at)
        check(found, f"no {pattern!r} after what came before:", p.stdout)
        at = found.start()
    check(all(len(line) <= 140 for line in p.stdout.splitlines()), "lines too long", p.stdout)


def test_tools_fault_is_not_blind(lab):
    """a daemon that gives requests up at once: exit status 1"""
    fake = lab.scratch / "gives-up"
    fake.write_text(f'#!/bin/sh\ncase "$*" in *--discovery*) exec {lab.binary} "$@" --node-timeout 0 ;; esac\n'
                    f'exec {lab.binary} "$@"\n')
    fake.chmod(0o755)
    p = subprocess.run([sys.executable, ROOT / "tools" / "fault", "kill-worker", "--binary", fake],
                       capture_output=True, text=True, timeout=120)
    check(p.returncode == 1 and "IS ANOTHER" in p.stdout, "exit", p.returncode, p.stdout[-2000:])
