/* pool.c - the compute threads: one generation counter, spin, then park.
 *
 * A job is published by raising `generation`; each worker runs its part
 * and lowers `running`.  Both waits spin for a few microseconds first, because the ops of a step
 * follow each other closely, and then sleep on a condition variable.  When there are more threads
 * than cores nobody spins. */
#include "base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <pthread/qos.h>
#include <sys/sysctl.h>
#endif

#include "base/mem.h"

enum { THREADS_MAX = 512, SPINS = 4000 };

struct worker {
    struct rg_pool *pool;
    pthread_t thread;
    uint32_t part;
};

struct rg_pool {
    uint32_t n_threads;
    uint32_t n_spins;
    struct worker *workers; /* owned [n_threads - 1]; part 0 is the caller */
    uint32_t n_started;

    rg_pool_fn *fn; /* the job; written before generation is raised */
    void *arg;

    _Atomic uint32_t generation;
    _Atomic uint32_t running; /* workers that have not finished the job */
    _Atomic bool closing;

    pthread_mutex_t mutex; /* guards nothing but the two conditions' sleepers */
    pthread_cond_t work, done;
    _Atomic uint32_t n_parked; /* workers asleep on `work` */
    _Atomic bool caller_parked;
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t performance_cores(void)
{
#if defined(__APPLE__)
    int32_t n = 0;
    size_t bytes = sizeof n;

    if (sysctlbyname("hw.perflevel0.physicalcpu", &n, &bytes, NULL, 0) == 0 && n > 0)
        return (uint32_t)n;
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);

    return online > 0 ? (uint32_t)online : 1;
}

/* Waits until the generation differs from `seen`; returns it. */
static uint32_t wait_for_work(struct rg_pool *p, uint32_t seen)
{
    for (uint32_t i = 0; i < p->n_spins; i++) {
        const uint32_t now = atomic_load_explicit(&p->generation, memory_order_acquire);

        if (now != seen)
            return now;
        relax();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->n_parked, 1);
    while (atomic_load(&p->generation) == seen)
        pthread_cond_wait(&p->work, &p->mutex);
    atomic_fetch_sub(&p->n_parked, 1);
    pthread_mutex_unlock(&p->mutex);
    return atomic_load(&p->generation);
}

static void finish_part(struct rg_pool *p)
{
    if (atomic_fetch_sub(&p->running, 1) != 1 || !atomic_load(&p->caller_parked))
        return;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->mutex);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct rg_pool *p = w->pool;
    uint32_t seen = 0;

#if defined(__APPLE__)
    pthread_set_qos_class_self_np(QOS_CLASS_USER_INTERACTIVE, 0);
#endif
    for (;;) {
        seen = wait_for_work(p, seen);
        if (atomic_load(&p->closing))
            return NULL;
        p->fn(p->arg, w->part, p->n_threads);
        finish_part(p);
    }
}

static void publish(struct rg_pool *p)
{
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->n_parked) == 0)
        return;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mutex);
}

static void wait_for_done(struct rg_pool *p)
{
    for (uint32_t i = 0; i < p->n_spins; i++) {
        if (atomic_load_explicit(&p->running, memory_order_acquire) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_store(&p->caller_parked, true);
    while (atomic_load(&p->running) != 0)
        pthread_cond_wait(&p->done, &p->mutex);
    atomic_store(&p->caller_parked, false);
    pthread_mutex_unlock(&p->mutex);
}

enum rg_code rg_pool_open(struct rg_pool **out, uint32_t n_threads, struct rg_err *err)
{
    const uint32_t cores = performance_cores();

    *out = NULL;
    if (n_threads == 0)
        n_threads = cores;
    if (n_threads > THREADS_MAX)
        return rg_fail(err, RG_E_USAGE, "threads: %u, at most %d are possible", n_threads,
                       THREADS_MAX);

    struct rg_pool *p = rg_calloc(1, sizeof *p);
    struct worker *workers = rg_calloc(n_threads, sizeof *workers);

    if (!p || !workers) {
        rg_free(p);
        rg_free(workers);
        return rg_fail(err, RG_E_NOMEM, "out of memory: %u threads", n_threads);
    }
    p->n_threads = n_threads;
    p->n_spins = n_threads <= cores ? SPINS : 0;
    p->workers = workers;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    for (uint32_t i = 1; i < n_threads; i++) {
        struct worker *w = &workers[i - 1];

        *w = (struct worker){.pool = p, .part = i};
        const int why = pthread_create(&w->thread, NULL, worker_main, w);

        if (why != 0) {
            rg_pool_close(p);
            return rg_fail(err, RG_E_IO, "threads: cannot start thread %u of %u: %s", i + 1,
                           n_threads, strerror(why));
        }
        p->n_started++;
    }
    *out = p;
    return RG_OK;
}

void rg_pool_close(struct rg_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->closing, true);
    publish(p);
    for (uint32_t i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->mutex);
    rg_free(p->workers);
    rg_free(p);
}

uint32_t rg_pool_threads(const struct rg_pool *p)
{
    return p->n_threads;
}

void rg_pool_run(struct rg_pool *p, rg_pool_fn *fn, void *arg)
{
    assert(atomic_load(&p->running) == 0);
    if (p->n_threads > 1) {
        p->fn = fn;
        p->arg = arg;
        atomic_store(&p->running, p->n_threads - 1);
        publish(p);
    }
    fn(arg, 0, p->n_threads);
    if (p->n_threads > 1)
        wait_for_done(p);
}

void rg_pool_share(uint64_t n, uint32_t unit, uint32_t part, uint32_t n_parts, uint64_t *begin,
                   uint64_t *end)
{
    const uint64_t units = (n + unit - 1) / unit;
    const uint64_t first = units * part / n_parts * unit;
    const uint64_t last = units * (part + 1) / n_parts * unit;

    *begin = first < n ? first : n;
    *end = last < n ? last : n;
}
