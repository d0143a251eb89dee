#!/usr/bin/env python3
"""Hours of mixed traffic on a ring of three, with clients that leave and a worker that is restarted.

usage: soak.py --binary build/release/renga [--minutes 60] [--restart-every 300] [--seed 1]
               [--clients 4] [--pause 0.1] [--out DIR]

Streams and whole answers, short and long prompts, through the head and both workers; 1 % of the clients
leave early.  Each answer must be, byte for byte, what one node alone says; of a client that left, a
beginning of it.  Only the worker w1 is restarted, by SIGKILL or SIGTERM in turn, every third time with
20 s between: the head and w2 live through the whole run, so that their memory says something.

Once a minute DIR/soak.csv (default: a scratch directory, which is named) gets a line per node: memory,
descriptors, threads, and the times of the answers that came through it.  At the end: no wrong byte, no
answer lost, memory that grows by at most 1 MiB/h, descriptors and threads as in the beginning.  What was
wrong is in DIR/bad.txt.  SIGINT ends the run early, and it is judged; SIGUSR1 says how it stands.
The last line is `N passed, N failed`.

Memory is `Anonymous` of /proc/PID/smaps_rollup, every 10 s: what the node has written, without the
model's file and the libraries.  Its slope is by least squares, over all but
  - the first 10 minutes (of a shorter run the first third): threads, their heaps and gRPC's pools come
    with the traffic;
  - the time from a restart's begin until 90 s after its end: a plan without w1 and the one after it have
    new keys and values, whose memory is not there before it is used.
Of w1 each life is one point, the mean of what is left of its samples, so at like ages; how it grows
within a life is said, not judged: that is its own first minutes.  Under 30 minutes there is no slope
that means something (1 MiB/h is a page in 14 s): then the growth over what is left is at most 4 MiB.
"""
import argparse
import contextlib
import csv
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import run  # first: harness puts tests/api, which has another one, before this directory
import harness
import net
from harness import NO_END, Daemon, Failure, check, chat, until

GROWTH_KIB_H, SHORT_GROWTH_KIB = 1024.0, 4096.0
WARM_S, SETTLE_S, SHORT_MINUTES = 600.0, 90.0, 30
SAMPLE_S, ROW_S = 10.0, 60.0
LEAVE = 0.01
AWAY_S = (0, 0, 20)   # between the end of the worker and its start: within the head's grace, and after
BACK_S = 40.0         # from the start of the worker until every node serves: plans without it end
STOP_S = 40.0         # a worker that is told to end lets the ring finish its answers first
ASK_S = 180
DESCRIPTORS, THREADS = 2, 4  # gRPC's pools may have grown by a few


class Leave(OSError):
    """A client that goes away in the middle."""


class Case:
    def __init__(self, rng, number):
        length = rng.choice((5, 20, 60, 400, 1500))
        self.text = f"{number} " + "".join(rng.choice("abcdefgh ijklmnop") for _ in range(length))
        self.fields = {"max_tokens": rng.choice((1, 10, 40, 150, 400)), "logit_bias": NO_END}
        self.want = None


def right_answers(lab, model, cases):
    """What one node says to each, asked one after another."""
    place = net.Loopback(1)
    alone = Daemon(lab.binary, place.hosts[0], place.api_host, lab.scratch / "alone.log")
    try:
        alone.start(model, "--threads", 1)
        until(lambda: alone.health()[0] == 200, 60, alone.log)
        for case in cases:
            reply = alone.ask(chat(case.text, model.name, **case.fields), timeout=ASK_S).check_end()
            check(reply.error is None and reply.text, reply)
            case.want = reply.text
    finally:
        alone.kill()
        place.close()


class Tally:
    """What came of the requests, since the last row of the table and in all."""

    def __init__(self, n):
        self.lock = threading.Lock()
        self.count = {k: 0 for k in ("whole", "left", "waited", "turned away", "cut with its node")}
        self.bad, self.longest = [], 0.0
        self.times = [[] for _ in range(n)]

    def add(self, what, node=None, seconds=0.0, waited=False):
        with self.lock:
            self.count[what] += 1
            if node is not None:
                self.times[node].append(seconds)
                self.longest = max(self.longest, seconds)
            if waited:
                self.count["waited"] += 1

    def wrong(self, what):
        with self.lock:
            self.bad.append(str(what))

    def take_times(self):
        with self.lock:
            times, self.times = self.times, [[] for _ in self.times]
        return times


def patient(fn, seconds, what):
    """Like until, but in turns of 50 ms: a time in which the whole machine stood still does not count."""
    begin = time.monotonic()
    for _ in range(int(20 * seconds)):
        if fn():
            return time.monotonic() - begin
        time.sleep(0.05)
    raise Failure(f"not within {seconds} s: {what() if callable(what) else what}")


class Soak:
    def __init__(self, args, ring, cases, out):
        self.args, self.ring, self.cases, self.out = args, ring, cases, out
        self.tally = Tally(ring.n)
        self.stop, self.over, self.restarted, self.early = (threading.Event() for _ in range(4))
        self.restarts = []            # [when it began, when all served again or None]
        self.stills = []              # seconds
        self.samples = [[] for _ in range(ring.n)]  # (seconds, KiB, pid)
        self.begin = time.monotonic()

    # ---- clients ----

    def in_trouble(self, begin, end):
        """Whether the worker was away in this time."""
        return any(a <= end and (b is None or b >= begin) for a, b in self.restarts)

    def ask_one(self, rng):
        ring, case, i = self.ring, rng.choice(self.cases), rng.randrange(self.ring.n)
        node, stream, leaves = ring.nodes[i], rng.random() < 0.6, rng.random() < LEAVE
        process, at = node.process, rng.randint(1, 30)

        def maybe_leave(reply):
            if leaves and len(reply.data) >= at:
                raise Leave("left")

        body = ring.chat(case.text, stream=stream, **case.fields)
        reply = node.ask(body, on_text=maybe_leave,
                         timeout=0.01 * at if leaves and not stream else ASK_S)
        self.judge(case, i, process, leaves, reply)
        return reply

    def judge(self, case, i, process, leaves, reply):
        trouble = self.in_trouble(reply.began, reply.ended)
        if reply.closed is not None:
            if not case.want.startswith(reply.text):
                self.tally.wrong(f"wrong bytes: {reply}")
            elif leaves:
                self.tally.add("left")
            elif i == 1 and trouble:
                self.tally.add("cut with its node")
            else:
                self.tally.wrong(f"cut off: {reply}")
        elif reply.status == 503 and trouble:
            self.tally.add("turned away")
        else:
            try:
                reply.check_whole(case.want)
                self.tally.add("whole", i, reply.seconds, waited=trouble and reply.seconds > 2)
            except Failure as e:
                self.tally.wrong(f"through {self.ring.ids[i]}{' in a restart' if trouble else ''}: {e}")

    def client(self, seed):
        rng = random.Random(seed)
        while not self.stop.is_set():
            try:
                reply = self.ask_one(rng)
                pause = 0.5 if reply.status != 200 else rng.random() * 2 * self.args.pause
            except Exception as e:  # a client that dies would make the run look good
                self.tally.wrong(f"client: {e!r}")
                pause = 1
            self.stop.wait(pause)

    # ---- the worker that is restarted ----

    def restart(self, number):
        node, away = self.ring.nodes[1], AWAY_S[number % len(AWAY_S)]
        window = [time.monotonic(), None]
        self.restarts.append(window)
        if number % 2:
            node.process.terminate()
            patient(lambda: node.process.poll() is not None, STOP_S, node.log)
        else:
            node.kill()
        self.stop.wait(away)
        self.ring.start_node(1, *FLAGS)
        took = patient(lambda: all(n.health()[0] == 200 for n in self.ring.nodes), BACK_S, self.ring.logs)
        window[1] = time.monotonic() + 1  # a request may have been sent just before
        print(f"{self.minutes():6.1f} min: w1 {'told to end' if number % 2 else 'killed'}, {away} s away, "
              f"all serve {took:.1f} s after its start", flush=True)

    def watch_the_clock(self):
        """A virtual machine may be stopped for a while; every node then finds the others silent.  That is
        a fault like a restart, and is counted."""
        last = time.monotonic()
        while not self.stop.wait(0.2):
            now = time.monotonic()
            if now - last > 2:
                self.stills.append(now - last)
                self.restarts.append([last, now + BACK_S])
            last = now

    def minutes(self):
        return (time.monotonic() - self.begin) / 60

    # ---- figures ----

    def sample(self):
        for i, node in enumerate(self.ring.nodes):
            pid = node.pid
            with contextlib.suppress(OSError, StopIteration):  # it is away
                self.samples[i].append((time.monotonic() - self.begin, node.written_kib(), pid))

    def steady(self, i):
        """The samples that count, see above."""
        skip = min(WARM_S, 20 * self.args.minutes)
        apart = [(a - self.begin, (time.monotonic() if b is None else b) - self.begin + SETTLE_S)
                 for a, b in self.restarts]
        return [p for p in self.samples[i] if p[0] >= skip and not any(a <= p[0] <= b for a, b in apart)]

    def row(self, table):
        for i, (node, times) in enumerate(zip(self.ring.nodes, self.tally.take_times())):
            try:
                fds, threads, _ = node.holds()
                kib = node.written_kib()
            except (OSError, StopIteration):
                fds, threads, kib = "", "", ""
            times.sort()
            table.writerow([f"{self.minutes():.1f}", self.ring.ids[i], kib, fds, threads, len(times),
                            *(f"{1000 * x:.0f}" for x in
                              ((times[len(times) // 2], times[len(times) * 99 // 100], times[-1])
                               if times else ()))])

    def run(self, file):
        table = csv.writer(file)
        table.writerow(("minute", "node", "anonymous_kib", "descriptors", "threads", "answers", "median_ms",
                        "p99_ms", "max_ms"))
        clients = [threading.Thread(target=self.client, args=(self.args.seed * 1000 + i,), daemon=True)
                   for i in range(self.args.clients)]
        clock = threading.Thread(target=self.watch_the_clock, daemon=True)
        for t in [clock, *clients]:
            t.start()
        end = self.begin + 60 * self.args.minutes
        signal.signal(signal.SIGINT, lambda *_: self.early.set())
        signal.signal(signal.SIGUSR1, lambda *_: say(self))
        worker = threading.Thread(target=self.restarter, args=(end,), daemon=True)
        worker.start()
        next_row = self.begin + ROW_S
        while time.monotonic() < end and not self.early.wait(min(SAMPLE_S, max(0.1, end - time.monotonic()))):
            self.sample()
            if time.monotonic() >= next_row:
                next_row += ROW_S
                self.row(table)
                file.flush()
        self.args.minutes = min(self.args.minutes, self.minutes())
        self.restarted.wait(STOP_S + BACK_S)  # the last restart may have taken long
        self.stop.set()
        for c in clients:
            c.join(ASK_S)

    def restarter(self, end):
        """Restarts on time; the last one early enough that the ring is whole at the end."""
        number, every = 0, self.args.restart_every
        while True:
            at = self.begin + (number + 1) * every
            while time.monotonic() < at < end and not self.early.wait(1):
                pass
            if self.early.is_set() or at > end - min(every / 2, 60):
                # A daemon is killed when the thread that started it ends (setpriv --pdeathsig).
                self.restarted.set()
                self.over.wait()
                return
            try:
                self.restart(number)
            except Exception as e:
                self.tally.wrong(f"restart {number}: {e}")
            number += 1


FLAGS = ("--parallel", 4)


def slope(points):
    """-> KiB per hour by least squares, and its standard error"""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    sxx = sum((x - mx) ** 2 for x, _ in points)
    b = sum((x - mx) * (y - my) for x, y in points) / sxx
    rest = sum((y - my - b * (x - mx)) ** 2 for x, y in points)
    return 3600 * b, 3600 * (rest / max(1, n - 2) / sxx) ** 0.5


def lives(points):
    """-> a point per process: the mean time and memory; and the points about those means"""
    of = {}
    for x, y, pid in points:
        of.setdefault(pid, []).append((x, y))
    means = [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in of.values()]
    return means, [(x - m[0], y - m[1]) for p, m in zip(of.values(), means) for x, y in p]


def warm_up(ring, cases, clients):
    """All the memory that this traffic ever needs at a time: the longest requests, all at once."""
    worst = sorted(cases, key=lambda c: len(c.text) + c.fields["max_tokens"])[-clients:]
    for _ in range(3):
        for i in range(ring.n):
            threads = [threading.Thread(target=lambda c=c, i=i: ring.nodes[i].ask(
                ring.chat(c.text, stream=True, **c.fields), timeout=ASK_S)) for c in worst]
            for t in threads:
                t.start()
            for t in threads:
                t.join()


def settled(ring, base, out):
    """Descriptors and threads, back within half a minute."""
    def there():
        out[:] = [n.holds()[:2] for n in ring.nodes]
        return all(now[0] <= b[0] + DESCRIPTORS and now[1] <= b[1] + THREADS for now, b in zip(out, base))

    try:
        until(there, 30, "")
        return True
    except Failure:
        return False


def judge_memory(soak, i, id):
    points = soak.steady(i)
    means, within = lives(points)
    line = [(x, y) for x, y, _ in points] if len(means) == 1 else means
    if len(line) < 3:
        print(f"  {id}: too short a run to speak of its memory")
        return True
    per_hour, error = slope(line)
    grown = per_hour * (line[-1][0] - line[0][0]) / 3600
    print(f"  {id}: memory {line[0][1]:.0f} -> {line[-1][1]:.0f} KiB, slope {per_hour:.0f} +- {error:.0f} KiB/h: "
          f"{len(points)} samples, the first at {points[0][0]:.0f} s"
          + (f", {len(means)} lives; within a life {slope(within)[0]:.0f} KiB/h" if len(means) > 1 else ""))
    return grown <= SHORT_GROWTH_KIB if soak.args.minutes < SHORT_MINUTES else per_hour <= GROWTH_KIB_H


def say(soak):
    t = soak.tally
    print(f"{soak.minutes():.0f} min, seed {soak.args.seed}, {soak.args.clients} clients: "
          + ", ".join(f"{n} {what}" for what, n in t.count.items())
          + f"; {len(t.bad)} bad; longest {t.longest:.1f} s; {len(soak.restarts) - len(soak.stills)} restarts")
    verdicts = {f"memory of {id}": judge_memory(soak, i, id) for i, id in enumerate(soak.ring.ids)}
    sys.stdout.flush()
    return verdicts


def judge(soak, base):
    """Prints every figure; -> the verdicts by name"""
    t, ring, now = soak.tally, soak.ring, []
    verdicts = {"every answer is right and none is lost": not t.bad and t.count["whole"] > 0, **say(soak)}
    if soak.stills:
        print("  this machine stood still for", ", ".join(f"{x:.0f} s" for x in soak.stills))
    for what in t.bad[:10]:
        print("  bad:", what)
    (soak.out / "bad.txt").write_text("\n".join(t.bad))
    lost = re.findall(r" (w\d) is lost", ring.head.log())
    print(f"  the head lost w1 {lost.count('w1')} times, w2 {lost.count('w2')} times")
    back = settled(ring, base, now)
    verdicts["descriptors and threads are back"] = back
    for id, b, n in zip(ring.ids, base, now):
        print(f"  {id}: descriptors {b[0]} -> {n[0]}, threads {b[1]} -> {n[1]}")
    return verdicts


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--binary", required=True, type=Path)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--restart-every", type=float, default=300)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--clients", type=int, default=4)
    p.add_argument("--pause", type=float, default=0.1, help="of a client between requests, mean, seconds")
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    run.enter_user_namespace()
    out = args.out or Path(tempfile.mkdtemp(prefix="renga-soak-"))
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(args.seed)
    cases = [Case(rng, i) for i in range(24)]
    with tempfile.TemporaryDirectory(prefix="renga-soak-") as scratch:
        os.chmod(scratch, 0o755)
        lab = harness.Lab(args.binary.resolve(), scratch, True)
        model = lab.tiny()
        right_answers(lab, model, cases)
        with lab.ring(3, model, lan=net.possible()) as ring:
            ring.start(*FLAGS)
            warm_up(ring, cases, args.clients)
            time.sleep(2)
            base = [n.holds()[:2] for n in ring.nodes]
            soak = Soak(args, ring, cases, out)
            print(f"figures by the minute: {out / 'soak.csv'}", flush=True)
            with open(out / "soak.csv", "w", newline="") as file:
                soak.run(file)
            verdicts = judge(soak, base)
            ring.stop()
            soak.over.set()
    for what, good in verdicts.items():
        print("ok  " if good else "FAIL", what)
    failed = sum(not good for good in verdicts.values())
    print(f"{len(verdicts) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
