/* nfc.c - canonical composition (Unicode standard annex 15).
 *
 * A text is walked for characters that move, change or may join the one before them ("moving");
 * only the stretch around such characters is decomposed, ordered and composed again. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/nfc_data.h"

enum {
    HANGUL_S = 0xAC00,
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11A7,
    HANGUL_N_L = 19,
    HANGUL_N_V = 21,
    HANGUL_N_T = 28,
    HANGUL_N_S = HANGUL_N_L * HANGUL_N_V * HANGUL_N_T,
    SHORT_RUN = 16, /* marks that are ordered by insertion */
    DECOMPOSED_MAX = 8 /* characters that one gives; the most is 4 */
};

struct mark {
    uint32_t cp;
    uint8_t  combining;
};

struct marks {
    struct mark *items; /* owned */
    size_t       n, capacity;
    struct mark *sorted; /* owned; scratch of long runs */
    size_t       sorted_capacity;
};

static bool is_moving(uint32_t cp)
{
    size_t low = 0;
    size_t high = rg_n_nfc_moving;

    if (cp < 0x300 || (cp >= 0x3400 && cp < 0xA66F) || (cp >= 0xAC00 && cp < 0xF900))
        return false;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (cp > rg_nfc_moving[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < rg_n_nfc_moving && cp >= rg_nfc_moving[low].first;
}

static uint8_t combining_class(uint32_t cp)
{
    size_t low = 0;
    size_t high = rg_n_nfc_classes;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (cp > rg_nfc_classes[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    if (low < rg_n_nfc_classes && cp >= rg_nfc_classes[low].first)
        return rg_nfc_classes[low].combining;
    return 0;
}

static const struct rg_nfc_pair *find_split(uint32_t cp)
{
    size_t low = 0;
    size_t high = rg_n_nfc_splits;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (rg_nfc_splits[mid].whole < cp)
            low = mid + 1;
        else
            high = mid;
    }
    return low < rg_n_nfc_splits && rg_nfc_splits[low].whole == cp ? &rg_nfc_splits[low] : NULL;
}

/* 0: the two do not compose. */
static uint32_t join(uint32_t first, uint32_t second)
{
    const uint64_t key = (uint64_t)first << 32 | second;
    size_t         low = 0;
    size_t         high = rg_n_nfc_joins;

    if (first - HANGUL_L < HANGUL_N_L && second - HANGUL_V < HANGUL_N_V)
        return HANGUL_S +
               ((first - HANGUL_L) * HANGUL_N_V + (second - HANGUL_V)) * HANGUL_N_T;
    if (first - HANGUL_S < HANGUL_N_S && (first - HANGUL_S) % HANGUL_N_T == 0 &&
        second - HANGUL_T - 1 < HANGUL_N_T - 1)
        return first + (second - HANGUL_T);
    while (low < high) {
        const size_t             mid = low + (high - low) / 2;
        const struct rg_nfc_pair *p = &rg_nfc_joins[mid];

        if (((uint64_t)p->first << 32 | p->second) < key)
            low = mid + 1;
        else
            high = mid;
    }
    if (low < rg_n_nfc_joins && rg_nfc_joins[low].first == first &&
        rg_nfc_joins[low].second == second)
        return rg_nfc_joins[low].whole;
    return 0;
}

/* ---- one stretch ---------------------------------------------------------------------------- */

static enum rg_code push(struct marks *m, uint32_t cp, struct rg_err *err)
{
    void        *items = m->items;
    enum rg_code code = rg_grow(&items, &m->capacity, m->n + 1, sizeof *m->items, err);

    m->items = items;
    if (code)
        return code;
    m->items[m->n++] = (struct mark){cp, combining_class(cp)};
    return RG_OK;
}

static enum rg_code push_hangul(struct marks *m, uint32_t s, struct rg_err *err)
{
    enum rg_code code = push(m, HANGUL_L + s / (HANGUL_N_V * HANGUL_N_T), err);

    if (!code)
        code = push(m, HANGUL_V + s % (HANGUL_N_V * HANGUL_N_T) / HANGUL_N_T, err);
    if (!code && s % HANGUL_N_T)
        code = push(m, HANGUL_T + s % HANGUL_N_T, err);
    return code;
}

/* The first of a pair may split on; the second never does. */
static enum rg_code decompose(struct marks *m, uint32_t cp, struct rg_err *err)
{
    uint32_t     tail[DECOMPOSED_MAX];
    size_t       n = 0;
    enum rg_code code;

    if (cp - HANGUL_S < HANGUL_N_S)
        return push_hangul(m, cp - HANGUL_S, err);
    for (const struct rg_nfc_pair *p = find_split(cp); p && n < DECOMPOSED_MAX;
         p = find_split(cp)) {
        if (p->second)
            tail[n++] = p->second;
        cp = p->first;
    }
    code = push(m, cp, err);
    while (n > 0 && !code)
        code = push(m, tail[--n], err);
    return code;
}

static void order_short(struct mark *run, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const struct mark item = run[i];
        size_t            k = i;

        for (; k > 0 && run[k - 1].combining > item.combining; k--)
            run[k] = run[k - 1];
        run[k] = item;
    }
}

/* A counting sort, so that a text of nothing but marks takes linear time. */
static enum rg_code order_long(struct marks *m, struct mark *run, size_t n, struct rg_err *err)
{
    size_t       starts[257] = {0};
    void        *sorted = m->sorted;
    enum rg_code code = rg_grow(&sorted, &m->sorted_capacity, n, sizeof *m->sorted, err);

    m->sorted = sorted;
    if (code)
        return code;
    for (size_t i = 0; i < n; i++)
        starts[run[i].combining + 1]++;
    for (size_t i = 1; i < 257; i++)
        starts[i] += starts[i - 1];
    for (size_t i = 0; i < n; i++)
        m->sorted[starts[run[i].combining]++] = run[i];
    memcpy(run, m->sorted, n * sizeof *run);
    return RG_OK;
}

static enum rg_code order(struct marks *m, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (size_t i = 0, end; i < m->n && !code; i = end) {
        end = i + 1;
        if (m->items[i].combining == 0)
            continue;
        while (end < m->n && m->items[end].combining != 0)
            end++;
        if (end - i <= SHORT_RUN)
            order_short(m->items + i, end - i);
        else
            code = order_long(m, m->items + i, end - i, err);
    }
    return code;
}

static void compose(struct marks *m)
{
    size_t  starter = SIZE_MAX; /* in the output */
    size_t  n = 0;
    uint8_t last = 0; /* class of the character before, if it stands behind the starter */

    for (size_t i = 0; i < m->n; i++) {
        const struct mark item = m->items[i];
        const bool        adjacent = n > 0 && starter == n - 1;

        if (starter != SIZE_MAX && (adjacent || last < item.combining)) {
            const uint32_t whole = join(m->items[starter].cp, item.cp);

            if (whole) {
                m->items[starter].cp = whole;
                continue;
            }
        }
        if (item.combining == 0)
            starter = n;
        last = item.combining;
        m->items[n++] = item;
    }
    m->n = n;
}

/* ---- the text ------------------------------------------------------------------------------- */

struct normalizer {
    const char         *text;
    size_t              len;
    struct rg_buf      *out;
    struct rg_text_map *map;
    size_t              done; /* text before this is in out */
    bool                changed;
    struct marks        marks;
};

static enum rg_code print_marks(struct rg_buf *out, const struct marks *m, struct rg_err *err)
{
    enum rg_code code = RG_OK;
    char         c[4];

    for (size_t i = 0; i < m->n && !code; i++) {
        const size_t n = rg_utf8_put(c, m->items[i].cp);

        code = rg_buf_add(out, c, n, err);
    }
    return code;
}

/* Normalises text [begin, end) and, if that changes it, copies what lies before it too. */
static enum rg_code stretch(struct normalizer *s, size_t begin, size_t end, struct rg_err *err)
{
    struct marks  *m = &s->marks;
    const size_t   out_before = s->out->len;
    struct rg_edit edit = {.old_begin = begin, .old_end = end};
    uint32_t       cp;
    enum rg_code   code = RG_OK;

    m->n = 0;
    for (size_t at = begin; at < end && !code;) {
        at += rg_utf8_next(s->text + at, end - at, &cp);
        code = decompose(m, cp, err);
    }
    if (!code)
        code = order(m, err);
    if (code)
        return code;
    compose(m);
    code = rg_buf_add(s->out, s->text + s->done, begin - s->done, err);
    edit.new_begin = s->out->len;
    if (!code)
        code = print_marks(s->out, m, err);
    edit.new_end = s->out->len;
    if (code)
        return code;
    if (edit.new_end - edit.new_begin == end - begin &&
        memcmp(s->out->data + edit.new_begin, s->text + begin, end - begin) == 0) {
        s->out->len = out_before;
        return RG_OK;
    }
    s->done = end;
    s->changed = true;
    return rg_text_map_add(s->map, &edit, err);
}

static enum rg_code walk(struct normalizer *s, struct rg_err *err)
{
    size_t       stable = 0; /* begin of the last character that does not move */
    size_t       at = 0;
    uint32_t     cp;
    enum rg_code code = RG_OK;

    while (at < s->len && !code) {
        const size_t n = rg_utf8_next(s->text + at, s->len - at, &cp);
        size_t       end = at + n;

        if (!is_moving(cp)) {
            stable = at;
            at = end;
            continue;
        }
        while (end < s->len) {
            const size_t more = rg_utf8_next(s->text + end, s->len - end, &cp);

            if (!is_moving(cp))
                break;
            end += more;
        }
        code = stretch(s, stable, end, err);
        at = end;
        stable = end;
    }
    return code;
}

enum rg_code rg_nfc(struct rg_buf *out, struct rg_text_map *map, const char *text, size_t len,
                    bool *changed, struct rg_err *err)
{
    struct normalizer s = {.text = text, .len = len, .out = out, .map = map};
    enum rg_code      code = walk(&s, err);

    if (!code && s.changed)
        code = rg_buf_add(out, text + s.done, len - s.done, err);
    *changed = s.changed;
    rg_free(s.marks.items);
    rg_free(s.marks.sorted);
    return code;
}
