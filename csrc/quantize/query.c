/* Preparing one side of many comparisons: a query, or a vector that is held. */
#include "quantize/quantize.h"

#include <math.h>

/* The lowest bits of eight bytes, shifted by p, as one byte. */
static inline uint8_t plane_of(uint64_t bytes, size_t p) {
    return (uint8_t)(((bytes >> p & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
}

/* The largest absolute value, by way of the bits, whose order is that of the numbers: compilers keep the order of float
 * comparisons, one after the other, and not that of integers. */
static float magnitude(const float *numbers, size_t n) {
    int32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, numbers + i, sizeof bits);
        bits &= 0x7FFFFFFF;
        most = bits > most ? bits : most;
    }
    float value;
    memcpy(&value, &most, sizeof value);
    return value;
}

/* In two's complement. */
float ev__encode_planes(const float *numbers, size_t n, uint8_t *planes, size_t stride, int32_t *sum) {
    float most = magnitude(numbers, n), scale = most / 7.0f;
    memset(planes, 0, EV_PLANES * stride);
    *sum = 0;
    if (!(scale > 1e-37f)) return 0.0f;
    /* as encode_i8 does it: adding 1.5 * 2^23 rounds and leaves the integer in the low bits */
    const float inverse = 7.0f / most, magic = 12582912.0f;
    for (size_t i = 0; i < n; i += 64) {
        int8_t values[64];
        int32_t part = 0;
        for (size_t j = 0; j < 64; j++) {
            union {
                float value;
                int32_t bits;
            } x = {numbers[i + j] * inverse + magic};
            values[j] = (int8_t)x.bits;
        }
        for (size_t j = 0; j < 64; j++) part += values[j];
        *sum += part;
        for (size_t j = 0; j < 8; j++) {
            uint64_t bytes;
            memcpy(&bytes, values + 8 * j, sizeof bytes);
            for (size_t p = 0; p < EV_PLANES; p++) planes[p * stride + i / 8 + j] = plane_of(bytes, p);
        }
    }
    return scale;
}

/* Of the expected error. At 0.5 a tenth more codes are fetched than at 0, and all but 1 in 500 of the neighbours that
 * a walk without a sieve finds are found. */
static const float TRUST = 0.5f;

/* Of what is in w->rotated. unit: of its numbers, in keys. The tails of rows lie against zeros of the planes. */
static void make_sieve(const ev__quantizer *q, double norm2, float unit, ev__sieve *sieve, ev__workspace *w) {
    sieve->planes = w->planes;
    sieve->scale = unit * ev__encode_planes(w->rotated, q->bits, w->planes, q->sift_bytes, &sieve->sum);
    sieve->error = TRUST * unit * (float)sqrt(norm2);
}

void ev__probe_sieve(const ev__quantizer *q, const int8_t *code, ev__probe *probe, ev__workspace *w) {
    if (!ev__sifts(q) || !ev__walks_codes(q)) return;
    double norm2 = ev__turn_code(q, code, w);
    make_sieve(q, norm2, probe->scale, &probe->sieve, w);
}

/* l2, cosine: |q - x|^2 = |q'|^2 + |x'|^2 - 2 q'x', both centred; at unit length that is 2 (1 - cos).
 * ip: q x = q x' + q centre, with the query as it is. */
static void probe_codes(const ev__quantizer *q, const float *query, ev__probe *probe, ev__workspace *w) {
    bool ip = q->metric == EV_METRIC_IP;
    for (size_t i = 0; i < q->dim; i++) w->query[i] = ip ? query[i] : query[i] - q->centre[i];
    double norm2 = ip && !ev__sifts(q) ? 0 : ev__norm2(w->query, q->dim);
    float scale;
    *probe = (ev__probe){.data = w->code};
    if (ev__by_bytes(q)) {
        memset(w->decoded, 0, q->dim * sizeof(float));
        scale = q->kernels->encode_i8(w->query, w->decoded, q->dim, w->code);
    } else {
        ev__rotate(&q->rotation, w->query, w->rotated);
        scale = ev__encode_planes(w->rotated, q->bits, w->code, q->bits / 8, &probe->sum);
    }
    if (ip) {
        probe->scale = scale;
        probe->bias = 0;
        probe->offset = (float)(1.0 - ev__dot_fixed(query, q->centre, q->dim));
        probe->gain = 1;
    } else {
        probe->scale = 2 * scale;
        probe->bias = 1;
        probe->gain = q->metric == EV_METRIC_COSINE ? 0.5f : 1.0f;
        probe->offset = probe->gain * (float)norm2;
    }
    if (!ev__sifts(q)) return;
    ev__turn(q, w->query, w);
    make_sieve(q, norm2, ip ? 1.0f : 2.0f, &probe->sieve, w);
}

static void probe_floats(const ev__quantizer *q, const float *query, ev__probe *probe, ev__workspace *w) {
    bool ip = q->metric == EV_METRIC_IP;
    *probe = (ev__probe){.data = query, .scale = 1, .gain = q->metric == EV_METRIC_COSINE ? 0.5f : 1.0f};
    if (!ev__fine(q)) return;
    for (size_t i = 0; i < q->dim; i++) w->query[i] = ip ? query[i] : query[i] - q->centre[i];
    probe->data = w->query;
}

void ev__probe_query(const ev__quantizer *q, const float *query, ev__probe *probe, ev__workspace *w) {
    if (ev__walks_codes(q))
        probe_codes(q, query, probe, w);
    else
        probe_floats(q, query, probe, w);
}

/* A 24-bit vector as a query: centred, or under ip as it is, when the products with the centre that keys leave out are
 * the offset. */
static void probe_fine(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__probe *probe, float *buffer) {
    const int8_t *code = ev__row_of(space, slot);
    const int16_t *residual = space->residuals + (size_t)slot * q->dim;
    float step = space->factors[slot].scale / 65536;
    bool ip = q->metric == EV_METRIC_IP;
    for (size_t i = 0; i < q->dim; i++)
        buffer[i] = step * (float)(65536 * code[i] + residual[i]) + (ip ? q->centre[i] : 0.0f);
    probe->data = buffer;
    if (ip) probe->offset = (float)-ev__dot_fixed(buffer, q->centre, q->dim);
}

void ev__probe_slot(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__probe *probe, void *buffer) {
    *probe = (ev__probe){.data = ev__row_of(space, slot), .gain = 1};
    if (space->kind == EV_SPACE_DOT || space->kind == EV_SPACE_L2) return;
    if (space->kind == EV_SPACE_FINE) {
        probe_fine(q, space, slot, probe, buffer);
        return;
    }
    ev__factor factor;
    if (space->kind == EV_SPACE_I8_FRESH) {
        ev__encode_i8(q, probe->data, buffer, &factor);
        probe->data = buffer;
    } else {
        factor = space->factors[slot];
    }
    probe->scale = q->metric == EV_METRIC_IP ? factor.scale : 2 * factor.scale;
    probe->bias = 1;
    probe->offset = factor.bias;
}
