/* What the fuzz targets share: bytes taken one by one as the arguments of calls, and a check that ends the process. */
#ifndef EV_FUZZ_H
#define EV_FUZZ_H

#include "index/index.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                      \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                            \
        }                                                                       \
    } while (0)

typedef struct {
    const uint8_t *at;
    size_t left;
} input;

static inline unsigned next_byte(input *in) {
    if (!in->left) return 0;
    in->left--;
    return *in->at++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
