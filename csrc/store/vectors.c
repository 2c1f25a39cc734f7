/* What a slot holds of its vector: the code, and beside it nothing, the float vector, or 16 bits a dimension that
 * refine the 8 of the code; and in which spaces its vectors are compared. */
#include "store/store.h"

void ev__vector_write(const ev__store *store, uint32_t slot, const float *vector, ev__workspace *w) {
    float *kept = ev__vector(store, slot);
    if (kept && kept != vector) memcpy(kept, vector, store->quantizer.dim * sizeof *vector);
    if (store->quantizer.quantization == EV_QUANT_NONE) return;
    if (ev__is_sq24(&store->quantizer))
        ev__encode_sq24(&store->quantizer, vector, (void *)ev__block(store, slot), ev__factor_of(store, slot),
                        ev__residual(store, slot));
    else
        ev__encode(&store->quantizer, vector, ev__block(store, slot), ev__factor_of(store, slot), w);
    ev__prefilter_write(store, slot, w);
}

const float *ev__vector_read(const ev__store *store, uint32_t slot, float *buffer, ev__workspace *w) {
    const float *kept = ev__vector(store, slot);
    if (kept) return kept;
    if (ev__is_sq24(&store->quantizer))
        ev__decode_sq24(&store->quantizer, (const void *)ev__block(store, slot), ev__factor_of(store, slot)->scale,
                        ev__residual(store, slot), buffer);
    else
        ev__decode(&store->quantizer, ev__block(store, slot), ev__factor_of(store, slot)->scale, buffer, w);
    return buffer;
}

bool ev__vector_same(const ev__store *store, uint32_t a, uint32_t b) {
    const ev__array *kept = &store->columns.vectors;
    return !kept->count || memcmp(kept->at + a * kept->item, kept->at + b * kept->item, kept->item) == 0;
}

/* ---- signs ----------------------------------------------------------------------------------- */

static char *prefilter_row(const ev__store *store, uint32_t slot) {
    return store->columns.prefilter.at + (size_t)slot * store->quantizer.prefilter_bytes;
}

static void make_row(const ev__store *store, uint32_t slot, char *row, ev__workspace *w) {
    ev__prefilter_row(&store->quantizer, (const void *)ev__block(store, slot), *ev__factor_of(store, slot), row, w);
}

void ev__prefilter_write(const ev__store *store, uint32_t slot, ev__workspace *w) {
    if (ev__prefilters(&store->quantizer)) make_row(store, slot, prefilter_row(store, slot), w);
}

bool ev__prefilter_ok(const ev__store *store, uint32_t slot, ev__workspace *w) {
    if (!ev__prefilters(&store->quantizer)) return true;
    make_row(store, slot, (char *)w->planes, w);
    return memcmp(w->planes, prefilter_row(store, slot), store->quantizer.prefilter_bytes) == 0;
}

/* ---- spaces ---------------------------------------------------------------------------------- */

/* Cosine: at unit length the order is that of l2, which tells near copies apart where 1 - dot is all rounding. */
ev__space ev__float_space(const ev__store *store) {
    const ev__quantizer *q = &store->quantizer;
    const ev__array *blocks = &store->columns.blocks, *kept = &store->columns.vectors;
    ev__space_kind kind = q->metric == EV_METRIC_IP ? EV_SPACE_DOT : EV_SPACE_L2;
    if (ev__is_sq24(q))
        return (ev__space){.kind = EV_SPACE_SQ24,
                           .rows = blocks->at,
                           .stride = store->block_bytes,
                           .bytes = q->code_bytes,
                           .factors = (const void *)store->columns.factors.at,
                           .residuals = (const void *)kept->at};
    if (q->quantization == EV_QUANT_NONE)
        return (ev__space){.kind = kind, .rows = blocks->at, .stride = store->block_bytes, .bytes = q->code_bytes};
    return (ev__space){.kind = kind, .rows = kept->at, .stride = kept->item, .bytes = kept->item};
}

ev__space ev__search_space(const ev__store *store) {
    const ev__quantizer *q = &store->quantizer;
    if (!ev__searches_codes(q)) return ev__float_space(store);
    return (ev__space){.kind = ev__by_bits(q) ? EV_SPACE_BITS : EV_SPACE_I8,
                       .rows = store->columns.blocks.at,
                       .stride = store->block_bytes,
                       .bytes = q->code_bytes,
                       .factors = (const void *)store->columns.factors.at,
                       .prefilter = ev__prefilters(q) ? store->columns.prefilter.at : NULL};
}

ev__space ev__build_space(const ev__store *store, const int8_t *codes, const ev__factor *factors) {
    ev__space space = ev__search_space(store);
    size_t dim = store->quantizer.dim;
    if (space.kind != EV_SPACE_BITS) return space;
    if (!store->quantizer.keep_vectors) {
        space.kind = EV_SPACE_HAMMING;
        return space;
    }
    if (codes)
        return (ev__space){
            .kind = EV_SPACE_I8, .rows = (const char *)codes, .stride = dim, .bytes = dim, .factors = factors};
    return (ev__space){.kind = EV_SPACE_I8_FRESH,
                       .rows = store->columns.vectors.at,
                       .stride = dim * sizeof(float),
                       .bytes = dim * sizeof(float)};
}

ev__space ev__code_space(const ev__store *store) {
    ev__space space = ev__search_space(store);
    if (space.kind == EV_SPACE_BITS) space.kind = EV_SPACE_HAMMING;
    return space;
}
