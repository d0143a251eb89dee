/* step_times_test.c - do several nodes work at the same time?  The engine over stages that take a
 * known time: first on a clock of their own, exactly, then with threads that really sleep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <pthread.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

enum {
    VOCAB_SIZE = 8,
    STAGES_MOST = 4,
    DEPTH_MOST = 8,
    LINK_US = 200,        /* one hop */
    STEP_US = 5000,       /* one stage, whatever the rows: reading its weights */
    PROMPT_ROW_US = 100,  /* and for each prefill row */
    CHUNK = 64
};

struct flight {
    struct rg_pipe_step *step;
    int64_t at_head_us; /* the exact clock: when the workers are done with it */
    uint32_t n_workers_done; /* the threads */
};

struct timed {
    struct rg_pipeline base;
    struct flight queue[DEPTH_MOST]; /* the oldest first */
    uint32_t n_queued;
    int64_t now_us, free_us[STAGES_MOST], busy_us[STAGES_MOST];
    int64_t begin_us;
    atomic_bool is_shut;

    bool has_threads; /* then the rest is used, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t change;
    pthread_t threads[STAGES_MOST];
    uint64_t n_begun[STAGES_MOST], n_gone; /* steps that a stage took; that were collected */
    bool stop;
};

static struct timed timed;

static int64_t cost_us(const struct rg_pipe_step *step)
{
    const uint32_t n_rows = step->batch.n_rows;

    return STEP_US + (n_rows > step->batch.n_seqs ? (int64_t)n_rows * PROMPT_ROW_US : 0);
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void pass_gate(const struct timed *t)
{
    while (atomic_load(&t->is_shut))
        usleep(100);
}

static void write_logits(const struct rg_pipe_step *step)
{
    memset(step->logits, 0, (size_t)step->n_logit_rows * VOCAB_SIZE * sizeof(*step->logits));
}

/* ---- on a clock of their own ------------------------------------------------------------- */

static enum rg_code submit_exactly(struct rg_pipeline *p, struct rg_pipe_step *step,
                                   struct rg_err *err)
{
    struct timed *t = (struct timed *)p;
    int64_t at = t->now_us;

    (void)err;
    assert_true(t->n_queued < p->depth);
    for (uint32_t s = 0; s + 1 < p->stages; s++) {
        at = later(at + LINK_US, t->free_us[s]) + cost_us(step);
        t->free_us[s] = at;
        t->busy_us[s] += cost_us(step);
    }
    t->queue[t->n_queued++] = (struct flight){.step = step, .at_head_us = at + LINK_US};
    return RG_OK;
}

/* The head's own layers run on the thread that collects, as in a ring. */
static enum rg_code collect_exactly(struct rg_pipeline *p, struct rg_pipe_step **step,
                                    struct rg_err *err)
{
    struct timed *t = (struct timed *)p;

    (void)err;
    pass_gate(t);
    *step = t->queue[0].step;
    t->now_us = later(t->now_us, t->queue[0].at_head_us) + cost_us(*step);
    t->busy_us[p->stages - 1] += cost_us(*step);
    memmove(t->queue, t->queue + 1, --t->n_queued * sizeof(*t->queue));
    write_logits(*step);
    return RG_OK;
}

static void close_nothing(struct rg_pipeline *p)
{
    (void)p;
}

static const struct rg_pipeline_ops exact_ops = {
    .submit = submit_exactly, .collect = collect_exactly, .close = close_nothing};

/* ---- with threads ------------------------------------------------------------------------ */

static void sleep_us(int64_t us)
{
    const struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

    nanosleep(&t, NULL);
}

/* Sleeps for the step, and counts what it took: a machine with other work wakes it late. */
static void compute(struct timed *t, uint32_t stage, const struct rg_pipe_step *step)
{
    const int64_t begin = rg_clock_ns();

    sleep_us(cost_us(step));
    pthread_mutex_lock(&t->lock);
    t->busy_us[stage] += (rg_clock_ns() - begin) / 1000;
    pthread_mutex_unlock(&t->lock);
}

/* The next step for a stage, or NULL when none is ready; lock held. */
static struct flight *next_for(struct timed *t, uint32_t stage)
{
    const uint64_t at = t->n_begun[stage] - t->n_gone;

    if (at >= t->n_queued || t->queue[at].n_workers_done != stage)
        return NULL;
    return &t->queue[at];
}

struct worker {
    struct timed *t;
    uint32_t stage;
};

static struct worker workers[STAGES_MOST];

static void *work(void *arg)
{
    struct timed *t = ((const struct worker *)arg)->t;
    const uint32_t stage = ((const struct worker *)arg)->stage;

    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        const struct flight *f = next_for(t, stage);
        const struct rg_pipe_step *step;
        uint64_t number;

        if (!f) {
            pthread_cond_wait(&t->change, &t->lock);
            continue;
        }
        step = f->step;
        number = t->n_begun[stage]++;
        pthread_mutex_unlock(&t->lock);
        compute(t, stage, step);
        pthread_mutex_lock(&t->lock);
        t->queue[number - t->n_gone].n_workers_done++;
        pthread_cond_broadcast(&t->change);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static enum rg_code submit_to_threads(struct rg_pipeline *p, struct rg_pipe_step *step,
                                      struct rg_err *err)
{
    struct timed *t = (struct timed *)p;

    (void)err;
    pthread_mutex_lock(&t->lock);
    t->queue[t->n_queued++] = (struct flight){.step = step};
    pthread_cond_broadcast(&t->change);
    pthread_mutex_unlock(&t->lock);
    return RG_OK;
}

static enum rg_code collect_from_threads(struct rg_pipeline *p, struct rg_pipe_step **step,
                                         struct rg_err *err)
{
    struct timed *t = (struct timed *)p;

    (void)err;
    pass_gate(t);
    if (t->begin_us == 0)
        t->begin_us = rg_clock_ns() / 1000;
    pthread_mutex_lock(&t->lock);
    while (t->queue[0].n_workers_done + 1 < p->stages)
        pthread_cond_wait(&t->change, &t->lock);
    *step = t->queue[0].step;
    pthread_mutex_unlock(&t->lock);
    compute(t, p->stages - 1, *step);
    pthread_mutex_lock(&t->lock);
    memmove(t->queue, t->queue + 1, --t->n_queued * sizeof(*t->queue));
    t->n_gone++;
    t->now_us = rg_clock_ns() / 1000;
    pthread_mutex_unlock(&t->lock);
    write_logits(*step);
    return RG_OK;
}

static void close_threads(struct rg_pipeline *p)
{
    struct timed *t = (struct timed *)p;

    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->change);
    pthread_mutex_unlock(&t->lock);
    for (uint32_t s = 0; s + 1 < p->stages; s++)
        pthread_join(t->threads[s], NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->change);
}

static const struct rg_pipeline_ops thread_ops = {
    .submit = submit_to_threads, .collect = collect_from_threads, .close = close_threads};

/* ---- runs -------------------------------------------------------------------------------- */

static pthread_mutex_t ends_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ends_change = PTHREAD_COND_INITIALIZER;
static uint32_t n_ends;

static void on_event(void *ud, const struct rg_event *event)
{
    (void)ud;
    if (event->kind != RG_EVENT_END)
        return;
    assert_int_equal(event->reason, RG_END_LENGTH);
    pthread_mutex_lock(&ends_lock);
    n_ends++;
    pthread_cond_signal(&ends_change);
    pthread_mutex_unlock(&ends_lock);
}

struct load {
    uint32_t stages, depth, n_streams, n_prompt, n_tokens;
    bool has_threads;
};

static struct rg_engine *open_timed(const struct load *l)
{
    const struct rg_engine_options options = {
        .context = 2048, .parallel = l->n_streams, .chunk_rows = CHUNK};
    struct rg_engine *e;

    memset(&timed, 0, sizeof(timed));
    timed.base = (struct rg_pipeline){.ops = l->has_threads ? &thread_ops : &exact_ops,
                                      .depth = l->depth,
                                      .stages = l->stages,
                                      .vocab_size = VOCAB_SIZE,
                                      .n_blocks = l->n_streams * 32,
                                      .block_tokens = 64};
    timed.is_shut = true;
    if (l->has_threads) {
        pthread_mutex_init(&timed.lock, NULL);
        pthread_cond_init(&timed.change, NULL);
        for (uint32_t s = 0; s + 1 < l->stages; s++) {
            workers[s] = (struct worker){.t = &timed, .stage = s};
            assert_int_equal(pthread_create(&timed.threads[s], NULL, work, &workers[s]), 0);
        }
    }
    assert_int_equal(rg_engine_open(&e, &timed.base, &options, NULL), RG_OK);
    return e;
}

/* Runs it; returns the time from the first step's end to the last one's.  Idle: the largest share
 * of it that a stage stood still. */
static double run_load(const struct load *l, double *idle)
{
    static const int32_t prompt[2048];
    const struct rg_request request = {
        .tokens = prompt,
        .n_tokens = l->n_prompt,
        .max_tokens = l->n_tokens,
        .sampling = {.top_p = 1.0f, .repetition_penalty = 1.0f},
        .on_event = on_event};
    struct rg_engine *e = open_timed(l);
    int64_t busy_least = INT64_MAX;
    double all_us;
    uint64_t id;

    n_ends = 0;
    for (uint32_t i = 0; i < l->n_streams; i++)
        assert_int_equal(rg_engine_submit(e, &request, &id, NULL), RG_OK);
    atomic_store(&timed.is_shut, false);
    pthread_mutex_lock(&ends_lock);
    while (n_ends < l->n_streams)
        pthread_cond_wait(&ends_change, &ends_lock);
    pthread_mutex_unlock(&ends_lock);
    rg_engine_close(e);
    all_us = (double)(timed.now_us - timed.begin_us);
    for (uint32_t s = 0; s < l->stages; s++)
        if (timed.busy_us[s] < busy_least)
            busy_least = timed.busy_us[s];
    *idle = 1.0 - (double)busy_least / all_us;
    return all_us / 1e6;
}

static double idle_of(const struct load *l)
{
    double idle;
    const double seconds = run_load(l, &idle);

    print_message("%s: %u stages, %u steps, %u streams: %.1f tokens/s, a stage idle %.1f %%\n",
                  l->has_threads ? "asleep" : "exact", l->stages, l->depth, l->n_streams,
                  (double)l->n_streams * l->n_tokens / seconds, 100.0 * idle);
    return idle;
}

/* How much faster a prompt of 16 chunks is through all stages at once. */
static double prefill_gain(uint32_t stages, uint32_t depth, bool has_threads)
{
    const struct load one_step = {stages, 1, 1, 16 * CHUNK, 1, has_threads};
    const struct load steps = {stages, depth, 1, 16 * CHUNK, 1, has_threads};
    double idle;
    const double one_s = run_load(&one_step, &idle), all_s = run_load(&steps, &idle);

    print_message("%s: 16 chunks through %u stages: %.3f s one by one, %.3f s with %u steps: "
                  "%.2f times as fast\n",
                  has_threads ? "asleep" : "exact", stages, one_s, all_s, depth, one_s / all_s);
    return one_s / all_s;
}

static void enough_streams_keep_every_stage_busy(void **state)
{
    (void)state;
    for (uint32_t stages = 2; stages <= STAGES_MOST; stages++)
        for (uint32_t extra = 0; extra < 2; extra++) {
            const struct load l = {.stages = stages,
                                   .depth = stages + extra,
                                   .n_streams = 2 * stages,
                                   .n_prompt = 10,
                                   .n_tokens = 300};

            /* What is left is the link: 0.2 ms for each step of 5 ms. */
            assert_true(idle_of(&l) <= 0.05);
        }
}

static void a_single_stream_is_not_kept_waiting(void **state)
{
    const struct load l = {
        .stages = 2, .depth = 3, .n_streams = 1, .n_prompt = 10, .n_tokens = 100};
    double idle;
    const double seconds = run_load(&l, &idle);

    (void)state;
    /* Each token goes through both stages and over two links, and through nothing else. */
    assert_true(seconds < 101 * (2 * STEP_US + 2 * LINK_US) / 1e6);
}

static void a_long_prompt_goes_through_all_stages_at_once(void **state)
{
    (void)state;
    assert_true(prefill_gain(2, 2, false) >= 1.8);
    assert_true(prefill_gain(2, 3, false) >= 1.8);
    assert_true(prefill_gain(4, 5, false) >= 3.2);
}

/* The bounds leave room for a machine that is busy with other things. */
static void so_it_is_with_real_threads(void **state)
{
    const struct load l = {.stages = 2,
                           .depth = 3,
                           .n_streams = 4,
                           .n_prompt = 10,
                           .n_tokens = 60,
                           .has_threads = true};

    (void)state;
    assert_true(idle_of(&l) < 0.35);
    assert_true(prefill_gain(2, 3, true) > 1.25);
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(enough_streams_keep_every_stage_busy),
        cmocka_unit_test(a_single_stream_is_not_kept_waiting),
        cmocka_unit_test(a_long_prompt_goes_through_all_stages_at_once),
        cmocka_unit_test(so_it_is_with_real_threads),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
