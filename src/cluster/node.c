/* node.c - opening and closing a node. */
#include "cluster/node.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/host_memory.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/node_state.h"
#include "cluster/probe.h"

/* ---- the transport's thread ------------------------------------------------------------------ */

/* Under the lock: rg_node_close() takes it before the forwards go. */
static bool accept_forward(struct rg_node *n, struct rg_link *l, struct rg_link_events *events,
                           void **ud)
{
    bool taken;

    pthread_mutex_lock(&n->lock);
    taken = n->takes_links && rg_forwards_accept(n->forwards, l, events, ud);
    pthread_mutex_unlock(&n->lock);
    return taken;
}

static bool on_accept(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                      const char *address, struct rg_link_events *events, void **link_ud)
{
    struct rg_node *n = ud;
    bool ready;

    if (!rg_node_knows(n, names, address))
        return false;
    if (kind == RG_LINK_PROBE)
        return rg_probe_accept(l, events, link_ud);
    pthread_mutex_lock(&n->lock);
    ready = n->takes_links;
    pthread_mutex_unlock(&n->lock);
    if (!ready) {
        /* Accepted and ended, because a refusal has no words. */
        *events = (struct rg_link_events){0};
        rg_link_close(l, "this node is starting or ending");
        rg_link_release(l);
        return true;
    }
    switch (kind) {
    case RG_LINK_CONTROL:
        return rg_node_accept_control(n, l, names, address, events, link_ud);
    case RG_LINK_STEPS:
        return rg_ring_accept(n->ring, l, names, events, link_ud);
    case RG_LINK_FORWARD:
        return n->is_head && accept_forward(n, l, events, link_ud);
    default:
        return false;
    }
}

static void on_connected(void *ud, struct rg_epoch epoch)
{
    rg_node_note(ud, RG_NOTE_RING_CONNECTED, NULL, NULL, epoch, NULL);
}

static void on_down(void *ud, struct rg_epoch epoch, const struct rg_err *why)
{
    rg_node_note(ud, RG_NOTE_RING_DOWN, NULL, NULL, epoch, why);
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool is_off_loopback(const struct rg_node *n, const char *host)
{
    for (uint32_t i = 0; i < n->discovery.n; i++)
        if (!rg_address_is_loopback(n->discovery.peers[i].address))
            return true;
    return !rg_address_is_loopback(host);
}

static enum rg_code find_self(struct rg_node *n, struct rg_err *err)
{
    int32_t self;

    if (!n->options.node_id)
        return rg_discovery_self(&n->discovery, &n->self, err);
    self = rg_discovery_find(&n->discovery, n->options.node_id);
    if (self < 0)
        return rg_fail(err, RG_E_USAGE, "--node-id %.128s: %s has no such peer",
                       n->options.node_id, n->discovery_path);
    n->self = (uint32_t)self;
    return RG_OK;
}

static void say_interfaces(const struct rg_node *n)
{
    char name[64];
    struct rg_err err;

    for (uint32_t i = 0; i < n->discovery.n; i++) {
        const struct rg_peer_info *p = &n->discovery.peers[i];

        if (i == n->self)
            continue;
        if (rg_address_interface(name, sizeof name, p->address, &err))
            rg_log(RG_LOG_WARN, "cluster", err.message, "peer=%s", p->id);
        else
            rg_log(RG_LOG_INFO, "cluster", "a peer", "peer=%s address=%s port=%u interface=%s%s",
                   p->id, p->address, p->port, name, i == 0 ? " head=true" : "");
    }
}

static enum rg_code listen_for_peers(struct rg_node *n, struct rg_err *err)
{
    const struct rg_peer_info *self = &n->discovery.peers[n->self];
    const char *host = n->options.host ? n->options.host : self->address;
    const struct rg_transport_options options = {
        .host = host,
        .port = n->options.port ? (uint16_t)n->options.port : self->port,
        .tls_dir = n->options.tls_dir,
        .node_id = self->id,
        .step_bytes_max = RG_LIMIT_STEP_BYTES,
        .on_accept = on_accept,
        .ud = n};
    enum rg_code code = rg_address_check_local(host, err);

    if (code)
        return code;
    if (!n->options.tls_dir && !n->options.insecure_peers && is_off_loopback(n, host))
        return rg_fail(err, RG_E_USAGE,
                       "%s: peers on other hosts need certificates: run `renga certs "
                       "--discovery-config-path %s --out certs` once, copy certs/%s here, and add "
                       "`--tls-dir certs/%s`; or trust the network with `--insecure-peers`",
                       n->discovery_path, n->discovery_path, self->id, self->id);
    code = rg_transport_open(&n->transport, &options, err);
    if (code)
        return code;
    rg_log(RG_LOG_INFO, "cluster", "listening for peers",
           "node=%s address=%s port=%u role=%s tls=%s", self->id, host,
           rg_transport_port(n->transport), n->is_head ? "head" : "worker",
           n->options.tls_dir ? "yes" : "no");
    say_interfaces(n);
    return RG_OK;
}

static enum rg_code open_files(struct rg_node *n, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    n->discovery_path = rg_strdup(n->options.discovery_path);
    if (!n->discovery_path)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a node");
    n->discovery_mtime_ns = rg_node_discovery_time(n);
    code = rg_discovery_read(&n->discovery, n->discovery_path, err);
    if (!code)
        code = find_self(n, err);
    n->is_head = n->self == 0;
    if (!code && n->options.layers)
        code = rg_plan_parse_ranges(n->ranges, &n->n_ranges, n->options.layers, err);
    return code;
}

static void on_handle_closed(uv_handle_t *h)
{
    struct rg_node *n = h->data;
    struct rg_node_events events = n->events;
    void *ud = n->ud;

    if (--n->n_handles > 0)
        return;
    pthread_mutex_destroy(&n->lock);
    rg_discovery_free(&n->discovery);
    rg_model_card_free(&n->hello.model);
    rg_free(n->discovery_path);
    rg_free(n);
    if (events.on_closed)
        events.on_closed(ud);
}

/* The handles go last: a closed handle's memory is needed until libuv says so. */
static void close_handles(struct rg_node *n)
{
    uv_close((uv_handle_t *)&n->tick, on_handle_closed);
    uv_close((uv_handle_t *)&n->wake, on_handle_closed);
}

enum rg_code rg_node_open(struct rg_node **out, uv_loop_t *loop,
                          const struct rg_node_options *options,
                          const struct rg_node_events *events, void *ud, struct rg_err *err)
{
    struct rg_node *n = rg_calloc(1, sizeof *n);
    enum rg_code code;

    *out = NULL;
    if (!n)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a node");
    n->loop = loop;
    n->options = *options;
    n->random = rg_clock_random_seed();
    n->tick.data = n->wake.data = n;
    if (pthread_mutex_init(&n->lock, NULL) != 0 ||
        uv_async_init(loop, &n->wake, rg_node_on_wake) != 0) {
        rg_free(n);
        return rg_fail(err, RG_E_IO, "a node's thread primitives could not be made");
    }
    (void)uv_timer_init(loop, &n->tick);
    n->n_handles = 2;
    code = open_files(n, err);
    if (!code)
        code = listen_for_peers(n, err);
    if (!code)
        code = rg_forwards_open(&n->forwards, loop, err);
    if (code) {
        n->closing = true;
        rg_transport_close(n->transport);
        close_handles(n);
        return code;
    }
    n->events = *events;
    n->ud = ud;
    *out = n;
    return RG_OK;
}

/* ---- beginning ------------------------------------------------------------------------------- */

static enum rg_code make_hello(struct rg_node *n, const struct rg_node_model *model,
                               struct rg_err *err)
{
    const struct rg_peer_info *self = &n->discovery.peers[n->self];
    struct rg_hello *h = &n->hello;

    *h = (struct rg_hello){.major = RG_PROTOCOL_MAJOR,
                           .minor = RG_PROTOCOL_MINOR,
                           .claimed_bytes = self->memory_bytes,
                           .memory_bytes = rg_host_memory_bytes(),
                           .overcommit = n->options.overcommit};
    (void)snprintf(h->build, sizeof h->build, "renga %s", RENGA_VERSION);
    (void)snprintf(h->node_id, sizeof h->node_id, "%s", self->id);
    (void)snprintf(h->cluster, sizeof h->cluster, "%s", rg_transport_cluster(n->transport));
    (void)snprintf(h->numerics, sizeof h->numerics, "%s", RG_NUMERICS_CPU);
    return rg_model_card_copy(&h->model, model->card, err);
}

enum rg_code rg_node_open_membership(struct rg_node *n, struct rg_err *err)
{
    const char *ids[RG_LIMIT_PEERS];
    const int64_t wait = n->options.wait_for;
    const struct rg_membership_options options = {
        .n_peers = n->discovery.n,
        .self = n->self,
        .ids = ids,
        .hello = &n->hello,
        .wait_for = wait < 0 || wait >= n->discovery.n ? n->discovery.n - 1 : (uint32_t)wait,
        .settle_ms = RG_NODE_SETTLE_MS,
        .grace_ms = n->options.grace_ms,
        .stuck_ms = n->options.stuck_ms,
        .propose = rg_node_propose,
        .ud = n};

    n->hello.boot = rg_clock_random_seed();
    (void)snprintf(n->hello.head_id, sizeof n->hello.head_id, "%s", n->discovery.peers[0].id);
    for (uint32_t i = 0; i < n->discovery.n; i++)
        ids[i] = n->discovery.peers[i].id;
    return rg_membership_open(&n->membership, &options, err);
}

static enum rg_code check_ranges(const struct rg_node *n, const struct rg_model_config *c,
                                 struct rg_err *err)
{
    const char *ids[RG_LIMIT_PEERS];

    for (uint32_t i = 0; i < n->discovery.n; i++)
        ids[i] = n->discovery.peers[i].id;
    return n->n_ranges == 0 ? RG_OK
                            : rg_plan_check_ranges(n->ranges, n->n_ranges, ids, n->discovery.n,
                                                   c->num_hidden_layers, err);
}

static enum rg_code check_sizes(const struct rg_node_model *m, struct rg_err *err)
{
    const uint64_t rows = (uint64_t)m->chunk_rows + m->parallel;
    const uint64_t bytes = rows * m->checkpoint->config.hidden_size * sizeof(float);

    if (rows <= RG_LIMIT_STEP_ROWS && bytes + RG_LIMIT_STEP_HEAD_BYTES <= RG_LIMIT_STEP_BYTES)
        return RG_OK;
    return rg_fail(err, RG_E_USAGE,
                   "--chunk %u: a step of a ring has %u rows and %u MiB at most: lower it",
                   m->chunk_rows, RG_LIMIT_STEP_ROWS, RG_LIMIT_STEP_BYTES >> 20);
}

enum rg_code rg_node_begin(struct rg_node *n, const struct rg_node_model *model,
                           struct rg_err *err)
{
    const struct rg_model_config *c = &model->checkpoint->config;
    const struct rg_ring_options ring = {
        .node_id = n->discovery.peers[n->self].id,
        .is_head = n->is_head,
        .hidden = c->hidden_size,
        .vocab_size = c->vocab_size,
        .events = {.on_connected = on_connected, .on_down = on_down},
        .ud = n};
    enum rg_code code = n->is_head ? check_sizes(model, err) : RG_OK;

    n->checkpoint = model->checkpoint;
    n->asked = *model;
    n->asked.card = NULL;
    if (!code && n->is_head && !(model->card->embedding.there && model->card->head.there))
        code = rg_fail(err, RG_E_USAGE,
                       "%s: the head node needs the embedding and lm_head on its own disk: copy "
                       "their shards here",
                       n->checkpoint->dir);
    if (!code)
        code = check_ranges(n, c, err);
    if (!code)
        code = make_hello(n, model, err);
    if (!code)
        code = rg_ring_open(&n->ring, &ring, err);
    if (!code)
        code = rg_node_open_membership(n, err);
    if (!code && uv_timer_start(&n->tick, rg_node_on_tick, 0, RG_NODE_TICK_MS) != 0)
        code = rg_fail(err, RG_E_IO, "a node's timer could not be started");
    if (code)
        return code;
    pthread_mutex_lock(&n->lock);
    n->takes_links = true;
    pthread_mutex_unlock(&n->lock);
    rg_transport_set_serving(n->transport, true);
    return RG_OK;
}

/* ---- closing --------------------------------------------------------------------------------- */

static void finish_close(struct rg_node *n)
{
    /* Every note of a link was written by a thread that has ended. */
    rg_node_on_wake(&n->wake);
    rg_node_links_free(n);
    if (n->ring)
        rg_ring_set_stage(n->ring, NULL);
    rg_node_part_close(&n->loaded);
    rg_ring_close(n->ring);
    rg_membership_close(n->membership);
    close_handles(n);
}

/* A load that runs is told to stop; its end is waited for here, in short turns of the loop. */
static void on_close_tick(uv_timer_t *tick)
{
    struct rg_node *n = tick->data;

    if (n->job.running)
        return;
    (void)uv_timer_stop(tick);
    finish_close(n);
}

static void on_forwards_closed(void *ud)
{
    struct rg_node *n = ud;

    rg_transport_close(n->transport);
    n->transport = NULL;
    (void)uv_timer_start(&n->tick, on_close_tick, 0, 10);
}

void rg_node_halt(struct rg_node *n)
{
    const struct rg_err why = {.code = RG_E_PEER, .message = "this node is ending"};

    n->closing = true;
    if (n->ring)
        rg_ring_stop(n->ring, &why);
}

void rg_node_close(struct rg_node *n)
{
    rg_node_halt(n);
    (void)uv_timer_stop(&n->tick);
    pthread_mutex_lock(&n->lock);
    n->takes_links = false;
    pthread_mutex_unlock(&n->lock);
    rg_node_load_stop(n);
    rg_forwards_close(n->forwards, on_forwards_closed, n);
}
