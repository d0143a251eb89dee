/* jinja_lexer.c - template source to tokens, with Jinja's whitespace control.
 *
 * The rules are those of jinja2's lexer with trim_blocks and lstrip_blocks: "-" beside a tag strips
 * all whitespace there; a newline right after a block or comment tag is dropped unless the tag ends
 * in "+"; blanks before a block or comment tag are dropped when nothing else stands before it on
 * its line, unless the tag begins with "+". */
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_ast.h"
#include "text/jinja_unicode.h"

enum { BRACES_MAX = 256 };

struct lexer {
    struct rg_jwork *w;
    const char *source;
    size_t len, at;
    struct rg_jtokens *out;
    bool line_starting; /* the last token ended a line, or none came yet */
    uint32_t n_braces;
    char braces[BRACES_MAX];
};

static bool is_at(const struct lexer *x, size_t at, const char *text)
{
    const size_t n = strlen(text);

    return x->len - at >= n && memcmp(x->source + at, text, n) == 0;
}

/* Length of the whitespace character at p; 0 when it is none. */
static size_t space_length(const char *p, size_t n)
{
    uint32_t cp;
    const size_t length = n ? rg_utf8_next(p, n, &cp) : 0;

    return length && rg_junicode_space(cp) ? length : 0;
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    size_t n;

    while ((n = space_length(x->source + at, x->len - at)) > 0)
        at += n;
    return at;
}

/* The end of [begin, end) without trailing whitespace. */
static size_t strip_end(const struct lexer *x, size_t begin, size_t end)
{
    while (end > begin) {
        size_t start = end - 1;

        while (start > begin && ((unsigned char)x->source[start] & 0xC0) == 0x80)
            start--;
        if (space_length(x->source + start, end - start) != end - start)
            break;
        end = start;
    }
    return end;
}

static enum rg_code push(struct lexer *x, enum rg_jtoken_kind kind, const char *text, size_t len)
{
    void *items = x->out->items;

    RG_TRY(rg_jgrow(x->w, &items, &x->out->capacity, (size_t)x->out->n + 1, sizeof *x->out->items));
    x->out->items = items;
    x->out->items[x->out->n++] =
        (struct rg_jtoken){.kind = kind, .line = x->w->line, .text = text, .len = len};
    return RG_OK;
}

/* Moves to `to`, counting lines. */
static void advance(struct lexer *x, size_t to)
{
    for (size_t i = x->at; i < to; i++)
        x->w->line += x->source[i] == '\n';
    if (to > x->at)
        x->line_starting = x->source[to - 1] == '\n';
    x->at = to;
}

/* The text before a tag that begins at `tag`; sign is the character after the tag's opening. */
static enum rg_code data_before(struct lexer *x, size_t tag, char sign, bool may_strip_line)
{
    size_t end = tag;

    if (sign == '-') {
        end = strip_end(x, x->at, tag);
    } else if (sign != '+' && may_strip_line) {
        size_t line = tag;

        while (line > x->at && x->source[line - 1] != '\n')
            line--;
        if ((line > x->at || x->line_starting) && strip_end(x, line, tag) == line)
            end = line;
    }
    if (end > x->at)
        RG_TRY(push(x, RG_JT_DATA, x->source + x->at, end - x->at));
    advance(x, tag);
    return RG_OK;
}

/* If a tag's closing `mark` ("%}", "#}") stands at `at`, with its sign, sets *end behind it and
 * what it strips. */
static bool closes(const struct lexer *x, size_t at, const char *mark, size_t *end)
{
    if (is_at(x, at, mark)) {
        *end = at + 2;
        if (*end < x->len && x->source[*end] == '\n')
            (*end)++;
        return true;
    }
    if (at < x->len && x->source[at] == '-' && is_at(x, at + 1, mark)) {
        *end = skip_space(x, at + 3);
        return true;
    }
    if (at < x->len && x->source[at] == '+' && is_at(x, at + 1, mark)) {
        *end = at + 3;
        return true;
    }
    return false;
}

static enum rg_code comment(struct lexer *x)
{
    size_t end;

    for (size_t at = x->at; at < x->len; at++) {
        if (closes(x, at, "#}", &end)) {
            advance(x, end);
            return RG_OK;
        }
    }
    return rg_jfail(x->w, RG_E_BAD_DATA, "comment without its #}");
}

/* If "{% word %}" stands at `at`, sets the sign after its "{%" and where "word" ends. */
static bool is_word_tag(const struct lexer *x, size_t at, const char *word, char *sign, size_t *end)
{
    size_t p = at + 2;

    if (!is_at(x, at, "{%"))
        return false;
    *sign = p < x->len ? x->source[p] : '\0';
    if (*sign == '-' || *sign == '+')
        p++;
    p = skip_space(x, p);
    if (!is_at(x, p, word))
        return false;
    *end = skip_space(x, p + strlen(word));
    return true;
}

/* A raw block whose "{% raw %}" ends at `body`. */
static enum rg_code raw_block(struct lexer *x, size_t body)
{
    advance(x, body);
    for (size_t at = body; at < x->len; at++) {
        char sign;
        size_t word_end, end;

        if (!is_word_tag(x, at, "endraw", &sign, &word_end) || !closes(x, word_end, "%}", &end))
            continue;
        RG_TRY(data_before(x, at, sign, true));
        advance(x, end);
        return RG_OK;
    }
    return rg_jfail(x->w, RG_E_BAD_DATA, "raw block without its endraw");
}

/* If "{% raw %}" stands at `at`, sets where its body begins: no newline is dropped after it. */
static bool is_raw_tag(const struct lexer *x, size_t at, char *sign, size_t *body)
{
    size_t end;

    if (!is_word_tag(x, at, "raw", sign, &end))
        return false;
    if (is_at(x, end, "%}")) {
        *body = end + 2;
        return true;
    }
    if (end < x->len && x->source[end] == '-' && is_at(x, end + 1, "%}")) {
        *body = skip_space(x, end + 3);
        return true;
    }
    return false;
}

/* ---- inside of tags ------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c) ||
           (unsigned char)c >= 0x80;
}

/* Digits with single underscores between them. */
static size_t digits(const struct lexer *x, size_t at)
{
    while (at < x->len && (is_digit(x->source[at]) || (x->source[at] == '_' && at + 1 < x->len &&
                                                       is_digit(x->source[at + 1]))))
        at++;
    return at;
}

static enum rg_code number(struct lexer *x)
{
    const bool after_dot = x->at > 0 && x->source[x->at - 1] == '.';
    size_t end = digits(x, x->at);
    bool is_float = false;

    if (!after_dot && end + 1 < x->len && x->source[end] == '.' && is_digit(x->source[end + 1])) {
        is_float = true;
        end = digits(x, end + 1);
    }
    if (!after_dot && end < x->len && (x->source[end] == 'e' || x->source[end] == 'E')) {
        size_t exponent = end + 1;

        if (exponent < x->len && (x->source[exponent] == '+' || x->source[exponent] == '-'))
            exponent++;
        if (exponent < x->len && is_digit(x->source[exponent])) {
            is_float = true;
            end = digits(x, exponent);
        }
    }
    if (!is_float && x->source[x->at] == '0' && strspn(x->source + x->at, "0_") < end - x->at)
        return rg_jfail(x->w, RG_E_BAD_DATA, "number that begins with 0");
    if (end < x->len && is_name_byte(x->source[end]))
        return rg_jfail(x->w, RG_E_UNSUPPORTED, "number that goes on with '%c'", x->source[end]);
    RG_TRY(push(x, is_float ? RG_JT_FLOAT : RG_JT_INTEGER, x->source + x->at, end - x->at));
    advance(x, end);
    return RG_OK;
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* \xHH, \uHHHH, \UHHHHHHHH: `n` digits at p. */
static enum rg_code hex_escape(struct lexer *x, const char *p, size_t n, const char *end,
                               uint32_t *cp)
{
    *cp = 0;
    for (size_t i = 0; i < n; i++) {
        const int digit = p + i < end ? hex_digit(p[i]) : -1;

        if (digit < 0)
            return rg_jfail(x->w, RG_E_BAD_DATA, "truncated escape in a string");
        *cp = *cp * 16 + (uint32_t)digit;
    }
    if (*cp > 0x10FFFF || (*cp >= 0xD800 && *cp <= 0xDFFF))
        return rg_jfail(x->w, RG_E_BAD_DATA, "escape of U+%X, which is no character", *cp);
    return RG_OK;
}

static size_t octal_escape(const char *p, const char *end, uint32_t *cp)
{
    size_t n = 0;

    *cp = 0;
    while (n < 3 && p + n < end && p[n] >= '0' && p[n] <= '7')
        *cp = *cp * 8 + (uint32_t)(p[n++] - '0');
    return n;
}

/* One escape: *p is behind the backslash and moves behind the escape.  Unknown ones are kept. */
static enum rg_code unescape(struct lexer *x, const char **p, const char *end, char **out)
{
    static const char from[] = "\\'\"abfnrtv";
    static const char to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = **p;
    const char *simple = c ? strchr(from, c) : NULL;
    uint32_t cp;

    if (simple) {
        *(*out)++ = to[simple - from];
        (*p)++;
        return RG_OK;
    }
    if (c == '\n') {
        (*p)++;
        return RG_OK;
    }
    if (c == 'N')
        return rg_jfail(x->w, RG_E_UNSUPPORTED, "\\N{...} in a string");
    if (c == 'x' || c == 'u' || c == 'U') {
        const size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;

        RG_TRY(hex_escape(x, *p + 1, n, end, &cp));
        *p += 1 + n;
        *out += rg_utf8_put(*out, cp);
        return RG_OK;
    }
    const size_t n = octal_escape(*p, end, &cp);

    if (n) {
        *p += n;
        *out += rg_utf8_put(*out, cp);
        return RG_OK;
    }
    *(*out)++ = '\\';
    return RG_OK;
}

static enum rg_code string(struct lexer *x)
{
    const char quote = x->source[x->at];
    size_t end = x->at + 1;
    char *out;

    while (end < x->len && x->source[end] != quote)
        end += x->source[end] == '\\' ? 2 : 1;
    if (end >= x->len)
        return rg_jfail(x->w, RG_E_BAD_DATA, "string without its closing %c", quote);

    const char *p = x->source + x->at + 1, *stop = x->source + end;
    char *bytes = out = rg_jalloc(x->w, (size_t)(stop - p) + 1);

    if (!bytes)
        return rg_jshort(x->w);
    while (p < stop) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        p++;
        RG_TRY(unescape(x, &p, stop, &out));
    }
    RG_TRY(push(x, RG_JT_STRING, bytes, (size_t)(out - bytes)));
    advance(x, end + 1);
    return RG_OK;
}

static enum rg_code brace(struct lexer *x, char c)
{
    static const char open[] = "([{", close[] = ")]}";
    const char *p = strchr(open, c);

    if (p) {
        if (x->n_braces == BRACES_MAX)
            return rg_jfail(x->w, RG_E_LIMIT, "more than %d open brackets", BRACES_MAX);
        x->braces[x->n_braces++] = close[p - open];
    } else if (strchr(close, c)) {
        if (x->n_braces == 0 || x->braces[x->n_braces - 1] != c)
            return rg_jfail(x->w, RG_E_BAD_DATA, "unexpected '%c'", c);
        x->n_braces--;
    }
    return RG_OK;
}

static enum rg_code operator_token(struct lexer *x)
{
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    const char c = x->source[x->at];
    size_t n = 1;

    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (is_at(x, x->at, two[i]))
            n = 2;
    if (n == 1 && (c == '\0' || !strchr("+-/*%~[](){}><=.:|,;", c)))
        return rg_jfail(x->w, RG_E_BAD_DATA, "unexpected character '%c'", c);
    if (n == 1)
        RG_TRY(brace(x, c));
    RG_TRY(push(x, RG_JT_OPERATOR, x->source + x->at, n));
    memcpy(x->out->items[x->out->n - 1].op, x->source + x->at, n);
    advance(x, x->at + n);
    return RG_OK;
}

/* True at the end of the tag, with *end behind it. */
static bool tag_ends(const struct lexer *x, bool block, size_t *end)
{
    if (x->n_braces)
        return false;
    if (block)
        return closes(x, x->at, "%}", end);
    if (is_at(x, x->at, "}}")) {
        *end = x->at + 2;
        return true;
    }
    if (is_at(x, x->at, "-}}")) {
        *end = skip_space(x, x->at + 3);
        return true;
    }
    return false;
}

static enum rg_code inside_tag(struct lexer *x, bool block)
{
    while (x->at < x->len) {
        const size_t space = skip_space(x, x->at);
        size_t end;

        if (tag_ends(x, block, &end)) {
            RG_TRY(push(x, block ? RG_JT_BLOCK_END : RG_JT_VARIABLE_END, x->source + x->at, 2));
            advance(x, end);
            return RG_OK;
        }
        if (space > x->at) {
            advance(x, space);
            continue;
        }

        const char c = x->source[x->at];

        if (is_digit(c)) {
            RG_TRY(number(x));
        } else if (c == '\'' || c == '"') {
            RG_TRY(string(x));
        } else if (is_name_byte(c)) {
            end = x->at;
            while (end < x->len && is_name_byte(x->source[end]))
                end++;
            RG_TRY(push(x, RG_JT_NAME, x->source + x->at, end - x->at));
            advance(x, end);
        } else {
            RG_TRY(operator_token(x));
        }
    }
    return rg_jfail(x->w, RG_E_BAD_DATA, "tag without its %s", block ? "%}" : "}}");
}

/* The tag whose opening stands at `tag`. */
static enum rg_code tag(struct lexer *x, size_t at)
{
    const char kind = x->source[at + 1];
    char sign = at + 2 < x->len ? x->source[at + 2] : '\0';
    size_t body;

    if (kind == '%' && is_raw_tag(x, at, &sign, &body)) {
        RG_TRY(data_before(x, at, sign, true));
        return raw_block(x, body);
    }
    RG_TRY(data_before(x, at, sign, kind != '{'));
    advance(x, at + 2 + (sign == '-' || sign == '+'));
    if (kind == '#')
        return comment(x);
    RG_TRY(push(x, kind == '%' ? RG_JT_BLOCK_BEGIN : RG_JT_VARIABLE_BEGIN, x->source + at, 2));
    return inside_tag(x, kind == '%');
}

enum rg_code rg_jinja_lex(struct rg_jwork *w, const char *source, size_t len,
                          struct rg_jtokens *out)
{
    struct lexer x = {.w = w, .source = source, .len = len, .out = out, .line_starting = true};

    w->line = 1;
    while (x.at < len) {
        const char *p = source + x.at;
        const char *end = source + len;

        while ((p = memchr(p, '{', (size_t)(end - p))) != NULL) {
            if (p + 1 < end && (p[1] == '{' || p[1] == '%' || p[1] == '#'))
                break;
            p++;
        }
        if (!p) {
            RG_TRY(push(&x, RG_JT_DATA, source + x.at, len - x.at));
            advance(&x, len);
            break;
        }
        RG_TRY(tag(&x, (size_t)(p - source)));
    }
    return push(&x, RG_JT_END, source + len, 0);
}
