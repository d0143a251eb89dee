/* fuzz_tokenize_roundtrip.c - text/tokenizer: what is encoded and decoded again is the text, in a
 * time that is linear in it.
 *
 * Input      a byte that picks the tokenizer, a byte that picks how often the text is repeated and
 *            which control tokens are recognised, the text: any bytes, ill-formed UTF-8 counts as
 *            repaired. */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    REPEATED_BYTES_MAX = 3072,
    NS_PER_BYTE = 20000, /* with sanitizers and coverage counters, on a slow machine */
    NS_AT_LEAST = 20000000
};

enum keeps {
    ALL_BYTES,  /* nothing is lost */
    NORMALIZED, /* what comes back is NFC, and comes back again as it is */
    SOME        /* tokens that swallow spaces, parts that are removed, a prefix */
};

static struct {
    const char          *name;
    enum keeps           keeps;
    struct rg_tokenizer *t;
} tokenizers[] = {
    {"kimi", ALL_BYTES, NULL},     {"deepseek", ALL_BYTES, NULL}, {"falcon", ALL_BYTES, NULL},
    {"glm4", ALL_BYTES, NULL},     {"kimi_json", ALL_BYTES, NULL}, {"llama3", ALL_BYTES, NULL},
    {"o200k", ALL_BYTES, NULL},    {"smollm2", ALL_BYTES, NULL},  {"qwen35", NORMALIZED, NULL},
    {"corners", SOME, NULL},       {"gpt2", SOME, NULL},          {"qwen2", SOME, NULL},
};

enum { N_TOKENIZERS = sizeof tokenizers / sizeof tokenizers[0] };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    for (size_t i = 0; i < N_TOKENIZERS; i++) {
        char          path[512];
        struct rg_err err = {0};

        snprintf(path, sizeof path, RENGA_SOURCE_DIR "/tests/fixtures/tokenizer/%s",
                 tokenizers[i].name);
        if (rg_tokenizer_open(&tokenizers[i].t, path, &err)) {
            fprintf(stderr, "%s\n", err.message);
            exit(2);
        }
    }
    return 0;
}

static int64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void encode(const struct rg_tokenizer *t, const char *text, size_t len,
                   enum rg_control control, struct rg_ids *ids)
{
    const struct rg_span span = {0, len, false};
    struct rg_err        err;
    const int64_t        begun = cpu_ns();
    const enum rg_code   code = rg_tokenizer_encode(t, text, len, &span, 1, control, ids, &err);

    assert(code == RG_OK);
    assert(cpu_ns() - begun < (int64_t)len * NS_PER_BYTE + NS_AT_LEAST);
}

static void decode(const struct rg_tokenizer *t, const struct rg_ids *ids, struct rg_buf *out)
{
    rg_buf_clear(out);
    for (size_t i = 0; i < ids->len; i++) {
        size_t        n;
        struct rg_err err;
        const char   *p = rg_tokenizer_bytes(t, ids->data[i], &n);

        assert(ids->data[i] >= 0 && (uint32_t)ids->data[i] < rg_tokenizer_vocab_size(t));
        assert(rg_buf_add(out, p, n, &err) == RG_OK);
    }
}

static bool same(const struct rg_buf *a, const struct rg_buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static bool is_ascii(const struct rg_buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if ((unsigned char)b->data[i] >= 0x80)
            return false;
    return true;
}

/* A text without a trusted byte has no control token, and no other tokens than a plain text. */
static void check_untrusted(const struct rg_tokenizer *t, const struct rg_buf *text,
                            const struct rg_ids *plain)
{
    struct rg_ids ids = {0};

    encode(t, text->data, text->len, RG_CONTROL_TRUSTED, &ids);
    for (size_t i = 0; i < ids.len; i++)
        assert(!rg_tokenizer_is_special(t, ids.data[i]));
    assert(ids.len == plain->len);
    assert(ids.len == 0 || memcmp(ids.data, plain->data, ids.len * sizeof *ids.data) == 0);
    rg_ids_free(&ids);
}

static void check(size_t which, const struct rg_buf *given, enum rg_control control)
{
    const struct rg_tokenizer *t = tokenizers[which].t;
    struct rg_ids              ids = {0}, again = {0};
    struct rg_buf              whole, back, twice;
    struct rg_err              err;

    rg_buf_init(&whole, 1u << 24);
    rg_buf_init(&back, 1u << 24);
    rg_buf_init(&twice, 1u << 24);
    assert(rg_utf8_repair(&whole, given->data, given->len, &err) == RG_OK);
    encode(t, given->data, given->len, control, &ids);
    decode(t, &ids, &back);
    if (tokenizers[which].keeps == ALL_BYTES ||
        (tokenizers[which].keeps == NORMALIZED && is_ascii(&whole)))
        assert(same(&whole, &back));
    if (tokenizers[which].keeps == NORMALIZED && back.len > 0) {
        assert(rg_utf8_valid(back.data, back.len));
        encode(t, back.data, back.len, control, &again);
        decode(t, &again, &twice);
        assert(same(&back, &twice));
    }
    if (control == RG_CONTROL_PLAIN)
        check_untrusted(t, given, &ids);
    rg_ids_free(&ids);
    rg_ids_free(&again);
    rg_buf_free(&whole);
    rg_buf_free(&back);
    rg_buf_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t live = rg_mem_live();
    struct rg_buf text;
    struct rg_err err;

    if (size < 3)
        return 0;

    /* Most inputs are taken as they are; some show what a long run of the same costs. */
    const size_t times = data[1] % 32 == 31 ? data[1] / 32 * 32u + 2u : 1;

    rg_buf_init(&text, 1u << 24);
    for (size_t i = 0; i < times && (i == 0 || text.len + size < REPEATED_BYTES_MAX); i++)
        assert(rg_buf_add(&text, data + 2, size - 2, &err) == RG_OK);
    check(data[0] % N_TOKENIZERS, &text, data[1] & 1 ? RG_CONTROL_ALL : RG_CONTROL_PLAIN);
    rg_buf_free(&text);
    assert(rg_mem_live() == live);
    return 0;
}
