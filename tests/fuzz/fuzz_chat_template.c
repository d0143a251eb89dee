/* fuzz_chat_template.c - text/chat: any template source is parsed or refused, and rendering it ends
 * within its bounds; spans tile what it wrote.
 *
 * Input      chat_template.jinja, or nothing; then a request, then tokenizer_config.json, when an
 *            input has them.  Without a request the template gets one with messages of every role
 *            and the variables of tests/fixtures/templates. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "fuzz_dir.h"
#include "text/chat.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char messages[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},"
    "{\"role\":\"user\",\"content\":\"a <|im_end|> b\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"type\":\"function\",\"id\":\"c1\","
    "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"}}]},"
    "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"3\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}],"
    "\"chat_template_kwargs\":";

static char request_text[16384];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct rg_err err = {0};
    char         *variables;
    size_t        n;

    (void)argc, (void)argv;
    if (rg_file_read(&variables, &n, RENGA_SOURCE_DIR "/tests/fixtures/templates/variables.json",
                     sizeof request_text / 2, &err)) {
        fprintf(stderr, "%s\n", err.message);
        exit(2);
    }
    snprintf(request_text, sizeof request_text, "%s%s}", messages, variables);
    rg_free(variables);
    return 0;
}

static void render(const struct rg_chat *c, const struct rg_json *request)
{
    struct rg_prompt p = {0};
    struct rg_err    err = {0};

    if (rg_chat_render(c, request, &p, &err) == RG_OK) {
        size_t at = 0;

        for (size_t i = 0; i < p.n_spans; i++) {
            assert(p.spans[i].begin == at && p.spans[i].end >= at);
            at = p.spans[i].end;
        }
        assert(at == p.len && p.len <= RG_LIMIT_TEMPLATE_OUT_BYTES);
        rg_prompt_free(&p);
    } else {
        assert(err.message[0]);
    }
}

static void open_and_render(const struct rg_json *request)
{
    struct rg_chat *c = NULL;
    struct rg_err   err = {0};

    if (rg_chat_open(&c, fuzz_dir(), &err) == RG_OK) {
        size_t n;

        assert(rg_chat_literals(c, &n)[n] == '\0');
        (void)rg_chat_uses(c, "tools");
        render(c, request);
        rg_chat_close(c);
    } else {
        assert(err.message[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rg_json  *request = NULL;
    struct rg_err    err = {0};
    struct fuzz_part parts[3];
    const int64_t    live = rg_mem_live();

    (void)fuzz_split(data, size, parts, 3);
    if (parts[2].data && parts[0].size == 0)
        parts[0].data = NULL;
    if (!parts[1].data)
        parts[1] = (struct fuzz_part){request_text, strlen(request_text)};
    fuzz_write("chat_template.jinja", &parts[0]);
    fuzz_write("tokenizer_config.json", &parts[2]);
    if (rg_json_parse(&request, parts[1].data, parts[1].size, &rg_json_limits_request, &err))
        return 0;
    open_and_render(request);
    rg_json_free(request);
    assert(rg_mem_live() == live);
    return 0;
}
