/* checkpoint_writer.h - small (or sparse) checkpoints for tests, in a directory of their own.
 *
 * Header-only.  Tensors are added, then cw_write() makes one safetensors file of them, or several.
 * Data that is not given is a hole in the file and reads as zeros, so that a model of 500 GB takes
 * no disk.  Shapes follow mlx.core.quantize, written down here independently of src/checkpoint. */
#ifndef TESTS_SUPPORT_CHECKPOINT_WRITER_H
#define TESTS_SUPPORT_CHECKPOINT_WRITER_H

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

struct cw_tensor {
    char name[192];
    const char *dtype;
    uint32_t rank;
    uint64_t shape[3];
    uint64_t bytes;
    const void *data; /* borrowed until cw_write(); NULL: a hole */
    uint32_t shard;
};

struct cw {
    char dir[64];
    struct cw_tensor *tensors; /* owned */
    size_t n, capacity;
    uint32_t shard, n_shards; /* of the tensors that are added next; in all */
    struct rg_buf quant;      /* what was said with cw_entry() */
};

static inline void cw_begin(struct cw *w)
{
    memset(w, 0, sizeof *w);
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/renga_test_XXXXXX");
    const char *made = mkdtemp(w->dir);

    assert(made);
    (void)made;
    w->n_shards = 1;
    rg_buf_init(&w->quant, 16u << 20);
}

static inline void cw_path(const struct cw *w, const char *file, char out[192])
{
    (void)snprintf(out, 192, "%s/%s", w->dir, file);
}

static inline void cw_bytes(const struct cw *w, const char *file, const void *data, size_t n)
{
    char path[192];

    cw_path(w, file, path);
    FILE *f = fopen(path, "wb");

    assert(f);
    const size_t done = fwrite(data, 1, n, f);
    const int bad = fclose(f);

    assert(done == n && bad == 0);
    (void)done, (void)bad;
}

static inline void cw_text(const struct cw *w, const char *file, const char *text)
{
    cw_bytes(w, file, text, strlen(text));
}

static inline struct cw_tensor *cw_add(struct cw *w, const char *name, const char *dtype,
                                       uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t width = strcmp(dtype, "U8") == 0 || strncmp(dtype, "F8", 2) == 0 ? 1
                           : strcmp(dtype, "BF16") == 0 || strcmp(dtype, "F16") == 0 ? 2
                           : strcmp(dtype, "I64") == 0                               ? 8
                                                                                     : 4;
    const enum rg_code code =
        rg_grow((void **)&w->tensors, &w->capacity, w->n + 1, sizeof w->tensors[0], NULL);

    assert(code == RG_OK);
    (void)code;
    struct cw_tensor *t = &w->tensors[w->n++];

    memset(t, 0, sizeof *t);
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    t->dtype = dtype;
    if (a)
        t->shape[t->rank++] = a;
    if (b)
        t->shape[t->rank++] = b;
    t->shape[t->rank++] = c;
    t->bytes = (a ? a : 1) * (b ? b : 1) * c * width;
    t->shard = w->shard;
    return t;
}

/* [n] of a dtype */
static inline void cw_vector(struct cw *w, const char *name, const char *dtype, uint64_t n)
{
    cw_add(w, name, dtype, 0, 0, n);
}

/* An affine module: [lead,] rows, cols at bits and group. */
static inline void cw_affine(struct cw *w, const char *path, uint64_t lead, uint64_t rows,
                             uint64_t cols, unsigned bits, unsigned group)
{
    char name[192];

    (void)snprintf(name, sizeof name, "%s.weight", path);
    cw_add(w, name, "U32", lead, rows, cols * bits / 32);
    (void)snprintf(name, sizeof name, "%s.scales", path);
    cw_add(w, name, "BF16", lead, rows, cols / group);
    (void)snprintf(name, sizeof name, "%s.biases", path);
    cw_add(w, name, "BF16", lead, rows, cols / group);
}

/* bits 0: a float module of dtype BF16. */
static inline void cw_module(struct cw *w, const char *path, uint64_t lead, uint64_t rows,
                             uint64_t cols, unsigned bits, unsigned group)
{
    char name[192];

    if (bits > 0) {
        cw_affine(w, path, lead, rows, cols, bits, group);
        return;
    }
    (void)snprintf(name, sizeof name, "%s.weight", path);
    cw_add(w, name, "BF16", lead, rows, cols);
}

/* One module's entry of "quantization"; cw_quantization() gives the text of all of them. */
static inline void cw_entry(struct cw *w, const char *path, unsigned bits, unsigned group)
{
    const enum rg_code code = rg_buf_addf(
        &w->quant, NULL, ", \"%s\": {\"group_size\": %u, \"bits\": %u}", path, group, bits);

    assert(code == RG_OK);
    (void)code;
}

static inline const char *cw_entries(const struct cw *w)
{
    return w->quant.data ? w->quant.data : "";
}

static inline void cw_write_shard(const struct cw *w, uint32_t shard, const char *file)
{
    struct rg_buf h;
    char path[192];
    uint64_t at = 0;
    enum rg_code code;

    rg_buf_init(&h, 100u << 20);
    code = rg_buf_add_str(&h, "{\"__metadata__\":{\"format\":\"mlx\"}", NULL);
    for (size_t i = 0; i < w->n; i++) {
        const struct cw_tensor *t = &w->tensors[i];

        if (t->shard != shard)
            continue;
        code = code ? code
                    : rg_buf_addf(&h, NULL, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name,
                                  t->dtype);
        for (uint32_t d = 0; d < t->rank; d++)
            code = code ? code : rg_buf_addf(&h, NULL, "%s%" PRIu64, d ? "," : "", t->shape[d]);
        code = code ? code
                    : rg_buf_addf(&h, NULL, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at,
                                  at + t->bytes);
        at += t->bytes;
    }
    code = code ? code : rg_buf_add_str(&h, "}", NULL);
    assert(code == RG_OK);

    cw_path(w, file, path);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    const uint64_t n = h.len;
    uint8_t length[8];
    uint64_t data = 8 + n;
    bool good = fd >= 0;

    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(n >> (8 * i));
    good = good && pwrite(fd, length, 8, 0) == 8;
    good = good && pwrite(fd, h.data, h.len, 8) == (ssize_t)h.len;
    good = good && ftruncate(fd, (off_t)(data + at)) == 0;
    for (size_t i = 0; i < w->n; i++) {
        const struct cw_tensor *t = &w->tensors[i];

        if (t->shard != shard)
            continue;
        if (t->data)
            good = good && pwrite(fd, t->data, (size_t)t->bytes, (off_t)data) == (ssize_t)t->bytes;
        data += t->bytes;
    }
    good = close(fd) == 0 && good;
    assert(good && "the temporary directory must take sparse files");
    (void)good;
    rg_buf_free(&h);
}

static inline void cw_shard_name(const struct cw *w, uint32_t shard, char out[64])
{
    if (w->n_shards == 1)
        (void)snprintf(out, 64, "model.safetensors");
    else
        (void)snprintf(out, 64, "model-%05" PRIu32 "-of-%05" PRIu32 ".safetensors", shard + 1,
                       w->n_shards);
}

/* Writes the shards of what was added. */
static inline void cw_write(struct cw *w)
{
    char file[64];

    for (uint32_t i = 0; i < w->n_shards; i++) {
        cw_shard_name(w, i, file);
        cw_write_shard(w, i, file);
    }
}

/* Writes model.safetensors.index.json for what was added; total_size is off by `wrong`. */
static inline void cw_write_index(struct cw *w, uint64_t wrong)
{
    struct rg_buf b;
    char file[64];
    uint64_t total = 0;
    enum rg_code code = RG_OK;

    rg_buf_init(&b, 100u << 20);
    for (size_t i = 0; i < w->n; i++)
        total += w->tensors[i].bytes;
    code = rg_buf_addf(&b, NULL, "{\"metadata\":{\"total_size\":%" PRIu64 "},\"weight_map\":{",
                       total + wrong);
    for (size_t i = 0; i < w->n; i++) {
        cw_shard_name(w, w->tensors[i].shard, file);
        code =
            code ? code
                 : rg_buf_addf(&b, NULL, "%s\"%s\":\"%s\"", i ? "," : "", w->tensors[i].name, file);
    }
    code = code ? code : rg_buf_add_str(&b, "}}", NULL);
    assert(code == RG_OK);
    (void)code;
    cw_bytes(w, "model.safetensors.index.json", b.data, b.len);
    rg_buf_free(&b);
}

static inline struct cw_tensor *cw_find(struct cw *w, const char *name)
{
    for (size_t i = 0; i < w->n; i++) {
        if (strcmp(w->tensors[i].name, name) == 0)
            return &w->tensors[i];
    }
    return NULL;
}

static inline void cw_drop(struct cw *w, const char *name)
{
    struct cw_tensor *t = cw_find(w, name);

    assert(t);
    memmove(t, t + 1, (size_t)(w->tensors + w->n - (t + 1)) * sizeof *t);
    w->n--;
}

/* Removes the directory and frees the list. */
static inline void cw_end(struct cw *w)
{
    DIR *d = opendir(w->dir);

    for (const struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        char path[384];

        (void)snprintf(path, sizeof path, "%s/%s", w->dir, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            (void)unlink(path);
    }
    if (d)
        (void)closedir(d);
    (void)rmdir(w->dir);
    rg_free(w->tensors);
    rg_buf_free(&w->quant);
}

#endif
