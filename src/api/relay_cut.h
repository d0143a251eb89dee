/* relay_cut.h - passes on the bytes of an HTTP answer so that it can be ended wherever it breaks.
 *
 * The head is held until it is whole, and so is each chunk of an event stream, because an event is
 * sent in chunks of its own: when nothing more comes, what the client has is either nothing at all,
 * a stream of whole events, or an answer that only a broken connection can end.
 * Limits     a head of 16 KiB, a chunk of 1 MiB; what is larger passes as it comes.
 * Failure    RG_E_NOMEM. */
#ifndef RG_API_RELAY_CUT_H
#define RG_API_RELAY_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum rg_relay_state {
    RG_RELAY_HEAD,   /* nothing was passed on */
    RG_RELAY_CHUNKS, /* an event stream, whole chunks so far */
    RG_RELAY_WHOLE,  /* the last chunk of an event stream has passed, or all of Content-Length */
    RG_RELAY_OTHER   /* anything else */
};

struct rg_relay_cut {
    enum rg_relay_state state;
    struct rg_buf       held;
    bool                done;       /* an event stream, and its [DONE] has passed */
    bool                has_length; /* another answer; body_left: of its Content-Length */
    uint64_t            body_left;
};

void rg_relay_cut_init(struct rg_relay_cut *r);
void rg_relay_cut_free(struct rg_relay_cut *r);

/* Appends to out what may be passed on now. */
RG_CHECKED enum rg_code rg_relay_cut_feed(struct rg_relay_cut *r, const char *p, size_t n,
                                          struct rg_buf *out, struct rg_err *err);

/* The answer has ended: appends what is still held. */
RG_CHECKED enum rg_code rg_relay_cut_end(struct rg_relay_cut *r, struct rg_buf *out,
                                         struct rg_err *err);

#endif
