/* serve.c - wires the API to a model that is loaded on a worker thread while /health already
 * answers, or to a node of a ring.
 *
 * One loop on this thread.  States: loading -> serving -> draining; a failed load drains too. */
#include "cli/serve.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>

#include <uv.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "cli/load_progress.h"
#include "cli/ring_serve.h"
#include "cli/uv_heap.h"

struct daemon {
    uv_loop_t loop;
    uv_signal_t on_term, on_int;
    uv_work_t load;
    struct rg_llm_options options;
    struct rg_api *api;
    struct rg_llm *llm;
    struct rg_ring_serve *ring; /* NULL: this machine serves alone */
    enum rg_code load_code;
    struct rg_err load_err;
    struct rg_load_progress progress;
    int64_t load_begin_ms, end_by_ms;
    bool loading, draining, interrupted;
    _Atomic bool stop_loading; /* read by the worker thread */
};

/* ---- loading --------------------------------------------------------------------------------- */

/* On the worker thread. */
static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    struct daemon *d = ud;

    rg_api_set_progress(d->api, total ? (double)done / (double)total : 0.0);
    return rg_load_progress_show(&d->progress, done, total) && !atomic_load(&d->stop_loading);
}

static void load(uv_work_t *work)
{
    struct daemon *d = work->data;

    d->load_code = rg_llm_open(&d->llm, &d->options, &d->load_err);
}

static void on_closed(void *ud);

static void drain(struct daemon *d, int64_t deadline_ms)
{
    d->draining = true;
    d->end_by_ms = rg_clock_ms() + deadline_ms;
    rg_api_drain(d->api, deadline_ms, on_closed, d);
}

static void on_loaded(uv_work_t *work, int status)
{
    struct daemon *d = work->data;

    d->loading = false;
    rg_load_progress_end(&d->progress);
    if (status == UV_ECANCELED || d->load_code || atomic_load(&d->stop_loading)) {
        drain(d, 0);
        return;
    }
    rg_api_set_model(d->api, d->llm);
    rg_log(RG_LOG_INFO, "serve", "model is ready",
           "model=%s layers=%u context=%u parallel=%u "
           "kernels=%s threads=%u load_ms=%lld",
           d->llm->name, d->llm->checkpoint->config.num_hidden_layers, d->llm->context,
           d->llm->parallel, rg_backend_kernels(d->llm->backend),
           rg_backend_threads(d->llm->backend), (long long)(rg_clock_ms() - d->load_begin_ms));
}

static void on_ring_failed(void *ud, const struct rg_err *why)
{
    struct daemon *d = ud;

    if (d->load_code)
        return;
    d->load_code = why->code;
    d->load_err = *why;
    drain(d, 0);
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void close_signals(void *ud)
{
    struct daemon *d = ud;

    uv_close((uv_handle_t *)&d->on_term, NULL);
    uv_close((uv_handle_t *)&d->on_int, NULL);
}

static void on_closed(void *ud)
{
    struct daemon *d = ud;

    d->api = NULL;
    if (d->ring)
        rg_ring_serve_close(d->ring, d->end_by_ms - rg_clock_ms(), close_signals, d);
    else
        close_signals(d);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;

    if (number == SIGINT)
        d->interrupted = true;
    if (d->loading) {
        /* The worker still talks to the API: it is closed when the worker has come back. */
        rg_log(RG_LOG_INFO, "serve", "ending before the model is loaded", "signal=%d", number);
        atomic_store(&d->stop_loading, true);
        return;
    }
    if (d->draining) {
        rg_log(RG_LOG_INFO, "serve", "second signal, ending now", "signal=%d", number);
        d->end_by_ms = 0;
        if (d->api)
            rg_api_drain(d->api, 0, on_closed, d);
        else if (d->ring)
            rg_ring_serve_hurry(d->ring);
        return;
    }
    rg_log(RG_LOG_INFO, "serve", "ending after the running answers", "signal=%d", number);
    drain(d, RG_LIMIT_DRAIN_MS);
}

/* ---- the daemon ------------------------------------------------------------------------------ */

static enum rg_code catch_signals(struct daemon *d, struct rg_err *err)
{
    int status = uv_signal_init(&d->loop, &d->on_term);

    if (status)
        return rg_fail(err, RG_E_IO, "signals: %s", uv_strerror(status));
    /* The first one made what the second one needs. */
    (void)uv_signal_init(&d->loop, &d->on_int);
    d->on_term.data = d->on_int.data = d;
    status = uv_signal_start(&d->on_term, on_signal, SIGTERM);
    if (!status)
        status = uv_signal_start(&d->on_int, on_signal, SIGINT);
    if (!status)
        return RG_OK;
    uv_close((uv_handle_t *)&d->on_term, NULL);
    uv_close((uv_handle_t *)&d->on_int, NULL);
    return rg_fail(err, RG_E_IO, "signals: %s", uv_strerror(status));
}

static void begin_loading(struct daemon *d)
{
    d->load.data = d;
    d->loading = true;
    d->load_begin_ms = rg_clock_ms();
    rg_load_progress_begin(&d->progress);
    uv_queue_work(&d->loop, &d->load, load, on_loaded);
}

static enum rg_code start(struct daemon *d, const struct rg_options *o, struct rg_err *err)
{
    const struct rg_api_options api = {.host = o->api_host,
                                       .port = (uint16_t)o->api_port,
                                       .api_key_file = o->api_key_file,
                                       .insecure = o->insecure_api};
    enum rg_code code = rg_api_open(&d->api, &d->loop, &api, err);

    if (code)
        return code;
    code = catch_signals(d, err);
    if (code) {
        rg_api_drain(d->api, 0, NULL, NULL);
        return code;
    }
    if (o->discovery)
        code = rg_ring_serve_open(&d->ring, &d->loop, d->api, o, &d->options, on_ring_failed, d,
                                  err);
    else
        begin_loading(d);
    if (code) {
        rg_api_drain(d->api, 0, on_closed, d);
        return code;
    }
    rg_log(RG_LOG_INFO, "serve", "listening", "address=%s port=%u model=%s", o->api_host,
           rg_api_port(d->api), o->model);
    return RG_OK;
}

/* Every connection is a file descriptor, and the usual soft limit of 1024 (macOS: 256) is less than
 * the API may hold.  When the system refuses, accepting stops early and says so.  Less than a start
 * takes is an error: libuv ends the process when it has none for its signals. */
static enum rg_code raise_file_limit(struct rg_err *err)
{
    enum { FILES = RG_LIMIT_CONNECTIONS + 512, FILES_LEAST = 64 };
    struct rlimit limit;

    _Static_assert(FILES + 2 <= RG_UV_FILES, "libuv's table is static");
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= FILES)
        return RG_OK;
    limit.rlim_cur = limit.rlim_max < FILES ? limit.rlim_max : FILES;
    if (limit.rlim_cur < FILES_LEAST)
        return rg_fail(err, RG_E_IO,
                       "file descriptors: the limit is %llu, a start takes %d: raise it with "
                       "ulimit -n",
                       (unsigned long long)limit.rlim_cur, FILES_LEAST);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < FILES)
        rg_log(RG_LOG_WARN, "serve", "fewer file descriptors than connections may need",
               "limit=%llu wanted=%d", (unsigned long long)limit.rlim_cur, FILES);
    return RG_OK;
}

static void *wait_for_all(void *gate)
{
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

/* libuv and gRPC end the process when they cannot have a thread, so what a start takes is tried
 * beforehand: a limit of processes or of the address space (stacks) is then one line. */
static enum rg_code try_threads(struct rg_err *err)
{
    enum { THREADS_LEAST = 24 }; /* 11 of gRPC, 4 of libuv, our own, and some to spare */
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t threads[THREADS_LEAST];
    int n = 0, why = 0;

    pthread_mutex_lock(&gate);
    while (n < THREADS_LEAST && why == 0) {
        why = pthread_create(&threads[n], NULL, wait_for_all, &gate);
        n += why == 0;
    }
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&gate);
    if (why)
        return rg_fail(err, RG_E_IO,
                       "threads: only %d of %d could be started (%s): raise the limit of processes "
                       "or of memory (ulimit -u, ulimit -v, or the control group's)",
                       n, THREADS_LEAST, strerror(why));
    return RG_OK;
}

enum rg_code rg_serve(const struct rg_options *o, const struct rg_llm_options *llm,
                      struct rg_err *err)
{
    struct daemon d = {.options = *llm};
    enum rg_code code = raise_file_limit(err);

    if (!code)
        code = try_threads(err);
    if (code)
        return code;
    signal(SIGPIPE, SIG_IGN);
    rg_uv_use_our_heap();
    if (!o->discovery) {
        d.options.on_progress = on_progress;
        d.options.ud = &d;
    }

    const int status = uv_loop_init(&d.loop);

    if (status)
        return rg_fail(err, RG_E_IO, "the event loop does not start: %s", uv_strerror(status));

    code = start(&d, o, err);
    uv_run(&d.loop, UV_RUN_DEFAULT);
    rg_llm_close(d.llm);
    uv_loop_close(&d.loop);
    if (!code && d.load_code && !atomic_load(&d.stop_loading)) {
        if (err)
            *err = d.load_err;
        code = d.load_code;
    }
    if (!code && d.interrupted)
        code = rg_fail(err, RG_E_CANCELED, "interrupted");
    return code;
}
