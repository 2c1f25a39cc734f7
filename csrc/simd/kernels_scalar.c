/* Plain C: the oracle of the other tables, and what a machine without SIMD uses. */
#include "simd/isa.h"

/* Eight sums side by side: C forbids a compiler to reorder one, and a chain of additions would wait for each other. */
#define SUMS 8

static float sum_f32(const float *sums) {
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

static float dot_f32_one(const float *a, const float *b, size_t n) {
    float sums[SUMS] = {0};
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t j = 0; j < SUMS; j++) sums[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i + j < n; j++) sums[j] += a[i + j] * b[i + j];
    return sum_f32(sums);
}

static float l2_f32_one(const float *a, const float *b, size_t n) {
    float sums[SUMS] = {0};
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t j = 0; j < SUMS; j++) sums[j] += (a[i + j] - b[i + j]) * (a[i + j] - b[i + j]);
    for (size_t j = 0; i + j < n; j++) sums[j] += (a[i + j] - b[i + j]) * (a[i + j] - b[i + j]);
    return sum_f32(sums);
}

static int32_t dot_i8_one(const int8_t *a, const int8_t *b, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static uint32_t l2_i8_one(const int8_t *a, const int8_t *b, size_t n) {
    uint32_t sum = 0; /* 65,535 times 254 squared fit */
    for (size_t i = 0; i < n; i++) sum += (uint32_t)((a[i] - b[i]) * (a[i] - b[i]));
    return sum;
}

/* Bits set, summed within ever wider fields; the multiplication adds the eight bytes up. */
static uint32_t popcount(uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
    return (uint32_t)((x * 0x0101010101010101u) >> 56);
}

static uint32_t l2_bits_one(const uint8_t *a, const uint8_t *b, size_t bytes) {
    uint32_t differ = 0;
    for (size_t i = 0; i < bytes; i += 8) differ += popcount(ev__read64(a + i) ^ ev__read64(b + i));
    return differ;
}

static int32_t dot_bits_one(const uint8_t *planes, const uint8_t *code, size_t bytes) {
    static const int32_t weights[EV_PLANES] = {1, 2, 4, -8};
    int32_t sum = 0;
    for (size_t j = 0; j < EV_PLANES; j++) {
        const uint8_t *plane = planes + j * bytes;
        uint32_t common = 0;
        for (size_t i = 0; i < bytes; i += 8) common += popcount(ev__read64(plane + i) & ev__read64(code + i));
        sum += weights[j] * (int32_t)common;
    }
    return sum;
}

/* ---- 24-bit vectors -------------------------------------------------------------------------- */

EV_INLINE float sq24_term(const float *q, const int8_t *code, const int16_t *residual, float step, size_t i, int l2) {
    float element = (float)(65536 * code[i] + residual[i]), d = q[i] - step * element;
    return l2 ? d * d : q[i] * element;
}

EV_INLINE float sq24_one(const float *q, const int8_t *code, const int16_t *residual, float step, size_t n, int l2) {
    float sums[SUMS] = {0};
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t j = 0; j < SUMS; j++) sums[j] += sq24_term(q, code, residual, step, i + j, l2);
    for (size_t j = 0; i + j < n; j++) sums[j] += sq24_term(q, code, residual, step, i + j, l2);
    return sum_f32(sums);
}

/* ---- one query, many rows -------------------------------------------------------------------- */

#define ROWS(kernel, element, out_type)                                                                    \
    static void kernel##_scalar(const void *query, const ev__rows *rows, size_t m, size_t n, void *into) { \
        out_type *out = into;                                                                              \
        for (size_t i = 0; i < m; i++) {                                                                   \
            ev__prefetch(rows->at, i + 1, i + 2, m, n * sizeof(element));                                  \
            out[i] = kernel##_one(query, rows->at[i], n);                                                  \
        }                                                                                                  \
    }

ROWS(dot_f32, float, float)
ROWS(l2_f32, float, float)
ROWS(dot_i8, int8_t, int32_t)
ROWS(l2_i8, int8_t, uint32_t)
ROWS(l2_bits, uint8_t, uint32_t)
ROWS(dot_bits, uint8_t, int32_t)

EV_INLINE void sq24_rows(const float *query, const ev__rows *rows, size_t m, size_t n, int l2, float *out) {
    for (size_t i = 0; i < m; i++) {
        ev__prefetch(rows->residuals, i + 1, i + 2, m, n * sizeof(int16_t));
        out[i] = sq24_one(query, rows->at[i], rows->residuals[i], l2 ? rows->steps[i] : 0, n, l2);
    }
}

static void dot_sq24_scalar(const void *query, const ev__rows *rows, size_t m, size_t n, void *out) {
    sq24_rows(query, rows, m, n, 0, out);
}

static void l2_sq24_scalar(const void *query, const ev__rows *rows, size_t m, size_t n, void *out) {
    sq24_rows(query, rows, m, n, 1, out);
}

#define EV_KERNEL static
#define EV_NAME(kernel) kernel##_scalar
#include "simd/template_encode.h"

/* ---- CRC-32C --------------------------------------------------------------------------------- */

/* Eight bytes at a time ("slicing by 8"). A CRC is linear over GF(2), so an entry is the exclusive or of the entries of
 * its bits: POWERS names, for the table of the byte that has k bytes after it, the eight of them; each follows from the
 * one before by one step of the shift register, starting at the reflected polynomial 0x82F63B78. */
#define BIT(i, j, power) ((i) >> (j) & 1u ? (power) : 0u)
#define ENTRY(i, a, b, c, d, e, f, g, h)                                                                      \
    (BIT(i, 0, a) ^ BIT(i, 1, b) ^ BIT(i, 2, c) ^ BIT(i, 3, d) ^ BIT(i, 4, e) ^ BIT(i, 5, f) ^ BIT(i, 6, g) ^ \
     BIT(i, 7, h))
#define ENTRIES4(i, a, b, c, d, e, f, g, h)                                      \
    ENTRY((i), a, b, c, d, e, f, g, h), ENTRY((i) + 1u, a, b, c, d, e, f, g, h), \
        ENTRY((i) + 2u, a, b, c, d, e, f, g, h), ENTRY((i) + 3u, a, b, c, d, e, f, g, h)
#define ENTRIES16(i, a, b, c, d, e, f, g, h)                                           \
    ENTRIES4((i), a, b, c, d, e, f, g, h), ENTRIES4((i) + 4u, a, b, c, d, e, f, g, h), \
        ENTRIES4((i) + 8u, a, b, c, d, e, f, g, h), ENTRIES4((i) + 12u, a, b, c, d, e, f, g, h)
#define ENTRIES64(i, a, b, c, d, e, f, g, h)                                              \
    ENTRIES16((i), a, b, c, d, e, f, g, h), ENTRIES16((i) + 16u, a, b, c, d, e, f, g, h), \
        ENTRIES16((i) + 32u, a, b, c, d, e, f, g, h), ENTRIES16((i) + 48u, a, b, c, d, e, f, g, h)
#define POWERS(a, b, c, d, e, f, g, h)                                              \
    {ENTRIES64(0u, a, b, c, d, e, f, g, h), ENTRIES64(64u, a, b, c, d, e, f, g, h), \
     ENTRIES64(128u, a, b, c, d, e, f, g, h), ENTRIES64(192u, a, b, c, d, e, f, g, h)}

static const uint32_t crc_table[8][256] = {
    POWERS(0xF26B8303u, 0xE13B70F7u, 0xC79A971Fu, 0x8AD958CFu, 0x105EC76Fu, 0x20BD8EDEu, 0x417B1DBCu, 0x82F63B78u),
    POWERS(0x13A29877u, 0x274530EEu, 0x4E8A61DCu, 0x9D14C3B8u, 0x3FC5F181u, 0x7F8BE302u, 0xFF17C604u, 0xFBC3FAF9u),
    POWERS(0xA541927Eu, 0x4F6F520Du, 0x9EDEA41Au, 0x38513EC5u, 0x70A27D8Au, 0xE144FB14u, 0xC76580D9u, 0x8B277743u),
    POWERS(0xDD45AAB8u, 0xBF672381u, 0x7B2231F3u, 0xF64463E6u, 0xE964B13Du, 0xD725148Bu, 0xABA65FE7u, 0x52A0C93Fu),
    POWERS(0x38116FACu, 0x7022DF58u, 0xE045BEB0u, 0xC5670B91u, 0x8F2261D3u, 0x1BA8B557u, 0x37516AAEu, 0x6EA2D55Cu),
    POWERS(0xEF306B19u, 0xDB8CA0C3u, 0xB2F53777u, 0x6006181Fu, 0xC00C303Eu, 0x85F4168Du, 0x0E045BEBu, 0x1C08B7D6u),
    POWERS(0x68032CC8u, 0xD0065990u, 0xA5E0C5D1u, 0x4E2DFD53u, 0x9C5BFAA6u, 0x3D5B83BDu, 0x7AB7077Au, 0xF56E0EF4u),
    POWERS(0x493C7D27u, 0x9278FA4Eu, 0x211D826Du, 0x423B04DAu, 0x847609B4u, 0x0D006599u, 0x1A00CB32u, 0x34019664u),
};

static uint32_t crc32c_scalar(uint32_t crc, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t x = ev__read64(p) ^ crc;
        crc = crc_table[7][x & 255] ^ crc_table[6][x >> 8 & 255] ^ crc_table[5][x >> 16 & 255] ^
              crc_table[4][x >> 24 & 255] ^ crc_table[3][x >> 32 & 255] ^ crc_table[2][x >> 40 & 255] ^
              crc_table[1][x >> 48 & 255] ^ crc_table[0][x >> 56];
    }
    for (; n; n--, p++) crc = crc_table[0][(crc ^ *p) & 255] ^ crc >> 8;
    return ~crc;
}

/* ---- tiles ----------------------------------------------------------------------------------- */

static void tile_i4_scalar(const int8_t *query, int32_t sum, const void *tile, size_t n, int32_t *out) {
    const uint8_t *four = tile;
    for (size_t row = 0; row < EV_TILE; row++) out[row] = -15 * sum;
    for (size_t i = 0; i < n; i += 8)
        for (size_t row = 0; row < EV_TILE; row++, four += 4)
            for (size_t j = 0; j < 4; j++)
                out[row] += 2 * (query[i + j] * (four[j] & 15) + query[i + 4 + j] * (four[j] >> 4));
}

static uint64_t tile_reach_scalar(const int32_t *products, const ev__tile_limits *limits, const ev__tile_test *test) {
    uint64_t bits = 0;
    for (size_t i = 0; i < EV_TILE; i++) {
        float limit = limits->fixed[i] + (limits->inverse[i] * test->by_inverse + limits->extent[i] * test->by_extent);
        bits |= (uint64_t)!(test->rate * (float)products[i] < limit) << i;
    }
    return bits;
}

const ev__kernels ev__kernels_scalar = {
    .name = "scalar",
    .sums = SUMS,
    .bytes_at_once = sizeof(uint64_t),
    .rows = {[EV_F32] = {[EV_DOT] = dot_f32_scalar, [EV_L2] = l2_f32_scalar},
             [EV_I8] = {[EV_DOT] = dot_i8_scalar, [EV_L2] = l2_i8_scalar},
             [EV_SQ24] = {[EV_DOT] = dot_sq24_scalar, [EV_L2] = l2_sq24_scalar},
             [EV_BITS] = {[EV_DOT] = dot_bits_scalar, [EV_L2] = l2_bits_scalar}},
    .tile_i4 = tile_i4_scalar,
    .tile_reach = tile_reach_scalar,
    .encode_i8 = encode_i8_scalar,
    .residual_i8 = residual_i8_scalar,
    .crc32c = crc32c_scalar,
};
