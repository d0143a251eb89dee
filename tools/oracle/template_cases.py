"""What the fixtures of chat templates are made of: constructs one by one, and templates of our own.

cases()      (name, template), with the variables V: expected text or failure comes from jinja2.
templates()  (name, template): rendered with generated conversations.
"""

V = {
    "s": "Hello, World", "e": "", "u": "Größe 日本 👩‍👩‍👧", "sp": "  padded \n", "n": 7, "neg": -3,
    "f": 2.5, "z": 0, "b": True, "nil": None, "big": 123456789012345678901234567890,
    "l": [1, 2, 3, 4, 5], "words": ["pear", "Apple", "fig", "apple"], "empty": [],
    "d": {"b": 2, "a": 1, "items": [1], "get": "x"}, "nested": {"x": {"y": [10, {"z": "deep"}]}},
    "rows": [{"name": "a", "n": 3, "ok": True}, {"name": "b", "n": 1, "ok": False},
             {"name": "c", "n": 2}],
    "mixed": [1, "a", None, True, 2.0, [1], {"k": "v"}], "q": "it's \"quoted\"", "html": "<a & 'b'>",
    "lines": "one\ntwo\r\nthree\n\nfive", "json": "{\"a\": [1, 2.0, null]}",
}

# One expression per line, each rendered as {{ expression }}.
EXPRESSIONS = r"""
1 + 2 * 3 - 4
(1 + 2) * 3
7 / 2
8 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7.5 // 2
-7.5 % 2
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
- n
+ n
-f
1 + 1.0
true + 1
0.1 + 0.2
1e16
1e15
123456789.0 * 10
1e-5
0.0001
1.5e300 * 1e10
1_000
5e-324
1/3
9007199254740993
big
big == big
big > 1
big < 1.0
neg|abs
9223372036854775807
"a" "b" 'c'
'a\tb\n\x41\u00e9\U0001F600\101\q\\'
'it\'s'
"a" ~ 1 ~ 2.0 ~ none ~ true
1 ~ 2 + 3
"x" * 3
3 * "ab"
[1] * 2
[1] + [2]
(1,) + (2, 3)
()
(1,)
(1, 2)
[1, 'a', none, 2.0, (3,)]
{}
{'a': 1, 2: 'b', none: true}
{'a': {'b': [1]}}
1 < 2 < 3
1 < 3 < 2
1 == 1.0
1 == true
'a' < 'b'
'a' == 1
[1, 2] < [1, 3]
[1, 2] == [1, 2.0]
{'a': 1} == {'a': 1.0}
none == none
x == y
x == none
x != 1
'lo' in s
'xx' not in s
3 in l
'b' in d
'zz' in d
'a' in x
1 in (1, 2)
not b
not not e
e or 'fallback'
s and n
nil or none
1 and 0 or 2
'yes' if b else 'no'
'yes' if z
('yes' if z) is undefined
1 if z else 2 if e else 3
s.upper()
s.lower()
u.upper()
'straße ΟΔΟΣ ǆ'.upper()
'ΟΔΟΣ ΑΣ Σ'.lower()
'hello wORLD it\'s'.title()
'hELLO'.capitalize()
u.capitalize()
sp.strip() ~ '|'
'xxaxx'.strip('x')
'xyaxy'.lstrip('yx')
'abc'.rstrip('bc')
'日本日'.strip('日')
'\u2003a\u00a0\x1c'.strip()
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'  a b  c '.split()
' a b c '.split(none, 1)
'a<sep>b'.split('<sep>')[-1]
'abc'.split('x')
''.split(',')
''.split()
'a,b,c'.rsplit(',', 1)
lines.splitlines()
lines.splitlines(true)
'a=b=c'.partition('=')
'abc'.partition('=')
s.startswith('Hell')
s.startswith(('x', 'H'))
s.endswith('World')
s.endswith('')
'aXbX'.replace('X', 'yy')
'aXbX'.replace('X', 'yy', 1)
'abc'.replace('', '-')
'日本'.replace('', '-', 2)
s.find('World')
u.find('本')
s.find('zz')
'abcabc'.rfind('b')
'banana'.count('an')
','.join(['a', 'b'])
','.join('abc')
'abc'.removeprefix('ab')
'abc'.removesuffix('bc')
'  '.isspace()
'{} and {}'.format(1, 'b')
'{1}{0}{x}{{}}'.format('a', 'b', x=3)
'%s is %d%%' % ('n', 5)
'%s' % 'one'
'%r' % 'x'
'%s-%s'|format('a', 1)
s[0]
s[-1]
s[100]
u[6]
u[-1]
s[1:4]
s[:-1]
s[::-1]
s[::2]
u[::-1]
u[6:8]
s[10:2]
s[-100:3]
l[1]
l[-1]
l[9]
l[1:3]
l[::-1]
l[::-2]
l[4:0:-1]
l[:0]
l[-2:]
(1, 2, 3)[1:]
l[true]
d.b
d['b']
d.missing
d['missing']
d['items']
d['keys'] is defined
d.items()
d.items() | list
d.keys() | list
d.values() | list
d.get('a')
d.get('zz')
d.get('zz', 9)
nested.x.y[1].z
nested['x']['y'].0
nil.x
nil['x']
n.x
s.nothing
x is defined
x is undefined
n is defined
nil is none
n is none
s is string
n is string
n is number
f is number
b is number
f is float
n is integer
b is integer
b is boolean
n is boolean
b is true
z is false
true is true
d is mapping
l is mapping
l is sequence
s is sequence
d is sequence
x is sequence
l is iterable
n is iterable
x is iterable
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
n is eq 7
n is equalto(8)
n is ne 8
n is gt 3
n is in [1, 7]
n is not in [1, 7]
'abc' is lower
'ABC' is upper
'1' is lower
none is sameas none
range is callable
n is not none and b is true
s|length
u|length
l|count
d|length
x|length
sp|trim ~ '|'
'xax'|trim('x')
n|string ~ 'x'
nil|string
x|string
s|upper
s|lower
'hello world'|title
'it\'s a (test) [x] b-c'|title
'hELLO'|capitalize
s|replace('l', 'L')
s|replace('l', 'L', 1)
n|replace(7, 'seven')
l|join
l|join(', ')
mixed|join('-')
s|join('.')
x|join(',')
rows|join(', ', attribute='name')
d|items|list
x|items|list
d|list
s|list
l|first
l|last
empty|first
s|first
u|last
x|default('def')
e|default('def')
e|default('def', true)
nil|default('def', boolean=true)
x|d
x|default
words|sort
words|sort(case_sensitive=true)
words|sort(reverse=true)
l|sort(reverse=true)
rows|sort(attribute='n')|map(attribute='name')|list
words|unique|list
words|unique(case_sensitive=true)|list
[1, 1.0, true, 2]|unique|list
d|dictsort
{'B': 1, 'a': 2, 'C': 0}|dictsort
{'B': 1, 'a': 2, 'C': 0}|dictsort(true)
{'B': 1, 'a': 2, 'C': 0}|dictsort(by='value')
{'B': 1, 'a': 2}|dictsort(reverse=true)
{2: 'a', 1: 'b'}|dictsort
rows|map(attribute='n')|list
rows|map(attribute='zz', default='-')|list
words|map('upper')|list
words|map('replace', 'p', 'P')|list
rows|selectattr('ok')|map(attribute='name')|list
rows|selectattr('ok', 'defined')|map(attribute='name')|list
rows|selectattr('name', 'equalto', 'b')|list
rows|rejectattr('n', 'gt', 1)|list
rows|selectattr('name', 'in', ['a', 'c'])|map(attribute='n')|join('+')
l|select('odd')|list
l|reject('odd')|list
mixed|select|list
mixed|select('string')|list
l|reject('equalto', 3)|list
nil|select('odd')|list
l|map('string')|join('/')
l|batch(2)|list
l|batch(2, 0)|list
l|reverse|list
s|reverse
l|sum
rows|sum(attribute='n')
l|max
words|min
empty|max
f|int
'12'|int
'12.7'|int
'abc'|int
'abc'|int(5)
' 42 '|int
nil|int
'1.5'|float
'x'|float(9.0)
n|float
2.567|round(2)
2.5|round
7|round(3)
7|round(1, 'floor')
007
00
'\N{DASH'
rows|map(attribut='n')|list
3.5|round
2.1|round(0, 'ceil')
2.9|round(method='floor')
lines|indent
lines|indent(2, true)
lines|indent(2, first=true, blank=true)
lines|indent('> ')
'x'|indent
d|attr('a')
'<b>'|safe + '<c>'
('<b>'|safe) ~ '<c>'
html + 'x'|safe
(html|safe)[1:] + '&'
d|tojson
mixed|tojson
q|tojson
u|tojson
u|tojson(ensure_ascii=true)
u|tojson(true)
html|tojson
nested|tojson(indent=2)
nested|tojson(indent=4, ensure_ascii=false)
[]|tojson(indent=2)
{}|tojson(indent=2)
d|tojson(separators=(',', ':'))
d|tojson(sort_keys=true)
{'b': {'d': 1, 'c': 2}, 'a': 1}|tojson(sort_keys=true, indent=1)
{1: 'a', none: 'b', true: 'c', 2.5: 'd'}|tojson
'\x00\x1f\x7f\u2028'|tojson
'\x00\x1f\x7f\u2028'|tojson(ensure_ascii=true)
(1, 2)|tojson
1e16|tojson
2.0|tojson
big|tojson
json|from_json
(json|from_json).a[1]
q
[q]
["it's", 'say "x"', 'both \' "', 'back\\slash', 'tab\t', '\x7f\u00a0\u200d\u2028é日']
mixed
[u]
[x]
range(3)|list
range(3)
range(1, 5, 2)
d.keys()
d.values()
rows|sort(attribute='ok,name')|map(attribute='name')|list
rows[:2]|sort(attribute='ok,name')|map(attribute='name')|list
range(1, 10, 3)|list
range(5, 0, -2)|list
range(0)|list
range(3)[1]
range(3)|length
dict(a=1, b=2)
dict({'a': 1}, b=2)
dict([('k', 'v')])
namespace(a=1).a
namespace({'a': 1}, b=2).b
namespace(a=1).zz is defined
s.split(', ')[0].lower()[::-1]|upper
l[n - 6]
(l)[0]
[[1, 2], [3, 4]][1][0]
{'a': [1]}['a'][0]
not x is defined
2 if not b else 3
s is string and l is iterable or false
-l[0]
l[-l[0]]
'a' ~ ('b' if b else 'c') ~ 'd'
n in l or n == 7
"{% not a tag %}"
'}}'
{'a': {'b': {}}}.a.b|length
"\"" + '\''
 n
x.y
x['y']
x()
x + 1
'a' + x
'a' + none
'a' + 1
1 + 'a'
none + 1
[] + 'a'
l + (1,)
x < 1
none < 1
'a' < 1
1 / 0
1 // 0
1 % 0
x|tojson
[x]|tojson
range|tojson
nil|length
n|length
nil|list
nil|items|list
l|items|list
nil[:1]
d[:1]
n()
s['a':]
l[::0]
x in 'abc'
1 in 'abc'
1 in 5
[] in d
{[]: 1}
l|sort(attribute='a')|list
mixed|sort
s.split('')
nil|join(',')
'%d' % 'a'
'%s %s' % ('a',)
'{} {}'.format(1)
range(200000)
l|first(1)
l|map('nofilter')|list
raise_exception('no: ' ~ n)
""".strip("\n").split("\n")

BLOCKS = [
    ("if chain", "{% if z %}a{% elif n == 7 %}b{% elif b %}c{% else %}d{% endif %}"),
    ("if none true", "[{% if z %}a{% elif e %}b{% endif %}]"),
    ("for", "{% for x in l %}{{ x }},{% endfor %}"),
    ("for string", "{% for c in u %}{{ c }}|{% endfor %}"),
    ("for dict", "{% for k in d %}{{ k }}{% endfor %}"),
    ("for pairs", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}"),
    ("for nested target", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}"),
    ("for bad unpack", "{% for a, b in l %}{{ a }}{% endfor %}"),
    ("for else", "{% for x in empty %}x{% else %}none{% endfor %}"),
    ("for if else", "{% for x in l if x > 9 %}x{% else %}none{% endfor %}"),
    ("for if", "{% for x in l if x is odd %}{{ x }}{{ loop.index }}{{ loop.last }} {% endfor %}"),
    ("for undefined", "[{% for x in missing %}x{% endfor %}]"),
    ("for none", "[{% for x in nil %}x{% endfor %}]"),
    ("for number", "{% for x in n %}x{% endfor %}"),
    ("loop fields", "{% for x in words %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/"
     "{{ loop.revindex0 }}/{{ loop.length }}/{{ loop.first }}/{{ loop.last }}/"
     "{{ loop.previtem }}/{{ loop.nextitem }};{% endfor %}"),
    ("loop previtem", "{% for x in l %}{% if loop.previtem is defined %}{{ loop.previtem }}"
     "{% endif %}{% if loop.nextitem is not defined %}!{% endif %}{% endfor %}"),
    ("loop cycle", "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}"),
    ("loop changed", "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }}{% endfor %}"),
    ("loop nested", "{% for x in l[:2] %}{% set o = loop %}{% for y in 'ab' %}{{ o.index }}"
     "{{ loop.index }} {% endfor %}{{ loop.index }}{% endfor %}"),
    ("loop over generator", "{% for x in l|select('odd') %}{{ x }}{{ loop.last }}{% endfor %}"),
    ("generator once", "{% set g = l|select('odd') %}{{ g|list }}{{ g|list }}"),
    ("break", "{% for x in l %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}!"),
    ("continue", "{% for x in l %}{% if x == 3 %}{% continue %}{% endif %}{{ x }}{% endfor %}!"),
    ("break inner", "{% for x in l %}{% for y in l %}{% if y > x %}{% break %}{% endif %}{{ y }}"
     "{% endfor %};{% endfor %}"),
    ("set", "{% set a = 1 %}{{ a }}{% set a = a + 1 %}{{ a }}"),
    ("set tuple", "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}"),
    ("set in if leaks", "{% if b %}{% set a = 1 %}{% endif %}{{ a }}"),
    ("set in for stays", "{% set a = 1 %}{% for x in l %}{% set a = x %}{{ a }}{% endfor %}{{ a }}"),
    ("set in for afresh", "{% set a = 'o' %}{% for x in l %}{{ a }}{% set a = x %}{% endfor %}"),
    ("loop target shadows", "{% set x = 'o' %}{% for x in l %}{{ x }}{% endfor %}{{ x }}"),
    ("loop source same name", "{% set x = [1, 2] %}{% for x in x %}{{ x }}{% endfor %}{{ x }}"),
    ("namespace", "{% set ns = namespace(c=0) %}{% for x in l %}{% set ns.c = ns.c + x %}"
     "{% endfor %}{{ ns.c }}{% set ns.new = 'y' %}{{ ns.new }}{{ ns['c'] }}{{ ns.zz }}"),
    ("namespace missing", "{% set ns.a = 1 %}"),
    ("namespace not", "{% set d.a = 1 %}"),
    ("namespace underscore", "{% set ns = namespace(_a=1) %}"),
    ("set block", "{% set a %}x{{ n }}y{% endset %}[{{ a }}]{{ a|length }}"),
    ("set block filter", "{% set a | upper | trim %} x{{ s }} {% endset %}[{{ a }}]"),
    ("set block scope", "{% set a %}{% set q = 'in' %}{{ q }}{% endset %}{{ a }}{{ q }}"),
    ("filter block", "{% filter upper|replace('L', '1') %}all {{ s }}{% endfilter %}"),
    ("filter block args", "{% filter indent(2, true) %}a\nb{% endfilter %}"),
    ("with", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}{{ b }}"),
    ("generation", "a{% generation %}b{% set q = 1 %}{{ q }}{% endgeneration %}c{{ q }}"),
    ("macro", "{% macro m(a, b=2, c='x' ~ b) %}{{ a }}-{{ b }}-{{ c }};{% endmacro %}"
     "{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=4) }}{{ m(b=5, a=6) }}{{ m() }}"),
    ("macro too many", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}"),
    ("macro unknown keyword", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}"),
    ("macro given twice", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}"),
    ("macro recursive", "{% macro m(k) %}{{ k }}{% if k %}{{ m(k - 1) }}{% endif %}{% endmacro %}"
     "{{ m(5) }}"),
    ("macro sees top later", "{% macro m() %}[{{ t }}]{% endmacro %}{{ m() }}{% set t = 1 %}{{ m() }}"),
    ("macro not loop var", "{% macro m() %}[{{ x }}]{% endmacro %}{% for x in l %}{{ m() }}{% endfor %}"),
    ("macro set local", "{% set a = 1 %}{% macro m() %}{% set a = 2 %}{{ a }}{% endmacro %}"
     "{{ m() }}{{ a }}"),
    ("macro value", "{% macro m(a) %} {{ a }} {% endmacro %}{% set v = m(1) %}[{{ v|trim }}]"
     "{{ v|length }}{{ m('q').strip() ~ '!' }}"),
    ("macro in macro", "{% macro a() %}A{{ c() }}{% endmacro %}{% macro c() %}C{% endmacro %}{{ a() }}"),
    ("macro loop inside", "{% macro m(v) %}{% for x in v %}{{ x }}{% if not loop.last %},{% endif %}"
     "{% endfor %}{% endmacro %}{% for y in [[1, 2], [3]] %}{{ m(y) }}{{ loop.index }};{% endfor %}"),
    ("macro in loop closes over it", "{% for x in l[:2] %}{% macro m() %}{{ x }}{% endmacro %}"
     "{{ m() }}{% endfor %}"),
    ("macro as value", "{% macro m() %}x{% endmacro %}{{ m is callable }}{{ m is defined }}"),
    ("append pop", "{% set a = [] %}{% for x in l %}{% set _ = a.append(x) %}{% endfor %}{{ a }}"
     "{{ a.pop(0) }}{{ a.pop() }}{{ a }}"),
    ("append output", "{% set a = [] %}{{ a.append(1) }}{{ a }}"),
    ("dict changes", "{% set a = {'x': 1} %}{{ a.pop('x') }}{{ a.update({'y': 2}, z=3) }}{{ a }}"
     "{{ a.setdefault('y', 5) }}{{ a.pop('zz', 0) }}"),
    ("raise", "{{ raise_exception('Conversation roles must alternate') }}"),
    ("raise in branch", "{% if n > 1 %}{{ raise_exception('n is ' + n|string) }}{% endif %}"),
    ("strftime", "{{ strftime_now('%Y') is string }}{{ strftime_now is defined }}"),
    ("raw", "{% raw %}{{ x }}{% if %}{% endraw %}!"),
    ("raw trims", "a\n  {% raw %}\n b\n  {% endraw %}\n c"),
    ("raw minus", "a  {%- raw -%}  b  {%- endraw -%}  c"),
    ("comment", "a{# c {{ x }} #}b{#- c -#} c  {#- c #} d\n {# c #}\ne"),
    ("trim blocks", "{% if b %}\nx\n{% endif %}\ny\n{{ n }}\nz"),
    ("trim once", "{% if b %}\n\nx{% endif %}"),
    ("lstrip blocks", "a\n   {% if b %}\nb\n\t {% endif %}\n  {{ n }}\n c {% if b %}d{% endif %}"),
    ("lstrip at start", "  {% if b %}x{% endif %}\n  {# c #}y"),
    ("lstrip after block", "{% if b %}\n  {% if b %}x{% endif %}{% endif %}"),
    ("lstrip after output", "{{ n }}  {% if b %}x{% endif %}"),
    ("lstrip not after tag", "{% if b %}  {% if b %}x{% endif %}{% endif %}"),
    ("plus", "a\n  {%+ if b +%}\nb{% endif %}"),
    ("minus", "a \n {%- if b -%} \n b \n {%- endif -%} \n c"),
    ("minus output", "a \n {{- n -}} \n c {{ n -}} d"),
    ("minus unicode space", "a\u00a0\u2003{%- if b -%}\u00a0\u2003b{% endif %}"),
    ("last newline", "a\n\n"), ("crlf", "a\r\n{% if b %}\r\nb\r{% endif %}c\r\n"),
    ("only text", "no tags { } { % } at all"), ("empty", ""),
    ("braces in output", "{{ {'a': {'b': 1}}['a'] }}}}"),
    ("unclosed block", "{% if b %}x"), ("unclosed tag", "{{ n"), ("unclosed comment", "{# x"),
    ("unclosed raw", "{% raw %}x"), ("unclosed string", "{{ 'x }}"),
    ("stray endif", "{% endif %}"), ("stray brace", "{{ ) }}"), ("bad nesting", "{{ (1] }}"),
    ("unknown tag", "{% nosuch %}"), ("missing expression", "{{ }}"), ("bad for", "{% for x l %}{% endfor %}"),
    ("bad operator", "{{ 1 $ 2 }}"), ("double operator", "{{ 1 + * 2 }}"),
    ("chained test", "{{ n is defined is string }}"),
    ("keyword first", "{% macro m(a, b) %}{% endmacro %}{{ m(a=1, 2) }}"),
    ("default order", "{% macro m(a=1, b) %}{% endmacro %}"),
    ("tuple output", "{{ 1, 2 }}"), ("if tuple", "{% if 1, 2 %}x{% endif %}"),
    ("if parens", "{%if(b)%}x{%endif%}{%-for(x)in(l)-%}{{x}}{%endfor%}"),
    ("no spaces", "{{n}}{{'a'~n}}{{n|string|length}}{{d.a+d['b']}}"),
    ("filter precedence", "{{ 1 + 2|string|length }}{{ -3|abs }}{{ not 'a'|length == 1 }}"),
    ("test precedence", "{{ 1 + 2 is odd }}{{ not n is even }}{{ n is odd == true }}"),
    ("concat growing", "{% set ns = namespace(t='') %}{% for x in range(50) %}"
     "{% set ns.t = ns.t + x|string + ',' %}{% endfor %}{{ ns.t }}"),
    ("strings share", "{% set a = 'x' + 'y' %}{% set p = a + '1' %}{% set q = a + '2' %}{{ a }}{{ p }}{{ q }}"
     "{{ p + q }}{{ p }}"),
    ("slice then add", "{% set a = s[:5] + '!' %}{{ a }}{{ s }}{{ a[1:3] + a[3:] }}"),
]


def cases():
    for i, expression in enumerate(EXPRESSIONS):
        yield f"expression {i}", "{{ " + expression + " }}"
    for name, source in BLOCKS:
        yield name, source


CHATML = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
{{- 'Tools:' }}
{%- for tool in tools %}
{{- '\\n' ~ (tool | tojson) }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, seen=false) %}
{%- for m in messages[::-1] %}
    {%- if not ns.seen and m.role == 'user' %}
        {%- set ns.seen = true %}
        {%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'system' and loop.first %}{% continue %}{% endif %}
    {%- set content = m.content if m.content is string else '' %}
    {%- if m.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if m.reasoning_content is defined and loop.index0 > ns.last %}
            {{- '<think>\\n' + m.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content.split('</think>')[-1].lstrip('\\n') }}
        {%- for call in m.tool_calls or [] %}
            {%- if call.function %}{% set call = call.function %}{% endif %}
            {{- '\\n<call name="' ~ call.name ~ '">' }}
            {%- if call.arguments is mapping %}
                {%- for key, value in call.arguments|items %}
                    {{- key ~ '=' ~ (value if value is string else value|tojson) ~ ';' }}
                {%- endfor %}
            {%- else %}
                {{- call.arguments }}
            {%- endif %}
            {{- '</call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif m.role == 'tool' %}
        {%- if loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<result>\\n' ~ content ~ '\\n</result>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}{% endif %}
{%- endif %}
"""

INST = """\
{% macro schema(p, depth=0) -%}
{{ '  ' * depth }}{{ p.type|default('any') }}{% if p.description %}: {{ p.description|trim }}{% endif %}

{% for name, q in (p.properties or {})|dictsort %}
{{ '  ' * depth }}- {{ name }} {% if name in (p.required or []) %}(required) {% endif %}
{{ schema(q, depth + 1) }}
{%- endfor %}
{%- endmacro %}
{{ bos_token }}{% if messages[0]['role'] == 'system' %}
    {% set system = messages[0]['content'] | trim %}
    {% set loop_messages = messages[1:] %}
{% else %}
    {% set system = 'You are kind.' %}
    {% set loop_messages = messages %}
{% endif %}
[SYS] {{ system }}
{% for tool in tools or [] %}
{{ tool.function.name }} => {{ schema(tool.function.parameters or {'type': 'none'}) -}}
{% endfor %}
[/SYS]
{% for message in loop_messages %}
{% if message['role'] not in ['user', 'assistant', 'tool'] %}
{{ raise_exception('Unknown role: ' + message['role']) }}
{% elif message['role'] == 'user' %}
{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}
{% elif message['role'] == 'tool' %}
[RESULT {{ message.get('name', 'unknown') }}] {{ message['content'] | tojson }}
{% else %}
{% if message.tool_calls %}{{ message.tool_calls | map(attribute='function') | list | tojson(indent=2) }}
{% endif %}
{{ message['content'] | trim | indent(2, first=true) }}{{ eos_token }}
{% endif %}
{% endfor %}
"""


def templates():
    return [("chatml", CHATML), ("inst", INST)]
