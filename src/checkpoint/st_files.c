/* st_files.c - which files of a directory are a checkpoint's, and what is wrong when one is not
 * there. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "checkpoint/st_table.h"

const char *rg_st_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static bool is_shard_name(const char *name)
{
    static const char head[] = "model", tail[] = ".safetensors";
    const size_t n = strlen(name);

    return n >= sizeof head - 1 + sizeof tail - 1 && memcmp(name, head, sizeof head - 1) == 0 &&
           strcmp(name + n - (sizeof tail - 1), tail) == 0;
}

/* ---- what is not there ----------------------------------------------------------------------- */

/* Programs that copy and download give a file its name at the end.  Until then it has something
 * more around it: NAME.part, NAME.incomplete, NAME.tmp, .NAME.Xa3d1F.  Finds such a name around
 * `part`. */
static bool find_unfinished(const char *dir, const char *part, char *out, size_t size)
{
    DIR *d = opendir(dir);
    bool found = false;

    if (!d)
        return false;
    for (const struct dirent *e = readdir(d); e && !found; e = readdir(d)) {
        found = strstr(e->d_name, part) && !is_shard_name(e->d_name) &&
                !strstr(e->d_name, ".index.json");
        if (found)
            (void)snprintf(out, size, "%s", e->d_name);
    }
    (void)closedir(d);
    return found;
}

enum rg_code rg_st_missing(const char *dir, const char *name, struct rg_err *err)
{
    char found[256];

    if (find_unfinished(dir, name, found, sizeof found))
        return rg_fail(err, RG_E_USAGE,
                       "%s: shard %s is missing; %s is there: its copy or download has not "
                       "finished",
                       dir, name, found);
    return rg_fail(err, RG_E_USAGE, "%s: shard %s is missing; is the download complete?", dir,
                   name);
}

static enum rg_code nothing_there(const char *dir, struct rg_err *err)
{
    char found[256];

    if (find_unfinished(dir, ".safetensors", found, sizeof found))
        return rg_fail(err, RG_E_USAGE,
                       "%s: no model*.safetensors there; %s is: has its copy or download finished?",
                       dir, found);
    return rg_fail(err, RG_E_USAGE, "%s: no model*.safetensors there; is the download complete?",
                   dir);
}

enum rg_code rg_st_check_finished(const char *path, struct rg_err *err)
{
    char control[1024];
    const int n = snprintf(control, sizeof control, "%s.aria2", path);

    if (n < 0 || (size_t)n >= sizeof control || !rg_file_exists(control))
        return RG_OK;
    return rg_fail(err, RG_E_USAGE,
                   "%s: %s beside it says that its download has not finished: let aria2 finish it",
                   path, rg_st_file_name(control));
}

/* ---- what is there --------------------------------------------------------------------------- */

static enum rg_code add_file(struct rg_st_files *files, const char *dir, const char *name,
                             struct rg_err *err)
{
    enum rg_code code;

    if (files->n >= RG_LIMIT_SHARDS)
        return rg_fail(err, RG_E_LIMIT, "%s: more than %u model*.safetensors files", dir,
                       RG_LIMIT_SHARDS);
    code = rg_grow((void **)&files->items, &files->capacity, files->n + 1, sizeof files->items[0],
                   err);
    if (code)
        return code;

    struct rg_st_file *f = &files->items[files->n];

    memset(f, 0, sizeof *f);
    f->map.fd = f->map.guard = -1;
    f->file.path = rg_path_join(dir, name);
    if (!f->file.path)
        return rg_fail(err, RG_E_NOMEM, "%s/%s: no memory for its path", dir, name);
    files->n++;
    return RG_OK;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct rg_st_file *)a)->file.path,
                  ((const struct rg_st_file *)b)->file.path);
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

/* A set of files that call themselves "i of N" must hold all N of one N, or some of one N. */
static enum rg_code check_numbers(const struct rg_st_files *files, const char *dir, bool some,
                                  struct rg_err *err)
{
    uint32_t number = 0, count = 0, expected = 1, total = 0;
    char missing[64];

    for (size_t i = 0; i < files->n; i++) {
        const char *name = rg_st_file_name(files->items[i].file.path);

        if (!shard_number(name, &number, &count))
            continue;
        if (total && count != total)
            return rg_fail(err, RG_E_BAD_DATA,
                           "%s: '%s' is of %" PRIu32 " shards, another file of %" PRIu32
                           "; remove the files of the other download",
                           dir, name, count, total);
        total = count;
        if (number != expected && !some)
            break;
        expected++;
    }
    if (total == 0 || expected > total || some)
        return RG_OK;
    (void)snprintf(missing, sizeof missing, "model-%05" PRIu32 "-of-%05" PRIu32 ".safetensors",
                   expected, total);
    return rg_st_missing(dir, missing, err);
}

/* Those of "i of N" that are not among the files. */
static enum rg_code list_missing(const struct rg_st_files *files, struct rg_st_absence *absence,
                                 const char *dir, struct rg_err *err)
{
    uint32_t number, count, total = 0, expected = 1;
    char missing[64];

    for (size_t i = 0; i <= files->n; i++) {
        if (i == files->n)
            number = total + 1;
        else if (shard_number(rg_st_file_name(files->items[i].file.path), &number, &count))
            total = count;
        else
            continue;
        if (total > RG_LIMIT_SHARDS)
            return rg_fail(err, RG_E_LIMIT, "%s: %" PRIu32 " shards, at most %u are allowed", dir,
                           total, RG_LIMIT_SHARDS);
        for (; expected < number; expected++) {
            (void)snprintf(missing, sizeof missing,
                           "model-%05" PRIu32 "-of-%05" PRIu32 ".safetensors", expected, total);
            if (!rg_st_add_missing(absence, missing, err))
                return err->code;
        }
        expected = number + 1;
    }
    return RG_OK;
}

static bool has_index(const char *dir, struct rg_err *err, enum rg_code *code)
{
    char *path = rg_path_join(dir, "model.safetensors.index.json");
    const bool there = path && rg_file_exists(path);

    *code = path ? RG_OK : rg_fail(err, RG_E_NOMEM, "%s: no memory for a path", dir);
    rg_free(path);
    return there;
}

static enum rg_code check_absence(const struct rg_st_files *files, const char *dir,
                                  struct rg_st_absence *absence, struct rg_err *err)
{
    enum rg_code code;

    absence->by_index = has_index(dir, err, &code);
    if (code || absence->by_index)
        return code; /* the index will say what is missing */
    if (files->n == 0)
        return nothing_there(dir, err);
    return list_missing(files, absence, dir, err);
}

/* A link to a file that is not there, as in a cache that was cleaned. */
static bool is_dangling(DIR *d, const char *name)
{
    struct stat st;

    return fstatat(dirfd(d), name, &st, 0) != 0 && errno == ENOENT;
}

enum rg_code rg_st_find_files(struct rg_st_files *files, const char *dir,
                              struct rg_st_absence *absence, struct rg_err *err)
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
        if (is_shard_name(e->d_name) && !(absence->allowed && is_dangling(d, e->d_name)))
            code = add_file(files, dir, e->d_name, err);
    }
    (void)closedir(d);
    if (code)
        return code;
    if (files->n > 0)
        qsort(files->items, files->n, sizeof files->items[0], compare_files);
    else if (!absence->allowed)
        return nothing_there(dir, err);
    code = check_numbers(files, dir, absence->allowed, err);
    return code || !absence->allowed ? code : check_absence(files, dir, absence, err);
}

void rg_st_files_free(struct rg_st_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        rg_map_close(&files->items[i].map);
        rg_free((void *)(uintptr_t)files->items[i].file.path);
    }
    rg_free(files->items);
    memset(files, 0, sizeof *files);
}
