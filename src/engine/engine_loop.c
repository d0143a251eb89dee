/* engine_loop.c - the engine's thread: who is admitted, canceled and ended, and its loop. */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_state.h"

/* An idle engine shows that it is alive; one whose pipeline is lost asks for it. */
enum { IDLE_TURN_MS = 1000, LOST_TURN_MS = 100 };

/* A loss that is over at once ends nobody at once, however short the time to wait is. */
enum { FLAP_MS = 1000 };

/* ---- coming and going ------------------------------------------------------------------------ */

/* A sequence with rows under way keeps its blocks until the last of them is back.  Every node runs
 * the steps in their order, so that blocks could be handed on at once: what an old step writes into
 * them, a later one of their new owner overwrites before it reads.  But the steps borrow the list
 * of block numbers, and one lifetime for both is easier to see right; it costs no more than `depth`
 * steps. */
void rg_engine_end(struct rg_engine *e, struct rg_sequence *q, enum rg_end_reason reason,
                   const struct rg_err *err)
{
    const bool is_free = q->n_in_flight == 0;
    uint32_t kept = 0;

    pthread_mutex_lock(&e->lock);
    for (uint32_t i = 0; i < e->stats.running; i++)
        if (e->running[i] != q)
            e->running[kept++] = e->running[i];
    e->stats.running = kept;
    if (q->admitted && is_free)
        rg_sequence_leave(q, &e->blocks);
    e->stats.blocks_used = e->blocks.n_total - e->blocks.n_free;
    pthread_mutex_unlock(&e->lock);
    rg_sequence_tell_end(q, reason, err);
    if (is_free)
        rg_sequence_free(q);
}

/* Takes the canceled ones (all of them when the engine stops) out of the queue; lock held. */
static struct rg_sequence *take_canceled(struct rg_engine *e)
{
    struct rg_sequence *canceled = NULL;
    struct rg_sequence **tail = &canceled;
    struct rg_sequence **link = &e->waiting_first;

    e->waiting_last = NULL;
    while (*link) {
        struct rg_sequence *q = *link;

        if (!q->canceled && !e->stop) {
            e->waiting_last = q;
            link = &q->next;
            continue;
        }
        *link = q->next;
        q->next = NULL;
        *tail = q;
        tail = &q->next;
        e->stats.waiting--;
    }
    return canceled;
}

/* In the order of arrival: a large request is not overtaken for ever by small ones; lock held. */
static void admit(struct rg_engine *e)
{
    struct rg_sequence *q;

    while ((q = e->waiting_first) != NULL && e->stats.running < e->options.parallel) {
        if (!rg_sequence_admit(q, &e->blocks))
            break;
        e->waiting_first = q->next;
        if (!e->waiting_first)
            e->waiting_last = NULL;
        q->next = NULL;
        q->turn = e->n_turns;
        e->stats.waiting--;
        e->running[e->stats.running++] = q;
    }
    e->stats.blocks_used = e->blocks.n_total - e->blocks.n_free;
}

/* A running sequence that was canceled, or NULL; lock held. */
static struct rg_sequence *find_canceled(const struct rg_engine *e)
{
    for (uint32_t i = 0; i < e->stats.running; i++)
        if (e->running[i]->canceled || e->stop)
            return e->running[i];
    return NULL;
}

static void end_canceled(struct rg_engine *e, struct rg_sequence *waiting)
{
    struct rg_sequence *q;

    while (waiting) {
        q = waiting;
        waiting = q->next;
        rg_engine_end(e, q, RG_END_CANCELED, NULL);
    }
    for (;;) {
        pthread_mutex_lock(&e->lock);
        q = find_canceled(e);
        pthread_mutex_unlock(&e->lock);
        if (!q)
            return;
        rg_engine_end(e, q, RG_END_CANCELED, NULL);
    }
}

/* Empties the queue; lock held. */
static struct rg_sequence *take_waiting(struct rg_engine *e)
{
    struct rg_sequence *waiting = e->waiting_first;

    e->waiting_first = e->waiting_last = NULL;
    e->stats.waiting = 0;
    return waiting;
}

static void end_taken(struct rg_engine *e, struct rg_sequence *waiting, const struct rg_err *why)
{
    while (waiting) {
        struct rg_sequence *q = waiting;

        waiting = q->next;
        rg_engine_end(e, q, RG_END_ERROR, why);
    }
}

static void end_all(struct rg_engine *e, const struct rg_err *why)
{
    struct rg_sequence *waiting;

    pthread_mutex_lock(&e->lock);
    waiting = take_waiting(e);
    pthread_mutex_unlock(&e->lock);
    while (e->stats.running > 0)
        rg_engine_end(e, e->running[0], RG_END_ERROR, why);
    end_taken(e, waiting, why);
}

/* ---- a lost pipeline ------------------------------------------------------------------------- */

/* Nobody has got further since a loss that was so long ago; lock held. */
static bool is_stalled(const struct rg_engine *e, int64_t ms)
{
    return !e->got_further && (rg_clock_ns() - e->lost_ns) / 1000000 >= ms;
}

bool rg_engine_gave_up(const struct rg_engine *e)
{
    return e->is_lost && is_stalled(e, e->options.node_timeout_ms);
}

/* What the nodes had of everybody's keys and values is gone.  The tokens are here: each sequence is
 * computed again from its first one, to the same bits. */
void rg_engine_go_back(struct rg_engine *e, const struct rg_err *why)
{
    const int64_t now = rg_clock_ns();

    e->loss = *why;
    pthread_mutex_lock(&e->lock);
    if (e->got_further)
        e->lost_ns = now;
    e->got_further = false;
    pthread_mutex_unlock(&e->lock);
    for (uint32_t i = 0; i < e->stats.running; i++)
        rg_sequence_lose(e->running[i], now);
}

/* Those that losses have kept where they are for so long; and who waits for their places, if that
 * is all of them. */
static void end_stalled(struct rg_engine *e, int64_t ms, const struct rg_err *why)
{
    const int64_t now = rg_clock_ns();
    struct rg_sequence *waiting = NULL;
    uint32_t i = 0;

    pthread_mutex_lock(&e->lock);
    if (is_stalled(e, ms)) {
        waiting = take_waiting(e);
        e->got_further = !e->is_lost; /* who comes next has lost nothing */
    }
    pthread_mutex_unlock(&e->lock);
    while (i < e->stats.running) {
        struct rg_sequence *q = e->running[i];

        if (q->stalled_ns != 0 && rg_sequence_stalled_ms(q, now) >= ms)
            rg_engine_end(e, q, RG_END_ERROR, why);
        else
            i++;
    }
    end_taken(e, waiting, why);
}

/* One that was not told yet, marked; lock held. */
static struct rg_sequence *next_to_tell(const struct rg_engine *e)
{
    struct rg_sequence *q = e->waiting_first;

    for (uint32_t i = 0; i < e->stats.running; i++)
        if (!e->running[i]->told_lost)
            return e->running[i];
    while (q && q->told_lost)
        q = q->next;
    return q;
}

/* Only this thread takes sequences away, so that one found under the lock is there after it. */
static void tell_lost(struct rg_engine *e, const struct rg_err *why)
{
    for (;;) {
        struct rg_sequence *q;

        pthread_mutex_lock(&e->lock);
        q = next_to_tell(e);
        if (q)
            q->told_lost = true;
        pthread_mutex_unlock(&e->lock);
        if (!q)
            return;
        rg_sequence_tell_lost(q, why);
    }
}

/* What the next loss has to be told to; lock held. */
static void forget_told(struct rg_engine *e)
{
    for (uint32_t i = 0; i < e->stats.running; i++)
        e->running[i]->told_lost = false;
    for (struct rg_sequence *q = e->waiting_first; q; q = q->next)
        q->told_lost = false;
}

/* Notes and logs what the pipeline said. */
static void note(struct rg_engine *e, enum rg_code code, const struct rg_err *why)
{
    struct rg_engine_stats stats;
    bool was_lost;

    pthread_mutex_lock(&e->lock);
    was_lost = e->is_lost;
    e->is_lost = code == RG_E_PEER;
    e->is_broken = code != RG_OK && code != RG_E_PEER;
    if (code != RG_OK)
        e->why = *why;
    if (!e->is_lost)
        forget_told(e);
    stats = e->stats;
    if (code == RG_OK && stats.running == 0 && stats.waiting == 0)
        e->got_further = true;
    pthread_mutex_unlock(&e->lock);
    if (e->is_broken || was_lost != e->is_lost)
        rg_log(e->is_broken ? RG_LOG_ERROR
               : e->is_lost ? RG_LOG_WARN
                            : RG_LOG_INFO,
               "engine", code == RG_OK ? "steps can be computed again" : why->message,
               "running=%u waiting=%u", stats.running, stats.waiting);
}

bool rg_engine_check(struct rg_engine *e)
{
    const int64_t ms = e->options.node_timeout_ms;
    struct rg_err why = {0};
    enum rg_code code;

    if (e->is_broken)
        return false;
    code = rg_pipeline_check(e->pipeline, &why);
    if (code == RG_E_PEER) {
        rg_engine_go_back(e, &why);
        /* It says once that it was lost and is well again. */
        code = rg_pipeline_check(e->pipeline, &why);
    }
    note(e, code, &why);
    if (code == RG_E_PEER) {
        end_stalled(e, ms, &why);
        tell_lost(e, &why);
    } else if (code != RG_OK) {
        end_all(e, &why);
    } else if (e->loss.code != RG_OK) { /* it was lost, and is well again */
        end_stalled(e, ms > FLAP_MS ? ms : FLAP_MS, &e->loss);
        e->loss.code = RG_OK;
    }
    return code == RG_OK;
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Waits for work, not for long; lock held. */
static void wait_for_work(struct rg_engine *e)
{
    const int64_t ns = (e->is_lost ? LOST_TURN_MS : IDLE_TURN_MS) * 1000000LL;
#ifdef __APPLE__
    const struct timespec turn = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    pthread_cond_timedwait_relative_np(&e->wake, &e->lock, &turn);
#else
    struct timespec until;
    int64_t end_ns;

    clock_gettime(CLOCK_MONOTONIC, &until);
    end_ns = until.tv_nsec + ns;
    until.tv_sec += end_ns / 1000000000;
    until.tv_nsec = end_ns % 1000000000;
    pthread_cond_timedwait(&e->wake, &e->lock, &until);
#endif
}

static bool has_work(const struct rg_engine *e)
{
    return e->stop || e->woken || e->oldest ||
           (!e->is_lost && (e->waiting_first || e->stats.running > 0));
}

/* The beginning of a turn: false when the engine stops. */
static bool begin_turn(struct rg_engine *e)
{
    struct rg_sequence *canceled;
    bool stop;

    pthread_mutex_lock(&e->lock);
    if (!has_work(e))
        wait_for_work(e);
    e->woken = false;
    e->stats.heartbeat_ns = rg_clock_ns();
    canceled = take_canceled(e);
    stop = e->stop;
    pthread_mutex_unlock(&e->lock);
    end_canceled(e, canceled);
    return !stop;
}

void *rg_engine_run(void *engine)
{
    struct rg_engine *e = engine;

    while (begin_turn(e)) {
        /* A busy engine finds out from its steps. */
        if ((e->stats.running == 0 || e->is_lost) && !e->oldest && !rg_engine_check(e))
            continue;
        pthread_mutex_lock(&e->lock);
        admit(e);
        pthread_mutex_unlock(&e->lock);
        if (e->stats.running > 0 || e->oldest)
            rg_engine_step(e);
    }
    rg_engine_drain(e);
    return NULL;
}
