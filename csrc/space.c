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

ev__space ev__walk_space(const ev_index *ix) {
    ev__space_kind kind = ev__by_bits(ix)                ? EV_SPACE_BITS
                          : ev__by_bytes(ix)             ? EV_SPACE_I8
                          : ix->p.metric == EV_METRIC_L2 ? EV_SPACE_L2
                                                         : EV_SPACE_DOT;
    return (ev__space){kind, ix->store.blocks.at, ix->block_bytes, ix->code_bytes, (const void *)ix->store.factors.at};
}

/* Cosine: at unit length the order is that of l2, which tells near copies apart where 1 - dot is all rounding. */
ev__space ev__build_space(const ev_index *ix, const int8_t *codes, const ev__factor *factors) {
    ev__space space = ev__walk_space(ix);
    if (space.kind == EV_SPACE_DOT && ix->p.metric == EV_METRIC_COSINE) space.kind = EV_SPACE_L2;
    if (!ev__by_bits(ix)) return space;
    if (!ix->p.keep_vectors) {
        space.kind = EV_SPACE_HAMMING;
        return space;
    }
    if (codes) return (ev__space){EV_SPACE_I8, (const char *)codes, ix->dim, ix->dim, factors};
    return (ev__space){EV_SPACE_I8_FRESH, ix->store.vectors.at, ix->dim * sizeof(float), ix->dim * sizeof(float), NULL};
}

ev__space ev__code_space(const ev_index *ix) {
    ev__space space = ev__build_space(ix, NULL, NULL);
    if (ev__by_bits(ix)) {
        space = ev__walk_space(ix);
        space.kind = EV_SPACE_HAMMING;
    }
    return space;
}

static inline const void *row_of(const ev__space *space, uint32_t slot) {
    return space->rows + (size_t)slot * space->stride;
}

void ev__probe_slot(const ev_index *ix, const ev__space *space, uint32_t slot, ev__probe *probe, void *buffer) {
    *probe = (ev__probe){.data = row_of(space, slot), .gain = 1};
    if (space->kind == EV_SPACE_DOT || space->kind == EV_SPACE_L2) return;
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

void ev__keys(const ev_index *ix, const ev__space *space, const ev__probe *probe, const uint32_t *slots, size_t m,
              float *keys, ev__scratch *s) {
    if (space->kind == EV_SPACE_I8_FRESH) {
        keys_fresh(ix, space, probe, slots, m, keys, s);
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

enum { AT_ONCE = 64 }; /* refined vectors */

/* Of at most AT_ONCE refined vectors, whose elements are integers around the centre: s->query is the query as its probe
 * was made of it. Cosine by the squared distance of unit vectors, which is 2 (1 - cos), and tells near copies apart
 * where 1 - dot is all rounding. */
static void distances_fine(const ev_index *ix, const ev__probe *probe, const uint32_t *slots, size_t m,
                           float *distances, ev__scratch *s) {
    const void *residuals[AT_ONCE];
    float steps[AT_ONCE];
    for (size_t i = 0; i < m; i++) {
        s->rows[i] = ev__block(ix, slots[i]);
        residuals[i] = ev__residual(ix, slots[i]);
        steps[i] = ev__factor_of(ix, slots[i])->scale / 65536;
    }
    if (ix->p.metric == EV_METRIC_IP) {
        ix->kernels->dot_fine_rows(s->query, s->rows, residuals, m, ix->dim, distances);
        for (size_t i = 0; i < m; i++) distances[i] = probe->offset - distances[i] * steps[i];
    } else {
        ix->kernels->l2_fine_rows(s->query, s->rows, residuals, steps, m, ix->dim, distances);
        for (size_t i = 0; i < m; i++) {
            float unknown = (float)ix->dim * (steps[i] * steps[i]); /* the same vector, for all that is kept */
            distances[i] = distances[i] <= unknown ? 0.0f : distances[i] * probe->gain;
        }
    }
}

enum { MOST_ASKED = 32 * EV_LINE }; /* of one row: what comes behind, the hardware sees coming */

void ev__distances_prefetch(const ev_index *ix, uint32_t slot) {
    if (!ev__fine(ix)) return;
    const char *residual = (const char *)ev__residual(ix, slot);
    size_t bytes = ix->store.vectors.item < MOST_ASKED ? ix->store.vectors.item : MOST_ASKED;
    for (size_t at = 0; at < bytes; at += EV_LINE) EV_PREFETCH(residual + at);
}

void ev__distances(const ev_index *ix, const float *query, const ev__probe *probe, const uint32_t *slots, size_t m,
                   float *distances, ev__scratch *s) {
    bool l2 = ix->p.metric == EV_METRIC_L2;
    if (ev__fine(ix)) {
        for (size_t i = 0; i < m; i += AT_ONCE)
            distances_fine(ix, probe, slots + i, m - i < AT_ONCE ? m - i : AT_ONCE, distances + i, s);
        return;
    }
    if (ix->p.keep_vectors) {
        for (size_t i = 0; i < m; i++) s->rows[i] = ev__vector(ix, slots[i]);
        (l2 ? ix->kernels->l2_f32_rows : ix->kernels->dot_f32_rows)(query, s->rows, m, ix->dim, distances);
    } else if (ev__by_bytes(ix)) {
        for (size_t i = 0; i < m; i++) {
            ev__decode(ix, slots[i], s->decoded, s);
            distances[i] = (l2 ? ix->kernels->l2_f32 : ix->kernels->dot_f32)(query, s->decoded, ix->dim);
        }
    } else { /* a decoded sign code knows no more than the estimate */
        ev__space space = ev__walk_space(ix);
        ev__keys(ix, &space, probe, slots, m, distances, s);
        for (size_t i = 0; i < m; i++) distances[i] = probe->offset + probe->gain * distances[i];
        return;
    }
    if (!l2)
        for (size_t i = 0; i < m; i++) distances[i] = 1.0f - distances[i];
}
