/* host_memory.c - the machine's memory and the limits of control groups. */
#include "base/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GROUPS_BYTES = 16384, PATH_BYTES = 4096 };

/* A file of the kernel, which has no size; false when it is not there. */
static bool read_small(const char *path, char *out, size_t size)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = -1;

    out[0] = '\0';
    if (fd < 0)
        return false;
    while (len < size - 1) {
        n = read(fd, out + len, size - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    close(fd);
    out[len] = '\0';
    return n >= 0;
}

/* "max" in version 2; version 1 has a number near 2^63 instead, which limits nothing. */
static uint64_t read_limit(const char *path)
{
    char text[64], *end;
    unsigned long long v;

    if (!read_small(path, text, sizeof text))
        return UINT64_MAX;
    errno = 0;
    v = strtoull(text, &end, 10);
    return end == text || errno ? UINT64_MAX : v;
}

/* The smallest limit of the group and of those above it, up to the root. */
static uint64_t limit_of_group(const char *root, const char *group, const char *file)
{
    uint64_t least = UINT64_MAX;
    char path[2 * PATH_BYTES];
    size_t n = strlen(group);

    if (n >= PATH_BYTES)
        return UINT64_MAX;
    for (;;) {
        while (n > 0 && group[n - 1] == '/')
            n--;
        (void)snprintf(path, sizeof path, "%s%.*s/%s", root, (int)n, group, file);

        const uint64_t limit = read_limit(path);

        if (limit < least)
            least = limit;
        if (n == 0)
            return least;
        while (n > 0 && group[n - 1] != '/')
            n--;
    }
}

static bool names_memory(const char *controllers, size_t n)
{
    static const char name[] = "memory";

    for (size_t at = 0; at < n;) {
        const char *comma = memchr(controllers + at, ',', n - at);
        const size_t len = comma ? (size_t)(comma - controllers) - at : n - at;

        if (len == sizeof name - 1 && memcmp(controllers + at, name, len) == 0)
            return true;
        at += len + 1;
    }
    return false;
}

/* Lines are number:controllers:path; version 2 has the one with the number 0 and no controller. */
uint64_t rg_cgroup_memory_limit(const char *groups_file, const char *root)
{
    char groups[GROUPS_BYTES], old_root[PATH_BYTES];
    uint64_t least = UINT64_MAX;

    if (!read_small(groups_file, groups, sizeof groups))
        return UINT64_MAX;
    (void)snprintf(old_root, sizeof old_root, "%s/memory", root);
    for (char *line = groups, *end; *line; line = end) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        uint64_t limit = UINT64_MAX;

        end = line + strcspn(line, "\n");
        if (*end)
            *end++ = '\0';
        if (!path || path >= end)
            continue;
        if (path == controllers + 1)
            limit = limit_of_group(root, path + 1, "memory.max");
        else if (names_memory(controllers + 1, (size_t)(path - controllers - 1)))
            limit = limit_of_group(old_root, path + 1, "memory.limit_in_bytes");
        if (limit < least)
            least = limit;
    }
    return least;
}

uint64_t rg_host_memory_bytes(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page = sysconf(_SC_PAGESIZE);
    const uint64_t physical = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    const uint64_t allowed = rg_cgroup_memory_limit("/proc/self/cgroup", "/sys/fs/cgroup");

    return allowed < physical ? allowed : physical;
}
