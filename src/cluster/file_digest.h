/* file_digest.h - the SHA-256 of a whole file, as other programs print it. */
#ifndef RG_CLUSTER_FILE_DIGEST_H
#define RG_CLUSTER_FILE_DIGEST_H

#include "base/err.h"

enum { RG_SHA256_TEXT_BYTES = 65 };

/* 64 hex digits.  Reads the file once, past the page cache's hold on it where the system has a way
 * to say so: half a terabyte must not push everything else out. */
RG_CHECKED enum rg_code rg_file_sha256(char out[RG_SHA256_TEXT_BYTES], const char *path,
                                       struct rg_err *err);

#endif
