/* bpe_test.c - both merging algorithms against the plainest one there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "text/bpe.h"

enum { TOKENS = 200, TEXT_MAX = 300 };

static uint64_t random_state;

static uint32_t next_random(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % below;
}

/* A vocabulary over a, b, c grown by random merges. */
struct vocabulary {
    struct rg_buf       bytes;
    struct rg_bpe       bpe;
    char                token[TOKENS][64];
    struct rg_pair_slot merges[TOKENS]; /* by rank */
    size_t              n_tokens, n_merges;
};

static bool add_token(struct vocabulary *v, const char *token)
{
    const uint32_t at = (uint32_t)v->bytes.len;

    if (rg_token_map_find(&v->bpe.tokens, token, strlen(token)) >= 0)
        return false;
    assert_int_equal(rg_buf_add_str(&v->bytes, token, NULL), RG_OK);
    assert_int_equal(rg_token_map_add(&v->bpe.tokens, at, (uint32_t)strlen(token),
                                      (int32_t)v->n_tokens, NULL),
                     RG_OK);
    (void)snprintf(v->token[v->n_tokens++], sizeof v->token[0], "%s", token);
    return true;
}

static void grow(struct vocabulary *v, bool by_rank)
{
    rg_buf_init(&v->bytes, 1u << 20);
    rg_bpe_init(&v->bpe, &v->bytes);
    v->n_tokens = 0;
    v->n_merges = 0;
    v->bpe.by_rank = by_rank;
    v->bpe.whole_first = by_rank;
    (void)add_token(v, "a");
    (void)add_token(v, "b");
    (void)add_token(v, "c");
    while (v->n_tokens < TOKENS) {
        const uint32_t      left = next_random((uint32_t)v->n_tokens);
        const uint32_t      right = next_random((uint32_t)v->n_tokens);
        char                joined[128];
        struct rg_pair_slot m = {(int32_t)left, (int32_t)right, (uint32_t)v->n_merges,
                                 (int32_t)v->n_tokens};

        (void)snprintf(joined, sizeof joined, "%s%s", v->token[left], v->token[right]);
        if (strlen(joined) > 40 || !add_token(v, joined))
            continue;
        v->merges[v->n_merges++] = m;
        assert_int_equal(rg_pair_map_add(&v->bpe.pairs, &m, NULL), RG_OK);
    }
    assert_int_equal(rg_bpe_finish(&v->bpe, TOKENS, NULL), RG_OK);
}

static void discard(struct vocabulary *v)
{
    rg_bpe_free(&v->bpe);
    rg_buf_free(&v->bytes);
}

/* The rank of two neighbours, UINT32_MAX if they do not merge; *id is what they give. */
static uint32_t plain_rank(const struct vocabulary *v, int32_t left, int32_t right, int32_t *id)
{
    char joined[160];

    if (!v->bpe.by_rank) {
        for (size_t i = 0; i < v->n_merges; i++) {
            *id = v->merges[i].id;
            if (v->merges[i].left == left && v->merges[i].right == right)
                return (uint32_t)i;
        }
        return UINT32_MAX;
    }
    (void)snprintf(joined, sizeof joined, "%s%s", v->token[left], v->token[right]);
    for (size_t i = 0; i < v->n_tokens; i++) {
        *id = (int32_t)i;
        if (strcmp(v->token[i], joined) == 0)
            return (uint32_t)i;
    }
    return UINT32_MAX;
}

static size_t encode_plainly(const struct vocabulary *v, const char *text, size_t len, int32_t *ids)
{
    size_t n = 0;

    for (size_t i = 0; i < v->n_tokens && v->bpe.whole_first; i++) {
        ids[0] = (int32_t)i;
        if (strlen(v->token[i]) == len && memcmp(v->token[i], text, len) == 0)
            return 1;
    }
    for (size_t i = 0; i < len; i++)
        if (text[i] <= 'c')
            ids[n++] = text[i] - 'a';
    for (;;) {
        uint32_t best = UINT32_MAX;
        size_t   where = 0;
        int32_t  joined = 0, id = 0;

        for (size_t i = 0; i + 1 < n; i++) {
            const uint32_t rank = plain_rank(v, ids[i], ids[i + 1], &id);

            if (rank < best) {
                best = rank;
                where = i;
                joined = id;
            }
        }
        if (best == UINT32_MAX)
            return n;
        ids[where] = joined;
        memmove(ids + where + 1, ids + where + 2, (n - where - 2) * sizeof *ids);
        n--;
    }
}

static void compare(const struct vocabulary *v, struct rg_bpe_scratch *s, uint32_t letters)
{
    char          text[TEXT_MAX];
    int32_t       want[TEXT_MAX];
    const size_t  len = 1 + next_random(TEXT_MAX - 1) / (1 + next_random(8));
    struct rg_ids have = {0};
    size_t        n;

    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + next_random(letters));
    n = encode_plainly(v, text, len, want);
    assert_int_equal(rg_bpe_encode(&v->bpe, s, text, len, &have, NULL), RG_OK);
    assert_int_equal(have.len, n);
    assert_memory_equal(have.data, want, n * sizeof *want);
    rg_ids_free(&have);
}

static void merges_as_the_plain_algorithm_does(void **state)
{
    const int64_t            live = rg_mem_live();
    static struct vocabulary v;
    struct rg_bpe_scratch    s = {0};

    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        random_state = seed;
        grow(&v, seed % 2);
        for (int i = 0; i < 60; i++)
            compare(&v, &s, 1 + next_random(3));
        discard(&v);
    }
    rg_bpe_scratch_free(&s);
    assert_int_equal(rg_mem_live(), live);
}

static void bytes_without_a_token_are_dropped_before_merging(void **state)
{
    static struct vocabulary v;
    struct rg_bpe_scratch    s = {0};

    (void)state;
    random_state = 99;
    grow(&v, false);
    for (int i = 0; i < 200; i++)
        compare(&v, &s, 5); /* d and e have none */
    discard(&v);
    rg_bpe_scratch_free(&s);
}

static void a_token_that_merging_does_not_reach_is_not_found_whole(void **state)
{
    struct rg_buf         bytes;
    struct rg_bpe         b;
    struct rg_bpe_scratch s = {0};
    struct rg_ids         ids = {0};
    static const struct {
        const char *token;
        uint32_t    at;
    } tokens[] = {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"bc", 5}, {"abc", 7}};

    (void)state;
    rg_buf_init(&bytes, 100);
    rg_bpe_init(&b, &bytes);
    assert_int_equal(rg_buf_add_str(&bytes, "abcabbcabc", NULL), RG_OK);
    for (int32_t i = 0; i < 6; i++)
        assert_int_equal(
            rg_token_map_add(&b.tokens, tokens[i].at, (uint32_t)strlen(tokens[i].token), i, NULL),
            RG_OK);
    /* bc merges before ab, and then a and bc do not merge: abc is never made. */
    assert_int_equal(rg_pair_map_add(&b.pairs, &(struct rg_pair_slot){1, 2, 0, 4}, NULL), RG_OK);
    assert_int_equal(rg_pair_map_add(&b.pairs, &(struct rg_pair_slot){0, 1, 1, 3}, NULL), RG_OK);
    assert_int_equal(rg_pair_map_add(&b.pairs, &(struct rg_pair_slot){3, 2, 2, 5}, NULL), RG_OK);
    assert_int_equal(rg_bpe_finish(&b, 6, NULL), RG_OK);
    assert_int_equal(rg_bpe_encode(&b, &s, "abc", 3, &ids, NULL), RG_OK);
    assert_int_equal(ids.len, 2);
    assert_memory_equal(ids.data, ((int32_t[]){0, 4}), 8);
    /* ignore_merges: the whole piece counts first. */
    b.whole_first = true;
    ids.len = 0;
    assert_int_equal(rg_bpe_encode(&b, &s, "abc", 3, &ids, NULL), RG_OK);
    assert_int_equal(ids.len, 1);
    assert_int_equal(ids.data[0], 5);
    rg_ids_free(&ids);
    rg_bpe_scratch_free(&s);
    rg_bpe_free(&b);
    rg_buf_free(&bytes);
}

static void a_repeated_key_is_refused(void **state)
{
    struct rg_buf       bytes;
    struct rg_token_map m;

    (void)state;
    rg_buf_init(&bytes, 100);
    assert_int_equal(rg_buf_add_str(&bytes, "abab", NULL), RG_OK);
    rg_token_map_init(&m, &bytes);
    assert_int_equal(rg_token_map_add(&m, 0, 2, 0, NULL), RG_OK);
    assert_int_equal(rg_token_map_add(&m, 2, 2, 1, NULL), RG_E_BAD_DATA);
    assert_int_equal(rg_token_map_find(&m, "ab", 2), 0);
    assert_int_equal(rg_token_map_find(&m, "a", 1), -1);
    assert_int_equal(rg_token_map_find(&m, "abc", 3), -1);
    rg_token_map_free(&m);
    rg_buf_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_as_the_plain_algorithm_does),
        cmocka_unit_test(bytes_without_a_token_are_dropped_before_merging),
        cmocka_unit_test(a_token_that_merging_does_not_reach_is_not_found_whole),
        cmocka_unit_test(a_repeated_key_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
