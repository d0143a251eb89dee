/* regex.c - compiling and matching with PCRE2; the only file that includes its header. */
#include "text/regex.h"

#include <string.h>

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
};

enum {
    JIT_STACK_MIN = 32 << 10,
    JIT_STACK_PER_BYTE = 64, /* a group repeat saves its state once per character */
    MATCH_LIMIT_PER_BYTE = 64,
    HEAP_LIMIT_KIB = 1 << 20 /* of the interpreter, used when the JIT stack is too small */
};
static const size_t   JIT_STACK_MAX = 256u << 20;
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
    const uint32_t  options = PCRE2_UTF | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
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

static bool scan_fill(struct rg_regex_scan *s, size_t len_max)
{
    size_t stack = len_max > JIT_STACK_MAX / JIT_STACK_PER_BYTE ? JIT_STACK_MAX
                                                                : len_max * JIT_STACK_PER_BYTE;
    size_t limit = len_max > UINT32_MAX / MATCH_LIMIT_PER_BYTE ? UINT32_MAX
                                                               : len_max * MATCH_LIMIT_PER_BYTE;

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
    (void)pcre2_set_heap_limit(s->match, HEAP_LIMIT_KIB);
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

enum rg_code rg_regex_find(const struct rg_regex *r, struct rg_regex_scan *s, const char *text,
                           size_t len, size_t at, size_t *begin, size_t *end, struct rg_err *err)
{
    /* The text was checked or repaired once; PCRE2 would check all of it at every call. */
    uint32_t    options = PCRE2_NO_UTF_CHECK;
    PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->data);
    int         rc;

    rc = pcre2_match(r->code, (PCRE2_SPTR)text, len, at, options, s->data, s->match);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        options |= PCRE2_NO_JIT;
        rc = pcre2_match(r->code, (PCRE2_SPTR)text, len, at, options, s->data, s->match);
    }
    *begin = SIZE_MAX;
    *end = SIZE_MAX;
    if (rc == PCRE2_ERROR_NOMATCH)
        return RG_OK;
    if (rc < 0)
        return rg_fail(err, rc == PCRE2_ERROR_NOMEMORY ? RG_E_NOMEM : RG_E_LIMIT,
                       "the tokenizer's regex gave up (PCRE2 error %d) at byte %zu of a text of "
                       "%zu bytes",
                       rc, at, len);
    /* \K in a lookahead could put the start behind the end; patterns with \K are refused. */
    *begin = span[0];
    *end = span[1];
    return RG_OK;
}
