/* bad_disk.c - LD_PRELOAD of a daemon whose disk has errors: while the file $BAD_DISK is there,
 * reads of safetensors at a place (pread) fail with EIO.  Linux on a 64-bit machine. */
#undef _FORTIFY_SOURCE /* it makes pread() an inline function */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t pread(int fd, void *out, size_t n, off_t at);
ssize_t pread64(int fd, void *out, size_t n, off_t at);

static bool is_bad(int fd)
{
    const char *sign = getenv("BAD_DISK");
    char link[64], path[1024];
    ssize_t n;

    if (!sign || access(sign, F_OK) != 0)
        return false;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return false;
    path[n] = '\0';
    return strstr(path, ".safetensors") != NULL;
}

ssize_t pread(int fd, void *out, size_t n, off_t at)
{
    if (!is_bad(fd))
        return (ssize_t)syscall(SYS_pread64, fd, out, n, at);
    errno = EIO;
    return -1;
}

ssize_t pread64(int fd, void *out, size_t n, off_t at)
{
    return pread(fd, out, n, at);
}
