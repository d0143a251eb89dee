/* ring_state.h - what the files of the ring share; seen by ring*.c alone.
 *
 * Locks      `compute` (the stage is being used) comes before `lock` (everything else); the pool's
 *            own mutex is a leaf.  No call out is made under `lock` but those to a link, whose
 *            callbacks come on the transport's thread; none at all under the pool's.
 * Runs       every prepare and every stop begins a new `run`.  Whatever belongs to an older one (a
 *            stream, a step, a result) is let go of when it shows up. */
#ifndef RG_CLUSTER_RING_STATE_H
#define RG_CLUSTER_RING_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cluster/ring.h"

enum {
    RG_RING_QUEUE = RG_LIMIT_PEERS + 2, /* steps of the deepest ring, and one to spare */
    RG_RING_PENDING = 8,                /* streams that wait for this node's own prepare */
    RG_RING_NAMES_BYTES = 4096          /* names of a certificate */
};

/* ---- buffers --------------------------------------------------------------------------------- */

/* Rows on their way out: filled here, read by the transport. */
struct rg_ring_buffer {
    struct rg_ring_pool *pool;
    struct rg_ring_buffer *next;
    float *rows; /* owned */
    size_t bytes;
};

struct rg_ring_pool {
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t back;
    struct rg_ring_buffer *free;
    uint32_t n_out, most; /* with the transport or a step; how many may be */
};

RG_CHECKED enum rg_code rg_ring_pool_init(struct rg_ring_pool *p, struct rg_err *err);
/* Waits until the transport has given back the last one. */
void rg_ring_pool_destroy(struct rg_ring_pool *p);
/* Makes room for `bytes`.  Waits for one to come back; RG_E_PEER when *live is not `run` any more
 * (rg_ring_pool_wake() makes it look). */
RG_CHECKED enum rg_code rg_ring_pool_take(struct rg_ring_buffer **out, struct rg_ring_pool *p,
                                          size_t bytes, const _Atomic uint64_t *live, uint64_t run,
                                          struct rg_err *err);
void rg_ring_pool_give(struct rg_ring_buffer *b);
void rg_ring_pool_set_most(struct rg_ring_pool *p, uint32_t most);
void rg_ring_pool_wake(struct rg_ring_pool *p);

/* ---- streams --------------------------------------------------------------------------------- */

/* One step stream, to the successor or from the predecessor. */
struct rg_ring_link {
    struct rg_ring *ring;
    struct rg_link *link;
    atomic_int refs;   /* until on_close, and whoever sends */
    uint64_t run;      /* ring->lock: the run that has it; 0: waits for one */
    bool opened;       /* ring->lock: its StepsOpen has come */
    bool dialled;
    struct rg_steps_open open; /* accepted: what the other side said */
    struct rg_ring_link *next; /* among those that wait */
    struct rg_buf head;        /* the transport's thread: a step's bytes before its rows */
    char names[RG_RING_NAMES_BYTES];
};

/* ---- the ring -------------------------------------------------------------------------------- */

enum rg_ring_state {
    RG_RING_IDLE,
    RG_RING_CONNECTING, /* prepared */
    RG_RING_CONNECTED,
    RG_RING_RUNNING,
    RG_RING_DOWN /* on_down was called; stop() has not come yet */
};

/* A received step, on the head a result. */
struct rg_ring_item {
    struct rg_step_head head; /* owned */
    struct rg_frame *frame;   /* owned; NULL: no rows */
    size_t rows_at;
};

struct rg_ring {
    struct rg_ring_events events;
    void *ud;
    char node_id[RG_LIMIT_NODE_ID_BYTES + 1];
    bool is_head;
    uint32_t hidden, vocab_size;
    _Atomic uint64_t run;    /* changed under lock */
    _Atomic uint64_t live;   /* the run while it can go on, else 0 */
    struct rg_ring_pool pool;
    pthread_t thread;        /* a worker's */

    pthread_mutex_t compute; /* held while the stage is used */
    struct rg_stage *stage;  /* owned; changed under both mutexes */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t change;
    enum rg_ring_state state;
    struct rg_ring_epoch e;
    struct rg_ring_link *in, *out;
    struct rg_ring_link *pending; /* accepted, no epoch here wants them yet; newest first */
    uint64_t last_in;             /* number of the last step that came */
    uint64_t last_out;            /* head: of the last step that went */
    struct rg_ring_item queue[RG_RING_QUEUE];
    uint32_t queue_at, n_queued;
    bool closing;
    struct rg_err why;              /* why nothing runs */
    char reason[RG_REASON_BYTES];   /* the same in the membership's words; "" none */
    uint64_t layers_before;         /* computed by stages that are closed */
    struct rg_ring_stats stats;     /* but what is counted elsewhere */
    int64_t began_ns, ended_ns;     /* the epoch's first step, its last one */

    /* Of the thread that computes. */
    struct rg_seq_rows *seqs; /* owned [seqs_capacity] */
    size_t seqs_capacity;
    float *rows_in;           /* owned */
    size_t rows_in_bytes;
    struct rg_buf wire;
};

/* ---- ring.c ---------------------------------------------------------------------------------- */

/* The epoch of `run` cannot go on; on_down is called unless it was, or another run is on. */
void rg_ring_fail(struct rg_ring *r, uint64_t run, const struct rg_err *why);
/* Takes the oldest item out; r->lock is held. */
struct rg_ring_item rg_ring_pop(struct rg_ring *r);
void rg_ring_item_free(struct rg_ring_item *item);
/* Copies an item's rows to r->rows_in and frees its frame. */
RG_CHECKED enum rg_code rg_ring_take_rows(struct rg_ring *r, struct rg_ring_item *item,
                                          struct rg_err *err);
/* r->lock is held. */
static inline bool rg_ring_runs(const struct rg_ring *r, uint64_t run)
{
    return atomic_load(&r->run) == run && r->state == RG_RING_RUNNING;
}

/* Uses the stage for a step of `run`: RG_E_PEER, and nothing computed or nothing to believe, when
 * that is over before or after.  embed_to: only the embedding. */
RG_CHECKED enum rg_code rg_ring_compute(struct rg_ring *r, uint64_t run,
                                        const struct rg_stage_work *work, float *embed_to,
                                        struct rg_err *err);

/* ---- ring_links.c; r->lock is held unless said otherwise ------------------------------------- */

RG_CHECKED enum rg_code rg_ring_dial(struct rg_ring *r, struct rg_transport *t, struct rg_err *err);
/* Gives the streams that wait for this epoch to it, and closes those of older ones. */
void rg_ring_adopt(struct rg_ring *r);
void rg_ring_close_links(struct rg_ring *r, const char *why);
/* Both streams are open: on_connected must be called, without the lock. */
bool rg_ring_settle_connected(struct rg_ring *r);
/* Without the lock: the step's head, then its rows from the buffer, which this takes over. */
RG_CHECKED enum rg_code rg_ring_send(struct rg_ring *r, uint64_t run, const struct rg_step_head *h,
                                     struct rg_ring_buffer *rows, struct rg_err *err);

/* ---- ring_worker.c --------------------------------------------------------------------------- */

void *rg_ring_worker(void *ring); /* the thread */

#endif
