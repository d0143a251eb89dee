/* Opening the API's server, its exposure rule, and the order in which it goes down. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>

#include "api/api_state.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

static void on_head(void *ud, struct rg_http_conn *c, struct rg_http_request *r)
{
    rg_router_on_head(ud, c, r);
}

static void on_request(void *ud, struct rg_http_conn *c, struct rg_http_request *r)
{
    rg_router_on_request(ud, c, r);
}

static void on_gone(void *ud, struct rg_http_conn *c)
{
    const struct rg_conn_owner *owner = rg_http_conn_user(c);

    (void)ud;
    if (owner && owner->gone)
        owner->gone(c);
}

static void on_tick(void *ud, struct rg_http_conn *c)
{
    const struct rg_conn_owner *owner = rg_http_conn_user(c);

    (void)ud;
    if (owner && owner->tick)
        owner->tick(c);
}

static void on_written(void *ud, struct rg_http_conn *c)
{
    const struct rg_conn_owner *owner = rg_http_conn_user(c);

    (void)ud;
    if (owner && owner->written)
        owner->written(c);
}

static void make_error(void *ud, int status, const char *why, struct rg_buf *body)
{
    struct rg_api_error error;

    (void)ud;
    (void)rg_api_fail(&error, status == 503 ? RG_API_QUEUE_FULL : RG_API_INVALID_VALUE, NULL, "%s",
                      why);
    error.status = status;
    /* An empty body is what is left when there is no memory for one. */
    if (rg_api_error_print(body, &error, NULL) != RG_OK)
        rg_buf_clear(body);
}

static void on_inbox_closed(void *ud)
{
    struct rg_api    *a = ud;
    rg_api_closed_fn *on_closed = a->on_closed;
    void             *on_closed_ud = a->ud;

    rg_auth_free(&a->auth);
    rg_free(a);
    if (on_closed)
        on_closed(on_closed_ud);
}

/* The inbox goes last: requests whose clients are gone still wait for the engine's word there. */
static void close_if_over(struct rg_api *a)
{
    if (a->server || a->jobs || a->closing)
        return;
    a->closing = true;
    rg_inbox_close(a->inbox, on_inbox_closed, a);
}

static void on_server_closed(void *ud)
{
    struct rg_api *a = ud;

    a->server = NULL;
    close_if_over(a);
}

void rg_api_job_ended(struct rg_api *a)
{
    close_if_over(a);
}

static const struct rg_http_events events = {
    .on_head = on_head,
    .on_request = on_request,
    .on_gone = on_gone,
    .on_tick = on_tick,
    .on_written = on_written,
    .make_error = make_error,
    .on_closed = on_server_closed,
};

static enum rg_code parse_address(struct sockaddr_storage *out, bool *loopback,
                                  const struct rg_api_options *o, struct rg_err *err)
{
    struct sockaddr_in  *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof *out);
    if (uv_ip4_addr(o->host, o->port, v4) == 0) {
        *loopback = (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
        return RG_OK;
    }
    if (uv_ip6_addr(o->host, o->port, v6) == 0) {
        *loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) != 0;
        return RG_OK;
    }
    return rg_fail(err, RG_E_USAGE,
                   "--api-host: %s is not an IP address; give one such as 127.0.0.1", o->host);
}

static enum rg_code check_exposure(const struct rg_api_options *o, bool loopback,
                                   struct rg_err *err)
{
    if (loopback || o->api_key_file || o->insecure)
        return RG_OK;
    return rg_fail(err, RG_E_USAGE,
                   "--api-host: %s is not loopback, so clients must have a key: run `(umask 077; "
                   "head -c 24 /dev/urandom | base64 > api.key)`, then add `--api-host %s "
                   "--api-port %u --api-key-file api.key`; or let everybody in with `--api-host %s "
                   "--api-port %u --insecure-api`",
                   o->host, o->host, o->port, o->host, o->port);
}

static enum rg_code open_sockets(struct rg_api *a, const struct rg_api_options *o,
                                 const struct sockaddr_storage *address, struct rg_err *err)
{
    struct rg_err why;
    enum rg_code  code = rg_inbox_open(&a->inbox, a->loop, rg_chat_on_news, err);

    if (code != RG_OK)
        return code;
    code = rg_http_server_open(&a->server, a->loop, (const struct sockaddr *)address, &events, a,
                               &why);
    if (code == RG_OK)
        return RG_OK;
    rg_inbox_close(a->inbox, NULL, NULL);
    return rg_fail(err, code, "api: %s port %u: %s; is another program using it? Choose one with "
                              "--api-port",
                   o->host, o->port, why.message);
}

enum rg_code rg_api_open(struct rg_api **out, uv_loop_t *loop, const struct rg_api_options *options,
                         struct rg_err *err)
{
    struct sockaddr_storage address;
    struct rg_api          *a = rg_calloc(1, sizeof *a);
    enum rg_code            code;

    if (!a)
        return rg_fail(err, RG_E_NOMEM, "api: out of memory");
    a->loop = loop;
    code = parse_address(&address, &a->loopback, options, err);
    if (code == RG_OK)
        code = check_exposure(options, a->loopback, err);
    if (code == RG_OK && options->api_key_file)
        code = rg_auth_load(&a->auth, options->api_key_file, err);
    if (code == RG_OK)
        code = open_sockets(a, options, &address, err);
    if (code != RG_OK) {
        rg_auth_free(&a->auth);
        rg_free(a);
        return code;
    }
    *out = a;
    return RG_OK;
}

void rg_api_set_progress(struct rg_api *a, double share)
{
    atomic_store(&a->progress, share);
}

void rg_api_set_model(struct rg_api *a, struct rg_llm *llm)
{
    a->llm = llm;
    a->model_created = rg_clock_unix();
}

void rg_api_set_nodes(struct rg_api *a, rg_api_nodes_fn *nodes, void *ud)
{
    a->nodes = nodes;
    a->nodes_ud = ud;
}

void rg_api_set_forwarder(struct rg_api *a, const struct rg_api_forwarder *forwarder)
{
    a->forwarder = *forwarder;
    a->forwards = true;
}

uint16_t rg_api_port(const struct rg_api *a)
{
    return a->server ? rg_http_server_port(a->server) : 0;
}

void rg_api_drain(struct rg_api *a, int64_t deadline_ms, rg_api_closed_fn *on_closed, void *ud)
{
    a->on_closed = on_closed;
    a->ud = ud;
    if (a->server)
        rg_http_server_drain(a->server, deadline_ms);
}
