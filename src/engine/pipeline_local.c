/* pipeline_local.c - all layers in this process: a step is computed when it is collected. */
#include <assert.h>

#include "base/mem.h"
#include "engine/pipeline.h"

struct local {
    struct rg_pipeline base; /* first: the vtable's functions get a pointer to it */
    struct rg_stage *stage;  /* owned */
    struct rg_pipe_step *pending; /* submitted, not yet collected */
};

static enum rg_code submit(struct rg_pipeline *p, struct rg_pipe_step *step, struct rg_err *err)
{
    struct local *l = (struct local *)p;

    if (l->pending)
        return rg_fail(err, RG_E_INTERNAL, "pipeline: a second step while one is under way");
    l->pending = step;
    return RG_OK;
}

static enum rg_code collect(struct rg_pipeline *p, struct rg_pipe_step **step, struct rg_err *err)
{
    struct local *l = (struct local *)p;

    assert(l->pending);
    *step = l->pending;
    l->pending = NULL;

    const struct rg_stage_work work = {.batch = &(*step)->batch,
                                       .tokens = (*step)->tokens,
                                       .logit_rows = (*step)->logit_rows,
                                       .n_logit_rows = (*step)->n_logit_rows,
                                       .logits = (*step)->logits};

    return l->stage->ops->run(l->stage, &work, err);
}

static enum rg_code check(struct rg_pipeline *p, struct rg_err *err)
{
    struct local *l = (struct local *)p;

    return l->stage->ops->check(l->stage, err);
}

static void close_local(struct rg_pipeline *p)
{
    struct local *l = (struct local *)p;

    rg_stage_close(l->stage);
    rg_free(l);
}

static const struct rg_pipeline_ops local_ops = {
    .submit = submit, .collect = collect, .check = check, .close = close_local};

enum rg_code rg_pipeline_local_open(struct rg_pipeline **out,
                                    const struct rg_checkpoint *checkpoint, struct rg_model *model,
                                    struct rg_backend *backend, uint32_t n_blocks,
                                    uint32_t block_tokens, struct rg_err *err)
{
    struct local *l = rg_calloc(1, sizeof(*l));
    enum rg_code code;

    *out = NULL;
    if (!l)
        return rg_fail(err, RG_E_NOMEM, "pipeline: out of memory");
    l->base = (struct rg_pipeline){.ops = &local_ops,
                                   .depth = 1,
                                   .stages = 1,
                                   .vocab_size = checkpoint->config.vocab_size,
                                   .n_blocks = n_blocks,
                                   .block_tokens = block_tokens};
    code = rg_stage_open(&l->stage, checkpoint, model, backend, n_blocks, block_tokens, err);
    if (code != RG_OK) {
        rg_free(l);
        return code;
    }
    *out = &l->base;
    return RG_OK;
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
