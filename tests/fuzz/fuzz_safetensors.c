/* fuzz_safetensors.c - checkpoint/safetensors: every tensor of a file that was accepted lies inside
 * it and can be read. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "checkpoint/safetensors.h"
#include "fuzz_dir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t read_all(const struct rg_tensor_set *s)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < rg_tensor_set_count(s); i++) {
        const struct rg_tensor_info *t = rg_tensor_set_at(s, i);
        const uint8_t               *p = rg_tensor_bytes(s, t);

        assert(t->offset + t->bytes <= rg_tensor_set_file(s, t->file)->bytes);
        assert(rg_tensor_set_find(s, t->name) == t);
        for (uint64_t k = 0; k < t->bytes; k++)
            sum += p[k];
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rg_tensor_set *s = NULL, *headers = NULL;
    struct rg_err         err = {0};
    const int64_t         live = rg_mem_live();

    fuzz_write("model.safetensors", data, size);

    const enum rg_code mapped = rg_tensor_set_open(&s, fuzz_dir(), false, &err);
    const enum rg_code only = rg_tensor_set_open(&headers, fuzz_dir(), true, &err);

    assert(mapped == only);
    if (mapped == RG_OK)
        (void)read_all(s);
    else
        assert(err.message[0]);
    rg_tensor_set_close(s);
    rg_tensor_set_close(headers);
    assert(rg_mem_live() == live);
    return 0;
}
