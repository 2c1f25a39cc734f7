/* Distances: one query (a vector that is searched, or a node under construction) against many rows.
 *
 * All metrics become one formula, distance = bias - scale * product, evaluated lane by lane without fusing, so
 * distances made from integer products are the same on every machine.
 *
 * Inner product is walked and linked by the inner product itself (Morozov and Babenko's ip-NSW): links then lead to
 * long vectors, which is where the largest products are, and what no link leads to is linked when the graph is
 * repaired. Measured against the reduction to Euclidean distance by an added coordinate, at equal work this finds far
 * more where lengths differ much. */
#include "quantize/quantize.h"

#include <math.h>

/* Between two sign codes t = 1 - 2 h / bits estimates 1 - 2 angle / pi; sin(pi t / 2), by an odd polynomial, is the
 * cosine. Factors are lengths over mean absolute coordinate, sqrt(pi / 2 / bits) * length, which the constant undoes.
 */
static inline float hamming_product(uint32_t differ, size_t bits) {
    float t = 1.0f - 2.0f * (float)differ / (float)bits, t2 = t * t;
    return t * (1.5706268f - t2 * (0.6432292f - t2 * 0.0727102f)) * (0.63661977f * (float)bits);
}

/* Codes made on the spot from the float rows: slower per distance, but a few additions to a binary index need no second
 * copy of it. */
static void distances_fresh(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                            const uint32_t *slots, size_t m, float *distances, ev__workspace *w) {
    for (size_t i = 0; i < m; i++) {
        ev__factor factor;
        ev__encode_i8(q, ev__row_of(space, slots[i]), w->fresh, &factor);
        distances[i] = ev__code_distance(query, factor, (float)q->kernels->dot_i8(query->data, w->fresh, q->dim));
    }
}

/* Squared distances, or products, of a query with 24-bit vectors, whose elements are integers around the center. */
static void sums_sq24(const ev__quantizer *q, const ev__space *space, const float *query, const uint32_t *slots,
                      size_t m, float *sums, ev__workspace *w) {
    enum { AT_ONCE = 64 };
    const void *residuals[AT_ONCE];
    float steps[AT_ONCE];
    for (size_t n; m; slots += n, sums += n, m -= n) {
        n = m < AT_ONCE ? m : AT_ONCE;
        for (size_t i = 0; i < n; i++) {
            w->rows[i] = ev__row_of(space, slots[i]);
            residuals[i] = space->residuals + (size_t)slots[i] * q->dim;
            steps[i] = space->factors[slots[i]].scale / 65536;
        }
        if (q->metric != EV_METRIC_IP) {
            q->kernels->l2_sq24_rows(query, w->rows, residuals, steps, n, q->dim, sums);
            continue;
        }
        q->kernels->dot_sq24_rows(query, w->rows, residuals, n, q->dim, sums);
        for (size_t i = 0; i < n; i++) sums[i] *= steps[i];
    }
}

void ev__approx_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                          size_t m, float *distances, ev__workspace *w) {
    if (space->kind == EV_SPACE_I8_FRESH) {
        distances_fresh(q, space, query, slots, m, distances, w);
        return;
    }
    if (space->kind == EV_SPACE_SQ24) {
        sums_sq24(q, space, query->data, slots, m, distances, w);
        if (q->metric == EV_METRIC_IP)
            for (size_t i = 0; i < m; i++) distances[i] = -distances[i];
        return;
    }
    for (size_t i = 0; i < m; i++) w->rows[i] = ev__row_of(space, slots[i]);
    if (space->factors)
        for (size_t i = 0; i < m; i++) EV_PREFETCH(space->factors + slots[i]);
    switch (space->kind) {
    case EV_SPACE_L2: q->kernels->l2_f32_rows(query->data, w->rows, m, q->dim, distances); return;
    case EV_SPACE_DOT:
        q->kernels->dot_f32_rows(query->data, w->rows, m, q->dim, distances);
        for (size_t i = 0; i < m; i++) distances[i] = -distances[i];
        return;
    case EV_SPACE_I8: q->kernels->dot_i8_rows(query->data, w->rows, m, q->dim, w->integers); break;
    case EV_SPACE_BITS: q->kernels->dot_bits_rows(query->data, w->rows, m, q->bits / 8, w->integers); break;
    default: q->kernels->hamming_rows(query->data, w->rows, m, q->bits / 8, (uint32_t *)w->integers); break;
    }
    for (size_t i = 0; i < m; i++) {
        float product;
        if (space->kind == EV_SPACE_I8)
            product = (float)w->integers[i];
        else if (space->kind == EV_SPACE_BITS)
            product = (float)(2 * w->integers[i] - query->sum);
        else
            product = hamming_product((uint32_t)w->integers[i], q->bits);
        distances[i] = ev__code_distance(query, space->factors[slots[i]], product);
    }
}
