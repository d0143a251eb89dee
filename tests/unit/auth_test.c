/* auth_test.c - how long the comparison of keys takes says nothing about them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/auth.h"
#include "base/clock.h"
#include "support/live_memory.h"

enum { KEYS = 64, KEY_BYTES = 200, ROUNDS = 401, CALLS = 25, KINDS = 4 };

static char keys[KEYS][KEY_BYTES + 1];

static void make_keys(struct rg_auth *auth)
{
    char          path[] = "/tmp/rg-keys-XXXXXX";
    FILE         *f = fdopen(mkstemp(path), "w");
    struct rg_err err = {.message = ""};

    for (uint32_t k = 0; k < KEYS; k++) {
        for (uint32_t i = 0; i < KEY_BYTES; i++)
            keys[k][i] = (char)('!' + 1 + (k * 31 + i * 17 + i * i % 7) % 90);
        fprintf(f, "%s\n", keys[k]);
    }
    fclose(f);
    if (rg_auth_load(auth, path, &err) != RG_OK)
        fail_msg("%s", err.message);
    unlink(path);
}

static bool allows(const struct rg_auth *auth, const char *value)
{
    struct rg_http_request r = {.n_headers = 1};

    r.headers[0] = (struct rg_http_header){.name = "Authorization", .value = value};
    return rg_auth_allows(auth, &r);
}

static int by_size(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Medians of the time of CALLS calls, the kinds in turn, so that a busy machine slows all alike. */
static void measure(const struct rg_auth *auth, char values[KINDS][300], int64_t medians[KINDS])
{
    static int64_t took[KINDS][ROUNDS];

    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t kind = 0; kind < KINDS; kind++) {
            const int64_t begin = rg_clock_ns();

            for (uint32_t i = 0; i < CALLS; i++)
                (void)allows(auth, values[kind]);
            took[kind][round] = rg_clock_ns() - begin;
        }
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        qsort(took[kind], ROUNDS, sizeof took[kind][0], by_size);
        medians[kind] = took[kind][ROUNDS / 2];
    }
}

static void a_nearly_right_key_takes_as_long_as_any_other(void **state)
{
    struct rg_auth auth = {0};
    char           values[KINDS][300];
    int64_t        medians[KINDS];
    double         worst = 1;

    (void)state;
    make_keys(&auth);
    for (uint32_t kind = 0; kind < KINDS; kind++)
        (void)snprintf(values[kind], sizeof values[kind], "Bearer %s", keys[KEYS - 1]);
    values[1][7] = '!';                         /* wrong in the first byte */
    values[2][7 + KEY_BYTES - 1] = '!';         /* wrong in the last one   */
    values[3][7 + KEY_BYTES / 2] = '\0';        /* a prefix                */
    assert_true(allows(&auth, values[0]));
    for (uint32_t kind = 1; kind < KINDS; kind++)
        assert_false(allows(&auth, values[kind]));
    /* Another program may disturb a measurement, but not five of them. */
    for (uint32_t attempt = 0; attempt < 5 && worst > 0.05; attempt++) {
        measure(&auth, values, medians);
        worst = 0;
        for (uint32_t kind = 1; kind < KINDS; kind++) {
            const double off = (double)(medians[kind] - medians[0]) / (double)medians[0];

            worst = off > worst ? off : -off > worst ? -off : worst;
        }
        print_message("right %.2f us, first byte wrong %.2f, last byte wrong %.2f, prefix %.2f: "
                      "at most %.2f %% apart\n",
                      (double)medians[0] / CALLS / 1e3, (double)medians[1] / CALLS / 1e3,
                      (double)medians[2] / CALLS / 1e3, (double)medians[3] / CALLS / 1e3,
                      100 * worst);
    }
    assert_true(worst <= 0.05);
    rg_auth_free(&auth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_nearly_right_key_takes_as_long_as_any_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
