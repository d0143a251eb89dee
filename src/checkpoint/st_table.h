/* st_table.h - the growing tensor table behind a rg_tensor_set, and the parsers that fill it.
 *
 * Private to src/checkpoint: safetensors.c owns files and table, st_files.c finds the files,
 * st_header.c appends the tensors of one file to the table, st_index.c compares it with
 * model.safetensors.index.json, st_absence.c keeps what is not there.
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

/* Which file a header was read from. */
struct rg_st_stamp {
    uint64_t device, number;
    int64_t modified_ns;
};

struct rg_st_file {
    struct rg_tensor_file file;
    struct rg_map map; /* fd -1 when not mapped */
    struct rg_st_stamp stamp;
};

struct rg_st_files {
    struct rg_st_file *items; /* owned, sorted by name */
    size_t n, capacity;
};

/* A tensor that the index puts into a shard that is not there. */
struct rg_st_absent {
    const char *name, *shard;
};

/* What a directory lacks.  Texts are the arena's. */
struct rg_st_absence {
    bool allowed;  /* shards may be missing at all */
    bool by_index; /* an index says which tensors are in them; else only their names are known */
    const char **shards; /* owned */
    size_t n_shards, shards_capacity;
    struct rg_st_absent *tensors; /* owned, sorted by name once the set is open */
    size_t n_tensors, tensors_capacity;
    struct rg_arena *arena; /* borrowed */
};

/* The name, kept and listed once; NULL: no memory, and err says so. */
const char *rg_st_add_missing(struct rg_st_absence *a, const char *name, struct rg_err *err);
const struct rg_st_absence *rg_tensor_set_absence(const struct rg_tensor_set *s);
/* The first absent tensor whose name does not stand before this one; may be the end of the list. */
const struct rg_st_absent *rg_st_absent_from(const struct rg_st_absence *a, const char *name);
/* The missing shard that a tensor is in; NULL: none. */
const char *rg_st_absent_shard(const struct rg_st_absence *a, const char *name);

/* Maps a file of a set of headers.  RG_E_IO when it is not the file any more that was read. */
RG_CHECKED enum rg_code rg_tensor_set_map(struct rg_tensor_set *s, uint32_t file,
                                          struct rg_err *err);

/* The model*.safetensors of a directory: at least one, and all N of those that say "i of N", as far
 * as they are allowed to be absent. */
RG_CHECKED enum rg_code rg_st_find_files(struct rg_st_files *files, const char *dir,
                                         struct rg_st_absence *absence, struct rg_err *err);
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
 * file it is in, and those of files that may be absent.  *total: its total_size, UINT64_MAX when
 * there is none. */
RG_CHECKED enum rg_code rg_st_check_index(const struct rg_tensor_set *s, const char *dir,
                                          struct rg_st_absence *absence, uint64_t *total,
                                          struct rg_err *err);

/* The last part of a path. */
const char *rg_st_file_name(const char *path);

/* The dtype of a safetensors name and its width in bits; false when the format has none such. */
bool rg_dtype_parse(const char *name, size_t len, enum rg_dtype *dtype, uint32_t *bits);

/* A number that is plain digits, at most 2^53. */
bool rg_st_plain_number(const char *text, size_t len, uint64_t *out);

#endif
