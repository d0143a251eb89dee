/* world.c - time, random numbers and the trace of one simulated history. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

/* splitmix64: every seed is as good as another. */
uint64_t sim_random(struct world *w, uint64_t below)
{
    uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

bool sim_chance(struct world *w, uint64_t percent)
{
    return sim_random(w, 100) < percent;
}

/* Mostly short, sometimes long. */
int64_t sim_delay(struct world *w)
{
    const uint64_t most = (uint64_t)w->delay_ms * (sim_chance(w, 5) ? 3 : 1);

    return (int64_t)sim_random(w, most * 1000 + 100) * 1000 + 50000;
}

void *sim_must(void *p)
{
    if (p)
        return p;
    (void)fprintf(stderr, "sim: out of memory\n");
    _Exit(2);
}

/* A step or message overtakes one of another connection. */
void sim_arrives(struct world *w, uint32_t i, int64_t sent)
{
    struct node *n = &w->nodes[i];

    if (sent < n->latest)
        w->faults[FAULT_REORDERED]++;
    else
        n->latest = sent;
}

static bool before(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

void sim_at(struct world *w, int64_t at, struct event e)
{
    size_t i = w->n_events++;
    void *items = w->events;

    if (rg_grow(&items, &w->events_capacity, w->n_events, sizeof e, NULL))
        (void)sim_must(NULL);
    w->events = items;
    e.at = at;
    e.order = w->order++;
    for (; i > 0 && before(&e, &w->events[(i - 1) / 2]); i = (i - 1) / 2)
        w->events[i] = w->events[(i - 1) / 2];
    w->events[i] = e;
}

struct event sim_next(struct world *w)
{
    const struct event first = w->events[0], last = w->events[--w->n_events];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= w->n_events)
            break;
        if (child + 1 < w->n_events && before(&w->events[child + 1], &w->events[child]))
            child++;
        if (!before(&w->events[child], &last))
            break;
        w->events[i] = w->events[child];
        i = child;
    }
    w->events[i] = last;
    w->now = first.at;
    return first;
}

RG_PRINTF(3, 0)
static void print(const struct world *w, uint32_t node, const char *format, va_list args)
{
    printf("%9.3f  ", (double)w->now / 1e9);
    if (node == RIVAL)
        printf("n0* "); /* the rival */
    else if (node < NODES_MAX)
        printf("n%u  ", node);
    else
        printf("    ");
    (void)vprintf(format, args);
    printf("\n");
}

void sim_trace(const struct world *w, uint32_t node, const char *format, ...)
{
    va_list args;

    if (!w->trace)
        return;
    va_start(args, format);
    print(w, node, format, args);
    va_end(args);
}

void sim_fail(struct world *w, uint32_t node, const char *format, ...)
{
    va_list args;
    int n;

    if (w->failed)
        return;
    w->failed = w->done = true;
    n = snprintf(w->why, sizeof w->why, "at %.3f s, n%u: ", (double)w->now / 1e9, node);
    va_start(args, format);
    (void)vsnprintf(w->why + n, sizeof w->why - (size_t)n, format, args);
    va_end(args);
    sim_trace(w, WORLD_MAX, "VIOLATION %s", w->why);
}
