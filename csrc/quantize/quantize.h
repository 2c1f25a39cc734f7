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

/* What sets a metric apart (metric.c). */
typedef struct ev__metric ev__metric;
/* A quantization; see below. */
typedef struct ev__codec ev__codec;

/* How vectors become codes, and by what they are compared. */
typedef struct {
    int32_t quantization, keep_vectors; /* as in ev_params */
    int32_t walk;                       /* EV_WALK_* */
    const ev__metric *metric;
    const ev__codec *codec;
    ev__kernels kernels; /* complete */
    size_t dim, code_bytes;
    size_t query_bytes, slot_query_bytes; /* room for the code of a query, and for ev__query_from_slot */
    size_t bits, prefilter_bytes;         /* bits of a sign code; bytes of a row of prefilter.c; 0: there are none */
    float *center;                        /* dim; quantized only */
    ev__rotation rotation;                /* binary only */
    uint32_t *prefilter_signs;            /* 2 bits, of prefilter.c */
    double span;                          /* no vector is further from the center than so many scales of its code */
    bool unprefiltered; /* the rows of prefilter.c were not made yet: an index that was mapped without verifying it */
    double longest;     /* unquantized, ip: no vector is longer */
} ev__quantizer;

static inline bool ev__prefilters(const ev__quantizer *q) { return q->prefilter_bytes != 0; }
static inline bool ev__searches_codes(const ev__quantizer *q) {
    return q->quantization != EV_QUANT_NONE && (q->walk == EV_WALK_CODES || q->walk == EV_WALK_BLURRED);
}

/* The room that preparing and comparing one vector takes; a part of ev__scratch. */
typedef struct {
    /* dim, dim, bits, bits, dim: the query at unit length, centered, being rotated, rotated; a decoded row */
    float *unit, *centered, *rotation_buffer, *rotated, *decoded;
    double *exact;               /* dim: the query in double, at unit length under cosine */
    double root;                 /* of dim */
    double sum, least;           /* what float32 sums round off, relative to their terms; what they may take for 0 */
    double rate, rest;           /* ip: what they round off for each unit that a vector is long, and beside that */
    double length, off;          /* of the query; of the query minus the center, under ip of the center */
    double against;              /* ip: dot product of query and center */
    double coded2;               /* what the query's 8-bit code says of it, from the center: its squared length, */
    double missed;               /* and how far it is from the query, at most */
    const float *held;           /* the query as the index would hold it */
    void *code;                  /* query_bytes: query code or planes */
    uint8_t *planes;             /* of a bits */
    int8_t *made;                /* the 8-bit code of a row, ev__i8_rows_made */
    const void **rows;           /* EV_BATCH */
    int32_t *integers;           /* EV_BATCH */
    int16_t *residual;           /* dim, where those are written to files */
    struct ev__fetched *fetched; /* rows that were read from files; NULL where all lie in memory */
} ev__workspace;
#define EV_BATCH 1024 /* rows compared at once: more than the links of two nodes */
/* Its buffers, but for `residual` and `fetched`, which only files call for. */
void ev__workspace_lay_out(const ev__quantizer *q, ev__arena *arena, ev__workspace *w);

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
/* To unit length under cosine, unless it is zero. */
void ev__normalize_decoded(const ev__quantizer *q, float *vector);

/* Rows that the index can hold or be asked for: finite, not too long, and under cosine not zero. */
int ev__check_rows(const ev__quantizer *q, int64_t n, const float *rows);
bool ev__all_finite(const void *floats, size_t n);
/* The row as the index holds it: at unit length in buffer[dim] under cosine, else the row itself. */
const float *ev__unit(const ev__quantizer *q, const float *row, float *buffer);

/* ---- metric.c -------------------------------------------------------------------------------- */

struct ev__metric {
    ev__measure measure; /* of float vectors */
    bool product;        /* minus a product: lengths count, no triangle inequality holds, nothing is centered */
    bool unit;           /* vectors are held at unit length */
    float gain;          /* distance: so much of what is measured, squared distances or products */
    /* Of the query in w->exact and w->held, and a row as it is kept, in double. */
    double (*distance)(const ev__workspace *w, const float *row, size_t dim);
};
/* A query for `distance`: as it was given, and as the index would hold it. */
void ev__query_in_double(const ev__quantizer *q, const float *given, const float *held, ev__workspace *w);
/* Of EV_METRIC_*; NULL: there is no such metric. */
const ev__metric *ev__metric_of(int32_t metric);

/* ---- quantizer.c ----------------------------------------------------------------------------- */

/* Is it one of EV_QUANT_*? */
bool ev__is_quantization(int32_t quantization);
/* The codec and the layout of codes; metric, quantization, dim and kernels are set, keep_vectors as it was asked for.
 */
void ev__quantizer_lay_out(ev__quantizer *q);
int ev__quantizer_init(ev__quantizer *q, uint64_t seed);
void ev__quantizer_free(ev__quantizer *q);
size_t ev__quantizer_bytes(const ev__quantizer *q);
/* ---- sq8.c ----------------------------------------------------------------------------------- */

/* The 8-bit code whatever the index's quantization: what quantized graphs are built on. */
void ev__encode_i8(const ev__quantizer *q, const float *vector, int8_t *code, ev__factor *factor);
/* What an 8-bit code of this scale needs in ev__factor. */
float ev__code_bias(const ev__quantizer *q, const int8_t *code, float scale);

/* ---- query.c --------------------------------------------------------------------------------- */

typedef struct ev__row_kind ev__row_kind;

/* Where the rows to compare with lie: the codes that are searched, float vectors, or what a graph is built on. */
typedef struct {
    const ev__row_kind *kind;
    const char *rows;          /* row of slot s: rows + s * stride */
    size_t stride, bytes;      /* bytes: of a row, as far as it is compared */
    const ev__factor *factors; /* of slot s; NULL where rows are floats. Of 24-bit vectors: their scales */
    const char *prefilter;     /* rows of prefilter.c, prefilter_bytes each; NULL: none */
    const int16_t *residuals;  /* of 24-bit vectors: dim of slot s */
    const void *files;         /* where what is kept of vectors lies in files: its ev__store; else NULL */
} ev__space;

/* The same side against sign codes (prefilter.c); planes: NULL where nothing is prefiltered. */
typedef struct {
    const uint8_t *planes;
    int32_t sum; /* of the integers in the planes */
    float scale, error;
    bool sparing; /* a walk reads no code before it must: of queries, not of slots, by which graphs are built */
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
/* data points into the row, or into the buffer of slot_query_bytes */
void ev__query_from_slot(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query, void *buffer);
/* numbers as integers in [-7, 7], in EV_PLANES planes of `stride` bytes; returns their scale, and in *sum their sum */
float ev__encode_planes(const float *numbers, size_t n, uint8_t *planes, size_t stride, int32_t *sum);
/* query->bits of an 8-bit code, where there is one */
void ev__query_init_bits(const ev__quantizer *q, const int8_t *code, ev__query *query, ev__workspace *w);

/* A slot's code as a query, where its factor lies in the space; of a 24-bit vector; of a float vector, encoded first.
 * As ev__row_kind has it. */
void ev__query_from_code(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query, void *buffer);
void ev__query_from_sq24(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query, void *buffer);
void ev__query_from_floats(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query,
                           void *buffer);

/* ---- distance.c ------------------------------------------------------------------------------ */

/* How rows of one kind are compared. */
struct ev__row_kind {
    /* of m rows with a query */
    void (*distances)(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                      size_t m, float *distances, ev__workspace *w);
    /* What a slot's row is as a query, beyond its data and a gain of 1; NULL: no more than that. */
    void (*query_from_slot)(const ev__quantizer *q, const ev__space *space, uint32_t slot, ev__query *query,
                            void *buffer);
    bool pipelined; /* so short that a walk fetches ahead and does not wait */
};
extern const ev__row_kind ev__f32_rows;
extern const ev__row_kind ev__sq24_rows; /* 24-bit vectors */
extern const ev__row_kind ev__i8_rows;
extern const ev__row_kind ev__i8_rows_made; /* of float vectors, encoded anew for each comparison */
extern const ev__row_kind ev__bits_rows;    /* sign codes with the bit planes of a query ... */
extern const ev__row_kind ev__bits_among;   /* ... and among each other */

/* Of m rows that lie apart, at most EV_BATCH. 24 bits: at most 64, beside their codes, with their steps. */
void ev__f32_compare(const ev__quantizer *q, const ev__query *query, const void *const *rows, size_t m,
                     float *distances);
void ev__sq24_compare(const ev__quantizer *q, const ev__query *query, const void *const *codes,
                      const void *const *residuals, const float *steps, size_t m, float *distances);
float ev__made_compare(const ev__quantizer *q, const ev__query *query, const float *row, ev__workspace *w);
/* A 24-bit vector as a query, whose residuals lie apart; row: dim. */
void ev__query_from_residuals(const ev__quantizer *q, const int8_t *code, float scale, const int16_t *residuals,
                              ev__query *query, float *row);
/* A float vector, encoded into code[dim]. */
void ev__query_from_row(const ev__quantizer *q, const float *vector, ev__query *query, int8_t *code);

static inline void ev__approx_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                                        const uint32_t *slots, size_t m, float *distances, ev__workspace *w) {
    space->kind->distances(q, space, query, slots, m, distances, w);
}

/* ---- codecs ---------------------------------------------------------------------------------- */

/* A quantization, chosen once per index (quantizer.c). Vectors are at unit length under cosine. */
struct ev__codec {
    const ev__row_kind *rows, *among; /* codes compared with a query; with each other */
    bool coarse;  /* graphs are built on 8-bit codes where the vectors are kept; codes cannot be encoded anew */
    bool refined; /* what is kept of a vector is int16[dim] that refines its code, no floats */
    /* code_bytes, query_bytes, slot_query_bytes, bits, prefilter_bytes, span */
    void (*lay_out)(ev__quantizer *q);
    /* The rest are NULL where nothing is quantized. */
    int (*init)(ev__quantizer *q, uint64_t seed);
    /* residual: int16[dim], or NULL: the code alone is wanted */
    void (*encode)(const ev__quantizer *q, const float *vector, void *code, ev__factor *factor, int16_t *residual,
                   ev__workspace *w);
    /* un-centered and un-rotated, into out[dim]; at unit length under cosine */
    void (*decode)(const ev__quantizer *q, const void *code, float scale, const int16_t *residual, float *out,
                   ev__workspace *w);
    /* w->centered into w->code; sets query->sum where that is needed and returns the scale */
    float (*encode_query)(const ev__quantizer *q, ev__query *query, ev__workspace *w);
    /* How long the vector is at most, from the center, in scales: closer than q->span. NULL: no closer. */
    double (*length)(const ev__quantizer *q, const void *code);
    /* What is wrong with the bytes of a row, as a file may hold them; NULL: nothing. No function: any bytes are right.
     */
    const char *(*flaw)(const ev__quantizer *q, const void *row);
};

/* ---- prefilter.c ---------------------------------------------------------------------------------- */

size_t ev__prefilter_bits(size_t dim); /* signs of a row; 0 where a code is too short for prefiltering to pay */
size_t ev__prefilter_bytes(size_t bits);
size_t ev__prefilter_compared(const ev__quantizer *q); /* bytes of a row, with which planes are compared */
/* The row of an 8-bit code. */
void ev__prefilter_row(const ev__quantizer *q, const int8_t *code, ev__factor factor, char *row, ev__workspace *w);
/* The least that the distances of n slots may be, into `least`. */
void ev__prefilter_bounds(const ev__quantizer *q, const ev__space *space, const ev__query *query, const uint32_t *slots,
                          size_t n, float *least, ev__workspace *w);
/* Distances as ev__approx_distances, of slots whose rows here were read just before. */
void ev__prefiltered_distances(const ev__quantizer *q, const ev__space *space, const ev__query *query,
                               const uint32_t *slots, size_t n, float *distances, ev__workspace *w);

#endif
