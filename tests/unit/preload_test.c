/* preload_test.c - what loading a part of a checkpoint touches, and how large parts are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/preload.h"
#include "support/layered_model.h"
#include "support/live_memory.h"

/* ---- pages ----------------------------------------------------------------------------------- */

#ifdef __linux__

/* The page of an address is in this process's page table. */
static bool is_present(int pagemap, const uint8_t *at, size_t page)
{
    uint64_t entry = 0;
    const ssize_t n =
        pread(pagemap, &entry, sizeof entry, (off_t)((uintptr_t)at / page * sizeof entry));

    assert_int_equal(n, sizeof entry);
    return entry >> 63;
}

/* The tensors that have bytes on a page of a file are all of other layers than the part's. */
static bool is_foreign(const struct rg_checkpoint *c, const struct rg_checkpoint_options *o,
                       uint32_t file, uint64_t page_at, size_t page)
{
    for (uint32_t i = 0; i < rg_tensor_set_count(c->tensors); i++) {
        const struct rg_tensor_info *t = rg_tensor_set_at(c->tensors, i);
        const int32_t layer = c->tensor_layer[i];

        if (t->file == file && t->offset < page_at + page && t->offset + t->bytes > page_at &&
            layer >= (int32_t)o->layer_begin && layer < (int32_t)o->layer_end)
            return false;
    }
    return true;
}

static bool is_mapped(const char *path)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    bool found = false;

    assert_non_null(f);
    while (fgets(line, sizeof line, f) && !found)
        found = strstr(line, path) != NULL;
    (void)fclose(f);
    return found;
}

/* The kernel reads the byte for us, and fails where this process could not. */
static bool is_readable(const uint8_t *at)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);

    const ssize_t n = write(ends[1], at, 1);

    (void)close(ends[0]);
    (void)close(ends[1]);
    return n == 1;
}

/* Clean pages in the page cache are those that the kernel maps along with their neighbours. */
static void settle(const char *path)
{
    const int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    (void)close(fd);
}

/* All layers' tensors lie mixed in every file, as in real checkpoints, whose writers sort by name.
 */
static void loading_a_part_touches_no_page_of_other_layers(void **state)
{
    const struct rg_checkpoint_options o = {.is_part = true, .layer_begin = 1, .layer_end = 3};
    const struct rg_model_part part = {.layer_begin = 1, .layer_end = 3};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t own = 0, foreign = 0;
    const int pagemap = open("/proc/self/pagemap", O_RDONLY);
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    assert_true(pagemap >= 0);
    begin_llama(&w, true);
    w.n_shards = 3;
    for (size_t i = 0; i < w.n; i++)
        w.tensors[i].shard = strstr(w.tensors[i].name, "layers.") ? (uint32_t)(i % 2) : 2;
    write_it(&w, true);
    c = open_with(&w, &o);
    for (uint32_t f = 0; f < 3; f++)
        settle(rg_tensor_set_file(c->tensors, f)->path);
    assert_int_equal(rg_preload(c, &part, NULL, NULL, NULL), RG_OK);
    for (uint32_t f = 0; f < 3; f++) {
        const struct rg_tensor_file *file = rg_tensor_set_file(c->tensors, f);

        assert_int_equal(is_mapped(file->path), f < 2);
        for (uint64_t at = 0; file->data && at < file->bytes; at += page) {
            const bool is_other = is_foreign(c, &o, f, at, page);

            if (is_present(pagemap, file->data + at, page) == is_other)
                fail_msg("%s: the page at byte %zu is %s", file->path, (size_t)at,
                         is_other ? "another layer's, and was touched" : "not there");
            assert_int_equal(is_readable(file->data + at), !is_other);
            own += !is_other;
            foreign += is_other;
        }
    }
    assert_true(own * page >= 2 * LAYER_BYTES && foreign * page >= LAYER_BYTES);
    rg_checkpoint_close(c);
    (void)close(pagemap);
    cw_end(&w);
}

#endif

/* ---- large parts ----------------------------------------------------------------------------- */

struct seen {
    uint64_t done, total;
};

static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    struct seen *s = ud;

    assert_true(done > s->done && done <= total);
    s->done = done;
    s->total = total;
    return true;
}

static bool stop_at_once(void *ud, uint64_t done, uint64_t total)
{
    (void)done, (void)total;
    ++*(int *)ud;
    return false;
}

/* 640 MiB, all of it a hole: enough for several threads. */
static void a_large_part_is_read_by_several_threads(void **state)
{
    struct cw w;
    struct rg_checkpoint *c;
    struct seen seen = {0};
    int calls = 0;
    const struct rg_model_part part = {.embed = true};

    (void)state;
    begin_llama(&w, true);
    config(&w,
           "\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":4,"
           "\"intermediate_size\":256,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
           "\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,\"vocab_size\":2621440",
           NULL);
    cw_find(&w, "model.embed_tokens.weight")->shape[0] = 2621440;
    cw_find(&w, "model.embed_tokens.weight")->bytes = UINT64_C(2621440) * 128 * 2;
    write_it(&w, false);
    c = open_with(&w, &rg_checkpoint_mapped);
    assert_int_equal(rg_preload(c, &part, on_progress, &seen, NULL), RG_OK);
    assert_int_equal(seen.done, c->embedding_bytes);
    assert_int_equal(seen.total, c->embedding_bytes);
    assert_int_equal(rg_preload(c, &part, stop_at_once, &calls, NULL), RG_E_CANCELED);
    assert_int_equal(calls, 1);
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void a_preload_without_memory_says_so(void **state)
{
    const struct rg_model_part part = {.layer_end = 1};
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    begin_llama(&w, true);
    write_it(&w, false);
    c = open_with(&w, &rg_checkpoint_mapped);
    rg_mem_fail_at(1);
    assert_int_equal(rg_preload(c, &part, NULL, NULL, NULL), RG_E_NOMEM);
    rg_mem_fail_at(0);
    rg_checkpoint_close(c);
    cw_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef __linux__
        TEST(loading_a_part_touches_no_page_of_other_layers),
#endif
        TEST(a_large_part_is_read_by_several_threads),
        TEST(a_preload_without_memory_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
