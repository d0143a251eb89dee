/* plan_test.c - who gets which layers: the two Macs, what does not fit, layers by hand, and random
 * rings against a search through all splits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/plan.h"
#include "support/live_memory.h"

enum { LAYERS_MOST = 64 };

static const uint64_t gib = UINT64_C(1) << 30;

/* A model of equal layers, its arrays in static storage. */
struct sizes {
    uint64_t layer[LAYERS_MOST], kv[LAYERS_MOST], read[LAYERS_MOST];
    bool has[8][LAYERS_MOST];
};

static struct sizes z;

static struct rg_plan_model equal_layers(uint32_t n, uint64_t layer, uint64_t kv)
{
    for (uint32_t k = 0; k < n; k++) {
        z.layer[k] = layer;
        z.kv[k] = kv;
        z.read[k] = layer / 16;
    }
    return (struct rg_plan_model){.name = "model",
                                  .n_layers = n,
                                  .layer_bytes = z.layer,
                                  .kv_layer_bytes = z.kv,
                                  .read_layer_bytes = z.read,
                                  .context = 8192,
                                  .parallel = 4};
}

static const struct rg_plan_part *part_of(const struct rg_plan *p, const char *id)
{
    for (uint32_t i = 0; i < p->n_parts; i++)
        if (strcmp(p->parts[i].id, id) == 0)
            return &p->parts[i];
    return NULL;
}

static void expect_part(const struct rg_plan *p, const char *id, uint32_t first, uint32_t last)
{
    const struct rg_plan_part *part = part_of(p, id);

    assert_non_null(part);
    assert_int_equal(part->first_layer, first);
    assert_int_equal(part->first_layer + part->n_layers - 1, last);
}

static const struct rg_plan_peer two_macs[] = {
    {.id = "m2", .memory_bytes = UINT64_C(192) << 30, .head = true},
    {.id = "m3", .memory_bytes = UINT64_C(512) << 30},
};

/* ---- by memory ------------------------------------------------------------------------------- */

static void the_two_macs_get_44_and_17_layers(void **state)
{
    struct rg_plan_model m = equal_layers(61, 8 * gib, gib / 64);
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    m.embedding_bytes = gib / 2;
    m.head_bytes = gib;
    m.reserve_bytes = 2 * gib;
    m.read_head_bytes = 1000;
    assert_int_equal(rg_plan_make(&p, &m, two_macs, 2, NULL, 0, &err), RG_OK);
    assert_true(p.fits);
    assert_int_equal(p.n_parts, 2);
    assert_int_equal(p.context, 8192);
    assert_int_equal(p.parallel, 4);
    expect_part(&p, "m3", 0, 43);
    expect_part(&p, "m2", 44, 60);
    assert_true(p.parts[1].head && !p.parts[0].head);
    assert_true(p.parts[0].weight_bytes == 44 * 8 * gib);
    assert_true(p.parts[1].weight_bytes == 17 * 8 * gib + gib + gib / 2);
    assert_true(p.parts[1].kv_bytes == 17 * gib / 64);
    assert_true(p.parts[1].read_bytes == 17 * (8 * gib / 16) + 1000);
    assert_true(p.parts[1].memory_bytes == 192 * gib - 192 * gib / 10);
    assert_true(p.parts[1].headroom_bytes ==
                (int64_t)(p.parts[1].memory_bytes - p.parts[1].weight_bytes - p.parts[1].kv_bytes -
                          2 * gib));
}

static void workers_stand_by_memory_then_id_and_the_head_last(void **state)
{
    const struct rg_plan_model m = equal_layers(16, 1, 0);
    const struct rg_plan_peer peers[] = {{.id = "zz", .memory_bytes = 40 * gib},
                                         {.id = "head", .memory_bytes = 90 * gib, .head = true},
                                         {.id = "b", .memory_bytes = 10 * gib},
                                         {.id = "a", .memory_bytes = 10 * gib},
                                         {.id = "tiny", .memory_bytes = 1 * gib}};
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_plan_make(&p, &m, peers, 5, NULL, 0, &err), RG_OK);
    assert_int_equal(p.n_parts, 4);
    assert_string_equal(p.parts[0].id, "zz");
    assert_string_equal(p.parts[1].id, "a");
    assert_string_equal(p.parts[2].id, "b");
    assert_string_equal(p.parts[3].id, "head");
    assert_null(part_of(&p, "tiny"));
}

static void one_node_has_all(void **state)
{
    const struct rg_plan_model m = equal_layers(5, 1, 1);
    const struct rg_plan_peer one = {.id = "a", .memory_bytes = 100, .head = true};
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_plan_make(&p, &m, &one, 1, NULL, 0, &err), RG_OK);
    assert_int_equal(p.n_parts, 1);
    expect_part(&p, "a", 0, 4);
}

static void a_head_without_layers_stays_in_the_ring(void **state)
{
    struct rg_plan_model m = equal_layers(2, gib, 0);
    const struct rg_plan_peer peers[] = {{.id = "h", .memory_bytes = gib, .head = true},
                                         {.id = "w", .memory_bytes = 64 * gib}};
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    m.head_bytes = 1000;
    assert_int_equal(rg_plan_make(&p, &m, peers, 2, NULL, 0, &err), RG_OK);
    assert_int_equal(p.n_parts, 2);
    assert_true(p.parts[1].head);
    assert_int_equal(p.parts[1].n_layers, 0);
    assert_true(p.parts[1].weight_bytes == 1000);
}

static void only_the_layers_that_do_not_fit_move(void **state)
{
    /* By memory 10 each; the head also has an embedding of three layers. */
    struct rg_plan_model m = equal_layers(20, gib, 0);
    const struct rg_plan_peer peers[] = {{.id = "h", .memory_bytes = 12 * gib, .head = true},
                                         {.id = "w", .memory_bytes = 12 * gib}};
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_plan_make(&p, &m, peers, 2, NULL, 0, &err), RG_OK);
    expect_part(&p, "w", 0, 9);
    m.embedding_bytes = 3 * gib / 2; /* 10.8 - 1.5 = 9 layers */
    m.n_layers = 19;
    assert_int_equal(rg_plan_make(&p, &m, peers, 2, NULL, 0, &err), RG_OK);
    expect_part(&p, "w", 0, 9);
    expect_part(&p, "h", 10, 18);
    m.embedding_bytes = 2 * gib + gib / 2; /* 8 layers: one more moves, and w has room for it */
    m.n_layers = 18;
    assert_int_equal(rg_plan_make(&p, &m, peers, 2, NULL, 0, &err), RG_OK);
    expect_part(&p, "w", 0, 9);
    expect_part(&p, "h", 10, 17);
}

/* ---- what is wrong --------------------------------------------------------------------------- */

static void what_does_not_fit_is_told_node_by_node(void **state)
{
    struct rg_plan_model m = equal_layers(61, 12 * gib, 0);
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    m.reserve_bytes = gib;
    assert_int_equal(rg_plan_make(&p, &m, two_macs, 2, NULL, 0, &err), RG_E_FIT);
    assert_false(p.fits);
    assert_int_equal(p.n_parts, 2);
    for (uint32_t i = 0; i < p.n_parts; i++) {
        char said[80];

        if (p.parts[i].headroom_bytes >= 0)
            continue;
        (void)snprintf(said, sizeof said, "%s is short of %.2f GB", p.parts[i].id,
                       (double)-p.parts[i].headroom_bytes / 1e9);
        assert_non_null(strstr(err.message, said));
    }
    assert_true(p.parts[0].headroom_bytes < 0 || p.parts[1].headroom_bytes < 0);
    assert_non_null(strstr(err.message, "--ctx"));
    assert_null(strchr(err.message, '\n'));
    m = equal_layers(4, 1000, 0);
    const struct rg_plan_peer small = {.id = "a", .memory_bytes = 4000, .head = true};
    assert_int_equal(rg_plan_make(&p, &m, &small, 1, NULL, 0, &err), RG_E_FIT);
    assert_non_null(strstr(err.message, "a is short of 400 bytes"));
}

static void a_layer_that_nobody_has_is_named(void **state)
{
    const struct rg_plan_model m = equal_layers(10, 1, 0);
    struct rg_plan_peer peers[] = {{.id = "h", .memory_bytes = gib, .head = true},
                                   {.id = "w", .memory_bytes = gib}};
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    memset(z.has, true, sizeof z.has);
    z.has[0][3] = z.has[1][3] = z.has[0][4] = z.has[1][4] = z.has[0][9] = z.has[1][9] = false;
    z.has[0][0] = false;
    peers[0].has_layer = z.has[0];
    peers[1].has_layer = z.has[1];
    assert_int_equal(rg_plan_make(&p, &m, peers, 2, NULL, 0, &err), RG_E_PEER);
    assert_non_null(strstr(err.message, "no node has layers 3-4, 9:"));
}

static void the_boundary_moves_to_where_the_files_are(void **state)
{
    const struct rg_plan_model m = equal_layers(10, 1, 0);
    struct rg_plan_peer peers[] = {{.id = "h", .memory_bytes = gib, .head = true},
                                   {.id = "w", .memory_bytes = gib}};
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    memset(z.has, true, sizeof z.has);
    z.has[1][3] = false; /* of the worker */
    peers[1].has_layer = z.has[1];
    assert_int_equal(rg_plan_make(&p, &m, peers, 2, NULL, 0, &err), RG_OK);
    expect_part(&p, "w", 0, 2);
    expect_part(&p, "h", 3, 9);

    z.has[0][1] = false; /* and now the head cannot take over what stands before */
    peers[0].has_layer = z.has[0];
    z.has[1][0] = false;
    assert_int_equal(rg_plan_make(&p, &m, peers, 2, NULL, 0, &err), RG_E_PEER);
    assert_non_null(strstr(err.message, "its disk lacks"));
    assert_non_null(strstr(err.message, "would get layers"));
}

static void memory_that_is_short_leaves_nothing(void **state)
{
    const struct rg_plan_model m = equal_layers(6, 1, 0);
    struct rg_plan p;
    struct rg_err err;
    enum rg_code code = RG_E_NOMEM;

    (void)state;
    for (int64_t n = 1; code != RG_OK && n < 20; n++) {
        const int64_t live = rg_mem_live();

        rg_mem_fail_at(n);
        code = rg_plan_make(&p, &m, two_macs, 2, NULL, 0, &err);
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || code == RG_E_NOMEM);
        assert_true(rg_mem_live() == live);
    }
    assert_int_equal(code, RG_OK);
}

/* ---- by hand --------------------------------------------------------------------------------- */

static void expect_unread(const char *text)
{
    struct rg_plan_range r[RG_LIMIT_PEERS];
    struct rg_err err;
    uint32_t n;

    if (rg_plan_parse_ranges(r, &n, text, &err) != RG_E_USAGE)
        fail_msg("accepted: %s", text);
    assert_non_null(strstr(err.message, "--layers"));
}

static void ranges_are_read(void **state)
{
    struct rg_plan_range r[RG_LIMIT_PEERS];
    struct rg_err err;
    uint32_t n;

    (void)state;
    assert_int_equal(rg_plan_parse_ranges(r, &n, "m3-x.y_z=0-43,m2=44-60,idle=none,one=7", &err),
                     RG_OK);
    assert_int_equal(n, 4);
    assert_string_equal(r[0].id, "m3-x.y_z");
    assert_int_equal(r[0].first, 0);
    assert_int_equal(r[0].n, 44);
    assert_int_equal(r[1].first, 44);
    assert_int_equal(r[1].n, 17);
    assert_int_equal(r[2].n, 0);
    assert_int_equal(r[3].first, 7);
    assert_int_equal(r[3].n, 1);
}

static void wrong_ranges_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        ",",
        "a",
        "a=",
        "=1-2",
        "a=1-",
        "a=-2",
        "a=2-1",
        "a=1-2,",
        "a=1-2,,b=3",
        "a =1-2",
        "a=1-2 ",
        "a=1-2,a=3-4",
        "a=nOne",
        "a=x",
        "a=1-2-3",
        "a=1024",
        "a=0-1024",
        "a=99999999999999999999-3",
        "a/b=1-2",
    };
    char text[4096] = "";

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        expect_unread(texts[i]);
    for (uint32_t i = 0; i <= RG_LIMIT_PEERS; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%sn%u=%u",
                       i > 0 ? "," : "", i, i);
    expect_unread(text);
    memset(text, 'a', RG_LIMIT_NODE_ID_BYTES + 1);
    memcpy(text + RG_LIMIT_NODE_ID_BYTES + 1, "=1", 3);
    expect_unread(text);
}

/* The plan of three nodes (h is the head) and 10 layers with this override. */
static enum rg_code by_hand(struct rg_plan *p, const char *text, struct rg_err *err)
{
    const struct rg_plan_model m = equal_layers(10, gib, 0);
    const struct rg_plan_peer peers[] = {{.id = "h", .memory_bytes = 8 * gib, .head = true},
                                         {.id = "big", .memory_bytes = 16 * gib},
                                         {.id = "w", .memory_bytes = 8 * gib}};
    struct rg_plan_range r[RG_LIMIT_PEERS];
    uint32_t n;

    assert_int_equal(rg_plan_parse_ranges(r, &n, text, err), RG_OK);
    return rg_plan_make(p, &m, peers, 3, r, n, err);
}

static void layers_by_hand_make_the_order_of_the_ring(void **state)
{
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    assert_int_equal(by_hand(&p, "h=7-9,big=5-6,w=0-4", &err), RG_OK);
    assert_int_equal(p.n_parts, 3);
    assert_string_equal(p.parts[0].id, "w");
    assert_string_equal(p.parts[1].id, "big");
    assert_string_equal(p.parts[2].id, "h");
    expect_part(&p, "w", 0, 4);
    assert_int_equal(by_hand(&p, "big=0-9,h=none,w=none", &err), RG_OK);
    assert_int_equal(p.n_parts, 2);
    assert_true(p.parts[1].head && p.parts[1].n_layers == 0);
    assert_int_equal(by_hand(&p, "big=0-6,h=7-9", &err), RG_OK);
    assert_int_equal(p.n_parts, 2);
    assert_int_equal(by_hand(&p, "w=0-9", &err), RG_E_FIT);
    assert_false(p.fits);
    assert_non_null(strstr(err.message, "w is short of"));
}

static void layers_by_hand_are_checked(void **state)
{
    static const struct {
        const char *text, *part;
        enum rg_code code;
    } cases[] = {
        {"big=0-4,h=6-9", "nobody has layer 5", RG_E_USAGE},
        {"big=1-4,h=5-9", "nobody has layer 0", RG_E_USAGE},
        {"big=0-4,h=5-8", "nobody has layer 9", RG_E_USAGE},
        {"big=0-5,h=5-9", "layer 5 is given to 2 nodes", RG_E_USAGE},
        {"big=0-4,h=5-10", "h=5-10: the model has layers 0-9", RG_E_USAGE},
        {"h=0-4,big=5-9", "h is the head", RG_E_USAGE},
        {"big=none,h=none", "nobody has layer 0", RG_E_USAGE},
        {"big=0-4,gone=5-6,h=7-9", "gone has layers 5-6 and is not there", RG_E_PEER},
    };
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(by_hand(&p, cases[i].text, &err), cases[i].code);
        if (!strstr(err.message, cases[i].part))
            fail_msg("%s: %s", cases[i].text, err.message);
    }
    assert_int_equal(by_hand(&p, "big=0-4,gone=none,h=5-9", &err), RG_OK);
}

static void layers_by_hand_are_checked_before_any_node_is_up(void **state)
{
    static const char *const ids[] = {"h", "a", "b"};
    struct rg_plan_range r[RG_LIMIT_PEERS];
    struct rg_err err;
    uint32_t n;

    (void)state;
    assert_int_equal(rg_plan_parse_ranges(r, &n, "a=0-4,h=5-9", &err), RG_OK);
    assert_int_equal(rg_plan_check_ranges(r, n, ids, 3, 10, &err), RG_OK);
    assert_int_equal(rg_plan_check_ranges(r, n, ids, 3, 11, &err), RG_E_USAGE);
    assert_int_equal(rg_plan_check_ranges(r, n, ids, 1, 10, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "no peer 'a'"));
}

static void files_that_lack_by_hand_are_named(void **state)
{
    const struct rg_plan_model m = equal_layers(10, 1, 0);
    struct rg_plan_peer peers[] = {{.id = "h", .memory_bytes = gib, .head = true},
                                   {.id = "w", .memory_bytes = gib}};
    const struct rg_plan_range ranges[] = {{.id = "h", .first = 6, .n = 4},
                                           {.id = "w", .first = 0, .n = 6}};
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    memset(z.has, true, sizeof z.has);
    z.has[1][2] = z.has[1][4] = z.has[1][5] = false;
    peers[1].has_layer = z.has[1];
    assert_int_equal(rg_plan_make(&p, &m, peers, 2, ranges, 2, &err), RG_E_PEER);
    assert_non_null(strstr(err.message, "w would get layers 0-5, but its disk lacks 2, 4-5"));
}

/* ---- random rings ---------------------------------------------------------------------------- */

static uint64_t seed;

/* splitmix64 */
static uint32_t draw(uint32_t below)
{
    uint64_t x = seed += 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ (x >> 31)) % below);
}

struct random_ring {
    struct rg_plan_model model;
    struct rg_plan_peer peers[8]; /* in the order of the ring */
    char ids[8][8];
    uint32_t n;
    uint32_t natural[8]; /* where each ends by memory alone */
};

/* Largest remainder the slow way: each layer goes to who is furthest below its share of those that
 * are over whole numbers. */
static void fill_natural(struct random_ring *r)
{
    uint64_t total = 0;
    uint32_t counts[8], given = 0, end = 0;
    bool has_more[8] = {false};

    for (uint32_t i = 0; i < r->n; i++)
        total += r->peers[i].memory_bytes;
    for (uint32_t i = 0; i < r->n; i++)
        given += counts[i] = (uint32_t)(r->model.n_layers * r->peers[i].memory_bytes / total);
    while (given < r->model.n_layers) {
        int64_t best = -1, best_rest = -1;

        for (uint32_t i = 0; i < r->n; i++) {
            const int64_t rest = (int64_t)(r->model.n_layers * r->peers[i].memory_bytes % total);

            if (!has_more[i] && rest > best_rest) {
                best_rest = rest;
                best = i;
            }
        }
        has_more[best] = true;
        counts[best]++;
        given++;
    }
    for (uint32_t i = 0; i < r->n; i++)
        r->natural[i] = end += counts[i];
}

static int by_ring(const void *a, const void *b)
{
    const struct rg_plan_peer *x = a, *y = b;

    if (x->head != y->head)
        return x->head ? 1 : -1;
    if (x->memory_bytes != y->memory_bytes)
        return x->memory_bytes > y->memory_bytes ? -1 : 1;
    return strcmp(x->id, y->id);
}

static void make_ring(struct random_ring *r, uint64_t s)
{
    uint32_t quarters; /* of the need, about, that all memories are together */
    uint64_t need;

    seed = s;
    quarters = 4 + draw(5);
    r->n = 1 + draw(4);
    r->model = equal_layers(1 + draw(12), 0, 0);
    for (uint32_t k = 0; k < r->model.n_layers; k++) {
        z.layer[k] = 50 + draw(100);
        z.kv[k] = draw(20);
        for (uint32_t i = 0; i < r->n; i++)
            z.has[i][k] = draw(16) > 0;
    }
    r->model.embedding_bytes = draw(60);
    r->model.head_bytes = draw(60);
    r->model.reserve_bytes = draw(30);
    need = r->model.n_layers * 110 + 60 + r->n * 15;
    for (uint32_t i = 0; i < r->n; i++) {
        (void)snprintf(r->ids[i], sizeof r->ids[i], "n%u", draw(90) * 8 + i);
        r->peers[i] = (struct rg_plan_peer){
            .id = r->ids[i],
            .memory_bytes = (need * quarters / 4 / r->n) * (25 + draw(150)) / 100 + 1,
            .has_layer = draw(4) == 0 ? z.has[i] : NULL,
            .head = i == 0};
    }
    qsort(r->peers, r->n, sizeof r->peers[0], by_ring);
    fill_natural(r);
}

/* What node i lacks with [begin, end): layers, and bytes. */
static bool node_is_fine(const struct random_ring *r, uint32_t i, uint32_t begin, uint32_t end)
{
    const struct rg_plan_peer *p = &r->peers[i];
    uint64_t need = r->model.reserve_bytes;

    if (begin == end && !p->head)
        return true;
    if (p->head)
        need += r->model.embedding_bytes + r->model.head_bytes;
    for (uint32_t k = begin; k < end; k++) {
        need += z.layer[k] + z.kv[k];
        if (p->has_layer && !p->has_layer[k])
            return false;
    }
    return need <= p->memory_bytes - p->memory_bytes / 10;
}

/* The fewest moves of any split that fits; UINT32_MAX: none does. */
static uint32_t fewest_moves(const struct random_ring *r, uint32_t i, uint32_t begin)
{
    uint32_t fewest = UINT32_MAX;

    if (i == r->n)
        return begin == r->model.n_layers ? 0 : UINT32_MAX;
    for (uint32_t end = begin; end <= r->model.n_layers; end++) {
        const uint32_t moves = end > r->natural[i] ? end - r->natural[i] : r->natural[i] - end;
        uint32_t rest;

        if (!node_is_fine(r, i, begin, end))
            continue;
        rest = fewest_moves(r, i + 1, end);
        if (rest != UINT32_MAX && rest + moves < fewest)
            fewest = rest + moves;
    }
    return fewest;
}

/* Ranges tile in the order of the ring and the head is last; returns the moves. */
static uint32_t expect_tiling(const struct random_ring *r, const struct rg_plan *p)
{
    uint32_t next = 0, moves = 0, k = 0;

    for (uint32_t i = 0; i < r->n; i++) {
        if (k < p->n_parts && strcmp(p->parts[k].id, r->peers[i].id) == 0) {
            assert_true(p->parts[k].n_layers > 0 || p->parts[k].head);
            assert_true(p->parts[k].n_layers == 0 || p->parts[k].first_layer == next);
            next += p->parts[k].n_layers;
            k++;
        }
        moves += next > r->natural[i] ? next - r->natural[i] : r->natural[i] - next;
    }
    assert_int_equal(k, p->n_parts);
    assert_int_equal(next, r->model.n_layers);
    assert_true(p->parts[p->n_parts - 1].head);
    return moves;
}

static void expect_sums(const struct random_ring *r, const struct rg_plan *p)
{
    bool fits = true;

    for (uint32_t i = 0; i < p->n_parts; i++) {
        const struct rg_plan_part *part = &p->parts[i];

        assert_true(part->headroom_bytes ==
                    (int64_t)part->memory_bytes -
                        (int64_t)(part->weight_bytes + part->kv_bytes + part->reserve_bytes));
        assert_true(part->reserve_bytes == r->model.reserve_bytes);
        fits = fits && part->headroom_bytes >= 0;
    }
    assert_int_equal(fits, p->fits);
}

static void random_rings_get_the_nearest_split_that_fits(void **state)
{
    uint32_t fitting = 0, moved = 0, refused = 0;

    (void)state;
    for (uint64_t s = 1; s <= 4000; s++) {
        struct random_ring r;
        struct rg_plan p, again;
        struct rg_plan_peer shuffled[8];
        struct rg_err err = {.code = RG_OK};
        uint32_t moves, fewest;

        make_ring(&r, s);
        for (uint32_t i = 0; i < r.n; i++)
            shuffled[(i + s) % r.n] = r.peers[i];
        const enum rg_code code = rg_plan_make(&p, &r.model, shuffled, r.n, NULL, 0, &err);

        assert_int_equal(rg_plan_make(&again, &r.model, r.peers, r.n, NULL, 0, &err), code);
        fewest = fewest_moves(&r, 0, 0);
        if ((code == RG_OK) != (fewest != UINT32_MAX))
            fail_msg("seed %llu: code %d, fewest moves %u", (unsigned long long)s, (int)code,
                     fewest);
        if (code == RG_E_PEER) {
            refused++;
            continue;
        }
        moves = expect_tiling(&r, &p);
        expect_sums(&r, &p);
        for (uint32_t i = 0; i < p.n_parts; i++)
            assert_true(again.parts[i].first_layer == p.parts[i].first_layer &&
                        again.parts[i].n_layers == p.parts[i].n_layers);
        if (code != RG_OK) {
            assert_int_equal(code, RG_E_FIT);
            refused++;
            continue;
        }
        assert_int_equal(moves, fewest);
        fitting++;
        moved += moves > 0;
    }
    print_message("%u fit, %u of them with moved boundaries, %u refused\n", fitting, moved,
                  refused);
    assert_true(fitting > 1000 && moved > 300 && refused > 300);
}

/* ---- speed and the own machine --------------------------------------------------------------- */

static void speed_is_one_read_per_node_and_a_link_each(void **state)
{
    struct rg_plan p = {.n_parts = 2};
    const double bandwidth[] = {1e9, 2e9};

    (void)state;
    p.parts[0].read_bytes = 100000000;
    p.parts[1].read_bytes = 200000000;
    assert_true(rg_plan_tokens_per_s(&p, bandwidth, 0) > 4.99 &&
                rg_plan_tokens_per_s(&p, bandwidth, 0) < 5.01);
    assert_true(rg_plan_tokens_per_s(&p, bandwidth, 0.1) > 2.49 &&
                rg_plan_tokens_per_s(&p, bandwidth, 0.1) < 2.51);
    p.n_parts = 1;
    assert_true(rg_plan_tokens_per_s(&p, bandwidth, 0.1) > 9.99);
    assert_true(!(rg_plan_tokens_per_s(&p, (const double[]){0}, 0.1) > 0));
}

static void chips_are_known_by_name(void **state)
{
    (void)state;
    assert_true(rg_plan_chip_bandwidth("Apple M2 Ultra") > 799e9);
    assert_true(rg_plan_chip_bandwidth("M3 Ultra") > 818e9);
    assert_true(rg_plan_chip_bandwidth("Apple M4") > 119e9);
    assert_true(!(rg_plan_chip_bandwidth("Apple M4 Mega") > 0));
    assert_true(!(rg_plan_chip_bandwidth("AMD EPYC") > 0));
    assert_true(!(rg_plan_chip_bandwidth(NULL) > 0));
}

static void a_node_refuses_what_its_machine_has_not(void **state)
{
    struct rg_plan_part part = {
        .id = "a", .weight_bytes = 40 * gib, .kv_bytes = 10 * gib, .reserve_bytes = 6 * gib};
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_plan_check_own(&part, 64 * gib, false, &err), RG_OK);
    assert_int_equal(rg_plan_check_own(&part, 64 * gib - 1, false, &err), RG_E_FIT);
    assert_non_null(strstr(err.message, "--overcommit"));
    assert_int_equal(rg_plan_check_own(&part, 64 * gib - 1, true, &err), RG_OK);
    assert_int_equal(rg_plan_check_own(&part, 0, false, &err), RG_OK);
    part = (struct rg_plan_part){.id = "a", .weight_bytes = 6 * gib};
    assert_int_equal(rg_plan_check_own(&part, 8 * gib, false, &err), RG_OK);
    part.weight_bytes++;
    assert_int_equal(rg_plan_check_own(&part, 8 * gib, false, &err), RG_E_FIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_two_macs_get_44_and_17_layers),
        TEST(workers_stand_by_memory_then_id_and_the_head_last),
        TEST(one_node_has_all),
        TEST(a_head_without_layers_stays_in_the_ring),
        TEST(only_the_layers_that_do_not_fit_move),
        TEST(what_does_not_fit_is_told_node_by_node),
        TEST(a_layer_that_nobody_has_is_named),
        TEST(the_boundary_moves_to_where_the_files_are),
        TEST(memory_that_is_short_leaves_nothing),
        TEST(ranges_are_read),
        TEST(wrong_ranges_are_refused),
        TEST(layers_by_hand_make_the_order_of_the_ring),
        TEST(layers_by_hand_are_checked),
        TEST(layers_by_hand_are_checked_before_any_node_is_up),
        TEST(files_that_lack_by_hand_are_named),
        TEST(random_rings_get_the_nearest_split_that_fits),
        TEST(speed_is_one_read_per_node_and_a_link_each),
        TEST(chips_are_known_by_name),
        TEST(a_node_refuses_what_its_machine_has_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
