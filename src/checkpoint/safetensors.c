/* safetensors.c - the files of a checkpoint: found, measured, their headers read, mapped.
 *
 * A set is sorted by name for iteration and has a hash table over the names for look-ups: a 1T
 * model with unstacked experts has 210 000 tensors, and each is looked up when the modules are
 * found. */
#include "checkpoint/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "checkpoint/st_table.h"

struct set_file {
    struct rg_tensor_file file;
    struct rg_map map; /* fd -1 when not mapped */
};

struct rg_tensor_set {
    struct rg_st_table table;
    struct set_file *files; /* owned, sorted by name */
    size_t n_files, files_capacity;
    uint32_t *slots; /* owned: tensor index + 1, 0 = empty; open addressing */
    uint32_t slot_mask;
    uint64_t seed; /* random: a file cannot be made to collide */
};

const char *rg_st_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* ---- finding the files -------------------------------------------------------------------- */

static bool is_shard_name(const char *name)
{
    static const char head[] = "model", tail[] = ".safetensors";
    const size_t n = strlen(name);

    return n >= sizeof head - 1 + sizeof tail - 1 && memcmp(name, head, sizeof head - 1) == 0 &&
           strcmp(name + n - (sizeof tail - 1), tail) == 0;
}

static enum rg_code add_file(struct rg_tensor_set *s, const char *dir, const char *name,
                             struct rg_err *err)
{
    enum rg_code code;

    if (s->n_files >= RG_LIMIT_SHARDS)
        return rg_fail(err, RG_E_LIMIT, "%s: more than %u model*.safetensors files", dir,
                       RG_LIMIT_SHARDS);
    code = rg_grow((void **)&s->files, &s->files_capacity, s->n_files + 1, sizeof s->files[0], err);
    if (code)
        return code;

    struct set_file *f = &s->files[s->n_files];

    memset(f, 0, sizeof *f);
    f->map.fd = -1;
    f->file.path = rg_path_join(dir, name);
    if (!f->file.path)
        return rg_fail(err, RG_E_NOMEM, "%s/%s: no memory for its path", dir, name);
    s->n_files++;
    return RG_OK;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct set_file *)a)->file.path, ((const struct set_file *)b)->file.path);
}

static enum rg_code find_files(struct rg_tensor_set *s, const char *dir, struct rg_err *err)
{
    DIR *d = opendir(dir);
    enum rg_code code = RG_OK;

    if (!d) {
        const int reason = errno;

        return rg_fail(
            err, reason == ENOENT || reason == ENOTDIR ? RG_E_USAGE : RG_E_IO,
            "%s: cannot open this directory: %s; give the directory of an MLX checkpoint", dir,
            strerror(reason));
    }
    for (const struct dirent *e = readdir(d); e && !code; e = readdir(d)) {
        if (is_shard_name(e->d_name))
            code = add_file(s, dir, e->d_name, err);
    }
    (void)closedir(d);
    if (code)
        return code;
    if (s->n_files == 0)
        return rg_fail(err, RG_E_USAGE,
                       "%s: no model*.safetensors there; is the download complete?", dir);
    qsort(s->files, s->n_files, sizeof s->files[0], compare_files);
    return RG_OK;
}

/* Reads n digits at *p; false when there are fewer. */
static bool read_digits(const char **p, uint32_t n, uint32_t *out)
{
    uint32_t v = 0;

    for (uint32_t i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        v = v * 10 + (uint32_t)(**p - '0');
    }
    *out = v;
    return true;
}

/* "model-00002-of-00061.safetensors" -> 2 and 61. */
static bool shard_number(const char *name, uint32_t *number, uint32_t *count)
{
    const char *p = name + strlen("model-");

    if (strncmp(name, "model-", 6) != 0 || !read_digits(&p, 5, number) ||
        strncmp(p, "-of-", 4) != 0)
        return false;
    p += 4;
    return read_digits(&p, 5, count) && strcmp(p, ".safetensors") == 0;
}

/* A set of files that call themselves "i of N" must hold all N of one N. */
static enum rg_code check_shards(const struct rg_tensor_set *s, const char *dir, struct rg_err *err)
{
    uint32_t number = 0, count = 0, expected = 1, total = 0;

    for (size_t i = 0; i < s->n_files; i++) {
        const char *name = rg_st_file_name(s->files[i].file.path);

        if (!shard_number(name, &number, &count))
            continue;
        if (total && count != total)
            return rg_fail(err, RG_E_BAD_DATA,
                           "%s: '%s' is of %" PRIu32 " shards, another file of %" PRIu32
                           "; remove the files of the other download",
                           dir, name, count, total);
        total = count;
        if (number != expected)
            break;
        expected++;
    }
    if (total && expected <= total)
        return rg_fail(err, RG_E_USAGE,
                       "%s: shard model-%05" PRIu32 "-of-%05" PRIu32
                       ".safetensors is missing; is the download complete?",
                       dir, expected, total);
    return RG_OK;
}

/* ---- reading one file --------------------------------------------------------------------- */

static enum rg_code read_exactly(int fd, void *out, size_t n, uint64_t at, const char *path,
                                 struct rg_err *err)
{
    size_t done = 0;

    while (done < n) {
        const ssize_t got = pread(fd, (char *)out + done, n - done, (off_t)(at + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return rg_fail(err, RG_E_IO, "%s: reading byte %" PRIu64 ": %s", path, at + done,
                           strerror(errno));
        if (got == 0)
            return rg_fail(err, RG_E_IO, "%s: ended at byte %" PRIu64 " while it was read", path,
                           at + done);
        done += (size_t)got;
    }
    return RG_OK;
}

/* Rule 1: the header's length against the limit and the file. */
static enum rg_code header_length(int fd, uint64_t file_bytes, const char *path, uint64_t *out,
                                  struct rg_err *err)
{
    uint8_t raw[8] = {0};
    uint64_t n = 0;
    enum rg_code code;

    if (file_bytes < 8)
        return rg_fail(err, RG_E_BAD_DATA,
                       "%s: %" PRIu64 " bytes, a safetensors file has at least 8", path,
                       file_bytes);
    code = read_exactly(fd, raw, sizeof raw, 0, path, err);
    if (code)
        return code;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | raw[i];
    if (n > file_bytes - 8)
        return rg_fail(err, RG_E_BAD_DATA,
                       "%s: a header of %" PRIu64 " bytes, but the file has %" PRIu64
                       "; it is cut short or not a safetensors file",
                       path, n, file_bytes);
    if (n > RG_LIMIT_ST_HEADER_BYTES)
        return rg_fail(err, RG_E_LIMIT, "%s: a header of %" PRIu64 " bytes, at most %u are allowed",
                       path, n, RG_LIMIT_ST_HEADER_BYTES);
    *out = n;
    return RG_OK;
}

static enum rg_code open_file(const char *path, int *fd, uint64_t *bytes, struct rg_err *err)
{
    struct stat st;

    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return rg_fail(err, RG_E_IO, "%s: %s", path, strerror(errno));
    if (fstat(*fd, &st) != 0)
        return rg_fail(err, RG_E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return rg_fail(err, RG_E_IO, "%s: not a regular file", path);
    *bytes = (uint64_t)st.st_size;
    return RG_OK;
}

static enum rg_code read_file(struct rg_tensor_set *s, uint32_t index, bool map, struct rg_err *err)
{
    struct set_file *f = &s->files[index];
    const char *path = f->file.path;
    char *header = NULL;
    uint64_t n = 0;
    int fd = -1;
    enum rg_code code = open_file(path, &fd, &f->file.bytes, err);

    if (!code)
        code = header_length(fd, f->file.bytes, path, &n, err);
    if (!code) {
        header = rg_alloc((size_t)n + 1);
        if (!header)
            code = rg_fail(err, RG_E_NOMEM, "%s: no memory for a header of %" PRIu64 " bytes", path,
                           n);
    }
    if (!code)
        code = read_exactly(fd, header, (size_t)n, 8, path, err);
    if (!code) {
        const struct rg_st_source source = {
            .path = path, .file = index, .data_begin = 8 + n, .data_bytes = f->file.bytes - 8 - n};

        code = rg_st_parse_header(&s->table, &source, header, (size_t)n, err);
    }
    if (!code && map) {
        code = rg_map_open(&f->map, path, err);
        if (!code && f->map.bytes != f->file.bytes)
            code = rg_fail(err, RG_E_IO,
                           "%s: changed from %" PRIu64 " to %zu bytes while it was "
                           "opened",
                           path, f->file.bytes, f->map.bytes);
        f->file.data = f->map.data;
    }
    rg_free(header);
    if (fd >= 0)
        (void)close(fd);
    return code;
}

/* ---- the finished table ------------------------------------------------------------------- */

static int compare_tensors(const void *a, const void *b)
{
    return strcmp(((const struct rg_tensor_info *)a)->name,
                  ((const struct rg_tensor_info *)b)->name);
}

static uint64_t hash_name(const struct rg_tensor_set *s, const char *name)
{
    uint64_t h = s->seed;

    for (; *name; name++) {
        h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
        h ^= h >> 29;
    }
    return h ^ h >> 32;
}

static enum rg_code sort_table(struct rg_tensor_set *s, struct rg_err *err)
{
    struct rg_tensor_info *t = s->table.tensors;
    const size_t n = s->table.n_tensors;
    size_t slots = 16;

    if (n > 0)
        qsort(t, n, sizeof t[0], compare_tensors);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(t[i - 1].name, t[i].name) == 0)
            return rg_fail(err, RG_E_BAD_DATA, "%s: tensor '%.160s' is there twice (also in %s)",
                           s->files[t[i].file].file.path, t[i].name,
                           rg_st_file_name(s->files[t[i - 1].file].file.path));
    }
    while (slots < n * 2)
        slots *= 2;
    s->slots = rg_calloc(slots, sizeof s->slots[0]);
    if (!s->slots)
        return rg_fail(err, RG_E_NOMEM, "no memory for a table of %zu tensors", n);
    s->slot_mask = (uint32_t)(slots - 1);
    s->seed = rg_clock_random_seed();
    for (size_t i = 0; i < n; i++) {
        uint32_t at = (uint32_t)hash_name(s, t[i].name) & s->slot_mask;

        while (s->slots[at])
            at = (at + 1) & s->slot_mask;
        s->slots[at] = (uint32_t)i + 1;
    }
    return RG_OK;
}

static enum rg_code check_index(const struct rg_tensor_set *s, const char *dir, struct rg_err *err)
{
    char *path = rg_path_join(dir, "model.safetensors.index.json");
    enum rg_code code = RG_OK;

    if (!path)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory for a path", dir);
    if (rg_file_exists(path))
        code = rg_st_check_index(s, path, err);
    rg_free(path);
    return code;
}

enum rg_code rg_tensor_set_open(struct rg_tensor_set **out, const char *dir, bool headers_only,
                                struct rg_err *err)
{
    struct rg_err local;
    struct rg_tensor_set *s = rg_calloc(1, sizeof *s);
    enum rg_code code;

    *out = NULL;
    if (!err)
        err = &local;
    if (!s)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory to open it", dir);
    rg_arena_init(&s->table.arena, 0);
    code = find_files(s, dir, err);
    if (!code)
        code = check_shards(s, dir, err);
    for (size_t i = 0; i < s->n_files && !code; i++)
        code = read_file(s, (uint32_t)i, !headers_only, err);
    if (!code)
        code = sort_table(s, err);
    if (!code)
        code = check_index(s, dir, err);
    if (code) {
        rg_tensor_set_close(s);
        return code;
    }
    *out = s;
    return RG_OK;
}

void rg_tensor_set_close(struct rg_tensor_set *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_files; i++) {
        if (s->files[i].map.fd >= 0)
            rg_map_close(&s->files[i].map);
        rg_free((void *)(uintptr_t)s->files[i].file.path);
    }
    rg_free(s->files);
    rg_free(s->slots);
    rg_free(s->table.tensors);
    rg_arena_free(&s->table.arena);
    rg_free(s);
}

uint32_t rg_tensor_set_count(const struct rg_tensor_set *s)
{
    return (uint32_t)s->table.n_tensors;
}

const struct rg_tensor_info *rg_tensor_set_at(const struct rg_tensor_set *s, uint32_t i)
{
    return i < s->table.n_tensors ? &s->table.tensors[i] : NULL;
}

const struct rg_tensor_info *rg_tensor_set_find(const struct rg_tensor_set *s, const char *name)
{
    uint32_t at = (uint32_t)hash_name(s, name) & s->slot_mask;

    for (; s->slots[at]; at = (at + 1) & s->slot_mask) {
        const struct rg_tensor_info *t = &s->table.tensors[s->slots[at] - 1];

        if (strcmp(t->name, name) == 0)
            return t;
    }
    return NULL;
}

uint32_t rg_tensor_set_files(const struct rg_tensor_set *s)
{
    return (uint32_t)s->n_files;
}

const struct rg_tensor_file *rg_tensor_set_file(const struct rg_tensor_set *s, uint32_t i)
{
    return i < s->n_files ? &s->files[i].file : NULL;
}

const uint8_t *rg_tensor_bytes(const struct rg_tensor_set *s, const struct rg_tensor_info *t)
{
    const uint8_t *data = s->files[t->file].file.data;

    return data ? data + t->offset : NULL;
}
