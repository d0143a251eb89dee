/* formats.h - what the codes and scales of every kind of weight mean, one at a time.
 *
 * kernels.h has the formulas; scalar kernels are made of these, vector kernels use them for tails.
 * A NaN code gives the positive quiet NaN, so that all kernels give the same one.
 * Threads    Pure. */
#ifndef RG_COMPUTE_CPU_FORMATS_H
#define RG_COMPUTE_CPU_FORMATS_H

#include "compute/cpu/floats.h"
#include "compute/cpu/kernels.h"

#define RG_QUIET_NAN 0x7FC00000u

/* E4M3 (FN: no infinity).  Its low 7 bits, moved up by 7, are an f16 of a 256th of the value. */
static inline float rg_e4m3(uint8_t code)
{
    const float magnitude = rg_f16_to_f32((uint16_t)((code & 0x7Fu) << 7)) * 256.0f;

    if ((code & 0x7Fu) == 0x7Fu)
        return rg_f32_from_bits(RG_QUIET_NAN);
    return code & 0x80u ? -magnitude : magnitude;
}

/* 2^(code - 127).  Code 0 is the denormal 2^-127: the bit that also makes 255 a quiet NaN. */
static inline float rg_e8m0(uint8_t code)
{
    const uint32_t bits = (uint32_t)code << 23;

    return rg_f32_from_bits(code == 0 || code == 255 ? bits | 0x00400000u : bits);
}

enum { RG_E2M1_OFFSET = 12, RG_INT4_OFFSET = 8 };

/* 2 * E2M1 + 12 by code, bytes for a shuffle too; bit 3 of the code is the sign. */
#define RG_E2M1_TABLE 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0

static inline bool rg_is_e2m1(enum rg_weight_kind kind)
{
    return kind == RG_WEIGHT_MXFP4 || kind == RG_WEIGHT_NVFP4;
}

/* The integer that the int8 path multiplies: the code of affine, else signed. */
static inline int16_t rg_integer(enum rg_weight_kind kind, uint8_t code)
{
    static const uint8_t e2m1[16] = {RG_E2M1_TABLE};

    if (rg_is_e2m1(kind))
        return (int16_t)(e2m1[code] - RG_E2M1_OFFSET);
    return (int16_t)(kind == RG_WEIGHT_INT4 ? code - RG_INT4_OFFSET : code);
}

/* Scale g of a row of scales: of the integers of the kinds above, of E4M3 codes otherwise. */
static inline float rg_scale_at(const struct rg_matrix *m, const uint8_t *scales, size_t g)
{
    switch (m->kind) {
    case RG_WEIGHT_MXFP4:
        return rg_e8m0(scales[g]) * 0.5f;
    case RG_WEIGHT_NVFP4:
        return rg_e4m3(scales[g]) * 0.5f;
    case RG_WEIGHT_MXFP8:
        return rg_e8m0(scales[g]);
    default:
        return rg_load_float(scales, m->dtype, g);
    }
}

#endif
