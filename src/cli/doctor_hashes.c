/* doctor_hashes.c - the digests of the model's files, remembered from run to run.
 *
 * ~/.cache/renga/file-digests has a line for each file: digest, bytes, time of modification in ns,
 * device, inode and path.  A file of which all of these are the same is not read again. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/doctor_state.h"

enum { CACHE_BYTES = 4 << 20, PATH_BYTES = 1024, KEY_BYTES = PATH_BYTES + 128, THREADS_MOST = 4 };

struct hasher {
    struct rg_doctor *d;
    _Atomic uint32_t next;
    _Atomic bool failed;
};

struct worker {
    struct hasher *h;
    enum rg_code code;
    struct rg_err err;
};

/* ---- the cache ------------------------------------------------------------------------------- */

/* Everything of a line but the digest. */
static bool make_key(const char *path, char key[KEY_BYTES])
{
    struct stat st;

    if (stat(path, &st) != 0 || strchr(path, '\n'))
        return false;
#ifdef __APPLE__
    const struct timespec *t = &st.st_mtimespec;
#else
    const struct timespec *t = &st.st_mtim;
#endif
    const int n = snprintf(key, KEY_BYTES, " %" PRIu64 " %" PRId64 " %" PRIu64 " %" PRIu64 " %s\n",
                           (uint64_t)st.st_size, (int64_t)t->tv_sec * 1000000000 + t->tv_nsec,
                           (uint64_t)st.st_dev, (uint64_t)st.st_ino, path);

    return n > 0 && n < KEY_BYTES;
}

static bool cache_path(char out[PATH_BYTES], const char *name)
{
    const char *home = getenv("HOME");
    const int n = home && *home ? snprintf(out, PATH_BYTES, "%s/.cache/renga%s%s", home,
                                           *name ? "/" : "", name)
                                : -1;

    return n > 0 && n < PATH_BYTES;
}

/* Looks for "DIGEST KEY" in the text of the cache. */
static bool find_cached(const char *cache, const char *key, char out[RG_SHA256_TEXT_BYTES])
{
    const size_t digits = RG_SHA256_TEXT_BYTES - 1;

    for (const char *line = cache; *line;) {
        const char *end = strchr(line, '\n');

        if (!end)
            return false;
        if ((size_t)(end - line) > digits && strncmp(line + digits, key, strlen(key)) == 0 &&
            strspn(line, "0123456789abcdef") == digits) {
            memcpy(out, line, digits);
            out[digits] = '\0';
            return true;
        }
        line = end + 1;
    }
    return false;
}

/* Missing, unreadable or too large: nothing is remembered. */
static char *read_cache(void)
{
    char path[PATH_BYTES];
    char *text = NULL;
    size_t len;

    if (!cache_path(path, "file-digests") || !rg_file_exists(path) ||
        rg_file_read(&text, &len, path, CACHE_BYTES, NULL) != RG_OK)
        return NULL;
    return text;
}

static void make_cache_directory(void)
{
    char path[PATH_BYTES];
    char *slash;

    if (!cache_path(path, ""))
        return;
    slash = strrchr(path, '/');
    *slash = '\0';
    (void)mkdir(path, 0700);
    *slash = '/';
    (void)mkdir(path, 0700);
}

/* A cache that cannot be written costs time, nothing else. */
static void write_cache(const struct rg_buf *text)
{
    char path[PATH_BYTES], fresh[PATH_BYTES];
    FILE *f;
    bool good;

    make_cache_directory();
    if (!cache_path(path, "file-digests") || !cache_path(fresh, "file-digests.new"))
        return;
    f = fopen(fresh, "w");
    if (!f)
        return;
    good = fwrite(text->data, 1, text->len, f) == text->len;
    good = fclose(f) == 0 && good;
    if (!good || rename(fresh, path) != 0)
        (void)unlink(fresh);
}

/* A line of the old cache whose file was not looked at today. */
static bool is_of_others(const struct rg_doctor *d, const char *line, size_t len)
{
    for (uint32_t i = 0; i < d->n_files; i++) {
        const size_t n = strlen(d->files[i].path);

        if (len > n && line[len - n - 1] == ' ' &&
            strncmp(line + len - n, d->files[i].path, n) == 0)
            return false;
    }
    return true;
}

static void remember(const struct rg_doctor *d, const char *cache)
{
    struct rg_buf text;
    enum rg_code code = RG_OK;

    rg_buf_init(&text, CACHE_BYTES);
    for (uint32_t i = 0; i < d->n_files && !code; i++) {
        if (d->files[i].key)
            code = rg_buf_addf(&text, NULL, "%s%s", d->files[i].sha256, d->files[i].key);
    }
    while (cache && *cache && !code) {
        const size_t len = strcspn(cache, "\n");

        if (is_of_others(d, cache, len))
            code = rg_buf_addf(&text, NULL, "%.*s\n", (int)len, cache);
        cache += len + (cache[len] == '\n');
    }
    if (text.len > 0)
        write_cache(&text);
    rg_buf_free(&text);
}

/* ---- hashing --------------------------------------------------------------------------------- */

static void *work(void *arg)
{
    struct worker *w = arg;
    struct hasher *h = w->h;

    while (!w->code && !atomic_load(&h->failed)) {
        const uint32_t i = atomic_fetch_add(&h->next, 1);

        if (i >= h->d->n_files)
            break;
        if (!h->d->files[i].cached)
            w->code = rg_file_sha256(h->d->files[i].sha256, h->d->files[i].path, &w->err);
    }
    if (w->code)
        atomic_store(&h->failed, true);
    return NULL;
}

static enum rg_code hash_all(struct rg_doctor *d, struct rg_err *err)
{
    struct hasher h = {.d = d};
    struct worker workers[THREADS_MOST];
    pthread_t threads[THREADS_MOST];
    uint32_t n = 1; /* the first one is this thread */
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; i < THREADS_MOST; i++)
        workers[i] = (struct worker){.h = &h};
    while (n < THREADS_MOST && n < d->n_files &&
           pthread_create(&threads[n], NULL, work, &workers[n]) == 0)
        n++;
    (void)work(&workers[0]);
    for (uint32_t i = 1; i < n; i++)
        (void)pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < n && !code; i++) {
        if (workers[i].code)
            code = rg_fail(err, workers[i].code, "%s", workers[i].err.message);
    }
    return code;
}

static enum rg_code list_files(struct rg_doctor *d, const char *cache, struct rg_err *err)
{
    const uint32_t n = rg_tensor_set_files(d->checkpoint->tensors);
    char key[KEY_BYTES];

    d->files = rg_calloc((size_t)n + 1, sizeof d->files[0]);
    if (!d->files)
        return rg_fail(err, RG_E_NOMEM, "no memory for the list of %" PRIu32 " files", n);
    for (uint32_t i = 0; i < n; i++) {
        const struct rg_tensor_file *f = rg_tensor_set_file(d->checkpoint->tensors, i);
        struct rg_doctor_file *out = &d->files[d->n_files];

        out->path = rg_strdup(f->path);
        if (!out->path)
            return rg_fail(err, RG_E_NOMEM, "no memory for a path");
        d->n_files++;
        out->bytes = f->bytes;
        if (!make_key(f->path, key))
            continue;
        out->key = rg_strdup(key);
        if (!out->key)
            return rg_fail(err, RG_E_NOMEM, "no memory for the key of a digest");
        out->cached = cache && find_cached(cache, key, out->sha256);
    }
    return RG_OK;
}

enum rg_code rg_doctor_hash_files(struct rg_doctor *d, struct rg_err *err)
{
    char *cache = read_cache();
    enum rg_code code = list_files(d, cache, err);

    if (!code)
        code = hash_all(d, err);
    if (!code)
        remember(d, cache);
    rg_free(cache);
    return code;
}
