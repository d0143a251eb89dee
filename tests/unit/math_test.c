/* math_test.c - the own mathematical functions against the C library's, and 16-bit floats. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "compute/half.h"
#include "compute/math.h"

static uint64_t random_state = 88172645463325252ull;

static uint32_t random_u32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

static double random_between(double least, double most)
{
    return least + (most - least) * (random_u32() / 4294967296.0);
}

/* |got - want| in units of the last place of a float at want. */
static double ulps_f(float got, double want)
{
    const float nearest = (float)want;
    const float next = nextafterf(fabsf(nearest), INFINITY);

    return fabs(got - want) / (double)(next - fabsf(nearest));
}

static void expf_is_within_two_ulp(void **state)
{
    double worst = 0.0;

    (void)state;
    for (int i = 0; i < 400000; i++) {
        const float x = (float)random_between(-104.0, 88.7);
        worst = fmax(worst, ulps_f(rg_expf(x), exp((double)x)));
    }
    for (int i = 0; i < 100000; i++) {
        const float x = (float)random_between(-1.0, 1.0);
        worst = fmax(worst, ulps_f(rg_expf(x), exp((double)x)));
    }
    assert_true(worst < 2.0);
}

static void expf_has_the_right_ends(void **state)
{
    (void)state;
    assert_true(rg_f32_bits(rg_expf(0.0f)) == rg_f32_bits(1.0f));
    assert_true(rg_f32_bits(rg_expf(-INFINITY)) == 0);
    assert_true(rg_f32_bits(rg_expf(-200.0f)) == 0);
    assert_true(isinf(rg_expf(INFINITY)) && rg_expf(INFINITY) > 0);
    assert_true(isinf(rg_expf(89.0f)));
    assert_true(isfinite(rg_expf(88.7f)));
    assert_true(isnan(rg_expf(NAN)));
    assert_true(rg_expf(-103.0f) > 0.0f); /* a denormal */
}

static void sigmoid_matches_its_definition(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        const float x = (float)random_between(-30.0, 30.0);
        const double want = 1.0 / (1.0 + exp(-(double)x));
        assert_true(ulps_f(rg_sigmoidf(x), want) < 4.0);
    }
    assert_true(rg_f32_bits(rg_sigmoidf(-INFINITY)) == 0);
    assert_true(rg_f32_bits(rg_sigmoidf(INFINITY)) == rg_f32_bits(1.0f));
}

static void exp_log_and_pow_are_right_in_double(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        const double x = random_between(-700.0, 700.0);
        const double y = exp(random_between(-40.0, 40.0));
        const double p = random_between(-4.0, 4.0);

        assert_true(fabs(rg_exp(x) - exp(x)) <= 9e-16 * exp(x));
        assert_true(fabs(rg_ln(y) - log(y)) <= 9e-16 * fmax(fabs(log(y)), 1e-3));
        assert_true(fabs(rg_pow(y, p) - pow(y, p)) <=
                    (4.0 + fabs(p * log(y))) * 2.3e-16 * pow(y, p));
    }
    for (int i = 0; i < 100000; i++) { /* near 1, where the logarithm is small */
        const double y = 1.0 + random_between(-1e-3, 1e-3);
        assert_true(fabs(rg_ln(y) - log(y)) <= 9e-16 * fabs(log(y)) + 1e-30);
    }
    assert_true(isinf(rg_ln(0.0)) && rg_ln(0.0) < 0);
    assert_true(isnan(rg_ln(-1.0)) && isnan(rg_exp(NAN)));
    assert_true(isinf(rg_exp(800.0)) && !(rg_exp(-800.0) > 0.0));
    assert_true(fabs(rg_ln(0x1p-1060) - log(0x1p-1060)) < 1e-12);
}

static void sine_and_cosine_hold_up_to_two_to_the_25(void **state)
{
    double worst = 0.0;

    (void)state;
    for (int i = 0; i < 300000; i++) {
        const double range = i % 3 == 0 ? 4.0 : i % 3 == 1 ? 1e4 : 0x1p25;
        const double x = random_between(-range, range);

        worst = fmax(worst, fabs(rg_sin(x) - sin(x)));
        worst = fmax(worst, fabs(rg_cos(x) - cos(x)));
    }
    for (int i = 0; i < 100000; i++) { /* whole positions, and next to multiples of pi/2 */
        const double whole = (double)(random_u32() % (1u << 24));
        const double near = (double)(random_u32() % (1u << 20)) * 1.57079632679489661923;

        worst = fmax(worst, fabs(rg_sin(whole) - sin(whole)));
        worst = fmax(worst, fabs(rg_cos(near) - cos(near)));
        worst = fmax(worst, fabs(rg_sin(near) - sin(near)));
    }
    assert_true(worst <= 4e-16);
    assert_true(isnan(rg_sin(INFINITY)) && isnan(rg_cos(NAN)));
}

static void every_half_survives_a_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = rg_f16_to_f32((uint16_t)h);
        const uint32_t exponent = (h >> 10) & 31, mantissa = h & 0x3FF;

        if (exponent == 31 && mantissa != 0) {
            assert_true(isnan(f));
            assert_true(isnan(rg_f16_to_f32(rg_f32_to_f16(f))));
            continue;
        }
        if (exponent != 31) {
            const double want =
                exponent ? ldexp(1024.0 + mantissa, (int)exponent - 25) : ldexp(mantissa, -24);
            assert_true(fabs(fabs((double)f) - want) <= 0.0);
        }
        assert_int_equal(rg_f32_to_f16(f), h);
    }
}

/* The nearest half by search: of the two neighbours the nearer one, the even one on a tie. */
static uint16_t nearest_half(float f)
{
    const double x = fabs((double)f);
    uint16_t low = 0;

    for (uint32_t bit = 1u << 14; bit > 0; bit >>= 1)
        if ((low | bit) <= 0x7C00 && (double)rg_f16_to_f32((uint16_t)(low | bit)) <= x)
            low = (uint16_t)(low | bit);
    if (low < 0x7C00) {
        const double below = (double)rg_f16_to_f32(low);
        const double above =
            low + 1 == 0x7C00 ? 65536.0 : (double)rg_f16_to_f32((uint16_t)(low + 1));
        const double middle = (below + above) / 2;

        if (x > middle || (!(x < middle) && low % 2 == 1))
            low++;
    }
    return (uint16_t)(low | (signbit(f) ? 0x8000 : 0));
}

static void floats_round_to_the_nearest_half(void **state)
{
    (void)state;
    for (int i = 0; i < 400000; i++) {
        /* exponents from far below the denormals to above the overflow */
        const uint32_t exponent = 95 + random_u32() % 52;
        uint32_t bits = (random_u32() & 0x807FFFFFu) | (exponent << 23);

        if (i % 2 == 0)
            bits &= 0xFFFFF000u; /* many exact ties */
        assert_int_equal(rg_f32_to_f16(rg_f32_from_bits(bits)),
                         nearest_half(rg_f32_from_bits(bits)));
    }
    assert_int_equal(rg_f32_to_f16(INFINITY), 0x7C00);
    assert_int_equal(rg_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(rg_f32_to_f16(65519.99f), 0x7BFF);
    assert_int_equal(rg_f32_to_f16(65520.0f), 0x7C00);
}

static void bfloats_round_to_even_and_come_back(void **state)
{
    (void)state;
    assert_int_equal(rg_f32_to_bf16(1.0f), 0x3F80);
    assert_int_equal(rg_f32_to_bf16(rg_f32_from_bits(0x3F808000u)), 0x3F80);
    assert_int_equal(rg_f32_to_bf16(rg_f32_from_bits(0x3F818000u)), 0x3F82);
    assert_int_equal(rg_f32_to_bf16(rg_f32_from_bits(0x3F808001u)), 0x3F81);
    assert_true(isnan(rg_bf16_to_f32(rg_f32_to_bf16(rg_f32_from_bits(0x7F800001u)))));
    for (uint32_t b = 0; b < 0x7F80; b++)
        assert_int_equal(rg_f32_to_bf16(rg_bf16_to_f32((uint16_t)b)), b);
}

static void many_exponentials_have_the_bits_of_one(void **state)
{
    float x[1001], y[1001];

    (void)state;
    for (int i = 0; i < 1001; i++)
        x[i] = y[i] = -120.0f + 0.23f * (float)i;
    rg_expf_each(y, 1001);
    for (int i = 0; i < 1001; i++)
        x[i] = rg_expf(x[i]);
    assert_memory_equal(x, y, sizeof x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expf_is_within_two_ulp),
        cmocka_unit_test(many_exponentials_have_the_bits_of_one),
        cmocka_unit_test(expf_has_the_right_ends),
        cmocka_unit_test(sigmoid_matches_its_definition),
        cmocka_unit_test(exp_log_and_pow_are_right_in_double),
        cmocka_unit_test(sine_and_cosine_hold_up_to_two_to_the_25),
        cmocka_unit_test(every_half_survives_a_round_trip),
        cmocka_unit_test(floats_round_to_the_nearest_half),
        cmocka_unit_test(bfloats_round_to_even_and_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
