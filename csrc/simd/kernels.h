/* The kernel table: everything in edgevec that is worth a SIMD instruction, one column per instruction set.
 *
 * To add an ISA: write kernels_<isa>.c with an `ev__kernels_<isa>` table, declare that in isa.h, add its row to
 * dispatch.c.
 *
 * Contracts that hold for every table:
 *   - any n from 0 to 65,535 elements, any alignment, nothing is read outside [p, p + n);
 *   - integer kernels return the same bits on every ISA. i8 values lie in [-127, 127] (never -128), which is what makes
 *     the u8 x i8 instructions exact: a pair sums to at most 2 * 127 * 127 < 2^15;
 *   - float kernels may differ from scalar by rounding only: |error| <= n * 2^-23 * sum |a_i * b_i|;
 *   - the *_rows forms give bit for bit what the single form gives, for m rows that may lie anywhere, and prefetch the
 *     rows ahead of the one they work on.
 */
#ifndef EV_KERNELS_H
#define EV_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Bit planes of a binary query: two's complement, so plane 3 weighs -8. */
#define EV_PLANES 4

typedef struct ev__kernels {
    const char *name;
    size_t sums; /* that kernels on floats run side by side, at least: a row of n is n / sums terms deep */

    float (*dot_f32)(const float *a, const float *b, size_t n);
    float (*l2_f32)(const float *a, const float *b, size_t n); /* squared */
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n);
    /* Bits that differ. bytes is a multiple of 8. */
    uint32_t (*hamming)(const uint8_t *a, const uint8_t *b, size_t bytes);
    /* sum over planes j of w_j * popcount(plane_j & code), w = 1, 2, 4, -8. planes: EV_PLANES runs of `bytes` bytes.
     * bytes is a multiple of 8. */
    int32_t (*dot_bits)(const uint8_t *planes, const uint8_t *code, size_t bytes);

    /* One query, m rows: rows[i] points to the i-th. */
    void (*dot_f32_rows)(const float *query, const void *const *rows, size_t m, size_t n, float *out);
    void (*l2_f32_rows)(const float *query, const void *const *rows, size_t m, size_t n, float *out);
    void (*dot_i8_rows)(const int8_t *query, const void *const *rows, size_t m, size_t n, int32_t *out);
    void (*hamming_rows)(const uint8_t *query, const void *const *rows, size_t m, size_t bytes, uint32_t *out);
    void (*dot_bits_rows)(const uint8_t *planes, const void *const *rows, size_t m, size_t bytes, int32_t *out);

    /* The same with 24-bit vectors, whose elements are the integers e_i = 65536 * code_i + residual_i (int8, int16):
     * sum of query_i * e_i; sum of (query_i - steps[row] * e_i)^2. */
    void (*dot_sq24_rows)(const float *query, const void *const *codes, const void *const *residuals, size_t m,
                          size_t n, float *out);
    void (*l2_sq24_rows)(const float *query, const void *const *codes, const void *const *residuals, const float *steps,
                         size_t m, size_t n, float *out);

    /* v - center as integers in [-127, 127] times the scale that is returned: the largest of them is 127 or -127. All
     * zero, and the scale too, where v is the center to within 1e-35. */
    float (*encode_i8)(const float *v, const float *center, size_t n, int8_t *code);
    /* What these codes leave of v - center, in steps of scale / 65536, so that it is (65536 * code + residual) steps to
     * within half of one. A code may change by one on the way. */
    void (*residual_i8)(const float *v, const float *center, float scale, size_t n, int8_t *code, int16_t *residual);

    /* CRC-32C (Castagnoli), as in iSCSI; crc is the value so far, 0 first. */
    uint32_t (*crc32c)(uint32_t crc, const void *bytes, size_t n);
} ev__kernels;

/* The table in use; NULL when EDGEVEC_SIMD asks for one that is unavailable. Decided once, on the first call. */
const ev__kernels *ev__simd(void);
/* Always there: the oracle of the others. */
extern const ev__kernels ev__kernels_scalar;
/* Every table that this machine can run, scalar first; returns how many (at most 8). For tests. */
size_t ev__simd_runnable(const ev__kernels **out);

#endif
