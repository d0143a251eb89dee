/* checkpoint.c - opening a checkpoint directory: config, tensors, modules, sums. */
#include "checkpoint/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/inventory.h"
#include "checkpoint/st_table.h"

const struct rg_checkpoint_options rg_checkpoint_mapped = {0};
const struct rg_checkpoint_options rg_checkpoint_headers = {.headers_only = true};

/* The public struct first, so that one pointer is both. */
struct opened {
    struct rg_checkpoint pub;
    struct rg_arena arena;
    bool config_read;
};

static enum rg_code read_config(struct opened *o, char **file, struct rg_err *err)
{
    char *text = NULL;
    size_t len = 0;
    enum rg_code code;

    *file = rg_path_join(o->pub.dir, "config.json");
    if (!*file)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory for a path", o->pub.dir);
    if (!rg_file_exists(*file))
        return rg_fail(err, RG_E_USAGE,
                       "%s: no config.json there; give the directory of an MLX checkpoint",
                       o->pub.dir);
    code = rg_file_read(&text, &len, *file, RG_LIMIT_CONFIG_BYTES, err);
    if (!code)
        code = rg_model_config_parse(&o->pub.config, text, len, *file, err);
    o->config_read = code == RG_OK;
    rg_free(text);
    return code;
}

static bool is_used(const struct rg_checkpoint *c, uint32_t tensor)
{
    return c->tensor_layer[tensor] != RG_LAYER_LEFT;
}

/* Tensors that no module took: the first few by name, and how many. */
static enum rg_code check_leftovers(const struct opened *o, struct rg_err *err)
{
    const struct rg_tensor_set *t = o->pub.tensors;
    const struct rg_tensor_info *first = NULL;
    char names[320] = "";
    size_t used_bytes = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < rg_tensor_set_count(t); i++) {
        const struct rg_tensor_info *x = rg_tensor_set_at(t, i);

        if (is_used(&o->pub, i) || rg_inventory_drops(&o->pub.config, x->name))
            continue;
        if (n++ < 3) {
            const int len = snprintf(names + used_bytes, sizeof names - used_bytes, "%s'%.96s'",
                                     first ? ", " : "", x->name);

            used_bytes += len > 0 ? (size_t)len : 0;
        }
        if (!first)
            first = x;
    }
    if (n == 0)
        return RG_OK;
    return rg_fail(err, RG_E_BAD_DATA,
                   "%s: %" PRIu32 " tensor%s that a %s of this config.json does "
                   "not have: %s%s",
                   rg_tensor_set_file(t, first->file)->path, n, n == 1 ? "" : "s",
                   o->pub.config.model_type, names, n > 3 ? ", ..." : "");
}

/* A tensor is missing or wrong.  When others are there that the model does not have, the file that
 * they are in is likely the cause: say so too. */
static enum rg_code name_foreign(const struct opened *o, struct rg_resolver *r,
                                 const struct rg_inventory *v, size_t resolved, struct rg_err *err)
{
    const struct rg_tensor_set *t = o->pub.tensors;
    const struct rg_err why = *err;
    const struct rg_tensor_info *x;
    struct rg_module rest;
    struct rg_err ignored;
    uint32_t i = 0;

    for (size_t k = resolved; k < v->n; k++) {
        if (rg_module_resolve(r, &v->specs[k], &rest, &ignored) == RG_E_NOMEM)
            return why.code;
    }
    while ((x = rg_tensor_set_at(t, i)) != NULL &&
           (is_used(&o->pub, i) || rg_inventory_drops(&o->pub.config, x->name)))
        i++;
    if (!x)
        return why.code;
    return rg_fail(err, why.code, "%s; %s has '%.96s', which belongs to another model", why.message,
                   rg_st_file_name(rg_tensor_set_file(t, x->file)->path), x->name);
}

static bool *place_of(struct rg_checkpoint *c, int32_t layer)
{
    return layer >= 0               ? &c->layer_there[layer]
           : layer == RG_LAYER_HEAD ? &c->head_there
                                    : &c->embedding_there;
}

/* Sums of what is there.  A layer, the embedding or the head is there when all its modules are. */
static void add_up(struct rg_checkpoint *c)
{
    c->embedding_there = c->head_there = c->is_whole = true;
    for (uint32_t i = 0; i < c->config.num_hidden_layers; i++)
        c->layer_there[i] = true;
    for (uint32_t i = 0; i < c->n_modules; i++) {
        const struct rg_module *m = &c->modules[i];
        const struct rg_weight_desc *w = &m->weight;

        if (!m->there)
            *place_of(c, m->layer) = c->is_whole = false;
        c->total_bytes += w->bytes;
        c->parameters += (uint64_t)w->lead * w->rows * w->cols;
        if (m->layer >= 0)
            c->layer_bytes[m->layer] += w->bytes;
        else if (m->layer == RG_LAYER_HEAD)
            c->head_bytes += w->bytes;
        else
            c->embedding_bytes += w->bytes;
    }
    if (c->config.tie_word_embeddings && !c->embedding_there)
        c->head_there = false;
}

/* config.json promises a format that not one tensor has: it is of another checkpoint. */
static enum rg_code check_promise(const struct rg_checkpoint *c, const char *config_file,
                                  struct rg_err *err)
{
    const enum rg_quant_method method = c->config.quant.method;

    if (method != RG_QUANT_COMPRESSED && method != RG_QUANT_FP8)
        return RG_OK;
    for (uint32_t i = 0; i < c->n_modules; i++) {
        if (c->modules[i].weight.kind != RG_WEIGHT_FLOAT || !c->modules[i].there)
            return RG_OK;
    }
    return rg_fail(err, RG_E_BAD_DATA,
                   "%s: quantization_config has quant_method '%s', but no tensor is quantised; "
                   "take it out, or the files that belong to it",
                   config_file, method == RG_QUANT_FP8 ? "fp8" : "compressed-tensors");
}

/* Without a word of config.json, an lm_head that is there is meant: untied transformers models. */
static enum rg_code settle_tie(struct rg_checkpoint *c, const char *config_file, struct rg_err *err)
{
    if (!c->config.tie_unsaid)
        return RG_OK;
    if (rg_module_is_known(c->tensors, "lm_head"))
        c->config.tie_word_embeddings = false;
    else if (rg_tensor_set_missing(c->tensors) > 0 && !rg_tensor_set_absence(c->tensors)->by_index)
        return rg_fail(err, RG_E_USAGE,
                       "%s: nothing says whether there is an lm_head: shard %s is missing, and so "
                       "is model.safetensors.index.json; copy the index here",
                       config_file, rg_tensor_set_missing_file(c->tensors, 0));
    return RG_OK;
}

static enum rg_code make_room(struct rg_checkpoint *c, size_t n_modules, struct rg_err *err)
{
    const uint32_t n_layers = c->config.num_hidden_layers;
    const uint32_t n_tensors = rg_tensor_set_count(c->tensors);

    c->modules = rg_calloc(n_modules, sizeof c->modules[0]);
    c->layer_bytes = rg_calloc(n_layers, sizeof c->layer_bytes[0]);
    c->layer_there = rg_calloc(n_layers, sizeof c->layer_there[0]);
    c->tensor_layer = rg_calloc((size_t)n_tensors + 1, sizeof c->tensor_layer[0]);
    if (!c->modules || !c->layer_bytes || !c->layer_there || !c->tensor_layer)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory for %zu modules", c->dir, n_modules);
    for (uint32_t i = 0; i < n_tensors; i++)
        c->tensor_layer[i] = RG_LAYER_LEFT;
    return RG_OK;
}

static enum rg_code resolve_modules(struct opened *o, struct rg_resolver *r,
                                    const struct rg_inventory *v, struct rg_err *err)
{
    struct rg_checkpoint *c = &o->pub;
    enum rg_code code = make_room(c, v->n, err);

    r->owner = c->tensor_layer;
    for (size_t i = 0; i < v->n && !code; i++) {
        code = rg_module_resolve(r, &v->specs[i], &c->modules[i], err);
        c->n_modules++;
    }
    if (code == RG_E_BAD_DATA)
        code = name_foreign(o, r, v, c->n_modules, err);
    if (!code)
        code = check_leftovers(o, err);
    if (!code)
        code = check_promise(c, r->config_file, err);
    if (!code)
        add_up(c);
    return code;
}

static enum rg_code find_modules(struct opened *o, const struct rg_checkpoint_options *options,
                                 const char *config_file, struct rg_err *err)
{
    struct rg_checkpoint *c = &o->pub;
    struct rg_inventory v;
    struct rg_resolver r = {.config = &c->config,
                            .tensors = c->tensors,
                            .arena = &o->arena,
                            .config_file = config_file};
    enum rg_code code = settle_tie(c, config_file, err);

    if (code)
        return code;
    code = rg_inventory_list(&v, &c->config, c->tensors, err);
    if (code)
        return code;
    code = resolve_modules(o, &r, &v, err);
    if (!code && options->is_part)
        code = rg_part_open(c, &r, &v, options, err);
    rg_inventory_free(&v);
    return code;
}

static void warn_of_total(const struct rg_checkpoint *c)
{
    uint64_t said, found;
    char msg[160];

    if (!rg_tensor_set_total_is_said(c->tensors, &said, &found) || said == found)
        return;
    (void)snprintf(msg, sizeof msg,
                   "the index's metadata.total_size is %" PRIu64 ", the tensors have %" PRIu64
                   " bytes; every tensor has its name and shape, so it is used",
                   said, found);
    rg_log(RG_LOG_WARN, "checkpoint", msg, "model=%s", c->name);
}

/* Of a part it shows only when the modules are known which files are to be mapped. */
static enum rg_code open_tensors(struct rg_checkpoint *c,
                                 const struct rg_checkpoint_options *options, struct rg_err *err)
{
    const bool headers_only = options->headers_only || options->is_part;

    return options->may_lack ? rg_tensor_set_open_some(&c->tensors, c->dir, headers_only, err)
                             : rg_tensor_set_open(&c->tensors, c->dir, headers_only, err);
}

enum rg_code rg_checkpoint_open(struct rg_checkpoint **out, const char *dir,
                                const struct rg_checkpoint_options *options, struct rg_err *err)
{
    struct rg_err local;
    struct opened *o = rg_calloc(1, sizeof *o);
    char *config_file = NULL;
    enum rg_code code = RG_OK;

    *out = NULL;
    if (!err)
        err = &local;
    if (!o)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory to open it", dir);
    rg_arena_init(&o->arena, 0);
    o->pub.dir = rg_strdup(dir);
    o->pub.name = rg_directory_name(dir);
    if (!o->pub.dir || !o->pub.name)
        code = rg_fail(err, RG_E_NOMEM, "%s: no memory to open it", dir);
    else if (!rg_dir_exists(dir))
        code = rg_fail(err, RG_E_USAGE,
                       "%s: no such directory; give the directory of an MLX "
                       "checkpoint",
                       dir);
    if (!code)
        code = read_config(o, &config_file, err);
    if (!code)
        code = open_tensors(&o->pub, options, err);
    if (!code)
        code = find_modules(o, options, config_file, err);
    rg_free(config_file);
    if (code) {
        rg_checkpoint_close(&o->pub);
        return code;
    }
    warn_of_total(&o->pub);
    *out = &o->pub;
    return RG_OK;
}

void rg_checkpoint_close(struct rg_checkpoint *c)
{
    struct opened *o = (struct opened *)c;

    if (!c)
        return;
    rg_free((void *)(uintptr_t)c->dir);
    rg_free((void *)(uintptr_t)c->name);
    if (o->config_read)
        rg_model_config_free(&c->config);
    rg_tensor_set_close(c->tensors);
    rg_free(c->modules);
    rg_free(c->layer_bytes);
    rg_free(c->layer_there);
    rg_free(c->tensor_layer);
    rg_arena_free(&o->arena);
    rg_free(o);
}

const struct rg_module *rg_checkpoint_module(const struct rg_checkpoint *c, int32_t layer,
                                             const char *role)
{
    for (uint32_t i = 0; i < c->n_modules; i++) {
        const struct rg_module *m = &c->modules[i];
        const bool same = m->layer == layer || (layer < 0 && m->layer < 0);

        if (same && strcmp(m->role, role) == 0)
            return m;
    }
    return NULL;
}
