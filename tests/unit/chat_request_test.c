/* chat_request_test.c - every field of a chat completion: what is taken, and what is answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/chat_request.h"
#include "base/file.h"
#include "support/fake_llm.h"

static struct rg_chat_request request;
static struct rg_api_error    error;

/* A body with the two required fields and some more. */
static bool make(const char *more)
{
    char body[65536];
    int  n = snprintf(body, sizeof body,
                      "{\"model\":\"fake-model\",\"messages\":"
                      "[{\"role\":\"user\",\"content\":\"Hi\"}]%s%s}",
                      *more ? "," : "", more);

    assert_true(n > 0 && (size_t)n < sizeof body);
    rg_chat_request_free(&request);
    return rg_chat_request_make(&request, &fake_llm, body, (size_t)n, &error);
}

static bool make_body(const char *body)
{
    rg_chat_request_free(&request);
    return rg_chat_request_make(&request, &fake_llm, body, strlen(body), &error);
}

static bool make_messages(const char *messages)
{
    char body[65536];

    (void)snprintf(body, sizeof body, "{\"model\":\"fake-model\",\"messages\":%s}", messages);
    return make_body(body);
}

static void expect_ok(const char *more)
{
    if (!make(more))
        fail_msg("%s: %s (%s)", more, rg_api_code_name(error.code), error.message);
}

static void expect_error(bool made, const char *what, enum rg_api_code code, const char *param)
{
    if (made)
        fail_msg("%s: was taken", what);
    if (error.code != code || strcmp(error.param, param) != 0)
        fail_msg("%s: %s with param \"%s\", expected %s with \"%s\" (%s)", what,
                 rg_api_code_name(error.code), error.param, rg_api_code_name(code), param,
                 error.message);
}

static void refuses(const char *more, enum rg_api_code code, const char *param)
{
    expect_error(make(more), more, code, param);
}

static int set_up(void **state)
{
    static int64_t live;

    live = rg_mem_live();
    *state = &live;
    fake_reset();
    return 0;
}

static int tear_down(void **state)
{
    rg_chat_request_free(&request);
    assert_int_equal(rg_mem_live(), *(int64_t *)*state);
    return 0;
}

/* ---- the numeric fields at their borders ---- */

static const struct numeric {
    const char *name;
    double      least, most;
    bool        integer, above_least;
} numerics[] = {
    {"temperature", 0, 2, false, false},
    {"top_p", 0, 1, false, false},
    {"min_p", 0, 1, false, false},
    {"top_k", 0, 4194304, true, false},
    {"repetition_penalty", 0, 10, false, true},
    {"presence_penalty", -2, 2, false, false},
    {"frequency_penalty", -2, 2, false, false},
    {"n", 1, 4, true, false},
    {"max_tokens", 1, FAKE_CONTEXT, true, false},
    {"max_completion_tokens", 1, FAKE_CONTEXT, true, false},
    {"top_logprobs", 0, 20, true, false},
};

static void field_text(char out[200], const char *name, const char *value)
{
    (void)snprintf(out, 200, "\"logprobs\":true,\"%s\":%s", name, value);
}

static void refuses_value(const char *name, const char *value)
{
    char more[200];

    field_text(more, name, value);
    refuses(more, RG_API_INVALID_VALUE, name);
}

static void refuses_number(const char *name, double value)
{
    char text[60];

    (void)snprintf(text, sizeof text, "%.10g", value);
    refuses_value(name, text);
}

static void takes_number(const char *name, double value)
{
    char text[60], more[200];

    (void)snprintf(text, sizeof text, "%.10g", value);
    field_text(more, name, text);
    expect_ok(more);
}

static void takes_numbers_up_to_their_borders_only(void **state)
{
    static const char *const never[] = {"\"5\"", "true", "[]", "{}", "1e308", "1e999", "-1e999"};

    (void)state;
    for (size_t i = 0; i < sizeof numerics / sizeof *numerics; i++) {
        const struct numeric *f = &numerics[i];
        char                  more[200];

        if (f->above_least)
            refuses_number(f->name, f->least);
        else
            takes_number(f->name, f->least);
        takes_number(f->name, f->most);
        refuses_number(f->name, f->least - 1);
        refuses_number(f->name, f->most + 1);
        refuses_number(f->name, f->most + 0.001);
        if (f->integer)
            refuses_number(f->name, f->least + 0.5);
        if (f->least >= 0)
            refuses_number(f->name, -1);
        for (size_t k = 0; k < sizeof never / sizeof *never; k++)
            refuses_value(f->name, never[k]);
        field_text(more, f->name, "null");
        expect_ok(more);
    }
}

static void takes_a_seed_of_64_bits(void **state)
{
    (void)state;
    expect_ok("\"seed\":-9223372036854775808");
    assert_true(request.sampling.seed == (uint64_t)INT64_MIN);
    expect_ok("\"seed\":9223372036854775807");
    assert_true(request.sampling.seed == (uint64_t)INT64_MAX);
    expect_ok("\"seed\":9007199254740993");
    assert_true(request.sampling.seed == 9007199254740993u);
    refuses("\"seed\":9223372036854775808", RG_API_INVALID_VALUE, "seed");
    refuses("\"seed\":0.5", RG_API_INVALID_VALUE, "seed");
    refuses("\"seed\":\"1\"", RG_API_INVALID_VALUE, "seed");
}

static void an_unseeded_request_gets_a_seed_of_its_own(void **state)
{
    uint64_t first;

    (void)state;
    expect_ok("");
    first = request.sampling.seed;
    expect_ok("");
    assert_true(first != request.sampling.seed);
}

/* ---- defaults ---- */

static void expect_sampling(float temperature, float top_p, uint32_t top_k, float min_p,
                            float repetition)
{
    const struct rg_sampling *s = &request.sampling;

    assert_true(memcmp(&s->temperature, &temperature, sizeof temperature) == 0);
    assert_true(memcmp(&s->top_p, &top_p, sizeof top_p) == 0);
    assert_int_equal(s->top_k, top_k);
    assert_true(memcmp(&s->min_p, &min_p, sizeof min_p) == 0);
    assert_true(memcmp(&s->repetition_penalty, &repetition, sizeof repetition) == 0);
}

static void takes_the_request_s_value_then_the_model_s_then_its_own(void **state)
{
    (void)state;
    expect_ok("");
    expect_sampling(1.0f, 1.0f, 0, 0.0f, 1.0f);
    fake_llm.defaults = (struct rg_generation_defaults){0.6f, 0.95f, 0.01f, 1.05f, 20};
    expect_ok("");
    expect_sampling(0.6f, 0.95f, 20, 0.01f, 1.05f);
    expect_ok("\"temperature\":0,\"top_p\":0.5,\"top_k\":0,\"min_p\":0,\"repetition_penalty\":1");
    expect_sampling(0.0f, 0.5f, 0, 0.0f, 1.0f);
    expect_ok("\"temperature\":null,\"top_k\":null");
    expect_sampling(0.6f, 0.95f, 20, 0.01f, 1.05f);
}

static void no_max_tokens_means_the_rest_of_the_context(void **state)
{
    (void)state;
    expect_ok("");
    assert_int_equal(request.max_tokens, UINT32_MAX);
    expect_ok("\"max_tokens\":7");
    assert_int_equal(request.max_tokens, 7);
    expect_ok("\"max_completion_tokens\":8,\"max_tokens\":8");
    assert_int_equal(request.max_tokens, 8);
    refuses("\"max_completion_tokens\":8,\"max_tokens\":7", RG_API_INVALID_VALUE, "max_tokens");
}

/* ---- the other fields ---- */

static void takes_stop_strings(void **state)
{
    char more[400];

    (void)state;
    expect_ok("\"stop\":\"END\"");
    assert_int_equal(request.n_stops, 1);
    assert_string_equal(request.stops[0], "END");
    expect_ok("\"stop\":[\"a\",\"b\",\"c\",\"d\"]");
    assert_int_equal(request.n_stops, 4);
    expect_ok("\"stop\":[]");
    assert_int_equal(request.n_stops, 0);
    (void)snprintf(more, sizeof more, "\"stop\":\"%064d\"", 0);
    expect_ok(more);
    (void)snprintf(more, sizeof more, "\"stop\":\"%065d\"", 0);
    refuses(more, RG_API_INVALID_VALUE, "stop");
    refuses("\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]", RG_API_INVALID_VALUE, "stop");
    refuses("\"stop\":\"\"", RG_API_INVALID_VALUE, "stop");
    refuses("\"stop\":[\"a\",1]", RG_API_INVALID_VALUE, "stop");
    refuses("\"stop\":5", RG_API_INVALID_VALUE, "stop");
}

static void takes_logit_biases(void **state)
{
    static char body[64000];
    size_t      n;

    (void)state;
    expect_ok("\"logit_bias\":{\"0\":-100,\"256\":100,\"17\":0.5}");
    assert_int_equal(request.sampling.n_bias, 3);
    assert_ptr_equal(request.sampling.bias, request.bias);
    assert_int_equal(request.bias[1].id, 256);
    refuses("\"logit_bias\":{\"257\":1}", RG_API_INVALID_VALUE, "logit_bias");
    refuses("\"logit_bias\":{\"-1\":1}", RG_API_INVALID_VALUE, "logit_bias");
    refuses("\"logit_bias\":{\"x\":1}", RG_API_INVALID_VALUE, "logit_bias");
    refuses("\"logit_bias\":{\"\":1}", RG_API_INVALID_VALUE, "logit_bias");
    refuses("\"logit_bias\":{\"99999999999\":1}", RG_API_INVALID_VALUE, "logit_bias");
    refuses("\"logit_bias\":{\"1\":100.5}", RG_API_INVALID_VALUE, "logit_bias");
    refuses("\"logit_bias\":{\"1\":null}", RG_API_INVALID_VALUE, "logit_bias");
    refuses("\"logit_bias\":[1]", RG_API_INVALID_VALUE, "logit_bias");
    n = (size_t)snprintf(body, sizeof body, "\"logit_bias\":{");
    for (uint32_t i = 0; i <= RG_LIMIT_LOGIT_BIAS; i++)
        n += (size_t)snprintf(body + n, sizeof body - n, "%s\"%u\":1", i ? "," : "", i);
    (void)snprintf(body + n, sizeof body - n, "}");
    refuses(body, RG_API_INVALID_VALUE, "logit_bias");
}

static void logprobs_and_stream_options_need_their_switch(void **state)
{
    (void)state;
    expect_ok("\"logprobs\":true,\"top_logprobs\":3");
    assert_true(request.sampling.logprobs);
    assert_int_equal(request.sampling.n_top_logprobs, 3);
    expect_ok("\"logprobs\":false,\"top_logprobs\":0");
    refuses("\"top_logprobs\":1", RG_API_INVALID_VALUE, "top_logprobs");
    expect_ok("\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    assert_true(request.stream && request.include_usage);
    refuses("\"stream_options\":{\"include_usage\":true}", RG_API_INVALID_VALUE, "stream_options");
    refuses("\"stream\":true,\"stream_options\":{\"x\":1}", RG_API_UNKNOWN_FIELD,
            "stream_options.x");
    refuses("\"stream\":1", RG_API_INVALID_VALUE, "stream");
}

static void template_fields_need_a_template_that_looks_at_them(void **state)
{
    (void)state;
    refuses("\"enable_thinking\":true", RG_API_UNSUPPORTED, "enable_thinking");
    refuses("\"reasoning_effort\":\"low\"", RG_API_UNSUPPORTED, "reasoning_effort");
    refuses("\"documents\":[{}]", RG_API_UNSUPPORTED, "documents");
    expect_ok("\"chat_template_kwargs\":{\"enable_thinking\":false}");
    fake.uses = "enable_thinking reasoning_effort documents";
    expect_ok("\"enable_thinking\":false,\"reasoning_effort\":\"high\",\"documents\":[{\"a\":1}]");
    refuses("\"reasoning_effort\":\"huge\"", RG_API_INVALID_VALUE, "reasoning_effort");
    refuses("\"documents\":[1]", RG_API_INVALID_VALUE, "documents");
    refuses("\"chat_template_kwargs\":{\"messages\":[]}", RG_API_INVALID_VALUE,
            "chat_template_kwargs.messages");
    refuses("\"chat_template_kwargs\":{\"chat_template\":\"x\"}", RG_API_INVALID_VALUE,
            "chat_template_kwargs.chat_template");
}

static void accepts_only_what_cannot_change_the_text(void **state)
{
    (void)state;
    expect_ok("\"user\":\"me\",\"metadata\":{\"a\":\"b\"},\"store\":false,"
              "\"service_tier\":\"auto\","
              "\"prompt_cache_key\":\"k\",\"safety_identifier\":\"s\",\"parallel_tool_calls\":true,"
              "\"verbosity\":\"medium\",\"modalities\":[\"text\"],\"tools\":[],\"functions\":[],"
              "\"tool_choice\":\"none\",\"response_format\":{\"type\":\"text\"},\"audio\":null,"
              "\"prediction\":null,\"web_search_options\":null,\"function_call\":\"auto\"");
    refuses("\"store\":true", RG_API_UNSUPPORTED, "store");
    refuses("\"service_tier\":\"flex\"", RG_API_UNSUPPORTED, "service_tier");
    refuses("\"verbosity\":\"low\"", RG_API_UNSUPPORTED, "verbosity");
    refuses("\"modalities\":[\"text\",\"audio\"]", RG_API_UNSUPPORTED, "modalities");
    refuses("\"tools\":[{\"type\":\"function\"}]", RG_API_UNSUPPORTED, "tools");
    refuses("\"functions\":[{}]", RG_API_UNSUPPORTED, "functions");
    refuses("\"tool_choice\":\"required\"", RG_API_UNSUPPORTED, "tool_choice");
    refuses("\"tool_choice\":{}", RG_API_UNSUPPORTED, "tool_choice");
    refuses("\"response_format\":{\"type\":\"json_object\"}", RG_API_UNSUPPORTED,
            "response_format");
    refuses("\"audio\":{}", RG_API_UNSUPPORTED, "audio");
    refuses("\"prediction\":{}", RG_API_UNSUPPORTED, "prediction");
    refuses("\"web_search_options\":{}", RG_API_UNSUPPORTED, "web_search_options");
    refuses("\"user\":5", RG_API_INVALID_VALUE, "user");
}

static void refuses_fields_that_it_does_not_know(void **state)
{
    (void)state;
    refuses("\"temprature\":0", RG_API_UNKNOWN_FIELD, "temprature");
    refuses("\"Temperature\":0", RG_API_UNKNOWN_FIELD, "Temperature");
    refuses("\"chat_template\":\"{{ 1 }}\"", RG_API_UNKNOWN_FIELD, "chat_template");
    refuses("\"\":null", RG_API_UNKNOWN_FIELD, "");
}

static void names_the_model(void **state)
{
    (void)state;
    expect_error(make_body("{\"model\":\"other\",\"messages\":[]}"), "other",
                 RG_API_MODEL_NOT_FOUND, "model");
    assert_int_equal(error.status, 404);
    expect_error(make_body("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}"), "none",
                 RG_API_INVALID_VALUE, "model");
    expect_error(make_body("{\"model\":null,\"messages\":"
                           "[{\"role\":\"user\",\"content\":\"Hi\"}]}"),
                 "null", RG_API_INVALID_VALUE, "model");
    expect_error(make_body("{\"model\":\"fake-model\"}"), "no messages", RG_API_INVALID_VALUE,
                 "messages");
}

/* ---- JSON ---- */

static void tells_bad_json_from_bad_values(void **state)
{
    static const char *const broken[] = {"", " ", "{", "{\"model\":}", "nul", "{}x", "[1,]",
                                         "{\"a\":\"\xff\"}"};
    static const char *const others[] = {"[]", "1", "\"a\"", "null", "true"};

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        expect_error(make_body(broken[i]), broken[i], RG_API_INVALID_JSON, "");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_error(make_body(others[i]), others[i], RG_API_INVALID_VALUE, "");
    expect_error(make_body("{\"model\":\"a\",\"model\":\"a\"}"), "twice", RG_API_INVALID_VALUE, "");
    expect_error(make_body("{\"user\":\"a\\u0000b\"}"), "NUL", RG_API_INVALID_VALUE, "");
}

static void json_may_be_64_deep(void **state)
{
    char more[400];

    (void)state;
    for (int over = 0; over < 2; over++) {
        const int depth = 62 + over; /* inside the body and metadata */

        (void)snprintf(more, sizeof more, "\"metadata\":{\"a\":%.*s%.*s}", depth,
                       "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", depth,
                       "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
        if (over)
            refuses(more, RG_API_INVALID_VALUE, "");
        else
            expect_ok(more);
    }
}

/* ---- messages ---- */

static void takes_messages_of_every_role(void **state)
{
    (void)state;
    assert_true(make_messages(
        "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"developer\",\"content\":\"D\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
        "{\"type\":\"text\",\"text\":\"b\"}],\"name\":\"Ann\"},"
        "{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"annotations\":[],"
        "\"audio\":null,\"function_call\":null,\"reasoning_content\":\"r\",\"tool_calls\":[{\"id\":"
        "\"1\",\"index\":0,\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
        "\"{}\"}}]},"
        "{\"role\":\"tool\",\"content\":\"T\",\"tool_call_id\":\"1\"},"
        "{\"role\":\"function\",\"content\":\"F\",\"name\":\"f\"}]"));
    assert_int_equal(request.prompt.len, strlen("SDabTF"));
}

static void refuses_messages_of_a_wrong_shape(void **state)
{
    static const struct {
        const char      *messages, *param;
        enum rg_api_code code;
    } cases[] = {
        {"[]", "messages", RG_API_INVALID_VALUE},
        {"{}", "messages", RG_API_INVALID_VALUE},
        {"\"Hi\"", "messages", RG_API_INVALID_VALUE},
        {"[1]", "messages[0]", RG_API_INVALID_VALUE},
        {"[{}]", "messages[0].role", RG_API_INVALID_VALUE},
        {"[{\"role\":5}]", "messages[0].role", RG_API_INVALID_VALUE},
        {"[{\"role\":\"robot\",\"content\":\"\"}]", "messages[0].role", RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\"}]", "messages[0].content", RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content", RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":5}]", "messages[0].content", RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":{}}]", "messages[0].content", RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":[\"a\"]}]", "messages[0].content[0]",
         RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0].text",
         RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}]", "messages[0].content[0].type",
         RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
         "\"image_url\",\"image_url\":{\"url\":\"http://a/\"}}]}]",
         "messages[0].content[1].type", RG_API_UNSUPPORTED},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"poem\",\"text\":\"a\"}]}]",
         "messages[0].content[0].type", RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\",\"x\":1}]}]",
         "messages[0].content[0].x", RG_API_UNKNOWN_FIELD},
        {"[{\"role\":\"user\",\"content\":\"a\",\"x\":1}]", "messages[0].x", RG_API_UNKNOWN_FIELD},
        {"[{\"role\":\"user\",\"content\":\"a\",\"name\":1}]", "messages[0].name",
         RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[]}]", "messages[0].tool_calls",
         RG_API_INVALID_VALUE},
        {"[{\"role\":\"user\",\"content\":\"a\",\"tool_call_id\":\"1\"}]",
         "messages[0].tool_call_id", RG_API_INVALID_VALUE},
        {"[{\"role\":\"tool\",\"content\":\"a\"}]", "messages[0].tool_call_id",
         RG_API_INVALID_VALUE},
        {"[{\"role\":\"function\",\"content\":\"a\"}]", "messages[0].name", RG_API_INVALID_VALUE},
        {"[{\"role\":\"assistant\",\"refusal\":\"no\"}]", "messages[0].refusal",
         RG_API_UNSUPPORTED},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\"}]}]",
         "messages[0].tool_calls[0].function", RG_API_INVALID_VALUE},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"x\"}]}]",
         "messages[0].tool_calls[0].type", RG_API_INVALID_VALUE},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]",
         "messages[0].tool_calls[0].function.name", RG_API_INVALID_VALUE},
        {"[{\"role\":\"assistant\",\"tool_calls\":"
         "[{\"function\":{\"name\":\"f\",\"arguments\":1}}]}]",
         "messages[0].tool_calls[0].function.arguments", RG_API_INVALID_VALUE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_error(make_messages(cases[i].messages), cases[i].messages, cases[i].code,
                     cases[i].param);
}

static void there_may_be_1024_messages(void **state)
{
    static const char one[] = "{\"role\":\"user\",\"content\":\"\"}";
    static char       text[65000];

    (void)state;
    fake_llm.context = 5000;
    for (uint32_t over = 0; over < 2; over++) {
        size_t n = (size_t)snprintf(text, sizeof text, "[{\"role\":\"user\",\"content\":\"a\"}");

        for (uint32_t i = 1; i < RG_LIMIT_MESSAGES + over; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, ",%s", one);
        (void)snprintf(text + n, sizeof text - n, "]");
        if (over)
            expect_error(make_messages(text), "1025", RG_API_INVALID_VALUE, "messages");
        else
            assert_true(make_messages(text));
    }
    fake_llm.context = FAKE_CONTEXT;
}

/* ---- the prompt ---- */

static void the_prompt_must_leave_room_for_one_token(void **state)
{
    char text[4000];

    (void)state;
    for (int over = 0; over < 2; over++) {
        (void)snprintf(text, sizeof text, "[{\"role\":\"user\",\"content\":\"%0*d\"}]",
                       FAKE_CONTEXT - 1 + over, 0);
        if (over)
            expect_error(make_messages(text), "long", RG_API_CONTEXT_LENGTH, "messages");
        else
            assert_true(make_messages(text));
    }
    assert_non_null(strstr(error.message, "1000 tokens"));
}

static void the_template_s_refusal_is_the_client_s_error(void **state)
{
    (void)state;
    fake.render_code = RG_E_BAD_DATA;
    refuses("", RG_API_INVALID_VALUE, "messages");
    assert_non_null(strstr(error.message, "the template says no"));
    fake.render_code = RG_E_UNSUPPORTED;
    refuses("", RG_API_UNSUPPORTED, "messages");
    fake.render_code = RG_E_INTERNAL;
    refuses("", RG_API_INTERNAL, "");
    assert_int_equal(error.status, 500);
}

static void developer_is_system_to_a_template_that_does_not_know_it(void **state)
{
    const char *messages = "[{\"role\":\"developer\",\"content\":\"Be brief.\"}]";

    (void)state;
    assert_true(make_messages(messages));
    assert_string_equal(fake.first_role, "system");
    fake.literals = "system developer user";
    assert_true(make_messages(messages));
    assert_string_equal(fake.first_role, "developer");
    fake.literals = NULL;
}

static void a_model_without_a_template_cannot_chat(void **state)
{
    struct rg_chat *chat = fake_llm.chat;

    (void)state;
    fake_llm.chat = NULL;
    refuses("", RG_API_UNSUPPORTED, "messages");
    fake_llm.chat = chat;
}

static void every_failed_allocation_leaves_nothing_behind(void **state)
{
    const int64_t live = rg_mem_live();
    bool          made = false;

    (void)state;
    for (int64_t n = 1; !made && n < 500; n++) {
        rg_mem_fail_at(n);
        made = make("\"stop\":[\"a\",\"b\"],\"logit_bias\":{\"1\":1},\"metadata\":{\"a\":\"b\"}");
        rg_mem_fail_at(0);
        if (!made) {
            assert_int_equal(error.code, RG_API_INTERNAL);
            assert_int_equal(rg_mem_live(), live);
        }
    }
    assert_true(made);
}

/* ---- docs/API.md ---- */

static void docs_api_shows_the_table_of_fields(void **state)
{
    static const char begin[] = "<!-- fields: begin -->\n", end[] = "<!-- fields: end -->";
    struct rg_buf     table;
    char             *text, *from, *to;
    size_t            len;

    (void)state;
    rg_buf_init(&table, 1 << 20);
    assert_int_equal(rg_fields_print_markdown(&table, NULL), RG_OK);
    assert_int_equal(rg_file_read(&text, &len, RENGA_SOURCE_DIR "/docs/API.md", 1 << 20, NULL),
                     RG_OK);
    from = strstr(text, begin);
    to = strstr(text, end);
    assert_true(from && to && from < to);
    from += sizeof begin - 1;
    if ((size_t)(to - from) != table.len || memcmp(from, table.data, table.len) != 0)
        fail_msg("docs/API.md is not what the code says; put the output of "
                 "`chat_request_test --print` between its fields comments");
    rg_free(text);
    rg_buf_free(&table);
}

static int print_fields(void)
{
    struct rg_buf table;

    rg_buf_init(&table, 1 << 20);
    if (rg_fields_print_markdown(&table, NULL) != RG_OK)
        return 1;
    fputs(table.data, stdout);
    rg_buf_free(&table);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(takes_numbers_up_to_their_borders_only),
        TEST(takes_a_seed_of_64_bits),
        TEST(an_unseeded_request_gets_a_seed_of_its_own),
        TEST(takes_the_request_s_value_then_the_model_s_then_its_own),
        TEST(no_max_tokens_means_the_rest_of_the_context),
        TEST(takes_stop_strings),
        TEST(takes_logit_biases),
        TEST(logprobs_and_stream_options_need_their_switch),
        TEST(template_fields_need_a_template_that_looks_at_them),
        TEST(accepts_only_what_cannot_change_the_text),
        TEST(refuses_fields_that_it_does_not_know),
        TEST(names_the_model),
        TEST(tells_bad_json_from_bad_values),
        TEST(json_may_be_64_deep),
        TEST(takes_messages_of_every_role),
        TEST(refuses_messages_of_a_wrong_shape),
        TEST(there_may_be_1024_messages),
        TEST(the_prompt_must_leave_room_for_one_token),
        TEST(the_template_s_refusal_is_the_client_s_error),
        TEST(developer_is_system_to_a_template_that_does_not_know_it),
        TEST(a_model_without_a_template_cannot_chat),
        TEST(every_failed_allocation_leaves_nothing_behind),
        TEST(docs_api_shows_the_table_of_fields),
    };

    if (argc == 2 && strcmp(argv[1], "--print") == 0)
        return print_fields();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
