/* answer_test.c - stop strings, however the tokens cut them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "support/tokenizer_fixtures.h"
#include "text/answer.h"

static struct rg_tokenizer *tokenizer;
static int32_t              byte_ids[256];

static int set_up(void **state)
{
    const int32_t size = (int32_t)rg_tokenizer_vocab_size(tokenizer = open_fixture("kimi"));

    (void)state;
    for (int32_t id = 0; id < size; id++) {
        size_t      n;
        const char *p = rg_tokenizer_bytes(tokenizer, id, &n);

        if (n == 1)
            byte_ids[(uint8_t)p[0]] = id;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rg_tokenizer_close(tokenizer);
    return 0;
}

struct stops {
    const char *const *strings;
    uint32_t           n;
};

/* The text of an answer of these ids; *stopped says how it ended. */
static struct rg_buf run(const struct rg_ids *ids, const struct stops *stops, bool *stopped)
{
    struct rg_answer a;
    struct rg_buf    out;

    rg_buf_init(&out, 1u << 16);
    assert_int_equal(rg_answer_init(&a, tokenizer, stops->strings, stops->n, NULL), RG_OK);
    for (size_t i = 0; i < ids->len; i++) {
        assert_int_equal(rg_answer_push(&a, ids->data[i], &out, NULL), RG_OK);
        assert_true(rg_utf8_valid(out.data ? out.data : "", out.len));
    }
    assert_int_equal(rg_answer_finish(&a, &out, NULL), RG_OK);
    *stopped = a.stopped;
    rg_answer_free(&a);
    return out;
}

/* As single bytes, and as the tokens that the text encodes to. */
static void expect_answer(const char *text, const struct stops *stops, const char *want, bool stop)
{
    struct rg_ids tokens = {0}, bytes = {0};

    assert_int_equal(rg_tokenizer_encode(tokenizer, text, strlen(text), NULL, 0, RG_CONTROL_PLAIN,
                                         &tokens, NULL),
                     RG_OK);
    bytes.data = rg_alloc((strlen(text) + 1) * sizeof *bytes.data);
    assert_non_null(bytes.data);
    for (; text[bytes.len]; bytes.len++)
        bytes.data[bytes.len] = byte_ids[(uint8_t)text[bytes.len]];
    for (int i = 0; i < 2; i++) {
        bool          stopped;
        struct rg_buf out = run(i ? &tokens : &bytes, stops, &stopped);

        assert_string_equal(out.data ? out.data : "", want);
        assert_int_equal(stopped, stop);
        rg_buf_free(&out);
    }
    rg_ids_free(&tokens);
    rg_ids_free(&bytes);
}

#define STOPS(...)                                                                                 \
    (&(struct stops){(const char *const[]){__VA_ARGS__},                                           \
                     sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)})

static void cuts_at_the_first_stop_string(void **state)
{
    static const struct stops none = {NULL, 0};

    (void)state;
    expect_answer("the quick time", &none, "the quick time", false);
    expect_answer("the quick time", STOPS("quick"), "the ", true);
    expect_answer("the quick time", STOPS("slow"), "the quick time", false);
    expect_answer("the quick time", STOPS("the"), "", true);
    expect_answer("the quick time", STOPS("time", "ick t"), "the qu", true);
    expect_answer("aaab", STOPS("aab"), "a", true);
    expect_answer("abababc", STOPS("ababc"), "ab", true);
    expect_answer("ends with \n\n", STOPS("\n\nX"), "ends with \n\n", false);
    expect_answer("", STOPS("x"), "", false);
    expect_answer("caf\xC3\xA9 \xF0\x9F\x98\x80!", STOPS("\xF0\x9F\x98\x80"), "caf\xC3\xA9 ", true);
    expect_answer("caf\xC3\xA8", STOPS("\xC3\xA9"), "caf\xC3\xA8", false);
    /* The held half of a character comes out at the end. */
    expect_answer("ab\xE2\x82", STOPS("b\xE2\x82\xAC"), "ab\xEF\xBF\xBD", false);
}

/* What is complete first counts, and of those the longest: the same for any token borders. */
static void of_several_stop_strings_the_first_to_be_complete_counts(void **state)
{
    (void)state;
    expect_answer("time", STOPS("time", "im"), "t", true);
    expect_answer("time", STOPS("ime", "time"), "", true);
    expect_answer("time", STOPS("me", "ime"), "t", true);
}

static void holds_back_only_what_may_become_a_stop_string(void **state)
{
    static const char *const stops[] = {"END"};
    static const char        text[] = "aEENDx";
    static const char *const after[] = {"a", "a", "aE", "aE", "aE", "aE"};
    struct rg_answer         a;
    struct rg_buf            out;

    (void)state;
    rg_buf_init(&out, 100);
    assert_int_equal(rg_answer_init(&a, tokenizer, stops, 1, NULL), RG_OK);
    for (size_t i = 0; text[i]; i++) {
        assert_int_equal(rg_answer_push(&a, byte_ids[(uint8_t)text[i]], &out, NULL), RG_OK);
        assert_string_equal(out.data, after[i]);
        assert_int_equal(a.stopped, i >= 4);
    }
    assert_int_equal(rg_answer_finish(&a, &out, NULL), RG_OK);
    assert_string_equal(out.data, "aE");
    rg_answer_free(&a);
    rg_buf_free(&out);
}

static void refuses_stop_strings_over_the_limits(void **state)
{
    char                     longest[RG_LIMIT_STOP_BYTES + 2];
    const char *const        too_long[] = {"a", longest};
    static const char *const empty[] = {""};
    static const char *const many[] = {"a", "b", "c", "d", "e"};
    const int64_t            live = rg_mem_live();
    struct rg_answer         a;

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(rg_answer_init(&a, tokenizer, too_long, 2, NULL), RG_E_LIMIT);
    assert_int_equal(rg_answer_init(&a, tokenizer, empty, 1, NULL), RG_E_LIMIT);
    assert_int_equal(rg_answer_init(&a, tokenizer, many, 5, NULL), RG_E_LIMIT);
    assert_int_equal(rg_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_at_the_first_stop_string),
        cmocka_unit_test(of_several_stop_strings_the_first_to_be_complete_counts),
        cmocka_unit_test(holds_back_only_what_may_become_a_stop_string),
        cmocka_unit_test(refuses_stop_strings_over_the_limits),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
