/* tokenizer_fixtures.h - the tokenizers of tests/fixtures/tokenizer, and ones made of a string.
 *
 * For inclusion after cmocka.h.  The fixtures and the ids in them come from
 * tools/oracle/tokenizer_check.py, that is from Hugging Face's tokenizers and from tiktoken. */
#ifndef RG_TESTS_TOKENIZER_FIXTURES_H
#define RG_TESTS_TOKENIZER_FIXTURES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/tokenizer.h"

#define FIXTURES RENGA_SOURCE_DIR "/tests/fixtures/tokenizer/"

static inline char *read_fixture(const char *name, size_t *len)
{
    char          path[512];
    char         *text = NULL;
    struct rg_err err = {.message = ""};

    (void)snprintf(path, sizeof path, FIXTURES "%s", name);
    if (rg_file_read(&text, len, path, 16u << 20, &err))
        fail_msg("%s", err.message);
    return text;
}

static inline struct rg_tokenizer *open_fixture(const char *name)
{
    char                 path[512];
    struct rg_tokenizer *t = NULL;
    struct rg_err        err = {.message = ""};

    (void)snprintf(path, sizeof path, FIXTURES "%s", name);
    if (rg_tokenizer_open(&t, path, &err))
        fail_msg("%s", err.message);
    return t;
}

/* The ids of a JSON array in a fixture. */
static inline struct rg_ids read_ids(const char *name)
{
    const struct rg_json_limits limits = {16u << 20, 2, 0};
    size_t                      len;
    char                       *text = read_fixture(name, &len);
    struct rg_json             *root = NULL;
    struct rg_ids               ids = {0};

    assert_int_equal(rg_json_parse(&root, text, len, &limits, NULL), RG_OK);
    ids.len = rg_json_count(root);
    ids.capacity = ids.len;
    ids.data = rg_realloc_array(NULL, ids.len + 1, sizeof *ids.data);
    assert_non_null(ids.data);
    size_t i = 0;
    for (const struct rg_json *j = rg_json_first(root); j; j = rg_json_next(j))
        ids.data[i++] = (int32_t)rg_json_double(j);
    rg_json_free(root);
    rg_free(text);
    return ids;
}

struct file {
    const char *name, *text;
};

static inline void write_file(const char *dir, const char *name, const char *text)
{
    char  path[512];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

/* Opens a directory that holds just these files, and removes it. */
static inline enum rg_code open_files(struct rg_tokenizer **t, const struct file *files, size_t n,
                                      struct rg_err *err)
{
    char         dir[] = "/tmp/renga-tokenizer-XXXXXX";
    char         path[512];
    enum rg_code code;

    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < n; i++)
        write_file(dir, files[i].name, files[i].text);
    code = rg_tokenizer_open(t, dir, err);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
    return code;
}

#endif
