/* fuzz_dir.h - a scratch directory for targets whose subject opens files of a directory.
 *
 * Lifetime   one directory per process, under TMPDIR; its files are overwritten by each input. */
#ifndef RG_TESTS_FUZZ_DIR_H
#define RG_TESTS_FUZZ_DIR_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline const char *fuzz_dir(void)
{
    static char path[512];

    if (!path[0]) {
        const char *base = getenv("TMPDIR");

        snprintf(path, sizeof(path), "%s/renga-fuzz-XXXXXX", base ? base : "/tmp");
        if (!mkdtemp(path)) {
            perror(path);
            exit(2);
        }
    }
    return path;
}

static inline void fuzz_write(const char *name, const void *data, size_t n)
{
    char path[1024];

    snprintf(path, sizeof(path), "%s/%s", fuzz_dir(), name);

    FILE *f = fopen(path, "wb");

    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(2);
    }
}

#endif
