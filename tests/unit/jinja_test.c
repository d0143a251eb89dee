/* jinja_test.c - every construct of a template against what jinja2 made of it, and the bounds.
 *
 * The expected texts of tests/fixtures/templates were written by tools/oracle/templates.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "text/jinja.h"

static struct rg_json *read_fixture(const char *name)
{
    char path[512];
    char *text;
    size_t len;
    struct rg_json *root;
    struct rg_err err;

    (void)snprintf(path, sizeof path, RENGA_SOURCE_DIR "/tests/fixtures/templates/%s", name);
    if (rg_file_read(&text, &len, path, 1 << 20, &err) != RG_OK)
        fail_msg("%s", err.message);
    if (rg_json_parse(&root, text, len, &rg_json_limits_config, &err) != RG_OK)
        fail_msg("%s: %s", path, err.message);
    rg_free(text);
    return root;
}

/* Renders a template with an object's members as its variables. */
static enum rg_code render(const char *source, const struct rg_json *variables,
                           struct rg_prompt *out, struct rg_err *err)
{
    struct rg_jinja *t;
    struct rg_jrun *run = NULL;
    enum rg_code code = rg_jinja_parse(&t, source, strlen(source), err);

    *out = (struct rg_prompt){0};
    if (code != RG_OK)
        return code;
    code = rg_jinja_begin(&run, t, err);
    for (const struct rg_json *j = variables ? rg_json_first(variables) : NULL; code == RG_OK && j;
         j = rg_json_next(j)) {
        struct rg_jvalue v = rg_jv_none();

        code = rg_jv_from_json(rg_jinja_work(run), j, &v);
        if (code == RG_OK)
            code = rg_jinja_set(run, rg_json_key(j), v);
    }
    if (code == RG_OK)
        code = rg_jinja_run(run, out);
    rg_jinja_end(run);
    rg_jinja_free(t);
    return code;
}

static const char *field(const struct rg_json *row, const char *key)
{
    const struct rg_json *j = rg_json_get(row, key);

    return j ? rg_json_string(j) : NULL;
}

/* True if a row of constructs.json comes out as it should; else says what came. */
static bool row_holds(const struct rg_json *row, const struct rg_json *variables)
{
    const char *expected = field(row, "expected");
    const char *raises = field(row, "raises");
    struct rg_err err = {.message = ""};
    struct rg_prompt prompt;
    const enum rg_code code = render(field(row, "template"), variables, &prompt, &err);
    bool holds;

    if (expected)
        holds = code == RG_OK && strcmp(prompt.text, expected) == 0;
    else if (raises)
        holds = code == RG_E_BAD_DATA && strcmp(err.message, raises) == 0;
    else
        holds = code != RG_OK && code != RG_E_NOMEM && err.message[0];
    if (!holds)
        print_error("%s: %s\n  expected %s\n  got      %s\n", field(row, "name"),
                    field(row, "template"),
                    expected ? expected
                    : raises ? raises
                             : "(a failure)",
                    code == RG_OK ? prompt.text : err.message);
    rg_prompt_free(&prompt);
    return holds;
}

static void every_construct_gives_what_jinja2_gives(void **state)
{
    const int64_t live = rg_mem_live();
    struct rg_json *rows = read_fixture("constructs.json");
    struct rg_json *variables = read_fixture("variables.json");
    size_t wrong = 0;

    (void)state;
    assert_true(rg_json_count(rows) > 500);
    for (const struct rg_json *row = rg_json_first(rows); row; row = rg_json_next(row))
        wrong += !row_holds(row, variables);
    assert_int_equal(wrong, 0);
    rg_json_free(rows);
    rg_json_free(variables);
    assert_int_equal(rg_mem_live(), live);
}

/* ---- what is refused at load ---------------------------------------------------------------- */

static void expect_load_error(const char *source, enum rg_code want, const char *part)
{
    const int64_t live = rg_mem_live();
    struct rg_jinja *t;
    struct rg_err err = {.message = ""};
    const enum rg_code code = rg_jinja_parse(&t, source, strlen(source), &err);

    if (code != want || !strstr(err.message, part))
        fail_msg("%.60s: code %d, \"%s\", expected %d with \"%s\"", source, code, err.message, want,
                 part);
    assert_null(t);
    assert_int_equal(rg_mem_live(), live);
}

static void what_is_unknown_is_named_with_its_line_at_load(void **state)
{
    (void)state;
    expect_load_error("a\n{% include 'x' %}", RG_E_UNSUPPORTED, "line 2: unknown tag 'include'");
    expect_load_error("\n\n{{ x|nosuch }}", RG_E_UNSUPPORTED, "line 3: unknown filter 'nosuch'");
    expect_load_error("{% if 0 %}\n{{ x is nosuch }}{% endif %}", RG_E_UNSUPPORTED,
                      "line 2: unknown test 'nosuch'");
    expect_load_error("{{ x.nosuch() }}", RG_E_UNSUPPORTED, "line 1: unknown method 'nosuch'");
    expect_load_error("{{ x.__class__() }}", RG_E_UNSUPPORTED, "unknown method '__class__'");
    expect_load_error("\n{{ nosuch() }}", RG_E_UNSUPPORTED, "line 2: unknown function 'nosuch'");
    expect_load_error("{{ l|map('nosuch') }}", RG_E_UNSUPPORTED, "unknown filter 'nosuch'");
    expect_load_error("{{ l|map('a_name_of_two_and_thirty_letters') }}", RG_E_UNSUPPORTED,
                      "unknown filter 'a_name_of_two_and_thirty_letters'");
    expect_load_error("{% filter nosuch %}{% endfilter %}", RG_E_UNSUPPORTED, "filter 'nosuch'");
    expect_load_error("{% set x | nosuch %}{% endset %}", RG_E_UNSUPPORTED, "filter 'nosuch'");
    expect_load_error("{% block x %}{% endblock %}", RG_E_UNSUPPORTED, "unknown tag 'block'");
    expect_load_error("\n{% call m() %}{% endcall %}", RG_E_UNSUPPORTED,
                      "line 2: unknown tag 'call'");
    expect_load_error("{{ l|select('nosuch') }}", RG_E_UNSUPPORTED, "unknown test 'nosuch'");
    expect_load_error("{{ l|rejectattr('a', 'nosuch') }}", RG_E_UNSUPPORTED, "test 'nosuch'");
    expect_load_error("{% macro m() %}{{ caller() }}{% endmacro %}", RG_E_UNSUPPORTED, "caller");
    expect_load_error("{% for x in y recursive %}{% endfor %}", RG_E_UNSUPPORTED, "recursive");
    expect_load_error("{{ f(*x) }}", RG_E_UNSUPPORTED, "* and **");
    expect_load_error("{% break %}", RG_E_BAD_DATA, "'break' outside of a loop");
    expect_load_error("{% for x in y %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}",
                      RG_E_BAD_DATA, "'continue' outside of a loop");
    expect_load_error("{% if x %}\n\n", RG_E_BAD_DATA, "no 'endif' for the block of line 1");
    expect_load_error("\xff", RG_E_BAD_DATA, "UTF-8");
    expect_load_error("{{ '\\ud800' }}", RG_E_BAD_DATA, "U+D800");
    expect_load_error("{{ 99999999999999999999 }}", RG_E_UNSUPPORTED, "beyond 64 bits");
}

/* ---- bounds --------------------------------------------------------------------------------- */

static void expect_render_error(const char *source, enum rg_code want, const char *part)
{
    const int64_t live = rg_mem_live();
    struct rg_prompt prompt;
    struct rg_err err = {.message = ""};
    const enum rg_code code = render(source, NULL, &prompt, &err);

    if (code != want || !strstr(err.message, part))
        fail_msg("%.60s: code %d, \"%s\", expected %d with \"%s\"", source, code, err.message, want,
                 part);
    assert_null(prompt.text);
    assert_int_equal(rg_mem_live(), live);
}

static void expect_text(const char *source, const char *want)
{
    struct rg_prompt prompt;
    struct rg_err err = {.message = ""};

    if (render(source, NULL, &prompt, &err) != RG_OK)
        fail_msg("%.60s: %s", source, err.message);
    assert_string_equal(prompt.text, want);
    rg_prompt_free(&prompt);
}

/* A call that no value could make right stands in a branch that is never run. */
static void expect_misfit(const char *call, const char *part)
{
    char source[256];

    (void)snprintf(source, sizeof source, "{%% if false %%}\n{{ %s }}{%% endif %%}", call);
    expect_load_error(source, RG_E_UNSUPPORTED, part);
}

static void arguments_that_fit_nothing_are_named_at_load(void **state)
{
    (void)state;
    expect_misfit("x|tojson(indnt=2)", "line 2: filter 'tojson' with these arguments");
    expect_misfit("x|upper(1)", "line 2: filter 'upper' with");
    expect_misfit("x|replace('a')", "line 2: filter 'replace' with");
    expect_misfit("x|default('a', default_value='b')", "filter 'default' with");
    expect_misfit("x|map('tojson', indnt=3)", "line 2: filter 'tojson' with");
    expect_misfit("x|select('divisibleby')", "line 2: test 'divisibleby' with");
    expect_misfit("x.split(',', 1, 2)", "line 2: method 'split' with");
    expect_misfit("x.strip(charz='a')", "line 2: method 'strip' with");
    expect_misfit("x.get()", "line 2: method 'get' with");
    expect_misfit("range()", "line 2: function 'range' with");
    expect_misfit("strftime_now('%Y', 2)", "line 2: function 'strftime_now' with");
    expect_misfit("'%05d' % x", "line 2: unknown conversion '%05d'");
    expect_misfit("'%s %.2f'|format(x, y)", "line 2: unknown conversion '%.2f'");
    expect_misfit("'{:>5}'.format(x)", "line 2: unknown conversion '{:>5}'");
    expect_text("{{ 'a%%b %s' % 1 }}{{ '{{:}} {}'.format(2) }}{{ [1].pop() }}"
                "{{ {'a': 3}.pop('a') }}"
                "{% macro range() %}4{% endmacro %}{{ range() }}",
                "a%b 1{:} 2134");
}

static void what_only_a_value_shows_is_an_error_with_its_line(void **state)
{
    (void)state;
    expect_render_error("\n{{ [1].upper() }}", RG_E_BAD_DATA, "line 2: 'upper' is undefined");
    expect_render_error("\n{{ 'x'.items() }}", RG_E_BAD_DATA, "line 2: 'items' is undefined");
    expect_render_error("\n{{ none.get('x') }}", RG_E_BAD_DATA, "line 2: 'get' is undefined");
    expect_render_error("{{ 1 }}\n\n{{ 1() }}", RG_E_BAD_DATA, "line 3: ");
    expect_render_error("\n{{ 'x'['upper']['lower']() }}", RG_E_BAD_DATA, "line 2: ");
    expect_render_error("\n{% set f = '%q' %}{{ f % 1 }}", RG_E_UNSUPPORTED, "line 2: format '%q'");
    expect_render_error("\n{% set f = '{!r}' %}{{ f.format(1) }}", RG_E_UNSUPPORTED, "line 2: ");
    expect_render_error("\n{% set f = 'nosuch' %}{{ [1]|map(f)|list }}", RG_E_UNSUPPORTED,
                        "line 2: unknown filter 'nosuch'");
}

/* open n times, middle, close n times */
static char *nested(const char *open, const char *middle, const char *close, size_t n)
{
    struct rg_buf b;
    char *text;

    rg_buf_init(&b, 1 << 20);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(rg_buf_add_str(&b, open, NULL), RG_OK);
    assert_int_equal(rg_buf_add_str(&b, middle, NULL), RG_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(rg_buf_add_str(&b, close, NULL), RG_OK);
    text = rg_buf_take(&b);
    assert_non_null(text);
    return text;
}

static void expect_nesting(const char *open, const char *middle, const char *close)
{
    char *fits = nested(open, middle, close, 40);
    char *deep = nested(open, middle, close, 6000);
    struct rg_prompt prompt;
    struct rg_err err = {.message = ""};

    if (render(fits, NULL, &prompt, &err) != RG_OK)
        fail_msg("%.60s: %s", fits, err.message);
    rg_prompt_free(&prompt);
    expect_load_error(deep, RG_E_LIMIT, "");
    rg_free(fits);
    rg_free(deep);
}

static void nesting_is_bounded_at_load(void **state)
{
    char *text;

    (void)state;
    text = nested("(", "1", ")", 6000);
    char *source = nested("{{ ", text, " }}", 1);

    expect_load_error(source, RG_E_LIMIT, "brackets");
    rg_free(source);
    rg_free(text);
    text = nested("(", "1", ")", 100);
    source = nested("{{ ", text, " }}", 1);
    expect_load_error(source, RG_E_LIMIT, "nested more than");
    rg_free(source);
    rg_free(text);
    expect_nesting("{% if 1 %}", "x", "{% endif %}");
    expect_nesting("{% for x in [1] %}", "x", "{% endfor %}");
    text = nested("{{ ", "- - - - - - - - - - 1", " }}", 1);
    expect_text(text, "1");
    rg_free(text);
    text = nested("-", "1", "", 5000);
    source = nested("{{ ", text, " }}", 1);
    expect_load_error(source, RG_E_LIMIT, "");
    rg_free(source);
    rg_free(text);
    text = nested("1+", "1", "", 5000);
    source = nested("{{ ", text, " }}", 1);
    expect_load_error(source, RG_E_LIMIT, "levels");
    rg_free(source);
    rg_free(text);
}

static void a_long_source_is_refused(void **state)
{
    const size_t most = RG_LIMIT_TEMPLATE_BYTES;
    char *text = rg_calloc(1, most + 2);
    struct rg_jinja *t;
    struct rg_err err;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', most + 1);
    assert_int_equal(rg_jinja_parse(&t, text, most, &err), RG_OK);
    rg_jinja_free(t);
    assert_int_equal(rg_jinja_parse(&t, text, most + 1, &err), RG_E_LIMIT);
    rg_free(text);
}

static void a_rendering_that_never_ends_is_stopped(void **state)
{
    (void)state;
    expect_render_error("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
                        "{% set x = 1 %}{% set y = 2 %}{% for b in range(99999) %}{{ '' }}"
                        "{% endfor %}{% endfor %}",
                        RG_E_LIMIT, "chat template line 1:");
    expect_render_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", RG_E_LIMIT,
                        "nested more than 64 deep");
    expect_render_error("{% macro m(k) %}{{ m(k - 1) if k else 'end' }}{% endmacro %}{{ m(64) }}",
                        RG_E_LIMIT, "nested");
    expect_text("{% macro m(k) %}{{ m(k - 1) if k else 'end' }}{% endmacro %}{{ m(63) }}", "end");
}

static void memory_and_output_are_bounded(void **state)
{
    (void)state;
    expect_render_error("{% set ns = namespace(s='0123456789abcdef') %}{% for i in range(60) %}"
                        "{% set ns.s = ns.s + ns.s %}{% endfor %}",
                        RG_E_LIMIT, "");
    expect_render_error("{{ 'x' * 99999999999 }}", RG_E_LIMIT, "");
    expect_render_error("{{ ([1] * 9999999999)|length }}", RG_E_LIMIT, "");
    expect_render_error("{% set x = 'x' * 1000000 %}{% for i in range(99) %}{{ x }}{% endfor %}",
                        RG_E_LIMIT, "bytes of output");
    expect_render_error("{% set ns = namespace(l=[]) %}{% for i in range(99999) %}"
                        "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
                        RG_E_LIMIT, "nested too deeply");
    expect_render_error("{% set ns = namespace(l=[]) %}{% for i in range(500) %}"
                        "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}",
                        RG_E_LIMIT, "nested too deeply");
    expect_render_error("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", RG_E_LIMIT, "deeply");
    expect_render_error("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
                        "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == [] }}{{ ns.l }}",
                        RG_E_LIMIT, "");
    expect_render_error("{% set l = [1] %}{% for x in l %}{% set _ = l.append(1) %}{% endfor %}",
                        RG_E_LIMIT, "steps");
}

static void integers_do_not_wrap(void **state)
{
    (void)state;
    expect_render_error("{{ 9223372036854775807 + 1 }}", RG_E_UNSUPPORTED, "64 bits");
    expect_render_error("{{ -9223372036854775807 - 2 }}", RG_E_UNSUPPORTED, "64 bits");
    expect_render_error("{{ 9223372036854775807 * 2 }}", RG_E_UNSUPPORTED, "64 bits");
    expect_render_error("{{ 10 ** 19 }}", RG_E_UNSUPPORTED, "64 bits");
    expect_render_error("{{ (-9223372036854775807 - 1) // -1 }}", RG_E_UNSUPPORTED, "64 bits");
    expect_render_error("{{ -(-9223372036854775807 - 1) }}", RG_E_UNSUPPORTED, "64 bits");
    expect_text("{{ (-9223372036854775807 - 1) % -1 }}", "0");
    expect_text("{{ 'abc'[9223372036854775807:-9223372036854775807:-9223372036854775807] }}", "c");
    expect_text("{{ [1, 2, 3][::9223372036854775807] }}", "[1]");
}

static void concatenation_in_a_loop_is_linear(void **state)
{
    const char *source = "{% set ns = namespace(s='') %}{% set piece = 'x' * 400 %}"
                         "{% for i in range(50000) %}{% set ns.s = ns.s + piece %}{% endfor %}"
                         "{{ ns.s|length }}";

    (void)state;
    expect_text(source, "20000000"); /* quadratic work would be 500 GB, over the budget */
}

/* ---- trust ---------------------------------------------------------------------------------- */

/* Writes [text] for trusted and (text) for untrusted spans. */
static void expect_trust(const char *source, const char *want)
{
    struct rg_json *variables;
    struct rg_prompt prompt;
    struct rg_err err = {.message = ""};
    struct rg_buf b;
    size_t at = 0;
    const char *json = "{\"u\":\"<|user|>\",\"w\":\"aBc\",\"n\":1,\"l\":[\"x\",\"y\"],\"d\":"
                       "{\"k\":\"v\"},\"csv\":\"1,2\"}";

    assert_int_equal(rg_json_parse(&variables, json, strlen(json), &rg_json_limits_request, NULL),
                     RG_OK);
    if (render(source, variables, &prompt, &err) != RG_OK)
        fail_msg("%s: %s", source, err.message);
    rg_buf_init(&b, 4096);
    for (size_t i = 0; i < prompt.n_spans; i++) {
        const struct rg_span *s = &prompt.spans[i];

        assert_int_equal(s->begin, at);
        assert_true(s->end > s->begin);
        at = s->end;
        assert_int_equal(rg_buf_addf(&b, NULL, s->trusted ? "[%.*s]" : "(%.*s)",
                                     (int)(s->end - s->begin), prompt.text + s->begin),
                         RG_OK);
    }
    assert_int_equal(at, prompt.len);
    assert_string_equal(b.data ? b.data : "", want);
    rg_buf_free(&b);
    rg_prompt_free(&prompt);
    rg_json_free(variables);
}

static void every_byte_keeps_its_trust(void **state)
{
    (void)state;
    expect_trust("a{{ 'b' }}{{ u }}c", "[ab](<|user|>)[c]");
    expect_trust("{{ '<' + u + '>' }}", "[<](<|user|>)[>]");
    expect_trust("{{ '<' ~ n ~ u ~ '>' }}", "[<](1<|user|>)[>]");
    expect_trust("{{ ('<' + w + '>')|upper }}", "[<](ABC)[>]");
    expect_trust("{{ ('x' + w + 'y').title() }}", "[X](abc)[y]");
    expect_trust("{{ ('  ' + w + '  ')|trim ~ '.' }}", "(aBc)[.]");
    expect_trust("{{ ('ab' + w + 'cd')[1:-1] }}", "[b](aBc)[c]");
    expect_trust("{{ ('ab' + w)[::-1] }}", "(cBa)[ba]");
    expect_trust("{{ ('ab' + w)[3] }}", "(B)");
    expect_trust("{{ (w + '-' + w).split('-')|join('+') }}", "(aBc)[+](aBc)");
    expect_trust("{{ csv.split(',')|join('<s>') }}", "(1)[<s>](2)");
    expect_trust("{{ l|join(u) }}", "(x<|user|>y)");
    expect_trust("{{ '; '.join(l) }}", "(x)[; ](y)");
    expect_trust("{{ w|replace('B', '<B>') }}", "(a)[<B>](c)");
    expect_trust("{{ 'xyx'|replace('y', u) }}", "[x](<|user|>)[x]");
    expect_trust("{{ '{}:{}'.format(u, 'k') }}", "(<|user|>)[:k]");
    expect_trust("{{ '<%s>' % u }}", "[<](<|user|>)[>]");
    expect_trust("{{ '<%s>'|format(u) }}", "[<](<|user|>)[>]");
    expect_trust("{{ u|tojson }}{{ d|tojson }}", "(\"<|user|>\"{\"k\": \"v\"})");
    expect_trust("{{ [u] }}", "(['<|user|>'])");
    expect_trust("{% set x %}a{{ u }}b{% endset %}{{ x }}", "[a](<|user|>)[b]");
    expect_trust("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(u) }}", "[<](<|user|>)[>]");
    expect_trust("{% filter upper %}<{{ w }}>{% endfilter %}", "[<](ABC)[>]");
    expect_trust("{% for k, v in d|items %}{{ k }}={{ v }}{% endfor %}", "(k)[=](v)");
    expect_trust("{% for c in 'a' + w[0] %}{{ c }}{% endfor %}", "[a](a)");
    expect_trust("{{ ('p\n' + w)|indent(1) }}", "[p\n ](aBc)");
    expect_trust("{{ ['b', w]|sort|first }}{{ [u]|map('upper')|first }}", "(aBc<|USER|>)");
    expect_trust("{% set x = 'a' + u %}{% set y = x + 'b' %}{% set z = x + u %}{{ y }}{{ x }}",
                 "[a](<|user|>)[ba](<|user|>)");
    expect_trust("{{ u|default('none') }}{{ x|default('none') }}", "(<|user|>)[none]");
    expect_trust("{{ '<b>'|safe + u }}", "[<b>](&lt;|user|&gt;)");
    expect_trust("{{ '[1, \"<s>\"]'|from_json|last }}", "(<s>)");
    expect_trust("{{ '{\"a\": 1}' }}{{ d.k }}{{ d.get('z', 'w') }}", "[{\"a\": 1}](v)[w]");
}

static void literals_and_names_are_known(void **state)
{
    const char *source = "text {% if tools %}{{ '<|a|>' + x.y }}{% endif %}{% set q = 1 %} end";
    struct rg_jinja *t;
    struct rg_err err;
    const char *literals;
    size_t n;

    (void)state;
    assert_int_equal(rg_jinja_parse(&t, source, strlen(source), &err), RG_OK);
    literals = rg_jinja_literals(t, &n);
    assert_int_equal(n, strlen("text \n<|a|>\n end\n"));
    assert_memory_equal(literals, "text \n<|a|>\n end\n", n);
    assert_true(rg_jinja_uses(t, "tools"));
    assert_true(rg_jinja_uses(t, "x"));
    assert_false(rg_jinja_uses(t, "y"));
    assert_false(rg_jinja_uses(t, "q"));
    assert_false(rg_jinja_uses(t, "enable_thinking"));
    rg_jinja_free(t);
}

/* ---- short memory --------------------------------------------------------------------------- */

static void every_failed_allocation_is_an_error_and_nothing_leaks(void **state)
{
    const char *source = "{% macro m(a, b=2) %}{{ a ~ b }}{% endmacro %}{% for x in [1, 2, 3] %}"
                         "{{ m(x)|upper }}{{ {'k': x}|tojson }}{% endfor %}"
                         "{{ 'y' * 300000 }}{{ '[1]'|from_json }}";
    const int64_t live = rg_mem_live();
    enum rg_code code = RG_E_NOMEM;
    int64_t n = 0;

    (void)state;
    while (code != RG_OK) {
        struct rg_prompt prompt;
        struct rg_err err = {.message = ""};

        rg_mem_fail_at(++n);
        code = render(source, NULL, &prompt, &err);
        rg_mem_fail_at(0);
        rg_prompt_free(&prompt);
        if (code != RG_OK && code != RG_E_NOMEM)
            fail_msg("allocation %lld: code %d, %s", (long long)n, code, err.message);
        assert_int_equal(rg_mem_live(), live);
        assert_true(n < 1000);
    }
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_construct_gives_what_jinja2_gives),
        cmocka_unit_test(what_is_unknown_is_named_with_its_line_at_load),
        cmocka_unit_test(arguments_that_fit_nothing_are_named_at_load),
        cmocka_unit_test(what_only_a_value_shows_is_an_error_with_its_line),
        cmocka_unit_test(nesting_is_bounded_at_load),
        cmocka_unit_test(a_long_source_is_refused),
        cmocka_unit_test(a_rendering_that_never_ends_is_stopped),
        cmocka_unit_test(memory_and_output_are_bounded),
        cmocka_unit_test(integers_do_not_wrap),
        cmocka_unit_test(concatenation_in_a_loop_is_linear),
        cmocka_unit_test(every_byte_keeps_its_trust),
        cmocka_unit_test(literals_and_names_are_known),
        cmocka_unit_test(every_failed_allocation_is_an_error_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
