/* fuzz_sse_utf8.c - tokens to the stream of a chat completion: the deltas together are the whole
 * text, repaired once and cut at the first stop string, and each is valid UTF-8.
 *
 * Input      a byte of flags and the number of stop strings, each with a byte of length in front;
 *            then tokens: a byte of length and flags (special, a chunk ends here), the bytes. */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api/chat_reply.h"
#include "api/sse.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    BUF_BYTES = 1 << 26,
    FLAG_LOGPROBS = 0x08,
    FLAG_USAGE = 0x10,
    TOKEN_SPECIAL = 0x80,
    TOKEN_CHUNK = 0x40,
    TOKEN_BYTES = 0x1f,
    MOST_TOKENS = 4096
};

/* The tokenizer of this program: token i is a part of the input. */
struct token {
    const char *bytes;
    size_t      n;
    bool        special, chunk;
};

static struct token tokens[MOST_TOKENS];
static int32_t      n_tokens;

const char *rg_tokenizer_bytes(const struct rg_tokenizer *t, int32_t id, size_t *n)
{
    (void)t;
    *n = id >= 0 && id < n_tokens ? tokens[id].n : 0;
    return *n ? tokens[id].bytes : "";
}

bool rg_tokenizer_is_special(const struct rg_tokenizer *t, int32_t id)
{
    (void)t;
    return id >= 0 && id < n_tokens && tokens[id].special;
}

struct input {
    const uint8_t *data;
    size_t         size;
    char           stop_text[RG_LIMIT_STOPS][RG_LIMIT_STOP_BYTES + 1];
    const char    *stops[RG_LIMIT_STOPS];
    uint32_t       n_stops;
};

static const char *take(struct input *in, size_t *n)
{
    const char *p = (const char *)in->data;

    if (*n > in->size)
        *n = in->size;
    in->data += *n;
    in->size -= *n;
    return p;
}

static uint8_t take_byte(struct input *in)
{
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

/* Stop strings come out of JSON: valid UTF-8 without a NUL. */
static void take_stops(struct input *in, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        size_t      len = take_byte(in) % RG_LIMIT_STOP_BYTES + 1u;
        const char *p = take(in, &len);
        char       *stop = in->stop_text[in->n_stops];

        if (len == 0 || memchr(p, 0, len) || !rg_utf8_valid(p, len))
            continue;
        memcpy(stop, p, len);
        stop[len] = '\0';
        in->stops[in->n_stops++] = stop;
    }
}

static void take_tokens(struct input *in)
{
    for (n_tokens = 0; in->size > 0 && n_tokens < MOST_TOKENS; n_tokens++) {
        const uint8_t head = take_byte(in);
        struct token *t = &tokens[n_tokens];

        t->n = head & TOKEN_BYTES;
        t->bytes = take(in, &t->n);
        t->special = head & TOKEN_SPECIAL;
        t->chunk = head & TOKEN_CHUNK;
    }
}

/* ---- what should come ------------------------------------------------------------------------ */

static struct rg_buf new_buf(void)
{
    struct rg_buf b;

    rg_buf_init(&b, BUF_BYTES);
    return b;
}

static void add(struct rg_buf *b, const void *p, size_t n)
{
    struct rg_err err;

    assert(rg_buf_add(b, p, n, &err) == RG_OK);
}

/* The length of the text before the stop string that is complete first; of several that are
 * complete at the same place the longest counts. */
static size_t cut(const struct rg_buf *text, const struct input *in)
{
    for (size_t end = 1; end <= text->len; end++) {
        size_t longest = 0;

        for (uint32_t i = 0; i < in->n_stops; i++) {
            const size_t n = strlen(in->stops[i]);

            if (n <= end && n > longest && memcmp(text->data + end - n, in->stops[i], n) == 0)
                longest = n;
        }
        if (longest > 0)
            return end - longest;
    }
    return text->len;
}

static struct rg_buf expected_text(const struct input *in)
{
    struct rg_buf bytes = new_buf(), text = new_buf();
    struct rg_err err;

    for (int32_t i = 0; i < n_tokens; i++)
        if (!tokens[i].special)
            add(&bytes, tokens[i].bytes, tokens[i].n);
    if (bytes.len > 0)
        assert(rg_utf8_repair(&text, bytes.data, bytes.len, &err) == RG_OK);
    text.len = cut(&text, in);
    rg_buf_free(&bytes);
    return text;
}

/* ---- what comes ------------------------------------------------------------------------------ */

struct stream {
    struct rg_answer     answer;
    struct rg_chat_head  head;
    struct rg_chat_piece piece;
    struct rg_buf        text, logprobs, chunk, events;
    bool                 with_logprobs;
};

static void send(struct stream *s, const char *finish_reason)
{
    struct rg_err err;

    assert(s->text.len == 0 || rg_utf8_valid(s->text.data, s->text.len));
    s->piece.text = s->text.data;
    s->piece.text_len = s->text.len;
    s->piece.logprobs = !s->with_logprobs ? NULL : s->logprobs.data ? s->logprobs.data : "";
    s->piece.logprobs_len = s->logprobs.len;
    s->piece.finish_reason = finish_reason;
    rg_buf_clear(&s->chunk);
    assert(rg_chat_chunk(&s->chunk, &s->head, &s->piece, &err) == RG_OK);
    assert(rg_sse_data(&s->events, s->chunk.data, s->chunk.len, &err) == RG_OK);
    s->piece.first = false;
    rg_buf_clear(&s->text);
    rg_buf_clear(&s->logprobs);
}

static void run(struct stream *s)
{
    struct rg_err err;

    for (int32_t i = 0; i < n_tokens && !s->answer.stopped; i++) {
        const struct rg_sample sample = {
            .id = i, .logprob = -0.5f, .n_top = 1, .top = {{.id = n_tokens - 1 - i}}};

        assert(rg_answer_push(&s->answer, i, &s->text, &err) == RG_OK);
        if (s->with_logprobs)
            assert(rg_chat_logprob_add(&s->logprobs, NULL, &sample, &err) == RG_OK);
        if (tokens[i].chunk)
            send(s, NULL);
    }
    if (!s->answer.stopped)
        assert(rg_answer_finish(&s->answer, &s->text, &err) == RG_OK);
    send(s, "stop");
    assert(rg_sse_keepalive(&s->events, 0, 0, &err) == RG_OK);
    assert(rg_sse_keepalive(&s->events, 1, 2, &err) == RG_OK);
    assert(rg_sse_done(&s->events, &err) == RG_OK);
}

/* Appends the string behind the key "content"; the logprobs' content is an array. */
static void read_delta(struct rg_buf *out, const char *json, size_t n)
{
    struct rg_json_reader r;
    struct rg_err         err;
    enum rg_json_token    token;
    bool                  content = false;

    rg_json_reader_init(&r, json, n, 16);
    do {
        assert(rg_json_read(&r, &token, &err) == RG_OK);
        if (content && token == RG_JSON_T_STRING)
            assert(rg_json_unescape(&r, out, &err) == RG_OK);
        content = token == RG_JSON_T_KEY && r.token_len == 7 &&
                  memcmp(r.token_text, "content", 7) == 0;
    } while (token != RG_JSON_T_END);
}

/* A client that knows nothing but the HTML standard: events end with an empty line. */
static struct rg_buf read_events(const struct rg_buf *events)
{
    struct rg_buf text = new_buf();
    const char   *at = events->data, *last = events->data + events->len;
    bool          done = false;

    while (at < last) {
        const char *end = memmem(at, (size_t)(last - at), "\n\n", 2);

        assert(end && !done);
        if (memcmp(at, "data: [DONE]", 12) == 0)
            done = true;
        else if (memcmp(at, "data: ", 6) == 0)
            read_delta(&text, at + 6, (size_t)(end - at) - 6);
        else
            assert(at[0] == ':' && !memchr(at, '\n', (size_t)(end - at)));
        at = end + 2;
    }
    assert(done);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t live = rg_mem_live();
    struct input  in = {.data = data, .size = size};
    const uint8_t flags = take_byte(&in);
    struct rg_err err;
    struct stream s = {.head = {.id = "chatcmpl-1", .model = "m"}, .piece.first = true};

    take_stops(&in, flags % (RG_LIMIT_STOPS + 1u));
    take_tokens(&in);
    s.with_logprobs = flags & FLAG_LOGPROBS;
    s.head.include_usage = flags & FLAG_USAGE;
    s.text = new_buf();
    s.logprobs = new_buf();
    s.chunk = new_buf();
    s.events = new_buf();
    assert(rg_answer_init(&s.answer, NULL, in.stops, in.n_stops, &err) == RG_OK);
    run(&s);

    struct rg_buf expected = expected_text(&in), got = read_events(&s.events);

    assert(got.len == expected.len);
    assert(got.len == 0 || memcmp(got.data, expected.data, got.len) == 0);
    rg_answer_free(&s.answer);
    rg_buf_free(&s.text);
    rg_buf_free(&s.logprobs);
    rg_buf_free(&s.chunk);
    rg_buf_free(&s.events);
    rg_buf_free(&expected);
    rg_buf_free(&got);
    assert(rg_mem_live() == live);
    return 0;
}
