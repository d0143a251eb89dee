/* message_wire.h - the wire format below message*.c: walking, guarding and cleaning.
 *
 * protobuf-c allocates for every field that it meets, merges a field that comes twice, and cuts a
 * number that is too large for its type.  rg_wire_check() goes over the bytes first, with the
 * message's own descriptor and without a copy: what it lets through, protobuf-c unpacks unless
 * memory is short.
 * Threads    pure.
 * Private to message*.c; the generated header is seen nowhere else. */
#ifndef RG_CLUSTER_MESSAGE_WIRE_H
#define RG_CLUSTER_MESSAGE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>
#include <renga.pb-c.h>

#include "base/err.h"
#include "cluster/message.h"

/* One field: number, wire type, and its value, or the length of what follows at `at`. */
struct rg_wire_field {
    uint32_t number;
    unsigned type; /* RG_WIRE_ */
    uint64_t value;
};

enum { RG_WIRE_VARINT = 0, RG_WIRE_FIXED64 = 1, RG_WIRE_BYTES = 2, RG_WIRE_FIXED32 = 5 };

/* Reads the field that begins at *at, which moves behind it, or, for RG_WIRE_BYTES, to the first of
 * its bytes: those may lie beyond n. */
RG_CHECKED bool rg_wire_next(struct rg_wire_field *f, const uint8_t *p, size_t *at, size_t n);
size_t rg_wire_put_varint(uint8_t out[10], uint64_t value);

/* Well-formed, known fields with the right type, in range and at most once (unless repeated), texts
 * without NUL, no more than fields_max fields (of repeated numbers each counts as one). */
RG_CHECKED enum rg_code rg_wire_check(const ProtobufCMessageDescriptor *d, const uint8_t *p,
                                      size_t n, uint32_t fields_max, struct rg_err *err);

/* Checks and unpacks.  Freed with rg_wire_free(). */
RG_CHECKED enum rg_code rg_wire_unpack(ProtobufCMessage **out, const ProtobufCMessageDescriptor *d,
                                       const uint8_t *p, size_t n, uint32_t fields_max,
                                       struct rg_err *err);
void rg_wire_free(ProtobufCMessage *m); /* accepts NULL */
/* Appends the packed message. */
RG_CHECKED enum rg_code rg_wire_pack(struct rg_buf *out, const ProtobufCMessage *m,
                                     size_t bytes_max, struct rg_err *err);

/* Cuts a text to `size` at the border of a character; control characters, those that turn the
 * direction of writing, and what is no UTF-8 become '?'. */
void rg_wire_text(char *dst, size_t size, const char *src);
/* As above; a reason that must be there is never empty. */
void rg_wire_reason(char dst[RG_REASON_BYTES], const char *src, bool must_be_there);
/* "name: ..." unless the id rule holds. */
RG_CHECKED enum rg_code rg_wire_id(char dst[RG_LIMIT_NODE_ID_BYTES + 1], const char *src,
                                   const char *name, struct rg_err *err);
RG_CHECKED enum rg_code rg_wire_epoch(struct rg_epoch *out, const Renga__V1__Epoch *e,
                                      const char *name, struct rg_err *err);
RG_CHECKED enum rg_code rg_wire_digest(struct rg_digest *out, ProtobufCBinaryData b,
                                       const char *name, struct rg_err *err);
RG_CHECKED enum rg_code rg_wire_range(uint64_t value, uint64_t least, uint64_t most,
                                      const char *name, struct rg_err *err);
RG_CHECKED enum rg_code rg_wire_failure(enum rg_code *code, char error[RG_REASON_BYTES],
                                        uint32_t code_in, const char *error_in, const char *name,
                                        struct rg_err *err);

#endif
