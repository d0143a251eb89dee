/* fuzz_safetensors.c - checkpoint/safetensors: the tensors of files that were accepted tile them
 * exactly, have the sizes that their shapes say, and are found by their names.
 *
 * Input      a file; or a file and its index.json; or two shards and their index.json. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "checkpoint/safetensors.h"
#include "fuzz_dir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

/* The rules of the format once more, in the slowest and plainest way. */
static void check_tensor(const struct rg_tensor_set *s, const struct rg_tensor_info *t)
{
    unsigned __int128 bits = rg_dtype_bits(t->dtype);
    const uint8_t    *p = rg_tensor_bytes(s, t);

    assert(t->rank <= RG_LIMIT_ST_RANK);
    for (uint32_t i = 0; i < t->rank; i++) {
        assert(t->shape[i] <= UINT64_C(1) << 53);
        bits *= t->shape[i];
    }
    if (t->dtype != RG_DTYPE_OTHER)
        assert((bits + 7) / 8 == t->bytes);
    assert(t->offset + t->bytes <= rg_tensor_set_file(s, t->file)->bytes);
    assert(rg_tensor_set_find(s, t->name) == t);
    for (uint64_t k = 0; k < t->bytes; k++)
        sink += p[k];
}

/* The offset where the tensors of a file that begin at `from` end; 0: none begins there. */
static uint64_t next_end(const struct rg_tensor_set *s, uint32_t file, uint64_t from)
{
    for (uint32_t i = 0; i < rg_tensor_set_count(s); i++) {
        const struct rg_tensor_info *t = rg_tensor_set_at(s, i);

        if (t->file == file && t->offset == from && t->bytes > 0)
            return t->offset + t->bytes;
    }
    return 0;
}

static void check_tiles(const struct rg_tensor_set *s, uint32_t file)
{
    const struct rg_tensor_file *f = rg_tensor_set_file(s, file);
    uint64_t                     header = 0, sum = 0, at;

    assert(f->bytes >= 8);
    memcpy(&header, f->data, sizeof header);
    at = 8 + header;
    assert(header <= f->bytes - 8);
    for (uint32_t i = 0; i < rg_tensor_set_count(s); i++)
        if (rg_tensor_set_at(s, i)->file == file)
            sum += rg_tensor_set_at(s, i)->bytes;
    assert(8 + header + sum == f->bytes);
    while (at != f->bytes) {
        at = next_end(s, file, at);
        assert(at != 0);
    }
}

static void check(const struct rg_tensor_set *s)
{
    const uint32_t n = rg_tensor_set_count(s);

    for (uint32_t i = 0; i < n; i++) {
        check_tensor(s, rg_tensor_set_at(s, i));
        if (i > 0)
            assert(strcmp(rg_tensor_set_at(s, i - 1)->name, rg_tensor_set_at(s, i)->name) < 0);
    }
    assert(!rg_tensor_set_at(s, n) && !rg_tensor_set_find(s, "no tensor has this name\n"));
    for (uint32_t i = 0; i < rg_tensor_set_files(s); i++)
        check_tiles(s, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rg_tensor_set *s = NULL, *headers = NULL;
    struct rg_err         err = {0};
    const int64_t         live = rg_mem_live();
    struct fuzz_part      parts[3];
    const size_t          n = fuzz_split(data, size, parts, 3);
    const struct fuzz_part none = {0};

    fuzz_write("model.safetensors", n < 3 ? &parts[0] : &none);
    fuzz_write("model-00001-of-00002.safetensors", n < 3 ? &none : &parts[0]);
    fuzz_write("model-00002-of-00002.safetensors", n < 3 ? &none : &parts[1]);
    fuzz_write("model.safetensors.index.json", n < 3 ? &parts[1] : &parts[2]);

    const enum rg_code mapped = rg_tensor_set_open(&s, fuzz_dir(), false, &err);
    const enum rg_code only = rg_tensor_set_open(&headers, fuzz_dir(), true, &err);

    assert(mapped == only);
    if (mapped == RG_OK)
        check(s);
    else
        assert(err.message[0]);
    rg_tensor_set_close(s);
    rg_tensor_set_close(headers);
    assert(rg_mem_live() == live);
    return 0;
}
