/* eval.c - runs a list of tokens through the model, here or around a ring, in chunks, and writes
 * all logits. */
#include "cli/eval.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/ring_head.h"
#include "engine/pipeline.h"

enum { CHUNK_DEFAULT = 128, BLOCK_TOKENS = 64, TOKENS_FILE_BYTES = 64 << 20 };

struct eval {
    struct rg_checkpoint *checkpoint;
    struct rg_backend *backend;
    struct rg_model *model;
    struct rg_pipeline *pipeline; /* the ring's, when there is one */
    struct rg_ring_head *ring;
    int32_t *tokens; /* owned [n] */
    uint32_t n, chunk;
    uint32_t *blocks; /* owned: 0, 1, 2, ... */
    uint32_t *rows;   /* owned [chunk]: 0, 1, 2, ... */
    float *logits;    /* owned [chunk][vocab] */
    FILE *out;
};

static void close_eval(struct eval *e)
{
    if (e->ring)
        rg_ring_head_close(e->ring);
    else
        rg_pipeline_close(e->pipeline);
    rg_model_close(e->model);
    rg_backend_close(e->backend);
    rg_checkpoint_close(e->checkpoint);
    rg_free(e->tokens);
    rg_free(e->blocks);
    rg_free(e->rows);
    rg_free(e->logits);
    if (e->out)
        (void)fclose(e->out); /* only after a failure: success closes and checks it itself */
}

/* ---- tokens in ------------------------------------------------------------------------------- */

static enum rg_code take_ids(struct eval *e, const struct rg_json *list, const char *file,
                             struct rg_err *err)
{
    const uint32_t vocab = e->checkpoint->config.vocab_size;
    const uint32_t most = e->checkpoint->config.max_position_embeddings;
    size_t n;
    int64_t v;

    if (rg_json_type(list) != RG_JSON_ARRAY)
        return rg_fail(err, RG_E_BAD_DATA, "%s: %s: give a JSON array of token ids", file,
                       rg_json_type_name(list));
    n = rg_json_count(list);
    if (n == 0 || n > most)
        return rg_fail(err, RG_E_USAGE, "%s: %zu tokens: the model takes 1 to %u", file, n, most);
    e->tokens = rg_calloc(n, sizeof(*e->tokens));
    if (!e->tokens)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory for %zu tokens", file, n);
    for (const struct rg_json *id = rg_json_first(list); id; id = rg_json_next(id)) {
        if (!rg_json_int(id, 0, (int64_t)vocab - 1, &v))
            return rg_fail(err, RG_E_BAD_DATA, "%s: element %u is not an id from 0 to %u", file,
                           e->n, vocab - 1);
        e->tokens[e->n++] = (int32_t)v;
    }
    return RG_OK;
}

static enum rg_code read_tokens(struct eval *e, const char *file, struct rg_err *err)
{
    const struct rg_json_limits limits = {.bytes_max = TOKENS_FILE_BYTES, .depth_max = 4};
    struct rg_json *list = NULL;
    char *text;
    size_t len;
    enum rg_code code = rg_file_read(&text, &len, file, TOKENS_FILE_BYTES, err);

    if (code != RG_OK)
        return code;
    code = rg_json_parse(&list, text, len, &limits, err);
    if (code != RG_OK)
        (void)rg_fail_in(err, code, "%s", file);
    else
        code = take_ids(e, list, file, err);
    rg_json_free(list);
    rg_free(text);
    return code;
}

/* ---- logits out ------------------------------------------------------------------------------ */

static enum rg_code write_failed(const char *file, struct rg_err *err)
{
    return rg_fail(err, RG_E_IO, "%s: cannot be written: %s", file, strerror(errno));
}

/* Magic, version 1.0, u16 length, and a Python dict padded so that the data begins at 64 bytes. */
static enum rg_code write_header(struct eval *e, const char *file, struct rg_err *err)
{
    enum { PREAMBLE = 10, HEADER = 128 };
    char header[HEADER];
    const int n = snprintf(header + PREAMBLE, HEADER - PREAMBLE,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (%u, %u), }", e->n,
                           e->checkpoint->config.vocab_size);

    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", PREAMBLE); /* 0x76: 118 bytes follow */
    memset(header + PREAMBLE + n, ' ', (size_t)(HEADER - PREAMBLE - n));
    header[HEADER - 1] = '\n';
    if (fwrite(header, 1, HEADER, e->out) != HEADER)
        return write_failed(file, err);
    return RG_OK;
}

/* Computes rows [begin, begin + n) and appends their logits to the file. */
static enum rg_code run_chunk(struct eval *e, uint32_t begin, uint32_t n, const char *file,
                              struct rg_err *err)
{
    const struct rg_seq_rows rows = {.n_rows = n, .position = begin, .blocks = e->blocks};
    struct rg_pipe_step step = {.batch = {.seqs = &rows, .n_seqs = 1, .n_rows = n},
                                .tokens = e->tokens + begin,
                                .logit_rows = e->rows,
                                .n_logit_rows = n,
                                .logits = e->logits};
    struct rg_pipe_step *done;
    const size_t count = (size_t)n * e->checkpoint->config.vocab_size;
    enum rg_code code;

    code = e->pipeline->ops->submit(e->pipeline, &step, err);
    if (code == RG_OK)
        code = e->pipeline->ops->collect(e->pipeline, &done, err);
    if (code == RG_OK && fwrite(e->logits, sizeof(*e->logits), count, e->out) != count)
        code = write_failed(file, err);
    return code;
}

static enum rg_code write_logits(struct eval *e, const char *file, struct rg_err *err)
{
    enum rg_code code;
    FILE *out;

    e->out = fopen(file, "wb");
    if (!e->out)
        return write_failed(file, err);
    code = write_header(e, file, err);
    for (uint32_t at = 0; code == RG_OK && at < e->n; at += e->chunk)
        code = run_chunk(e, at, e->n - at < e->chunk ? e->n - at : e->chunk, file, err);
    if (code != RG_OK)
        return code;
    out = e->out;
    e->out = NULL;
    return fclose(out) == 0 ? RG_OK : write_failed(file, err);
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum rg_code open_checkpoint(struct eval *e, const struct rg_llm_options *o, bool in_ring,
                                    struct rg_err *err)
{
    const struct rg_checkpoint_options options = {.headers_only = in_ring, .may_lack = in_ring};
    char *dir, *name;
    enum rg_code code = rg_checkpoint_resolve(&dir, &name, o->model, o->registry, err);

    if (code != RG_OK)
        return code;
    code = rg_checkpoint_open(&e->checkpoint, dir, &options, err);
    rg_free(dir);
    rg_free(name);
    return code;
}

static enum rg_code open_local(struct eval *e, const struct rg_llm_options *o, uint32_t n_blocks,
                               struct rg_err *err)
{
    const struct rg_model_part part = rg_model_whole(&e->checkpoint->config);
    enum rg_code code = rg_backend_open(&e->backend, &o->backend, err);

    if (code == RG_OK)
        code = rg_model_open(&e->model, e->checkpoint, e->backend, &part, err);
    if (code == RG_OK)
        code = rg_pipeline_local_open(&e->pipeline, e->checkpoint, e->model, e->backend, n_blocks,
                                      BLOCK_TOKENS, err);
    return code;
}

static enum rg_code open_ring(struct eval *e, const struct rg_options *flags,
                              const struct rg_llm_options *o, struct rg_err *err)
{
    struct rg_node_options node;
    enum rg_code code = rg_node_options_from_flags(&node, flags, o, err);

    if (code == RG_OK)
        code = rg_ring_head_open(&e->ring, &node, e->checkpoint, e->n, e->chunk, err);
    if (code == RG_OK)
        e->pipeline = rg_ring_head_pipeline(e->ring);
    return code;
}

static enum rg_code open_model(struct eval *e, const struct rg_options *flags,
                               const struct rg_llm_options *o, struct rg_err *err)
{
    const uint32_t n_blocks = (e->n + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    enum rg_code code =
        flags->discovery ? open_ring(e, flags, o, err) : open_local(e, o, n_blocks, err);

    if (code != RG_OK)
        return code;
    e->blocks = rg_calloc(n_blocks, sizeof(*e->blocks));
    e->rows = rg_calloc(e->chunk, sizeof(*e->rows));
    e->logits =
        rg_calloc((size_t)e->chunk * e->checkpoint->config.vocab_size, sizeof(*e->logits));
    if (!e->blocks || !e->rows || !e->logits)
        return rg_fail(err, RG_E_NOMEM, "eval: no memory for %u rows of logits: lower --chunk",
                       e->chunk);
    for (uint32_t i = 0; i < n_blocks; i++)
        e->blocks[i] = i;
    for (uint32_t i = 0; i < e->chunk; i++)
        e->rows[i] = i;
    return RG_OK;
}

enum rg_code rg_eval(const struct rg_options *flags, const struct rg_llm_options *options,
                     struct rg_err *err)
{
    struct eval e = {0};
    enum rg_code code = RG_OK;

    if (!flags->tokens || !flags->logits)
        code = rg_fail(err, RG_E_USAGE, "eval: give --tokens FILE and --logits OUT.npy");
    if (code == RG_OK)
        code = open_checkpoint(&e, options, flags->discovery != NULL, err);
    if (code == RG_OK)
        code = read_tokens(&e, flags->tokens, err);
    if (code == RG_OK) {
        e.chunk = flags->chunk > 0 ? (uint32_t)flags->chunk : CHUNK_DEFAULT;
        if (e.chunk > e.n)
            e.chunk = e.n;
        code = open_model(&e, flags, options, err);
    }
    if (code == RG_OK)
        code = write_logits(&e, flags->logits, err);
    close_eval(&e);
    return code;
}
