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

/* ---- tiles ----------------------------------------------------------------------------------- */

#define TILE_NAME EV_NAME
#define TILE_WIDE 2
#define VT __m256i
#define VT_LANES 8
#define vt_zero _mm256_setzero_si256
#define vt_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define vt_store(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define vt_sub _mm256_sub_epi32
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
    .rows = {[EV_F32] = {[EV_DOT] = dot_f32_avx2, [EV_L2] = l2_f32_avx2},
             [EV_I8] = {[EV_DOT] = dot_i8_avx2},
             [EV_SQ24] = {[EV_DOT] = dot_sq24_avx2, [EV_L2] = l2_sq24_avx2},
             [EV_BITS] = {[EV_DOT] = ev__dot_bits_sse42, [EV_L2] = ev__l2_bits_sse42}},
    .tile_i8 = tile_i8_avx2,
    .tile_most = 63,
    .tile_reach = tile_reach_avx2,
    .encode_i8 = encode_i8_avx2,
    .residual_i8 = residual_i8_avx2,
    .crc32c = ev__crc32c_sse42,
};

#endif
