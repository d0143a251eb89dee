/* st_index.c - model.safetensors.index.json against the tensors that are really there. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "checkpoint/st_table.h"

struct index {
    const struct rg_tensor_set *set;
    const char *dir, *path;
    struct rg_json_reader reader;
    struct rg_buf name;
    uint8_t *seen; /* owned [tensors] */
    uint32_t n_seen;
    bool has_map;
    struct rg_st_absence *absence;
    uint64_t total; /* metadata.total_size; UINT64_MAX when it is not said */
    struct rg_err *err;
};

static enum rg_code next(struct index *x, enum rg_json_token *token)
{
    const enum rg_code code = rg_json_read(&x->reader, token, x->err);

    return code ? rg_fail_in(x->err, code, "%s: not valid JSON", x->path) : RG_OK;
}

static bool token_is(const struct index *x, const char *word)
{
    return x->reader.token_len == strlen(word) &&
           memcmp(x->reader.token_text, word, x->reader.token_len) == 0;
}

static enum rg_code skip(struct index *x)
{
    const enum rg_code code = rg_json_skip(&x->reader, x->err);

    return code ? rg_fail_in(x->err, code, "%s: not valid JSON", x->path) : RG_OK;
}

/* metadata.total_size: some writers print a float ("123.0"). */
static enum rg_code read_total(struct index *x)
{
    enum rg_json_token token;
    const enum rg_code code = next(x, &token);
    size_t len = x->reader.token_len;

    if (code)
        return code;
    if (token == RG_JSON_T_NUMBER && len > 2 &&
        memcmp(x->reader.token_text + len - 2, ".0", 2) == 0)
        len -= 2;
    if (token != RG_JSON_T_NUMBER || !rg_st_plain_number(x->reader.token_text, len, &x->total))
        return rg_fail(x->err, RG_E_BAD_DATA,
                       "%s: metadata.total_size is not a plain number up to 2^53", x->path);
    return RG_OK;
}

static enum rg_code read_metadata(struct index *x)
{
    enum rg_json_token token;
    enum rg_code code = next(x, &token);

    if (code)
        return code;
    if (token == RG_JSON_T_NULL)
        return RG_OK;
    if (token != RG_JSON_T_OBJECT_BEGIN)
        return rg_fail(x->err, RG_E_BAD_DATA, "%s: metadata is not an object", x->path);
    for (;;) {
        code = next(x, &token);
        if (code || token == RG_JSON_T_OBJECT_END)
            return code;
        code = token_is(x, "total_size") ? read_total(x) : skip(x);
        if (code)
            return code;
    }
}

static enum rg_code add_absent(struct index *x, const char *file)
{
    struct rg_st_absence *a = x->absence;
    enum rg_code code = rg_grow((void **)&a->tensors, &a->tensors_capacity, a->n_tensors + 1,
                                sizeof a->tensors[0], x->err);

    if (code)
        return code;
    if (x->name.len > RG_LIMIT_ST_NAME_BYTES)
        return rg_fail(x->err, RG_E_LIMIT, "%s: weight_map: '%.60s...': a name of %zu bytes",
                       x->path, x->name.data, x->name.len);

    struct rg_st_absent *t = &a->tensors[a->n_tensors];

    t->shard = rg_st_add_missing(a, file, x->err);
    if (!t->shard)
        return x->err->code;
    t->name = rg_arena_strndup(a->arena, x->name.data ? x->name.data : "", x->name.len);
    if (!t->name)
        return rg_fail(x->err, RG_E_NOMEM, "%s: no memory for a tensor name", x->path);
    a->n_tensors++;
    return RG_OK;
}

/* The shard that an entry names is not the one its tensor is in: say why, or take it down as
 * absent. */
static enum rg_code wrong_file(struct index *x, const struct rg_tensor_info *t)
{
    char file[160];

    (void)snprintf(file, sizeof file, "%.*s", (int)x->reader.token_len, x->reader.token_text);
    for (uint32_t i = 0; i < rg_tensor_set_files(x->set); i++) {
        if (strcmp(file, rg_st_file_name(rg_tensor_set_file(x->set, i)->path)) != 0)
            continue;
        if (!t)
            return rg_fail(x->err, RG_E_BAD_DATA,
                           "%s: tensor '%.160s' should be in %s, but that file has none of this "
                           "name: it is of another model or download, get it again",
                           x->path, x->name.data, file);
        return rg_fail(x->err, RG_E_BAD_DATA,
                       "%s: tensor '%.160s' should be in %s, but is in %s: were files renamed or "
                       "swapped?  Get both again",
                       x->path, x->name.data, file,
                       rg_st_file_name(rg_tensor_set_file(x->set, t->file)->path));
    }
    if (!x->absence->allowed)
        return rg_st_missing(x->dir, file, x->err);
    if (t)
        return rg_fail(x->err, RG_E_BAD_DATA,
                       "%s: tensor '%.160s' should be in %s, which is missing, but is in %s: were "
                       "files renamed?  Get it again",
                       x->path, x->name.data, file,
                       rg_st_file_name(rg_tensor_set_file(x->set, t->file)->path));
    return add_absent(x, file);
}

static enum rg_code check_entry(struct index *x)
{
    enum rg_json_token token;
    const struct rg_tensor_info *t;
    enum rg_code code;

    rg_buf_clear(&x->name);
    code = rg_json_unescape(&x->reader, &x->name, x->err);
    if (!code && x->reader.token_nul)
        code = rg_fail(x->err, RG_E_BAD_DATA, "an escaped NUL in a tensor name");
    if (code)
        return rg_fail_in(x->err, code, "%s: weight_map", x->path);
    code = next(x, &token);
    if (code)
        return code;

    const char *name = x->name.data ? x->name.data : "";

    if (token != RG_JSON_T_STRING)
        return rg_fail(x->err, RG_E_BAD_DATA, "%s: weight_map: '%.160s' is not a file name",
                       x->path, name);
    t = rg_tensor_set_find(x->set, name);
    if (!t || !token_is(x, rg_st_file_name(rg_tensor_set_file(x->set, t->file)->path)))
        return wrong_file(x, t);

    uint8_t *seen = &x->seen[t - rg_tensor_set_at(x->set, 0)];

    if (*seen)
        return rg_fail(x->err, RG_E_BAD_DATA, "%s: weight_map: '%.160s' is there twice", x->path,
                       name);
    *seen = 1;
    x->n_seen++;
    return RG_OK;
}

static enum rg_code read_map(struct index *x)
{
    enum rg_json_token token;
    enum rg_code code = next(x, &token);

    if (code)
        return code;
    if (token != RG_JSON_T_OBJECT_BEGIN || x->has_map)
        return rg_fail(x->err, RG_E_BAD_DATA, "%s: weight_map is not one object", x->path);
    x->has_map = true;
    for (;;) {
        code = next(x, &token);
        if (code || token == RG_JSON_T_OBJECT_END)
            return code;
        code = check_entry(x);
        if (code)
            return code;
    }
}

static enum rg_code check_complete(const struct index *x)
{
    if (!x->has_map)
        return rg_fail(x->err, RG_E_BAD_DATA, "%s: no weight_map", x->path);
    if (x->n_seen == rg_tensor_set_count(x->set))
        return RG_OK;
    for (uint32_t i = 0; i < rg_tensor_set_count(x->set); i++) {
        const struct rg_tensor_info *t = rg_tensor_set_at(x->set, i);

        if (!x->seen[i])
            return rg_fail(x->err, RG_E_BAD_DATA,
                           "%s: tensor '%.160s' of %s is not in weight_map (%" PRIu32
                           " such in all); the file is of another download",
                           x->path, t->name,
                           rg_st_file_name(rg_tensor_set_file(x->set, t->file)->path),
                           rg_tensor_set_count(x->set) - x->n_seen);
    }
    return RG_OK;
}

static int compare_absent(const void *a, const void *b)
{
    return strcmp(((const struct rg_st_absent *)a)->name, ((const struct rg_st_absent *)b)->name);
}

static enum rg_code sort_absent(struct index *x)
{
    struct rg_st_absent *t = x->absence->tensors;
    const size_t n = x->absence->n_tensors;

    if (n > 0)
        qsort(t, n, sizeof t[0], compare_absent);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(t[i - 1].name, t[i].name) == 0)
            return rg_fail(x->err, RG_E_BAD_DATA, "%s: weight_map: '%.160s' is there twice",
                           x->path, t[i].name);
    }
    return RG_OK;
}

static enum rg_code read_index(struct index *x)
{
    enum rg_json_token token;
    enum rg_code code = next(x, &token);

    if (!code && token != RG_JSON_T_OBJECT_BEGIN)
        code = rg_fail(x->err, RG_E_BAD_DATA, "%s: not a JSON object", x->path);
    while (!code) {
        code = next(x, &token);
        if (code || token == RG_JSON_T_OBJECT_END)
            break;
        if (token_is(x, "metadata"))
            code = read_metadata(x);
        else if (token_is(x, "weight_map"))
            code = read_map(x);
        else
            code = skip(x);
    }
    if (!code)
        code = next(x, &token); /* nothing behind it */
    if (!code)
        code = sort_absent(x);
    return code ? code : check_complete(x);
}

static enum rg_code check_file(struct index *x, char **text)
{
    size_t len = 0;
    enum rg_code code = rg_file_read(text, &len, x->path, RG_LIMIT_INDEX_BYTES, x->err);

    if (code)
        return code;
    x->seen = rg_calloc((size_t)rg_tensor_set_count(x->set) + 1, 1);
    if (!x->seen)
        return rg_fail(x->err, RG_E_NOMEM, "%s: no memory to check it", x->path);
    rg_json_reader_init(&x->reader, *text, len, 8);
    return read_index(x);
}

enum rg_code rg_st_check_index(const struct rg_tensor_set *s, const char *dir,
                               struct rg_st_absence *absence, uint64_t *total, struct rg_err *err)
{
    char *path = rg_path_join(dir, "model.safetensors.index.json");
    struct index x = {
        .set = s, .dir = dir, .path = path, .absence = absence, .total = UINT64_MAX, .err = err};
    char *text = NULL;
    enum rg_code code = RG_OK;

    if (!path)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory for a path", dir);
    rg_buf_init(&x.name, RG_LIMIT_INDEX_BYTES);
    if (rg_file_exists(path))
        code = check_file(&x, &text);
    *total = x.total;
    rg_free(x.seen);
    rg_free(text);
    rg_free(path);
    rg_buf_free(&x.name);
    return code;
}
