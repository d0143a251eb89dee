/* sim.h - whole clusters of the membership on a simulated network and clock, all from one seed.
 *
 * A world has 2..5 nodes.  Each is what node.c is to the membership, only simpler: it dials, hands
 * on messages and does the actions.  Time is that of the next event; nothing else draws a random
 * number, so a seed is a history.  In some there is a rival: a second process that calls itself the
 * head and dials the same workers.  It is node 5 of the world, and number 0 to every other node.
 *   world.c    time, random numbers, the trace
 *   network.c  control links: each direction keeps its order or breaks
 *   node.c     processes, their actions, loading
 *   streams.c  the head's engine with its clients, and steps around the ring
 *   faults.c   what goes wrong, and when
 *   checks.c   what must always be true */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include "base/mem.h"
#include "cluster/membership.h"

enum { NODES_MAX = 5, N_LAYERS = 8, TICK_MS = 100, SETTLE_MS = 1000, STUCK_MS = 6000 };
enum { RIVAL = NODES_MAX, WORLD_MAX = NODES_MAX + 1, HEADS = 2 };
enum { FALLS_KEPT = 16, DIALS_KEPT = 8 };
enum { KEPT = 8 }; /* messages of a pair that a replay draws from */
enum {
    CLIENTS = 3, /* of the head, each with one request after the other */
    PROMPT_MOST = 12,
    ANSWER_MOST = 20,
    STEP_ROWS = 4,
    DEPTH_MOST = NODES_MAX + 1, /* steps under way */
    STEPS_MOST = 64,            /* on their way to a node, also of plans that are over */
    PROGRESS_MS = 2500          /* every client gets a token within that, while a ring runs */
};

#define MS INT64_C(1000000)
#define NEVER INT64_MAX

/* ---- the network ---------------------------------------------------------------------------- */

struct item {
    struct item *next;
    int64_t due, sent;
    bool is_end; /* the link ends here; else a message */
    struct rg_message message;
};

struct link {
    uint32_t node[2];          /* the dialler, the acceptor */
    uint64_t life[2], boot[2]; /* of their processes */
    bool open[2];              /* this end uses it */
    bool accepted, opened;     /* the acceptor has it; the dialler knows */
    int64_t since;
    struct item *first[2], *last[2]; /* what travels from that end */
    bool pumping[2];
};

/* ---- steps ---------------------------------------------------------------------------------- */

struct step {
    struct rg_epoch epoch;
    uint64_t seq;
    uint32_t client, position, n_rows;
    uint16_t tokens[STEP_ROWS];
    bool draws;    /* its last row is the answer's last */
    uint32_t hash; /* of that row; 0: no node has computed it */
    uint32_t from;
    int64_t due, sent;
};

struct client {
    uint16_t tokens[PROMPT_MOST + ANSWER_MOST + 1]; /* the engine's: the prompt, what was drawn */
    uint32_t n_prompt, n_tokens;
    uint32_t n_sent; /* of them, in steps of the present plan */
    uint32_t n_want, n_told;
    uint32_t hash; /* of the prompt and all that it was told: the client's own */
    int64_t told_at;
    bool open; /* asked, and not ended: by its last token, or with the head */
};

/* The head's: goes with the plan. */
struct sim_engine {
    uint64_t last_out;
    struct step flights[DEPTH_MOST];
    uint32_t flight_at, n_flights, next;
};

/* ---- nodes ---------------------------------------------------------------------------------- */

/* The own part of an epoch: loading, prepared (streams may open), told (LOADED), started. */
struct part {
    bool active, prepared, told, started, fails;
    struct rg_proposal plan;
    int64_t began_at, ready_at, prepared_at;
};

enum process { DEAD, ALIVE, PAUSED };

struct node {
    enum process process;
    bool unplugged;         /* dead without a word: nothing answers for it */
    uint64_t life;          /* counts processes */
    int64_t died_at, ahead; /* its clock against the world's */
    struct rg_membership *m;
    struct rg_member_actions actions;
    uint64_t boot;
    struct link *links[NODES_MAX]; /* NULL: none; of the number, as all that follows */
    bool up[NODES_MAX];            /* the membership was told of it */
    int64_t up_at[NODES_MAX];
    int64_t dials[NODES_MAX][DIALS_KEPT]; /* when it dialled */
    uint32_t n_dials[NODES_MAX];
    int64_t falls[NODES_MAX][FALLS_KEPT]; /* head: when a plan ended because of that one */
    uint32_t n_falls[NODES_MAX];
    int64_t planned_at; /* head: its last plan */
    bool has_weights;   /* of a LOAD that no FREE followed */
    int64_t latest;     /* all that came to it was sent before that */
    int64_t redial_at[NODES_MAX], pause_ms[NODES_MAX];
    int64_t heard_at[NODES_MAX];
    struct part part;
    uint64_t layers_done;
    bool busy, stuck;
    int64_t slow_ms; /* all that it sends and computes takes longer */
    uint64_t last_in;
    struct step steps[STEPS_MOST], repeats; /* on their way to it, in their order; the last one */
    uint32_t step_at, n_steps;
    bool takes_steps;
    uint16_t kv[CLIENTS][PROMPT_MOST + ANSWER_MOST + 1];
    int64_t resumed_at;
    int64_t orphan_since; /* runs an epoch that the head is not in */
};

/* What the world knows of an epoch. */
struct history {
    struct rg_proposal plan;
    bool started[WORLD_MAX];
    uint64_t loaded[WORLD_MAX]; /* by that life of the node; 0: not */
    uint64_t lives[WORLD_MAX];  /* when it was proposed */
};

enum event_kind {
    EV_TICK,      /* a: node, life */
    EV_ACCEPT,    /* link */
    EV_OPENED,    /* link */
    EV_PUMP,      /* link, a: end that sent */
    EV_STEP,      /* a: node, life: the next one comes to it */
    EV_TURN,      /* of a head's engine: a: node, life, epoch */
    EV_RING_DOWN, /* a: node, life, epoch */
    EV_LOADED,    /* a: node, life, epoch: one that is over */
    EV_CRASH,     /* a: node: of one that flaps */
    EV_RESET,     /* a: node: the same */
    EV_RESTART,   /* a: node */
    EV_RESUME,    /* a: node */
    EV_UNSTICK,   /* a: node */
    EV_UNSLOW,    /* a: node */
    EV_UNBLOCK,   /* a, b */
    EV_BLOCK,     /* a, b: of a flapping way */
    EV_FAULT,
    EV_QUIET /* no more faults */
};

struct event {
    int64_t at;
    uint64_t order;
    enum event_kind kind;
    uint32_t a, b;
    uint64_t life;
    struct link *link;
    struct rg_epoch epoch;
};

/* What happened, so that it is seen that all of it did. */
enum fault {
    FAULT_KILL,
    FAULT_POWER,
    FAULT_RESTART,
    FAULT_PAUSE,
    FAULT_CUT_ONE_WAY,
    FAULT_CUT,
    FAULT_ISOLATED,
    FAULT_WAY_FLAPS,
    FAULT_NODE_FLAPS,
    FAULT_RESET,
    FAULT_HALF_OPEN,
    FAULT_LOST,
    FAULT_DELAY,
    FAULT_REORDERED,
    FAULT_REPEATED,
    FAULT_STEP_REPEATED,
    FAULT_STREAM,
    FAULT_STUCK,
    FAULT_SLOW,
    FAULT_LOAD,
    FAULT_MEMORY,
    FAULT_TWO_HEADS,
    FAULT_SECOND_AWAY,
    FAULT_HEAD_TAKES_OVER,
    FAULT_OTHER_FILE,
    FAULT_OTHER_MODEL,
    FAULTS
};

struct world {
    uint64_t seed, random;
    bool trace;
    int64_t now;
    struct event *events; /* owned; a heap, the next one first */
    size_t n_events, events_capacity;
    uint64_t order;
    uint64_t steps_done, tokens_told;
    uint64_t faults[FAULTS];
    struct client clients[HEADS][CLIENTS];
    struct sim_engine engines[HEADS];

    int64_t grace_ms;
    bool uses[HEADS][NODES_MAX]; /* it was there when the head made its last plan */
    bool had[HEADS][NODES_MAX];  /* it was there for a plan that ran, of this process of the head */
    struct lot {
        struct world *w;
        uint32_t head;
    } lots[HEADS]; /* what a head's propose() gets */
    bool rival;    /* there is one */
    uint32_t gone; /* this head died for good with the last fault; WORLD_MAX: none */
    uint32_t n_nodes, wait_for, need; /* need: workers without which a plan does not fit */
    uint32_t odd;                     /* this one has another model, or head; 0: none */
    bool odd_head;                    /* ... another head, as with another discovery file */
    struct node nodes[WORLD_MAX];
    bool blocked[WORLD_MAX][WORLD_MAX]; /* from, to */
    struct link **links;                /* owned, of the whole history */
    size_t n_links, links_capacity;
    struct rg_message kept[WORLD_MAX][NODES_MAX][KEPT]; /* node, number */
    uint32_t n_kept[WORLD_MAX][NODES_MAX];
    struct history *histories; /* owned */
    size_t n_histories, histories_capacity;

    int64_t delay_ms; /* the longest of a message, as a rule */
    int64_t fault_every_ms;
    bool hostile; /* peers repeat old messages; memory may be short */
    bool quiet;
    int64_t quiet_at, converged_at;
    uint32_t steady; /* this head's plan runs since converged_at */
    bool done, failed;
    char why[512];
};

/* ---- world.c -------------------------------------------------------------------------------- */

uint64_t sim_random(struct world *w, uint64_t below);
bool sim_chance(struct world *w, uint64_t percent);
int64_t sim_delay(struct world *w); /* ns, of one message */
void sim_at(struct world *w, int64_t at, struct event e);
struct event sim_next(struct world *w);
RG_PRINTF(3, 4)
void sim_trace(const struct world *w, uint32_t node, const char *format, ...);
RG_PRINTF(3, 4)
void sim_fail(struct world *w, uint32_t node, const char *format, ...);
void *sim_must(void *p); /* the world itself has memory, or ends */
/* Something that was sent at that time comes to a node. */
void sim_arrives(struct world *w, uint32_t node, int64_t sent);

static inline bool sim_is_head(uint32_t node)
{
    return node == 0 || node == RIVAL;
}

/* What the others call a node of the world. */
static inline uint32_t sim_number(uint32_t node)
{
    return node == RIVAL ? 0 : node;
}

/* Of what there is for each head. */
static inline uint32_t sim_head_index(uint32_t node)
{
    return node == RIVAL;
}

/* The node of the world of that number from 0, the rival behind the others. */
static inline uint32_t sim_nth(const struct world *w, uint32_t i)
{
    return i == w->n_nodes ? RIVAL : i;
}

static inline uint32_t sim_population(const struct world *w)
{
    return w->n_nodes + w->rival;
}

/* ---- network.c ------------------------------------------------------------------------------ */

void sim_dial(struct world *w, uint32_t from, uint32_t to);
void sim_accept(struct world *w, struct link *l);
void sim_opened(struct world *w, struct link *l);
void sim_send(struct world *w, uint32_t from, uint32_t to, struct rg_message *m); /* takes it */
void sim_repeat(struct world *w, uint32_t from, uint32_t to);
void sim_pump(struct world *w, struct link *l, uint32_t end);
/* The node behind a number's link. */
uint32_t sim_behind(const struct link *l, uint32_t node);
/* This end lets go; the other hears of it, unless silent. */
void sim_close(struct world *w, struct link *l, uint32_t end, bool silent);
void sim_network_free(struct world *w);

/* ---- node.c --------------------------------------------------------------------------------- */

void sim_boot(struct world *w, uint32_t node);
void sim_resume(struct world *w, uint32_t node);
void sim_kill(struct world *w, uint32_t node, bool unplugged);
void sim_event(struct world *w, uint32_t node, const struct rg_member_event *e);
void sim_link_up(struct world *w, uint32_t node, uint32_t peer);
void sim_link_down(struct world *w, uint32_t node, uint32_t peer, const char *why);
void sim_tick(struct world *w, uint32_t node);
void sim_ring_down(struct world *w, const struct event *e);
void sim_late_loaded(struct world *w, const struct event *e);
/* The neighbours of a node in its part's ring hear that its streams ended. */
void sim_end_streams(struct world *w, uint32_t node, bool silent);
void sim_break_ring(struct world *w, uint32_t node, const char *why);
uint32_t sim_find(const struct rg_proposal *p, const char *id); /* place in the plan */
uint32_t sim_place(const struct rg_proposal *p, uint32_t node);
uint32_t sim_node_at(const struct rg_proposal *p, uint32_t place);
bool sim_reaches(const struct world *w, uint32_t a, uint32_t b); /* both ways */

/* ---- streams.c ------------------------------------------------------------------------------ */

void sim_clients_begin(struct world *w, uint32_t head);
void sim_clients_end(struct world *w, uint32_t head);
void sim_engine_lost(struct world *w, uint32_t head);
void sim_turn(struct world *w, const struct event *e);
void sim_step(struct world *w, const struct event *e);
void sim_pump_steps(struct world *w, uint32_t node, int64_t at);
void sim_repeat_step(struct world *w, uint32_t node);
void sim_check_clients(struct world *w, uint32_t head);

/* ---- faults.c ------------------------------------------------------------------------------- */

extern const char *const sim_fault_names[FAULTS];
void sim_plan_faults(struct world *w);
void sim_crash(struct world *w, const struct event *e);
void sim_reset(struct world *w, const struct event *e);
void sim_fault(struct world *w);
void sim_block(struct world *w, const struct event *e);
void sim_unblock(struct world *w, const struct event *e);
void sim_be_quiet(struct world *w);

/* ---- checks.c ------------------------------------------------------------------------------- */

void sim_check_load(struct world *w, uint32_t node, const struct rg_proposal *p);
void sim_check_start(struct world *w, uint32_t node, struct rg_epoch epoch);
void sim_check_node(struct world *w, uint32_t node); /* after every event of it */
void sim_check_tick(struct world *w, uint32_t node); /* what takes time to be true */
void sim_check_step(struct world *w, uint32_t node, const struct step *s); /* it is computed */
void sim_check_dial(struct world *w, uint32_t node, uint32_t peer);
void sim_note_fall(struct world *w, uint32_t head, uint32_t lost); /* a plan ended because of it */
struct history *sim_history(struct world *w, struct rg_epoch epoch);

#endif
