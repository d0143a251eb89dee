/* plan_model_test.c - what the plan counts of real checkpoints, and the context that fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/plan_model.h"
#include "model/model.h"
#include "support/live_memory.h"

#define TINY RENGA_SOURCE_DIR "/tests/golden/tiny/"

static struct rg_checkpoint *open_tiny(const char *dir)
{
    struct rg_checkpoint *c;
    struct rg_err err;

    if (rg_checkpoint_open(&c, dir, &rg_checkpoint_headers, &err) != RG_OK)
        fail_msg("%s", err.message);
    return c;
}

static void weights_are_the_headers_and_kv_is_what_is_allocated(void **state)
{
    static const char *const dirs[] = {TINY "llama-mixed_346", TINY "deepseek_v3-mixed_346",
                                       TINY "llama-sliding-q4_32", TINY "kimi_k2-q4_64-unstacked"};

    (void)state;
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        struct rg_checkpoint *c = open_tiny(dirs[i]);
        const struct rg_plan_request request = {
            .checkpoint = c, .parallel = 3, .activations = RG_ACTIVATIONS_F32};
        struct rg_kv_layer_spec specs[64];
        struct rg_plan_model m;
        struct rg_err err;
        uint64_t bytes = 0, kv = 0;

        assert_int_equal(rg_plan_model_make(&m, &request, 100, &err), RG_OK);
        assert_int_equal(m.n_layers, c->config.num_hidden_layers);
        for (uint32_t k = 0; k < m.n_layers; k++) {
            bytes += m.layer_bytes[k];
            kv += m.kv_layer_bytes[k];
            assert_true(m.read_layer_bytes[k] > 0 && m.read_layer_bytes[k] <= m.layer_bytes[k]);
        }
        assert_true(bytes + m.embedding_bytes + m.head_bytes == c->total_bytes);

        rg_model_config_kv_specs(&c->config, 0, m.n_layers, specs);
        const struct rg_kv_options options = {.layers = specs,
                                              .n_layers = m.n_layers,
                                              .n_blocks = rg_plan_blocks(100, 3),
                                              .block_tokens = RG_PLAN_BLOCK_TOKENS};
        assert_int_equal(options.n_blocks, 6);
        assert_true(kv == rg_kv_bytes(RG_ACTIVATIONS_F32, &options));
        assert_true(m.reserve_bytes > RG_PLAN_PROCESS_BYTES);
        rg_plan_model_free(&m);
        rg_checkpoint_close(c);
    }
}

static void a_token_reads_its_share_of_the_experts(void **state)
{
    struct rg_checkpoint *c = open_tiny(TINY "deepseek_v3-q4_64");
    const struct rg_plan_request request = {.checkpoint = c};
    struct rg_plan_model m;
    struct rg_err err;
    uint32_t moe_layers = 0;

    (void)state;
    assert_int_equal(rg_plan_model_make(&m, &request, 64, &err), RG_OK);
    for (uint32_t k = 0; k < m.n_layers; k++) {
        static const char *const roles[] = {"mlp.switch_mlp.gate_proj", "mlp.switch_mlp.up_proj",
                                            "mlp.switch_mlp.down_proj"};
        uint64_t unread = 0;

        for (size_t i = 0; i < 3 && rg_model_layer_is_moe(&c->config, k); i++) {
            const struct rg_module *e = rg_checkpoint_module(c, (int32_t)k, roles[i]);

            unread +=
                e->weight.bytes / e->weight.lead * (e->weight.lead - c->config.num_experts_per_tok);
            moe_layers++;
        }
        assert_true(m.read_layer_bytes[k] == m.layer_bytes[k] - unread);
    }
    assert_true(moe_layers > 0);
    assert_true(m.read_head_bytes >= m.head_bytes);
    assert_true(m.read_head_bytes < m.head_bytes + m.embedding_bytes);
    rg_plan_model_free(&m);
    rg_checkpoint_close(c);
}

static void what_other_nodes_have_counts_as_they_say(void **state)
{
    struct rg_checkpoint *c = open_tiny(TINY "deepseek_v3-q4_64");
    const uint32_t last = c->config.num_hidden_layers - 1;
    uint64_t said[64];
    struct rg_plan_request request = {.checkpoint = c};
    struct rg_plan_model whole, m;
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_plan_model_make(&whole, &request, 64, &err), RG_OK);
    memcpy(said, c->layer_bytes, (last + 1) * sizeof said[0]);
    said[0] += 12345;
    request.layer_bytes = said;
    request.embedding_bytes = 77;
    request.head_bytes = 88;
    /* As if the last layer's shard were not on this disk. */
    c->layer_bytes[last] = 0;
    c->layer_there[last] = false;
    for (uint32_t i = 0; i < c->n_modules; i++)
        if (c->modules[i].layer == (int32_t)last)
            c->modules[i].there = false;
    assert_int_equal(rg_plan_model_make(&m, &request, 64, &err), RG_OK);
    assert_true(m.layer_bytes[0] == whole.layer_bytes[0] + 12345);
    assert_true(m.layer_bytes[last] == whole.layer_bytes[last]);
    assert_true(m.embedding_bytes == 77 && m.head_bytes == 88);
    assert_true(m.read_layer_bytes[last] > 0 && m.read_layer_bytes[last] < said[last]);
    rg_plan_model_free(&m);
    rg_plan_model_free(&whole);
    rg_checkpoint_close(c);
}

/* ---- the context ----------------------------------------------------------------------------- */

/* The plan of one node with this much usable memory beyond weights and reserve. */
static enum rg_code fit(struct rg_plan *plan, struct rg_checkpoint *c, uint64_t kv_bytes,
                        uint32_t context, bool asked)
{
    struct rg_plan_peer peer = {.id = "a", .head = true};
    const struct rg_plan_request request = {.checkpoint = c,
                                            .context = context,
                                            .context_asked = asked,
                                            .parallel = 2,
                                            .peers = &peer,
                                            .n_peers = 1};
    struct rg_plan_model m;
    struct rg_err err;

    assert_int_equal(rg_plan_model_make(&m, &request, 64, &err), RG_OK);
    peer.memory_bytes = (c->total_bytes + m.reserve_bytes + kv_bytes) / 9 * 10 + 20;
    rg_plan_model_free(&m);
    return rg_plan_fit_context(plan, &request, &err);
}

static uint64_t kv_of(struct rg_checkpoint *c, uint32_t context)
{
    const struct rg_plan_request request = {.checkpoint = c, .parallel = 2};
    struct rg_plan_model m;
    struct rg_err err;
    uint64_t bytes = 0;

    assert_int_equal(rg_plan_model_make(&m, &request, context, &err), RG_OK);
    for (uint32_t k = 0; k < m.n_layers; k++)
        bytes += m.kv_layer_bytes[k];
    rg_plan_model_free(&m);
    return bytes;
}

static void the_context_is_halved_until_it_fits(void **state)
{
    struct rg_checkpoint *c = open_tiny(TINY "llama-mixed_346");
    struct rg_plan p;

    (void)state;
    c->config.max_position_embeddings = 131072;
    assert_int_equal(fit(&p, c, kv_of(c, 131072), 0, false), RG_OK);
    assert_int_equal(p.context, 32768);
    assert_int_equal(p.parallel, 2);
    assert_int_equal(fit(&p, c, kv_of(c, 8192), 0, false), RG_OK);
    assert_int_equal(p.context, 8192);
    assert_int_equal(fit(&p, c, kv_of(c, 8192), 131072, false), RG_OK);
    assert_int_equal(p.context, 8192);
    assert_int_equal(fit(&p, c, kv_of(c, 1024), 0, false), RG_OK);
    assert_int_equal(p.context, 1024);
    assert_int_equal(fit(&p, c, kv_of(c, 512), 0, false), RG_E_FIT);
    assert_false(p.fits);
    assert_int_equal(p.n_parts, 1);
    rg_checkpoint_close(c);
}

static void a_context_that_was_asked_for_stays(void **state)
{
    struct rg_checkpoint *c = open_tiny(TINY "llama-mixed_346");
    struct rg_plan p;

    (void)state;
    c->config.max_position_embeddings = 131072;
    assert_int_equal(fit(&p, c, kv_of(c, 8192), 16384, true), RG_E_FIT);
    assert_int_equal(p.context, 16384);
    assert_int_equal(fit(&p, c, kv_of(c, 100), 100, true), RG_OK);
    assert_int_equal(p.context, 100);
    assert_int_equal(fit(&p, c, 0, 131073, true), RG_E_USAGE);
    c->config.max_position_embeddings = 300;
    assert_int_equal(fit(&p, c, kv_of(c, 300), 0, false), RG_OK);
    assert_int_equal(p.context, 300);
    rg_checkpoint_close(c);
}

static void memory_that_is_short_leaves_nothing(void **state)
{
    struct rg_checkpoint *c = open_tiny(TINY "llama-mixed_346");
    const struct rg_plan_peer peer = {.id = "a", .memory_bytes = UINT64_C(1) << 40, .head = true};
    const struct rg_plan_request request = {.checkpoint = c, .peers = &peer, .n_peers = 1};
    enum rg_code code = RG_E_NOMEM;
    struct rg_plan p;
    struct rg_err err;

    (void)state;
    for (int64_t n = 1; code != RG_OK && n < 20; n++) {
        const int64_t live = rg_mem_live();

        rg_mem_fail_at(n);
        code = rg_plan_fit_context(&p, &request, &err);
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || code == RG_E_NOMEM);
        assert_true(rg_mem_live() == live);
    }
    assert_int_equal(code, RG_OK);
    rg_checkpoint_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(weights_are_the_headers_and_kv_is_what_is_allocated),
        TEST(a_token_reads_its_share_of_the_experts),
        TEST(what_other_nodes_have_counts_as_they_say),
        TEST(the_context_is_halved_until_it_fits),
        TEST(a_context_that_was_asked_for_stays),
        TEST(memory_that_is_short_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
