/* version.c - version, kernels, threads and libraries, for people and for bug reports. */
#include "cli/version.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "base/json.h"
#include "compute/compute.h"

static enum rg_code print_json(const struct rg_backend *b, struct rg_err *err)
{
    struct rg_json *o = rg_json_new_object();
    struct rg_buf out;
    bool ok = o != NULL;
    const char *kernels = rg_backend_kernels(b), *numerics = rg_backend_class(b);

    rg_buf_init(&out, 4096);
    ok = ok && rg_json_add(o, "schema", rg_json_new_string("renga.version/1", 15));
    ok = ok &&
         rg_json_add(o, "version", rg_json_new_string(RENGA_VERSION, sizeof RENGA_VERSION - 1));
    ok = ok && rg_json_add(o, "kernels", rg_json_new_string(kernels, strlen(kernels)));
    ok = ok && rg_json_add(o, "numerics_class", rg_json_new_string(numerics, strlen(numerics)));
    ok = ok && rg_json_add(o, "threads", rg_json_new_int(rg_backend_threads(b)));
    ok = ok && rg_json_add(o, "libuv",
                           rg_json_new_string(uv_version_string(), strlen(uv_version_string())));

    enum rg_code code =
        ok ? rg_json_print(&out, o, err) : rg_fail(err, RG_E_NOMEM, "out of memory: version");

    if (!code)
        printf("%s\n", out.data);
    rg_buf_free(&out);
    rg_json_free(o);
    return code;
}

enum rg_code rg_version(bool json, struct rg_err *err)
{
    const struct rg_backend_options options = {.kernels = RG_KERNELS_BEST};
    struct rg_backend *b;
    enum rg_code code = rg_backend_open(&b, &options, err);

    if (code)
        return code;
    if (json)
        code = print_json(b, err);
    else
        printf("renga %s\nkernels %s (numerics class %s), %u threads, libuv %s\n", RENGA_VERSION,
               rg_backend_kernels(b), rg_backend_class(b), rg_backend_threads(b),
               uv_version_string());
    rg_backend_close(b);
    return code;
}
