"""A node holds its own layers alone: pages it touched, files it has, layers that nobody has."""
import json
import os
import re
import shutil
import struct

from harness import DEMO, Failure, check
from marks import needs

QUESTION = "What is the capital of France?"
PAGE = os.sysconf("SC_PAGE_SIZE")
# A fault of a file page brings its cached neighbours along: this much, aligned
# (/sys/kernel/debug/fault_around_bytes).
AROUND = 65536


# ---- checkpoints -----------------------------------------------------------------------------


def read_header(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(n))
    header.pop("__metadata__", None)
    return header, 8 + n


def layer_of(name):
    """The layer of a tensor; None: embedding, final norm, lm_head."""
    found = re.search(r"\.layers\.(\d+)\.", name)
    return int(found.group(1)) if found else None


def split_by_layer(source, target, rest_first=False):
    """Writes the checkpoint again with a file for each layer and one for the rest."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    parts = {}
    for file in sorted(source.glob("*.safetensors")):
        header, begin = read_header(file)
        raw = file.read_bytes()
        for name, entry in header.items():
            a, b = entry["data_offsets"]
            parts.setdefault(layer_of(name), []).append((name, entry, raw[begin + a:begin + b]))
    order = sorted((k for k in parts if k is not None), key=int)
    order = [None, *order] if rest_first else [*order, None]
    weight_map, names = {}, {}
    for i, key in enumerate(order):
        file = f"model-{i + 1:05}-of-{len(order):05}.safetensors"
        names[key] = file
        header, at, data = {}, 0, []
        for name, entry, raw in parts[key]:
            header[name] = {**entry, "data_offsets": [at, at + len(raw)]}
            at += len(raw)
            data.append(raw)
            weight_map[name] = file
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (target / file).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    total = sum(len(raw) for p in parts.values() for _, _, raw in p)
    (target / "model.safetensors.index.json").write_text(json.dumps(
        {"metadata": {"total_size": total}, "weight_map": weight_map}))
    return names


def copy_without(source, target, files):
    """A directory of links to all files of a checkpoint but some."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.name not in files:
            (target / file.name).symlink_to(file)
    return target


# ---- pages -----------------------------------------------------------------------------------


def touched(daemon, file):
    """The offsets of the pages of a file that this process has in its page tables.  Not mincore():
    that would show what any process has read."""
    real, pages = os.path.realpath(file), set()
    with open(f"/proc/{daemon.pid}/maps") as f:
        areas = [line.split(None, 5) for line in f if line.rstrip().endswith(" " + real)]
    with open(f"/proc/{daemon.pid}/pagemap", "rb") as pagemap:
        for area in areas:
            begin, end = (int(x, 16) for x in area[0].split("-"))
            pagemap.seek(begin // PAGE * 8)
            entries = struct.unpack(f"<{(end - begin) // PAGE}Q", pagemap.read((end - begin) // PAGE * 8))
            for i, entry in enumerate(entries):
                if entry >> 62:  # present or swapped
                    pages.add(int(area[2], 16) + i * PAGE)
    return pages, bool(areas)


def rss_of(daemon, file):
    """The same from smaps: bytes of the file that count as this process's."""
    real, total, inside = os.path.realpath(file), 0, False
    with open(f"/proc/{daemon.pid}/smaps") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = line.rstrip().endswith(" " + real)
            elif inside and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def ranges(file, layers, rest):
    """[begin, end) in the file of the tensors of these layers, and of the rest if `rest`."""
    header, begin = read_header(file)
    return [(begin + e["data_offsets"][0], begin + e["data_offsets"][1]) for name, e in header.items()
            if (layer_of(name) in layers if layer_of(name) is not None else rest)]


def check_pages(daemon, file, layers, rest, all_layers):
    """No page but those of its own tensors; and most of those. -> bytes touched, bytes of its part"""
    own = ranges(file, layers, rest)
    pages, _ = touched(daemon, file)
    allowed, strangers = set(), []
    for a, b in own:
        allowed.update(range(a // AROUND * AROUND, b + AROUND, PAGE))
    # The header is read, not mapped; the first pages may still be a tensor's neighbours.
    strangers = sorted(p for p in pages if p not in allowed)
    others = ranges(file, set(all_layers) - set(layers), not rest)
    wrong = [p for p in strangers if any(a < p + PAGE and p < b for a, b in others)]
    check(not wrong, daemon.log_path.name, "touched", len(wrong), "pages of other layers, the first at", wrong[:3])
    check(rss_of(daemon, file) == len(pages) * PAGE, "smaps and pagemap disagree", rss_of(daemon, file),
          len(pages) * PAGE)
    return len(pages) * PAGE, sum(b - a for a, b in own)


# ---- tests -----------------------------------------------------------------------------------


def test_a_node_touches_its_own_layers_only(lab):
    """every page of every node, after loading and after answers; a single file and a file per layer"""
    want = lab.right(DEMO, QUESTION)
    many = lab.scratch / "per-layer" / DEMO.name
    split_by_layer(DEMO, many)
    given = "w1=0-1,w2=2-3,head=4-4"
    layers = {"w1": {0, 1}, "w2": {2, 3}, "head": {4}}
    said = []
    for model in (DEMO, many):
        with lab.ring(3, model) as ring:
            ring.start("--layers", given, order=(1, 2, 0))
            ring.head.ask(ring.chat(QUESTION)).check_whole(want)
            for node, id in zip(ring.nodes, ring.ids):
                got = need = 0
                for file in sorted(model.glob("*.safetensors")):
                    a, b = check_pages(node, file, layers[id], id == "head", range(5))
                    got, need = got + a, need + b
                check(got >= need // 2, id, "touched", got, "of its", need, "bytes: the test sees nothing")
                check(got <= need + 12 * AROUND, id, "touched", got, "of its", need, "bytes")
                said.append(f"{id} {got >> 10} of {need >> 10} KiB")
            if model == many:
                for node, id in zip(ring.nodes, ring.ids):
                    files = {int(re.search(r"model-(\d+)", m).group(1)) - 1 for m in node.maps(model)}
                    own = layers[id] | ({5} if id == "head" else set())
                    check(files == own, id, "maps files", files, "its own are", own)
    return "; ".join(said[:3])


def test_files_of_other_layers_may_be_absent(lab):
    """from the workers' disks and from the head's: the same answer"""
    want = lab.right(DEMO, QUESTION)
    full = lab.scratch / "absent" / "full" / DEMO.name
    names = split_by_layer(DEMO, full)
    given = {"w1": {0, 1}, "w2": {2, 3}, "head": {4, None}}
    models = {id: copy_without(full, lab.scratch / "absent" / id / DEMO.name,
                               {f for k, f in names.items() if k not in own})
              for id, own in given.items()}
    with lab.ring(3, full) as ring:
        for i, id in enumerate(ring.ids):
            ring.start_node(i, model=models[id])
        ring.wait()
        for node in ring.nodes:
            node.ask(ring.chat(QUESTION, stream=True)).check_whole(want)


def test_the_plan_goes_by_what_is_there(lab):
    """a layer that only one node has is given to it, whatever the memory says; an answer as of one"""
    want = lab.right(DEMO, QUESTION)
    full = lab.scratch / "there" / "full" / DEMO.name
    names = split_by_layer(DEMO, full)
    with lab.ring(2, full) as ring:
        for kept in range(1, 5):
            head = copy_without(full, lab.scratch / "there" / str(kept) / DEMO.name,
                                {names[k] for k in range(kept)})
            ring.start_node(1)
            ring.start_node(0, model=head)
            ring.wait()
            ring.head.ask(ring.chat(QUESTION)).check_whole(want)
            ring.stop()


def test_a_layer_that_nobody_has(lab):
    """is named, by the head and in /health or by exit; the ring forms when somebody has it"""
    full = lab.scratch / "nobody" / "full" / DEMO.name
    names = split_by_layer(DEMO, full)
    less = copy_without(full, lab.scratch / "nobody" / "less" / DEMO.name, {names[2]})
    with lab.ring(2, less) as ring:
        ring.start_node(1)
        ring.start_node(0)
        ring.head.wait_log(r"layer 2\b|layers? 2[ :,]", 10)
        check(ring.head.process.poll() is not None or ring.head.health()[0] == 503, ring.head.health())
        ring.nodes[1].stop()
        ring.start_node(1, model=full)
        if ring.head.process.poll() is not None:
            ring.start_node(0)
        ring.wait()
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))


def test_one_node_that_lacks_files_says_so(lab):
    """without a ring a missing shard is an error, as before"""
    full = lab.scratch / "alone" / "full" / DEMO.name
    names = split_by_layer(DEMO, full)
    less = copy_without(full, lab.scratch / "alone" / "less" / DEMO.name, {names[3]})
    with lab.ring(1, less) as ring:
        ring.head.start(less)
        check(ring.head.wait_exit(10) == 2, "exit", ring.head.process.returncode)
        check(names[3] in ring.head.log(), ring.head.log()[-300:])


@needs("hosts")
def test_this_test_sees_a_stranger(lab):
    """one node with all layers is caught by the same look at its pages"""
    with lab.ring(1, DEMO) as ring:
        ring.head.start(DEMO, "--threads", 1)
        ring.wait()
        ring.head.ask(ring.chat(QUESTION)).check_whole(lab.right(DEMO, QUESTION))
        try:
            check_pages(ring.head, DEMO / "model.safetensors", {0, 1}, True, range(5))
        except Failure:
            return
        raise Failure("a node with every layer passes for one with two")
