"""A split never changes a bit: every split point of 2, 3 and 5 nodes against one node."""
import itertools
import json
import sys

from harness import DEMO, GOLDEN, ROOT, check
from marks import long, needs

sys.path.insert(0, str(ROOT / "tests" / "golden"))

FORMATS = ("bf16", "f16", "f32", "fp8", "int4", "mxfp4", "mxfp8", "nvfp4", "mixed_346", "mixed_3_6",
           "q2", "q3", "q4", "q5", "q6", "q8", "hf", "unstacked", "kv_b", "tied", "vision",
           "next_token_layer")


def n_layers(model):
    config = json.loads((model / "config.json").read_text())
    return config.get("text_config", config)["num_hidden_layers"]


def splits(layers, nodes):
    """All ways to give `layers` to nodes - 1 workers (one or more each) and the head (or none)."""
    for cuts in itertools.combinations(range(1, layers + 1), nodes - 1):
        begins = (0, *cuts, layers)
        yield list(zip(begins, begins[1:]))


def layers_flag(split, ids):
    """w1=0-1,w2=2-2,w3=none,head=3-3: the last part is the head's."""
    parts = dict(zip(ids[1:], split[:-1]))
    parts["head"] = split[-1]
    return ",".join(f"{id}={a}-{b - 1}" if b > a else f"{id}=none"
                    for id, (a, b) in ((id, parts.get(id, (0, 0))) for id in ids))


def tokens_of(model, scratch, vocab=None):
    """A list of ids that crosses a border of 64 positions."""
    path = scratch / f"{model.name}-tokens.json"
    config = json.loads((model / "config.json").read_text())
    vocab = config.get("text_config", config)["vocab_size"]
    path.write_text(json.dumps([(7 + i * 31 + i * i) % vocab for i in range(70)]))
    return path


def check_all_splits(lab, model, nodes=(2, 3, 5), flags=()):
    """-> how many splits gave the logits of one node to the byte"""
    layers = n_layers(model)
    most = max(n for n in nodes if n == 2 or n - 1 <= layers)
    tokens = tokens_of(model, lab.scratch)
    want = lab.eval_alone(model, tokens, lab.scratch / "alone.npy", *flags)
    count = 0
    with lab.ring(most, model) as ring:
        for i in range(1, most):
            ring.start_node(i)
        out = ring.dir / "logits.npy"
        for n in nodes:
            for split in splits(layers, n):
                given = layers_flag(split, ring.ids)
                out.unlink(missing_ok=True)
                p = ring.eval(tokens, out, "--layers", given, "--chunk", 32, *flags)
                check(p.returncode == 0, model.name, given, "exit", p.returncode, p.stderr[-600:], ring.logs())
                check(out.read_bytes() == want, model.name, given, "gives other bits")
                count += 1
    check(count > 0, model.name, "has no split")
    return count


def sample():
    """Tiny checkpoints until every family and every format was seen; those with more layers first."""
    names = sorted((d for d in GOLDEN.iterdir() if d.is_dir()), key=lambda d: (-n_layers(d), d.name))
    seen, chosen = set(), []
    for d in names:
        parts = d.name.split("-")
        has = {parts[0]} | {f for f in FORMATS for p in parts[1:] if p == f or p.startswith(f + "_")}
        if has - seen:
            seen |= has
            chosen.append(d)
    return chosen


def test_every_split_of_the_demo_model(lab):
    """5 layers on 2, 3 and 5 nodes, int8 and f32"""
    a = check_all_splits(lab, DEMO)
    b = check_all_splits(lab, DEMO, (3,), ["--activations", "f32"])
    return f"{a} splits of int8, {b} of f32"


def test_every_split_of_seven_layers(lab):
    """of a random dense model"""
    return f"{check_all_splits(lab, lab.tiny(7), (2, 3))} splits"


def test_every_split_of_each_family_and_format(lab):
    models = sample()
    counts = [check_all_splits(lab, m) for m in models]
    return f"{len(models)} models, {sum(counts)} splits"


@long
def test_every_split_of_all_tiny_models(lab):
    models = sorted(d for d in GOLDEN.iterdir() if d.is_dir())
    counts = [check_all_splits(lab, m) for m in models]
    counts += [check_all_splits(lab, m, (3,), ["--activations", "f32"]) for m in models if n_layers(m) > 1]
    return f"{len(models)} models, {sum(counts)} splits"


def test_answers_do_not_depend_on_the_split(lab):
    """sampled and greedy text of three nodes, by hand and by plan, is that of one"""
    tiny = lab.tiny(7)
    asked = ({"max_tokens": 60, "logit_bias": {"257": -100}},
             {"max_tokens": 60, "temperature": 1.0, "seed": 11})
    want = [lab.right(tiny, "Split", **f) for f in asked]
    for flags in ((), ("--layers", "w1=0-0,w2=1-5,head=6-6"), ("--layers", "w2=0-2,w1=3-6,head=none")):
        with lab.ring(3, tiny) as ring:
            ring.start_node(0, *flags)
            ring.start_node(1)
            ring.start_node(2)
            ring.wait()
            for fields, text in zip(asked, want):
                ring.head.ask(ring.chat("Split", **fields)).check_whole(text)


@needs("smollm2")
def test_smollm2_says_the_same_words(lab):
    """over two and three nodes, the questions of the golden test"""
    prompts = ["What is the capital of France?", "Write three sentences about the sea."]
    fields = {"max_tokens": 40}
    want = [lab.right(lab.smollm2, p, **fields) for p in prompts]
    for n in (2, 3):
        with lab.ring(n, lab.smollm2) as ring:
            ring.start()
            for p, w in zip(prompts, want):
                for node in ring.nodes[::n - 1]:
                    node.ask(ring.chat(p, stream=True, **fields)).check_whole(w)
    return repr(want[0][:60])


@needs("arm")
def test_a_mixed_ring_of_x86_and_arm(lab):
    """the second node is 64-bit Arm under qemu: the same bits, the same words"""
    with lab.ring(2, DEMO) as ring:
        ring.nodes[1].runner, ring.nodes[1].binary = ["qemu-aarch64"], str(lab.arm)
        ring.start_node(1, "--stuck-timeout", 120)
        out = ring.dir / "logits.npy"
        tokens = tokens_of(DEMO, lab.scratch)
        want = lab.eval_alone(DEMO, tokens, lab.scratch / "alone.npy")
        for given in ("w1=0-0,head=1-4", "w1=0-2,head=3-4", "w1=0-4,head=none"):
            p = ring.eval(tokens, out, "--layers", given)
            check(p.returncode == 0, given, p.stderr[-600:])
            check(out.read_bytes() == want, given, "gives other bits")
        ring.start_node(0)
        ring.wait(60)
        text = "What is the capital of France?"
        ring.nodes[1].ask(ring.chat(text, stream=True)).check_whole(lab.right(DEMO, text))
