/* membership_reach.c - two workers that the head both sees, and that do not see each other: no plan
 * with both can run.  Each worker says in its heartbeats whom it misses; the head does without one
 * of them until that is over. */
#include <assert.h>

#include "cluster/membership_core.h"

enum {
    SURE_MS = 5000, /* both are up here for so long: none of them has just been started */
    FAILS = 2       /* where no plan has ever run: so many have failed */
};

/* ---- of a worker ----------------------------------------------------------------------------- */

void rg_member_miss(struct rg_membership *m, uint32_t peer)
{
    assert(m->self != 0);
    if (peer != RG_NO_PEER && peer != 0)
        m->unreached = peer;
}

uint32_t rg_member_missed(struct rg_membership *m)
{
    if (m->unreached != RG_NO_PEER && m->peers[m->unreached].state == RG_PEER_UP)
        m->unreached = RG_NO_PEER;
    return m->unreached;
}

/* ---- of the head ----------------------------------------------------------------------------- */

static bool is_up_here(const struct rg_membership *m, uint32_t peer)
{
    return m->peers[peer].state == RG_PEER_UP;
}

/* One of the two misses the other. */
static bool is_apart(const struct rg_membership *m, uint32_t a, uint32_t b)
{
    return a != b && is_up_here(m, a) && is_up_here(m, b) &&
           (m->peers[a].unreached == b || m->peers[b].unreached == a);
}

static void let_back(struct rg_membership *m)
{
    for (uint32_t i = 1; i < m->n_peers; i++) {
        bool apart = false;

        for (uint32_t k = 1; k < m->n_peers; k++)
            apart = apart || is_apart(m, i, k);
        if (!m->peers[i].cut_off || apart)
            continue;
        m->peers[i].cut_off = false;
        m->peers[i].up_ns = m->now; /* it stays since now */
    }
}

static bool is_sure(const struct rg_membership *m, uint32_t peer)
{
    return m->now - m->peers[peer].up_ns >= SURE_MS * RG_NS_PER_MS;
}

/* Who is lost had its time to come back (see has_waited() of membership_head.c). */
static bool may_cut(const struct rg_membership *m)
{
    return m->state == RG_EPOCH_NONE && m->fails > 0 &&
           (m->without_ns < 0 ? m->fails >= FAILS : m->now >= m->without_ns);
}

void rg_member_cut_off(struct rg_membership *m)
{
    assert(m->self == 0);
    let_back(m);
    for (uint32_t i = 1; may_cut(m) && i < m->n_peers; i++)
        for (uint32_t k = 1; k < i; k++) {
            if (m->peers[i].cut_off || m->peers[k].cut_off || !is_apart(m, i, k) ||
                !is_sure(m, i) || !is_sure(m, k))
                continue;
            m->peers[i].cut_off = true;
            rg_member_say(m, RG_LOG_WARN, i,
                          "%s and %s do not reach each other: plans are made without %s until "
                          "they do",
                          m->peers[k].id, m->peers[i].id, m->peers[i].id);
        }
}
