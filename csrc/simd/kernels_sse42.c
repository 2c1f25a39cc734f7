/* The kernels on 64-bit words that the x86 tables share: POPCNT and the CRC instruction of SSE4.2. */
#include "simd/isa.h"

#if defined(EV_X86_64)
#include <nmmintrin.h>

#define EV_STEP EV_TARGET("sse4.2,popcnt") EV_INLINE

#define BITS_KERNEL EV_TARGET("sse4.2,popcnt")
#define BITS_NAME(kernel) ev__##kernel##_sse42
#define VB uint64_t
#define VB_BYTES 8
#define VC uint64_t
#define vb_load ev__read64
#define vb_head(p, k) ((void)(k), ev__read64(p)) /* words leave no rest */
#define vc_zero() 0
#define vc_sum(c) (c)

EV_STEP uint64_t bits(uint64_t x) { return (uint64_t)_mm_popcnt_u64(x); }

EV_STEP uint64_t vc_differ(uint64_t count, uint64_t a, uint64_t b) { return count + bits(a ^ b); }

EV_STEP uint64_t vc_weigh(uint64_t count, const uint64_t *p, uint64_t r) {
    return count + bits(p[0] & r) + 2 * bits(p[1] & r) + 4 * bits(p[2] & r) - 8 * bits(p[3] & r);
}

#include "simd/template_bits.h"

EV_TARGET("sse4.2,popcnt") uint32_t ev__crc32c_sse42(uint32_t crc, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    uint64_t sum = (uint32_t)~crc;
    for (; n >= 8; n -= 8, p += 8) sum = _mm_crc32_u64(sum, ev__read64(p));
    for (; n; n--, p++) sum = _mm_crc32_u8((uint32_t)sum, *p);
    return ~(uint32_t)sum;
}

#endif
