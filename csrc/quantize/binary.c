/* 1-bit codes: centered, randomly rotated, one sign a coordinate, with the factor that makes the estimated dot product
 * unbiased (Gao and Long's RaBitQ). */
#include "quantize/quantize.h"

#include <math.h>

enum { BITS_MIN = 256 }; /* a code of fewer is too coarse to walk on, so shorter vectors are padded to so many */

static void lay_out(ev__quantizer *q) {
    size_t bits = ev__round_up(q->dim, 64);
    q->bits = bits < BITS_MIN ? BITS_MIN : bits;
    q->code_bytes = q->bits / 8;
    q->query_bytes = EV_PLANES * q->code_bytes;
    q->slot_query_bytes = q->dim;
    q->span = 1.001 * sqrt((double)q->bits);
}

static int init(ev__quantizer *q, uint64_t seed) { return ev__rotation_init(&q->rotation, q->dim, q->bits, seed); }

static void encode(const ev__quantizer *q, const float *vector, void *into, ev__factor *factor, int16_t *residual,
                   ev__workspace *w) {
    uint8_t *code = into;
    (void)residual;
    for (size_t i = 0; i < q->dim; i++) w->decoded[i] = vector[i] - q->center[i];
    double norm2 = ev__norm2(w->decoded, q->dim);
    ev__rotate(&q->rotation, w->decoded, w->rotated);
    double magnitude = 0;
    memset(code, 0, q->bits / 8);
    for (size_t i = 0; i < q->bits; i++) {
        magnitude += fabs((double)w->rotated[i]);
        code[i >> 3] |= (uint8_t)((w->rotated[i] >= 0) << (i & 7));
    }
    factor->scale = magnitude > 0 ? (float)(norm2 / magnitude) : 0.0f;
    factor->bias = q->metric->product ? (float)-ev__dot_fixed(q->center, w->decoded, q->dim) : (float)norm2;
}

static void decode(const ev__quantizer *q, const void *from, float scale, const int16_t *residual, float *out,
                   ev__workspace *w) {
    const uint8_t *code = from;
    (void)residual;
    for (size_t i = 0; i < q->bits; i++) w->rotated[i] = (code[i >> 3] >> (i & 7) & 1) ? scale : -scale;
    ev__rotate_back(&q->rotation, w->rotated, out);
    for (size_t i = 0; i < q->dim; i++) out[i] += q->center[i];
    ev__normalize_decoded(q, out);
}

static float encode_query(const ev__quantizer *q, ev__query *query, ev__workspace *w) {
    ev__rotate(&q->rotation, w->centered, w->rotated);
    return ev__encode_planes(w->rotated, q->bits, w->code, q->bits / 8, &query->sum);
}

const ev__codec ev__codec_binary = {
    .rows = &ev__bits_rows,
    .among = &ev__bits_among,
    .coarse = true,
    .lay_out = lay_out,
    .init = init,
    .encode = encode,
    .decode = decode,
    .encode_query = encode_query,
};
