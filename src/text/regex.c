/* regex.c - compiling and matching with PCRE2; the only file that includes its header. */
#include "text/regex.h"

#include <string.h>
#include <time.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"

struct rg_regex {
    pcre2_general_context *general;
    pcre2_code            *code;
};

struct rg_regex_scan {
    pcre2_general_context *general;
    pcre2_match_context   *match;
    pcre2_match_data      *data;
    pcre2_jit_stack       *stack;
    int64_t                ns_end; /* of this thread's processor time */
    uint32_t               finds;
};

enum {
    JIT_STACK_MIN = 32 << 10,
    JIT_STACK_PER_BYTE = 64, /* a group repeat saves its state once per character */
    MATCH_LIMIT_PER_BYTE = 64,
    HEAP_KIB_MIN = 64 << 10, /* of the interpreter, used when the JIT stack is too small */
    HEAP_KIB_MAX = 512 << 10,
    WINDOW = 512,         /* positions tried before the clock is looked at */
    FINDS_PER_LOOK = 256, /* the clock costs as much as a search */
    NS_PER_BYTE = 4000    /* a hundred times what a linear pattern needs */
};
static const size_t   JIT_STACK_MAX = 512u << 20;
static const int64_t  NS_MIN = 2000000000;
static const uint32_t MATCH_LIMIT_MIN = 10000000;

static void *pcre_alloc(size_t n, void *data)
{
    (void)data;
    return rg_alloc(n);
}

static void pcre_free(void *p, void *data)
{
    (void)data;
    rg_free(p);
}

enum rg_code rg_regex_open(struct rg_regex **out, const char *pattern, size_t len,
                           struct rg_err *err)
{
    const uint32_t options =
        PCRE2_UTF | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
    struct rg_regex       *r = rg_calloc(1, sizeof *r);
    pcre2_compile_context *context = NULL;
    PCRE2_SIZE             offset = 0;
    PCRE2_UCHAR            message[128] = {0};
    int                    error = 0;
    enum rg_code           code = RG_OK;

    *out = NULL;
    if (r)
        r->general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (r && r->general)
        context = pcre2_compile_context_create(r->general);
    if (!context) {
        code = rg_fail(err, RG_E_NOMEM, "out of memory for a regex");
        goto out;
    }
    (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    r->code = pcre2_compile((PCRE2_SPTR)pattern, len, options, &error, &offset, context);
    if (!r->code) {
        (void)pcre2_get_error_message(error, message, sizeof message);
        code = rg_fail(err, error == PCRE2_ERROR_HEAP_FAILED ? RG_E_NOMEM : RG_E_UNSUPPORTED,
                       "regex: %s at byte %zu of %.200s", (const char *)message, offset, pattern);
        goto out;
    }
    /* Without a JIT (hardened systems) the interpreter matches, with the same results. */
    (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
    *out = r;
    r = NULL;
out:
    pcre2_compile_context_free(context);
    rg_regex_close(r);
    return code;
}

void rg_regex_close(struct rg_regex *r)
{
    if (!r)
        return;
    pcre2_code_free(r->code);
    pcre2_general_context_free(r->general);
    rg_free(r);
}

static int64_t thread_ns(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool scan_fill(struct rg_regex_scan *s, size_t len_max)
{
    size_t stack = len_max > JIT_STACK_MAX / JIT_STACK_PER_BYTE ? JIT_STACK_MAX
                                                                : len_max * JIT_STACK_PER_BYTE;
    size_t limit = len_max > UINT32_MAX / MATCH_LIMIT_PER_BYTE ? UINT32_MAX
                                                               : len_max * MATCH_LIMIT_PER_BYTE;

    size_t heap = len_max > HEAP_KIB_MAX ? HEAP_KIB_MAX : len_max; /* 1 KiB per byte */

    if (heap < HEAP_KIB_MIN)
        heap = HEAP_KIB_MIN;
    if (stack < 2 * (size_t)JIT_STACK_MIN)
        stack = 2 * (size_t)JIT_STACK_MIN;
    if (limit < MATCH_LIMIT_MIN)
        limit = MATCH_LIMIT_MIN;
    s->general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (!s->general)
        return false;
    s->match = pcre2_match_context_create(s->general);
    s->data = pcre2_match_data_create(1, s->general);
    if (!s->match || !s->data)
        return false;
    (void)pcre2_set_match_limit(s->match, (uint32_t)limit);
    (void)pcre2_set_heap_limit(s->match, (uint32_t)heap);
    s->ns_end = thread_ns() + NS_MIN + (int64_t)len_max * NS_PER_BYTE;
    /* NULL where there is no JIT: nothing to assign then. */
    s->stack = pcre2_jit_stack_create(JIT_STACK_MIN, stack, s->general);
    if (s->stack)
        pcre2_jit_stack_assign(s->match, NULL, s->stack);
    return true;
}

enum rg_code rg_regex_scan_open(struct rg_regex_scan **out, size_t len_max, struct rg_err *err)
{
    struct rg_regex_scan *s = rg_calloc(1, sizeof *s);

    *out = NULL;
    if (!s || !scan_fill(s, len_max)) {
        rg_regex_scan_close(s);
        return rg_fail(err, RG_E_NOMEM, "out of memory for a regex search");
    }
    *out = s;
    return RG_OK;
}

void rg_regex_scan_close(struct rg_regex_scan *s)
{
    if (!s)
        return;
    pcre2_jit_stack_free(s->stack);
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->match);
    pcre2_general_context_free(s->general);
    rg_free(s);
}

/* By the JIT; by the interpreter, which has other memory, where its stack is too small. */
static int match_once(const struct rg_regex *r, struct rg_regex_scan *s, const char *text,
                      size_t len, size_t at)
{
    /* The text was checked or repaired once; PCRE2 would check all of it at every call. */
    const uint32_t options = PCRE2_NO_UTF_CHECK;
    const int      rc =
        pcre2_match(r->code, (PCRE2_SPTR)text, len, at, options, s->data, s->match);

    if (rc != PCRE2_ERROR_JIT_STACKLIMIT)
        return rc;
    return pcre2_match(r->code, (PCRE2_SPTR)text, len, at, options | PCRE2_NO_JIT, s->data,
                       s->match);
}

static enum rg_code gave_up(int rc, size_t at, size_t len, struct rg_err *err)
{
    PCRE2_UCHAR message[128] = {0};

    (void)pcre2_get_error_message(rc, message, sizeof message);
    return rg_fail(err, rc == PCRE2_ERROR_NOMEMORY ? RG_E_NOMEM : RG_E_LIMIT,
                   "the tokenizer's regex gave up at byte %zu of a text of %zu bytes: %s", at, len,
                   (const char *)message);
}

enum rg_code rg_regex_find(const struct rg_regex *r, struct rg_regex_scan *s, const char *text,
                           size_t len, size_t at, size_t *begin, size_t *end, struct rg_err *err)
{
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->data);
    bool              look = ++s->finds % FINDS_PER_LOOK == 0;

    *begin = SIZE_MAX;
    *end = SIZE_MAX;
    for (;;) {
        const size_t last = len - at > WINDOW ? at + WINDOW : len; /* where a match may begin */
        int          rc;

        if (look && thread_ns() > s->ns_end)
            return rg_fail(err, RG_E_LIMIT,
                           "the tokenizer's regex takes too long at byte %zu of a text of %zu "
                           "bytes: its time grows with the square of the text or worse",
                           at, len);
        (void)pcre2_set_offset_limit(s->match, last);
        rc = match_once(r, s, text, len, at);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            return gave_up(rc, at, len, err);
        if (rc >= 0) {
            /* \K in a lookahead could put the start behind the end; the translator refuses it. */
            *begin = span[0];
            *end = span[1];
            return RG_OK;
        }
        if (last == len)
            return RG_OK;
        at = last + 1;
        while (at < len && ((uint8_t)text[at] & 0xC0) == 0x80)
            at++;
        look = true;
    }
}
