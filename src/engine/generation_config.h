/* generation_config.h - what generation_config.json and tokenizer_config.json say about answers.
 *
 * The file is optional.  One that is not JSON, or a value out of range, is logged and passed over,
 * as other programs do: the model can be used without it. */
#ifndef RG_ENGINE_GENERATION_CONFIG_H
#define RG_ENGINE_GENERATION_CONFIG_H

#include "engine/llm.h"

/* Fills l->defaults, l->eos_ids and l->n_eos_ids.  End-of-sequence tokens come from
 * generation_config.json, else config.json, else the tokenizer's eos_token. */
RG_CHECKED enum rg_code rg_generation_config_read(struct rg_llm *l, struct rg_err *err);

#endif
