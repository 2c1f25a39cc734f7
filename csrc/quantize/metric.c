/* What sets the metrics apart. Lower is closer, in all of them.
 *
 * Cosine: at unit length the order is that of l2, which tells near copies apart where 1 - dot is all rounding; so
 * vectors are held at unit length, and 1 - cos is half the squared distance. */
#include "quantize/quantize.h"

#include <math.h>

static double product(const ev__workspace *w, const float *row, size_t dim) {
    return -ev__dot_fixed(w->held, row, dim);
}

static double squared(const ev__workspace *w, const float *row, size_t dim) { return ev__l2_fixed(w->exact, row, dim); }

/* A row is of unit length only to within float32: |q - x|^2 = (1 - |x|)^2 + 2 |x| (1 - cos). */
static double one_minus_cos(const ev__workspace *w, const float *row, size_t dim) {
    double length = sqrt(ev__norm2(row, dim));
    return (squared(w, row, dim) - (1 - length) * (1 - length)) / (2 * length);
}

static const ev__metric metrics[] = {
    [EV_METRIC_COSINE] = {.measure = EV_L2, .unit = true, .gain = 0.5f, .distance = one_minus_cos},
    [EV_METRIC_IP] = {.measure = EV_DOT, .product = true, .gain = 1, .distance = product},
    [EV_METRIC_L2] = {.measure = EV_L2, .gain = 1, .distance = squared},
};

void ev__query_in_double(const ev__quantizer *q, const float *given, const float *held, ev__workspace *w) {
    double norm2 = ev__norm2(given, q->dim);
    double inverse = q->metric->unit ? 1.0 / sqrt(norm2) : 1.0;
    for (size_t i = 0; i < q->dim; i++) w->exact[i] = (double)given[i] * inverse;
    w->length = sqrt(norm2) * inverse;
    w->held = held;
}

const ev__metric *ev__metric_of(int32_t metric) {
    bool known = metric >= 0 && metric < (int32_t)(sizeof metrics / sizeof *metrics);
    return known ? &metrics[metric] : NULL;
}
