/* membership_flap.c - the head remembers nodes that come and go: whom it does not wait for, and
 * who is up but must stay before it gets layers again. */
#include <assert.h>

#include "cluster/membership_core.h"

enum {
    COST_MS = 6000,    /* of a plan that ended because of a node: gone after so long */
    MUCH_MS = 14000,   /* more than that not yet gone: it flaps */
    RETURN_MS = 20000, /* a plan was ended for its return, and it is lost again that soon: too */
    CALM_MS = 20000,   /* it flaps until so long after its last loss */
    STAY_MS = 4000     /* it must be up so long: a ring is back 10 s after its nodes are */
};

static void begin_to_flap(struct rg_membership *m, uint32_t peer)
{
    struct rg_member_peer *p = &m->peers[peer];

    if (!rg_member_flaps(m, peer))
        rg_member_say(m, RG_LOG_WARN, peer,
                      "%s comes and goes: plans are made without it until it stays for %d s", p->id,
                      STAY_MS / 1000);
    p->flaps = true;
    p->calm_ns = m->now + CALM_MS * RG_NS_PER_MS;
}

void rg_member_fell(struct rg_membership *m, uint32_t peer)
{
    struct rg_member_peer *p = &m->peers[peer];
    const int64_t from = p->calm_ns > m->now ? p->calm_ns : m->now;
    const bool returned = p->returned_ns >= 0 && m->now - p->returned_ns < RETURN_MS * RG_NS_PER_MS;

    assert(m->self == 0 && peer != 0);
    p->fell_ns = m->now;
    if (returned || rg_member_flaps(m, peer) ||
        from - m->now > (MUCH_MS - COST_MS) * RG_NS_PER_MS) {
        begin_to_flap(m, peer);
    } else {
        p->flaps = false;
        p->calm_ns = from + COST_MS * RG_NS_PER_MS;
    }
}

bool rg_member_flaps(const struct rg_membership *m, uint32_t peer)
{
    return m->peers[peer].flaps && m->now < m->peers[peer].calm_ns;
}

int64_t rg_member_stayed_ns(const struct rg_membership *m, uint32_t peer)
{
    const struct rg_member_peer *p = &m->peers[peer];

    return m->now - (p->up_ns > p->fell_ns ? p->up_ns : p->fell_ns);
}

bool rg_member_counts(const struct rg_membership *m, uint32_t peer)
{
    return m->peers[peer].state == RG_PEER_UP && !m->peers[peer].cut_off &&
           (!rg_member_flaps(m, peer) || rg_member_stayed_ns(m, peer) >= STAY_MS * RG_NS_PER_MS);
}
