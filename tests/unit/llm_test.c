/* llm_test.c - what generation_config.json says, reading the weights in, and opening: all at once,
 * or text first and a pipeline later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>
#include <pthread.h>
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

/* ---- text first, then a pipeline ----------------------------------------------------------- */

enum { ANSWER_TOKENS = 12 };

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t change;
    int32_t tokens[ANSWER_TOKENS];
    uint32_t n;
    bool has_ended;
};

static void on_event(void *ud, const struct rg_event *event)
{
    struct answer *a = ud;

    pthread_mutex_lock(&a->lock);
    if (event->kind == RG_EVENT_TOKEN)
        a->tokens[a->n++] = event->sample.id;
    a->has_ended = event->kind == RG_EVENT_END;
    pthread_cond_signal(&a->change);
    pthread_mutex_unlock(&a->lock);
}

static void answer_to(const struct rg_llm *l, struct answer *a)
{
    static const int32_t prompt[] = {5, 99, 1, 42, 300, 7};
    const struct rg_request request = {.tokens = prompt,
                                       .n_tokens = 6,
                                       .max_tokens = ANSWER_TOKENS,
                                       .sampling = {.top_p = 1.0f, .repetition_penalty = 1.0f},
                                       .on_event = on_event,
                                       .ud = a};
    uint64_t id;

    *a = (struct answer){.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
    assert_int_equal(rg_engine_submit(l->engine, &request, &id, NULL), RG_OK);
    pthread_mutex_lock(&a->lock);
    while (!a->has_ended)
        pthread_cond_wait(&a->change, &a->lock);
    pthread_mutex_unlock(&a->lock);
    assert_int_equal(a->n, ANSWER_TOKENS);
}

/* What a node of a ring has for itself: weights, and here a pipeline of its own. */
struct part {
    struct rg_checkpoint *checkpoint;
    struct rg_backend *backend;
    struct rg_model *model;
};

static const char demo_model[] = RENGA_SOURCE_DIR "/config/demo-model";
static const struct rg_backend_options one_thread = {.threads = 1};
/* What a plan says, of a pipeline of 3 blocks of 64 tokens. */
static const struct rg_engine_options fits = {.context = 192, .parallel = 1, .chunk_rows = 16};
static const struct rg_engine_options too_long = {.context = 193, .parallel = 1, .chunk_rows = 16};

static void open_part(struct part *p)
{
    struct rg_model_part whole;

    assert_int_equal(rg_checkpoint_open(&p->checkpoint, demo_model, &rg_checkpoint_mapped, NULL),
                     RG_OK);
    whole = rg_model_whole(&p->checkpoint->config);
    assert_int_equal(rg_backend_open(&p->backend, &one_thread, NULL), RG_OK);
    assert_int_equal(rg_model_open(&p->model, p->checkpoint, p->backend, &whole, NULL), RG_OK);
}

static struct rg_pipeline *pipeline_of(const struct part *p, uint32_t n_blocks)
{
    struct rg_pipeline *pipeline;

    assert_int_equal(rg_pipeline_local_open(&pipeline, p->checkpoint, p->model, p->backend,
                                            n_blocks, 64, NULL),
                     RG_OK);
    return pipeline;
}

static void close_part(struct part *p)
{
    rg_model_close(p->model);
    rg_backend_close(p->backend);
    rg_checkpoint_close(p->checkpoint);
}

static void an_attached_pipeline_answers_as_one_node_does(void **state)
{
    const struct rg_llm_options options = {
        .model = demo_model, .context = 128, .parallel = 2, .backend = one_thread};
    struct answer alone, attached;
    struct rg_llm *l;
    struct part part;

    (void)state;
    assert_int_equal(rg_llm_open(&l, &options, NULL), RG_OK);
    answer_to(l, &alone);
    rg_llm_close(l);

    open_part(&part);
    assert_int_equal(rg_llm_open_text(&l, &options, NULL), RG_OK);
    assert_null(l->engine);
    assert_int_equal(rg_llm_attach(l, pipeline_of(&part, 3), &fits, NULL), RG_OK);
    assert_non_null(l->engine);
    assert_null(l->model);
    assert_null(l->backend);
    assert_int_equal(l->context, 192); /* what the plan said */
    assert_int_equal(l->parallel, 1);
    answer_to(l, &attached);
    rg_llm_close(l);
    close_part(&part);
    assert_memory_equal(attached.tokens, alone.tokens, sizeof(alone.tokens));
}

static void a_pipeline_that_cannot_be_attached_is_closed(void **state)
{
    const struct rg_llm_options options = {.model = demo_model};
    struct rg_err err;
    struct rg_llm *l;
    struct part part;
    int64_t live, n;

    (void)state;
    open_part(&part);
    assert_int_equal(rg_llm_open_text(&l, &options, NULL), RG_OK);
    live = rg_mem_live();
    assert_int_equal(rg_llm_attach(l, pipeline_of(&part, 3), &too_long, &err), RG_E_FIT);
    assert_null(l->engine);
    assert_int_equal(rg_mem_live(), live);
    for (n = 1; n < 100; n++) {
        struct rg_pipeline *pipeline = pipeline_of(&part, 3);
        enum rg_code code;

        rg_mem_fail_at(n);
        code = rg_llm_attach(l, pipeline, &fits, NULL);
        rg_mem_fail_at(0);
        if (code == RG_OK)
            break;
        assert_int_equal(code, RG_E_NOMEM);
        assert_null(l->engine);
        assert_int_equal(rg_mem_live(), live);
    }
    assert_in_range(n, 5, 99);
    rg_llm_close(l);
    close_part(&part);
}

static const char *const text_files[] = {"config.json",           "generation_config.json",
                                         "chat_template.jinja",   "tiktoken.model",
                                         "tokenizer_config.json", "model.safetensors.index.json"};
enum { TEXT_FILES = sizeof(text_files) / sizeof(*text_files) };

static void text_opens_where_no_weights_are(void **state)
{
    char dir[] = "/tmp/renga_llm_XXXXXX", from[512], to[128];
    struct rg_llm_options options = {.model = dir};
    struct rg_err err = {.message = ""};
    struct rg_llm *l;

    (void)state;
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < TEXT_FILES; i++) {
        (void)snprintf(from, sizeof(from), "%s/%s", demo_model, text_files[i]);
        (void)snprintf(to, sizeof(to), "%s/%s", dir, text_files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    assert_int_equal(rg_llm_open_text(&l, &options, &err), RG_OK);
    assert_null(l->engine);
    assert_null(l->model);
    assert_null(l->backend);
    assert_non_null(l->tokenizer);
    assert_non_null(l->chat);
    assert_false(l->checkpoint->is_whole);
    assert_int_equal(l->context, l->checkpoint->config.max_position_embeddings);
    assert_int_equal(l->parallel, 4);
    assert_true(l->n_eos_ids > 0);
    assert_string_equal(l->name, strrchr(dir, '/') + 1);
    rg_llm_close(l);

    options.context = 100;
    options.parallel = 7;
    assert_int_equal(rg_llm_open_text(&l, &options, &err), RG_OK);
    assert_int_equal(l->context, 100);
    assert_int_equal(l->parallel, 7);
    rg_llm_close(l);

    options.context = UINT32_MAX;
    assert_int_equal(rg_llm_open_text(&l, &options, &err), RG_E_USAGE);
    assert_null(l);
    assert_non_null(strstr(err.message, "--ctx"));
    assert_int_not_equal(rg_llm_open(&l, &options, &err), RG_OK);
    assert_non_null(strstr(err.message, "safetensors"));
    for (int i = 0; i < TEXT_FILES; i++) {
        (void)snprintf(to, sizeof(to), "%s/%s", dir, text_files[i]);
        assert_int_equal(unlink(to), 0);
    }
    assert_int_equal(rmdir(dir), 0);
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
        cmocka_unit_test(an_attached_pipeline_answers_as_one_node_does),
        cmocka_unit_test(a_pipeline_that_cannot_be_attached_is_closed),
        cmocka_unit_test(text_opens_where_no_weights_are),
        cmocka_unit_test(a_directory_that_is_not_there_is_said_by_name),
    };

    return cmocka_run_group_tests(tests, be_quiet, no_memory_is_left);
}
