/* ring.h - the data plane of one node: steps come in from the predecessor, go through the own
 * stage, and on to the successor.
 *
 * The head embeds a step's tokens and sends the rows to the first worker; what comes back from the
 * last one goes through the head's own layers and its lm_head.  So a token crosses one link per
 * node.  On the head the ring is a pipeline (engine/pipeline.h) and runs on the engine's thread;
 * on a worker it has a thread of its own.
 * Epochs     prepare -> connected -> start -> stop.  Between start and stop steps of that epoch are
 *            taken, in the order of their numbers; a gap, a repeat, another epoch or a step that
 *            breaks the plan ends the epoch with on_down, and nothing of it is answered any more.
 *            Nodes prepare at different times: the stream of an epoch that this node does not know
 *            yet waits, unanswered, until its prepare or until the dialler gives up (stop).  Eight
 *            may wait; then the oldest is closed, and one of an epoch that is over at once.
 *            Steps that come between connected and start wait for the start.
 * Threads    prepare, start, stop: the node's loop.  set_stage: any thread but the engine's.
 *            Messages come on the transport's thread and go straight to the thread that computes.
 * Memory     a worker holds at most `stages + 1` received steps; rows are copied once, from the
 *            wire into the step. */
#ifndef RG_CLUSTER_RING_H
#define RG_CLUSTER_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/message.h"
#include "cluster/transport.h"
#include "engine/pipeline.h"
#include "engine/stage.h"

struct rg_ring;

struct rg_ring_events {
    /* The successor took our step stream, and our predecessor has opened its own.  Transport's
     * thread. */
    void (*on_connected)(void *ud, struct rg_epoch epoch);
    /* The epoch cannot go on, and why: once per epoch.  Any thread.  The step stream to the
     * successor was ended, so that the whole ring learns of it. */
    void (*on_down)(void *ud, struct rg_epoch epoch, const struct rg_err *why);
};

struct rg_ring_options {
    const char *node_id;
    bool is_head;
    uint32_t hidden, vocab_size;
    struct rg_ring_events events;
    void *ud;
};

RG_CHECKED enum rg_code rg_ring_open(struct rg_ring **out, const struct rg_ring_options *options,
                                     struct rg_err *err);
/* After the transport was closed and, on the head, its pipeline (by the engine). */
void rg_ring_close(struct rg_ring *r); /* accepts NULL */

/* Puts a stage in the place of the one that is there, which it closes; NULL: none.  Takes it over.
 * Waits until no step is being computed: call it with no epoch started, off the loop's thread. */
void rg_ring_set_stage(struct rg_ring *r, struct rg_stage *stage);

/* Who stands where, for the next epoch. */
struct rg_ring_epoch {
    struct rg_epoch epoch;
    struct rg_step_limits limits;
    uint32_t stages; /* nodes that compute */
    char previous_id[RG_LIMIT_NODE_ID_BYTES + 1], next_id[RG_LIMIT_NODE_ID_BYTES + 1];
    /* A ring of one node (all others without layers) has both "": the head computes alone. */
    const char *next_address;
    uint16_t next_port;
};

/* Dials the successor and waits (without blocking) for the predecessor's stream; on_connected or
 * on_down follows. */
RG_CHECKED enum rg_code rg_ring_prepare(struct rg_ring *r, struct rg_transport *t,
                                        const struct rg_ring_epoch *e, struct rg_err *err);
RG_CHECKED enum rg_code rg_ring_start(struct rg_ring *r, struct rg_epoch epoch, struct rg_err *err);
/* Ends whatever epoch there is: its streams, and its steps with `why` (RG_E_PEER for the engine).
 * Never waits for a step that is being computed; its result is thrown away. */
void rg_ring_stop(struct rg_ring *r, const struct rg_err *why);

/* For the transport's on_accept: a peer with these certificate names opens a step stream. */
bool rg_ring_accept(struct rg_ring *r, struct rg_link *l, const char *names,
                    struct rg_link_events *events, void **ud);

/* The head's pipeline, for one engine; sizes as in the plan, depth and stages change with epochs.
 * The KV ends with its epoch, so every end is told: RG_E_PEER from check(), submit() or collect()
 * comes at least once before a step of the next epoch is taken.
 * Outlives no rg_ring.  Before the first start its check() says RG_E_PEER with `reason`, which
 * rg_ring_set_reason() changes ("waiting for m3-studio-worker"). */
RG_CHECKED enum rg_code rg_ring_pipeline(struct rg_ring *r, struct rg_pipeline **out,
                                         uint32_t n_blocks, uint32_t block_tokens,
                                         struct rg_err *err);
void rg_ring_set_reason(struct rg_ring *r, const char *reason);

struct rg_ring_stats {
    uint64_t steps, rows;
    uint64_t layers_done; /* of this stage and those before it */
    bool busy;            /* a step is being computed */
    uint32_t waiting;     /* steps received and not yet begun */
    bool out;             /* head: a step is with the other nodes, or on its way */
    int64_t compute_ns;   /* spent in the stage; with idle_ns: since the epoch's first step */
    int64_t idle_ns;
};

void rg_ring_stats(struct rg_ring *r, struct rg_ring_stats *out);

/* Ends the epoch with on_down, as a stream that breaks does; nothing when none runs. */
void rg_ring_give_up(struct rg_ring *r, const struct rg_err *why);

#endif
