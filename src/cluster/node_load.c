/* node_load.c - the own part of the model: loaded and freed on a worker thread, one job at a time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/host_memory.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/model_card.h"
#include "cluster/node_state.h"
#include "engine/preload.h"

void rg_node_part_close(struct rg_node_part *p)
{
    rg_model_close(p->model);
    rg_backend_close(p->backend);
    rg_checkpoint_close(p->checkpoint);
    *p = (struct rg_node_part){0};
}

const struct rg_ring_node *rg_node_own(const struct rg_node *n, const struct rg_proposal *p)
{
    const char *id = n->discovery.peers[n->self].id;

    for (uint32_t i = 0; i < p->n_nodes; i++)
        if (strcmp(p->nodes[i].id, id) == 0)
            return &p->nodes[i];
    return NULL;
}

/* ---- on the worker thread -------------------------------------------------------------------- */

static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    struct rg_node_job *j = ud;

    atomic_store(&j->done, done);
    atomic_store(&j->total, total);
    return !atomic_load(&j->stop);
}

/* Is what is loaded what the proposal wants? */
static bool fits(const struct rg_node_part *have, const struct rg_model_part *part,
                 const struct rg_proposal *p)
{
    return have->checkpoint && have->part.layer_begin == part->layer_begin &&
           have->part.layer_end == part->layer_end && have->part.embed == part->embed &&
           have->n_blocks == p->n_blocks && have->block_tokens == p->block_tokens &&
           have->f32 == p->activations_f32 &&
           rg_tensor_set_check(have->checkpoint->tensors, NULL) == RG_OK;
}

/* What the contexts of the plan may take.  It is touched as they grow: nothing else refuses it. */
static enum rg_code count_kv(uint64_t *bytes, const struct rg_node_part *own,
                             const struct rg_proposal *p, struct rg_err *err)
{
    const uint32_t n_layers = own->part.layer_end - own->part.layer_begin;
    struct rg_kv_layer_spec *specs = rg_calloc((size_t)n_layers + 1, sizeof *specs);
    const struct rg_kv_options options = {.layers = specs,
                                          .n_layers = n_layers,
                                          .n_blocks = p->n_blocks,
                                          .block_tokens = p->block_tokens};

    if (!specs)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a part of %u layers", n_layers);
    rg_model_kv_specs(own->model, specs);
    *bytes = rg_kv_bytes(p->activations_f32 ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8, &options);
    rg_free(specs);
    return RG_OK;
}

static enum rg_code check_memory(const struct rg_node *n, const struct rg_node_part *part,
                                 uint64_t kv_bytes, struct rg_err *err)
{
    const uint64_t weights = rg_preload_bytes(part->checkpoint, &part->part);
    struct rg_plan_part own = {.head = part->part.head,
                               .first_layer = part->part.layer_begin,
                               .n_layers = part->part.layer_end - part->part.layer_begin,
                               .weight_bytes = weights,
                               .kv_bytes = kv_bytes};

    (void)snprintf(own.id, sizeof own.id, "%s", n->discovery.peers[n->self].id);
    return rg_plan_check_own(&own, rg_host_memory_bytes(), n->options.overcommit, err);
}

static enum rg_code open_part(struct rg_node *n, const struct rg_model_part *part,
                              const struct rg_proposal *p, struct rg_err *err)
{
    struct rg_node_part *own = &n->loaded;
    const struct rg_checkpoint_options options = {.may_lack = true,
                                                  .is_part = true,
                                                  .layer_begin = part->layer_begin,
                                                  .layer_end = part->layer_end,
                                                  .embed = part->embed,
                                                  .head = part->head};
    struct rg_backend_options backend = n->options.backend;
    struct rg_stage *stage = NULL;
    uint64_t kv_bytes = 0;
    enum rg_code code;

    backend.activations = p->activations_f32 ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8;
    *own = (struct rg_node_part){.part = *part,
                                 .n_blocks = p->n_blocks,
                                 .block_tokens = p->block_tokens,
                                 .f32 = p->activations_f32};
    code = rg_checkpoint_open(&own->checkpoint, n->checkpoint->dir, &options, err);
    if (!code)
        code = check_memory(n, own, kv_bytes, err);
    /* The Hello said what the files were at the start; they may have been replaced since. */
    if (!code)
        code = rg_model_card_check(&n->hello.model, own->checkpoint, part, &n->job.stop, err);
    if (!code)
        code = rg_backend_open(&own->backend, &backend, err);
    if (!code)
        code = rg_model_open(&own->model, own->checkpoint, own->backend, part, err);
    if (!code)
        code = count_kv(&kv_bytes, own, p, err);
    if (!code)
        code = check_memory(n, own, kv_bytes, err);
    if (!code)
        code = rg_stage_open(&stage, own->checkpoint, own->model, own->backend, p->n_blocks,
                             p->block_tokens, err);
    /* Weights that exceed the memory would push each other out: they come as they are needed. */
    if (!code && rg_preload_bytes(own->checkpoint, part) < rg_host_memory_bytes() / 10 * 9)
        code = rg_preload(own->checkpoint, part, on_progress, &n->job, err);
    if (!code)
        code = rg_tensor_set_check(own->checkpoint->tensors, err);
    if (code)
        rg_stage_close(stage);
    else
        rg_ring_set_stage(n->ring, stage);
    return code;
}

static void free_part(struct rg_node *n)
{
    rg_ring_set_stage(n->ring, NULL);
    rg_node_part_close(&n->loaded);
}

static void work(uv_work_t *w)
{
    struct rg_node *n = w->data;
    struct rg_node_job *j = &n->job;
    const struct rg_ring_node *own = j->frees ? NULL : rg_node_own(n, &j->proposal);
    struct rg_model_part part;

    j->code = RG_OK;
    if (j->frees) {
        free_part(n);
        return;
    }
    if (!own) {
        j->code = rg_fail(&j->err, RG_E_INTERNAL, "the plan has no part for this node");
        return;
    }
    part = (struct rg_model_part){.layer_begin = own->first_layer,
                                  .layer_end = own->first_layer + own->n_layers,
                                  .embed = n->is_head,
                                  .head = n->is_head};
    if (fits(&n->loaded, &part, &j->proposal))
        return;
    free_part(n);
    j->code = open_part(n, &part, &j->proposal, &j->err);
    if (j->code)
        rg_node_part_close(&n->loaded);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

static void on_worked(uv_work_t *w, int status);

static void start(struct rg_node *n)
{
    struct rg_node_job *j = &n->job;

    j->running = true;
    j->again = false;
    j->frees = j->next_frees;
    j->proposal = j->next;
    atomic_store(&j->stop, false);
    atomic_store(&j->done, 0);
    atomic_store(&j->total, 0);
    j->work.data = n;
    if (uv_queue_work(n->loop, &j->work, work, on_worked) == 0)
        return;
    j->running = false;
    rg_log(RG_LOG_ERROR, "cluster", "no worker thread for loading", "frees=%d", (int)j->frees);
}

/* The whole path is for this node's log; the other nodes and all clients read the rest. */
static void hide_directory(struct rg_err *err, const struct rg_checkpoint *c)
{
    const size_t n = strlen(c->dir);
    char *at = n > 0 ? strstr(err->message, c->dir) : NULL;
    char shown[sizeof err->message];

    rg_log(RG_LOG_WARN, "cluster", err->message, "what=load");
    if (!at)
        return;
    *at = '\0';
    (void)snprintf(shown, sizeof shown, "%s%s%s", err->message, c->name, at + n);
    memcpy(err->message, shown, sizeof shown);
}

static void on_worked(uv_work_t *w, int status)
{
    struct rg_node *n = w->data;
    struct rg_node_job *j = &n->job;
    const struct rg_member_event failed = {
        .kind = RG_MEMBER_LOAD_FAILED, .epoch = n->epoch, .err = &j->err};

    (void)status;
    j->running = false;
    if (n->closing)
        return;
    if (j->again) {
        start(n);
        return;
    }
    if (j->frees)
        return;
    if (j->code) {
        hide_directory(&j->err, n->checkpoint);
        rg_node_event(n, &failed);
        return;
    }
    n->part_loaded = true;
    rg_log(RG_LOG_INFO, "cluster", "the own part is loaded",
           "first_layer=%u layers=%u bytes=%" PRIu64, n->loaded.part.layer_begin,
           n->loaded.part.layer_end - n->loaded.part.layer_begin,
           rg_preload_bytes(n->loaded.checkpoint, &n->loaded.part));
}

static void queue(struct rg_node *n)
{
    struct rg_node_job *j = &n->job;

    if (!j->running) {
        start(n);
        return;
    }
    j->again = true;
    atomic_store(&j->stop, true);
}

void rg_node_load(struct rg_node *n, const struct rg_proposal *p)
{
    n->job.next = *p;
    n->job.next_frees = false;
    n->part_loaded = n->ring_connected = n->load_told = false;
    n->epoch = p->epoch;
    queue(n);
}

void rg_node_free_part(struct rg_node *n)
{
    n->job.next_frees = true;
    n->part_loaded = false;
    n->epoch = (struct rg_epoch){0};
    queue(n);
}

void rg_node_load_stop(struct rg_node *n)
{
    atomic_store(&n->job.stop, true);
}
