/* model.h - a range of a model's layers, written once over compute ops.
 *
 * A part of a model: layers [layer_begin, layer_end), with the embedding and/or the head.  The head
 * node of a ring has `head`; a node that starts the pipeline has `embed`.  One node has all.
 * Lifetime   the checkpoint and the backend outlive the model.
 * Threads    as compute.h: one forward at a time. */
#ifndef RG_MODEL_MODEL_H
#define RG_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "compute/compute.h"

struct rg_model;

struct rg_model_part {
    uint32_t layer_begin, layer_end;
    bool embed, head;
};

struct rg_model_part rg_model_whole(const struct rg_model_config *c);

RG_CHECKED enum rg_code rg_model_open(struct rg_model **out, const struct rg_checkpoint *checkpoint,
                                      struct rg_backend *backend, const struct rg_model_part *part,
                                      struct rg_err *err);
void rg_model_close(struct rg_model *m); /* accepts NULL */

uint32_t rg_model_n_layers(const struct rg_model *m); /* of the part */

/* What each layer of the part keeps per token; `specs` has room for layer_end - layer_begin. */
void rg_model_kv_specs(const struct rg_model *m, struct rg_kv_layer_spec *specs);
/* The same from a config alone, for any range: a plan needs it before anything is opened. */
void rg_model_config_kv_specs(const struct rg_model_config *c, uint32_t layer_begin,
                              uint32_t layer_end, struct rg_kv_layer_spec *specs);

/* The embedding's rows of n tokens: [n][hidden].  Of a part with the embedding. */
struct rg_tensor *rg_model_embed(struct rg_model *m, struct rg_step *s, const int32_t *tokens,
                                 uint32_t n);

/* The part's layers: x [n][hidden] in and out, n rows of the step.  *layers_done (may be NULL) goes
 * up by one with each layer. */
struct rg_tensor *rg_model_layers(struct rg_model *m, struct rg_step *s, struct rg_kv *kv,
                                  struct rg_tensor *x, _Atomic uint64_t *layers_done);

/* Final norm and lm_head of some rows of x: [n][vocab_size]. */
struct rg_tensor *rg_model_logits(struct rg_model *m, struct rg_step *s, const struct rg_tensor *x,
                                  const uint32_t *rows, uint32_t n);

#endif
