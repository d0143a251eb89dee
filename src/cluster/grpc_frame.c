/* grpc_frame.c - a received message, in the pieces that it came in. */
#include <assert.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/slice_buffer.h>

#include "base/mem.h"
#include "cluster/grpc_core.h"

size_t rg_frame_bytes(const struct rg_frame *f)
{
    return f->n;
}

void rg_frame_read(const struct rg_frame *f, size_t at, void *dst, size_t n)
{
    const grpc_slice_buffer *pieces = &f->bytes->data.raw.slice_buffer;
    uint8_t *to = dst;

    assert(at <= f->n && n <= f->n - at);
    for (size_t i = 0; i < pieces->count && n > 0; i++) {
        const size_t length = GRPC_SLICE_LENGTH(pieces->slices[i]);

        if (at >= length) {
            at -= length;
            continue;
        }

        const size_t part = length - at < n ? length - at : n;

        memcpy(to, GRPC_SLICE_START_PTR(pieces->slices[i]) + at, part);
        to += part;
        n -= part;
        at = 0;
    }
}

void rg_frame_free(struct rg_frame *f)
{
    if (!f)
        return;
    rg_link_freed(f->link, f->bytes, f->n);
    rg_free(f);
}
