/* Lengths and products of vectors, summed in double in a fixed order: the same bits on every machine. */
#include "base/thread.h"
#include "quantize/quantize.h"

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

double ev__dot_mixed(const float *a, const int8_t *b, size_t dim) { DOT_FIXED(a, b, dim); }

double ev__norm2(const float *v, size_t dim) { return ev__dot_fixed(v, v, dim); }

double ev__l2_fixed(const double *a, const float *b, size_t dim) {
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

void ev__normalize_decoded(const ev__quantizer *q, float *vector) {
    if (!q->metric->unit) return;
    double norm2 = ev__norm2(vector, q->dim);
    if (norm2 > 0) ev__normalize(vector, norm2, vector, q->dim);
}

const float *ev__unit(const ev__quantizer *q, const float *row, float *buffer) {
    if (!q->metric->unit) return row;
    ev__normalize(row, ev__norm2(row, q->dim), buffer, q->dim);
    return buffer;
}

bool ev__all_finite(const void *floats, size_t n) {
    const uint32_t exponent = 0x7F800000u;
    const char *at = floats;
    bool finite = true;
    for (size_t i = 0; i < n; i++) { /* no early way out, so that it runs many at a time */
        uint32_t bits;
        memcpy(&bits, at + i * sizeof bits, sizeof bits);
        finite &= (bits & exponent) != exponent;
    }
    return finite;
}

int ev__check_rows(const ev__quantizer *q, int64_t n, const float *rows) {
    for (int64_t i = 0; i < n; i++) {
        double norm2 = ev__norm2(rows + (size_t)i * q->dim, q->dim);
        if (!(norm2 < 1e37)) return ev__fail_row(EV_E_NOT_FINITE, i, "row %lld", (long long)i);
        if (ev__is_to_stop_at((size_t)i)) return ev__stopped();
        if (q->metric->unit && norm2 == 0) return ev__fail_row(EV_E_ZERO, i, "row %lld", (long long)i);
    }
    return EV_OK;
}
