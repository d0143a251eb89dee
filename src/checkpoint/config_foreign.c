/* config_foreign.c - config.json's "quantization_config" of other programs than MLX.
 *
 * Read are compressed-tensors' 4-bit and FP8 block formats (sources:
 * compressed_tensors/quantization and transformers' quantization_config of Kimi-K2-Thinking) and
 * DeepSeek's FP8 in blocks of 128 x 128. Everything that would change what the stored numbers mean
 * is refused by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "checkpoint/config_reader.h"

enum { FP8_BLOCK = 128, PATTERN_MAX = 160, CHOICES_MAX = 32, PATTERNS_MAX = 64 };

static void refuse(struct rg_cfg *c, const char *method, const char *with)
{
    if (!c->code)
        c->code = rg_fail(c->err, RG_E_UNSUPPORTED,
                          "%s: quantization_config has quant_method '%.40s' with %.80s, which is "
                          "not supported; convert the original model with mlx_lm.convert",
                          c->file, method, with);
}

/* [128, 128] */
static bool is_block(const struct rg_json *j)
{
    bool fits = j && rg_json_type(j) == RG_JSON_ARRAY && rg_json_count(j) == 2;
    int64_t size = 0;

    for (j = fits ? rg_json_first(j) : NULL; j && fits; j = rg_json_next(j))
        fits = rg_json_type(j) == RG_JSON_NUMBER && rg_json_int(j, FP8_BLOCK, FP8_BLOCK, &size);
    return fits;
}

/* ---- modules left out --------------------------------------------------------------------- */

/* The group of alternatives at `re` ("(a|b)", behind the bracket): leaves *re at number `pick` of
 * them and returns how many there are; 0: not one of those. */
static uint32_t pick_alternative(const char **re, uint32_t pick)
{
    const char *p = *re;
    uint32_t n = 1;

    if (p[0] == '?' && p[1] == ':')
        p += 2;
    for (const char *q = p; *q != ')'; q++) {
        if (*q == '\0' || *q == '(')
            return 0;
        if (*q == '\\' && *++q == '\0')
            return 0;
        n += *q == '|' && q[-1] != '\\';
    }
    for (pick %= n; pick > 0; p++)
        pick -= *p == '|' && p[-1] != '\\';
    *re = p;
    return n;
}

/* One character or ".*" of a regular expression as a pattern; false: it means something else. */
static bool translate_one(const char **re, char *out, size_t *n)
{
    const char c = *(*re)++;

    if (c == '.') {
        const bool run = **re == '*' || **re == '+';

        if (**re != '*')
            out[(*n)++] = '?';
        if (run) {
            out[(*n)++] = '*';
            (*re)++;
        }
        return **re != '{' && **re != '?';
    }
    if (c == '\\') {
        if (!strchr("./-_:", **re) || **re == '\0')
            return false;
        out[(*n)++] = *(*re)++;
        return true;
    }
    if (strchr("[]{}*+?|()^$", c))
        return false;
    out[(*n)++] = c;
    return true;
}

/* A regular expression made of text, ".", ".*" and one level of alternatives as a pattern with *
 * and
 * ?, alternatives taken by `choice`.  -> the number of choices, 0: it is made of more than that. */
static uint32_t translate(const char *re, uint32_t choice, char out[PATTERN_MAX])
{
    uint32_t choices = 1;
    size_t n = 0;
    bool inside = false, anchored = false;

    re += *re == '^';
    while (*re) {
        if (n + 4 > PATTERN_MAX || choices > CHOICES_MAX)
            return 0;
        if (re[0] == '$' && re[1] == '\0') {
            anchored = true;
            break;
        }
        if (*re == '(' && !inside) {
            re++;
            const uint32_t of = pick_alternative(&re, choice / choices);

            choices *= of;
            inside = of > 0;
            if (!inside)
                return 0;
        } else if (inside && (*re == '|' || *re == ')')) {
            re = strchr(re, ')') + 1;
            inside = false;
        } else if (!translate_one(&re, out, &n)) {
            return 0;
        }
    }
    if (!anchored)
        out[n++] = '*'; /* re.match() asks for the beginning only */
    out[n] = '\0';
    return choices;
}

static void add_ignored(struct rg_cfg *c, struct rg_quant_config *q, const char *pattern,
                        size_t *capacity)
{
    if (c->code)
        return;
    c->code = rg_grow((void **)&q->ignore, capacity, (size_t)q->n_ignore + 1, sizeof q->ignore[0],
                      c->err);
    if (c->code)
        return;
    q->ignore[q->n_ignore] = rg_strdup(pattern);
    if (q->ignore[q->n_ignore])
        q->n_ignore++;
    else
        c->code = rg_fail(c->err, RG_E_NOMEM, "%s: no memory for its quantization", c->file);
}

/* A regular expression that cannot be put as patterns is passed over: then the tensors decide. */
static void add_expression(struct rg_cfg *c, struct rg_quant_config *q, const char *re,
                           size_t *capacity)
{
    char pattern[PATTERN_MAX];
    const uint32_t choices = translate(re, 0, pattern);

    for (uint32_t i = 0; i < choices && q->n_ignore - q->n_exact < PATTERNS_MAX; i++) {
        if (translate(re, i, pattern) > 0)
            add_ignored(c, q, pattern, capacity);
    }
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The list under `key`: paths, and with "re:" in front regular expressions. */
static void read_ignored(struct rg_cfg *c, struct rg_quant_config *q, const char *key)
{
    const struct rg_json *list = rg_cfg_get(c, key);
    size_t capacity = 0;

    if (c->code || !list)
        return;
    if (rg_json_type(list) != RG_JSON_ARRAY) {
        c->code = rg_fail(c->err, RG_E_BAD_DATA, "%s: '%s%s' is %s, an array expected", c->file,
                          c->where, key, rg_json_type_name(list));
        return;
    }
    for (int expressions = 0; expressions < 2; expressions++) {
        for (const struct rg_json *j = rg_json_first(list); j; j = rg_json_next(j)) {
            const char *s = rg_json_type(j) == RG_JSON_STRING ? rg_json_string(j) : "";
            const bool is_expression = strncmp(s, "re:", 3) == 0;

            if (is_expression && expressions)
                add_expression(c, q, s + 3, &capacity);
            else if (!is_expression && !expressions)
                add_ignored(c, q, s, &capacity);
        }
        if (!expressions)
            q->n_exact = q->n_ignore;
    }
    if (q->n_exact > 1)
        qsort(q->ignore, q->n_exact, sizeof q->ignore[0], compare_paths);
}

static bool matches(const char *pattern, const char *s)
{
    const char *star = NULL, *again = NULL;

    while (*s) {
        if (*pattern == '*') {
            star = pattern++;
            again = s;
        } else if (*pattern == '?' || *pattern == *s) {
            pattern++;
            s++;
        } else if (star) {
            pattern = star + 1;
            s = ++again;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool rg_quant_ignores(const struct rg_quant_config *q, const char *path)
{
    if (q->n_exact > 0 && bsearch(&path, q->ignore, q->n_exact, sizeof q->ignore[0], compare_paths))
        return true;
    for (uint32_t i = q->n_exact; i < q->n_ignore; i++) {
        if (matches(q->ignore[i], path))
            return true;
    }
    return false;
}

bool rg_quant_has_group(const struct rg_quant_config *q, const char *mode, uint32_t group_size)
{
    for (uint32_t i = 0; i < q->n_groups; i++) {
        if (q->groups[i].group_size == group_size && strcmp(q->groups[i].mode, mode) == 0)
            return true;
    }
    return false;
}

/* ---- compressed-tensors ------------------------------------------------------------------- */

static const char compressed[] = "compressed-tensors";

/* The inputs of a module: quantised anew for each token is a choice of speed that is not taken
 * here; with stored scales the weights were made for it. */
static void check_activations(struct rg_cfg *group, const char *key)
{
    struct rg_cfg in = rg_cfg_inside(group, key, "quantization_config.config_groups.activations.");
    const struct rg_json *dynamic = rg_cfg_get(&in, "dynamic");
    const bool each = dynamic && rg_json_type(dynamic) == RG_JSON_BOOL && rg_json_bool(dynamic);

    if (in.object && !each)
        refuse(group, compressed, "quantised inputs of stored scales");
}

static void check_int4(struct rg_cfg *w, struct rg_quant_entry *e)
{
    const char *type = rg_cfg_string(w, "type"), *strategy = rg_cfg_string(w, "strategy");
    const struct rg_json *order = rg_cfg_get(w, "actorder");
    char what[48];

    e->bits = rg_cfg_uint(w, "num_bits", 8, 1, 64);
    e->group_size = rg_cfg_uint(w, "group_size", 0, 1, 1u << 20);
    if (e->bits != 4 || (type && strcmp(type, "int") != 0)) {
        (void)snprintf(what, sizeof what, "%u-bit %.16s weights", e->bits, type ? type : "int");
        refuse(w, compressed, what);
    }
    if (!rg_cfg_bool(w, "symmetric", true))
        refuse(w, compressed, "asymmetric weights");
    if (!strategy || strcmp(strategy, "group") != 0)
        refuse(w, compressed, "a strategy other than 'group'");
    /* "weight" and "static" order only the quantiser's work, the stored columns stay in place. */
    if (order && !(rg_json_type(order) == RG_JSON_BOOL && !rg_json_bool(order)) &&
        !(rg_json_type(order) == RG_JSON_STRING && (strcmp(rg_json_string(order), "weight") == 0 ||
                                                    strcmp(rg_json_string(order), "static") == 0)))
        refuse(w, compressed, "columns in activation order (actorder)");
    if (e->group_size != 32 && e->group_size != 64 && e->group_size != 128) {
        (void)snprintf(what, sizeof what, "groups of %u (32, 64, 128 are)", e->group_size);
        refuse(w, compressed, what);
    }
}

/* FP8 in the blocks of DeepSeek, under another name. */
static void check_blocks(struct rg_cfg *w, struct rg_quant_entry *e)
{
    const char *type = rg_cfg_string(w, "type"), *strategy = rg_cfg_string(w, "strategy");

    e->bits = rg_cfg_uint(w, "num_bits", 8, 1, 64);
    e->group_size = FP8_BLOCK;
    if (e->bits != 8 || !type || strcmp(type, "float") != 0 || !strategy ||
        strcmp(strategy, "block") != 0 || !is_block(rg_cfg_get(w, "block_structure")))
        refuse(w, compressed, "format 'float-quantized' other than FP8 in blocks of [128, 128]");
}

static void read_group(struct rg_cfg *c, struct rg_quant_config *q, const struct rg_json *j,
                       const char *format)
{
    struct rg_cfg group = {.object = rg_json_type(j) == RG_JSON_OBJECT ? j : NULL,
                           .file = c->file,
                           .where = "quantization_config.config_groups.",
                           .err = c->err};
    struct rg_cfg w =
        rg_cfg_inside(&group, "weights", "quantization_config.config_groups.weights.");
    const char *own = rg_cfg_string(&group, "format");
    struct rg_quant_entry *e = &q->groups[q->n_groups];

    check_activations(&group, "input_activations");
    check_activations(&group, "output_activations");
    if (own && strcmp(own, format) != 0)
        refuse(&group, compressed, "groups of several formats");
    if (!group.code && !w.object && !w.code)
        rg_cfg_missing(&group, "weights");
    if (group.code || w.code) {
        c->code = group.code ? group.code : w.code;
        return;
    }
    *e = (struct rg_quant_entry){.bits = 4, .group_size = 32, .mode = "mxfp4"};
    if (strcmp(format, "pack-quantized") == 0) {
        memcpy(e->mode, "int4", sizeof "int4");
        check_int4(&w, e);
    } else if (strcmp(format, "float-quantized") == 0) {
        memcpy(e->mode, "fp8", sizeof "fp8");
        check_blocks(&w, e);
    }
    q->n_groups++;
    c->code = w.code;
}

/* Things beside the weights that change the model. */
static void check_extras(struct rg_cfg *c)
{
    struct rg_cfg rotation = rg_cfg_inside(c, "transform_config", "transform_config.");
    struct rg_cfg sparse = rg_cfg_inside(c, "sparsity_config", "sparsity_config.");
    const struct rg_json *groups = rg_cfg_get(&rotation, "config_groups");
    const char *format = rg_cfg_string(&sparse, "format");

    c->code = c->code ? c->code : rotation.code ? rotation.code : sparse.code;
    if (rg_cfg_get(c, "kv_cache_scheme"))
        refuse(c, compressed, "a quantised cache (kv_cache_scheme)");
    if (groups && rg_json_count(groups) > 0)
        refuse(c, compressed, "rotated weights (transform_config)");
    if (format && strcmp(format, "dense") != 0)
        refuse(c, compressed, "sparse weights (sparsity_config)");
}

static void read_compressed(struct rg_cfg *c, struct rg_quant_config *q)
{
    const char *format = rg_cfg_string(c, "format");
    struct rg_cfg groups = rg_cfg_inside(c, "config_groups", "quantization_config.config_groups.");
    char what[80];

    c->code = c->code ? c->code : groups.code;
    if (c->code)
        return;
    if (!format ||
        (strcmp(format, "pack-quantized") != 0 && strcmp(format, "mxfp4-pack-quantized") != 0 &&
         strcmp(format, "float-quantized") != 0)) {
        (void)snprintf(what, sizeof what, "format '%.40s'", format ? format : "none");
        refuse(c, compressed, what);
        return;
    }
    check_extras(c);
    if (!groups.object || rg_json_count(groups.object) == 0)
        rg_cfg_missing(c, "config_groups");
    for (const struct rg_json *j = groups.object ? rg_json_first(groups.object) : NULL;
         j && !c->code; j = rg_json_next(j)) {
        if (q->n_groups == sizeof q->groups / sizeof q->groups[0])
            refuse(c, compressed, "more than 8 config_groups");
        else
            read_group(c, q, j, format);
    }
    read_ignored(c, q, "ignore");
    q->method = RG_QUANT_COMPRESSED;
}

/* ---- FP8 ---------------------------------------------------------------------------------- */

static void read_fp8(struct rg_cfg *c, struct rg_quant_config *q)
{
    const struct rg_json *block = rg_cfg_get(c, "weight_block_size");
    const char *format = rg_cfg_string(c, "fmt");
    const char *scheme = rg_cfg_string(c, "activation_scheme");

    if (!block)
        refuse(c, "fp8", "one scale per tensor or row (no weight_block_size)");
    else if (!is_block(block))
        refuse(c, "fp8", "a weight_block_size other than [128, 128]");
    if (format && strcmp(format, "e4m3") != 0)
        refuse(c, "fp8", "a fmt other than 'e4m3'");
    if (scheme && strcmp(scheme, "dynamic") != 0)
        refuse(c, "fp8", "an activation_scheme other than 'dynamic'");
    read_ignored(c, q, "modules_to_not_convert");
    q->method = RG_QUANT_FP8;
}

void rg_cfg_read_foreign_quant(struct rg_cfg *c, struct rg_quant_config *q)
{
    const char *method = rg_cfg_string(c, "quant_method");
    const char *format = rg_cfg_string(c, "format");

    if (c->code)
        return;
    if (method && strcmp(method, compressed) == 0) {
        read_compressed(c, q);
        return;
    }
    if (method && strcmp(method, "fp8") == 0) {
        read_fp8(c, q);
        return;
    }
    c->code = rg_fail(
        c->err, RG_E_UNSUPPORTED,
        "%s: quantization_config has quant_method '%.40s'%s%.60s%s, which is not "
        "supported; known: compressed-tensors (4 bit, FP8 blocks), fp8 (blocks of 128); else "
        "convert the original model with mlx_lm.convert",
        c->file, method ? method : "none", format ? " (format '" : "", format ? format : "",
        format ? "')" : "");
}
