/* fuzz_tokenizer_json.c - text/tokenizer: a tokenizer.json is loaded or refused; a loaded one
 * encodes to ids that it knows. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "fuzz_dir.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char sample[] = "Hello, 123 w\xc3\xb6rld \xf0\x9f\x98\x80\xff <|im_end|>\r\n  x";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rg_tokenizer *t = NULL;
    struct rg_err        err = {0};
    const int64_t        live = rg_mem_live();

    fuzz_write("tokenizer.json", data, size);
    if (rg_tokenizer_open(&t, fuzz_dir(), &err) == RG_OK) {
        struct rg_ids ids = {0};

        if (rg_tokenizer_encode(t, sample, sizeof(sample) - 1, NULL, 0, RG_CONTROL_ALL, &ids,
                                &err) == RG_OK) {
            for (size_t i = 0; i < ids.len; i++) {
                assert(ids.data[i] >= 0);
                assert((uint32_t)ids.data[i] < rg_tokenizer_vocab_size(t));
            }
        }
        rg_ids_free(&ids);
        rg_tokenizer_close(t);
    } else {
        assert(err.message[0]);
    }
    assert(rg_mem_live() == live);
    return 0;
}
