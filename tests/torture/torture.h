/* torture.h - what the runner and the scenarios of the malloc torture share.
 *
 * A run is a process of its own: it does what its scenario says while one allocation fails (or all
 * from one on), and ends.  A daemon's run has a second thread, the driver, that is its client.
 * Lifetime   a report lies in memory that the run and the runner share. */
#ifndef TORTURE_H
#define TORTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ARGS_MAX = 24, ANSWER_BYTES = 64 << 10, WHY_BYTES = 3000 };

struct report {
    int64_t n_allocations;     /* while armed */
    bool said_error;           /* the client saw that something failed */
    char why[WHY_BYTES];       /* what the run itself found wrong; "" is good */
    char answer[ANSWER_BYTES]; /* what came without failures, made comparable */
};

struct mode {
    int64_t n;     /* the allocation that fails; 0: none */
    bool all_after; /* it and every later one */
};

/* The client of a daemon in the same process. */
struct driver {
    struct report *report;
    const char *expected; /* the answer of the run without failures; NULL in that run */
    struct mode mode;
    int log_fd; /* what the daemon writes to stderr */
    int port;
    char model[64];
    bool armed;
    int64_t armed_at; /* rg_mem_count() then */
    atomic_bool main_returned;
};

struct scenario {
    const char *name;
    const char *args[ARGS_MAX]; /* of renga; MODEL, IDS and OUT are replaced by paths */
    const char *input;          /* stdin, or NULL */
    bool output_differs;        /* from run to run, such as times */
    void (*drive)(struct driver *d); /* NULL: a command that ends by itself */
    bool may_be_killed; /* its SIGTERM may come when nobody catches it any more */
    bool driver_arms;                /* else the first allocation of main() is number 1 */
};

extern const struct scenario scenarios[];
extern const size_t n_scenarios;

#endif
