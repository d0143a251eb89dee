"""Tests in processes of their own, some beside each other.

A row of a table of faults (marks.seeded) is cut into pieces of some seeds.  Of tests that work `jobs` run at a time,
of those that mostly wait twice as many beside them, and those that measure (marks.alone) run after all others.  What
a process prints comes out when it ends.
"""
import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import pickle
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import harness

LONG_SEEDS = 20
PR_SET_PDEATHSIG = 1


def seeds_of(fn, lab):
    return range(1, 1 + (lab.seeds or (LONG_SEEDS if lab.long else fn.daily)))


def call(fn, lab, seeds):
    """-> "ok" or "FAIL", and what it said (Times of a row)"""
    try:
        return "ok", fn(lab) if seeds is None else fn(lab, seeds)
    except harness.Failure as e:
        return "FAIL", str(e)
    except Exception:
        return "FAIL", "\n" + traceback.format_exc()


class Piece:
    """A test, or some seeds of one, in a process."""

    def __init__(self, name, fn, seeds):
        self.name, self.fn, self.seeds = name, fn, seeds
        self.alone, self.waits = getattr(fn, "alone", False), getattr(fn, "waits", False)

    def start(self, lab, number):
        self.begin = time.monotonic()
        self.dir = Path(lab.scratch) / f"piece-{number}"
        self.dir.mkdir()
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(lab,))
        sys.stdout.flush()
        self.process.start()

    def _run(self, lab):
        os.setpgrp()  # Ctrl-C is the parent's
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # and when that is killed, this ends too
        out = os.open(self.dir / "out", os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        os.dup2(out, 2)
        lab.scratch = self.dir
        result = call(self.fn, lab, self.seeds)
        sys.stdout.flush()
        (self.dir / "result").write_bytes(pickle.dumps(result))
        os._exit(0)  # whatever threads a failed test has left

    def end(self):
        """-> "ok" or "FAIL", what it said, its seconds, what it printed"""
        self.process.join()
        seconds, out = time.monotonic() - self.begin, (self.dir / "out").read_text(errors="replace")
        try:
            status, said = pickle.loads((self.dir / "result").read_bytes())
        except OSError:
            status, said = "FAIL", f"its process ended with {self.process.exitcode}"
        shutil.rmtree(self.dir, ignore_errors=True)
        return status, said, seconds, out


def pieces_of(name, fn, lab):
    if not hasattr(fn, "piece"):
        return [Piece(name, fn, None)]
    seeds = seeds_of(fn, lab)
    return [Piece(name, fn, seeds[i:i + fn.piece]) for i in range(0, len(seeds), fn.piece)]


def fits(piece, running, jobs):
    if piece.alone or any(p.alone for p in running):
        return not running
    return sum(p.waits == piece.waits for p in running) < (2 * jobs if piece.waits else jobs)


def run(tests, lab, jobs, told):
    """told(name, status, what it said, seconds, what it printed) for each test as it ends."""
    queue = sorted((p for name, fn in tests for p in pieces_of(name, fn, lab)), key=lambda p: (p.alone, not p.waits))
    left = {name: sum(p.name == name for p in queue) for name, _ in tests}
    so_far, running, number = {}, [], 0
    try:
        while queue or running:
            for piece in list(queue):
                if fits(piece, running, jobs):
                    queue.remove(piece)
                    number += 1
                    piece.start(lab, number)
                    running.append(piece)
                elif piece.alone:
                    break
            ended = multiprocessing.connection.wait([p.process.sentinel for p in running])
            for piece in [p for p in running if p.process.sentinel in ended]:
                running.remove(piece)
                so_far.setdefault(piece.name, []).append(piece.end())
                left[piece.name] -= 1
                if left[piece.name] == 0:
                    told(piece.name, *together(so_far.pop(piece.name)))
    finally:
        for piece in running:
            with contextlib.suppress(OSError):
                piece.process.kill()


def together(ends):
    """The pieces of one test as one."""
    failed = [said for status, said, _, _ in ends if status != "ok"]
    seconds, out = sum(e[2] for e in ends), "".join(e[3] for e in ends)
    if failed:
        return "FAIL", "\n".join(failed), seconds, out
    said = ends[0][1]
    for _, other, _, _ in ends[1:]:
        said = said.add(other)
    return "ok", said, seconds, out
