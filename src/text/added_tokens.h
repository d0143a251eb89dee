/* added_tokens.h - tokens that are found in a text before anything else looks at it.
 *
 * Search     Leftmost, then longest, with Hugging Face's rules for single_word, lstrip and rstrip.
 *            A token with `normalized` is looked for in normalised text, in a second pass.
 * Threads    Immutable after rg_added_tokens_finish(), but for `control` (set_template). */
#ifndef RG_TEXT_ADDED_TOKENS_H
#define RG_TEXT_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/text_map.h"
#include "text/tokenizer.h"

enum { RG_ADDED_TOKEN_BYTES = 1024 }; /* of one content; bounds the steps per byte of text */

struct rg_added_token {
    char   *content; /* owned, `len` bytes and a NUL */
    size_t  len;
    int32_t id;
    bool    special, single_word, lstrip, rstrip, normalized;
    bool    control; /* in a chat */
};

/* Children of a node are a list; the root's are a table. */
struct rg_added_node {
    uint32_t child, sibling; /* 0: none */
    int32_t  token;          /* index of the token that ends here, -1: none */
    uint8_t  byte;
};

struct rg_added_trie {
    struct rg_added_node *nodes; /* owned; [0] is not used */
    size_t                n, capacity;
    uint32_t              first[256]; /* 0: no token begins with this byte */
};

struct rg_added_tokens {
    struct rg_added_token *tokens; /* owned */
    size_t                 n, capacity;
    struct rg_added_trie   tries[2]; /* [normalized] */
};

/* What of a text counts as trusted, after it was changed by repair and normalisation. */
struct rg_trust {
    const struct rg_span     *spans; /* of the original text */
    size_t                    n_spans;
    const struct rg_text_map *repaired;   /* repaired to original text               */
    const struct rg_text_map *normalized; /* NULL, or normalised to a part ...       */
    size_t                    part;       /* ... that begins here in the repaired one */
};

struct rg_added_search {
    const struct rg_added_tokens *added;
    bool                          normalized; /* which of the two passes */
    enum rg_control               control;
    struct rg_trust               trust; /* RG_CONTROL_TRUSTED only */
    const char                   *text;
    size_t                        len;
    size_t                        at;   /* where to look on        */
    size_t                        done; /* end of the last token   */
};

struct rg_added_match {
    size_t                       begin, end;
    const struct rg_added_token *token; /* NULL: no more */
};

void rg_added_tokens_free(struct rg_added_tokens *a);

/* Takes a copy of content.  RG_E_BAD_DATA for an empty, too long or repeated one. */
RG_CHECKED enum rg_code rg_added_tokens_add(struct rg_added_tokens *a,
                                            const struct rg_added_token *token, struct rg_err *err);

/* Builds the tries.  Contents of `normalized` tokens are normalised first if nfc is set. */
RG_CHECKED enum rg_code rg_added_tokens_finish(struct rg_added_tokens *a, bool nfc,
                                               struct rg_err *err);

/* The next token.  A token may begin before the end of the last one (rstrip). */
struct rg_added_match rg_added_search_next(struct rg_added_search *s);

const struct rg_added_token *rg_added_tokens_find(const struct rg_added_tokens *a,
                                                  const char *content, size_t len);

#endif
