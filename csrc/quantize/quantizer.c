/* Vectors to codes and back.
 *
 * sq8: centered on the mean of the data, then one scale a vector (as in LVQ), integers in [-127, 127]. Data that come
 * later and lie further out just get a larger scale; the center is learned anew when it no longer fits (train.c).
 * binary: centered, randomly rotated, one sign a coordinate, with the factor that makes the estimated dot product
 * unbiased (RaBitQ).
 *
 * Nothing here depends on the instruction set: sums run in double in a fixed order, the rest is one rounding per
 * operation, and the compiler is told not to fuse. So codes, and the graphs built on them, are the same bytes
 * everywhere. */
#include "quantize/quantize.h"

#include <math.h>

/* ---- layout ---------------------------------------------------------------------------------- */

/* A sign code of few bits is too coarse to walk on, so shorter vectors get 256 of them, and 0, that is 8-bit codes,
 * where those are no larger. */
static size_t code_bits(const ev__quantizer *q) {
    size_t bits = ev__round_up(q->dim, 64);
    if (q->quantization != EV_QUANT_BINARY || q->dim <= 32) return 0;
    return bits < 256 ? 256 : bits;
}

/* How this kind of index keeps vectors when asked to as its parameters say. */
static int32_t vectors_kept(const ev__quantizer *q) {
    bool nothing_to_refine = ev__is_sq24(q) && !ev__by_bytes(q);
    return q->quantization == EV_QUANT_NONE || nothing_to_refine ? EV_VECTORS_FLOAT32 : q->keep_vectors;
}

void ev__quantizer_lay_out(ev__quantizer *q) {
    q->bits = code_bits(q);
    if (q->quantization == EV_QUANT_SQ8 && (q->bits = ev__prefilter_bits(q->dim)) != 0)
        q->prefilter_bytes = ev__prefilter_bytes(q->bits);
    q->code_bytes = ev__by_bits(q) ? q->bits / 8 : ev__by_bytes(q) ? q->dim : q->dim * sizeof(float);
    q->keep_vectors = vectors_kept(q);
}

int ev__quantizer_init(ev__quantizer *q, uint64_t seed) {
    if (q->quantization != EV_QUANT_NONE && !(q->center = ev__alloc_zero(q->dim * sizeof(float), EV_LINE)))
        return EV_E_NOMEM;
    if (ev__prefilters(q)) {
        q->prefilter_signs = ev__alloc(2 * q->bits * sizeof *q->prefilter_signs, EV_LINE);
        if (!q->prefilter_signs) return EV_E_NOMEM;
        ev__prefilter_signs_init(q->prefilter_signs, 2 * q->bits, seed);
    }
    return ev__by_bits(q) ? ev__rotation_init(&q->rotation, q->dim, q->bits, seed) : EV_OK;
}

void ev__quantizer_free(ev__quantizer *q) {
    ev__rotation_free(&q->rotation);
    ev__release(q->center, q->dim * sizeof(float), EV_LINE);
    ev__release(q->prefilter_signs, 2 * q->bits * sizeof *q->prefilter_signs, EV_LINE);
}

size_t ev__quantizer_bytes(const ev__quantizer *q) {
    return ev__rotation_bytes(&q->rotation) + (q->prefilter_signs ? 2 * q->bits * sizeof *q->prefilter_signs : 0) +
           (q->center ? q->dim * sizeof(float) : 0);
}

/* ---- codes ----------------------------------------------------------------------------------- */

float ev__code_bias(const ev__quantizer *q, const int8_t *code, float scale) {
    if (q->metric == EV_METRIC_IP) return (float)(-ev__dot_mixed(q->center, code, q->dim) * (double)scale);
    return (scale * scale) * (float)q->kernels->dot_i8(code, code, q->dim);
}

void ev__encode_i8(const ev__quantizer *q, const float *vector, int8_t *code, ev__factor *factor) {
    factor->scale = q->kernels->encode_i8(vector, q->center, q->dim, code);
    factor->bias = ev__code_bias(q, code, factor->scale);
}

static void encode_bits(const ev__quantizer *q, const float *vector, uint8_t *code, ev__factor *factor,
                        ev__workspace *w) {
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
    factor->bias = q->metric == EV_METRIC_IP ? (float)-ev__dot_fixed(q->center, w->decoded, q->dim) : (float)norm2;
}

void ev__encode(const ev__quantizer *q, const float *vector, void *code, ev__factor *factor, ev__workspace *w) {
    if (ev__by_bytes(q))
        ev__encode_i8(q, vector, code, factor);
    else
        encode_bits(q, vector, code, factor, w);
}

void ev__decode(const ev__quantizer *q, const void *from, float scale, float *out, ev__workspace *w) {
    const char *code = from;
    if (ev__by_bytes(q)) {
        for (size_t i = 0; i < q->dim; i++) out[i] = q->center[i] + scale * (float)(int8_t)code[i];
    } else {
        for (size_t i = 0; i < q->bits; i++) w->rotated[i] = (code[i >> 3] >> (i & 7) & 1) ? scale : -scale;
        ev__rotate_back(&q->rotation, w->rotated, out);
        for (size_t i = 0; i < q->dim; i++) out[i] += q->center[i];
    }
    if (q->metric == EV_METRIC_COSINE) {
        double norm2 = ev__norm2(out, q->dim);
        if (norm2 > 0) ev__normalize(out, norm2, out, q->dim);
    }
}

/* ---- 24 bits ---------------------------------------------------------------------------------- */

/* A coordinate is center + step * (65536 * code + residual), step = scale / 65536: 24 bits, fixed point, known to
 * within half a step. What is read back is the roundest number there, so that integers, float16 and whatever else was
 * given in fewer bits come back as they were. All in double with one rounding per operation: the same bits on every
 * machine. */

void ev__encode_sq24(const ev__quantizer *q, const float *vector, int8_t *code, ev__factor *factor, int16_t *residual) {
    float scale = q->kernels->encode_i8(vector, q->center, q->dim, code);
    q->kernels->residual_i8(vector, q->center, scale, q->dim, code, residual);
    *factor = (ev__factor){scale, ev__code_bias(q, code, scale)};
}

static uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Of the numbers within `reach` of x the one with the fewest binary digits. */
static double roundest(double x, double reach) {
    double size = fabs(x);
    if (size <= reach) return 0;
    uint64_t high = bits_of(size + reach), apart = high ^ bits_of(size - reach);
    for (int shift = 1; shift < 64; shift *= 2) apart |= apart >> shift; /* all below the first digit that differs */
    high &= ~(apart >> 1);
    memcpy(&size, &high, sizeof size);
    return x < 0 ? -size : size;
}

void ev__decode_sq24(const ev__quantizer *q, const int8_t *code, float scale, const int16_t *residual, float *out) {
    double step = (double)scale / 65536, reach = step * 0.500001;
    for (size_t i = 0; i < q->dim; i++) {
        double x = (double)q->center[i] + step * (double)(65536 * code[i] + residual[i]);
        out[i] = (float)(step > 0 ? roundest(x, reach) : x);
    }
}
