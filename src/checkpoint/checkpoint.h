/* checkpoint.h - an MLX checkpoint directory: config, tensors, and each module's exact format.
 *
 * Opening reads config.json and the headers of all shards, walks the list of modules that the
 * architecture has (inventory.c) and finds for each its tensors, shape, kind, bits and group size:
 * bits = 32 * words / in_features, group = in_features / groups, both exact, compared with
 * config.json's "quantization".  A missing module, a conflict or a leftover tensor is an error that
 * says what was found and what would be right.
 * Lifetime   every pointer handed out lives until rg_checkpoint_close().
 * Threads    immutable after opening. */
#ifndef RG_CHECKPOINT_CHECKPOINT_H
#define RG_CHECKPOINT_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/model_config.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/weight.h"

/* The embedding; final norm and lm_head; a tensor that no module has. */
enum { RG_LAYER_NONE = -1, RG_LAYER_HEAD = -2, RG_LAYER_LEFT = -3 };

struct rg_module {
    bool                  there; /* false: its tensors are in shards that this disk does not have;
                                    weight has no bytes and no pointers */
    const char           *missing; /* then: one of these shards, when the index says which */
    const char           *path;  /* "model.layers.3.self_attn.q_proj", after the wrapper's prefix */
    const char           *role;  /* "self_attn.q_proj"; outside layers the path without prefix */
    int32_t               layer; /* 0.., or RG_LAYER_NONE / RG_LAYER_HEAD */
    struct rg_weight_desc weight; /* norms and biases are float [1][1][n] */
    bool                  vector; /* a norm weight, a bias, a score correction */
};

struct rg_checkpoint {
    const char            *dir;  /* owned */
    const char            *name; /* the directory's own name; owned */
    struct rg_model_config config;
    struct rg_tensor_set  *tensors;
    struct rg_module      *modules; /* owned, in the order of the inventory */
    uint32_t               n_modules;
    int32_t               *tensor_layer; /* owned [rg_tensor_set_count(tensors)]: of whose modules
                                            each tensor is, RG_LAYER_LEFT: of none */
    uint64_t               total_bytes;  /* of all tensors that belong to modules */
    uint64_t               parameters;   /* logical weights */
    uint64_t               embedding_bytes;
    uint64_t               head_bytes;  /* final norm and lm_head (which is 0 when tied) */
    uint64_t              *layer_bytes;  /* owned [num_hidden_layers]; sums of what is there */
    bool                  *layer_there;  /* owned [num_hidden_layers] */
    bool                   embedding_there, head_there; /* a tied head needs both */
    bool                   is_whole; /* all of them */
};

/* Which files are opened, and how.  All zero: everything must be there and is mapped.
 * Without an index nobody knows what is in a missing shard: what cannot be found is not there. */
struct rg_checkpoint_options {
    bool headers_only; /* maps nothing */
    bool may_lack;     /* shards named by the index (or by "i of N") may be missing */
    /* Maps only the files that hold something of this part, and its modules alone get pointers; all
     * other pages of these files cannot be read.  Everything of the part must be there, also with
     * may_lack.  A tied head has the embedding, too. */
    bool     is_part;
    uint32_t layer_begin, layer_end;
    bool     embed, head;
};

/* The two usual ones. */
extern const struct rg_checkpoint_options rg_checkpoint_mapped, rg_checkpoint_headers;

RG_CHECKED enum rg_code rg_checkpoint_open(struct rg_checkpoint **out, const char *dir,
                                           const struct rg_checkpoint_options *options,
                                           struct rg_err *err);
void rg_checkpoint_close(struct rg_checkpoint *c); /* accepts NULL */

/* The module with this role in a layer ("self_attn.q_proj"), or with layer RG_LAYER_NONE/HEAD
 * ("model.embed_tokens", "model.norm", "lm_head"); NULL when the model has none such (an optional
 * bias, a tied head, the other MLA layout).  Vectors are found by role too: "input_layernorm",
 * "self_attn.q_proj.bias", "mlp.gate.e_score_correction_bias". */
const struct rg_module *rg_checkpoint_module(const struct rg_checkpoint *c, int32_t layer,
                                             const char *role);

/* A model argument of the command line: a directory, or a name of the registry (a JSON file
 * {"name": {"path": "~/models/..."}}).  *dir is owned by the caller.  registry may be NULL. */
RG_CHECKED enum rg_code rg_checkpoint_resolve(char **dir, char **name, const char *argument,
                                              const char *registry, struct rg_err *err);

#endif
