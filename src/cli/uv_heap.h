/* uv_heap.h - libuv's memory from base/mem.h.
 *
 * libuv ends the process when the table of a loop's descriptors cannot grow.  Its first table is
 * therefore static room for as many descriptors as the daemon may open.
 * Lifetime   call it once, before any other function of libuv.
 * Limits     one loop at a time has the static room; a second one takes its table from the heap. */
#ifndef RG_CLI_UV_HEAP_H
#define RG_CLI_UV_HEAP_H

enum { RG_UV_FILES = 2048 };

void rg_uv_use_our_heap(void);

#endif
