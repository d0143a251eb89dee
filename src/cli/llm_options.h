/* llm_options.h - the flags that serve, run, eval and bench share, as a struct rg_llm_options. */
#ifndef RG_CLI_LLM_OPTIONS_H
#define RG_CLI_LLM_OPTIONS_H

#include "cli/options.h"
#include "engine/llm.h"

RG_CHECKED enum rg_code rg_llm_options_from_flags(struct rg_llm_options *out,
                                                  const struct rg_options *o, struct rg_err *err);

#endif
