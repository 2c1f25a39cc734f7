/* Learning the centre of the codes.
 *
 * It is the mean of what is held: learned with the first vectors, learned anew as the index grows from a few to many,
 * and looked at again whenever it has grown by an eighth: when the data have moved away from it, everything is encoded
 * anew. */
#include "internal.h"

enum { SETTLED = 16384 };        /* vectors after which the mean is taken as known, unless the data move */
static const double MOVED = 0.1; /* squared shift of the mean over the variance that calls for a new centre */

typedef struct {
    double *sum, *square; /* per dimension */
    int64_t count;
} moments;

static void observe(moments *m, const float *row, size_t dim) {
    for (size_t i = 0; i < dim; i++) {
        m->sum[i] += (double)row[i];
        m->square[i] += (double)row[i] * (double)row[i];
    }
    m->count++;
}

static void observe_all(moments *m, const ev_index *ix, int64_t n, const float *rows, ev__scratch *s) {
    for (int64_t i = 0; i < n; i++) observe(m, ev__unit(ix, rows + (size_t)i * ix->dim, s->unit), ix->dim);
    for (size_t slot = 0; slot < ev__slots(ix); slot++) {
        if (!ev__alive(ix, (uint32_t)slot)) continue;
        observe(m, ev__vector_read(ix, (uint32_t)slot, s->unit, s), ix->dim);
    }
}

static bool has_moved(const ev_index *ix, const moments *m) {
    double shift = 0, variance = 0;
    for (size_t i = 0; i < ix->dim; i++) {
        double mean = m->sum[i] / (double)m->count, off = mean - (double)ix->centre[i];
        shift += off * off;
        variance += m->square[i] / (double)m->count - mean * mean;
    }
    return shift > MOVED * variance;
}

/* All that is held, with the new centre. From what is kept, so where that is not the float vectors each time costs a
 * little precision: of codes, up to half an integer a coordinate; of refined ones, up to a step. */
static void encode_anew(ev_index *ix, const float *centre, ev__scratch *s) {
    float *old_centre = s->query; /* swapped slot by slot: decoding needs the old one, encoding the new */
    memcpy(old_centre, ix->centre, ix->dim * sizeof(float));
    for (size_t slot = 0; slot < ev__slots(ix); slot++) {
        if (ev__state(ix, (uint32_t)slot) == EV_FREE) continue;
        memcpy(ix->centre, old_centre, ix->dim * sizeof(float));
        const float *row = ev__vector_read(ix, (uint32_t)slot, s->unit, s);
        memcpy(ix->centre, centre, ix->dim * sizeof(float));
        ev__vector_write(ix, (uint32_t)slot, row, s);
    }
    memcpy(ix->centre, centre, ix->dim * sizeof(float));
    ev__twins_free(ix); /* it goes by codes */
}

static bool due(const ev_index *ix, int64_t n) {
    int64_t after = ix->live + n;
    if (ix->trained_on == 0) return true;
    if (!ix->p.keep_vectors && ev__by_bits(ix)) return false; /* signs cannot be encoded twice */
    if (ix->trained_on < SETTLED && after >= 4 * ix->trained_on) return true;
    return ix->unchecked + n >= (ix->trained_on > 2048 ? ix->trained_on / 8 : 256);
}

int ev__train(ev_index *ix, int64_t n, const float *rows, ev__scratch *s) {
    if (ix->p.quantization == EV_QUANT_NONE || n == 0) return EV_OK;
    if (!due(ix, n)) {
        ix->unchecked += n;
        return EV_OK;
    }
    size_t bytes = ix->dim * (2 * sizeof(double) + sizeof(float));
    double *memory = ev__alloc_zero(bytes, EV_LINE);
    if (!memory) return ev__fail(EV_E_NOMEM, "learning the centre of the codes");
    moments m = {memory, memory + ix->dim, 0};
    float *centre = (float *)(void *)(memory + 2 * ix->dim);
    observe_all(&m, ix, n, rows, s);
    bool young = ix->trained_on == 0 || (ix->trained_on < SETTLED && ix->live + n >= 4 * ix->trained_on);
    if (young || has_moved(ix, &m)) {
        for (size_t i = 0; i < ix->dim; i++) centre[i] = (float)(m.sum[i] / (double)m.count);
        encode_anew(ix, centre, s);
        ix->trained_on = m.count;
        ix->trainings++;
    }
    ix->unchecked = 0;
    ev__release(memory, bytes, EV_LINE);
    return EV_OK;
}
