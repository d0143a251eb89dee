/* jinja_work.h - memory, budget and place of one parsing or rendering (private to src/text).
 *
 * Lifetime   Everything that rg_jalloc() gives lives in the arena and dies with it.
 * Limits     rg_jalloc() stops at bytes_max; rg_jwork_spend() counts the bytes that were walked.
 * Failure    An enum rg_code; the error line names the template's line.
 * Threads    One per rg_jwork. */
#ifndef RG_TEXT_JINJA_WORK_H
#define RG_TEXT_JINJA_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

/* Leaves the calling function when a call failed: everything is in an arena, so nothing leaks. */
#define RG_TRY(call)                                                                               \
    do {                                                                                           \
        const enum rg_code code_ = (call);                                                         \
        if (code_ != RG_OK)                                                                        \
            return code_;                                                                          \
    } while (0)

enum {
    RG_JALLOC_MAX = 512 << 20, /* bytes of one rendering's memory */
    RG_JDEPTH_MAX = 1024       /* C recursion: some hundred bytes of stack per level */
};
#define RG_JWORK_BYTES_MAX (UINT64_C(4) << 30) /* bytes walked by one rendering: some seconds */

/* Memory, budget and place of one parsing or rendering. */
struct rg_jwork {
    struct rg_arena arena;
    char *at; /* the rest of the current small block */
    size_t left;
    size_t wanted;      /* what the rg_jalloc() that failed last was asked for */
    struct rg_err *err; /* borrowed */
    uint32_t line;      /* of the template, for messages; 0 = none */
    uint32_t depth;     /* of nested evaluation */
    uint32_t steps;     /* evaluated nodes */
    uint64_t bytes;     /* walked */
};

void rg_jwork_init(struct rg_jwork *w, size_t bytes_max, struct rg_err *err);
void rg_jwork_free(struct rg_jwork *w);
RG_CHECKED void *rg_jalloc(struct rg_jwork *w, size_t bytes); /* zeroed; NULL when short */
enum rg_code rg_jshort(struct rg_jwork *w); /* reports an rg_jalloc() that failed */
RG_CHECKED enum rg_code rg_jwork_spend(struct rg_jwork *w, size_t bytes);
RG_CHECKED enum rg_code rg_jgrow(struct rg_jwork *w, void **items, uint32_t *capacity, size_t need,
                                 size_t size);

/* Fills the error with "chat template line N: ..." and returns code. */
RG_PRINTF(3, 4)
enum rg_code rg_jfail(struct rg_jwork *w, enum rg_code code, const char *format, ...);

#endif
