/* stage.c - a part of a model over the compute ops. */
#include "engine/stage.h"

#include <assert.h>
#include <stdatomic.h>

#include "base/mem.h"

struct model_stage {
    struct rg_stage base; /* first: the vtable's functions get a pointer to it */
    const struct rg_checkpoint *checkpoint;
    struct rg_model *model;
    struct rg_backend *backend;
    struct rg_kv *kv;
};

static enum rg_code check(struct rg_stage *s, struct rg_err *err)
{
    return rg_tensor_set_check(((const struct model_stage *)s)->checkpoint->tensors, err);
}

/* After the last read of a weight, and before anybody looks at the result: when the files changed,
 * values that are not finite are only what follows from it. */
static enum rg_code settle(struct model_stage *m, enum rg_code code, struct rg_err *err)
{
    const enum rg_code files_code = check(&m->base, err);

    return files_code == RG_OK ? code : files_code;
}

static enum rg_code compute(struct model_stage *m, const struct rg_stage_work *w,
                            struct rg_err *err)
{
    const uint32_t n = w->batch->n_rows;
    struct rg_step *s;
    struct rg_tensor *x;
    enum rg_code code = rg_step_begin(&s, m->backend, w->batch, err);
    enum rg_code end_code;

    if (code != RG_OK)
        return code;
    x = w->tokens ? rg_model_embed(m->model, s, w->tokens, n)
                  : rg_op_input(s, w->rows_in, n, m->base.hidden);
    x = rg_model_layers(m->model, s, m->kv, x, &m->base.layers_done);
    if (x && w->rows_out)
        code = rg_tensor_read(s, x, w->rows_out, err);
    if (x && code == RG_OK && w->n_logit_rows > 0) {
        x = rg_model_logits(m->model, s, x, w->logit_rows, w->n_logit_rows);
        if (x)
            code = rg_tensor_read(s, x, w->logits, err);
    }
    /* A tensor that could not be made is reported by the step's end. */
    end_code = rg_step_end(s, code == RG_OK ? err : NULL);
    return code == RG_OK ? end_code : code;
}

static enum rg_code run(struct rg_stage *s, const struct rg_stage_work *work, struct rg_err *err)
{
    struct model_stage *m = (struct model_stage *)s;

    assert(!work->tokens != !work->rows_in);
    return settle(m, compute(m, work, err), err);
}

static enum rg_code embed(struct rg_stage *s, const int32_t *tokens, uint32_t n, float *rows_out,
                          struct rg_err *err)
{
    struct model_stage *m = (struct model_stage *)s;
    const struct rg_batch batch = {.n_rows = n};
    struct rg_step *step;
    struct rg_tensor *x;
    enum rg_code code = rg_step_begin(&step, m->backend, &batch, err);
    enum rg_code end_code;

    if (code != RG_OK)
        return code;
    x = rg_model_embed(m->model, step, tokens, n);
    if (x)
        code = rg_tensor_read(step, x, rows_out, err);
    end_code = rg_step_end(step, code == RG_OK ? err : NULL);
    return settle(m, code == RG_OK ? end_code : code, err);
}

static void close_stage(struct rg_stage *s)
{
    struct model_stage *m = (struct model_stage *)s;

    rg_kv_close(m->kv);
    rg_free(m);
}

static const struct rg_stage_ops model_ops = {
    .run = run, .embed = embed, .check = check, .close = close_stage};

static enum rg_code open_kv(struct model_stage *m, uint32_t n_blocks, uint32_t block_tokens,
                            struct rg_err *err)
{
    struct rg_kv_layer_spec *specs = rg_calloc((size_t)m->base.n_layers + 1, sizeof(*specs));
    struct rg_kv_options options = {.layers = specs,
                                    .n_layers = m->base.n_layers,
                                    .n_blocks = n_blocks,
                                    .block_tokens = block_tokens};
    enum rg_code code;

    if (!specs)
        return rg_fail(err, RG_E_NOMEM, "stage: no memory for %u layers", m->base.n_layers);
    rg_model_kv_specs(m->model, specs);
    code = rg_kv_open(&m->kv, m->backend, &options, err);
    rg_free(specs);
    return code;
}

enum rg_code rg_stage_open(struct rg_stage **out, const struct rg_checkpoint *checkpoint,
                           struct rg_model *model, struct rg_backend *backend, uint32_t n_blocks,
                           uint32_t block_tokens, struct rg_err *err)
{
    struct model_stage *m = rg_calloc(1, sizeof(*m));
    enum rg_code code;

    *out = NULL;
    if (!m)
        return rg_fail(err, RG_E_NOMEM, "stage: out of memory");
    m->base.ops = &model_ops;
    m->base.hidden = checkpoint->config.hidden_size;
    m->base.vocab_size = checkpoint->config.vocab_size;
    m->base.n_layers = rg_model_n_layers(model);
    m->checkpoint = checkpoint;
    m->model = model;
    m->backend = backend;
    code = open_kv(m, n_blocks, block_tokens, err);
    if (code != RG_OK) {
        rg_free(m);
        return code;
    }
    *out = &m->base;
    return RG_OK;
}

void rg_stage_close(struct rg_stage *s)
{
    if (s)
        s->ops->close(s);
}

uint64_t rg_stage_layers_done(const struct rg_stage *s)
{
    return atomic_load(&s->layers_done);
}
