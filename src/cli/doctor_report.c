/* doctor_report.c - what doctor found, as lines for people or as JSON for programs. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"
#include "cli/doctor_state.h"

enum { OUTPUT_BYTES_MAX = 4 << 20 };

/* What was printed so far; the first failure sticks. */
struct page {
    struct rg_buf text;
    enum rg_code code;
    struct rg_err *err;
};

#define put(p, ...)                                                                                \
    do {                                                                                           \
        if (!(p)->code)                                                                            \
            (p)->code = rg_buf_addf(&(p)->text, (p)->err, __VA_ARGS__);                            \
    } while (0)

/* ---- text ------------------------------------------------------------------------------------ */

static void put_check(struct page *p, const struct rg_check *c)
{
    static const char *const words[] = {"ok", "warn", "FAIL"};

    put(p, "%-5s %-14s %s\n", words[c->health], c->name, c->message);
}

static void put_peer(struct page *p, const struct rg_doctor *d, const struct rg_doctor_peer *peer)
{
    const struct rg_probe_result *w = &peer->way;

    put(p, "%-5s %-14s %s, %s:%u over %s: ", peer->reachable ? "ok" : "FAIL", "peer",
        peer->info->id, peer->info->address, peer->info->port,
        peer->interface[0] ? peer->interface : "no interface");
    if (!peer->reachable) {
        put(p, "not reachable: %s\n", peer->reason);
        return;
    }
    put(p,
        "%.2f ms there and back (p99 %.2f), %.2f GB/s out, %.2f GB/s in, clock %+" PRId64
        " ms, %s; ",
        (double)w->rtt_ns / 1e6, (double)w->rtt_p99_ns / 1e6, w->send_bytes_s / 1e9,
        w->receive_bytes_s / 1e9, w->clock_ahead_ms, w->build);
    if (peer->token_loss >= 0)
        put(p, "a token loses %.1f %% to this link\n", 100 * peer->token_loss);
    else
        put(p, "what a token loses is not known: %s\n", d->no_token_s);
}

static void put_text(struct page *p, const struct rg_doctor *d)
{
    for (uint32_t i = 0; i < d->n_checks; i++)
        put_check(p, &d->checks[i]);
    for (uint32_t i = 0; i < d->n_peers; i++)
        put_peer(p, d, &d->peers[i]);
    for (uint32_t i = 0; i < d->n_files; i++)
        put(p, "%s  %s\n", d->files[i].sha256, d->files[i].path);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_string(struct page *p, const char *key, const char *value)
{
    const size_t n = value ? strlen(value) : 0;

    put(p, "\"%s\":", key);
    if (!value)
        put(p, "null");
    else if (!rg_utf8_valid(value, n))
        put(p, "\"(not UTF-8)\"");
    else if (!p->code)
        p->code = rg_json_print_string(&p->text, value, n, p->err);
}

static void put_json_peer(struct page *p, const struct rg_doctor_peer *peer)
{
    const struct rg_probe_result *w = &peer->way;

    put(p, "{");
    put_string(p, "id", peer->info->id);
    put(p, ",");
    put_string(p, "address", peer->info->address);
    put(p, ",\"port\":%u,", peer->info->port);
    put_string(p, "interface", peer->interface[0] ? peer->interface : NULL);
    put(p, ",\"reachable\":%s,", peer->reachable ? "true" : "false");
    put_string(p, "reason", peer->reachable ? NULL : peer->reason);
    if (peer->reachable)
        put(p,
            ",\"rtt_ms\":%.4f,\"rtt_p99_ms\":%.4f,\"hop_ms\":%.4f,\"send_gb_s\":%.4f,"
            "\"receive_gb_s\":%.4f,\"clock_ms\":%" PRId64 ",",
            (double)w->rtt_ns / 1e6, (double)w->rtt_p99_ns / 1e6, (double)w->hop_ns / 1e6,
            w->send_bytes_s / 1e9, w->receive_bytes_s / 1e9, w->clock_ahead_ms);
    else
        put(p, ",\"rtt_ms\":null,\"rtt_p99_ms\":null,\"hop_ms\":null,\"send_gb_s\":null,"
               "\"receive_gb_s\":null,\"clock_ms\":null,");
    if (peer->token_loss >= 0)
        put(p, "\"token_loss_percent\":%.3f,", 100 * peer->token_loss);
    else
        put(p, "\"token_loss_percent\":null,");
    put_string(p, "build", peer->reachable ? w->build : NULL);
    put(p, "}");
}

static void put_json_check(struct page *p, const struct rg_check *c)
{
    put(p, "{");
    put_string(p, "name", c->name);
    put(p, ",\"ok\":%s,\"stops_ring\":%s,", c->health == RG_HEALTH_OK ? "true" : "false",
        c->health == RG_HEALTH_STOPS ? "true" : "false");
    put_string(p, "message", c->message);
    put(p, "}");
}

static void put_json_file(struct page *p, const struct rg_doctor_file *f)
{
    put(p, "{");
    put_string(p, "path", f->path);
    put(p, ",\"size_bytes\":%" PRIu64 ",\"cached\":%s,", f->bytes, f->cached ? "true" : "false");
    put_string(p, "sha256", f->sha256);
    put(p, "}");
}

static void put_json(struct page *p, const struct rg_doctor *d)
{
    put(p, "{\"schema\":\"renga.doctor/1\",");
    put_string(p, "self", d->self >= 0 ? d->ring.peers[d->self].id : NULL);
    put(p, ",\"peers\":[");
    for (uint32_t i = 0; i < d->n_peers; i++) {
        put(p, "%s", i ? "," : "");
        put_json_peer(p, &d->peers[i]);
    }
    put(p, "],\"checks\":[");
    for (uint32_t i = 0; i < d->n_checks; i++) {
        put(p, "%s", i ? "," : "");
        put_json_check(p, &d->checks[i]);
    }
    put(p, "],\"files\":[");
    for (uint32_t i = 0; i < d->n_files; i++) {
        put(p, "%s", i ? "," : "");
        put_json_file(p, &d->files[i]);
    }
    put(p, "]}\n");
}

enum rg_code rg_doctor_print(const struct rg_doctor *d, struct rg_err *err)
{
    struct page p = {.err = err};

    rg_buf_init(&p.text, OUTPUT_BYTES_MAX);
    if (d->options->json)
        put_json(&p, d);
    else
        put_text(&p, d);
    if (!p.code &&
        (fwrite(p.text.data, 1, p.text.len, stdout) != p.text.len || fflush(stdout) != 0))
        p.code = rg_fail(err, RG_E_IO, "doctor: standard output: %s", strerror(errno));
    rg_buf_free(&p.text);
    return p.code;
}
