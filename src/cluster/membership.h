/* membership.h - who is there, which plan counts, and when steps may run: the state machine of one
 * node, without I/O, clock or threads.
 *
 *   (state, event, now) -> (state, actions)
 *
 * The transport is a thin skin (node.c): it turns bytes into events and actions into bytes.
 * tests/sim runs whole clusters of this core on a simulated network.
 *
 * Links      every pair of peers has one control link; the one with the lower number dials.  Both
 *            say Hello first, and check the other's: a mismatch is refused by both, naming both
 *            values.
 * Liveness   a Heartbeat every RG_LIMIT_HEARTBEAT_MS; RG_LIMIT_PEER_SILENCE_MS of silence, or busy
 *            without a layer finished for stuck_ms, and the peer is dead.
 * Epochs     the head proposes a plan under a new epoch when enough peers are up; each node loads
 *            its part and connects to its successor, then says Ready; the head commits; after all
 *            CommitAcks (and its own part) steps run.  Whatever breaks ends the epoch: the head
 *            proposes the next one, with a growing pause when plans fail in a row.
 *            A worker takes a Propose from the head alone, and only epochs newer than any it saw of
 *            that boot; a link to a new boot of the head ends what the old boot began.
 * Invariants (asserted here and by the simulator)
 *            a worker starts an epoch only between the head's Commit and its end; the head starts
 *            one only when every node of it has acked; at most one epoch runs on a node; a node
 *            never runs two plans under one epoch.
 * Bytes from peers never stop at an assert: a message that the state does not allow ends its link.
 *       */
#ifndef RG_CLUSTER_MEMBERSHIP_H
#define RG_CLUSTER_MEMBERSHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/message.h"

struct rg_membership;

/* Makes the plan of the nodes that are up: peers[i] has hellos[i], NULL for one that is not up; the
 * head (number 0) is the own hello.  Fills all but the epoch.  Pure. */
typedef enum rg_code rg_propose_fn(void *ud, const struct rg_hello *const *hellos, uint32_t n_peers,
                                   struct rg_proposal *out, struct rg_err *err);

struct rg_membership_options {
    uint32_t n_peers, self;       /* numbers as in discovery.h; 0 is the head */
    const char *const *ids;       /* [n_peers]; copied */
    const struct rg_hello *hello; /* the own; copied.  hello.boot is the epoch's boot */
    uint32_t wait_for;            /* head: other peers that must be up before it plans */
    int64_t settle_ms;            /* head: how long it waits for the rest after that */
    /* Head: after the end of a plan that ran it waits so long for those of its nodes that are lost,
     * then plans with whoever is up.  When one of them is back, and stays for settle_ms, it ends
     * that plan and makes one with it.  A node that comes and goes is not waited for, and must stay
     * longer (membership_flap.c). */
    int64_t grace_ms;
    int64_t stuck_ms;
    rg_propose_fn *propose; /* head */
    void *ud;
};

enum rg_member_event_kind {
    RG_MEMBER_LINK_UP,     /* the control link to `peer` is open */
    RG_MEMBER_LINK_DOWN,   /* it ended or could not be opened; err */
    RG_MEMBER_MESSAGE,     /* from `peer` */
    RG_MEMBER_LOADED,      /* own part of `epoch` is loaded and the successor is connected */
    RG_MEMBER_LOAD_FAILED, /* epoch, err */
    RG_MEMBER_RING_DOWN,   /* a step stream of `epoch` ended, or a step came that the ring must not
                              have; err */
    RG_MEMBER_WORK,        /* layers_done, busy, loaded_bytes, load_bytes of this node */
    RG_MEMBER_TICK         /* time went on; at least every 100 ms */
};

struct rg_member_event {
    enum rg_member_event_kind kind;
    uint32_t peer;
    const struct rg_message *message; /* borrowed */
    struct rg_epoch epoch;
    const struct rg_err *err; /* borrowed */
    uint64_t layers_done, loaded_bytes, load_bytes;
    bool busy;
};

enum rg_member_action_kind {
    RG_MEMBER_SEND,  /* message to peer */
    RG_MEMBER_DROP,  /* end the control link to peer; err says why.  No LINK_DOWN needs to follow */
    RG_MEMBER_LOAD,  /* proposal: free what another epoch had, load the own part (keep it when it is
                        the same), connect to the successor, then LOADED or LOAD_FAILED */
    RG_MEMBER_START, /* steps of epoch may run here */
    RG_MEMBER_STOP,  /* epoch is over: nothing of it may run or be answered any more; err */
    RG_MEMBER_FREE,  /* worker: the head is gone; free weights and KV */
    RG_MEMBER_SAY    /* a log line: level and err.message, about peer (UINT32_MAX: none) */
};

struct rg_member_action {
    enum rg_member_action_kind kind;
    uint32_t peer;
    struct rg_message message;          /* owned by the list of actions */
    const struct rg_proposal *proposal; /* valid until the next call */
    struct rg_epoch epoch;
    struct rg_err err;
    int level; /* enum rg_log_level */
};

struct rg_member_actions {
    struct rg_member_action *items; /* owned */
    size_t n, capacity;
};

void rg_member_actions_clear(struct rg_member_actions *a); /* frees the messages, keeps the room */
void rg_member_actions_free(struct rg_member_actions *a);

enum rg_peer_state {
    RG_PEER_DOWN,     /* no control link */
    RG_PEER_GREETING, /* link, but its Hello has not come */
    RG_PEER_UP,
    RG_PEER_REFUSED /* its Hello does not fit ours; tried again with the next link */
};

enum rg_epoch_state {
    RG_EPOCH_NONE,
    RG_EPOCH_LOADING, /* proposed; parts are being loaded */
    RG_EPOCH_READY,   /* worker: Ready was sent; head: Commit was sent */
    RG_EPOCH_RUNNING
};

struct rg_peer_view {
    enum rg_peer_state state;
    char reason[RG_REASON_BYTES]; /* why it is not up */
    int64_t rtt_ns;               /* of the control link; 0: not yet measured */
    int64_t heard_ms;             /* ago */
    uint64_t layers_done, loaded_bytes, load_bytes;
    bool busy, ready; /* ready: said so for the present epoch */
    uint64_t memory_bytes, claimed_bytes;
    char build[RG_SHORT_TEXT_BYTES];
};

RG_CHECKED enum rg_code rg_membership_open(struct rg_membership **out,
                                           const struct rg_membership_options *options,
                                           struct rg_err *err);
void rg_membership_close(struct rg_membership *m); /* accepts NULL */

/* Appends to `actions`, to be done in their order.  RG_E_NOMEM alone: the event counts as not seen,
 * and the caller ends the process or the link. */
RG_CHECKED enum rg_code rg_membership_step(struct rg_membership *m, int64_t now_ns,
                                           const struct rg_member_event *event,
                                           struct rg_member_actions *actions, struct rg_err *err);

/* A new link's Hello says that it is of `peer`.  True: of a second process under that id, while the
 * first one is up and answers; the link is to be ended, before a LINK_UP. */
bool rg_membership_is_second(const struct rg_membership *m, uint32_t peer, uint64_t boot,
                             int64_t now_ns);

/* For status pages, tests and the simulator's invariants. */
enum rg_epoch_state rg_membership_state(const struct rg_membership *m, struct rg_epoch *epoch);
const struct rg_proposal *rg_membership_proposal(const struct rg_membership *m); /* NULL: none */
void rg_membership_peer(const struct rg_membership *m, uint32_t peer, int64_t now_ns,
                        struct rg_peer_view *out);
/* Why no epoch runs, in one line that names a node: "waiting for m3-studio-worker: refused ...". */
void rg_membership_reason(const struct rg_membership *m, char *out, size_t size);

#endif
