/* st_table.h - the growing tensor table behind a rg_tensor_set, and the parsers that fill it.
 *
 * Private to src/checkpoint: safetensors.c owns the table, st_header.c appends the tensors of one
 * file to it, st_index.c compares it with model.safetensors.index.json.
 * Lifetime   names live in the arena; tensors may move until the set is complete. */
#ifndef RG_CHECKPOINT_ST_TABLE_H
#define RG_CHECKPOINT_ST_TABLE_H

#include "base/arena.h"
#include "checkpoint/safetensors.h"

struct rg_st_table {
    struct rg_arena arena;
    struct rg_tensor_info *tensors; /* owned */
    size_t n_tensors, capacity;
};

/* Where a header came from. */
struct rg_st_source {
    const char *path;    /* for messages */
    uint32_t file;       /* index into the set's files */
    uint64_t data_begin; /* 8 + header length */
    uint64_t data_bytes; /* file size - data_begin */
};

/* Checks rules 2-8 of docs/QUANTISATION.md on the header `json` and appends its tensors. */
RG_CHECKED enum rg_code rg_st_parse_header(struct rg_st_table *t, const struct rg_st_source *source,
                                           const char *json, size_t len, struct rg_err *err);

/* Rule 9: the index names exactly the tensors of the set, each in the file it is in. */
RG_CHECKED enum rg_code rg_st_check_index(const struct rg_tensor_set *s, const char *path,
                                          struct rg_err *err);

/* The last part of a path. */
const char *rg_st_file_name(const char *path);

/* The dtype of a safetensors name and its width in bits; false when the format has none such. */
bool rg_dtype_parse(const char *name, size_t len, enum rg_dtype *dtype, uint32_t *bits);

/* A number that is plain digits, at most 2^53. */
bool rg_st_plain_number(const char *text, size_t len, uint64_t *out);

#endif
