/* detokenizer_test.c - text from tokens that end anywhere in a character. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "support/tokenizer_fixtures.h"
#include "text/detokenizer.h"

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

/* Feeds the ids one by one; every delta must be well-formed and their sum the repaired whole. */
static void expect_whole(const int32_t *ids, size_t n)
{
    struct rg_detokenizer d;
    struct rg_buf         out, bytes, want;

    rg_buf_init(&out, 1u << 20);
    rg_buf_init(&bytes, 1u << 20);
    rg_buf_init(&want, 1u << 20);
    rg_detokenizer_init(&d, tokenizer);
    for (size_t i = 0; i < n; i++) {
        size_t      len;
        const char *p = rg_tokenizer_bytes(tokenizer, ids[i], &len);

        if (!rg_tokenizer_is_special(tokenizer, ids[i]))
            assert_int_equal(rg_buf_add(&bytes, p, len, NULL), RG_OK);
        assert_int_equal(rg_detokenizer_push(&d, ids[i], &out, NULL), RG_OK);
        assert_true(rg_utf8_valid(out.data ? out.data : "", out.len));
        assert_true(d.n_held <= 3);
        /* Nothing that is certain is held back. */
        assert_int_equal(d.n_held, rg_utf8_incomplete_tail(bytes.data, bytes.len));
    }
    assert_int_equal(rg_detokenizer_finish(&d, &out, NULL), RG_OK);
    assert_int_equal(rg_utf8_repair(&want, bytes.data, bytes.len, NULL), RG_OK);
    assert_int_equal(out.len, want.len);
    assert_memory_equal(out.data, want.data, want.len);
    rg_buf_free(&out);
    rg_buf_free(&bytes);
    rg_buf_free(&want);
}

static void expect_bytes(const char *text, size_t len)
{
    int32_t ids[512];

    assert_true(len <= 512);
    for (size_t i = 0; i < len; i++)
        ids[i] = byte_ids[(uint8_t)text[i]];
    expect_whole(ids, len);
}

static void characters_survive_a_cut_at_every_byte(void **state)
{
    static const char text[] = "a\xC3\xA9"
                               "b\xE6\xBC\xA2\xE5\xAD\x97 \xF0\x9F\x98\x80\xF0\x9F\x91\x8D.";

    (void)state;
    expect_bytes(text, sizeof text - 1);
}

static void broken_sequences_become_u_fffd_once_that_is_certain(void **state)
{
    static const char *const texts[] = {
        "\x80", "\xC3", "\xC3(", "\xE2\x82", "\xE2\x82z", "\xE2(\xA1", "\xF0\x9F\x98", "\xF0\x9F(",
        "\xF0\x9F\x98\xC3\xA9", "\xE2\x82\xE2\x82\xAC", "\xC0\xAF", "\xE0\x80\x80", "\xED\xA0\x80",
        "\xF4\x90\x80\x80", "\xF5\x80", "\xFF\xFE", "\xF0\xF0\xF0\x9F\x98\x80", "a\xC3\xC3\xC3z",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        expect_bytes(texts[i], strlen(texts[i]));
}

static void any_tokens_give_the_repaired_whole(void **state)
{
    const uint32_t size = rg_tokenizer_vocab_size(tokenizer);
    uint64_t       random = 1;
    int32_t        ids[200];

    (void)state;
    for (int round = 0; round < 300; round++) {
        for (size_t i = 0; i < 200; i++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            ids[i] = (int32_t)((random >> 33) % (round % 2 ? size : 256));
        }
        expect_whole(ids, 200);
    }
}

static void special_tokens_give_no_text(void **state)
{
    struct rg_detokenizer d;
    struct rg_buf         out;
    const int32_t         ids[] = {byte_ids[0xC3], rg_tokenizer_find(tokenizer, "<|im_end|>"),
                                   byte_ids[0xA9], -1, (int32_t)rg_tokenizer_vocab_size(tokenizer)};

    (void)state;
    rg_buf_init(&out, 100);
    rg_detokenizer_init(&d, tokenizer);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(rg_detokenizer_push(&d, ids[i], &out, NULL), RG_OK);
    assert_int_equal(rg_detokenizer_finish(&d, &out, NULL), RG_OK);
    assert_string_equal(out.data, "\xC3\xA9");
    assert_int_equal(rg_detokenizer_push(&d, rg_tokenizer_find(tokenizer, "<think>"), &out, NULL),
                     RG_OK);
    assert_string_equal(out.data, "\xC3\xA9<think>");
    rg_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_survive_a_cut_at_every_byte),
        cmocka_unit_test(broken_sequences_become_u_fffd_once_that_is_certain),
        cmocka_unit_test(any_tokens_give_the_repaired_whole),
        cmocka_unit_test(special_tokens_give_no_text),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
