/* file.h - whole files in, and read-only maps.
 *
 * Failure    RG_E_IO with path and reason; RG_E_LIMIT when a file is over its maximum. */
#ifndef RG_BASE_FILE_H
#define RG_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Reads a whole regular file.  *out is NUL-terminated, owned by the caller (rg_free). */
RG_CHECKED enum rg_code rg_file_read(char **out, size_t *len, const char *path, size_t bytes_max,
                                     struct rg_err *err);

bool rg_file_exists(const char *path); /* a regular file, links followed */
bool rg_dir_exists(const char *path);

/* dir + "/" + name, owned by the caller; NULL when memory is short. */
RG_CHECKED char *rg_path_join(const char *dir, const char *name);

/* A read-only private map of a whole regular file. */
struct rg_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t bytes;
    int fd; /* owned; -1 when closed  */
};

RG_CHECKED enum rg_code rg_map_open(struct rg_map *m, const char *path, struct rg_err *err);
void rg_map_close(struct rg_map *m);

#endif
