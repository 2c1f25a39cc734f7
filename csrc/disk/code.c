/* Codes of what a neighbor's vector has more than the node's own. With c the node's vector and x the neighbor's, both
 * from the center, and q the query's: |q - x|^2 = |q - c|^2 + |x - c|^2 + 2 c (x - c) - 2 q (x - c), where the first is
 * known when the node was read, the next two make the bias, and the code estimates x - c in all products. Near the node
 * the code of q is too coarse for that: |q - x|^2 = |q - c|^2 + |x - c|^2 - 2 (q - c) (x - c), with q - c coded anew.
 * Under ip q x = q c + q (x - c). */
#include "disk/disk.h"

#include <math.h>

/* Into w->rotated. Signs: what is compared are these numbers, not those that were given. */
static void turn(const ev__quantizer *q, const float *vector, ev__workspace *w) { ev__rotate_light(q, vector, w); }

/* Eight sums side by side, always joined alike: the same bits from every compiler. */
static double join(const double sum[8]) {
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

static void encode_signs(const ev__quantizer *q, const float *around, uint8_t *code, ev__factor *factor, float *length,
                         ev__workspace *w) {
    double magnitude[8] = {0}, along[8] = {0}, norm2 = ev__norm2(w->decoded, q->dim);
    turn(q, w->decoded, w);
    for (size_t i = 0; i < q->bits; i += 8) {
        uint32_t signs[8], byte = 0;
        memcpy(signs, w->rotated + i, sizeof signs);
        for (size_t j = 0; j < 8; j++) byte |= (~signs[j] >> 31) << j;
        code[i / 8] = (uint8_t)byte;
        for (size_t j = 0; j < 8; j++) magnitude[j] += fabs((double)w->rotated[i + j]);
        for (size_t j = 0; around && j < 8; j++) {
            uint32_t turned;
            float number;
            memcpy(&turned, around + i + j, sizeof turned);
            turned ^= signs[j] & 0x80000000u;
            memcpy(&number, &turned, sizeof number);
            along[j] += (double)number;
        }
    }
    double size = join(magnitude), scale = size > 0 ? norm2 / size : 0;
    *length = (float)norm2;
    *factor = (ev__factor){(float)scale, q->metric->product ? 0.0f : (float)(norm2 + 2 * scale * join(along))};
}

static void encode_bytes(const ev__quantizer *q, const float *around, int8_t *code, ev__factor *factor, float *length,
                         ev__workspace *w) {
    memset(w->centered, 0, q->dim * sizeof *w->centered);
    float scale = q->kernels.encode_i8(w->decoded, w->centered, q->dim, code);
    double norm2 = (double)scale * scale * (double)ev__dot_i8(&q->kernels, code, code, q->dim);
    double along = around ? (double)scale * ev__dot_mixed(around, code, q->dim) : 0;
    *length = (float)norm2;
    *factor = (ev__factor){scale, q->metric->product ? 0.0f : (float)(norm2 + 2 * along)};
}

void ev__disk_encode(const ev__quantizer *q, const float *around, char *code, ev__factor *factor, float *length,
                     ev__workspace *w) {
    if (q->codec->coarse)
        encode_signs(q, around, (uint8_t *)code, factor, length, w);
    else
        encode_bytes(q, around, (int8_t *)code, factor, length, w);
}

const float *ev__disk_around(const ev__quantizer *q, const float *vector, float *around, ev__workspace *w) {
    if (q->metric->product) return NULL;
    for (size_t i = 0; i < q->dim; i++) w->centered[i] = vector[i] - q->center[i];
    if (q->codec->coarse) turn(q, w->centered, w);
    memcpy(around, q->codec->coarse ? w->rotated : w->centered, (q->codec->coarse ? q->bits : q->dim) * sizeof *around);
    return around;
}

void ev__disk_query(const ev__quantizer *q, const float *vector, const float *center, ev__query *query,
                    ev__workspace *w) {
    bool ip = q->metric->product;
    float scale;
    for (size_t i = 0; i < q->dim; i++) w->centered[i] = ip ? vector[i] : vector[i] - center[i];
    double norm2 = ev__norm2(w->centered, q->dim);
    *query = (ev__query){.data = w->code, .bias = 1, .gain = q->metric->gain};
    if (q->codec->coarse) {
        turn(q, w->centered, w);
        scale = ev__encode_planes(w->rotated, q->bits, w->code, q->bits / 8, &query->sum);
    } else {
        scale = q->codec->encode_query(q, query, w);
    }
    query->scale = ip ? scale : 2 * scale;
    query->offset = ip ? (float)(1.0 - ev__dot_fixed(vector, center, q->dim)) : query->gain * (float)norm2;
}
