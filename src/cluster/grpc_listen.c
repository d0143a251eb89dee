/* grpc_listen.c - the server: where it listens, the calls that come, and listening anew.
 *
 * gRPC 1.51 accepts no more for ever when the process had no descriptor for a connection once.  So
 * a server in that state is told to end, which closes its port and leaves its links alone, and
 * another takes the port over.  The one before lives until the last of its links is gone. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <grpc/slice.h>

#include "base/log.h"
#include "base/mem.h"
#include "cluster/grpc_core.h"

enum { LOOK_MS = 500, SPARE_DESCRIPTORS = 4, SERVERS_MAX = 16 };

struct rg_server {
    struct rg_transport *transport;
    struct rg_server *next;
    grpc_server *grpc;
    struct rg_accept accepts[RG_ACCEPTS];
    struct rg_done ended;
    uint32_t refs; /* under the transport's mutex: until it has ended, and for each open question */
    bool leaving;  /* the same: it was told to end */
};

/* ---- the life of a server -------------------------------------------------------------------- */

static void server_unref(struct rg_server *s)
{
    struct rg_transport *t = s->transport;

    pthread_mutex_lock(&t->mutex);
    const bool last = --s->refs == 0;

    pthread_mutex_unlock(&t->mutex);
    if (last) {
        grpc_server_destroy(s->grpc);
        rg_free(s);
    }
}

static void on_server_ended(void *owner, bool ok)
{
    struct rg_server *s = owner;
    struct rg_transport *t = s->transport;
    struct rg_server **at = &t->servers;

    (void)ok;
    pthread_mutex_lock(&t->mutex);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    pthread_mutex_unlock(&t->mutex);
    server_unref(s);
    pthread_mutex_lock(&t->mutex);
    rg_transport_shut_queue(t);
    pthread_mutex_unlock(&t->mutex);
}

/* Its port closes at once; its links live on. */
static void tell_to_end(struct rg_server *s)
{
    struct rg_transport *t = s->transport;

    pthread_mutex_lock(&t->mutex);
    const bool told = s->leaving;

    s->leaving = true;
    pthread_mutex_unlock(&t->mutex);
    if (!told)
        grpc_server_shutdown_and_notify(s->grpc, t->queue, &s->ended);
}

void rg_listen_end(struct rg_transport *t)
{
    struct rg_server *all[SERVERS_MAX + 1];
    uint32_t n = 0;

    pthread_mutex_lock(&t->mutex);
    for (struct rg_server *s = t->servers; s; s = s->next) {
        assert(n < SERVERS_MAX + 1);
        s->refs++;
        all[n++] = s;
    }
    pthread_mutex_unlock(&t->mutex);
    for (uint32_t i = 0; i < n; i++) {
        tell_to_end(all[i]);
        grpc_server_cancel_all_calls(all[i]->grpc);
        server_unref(all[i]);
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void forget_request(struct rg_accept *a)
{
    grpc_metadata_array_destroy(&a->metadata);
    grpc_call_details_destroy(&a->details);
}

static void request_call(struct rg_accept *a)
{
    struct rg_server *s = a->server;
    struct rg_transport *t = s->transport;

    a->call = NULL;
    grpc_call_details_init(&a->details);
    grpc_metadata_array_init(&a->metadata);
    pthread_mutex_lock(&t->mutex);
    s->refs++;
    pthread_mutex_unlock(&t->mutex);
    if (grpc_server_request_call(s->grpc, &a->call, &a->details, &a->metadata, t->queue,
                                 t->queue, &a->done) != GRPC_CALL_OK) {
        forget_request(a);
        server_unref(s);
    }
}

static void dispatch(struct rg_transport *t, grpc_call *call, grpc_slice path)
{
    enum rg_link_kind kind;

    if (rg_link_kind_of(path, &kind))
        rg_link_accept(t, call, kind);
    else if (grpc_slice_str_cmp(path, "/grpc.health.v1.Health/Check") == 0)
        rg_health_accept(t, call, false);
    else if (grpc_slice_str_cmp(path, "/grpc.health.v1.Health/Watch") == 0)
        rg_health_accept(t, call, true);
    else
        rg_call_reject(t, call, GRPC_STATUS_UNIMPLEMENTED, "no such method");
}

static void on_call(void *owner, bool ok)
{
    struct rg_accept *a = owner;
    struct rg_server *s = a->server;
    struct rg_transport *t = s->transport;

    if (ok)
        dispatch(t, a->call, a->details.method);
    forget_request(a);
    pthread_mutex_lock(&t->mutex);
    const bool more = ok && !t->closing && !s->leaving;

    pthread_mutex_unlock(&t->mutex);
    if (more)
        request_call(a);
    server_unref(s);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* gRPC says only that it could not bind: a socket of our own learns why. */
static enum rg_code try_address(const struct sockaddr *address, socklen_t size, const char *host,
                                uint16_t port, struct rg_err *err)
{
    const int on = 1;
    const int fd = socket(address->sa_family, SOCK_STREAM, 0);

    if (fd < 0)
        return rg_fail(err, RG_E_PEER, "%s: cannot listen there: %s", host, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);

    const int e = bind(fd, address, size) == 0 && listen(fd, 1) == 0 ? 0 : errno;

    close(fd);
    if (e == EADDRINUSE)
        return rg_fail(err, RG_E_PEER, "%s port %u is taken: another renga? see --node-port", host,
                       port);
    if (e == EADDRNOTAVAIL)
        return rg_fail(err, RG_E_PEER, "%s is no address of this machine: see --node-host", host);
    if (e)
        return rg_fail(err, RG_E_PEER, "%s port %u: cannot listen: %s", host, port, strerror(e));
    return RG_OK;
}

/* A literal "host:port" for gRPC, after a try. */
static enum rg_code find_address(char *out, size_t size, const char *host, uint16_t port,
                                 struct rg_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[8], name[INET6_ADDRSTRLEN + 20];

    snprintf(service, sizeof service, "%u", port);

    const int e = getaddrinfo(host, service, &hints, &found);

    if (e || !found)
        return rg_fail(err, RG_E_PEER, "%s: cannot listen there: %s", host, gai_strerror(e));

    enum rg_code code = try_address(found->ai_addr, found->ai_addrlen, host, port, err);

    if (!code && getnameinfo(found->ai_addr, found->ai_addrlen, name, sizeof name, NULL, 0,
                             NI_NUMERICHOST) != 0)
        code = rg_fail(err, RG_E_PEER, "%s: is no address", host);
    if (!code)
        snprintf(out, size, found->ai_family == AF_INET6 ? "[%s]:%u" : "%s:%u", name, port);
    freeaddrinfo(found);
    return code;
}

static grpc_server_credentials *server_credentials(struct rg_transport *t)
{
    grpc_ssl_pem_key_cert_pair pair = {.private_key = t->tls.key, .cert_chain = t->tls.cert};

    if (!t->has_tls)
        return grpc_insecure_server_credentials_create();
    return grpc_ssl_server_credentials_create_ex(
        t->tls.ca, &pair, 1, GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, NULL);
}

static struct rg_server *server_new(struct rg_transport *t)
{
    grpc_arg args[RG_DIAL_ARGS_MAX];
    const size_t n = rg_grpc_args(t, args, rg_link_bytes_most(t), true);
    const grpc_channel_args all = {.num_args = n, .args = args};
    struct rg_server *s = rg_calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->transport = t;
    s->refs = 1;
    s->ended = (struct rg_done){.run = on_server_ended, .owner = s};
    s->grpc = grpc_server_create(&all, NULL);
    if (!s->grpc) {
        rg_free(s);
        return NULL;
    }
    grpc_server_register_completion_queue(s->grpc, t->queue, NULL);
    return s;
}

static enum rg_code bind_server(struct rg_server *s, const char *address, uint16_t *out,
                                struct rg_err *err)
{
    grpc_server_credentials *credentials = server_credentials(s->transport);

    if (!credentials)
        return rg_fail(err, RG_E_USAGE, "gRPC does not take these certificates");

    const int port = grpc_server_add_http2_port(s->grpc, address, credentials);

    grpc_server_credentials_release(credentials);
    if (port <= 0)
        return rg_fail(err, RG_E_PEER, "%s: cannot listen there", address);
    *out = (uint16_t)port;
    return RG_OK;
}

/* Also a server that will not serve must be started: it is told to end like any other. */
static void start_server(struct rg_server *s, bool serves)
{
    struct rg_transport *t = s->transport;

    grpc_server_start(s->grpc);
    pthread_mutex_lock(&t->mutex);
    const bool closing = t->closing;

    s->next = t->servers;
    t->servers = s;
    pthread_mutex_unlock(&t->mutex);
    for (int i = 0; i < RG_ACCEPTS && serves && !closing; i++) {
        s->accepts[i].server = s;
        s->accepts[i].done = (struct rg_done){.run = on_call, .owner = &s->accepts[i]};
        request_call(&s->accepts[i]);
    }
    if (closing)
        tell_to_end(s);
}

enum rg_code rg_listen_open(struct rg_transport *t, const struct rg_transport_options *o,
                            struct rg_err *err)
{
    char address[RG_LISTEN_BYTES];
    enum rg_code code = find_address(address, sizeof address, o->host, o->port, err);

    if (code)
        return code;

    struct rg_server *s = server_new(t);

    if (!s)
        return rg_fail(err, RG_E_NOMEM, "memory is short for the peers' port");
    code = bind_server(s, address, &t->port, err);
    start_server(s, !code);
    if (code)
        return code;

    const int colon = (int)(strrchr(address, ':') - address);

    snprintf(t->listens_on, sizeof t->listens_on, "%.*s:%u", colon, address, t->port);
    t->accepts_failed = rg_grpc_accepts_failed();
    return RG_OK;
}

/* ---- listening anew -------------------------------------------------------------------------- */

static bool descriptors_are_back(void)
{
    int fds[SPARE_DESCRIPTORS], n = 0;

    while (n < SPARE_DESCRIPTORS && (fds[n] = socket(AF_INET, SOCK_STREAM, 0)) >= 0)
        n++;
    for (int i = 0; i < n; i++)
        close(fds[i]);
    return n == SPARE_DESCRIPTORS;
}

/* Whether there is room for one more; the one that listens is told to end. */
static bool make_room(struct rg_transport *t)
{
    struct rg_server *listens = NULL;
    uint32_t n = 0;

    pthread_mutex_lock(&t->mutex);
    for (struct rg_server *s = t->servers; s; s = s->next) {
        n++;
        if (!s->leaving) {
            listens = s;
            s->refs++;
        }
    }
    pthread_mutex_unlock(&t->mutex);
    if (listens) {
        tell_to_end(listens);
        server_unref(listens);
    }
    return n < SERVERS_MAX;
}

/* The old one's port closes on gRPC's threads, so this may take another look. */
static bool listen_anew(struct rg_transport *t)
{
    struct rg_server *s = make_room(t) ? server_new(t) : NULL;
    struct rg_err err;
    uint16_t port; /* the same as before */

    if (!s)
        return false;

    const enum rg_code code = bind_server(s, t->listens_on, &port, &err);

    start_server(s, !code);
    if (code)
        tell_to_end(s);
    return !code;
}

int64_t rg_listen_look(struct rg_transport *t, int64_t now_ms)
{
    if (!t->listens_on[0])
        return INT64_MAX;
    if (now_ms < t->look_ms)
        return t->look_ms;
    t->look_ms = now_ms + LOOK_MS;

    const unsigned failed = rg_grpc_accepts_failed();

    if (failed != t->accepts_failed && !t->deaf) {
        t->deaf = true;
        rg_log(RG_LOG_WARN, "peer", "no descriptor for a peer's connection: none is accepted until "
               "some are free again", "listens_on=%s", t->listens_on);
    }
    /* A call of its own keeps the queue open meanwhile. */
    if (t->deaf && descriptors_are_back() && rg_transport_begin_call(t)) {
        t->accepts_failed = failed;
        t->deaf = !listen_anew(t);
        if (!t->deaf)
            rg_log(RG_LOG_INFO, "peer", "peers' connections are accepted again", "listens_on=%s",
                   t->listens_on);
        rg_transport_end_call(t);
    }
    return t->look_ms;
}
