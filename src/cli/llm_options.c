/* llm_options.c - flags to the engine's options. */
#include "cli/llm_options.h"

enum rg_code rg_llm_options_from_flags(struct rg_llm_options *out, const struct rg_options *o,
                                       struct rg_err *err)
{
    *out = (struct rg_llm_options){.model = o->model,
                                   .registry = o->registry,
                                   .backend.threads = (uint32_t)o->threads,
                                   .context = (uint32_t)o->ctx,
                                   .parallel = (uint32_t)o->parallel,
                                   .chunk_rows = (uint32_t)o->chunk};
    return rg_backend_options_named(&out->backend, o->activations, o->cpu_kernels, err);
}
