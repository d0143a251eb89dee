"""What a chat template refuses: a request with the template's own words, a model before it is served."""
import json
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from client import Server, check

STRICT = """\
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate: user, then assistant') }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\n' if add_generation_prompt }}"""

# What no interpreter of templates has, in a branch that no request reaches, on line 3.
UNKNOWN = {
    "{{ messages | shuffle }}": "shuffle",
    "{{ messages is prime }}": "prime",
    "{{ open('/etc/passwd') }}": "open",
    "{{ messages.frobnicate() }}": "frobnicate",
    "{% include 'other' %}": "include",
    "{{ messages | map('shuffle') | list }}": "shuffle",
}


@contextmanager
def with_template(model, template):
    with tempfile.TemporaryDirectory(prefix="renga-template-") as scratch:
        copy = Path(scratch) / "templated"
        shutil.copytree(model, copy)
        config = json.loads((copy / "tokenizer_config.json").read_text())
        config["chat_template"] = template
        (copy / "tokenizer_config.json").write_text(json.dumps(config))
        yield copy


def test_raise_exception_is_400_with_its_message(binary, model):
    with with_template(model, STRICT) as copy:
        server = Server(binary, str(copy), [])
        try:
            user = {"role": "user", "content": "one"}
            for stream in False, True:
                a = server.post(server.body("x", messages=[user, user], stream=stream))
                check(a.status == 400, a.status, a.body)
                error = a.json["error"]
                check("Roles must alternate: user, then assistant" in error["message"], error)
                check(error["type"] == "invalid_request_error", error)
                a = server.post(server.body("x", messages=[user], max_tokens=2, stream=stream))
                check(a.status == 200, a.status, a.body)
            check(server.stop() == 0, "exit status", server.process.returncode)
        finally:
            server.process.kill()
            server.process.wait()


def test_what_the_interpreter_does_not_know_is_refused_at_load(binary, model):
    for construct, name in UNKNOWN.items():
        template = "{{ 'a' }}\n{% if false %}\n" + construct + "\n{% endif %}"
        with with_template(model, template) as copy:
            p = subprocess.run([binary, "serve", "--default-model", str(copy), "--api-port", "0"],
                               capture_output=True, text=True, timeout=60)
            says = [line for line in p.stderr.splitlines() if line.startswith("renga: ")]
            check(p.returncode == 2, construct, "exit", p.returncode, p.stderr)
            check(len(says) == 1 and name in says[0] and "line 3" in says[0], construct, p.stderr)
