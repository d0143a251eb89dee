/* nfc_data.h - the tables behind rg_nfc(), made by tools/gen_unicode.py. */
#ifndef RG_TEXT_NFC_DATA_H
#define RG_TEXT_NFC_DATA_H

#include <stddef.h>
#include <stdint.h>

#include "text/unicode.h"

struct rg_nfc_class {
    uint32_t first, last;
    uint8_t  combining;
};

struct rg_nfc_pair {
    uint32_t whole, first, second; /* second 0: `whole` stands for `first` alone */
};

extern const struct rg_nfc_class  rg_nfc_classes[]; /* by code point; others have class 0  */
extern const size_t               rg_n_nfc_classes;
extern const struct rg_nfc_pair   rg_nfc_splits[]; /* by whole                             */
extern const size_t               rg_n_nfc_splits;
extern const struct rg_nfc_pair   rg_nfc_joins[]; /* by first, second                      */
extern const size_t               rg_n_nfc_joins;
extern const struct rg_code_range rg_nfc_moving[]; /* not "class 0 and certainly NFC"      */
extern const size_t               rg_n_nfc_moving;

#endif
