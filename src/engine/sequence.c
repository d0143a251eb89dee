/* sequence.c - the life of one request inside the engine, and its events. */
#include "engine/sequence.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

/* A copy of n items, or NULL; also for n = 0, so that NULL always means short memory. */
static void *copy(const void *items, size_t n, size_t size)
{
    void *p = rg_calloc(n > 0 ? n : 1, size);

    if (p && n > 0)
        memcpy(p, items, n * size);
    return p;
}

enum rg_code rg_sequence_new(struct rg_sequence **out, const struct rg_request *request,
                             uint32_t max_tokens, const struct rg_kv_blocks *blocks,
                             struct rg_err *err)
{
    const struct rg_sampling *sampling = &request->sampling;
    struct rg_sequence *q = rg_calloc(1, sizeof(*q));
    struct rg_logit_bias *bias = copy(sampling->bias, sampling->n_bias, sizeof(*bias));

    *out = NULL;
    if (q) {
        q->sampling = *sampling;
        q->sampling.bias = bias;
        q->tokens = rg_calloc((size_t)request->n_tokens + max_tokens, sizeof(*q->tokens));
        q->eos_ids = copy(request->eos_ids, request->n_eos_ids, sizeof(*q->eos_ids));
        /* The last token of the answer is sampled, never computed. */
        q->n_blocks = rg_kv_blocks_for(blocks, request->n_tokens + max_tokens - 1);
        q->blocks = rg_calloc(q->n_blocks, sizeof(*q->blocks));
    }
    if (!q || !bias || !q->tokens || !q->eos_ids || !q->blocks) {
        if (!q)
            rg_free(bias);
        rg_sequence_free(q);
        return rg_fail(err, RG_E_NOMEM, "engine: no memory for a request of %u tokens",
                       request->n_tokens);
    }
    memcpy(q->tokens, request->tokens, request->n_tokens * sizeof(*q->tokens));
    q->n_tokens = request->n_tokens;
    q->n_prompt = request->n_tokens;
    q->max_tokens = max_tokens;
    q->choice = request->choice;
    q->n_eos_ids = request->n_eos_ids;
    q->on_event = request->on_event;
    q->ud = request->ud;
    *out = q;
    return RG_OK;
}

void rg_sequence_free(struct rg_sequence *q)
{
    if (!q)
        return;
    assert(!q->admitted && q->n_in_flight == 0);
    rg_free(q->blocks);
    rg_free(q->tokens);
    rg_free(q->eos_ids);
    rg_free((void *)(uintptr_t)q->sampling.bias);
    rg_free(q);
}

bool rg_sequence_admit(struct rg_sequence *q, struct rg_kv_blocks *blocks)
{
    assert(!q->admitted);
    q->admitted = rg_kv_blocks_take(blocks, q->n_blocks, q->blocks);
    return q->admitted;
}

void rg_sequence_leave(struct rg_sequence *q, struct rg_kv_blocks *blocks)
{
    assert(q->admitted);
    rg_kv_blocks_give(blocks, q->blocks, q->n_blocks);
    q->admitted = false;
}

bool rg_sequence_is_eos(const struct rg_sequence *q, int32_t id)
{
    for (uint32_t i = 0; i < q->n_eos_ids; i++)
        if (q->eos_ids[i] == id)
            return true;
    return false;
}

bool rg_sequence_is_decoding(const struct rg_sequence *q)
{
    return q->n_tokens > q->n_prompt && q->n_tokens - q->n_computed <= 1;
}

uint32_t rg_sequence_rows_left(const struct rg_sequence *q)
{
    return q->n_tokens - q->n_scheduled;
}

void rg_sequence_advance(struct rg_sequence *q, uint32_t n_rows)
{
    q->n_computed += n_rows;
    if (q->n_computed > q->n_reached) {
        q->n_reached = q->n_computed;
        q->stalled_ns = 0;
    }
    if (q->n_computed > q->n_furthest) {
        q->n_furthest = q->n_computed;
        q->is_further = true;
    }
}

void rg_sequence_go_back(struct rg_sequence *q, uint32_t n)
{
    assert(q->n_in_flight == 0 && n <= q->n_computed);
    q->n_scheduled = q->n_computed = n;
    q->trouble.code = RG_OK;
}

void rg_sequence_lose(struct rg_sequence *q, int64_t now_ns)
{
    if (q->is_further)
        q->n_reached = 0;
    q->is_further = false;
    if (q->stalled_ns == 0)
        q->stalled_ns = now_ns;
    rg_sequence_go_back(q, 0);
}

int64_t rg_sequence_stalled_ms(const struct rg_sequence *q, int64_t now_ns)
{
    return q->stalled_ns == 0 ? 0 : (now_ns - q->stalled_ns) / 1000000;
}

static struct rg_event event_of(const struct rg_sequence *q, enum rg_event_kind kind)
{
    return (struct rg_event){.kind = kind,
                             .request = q->id,
                             .n_prompt = q->n_prompt,
                             .n_generated = q->n_tokens - q->n_prompt};
}

void rg_sequence_tell_prefill(const struct rg_sequence *q)
{
    struct rg_event event = event_of(q, RG_EVENT_PREFILL);

    /* After a loss the rows of its answer may come with the last ones of its prompt. */
    event.done = q->n_computed < q->n_prompt ? q->n_computed : q->n_prompt;
    event.total = q->n_prompt;
    q->on_event(q->ud, &event);
}

void rg_sequence_tell_token(const struct rg_sequence *q, const struct rg_sample *sample)
{
    struct rg_event event = event_of(q, RG_EVENT_TOKEN);

    event.sample = *sample;
    event.is_eos = rg_sequence_is_eos(q, sample->id);
    q->on_event(q->ud, &event);
}

void rg_sequence_tell_lost(const struct rg_sequence *q, const struct rg_err *why)
{
    struct rg_event event = event_of(q, RG_EVENT_LOST);

    event.err = *why;
    q->on_event(q->ud, &event);
}

void rg_sequence_tell_end(struct rg_sequence *q, enum rg_end_reason reason,
                          const struct rg_err *err)
{
    struct rg_event event = event_of(q, RG_EVENT_END);

    assert(!q->ended);
    q->ended = true;
    event.reason = reason;
    if (reason == RG_END_ERROR)
        event.err = *err;
    q->on_event(q->ud, &event);
}
