/* half.h - 16-bit floats in software: IEEE binary16 and bfloat16, to and from f32.
 *
 * Rounding   to nearest, ties to even, denormals kept: bit-equal to F16C and to NEON, so a vector
 *            kernel may use either.  Infinities stay, a NaN stays a quiet NaN.
 * Threads    Pure. */
#ifndef RG_COMPUTE_HALF_H
#define RG_COMPUTE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t rg_f32_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return u;
}

static inline float rg_f32_from_bits(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}

static inline float rg_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 31u;
    const uint32_t mantissa = h & 0x3FFu;

    if (exponent == 31u) /* infinity; NaN is made quiet, as the hardware does */
        return rg_f32_from_bits(sign | 0x7F800000u | (mantissa << 13) |
                                (mantissa != 0 ? 0x400000u : 0));
    if (exponent == 0) { /* zero or denormal: mantissa * 2^-24 is exact in f32 */
        const float magnitude = (float)mantissa * 0x1p-24f;
        return rg_f32_from_bits(sign | rg_f32_bits(magnitude));
    }
    return rg_f32_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

static inline uint16_t rg_f32_to_f16(float f)
{
    const uint32_t bits = rg_f32_bits(f);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    uint32_t half;

    if (magnitude > 0x7F800000u) {
        half = 0x7E00u | ((magnitude >> 13) & 0x3FFu);
    } else if (magnitude >= 0x477FF000u) { /* rounds to 65536 or more */
        half = 0x7C00u;
    } else if (magnitude < 0x38800000u) { /* below 2^-14: a denormal half, in units of 2^-24 */
        /* Adding 0.5 (ulp 2^-24) makes the FPU round to that unit. */
        half = rg_f32_bits(rg_f32_from_bits(magnitude) + 0.5f) - 0x3F000000u;
    } else {
        const uint32_t odd = (magnitude >> 13) & 1u;
        half = (magnitude - 0x38000000u + 0xFFFu + odd) >> 13;
    }
    return (uint16_t)(sign | half);
}

static inline float rg_bf16_to_f32(uint16_t b)
{
    return rg_f32_from_bits((uint32_t)b << 16);
}

static inline uint16_t rg_f32_to_bf16(float f)
{
    const uint32_t bits = rg_f32_bits(f);

    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

#endif
