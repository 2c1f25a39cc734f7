/* What the x86 tables share: the CRC instruction of SSE4.2. */
#include "simd/isa.h"

#if defined(EV_X86_64)
#include <nmmintrin.h>

EV_TARGET("sse4.2") uint32_t ev__crc32c_sse42(uint32_t crc, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    uint64_t sum = (uint32_t)~crc;
    for (; n >= 8; n -= 8, p += 8) sum = _mm_crc32_u64(sum, ev__read64(p));
    for (; n; n--, p++) sum = _mm_crc32_u8((uint32_t)sum, *p);
    return ~(uint32_t)sum;
}

#endif
