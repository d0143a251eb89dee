/* map.h - files mapped for reading, which somebody may cut, overwrite or replace meanwhile.
 *
 * Reading a page that a file no longer has is SIGBUS.  Opening a map installs a handler for it: a
 * fault inside a map puts zeros in the place of the whole map and marks it, the thread goes on, and
 * rg_map_check() says so.  Whoever computes with a map must check it between the last read and the
 * first use of the result: until then the bytes may have been anything.
 * Threads    any; a map is closed when nobody reads it any more.
 * Signals    a SIGBUS elsewhere goes to the handler that was there before.
 * Limits     RG_LIMIT_MAPS maps at once.
 * Failure    RG_E_IO with path and reason; RG_E_USAGE when there is no such regular file. */
#ifndef RG_BASE_MAP_H
#define RG_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What a file was like when it was mapped. */
struct rg_map_stamp {
    int64_t modified_ns;
    uint64_t links;
};

struct rg_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t bytes;
    int fd;    /* owned; -1 when closed */
    int guard; /* the handler's note of the map; -1: none */
    struct rg_map_stamp stamp;
};

/* A private map of a whole regular file. */
RG_CHECKED enum rg_code rg_map_open(struct rg_map *m, const char *path, struct rg_err *err);
void rg_map_close(struct rg_map *m);

/* RG_OK: every byte read so far was the file's, as it was when it was mapped.  Else RG_E_IO: the
 * file was truncated, written to, replaced or removed, or could not be read; `name` begins the
 * message.  A writer that sets the time of modification back is not noticed. */
RG_CHECKED enum rg_code rg_map_check(const struct rg_map *m, const char *name, struct rg_err *err);

#endif
