/* What a slot holds of its vector: the code, and beside it nothing, the float vector, or 16 bits a dimension that
 * refine the 8 of the code; and in which spaces its vectors are compared. */
#include "store/paged.h"

void ev__vector_write(const ev__store *store, uint32_t slot, const float *vector, ev__workspace *w) {
    float *kept = ev__vector(store, slot);
    if (kept) memcpy(kept, vector, store->quantizer.dim * sizeof *vector);
    if (store->paged && !store->quantizer.codec->refined) ev__paged_write(store, slot, vector);
    ev__vector_encode(store, slot, vector, w);
}

void ev__vector_encode(const ev__store *store, uint32_t slot, const float *vector, ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    bool appends = store->paged && q->codec->refined;
    int16_t *residual = appends ? w->residual : ev__residual(store, slot);
    if (!q->codec->encode) return;
    q->codec->encode(q, vector, ev__block(store, slot), ev__factor_of(store, slot), residual, w);
    if (appends) ev__paged_write(store, slot, residual);
    ev__prefilter_write(store, slot, w);
}

const float *ev__vector_read(const ev__store *store, uint32_t slot, float *buffer, ev__workspace *w) {
    const ev__quantizer *q = &store->quantizer;
    const float *kept = ev__vector(store, slot);
    if (kept) return kept;
    if (store->paged && !q->codec->refined) return ev__paged_row(store, slot, w);
    const int16_t *residual = store->paged ? ev__paged_row(store, slot, w) : ev__residual(store, slot);
    q->codec->decode(q, ev__block(store, slot), ev__factor_of(store, slot)->scale, residual, buffer, w);
    return buffer;
}

static bool is_same_row(const ev__store *store, uint32_t a, uint32_t b) {
    char one[EV_PAGED_PIECE], other[EV_PAGED_PIECE];
    int64_t faults = ev__paged_faults(store);
    for (size_t at = 0, n; (n = ev__paged_piece(store, a, at, one)); at += n) {
        ev__paged_piece(store, b, at, other);
        if (memcmp(one, other, n) != 0) return false;
    }
    return ev__paged_faults(store) == faults;
}

bool ev__vector_same(const ev__store *store, uint32_t a, uint32_t b) {
    const ev__array *kept = &store->columns.vectors;
    if (store->paged && a != b) return is_same_row(store, a, b);
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
    const ev__quantizer *q = &store->quantizer;
    if (!ev__prefilters(q)) return true;
    make_row(store, slot, (char *)w->planes, w);
    return memcmp(w->planes, prefilter_row(store, slot), q->prefilter_bytes) == 0;
}

/* ---- spaces ---------------------------------------------------------------------------------- */

/* Cosine: at unit length the order is that of l2, which tells near copies apart where 1 - dot is all rounding. */
ev__space ev__float_space(const ev__store *store) {
    const ev__quantizer *q = &store->quantizer;
    const ev__array *blocks = &store->columns.blocks, *kept = &store->columns.vectors;
    if (store->paged) return ev__paged_space(store, false);
    if (q->codec->refined)
        return (ev__space){.kind = &ev__sq24_rows,
                           .rows = blocks->at,
                           .stride = store->block_bytes,
                           .bytes = q->code_bytes,
                           .factors = (const void *)store->columns.factors.at,
                           .residuals = (const void *)kept->at};
    if (q->quantization == EV_QUANT_NONE)
        return (ev__space){
            .kind = &ev__f32_rows, .rows = blocks->at, .stride = store->block_bytes, .bytes = q->code_bytes};
    return (ev__space){.kind = &ev__f32_rows, .rows = kept->at, .stride = kept->item, .bytes = kept->item};
}

ev__space ev__search_space(const ev__store *store) {
    const ev__quantizer *q = &store->quantizer;
    if (!ev__searches_codes(q)) return ev__float_space(store);
    return (ev__space){.kind = q->codec->rows,
                       .rows = store->columns.blocks.at,
                       .stride = store->block_bytes,
                       .bytes = q->code_bytes,
                       .factors = (const void *)store->columns.factors.at,
                       .prefilter = ev__prefilters(q) ? store->columns.prefilter.at : NULL};
}

ev__space ev__build_space(const ev__store *store, const int8_t *codes, const ev__factor *factors) {
    const ev__quantizer *q = &store->quantizer;
    size_t dim = q->dim;
    if (!q->codec->coarse || !q->keep_vectors || !ev__searches_codes(q)) return ev__code_space(store);
    if (codes)
        return (ev__space){
            .kind = &ev__i8_rows, .rows = (const char *)codes, .stride = dim, .bytes = dim, .factors = factors};
    if (store->paged) return ev__paged_space(store, true);
    return (ev__space){.kind = &ev__i8_rows_made,
                       .rows = store->columns.vectors.at,
                       .stride = dim * sizeof(float),
                       .bytes = dim * sizeof(float)};
}

ev__space ev__code_space(const ev__store *store) {
    const ev__quantizer *q = &store->quantizer;
    ev__space space = ev__search_space(store);
    if (ev__searches_codes(q)) space.kind = q->codec->among;
    return space;
}
