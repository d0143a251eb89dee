/* floats.h - single floats out of unaligned bytes of a checkpoint. */
#ifndef RG_COMPUTE_CPU_FLOATS_H
#define RG_COMPUTE_CPU_FLOATS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "checkpoint/safetensors.h"
#include "compute/half.h"

static inline uint16_t rg_load_u16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* Element i of an array of F32, F16 or BF16. */
static inline float rg_load_float(const uint8_t *p, enum rg_dtype dtype, size_t i)
{
    float f;

    if (dtype == RG_DTYPE_BF16)
        return rg_bf16_to_f32(rg_load_u16(p + 2 * i));
    if (dtype == RG_DTYPE_F16)
        return rg_f16_to_f32(rg_load_u16(p + 2 * i));
    memcpy(&f, p + 4 * i, sizeof(f));
    return f;
}

#endif
