/* config_reader.h - ranged values out of one JSON object of a config.json.
 *
 * Private to src/checkpoint.  The first failure sticks: after it every read returns its fallback,
 * so a family reads all its fields and looks at `code` once.  A null counts as absent.
 * Failure    one line with file, key, value and what is allowed. */
#ifndef RG_CHECKPOINT_CONFIG_READER_H
#define RG_CHECKPOINT_CONFIG_READER_H

#include "checkpoint/model_config.h"

struct rg_cfg {
    const struct rg_json *object;
    const char *file;  /* for messages */
    const char *where; /* "" or the object's own key with a dot: "rope_scaling." */
    struct rg_err *err;
    enum rg_code code;
};

const struct rg_json *rg_cfg_get(const struct rg_cfg *c,
                                 const char *key); /* NULL: absent or null */
void rg_cfg_missing(struct rg_cfg *c, const char *key);
uint32_t rg_cfg_uint(struct rg_cfg *c, const char *key, uint32_t fallback, uint32_t least,
                     uint32_t most);
double rg_cfg_real(struct rg_cfg *c, const char *key, double fallback, double least, double most);
bool rg_cfg_bool(struct rg_cfg *c, const char *key, bool fallback);
const char *rg_cfg_string(struct rg_cfg *c, const char *key); /* NULL: absent */

/* The object under a key, as a reader of its own; object NULL when absent. */
struct rg_cfg rg_cfg_inside(struct rg_cfg *c, const char *key, const char *where);

/* config_rope.c: rope_theta, rope_scaling, rope_parameters.  theta_default 0: a required key. */
void rg_cfg_read_rope(struct rg_cfg *c, struct rg_model_config *m, double theta_default);

/* config_quant.c: "quantization" of the file's top object; `text` is text_config or the same. */
void rg_cfg_read_quant(struct rg_cfg *top, struct rg_cfg *text, struct rg_quant_config *q);

/* config_foreign.c: "quantization_config" of another program than MLX. */
void rg_cfg_read_foreign_quant(struct rg_cfg *c, struct rg_quant_config *q);
void rg_quant_config_free(struct rg_quant_config *q);

#endif
