/* streams.c - what runs over a plan: the head's engine with its clients, and steps around the ring.
 *
 * A model of engine/ and of the ring's rules, small enough to be seen whole.  The next token is a
 * hash of all before it, taken from what every node of the plan keeps as its KV: a step that is
 * computed twice, in another plan or on a KV with a hole gives a client a wrong token, and what a
 * client gets is compared at once with what it would get without faults. */
#include <string.h>

#include "tests/sim/sim.h"

#define HASH_BEGIN 2166136261u

static uint32_t hash_on(uint32_t hash, uint32_t token)
{
    return (hash ^ token) * 16777619u;
}

static uint16_t next_token(uint32_t hash)
{
    return (uint16_t)(hash >> 11);
}

/* ---- clients --------------------------------------------------------------------------------- */

static void ask(struct world *w, struct client *c)
{
    memset(c->tokens, 0, sizeof c->tokens);
    c->n_prompt = c->n_tokens = 1 + (uint32_t)sim_random(w, PROMPT_MOST);
    c->n_want = 1 + (uint32_t)sim_random(w, ANSWER_MOST);
    c->n_told = c->n_sent = 0;
    c->open = true;
    c->hash = HASH_BEGIN;
    for (uint32_t i = 0; i < c->n_prompt; i++) {
        c->tokens[i] = (uint16_t)sim_random(w, UINT16_MAX);
        c->hash = hash_on(c->hash, c->tokens[i]);
    }
}

/* A new process of a head: its clients ask again. */
void sim_clients_begin(struct world *w, uint32_t head)
{
    struct client *clients = w->clients[sim_head_index(head)];

    for (uint32_t i = 0; i < CLIENTS; i++) {
        if (clients[i].open)
            sim_fail(w, head, "client %u asks, and its last request has not ended", i);
        ask(w, &clients[i]);
    }
    w->engines[sim_head_index(head)] = (struct sim_engine){0};
}

/* The head's process ends, and with it its clients' connections. */
void sim_clients_end(struct world *w, uint32_t head)
{
    for (uint32_t i = 0; i < CLIENTS; i++)
        w->clients[sim_head_index(head)][i].open = false;
}

/* The client gets a token of its stream. */
static void tell(struct world *w, uint32_t head, uint32_t i, uint16_t token)
{
    struct client *c = &w->clients[sim_head_index(head)][i];

    if (!c->open)
        sim_fail(w, head, "client %u gets a token after the end of its request", i);
    if (token != next_token(c->hash)) {
        sim_fail(w, head, "client %u gets %u as token %u of its answer, without faults it is %u", i,
                 token, c->n_told, next_token(c->hash));
        return;
    }
    c->hash = hash_on(c->hash, token);
    c->told_at = w->now;
    w->tokens_told++;
    if (++c->n_told > c->n_want)
        sim_fail(w, head, "client %u gets more than the %u tokens that it asked for", i, c->n_want);
}

/* ---- the head's engine ----------------------------------------------------------------------- */

/* What the nodes had is gone with their plan: each answer is computed again from its prompt and the
 * tokens that it has. */
void sim_engine_lost(struct world *w, uint32_t head)
{
    struct sim_engine *e = &w->engines[sim_head_index(head)];
    struct client *clients = w->clients[sim_head_index(head)];

    *e = (struct sim_engine){.next = e->next};
    for (uint32_t i = 0; i < CLIENTS; i++)
        clients[i].n_sent = 0;
}

static void send_step(struct world *w, const struct rg_proposal *plan, uint32_t place,
                      uint32_t from, const struct step *s)
{
    const uint32_t to = sim_node_at(plan, place);
    struct node *n = &w->nodes[to];
    struct step *at;

    if (n->n_steps == STEPS_MOST) { /* nobody takes them: the oldest were of plans long gone */
        n->step_at = (n->step_at + 1) % STEPS_MOST;
        n->n_steps--;
    }
    at = &n->steps[(n->step_at + n->n_steps++) % STEPS_MOST];
    *at = *s;
    at->from = from;
    at->sent = w->now;
    at->due = w->now + sim_delay(w) + n->slow_ms * MS;
    sim_pump_steps(w, to, at->due);
}

/* The next rows of one client, if there are any. */
static bool make_step(struct world *w, uint32_t head, uint32_t i)
{
    const struct rg_proposal *plan = &w->nodes[head].part.plan;
    struct sim_engine *e = &w->engines[sim_head_index(head)];
    struct client *c = &w->clients[sim_head_index(head)][i];
    struct step s = {.epoch = plan->epoch, .client = i, .position = c->n_sent};

    s.n_rows = c->n_tokens - c->n_sent;
    if (s.n_rows == 0)
        return false;
    if (s.n_rows > STEP_ROWS)
        s.n_rows = STEP_ROWS;
    memcpy(s.tokens, c->tokens + c->n_sent, s.n_rows * sizeof *s.tokens);
    c->n_sent += s.n_rows;
    s.draws = c->n_sent == c->n_tokens;
    s.seq = ++e->last_out;
    e->flights[(e->flight_at + e->n_flights++) % DEPTH_MOST] = s;
    send_step(w, plan, 0, head, &s);
    return true;
}

/* Fills the pipeline, clients by turns. */
void sim_turn(struct world *w, const struct event *at)
{
    const struct node *head = &w->nodes[at->a];
    const struct part *p = &head->part;
    struct sim_engine *e = &w->engines[sim_head_index(at->a)];

    if (head->process == DEAD || head->life != at->life || !p->started ||
        !rg_epoch_equal(p->plan.epoch, at->epoch))
        return;
    for (uint32_t k = 0; k < CLIENTS && head->process == ALIVE; k++) {
        if (e->n_flights == p->plan.n_nodes + 1)
            break;
        if (!make_step(w, at->a, e->next))
            e->next = (e->next + 1) % CLIENTS;
    }
    e->next = (e->next + 1) % CLIENTS;
    sim_at(w, w->now + TICK_MS / 2 * MS, *at);
}

/* A step is back; it is the oldest one's, since they come in their order. */
static void settle(struct world *w, uint32_t head, const struct step *s)
{
    struct sim_engine *e = &w->engines[sim_head_index(head)];
    const struct step flight = e->flights[e->flight_at];
    struct client *c = &w->clients[sim_head_index(head)][flight.client];

    if (e->n_flights == 0) {
        sim_fail(w, head, "step %llu comes back, and none is under way",
                 (unsigned long long)s->seq);
        return;
    }
    e->flight_at = (e->flight_at + 1) % DEPTH_MOST;
    e->n_flights--;
    if (!flight.draws)
        return;
    c->tokens[c->n_tokens++] = next_token(s->hash);
    tell(w, head, flight.client, next_token(s->hash));
    if (!w->failed && c->n_told == c->n_want)
        ask(w, c);
}

/* ---- a node of the ring ---------------------------------------------------------------------- */

enum verdict { TAKE, DROP, BREAK };

/* The rules of a step stream: this epoch, and number after number. */
static enum verdict judge(const struct node *n, const struct step *s)
{
    if (!n->part.active)
        return DROP;
    if (!rg_epoch_equal(s->epoch, n->part.plan.epoch))
        return DROP; /* of a stream that has ended */
    if (s->seq != n->last_in + 1)
        return BREAK;
    return TAKE;
}

/* The node's layers: its KV gets the rows, and the last row sees all before it. */
static void compute(struct node *n, struct step *s)
{
    uint32_t hash = HASH_BEGIN;

    memcpy(n->kv[s->client] + s->position, s->tokens, s->n_rows * sizeof *s->tokens);
    for (uint32_t at = 0; at < s->position + s->n_rows; at++)
        hash = hash_on(hash, n->kv[s->client][at]);
    if (s->hash && s->hash != hash)
        hash = ~s->hash; /* nodes that do not agree make nonsense */
    s->hash = hash;
}

static void take(struct world *w, uint32_t i, struct step *s)
{
    struct node *n = &w->nodes[i];
    const struct rg_proposal *plan = &n->part.plan;
    const uint32_t place = sim_place(plan, i);

    sim_check_step(w, i, s);
    if (w->failed)
        return;
    n->last_in = s->seq;
    n->repeats = *s;
    compute(n, s);
    n->layers_done += plan->nodes[place].n_layers;
    n->busy = false;
    w->steps_done++;
    if (place + 1 < plan->n_nodes)
        send_step(w, plan, place + 1, i, s);
    else
        settle(w, i, s);
}

void sim_pump_steps(struct world *w, uint32_t i, int64_t at)
{
    if (w->nodes[i].takes_steps)
        return;
    w->nodes[i].takes_steps = true;
    sim_at(w, at > w->now ? at : w->now,
           (struct event){.kind = EV_STEP, .a = i, .life = w->nodes[i].life});
}

/* The first of the steps that are on their way to a node comes to it. */
void sim_step(struct world *w, const struct event *e)
{
    struct node *n = &w->nodes[e->a];
    struct step s = n->steps[n->step_at];
    enum verdict verdict;

    if (n->process == DEAD || n->life != e->life)
        return;
    n->takes_steps = false;
    if (n->n_steps == 0)
        return;
    if (s.due > w->now) {
        sim_pump_steps(w, e->a, s.due);
        return;
    }
    verdict = judge(n, &s);
    if (n->process == PAUSED || w->blocked[s.from][e->a] || (n->stuck && verdict == TAKE)) {
        n->busy = n->busy || n->stuck;
        sim_pump_steps(w, e->a, w->now + TICK_MS * MS);
        return;
    }
    n->step_at = (n->step_at + 1) % STEPS_MOST;
    if (--n->n_steps > 0)
        sim_pump_steps(w, e->a, n->steps[n->step_at].due);
    sim_arrives(w, e->a, s.sent);
    if (verdict == TAKE) {
        take(w, e->a, &s);
        return;
    }
    n->busy = n->stuck;
    if (verdict == BREAK)
        sim_break_ring(w, e->a, "a step came that is not the next one");
}

/* The last step that a node took comes to it once more. */
void sim_repeat_step(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];

    if (n->process != ALIVE || n->repeats.seq == 0 || n->n_steps == STEPS_MOST)
        return;
    sim_trace(w, i, "FAULT gets step %llu of plan %llu again", (unsigned long long)n->repeats.seq,
              (unsigned long long)n->repeats.epoch.n);
    w->faults[FAULT_STEP_REPEATED]++;
    n->repeats.sent = w->now;
    n->repeats.due = w->now + sim_delay(w);
    n->steps[(n->step_at + n->n_steps++) % STEPS_MOST] = n->repeats;
    sim_pump_steps(w, i, n->repeats.due);
}

/* A ring runs again, so nobody waits for ever. */
void sim_check_clients(struct world *w, uint32_t head)
{
    const struct client *clients = w->clients[sim_head_index(head)];

    for (uint32_t i = 0; i < CLIENTS; i++)
        if (w->now - clients[i].told_at > PROGRESS_MS * MS)
            sim_fail(w, head, "client %u has got nothing for %.1f s", i,
                     (double)(w->now - clients[i].told_at) / 1e9);
}
