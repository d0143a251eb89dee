/* rank.c - a heap of the k highest so far, the lowest of them on top. */
#include "engine/rank.h"

#include <assert.h>
#include <stdbool.h>

static bool higher(const float *z, uint32_t a, uint32_t b)
{
    return z[a] > z[b] || (z[a] >= z[b] && a < b);
}

static void sift_down(const float *z, uint32_t *heap, uint32_t n, uint32_t at)
{
    const uint32_t id = heap[at];

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= n)
            break;
        if (child + 1 < n && higher(z, heap[child], heap[child + 1]))
            child++;
        if (!higher(z, id, heap[child]))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = id;
}

void rg_rank_top(const float *z, uint32_t n, uint32_t k, uint32_t *ids)
{
    assert(k >= 1 && k <= n);
    for (uint32_t i = 0; i < k; i++)
        ids[i] = i;
    for (uint32_t i = k / 2; i > 0; i--)
        sift_down(z, ids, k, i - 1);
    /* An equal value with a higher id never gets in. */
    for (uint32_t i = k; i < n; i++)
        if (z[i] > z[ids[0]]) {
            ids[0] = i;
            sift_down(z, ids, k, 0);
        }
    for (uint32_t m = k - 1; m > 0; m--) {
        const uint32_t lowest = ids[0];

        ids[0] = ids[m];
        ids[m] = lowest;
        sift_down(z, ids, m, 0);
    }
}
