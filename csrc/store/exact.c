/* Final distances: of a query to what is kept of the vectors, in float32 with a bound of the error, then in double
 * where that does not tell two apart. */
#include "store/store.h"

#include <math.h>

enum { AT_ONCE = 64 };
static const double ULP = 5.97e-8; /* half a unit in the last place of 1 */

void ev__exact_init(const ev__store *store, const float *given, const float *query, ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    ev__query_in_double(q, given, query, w);
    w->root = sqrt((double)q->dim);
    /* a term is rounded once for each that its sum has seen, and when the sums are joined */
    w->sum = ((double)q->dim / (double)q->kernels.sums + 12) * ULP;
    w->least = (double)q->dim * 1.2e-38;
    w->off = 0;
    if (!q->metric->product) {
        if (q->codec->refined) w->off = sqrt(ev__norm2(w->centered, q->dim));
        return;
    }
    if (q->center) {
        w->against = ev__dot_fixed(query, q->center, q->dim);
        w->off = sqrt(ev__norm2(q->center, q->dim));
    }
    /* of 24 bits, products with the center are summed apart, in double */
    w->rate = 1.1 * w->length * (w->sum + (q->codec->refined ? 4 * ULP : 0));
    w->rest = 1.1 * w->length * w->off * (q->codec->refined ? 4 * ULP : w->sum) + w->least;
}

/* How far the slot's vector is from the center, or from 0 where there is none, at most: no coordinate of its code is
 * further than its scale allows. */
static inline double reach(const ev__store *store, uint32_t slot, const ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    return q->center ? (double)ev__factor_of(store, slot)->scale * q->span + 1e-34 * w->root : q->longest;
}

/* The same, by the code itself where that tells more: a few times less. */
static double close_reach(const ev__store *store, uint32_t slot, const ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    if (!q->codec->length) return reach(store, slot, w);
    double scales = q->codec->length(q, ev__block(store, slot));
    return 1.001 * (double)ev__factor_of(store, slot)->scale * scales + 1e-34 * w->root;
}

/* How far rounding, other than of sums, may have moved the query and the vector, but for 2 ULP of their distance. A
 * 24-bit vector is read as the roundest one within half a step of it, and then to floats. */
static inline double moved(const ev__store *store, double scale, bool fine, const ev__workspace *w) {
    double unit = store->quantizer.metric->unit ? 2 * ULP : 0;
    return fine ? unit + ULP * (2 * w->off + w->length) + 0.51 / 65536 * scale * w->root : unit;
}

/* Bounds of lengths follow from the query's own and the distance. */
double ev__exact_error(const ev__store *store, uint32_t slot, double distance, const ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    if (q->metric->product) return w->rate * close_reach(store, slot, w) + w->rest;
    double gain = (double)q->metric->gain, squared = distance > 0 ? distance / gain : 0, apart = sqrt(squared);
    double scale = q->codec->refined ? (double)ev__factor_of(store, slot)->scale : 0;
    double off = moved(store, scale, q->codec->refined, w) + 2 * ULP * apart;
    return 1.1 * gain * ((w->sum + 4 * ULP) * squared + 2 * apart * off + off * off) + w->least;
}

void ev__exact_in_double(const ev__store *store, ev__result *r, ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    if (r->error == 0) return;
    const float *row = ev__vector_read(store, r->slot, w->decoded, w);
    r->distance = q->metric->distance(w, row, q->dim);
    r->error = 0;
}

/* Only signs: they know no more than the estimate. */
static void estimate(const ev__store *store, const ev__query *query, const uint32_t *slots, size_t m,
                     ev__result *results, ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    float distances[AT_ONCE];
    ev__space space = ev__search_space(store);
    ev__approx_distances(q, &space, query, slots, m, distances, w);
    double offset = q->metric->product ? -w->against : (double)query->offset;
    for (size_t i = 0; i < m; i++)
        results[i] = (ev__result){offset + (double)query->gain * (double)distances[i], 0, slots[i]};
}

/* Those of the distances, which are float32 sums, that may be within the bound, as results; returns how many. First by
 * a test that costs little: a distance beyond the bound by a hundredth is further than rounding can make it seem, where
 * the square of what may have moved is less than a millionth of it, and sums of so many numbers are as good. */
static size_t within(const ev__store *store, const float *distances, const uint32_t *slots, size_t m, double bound,
                     ev__result *results, const ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    bool ip = q->metric->product, fine = q->codec->refined, quick = !ip && q->dim < 10000;
    double gain = (double)q->metric->gain, against = ip && fine ? w->against : 0;
    double beyond = 1.01 * bound > 1e-30 ? 1.01 * bound : 1e-30, still = moved(store, 0, false, w);
    size_t kept = 0;
    for (size_t i = 0; i < m; i++) {
        double distance = ip ? (double)distances[i] - against : gain * (double)distances[i];
        if (quick && distance > beyond) {
            double off = fine ? moved(store, (double)ev__factor_of(store, slots[i])->scale, true, w) : still;
            if (off * off < 1e-6 * distance) continue;
        }
        if (ip && distance - (w->rate * reach(store, slots[i], w) + w->rest) > bound) continue;
        double error = ev__exact_error(store, slots[i], distance, w);
        if (distance - error <= bound) results[kept++] = (ev__result){distance, error, slots[i]};
    }
    return kept;
}

size_t ev__exact_distances(const ev__store *store, const ev__query *query, const uint32_t *slots, size_t m,
                           double bound, ev__result *results, ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    float distances[AT_ONCE];
    if (!q->keep_vectors && q->codec->coarse) {
        estimate(store, query, slots, m, results, w);
        return m;
    }
    if (!q->keep_vectors) {
        for (size_t i = 0; i < m; i++) {
            results[i] = (ev__result){0, INFINITY, slots[i]};
            ev__exact_in_double(store, &results[i], w);
        }
        return m;
    }
    ev__space space = ev__float_space(store);
    ev__query floats = {.data = q->codec->refined ? w->centered : w->held};
    ev__approx_distances(q, &space, &floats, slots, m, distances, w);
    return within(store, distances, slots, m, bound, results, w);
}

/* ---- by codes alone --------------------------------------------------------------------------- */

bool ev__code_bounds(const ev__store *store) {
    const ev__quantizer *q = &store->quantizer;
    return ev__searches_codes(q) && q->keep_vectors && !q->codec->coarse;
}

void ev__code_bounds_init(const ev__store *store, const ev__query *query, ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    const int8_t *code = query->data;
    double scale = (double)query->scale / (q->metric->product ? 1 : 2), missed2 = 0, rounded;
    for (size_t i = 0; i < q->dim; i++) {
        double missed = (double)w->centered[i] - scale * code[i];
        missed2 += missed * missed;
    }
    w->coded2 = scale * scale * (double)ev__dot_i8(&q->kernels, code, code, q->dim);
    rounded = 16 * ULP * (w->length + sqrt(ev__norm2(w->centered, q->dim)));
    w->missed = 1.0001 * sqrt(missed2) + rounded + w->least;
}

/* With q', x' the query and the vector from the center, q^, x^ what their codes say of them and s the vector's scale:
 * no coordinate of x' is further from x^ than s / 2, so |x' - x^| <= sqrt(dim) s / 2. By the triangle inequality
 * |q' - x'| >= |q^ - x^| - |q' - q^| - |x' - x^|; and q' x' <= q^ x^ + |q' - q^| |x^| + |q'| |x' - x^|. */
size_t ev__code_bounds_keep(const ev__store *store, const ev__query *query, double bound, uint32_t *slots, size_t m,
                            ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    ev__space space = ev__search_space(store);
    float distances[AT_ONCE];
    double half = 0.51 * w->root, span = q->span * (w->missed + 1e-6 * sqrt(w->coded2)) + half * w->length;
    double apart = sqrt((bound > 0 ? bound : 0) / (double)q->metric->gain) + w->missed;
    size_t kept = 0;
    ev__approx_distances(q, &space, query, slots, m, distances, w);
    for (size_t i = 0; i < m; i++) {
        ev__factor factor = space.factors[slots[i]];
        double distance = (double)distances[i], scale = (double)factor.scale, most = apart + half * scale;
        double nearest = q->metric->product
                             ? distance - w->against - span * scale - w->rest
                             : 0.999999 * distance + 0.999998 * w->coded2 - 1e-6 * (double)factor.bias - 4 * w->least;
        bool beyond = nearest > (q->metric->product ? bound : most * most);
        slots[kept] = slots[i];
        kept += !beyond;
    }
    return kept;
}

/* ---- what is told ----------------------------------------------------------------------------- */

float ev__exact_shown(const ev__store *store, const ev__result *r) {
    const ev__quantizer *q = &store->quantizer;
    if (q->metric->product) return (float)(1 + r->distance);
    double unknown = q->metric->unit ? 1e-14 : 0; /* of a float32 unit vector */
    if (q->codec->refined) {
        double step = (double)ev__factor_of(store, r->slot)->scale / 65536;
        unknown = (double)q->dim * (step * step) * (double)q->metric->gain;
    }
    return r->distance <= unknown ? 0.0f : (float)r->distance;
}

enum { MOST_ASKED = 32 * EV_LINE }; /* of one row: what comes behind, the hardware sees coming */

void ev__exact_prefetch(const ev__store *store, uint32_t slot) {
    if (!store->quantizer.codec->refined || store->paged) return;
    const char *residual = (const char *)ev__residual(store, slot);
    size_t bytes = store->columns.vectors.item < MOST_ASKED ? store->columns.vectors.item : MOST_ASKED;
    for (size_t at = 0; at < bytes; at += EV_LINE) EV_FETCH_SOON(residual + at);
}
