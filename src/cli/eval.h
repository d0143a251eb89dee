/* eval.h - `renga eval`: the logits of every token of a list, for comparison with other engines. */
#ifndef RG_CLI_EVAL_H
#define RG_CLI_EVAL_H

#include <stdint.h>

#include "base/err.h"
#include "engine/llm.h"

/* tokens_file: a JSON array of ids.  npy_out: .npy v1.0, '<f4', C order, [n][vocab_size]; row i
 * follows token i.  chunk: rows per step; 0: 128. */
RG_CHECKED enum rg_code rg_eval(const struct rg_llm_options *options, const char *tokens_file,
                                const char *npy_out, uint32_t chunk, struct rg_err *err);

#endif
