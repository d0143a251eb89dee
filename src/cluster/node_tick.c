/* node_tick.c - what a node does as time goes on: heartbeats, calls, a look at discovery.json. */
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
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

static void swap_discovery(struct rg_node *n, struct rg_discovery *d)
{
    struct rg_discovery old = n->discovery;

    pthread_mutex_lock(&n->lock);
    n->discovery = *d;
    pthread_mutex_unlock(&n->lock);
    rg_discovery_free(&old);
}

static void take_addresses(struct rg_node *n, struct rg_discovery *d)
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
    swap_discovery(n, d);
}

/* Nodes were added or removed: that counts when no plan is loaded or runs.  Membership begins anew
 * then, under a boot of its own, as after a restart; what is loaded stays. */
static void take_peers(struct rg_node *n, struct rg_discovery *d, bool is_new)
{
    const int32_t self = rg_discovery_find(d, rg_node_id(n));
    struct rg_epoch epoch;
    struct rg_err err;

    n->peers_wait = self >= 0 && (self == 0) == n->is_head;
    if (is_new && !n->peers_wait)
        rg_log(RG_LOG_WARN, "cluster",
               "discovery.json lacks this node now, or makes it the head or not the head: restart "
               "it to follow",
               "nodes=%u", d->n);
    else if (is_new)
        rg_log(RG_LOG_INFO, "cluster",
               "discovery.json has other nodes: they count for the next plan", "nodes=%u", d->n);
    if (!n->peers_wait || rg_membership_state(n->membership, &epoch) != RG_EPOCH_NONE) {
        rg_discovery_free(d);
        return;
    }
    n->peers_wait = false;
    rg_node_drop_all(n, "the nodes of the ring have changed");
    swap_discovery(n, d);
    n->self = (uint32_t)self;
    memset(n->peers, 0, sizeof n->peers);
    rg_membership_close(n->membership);
    n->membership = NULL;
    if (rg_node_open_membership(n, &err))
        n->events.on_hopeless(n->ud, &err);
}

static void reread_discovery(struct rg_node *n)
{
    const int64_t changed = rg_node_discovery_time(n);
    struct rg_discovery d;
    struct rg_err err;

    if (changed == n->discovery_mtime_ns && !n->peers_wait)
        return;
    if (rg_discovery_read(&d, n->discovery_path, &err)) {
        if (changed != n->discovery_mtime_ns)
            rg_log(RG_LOG_WARN, "cluster", err.message, "kept=%s", "the_last_good_one");
        n->peers_wait = false;
    } else if (same_peers(&n->discovery, &d)) {
        take_addresses(n, &d);
        n->peers_wait = false;
    } else {
        take_peers(n, &d, changed != n->discovery_mtime_ns);
    }
    n->discovery_mtime_ns = changed;
}

/* Who computes is judged by its peers (stuck); a step that nobody computes and that does not come
 * back is one that somebody has swallowed, or the slowest of cables. */
static void check_lost_step(struct rg_node *n, const struct rg_ring_stats *own, int64_t now)
{
    uint64_t layers = own->layers_done;
    bool busy = !own->out;
    struct rg_err why;

    for (uint32_t i = 0; i < n->discovery.n && !busy; i++) {
        struct rg_peer_view v;

        if (i == n->self)
            continue;
        rg_membership_peer(n->membership, i, rg_clock_ns(), &v);
        busy = v.busy;
        layers += v.layers_done;
    }
    if (busy || layers != n->out_layers) {
        n->out_layers = layers;
        n->out_since_ms = now;
    } else if (now - n->out_since_ms >= n->options.stuck_ms) {
        rg_fail(&why, RG_E_PEER,
                "a step did not come back for %lld s, and no node computes it (--stuck-timeout)",
                (long long)(n->options.stuck_ms / 1000));
        rg_ring_give_up(n->ring, &why);
        n->out_since_ms = now;
    }
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
    check_lost_step(n, &stats, now);
    rg_node_tell_missed(n);
    rg_node_event(n, &work);
    rg_node_tell_if_loaded(n);
    rg_node_event(n, &turn);
    rg_node_dial_due(n, now);
    rg_node_strangers_tick(n, now);
    if (now - n->discovery_read_ms >= RG_NODE_REREAD_MS || n->peers_wait) {
        n->discovery_read_ms = now;
        reread_discovery(n);
    }
    /* Requests and plans that come and go leave holes between what stays. */
    if (now - n->trimmed_ms >= RG_NODE_TRIM_MS) {
        n->trimmed_ms = now;
        rg_mem_trim();
    }
    if (!n->closing)
        n->events.on_change(n->ud);
}
