/* Vectors to codes, and codes to distances. Knows rows by their addresses, not what holds them; never sees a graph. */
#ifndef EV_QUANTIZE_H
#define EV_QUANTIZE_H

#include "base/base.h"
#include "simd/kernels.h"

/* What a code needs beside its integers: value = scale * integer. bias: l2 and cosine: squared length of the decoded,
 * centered vector; ip: minus its dot product with the center. */
typedef struct {
    float scale, bias;
} ev__factor;

/* A fast random rotation of `dim` (zero-padded to `bits`) coordinates: rounds of signs and Hadamard
 * transforms. Adds, subtracts and one multiplication a coordinate: the same bits on every machine. */
typedef struct {
    size_t dim, bits;
    uint64_t *signs; /* EV_ROUNDS * bits bits */
} ev__rotation;

/* How vectors become codes, and by what they are compared. */
typedef struct {
    int32_t metric, quantization, keep_vectors; /* as in ev_params */
    int32_t walk;                               /* EV_WALK_* */
    const ev__kernels *kernels;
    size_t dim, code_bytes;
    size_t bits, prefilter_bytes; /* bits of a sign code; bytes of a row of prefilter.c; 0: there are none */
    float *center;                /* dim; quantized only */
    ev__rotation rotation;        /* binary only */
    uint32_t *prefilter_signs;    /* 2 bits, of prefilter.c */
    double longest;               /* unquantized, ip: no vector is longer */
} ev__quantizer;

/* The codes walked on. Binary vectors of up to 32 dimensions have 8-bit codes: smaller than a sign code that could tell
 * them apart. */
static inline bool ev__by_bits(const ev__quantizer *q) { return q->bits && !q->prefilter_bytes; }
static inline bool ev__by_bytes(const ev__quantizer *q) { return q->quantization != EV_QUANT_NONE && !ev__by_bits(q); }
/* Does what is kept of the vectors refine the codes? */
static inline bool ev__is_sq24(const ev__quantizer *q) { return q->keep_vectors == EV_VECTORS_SQ24; }
static inline bool ev__prefilters(const ev__quantizer *q) { return q->prefilter_bytes != 0; }
static inline bool ev__searches_codes(const ev__quantizer *q) {
    return q->quantization != EV_QUANT_NONE && (q->walk == EV_WALK_CODES || q->walk == EV_WALK_BLURRED);
}

/* The room that preparing and comparing one vector takes; a part of ev__scratch. */
typedef struct {
    /* dim, dim, bits, bits, dim: the query at unit length, centered, being rotated, rotated; a decoded row */
    float *unit, *centered, *rotation_buffer, *rotated, *decoded;
    double *exact;      /* dim: the query in double, at unit length under cosine */
    double root;        /* of dim */
    double sum, least;  /* what float32 sums round off, relative to their terms; what they may take for 0 */
    double span;        /* a code's reach from the center, in scales */
    double rate, rest;  /* ip: what they round off for each unit that a vector is long, and beside that */
    double length, off; /* of the query; of the query minus the center, under ip of the center */
    double against;     /* ip: dot product of query and center */
    const float *held;  /* the query as the index would hold it */
    void *code;         /* query code or planes */
    uint8_t *planes;    /* of a bits */
    int8_t *fresh;      /* the 8-bit code of a row, I8_FRESH */
    const void **rows;  /* EV_BATCH */
    int32_t *integers;  /* EV_BATCH */
} ev__workspace;
#define EV_BATCH 1024 /* rows compared at once: more than the links of two nodes */

/* ---- rotation.c ------------------------------------------------------------------------------ */

int ev__rotation_init(ev__rotation *r, size_t dim, size_t bits, uint64_t seed);
void ev__rotation_free(ev__rotation *r);
size_t ev__rotation_bytes(const ev__rotation *r);
void ev__rotate(const ev__rotation *r, const float *in, float *out);   /* in[dim] -> out[bits] */
void ev__rotate_back(const ev__rotation *r, float *inout, float *out); /* inout[bits] is used up -> out[dim] */
/* The lighter rotation of prefilter.c. Needs 2 bits of prefilter_signs; in[dim] -> w->rotated[bits]. */
void ev__prefilter_signs_init(uint32_t *prefilter_signs, size_t count, uint64_t seed);
void ev__rotate_light(const ev__quantizer *q, const float *in, ev__workspace *w);
/* The integers of an 8-bit code, turned, into w->rotated; returns their squared length. */
double ev__rotate_code(const ev__quantizer *q, const int8_t *code, ev__workspace *w);

/* ---- vector.c -------------------------------------------------------------------------------- */

/* Squared length, summed in double in a fixed order. */
double ev__norm2(const float *v, size_t dim);
/* squared distance, likewise */
double ev__l2_fixed(const double *a, const float *b, size_t dim);
/* dot product, likewise */
double ev__dot_fixed(const float *a, const float *b, size_t dim);
double ev__dot_mixed(const float *a, const int8_t *b, size_t dim);
/* Write vector / sqrt(norm2). */
void ev__normalize(const float *v, double norm2, float *out, size_t dim);

/* Rows that the index can hold or be asked for: finite, not too long, and under cosine not zero. */
int ev__check_rows(const ev__quantizer *q, int64_t n, const float *rows);
/* The row as the index holds it: at unit length in buffer[dim] under cosine, else the row itself. */
const float *ev__unit(const ev__quantizer *q, const float *row, float *buffer);

/* ---- quantizer.c ----------------------------------------------------------------------------- */

/* The layout of codes; q->kernels, metric, quantization and dim are set, and the parameter keep_vectors as given. */
void ev__quantizer_lay_out(ev__quantizer *q);
int ev__quantizer_init(ev__quantizer *q, uint64_t seed);
void ev__quantizer_free(ev__quantizer *q);
size_t ev__quantizer_bytes(const ev__quantizer *q);
/* vector (normalized under cosine) -> code and factor; the code's layout is the walking code of the index (i8 or bits).
 */
void ev__encode(const ev__quantizer *q, const float *vector, void *code, ev__factor *factor, ev__workspace *w);
/* what an 8-bit code of this scale needs in ev__factor */
float ev__code_bias(const ev__quantizer *q, const int8_t *code, float scale);
/* the 8-bit code whatever the index's quantization: what quantized graphs are built on */
void ev__encode_i8(const ev__quantizer *q, const float *vector, int8_t *code, ev__factor *factor);
/* numbers as integers in [-7, 7], in EV_PLANES planes of `stride` bytes; returns their scale, and in *sum their sum */
float ev__encode_planes(const float *numbers, size_t n, uint8_t *planes, size_t stride, int32_t *sum);
/* A code of this scale decoded, un-centered and un-rotated, into out[dim]; at unit length under cosine. */
void ev__decode(const ev__quantizer *q, const void *code, float scale, float *out, ev__workspace *w);
/* 24 bits: the 8-bit code and factor of a vector and, in residual[dim], what refines the code; and the vector back. */
void ev__encode_sq24(const ev__quantizer *q, const float *vector, int8_t *code, ev__factor *factor, int16_t *residual);
void ev__decode_sq24(const ev__quantizer *q, const int8_t *code, float scale, const int16_t *residual, float *out);

/* ---- query.c --------------------------------------------------------------------------------- */

/* Where the rows to compare with lie: walking codes, float vectors, or the 8-bit codes that a binary index is built on.
 */
typedef enum {
    EV_SPACE_DOT,
    EV_SPACE_L2,
    EV_SPACE_I8,
    EV_SPACE_BITS,
    EV_SPACE_HAMMING,
    EV_SPACE_I8_FRESH,
    EV_SPACE_SQ24
} ev__space_kind;
typedef struct {
    ev__space_kind kind;
    const char *rows; /* row of slot s: rows + s * stride. I8_FRESH: float vectors, encoded anew for each comparison */
    size_t stride, bytes;      /* bytes: of a row, as far as it is compared */
    const ev__factor *factors; /* of slot s; NULL for DOT, L2 and I8_FRESH. SQ24: scales of the 24-bit vectors */
    const char *prefilter;     /* rows of prefilter.c, prefilter_bytes each; NULL: none */
    const int16_t *residuals;  /* SQ24: dim of slot s */
} ev__space;

/* The same side against sign codes (prefilter.c); planes: NULL where nothing is prefiltered. */
typedef struct {
    const uint8_t *planes;
    int32_t sum; /* of the integers in the planes */
    float scale, error;
} ev__query_bits;

/* One side of many comparisons. A distance is approximate: smaller is nearer, comparable between rows of one query
 * only. offset + gain * distance is the estimated distance of a query, and for a slot's query a measure comparable with
 * those of other slots.
 */
typedef struct {
    const void *data;  /* f32[dim], centered where rows are 24-bit vectors | i8[dim] | bit planes | bits */
    int32_t sum;       /* bit planes: sum of the query's integers */
    float scale, bias; /* distance = bias * row.bias - scale * row.scale * integer product */
    float offset, gain;
    ev__query_bits bits;
} ev__query;

static inline const void *ev__row_of(const ev__space *space, uint32_t slot) {
    return space->rows + (size_t)slot * space->stride;
}
static inline float ev__code_distance(const ev__query *query, ev__factor factor, float product) {
    return query->bias * factor.bias - (query->scale * factor.scale) * product;
}

void ev__query_init(const ev__quantizer *q, const float *vector, ev__query *query, ev__workspace *w);
/* data points into the row, or for I8_FRESH and SQ24 into the buffer: dim bytes, or floats */
void ev__query_from_slot(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query, void *buffer);
/* query->bits of an 8-bit code, where there is one */
void ev__query_init_bits(const ev__quantizer *q, const int8_t *code, ev__query *query, ev__workspace *w);

/* ---- distance.c ------------------------------------------------------------------------------ */

/* distances of m rows */
void ev__approx_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                          size_t m, float *distances, ev__workspace *w);

/* ---- prefilter.c ---------------------------------------------------------------------------------- */

size_t ev__prefilter_bits(size_t dim); /* signs of a row; 0 where a code is too short for prefiltering to pay */
size_t ev__prefilter_bytes(size_t bits);
/* The row of an 8-bit code. */
void ev__prefilter_row(const ev__quantizer *q, const int8_t *code, ev__factor factor, char *row, ev__workspace *w);
/* The least that the distances of n slots may be, into `least`. */
void ev__prefilter_bounds(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                          size_t n, float *least, ev__workspace *w);
/* Distances as ev__approx_distances, of slots whose rows here were read just before. */
void ev__prefiltered_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                               const uint32_t *slots, size_t n, float *distances, ev__workspace *w);

#endif
