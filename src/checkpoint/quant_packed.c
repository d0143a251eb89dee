/* quant_packed.c - the formats of other programs that are read in place.
 *
 * compressed-tensors "pack-quantized" (4 bit, symmetric) and "mxfp4-pack-quantized", and DeepSeek's
 * FP8 with one scale per block of 128 x 128.  Shapes are exact here too: rows and inputs are known
 * from the architecture. */
#include <inttypes.h>
#include <string.h>

#include "checkpoint/quant.h"

enum { FP8_BLOCK = 128 };

static bool is_matrix(const struct rg_tensor_info *t, uint64_t rows, uint64_t cols)
{
    return t->rank == 2 && t->shape[0] == rows && t->shape[1] == cols;
}

static enum rg_code expected(const struct rg_subject *s, const struct rg_tensor_info *t,
                             const char *dtype, uint64_t rows, uint64_t cols)
{
    char found[RG_SHAPE_TEXT];

    return rg_fail(s->err, RG_E_BAD_DATA,
                   "%s: '%s' is %s %s, %s [%" PRIu64 ", %" PRIu64 "] expected for [%" PRIu32
                   ", %" PRIu32 "] from config.json",
                   rg_subject_file(s, t), t->name, rg_dtype_name(t->dtype), rg_shape_text(t, found),
                   dtype, rows, cols, s->spec->rows, s->spec->cols);
}

/* These formats are stored as single matrices: experts one by one. */
static enum rg_code check_single(const struct rg_subject *s, const struct rg_tensor_info *t)
{
    if (s->lead == 0)
        return RG_OK;
    return rg_fail(s->err, RG_E_UNSUPPORTED,
                   "%s: '%s': a stack of %" PRIu32 " matrices is not supported in this format",
                   rg_subject_file(s, t), t->name, s->lead);
}

/* ---- compressed-tensors ------------------------------------------------------------------- */

static int64_t integer_at(const struct rg_tensor_info *t, const uint8_t *data, size_t i)
{
    int32_t narrow;
    int64_t wide;

    if (t->dtype == RG_DTYPE_I32) {
        memcpy(&narrow, data + i * sizeof narrow, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, data + i * sizeof wide, sizeof wide);
    return wide;
}

/* weight_shape says what the architecture says; its numbers are there when the file is mapped. */
static enum rg_code check_weight_shape(const struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_tensor_info *t = s->parts.shape;
    char found[RG_SHAPE_TEXT];

    if (!t)
        return RG_OK;
    if ((t->dtype != RG_DTYPE_I32 && t->dtype != RG_DTYPE_I64) || t->rank != 1 || t->shape[0] != 2)
        return rg_fail(s->err, RG_E_BAD_DATA, "%s: '%s' is %s %s, I32 or I64 [2] expected",
                       rg_subject_file(s, t), t->name, rg_dtype_name(t->dtype),
                       rg_shape_text(t, found));
    d->bytes += t->bytes;
    rg_subject_use(s, t);

    const uint8_t *data = rg_tensor_bytes(s->r->tensors, t);

    if (!data || s->not_inside)
        return RG_OK;

    const int64_t rows = integer_at(t, data, 0), cols = integer_at(t, data, 1);

    if (rows == (int64_t)s->spec->rows && cols == (int64_t)s->spec->cols)
        return RG_OK;
    return rg_fail(s->err, RG_E_BAD_DATA,
                   "%s: '%s' says [%" PRId64 ", %" PRId64 "], [%" PRIu32 ", %" PRIu32
                   "] expected from config.json",
                   rg_subject_file(s, t), t->name, rows, cols, s->spec->rows, s->spec->cols);
}

static enum rg_code int4_format(const struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_tensor_info *w = s->parts.packed, *sc = s->parts.scale;
    const uint64_t rows = s->spec->rows, cols = s->spec->cols;
    char found[RG_SHAPE_TEXT];

    if (w->dtype != RG_DTYPE_I32 || cols % 8 != 0 || !is_matrix(w, rows, cols / 8))
        return expected(s, w, "I32", rows, cols / 8);

    const uint64_t groups = sc->rank == 2 ? sc->shape[1] : 0;
    const uint64_t group = groups > 0 && cols % groups == 0 ? cols / groups : 0;

    if (!rg_dtype_is_float(sc->dtype) || sc->rank != 2 || sc->shape[0] != rows ||
        (group != 32 && group != 64 && group != 128))
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' is %s %s; BF16, F16 or F32 [%" PRIu64 ", %" PRIu64
                       " / group] expected, with groups of 32, 64 or 128",
                       rg_subject_file(s, sc), sc->name, rg_dtype_name(sc->dtype),
                       rg_shape_text(sc, found), rows, cols);
    d->kind = RG_WEIGHT_INT4;
    d->group_size = (uint32_t)group;
    return RG_OK;
}

static enum rg_code mxfp4_format(const struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_tensor_info *w = s->parts.packed, *sc = s->parts.scale;
    const uint64_t rows = s->spec->rows, cols = s->spec->cols;

    if (sc->dtype == RG_DTYPE_F8_E4M3)
        return rg_fail(s->err, RG_E_UNSUPPORTED,
                       "%s: '%s' means the format nvfp4-pack-quantized, which is not supported; "
                       "convert the model with mlx_lm.convert",
                       rg_subject_file(s, sc), sc->name);
    if (cols % 32 != 0 || !is_matrix(w, rows, cols / 2))
        return expected(s, w, "U8", rows, cols / 2);
    if ((sc->dtype != RG_DTYPE_U8 && sc->dtype != RG_DTYPE_F8_E8M0) ||
        !is_matrix(sc, rows, cols / 32))
        return expected(s, sc, "U8", rows, cols / 32);
    d->kind = RG_WEIGHT_MXFP4;
    d->group_size = 32;
    return RG_OK;
}

enum rg_code rg_describe_packed(const struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_tensor_info *w = s->parts.packed, *sc = s->parts.scale;
    enum rg_code code = check_single(s, w);

    if (code)
        return code;
    if (!sc)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' is there, '%s.weight_scale' is not; the checkpoint is incomplete",
                       rg_subject_file(s, w), w->name, s->path);
    d->bits = 4;
    code = w->dtype == RG_DTYPE_U8 ? mxfp4_format(s, d) : int4_format(s, d);
    if (!code)
        code = rg_subject_check_config(s, d);
    if (code)
        return code;
    d->dtype = d->kind == RG_WEIGHT_MXFP4 ? RG_DTYPE_U8 : sc->dtype;
    d->data = rg_tensor_bytes(s->r->tensors, w);
    d->scales = rg_tensor_bytes(s->r->tensors, sc);
    d->bytes = w->bytes + sc->bytes;
    rg_subject_use(s, w);
    rg_subject_use(s, sc);
    return check_weight_shape(s, d);
}

/* ---- FP8 ---------------------------------------------------------------------------------- */

/* The scales: weight_scale_inv, or compressed-tensors' weight_scale if it is one per block, too. */
static enum rg_code find_fp8_scales(const struct rg_subject *s, uint64_t down, uint64_t across,
                                    const struct rg_tensor_info **out)
{
    const struct rg_tensor_info *w = s->parts.weight, *sc = s->parts.scale_inv;

    if (w->dtype == RG_DTYPE_F8_E5M2)
        return rg_fail(s->err, RG_E_UNSUPPORTED, "%s: '%s' is F8_E5M2; of FP8 only F8_E4M3 is read",
                       rg_subject_file(s, w), w->name);
    if (w->dtype != RG_DTYPE_F8_E4M3)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' has a weight_scale_inv, so it must be F8_E4M3, it is %s",
                       rg_subject_file(s, w), w->name, rg_dtype_name(w->dtype));
    if (!sc && s->parts.scale) {
        sc = s->parts.scale;
        if (!is_matrix(sc, down, across))
            return rg_fail(s->err, RG_E_UNSUPPORTED,
                           "%s: '%s' means FP8 with one scale per tensor or row, which is not "
                           "supported; FP8 is read with one per block of 128 x 128",
                           rg_subject_file(s, sc), sc->name);
    }
    if (!sc)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' is F8_E4M3, but there is no '%s.weight_scale_inv'; the "
                       "checkpoint is incomplete",
                       rg_subject_file(s, w), w->name, s->path);
    if (sc->dtype == RG_DTYPE_U8 || sc->dtype == RG_DTYPE_F8_E8M0)
        return rg_fail(s->err, RG_E_UNSUPPORTED,
                       "%s: '%s' is %s: FP8 with power-of-two scales is not supported; convert "
                       "the model with mlx_lm.convert",
                       rg_subject_file(s, sc), sc->name, rg_dtype_name(sc->dtype));
    *out = sc;
    return RG_OK;
}

enum rg_code rg_describe_fp8(const struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_tensor_info *w = s->parts.weight, *sc = NULL;
    const uint64_t rows = s->spec->rows, cols = s->spec->cols;
    const uint64_t down = (rows + FP8_BLOCK - 1) / FP8_BLOCK;
    const uint64_t across = (cols + FP8_BLOCK - 1) / FP8_BLOCK;
    enum rg_code code = s->spec->vector ? RG_OK : check_single(s, w);

    if (!code)
        code = find_fp8_scales(s, down, across, &sc);
    if (code)
        return code;
    if (!is_matrix(w, rows, cols))
        return expected(s, w, "F8_E4M3", rows, cols);
    if (!rg_dtype_is_float(sc->dtype) || !is_matrix(sc, down, across))
        return expected(s, sc, "F32, BF16 or F16", down, across);
    d->kind = RG_WEIGHT_FP8;
    d->bits = 8;
    d->group_size = FP8_BLOCK;
    code = rg_subject_check_config(s, d);
    if (code)
        return code;
    d->dtype = sc->dtype;
    d->data = rg_tensor_bytes(s->r->tensors, w);
    d->scales = rg_tensor_bytes(s->r->tensors, sc);
    d->bytes = w->bytes + sc->bytes;
    rg_subject_use(s, w);
    rg_subject_use(s, sc);
    return RG_OK;
}
