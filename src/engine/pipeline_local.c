/* pipeline_local.c - all layers in this process: a step is computed when it is collected. */
#include <assert.h>

#include "base/mem.h"
#include "engine/pipeline.h"

struct local {
    struct rg_pipeline base; /* first: the vtable's functions get a pointer to it */
    struct rg_model *model;
    struct rg_backend *backend;
    struct rg_kv *kv;
    struct rg_pipe_step *pending; /* submitted, not yet collected */
    const struct rg_tensor_set *files; /* borrowed; NULL: not watched */
};

static enum rg_code submit(struct rg_pipeline *p, struct rg_pipe_step *step, struct rg_err *err)
{
    struct local *l = (struct local *)p;

    if (l->pending)
        return rg_fail(err, RG_E_INTERNAL, "pipeline: a second step while one is under way");
    l->pending = step;
    return RG_OK;
}

static enum rg_code compute(struct local *l, struct rg_pipe_step *step, struct rg_err *err)
{
    struct rg_step *s;
    struct rg_tensor *x;
    enum rg_code code = rg_step_begin(&s, l->backend, &step->batch, err);
    enum rg_code end_code;

    if (code != RG_OK)
        return code;
    x = rg_model_layers(l->model, s, l->kv, step->tokens, step->batch.n_rows, NULL);
    if (x && step->n_logit_rows > 0) {
        x = rg_model_logits(l->model, s, x, step->logit_rows, step->n_logit_rows);
        if (x)
            code = rg_tensor_read(s, x, step->logits, err);
    }
    /* A tensor that could not be made is reported by the step's end. */
    end_code = rg_step_end(s, code == RG_OK ? err : NULL);
    return code == RG_OK ? end_code : code;
}

static enum rg_code check(struct rg_pipeline *p, struct rg_err *err)
{
    const struct local *l = (const struct local *)p;

    return l->files ? rg_tensor_set_check(l->files, err) : RG_OK;
}

static enum rg_code collect(struct rg_pipeline *p, struct rg_pipe_step **step, struct rg_err *err)
{
    struct local *l = (struct local *)p;
    enum rg_code code, files_code;

    assert(l->pending);
    *step = l->pending;
    l->pending = NULL;
    code = compute(l, *step, err);
    /* After the last read of a weight, and before anybody looks at the logits; if it fails, values
     * that are not finite are only what follows from it. */
    files_code = check(p, err);
    return files_code == RG_OK ? code : files_code;
}

static void close_local(struct rg_pipeline *p)
{
    struct local *l = (struct local *)p;

    rg_kv_close(l->kv);
    rg_free(l);
}

static const struct rg_pipeline_ops local_ops = {
    .submit = submit, .collect = collect, .check = check, .close = close_local};

static enum rg_code open_kv(struct local *l, uint32_t n_layers, struct rg_err *err)
{
    struct rg_kv_layer_spec *specs = rg_calloc(n_layers, sizeof(*specs));
    struct rg_kv_options options = {.layers = specs,
                                    .n_layers = n_layers,
                                    .n_blocks = l->base.n_blocks,
                                    .block_tokens = l->base.block_tokens};
    enum rg_code code;

    if (!specs)
        return rg_fail(err, RG_E_NOMEM, "pipeline: no memory for %u layers", n_layers);
    rg_model_kv_specs(l->model, specs);
    code = rg_kv_open(&l->kv, l->backend, &options, err);
    rg_free(specs);
    return code;
}

enum rg_code rg_pipeline_local_open(struct rg_pipeline **out, struct rg_model *model,
                                    struct rg_backend *backend, uint32_t n_layers,
                                    uint32_t n_blocks, uint32_t block_tokens, uint32_t vocab_size,
                                    struct rg_err *err)
{
    struct local *l = rg_calloc(1, sizeof(*l));
    enum rg_code code;

    *out = NULL;
    if (!l)
        return rg_fail(err, RG_E_NOMEM, "pipeline: out of memory");
    l->base = (struct rg_pipeline){.ops = &local_ops,
                                   .depth = 1,
                                   .vocab_size = vocab_size,
                                   .n_blocks = n_blocks,
                                   .block_tokens = block_tokens};
    l->model = model;
    l->backend = backend;
    code = open_kv(l, n_layers, err);
    if (code != RG_OK) {
        rg_free(l);
        return code;
    }
    *out = &l->base;
    return RG_OK;
}

void rg_pipeline_local_watch(struct rg_pipeline *p, const struct rg_tensor_set *files)
{
    ((struct local *)p)->files = files;
}

enum rg_code rg_pipeline_check(struct rg_pipeline *p, struct rg_err *err)
{
    return p->ops->check ? p->ops->check(p, err) : RG_OK;
}

void rg_pipeline_close(struct rg_pipeline *p)
{
    if (p)
        p->ops->close(p);
}
