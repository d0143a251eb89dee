/* quant.c - the tensors of one module, and their exact format.
 *
 * in_features is known from the architecture, so bits = 32 * words / in and group = in / groups are
 * exact; without it shapes cannot tell 3 bits in groups of 64 from 6 bits in groups of 32.
 * config.json's entry must agree; docs/QUANTISATION.md has the rules. */
#include "checkpoint/quant.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

const char *rg_subject_file(const struct rg_subject *s, const struct rg_tensor_info *t)
{
    return rg_tensor_set_file(s->r->tensors, t->file)->path;
}

void rg_subject_use(const struct rg_subject *s, const struct rg_tensor_info *t)
{
    s->r->owner[t - rg_tensor_set_at(s->r->tensors, 0)] = s->spec->layer;
}

const char *rg_shape_text(const struct rg_tensor_info *t, char out[RG_SHAPE_TEXT])
{
    size_t used = 1;

    out[0] = '[';
    for (uint32_t i = 0; i < t->rank; i++) {
        const int n =
            snprintf(out + used, RG_SHAPE_TEXT - used, "%s%" PRIu64, i ? ", " : "", t->shape[i]);

        if (n < 0 || (size_t)n >= RG_SHAPE_TEXT - 2 - used)
            break;
        used += (size_t)n;
    }
    out[used] = ']';
    out[used + 1] = '\0';
    return out;
}

bool rg_dtype_is_float(enum rg_dtype t)
{
    return t == RG_DTYPE_F32 || t == RG_DTYPE_F16 || t == RG_DTYPE_BF16;
}

/* ---- the tensors of a path ---------------------------------------------------------------- */

static const struct {
    const char *suffix;
    size_t at; /* offset in struct rg_parts */
} part_names[] = {
    {"weight", offsetof(struct rg_parts, weight)},
    {"scales", offsetof(struct rg_parts, scales)},
    {"biases", offsetof(struct rg_parts, biases)},
    {"global_scale", offsetof(struct rg_parts, global_scale)},
    {"weight_packed", offsetof(struct rg_parts, packed)},
    {"weight_scale", offsetof(struct rg_parts, scale)},
    {"weight_shape", offsetof(struct rg_parts, shape)},
    {"weight_scale_inv", offsetof(struct rg_parts, scale_inv)},
};

/* What other programs store beside a weight.  Leaving one out would change the model. */
static const struct {
    const char *suffix, *means;
} foreign_names[] = {
    {"weight_zero_point", "asymmetric codes"},
    {"weight_g_idx", "columns in activation order"},
    {"weight_global_scale", "the format nvfp4-pack-quantized"},
    {"input_global_scale", "quantised inputs"},
    {"input_scale", "quantised inputs"},
    {"weight_scale_2", "ModelOpt's NVFP4"},
    {"qweight", "AWQ or GPTQ"},
    {"weight.absmax", "bitsandbytes"},
    {"SCB", "bitsandbytes"},
};

static void take_part(struct rg_parts *p, const struct rg_tensor_info *t, const char *suffix)
{
    for (size_t i = 0; i < sizeof part_names / sizeof part_names[0]; i++) {
        if (strcmp(part_names[i].suffix, suffix) == 0) {
            memcpy((char *)p + part_names[i].at, &t, sizeof t);
            return;
        }
    }
    for (size_t i = 0; i < sizeof foreign_names / sizeof foreign_names[0]; i++) {
        if (strcmp(foreign_names[i].suffix, suffix) == 0) {
            p->foreign = t;
            p->foreign_means = foreign_names[i].means;
        }
    }
}

static const struct rg_tensor_info *find(const struct rg_subject *s, const char *suffix)
{
    char name[256];

    (void)snprintf(name, sizeof name, "%s%s", s->path, suffix);
    return rg_tensor_set_find(s->r->tensors, name);
}

/* The set is in order of names, so all of PATH.* stand side by side: one search finds them. */
void rg_subject_find_parts(struct rg_subject *s)
{
    const struct rg_tensor_set *set = s->r->tensors;
    const size_t len = strlen(s->path);
    const struct rg_tensor_info *t, *near;
    uint32_t i;

    memset(&s->parts, 0, sizeof s->parts);
    if (s->spec->vector) {
        s->parts.weight = find(s, s->spec->bare ? "" : ".weight");
        return;
    }
    near = find(s, ".weight");
    if (!near)
        near = find(s, ".weight_packed");
    if (!near)
        return;
    i = (uint32_t)(near - rg_tensor_set_at(set, 0));
    while (i > 0 && strncmp(rg_tensor_set_at(set, i - 1)->name, s->path, len) == 0 &&
           rg_tensor_set_at(set, i - 1)->name[len] == '.')
        i--;
    for (; (t = rg_tensor_set_at(set, i)) != NULL; i++) {
        if (strncmp(t->name, s->path, len) != 0 || t->name[len] != '.')
            break;
        take_part(&s->parts, t, t->name + len + 1);
    }
}

/* The axes before the last one: [lead,] rows; a vector has none. */
static bool outer_axes_match(const struct rg_subject *s, const struct rg_tensor_info *t)
{
    const uint32_t at = s->lead > 0 ? 1 : 0;

    if (s->spec->vector)
        return t->rank == 1;
    return t->rank == at + 2 && (at == 0 || t->shape[0] == s->lead) &&
           t->shape[at] == s->spec->rows;
}

static enum rg_code wrong_shape(const struct rg_subject *s, const struct rg_tensor_info *t,
                                const char *suffix, const char *last)
{
    char found[RG_SHAPE_TEXT], lead[24] = "";

    if (s->lead > 0)
        (void)snprintf(lead, sizeof lead, "%" PRIu32 ", ", s->lead);
    if (s->spec->vector)
        return rg_fail(s->err, RG_E_BAD_DATA, "%s: '%s%s' is %s, [%s] expected from config.json",
                       rg_subject_file(s, t), s->path, suffix, rg_shape_text(t, found), last);
    return rg_fail(
        s->err, RG_E_BAD_DATA, "%s: '%s%s' is %s, [%s%" PRIu32 ", %s] expected from config.json",
        rg_subject_file(s, t), s->path, suffix, rg_shape_text(t, found), lead, s->spec->rows, last);
}

/* ---- float modules ------------------------------------------------------------------------ */

static enum rg_code describe_float(const struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_tensor_info *w = s->parts.weight;
    char cols[24];

    if (s->entry && !s->entry->disabled)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: quantization lists '%s', but there is no '%s."
                       "scales'; the checkpoint is incomplete, or the entry should be false",
                       s->r->config_file, s->path, s->path);
    if (w->dtype == RG_DTYPE_U32 || s->parts.biases)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' looks quantised (weight %s%s), but there is "
                       "no '%s.scales'",
                       rg_subject_file(s, w), s->path, rg_dtype_name(w->dtype),
                       s->parts.biases ? ", with .biases" : "", s->path);
    if (!rg_dtype_is_float(w->dtype))
        return rg_fail(s->err, RG_E_UNSUPPORTED,
                       "%s: '%s' is %s; BF16, F16, F32 or MLX's quantised "
                       "U32 expected",
                       rg_subject_file(s, w), w->name, rg_dtype_name(w->dtype));
    (void)snprintf(cols, sizeof cols, "%" PRIu32, s->spec->cols);
    if (!outer_axes_match(s, w) || w->shape[w->rank - 1] != s->spec->cols)
        return wrong_shape(s, w, s->spec->bare ? "" : ".weight", cols);
    d->kind = RG_WEIGHT_FLOAT;
    d->dtype = w->dtype;
    d->data = rg_tensor_bytes(s->r->tensors, w);
    d->bytes = w->bytes;
    rg_subject_use(s, w);
    return RG_OK;
}

/* ---- MLX's quantised modules --------------------------------------------------------------- */

static enum rg_code check_parts(const struct rg_subject *s)
{
    const struct rg_tensor_info *w = s->parts.weight, *sc = s->parts.scales, *b = s->parts.biases;
    char x[RG_SHAPE_TEXT], y[RG_SHAPE_TEXT];

    if (w->dtype != RG_DTYPE_U32)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' has .scales, so its weight must be U32, it "
                       "is %s",
                       rg_subject_file(s, w), s->path, rg_dtype_name(w->dtype));
    if (!outer_axes_match(s, w))
        return wrong_shape(s, w, ".weight", "words");
    if (!outer_axes_match(s, sc))
        return wrong_shape(s, sc, ".scales", "groups");
    if (!b && sc->dtype != RG_DTYPE_U8)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s.biases' is missing (scales are %s, so the "
                       "format is affine)",
                       rg_subject_file(s, sc), s->path, rg_dtype_name(sc->dtype));
    if (!b)
        return RG_OK;
    if (!rg_dtype_is_float(sc->dtype) || b->dtype != sc->dtype)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' has %s scales and %s biases; both must be "
                       "the same of BF16, F16, F32",
                       rg_subject_file(s, sc), s->path, rg_dtype_name(sc->dtype),
                       rg_dtype_name(b->dtype));
    if (b->rank != sc->rank || memcmp(b->shape, sc->shape, sizeof b->shape[0] * b->rank) != 0)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' has scales %s and biases %s; they must be "
                       "equal",
                       rg_subject_file(s, b), s->path, rg_shape_text(sc, x), rg_shape_text(b, y));
    return RG_OK;
}

/* Without biases and with U8 scales the product words * 32 / groups names the format. */
static bool block_format(uint64_t words, uint64_t groups, uint64_t in, struct rg_weight_desc *d)
{
    static const struct {
        uint64_t product;
        enum rg_weight_kind kind;
        uint32_t bits, group_size;
    } formats[] = {
        {128, RG_WEIGHT_MXFP4, 4, 32}, {64, RG_WEIGHT_NVFP4, 4, 16}, {256, RG_WEIGHT_MXFP8, 8, 32}};

    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (groups > 0 && words * 32 == groups * formats[i].product &&
            groups * formats[i].group_size == in) {
            d->kind = formats[i].kind;
            d->bits = formats[i].bits;
            d->group_size = formats[i].group_size;
            return true;
        }
    }
    return false;
}

static bool affine_format(uint64_t words, uint64_t groups, uint64_t in, struct rg_weight_desc *d)
{
    if (groups == 0 || words * 32 % in != 0 || in % groups != 0)
        return false;

    const uint64_t bits = words * 32 / in, group = in / groups;

    if (bits < 2 || bits > 8 || bits == 7 || (group != 32 && group != 64 && group != 128))
        return false;
    d->kind = RG_WEIGHT_AFFINE;
    d->bits = (uint32_t)bits;
    d->group_size = (uint32_t)group;
    return true;
}

/* One F32 per matrix, of nvfp4 alone; the entry of config.json must promise it. */
static enum rg_code take_global_scale(const struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_tensor_info *g = s->parts.global_scale;
    const bool promised = s->entry && s->entry->global_scale;
    char found[RG_SHAPE_TEXT];

    if (!g && !promised)
        return RG_OK;
    if (!g)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: quantization says global_scale for '%s', but there is no "
                       "'%s.global_scale'; the checkpoint is incomplete",
                       s->r->config_file, s->path, s->path);
    if (d->kind != RG_WEIGHT_NVFP4)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' stands beside a weight that is %s; only nvfp4 has a global scale",
                       rg_subject_file(s, g), g->name, rg_weight_kind_name(d->kind));
    if (s->entry && !s->entry->globals && !promised)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: quantization lists '%s' without \"global_scale\": true, but there is "
                       "'%s'",
                       s->r->config_file, s->path, g->name);
    if (s->lead == 0 || g->dtype != RG_DTYPE_F32 || g->rank != 1 || g->shape[0] != s->lead)
        return rg_fail(
            s->err, RG_E_BAD_DATA, "%s: '%s' is %s %s; F32, one per expert of a stack, expected",
            rg_subject_file(s, g), g->name, rg_dtype_name(g->dtype), rg_shape_text(g, found));
    d->globals = rg_tensor_bytes(s->r->tensors, g);
    d->bytes += g->bytes;
    rg_subject_use(s, g);
    return RG_OK;
}

static enum rg_code describe_quantised(const struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_tensor_info *w = s->parts.weight, *sc = s->parts.scales, *b = s->parts.biases;
    enum rg_code code = check_parts(s);

    if (code)
        return code;

    const uint64_t words = w->shape[w->rank - 1], groups = sc->shape[sc->rank - 1];
    const bool known = words > 0 && words <= RG_LIMIT_DIM &&
                       (b ? affine_format(words, groups, s->spec->cols, d)
                          : block_format(words, groups, s->spec->cols, d));

    if (!known)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s': %" PRIu64 " words and %" PRIu64
                       " groups per row do not fit %" PRIu32
                       " inputs in any format (%s: bits = 32 * "
                       "words / inputs, group = inputs / groups)",
                       rg_subject_file(s, w), s->path, words, groups, s->spec->cols,
                       b ? "affine has bits 2 3 4 5 6 8, groups 32 64 128"
                         : "mxfp4 is 4/32, nvfp4 4/16, mxfp8 8/32");
    code = rg_subject_check_config(s, d);
    if (code)
        return code;
    d->dtype = sc->dtype;
    d->data = rg_tensor_bytes(s->r->tensors, w);
    d->scales = rg_tensor_bytes(s->r->tensors, sc);
    d->biases = b ? rg_tensor_bytes(s->r->tensors, b) : NULL;
    d->bytes = w->bytes + sc->bytes + (b ? b->bytes : 0);
    rg_subject_use(s, w);
    rg_subject_use(s, sc);
    if (b)
        rg_subject_use(s, b);
    return take_global_scale(s, d);
}

/* ---- what config.json says ----------------------------------------------------------------- */

static enum rg_code conflict(const struct rg_subject *s, const struct rg_quant_entry *e,
                             const struct rg_weight_desc *d)
{
    const struct rg_parts *p = &s->parts;
    const char *mode = rg_weight_kind_name(d->kind);
    char counts[80] = "", right[32] = "";

    if (p->scales)
        (void)snprintf(counts, sizeof counts, "%" PRIu64 " words and %" PRIu64 " groups for ",
                       p->weight->shape[p->weight->rank - 1],
                       p->scales->shape[p->scales->rank - 1]);
    if (d->kind != RG_WEIGHT_AFFINE)
        (void)snprintf(right, sizeof right, ", \"mode\": \"%s\"", mode);
    return rg_fail(s->err, RG_E_BAD_DATA,
                   "%s: quantization says %u-bit group %u %s for '%s' (%s), "
                   "its tensors are %u-bit group %u %s (%s%" PRIu32 " inputs); right would be "
                   "\"%s\": {\"group_size\": %u, \"bits\": %u%s}",
                   s->r->config_file, e->bits, e->group_size, e->mode, s->path,
                   e == s->entry ? "its own entry" : "the global values", d->bits, d->group_size,
                   mode, counts, s->spec->cols, s->path, d->group_size, d->bits, right);
}

/* A module that "quantization" does not list is what its tensors are, as in mlx-lm. */
static enum rg_code check_entry(const struct rg_subject *s, const struct rg_weight_desc *d)
{
    const struct rg_quant_entry *e = s->entry;
    const char *mode = rg_weight_kind_name(d->kind);

    if (s->spec->shapes_win || !e)
        return RG_OK;
    if (e->disabled)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: quantization says false for '%s', but it is "
                       "quantised: %u-bit group %u %s; right would be {\"group_size\": %u, "
                       "\"bits\": %u}",
                       s->r->config_file, s->path, d->bits, d->group_size, mode, d->group_size,
                       d->bits);
    if (e->globals)
        e = &s->r->config->quant.global;
    if (e->bits == d->bits && e->group_size == d->group_size && strcmp(e->mode, mode) == 0)
        return RG_OK;
    return conflict(s, e, d);
}

static const char *method_name(enum rg_quant_method m)
{
    static const char *const names[] = {"none", "quantization", "compressed-tensors", "fp8"};

    return names[m];
}

enum rg_code rg_subject_check_config(const struct rg_subject *s, const struct rg_weight_desc *d)
{
    const struct rg_quant_config *q = &s->r->config->quant;
    const bool packed = s->parts.packed != NULL;
    const bool compressed = packed || (d->kind == RG_WEIGHT_FP8 && !s->parts.scale_inv);
    const enum rg_quant_method fits = compressed                 ? RG_QUANT_COMPRESSED
                                      : d->kind == RG_WEIGHT_FP8 ? RG_QUANT_FP8
                                                                 : RG_QUANT_MLX;

    if (s->spec->never_quantised)
        return rg_fail(s->err, RG_E_UNSUPPORTED,
                       "%s: '%s' is quantised; this architecture's router must be float",
                       rg_subject_file(s, packed ? s->parts.packed : s->parts.weight), s->path);
    if (q->method == RG_QUANT_NONE)
        return RG_OK;
    if (q->method == RG_QUANT_MLX)
        return check_entry(s, d);
    if (q->method != fits)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: quantization_config has quant_method '%s', but '%s' is %u-bit group "
                       "%u %s: the files are of two checkpoints",
                       s->r->config_file, method_name(q->method), s->path, d->bits, d->group_size,
                       rg_weight_kind_name(d->kind));
    if (rg_quant_ignores(q, s->path))
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: quantization_config leaves '%s' out, but it is quantised: %u-bit "
                       "group %u %s",
                       s->r->config_file, s->path, d->bits, d->group_size,
                       rg_weight_kind_name(d->kind));
    if (q->method == RG_QUANT_COMPRESSED &&
        !rg_quant_has_group(q, rg_weight_kind_name(d->kind), d->group_size))
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' is %u-bit group %u %s, which no entry of config_groups is",
                       s->r->config_file, s->path, d->bits, d->group_size,
                       rg_weight_kind_name(d->kind));
    return RG_OK;
}

/* ---- one module --------------------------------------------------------------------------- */

static enum rg_code no_weight(const struct rg_subject *s)
{
    for (size_t i = 0; i < sizeof foreign_names / sizeof foreign_names[0]; i++) {
        char suffix[40];

        (void)snprintf(suffix, sizeof suffix, ".%s", foreign_names[i].suffix);

        const struct rg_tensor_info *t = s->spec->bare ? NULL : find(s, suffix);

        if (t)
            return rg_fail(s->err, RG_E_UNSUPPORTED,
                           "%s: '%s' means %s, which is not supported; take the checkpoint that "
                           "it was made from, or one that mlx_lm.convert wrote",
                           rg_subject_file(s, t), t->name, foreign_names[i].means);
    }
    return rg_fail(s->err, RG_E_BAD_DATA,
                   "%s: tensor '%s%s' is missing; a %s has it (is a shard "
                   "missing, or config.json of another model?)",
                   s->r->config_file, s->path, s->spec->bare ? "" : ".weight",
                   s->r->config->model_type);
}

static enum rg_code describe(struct rg_subject *s, struct rg_weight_desc *d)
{
    const struct rg_parts *p = &s->parts;

    rg_subject_find_parts(s);
    if (p->foreign)
        return rg_fail(s->err, RG_E_UNSUPPORTED,
                       "%s: '%s' means %s, which is not supported; take the checkpoint that it "
                       "was made from, or one that mlx_lm.convert wrote",
                       rg_subject_file(s, p->foreign), p->foreign->name, p->foreign_means);
    if (p->packed)
        return rg_describe_packed(s, d);
    if (!p->weight)
        return no_weight(s);
    if (p->scale_inv || p->weight->dtype == RG_DTYPE_F8_E4M3 ||
        p->weight->dtype == RG_DTYPE_F8_E5M2)
        return rg_describe_fp8(s, d);
    if (p->scales)
        return describe_quantised(s, d);
    return describe_float(s, d);
}

/* ---- experts stored one by one ------------------------------------------------------------ */

static bool same_format(const struct rg_weight_desc *a, const struct rg_weight_desc *b)
{
    return a->kind == b->kind && a->bits == b->bits && a->group_size == b->group_size &&
           a->dtype == b->dtype;
}

struct expert_tables {
    const uint8_t **data, **scales, **biases;
};

static enum rg_code make_tables(struct rg_resolver *r, uint32_t n, struct expert_tables *t,
                                struct rg_err *err)
{
    t->data = rg_arena_calloc(r->arena, n, sizeof t->data[0]);
    t->scales = rg_arena_calloc(r->arena, n, sizeof t->scales[0]);
    t->biases = rg_arena_calloc(r->arena, n, sizeof t->biases[0]);
    if (!t->data || !t->scales || !t->biases)
        return rg_fail(err, RG_E_NOMEM, "no memory for the addresses of %" PRIu32 " experts", n);
    return RG_OK;
}

static enum rg_code describe_expert(struct rg_subject *s, const struct rg_quant_entry *shared,
                                    const struct rg_weight_desc *first, struct rg_weight_desc *d)
{
    const struct rg_quant_config *q = &s->r->config->quant;
    const struct rg_quant_entry *own = q->n_entries ? rg_quant_find(q, s->path) : NULL;

    s->entry = own ? own : shared;

    const enum rg_code code = describe(s, d);

    if (code || same_format(first, d) || first->bytes == 0)
        return code;
    return rg_fail(s->err, RG_E_UNSUPPORTED,
                   "%s: '%s' is %s %u-bit group %u %s, expert 0 is "
                   "%s %u-bit group %u %s; the experts of a layer must be alike",
                   rg_subject_file(s, s->parts.packed ? s->parts.packed : s->parts.weight), s->path,
                   rg_weight_kind_name(d->kind), d->bits, d->group_size, rg_dtype_name(d->dtype),
                   rg_weight_kind_name(first->kind), first->bits, first->group_size,
                   rg_dtype_name(first->dtype));
}

static enum rg_code describe_experts(struct rg_subject *s, const char *stacked,
                                     struct rg_weight_desc *d)
{
    const struct rg_quant_entry *shared = rg_quant_find(&s->r->config->quant, stacked);
    struct expert_tables t;
    char path[RG_EXPERT_PATH_BYTES];
    enum rg_code code = make_tables(s->r, s->spec->lead, &t, s->err);
    uint64_t bytes = 0;

    s->lead = 0;
    for (uint32_t e = 0; e < s->spec->lead && !code; e++) {
        struct rg_weight_desc one = {0};

        s->not_inside = e > 0;
        s->path = rg_subject_expert_path(s, e, path);
        code = describe_expert(s, shared, d, &one);
        if (e == 0)
            *d = one;
        t.data[e] = one.data;
        t.scales[e] = one.scales;
        t.biases[e] = one.biases;
        bytes += one.bytes;
    }
    d->bytes = bytes;
    d->data = d->scales = d->biases = NULL;
    d->data_of = t.data;
    d->scales_of = d->kind == RG_WEIGHT_FLOAT ? NULL : t.scales;
    d->biases_of = d->kind == RG_WEIGHT_AFFINE ? t.biases : NULL;
    return code;
}

/* Without a missing shard everything must be there, and describing it says what is not. */
static enum rg_code describe_if_there(struct rg_subject *s, struct rg_module *out)
{
    out->there =
        rg_tensor_set_missing(s->r->tensors) == 0 || !rg_subject_take_absent(s, &out->missing);
    if (!out->there)
        return RG_OK;
    return s->spec->one_by_one ? describe_experts(s, out->path, &out->weight)
                               : describe(s, &out->weight);
}

enum rg_code rg_module_resolve(struct rg_resolver *r, const struct rg_module_spec *spec,
                               struct rg_module *out, struct rg_err *err)
{
    struct rg_subject s = {.r = r, .spec = spec, .lead = spec->lead, .err = err};
    char path[192];
    const char *role;
    enum rg_code code;

    if (spec->layer >= 0)
        (void)snprintf(path, sizeof path, "%smodel.layers.%" PRId32 ".%s", r->config->prefix,
                       spec->layer, spec->role);
    else
        (void)snprintf(path, sizeof path, "%s%s", r->config->prefix, spec->role);
    memset(out, 0, sizeof *out);
    out->path = rg_arena_strndup(r->arena, path, strlen(path));
    role = rg_arena_strndup(r->arena, spec->role, strlen(spec->role));
    if (!out->path || !role)
        return rg_fail(err, RG_E_NOMEM, "no memory for the module list");
    s.path = out->path;
    s.entry = spec->vector ? NULL : rg_quant_find(&r->config->quant, out->path);
    code = describe_if_there(&s, out);
    out->role = role;
    out->layer = spec->layer;
    out->vector = spec->vector;
    out->weight.name = out->path;
    out->weight.lead = spec->lead > 0 ? spec->lead : 1;
    out->weight.rows = spec->rows;
    out->weight.cols = spec->cols;
    return code;
}
