/* node_tick.c - what a node does as time goes on: heartbeats, calls, a look at discovery.json. */
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "cluster/node_state.h"

int64_t rg_node_discovery_time(const struct rg_node *n)
{
    struct stat st;

    if (stat(n->discovery_path, &st) != 0)
        return 0;
#ifdef __APPLE__
    return (int64_t)st.st_mtimespec.tv_sec * 1000000000 + st.st_mtimespec.tv_nsec;
#else
    return (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
#endif
}

/* The same ids in the same order: addresses and memory may be taken over while the node runs. */
static bool same_peers(const struct rg_discovery *a, const struct rg_discovery *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (strcmp(a->peers[i].id, b->peers[i].id) != 0)
            return false;
    return true;
}

static void take_discovery(struct rg_node *n, struct rg_discovery *d)
{
    const struct rg_err err = {.code = RG_E_PEER, .message = "its address was changed"};

    for (uint32_t i = 0; i < d->n; i++) {
        const struct rg_peer_info *old = &n->discovery.peers[i], *new = &d->peers[i];
        const struct rg_member_event down = {.kind = RG_MEMBER_LINK_DOWN, .peer = i, .err = &err};

        if (i == n->self || (strcmp(old->address, new->address) == 0 && old->port == new->port))
            continue;
        rg_log(RG_LOG_INFO, "cluster", "a node has a new address", "peer=%s address=%s port=%u",
               new->id, new->address, new->port);
        if (i > n->self && n->peers[i].link) {
            rg_node_drop(n, i, err.message);
            rg_node_event(n, &down);
        }
        n->peers[i].redial_ms = 0;
    }
    rg_discovery_free(&n->discovery);
    n->discovery = *d;
}

static void reread_discovery(struct rg_node *n)
{
    const int64_t changed = rg_node_discovery_time(n);
    struct rg_discovery d;
    struct rg_err err;

    if (changed == n->discovery_mtime_ns)
        return;
    n->discovery_mtime_ns = changed;
    if (rg_discovery_read(&d, n->discovery_path, &err)) {
        rg_log(RG_LOG_WARN, "cluster", err.message, "kept=%s", "the_last_good_one");
        return;
    }
    if (same_peers(&n->discovery, &d)) {
        take_discovery(n, &d);
        return;
    }
    rg_log(RG_LOG_WARN, "cluster",
           "discovery.json has other nodes now; they count from the next start of this daemon",
           "nodes=%u", d.n);
    rg_discovery_free(&d);
}

void rg_node_on_tick(uv_timer_t *tick)
{
    struct rg_node *n = tick->data;
    const int64_t now = rg_clock_ms();
    struct rg_ring_stats stats;
    struct rg_member_event work = {.kind = RG_MEMBER_WORK};
    const struct rg_member_event turn = {.kind = RG_MEMBER_TICK};

    if (!n->membership || n->closing)
        return;
    rg_ring_stats(n->ring, &stats);
    work.layers_done = stats.layers_done;
    work.busy = stats.busy;
    if (n->job.running && !n->job.frees) {
        work.loaded_bytes = atomic_load(&n->job.done);
        work.load_bytes = atomic_load(&n->job.total);
    }
    rg_node_event(n, &work);
    rg_node_tell_if_loaded(n);
    rg_node_event(n, &turn);
    rg_node_dial_due(n, now);
    rg_node_strangers_tick(n, now);
    if (now - n->discovery_read_ms >= RG_NODE_REREAD_MS) {
        n->discovery_read_ms = now;
        reread_discovery(n);
    }
    if (!n->closing)
        n->events.on_change(n->ud);
}
