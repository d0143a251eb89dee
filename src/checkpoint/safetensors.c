/* safetensors.c - the files of a checkpoint: found, measured, their headers read, mapped.
 *
 * A set is sorted by name for iteration and has a hash table over the names for look-ups: a 1T
 * model with unstacked experts has 210 000 tensors, and each is looked up when the modules are
 * found. */
#include "checkpoint/safetensors.h"

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

struct rg_tensor_set {
    struct rg_st_table table;
    struct rg_st_files files;
    uint32_t *slots; /* owned: tensor index + 1, 0 = empty; open addressing */
    uint32_t slot_mask;
    struct rg_st_absence absence;
    uint64_t index_total; /* what the index says of all tensors' bytes; UINT64_MAX: nothing */
    uint64_t seed; /* random: a file cannot be made to collide */
};

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
                       "%s: %" PRIu64 " bytes, a safetensors file has at least 8; it is cut short: "
                       "download it again",
                       path, file_bytes);
    code = read_exactly(fd, raw, sizeof raw, 0, path, err);
    if (code)
        return code;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | raw[i];
    if (n > file_bytes - 8)
        return rg_fail(err, RG_E_BAD_DATA,
                       "%s: a header of %" PRIu64 " bytes, but the file has %" PRIu64
                       "; it is cut short or not a safetensors file: download it again",
                       path, n, file_bytes);
    if (n > RG_LIMIT_ST_HEADER_BYTES)
        return rg_fail(err, RG_E_LIMIT, "%s: a header of %" PRIu64 " bytes, at most %u are allowed",
                       path, n, RG_LIMIT_ST_HEADER_BYTES);
    *out = n;
    return RG_OK;
}

/* What an open() that failed does not tell. */
static enum rg_code explain(const char *path, enum rg_code code, struct rg_err *err)
{
    char target[256];
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return rg_fail(err, RG_E_USAGE, "%s: is a directory, a safetensors file is expected", path);
    if (code == RG_E_IO && faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) != 0 &&
        errno == EACCES)
        return rg_fail(err, RG_E_USAGE, "%s: %s; let this user read it", path, strerror(EACCES));

    const ssize_t n = readlink(path, target, sizeof target - 1);

    if (n < 0 || stat(path, &st) == 0)
        return code;
    target[n] = '\0';
    return rg_fail(err, RG_E_USAGE,
                   "%s: is a link to %s, which is not there; is the download complete?", path,
                   target);
}

static enum rg_code read_stamp(struct rg_st_stamp *out, int fd, const char *path,
                               struct rg_err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return rg_fail(err, RG_E_IO, "%s: %s", path, strerror(errno));
#ifdef __APPLE__
    const struct timespec *t = &st.st_mtimespec;
#else
    const struct timespec *t = &st.st_mtim;
#endif

    *out = (struct rg_st_stamp){.device = (uint64_t)st.st_dev,
                                .number = (uint64_t)st.st_ino,
                                .modified_ns = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec};
    return RG_OK;
}

/* A mapped file is read through its map's descriptor: header and data are of one file even when
 * somebody replaces it just now. */
static enum rg_code open_file(struct rg_st_file *f, bool map, int *fd, struct rg_err *err)
{
    const char *path = f->file.path;
    enum rg_code code;

    if (map) {
        code = rg_map_open(&f->map, path, err);
        *fd = f->map.fd;
        f->file.data = f->map.data;
        f->file.bytes = f->map.bytes;
    } else {
        code = rg_file_open(fd, &f->file.bytes, path, err);
    }
    if (code)
        return explain(path, code, err);
    code = read_stamp(&f->stamp, *fd, path, err);
    return code ? code : rg_st_check_finished(path, err);
}

static enum rg_code read_file(struct rg_tensor_set *s, uint32_t index, bool map, struct rg_err *err)
{
    struct rg_st_file *f = &s->files.items[index];
    const char *path = f->file.path;
    char *header = NULL;
    uint64_t n = 0;
    int fd = -1;
    enum rg_code code = open_file(f, map, &fd, err);

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
    rg_free(header);
    if (!map && fd >= 0)
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
                           s->files.items[t[i].file].file.path, t[i].name,
                           rg_st_file_name(s->files.items[t[i - 1].file].file.path));
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

static enum rg_code open_set(struct rg_tensor_set **out, const char *dir, bool headers_only,
                             bool may_lack, struct rg_err *err)
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
    s->absence.arena = &s->table.arena;
    s->absence.allowed = may_lack;
    code = rg_st_find_files(&s->files, dir, &s->absence, err);
    for (size_t i = 0; i < s->files.n && !code; i++)
        code = read_file(s, (uint32_t)i, !headers_only, err);
    if (!code)
        code = sort_table(s, err);
    if (!code)
        code = rg_st_check_index(s, dir, &s->absence, &s->index_total, err);
    if (code) {
        rg_tensor_set_close(s);
        return code;
    }
    *out = s;
    return RG_OK;
}

enum rg_code rg_tensor_set_open(struct rg_tensor_set **out, const char *dir, bool headers_only,
                                struct rg_err *err)
{
    return open_set(out, dir, headers_only, false, err);
}

enum rg_code rg_tensor_set_open_some(struct rg_tensor_set **out, const char *dir, bool headers_only,
                                     struct rg_err *err)
{
    return open_set(out, dir, headers_only, true, err);
}

enum rg_code rg_tensor_set_map(struct rg_tensor_set *s, uint32_t file, struct rg_err *err)
{
    struct rg_st_file *f = &s->files.items[file];
    const char *path = f->file.path;
    const uint64_t bytes = f->file.bytes;
    struct rg_st_stamp stamp;
    enum rg_code code = rg_map_open(&f->map, path, err);

    if (!code)
        code = read_stamp(&stamp, f->map.fd, path, err);
    if (code)
        return code;
    if (f->map.bytes != bytes || stamp.device != f->stamp.device ||
        stamp.number != f->stamp.number || stamp.modified_ns != f->stamp.modified_ns)
        return rg_fail(err, RG_E_IO, "%s: was replaced or written to just now; open it again",
                       path);
    f->file.data = f->map.data;
    return RG_OK;
}

void rg_tensor_set_close(struct rg_tensor_set *s)
{
    if (!s)
        return;
    rg_st_files_free(&s->files);
    rg_free(s->absence.shards);
    rg_free(s->absence.tensors);
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
    return (uint32_t)s->files.n;
}

const struct rg_tensor_file *rg_tensor_set_file(const struct rg_tensor_set *s, uint32_t i)
{
    return i < s->files.n ? &s->files.items[i].file : NULL;
}

const uint8_t *rg_tensor_bytes(const struct rg_tensor_set *s, const struct rg_tensor_info *t)
{
    const uint8_t *data = s->files.items[t->file].file.data;

    return data ? data + t->offset : NULL;
}

const struct rg_st_absence *rg_tensor_set_absence(const struct rg_tensor_set *s)
{
    return &s->absence;
}

uint32_t rg_tensor_set_missing(const struct rg_tensor_set *s)
{
    return (uint32_t)s->absence.n_shards;
}

const char *rg_tensor_set_missing_file(const struct rg_tensor_set *s, uint32_t i)
{
    return i < s->absence.n_shards ? s->absence.shards[i] : NULL;
}

bool rg_tensor_set_total_is_said(const struct rg_tensor_set *s, uint64_t *said, uint64_t *found)
{
    *said = s->index_total;
    *found = 0;
    for (size_t i = 0; i < s->table.n_tensors; i++)
        *found += s->table.tensors[i].bytes;
    return s->index_total != UINT64_MAX && s->absence.n_shards == 0;
}

enum rg_code rg_tensor_set_check(const struct rg_tensor_set *s, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (size_t i = 0; i < s->files.n && !code; i++)
        code = rg_map_check(&s->files.items[i].map, rg_st_file_name(s->files.items[i].file.path),
                            err);
    return code;
}
