/* preload.c - touches the mapped pages of the weights, in windows that the kernel reads ahead. */
#include "engine/preload.h"

#include <sys/mman.h>
#include <unistd.h>

/* Large enough to keep a fast disk busy, small enough that progress is seen to move. */
enum { WINDOW_BYTES = 64 << 20 };

struct progress {
    rg_preload_fn *fn;
    void *ud;
    uint64_t done, total;
    bool stopped;
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

static void touch_window(const uint8_t *data, uint64_t bytes, uintptr_t page)
{
    const uintptr_t begin = (uintptr_t)data & ~(page - 1);
    const volatile uint8_t *p = data;

    /* A hint: when it is refused, the reads below still bring the pages. */
    (void)madvise((void *)begin, bytes + ((uintptr_t)data - begin), MADV_WILLNEED);
    for (uint64_t at = 0; at < bytes; at += page)
        (void)p[at];
    (void)p[bytes - 1];
}

static void touch(const uint8_t *data, uint64_t bytes, struct progress *progress)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    if (!data)
        return;
    for (uint64_t at = 0; at < bytes && !progress->stopped; at += WINDOW_BYTES) {
        const uint64_t n = bytes - at < WINDOW_BYTES ? bytes - at : WINDOW_BYTES;

        touch_window(data + at, n, page);
        progress->done += n;
        if (progress->fn && !progress->fn(progress->ud, progress->done, progress->total))
            progress->stopped = true;
    }
}

static void touch_each(const uint8_t *const *data_of, uint32_t n, uint64_t bytes,
                       struct progress *progress)
{
    for (uint32_t i = 0; data_of && i < n; i++)
        touch(data_of[i], bytes, progress);
}

/* The bytes of a weight's own tensor and of each of its two group tensors. */
static void touch_weight(const struct rg_weight_desc *w, struct progress *progress)
{
    const uint64_t data_bytes = rg_weight_data_bytes(w), scale_bytes = rg_weight_scale_bytes(w);

    if (w->data_of) {
        touch_each(w->data_of, w->lead, data_bytes, progress);
        touch_each(w->scales_of, w->lead, scale_bytes, progress);
        touch_each(w->biases_of, w->lead, scale_bytes, progress);
        return;
    }
    touch(w->data, data_bytes * w->lead, progress);
    touch(w->scales, scale_bytes * w->lead, progress);
    touch(w->biases, scale_bytes * w->lead, progress);
}

enum rg_code rg_preload(const struct rg_checkpoint *c, const struct rg_model_part *part,
                        rg_preload_fn *on_progress, void *ud, struct rg_err *err)
{
    struct progress progress = {.fn = on_progress, .ud = ud, .total = rg_preload_bytes(c, part)};

    for (uint32_t i = 0; i < c->n_modules && !progress.stopped; i++)
        if (is_of_part(c, &c->modules[i], part))
            touch_weight(&c->modules[i].weight, &progress);
    if (progress.stopped)
        return rg_fail(err, RG_E_CANCELED, "%s: loading was interrupted", c->name);
    return RG_OK;
}
