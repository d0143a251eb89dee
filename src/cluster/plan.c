/* plan.c - who gets which layers: a table of the cheapest ways to give the first layers to the
 * first nodes of the ring, and the words for what is wrong with the best of them.
 *
 * A split costs, in this order: layers that a node lacks, bytes that it is short of, and layers by
 * which the boundaries moved from where the memories alone would put them.  So a split that fits is
 * found whenever there is one, and it is the one nearest to the proportional split. */
#include "cluster/plan.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/plan_ranges.h"

/* No byte count from outside is taken for more: sums over all layers then stay in 64 bits. */
static const uint64_t bytes_cap = UINT64_C(1) << 50;

/* The split that is being made: nodes in the order of the ring. */
struct split {
    const struct rg_plan_model *model;
    const struct rg_plan_peer *nodes[RG_LIMIT_PEERS];
    uint32_t n_nodes;
    uint32_t first[RG_LIMIT_PEERS], end[RG_LIMIT_PEERS];
};

static uint64_t capped(uint64_t bytes)
{
    return bytes < bytes_cap ? bytes : bytes_cap;
}

static uint64_t usable(const struct rg_plan_peer *p)
{
    const uint64_t claimed = capped(p->memory_bytes);

    return claimed - claimed / 10;
}

static uint64_t layer_need(const struct rg_plan_model *m, uint32_t layer)
{
    return capped(m->layer_bytes[layer]) + capped(m->kv_layer_bytes[layer]);
}

static uint64_t fixed_need(const struct rg_plan_model *m, bool head)
{
    return capped(m->reserve_bytes) +
           (head ? capped(m->embedding_bytes) + capped(m->head_bytes) : 0);
}

static bool has_layer(const struct rg_plan_peer *p, uint32_t layer)
{
    return !p->has_layer || p->has_layer[layer];
}

/* ---- the proportional split ------------------------------------------------------------------ */

static bool before(const struct rg_plan_peer *a, const struct rg_plan_peer *b)
{
    if (a->head != b->head)
        return b->head;
    if (a->memory_bytes != b->memory_bytes)
        return a->memory_bytes > b->memory_bytes;
    return strcmp(a->id, b->id) < 0;
}

static void order_nodes(struct split *s, const struct rg_plan_peer *peers, uint32_t n)
{
    s->n_nodes = n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = i;

        for (; k > 0 && before(&peers[i], s->nodes[k - 1]); k--)
            s->nodes[k] = s->nodes[k - 1];
        s->nodes[k] = &peers[i];
    }
    assert(s->nodes[n - 1]->head);
}

/* ends[i]: where node i ends when layers are given by the largest remainder of the memories. */
static void proportional(uint32_t *ends, const struct split *s)
{
    const uint32_t n_layers = s->model->n_layers;
    uint32_t counts[RG_LIMIT_PEERS], given = 0;
    uint64_t rest[RG_LIMIT_PEERS], total = 0;

    for (uint32_t i = 0; i < s->n_nodes; i++)
        total += capped(s->nodes[i]->memory_bytes);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const uint64_t share = n_layers * capped(s->nodes[i]->memory_bytes);

        counts[i] = total > 0 ? (uint32_t)(share / total) : 0;
        rest[i] = total > 0 ? share % total : 0;
        given += counts[i];
    }
    for (; given < n_layers; given++) {
        uint32_t most = 0;

        for (uint32_t i = 1; i < s->n_nodes; i++)
            if (rest[i] > rest[most])
                most = i;
        counts[most]++;
        rest[most] = 0;
    }
    for (uint32_t i = 0, end = 0; i < s->n_nodes; i++)
        ends[i] = end += counts[i];
}

/* ---- the cheapest split ---------------------------------------------------------------------- */

struct cost {
    uint64_t missing, short_bytes, moves;
};

static bool cheaper(const struct cost *a, const struct cost *b)
{
    if (a->missing != b->missing)
        return a->missing < b->missing;
    if (a->short_bytes != b->short_bytes)
        return a->short_bytes < b->short_bytes;
    return a->moves < b->moves;
}

struct table {
    const struct split *split;
    uint64_t *bytes;   /* owned [n_layers + 1]: of all layers before this one */
    uint32_t *missing; /* owned [n_layers + 1]: the same, layers that the present node lacks */
    struct cost *best; /* owned [2][n_layers + 1]: of the nodes so far, by where they end */
    uint16_t *begin;   /* owned [n_nodes][n_layers + 1]: where node i begins when it ends there */
};

/* What it costs that node i has layers [begin, end), moves apart. */
static struct cost node_cost(const struct table *t, uint32_t i, uint32_t begin, uint32_t end)
{
    const struct rg_plan_peer *p = t->split->nodes[i];
    const uint64_t have = usable(p);
    struct cost c = {.missing = t->missing[end] - t->missing[begin]};

    if (end > begin || p->head) {
        const uint64_t need =
            fixed_need(t->split->model, p->head) + t->bytes[end] - t->bytes[begin];

        c.short_bytes = need > have ? need - have : 0;
    }
    return c;
}

/* The row of node i: the cheapest beginning for each end. */
static void fill_row(struct table *t, uint32_t i, uint32_t natural_end)
{
    const uint32_t n = t->split->model->n_layers;
    const struct cost *before_it = t->best + (i % 2) * (n + 1);
    struct cost *row = t->best + ((i + 1) % 2) * (n + 1);

    for (uint32_t k = 0; k < n; k++)
        t->missing[k + 1] = t->missing[k] + !has_layer(t->split->nodes[i], k);
    for (uint32_t end = 0; end <= n; end++) {
        const uint32_t moves = end > natural_end ? end - natural_end : natural_end - end;

        row[end] = (struct cost){.missing = UINT64_MAX};
        /* The first node can only begin at 0. */
        for (uint32_t begin = 0; begin <= (i == 0 ? 0 : end); begin++) {
            struct cost c = node_cost(t, i, begin, end);

            c.missing += before_it[begin].missing;
            c.short_bytes += before_it[begin].short_bytes;
            c.moves = before_it[begin].moves + moves;
            if (cheaper(&c, &row[end])) {
                row[end] = c;
                t->begin[i * (n + 1) + end] = (uint16_t)begin;
            }
        }
    }
}

static enum rg_code split_cheapest(struct split *s, struct rg_err *err)
{
    const uint32_t n = s->model->n_layers;
    uint32_t natural[RG_LIMIT_PEERS];
    struct table t = {.split = s};
    enum rg_code code = RG_OK;

    t.bytes = rg_calloc((size_t)n + 1, sizeof *t.bytes);
    t.missing = rg_calloc((size_t)n + 1, sizeof *t.missing);
    t.best = rg_calloc(2 * ((size_t)n + 1), sizeof *t.best);
    t.begin = rg_calloc((size_t)s->n_nodes * (n + 1), sizeof *t.begin);
    if (!t.bytes || !t.missing || !t.best || !t.begin) {
        code = rg_fail(err, RG_E_NOMEM, "plan: out of memory");
        goto out;
    }
    for (uint32_t k = 0; k < n; k++)
        t.bytes[k + 1] = t.bytes[k] + layer_need(s->model, k);
    proportional(natural, s);
    for (uint32_t i = 0; i < s->n_nodes; i++)
        fill_row(&t, i, natural[i]);
    for (uint32_t i = s->n_nodes, end = n; i-- > 0; end = s->first[i]) {
        s->end[i] = end;
        s->first[i] = t.begin[i * (n + 1) + end];
    }
out:
    rg_free(t.bytes);
    rg_free(t.missing);
    rg_free(t.best);
    rg_free(t.begin);
    return code;
}

/* ---- by hand --------------------------------------------------------------------------------- */

static const struct rg_plan_range *range_of(const struct rg_plan_range *ranges, uint32_t n,
                                            const char *id)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(ranges[i].id, id) == 0)
            return &ranges[i];
    return NULL;
}

/* Every node of the override that has layers must be there. */
static enum rg_code check_there(const struct split *s, const struct rg_plan_range *ranges,
                                uint32_t n, struct rg_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        bool there = ranges[i].n == 0;

        for (uint32_t k = 0; k < s->n_nodes && !there; k++)
            there = strcmp(s->nodes[k]->id, ranges[i].id) == 0;
        if (!there)
            return rg_fail(err, RG_E_PEER, "--layers: %s has layers %u-%u and is not there",
                           ranges[i].id, ranges[i].first, ranges[i].first + ranges[i].n - 1);
    }
    return RG_OK;
}

/* The ring follows the layers; nodes without any stand where they are of no account. */
static enum rg_code split_by_hand(struct split *s, const struct rg_plan_range *ranges, uint32_t n,
                                  struct rg_err *err)
{
    const char *head_id = s->nodes[s->n_nodes - 1]->id;
    enum rg_code code = rg_plan_check_tiling(ranges, n, head_id, s->model->n_layers, err);

    if (!code)
        code = check_there(s, ranges, n, err);
    for (uint32_t i = 0; i < s->n_nodes && !code; i++) {
        const struct rg_plan_peer *p = s->nodes[i];
        const struct rg_plan_range *r = range_of(ranges, n, p->id);
        const uint32_t count = r ? r->n : 0;
        const uint32_t first = count > 0 ? r->first : p->head ? s->model->n_layers : 0;
        uint32_t k = i;

        for (; k > 0 && !p->head && s->first[k - 1] > first; k--) {
            s->nodes[k] = s->nodes[k - 1];
            s->first[k] = s->first[k - 1];
            s->end[k] = s->end[k - 1];
        }
        s->nodes[k] = p;
        s->first[k] = first;
        s->end[k] = first + count;
    }
    return code;
}

/* ---- the result ------------------------------------------------------------------------------ */

static void fill_part(struct rg_plan_part *part, const struct split *s, uint32_t i)
{
    const struct rg_plan_model *m = s->model;
    const struct rg_plan_peer *p = s->nodes[i];
    uint64_t need = fixed_need(m, p->head);

    *part = (struct rg_plan_part){.head = p->head,
                                  .first_layer = s->first[i],
                                  .n_layers = s->end[i] - s->first[i],
                                  .reserve_bytes = capped(m->reserve_bytes),
                                  .memory_bytes = usable(p)};
    (void)snprintf(part->id, sizeof part->id, "%s", p->id);
    if (p->head) {
        part->weight_bytes = capped(m->embedding_bytes) + capped(m->head_bytes);
        part->read_bytes = capped(m->read_head_bytes);
    }
    for (uint32_t k = s->first[i]; k < s->end[i]; k++) {
        part->weight_bytes += capped(m->layer_bytes[k]);
        part->kv_bytes += capped(m->kv_layer_bytes[k]);
        part->read_bytes += capped(m->read_layer_bytes[k]);
        need += layer_need(m, k);
    }
    part->headroom_bytes = (int64_t)part->memory_bytes - (int64_t)need;
}

static void fill_plan(struct rg_plan *out, const struct split *s)
{
    *out = (struct rg_plan){
        .context = s->model->context, .parallel = s->model->parallel, .fits = true};
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        if (s->end[i] == s->first[i] && !s->nodes[i]->head)
            continue;
        fill_part(&out->parts[out->n_parts], s, i);
        out->fits = out->fits && out->parts[out->n_parts].headroom_bytes >= 0;
        out->n_parts++;
    }
}

RG_PRINTF(3, 4)
static void append(char *text, size_t size, const char *format, ...)
{
    const size_t n = strlen(text);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text + n, size - n, format, args);
    va_end(args);
}

static enum rg_code fail_fit(const struct rg_plan *plan, const char *name, struct rg_err *err)
{
    char list[RG_ERR_BYTES] = "";

    for (uint32_t i = 0; i < plan->n_parts; i++) {
        const struct rg_plan_part *p = &plan->parts[i];
        const uint64_t lack = p->headroom_bytes < 0 ? (uint64_t)-p->headroom_bytes : 0;
        const char *comma = list[0] ? ", " : "";

        if (lack >= 10000000)
            append(list, sizeof list, "%s%s is short of %.2f GB", comma, p->id, (double)lack / 1e9);
        else if (lack > 0)
            append(list, sizeof list, "%s%s is short of %" PRIu64 " bytes", comma, p->id, lack);
    }
    return rg_fail(err, RG_E_FIT,
                   "%.60s: does not fit with %u x %u tokens of context: %.300s: lower --ctx or "
                   "--parallel, or add a node",
                   name, plan->parallel, plan->context, list);
}

/* Layers that none of some nodes has. */
struct lack {
    const struct rg_plan_peer *const *nodes;
    uint32_t n_nodes;
};

static bool lacks(const struct lack *l, uint32_t layer)
{
    for (uint32_t i = 0; i < l->n_nodes; i++)
        if (has_layer(l->nodes[i], layer))
            return false;
    return true;
}

/* Those of [begin, end), as "3-5, 9"; false: there are none. */
static bool list_lack(char *text, size_t size, const struct lack *l, uint32_t begin, uint32_t end)
{
    text[0] = '\0';
    for (uint32_t k = begin, last; k < end; k = last + 1) {
        last = k;
        if (!lacks(l, k))
            continue;
        while (last + 1 < end && lacks(l, last + 1))
            last++;
        append(text, size, "%s%u", text[0] ? ", " : "", k);
        if (last > k)
            append(text, size, "-%u", last);
    }
    return text[0] != '\0';
}

static enum rg_code check_files(const struct split *s, bool by_hand, struct rg_err *err)
{
    char list[200];

    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const struct lack one = {.nodes = &s->nodes[i], .n_nodes = 1};

        if (list_lack(list, sizeof list, &one, s->first[i], s->end[i]))
            return rg_fail(err, RG_E_PEER,
                           "%.60s: %s would get layers %u-%u, but its disk lacks %s%s: copy their "
                           "files there",
                           s->model->name, s->nodes[i]->id, s->first[i], s->end[i] - 1, list,
                           by_hand ? "" : ", and no other split is possible");
    }
    return RG_OK;
}

enum rg_code rg_plan_make(struct rg_plan *out, const struct rg_plan_model *model,
                          const struct rg_plan_peer *peers, uint32_t n_peers,
                          const struct rg_plan_range *ranges, uint32_t n_ranges, struct rg_err *err)
{
    struct split s = {.model = model};
    const struct lack all = {.nodes = s.nodes, .n_nodes = n_peers};
    char list[200];
    enum rg_code code;

    assert(n_peers >= 1 && n_peers <= RG_LIMIT_PEERS && model->n_layers >= 1 &&
           model->n_layers <= RG_LIMIT_LAYERS);
    *out = (struct rg_plan){.context = model->context, .parallel = model->parallel};
    order_nodes(&s, peers, n_peers);
    code = n_ranges > 0 ? split_by_hand(&s, ranges, n_ranges, err) : RG_OK;
    if (code)
        return code;
    if (list_lack(list, sizeof list, &all, 0, model->n_layers))
        return rg_fail(err, RG_E_PEER, "%.60s: no node has layers %s: copy their files to one",
                       model->name, list);
    if (n_ranges == 0)
        code = split_cheapest(&s, err);
    if (!code)
        code = check_files(&s, n_ranges > 0, err);
    if (code)
        return code;
    fill_plan(out, &s);
    return out->fits ? RG_OK : fail_fit(out, model->name, err);
}

enum rg_code rg_plan_check_own(const struct rg_plan_part *part, uint64_t memory_bytes,
                               bool overcommit, struct rg_err *err)
{
    const uint64_t gib = UINT64_C(1) << 30;
    const uint64_t kept = memory_bytes >= 32 * gib ? 8 * gib : memory_bytes / 4;
    const uint64_t need = part->weight_bytes + part->kv_bytes + part->reserve_bytes;

    /* 0: this machine does not say how much it has */
    if (overcommit || memory_bytes == 0 || need <= memory_bytes - kept)
        return RG_OK;
    return rg_fail(err, RG_E_FIT,
                   "%s: its part needs %.2f GB and %.2f GB of this machine's %.2f are for it: give "
                   "it less memory in discovery.json, or allow it with --overcommit",
                   part->id, (double)need / 1e9, (double)(memory_bytes - kept) / 1e9,
                   (double)memory_bytes / 1e9);
}
