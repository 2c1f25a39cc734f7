/* AVX-512: one set of float kernels; byte and bit kernels for what a CPU adds to F, BW, VL and DQ. */
#include "simd/isa.h"

#if defined(EV_X86_64)
#include <immintrin.h>

#define AVX512 "avx512f,avx512bw,avx512vl,avx512dq"

/* ---- floats ---------------------------------------------------------------------------------- */

#define EV_KERNEL EV_TARGET(AVX512) static
#define EV_STEP EV_TARGET(AVX512) EV_INLINE
#define EV_NAME(kernel) kernel##_avx512

#define VF __m512
#define VF_LANES 16
#define VF_SUMS 4
#define vf_zero _mm512_setzero_ps
#define vf_load _mm512_loadu_ps
#define vf_head(p, k) _mm512_maskz_loadu_ps((__mmask16)((1u << (k)) - 1), p)
#define vf_add _mm512_add_ps
#define vf_sub _mm512_sub_ps
#define vf_muladd _mm512_fmadd_ps
#define vf_sum _mm512_reduce_add_ps

#define vf_splat _mm512_set1_ps

EV_STEP __m512 sq24_from(__m128i code, __m256i residual) {
    __m512i high = _mm512_slli_epi32(_mm512_cvtepi8_epi32(code), 16);
    return _mm512_cvtepi32_ps(_mm512_add_epi32(high, _mm512_cvtepi16_epi32(residual)));
}

EV_STEP void vf_sq24(const int8_t *code, const int16_t *residual, __m512 *low, __m512 *high) {
    *low = sq24_from(_mm_loadu_si128((const __m128i *)code), _mm256_loadu_si256((const __m256i *)residual));
    *high =
        sq24_from(_mm_loadu_si128((const __m128i *)(code + 16)), _mm256_loadu_si256((const __m256i *)(residual + 16)));
}

EV_STEP void vf_sq24_head(const int8_t *code, const int16_t *residual, size_t k, __m512 *low, __m512 *high) {
    __mmask32 held = (1u << k) - 1;
    __m256i codes = _mm256_maskz_loadu_epi8(held, code);
    __m512i residuals = _mm512_maskz_loadu_epi16(held, residual);
    *low = sq24_from(_mm256_castsi256_si128(codes), _mm512_castsi512_si256(residuals));
    *high = sq24_from(_mm256_extracti128_si256(codes, 1), _mm512_extracti64x4_epi64(residuals, 1));
}

#include "simd/template_f32.h"
#include "simd/template_sq24.h"

/* ---- bytes ----------------------------------------------------------------------------------- */

#define VI __m512i
#define VI_BYTES 64
#define VS __m512i
#define vi_load(p) _mm512_loadu_si512(p)
#define vi_head(p, k) _mm512_maskz_loadu_epi8(((__mmask64)1 << (k)) - 1, p)
#define vs_zero _mm512_setzero_si512
#define vs_add _mm512_add_epi32
#define vs_sum _mm512_reduce_add_epi32

/* |q| * (r with the sign of q), as with AVX2; 512 bits lack the sign instruction, so r is negated under a mask. */
EV_STEP __m512i dot_by_maddubs(__m512i sum, __m512i q, __m512i r) {
    __m512i signed_r = _mm512_mask_sub_epi8(r, _mm512_movepi8_mask(q), _mm512_setzero_si512(), r);
    __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(q), signed_r);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#define I8_NAME EV_NAME
#define I8_DOT dot_by_maddubs
#define I8_EXCESS(query, n) 0

#include "simd/template_i8.h"
#include "simd/template_encode.h"

/* ---- tiles ----------------------------------------------------------------------------------- */

#define TILE_WIDE 4
#define VT __m512i
#define VT_LANES 16
#define vt_zero _mm512_setzero_si512
#define vt_load(p) _mm512_loadu_si512(p)
#define vt_store(p, v) _mm512_storeu_si512(p, v)
#define vt_sub _mm512_sub_epi32
#define vt_xor _mm512_xor_si512
#define vt_splat _mm512_set1_epi32
#define head32(p, k) _mm256_maskz_loadu_epi8((__mmask32)((1u << (k)) - 1), p)

/* A pair fits 16 bits: 2 * 255 * 63 < 2^15. */
EV_STEP __m512i tile_by_maddubs(__m512i sum, __m512i rows, __m512i query) {
    __m512i pairs = _mm512_maddubs_epi16(rows, query);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#define TILE_NAME EV_NAME
#define TILE_DOT tile_by_maddubs

#include "simd/template_tile.h"

EV_KERNEL uint64_t tile_reach_avx512(const int32_t *products, const ev__tile_limits *limits,
                                     const ev__tile_test *test) {
    __m512 rate = _mm512_set1_ps(test->rate), by_inverse = _mm512_set1_ps(test->by_inverse),
           by_extent = _mm512_set1_ps(test->by_extent);
    uint64_t bits = 0;
    for (size_t i = 0; i < EV_TILE; i += 16) {
        __m512 limit =
            _mm512_fmadd_ps(_mm512_loadu_ps(limits->inverse + i), by_inverse, _mm512_loadu_ps(limits->fixed + i));
        limit = _mm512_fmadd_ps(_mm512_loadu_ps(limits->extent + i), by_extent, limit);
        __m512 product = _mm512_mul_ps(rate, _mm512_cvtepi32_ps(vt_load(products + i)));
        bits |= (uint64_t)_mm512_cmp_ps_mask(product, limit, _CMP_NLT_UQ) << i;
    }
    return bits;
}

#undef EV_KERNEL
#undef EV_STEP
#undef I8_NAME
#undef I8_DOT
#undef I8_EXCESS

#define EV_KERNEL EV_TARGET(AVX512 ",avx512vnni") static
#define EV_STEP EV_TARGET(AVX512 ",avx512vnni") EV_INLINE

/* The instruction wants one side unsigned: r + 128, which makes the sum too large by 128 for each unit of the query. */
EV_STEP __m512i dot_by_vnni(__m512i sum, __m512i q, __m512i r) {
    return _mm512_dpbusd_epi32(sum, _mm512_xor_si512(r, _mm512_set1_epi8(-128)), q);
}

EV_STEP int32_t excess_of_vnni(const int8_t *query, size_t n) {
    __m512i even = vs_zero(), odd = vs_zero(), excess = _mm512_set1_epi8(-128);
    size_t i = 0;
    for (; i + 2 * VI_BYTES <= n; i += 2 * VI_BYTES) {
        even = _mm512_dpbusd_epi32(even, excess, vi_load(query + i));
        odd = _mm512_dpbusd_epi32(odd, excess, vi_load(query + i + VI_BYTES));
    }
    for (; i < n; i += VI_BYTES)
        even = _mm512_dpbusd_epi32(even, excess, n - i < VI_BYTES ? vi_head(query + i, n - i) : vi_load(query + i));
    return vs_sum(vs_add(even, odd));
}

#define I8_NAME(kernel) kernel##_vnni_avx512
#define I8_DOT dot_by_vnni
#define I8_EXCESS excess_of_vnni

#include "simd/template_i8.h"

#undef TILE_NAME
#undef TILE_DOT
#define TILE_NAME(kernel) kernel##_vnni_avx512
#define TILE_DOT _mm512_dpbusd_epi32

#include "simd/template_tile.h"

/* The upper halves of bytes stay there, and their products are 16 times as large until the end. */
EV_KERNEL void tile_i4_vnni_avx512(const int8_t *query, int32_t sum, const void *tile, size_t n, int32_t *out) {
    enum { WIDE = EV_TILE / VT_LANES };
    const __m512i low = _mm512_set1_epi8(15);
    const char *at = tile;
    __m512i lower[WIDE], upper[WIDE];
    for (int j = 0; j < WIDE; j++) lower[j] = upper[j] = vt_zero();
    for (size_t i = 0; i < n; i += 8) {
        int32_t four[2];
        memcpy(four, query + i, sizeof four);
        __m512i first = vt_splat(four[0]), second = vt_splat(four[1]);
        ev__prefetch_run(at, sizeof lower);
        for (int j = 0; j < WIDE; j++, at += sizeof(VT)) {
            __m512i rows = vt_load(at);
            lower[j] = _mm512_dpbusd_epi32(lower[j], _mm512_and_si512(rows, low), first);
            upper[j] = _mm512_dpbusd_epi32(upper[j], _mm512_andnot_si512(low, rows), second);
        }
    }
    for (int j = 0; j < WIDE; j++) {
        __m512i twice = _mm512_slli_epi32(_mm512_add_epi32(lower[j], _mm512_srai_epi32(upper[j], 4)), 1);
        vt_store(out + VT_LANES * j, vt_sub(twice, vt_splat(15 * sum)));
    }
}

/* ---- bits ------------------------------------------------------------------------------------ */

#undef EV_STEP
#define EV_STEP EV_TARGET(AVX512 ",avx512vpopcntdq") EV_INLINE

#define BITS_KERNEL EV_TARGET(AVX512 ",avx512vpopcntdq") static
#define BITS_NAME EV_NAME
#define VB __m512i
#define VB_BYTES 64
#define VC __m512i
#define vb_load(p) _mm512_loadu_si512(p)
#define vb_head(p, k) _mm512_maskz_loadu_epi64((__mmask8)((1u << ((k) / 8)) - 1), p)
#define vc_zero _mm512_setzero_si512
#define vc_sum _mm512_reduce_add_epi64

EV_STEP __m512i vc_differ(__m512i count, __m512i a, __m512i b) {
    return _mm512_add_epi64(count, _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
}

EV_STEP __m512i vc_weigh(__m512i count, const __m512i *p, __m512i r) {
    __m512i ones = _mm512_popcnt_epi64(_mm512_and_si512(p[0], r)),
            twos = _mm512_popcnt_epi64(_mm512_and_si512(p[1], r));
    __m512i fours = _mm512_popcnt_epi64(_mm512_and_si512(p[2], r)),
            eights = _mm512_popcnt_epi64(_mm512_and_si512(p[3], r));
    fours = _mm512_sub_epi64(fours, _mm512_slli_epi64(eights, 1));
    twos = _mm512_add_epi64(twos, _mm512_slli_epi64(fours, 1));
    return _mm512_add_epi64(count, _mm512_add_epi64(ones, _mm512_slli_epi64(twos, 1)));
}

/* The low halves of the lanes, all that sums need, of two rows side by side; then everything is added up at once. */
EV_STEP void sum_four_avx512(__m512i a, __m512i b, __m512i c, __m512i d, int32_t *out) {
    __m512i ab = _mm512_mask_shuffle_epi32(a, 0xAAAA, b, _MM_PERM_CCAA);
    __m512i cd = _mm512_mask_shuffle_epi32(c, 0xAAAA, d, _MM_PERM_CCAA);
    __m512i sums = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
    _mm_storeu_si128((__m128i *)out, _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}
#define vc_sum_four sum_four_avx512

#include "simd/template_bits.h"

/* ---- tables ---------------------------------------------------------------------------------- */

#define TABLE(dot_i8, tile, most, tile4, dot_bits, l2_bits, at_once)                 \
    {                                                                                \
        .name = "avx512",                                                            \
        .sums = VF_SUMS * VF_LANES,                                                  \
        .bytes_at_once = at_once,                                                    \
        .rows = {[EV_F32] = {[EV_DOT] = dot_f32_avx512, [EV_L2] = l2_f32_avx512},    \
                 [EV_I8] = {[EV_DOT] = dot_i8},                                      \
                 [EV_SQ24] = {[EV_DOT] = dot_sq24_avx512, [EV_L2] = l2_sq24_avx512}, \
                 [EV_BITS] = {[EV_DOT] = dot_bits, [EV_L2] = l2_bits}},              \
        .tile_i8 = tile,                                                             \
        .tile_most = most,                                                           \
        .tile_i4 = tile4,                                                            \
        .tile_reach = tile_reach_avx512,                                             \
        .encode_i8 = encode_i8_avx512,                                               \
        .residual_i8 = residual_i8_avx512,                                           \
        .crc32c = ev__crc32c_sse42,                                                  \
    }

const ev__kernels ev__kernels_avx512 =
    TABLE(dot_i8_avx512, tile_i8_avx512, 63, ev__tile_i4_avx2, ev__dot_bits_avx2, ev__l2_bits_avx2, 32);
const ev__kernels ev__kernels_avx512_vnni =
    TABLE(dot_i8_vnni_avx512, tile_i8_vnni_avx512, 127, tile_i4_vnni_avx512, ev__dot_bits_avx2, ev__l2_bits_avx2, 32);
const ev__kernels ev__kernels_avx512_popcnt =
    TABLE(dot_i8_vnni_avx512, tile_i8_vnni_avx512, 127, tile_i4_vnni_avx512, dot_bits_avx512, l2_bits_avx512, VB_BYTES);

#endif
