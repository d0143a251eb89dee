/* pretokenizer_json.c - tokenizer.json's "pre_tokenizer" to stages. */
#include <string.h>

#include "base/limits.h"
#include "text/pretokenizer.h"
#include "text/unicode.h"

/* What ByteLevel splits with when use_regex is true: GPT-2's pattern, in PCRE2's dialect. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+|"
    "\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";

static enum rg_code add_stage(struct rg_pretokenizer *p, const struct rg_stage *stage,
                              struct rg_err *err)
{
    if (p->n == RG_PRETOKENIZER_STAGES)
        return rg_fail(err, RG_E_LIMIT, "pre_tokenizer: more than %d steps",
                       RG_PRETOKENIZER_STAGES);
    p->stages[p->n++] = *stage;
    return RG_OK;
}

enum rg_code rg_pretokenizer_add_regex(struct rg_pretokenizer *p, const char *pattern,
                                       enum rg_split split, bool invert, struct rg_err *err)
{
    struct rg_stage stage = {.kind = RG_STAGE_REGEX, .split = split, .invert = invert};
    enum rg_code    code = rg_regex_open(&stage.regex, pattern, strlen(pattern), err);

    if (code)
        return code;
    code = add_stage(p, &stage, err);
    if (code)
        rg_regex_close(stage.regex);
    return code;
}

static enum rg_code read_bool(const struct rg_json *j, const char *key, bool otherwise, bool *out,
                              struct rg_err *err)
{
    const struct rg_json *v = rg_json_get(j, key);

    *out = otherwise;
    if (!v || rg_json_type(v) == RG_JSON_NULL)
        return RG_OK;
    if (rg_json_type(v) != RG_JSON_BOOL)
        return rg_fail(err, RG_E_BAD_DATA, "pre_tokenizer: %s is %s, expected true or false", key,
                       rg_json_type_name(v));
    *out = rg_json_bool(v);
    return RG_OK;
}

static enum rg_code read_behavior(const struct rg_json *j, enum rg_split *out, struct rg_err *err)
{
    static const char *const names[] = {
        [RG_SPLIT_ISOLATED] = "Isolated",
        [RG_SPLIT_REMOVED] = "Removed",
        [RG_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [RG_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [RG_SPLIT_CONTIGUOUS] = "Contiguous",
    };
    const struct rg_json *v = rg_json_get(j, "behavior");

    if (!v || rg_json_type(v) != RG_JSON_STRING)
        return rg_fail(err, RG_E_BAD_DATA, "pre_tokenizer: behavior is missing or not a string");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(rg_json_string(v), names[i]) == 0) {
            *out = (enum rg_split)i;
            return RG_OK;
        }
    }
    return rg_fail(err, RG_E_UNSUPPORTED, "pre_tokenizer: behavior %.40s is not supported",
                   rg_json_string(v));
}

static enum rg_code load_split(struct rg_pretokenizer *p, const struct rg_json *j,
                               struct rg_err *err)
{
    const struct rg_json *pattern = rg_json_get(j, "pattern");
    const struct rg_json *regex = pattern ? rg_json_get(pattern, "Regex") : NULL;
    const struct rg_json *literal = pattern ? rg_json_get(pattern, "String") : NULL;
    const struct rg_json *source = regex ? regex : literal;
    enum rg_split         split;
    struct rg_buf         b;
    bool                  invert;
    enum rg_code          code;

    if (!source || rg_json_type(source) != RG_JSON_STRING)
        return rg_fail(err, RG_E_BAD_DATA,
                       "pre_tokenizer: Split needs {\"Regex\": ...} or {\"String\": ...}");
    rg_buf_init(&b, RG_LIMIT_CONFIG_BYTES);
    code = read_behavior(j, &split, err);
    if (!code)
        code = read_bool(j, "invert", false, &invert, err);
    if (!code)
        code = (regex ? rg_regex_translate : rg_regex_quote)(&b, rg_json_string(source),
                                                             strlen(rg_json_string(source)), err);
    if (!code)
        code = rg_pretokenizer_add_regex(p, b.data ? b.data : "", split, invert, err);
    rg_buf_free(&b);
    return code;
}

static enum rg_code load_byte_level(struct rg_pretokenizer *p, const struct rg_json *j,
                                    struct rg_err *err)
{
    bool         prefix, regex;
    enum rg_code code;

    if (p->mapped)
        return rg_fail(err, RG_E_UNSUPPORTED, "pre_tokenizer: ByteLevel twice is not supported");
    p->mapped = true;
    code = read_bool(j, "add_prefix_space", true, &prefix, err);
    if (!code)
        code = read_bool(j, "use_regex", true, &regex, err);
    if (!code && prefix)
        code = add_stage(p, &(struct rg_stage){.kind = RG_STAGE_PREFIX_SPACE}, err);
    if (!code && regex)
        code = rg_pretokenizer_add_regex(p, gpt2_pattern, RG_SPLIT_ISOLATED, false, err);
    if (!code)
        code = add_stage(p, &(struct rg_stage){.kind = RG_STAGE_MAP_BYTES}, err);
    return code;
}

static enum rg_code load_digits(struct rg_pretokenizer *p, const struct rg_json *j,
                                struct rg_err *err)
{
    struct rg_stage stage = {.kind = RG_STAGE_CHARS, .in_class = rg_is_numeric};
    bool            individual;
    enum rg_code    code = read_bool(j, "individual_digits", false, &individual, err);

    stage.split = individual ? RG_SPLIT_ISOLATED : RG_SPLIT_CONTIGUOUS;
    return code ? code : add_stage(p, &stage, err);
}

static enum rg_code load_punctuation(struct rg_pretokenizer *p, const struct rg_json *j,
                                     struct rg_err *err)
{
    struct rg_stage stage = {.kind = RG_STAGE_CHARS, .in_class = rg_is_punctuation};
    enum rg_code    code = RG_OK;

    if (rg_json_get(j, "behavior"))
        code = read_behavior(j, &stage.split, err);
    return code ? code : add_stage(p, &stage, err);
}

static enum rg_code load_one(struct rg_pretokenizer *p, const struct rg_json *j, struct rg_err *err)
{
    static const struct {
        const char *name;
        enum rg_code (*load)(struct rg_pretokenizer *, const struct rg_json *, struct rg_err *);
    } kinds[] = {
        {"Split", load_split},
        {"ByteLevel", load_byte_level},
        {"Digits", load_digits},
        {"Punctuation", load_punctuation},
    };
    const struct rg_json *type = rg_json_get(j, "type");

    if (!type || rg_json_type(type) != RG_JSON_STRING)
        return rg_fail(err, RG_E_BAD_DATA, "pre_tokenizer: a step without a type");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(rg_json_string(type), kinds[i].name) == 0)
            return kinds[i].load(p, j, err);
    return rg_fail(err, RG_E_UNSUPPORTED,
                   "pre_tokenizer: %.40s is not supported (Split, ByteLevel, Digits, Punctuation "
                   "and Sequence are)",
                   rg_json_string(type));
}

static bool is_sequence(const struct rg_json *j)
{
    const struct rg_json *type = rg_json_get(j, "type");

    return type && rg_json_type(type) == RG_JSON_STRING &&
           strcmp(rg_json_string(type), "Sequence") == 0;
}

/* Sequences inside sequences, as deep as the JSON limits let them be. */
static enum rg_code load_steps(struct rg_pretokenizer *p, const struct rg_json *j,
                               struct rg_err *err)
{
    const struct rg_json *steps;
    enum rg_code          code = RG_OK;

    if (rg_json_type(j) != RG_JSON_OBJECT)
        return rg_fail(err, RG_E_BAD_DATA, "pre_tokenizer: %s, expected an object",
                       rg_json_type_name(j));
    if (!is_sequence(j))
        return load_one(p, j, err);
    steps = rg_json_get(j, "pretokenizers");
    if (!steps || rg_json_type(steps) != RG_JSON_ARRAY)
        return rg_fail(err, RG_E_BAD_DATA, "pre_tokenizer: Sequence without pretokenizers");
    for (const struct rg_json *s = rg_json_first(steps); s && !code; s = rg_json_next(s))
        code = load_steps(p, s, err);
    return code;
}

enum rg_code rg_pretokenizer_load(struct rg_pretokenizer *p, const struct rg_json *j,
                                  struct rg_err *err)
{
    enum rg_code code;

    if (!j || rg_json_type(j) == RG_JSON_NULL)
        return rg_fail(err, RG_E_UNSUPPORTED,
                       "pre_tokenizer: none; only byte-level tokenizers are supported");
    code = load_steps(p, j, err);
    if (code)
        return code;
    if (!p->mapped)
        return rg_fail(err, RG_E_UNSUPPORTED,
                       "pre_tokenizer: no ByteLevel; only byte-level tokenizers are supported");
    if (p->stages[p->n - 1].kind == RG_STAGE_MAP_BYTES) {
        p->n--;
        p->mapped = false;
    }
    return RG_OK;
}
