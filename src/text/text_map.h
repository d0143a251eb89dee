/* text_map.h - where each byte of a changed text came from.
 *
 * A text is changed by edits: bytes [old_begin, old_end) became [new_begin, new_end); what lies
 * between edits is the same and only moved.
 * Threads    One at a time. */
#ifndef RG_TEXT_TEXT_MAP_H
#define RG_TEXT_TEXT_MAP_H

#include <stddef.h>

#include "base/err.h"

struct rg_edit {
    size_t old_begin, old_end;
    size_t new_begin, new_end;
};

struct rg_text_map {
    struct rg_edit *edits; /* owned, ascending */
    size_t          n, capacity;
};

void rg_text_map_free(struct rg_text_map *m);
void rg_text_map_clear(struct rg_text_map *m); /* memory kept */
RG_CHECKED enum rg_code rg_text_map_add(struct rg_text_map *m, const struct rg_edit *edit,
                                        struct rg_err *err);

/* The smallest range of the old text that the new range [*begin, *end) was made of. */
void rg_text_map_back(const struct rg_text_map *m, size_t *begin, size_t *end);

#endif
