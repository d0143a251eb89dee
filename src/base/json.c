/* json.c - the tree: cJSON behind a strict check.
 *
 * A struct rg_json * is a cJSON *; nobody outside of this file knows.  The pull reader checks the
 * document first and notes where its numbers stand; after cJSON built the tree, the walk in
 * document order hangs each number's own text into valuestring, which cJSON leaves unused for
 * numbers and frees with the node. */
#include "base/json.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

const struct rg_json_limits rg_json_limits_request = {RG_LIMIT_BODY_BYTES, RG_LIMIT_JSON_DEPTH,
                                                      4096};
const struct rg_json_limits rg_json_limits_config = {RG_LIMIT_CONFIG_BYTES, 32, 65536};

static void set_hooks(void)
{
    cJSON_Hooks hooks = {.malloc_fn = rg_alloc, .free_fn = rg_free};

    cJSON_InitHooks(&hooks);
}

/* cJSON allocates through base/mem.h from the first call on. */
static void use_our_heap(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, set_hooks);
}

static const cJSON *node(const struct rg_json *j)
{
    return (const cJSON *)(const void *)j;
}

static const struct rg_json *wrap(const cJSON *c)
{
    return (const struct rg_json *)(const void *)c;
}

static struct rg_json *wrap_new(cJSON *c)
{
    return (struct rg_json *)(void *)c;
}

/* ---- checking ------------------------------------------------------------------------------- */

/* Reads the whole document once: syntax, depth, keys per object, escaped NULs. */
static enum rg_code check(const char *text, size_t len, const struct rg_json_limits *limits,
                          struct rg_err *err)
{
    const uint32_t keys_max = limits->keys_max ? limits->keys_max : 4096;
    uint32_t keys[RG_JSON_DEPTH_MAX + 1] = {0};
    struct rg_json_reader reader;
    enum rg_json_token token;
    bool has_nul = false;

    rg_json_reader_init(&reader, text, len, limits->depth_max);
    do {
        const enum rg_code code = rg_json_read(&reader, &token, err);

        if (code)
            return code;
        if (token == RG_JSON_T_OBJECT_BEGIN)
            keys[reader.depth] = 0;
        if (token == RG_JSON_T_KEY && ++keys[reader.depth] > keys_max)
            return rg_fail(err, RG_E_LIMIT, "JSON: an object with more than %u keys", keys_max);
        if (token == RG_JSON_T_KEY || token == RG_JSON_T_STRING)
            has_nul |= reader.token_nul;
    } while (token != RG_JSON_T_END);
    if (has_nul)
        return rg_fail(err, RG_E_UNSUPPORTED, "JSON: a string holds the character U+0000");
    return RG_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

/* Refuses an object with the same key twice: two readers would disagree on which one counts. */
static enum rg_code check_duplicates(const cJSON *object, struct rg_err *err)
{
    const size_t n = (size_t)cJSON_GetArraySize(object);
    size_t i = 0;

    if (n < 2)
        return RG_OK;

    const char **keys = rg_calloc(n, sizeof *keys);

    if (!keys)
        return rg_fail(err, RG_E_NOMEM, "out of memory: %zu keys", n);
    for (const cJSON *c = object->child; c; c = c->next)
        keys[i++] = c->string;
    qsort(keys, n, sizeof *keys, compare_keys);

    enum rg_code code = RG_OK;

    for (i = 1; i < n && !code; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            code =
                rg_fail(err, RG_E_UNSUPPORTED, "JSON: the key \"%.200s\" appears twice", keys[i]);
    rg_free(keys);
    return code;
}

/* Gives every number its text; `reader` walks the same document as the tree does. */
static enum rg_code attach_numbers(cJSON *c, struct rg_json_reader *reader, struct rg_err *err)
{
    enum rg_json_token token;
    enum rg_code code;

    do {
        code = rg_json_read(reader, &token, err);
        if (code)
            return code;
    } while (token == RG_JSON_T_KEY);
    if (token == RG_JSON_T_NUMBER) {
        c->valuestring = rg_strndup(reader->token_text, reader->token_len);
        if (!c->valuestring)
            return rg_fail(err, RG_E_NOMEM, "out of memory: a number of %zu digits",
                           reader->token_len);
    }
    if (token != RG_JSON_T_OBJECT_BEGIN && token != RG_JSON_T_ARRAY_BEGIN)
        return RG_OK;
    if (token == RG_JSON_T_OBJECT_BEGIN)
        code = check_duplicates(c, err);
    for (cJSON *child = c->child; child && !code; child = child->next)
        code = attach_numbers(child, reader, err);
    if (code)
        return code;
    return rg_json_read(reader, &token, err); /* the end of the container */
}

enum rg_code rg_json_parse(struct rg_json **out, const char *text, size_t len,
                           const struct rg_json_limits *limits, struct rg_err *err)
{
    struct rg_json_reader reader;

    use_our_heap();
    *out = NULL;
    if (len > limits->bytes_max)
        return rg_fail(err, RG_E_LIMIT, "JSON: %zu bytes, the limit is %zu", len,
                       limits->bytes_max);

    enum rg_code code = check(text, len, limits, err);

    if (code)
        return code;

    cJSON *root = cJSON_ParseWithLength(text, len);

    /* The text was checked, so what is left is memory (cJSON has its own depth limit of 1000). */
    if (!root)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a JSON document of %zu bytes", len);
    rg_json_reader_init(&reader, text, len, limits->depth_max);
    code = attach_numbers(root, &reader, err);
    if (code) {
        cJSON_Delete(root);
        return code;
    }
    *out = wrap_new(root);
    return RG_OK;
}

void rg_json_free(struct rg_json *root)
{
    cJSON_Delete((cJSON *)(void *)root);
}

/* ---- looking -------------------------------------------------------------------------------- */

enum rg_json_type rg_json_type(const struct rg_json *j)
{
    const cJSON *c = node(j);

    if (cJSON_IsNull(c))
        return RG_JSON_NULL;
    if (cJSON_IsBool(c))
        return RG_JSON_BOOL;
    if (cJSON_IsNumber(c) || cJSON_IsRaw(c))
        return RG_JSON_NUMBER;
    if (cJSON_IsString(c))
        return RG_JSON_STRING;
    if (cJSON_IsArray(c))
        return RG_JSON_ARRAY;
    assert(cJSON_IsObject(c));
    return RG_JSON_OBJECT;
}

const char *rg_json_type_name(const struct rg_json *j)
{
    static const char *const names[] = {"null",     "a boolean", "a number",
                                        "a string", "an array",  "an object"};

    return names[rg_json_type(j)];
}

const struct rg_json *rg_json_get(const struct rg_json *object, const char *key)
{
    return wrap(cJSON_GetObjectItemCaseSensitive(node(object), key));
}

const struct rg_json *rg_json_first(const struct rg_json *container)
{
    return wrap(node(container)->child);
}

const struct rg_json *rg_json_next(const struct rg_json *child)
{
    return wrap(node(child)->next);
}

const char *rg_json_key(const struct rg_json *child)
{
    return node(child)->string;
}

size_t rg_json_count(const struct rg_json *container)
{
    return (size_t)cJSON_GetArraySize(node(container));
}

bool rg_json_bool(const struct rg_json *j)
{
    return cJSON_IsTrue(node(j));
}

const char *rg_json_string(const struct rg_json *j)
{
    return node(j)->valuestring;
}

double rg_json_double(const struct rg_json *j)
{
    return cJSON_IsRaw(node(j)) ? strtod(node(j)->valuestring, NULL) : node(j)->valuedouble;
}

const char *rg_json_number_text(const struct rg_json *j)
{
    return node(j)->valuestring;
}

/* Reads plain digits exactly: a double has only 53 bits. */
static bool exact_int(const char *text, int64_t *out)
{
    const bool negative = *text == '-';
    int64_t value = 0;
    const char *c = text + negative;

    for (; *c >= '0' && *c <= '9'; c++) {
        const int digit = *c - '0';

        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    *out = value;
    return *c == '\0';
}

bool rg_json_int(const struct rg_json *j, int64_t least, int64_t most, int64_t *out)
{
    if (rg_json_type(j) != RG_JSON_NUMBER)
        return false;

    const char *text = rg_json_number_text(j);
    int64_t value;

    if (!text || !exact_int(text, &value)) {
        const double v = rg_json_double(j);

        if (!(v >= -9007199254740992.0 && v <= 9007199254740992.0) || v < floor(v) || v > floor(v))
            return false;
        if (text && !strpbrk(text, ".eE"))
            return false; /* digits beyond 64 bits */
        value = (int64_t)v;
    }
    if (value < least || value > most)
        return false;
    *out = value;
    return true;
}

/* ---- making --------------------------------------------------------------------------------- */

struct rg_json *rg_json_new_object(void)
{
    use_our_heap();
    return wrap_new(cJSON_CreateObject());
}

struct rg_json *rg_json_new_array(void)
{
    use_our_heap();
    return wrap_new(cJSON_CreateArray());
}

struct rg_json *rg_json_new_string(const char *s, size_t n)
{
    use_our_heap();
    assert(!memchr(s, 0, n));
    char *copy = rg_strndup(s, n);

    if (!copy)
        return NULL;

    cJSON *c = cJSON_CreateString(copy);

    rg_free(copy);
    return wrap_new(c);
}

/* A number as the text that stands for it exactly. */
static struct rg_json *new_number_text(const char *text)
{
    use_our_heap();
    return wrap_new(cJSON_CreateRaw(text));
}

struct rg_json *rg_json_new_number(double v)
{
    char text[40];

    if (!isfinite(v))
        return rg_json_new_null();
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        const double back = strtod(text, NULL);

        if (!(back < v) && !(back > v))
            break;
    }
    return new_number_text(text);
}

struct rg_json *rg_json_new_int(int64_t v)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)v);
    return new_number_text(text);
}

struct rg_json *rg_json_new_null(void)
{
    use_our_heap();
    return wrap_new(cJSON_CreateNull());
}

bool rg_json_add(struct rg_json *object, const char *key, struct rg_json *value)
{
    if (!object || !value) {
        rg_json_free(value);
        return false;
    }
    if (cJSON_AddItemToObject((cJSON *)(void *)object, key, (cJSON *)(void *)value))
        return true;
    rg_json_free(value);
    return false;
}

bool rg_json_replace(struct rg_json *root, const struct rg_json *object, const char *key,
                     struct rg_json *value)
{
    /* root shows that the caller owns the tree, which is what makes writing to object right. */
    assert(root && object);
    (void)root;
    if (value && cJSON_ReplaceItemInObjectCaseSensitive((cJSON *)(uintptr_t)node(object), key,
                                                        (cJSON *)(void *)value))
        return true;
    rg_json_free(value);
    return false;
}

bool rg_json_push(struct rg_json *array, struct rg_json *value)
{
    if (!array || !value) {
        rg_json_free(value);
        return false;
    }
    if (cJSON_AddItemToArray((cJSON *)(void *)array, (cJSON *)(void *)value))
        return true;
    rg_json_free(value);
    return false;
}

/* ---- printing ------------------------------------------------------------------------------- */

enum rg_code rg_json_print_string(struct rg_buf *out, const char *s, size_t n, struct rg_err *err)
{
    static const char names[] = "btn\0fr"; /* of 0x08..0x0D; 0x0B has none */
    size_t plain = 0;                      /* start of the run that needs no escape */
    enum rg_code code = rg_buf_add(out, "\"", 1, err);

    for (size_t i = 0; i < n && !code; i++) {
        const unsigned char c = (unsigned char)s[i];

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        code = rg_buf_add(out, s + plain, i - plain, err);
        plain = i + 1;
        if (code)
            return code;
        if (c == '"' || c == '\\')
            code = rg_buf_addf(out, err, "\\%c", c);
        else if (c >= 0x08 && c <= 0x0D && names[c - 0x08])
            code = rg_buf_addf(out, err, "\\%c", names[c - 0x08]);
        else
            code = rg_buf_addf(out, err, "\\u%04x", c);
    }
    if (!code)
        code = rg_buf_add(out, s + plain, n - plain, err);
    return code ? code : rg_buf_add(out, "\"", 1, err);
}

static enum rg_code print(struct rg_buf *out, const cJSON *c, uint32_t depth, struct rg_err *err);

static enum rg_code print_container(struct rg_buf *out, const cJSON *c, uint32_t depth,
                                    struct rg_err *err)
{
    const bool object = cJSON_IsObject(c);
    enum rg_code code = rg_buf_add(out, object ? "{" : "[", 1, err);

    for (const cJSON *child = c->child; child && !code; child = child->next) {
        if (child != c->child)
            code = rg_buf_add(out, ",", 1, err);
        if (!code && object) {
            code = rg_json_print_string(out, child->string, strlen(child->string), err);
            if (!code)
                code = rg_buf_add(out, ":", 1, err);
        }
        if (!code)
            code = print(out, child, depth + 1, err);
    }
    return code ? code : rg_buf_add(out, object ? "}" : "]", 1, err);
}

static enum rg_code print(struct rg_buf *out, const cJSON *c, uint32_t depth, struct rg_err *err)
{
    /* Trees come from the checked parser or from our own code: neither is deep. */
    if (depth > RG_JSON_DEPTH_MAX)
        return rg_fail(err, RG_E_LIMIT, "JSON: a tree deeper than %d", RG_JSON_DEPTH_MAX);
    switch (rg_json_type(wrap(c))) {
    case RG_JSON_NULL:
        return rg_buf_add_str(out, "null", err);
    case RG_JSON_BOOL:
        return rg_buf_add_str(out, cJSON_IsTrue(c) ? "true" : "false", err);
    case RG_JSON_NUMBER:
        return rg_buf_add_str(out, c->valuestring ? c->valuestring : "0", err);
    case RG_JSON_STRING:
        return rg_json_print_string(out, c->valuestring, strlen(c->valuestring), err);
    case RG_JSON_ARRAY:
    case RG_JSON_OBJECT:
        break;
    }
    return print_container(out, c, depth, err);
}

enum rg_code rg_json_print(struct rg_buf *out, const struct rg_json *j, struct rg_err *err)
{
    return print(out, node(j), 0, err);
}
