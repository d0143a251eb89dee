/* pretokenizer.h - a tokenizer's rules for cutting text into pieces, run in stages.
 *
 * Each stage cuts every piece of the one before, as if it stood alone.  Byte-level mapping (bytes
 * to printable characters) is not done where it would be the last stage: pieces are raw bytes.
 * Threads    struct rg_pretokenizer is immutable once filled. */
#ifndef RG_TEXT_PRETOKENIZER_H
#define RG_TEXT_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "text/regex.h"

enum { RG_PRETOKENIZER_STAGES = 16 };

enum rg_stage_kind {
    RG_STAGE_REGEX,
    RG_STAGE_CHARS,        /* single characters of a class are the matches  */
    RG_STAGE_PREFIX_SPACE, /* puts a space before a piece that has none     */
    RG_STAGE_MAP_BYTES     /* bytes to ByteLevel's characters               */
};

enum rg_split {
    RG_SPLIT_ISOLATED,
    RG_SPLIT_REMOVED,
    RG_SPLIT_MERGED_WITH_PREVIOUS,
    RG_SPLIT_MERGED_WITH_NEXT,
    RG_SPLIT_CONTIGUOUS
};

struct rg_stage {
    enum rg_stage_kind kind;
    enum rg_split      split;
    bool               invert; /* matches and gaps change places */
    struct rg_regex   *regex;  /* owned; RG_STAGE_REGEX only     */
    bool (*in_class)(uint32_t cp); /* RG_STAGE_CHARS only        */
};

struct rg_pretokenizer {
    struct rg_stage stages[RG_PRETOKENIZER_STAGES];
    uint32_t        n;
    bool            mapped; /* pieces come out in ByteLevel's characters */
};

/* A piece of text, and the same with proxies for young characters (rg_unicode_shadow). */
struct rg_view {
    const char *text;
    const char *shadow;
    size_t      len;
};

typedef enum rg_code rg_piece_fn(void *arg, const char *piece, size_t len, struct rg_err *err);

struct rg_pretokenizer_run {
    const struct rg_pretokenizer *rules;
    struct rg_regex_scan         *scan;  /* borrowed */
    struct rg_buf                 bufs[RG_PRETOKENIZER_STAGES]; /* of stages that change the text */
    rg_piece_fn                  *piece; /* gets the pieces, in order */
    void                         *arg;
};

void rg_pretokenizer_free(struct rg_pretokenizer *p);

RG_CHECKED enum rg_code rg_pretokenizer_add_regex(struct rg_pretokenizer *p, const char *pattern,
                                                  enum rg_split split, bool invert,
                                                  struct rg_err *err);

/* From tokenizer.json's "pre_tokenizer".  RG_E_UNSUPPORTED names what is not known, also when
 * there is no ByteLevel. */
RG_CHECKED enum rg_code rg_pretokenizer_load(struct rg_pretokenizer *p, const struct rg_json *j,
                                             struct rg_err *err);

void rg_pretokenizer_run_init(struct rg_pretokenizer_run *r, const struct rg_pretokenizer *p,
                              struct rg_regex_scan *scan, rg_piece_fn *piece, void *arg);
void rg_pretokenizer_run_free(struct rg_pretokenizer_run *r);
RG_CHECKED enum rg_code rg_pretokenize(struct rg_pretokenizer_run *r, const struct rg_view *text,
                                       struct rg_err *err);

/* ByteLevel's characters: 0x21-0x7E, 0xA1-0xAC, 0xAE-0xFF stand for themselves, the other 68 bytes
 * in ascending order for U+0100 + n. */
uint32_t rg_byte_char(uint8_t byte);
int      rg_char_byte(uint32_t cp); /* -1: not one of them */

/* Appends the bytes that mapped text stands for.  *exact = false, and nothing appended, if a
 * character is not one of ByteLevel's. */
RG_CHECKED enum rg_code rg_bytes_unmap(struct rg_buf *out, const char *text, size_t len,
                                       bool *exact, struct rg_err *err);

#endif
