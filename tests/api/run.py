#!/usr/bin/env python3
"""Tests of the HTTP API against a running server.

usage: run.py --binary build/release/renga [--model DIR] [--json-suite DIR] [--filter TEXT]
              [--openai-python PYTHON] [--openai-node DIR] [--fast-check DIR]

Without --model a small random one is made (tiny_model.py).  --json-suite is JSONTestSuite's
test_parsing directory; without it ../shared/jsontestsuite/test_parsing is taken if it is there.
--openai-python is a Python that has the openai package, --openai-node a directory whose
node_modules has it, --fast-check one whose node_modules has fast-check (properties.mjs; always with
the small random model).  What is left out is said.  The last line is `N passed, N failed`.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import body_matrix
import changed_files
import chat
import demo_model
import frames
import http_matrix
import json_suite
import lifecycle
import shortage
import templates
import through_worker
import tiny_model
from client import Failure, Server, check, cpu_seconds


class Runner:
    def __init__(self, text):
        self.filter, self.passed, self.failed = text, 0, 0

    def run(self, name, fn):
        if self.filter and self.filter not in name:
            return
        begin = time.monotonic()
        try:
            said = fn()
        except Failure as e:
            self.failed += 1
            print(f"FAIL {name}: {e}")
        except Exception:
            self.failed += 1
            print(f"FAIL {name}:\n{traceback.format_exc()}")
        else:
            self.passed += 1
            print(f"ok   {name} ({time.monotonic() - begin:.1f} s){': ' + said if said else ''}")
        sys.stdout.flush()


def tests_of(module):
    return [(f"{module.__name__}.{n}", f) for n, f in vars(module).items()
            if n.startswith("test_")]


def sdk(command):
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    check(p.returncode == 0, p.stdout[-500:], p.stderr[-1500:])
    return p.stdout.strip().split("\n")[-1]


def on_one_server(runner, args, server):
    for module in (chat, http_matrix, body_matrix, frames):
        for name, fn in tests_of(module):
            runner.run(name, lambda fn=fn: fn(server))
    if args.json_suite and args.json_suite.is_dir():
        runner.run("json_suite", lambda: json_suite.run(server, args.json_suite))
    else:
        print("skip json_suite: no directory of JSONTestSuite (--json-suite)")
    if args.openai_python:
        runner.run("openai_sdk.py",
                   lambda: sdk([args.openai_python, HERE / "openai_sdk.py", server.url]))
    else:
        print("skip openai_sdk.py: no Python with the openai package (--openai-python)")
    if args.openai_node:
        runner.run("openai_sdk.mjs", lambda: sdk(
            ["node", HERE / "openai_sdk.mjs", server.url, args.openai_node]))
    else:
        print("skip openai_sdk.mjs: no node_modules with openai (--openai-node)")


def sdks_through_a_worker(args, binary, model):
    said = []
    with through_worker.Ring(binary, model) as ring:
        ring.wait_formed()
        if args.openai_python:
            said.append(sdk([args.openai_python, HERE / "openai_sdk.py", ring.url]))
        if args.openai_node:
            said.append(sdk(["node", HERE / "openai_sdk.mjs", ring.url, args.openai_node]))
    return ", ".join(said)


def sdk_streams(args):
    """Commands that read one stream."""
    clients = []
    if args.openai_python:
        clients.append(("openai_sdk_stream.py", lambda url, body: (
            args.openai_python, HERE / "openai_sdk_stream.py", url, body)))
    if args.openai_node:
        clients.append(("openai_sdk_stream.mjs", lambda url, body: (
            "node", HERE / "openai_sdk_stream.mjs", url, body, args.openai_node)))
    return clients


def properties(binary, model, directory):
    """Random bodies, then a look at what they left behind."""
    server = Server(binary, model, ["--ctx", "2048"])
    try:
        p = subprocess.run(
            ["node", HERE / "properties.mjs", server.url.removesuffix("/v1"), server.model,
             ROOT / "docs" / "API.md", directory], capture_output=True, text=True,
            timeout=int(os.environ.get("RENGA_PROPERTY_RUNS", 2000)) // 10 + 300)
        check(p.returncode == 0, p.stdout[-6000:], p.stderr[-1500:])
        print("".join(f"     {line}\n" for line in p.stdout.split("\n") if line), end="")
        check(server.request("GET", "/health").status == 200, "health")
        check(server.process.poll() is None, "the server ended")
        # A sequence that was left behind would keep the engine at work.
        before = cpu_seconds(server.process.pid)
        time.sleep(2)
        used = cpu_seconds(server.process.pid) - before
        check(used <= 0.2, f"an idle server used {used:.2f} s of CPU in 2 s")
        begin = time.monotonic()
        check(server.stop() == 0, "exit status", server.process.returncode)
        check(time.monotonic() - begin < 5, "a request that nobody waits for held the server")
    finally:
        if server.process.poll() is None:
            server.process.kill()


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--binary", required=True, type=Path)
    p.add_argument("--model", type=Path)
    p.add_argument("--json-suite", type=Path,
                   default=ROOT.parent / "shared" / "jsontestsuite" / "test_parsing")
    p.add_argument("--filter")
    p.add_argument("--openai-python", type=Path)
    p.add_argument("--openai-node", type=Path)
    p.add_argument("--fast-check", type=Path)
    args = p.parse_args()
    runner = Runner(args.filter)
    binary = str(args.binary.resolve())
    with tempfile.TemporaryDirectory(prefix="renga-api-") as scratch:
        model = str(args.model) if args.model else scratch + "/tiny"
        if not args.model:
            tiny_model.main(model)
        with open(scratch + "/server.log", "w") as log:
            server = Server(binary, model, log=log)
            on_one_server(runner, args, server)
            alive = server.process.poll() is None
            runner.run("the server lived", lambda: check(alive, "it ended"))
            runner.run("the server ended well", lambda: check(server.stop() == 0,
                                                              server.process.returncode))
            server.process.kill()  # a filter may leave that test out
        if runner.failed:
            print("the server's last words:")
            print("".join(open(scratch + "/server.log").readlines()[-15:]))
        for module in (lifecycle, changed_files, shortage, templates, through_worker):
            for name, fn in tests_of(module):
                runner.run(name, lambda fn=fn: fn(binary, model))
        if args.openai_python or args.openai_node:
            runner.run("openai_sdk through a worker", lambda: sdks_through_a_worker(args, binary, model))
        for name, client in sdk_streams(args):
            runner.run(f"{name} while a worker is lost and comes back",
                       lambda client=client: through_worker.stream_across_a_loss(binary, model, client))
        demo = Server(binary, str(ROOT / "config" / "demo-model"))
        for name, fn in tests_of(demo_model):
            runner.run(name, lambda fn=fn: fn(demo))
        runner.run("the demo model's server ended well", lambda: check(demo.stop() == 0))
        demo.process.kill()
        if args.fast_check:
            tiny_model.main(scratch + "/random")
            runner.run("properties", lambda: properties(binary, scratch + "/random",
                                                        args.fast_check))
        else:
            print("skip properties: no node_modules with fast-check (--fast-check)")
    print(f"{runner.passed} passed, {runner.failed} failed")
    return 1 if runner.failed else 0


if __name__ == "__main__":
    sys.exit(main())
