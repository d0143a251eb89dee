/* tokenizer_impl.h - what the two file formats fill and tokenizer.c uses.
 *
 * Lifetime   A loader gets a zeroed struct from rg_tokenizer_open() and fills it; when it fails,
 *            rg_tokenizer_close() frees what is there. */
#ifndef RG_TEXT_TOKENIZER_IMPL_H
#define RG_TEXT_TOKENIZER_IMPL_H

#include "base/buf.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

enum { RG_TOKEN_SPECIAL = 1, RG_TOKEN_ADDED = 2 };

struct rg_token_text {
    uint32_t at, len; /* in rg_tokenizer.text; len 0: no such token */
    uint8_t  flags;   /* RG_TOKEN_...                               */
};

struct rg_tokenizer {
    struct rg_buf          text;  /* the bytes of all tokens */
    struct rg_token_text  *tokens; /* owned, by id */
    size_t                 n_tokens, tokens_capacity; /* n_tokens: highest id + 1 */
    struct rg_bpe          bpe;
    struct rg_added_tokens added;
    struct rg_pretokenizer pretokenizer;
    bool                   nfc;    /* the normaliser */
    bool                   sliced; /* Kimi: long texts are cut first */
};

/* Gives token `id` its bytes, which replace earlier ones. */
RG_CHECKED enum rg_code rg_tokenizer_set(struct rg_tokenizer *t, int32_t id, const char *p,
                                         size_t n, uint8_t flags, struct rg_err *err);

RG_CHECKED enum rg_code rg_hf_tokenizer_load(struct rg_tokenizer *t, const char *path,
                                             struct rg_err *err);

/* `dir` also holds tokenizer_config.json and config.json. */
RG_CHECKED enum rg_code rg_tiktoken_load(struct rg_tokenizer *t, const char *dir,
                                         struct rg_err *err);

/* How much of text Kimi's tokenizer takes at once.  *block counts on over calls, 0 at first. */
size_t rg_tiktoken_slice(const char *text, size_t len, size_t *block);

#endif
