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

/* Of the expected error. At 0.5 a tenth more codes are fetched than at 0, and all but 1 in 500 of the neighbors that
 * a walk without a bits finds are found. */
static const float ERROR_FRACTION = 0.5f;

/* Of what is in w->rotated. unit: of its numbers, in distances. What is compared of the headers of rows lies
 * against zeros of the planes. */
static void make_query_bits(const ev__quantizer *q, double norm2, float unit, ev__query_bits *bits, ev__workspace *w) {
    bits->planes = w->planes;
    bits->scale = unit * ev__encode_planes(w->rotated, q->bits, w->planes, ev__prefilter_compared(q), &bits->sum);
    bits->error = ERROR_FRACTION * unit * (float)sqrt(norm2);
}

void ev__query_init_bits(const ev__quantizer *q, const int8_t *code, ev__query *query, ev__workspace *w) {
    if (!ev__prefilters(q) || q->unprefiltered || !ev__searches_codes(q)) return;
    double norm2 = ev__rotate_code(q, code, w);
    make_query_bits(q, norm2, query->scale, &query->bits, w);
}

/* l2, cosine: |q - x|^2 = |q'|^2 + |x'|^2 - 2 q'x', both centered; at unit length that is 2 (1 - cos).
 * ip: q x = q x' + q center, with the query as it is. */
static void query_by_codes(const ev__quantizer *q, const float *vector, ev__query *query, ev__workspace *w) {
    bool ip = q->metric->product;
    for (size_t i = 0; i < q->dim; i++) w->centered[i] = ip ? vector[i] : vector[i] - q->center[i];
    double norm2 = ip && !ev__prefilters(q) ? 0 : ev__norm2(w->centered, q->dim);
    *query = (ev__query){.data = w->code};
    float scale = q->codec->encode_query(q, query, w);
    if (ip) {
        query->scale = scale;
        query->bias = 0;
        query->offset = (float)(1.0 - ev__dot_fixed(vector, q->center, q->dim));
        query->gain = 1;
    } else {
        query->scale = 2 * scale;
        query->bias = 1;
        query->gain = q->metric->gain;
        query->offset = query->gain * (float)norm2;
    }
    if (!ev__prefilters(q) || q->unprefiltered) return;
    ev__rotate_light(q, w->centered, w);
    make_query_bits(q, norm2, ip ? 1.0f : 2.0f, &query->bits, w);
    query->bits.sparing = true;
}

static void query_by_floats(const ev__quantizer *q, const float *vector, ev__query *query, ev__workspace *w) {
    bool ip = q->metric->product;
    *query = (ev__query){.data = vector, .scale = 1, .gain = q->metric->gain};
    if (!q->codec->refined) return;
    for (size_t i = 0; i < q->dim; i++) w->centered[i] = ip ? vector[i] : vector[i] - q->center[i];
    query->data = w->centered;
}

void ev__query_init(const ev__quantizer *q, const float *vector, ev__query *query, ev__workspace *w) {
    if (ev__searches_codes(q))
        query_by_codes(q, vector, query, w);
    else
        query_by_floats(q, vector, query, w);
}

void ev__query_from_slot(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query,
                         void *buffer) {
    *query = (ev__query){.data = ev__row_of(space, slot), .gain = 1};
    if (space->kind->query_from_slot) space->kind->query_from_slot(q, space, slot, query, buffer);
}

static void complete(const ev__quantizer *q, ev__query *query, ev__factor factor) {
    query->scale = q->metric->product ? factor.scale : 2 * factor.scale;
    query->bias = 1;
    query->offset = factor.bias;
}

void ev__query_from_code(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query,
                         void *buffer) {
    (void)buffer;
    complete(q, query, space->factors[slot]);
}

void ev__query_from_row(const ev__quantizer *q, const float *vector, ev__query *query, int8_t *code) {
    ev__factor factor;
    ev__encode_i8(q, vector, code, &factor);
    query->data = code;
    complete(q, query, factor);
}

void ev__query_from_floats(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query,
                           void *buffer) {
    ev__query_from_row(q, ev__row_of(space, slot), query, buffer);
}

/* Centered, or under ip as it is, when the products with the center that distances leave out are the offset. */
void ev__query_from_sq24(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query,
                         void *buffer) {
    ev__query_from_residuals(q, query->data, space->factors[slot].scale, space->residuals + (size_t)slot * q->dim,
                             query, buffer);
}

void ev__query_from_residuals(const ev__quantizer *q, const int8_t *code, float scale, const int16_t *residual,
                              ev__query *query, float *row) {
    float step = scale / 65536;
    bool ip = q->metric->product;
    for (size_t i = 0; i < q->dim; i++)
        row[i] = step * (float)(65536 * code[i] + residual[i]) + (ip ? q->center[i] : 0.0f);
    query->data = row;
    if (ip) query->offset = (float)-ev__dot_fixed(row, q->center, q->dim);
}
