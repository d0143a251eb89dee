/* fuzz_tiktoken_model.c - text/tokenizer: a tiktoken.model and the files beside it are loaded or
 * refused; a loaded one loses nothing of a text.
 *
 * Input      tiktoken.model, tokenizer_config.json, config.json.  A tiktoken.model that begins with
 *            "+" stands for one that begins with the 256 bytes in order. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz_dir.h"
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_BYTES_MAX = 1 << 20 };

/* "AA== 0\nAQ== 1\n..." */
static size_t write_bytes(char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t            n = 0;

    for (unsigned i = 0; i < 256; i++)
        n += (size_t)snprintf(out + n, 32, "%c%c== %u\n", digits[i >> 2], digits[(i & 3) << 4], i);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char          file[FILE_BYTES_MAX];
    static size_t        n_bytes;
    struct rg_tokenizer *t = NULL;
    struct rg_err        err = {0};
    struct fuzz_part     parts[3];
    const int64_t        live = rg_mem_live();

    if (n_bytes == 0)
        n_bytes = write_bytes(file);
    (void)fuzz_split(data, size, parts, 3);
    if (parts[0].size > FILE_BYTES_MAX - n_bytes)
        return 0;
    if (parts[0].size > 0 && parts[0].data[0] == '+') {
        memcpy(file + n_bytes, parts[0].data + 1, parts[0].size - 1);
        parts[0] = (struct fuzz_part){file, n_bytes + parts[0].size - 1};
    }
    fuzz_write("tiktoken.model", &parts[0]);
    fuzz_write("tokenizer_config.json", &parts[1]);
    fuzz_write("config.json", &parts[2]);
    if (rg_tokenizer_open(&t, fuzz_dir(), &err) == RG_OK) {
        fuzz_use_tokenizer(t, true);
        rg_tokenizer_close(t);
    } else {
        assert(err.message[0]);
    }
    assert(rg_mem_live() == live);
    return 0;
}
