/* bench.h - `renga bench`: prefill and decode speed, and how near decode is to the memory's speed.
 */
#ifndef RG_CLI_BENCH_H
#define RG_CLI_BENCH_H

#include "cli/options.h"
#include "engine/llm.h"

RG_CHECKED enum rg_code rg_bench(const struct rg_options *o, const struct rg_llm_options *llm,
                                 struct rg_err *err);

#endif
