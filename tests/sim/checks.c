/* checks.c - what must be true of every history.
 *
 * After every event of a node:
 *   at most one epoch, the one that the membership says    sim_check_node
 *   a worker holds the plan of one head, the one that it
 *   has a link to, and weights only as long as there is one check_one_head
 * Whenever it happens:
 *   a number names one plan, newer than all before; only
 *   nodes that fit are in it                               sim_check_load
 *   START: everywhere before the head, once                sim_check_start
 *   I4, two heads: a step is computed in its own epoch and
 *   in the plan as the head made it                        sim_check_step
 *   I1: each client's stream is, token by token, the one
 *   without faults: none lost, twice, or too many          tell() in streams.c
 *   I2: a request ends once, by its last token or with its
 *   head; nothing is told after that, or asked before      tell(), sim_clients_begin() there
 *   no storm of plans, or of dials; a node that comes and
 *   goes is left out                                       check_no_storm, sim_check_dial
 *   nobody accuses a healthy peer                          drop() in node.c
 * With every tick:
 *   silence is noticed                                     check_noticed
 *   nobody goes on without a node of its plan, or when the
 *   head has left it                                       check_members, check_orphan
 *   I5: right 10 s after the last fault, and stays so; all
 *   that were lost are used; every client gets tokens      check_converges, sim_check_clients
 * At the end:
 *   I3: no memory is lost                                  run() in main.c
 * (of I3 also: idle after STOP, no weights after FREE)     sim_check_node, check_one_head */
#include <string.h>

#include "tests/sim/sim.h"

/* A peer's silence is noticed in NOTICE_MS: 4 s and a tick or two.  Its death is a message's delay
 * longer; and a worker may hear of it through a head that is lost just before it would say so. */
enum {
    NOTICE_MS = 5000,
    HEAD_NOTICE_MS = 6500,
    WORKER_NOTICE_MS = 11000,
    CONVERGE_MS = 10000,  /* after the last fault */
    TWO_HEADS_MS = 33000, /* the same with two that live: one may keep an unused worker for 20 s */
    STABLE_MS = 3000,     /* it stays so */
    PLANS_MS = 1000,      /* between two plans of a head */
    DIALS_MS = 9000,      /* in which a node dials another at most DIALS_KEPT times */
    /* A node that comes and goes: see membership_flap.c. */
    COST_MS = 6000,
    MUCH_MS = 14000,
    CALM_MS = 20000,
    STAY_MS = 4000
};

struct history *sim_history(struct world *w, struct rg_epoch epoch)
{
    for (size_t i = w->n_histories; i > 0; i--)
        if (rg_epoch_equal(w->histories[i - 1].plan.epoch, epoch))
            return &w->histories[i - 1];
    return NULL;
}

static bool same_plan(const struct rg_proposal *a, const struct rg_proposal *b)
{
    if (!rg_epoch_equal(a->epoch, b->epoch) || a->n_nodes != b->n_nodes || a->context != b->context)
        return false;
    for (uint32_t i = 0; i < a->n_nodes; i++)
        if (strcmp(a->nodes[i].id, b->nodes[i].id) != 0 ||
            a->nodes[i].first_layer != b->nodes[i].first_layer ||
            a->nodes[i].n_layers != b->nodes[i].n_layers)
            return false;
    return true;
}

/* ---- no storms ------------------------------------------------------------------------------- */

void sim_note_fall(struct world *w, uint32_t head, uint32_t lost)
{
    struct node *n = &w->nodes[head];

    n->falls[lost][n->n_falls[lost]++ % FALLS_KEPT] = w->now;
}

/* When it has to have stayed since, for all that its last falls say; NEVER: it may be used. */
static int64_t flaps_since(const struct node *head, uint32_t k)
{
    const uint32_t n = head->n_falls[k];
    int64_t level = 0, last = 0;
    bool flaps = false;

    for (uint32_t i = n > FALLS_KEPT ? n - FALLS_KEPT : 0; i < n; i++) {
        const int64_t at = head->falls[k][i % FALLS_KEPT];

        level = level > at - last ? level - (at - last) : 0;
        flaps = (flaps && at - last < CALM_MS * MS) || level + COST_MS * MS > MUCH_MS * MS;
        level += COST_MS * MS;
        last = at;
    }
    return flaps ? last : NEVER;
}

/* A head that makes plans is in no hurry, and leaves out who comes and goes. */
static void check_no_storm(struct world *w, uint32_t i, const struct rg_proposal *p)
{
    struct node *n = &w->nodes[i];

    if (n->planned_at >= 0 && w->now - n->planned_at < PLANS_MS * MS)
        sim_fail(w, i, "makes plan %llu %.3f s after the last one", (unsigned long long)p->epoch.n,
                 (double)(w->now - n->planned_at) / 1e9);
    n->planned_at = w->now;
    for (uint32_t k = 0; k + 1 < p->n_nodes; k++) {
        const uint32_t peer = sim_node_at(p, k);
        const int64_t since = flaps_since(n, peer);

        if (since != NEVER && w->now - since < STAY_MS * MS)
            sim_fail(w, i, "plan %llu has n%u, which comes and goes",
                     (unsigned long long)p->epoch.n, peer);
    }
}

void sim_check_dial(struct world *w, uint32_t i, uint32_t peer)
{
    struct node *n = &w->nodes[i];
    int64_t *at = &n->dials[peer][n->n_dials[peer] % DIALS_KEPT];

    if (n->n_dials[peer]++ >= DIALS_KEPT && w->now - *at < DIALS_MS * MS)
        sim_fail(w, i, "dials n%u the %uth time within %.1f s", peer, DIALS_KEPT + 1,
                 (double)(w->now - *at) / 1e9);
    *at = w->now;
}

/* ---- plans ----------------------------------------------------------------------------------- */

/* Of all that this process of the node has loaded of that process of the head. */
static void check_newer(struct world *w, uint32_t i, struct rg_epoch epoch)
{
    for (size_t k = 0; k < w->n_histories; k++) {
        struct history *h = &w->histories[k];

        if (h->plan.epoch.boot == epoch.boot && h->plan.epoch.n >= epoch.n &&
            h->loaded[i] == w->nodes[i].life)
            sim_fail(w, i, "loads plan %llu after plan %llu", (unsigned long long)epoch.n,
                     (unsigned long long)h->plan.epoch.n);
    }
}

void sim_check_load(struct world *w, uint32_t i, const struct rg_proposal *p)
{
    struct node *n = &w->nodes[i];
    struct history *h = sim_history(w, p->epoch);
    void *items = w->histories;

    check_newer(w, i, p->epoch);
    if (h && !same_plan(&h->plan, p))
        sim_fail(w, i, "two different plans %llu", (unsigned long long)p->epoch.n);
    if (!h && !sim_is_head(i))
        sim_fail(w, i, "loads a plan that no head ever made");
    for (uint32_t k = 0; w->odd && k < p->n_nodes; k++)
        if (sim_node_at(p, k) == w->odd)
            sim_fail(w, i, "plan %llu has n%u, which does not fit", (unsigned long long)p->epoch.n,
                     w->odd);
    if (h)
        h->loaded[i] = n->life;
    if (h || !sim_is_head(i))
        return;
    check_no_storm(w, i, p);
    if (rg_grow(&items, &w->histories_capacity, w->n_histories + 1, sizeof *h, NULL))
        (void)sim_must(NULL);
    w->histories = items;
    h = &w->histories[w->n_histories++];
    memset(h, 0, sizeof *h);
    h->plan = *p;
    h->loaded[i] = n->life;
    for (uint32_t k = 0; k < WORLD_MAX; k++)
        h->lives[k] = w->nodes[k].life;
}

void sim_check_start(struct world *w, uint32_t i, struct rg_epoch epoch)
{
    const struct part *p = &w->nodes[i].part;
    const unsigned long long number = (unsigned long long)epoch.n;
    struct history *h = sim_history(w, epoch);

    if (p->started)
        sim_fail(w, i, "START of plan %llu while plan %llu runs", number,
                 (unsigned long long)p->plan.epoch.n);
    if (!p->active || !p->told || !rg_epoch_equal(p->plan.epoch, epoch))
        sim_fail(w, i, "START of plan %llu, which is not loaded", number);
    if (!h) {
        sim_fail(w, i, "START of plan %llu, which the head never made", number);
        return;
    }
    h->started[i] = true;
    for (uint32_t k = 0; sim_is_head(i) && k + 1 < h->plan.n_nodes; k++)
        if (!h->started[sim_node_at(&h->plan, k)])
            sim_fail(w, i, "START of plan %llu before n%u started", number,
                     sim_node_at(&h->plan, k));
}

/* A step is computed where its plan runs, in no other one, and as the head made the plan. */
void sim_check_step(struct world *w, uint32_t i, const struct step *s)
{
    const struct part *p = &w->nodes[i].part;
    const struct history *h = sim_history(w, s->epoch);

    if (!p->started)
        sim_fail(w, i, "a step of plan %llu comes, which has not started here",
                 (unsigned long long)s->epoch.n);
    else if (!rg_epoch_equal(s->epoch, p->plan.epoch))
        sim_fail(w, i, "a step of plan %llu is computed in plan %llu",
                 (unsigned long long)s->epoch.n, (unsigned long long)p->plan.epoch.n);
    else if (!h || !same_plan(&h->plan, &p->plan))
        sim_fail(w, i, "plan %llu is not here what the head made it",
                 (unsigned long long)s->epoch.n);
}

/* A worker has the plan, and the weights, of the one head that it has a link to. */
static void check_one_head(struct world *w, uint32_t i)
{
    const struct node *n = &w->nodes[i];
    const struct link *l = n->links[0];

    if (n->has_weights && !n->up[0])
        sim_fail(w, i, "keeps weights without a head");
    if (n->part.active && (!l || l->boot[l->node[0] == i ? 1 : 0] != n->part.plan.epoch.boot))
        sim_fail(w, i, "is in plan %llu of a head that it has no link to",
                 (unsigned long long)n->part.plan.epoch.n);
}

/* What the membership says and what the node does are the same. */
void sim_check_node(struct world *w, uint32_t i)
{
    const struct node *n = &w->nodes[i];
    struct rg_epoch epoch;
    const enum rg_epoch_state state = rg_membership_state(n->m, &epoch);

    if ((state != RG_EPOCH_NONE) != n->part.active)
        sim_fail(w, i, "its part is %s, and it says epoch state %d",
                 n->part.active ? "in use" : "idle", state);
    if ((state == RG_EPOCH_RUNNING) != n->part.started)
        sim_fail(w, i, "steps %s, and it says epoch state %d",
                 n->part.started ? "run" : "do not run", state);
    if (state != RG_EPOCH_NONE && !rg_epoch_equal(epoch, n->part.plan.epoch))
        sim_fail(w, i, "says plan %llu and has plan %llu", (unsigned long long)epoch.n,
                 (unsigned long long)n->part.plan.epoch.n);
    for (uint32_t k = 0; k < w->n_nodes; k++) {
        struct rg_peer_view v;

        if (k == sim_number(i))
            continue;
        rg_membership_peer(n->m, k, w->now + n->ahead, &v);
        if ((v.state == RG_PEER_UP || v.state == RG_PEER_GREETING) != n->up[k])
            sim_fail(w, i, "says state %d of n%u, which has %s link", v.state, k,
                     n->up[k] ? "a" : "no");
    }
    if (!sim_is_head(i))
        check_one_head(w, i);
}

/* ---- what takes time ------------------------------------------------------------------------ */

static void check_noticed(struct world *w, uint32_t i, uint32_t peer)
{
    const struct node *n = &w->nodes[i];
    struct rg_peer_view v;

    rg_membership_peer(n->m, peer, w->now + n->ahead, &v);
    if (v.state == RG_PEER_UP && w->now - n->heard_at[peer] > NOTICE_MS * MS)
        sim_fail(w, i, "n%u is up, and was silent for %.1f s", peer,
                 (double)(w->now - n->heard_at[peer]) / 1e9);
}

/* Nobody goes on with a plan that has lost a node.  A process that was stopped finds old messages
 * when it goes on, and one that repeats itself can begin an old plan: from then on it counts. */
static void check_members(struct world *w, uint32_t i)
{
    const struct rg_proposal *p = &w->nodes[i].part.plan;
    const struct history *h = sim_history(w, p->epoch);
    const int64_t most = (sim_is_head(i) ? HEAD_NOTICE_MS : WORKER_NOTICE_MS) * MS;
    const int64_t began = w->nodes[i].part.began_at, resumed = w->nodes[i].resumed_at;
    const int64_t since = began > resumed ? began : resumed;

    for (uint32_t k = 0; k < p->n_nodes; k++) {
        const uint32_t peer = sim_node_at(p, k);
        const struct node *n = &w->nodes[peer];
        const bool gone = n->process == DEAD || n->life != h->lives[peer];

        if (gone && w->now - n->died_at > most && w->now - since > most)
            sim_fail(w, i, "runs plan %llu though n%u died %.1f s ago",
                     (unsigned long long)p->epoch.n, peer, (double)(w->now - n->died_at) / 1e9);
    }
}

/* A worker goes on with a plan that its head has left: only until it hears of it. */
static void check_orphan(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    const struct rg_proposal *p = &n->part.plan;
    const struct node *head = &w->nodes[n->part.active ? sim_node_at(p, p->n_nodes - 1) : 0];
    const bool orphan =
        n->part.active && head->process == ALIVE &&
        !(head->part.active && rg_epoch_equal(head->part.plan.epoch, n->part.plan.epoch));

    if (!orphan)
        n->orphan_since = NEVER;
    else if (n->orphan_since == NEVER)
        n->orphan_since = w->now;
    else if (w->now - n->orphan_since > WORKER_NOTICE_MS * MS)
        sim_fail(w, i, "is in plan %llu, which the head left %.1f s ago",
                 (unsigned long long)n->part.plan.epoch.n,
                 (double)(w->now - n->orphan_since) / 1e9);
}

static bool is_up(const struct world *w, uint32_t i, uint32_t number)
{
    struct rg_peer_view v;

    rg_membership_peer(w->nodes[i].m, number, w->now + w->nodes[i].ahead, &v);
    return v.state == RG_PEER_UP || (w->odd && (i == w->odd || number == w->odd));
}

/* With two heads a worker is up for one of them. */
static bool all_up(const struct world *w, uint32_t head)
{
    const bool two = w->rival && w->gone == WORLD_MAX;

    for (uint32_t i = 1; i < w->n_nodes; i++) {
        if (w->nodes[i].process != ALIVE || (!two && !is_up(w, head, i)))
            return false;
        for (uint32_t k = 0; k < w->n_nodes; k++)
            if (k != i && !is_up(w, i, k))
                return false;
    }
    return true;
}

/* A node that was lost and is back has its place in the plan again. */
static bool uses_all(const struct world *w, uint32_t head)
{
    const uint32_t h = sim_head_index(head);

    for (uint32_t i = 1; i < w->n_nodes; i++)
        if (w->had[h][i] && !w->uses[h][i])
            return false;
    return true;
}

static bool converged(const struct world *w, uint32_t head)
{
    const struct part *own = &w->nodes[head].part;

    if (w->nodes[head].process != ALIVE || !all_up(w, head) || !own->started)
        return false;
    if (!uses_all(w, head) && !(w->rival && w->gone == WORLD_MAX))
        return false;
    for (uint32_t k = 0; k < own->plan.n_nodes; k++) {
        const struct part *p = &w->nodes[sim_node_at(&own->plan, k)].part;

        if (!p->started || !same_plan(&p->plan, &own->plan))
            return false;
    }
    return true;
}

static void check_converges(struct world *w)
{
    const int64_t most = (w->rival && w->gone == WORLD_MAX ? TWO_HEADS_MS : CONVERGE_MS) * MS;
    const uint32_t other = w->gone == 0 ? RIVAL : 0;
    const bool same = w->converged_at != NEVER && converged(w, w->steady);
    const bool rivals = w->rival && w->gone != RIVAL && !converged(w, other);
    const uint32_t head = same ? w->steady : rivals ? RIVAL : other;
    char reason[256] = "the head is not there";

    if (!same && !converged(w, head)) {
        w->converged_at = NEVER;
        if (w->now - w->quiet_at < most)
            return;
        if (w->nodes[other].m)
            rg_membership_reason(w->nodes[other].m, reason, sizeof reason);
        sim_fail(w, other, "no plan runs everywhere %d s after the last fault: %s",
                 (int)(most / MS / 1000), reason);
    } else if (!same) {
        w->converged_at = w->now;
        w->steady = head;
    } else if (w->now - w->converged_at > STABLE_MS * MS) {
        sim_check_clients(w, head);
        w->done = true;
    }
}

void sim_check_tick(struct world *w, uint32_t i)
{
    for (uint32_t k = 0; k < w->n_nodes; k++)
        if (k != sim_number(i))
            check_noticed(w, i, k);
    if (w->nodes[i].part.active)
        check_members(w, i);
    if (!sim_is_head(i))
        check_orphan(w, i);
    if (w->quiet && i == 1)
        check_converges(w);
}
