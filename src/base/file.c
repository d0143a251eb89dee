/* file.c - reading regular files. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum rg_code rg_file_open(int *fd, uint64_t *bytes, const char *path, struct rg_err *err)
{
    struct stat st;

    /* Without O_NONBLOCK a named pipe waits for somebody to write into it. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        const int why = errno;

        return rg_fail(err, why == ENOENT || why == ENOTDIR ? RG_E_USAGE : RG_E_IO, "%s: %s", path,
                       strerror(why));
    }
    if (fstat(*fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *bytes = (uint64_t)st.st_size;
        return RG_OK;
    }
    close(*fd);
    *fd = -1;
    return rg_fail(err, RG_E_USAGE, "%s: not a regular file", path);
}

static enum rg_code read_all(char *dst, size_t bytes, int fd, const char *path, struct rg_err *err)
{
    size_t done = 0;

    while (done < bytes) {
        const ssize_t n = read(fd, dst + done, bytes - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return rg_fail(err, RG_E_IO, "%s: %s", path, strerror(errno));
        if (n == 0)
            return rg_fail(err, RG_E_IO, "%s: became shorter while it was read", path);
        done += (size_t)n;
    }
    return RG_OK;
}

enum rg_code rg_file_read(char **out, size_t *len, const char *path, size_t bytes_max,
                          struct rg_err *err)
{
    int fd;
    uint64_t bytes;

    *out = NULL;
    *len = 0;
    enum rg_code code = rg_file_open(&fd, &bytes, path, err);

    if (code)
        return code;
    if (bytes > bytes_max) {
        code = rg_fail(err, RG_E_LIMIT, "%s: %llu bytes, the limit is %zu", path,
                       (unsigned long long)bytes, bytes_max);
        goto out;
    }

    char *text = rg_alloc((size_t)bytes + 1);

    if (!text) {
        code = rg_fail(err, RG_E_NOMEM, "out of memory: %s has %llu bytes", path,
                       (unsigned long long)bytes);
        goto out;
    }
    code = read_all(text, (size_t)bytes, fd, path, err);
    if (code) {
        rg_free(text);
        goto out;
    }
    text[bytes] = '\0';
    *out = text;
    *len = (size_t)bytes;
out:
    close(fd);
    return code;
}

bool rg_file_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool rg_dir_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *rg_path_join(const char *dir, const char *name)
{
    const size_t n_dir = strlen(dir), n_name = strlen(name);
    char *path = rg_alloc(n_dir + n_name + 2);

    if (!path)
        return NULL;
    memcpy(path, dir, n_dir);
    path[n_dir] = '/';
    memcpy(path + n_dir + 1, name, n_name + 1);
    return path;
}
