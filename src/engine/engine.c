/* engine.c - the engine from outside: opening, submitting, cancelling, looking at it. */
#include "engine/engine.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "engine/engine_state.h"

enum { CHUNK_ROWS_DEFAULT = 512 };

/* ---- submitting ----------------------------------------------------------------------------- */

static enum rg_code check_request(const struct rg_engine *e, const struct rg_request *r,
                                  struct rg_err *err)
{
    if (r->n_tokens == 0 || r->max_tokens == 0)
        return rg_fail(err, RG_E_USAGE, "engine: a request needs a prompt and max_tokens >= 1");
    if (r->n_tokens >= e->options.context)
        return rg_fail(err, RG_E_USAGE,
                       "the prompt has %u tokens, the context %u: shorten it or raise --ctx",
                       r->n_tokens, e->options.context);
    for (uint32_t i = 0; i < r->n_tokens; i++)
        if (r->tokens[i] < 0 || (uint32_t)r->tokens[i] >= e->pipeline->vocab_size)
            return rg_fail(err, RG_E_USAGE, "prompt token %u is %d: the model has ids 0 to %u", i,
                           (int)r->tokens[i], e->pipeline->vocab_size - 1);
    for (uint32_t i = 0; i < r->sampling.n_bias; i++)
        if (r->sampling.bias[i].id < 0 ||
            (uint32_t)r->sampling.bias[i].id >= e->pipeline->vocab_size)
            return rg_fail(err, RG_E_USAGE, "logit_bias names token %d: the model has ids 0 to %u",
                           (int)r->sampling.bias[i].id, e->pipeline->vocab_size - 1);
    return RG_OK;
}

static enum rg_code enqueue(struct rg_engine *e, struct rg_sequence *q, uint64_t *id,
                            struct rg_err *err)
{
    enum rg_code code = RG_OK;

    pthread_mutex_lock(&e->lock);
    if (e->is_broken || rg_engine_gave_up(e)) {
        code = rg_fail(err, e->why.code, "%s", e->why.message);
    } else if (e->stats.waiting >= RG_LIMIT_QUEUE) {
        code = rg_fail(err, RG_E_LIMIT, "%u requests are waiting already: try again later",
                       e->stats.waiting);
    } else {
        q->id = e->next_id++;
        *id = q->id;
        if (e->waiting_last)
            e->waiting_last->next = q;
        else
            e->waiting_first = q;
        e->waiting_last = q;
        e->stats.waiting++;
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    return code;
}

enum rg_code rg_engine_submit(struct rg_engine *e, const struct rg_request *request, uint64_t *id,
                              struct rg_err *err)
{
    struct rg_sequence *q;
    uint32_t max_tokens;
    enum rg_code code = check_request(e, request, err);

    if (code != RG_OK)
        return code;
    max_tokens = e->options.context - request->n_tokens;
    if (request->max_tokens < max_tokens)
        max_tokens = request->max_tokens;
    code = rg_sequence_new(&q, request, max_tokens, &e->blocks, err);
    if (code != RG_OK)
        return code;
    code = enqueue(e, q, id, err);
    if (code != RG_OK)
        rg_sequence_free(q);
    return code;
}

void rg_engine_cancel(struct rg_engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    for (struct rg_sequence *q = e->waiting_first; q; q = q->next)
        if (q->id == id)
            q->canceled = true;
    for (uint32_t i = 0; i < e->stats.running; i++)
        if (e->running[i]->id == id)
            e->running[i]->canceled = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

void rg_engine_stats(struct rg_engine *e, struct rg_engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    if (e->waits_for_nodes)
        out->heartbeat_ns = rg_clock_ns();
    pthread_mutex_unlock(&e->lock);
}

void rg_engine_wake(struct rg_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->woken = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

static bool look(struct rg_engine *e, const bool *flag, struct rg_err *why)
{
    bool is_set;

    pthread_mutex_lock(&e->lock);
    is_set = *flag;
    if (is_set)
        *why = e->why;
    pthread_mutex_unlock(&e->lock);
    return is_set;
}

bool rg_engine_is_broken(struct rg_engine *e, struct rg_err *why)
{
    return look(e, &e->is_broken, why);
}

bool rg_engine_is_lost(struct rg_engine *e, struct rg_err *why)
{
    return look(e, &e->is_lost, why);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static enum rg_code start(struct rg_engine *e, struct rg_err *err)
{
    pthread_condattr_t attr;
    int rc;

    if (pthread_condattr_init(&attr) != 0)
        return rg_fail(err, RG_E_IO, "engine: no condition variable");
#ifndef __APPLE__
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
    rc = pthread_cond_init(&e->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (rc != 0)
        return rg_fail(err, RG_E_IO, "engine: no condition variable: %s", strerror(rc));
    rc = pthread_mutex_init(&e->lock, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&e->wake);
        return rg_fail(err, RG_E_IO, "engine: no lock: %s", strerror(rc));
    }
    e->has_lock = true;
    rc = pthread_create(&e->thread, NULL, rg_engine_run, e);
    if (rc != 0)
        return rg_fail(err, RG_E_IO, "engine: no thread: %s", strerror(rc));
    e->has_thread = true;
    return RG_OK;
}

static enum rg_code open_parts(struct rg_engine *e, struct rg_err *err)
{
    const struct rg_pipeline *p = e->pipeline;
    enum rg_code code;

    code = rg_kv_blocks_init(&e->blocks, p->n_blocks, p->block_tokens, err);
    if (code != RG_OK)
        return code;
    if (rg_kv_blocks_for(&e->blocks, e->options.context) > p->n_blocks)
        return rg_fail(err, RG_E_FIT,
                       "engine: %u blocks of %u tokens are too few for a context of %u",
                       p->n_blocks, p->block_tokens, e->options.context);
    e->stats.blocks_total = p->n_blocks;
    e->stats.heartbeat_ns = rg_clock_ns();
    e->running = rg_calloc(e->options.parallel, sizeof(struct rg_sequence *));
    if (!e->running)
        return rg_fail(err, RG_E_NOMEM, "engine: out of memory");
    code = rg_engine_steps_init(e, err);
    if (code == RG_OK)
        code = rg_sampler_open(&e->sampler, p->vocab_size, err);
    if (code == RG_OK)
        code = start(e, err);
    return code;
}

enum rg_code rg_engine_open(struct rg_engine **out, struct rg_pipeline *pipeline,
                            const struct rg_engine_options *options, struct rg_err *err)
{
    struct rg_engine *e = rg_calloc(1, sizeof(*e));
    enum rg_code code;

    *out = NULL;
    if (!e) {
        rg_pipeline_close(pipeline);
        return rg_fail(err, RG_E_NOMEM, "engine: out of memory");
    }
    assert(options->context > 1 && options->parallel >= 1);
    e->pipeline = pipeline;
    e->options = *options;
    if (e->options.chunk_rows == 0)
        e->options.chunk_rows = CHUNK_ROWS_DEFAULT;
    e->next_id = 1;
    e->woken = true; /* looks at the pipeline at once */
    e->got_further = true;
    code = open_parts(e, err);
    if (code != RG_OK) {
        rg_engine_close(e);
        return code;
    }
    *out = e;
    return RG_OK;
}

void rg_engine_close(struct rg_engine *e)
{
    if (!e)
        return;
    if (e->has_thread) {
        pthread_mutex_lock(&e->lock);
        e->stop = true;
        pthread_cond_signal(&e->wake);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
    }
    if (e->has_lock) {
        pthread_mutex_destroy(&e->lock);
        pthread_cond_destroy(&e->wake);
    }
    rg_sampler_close(e->sampler);
    rg_engine_steps_free(e);
    rg_kv_blocks_free(&e->blocks);
    rg_free(e->running);
    rg_pipeline_close(e->pipeline);
    rg_free(e);
}
