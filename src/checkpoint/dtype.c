/* dtype.c - the element types of safetensors, the names of our enums, and the sizes of weights. */
#include <string.h>

#include "checkpoint/st_table.h"
#include "checkpoint/weight.h"

static const struct {
    const char *name;
    enum rg_dtype dtype;
    uint32_t bits;
} dtypes[] = {
    {"BOOL", RG_DTYPE_BOOL, 8},
    {"U8", RG_DTYPE_U8, 8},
    {"I8", RG_DTYPE_I8, 8},
    {"F8_E4M3", RG_DTYPE_F8_E4M3, 8},
    {"F8_E5M2", RG_DTYPE_F8_E5M2, 8},
    {"F8_E8M0", RG_DTYPE_F8_E8M0, 8},
    {"I16", RG_DTYPE_I16, 16},
    {"U16", RG_DTYPE_U16, 16},
    {"F16", RG_DTYPE_F16, 16},
    {"BF16", RG_DTYPE_BF16, 16},
    {"I32", RG_DTYPE_I32, 32},
    {"U32", RG_DTYPE_U32, 32},
    {"F32", RG_DTYPE_F32, 32},
    {"I64", RG_DTYPE_I64, 64},
    {"U64", RG_DTYPE_U64, 64},
    {"F64", RG_DTYPE_F64, 64},
    {"C64", RG_DTYPE_C64, 64},
    {"F4", RG_DTYPE_OTHER, 4},
    {"F6_E2M3", RG_DTYPE_OTHER, 6},
    {"F6_E3M2", RG_DTYPE_OTHER, 6},
    {"F8_E4M3FNUZ", RG_DTYPE_OTHER, 8},
    {"F8_E5M2FNUZ", RG_DTYPE_OTHER, 8},
};

bool rg_dtype_parse(const char *name, size_t len, enum rg_dtype *dtype, uint32_t *bits)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strlen(dtypes[i].name) == len && memcmp(dtypes[i].name, name, len) == 0) {
            *dtype = dtypes[i].dtype;
            *bits = dtypes[i].bits;
            return true;
        }
    }
    return false;
}

const char *rg_dtype_name(enum rg_dtype t)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (dtypes[i].dtype == t && t != RG_DTYPE_OTHER)
            return dtypes[i].name;
    }
    return "OTHER";
}

uint32_t rg_dtype_bits(enum rg_dtype t)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (dtypes[i].dtype == t && t != RG_DTYPE_OTHER)
            return dtypes[i].bits;
    }
    return 0;
}

const char *rg_weight_kind_name(enum rg_weight_kind k)
{
    static const char *const names[] = {"float", "affine", "mxfp4", "nvfp4",
                                        "mxfp8", "int4",   "fp8"};

    return (size_t)k < sizeof names / sizeof names[0] ? names[k] : "unknown";
}

uint64_t rg_weight_data_bytes(const struct rg_weight_desc *d)
{
    const uint64_t values = (uint64_t)d->rows * d->cols;

    return values * (d->kind == RG_WEIGHT_FLOAT ? rg_dtype_bits(d->dtype) : d->bits) / 8;
}

uint64_t rg_weight_scale_bytes(const struct rg_weight_desc *d)
{
    const uint64_t unit = rg_dtype_bits(d->dtype) / 8, group = d->group_size;

    if (d->kind == RG_WEIGHT_FLOAT)
        return 0;
    if (d->kind == RG_WEIGHT_FP8) /* one per block, the last ones may be partly filled */
        return ((d->rows + group - 1) / group) * ((d->cols + group - 1) / group) * unit;
    return d->rows * (d->cols / group) * unit;
}
