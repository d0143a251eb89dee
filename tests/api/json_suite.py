"""JSONTestSuite (https://github.com/nst/JSONTestSuite, test_parsing) through the chat endpoint."""
import time

from client import JSON, check


def run(server, directory):
    """-> one line of counts; raises when a file was judged wrongly"""
    files = sorted(directory.glob("*.json"))
    counts = {"n": [0, 0], "y": [0, 0], "i": [0, 0]}
    wrong, slowest_ms = [], 0
    for path in files:
        kind = path.name[0]
        data = path.read_bytes()
        begin = time.monotonic()
        answer = server.post(data, JSON)
        took_ms = 1000 * (time.monotonic() - begin)
        slowest_ms = max(slowest_ms, took_ms)
        if kind == "n":
            good = answer.status == 400 and answer.code in ("invalid_json", "invalid_value")
        elif kind == "y":
            good = answer.code != "invalid_json"
        else:
            good = answer.status == 400
        counts[kind][0] += good
        counts[kind][1] += 1
        if not good or took_ms > 500:
            wrong.append(f"{path.name}: {answer.status} {answer.code}, {took_ms:.0f} ms")
    check(not wrong, "; ".join(wrong[:10]))
    check([c[1] for c in counts.values()] == [188, 95, 35], "files:", counts)
    said = " ".join(f"{kind}_ {good}/{all_}" for kind, (good, all_) in counts.items())
    return f"{said}, the slowest {slowest_ms:.0f} ms"
