/* token_map.c - hashing and probing of the two tables of a vocabulary. */
#include "text/token_map.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define MIX_1 UINT64_C(0x9E3779B97F4A7C15)
#define MIX_2 UINT64_C(0xD6E8FEB86659FD93)

enum { SLOTS_MIN = 64 };

static uint64_t load_64(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t load_32(const char *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 32)) * MIX_2;
    return x ^ (x >> 29);
}

/* Overlapping loads cover the last bytes, so no length needs a loop over single bytes. */
static uint32_t hash_bytes(uint64_t seed, const char *p, size_t n)
{
    uint64_t h = seed + n * MIX_1;

    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8)
            h = mix(h ^ load_64(p + i));
        h ^= load_64(p + n - 8);
    } else if (n >= 4) {
        h ^= load_32(p) | load_32(p + n - 4) << 32;
    } else if (n > 0) {
        h ^= (uint64_t)(uint8_t)p[0] | (uint64_t)(uint8_t)p[n / 2] << 8 |
             (uint64_t)(uint8_t)p[n - 1] << 16;
    }
    h = mix(mix(h));
    return (uint32_t)(h >> 32);
}

void rg_token_map_init(struct rg_token_map *m, const struct rg_buf *bytes)
{
    *m = (struct rg_token_map){.bytes = bytes, .seed = rg_clock_random_seed()};
}

void rg_token_map_free(struct rg_token_map *m)
{
    rg_free(m->slots);
    *m = (struct rg_token_map){0};
}

static void token_place(struct rg_token_slot *slots, size_t n_slots,
                        const struct rg_token_slot *item)
{
    size_t i = item->hash & (n_slots - 1);

    while (slots[i].id >= 0)
        i = (i + 1) & (n_slots - 1);
    slots[i] = *item;
}

static enum rg_code token_map_widen(struct rg_token_map *m, struct rg_err *err)
{
    const size_t          n = m->n_slots ? m->n_slots * 2 : SLOTS_MIN;
    struct rg_token_slot *slots = rg_realloc_array(NULL, n, sizeof *slots);

    if (!slots)
        return rg_fail(err, RG_E_NOMEM, "out of memory for a vocabulary of %zu tokens", m->count);
    for (size_t i = 0; i < n; i++)
        slots[i] = (struct rg_token_slot){.id = -1};
    for (size_t i = 0; i < m->n_slots; i++)
        if (m->slots[i].id >= 0)
            token_place(slots, n, &m->slots[i]);
    rg_free(m->slots);
    m->slots = slots;
    m->n_slots = n;
    return RG_OK;
}

enum rg_code rg_token_map_add(struct rg_token_map *m, uint32_t at, uint32_t len, int32_t id,
                              struct rg_err *err)
{
    enum rg_code code;

    assert(id >= 0 && (size_t)at + len <= m->bytes->len);
    if (rg_token_map_find(m, m->bytes->data + at, len) >= 0)
        return rg_fail(err, RG_E_BAD_DATA, "token %d: its bytes are another token's too", id);
    if ((m->count + 1) * 2 > m->n_slots) {
        code = token_map_widen(m, err);
        if (code)
            return code;
    }
    token_place(m->slots, m->n_slots,
                &(struct rg_token_slot){.hash = hash_bytes(m->seed, m->bytes->data + at, len),
                                        .at = at,
                                        .len = len,
                                        .id = id});
    m->count++;
    if (len > m->len_max)
        m->len_max = len;
    return RG_OK;
}

int32_t rg_token_map_find(const struct rg_token_map *m, const char *p, size_t n)
{
    uint32_t hash;
    size_t   i;

    if (m->n_slots == 0 || n > m->len_max)
        return -1;
    hash = hash_bytes(m->seed, p, n);
    for (i = hash & (m->n_slots - 1); m->slots[i].id >= 0; i = (i + 1) & (m->n_slots - 1)) {
        const struct rg_token_slot *s = &m->slots[i];

        if (s->hash == hash && s->len == n && memcmp(m->bytes->data + s->at, p, n) == 0)
            return s->id;
    }
    return -1;
}

static size_t hash_pair(uint64_t seed, int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;

    return (size_t)(mix((key ^ seed) * MIX_1) >> 16);
}

void rg_pair_map_init(struct rg_pair_map *m)
{
    *m = (struct rg_pair_map){.seed = rg_clock_random_seed()};
}

void rg_pair_map_free(struct rg_pair_map *m)
{
    rg_free(m->slots);
    *m = (struct rg_pair_map){0};
}

/* The slot that holds the pair, or the free one where it belongs. */
static struct rg_pair_slot *pair_slot(struct rg_pair_slot *slots, size_t n_slots, uint64_t seed,
                                      int32_t left, int32_t right)
{
    size_t i = hash_pair(seed, left, right) & (n_slots - 1);

    while (slots[i].left >= 0 && (slots[i].left != left || slots[i].right != right))
        i = (i + 1) & (n_slots - 1);
    return &slots[i];
}

static enum rg_code pair_map_widen(struct rg_pair_map *m, struct rg_err *err)
{
    const size_t         n = m->n_slots ? m->n_slots * 2 : SLOTS_MIN;
    struct rg_pair_slot *slots = rg_realloc_array(NULL, n, sizeof *slots);

    if (!slots)
        return rg_fail(err, RG_E_NOMEM, "out of memory for %zu merges", m->count);
    for (size_t i = 0; i < n; i++)
        slots[i] = (struct rg_pair_slot){.left = -1};
    for (size_t i = 0; i < m->n_slots; i++) {
        const struct rg_pair_slot *s = &m->slots[i];

        if (s->left >= 0)
            *pair_slot(slots, n, m->seed, s->left, s->right) = *s;
    }
    rg_free(m->slots);
    m->slots = slots;
    m->n_slots = n;
    return RG_OK;
}

enum rg_code rg_pair_map_add(struct rg_pair_map *m, const struct rg_pair_slot *pair,
                             struct rg_err *err)
{
    struct rg_pair_slot *slot;
    enum rg_code         code;

    assert(pair->left >= 0 && pair->right >= 0 && pair->id >= 0);
    if ((m->count + 1) * 2 > m->n_slots) {
        code = pair_map_widen(m, err);
        if (code)
            return code;
    }
    slot = pair_slot(m->slots, m->n_slots, m->seed, pair->left, pair->right);
    if (slot->left < 0)
        m->count++;
    *slot = *pair;
    return RG_OK;
}

const struct rg_pair_slot *rg_pair_map_find(const struct rg_pair_map *m, int32_t left,
                                            int32_t right)
{
    const struct rg_pair_slot *slot;

    if (m->n_slots == 0)
        return NULL;
    slot = pair_slot(m->slots, m->n_slots, m->seed, left, right);
    return slot->left < 0 ? NULL : slot;
}
