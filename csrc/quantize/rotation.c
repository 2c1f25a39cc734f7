/* A fast random rotation (Hadamard transforms between random signs; Ailon and Chazelle's FJLT, the form
 * used by RaBitQ). Where the number of bits is no power of two, each round turns the leading and then the trailing
 * power-of-two block; they overlap, so a few rounds mix everything. */
#include "quantize/quantize.h"

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

/* By a bit for each coordinate: every binary index has these, and most are small. */
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

/* ---- the light one --------------------------------------------------------------------------- */

enum { COLUMNS = 16 };

/* One round of random signs and butterflies, first over the rows of a matrix of 16 columns, then over
 * its columns: every coordinate comes to depend on every other. Lighter than ev__rotate, whose results files hold. */
void ev__prefilter_signs_init(uint32_t *prefilter_signs, size_t count, uint64_t seed) {
    for (size_t i = 0; i < count; i++)
        prefilter_signs[i] = (uint32_t)(ev__mix(seed ^ (0x51F700000000u + i)) >> 63) << 31;
}

/* Butterflies between `count` rows, a power of two, of COLUMNS numbers; orthonormal. */
static void mix(float *at, size_t count) {
    for (size_t half = 1; half < count; half *= 2)
        for (size_t from = 0; from < count; from += 2 * half)
            for (size_t i = from; i < from + half; i++) {
                float *restrict a = at + i * COLUMNS, *restrict b = a + half * COLUMNS;
                for (size_t k = 0; k < COLUMNS; k++) {
                    float x = a[k], y = b[k];
                    a[k] = x + y;
                    b[k] = x - y;
                }
            }
    float scale = 1.0f / sqrtf((float)count);
    for (size_t i = 0; i < count * COLUMNS; i++) at[i] *= scale;
}

/* The same between the numbers of one row. */
static void mix_row(const float *restrict in, float *restrict out) {
    float a[COLUMNS], b[COLUMNS];
    for (size_t k = 0; k < 8; k++) a[k] = in[k] + in[k + 8], a[k + 8] = in[k] - in[k + 8];
    for (size_t k = 0; k < 8; k++) b[k] = a[2 * k] + a[2 * k + 1], b[k + 8] = a[2 * k] - a[2 * k + 1];
    for (size_t k = 0; k < 8; k++) a[k] = b[2 * k] + b[2 * k + 1], a[k + 8] = b[2 * k] - b[2 * k + 1];
    for (size_t k = 0; k < 8; k++)
        out[k] = (a[2 * k] + a[2 * k + 1]) * 0.25f, out[k + 8] = (a[2 * k] - a[2 * k + 1]) * 0.25f;
}

/* By a mask for each coordinate, which vectorizes: this one runs once a search. */
static void flip_signs(float *v, const uint32_t *signs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, sizeof bits);
        bits ^= signs[i];
        memcpy(v + i, &bits, sizeof bits);
    }
}

void ev__rotate_light(const ev__quantizer *q, const float *in, ev__workspace *w) {
    size_t rows = q->bits / COLUMNS, most = 1;
    while (most * 2 <= rows) most *= 2;
    memcpy(w->rotation_buffer, in, q->dim * sizeof(float));
    memset(w->rotation_buffer + q->dim, 0, (q->bits - q->dim) * sizeof(float));
    flip_signs(w->rotation_buffer, q->prefilter_signs, q->bits);
    mix(w->rotation_buffer, most);
    if (most < rows) mix(w->rotation_buffer + (rows - most) * COLUMNS, most); /* overlapping, to reach the last rows */
    flip_signs(w->rotation_buffer, q->prefilter_signs + q->bits, q->bits);
    for (size_t i = 0; i < rows; i++) mix_row(w->rotation_buffer + i * COLUMNS, w->rotated + i * COLUMNS);
}

double ev__rotate_code(const ev__quantizer *q, const int8_t *code, ev__workspace *w) {
    for (size_t i = 0; i < q->dim; i++) w->decoded[i] = (float)code[i];
    ev__rotate_light(q, w->decoded, w);
    return (double)ev__dot_i8(&q->kernels, code, code, q->dim);
}
