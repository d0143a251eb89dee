/* inspect.c - a checkpoint as a table for people or as JSON for programs. */
#include "cli/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "checkpoint/checkpoint.h"

enum { OUTPUT_BYTES_MAX = 64 << 20 };

/* What was printed so far; the first failure sticks. */
struct page {
    struct rg_buf text;
    enum rg_code code;
    struct rg_err *err;
};

RG_PRINTF(2, 3)
static void put(struct page *p, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    const int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (!p->code && n > 0)
        p->code = rg_buf_add(&p->text, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1,
                             p->err);
}

static const char *architecture(const struct rg_model_config *c)
{
    return c->architecture[0] ? c->architecture : c->model_type;
}

static uint32_t module_bits(const struct rg_module *m)
{
    return m->weight.kind == RG_WEIGHT_FLOAT ? rg_dtype_bits(m->weight.dtype) : m->weight.bits;
}

static double bits_per_weight(const struct rg_checkpoint *c)
{
    return c->parameters > 0 ? 8 * (double)c->total_bytes / (double)c->parameters : 0;
}

/* ---- JSON --------------------------------------------------------------------------------- */

static void put_string(struct page *p, const char *s)
{
    if (!p->code)
        p->code = rg_json_print_string(&p->text, s, strlen(s), p->err);
}

static void put_module(struct page *p, const struct rg_module *m)
{
    const struct rg_weight_desc *w = &m->weight;

    put(p, "{\"name\":");
    put_string(p, m->path);
    put(p, ",\"kind\":\"%s\",\"bits\":%" PRIu32 ",\"group_size\":%" PRIu32 ",\"dtype\":\"%s\"",
        rg_weight_kind_name(w->kind), module_bits(m), w->group_size, rg_dtype_name(w->dtype));
    put(p, ",\"shape\":[");
    if (w->lead > 1)
        put(p, "%" PRIu32 ",", w->lead);
    if (!m->vector)
        put(p, "%" PRIu32 ",", w->rows);
    put(p, "%" PRIu32 "],\"bytes\":%" PRIu64 "}", w->cols, w->bytes);
}

static void put_json(struct page *p, const struct rg_checkpoint *c, const char *name)
{
    put(p, "{\"schema\":\"renga.inspect/1\",\"name\":");
    put_string(p, rg_utf8_valid(name, strlen(name)) ? name : "");
    put(p, ",\"architecture\":");
    put_string(p, architecture(&c->config));
    put(p, ",\"model_type\":");
    put_string(p, c->config.model_type);
    put(p,
        ",\"context\":%" PRIu32 ",\"parameters\":%" PRIu64 ",\"total_bytes\":%" PRIu64
        ",\"bits_per_weight\":%.10g",
        c->config.max_position_embeddings, c->parameters, c->total_bytes, bits_per_weight(c));
    put(p, ",\"embedding_bytes\":%" PRIu64 ",\"head_bytes\":%" PRIu64 ",\"layers\":[",
        c->embedding_bytes, c->head_bytes);
    for (uint32_t i = 0; i < c->config.num_hidden_layers; i++)
        put(p, "%s{\"layer\":%" PRIu32 ",\"bytes\":%" PRIu64 "}", i ? "," : "", i,
            c->layer_bytes[i]);
    put(p, "],\"modules\":[");
    for (uint32_t i = 0; i < c->n_modules; i++) {
        if (i > 0)
            put(p, ",");
        put_module(p, &c->modules[i]);
    }
    put(p, "]}\n");
}

/* ---- the table ---------------------------------------------------------------------------- */

/* Modules of one role that are alike, over all layers: one line of the table. */
struct kind {
    const struct rg_module *first;
    uint64_t bytes;
    uint32_t count;
    struct rg_buf layers; /* "0-6, 9, 12" */
    int32_t begin, end;   /* the run that is open */
};

struct kinds {
    struct kind *items; /* owned */
    size_t n, capacity;
};

static bool alike(const struct rg_module *a, const struct rg_module *b)
{
    const struct rg_weight_desc *x = &a->weight, *y = &b->weight;

    return (a->layer < 0) == (b->layer < 0) && x->kind == y->kind && x->bits == y->bits &&
           x->group_size == y->group_size && x->dtype == y->dtype && x->lead == y->lead &&
           x->rows == y->rows && x->cols == y->cols && strcmp(a->role, b->role) == 0;
}

static enum rg_code close_run(struct kind *k, struct rg_err *err)
{
    const char *comma = k->layers.len > 0 ? ", " : "";

    if (k->begin < 0)
        return RG_OK;
    if (k->begin == k->end)
        return rg_buf_addf(&k->layers, err, "%s%" PRId32, comma, k->begin);
    return rg_buf_addf(&k->layers, err, "%s%" PRId32 "-%" PRId32, comma, k->begin, k->end);
}

static enum rg_code add_to_kind(struct kind *k, const struct rg_module *m, struct rg_err *err)
{
    k->bytes += m->weight.bytes;
    k->count++;
    if (m->layer < 0)
        return RG_OK;
    if (k->begin >= 0 && m->layer == k->end + 1) {
        k->end = m->layer;
        return RG_OK;
    }

    const enum rg_code code = close_run(k, err);

    k->begin = k->end = m->layer;
    return code;
}

static enum rg_code collect(struct kinds *out, const struct rg_checkpoint *c, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; i < c->n_modules && !code; i++) {
        const struct rg_module *m = &c->modules[i];
        size_t k = 0;

        while (k < out->n && !alike(out->items[k].first, m))
            k++;
        if (k == out->n) {
            code = rg_grow((void **)&out->items, &out->capacity, out->n + 1, sizeof out->items[0],
                           err);
            if (code)
                return code;
            out->items[out->n++] = (struct kind){.first = m, .begin = -1, .end = -1};
            rg_buf_init(&out->items[k].layers, 1 << 16);
        }
        code = add_to_kind(&out->items[k], m, err);
    }
    for (size_t k = 0; k < out->n && !code; k++)
        code = close_run(&out->items[k], err);
    return code;
}

static void put_kind(struct page *p, const struct kind *k)
{
    const struct rg_weight_desc *w = &k->first->weight;
    char shape[48], format[32];

    if (k->first->vector)
        (void)snprintf(shape, sizeof shape, "[%" PRIu32 "]", w->cols);
    else if (w->lead > 1)
        (void)snprintf(shape, sizeof shape, "[%" PRIu32 ", %" PRIu32 ", %" PRIu32 "]", w->lead,
                       w->rows, w->cols);
    else
        (void)snprintf(shape, sizeof shape, "[%" PRIu32 ", %" PRIu32 "]", w->rows, w->cols);
    if (w->kind == RG_WEIGHT_FLOAT)
        (void)snprintf(format, sizeof format, "float");
    else
        (void)snprintf(format, sizeof format, "%s %" PRIu32 "/%" PRIu32,
                       rg_weight_kind_name(w->kind), w->bits, w->group_size);
    put(p, "%-34s %-12s %-5s %-20s %5" PRIu32 " %16" PRIu64 "  ", k->first->role, format,
        rg_dtype_name(w->dtype), shape, k->count, k->bytes);
    if (!p->code && k->layers.len > 0)
        p->code = rg_buf_add(&p->text, k->layers.data, k->layers.len, p->err);
    put(p, "\n");
}

static void put_layers(struct page *p, const struct rg_checkpoint *c)
{
    const uint32_t n = c->config.num_hidden_layers;

    put(p, "\nbytes per layer\n");
    for (uint32_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && c->layer_bytes[end] == c->layer_bytes[i]; end++)
            ;
        if (end == i + 1)
            put(p, "%-47" PRIu32 " %16" PRIu64 "\n", i, c->layer_bytes[i]);
        else
            put(p, "%4" PRIu32 " - %-40" PRIu32 " %16" PRIu64 " each\n", i, end - 1,
                c->layer_bytes[i]);
    }
}

static void put_table(struct page *p, const struct rg_checkpoint *c, const char *name)
{
    struct kinds kinds = {0};

    put(p, "%.128s: %s (%s), context %" PRIu32 "\n", name, c->config.model_type,
        architecture(&c->config), c->config.max_position_embeddings);
    put(p,
        "%" PRIu32 " layers, %" PRIu64 " parameters, %" PRIu64 " bytes (%.3f GB), %.3f bits per "
        "weight\n\n",
        c->config.num_hidden_layers, c->parameters, c->total_bytes, (double)c->total_bytes / 1e9,
        bits_per_weight(c));
    put(p, "%-34s %-12s %-5s %-20s %5s %16s  %s\n", "module", "bits/group", "dtype", "shape",
        "count", "bytes", "layers");
    if (!p->code)
        p->code = collect(&kinds, c, p->err);
    for (size_t i = 0; i < kinds.n; i++) {
        put_kind(p, &kinds.items[i]);
        rg_buf_free(&kinds.items[i].layers);
    }
    rg_free(kinds.items);
    put_layers(p, c);
    put(p, "%-47s %16" PRIu64 "\n", "embedding", c->embedding_bytes);
    put(p, "%-47s %16" PRIu64 "\n",
        c->config.tie_word_embeddings ? "final norm (the head is tied)" : "final norm and lm_head",
        c->head_bytes);
}

enum rg_code rg_inspect(const char *model_argument, const char *registry, bool json,
                        struct rg_err *err)
{
    char *dir = NULL, *name = NULL;
    struct rg_checkpoint *c = NULL;
    struct page p = {.err = err};

    rg_buf_init(&p.text, OUTPUT_BYTES_MAX);
    p.code = rg_checkpoint_resolve(&dir, &name, model_argument, registry, err);
    if (!p.code)
        p.code = rg_checkpoint_open(&c, dir, &rg_checkpoint_headers, err);
    if (!p.code) {
        if (json)
            put_json(&p, c, name);
        else
            put_table(&p, c, name);
    }
    if (!p.code &&
        (fwrite(p.text.data, 1, p.text.len, stdout) != p.text.len || fflush(stdout) != 0))
        p.code = rg_fail(err, RG_E_IO, "inspect: standard output: %s", strerror(errno));
    rg_buf_free(&p.text);
    rg_checkpoint_close(c);
    rg_free(dir);
    rg_free(name);
    return p.code;
}
