/* discovery.c - reads and checks the file of nodes. */
#include "cluster/discovery.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"

enum {
    ADDRESS_BYTES_MAX = 253, /* of a host name, RFC 1035 */
    TEXT_BYTES_MAX = 128     /* of model and chip */
};

static const int64_t memory_mib_max = INT64_C(1) << 30; /* a pebibyte; products stay in 64 bits */

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Every character is a letter, a digit or one of `others`. */
static bool has_only(const char *s, const char *others)
{
    for (; *s; s++)
        if (!is_letter_or_digit(*s) && !strchr(others, *s))
            return false;
    return true;
}

static bool is_printable(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

/* The member `key`, which must be an object. */
static enum rg_code get_object(const struct rg_json **out, const struct rg_json *j, const char *key,
                               struct rg_err *err)
{
    *out = rg_json_get(j, key);
    if (!*out)
        return rg_fail(err, RG_E_BAD_DATA, "\"%s\" is missing", key);
    if (rg_json_type(*out) != RG_JSON_OBJECT)
        return rg_fail(err, RG_E_BAD_DATA, "\"%s\" is %s; give an object", key,
                       rg_json_type_name(*out));
    return RG_OK;
}

/* A copy of a string member; *out stays NULL when it is absent and may be. */
static enum rg_code get_text(char **out, const struct rg_json *j, const char *key, bool required,
                             struct rg_err *err)
{
    const struct rg_json *v = rg_json_get(j, key);

    if (!v && !required)
        return RG_OK;
    if (!v)
        return rg_fail(err, RG_E_BAD_DATA, "\"%s\" is missing", key);
    if (rg_json_type(v) != RG_JSON_STRING)
        return rg_fail(err, RG_E_BAD_DATA, "\"%s\" is %s; give a string", key,
                       rg_json_type_name(v));
    *out = rg_strdup(rg_json_string(v));
    return *out ? RG_OK : rg_fail(err, RG_E_NOMEM, "out of memory");
}

static enum rg_code get_int(int64_t *out, const struct rg_json *j, const char *key, int64_t most,
                            struct rg_err *err)
{
    const struct rg_json *v = rg_json_get(j, key);
    const long long shown = (long long)most;

    if (!v)
        return rg_fail(err, RG_E_BAD_DATA, "\"%s\" is missing", key);
    if (rg_json_type(v) != RG_JSON_NUMBER)
        return rg_fail(err, RG_E_BAD_DATA, "\"%s\" is %s; give a whole number from 1 to %lld", key,
                       rg_json_type_name(v), shown);
    if (!rg_json_int(v, 1, most, out))
        return rg_fail(err, RG_E_BAD_DATA, "\"%s\" is %.40s; give a whole number from 1 to %lld",
                       key, rg_json_number_text(v), shown);
    return RG_OK;
}

static enum rg_code check_flops(const struct rg_json *capabilities, struct rg_err *err)
{
    static const char *const kinds[] = {"fp32", "fp16", "int8"};
    const struct rg_json *flops;

    if (!rg_json_get(capabilities, "flops"))
        return RG_OK;

    const enum rg_code code = get_object(&flops, capabilities, "flops", err);

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !code; i++) {
        const struct rg_json *v = rg_json_get(flops, kinds[i]);

        if (!v)
            continue;
        if (rg_json_type(v) != RG_JSON_NUMBER)
            return rg_fail(err, RG_E_BAD_DATA, "\"flops\": \"%s\" is %s; give a number", kinds[i],
                           rg_json_type_name(v));
        if (!isfinite(rg_json_double(v)) || rg_json_double(v) < 0)
            return rg_fail(err, RG_E_BAD_DATA, "\"flops\": \"%s\" is %.40s; give 0 or more",
                           kinds[i], rg_json_number_text(v));
    }
    return code;
}

static enum rg_code read_capabilities(struct rg_peer_info *p, const struct rg_json *peer,
                                      struct rg_err *err)
{
    const struct rg_json *c;
    int64_t memory_mib = 0;
    enum rg_code code = get_object(&c, peer, "device_capabilities", err);

    if (code)
        return code;
    code = get_int(&memory_mib, c, "memory", memory_mib_max, err);
    if (code)
        return rg_fail_in(err, code, "device_capabilities (memory in MiB)");
    code = get_text(&p->model, c, "model", false, err);
    if (!code)
        code = get_text(&p->chip, c, "chip", false, err);
    if (!code)
        code = check_flops(c, err);
    if (code)
        return code;
    p->memory_bytes = (uint64_t)memory_mib << 20;
    for (int i = 0; i < 2; i++) {
        const char *text = i == 0 ? p->model : p->chip;

        if (text && (strlen(text) > TEXT_BYTES_MAX || !is_printable(text)))
            return rg_fail(err, RG_E_BAD_DATA, "\"%s\": give a name of %d bytes at most, one line",
                           i == 0 ? "model" : "chip", TEXT_BYTES_MAX);
    }
    return RG_OK;
}

static enum rg_code check_address(const char *address, struct rg_err *err)
{
    const size_t n = strlen(address);

    if (n == 0 || n > ADDRESS_BYTES_MAX || !has_only(address, ".:-_%"))
        return rg_fail(err, RG_E_BAD_DATA,
                       "\"address\" is \"%.60s\"; give an IPv4 or IPv6 address or a host name, "
                       "without port or prefix length",
                       is_printable(address) ? address : "?");
    if (strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0)
        return rg_fail(err, RG_E_BAD_DATA,
                       "\"address\" is %s; give the address that the other nodes reach it at",
                       address);
    return RG_OK;
}

static enum rg_code read_head(bool *head, const struct rg_json *peer, struct rg_err *err)
{
    const struct rg_json *v = rg_json_get(peer, "head");

    *head = false;
    if (!v)
        return RG_OK;
    if (rg_json_type(v) != RG_JSON_BOOL)
        return rg_fail(err, RG_E_BAD_DATA, "\"head\" is %s; give true or false",
                       rg_json_type_name(v));
    *head = rg_json_bool(v);
    return RG_OK;
}

static enum rg_code read_peer(struct rg_peer_info *p, bool *head, const struct rg_json *peer,
                              struct rg_err *err)
{
    int64_t port = 0;
    enum rg_code code;

    if (rg_json_type(peer) != RG_JSON_OBJECT)
        return rg_fail(err, RG_E_BAD_DATA,
                       "%s; give an object with address, port and "
                       "device_capabilities",
                       rg_json_type_name(peer));
    code = get_text(&p->address, peer, "address", true, err);
    if (!code)
        code = check_address(p->address, err);
    if (!code)
        code = get_int(&port, peer, "port", UINT16_MAX, err);
    if (!code)
        code = read_capabilities(p, peer, err);
    if (!code)
        code = read_head(head, peer, err);
    p->port = (uint16_t)port;
    return code;
}

static enum rg_code check_id(const char *id, struct rg_err *err)
{
    const size_t n = strlen(id);

    if (n >= 1 && n <= RG_LIMIT_NODE_ID_BYTES && has_only(id, "._-"))
        return RG_OK;
    return rg_fail(err, RG_E_BAD_DATA,
                   "peer \"%.60s\": give an id of 1 to %u letters, digits, '.', '_' or '-'",
                   is_printable(id) ? id : "?", RG_LIMIT_NODE_ID_BYTES);
}

/* No two peers at one address and port. */
static enum rg_code check_distinct(const struct rg_discovery *d, struct rg_err *err)
{
    for (uint32_t i = 0; i < d->n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (d->peers[i].port == d->peers[k].port &&
                strcmp(d->peers[i].address, d->peers[k].address) == 0)
                return rg_fail(err, RG_E_BAD_DATA,
                               "peers \"%s\" and \"%s\" have the same address and port, %s:%u: "
                               "each needs its own",
                               d->peers[k].id, d->peers[i].id, d->peers[i].address,
                               (unsigned)d->peers[i].port);
    return RG_OK;
}

/* Moves peer `head` to the front; the others keep their order. */
static void put_head_first(struct rg_discovery *d, uint32_t head)
{
    const struct rg_peer_info p = d->peers[head];

    memmove(d->peers + 1, d->peers, head * sizeof *d->peers);
    d->peers[0] = p;
}

static enum rg_code read_peers(struct rg_discovery *d, const struct rg_json *peers,
                               struct rg_err *err)
{
    const size_t n = rg_json_count(peers);
    uint32_t head = 0;
    bool has_head = false, is_head = false;

    if (n == 0)
        return rg_fail(err, RG_E_BAD_DATA, "\"peers\" is empty; give at least one node");
    if (n > RG_LIMIT_PEERS)
        return rg_fail(err, RG_E_BAD_DATA, "%zu peers; a ring has %u at most", n, RG_LIMIT_PEERS);
    d->peers = rg_calloc(n, sizeof *d->peers);
    if (!d->peers)
        return rg_fail(err, RG_E_NOMEM, "out of memory");
    for (const struct rg_json *j = rg_json_first(peers); j; j = rg_json_next(j)) {
        struct rg_peer_info *p = &d->peers[d->n];
        enum rg_code code = check_id(rg_json_key(j), err);

        if (code)
            return code;
        d->n++;
        p->id = rg_strdup(rg_json_key(j));
        if (!p->id)
            return rg_fail(err, RG_E_NOMEM, "out of memory");
        code = read_peer(p, &is_head, j, err);
        if (code)
            return rg_fail_in(err, code, "peer \"%s\"", p->id);
        if (is_head && has_head)
            return rg_fail(err, RG_E_BAD_DATA,
                           "peers \"%s\" and \"%s\" both say \"head\": true; one node may",
                           d->peers[head].id, p->id);
        if (is_head)
            head = d->n - 1;
        has_head = has_head || is_head;
    }
    put_head_first(d, head);
    return check_distinct(d, err);
}

enum rg_code rg_discovery_parse(struct rg_discovery *out, const char *text, size_t len,
                                const char *name, struct rg_err *err)
{
    const struct rg_json_limits limits = {
        .bytes_max = RG_LIMIT_DISCOVERY_BYTES, .depth_max = 32, .keys_max = 4096};
    struct rg_json *root = NULL;
    const struct rg_json *peers;
    enum rg_code code;

    *out = (struct rg_discovery){.peers = NULL};
    code = rg_json_parse(&root, text, len, &limits, err);
    if (!code && rg_json_type(root) != RG_JSON_OBJECT)
        code = rg_fail(err, RG_E_BAD_DATA, "%s; give an object with \"peers\"",
                       rg_json_type_name(root));
    if (!code)
        code = get_object(&peers, root, "peers", err);
    if (!code)
        code = read_peers(out, peers, err);
    rg_json_free(root);
    if (!code)
        return RG_OK;
    rg_discovery_free(out);
    return rg_fail_in(err, code == RG_E_NOMEM ? code : RG_E_BAD_DATA, "%s", name);
}

enum rg_code rg_discovery_read(struct rg_discovery *out, const char *path, struct rg_err *err)
{
    char *text;
    size_t len;
    enum rg_code code = rg_file_read(&text, &len, path, RG_LIMIT_DISCOVERY_BYTES, err);

    *out = (struct rg_discovery){.peers = NULL};
    if (code)
        return rg_fail_in(err, code, "--discovery-config-path");
    code = rg_discovery_parse(out, text, len, path, err);
    rg_free(text);
    return code;
}

void rg_discovery_free(struct rg_discovery *d)
{
    for (uint32_t i = 0; i < d->n; i++) {
        rg_free(d->peers[i].id);
        rg_free(d->peers[i].address);
        rg_free(d->peers[i].model);
        rg_free(d->peers[i].chip);
    }
    rg_free(d->peers);
    *d = (struct rg_discovery){.peers = NULL};
}

int32_t rg_discovery_find(const struct rg_discovery *d, const char *id)
{
    for (uint32_t i = 0; i < d->n; i++)
        if (strcmp(d->peers[i].id, id) == 0)
            return (int32_t)i;
    return -1;
}
