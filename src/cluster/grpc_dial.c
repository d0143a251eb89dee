/* grpc_dial.c - a link from here: one attempt, and in time. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <grpc/slice.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cluster/grpc_link.h"

enum { TARGET_BYTES = 320, NAMES_BYTES = 4096 };

static const char *const methods[RG_LINK_KINDS] = {
    "/renga.v1.Peer/Control", "/renga.v1.Peer/Steps", "/renga.v1.Peer/Forward",
    "/renga.v1.Peer/Probe"};

bool rg_link_kind_of(grpc_slice path, enum rg_link_kind *kind)
{
    for (int i = 0; i < RG_LINK_KINDS; i++) {
        if (grpc_slice_str_cmp(path, methods[i]) == 0) {
            *kind = (enum rg_link_kind)i;
            return true;
        }
    }
    return false;
}

/* gRPC compares names without regard to case and knows wildcards; node ids know neither. */
static bool is_wanted_peer(struct rg_link *l)
{
    char names[NAMES_BYTES];

    if (!l->transport->has_tls)
        return true;
    rg_call_names(l->call, names, sizeof names);
    if (rg_tls_names_have(names, l->peer_id))
        return true;
    rg_fail(&l->local, RG_E_PEER, "%s: it shows a certificate of '%.200s'", l->peer, names);
    rg_payloads_hold();
    rg_link_cut(l, GRPC_STATUS_PERMISSION_DENIED, "certificate of another node");
    rg_link_release_payloads(l);
    return false;
}

void rg_link_open(struct rg_link *l)
{
    if (l->open || l->over || l->closing || !is_wanted_peer(l))
        return;
    l->open = true;
    rg_link_set_time(l, INT64_MAX);
    pthread_mutex_unlock(&l->mutex);
    if (l->events.on_open)
        l->events.on_open(l->ud, l);
    pthread_mutex_lock(&l->mutex);
}

static bool says_open(const grpc_metadata_array *initial)
{
    for (size_t i = 0; i < initial->count; i++)
        if (grpc_slice_str_cmp(initial->metadata[i].key, RG_OPEN_KEY) == 0)
            return true;
    return false;
}

/* The initial metadata came, or will never come: a call that was refused at once looks the same,
 * so an acceptance says so in words. */
static void on_opened(void *owner, bool ok)
{
    struct rg_link *l = rg_link_enter(owner);

    if (ok && says_open(&l->initial))
        rg_link_open(l);
    rg_payloads_hold();
    rg_link_receive(l);
    rg_link_release_payloads(l);
    rg_link_leave(l);
}

static void make_target(char *target, size_t size, const struct rg_dial *d)
{
    uint8_t number[16];

    if (inet_pton(AF_INET, d->address, number) == 1)
        snprintf(target, size, "ipv4:%s:%u", d->address, d->port);
    else if (inet_pton(AF_INET6, d->address, number) == 1)
        snprintf(target, size, "ipv6:[%s]:%u", d->address, d->port);
    else
        snprintf(target, size, "dns:///%s:%u", d->address, d->port);
}

static bool make_call(struct rg_link *l, const struct rg_dial *d)
{
    struct rg_transport *t = l->transport;
    char target[TARGET_BYTES];
    grpc_arg args[RG_DIAL_ARGS_MAX];
    size_t n = rg_grpc_args(t, args, l->bytes_max, false);

    args[n++] = t->has_tls ? rg_grpc_arg_text(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, l->peer_id)
                           : rg_grpc_arg_text(GRPC_ARG_DEFAULT_AUTHORITY, "renga");

    const grpc_channel_args all = {.num_args = n, .args = args};

    make_target(target, sizeof target, d);
    l->channel = grpc_channel_create(target, t->dial_credentials, &all);
    if (!l->channel)
        return false;
    l->call = grpc_channel_create_call(
        l->channel, NULL, GRPC_PROPAGATE_DEFAULTS, t->queue,
        grpc_slice_from_static_string(methods[l->kind]), NULL,
        gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    return l->call != NULL;
}

static void start_batches(struct rg_link *l)
{
    grpc_op begin = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    grpc_op opened = {.op = GRPC_OP_RECV_INITIAL_METADATA,
                      .data.recv_initial_metadata.recv_initial_metadata = &l->initial};
    grpc_op ended = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                     .data.recv_status_on_client = {.trailing_metadata = &l->trailing,
                                                    .status = &l->status,
                                                    .status_details = &l->details}};

    pthread_mutex_lock(&l->mutex);
    rg_payloads_hold();
    rg_link_set_time(l, rg_clock_ms() + RG_LIMIT_HELLO_WAIT_MS);
    rg_link_start(l, &ended, &l->ended);
    rg_link_start(l, &begin, &l->finished);
    rg_link_start(l, &opened, &l->opened);
    l->started = true;
    rg_link_pump(l);
    rg_link_release_payloads(l);
    pthread_mutex_unlock(&l->mutex);
}

static bool begin(struct rg_link *l)
{
    struct rg_transport *t = l->transport;

    pthread_mutex_lock(&t->mutex);
    const bool may = !t->closing;

    if (may) {
        t->n_calls++;
        rg_link_list_add(l);
    }
    pthread_mutex_unlock(&t->mutex);
    return may;
}

static void forget(struct rg_link *l)
{
    if (l->call)
        grpc_call_unref(l->call);
    if (l->channel)
        grpc_channel_destroy(l->channel);
    rg_link_unref(l);
    rg_link_unref(l);
}

enum rg_code rg_link_dial(struct rg_link **out, struct rg_transport *t, const struct rg_dial *dial,
                          struct rg_err *err)
{
    struct rg_link *l = rg_link_new(t, dial->kind);

    *out = NULL;
    if (!l || !(l->peer_id = rg_strdup(dial->peer_id))) {
        if (l)
            forget(l);
        return rg_fail(err, RG_E_NOMEM, "%s: memory is short for a link", dial->peer_id);
    }
    l->dialled = true;
    l->events = *dial->events;
    l->ud = dial->ud;
    l->opened.run = on_opened;
    snprintf(l->peer, sizeof l->peer,
             strchr(dial->address, ':') ? "%s ([%.200s]:%u)" : "%s (%.200s:%u)", dial->peer_id,
             dial->address, dial->port);
    if (!make_call(l, dial)) {
        forget(l);
        return rg_fail(err, RG_E_PEER, "%s (%.200s:%u): that is no address", dial->peer_id,
                       dial->address, dial->port);
    }
    /* Its callbacks may come before this returns. */
    *out = l;
    if (!begin(l)) {
        *out = NULL;
        forget(l);
        return rg_fail(err, RG_E_CANCELED, "%s: this node is closing", dial->peer_id);
    }
    start_batches(l);
    return RG_OK;
}
