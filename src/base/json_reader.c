/* json_reader.c - the pull reader: RFC 8259, token by token, nothing built. */
#include "base/json.h"

#include <assert.h>
#include <string.h>

#include "base/utf8.h"

/* What may come next. */
enum {
    STATE_VALUE,       /* a value */
    STATE_FIRST_VALUE, /* a value or the end of an array that was just opened */
    STATE_FIRST_KEY,   /* a key or the end of an object that was just opened */
    STATE_KEY,         /* a key, after a comma */
    STATE_COLON,       /* the colon after a key */
    STATE_COMMA,       /* a comma, or the end of the container */
    STATE_END          /* nothing but space */
};

void rg_json_reader_init(struct rg_json_reader *r, const char *text, size_t len, uint32_t depth_max)
{
    memset(r, 0, sizeof *r);
    r->text = text;
    r->len = len;
    r->depth_max = depth_max < RG_JSON_DEPTH_MAX ? depth_max : RG_JSON_DEPTH_MAX;
    r->state = STATE_VALUE;
}

static enum rg_code bad(const struct rg_json_reader *r, size_t at, const char *what,
                        struct rg_err *err)
{
    return rg_fail(err, RG_E_BAD_DATA, "JSON: %s at byte %zu of %zu", what, at, r->len);
}

static void skip_space(struct rg_json_reader *r)
{
    while (r->at < r->len) {
        const char c = r->text[r->at];

        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return;
        r->at++;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The value of the four hex digits at s, or -1. */
static int hex4(const char *s, size_t n)
{
    int value = 0;

    if (n < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const int d = hex_digit(s[i]);

        if (d < 0)
            return -1;
        value = value << 4 | d;
    }
    return value;
}

/* Checks the escape whose backslash is at `at`; returns its length, 0 when it is wrong. */
static size_t escape_length(struct rg_json_reader *r, size_t at)
{
    const char *s = r->text + at;
    const size_t n = r->len - at;

    if (n < 2)
        return 0;
    if (s[1] != 'u')
        return s[1] != '\0' && strchr("\"\\/bfnrt", s[1]) ? 2 : 0;

    const int unit = hex4(s + 2, n - 2);

    if (unit < 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
        return 0;
    if (unit == 0)
        r->token_nul = true;
    if (unit < 0xD800 || unit > 0xDBFF)
        return 6;
    if (n < 12 || s[6] != '\\' || s[7] != 'u')
        return 0;

    const int low = hex4(s + 8, n - 8);

    return low >= 0xDC00 && low <= 0xDFFF ? 12 : 0;
}

/* Reads the string whose opening quote is at r->at. */
static enum rg_code read_string(struct rg_json_reader *r, struct rg_err *err)
{
    const size_t begin = r->at + 1;
    size_t i = begin;

    r->token_escaped = r->token_nul = false;
    while (i < r->len) {
        const unsigned char c = (unsigned char)r->text[i];

        if (c == '"') {
            r->token_text = r->text + begin;
            r->token_len = i - begin;
            r->at = i + 1;
            return RG_OK;
        }
        if (c == '\\') {
            const size_t length = escape_length(r, i);

            if (length == 0)
                return bad(r, i, "a wrong escape in a string", err);
            r->token_escaped = true;
            i += length;
        } else if (c < 0x20) {
            return bad(r, i, "a control character in a string", err);
        } else if (c < 0x80) {
            i++;
        } else {
            uint32_t cp;
            const size_t length = rg_utf8_next(r->text + i, r->len - i, &cp);

            if (cp == 0xFFFFFFFFu)
                return bad(r, i, "invalid UTF-8", err);
            i += length;
        }
    }
    return bad(r, r->len, "a string that does not end", err);
}

static size_t digits(const struct rg_json_reader *r, size_t at)
{
    size_t i = at;

    while (i < r->len && r->text[i] >= '0' && r->text[i] <= '9')
        i++;
    return i - at;
}

static enum rg_code read_number(struct rg_json_reader *r, struct rg_err *err)
{
    size_t i = r->at;
    size_t n;

    if (r->text[i] == '-')
        i++;
    n = digits(r, i);
    if (n == 0)
        return bad(r, i, "a number without digits", err);
    if (n > 1 && r->text[i] == '0')
        return bad(r, i, "a number with a leading zero", err);
    i += n;
    if (i < r->len && r->text[i] == '.') {
        n = digits(r, i + 1);
        if (n == 0)
            return bad(r, i, "a number without digits after its point", err);
        i += 1 + n;
    }
    if (i < r->len && (r->text[i] == 'e' || r->text[i] == 'E')) {
        i++;
        if (i < r->len && (r->text[i] == '+' || r->text[i] == '-'))
            i++;
        n = digits(r, i);
        if (n == 0)
            return bad(r, i, "a number without digits in its exponent", err);
        i += n;
    }
    r->token_text = r->text + r->at;
    r->token_len = i - r->at;
    r->at = i;
    return RG_OK;
}

static enum rg_code read_word(struct rg_json_reader *r, const char *word, struct rg_err *err)
{
    const size_t n = strlen(word);

    if (r->len - r->at < n || memcmp(r->text + r->at, word, n) != 0)
        return bad(r, r->at, "an unknown word", err);
    r->token_text = r->text + r->at;
    r->token_len = n;
    r->at += n;
    return RG_OK;
}

static uint8_t state_after_value(const struct rg_json_reader *r)
{
    return r->depth == 0 ? STATE_END : STATE_COMMA;
}

static enum rg_code open_container(struct rg_json_reader *r, char kind, struct rg_err *err)
{
    if (r->depth >= r->depth_max)
        return rg_fail(err, RG_E_LIMIT, "JSON: nested deeper than %u at byte %zu", r->depth_max,
                       r->at);
    r->stack[r->depth++] = (uint8_t)kind;
    r->at++;
    r->state = kind == '{' ? STATE_FIRST_KEY : STATE_FIRST_VALUE;
    return RG_OK;
}

static enum rg_code read_value(struct rg_json_reader *r, enum rg_json_token *token,
                               struct rg_err *err)
{
    enum rg_code code;

    if (r->at == r->len)
        return bad(r, r->at, "the document ends where a value should be", err);
    switch (r->text[r->at]) {
    case '{':
        *token = RG_JSON_T_OBJECT_BEGIN;
        return open_container(r, '{', err);
    case '[':
        *token = RG_JSON_T_ARRAY_BEGIN;
        return open_container(r, '[', err);
    case '"':
        *token = RG_JSON_T_STRING;
        code = read_string(r, err);
        break;
    case 't':
        *token = RG_JSON_T_TRUE;
        code = read_word(r, "true", err);
        break;
    case 'f':
        *token = RG_JSON_T_FALSE;
        code = read_word(r, "false", err);
        break;
    case 'n':
        *token = RG_JSON_T_NULL;
        code = read_word(r, "null", err);
        break;
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        *token = RG_JSON_T_NUMBER;
        code = read_number(r, err);
        break;
    default:
        return bad(r, r->at, "no value begins like this", err);
    }
    r->state = state_after_value(r);
    return code;
}

static enum rg_code close_container(struct rg_json_reader *r, enum rg_json_token *token)
{
    r->depth--;
    *token = r->stack[r->depth] == '{' ? RG_JSON_T_OBJECT_END : RG_JSON_T_ARRAY_END;
    r->at++;
    r->state = state_after_value(r);
    return RG_OK;
}

static enum rg_code read_key(struct rg_json_reader *r, enum rg_json_token *token,
                             struct rg_err *err)
{
    if (r->at == r->len || r->text[r->at] != '"')
        return bad(r, r->at, "a key in quotes is missing", err);
    *token = RG_JSON_T_KEY;
    r->state = STATE_COLON;
    return read_string(r, err);
}

static bool next_is(const struct rg_json_reader *r, char c)
{
    return r->at < r->len && r->text[r->at] == c;
}

enum rg_code rg_json_read(struct rg_json_reader *r, enum rg_json_token *token, struct rg_err *err)
{
    skip_space(r);
    if (r->state == STATE_COLON) {
        if (!next_is(r, ':'))
            return bad(r, r->at, "a colon is missing", err);
        r->at++;
        r->state = STATE_VALUE;
        skip_space(r);
    } else if (r->state == STATE_COMMA) {
        const bool in_object = r->stack[r->depth - 1] == '{';

        if (next_is(r, in_object ? '}' : ']'))
            return close_container(r, token);
        if (!next_is(r, ','))
            return bad(r, r->at, "a comma or the end of the container is missing", err);
        r->at++;
        r->state = in_object ? STATE_KEY : STATE_VALUE;
        skip_space(r);
    }
    switch (r->state) {
    case STATE_FIRST_KEY:
        return next_is(r, '}') ? close_container(r, token) : read_key(r, token, err);
    case STATE_KEY:
        return read_key(r, token, err);
    case STATE_FIRST_VALUE:
        return next_is(r, ']') ? close_container(r, token) : read_value(r, token, err);
    case STATE_END:
        if (r->at < r->len)
            return bad(r, r->at, "something follows the document", err);
        *token = RG_JSON_T_END;
        return RG_OK;
    default:
        return read_value(r, token, err);
    }
}

enum rg_code rg_json_skip(struct rg_json_reader *r, struct rg_err *err)
{
    const uint32_t depth = r->depth;
    enum rg_json_token token;

    do {
        const enum rg_code code = rg_json_read(r, &token, err);

        if (code)
            return code;
        assert(token != RG_JSON_T_END);
    } while (r->depth > depth || token == RG_JSON_T_KEY);
    return RG_OK;
}

/* Undoes the escape at s; returns its length and writes the character to out. */
static size_t undo_escape(const char *s, char out[4], size_t *n_out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

    if (s[1] != 'u') {
        out[0] = to[strchr(from, s[1]) - from];
        *n_out = 1;
        return 2;
    }

    const uint32_t unit = (uint32_t)hex4(s + 2, 4);

    if (unit < 0xD800 || unit > 0xDBFF) {
        *n_out = rg_utf8_put(out, unit);
        return 6;
    }

    const uint32_t low = (uint32_t)hex4(s + 8, 4);

    *n_out = rg_utf8_put(out, 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00));
    return 12;
}

enum rg_code rg_json_unescape(const struct rg_json_reader *r, struct rg_buf *out,
                              struct rg_err *err)
{
    const char *s = r->token_text, *end = s + r->token_len;

    while (s < end) {
        const char *escape = memchr(s, '\\', (size_t)(end - s));
        const char *stop = escape ? escape : end;
        enum rg_code code = rg_buf_add(out, s, (size_t)(stop - s), err);

        if (code)
            return code;
        s = stop;
        if (escape) {
            char bytes[4];
            size_t n;

            s += undo_escape(escape, bytes, &n);
            code = rg_buf_add(out, bytes, n, err);
            if (code)
                return code;
        }
    }
    return RG_OK;
}
