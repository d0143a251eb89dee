/* jinja_unicode.c - look-ups in the generated character tables. */
#include "text/jinja_unicode.h"

#include <stddef.h>

struct range {
    uint32_t first, last;
};

struct case_run {
    uint32_t first, last, step;
    int32_t delta;
};

struct case_long {
    uint32_t cp;
    uint32_t to[3]; /* 0 = unused */
};

#include "text/jinja_unicode_table.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

static bool in_ranges(const struct range *table, size_t n, uint32_t cp)
{
    size_t low = 0, high = n;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (cp > table[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && cp >= table[low].first;
}

bool rg_junicode_printable(uint32_t cp)
{
    return !in_ranges(hidden, COUNT(hidden), cp);
}

bool rg_junicode_cased(uint32_t cp)
{
    return in_ranges(cased, COUNT(cased), cp);
}

bool rg_junicode_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 || cp == 0xA0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static bool map_run(const struct case_run *runs, size_t n, uint32_t cp, uint32_t *out)
{
    size_t low = 0, high = n;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (cp > runs[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == n || cp < runs[low].first || (cp - runs[low].first) % runs[low].step != 0)
        return false;
    *out = (uint32_t)((int32_t)cp + runs[low].delta);
    return true;
}

static uint32_t map_long(const struct case_long *table, size_t n, uint32_t cp, uint32_t out[3])
{
    for (size_t i = 0; i < n; i++) {
        if (table[i].cp != cp)
            continue;

        uint32_t count = 0;

        while (count < 3 && table[i].to[count]) {
            out[count] = table[i].to[count];
            count++;
        }
        return count;
    }
    return 0;
}

static uint32_t map(const struct case_run *runs, size_t n_runs, const struct case_long *table,
                    size_t n_table, uint32_t cp, uint32_t out[3])
{
    if (map_run(runs, n_runs, cp, out))
        return 1;
    return cp < 0x80 ? 0 : map_long(table, n_table, cp, out);
}

uint32_t rg_junicode_case(enum rg_jcase to, uint32_t cp, uint32_t out[3])
{
    uint32_t n = 0;

    if (to == RG_JCASE_LOWER)
        n = map(lower_runs, COUNT(lower_runs), lower_long, COUNT(lower_long), cp, out);
    if (to == RG_JCASE_TITLE) /* only what differs from upper case */
        n = map(title_runs, COUNT(title_runs), title_long, COUNT(title_long), cp, out);
    if (n == 0 && to != RG_JCASE_LOWER)
        n = map(upper_runs, COUNT(upper_runs), upper_long, COUNT(upper_long), cp, out);
    if (n == 0) {
        out[0] = cp;
        n = 1;
    }
    return n;
}
