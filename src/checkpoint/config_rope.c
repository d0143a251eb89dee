/* config_rope.c - the rotary embedding of config.json, and the attention scale it changes.
 *
 * Keys: rope_theta and rope_scaling; or rope_parameters (transformers 5), which holds both.  The
 * type is "type" or "rope_type" (mlx-lm models/rope_utils.py). */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "checkpoint/config_reader.h"

static const struct {
    const char *name;
    enum rg_rope_kind kind;
} kinds[] = {
    {"default", RG_ROPE_DEFAULT},
    {"mrope", RG_ROPE_DEFAULT},
    {"linear", RG_ROPE_LINEAR},
    {"llama3", RG_ROPE_LLAMA3},
    {"yarn", RG_ROPE_YARN},
    {"deepseek_yarn", RG_ROPE_YARN},
    {"telechat3-yarn", RG_ROPE_YARN},
    {"longrope", RG_ROPE_LONGROPE},
    {"proportional", RG_ROPE_PROPORTIONAL},
};

static const char *type_name(struct rg_cfg *s)
{
    const char *type = rg_cfg_string(s, "type");

    if (!type || !*type)
        type = rg_cfg_string(s, "rope_type");
    return type && *type ? type : "default";
}

static void read_kind(struct rg_cfg *s, struct rg_rope_config *r)
{
    const char *type = type_name(s);

    if (s->code)
        return;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].name, type) == 0) {
            r->kind = kinds[i].kind;
            return;
        }
    }
    s->code = rg_fail(s->err, RG_E_UNSUPPORTED,
                      "%s: rope type '%.40s' is not supported%s; known: "
                      "default, linear, llama3, yarn, longrope, proportional",
                      s->file, type,
                      strcmp(type, "dynamic") == 0
                          ? " (its result depends on how a prompt is cut into chunks)"
                          : "");
}

static double need_factor(struct rg_cfg *s)
{
    if (!rg_cfg_get(s, "factor"))
        rg_cfg_missing(s, "factor");
    return rg_cfg_real(s, "factor", 1, 1e-3, 1e6);
}

static void read_yarn(struct rg_cfg *s, struct rg_rope_config *r)
{
    r->factor = need_factor(s);
    r->original_max_position_embeddings =
        rg_cfg_uint(s, "original_max_position_embeddings", 4096, 1, RG_LIMIT_CONTEXT);
    r->beta_fast = rg_cfg_real(s, "beta_fast", 32, 1e-3, 1e6);
    r->beta_slow = rg_cfg_real(s, "beta_slow", 1, 1e-3, 1e6);
    r->mscale = rg_cfg_real(s, "mscale", 1, 0, 1e3);
    r->mscale_all_dim = rg_cfg_real(s, "mscale_all_dim", 0, 0, 1e3);
}

static void read_llama3(struct rg_cfg *s, struct rg_rope_config *r)
{
    r->factor = need_factor(s);
    r->original_max_position_embeddings =
        rg_cfg_uint(s, "original_max_position_embeddings", 8192, 1, RG_LIMIT_CONTEXT);
    r->low_freq_factor = rg_cfg_real(s, "low_freq_factor", 1, 1e-3, 1e6);
    r->high_freq_factor = rg_cfg_real(s, "high_freq_factor", 4, 1e-3, 1e6);
    if (!s->code && !(r->high_freq_factor > r->low_freq_factor))
        s->code = rg_fail(s->err, RG_E_BAD_DATA,
                          "%s: '%shigh_freq_factor' (%g) must be above 'low_freq_factor' (%g)",
                          s->file, s->where, r->high_freq_factor, r->low_freq_factor);
}

static void read_long_factor(struct rg_cfg *s, struct rg_rope_config *r)
{
    const struct rg_json *list = rg_cfg_get(s, "long_factor");
    const uint32_t n = r->dims / 2;

    if (s->code)
        return;
    if (!list || rg_json_type(list) != RG_JSON_ARRAY || rg_json_count(list) != n) {
        s->code = rg_fail(s->err, RG_E_BAD_DATA,
                          "%s: '%slong_factor' must be an array of %u "
                          "numbers (half the rotated dimensions)",
                          s->file, s->where, n);
        return;
    }
    r->long_factor = rg_calloc(n, sizeof r->long_factor[0]);
    if (!r->long_factor) {
        s->code = rg_fail(s->err, RG_E_NOMEM, "%s: no memory for long_factor", s->file);
        return;
    }
    r->n_long_factor = n;

    uint32_t i = 0;

    for (const struct rg_json *j = rg_json_first(list); j; j = rg_json_next(j), i++) {
        const double v = rg_json_type(j) == RG_JSON_NUMBER ? rg_json_double(j) : 0;

        if (!(v >= 1e-6 && v <= 1e9)) {
            s->code = rg_fail(s->err, RG_E_BAD_DATA,
                              "%s: '%slong_factor[%u]' is not a number from 1e-6 to 1e9", s->file,
                              s->where, i);
            return;
        }
        r->long_factor[i] = v;
    }
}

/* factor becomes max / original: what the input scale sqrt(1 + ln factor / ln original) needs. */
static void read_longrope(struct rg_cfg *c, struct rg_cfg *s, struct rg_model_config *m)
{
    struct rg_rope_config *r = &m->rope;

    r->original_max_position_embeddings =
        rg_cfg_uint(s, "original_max_position_embeddings", 0, 2, RG_LIMIT_CONTEXT);
    if (!s->code && r->original_max_position_embeddings == 0) {
        r->original_max_position_embeddings =
            rg_cfg_uint(c, "original_max_position_embeddings", 0, 2, RG_LIMIT_CONTEXT);
        if (!c->code && r->original_max_position_embeddings == 0)
            rg_cfg_missing(s, "original_max_position_embeddings");
    }
    if (r->original_max_position_embeddings > 0)
        r->factor = (double)m->max_position_embeddings / r->original_max_position_embeddings;
    read_long_factor(s, r);
}

static void read_scaling(struct rg_cfg *c, struct rg_cfg *s, struct rg_model_config *m)
{
    struct rg_rope_config *r = &m->rope;

    for (const struct rg_json *j = rg_json_first(s->object); j; j = rg_json_next(j)) {
        if (rg_json_type(j) == RG_JSON_OBJECT && !rg_json_get(j, "__float__")) {
            s->code = rg_fail(s->err, RG_E_UNSUPPORTED,
                              "%s: '%s%.40s' is an object: a rope per kind of layer is not "
                              "supported",
                              s->file, s->where, rg_json_key(j));
            return;
        }
    }
    read_kind(s, r);
    if (s->code)
        return;
    switch (r->kind) {
    case RG_ROPE_DEFAULT:
        break;
    case RG_ROPE_LINEAR:
        r->factor = need_factor(s);
        break;
    case RG_ROPE_LLAMA3:
        read_llama3(s, r);
        break;
    case RG_ROPE_YARN:
        read_yarn(s, r);
        break;
    case RG_ROPE_LONGROPE:
        read_longrope(c, s, m);
        break;
    case RG_ROPE_PROPORTIONAL:
        r->factor = rg_cfg_real(s, "factor", 1, 1e-3, 1e6);
        r->partial_rotary_factor = rg_cfg_real(s, "partial_rotary_factor", 1, 0, 1);
        break;
    }
}

/* ln x for x > 0 from additions, products and quotients alone: libm's last bit differs between
 * systems, and nodes of one ring compare their attention scales. */
static double natural_log(double x)
{
    static const double ln2 = 0.693147180559945309417232121458;
    int e = 0;
    double sum = 0;

    while (x > 1.4142135623730951) {
        x *= 0.5;
        e++;
    }
    while (x < 0.7071067811865476) {
        x *= 2;
        e--;
    }

    const double z = (x - 1) / (x + 1), z2 = z * z; /* |z| <= 0.1716: 12 terms reach 1e-19 */

    for (int k = 23; k >= 1; k -= 2)
        sum = sum * z2 + 2.0 / k;
    return sum * z + e * ln2;
}

/* DeepSeek's attention scale: head width^-1/2, times YaRN's g squared whatever the rope type. */
static void scale_mla(struct rg_cfg *s, struct rg_model_config *m)
{
    const double all = s->object ? rg_cfg_real(s, "mscale_all_dim", 0, 0, 1e3) : 0;
    const double factor = s->object ? rg_cfg_real(s, "factor", 1, 1e-3, 1e6) : 1;

    m->attention_scale = 1 / sqrt((double)m->qk_nope_head_dim + m->qk_rope_head_dim);
    if (all > 0 && factor > 1) {
        const double g = 0.1 * all * natural_log(factor) + 1;

        m->attention_scale *= g * g;
    }
}

void rg_cfg_read_rope(struct rg_cfg *c, struct rg_model_config *m, double theta_default)
{
    const double theta_max = 1e15;
    struct rg_rope_config *r = &m->rope;
    struct rg_cfg old = rg_cfg_inside(c, "rope_scaling", "rope_scaling.");
    struct rg_cfg new = rg_cfg_inside(c, "rope_parameters", "rope_parameters.");
    struct rg_cfg *s = old.object ? &old : &new;

    r->factor = 1;
    if (!c->code && !rg_cfg_get(c, "rope_theta") && !rg_cfg_get(&new, "rope_theta") &&
        !(theta_default > 0))
        rg_cfg_missing(c, "rope_theta");
    if (rg_cfg_get(c, "rope_theta"))
        r->theta = rg_cfg_real(c, "rope_theta", 0, 1.001, theta_max);
    else
        r->theta = rg_cfg_real(&new, "rope_theta", theta_default, 1.001, theta_max);
    s->code = c->code ? c->code : new.code ? new.code : s->code;
    /* mlx-lm's qwen3_moe reads no scaling: its rope is always plain. */
    if (!s->code && s->object && m->family != RG_FAMILY_QWEN3_MOE)
        read_scaling(c, s, m);
    if (m->family == RG_FAMILY_DEEPSEEK_V3)
        scale_mla(s, m);
    else
        m->attention_scale = 1 / sqrt((double)m->head_dim);
    if (!c->code)
        c->code = s->code;
}
