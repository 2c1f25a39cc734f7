/* WebAssembly's 128-bit SIMD, without the relaxed instructions: an engine that lacks one of those refuses the whole
 * module. */
#include "simd/isa.h"

#if defined(EV_WASM128)
#include <wasm_simd128.h>

#define EV_KERNEL static
#define EV_STEP EV_INLINE
#define EV_NAME(kernel) kernel##_wasm128

EV_INLINE v128_t head16(const void *p, size_t k) {
    uint64_t words[2];
    ev__head16(p, k, words);
    return wasm_u64x2_make(words[0], words[1]);
}

/* ---- floats ---------------------------------------------------------------------------------- */

#define VF v128_t
#define VF_LANES 4
#define VF_SUMS 2
#define vf_zero() wasm_f32x4_splat(0)
#define vf_load wasm_v128_load
#define vf_head(p, k) head16(p, (k) * sizeof(float))
#define vf_add wasm_f32x4_add
#define vf_sub wasm_f32x4_sub
#define vf_muladd(a, b, sum) wasm_f32x4_add(wasm_f32x4_mul(a, b), sum)

EV_STEP float vf_sum(v128_t v) {
    v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1);
}

#define vf_splat wasm_f32x4_splat

/* The residual below its code makes one number of both, except that a negative one then stands for 65536 more: the code
 * is lowered by one instead. */
EV_STEP void sq24_from(v128_t code, v128_t residual, v128_t *low, v128_t *high) {
    code = wasm_i16x8_add(code, wasm_i16x8_shr(residual, 15));
    *low = wasm_f32x4_convert_i32x4(wasm_i16x8_shuffle(residual, code, 0, 8, 1, 9, 2, 10, 3, 11));
    *high = wasm_f32x4_convert_i32x4(wasm_i16x8_shuffle(residual, code, 4, 12, 5, 13, 6, 14, 7, 15));
}

EV_STEP void vf_sq24(const int8_t *code, const int16_t *residual, v128_t *low, v128_t *high) {
    sq24_from(wasm_i16x8_load8x8(code), wasm_v128_load(residual), low, high);
}

EV_STEP void vf_sq24_head(const int8_t *code, const int16_t *residual, size_t k, v128_t *low, v128_t *high) {
    v128_t codes = wasm_i16x8_extend_low_i8x16(wasm_i64x2_splat((int64_t)ev__head8((const uint8_t *)code, k)));
    sq24_from(codes, head16(residual, k * sizeof *residual), low, high);
}

#include "simd/template_f32.h"
#include "simd/template_sq24.h"

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Loaded as 16-bit lanes, which engines do in one instruction a half; to load first and widen then takes two more. */
typedef struct {
    v128_t low, high;
} words16;

EV_STEP words16 vi_load(const int8_t *p) {
    words16 w = {wasm_i16x8_load8x8(p), wasm_i16x8_load8x8(p + 8)};
    return w;
}

EV_STEP words16 vi_head(const int8_t *p, size_t k) {
    v128_t bytes = head16(p, k);
    words16 w = {wasm_i16x8_extend_low_i8x16(bytes), wasm_i16x8_extend_high_i8x16(bytes)};
    return w;
}

#define I8_NAME EV_NAME
#define VI words16
#define VI_BYTES 16
#define VS v128_t
#define vs_zero() wasm_i32x4_splat(0)
#define vs_add wasm_i32x4_add
#define I8_EXCESS(query, n) 0

EV_STEP int32_t vs_sum(v128_t v) {
    v = wasm_i32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_i32x4_extract_lane(v, 0) + wasm_i32x4_extract_lane(v, 1);
}

EV_STEP v128_t I8_DOT(v128_t sum, words16 q, words16 r) {
    sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(q.low, r.low));
    return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(q.high, r.high));
}

#include "simd/template_i8.h"
#include "simd/template_encode.h"

/* ---- bits: in words, because engines have an instruction for those --------------------------- */

#define BITS_KERNEL static
#define BITS_NAME EV_NAME
#define VB uint64_t
#define VB_BYTES 8
#define VC uint64_t
#define vb_load ev__read64
#define vb_head(p, k) ((void)(k), ev__read64(p)) /* words leave no rest */
#define vc_zero() 0
#define vc_sum(c) (c)

EV_STEP uint64_t bits(uint64_t x) { return (uint64_t)__builtin_popcountll(x); }

EV_STEP uint64_t vc_differ(uint64_t count, uint64_t a, uint64_t b) { return count + bits(a ^ b); }

EV_STEP uint64_t vc_weigh(uint64_t count, const uint64_t *p, uint64_t r) {
    return count + bits(p[0] & r) + 2 * bits(p[1] & r) + 4 * bits(p[2] & r) - 8 * bits(p[3] & r);
}

#include "simd/template_bits.h"

const ev__kernels ev__kernels_wasm128 = {
    .name = "wasm128",
    .sums = VF_SUMS * VF_LANES,
    .bytes_at_once = VB_BYTES,
    .rows = {[EV_F32] = {[EV_DOT] = dot_f32_wasm128, [EV_L2] = l2_f32_wasm128},
             [EV_I8] = {[EV_DOT] = dot_i8_wasm128},
             [EV_SQ24] = {[EV_DOT] = dot_sq24_wasm128, [EV_L2] = l2_sq24_wasm128},
             [EV_BITS] = {[EV_DOT] = dot_bits_wasm128, [EV_L2] = l2_bits_wasm128}},
    .encode_i8 = encode_i8_wasm128,
    .residual_i8 = residual_i8_wasm128,
};

#endif
