/* What a slot holds of its vector, beside the code that is walked on: nothing, the float vector, or 16 bits a dimension
 * that refine the 8 of the code.
 *
 * A refined coordinate is centre + step * (65536 * code + residual), step = scale / 65536: 24 bits, fixed point, known
 * to within half a step. What is read back is the roundest number there, so that integers, float16 and whatever else
 * was given in fewer bits come back as they were. All in double with one rounding per operation: the same bits on every
 * machine. */
#include "internal.h"

#include <math.h>

static void write_fine(const ev_index *ix, uint32_t slot, const float *vector) {
    int8_t *code = (int8_t *)ev__block(ix, slot);
    float scale = ix->kernels->encode_i8(vector, ix->centre, ix->dim, code);
    ix->kernels->refine_i8(vector, ix->centre, scale, ix->dim, code, ev__residual(ix, slot));
    *ev__factor_of(ix, slot) = (ev__factor){scale, ev__code_bias(ix, code, scale)};
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

static void read_fine(const ev_index *ix, uint32_t slot, float *out) {
    const int8_t *code = (const int8_t *)ev__block(ix, slot);
    const int16_t *residual = ev__residual(ix, slot);
    double step = (double)ev__factor_of(ix, slot)->scale / 65536, reach = step * 0.500001;
    for (size_t i = 0; i < ix->dim; i++) {
        double x = (double)ix->centre[i] + step * (double)(65536 * code[i] + residual[i]);
        out[i] = (float)(step > 0 ? roundest(x, reach) : x);
    }
}

void ev__vector_write(const ev_index *ix, uint32_t slot, const float *vector, ev__scratch *s) {
    float *kept = ev__vector(ix, slot);
    if (kept && kept != vector) memcpy(kept, vector, ix->dim * sizeof *vector);
    if (ix->p.quantization == EV_QUANT_NONE) return;
    if (ev__fine(ix))
        write_fine(ix, slot, vector);
    else
        ev__encode(ix, vector, ev__block(ix, slot), ev__factor_of(ix, slot), s);
    ev__sift_write(ix, slot, s);
}

const float *ev__vector_read(const ev_index *ix, uint32_t slot, float *buffer, ev__scratch *s) {
    const float *kept = ev__vector(ix, slot);
    if (kept) return kept;
    if (ev__fine(ix))
        read_fine(ix, slot, buffer);
    else
        ev__decode(ix, slot, buffer, s);
    return buffer;
}

bool ev__vector_same(const ev_index *ix, uint32_t a, uint32_t b) {
    const ev__array *kept = &ix->store.vectors;
    return !kept->count || memcmp(kept->at + a * kept->item, kept->at + b * kept->item, kept->item) == 0;
}
