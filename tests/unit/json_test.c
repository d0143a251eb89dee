/* json_test.c - strict JSON: what is refused, what survives, and the reader on its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"

static enum rg_code parse(struct rg_json **out, const char *text)
{
    return rg_json_parse(out, text, strlen(text), &rg_json_limits_request, NULL);
}

static void expect_code(const char *text, size_t len, enum rg_code want)
{
    struct rg_json    *root = NULL;
    struct rg_err      err = {.message = ""};
    const enum rg_code code = rg_json_parse(&root, text, len, &rg_json_limits_request, &err);

    if (code != want)
        fail_msg("%.60s: code %d, expected %d (%s)", text, code, want, err.message);
    rg_json_free(root);
}

static void refuses_what_rfc_8259_refuses(void **state)
{
    static const char *const bad[] = {
        "", " ", "[", "]", "{", "}", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
        "{a:1}", "{'a':1}", "[01]", "[-01]", "[+1]", "[.5]", "[5.]", "[1e]", "[1e+]", "[--1]",
        "[0x1]", "[1_0]", "[NaN]", "[Infinity]", "[-]", "[tru]", "[True]", "nulll", "\"a",
        "\"\\x\"", "\"\\u12\"", "\"\\uD800\"", "\"\\uDC00\"", "\"\\uD800\\u0041\"", "\"\t\"",
        "\"\n\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "[1]x",
        "[1] [2]", "\xef\xbb\xbf[]", "/**/[]", "[]//", "[1,,2]", "{\"a\":1 \"b\":2}", "\"\\",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_code(bad[i], strlen(bad[i]), RG_E_BAD_DATA);
    expect_code("[1]\0", 4, RG_E_BAD_DATA);
    expect_code("\"a\0b\"", 5, RG_E_BAD_DATA);
}

static void accepts_what_rfc_8259_accepts(void **state)
{
    static const char *const good[] = {
        "0", "-0", "1.5e-3", "\"\"", " [ ] ", "{\"\":0}", "[[[1]]]", "\"\\ud834\\udd1e\"", "true",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\x7f\"", "\"\xf0\x9f\x98\x80\"", "[1E22]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        expect_code(good[i], strlen(good[i]), RG_OK);
}

static void tells_policy_from_syntax(void **state)
{
    char deep[200];

    (void)state;
    expect_code("{\"a\":1,\"a\":2}", 13, RG_E_UNSUPPORTED);
    expect_code("[\"\\u0000\"]", 10, RG_E_UNSUPPORTED);
    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    expect_code(deep, 130, RG_E_LIMIT);
    memset(deep, '[', 64);
    memset(deep + 64, ']', 64);
    expect_code(deep, 128, RG_OK);
}

static void limits_the_keys_of_one_object(void **state)
{
    const struct rg_json_limits limits = {.bytes_max = 1000, .depth_max = 4, .keys_max = 3};
    struct rg_json             *root;
    const char                 *three = "{\"a\":{\"x\":1,\"y\":1,\"z\":1},\"b\":1,\"c\":1}";
    const char                 *four = "[{\"a\":1,\"b\":1,\"c\":1,\"d\":1}]";

    (void)state;
    assert_int_equal(rg_json_parse(&root, three, strlen(three), &limits, NULL), RG_OK);
    rg_json_free(root);
    assert_int_equal(rg_json_parse(&root, four, strlen(four), &limits, NULL), RG_E_LIMIT);
}

static void keeps_the_text_of_numbers(void **state)
{
    struct rg_json *root;
    int64_t         v;

    (void)state;
    assert_int_equal(parse(&root, "{\"k\":[9007199254740993, {\"x\":1.0}, -1e2], \"n\":5}"), RG_OK);
    const struct rg_json *list = rg_json_get(root, "k");
    const struct rg_json *big = rg_json_first(list);

    assert_string_equal(rg_json_number_text(big), "9007199254740993");
    assert_true(rg_json_int(big, 0, INT64_MAX, &v));
    assert_int_equal(v, 9007199254740993);

    const struct rg_json *one = rg_json_get(rg_json_next(big), "x");

    assert_string_equal(rg_json_number_text(one), "1.0");
    assert_true(rg_json_int(one, 0, 10, &v));
    assert_int_equal(v, 1);

    const struct rg_json *minus = rg_json_next(rg_json_next(big));

    assert_true(rg_json_int(minus, -100, 0, &v));
    assert_int_equal(v, -100);
    assert_false(rg_json_int(minus, -99, 0, &v));
    assert_string_equal(rg_json_number_text(rg_json_get(root, "n")), "5");
    rg_json_free(root);
}

static void refuses_numbers_that_are_no_integers(void **state)
{
    static const char *const texts[] = {"1.5", "1e400", "-1e400", "99999999999999999999", "1e-3"};
    struct rg_json          *root;
    int64_t                  v;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(parse(&root, texts[i]), RG_OK);
        assert_false(rg_json_int(root, INT64_MIN, INT64_MAX, &v));
        rg_json_free(root);
    }
}

static void prints_what_it_read(void **state)
{
    static const char text[] =
        "{\"a\":[1.0,9007199254740993,true,null,\"x\\n\\u0001\\\"\"],\"b\":{}}";
    struct rg_json   *root;
    struct rg_buf     out;

    (void)state;
    rg_buf_init(&out, 1000);
    assert_int_equal(parse(&root, text), RG_OK);
    assert_int_equal(rg_json_print(&out, root, NULL), RG_OK);
    assert_string_equal(out.data, text);
    rg_json_free(root);
    rg_buf_free(&out);
}

static void prints_made_numbers_shortest(void **state)
{
    struct rg_json *list = rg_json_new_array();
    struct rg_buf   out;

    (void)state;
    rg_buf_init(&out, 1000);
    assert_true(rg_json_push(list, rg_json_new_number(0.1)));
    assert_true(rg_json_push(list, rg_json_new_number(-3)));
    assert_true(rg_json_push(list, rg_json_new_int(INT64_MAX)));
    assert_true(rg_json_push(list, rg_json_new_number(1.0 / 3.0)));
    assert_int_equal(rg_json_print(&out, list, NULL), RG_OK);
    assert_string_equal(out.data, "[0.1,-3,9223372036854775807,0.3333333333333333]");
    rg_json_free(list);
    rg_buf_free(&out);
}

static void undoes_escapes_in_the_reader(void **state)
{
    static const char     text[] = "[\"a\\u00e9\\ud834\\udd1e\\n\\u0000b\"]";
    struct rg_json_reader r;
    enum rg_json_token    token;
    struct rg_buf         out;

    (void)state;
    rg_buf_init(&out, 100);
    rg_json_reader_init(&r, text, strlen(text), 8);
    assert_int_equal(rg_json_read(&r, &token, NULL), RG_OK);
    assert_int_equal(rg_json_read(&r, &token, NULL), RG_OK);
    assert_int_equal(token, RG_JSON_T_STRING);
    assert_true(r.token_nul);
    assert_int_equal(rg_json_unescape(&r, &out, NULL), RG_OK);
    assert_int_equal(out.len, 10);
    assert_memory_equal(out.data, "a\xc3\xa9\xf0\x9d\x84\x9e\n\0b", 10);
    rg_buf_free(&out);
}

static void skips_a_value_whole(void **state)
{
    static const char     text[] = "{\"skip\":{\"a\":[1,{\"b\":2}]},\"next\":7}";
    struct rg_json_reader r;
    enum rg_json_token    token;

    (void)state;
    rg_json_reader_init(&r, text, strlen(text), 8);
    assert_int_equal(rg_json_read(&r, &token, NULL), RG_OK);
    assert_int_equal(rg_json_read(&r, &token, NULL), RG_OK);
    assert_int_equal(token, RG_JSON_T_KEY);
    assert_int_equal(rg_json_skip(&r, NULL), RG_OK);
    assert_int_equal(rg_json_read(&r, &token, NULL), RG_OK);
    assert_int_equal(token, RG_JSON_T_KEY);
    assert_int_equal(r.token_len, 4);
    assert_memory_equal(r.token_text, "next", 4);
}

static void survives_every_failing_allocation(void **state)
{
    static const char text[] = "{\"a\":[1,2,{\"b\":\"c\"}],\"d\":1.5}";
    const int64_t     live = rg_mem_live();
    enum rg_code      code = RG_E_NOMEM;

    (void)state;
    for (int64_t n = 1; code == RG_E_NOMEM; n++) {
        struct rg_json *root = NULL;

        rg_mem_fail_at(n);
        code = parse(&root, text);
        rg_mem_fail_at(0);
        rg_json_free(root);
        assert_int_equal(rg_mem_live(), live);
        assert_true(n < 100);
    }
    assert_int_equal(code, RG_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_rfc_8259_refuses),
        cmocka_unit_test(accepts_what_rfc_8259_accepts),
        cmocka_unit_test(tells_policy_from_syntax),
        cmocka_unit_test(limits_the_keys_of_one_object),
        cmocka_unit_test(keeps_the_text_of_numbers),
        cmocka_unit_test(refuses_numbers_that_are_no_integers),
        cmocka_unit_test(prints_what_it_read),
        cmocka_unit_test(prints_made_numbers_shortest),
        cmocka_unit_test(undoes_escapes_in_the_reader),
        cmocka_unit_test(skips_a_value_whole),
        cmocka_unit_test(survives_every_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
