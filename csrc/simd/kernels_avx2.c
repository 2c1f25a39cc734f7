/* AVX2 and FMA. */
#include "simd/isa.h"

#if defined(EV_X86_64)
#include <immintrin.h>

#define EV_KERNEL EV_TARGET("avx2,fma") static
#define EV_STEP EV_TARGET("avx2,fma") EV_INLINE
#define EV_NAME(kernel) kernel##_avx2

/* The k < 32 bytes at p, then zeros. Not a masked load of floats: some emulators let that fault where a forbidden page
 * follows. */
EV_STEP __m256i head32(const void *from, size_t k) {
    const uint8_t *p = from;
    uint64_t low[2], high[2] = {0, 0};
    if (k >= 16) {
        memcpy(low, p, sizeof low);
        ev__head16(p + 16, k - 16, high);
    } else {
        ev__head16(p, k, low);
    }
    return _mm256_setr_epi64x((long long)low[0], (long long)low[1], (long long)high[0], (long long)high[1]);
}

/* ---- floats ---------------------------------------------------------------------------------- */

#define VF __m256
#define VF_LANES 8
#define VF_SUMS 4
#define vf_zero _mm256_setzero_ps
#define vf_load _mm256_loadu_ps
#define vf_head(p, k) _mm256_castsi256_ps(head32(p, (k) * sizeof(float)))
#define vf_add _mm256_add_ps
#define vf_sub _mm256_sub_ps
#define vf_muladd _mm256_fmadd_ps

EV_STEP float vf_sum(__m256 v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

#define vf_splat _mm256_set1_ps

EV_STEP __m256 sq24_from(__m128i code, __m128i residual) {
    __m256i high = _mm256_slli_epi32(_mm256_cvtepi8_epi32(code), 16);
    return _mm256_cvtepi32_ps(_mm256_add_epi32(high, _mm256_cvtepi16_epi32(residual)));
}

EV_STEP void vf_sq24(const int8_t *code, const int16_t *residual, __m256 *low, __m256 *high) {
    *low = sq24_from(_mm_loadl_epi64((const __m128i *)code), _mm_loadu_si128((const __m128i *)residual));
    *high = sq24_from(_mm_loadl_epi64((const __m128i *)(code + 8)), _mm_loadu_si128((const __m128i *)(residual + 8)));
}

EV_STEP void vf_sq24_head(const int8_t *code, const int16_t *residual, size_t k, __m256 *low, __m256 *high) {
    uint64_t codes[2];
    __m256i residuals = head32(residual, k * sizeof *residual);
    ev__head16(code, k, codes);
    *low = sq24_from(_mm_cvtsi64_si128((long long)codes[0]), _mm256_castsi256_si128(residuals));
    *high = sq24_from(_mm_cvtsi64_si128((long long)codes[1]), _mm256_extracti128_si256(residuals, 1));
}

#include "simd/template_f32.h"
#include "simd/template_sq24.h"

/* ---- bytes ----------------------------------------------------------------------------------- */

#define I8_NAME EV_NAME
#define VI __m256i
#define VI_BYTES 32
#define VS __m256i
#define vi_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define vi_head head32
#define vs_zero _mm256_setzero_si256
#define vs_add _mm256_add_epi32
#define I8_EXCESS(query, n) 0

EV_STEP int32_t vs_sum(__m256i v) {
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}

/* The instruction wants one side unsigned: |q| * (r with the sign of q). Pairs fit 16 bits because neither side is
 * -128. */
EV_STEP __m256i I8_DOT(__m256i sum, __m256i q, __m256i r) {
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(r, q));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#include "simd/template_i8.h"
#include "simd/template_encode.h"

/* ---- bits ------------------------------------------------------------------------------------ */

#define BITS_KERNEL EV_TARGET("avx2,fma")
#define BITS_NAME(kernel) ev__##kernel##_avx2
#define VB __m256i
#define VB_BYTES 32
#define VC __m256i
#define vb_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define vb_head head32
#define vc_zero _mm256_setzero_si256

EV_STEP uint64_t vc_sum(__m256i c) {
    __m128i x = _mm_add_epi64(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
    return (uint64_t)_mm_cvtsi128_si64(_mm_add_epi64(x, _mm_unpackhi_epi64(x, x)));
}

/* The low halves of the lanes, all that sums need, of two rows side by side; then everything is added up at once. */
EV_STEP void sum_four_avx2(__m256i a, __m256i b, __m256i c, __m256i d, int32_t *out) {
    __m256i ab = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
    __m256i cd = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(c), _mm256_castsi256_ps(d), 0x88));
    __m256i sums = _mm256_hadd_epi32(ab, cd);
    _mm_storeu_si128((__m128i *)out, _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1)));
}
#define vc_sum_four sum_four_avx2

/* weight * popcount(i) + more of each nibble i: there is no instruction that counts bits, one that looks up 32 nibbles
 * there is. */
EV_STEP __m128i by_nibble(int weight, int more) {
    __m128i ones = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4), sum = _mm_set1_epi8((char)more);
    for (int i = 0; i < weight; i++) sum = _mm_add_epi8(sum, ones);
    for (int i = 0; i > weight; i--) sum = _mm_sub_epi8(sum, ones);
    return sum;
}
EV_STEP __m256i low_nibbles(__m256i x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
EV_STEP __m256i high_nibbles(__m256i x) { return low_nibbles(_mm256_srli_epi16(x, 4)); }

EV_STEP __m256i vc_differ(__m256i count, __m256i a, __m256i b) {
    __m256i differ = _mm256_xor_si256(a, b), ones = _mm256_broadcastsi128_si256(by_nibble(1, 0));
    __m256i bytes = _mm256_add_epi8(_mm256_shuffle_epi8(ones, low_nibbles(differ)),
                                    _mm256_shuffle_epi8(ones, high_nibbles(differ)));
    return _mm256_add_epi64(count, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
}

/* What the table says of the nibbles that a plane and the row, cut into nibbles, have in common. */
EV_STEP __m256i weigh_plane(__m256i table, __m256i plane, __m256i low, __m256i high) {
    __m256i above = _mm256_and_si256(_mm256_srli_epi16(plane, 4), high);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(plane, low)), _mm256_shuffle_epi8(table, above));
}

/* The last plane weighs -8: with 32 more a nibble its bytes stay above 0, and the sum of all below 256. */
EV_STEP __m256i vc_weigh(__m256i count, const __m256i *p, __m256i r) {
    __m256i low = low_nibbles(r), high = high_nibbles(r);
    __m256i ones = weigh_plane(_mm256_broadcastsi128_si256(by_nibble(1, 0)), p[0], low, high);
    __m256i twos = weigh_plane(_mm256_broadcastsi128_si256(by_nibble(2, 0)), p[1], low, high);
    __m256i fours = weigh_plane(_mm256_broadcastsi128_si256(by_nibble(4, 0)), p[2], low, high);
    __m256i eights = weigh_plane(_mm256_broadcastsi128_si256(by_nibble(-8, 32)), p[3], low, high);
    __m256i bytes = _mm256_add_epi8(_mm256_add_epi8(ones, twos), _mm256_add_epi8(fours, eights));
    count = _mm256_sub_epi64(count, _mm256_set1_epi64x(8 * 2 * 32));
    return _mm256_add_epi64(count, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
}

#include "simd/template_bits.h"

/* ---- tiles ----------------------------------------------------------------------------------- */

#define TILE_NAME EV_NAME
#define TILE_WIDE 2
#define VT __m256i
#define VT_LANES 8
#define vt_zero _mm256_setzero_si256
#define vt_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define vt_store(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define vt_sub _mm256_sub_epi32
#define vt_xor _mm256_xor_si256
#define vt_splat _mm256_set1_epi32

/* A pair fits 16 bits: 2 * 255 * 63 < 2^15. Left to themselves compilers begin many products before they end one, and
 * spill sums. */
EV_STEP __m256i TILE_DOT(__m256i sum, __m256i rows, __m256i query) {
    __m256i pairs = _mm256_maddubs_epi16(rows, query);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#if defined(__GNUC__)
    __asm__ volatile("" : "+x"(sum));
#endif
    return sum;
}

#include "simd/template_tile.h"

/* 8 rows of 8 coordinates. Pairs of products of 4-bit numbers are so small that 16 bits hold eight of them. */
EV_STEP __m256i sum_nibbles(__m256i sum, __m256i rows, __m256i first, __m256i second) {
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(low_nibbles(rows), first));
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(high_nibbles(rows), second));
}

EV_STEP __m256i four_of(const int8_t *query) {
    int32_t four;
    memcpy(&four, query, sizeof four);
    return vt_splat(four);
}

EV_TARGET("avx2,fma")
void ev__tile_i4_avx2(const int8_t *query, int32_t sum, const void *tile, size_t n, int32_t *out) {
    enum { WIDE = EV_TILE / VT_LANES, FITS = 4 * 8 };
    const uint8_t *at = tile;
    for (int j = 0; j < WIDE; j++) vt_store(out + VT_LANES * j, vt_splat(-15 * sum));
    for (size_t i = 0; i < n;) {
        size_t end = n - i < FITS ? n : i + FITS;
        __m256i some[WIDE];
        for (int j = 0; j < WIDE; j++) some[j] = vt_zero();
        for (; i < end; i += 8, at += sizeof some) {
            __m256i first = four_of(query + i), second = four_of(query + i + 4);
            ev__prefetch_run(at, sizeof some);
            for (int j = 0; j < WIDE; j++)
                some[j] = sum_nibbles(some[j], vt_load(at + sizeof(VT) * (size_t)j), first, second);
        }
        for (int j = 0; j < WIDE; j++) {
            __m256i twice = _mm256_madd_epi16(some[j], _mm256_set1_epi16(2));
            vt_store(out + VT_LANES * j, _mm256_add_epi32(vt_load(out + VT_LANES * j), twice));
        }
    }
}

EV_KERNEL uint64_t tile_reach_avx2(const int32_t *products, const ev__tile_limits *limits, const ev__tile_test *test) {
    __m256 rate = _mm256_set1_ps(test->rate), by_inverse = _mm256_set1_ps(test->by_inverse),
           by_extent = _mm256_set1_ps(test->by_extent);
    uint64_t bits = 0;
    for (size_t i = 0; i < EV_TILE; i += 8) {
        __m256 limit =
            _mm256_fmadd_ps(_mm256_loadu_ps(limits->inverse + i), by_inverse, _mm256_loadu_ps(limits->fixed + i));
        limit = _mm256_fmadd_ps(_mm256_loadu_ps(limits->extent + i), by_extent, limit);
        __m256 product = _mm256_mul_ps(rate, _mm256_cvtepi32_ps(vt_load(products + i)));
        bits |= (uint64_t)(unsigned)_mm256_movemask_ps(_mm256_cmp_ps(product, limit, _CMP_NLT_UQ)) << i;
    }
    return bits;
}

const ev__kernels ev__kernels_avx2 = {
    .name = "avx2",
    .sums = VF_SUMS * VF_LANES,
    .bytes_at_once = VB_BYTES,
    .rows = {[EV_F32] = {[EV_DOT] = dot_f32_avx2, [EV_L2] = l2_f32_avx2},
             [EV_I8] = {[EV_DOT] = dot_i8_avx2},
             [EV_SQ24] = {[EV_DOT] = dot_sq24_avx2, [EV_L2] = l2_sq24_avx2},
             [EV_BITS] = {[EV_DOT] = ev__dot_bits_avx2, [EV_L2] = ev__l2_bits_avx2}},
    .tile_i8 = tile_i8_avx2,
    .tile_most = 63,
    .tile_i4 = ev__tile_i4_avx2,
    .tile_reach = tile_reach_avx2,
    .encode_i8 = encode_i8_avx2,
    .residual_i8 = residual_i8_avx2,
    .crc32c = ev__crc32c_sse42,
};

#endif
