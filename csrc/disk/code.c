/* Codes of what a neighbor's vector has more than the node's own. With c the node's vector and x the neighbor's, both
 * from the center, and q the query's: |q - x|^2 = |q - c|^2 + |x - c|^2 + 2 c (x - c) - 2 q (x - c), where the first is
 * known when the node was read, the next two make the bias, and the code estimates x - c in all products. Under ip
 * q x = q c + q (x - c). */
#include "disk/disk.h"

#include <math.h>

const float *ev__disk_around(const ev__quantizer *q, const float *vector, float *around, ev__workspace *w) {
    if (q->metric->product) return NULL;
    for (size_t i = 0; i < q->dim; i++) w->centered[i] = vector[i] - q->center[i];
    if (q->rotation.bits)
        ev__rotate(&q->rotation, w->centered, around);
    else
        memcpy(around, w->centered, q->dim * sizeof *around);
    return around;
}

static void encode_signs(const ev__quantizer *q, const float *around, uint8_t *code, ev__factor *factor,
                         ev__workspace *w) {
    double norm2 = ev__norm2(w->decoded, q->dim), magnitude = 0, along = 0;
    ev__rotate(&q->rotation, w->decoded, w->rotated);
    memset(code, 0, q->code_bytes);
    for (size_t i = 0; i < q->bits; i++) {
        bool positive = w->rotated[i] >= 0;
        magnitude += fabs((double)w->rotated[i]);
        if (around) along += positive ? (double)around[i] : -(double)around[i];
        code[i >> 3] |= (uint8_t)(positive << (i & 7));
    }
    double scale = magnitude > 0 ? norm2 / magnitude : 0;
    *factor = (ev__factor){(float)scale, q->metric->product ? 0.0f : (float)(norm2 + 2 * scale * along)};
}

static void encode_bytes(const ev__quantizer *q, const float *around, int8_t *code, ev__factor *factor,
                         ev__workspace *w) {
    memset(w->centered, 0, q->dim * sizeof *w->centered);
    float scale = q->kernels.encode_i8(w->decoded, w->centered, q->dim, code);
    double norm2 = (double)scale * scale * (double)ev__dot_i8(&q->kernels, code, code, q->dim);
    double along = around ? (double)scale * ev__dot_mixed(around, code, q->dim) : 0;
    *factor = (ev__factor){scale, q->metric->product ? 0.0f : (float)(norm2 + 2 * along)};
}

void ev__disk_encode(const ev__quantizer *q, const float *around, char *code, ev__factor *factor, ev__workspace *w) {
    if (q->rotation.bits)
        encode_signs(q, around, (uint8_t *)code, factor, w);
    else
        encode_bytes(q, around, (int8_t *)code, factor, w);
}
