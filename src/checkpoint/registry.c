/* registry.c - a model argument of the command line to a checkpoint directory.
 *
 * The registry is a JSON file {"name": {"path": "~/models/..."}}; a relative path counts from the
 * registry's own directory. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "checkpoint/inventory.h"

enum { NAME_BYTES_MAX = 128 };

static bool is_model_name(const char *s)
{
    const size_t n = strlen(s);

    return n >= 1 && n <= NAME_BYTES_MAX &&
           strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

/* "~/x" -> "$HOME/x"; "x" -> the registry's directory + "/x"; "/x" as it is.  NULL: no memory. */
static char *expand(const char *path, const char *registry)
{
    const char *home = getenv("HOME");
    const char *slash = strrchr(registry, '/');
    char *base, *joined;

    if (path[0] == '/' || (path[0] != '~' && !slash))
        return rg_strdup(path);
    if (path[0] == '~' && (path[1] == '/' || path[1] == '\0') && home && *home)
        return rg_path_join(home, path[1] ? path + 2 : ".");
    if (!slash)
        return rg_strdup(path);
    base = rg_strndup(registry, slash == registry ? 1 : (size_t)(slash - registry));
    joined = base ? rg_path_join(base, path) : NULL;
    rg_free(base);
    return joined;
}

static enum rg_code look_up(const struct rg_json *root, const char *name, const char *registry,
                            char **dir, struct rg_err *err)
{
    const struct rg_json *entry, *path;

    if (rg_json_type(root) != RG_JSON_OBJECT)
        return rg_fail(err, RG_E_BAD_DATA, "%s: %s, an object {\"name\": {\"path\": ...}} expected",
                       registry, rg_json_type_name(root));
    entry = rg_json_get(root, name);
    if (!entry) {
        const struct rg_json *first = rg_json_first(root);

        return rg_fail(err, RG_E_USAGE,
                       "model '%.128s': neither a directory nor a name in %s%s%.64s"
                       "%s",
                       name, registry, first ? " (which has '" : " (which is empty",
                       first ? rg_json_key(first) : "",
                       !first                ? ")"
                       : rg_json_next(first) ? "' and others)"
                                             : "')");
    }
    path = rg_json_type(entry) == RG_JSON_OBJECT ? rg_json_get(entry, "path") : NULL;
    if (!path || rg_json_type(path) != RG_JSON_STRING || !*rg_json_string(path))
        return rg_fail(err, RG_E_BAD_DATA, "%s: '%.128s' has no \"path\" string", registry, name);
    *dir = expand(rg_json_string(path), registry);
    return *dir ? RG_OK : rg_fail(err, RG_E_NOMEM, "%s: no memory for a path", registry);
}

static enum rg_code from_registry(char **dir, const char *name, const char *registry,
                                  struct rg_err *err)
{
    struct rg_json *root = NULL;
    char *text = NULL;
    size_t len = 0;
    enum rg_code code = rg_file_read(&text, &len, registry, RG_LIMIT_CONFIG_BYTES, err);

    if (!code) {
        code = rg_json_parse(&root, text, len, &rg_json_limits_config, err);
        if (code)
            code = rg_fail_in(err, code, "%s", registry);
    }
    if (!code)
        code = look_up(root, name, registry, dir, err);
    if (!code && !rg_dir_exists(*dir))
        code = rg_fail(err, RG_E_USAGE, "%s: the path of '%s' is no directory: %s", registry, name,
                       *dir);
    rg_json_free(root);
    rg_free(text);
    return code;
}

char *rg_directory_name(const char *dir)
{
    char real[PATH_MAX];
    size_t end = strlen(dir), begin;

    while (end > 1 && dir[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && dir[begin - 1] != '/'; begin--)
        ;

    const bool one = end - begin == 1 && dir[begin] == '.';
    const bool two = end - begin == 2 && dir[begin] == '.' && dir[begin + 1] == '.';

    if ((one || two) && realpath(dir, real)) {
        const char *slash = strrchr(real, '/');

        return rg_strdup(slash && slash[1] ? slash + 1 : real);
    }
    /* The root has no last component. */
    return begin < end ? rg_strndup(dir + begin, end - begin) : rg_strdup("/");
}

enum rg_code rg_checkpoint_resolve(char **dir, char **name, const char *argument,
                                   const char *registry, struct rg_err *err)
{
    struct rg_err local;
    enum rg_code code = RG_OK;

    *dir = *name = NULL;
    if (!err)
        err = &local;
    if (rg_dir_exists(argument)) {
        *dir = rg_strdup(argument);
        *name = rg_directory_name(argument);
    } else if (registry && is_model_name(argument)) {
        code = from_registry(dir, argument, registry, err);
        *name = rg_strdup(argument);
    } else {
        return rg_fail(err, RG_E_USAGE, "model '%.200s': no such directory%s", argument,
                       registry ? "" : "; a name needs a registry file");
    }
    if (!code && (!*dir || !*name))
        code = rg_fail(err, RG_E_NOMEM, "model '%.200s': no memory for its path", argument);
    if (code) {
        rg_free(*dir);
        rg_free(*name);
        *dir = *name = NULL;
    }
    return code;
}
