/* fuzz_dir.h - a scratch directory for targets whose subject opens files of a directory, and inputs
 * that are several files.
 *
 * Parts      an input is one file, or several with the line "====" between them.
 * Lifetime   one directory per process, under TMPDIR, else in memory (/dev/shm), else in /tmp; its
 *            files are overwritten by each input and removed at a regular end.
 * Failure    exit status 2, which libFuzzer does not take for a finding. */
#ifndef RG_TESTS_FUZZ_DIR_H
#define RG_TESTS_FUZZ_DIR_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FUZZ_FILES_MAX = 8, FUZZ_PATH_BYTES = 512 };

struct fuzz_part {
    const char *data;
    size_t      size;
};

struct fuzz_file {
    char name[64];
    int  fd; /* -1: not there now */
};

struct fuzz_scratch {
    char             path[FUZZ_PATH_BYTES];
    struct fuzz_file files[FUZZ_FILES_MAX];
    size_t           n_files;
};

static struct fuzz_scratch fuzz_scratch;

static inline void fuzz_path(char out[FUZZ_PATH_BYTES + 72], const char *name)
{
    snprintf(out, FUZZ_PATH_BYTES + 72, "%s/%s", fuzz_scratch.path, name);
}

static inline void fuzz_remove_all(void)
{
    char path[FUZZ_PATH_BYTES + 72];

    for (size_t i = 0; i < fuzz_scratch.n_files; i++) {
        fuzz_path(path, fuzz_scratch.files[i].name);
        (void)unlink(path);
    }
    (void)rmdir(fuzz_scratch.path);
}

static inline const char *fuzz_dir(void)
{
    if (!fuzz_scratch.path[0]) {
        const char *base = getenv("TMPDIR");
        struct stat st;

        if (!base)
            base = stat("/dev/shm", &st) == 0 && S_ISDIR(st.st_mode) ? "/dev/shm" : "/tmp";
        snprintf(fuzz_scratch.path, sizeof fuzz_scratch.path, "%s/renga-fuzz-XXXXXX", base);
        if (!mkdtemp(fuzz_scratch.path)) {
            perror(fuzz_scratch.path);
            exit(2);
        }
        (void)atexit(fuzz_remove_all);
    }
    return fuzz_scratch.path;
}

static inline struct fuzz_file *fuzz_file(const char *name)
{
    (void)fuzz_dir();
    for (size_t i = 0; i < fuzz_scratch.n_files; i++)
        if (strcmp(fuzz_scratch.files[i].name, name) == 0)
            return &fuzz_scratch.files[i];
    if (fuzz_scratch.n_files == FUZZ_FILES_MAX) {
        fprintf(stderr, "%s: too many files\n", name);
        exit(2);
    }

    struct fuzz_file *f = &fuzz_scratch.files[fuzz_scratch.n_files++];

    snprintf(f->name, sizeof f->name, "%s", name);
    f->fd = -1;
    return f;
}

/* Makes dir/name hold the part; a part without data removes the file. */
static inline void fuzz_write(const char *name, const struct fuzz_part *part)
{
    struct fuzz_file *f = fuzz_file(name);
    char              path[FUZZ_PATH_BYTES + 72];

    fuzz_path(path, name);
    if (!part->data) {
        if (f->fd >= 0) {
            (void)close(f->fd);
            (void)unlink(path);
        }
        f->fd = -1;
        return;
    }
    if (f->fd < 0)
        f->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (f->fd < 0 || pwrite(f->fd, part->data, part->size, 0) != (ssize_t)part->size ||
        ftruncate(f->fd, (off_t)part->size) != 0) {
        perror(path);
        exit(2);
    }
}

/* Cuts an input at its lines "====".  Parts that it does not have get data NULL; what lies behind
 * the last one belongs to it.  Returns how many there are. */
static inline size_t fuzz_split(const uint8_t *data, size_t size, struct fuzz_part *parts,
                                size_t most)
{
    static const char line[] = "\n====\n";
    const char       *at = (const char *)data;
    size_t            n = 0;

    memset(parts, 0, most * sizeof *parts);
    for (;;) {
        const size_t left = size - (size_t)(at - (const char *)data);
        const char  *end = n + 1 < most ? memmem(at, left, line, sizeof line - 1) : NULL;

        parts[n++] = (struct fuzz_part){at ? at : "", end ? (size_t)(end - at) : left};
        if (!end)
            return n;
        at = end + sizeof line - 1;
    }
}

#endif
