/* engine_state.h - what the parts of the engine share; private to engine/.
 *
 * engine.c has the calls from outside, engine_loop.c who comes and goes, engine_steps.c the steps.
 * Threads    the engine's own has all of it; what other threads may see is under the lock. */
#ifndef RG_ENGINE_ENGINE_STATE_H
#define RG_ENGINE_ENGINE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <pthread.h>

#include "engine/engine.h"
#include "engine/kv_blocks.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

struct rg_engine {
    struct rg_pipeline *pipeline; /* owned */
    struct rg_engine_options options;
    struct rg_kv_blocks blocks;
    struct rg_sampler *sampler;
    struct rg_flight *free_flights;      /* owned; one at least while no step is under way */
    struct rg_flight *oldest, *newest; /* owned; the steps under way, in their order */
    uint32_t n_under_way;
    uint32_t depth, stages; /* the pipeline's, of when no step was under way */
    uint64_t n_turns;       /* steps that went to the pipeline */
    struct rg_err loss;     /* the last one, if no check came after it; code RG_OK: none */
    pthread_t thread;
    bool has_thread, has_lock;

    pthread_mutex_t lock; /* guards everything below, and canceled of every sequence */
    pthread_cond_t wake;
    bool stop;
    bool woken; /* rg_engine_wake(): the next turn does not wait */
    uint64_t next_id;
    struct rg_sequence *waiting_first, *waiting_last;
    struct rg_sequence **running; /* owned [parallel]; changed by the engine's thread only */
    struct rg_engine_stats stats;
    bool waits_for_nodes; /* inside collect() of a pipeline with other nodes */
    bool is_broken;       /* for good; set by the engine's thread */
    bool is_lost;         /* until the pipeline is well again */
    bool got_further;     /* someone did since lost_ns, or nobody was there to */
    int64_t lost_ns;      /* the first loss that no such thing has come after */
    struct rg_err why;    /* of either */
};

/* The thread's function. */
void *rg_engine_run(void *engine);

/* Takes q out of the running ones and says how it ended; err is read with RG_END_ERROR.  q is
 * freed, or with its last step under way. */
void rg_engine_end(struct rg_engine *e, struct rg_sequence *q, enum rg_end_reason reason,
                   const struct rg_err *err);
/* Looks at the pipeline, with no step under way.  When it is lost, everything goes back to its
 * beginning and waits, or has waited long enough and ends; when it is broken, everything ends. */
bool rg_engine_check(struct rg_engine *e);
/* The KV of all is gone: what runs is computed again.  No step is under way; a check follows. */
void rg_engine_go_back(struct rg_engine *e, const struct rg_err *why);
/* Lost for longer than requests wait that have got nowhere; lock held. */
bool rg_engine_gave_up(const struct rg_engine *e);

/* Makes the memory of one step. */
RG_CHECKED enum rg_code rg_engine_steps_init(struct rg_engine *e, struct rg_err *err);
void rg_engine_steps_free(struct rg_engine *e);
/* One turn: fills the pipeline, takes the oldest step back, tells. */
void rg_engine_step(struct rg_engine *e);
/* Takes back all that is under way, for nobody. */
void rg_engine_drain(struct rg_engine *e);

#endif
