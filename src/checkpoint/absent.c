/* absent.c - which modules are in shards that this disk does not have.
 *
 * With an index every tensor's shard is known.  Without one a tensor that cannot be found is taken
 * to be in a missing shard, and what a module must have follows from what there is of it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/quant.h"
#include "checkpoint/st_table.h"

/* Whatever can stand behind a module's path. */
static const char *const suffixes[] = {"weight",        "scales",          "biases",
                                       "weight_packed", "weight_scale",    "weight_shape",
                                       "global_scale",  "weight_scale_inv"};

enum { N_SUFFIXES = sizeof suffixes / sizeof suffixes[0], N_WEIGHTS = 2 };

static const char *const weights[N_WEIGHTS] = {"weight", "weight_packed"};

static bool is_known(const struct rg_tensor_set *tensors, const char *path, const char *suffix)
{
    char name[256];

    (void)snprintf(name, sizeof name, "%s.%s", path, suffix);
    return rg_tensor_set_find(tensors, name) ||
           rg_st_absent_shard(rg_tensor_set_absence(tensors), name);
}

bool rg_module_is_known(const struct rg_tensor_set *tensors, const char *path)
{
    /* When nothing is missing the weight itself must be there. */
    const bool lacks = rg_tensor_set_missing(tensors) > 0;
    const char *const *list = lacks ? suffixes : weights;

    for (size_t i = 0; i < (lacks ? N_SUFFIXES : N_WEIGHTS); i++) {
        if (is_known(tensors, path, list[i]))
            return true;
    }
    return false;
}

/* The tensor is the module's own, not one of a module whose path goes on from this one. */
static bool is_of_module(const struct rg_subject *s, const char *behind_path)
{
    if (s->spec->bare)
        return *behind_path == '\0';
    for (size_t i = 0; i < N_SUFFIXES; i++) {
        if (*behind_path == '.' && strcmp(behind_path + 1, suffixes[i]) == 0)
            return true;
    }
    return false;
}

/* The missing shard that the index names for one of the module's tensors. */
static const char *shard_by_index(const struct rg_subject *s)
{
    const struct rg_st_absence *a = rg_tensor_set_absence(s->r->tensors);
    const struct rg_st_absent *t = rg_st_absent_from(a, s->path);
    const size_t len = strlen(s->path);

    for (; t && t < a->tensors + a->n_tensors && strncmp(t->name, s->path, len) == 0; t++) {
        if (is_of_module(s, t->name + len))
            return t->shard;
    }
    return NULL;
}

/* What there is cannot be all of a module. */
static bool is_incomplete(const struct rg_subject *s)
{
    const struct rg_parts *p = &s->parts;
    const struct rg_tensor_info *w = p->weight;

    if (p->foreign)
        return false; /* which is an error, whatever is missing */
    if (p->packed)
        return !p->scale;
    if (!w || s->spec->vector)
        return !w;
    if (w->dtype == RG_DTYPE_F8_E4M3)
        return !p->scale_inv && !p->scale;
    if (w->dtype != RG_DTYPE_U32)
        return false;
    return !p->scales || (p->scales->dtype != RG_DTYPE_U8 && !p->biases) ||
           (s->entry && s->entry->global_scale && !p->global_scale);
}

static bool is_absent(const struct rg_subject *s, const char **shard)
{
    if (rg_tensor_set_absence(s->r->tensors)->by_index) {
        *shard = shard_by_index(s);
        return *shard != NULL;
    }
    return is_incomplete(s);
}

/* All tensors of s->path that are there belong to this module. */
static void claim(const struct rg_subject *s)
{
    const struct rg_tensor_info *t;
    char name[256];

    for (size_t i = 0; i < (s->spec->vector ? 1 : N_SUFFIXES); i++) {
        (void)snprintf(name, sizeof name, "%s%s%s", s->path, s->spec->bare ? "" : ".",
                       s->spec->bare ? "" : suffixes[i]);
        t = rg_tensor_set_find(s->r->tensors, name);
        if (t)
            rg_subject_use(s, t);
    }
}

const char *rg_subject_expert_path(const struct rg_subject *s, uint32_t expert,
                                   char path[RG_EXPERT_PATH_BYTES])
{
    (void)snprintf(path, RG_EXPERT_PATH_BYTES,
                   "%smodel.layers.%" PRId32 ".mlp.experts.%" PRIu32 ".%s", s->r->config->prefix,
                   s->spec->layer, expert, s->spec->one_by_one);
    return path;
}

/* Looks at each expert, or at the module itself; claims all of them when one is absent. */
bool rg_subject_take_absent(struct rg_subject *s, const char **shard)
{
    const uint32_t n = s->spec->one_by_one ? s->spec->lead : 1;
    const char *module = s->path;
    bool absent = false;
    char path[RG_EXPERT_PATH_BYTES];

    *shard = NULL;
    for (uint32_t e = 0; e < n && !absent; e++) {
        s->path = s->spec->one_by_one ? rg_subject_expert_path(s, e, path) : module;
        rg_subject_find_parts(s);
        absent = is_absent(s, shard);
    }
    for (uint32_t e = 0; e < n && absent; e++) {
        s->path = s->spec->one_by_one ? rg_subject_expert_path(s, e, path) : module;
        claim(s);
    }
    s->path = module;
    return absent;
}
