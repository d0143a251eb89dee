#!/usr/bin/env python3
"""The openai package (PyPI) against a server.  usage: openai_sdk.py http://127.0.0.1:52415/v1"""
import sys

import openai


def main(url):
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
    model = client.models.list().data[0].id
    assert client.models.retrieve(model).id == model
    ask = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "temperature": 0,
           "max_tokens": 20}

    whole = client.chat.completions.create(**ask)
    text = whole.choices[0].message.content
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.completion_tokens <= 20

    streamed, usage = "", None
    for chunk in client.chat.completions.create(**ask, stream=True,
                                                stream_options={"include_usage": True}):
        if chunk.choices:
            streamed += chunk.choices[0].delta.content or ""
        usage = chunk.usage or usage
    assert streamed == text, (streamed, text)
    assert usage.total_tokens == whole.usage.total_tokens

    stream = client.chat.completions.create(**{**ask, "max_tokens": 1000}, stream=True)
    next(iter(stream))
    stream.close()

    # What was answered may be sent back as it is.
    history = ask["messages"] + [whole.choices[0].message.model_dump(),
                                 {"role": "user", "content": "And?"}]
    client.chat.completions.create(**{**ask, "messages": history})

    extra = client.chat.completions.create(**ask, extra_body={"top_k": 1, "min_p": 0.1})
    assert extra.choices[0].message.content == text
    for wrong, error in (({"temperature": 3}, openai.BadRequestError),
                         ({"model": "gpt-4"}, openai.NotFoundError),
                         ({"tools": [{"type": "function", "function": {"name": "f"}}]},
                          openai.BadRequestError)):
        try:
            client.chat.completions.create(**{**ask, **wrong})
        except error as e:
            assert e.code in ("invalid_value", "model_not_found", "unsupported"), e.code
            assert e.param in wrong, e.param
        else:
            raise AssertionError(f"{wrong} was taken")
    print(f"openai {openai.__version__}: {text!r}")


if __name__ == "__main__":
    main(sys.argv[1])
