/* hf_loader.h - the parts of tokenizer.json and what is built while they are read.
 *
 * Threads    One at a time. */
#ifndef RG_TEXT_HF_LOADER_H
#define RG_TEXT_HF_LOADER_H

#include "base/buf.h"
#include "text/token_map.h"
#include "text/tokenizer_impl.h"

enum { RG_HF_JSON_DEPTH = 16 };

/* A value inside the document; text NULL: absent. */
struct rg_hf_part {
    const char *name;
    const char *text;
    size_t      len;
};

struct rg_hf_loader {
    struct rg_tokenizer *t;
    struct rg_token_map  foreign; /* vocabulary entries that are not in ByteLevel's characters */
    struct rg_buf        key;     /* an unescaped key or string */
    struct rg_buf        bytes;   /* the bytes that it stands for */
    size_t               n_vocab; /* entries of model.vocab */
    int32_t              next_added;
};

RG_CHECKED enum rg_code rg_hf_load_vocab(struct rg_hf_loader *l, const struct rg_hf_part *p,
                                         struct rg_err *err);
/* After the vocabulary. */
RG_CHECKED enum rg_code rg_hf_load_merges(struct rg_hf_loader *l, const struct rg_hf_part *p,
                                          struct rg_err *err);

#endif
