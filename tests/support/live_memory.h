/* live_memory.h - a test that leaves memory behind fails by itself.
 *
 * TEST(name) in a table of tests remembers rg_mem_live() before the test and compares it after.
 * Header-only; include it behind cmocka.h. */
#ifndef TESTS_SUPPORT_LIVE_MEMORY_H
#define TESTS_SUPPORT_LIVE_MEMORY_H

#include "base/mem.h"

static int64_t baseline; /* blocks that were live when the test began */

static int remember_memory(void **state)
{
    (void)state;
    baseline = rg_mem_live();
    return 0;
}

static int expect_no_live_memory(void **state)
{
    (void)state;
    return rg_mem_live() == baseline ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_memory, expect_no_live_memory)

#endif
