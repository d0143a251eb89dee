/* service_arguments.c - from the flags of `renga service` to those of `renga serve`. */
#include "cli/service_arguments.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"

static enum rg_code no_memory(struct rg_err *err)
{
    return rg_fail(err, RG_E_NOMEM, "service: out of memory");
}

static enum rg_code add(struct rg_service_arguments *a, const char *text, struct rg_err *err)
{
    const char *copy = rg_arena_strndup(&a->arena, text, strlen(text));

    assert(a->n < RG_SERVICE_ARGUMENTS_MAX);
    if (!copy)
        return no_memory(err);
    a->items[a->n++] = copy;
    return RG_OK;
}

static enum rg_code add_flag(struct rg_service_arguments *a, const char *flag, const char *value,
                             struct rg_err *err)
{
    enum rg_code code = add(a, flag, err);

    return code || !value ? code : add(a, value, err);
}

/* A path that means the same from "/"; *out is the arena's. */
static enum rg_code absolute(const char **out, struct rg_arena *arena, const char *path,
                             struct rg_err *err)
{
    char cwd[PATH_MAX];
    char *joined;

    *out = path;
    if (path[0] == '/')
        return RG_OK;
    if (!getcwd(cwd, sizeof cwd))
        return rg_fail(err, RG_E_IO, "service: the working directory: %s", strerror(errno));
    joined = rg_arena_alloc(arena, strlen(cwd) + strlen(path) + 2);
    if (!joined)
        return no_memory(err);
    memcpy(joined, cwd, strlen(cwd));
    joined[strlen(cwd)] = '/';
    memcpy(joined + strlen(cwd) + 1, path, strlen(path) + 1);
    *out = joined;
    return RG_OK;
}

static bool says(const struct rg_json *config, const char *flag, const char *value)
{
    const struct rg_json *j = config ? rg_json_get(config, flag + 2) : NULL;

    return j && rg_json_type(j) == RG_JSON_STRING && strcmp(rg_json_string(j), value) == 0;
}

static enum rg_code add_path(struct rg_service_arguments *a, const struct rg_json *config,
                             const char *flag, const char *path, struct rg_err *err)
{
    const char *full;
    enum rg_code code;

    if (!path)
        return RG_OK;
    code = absolute(&full, &a->arena, path, err);
    return code || says(config, flag, full) ? code : add_flag(a, flag, full, err);
}

/* A directory becomes a path; a name of the registry stays one. */
static enum rg_code add_model(struct rg_service_arguments *a, const struct rg_json *config,
                              const struct rg_options *o, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    if (strchr(o->model, '/') || rg_dir_exists(o->model))
        return add_path(a, config, "--default-model", o->model, err);
    if (!says(config, "--default-model", o->model))
        code = add_flag(a, "--default-model", o->model, err);
    return code ? code : add_path(a, config, "--registry", o->registry, err);
}

static enum rg_code add_all(struct rg_service_arguments *a, const struct rg_json *config,
                            const struct rg_options *o, struct rg_err *err)
{
    const struct rg_json *insecure = config ? rg_json_get(config, "insecure-peers") : NULL;
    enum rg_code code = add_path(a, NULL, "--config", o->config, err);

    if (!code)
        code = add_model(a, config, o, err);
    if (!code)
        code = add_path(a, config, "--discovery-config-path", o->discovery, err);
    if (!code && o->node_id && !says(config, "--node-id", o->node_id))
        code = add_flag(a, "--node-id", o->node_id, err);
    if (!code)
        code = add_path(a, config, "--tls-dir", o->tls_dir, err);
    if (!code && o->insecure_peers && !insecure)
        code = add_flag(a, "--insecure-peers", NULL, err);
    return code;
}

static enum rg_code read_config(struct rg_json **out, const char *path, struct rg_err *err)
{
    char *text;
    size_t len;
    enum rg_code code;

    *out = NULL;
    if (!path)
        return RG_OK;
    code = rg_file_read(&text, &len, path, RG_LIMIT_CONFIG_BYTES, err);
    if (code)
        return code;
    code = rg_json_parse(out, text, len, &rg_json_limits_config, err);
    rg_free(text);
    return code ? rg_fail_in(err, code, "%s", path) : RG_OK;
}

enum rg_code rg_service_arguments_make(struct rg_service_arguments *out,
                                       const struct rg_options *options, struct rg_err *err)
{
    char program[PATH_MAX];
    size_t size = sizeof program;
    struct rg_json *config = NULL;
    enum rg_code code;
    int status;

    *out = (struct rg_service_arguments){.n = 0};
    rg_arena_init(&out->arena, 0);
    if (!options->model)
        return rg_fail(err, RG_E_USAGE,
                       "service install: a model is missing: give --default-model, or a --config "
                       "file that has it");
    status = uv_exepath(program, &size);
    if (status != 0)
        return rg_fail(err, RG_E_IO, "service: the path of this program: %s", uv_strerror(status));
    code = read_config(&config, options->config, err);
    if (!code)
        code = add(out, program, err);
    if (!code)
        code = add(out, "serve", err);
    if (!code)
        code = add_all(out, config, options, err);
    rg_json_free(config);
    return code;
}

void rg_service_arguments_free(struct rg_service_arguments *a)
{
    rg_arena_free(&a->arena);
}
