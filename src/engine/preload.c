/* preload.c - touches the mapped pages of the weights, in windows that the kernel reads ahead.
 *
 * One thread does not keep a fast disk busy: a large part is shared out, window by window, among a
 * few.  The caller's thread is one of them and alone reports progress. */
#include "engine/preload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

/* A window is large enough to keep a fast disk busy, and small enough that progress is seen to
 * move.  Helpers begin where there are two windows for each. */
enum { WINDOW_BYTES = 64 << 20, HELPERS_MOST = 3 };

struct window {
    const uint8_t *data;
    uint64_t bytes;
};

struct preload {
    struct window *windows; /* owned */
    size_t n, capacity;
    uintptr_t page;
    uint64_t total;
    _Atomic size_t next;
    _Atomic uint64_t done;
    _Atomic bool stopped;
};

static bool is_of_part(const struct rg_checkpoint *c, const struct rg_module *m,
                       const struct rg_model_part *part)
{
    if (m->layer == RG_LAYER_NONE)
        return part->embed || (part->head && c->config.tie_word_embeddings);
    if (m->layer == RG_LAYER_HEAD)
        return part->head;
    return (uint32_t)m->layer >= part->layer_begin && (uint32_t)m->layer < part->layer_end;
}

uint64_t rg_preload_bytes(const struct rg_checkpoint *c, const struct rg_model_part *part)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < c->n_modules; i++)
        if (is_of_part(c, &c->modules[i], part))
            bytes += c->modules[i].weight.bytes;
    return bytes;
}

/* ---- what is read ---------------------------------------------------------------------------- */

static enum rg_code add_tensor(struct preload *p, const uint8_t *data, uint64_t bytes,
                               struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (uint64_t at = 0; data && at < bytes && !code; at += WINDOW_BYTES) {
        const uint64_t n = bytes - at < WINDOW_BYTES ? bytes - at : WINDOW_BYTES;

        code = rg_grow((void **)&p->windows, &p->capacity, p->n + 1, sizeof(p->windows[0]), err);
        if (!code)
            p->windows[p->n++] = (struct window){.data = data + at, .bytes = n};
    }
    return code;
}

static enum rg_code add_each(struct preload *p, const uint8_t *const *data_of, uint32_t n,
                             uint64_t bytes, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; data_of && i < n && !code; i++)
        code = add_tensor(p, data_of[i], bytes, err);
    return code;
}

/* The bytes of a weight's own tensor and of each of its two group tensors. */
static enum rg_code add_weight(struct preload *p, const struct rg_weight_desc *w,
                               struct rg_err *err)
{
    const uint64_t data_bytes = rg_weight_data_bytes(w), scale_bytes = rg_weight_scale_bytes(w);
    enum rg_code code;

    if (w->data_of) {
        code = add_each(p, w->data_of, w->lead, data_bytes, err);
        if (!code)
            code = add_each(p, w->scales_of, w->lead, scale_bytes, err);
        return code ? code : add_each(p, w->biases_of, w->lead, scale_bytes, err);
    }
    code = add_tensor(p, w->data, data_bytes * w->lead, err);
    if (!code)
        code = add_tensor(p, w->scales, scale_bytes * w->lead, err);
    return code ? code : add_tensor(p, w->biases, scale_bytes * w->lead, err);
}

/* ---- reading it ------------------------------------------------------------------------------ */

static void touch(const struct window *w, uintptr_t page)
{
    const uintptr_t begin = (uintptr_t)w->data & ~(page - 1);
    const volatile uint8_t *p = w->data;

    /* A hint: when it is refused, the reads below still bring the pages. */
    (void)madvise((void *)begin, w->bytes + ((uintptr_t)w->data - begin), MADV_WILLNEED);
    for (uint64_t at = 0; at < w->bytes; at += page)
        (void)p[at];
    (void)p[w->bytes - 1];
}

static bool touch_next(struct preload *p)
{
    const size_t i = atomic_fetch_add(&p->next, 1);

    if (i >= p->n || atomic_load(&p->stopped))
        return false;
    touch(&p->windows[i], p->page);
    (void)atomic_fetch_add(&p->done, p->windows[i].bytes);
    return true;
}

static void *help(void *arg)
{
    while (touch_next(arg))
        ;
    return NULL;
}

static void report(struct preload *p, rg_preload_fn *fn, void *ud, uint64_t *said)
{
    const uint64_t done = atomic_load(&p->done);

    if (fn && done > *said && !atomic_load(&p->stopped) && !fn(ud, done, p->total))
        atomic_store(&p->stopped, true);
    *said = done;
}

static void touch_all(struct preload *p, rg_preload_fn *fn, void *ud)
{
    const uint64_t wanted = p->total / (2 * (uint64_t)WINDOW_BYTES);
    pthread_t helpers[HELPERS_MOST];
    uint32_t n = 0;
    uint64_t said = 0;

    /* Without a helper it only takes longer. */
    while (n < HELPERS_MOST && n < wanted && pthread_create(&helpers[n], NULL, help, p) == 0)
        n++;
    while (touch_next(p))
        report(p, fn, ud, &said);
    for (uint32_t i = 0; i < n; i++)
        (void)pthread_join(helpers[i], NULL);
    report(p, fn, ud, &said);
}

enum rg_code rg_preload(const struct rg_checkpoint *c, const struct rg_model_part *part,
                        rg_preload_fn *on_progress, void *ud, struct rg_err *err)
{
    struct preload p = {.page = (uintptr_t)sysconf(_SC_PAGESIZE),
                        .total = rg_preload_bytes(c, part)};
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; i < c->n_modules && !code; i++)
        if (is_of_part(c, &c->modules[i], part))
            code = add_weight(&p, &c->modules[i].weight, err);
    if (!code)
        touch_all(&p, on_progress, ud);
    if (!code && atomic_load(&p.stopped))
        code = rg_fail(err, RG_E_CANCELED, "%s: loading was interrupted", c->name);
    rg_free(p.windows);
    return code;
}
