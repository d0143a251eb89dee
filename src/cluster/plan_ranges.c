/* plan_ranges.c - layers by hand: the text of --layers and what must hold of it. */
#include "cluster/plan_ranges.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static bool is_id_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/* Reads a layer number at *at and moves on; false when there is none or it is too large. */
static bool read_layer(uint32_t *out, const char **at, const char *end)
{
    const char *c = *at;
    uint32_t v = 0;

    for (; c < end && *c >= '0' && *c <= '9'; c++) {
        v = 10 * v + (uint32_t)(*c - '0');
        if (v >= RG_LIMIT_LAYERS)
            return false;
    }
    if (c == *at)
        return false;
    *at = c;
    *out = v;
    return true;
}

/* "A-B", "A" or "none" */
static bool read_layers(struct rg_plan_range *r, const char *at, const char *end)
{
    uint32_t last;

    r->first = r->n = 0;
    if (end - at == 4 && memcmp(at, "none", 4) == 0)
        return true;
    if (!read_layer(&r->first, &at, end))
        return false;
    last = r->first;
    if (at < end && *at == '-') {
        at++;
        if (!read_layer(&last, &at, end))
            return false;
    }
    if (at != end || last < r->first)
        return false;
    r->n = last - r->first + 1;
    return true;
}

static bool read_range(struct rg_plan_range *r, const char *at, const char *end)
{
    const char *c = at;

    while (c < end && is_id_char(*c))
        c++;
    if (c == at || c - at > (ptrdiff_t)RG_LIMIT_NODE_ID_BYTES || c == end || *c != '=')
        return false;
    memcpy(r->id, at, (size_t)(c - at));
    r->id[c - at] = '\0';
    return read_layers(r, c + 1, end);
}

enum rg_code rg_plan_parse_ranges(struct rg_plan_range *out, uint32_t *n, const char *text,
                                  struct rg_err *err)
{
    *n = 0;
    for (const char *at = text;; at++) {
        const char *end = at + strcspn(at, ",");
        struct rg_plan_range r;

        if (!read_range(&r, at, end))
            return rg_fail(err, RG_E_USAGE,
                           "--layers: '%.*s': give ID=A-B or ID=none, with layers below %u, "
                           "separated by commas",
                           end - at < 60 ? (int)(end - at) : 60, at, RG_LIMIT_LAYERS);
        for (uint32_t i = 0; i < *n; i++)
            if (strcmp(out[i].id, r.id) == 0)
                return rg_fail(err, RG_E_USAGE, "--layers: %s appears twice: a node has one range",
                               r.id);
        if (*n == RG_LIMIT_PEERS)
            return rg_fail(err, RG_E_USAGE, "--layers: more than %u nodes", RG_LIMIT_PEERS);
        out[(*n)++] = r;
        if (*end == '\0')
            return RG_OK;
        at = end;
    }
}

/* The first range that has `layer`, and how many have it. */
static const struct rg_plan_range *range_with(const struct rg_plan_range *ranges, uint32_t n,
                                              uint32_t layer, uint32_t *count)
{
    const struct rg_plan_range *found = NULL;

    *count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (layer < ranges[i].first || layer - ranges[i].first >= ranges[i].n)
            continue;
        (*count)++;
        found = found ? found : &ranges[i];
    }
    return found;
}

enum rg_code rg_plan_check_tiling(const struct rg_plan_range *ranges, uint32_t n,
                                  const char *head_id, uint32_t n_layers, struct rg_err *err)
{
    const struct rg_plan_range *last = NULL, *head = NULL;
    uint32_t count;

    for (uint32_t i = 0; i < n; i++) {
        if (ranges[i].n > 0 && ranges[i].first + ranges[i].n > n_layers)
            return rg_fail(err, RG_E_USAGE, "--layers: %s=%u-%u: the model has layers 0-%u",
                           ranges[i].id, ranges[i].first, ranges[i].first + ranges[i].n - 1,
                           n_layers - 1);
        if (ranges[i].n > 0 && strcmp(ranges[i].id, head_id) == 0)
            head = &ranges[i];
    }
    for (uint32_t k = 0; k < n_layers; k++) {
        last = range_with(ranges, n, k, &count);
        if (count == 0)
            return rg_fail(err, RG_E_USAGE,
                           "--layers: nobody has layer %u: the ranges must cover layers 0-%u", k,
                           n_layers - 1);
        if (count > 1)
            return rg_fail(err, RG_E_USAGE,
                           "--layers: layer %u is given to %u nodes, %s is one: "
                           "ranges must not overlap",
                           k, count, last->id);
    }
    if (head && head != last)
        return rg_fail(err, RG_E_USAGE,
                       "--layers: %s is the head, so it must have the last layers (up to %u) or "
                       "none: the ring ends at the head",
                       head_id, n_layers - 1);
    return RG_OK;
}

enum rg_code rg_plan_check_ranges(const struct rg_plan_range *ranges, uint32_t n_ranges,
                                  const char *const *ids, uint32_t n_ids, uint32_t n_layers,
                                  struct rg_err *err)
{
    assert(n_ids > 0);
    for (uint32_t i = 0; i < n_ranges; i++) {
        uint32_t k = 0;

        while (k < n_ids && strcmp(ids[k], ranges[i].id) != 0)
            k++;
        if (k == n_ids)
            return rg_fail(err, RG_E_USAGE, "--layers: discovery.json has no peer '%s'",
                           ranges[i].id);
    }
    return rg_plan_check_tiling(ranges, n_ranges, ids[0], n_layers, err);
}
