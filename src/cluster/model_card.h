/* model_card.h - what this machine's disk has of a model, as a Hello says it.
 *
 * A layer is there when every tensor of its modules is.  Its digest is the SHA-256 (16 bytes of it)
 * over its tensors in the order of their names: name, dtype, shape, bytes and one sample of 4 KiB
 * (or all, when it is smaller) at an offset that is drawn from the name.  A table alone would
 * accept another fine-tune; hashing 511 GB would cost minutes at every start.
 * The model's digest is over everything in config.json that changes an answer, model_type's alias
 * excepted: kimi_k2 and its hand-edited deepseek_v3 are the same model.
 * Samples are read with pread(): no page of the checkpoint's maps is touched. */
#ifndef RG_CLUSTER_MODEL_CARD_H
#define RG_CLUSTER_MODEL_CARD_H

#include <stdbool.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "cluster/message.h"
#include "model/model.h"

/* checkpoint: opened with headers only, parts may be missing.  *stop (may be NULL) ends it early
 * with RG_E_CANCELED. */
RG_CHECKED enum rg_code rg_model_card_make(struct rg_model_card *out,
                                           const struct rg_checkpoint *checkpoint,
                                           const _Atomic bool *stop, struct rg_err *err);

/* Is what the part of the checkpoint has still what `card`, of the same directory, was made of?
 * RG_E_IO names what differs. */
RG_CHECKED enum rg_code rg_model_card_check(const struct rg_model_card *card,
                                            const struct rg_checkpoint *checkpoint,
                                            const struct rg_model_part *part,
                                            const _Atomic bool *stop, struct rg_err *err);

#endif
