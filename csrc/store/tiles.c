/* Many queries against 64 rows at once: which rows may be within each query's bound, by 8-bit codes of both.
 *
 * Where rows are floats, their codes are made on the way, around the mean of a few rows. With q', x' the query and the
 * vector from the center, q^, x^ what their codes say of them, e >= |x' - x^| and m >= |q' - q^|:
 *   |q' - x'| >= |q^ - x^| - m - e,   so a row is beyond b where |x^|^2 + |q^|^2 - 2 q^ x^ > (b + m + e)^2
 *   q' x' <= q^ x^ + m |x^| + |q'| e
 * Divided by the row's scale both become a limit of the product of the integers, a sum of terms of the row times terms
 * of the query: the test that ev__tile_test does for 64 rows in a few instructions. */
#include "store/store.h"

#include <math.h>

static const double ULP = 5.97e-8, /* half a unit in the last place of 1 */
    SLACK = 4e-6;                  /* relative: more than float32 rounds off such a sum of terms */

bool ev__tiles_pay(const ev__store *store) {
    const ev__quantizer *q = &store->quantizer;
    return ev__code_bounds(store) || (q->keep_vectors == EV_VECTORS_FLOAT32 && !store->paged);
}

/* ---- memory ---------------------------------------------------------------------------------- */

size_t ev__tiles_lay_out(const ev__store *store, size_t count, char *memory, ev__tiles *t) {
    ev__arena a = {memory, 0};
    size_t dim = store->quantizer.dim, stride = ev__round_up(dim, 8);
    *t = (ev__tiles){.queries = {.stride = stride, .count = count},
                     .makes = !ev__code_bounds(store),
                     .most = ev__tile_most(&store->quantizer.kernels)};
    t->codes = ev__arena_take(&a, count * stride);
    t->sums = ev__arena_take(&a, count * sizeof *t->sums);
    t->query = ev__arena_take(&a, count * sizeof *t->query);
    t->products = ev__arena_take(&a, count * EV_TILE * sizeof *t->products);
    t->room = ev__arena_take(&a, EV_TILE * stride);
    t->center = ev__arena_take(&a, dim * sizeof *t->center);
    t->made = ev__arena_take(&a, t->makes ? EV_TILE * dim : 0);
    t->queries.codes = t->codes;
    t->queries.sums = t->sums;
    return a.used;
}

/* ---- queries --------------------------------------------------------------------------------- */

void ev__tiles_begin(const ev__store *store, ev__tiles *t, const uint32_t *slots, size_t m) {
    const ev__quantizer *q = &store->quantizer;
    memset(t->codes, 0, t->queries.count * t->queries.stride);
    memset(t->center, 0, q->dim * sizeof *t->center);
    for (size_t i = 0; t->makes && !q->metric->product && i < m; i++) {
        const float *row = ev__vector(store, slots[i]);
        for (size_t j = 0; j < q->dim; j++) t->center[j] += row[j] / (float)m;
    }
}

/* As integers in [-most, most]; returns their scale. */
static double encode(const float *numbers, size_t n, int most, int8_t *code, int32_t *sum) {
    float largest = 0;
    *sum = 0;
    for (size_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(numbers[i]));
    float scale = largest / (float)most, inverse = (float)most / largest;
    if (!(scale > 1e-37f)) return 0;
    for (size_t i = 0; i < n; i++) {
        code[i] = (int8_t)nearbyintf(numbers[i] * inverse);
        *sum += code[i];
    }
    return (double)scale;
}

void ev__tiles_query(const ev__store *store, ev__tiles *t, size_t at, ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    ev__tile_query *query = &t->query[at];
    const float *centered = w->centered;
    int8_t *code = t->codes + at * t->queries.stride;
    if (t->makes) {
        for (size_t i = 0; i < q->dim; i++) w->decoded[i] = w->held[i] - t->center[i];
        centered = w->decoded;
    }
    double scale = encode(centered, q->dim, t->most, code, &t->sums[at]), missed2 = 0;
    for (size_t i = 0; i < q->dim; i++) {
        double missed = (double)centered[i] - scale * code[i];
        missed2 += missed * missed;
    }
    double length = w->length > 0 ? w->length : 1, rounded = 16 * ULP * (w->length + sqrt(ev__norm2(centered, q->dim)));
    *query = (ev__tile_query){.coded2 = scale * scale * (double)ev__dot_i8(&q->kernels, code, code, q->dim),
                              .missed = 1.0001 * sqrt(missed2) + rounded + w->least,
                              .length = length,
                              .against = t->makes ? 0 : w->against,
                              .rest = w->rest,
                              .least = w->least};
    query->test.rate = (float)(q->metric->product ? scale / length : 2 * scale);
    ev__tiles_tighten(store, t, at, INFINITY);
}

void ev__tiles_tighten(const ev__store *store, ev__tiles *t, size_t at, double bound) {
    const ev__quantizer *q = &store->quantizer;
    ev__tile_query *query = &t->query[at];
    double fixed, extent, size;
    if (q->metric->product) {
        fixed = -(bound + query->against + query->rest) / query->length;
        size = (fabs(bound) + fabs(query->against)) / query->length;
        extent = query->missed / query->length;
    } else {
        double apart = sqrt((bound > 0 ? bound : 0) / (double)q->metric->gain) + query->missed;
        fixed = query->coded2 - apart * apart - 4 * query->least;
        size = query->coded2 + apart * apart;
        extent = 2 * apart;
    }
    query->test.by_inverse = bound < INFINITY ? (float)(fixed - SLACK * size) : -INFINITY;
    query->test.by_extent = (float)(-(1 + SLACK) * extent - 1e-35);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* A code is off by little more than half a scale in each coordinate. norm2: of its integers. */
static void set_limit(const ev__quantizer *q, ev__tile_limits *limits, size_t i, double scale, double norm2) {
    double half2 = 0.51 * 0.51 * (double)q->dim, half = sqrt(half2);
    if (!(scale > 0)) { /* it is the center */
        limits->fixed[i] = limits->extent[i] = 0;
        limits->inverse[i] = 1;
        return;
    }
    bool product = q->metric->product;
    double fixed = product ? -half : scale * (norm2 - half2), size = product ? half : scale * (norm2 + half2);
    limits->fixed[i] = (float)(fixed - SLACK * size);
    limits->extent[i] = (float)(product ? 1.00001 * sqrt(norm2) : half);
    limits->inverse[i] = (float)(1 / scale);
}

/* The row's code, and what its test goes by. */
static const int8_t *look_at(const ev__store *store, ev__tiles *t, uint32_t slot, size_t i) {
    const ev__quantizer *q = &store->quantizer;
    if (!t->makes && !q->metric->product) {
        ev__factor factor = *ev__factor_of(store, slot);
        double scale = (double)factor.scale;
        set_limit(q, &t->limits, i, scale, (double)factor.bias / (scale * scale));
        return (const void *)ev__block(store, slot);
    }
    int8_t *code = t->made + i * q->dim;
    float scale = t->makes ? q->kernels.encode_i8(ev__vector(store, slot), t->center, q->dim, code)
                           : ev__factor_of(store, slot)->scale;
    if (!t->makes) code = (void *)ev__block(store, slot);
    set_limit(q, &t->limits, i, (double)scale, (double)ev__dot_i8(&q->kernels, code, code, q->dim));
    return code;
}

void ev__tiles_rows(const ev__store *store, ev__tiles *t, const uint32_t *slots, size_t m) {
    const ev__quantizer *q = &store->quantizer;
    const void *rows[EV_TILE];
    for (size_t i = 0; i < m; i++) rows[i] = look_at(store, t, slots[i], i);
    for (size_t i = m; i < EV_TILE; i++) t->limits.fixed[i] = t->limits.extent[i] = t->limits.inverse[i] = 0;
    t->mask = m < 64 ? ((uint64_t)1 << m) - 1 : UINT64_MAX;
    ev__tile_i8(&q->kernels, &t->queries, rows, m, q->dim, t->room, t->products);
}

uint64_t ev__tiles_keep(const ev__store *store, const ev__tiles *t, size_t at) {
    return t->mask & store->quantizer.kernels.tile_reach(t->products + at * EV_TILE, &t->limits, &t->query[at].test);
}
