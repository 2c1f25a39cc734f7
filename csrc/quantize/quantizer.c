/* Vectors to codes and back.
 *
 * sq8: centred on the mean of the data, then one scale a vector (as in LVQ), integers in [-127, 127]. Data that come
 * later and lie further out just get a larger scale; the centre is learned anew when it no longer fits (train.c).
 * binary: centred, randomly rotated, one sign a coordinate, with the factor that makes the estimated dot product
 * unbiased (RaBitQ).
 *
 * Nothing here depends on the instruction set: sums run in double in a fixed order, the rest is one rounding per
 * operation, and the compiler is told not to fuse. So codes, and the graphs built on them, are the same bytes
 * everywhere. */
#include "internal.h"

#include <math.h>

/* Four sums side by side and always joined alike: the same bits from every compiler. */
#define DOT_FIXED(a, b, dim)                                                          \
    double sum[4] = {0, 0, 0, 0};                                                     \
    size_t i = 0;                                                                     \
    for (; i + 4 <= dim; i += 4)                                                      \
        for (size_t j = 0; j < 4; j++) sum[j] += (double)a[i + j] * (double)b[i + j]; \
    for (; i < dim; i++) sum[0] += (double)a[i] * (double)b[i];                       \
    return (sum[0] + sum[1]) + (sum[2] + sum[3])

double ev__dot_fixed(const float *a, const float *b, size_t dim) { DOT_FIXED(a, b, dim); }
static double dot_mixed(const float *a, const int8_t *b, size_t dim) { DOT_FIXED(a, b, dim); }

double ev__norm2(const float *v, size_t dim) { return ev__dot_fixed(v, v, dim); }

double ev__apart_fixed(const double *a, const float *b, size_t dim) {
    double sum[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 4 <= dim; i += 4)
        for (size_t j = 0; j < 4; j++) {
            double d = a[i + j] - (double)b[i + j];
            sum[j] += d * d;
        }
    for (; i < dim; i++) sum[0] += (a[i] - (double)b[i]) * (a[i] - (double)b[i]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

void ev__normalize(const float *v, double norm2, float *out, size_t dim) {
    double inverse = 1.0 / sqrt(norm2);
    for (size_t i = 0; i < dim; i++) out[i] = (float)((double)v[i] * inverse);
}

const float *ev__unit(const ev_index *ix, const float *row, float *buffer) {
    if (ix->p.metric != EV_METRIC_COSINE) return row;
    ev__normalize(row, ev__norm2(row, ix->dim), buffer, ix->dim);
    return buffer;
}

int ev__check_rows(const ev_index *ix, int64_t n, const float *rows) {
    for (int64_t i = 0; i < n; i++) {
        double norm2 = ev__norm2(rows + (size_t)i * ix->dim, ix->dim);
        if (!(norm2 < 1e37)) return ev__fail_row(EV_E_NOT_FINITE, i, "row %lld", (long long)i);
        if (ix->p.metric == EV_METRIC_COSINE && norm2 == 0) return ev__fail_row(EV_E_ZERO, i, "row %lld", (long long)i);
    }
    return EV_OK;
}

float ev__code_bias(const ev_index *ix, const int8_t *code, float scale) {
    if (ix->p.metric == EV_METRIC_IP) return (float)(-dot_mixed(ix->centre, code, ix->dim) * (double)scale);
    return (scale * scale) * (float)ix->kernels->dot_i8(code, code, ix->dim);
}

void ev__encode_i8(const ev_index *ix, const float *vector, int8_t *code, ev__factor *factor) {
    factor->scale = ix->kernels->encode_i8(vector, ix->centre, ix->dim, code);
    factor->bias = ev__code_bias(ix, code, factor->scale);
}

static void encode_bits(const ev_index *ix, const float *vector, uint8_t *code, ev__factor *factor, ev__scratch *s) {
    for (size_t i = 0; i < ix->dim; i++) s->decoded[i] = vector[i] - ix->centre[i];
    double norm2 = ev__norm2(s->decoded, ix->dim);
    ev__rotate(&ix->rotation, s->decoded, s->rotated);
    double magnitude = 0;
    memset(code, 0, ix->bits / 8);
    for (size_t i = 0; i < ix->bits; i++) {
        magnitude += fabs((double)s->rotated[i]);
        code[i >> 3] |= (uint8_t)((s->rotated[i] >= 0) << (i & 7));
    }
    factor->scale = magnitude > 0 ? (float)(norm2 / magnitude) : 0.0f;
    factor->bias = ix->p.metric == EV_METRIC_IP ? (float)-ev__dot_fixed(ix->centre, s->decoded, ix->dim) : (float)norm2;
}

void ev__encode(const ev_index *ix, const float *vector, void *code, ev__factor *factor, ev__scratch *scratch) {
    if (ev__by_bytes(ix))
        ev__encode_i8(ix, vector, code, factor);
    else
        encode_bits(ix, vector, code, factor, scratch);
}

void ev__decode(const ev_index *ix, uint32_t slot, float *out, ev__scratch *s) {
    const char *code = ev__block(ix, slot);
    float scale = ((const ev__factor *)(const void *)ix->store.factors.at)[slot].scale;
    if (ev__by_bytes(ix)) {
        for (size_t i = 0; i < ix->dim; i++) out[i] = ix->centre[i] + scale * (float)(int8_t)code[i];
    } else {
        for (size_t i = 0; i < ix->bits; i++) s->rotated[i] = (code[i >> 3] >> (i & 7) & 1) ? scale : -scale;
        ev__rotate_back(&ix->rotation, s->rotated, out);
        for (size_t i = 0; i < ix->dim; i++) out[i] += ix->centre[i];
    }
    if (ix->p.metric == EV_METRIC_COSINE) {
        double norm2 = ev__norm2(out, ix->dim);
        if (norm2 > 0) ev__normalize(out, norm2, out, ix->dim);
    }
}

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

/* l2, cosine: |q - x|^2 = |q'|^2 + |x'|^2 - 2 q'x', both centred; at unit length that is 2 (1 - cos).
 * ip: q x = q x' + q centre, with the query as it is. */
static void probe_codes(const ev_index *ix, const float *query, ev__probe *probe, ev__scratch *s) {
    bool ip = ix->p.metric == EV_METRIC_IP;
    for (size_t i = 0; i < ix->dim; i++) s->query[i] = ip ? query[i] : query[i] - ix->centre[i];
    double norm2 = ip && !ev__sifts(ix) ? 0 : ev__norm2(s->query, ix->dim);
    float scale;
    *probe = (ev__probe){.data = s->code};
    if (ev__by_bytes(ix)) {
        memset(s->decoded, 0, ix->dim * sizeof(float));
        scale = ix->kernels->encode_i8(s->query, s->decoded, ix->dim, s->code);
    } else {
        ev__rotate(&ix->rotation, s->query, s->rotated);
        scale = ev__encode_planes(s->rotated, ix->bits, s->code, ix->bits / 8, &probe->sum);
    }
    if (ip) {
        probe->scale = scale;
        probe->bias = 0;
        probe->offset = (float)(1.0 - ev__dot_fixed(query, ix->centre, ix->dim));
        probe->gain = 1;
    } else {
        probe->scale = 2 * scale;
        probe->bias = 1;
        probe->gain = ix->p.metric == EV_METRIC_COSINE ? 0.5f : 1.0f;
        probe->offset = probe->gain * (float)norm2;
    }
    if (ev__sifts(ix)) ev__sift_query(ix, s->query, norm2, ip ? 1.0f : 2.0f, probe, s);
}

static void probe_floats(const ev_index *ix, const float *query, ev__probe *probe, ev__scratch *s) {
    bool ip = ix->p.metric == EV_METRIC_IP;
    *probe = (ev__probe){.data = query, .scale = 1, .gain = ix->p.metric == EV_METRIC_COSINE ? 0.5f : 1.0f};
    if (!ev__fine(ix)) return;
    for (size_t i = 0; i < ix->dim; i++) s->query[i] = ip ? query[i] : query[i] - ix->centre[i];
    probe->data = s->query;
}

void ev__probe_query(const ev_index *ix, const float *query, ev__probe *probe, ev__scratch *s) {
    if (ev__walks_codes(ix))
        probe_codes(ix, query, probe, s);
    else
        probe_floats(ix, query, probe, s);
}
