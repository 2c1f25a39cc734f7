/* NEON, which every AArch64 has, and the byte dot product of ARMv8.2, which most have. */
#include "simd/isa.h"

#if defined(EV_AARCH64)
#include <arm_neon.h>

#define EV_KERNEL static
#define EV_STEP EV_INLINE
#define EV_NAME(kernel) kernel##_neon

EV_INLINE uint8x16_t head16(const void *p, size_t k) {
    uint64_t words[2];
    ev__head16(p, k, words);
    return vreinterpretq_u8_u64(vld1q_u64(words));
}

/* ---- floats ---------------------------------------------------------------------------------- */

#define VF float32x4_t
#define VF_LANES 4
#define VF_SUMS 4
#define vf_zero() vdupq_n_f32(0)
#define vf_load vld1q_f32
#define vf_head(p, k) vreinterpretq_f32_u8(head16(p, (k) * sizeof(float)))
#define vf_add vaddq_f32
#define vf_sub vsubq_f32
#define vf_muladd(a, b, sum) vfmaq_f32(sum, a, b)
#define vf_sum vaddvq_f32

#define vf_splat vdupq_n_f32

EV_STEP void sq24_from(int8x8_t code, int16x8_t residual, float32x4_t *low, float32x4_t *high) {
    int16x8_t codes = vmovl_s8(code);
    *low = vcvtq_f32_s32(vaddw_s16(vshll_n_s16(vget_low_s16(codes), 16), vget_low_s16(residual)));
    *high = vcvtq_f32_s32(vaddw_high_s16(vshll_high_n_s16(codes, 16), residual));
}

EV_STEP void vf_sq24(const int8_t *code, const int16_t *residual, float32x4_t *low, float32x4_t *high) {
    sq24_from(vld1_s8(code), vld1q_s16(residual), low, high);
}

EV_STEP void vf_sq24_head(const int8_t *code, const int16_t *residual, size_t k, float32x4_t *low, float32x4_t *high) {
    int8x8_t codes = vcreate_s8(ev__head8((const uint8_t *)code, k));
    sq24_from(codes, vreinterpretq_s16_u8(head16(residual, k * sizeof *residual)), low, high);
}

#include "simd/template_f32.h"
#include "simd/template_sq24.h"

/* ---- bytes ----------------------------------------------------------------------------------- */

#define VI int8x16_t
#define VI_BYTES 16
#define VS int32x4_t
#define vi_load vld1q_s8
#define vi_head(p, k) vreinterpretq_s8_u8(head16(p, k))
#define vs_zero() vdupq_n_s32(0)
#define vs_add vaddq_s32
#define vs_sum vaddvq_s32
#define I8_EXCESS(query, n) 0

/* Two products fit 16 bits because neither side is -128. */
EV_STEP int32x4_t dot_by_widening(int32x4_t sum, int8x16_t q, int8x16_t r) {
    int16x8_t products = vmull_s8(vget_low_s8(q), vget_low_s8(r));
    return vpadalq_s16(sum, vmlal_high_s8(products, q, r));
}

#define I8_NAME EV_NAME
#define I8_DOT dot_by_widening

#include "simd/template_i8.h"
#include "simd/template_encode.h"

#if defined(EV_NEON_DOT)

#undef EV_KERNEL
#undef EV_STEP
#undef I8_NAME
#undef I8_DOT

#if defined(__clang__)
#define DOTPROD "dotprod"
#else
#define DOTPROD "arch=armv8.2-a+dotprod"
#endif

#define EV_KERNEL EV_TARGET(DOTPROD) static
#define EV_STEP EV_TARGET(DOTPROD) EV_INLINE
#define I8_NAME(kernel) kernel##_dot_neon
#define I8_DOT vdotq_s32

#include "simd/template_i8.h"

#undef EV_STEP
#define EV_STEP EV_INLINE

#endif

/* ---- bits ------------------------------------------------------------------------------------ */

#define BITS_KERNEL static
#define BITS_NAME EV_NAME
#define VB uint8x16_t
#define VB_BYTES 16
#define VC int32x4_t
#define vb_load vld1q_u8
#define vb_head(p, k) ((void)(k), vcombine_u8(vld1_u8(p), vdup_n_u8(0))) /* a rest is 8 bytes */
#define vc_zero() vdupq_n_s32(0)
#define vc_sum vaddvq_s32

EV_STEP int32x4_t vc_differ(int32x4_t count, uint8x16_t a, uint8x16_t b) {
    return vpadalq_s16(count, vpaddlq_s8(vreinterpretq_s8_u8(vcntq_u8(veorq_u8(a, b)))));
}

/* The weighed sum of a byte lies in -64..56, so the planes are joined before anything is widened. */
EV_STEP int32x4_t vc_weigh(int32x4_t count, const uint8x16_t *p, uint8x16_t r) {
    uint8x16_t ones = vcntq_u8(vandq_u8(p[0], r)), twos = vcntq_u8(vandq_u8(p[1], r));
    uint8x16_t fours = vcntq_u8(vandq_u8(p[2], r)), eights = vcntq_u8(vandq_u8(p[3], r));
    fours = vsubq_u8(fours, vshlq_n_u8(eights, 1));
    twos = vaddq_u8(twos, vshlq_n_u8(fours, 1));
    int8x16_t sum = vreinterpretq_s8_u8(vaddq_u8(ones, vshlq_n_u8(twos, 1)));
    return vpadalq_s16(count, vpaddlq_s8(sum));
}

#include "simd/template_bits.h"

/* ---- tables ---------------------------------------------------------------------------------- */

#define TABLE(dot_i8)                                                             \
    {                                                                             \
        .name = "neon",                                                           \
        .sums = VF_SUMS * VF_LANES,                                               \
        .bytes_at_once = VB_BYTES,                                                \
        .rows = {[EV_F32] = {[EV_DOT] = dot_f32_neon, [EV_L2] = l2_f32_neon},     \
                 [EV_I8] = {[EV_DOT] = dot_i8},                                   \
                 [EV_SQ24] = {[EV_DOT] = dot_sq24_neon, [EV_L2] = l2_sq24_neon},  \
                 [EV_BITS] = {[EV_DOT] = dot_bits_neon, [EV_L2] = l2_bits_neon}}, \
        .encode_i8 = encode_i8_neon,                                              \
        .residual_i8 = residual_i8_neon,                                          \
    }

const ev__kernels ev__kernels_neon = TABLE(dot_i8_neon);
#if defined(EV_NEON_DOT)
const ev__kernels ev__kernels_neon_dot = TABLE(dot_i8_dot_neon);
#endif

#endif
