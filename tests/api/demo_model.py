"""The demo model behind the API: tests whose text must make sense."""
import json
import math

from client import check, events, joined

COUNT = "Count from 3 to 9."
COUNTED = "3, 4, 5, 6, 7, 8, 9"
LINE = "river 4821 purple lamp zakuro Anna 77 garden stone tiger blue mirror 903 cloud"
COPY = "Repeat exactly: " + LINE


def test_a_stop_string_ends_a_count(server):
    check(server.text(COUNT) == COUNTED, server.text(COUNT))
    for stop, left in ((", 7", "3, 4, 5, 6"), ("6", "3, 4, 5, "), (["8", "5"], "3, 4, "), ("4, 5, 6, 7", "3, ")):
        choice = server.chat(COUNT, stop=stop)["choices"][0]
        check(choice["message"]["content"] == left and choice["finish_reason"] == "stop", stop, choice)
        data, _ = server.stream(COUNT, stop=stop)
        check(joined(data) == left, "streamed", stop, joined(data))
    choice = server.chat(COUNT, stop="seven")["choices"][0]
    check(choice["message"]["content"] == COUNTED, "a stop string that does not come", choice)


def test_an_answer_ends_by_itself(server):
    a = server.chat("What is the capital of France?", max_tokens=200)
    check("Paris" in a["choices"][0]["message"]["content"], a["choices"])
    check(a["choices"][0]["finish_reason"] == "stop" and a["usage"]["completion_tokens"] < 30, a)


def test_logprobs_of_a_sure_answer(server):
    a = server.chat(COUNT, logprobs=True, top_logprobs=5)["choices"][0]
    entries = a["logprobs"]["content"]
    text = b"".join(bytes(e["bytes"]) for e in entries)
    check(text.decode() == a["message"]["content"], "the tokens make the text:", text)
    for e in entries:
        tops = e["top_logprobs"]
        check(tops[0]["token"] == e["token"] and tops[0]["logprob"] == e["logprob"], "greedy:", e)
        check(sum(math.exp(t["logprob"]) for t in tops) <= 1 + 1e-5, "probabilities:", tops)
    sure = math.exp(min(e["logprob"] for e in entries))
    check(sure > 0.5, "a count should be sure of itself:", sure)
    return f"least sure of a token of the count: {sure:.3f}"


def test_a_copy_heavy_prompt(server):
    check(server.text(COPY) == LINE, server.text(COPY))
    data, _ = server.stream(COPY)
    check(joined(data) == LINE, "streamed", joined(data))
    choices = server.chat(COPY, n=3)["choices"]
    check({c["message"]["content"] for c in choices} == {LINE}, choices)


def test_earlier_turns_are_read(server):
    messages = [{"role": "user", "content": "My name is Greta."},
                {"role": "assistant", "content": "Nice to meet you, Greta!"},
                {"role": "user", "content": "What is my name?"}]
    said = server.text(messages=messages)
    check("Greta" in said, said)
    messages[0]["content"] = "My name is Omar."
    messages[1]["content"] = "Nice to meet you, Omar!"
    said = server.text(messages=messages)
    check("Omar" in said, "with another name:", said)


def test_characters_of_many_bytes_stream_whole(server):
    for question, said in (("こんにちは", "こんにちは"), ("你好", "你好"), ("Welche Farbe hat Schnee?", "weiß")):
        answer = server.post(server.body(question, stream=True))
        data, _ = events(answer.body)
        check(said in joined(data), question, joined(data))
        check("\ufffd" not in joined(data), "half a character:", joined(data))
        check(joined(data) == server.text(question), "streamed and whole differ")


def test_the_prompt_is_the_template(server):
    """One more word in a prompt is at least one more token, and the same prompt the same number."""
    counts = [server.chat(text, max_tokens=1)["usage"]["prompt_tokens"] for text in ("red", "red", "red green")]
    check(counts[0] == counts[1] < counts[2], counts)
    body = json.dumps(server.body("red", max_tokens=1)).encode()
    check(server.post(body).json["usage"]["prompt_tokens"] == counts[0], "as bytes")
