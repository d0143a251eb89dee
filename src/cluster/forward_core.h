/* forward_core.h - what forward.c, forward_node.c and forward_head.c share: one end of a forwarding
 * link, and how what comes on the transport's thread reaches the loop.
 *
 * Threads    a link's callbacks only put something into their end, under the lock, and wake the
 *            loop, which calls the end's look().
 * Frames     wait in their end until they are taken; the transport receives no more while many
 *            wait, so a slow taker stops the sender.
 * Lifetime   an end is freed by its look(), when rg_forward_end_may_go() and nothing else is open.
 */
#ifndef RG_CLUSTER_FORWARD_CORE_H
#define RG_CLUSTER_FORWARD_CORE_H

#include "base/buf.h"
#include "base/limits.h"
#include "cluster/forward.h"

struct rg_forward_end {
    struct rg_forwards *all;
    struct rg_link *link;
    void (*look)(struct rg_forward_end *e);
    void (*tick)(struct rg_forward_end *e); /* each second; may be NULL */
    struct rg_forward_end *previous, *next; /* of all->ends */
    bool listed;
    bool ended; /* the link was closed when look() was called; no callback of it comes any more */
    /* under all->lock: */
    struct rg_forward_end *next_ready;
    bool ready, sent, closed;
    struct rg_err why;
    struct rg_frame **frames; /* owned [n_frames] from frame_at on */
    size_t frame_at, n_frames, capacity;
};

struct rg_forwards {
    uv_loop_t *loop;
    uv_async_t wake;
    uv_timer_t timer;
    struct rg_forward_end *ends; /* those that the loop knows */
    char api_host[64];
    uint16_t api_port;
    uint32_t n_handles, n_served; /* served: admitted by the head */
    void (*on_closed)(void *ud);
    void *ud;
    char read_buf[(64 << 10) - 16]; /* what is read at once goes into one message */
    uv_mutex_t lock; /* of what follows, and of the marked part of every end */
    struct rg_forward_end *first_ready, *last_ready;
    uint32_t n_ends;
    bool closing;
};

/* False: the node is closing. */
bool rg_forward_end_init(struct rg_forward_end *e, struct rg_forwards *all,
                         void (*look)(struct rg_forward_end *e));
/* Frees what the end holds, but not the end, which its owner frees after it. */
void rg_forward_end_free(struct rg_forward_end *e);
/* The callbacks of its link; ud: the end. */
extern const struct rg_link_events rg_forward_end_events;

/* On the loop. */
void rg_forward_end_wake(struct rg_forward_end *e); /* look() is called once more */
void rg_forward_end_list(struct rg_forward_end *e); /* the end gets ticks */
struct rg_frame *rg_forward_end_pop(struct rg_forward_end *e); /* NULL: none waits */
void rg_forward_end_drop(struct rg_forward_end *e);            /* all that wait */
bool rg_forward_end_has_frames(struct rg_forward_end *e);
bool rg_forward_end_take_sent(struct rg_forward_end *e); /* since the last time */
/* The link has ended and nothing has woken the end since. */
bool rg_forward_end_may_go(struct rg_forward_end *e);
bool rg_forwards_are_closing(struct rg_forwards *f);

/* The frame's bytes as a ForwardMessage: *text is all of it (owned), *data points into it.  Frees
 * the frame. */
RG_CHECKED enum rg_code rg_forward_frame_read(struct rg_frame *f, void **text, const uint8_t **data,
                                              size_t *n, struct rg_err *err);

#endif
