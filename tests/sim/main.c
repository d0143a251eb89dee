/* main.c - runs histories of simulated clusters.
 *
 * usage: sim --seeds A-B [--trace] [--expect-failure]
 *
 * Each seed is one history; a seed that fails is named, and `sim --seeds N-N --trace` shows it.
 * --expect-failure: exit status 0 when a seed fails (for cores with a planted bug).  The last line
 * is `N passed, N failed`. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/sim.h"

enum { ALL_FAULTS_SEEDS = 2000 };

static uint64_t seed_now;
static bool expects_failure;

/* An assert of the core: the seed that led to it must be known. */
static void on_abort(int number)
{
    char text[64];
    const int n = snprintf(text, sizeof text, "sim: an assert failed in seed %llu\n",
                           (unsigned long long)seed_now);

    (void)number;
    (void)!write(STDOUT_FILENO, text, (size_t)n);
    _exit(expects_failure ? 0 : 1);
}

static void restart(struct world *w, uint32_t node)
{
    if (w->nodes[node].process != DEAD || node == w->gone)
        return;
    w->faults[FAULT_RESTART] += w->nodes[node].life > 0;
    sim_boot(w, node);
}

static void happen(struct world *w, const struct event *e)
{
    switch (e->kind) {
    case EV_TICK:
        if (w->nodes[e->a].life == e->life)
            sim_tick(w, e->a);
        break;
    case EV_ACCEPT:
        sim_accept(w, e->link);
        break;
    case EV_OPENED:
        sim_opened(w, e->link);
        break;
    case EV_PUMP:
        sim_pump(w, e->link, e->a);
        break;
    case EV_STEP:
        sim_step(w, e);
        break;
    case EV_RING_DOWN:
        sim_ring_down(w, e);
        break;
    case EV_LOADED:
        sim_late_loaded(w, e);
        break;
    case EV_CRASH:
        sim_crash(w, e);
        break;
    case EV_RESET:
        sim_reset(w, e);
        break;
    case EV_RESTART:
        restart(w, e->a);
        break;
    case EV_RESUME:
        if (w->nodes[e->a].life == e->life)
            sim_resume(w, e->a);
        break;
    case EV_UNSTICK:
        w->nodes[e->a].stuck = w->nodes[e->a].busy = false;
        break;
    case EV_BLOCK:
        sim_block(w, e);
        break;
    case EV_TURN:
        sim_turn(w, e);
        break;
    case EV_UNSLOW:
        w->nodes[e->a].slow_ms = 0;
        break;
    case EV_UNBLOCK:
        sim_unblock(w, e);
        break;
    case EV_FAULT:
        sim_fault(w);
        break;
    case EV_QUIET:
        sim_be_quiet(w);
        break;
    }
}

static void begin(struct world *w, uint64_t seed, bool trace)
{
    static const int64_t graces_ms[] = {0, 200, 1000, 3000, 15000};

    memset(w, 0, sizeof *w);
    w->seed = w->random = seed;
    w->trace = trace;
    w->converged_at = NEVER;
    w->delay_ms = 1;
    w->n_nodes = 2 + (uint32_t)sim_random(w, NODES_MAX - 1);
    if (w->n_nodes > 2 && sim_chance(w, 5))
        w->odd = 1 + (uint32_t)sim_random(w, w->n_nodes - 1);
    w->odd_head = sim_chance(w, 50);
    if (w->odd)
        w->faults[w->odd_head ? FAULT_OTHER_FILE : FAULT_OTHER_MODEL]++;
    w->rival = sim_chance(w, 25);
    w->faults[FAULT_TWO_HEADS] += w->rival;
    w->gone = WORLD_MAX;
    for (uint32_t i = 0; i < HEADS; i++)
        w->lots[i] = (struct lot){.w = w, .head = i ? RIVAL : 0};
    w->wait_for = (uint32_t)sim_random(w, w->n_nodes - (w->odd ? 1 : 0));
    w->need = (uint32_t)sim_random(w, w->n_nodes - (w->odd ? 1 : 0));
    w->grace_ms = graces_ms[sim_random(w, sizeof graces_ms / sizeof *graces_ms)];
    sim_plan_faults(w);
    sim_trace(w, WORLD_MAX, "%u nodes, waits for %u, needs %u, %d ms for lost ones%s%s", w->n_nodes,
              w->wait_for, w->need, (int)w->grace_ms, w->rival ? ", and a second head" : "",
              w->hostile ? ", peers that repeat themselves" : "");
    /* The second head is there from the beginning, or comes when the first has its workers. */
    if (w->rival)
        sim_at(w, (int64_t)sim_random(w, sim_chance(w, 50) ? 500 : 20000) * MS,
               (struct event){.kind = EV_RESTART, .a = RIVAL});
    for (uint32_t i = 0; i < w->n_nodes; i++)
        sim_at(w, (int64_t)sim_random(w, 500) * MS, (struct event){.kind = EV_RESTART, .a = i});
}

static void end(struct world *w)
{
    for (uint32_t i = 0; i < WORLD_MAX; i++) {
        rg_membership_close(w->nodes[i].m);
        rg_member_actions_free(&w->nodes[i].actions);
    }
    sim_network_free(w);
    rg_free(w->histories);
    rg_free(w->events);
}

struct totals {
    uint64_t events, plans, steps, tokens;
    int64_t slowest; /* from the last fault to a plan that runs everywhere, ns */
    uint64_t slowest_seed;
    uint64_t faults[FAULTS];
};

/* True: nothing was wrong with it. */
static bool run(uint64_t seed, bool trace, struct totals *t)
{
    const int64_t live = rg_mem_live();
    struct world *w = sim_must(rg_alloc(sizeof *w));
    bool good;

    seed_now = seed;
    begin(w, seed, trace);
    while (!w->done) {
        const struct event e = sim_next(w);

        happen(w, &e);
    }
    t->events += w->order;
    t->plans += w->n_histories;
    t->steps += w->steps_done;
    t->tokens += w->tokens_told;
    for (uint32_t i = 0; i < FAULTS; i++)
        t->faults[i] += w->faults[i];
    if (!w->failed && w->converged_at - w->quiet_at > t->slowest) {
        t->slowest = w->converged_at - w->quiet_at;
        t->slowest_seed = seed;
    }
    end(w);
    good = !w->failed;
    if (!good)
        printf("seed %llu: %s\n  see it: sim --seeds %llu-%llu --trace\n", (unsigned long long)seed,
               w->why, (unsigned long long)seed, (unsigned long long)seed);
    rg_free(w);
    if (good && rg_mem_live() != live) {
        printf("seed %llu: %lld blocks of memory are lost\n", (unsigned long long)seed,
               (long long)(rg_mem_live() - live));
        good = false;
    }
    (void)fflush(stdout);
    return good;
}

static double seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool parse_seeds(const char *text, uint64_t *first, uint64_t *last)
{
    char *end_at;

    *first = *last = strtoull(text, &end_at, 10);
    if (end_at != text && *end_at == '-')
        *last = strtoull(end_at + 1, &end_at, 10);
    return end_at != text && *end_at == 0 && *first <= *last;
}

/* A kind of fault that did not occur in so many histories is not tested. */
static bool tell_faults(const struct totals *t, uint64_t n)
{
    bool all = true;

    for (uint32_t i = 0; i < FAULTS; i++) {
        printf("%s%s %llu", i ? ", " : "faults: ", sim_fault_names[i],
               (unsigned long long)t->faults[i]);
        all = all && t->faults[i] > 0;
    }
    printf("\n");
    if (!all && n >= ALL_FAULTS_SEEDS)
        printf("a kind of fault did not occur\n");
    return all || n < ALL_FAULTS_SEEDS;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = 1000, failed = 0, n = 0;
    const double began = seconds();
    struct totals t = {0};
    bool trace = false;
    double took;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--expect-failure") == 0) {
            expects_failure = true;
        } else if (strcmp(argv[i], "--seeds") != 0 || i + 1 == argc ||
                   !parse_seeds(argv[++i], &first, &last)) {
            (void)fprintf(stderr, "usage: sim --seeds A-B [--trace] [--expect-failure]\n");
            return 2;
        }
    }
    (void)signal(SIGABRT, on_abort);
    for (uint64_t seed = first; seed <= last && failed < (expects_failure ? 1 : 10); seed++, n++)
        failed += !run(seed, trace, &t);
    took = seconds() - began;
    printf("%.0f histories/s; %llu events, %llu plans, %llu steps, %llu tokens\n", (double)n / took,
           (unsigned long long)t.events, (unsigned long long)t.plans, (unsigned long long)t.steps,
           (unsigned long long)t.tokens);
    printf("the slowest to recover: %.1f s, seed %llu\n", (double)t.slowest / 1e9,
           (unsigned long long)t.slowest_seed);
    if (!expects_failure)
        failed += !tell_faults(&t, n);
    printf("%llu passed, %llu failed\n", (unsigned long long)(n - failed),
           (unsigned long long)failed);
    return (failed > 0) == expects_failure ? 0 : 1;
}
