/* grpc_link.h - what a link is made of; seen by grpc_link*.c, grpc_dial.c, grpc_accept.c.
 *
 * Threads    everything that gRPC ends (rg_done) runs on the transport's thread; the mutex guards
 *            what other threads touch too.  link->mutex comes before transport->mutex.
 * Lifetime   three holders: the user's handle, the transport until on_close, and each frame. */
#ifndef RG_CLUSTER_GRPC_LINK_H
#define RG_CLUSTER_GRPC_LINK_H

#include "cluster/grpc_core.h"

enum {
    RG_LINK_PEER_BYTES = 384,
    RG_LINK_GOODBYE_BYTES = 256,
    RG_LINK_CLOSE_MS = 500 /* in which a closed control link may still say what was queued */
};

/* In the initial metadata of a link that was accepted. */
#define RG_OPEN_KEY "renga-link"

struct rg_link {
    struct rg_transport *transport; /* of use until on_close */
    struct rg_link *previous, *next;
    enum rg_link_kind kind;
    bool dialled;
    grpc_call *call;
    grpc_channel *channel; /* dialled */
    struct rg_link_events events;
    void *ud;
    char *peer_id;         /* dialled: owned */
    char peer[RG_LINK_PEER_BYTES]; /* for messages */
    bool swept; /* transport->mutex: cancelled by the transport's end */
    size_t bytes_max, held_max;
    struct rg_done opened, received, sent, finished, ended, woken, parted;

    pthread_mutex_t mutex; /* of what follows */
    atomic_int refs;       /* the user's handle, the transport's, each frame */
    uint32_t outstanding;  /* batches that gRPC has */
    bool started;          /* messages may be given to gRPC */
    bool open;             /* on_open was called, or it was accepted */
    bool paused;           /* too much is held: nothing is being received */
    bool sending, finishing, finish_sent;
    bool closing; /* by this side: local has why, goodbye what the other side is told */
    bool cut;     /* cancelled: gRPC takes no more batches */
    bool timed;   /* cut at until_ms: a dial without an answer, or a close that takes long */
    int64_t until_ms; /* after on_close: when that was */
    char goodbye[RG_LINK_GOODBYE_BYTES];
    bool over;    /* gRPC has said how it ended */
    bool closed;  /* on_close was called */
    size_t held;
    grpc_byte_buffer *incoming, *outgoing;
    grpc_byte_buffer *queue[RG_LIMIT_LINK_QUEUE];
    uint32_t queue_at, n_queued;
    struct rg_err local, why;

    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
    int cancelled;
};

/* NULL: memory is short.  Two holders: the user and the transport. */
struct rg_link *rg_link_new(struct rg_transport *t, enum rg_link_kind kind);
void rg_link_unref(struct rg_link *l);
/* t->mutex is held. */
void rg_link_list_add(struct rg_link *l);
void rg_link_list_remove(struct rg_link *l);

/* With the link's mutex held, between rg_payloads_hold() and rg_link_release_payloads(). */
bool rg_link_start(struct rg_link *l, const grpc_op *op, struct rg_done *done);
void rg_link_receive(struct rg_link *l);
void rg_link_pump(struct rg_link *l); /* gives gRPC the next message, or the end */
/* Closes it at once: for a rule that was broken, with local set. */
void rg_link_cut(struct rg_link *l, grpc_status_code status, const char *text);
/* As rg_link_close(); now: nothing that was queued is said before. */
void rg_link_close_locked(struct rg_link *l, const char *why, bool now);
/* Cut at until_ms; INT64_MAX: not any more. */
void rg_link_set_time(struct rg_link *l, int64_t until_ms);
void rg_link_release_payloads(struct rg_link *l);

/* A dialled link is open: says so, once.  The mutex is free meanwhile. */
void rg_link_open(struct rg_link *l);

/* Begins a handler of a batch that has ended: locks.  rg_link_leave() unlocks, and closes the link
 * when gRPC holds nothing of it any more. */
struct rg_link *rg_link_enter(void *owner);
void rg_link_leave(struct rg_link *l);

/* The names of the other side's certificate, separated by '\n'; "" when there is none. */
void rg_call_names(grpc_call *call, char *names, size_t size);

#endif
