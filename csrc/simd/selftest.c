/* Every kernel of the path in use against plain C, on rows of many lengths: for machines on which no test suite can
 * run. */
#include "base/base.h"
#include "edgevec.h"
#include "simd/isa.h"

#include <math.h>
#include <stdbool.h>

enum { LONGEST = 800, ROWS = 7, CELLS = EV_ELEMENTS * EV_MEASURES };

/* Row 0 is the query. The bytes also serve as bits; codes and residuals are those of the floats. What follows the steps
 * is room for what is compared: all of it is more than the stack of a small thread holds. */
typedef struct {
    float floats[1 + ROWS][LONGEST];
    int8_t bytes[1 + ROWS][LONGEST];
    int8_t codes[ROWS][LONGEST];
    int16_t residuals[ROWS][LONGEST];
    float steps[ROWS];
    int8_t code[LONGEST], queries[2 * (LONGEST + 4)], room[EV_TILE * (LONGEST + 4)];
    int16_t residual[LONGEST];
    uint8_t tile[(LONGEST + 7) / 8 * 4 * EV_TILE];
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

/* Of n terms that are 9 at most, since the floats lie in [-1, 1) and what is compared with them in [-2, 2]. */
static bool close_enough(float a, float b, size_t n) { return fabsf(a - b) <= 9 * (float)n * (float)n / (1 << 23); }

/* The rows of an element type, and the query. */
static const void *rows_of(const samples *s, ev__element element, const void **at, const void **residuals) {
    for (size_t i = 0; i < ROWS; i++) {
        residuals[i] = s->residuals[i];
        at[i] = element == EV_F32    ? (const void *)s->floats[1 + i]
                : element == EV_SQ24 ? (const void *)s->codes[i]
                                     : (const void *)s->bytes[1 + i];
    }
    return element == EV_F32 || element == EV_SQ24 ? (const void *)s->floats[0] : (const void *)s->bytes[0];
}

/* Does each row's result agree with plain C's, and is it the same alone as with other rows? */
static bool agrees(const ev__kernels *fast, const samples *s, ev__element element, ev__measure measure, size_t n) {
    const bool exact = element == EV_I8 || element == EV_BITS;
    const void *at[ROWS], *residuals[ROWS], *query = rows_of(s, element, at, residuals);
    float together[ROWS], alone, plain;
    if (element == EV_BITS) n = n / EV_PLANES / 8 * 8;
    fast->rows[element][measure](query, &(ev__rows){at, residuals, s->steps}, ROWS, n, together);
    for (size_t i = 0; i < ROWS; i++) {
        const ev__rows row = {at + i, residuals + i, s->steps + i};
        const float unit = element == EV_SQ24 && measure == EV_DOT ? s->steps[i] : 1;
        fast->rows[element][measure](query, &row, 1, n, &alone);
        ev__kernels_scalar.rows[element][measure](query, &row, 1, n, &plain);
        if (memcmp(&alone, &together[i], sizeof alone) != 0) return false;
        if (exact ? memcmp(&alone, &plain, sizeof alone) != 0 : !close_enough(alone * unit, plain * unit, n))
            return false;
    }
    return true;
}

/* Makes the 24-bit vectors, too. */
static bool encodes(const ev__kernels *fast, samples *s, size_t n) {
    const ev__kernels *plain = &ev__kernels_scalar;
    bool agree = true;
    for (size_t i = 0; i < ROWS; i++) {
        const float *v = s->floats[1 + i], *center = s->floats[0];
        float scale = plain->encode_i8(v, center, n, s->codes[i]);
        agree &= fast->encode_i8(v, center, n, s->code) == scale && memcmp(s->code, s->codes[i], n) == 0;
        plain->residual_i8(v, center, scale, n, s->codes[i], s->residuals[i]);
        fast->residual_i8(v, center, scale, n, s->code, s->residual);
        agree &= memcmp(s->code, s->codes[i], n) == 0;
        agree &= memcmp(s->residual, s->residuals[i], n * sizeof *s->residual) == 0;
        s->steps[i] = scale / 65536;
    }
    return agree;
}

/* Two of the rows, in the range of a tile's queries, against all. */
static bool tiles_agree(const ev__kernels *fast, samples *s, size_t n) {
    int8_t *codes = memset(s->queries, 0, sizeof s->queries);
    int32_t sums[2] = {0}, out[2 * EV_TILE], plain[2 * EV_TILE];
    const void *rows[ROWS];
    const ev__tile_queries queries = {codes, (n + 3) / 4 * 4, 2, sums};
    for (size_t i = 0; i < ROWS; i++) rows[i] = s->bytes[1 + i];
    for (size_t q = 0; q < 2; q++)
        for (size_t i = 0; i < n; i++) {
            int8_t element = (int8_t)(s->bytes[q][i] * ev__tile_most(fast) / 127);
            codes[q * queries.stride + i] = element;
            sums[q] += element;
        }
    ev__tile_i8(fast, &queries, rows, ROWS, n, s->room, out);
    ev__tile_i8(&ev__kernels_scalar, &queries, rows, ROWS, n, s->room, plain);
    return memcmp(out, plain, ROWS * sizeof *out) == 0 &&
           memcmp(out + EV_TILE, plain + EV_TILE, ROWS * sizeof *out) == 0;
}

/* The bytes as 4-bit numbers, and as the query. */
static bool nibbles_agree(const ev__kernels *fast, samples *s, size_t n) {
    int8_t *query = memset(s->queries, 0, sizeof s->queries);
    int32_t sum = 0, out[EV_TILE], plain[EV_TILE];
    uint8_t *tile = s->tile;
    if (!fast->tile_i4) return true;
    for (size_t i = 0; i < sizeof s->tile; i++) tile[i] = (uint8_t)s->bytes[1 + i % ROWS][i / ROWS % LONGEST];
    for (size_t i = 0; i < n; i++) sum += query[i] = s->bytes[0][i];
    fast->tile_i4(query, sum, tile, n, out);
    ev__kernels_scalar.tile_i4(query, sum, tile, n, plain);
    return memcmp(out, plain, sizeof out) == 0;
}

/* The first kernel, numbered as in the table from 1, that fails with rows of n elements. */
static int first_failure(const ev__kernels *fast, samples *s, size_t n) {
    if (!encodes(fast, s, n)) return CELLS + 1;
    for (int cell = 0; cell < CELLS; cell++)
        if (!agrees(fast, s, (ev__element)(cell / EV_MEASURES), (ev__measure)(cell % EV_MEASURES), n)) return cell + 1;
    if (fast->crc32c(0, s->bytes, n) != ev__kernels_scalar.crc32c(0, s->bytes, n)) return CELLS + 2;
    return n == 0 || (tiles_agree(fast, s, n) && nibbles_agree(fast, s, n)) ? 0 : CELLS + 3;
}

int ev_selftest(void) {
    const ev__kernels *table = ev__simd();
    samples *s = table ? ev__alloc(sizeof *s, EV_LINE) : NULL;
    if (!s) return -1;
    const ev__kernels kernels = ev__kernels_complete(table);
    int failure = 0;
    fill(s);
    for (size_t n = 0; n <= LONGEST && !failure; n += n < 130 ? 1 : 67) failure = first_failure(&kernels, s, n);
    ev__release(s, sizeof *s, EV_LINE);
    return failure;
}
