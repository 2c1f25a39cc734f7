/* Which codec an index has, and what all of them share.
 *
 * Nothing in the codecs depends on the instruction set: sums run in double in a fixed order, the rest is one rounding
 * per operation, and the compiler is told not to fuse. So codes, and the graphs built on them, are the same bytes
 * everywhere. */
#include "quantize/quantize.h"

/* Up to so many dimensions binary vectors have 8-bit codes: smaller than a sign code that could tell them apart. */
enum { SHORT_DIM = 32 };

/* ---- no quantization -------------------------------------------------------------------------- */

static void lay_out_floats(ev__quantizer *q) {
    q->code_bytes = q->dim * sizeof(float);
    q->query_bytes = q->slot_query_bytes = q->dim;
}

static const char *flaw_of_floats(const ev__quantizer *q, const void *row) {
    return ev__all_finite(row, q->dim) ? NULL : "not a finite number";
}

static const ev__codec floats = {
    .rows = &ev__f32_rows, .among = &ev__f32_rows, .lay_out = lay_out_floats, .flaw = flaw_of_floats};

/* ---- the room that it takes ------------------------------------------------------------------- */

void ev__workspace_lay_out(const ev__quantizer *q, ev__arena *arena, ev__workspace *w) {
    size_t bits = q->bits ? q->bits : 1;
    w->unit = ev__arena_take(arena, q->dim * sizeof(float));
    w->centered = ev__arena_take(arena, q->dim * sizeof(float));
    w->decoded = ev__arena_take(arena, q->dim * sizeof(float));
    w->exact = ev__arena_take(arena, q->dim * sizeof *w->exact);
    w->rotation_buffer = ev__arena_take(arena, bits * sizeof(float));
    w->rotated = ev__arena_take(arena, bits * sizeof(float));
    w->code = ev__arena_take(arena, q->query_bytes);
    w->planes = ev__arena_take(arena, EV_PLANES * q->prefilter_bytes);
    w->made = ev__arena_take(arena, q->dim);
    w->rows = ev__arena_take(arena, EV_BATCH * sizeof *w->rows);
    w->integers = ev__arena_take(arena, EV_BATCH * sizeof *w->integers);
}

/* ---- the others, each in its own file -------------------------------------------------------- */

extern const ev__codec ev__codec_sq8, ev__codec_sq24, ev__codec_binary;

/* ---- the choice ------------------------------------------------------------------------------ */

static const ev__codec *codec_of(const ev__quantizer *q) {
    const ev__codec *sq = q->keep_vectors == EV_VECTORS_SQ24 ? &ev__codec_sq24 : &ev__codec_sq8;
    switch (q->quantization) {
    case EV_QUANT_NONE: return &floats;
    case EV_QUANT_SQ8: return sq;
    case EV_QUANT_BINARY: return q->dim > SHORT_DIM ? &ev__codec_binary : sq;
    default: return NULL;
    }
}

bool ev__is_quantization(int32_t quantization) { return codec_of(&(ev__quantizer){.quantization = quantization}); }

void ev__quantizer_lay_out(ev__quantizer *q) {
    q->codec = codec_of(q);
    bool nothing_to_refine = q->keep_vectors == EV_VECTORS_SQ24 && !q->codec->refined;
    if (q->codec == &floats || nothing_to_refine) q->keep_vectors = EV_VECTORS_FLOAT32;
    q->codec->lay_out(q);
}

int ev__quantizer_init(ev__quantizer *q, uint64_t seed) {
    if (!q->codec->init) return EV_OK;
    if (!(q->center = ev__alloc_zero(q->dim * sizeof(float), EV_LINE))) return EV_E_NOMEM;
    return q->codec->init(q, seed);
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
