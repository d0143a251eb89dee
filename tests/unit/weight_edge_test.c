/* weight_edge_test.c - no kernel reads a byte outside a weight's tensors.
 *
 * In a part of a checkpoint the pages beside a tensor may not be readable (checkpoint/part.c). Here
 * each tensor lies at the very end or the very beginning of pages with such neighbours; the product
 * must be the one of the same tensor elsewhere, and the process must live. */
#include <sys/mman.h>
#include <unistd.h>

#include "support/kernel_helpers.h"

/* A tensor between two pages that cannot be read. */
struct fenced {
    uint8_t *map;
    size_t bytes;
};

static const uint8_t *fence(struct fenced *f, const uint8_t *data, size_t n, bool at_end)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inside = (n + page - 1) / page * page;
    uint8_t *place;

    if (!data)
        return NULL;
    f->bytes = inside + 2 * page;
    f->map = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(f->map != MAP_FAILED);
    place = f->map + page + (at_end ? inside - n : 0);
    memcpy(place, data, n);
    assert_int_equal(mprotect(f->map, page, PROT_NONE), 0);
    assert_int_equal(mprotect(f->map + page + inside, page, PROT_NONE), 0);
    return place;
}

static void check_fenced(struct rg_backend *b, const struct test_weight *t, uint32_t n)
{
    const struct rg_weight_desc *d = &t->desc;
    const size_t data = rg_weight_data_bytes(d) * d->lead,
                 group = rg_weight_scale_bytes(d) * d->lead;
    float *x = random_floats((size_t)n * d->cols), *want = product(b, t, x, n);

    for (int at_end = 0; at_end < 2; at_end++) {
        struct fenced fences[4] = {{NULL, 0}};
        struct test_weight moved = *t;
        float *got;

        moved.desc.data = fence(&fences[0], d->data, data, at_end);
        moved.desc.scales = fence(&fences[1], d->scales, group, at_end);
        moved.desc.biases = fence(&fences[2], d->biases, group, at_end);
        moved.desc.globals = fence(&fences[3], d->globals, 4 * (size_t)d->lead, at_end);
        got = product(b, &moved, x, n);
        assert_same_floats(got, want, (size_t)n * d->rows);
        free(got);
        for (int i = 0; i < 4; i++)
            if (fences[i].map)
                assert_int_equal(munmap(fences[i].map, fences[i].bytes), 0);
    }
    free(want);
    free(x);
}

static void check_all_sizes(const struct test_weight *t)
{
    static const uint32_t counts[] = {1, 2, 5, 16, 33};

    for (int f32 = 0; f32 < 2; f32++) {
        struct rg_backend *b =
            open_backend(best_kernels(), 1, f32 ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8);

        for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
            check_fenced(b, t, counts[i]);
        rg_backend_close(b);
    }
}

static const uint32_t ROWS[] = {1, 3, 8, 13, 40};
enum { N_ROWS = sizeof(ROWS) / sizeof(*ROWS) };

static void affine_weights_are_read_to_their_ends_and_no_further(void **state)
{
    static const uint32_t bits[] = {2, 3, 4, 5, 6, 8}, groups[] = {32, 64, 128};

    (void)state;
    for (size_t k = 0; k < 6; k++)
        for (size_t g = 0; g < 3; g++)
            for (size_t r = 0; r < N_ROWS; r++) {
                struct test_weight t = affine_weight(1, ROWS[r], groups[g] * (1 + random_below(3)),
                                                     bits[k], groups[g], DTYPES[r % 3]);

                check_all_sizes(&t);
                free_weight(&t);
            }
}

static void float_weights_are_read_to_their_ends_and_no_further(void **state)
{
    static const uint32_t cols[] = {1, 7, 8, 9, 64, 100};

    (void)state;
    for (size_t c = 0; c < sizeof(cols) / sizeof(*cols); c++)
        for (size_t r = 0; r < N_ROWS; r++) {
            struct test_weight t = float_weight(1, ROWS[r], cols[c], DTYPES[(c + r) % 3]);

            check_all_sizes(&t);
            free_weight(&t);
        }
}

static void weights_of_other_programs_are_read_to_their_ends_and_no_further(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_KINDS; k++)
        for (size_t r = 0; r < N_ROWS; r++) {
            const bool fp8 = KINDS[k].kind == RG_WEIGHT_FP8;
            const uint32_t rows = fp8 ? ROWS[r] * 5 : ROWS[r];
            const uint32_t cols =
                fp8 ? 100 + random_below(60) : KINDS[k].group * (1 + (uint32_t)r % 3);
            struct test_weight t = coded_weight(&KINDS[k], 1, rows, cols, DTYPES[r % 3]);

            check_all_sizes(&t);
            free_weight(&t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(affine_weights_are_read_to_their_ends_and_no_further),
        cmocka_unit_test(float_weights_are_read_to_their_ends_and_no_further),
        cmocka_unit_test(weights_of_other_programs_are_read_to_their_ends_and_no_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
