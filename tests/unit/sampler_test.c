/* sampler_test.c - penalties, filters, draws and log-probabilities, against a naive sampler that
 * sorts the whole vocabulary. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>

#include <cmocka.h>

#include "base/mem.h"
#include "compute/math.h"
#include "engine/philox.h"
#include "engine/rank.h"
#include "engine/sampler.h"

enum { VOCAB = 8 };

static const struct rg_sampling plain = {
    .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};

/* A small generator for the tests' own data. */
static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static float random_float(uint64_t *state, float least, float most)
{
    return least + (most - least) * (float)(next_random(state) >> 8) * 0x1p-23f;
}

static struct rg_sample draw_after(const float *logits, uint32_t vocab,
                                   const struct rg_sampling *how, const struct rg_history *history)
{
    struct rg_sampler *s;
    struct rg_sample out;
    struct rg_err err;

    assert_int_equal(rg_sampler_open(&s, vocab, &err), RG_OK);
    assert_int_equal(rg_sampler_draw(s, logits, how, history, &out, &err), RG_OK);
    rg_sampler_close(s);
    return out;
}

static int32_t draw(const float *logits, const struct rg_sampling *how, uint32_t position)
{
    static const int32_t tokens[64] = {0};
    const struct rg_history h = {.tokens = tokens, .n_tokens = position, .n_prompt = position};

    return draw_after(logits, VOCAB, how, &h).id;
}

/* Which ids come out over many seeds, as a bit set. */
static unsigned reachable(const float *logits, struct rg_sampling how)
{
    unsigned ids = 0;

    for (how.seed = 0; how.seed < 2000; how.seed++)
        ids |= 1u << draw(logits, &how, 1);
    return ids;
}

static void philox_gives_the_published_answers(void **state)
{
    /* Random123's kat_vectors, philox4x32 10 */
    const uint32_t zero[4] = {0, 0, 0, 0};
    const uint32_t ones[4] = {~0u, ~0u, ~0u, ~0u};
    const uint32_t pi[4] = {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u};
    const uint32_t pi_key[2] = {0xa4093822u, 0x299f31d0u};
    const uint32_t expected[3][4] = {{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u},
                                     {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu},
                                     {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}};
    uint32_t out[4];

    (void)state;
    rg_philox4x32(out, zero, zero);
    assert_memory_equal(out, expected[0], sizeof(out));
    rg_philox4x32(out, ones, ones);
    assert_memory_equal(out, expected[1], sizeof(out));
    rg_philox4x32(out, pi, pi_key);
    assert_memory_equal(out, expected[2], sizeof(out));
}

static void rank_equals_a_full_sort(void **state)
{
    enum { N = 700 };
    float z[N];
    uint32_t ids[N];
    uint64_t seed = 1;

    (void)state;
    for (uint32_t k = 1; k <= N; k += 1 + k / 3) {
        /* few distinct values, so that ties are everywhere */
        for (uint32_t i = 0; i < N; i++)
            z[i] = (float)(next_random(&seed) % 40);
        rg_rank_top(z, N, k, ids);
        for (uint32_t i = 0; i < k; i++) {
            uint32_t above = 0;

            for (uint32_t j = 0; j < N; j++)
                above += z[j] > z[ids[i]] || (z[j] >= z[ids[i]] && j < ids[i]);
            assert_int_equal(above, i);
        }
    }
}

static void greedy_takes_the_lowest_id_of_equal_logits(void **state)
{
    const float z[VOCAB] = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f, 2.0f, 0.0f, -3.0f};
    struct rg_sampling how = plain;

    (void)state;
    how.temperature = 0.0f;
    assert_int_equal(draw(z, &how, 1), 1);
    how.top_k = 3;
    how.top_p = 0.1f;
    assert_int_equal(draw(z, &how, 1), 1);
}

static void penalties_count_what_they_should(void **state)
{
    const float z[VOCAB] = {4.0f, 3.0f, 2.0f, 1.0f, -1.0f, -2.0f, -3.0f, -4.0f};
    const int32_t tokens[5] = {0, 0, 1, 1, 2}; /* 0 0 prompted, 1 1 2 generated */
    struct rg_history h = {.tokens = tokens, .n_tokens = 5, .n_prompt = 2};
    struct rg_sampling how = plain;
    struct rg_logit_bias bias = {.id = 7, .bias = 100.0f};

    (void)state;
    how.temperature = 0.0f;
    how.presence_penalty = 2.0f; /* 4 1 0 1 ...: the prompt's token is not penalised */
    assert_int_equal(draw_after(z, VOCAB, &how, &h).id, 0);
    h.n_prompt = 0; /* 2 1 0 1 */
    assert_int_equal(draw_after(z, VOCAB, &how, &h).id, 0);
    how.frequency_penalty = 0.9f; /* 0.2 -0.8 -0.9 1 */
    assert_int_equal(draw_after(z, VOCAB, &how, &h).id, 3);

    how = plain;
    how.temperature = 0.0f;
    h.n_prompt = 5;
    how.repetition_penalty = 5.0f; /* prompt too, once each: 0.8 0.6 0.4 1 */
    assert_int_equal(draw_after(z, VOCAB, &how, &h).id, 3);
    how.bias = &bias;
    how.n_bias = 1;
    assert_int_equal(draw_after(z, VOCAB, &how, &h).id, 7);
}

static void repetition_makes_negative_logits_lower(void **state)
{
    const float z[3] = {-1.0f, -1.5f, -8.0f};
    const int32_t tokens[2] = {0, 0};
    struct rg_history h = {.tokens = tokens, .n_tokens = 2, .n_prompt = 2};
    struct rg_sampling how = plain;

    (void)state;
    how.temperature = 0.0f;
    how.repetition_penalty = 2.0f; /* -2, once for both */
    assert_int_equal(draw_after(z, 3, &how, &h).id, 1);
    how.repetition_penalty = 0.5f; /* -0.5 */
    assert_int_equal(draw_after(z, 3, &how, &h).id, 0);
}

static void a_penalty_leaves_nothing_behind(void **state)
{
    const float z[3] = {1.0f, 0.9f, 0.0f};
    const int32_t tokens[3] = {0, 0, 0};
    struct rg_history h = {.tokens = tokens, .n_tokens = 3, .n_prompt = 1};
    struct rg_sampling how = plain;
    struct rg_sampler *s;
    struct rg_sample out;
    struct rg_err err;

    (void)state;
    how.temperature = 0.0f;
    how.frequency_penalty = 0.5f;
    how.repetition_penalty = 1.5f;
    assert_int_equal(rg_sampler_open(&s, 3, &err), RG_OK);
    assert_int_equal(rg_sampler_draw(s, z, &how, &h, &out, &err), RG_OK);
    assert_int_equal(out.id, 1);
    h.n_tokens = 1; /* token 0 once, in the prompt: 1 / 1.5 against 0.9 */
    assert_int_equal(rg_sampler_draw(s, z, &how, &h, &out, &err), RG_OK);
    assert_int_equal(out.id, 1);
    assert_int_equal(rg_sampler_draw(s, z, &plain, &h, &out, &err), RG_OK);
    h.n_tokens = 0;
    h.n_prompt = 0;
    assert_int_equal(rg_sampler_draw(s, z, &how, &h, &out, &err), RG_OK);
    assert_int_equal(out.id, 0);
    rg_sampler_close(s);
}

static void top_k_keeps_k_and_prefers_low_ids(void **state)
{
    const float z[VOCAB] = {1.0f, 2.0f, 1.0f, 0.9f, 1.0f, 2.0f, 1.0f, 0.0f};
    struct rg_sampling how = plain;

    (void)state;
    how.top_k = 1;
    assert_int_equal(reachable(z, how), 1u << 1);
    how.top_k = 2;
    assert_int_equal(reachable(z, how), 1u << 1 | 1u << 5);
    how.top_k = 4;
    assert_int_equal(reachable(z, how), 1u << 1 | 1u << 5 | 1u << 0 | 1u << 2);
    how.top_k = 100;
    assert_int_equal(reachable(z, how), 0xff);
}

static void top_p_keeps_the_smallest_set_that_reaches_it(void **state)
{
    /* probabilities 0.5 0.25 0.125 0.0625 ... and the rest */
    float z[VOCAB];
    struct rg_sampling how = plain;

    (void)state;
    for (int i = 0; i < VOCAB; i++)
        z[i] = (float)-i * 0.693147180559945f;
    how.top_p = 0.4f;
    assert_int_equal(reachable(z, how), 0x01);
    how.top_p = 0.6f;
    assert_int_equal(reachable(z, how), 0x03);
    how.top_p = 0.8f;
    assert_int_equal(reachable(z, how), 0x07);
    how.top_k = 2; /* of the two: 2/3 and 1/3 */
    how.top_p = 0.6f;
    assert_int_equal(reachable(z, how), 0x01);
    how.top_p = 0.7f;
    assert_int_equal(reachable(z, how), 0x03);
}

static void temperature_comes_before_top_p(void **state)
{
    const float z[VOCAB] = {2.0f, 1.0f, -9.0f, -9.0f, -9.0f, -9.0f, -9.0f, -9.0f};
    struct rg_sampling how = plain;

    (void)state;
    how.top_p = 0.8f; /* 0.73 and 0.27; at temperature 0.5: 0.88 and 0.12 */
    assert_int_equal(reachable(z, how), 0x03);
    how.temperature = 0.5f;
    assert_int_equal(reachable(z, how), 0x01);
}

static void min_p_drops_what_is_far_below_the_best(void **state)
{
    const float z[VOCAB] = {0.0f, -1.0f, -2.0f, -3.0f, -40.0f, -40.0f, -40.0f, -40.0f};
    struct rg_sampling how = plain;

    (void)state;
    how.min_p = 0.3f; /* e^-1 is 0.37, e^-2 is 0.14 */
    assert_int_equal(reachable(z, how), 0x03);
    how.min_p = 1.0f;
    assert_int_equal(reachable(z, how), 0x01);
    how.min_p = 0.1f;
    assert_int_equal(reachable(z, how), 0x07);
    how.top_p = 0.999999f; /* the same by ranks */
    assert_int_equal(reachable(z, how), 0x07);
}

static void seed_choice_and_position_move_the_draw(void **state)
{
    float z[VOCAB] = {0};
    int32_t tokens[64] = {0};
    struct rg_sampling how = plain;
    struct rg_history h = {.tokens = tokens, .n_tokens = 1, .n_prompt = 1};
    int32_t by_position[64], by_choice[64], by_seed[64];

    (void)state;
    for (uint32_t i = 0; i < 64; i++) {
        h = (struct rg_history){.tokens = tokens, .n_tokens = i, .n_prompt = i};
        by_position[i] = draw_after(z, VOCAB, &how, &h).id;
        assert_int_equal(by_position[i], draw_after(z, VOCAB, &how, &h).id);
        h = (struct rg_history){.tokens = tokens, .choice = i};
        by_choice[i] = draw_after(z, VOCAB, &how, &h).id;
        how.seed = (uint64_t)i << 32; /* the upper half counts too */
        h.choice = 0;
        by_seed[i] = draw_after(z, VOCAB, &how, &h).id;
        how.seed = 0;
    }
    assert_memory_not_equal(by_position, by_choice, sizeof(by_choice));
    assert_memory_not_equal(by_position, by_seed, sizeof(by_seed));
    assert_memory_not_equal(by_choice, by_seed, sizeof(by_seed));
}

static void draws_follow_the_probabilities(void **state)
{
    enum { N = 40000 };
    const float z[3] = {0.0f, 1.0f, 2.0f};
    const double p[3] = {0.0900306, 0.2447285, 0.6652410};
    struct rg_sampling how = plain;
    struct rg_history h = {0};
    struct rg_sampler *s;
    struct rg_sample out;
    int seen[3] = {0};

    (void)state;
    assert_int_equal(rg_sampler_open(&s, 3, NULL), RG_OK);
    for (how.seed = 0; how.seed < N; how.seed++) {
        assert_int_equal(rg_sampler_draw(s, z, &how, &h, &out, NULL), RG_OK);
        seen[out.id]++;
    }
    rg_sampler_close(s);
    for (int i = 0; i < 3; i++) /* five standard deviations */
        assert_true(fabs(seen[i] - N * p[i]) < 5.0 * sqrt(N * p[i] * (1.0 - p[i])));
}

static void a_logit_that_is_not_finite_is_an_error(void **state)
{
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    struct rg_sampler *s;
    struct rg_sample out;
    struct rg_err err;
    struct rg_history h = {0};
    float z[VOCAB] = {0};

    (void)state;
    assert_int_equal(rg_sampler_open(&s, VOCAB, &err), RG_OK);
    for (int i = 0; i < 3; i++)
        for (int at = 0; at < VOCAB; at++) {
            z[at] = bad[i];
            assert_int_equal(rg_sampler_draw(s, z, &plain, &h, &out, &err), RG_E_INTERNAL);
            z[at] = 0.0f;
        }
    assert_int_equal(rg_sampler_draw(s, z, &plain, &h, &out, &err), RG_OK);
    rg_sampler_close(s);
}

static void extreme_settings_stay_finite(void **state)
{
    const float z[VOCAB] = {3e38f, -3e38f, 1e30f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    const int32_t tokens[2] = {0, 1};
    struct rg_history h = {.tokens = tokens, .n_tokens = 2, .n_prompt = 2};
    struct rg_sampling how = plain;

    (void)state;
    how.repetition_penalty = 1e-30f;
    how.temperature = 1e-20f;
    how.logprobs = true;
    assert_int_equal(draw_after(z, VOCAB, &how, &h).id, 0);
    how.top_p = 1e-6f;
    assert_int_equal(draw_after(z, VOCAB, &how, &h).id, 0);
}

static void logprobs_are_those_of_the_untouched_logits(void **state)
{
    const float z[VOCAB] = {0.0f, 1.0f, 2.0f, 2.0f, -1.0f, 0.5f, 0.25f, -2.0f};
    const int32_t tokens[1] = {2};
    struct rg_history h = {.tokens = tokens, .n_tokens = 1, .n_prompt = 0};
    struct rg_sampling how = plain;
    struct rg_sample out;
    double sum = 0.0, norm = 0.0;

    (void)state;
    how.temperature = 0.0f;
    how.presence_penalty = 1.5f;
    how.logprobs = true;
    how.n_top_logprobs = 3;
    out = draw_after(z, VOCAB, &how, &h);
    assert_int_equal(out.id, 3);
    for (int i = 0; i < VOCAB; i++)
        norm += exp((double)z[i]);
    assert_true(fabs((double)out.logprob - (2.0 - log(norm))) < 1e-6);
    assert_int_equal(out.n_top, 3);
    assert_int_equal(out.top[0].id, 2);
    assert_int_equal(out.top[1].id, 3);
    assert_int_equal(out.top[2].id, 1);
    how.n_top_logprobs = RG_LIMIT_TOP_LOGPROBS; /* more than there are */
    out = draw_after(z, VOCAB, &how, &h);
    assert_int_equal(out.n_top, VOCAB);
    for (uint32_t i = 0; i < out.n_top; i++)
        sum += exp((double)out.top[i].logprob);
    assert_true(fabs(sum - 1.0) < 1e-5);
    how.logprobs = false;
    assert_int_equal(draw_after(z, VOCAB, &how, &h).n_top, 0);
}

/* ---- a naive sampler ------------------------------------------------------------------------- */

static const float *sorted_by;

static int by_rank(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;

    if (sorted_by[x] > sorted_by[y] || sorted_by[x] < sorted_by[y])
        return sorted_by[x] > sorted_by[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

static uint32_t naive_pick(const float *w, const uint32_t *ids, uint32_t n, double u)
{
    double total = 0.0, sum = 0.0;

    for (uint32_t i = 0; i < n; i++)
        total += (double)w[i];
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)w[i];
        if (w[i] > 0.0f && sum > u * total)
            return ids[i];
    }
    return ids[n - 1];
}

/* top_k, top_p and min_p as the header says them, with everything sorted. */
static uint32_t naive_draw(const float *z, uint32_t vocab, const struct rg_sampling *how,
                           uint32_t position, uint32_t *ids, float *w)
{
    const bool ranked = (how->top_k > 0 && how->top_k < vocab) || how->top_p < 1.0f;
    const double u = rg_philox_draw(how->seed, 0, position);
    uint32_t n = how->top_k > 0 && how->top_k < vocab ? how->top_k : vocab;
    double total = 0.0, sum = 0.0;
    float best;

    for (uint32_t i = 0; i < vocab; i++)
        ids[i] = i;
    sorted_by = z;
    qsort(ids, vocab, sizeof(*ids), by_rank);
    best = z[ids[0]];
    if (n < vocab)
        for (uint32_t i = 0; i < n; i++)
            total += (double)rg_expf((z[ids[i]] - best) / how->temperature);
    else
        for (uint32_t i = 0; i < vocab; i++)
            total += (double)rg_expf((z[i] - best) / how->temperature);
    if (!ranked)
        for (uint32_t i = 0; i < vocab; i++)
            ids[i] = i;
    for (uint32_t i = 0; i < n; i++) {
        w[i] = rg_expf((z[ids[i]] - best) / how->temperature);
        if (w[i] < how->min_p)
            w[i] = 0.0f;
        if (how->top_p < 1.0f && sum >= (double)how->top_p * total)
            w[i] = 0.0f;
        sum += (double)rg_expf((z[ids[i]] - best) / how->temperature);
    }
    return naive_pick(w, ids, n, u);
}

static void draws_equal_a_naive_sampler(void **state)
{
    enum { N = 3000 };
    static float z[N], w[N];
    static uint32_t ids[N];
    uint64_t seed = 7;
    struct rg_sampler *s;
    struct rg_sample out;

    (void)state;
    assert_int_equal(rg_sampler_open(&s, N, NULL), RG_OK);
    for (uint32_t round = 0; round < 600; round++) {
        const float spread = random_float(&seed, 0.01f, 12.0f);
        const struct rg_history h = {.tokens = (const int32_t[8]){0}, .n_tokens = round % 8};
        struct rg_sampling how = plain;

        for (uint32_t i = 0; i < N; i++)
            z[i] = random_float(&seed, -spread, spread);
        how.temperature = random_float(&seed, 0.1f, 2.0f);
        how.seed = next_random(&seed);
        if (round % 2)
            how.top_p = random_float(&seed, 0.05f, 1.0f);
        if (round % 3 == 0)
            how.top_k = 1 + next_random(&seed) % (2 * N);
        if (round % 5 == 0)
            how.min_p = random_float(&seed, 0.0f, 0.5f);
        assert_int_equal(rg_sampler_draw(s, z, &how, &h, &out, NULL), RG_OK);
        assert_int_equal(out.id, naive_draw(z, N, &how, h.n_tokens, ids, w));
    }
    rg_sampler_close(s);
}

static void opening_without_memory_leaves_nothing(void **state)
{
    const int64_t live = rg_mem_live();
    struct rg_sampler *s;

    (void)state;
    for (int64_t n = 1; n <= 5; n++) {
        rg_mem_fail_at(n);
        assert_int_equal(rg_sampler_open(&s, VOCAB, NULL), RG_E_NOMEM);
        assert_null(s);
        assert_int_equal(rg_mem_live(), live);
    }
    rg_mem_fail_at(0);
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(rank_equals_a_full_sort),
        cmocka_unit_test(greedy_takes_the_lowest_id_of_equal_logits),
        cmocka_unit_test(penalties_count_what_they_should),
        cmocka_unit_test(repetition_makes_negative_logits_lower),
        cmocka_unit_test(a_penalty_leaves_nothing_behind),
        cmocka_unit_test(top_k_keeps_k_and_prefers_low_ids),
        cmocka_unit_test(top_p_keeps_the_smallest_set_that_reaches_it),
        cmocka_unit_test(temperature_comes_before_top_p),
        cmocka_unit_test(min_p_drops_what_is_far_below_the_best),
        cmocka_unit_test(seed_choice_and_position_move_the_draw),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(a_logit_that_is_not_finite_is_an_error),
        cmocka_unit_test(extreme_settings_stay_finite),
        cmocka_unit_test(logprobs_are_those_of_the_untouched_logits),
        cmocka_unit_test(draws_equal_a_naive_sampler),
        cmocka_unit_test(opening_without_memory_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
