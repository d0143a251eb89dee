/* fuzz_tokenizer.h - a tokenizer that was loaded is tried on a text with some of everything. */
#ifndef RG_TESTS_FUZZ_TOKENIZER_H
#define RG_TESTS_FUZZ_TOKENIZER_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer.h"

static const char fuzz_text[] =
    "Hello, 123 w\xc3\xb6rld \xf0\x9f\x98\x80\xff <|im_end|>\r\n  it's \xe4\xb8\xad\xe6\x96\x87x";

static volatile uint64_t fuzz_sink;

/* The bytes of the ids are the text's, ill-formed UTF-8 repaired. */
static inline void fuzz_same_bytes(const struct rg_tokenizer *t, const struct rg_ids *ids,
                                   const char *text, size_t len)
{
    struct rg_buf whole, back;
    struct rg_err err;

    rg_buf_init(&whole, 64u << 20);
    rg_buf_init(&back, 64u << 20);

    enum rg_code code = rg_utf8_repair(&whole, text, len, &err);

    for (size_t i = 0; i < ids->len && !code; i++) {
        size_t      n;
        const char *p = rg_tokenizer_bytes(t, ids->data[i], &n);

        code = rg_buf_add(&back, p, n, &err);
    }
    assert(code == RG_OK && whole.len == back.len);
    assert(whole.len == 0 || memcmp(whole.data, back.data, whole.len) == 0);
    rg_buf_free(&whole);
    rg_buf_free(&back);
}

/* exact: nothing of a text is lost with this kind of tokenizer. */
static inline void fuzz_use_tokenizer(struct rg_tokenizer *t, bool exact)
{
    static const enum rg_control controls[] = {RG_CONTROL_PLAIN, RG_CONTROL_ALL,
                                               RG_CONTROL_TRUSTED};
    const size_t         len = sizeof fuzz_text - 1;
    const struct rg_span spans[] = {{0, 20, true}, {20, len, false}};
    const uint32_t       n_vocab = rg_tokenizer_vocab_size(t);
    struct rg_err        err;

    assert(rg_tokenizer_set_template(t, "x<|im_end|>y", 12, &err) == RG_OK);
    for (size_t k = 0; k < sizeof controls / sizeof controls[0]; k++) {
        struct rg_ids ids = {0};

        if (rg_tokenizer_encode(t, fuzz_text, len, spans, 2, controls[k], &ids, &err) == RG_OK) {
            for (size_t i = 0; i < ids.len; i++)
                assert(ids.data[i] >= 0 && (uint32_t)ids.data[i] < n_vocab);
            if (exact)
                fuzz_same_bytes(t, &ids, fuzz_text, len);
        }
        rg_ids_free(&ids);
    }
    for (uint32_t i = 0; i < n_vocab && i < 4096; i++) {
        size_t      n;
        const char *p = rg_tokenizer_bytes(t, (int32_t)i, &n);

        for (size_t b = 0; b < n; b++)
            fuzz_sink += (unsigned char)p[b];
        fuzz_sink += rg_tokenizer_is_special(t, (int32_t)i);
    }
}

#endif
