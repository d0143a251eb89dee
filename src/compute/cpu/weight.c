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
    if (d->cols % d->group_size != 0)
        return rg_fail(err, RG_E_BAD_DATA, "%s: %u columns are not a multiple of the group size %u",
                       d->name, d->cols, d->group_size);
    return RG_OK;
}

static enum rg_code check(const struct rg_weight_desc *d, struct rg_err *err)
{
    if (d->kind != RG_WEIGHT_FLOAT && d->kind != RG_WEIGHT_AFFINE)
        return rg_fail(
            err, RG_E_UNSUPPORTED,
            "%s: this build has no kernels for this kind of quantisation: use an affine or "
            "unquantised checkpoint",
            d->name);
    if (!float_dtype(d->dtype))
        return rg_fail(err, RG_E_UNSUPPORTED, "%s: floats must be F32, F16 or BF16", d->name);
    if (d->lead == 0 || d->rows == 0 || d->cols == 0)
        return rg_fail(err, RG_E_BAD_DATA, "%s: shape [%u,%u,%u] is empty", d->name, d->lead,
                       d->rows, d->cols);
    return d->kind == RG_WEIGHT_AFFINE ? check_affine(d, err) : RG_OK;
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

struct rg_matrix rg_weight_matrix(const struct rg_weight *w, uint32_t i)
{
    const struct rg_weight_desc *d = &w->desc;
    const uint32_t stored = w->view ? 0 : i; /* of a view all heads are in matrix 0 */
    size_t rows_before;
    struct rg_matrix m = {.dtype = d->dtype,
                          .rows = d->rows,
                          .cols = d->cols,
                          .bits = d->bits,
                          .group_size = d->group_size};

    assert(i < d->lead);
    if (w->view)
        rows_before = w->first_row + (size_t)i * w->row_stride;
    else
        rows_before = d->data_of ? 0 : (size_t)i * d->rows;
    m.data = (d->data_of ? d->data_of[stored] : d->data) + rows_before * rg_matrix_row_bytes(&m);
    if (m.bits != 0) {
        const size_t bytes = rows_before * rg_matrix_scale_bytes(&m);

        m.scales = (d->scales_of ? d->scales_of[stored] : d->scales) + bytes;
        m.biases = (d->biases_of ? d->biases_of[stored] : d->biases) + bytes;
    }
    return m;
}
