/* answer.h - sampled tokens to the text a client may see: detokenised, cut at stop strings.
 *
 * Text that may be the beginning of a stop string is held back until that is decided.  When a stop
 * string appears, it and everything after it is dropped.  At the end without one the held text
 * comes.  Of several stop strings that which is complete first counts.
 * Threads    One at a time. */
#ifndef RG_TEXT_ANSWER_H
#define RG_TEXT_ANSWER_H

#include "base/limits.h"
#include "text/detokenizer.h"

struct rg_answer {
    struct rg_detokenizer detokenizer;
    struct rg_buf         held;                  /* text not yet given out */
    char                 *stops[RG_LIMIT_STOPS]; /* owned */
    uint32_t              n_stops;
    bool                  stopped;
};

RG_CHECKED enum rg_code rg_answer_init(struct rg_answer *a, const struct rg_tokenizer *t,
                                       const char *const *stops, uint32_t n_stops,
                                       struct rg_err *err);
void rg_answer_free(struct rg_answer *a);

/* Appends the text that is certain after this token; sets a->stopped at a stop string. */
RG_CHECKED enum rg_code rg_answer_push(struct rg_answer *a, int32_t id, struct rg_buf *out,
                                       struct rg_err *err);
/* Ends the answer: appends what was held. */
RG_CHECKED enum rg_code rg_answer_finish(struct rg_answer *a, struct rg_buf *out,
                                         struct rg_err *err);

#endif
