/* config_quant.c - config.json's "quantization": the globals and the entries of single modules.
 *
 * An entry is an object (its missing values are the mode's defaults, not the globals), true (the
 * globals) or false (not quantised).  Without "quantization", "quantization_config" names the
 * method of a checkpoint that is not MLX's (config_foreign.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "checkpoint/config_reader.h"

static const struct {
    const char *name;
    uint32_t group_size, bits; /* what a missing value means */
} modes[] = {{"affine", 64, 4}, {"mxfp4", 32, 4}, {"nvfp4", 16, 4}, {"mxfp8", 32, 8}};

static void read_mode(struct rg_cfg *c, struct rg_quant_entry *e, const char **name, size_t *mode)
{
    *name = rg_cfg_string(c, "mode");
    *mode = 0;
    if (c->code)
        return;
    if (!*name)
        *name = modes[0].name;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(modes[i].name, *name) == 0) {
            *mode = i;
            memcpy(e->mode, modes[i].name, strlen(modes[i].name) + 1);
            return;
        }
    }
    c->code = rg_fail(c->err, RG_E_UNSUPPORTED,
                      "%s: '%smode' is '%.40s'; known: affine, mxfp4, "
                      "nvfp4, mxfp8",
                      c->file, c->where, *name);
}

/* mode, bits and group_size of one object, globals or entry. */
static void read_format(struct rg_cfg *c, struct rg_quant_entry *e)
{
    const char *name;
    size_t mode;

    read_mode(c, e, &name, &mode);
    e->bits = rg_cfg_uint(c, "bits", modes[mode].bits, 1, 8);
    e->group_size = rg_cfg_uint(c, "group_size", modes[mode].group_size, 1, 1024);
    if (c->code)
        return;
    if (mode == 0) {
        if (e->bits == 1 || e->bits == 7)
            c->code = rg_fail(c->err, RG_E_BAD_DATA, "%s: '%sbits' is %u; affine has 2 3 4 5 6 8",
                              c->file, c->where, e->bits);
        else if (e->group_size != 32 && e->group_size != 64 && e->group_size != 128)
            c->code =
                rg_fail(c->err, RG_E_BAD_DATA, "%s: '%sgroup_size' is %u; affine has 32 64 128",
                        c->file, c->where, e->group_size);
    } else if (e->bits != modes[mode].bits || e->group_size != modes[mode].group_size) {
        c->code = rg_fail(c->err, RG_E_BAD_DATA, "%s: '%s' %u-bit group %u; %s is %u-bit group %u",
                          c->file, c->where, e->bits, e->group_size, name, modes[mode].bits,
                          modes[mode].group_size);
    }
}

static void add_entry(struct rg_cfg *c, struct rg_quant_config *q, const struct rg_json *j,
                      size_t *capacity)
{
    const char *path = rg_json_key(j);
    struct rg_quant_entry *e;
    char where[160];

    c->code = rg_grow((void **)&q->entries, capacity, (size_t)q->n_entries + 1,
                      sizeof q->entries[0], c->err);
    if (c->code)
        return;
    e = &q->entries[q->n_entries];
    memset(e, 0, sizeof *e);
    e->path = rg_strdup(path);
    if (!e->path) {
        c->code = rg_fail(c->err, RG_E_NOMEM, "%s: no memory for its quantization", c->file);
        return;
    }
    q->n_entries++;
    if (rg_json_type(j) == RG_JSON_BOOL) {
        e->globals = rg_json_bool(j);
        e->disabled = !e->globals;
        return;
    }

    (void)snprintf(where, sizeof where, "quantization.%.120s.", path);

    struct rg_cfg in = {.object = j, .file = c->file, .where = where, .err = c->err};

    read_format(&in, e);
    e->global_scale = rg_cfg_bool(&in, "global_scale", false);
    c->code = in.code;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct rg_quant_entry *)a)->path,
                  ((const struct rg_quant_entry *)b)->path);
}

static void read_mlx(struct rg_cfg *c, struct rg_quant_config *q)
{
    size_t capacity = 0;

    q->method = RG_QUANT_MLX;
    read_format(c, &q->global);
    if (rg_cfg_bool(c, "quantize_activations", false) && !c->code)
        c->code = rg_fail(c->err, RG_E_UNSUPPORTED,
                          "%s: '%squantize_activations' is true: "
                          "quantised inputs are not supported",
                          c->file, c->where);
    for (const struct rg_json *j = rg_json_first(c->object); j && !c->code; j = rg_json_next(j)) {
        const enum rg_json_type type = rg_json_type(j);

        /* Other scalars (quant_method, ...) cannot name a module. */
        if ((type == RG_JSON_OBJECT || type == RG_JSON_BOOL) &&
            strcmp(rg_json_key(j), "quantize_activations") != 0)
            add_entry(c, q, j, &capacity);
    }
    if (!c->code && q->n_entries > 1)
        qsort(q->entries, q->n_entries, sizeof q->entries[0], compare_entries);
}

void rg_cfg_read_quant(struct rg_cfg *top, struct rg_cfg *text, struct rg_quant_config *q)
{
    struct rg_cfg own = rg_cfg_inside(top, "quantization", "quantization.");
    struct rg_cfg foreign = rg_cfg_inside(top, "quantization_config", "quantization_config.");

    if (!own.object)
        own = rg_cfg_inside(text, "quantization", "text_config.quantization.");
    if (!foreign.object)
        foreign = rg_cfg_inside(text, "quantization_config", "text_config.quantization_config.");
    if (!top->code)
        top->code = own.code ? own.code : foreign.code;
    if (top->code)
        return;
    if (own.object) {
        read_mlx(&own, q);
        top->code = own.code;
    } else if (foreign.object && !rg_cfg_get(&foreign, "quant_method") &&
               rg_cfg_get(&foreign, "bits") && rg_cfg_get(&foreign, "group_size")) {
        read_mlx(&foreign, q); /* MLX's own copy, alone */
        top->code = foreign.code;
    } else if (foreign.object) {
        rg_cfg_read_foreign_quant(&foreign, q);
        top->code = foreign.code;
    }
}

void rg_quant_config_free(struct rg_quant_config *q)
{
    for (uint32_t i = 0; i < q->n_entries; i++)
        rg_free(q->entries[i].path);
    rg_free(q->entries);
    for (uint32_t i = 0; i < q->n_ignore; i++)
        rg_free(q->ignore[i]);
    rg_free(q->ignore);
    memset(q, 0, sizeof *q);
}

const struct rg_quant_entry *rg_quant_find(const struct rg_quant_config *q, const char *path)
{
    size_t low = 0, high = q->n_entries;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(q->entries[middle].path, path);

        if (order == 0)
            return &q->entries[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
