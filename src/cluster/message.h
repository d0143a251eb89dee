/* message.h - the peer protocol as plain structs: encoding, decoding, and every check of a field
 * that needs no state.
 *
 * Bytes from a peer are first held to the limit of their kind, then unpacked, then checked; what
 * passes here can be used without a further look at sizes: ids are well-formed, layer numbers and
 * counts are in range, digests have 16 bytes, texts are cut to their arrays with control characters
 * replaced.  What needs state (does this epoch run?  does the step fit the plan?) is asked in
 * membership.h and ring.h.
 * Failure    RG_E_BAD_DATA names the field; RG_E_LIMIT: too large; RG_E_NOMEM.
 * Lifetime   a decoded message owns its arrays: rg_message_free(). */
#ifndef RG_CLUSTER_MESSAGE_H
#define RG_CLUSTER_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"

enum {
    RG_PROTOCOL_MAJOR = 1,
    RG_PROTOCOL_MINOR = 0,
    RG_DIGEST_BYTES = 16,
    RG_CLUSTER_ID_BYTES = 16, /* hex digits, or "plain" */
    RG_SHORT_TEXT_BYTES = 64,
    RG_REASON_BYTES = 256
};

struct rg_epoch {
    uint64_t boot, n; /* n 0: none */
};

bool rg_epoch_equal(struct rg_epoch a, struct rg_epoch b);

struct rg_digest {
    uint8_t bytes[RG_DIGEST_BYTES];
};

struct rg_layer_card {
    bool there;
    uint64_t bytes;
    struct rg_digest digest;
};

/* What a node has of the model on its disk. */
struct rg_model_card {
    struct rg_digest digest; /* of everything in config.json that changes an answer */
    uint32_t n_layers;
    struct rg_layer_card *layers; /* owned [n_layers] */
    struct rg_layer_card embedding, head;
};

RG_CHECKED enum rg_code rg_model_card_copy(struct rg_model_card *out,
                                           const struct rg_model_card *card, struct rg_err *err);
void rg_model_card_free(struct rg_model_card *card);

struct rg_hello {
    uint32_t major, minor;
    char build[RG_SHORT_TEXT_BYTES];
    char node_id[RG_LIMIT_NODE_ID_BYTES + 1];
    uint64_t boot;
    char head_id[RG_LIMIT_NODE_ID_BYTES + 1];
    char cluster[RG_CLUSTER_ID_BYTES + 1];
    char numerics[RG_SHORT_TEXT_BYTES];
    uint64_t claimed_bytes, memory_bytes;
    bool overcommit;
    struct rg_model_card model;
};

struct rg_refuse {
    char what[RG_SHORT_TEXT_BYTES];
    char mine[RG_REASON_BYTES], yours[RG_REASON_BYTES];
};

struct rg_heartbeat {
    uint64_t time_ns, echo_time_ns, echo_age_ns;
    uint64_t layers_done;
    bool busy;
    struct rg_epoch epoch;
    uint64_t loaded_bytes, load_bytes;
    char unreached[RG_LIMIT_NODE_ID_BYTES + 1]; /* "": none */
};

struct rg_ring_node {
    char id[RG_LIMIT_NODE_ID_BYTES + 1];
    uint32_t first_layer, n_layers;
};

/* A plan as it crosses the wire: who has what, and the sizes that all share. */
struct rg_proposal {
    struct rg_epoch epoch;
    struct rg_ring_node nodes[RG_LIMIT_PEERS]; /* in the order of the ring, the head last */
    uint32_t n_nodes;
    uint32_t context, parallel, n_blocks, block_tokens, max_rows;
    bool activations_f32;
    struct rg_digest model;
};

struct rg_ready {
    struct rg_epoch epoch;
    enum rg_code code; /* RG_OK: ready */
    char error[RG_REASON_BYTES];
};

struct rg_abort {
    struct rg_epoch epoch;
    char reason[RG_REASON_BYTES];
    char lost_id[RG_LIMIT_NODE_ID_BYTES + 1]; /* "": none */
};

enum rg_message_kind {
    RG_MESSAGE_HELLO,
    RG_MESSAGE_REFUSE,
    RG_MESSAGE_HEARTBEAT,
    RG_MESSAGE_PROPOSE,
    RG_MESSAGE_READY,
    RG_MESSAGE_COMMIT,
    RG_MESSAGE_COMMIT_ACK,
    RG_MESSAGE_ABORT,
    RG_MESSAGE_KINDS
};

const char *rg_message_name(enum rg_message_kind kind); /* "Hello" */

struct rg_message {
    enum rg_message_kind kind;
    union {
        struct rg_hello hello;
        struct rg_refuse refuse;
        struct rg_heartbeat heartbeat;
        struct rg_proposal *propose; /* owned */
        struct rg_ready ready;
        struct rg_epoch commit, commit_ack;
        struct rg_abort abort;
    };
};

RG_CHECKED enum rg_code rg_message_encode(struct rg_buf *out, const struct rg_message *m,
                                          struct rg_err *err);
RG_CHECKED enum rg_code rg_message_decode(struct rg_message *out, const uint8_t *p, size_t n,
                                          struct rg_err *err);
RG_CHECKED enum rg_code rg_message_copy(struct rg_message *out, const struct rg_message *m,
                                        struct rg_err *err);
void rg_message_free(struct rg_message *m);

/* ---- steps ----------------------------------------------------------------------------------- */

/* What a step may be at most, from the plan. */
struct rg_step_limits {
    uint32_t max_rows, parallel, n_blocks, block_tokens, context, hidden;
};

/* The largest bytes of a Steps message under these limits, and of the part before its rows. */
size_t rg_step_bytes_max(const struct rg_step_limits *l);
size_t rg_step_head_bytes_max(const struct rg_step_limits *l);

struct rg_step_seq {
    uint32_t n_rows, position;
    const uint32_t *blocks; /* [n_blocks] */
    uint32_t n_blocks;
};

/* A step without its rows. */
struct rg_step_head {
    struct rg_epoch epoch;
    uint64_t seq;
    struct rg_step_seq *seqs; /* owned when decoded, with the blocks */
    uint32_t n_seqs, n_rows;
    enum rg_code code; /* RG_OK, or why an earlier node could not compute it; then no rows */
    char error[RG_REASON_BYTES];
};

/* Everything before the bytes of the rows: header fields, then tag and length of `rows` for
 * rows_bytes bytes.  What follows on the wire is the rows themselves. */
RG_CHECKED enum rg_code rg_step_encode(struct rg_buf *out, const struct rg_step_head *h,
                                       size_t rows_bytes, struct rg_err *err);
/* p, n: the beginning of a message of total bytes, at least min(total, rg_step_head_bytes_max()) of
 * it.  *rows_at: where the rows begin; they reach to the end.  Checks everything that limits and
 * the message itself can show: rows tile, blocks are in range and enough for their positions, and
 * rows have exactly 4 * n_rows * hidden bytes (0 with an error). */
RG_CHECKED enum rg_code rg_step_decode(struct rg_step_head *out, size_t *rows_at, const uint8_t *p,
                                       size_t n, size_t total, const struct rg_step_limits *limits,
                                       struct rg_err *err);
void rg_step_head_free(struct rg_step_head *h);

struct rg_steps_open {
    struct rg_epoch epoch;
    char node_id[RG_LIMIT_NODE_ID_BYTES + 1];
};

RG_CHECKED enum rg_code rg_steps_open_encode(struct rg_buf *out, const struct rg_steps_open *o,
                                             struct rg_err *err);
RG_CHECKED enum rg_code rg_steps_open_decode(struct rg_steps_open *out, const uint8_t *p, size_t n,
                                             struct rg_err *err);

/* ---- forward, probe -------------------------------------------------------------------------- */

RG_CHECKED enum rg_code rg_forward_encode(struct rg_buf *out, const void *p, size_t n,
                                          struct rg_err *err);
/* *data points into p. */
RG_CHECKED enum rg_code rg_forward_decode(const uint8_t **data, size_t *n_data, const uint8_t *p,
                                          size_t n, struct rg_err *err);

struct rg_probe {
    uint64_t id;
    uint32_t answer_bytes;
    int64_t time_unix_ms;
    char build[RG_SHORT_TEXT_BYTES];
    const uint8_t *data; /* decoded: points into the message */
    size_t n_data;
};

RG_CHECKED enum rg_code rg_probe_encode(struct rg_buf *out, const struct rg_probe *p,
                                        struct rg_err *err);
RG_CHECKED enum rg_code rg_probe_decode(struct rg_probe *out, const uint8_t *p, size_t n,
                                        struct rg_err *err);

#endif
