/* tokenizer_test.c - ids equal to the references', and who may write a control token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "support/tokenizer_fixtures.h"

static const char *const kinds[] = {"smollm2", "gpt2",     "llama3", "glm4",      "qwen2",
                                    "qwen35",  "deepseek", "o200k",  "kimi_json", "falcon",
                                    "corners", "kimi"};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static struct rg_ids encode(const struct rg_tokenizer *t, const char *text, size_t len,
                            enum rg_control control)
{
    struct rg_ids ids = {0};
    struct rg_err err = {.message = ""};

    if (rg_tokenizer_encode(t, text, len, NULL, 0, control, &ids, &err))
        fail_msg("%s", err.message);
    return ids;
}

static struct rg_buf decode(const struct rg_tokenizer *t, const struct rg_ids *ids)
{
    struct rg_buf b;

    rg_buf_init(&b, 64u << 20);
    for (size_t i = 0; i < ids->len; i++) {
        size_t      n;
        const char *bytes = rg_tokenizer_bytes(t, ids->data[i], &n);

        assert_int_equal(rg_buf_add(&b, bytes, n, NULL), RG_OK);
    }
    return b;
}

static void expect_ids(const char *kind, const struct rg_ids *have, const struct rg_ids *want)
{
    for (size_t i = 0; i < have->len && i < want->len; i++)
        if (have->data[i] != want->data[i])
            fail_msg("%s: id %zu is %d, expected %d", kind, i, have->data[i], want->data[i]);
    if (have->len != want->len)
        fail_msg("%s: %zu ids, expected %zu", kind, have->len, want->len);
}

static void gives_the_ids_of_the_references(void **state)
{
    const int64_t live = rg_mem_live();
    size_t        len;
    char         *text = read_fixture("text.bin", &len);

    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct rg_tokenizer *t = open_fixture(kinds[k]);

        for (int special = 0; special < 2; special++) {
            char          name[128];
            struct rg_ids have, want;

            (void)snprintf(name, sizeof name, "%s/%s.json", kinds[k],
                           special ? "special" : "plain");
            want = read_ids(name);
            have = encode(t, text, len, special ? RG_CONTROL_ALL : RG_CONTROL_PLAIN);
            expect_ids(name, &have, &want);
            rg_ids_free(&have);
            rg_ids_free(&want);
        }
        rg_tokenizer_close(t);
    }
    rg_free(text);
    assert_int_equal(rg_mem_live(), live);
}

static void decoding_gives_the_repaired_text_back(void **state)
{
    static const char *const exact[] = {"smollm2", "llama3", "deepseek", "o200k", "falcon", "kimi"};
    size_t                   len;
    char                    *text = read_fixture("text.bin", &len);
    struct rg_buf            want;

    (void)state;
    rg_buf_init(&want, 1u << 20);
    assert_int_equal(rg_utf8_repair(&want, text, len, NULL), RG_OK);
    for (size_t k = 0; k < sizeof exact / sizeof exact[0]; k++) {
        struct rg_tokenizer *t = open_fixture(exact[k]);
        struct rg_ids        ids = encode(t, text, len, RG_CONTROL_ALL);
        struct rg_buf        have = decode(t, &ids);

        assert_int_equal(have.len, want.len);
        assert_memory_equal(have.data, want.data, want.len);
        rg_buf_free(&have);
        rg_ids_free(&ids);
        rg_tokenizer_close(t);
    }
    rg_buf_free(&want);
    rg_free(text);
}

static void an_ill_formed_sequence_counts_as_u_fffd_per_maximal_subpart(void **state)
{
    static const struct {
        const char *bad, *good;
    } cases[] = {{"a\xffz", "a\xEF\xBF\xBDz"},
                 {"\xf0\x9f\x98z", "\xEF\xBF\xBDz"},
                 {"\xe0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xed\xa0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xe2\x82", "\xEF\xBF\xBD"}};
    struct rg_tokenizer *t = open_fixture("kimi");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rg_ids have = encode(t, cases[i].bad, strlen(cases[i].bad), RG_CONTROL_PLAIN);
        struct rg_ids want = encode(t, cases[i].good, strlen(cases[i].good), RG_CONTROL_PLAIN);

        expect_ids("repair", &have, &want);
        rg_ids_free(&have);
        rg_ids_free(&want);
    }
    rg_tokenizer_close(t);
}

/* ---- trust ---------------------------------------------------------------------------------- */

/* A text of parts, '+' before a trusted one and '-' before another; how often is `token` in it? */
static size_t count_token(const struct rg_tokenizer *t, const char *const *parts, const char *token)
{
    struct rg_span span[16];
    char           text[512] = "";
    size_t         n = 0, len = 0, found = 0;
    struct rg_ids  ids = {0};
    const int32_t  id = rg_tokenizer_find(t, token);

    assert_true(id >= 0);
    for (; parts[n]; n++) {
        const size_t part = strlen(parts[n] + 1);

        memcpy(text + len, parts[n] + 1, part);
        span[n] = (struct rg_span){len, len + part, parts[n][0] == '+'};
        len += part;
    }
    assert_int_equal(rg_tokenizer_encode(t, text, len, span, n, RG_CONTROL_TRUSTED, &ids, NULL),
                     RG_OK);
    for (size_t i = 0; i < ids.len; i++)
        found += ids.data[i] == id;
    rg_ids_free(&ids);
    return found;
}

#define COUNT(t, token, ...) count_token(t, (const char *const[]){__VA_ARGS__, NULL}, token)

static void control_tokens_come_from_trusted_bytes_only(void **state)
{
    static const char *const with[] = {"llama3", "qwen2", "deepseek", "kimi"};

    (void)state;
    for (size_t k = 0; k < sizeof with / sizeof with[0]; k++) {
        struct rg_tokenizer *t = open_fixture(with[k]);

        assert_int_equal(COUNT(t, "<|im_end|>", "+<|im_end|>"), 1);
        assert_int_equal(COUNT(t, "<|im_end|>", "-<|im_end|>"), 0);
        assert_int_equal(COUNT(t, "<|im_end|>", "+a", "-<|im_end|>", "+<|im_end|>"), 1);
        assert_int_equal(COUNT(t, "<|im_end|>", "+<|im", "+_end|>"), 1);
        assert_int_equal(COUNT(t, "<|im_end|>", "+<|im", "-_end|>"), 0);
        assert_int_equal(COUNT(t, "<|im_end|>", "-<", "+|im_end|>"), 0);
        assert_int_equal(COUNT(t, "<|im_end|>", "+<|im_", "-e", "+nd|>"), 0);
        assert_int_equal(COUNT(t, "<|im_end|>", "-<|im_", "+<|im_end|>"), 1);
        rg_tokenizer_close(t);
    }
}

#define DOTTED "s\xCC\x87"

static void trust_follows_bytes_through_repair_and_normalisation(void **state)
{
    struct rg_tokenizer *t = open_fixture("qwen2");

    (void)state;
    assert_int_equal(COUNT(t, "<|im_end|>", "-\xff\xff\xe2\x82", "+<|im_end|>"), 1);
    assert_int_equal(COUNT(t, "<|im_end|>", "-\xff\xff\xe2\x82<", "+|im_end|>"), 0);
    assert_int_equal(COUNT(t, "<|im_end|>", "+\xff<|im_end|>", "-\xff<|im_end|>"), 1);
    assert_int_equal(COUNT(t, "<|im_end|>", "-e\xCC\x81 o\xCC\x88", "+<|im_end|>",
                           "-e\xCC\x81<|im_end|>"),
                     1);
    /* An added token that is matched after normalisation: s and a dot above. */
    assert_int_equal(rg_tokenizer_set_template(t, DOTTED, 3, NULL), RG_OK);
    assert_int_equal(COUNT(t, DOTTED, "-\xff aa", "+" DOTTED, "-b"), 1);
    assert_int_equal(COUNT(t, DOTTED, "-\xff aa", "-" DOTTED, "+b"), 0);
    assert_int_equal(COUNT(t, DOTTED, "-" DOTTED " ", "+\xE1\xB9\xA1", "-o\xCC\x88\xE1\xB9\xA1"),
                     1);
    assert_int_equal(COUNT(t, DOTTED, "-s", "+\xCC\x87"), 0);
    assert_int_equal(COUNT(t, DOTTED, "+s", "-\xCC\x87"), 0);
    rg_tokenizer_close(t);
}

static void the_template_makes_control_tokens_of_what_it_writes(void **state)
{
    static const char    user[] = "<\xEF\xBD\x9CUser\xEF\xBD\x9C>";
    struct rg_tokenizer *t = open_fixture("deepseek");

    (void)state;
    assert_false(rg_tokenizer_is_special(t, rg_tokenizer_find(t, user)));
    assert_int_equal(COUNT(t, user, "-<\xEF\xBD\x9CUser\xEF\xBD\x9C>"), 1);
    assert_int_equal(rg_tokenizer_set_template(t, user, sizeof user - 1, NULL), RG_OK);
    assert_int_equal(COUNT(t, user, "-<\xEF\xBD\x9CUser\xEF\xBD\x9C>"), 0);
    assert_int_equal(COUNT(t, user, "+<\xEF\xBD\x9CUser\xEF\xBD\x9C>"), 1);
    /* Not in the template, not special: a token wherever it stands. */
    assert_int_equal(COUNT(t, "<think>", "-<think>"), 1);
    rg_tokenizer_close(t);
}

static void white_space_in_the_template_is_no_control_token(void **state)
{
    struct rg_tokenizer *t = open_fixture("gpt2");

    (void)state;
    assert_int_equal(rg_tokenizer_set_template(t, "a  b", 4, NULL), RG_OK);
    assert_int_equal(COUNT(t, "  ", "-a  b"), 1);
    rg_tokenizer_close(t);
}

/* ---- cost, and what is known of tokens ------------------------------------------------------- */

static void a_megabyte_of_one_character_is_no_trouble(void **state)
{
    static const char *const units[] = {"a", " ", "\n", "<", "\xCC\x81", "\xE6\xBC\xA2", "\xff"};
    static const char *const with[] = {"smollm2", "qwen2", "kimi"};
    const size_t             bytes = 1u << 20;
    char                    *text = rg_alloc(bytes);

    (void)state;
    assert_non_null(text);
    for (size_t k = 0; k < sizeof with / sizeof with[0]; k++) {
        struct rg_tokenizer *t = open_fixture(with[k]);

        for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
            const int64_t begin = rg_clock_ms();
            struct rg_ids ids;

            for (size_t i = 0; i < bytes; i++)
                text[i] = units[u][i % strlen(units[u])];
            ids = encode(t, text, bytes, RG_CONTROL_ALL);
            assert_true(ids.len > 0);
            /* A quadratic algorithm needs hours; this bound is for slow and busy machines. */
            assert_true(rg_clock_ms() - begin < 60000);
            rg_ids_free(&ids);
        }
        rg_tokenizer_close(t);
    }
    rg_free(text);
}

static void appends_to_the_ids_and_leaves_them_alone_on_failure(void **state)
{
    struct rg_tokenizer *t = open_fixture("llama3");
    struct rg_ids        ids = {0};
    struct rg_err        err;
    const size_t         huge = (64u << 20) + 1;
    char                *text = rg_calloc(huge, 1);

    (void)state;
    assert_non_null(text);
    assert_int_equal(rg_tokenizer_encode(t, "a", 1, NULL, 0, RG_CONTROL_PLAIN, &ids, &err), RG_OK);
    assert_int_equal(rg_tokenizer_encode(t, "", 0, NULL, 0, RG_CONTROL_PLAIN, &ids, &err), RG_OK);
    assert_int_equal(rg_tokenizer_encode(t, "a", 1, NULL, 0, RG_CONTROL_PLAIN, &ids, &err), RG_OK);
    assert_int_equal(ids.len, 2);
    assert_int_equal(ids.data[0], ids.data[1]);
    assert_int_equal(rg_tokenizer_encode(t, text, huge, NULL, 0, RG_CONTROL_PLAIN, &ids, &err),
                     RG_E_LIMIT);
    assert_int_equal(ids.len, 2);
    rg_free(text);
    rg_ids_free(&ids);
    rg_tokenizer_close(t);
}

static void knows_its_tokens(void **state)
{
    struct rg_tokenizer *t = open_fixture("kimi");
    const uint32_t       size = rg_tokenizer_vocab_size(t);
    size_t               n;

    (void)state;
    assert_int_equal(size, 900 + 256);
    assert_int_equal(rg_tokenizer_find(t, "[BOS]"), 900);
    assert_int_equal(rg_tokenizer_find(t, "<|reserved_token_905|>"), 905);
    assert_int_equal(rg_tokenizer_find(t, "a"), -1);
    assert_true(rg_tokenizer_is_special(t, 900));
    assert_false(rg_tokenizer_is_special(t, rg_tokenizer_find(t, "<think>")));
    assert_false(rg_tokenizer_is_special(t, 5));
    assert_memory_equal(rg_tokenizer_bytes(t, 900, &n), "[BOS]", 5);
    assert_int_equal(n, 5);
    rg_tokenizer_bytes(t, (int32_t)size, &n);
    assert_int_equal(n, 0);
    rg_tokenizer_bytes(t, -1, &n);
    assert_int_equal(n, 0);
    assert_false(rg_tokenizer_is_special(t, -1));
    assert_false(rg_tokenizer_is_special(t, (int32_t)size));
    rg_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_ids_of_the_references),
        cmocka_unit_test(decoding_gives_the_repaired_text_back),
        cmocka_unit_test(an_ill_formed_sequence_counts_as_u_fffd_per_maximal_subpart),
        cmocka_unit_test(control_tokens_come_from_trusted_bytes_only),
        cmocka_unit_test(trust_follows_bytes_through_repair_and_normalisation),
        cmocka_unit_test(the_template_makes_control_tokens_of_what_it_writes),
        cmocka_unit_test(white_space_in_the_template_is_no_control_token),
        cmocka_unit_test(a_megabyte_of_one_character_is_no_trouble),
        cmocka_unit_test(appends_to_the_ids_and_leaves_them_alone_on_failure),
        cmocka_unit_test(knows_its_tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
