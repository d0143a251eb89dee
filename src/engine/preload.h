/* preload.h - reads the weights of a part of a model into memory before the first request.
 *
 * Only pages that hold something of the part are touched.
 * Threads    a large part is read by up to four; on_progress is called on the caller's alone. */
#ifndef RG_ENGINE_PRELOAD_H
#define RG_ENGINE_PRELOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/checkpoint.h"
#include "model/model.h"

/* Bytes so far and in all; false: stop.  NULL: nobody wants to know. */
typedef bool rg_preload_fn(void *ud, uint64_t done, uint64_t total);

/* Bytes of the weights that the part uses. */
uint64_t rg_preload_bytes(const struct rg_checkpoint *c, const struct rg_model_part *part);

/* Touches every page of them, with read-ahead; RG_E_CANCELED when it was told to stop. */
RG_CHECKED enum rg_code rg_preload(const struct rg_checkpoint *c, const struct rg_model_part *part,
                                   rg_preload_fn *on_progress, void *ud, struct rg_err *err);

#endif
