/* llm_options.c - names of kernels and activations to their numbers. */
#include "cli/llm_options.h"

#include <string.h>

static enum rg_code find_name(const char *flag, const char *value, const char *const *names,
                              int *out, struct rg_err *err)
{
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], value) == 0) {
            *out = i;
            return RG_OK;
        }
    }
    return rg_fail(err, RG_E_USAGE, "--%s: '%.40s': give %s%s%s%s", flag, value, names[0],
                   names[2] ? ", " : " or ", names[1], names[2] ? " or neon" : "");
}

enum rg_code rg_llm_options_from_flags(struct rg_llm_options *out, const struct rg_options *o,
                                       struct rg_err *err)
{
    static const char *const activations[] = {"int8", "f32", NULL};
    static const char *const kernels[] = {"scalar", "avx2", "neon", NULL};
    int                      i = 0;
    enum rg_code             code = find_name("activations", o->activations, activations, &i, err);

    *out = (struct rg_llm_options){.model = o->model,
                                   .registry = o->registry,
                                   .context = (uint32_t)o->ctx,
                                   .parallel = (uint32_t)o->parallel,
                                   .chunk_rows = (uint32_t)o->chunk};
    if (code)
        return code;
    out->backend.activations = i == 0 ? RG_ACTIVATIONS_INT8 : RG_ACTIVATIONS_F32;
    out->backend.threads = (uint32_t)o->threads;
    out->backend.kernels = RG_KERNELS_BEST;
    if (o->cpu_kernels[0] == '\0')
        return RG_OK;
    code = find_name("cpu-kernels", o->cpu_kernels, kernels, &i, err);
    if (!code)
        out->backend.kernels = (enum rg_cpu_kernels)(RG_KERNELS_SCALAR + i);
    return code;
}
