/* fuzz_discovery.c - the file of a ring's nodes and --layers: what is accepted can be used as it
 * is, and makes a plan whose ranges tile.  An input is the file, "====", and the text of
 * --layers. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/discovery.h"
#include "cluster/plan.h"
#include "fuzz_dir.h"

enum { LAYERS = 12 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_id(const char *id)
{
    const size_t n = strlen(id);

    assert(n >= 1 && n <= RG_LIMIT_NODE_ID_BYTES);
    assert(strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n);
}

static void expect_ring(const struct rg_discovery *d)
{
    assert(d->n >= 1 && d->n <= RG_LIMIT_PEERS);
    for (uint32_t i = 0; i < d->n; i++) {
        const struct rg_peer_info *p = &d->peers[i];

        expect_id(p->id);
        assert(p->address[0] && !strpbrk(p->address, " /[]\n") && p->port > 0);
        assert(p->memory_bytes >= 1u << 20 && p->memory_bytes <= UINT64_C(1) << 50);
        assert(rg_discovery_find(d, p->id) == (int32_t)i);
        for (uint32_t k = 0; k < i; k++)
            assert(p->port != d->peers[k].port || strcmp(p->address, d->peers[k].address) != 0);
    }
}

static void expect_ranges(const struct rg_plan_range *ranges, uint32_t n)
{
    assert(n >= 1 && n <= RG_LIMIT_PEERS);
    for (uint32_t i = 0; i < n; i++) {
        expect_id(ranges[i].id);
        assert(ranges[i].first + ranges[i].n <= RG_LIMIT_LAYERS);
        for (uint32_t k = 0; k < i; k++)
            assert(strcmp(ranges[i].id, ranges[k].id) != 0);
    }
}

static void expect_tiles(const struct rg_plan *p)
{
    uint32_t next = 0;

    assert(p->n_parts >= 1 && p->parts[p->n_parts - 1].head);
    for (uint32_t i = 0; i < p->n_parts; i++) {
        assert(p->parts[i].n_layers == 0 || p->parts[i].first_layer == next);
        next += p->parts[i].n_layers;
        assert(!p->fits || p->parts[i].headroom_bytes >= 0);
    }
    assert(next == LAYERS);
}

/* A plan of these nodes, by memory or by hand, where no node lacks a file. */
static void plan(const struct rg_discovery *d, const struct rg_plan_range *ranges, uint32_t n)
{
    uint64_t bytes[LAYERS];
    struct rg_plan_peer peers[RG_LIMIT_PEERS];
    const char *ids[RG_LIMIT_PEERS];
    struct rg_plan_model m = {.name = "model", .n_layers = LAYERS, .embedding_bytes = 1u << 21};
    struct rg_plan p;
    struct rg_err err;
    enum rg_code checked = RG_OK, code;

    for (uint32_t k = 0; k < LAYERS; k++)
        bytes[k] = (k + 1) << 20;
    m.layer_bytes = m.kv_layer_bytes = m.read_layer_bytes = bytes;
    for (uint32_t i = 0; i < d->n; i++) {
        peers[i] = (struct rg_plan_peer){
            .id = d->peers[i].id, .memory_bytes = d->peers[i].memory_bytes, .head = i == 0};
        ids[i] = d->peers[i].id;
    }
    if (n > 0)
        checked = rg_plan_check_ranges(ranges, n, ids, d->n, LAYERS, &err);
    code = rg_plan_make(&p, &m, peers, d->n, ranges, n, &err);
    if (checked == RG_OK || n == 0) {
        assert(code == RG_OK || code == RG_E_FIT);
        assert(p.fits == (code == RG_OK));
        expect_tiles(&p);
    } else {
        /* An id that is nowhere may still have no layers. */
        assert(code == RG_E_USAGE || code == RG_E_PEER || code == RG_E_FIT || code == RG_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t live = rg_mem_live();
    struct fuzz_part parts[2] = {{NULL, 0}, {NULL, 0}};
    struct rg_plan_range ranges[RG_LIMIT_PEERS];
    struct rg_discovery d;
    struct rg_err err = {.code = RG_OK};
    uint32_t n = 0;
    char text[4096];

    fuzz_split(data, size, parts, 2);
    if (parts[1].data && parts[1].size < sizeof text) {
        memcpy(text, parts[1].data, parts[1].size);
        text[parts[1].size] = '\0';
        if (rg_plan_parse_ranges(ranges, &n, text, &err) == RG_OK)
            expect_ranges(ranges, n);
        else
            n = 0;
    }

    const enum rg_code code = rg_discovery_parse(&d, parts[0].data, parts[0].size, "ring", &err);

    assert(code == RG_OK || code == RG_E_BAD_DATA);
    if (code == RG_OK) {
        expect_ring(&d);
        plan(&d, NULL, 0);
        if (n > 0)
            plan(&d, ranges, n);
    } else {
        assert(strncmp(err.message, "ring: ", 6) == 0 && d.n == 0);
    }
    rg_discovery_free(&d);
    assert(rg_mem_live() == live);
    return 0;
}
