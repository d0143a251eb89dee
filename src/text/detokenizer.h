/* detokenizer.h - tokens to text as they come, never a broken UTF-8 sequence and never a lost byte.
 *
 * Bytes that may still become a character are held back (3 at most); an ill-formed one becomes
 * U+FFFD as soon as that is certain.  Special tokens give no text.
 * Threads    One at a time. */
#ifndef RG_TEXT_DETOKENIZER_H
#define RG_TEXT_DETOKENIZER_H

#include "text/tokenizer.h"

struct rg_detokenizer {
    const struct rg_tokenizer *tokenizer; /* borrowed */
    char                       held[4];   /* an incomplete sequence */
    size_t                     n_held;
};

void rg_detokenizer_init(struct rg_detokenizer *d, const struct rg_tokenizer *t);

/* Appends the text that is certain after this token. */
RG_CHECKED enum rg_code rg_detokenizer_push(struct rg_detokenizer *d, int32_t id,
                                            struct rg_buf *out, struct rg_err *err);

/* Ends the text: held bytes become U+FFFD. */
RG_CHECKED enum rg_code rg_detokenizer_finish(struct rg_detokenizer *d, struct rg_buf *out,
                                              struct rg_err *err);

#endif
