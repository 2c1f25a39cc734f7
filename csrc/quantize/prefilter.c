/* Prefiltering: before 8-bit codes are fetched, sign codes tell which neighbors can be near enough to matter.
 *
 * A walk is bound by the cache lines it touches. Beside each 8-bit code of four lines or more lies a row of one or two:
 * the signs of the code's coordinates after a random rotation (Gao and Long's RaBitQ), and what turns a product with
 * them into an estimated distance and the error to expect. A walk compares the query with the signs of all neighbors
 * and fetches the codes of those alone which would enter the candidates if they were a part of that error nearer than
 * estimated.
 *
 * A row is made from the 8-bit code, so files need not hold it; and sums are of integers or run in a fixed order, so
 * every machine keeps the same neighbors. */
#include "quantize/quantize.h"

#include <math.h>

enum { LEAST_LINES = 4 };
/* Behind the signs of a row. distance: bias - 2 code_scale * integer product, in the terms of ev__factor; estimate
 * of a product: scale * (query . signs), off by `error` times the query's length in one case out of three. */
typedef struct {
    float scale, bias, error, code_scale;
} tail;

/* ---- geometry -------------------------------------------------------------------------------- */

size_t ev__prefilter_bits(size_t dim) { return dim > (LEAST_LINES - 1) * EV_LINE ? ev__round_up(dim, 64) : 0; }
size_t ev__prefilter_bytes(size_t bits) { return ev__round_up(bits / 8 + sizeof(tail), EV_LINE); }

size_t ev__prefilter_compared(const ev__quantizer *q) { return ev__round_up(q->bits / 8, q->kernels.bytes_at_once); }

static const tail *header_of(const ev__quantizer *q, const ev__space *space, uint32_t slot) {
    return (const tail *)(const void *)(space->prefilter + (size_t)slot * q->prefilter_bytes + q->bits / 8);
}

/* ---- rows ------------------------------------------------------------------------------------ */

void ev__prefilter_row(const ev__quantizer *q, const int8_t *code, ev__factor factor, char *row, ev__workspace *w) {
    double norm2 = ev__rotate_code(q, code, w), magnitude = 0, bits = (double)q->bits;
    memset(row, 0, q->prefilter_bytes);
    for (size_t i = 0; i < q->bits; i++) {
        magnitude += fabs((double)w->rotated[i]);
        row[i >> 3] |= (char)((w->rotated[i] >= 0) << (i & 7));
    }
    tail t = {.bias = factor.bias, .code_scale = factor.scale};
    if (magnitude > 0) {
        double straight = magnitude * magnitude / (bits * norm2); /* squared cosine between code and signs */
        double astray = straight < 1 ? (1 - straight) / (straight * (bits - 1)) : 0;
        t.scale = (float)((double)factor.scale * (norm2 / magnitude));
        t.error = (float)((double)factor.scale * sqrt(norm2 * astray));
    }
    memcpy(row + q->bits / 8, &t, sizeof t);
}

/* ---- prefiltering --------------------------------------------------------------------------------- */

void ev__prefilter_bounds(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                          size_t n, float *least, ev__workspace *w) {
    const ev__query_bits *bits = &query->bits;
    for (size_t i = 0; i < n; i++) w->rows[i] = space->prefilter + (size_t)slots[i] * q->prefilter_bytes;
    q->kernels.rows[EV_BITS][EV_DOT](bits->planes, &(ev__rows){.at = w->rows}, n, ev__prefilter_compared(q),
                                     w->integers);
    for (size_t i = 0; i < n; i++) {
        const tail *t = header_of(q, space, slots[i]);
        float product = (float)(2 * w->integers[i] - bits->sum);
        least[i] = query->bias * t->bias - (bits->scale * t->scale) * product - bits->error * t->error;
    }
}

void ev__prefiltered_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                               const uint32_t *slots, size_t n, float *distances, ev__workspace *w) {
    for (size_t i = 0; i < n; i++) w->rows[i] = ev__row_of(space, slots[i]);
    q->kernels.rows[EV_I8][EV_DOT](query->data, &(ev__rows){.at = w->rows}, n, q->dim, w->integers);
    for (size_t i = 0; i < n; i++) {
        const tail *t = header_of(q, space, slots[i]);
        distances[i] = ev__code_distance(query, (ev__factor){t->code_scale, t->bias}, (float)w->integers[i]);
    }
}
