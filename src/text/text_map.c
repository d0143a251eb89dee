/* text_map.c - following a range of a changed text back to its source. */
#include "text/text_map.h"

#include "base/mem.h"

void rg_text_map_free(struct rg_text_map *m)
{
    rg_free(m->edits);
    *m = (struct rg_text_map){0};
}

void rg_text_map_clear(struct rg_text_map *m)
{
    m->n = 0;
}

enum rg_code rg_text_map_add(struct rg_text_map *m, const struct rg_edit *edit, struct rg_err *err)
{
    void        *edits = m->edits;
    enum rg_code code = rg_grow(&edits, &m->capacity, m->n + 1, sizeof *edit, err);

    m->edits = edits;
    if (code)
        return code;
    m->edits[m->n++] = *edit;
    return RG_OK;
}

/* The number of edits whose new range begins before `at`. */
static size_t edits_before(const struct rg_text_map *m, size_t at)
{
    size_t low = 0;
    size_t high = m->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (m->edits[mid].new_begin < at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void rg_text_map_back(const struct rg_text_map *m, size_t *begin, size_t *end)
{
    const size_t before_begin = edits_before(m, *begin + 1);
    const size_t before_end = edits_before(m, *end);

    if (before_begin > 0) {
        const struct rg_edit *e = &m->edits[before_begin - 1];

        *begin = *begin < e->new_end ? e->old_begin : *begin - e->new_end + e->old_end;
    }
    if (before_end > 0) {
        const struct rg_edit *e = &m->edits[before_end - 1];

        *end = *end <= e->new_end ? e->old_end : *end - e->new_end + e->old_end;
    }
}
