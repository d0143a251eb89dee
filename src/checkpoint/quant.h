/* quant.h - one module, or one expert of a module, while its tensors are examined.
 *
 * Private to src/checkpoint: quant.c finds the tensors and knows floats and MLX's formats,
 * quant_packed.c those of compressed-tensors and DeepSeek, absent.c what is not there. */
#ifndef RG_CHECKPOINT_QUANT_H
#define RG_CHECKPOINT_QUANT_H

#include "checkpoint/inventory.h"

/* The tensors PATH.*, by what stands behind PATH; NULL: absent. */
struct rg_parts {
    const struct rg_tensor_info *weight, *scales, *biases, *global_scale; /* MLX */
    const struct rg_tensor_info *packed, *scale, *shape; /* weight_packed, _scale, _shape */
    const struct rg_tensor_info *scale_inv;              /* weight_scale_inv */
    const struct rg_tensor_info *foreign;                /* of a format that nobody here reads */
    const char *foreign_means;
};

struct rg_subject {
    struct rg_resolver *r;
    const struct rg_module_spec *spec;
    const struct rg_quant_entry *entry; /* config.json's own for it; NULL: none */
    const char *path;                   /* of the module or the expert */
    uint32_t lead;                      /* of the stored tensors; 0: no leading axis */
    bool not_inside; /* weight_shape's numbers stay unread: each would be a page of the file */
    struct rg_parts parts;
    struct rg_err *err;
};

enum { RG_SHAPE_TEXT = 128 };

const char *rg_shape_text(const struct rg_tensor_info *t, char out[RG_SHAPE_TEXT]);
const char *rg_subject_file(const struct rg_subject *s, const struct rg_tensor_info *t);
bool rg_dtype_is_float(enum rg_dtype t); /* F32, F16 or BF16 */

/* Fills s->parts with what is there of s->path. */
void rg_subject_find_parts(struct rg_subject *s);

/* absent.c.  When a tensor of the module is in a missing shard, all of its tensors that are there
 * become the module's, and the result is true.  *shard: NULL when nobody knows which it is. */
bool rg_subject_take_absent(struct rg_subject *s, const char **shard);

/* Where one expert of single ones is stored. */
enum { RG_EXPERT_PATH_BYTES = 192 };
const char *rg_subject_expert_path(const struct rg_subject *s, uint32_t expert,
                                   char path[RG_EXPERT_PATH_BYTES]);

/* The tensor belongs to this module. */
void rg_subject_use(const struct rg_subject *s, const struct rg_tensor_info *t);

/* Compares the format that was found with what config.json says of the module. */
RG_CHECKED enum rg_code rg_subject_check_config(const struct rg_subject *s,
                                                const struct rg_weight_desc *d);

/* PATH.weight_packed with its scales: int4, or mxfp4 by its dtype. */
RG_CHECKED enum rg_code rg_describe_packed(const struct rg_subject *s, struct rg_weight_desc *d);

/* PATH.weight of a FP8 type, or PATH.weight_scale_inv. */
RG_CHECKED enum rg_code rg_describe_fp8(const struct rg_subject *s, struct rg_weight_desc *d);

#endif
