/* weight.c - weights as views into the mapped file; nothing is copied but single float rows. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "compute/cpu/backend.h"
#include "compute/cpu/floats.h"

static bool float_dtype(enum rg_dtype t)
{
    return t == RG_DTYPE_F32 || t == RG_DTYPE_F16 || t == RG_DTYPE_BF16;
}

static enum rg_code check_affine(const struct rg_weight_desc *d, struct rg_err *err)
{
    const bool bits_known = (d->bits >= 2 && d->bits <= 6) || d->bits == 8;
    const bool group_known = d->group_size == 32 || d->group_size == 64 || d->group_size == 128;

    if (!bits_known || !group_known)
        return rg_fail(
            err, RG_E_UNSUPPORTED,
            "%s: %u bits in groups of %u: there are kernels for 2, 3, 4, 5, 6 and 8 bits "
            "in groups of 32, 64 and 128",
            d->name, d->bits, d->group_size);
    return RG_OK;
}

/* The kinds with one width and one group size. */
static enum rg_code check_fixed(const struct rg_weight_desc *d, uint32_t bits, uint32_t group_size,
                                struct rg_err *err)
{
    if (d->bits != bits || d->group_size != group_size)
        return rg_fail(err, RG_E_UNSUPPORTED,
                       "%s: %s has %u bits in groups of %u, not %u in groups of %u", d->name,
                       rg_weight_kind_name(d->kind), bits, group_size, d->bits, d->group_size);
    return RG_OK;
}

static enum rg_code check_int4(const struct rg_weight_desc *d, struct rg_err *err)
{
    if (d->bits != 4 || d->group_size == 0 || d->group_size % 32 != 0)
        return rg_fail(err, RG_E_UNSUPPORTED,
                       "%s: int4 has 4 bits in groups of a multiple of 32, not %u in groups of %u",
                       d->name, d->bits, d->group_size);
    return RG_OK;
}

static enum rg_code check_kind(const struct rg_weight_desc *d, struct rg_err *err)
{
    switch (d->kind) {
    case RG_WEIGHT_FLOAT:
        return RG_OK;
    case RG_WEIGHT_AFFINE:
        return check_affine(d, err);
    case RG_WEIGHT_MXFP4:
        return check_fixed(d, 4, 32, err);
    case RG_WEIGHT_NVFP4:
        return check_fixed(d, 4, 16, err);
    case RG_WEIGHT_MXFP8:
        return check_fixed(d, 8, 32, err);
    case RG_WEIGHT_FP8:
        return check_fixed(d, 8, RG_FP8_BLOCK, err);
    case RG_WEIGHT_INT4:
        return check_int4(d, err);
    }
    return rg_fail(err, RG_E_UNSUPPORTED, "%s: a kind of quantisation without kernels (%d)",
                   d->name, (int)d->kind);
}

static enum rg_code check_dtype(const struct rg_weight_desc *d, struct rg_err *err)
{
    const bool bytes =
        d->kind == RG_WEIGHT_MXFP4 || d->kind == RG_WEIGHT_NVFP4 || d->kind == RG_WEIGHT_MXFP8;

    if (bytes && rg_dtype_bits(d->dtype) != 8)
        return rg_fail(err, RG_E_UNSUPPORTED, "%s: the scales of %s must be one byte each, not %s",
                       d->name, rg_weight_kind_name(d->kind), rg_dtype_name(d->dtype));
    if (!bytes && !float_dtype(d->dtype))
        return rg_fail(err, RG_E_UNSUPPORTED, "%s: floats must be F32, F16 or BF16, not %s",
                       d->name, rg_dtype_name(d->dtype));
    return RG_OK;
}

static enum rg_code check(const struct rg_weight_desc *d, struct rg_err *err)
{
    const bool whole_groups = d->kind != RG_WEIGHT_FLOAT && d->kind != RG_WEIGHT_FP8;
    enum rg_code code = check_kind(d, err);

    if (code == RG_OK)
        code = check_dtype(d, err);
    if (code != RG_OK)
        return code;
    if (d->lead == 0 || d->rows == 0 || d->cols == 0)
        return rg_fail(err, RG_E_BAD_DATA, "%s: shape [%u,%u,%u] is empty", d->name, d->lead,
                       d->rows, d->cols);
    if (whole_groups && d->cols % d->group_size != 0)
        return rg_fail(err, RG_E_BAD_DATA, "%s: %u columns are not a multiple of the group size %u",
                       d->name, d->cols, d->group_size);
    return RG_OK;
}

enum rg_code rg_weight_open(struct rg_weight **out, struct rg_backend *b,
                            const struct rg_weight_desc *desc, struct rg_err *err)
{
    struct rg_weight *w;
    enum rg_code code;

    *out = NULL;
    code = check(desc, err);
    if (code == RG_OK)
        code = rg_backend_need_scratch(b, rg_kernels_scratch(desc->cols), err);
    if (code != RG_OK)
        return code;
    w = rg_calloc(1, sizeof(*w));
    if (!w)
        return rg_fail(err, RG_E_NOMEM, "%s: out of memory", desc->name);
    w->desc = *desc;
    w->desc.name = NULL;
    if (desc->kind == RG_WEIGHT_FLOAT) {
        w->desc.bits = 0;
        w->desc.group_size = 0;
    }
    if (desc->kind == RG_WEIGHT_FLOAT && desc->lead == 1 && desc->rows == 1) {
        w->vector = rg_alloc((size_t)desc->cols * sizeof(*w->vector));
        if (!w->vector) {
            rg_free(w);
            return rg_fail(err, RG_E_NOMEM, "%s: out of memory", desc->name);
        }
        for (uint32_t c = 0; c < desc->cols; c++)
            w->vector[c] =
                rg_load_float(desc->data_of ? desc->data_of[0] : desc->data, desc->dtype, c);
    }
    *out = w;
    return RG_OK;
}

enum rg_code rg_weight_head_rows(struct rg_weight **out, const struct rg_weight *w,
                                 uint32_t n_heads, uint32_t row_begin, uint32_t n_rows,
                                 struct rg_err *err)
{
    struct rg_weight *v;

    assert(w->desc.lead == 1 && n_heads > 0 && w->desc.rows % n_heads == 0);
    assert(n_rows > 0 && row_begin + n_rows <= w->desc.rows / n_heads);
    *out = NULL;
    v = rg_calloc(1, sizeof(*v));
    if (!v)
        return rg_fail(err, RG_E_NOMEM, "weight view: out of memory");
    *v = *w;
    v->vector = NULL;
    v->view = true;
    v->desc.lead = n_heads;
    v->desc.rows = n_rows;
    v->first_row = row_begin;
    v->row_stride = w->desc.rows / n_heads;
    *out = v;
    return RG_OK;
}

void rg_weight_close(struct rg_weight *w)
{
    if (!w)
        return;
    rg_free(w->vector);
    rg_free(w);
}

uint32_t rg_weight_rows(const struct rg_weight *w)
{
    return w->desc.rows;
}

static size_t fp8_lines(uint32_t rows)
{
    return ((size_t)rows + RG_FP8_BLOCK - 1) / RG_FP8_BLOCK;
}

/* What multiplies a product of matrix i: mlx's global_scale / (448 * 6), the largest values. */
static float factor_of(const struct rg_weight_desc *d, uint32_t i)
{
    return d->globals ? rg_load_float(d->globals, RG_DTYPE_F32, i) / 2688.0f : 1.0f;
}

struct rg_matrix rg_weight_matrix(const struct rg_weight *w, uint32_t i)
{
    const struct rg_weight_desc *d = &w->desc;
    const uint32_t stored = w->view ? 0 : i; /* of a view all heads are in matrix 0 */
    size_t rows_before, scales_before;
    struct rg_matrix m = {.kind = d->kind,
                          .dtype = d->dtype,
                          .rows = d->rows,
                          .cols = d->cols,
                          .bits = d->bits,
                          .group_size = d->group_size,
                          .factor = factor_of(d, stored)};

    assert(i < d->lead);
    if (w->view)
        rows_before = w->first_row + (size_t)i * w->row_stride;
    else
        rows_before = d->data_of ? 0 : (size_t)i * d->rows;
    m.data = (d->data_of ? d->data_of[stored] : d->data) + rows_before * rg_matrix_row_bytes(&m);
    if (d->kind == RG_WEIGHT_FLOAT)
        return m;
    scales_before = rows_before * rg_matrix_scale_bytes(&m);
    if (d->kind == RG_WEIGHT_FP8) { /* the blocks of a view are those of the whole matrix */
        m.first_row = w->view ? (uint32_t)rows_before : 0;
        scales_before =
            w->view || d->data_of ? 0 : (size_t)i * fp8_lines(d->rows) * rg_matrix_scale_bytes(&m);
    }
    m.scales = (d->scales_of ? d->scales_of[stored] : d->scales) + scales_before;
    if (d->kind == RG_WEIGHT_AFFINE)
        m.biases = (d->biases_of ? d->biases_of[stored] : d->biases) + scales_before;
    return m;
}
