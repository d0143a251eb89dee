/* probe.c - both sides of a probe: what is asked is answered; what comes back is measured.
 *
 * Everything is question and answer on one link, a few questions under way at a time, so that the
 * figures have in them what steps have: gRPC, protobuf, the threads and one copy. */
#include "cluster/probe.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

enum {
    SMALL_ROUNDS = 100,
    WARM_UP_ROUNDS = 10,     /* HTTP/2's windows open, threads wake */
    HOP_BYTES = 28 << 10,    /* a hidden state of 7168 in f32: what a token of Kimi-K2 sends */
    CHUNK_BYTES = 256 << 10, /* of a bulk question or answer */
    UNDER_WAY = 32,          /* bulk chunks, less than RG_LIMIT_LINK_QUEUE */
    BULK_MS = 3000,          /* a slow link is measured for so long */
    ANSWER_WAIT_MS = 5000,
    DATA_TAG = 15 << 3 | 2 /* of ProbeMessage.data on the wire: it comes last */
};

static const uint8_t zeros[CHUNK_BYTES]; /* what probes carry */

/* Everything but the data, then the data's tag and length, so that the data itself is not copied.
 */
static enum rg_code encode(struct rg_buf *out, const struct rg_probe *p, size_t n_data,
                           struct rg_err *err)
{
    uint8_t raw[11] = {DATA_TAG};
    size_t n = 1;
    enum rg_code code = rg_probe_encode(out, p, err);

    if (code || n_data == 0)
        return code;
    for (; n_data >= 0x80; n_data >>= 7)
        raw[n++] = (uint8_t)(n_data | 0x80);
    raw[n++] = (uint8_t)n_data;
    return rg_buf_add(out, raw, n, err);
}

static enum rg_code send_probe(struct rg_link *l, struct rg_probe *p, size_t n_data,
                               struct rg_err *err)
{
    const struct rg_payload payload = {.p = zeros, .n = n_data};
    struct rg_buf head;
    enum rg_code code;

    (void)snprintf(p->build, sizeof p->build, "renga %s", RENGA_VERSION);
    p->time_unix_ms = rg_clock_unix_ms();
    rg_buf_init(&head, RG_LIMIT_CONTROL_BYTES);
    code = encode(&head, p, n_data, err);
    if (!code)
        code = rg_link_send(l, head.data, head.len, n_data ? &payload : NULL, err);
    rg_buf_free(&head);
    return code;
}

/* One received message, in a buffer that is used again; p->data points into it. */
static enum rg_code read_probe(struct rg_probe *p, struct rg_buf *room, struct rg_frame *f,
                               struct rg_err *err)
{
    const size_t n = rg_frame_bytes(f);
    enum rg_code code;

    rg_buf_clear(room);
    code = rg_buf_reserve(room, n, err);
    if (!code && n > 0)
        rg_frame_read(f, 0, room->data, n);
    return code ? code : rg_probe_decode(p, (const uint8_t *)room->data, n, err);
}

/* ---- the answering side ---------------------------------------------------------------------- */

struct answerer {
    struct rg_buf room;
};

static void answer(void *ud, struct rg_link *l, struct rg_frame *f)
{
    struct answerer *a = ud;
    struct rg_err err = {.message = ""};
    struct rg_probe p;
    enum rg_code code = read_probe(&p, &a->room, f, &err);

    rg_frame_free(f);
    if (!code && p.answer_bytes > CHUNK_BYTES)
        code = rg_fail(&err, RG_E_LIMIT, "ProbeMessage.answer_bytes: %u, at most %d",
                       (unsigned)p.answer_bytes, CHUNK_BYTES);
    if (!code) {
        struct rg_probe reply = {.id = p.id};

        code = send_probe(l, &reply, p.answer_bytes, &err);
    }
    if (code)
        rg_link_close(l, err.message);
}

static void end_answering(void *ud, struct rg_link *l, const struct rg_err *why)
{
    struct answerer *a = ud;

    (void)why;
    rg_link_release(l);
    rg_buf_free(&a->room);
    rg_free(a);
}

bool rg_probe_accept(struct rg_link *l, struct rg_link_events *events, void **ud)
{
    struct answerer *a = rg_calloc(1, sizeof *a);

    (void)l;
    if (!a)
        return false;
    rg_buf_init(&a->room, RG_LIMIT_FORWARD_BYTES);
    *events = (struct rg_link_events){.on_message = answer, .on_close = end_answering};
    *ud = a;
    return true;
}

/* ---- the measuring side ---------------------------------------------------------------------- */

struct measurer {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool open, closed;
    struct rg_err why; /* of its end, or what was wrong with an answer */
    uint64_t answers;
    struct rg_probe last; /* without data */
    struct rg_buf room;   /* of the transport's thread */
    struct rg_link *link;
    const char *id;
    uint64_t asked; /* of the measuring thread */
};

static void on_open(void *ud, struct rg_link *l)
{
    struct measurer *m = ud;

    (void)l;
    pthread_mutex_lock(&m->mutex);
    m->open = true;
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->mutex);
}

static void on_answer(void *ud, struct rg_link *l, struct rg_frame *f)
{
    struct measurer *m = ud;
    struct rg_err err = {.message = ""};
    struct rg_probe p;
    enum rg_code code = read_probe(&p, &m->room, f, &err);

    rg_frame_free(f);
    pthread_mutex_lock(&m->mutex);
    if (!code && p.id != m->answers + 1)
        code = rg_fail(&err, RG_E_BAD_DATA, "an answer to no question");
    if (!code) {
        m->answers++;
        m->last = p;
        m->last.data = NULL;
    } else if (!m->why.code) {
        m->why = err;
    }
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->mutex);
    if (code)
        rg_link_close(l, err.message);
}

static void on_close(void *ud, struct rg_link *l, const struct rg_err *why)
{
    struct measurer *m = ud;

    (void)l;
    pthread_mutex_lock(&m->mutex);
    m->closed = true;
    if (!m->why.code)
        m->why = *why;
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->mutex);
}

/* Waits, the mutex held, until something changes or the time has come; false: it has. */
static bool wait_until(struct measurer *m, int64_t until_ms)
{
    const int64_t left = until_ms - rg_clock_ms();
    struct timespec at;

    if (left <= 0)
        return false;
    /* pthread_cond_timedwait() of macOS knows the wall clock alone. */
    (void)clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += left / 1000;
    at.tv_nsec += left % 1000 * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return pthread_cond_timedwait(&m->changed, &m->mutex, &at) != ETIMEDOUT ||
           rg_clock_ms() < until_ms;
}

static enum rg_code fail_ended(struct measurer *m, struct rg_err *err)
{
    if (m->why.code)
        return rg_fail(err, RG_E_PEER, "%s", m->why.message);
    return rg_fail(err, RG_E_PEER, "%s: ended the probe", m->id);
}

/* Until `answers` have come in all. */
static enum rg_code wait_for(struct measurer *m, uint64_t answers, struct rg_err *err)
{
    const int64_t until = rg_clock_ms() + ANSWER_WAIT_MS;
    bool in_time = true;
    enum rg_code code = RG_OK;

    pthread_mutex_lock(&m->mutex);
    while (m->answers < answers && !m->closed && !m->why.code && in_time)
        in_time = wait_until(m, until);
    if (m->answers < answers && (m->closed || m->why.code))
        code = fail_ended(m, err);
    else if (m->answers < answers)
        code = rg_fail(err, RG_E_PEER, "%s: no answer to a probe for %d s", m->id,
                       ANSWER_WAIT_MS / 1000);
    pthread_mutex_unlock(&m->mutex);
    return code;
}

static enum rg_code ask(struct measurer *m, uint32_t bytes, uint32_t answer_bytes,
                        struct rg_err *err)
{
    struct rg_probe p = {.id = m->asked + 1, .answer_bytes = answer_bytes};
    const enum rg_code code = send_probe(m->link, &p, bytes, err);

    m->asked += code == RG_OK;
    return code;
}

static enum rg_code ask_and_wait(struct measurer *m, uint32_t bytes, uint32_t answer_bytes,
                                 int64_t *ns, struct rg_err *err)
{
    const int64_t began = rg_clock_ns();
    enum rg_code code = ask(m, bytes, answer_bytes, err);

    if (!code)
        code = wait_for(m, m->asked, err);
    *ns = rg_clock_ns() - began;
    return code;
}

static int compare_times(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* The clock is read off the fastest round: the peer's time belongs to the middle of it. */
static enum rg_code measure_small(struct measurer *m, struct rg_probe_result *out,
                                  struct rg_err *err)
{
    int64_t times[SMALL_ROUNDS], fastest = INT64_MAX, ns;
    enum rg_code code = RG_OK;

    for (int i = -WARM_UP_ROUNDS; i < SMALL_ROUNDS && !code; i++) {
        const int64_t before = rg_clock_unix_ms();

        code = ask_and_wait(m, 0, 0, &ns, err);
        if (code || i < 0)
            continue;
        times[i] = ns;
        if (ns < fastest) {
            fastest = ns;
            out->clock_ahead_ms = m->last.time_unix_ms - (before + ns / 2000000);
        }
    }
    if (code)
        return code;
    qsort(times, SMALL_ROUNDS, sizeof times[0], compare_times);
    out->rtt_ns = times[SMALL_ROUNDS / 2];
    out->rtt_p99_ns = times[SMALL_ROUNDS * 99 / 100];
    (void)snprintf(out->build, sizeof out->build, "%s", m->last.build);
    return RG_OK;
}

static enum rg_code measure_hop(struct measurer *m, struct rg_probe_result *out, struct rg_err *err)
{
    int64_t times[SMALL_ROUNDS];
    enum rg_code code = RG_OK;

    for (int i = 0; i < SMALL_ROUNDS && !code; i++)
        code = ask_and_wait(m, HOP_BYTES, HOP_BYTES, &times[i], err);
    if (code)
        return code;
    qsort(times, SMALL_ROUNDS, sizeof times[0], compare_times);
    out->hop_ns = times[SMALL_ROUNDS / 2] / 2;
    return RG_OK;
}

/* Bytes per second of chunks in one direction; bytes, answer_bytes: of one question. */
static enum rg_code measure_bulk(struct measurer *m, uint32_t bytes, uint32_t answer_bytes,
                                 uint64_t bulk_bytes, double *out, struct rg_err *err)
{
    const uint64_t chunks = (bulk_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES, first = m->asked;
    const int64_t began = rg_clock_ns();
    enum rg_code code = RG_OK;
    int64_t ns;

    for (uint64_t i = 0; i < chunks && !code; i++) {
        if (i >= UNDER_WAY && rg_clock_ns() - began > (int64_t)BULK_MS * 1000000)
            break;
        if (i >= UNDER_WAY)
            code = wait_for(m, m->asked + 1 - UNDER_WAY, err);
        if (!code)
            code = ask(m, bytes, answer_bytes, err);
    }
    if (!code)
        code = wait_for(m, m->asked, err);
    ns = rg_clock_ns() - began;
    if (!code)
        *out = (double)(m->asked - first) * (double)CHUNK_BYTES * 1e9 / (double)(ns > 0 ? ns : 1);
    return code;
}

static enum rg_code wait_open(struct measurer *m, struct rg_err *err)
{
    const int64_t until = rg_clock_ms() + RG_LIMIT_HELLO_WAIT_MS + 1000;
    bool in_time = true;
    enum rg_code code = RG_OK;

    pthread_mutex_lock(&m->mutex);
    while (!m->open && !m->closed && in_time)
        in_time = wait_until(m, until);
    if (m->closed)
        code = fail_ended(m, err);
    else if (!m->open)
        code = rg_fail(err, RG_E_PEER, "%s: no answer for %d s", m->id,
                       RG_LIMIT_HELLO_WAIT_MS / 1000 + 1);
    pthread_mutex_unlock(&m->mutex);
    return code;
}

/* Callbacks may come until the link is closed, and m is on somebody's stack. */
static void hang_up(struct measurer *m)
{
    const int64_t until = rg_clock_ms() + 1000;
    bool in_time = true;

    rg_link_finish(m->link);
    pthread_mutex_lock(&m->mutex);
    while (!m->closed && in_time)
        in_time = wait_until(m, until);
    pthread_mutex_unlock(&m->mutex);
    rg_link_close(m->link, "the probe is over");
    pthread_mutex_lock(&m->mutex);
    while (!m->closed)
        (void)pthread_cond_wait(&m->changed, &m->mutex);
    pthread_mutex_unlock(&m->mutex);
    rg_link_release(m->link);
}

static enum rg_code measure(struct measurer *m, struct rg_probe_result *out, uint64_t bulk_bytes,
                            struct rg_err *err)
{
    enum rg_code code = wait_open(m, err);

    if (!code)
        code = measure_small(m, out, err);
    if (!code)
        code = measure_hop(m, out, err);
    if (!code && bulk_bytes > 0)
        code = measure_bulk(m, CHUNK_BYTES, 0, bulk_bytes, &out->send_bytes_s, err);
    if (!code && bulk_bytes > 0)
        code = measure_bulk(m, 0, CHUNK_BYTES, bulk_bytes, &out->receive_bytes_s, err);
    return code;
}

enum rg_code rg_probe_run(struct rg_probe_result *out, struct rg_transport *t, const char *id,
                          const char *address, uint16_t port, uint64_t bulk_bytes,
                          struct rg_err *err)
{
    static const struct rg_link_events events = {
        .on_open = on_open, .on_message = on_answer, .on_close = on_close};
    struct measurer m = {.id = id};
    const struct rg_dial dial = {.kind = RG_LINK_PROBE,
                                 .address = address,
                                 .port = port,
                                 .peer_id = id,
                                 .events = &events,
                                 .ud = &m};
    enum rg_code code;

    *out = (struct rg_probe_result){0};
    if (pthread_mutex_init(&m.mutex, NULL) != 0 || pthread_cond_init(&m.changed, NULL) != 0)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory for a probe", id);
    rg_buf_init(&m.room, RG_LIMIT_FORWARD_BYTES);
    code = rg_link_dial(&m.link, t, &dial, err);
    if (!code) {
        code = measure(&m, out, bulk_bytes, err);
        hang_up(&m);
    }
    rg_buf_free(&m.room);
    (void)pthread_cond_destroy(&m.changed);
    (void)pthread_mutex_destroy(&m.mutex);
    return code;
}
