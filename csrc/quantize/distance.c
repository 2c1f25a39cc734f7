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

static void find_rows(const ev__space *space, const uint32_t *slots, size_t m, ev__workspace *w) {
    for (size_t i = 0; i < m; i++) w->rows[i] = ev__row_of(space, slots[i]);
}

/* ---- floats ---------------------------------------------------------------------------------- */

void ev__f32_compare(const ev__quantizer *q, const ev__query *query, const void *const *rows, size_t m,
                     float *distances) {
    q->kernels.rows[EV_F32][q->metric->measure](query->data, &(ev__rows){.at = rows}, m, q->dim, distances);
    if (q->metric->measure != EV_DOT) return;
    for (size_t i = 0; i < m; i++) distances[i] = -distances[i];
}

static void f32_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                          size_t m, float *distances, ev__workspace *w) {
    find_rows(space, slots, m, w);
    ev__f32_compare(q, query, w->rows, m, distances);
}

const ev__row_kind ev__f32_rows = {.distances = f32_distances};

/* Of 24-bit vectors, whose elements are integers around the center. */
void ev__sq24_compare(const ev__quantizer *q, const ev__query *query, const void *const *codes,
                      const void *const *residuals, const float *steps, size_t m, float *distances) {
    ev__rows rows = {codes, residuals, steps};
    q->kernels.rows[EV_SQ24][q->metric->measure](query->data, &rows, m, q->dim, distances);
    if (q->metric->measure != EV_DOT) return;
    for (size_t i = 0; i < m; i++) distances[i] = -(distances[i] * steps[i]);
}

static void sq24_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                           const uint32_t *slots, size_t m, float *distances, ev__workspace *w) {
    enum { AT_ONCE = 64 };
    const void *residuals[AT_ONCE];
    float steps[AT_ONCE];
    for (size_t n; m; slots += n, distances += n, m -= n) {
        n = m < AT_ONCE ? m : AT_ONCE;
        find_rows(space, slots, n, w);
        for (size_t i = 0; i < n; i++) {
            residuals[i] = space->residuals + (size_t)slots[i] * q->dim;
            steps[i] = space->factors[slots[i]].scale / 65536;
        }
        ev__sq24_compare(q, query, w->rows, residuals, steps, n, distances);
    }
}

const ev__row_kind ev__sq24_rows = {
    .distances = sq24_distances, .query_from_slot = ev__query_from_sq24, .pipelined = true};

/* ---- codes ----------------------------------------------------------------------------------- */

/* Integer products or distances of rows, into w->integers, while their factors are on the way. */
static void compare(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                    size_t m, ev__element element, ev__measure measure, ev__workspace *w) {
    find_rows(space, slots, m, w);
    for (size_t i = 0; i < m; i++) EV_PREFETCH(space->factors + slots[i]);
    q->kernels.rows[element][measure](query->data, &(ev__rows){.at = w->rows}, m, space->bytes, w->integers);
}

static void i8_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                         size_t m, float *distances, ev__workspace *w) {
    compare(q, space, query, slots, m, EV_I8, EV_DOT, w);
    for (size_t i = 0; i < m; i++)
        distances[i] = ev__code_distance(query, space->factors[slots[i]], (float)w->integers[i]);
}

const ev__row_kind ev__i8_rows = {.distances = i8_distances, .query_from_slot = ev__query_from_code, .pipelined = true};

/* Slower per distance than codes that lie ready, but a few additions to a binary index need no second copy of it. */
float ev__made_compare(const ev__quantizer *q, const ev__query *query, const float *row, ev__workspace *w) {
    ev__factor factor;
    ev__encode_i8(q, row, w->made, &factor);
    return ev__code_distance(query, factor, (float)ev__dot_i8(&q->kernels, query->data, w->made, q->dim));
}

static void made_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                           const uint32_t *slots, size_t m, float *distances, ev__workspace *w) {
    for (size_t i = 0; i < m; i++) distances[i] = ev__made_compare(q, query, ev__row_of(space, slots[i]), w);
}

const ev__row_kind ev__i8_rows_made = {
    .distances = made_distances, .query_from_slot = ev__query_from_floats, .pipelined = true};

static void bits_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                           const uint32_t *slots, size_t m, float *distances, ev__workspace *w) {
    compare(q, space, query, slots, m, EV_BITS, EV_DOT, w);
    for (size_t i = 0; i < m; i++)
        distances[i] = ev__code_distance(query, space->factors[slots[i]], (float)(2 * w->integers[i] - query->sum));
}

const ev__row_kind ev__bits_rows = {
    .distances = bits_distances, .query_from_slot = ev__query_from_code, .pipelined = true};

/* Between two sign codes t = 1 - 2 h / bits estimates 1 - 2 angle / pi; sin(pi t / 2), by an odd polynomial, is the
 * cosine. Factors are lengths over mean absolute coordinate, sqrt(pi / 2 / bits) * length, which the constant undoes.
 */
static inline float product_of_signs(uint32_t differ, size_t bits) {
    float t = 1.0f - 2.0f * (float)differ / (float)bits, t2 = t * t;
    return t * (1.5706268f - t2 * (0.6432292f - t2 * 0.0727102f)) * (0.63661977f * (float)bits);
}

static void distances_among(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                            const uint32_t *slots, size_t m, float *distances, ev__workspace *w) {
    compare(q, space, query, slots, m, EV_BITS, EV_L2, w);
    for (size_t i = 0; i < m; i++)
        distances[i] =
            ev__code_distance(query, space->factors[slots[i]], product_of_signs((uint32_t)w->integers[i], q->bits));
}

const ev__row_kind ev__bits_among = {
    .distances = distances_among, .query_from_slot = ev__query_from_code, .pipelined = true};
