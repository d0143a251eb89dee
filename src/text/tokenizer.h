/* tokenizer.h - bytes to token ids and back: tiktoken.model, tokenizer.json (byte-level BPE).
 *
 * Trust      A prompt is bytes with trusted spans (written by the chat template) and untrusted ones
 *            (message contents).  With RG_CONTROL_TRUSTED a control token is recognised only where
 *            all its bytes are trusted, so no content can make one.  Text between recognised tokens
 *            is one piece whatever its origin.
 * Cost       O(n log n) in the input; a match limit that grows with the input bounds the regexes.
 * Threads    immutable after opening; encode and decode from any thread. */
#ifndef RG_TEXT_TOKENIZER_H
#define RG_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct rg_tokenizer;

/* Bytes [begin, end) of a text; spans are in order and tile it. */
struct rg_span {
    size_t begin, end;
    bool   trusted;
};

struct rg_ids {
    int32_t *data; /* owned */
    size_t   len, capacity;
};

void rg_ids_free(struct rg_ids *ids);

enum rg_control {
    RG_CONTROL_PLAIN,  /* special tokens are text, other added ones are not (renga tokenize) */
    RG_CONTROL_ALL,    /* every added token is recognised (renga tokenize --special)         */
    RG_CONTROL_TRUSTED /* chat: control tokens only where every byte is trusted              */
};

RG_CHECKED enum rg_code rg_tokenizer_open(struct rg_tokenizer **out, const char *dir,
                                          struct rg_err *err);
void rg_tokenizer_close(struct rg_tokenizer *t); /* accepts NULL */

/* Tells which added tokens are control tokens in a chat: the special ones and those whose content
 * is in `literals`, the template's own text outside of tags and inside its string literals.  Call
 * once, before the first encode with RG_CONTROL_TRUSTED. */
RG_CHECKED enum rg_code rg_tokenizer_set_template(struct rg_tokenizer *t, const char *literals,
                                                  size_t len, struct rg_err *err);

/* Appends the ids of text (any bytes: ill-formed UTF-8 counts as U+FFFD per maximal subpart).
 * spans may be NULL (n_spans 0) unless control is RG_CONTROL_TRUSTED.  No BOS is added. */
RG_CHECKED enum rg_code rg_tokenizer_encode(const struct rg_tokenizer *t, const char *text,
                                            size_t len, const struct rg_span *spans, size_t n_spans,
                                            enum rg_control control, struct rg_ids *out,
                                            struct rg_err *err);

uint32_t rg_tokenizer_vocab_size(const struct rg_tokenizer *t); /* highest id + 1 */

/* The bytes of a token (borrowed), also of a control token; n = 0 for an id without one. */
const char *rg_tokenizer_bytes(const struct rg_tokenizer *t, int32_t id, size_t *n);

/* True for tokens that are never part of an answer's text (special: true). */
bool rg_tokenizer_is_special(const struct rg_tokenizer *t, int32_t id);

/* The id of an added token by its content; -1: there is none. */
int32_t rg_tokenizer_find(const struct rg_tokenizer *t, const char *content);

#endif
