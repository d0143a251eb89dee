/* bpe.c - byte-pair merging: by scanning for short pieces, with a heap for long ones. */
#include "text/bpe.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

enum { SHORT_PIECE = 32 };
static const uint32_t NONE = UINT32_MAX;

enum rg_code rg_ids_add(struct rg_ids *ids, int32_t id, struct rg_err *err)
{
    if (ids->len == ids->capacity) {
        void        *data = ids->data;
        enum rg_code code = rg_grow(&data, &ids->capacity, ids->len + 1, sizeof *ids->data, err);

        if (code)
            return code;
        ids->data = data;
    }
    ids->data[ids->len++] = id;
    return RG_OK;
}

void rg_ids_free(struct rg_ids *ids)
{
    rg_free(ids->data);
    *ids = (struct rg_ids){0};
}

void rg_bpe_init(struct rg_bpe *b, const struct rg_buf *bytes)
{
    *b = (struct rg_bpe){0};
    rg_token_map_init(&b->tokens, bytes);
    rg_pair_map_init(&b->pairs);
}

void rg_bpe_free(struct rg_bpe *b)
{
    rg_token_map_free(&b->tokens);
    rg_pair_map_free(&b->pairs);
    rg_free(b->closed);
    b->closed = NULL;
}

void rg_bpe_scratch_free(struct rg_bpe_scratch *s)
{
    rg_free(s->symbols);
    rg_free(s->heap);
    *s = (struct rg_bpe_scratch){0};
}

/* Rank of joining two neighbours, NONE if they may not; `p` are the bytes of both together. */
static uint32_t pair_rank(const struct rg_bpe *b, int32_t left, int32_t right, const char *p,
                          size_t n, int32_t *id)
{
    const struct rg_pair_slot *pair;

    if (b->by_rank) {
        *id = rg_token_map_find(&b->tokens, p, n);
        return *id < 0 ? NONE : (uint32_t)*id;
    }
    pair = rg_pair_map_find(&b->pairs, left, right);
    if (!pair)
        return NONE;
    *id = pair->id;
    return pair->rank;
}

/* ---- short pieces: arrays that are scanned for the lowest rank ------------------------------ */

struct short_piece {
    const struct rg_bpe *bpe;
    const char          *bytes;
    uint32_t             n;
    int32_t              id[SHORT_PIECE];
    uint32_t             at[SHORT_PIECE + 1]; /* where the symbol's bytes begin; [n] = the end */
    uint32_t             rank[SHORT_PIECE];   /* of joining symbol i and i + 1 */
    int32_t              joined[SHORT_PIECE]; /* what that gives */
};

static void short_rank(struct short_piece *s, uint32_t i)
{
    s->rank[i] = i + 1 >= s->n ? NONE
                               : pair_rank(s->bpe, s->id[i], s->id[i + 1], s->bytes + s->at[i],
                                           s->at[i + 2] - s->at[i], &s->joined[i]);
}

static void short_join(struct short_piece *s, uint32_t i)
{
    const uint32_t after = s->n - i - 2; /* symbols behind the pair */

    s->id[i] = s->joined[i];
    memmove(&s->id[i + 1], &s->id[i + 2], after * sizeof s->id[0]);
    memmove(&s->at[i + 1], &s->at[i + 2], (after + 1) * sizeof s->at[0]);
    memmove(&s->rank[i + 1], &s->rank[i + 2], after * sizeof s->rank[0]);
    memmove(&s->joined[i + 1], &s->joined[i + 2], after * sizeof s->joined[0]);
    s->n--;
    short_rank(s, i);
    if (i > 0)
        short_rank(s, i - 1);
}

/* `s` must not be larger than SHORT_PIECE bytes. */
static void merge_short(struct short_piece *s, const struct rg_bpe *b, const char *piece, size_t n)
{
    s->bpe = b;
    s->bytes = piece;
    s->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        const int32_t id = b->byte_ids[(uint8_t)piece[i]];

        if (id < 0)
            continue;
        s->id[s->n] = id;
        s->at[s->n++] = i;
    }
    s->at[s->n] = (uint32_t)n;
    for (uint32_t i = 0; i < s->n; i++)
        short_rank(s, i);
    for (;;) {
        uint32_t best = 0;

        for (uint32_t i = 1; i < s->n; i++)
            if (s->rank[i] < s->rank[best])
                best = i;
        if (s->n == 0 || s->rank[best] == NONE)
            return;
        short_join(s, best);
    }
}

/* ---- long pieces: a linked list of symbols and a heap of possible merges -------------------- */

/* Four children to a node: half the levels of a binary heap, and they share a cache line. */
static void heap_sink(uint64_t *heap, size_t n, size_t i)
{
    const uint64_t item = heap[i];

    for (;;) {
        const size_t first = 4 * i + 1;
        const size_t end = first + 4 < n ? first + 4 : n;
        size_t       least = first;

        if (first >= n)
            break;
        for (size_t k = first + 1; k < end; k++)
            if (heap[k] < heap[least])
                least = k;
        if (heap[least] >= item)
            break;
        heap[i] = heap[least];
        i = least;
    }
    heap[i] = item;
}

static void heap_rise(uint64_t *heap, size_t i)
{
    const uint64_t item = heap[i];

    while (i > 0 && item < heap[(i - 1) / 4]) {
        heap[i] = heap[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    heap[i] = item;
}

static enum rg_code reserve(struct rg_bpe_scratch *s, size_t n, struct rg_err *err)
{
    void        *symbols = s->symbols;
    void        *heap = s->heap;
    enum rg_code code = rg_grow(&symbols, &s->symbols_capacity, n, sizeof *s->symbols, err);

    s->symbols = symbols;
    if (code)
        return code;
    /* n - 1 pairs at first; each of at most n - 1 merges takes one out and puts two in. */
    code = rg_grow(&heap, &s->heap_capacity, 2 * n, sizeof *s->heap, err);
    s->heap = heap;
    return code;
}

/* Puts the merge of the symbol at `at` with the next one at the end of the heap, if it may be. */
static bool offer(const struct rg_bpe *b, struct rg_bpe_scratch *s, const char *piece, uint32_t at)
{
    struct rg_bpe_symbol       *left = &s->symbols[at];
    const struct rg_bpe_symbol *right;

    left->rank = NONE;
    if (left->next == NONE)
        return false;
    right = &s->symbols[left->next];
    left->rank = pair_rank(b, left->id, right->id, piece + at, (size_t)left->len + right->len,
                           &left->joined);
    if (left->rank == NONE)
        return false;
    s->heap[s->n_heap++] = (uint64_t)left->rank << 32 | at;
    return true;
}

/* Symbols lie at the index of their first byte.  A dropped byte has none, which only happens
 * without by_rank, where pair_rank() does not look at the bytes. */
static void begin_long(const struct rg_bpe *b, struct rg_bpe_scratch *s, const char *piece,
                       uint32_t n)
{
    uint32_t last = NONE;

    for (uint32_t i = 0; i < n; i++) {
        const int32_t id = b->byte_ids[(uint8_t)piece[i]];

        s->symbols[i] =
            (struct rg_bpe_symbol){.id = id, .len = id >= 0, .prev = last, .next = NONE};
        if (id < 0)
            continue;
        if (last != NONE)
            s->symbols[last].next = i;
        last = i;
    }
    s->n_heap = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s->symbols[i].len)
            (void)offer(b, s, piece, i);
    for (size_t i = (s->n_heap + 2) / 4; i-- > 0;)
        heap_sink(s->heap, s->n_heap, i);
}

static void merge_long(const struct rg_bpe *b, struct rg_bpe_scratch *s, const char *piece,
                       uint32_t n)
{
    begin_long(b, s, piece, n);
    while (s->n_heap > 0) {
        const uint32_t        at = (uint32_t)s->heap[0];
        const uint32_t        rank = (uint32_t)(s->heap[0] >> 32);
        struct rg_bpe_symbol *left = &s->symbols[at];
        struct rg_bpe_symbol *right;

        s->heap[0] = s->heap[--s->n_heap];
        if (s->n_heap)
            heap_sink(s->heap, s->n_heap, 0);
        /* Entries are not taken back when their pair changes; a rank is that of one pair. */
        if (left->len == 0 || left->rank != rank)
            continue;
        right = &s->symbols[left->next];
        left->id = left->joined;
        left->len += right->len;
        right->len = 0;
        left->next = right->next;
        if (left->next != NONE)
            s->symbols[left->next].prev = at;
        if (offer(b, s, piece, at))
            heap_rise(s->heap, s->n_heap - 1);
        if (left->prev != NONE && offer(b, s, piece, left->prev))
            heap_rise(s->heap, s->n_heap - 1);
    }
}

static enum rg_code encode_long(const struct rg_bpe *b, struct rg_bpe_scratch *s,
                                const char *piece, size_t n, struct rg_ids *out,
                                struct rg_err *err)
{
    enum rg_code code = reserve(s, n, err);

    if (code)
        return code;
    merge_long(b, s, piece, (uint32_t)n);
    for (size_t i = 0; i < n && !code; i++)
        if (s->symbols[i].len)
            code = rg_ids_add(out, s->symbols[i].id, err);
    return code;
}

enum rg_code rg_bpe_encode(const struct rg_bpe *b, struct rg_bpe_scratch *s, const char *piece,
                           size_t n, struct rg_ids *out, struct rg_err *err)
{
    struct short_piece piece_s;
    int32_t            id;
    enum rg_code       code = RG_OK;

    assert(n <= INT32_MAX);
    if (n == 0)
        return RG_OK;
    id = rg_token_map_find(&b->tokens, piece, n);
    if (id >= 0 && (b->whole_first || (b->closed[id / 8] >> (id % 8) & 1)))
        return rg_ids_add(out, id, err);
    if (n > SHORT_PIECE)
        return encode_long(b, s, piece, n, out, err);
    merge_short(&piece_s, b, piece, n);
    for (uint32_t i = 0; i < piece_s.n && !code; i++)
        code = rg_ids_add(out, piece_s.id[i], err);
    return code;
}

/* Most pieces of ordinary text are one token.  Knowing which tokens come out of merging their own
 * bytes makes those one lookup. */
static enum rg_code find_closed(struct rg_bpe *b, struct rg_err *err)
{
    struct rg_bpe_scratch scratch = {0};
    struct rg_ids         ids = {0};
    enum rg_code          code = RG_OK;

    for (size_t i = 0; i < b->tokens.n_slots && !code; i++) {
        const struct rg_token_slot *t = &b->tokens.slots[i];

        if (t->id < 0)
            continue;
        ids.len = 0;
        code = rg_bpe_encode(b, &scratch, b->tokens.bytes->data + t->at, t->len, &ids, err);
        if (!code && ids.len == 1 && ids.data[0] == t->id)
            b->closed[t->id / 8] |= (uint8_t)(1u << (t->id % 8));
    }
    rg_ids_free(&ids);
    rg_bpe_scratch_free(&scratch);
    return code;
}

enum rg_code rg_bpe_finish(struct rg_bpe *b, uint32_t vocab_size, struct rg_err *err)
{
    for (unsigned i = 0; i < 256; i++) {
        const char byte = (char)i;

        b->byte_ids[i] = rg_token_map_find(&b->tokens, &byte, 1);
    }
    b->closed = rg_calloc(vocab_size / 8 + 1, 1);
    if (!b->closed)
        return rg_fail(err, RG_E_NOMEM, "out of memory for a vocabulary of %u tokens", vocab_size);
    return b->whole_first ? RG_OK : find_closed(b, err);
}
