/* regex_class.c - properties by name, and the algebra of character sets. */
#include "text/regex_class.h"

#include <string.h>

#include "base/limits.h"

/* In the order of their bits; those of one major class are neighbours. */
static const struct {
    char        name[3];
    const char *long_name; /* lower case, without separators */
} categories[] = {
    {"Lu", "uppercaseletter"},   {"Ll", "lowercaseletter"},      {"Lt", "titlecaseletter"},
    {"Lm", "modifierletter"},    {"Lo", "otherletter"},          {"Mn", "nonspacingmark"},
    {"Mc", "spacingmark"},       {"Me", "enclosingmark"},        {"Nd", "decimalnumber"},
    {"Nl", "letternumber"},      {"No", "othernumber"},          {"Pc", "connectorpunctuation"},
    {"Pd", "dashpunctuation"},   {"Ps", "openpunctuation"},      {"Pe", "closepunctuation"},
    {"Pi", "initialpunctuation"}, {"Pf", "finalpunctuation"},    {"Po", "otherpunctuation"},
    {"Sm", "mathsymbol"},        {"Sc", "currencysymbol"},       {"Sk", "modifiersymbol"},
    {"So", "othersymbol"},       {"Zs", "spaceseparator"},       {"Zl", "lineseparator"},
    {"Zp", "paragraphseparator"}, {"Cc", "control"},             {"Cf", "format"},
    {"Cs", "surrogate"},         {"Co", "privateuse"},           {"Cn", "unassigned"},
};
enum { CATEGORIES = sizeof categories / sizeof categories[0] };
static const uint32_t ALL = (UINT32_C(1) << CATEGORIES) - 1;

static const struct {
    char        letter;
    const char *long_name;
} majors[] = {{'L', "letter"},      {'M', "mark"},   {'N', "number"},   {'P', "punctuation"},
              {'S', "symbol"},      {'Z', "separator"}, {'C', "other"}};

/* The properties beside categories and scripts that may be named, as PCRE2 calls them. */
static const struct {
    const char *name, *pcre2;
} binaries[] = {{"whitespace", "White_Space"},
                {"space", "White_Space"},
                {"alphabetic", "Alphabetic"},
                {"alpha", "Alphabetic"},
                {"uppercase", "Uppercase"},
                {"lowercase", "Lowercase"},
                {"ideographic", "Ideographic"},
                {"emoji", "Emoji"},
                {"extendedpictographic", "Extended_Pictographic"}};

void rg_char_set_init(struct rg_char_set *s)
{
    *s = (struct rg_char_set){0};
    rg_buf_init(&s->items, RG_LIMIT_CONFIG_BYTES);
}

void rg_char_set_free(struct rg_char_set *s)
{
    rg_buf_free(&s->items);
}

enum rg_code rg_char_set_add_range(struct rg_char_set *s, uint32_t first, uint32_t last,
                                   struct rg_err *err)
{
    if (first == last)
        return rg_buf_addf(&s->items, err, "\\x{%X}", first);
    return rg_buf_addf(&s->items, err, "\\x{%X}-\\x{%X}", first, last);
}

static uint32_t major_mask(char letter)
{
    uint32_t mask = 0;

    for (uint32_t i = 0; i < CATEGORIES; i++)
        if (categories[i].name[0] == letter)
            mask |= UINT32_C(1) << i;
    return mask;
}

/* Lower case, without space, '-' and '_', as property names are compared (UAX 44, LM3). */
static bool fold_name(char *out, size_t size, const char *name, size_t n)
{
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        const char c = name[i];

        if (c == ' ' || c == '-' || c == '_')
            continue;
        if (len + 1 == size || !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            return false;
        out[len++] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    out[len] = '\0';
    return len > 0;
}

static uint32_t category_mask(const char *folded)
{
    for (size_t i = 0; i < sizeof majors / sizeof majors[0]; i++)
        if (strcmp(folded, majors[i].long_name) == 0 ||
            (folded[0] == majors[i].letter - 'A' + 'a' && folded[1] == '\0'))
            return major_mask(majors[i].letter);
    for (uint32_t i = 0; i < CATEGORIES; i++)
        if (strcmp(folded, categories[i].long_name) == 0 ||
            (folded[0] == categories[i].name[0] - 'A' + 'a' && folded[1] == categories[i].name[1] &&
             folded[2] == '\0'))
            return UINT32_C(1) << i;
    return 0;
}

enum rg_code rg_char_set_add_property(struct rg_char_set *s, const char *name, size_t n,
                                      bool negated, struct rg_err *err)
{
    char     folded[64];
    uint32_t mask;

    if (!fold_name(folded, sizeof folded, name, n))
        return rg_fail(err, RG_E_UNSUPPORTED, "regex: property \\p{%.*s} is not supported",
                       n < 60 ? (int)n : 60, name);
    mask = category_mask(folded);
    if (mask) {
        s->categories |= negated ? ALL & ~mask : mask;
        return RG_OK;
    }
    for (size_t i = 0; i < sizeof binaries / sizeof binaries[0]; i++)
        if (strcmp(folded, binaries[i].name) == 0)
            return rg_buf_addf(&s->items, err, "\\%c{%s}", negated ? 'P' : 'p', binaries[i].pcre2);
    /* A script; plain \p{Han} would be its Script_Extensions.  PCRE2 refuses unknown names. */
    return rg_buf_addf(&s->items, err, "\\%c{sc:%.*s}", negated ? 'P' : 'p', (int)n, name);
}

/* Oniguruma's \w: Alphabetic, marks, decimal digits, connector punctuation. */
static enum rg_code add_word(struct rg_char_set *s, struct rg_err *err)
{
    s->categories |= major_mask('M') | category_mask("nd") | category_mask("pc");
    return rg_buf_add_str(&s->items, "\\p{Alphabetic}", err);
}

enum rg_code rg_char_set_add_escape(struct rg_char_set *s, char letter, bool *known,
                                    struct rg_err *err)
{
    struct rg_char_set word;
    enum rg_code       code;

    *known = true;
    switch (letter) {
    case 's':
        return rg_buf_add_str(&s->items, "\\p{White_Space}", err);
    case 'S':
        return rg_buf_add_str(&s->items, "\\P{White_Space}", err);
    case 'd':
        return rg_char_set_add_property(s, "Nd", 2, false, err);
    case 'D':
        return rg_char_set_add_property(s, "Nd", 2, true, err);
    case 'h':
        return rg_buf_add_str(&s->items, "0-9A-Fa-f", err);
    case 'H':
        return rg_buf_add_str(&s->items, "\\x{0}-/:-@G-`g-\\x{10FFFF}", err);
    case 'w':
        return add_word(s, err);
    case 'W':
        rg_char_set_init(&word);
        code = add_word(&word, err);
        word.negated = true;
        if (!code)
            code = rg_char_set_unite(s, &word, err);
        rg_char_set_free(&word);
        return code;
    default:
        *known = false;
        return RG_OK;
    }
}

static bool is_plain(const struct rg_char_set *s) /* nothing but categories */
{
    return s->items.len == 0;
}

/* A set of categories alone needs no negation. */
static uint32_t plain_categories(const struct rg_char_set *s)
{
    return s->negated ? ALL & ~s->categories : s->categories;
}

static enum rg_code add_items(struct rg_char_set *s, const struct rg_char_set *other,
                              struct rg_err *err)
{
    s->categories |= other->categories;
    return other->items.len ? rg_buf_add(&s->items, other->items.data, other->items.len, err)
                            : RG_OK;
}

static void set_plain(struct rg_char_set *s, uint32_t mask)
{
    s->negated = false;
    s->categories = mask;
    rg_buf_clear(&s->items);
}

enum rg_code rg_char_set_unite(struct rg_char_set *s, const struct rg_char_set *other,
                               struct rg_err *err)
{
    if (is_plain(s) && plain_categories(s) == 0) {
        set_plain(s, 0);
        s->negated = other->negated;
        return add_items(s, other, err);
    }
    if (is_plain(s))
        set_plain(s, plain_categories(s));
    if (is_plain(other)) {
        const uint32_t mask = plain_categories(other);

        /* A or not-B is not (B without A), which is known when B is categories alone. */
        if (!s->negated) {
            s->categories |= mask;
            return RG_OK;
        }
    } else if (!s->negated && !other->negated) {
        return add_items(s, other, err);
    }
    return rg_fail(err, RG_E_UNSUPPORTED,
                   "regex: a negated class inside another class is not supported");
}

enum rg_code rg_char_set_intersect(struct rg_char_set *s, const struct rg_char_set *other,
                                   struct rg_err *err)
{
    if (is_plain(s) && is_plain(other)) {
        set_plain(s, plain_categories(s) & plain_categories(other));
        return RG_OK;
    }
    /* A and not-B is not (not-A or B). */
    if (is_plain(s) && other->negated) {
        set_plain(s, ALL & ~plain_categories(s));
        s->negated = true;
        return add_items(s, other, err);
    }
    if (s->negated && is_plain(other)) {
        s->categories |= ALL & ~plain_categories(other);
        return RG_OK;
    }
    if (s->negated && other->negated)
        return add_items(s, other, err);
    return rg_fail(err, RG_E_UNSUPPORTED, "regex: this class intersection (&&) is not supported");
}

static enum rg_code print_categories(struct rg_buf *out, uint32_t mask, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (size_t i = 0; i < sizeof majors / sizeof majors[0] && !code; i++) {
        const uint32_t all = major_mask(majors[i].letter);

        if ((mask & all) != all)
            continue;
        code = rg_buf_addf(out, err, "\\p{%c}", majors[i].letter);
        mask &= ~all;
    }
    for (uint32_t i = 0; i < CATEGORIES && !code; i++)
        if (mask >> i & 1)
            code = rg_buf_addf(out, err, "\\p{%s}", categories[i].name);
    return code;
}

enum rg_code rg_char_set_print(struct rg_buf *out, const struct rg_char_set *s, struct rg_err *err)
{
    enum rg_code code;

    if (is_plain(s) && plain_categories(s) == 0)
        return rg_buf_add_str(out, "(?!)", err);
    if (is_plain(s) && plain_categories(s) == ALL)
        return rg_buf_add_str(out, "[\\x{0}-\\x{10FFFF}]", err);
    code = rg_buf_add_str(out, s->negated ? "[^" : "[", err);
    if (!code)
        code = print_categories(out, s->categories, err);
    if (!code && s->items.len)
        code = rg_buf_add(out, s->items.data, s->items.len, err);
    return code ? code : rg_buf_add_str(out, "]", err);
}
