/* fuzz_chat_json.c - api/chat_request: a body becomes a request whose every number is within its
 * range, or an error of the client's.
 *
 * Input      the body; one that begins with a space is rendered by the other template. */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/chat_request.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rg_llm models[2];

static void must(enum rg_code code, const struct rg_err *err)
{
    if (code == RG_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(2);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const chats[] = {"chatml", "inst"};
    static char              name[] = "m";

    (void)argc, (void)argv;
    for (size_t i = 0; i < 2; i++) {
        struct rg_llm *l = &models[i];
        struct rg_err  err = {0};
        char           path[512];
        size_t         n;

        l->name = name;
        l->context = 512;
        l->parallel = 1;
        l->defaults = (struct rg_generation_defaults){NAN, NAN, NAN, NAN, UINT32_MAX};
        snprintf(path, sizeof path, RENGA_SOURCE_DIR "/tests/fixtures/templates/%s", chats[i]);
        must(rg_chat_open(&l->chat, path, &err), &err);
        must(rg_tokenizer_open(&l->tokenizer,
                               RENGA_SOURCE_DIR "/tests/fixtures/tokenizer/smollm2", &err),
             &err);

        const char *literals = rg_chat_literals(l->chat, &n);

        must(rg_tokenizer_set_template(l->tokenizer, literals, n, &err), &err);
    }
    return 0;
}

static void check_sampling(const struct rg_sampling *s, const struct rg_llm *llm)
{
    assert(s->temperature >= 0 && s->temperature <= 2);
    assert(s->top_p > 0 && s->top_p <= 1);
    assert(s->min_p >= 0 && s->min_p <= 1);
    assert(s->top_k <= RG_LIMIT_VOCAB);
    assert(s->repetition_penalty > 0 && s->repetition_penalty <= 10);
    assert(s->presence_penalty >= -2 && s->presence_penalty <= 2);
    assert(s->frequency_penalty >= -2 && s->frequency_penalty <= 2);
    assert(s->n_top_logprobs <= RG_LIMIT_TOP_LOGPROBS && s->n_bias <= RG_LIMIT_LOGIT_BIAS);
    for (uint32_t i = 0; i < s->n_bias; i++) {
        assert(s->bias[i].id >= 0);
        assert((uint32_t)s->bias[i].id < rg_tokenizer_vocab_size(llm->tokenizer));
        assert(s->bias[i].bias >= -100 && s->bias[i].bias <= 100);
    }
}

/* The templates write a few control tokens per message; content adds none. */
static void check_control_tokens(const struct rg_chat_request *r, const struct rg_llm *llm,
                                 const char *body, size_t len)
{
    struct rg_json *root = NULL;
    struct rg_err   err;
    size_t          n = 0;

    assert(rg_json_parse(&root, body, len, &rg_json_limits_request, &err) == RG_OK);
    for (size_t i = 0; i < r->prompt.len; i++)
        n += rg_tokenizer_is_special(llm->tokenizer, r->prompt.data[i]);
    assert(n <= 4 * rg_json_count(rg_json_get(root, "messages")) + 4);
    rg_json_free(root);
}

static void check_request(const struct rg_chat_request *r, const struct rg_llm *llm)
{
    assert(r->n_choices >= 1 && r->n_choices <= RG_LIMIT_CHOICES);
    assert(r->max_tokens > 0 && (r->max_tokens <= llm->context || r->max_tokens == UINT32_MAX));
    assert(r->n_stops <= RG_LIMIT_STOPS);
    for (uint32_t i = 0; i < r->n_stops; i++) {
        assert(r->stops[i][0] && strlen(r->stops[i]) <= RG_LIMIT_STOP_BYTES);
        assert(rg_utf8_valid(r->stops[i], strlen(r->stops[i])));
    }
    assert(r->prompt.len > 0 && r->prompt.len < llm->context);
    for (size_t i = 0; i < r->prompt.len; i++) {
        assert(r->prompt.data[i] >= 0);
        assert((uint32_t)r->prompt.data[i] < rg_tokenizer_vocab_size(llm->tokenizer));
    }
    assert(r->sampling.bias == r->bias);
    check_sampling(&r->sampling, llm);
}

/* A client's fault: 4xx, and an object that a client can read. */
static void check_error(const struct rg_api_error *e)
{
    struct rg_json *root = NULL;
    struct rg_err   err;
    struct rg_buf   text;

    rg_buf_init(&text, 1u << 20);
    assert(e->status >= 400 && e->status < 500 && e->message[0]);
    assert(rg_api_error_print(&text, e, &err) == RG_OK);
    assert(rg_json_parse(&root, text.data, text.len, &rg_json_limits_request, &err) == RG_OK);
    rg_json_free(root);
    rg_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct rg_llm   *llm = &models[size > 0 && data[0] == ' '];
    const char            *body = size ? (const char *)data : "";
    const int64_t          live = rg_mem_live();
    struct rg_chat_request r;
    struct rg_api_error    error = {0};

    if (rg_chat_request_make(&r, llm, body, size, &error)) {
        check_request(&r, llm);
        check_control_tokens(&r, llm, body, size);
        rg_chat_request_free(&r);
    } else {
        check_error(&error);
    }
    assert(rg_mem_live() == live);
    return 0;
}
