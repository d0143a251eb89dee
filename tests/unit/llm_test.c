/* llm_test.c - what generation_config.json says, and reading the weights in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/generation_config.h"
#include "engine/preload.h"

/* ---- generation_config.json -------------------------------------------------------------- */

struct dir {
    char path[64], file[96];
    struct rg_checkpoint checkpoint;
    struct rg_llm llm;
};

/* A directory with this generation_config.json (NULL: none) beside a config.json with eos 7. */
static void begin(struct dir *d, const char *text)
{
    memset(d, 0, sizeof(*d));
    (void)snprintf(d->path, sizeof(d->path), "/tmp/renga_llm_XXXXXX");
    assert_non_null(mkdtemp(d->path));
    (void)snprintf(d->file, sizeof(d->file), "%s/generation_config.json", d->path);
    if (text) {
        FILE *f = fopen(d->file, "wb");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
    }
    d->checkpoint.dir = d->path;
    d->checkpoint.config.vocab_size = 100;
    d->checkpoint.config.eos_token_ids[0] = 7;
    d->checkpoint.config.n_eos_token_ids = 1;
    d->llm.checkpoint = &d->checkpoint;
}

static void finish(const struct dir *d)
{
    (void)unlink(d->file);
    assert_int_equal(rmdir(d->path), 0);
}

static void expect_eos(const char *text, uint32_t n, const int32_t *ids)
{
    struct dir d;

    begin(&d, text);
    assert_int_equal(rg_generation_config_read(&d.llm, NULL), RG_OK);
    assert_int_equal(d.llm.n_eos_ids, n);
    assert_memory_equal(d.llm.eos_ids, ids, n * sizeof(*ids));
    finish(&d);
}

static void its_eos_tokens_win_over_those_of_config_json(void **state)
{
    const int32_t from_config[] = {7}, one[] = {42}, two[] = {42, 99}, none_too_large[] = {3};

    (void)state;
    expect_eos(NULL, 1, from_config);
    expect_eos("{}", 1, from_config);
    expect_eos("{\"eos_token_id\": null}", 1, from_config);
    expect_eos("{\"eos_token_id\": 42}", 1, one);
    expect_eos("{\"eos_token_id\": [42, 99]}", 2, two);
    expect_eos("{\"eos_token_id\": [100, 3, -1, \"x\"]}", 1, none_too_large);
    expect_eos("{\"eos_token_id\": 42", 1, from_config);
    expect_eos("[42]", 1, from_config);
}

static void more_eos_tokens_than_there_is_room_for_are_passed_over(void **state)
{
    struct dir d;

    (void)state;
    begin(&d, "{\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}");
    assert_int_equal(rg_generation_config_read(&d.llm, NULL), RG_OK);
    assert_int_equal(d.llm.n_eos_ids, 16);
    assert_int_equal(d.llm.eos_ids[15], 15);
    finish(&d);
}

static void sampling_defaults_are_read_and_ranged(void **state)
{
    struct dir d;

    (void)state;
    begin(&d, "{\"temperature\": 0.6, \"top_p\": 0.95, \"top_k\": 20, \"min_p\": 0.01,"
              " \"repetition_penalty\": 1.05}");
    assert_int_equal(rg_generation_config_read(&d.llm, NULL), RG_OK);
    assert_true(fabsf(d.llm.defaults.temperature - 0.6f) < 1e-6f);
    assert_true(fabsf(d.llm.defaults.top_p - 0.95f) < 1e-6f);
    assert_true(fabsf(d.llm.defaults.min_p - 0.01f) < 1e-6f);
    assert_true(fabsf(d.llm.defaults.repetition_penalty - 1.05f) < 1e-6f);
    assert_int_equal(d.llm.defaults.top_k, 20);
    finish(&d);

    begin(&d, "{\"temperature\": -1, \"top_p\": 0, \"top_k\": -3, \"min_p\": 2,"
              " \"repetition_penalty\": \"a\"}");
    assert_int_equal(rg_generation_config_read(&d.llm, NULL), RG_OK);
    assert_true(isnan(d.llm.defaults.temperature));
    assert_true(isnan(d.llm.defaults.top_p));
    assert_true(isnan(d.llm.defaults.min_p));
    assert_true(isnan(d.llm.defaults.repetition_penalty));
    assert_int_equal(d.llm.defaults.top_k, UINT32_MAX);
    finish(&d);
}

static void reading_it_without_memory_is_an_error_that_leaves_nothing(void **state)
{
    const int64_t live = rg_mem_live();
    struct dir d;
    int64_t n;

    (void)state;
    begin(&d, "{\"eos_token_id\": [42, 99], \"top_k\": 5}");
    for (n = 1; n < 200; n++) {
        enum rg_code code;

        rg_mem_fail_at(n);
        code = rg_generation_config_read(&d.llm, NULL);
        rg_mem_fail_at(0);
        assert_int_equal(rg_mem_live(), live);
        if (code == RG_OK)
            break;
        assert_int_equal(code, RG_E_NOMEM);
    }
    assert_true(n > 3 && n < 200);
    assert_int_equal(d.llm.n_eos_ids, 2);
    finish(&d);
}

/* ---- reading in -------------------------------------------------------------------------- */

struct seen {
    uint64_t done, total;
    uint32_t n;
    uint32_t n_most; /* stops after so many calls; 0: never */
};

static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    struct seen *s = ud;

    assert_true(done > s->done && done <= total);
    s->done = done;
    s->total = total;
    s->n++;
    return s->n_most == 0 || s->n < s->n_most;
}

static void every_byte_of_a_part_is_read_once(void **state)
{
    static const char *const models[] = {"llama-mixed_346", "kimi_k2-q4_64-unstacked",
                                         "qwen3-q4_64-tied", "deepseek_v3-bf16-kv_b"};

    (void)state;
    for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++) {
        char dir[512];
        struct rg_checkpoint *c;
        struct rg_model_part part;
        struct seen seen = {0};
        uint64_t by_layer;

        (void)snprintf(dir, sizeof(dir), "%s/tests/golden/tiny/%s", RENGA_SOURCE_DIR, models[i]);
        assert_int_equal(rg_checkpoint_open(&c, dir, &rg_checkpoint_mapped, NULL), RG_OK);
        part = rg_model_whole(&c->config);
        assert_int_equal(rg_preload(c, &part, on_progress, &seen, NULL), RG_OK);
        assert_int_equal(seen.done, c->total_bytes);
        assert_int_equal(seen.total, c->total_bytes);
        assert_true(seen.n > 3);
        seen = (struct seen){.n_most = 2};
        assert_int_equal(rg_preload(c, &part, on_progress, &seen, NULL), RG_E_CANCELED);
        assert_int_equal(seen.n, 2);
        part = (struct rg_model_part){.layer_begin = 0, .layer_end = 1};
        by_layer = c->layer_bytes[0];
        assert_int_equal(rg_preload_bytes(c, &part), by_layer);
        part.embed = true;
        assert_int_equal(rg_preload_bytes(c, &part), by_layer + c->embedding_bytes);
        part.embed = false;
        part.head = true; /* a tied head needs the embedding */
        assert_int_equal(rg_preload_bytes(c, &part),
                         by_layer + c->head_bytes +
                             (c->config.tie_word_embeddings ? c->embedding_bytes : 0));
        rg_checkpoint_close(c);
    }
}

/* ---- opening ----------------------------------------------------------------------------- */

static void a_directory_that_is_not_there_is_said_by_name(void **state)
{
    const struct rg_llm_options options = {.model = "/nowhere/at/all"};
    struct rg_llm *l;
    struct rg_err err;

    (void)state;
    assert_int_not_equal(rg_llm_open(&l, &options, &err), RG_OK);
    assert_null(l);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
    assert_int_equal(rg_exit_code(err.code), 2);
}

static int be_quiet(void **state)
{
    (void)state;
    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return 0;
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_eos_tokens_win_over_those_of_config_json),
        cmocka_unit_test(more_eos_tokens_than_there_is_room_for_are_passed_over),
        cmocka_unit_test(sampling_defaults_are_read_and_ranged),
        cmocka_unit_test(reading_it_without_memory_is_an_error_that_leaves_nothing),
        cmocka_unit_test(every_byte_of_a_part_is_read_once),
        cmocka_unit_test(a_directory_that_is_not_there_is_said_by_name),
    };

    return cmocka_run_group_tests(tests, be_quiet, no_memory_is_left);
}
