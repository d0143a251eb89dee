/* faults.c - what goes wrong in a history, and when; after sim_be_quiet() nothing does. */
#include <string.h>

#include "base/limits.h"
#include "tests/sim/sim.h"

const char *const sim_fault_names[FAULTS] = {
    [FAULT_KILL] = "killed",
    [FAULT_POWER] = "without power",
    [FAULT_RESTART] = "started again",
    [FAULT_PAUSE] = "stopped for a while",
    [FAULT_CUT_ONE_WAY] = "cut one way",
    [FAULT_CUT] = "cut both ways",
    [FAULT_ISOLATED] = "cut off from all",
    [FAULT_WAY_FLAPS] = "way comes and goes",
    [FAULT_NODE_FLAPS] = "node comes and goes",
    [FAULT_RESET] = "link reset",
    [FAULT_HALF_OPEN] = "link reset at one end",
    [FAULT_LOST] = "message lost",
    [FAULT_DELAY] = "messages late",
    [FAULT_REORDERED] = "overtaken by another connection's",
    [FAULT_REPEATED] = "message again",
    [FAULT_STEP_REPEATED] = "step again",
    [FAULT_STREAM] = "step stream broken",
    [FAULT_STUCK] = "stuck",
    [FAULT_SLOW] = "slow",
    [FAULT_LOAD] = "load failed",
    [FAULT_MEMORY] = "out of memory",
    [FAULT_TWO_HEADS] = "two heads",
    [FAULT_SECOND_AWAY] = "second head turned away",
    [FAULT_HEAD_TAKES_OVER] = "worker taken over by the other head",
    [FAULT_OTHER_FILE] = "node whose file names another head",
    [FAULT_OTHER_MODEL] = "node with another model",
};

static uint32_t any_node(struct world *w)
{
    return sim_nth(w, (uint32_t)sim_random(w, sim_population(w)));
}

static int64_t later(struct world *w, uint64_t least_ms, uint64_t most_ms)
{
    return w->now + (int64_t)(least_ms + sim_random(w, most_ms - least_ms)) * MS;
}

static void crash(struct world *w, uint32_t i, uint32_t other)
{
    const bool unplugged = sim_chance(w, 30);

    (void)other;
    if (w->nodes[i].process == DEAD)
        return;
    w->faults[unplugged ? FAULT_POWER : FAULT_KILL]++;
    sim_trace(w, i, "FAULT %s", unplugged ? "loses its power" : "is killed");
    sim_kill(w, i, unplugged);
    sim_at(w, later(w, 50, 9000), (struct event){.kind = EV_RESTART, .a = i});
}

static void pause_node(struct world *w, uint32_t i, uint32_t other)
{
    (void)other;
    if (w->nodes[i].process != ALIVE)
        return;
    sim_trace(w, i, "FAULT is stopped");
    w->faults[FAULT_PAUSE]++;
    w->nodes[i].process = PAUSED;
    sim_at(w, later(w, 100, 9000),
           (struct event){.kind = EV_RESUME, .a = i, .life = w->nodes[i].life});
}

static void block(struct world *w, uint32_t a, uint32_t b, int64_t until)
{
    w->blocked[a][b] = true;
    sim_at(w, until, (struct event){.kind = EV_UNBLOCK, .a = a, .b = b});
}

static void cut_way(struct world *w, uint32_t a, uint32_t b)
{
    const int64_t until = later(w, 100, 9000);
    const bool both = sim_chance(w, 50);

    w->faults[both ? FAULT_CUT : FAULT_CUT_ONE_WAY]++;
    sim_trace(w, a, "FAULT nothing gets to n%u%s", b, both ? " and back" : "");
    block(w, a, b, until);
    if (both)
        block(w, b, a, until);
}

static void isolate(struct world *w, uint32_t a, uint32_t other)
{
    const int64_t until = later(w, 100, 9000);

    (void)other;
    sim_trace(w, a, "FAULT is cut off");
    w->faults[FAULT_ISOLATED]++;
    for (uint32_t k = 0; k < WORLD_MAX; k++) {
        if (k == a)
            continue;
        block(w, a, k, until);
        block(w, k, a, until);
    }
}

static void flap(struct world *w, uint32_t a, uint32_t b)
{
    sim_trace(w, a, "FAULT the way to n%u comes and goes", b);
    w->faults[FAULT_WAY_FLAPS]++;
    for (uint32_t i = 0; i < 8; i++)
        sim_at(w, w->now + i * 1000 * MS, (struct event){.kind = EV_BLOCK, .a = a, .b = b});
}

/* The connection breaks: both hear of it, or one alone. */
static void reset_link(struct world *w, uint32_t a, uint32_t node)
{
    const uint32_t b = sim_number(node);
    const bool silent = sim_chance(w, 50);
    struct link *l = w->nodes[a].links[b];
    uint32_t end;

    if (!l || !w->nodes[a].up[b] || w->nodes[a].process != ALIVE)
        return;
    end = l->node[0] == a ? 0 : 1;
    sim_trace(w, a, "FAULT the link to n%u breaks", b);
    w->nodes[a].links[b] = NULL;
    w->faults[silent ? FAULT_HALF_OPEN : FAULT_RESET]++;
    sim_close(w, l, end, silent);
    sim_link_down(w, a, b, "connection reset");
}

/* The process ends every few seconds and is started again at once, or its links break. */
static void flap_node(struct world *w, uint32_t a, uint32_t b)
{
    const uint64_t every_ms = 1000 + sim_random(w, 2500), times = 5 + sim_random(w, 15);
    const bool links = sim_chance(w, 50);

    (void)b;
    if (!sim_chance(w, 15)) /* or nobody is there */
        return;
    sim_trace(w, a, "FAULT comes and goes, every %d ms", (int)every_ms);
    w->faults[FAULT_NODE_FLAPS]++;
    for (uint64_t i = 0; i < times; i++)
        sim_at(w, w->now + (int64_t)(i * every_ms) * MS,
               (struct event){.kind = links ? EV_RESET : EV_CRASH, .a = a});
}

void sim_reset(struct world *w, const struct event *e)
{
    for (uint32_t k = 0; k < w->n_nodes && !w->quiet; k++)
        reset_link(w, e->a, k);
}

void sim_crash(struct world *w, const struct event *e)
{
    if (w->quiet || w->nodes[e->a].process == DEAD)
        return;
    sim_trace(w, e->a, "FAULT is killed");
    w->faults[FAULT_KILL]++;
    sim_kill(w, e->a, false);
    sim_at(w, later(w, 50, 500), (struct event){.kind = EV_RESTART, .a = e->a});
}

static void break_stream(struct world *w, uint32_t i, uint32_t other)
{
    const struct part *p = &w->nodes[i].part;

    (void)other;
    if (!p->active || !p->told || w->nodes[i].process != ALIVE)
        return;
    sim_trace(w, i, "FAULT its step streams break");
    w->faults[FAULT_STREAM]++;
    sim_end_streams(w, i, false);
    sim_at(w, w->now + sim_delay(w),
           (struct event){
               .kind = EV_RING_DOWN, .a = i, .life = w->nodes[i].life, .epoch = p->plan.epoch});
}

static void get_stuck(struct world *w, uint32_t i, uint32_t other)
{
    (void)other;
    if (w->nodes[i].stuck)
        return;
    sim_trace(w, i, "FAULT its steps get stuck");
    w->faults[FAULT_STUCK]++;
    w->nodes[i].stuck = true;
    sim_at(w, later(w, 1000, 12000), (struct event){.kind = EV_UNSTICK, .a = i});
}

static void slow_down(struct world *w, uint32_t a, uint32_t b)
{
    static const int64_t delays_ms[] = {1, 1, 10, 100, 400};

    (void)b;
    w->delay_ms = delays_ms[sim_random(w, 5)];
    w->faults[FAULT_DELAY] += w->delay_ms >= 100;
    sim_trace(w, a, "FAULT messages take up to %d ms", (int)w->delay_ms);
}

static void slow_node(struct world *w, uint32_t i, uint32_t other)
{
    static const int64_t slow_ms[] = {20, 100, 300, 800};

    (void)other;
    w->faults[FAULT_SLOW]++;
    w->nodes[i].slow_ms = slow_ms[sim_random(w, 4)];
    sim_trace(w, i, "FAULT is slow: %d ms", (int)w->nodes[i].slow_ms);
    sim_at(w, later(w, 500, 12000), (struct event){.kind = EV_UNSLOW, .a = i});
}

static void repeat_step(struct world *w, uint32_t i, uint32_t other)
{
    (void)other;
    sim_repeat_step(w, i);
}

static void repeat(struct world *w, uint32_t a, uint32_t b)
{
    if (w->hostile && w->nodes[a].process == ALIVE)
        sim_repeat(w, a, b);
}

typedef void fault_fn(struct world *w, uint32_t node, uint32_t other);

static fault_fn *const faults[] = {crash,        crash,     pause_node, cut_way,     isolate,
                                   flap,         flap_node, reset_link, reset_link,  get_stuck,
                                   break_stream, slow_down, slow_node,  repeat_step, repeat,
                                   repeat,       repeat};

void sim_fault(struct world *w)
{
    const uint32_t a = any_node(w);
    uint32_t b = any_node(w);

    if (w->quiet)
        return;
    while (b == a)
        b = any_node(w);
    faults[sim_random(w, sizeof faults / sizeof *faults)](w, a, b);
    sim_at(w, later(w, 1, (uint64_t)w->fault_every_ms * 2), (struct event){.kind = EV_FAULT});
}

void sim_block(struct world *w, const struct event *e)
{
    if (w->quiet)
        return;
    block(w, e->a, e->b, w->now + 500 * MS);
    block(w, e->b, e->a, w->now + 500 * MS);
}

void sim_unblock(struct world *w, const struct event *e)
{
    w->blocked[e->a][e->b] = false;
}

void sim_plan_faults(struct world *w)
{
    static const int64_t every_ms[] = {100, 400, 1000, 3000};

    w->fault_every_ms = every_ms[sim_random(w, 4)];
    w->hostile = sim_chance(w, 25);
    w->quiet_at = (int64_t)(1000 + sim_random(w, 30000)) * MS;
    sim_at(w, w->quiet_at, (struct event){.kind = EV_QUIET});
    /* Some histories go well from the first moment. */
    if (!sim_chance(w, 5))
        sim_at(w, later(w, 1, 4000), (struct event){.kind = EV_FAULT});
}

/* Of two heads one may die for good. */
static void bury_a_head(struct world *w)
{
    if (!w->rival || !sim_chance(w, 70))
        return;
    w->gone = w->nodes[0].part.started || (!w->nodes[RIVAL].part.started && sim_chance(w, 50))
                  ? 0
                  : RIVAL;
    sim_resume(w, w->gone);
    sim_trace(w, w->gone, "dies for good");
    sim_kill(w, w->gone, sim_chance(w, 30));
}

static void heal(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];

    n->stuck = n->busy = n->part.fails = false;
    n->slow_ms = 0;
    if (n->part.ready_at > w->now)
        n->part.ready_at = w->now;
    sim_resume(w, i);
    if (n->process == DEAD && i != w->gone) {
        const int64_t at = later(w, 1, 2000);

        sim_at(w, at, (struct event){.kind = EV_RESTART, .a = i});
        w->quiet_at = at > w->quiet_at ? at : w->quiet_at;
    }
}

void sim_be_quiet(struct world *w)
{
    w->quiet = true;
    w->delay_ms = 1;
    sim_trace(w, WORLD_MAX, "no more faults");
    memset(w->blocked, 0, sizeof w->blocked);
    bury_a_head(w);
    for (uint32_t i = 0; i < sim_population(w); i++)
        heal(w, sim_nth(w, i));
}
