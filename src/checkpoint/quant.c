/* quant.c - the tensors of one module, and their exact format.
 *
 * in_features is known from the architecture, so bits = 32 * words / in and group = in / groups are
 * exact; without it shapes cannot tell 3 bits in groups of 64 from 6 bits in groups of 32.
 * config.json's entry must agree; docs/QUANTISATION.md has the rules. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/inventory.h"

struct parts {
    const struct rg_tensor_info *weight, *scales, *biases; /* NULL: absent */
};

/* One module, or one expert of a module, while it is examined. */
struct subject {
    struct rg_resolver *r;
    const struct rg_module_spec *spec;
    const char *path; /* of the module or the expert */
    uint32_t lead;    /* of the stored tensors; 0: no leading axis */
    struct parts parts;
    struct rg_err *err;
};

static const char *file_of(const struct subject *s, const struct rg_tensor_info *t)
{
    return rg_tensor_set_file(s->r->tensors, t->file)->path;
}

static const struct rg_tensor_info *find(struct rg_resolver *r, const char *path,
                                         const char *suffix)
{
    char name[256];
    const struct rg_tensor_info *t;

    (void)snprintf(name, sizeof name, "%s%s", path, suffix);
    t = rg_tensor_set_find(r->tensors, name);
    if (t)
        r->used[t - rg_tensor_set_at(r->tensors, 0)] = 1;
    return t;
}

static const char *shape_text(const struct rg_tensor_info *t, char out[128])
{
    size_t used = 1;

    out[0] = '[';
    for (uint32_t i = 0; i < t->rank; i++) {
        const int n = snprintf(out + used, 128 - used, "%s%" PRIu64, i ? ", " : "", t->shape[i]);

        if (n < 0 || (size_t)n >= 126 - used)
            break;
        used += (size_t)n;
    }
    out[used] = ']';
    out[used + 1] = '\0';
    return out;
}

static bool is_float(enum rg_dtype t)
{
    return t == RG_DTYPE_F32 || t == RG_DTYPE_F16 || t == RG_DTYPE_BF16;
}

/* The axes before the last one: [lead,] rows; a vector has none. */
static bool outer_axes_match(const struct subject *s, const struct rg_tensor_info *t)
{
    const uint32_t at = s->lead > 0 ? 1 : 0;

    if (s->spec->vector)
        return t->rank == 1;
    return t->rank == at + 2 && (at == 0 || t->shape[0] == s->lead) &&
           t->shape[at] == s->spec->rows;
}

static enum rg_code wrong_shape(const struct subject *s, const struct rg_tensor_info *t,
                                const char *suffix, const char *last)
{
    char found[128], lead[24] = "";

    if (s->lead > 0)
        (void)snprintf(lead, sizeof lead, "%" PRIu32 ", ", s->lead);
    if (s->spec->vector)
        return rg_fail(s->err, RG_E_BAD_DATA, "%s: '%s%s' is %s, [%s] expected from config.json",
                       file_of(s, t), s->path, suffix, shape_text(t, found), last);
    return rg_fail(s->err, RG_E_BAD_DATA,
                   "%s: '%s%s' is %s, [%s%" PRIu32 ", %s] expected from config.json", file_of(s, t),
                   s->path, suffix, shape_text(t, found), lead, s->spec->rows, last);
}

/* ---- float modules ------------------------------------------------------------------------ */

static enum rg_code describe_float(const struct subject *s, const struct rg_quant_entry *entry,
                                   struct rg_weight_desc *d)
{
    const struct rg_tensor_info *w = s->parts.weight;
    char cols[24];

    if (entry && !entry->disabled)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: quantization lists '%s', but there is no '%s."
                       "scales'; the checkpoint is incomplete, or the entry should be false",
                       s->r->config_file, s->path, s->path);
    if (w->dtype == RG_DTYPE_U32 || s->parts.biases)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' looks quantised (weight %s%s), but there is "
                       "no '%s.scales'",
                       file_of(s, w), s->path, rg_dtype_name(w->dtype),
                       s->parts.biases ? ", with .biases" : "", s->path);
    if (!is_float(w->dtype))
        return rg_fail(s->err, RG_E_UNSUPPORTED,
                       "%s: '%s' is %s; BF16, F16, F32 or MLX's quantised "
                       "U32 expected",
                       file_of(s, w), w->name, rg_dtype_name(w->dtype));
    (void)snprintf(cols, sizeof cols, "%" PRIu32, s->spec->cols);
    if (!outer_axes_match(s, w) || w->shape[w->rank - 1] != s->spec->cols)
        return wrong_shape(s, w, s->spec->bare ? "" : ".weight", cols);
    d->kind = RG_WEIGHT_FLOAT;
    d->dtype = w->dtype;
    d->data = rg_tensor_bytes(s->r->tensors, w);
    d->bytes = w->bytes;
    return RG_OK;
}

/* ---- quantised modules -------------------------------------------------------------------- */

static enum rg_code check_parts(const struct subject *s)
{
    const struct rg_tensor_info *w = s->parts.weight, *sc = s->parts.scales, *b = s->parts.biases;
    char x[128], y[128];

    if (s->spec->never_quantised)
        return rg_fail(s->err, RG_E_UNSUPPORTED,
                       "%s: '%s' is quantised (it has .scales); this "
                       "architecture's router must be float",
                       file_of(s, w), s->path);
    if (w->dtype != RG_DTYPE_U32)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' has .scales, so its weight must be U32, it "
                       "is %s",
                       file_of(s, w), s->path, rg_dtype_name(w->dtype));
    if (!outer_axes_match(s, w))
        return wrong_shape(s, w, ".weight", "words");
    if (!outer_axes_match(s, sc))
        return wrong_shape(s, sc, ".scales", "groups");
    if (!b && sc->dtype != RG_DTYPE_U8)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s.biases' is missing (scales are %s, so the "
                       "format is affine)",
                       file_of(s, sc), s->path, rg_dtype_name(sc->dtype));
    if (!b)
        return RG_OK;
    if (!is_float(sc->dtype) || b->dtype != sc->dtype)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' has %s scales and %s biases; both must be "
                       "the same of BF16, F16, F32",
                       file_of(s, sc), s->path, rg_dtype_name(sc->dtype), rg_dtype_name(b->dtype));
    if (b->rank != sc->rank || memcmp(b->shape, sc->shape, sizeof b->shape[0] * b->rank) != 0)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: '%s' has scales %s and biases %s; they must be "
                       "equal",
                       file_of(s, b), s->path, shape_text(sc, x), shape_text(b, y));
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

/* Compares what was found with config.json: the module's own entry, else the globals. */
static enum rg_code check_entry(const struct subject *s, const struct rg_quant_entry *entry,
                                const struct rg_weight_desc *d)
{
    const struct rg_quant_config *q = &s->r->config->quant;
    const struct rg_quant_entry *e = entry && !entry->globals ? entry : &q->global;
    const char *mode = rg_weight_kind_name(d->kind);

    if (s->spec->shapes_win || !q->present)
        return RG_OK;
    if (e->disabled)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: quantization says false for '%s', but it is "
                       "quantised: %u-bit group %u %s; right would be {\"group_size\": %u, "
                       "\"bits\": %u}",
                       s->r->config_file, s->path, d->bits, d->group_size, mode, d->group_size,
                       d->bits);
    if (e->bits == d->bits && e->group_size == d->group_size && strcmp(e->mode, mode) == 0)
        return RG_OK;
    return rg_fail(s->err, RG_E_BAD_DATA,
                   "%s: quantization says %u-bit group %u %s for '%s' (%s), "
                   "its tensors are %u-bit group %u %s (%" PRIu64 " words and %" PRIu64
                   " groups for %" PRIu32 " inputs); right would be \"%s\": {\"group_size\": %u, "
                   "\"bits\": %u}",
                   s->r->config_file, e->bits, e->group_size, e->mode, s->path,
                   e == entry ? "its own entry" : "the global values", d->bits, d->group_size, mode,
                   s->parts.weight->shape[s->parts.weight->rank - 1],
                   s->parts.scales->shape[s->parts.scales->rank - 1], s->spec->cols, s->path,
                   d->group_size, d->bits);
}

static enum rg_code describe_quantised(const struct subject *s, const struct rg_quant_entry *entry,
                                       struct rg_weight_desc *d)
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
                       file_of(s, w), s->path, words, groups, s->spec->cols,
                       b ? "affine has bits 2 3 4 5 6 8, groups 32 64 128"
                         : "mxfp4 is 4/32, nvfp4 4/16, mxfp8 8/32");
    code = check_entry(s, entry, d);
    if (code)
        return code;
    d->dtype = sc->dtype;
    d->data = rg_tensor_bytes(s->r->tensors, w);
    d->scales = rg_tensor_bytes(s->r->tensors, sc);
    d->biases = b ? rg_tensor_bytes(s->r->tensors, b) : NULL;
    d->bytes = w->bytes + sc->bytes + (b ? b->bytes : 0);
    return RG_OK;
}

static enum rg_code describe(struct subject *s, const struct rg_quant_entry *entry,
                             struct rg_weight_desc *d)
{
    s->parts.weight = find(s->r, s->path, s->spec->bare ? "" : ".weight");
    if (!s->spec->vector) {
        s->parts.scales = find(s->r, s->path, ".scales");
        s->parts.biases = find(s->r, s->path, ".biases");
    }
    if (!s->parts.weight)
        return rg_fail(s->err, RG_E_BAD_DATA,
                       "%s: tensor '%s%s' is missing; a %s has it (is a shard "
                       "missing, or config.json of another model?)",
                       s->r->config_file, s->path, s->spec->bare ? "" : ".weight",
                       s->r->config->model_type);
    if (s->parts.scales)
        return describe_quantised(s, entry, d);
    return describe_float(s, entry, d);
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

static enum rg_code describe_experts(struct subject *s, const char *stacked,
                                     struct rg_weight_desc *d)
{
    const struct rg_quant_config *q = &s->r->config->quant;
    const struct rg_quant_entry *shared = rg_quant_find(q, stacked);
    struct expert_tables t;
    char path[192];
    enum rg_code code = make_tables(s->r, s->spec->lead, &t, s->err);

    s->lead = 0;
    s->path = path;
    for (uint32_t e = 0; e < s->spec->lead && !code; e++) {
        struct rg_weight_desc one = {0};

        (void)snprintf(path, sizeof path, "%smodel.layers.%" PRId32 ".mlp.experts.%" PRIu32 ".%s",
                       s->r->config->prefix, s->spec->layer, e, s->spec->one_by_one);

        const struct rg_quant_entry *own = q->n_entries ? rg_quant_find(q, path) : NULL;

        code = describe(s, own ? own : shared, &one);
        if (code)
            break;
        if (e == 0) {
            *d = one;
            d->bytes = 0;
        } else if (!same_format(d, &one)) {
            code =
                rg_fail(s->err, RG_E_UNSUPPORTED,
                        "%s: '%s' is %s %u-bit group %u %s, expert 0 is "
                        "%s %u-bit group %u %s; the experts of a layer must be alike",
                        file_of(s, s->parts.weight), path, rg_weight_kind_name(one.kind), one.bits,
                        one.group_size, rg_dtype_name(one.dtype), rg_weight_kind_name(d->kind),
                        d->bits, d->group_size, rg_dtype_name(d->dtype));
        }
        t.data[e] = one.data;
        t.scales[e] = one.scales;
        t.biases[e] = one.biases;
        d->bytes += one.bytes;
    }
    d->data = d->scales = d->biases = NULL;
    d->data_of = t.data;
    d->scales_of = d->kind == RG_WEIGHT_FLOAT ? NULL : t.scales;
    d->biases_of = d->kind == RG_WEIGHT_AFFINE ? t.biases : NULL;
    return code;
}

enum rg_code rg_module_resolve(struct rg_resolver *r, const struct rg_module_spec *spec,
                               struct rg_module *out, struct rg_err *err)
{
    struct subject s = {.r = r, .spec = spec, .lead = spec->lead, .err = err};
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
    code = spec->one_by_one
               ? describe_experts(&s, out->path, &out->weight)
               : describe(&s, spec->vector ? NULL : rg_quant_find(&r->config->quant, out->path),
                          &out->weight);
    out->role = role;
    out->layer = spec->layer;
    out->vector = spec->vector;
    out->weight.name = out->path;
    out->weight.lead = spec->lead > 0 ? spec->lead : 1;
    out->weight.rows = spec->rows;
    out->weight.cols = spec->cols;
    return code;
}
