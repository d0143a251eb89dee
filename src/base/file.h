/* file.h - whole files in, and what a path is.
 *
 * Failure    RG_E_IO with path and reason; RG_E_LIMIT when a file is over its maximum. */
#ifndef RG_BASE_FILE_H
#define RG_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Opens a regular file for reading: *fd is the caller's to close, -1 after a failure; *bytes is the
 * file's size.  RG_E_USAGE when there is none. */
RG_CHECKED enum rg_code rg_file_open(int *fd, uint64_t *bytes, const char *path,
                                     struct rg_err *err);

/* Reads a whole regular file.  *out is NUL-terminated, owned by the caller (rg_free). */
RG_CHECKED enum rg_code rg_file_read(char **out, size_t *len, const char *path, size_t bytes_max,
                                     struct rg_err *err);

bool rg_file_exists(const char *path); /* a regular file, links followed */
bool rg_dir_exists(const char *path);

/* dir + "/" + name, owned by the caller; NULL when memory is short. */
RG_CHECKED char *rg_path_join(const char *dir, const char *name);

#endif
