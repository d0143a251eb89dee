/* utf8.c - well-formed sequences after table 3-7 of the Unicode standard. */
#include "base/utf8.h"

#include <assert.h>
#include <string.h>

/* The length that a lead byte announces, and the range of its second byte; 0: not a lead byte. */
static size_t lead_length(unsigned char lead, unsigned char *least, unsigned char *most)
{
    *least = 0x80;
    *most = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0)
            *least = 0xA0;
        if (lead == 0xED)
            *most = 0x9F;
        return 3;
    }
    if (lead == 0xF0)
        *least = 0x90;
    if (lead == 0xF4)
        *most = 0x8F;
    return 4;
}

size_t rg_utf8_next(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *u = (const unsigned char *)s;
    unsigned char least, most;

    assert(n > 0);
    const size_t length = lead_length(u[0], &least, &most);

    *cp = 0xFFFFFFFFu;
    if (length == 0)
        return 1;
    if (length == 1) {
        *cp = u[0];
        return 1;
    }

    uint32_t value = u[0] & (0xFFu >> (length + 1));

    for (size_t i = 1; i < length; i++) {
        if (i == n || u[i] < least || u[i] > most)
            return i;
        value = value << 6 | (u[i] & 0x3Fu);
        least = 0x80;
        most = 0xBF;
    }
    *cp = value;
    return length;
}

size_t rg_utf8_put(char out[4], uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

/* The number of leading ASCII bytes, eight at a time. */
static size_t ascii_run(const char *s, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        uint64_t word;

        memcpy(&word, s + i, 8);
        if (word & 0x8080808080808080u)
            break;
    }
    while (i < n && (unsigned char)s[i] < 0x80)
        i++;
    return i;
}

bool rg_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        i += ascii_run(s + i, n - i);
        if (i == n)
            break;

        uint32_t cp;
        const size_t length = rg_utf8_next(s + i, n - i, &cp);

        if (cp == 0xFFFFFFFFu)
            return false;
        i += length;
    }
    return true;
}

enum rg_code rg_utf8_repair(struct rg_buf *out, const char *s, size_t n, struct rg_err *err)
{
    size_t good = 0; /* start of the well-formed run that ends at i */
    enum rg_code code;

    for (size_t i = 0; i < n;) {
        uint32_t cp;
        const size_t length = rg_utf8_next(s + i, n - i, &cp);

        if (cp == 0xFFFFFFFFu) {
            code = rg_buf_add(out, s + good, i - good, err);
            if (code == RG_OK)
                code = rg_buf_add(out, "\xEF\xBF\xBD", 3, err);
            if (code)
                return code;
            good = i + length;
        }
        i += length;
    }
    return rg_buf_add(out, s + good, n - good, err);
}

size_t rg_utf8_incomplete_tail(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    unsigned char least, most;

    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const size_t length = lead_length(u[n - back], &least, &most);

        if (length == 0)
            continue; /* a continuation byte (or never valid): look further back */
        if (length <= back)
            return 0;

        uint32_t cp;
        const size_t subpart = rg_utf8_next(s + n - back, back, &cp);

        return subpart == back ? back : 0;
    }
    return 0;
}
