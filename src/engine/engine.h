/* engine.h - token sequences in, sampled tokens out; many at once.
 *
 * The engine's thread owns the KV blocks and the sequences.  It makes steps of decode rows and
 * prefill chunks up to a row budget, keeps as many under way as its pipeline takes, and samples.
 * Which rows share a step, and how many steps are under way, never changes a token.
 *
 * Request    rg_engine_submit() copies what it is given and returns; the request then ends with
 *            exactly one RG_EVENT_END, unless submit failed (then no event ever comes).  Events are
 *            delivered on the engine's thread, never from inside submit or cancel; a handler must
 *            only hand them on.
 * Admission  a request waits in a queue (RG_LIMIT_QUEUE, then RG_E_LIMIT from submit) until blocks
 *            for its prompt and its max_tokens are free: an admitted one never runs out of memory.
 * Lost       when the pipeline says RG_E_PEER, its KV is gone, and the requests outlive it: each
 *            is told once (RG_EVENT_LOST) and waits, what is submitted queues, and when the
 *            pipeline is well again each is computed anew from its prompt and the tokens that it
 *            had, to the same ones.  A request that has got no further for node_timeout_ms because
 *            of losses ends with that error and its reason: within 1 s while the pipeline is lost,
 *            else at its next loss.  Its time counts from the first loss after the last step that
 *            took it further, so that a pipeline which is lost again and again holds nobody for
 *            ever; a step that computes again what a former attempt had reached is none of those.
 *            The time of those in the queue counts from the first loss since which no request has
 *            got further; when it is over submit returns the error at once, until the pipeline is
 *            well again.
 * Broken     when the pipeline says that no step can be right any more (a file of the weights was
 *            changed under it), every request ends with its error, and so does every later submit.
 * Cancel     takes effect before the next step; the END event says RG_END_CANCELED.  Its rows that
 *            are under way keep their blocks until they are back. */
#ifndef RG_ENGINE_ENGINE_H
#define RG_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/pipeline.h"
#include "engine/sampler.h"

struct rg_engine;

struct rg_engine_options {
    uint32_t context;    /* positions of one sequence, prompt and answer */
    uint32_t parallel;   /* sequences at once */
    uint32_t chunk_rows; /* prefill rows per step; 0: 512 */
    /* Requests wait for a lost pipeline for so long; 0: they end at once, if it is not well again
     * by then. */
    int64_t node_timeout_ms;
};

enum rg_event_kind {
    RG_EVENT_PREFILL, /* progress: done of total prompt tokens */
    RG_EVENT_TOKEN,   /* one sampled token, the end-of-sequence token included */
    RG_EVENT_LOST,    /* another node is lost, err says which: the request waits, then goes on.
                         PREFILL may begin anew, also without it: a loss may be over at once */
    RG_EVENT_END
};

enum rg_end_reason {
    RG_END_STOP,   /* an end-of-sequence token was sampled */
    RG_END_LENGTH, /* max_tokens or the context is full */
    RG_END_CANCELED,
    RG_END_ERROR /* err says why */
};

struct rg_event {
    enum rg_event_kind kind;
    uint64_t request;
    uint32_t done, total;      /* PREFILL */
    struct rg_sample sample;   /* TOKEN */
    bool is_eos;               /* TOKEN */
    enum rg_end_reason reason; /* END */
    struct rg_err err;         /* END with RG_END_ERROR; LOST */
    uint32_t n_prompt, n_generated;
};

typedef void rg_event_fn(void *ud, const struct rg_event *event);

struct rg_request {
    const int32_t *tokens; /* the prompt, n_tokens >= 1; copied */
    uint32_t n_tokens;
    uint32_t max_tokens;         /* >= 1; cut to what the context leaves */
    struct rg_sampling sampling; /* bias is copied */
    uint32_t choice;             /* index among the n choices of one API request */
    const int32_t *eos_ids;      /* copied */
    uint32_t n_eos_ids;
    rg_event_fn *on_event;
    void *ud;
};

/* Takes over the pipeline, also when it fails. */
RG_CHECKED enum rg_code rg_engine_open(struct rg_engine **out, struct rg_pipeline *pipeline,
                                       const struct rg_engine_options *options, struct rg_err *err);
/* Ends every request with RG_END_CANCELED, then stops the thread. */
void rg_engine_close(struct rg_engine *e); /* accepts NULL */

/* RG_E_PEER: lost for too long, for now; RG_E_IO: broken; RG_E_LIMIT: queue full (try again later);
 * RG_E_USAGE: n_tokens >= context. */
RG_CHECKED enum rg_code rg_engine_submit(struct rg_engine *e, const struct rg_request *request,
                                         uint64_t *id, struct rg_err *err);
void rg_engine_cancel(struct rg_engine *e, uint64_t id); /* an id that has ended is ignored */

struct rg_engine_stats {
    uint32_t running, waiting;
    uint32_t blocks_used, blocks_total;
    uint64_t prompt_tokens, generated_tokens, steps;
    /* rg_clock_ns() of the last turn of the engine's loop; of now while it waits for a step of
     * other nodes, which the pipeline watches itself: a slow one is not a stuck engine. */
    int64_t heartbeat_ns;
};

/* True when no request can be answered any more, with the reason.  An idle engine looks every
 * second.  Any thread. */
bool rg_engine_is_broken(struct rg_engine *e, struct rg_err *why);

/* True while requests wait, or are refused, because of a lost node, with the reason: it passes.
 * Any thread. */
bool rg_engine_is_lost(struct rg_engine *e, struct rg_err *why);

/* The pipeline's state changed: an idle engine looks at once.  Any thread. */
void rg_engine_wake(struct rg_engine *e);

/* A snapshot, from any thread.  An idle engine turns its loop every second, so an old heartbeat
 * means a stuck engine. */
void rg_engine_stats(struct rg_engine *e, struct rg_engine_stats *out);

#endif
