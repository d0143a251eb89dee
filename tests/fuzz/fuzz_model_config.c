/* fuzz_model_config.c - checkpoint/model_config: any bytes give a config within the limits or an
 * error, and nothing leaks. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "checkpoint/model_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rg_model_config c = {0};
    struct rg_err          err = {0};
    const int64_t          live = rg_mem_live();

    if (rg_model_config_parse(&c, (const char *)data, size, "config.json", &err) == RG_OK) {
        assert(c.num_hidden_layers > 0 && c.hidden_size > 0 && c.vocab_size > 0);
        for (uint32_t i = 0; i < c.num_hidden_layers; i++) {
            (void)rg_model_layer_is_moe(&c, i);
            (void)rg_model_layer_is_sliding(&c, i);
        }
        rg_model_config_free(&c);
    } else {
        assert(err.message[0]);
    }
    assert(rg_mem_live() == live);
    return 0;
}
