/* grpc_args.c - the settings of every channel and of the server, with their reasons. */
#include <limits.h>
#include <string.h>

#include "cluster/grpc_core.h"

size_t rg_link_bytes_max(const struct rg_transport *t, enum rg_link_kind kind)
{
    switch (kind) {
    case RG_LINK_CONTROL:
        return RG_LIMIT_CONTROL_BYTES;
    case RG_LINK_STEPS:
        return t->step_bytes_max > RG_LIMIT_CONTROL_BYTES ? t->step_bytes_max
                                                          : RG_LIMIT_CONTROL_BYTES;
    case RG_LINK_FORWARD:
    case RG_LINK_PROBE:
    case RG_LINK_KINDS:
        break;
    }
    return RG_LIMIT_FORWARD_BYTES;
}

grpc_arg rg_grpc_arg_int(const char *key, int value)
{
    /* The API has no const; it copies keys and texts. */
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

grpc_arg rg_grpc_arg_text(const char *key, const char *text)
{
    return (grpc_arg){.type = GRPC_ARG_STRING,
                      .key = (char *)(uintptr_t)key,
                      .value.string = (char *)(uintptr_t)text};
}

struct setting {
    const char *key;
    int value;
};

/* Both sides. */
static const struct setting common[] = {
    /* A dead machine is noticed in 4.2 s also where no heartbeat runs: every loss is to be seen by
     * the client within 5.  A transport thread answers, so a node that computes is not dead, and
     * one that stands still for 2 s is not either.  The other side must allow pings that often,
     * also when the network bunches them, or it answers "too_many_pings". */
    {GRPC_ARG_KEEPALIVE_TIME_MS, 1200},
    {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 3000},
    {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
    {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
    {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500},
    {GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2},
    {GRPC_ARG_MAX_METADATA_SIZE, 8192},
    {GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1},
    /* Hidden states don't compress, and a compressed message could be a bomb. */
    {GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1},
    {GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0},
    {GRPC_ARG_ENABLE_CHANNELZ, 0},
    {GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0},
};

static const struct setting of_server[] = {
    /* Two daemons must not share a port. */
    {GRPC_ARG_ALLOW_REUSEPORT, 0},
    {GRPC_ARG_MAX_CONCURRENT_STREAMS, 64},
    {GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, RG_LIMIT_HELLO_WAIT_MS},
    {GRPC_ARG_MAX_CONNECTION_IDLE_MS, RG_LIMIT_IDLE_MS},
};

static const struct setting of_dialler[] = {
    /* A connection of its own for each link: 59 MB of a step must not stand before a heartbeat. */
    {GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1},
    /* A link is one attempt. */
    {GRPC_ARG_ENABLE_RETRIES, 0},
    {GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, RG_LIMIT_HELLO_WAIT_MS},
    /* A name that DNS knows from now on is not waited for until an old question has timed out. */
    {GRPC_ARG_DNS_ARES_QUERY_TIMEOUT_MS, 2000},
    /* Nothing of the environment or the DNS may redirect it. */
    {GRPC_ARG_ENABLE_HTTP_PROXY, 0},
    {GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1},
};

static size_t add(grpc_arg *args, size_t n, const struct setting *settings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        args[n++] = rg_grpc_arg_int(settings[i].key, settings[i].value);
    return n;
}

size_t rg_link_bytes_most(const struct rg_transport *t)
{
    size_t most = 0;

    for (int kind = 0; kind < RG_LINK_KINDS; kind++) {
        const size_t bytes = rg_link_bytes_max(t, (enum rg_link_kind)kind);

        if (bytes > most)
            most = bytes;
    }
    return most;
}

size_t rg_grpc_args(const struct rg_transport *t, grpc_arg *args, size_t message_max, bool server)
{
    size_t n = add(args, 0, common, sizeof common / sizeof common[0]);

    if (server)
        n = add(args, n, of_server, sizeof of_server / sizeof of_server[0]);
    else
        n = add(args, n, of_dialler, sizeof of_dialler / sizeof of_dialler[0]);
    args[n++] = rg_grpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
                                message_max > INT_MAX ? INT_MAX : (int)message_max);
    args[n++] = (grpc_arg){.type = GRPC_ARG_POINTER,
                           .key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA,
                           .value.pointer = {.p = t->quota,
                                             .vtable = grpc_resource_quota_arg_vtable()}};
    return n;
}
