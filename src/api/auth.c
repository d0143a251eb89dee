/* API keys, and the Host and Origin checks against other people's web pages. */
#include "api/auth.h"

#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"

enum { KEY_FILE_BYTES_MAX = 1 << 20, KEYS_MAX = 1024, KEY_BYTES_MIN = 8 };

static enum rg_code add_key(struct rg_auth *a, const char *line, size_t n, const char *path,
                            struct rg_err *err)
{
    struct rg_key *key;

    if (n < KEY_BYTES_MIN || n > RG_KEY_BYTES_MAX)
        return rg_fail(err, RG_E_USAGE, "%s: a key has %zu bytes; it must have %d to %d", path, n,
                       KEY_BYTES_MIN, RG_KEY_BYTES_MAX);
    if (a->n_keys >= KEYS_MAX)
        return rg_fail(err, RG_E_USAGE, "%s: more than %d keys", path, KEYS_MAX);
    for (size_t i = 0; i < n; i++)
        if (line[i] <= ' ' || line[i] > '~')
            return rg_fail(err, RG_E_USAGE, "%s: a key may hold only visible ASCII characters",
                           path);
    if (rg_grow((void **)&a->keys, &a->capacity, a->n_keys + 1, sizeof *a->keys, err) != RG_OK)
        return RG_E_NOMEM;
    key = &a->keys[a->n_keys++];
    memset(key, 0, sizeof *key);
    memcpy(key->bytes, line, n);
    key->len = n;
    return RG_OK;
}

enum rg_code rg_auth_load(struct rg_auth *a, const char *path, struct rg_err *err)
{
    char        *text;
    size_t       len;
    enum rg_code code = rg_file_read(&text, &len, path, KEY_FILE_BYTES_MAX, err);

    if (code != RG_OK)
        return code;
    for (size_t at = 0; code == RG_OK && at < len;) {
        const char *line = text + at;
        const char *end = memchr(line, '\n', len - at);
        size_t      n = end ? (size_t)(end - line) : len - at;

        at += n + 1;
        while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' '))
            n--;
        if (n > 0 && line[0] != '#')
            code = add_key(a, line, n, path, err);
    }
    if (code == RG_OK && a->n_keys == 0)
        code = rg_fail(err, RG_E_USAGE, "%s: no key in it; put one per line", path);
    memset(text, 0, len);
    rg_free(text);
    if (code != RG_OK)
        rg_auth_free(a);
    return code;
}

void rg_auth_free(struct rg_auth *a)
{
    rg_free(a->keys);
    memset(a, 0, sizeof *a);
}

/* Looks at every byte of every key, whatever it finds. */
static bool find_key(const struct rg_auth *a, const char *text)
{
    struct rg_key given = {.len = strlen(text)};
    size_t        found = 0;

    memcpy(given.bytes, text, given.len < RG_KEY_BYTES_MAX ? given.len : RG_KEY_BYTES_MAX);
    for (size_t k = 0; k < a->n_keys; k++) {
        volatile size_t differs = given.len ^ a->keys[k].len;

        for (size_t i = 0; i < RG_KEY_BYTES_MAX; i++)
            differs |= (size_t)(unsigned char)(given.bytes[i] ^ a->keys[k].bytes[i]);
        found |= differs == 0;
    }
    return found != 0;
}

bool rg_auth_allows(const struct rg_auth *a, const struct rg_http_request *r)
{
    const char *value;

    if (a->n_keys == 0)
        return true;
    value = rg_http_request_header(r, "Authorization");
    if (!value || strncasecmp(value, "Bearer ", 7) != 0)
        return false;
    value += 7;
    return find_key(a, value + strspn(value, " "));
}

/* The length of the host in "host", "host:port" or "[v6]:port"; 0 when it is none of these. */
static size_t host_length(const char *s)
{
    size_t      n = s[0] == '[' ? strcspn(s, "]") + 1 : strcspn(s, ":");
    const char *port;

    if (s[0] == '[' && s[n - 1] != ']')
        return 0;
    port = s + n;
    if (*port == '\0')
        return n;
    if (*port != ':' || port[1 + strspn(port + 1, "0123456789")] != '\0')
        return 0;
    return n;
}

static bool ends_with(const char *s, size_t n, const char *tail)
{
    const size_t m = strlen(tail);

    return n >= m && strncasecmp(s + n - m, tail, m) == 0;
}

/* "localhost", a name under it, 127.a.b.c or [::1]. */
static bool is_own_host(const char *s)
{
    const size_t n = host_length(s);

    if (n == 5 && memcmp(s, "[::1]", 5) == 0)
        return true;
    if (n > 4 && memcmp(s, "127.", 4) == 0 && strspn(s, "0123456789.") == n)
        return true;
    return (n == 9 && strncasecmp(s, "localhost", 9) == 0) ||
           (n > 10 && ends_with(s, n, ".localhost"));
}

static const char *origin_host(const char *origin)
{
    if (strncasecmp(origin, "http://", 7) == 0)
        return origin + 7;
    if (strncasecmp(origin, "https://", 8) == 0)
        return origin + 8;
    return NULL;
}

const char *rg_auth_origin_fault(const struct rg_http_request *r, bool loopback)
{
    const char *host = rg_http_request_header(r, "Host");
    const char *origin = rg_http_request_header(r, "Origin");
    const char *from = origin ? origin_host(origin) : NULL;

    if (loopback && host && !is_own_host(host))
        return "the Host header names another host than this machine's loopback; a server that "
               "other machines may use is started with --api-host";
    if (!origin)
        return NULL;
    if (from && (loopback ? is_own_host(from) : host && strcasecmp(from, host) == 0))
        return NULL;
    return "the Origin header names another site; web pages of other sites may not use this server";
}
