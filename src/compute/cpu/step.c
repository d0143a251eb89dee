/* step.c - a step and its tensors: arenas, host data in and out. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "compute/cpu/backend.h"

static struct rg_arena *current(struct rg_step *s)
{
    return &s->tensors[s->current];
}

static void reset(struct rg_step *s)
{
    rg_arena_reset(&s->tensors[0]);
    rg_arena_reset(&s->tensors[1]);
    rg_arena_reset(&s->whole);
    memset(s->ropes, 0, sizeof(s->ropes));
    s->current = 0;
    s->failed = false;
}

enum rg_code rg_step_begin(struct rg_step **out, struct rg_backend *b, const struct rg_batch *batch,
                           struct rg_err *err)
{
    struct rg_step *s = &b->step;
    const size_t bytes = (size_t)batch->n_rows * sizeof(uint32_t);

    assert(!s->open);
    *out = NULL;
    reset(s);
    s->batch = batch;
    s->positions = rg_arena_alloc(&s->whole, bytes);
    s->seq_of_row = rg_arena_alloc(&s->whole, bytes);
    if (!s->positions || !s->seq_of_row)
        return rg_fail(err, RG_E_NOMEM, "step of %u rows: out of memory", batch->n_rows);
    for (uint32_t i = 0, row = 0; i < batch->n_seqs; i++) {
        const struct rg_seq_rows *seq = &batch->seqs[i];

        assert(seq->row_begin == row && seq->n_rows <= batch->n_rows - row);
        for (uint32_t r = 0; r < seq->n_rows; r++, row++) {
            s->positions[row] = seq->position + r;
            s->seq_of_row[row] = i;
        }
        assert(i + 1 < batch->n_seqs || row == batch->n_rows);
    }
    s->open = true;
    *out = s;
    return RG_OK;
}

enum rg_code rg_step_end(struct rg_step *s, struct rg_err *err)
{
    const bool failed = s->failed;

    assert(s->open);
    s->open = false;
    reset(s);
    if (failed)
        return rg_fail(err, RG_E_NOMEM, "step: out of memory for its tensors: use a smaller batch");
    return RG_OK;
}

void *rg_step_alloc(struct rg_step *s, size_t count, size_t size)
{
    void *p = NULL;

    if (size == 0 || count <= SIZE_MAX / size)
        p = rg_arena_alloc(current(s), count * size > 0 ? count * size : 1);
    if (!p)
        s->failed = true;
    return p;
}

struct rg_tensor *rg_step_tensor(struct rg_step *s, uint32_t rows, uint32_t cols)
{
    struct rg_tensor *t = rg_step_alloc(s, 1, sizeof(*t));
    struct rg_q8 **slot = rg_step_alloc(s, 1, sizeof(*slot));
    float *data = rg_step_alloc(s, (size_t)rows * cols, sizeof(*data));

    if (!t || !slot || !data)
        return NULL;
    *slot = NULL;
    *t = (struct rg_tensor){.rows = rows, .cols = cols, .data = data, .q8 = slot};
    return t;
}

enum rg_code rg_tensor_read(struct rg_step *s, const struct rg_tensor *t, float *dst,
                            struct rg_err *err)
{
    size_t n;

    if (!t) {
        assert(s->failed);
        return rg_fail(err, RG_E_NOMEM, "step: out of memory for its tensors: use a smaller batch");
    }
    assert(t->data);
    n = (size_t)t->rows * t->cols;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(t->data[i]))
            return rg_fail(err, RG_E_INTERNAL,
                           "result: row %zu, column %zu is not a finite number: the weights or the "
                           "cache hold a NaN or an infinity",
                           i / t->cols, i % t->cols);
    if (n > 0)
        memcpy(dst, t->data, n * sizeof(*dst));
    return RG_OK;
}

uint32_t rg_tensor_rows(const struct rg_tensor *t)
{
    return t->rows;
}

uint32_t rg_tensor_cols(const struct rg_tensor *t)
{
    return t->cols;
}

struct rg_tensor *rg_op_keep(struct rg_step *s, struct rg_tensor *t)
{
    struct rg_tensor *kept;

    if (!t)
        return NULL;
    s->current = 1 - s->current;
    kept = rg_step_tensor(s, t->rows, t->cols);
    if (kept)
        memcpy(kept->data, t->data, (size_t)t->rows * t->cols * sizeof(*t->data));
    rg_arena_reset(&s->tensors[1 - s->current]);
    return kept;
}

struct rg_tensor *rg_op_input(struct rg_step *s, const float *src, uint32_t rows, uint32_t cols)
{
    struct rg_tensor *t = rg_step_tensor(s, rows, cols);

    if (t)
        memcpy(t->data, src, (size_t)rows * cols * sizeof(*src));
    return t;
}
