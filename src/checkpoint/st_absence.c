/* st_absence.c - the shards that a directory lacks, and the tensors in them. */
#include <string.h>

#include "base/mem.h"
#include "checkpoint/st_table.h"

const char *rg_st_add_missing(struct rg_st_absence *a, const char *name, struct rg_err *err)
{
    const char *kept;

    for (size_t i = a->n_shards; i > 0; i--) {
        if (strcmp(a->shards[i - 1], name) == 0)
            return a->shards[i - 1];
    }
    if (a->n_shards >= RG_LIMIT_SHARDS) {
        (void)rg_fail(err, RG_E_LIMIT, "'%.160s': more than %u shards are missing", name,
                      RG_LIMIT_SHARDS);
        return NULL;
    }
    if (rg_grow((void **)&a->shards, &a->shards_capacity, a->n_shards + 1, sizeof a->shards[0],
                err) != RG_OK)
        return NULL;
    kept = rg_arena_strndup(a->arena, name, strlen(name));
    if (!kept) {
        (void)rg_fail(err, RG_E_NOMEM, "no memory for the name of a missing shard");
        return NULL;
    }
    a->shards[a->n_shards++] = kept;
    return kept;
}

const struct rg_st_absent *rg_st_absent_from(const struct rg_st_absence *a, const char *name)
{
    size_t low = 0, high = a->n_tensors;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (strcmp(a->tensors[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return a->tensors ? a->tensors + low : NULL;
}

const char *rg_st_absent_shard(const struct rg_st_absence *a, const char *name)
{
    const struct rg_st_absent *t = rg_st_absent_from(a, name);

    return t && t < a->tensors + a->n_tensors && strcmp(t->name, name) == 0 ? t->shard : NULL;
}
