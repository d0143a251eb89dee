/* math.h - exp, log, sin, cos and pow that give the same bits on every machine.
 *
 * The C libraries of Linux and macOS differ in the last bit, and a last bit can change a token.  So
 * these are written with +, *, fma and division only, in one fixed order, and the vector kernels
 * repeat that order lane by lane.
 * Errors     (tests/unit/math_test.c measures them against the C library)
 *            rg_expf: 2 ulp; rg_exp, rg_ln: 4 ulp of a double; rg_sin, rg_cos: 4e-16 absolute for
 *            |x| <= 2^25; rg_pow: relative (4 + |y ln x|) * 2.3e-16.
 * Limits     rg_ln and rg_pow take x > 0 (rg_ln(0) is -infinity).  A NaN gives a NaN.
 * Threads    Pure; the rounding mode must be to nearest and flush-to-zero off. */
#ifndef RG_COMPUTE_MATH_H
#define RG_COMPUTE_MATH_H

#include <stddef.h>

float rg_expf(float x);
double rg_exp(double x);
double rg_ln(double x);
double rg_sin(double x);
double rg_cos(double x);
double rg_pow(double x, double y);

/* x[i] = rg_expf(x[i]), the same bits, by the best kernels of this CPU. */
void rg_expf_each(float *x, size_t n);

/* 1 / (1 + exp(-x)) */
float rg_sigmoidf(float x);

/* Constants of rg_expf(), which vector versions share: they must do the same steps. */
#define RG_EXPF_MAX 89.0f     /* above: the result is infinity                     */
#define RG_EXPF_MIN (-105.0f) /* below: it is zero                                 */
#define RG_EXPF_LOG2E 0x1.715476p+0f
#define RG_EXPF_LN2_HIGH 0x1.62e4p-1f /* 15 bits, so that n * it is exact            */
#define RG_EXPF_LN2_LOW 0x1.7f7d1cp-20f
#define RG_EXPF_ROUND 0x1.8p+23f /* adding it rounds to an integer, ties to even     */
#define RG_EXPF_C2 0x1p-1f       /* 1 / n!                                            */
#define RG_EXPF_C3 0x1.555556p-3f
#define RG_EXPF_C4 0x1.555556p-5f
#define RG_EXPF_C5 0x1.111112p-7f
#define RG_EXPF_C6 0x1.6c16c2p-10f
#define RG_EXPF_C7 0x1.a01a02p-13f

#endif
