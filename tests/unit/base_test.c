/* base_test.c - memory, buffers, arenas, UTF-8, errors, files and the pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/utf8.h"

static void counts_live_blocks(void **state)
{
    const int64_t live = rg_mem_live();
    void         *a = rg_alloc(10), *b = rg_calloc(3, 5), *c = rg_alloc_aligned(100, 64);

    (void)state;
    assert_non_null(a);
    assert_int_equal((uintptr_t)c % 64, 0);
    a = rg_realloc(a, 1000);
    assert_int_equal(rg_mem_live(), live + 3);
    rg_free(a);
    rg_free(b);
    rg_free(c);
    rg_free(NULL);
    assert_int_equal(rg_mem_live(), live);
}

static void refuses_sizes_that_overflow(void **state)
{
    void  *p = NULL;
    size_t capacity = 0;

    (void)state;
    assert_null(rg_calloc(SIZE_MAX / 2, 3));
    assert_null(rg_realloc_array(NULL, SIZE_MAX / 4, 8));
    assert_int_equal(rg_grow(&p, &capacity, SIZE_MAX / 2, 8, NULL), RG_E_NOMEM);
    assert_null(p);
}

static void fails_the_allocation_it_was_told_to(void **state)
{
    (void)state;
    rg_mem_fail_at(2);
    void *a = rg_alloc(1), *b = rg_alloc(1), *c = rg_alloc(1);

    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    rg_free(a);
    rg_free(c);
}

static void a_buffer_stops_at_its_maximum(void **state)
{
    struct rg_buf b;

    (void)state;
    rg_buf_init(&b, 10);
    assert_int_equal(rg_buf_add(&b, "12345678", 8, NULL), RG_OK);
    assert_int_equal(rg_buf_add(&b, "9ab", 3, NULL), RG_E_LIMIT);
    assert_int_equal(b.len, 8);
    assert_int_equal(rg_buf_addf(&b, NULL, "%d", 42), RG_OK);
    assert_string_equal(b.data, "1234567842");
    assert_int_equal(rg_buf_addf(&b, NULL, "x"), RG_E_LIMIT);
    rg_buf_drop(&b, 8);
    assert_string_equal(b.data, "42");
    rg_buf_free(&b);
}

static void an_arena_reuses_its_chunks(void **state)
{
    const int64_t   live = rg_mem_live();
    struct rg_arena a;

    (void)state;
    rg_arena_init(&a, 0);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 1; i < 200; i++) {
            unsigned char *p = rg_arena_alloc(&a, i * 37);

            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 64, 0);
            memset(p, (int)i, i * 37);
        }
        if (round == 0)
            rg_mem_fail_at(1); /* from now on nothing is allocated */
        rg_arena_reset(&a);
    }
    rg_mem_fail_at(0);
    rg_arena_free(&a);
    assert_int_equal(rg_mem_live(), live);
}

static void an_arena_keeps_its_limit(void **state)
{
    struct rg_arena a;

    (void)state;
    rg_arena_init(&a, 100000);
    assert_non_null(rg_arena_alloc(&a, 60000));
    assert_null(rg_arena_alloc(&a, 60000));
    assert_non_null(rg_arena_alloc(&a, 1000));
    rg_arena_free(&a);
}

static void repairs_maximal_subparts(void **state)
{
    /* Table 3-8 of the Unicode standard, and its neighbours. */
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF"
         "\xBF\xBD\x41"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\x41"},
        {"a\xED\xA0\x80z", "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz"},
        {"ok \xF0\x9F\x98\x80", "ok \xF0\x9F\x98\x80"},
    };

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct rg_buf out;

        rg_buf_init(&out, 1000);
        assert_int_equal(rg_utf8_repair(&out, cases[i].in, strlen(cases[i].in), NULL), RG_OK);
        assert_string_equal(out.data, cases[i].out);
        assert_true(rg_utf8_valid(out.data, out.len));
        rg_buf_free(&out);
    }
}

static void holds_back_only_what_can_be_completed(void **state)
{
    (void)state;
    assert_int_equal(rg_utf8_incomplete_tail("abc", 3), 0);
    assert_int_equal(rg_utf8_incomplete_tail("a\xC3", 2), 1);
    assert_int_equal(rg_utf8_incomplete_tail("a\xC3\xA9", 3), 0);
    assert_int_equal(rg_utf8_incomplete_tail("\xE2\x82", 2), 2);
    assert_int_equal(rg_utf8_incomplete_tail("\xF0\x9F\x98", 3), 3);
    assert_int_equal(rg_utf8_incomplete_tail("\xF0\x80", 2), 0);
    assert_int_equal(rg_utf8_incomplete_tail("\xFF", 1), 0);
    assert_int_equal(rg_utf8_incomplete_tail("\x80", 1), 0);
}

static void every_code_point_survives(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char     bytes[4];
        uint32_t back;

        if (cp >= 0xD800 && cp <= 0xDFFF)
            continue;
        const size_t n = rg_utf8_put(bytes, cp);

        assert_int_equal(rg_utf8_next(bytes, n, &back), n);
        assert_int_equal(back, cp);
    }
}

static void an_error_is_cut_at_a_character(void **state)
{
    struct rg_err err;
    char          text[2000];

    (void)state;
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xC3\xA9", 3);
    for (int pad = 0; pad < 2; pad++) {
        assert_int_equal(rg_fail(&err, RG_E_IO, "%*s%s", pad, "", text), RG_E_IO);
        assert_true(rg_utf8_valid(err.message, strlen(err.message)));
    }
    rg_fail(&err, RG_E_USAGE, "inner");
    assert_int_equal(rg_fail_in(&err, RG_E_USAGE, "outer %d", 1), RG_E_USAGE);
    assert_string_equal(err.message, "outer 1: inner");
    assert_int_equal(rg_fail_in(NULL, RG_E_NOMEM, "outer"), RG_E_NOMEM);
}

static void a_missing_file_is_a_usage_error(void **state)
{
    struct rg_err err;
    struct rg_map map;
    char         *text;
    size_t        len;

    (void)state;
    assert_int_equal(rg_file_read(&text, &len, "/nonexistent/x", 10, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "/nonexistent/x"));
    assert_int_equal(rg_map_open(&map, "/", &err), RG_E_USAGE);
    assert_int_equal(rg_file_read(&text, &len, RENGA_SOURCE_DIR "/LICENSE", 10, &err), RG_E_LIMIT);
    assert_int_equal(rg_file_read(&text, &len, RENGA_SOURCE_DIR "/LICENSE", 1 << 20, &err), RG_OK);
    assert_int_equal(rg_map_open(&map, RENGA_SOURCE_DIR "/LICENSE", &err), RG_OK);
    assert_int_equal(map.bytes, len);
    assert_memory_equal(map.data, text, len);
    rg_map_close(&map);
    rg_free(text);
}

struct tally {
    _Atomic uint64_t sum;
    _Atomic uint32_t calls;
};

static void add_share(void *arg, uint32_t part, uint32_t n_parts)
{
    struct tally *t = arg;
    uint64_t      begin, end;

    rg_pool_share(1000, 8, part, n_parts, &begin, &end);
    for (uint64_t i = begin; i < end; i++)
        atomic_fetch_add(&t->sum, i);
    atomic_fetch_add(&t->calls, 1);
}

static void the_pool_runs_every_part_once(void **state)
{
    const int64_t live = rg_mem_live();

    (void)state;
    for (uint32_t threads = 1; threads <= 7; threads += 3) {
        struct rg_pool *p;

        assert_int_equal(rg_pool_open(&p, threads, NULL), RG_OK);
        for (int round = 0; round < 2000; round++) {
            struct tally t = {.sum = 0};

            rg_pool_run(p, add_share, &t);
            assert_int_equal(t.sum, 499500);
            assert_int_equal(t.calls, threads);
            if (round % 500 == 0)
                usleep(2000); /* long enough for the workers to park */
        }
        rg_pool_close(p);
    }
    assert_int_equal(rg_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_live_blocks),
        cmocka_unit_test(refuses_sizes_that_overflow),
        cmocka_unit_test(fails_the_allocation_it_was_told_to),
        cmocka_unit_test(a_buffer_stops_at_its_maximum),
        cmocka_unit_test(an_arena_reuses_its_chunks),
        cmocka_unit_test(an_arena_keeps_its_limit),
        cmocka_unit_test(repairs_maximal_subparts),
        cmocka_unit_test(holds_back_only_what_can_be_completed),
        cmocka_unit_test(every_code_point_survives),
        cmocka_unit_test(an_error_is_cut_at_a_character),
        cmocka_unit_test(a_missing_file_is_a_usage_error),
        cmocka_unit_test(the_pool_runs_every_part_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
