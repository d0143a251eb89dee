"""A node's model files are cut, replaced or unreadable while the ring uses them: never a wrong byte, the file is
named, and with the right file in its place the stream goes on."""
import json
import os
import shutil
import time

from harness import NO_END, check, until
from marks import needs
from survive import LONG, SHORT, Watched, all_serve

FILE = "model.safetensors"


def own_copies(ring):
    """Each node has the model on a disk of its own. -> the nodes' files of weights"""
    models = [ring.dir / id / ring.model.name for id in ring.ids]
    for model in models:
        shutil.copytree(ring.model, model)
    plain = ring.start_node
    ring.start_node = lambda i, *flags: plain(i, *flags, model=models[i])
    return [model / FILE for model in models]


def put_back(ring, file):
    """Under another name first, as a program that copies does."""
    shutil.copyfile(ring.model / FILE, file.with_suffix(".new"))
    os.replace(file.with_suffix(".new"), file)


def another_fine_tune(file):
    """The same table, other weights in layer 1, which is the first worker's."""
    raw = bytearray(file.read_bytes())
    data = 8 + int.from_bytes(raw[:8], "little")
    begin, end = json.loads(raw[8:data])["model.layers.1.mlp.up_proj.weight"]["data_offsets"]
    raw[data + begin:data + end] = bytes(raw[data + begin:data + end][::-1])
    file.with_suffix(".new").write_bytes(raw)
    os.replace(file.with_suffix(".new"), file)


def waits_and_goes_on(lab, ring, strike, heal, says):
    """A stream whose worker's file is struck: it waits, says why, and is whole when the file is well again."""
    want = lab.right(ring.model, "Lost", **LONG)
    stream = Watched(ring, ring.head, stream=True, **LONG)
    stream.until_text(100)
    strike()
    if heal:
        until(lambda: stream.reply or stream.live.waits, 5, lambda: f"no comment\n{ring.logs()}")
        until(lambda: says in ring.head.health()[1].get("reason", ""), 8, ring.head.health)
        check(ring.head.health()[0] == 503, ring.head.health())
        ring.nodes[1].wait_log(says, 1)
        heal()
    healed = time.monotonic()
    reply = stream.end().check_whole(want)
    until(lambda: all_serve(ring), 10, ring.logs)
    check(all("/" not in said.replace("node w1", "") for _, said in reply.waits), "a path is told to a client",
          reply.waits)
    return stream.after(healed) - healed


def test_a_workers_file_changes_in_a_stream(lab):
    """cut to nothing, cut in half, removed, replaced by another fine-tune: the request waits until the right file is
    there; replaced by the same one: it goes on at once; no node is started again.  --long has all of them"""
    tiny, said = lab.tiny(), []
    with lab.ring(3, tiny) as ring:
        file = own_copies(ring)[1]
        ring.start()
        size = file.stat().st_size
        ways = {"cut": (lambda: os.truncate(file, 0), FILE), "halved": (lambda: os.truncate(file, size // 2), FILE),
                "removed": (file.unlink, "safetensors"), "another": (lambda: another_fine_tune(file), "layer 1"),
                "the same": (lambda: put_back(ring, file), None)}
        if not lab.long:
            del ways["halved"], ways["removed"]
        pids = [n.pid for n in ring.nodes]
        for name, (strike, says) in ways.items():
            took = waits_and_goes_on(lab, ring, strike, says and (lambda: put_back(ring, file)), says)
            said.append(f"{name} {took:.1f} s")
        check([n.pid for n in ring.nodes] == pids and all(n.process.poll() is None for n in ring.nodes), "a restart")
    return "went on after: " + ", ".join(said)


def test_a_file_that_stays_damaged(lab):
    """a worker's: the typed error at --node-timeout, with the file's name and without its path, for the stream and for
    new requests; nothing of the wrong pages is ever text.  The head's own: at once"""
    tiny = lab.tiny()
    want, short = lab.right(tiny, "Lost", **LONG), lab.right(tiny, "Short", **SHORT)
    with lab.ring(3, tiny) as ring:
        files = own_copies(ring)
        ring.start("--node-timeout", 2)
        ring.nodes[2].ask(ring.chat("Short", **SHORT)).check_whole(short)
        os.truncate(files[1], 4096)  # while nothing runs: the first request finds it
        stream = Watched(ring, ring.head, stream=True, **LONG)
        reply = stream.end(10).check_prefix(want)
        check(reply.error == "node_lost" and reply.seconds <= 3 + 1, reply)
        message = json.loads(reply.data[-2] if reply.data else reply.body)["error"]["message"]
        check("w1" in message and FILE in message and "/" not in message.replace(f"{tiny.name}/{FILE}", ""), message)
        for node in ring.nodes:
            late = node.ask(ring.chat("Short", **SHORT)).check_end()
            check(late.status == 503 and late.seconds <= 2, late)
        put_back(ring, files[1])
        until(lambda: all_serve(ring), 15, ring.logs)
        ring.nodes[2].ask(ring.chat("Short", **SHORT)).check_whole(short)
        # The head needs a person: it says so and which file.
        stream = Watched(ring, ring.head, stream=True, **LONG)
        stream.until_text(100)
        os.truncate(files[0], 0)
        reply = stream.end(10).check_prefix(want)
        check(reply.error == "node_lost" and "was truncated" in reply.data[-2], reply)
        health = ring.head.health()
        check(health[0] == 503 and health[1]["status"] == "failed" and FILE in health[1]["reason"], health)
        late = ring.nodes[2].ask(ring.chat("Short", **SHORT)).check_end()
        check(late.status == 503 and late.error == "node_lost", late)
        put_back(ring, files[0])
        ring.head.kill()
        ring.start_node(0)
        until(lambda: all_serve(ring), 15, ring.logs)
        ring.nodes[2].ask(ring.chat("Short", **SHORT)).check_whole(short)


@needs("bad_disk")
def test_a_disk_with_errors(lab):
    """reads of a worker's weights fail with EIO (tests/support/bad_disk.c): the node says which byte of which file, the
    ring forms when the disk is well; in a stream too, which then goes on"""
    tiny = lab.tiny()
    want, short = lab.right(tiny, "Lost", **LONG), lab.right(tiny, "Short", **SHORT)
    with lab.ring(3, tiny) as ring:
        file = own_copies(ring)[1]
        bad = file.with_name("bad")
        ring.nodes[1].runner = ["env", f"LD_PRELOAD={lab.bad_disk}", f"BAD_DISK={bad}"]
        bad.touch()
        ring.start("--node-timeout", 20, wait=False)
        check(ring.nodes[1].wait_exit(10) == 1, ring.nodes[1].process.returncode)
        last = ring.nodes[1].log().strip().splitlines()[-1]
        check(last.startswith("renga: ") and FILE in last and "Input/output error" in last, last)
        bad.unlink()
        ring.start_node(1, "--node-timeout", 20)
        ring.wait()
        ring.head.ask(ring.chat("Short", **SHORT)).check_whole(short)
        # A file that was replaced is read again.
        asked = Watched(ring, ring.head, stream=True, **LONG)
        asked.until_text(100)
        bad.touch()
        put_back(ring, file)
        until(lambda: "Input/output error" in ring.head.health()[1].get("reason", ""), 8, ring.head.health)
        bad.unlink()
        healed = time.monotonic()
        asked.end(30).check_whole(want)
        until(lambda: all_serve(ring), 15, ring.logs)
        return f"went on {asked.after(healed) - healed:.1f} s after the disk was well"
