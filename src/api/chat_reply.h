/* chat_reply.h - the JSON of a chat completion and of its chunks.
 *
 * Failure    only memory: RG_E_NOMEM, RG_E_LIMIT. */
#ifndef RG_API_CHAT_REPLY_H
#define RG_API_CHAT_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/sampler.h"
#include "text/tokenizer.h"

enum { RG_CHAT_ID_BYTES = 40 };

/* What all objects of one request have in common. */
struct rg_chat_head {
    char        id[RG_CHAT_ID_BYTES];
    int64_t     created;
    const char *model;
    bool        include_usage;
};

struct rg_chat_usage {
    uint32_t prompt_tokens, completion_tokens;
};

/* One choice's whole answer, or what a chunk adds to it. */
struct rg_chat_piece {
    uint32_t    index;
    bool        first;         /* of a chunk: it says the role */
    const char *text;          /* may be NULL with text_len 0 */
    size_t      text_len;
    const char *logprobs;      /* entries of the content array, or NULL: none asked for */
    size_t      logprobs_len;
    const char *finish_reason; /* NULL: null */
};

/* Appends one entry of logprobs.content, with a comma before it unless the buffer is empty. */
RG_CHECKED enum rg_code rg_chat_logprob_add(struct rg_buf *entries, const struct rg_tokenizer *t,
                                            const struct rg_sample *sample, struct rg_err *err);

RG_CHECKED enum rg_code rg_chat_chunk(struct rg_buf *out, const struct rg_chat_head *h,
                                      const struct rg_chat_piece *piece, struct rg_err *err);
RG_CHECKED enum rg_code rg_chat_usage_chunk(struct rg_buf *out, const struct rg_chat_head *h,
                                            struct rg_chat_usage usage, struct rg_err *err);
RG_CHECKED enum rg_code rg_chat_completion(struct rg_buf *out, const struct rg_chat_head *h,
                                           const struct rg_chat_piece *pieces, uint32_t n,
                                           struct rg_chat_usage usage, struct rg_err *err);

#endif
