/* Split patterns that try to take all of the stack, the memory or the time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "text/regex.h"

/* Finds pattern in text with working memory for len_max bytes. */
static enum rg_code find(const char *pattern, const char *text, size_t len, size_t len_max,
                         size_t *end, struct rg_err *err)
{
    const int64_t         live = rg_mem_live();
    struct rg_regex      *r;
    struct rg_regex_scan *s;
    size_t                begin;
    enum rg_code          code;

    assert_int_equal(rg_regex_open(&r, pattern, strlen(pattern), NULL), RG_OK);
    assert_int_equal(rg_regex_scan_open(&s, len_max, NULL), RG_OK);
    code = rg_regex_find(r, s, text, len, 0, &begin, end, err);
    rg_regex_scan_close(s);
    rg_regex_close(r);
    assert_int_equal(rg_mem_live(), live);
    return code;
}

static char *letters(size_t n)
{
    char *text = rg_alloc(n + 1);

    assert_non_null(text);
    memset(text, 'a', n);
    text[n] = '\0';
    return text;
}

/* A repeated group keeps something for each repeat. */
static const char repeat[] = "(?:a|b)+";

static void the_stack_grows_with_the_text(void **state)
{
    const size_t  n = 2u << 20;
    char         *text = letters(n);
    size_t        end = 0;
    struct rg_err err = {.message = ""};

    (void)state;
    if (find(repeat, text, n, n, &end, &err) != RG_OK)
        fail_msg("%s", err.message);
    assert_int_equal(end, n);
    rg_free(text);
}

static void a_stack_that_is_too_small_is_made_up_for(void **state)
{
    const size_t  n = 200000;
    char         *text = letters(n);
    size_t        end = 0;
    struct rg_err err = {.message = ""};

    (void)state;
    if (find(repeat, text, n, 16, &end, &err) != RG_OK)
        fail_msg("%s", err.message);
    assert_int_equal(end, n);
    rg_free(text);
}

static void memory_is_bounded_and_said(void **state)
{
    const size_t  n = 4u << 20;
    char         *text = letters(n);
    size_t        end;
    struct rg_err err = {.message = ""};

    (void)state;
    assert_int_equal(find(repeat, text, n, 16, &end, &err), RG_E_LIMIT);
    assert_non_null(strstr(err.message, "gave up at byte 0 of a text of 4194304 bytes"));
    assert_non_null(strstr(err.message, "heap limit"));
    rg_free(text);
}

static void backtracking_without_end_is_bounded_and_said(void **state)
{
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabc";
    size_t            end;
    struct rg_err     err = {.message = ""};

    (void)state;
    assert_int_equal(find("(?:a|aa)+c", text, sizeof text - 1, sizeof text - 1, &end, &err),
                     RG_E_LIMIT);
    assert_non_null(strstr(err.message, "match limit"));
}

static void time_is_bounded_and_said(void **state)
{
    const size_t          n = 1u << 20;
    char                 *text = letters(n);
    const char           *pattern = "[a-z]+[xyz][0-9]|a"; /* from each letter to the last one */
    struct rg_regex      *r;
    struct rg_regex_scan *s;
    struct rg_err         err = {.message = ""};
    enum rg_code          code = RG_OK;
    size_t                begin;

    (void)state;
    assert_int_equal(rg_regex_open(&r, pattern, strlen(pattern), NULL), RG_OK);
    assert_int_equal(rg_regex_scan_open(&s, 16, NULL), RG_OK);
    for (size_t at = 0; at < n && !code; at++)
        code = rg_regex_find(r, s, text, n, at, &begin, &begin, &err);
    assert_int_equal(code, RG_E_LIMIT);
    assert_non_null(strstr(err.message, "takes too long at byte "));
    rg_regex_scan_close(s);
    rg_regex_close(r);
    rg_free(text);
}

static void a_match_far_away_is_found(void **state)
{
    const char   *unit = "\xE6\xBC\xA2";
    const size_t  n = 3000;
    char         *text = letters(n + 1);
    size_t        end = 0;
    struct rg_err err = {.message = ""};

    (void)state;
    for (size_t i = 0; i < n; i++)
        text[i] = unit[i % 3];
    for (size_t at = 0; at <= n; at += 3) {
        char kept[3];

        memcpy(kept, text + at, 3 < n + 1 - at ? 3 : n + 1 - at);
        if (at < n)
            memcpy(text + at, "xyz", 3);
        if (find("(?<=x)y|a", text, n + 1, n + 1, &end, &err) != RG_OK)
            fail_msg("%s", err.message);
        assert_int_equal(end, at < n ? at + 2 : n + 1);
        memcpy(text + at, kept, 3 < n + 1 - at ? 3 : n + 1 - at);
    }
    rg_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stack_grows_with_the_text),
        cmocka_unit_test(a_stack_that_is_too_small_is_made_up_for),
        cmocka_unit_test(memory_is_bounded_and_said),
        cmocka_unit_test(backtracking_without_end_is_bounded_and_said),
        cmocka_unit_test(time_is_bounded_and_said),
        cmocka_unit_test(a_match_far_away_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
