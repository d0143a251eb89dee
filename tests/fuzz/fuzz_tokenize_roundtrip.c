/* fuzz_tokenize_roundtrip.c - text/tokenizer: what is encoded and decoded again is the text, in a
 * time that is linear in it.
 *
 * Input      a byte that picks the tokenizer, a byte that picks which control tokens are
 *            recognised, the text: any bytes, ill-formed UTF-8 counts as repaired.  One input of
 *            LONG_EVERY is taken again and again until it is a long text, which shows what a run of
 *            the same costs. */
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
    LONG_BYTES = 32768,
    LONG_EVERY = 256,
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

static void encode(const struct rg_tokenizer *t, const struct rg_buf *text,
                   enum rg_control control, size_t trusted, struct rg_ids *ids)
{
    const struct rg_span spans[] = {{0, trusted, true}, {trusted, text->len, false}};
    struct rg_err        err;
    const int64_t        begun = cpu_ns();
    const enum rg_code   code =
        rg_tokenizer_encode(t, text->data, text->len, spans, 2, control, ids, &err);

    assert(code == RG_OK);
    assert(cpu_ns() - begun < (int64_t)text->len * NS_PER_BYTE + NS_AT_LEAST);
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

static size_t count_special(const struct rg_tokenizer *t, const struct rg_ids *ids)
{
    size_t n = 0;

    for (size_t i = 0; i < ids->len; i++)
        n += rg_tokenizer_is_special(t, ids->data[i]);
    return n;
}

/* A text without a trusted byte is tokenised like a plain one and has no control token; one without
 * an untrusted byte has all of them. */
static void check_trust(const struct rg_tokenizer *t, const struct rg_buf *text,
                        enum rg_control control, const struct rg_ids *ids)
{
    struct rg_ids same_ids = {0};

    encode(t, text, RG_CONTROL_TRUSTED, control == RG_CONTROL_ALL ? text->len : 0, &same_ids);
    assert(same_ids.len == ids->len);
    assert(ids->len == 0 || memcmp(ids->data, same_ids.data, ids->len * sizeof *ids->data) == 0);
    if (control == RG_CONTROL_PLAIN)
        assert(count_special(t, &same_ids) == 0);
    rg_ids_free(&same_ids);
}

/* Only the first half may hold control tokens, so it holds as many as when it stands alone. */
static void check_half(size_t which, const struct rg_buf *text, const struct rg_buf *whole)
{
    const struct rg_tokenizer *t = tokenizers[which].t;
    struct rg_buf              half = *text, back;
    struct rg_ids              ids = {0}, first = {0};

    rg_buf_init(&back, 1u << 24);
    half.len /= 2;
    encode(t, text, RG_CONTROL_TRUSTED, half.len, &ids);
    encode(t, &half, RG_CONTROL_ALL, 0, &first);
    decode(t, &ids, &back);
    if (tokenizers[which].keeps == ALL_BYTES) {
        assert(same(whole, &back));
        assert(count_special(t, &ids) == count_special(t, &first));
    }
    rg_ids_free(&ids);
    rg_ids_free(&first);
    rg_buf_free(&back);
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
    encode(t, given, control, 0, &ids);
    decode(t, &ids, &back);
    if (tokenizers[which].keeps == ALL_BYTES ||
        (tokenizers[which].keeps == NORMALIZED && is_ascii(&whole)))
        assert(same(&whole, &back));
    if (tokenizers[which].keeps == NORMALIZED && back.len > 0) {
        assert(rg_utf8_valid(back.data, back.len));
        encode(t, &back, control, 0, &again);
        decode(t, &again, &twice);
        assert(same(&back, &twice));
    }
    check_trust(t, given, control, &ids);
    if (control == RG_CONTROL_ALL && given->len > 1)
        check_half(which, given, &whole);
    rg_ids_free(&ids);
    rg_ids_free(&again);
    rg_buf_free(&whole);
    rg_buf_free(&back);
    rg_buf_free(&twice);
}

/* Decided by the whole input, so that few of an input's mutations are long, too. */
static bool is_long(const uint8_t *data, size_t size)
{
    uint32_t h = 0;

    for (size_t i = 0; i < size; i++)
        h = (h ^ data[i]) * 0x01000193;
    return (h ^ h >> 16) % LONG_EVERY == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t live = rg_mem_live();
    struct rg_buf text;
    struct rg_err err;

    if (size < 3)
        return 0;

    const size_t want = is_long(data, size) ? LONG_BYTES : 1;

    rg_buf_init(&text, 1u << 24);
    while (text.len < want)
        assert(rg_buf_add(&text, data + 2, size - 2, &err) == RG_OK);
    check(data[0] % N_TOKENIZERS, &text, data[1] & 1 ? RG_CONTROL_ALL : RG_CONTROL_PLAIN);
    rg_buf_free(&text);
    assert(rg_mem_live() == live);
    return 0;
}
