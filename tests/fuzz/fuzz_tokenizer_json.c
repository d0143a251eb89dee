/* fuzz_tokenizer_json.c - text/tokenizer: a tokenizer.json is loaded or refused; a loaded one
 * encodes to ids that it knows. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "fuzz_dir.h"
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rg_tokenizer   *t = NULL;
    struct rg_err          err = {0};
    const int64_t          live = rg_mem_live();
    const struct fuzz_part file = {(const char *)data, size};

    fuzz_write("tokenizer.json", size ? &file : &(const struct fuzz_part){"", 0});
    if (rg_tokenizer_open(&t, fuzz_dir(), &err) == RG_OK) {
        fuzz_use_tokenizer(t, false);
        rg_tokenizer_close(t);
    } else {
        assert(err.message[0]);
    }
    assert(rg_mem_live() == live);
    return 0;
}
