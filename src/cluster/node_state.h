/* node_state.h - what the files of one node share; private to node*.c.
 *
 * node.c opens and closes; node_notes.c brings events of other threads to the loop; node_tick.c
 * turns the clock; node_links.c has the control links; node_load.c the own part of the model;
 * node_plan.c makes plans; node_actions.c does what the membership says.
 * Threads    the loop's, but for the notes: the transport's thread writes them, under the lock. */
#ifndef RG_CLUSTER_NODE_STATE_H
#define RG_CLUSTER_NODE_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cluster/model_card.h"
#include "cluster/node.h"

enum {
    RG_NODE_TICK_MS = 100,
    RG_NODE_SETTLE_MS = 3000,    /* the head waits that long for the rest after --wait-for-peers */
    RG_NODE_NOTES_MAX = 4096,    /* unread events of the transport; more and a link is cut */
    RG_NODE_STRANGERS_MAX = 64,  /* accepted links whose Hello has not come */
    RG_NODE_REREAD_MS = 2000,    /* discovery.json is looked at that often */
    RG_NODE_TRIM_MS = 60000      /* free pages of the heaps go back that often */
};

struct rg_node_link; /* one control link and who is at its other end */

struct rg_node_peer {
    struct rg_node_link *link; /* NULL: none */
    bool dialling;             /* the link has not opened yet */
    int64_t redial_ms;         /* not before */
    int64_t pause_ms;          /* the next wait between two tries */
    char said[RG_ERR_BYTES];   /* the last line about it, so that it is not said again and again */
    int64_t said_ms;
};

/* An event of the transport's thread (or another), on its way to the loop. */
enum rg_note_kind {
    RG_NOTE_OPEN,
    RG_NOTE_MESSAGE,
    RG_NOTE_CLOSE,
    RG_NOTE_ACCEPT,
    RG_NOTE_RING_CONNECTED,
    RG_NOTE_RING_DOWN,
    RG_NOTE_HOPELESS
};

struct rg_note {
    struct rg_note *next;
    enum rg_note_kind kind;
    struct rg_node_link *link;
    struct rg_frame *frame;
    struct rg_epoch epoch;
    struct rg_err err;
};

/* The own part, as it is loaded. */
struct rg_node_part {
    struct rg_model_part part;
    uint32_t n_blocks, block_tokens;
    bool f32;
    struct rg_checkpoint *checkpoint; /* NULL: nothing is loaded */
    struct rg_backend *backend;
    struct rg_model *model;
};

/* A job on a worker thread: free what is loaded, or load a proposal's own part.  The newest order
 * counts; one that comes while a job runs stops it and follows. */
struct rg_node_job {
    uv_work_t work;
    bool running;
    bool again;                /* an order waits */
    bool frees, next_frees;    /* of the running job; of the waiting order */
    struct rg_proposal proposal, next;
    enum rg_code code;
    struct rg_err err;
    _Atomic bool stop;
    _Atomic uint64_t done, total; /* bytes */
};

struct rg_node {
    uv_loop_t *loop;
    struct rg_node_events events;
    void *ud;
    struct rg_node_options options;
    char *discovery_path, *layers; /* owned */
    struct rg_plan_range ranges[RG_LIMIT_PEERS];
    uint32_t n_ranges;
    struct rg_discovery discovery; /* changed by the loop under the lock */
    int64_t discovery_read_ms, discovery_mtime_ns, trimmed_ms;
    uint32_t self; /* its number; changes with discovery.json */
    bool is_head;  /* never changes */
    bool peers_wait; /* discovery.json has other nodes, for the next plan */
    bool closing;

    struct rg_transport *transport;
    struct rg_forwards *forwards;
    bool forwards_open;
    uv_timer_t tick;
    uv_async_t wake;
    int n_handles; /* of the two above that are not closed */

    pthread_mutex_t lock;
    struct rg_note *notes_first, *notes_last;
    uint32_t n_notes;
    bool takes_links; /* set by rg_node_begin(); under the lock */

    /* from rg_node_begin() on */
    const struct rg_checkpoint *checkpoint;
    struct rg_hello hello; /* owns its card */
    struct rg_node_model asked;
    struct rg_membership *membership;
    struct rg_ring *ring;
    struct rg_pipeline *pipeline; /* the engine's; the head's */
    bool formed;
    uint32_t context, parallel; /* of the first plan; 0 before it */
    struct rg_node_peer peers[RG_LIMIT_PEERS];
    struct rg_node_link *links; /* all that are not freed */
    uint32_t n_strangers;
    char stranger_said[RG_ERR_BYTES]; /* the last line about one that was turned away */
    int64_t stranger_said_ms, unknown_said_ms; /* the latter under the lock */
    uint64_t out_layers;  /* head: of all nodes, while a step is out */
    int64_t out_since_ms; /* when one of them finished a layer, or was busy */
    uint64_t random; /* jitter */

    struct rg_node_part loaded;
    struct rg_node_job job;
    struct rg_epoch epoch; /* the one that is loaded or runs */
    bool part_loaded, ring_connected, load_told; /* of that epoch */
    uint64_t epoch_changes;
    struct rg_member_event missed; /* memory was short for it; told again with the next tick */
    struct rg_err missed_err;
    bool has_missed;
};

/* node.c: under a new boot */
RG_CHECKED enum rg_code rg_node_open_membership(struct rg_node *n, struct rg_err *err);

/* node_notes.c */
void rg_node_note(struct rg_node *n, enum rg_note_kind kind, struct rg_node_link *link,
                  struct rg_frame *frame, struct rg_epoch epoch, const struct rg_err *err);

void rg_node_on_wake(uv_async_t *wake);
void rg_node_tell_if_loaded(struct rg_node *n);

/* node_tick.c */
void rg_node_on_tick(uv_timer_t *tick);
int64_t rg_node_discovery_time(const struct rg_node *n); /* of the file's change, ns; 0: none */

/* node_actions.c: an event to the membership, and all that follows from it. */
void rg_node_event(struct rg_node *n, const struct rg_member_event *event);
void rg_node_tell_missed(struct rg_node *n);

/* node_links.c */
bool rg_node_accept_control(struct rg_node *n, struct rg_link *l, const char *names,
                            const char *address, struct rg_link_events *events, void **ud);
/* One of a certificate's names is a peer's; else the log says whose it is.  Any thread. */
bool rg_node_knows(struct rg_node *n, const char *names, const char *address);
void rg_node_dial_due(struct rg_node *n, int64_t now_ms);
void rg_node_link_note(struct rg_node *n, struct rg_note *note); /* takes its frame */
void rg_node_send(struct rg_node *n, uint32_t peer, const struct rg_message *m);
/* No LINK_DOWN follows. */
void rg_node_drop(struct rg_node *n, uint32_t peer, const char *why);
void rg_node_drop_all(struct rg_node *n, const char *why);
void rg_node_strangers_tick(struct rg_node *n, int64_t now_ms);
void rg_node_links_free(struct rg_node *n); /* after the transport was closed */

/* node_load.c */
void rg_node_load(struct rg_node *n, const struct rg_proposal *p);
void rg_node_free_part(struct rg_node *n);
void rg_node_load_stop(struct rg_node *n);
/* The own place in a proposal; NULL: none. */
const struct rg_ring_node *rg_node_own(const struct rg_node *n, const struct rg_proposal *p);
void rg_node_part_close(struct rg_node_part *p);

/* node_plan.c */
rg_propose_fn rg_node_propose; /* ud: the node */
void rg_node_limits(const struct rg_node *n, const struct rg_proposal *p,
                    struct rg_step_limits *out);

#endif
