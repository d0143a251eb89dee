/* added_tokens.c - a trie of added tokens and the search with it. */
#include "text/added_tokens.h"

#include <assert.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/unicode.h"

void rg_added_tokens_free(struct rg_added_tokens *a)
{
    for (size_t i = 0; i < a->n; i++)
        rg_free(a->tokens[i].content);
    rg_free(a->tokens);
    rg_free(a->tries[0].nodes);
    rg_free(a->tries[1].nodes);
    *a = (struct rg_added_tokens){0};
}

enum rg_code rg_added_tokens_add(struct rg_added_tokens *a, const struct rg_added_token *token,
                                 struct rg_err *err)
{
    void        *tokens = a->tokens;
    enum rg_code code;

    if (token->len == 0 || token->len > RG_ADDED_TOKEN_BYTES)
        return rg_fail(err, RG_E_BAD_DATA, "added token %d: %zu bytes of content, expected 1 to %d",
                       token->id, token->len, RG_ADDED_TOKEN_BYTES);
    code = rg_grow(&tokens, &a->capacity, a->n + 1, sizeof *a->tokens, err);
    a->tokens = tokens;
    if (code)
        return code;
    a->tokens[a->n] = *token;
    a->tokens[a->n].content = rg_strndup(token->content, token->len);
    if (!a->tokens[a->n].content)
        return rg_fail(err, RG_E_NOMEM, "out of memory for added token %d", token->id);
    a->n++;
    return RG_OK;
}

/* ---- building ------------------------------------------------------------------------------- */

static enum rg_code add_node(struct rg_added_trie *t, uint8_t byte, uint32_t sibling,
                             uint32_t *index, struct rg_err *err)
{
    void        *nodes = t->nodes;
    enum rg_code code;

    if (t->n == 0)
        t->n = 1;
    code = rg_grow(&nodes, &t->capacity, t->n + 1, sizeof *t->nodes, err);
    t->nodes = nodes;
    if (code)
        return code;
    *index = (uint32_t)t->n++;
    t->nodes[*index] = (struct rg_added_node){.sibling = sibling, .token = -1, .byte = byte};
    return RG_OK;
}

static uint32_t find_child(const struct rg_added_trie *t, uint32_t node, uint8_t byte)
{
    uint32_t i = t->nodes[node].child;

    while (i && t->nodes[i].byte != byte)
        i = t->nodes[i].sibling;
    return i;
}

static enum rg_code trie_add(struct rg_added_trie *t, const char *content, size_t len, size_t token,
                             struct rg_err *err)
{
    uint32_t     node = t->first[(uint8_t)content[0]];
    enum rg_code code = RG_OK;

    if (!node) {
        code = add_node(t, (uint8_t)content[0], 0, &node, err);
        t->first[(uint8_t)content[0]] = node;
    }
    for (size_t i = 1; i < len && !code; i++) {
        uint32_t child = find_child(t, node, (uint8_t)content[i]);

        if (!child) {
            code = add_node(t, (uint8_t)content[i], t->nodes[node].child, &child, err);
            if (code)
                break;
            t->nodes[node].child = child;
        }
        node = child;
    }
    if (code)
        return code;
    if (t->nodes[node].token >= 0)
        return rg_fail(err, RG_E_BAD_DATA, "added token %.100s is there twice", content);
    t->nodes[node].token = (int32_t)token;
    return RG_OK;
}

enum rg_code rg_added_tokens_finish(struct rg_added_tokens *a, bool nfc, struct rg_err *err)
{
    struct rg_text_map map = {0};
    struct rg_buf      b;
    enum rg_code       code = RG_OK;

    rg_buf_init(&b, RG_LIMIT_CONFIG_BYTES);
    for (size_t i = 0; i < a->n && !code; i++) {
        const struct rg_added_token *t = &a->tokens[i];
        bool                         changed = false;

        rg_buf_clear(&b);
        if (nfc && t->normalized)
            code = rg_nfc(&b, &map, t->content, t->len, &changed, err);
        if (!code)
            code = trie_add(&a->tries[t->normalized], changed ? b.data : t->content,
                            changed ? b.len : t->len, i, err);
    }
    rg_buf_free(&b);
    rg_text_map_free(&map);
    return code;
}

const struct rg_added_token *rg_added_tokens_find(const struct rg_added_tokens *a,
                                                  const char *content, size_t len)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->tokens[i].len == len && memcmp(a->tokens[i].content, content, len) == 0)
            return &a->tokens[i];
    return NULL;
}

/* ---- searching ------------------------------------------------------------------------------ */

/* Whether all bytes of [begin, end) of the searched text are trusted in the original one. */
static bool is_trusted(const struct rg_trust *t, size_t begin, size_t end)
{
    size_t low = 0;
    size_t high = t->n_spans;

    if (t->normalized) {
        rg_text_map_back(t->normalized, &begin, &end);
    }
    begin += t->part;
    end += t->part;
    rg_text_map_back(t->repaired, &begin, &end);
    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (t->spans[mid].end <= begin)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < t->n_spans && t->spans[low].begin < end; low++) {
        if (!t->spans[low].trusted || t->spans[low].begin > begin)
            return false;
        if (t->spans[low].end >= end)
            return true;
        begin = t->spans[low].end;
    }
    return false;
}

/* In a chat an occurrence of a control token that is not the template's own does not exist. */
static bool exists(const struct rg_added_search *s, const struct rg_added_token *token,
                   size_t begin, size_t end)
{
    return s->control != RG_CONTROL_TRUSTED || !token->control ||
           is_trusted(&s->trust, begin, end);
}

static const struct rg_added_token *longest_at(const struct rg_added_search *s, size_t at,
                                               size_t *end)
{
    const struct rg_added_trie  *t = &s->added->tries[s->normalized];
    const struct rg_added_token *best = NULL;
    uint32_t                     node = t->first[(uint8_t)s->text[at]];

    for (size_t i = at + 1; node; i++) {
        const int32_t token = t->nodes[node].token;

        if (token >= 0 && exists(s, &s->added->tokens[token], at, i)) {
            best = &s->added->tokens[token];
            *end = i;
        }
        node = i < s->len ? find_child(t, node, (uint8_t)s->text[i]) : 0;
    }
    return best;
}

static size_t char_before(const char *text, size_t at, uint32_t *cp)
{
    size_t n = 1;

    while (n < 4 && n < at && ((uint8_t)text[at - n] & 0xC0) == 0x80)
        n++;
    (void)rg_utf8_next(text + at - n, n, cp);
    return n;
}

static bool stands_alone(const struct rg_added_search *s, size_t begin, size_t end)
{
    uint32_t cp;

    if (begin > 0) {
        (void)char_before(s->text, begin, &cp);
        if (rg_is_word(cp))
            return false;
    }
    if (end < s->len) {
        (void)rg_utf8_next(s->text + end, s->len - end, &cp);
        if (rg_is_word(cp))
            return false;
    }
    return true;
}

static void strip(const struct rg_added_search *s, struct rg_added_match *m)
{
    uint32_t cp;

    while (m->token->lstrip && m->begin > s->done) {
        const size_t n = char_before(s->text, m->begin, &cp);

        if (!rg_is_white_space(cp))
            break;
        m->begin -= n;
    }
    while (m->token->rstrip && m->end < s->len) {
        const size_t n = rg_utf8_next(s->text + m->end, s->len - m->end, &cp);

        if (!rg_is_white_space(cp))
            break;
        m->end += n;
    }
}

struct rg_added_match rg_added_search_next(struct rg_added_search *s)
{
    const struct rg_added_trie *t = &s->added->tries[s->normalized];
    struct rg_added_match       m = {0};

    while (t->n > 0 && s->at < s->len) {
        if (!t->first[(uint8_t)s->text[s->at]]) {
            s->at++;
            continue;
        }
        m.token = longest_at(s, s->at, &m.end);
        if (!m.token) {
            s->at++;
            continue;
        }
        m.begin = s->at;
        /* A match that the rules reject is used up all the same (added_vocabulary.rs). */
        s->at = m.end;
        if ((s->control == RG_CONTROL_PLAIN && m.token->special) ||
            (m.token->single_word && !stands_alone(s, m.begin, m.end)))
            continue;
        strip(s, &m);
        s->done = m.end;
        return m;
    }
    return (struct rg_added_match){0};
}
