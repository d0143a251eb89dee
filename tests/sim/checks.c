/* checks.c - what must be true of every history. */
#include <string.h>

#include "tests/sim/sim.h"

/* A peer's silence is noticed in NOTICE_MS: 4 s and a tick or two.  Its death is a message's delay
 * longer; and a worker may hear of it through a head that is lost just before it would say so. */
enum {
    NOTICE_MS = 5000,
    HEAD_NOTICE_MS = 6500,
    WORKER_NOTICE_MS = 11000,
    CONVERGE_MS = 10000, /* after the last fault */
    STABLE_MS = 3000     /* it stays so */
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

void sim_check_load(struct world *w, uint32_t i, const struct rg_proposal *p)
{
    struct node *n = &w->nodes[i];
    struct history *h = sim_history(w, p->epoch);
    void *items = w->histories;

    if (p->epoch.boot == n->seen.boot && p->epoch.n <= n->seen.n)
        sim_fail(w, i, "loads plan %llu after plan %llu", (unsigned long long)p->epoch.n,
                 (unsigned long long)n->seen.n);
    n->seen = p->epoch;
    if (h && !same_plan(&h->plan, p))
        sim_fail(w, i, "two different plans %llu", (unsigned long long)p->epoch.n);
    if (!h && i != 0)
        sim_fail(w, i, "loads a plan that the head never made");
    if (h || i != 0)
        return;
    if (rg_grow(&items, &w->histories_capacity, w->n_histories + 1, sizeof *h, NULL))
        (void)sim_must(NULL);
    w->histories = items;
    h = &w->histories[w->n_histories++];
    memset(h, 0, sizeof *h);
    h->plan = *p;
    for (uint32_t k = 0; k < w->n_nodes; k++)
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
    for (uint32_t k = 0; i == 0 && k + 1 < h->plan.n_nodes; k++)
        if (!h->started[sim_node_at(&h->plan, k)])
            sim_fail(w, i, "START of plan %llu before n%u started", number,
                     sim_node_at(&h->plan, k));
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

        if (k == i)
            continue;
        rg_membership_peer(n->m, k, w->now + n->ahead, &v);
        if ((v.state == RG_PEER_UP || v.state == RG_PEER_GREETING) != n->up[k])
            sim_fail(w, i, "says state %d of n%u, which has %s link", v.state, k,
                     n->up[k] ? "a" : "no");
    }
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
    const int64_t most = (i == 0 ? HEAD_NOTICE_MS : WORKER_NOTICE_MS) * MS;
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
    const struct node *head = &w->nodes[0];
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

static bool all_up(const struct world *w)
{
    for (uint32_t i = 0; i < w->n_nodes; i++)
        for (uint32_t k = 0; k < w->n_nodes; k++) {
            struct rg_peer_view v;

            if (i == k)
                continue;
            if (w->nodes[i].process != ALIVE)
                return false;
            rg_membership_peer(w->nodes[i].m, k, w->now + w->nodes[i].ahead, &v);
            if (v.state != RG_PEER_UP && !(w->odd && (i == w->odd || k == w->odd)))
                return false;
        }
    return true;
}

/* A node that was lost and is back has its place in the plan again. */
static bool uses_all(const struct world *w)
{
    for (uint32_t i = 1; i < w->n_nodes; i++)
        if (w->had[i] && !w->uses[i])
            return false;
    return true;
}

static bool converged(const struct world *w)
{
    const struct part *head = &w->nodes[0].part;

    if (!all_up(w) || !head->started || !uses_all(w))
        return false;
    for (uint32_t k = 0; k < head->plan.n_nodes; k++) {
        const struct part *p = &w->nodes[sim_node_at(&head->plan, k)].part;

        if (!p->started || !same_plan(&p->plan, &head->plan))
            return false;
    }
    return true;
}

static void check_converges(struct world *w)
{
    char reason[256] = "the head is not there";

    if (!converged(w)) {
        w->converged_at = NEVER;
        if (w->now - w->quiet_at < CONVERGE_MS * MS)
            return;
        if (w->nodes[0].m)
            rg_membership_reason(w->nodes[0].m, reason, sizeof reason);
        sim_fail(w, 0, "no plan runs everywhere %d s after the last fault: %s", CONVERGE_MS / 1000,
                 reason);
    } else if (w->converged_at == NEVER) {
        w->converged_at = w->now;
    } else if (w->now - w->converged_at > STABLE_MS * MS) {
        sim_check_clients(w);
        w->done = true;
    }
}

void sim_check_tick(struct world *w, uint32_t i)
{
    for (uint32_t k = 0; k < w->n_nodes; k++)
        if (k != i)
            check_noticed(w, i, k);
    if (w->nodes[i].part.active)
        check_members(w, i);
    if (i != 0)
        check_orphan(w, i);
    if (w->quiet && i == 0)
        check_converges(w);
}
