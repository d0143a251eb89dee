#!/usr/bin/env python3
"""One long stream through the openai package: "begun" when some of it is there, then all of it as JSON.
usage: openai_sdk_stream.py http://127.0.0.1:52415/v1 '{"a": "request body"}'"""
import json
import sys

import openai


def main(url, body):
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
    body = json.loads(body)
    extra = {"extra_body": {k: body.pop(k) for k in list(body) if k not in ("model", "messages")}}
    text = ""
    for n, chunk in enumerate(client.chat.completions.create(**body, **extra, stream=True)):
        if n == 20:
            print("begun", flush=True)
        text += chunk.choices[0].delta.content or ""
    print(json.dumps(text))


if __name__ == "__main__":
    main(*sys.argv[1:])
