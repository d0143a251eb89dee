/* regex_test.c - Oniguruma's dialect on PCRE2: what patterns match, and which are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "text/regex.h"

static struct rg_regex *compile(const char *pattern)
{
    struct rg_regex *r = NULL;
    struct rg_buf    b;
    struct rg_err    err = {.message = ""};

    rg_buf_init(&b, 1u << 16);
    if (rg_regex_translate(&b, pattern, strlen(pattern), &err))
        fail_msg("%s", err.message);
    if (rg_regex_open(&r, b.data, b.len, &err))
        fail_msg("%s", err.message);
    rg_buf_free(&b);
    return r;
}

/* All matches of the pattern, each in brackets. */
static void expect_matches(const char *pattern, const char *text, const char *want)
{
    const size_t          len = strlen(text);
    struct rg_regex      *r = compile(pattern);
    struct rg_regex_scan *s = NULL;
    char                  have[256] = "";
    size_t                n = 0;

    assert_int_equal(rg_regex_scan_open(&s, len, NULL), RG_OK);
    for (size_t at = 0, begin, end; at <= len; at = end > begin ? end : end + 1) {
        assert_int_equal(rg_regex_find(r, s, text, len, at, &begin, &end, NULL), RG_OK);
        if (begin == SIZE_MAX)
            break;
        assert_true(n + end - begin + 3 < sizeof have);
        have[n++] = '[';
        memcpy(have + n, text + begin, end - begin);
        n += end - begin;
        have[n++] = ']';
    }
    have[n] = '\0';
    if (strcmp(have, want) != 0)
        fail_msg("%s on %s: %s, expected %s", pattern, text, have, want);
    rg_regex_scan_close(s);
    rg_regex_close(r);
}

static void matches_what_oniguruma_matches(void **state)
{
    static const struct {
        const char *pattern, *text, *want;
    } cases[] = {
        {"\\s+", "a \xE2\x80\x83\xC2\xA0 b\xE1\xA0\x8E", "[ \xE2\x80\x83\xC2\xA0 ]"},
        {"[^\\s]+", "a\xE1\xA0\x8E b", "[a\xE1\xA0\x8E][b]"},
        {"[\\S]+", "ab c", "[ab][c]"},
        /* U+3001 has Han among its script extensions, but not as its script. */
        {"\\p{Han}+", "\xE6\xBC\xA2\xE3\x80\x81\xE5\xAD\x97", "[\xE6\xBC\xA2][\xE5\xAD\x97]"},
        {"[\\p{Ll}\\p{Lo}&&[^\\p{Han}]]+", "a\xE6\xBC\xA2\xD7\x90z", "[a][\xD7\x90z]"},
        {"[^\\p{L}&&[^\\p{Lu}]]+", "aB1", "[B1]"},
        {"[a-c[x-z]]+", "abxyq", "[abxy]"},
        {"[\\p{L}&&\\p{Lu}]", "aB", "[B]"},
        {"\\h+", "xfF09g", "[fF09]"},
        {"\\H+", "xfg", "[x][g]"},
        {"\\d+", "1\xD9\xA1\xC2\xBD", "[1\xD9\xA1]"},
        {"\\w+", "a_1\xE2\x93\x90-b", "[a_1\xE2\x93\x90][b]"},
        {"[^\\w-]+", "a--!!b", "[!!]"},
        {"\\p{Letter}+\\p{^L}", "ab1", "[ab1]"},
        {"\\p{Uppercase_Letter}\\P{lu}", "aBc", "[Bc]"},
        {"\\u00e9\\x41\\x{1F600}",
         "\xC3\xA9"
         "A\xF0\x9F\x98\x80",
         "[\xC3\xA9"
         "A\xF0\x9F\x98\x80]"},
        {"^a$", "a\nb\na", "[a][a]"},
        {".+", "ab\ncd", "[ab][cd]"},
        {"(?m:.+)", "ab\ncd", "[ab\ncd]"},
        {"(?m:a.)b", "a\nb", "[a\nb]"},
        {"a{2,3}+", "aaaaa", "[aaaaa]"},
        {"a{2}?b", "aab b", "[aab][b]"},
        {"a{2,3}?", "aaaa", "[aa][aa]"},
        {"a{,2}b", "aaab", "[aab]"},
        {"a{x}", "a{x}", "[a{x}]"},
        {"a++b|a", "aab", "[aab]"},
        {"(ab)+?(?=c)", "ababc", "[abab]"},
        {"(?i:'s|'LL)", "'S'\xC5\xBF'll", "['S]['\xC5\xBF]['ll]"},
        {"(?i)ab|c", "ABC", "[AB][C]"},
        {"(?i:a)b", "Ab AB", "[Ab]"},
        {"(?<=x)y|(?<!x)z", "xyxzz", "[y][z]"},
        {"(?>a+)b", "aab", "[aab]"},
        {"[\\]\\\\^-]+", "]\\^-a", "[]\\^-]"},
        {"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]+", "a&&[\\]-b", "[&&[\\]-]"},
        {"#\\ ]}", "# ]}", "[# ]}]"},
        {"[[:alpha:][:digit:]]+", "a1_", "[a1]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_matches(cases[i].pattern, cases[i].text, cases[i].want);
}

static void refuses_what_it_cannot_give_exactly(void **state)
{
    static const char *const patterns[] = {
        "(?<name>a)", "\\1", "\\k<a>", "\\bword", "\\Ba", "\\G", "\\R", "\\X", "\\Ka", "\\p{L",
        "\\pL", "a(", "a)", "[a", "[]", "[^]", "[z-a]", "[a-\\d]", "[[a]&&[b]]", "[a[^b]]",
        "[\\w&&[^\\p{Nd}]]", "[[:punct:]]", "[\\b]", "a(?i)b", "(?x:a)", "(?a:b)", "*a", "{2}",
        "\\xff", "\\x{110000}", "\\ud800", "\\", "(?#c)", "a|+", "(?=a", "\\p{L&}", "\xff",
    };

    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct rg_buf b;
        struct rg_err err = {.message = ""};
        enum rg_code  code;

        rg_buf_init(&b, 1u << 16);
        code = rg_regex_translate(&b, patterns[i], strlen(patterns[i]), &err);
        if (code != RG_E_UNSUPPORTED && code != RG_E_BAD_DATA)
            fail_msg("%s was taken as %s", patterns[i], b.data ? b.data : "");
        assert_non_null(strstr(err.message, "regex"));
        rg_buf_free(&b);
    }
}

static void what_pcre2_refuses_is_an_error_too(void **state)
{
    struct rg_regex *r = NULL;
    struct rg_err    err = {.message = ""};
    const char      *pattern = "\\p{sc:Klingon}";

    (void)state;
    assert_int_equal(rg_regex_open(&r, pattern, strlen(pattern), &err), RG_E_UNSUPPORTED);
    assert_null(r);
    assert_non_null(strstr(err.message, "Klingon"));
}

static void a_quoted_literal_matches_itself(void **state)
{
    const char      *literal = "a.b*[\\E](?:$^{1}\xC3\xA9";
    struct rg_buf    b;
    struct rg_regex *r = NULL;
    struct rg_regex_scan *s = NULL;
    size_t           begin, end;

    (void)state;
    rg_buf_init(&b, 1u << 16);
    assert_int_equal(rg_regex_quote(&b, literal, strlen(literal), NULL), RG_OK);
    assert_int_equal(rg_regex_open(&r, b.data, b.len, NULL), RG_OK);
    assert_int_equal(rg_regex_scan_open(&s, 100, NULL), RG_OK);
    assert_int_equal(rg_regex_find(r, s, literal, strlen(literal), 0, &begin, &end, NULL), RG_OK);
    assert_int_equal(begin, 0);
    assert_int_equal(end, strlen(literal));
    rg_regex_scan_close(s);
    rg_regex_close(r);
    rg_buf_free(&b);
}

/* Matches all of `len` times c, with working memory for a text of `scan_len` bytes. */
static void expect_one_match(const char *pattern, char c, size_t len, size_t scan_len)
{
    char                 *text = rg_alloc(len);
    struct rg_regex      *r = compile(pattern);
    struct rg_regex_scan *s = NULL;
    struct rg_err         err = {.message = ""};
    size_t                begin, end;

    assert_non_null(text);
    memset(text, c, len);
    assert_int_equal(rg_regex_scan_open(&s, scan_len, NULL), RG_OK);
    if (rg_regex_find(r, s, text, len, 0, &begin, &end, &err))
        fail_msg("%s: %s", pattern, err.message);
    assert_int_equal(begin, 0);
    assert_int_equal(end, len);
    rg_regex_scan_close(s);
    rg_regex_close(r);
    rg_free(text);
}

/* A repeated group needs memory per character: of the JIT's stack, or else of the heap. */
static void repeated_groups_do_not_run_out_of_stack(void **state)
{
    const size_t len = 1u << 20;

    (void)state;
    expect_one_match("(?:\\p{L}\\p{M}*)+", 'x', len, len);
    expect_one_match("(?:(?!\\p{Han})\\p{L})*x", 'x', len, len);
    expect_one_match("(?:(?!\\p{Han})\\p{L})*x", 'x', len, 100);
}

static void the_match_limit_grows_with_the_text(void **state)
{
    const size_t len = 24u << 20;

    (void)state;
    expect_one_match("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", ' ', len, len);
    expect_one_match("\\p{L}*\\p{Lu}|\\p{L}+", 'x', len, len);
}

static void nothing_is_left_behind(void **state)
{
    const int64_t live = rg_mem_live();

    (void)state;
    matches_what_oniguruma_matches(NULL);
    refuses_what_it_cannot_give_exactly(NULL);
    assert_int_equal(rg_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_what_oniguruma_matches),
        cmocka_unit_test(refuses_what_it_cannot_give_exactly),
        cmocka_unit_test(what_pcre2_refuses_is_an_error_too),
        cmocka_unit_test(a_quoted_literal_matches_itself),
        cmocka_unit_test(repeated_groups_do_not_run_out_of_stack),
        cmocka_unit_test(the_match_limit_grows_with_the_text),
        cmocka_unit_test(nothing_is_left_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
