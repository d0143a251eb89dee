/* message_step_test.c - steps: the same bytes as protobuf-c's, there and back, every wrong field by
 * its name, and what stands in front of the rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <renga.pb-c.h>

#include "base/mem.h"
#include "cluster/message.h"
#include "support/live_memory.h"

enum { HIDDEN = 3, BYTES = 64 << 10 };

static const struct rg_step_limits limits = {.max_rows = 20,
                                             .parallel = 3,
                                             .n_blocks = 300,
                                             .block_tokens = 16,
                                             .context = 128,
                                             .hidden = HIDDEN};
static uint8_t bytes[BYTES];

struct parts {
    Renga__V1__StepsMessage all;
    Renga__V1__Step step;
    Renga__V1__StepsOpen open;
    Renga__V1__Epoch epoch;
    Renga__V1__SeqRows seqs[4], *list[4];
    uint32_t blocks[4][9];
    float rows[22 * HIDDEN];
};

static struct parts x;

/* Sequences of 1 row at 31, 5 at 0 and 2 at 126; 8 rows in all. */
static void good(void)
{
    static const uint32_t rows[4] = {1, 5, 2, 1}, positions[4] = {31, 0, 126, 0};
    static const uint32_t counts[4] = {2, 1, 8, 1};

    renga__v1__steps_message__init(&x.all);
    renga__v1__step__init(&x.step);
    renga__v1__epoch__init(&x.epoch);
    x.epoch.boot = UINT64_C(0xFEDCBA9876543210);
    x.epoch.n = 300;
    for (uint32_t i = 0; i < 4; i++) {
        renga__v1__seq_rows__init(&x.seqs[i]);
        for (uint32_t k = 0; k < 9; k++)
            x.blocks[i][k] = 10 * i + 33 * k;
        x.seqs[i].n_rows = rows[i];
        x.seqs[i].position = positions[i];
        x.seqs[i].n_blocks = counts[i];
        x.seqs[i].blocks = x.blocks[i];
        x.list[i] = &x.seqs[i];
    }
    for (uint32_t i = 0; i < sizeof x.rows / sizeof *x.rows; i++)
        x.rows[i] = (float)i + 0.5f;
    x.step.epoch = &x.epoch;
    x.step.seq = 1000;
    x.step.seqs = x.list;
    x.step.n_seqs = 3;
    x.step.rows.data = (uint8_t *)(void *)x.rows;
    x.step.rows.len = 8 * HIDDEN * sizeof(float);
    x.all.kind_case = RENGA__V1__STEPS_MESSAGE__KIND_STEP;
    x.all.step = &x.step;
}

static void head_of(struct rg_step_head *h, struct rg_step_seq seqs[4])
{
    *h = (struct rg_step_head){.epoch = {x.epoch.boot, x.epoch.n},
                               .seq = x.step.seq,
                               .seqs = seqs,
                               .n_seqs = (uint32_t)x.step.n_seqs,
                               .code = (enum rg_code)x.step.error_code};
    snprintf(h->error, sizeof h->error, "%s", x.step.error);
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        seqs[i] = (struct rg_step_seq){.n_rows = x.seqs[i].n_rows,
                                       .position = x.seqs[i].position,
                                       .blocks = x.seqs[i].blocks,
                                       .n_blocks = (uint32_t)x.seqs[i].n_blocks};
        h->n_rows += seqs[i].n_rows;
    }
}

/* Our encoding and the rows behind it are what protobuf-c packs. */
static size_t expect_same_bytes(void)
{
    const size_t n = renga__v1__steps_message__pack(&x.all, bytes);
    struct rg_step_head h;
    struct rg_step_seq seqs[4];
    struct rg_buf out;
    struct rg_err err = {0};

    head_of(&h, seqs);
    rg_buf_init(&out, BYTES);
    assert_int_equal(rg_buf_add(&out, "before", 6, &err), RG_OK);
    assert_int_equal(rg_step_encode(&out, &h, x.step.rows.len, &err), RG_OK);
    assert_int_equal(out.len - 6 + x.step.rows.len, n);
    assert_memory_equal(out.data + 6, bytes, out.len - 6);
    assert_memory_equal(x.step.rows.data, bytes + out.len - 6, x.step.rows.len);
    rg_buf_free(&out);
    return n;
}

static void a_step_is_what_protobuf_packs(void **state)
{
    static uint8_t large[300000];

    (void)state;
    good();
    expect_same_bytes();
    x.step.n_seqs = 1; /* a decode step */
    x.step.rows.len = HIDDEN * sizeof(float);
    expect_same_bytes();
    for (uint64_t v = 1; v; v <<= 1) { /* every length of a number */
        x.epoch.boot = ~v;
        x.epoch.n = v;
        x.step.seq = v - 1;
        x.seqs[0].n_rows = (uint32_t)v;
        x.seqs[0].position = (uint32_t)(v >> 1);
        x.blocks[0][0] = (uint32_t)v;
        expect_same_bytes();
    }
    for (size_t n = 0; n < 20000; n += n < 300 ? 1 : 97) { /* every length of a length */
        x.step.rows = (ProtobufCBinaryData){.len = n, .data = large};
        expect_same_bytes();
    }
    good();
    x.step.error_code = RG_E_INTERNAL;
    x.step.error = (char *)(uintptr_t)"not finite";
    x.step.rows.len = 0;
    expect_same_bytes();
}

/* Decodes n bytes of which only the step's head is shown. */
static enum rg_code decode_cut(struct rg_step_head *h, size_t *rows_at, size_t n, size_t total,
                               struct rg_err *err)
{
    const size_t most = rg_step_head_bytes_max(&limits);
    uint8_t *exact = rg_alloc(n < most ? n : most); /* a read behind it is seen by ASan */
    enum rg_code code;

    assert_non_null(exact);
    memcpy(exact, bytes, n < most ? n : most);
    code = rg_step_decode(h, rows_at, exact, n < most ? n : most, total, &limits, err);
    rg_free(exact);
    return code;
}

static void a_step_comes_back(void **state)
{
    struct rg_step_head h;
    struct rg_err err = {0};
    size_t n, rows_at;

    (void)state;
    good();
    n = expect_same_bytes();
    if (decode_cut(&h, &rows_at, n, n, &err) != RG_OK)
        fail_msg("%s", err.message);
    assert_int_equal(n - rows_at, x.step.rows.len);
    assert_memory_equal(bytes + rows_at, x.rows, x.step.rows.len);
    assert_true(h.epoch.boot == x.epoch.boot && h.epoch.n == 300 && h.seq == 1000);
    assert_true(h.n_seqs == 3 && h.n_rows == 8 && h.code == RG_OK && h.error[0] == '\0');
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(h.seqs[i].n_rows, x.seqs[i].n_rows);
        assert_int_equal(h.seqs[i].position, x.seqs[i].position);
        assert_int_equal(h.seqs[i].n_blocks, x.seqs[i].n_blocks);
        assert_memory_equal(h.seqs[i].blocks, x.seqs[i].blocks, 4 * x.seqs[i].n_blocks);
    }
    rg_step_head_free(&h);
    assert_null(h.seqs);
}

static void a_failed_step_comes_back_without_rows(void **state)
{
    struct rg_step_head h;
    struct rg_err err = {0};
    size_t n, rows_at;

    (void)state;
    good();
    x.step.error_code = RG_E_INTERNAL;
    x.step.error = (char *)(uintptr_t)"layer 3: not\nfinite";
    x.step.rows.len = 0;
    n = renga__v1__steps_message__pack(&x.all, bytes);
    assert_int_equal(decode_cut(&h, &rows_at, n, n, &err), RG_OK);
    assert_int_equal(rows_at, n);
    assert_int_equal(h.code, RG_E_INTERNAL);
    assert_string_equal(h.error, "layer 3: not?finite");
    rg_step_head_free(&h);
}

static void expect(size_t n, size_t total, enum rg_code want, const char *name)
{
    struct rg_step_head h;
    struct rg_err err = {0};
    size_t rows_at;
    const enum rg_code code = decode_cut(&h, &rows_at, n, total, &err);

    if (code != want || !strstr(err.message, name))
        fail_msg("wanted code %d naming %s, got %d: %s", want, name, code, err.message);
    assert_null(h.seqs);
}

#define BAD(name, change)                                                                          \
    do {                                                                                           \
        size_t n_;                                                                                 \
        good();                                                                                    \
        change;                                                                                    \
        n_ = renga__v1__steps_message__pack(&x.all, bytes);                                        \
        expect(n_, n_, RG_E_BAD_DATA, name);                                                       \
    } while (0)

static void each_field_of_a_step_is_checked(void **state)
{
    (void)state;
    BAD("Step.epoch", x.step.epoch = NULL);
    BAD("Step.epoch.boot", x.epoch.boot = 0);
    BAD("Step.epoch.n", x.epoch.n = 0);
    BAD("Step.seq", x.step.seq = 0);
    BAD("Step.seqs", x.step.n_seqs = 0);
    BAD("Step.seqs", x.step.n_seqs = 4);
    BAD("Step.seqs.n_rows", x.seqs[0].n_rows = 0);
    BAD("Step.seqs.n_rows", x.seqs[1].n_rows = 20);
    BAD("Step.seqs.n_rows", x.seqs[2].n_rows = UINT32_MAX);
    BAD("Step.seqs.position", x.seqs[2].position = 127);
    BAD("Step.seqs.position", x.seqs[0].position = UINT32_MAX);
    BAD("Step.seqs.blocks: their count", x.seqs[0].n_blocks = 0);
    BAD("Step.seqs.blocks: their count", x.seqs[0].n_blocks = 1);
    BAD("Step.seqs.blocks: their count", x.seqs[0].n_blocks = 3);
    BAD("Step.seqs.blocks: their count", x.seqs[0].position = 32);
    BAD("Step.seqs.blocks: 300", x.blocks[0][1] = 300);
    BAD("Step.seqs.blocks: 4294967295", x.blocks[2][7] = UINT32_MAX);
    BAD("Step.seqs.state_slot_in", x.seqs[0].state_slot_in = 1);
    BAD("Step.seqs.state_slot_out", x.seqs[0].state_slot_out = 1);
    BAD("Step.error_code", x.step.error = (char *)(uintptr_t)"why");
    BAD("Step.error_code", x.step.error_code = RG_E_INTERNAL + 1);
    BAD("Step.error:", x.step.error_code = RG_E_INTERNAL);
    BAD("Step.rows", x.step.rows.len -= 1);
    BAD("Step.rows", x.step.rows.len += 1);
    BAD("Step.rows", x.step.rows.len -= HIDDEN * sizeof(float));
    BAD("Step.rows", x.step.rows.len = 0);
    BAD("Step.rows", x.seqs[0].n_rows = 2; x.seqs[0].position = 30);
    BAD("Step.rows", x.step.error_code = RG_E_IO; x.step.error = (char *)(uintptr_t)"why");
}

static void the_limits_of_the_plan_are_kept(void **state)
{
    struct rg_step_head h;
    struct rg_err err = {0};
    size_t n, rows_at;

    (void)state;
    good();
    x.seqs[1].n_rows = 17; /* 20 rows in all: as many as there may be */
    x.seqs[1].n_blocks = 2;
    x.step.rows.len = 20 * HIDDEN * sizeof(float);
    n = renga__v1__steps_message__pack(&x.all, bytes);
    assert_int_equal(decode_cut(&h, &rows_at, n, n, &err), RG_OK);
    assert_int_equal(h.n_rows, 20);
    rg_step_head_free(&h);
    x.seqs[1].n_rows = 18;
    x.step.rows.len += HIDDEN * sizeof(float);
    n = renga__v1__steps_message__pack(&x.all, bytes);
    expect(n, n, RG_E_BAD_DATA, "Step.seqs.n_rows");
    expect(n, rg_step_bytes_max(&limits) + 1, RG_E_LIMIT, "StepsMessage");
}

static void a_cut_step_is_refused(void **state)
{
    size_t n;

    (void)state;
    good();
    n = renga__v1__steps_message__pack(&x.all, bytes);
    for (size_t cut = 0; cut < n; cut++) {
        struct rg_step_head h;
        struct rg_err err = {0};
        size_t rows_at;

        expect(cut, cut, RG_E_BAD_DATA, "Step"); /* the message ends there */
        /* or its rest was not given: no error once all before the rows is there */
        if (decode_cut(&h, &rows_at, cut, n, &err) == RG_OK) {
            assert_int_equal(rows_at, n - x.step.rows.len);
            assert_true(cut >= rows_at);
            rg_step_head_free(&h);
        } else {
            assert_true(cut < n - x.step.rows.len);
            assert_int_equal(err.code, RG_E_LIMIT);
        }
    }
}

/* Puts bytes behind the rows, and before the step. */
static void rows_are_the_last_field(void **state)
{
    size_t n, head;

    (void)state;
    good();
    n = renga__v1__steps_message__pack(&x.all, bytes);
    memcpy(bytes + n, "\x18\x01", 2);
    expect(n + 2, n + 2, RG_E_BAD_DATA, "StepsMessage.step");

    x.step.rows.len = 0;
    head = renga__v1__step__pack(&x.step, bytes + 2);
    assert_true(head < 128 - 14);
    memcpy(bytes + 2 + head, "\x7A\x00\x30\x01", 4); /* rows, then field 6 */
    bytes[0] = 0x12;
    bytes[1] = (uint8_t)(head + 4);
    expect(head + 6, head + 6, RG_E_BAD_DATA, "Step.rows does not reach");
    bytes[2 + head] = 0x78; /* rows as a number */
    expect(head + 6, head + 6, RG_E_BAD_DATA, "Step.rows does not reach");

    memcpy(bytes, "\x0A\x00", 2);
    expect(2, 2, RG_E_BAD_DATA, "StepsMessage.open");
    expect(0, 0, RG_E_BAD_DATA, "StepsMessage.step: absent");
    memcpy(bytes, "\x10\x01", 2);
    expect(2, 2, RG_E_BAD_DATA, "StepsMessage.step");
}

static void fields_of_later_versions_are_passed_over(void **state)
{
    struct rg_step_head h;
    struct rg_err err = {0};
    size_t n, rows_at;

    (void)state;
    good();
    n = renga__v1__steps_message__pack(&x.all, bytes + 4);
    memcpy(bytes, "\x1A\x02??", 4);
    assert_int_equal(decode_cut(&h, &rows_at, n + 4, n + 4, &err), RG_OK);
    assert_int_equal(h.n_rows, 8);
    assert_memory_equal(bytes + rows_at, x.rows, x.step.rows.len);
    rg_step_head_free(&h);
}

static void a_flood_of_fields_is_refused(void **state)
{
    const int64_t before = rg_mem_count();
    struct rg_step_head h;
    struct rg_err err = {0};
    size_t rows_at;

    (void)state;
    memcpy(bytes, "\x12\xC8\x01", 3);
    for (size_t i = 0; i < 200; i += 2)
        memcpy(bytes + 3 + i, "\x1A\x00", 2);
    assert_int_equal(rg_step_decode(&h, &rows_at, bytes, 203, 203, &limits, &err), RG_E_LIMIT);
    assert_non_null(strstr(err.message, "too many fields"));
    assert_int_equal(rg_mem_count(), before);
}

static void a_full_memory_is_an_error(void **state)
{
    enum rg_code code = RG_E_NOMEM;
    size_t n;
    int64_t at;

    (void)state;
    good();
    n = renga__v1__steps_message__pack(&x.all, bytes);
    for (at = 1; code == RG_E_NOMEM && at < 100; at++) {
        struct rg_step_head h;
        struct rg_err err;
        size_t rows_at;

        rg_mem_fail_at(at);
        code = rg_step_decode(&h, &rows_at, bytes, n, n, &limits, &err);
        rg_mem_fail_at(0);
        rg_step_head_free(&h);
    }
    assert_int_equal(code, RG_OK);
    assert_true(at > 5);
}

static void the_opening_comes_back(void **state)
{
    const struct rg_steps_open o = {.epoch = {5, 6}, .node_id = "worker-1"};
    struct rg_steps_open back;
    struct rg_buf out;
    struct rg_err err = {0};

    (void)state;
    rg_buf_init(&out, BYTES);
    assert_int_equal(rg_steps_open_encode(&out, &o, &err), RG_OK);
    assert_int_equal(rg_steps_open_decode(&back, (const uint8_t *)out.data, out.len, &err), RG_OK);
    assert_true(rg_epoch_equal(back.epoch, o.epoch));
    assert_string_equal(back.node_id, "worker-1");
    for (size_t cut = 0; cut < out.len; cut++)
        assert_int_equal(rg_steps_open_decode(&back, (const uint8_t *)out.data, cut, &err),
                         RG_E_BAD_DATA);
    rg_buf_free(&out);
}

static void expect_bad_open(const char *name)
{
    const size_t n = renga__v1__steps_message__pack(&x.all, bytes);
    struct rg_steps_open o;
    struct rg_err err = {0};

    assert_int_equal(rg_steps_open_decode(&o, bytes, n, &err), RG_E_BAD_DATA);
    if (!strstr(err.message, name))
        fail_msg("wanted %s, got %s", name, err.message);
}

static void each_field_of_the_opening_is_checked(void **state)
{
    (void)state;
    good();
    expect_bad_open("StepsMessage.open: absent");
    renga__v1__steps_open__init(&x.open);
    x.all.kind_case = RENGA__V1__STEPS_MESSAGE__KIND_OPEN;
    x.all.open = &x.open;
    expect_bad_open("StepsOpen.epoch: absent");
    x.open.epoch = &x.epoch;
    expect_bad_open("StepsOpen.node_id");
    x.open.node_id = (char *)(uintptr_t)"a\nb";
    expect_bad_open("StepsOpen.node_id: 'a?b'");
    x.open.node_id = (char *)(uintptr_t)"ab";
    x.epoch.n = 0;
    expect_bad_open("StepsOpen.epoch.n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_step_is_what_protobuf_packs),   TEST(a_step_comes_back),
        TEST(a_failed_step_comes_back_without_rows),
        TEST(each_field_of_a_step_is_checked), TEST(the_limits_of_the_plan_are_kept),
        TEST(a_cut_step_is_refused),           TEST(rows_are_the_last_field),
        TEST(fields_of_later_versions_are_passed_over),
        TEST(a_flood_of_fields_is_refused),    TEST(a_full_memory_is_an_error),
        TEST(the_opening_comes_back),          TEST(each_field_of_the_opening_is_checked)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
