/* chat_request.h - the body of POST /v1/chat/completions to what the engine is asked.
 *
 * One table of fields (chat_fields.c) says of each field what it may be and what becomes of it:
 * honoured, accepted because it cannot change the text, or answered with 400.  Nothing is ignored.
 * docs/API.md shows that table; a test compares the two.
 * Threads    rg_chat_request_make() may run on any thread: it only reads the model.
 * Limits     RG_LIMIT_BODY_BYTES, _JSON_DEPTH, _MESSAGES, _CHOICES, _STOPS, _STOP_BYTES,
 *            _TOP_LOGPROBS, _LOGIT_BIAS. */
#ifndef RG_API_CHAT_REQUEST_H
#define RG_API_CHAT_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "api/api_error.h"
#include "base/buf.h"
#include "base/limits.h"
#include "engine/llm.h"

struct rg_chat_request {
    bool                  stream, include_usage;
    uint32_t              n_choices;
    uint32_t              max_tokens; /* UINT32_MAX: the rest of the context */
    struct rg_sampling    sampling;   /* bias is this request's */
    struct rg_logit_bias *bias;       /* owned */
    char                 *stops[RG_LIMIT_STOPS]; /* owned */
    uint32_t              n_stops;
    struct rg_ids         prompt;     /* owned */
};

/* Parses, checks, renders and tokenises.  False: *error says what to answer, and *r is empty. */
RG_CHECKED bool rg_chat_request_make(struct rg_chat_request *r, const struct rg_llm *llm,
                                     const char *body, size_t len, struct rg_api_error *error);
void rg_chat_request_free(struct rg_chat_request *r);

/* Appends the tables of fields as Markdown, for docs/API.md. */
RG_CHECKED enum rg_code rg_fields_print_markdown(struct rg_buf *out, struct rg_err *err);

#endif
