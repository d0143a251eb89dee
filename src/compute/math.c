/* math.c - exp, log, sin, cos and pow in a fixed order of operations.
 *
 * Series are Taylor's, long enough for the reduced range; the constants are the exact quotients
 * rounded to nearest. */
#include "compute/math.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "compute/half.h"

static double double_from_bits(uint64_t u)
{
    double d;

    memcpy(&d, &u, sizeof(d));
    return d;
}

static uint64_t double_bits(double d)
{
    uint64_t u;

    memcpy(&u, &d, sizeof(u));
    return u;
}

/* 2^n for -126 <= n <= 127. */
static float power_of_two_f(int32_t n)
{
    return rg_f32_from_bits((uint32_t)(n + 127) << 23);
}

/* 2^n for -1022 <= n <= 1023. */
static double power_of_two(int64_t n)
{
    return double_from_bits((uint64_t)(n + 1023) << 52);
}

float rg_expf(float x)
{
    float rounded, n, r, p;
    int32_t whole, half;

    if (isnan(x))
        return x;
    x = x > RG_EXPF_MAX ? RG_EXPF_MAX : x;
    x = x < RG_EXPF_MIN ? RG_EXPF_MIN : x;
    rounded = fmaf(x, RG_EXPF_LOG2E, RG_EXPF_ROUND);
    n = rounded - RG_EXPF_ROUND;
    r = fmaf(-n, RG_EXPF_LN2_HIGH, x);
    r = fmaf(-n, RG_EXPF_LN2_LOW, r);

    p = RG_EXPF_C7;
    p = fmaf(p, r, RG_EXPF_C6);
    p = fmaf(p, r, RG_EXPF_C5);
    p = fmaf(p, r, RG_EXPF_C4);
    p = fmaf(p, r, RG_EXPF_C3);
    p = fmaf(p, r, RG_EXPF_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);

    /* Two factors: 2^n itself is out of range for a denormal or overflowing result. */
    whole = (int32_t)n;
    half = whole >> 1;
    return p * power_of_two_f(half) * power_of_two_f(whole - half);
}

float rg_sigmoidf(float x)
{
    return 1.0f / (1.0f + rg_expf(-x));
}

static const double LN2_HIGH = 0x1.62e42fefa3800p-1; /* 42 bits: n * it is exact */
static const double LN2_LOW = 0x1.ef35793c76730p-45;
static const double ROUND_DOUBLE = 0x1.8p+52;

double rg_exp(double x)
{
    static const double c[] = {1.0 / 6227020800.0,
                               1.0 / 479001600.0,
                               1.0 / 39916800.0,
                               1.0 / 3628800.0,
                               1.0 / 362880.0,
                               1.0 / 40320.0,
                               1.0 / 5040.0,
                               1.0 / 720.0,
                               1.0 / 120.0,
                               1.0 / 24.0,
                               1.0 / 6.0,
                               0.5,
                               1.0,
                               1.0};
    double n, r, p = 0.0;
    int64_t whole, half;

    if (isnan(x))
        return x;
    x = x > 710.0 ? 710.0 : x;
    x = x < -746.0 ? -746.0 : x;
    n = fma(x, 0x1.71547652b82fep+0, ROUND_DOUBLE) - ROUND_DOUBLE;
    r = fma(-n, LN2_HIGH, x);
    r = fma(-n, LN2_LOW, r);
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++)
        p = fma(p, r, c[i]);
    whole = (int64_t)n;
    half = whole >> 1;
    return p * power_of_two(half) * power_of_two(whole - half);
}

double rg_ln(double x)
{
    uint64_t bits;
    int64_t exponent;
    double m, f, f2, p = 0.0;

    if (isnan(x) || x > 0x1.fffffffffffffp+1023)
        return x;
    if (x < 0x1p-1022) {
        if (x > 0.0)
            return rg_ln(x * 0x1p54) - 54.0 * (LN2_HIGH + LN2_LOW);
        return x < 0.0 ? (double)NAN : -(double)INFINITY;
    }
    /* x = m * 2^exponent with m in [sqrt(1/2), sqrt(2)). */
    bits = double_bits(x);
    exponent = (int64_t)(bits >> 52) - 1023;
    m = double_from_bits((bits & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        exponent++;
    }
    /* ln m = 2 atanh(f), f = (m - 1) / (m + 1), |f| < 0.172. */
    f = (m - 1.0) / (m + 1.0);
    f2 = f * f;
    for (int k = 25; k >= 3; k -= 2)
        p = fma(p, f2, 1.0 / k);
    p = p * f2 * f;
    return fma((double)exponent, LN2_HIGH, fma((double)exponent, LN2_LOW, 2.0 * (f + p)));
}

double rg_pow(double x, double y)
{
    return rg_exp(y * rg_ln(x));
}

/* Sine and cosine of |r| <= pi/4. */
static double sin_series(double r)
{
    static const double c[] = {-1.0 / 121645100408832000.0,
                               1.0 / 355687428096000.0,
                               -1.0 / 1307674368000.0,
                               1.0 / 6227020800.0,
                               -1.0 / 39916800.0,
                               1.0 / 362880.0,
                               -1.0 / 5040.0,
                               1.0 / 120.0,
                               -1.0 / 6.0};
    const double r2 = r * r;
    double p = 0.0;

    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++)
        p = fma(p, r2, c[i]);
    return fma(p * r2, r, r);
}

static double cos_series(double r)
{
    static const double c[] = {-1.0 / 6402373705728000.0,
                               1.0 / 20922789888000.0,
                               -1.0 / 87178291200.0,
                               1.0 / 479001600.0,
                               -1.0 / 3628800.0,
                               1.0 / 40320.0,
                               -1.0 / 720.0,
                               1.0 / 24.0,
                               -0.5};
    const double r2 = r * r;
    double p = 0.0;

    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++)
        p = fma(p, r2, c[i]);
    return fma(p, r2, 1.0);
}

/* sin(x + quarter * pi/2).  pi/2 is taken in two doubles, 106 bits: with |x| <= 2^25 the reduced
 * argument is right to 2e-24. */
static double sine_from(double x, int64_t quarter)
{
    double n, r;
    int64_t q;

    if (!(x < 0x1p31 && x > -0x1p31)) /* also a NaN */
        return (double)NAN;
    n = fma(x, 0x1.45f306dc9c883p-1, ROUND_DOUBLE) - ROUND_DOUBLE;
    r = fma(-n, 0x1.921fb54442d18p+0, x);
    r = fma(-n, 0x1.1a62633145c07p-54, r);
    q = ((int64_t)n + quarter) & 3;
    if (q == 0)
        return sin_series(r);
    if (q == 1)
        return cos_series(r);
    return q == 2 ? -sin_series(r) : -cos_series(r);
}

double rg_sin(double x)
{
    return sine_from(x, 0);
}

double rg_cos(double x)
{
    return sine_from(x, 1);
}
