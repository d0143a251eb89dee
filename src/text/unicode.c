/* unicode.c - character classes outside of regexes, and the proxies for young characters. */
#include "text/unicode.h"

#include "base/utf8.h"

static bool in_ranges(const struct rg_code_range *ranges, size_t n, uint32_t cp)
{
    size_t low = 0;
    size_t high = n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (cp > ranges[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && cp >= ranges[low].first;
}

bool rg_is_white_space(uint32_t cp)
{
    return (cp >= 0x9 && cp <= 0xD) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
           cp == 0x205F || cp == 0x3000;
}

bool rg_is_python_space(uint32_t cp)
{
    return (cp >= 0x1C && cp <= 0x1F) || rg_is_white_space(cp);
}

bool rg_is_punctuation(uint32_t cp)
{
    return in_ranges(rg_punctuation, rg_n_punctuation, cp);
}

bool rg_is_numeric(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= '0' && cp <= '9';
    return in_ranges(rg_numeric, rg_n_numeric, cp);
}

bool rg_is_word(uint32_t cp)
{
    return in_ranges(rg_word, rg_n_word, cp);
}

/* 0: the character needs no proxy. */
static uint32_t find_proxy(uint32_t cp)
{
    size_t low = 0;
    size_t high = rg_n_code_proxies;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (cp > rg_code_proxies[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < rg_n_code_proxies && cp >= rg_code_proxies[low].first ? rg_code_proxies[low].proxy
                                                                       : 0;
}

/* Of the common characters none is younger than Unicode 14: up to U+0896, and the ideographs,
 * Hangul and kana (3000..31E3, 3200..A7CA). */
static bool surely_old(uint32_t cp)
{
    return cp < 0x897 || (cp >= 0x3000 && cp < 0x31E4) || (cp >= 0x3200 && cp < 0xA7CB) ||
           (cp >= 0xAC00 && cp < 0xD7A4);
}

enum rg_code rg_unicode_shadow(struct rg_buf *out, const char *text, size_t len, struct rg_err *err)
{
    const size_t start = out->len;
    uint32_t     cp;
    enum rg_code code;

    for (size_t at = 0, n; at < len; at += n) {
        uint32_t proxy;

        n = 1;
        if ((uint8_t)text[at] < 0xE0)
            continue; /* also the second byte of a two-byte character */
        n = rg_utf8_next(text + at, len - at, &cp);
        if (surely_old(cp))
            continue;
        proxy = find_proxy(cp);
        if (proxy == 0)
            continue;
        if (out->len == start) {
            code = rg_buf_add(out, text, len, err);
            if (code)
                return code;
        }
        (void)rg_utf8_put(out->data + start + at, proxy);
    }
    return RG_OK;
}
