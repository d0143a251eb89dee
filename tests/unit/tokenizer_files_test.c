/* tokenizer_files_test.c - tokenizer files that are wrong, unknown or cut: refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/tokenizer_fixtures.h"

/* A tokenizer.json of these parts; each macro argument is JSON. */
#define DOCUMENT(added, normalizer, pre, decoder, model)                                           \
    "{\"added_tokens\":" added ",\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre             \
    ",\"decoder\":" decoder ",\"model\":" model "}"
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define MODEL "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define WITH_MODEL(model) DOCUMENT("[]", "null", BYTES, BYTES, model)
#define WITH_ADDED(added) DOCUMENT(added, "null", BYTES, BYTES, MODEL)
#define WITH_PRE(pre) DOCUMENT("[]", "null", pre, BYTES, MODEL)
#define FLAGS                                                                                      \
    ",\"special\":true,\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false"
#define ADDED(id, content) "{\"id\":" #id ",\"content\":\"" content "\"" FLAGS "}"
#define SPLIT(pattern)                                                                             \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"        \
    "\"" pattern "\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}"

struct wrong {
    const char  *json;
    enum rg_code code;
    const char  *says; /* part of the message */
};

static void expect_refusals(const struct wrong *cases, size_t n, const char *name)
{
    const int64_t live = rg_mem_live();

    for (size_t i = 0; i < n; i++) {
        struct rg_tokenizer *t = NULL;
        struct rg_err        err = {.message = ""};
        const struct file    file = {name, cases[i].json};
        const enum rg_code   code = open_files(&t, &file, 1, &err);

        if (code != cases[i].code || !strstr(err.message, cases[i].says) ||
            !strstr(err.message, name))
            fail_msg("%.200s: code %d, expected %d: %s (expected: %s)", cases[i].json, code,
                     cases[i].code, err.message, cases[i].says);
        assert_null(t);
        assert_int_equal(rg_mem_live(), live);
    }
}

#define EXPECT_REFUSALS(cases, name) expect_refusals(cases, sizeof cases / sizeof cases[0], name)

static void the_smallest_tokenizer_works(void **state)
{
    const struct file    file = {"tokenizer.json", WITH_ADDED("[" ADDED(3, "<e>") "]")};
    struct rg_tokenizer *t = NULL;
    struct rg_ids        ids = {0};

    (void)state;
    assert_int_equal(open_files(&t, &file, 1, NULL), RG_OK);
    assert_int_equal(rg_tokenizer_encode(t, "aab<e>xb", 8, NULL, 0, RG_CONTROL_ALL, &ids, NULL),
                     RG_OK);
    /* x has no token and is dropped. */
    assert_int_equal(ids.len, 4);
    assert_memory_equal(ids.data, ((int32_t[]){0, 2, 3, 1}), 16);
    assert_int_equal(rg_tokenizer_vocab_size(t), 4);
    rg_ids_free(&ids);
    rg_tokenizer_close(t);
}

static void refuses_models_that_break_a_rule(void **state)
{
    static const struct wrong cases[] = {
        {"", RG_E_BAD_DATA, ""},
        {"[]", RG_E_BAD_DATA, "not a JSON object"},
        {"{}", RG_E_UNSUPPORTED, "pre_tokenizer: none"},
        {"{\"model\":{},\"model\":{}}", RG_E_BAD_DATA, "model is there twice"},
        {WITH_MODEL("{}"), RG_E_BAD_DATA, "model.vocab is missing"},
        {WITH_MODEL("[]"), RG_E_BAD_DATA, ""},
        {WITH_MODEL("{\"type\":\"Unigram\",\"vocab\":[]}"), RG_E_UNSUPPORTED, "Unigram"},
        {WITH_MODEL("{\"type\":\"WordPiece\",\"vocab\":{}}"), RG_E_UNSUPPORTED, "WordPiece"},
        {WITH_MODEL("{\"vocab\":{\"a\":0}}"), RG_E_BAD_DATA, "merges is missing"},
        {WITH_MODEL("{\"vocab\":[],\"merges\":[]}"), RG_E_BAD_DATA, "vocab is not an object"},
        {WITH_MODEL("{\"vocab\":{},\"merges\":{}}"), RG_E_BAD_DATA, "merges is not an array"},
        {WITH_MODEL("{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}"), RG_E_BAD_DATA, "token 1"},
        {WITH_MODEL("{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}"), RG_E_BAD_DATA, "the id 0"},
        {WITH_MODEL("{\"vocab\":{\"\":0},\"merges\":[]}"), RG_E_BAD_DATA, "token 0 is empty"},
        {WITH_MODEL("{\"vocab\":{\"a\":-1},\"merges\":[]}"), RG_E_BAD_DATA, "no id"},
        {WITH_MODEL("{\"vocab\":{\"a\":1.5},\"merges\":[]}"), RG_E_BAD_DATA, "no id"},
        {WITH_MODEL("{\"vocab\":{\"a\":\"1\"},\"merges\":[]}"), RG_E_BAD_DATA, "no id"},
        {WITH_MODEL("{\"vocab\":{\"a\":4194304},\"merges\":[]}"), RG_E_BAD_DATA, "4194304"},
        {WITH_MODEL("{\"vocab\":{\"a\":99999999999999999999},\"merges\":[]}"), RG_E_BAD_DATA, "id"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}"), RG_E_BAD_DATA, "b is not in"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}"), RG_E_BAD_DATA,
         "result of merge 0"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}"), RG_E_BAD_DATA, "two parts"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}"), RG_E_BAD_DATA, "two parts"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}"), RG_E_BAD_DATA, "two strings"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}"), RG_E_BAD_DATA,
         "two strings"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[7]}"), RG_E_BAD_DATA, "no string or pair"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}"), RG_E_UNSUPPORTED,
         "dropout"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":true}"), RG_E_UNSUPPORTED,
         "byte_fallback"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"a\"}"), RG_E_UNSUPPORTED,
         "unk_token"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[],\"continuing_subword_prefix\":\"#\"}"),
         RG_E_UNSUPPORTED, "continuing_subword_prefix"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}"),
         RG_E_UNSUPPORTED, "end_of_word_suffix"},
        {WITH_MODEL("{\"vocab\":{\"a\":0},\"merges\":[],\"ignore_merges\":1}"), RG_E_BAD_DATA,
         "ignore_merges"},
        {WITH_MODEL(MODEL) "x", RG_E_BAD_DATA, ""},
    };

    (void)state;
    EXPECT_REFUSALS(cases, "tokenizer.json");
}

static void refuses_added_tokens_that_break_a_rule(void **state)
{
    static const struct wrong cases[] = {
        {WITH_ADDED("{}"), RG_E_BAD_DATA, "not an array"},
        {WITH_ADDED("[1]"), RG_E_BAD_DATA, "expected an object"},
        {WITH_ADDED("[{\"id\":3}]"), RG_E_BAD_DATA, "without content"},
        {WITH_ADDED("[{\"content\":\"x\"}]"), RG_E_BAD_DATA, "no id"},
        {WITH_ADDED("[{\"content\":\"x\",\"id\":3}]"), RG_E_BAD_DATA, "special is missing"},
        {WITH_ADDED("[" ADDED(4, "x") "]"), RG_E_BAD_DATA, "has id 4, its place is 3"},
        {WITH_ADDED("[" ADDED(3, "a") "]"), RG_E_BAD_DATA, "has id 3, its place is 0"},
        {WITH_ADDED("[" ADDED(3, "x") "," ADDED(4, "x") "]"), RG_E_BAD_DATA, "there twice"},
        {WITH_ADDED("[" ADDED(4194304, "x") "]"), RG_E_BAD_DATA, "no id below"},
        {WITH_ADDED("[" ADDED(-3, "x") "]"), RG_E_BAD_DATA, "no id below"},
    };

    (void)state;
    EXPECT_REFUSALS(cases, "tokenizer.json");
}

static void refuses_steps_that_it_does_not_know(void **state)
{
    static const struct wrong cases[] = {
        {DOCUMENT("[]", "{\"type\":\"NFKC\"}", BYTES, BYTES, MODEL), RG_E_UNSUPPORTED, "NFKC"},
        {DOCUMENT("[]", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]}", BYTES,
                  BYTES, MODEL),
         RG_E_UNSUPPORTED, "Lowercase"},
        {DOCUMENT("[]", "7", BYTES, BYTES, MODEL), RG_E_UNSUPPORTED, "normalizer"},
        {DOCUMENT("[]", "null", BYTES, "null", MODEL), RG_E_UNSUPPORTED, "decoder"},
        {DOCUMENT("[]", "null", BYTES, "{\"type\":\"Metaspace\"}", MODEL), RG_E_UNSUPPORTED,
         "Metaspace"},
        {WITH_PRE("null"), RG_E_UNSUPPORTED, "pre_tokenizer: none"},
        {WITH_PRE("[]"), RG_E_BAD_DATA, "pre_tokenizer"},
        {WITH_PRE("{}"), RG_E_BAD_DATA, "without a type"},
        {WITH_PRE("{\"type\":\"Metaspace\"}"), RG_E_UNSUPPORTED, "Metaspace"},
        {WITH_PRE("{\"type\":\"Digits\",\"individual_digits\":true}"), RG_E_UNSUPPORTED,
         "no ByteLevel"},
        {WITH_PRE("{\"type\":\"Digits\",\"individual_digits\":1}"), RG_E_BAD_DATA,
         "individual_digits"},
        {WITH_PRE("{\"type\":\"Sequence\"}"), RG_E_BAD_DATA, "without pretokenizers"},
        {WITH_PRE("{\"type\":\"Sequence\",\"pretokenizers\":[" BYTES "," BYTES "]}"),
         RG_E_UNSUPPORTED, "twice"},
        {WITH_PRE("{\"type\":\"Split\",\"behavior\":\"Isolated\"}"), RG_E_BAD_DATA, "Split needs"},
        {WITH_PRE("{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Other\"}"),
         RG_E_UNSUPPORTED, "Other"},
        {WITH_PRE(SPLIT("(?<n>a)")), RG_E_UNSUPPORTED, "this group"},
        {WITH_PRE(SPLIT("a(")), RG_E_UNSUPPORTED, "a group without )"},
        {WITH_PRE(SPLIT("\\\\p{Klingon}")), RG_E_UNSUPPORTED, "regex"},
    };

    (void)state;
    EXPECT_REFUSALS(cases, "tokenizer.json");
}

static void refuses_rank_files_that_break_a_rule(void **state)
{
    static const struct wrong cases[] = {
        {"", RG_E_BAD_DATA, "byte 0x00 has no token"},
        {"YQ== 0\n", RG_E_BAD_DATA, "byte 0x00 has no token"},
        {"YQ==\n", RG_E_BAD_DATA, "line 1 is not base64, a space and a rank"},
        {"YQ== 0\nYg== x\n", RG_E_BAD_DATA, "line 2: the rank is not a number"},
        {"YQ== 0\nYg== 0\n", RG_E_BAD_DATA, "line 2: rank 0 is there twice"},
        {"YQ== 0\nYQ== 1\n", RG_E_BAD_DATA, "line 2: token 1"},
        {"YQ== 0\n\nY*== 1\n", RG_E_BAD_DATA, "line 3 is not base64"},
        {"YQ= 0\n", RG_E_BAD_DATA, "line 1 is not base64"},
        {"==== 0\n", RG_E_BAD_DATA, "line 1 is not base64"},
        {" 0\n", RG_E_BAD_DATA, "line 1 is not base64"},
        {"YQ== 5\n", RG_E_BAD_DATA, "1 tokens, but the highest rank is 5"},
        {"YQ== 99999999\n", RG_E_LIMIT, "line 1"},
        {"YQ== 9999999999\n", RG_E_BAD_DATA, "line 1"},
    };

    (void)state;
    EXPECT_REFUSALS(cases, "tiktoken.model");
}

static void says_what_is_missing(void **state)
{
    struct rg_tokenizer *t = NULL;
    struct rg_err        err = {.message = ""};

    (void)state;
    assert_int_equal(rg_tokenizer_open(&t, "/nonexistent", &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "/nonexistent: no tokenizer.json and no tiktoken.model"));
}

/* With both files the configuration decides. */
static void a_tiktoken_class_prefers_the_rank_file(void **state)
{
    size_t               len;
    char                *ranks = read_fixture("kimi/tiktoken.model", &len);
    const char          *json = WITH_MODEL(MODEL);
    struct file          files[] = {{"tiktoken.model", ranks},
                                    {"tokenizer.json", json},
                                    {"tokenizer_config.json", "{\"tokenizer_class\":\"Other\"}"}};
    struct rg_tokenizer *t = NULL;

    (void)state;
    assert_int_equal(open_files(&t, files, 3, NULL), RG_OK);
    assert_int_equal(rg_tokenizer_vocab_size(t), 3);
    rg_tokenizer_close(t);
    files[2].text = "{\"tokenizer_class\":\"TikTokenTokenizer\"}";
    assert_int_equal(open_files(&t, files, 3, NULL), RG_OK);
    assert_int_equal(rg_tokenizer_vocab_size(t), 900 + 256);
    rg_tokenizer_close(t);
    rg_free(ranks);
}

static void special_ids_end_where_the_model_does(void **state)
{
    size_t               len;
    char                *ranks = read_fixture("kimi/tiktoken.model", &len);
    struct file          files[] = {{"tiktoken.model", ranks}, {"config.json", NULL}};
    static const struct {
        const char *config;
        uint32_t    size; /* 0: refused */
    } cases[] = {{"{\"vocab_size\":902}", 902},
                 {"{\"vocab_size\":900}", 900},
                 {"{\"vocab_size\":899}", 0},
                 {"{\"vocab_size\":5000}", 1156},
                 {"{\"text_config\":{\"vocab_size\":901}}", 901},
                 {"{\"vocab_size\":\"x\"}", 1156},
                 {"[]", 1156}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rg_tokenizer *t = NULL;

        files[1].text = cases[i].config;
        assert_int_equal(open_files(&t, files, 2, NULL), cases[i].size ? RG_OK : RG_E_BAD_DATA);
        if (t)
            assert_int_equal(rg_tokenizer_vocab_size(t), cases[i].size);
        rg_tokenizer_close(t);
    }
    rg_free(ranks);
}

/* Every cut of a file ends in an error, never in a crash or a leak. */
static void a_cut_file_is_refused(void **state)
{
    static const char whole[] = DOCUMENT("[" ADDED(3, "<e>") "]", "{\"type\":\"NFC\"}",
                                         SPLIT("\\\\p{L}+|[^a&&[b-d]]"), BYTES, MODEL);
    const int64_t     live = rg_mem_live();
    char              cut[sizeof whole];

    (void)state;
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        const struct file    file = {"tokenizer.json", cut};
        struct rg_tokenizer *t = NULL;

        memcpy(cut, whole, n);
        cut[n] = '\0';
        assert_int_not_equal(open_files(&t, &file, 1, NULL), RG_OK);
        assert_null(t);
    }
    assert_int_equal(rg_mem_live(), live);
}

static void every_failed_allocation_is_said_and_leaves_nothing(void **state)
{
    static const char    json[] = DOCUMENT("[" ADDED(3, "<e>") "]", "{\"type\":\"NFC\"}",
                                        SPLIT("\\\\p{L}+|\\\\s+"), BYTES, MODEL);
    static const char text[] = "ab\xff e\xCC\x81 ab<e>abababababababababababababababababababababab";
    const struct file    file = {"tokenizer.json", json};
    const int64_t        live = rg_mem_live();
    bool                 done = false;

    (void)state;
    for (int64_t n = 1; !done; n++) {
        struct rg_tokenizer *t = NULL;
        struct rg_ids        ids = {0};
        struct rg_err        err = {.message = ""};
        enum rg_code         code;

        rg_mem_fail_at(n);
        code = open_files(&t, &file, 1, &err);
        if (!code)
            code =
                rg_tokenizer_encode(t, text, sizeof text - 1, NULL, 0, RG_CONTROL_ALL, &ids, &err);
        rg_mem_fail_at(0);
        if (code != RG_OK && code != RG_E_NOMEM)
            fail_msg("allocation %d: code %d: %s", (int)n, code, err.message);
        /* The JIT's stack is the one block that may be missing without a failure. */
        done = n > 200 && code == RG_OK;
        assert_true(n < 5000);
        rg_ids_free(&ids);
        rg_tokenizer_close(t);
        assert_int_equal(rg_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_tokenizer_works),
        cmocka_unit_test(refuses_models_that_break_a_rule),
        cmocka_unit_test(refuses_added_tokens_that_break_a_rule),
        cmocka_unit_test(refuses_steps_that_it_does_not_know),
        cmocka_unit_test(refuses_rank_files_that_break_a_rule),
        cmocka_unit_test(says_what_is_missing),
        cmocka_unit_test(a_tiktoken_class_prefers_the_rank_file),
        cmocka_unit_test(special_ids_end_where_the_model_does),
        cmocka_unit_test(a_cut_file_is_refused),
        cmocka_unit_test(every_failed_allocation_is_said_and_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
