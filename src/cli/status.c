/* status.c - asks a daemon's /health and prints its nodes as a table or as JSON. */
#include "cli/status.h"

#include <stdio.h>
#include <string.h>

#include "api/auth.h"
#include "api/http_client.h"
#include "base/buf.h"
#include "base/json.h"
#include "cluster/discovery.h"

enum { HEALTH_BYTES_MAX = 1 << 20, DEADLINE_MS = 5000, COLUMNS = 8, CELL_BYTES = 160 };

static const struct rg_json_limits health_limits = {.bytes_max = HEALTH_BYTES_MAX, .depth_max = 8};

/* ---- what the daemon says -------------------------------------------------------------------- */

static const char *string_of(const struct rg_json *object, const char *name)
{
    const struct rg_json *v = object ? rg_json_get(object, name) : NULL;

    return v && rg_json_type(v) == RG_JSON_STRING ? rg_json_string(v) : "";
}

static double number_of(const struct rg_json *object, const char *name)
{
    const struct rg_json *v = object ? rg_json_get(object, name) : NULL;

    return v && rg_json_type(v) == RG_JSON_NUMBER ? rg_json_double(v) : 0;
}

static bool is_true(const struct rg_json *object, const char *name)
{
    const struct rg_json *v = rg_json_get(object, name);

    return v && rg_json_type(v) == RG_JSON_BOOL && rg_json_bool(v);
}

/* read_health() has looked at its type. */
static const struct rg_json *first_node(const struct rg_json *health)
{
    const struct rg_json *nodes = rg_json_get(health, "nodes");

    return nodes ? rg_json_first(nodes) : NULL;
}

static enum rg_code read_health(struct rg_json **health, const struct rg_buf *body,
                                struct rg_err *err)
{
    struct rg_json *h;
    const struct rg_json *nodes = NULL;
    enum rg_code code =
        rg_json_parse(&h, body->data ? body->data : "", body->len, &health_limits, err);
    bool fits;

    if (code)
        return code;
    fits = rg_json_type(h) == RG_JSON_OBJECT && *string_of(h, "status");
    if (fits)
        nodes = rg_json_get(h, "nodes");
    fits = fits && (!nodes || rg_json_type(nodes) == RG_JSON_ARRAY);
    for (const struct rg_json *n = fits && nodes ? rg_json_first(nodes) : NULL; n;
         n = rg_json_next(n))
        fits = fits && rg_json_type(n) == RG_JSON_OBJECT;
    if (fits) {
        *health = h;
        return RG_OK;
    }
    rg_json_free(h);
    return rg_fail(err, RG_E_BAD_DATA, "no state of a daemon");
}

static enum rg_code ask(struct rg_json **health, struct rg_buf *body, const struct rg_options *o,
                        struct rg_err *err)
{
    struct rg_auth auth = {0};
    char key[RG_KEY_BYTES_MAX + 1] = "";
    struct rg_http_call call = {.host = o->api_host,
                                .port = (uint16_t)o->api_port,
                                .method = "GET",
                                .path = "/health",
                                .deadline_ms = DEADLINE_MS};
    int status = 0;
    enum rg_code code = RG_OK;

    if (o->api_key_file)
        code = rg_auth_load(&auth, o->api_key_file, err);
    if (!code && auth.n_keys > 0) {
        memcpy(key, auth.keys[0].bytes, auth.keys[0].len);
        call.key = key;
    }
    rg_auth_free(&auth);
    if (!code)
        code = rg_http_get(&call, &status, body, err);
    memset(key, 0, sizeof key);
    if (code == RG_E_PEER && status == 0)
        return rg_fail_in(err, code, "no daemon answers; start one with `renga serve`, or give its "
                                     "--api-host and --api-port");
    if (code)
        return code;
    code = read_health(health, body, err);
    if (!code || code == RG_E_NOMEM)
        return code;
    return rg_fail(err, RG_E_PEER,
                   "%s port %lld: HTTP status %d, and not the state of a renga daemon: give its "
                   "--api-host and --api-port",
                   o->api_host, (long long)o->api_port, status);
}

/* ---- the table ------------------------------------------------------------------------------- */

struct row {
    char cells[COLUMNS][CELL_BYTES];
};

/* Text of another machine on this terminal: without what a terminal would obey. */
static void put_text(char *cell, const char *s)
{
    size_t n = 0;

    for (; *s && n + 1 < CELL_BYTES; s++) {
        const unsigned char c = (unsigned char)*s;
        const bool is_c1 = c == 0xc2 && (unsigned char)s[1] < 0xa0;

        cell[n++] = c < 0x20 || c == 0x7f || is_c1 ? '?' : (char)c;
        s += is_c1;
    }
    cell[n] = '\0';
}

static void fill_layers(char *cell, const struct rg_json *node)
{
    const struct rg_json *first = rg_json_get(node, "first_layer");
    const struct rg_json *last = rg_json_get(node, "last_layer");
    int64_t a, b;

    if (first && last && rg_json_int(first, 0, UINT32_MAX, &a) &&
        rg_json_int(last, 0, UINT32_MAX, &b))
        (void)snprintf(cell, CELL_BYTES, "%lld-%lld", (long long)a, (long long)b);
    else
        (void)snprintf(cell, CELL_BYTES, "-");
}

static void fill(struct row *r, const struct rg_json *node)
{
    static const double gib = 1024.0 * 1024.0 * 1024.0;
    const double rtt = number_of(node, "rtt_ms"), memory = number_of(node, "memory_bytes");

    put_text(r->cells[0], string_of(node, "id"));
    (void)snprintf(r->cells[1], CELL_BYTES, "%s", is_true(node, "head") ? "head" : "worker");
    fill_layers(r->cells[2], node);
    put_text(r->cells[3], string_of(node, "state"));
    if (is_true(node, "busy"))
        (void)snprintf(r->cells[3], CELL_BYTES, "busy");
    (void)snprintf(r->cells[4], CELL_BYTES, "%.0f%%", 100 * number_of(node, "progress"));
    (void)snprintf(r->cells[5], CELL_BYTES, "-");
    if (rtt > 0)
        (void)snprintf(r->cells[5], CELL_BYTES, "%.2f ms", rtt);
    (void)snprintf(r->cells[6], CELL_BYTES, "-");
    if (memory > 0)
        (void)snprintf(r->cells[6], CELL_BYTES, "%.1f GiB", memory / gib);
    put_text(r->cells[7], string_of(node, "reason"));
}

static void widen(size_t *widths, const struct row *r)
{
    for (int i = 0; i < COLUMNS; i++)
        if (strlen(r->cells[i]) > widths[i])
            widths[i] = strlen(r->cells[i]);
}

static void print_row(const size_t *widths, const struct row *r)
{
    char line[COLUMNS * (CELL_BYTES + 2)];
    size_t n = 0;

    for (int i = 0; i < COLUMNS; i++)
        n += (size_t)snprintf(line + n, sizeof line - n, "%-*s  ", (int)widths[i], r->cells[i]);
    while (n > 0 && line[n - 1] == ' ')
        n--;
    printf("%.*s\n", (int)n, line);
}

static void print_table(const struct rg_json *health)
{
    static const struct row titles = {
        {"node", "role", "layers", "state", "loaded", "link", "memory", ""}};
    size_t widths[COLUMNS] = {0};
    struct row r;

    widen(widths, &titles);
    for (const struct rg_json *n = first_node(health); n; n = rg_json_next(n)) {
        fill(&r, n);
        widen(widths, &r);
    }
    print_row(widths, &titles);
    for (const struct rg_json *n = first_node(health); n; n = rg_json_next(n)) {
        fill(&r, n);
        print_row(widths, &r);
    }
}

static void print_sum(const struct rg_json *health)
{
    const struct rg_json *epoch = rg_json_get(health, "epoch");
    char status[CELL_BYTES], state[CELL_BYTES];

    put_text(status, string_of(health, "status"));
    put_text(state, string_of(health, "epoch_state"));
    printf("%s", status);
    if (strcmp(status, "loading") == 0)
        printf(" %.0f%%", 100 * number_of(health, "progress"));
    if (epoch && rg_json_type(epoch) == RG_JSON_OBJECT)
        printf(", epoch %.0f %s", number_of(epoch, "n"), state);
    if (rg_json_get(health, "tokens_per_s"))
        printf(", %.1f tokens/s", number_of(health, "tokens_per_s"));
    printf("\n");
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static enum rg_code print_json(const struct rg_json *health, struct rg_err *err)
{
    struct rg_buf out;
    enum rg_code code;

    rg_buf_init(&out, 8 * HEALTH_BYTES_MAX);
    code = rg_json_print(&out, health, err);
    if (!code)
        printf("{\"schema\":\"renga.status/1\",%s\n", out.data + 1);
    rg_buf_free(&out);
    return code;
}

/* ---- what it comes to ------------------------------------------------------------------------ */

static const struct rg_json *missing_node(const struct rg_json *health)
{
    for (const struct rg_json *n = first_node(health); n; n = rg_json_next(n))
        if (strcmp(string_of(n, "state"), "up") != 0)
            return n;
    return NULL;
}

/* Every node of the file must be one that the daemon knows. */
static enum rg_code check_file(const struct rg_json *health, const char *path, struct rg_err *err)
{
    struct rg_discovery d;
    enum rg_code code = rg_discovery_read(&d, path, err);

    if (code)
        return code;
    for (uint32_t i = 0; i < d.n && !code; i++) {
        const struct rg_json *n = first_node(health);

        while (n && strcmp(string_of(n, "id"), d.peers[i].id) != 0)
            n = rg_json_next(n);
        if (!n)
            code = rg_fail(err, RG_E_PEER, "%s: the daemon does not know %s: it has another file",
                           path, d.peers[i].id);
    }
    rg_discovery_free(&d);
    return code;
}

static enum rg_code judge(const struct rg_json *health, struct rg_err *err)
{
    const char *status = string_of(health, "status");
    const struct rg_json *missing = missing_node(health);
    char reason[CELL_BYTES], id[CELL_BYTES], state[CELL_BYTES];

    if (strcmp(status, "ok") == 0 || (strcmp(status, "loading") == 0 && !missing))
        return RG_OK;
    put_text(reason, string_of(health, "reason"));
    if (!first_node(health))
        return rg_fail(err, RG_E_IO, "the daemon is %s: %s",
                       strcmp(status, "failed") == 0 ? "broken" : "not well", reason);
    if (*reason || !missing)
        return rg_fail(err, RG_E_PEER, "the ring does not run: %s", reason);
    put_text(id, string_of(missing, "id"));
    put_text(state, string_of(missing, "state"));
    return rg_fail(err, RG_E_PEER, "the ring does not run: %s is %s", id, state);
}

enum rg_code rg_status(const struct rg_options *o, struct rg_err *err)
{
    struct rg_json *health = NULL;
    struct rg_buf body;
    enum rg_code code;

    rg_buf_init(&body, HEALTH_BYTES_MAX);
    code = ask(&health, &body, o, err);
    if (!code && o->json) {
        code = print_json(health, err);
    } else if (!code) {
        if (first_node(health))
            print_table(health);
        print_sum(health);
    }
    if (!code && o->discovery)
        code = check_file(health, o->discovery, err);
    if (!code)
        code = judge(health, err);
    rg_json_free(health);
    rg_buf_free(&body);
    return code;
}
