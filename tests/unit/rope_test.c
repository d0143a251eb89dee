/* rope_test.c - every kind of rotary embedding against the formulas of rope_utils.py with the C
 * library's functions, and the boundaries of Kimi-K2's YaRN table. */
#include "support/compute_helpers.h"

static const double PI = 3.14159265358979323846;

static struct rg_rope *open_rope(const struct rg_rope_config *c, uint32_t max_positions)
{
    struct rg_rope *r = NULL;

    assert_int_equal(rg_rope_open(&r, c, max_positions, NULL), RG_OK);
    return r;
}

/* Rotates n rows of n_heads * head_cols columns from a position on. */
static float *rotate(struct rg_backend *b, const struct rg_rope *r, const float *x, uint32_t n,
                     uint32_t n_heads, uint32_t head_cols, uint32_t position)
{
    struct test_step step;
    float *y;

    begin_step(&step, b, position, n);
    y = read_out(step.s,
                 rg_op_rope(step.s, rg_op_input(step.s, x, n, n_heads * head_cols), r, n_heads));
    end_step(&step);
    return y;
}

/* Checks rows that were rotated by angle = position * inv_freq[i], scaled by `scale` before. */
static void check_rotated(const struct rg_rope_config *c, const double *inv_freq, double scale)
{
    static const uint32_t positions[] = {0, 1, 77, 4095, 131071, 16777213};
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);
    struct rg_rope *r = open_rope(c, 65536);
    const uint32_t heads = 2, head_cols = c->dims + 6, cols = heads * head_cols;

    for (size_t p = 0; p < sizeof(positions) / sizeof(positions[0]); p++) {
        float *x = random_floats((size_t)3 * cols), *y;

        for (uint32_t i = 0; i < 3 * cols; i++)
            x[i] = random_float();
        y = rotate(b, r, x, 3, heads, head_cols, positions[p]);
        for (uint32_t row = 0; row < 3; row++)
            for (uint32_t h = 0; h < heads; h++) {
                const float *in = x + row * cols + h * head_cols;
                const float *out = y + row * cols + h * head_cols;

                for (uint32_t i = 0; i < c->dims / 2; i++) {
                    const double angle = (double)(positions[p] + row) * inv_freq[i];
                    const uint32_t a = c->interleaved ? 2 * i : i;
                    const uint32_t z = c->interleaved ? a + 1 : a + c->dims / 2;
                    const double x1 = (double)in[a] * scale, x2 = (double)in[z] * scale;

                    /* at 1.6e7 rad the last bit of the angle itself is worth 2e-9 */
                    assert_true(fabs((double)out[a] - (x1 * cos(angle) - x2 * sin(angle))) < 6e-7);
                    assert_true(fabs((double)out[z] - (x1 * sin(angle) + x2 * cos(angle))) < 6e-7);
                }
                assert_memory_equal(out + c->dims, in + c->dims, 6 * sizeof(*in));
            }
        free(x);
        free(y);
    }
    rg_rope_close(r);
    rg_backend_close(b);
}

static struct rg_rope_config config_of(enum rg_rope_kind kind, uint32_t dims)
{
    return (struct rg_rope_config){.kind = kind,
                                   .theta = 10000.0,
                                   .factor = 8.0,
                                   .dims = dims,
                                   .original_max_position_embeddings = 8192,
                                   .beta_fast = 32.0,
                                   .beta_slow = 1.0,
                                   .mscale = 1.0,
                                   .low_freq_factor = 1.0,
                                   .high_freq_factor = 4.0,
                                   .partial_rotary_factor = 0.5};
}

static void default_and_linear_use_the_base(void **state)
{
    double inv_freq[32];

    (void)state;
    for (int round = 0; round < 4; round++) {
        struct rg_rope_config c = config_of(round < 2 ? RG_ROPE_DEFAULT : RG_ROPE_LINEAR, 64);

        c.theta = 500000.0;
        c.interleaved = round % 2;
        for (uint32_t i = 0; i < 32; i++)
            inv_freq[i] = pow(c.theta, -2.0 * i / 64.0) / (round < 2 ? 1.0 : 8.0);
        check_rotated(&c, inv_freq, 1.0);
    }
}

static void llama3_slows_long_waves(void **state)
{
    struct rg_rope_config c = config_of(RG_ROPE_LLAMA3, 128);
    double inv_freq[64];
    int kept = 0, slowed = 0, between = 0;

    (void)state;
    c.theta = 500000.0;
    for (uint32_t i = 0; i < 64; i++) {
        const double p = pow(c.theta, 2.0 * i / 128.0), wave = 2 * PI * p;

        if (wave > 8192.0 / 1.0) {
            inv_freq[i] = 1 / (p * 8.0);
            slowed++;
        } else if (wave < 8192.0 / 4.0) {
            inv_freq[i] = 1 / p;
            kept++;
        } else {
            const double t = (8192.0 / wave - 1.0) / 3.0;
            inv_freq[i] = ((1 - t) / 8.0 + t) / p;
            between++;
        }
    }
    assert_true(kept > 10 && slowed > 10 && between > 2);
    check_rotated(&c, inv_freq, 1.0);
}

static void yarn_ramps_between_its_corrections(void **state)
{
    struct rg_rope_config c = config_of(RG_ROPE_YARN, 64);
    double inv_freq[32], low, high;

    (void)state;
    c.original_max_position_embeddings = 4096;
    c.factor = 40.0;
    low = floor(64.0 * log(4096.0 / (2 * PI * 32.0)) / (2 * log(10000.0)));
    high = ceil(64.0 * log(4096.0 / (2 * PI * 1.0)) / (2 * log(10000.0)));
    for (uint32_t i = 0; i < 32; i++) {
        double ramp = (i - low) / (high - low);

        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        inv_freq[i] = pow(10000.0, -2.0 * i / 64.0) * ((1 - ramp) + ramp / 40.0);
    }
    /* mscale 1 over mscale_all_dim 0: the rotary parts grow by 0.1 ln 40 + 1 */
    check_rotated(&c, inv_freq, 0.1 * log(40.0) + 1.0);
    c.mscale_all_dim = 1.0;
    check_rotated(&c, inv_freq, 1.0);
}

static void kimi_k2_keeps_pairs_to_19_and_slows_those_from_20(void **state)
{
    struct rg_rope_config c = config_of(RG_ROPE_YARN, 64);
    double inv_freq[32];

    (void)state;
    c.theta = 50000.0;
    c.factor = 32.0;
    c.original_max_position_embeddings = 4096;
    c.beta_fast = 1.0;
    c.mscale_all_dim = 1.0;
    c.interleaved = true;
    for (uint32_t i = 0; i < 32; i++)
        inv_freq[i] = pow(50000.0, -2.0 * i / 64.0) / (i <= 19 ? 1.0 : 32.0);
    check_rotated(&c, inv_freq, 1.0);
}

static void yarn_with_equal_corrections_is_a_step(void **state)
{
    struct rg_rope_config c = config_of(RG_ROPE_YARN, 8);
    double inv_freq[4], at;

    (void)state;
    /* a context so short that both corrections are clamped to 0 */
    c.original_max_position_embeddings = 6;
    c.beta_fast = 4.0;
    c.beta_slow = 2.0;
    at = 8.0 * log(6.0 / (2 * PI * 2.0)) / (2 * log(10000.0));
    assert_true(ceil(at) < 0.5);
    for (uint32_t i = 0; i < 4; i++) {
        double ramp = i / 0.001;
        ramp = ramp > 1 ? 1 : ramp;
        inv_freq[i] = pow(10000.0, -2.0 * i / 8.0) * ((1 - ramp) + ramp / 8.0);
    }
    check_rotated(&c, inv_freq, 0.1 * log(8.0) + 1.0);
}

static void longrope_divides_by_its_factors(void **state)
{
    struct rg_rope_config c = config_of(RG_ROPE_LONGROPE, 16);
    double factors[8], inv_freq[8];
    struct rg_rope *r;

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        factors[i] = 1.0 + 0.7 * i;
        inv_freq[i] = 1 / (factors[i] * pow(10000.0, 2.0 * i / 16.0));
    }
    c.long_factor = factors;
    c.n_long_factor = 8;
    c.original_max_position_embeddings = 4096;
    check_rotated(&c, inv_freq, sqrt(1.0 + log(65536.0 / 4096.0) / log(4096.0)));
    c.original_max_position_embeddings = 65536;
    check_rotated(&c, inv_freq, 1.0);
    c.n_long_factor = 7;
    assert_int_equal(rg_rope_open(&r, &c, 65536, NULL), RG_E_BAD_DATA);
}

static void proportional_turns_only_a_part(void **state)
{
    struct rg_rope_config c = config_of(RG_ROPE_PROPORTIONAL, 64);
    double inv_freq[32];

    (void)state;
    c.partial_rotary_factor = 0.25;
    c.factor = 2.0;
    for (uint32_t i = 0; i < 32; i++)
        inv_freq[i] = i < 8 ? pow(10000.0, -2.0 * i / 64.0) / 2.0 : 0.0;
    check_rotated(&c, inv_freq, 1.0);
}

static void odd_dimensions_are_refused(void **state)
{
    struct rg_rope_config c = config_of(RG_ROPE_DEFAULT, 63);
    struct rg_rope *r;

    (void)state;
    assert_int_equal(rg_rope_open(&r, &c, 4096, NULL), RG_E_BAD_DATA);
    c.dims = 0;
    assert_int_equal(rg_rope_open(&r, &c, 4096, NULL), RG_E_BAD_DATA);
}

static void rotation_has_the_same_bits_in_any_company(void **state)
{
    struct rg_rope_config c = config_of(RG_ROPE_DEFAULT, 64);
    struct rg_backend *one = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct rg_backend *five = open_backend(RG_KERNELS_BEST, 5, RG_ACTIVATIONS_INT8);
    struct rg_rope *r = open_rope(&c, 4096);
    float *x = random_floats(300 * 256), *all = rotate(five, r, x, 300, 4, 64, 1000);

    (void)state;
    for (uint32_t row = 0; row < 300; row += 23) {
        float *alone = rotate(one, r, x + row * 256, 1, 4, 64, 1000 + row);
        assert_memory_equal(alone, all + row * 256, 256 * sizeof(*x));
        free(alone);
    }
    free(x);
    free(all);
    rg_rope_close(r);
    rg_backend_close(one);
    rg_backend_close(five);
}

/* More ropes in a step than it remembers tables for. */
static void many_ropes_share_a_step(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);
    float *x = random_floats(4 * 32);
    struct rg_rope *r[7];
    struct test_step step;

    (void)state;
    for (uint32_t i = 0; i < 7; i++) {
        struct rg_rope_config c = config_of(RG_ROPE_DEFAULT, 32);
        c.theta = 1000.0 * (i + 1);
        r[i] = open_rope(&c, 4096);
    }
    begin_step(&step, b, 50, 4);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 7; i++) {
            float *y = read_out(step.s, rg_op_rope(step.s, rg_op_input(step.s, x, 4, 32), r[i], 1));
            const double angle = 51.0 * pow(1000.0 * (i + 1), -2.0 / 32.0);
            const double want = (double)x[33] * cos(angle) - (double)x[49] * sin(angle);

            assert_true(fabs((double)y[33] - want) <
                        1e-6 * (fabs((double)x[33]) + fabs((double)x[49]) + 1.0));
            free(y);
        }
    end_step(&step);
    for (int i = 0; i < 7; i++)
        rg_rope_close(r[i]);
    free(x);
    rg_backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_and_linear_use_the_base),
        cmocka_unit_test(llama3_slows_long_waves),
        cmocka_unit_test(yarn_ramps_between_its_corrections),
        cmocka_unit_test(kimi_k2_keeps_pairs_to_19_and_slows_those_from_20),
        cmocka_unit_test(yarn_with_equal_corrections_is_a_step),
        cmocka_unit_test(longrope_divides_by_its_factors),
        cmocka_unit_test(proportional_turns_only_a_part),
        cmocka_unit_test(odd_dimensions_are_refused),
        cmocka_unit_test(rotation_has_the_same_bits_in_any_company),
        cmocka_unit_test(many_ropes_share_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
