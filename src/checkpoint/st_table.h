/* st_table.h - the growing tensor table behind a rg_tensor_set, and the parsers that fill it.
 *
 * Private to src/checkpoint: safetensors.c owns files and table, st_files.c finds the files,
 * st_header.c appends the tensors of one file to the table, st_index.c compares it with
 * model.safetensors.index.json.
 * Lifetime   names live in the arena; tensors may move until the set is complete. */
#ifndef RG_CHECKPOINT_ST_TABLE_H
#define RG_CHECKPOINT_ST_TABLE_H

#include "base/arena.h"
#include "base/map.h"
#include "checkpoint/safetensors.h"

struct rg_st_table {
    struct rg_arena arena;
    struct rg_tensor_info *tensors; /* owned */
    size_t n_tensors, capacity;
};

struct rg_st_file {
    struct rg_tensor_file file;
    struct rg_map map; /* fd -1 when not mapped */
};

struct rg_st_files {
    struct rg_st_file *items; /* owned, sorted by name */
    size_t n, capacity;
};

/* The model*.safetensors of a directory: at least one, and all N of those that say "i of N". */
RG_CHECKED enum rg_code rg_st_find_files(struct rg_st_files *files, const char *dir,
                                         struct rg_err *err);
void rg_st_files_free(struct rg_st_files *files); /* closes the maps too */

/* Fails: a shard is not there; says so when an unfinished copy of it is. */
enum rg_code rg_st_missing(const char *dir, const char *name, struct rg_err *err);

/* RG_E_USAGE when a download that gives a file its full size first has not finished. */
RG_CHECKED enum rg_code rg_st_check_finished(const char *path, struct rg_err *err);

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

/* Rule 9: the index of the directory, if there, names exactly the tensors of the set, each in the
 * file it is in.  *total: its total_size, UINT64_MAX when there is none. */
RG_CHECKED enum rg_code rg_st_check_index(const struct rg_tensor_set *s, const char *dir,
                                          uint64_t *total, struct rg_err *err);

/* The last part of a path. */
const char *rg_st_file_name(const char *path);

/* The dtype of a safetensors name and its width in bits; false when the format has none such. */
bool rg_dtype_parse(const char *name, size_t len, enum rg_dtype *dtype, uint32_t *bits);

/* A number that is plain digits, at most 2^53. */
bool rg_st_plain_number(const char *text, size_t len, uint64_t *out);

#endif
