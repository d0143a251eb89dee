/* bench.c - times prefill, and decode in alternation with a plain read of the same weight bytes.
 *
 * read_share is the median over the rounds of (read time / decode time), both in this process on
 * the same mapped bytes, so that a noisy machine slows both. */
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/read_speed.h"
#include "engine/pipeline.h"

enum { BLOCK_TOKENS = 64, PREFILL_ROUNDS = 3 };

struct bench {
    struct rg_checkpoint *checkpoint;
    struct rg_backend *backend;
    struct rg_model *model;
    struct rg_pipeline *pipeline;
    struct rg_pool *pool; /* for the plain read */
    struct rg_read_plan plan;
    uint32_t *blocks; /* owned: block numbers 0, 1, 2, ... */
    int32_t *tokens;  /* owned: one chunk of token ids */
    float *logits;    /* owned [vocab] */
    uint32_t chunk, n_prefill, n_decode, depth, rounds;

    double prefill_tokens_per_s, decode_tokens_per_s, read_gb_s, read_share;
};

static void close_bench(struct bench *b)
{
    rg_pipeline_close(b->pipeline);
    rg_model_close(b->model);
    rg_backend_close(b->backend);
    rg_pool_close(b->pool);
    rg_read_plan_free(&b->plan);
    rg_checkpoint_close(b->checkpoint);
    rg_free(b->blocks);
    rg_free(b->tokens);
    rg_free(b->logits);
}

static enum rg_code open_model(struct bench *b, const struct rg_llm_options *o, uint32_t positions,
                               struct rg_err *err)
{
    char *dir, *name;
    enum rg_code code = rg_checkpoint_resolve(&dir, &name, o->model, o->registry, err);

    if (code)
        return code;
    code = rg_checkpoint_open(&b->checkpoint, dir, &rg_checkpoint_mapped, err);
    rg_free(dir);
    rg_free(name);
    if (!code)
        code = rg_backend_open(&b->backend, &o->backend, err);
    if (code)
        return code;

    const struct rg_model_part part = rg_model_whole(&b->checkpoint->config);

    code = rg_model_open(&b->model, b->checkpoint, b->backend, &part, err);
    if (!code)
        code = rg_pipeline_local_open(&b->pipeline, b->checkpoint, b->model, b->backend,
                                      (positions + BLOCK_TOKENS - 1) / BLOCK_TOKENS, BLOCK_TOKENS,
                                      err);
    return code;
}

static enum rg_code open_bench(struct bench *b, const struct rg_llm_options *o, struct rg_err *err)
{
    const uint32_t prompt = b->n_prefill > b->depth ? b->n_prefill : b->depth;
    const uint32_t positions = prompt + b->n_decode + BLOCK_TOKENS;
    const uint32_t n_blocks = (positions + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    enum rg_code code = open_model(b, o, positions, err);

    if (!code)
        code = rg_pool_open(&b->pool, rg_backend_threads(b->backend), err);
    if (!code)
        code = rg_read_plan_make(&b->plan, b->checkpoint, err);
    if (code)
        return code;
    b->blocks = rg_calloc(n_blocks, sizeof *b->blocks);
    b->tokens = rg_calloc(b->chunk, sizeof *b->tokens);
    b->logits = rg_calloc(b->checkpoint->config.vocab_size, sizeof *b->logits);
    if (!b->blocks || !b->tokens || !b->logits)
        return rg_fail(err, RG_E_NOMEM, "out of memory: bench");
    for (uint32_t i = 0; i < n_blocks; i++)
        b->blocks[i] = i;
    for (uint32_t i = 0; i < b->chunk; i++)
        b->tokens[i] = (int32_t)((i * 2654435761u >> 8) % b->checkpoint->config.vocab_size);
    return RG_OK;
}

/* One step of n rows at `position`, with the last row's logits. */
static enum rg_code step(struct bench *b, uint32_t position, uint32_t n, struct rg_err *err)
{
    const struct rg_seq_rows seq = {.n_rows = n, .position = position, .blocks = b->blocks};
    const uint32_t last = n - 1;
    struct rg_pipe_step s = {.batch = {.seqs = &seq, .n_seqs = 1, .n_rows = n},
                             .tokens = b->tokens,
                             .logit_rows = &last,
                             .n_logit_rows = 1,
                             .logits = b->logits};
    struct rg_pipe_step *back;
    const enum rg_code code = b->pipeline->ops->submit(b->pipeline, &s, err);

    return code ? code : b->pipeline->ops->collect(b->pipeline, &back, err);
}

/* n tokens from position 0, in chunks. */
static enum rg_code prefill(struct bench *b, uint32_t n, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (uint32_t at = 0; at < n && !code; at += b->chunk)
        code = step(b, at, n - at < b->chunk ? n - at : b->chunk, err);
    return code;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, uint32_t n)
{
    qsort(values, n, sizeof *values, compare_doubles);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static enum rg_code time_prefill(struct bench *b, struct rg_err *err)
{
    double rates[PREFILL_ROUNDS];
    enum rg_code code = prefill(b, b->n_prefill < 32 ? b->n_prefill : 32, err); /* warm-up */

    for (uint32_t i = 0; i < PREFILL_ROUNDS && !code; i++) {
        const int64_t begin = rg_clock_ns();

        code = prefill(b, b->n_prefill, err);
        rates[i] = b->n_prefill / ((double)(rg_clock_ns() - begin) / 1e9);
    }
    if (!code)
        b->prefill_tokens_per_s = median(rates, PREFILL_ROUNDS);
    return code;
}

static enum rg_code time_decode(struct bench *b, struct rg_err *err)
{
    double *shares = rg_calloc(b->rounds, 3 * sizeof *shares);
    enum rg_code code =
        shares ? prefill(b, b->depth, err) : rg_fail(err, RG_E_NOMEM, "out of memory: bench");

    if (!shares)
        return code;

    double *reads = shares + b->rounds, *rates = reads + b->rounds;

    rg_read_plan_time(&b->plan, b->pool); /* warm-up: the pages and the clock */
    if (!code)
        code = step(b, b->depth, 1, err);
    for (uint32_t i = 0; i < b->rounds && !code; i++) {
        const double read_s = (double)rg_read_plan_time(&b->plan, b->pool) / 1e9;
        const int64_t begin = rg_clock_ns();

        for (uint32_t k = 0; k < b->n_decode && !code; k++)
            code = step(b, b->depth + k, 1, err);

        const double decode_s = (double)(rg_clock_ns() - begin) / 1e9 / b->n_decode;

        shares[i] = read_s / decode_s;
        reads[i] = (double)b->plan.bytes / read_s / 1e9;
        rates[i] = 1.0 / decode_s;
    }
    if (!code) {
        b->read_share = median(shares, b->rounds);
        b->read_gb_s = median(reads, b->rounds);
        b->decode_tokens_per_s = median(rates, b->rounds);
    }
    rg_free(shares);
    return code;
}

/* ---- printing -------------------------------------------------------------------------------- */

static double decode_gb_s(const struct bench *b)
{
    return b->decode_tokens_per_s * (double)b->plan.bytes / 1e9;
}

static void print_table(const struct bench *b)
{
    printf("%s, kernels %s, %u threads, %.1f MB of weights read per token\n", b->checkpoint->name,
           rg_backend_kernels(b->backend), rg_backend_threads(b->backend),
           (double)b->plan.bytes / 1e6);
    printf("| test       |   tokens/s |     GB/s | read share |\n");
    printf("| ---------- | ---------: | -------: | ---------: |\n");
    printf("| pp%-8u | %10.2f |          |            |\n", b->n_prefill, b->prefill_tokens_per_s);
    printf("| tg @%-6u | %10.2f | %8.2f | %9.1f%% |\n", b->depth, b->decode_tokens_per_s,
           decode_gb_s(b), 100 * b->read_share);
    printf("| plain read |            | %8.2f |            |\n", b->read_gb_s);
}

static struct rg_json *prefill_json(const struct bench *b)
{
    struct rg_json *list = rg_json_new_array(), *row = rg_json_new_object();
    bool ok = rg_json_add(row, "tokens", rg_json_new_int(b->n_prefill));

    ok = rg_json_add(row, "tokens_per_s", rg_json_new_number(b->prefill_tokens_per_s)) && ok;
    if (rg_json_push(list, row) && ok)
        return list;
    rg_json_free(list);
    return NULL;
}

static struct rg_json *decode_json(const struct bench *b)
{
    struct rg_json *list = rg_json_new_array(), *row = rg_json_new_object();
    bool ok = rg_json_add(row, "tokens", rg_json_new_int(b->n_decode));

    ok = rg_json_add(row, "depth", rg_json_new_int(b->depth)) && ok;
    ok = rg_json_add(row, "tokens_per_s", rg_json_new_number(b->decode_tokens_per_s)) && ok;
    ok = rg_json_add(row, "bytes_per_token", rg_json_new_int((int64_t)b->plan.bytes)) && ok;
    ok = rg_json_add(row, "gb_s", rg_json_new_number(decode_gb_s(b))) && ok;
    ok = rg_json_add(row, "read_share", rg_json_new_number(b->read_share)) && ok;
    if (rg_json_push(list, row) && ok)
        return list;
    rg_json_free(list);
    return NULL;
}

static enum rg_code print_json(const struct bench *b, struct rg_err *err)
{
    const char *kernels = rg_backend_kernels(b->backend);
    struct rg_json *o = rg_json_new_object();
    struct rg_buf out;
    bool ok = rg_json_add(o, "schema", rg_json_new_string("renga.bench/1", 13));

    rg_buf_init(&out, 1 << 16);
    ok = rg_json_add(o, "kernels", rg_json_new_string(kernels, strlen(kernels))) && ok;
    ok = rg_json_add(o, "threads", rg_json_new_int(rg_backend_threads(b->backend))) && ok;
    ok = rg_json_add(o, "read_gb_s", rg_json_new_number(b->read_gb_s)) && ok;
    ok = rg_json_add(o, "prefill", prefill_json(b)) && ok;
    ok = rg_json_add(o, "decode", decode_json(b)) && ok;

    enum rg_code code =
        ok ? rg_json_print(&out, o, err) : rg_fail(err, RG_E_NOMEM, "out of memory: bench");

    if (!code)
        printf("%s\n", out.data);
    rg_buf_free(&out);
    rg_json_free(o);
    return code;
}

enum rg_code rg_bench(const struct rg_options *o, const struct rg_llm_options *llm,
                      struct rg_err *err)
{
    struct bench b = {.chunk = llm->chunk_rows ? llm->chunk_rows : 512,
                      .n_prefill = (uint32_t)o->prefill_tokens,
                      .n_decode = (uint32_t)o->decode_tokens,
                      .depth = (uint32_t)o->depth,
                      .rounds = (uint32_t)o->rounds};
    enum rg_code code = open_bench(&b, llm, err);

    if (!code)
        code = time_prefill(&b, err);
    if (!code)
        code = time_decode(&b, err);
    if (!code && o->json)
        code = print_json(&b, err);
    else if (!code)
        print_table(&b);
    close_bench(&b);
    return code;
}
