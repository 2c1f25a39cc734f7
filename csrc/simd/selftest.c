/* Every kernel of the path in use against plain C, on rows of many lengths: for machines on which no test suite can
 * run. */
#include "edgevec.h"
#include "simd/isa.h"

#include <math.h>

enum { LONGEST = 800, ROWS = 7 };

/* Row 0 is the query. The bytes also serve as bits. */
typedef struct {
    float floats[1 + ROWS][LONGEST];
    int8_t bytes[1 + ROWS][LONGEST];
} samples;

static void fill(samples *s) {
    uint32_t state = 1;
    for (size_t row = 0; row <= ROWS; row++)
        for (size_t i = 0; i < LONGEST; i++) {
            state = state * 1664525u + 1013904223u;
            s->floats[row][i] = (float)(state >> 8) / (1 << 23) - 1;
            s->bytes[row][i] = (int8_t)((int)(state >> 16) % 255 - 127);
        }
}

/* Of n terms that are 4 at most, since the floats lie in [-1, 1). */
static int close_enough(float a, float b, size_t n) { return fabsf(a - b) <= 4 * (float)n * (float)n / (1 << 23); }

/* Does one row's result agree with plain C's, and with the result that came with other rows? */
#define AGREE_EXACTLY(kernel, q, r, n, together) \
    (fast->kernel(q, r, n) == plain->kernel(q, r, n) && fast->kernel(q, r, n) == (together))
#define AGREE_CLOSELY(kernel, q, r, n, together) \
    (close_enough(fast->kernel(q, r, n), plain->kernel(q, r, n), n) && fast->kernel(q, r, n) == (together))

/* The same for vectors in 24 bits, whose distances are compared in the samples' units. */
static int first_sq24_failure(const ev__kernels *fast, const samples *s, size_t n) {
    const ev__kernels *plain = &ev__kernels_scalar;
    int8_t code[ROWS][LONGEST], expected_code[LONGEST];
    int16_t residual[ROWS][LONGEST], expected[LONGEST];
    const void *codes[ROWS], *residuals[ROWS];
    float steps[ROWS], dots[ROWS], distances[ROWS], dot, distance;
    for (size_t i = 0; i < ROWS; i++) {
        codes[i] = code[i];
        residuals[i] = residual[i];
        float scale = plain->encode_i8(s->floats[1 + i], s->floats[0], n, code[i]);
        memcpy(expected_code, code[i], n);
        plain->residual_i8(s->floats[1 + i], s->floats[0], scale, n, expected_code, expected);
        fast->residual_i8(s->floats[1 + i], s->floats[0], scale, n, code[i], residual[i]);
        if (memcmp(code[i], expected_code, n) || memcmp(residual[i], expected, n * sizeof *expected)) return 8;
        steps[i] = scale / 65536;
    }
    fast->dot_sq24_rows(s->floats[0], codes, residuals, ROWS, n, dots);
    fast->l2_sq24_rows(s->floats[0], codes, residuals, steps, ROWS, n, distances);
    for (size_t i = 0; i < ROWS; i++) {
        plain->dot_sq24_rows(s->floats[0], codes + i, residuals + i, 1, n, &dot);
        if (!close_enough(dots[i] * steps[i], dot * steps[i], n)) return 9;
        plain->l2_sq24_rows(s->floats[0], codes + i, residuals + i, steps + i, 1, n, &distance);
        if (!close_enough(distances[i], distance, 3 * n)) return 10; /* of terms that are 9 at most */
    }
    return 0;
}

/* The first kernel, numbered as in the table, that fails with rows of n elements. */
static int first_failure(const ev__kernels *fast, const samples *s, size_t n) {
    const ev__kernels *plain = &ev__kernels_scalar;
    const uint8_t *bits = (const uint8_t *)s->bytes[0];
    const size_t bit_bytes = n / EV_PLANES / 8 * 8;
    const void *float_rows[ROWS], *byte_rows[ROWS];
    float dots[ROWS], distances[ROWS];
    int32_t byte_dots[ROWS], bit_dots[ROWS];
    uint32_t differing[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        float_rows[i] = s->floats[1 + i];
        byte_rows[i] = s->bytes[1 + i];
    }
    fast->dot_f32_rows(s->floats[0], float_rows, ROWS, n, dots);
    fast->l2_f32_rows(s->floats[0], float_rows, ROWS, n, distances);
    fast->dot_i8_rows(s->bytes[0], byte_rows, ROWS, n, byte_dots);
    fast->hamming_rows(bits, byte_rows, ROWS, bit_bytes, differing);
    fast->dot_bits_rows(bits, byte_rows, ROWS, bit_bytes, bit_dots);
    for (size_t i = 0; i < ROWS; i++) {
        if (!AGREE_CLOSELY(dot_f32, s->floats[0], float_rows[i], n, dots[i])) return 1;
        if (!AGREE_CLOSELY(l2_f32, s->floats[0], float_rows[i], n, distances[i])) return 2;
        if (!AGREE_EXACTLY(dot_i8, s->bytes[0], byte_rows[i], n, byte_dots[i])) return 3;
        if (!AGREE_EXACTLY(hamming, bits, byte_rows[i], bit_bytes, differing[i])) return 4;
        if (!AGREE_EXACTLY(dot_bits, bits, byte_rows[i], bit_bytes, bit_dots[i])) return 5;
    }
    int8_t code[LONGEST], expected[LONGEST];
    float scale = fast->encode_i8(s->floats[0], s->floats[1], n, code);
    if (scale != plain->encode_i8(s->floats[0], s->floats[1], n, expected) || memcmp(code, expected, n) != 0) return 6;
    if (fast->crc32c(0, bits, n) != plain->crc32c(0, bits, n)) return 7;
    return first_sq24_failure(fast, s, n);
}

int ev_selftest(void) {
    const ev__kernels *kernels = ev__simd();
    samples s;
    if (!kernels) return -1;
    fill(&s);
    for (size_t n = 0; n <= LONGEST; n += n < 130 ? 1 : 67) {
        int failure = first_failure(kernels, &s, n);
        if (failure) return failure;
    }
    return 0;
}
