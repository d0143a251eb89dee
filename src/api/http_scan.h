/* http_scan.h - the shape of a request's bytes, checked before the HTTP library sees them.
 *
 * llhttp takes some forms that another parser on the way may read differently (a bare CR between
 * fields, a folded line, a quoted chunk extension); each is a way to smuggle a request.  This
 * scanner takes only what RFC 9112 says a sender must send, byte by byte, so cutting the input
 * anywhere changes nothing.
 * Limits     RG_LIMIT_URL_BYTES, RG_LIMIT_HEADER_BYTES (the field lines with their line ends),
 *            RG_LIMIT_HEADERS, RG_LIMIT_BODY_BYTES for the sum of the chunks.
 * Failure    RG_SCAN_BAD: status and why are set, and the connection is of no use any more. */
#ifndef RG_API_HTTP_SCAN_H
#define RG_API_HTTP_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum rg_scan_result { RG_SCAN_MORE, RG_SCAN_DONE, RG_SCAN_BAD };

struct rg_http_scan {
    uint8_t     state;
    uint32_t    part_bytes;  /* of the method, target, version or extension being read */
    uint32_t    field_bytes; /* of all field lines */
    uint32_t    n_headers;
    uint64_t    chunk_left, body_bytes; /* of all chunks so far */
    uint32_t    size_digits;
    int         status; /* of RG_SCAN_BAD */
    const char *why;
};

void rg_http_scan_head_begin(struct rg_http_scan *s);
void rg_http_scan_chunks_begin(struct rg_http_scan *s);

/* Reads up to the end of the head (its empty line included) or of the chunked body (its last CRLF
 * included).  *used bytes belong to it; *skip of them, at the front, are an empty line before the
 * request line, which nobody else needs to see. */
enum rg_scan_result rg_http_scan_head(struct rg_http_scan *s, const char *p, size_t n, size_t *used,
                                      size_t *skip);
enum rg_scan_result rg_http_scan_chunks(struct rg_http_scan *s, const char *p, size_t n,
                                        size_t *used);

#endif
