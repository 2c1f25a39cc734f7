/* Distances: one probe (a query, or a node under construction) against many rows.
 *
 * All metrics become one formula, key = bias - scale * product, evaluated lane by lane without fusing, so keys made
 * from integer products are the same on every machine.
 *
 * Inner product is walked and linked by the inner product itself (Morozov and Babenko's ip-NSW): links then lead to
 * long vectors, which is where the largest products are, and what no link leads to is linked when the graph is mended.
 * Measured against the reduction to Euclidean distance by an added coordinate, at equal work this finds far more where
 * lengths differ much. */
#include "internal.h"

#include <math.h>

/* Cosine: at unit length the order is that of l2, which tells near copies apart where 1 - dot is all rounding. */
static ev__space float_space(const ev_index *ix) {
    const void *factors = ix->store.factors.at;
    if (ev__fine(ix)) return (ev__space){EV_SPACE_FINE, ix->store.blocks.at, ix->block_bytes, ix->code_bytes, factors};
    ev__space_kind kind = ix->p.metric == EV_METRIC_IP ? EV_SPACE_DOT : EV_SPACE_L2;
    if (ix->p.quantization == EV_QUANT_NONE)
        return (ev__space){kind, ix->store.blocks.at, ix->block_bytes, ix->code_bytes, NULL};
    return (ev__space){kind, ix->store.vectors.at, ix->store.vectors.item, ix->store.vectors.item, NULL};
}

ev__space ev__walk_space(const ev_index *ix) {
    if (!ev__walks_codes(ix)) return float_space(ix);
    ev__space_kind kind = ev__by_bits(ix) ? EV_SPACE_BITS : EV_SPACE_I8;
    return (ev__space){kind, ix->store.blocks.at, ix->block_bytes, ix->code_bytes, (const void *)ix->store.factors.at};
}

ev__space ev__build_space(const ev_index *ix, const int8_t *codes, const ev__factor *factors) {
    ev__space space = ev__walk_space(ix);
    if (space.kind != EV_SPACE_BITS) return space;
    if (!ix->p.keep_vectors) {
        space.kind = EV_SPACE_HAMMING;
        return space;
    }
    if (codes) return (ev__space){EV_SPACE_I8, (const char *)codes, ix->dim, ix->dim, factors};
    return (ev__space){EV_SPACE_I8_FRESH, ix->store.vectors.at, ix->dim * sizeof(float), ix->dim * sizeof(float), NULL};
}

ev__space ev__code_space(const ev_index *ix) {
    ev__space space = ev__walk_space(ix);
    if (space.kind == EV_SPACE_BITS) space.kind = EV_SPACE_HAMMING;
    return space;
}

static inline const void *row_of(const ev__space *space, uint32_t slot) {
    return space->rows + (size_t)slot * space->stride;
}

/* A 24-bit vector as a query: centred, or under ip as it is, when the products with the centre that keys leave out are
 * the offset. */
static void probe_fine(const ev_index *ix, uint32_t slot, ev__probe *probe, float *buffer) {
    const int8_t *code = (const int8_t *)ev__block(ix, slot);
    const int16_t *residual = ev__residual(ix, slot);
    float step = ev__factor_of(ix, slot)->scale / 65536;
    bool ip = ix->p.metric == EV_METRIC_IP;
    for (size_t i = 0; i < ix->dim; i++)
        buffer[i] = step * (float)(65536 * code[i] + residual[i]) + (ip ? ix->centre[i] : 0.0f);
    probe->data = buffer;
    if (ip) probe->offset = (float)-ev__dot_fixed(buffer, ix->centre, ix->dim);
}

void ev__probe_slot(const ev_index *ix, const ev__space *space, uint32_t slot, ev__probe *probe, void *buffer) {
    *probe = (ev__probe){.data = row_of(space, slot), .gain = 1};
    if (space->kind == EV_SPACE_DOT || space->kind == EV_SPACE_L2) return;
    if (space->kind == EV_SPACE_FINE) {
        probe_fine(ix, slot, probe, buffer);
        return;
    }
    ev__factor factor;
    if (space->kind == EV_SPACE_I8_FRESH) {
        ev__encode_i8(ix, probe->data, buffer, &factor);
        probe->data = buffer;
    } else {
        factor = space->factors[slot];
    }
    probe->scale = ix->p.metric == EV_METRIC_IP ? factor.scale : 2 * factor.scale;
    probe->bias = 1;
    probe->offset = factor.bias;
}

/* Between two sign codes t = 1 - 2 h / bits estimates 1 - 2 angle / pi; sin(pi t / 2), by an odd polynomial, is the
 * cosine. Factors are lengths over mean absolute coordinate, sqrt(pi / 2 / bits) * length, which the constant undoes.
 */
static inline float hamming_product(uint32_t differ, size_t bits) {
    float t = 1.0f - 2.0f * (float)differ / (float)bits, t2 = t * t;
    return t * (1.5706268f - t2 * (0.6432292f - t2 * 0.0727102f)) * (0.63661977f * (float)bits);
}

/* Codes made on the spot from the float rows: slower per distance, but a few additions to a binary index need no second
 * copy of it. */
static void keys_fresh(const ev_index *ix, const ev__space *space, const ev__probe *probe, const uint32_t *slots,
                       size_t m, float *keys, ev__scratch *s) {
    for (size_t i = 0; i < m; i++) {
        ev__factor factor;
        ev__encode_i8(ix, row_of(space, slots[i]), s->fresh, &factor);
        keys[i] = ev__key(probe, factor, (float)ix->kernels->dot_i8(probe->data, s->fresh, ix->dim));
    }
}

enum { AT_ONCE = 64 };

/* Squared distances, or products, of a query with 24-bit vectors, whose elements are integers around the centre. */
static void sums_fine(const ev_index *ix, const float *query, const uint32_t *slots, size_t m, float *sums,
                      ev__scratch *s) {
    const void *residuals[AT_ONCE];
    float steps[AT_ONCE];
    for (size_t n; m; slots += n, sums += n, m -= n) {
        n = m < AT_ONCE ? m : AT_ONCE;
        for (size_t i = 0; i < n; i++) {
            s->rows[i] = ev__block(ix, slots[i]);
            residuals[i] = ev__residual(ix, slots[i]);
            steps[i] = ev__factor_of(ix, slots[i])->scale / 65536;
        }
        if (ix->p.metric != EV_METRIC_IP) {
            ix->kernels->l2_fine_rows(query, s->rows, residuals, steps, n, ix->dim, sums);
            continue;
        }
        ix->kernels->dot_fine_rows(query, s->rows, residuals, n, ix->dim, sums);
        for (size_t i = 0; i < n; i++) sums[i] *= steps[i];
    }
}

void ev__keys(const ev_index *ix, const ev__space *space, const ev__probe *probe, const uint32_t *slots, size_t m,
              float *keys, ev__scratch *s) {
    if (space->kind == EV_SPACE_I8_FRESH) {
        keys_fresh(ix, space, probe, slots, m, keys, s);
        return;
    }
    if (space->kind == EV_SPACE_FINE) {
        sums_fine(ix, probe->data, slots, m, keys, s);
        if (ix->p.metric == EV_METRIC_IP)
            for (size_t i = 0; i < m; i++) keys[i] = -keys[i];
        return;
    }
    for (size_t i = 0; i < m; i++) s->rows[i] = row_of(space, slots[i]);
    if (space->factors)
        for (size_t i = 0; i < m; i++) EV_PREFETCH(space->factors + slots[i]);
    switch (space->kind) {
    case EV_SPACE_L2: ix->kernels->l2_f32_rows(probe->data, s->rows, m, ix->dim, keys); return;
    case EV_SPACE_DOT:
        ix->kernels->dot_f32_rows(probe->data, s->rows, m, ix->dim, keys);
        for (size_t i = 0; i < m; i++) keys[i] = -keys[i];
        return;
    case EV_SPACE_I8: ix->kernels->dot_i8_rows(probe->data, s->rows, m, ix->dim, s->integers); break;
    case EV_SPACE_BITS: ix->kernels->dot_bits_rows(probe->data, s->rows, m, ix->bits / 8, s->integers); break;
    default: ix->kernels->hamming_rows(probe->data, s->rows, m, ix->bits / 8, (uint32_t *)s->integers); break;
    }
    for (size_t i = 0; i < m; i++) {
        float product;
        if (space->kind == EV_SPACE_I8)
            product = (float)s->integers[i];
        else if (space->kind == EV_SPACE_BITS)
            product = (float)(2 * s->integers[i] - probe->sum);
        else
            product = hamming_product((uint32_t)s->integers[i], ix->bits);
        keys[i] = ev__key(probe, space->factors[slots[i]], product);
    }
}

/* ---- final distances ------------------------------------------------------------------------- */

static const double ULP = 5.97e-8; /* half a unit in the last place of 1 */

void ev__measure_from(const ev_index *ix, const float *given, const float *query, ev__scratch *s) {
    double norm2 = ev__norm2(given, ix->dim);
    double inverse = ix->p.metric == EV_METRIC_COSINE ? 1.0 / sqrt(norm2) : 1.0;
    for (size_t i = 0; i < ix->dim; i++) s->exact[i] = (double)given[i] * inverse;
    s->held = query;
    s->root = sqrt((double)ix->dim);
    /* a term is rounded once for each that its sum has seen, and when the sums are joined */
    s->sum = ((double)ix->dim / (double)ix->kernels->sums + 12) * ULP;
    s->least = (double)ix->dim * 1.2e-38;
    s->length = sqrt(norm2) * inverse;
    s->span = ev__by_bits(ix) ? 1.001 * sqrt((double)ix->bits) : 128 * s->root;
    s->off = 0;
    if (ix->p.metric != EV_METRIC_IP) {
        if (ev__fine(ix)) s->off = sqrt(ev__norm2(s->query, ix->dim));
        return;
    }
    if (ix->centre) {
        s->against = ev__dot_fixed(query, ix->centre, ix->dim);
        s->off = sqrt(ev__norm2(ix->centre, ix->dim));
    }
    /* of 24 bits, products with the centre are summed apart, in double */
    s->rate = 1.1 * s->length * (s->sum + (ev__fine(ix) ? 4 * ULP : 0));
    s->rest = 1.1 * s->length * s->off * (ev__fine(ix) ? 4 * ULP : s->sum) + s->least;
}

/* How far the slot's vector is from the centre, or from 0 where there is none, at most: no coordinate of its code is
 * further than its scale allows. */
static inline double reach(const ev_index *ix, uint32_t slot, const ev__scratch *s) {
    return ix->centre ? (double)ev__factor_of(ix, slot)->scale * s->span + 1e-34 * s->root : ix->longest;
}

/* The same, by the coordinates of an 8-bit code, which are off by little more than half a scale: a few times less. */
static double close_reach(const ev_index *ix, uint32_t slot, const ev__scratch *s) {
    if (!ix->centre || ev__by_bits(ix)) return reach(ix, slot, s);
    const int8_t *code = (const int8_t *)ev__block(ix, slot);
    double scales = sqrt((double)ix->kernels->dot_i8(code, code, ix->dim)) + 0.51 * s->root;
    return 1.001 * (double)ev__factor_of(ix, slot)->scale * scales + 1e-34 * s->root;
}

/* How far rounding, other than of sums, may have moved the query and the vector, but for 2 ULP of their distance. A
 * 24-bit vector is read as the roundest one within half a step of it, and then to floats. */
static inline double moved(const ev_index *ix, double scale, bool fine, const ev__scratch *s) {
    double unit = ix->p.metric == EV_METRIC_COSINE ? 2 * ULP : 0;
    return fine ? unit + ULP * (2 * s->off + s->length) + 0.51 / 65536 * scale * s->root : unit;
}

/* Bounds of lengths follow from the query's own and the distance. */
double ev__error(const ev_index *ix, uint32_t slot, double distance, const ev__scratch *s) {
    if (ix->p.metric == EV_METRIC_IP) return s->rate * close_reach(ix, slot, s) + s->rest;
    bool cosine = ix->p.metric == EV_METRIC_COSINE;
    double gain = cosine ? 0.5 : 1.0, squared = distance > 0 ? distance / gain : 0, apart = sqrt(squared);
    double scale = ev__fine(ix) ? (double)ev__factor_of(ix, slot)->scale : 0;
    double off = moved(ix, scale, ev__fine(ix), s) + 2 * ULP * apart;
    return 1.1 * gain * ((s->sum + 4 * ULP) * squared + 2 * apart * off + off * off) + s->least;
}

void ev__measure_exactly(const ev_index *ix, ev__result *r, ev__scratch *s) {
    if (r->error == 0) return;
    const float *row = ev__vector_read(ix, r->slot, s->decoded, s);
    if (ix->p.metric == EV_METRIC_IP) {
        r->distance = -ev__dot_fixed(s->held, row, ix->dim);
    } else {
        r->distance = ev__apart_fixed(s->exact, row, ix->dim);
        if (ix->p.metric == EV_METRIC_COSINE) { /* |q - x|^2 = (1 - |x|)^2 + 2 |x| (1 - cos) */
            double length = sqrt(ev__norm2(row, ix->dim));
            r->distance = (r->distance - (1 - length) * (1 - length)) / (2 * length);
        }
    }
    r->error = 0;
}

/* Only signs: they know no more than the estimate. */
static void estimate(const ev_index *ix, const ev__probe *probe, const uint32_t *slots, size_t m, ev__result *results,
                     ev__scratch *s) {
    float keys[AT_ONCE];
    ev__space space = ev__walk_space(ix);
    ev__keys(ix, &space, probe, slots, m, keys, s);
    double offset = ix->p.metric == EV_METRIC_IP ? -s->against : (double)probe->offset;
    for (size_t i = 0; i < m; i++)
        results[i] = (ev__result){offset + (double)probe->gain * (double)keys[i], 0, slots[i]};
}

/* Those of the float32 sums that may be within the bound, as results; returns how many. First by a test that costs
 * little: a distance beyond the bound by a hundredth is further than rounding can make it seem, where the square of
 * what may have moved is less than a millionth of it, and sums of so many numbers are as good. */
static size_t within(const ev_index *ix, const float *sums, const uint32_t *slots, size_t m, double bound,
                     ev__result *results, const ev__scratch *s) {
    bool ip = ix->p.metric == EV_METRIC_IP, fine = ev__fine(ix), quick = !ip && ix->dim < 10000;
    double gain = ix->p.metric == EV_METRIC_COSINE ? 0.5 : 1.0, against = ip && fine ? s->against : 0;
    double beyond = 1.01 * bound > 1e-30 ? 1.01 * bound : 1e-30, still = moved(ix, 0, false, s);
    size_t kept = 0;
    for (size_t i = 0; i < m; i++) {
        double distance = ip ? -(double)sums[i] - against : gain * (double)sums[i];
        if (quick && distance > beyond) {
            double off = fine ? moved(ix, (double)ev__factor_of(ix, slots[i])->scale, true, s) : still;
            if (off * off < 1e-6 * distance) continue;
        }
        if (ip && distance - (s->rate * reach(ix, slots[i], s) + s->rest) > bound) continue;
        double error = ev__error(ix, slots[i], distance, s);
        if (distance - error <= bound) results[kept++] = (ev__result){distance, error, slots[i]};
    }
    return kept;
}

size_t ev__measure(const ev_index *ix, const ev__probe *probe, const uint32_t *slots, size_t m, double bound,
                   ev__result *results, ev__scratch *s) {
    float sums[AT_ONCE];
    if (!ix->p.keep_vectors && ev__by_bits(ix)) {
        estimate(ix, probe, slots, m, results, s);
        return m;
    }
    if (!ix->p.keep_vectors) {
        for (size_t i = 0; i < m; i++) {
            results[i] = (ev__result){0, INFINITY, slots[i]};
            ev__measure_exactly(ix, &results[i], s);
        }
        return m;
    }
    if (ev__fine(ix)) {
        sums_fine(ix, s->query, slots, m, sums, s);
    } else {
        bool ip = ix->p.metric == EV_METRIC_IP;
        for (size_t i = 0; i < m; i++) s->rows[i] = ev__vector(ix, slots[i]);
        (ip ? ix->kernels->dot_f32_rows : ix->kernels->l2_f32_rows)(s->held, s->rows, m, ix->dim, sums);
    }
    return within(ix, sums, slots, m, bound, results, s);
}

float ev__shown(const ev_index *ix, const ev__result *r) {
    if (ix->p.metric == EV_METRIC_IP) return (float)(1 + r->distance);
    bool cosine = ix->p.metric == EV_METRIC_COSINE;
    double unknown = cosine ? 1e-14 : 0; /* of a float32 unit vector */
    if (ev__fine(ix)) {
        double step = (double)ev__factor_of(ix, r->slot)->scale / 65536;
        unknown = (double)ix->dim * (step * step) * (cosine ? 0.5 : 1.0);
    }
    return r->distance <= unknown ? 0.0f : (float)r->distance;
}

enum { MOST_ASKED = 32 * EV_LINE }; /* of one row: what comes behind, the hardware sees coming */

void ev__distances_prefetch(const ev_index *ix, uint32_t slot) {
    if (!ev__fine(ix)) return;
    const char *residual = (const char *)ev__residual(ix, slot);
    size_t bytes = ix->store.vectors.item < MOST_ASKED ? ix->store.vectors.item : MOST_ASKED;
    for (size_t at = 0; at < bytes; at += EV_LINE) EV_PREFETCH(residual + at);
}
