/* grpc_transport.c - the completion queue's thread, and the order in which all of it ends. */
#include <assert.h>
#include <string.h>
#include <time.h>

#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/grpc_core.h"

enum { PAYLOAD_WAIT_S = 5 };

/* ---- calls ----------------------------------------------------------------------------------- */

struct reply {
    struct rg_done done;
    struct rg_transport *transport;
    grpc_call *call;
    int cancelled;
};

bool rg_transport_begin_call(struct rg_transport *t)
{
    pthread_mutex_lock(&t->mutex);
    const bool may = !t->closing;

    if (may)
        t->n_calls++;
    pthread_mutex_unlock(&t->mutex);
    return may;
}

void rg_transport_shut_queue(struct rg_transport *t)
{
    if (!t->closing || t->servers || t->n_calls > 0 || t->queue_shut)
        return;
    t->queue_shut = true;
    grpc_completion_queue_shutdown(t->queue);
}

void rg_transport_end_call(struct rg_transport *t)
{
    pthread_mutex_lock(&t->mutex);
    t->n_calls--;
    rg_transport_shut_queue(t);
    pthread_mutex_unlock(&t->mutex);
}

static void on_replied(void *owner, bool ok)
{
    struct reply *r = owner;
    struct rg_transport *t = r->transport;

    (void)ok;
    grpc_call_unref(r->call);
    rg_free(r);
    rg_transport_end_call(t);
}

void rg_call_reject(struct rg_transport *t, grpc_call *call, grpc_status_code status,
                    const char *text)
{
    struct reply *r = rg_calloc(1, sizeof *r);
    grpc_slice details = grpc_slice_from_static_string(text);

    if (!r || !rg_transport_begin_call(t)) {
        rg_free(r);
        grpc_call_cancel_with_status(call, status, text, NULL);
        grpc_call_unref(call);
        return;
    }
    *r = (struct reply){.done = {.run = on_replied, .owner = r}, .transport = t, .call = call};

    const grpc_op ops[3] = {
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &r->cancelled},
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
         .data.send_status_from_server = {.status = status, .status_details = &details}}};
    const grpc_call_error e = grpc_call_start_batch(call, ops, 3, &r->done, NULL);

    assert(e == GRPC_CALL_OK);
    (void)e;
}

static void *run(void *arg)
{
    struct rg_transport *t = arg;

    for (;;) {
        const int64_t now = rg_clock_ms();
        const int64_t expiry = rg_links_expire(t, now), look = rg_listen_look(t, now);
        const int64_t next = expiry < look ? expiry : look;
        const gpr_timespec until =
            next == INT64_MAX ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                              : gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                             gpr_time_from_millis(next - now, GPR_TIMESPAN));
        const grpc_event e = grpc_completion_queue_next(t->queue, until, NULL);

        if (e.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (e.type == GRPC_OP_COMPLETE) {
            const struct rg_done *done = e.tag;

            RG_TAKE_OVER(e.tag);
            done->run(done->owner, e.success != 0);
        }
    }
}

/* ---- opening and closing --------------------------------------------------------------------- */

void rg_transport_unref(struct rg_transport *t)
{
    if (atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    rg_tls_free(&t->tls);
    pthread_cond_destroy(&t->no_payloads);
    pthread_mutex_destroy(&t->mutex);
    rg_free(t);
}

static struct rg_transport *transport_new(const struct rg_transport_options *o)
{
    struct rg_transport *t = rg_calloc(1, sizeof *t);

    if (!t)
        return NULL;
    if (pthread_mutex_init(&t->mutex, NULL) != 0) {
        rg_free(t);
        return NULL;
    }
    if (pthread_cond_init(&t->no_payloads, NULL) != 0) {
        pthread_mutex_destroy(&t->mutex);
        rg_free(t);
        return NULL;
    }
    atomic_init(&t->refs, 1);
    t->step_bytes_max = o->step_bytes_max;
    t->on_accept = o->on_accept;
    t->ud = o->ud;
    return t;
}

static enum rg_code open_grpc(struct rg_transport *t, const struct rg_transport_options *o,
                              struct rg_err *err)
{
    grpc_ssl_pem_key_cert_pair pair = {.private_key = t->tls.key, .cert_chain = t->tls.cert};

    t->queue = grpc_completion_queue_create_for_next(NULL);
    t->quota = grpc_resource_quota_create("peers");
    grpc_resource_quota_resize(t->quota,
                               RG_QUOTA_BYTES + RG_QUOTA_MESSAGES * rg_link_bytes_most(t));
    t->dial_credentials = t->has_tls
                              ? grpc_ssl_credentials_create(t->tls.ca, &pair, NULL, NULL)
                              : grpc_insecure_credentials_create();
    if (!t->queue || !t->dial_credentials)
        return rg_fail(err, RG_E_USAGE, "gRPC does not take these certificates");
    if (o->host) {
        const enum rg_code code = rg_listen_open(t, o, err);

        if (code)
            return code;
    }
    const int e = pthread_create(&t->thread, NULL, run, t);

    if (e)
        return rg_fail(err, RG_E_IO, "no thread for the peers: %s", strerror(e));
    t->thread_runs = true;
    return RG_OK;
}

enum rg_code rg_transport_open(struct rg_transport **out,
                               const struct rg_transport_options *options, struct rg_err *err)
{
    struct rg_transport *t = transport_new(options);
    enum rg_code code = RG_OK;

    *out = NULL;
    if (!t)
        return rg_fail(err, RG_E_NOMEM, "memory is short for the peers' transport");
    rg_grpc_log_setup();
    grpc_init();
    if (options->tls_dir) {
        code = rg_tls_read(&t->tls, options->tls_dir, options->node_id, err);
        t->has_tls = !code;
    }
    if (!code)
        code = open_grpc(t, options, err);
    if (code) {
        rg_transport_close(t);
        return code;
    }
    *out = t;
    return RG_OK;
}

/* Ends what gRPC may still speak of; the queue is shut down by the last of it. */
static void end_calls(struct rg_transport *t)
{
    pthread_mutex_lock(&t->mutex);
    t->closing = true;
    pthread_mutex_unlock(&t->mutex);
    rg_links_cancel(t);
    rg_health_cancel(t);
    rg_listen_end(t);
    pthread_mutex_lock(&t->mutex);
    rg_transport_shut_queue(t);
    pthread_mutex_unlock(&t->mutex);
}

/* gRPC lets go of the last bytes on threads of its own, at once but not before it returns. */
static void wait_for_payloads(struct rg_transport *t)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PAYLOAD_WAIT_S;
    pthread_mutex_lock(&t->mutex);
    while (t->n_payloads > 0)
        if (pthread_cond_timedwait(&t->no_payloads, &t->mutex, &until) != 0)
            break;

    const uint32_t left = t->n_payloads;

    pthread_mutex_unlock(&t->mutex);
    if (left > 0)
        rg_log(RG_LOG_ERROR, "peer", "gRPC still holds payloads", "count=%u", left);
}

void rg_transport_close(struct rg_transport *t)
{
    if (!t)
        return;
    if (t->queue) {
        end_calls(t);
        if (t->thread_runs)
            pthread_join(t->thread, NULL);
        else
            run(t);
        grpc_completion_queue_destroy(t->queue);
    }
    if (t->quota)
        grpc_resource_quota_unref(t->quota);
    if (t->dial_credentials)
        grpc_channel_credentials_release(t->dial_credentials);
    wait_for_payloads(t);
    grpc_shutdown();
    rg_transport_unref(t);
}

uint16_t rg_transport_port(const struct rg_transport *t)
{
    return t->port;
}

const char *rg_transport_cluster(const struct rg_transport *t)
{
    return t->has_tls ? t->tls.cluster : "plain";
}

void rg_transport_set_serving(struct rg_transport *t, bool serving)
{
    pthread_mutex_lock(&t->mutex);
    const bool changed = t->serving != serving;

    t->serving = serving;
    pthread_mutex_unlock(&t->mutex);
    if (changed)
        rg_health_update(t);
}
