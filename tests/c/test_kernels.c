/* Every kernel table that this machine runs, against plain loops: all lengths, all alignments, extreme values, and
 * buffers between forbidden pages. `test_kernels NAME` also checks that NAME is the path in use. */
#include "check.h"

#include "../../csrc/edgevec.h"
#include "../../csrc/simd/kernels.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__unix__) || defined(__APPLE__)
#if !defined(__EMSCRIPTEN__)
#define GUARD_PAGES 1
#include <sys/mman.h>
#include <unistd.h>
#endif
#endif

enum { LONGEST = 65535, MOST_ROWS = 40 };

static ev__kernels tables[8]; /* with a kernel everywhere; the first is the scalar one */
static size_t table_count;

/* ---- memory between forbidden pages ---------------------------------------------------------- */

enum { ARENA_BYTES = 1 << 19 };

static uint8_t *arena(void) {
#if defined(GUARD_PAGES)
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mmap(NULL, ARENA_BYTES + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) || mprotect(p + page + ARENA_BYTES, page, PROT_NONE)) abort();
    return p + page;
#else
    uint8_t *p = malloc(ARENA_BYTES);
    if (!p) abort();
    return p;
#endif
}

/* Where in its arena a buffer lies: hard against either forbidden page, or `place` elements after the first. */
enum { AT_START = 0, AFTER_ONE = 1, AFTER_THREE = 3, AT_END = 4 };
static const int places[] = {AT_START, AFTER_ONE, AFTER_THREE, AT_END};

static void *put(uint8_t *in, int place, size_t n, size_t element) {
    return place == AT_END ? in + ARENA_BYTES - n * element : in + (size_t)place * element;
}

/* ---- samples --------------------------------------------------------------------------------- */

static uint64_t state = 88172645463325252u;

static uint32_t random32(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static void random_bytes(void *out, size_t n) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)out)[i] = (uint8_t)random32();
}

static void random_i8(int8_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (int8_t)((int)(random32() % 255) - 127);
}

static void random_f32(float *out, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = ((float)random32() / 2147483648.0f - 1.0f) * (random32() % 8 ? 1.0f : 100.0f);
}

/* Lengths: all small ones, then odd and round ones up to the longest. */
static size_t next_length(size_t n) {
    static const size_t large[] = {1101, 4096, 4097, 65535};
    if (n < 130) return n + 1;
    if (n < 1100) return n + 37 < 1100 ? n + 37 : 1100;
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        if (n < large[i]) return large[i];
    return LONGEST + 1;
}

/* ---- the oracle ------------------------------------------------------------------------------ */

/* Sum of products and of their sizes, in double. */
static double slow_dot(const float *a, const float *b, size_t n, double *sizes) {
    double sum = 0;
    *sizes = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * b[i];
        *sizes += fabs((double)a[i] * b[i]);
    }
    return sum;
}

static double slow_l2(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

static int64_t slow_dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (int64_t)a[i] * b[i];
    return sum;
}

static int bit(const uint8_t *bits, size_t i) { return bits[i / 8] >> (i % 8) & 1; }

static int64_t slow_hamming(const uint8_t *a, const uint8_t *b, size_t bytes) {
    int64_t sum = 0;
    for (size_t i = 0; i < 8 * bytes; i++) sum += bit(a, i) != bit(b, i);
    return sum;
}

static int64_t slow_dot_bits(const uint8_t *planes, const uint8_t *code, size_t bytes) {
    int64_t sum = 0;
    for (size_t i = 0; i < 8 * bytes; i++) {
        int value = 0;
        for (int j = 0; j < EV_PLANES; j++) value += bit(planes + (size_t)j * bytes, i) << j;
        if (value >= 8) value -= 16;
        sum += bit(code, i) * value;
    }
    return sum;
}

static uint32_t slow_crc32c(const uint8_t *p, size_t n) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < 8 * n; i++) {
        uint32_t out = (crc ^ (uint32_t)bit(p, i)) & 1;
        crc = crc >> 1 ^ (out ? 0x82F63B78u : 0);
    }
    return ~crc;
}

/* ---- one row --------------------------------------------------------------------------------- */

static int near(float found, double expected, double sizes, size_t n) {
    return fabs(found - expected) <= (double)n * ldexp(sizes, -23) + (double)n * ldexp(1, -149);
}

static float one_float(const ev__kernels *table, ev__measure measure, const float *a, const void *b, size_t n) {
    float out;
    table->rows[EV_F32][measure](a, &(ev__rows){.at = &b}, 1, n, &out);
    return out;
}

/* int32 or uint32, by its bits */
static uint32_t one_integer(const ev__kernels *table, ev__element element, ev__measure measure, const void *a,
                            const void *b, size_t n) {
    uint32_t out;
    table->rows[element][measure](a, &(ev__rows){.at = &b}, 1, n, &out);
    return out;
}

static void check_f32(const float *a, const float *b, size_t n) {
    double sizes, dot = slow_dot(a, b, n, &sizes), l2 = slow_l2(a, b, n);
    for (size_t t = 0; t < table_count; t++) {
        float fast_dot = one_float(&tables[t], EV_DOT, a, b, n), fast_l2 = one_float(&tables[t], EV_L2, a, b, n);
        CHECK(near(fast_dot, dot, sizes, n));
        CHECK(near(fast_dot, one_float(&tables[0], EV_DOT, a, b, n), sizes, n));
        CHECK(near(fast_l2, l2, 2 * l2, n));
        CHECK(near(fast_l2, one_float(&tables[0], EV_L2, a, b, n), l2, n));
    }
}

static void check_i8(const int8_t *a, const int8_t *b, size_t n) {
    int64_t dot = slow_dot_i8(a, b, n), l2 = slow_dot_i8(a, a, n) + slow_dot_i8(b, b, n) - 2 * dot;
    for (size_t t = 0; t < table_count; t++) {
        CHECK(one_integer(&tables[t], EV_I8, EV_DOT, a, b, n) == (uint32_t)dot);
        CHECK(one_integer(&tables[t], EV_I8, EV_L2, a, b, n) == (uint32_t)l2);
        CHECK(ev__dot_i8(&tables[t], a, b, n) == dot);
    }
}

/* By the C library's rounding, one value at a time. out: n codes, where nothing else may be written. */
static void check_encode(const float *v, const float *center, size_t n, int8_t *out) {
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(v[i] - center[i]));
    float scale = most / 127.0f, inverse = 127.0f / most;
    int zero = !(scale > 1e-37f);
    for (size_t t = 0; t < table_count; t++) {
        size_t wrong = 0;
        CHECK(tables[t].encode_i8(v, center, n, out) == (zero ? 0.0f : scale));
        for (size_t i = 0; i < n; i++) wrong += out[i] != (zero ? 0 : (int)nearbyintf((v[i] - center[i]) * inverse));
        CHECK(wrong == 0);
    }
}

/* A coordinate is 65536 * code + residual steps to within half of one; on every path in the same integers. */
static void check_refine(const float *v, const float *center, size_t n, int16_t *out) {
    static int8_t first[LONGEST], code[LONGEST];
    static int16_t expected[LONGEST];
    float scale = tables[0].encode_i8(v, center, n, first);
    double step = (double)scale / 65536;
    for (size_t t = 0; t < table_count; t++) {
        size_t wrong = 0;
        memcpy(code, first, n);
        tables[t].residual_i8(v, center, scale, n, code, out);
        for (size_t i = 0; i < n; i++) {
            double d = (double)v[i] - (double)center[i], element = 65536.0 * code[i] + out[i];
            wrong += scale > 0 ? fabs(d - step * element) > 0.5000001 * step : element != 0;
            wrong += abs(code[i] - first[i]) > 1;
        }
        CHECK(wrong == 0);
        if (t == 0)
            memcpy(expected, out, n * sizeof *out);
        else
            CHECK(memcmp(expected, out, n * sizeof *out) == 0);
    }
}

/* Halfway between two codes rounding may choose the one that is too far off for 16 bits; then the code moves. */
static void test_refine_between_codes(void) {
    static int8_t before[127], after[127];
    static int16_t residual[127];
    static float v[127], zero[127];
    size_t moved = 0;
    for (int i = 0; i < 2000; i++) {
        v[0] = 1.0f + (float)i / 2000;
        for (int j = 1; j < 127; j++) v[j] = (float)(((double)j + 0.5) / 127.0 * (double)v[0]) * (j % 2 ? 1.0f : -1.0f);
        check_refine(v, zero, 127, residual);
        float scale = tables[0].encode_i8(v, zero, 127, before);
        memcpy(after, before, sizeof after);
        tables[0].residual_i8(v, zero, scale, 127, after, residual);
        moved += memcmp(before, after, sizeof after) != 0;
    }
    CHECK(moved > 0); /* it happens */
}

static void test_encode_limits(void) {
    float ties[] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -127, 126.5f, 3.4999999f}, same[] = {3, 3, 3},
          tiny[] = {1e-38f, -1e-40f, 0};
    float large[] = {3e38f, -1e38f, 1}, zero[9] = {0};
    int8_t out[9];
    check_encode(ties, zero, 9, out);
    check_encode(same, same, 3, out);
    check_encode(tiny, zero, 3, out);
    check_encode(large, zero, 3, out);
    int16_t residual[9];
    check_refine(ties, zero, 9, residual);
    check_refine(same, same, 3, residual);
    check_refine(tiny, zero, 3, residual);
    check_refine(large, zero, 3, residual);
}

static void check_bits(const uint8_t *planes, const uint8_t *code, size_t bytes) {
    int64_t differing = slow_hamming(planes, code, bytes), dot = slow_dot_bits(planes, code, bytes);
    for (size_t t = 0; t < table_count; t++) {
        CHECK(one_integer(&tables[t], EV_BITS, EV_L2, planes, code, bytes) == (uint32_t)differing);
        CHECK(one_integer(&tables[t], EV_BITS, EV_DOT, planes, code, bytes) == (uint32_t)dot);
    }
}

static void check_crc(const uint8_t *p, size_t n) {
    uint32_t crc = slow_crc32c(p, n);
    size_t cut = n ? random32() % n : 0;
    for (size_t t = 0; t < table_count; t++) {
        CHECK(tables[t].crc32c(0, p, n) == crc);
        CHECK(tables[t].crc32c(tables[t].crc32c(0, p, cut), p + cut, n - cut) == crc);
    }
}

static void test_lengths(void) {
    uint8_t *in_a = arena(), *in_b = arena(), *in_c = arena();
    for (size_t n = 0; n <= LONGEST; n = next_length(n))
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            int place = places[i];
            size_t bytes = n / 8 * 8;
            float *fa = put(in_a, place, n, sizeof(float)), *fb = put(in_b, place, n, sizeof(float));
            random_f32(fa, n);
            random_f32(fb, n);
            check_f32(fa, fb, n);
            static int8_t codes[LONGEST + 1];
            codes[n] = 77;
            check_encode(fa, fb, n, codes);
            CHECK(codes[n] == 77);
            check_refine(fa, fb, n, put(in_c, place, n, sizeof(int16_t)));
            int8_t *ia = put(in_a, place, n, 1), *ib = put(in_b, place, n, 1);
            random_i8(ia, n);
            random_i8(ib, n);
            check_i8(ia, ib, n);
            check_crc((const uint8_t *)ia, n);
            uint8_t *planes = put(in_a, place, EV_PLANES * bytes, 1), *code = put(in_b, place, bytes, 1);
            random_bytes(planes, EV_PLANES * bytes);
            random_bytes(code, bytes);
            check_bits(planes, code, bytes);
        }
}

/* ---- extreme values -------------------------------------------------------------------------- */

static void test_extreme_bytes(void) {
    static const int8_t extremes[] = {-127, 127};
    static int8_t a[LONGEST], b[LONGEST];
    for (size_t n = 1; n <= LONGEST; n = next_length(n))
        for (int i = 0; i < 4; i++) {
            memset(a, extremes[i & 1], n);
            memset(b, extremes[i >> 1], n);
            check_i8(a, b, n);
        }
}

static void test_extreme_bits(void) {
    static uint8_t planes[EV_PLANES * 65528], code[65528];
    static const size_t sizes[] = {8, 64, 8192, 65528};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int set = 0; set < 1 << EV_PLANES; set++) {
            for (int j = 0; j < EV_PLANES; j++) memset(planes + (size_t)j * sizes[s], set >> j & 1 ? 255 : 0, sizes[s]);
            memset(code, 255, sizes[s]);
            check_bits(planes, code, sizes[s]);
        }
}

static void fill_f32(float *out, size_t n, float value) {
    for (size_t i = 0; i < n; i++) out[i] = i % 2 ? value : -value;
}

static void test_extreme_floats(void) {
    static float a[1100], b[1100];
    static const float pairs[][2] = {{1e30f, 1e-30f},  {1e15f, 3e15f},         {1e-20f, 1e-20f}, {FLT_MIN / 4, 1e3f},
                                     {1e-45f, 1e-45f}, {1e-45f, 1e38f / 1100}, {0, 1e18f},       {-1e17f, 1e17f}};
    for (size_t n = 0; n <= 1100; n = next_length(n))
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            fill_f32(a, n, pairs[i][0]);
            fill_f32(b, n, pairs[i][1]);
            double sizes, dot = slow_dot(a, b, n, &sizes), l2 = slow_l2(a, b, n);
            for (size_t t = 0; t < table_count; t++) {
                CHECK(near(one_float(&tables[t], EV_DOT, a, b, n), dot, sizes, n));
                if (l2 > FLT_MAX)
                    CHECK(isinf(one_float(&tables[t], EV_L2, a, b, n)));
                else
                    CHECK(near(one_float(&tables[t], EV_L2, a, b, n), l2, 2 * l2, n));
            }
        }
}

/* ---- many rows ------------------------------------------------------------------------------- */

typedef struct {
    const void *rows[MOST_ROWS];
    const void *query;
    size_t n; /* elements, or bytes of bits */
} batch;

/* Many rows against each of them alone, bit for bit, for every m; the element after the last must stay. */
static void check_rows(const ev__kernels *table, ev__element element, ev__measure measure, const batch *in) {
    ev__kernel *kernel = table->rows[element][measure];
    for (size_t m = 0; m <= MOST_ROWS; m++) {
        uint32_t out[MOST_ROWS + 1], single[MOST_ROWS + 1];
        memset(out, 0x5A, sizeof out);
        memset(single, 0x5A, sizeof single);
        for (size_t i = 0; i < m; i++) kernel(in->query, &(ev__rows){.at = in->rows + i}, 1, in->n, &single[i]);
        kernel(in->query, &(ev__rows){.at = in->rows}, m, in->n, out);
        CHECK(memcmp(out, single, sizeof out) == 0);
    }
}

static void check_measures(ev__element element, const batch *in) {
    for (size_t t = 0; t < table_count; t++) {
        check_rows(&tables[t], element, EV_DOT, in);
        check_rows(&tables[t], element, EV_L2, in);
    }
}

/* Rows anywhere: in no order, some of them the same, the last against the forbidden page. */
static void scatter(batch *in, uint8_t *from, size_t n, size_t element) {
    in->n = n;
    for (size_t i = 0; i < MOST_ROWS; i++) {
        size_t room = (ARENA_BYTES - n * element) / element;
        in->rows[i] = from + (i == MOST_ROWS - 1 ? room : random32() % (room + 1)) * element;
    }
}

static void test_rows(void) {
    static const size_t lengths[] = {0,   1,   3,   7,   16,  31,  63,   64,   65,   100,
                                     128, 257, 300, 384, 511, 768, 1099, 4097, 65535};
    uint8_t *in_rows = arena(), *in_query = arena();
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t n = lengths[i], bytes = n / 8 * 8;
        batch in;
        random_f32((float *)(void *)in_rows, ARENA_BYTES / sizeof(float));
        in.query = put(in_query, AT_END, n, sizeof(float));
        random_f32(put(in_query, AT_END, n, sizeof(float)), n);
        scatter(&in, in_rows, n, sizeof(float));
        check_measures(EV_F32, &in);
        random_i8((int8_t *)in_rows, ARENA_BYTES);
        in.query = put(in_query, AT_END, n, 1);
        random_i8(put(in_query, AT_END, n, 1), n);
        scatter(&in, in_rows, n, 1);
        check_measures(EV_I8, &in);
        in.query = put(in_query, AT_END, EV_PLANES * bytes, 1);
        random_bytes(put(in_query, AT_END, EV_PLANES * bytes, 1), EV_PLANES * bytes);
        scatter(&in, in_rows, bytes, 1);
        check_measures(EV_BITS, &in);
    }
}

/* ---- tiles ----------------------------------------------------------------------------------- */

enum { TILE_QUERIES = 26 }; /* as many as rows are laid out anew for, and fewer */

typedef struct {
    int8_t *codes; /* stride apart, zeros behind each */
    size_t stride;
    int32_t sums[TILE_QUERIES];
    const void *rows[EV_TILE]; /* anywhere, the last against the forbidden page */
} tile_sample;

/* extreme: all at the ends of their ranges. */
static void make_tile(tile_sample *in, uint8_t *from, size_t n, int most, int extreme) {
    for (size_t q = 0; q < TILE_QUERIES; q++) {
        int8_t *code = in->codes + q * in->stride;
        memset(code, 0, in->stride);
        in->sums[q] = 0;
        for (size_t i = 0; i < n; i++) {
            code[i] = (int8_t)(extreme ? (q % 2 ? most : -most) : (int)(random32() % (2 * (unsigned)most + 1)) - most);
            in->sums[q] += code[i];
        }
    }
    for (size_t i = 0; i < EV_TILE; i++)
        in->rows[i] = from + (i == EV_TILE - 1 ? ARENA_BYTES - n : random32() % (ARENA_BYTES - n + 1));
}

static void check_tile(const ev__kernels *table, const tile_sample *in, size_t count, size_t m, size_t n, void *room) {
    static int32_t out[TILE_QUERIES * EV_TILE + 1];
    size_t wrong = 0;
    const ev__tile_queries queries = {in->codes, in->stride, count, in->sums};
    out[count * EV_TILE] = 77;
    ev__tile_i8(table, &queries, in->rows + EV_TILE - m, m, n, room, out);
    for (size_t q = 0; q < count; q++)
        for (size_t i = 0; i < m; i++)
            wrong +=
                out[q * EV_TILE + i] != (int32_t)slow_dot_i8(in->codes + q * in->stride, in->rows[EV_TILE - m + i], n);
    CHECK(wrong == 0);
    CHECK(out[count * EV_TILE] == 77);
}

static void test_tiles(void) {
    static const size_t lengths[] = {1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 100, 127, 384, 1099, 65535};
    static const size_t counts[] = {1, 2, 5, 24, 25, TILE_QUERIES}, tiles[] = {1, 7, 8, 9, 17, 63, EV_TILE};
    uint8_t *in_rows = arena();
    tile_sample in = {.codes = calloc(TILE_QUERIES, 65536)};
    char *room = malloc(EV_TILE * 65536);
    if (!in.codes || !room) abort();
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (size_t t = 0; t < table_count; t++)
            for (int extreme = 0; extreme < 3; extreme++) {
                size_t n = lengths[l], c = random32() % 6, r = random32() % 7;
                in.stride = (n + 3) / 4 * 4;
                random_i8((int8_t *)in_rows, ARENA_BYTES);
                if (extreme) memset(in_rows, extreme == 1 ? 127 : -127, ARENA_BYTES);
                make_tile(&in, in_rows, n, ev__tile_most(&tables[t]), extreme);
                check_tile(&tables[t], &in, TILE_QUERIES, EV_TILE, n, room);
                check_tile(&tables[t], &in, counts[c], tiles[r], n, room);
                if (n > 130) continue;
                for (c = 0; c < 6; c++)
                    for (r = 0; r < 7; r++) check_tile(&tables[t], &in, counts[c], tiles[r], n, room);
            }
    free(in.codes);
    free(room);
}

/* extreme: all at the ends of their ranges. */
static void test_4_bits(void) {
    static const size_t lengths[] = {1, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 384, 1099, 65535};
    int8_t *query = calloc(1, 65536);
    if (!query) abort();
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (int extreme = 0; extreme < 4; extreme++) {
            size_t n = lengths[l], bytes = (n + 7) / 8 * 4 * EV_TILE;
            uint8_t *tile = malloc(bytes);
            int32_t sum = 0, expected[EV_TILE], out[EV_TILE + 1];
            if (!tile) abort();
            memset(query, 0, 65536);
            for (size_t i = 0; i < n; i++)
                sum += query[i] = (int8_t)(extreme ? (extreme & 1 ? 127 : -127) : (int)(random32() % 255) - 127);
            random_bytes(tile, bytes);
            if (extreme) memset(tile, extreme & 2 ? 0xFF : 0, bytes);
            for (size_t row = 0; row < EV_TILE; row++) {
                expected[row] = 0;
                for (size_t i = 0; i < n; i++) {
                    uint8_t byte = tile[i / 8 * 4 * EV_TILE + row * 4 + i % 4];
                    expected[row] += query[i] * (2 * (i % 8 < 4 ? byte & 15 : byte >> 4) - 15);
                }
            }
            for (size_t t = 0; t < table_count; t++) {
                if (!tables[t].tile_i4) continue;
                out[EV_TILE] = 77;
                tables[t].tile_i4(query, sum, tile, n, out);
                CHECK(memcmp(out, expected, sizeof expected) == 0 && out[EV_TILE] == 77);
            }
            free(tile);
        }
    free(query);
}

/* On numbers that floats hold, and what is not a number or without end. */
static void test_tile_limits(void) {
    for (int round = 0; round < 200; round++) {
        int32_t products[EV_TILE];
        ev__tile_limits limits;
        ev__tile_test test = {2, -3, round % 3 ? 0.5f : -0.5f};
        uint64_t expected = 0;
        for (size_t i = 0; i < EV_TILE; i++) {
            products[i] = (int32_t)(random32() % 41) - 20;
            limits.fixed[i] = (float)(random32() % 21) - 10;
            limits.inverse[i] = (float)(random32() % 9);
            limits.extent[i] = (float)(random32() % 9);
            if (round == 1) limits.fixed[i] = NAN;
            if (round == 2) limits.inverse[i] = INFINITY;
            double limit = (double)limits.fixed[i] + (double)limits.inverse[i] * -3 +
                           (double)limits.extent[i] * (double)test.by_extent;
            expected |= (uint64_t)!(2.0 * products[i] < limit) << i;
        }
        if (round == 3) test.by_inverse = -INFINITY;
        for (size_t i = 0; i < EV_TILE && round == 3; i++) expected |= (uint64_t)1 << i;
        for (size_t t = 0; t < table_count; t++) CHECK(tables[t].tile_reach(products, &limits, &test) == expected);
    }
}

/* ---- 24-bit vectors -------------------------------------------------------------------------- */

typedef struct {
    const void *codes[MOST_ROWS], *residuals[MOST_ROWS];
    float steps[MOST_ROWS], *query;
    double dots[MOST_ROWS], dot_sizes[MOST_ROWS], distances[MOST_ROWS], distance_sizes[MOST_ROWS];
} sq24_batch;

/* By the plainest loops, in double. */
static void expect_sq24(sq24_batch *in, size_t n) {
    for (size_t row = 0; row < MOST_ROWS; row++) {
        const int8_t *code = in->codes[row];
        const int16_t *residual = in->residuals[row];
        double dot = 0, dot_size = 0, l2 = 0, l2_size = 0;
        for (size_t i = 0; i < n; i++) {
            double element = 65536.0 * code[i] + residual[i], q = (double)in->query[i];
            double x = (double)in->steps[row] * element, d = q - x;
            dot += q * element;
            dot_size += fabs(q * element);
            l2 += d * d;
            l2_size += d * d + fabs(d * x); /* without fusing, x is rounded before it is subtracted */
        }
        in->dots[row] = dot;
        in->dot_sizes[row] = dot_size;
        in->distances[row] = l2;
        in->distance_sizes[row] = 2 * l2_size;
    }
}

static void check_sq24(const ev__kernels *table, const sq24_batch *in, size_t n) {
    static const size_t counts[] = {0, 1, 3, MOST_ROWS};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        size_t m = counts[c];
        float dots[MOST_ROWS + 1], distances[MOST_ROWS + 1];
        dots[m] = distances[m] = 77;
        const ev__rows rows = {in->codes, in->residuals, in->steps};
        table->rows[EV_SQ24][EV_DOT](in->query, &rows, m, n, dots);
        table->rows[EV_SQ24][EV_L2](in->query, &rows, m, n, distances);
        CHECK(dots[m] == 77 && distances[m] == 77);
        for (size_t i = 0; i < m; i++) {
            CHECK(near(dots[i], in->dots[i], in->dot_sizes[i], n));
            CHECK(near(distances[i], in->distances[i], in->distance_sizes[i], n));
        }
    }
}

/* All lengths up to some rounds of every kernel, rows anywhere and against the forbidden page. */
static void test_sq24(void) {
    uint8_t *in_codes = arena(), *in_residuals = arena(), *in_query = arena();
    random_i8((int8_t *)in_codes, ARENA_BYTES);
    random_bytes(in_residuals, ARENA_BYTES);
    for (size_t n = 0; n <= LONGEST; n = next_length(n)) {
        sq24_batch in;
        batch codes, residuals;
        scatter(&codes, in_codes, n, 1);
        scatter(&residuals, in_residuals, n, sizeof(int16_t));
        memcpy(in.codes, codes.rows, sizeof in.codes);
        memcpy(in.residuals, residuals.rows, sizeof in.residuals);
        in.query = put(in_query, AT_END, n, sizeof(float));
        random_f32(in.query, n);
        for (size_t i = 0; i < MOST_ROWS; i++) in.steps[i] = (float)(1 + random32() % 1000) / 4e8f;
        expect_sq24(&in, n);
        for (size_t t = 0; t < table_count; t++) check_sq24(&tables[t], &in, n);
    }
}

/* ---- known values, and the choice of a path -------------------------------------------------- */

static void test_crc_vectors(void) {
    uint8_t zeros[32] = {0}, ones[32], rising[32];
    memset(ones, 255, sizeof ones);
    for (size_t i = 0; i < sizeof rising; i++) rising[i] = (uint8_t)i;
    for (size_t t = 0; t < table_count; t++) {
        CHECK(tables[t].crc32c(0, "", 0) == 0);
        CHECK(tables[t].crc32c(0, "123456789", 9) == 0xE3069283u);
        CHECK(tables[t].crc32c(0, zeros, 32) == 0x8A9136AAu);
        CHECK(tables[t].crc32c(0, ones, 32) == 0x62A8AB43u);
        CHECK(tables[t].crc32c(0, rising, 32) == 0x46DD794Eu);
    }
}

static int listed(const char *name, const char *names) {
    size_t length = strlen(name);
    for (const char *at = names; (at = strstr(at, name)) != NULL; at += length)
        if ((at == names || at[-1] == ' ') && (at[length] == ' ' || !at[length])) return 1;
    return 0;
}

static void test_choice(const char *expected) {
    const ev__kernels *active = ev__simd();
    const char *forced = ev_simd_forced();
    CHECK(table_count >= 1 && strcmp(tables[0].name, "scalar") == 0);
    for (size_t t = 0; t < table_count; t++) {
        CHECK(listed(tables[t].name, ev_simd_available()));
        CHECK(listed(tables[t].name, ev_simd_compiled()));
    }
    CHECK(ev__simd() == active);
    if (*forced && !listed(forced, ev_simd_available())) {
        CHECK(active == NULL && ev_simd_active() == NULL && ev_selftest() != 0);
    } else {
        CHECK(active != NULL && ev_selftest() == 0);
        if (*forced)
            CHECK(strcmp(ev_simd_active(), forced) == 0);
        else
            CHECK(strcmp(active->name, tables[table_count - 1].name) == 0);
    }
    if (expected) CHECK(active != NULL && strcmp(ev_simd_active(), expected) == 0);
}

/* What a path leaves out is done by plain C. */
static void test_defaults(void) {
    const ev__kernels none = {.name = "none"}, all = ev__kernels_complete(&none);
    for (size_t i = 0; i < EV_ELEMENTS; i++)
        for (size_t j = 0; j < EV_MEASURES; j++)
            CHECK(all.rows[i][j] && all.rows[i][j] == ev__kernels_scalar.rows[i][j]);
    CHECK(all.encode_i8 == ev__kernels_scalar.encode_i8 && all.residual_i8 == ev__kernels_scalar.residual_i8);
    CHECK(all.crc32c == ev__kernels_scalar.crc32c && all.tile_reach == ev__kernels_scalar.tile_reach);
    CHECK(ev__tile_most(&all) == 127);
}

int main(int argc, char **argv) {
    const ev__kernels *runnable[8];
    table_count = ev__simd_runnable(runnable);
    for (size_t i = 0; i < table_count; i++) tables[i] = ev__kernels_complete(runnable[i]);
    printf("tables: %d, compiled: %s, available: %s\n", (int)table_count, ev_simd_compiled(), ev_simd_available());
    test_choice(argc > 1 ? argv[1] : NULL);
    test_defaults();
    test_crc_vectors();
    test_lengths();
    test_encode_limits();
    test_extreme_bytes();
    test_extreme_bits();
    test_extreme_floats();
    test_refine_between_codes();
    test_rows();
    test_tiles();
    test_4_bits();
    test_tile_limits();
    test_sq24();
    return check_summary();
}
