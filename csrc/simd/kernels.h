/* The kernel table: everything in edgevec that is worth a SIMD instruction. What compares one query with many rows has
 * a cell for each element type and measure; what else there is stands beside it.
 *
 * To add an element type or a measure: a line in the enum here and its cells in kernels_scalar.c. An instruction set
 * leaves out what it does no better than plain C: ev__kernels_complete puts the scalar kernel there.
 * To add an ISA: write kernels_<isa>.c with an `ev__kernels_<isa>` table, declare that in isa.h, add its row to
 * dispatch.c.
 *
 * Contracts that hold for every table:
 *   - any n from 0 to 65,535 elements, any alignment, nothing is read outside [p, p + n);
 *   - integer kernels return the same bits on every ISA. i8 values lie in [-127, 127] (never -128), which is what makes
 *     the u8 x i8 instructions exact: a pair sums to at most 2 * 127 * 127 < 2^15;
 *   - float kernels may differ from scalar by rounding only: |error| <= n * 2^-23 * sum |a_i * b_i|;
 *   - a row's result does not depend on the rows beside it, which may lie anywhere; rows ahead of the one in work are
 *     prefetched.
 */
#ifndef EV_KERNELS_H
#define EV_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Bit planes of a binary query: two's complement, so plane 3 weighs -8. */
#define EV_PLANES 4

/* What rows are made of, and the query that they are compared with:
 *   F32    floats; floats
 *   I8     int8; int8
 *   SQ24   the integers e_i = 65536 * code_i + residual_i (int8, int16), times a step for each row; floats
 *   BITS   bits; dot: EV_PLANES runs of as many bytes as a row has, l2: bits */
typedef enum { EV_F32, EV_I8, EV_SQ24, EV_BITS, EV_ELEMENTS } ev__element;

/* What comes out, 4 bytes a row:
 *   DOT    inner product. F32, SQ24 (without the step): float. I8, BITS: int32. Of bits, the sum over planes j of
 *          w_j * popcount(plane_j & row), w = 1, 2, 4, -8
 *   L2     squared distance. F32, SQ24: float. I8, BITS: uint32. Of bits, those that differ */
typedef enum { EV_DOT, EV_L2, EV_MEASURES } ev__measure;

/* Many rows: at[i] points to the i-th. */
typedef struct {
    const void *const *at;
    const void *const *residuals; /* SQ24 only */
    const float *steps;           /* SQ24 only */
} ev__rows;

/* One query, m rows of n elements (of BITS: n bytes, a multiple of 8). */
typedef void ev__kernel(const void *query, const ev__rows *rows, size_t m, size_t n, void *out);

/* Many queries against a tile of at most so many rows. */
#define EV_TILE 64

/* Queries of n int8, each followed by zeros up to a multiple of 4, `stride` bytes apart, with the sum of each. */
typedef struct {
    const int8_t *codes;
    size_t stride, count;
    const int32_t *sums;
} ev__tile_queries;

/* Which products of a query with the rows of a tile are large enough: rate * product reaches fixed + inverse *
 * by_inverse + extent * by_extent, a sum of floats of each row, or that is not a number. */
typedef struct {
    float fixed[EV_TILE], inverse[EV_TILE], extent[EV_TILE];
} ev__tile_limits;
typedef struct {
    float rate, by_inverse, by_extent;
} ev__tile_test;

typedef struct ev__kernels {
    const char *name;
    uint32_t sums;          /* that kernels on floats run side by side, at least: a row of n is n / sums terms deep */
    uint32_t bytes_at_once; /* that kernels on bits take: more behind a row, against zeros, are quicker than a rest */

    ev__kernel *rows[EV_ELEMENTS][EV_MEASURES];

    /* Products of all queries with m rows of n int8, 1 <= m <= EV_TILE, into out[query][EV_TILE]; what is behind the
     * m-th there may be anything. room: EV_TILE times n bytes, n rounded up to 4, where rows are laid out anew. Call
     * ev__tile_i8. NULL: the kernel of one query will do. */
    void (*tile_i8)(const ev__tile_queries *queries, const void *const *rows, size_t m, size_t n, void *room,
                    int32_t *out);
    int tile_most; /* elements of its queries lie in [-tile_most, tile_most] */
    /* Products of one query of n int8, followed by zeros up to a multiple of 8, whose sum is `sum`, with EV_TILE rows
     * of 4-bit numbers u that stand for 2 u - 15. Of 8 coordinates a row has 4 bytes, the first 4 numbers in their
     * lower halves, and those of all rows lie side by side. NULL: not done there. */
    void (*tile_i4)(const int8_t *query, int32_t sum, const void *tile, size_t n, int32_t *out);
    /* A bit for each row. */
    uint64_t (*tile_reach)(const int32_t *products, const ev__tile_limits *limits, const ev__tile_test *test);

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
/* The table with a kernel everywhere. */
ev__kernels ev__kernels_complete(const ev__kernels *table);
/* Every table that this machine can run, as it stands, scalar first; returns how many (at most 8). For tests. */
size_t ev__simd_runnable(const ev__kernels **out);

/* The inner product of two int8 vectors. */
static inline int32_t ev__dot_i8(const ev__kernels *kernels, const int8_t *a, const int8_t *b, size_t n) {
    const void *row = b;
    int32_t product;
    kernels->rows[EV_I8][EV_DOT](a, &(ev__rows){.at = &row}, 1, n, &product);
    return product;
}

static inline int ev__tile_most(const ev__kernels *kernels) { return kernels->tile_i8 ? kernels->tile_most : 127; }

static inline void ev__tile_i8(const ev__kernels *kernels, const ev__tile_queries *queries, const void *const *rows,
                               size_t m, size_t n, void *room, int32_t *out) {
    if (kernels->tile_i8) {
        kernels->tile_i8(queries, rows, m, n, room, out);
        return;
    }
    for (size_t i = 0; i < queries->count; i++)
        kernels->rows[EV_I8][EV_DOT](queries->codes + i * queries->stride, &(ev__rows){.at = rows}, m, n,
                                     out + i * EV_TILE);
}

#endif
