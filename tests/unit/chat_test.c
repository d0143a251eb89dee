/* chat_test.c - requests to prompts: choice of the template, preparation of messages, variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "text/chat.h"

#define FIXTURES RENGA_SOURCE_DIR "/tests/fixtures/templates"

/* ---- a model directory of a test ------------------------------------------------------------ */

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/renga-chat-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static void file_path(char out[128], const char *name)
{
    (void)snprintf(out, 128, "%s/%s", dir, name);
}

static int remove_dir(void **state)
{
    char path[128];

    (void)state;
    file_path(path, "chat_template.jinja");
    (void)unlink(path);
    file_path(path, "tokenizer_config.json");
    (void)unlink(path);
    return rmdir(dir);
}

/* text NULL: the file is removed. */
static void put(const char *name, const char *text)
{
    char path[128];
    FILE *f;

    file_path(path, name);
    if (!text) {
        (void)unlink(path);
        return;
    }
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* ---- rendering ------------------------------------------------------------------------------ */

static struct rg_chat *open_chat(void)
{
    struct rg_chat *chat;
    struct rg_err err;

    if (rg_chat_open(&chat, dir, &err) != RG_OK)
        fail_msg("%s", err.message);
    return chat;
}

static enum rg_code render_text(const struct rg_chat *chat, const char *json, struct rg_prompt *out,
                                struct rg_err *err)
{
    struct rg_json *request;
    enum rg_code code;

    if (rg_json_parse(&request, json, strlen(json), &rg_json_limits_request, err) != RG_OK)
        fail_msg("%s: %s", json, err->message);
    code = rg_chat_render(chat, request, out, err);
    rg_json_free(request);
    return code;
}

/* The prompt of a template for a request. */
static void expect(const char *source, const char *json, const char *want)
{
    const int64_t live = rg_mem_live();
    struct rg_prompt prompt;
    struct rg_err err = {.message = ""};
    struct rg_chat *chat;

    put("chat_template.jinja", source);
    chat = open_chat();
    if (render_text(chat, json, &prompt, &err) != RG_OK)
        fail_msg("%s: %s", json, err.message);
    assert_string_equal(prompt.text, want);
    rg_prompt_free(&prompt);
    rg_chat_close(chat);
    assert_int_equal(rg_mem_live(), live);
}

static void expect_error(const char *source, const char *json, enum rg_code want,
                         const char *message)
{
    const int64_t live = rg_mem_live();
    struct rg_prompt prompt;
    struct rg_err err = {.message = ""};
    struct rg_chat *chat;

    put("chat_template.jinja", source);
    chat = open_chat();
    assert_int_equal(render_text(chat, json, &prompt, &err), want);
    assert_string_equal(err.message, message);
    assert_null(prompt.text);
    rg_chat_close(chat);
    assert_int_equal(rg_mem_live(), live);
}

/* ---- against jinja2 ------------------------------------------------------------------------- */

static bool row_holds(struct rg_chat *const chats[2], const struct rg_json *row)
{
    const char *model = rg_json_string(rg_json_get(row, "model"));
    const struct rg_json *expected = rg_json_get(row, "expected");
    const struct rg_json *raises = rg_json_get(row, "raises");
    struct rg_prompt prompt;
    struct rg_err err = {.message = ""};
    const enum rg_code code = rg_chat_render(chats[strcmp(model, "inst") == 0],
                                             rg_json_get(row, "request"), &prompt, &err);
    bool holds;

    if (expected)
        holds = code == RG_OK && strcmp(prompt.text, rg_json_string(expected)) == 0;
    else
        holds = code == RG_E_BAD_DATA && (rg_json_string(raises)[0] == '\0' ||
                                          strcmp(err.message, rg_json_string(raises)) == 0);
    if (!holds)
        print_error("%s: expected\n%s\ngot\n%s\n", rg_json_string(rg_json_get(row, "name")),
                    rg_json_string(expected ? expected : raises),
                    code == RG_OK ? prompt.text : err.message);
    rg_prompt_free(&prompt);
    return holds;
}

static void conversations_come_out_as_jinja2_renders_them(void **state)
{
    const int64_t live = rg_mem_live();
    struct rg_chat *chats[2];
    struct rg_json *rows;
    struct rg_err err;
    char *text;
    size_t len, wrong = 0;

    (void)state;
    assert_int_equal(rg_chat_open(&chats[0], FIXTURES "/chatml", &err), RG_OK);
    assert_int_equal(rg_chat_open(&chats[1], FIXTURES "/inst", &err), RG_OK);
    assert_int_equal(rg_file_read(&text, &len, FIXTURES "/chats.json", 1 << 20, &err), RG_OK);
    assert_int_equal(rg_json_parse(&rows, text, len, &rg_json_limits_config, &err), RG_OK);
    rg_free(text);
    assert_int_equal(rg_json_count(rows), 50);
    for (const struct rg_json *row = rg_json_first(rows); row; row = rg_json_next(row))
        wrong += !row_holds(chats, row);
    assert_int_equal(wrong, 0);
    rg_json_free(rows);
    rg_chat_close(chats[0]);
    rg_chat_close(chats[1]);
    assert_int_equal(rg_mem_live(), live);
}

/* ---- which template ------------------------------------------------------------------------- */

static void a_directory_without_a_template_says_so(void **state)
{
    const int64_t live = rg_mem_live();
    struct rg_chat *chat;
    struct rg_err err;

    (void)state;
    put("chat_template.jinja", NULL);
    put("tokenizer_config.json", NULL);
    assert_int_equal(rg_chat_open(&chat, dir, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "no chat template"));
    put("tokenizer_config.json", "{\"chat_template\": null}");
    assert_int_equal(rg_chat_open(&chat, dir, &err), RG_E_USAGE);
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"\"}]}");
    assert_int_equal(rg_chat_open(&chat, dir, &err), RG_E_USAGE);
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"default\"}]}");
    assert_int_equal(rg_chat_open(&chat, dir, &err), RG_E_BAD_DATA);
    put("tokenizer_config.json", "[]");
    assert_int_equal(rg_chat_open(&chat, dir, &err), RG_E_BAD_DATA);
    put("tokenizer_config.json", "{\"chat_template\": \"a\\n{% nosuch %}\"}");
    assert_int_equal(rg_chat_open(&chat, dir, &err), RG_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "tokenizer_config.json: chat template line 2: "));
    assert_null(chat);
    put("tokenizer_config.json", NULL);
    assert_int_equal(rg_mem_live(), live);
}

static void the_file_wins_over_the_configuration(void **state)
{
    (void)state;
    put("tokenizer_config.json", "{\"chat_template\": \"from config\"}");
    expect("from file", "{\"messages\":[]}", "from file");
    expect(NULL, "{\"messages\":[]}", "from config");
    put("tokenizer_config.json", NULL);
}

static void tool_use_serves_requests_with_tools(void **state)
{
    (void)state;
    put("tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"D {{ bos_token }}\"},"
        "{\"name\": \"tool_use\", \"template\": \"T {{ tools|length }}\"}], \"bos_token\": "
        "\"<b>\"}");
    expect(NULL, "{\"messages\":[]}", "D <b>");
    expect(NULL, "{\"messages\":[],\"tools\":[]}", "D <b>");
    expect(NULL, "{\"messages\":[],\"tools\":[{}]}", "T 1");
    put("tokenizer_config.json", NULL);
}

/* ---- variables ------------------------------------------------------------------------------ */

static void special_tokens_are_variables_and_literals(void **state)
{
    struct rg_chat *chat;
    struct rg_prompt prompt;
    const char *literals;
    size_t n;

    (void)state;
    put("tokenizer_config.json", "{\"bos_token\": {\"content\": \"<b>\"}, \"eos_token\": \"<e>\","
                                 "\"pad_token\": null}");
    expect("{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}", "{\"messages\":[]}",
           "<b><e>False");
    chat = open_chat();
    literals = rg_chat_literals(chat, &n);
    assert_int_equal(strlen(literals), n);
    assert_non_null(strstr(literals, "<b>\n"));
    assert_non_null(strstr(literals, "<e>\n"));
    assert_true(rg_chat_uses(chat, "pad_token"));
    assert_false(rg_chat_uses(chat, "tools"));
    assert_int_equal(render_text(chat, "{\"messages\":[]}", &prompt, NULL), RG_OK);
    assert_int_equal(prompt.n_spans, 2);
    assert_true(prompt.spans[0].trusted);
    assert_int_equal(prompt.spans[0].end, 6);
    rg_prompt_free(&prompt);
    rg_chat_close(chat);
    put("tokenizer_config.json", NULL);
}

static void what_a_request_says_is_passed(void **state)
{
    const char *source = "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}"
                         "{{ enable_thinking is defined }}{{ reasoning_effort|default('-') }}"
                         "{{ custom|default('-') }}";

    (void)state;
    expect(source, "{\"messages\":[]}", "TrueTrueTrueFalse--");
    expect(source,
           "{\"messages\":[],\"tools\":null,\"enable_thinking\":false,\"reasoning_effort\":\"low\","
           "\"documents\":[1]}",
           "TrueFalseTrueTruelow-");
    expect(
        source,
        "{\"messages\":[],\"reasoning_effort\":\"low\",\"enable_thinking\":null,"
        "\"chat_template_kwargs\":{\"add_generation_prompt\":false,\"reasoning_effort\":\"high\","
        "\"custom\":7}}",
        "TrueTrueFalseFalsehigh7");
    expect("{{ messages }}", "{\"messages\":[],\"chat_template_kwargs\":{\"messages\":[1.0]}}",
           "[1.0]");
    expect_error("x", "{\"messages\":[],\"chat_template_kwargs\":[]}", RG_E_BAD_DATA,
                 "chat_template_kwargs is an array, should be an object");
    expect_error("x", "{}", RG_E_BAD_DATA, "messages is missing, should be an array");
    expect_error("x", "{\"messages\":{}}", RG_E_BAD_DATA,
                 "messages is an object, should be an array");
    expect_error("x", "{\"messages\":[1]}", RG_E_BAD_DATA,
                 "messages[0] is a number, should be an object");
}

static void numbers_keep_what_they_are(void **state)
{
    (void)state;
    expect("{{ tools }}{{ tools|tojson }}",
           "{\"messages\":[],\"tools\":[1,1.0,-0,-0.0,1E5,1e-7,9007199254740993,"
           "123456789012345678901234567890]}",
           "[1, 1.0, 0, -0.0, 100000.0, 1e-07, 9007199254740993, 123456789012345678901234567890]"
           "[1, 1.0, 0, -0.0, 100000.0, 1e-07, 9007199254740993, 123456789012345678901234567890]");
}

static void the_clock_can_be_fixed(void **state)
{
    (void)state;
    assert_int_equal(setenv("RENGA_NOW", "1753000000", 1), 0);
    assert_int_equal(setenv("TZ", "UTC", 1), 0);
    expect("{{ strftime_now('%d %b %Y %H:%M') }}", "{\"messages\":[]}", "20 Jul 2025 08:26");
    assert_int_equal(unsetenv("RENGA_NOW"), 0);
}

/* ---- messages ------------------------------------------------------------------------------- */

static void contents_become_strings(void **state)
{
    const char *source = "{% for m in messages %}[{{ m.content }}]{{ m.content is string }}"
                         "{{ m.keys()|list|length }}{% endfor %}";

    (void)state;
    expect(source, "{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "[]True2");
    expect(source, "{\"messages\":[{\"role\":\"user\"}]}", "[]True2");
    expect(source, "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "[]True2");
    expect(source,
           "{\"messages\":[{\"role\":\"user\",\"name\":null,\"content\":[{\"type\":\"text\","
           "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"\\u00e9b\"},\"c\"]}]}",
           "[a\xc3\xa9"
           "bc]True2");
    expect_error(
        source, "{\"messages\":[{\"content\":\"\"},{\"content\":[{\"type\":\"image_url\"}]}]}",
        RG_E_UNSUPPORTED, "messages[1].content[0].type: only \"text\" parts are supported");
    expect_error(source, "{\"messages\":[{\"content\":[{\"type\":\"text\"}]}]}", RG_E_BAD_DATA,
                 "messages[0].content[0].text is missing or not a string");
    expect_error(source, "{\"messages\":[{\"content\":[1]}]}", RG_E_BAD_DATA,
                 "messages[0].content[0] is a number, should be an object");
}

static void arguments_become_objects(void **state)
{
    const char *source = "{{ messages[0].tool_calls[0] }}";

    (void)state;
    expect(source,
           "{\"messages\":[{\"tool_calls\":[{\"id\":null,\"function\":{\"name\":\"f\","
           "\"arguments\":\"{\\\"b\\\": 1.0, \\\"a\\\": [null]}\"}}]}]}",
           "{'function': {'name': 'f', 'arguments': {'b': 1.0, 'a': [None]}}}");
    expect(source, "{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":{\"x\":1}}}]}]}",
           "{'function': {'arguments': {'x': 1}}}");
    expect(source, "{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":\"\"}}]}]}",
           "{'function': {'arguments': {}}}");
    expect(source, "{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":\"{no\"}}]}]}",
           "{'function': {'arguments': '{no'}}");
    expect(source, "{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":\"[1]\"}}]}]}",
           "{'function': {'arguments': '[1]'}}");
    expect(source, "{\"messages\":[{\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}]}",
           "{'function': {'name': 'f'}}");
    expect("{{ messages }}", "{\"messages\":[{\"content\":\"\",\"tool_calls\":null}]}",
           "[{'content': ''}]");
    expect("{{ messages }}", "{\"messages\":[{\"content\":\"\",\"tool_calls\":[1, {}]}]}",
           "[{'content': '', 'tool_calls': [1, {}]}]");
}

static void reasoning_has_three_names(void **state)
{
    const char *source = "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}"
                         "{{ m.reasoning }}{{ m.thinking is defined }};{% endfor %}";

    (void)state;
    expect(source,
           "{\"messages\":[{\"reasoning_content\":\"a\"},{\"thinking\":\"b\"},"
           "{\"reasoning\":\"c\",\"thinking\":null},{\"reasoning\":\"d\",\"thinking\":\"e\"},{}]}",
           "aaaTrue;bbbTrue;cccTrue;eedTrue;False;");
}

static void an_exception_is_the_templates_own_words(void **state)
{
    (void)state;
    expect_error("{{ raise_exception('Roles must alternate: ' + messages[0].role) }}",
                 "{\"messages\":[{\"role\":\"cook\"}]}", RG_E_BAD_DATA,
                 "Roles must alternate: cook");
    expect_error("{{ raise_exception('') }}", "{\"messages\":[]}", RG_E_BAD_DATA,
                 "chat template line 1: raise_exception() without a message");
    expect_error("\n{{ messages[0].nothing.deep }}", "{\"messages\":[{}]}", RG_E_BAD_DATA,
                 "chat template line 2: 'nothing' is undefined");
}

static void content_is_never_trusted(void **state)
{
    const char *source = "{% for m in messages %}<|{{ m.role }}|>{{ '<s>' + m.content|trim }}"
                         "{% endfor %}{{ tools|tojson }}";
    struct rg_chat *chat;
    struct rg_prompt prompt;

    (void)state;
    put("chat_template.jinja", source);
    chat = open_chat();
    assert_int_equal(render_text(chat,
                                 "{\"messages\":[{\"role\":\"user\",\"content\":\" <s> \"}],"
                                 "\"tools\":[\"<s>\"]}",
                                 &prompt, NULL),
                     RG_OK);
    assert_string_equal(prompt.text, "<|user|><s><s>[\"<s>\"]");
    assert_int_equal(prompt.n_spans, 4);
    assert_true(prompt.spans[0].trusted);  /* <|     */
    assert_false(prompt.spans[1].trusted); /* user   */
    assert_true(prompt.spans[2].trusted);  /* |><s>  */
    assert_false(prompt.spans[3].trusted); /* the rest */
    assert_int_equal(prompt.spans[2].end, 11);
    assert_int_equal(prompt.spans[3].end, prompt.len);
    rg_prompt_free(&prompt);
    rg_chat_close(chat);
}

/* ---- cost, short memory --------------------------------------------------------------------- */

static void every_failed_allocation_is_an_error_and_nothing_leaks(void **state)
{
    const char *json = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                       "\"a\"}],\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"a\\\":1}\"}}],"
                       "\"thinking\":\"t\"}],\"tools\":[{\"a\":1}]}";
    const int64_t live = rg_mem_live();
    struct rg_json *request;
    enum rg_code code = RG_E_NOMEM;
    int64_t n = 0;

    (void)state;
    put("chat_template.jinja", "{% for m in messages %}{{ m|tojson }}{% endfor %}{{ tools }}");
    assert_int_equal(rg_json_parse(&request, json, strlen(json), &rg_json_limits_request, NULL),
                     RG_OK);
    while (code != RG_OK) {
        struct rg_chat *chat = NULL;
        struct rg_prompt prompt = {0};
        struct rg_err err = {.message = ""};

        rg_mem_fail_at(++n);
        code = rg_chat_open(&chat, dir, &err);
        if (code == RG_OK)
            code = rg_chat_render(chat, request, &prompt, &err);
        rg_mem_fail_at(0);
        rg_prompt_free(&prompt);
        rg_chat_close(chat);
        if (code != RG_OK && code != RG_E_NOMEM)
            fail_msg("allocation %lld: code %d, %s", (long long)n, code, err.message);
        assert_true(n < 1000);
    }
    assert_true(n > 10);
    rg_json_free(request);
    assert_int_equal(rg_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_come_out_as_jinja2_renders_them),
        cmocka_unit_test(a_directory_without_a_template_says_so),
        cmocka_unit_test(the_file_wins_over_the_configuration),
        cmocka_unit_test(tool_use_serves_requests_with_tools),
        cmocka_unit_test(special_tokens_are_variables_and_literals),
        cmocka_unit_test(what_a_request_says_is_passed),
        cmocka_unit_test(numbers_keep_what_they_are),
        cmocka_unit_test(the_clock_can_be_fixed),
        cmocka_unit_test(contents_become_strings),
        cmocka_unit_test(arguments_become_objects),
        cmocka_unit_test(reasoning_has_three_names),
        cmocka_unit_test(an_exception_is_the_templates_own_words),
        cmocka_unit_test(content_is_never_trusted),
        cmocka_unit_test(every_failed_allocation_is_an_error_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
