/* eval.h - `renga eval`: the logits of every token of a list, for comparison with other engines. */
#ifndef RG_CLI_EVAL_H
#define RG_CLI_EVAL_H

#include "base/err.h"
#include "cli/options.h"
#include "engine/llm.h"

/* --tokens: a JSON array of ids.  --logits: .npy v1.0, '<f4', C order, [n][vocab_size]; row i
 * follows token i.  --chunk: rows per step [128].  With --discovery-config-path this process is the
 * head of a ring. */
RG_CHECKED enum rg_code rg_eval(const struct rg_options *flags,
                                const struct rg_llm_options *options, struct rg_err *err);

#endif
