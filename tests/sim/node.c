/* node.c - one node around its membership: the process, its links and its part of a plan. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "tests/sim/sim.h"

static const char *const ids[NODES_MAX] = {"n0", "n1", "n2", "n3", "n4"};

uint32_t sim_find(const struct rg_proposal *p, const char *id)
{
    uint32_t i = 0;

    while (strcmp(p->nodes[i].id, id) != 0)
        i++;
    return i;
}

uint32_t sim_place(const struct rg_proposal *p, uint32_t node)
{
    return sim_find(p, ids[sim_number(node)]);
}

uint32_t sim_node_at(const struct rg_proposal *p, uint32_t place)
{
    const uint32_t number = (uint32_t)(p->nodes[place % p->n_nodes].id[1] - '0');

    return number == 0 && p->epoch.boot % 2 ? RIVAL : number;
}

bool sim_reaches(const struct world *w, uint32_t a, uint32_t b)
{
    return !w->blocked[a][b] && !w->blocked[b][a];
}

/* ---- the process ---------------------------------------------------------------------------- */

/* Cuts the layers anywhere; a plan of too few workers does not fit. */
static enum rg_code propose(void *ud, const struct rg_hello *const *hellos, uint32_t n_peers,
                            struct rg_proposal *out, struct rg_err *err)
{
    const struct lot *lot = ud;
    struct world *w = lot->w;
    bool *uses = w->uses[sim_head_index(lot->head)];
    uint32_t workers[NODES_MAX], n = 0, next = 0;

    for (uint32_t i = 1; i < n_peers; i++)
        if (hellos[i])
            workers[n++] = i;
    if (n < w->need)
        return rg_fail(err, RG_E_FIT, "%u workers have no room, %u would", n, w->need);
    for (uint32_t i = 1; i < n_peers; i++)
        uses[i] = hellos[i] != NULL;
    /* Any order, and now and then one stays without a part. */
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t k = (uint32_t)sim_random(w, i), t = workers[k];

        workers[k] = workers[i - 1];
        workers[i - 1] = t;
    }
    if (n > w->need && sim_chance(w, 20))
        n--;
    for (uint32_t i = 0; i <= n; i++) {
        struct rg_ring_node *node = &out->nodes[out->n_nodes++];

        (void)snprintf(node->id, sizeof node->id, "%s", ids[i < n ? workers[i] : 0]);
        node->first_layer = next;
        node->n_layers = i < n ? 1 + (uint32_t)sim_random(w, 2) : N_LAYERS - next;
        next += node->n_layers;
    }
    out->context = (uint32_t)sim_random(w, 1u << 20) + 1; /* so that no two plans are the same */
    out->parallel = 1;
    out->block_tokens = 16;
    out->n_blocks = 1u << 16;
    out->max_rows = 16;
    return RG_OK;
}

static struct rg_hello hello_of(const struct world *w, uint32_t i, struct rg_layer_card *layers)
{
    struct rg_hello h = {.major = RG_PROTOCOL_MAJOR,
                         .build = "sim",
                         .boot = w->nodes[i].boot,
                         .head_id = "n0",
                         .cluster = "plain",
                         .numerics = "cpu-1",
                         .claimed_bytes = 1 << 20,
                         .memory_bytes = 1 << 20,
                         .model = {.n_layers = N_LAYERS, .layers = layers}};

    (void)snprintf(h.node_id, sizeof h.node_id, "%s", ids[sim_number(i)]);
    for (uint32_t k = 0; k < N_LAYERS; k++)
        layers[k] = (struct rg_layer_card){.there = true, .bytes = 1, .digest = {{(uint8_t)k}}};
    if (w->odd && i == w->odd && w->odd_head)
        (void)snprintf(h.head_id, sizeof h.head_id, "%s", ids[i]);
    else if (w->odd && i == w->odd)
        layers[2].digest.bytes[1] = 1;
    return h;
}

void sim_boot(struct world *w, uint32_t i)
{
    struct rg_layer_card layers[N_LAYERS];
    struct node *n = &w->nodes[i];
    const uint64_t life = n->life + 1;
    const int64_t died_at = n->died_at;
    struct rg_hello hello;
    const struct rg_membership_options o = {.n_peers = w->n_nodes,
                                            .self = sim_number(i),
                                            .ids = ids,
                                            .hello = &hello,
                                            .wait_for = sim_is_head(i) ? w->wait_for : 0,
                                            .settle_ms = SETTLE_MS,
                                            .grace_ms = w->grace_ms,
                                            .stuck_ms = STUCK_MS,
                                            .propose = propose,
                                            .ud = &w->lots[sim_head_index(i)]};

    memset(n, 0, sizeof *n);
    n->process = ALIVE;
    n->life = life;
    n->died_at = died_at;
    n->boot = (sim_random(w, UINT64_MAX / 2) + 1) * 2 + (i == RIVAL); /* so a plan tells whose */
    n->ahead = (int64_t)sim_random(w, 3600) * 1000 * MS + MS;
    n->orphan_since = NEVER;
    n->planned_at = -1;
    for (uint32_t k = 0; k < w->n_nodes; k++) {
        n->redial_at[k] = w->now;
        n->up_at[k] = NEVER;
    }
    hello = hello_of(w, i, layers);
    if (rg_membership_open(&n->m, &o, NULL))
        (void)sim_must(NULL);
    if (sim_is_head(i)) {
        memset(w->had[sim_head_index(i)], 0, sizeof w->had[0]);
        sim_clients_begin(w, i);
    }
    sim_trace(w, i, "boots, %llx", (unsigned long long)n->boot >> 48);
    sim_at(w, w->now + (int64_t)sim_random(w, TICK_MS) * MS,
           (struct event){.kind = EV_TICK, .a = i, .life = life});
}

void sim_resume(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];

    if (n->process != PAUSED)
        return;
    sim_trace(w, i, "goes on");
    n->process = ALIVE;
    n->resumed_at = w->now;
}

void sim_kill(struct world *w, uint32_t i, bool unplugged)
{
    struct node *n = &w->nodes[i];

    if (n->process == DEAD)
        return;
    sim_end_streams(w, i, unplugged);
    n->process = DEAD;
    n->unplugged = unplugged;
    n->died_at = w->now;
    for (uint32_t k = 0; k < NODES_MAX; k++)
        if (n->links[k])
            sim_close(w, n->links[k], n->links[k]->node[0] == i ? 0 : 1, unplugged);
    memset(n->links, 0, sizeof n->links);
    memset(n->up, 0, sizeof n->up);
    n->part.active = n->part.started = false;
    if (sim_is_head(i))
        sim_clients_end(w, i);
    rg_membership_close(n->m);
    rg_member_actions_free(&n->actions);
    n->m = NULL;
}

/* ---- actions -------------------------------------------------------------------------------- */

static void stop(struct world *w, uint32_t i)
{
    struct part *p = &w->nodes[i].part;

    if (!p->active)
        return;
    sim_end_streams(w, i, false);
    if (sim_is_head(i))
        sim_engine_lost(w, i);
    if (!p->told && sim_chance(w, 30))
        sim_at(w, w->now + (int64_t)sim_random(w, 3000) * MS,
               (struct event){
                   .kind = EV_LOADED, .a = i, .life = w->nodes[i].life, .epoch = p->plan.epoch});
    p->active = p->started = false;
}

static void load(struct world *w, uint32_t i, const struct rg_proposal *plan)
{
    struct node *n = &w->nodes[i];
    const uint64_t slow_ms = (uint64_t)n->slow_ms;
    const uint64_t most_ms = !w->quiet && sim_chance(w, 20) ? 12000 : 800;

    if (n->part.active)
        sim_fail(w, i, "LOAD before the STOP of plan %llu",
                 (unsigned long long)n->part.plan.epoch.n);
    sim_check_load(w, i, plan);
    n->has_weights = true;
    n->part = (struct part){.active = true, .plan = *plan, .began_at = w->now};
    n->part.ready_at = w->now + (int64_t)(10 + slow_ms + sim_random(w, most_ms)) * MS;
    n->last_in = 0;
    memset(n->kv, 0, sizeof n->kv);
    n->part.fails = !w->quiet && sim_chance(w, 10);
    w->faults[FAULT_LOAD] += n->part.fails;
}

static void start(struct world *w, uint32_t i, struct rg_epoch epoch)
{
    const uint32_t head = sim_head_index(i);

    sim_check_start(w, i, epoch);
    w->nodes[i].part.started = true;
    if (!sim_is_head(i))
        return;
    for (uint32_t k = 1; k < w->n_nodes; k++)
        w->had[head][k] = w->had[head][k] || w->uses[head][k];
    sim_at(w, w->now + sim_delay(w),
           (struct event){.kind = EV_TURN, .a = i, .life = w->nodes[i].life, .epoch = epoch});
}

/* The wait doubles, unless the link had lasted. */
static void put_off(struct world *w, struct node *n, uint32_t peer)
{
    if (n->up_at[peer] != NEVER && w->now - n->up_at[peer] > RG_LIMIT_REDIAL_MOST_MS * MS)
        n->pause_ms[peer] = 0;
    n->up[peer] = false;
    n->up_at[peer] = NEVER;
    if (n->pause_ms[peer] < RG_LIMIT_REDIAL_MS)
        n->pause_ms[peer] = RG_LIMIT_REDIAL_MS;
    n->redial_at[peer] =
        w->now + (n->pause_ms[peer] + (int64_t)sim_random(w, (uint64_t)n->pause_ms[peer] / 5)) * MS;
    n->pause_ms[peer] *= 2;
    if (n->pause_ms[peer] > RG_LIMIT_REDIAL_MOST_MS)
        n->pause_ms[peer] = RG_LIMIT_REDIAL_MOST_MS;
}

static void drop(struct world *w, uint32_t i, uint32_t peer, const char *why)
{
    struct node *n = &w->nodes[i];
    struct link *l = n->links[peer];

    if (!l)
        sim_fail(w, i, "DROP of n%u, which has no link", peer);
    if (!w->hostile && strncmp(why, "it sent", 7) == 0)
        sim_fail(w, i, "accuses n%u: %s", peer, why);
    if (w->failed)
        return;
    n->links[peer] = NULL;
    put_off(w, n, peer);
    sim_close(w, l, l->node[0] == i ? 0 : 1, false);
}

static void trace_action(const struct world *w, uint32_t i, const struct rg_member_action *a)
{
    static const char *const names[] = {"SEND", "DROP", "LOAD", "START", "STOP", "FREE", "SAY"};
    const unsigned long long n = (unsigned long long)a->epoch.n;

    if (!w->trace)
        return;
    if (a->kind == RG_MEMBER_SEND) {
        if (a->message.kind != RG_MESSAGE_HEARTBEAT)
            sim_trace(w, i, "  -> n%u %s", a->peer, rg_message_name(a->message.kind));
    } else if (a->kind == RG_MEMBER_SAY) {
        sim_trace(w, i, "  \"%s\"", a->err.message);
    } else {
        sim_trace(w, i, "  %s %s%u %s", names[a->kind], a->kind == RG_MEMBER_DROP ? "n" : "plan ",
                  a->kind == RG_MEMBER_DROP ? a->peer : (unsigned)n, a->err.message);
    }
}

static void act(struct world *w, uint32_t i, struct rg_member_action *a)
{
    struct node *n = &w->nodes[i];

    trace_action(w, i, a);
    switch (a->kind) {
    case RG_MEMBER_SEND:
        if (!n->links[a->peer] || !n->up[a->peer]) {
            sim_fail(w, i, "SEND to n%u, which has no link", a->peer);
            return;
        }
        sim_send(w, i, a->peer, &a->message);
        a->kind = RG_MEMBER_SAY; /* the link has the message now */
        break;
    case RG_MEMBER_DROP:
        drop(w, i, a->peer, a->err.message);
        break;
    case RG_MEMBER_LOAD:
        load(w, i, a->proposal);
        break;
    case RG_MEMBER_START:
        start(w, i, a->epoch);
        break;
    case RG_MEMBER_STOP:
        if (!n->part.active || !rg_epoch_equal(a->epoch, n->part.plan.epoch))
            sim_fail(w, i, "STOP of plan %llu, which is not loaded",
                     (unsigned long long)a->epoch.n);
        stop(w, i);
        if (sim_is_head(i) && a->peer < w->n_nodes)
            sim_note_fall(w, i, a->peer);
        break;
    case RG_MEMBER_FREE:
        if (sim_is_head(i) || n->part.active)
            sim_fail(w, i, "FREE of the head, or before a STOP");
        n->has_weights = false;
        break;
    case RG_MEMBER_SAY:
        break;
    }
}

void sim_event(struct world *w, uint32_t i, const struct rg_member_event *e)
{
    struct node *n = &w->nodes[i];
    const bool short_memory = w->hostile && !w->quiet && sim_random(w, 3000) == 0;
    enum rg_code code;

    if (w->failed)
        return;
    if (short_memory)
        rg_mem_fail_at(1);
    code = rg_membership_step(n->m, w->now + n->ahead, e, &n->actions, NULL);
    rg_mem_fail_at(0);
    if (code) {
        sim_trace(w, i, "FAULT out of memory, ends");
        w->faults[FAULT_MEMORY]++;
        rg_member_actions_clear(&n->actions);
        sim_kill(w, i, false);
        sim_at(w, w->now + 500 * MS, (struct event){.kind = EV_RESTART, .a = i});
        return;
    }
    for (size_t k = 0; k < n->actions.n && !w->failed; k++)
        act(w, i, &n->actions.items[k]);
    rg_member_actions_clear(&n->actions);
    if (!w->failed)
        sim_check_node(w, i);
}

void sim_link_up(struct world *w, uint32_t i, uint32_t peer)
{
    const struct rg_member_event e = {.kind = RG_MEMBER_LINK_UP, .peer = peer};

    w->nodes[i].up[peer] = true;
    w->nodes[i].up_at[peer] = w->now;
    sim_event(w, i, &e);
}

void sim_link_down(struct world *w, uint32_t i, uint32_t peer, const char *why)
{
    struct node *n = &w->nodes[i];
    struct rg_err err;
    const struct rg_member_event e = {.kind = RG_MEMBER_LINK_DOWN, .peer = peer, .err = &err};

    (void)rg_fail(&err, RG_E_PEER, "%s", why);
    put_off(w, n, peer);
    sim_trace(w, i, "link to n%u is down: %s", peer, why);
    sim_event(w, i, &e);
}

/* ---- the own part --------------------------------------------------------------------------- */

static void tell(struct world *w, uint32_t i, enum rg_member_event_kind kind, const char *why)
{
    struct rg_err err = {0};
    const struct rg_member_event e = {
        .kind = kind, .epoch = w->nodes[i].part.plan.epoch, .err = &err};

    if (why)
        (void)rg_fail(&err, RG_E_IO, "%s", why);
    sim_trace(w, i, "%s plan %llu", why ? why : "has loaded", (unsigned long long)e.epoch.n);
    sim_event(w, i, &e);
}

/* A step stream opens when both ends have prepared the same epoch. */
static bool streams_open(const struct world *w, uint32_t i, uint32_t other)
{
    const struct node *n = &w->nodes[other];

    return i == other ||
           (n->process == ALIVE && sim_reaches(w, i, other) && n->part.active && n->part.prepared &&
            rg_epoch_equal(n->part.plan.epoch, w->nodes[i].part.plan.epoch));
}

static void tick_part(struct world *w, uint32_t i)
{
    struct part *p = &w->nodes[i].part;
    uint32_t place, next, previous;

    if (!p->active || p->told || w->now < p->ready_at)
        return;
    if (p->fails) {
        p->told = true;
        tell(w, i, RG_MEMBER_LOAD_FAILED, "cannot load");
        return;
    }
    if (!p->prepared) {
        p->prepared = true;
        p->prepared_at = w->now;
    }
    place = sim_place(&p->plan, i);
    next = sim_node_at(&p->plan, place + 1);
    previous = sim_node_at(&p->plan, place + p->plan.n_nodes - 1);
    if (streams_open(w, i, next) && streams_open(w, i, previous)) {
        p->told = true;
        tell(w, i, RG_MEMBER_LOADED, NULL);
    } else if (w->now - p->prepared_at > RG_LIMIT_HELLO_WAIT_MS * MS &&
               (w->nodes[next].process == DEAD || !sim_reaches(w, i, next))) {
        tell(w, i, RG_MEMBER_RING_DOWN, "cannot reach the successor");
    }
}

void sim_end_streams(struct world *w, uint32_t i, bool silent)
{
    const struct part *p = &w->nodes[i].part;
    uint32_t place;

    if (!p->active || silent)
        return;
    place = sim_place(&p->plan, i);
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t other = sim_node_at(&p->plan, k ? place + 1 : place + p->plan.n_nodes - 1);

        if (other != i && sim_reaches(w, i, other))
            sim_at(w, w->now + sim_delay(w),
                   (struct event){.kind = EV_RING_DOWN,
                                  .a = other,
                                  .life = w->nodes[other].life,
                                  .epoch = p->plan.epoch});
    }
}

/* The node's own ring finds something wrong with a step. */
void sim_break_ring(struct world *w, uint32_t i, const char *why)
{
    struct rg_err err;
    const struct rg_member_event e = {
        .kind = RG_MEMBER_RING_DOWN, .epoch = w->nodes[i].part.plan.epoch, .err = &err};

    sim_trace(w, i, "its ring breaks: %s", why);
    (void)rg_fail(&err, RG_E_PEER, "%s", why);
    sim_event(w, i, &e);
}

/* Also of an epoch that is over: an event may come late. */
void sim_ring_down(struct world *w, const struct event *at)
{
    struct node *n = &w->nodes[at->a];
    struct rg_err err;
    const struct rg_member_event e = {.kind = RG_MEMBER_RING_DOWN, .epoch = at->epoch, .err = &err};

    if (n->process == DEAD || n->life != at->life)
        return;
    if (n->process == PAUSED) {
        sim_at(w, w->now + TICK_MS * MS, *at);
        return;
    }
    /* A stream that is not open yet does not end. */
    if (rg_epoch_equal(at->epoch, n->part.plan.epoch) && n->part.active && !n->part.told)
        return;
    (void)rg_fail(&err, RG_E_PEER, "a step stream ended");
    sim_event(w, at->a, &e);
}

/* What had ended before its STOP, and is told after it. */
void sim_late_loaded(struct world *w, const struct event *at)
{
    const struct node *n = &w->nodes[at->a];
    const struct rg_member_event e = {.kind = RG_MEMBER_LOADED, .epoch = at->epoch};

    if (n->process == ALIVE && n->life == at->life)
        sim_event(w, at->a, &e);
}

/* ---- time ----------------------------------------------------------------------------------- */

static void tell_work(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    const struct rg_member_event e = {.kind = RG_MEMBER_WORK,
                                      .layers_done = n->layers_done,
                                      .busy = n->busy,
                                      .load_bytes = n->part.active && !n->part.prepared ? 100 : 0};

    sim_event(w, i, &e);
}

void sim_tick(struct world *w, uint32_t i)
{
    static const struct rg_member_event tick = {.kind = RG_MEMBER_TICK};
    struct node *n = &w->nodes[i];
    const uint64_t life = n->life;

    if (n->process == ALIVE)
        tick_part(w, i);
    if (n->process == ALIVE)
        tell_work(w, i);
    if (n->process == ALIVE)
        sim_event(w, i, &tick);
    for (uint32_t k = sim_number(i) + 1; k < w->n_nodes && n->process == ALIVE; k++)
        if (!n->links[k] && w->now >= n->redial_at[k])
            sim_dial(w, i, k);
    if (n->process == ALIVE)
        sim_check_tick(w, i);
    if (n->process != DEAD && n->life == life)
        sim_at(w, w->now + TICK_MS * MS, (struct event){.kind = EV_TICK, .a = i, .life = life});
}
