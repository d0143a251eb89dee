/* grpc_accept.c - a peer's call becomes a link: who it is, from where, and whether it may. */
#include "cluster/grpc_link.h"

#include <stdio.h>
#include <string.h>

#include <grpc/slice.h>
#include <grpc/support/alloc.h>

enum { ADDRESS_BYTES = 320, NAMES_BYTES = 4096 };

void rg_call_names(grpc_call *call, char *names, size_t size)
{
    grpc_auth_context *context = grpc_call_auth_context(call);
    size_t n = 0;

    names[0] = '\0';
    if (!context)
        return;
    if (grpc_auth_context_peer_is_authenticated(context)) {
        grpc_auth_property_iterator it =
            grpc_auth_context_find_properties_by_name(context, GRPC_X509_SAN_PROPERTY_NAME);
        const grpc_auth_property *p;

        while ((p = grpc_auth_property_iterator_next(&it))) {
            if (memchr(p->value, '\n', p->value_length) || memchr(p->value, 0, p->value_length) ||
                n + p->value_length + 2 > size)
                continue;
            if (n > 0)
                names[n++] = '\n';
            memcpy(names + n, p->value, p->value_length);
            n += p->value_length;
            names[n] = '\0';
        }
    }
    grpc_auth_context_release(context);
}

/* "ipv6:%5B::1%5D:4711" is "[::1]:4711". */
static void read_address(grpc_call *call, char *address, size_t size)
{
    char *peer = grpc_call_get_peer(call);
    const char *from = peer ? peer : "";
    size_t n = 0;

    if (strncmp(from, "ipv4:", 5) == 0 || strncmp(from, "ipv6:", 5) == 0)
        from += 5;
    while (*from && n + 1 < size) {
        if (strncmp(from, "%5B", 3) == 0 || strncmp(from, "%5D", 3) == 0) {
            address[n++] = from[2] == 'B' ? '[' : ']';
            from += 3;
        } else {
            address[n++] = *from++;
        }
    }
    address[n] = '\0';
    gpr_free(peer);
}

static void begin_accepted(struct rg_link *l)
{
    grpc_metadata open = {.key = grpc_slice_from_static_string(RG_OPEN_KEY),
                          .value = grpc_slice_from_static_string("open")};
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA,
                  .data.send_initial_metadata = {.count = 1, .metadata = &open}};

    l->started = true;
    l->open = true;
    if (l->cut)
        return;
    rg_link_start(l, &op, &l->opened);
    rg_link_receive(l);
    rg_link_pump(l);
}

static void accept_link(struct rg_link *l)
{
    struct rg_transport *t = l->transport;
    char names[NAMES_BYTES], address[ADDRESS_BYTES];
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                  .data.recv_close_on_server.cancelled = &l->cancelled};
    struct rg_link_events events = {0};
    void *ud = NULL;

    rg_call_names(l->call, names, sizeof names);
    read_address(l->call, address, sizeof address);
    snprintf(l->peer, sizeof l->peer, "%s", address);
    pthread_mutex_lock(&l->mutex);
    rg_link_start(l, &op, &l->ended);
    pthread_mutex_unlock(&l->mutex);

    const bool taken =
        t->on_accept && t->on_accept(t->ud, l, l->kind, names, address, &events, &ud);

    pthread_mutex_lock(&l->mutex);
    rg_payloads_hold();
    if (taken) {
        l->events = events;
        l->ud = ud;
        begin_accepted(l);
    } else {
        rg_link_cut(l, GRPC_STATUS_PERMISSION_DENIED, "refused");
    }
    rg_link_release_payloads(l);
    pthread_mutex_unlock(&l->mutex);
    if (!taken)
        rg_link_unref(l);
}

void rg_link_accept(struct rg_transport *t, grpc_call *call, enum rg_link_kind kind)
{
    pthread_mutex_lock(&t->mutex);
    const uint32_t most =
        kind == RG_LINK_FORWARD ? RG_ACCEPTED_MAX - RG_ACCEPTED_NODES : RG_ACCEPTED_MAX;
    const bool room = t->n_accepted < most;

    pthread_mutex_unlock(&t->mutex);
    struct rg_link *l = room ? rg_link_new(t, kind) : NULL;

    if (!l) {
        rg_call_reject(t, call, GRPC_STATUS_RESOURCE_EXHAUSTED, "too many links are open");
        return;
    }
    l->call = call;
    pthread_mutex_lock(&t->mutex);
    t->n_accepted++;
    t->n_calls++;
    rg_link_list_add(l);
    if (t->closing)
        grpc_call_cancel(call, NULL);
    pthread_mutex_unlock(&t->mutex);
    accept_link(l);
}
