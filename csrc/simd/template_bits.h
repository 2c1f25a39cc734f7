/* Hamming distance and weighted common bits. The including file has defined
 *   BITS_KERNEL, BITS_NAME(kernel)
 *   VB, VB_BYTES           a vector of bits, or a word
 *   VC                     counts, in lanes that 2^32 bits do not overflow
 *   vb_load(p)
 *   vb_head(p, k)          the k < VB_BYTES bytes at p, a multiple of 8, then zeros; reads nothing else
 *   vc_zero() vc_sum(c)
 *   vc_sum_four(a, b, c, d, out)   four sums into int32_t out[4]; may be left undefined
 *   vc_differ(c, a, b)     c plus the bits that differ
 *   vc_weigh(c, p, r)      c plus the common bits of r and p[0..3], weighed 1, 2, 4, -8 */

#ifndef vc_sum_four
#define vc_sum_four(a, b, c, d, out)                                                              \
    ((out)[0] = (int32_t)vc_sum(a), (out)[1] = (int32_t)vc_sum(b), (out)[2] = (int32_t)vc_sum(c), \
     (out)[3] = (int32_t)vc_sum(d))
#endif

typedef struct {
    VB plane[EV_PLANES];
} bits_planes;

EV_STEP uint32_t BITS_NAME(differ_one)(const uint8_t *q, const uint8_t *r, size_t bytes) {
    VC c = vc_zero();
    size_t i = 0;
    for (; i + VB_BYTES <= bytes; i += VB_BYTES) c = vc_differ(c, vb_load(q + i), vb_load(r + i));
    if (i < bytes) c = vc_differ(c, vb_head(q + i, bytes - i), vb_head(r + i, bytes - i));
    return (uint32_t)vc_sum(c);
}

EV_STEP void BITS_NAME(differ_four)(const uint8_t *query, const void *const *rows, size_t bytes, uint32_t *out) {
    const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    VC ca = vc_zero(), cb = vc_zero(), cc = vc_zero(), cd = vc_zero();
    size_t i = 0;
    for (; i + VB_BYTES <= bytes; i += VB_BYTES) {
        VB q = vb_load(query + i);
        ca = vc_differ(ca, q, vb_load(a + i));
        cb = vc_differ(cb, q, vb_load(b + i));
        cc = vc_differ(cc, q, vb_load(c + i));
        cd = vc_differ(cd, q, vb_load(d + i));
    }
    if (i < bytes) {
        VB q = vb_head(query + i, bytes - i);
        ca = vc_differ(ca, q, vb_head(a + i, bytes - i));
        cb = vc_differ(cb, q, vb_head(b + i, bytes - i));
        cc = vc_differ(cc, q, vb_head(c + i, bytes - i));
        cd = vc_differ(cd, q, vb_head(d + i, bytes - i));
    }
    out[0] = (uint32_t)vc_sum(ca);
    out[1] = (uint32_t)vc_sum(cb);
    out[2] = (uint32_t)vc_sum(cc);
    out[3] = (uint32_t)vc_sum(cd);
}

EV_STEP bits_planes BITS_NAME(planes_load)(const uint8_t *planes, size_t bytes, size_t i) {
    const uint8_t *p = planes + i;
    bits_planes b = {{vb_load(p), vb_load(p + bytes), vb_load(p + 2 * bytes), vb_load(p + 3 * bytes)}};
    return b;
}

EV_STEP bits_planes BITS_NAME(planes_head)(const uint8_t *planes, size_t bytes, size_t i) {
    const uint8_t *p = planes + i;
    size_t k = bytes - i;
    bits_planes b = {{vb_head(p, k), vb_head(p + bytes, k), vb_head(p + 2 * bytes, k), vb_head(p + 3 * bytes, k)}};
    return b;
}

EV_STEP int32_t BITS_NAME(weigh_one)(const uint8_t *planes, const uint8_t *r, size_t bytes) {
    VC c = vc_zero();
    size_t i = 0;
    for (; i + VB_BYTES <= bytes; i += VB_BYTES) {
        bits_planes p = BITS_NAME(planes_load)(planes, bytes, i);
        c = vc_weigh(c, p.plane, vb_load(r + i));
    }
    if (i < bytes) {
        bits_planes p = BITS_NAME(planes_head)(planes, bytes, i);
        c = vc_weigh(c, p.plane, vb_head(r + i, bytes - i));
    }
    return (int32_t)vc_sum(c);
}

EV_STEP void BITS_NAME(weigh_four)(const uint8_t *planes, const void *const *rows, size_t bytes, int32_t *out) {
    const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    VC ca = vc_zero(), cb = vc_zero(), cc = vc_zero(), cd = vc_zero();
    size_t i = 0;
    for (; i + VB_BYTES <= bytes; i += VB_BYTES) {
        bits_planes p = BITS_NAME(planes_load)(planes, bytes, i);
        ca = vc_weigh(ca, p.plane, vb_load(a + i));
        cb = vc_weigh(cb, p.plane, vb_load(b + i));
        cc = vc_weigh(cc, p.plane, vb_load(c + i));
        cd = vc_weigh(cd, p.plane, vb_load(d + i));
    }
    if (i < bytes) {
        bits_planes p = BITS_NAME(planes_head)(planes, bytes, i);
        ca = vc_weigh(ca, p.plane, vb_head(a + i, bytes - i));
        cb = vc_weigh(cb, p.plane, vb_head(b + i, bytes - i));
        cc = vc_weigh(cc, p.plane, vb_head(c + i, bytes - i));
        cd = vc_weigh(cd, p.plane, vb_head(d + i, bytes - i));
    }
    vc_sum_four(ca, cb, cc, cd, out);
}

BITS_KERNEL void BITS_NAME(l2_bits)(const void *query, const ev__rows *all, size_t m, size_t bytes, void *into) {
    const void *const *rows = all->at;
    uint32_t *out = into;
    size_t i = 0;
    size_t ahead = ev__rows_ahead(bytes);
    ev__prefetch(rows, 0, ahead, m, bytes);
    for (; i + 4 <= m; i += 4) {
        ev__prefetch(rows, i + ahead, i + ahead + 4, m, bytes);
        BITS_NAME(differ_four)(query, rows + i, bytes, out + i);
    }
    for (; i < m; i++) out[i] = BITS_NAME(differ_one)(query, rows[i], bytes);
}

BITS_KERNEL void BITS_NAME(dot_bits)(const void *planes, const ev__rows *all, size_t m, size_t bytes, void *into) {
    const void *const *rows = all->at;
    int32_t *out = into;
    size_t i = 0;
    size_t ahead = ev__rows_ahead(bytes);
    ev__prefetch(rows, 0, ahead, m, bytes);
    for (; i + 4 <= m; i += 4) {
        ev__prefetch(rows, i + ahead, i + ahead + 4, m, bytes);
        BITS_NAME(weigh_four)(planes, rows + i, bytes, out + i);
    }
    for (; i < m; i++) out[i] = BITS_NAME(weigh_one)(planes, rows[i], bytes);
}
