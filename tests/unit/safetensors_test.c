/* safetensors_test.c - each rule of the format with its message, at its limit and one past it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "checkpoint/safetensors.h"
#include "support/checkpoint_writer.h"
#include "support/live_memory.h"

/* A file of a header and n zero bytes of data; stated_length 0: the real one. */
static void write_raw(const struct cw *w, const char *header, size_t len, uint64_t stated_length,
                      uint64_t data_bytes)
{
    const uint64_t n = stated_length ? stated_length : len;
    char path[192];
    uint8_t length[8];

    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(n >> (8 * i));
    cw_bytes(w, "model.safetensors", length, 8);
    cw_path(w, "model.safetensors", path);
    FILE *f = fopen(path, "ab");

    assert_non_null(f);
    assert_int_equal(fwrite(header, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, (off_t)(8 + len + data_bytes)), 0);
}

static void expect(const struct cw *w, bool headers_only, enum rg_code code, const char *says)
{
    struct rg_tensor_set *s = NULL;
    struct rg_err err = {.message = ""};
    enum rg_code got = rg_tensor_set_open(&s, w->dir, headers_only, &err);

    if (got != code || (says && !strstr(err.message, says)))
        fail_msg("code %d '%s', expected %d '%s'", got, err.message, code, says ? says : "");
    if (code) {
        assert_null(s);
        assert_non_null(strstr(err.message, w->dir)); /* the file is named */
        assert_null(strchr(err.message, '\n'));
    }
    rg_tensor_set_close(s);
}

static void expect_header(const char *header, uint64_t data_bytes, enum rg_code code,
                          const char *says)
{
    struct cw w;

    cw_begin(&w);
    write_raw(&w, header, strlen(header), 0, data_bytes);
    expect(&w, true, code, says);
    expect(&w, false, code, says);
    cw_end(&w);
}

#define T(name, dtype, shape, range)                                                               \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"

static void opens_a_plain_file_and_finds_its_tensors(void **state)
{
    static const uint8_t a[3] = {1, 2, 3}, b[8] = {4, 5, 6, 7, 8, 9, 10, 11};
    struct cw w;
    struct rg_tensor_set *s = NULL;
    const struct rg_tensor_info *t;

    (void)state;
    cw_begin(&w);
    cw_add(&w, "odd", "U8", 0, 0, 3)->data = a;
    cw_add(&w, "after.weight", "BF16", 0, 2, 2)->data = b; /* at an odd address */
    cw_add(&w, "empty", "F32", 0, 5, 0);
    cw_write(&w);
    assert_int_equal(rg_tensor_set_open(&s, w.dir, false, NULL), RG_OK);
    assert_int_equal(rg_tensor_set_count(s), 3);
    assert_string_equal(rg_tensor_set_at(s, 0)->name, "after.weight");
    assert_string_equal(rg_tensor_set_at(s, 2)->name, "odd");
    assert_null(rg_tensor_set_at(s, 3));
    t = rg_tensor_set_find(s, "after.weight");
    assert_non_null(t);
    assert_int_equal(t->dtype, RG_DTYPE_BF16);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->bytes, 8);
    assert_int_equal(t->offset - rg_tensor_set_find(s, "odd")->offset, 3);
    assert_memory_equal(rg_tensor_bytes(s, t), b, 8);
    assert_memory_equal(rg_tensor_bytes(s, rg_tensor_set_find(s, "odd")), a, 3);
    assert_null(rg_tensor_set_find(s, "after"));
    assert_int_equal(rg_tensor_set_files(s), 1);
    rg_tensor_set_close(s);

    assert_int_equal(rg_tensor_set_open(&s, w.dir, true, NULL), RG_OK);
    assert_null(rg_tensor_bytes(s, rg_tensor_set_find(s, "odd")));
    assert_null(rg_tensor_set_file(s, 0)->data);
    rg_tensor_set_close(s);
    cw_end(&w);
}

static void rule_1_header_length(void **state)
{
    struct cw w;

    (void)state;
    cw_begin(&w);
    cw_bytes(&w, "model.safetensors", "", 0);
    expect(&w, true, RG_E_BAD_DATA, "0 bytes, a safetensors file has at least 8");
    cw_bytes(&w, "model.safetensors", "\2\0\0\0\0\0\0", 7);
    expect(&w, true, RG_E_BAD_DATA, "7 bytes");
    write_raw(&w, "{}", 2, 3, 0);
    expect(&w, true, RG_E_BAD_DATA, "a header of 3 bytes, but the file has 10");
    write_raw(&w, "{}", 2, UINT64_MAX, 0);
    expect(&w, true, RG_E_BAD_DATA, "a header of 18446744073709551615 bytes");
    write_raw(&w, "{}", 2, 100000001, 100000001);
    expect(&w, true, RG_E_LIMIT, "at most 100000000");
    write_raw(&w, "{}", 2, 0, 0);
    expect(&w, true, RG_OK, NULL);
    cw_end(&w);
}

static void rule_2_the_header_is_json_and_nothing_else(void **state)
{
    (void)state;
    expect_header("", 0, RG_E_BAD_DATA, "does not begin with '{'");
    expect_header(" {}", 0, RG_E_BAD_DATA, "does not begin with '{'");
    expect_header("[]", 0, RG_E_BAD_DATA, "does not begin with '{'");
    expect_header("{\"a\":", 0, RG_E_BAD_DATA, "not valid JSON");
    expect_header("{\"\xff\":1}", 0, RG_E_BAD_DATA, "not valid JSON");
    expect_header("{}   ", 0, RG_OK, NULL);
    expect_header("{} \n", 0, RG_E_BAD_DATA, "byte 0x0a behind the header's JSON at header byte 3");
    expect_header("{}{}", 0, RG_E_BAD_DATA, "byte 0x7b behind the header's JSON");
}

static void rule_3_no_duplicate_keys_and_no_deep_nesting(void **state)
{
    (void)state;
    expect_header("{" T("x", "U8", "[1]", "[0,1]") "," T("x", "U8", "[1]", "[1,2]") "}", 2,
                  RG_E_BAD_DATA, "tensor 'x' is there twice");
    expect_header("{" T("x", "U8", "[1]", "[0,1]") "," T("\\u0078", "U8", "[1]", "[1,2]") "}", 2,
                  RG_E_BAD_DATA, "tensor 'x' is there twice");
    expect_header(
        "{\"x\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
        RG_E_BAD_DATA, "tensor 'x': key 'dtype' is there twice");
    expect_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"y\":1}}", 0,
                  RG_E_BAD_DATA, "tensor 'x': key 'y' is unknown");
    expect_header("{\"__metadata__\":{\"a\":\"1\",\"b\":\"2\",\"a\":\"3\"}}", 0, RG_E_BAD_DATA,
                  "'__metadata__': key 'a' is there twice");
    expect_header("{\"__metadata__\":{},\"__metadata__\":{}}", 0, RG_E_BAD_DATA,
                  "'__metadata__' is there twice");
    expect_header("{\"__metadata__\":{\"a\":1}}", 0, RG_E_BAD_DATA, "a string for every key");
    expect_header("{\"__metadata__\":[]}", 0, RG_E_BAD_DATA, "'__metadata__' is not an object");
    expect_header("{\"__metadata__\":null}", 0, RG_OK, NULL);
    expect_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[[1]],\"data_offsets\":[0,1]}}", 1,
                  RG_E_BAD_DATA, "nests deeper than 3 levels");
    expect_header("{\"x\":[]}", 0, RG_E_BAD_DATA, "tensor 'x': an object expected");
}

static void rule_4_integers_are_plain_digits(void **state)
{
    static const char *const bad[] = {
        "-1",   "1.0", "1e0", "-0", "9007199254740993", "\"1\"", "99999999999999999999",
        "true", "null"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char header[256];

        (void)snprintf(header, sizeof header,
                       "{\"x\":{\"dtype\":\"U8\",\"shape\":[%s],\"data_offsets\":[0,1]}}", bad[i]);
        expect_header(header, 1, RG_E_BAD_DATA, "tensor 'x': shape holds");
        (void)snprintf(header, sizeof header,
                       "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,%s]}}", bad[i]);
        expect_header(header, 1, RG_E_BAD_DATA, "tensor 'x': data_offsets holds");
    }
    expect_header("{" T("x", "U8", "[01]", "[0,1]") "}", 1, RG_E_BAD_DATA, "not valid JSON");
    expect_header("{" T("x", "U8", "[9007199254740992]", "[0,1]") "}", 1, RG_E_BAD_DATA,
                  "its shape and dtype U8 need 9007199254740992");
}

static void rule_5_dtype_rank_and_checked_products(void **state)
{
    (void)state;
    expect_header("{" T("x", "F33", "[1]", "[0,4]") "}", 4, RG_E_BAD_DATA,
                  "tensor 'x': unknown dtype 'F33'");
    expect_header("{" T("x", "bf16", "[1]", "[0,2]") "}", 2, RG_E_BAD_DATA, "unknown dtype 'bf16'");
    expect_header("{" T("x", "U8", "[1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, RG_OK, NULL);
    expect_header("{" T("x", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, RG_E_BAD_DATA,
                  "shape has more than 8 numbers");
    expect_header("{" T("x", "F32", "[4294967296,4294967296]", "[0,1]") "}", 1, RG_E_BAD_DATA,
                  "the product of its shape overflows at dimension 1 (4294967296)");
    expect_header("{" T("x", "F32", "[4294967296,4294967296,0]", "[0,0]") "}", 0, RG_E_BAD_DATA,
                  "overflows");
    expect_header("{" T("x", "F4", "[3]", "[0,2]") "}", 2, RG_E_BAD_DATA,
                  "12 bits are not whole bytes");
    expect_header("{" T("x", "F4", "[4]", "[0,2]") "," T("y", "F8_E4M3", "[]", "[2,3]") "," T(
                      "z", "F6_E2M3", "[4]", "[3,6]") "," T("c", "C64", "[1]", "[6,14]") "}",
                  14, RG_OK, NULL);
}

static void rule_6_ranges_fit_their_tensor_and_the_file(void **state)
{
    (void)state;
    expect_header("{" T("x", "U8", "[4]", "[0,5]") "}", 4, RG_E_BAD_DATA,
                  "data_offsets [0, 5] are not inside the file's 4 data bytes");
    expect_header("{" T("x", "U8", "[4]", "[4,0]") "}", 4, RG_E_BAD_DATA, "data_offsets [4, 0]");
    expect_header("{" T("x", "F32", "[4]", "[0,4]") "}", 4, RG_E_BAD_DATA,
                  "tensor 'x': 4 bytes in data_offsets, its shape and dtype F32 need 16");
    expect_header("{" T("x", "U8", "[4]", "[4]") "}", 4, RG_E_BAD_DATA,
                  "data_offsets has 1 numbers, 2 expected");
    expect_header("{" T("x", "U8", "[4]", "[0,4,4]") "}", 4, RG_E_BAD_DATA,
                  "data_offsets has more than 2 numbers");
    expect_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, RG_E_BAD_DATA,
                  "tensor 'x': no 'data_offsets'");
    expect_header("{\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, RG_E_BAD_DATA,
                  "tensor 'x': no 'shape'");
    expect_header("{\"x\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, RG_E_BAD_DATA,
                  "tensor 'x': no 'dtype'");
}

static void rule_7_tensors_tile_the_data(void **state)
{
    (void)state;
    expect_header("{" T("b", "U8", "[2]", "[2,4]") "," T("a", "U8", "[2]", "[0,2]") "}", 4, RG_OK,
                  NULL);
    expect_header("{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[1]", "[3,4]") "}", 4,
                  RG_E_BAD_DATA, "'b' begins at data byte 3, leaving a gap after byte 2");
    expect_header("{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[3]", "[1,4]") "}", 4,
                  RG_E_BAD_DATA, "'b' begins at data byte 1, overlapping up to byte 2");
    expect_header("{" T("a", "U8", "[2]", "[1,3]") "}", 3, RG_E_BAD_DATA, "begins at data byte 1");
    expect_header("{" T("a", "U8", "[2]", "[0,2]") "}", 3, RG_E_BAD_DATA,
                  "the last tensor ends at data byte 2, the file has 3 data bytes");
    expect_header("{}", 1, RG_E_BAD_DATA, "ends at data byte 0, the file has 1");
}

/* n empty tensors: the count is what is tested. */
static void write_many(struct cw *w, uint32_t n)
{
    struct rg_buf h;

    rg_buf_init(&h, 100u << 20);
    assert_int_equal(rg_buf_add_str(&h, "{", NULL), RG_OK);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(rg_buf_addf(&h, NULL, "%s" T("t%06u", "U8", "[0]", "[0,0]"), i ? "," : "",
                                     (i * 7919u) % n),
                         RG_OK);
    assert_int_equal(rg_buf_add_str(&h, "}", NULL), RG_OK);
    write_raw(w, h.data, h.len, 0, 0);
    rg_buf_free(&h);
}

static void rule_8_counts_and_names_over_the_limit_are_errors(void **state)
{
    char header[1024], name[600];
    struct cw w;

    (void)state;
    cw_begin(&w);
    write_many(&w, RG_LIMIT_ST_TENSORS);
    expect(&w, true, RG_OK, NULL);
    write_many(&w, RG_LIMIT_ST_TENSORS + 1);
    expect(&w, true, RG_E_LIMIT, "more than 262144 tensors in one file");
    cw_end(&w);

    memset(name, 'n', sizeof name);
    name[512] = '\0';
    (void)snprintf(header, sizeof header,
                   "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
    expect_header(header, 0, RG_OK, NULL);
    (void)snprintf(header, sizeof header,
                   "{\"%s1\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
    expect_header(header, 0, RG_E_LIMIT, "a name of 513 bytes, at most 512");
    expect_header("{" T("a\\nb", "U8", "[0]", "[0,0]") "}", 0, RG_E_BAD_DATA,
                  "a control character (0x0a) at byte 1");
    expect_header("{" T("a\\u0000b", "U8", "[0]", "[0,0]") "}", 0, RG_E_BAD_DATA,
                  "a control character (0x00) at byte 1");
}

static void two_shards(struct cw *w)
{
    cw_begin(w);
    w->n_shards = 2;
    cw_vector(w, "a", "F32", 2);
    w->shard = 1;
    cw_vector(w, "b", "F32", 3);
}

static void shards_without_an_index_are_one_set(void **state)
{
    struct cw w;
    struct rg_tensor_set *s = NULL;

    (void)state;
    two_shards(&w);
    cw_write(&w);
    cw_text(&w, "consolidated.safetensors", "not looked at");
    assert_int_equal(rg_tensor_set_open(&s, w.dir, false, NULL), RG_OK);
    assert_int_equal(rg_tensor_set_files(s), 2);
    assert_int_equal(rg_tensor_set_find(s, "a")->file, 0);
    assert_int_equal(rg_tensor_set_find(s, "b")->file, 1);
    assert_ptr_equal(rg_tensor_bytes(s, rg_tensor_set_find(s, "b")),
                     rg_tensor_set_file(s, 1)->data + rg_tensor_set_find(s, "b")->offset);
    rg_tensor_set_close(s);
    cw_end(&w);
}

static void a_missing_shard_is_named(void **state)
{
    struct cw w;
    char path[192];

    (void)state;
    for (unsigned missing = 1; missing <= 2; missing++) {
        char name[64], says[96];

        two_shards(&w);
        cw_write(&w);
        (void)snprintf(name, sizeof name, "model-%05u-of-00002.safetensors", missing);
        cw_path(&w, name, path);
        assert_int_equal(unlink(path), 0);
        (void)snprintf(says, sizeof says, "shard %s is missing", name);
        expect(&w, true, RG_E_USAGE, says);
        cw_end(&w);
    }
    two_shards(&w);
    cw_write(&w);
    cw_bytes(&w, "model-00001-of-00003.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
    expect(&w, true, RG_E_BAD_DATA, "of 3 shards, another file of 2");
    cw_end(&w);
}

static void a_tensor_in_two_files_is_refused(void **state)
{
    struct cw w;

    (void)state;
    two_shards(&w);
    cw_vector(&w, "a", "F32", 1);
    cw_write(&w);
    expect(&w, true, RG_E_BAD_DATA, "tensor 'a' is there twice");
    cw_end(&w);
}

static void rule_9_names_are_exactly_those_of_the_index(void **state)
{
    static const struct {
        const char *text;
        enum rg_code code;
        const char *says;
    } cases[] = {
        {"{\"metadata\":{\"total_size\":20},\"weight_map\":{\"a\":\"model-00001-of-00002."
         "safetensors\","
         "\"b\":\"model-00002-of-00002.safetensors\"}}",
         RG_OK, NULL},
        {"{\"metadata\":{\"total_size\":20.0,\"x\":[1]},\"weight_map\":{"
         "\"a\":\"model-00001-of-00002.safetensors\",\"b\":\"model-00002-of-00002.safetensors\"}}",
         RG_OK, NULL},
        {"{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
         "\"b\":\"model-00002-of-00002.safetensors\"}}",
         RG_OK, NULL},
        {"{\"metadata\":{\"total_size\":21},\"weight_map\":{\"a\":\"model-00001-of-00002."
         "safetensors\","
         "\"b\":\"model-00002-of-00002.safetensors\"}}",
         RG_OK, NULL},
        {"{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\"}}", RG_E_BAD_DATA,
         "tensor 'b' of model-00002-of-00002.safetensors is not in weight_map (1 such in all)"},
        {"{\"weight_map\":{\"a\":\"model-00002-of-00002.safetensors\"}}", RG_E_BAD_DATA,
         "tensor 'a' should be in model-00002-of-00002.safetensors, but is in "
         "model-00001-of-00002.safetensors: were files renamed or swapped?"},
        {"{\"weight_map\":{\"c\":\"model-00002-of-00002.safetensors\"}}", RG_E_BAD_DATA,
         "tensor 'c' should be in model-00002-of-00002.safetensors, but that file has none"},
        {"{\"weight_map\":{\"c\":\"model-00003-of-00003.safetensors\"}}", RG_E_USAGE,
         "shard model-00003-of-00003.safetensors is missing"},
        {"{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
         "\"a\":\"model-00001-of-00002.safetensors\"}}",
         RG_E_BAD_DATA, "'a' is there twice"},
        {"{\"weight_map\":{\"a\":1}}", RG_E_BAD_DATA, "'a' is not a file name"},
        {"{\"weight_map\":[]}", RG_E_BAD_DATA, "weight_map is not one object"},
        {"{\"metadata\":{\"total_size\":-1}}", RG_E_BAD_DATA, "not a plain number"},
        {"{\"metadata\":1}", RG_E_BAD_DATA, "metadata is not an object"},
        {"{}", RG_E_BAD_DATA, "no weight_map"},
        {"[]", RG_E_BAD_DATA, "not a JSON object"},
        {"{", RG_E_BAD_DATA, "not valid JSON"},
        {"{} x", RG_E_BAD_DATA, "not valid JSON"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cw w;

        two_shards(&w);
        cw_write(&w);
        cw_text(&w, "model.safetensors.index.json", cases[i].text);
        expect(&w, true, cases[i].code, cases[i].says);
        cw_end(&w);
    }
}

static void says_what_is_wrong_with_the_directory(void **state)
{
    struct cw w;
    struct rg_err err;
    struct rg_tensor_set *s = NULL;

    (void)state;
    cw_begin(&w);
    expect(&w, true, RG_E_USAGE, "no model*.safetensors there");
    cw_end(&w);
    assert_int_equal(rg_tensor_set_open(&s, "/nonexistent/model", true, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "/nonexistent/model: cannot open this directory"));
}

static void a_file_that_may_not_be_read_is_named(void **state)
{
    const bool is_root = geteuid() == 0; /* who may read everything: be somebody else meanwhile */
    char path[192];
    struct cw w;

    (void)state;
    if (is_root && (seteuid(65534) != 0 || seteuid(0) != 0))
        skip();
    two_shards(&w);
    cw_write(&w);
    cw_path(&w, "model-00002-of-00002.safetensors", path);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(w.dir, 0755), 0);
    cw_path(&w, "model-00001-of-00002.safetensors", path);
    assert_int_equal(chmod(path, 0644), 0);
    if (is_root)
        assert_int_equal(seteuid(65534), 0);
    for (int headers_only = 0; headers_only < 2; headers_only++)
        expect(&w, headers_only, RG_E_USAGE,
               "model-00002-of-00002.safetensors: Permission denied; let this user read it");
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    cw_end(&w);
}

/* Whoever computes with the bytes asks afterwards: the set says which of its files it was. */
static void a_file_that_changes_after_opening_is_named(void **state)
{
    struct rg_tensor_set *s = NULL, *headers = NULL;
    struct rg_err err = {.message = ""};
    char path[192];
    struct cw w;

    (void)state;
    two_shards(&w);
    cw_write(&w);
    assert_int_equal(rg_tensor_set_open(&s, w.dir, false, NULL), RG_OK);
    assert_int_equal(rg_tensor_set_open(&headers, w.dir, true, NULL), RG_OK);
    assert_int_equal(rg_tensor_set_check(s, &err), RG_OK);
    cw_path(&w, "model-00002-of-00002.safetensors", path);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(rg_tensor_bytes(s, rg_tensor_set_find(s, "b"))[0], 0);
    assert_int_equal(rg_tensor_set_check(s, &err), RG_E_IO);
    assert_ptr_equal(strstr(err.message, "model-00002-of-00002.safetensors: was truncated from"),
                     err.message);
    assert_int_equal(rg_tensor_set_check(headers, &err), RG_OK); /* it has no bytes to be wrong */
    rg_tensor_set_close(s);
    rg_tensor_set_close(headers);
    cw_end(&w);
}

/* The file of a good checkpoint cut at every byte is an error, never a crash. */
static void every_truncation_is_noticed(void **state)
{
    struct cw w;
    char path[192];

    (void)state;
    cw_begin(&w);
    cw_vector(&w, "a", "F32", 8);
    cw_vector(&w, "b", "F16", 4);
    cw_write(&w);
    cw_path(&w, "model.safetensors", path);
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long size = ftell(f);

    assert_int_equal(fclose(f), 0);
    assert_true(size > 100);
    for (long cut = size - 1; cut >= 0; cut--) {
        assert_int_equal(truncate(path, (off_t)cut), 0);
        expect(&w, false, RG_E_BAD_DATA, NULL);
    }
    cw_end(&w);
}

static void a_tensor_over_4_gib_has_its_last_byte_where_it_should(void **state)
{
    static const uint8_t mark[4] = {9, 8, 7, 6};
    const uint64_t big = (UINT64_C(1) << 32) + (UINT64_C(1) << 29) + 8;
    struct cw w;
    struct rg_tensor_set *s = NULL;
    const struct rg_tensor_info *t;

    (void)state;
    cw_begin(&w);
    cw_add(&w, "big", "U8", 2, 2, big / 4);
    cw_add(&w, "mark", "U8", 0, 0, 4)->data = mark;
    cw_write(&w);
    assert_int_equal(rg_tensor_set_open(&s, w.dir, false, NULL), RG_OK);
    t = rg_tensor_set_find(s, "big");
    assert_true(t->bytes == big);
    assert_memory_equal(rg_tensor_bytes(s, t) + t->bytes, mark, 4);
    assert_ptr_equal(rg_tensor_bytes(s, t) + t->bytes,
                     rg_tensor_bytes(s, rg_tensor_set_find(s, "mark")));
    rg_tensor_set_close(s);
    cw_end(&w);
}

static void every_failed_allocation_is_reported(void **state)
{
    struct cw w;
    enum rg_code code = RG_E_NOMEM;

    (void)state;
    two_shards(&w);
    cw_write(&w);
    cw_write_index(&w, 0);

    const int64_t before = rg_mem_live();

    for (int64_t n = 1; code != RG_OK; n++) {
        struct rg_tensor_set *s = NULL;

        assert_true(n < 1000);
        rg_mem_fail_at(n);
        code = rg_tensor_set_open(&s, w.dir, false, NULL);
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || (code == RG_E_NOMEM && !s));
        rg_tensor_set_close(s);
        assert_int_equal(rg_mem_live(), before);
    }
    cw_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_a_plain_file_and_finds_its_tensors),
        TEST(rule_1_header_length),
        TEST(rule_2_the_header_is_json_and_nothing_else),
        TEST(rule_3_no_duplicate_keys_and_no_deep_nesting),
        TEST(rule_4_integers_are_plain_digits),
        TEST(rule_5_dtype_rank_and_checked_products),
        TEST(rule_6_ranges_fit_their_tensor_and_the_file),
        TEST(rule_7_tensors_tile_the_data),
        TEST(rule_8_counts_and_names_over_the_limit_are_errors),
        TEST(rule_9_names_are_exactly_those_of_the_index),
        TEST(shards_without_an_index_are_one_set),
        TEST(a_missing_shard_is_named),
        TEST(a_tensor_in_two_files_is_refused),
        TEST(says_what_is_wrong_with_the_directory),
        TEST(a_file_that_may_not_be_read_is_named),
        TEST(a_file_that_changes_after_opening_is_named),
        TEST(every_truncation_is_noticed),
        TEST(a_tensor_over_4_gib_has_its_last_byte_where_it_should),
        TEST(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
