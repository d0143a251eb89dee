"""Random chat-completions requests: tools, parallel calls, tool results, reasoning, odd contents."""
import json

TEXTS = [
    "Hello!", "What is the capital of France?", "", " ", "\n", "  leading and trailing  \n\n",
    "line one\nline two\n\nline four", "Quote \" and ' and \\ and \t tab", "<|im_end|>",
    "{{ messages }} {% raw %}", "日本語のテキスト、句読点。", "Ünïcödé ñ ß İstanbul ΟΔΟΣ", "👩‍👩‍👧 family 🩷",
    "zero\u200dwidth \u00a0nbsp \u2028 line", "<think>old thoughts</think>\n\nThe answer is 42.",
    "<think>\nstill thinking", "</think>", "a</think>b</think>c", "null", "true", "[1, 2]",
    "{\"a\": 1}", "<tool_call>\n{}\n</tool_call>", "\x1c control \x7f", "x" * 300,
    "<tool_response>\nresult\n</tool_response>", "<b>&amp;</b> <script>", "1e5", "  ",
    "User: hi\nAssistant: hello", "/no_think", "/think please", "[INST] x [/INST]", "final\r\nline",
]
WORDS = ["city", "unit", "query", "count", "naïve", "日付", "items", "keys", "type", "name", "x-y"]
NAMES = ["get_weather", "search", "add_numbers", "send_mail", "f"]


def text(r):
    return r.choice(TEXTS) if r.random() < 0.8 else " ".join(r.choice(TEXTS) for _ in range(3))


def value(r, depth=0):
    kind = r.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return text(r)
    if kind == 1:
        return r.choice([0, 1, -1, 42, 9007199254740993, 123456789012345678901234567890, -7])
    if kind == 2:
        return r.choice([0.5, 1.0, -2.25, 1e16, 1e-5, 1e100, 3.141592653589793, 100000.0, 1e22])
    if kind == 3:
        return r.random() < 0.5
    if kind == 4:
        return None
    if kind == 5:
        return r.choice(WORDS)
    if kind == 6:
        return [value(r, depth + 1) for _ in range(r.randrange(4))]
    return {r.choice(WORDS): value(r, depth + 1) for _ in range(r.randrange(4))}


def arguments(r):
    d = {r.choice(WORDS): value(r) for _ in range(r.randrange(4))}
    kind = r.randrange(10)
    if kind < 4:
        return d
    if kind < 8:
        return json.dumps(d, ensure_ascii=r.random() < 0.5, indent=r.choice([None, None, 2]))
    return r.choice(["", "{not json", "[1, 2]", "\"text\"", "{}", None])


def schema(r, depth=0):
    kind = r.choice(["string", "integer", "number", "boolean", "array", "object"]
                    if depth < 2 else ["string", "integer"])
    s = {"type": kind}
    if r.random() < 0.1:
        s["type"] = r.choice([["string", "null"], ["integer", "string"]])
    if r.random() < 0.6:
        s["description"] = text(r)
    if kind == "string" and r.random() < 0.4:
        s["enum"] = ["celsius", "fahrenheit", "日本"]
    if kind == "array" and r.random() < 0.8:
        s["items"] = schema(r, depth + 1)
    if kind == "object" and r.random() < 0.8:
        s["properties"] = {w: schema(r, depth + 1) for w in r.sample(WORDS, r.randrange(3))}
    if r.random() < 0.2:
        s["default"] = value(r, 2)
    if r.random() < 0.1:
        s["nullable"] = True
    return s


def tool(r):
    f = {"name": r.choice(NAMES)}
    if r.random() < 0.95:
        f["description"] = text(r)
    if r.random() < 0.9:
        names = r.sample(WORDS, r.randrange(4))
        f["parameters"] = {"type": "object", "properties": {w: schema(r) for w in names}}
        if r.random() < 0.7:
            f["parameters"]["required"] = [w for w in names if r.random() < 0.5]
    if r.random() < 0.1:
        f["strict"] = True
    if r.random() < 0.1:
        f["return"] = {"type": "string"}
    return {"type": "function", "function": f}


def content(r):
    kind = r.randrange(12)
    if kind == 0:
        return [{"type": "text", "text": text(r)} for _ in range(r.randrange(3))]
    if kind == 1:
        return [text(r)]
    return text(r)


def call(r, i):
    f = {"name": r.choice(NAMES), "arguments": arguments(r)}
    if r.random() < 0.03:
        del f["arguments"]
    c = {"id": r.choice(["call_%d" % i, "abcdefg%02d" % i, "functions.search:%d" % i]),
         "type": "function", "function": f}
    if r.random() < 0.1:
        c["index"] = i
    if r.random() < 0.05:
        c["id"] = None
    return c


def assistant(r, with_calls):
    m = {"role": "assistant", "content": content(r)}
    if r.random() < 0.3:
        m[r.choice(["reasoning_content", "thinking", "reasoning"])] = text(r)
    if r.random() < 0.05:
        m["refusal"] = None
    if with_calls:
        m["tool_calls"] = [call(r, i) for i in range(r.choice([1, 1, 2, 3]))]
        kind = r.randrange(4)
        if kind == 0:
            m["content"] = None
        elif kind == 1:
            del m["content"]
        elif kind == 2:
            m["content"] = ""
    elif r.random() < 0.1:
        m["tool_calls"] = r.choice([None, []])
    return m


def result(r, c):
    m = {"role": "tool", "tool_call_id": c["id"] or "none", "content": content(r)}
    if r.random() < 0.5:
        m["name"] = c["function"]["name"]
    if r.random() < 0.3:
        m["content"] = json.dumps(value(r))
    return m


def turns(r, with_tools):
    out = []
    for _ in range(r.choice([1, 1, 2, 3, 5])):
        user = {"role": "user", "content": content(r)}
        if r.random() < 0.05:
            user["name"] = "alice"
        out.append(user)
        for _ in range(r.choice([0, 1, 1, 2]) if with_tools else 0):
            m = assistant(r, True)
            out.append(m)
            out += [result(r, c) for c in m["tool_calls"]]
        if r.random() < 0.8:
            out.append(assistant(r, False))
    if out[-1]["role"] == "assistant" and r.random() < 0.8:
        out.append({"role": "user", "content": content(r)})
    return out


def kwargs(r):
    k = {}
    if r.random() < 0.2:
        k["add_generation_prompt"] = r.random() < 0.5
    if r.random() < 0.2:
        k["thinking"] = r.random() < 0.5
    if r.random() < 0.1:
        k["date_string"] = "22 Nov 2026"
    if r.random() < 0.1:
        k[r.choice(["preserve_thinking", "clear_thinking", "custom_tools", "model_identity",
                    "tools_in_user_message", "builtin_tools", "xml_tools", "python_tools"])] = \
            r.choice([True, False, ["browser", "python"], "text"])
    return k


def tame(r):
    """What careful templates accept: alternating roles, one call at a time, complete tools."""
    with_tools = r.random() < 0.6
    messages = []
    if r.random() < 0.4:
        messages.append({"role": "system", "content": text(r)})
    request = {"model": "m", "messages": messages}
    for turn in range(r.choice([1, 2, 3])):
        if turn:
            messages.append({"role": "assistant", "content": text(r) or "Yes."})
        messages.append({"role": "user", "content": text(r) or "Go on."})
        if not with_tools or r.random() < 0.4:
            continue
        for i in range(r.choice([1, 1, 2])):
            d = {r.choice(WORDS): value(r) for _ in range(r.randrange(3))}
            c = {"id": "abcdefg%02d" % i, "type": "function", "function": {
                "name": r.choice(NAMES), "arguments": d if r.random() < 0.5 else json.dumps(d)}}
            messages.append({"role": "assistant", "content": None, "tool_calls": [c]})
            if r.random() < 0.3:
                messages[-1]["reasoning_content"] = text(r)
            messages.append({"role": "tool", "tool_call_id": c["id"], "content": text(r),
                             "name": c["function"]["name"]})
        messages.append({"role": "assistant", "content": text(r) or "Done."})
        messages.append({"role": "user", "content": text(r) or "Thanks."})
    if with_tools:
        names = r.sample(WORDS, 2)
        request["tools"] = [{"type": "function", "function": {
            "name": name, "description": text(r),
            "parameters": {"type": "object", "required": names[:1], "properties": {
                w: {"type": r.choice(["string", "integer"]), "description": text(r)}
                for w in names}}, "return": {"type": "string"}}} for name in r.sample(NAMES, 2)]
    if r.random() < 0.3:
        request["enable_thinking"] = r.random() < 0.5
    if r.random() < 0.3:
        request["chat_template_kwargs"] = {"functions": json.dumps(request.get("tools")),
                                           "datetime": "now", "add_generation_prompt": False}
    return request


def make(r):
    return tame(r) if r.random() < 0.4 else wild(r)


def wild(r):
    with_tools = r.random() < 0.6
    messages = turns(r, with_tools)
    if r.random() < 0.5:
        messages.insert(0, {"role": r.choice(["system", "system", "system", "developer"]),
                            "content": content(r)})
    if r.random() < 0.04:
        r.shuffle(messages)
    request = {"model": "m", "messages": messages}
    if with_tools and r.random() < 0.9:
        request["tools"] = [tool(r) for _ in range(r.choice([1, 1, 2, 3]))]
    elif r.random() < 0.1:
        request["tools"] = r.choice([None, []])
    if r.random() < 0.08:
        request["documents"] = [{"title": text(r), "text": text(r)} for _ in range(2)]
    if r.random() < 0.3:
        request["enable_thinking"] = r.random() < 0.5
    if r.random() < 0.15:
        request["reasoning_effort"] = r.choice(["low", "medium", "high"])
    k = kwargs(r)
    if k:
        request["chat_template_kwargs"] = k
    return request
