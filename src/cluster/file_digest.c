/* file_digest.c - the SHA-256 of a whole file. */
#include "cluster/file_digest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/file.h"
#include "base/mem.h"

enum { ROOM_BYTES = 1 << 20 };

/* What was hashed is not needed again. */
static void forget_pages(int fd, uint64_t begin, uint64_t n)
{
#ifdef __linux__
    (void)posix_fadvise(fd, (off_t)begin, (off_t)n, POSIX_FADV_DONTNEED);
#else
    (void)fd, (void)begin, (void)n;
#endif
}

static enum rg_code hash_all(EVP_MD_CTX *ctx, int fd, uint8_t *room, const char *path,
                             struct rg_err *err)
{
    uint64_t at = 0;

    for (;;) {
        const ssize_t n = read(fd, room, ROOM_BYTES);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return rg_fail(err, RG_E_IO, "%s: reading byte %" PRIu64 ": %s", path, at,
                           strerror(errno));
        if (n == 0)
            return RG_OK;
        if (!EVP_DigestUpdate(ctx, room, (size_t)n))
            return rg_fail(err, RG_E_NOMEM, "%s: no memory for its SHA-256", path);
        forget_pages(fd, at, (uint64_t)n);
        at += (uint64_t)n;
    }
}

enum rg_code rg_file_sha256(char out[RG_SHA256_TEXT_BYTES], const char *path, struct rg_err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t *room = rg_alloc(ROOM_BYTES);
    uint8_t sum[EVP_MAX_MD_SIZE] = {0};
    uint64_t bytes;
    int fd = -1;
    enum rg_code code;

    if (!ctx || !room || !EVP_DigestInit_ex2(ctx, EVP_sha256(), NULL))
        code = rg_fail(err, RG_E_NOMEM, "%s: no memory for its SHA-256", path);
    else
        code = rg_file_open(&fd, &bytes, path, err);
#ifdef F_NOCACHE
    if (!code)
        (void)fcntl(fd, F_NOCACHE, 1);
#endif
    if (!code)
        code = hash_all(ctx, fd, room, path, err);
    if (!code && !EVP_DigestFinal_ex(ctx, sum, NULL))
        code = rg_fail(err, RG_E_NOMEM, "%s: no memory for its SHA-256", path);
    for (size_t i = 0; i < 32; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", sum[i]);
    if (fd >= 0)
        (void)close(fd);
    EVP_MD_CTX_free(ctx);
    rg_free(room);
    return code;
}
