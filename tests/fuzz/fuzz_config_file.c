/* fuzz_config_file.c - the files that an operator writes or a model brings along: --config, the
 * registry of model names, generation_config.json and tokenizer_config.json.
 *
 * Input      a command line without its first word, then those files. */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/options.h"
#include "engine/generation_config.h"
#include "fuzz_dir.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WORDS_MAX = 16, LINE_BYTES_MAX = 512, VOCAB = 1000 };

static struct rg_tokenizer *tokenizer;
static char                 config_path[FUZZ_PATH_BYTES + 72];
static char                 registry_path[FUZZ_PATH_BYTES + 72];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct rg_err err = {0};

    (void)argc, (void)argv;
    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    /* The registry in the home directory is no part of an input. */
    (void)setenv("HOME", fuzz_dir(), 1);
    fuzz_path(config_path, "flags.json");
    fuzz_path(registry_path, "models.json");
    if (rg_tokenizer_open(&tokenizer, RENGA_SOURCE_DIR "/tests/fixtures/tokenizer/smollm2", &err)) {
        fprintf(stderr, "%s\n", err.message);
        exit(2);
    }
    return 0;
}

static void check_options(const struct rg_options *o)
{
    assert(o->api_port >= 0 && o->api_port <= 65535);
    assert(o->threads >= 0 && o->threads <= 512);
    assert(o->ctx == 0 || (o->ctx >= 16 && o->ctx <= RG_LIMIT_CONTEXT));
    assert(o->parallel >= 0 && o->parallel <= 256);
    assert(o->chunk >= 0 && o->chunk <= 65536);
    assert(o->max_tokens >= -1 && o->max_tokens <= RG_LIMIT_CONTEXT);
    assert(o->seed >= -1 && o->seed <= INT64_C(1) << 53);
    assert(o->temperature <= 2 && !isnan(o->temperature));
    assert(o->prefill_tokens >= 1 && o->prefill_tokens <= 65536);
    assert(o->decode_tokens >= 1 && o->decode_tokens <= 4096);
    assert(o->depth >= 0 && o->depth <= 1048576);
    assert(o->rounds >= 1 && o->rounds <= 1000);
    assert(strlen(o->api_host) < LINE_BYTES_MAX + RG_LIMIT_CONFIG_BYTES);
}

/* Splits the line at spaces into words behind "renga". */
static int make_argv(char *line, char **argv)
{
    static char renga[] = "renga", config[] = "--config";
    int         n = 0;

    argv[n++] = renga;
    for (char *word = line; *word && n < WORDS_MAX;) {
        char *end = strchr(word, ' ');

        argv[n++] = word;
        if (!end)
            break;
        *end = '\0';
        word = end + 1;
    }
    argv[n++] = config;
    argv[n++] = config_path;
    argv[n] = NULL;
    return n;
}

static void read_options(const struct fuzz_part *part, char model[LINE_BYTES_MAX])
{
    char              line[LINE_BYTES_MAX];
    char             *argv[WORDS_MAX + 3];
    const size_t      n = part->size < sizeof line ? part->size : sizeof line - 1;
    struct rg_options o;
    struct rg_err     err = {0};

    memcpy(line, part->data, n);
    line[n] = '\0';

    const int argc = make_argv(line, argv);

    if (rg_options_parse(&o, argc, argv, &err) == RG_OK) {
        check_options(&o);
        if (o.model)
            snprintf(model, LINE_BYTES_MAX, "%s", o.model);
    } else {
        assert(err.message[0] && (err.code != RG_E_INTERNAL));
    }
    rg_options_free(&o);
}

static void read_registry(const char *model)
{
    struct rg_err err = {0};
    char         *dir, *name;

    if (rg_checkpoint_resolve(&dir, &name, model, registry_path, &err) == RG_OK) {
        assert(dir[0] && name[0]);
        rg_free(dir);
        rg_free(name);
    } else {
        assert(err.message[0] && !dir && !name);
    }
}

static void read_generation_config(void)
{
    struct rg_checkpoint checkpoint = {.dir = fuzz_dir(), .config.vocab_size = VOCAB};
    struct rg_llm        l = {.checkpoint = &checkpoint, .tokenizer = tokenizer};
    struct rg_err        err = {0};
    const enum rg_code   code = rg_generation_config_read(&l, &err);

    assert(code == RG_OK);
    assert(l.n_eos_ids <= sizeof l.eos_ids / sizeof l.eos_ids[0]);
    for (uint32_t i = 0; i < l.n_eos_ids; i++)
        assert(l.eos_ids[i] >= 0 && l.eos_ids[i] < VOCAB);
    assert(isnan(l.defaults.temperature) ||
           (l.defaults.temperature >= 0 && l.defaults.temperature <= 2));
    assert(isnan(l.defaults.top_p) || (l.defaults.top_p > 0 && l.defaults.top_p <= 1));
    assert(isnan(l.defaults.min_p) || (l.defaults.min_p >= 0 && l.defaults.min_p <= 1));
    assert(isnan(l.defaults.repetition_penalty) ||
           (l.defaults.repetition_penalty > 0 && l.defaults.repetition_penalty <= 10));
    assert(l.defaults.top_k == UINT32_MAX || l.defaults.top_k <= RG_LIMIT_VOCAB);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t    live = rg_mem_live();
    char             model[LINE_BYTES_MAX] = "m";
    struct fuzz_part parts[5];

    (void)fuzz_split(data, size, parts, 5);
    fuzz_write("flags.json", &parts[1]);
    fuzz_write("models.json", &parts[2]);
    fuzz_write("generation_config.json", &parts[3]);
    fuzz_write("tokenizer_config.json", &parts[4]);
    read_options(&parts[0], model);
    if (parts[2].data)
        read_registry(model);
    if (parts[3].data || parts[4].data)
        read_generation_config();
    assert(rg_mem_live() == live);
    return 0;
}
