/* jinja_string.c - strings of a template: windows into texts that know which bytes are trusted. */
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_value.h"

enum { TEXT_BYTES_MIN = 48 };

static size_t count_chars(const char *p, size_t n)
{
    size_t chars = 0;

    for (size_t i = 0; i < n; i++)
        chars += ((unsigned char)p[i] & 0xC0) != 0x80;
    return chars;
}

struct rg_jtext *rg_jtext_new(struct rg_jwork *w, size_t reserve)
{
    struct rg_jtext *t = rg_jalloc(w, sizeof *t);

    if (!t)
        return NULL;
    if (reserve < TEXT_BYTES_MIN)
        reserve = TEXT_BYTES_MIN;
    t->own = rg_jalloc(w, reserve);
    if (!t->own)
        return NULL;
    t->data = t->own;
    t->capacity = reserve;
    return t;
}

static enum rg_code text_reserve(struct rg_jwork *w, struct rg_jtext *t, size_t more)
{
    if (t->capacity - t->len >= more)
        return RG_OK;
    if (more > RG_JALLOC_MAX - t->len)
        return rg_jfail(w, RG_E_LIMIT, "a string grows over %d bytes", RG_JALLOC_MAX);

    const size_t capacity = (t->len + more) * 2;
    char *bytes = rg_jalloc(w, capacity);

    if (!bytes)
        return rg_jshort(w);
    memcpy(bytes, t->data, t->len);
    t->own = bytes;
    t->data = bytes;
    t->capacity = capacity;
    return RG_OK;
}

static enum rg_code text_mark(struct rg_jwork *w, struct rg_jtext *t, bool trusted)
{
    if (t->n_marks && t->marks[t->n_marks - 1].trusted == trusted)
        return RG_OK;

    void *marks = t->marks;

    RG_TRY(rg_jgrow(w, &marks, &t->marks_capacity, (size_t)t->n_marks + 1, sizeof *t->marks));
    t->marks = marks;
    t->marks[t->n_marks++] = (struct rg_jmark){.at = t->len, .trusted = trusted};
    return RG_OK;
}

enum rg_code rg_jtext_add(struct rg_jwork *w, struct rg_jtext *t, const char *p, size_t n,
                          bool trusted)
{
    if (n == 0)
        return RG_OK;
    RG_TRY(rg_jwork_spend(w, n));
    RG_TRY(text_reserve(w, t, n));
    RG_TRY(text_mark(w, t, trusted));
    memcpy(t->own + t->len, p, n);
    t->len += n;
    return RG_OK;
}

/* The mark that holds for a byte of a text with marks. */
static uint32_t mark_at(const struct rg_jtext *t, size_t at)
{
    uint32_t low = 0, high = t->n_marks;

    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;

        if (t->marks[middle].at <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

enum rg_code rg_jtext_add_part(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jstr *s,
                               size_t from, size_t to)
{
    if (from >= to)
        return RG_OK;

    const struct rg_jtext *source = s->text;
    const char *data = source->data; /* stays valid when t == source grows */
    const uint32_t n_marks = source->n_marks;
    size_t at = s->begin + from;
    const size_t end = s->begin + to;

    for (uint32_t i = mark_at(source, at); at < end; i++) {
        const bool trusted = source->marks[i].trusted;
        const size_t next = i + 1 < n_marks ? source->marks[i + 1].at : end;
        const size_t stop = next < end ? next : end;

        RG_TRY(rg_jtext_add(w, t, data + at, stop - at, trusted));
        at = stop;
    }
    return RG_OK;
}

enum rg_code rg_jtext_add_str(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jstr *s)
{
    return rg_jtext_add_part(w, t, s, 0, s->len);
}

static enum rg_code window(struct rg_jwork *w, struct rg_jstr value, struct rg_jvalue *out)
{
    struct rg_jstr *s = rg_jalloc(w, sizeof *s);

    if (!s)
        return rg_jshort(w);
    *s = value;
    *out = rg_jv_str(s);
    return RG_OK;
}

enum rg_code rg_jtext_value(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue *out)
{
    RG_TRY(rg_jwork_spend(w, t->len));
    return window(
        w, (struct rg_jstr){.text = t, .len = t->len, .chars = count_chars(t->data, t->len)}, out);
}

static struct rg_jstr *whole(struct rg_jwork *w, bool trusted)
{
    struct block {
        struct rg_jstr string;
        struct rg_jtext text;
        struct rg_jmark mark;
    } *b = rg_jalloc(w, sizeof *b);

    if (!b)
        return NULL;
    b->mark.trusted = trusted;
    b->text.marks = &b->mark;
    b->text.n_marks = b->text.marks_capacity = 1;
    b->string.text = &b->text;
    return &b->string;
}

const struct rg_jstr *rg_jstr_borrow(struct rg_jwork *w, const char *p, size_t n, bool trusted)
{
    struct rg_jstr *s = whole(w, trusted);

    if (!s)
        return NULL;
    s->text->data = p;
    s->text->len = s->text->capacity = n;
    s->len = n;
    s->chars = count_chars(p, n);
    return s;
}

const struct rg_jstr *rg_jstr_copy(struct rg_jwork *w, const char *p, size_t n, bool trusted)
{
    char *bytes = rg_jalloc(w, n + 1);

    if (!bytes)
        return NULL;
    memcpy(bytes, p, n);
    return rg_jstr_borrow(w, bytes, n, trusted);
}

enum rg_code rg_jstr_cut(struct rg_jwork *w, const struct rg_jstr *s, size_t from, size_t to,
                         struct rg_jvalue *out)
{
    if (to < from)
        to = from;
    if (from == 0 && to == s->len) {
        *out = rg_jv_str(s);
        return RG_OK;
    }

    const size_t len = to - from;

    RG_TRY(rg_jwork_spend(w, len));
    return window(w,
                  (struct rg_jstr){
                      .text = s->text,
                      .begin = s->begin + from,
                      .len = len,
                      .chars = s->chars == s->len ? len : count_chars(rg_jstr_data(s) + from, len),
                      .markup = s->markup},
                  out);
}

enum rg_code rg_jstr_concat(struct rg_jwork *w, const struct rg_jstr *a, const struct rg_jstr *b,
                            struct rg_jvalue *out)
{
    if (b->len == 0 || a->len == 0) {
        *out = rg_jv_str(b->len == 0 ? a : b);
        return RG_OK;
    }

    struct rg_jtext *t = a->text;
    size_t begin = a->begin;

    if (!t->own || a->begin + a->len != t->len) {
        t = rg_jtext_new(w, a->len + b->len + (a->len + b->len) / 2);
        if (!t)
            return rg_jshort(w);
        RG_TRY(rg_jtext_add_str(w, t, a));
        begin = 0;
    }
    RG_TRY(rg_jtext_add_str(w, t, b));
    return window(
        w,
        (struct rg_jstr){
            .text = t, .begin = begin, .len = a->len + b->len, .chars = a->chars + b->chars},
        out);
}

bool rg_jstr_trusted_at(const struct rg_jstr *s, size_t at)
{
    return s->text->n_marks && s->text->marks[mark_at(s->text, s->begin + at)].trusted;
}

bool rg_jstr_equal(const struct rg_jstr *a, const struct rg_jstr *b)
{
    return a->len == b->len && memcmp(rg_jstr_data(a), rg_jstr_data(b), a->len) == 0;
}

bool rg_jstr_is(const struct rg_jstr *s, const char *text)
{
    return strlen(text) == s->len && memcmp(rg_jstr_data(s), text, s->len) == 0;
}

int rg_jstr_compare(const struct rg_jstr *a, const struct rg_jstr *b)
{
    const size_t n = a->len < b->len ? a->len : b->len;
    const int c = n ? memcmp(rg_jstr_data(a), rg_jstr_data(b), n) : 0;

    if (c != 0)
        return c;
    return (a->len > b->len) - (a->len < b->len);
}

size_t rg_jstr_offset(const struct rg_jstr *s, size_t chars)
{
    if (s->chars == s->len || chars >= s->chars)
        return chars < s->len && chars < s->chars ? chars : s->len;

    const char *p = rg_jstr_data(s);
    size_t at = 0;

    while (chars > 0) {
        at++;
        while (at < s->len && ((unsigned char)p[at] & 0xC0) == 0x80)
            at++;
        chars--;
    }
    return at;
}

size_t rg_jstr_find(const struct rg_jstr *s, const struct rg_jstr *needle, size_t from)
{
    if (from > s->len)
        return SIZE_MAX;
    if (needle->len == 0)
        return from;

    const char *p = rg_jstr_data(s);
    const char *hit = memmem(p + from, s->len - from, rg_jstr_data(needle), needle->len);

    return hit ? (size_t)(hit - p) : SIZE_MAX;
}

size_t rg_jstr_find_last(const struct rg_jstr *s, const struct rg_jstr *needle, size_t end)
{
    if (needle->len > end)
        return SIZE_MAX;
    for (size_t at = end - needle->len;; at--) {
        if (memcmp(rg_jstr_data(s) + at, rg_jstr_data(needle), needle->len) == 0)
            return at;
        if (at == 0)
            return SIZE_MAX;
    }
}

enum rg_code rg_jstr_markup(struct rg_jwork *w, const struct rg_jstr *s, struct rg_jvalue *out)
{
    struct rg_jstr value = *s;

    value.markup = true;
    return window(w, value, out);
}
