/* A fast random rotation (Hadamard transforms between random sign flips; Ailon and Chazelle's FJLT, the form used by
 * RaBitQ). Where the number of bits is no power of two, each round turns the leading and then the trailing power-of-two
 * block; they overlap, so a few rounds mix everything. */
#include "internal.h"

#include <math.h>

#define EV_ROUNDS 4

static size_t sign_words(const ev__rotation *r) { return EV_ROUNDS * 2 * (r->bits / 64); }

int ev__rotation_init(ev__rotation *r, size_t dim, size_t bits, uint64_t seed) {
    r->dim = dim;
    r->bits = bits;
    r->signs = ev__alloc(sign_words(r) * sizeof(uint64_t), EV_LINE);
    if (!r->signs) return EV_E_NOMEM;
    for (size_t i = 0; i < sign_words(r); i++) r->signs[i] = ev__mix(seed ^ (0xB17500000000u + i));
    return EV_OK;
}

size_t ev__rotation_bytes(const ev__rotation *r) { return r->signs ? sign_words(r) * sizeof(uint64_t) : 0; }

void ev__rotation_free(ev__rotation *r) {
    ev__release(r->signs, ev__rotation_bytes(r), EV_LINE);
    *r = (ev__rotation){0};
}

static void flip(float *v, size_t n, const uint64_t *signs) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, 4);
        bits ^= (uint32_t)(signs[i >> 6] >> (i & 63) & 1) << 31;
        memcpy(v + i, &bits, 4);
    }
}

/* Orthonormal: its own inverse. */
static void hadamard(float *v, size_t n) {
    for (size_t half = 1; half < n; half *= 2)
        for (size_t i = 0; i < n; i += 2 * half)
            for (size_t j = i; j < i + half; j++) {
                float a = v[j], b = v[j + half];
                v[j] = a + b;
                v[j + half] = a - b;
            }
    float scale = 1.0f / sqrtf((float)n);
    for (size_t i = 0; i < n; i++) v[i] *= scale;
}

static size_t block_size(size_t bits) {
    size_t n = 1;
    while (n * 2 <= bits) n *= 2;
    return n;
}

void ev__rotate(const ev__rotation *r, const float *in, float *out) {
    size_t n = block_size(r->bits), words = r->bits / 64;
    memcpy(out, in, r->dim * sizeof(float));
    memset(out + r->dim, 0, (r->bits - r->dim) * sizeof(float));
    for (size_t round = 0; round < EV_ROUNDS; round++) {
        flip(out, r->bits, r->signs + 2 * round * words);
        hadamard(out, n);
        if (n == r->bits) continue;
        flip(out, r->bits, r->signs + (2 * round + 1) * words);
        hadamard(out + r->bits - n, n);
    }
}

void ev__rotate_back(const ev__rotation *r, float *inout, float *out) {
    size_t n = block_size(r->bits), words = r->bits / 64;
    for (size_t round = EV_ROUNDS; round-- > 0;) {
        if (n != r->bits) {
            hadamard(inout + r->bits - n, n);
            flip(inout, r->bits, r->signs + (2 * round + 1) * words);
        }
        hadamard(inout, n);
        flip(inout, r->bits, r->signs + 2 * round * words);
    }
    memcpy(out, inout, r->dim * sizeof(float));
}
