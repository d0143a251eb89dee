"""Hostile bodies: the borders of JSON, of UTF-8 and of every number of a request."""
import json
import time

from client import check

INVALID = ("invalid_json", "invalid_value")


def bodies_with(server, raw, where="x"):
    """A body with raw JSON text as a variable of the template, which looks at none but its own."""
    return (b'{"model":"%s","messages":[{"role":"user","content":"a"}],"max_tokens":1,'
            b'"chat_template_kwargs":{"%s":%s}}' % (server.model.encode(), where.encode(), raw))


def judge(server, body, status, codes, *what):
    a = server.post(body)
    check(a.status == status, *what, a.status, a.body[:300])
    check(status == 200 or a.code in codes, *what, a.body[:300])
    return a


# ---- JSON ----

def test_depth_ends_at_64(server):
    for open_, close in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth, status in ((62, 200), (63, 400), (1000, 400)):
            # The body and the variables are two levels.
            raw = open_ * depth + (b"1" if close == b"}" else b"") + close * depth
            judge(server, bodies_with(server, raw), status, ("invalid_value",), depth + 2, open_)


def test_deep_bodies_cost_little(server):
    n = 100000
    for data in (b"[" * n, b"[" * n + b"]" * n, b'{"a":' * n, b'{"a":[' * n, b'[{"":' * n,
                 bodies_with(server, b"[" * n + b"]" * n)):
        took_ms = []
        for _ in range(5):
            begin = time.monotonic()
            judge(server, data, 400, INVALID, data[:10])
            took_ms.append(1000 * (time.monotonic() - begin))
        check(min(took_ms) <= 10, data[:10], f"{min(took_ms):.1f} ms")


def test_objects_have_4096_keys(server):
    for n, status in ((4096, 200), (4097, 400)):
        raw = b"{" + b",".join(b'"k%d":%d' % (i, i) for i in range(n)) + b"}"
        judge(server, bodies_with(server, raw), status, ("invalid_value",), n, "keys")


def test_duplicate_keys_are_refused(server):
    model = server.model.encode()
    message = b'{"role":"user","content":"a"}'
    for data in (
            b'{"model":"%s","model":"%s","messages":[%s]}' % (model, model, message),
            b'{"model":"%s","messages":[%s],"messages":[%s]}' % (model, message, message),
            b'{"model":"%s","messages":[%s],"n":1,"\\u006e":1}' % (model, message),
            b'{"model":"%s","messages":[{"role":"user","role":"system","content":"a"}]}' % model,
            bodies_with(server, b'{"a":{"b":1,"b":1}}')):
        judge(server, data, 400, ("invalid_value",), data)


def test_numbers_are_what_they_say(server):
    for raw, status in ((b"-0", 200), (b"0.0", 200), (b"1e-400", 200), (b"2e0", 200),
                        (b"1e999", 400), (b"-1e999", 400), (b"NaN", 400), (b"Infinity", 400),
                        (b"-Infinity", 400), (b"+1", 400), (b"01", 400), (b"1.", 400),
                        (b".5", 400), (b"0x1", 400), (b"1e", 400), (b"--1", 400), (b"1_0", 400)):
        data = json.dumps(server.body(max_tokens=1)).encode()
        data = data.replace(b'"temperature": 0', b'"temperature": ' + raw)
        judge(server, data, status, INVALID, "temperature", raw)
    big = {s: server.text(seed=s, temperature=1.5, max_tokens=16)
           for s in (9007199254740992, 9007199254740993, 2**63 - 1, 2**63 - 2, -2**63)}
    check(len(set(big.values())) == len(big), "seeds that a double cannot tell apart", big)


def test_escapes(server):
    for raw, status in ((rb'"\u0041\n\\\/\"\b"', 200), (rb'"\ud83d\ude00"', 200),
                        (rb'"\uffff\ufffe"', 200), (rb'"\u0000"', 400), (rb'"a\u0000b"', 400),
                        (rb'"\ud800"', 400), (rb'"\udc00"', 400), (rb'"\ud800a"', 400),
                        (rb'"\udc00\ud800"', 400), (rb'"\ud800\ud800"', 400), (rb'"\u12"', 400),
                        (rb'"\x41"', 400), (rb'"\a"', 400), (b'"a\x00b"', 400), (b'"a\nb"', 400),
                        (b'"a\tb"', 400), (b'"a\x1fb"', 400), (b'"a\x7fb"', 200)):
        for data in (bodies_with(server, raw),
                     b'{"model":"%s","max_tokens":1,"messages":[{"role":"user","content":%s}]}'
                     % (server.model.encode(), raw)):
            judge(server, data, status, INVALID, raw)
    judge(server, bodies_with(server, b"1", r"\u0000"), 400, INVALID, "NUL in a key")


# ---- UTF-8: what is not (after Markus Kuhn's list), and what is at the borders ----

BROKEN = [
    b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80\xbf\x80\xbf\x80",          # continuations alone
    b"\xc0 ", b"\xdf ", b"\xe0 ", b"\xef ", b"\xf0 ", b"\xf7 ", b"\xf8 ", b"\xfb ", b"\xfc ",
    b"\xfd ",                                                                 # starts alone
    b"\xc3", b"\xe0\xa0", b"\xe2\x82", b"\xf0\x90\x80", b"\xf0\x9f\x98", b"\xef\xbf",
    b"\xf7\xbf\xbf", b"\xf8\x88\x80\x80", b"\xfc\x84\x80\x80\x80", b"\xfd\xbf\xbf\xbf\xbf",  # cut
    b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80", b"\xc3\xc3\xa9", b"\xe2\x82\xc3\xa9",
    b"\xfe", b"\xff", b"\xfe\xfe\xff\xff",                                    # impossible bytes
    b"\xf4\x90\x80\x80", b"\xf7\xbf\xbf\xbf", b"\xf8\x88\x80\x80\x80",
    b"\xfb\xbf\xbf\xbf\xbf", b"\xfc\x84\x80\x80\x80\x80", b"\xfd\xbf\xbf\xbf\xbf\xbf",  # > 10FFFF
    b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
    b"\xfc\x80\x80\x80\x80\xaf",                                              # a slash, too long
    b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf",
    b"\xfc\x83\xbf\xbf\xbf\xbf",                                              # the largest, too long
    b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80",
    b"\xfc\x80\x80\x80\x80\x80",                                              # NUL, too long
    b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80",
    b"\xed\xbe\x80", b"\xed\xbf\xbf",                                         # half surrogates
    b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xad\xbf\xed\xbf\xbf", b"\xed\xaf\xbf\xed\xb0\x80",
]
WHOLE = ["\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff",
         "\U00010000", "\U0001f600", "\U0010ffff", "κόσμε"]


def test_utf8(server):
    model = server.model.encode()

    def in_each_place(s):
        yield b'{"model":"%s%s","messages":[{"role":"user","content":"a"}]}' % (model, s)
        yield b'{"model":"%s","messages":[{"role":"user%s","content":"a"}]}' % (model, s)
        yield b'{"model":"%s","messages":[{"role":"user","content":"a%sb"}]}' % (model, s)
        yield b'{"model":"%s","messages":[{"role":"user","content":"a%s"}]}' % (model, s)
        yield b'{"model":"%s","%s":1,"messages":[]}' % (model, s)

    for s in BROKEN:
        for data in in_each_place(s):
            judge(server, data, 400, ("invalid_json",), data)
    judge(server, b"\xef\xbb\xbf" + json.dumps(server.body()).encode(), 400, INVALID, "a BOM")
    for s in WHOLE:
        server.chat(s, max_tokens=1)
        a = server.post({**server.body(), "model": server.model + s})
        check(a.status == 404 and s in a.json["error"]["message"], repr(s), a.body)
        a = server.post({**server.body(), s: 1})
        check(a.status == 400 and a.json["error"]["param"] == s, repr(s), a.body)


def test_long_names_are_cut_between_characters(server):
    for n in range(120, 132):
        for c in ("é", "€", "\U0001f600"):
            a = server.post({**server.body(), "a" * n + c * 60: 1})
            check(a.status == 400 and a.code == "unknown_field", a.body[:200])
            a.body.decode()
            check(("a" * n + c * 60).startswith(a.json["error"]["param"]), a.body)
            check("\ufffd" not in a.json["error"]["message"], a.body)


# ---- every number ----

def test_every_number_at_its_borders(server):
    context = server.request("GET", "/v1/models").json["data"][0]["max_model_len"]
    whole, real = int, float
    rows = {  # field: (kind, least, most, other fields)
        "n": (whole, 1, 4, {}),
        "max_tokens": (whole, 1, context, {"logit_bias": {"257": 100}}),
        "max_completion_tokens": (whole, 1, context, {"logit_bias": {"257": 100}}),
        "top_k": (whole, 0, 4194304, {}),
        "top_logprobs": (whole, 0, 20, {"logprobs": True}),
        "seed": (whole, -2**63, 2**63 - 1, {}),
        "temperature": (real, 0, 2, {}),
        "top_p": (real, 0, 1, {}),
        "min_p": (real, 0, 1, {}),
        "repetition_penalty": (real, 1.001e-6, 10, {}),
        "presence_penalty": (real, -2, 2, {}),
        "frequency_penalty": (real, -2, 2, {}),
    }
    n = 0
    for field, (kind, least, most, more) in rows.items():
        beside = (least - 1, most + 1) if kind is whole else (least - 0.001, most + 0.001,
                                                             least - 1, most + 1)
        values = [least, most, *beside, -1, 1e308, -1e308, "5", None, 5.5, True, False, [], [1],
                  {}, "", "1"]
        for value in values:
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            good = value is None or (is_number and least <= value <= most and
                                     (kind is real or value == int(value)))
            body = server.body(**{"max_tokens": 1, **more, field: value})
            if field == "max_completion_tokens":
                del body["max_tokens"]
            a = server.post(body)
            check(a.status == (200 if good else 400), field, value, a.status, a.body[:300])
            if not good:
                check(a.code == "invalid_value", field, value, a.body)
                error = a.json["error"]
                check(error["param"] == field, field, value, a.body)
                check(error["type"] == "invalid_request_error", a.body)
                check(field in error["message"] or "context" in error["message"], a.body)
            n += 1
    for bias in (-100, 100, 0, 0.5, -100.001, 101, 1e308, "5", None, True):
        good = not isinstance(bias, (bool, str, type(None))) and -100 <= bias <= 100
        a = server.post(server.body(max_tokens=1, logit_bias={"65": bias}))
        check(a.status == (200 if good else 400), "logit_bias", bias, a.body)
        check(good or a.json["error"]["param"] == "logit_bias", bias, a.body)
        n += 1
    return f"{n} values"
