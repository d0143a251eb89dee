/* engine_steps.c - steps: how many are under way, what comes back of them, and what a failure ends.
 *
 * The pipeline holds up to `depth` steps and gives them back in order.  With stages that compute at
 * the same time, decode rows are spread over as many steps, so that no stage waits for a token that
 * another one is making; prompts fill the places that are left. */
#include <assert.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_state.h"

/* ---- flights --------------------------------------------------------------------------------- */

enum rg_code rg_engine_steps_init(struct rg_engine *e, struct rg_err *err)
{
    return rg_flight_new(&e->free_flights, e->options.chunk_rows, e->options.parallel,
                         e->pipeline->vocab_size, err);
}

static void free_list(struct rg_flight *s)
{
    while (s) {
        struct rg_flight *next = s->next;

        rg_flight_free(s);
        s = next;
    }
}

void rg_engine_steps_free(struct rg_engine *e)
{
    free_list(e->free_flights);
    assert(!e->oldest);
}

/* The first of the free ones, or NULL: without memory for one more, fewer steps are under way. */
static struct rg_flight *get_flight(struct rg_engine *e)
{
    if (!e->free_flights &&
        rg_flight_new(&e->free_flights, e->options.chunk_rows, e->options.parallel,
                      e->pipeline->vocab_size, NULL) != RG_OK)
        return NULL;
    return e->free_flights;
}

static void take_off(struct rg_engine *e, struct rg_flight *s)
{
    assert(s == e->free_flights);
    e->free_flights = s->next;
    s->next = NULL;
    if (e->newest)
        e->newest->next = s;
    else
        e->oldest = s;
    e->newest = s;
    e->n_under_way++;
}

static void land(struct rg_engine *e, struct rg_flight *s)
{
    assert(s == e->oldest);
    e->oldest = s->next;
    if (!e->oldest)
        e->newest = NULL;
    e->n_under_way--;
    s->next = e->free_flights;
    e->free_flights = s;
}

/* ---- what came back -------------------------------------------------------------------------- */

/* After a step that computed its last row: samples from its logits. */
static void draw(struct rg_engine *e, struct rg_sequence *q, const float *logits)
{
    const struct rg_history history = {
        .tokens = q->tokens, .n_tokens = q->n_tokens, .n_prompt = q->n_prompt, .choice = q->choice};
    struct rg_sample sample;
    struct rg_err err = {0};

    if (rg_sampler_draw(e->sampler, logits, &q->sampling, &history, &sample, &err) != RG_OK) {
        rg_engine_end(e, q, RG_END_ERROR, &err);
        return;
    }
    q->tokens[q->n_tokens++] = sample.id;
    pthread_mutex_lock(&e->lock);
    e->stats.generated_tokens++;
    pthread_mutex_unlock(&e->lock);
    rg_sequence_tell_token(q, &sample);
    if (rg_sequence_is_eos(q, sample.id))
        rg_engine_end(e, q, RG_END_STOP, NULL);
    else if (q->n_tokens - q->n_prompt == q->max_tokens)
        rg_engine_end(e, q, RG_END_LENGTH, NULL);
}

static uint32_t prompt_rows(const struct rg_sequence *q)
{
    return q->n_furthest < q->n_prompt ? q->n_furthest : q->n_prompt;
}

/* n_rows more of q are computed; logits: of the last one, or NULL when it has none. */
static void advance(struct rg_engine *e, struct rg_sequence *q, uint32_t n_rows,
                    const float *logits)
{
    const bool is_prefill = q->n_computed < q->n_prompt;
    const uint32_t n_counted = prompt_rows(q);

    rg_sequence_advance(q, n_rows);
    pthread_mutex_lock(&e->lock);
    /* Rows that are computed once more, after a loss, are not counted once more. */
    e->stats.prompt_tokens += prompt_rows(q) - n_counted;
    e->got_further = e->got_further || q->stalled_ns == 0;
    pthread_mutex_unlock(&e->lock);
    if (is_prefill)
        rg_sequence_tell_prefill(q);
    if (logits)
        draw(e, q, logits);
}

/* The last step of an ended sequence is back. */
static void bury(struct rg_engine *e, struct rg_sequence *q)
{
    pthread_mutex_lock(&e->lock);
    rg_sequence_leave(q, &e->blocks);
    e->stats.blocks_used = e->blocks.n_total - e->blocks.n_free;
    pthread_mutex_unlock(&e->lock);
    rg_sequence_free(q);
}

static void settle_member(struct rg_engine *e, const struct rg_flight *s, uint32_t i,
                          const float *logits, const struct rg_err *failure)
{
    struct rg_sequence *q = s->members[i];

    q->n_in_flight--;
    if (q->ended) {
        if (q->n_in_flight == 0)
            bury(e, q);
    } else if (q->trouble.code != RG_OK) {
        return; /* computed behind rows that failed */
    } else if (failure) {
        q->trouble = *failure;
    } else {
        advance(e, q, s->rows[i].n_rows, logits);
    }
}

/* Each member gets what the step is worth; failure NULL: it went well. */
static void settle(struct rg_engine *e, const struct rg_flight *s, const struct rg_err *failure)
{
    const struct rg_pipe_step *step = &s->step;
    uint32_t logit = 0;

    for (uint32_t i = 0; i < step->batch.n_seqs; i++) {
        const uint32_t last_row = s->rows[i].row_begin + s->rows[i].n_rows - 1;
        const float *logits = NULL;

        if (logit < step->n_logit_rows && step->logit_rows[logit] == last_row)
            logits = step->logits + (size_t)logit++ * e->pipeline->vocab_size;
        settle_member(e, s, i, logits, failure);
    }
}

/* Takes the oldest step back.  When it failed, its sequences are in trouble. */
static enum rg_code collect(struct rg_engine *e, struct rg_err *err)
{
    struct rg_flight *s = e->oldest;
    struct rg_pipe_step *done = NULL;
    struct rg_err failure = {0};
    enum rg_code code;

    pthread_mutex_lock(&e->lock);
    e->waits_for_nodes = e->stages > 1;
    pthread_mutex_unlock(&e->lock);
    code = e->pipeline->ops->collect(e->pipeline, &done, &failure);
    assert(code != RG_OK || done == &s->step);
    pthread_mutex_lock(&e->lock);
    e->waits_for_nodes = false;
    e->stats.heartbeat_ns = rg_clock_ns();
    e->stats.steps += code == RG_OK;
    pthread_mutex_unlock(&e->lock);
    settle(e, s, code == RG_OK ? NULL : &failure);
    land(e, s);
    if (code != RG_OK)
        *err = failure;
    return code;
}

/* ---- filling the pipeline -------------------------------------------------------------------- */

/* Decode rows of one step: an equal part for each stage; none when so many steps have some already:
 * they come together again instead of going in ever smaller groups. */
static uint32_t decode_rows(const struct rg_engine *e)
{
    uint32_t n_sequences = 0, n_steps = 0;

    for (uint32_t i = 0; i < e->stats.running; i++)
        n_sequences += rg_sequence_is_decoding(e->running[i]);
    for (const struct rg_flight *s = e->oldest; s; s = s->next)
        n_steps += s->n_decode > 0;
    return n_steps < e->stages ? (n_sequences + e->stages - 1) / e->stages : 0;
}

/* Plans and submits one step of these sequences; *went is false when there is nothing to do. */
static enum rg_code submit(struct rg_engine *e, struct rg_sequence *const *running, uint32_t n,
                           bool *went, struct rg_err *err)
{
    const struct rg_plan_rule rule = {.chunk_rows = e->options.chunk_rows,
                                      .decode_rows = n == 1 ? 1 : decode_rows(e)};
    struct rg_flight *s = get_flight(e);
    enum rg_code code;

    *went = s && rg_flight_plan(s, &rule, running, n);
    if (!*went)
        return RG_OK;
    code = e->pipeline->ops->submit(e->pipeline, &s->step, err);
    if (code != RG_OK) {
        for (uint32_t i = 0; i < s->step.batch.n_seqs; i++)
            s->members[i]->trouble = *err;
        return code;
    }
    take_off(e, s);
    rg_flight_went(s, ++e->n_turns);
    return RG_OK;
}

static enum rg_code fill(struct rg_engine *e, struct rg_err *err)
{
    enum rg_code code = RG_OK;
    bool went = true;

    if (!e->oldest) {
        e->depth = e->pipeline->depth > 0 ? e->pipeline->depth : 1;
        e->stages = e->pipeline->stages > 0 ? e->pipeline->stages : 1;
    }
    while (code == RG_OK && went && e->n_under_way < e->depth && e->stats.running > 0)
        code = submit(e, e->running, e->stats.running, &went, err);
    return code;
}

void rg_engine_drain(struct rg_engine *e)
{
    struct rg_err err;

    while (e->oldest)
        (void)collect(e, &err);
}

/* ---- failures -------------------------------------------------------------------------------- */

/* One sequence that was in a step that failed: a value that is not finite (RG_E_INTERNAL) is one
 * sequence's own trouble, but fails the step for all.  Each is computed again alone, to the same
 * bits, and only the guilty one ends.  False when the pipeline is lost or broken: nobody is in
 * trouble any more. */
static bool save(struct rg_engine *e, struct rg_sequence *q)
{
    struct rg_err err = q->trouble;
    enum rg_code code = q->trouble.code;
    bool went;

    if (code == RG_E_INTERNAL) {
        rg_sequence_go_back(q, q->n_computed);
        code = submit(e, &q, 1, &went, &err);
        if (code == RG_OK) {
            assert(went);
            code = collect(e, &err);
        }
        if (code == RG_OK)
            return true;
        if (code == RG_E_PEER)
            rg_engine_go_back(e, &err);
        if (!rg_engine_check(e) || code == RG_E_PEER)
            return false;
    }
    rg_engine_end(e, q, RG_END_ERROR, &err);
    return true;
}

static struct rg_sequence *find_trouble(const struct rg_engine *e)
{
    for (uint32_t i = 0; i < e->stats.running; i++)
        if (e->running[i]->trouble.code != RG_OK)
            return e->running[i];
    return NULL;
}

/* After a failed submit or collect: takes back what is still under way (which counts, for sequences
 * that were not in a failed step), then sees who can go on. */
static void recover(struct rg_engine *e, enum rg_code code, const struct rg_err *why)
{
    struct rg_err loss = *why;
    struct rg_sequence *q;

    while (e->oldest) {
        struct rg_err err;

        if (collect(e, &err) != RG_E_PEER)
            continue;
        if (code != RG_E_PEER)
            loss = err;
        code = RG_E_PEER;
    }
    if (code == RG_E_PEER)
        rg_engine_go_back(e, &loss);
    if (!rg_engine_check(e) || code == RG_E_PEER)
        return;
    do
        q = find_trouble(e);
    while (q && save(e, q));
}

void rg_engine_step(struct rg_engine *e)
{
    struct rg_err err = {0};
    enum rg_code code = fill(e, &err);

    if (code == RG_OK && e->oldest)
        code = collect(e, &err);
    if (code != RG_OK)
        recover(e, code, &err);
}
