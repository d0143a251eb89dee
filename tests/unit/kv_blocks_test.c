/* kv_blocks_test.c - block numbers are handed out once each and come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/kv_blocks.h"

static void positions_round_up_to_blocks(void **state)
{
    struct rg_kv_blocks b;

    (void)state;
    assert_int_equal(rg_kv_blocks_init(&b, 4, 16, NULL), RG_OK);
    assert_int_equal(rg_kv_blocks_for(&b, 0), 0);
    assert_int_equal(rg_kv_blocks_for(&b, 1), 1);
    assert_int_equal(rg_kv_blocks_for(&b, 15), 1);
    assert_int_equal(rg_kv_blocks_for(&b, 16), 1);
    assert_int_equal(rg_kv_blocks_for(&b, 17), 2);
    assert_int_equal(rg_kv_blocks_for(&b, UINT32_MAX), 1u << 28);
    rg_kv_blocks_free(&b);
}

static void a_lone_sequence_gets_the_lowest_numbers(void **state)
{
    struct rg_kv_blocks b;
    uint32_t mine[3];

    (void)state;
    assert_int_equal(rg_kv_blocks_init(&b, 8, 16, NULL), RG_OK);
    for (int round = 0; round < 3; round++) {
        assert_true(rg_kv_blocks_take(&b, 3, mine));
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(mine[i], i);
        rg_kv_blocks_give(&b, mine, 3);
    }
    rg_kv_blocks_free(&b);
}

static void too_many_takes_nothing(void **state)
{
    struct rg_kv_blocks b;
    uint32_t mine[4] = {9, 9, 9, 9};

    (void)state;
    assert_int_equal(rg_kv_blocks_init(&b, 3, 16, NULL), RG_OK);
    assert_false(rg_kv_blocks_take(&b, 4, mine));
    assert_int_equal(mine[0], 9);
    assert_int_equal(b.n_free, 3);
    assert_true(rg_kv_blocks_take(&b, 3, mine));
    assert_false(rg_kv_blocks_take(&b, 1, mine));
    assert_true(rg_kv_blocks_take(&b, 0, mine));
    rg_kv_blocks_give(&b, mine, 3);
    rg_kv_blocks_free(&b);
}

static void no_block_has_two_owners(void **state)
{
    enum { TOTAL = 64, OWNERS = 9 };
    struct rg_kv_blocks b;
    uint32_t owned[OWNERS][TOTAL], n_owned[OWNERS] = {0};
    uint32_t random = 1;

    (void)state;
    assert_int_equal(rg_kv_blocks_init(&b, TOTAL, 16, NULL), RG_OK);
    for (int round = 0; round < 5000; round++) {
        uint8_t seen[TOTAL] = {0};
        uint32_t used = 0, who;

        random = random * 1664525u + 1013904223u;
        who = (random >> 16) % OWNERS;
        if (n_owned[who] > 0) {
            rg_kv_blocks_give(&b, owned[who], n_owned[who]);
            n_owned[who] = 0;
        } else if (rg_kv_blocks_take(&b, (random >> 24) % 20, owned[who])) {
            n_owned[who] = (random >> 24) % 20;
        }
        for (int i = 0; i < OWNERS; i++)
            for (uint32_t j = 0; j < n_owned[i]; j++) {
                assert_true(owned[i][j] < TOTAL);
                assert_int_equal(seen[owned[i][j]]++, 0);
                used++;
            }
        assert_int_equal(used + b.n_free, TOTAL);
    }
    rg_kv_blocks_free(&b);
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_round_up_to_blocks),
        cmocka_unit_test(a_lone_sequence_gets_the_lowest_numbers),
        cmocka_unit_test(too_many_takes_nothing),
        cmocka_unit_test(no_block_has_two_owners),
    };

    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
