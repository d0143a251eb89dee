/* unicode_test.c - normalisation, the map of edits, and the proxies of young characters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/unicode.h"

static void expect_nfc(const char *text, const char *want)
{
    struct rg_buf      b;
    struct rg_text_map map = {0};
    bool               changed;

    rg_buf_init(&b, 1u << 16);
    assert_int_equal(rg_nfc(&b, &map, text, strlen(text), &changed, NULL), RG_OK);
    assert_int_equal(changed, strcmp(text, want) != 0);
    if (changed)
        assert_string_equal(b.data, want);
    else
        assert_int_equal(b.len, 0);
    rg_buf_free(&b);
    rg_text_map_free(&map);
}

static void normalises_to_composed_form(void **state)
{
    (void)state;
    expect_nfc("", "");
    expect_nfc("plain ASCII", "plain ASCII");
    expect_nfc("e\xCC\x81", "\xC3\xA9");
    expect_nfc("\xC3\xA9", "\xC3\xA9");
    expect_nfc("xe\xCC\x81y", "x\xC3\xA9y");
    /* Marks are put in the order of their classes before they compose: s, U+0307, U+0323. */
    expect_nfc("s\xCC\x87\xCC\xA3", "\xE1\xB9\xA9");
    expect_nfc("s\xCC\xA3\xCC\x87", "\xE1\xB9\xA9");
    expect_nfc("q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87");
    /* A mark of the same class blocks: only the first acute joins. */
    expect_nfc("a\xCC\x81\xCC\x81", "\xC3\xA1\xCC\x81");
    /* Hangul: L + V + T, and an LV syllable + T. */
    expect_nfc("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C");
    expect_nfc("\xED\x95\x98\xE1\x86\xAB", "\xED\x95\x9C");
    expect_nfc("\xED\x95\x9C\xE1\x86\xAB", "\xED\x95\x9C\xE1\x86\xAB");
    /* Singletons and compositions that are excluded. */
    expect_nfc("\xE2\x84\xAB", "\xC3\x85");
    expect_nfc("\xE2\x84\xA6", "\xCE\xA9");
    expect_nfc("\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC");
    expect_nfc("\xEF\xA4\x80", "\xE8\xB1\x88");
    expect_nfc("\xF0\x9D\x85\x9E", "\xF0\x9D\x85\x97\xF0\x9D\x85\xA5");
    expect_nfc("\xCC\x81" "a", "\xCC\x81" "a");
}

/* Long runs of marks are sorted another way than short ones. */
static void orders_long_runs_of_marks(void **state)
{
    enum { PAIRS = 20000 };
    char              *text = rg_alloc(PAIRS * 4 + 2);
    struct rg_buf      b;
    struct rg_text_map map = {0};
    bool               changed;

    (void)state;
    assert_non_null(text);
    rg_buf_init(&b, 1u << 20);
    text[0] = 'q';
    for (size_t i = 0; i < PAIRS; i++)
        memcpy(text + 1 + 4 * i, "\xCC\x87\xCC\xA3", 4);
    assert_int_equal(rg_nfc(&b, &map, text, 1 + 4 * PAIRS, &changed, NULL), RG_OK);
    assert_true(changed);
    assert_int_equal(b.len, 1 + 4 * PAIRS);
    for (size_t i = 0; i < PAIRS; i++) {
        assert_memory_equal(b.data + 1 + 2 * i, "\xCC\xA3", 2);
        assert_memory_equal(b.data + 1 + 2 * (PAIRS + i), "\xCC\x87", 2);
    }
    rg_buf_free(&b);
    rg_text_map_free(&map);
    rg_free(text);
}

static void the_map_leads_back_to_the_source(void **state)
{
    static const char  text[] = "ab e\xCC\x81 c o\xCC\x88" "d"; /* é and ö compose */
    struct rg_buf      b;
    struct rg_text_map map = {0};
    bool               changed;
    static const struct {
        size_t new_begin, new_end, old_begin, old_end;
    } cases[] = {{0, 2, 0, 2},  {3, 5, 3, 6},   {4, 5, 3, 6},   {2, 4, 2, 6}, {5, 6, 6, 7},
                 {6, 7, 7, 8},  {8, 10, 9, 12}, {10, 11, 12, 13}, {0, 11, 0, 13}};

    (void)state;
    rg_buf_init(&b, 100);
    assert_int_equal(rg_nfc(&b, &map, text, sizeof text - 1, &changed, NULL), RG_OK);
    assert_string_equal(b.data, "ab \xC3\xA9 c \xC3\xB6" "d");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t begin = cases[i].new_begin, end = cases[i].new_end;

        rg_text_map_back(&map, &begin, &end);
        assert_int_equal(begin, cases[i].old_begin);
        assert_int_equal(end, cases[i].old_end);
    }
    rg_buf_free(&b);
    rg_text_map_free(&map);
}

static void a_shadow_has_the_same_length(void **state)
{
    /* U+1FA77, U+31350 and U+1C89 came with Unicode 15 and 16. */
    static const char text[] = "a\xF0\x9F\xA9\xB7 \xF0\xB1\x8D\x90\xE1\xB2\x89z\xE6\xBC\xA2";
    struct rg_buf     b;
    uint32_t          have, want;

    (void)state;
    rg_buf_init(&b, 100);
    assert_int_equal(rg_unicode_shadow(&b, "old \xF0\x9F\x98\x80", 8, NULL), RG_OK);
    assert_int_equal(b.len, 0);
    assert_int_equal(rg_unicode_shadow(&b, text, sizeof text - 1, NULL), RG_OK);
    assert_int_equal(b.len, sizeof text - 1);
    assert_true(rg_utf8_valid(b.data, b.len));
    for (size_t at = 0, changed = 0; at < b.len;) {
        const size_t n = rg_utf8_next(text + at, b.len - at, &want);

        assert_int_equal(rg_utf8_next(b.data + at, b.len - at, &have), n);
        changed += have != want;
        at += n;
        if (at == b.len)
            assert_int_equal(changed, 3);
    }
    rg_buf_free(&b);
}

static void proxies_keep_the_utf_8_length(void **state)
{
    char a[4], b[4];

    (void)state;
    for (size_t i = 0; i < rg_n_code_proxies; i++) {
        const struct rg_code_proxy *p = &rg_code_proxies[i];

        assert_true(p->first <= p->last);
        assert_true(i == 0 || rg_code_proxies[i - 1].last < p->first);
        assert_int_equal(rg_utf8_put(a, p->first), rg_utf8_put(b, p->proxy));
        assert_int_equal(rg_utf8_put(a, p->last), rg_utf8_put(b, p->proxy));
    }
}

/* Patterns write ranges out: [\u0e80-\u0eff] must match a younger Lao character too. */
static void proxies_stand_in_the_block_of_what_they_stand_for(void **state)
{
    static const struct {
        uint32_t young, begin, end;
    } cases[] = {
        {0x897, 0x890, 0x89F},    {0xECE, 0xE80, 0xEFF},       {0x2FFC, 0x2FF0, 0x2FFF},
        {0x31EF, 0x31C0, 0x31EF}, {0x1FA77, 0x1FA70, 0x1FAFF}, {0x1FAE9, 0x1FA70, 0x1FAFF},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t k = 0;

        while (k < rg_n_code_proxies && rg_code_proxies[k].last < cases[i].young)
            k++;
        assert_true(k < rg_n_code_proxies && rg_code_proxies[k].first <= cases[i].young);
        assert_in_range(rg_code_proxies[k].proxy, cases[i].begin, cases[i].end);
    }
}

static void knows_its_classes(void **state)
{
    (void)state;
    assert_true(rg_is_white_space(0x3000));
    assert_false(rg_is_white_space(0x1C));
    assert_true(rg_is_python_space(0x1C));
    assert_false(rg_is_white_space(0x200B));
    assert_true(rg_is_punctuation('$'));
    assert_false(rg_is_punctuation('a'));
    assert_true(rg_is_punctuation(0x3001));
    assert_true(rg_is_numeric(0xBD));
    assert_false(rg_is_numeric('a'));
    assert_true(rg_is_word('_'));
    assert_true(rg_is_word(0x301));
    assert_false(rg_is_word('-'));
    assert_false(rg_is_word(0x10FFFF));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normalises_to_composed_form),
        cmocka_unit_test(orders_long_runs_of_marks),
        cmocka_unit_test(the_map_leads_back_to_the_source),
        cmocka_unit_test(a_shadow_has_the_same_length),
        cmocka_unit_test(proxies_keep_the_utf_8_length),
        cmocka_unit_test(proxies_stand_in_the_block_of_what_they_stand_for),
        cmocka_unit_test(knows_its_classes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
