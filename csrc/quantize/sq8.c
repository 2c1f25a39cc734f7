/* 8-bit codes, and what refines them to 24.
 *
 * Centered on the mean of the data, then one scale a vector (as in LVQ), integers in [-127, 127]. Data that come later
 * and lie further out just get a larger scale; the center is learned anew when it no longer fits (train.c). */
#include "quantize/quantize.h"

#include <math.h>

static void lay_out(ev__quantizer *q) {
    q->bits = ev__prefilter_bits(q->dim);
    q->prefilter_bytes = q->bits ? ev__prefilter_bytes(q->bits) : 0;
    q->code_bytes = q->query_bytes = q->dim;
    q->slot_query_bytes = q->dim * (q->codec->refined ? sizeof(float) : 1);
    q->span = 128 * sqrt((double)q->dim);
}

static int init(ev__quantizer *q, uint64_t seed) {
    if (!ev__prefilters(q)) return EV_OK;
    q->prefilter_signs = ev__alloc(2 * q->bits * sizeof *q->prefilter_signs, EV_LINE);
    if (!q->prefilter_signs) return EV_E_NOMEM;
    ev__prefilter_signs_init(q->prefilter_signs, 2 * q->bits, seed);
    return EV_OK;
}

/* ---- 8 bits ---------------------------------------------------------------------------------- */

float ev__code_bias(const ev__quantizer *q, const int8_t *code, float scale) {
    if (q->metric->product) return (float)(-ev__dot_mixed(q->center, code, q->dim) * (double)scale);
    return (scale * scale) * (float)ev__dot_i8(&q->kernels, code, code, q->dim);
}

static void encode(const ev__quantizer *q, const float *vector, void *code, ev__factor *factor, int16_t *residual,
                   ev__workspace *w) {
    (void)w;
    float scale = q->kernels.encode_i8(vector, q->center, q->dim, code);
    if (residual) q->kernels.residual_i8(vector, q->center, scale, q->dim, code, residual);
    *factor = (ev__factor){scale, ev__code_bias(q, code, scale)};
}

void ev__encode_i8(const ev__quantizer *q, const float *vector, int8_t *code, ev__factor *factor) {
    encode(q, vector, code, factor, NULL, NULL);
}

static void decode(const ev__quantizer *q, const void *from, float scale, const int16_t *residual, float *out,
                   ev__workspace *w) {
    const int8_t *code = from;
    (void)residual, (void)w;
    for (size_t i = 0; i < q->dim; i++) out[i] = q->center[i] + scale * (float)code[i];
    ev__normalize_decoded(q, out);
}

static float encode_query(const ev__quantizer *q, ev__query *query, ev__workspace *w) {
    (void)query;
    memset(w->decoded, 0, q->dim * sizeof(float));
    return q->kernels.encode_i8(w->centered, w->decoded, q->dim, w->code);
}

/* A coordinate is off by little more than half a scale. */
static double length(const ev__quantizer *q, const void *code) {
    return sqrt((double)ev__dot_i8(&q->kernels, code, code, q->dim)) + 0.51 * sqrt((double)q->dim);
}

/* -128 is what integer kernels do not expect. */
static const char *flaw(const ev__quantizer *q, const void *row) {
    return memchr(row, 0x80, q->dim) ? "not a code" : NULL;
}

/* Both walk on the same codes; they differ in what is kept beside these. */
#define ON_8_BITS                                                                                    \
    .rows = &ev__i8_rows, .among = &ev__i8_rows, .lay_out = lay_out, .init = init, .encode = encode, \
    .encode_query = encode_query, .length = length, .flaw = flaw

const ev__codec ev__codec_sq8 = {ON_8_BITS, .decode = decode};

/* ---- 24 bits ---------------------------------------------------------------------------------- */

/* A coordinate is center + step * (65536 * code + residual), step = scale / 65536: 24 bits, fixed point, known to
 * within half a step. What is read back is the roundest number there, so that integers, float16 and whatever else was
 * given in fewer bits come back as they were. All in double with one rounding per operation: the same bits on every
 * machine. */

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

static void decode_sq24(const ev__quantizer *q, const void *from, float scale, const int16_t *residual, float *out,
                        ev__workspace *w) {
    const int8_t *code = from;
    (void)w;
    double step = (double)scale / 65536, reach = step * 0.500001;
    for (size_t i = 0; i < q->dim; i++) {
        double x = (double)q->center[i] + step * (double)(65536 * code[i] + residual[i]);
        out[i] = (float)(step > 0 ? roundest(x, reach) : x);
    }
}

const ev__codec ev__codec_sq24 = {ON_8_BITS, .decode = decode_sq24, .refined = true};
