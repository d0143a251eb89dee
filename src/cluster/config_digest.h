/* config_digest.h - one digest of everything in config.json that changes an answer.
 *
 * Private to cluster/: model_card.c.  Two spellings of the same model have the same digest. */
#ifndef RG_CLUSTER_CONFIG_DIGEST_H
#define RG_CLUSTER_CONFIG_DIGEST_H

#include "base/buf.h"
#include "base/err.h"
#include "checkpoint/model_config.h"
#include "cluster/message.h"

/* The text that is hashed: "key=value\n" in a fixed order, for messages of tests. */
RG_CHECKED enum rg_code rg_config_text(struct rg_buf *out, const struct rg_model_config *c,
                                       struct rg_err *err);
RG_CHECKED enum rg_code rg_config_digest(struct rg_digest *out, const struct rg_model_config *c,
                                         struct rg_err *err);

#endif
