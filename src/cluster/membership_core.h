/* membership_core.h - the insides of a membership; private to membership*.c.
 *
 * membership.c opens, closes and takes an event apart; membership_links.c knows the peers' links,
 * membership_hello.c what two of them must agree on, membership_epoch.c how a plan ends,
 * membership_head.c and membership_worker.c what the two roles do, membership_flap.c who comes and
 * goes, membership_reach.c who does not reach whom, membership_actions.c the list of what is to be
 * done, membership_view.c what others may see.
 * Failure    all that a step may need is reserved before it begins; nothing after that can fail. */
#ifndef RG_CLUSTER_MEMBERSHIP_CORE_H
#define RG_CLUSTER_MEMBERSHIP_CORE_H

#include <stdarg.h>

#include "base/limits.h"
#include "base/log.h"
#include "cluster/membership.h"

#define RG_NO_PEER UINT32_MAX
#define RG_NS_PER_MS INT64_C(1000000)

enum {
    RG_MEMBER_REST_MS = 300,        /* after any plan: the ends of a dead node's links come in */
    RG_MEMBER_PAUSE_MS = 1000,      /* after the first plan that failed; doubles ... */
    RG_MEMBER_PAUSE_MOST_MS = 5000, /* ... up to this: a ring is back 10 s after its nodes are */
    RG_MEMBER_RAN_MS = 1000,        /* an epoch that ran that long has not failed */
    RG_MEMBER_ANSWERS_MS = 3 * RG_LIMIT_HEARTBEAT_MS, /* heard of since: the peer is there */
    RG_MEMBER_UNUSED_MS = 20000, /* a worker without a plan: another head may have it */
    RG_MEMBER_HEADS = 8          /* processes of a head that a worker remembers */
};

struct rg_member_peer {
    char id[RG_LIMIT_NODE_ID_BYTES + 1];
    enum rg_peer_state state;
    char reason[RG_REASON_BYTES];       /* why it is not up */
    char said[RG_REASON_BYTES];         /* the last reason that was logged: not again and again */
    struct rg_hello hello;              /* the last one that was accepted; owns its card */
    uint64_t boot;                      /* of that one; 0: none yet */
    int64_t link_ns, heard_ns, beat_ns; /* link came up; last message; last own heartbeat */
    int64_t progress_ns;                /* it last finished a layer, or was not busy */
    uint64_t time_ns;                   /* of its last heartbeat; 0: none on this link */
    int64_t time_came_ns;
    int64_t rtt_ns;
    uint64_t layers_done, loaded_bytes, load_bytes;
    bool busy;
    bool in_plan, ready, acked; /* head: of the present epoch */
    uint32_t unreached;         /* head: the node that it cannot reach, by its own word */
    bool cut_off;               /* head: planned without, for another node cannot reach it */
    int64_t up_ns;              /* it is up since */
    int64_t fell_ns;            /* head: a plan last ended because of it */
    int64_t calm_ns;            /* head: until then that is remembered */
    int64_t returned_ns; /* head: a plan was last ended so that it gets layers again; -1: never */
    bool flaps;          /* head: it comes and goes, until calm_ns */
    bool planned;        /* head: it was up when the last plan was made */
    bool wanted; /* head: ... when one was made that ran: without it is only for the time being */
};

struct rg_membership {
    uint32_t n_peers, self, wait_for;
    int64_t settle_ns, grace_ns, stuck_ns;
    rg_propose_fn *propose;
    void *ud;
    struct rg_hello hello;        /* owns its card */
    struct rg_member_peer *peers; /* owned [n_peers]; of the own one only the work counts */
    const struct rg_hello **up;   /* owned [n_peers]: propose()'s argument */

    /* of the step that is under way */
    int64_t now;
    struct rg_member_actions *actions;
    size_t actions_most;           /* of them at its end: what was reserved */
    struct rg_message spare_hello; /* a copy of the own one, or of the one that came */
    bool has_spare_hello;
    struct rg_proposal *spares[RG_LIMIT_PEERS]; /* owned; for Propose messages */
    uint32_t n_spares;

    /* the present epoch, and the newest of its head: that one's boot and count */
    enum rg_epoch_state state;
    struct rg_proposal plan;
    struct rg_epoch last;
    struct rg_epoch before[RG_MEMBER_HEADS]; /* worker: the newest of heads that it had before */
    uint32_t n_before;
    int64_t since_ns; /* the state */
    bool own_loaded;  /* head */
    bool has_part;    /* worker: a LOAD that no FREE followed */
    uint32_t unreached; /* worker: a neighbour that was lost and is not up, or RG_NO_PEER */

    /* head, between epochs */
    int64_t enough_ns;      /* enough peers are up since; -1: they are not */
    int64_t without_ns;     /* lost nodes are waited for until then; -1: one runs, or none has */
    int64_t not_before_ns;  /* the next plan, after the end of one */
    int64_t retry_ns;       /* the next plan, after none could be made; 0: at once */
    uint32_t n_counted;     /* peers that counted when that was last asked */
    uint32_t fails;         /* plans in a row that ended before they ran */
    uint32_t unplanned;     /* times in a row that propose() made none */
    char why[RG_ERR_BYTES]; /* the last plan ended, or could not be made */
};

/* ---- membership_actions.c -------------------------------------------------------------------- */

RG_CHECKED enum rg_code rg_member_reserve(struct rg_membership *m,
                                          const struct rg_member_event *event,
                                          struct rg_member_actions *actions, struct rg_err *err);
void rg_member_release(struct rg_membership *m); /* what the step did not need */
struct rg_member_action *rg_member_emit(struct rg_membership *m, enum rg_member_action_kind kind,
                                        uint32_t peer);
struct rg_message *rg_member_send(struct rg_membership *m, uint32_t peer,
                                  enum rg_message_kind kind);
void rg_member_send_plan(struct rg_membership *m, uint32_t peer);
/* Texts of others are cut to their room at a border of UTF-8. */
RG_PRINTF(3, 4)
void rg_member_text(char *out, size_t size, const char *format, ...);
RG_PRINTF(3, 0)
void rg_member_vtext(char *out, size_t size, const char *format, va_list args);
RG_PRINTF(4, 5)
void rg_member_say(struct rg_membership *m, int level, uint32_t peer, const char *format, ...);

/* ---- membership_hello.c ---------------------------------------------------------------------- */

/* True: the two can work together.  Else *r says what differs. */
bool rg_hello_agrees(struct rg_refuse *r, const struct rg_hello *mine, const struct rg_hello *yours,
                     const char *expected_id);
/* What both have on their disks is the same.  `name`: the node that `mine` belongs to, before its
 * digests in *r; NULL: the own one. */
bool rg_model_agrees(struct rg_refuse *r, const struct rg_model_card *mine, const char *name,
                     const struct rg_model_card *yours);

/* ---- membership_links.c ---------------------------------------------------------------------- */

void rg_member_link_up(struct rg_membership *m, uint32_t peer);
void rg_member_link_down(struct rg_membership *m, uint32_t peer, const char *why);
void rg_member_message(struct rg_membership *m, uint32_t peer, const struct rg_message *message);
void rg_member_links_tick(struct rg_membership *m);
/* The peer broke a rule, or is dead: ends its link. */
RG_PRINTF(3, 4)
void rg_member_end_link(struct rg_membership *m, uint32_t peer, const char *format, ...);
void rg_member_refuse(struct rg_membership *m, uint32_t peer, const struct rg_refuse *r);

/* ---- membership_epoch.c ---------------------------------------------------------------------- */

enum rg_epoch_age {
    RG_AGE_LIVE,   /* the present epoch */
    RG_AGE_OVER,   /* an older one: a late message of it is ignored */
    RG_AGE_UNKNOWN /* none that this node has seen */
};

enum rg_epoch_age rg_member_age(const struct rg_membership *m, struct rg_epoch e);
bool rg_member_is_live(const struct rg_membership *m, struct rg_epoch e);
/* The head is another process now: the newest epoch is the one that was seen of that. */
void rg_member_turn_to(struct rg_membership *m, uint64_t boot);
/* The number of the peer with this id, or RG_NO_PEER. */
uint32_t rg_member_find(const struct rg_membership *m, const char *id);
/* NULL: it may be loaded.  Else what is wrong with the plan. */
const char *rg_member_plan_fault(const struct rg_membership *m, const struct rg_proposal *p);
void rg_member_begin(struct rg_membership *m, const struct rg_proposal *p);
void rg_member_enter(struct rg_membership *m, enum rg_epoch_state state);

struct rg_member_end {
    enum rg_code code;
    uint32_t lost;   /* the peer whose loss it is, or RG_NO_PEER */
    uint32_t source; /* the peer that said so and needs not be told, or RG_NO_PEER */
};

/* Ends the present epoch here, and tells those who must know. */
RG_PRINTF(3, 4)
void rg_member_end_epoch(struct rg_membership *m, struct rg_member_end end, const char *format,
                         ...);

/* ---- membership_reach.c ---------------------------------------------------------------------- */

/* Worker: a neighbour is lost, or could not be connected to. */
void rg_member_miss(struct rg_membership *m, uint32_t peer);
/* Worker: the one that it misses still, or RG_NO_PEER. */
uint32_t rg_member_missed(struct rg_membership *m);
/* Head: who is up here and cannot reach another one that is. */
void rg_member_cut_off(struct rg_membership *m);

/* ---- membership_flap.c: of the head ---------------------------------------------------------- */

/* A plan ends because of this node. */
void rg_member_fell(struct rg_membership *m, uint32_t peer);
/* It has ended too many of late: nobody waits for it. */
bool rg_member_flaps(const struct rg_membership *m, uint32_t peer);
/* It is up, and a plan may have it. */
bool rg_member_counts(const struct rg_membership *m, uint32_t peer);
/* It is up, and has ended no plan, for so long. */
int64_t rg_member_stayed_ns(const struct rg_membership *m, uint32_t peer);

/* ---- the roles ------------------------------------------------------------------------------- */

/* Propose ... Abort, from a peer that is up. */
void rg_member_head_message(struct rg_membership *m, uint32_t peer,
                            const struct rg_message *message);
void rg_member_worker_message(struct rg_membership *m, uint32_t peer,
                              const struct rg_message *message);
/* The own part is loaded. */
void rg_member_head_loaded(struct rg_membership *m);
void rg_member_worker_loaded(struct rg_membership *m);
void rg_member_worker_load_failed(struct rg_membership *m, const struct rg_err *err);
/* A peer that was up is not any more. */
void rg_member_head_lost(struct rg_membership *m, uint32_t peer, const char *why);
void rg_member_worker_lost(struct rg_membership *m, uint32_t peer, const char *why);
/* A peer is up: what did not go without it may go now. */
void rg_member_head_hope(struct rg_membership *m);
/* After every event of the head. */
void rg_member_head_consider(struct rg_membership *m);
uint32_t rg_member_n_up(const struct rg_membership *m); /* of those that count */

#endif
