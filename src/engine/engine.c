/* engine.c - the engine's thread: admits, steps, samples, tells. */
#include "engine/engine.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

enum { CHUNK_ROWS_DEFAULT = 512, IDLE_TURN_S = 1 };

struct rg_engine {
    struct rg_pipeline *pipeline; /* owned */
    struct rg_engine_options options;
    struct rg_kv_blocks blocks;
    struct rg_scheduler scheduler;
    struct rg_sampler *sampler;
    pthread_t thread;
    bool has_thread, has_lock;

    pthread_mutex_t lock; /* guards everything below, and canceled of every sequence */
    pthread_cond_t wake;
    bool stop;
    uint64_t next_id;
    struct rg_sequence *waiting_first, *waiting_last;
    struct rg_sequence **running; /* owned [parallel]; changed by the engine's thread only */
    struct rg_engine_stats stats;
    bool is_broken;    /* for good; set by the engine's thread */
    struct rg_err why; /* of that */
};

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
    if (e->is_broken) {
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
    pthread_mutex_unlock(&e->lock);
}

bool rg_engine_is_broken(struct rg_engine *e, struct rg_err *why)
{
    bool is_broken;

    pthread_mutex_lock(&e->lock);
    is_broken = e->is_broken;
    if (is_broken)
        *why = e->why;
    pthread_mutex_unlock(&e->lock);
    return is_broken;
}

/* ---- the thread: coming and going ------------------------------------------------------------ */

/* Takes q out of the running ones, frees its blocks and says how it ended. */
static void end(struct rg_engine *e, struct rg_sequence *q, enum rg_end_reason reason,
                const struct rg_err *err)
{
    uint32_t kept = 0;

    pthread_mutex_lock(&e->lock);
    for (uint32_t i = 0; i < e->stats.running; i++)
        if (e->running[i] != q)
            e->running[kept++] = e->running[i];
    e->stats.running = kept;
    if (q->admitted)
        rg_sequence_leave(q, &e->blocks);
    e->stats.blocks_used = e->blocks.n_total - e->blocks.n_free;
    pthread_mutex_unlock(&e->lock);
    rg_sequence_tell_end(q, reason, err);
    rg_sequence_free(q);
}

/* Takes the canceled ones (all of them when the engine stops) out of the queue; lock held. */
static struct rg_sequence *take_canceled(struct rg_engine *e)
{
    struct rg_sequence *canceled = NULL;
    struct rg_sequence **tail = &canceled;
    struct rg_sequence **link = &e->waiting_first;

    e->waiting_last = NULL;
    while (*link) {
        struct rg_sequence *q = *link;

        if (!q->canceled && !e->stop) {
            e->waiting_last = q;
            link = &q->next;
            continue;
        }
        *link = q->next;
        q->next = NULL;
        *tail = q;
        tail = &q->next;
        e->stats.waiting--;
    }
    return canceled;
}

/* In the order of arrival: a large request is not overtaken for ever by small ones; lock held. */
static void admit(struct rg_engine *e)
{
    struct rg_sequence *q;

    while ((q = e->waiting_first) != NULL && e->stats.running < e->options.parallel) {
        if (!rg_sequence_admit(q, &e->blocks))
            break;
        e->waiting_first = q->next;
        if (!e->waiting_first)
            e->waiting_last = NULL;
        q->next = NULL;
        e->stats.waiting--;
        e->running[e->stats.running++] = q;
    }
    e->stats.blocks_used = e->blocks.n_total - e->blocks.n_free;
}

/* A running sequence that was canceled, or NULL; lock held. */
static struct rg_sequence *find_canceled(const struct rg_engine *e)
{
    for (uint32_t i = 0; i < e->stats.running; i++)
        if (e->running[i]->canceled || e->stop)
            return e->running[i];
    return NULL;
}

static void end_canceled(struct rg_engine *e, struct rg_sequence *waiting)
{
    struct rg_sequence *q;

    while (waiting) {
        q = waiting;
        waiting = q->next;
        end(e, q, RG_END_CANCELED, NULL);
    }
    for (;;) {
        pthread_mutex_lock(&e->lock);
        q = find_canceled(e);
        pthread_mutex_unlock(&e->lock);
        if (!q)
            return;
        end(e, q, RG_END_CANCELED, NULL);
    }
}

/* Looks at the pipeline; when it is broken, ends everything. */
static bool check_pipeline(struct rg_engine *e)
{
    struct rg_sequence *waiting;
    struct rg_err why = {0};

    if (e->is_broken || rg_pipeline_check(e->pipeline, &why) == RG_OK)
        return !e->is_broken;
    rg_log(RG_LOG_ERROR, "engine", why.message, "running=%u waiting=%u", e->stats.running,
           e->stats.waiting);
    pthread_mutex_lock(&e->lock);
    e->is_broken = true;
    e->why = why;
    waiting = e->waiting_first;
    e->waiting_first = e->waiting_last = NULL;
    e->stats.waiting = 0;
    pthread_mutex_unlock(&e->lock);
    while (e->stats.running > 0)
        end(e, e->running[0], RG_END_ERROR, &why);
    while (waiting) {
        struct rg_sequence *q = waiting;

        waiting = q->next;
        end(e, q, RG_END_ERROR, &why);
    }
    return false;
}

/* ---- the thread: steps ----------------------------------------------------------------------- */

/* After a step that computed its last row: samples from its logits. */
static void advance(struct rg_engine *e, struct rg_sequence *q, const float *logits)
{
    const struct rg_history history = {
        .tokens = q->tokens, .n_tokens = q->n_tokens, .n_prompt = q->n_prompt, .choice = q->choice};
    struct rg_sample sample;
    struct rg_err err = {0};

    if (rg_sampler_draw(e->sampler, logits, &q->sampling, &history, &sample, &err) != RG_OK) {
        end(e, q, RG_END_ERROR, &err);
        return;
    }
    q->tokens[q->n_tokens++] = sample.id;
    pthread_mutex_lock(&e->lock);
    e->stats.generated_tokens++;
    pthread_mutex_unlock(&e->lock);
    rg_sequence_tell_token(q, &sample);
    if (rg_sequence_is_eos(q, sample.id))
        end(e, q, RG_END_STOP, NULL);
    else if (q->n_tokens - q->n_prompt == q->max_tokens)
        end(e, q, RG_END_LENGTH, NULL);
}

static void apply(struct rg_engine *e)
{
    const struct rg_scheduler *d = &e->scheduler;
    uint32_t logit = 0;

    for (uint32_t i = 0; i < d->step.batch.n_seqs; i++) {
        struct rg_sequence *q = d->members[i];
        const bool prefill = q->n_computed < q->n_prompt;

        q->n_computed += d->rows[i].n_rows;
        if (prefill) {
            pthread_mutex_lock(&e->lock);
            e->stats.prompt_tokens += d->rows[i].n_rows;
            pthread_mutex_unlock(&e->lock);
            rg_sequence_tell_prefill(q);
        }
        if (rg_sequence_rows_left(q) == 0)
            advance(e, q, d->logits + (size_t)logit++ * e->pipeline->vocab_size);
    }
}

static enum rg_code run_step(struct rg_engine *e, struct rg_sequence *const *running, uint32_t n,
                             struct rg_err *err)
{
    struct rg_pipe_step *done;
    enum rg_code code;

    rg_scheduler_plan(&e->scheduler, running, n);
    code = e->pipeline->ops->submit(e->pipeline, &e->scheduler.step, err);
    if (code == RG_OK)
        code = e->pipeline->ops->collect(e->pipeline, &done, err);
    if (code != RG_OK)
        return code;
    assert(done == &e->scheduler.step);
    pthread_mutex_lock(&e->lock);
    e->stats.steps++;
    pthread_mutex_unlock(&e->lock);
    apply(e);
    return RG_OK;
}

/* One step of all running sequences.  A value that is not finite (RG_E_INTERNAL) is one sequence's
 * own trouble, but fails the step for all: each is then computed alone, to the same bits, and only
 * the guilty one ends.  Any other failure ends everything that was in the step. */
static void step_all(struct rg_engine *e)
{
    const uint32_t n = e->stats.running;
    struct rg_err err = {0};
    enum rg_code code;

    code = run_step(e, e->running, n, &err);
    if (code == RG_OK || !check_pipeline(e))
        return;
    if (n == 1 || code != RG_E_INTERNAL) {
        while (e->stats.running > 0)
            end(e, e->running[0], RG_END_ERROR, &err);
        return;
    }
    for (uint32_t i = n; i > 0; i--) {
        struct rg_sequence *q = e->running[i - 1];

        if (run_step(e, &q, 1, &err) == RG_OK)
            continue;
        if (!check_pipeline(e))
            return;
        end(e, q, RG_END_ERROR, &err);
    }
}

/* ---- the thread: its loop -------------------------------------------------------------------- */

/* Waits for work, a second at most: an idle engine shows that it is alive; lock held. */
static void wait_for_work(struct rg_engine *e)
{
#ifdef __APPLE__
    const struct timespec turn = {.tv_sec = IDLE_TURN_S};

    pthread_cond_timedwait_relative_np(&e->wake, &e->lock, &turn);
#else
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_TURN_S;
    pthread_cond_timedwait(&e->wake, &e->lock, &until);
#endif
}

static void *run(void *arg)
{
    struct rg_engine *e = arg;
    bool stop;

    do {
        struct rg_sequence *canceled;

        pthread_mutex_lock(&e->lock);
        if (!e->stop && e->stats.running == 0 && !e->waiting_first)
            wait_for_work(e);
        e->stats.heartbeat_ns = rg_clock_ns();
        canceled = take_canceled(e);
        stop = e->stop;
        pthread_mutex_unlock(&e->lock);

        end_canceled(e, canceled);
        if (stop)
            break;
        /* A busy engine finds out from its steps. */
        if (e->stats.running == 0 && !check_pipeline(e))
            continue;
        pthread_mutex_lock(&e->lock);
        admit(e);
        pthread_mutex_unlock(&e->lock);
        if (e->stats.running > 0)
            step_all(e);
    } while (!stop);
    return NULL;
}

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
    rc = pthread_create(&e->thread, NULL, run, e);
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
    code = rg_scheduler_init(&e->scheduler, e->options.chunk_rows, e->options.parallel,
                             p->vocab_size, err);
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
    rg_scheduler_free(&e->scheduler);
    rg_kv_blocks_free(&e->blocks);
    rg_free(e->running);
    rg_pipeline_close(e->pipeline);
    rg_free(e);
}
