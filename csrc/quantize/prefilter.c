/* Sifting: before 8-bit codes are fetched, sign codes tell which neighbours can be near enough to matter.
 *
 * A walk is bound by the cache lines it touches. Beside each 8-bit code of four lines or more lies a row of one or two:
 * the signs of the code's coordinates after a random rotation (Gao and Long's RaBitQ), and what turns a product with
 * them into an estimated distance and the error to expect. A walk compares the query with the signs of all neighbours
 * and fetches the codes of those alone which would enter the pool if they were a part of that error nearer than
 * estimated.
 *
 * A row is made from the 8-bit code, so files need not hold it; and sums are of integers or run in a fixed order, so
 * every machine keeps the same neighbours. */
#include "internal.h"

#include <math.h>

enum { LEAST_LINES = 4, COLUMNS = 16 };
/* Of the expected error. At 0.5 a tenth more codes are fetched than at 0, and all but 1 in 500 of the neighbours that
 * a walk without a sieve finds are found. */
static const float TRUST = 0.5f;

/* Behind the signs of a row. distance key: bias - 2 code_scale * integer product, in the terms of ev__factor; estimate
 * of a product: scale * (query . signs), off by `error` times the query's length in one case out of three. */
typedef struct {
    float scale, bias, error, code_scale;
} tail;

/* ---- geometry -------------------------------------------------------------------------------- */

size_t ev__sift_bits(size_t dim) { return dim > (LEAST_LINES - 1) * EV_LINE ? ev__round_up(dim, 64) : 0; }
size_t ev__sift_bytes(size_t bits) { return ev__round_up(bits / 8 + sizeof(tail), EV_LINE); }

static char *row_of(const ev_index *ix, uint32_t slot) { return ix->store.sift.at + (size_t)slot * ix->sift_bytes; }
static const tail *tail_of(const ev_index *ix, uint32_t slot) {
    return (const tail *)(const void *)(row_of(ix, slot) + ix->bits / 8);
}

/* ---- turning --------------------------------------------------------------------------------- */

/* One round of random sign flips and butterflies, first over the rows of a matrix of 16 columns, then over its columns:
 * every coordinate comes to depend on every other. Lighter than ev__rotate, whose results files hold. */
int ev__sift_init(ev_index *ix) {
    ix->flips = ev__alloc(2 * ix->bits * sizeof *ix->flips, EV_LINE);
    if (!ix->flips) return EV_E_NOMEM;
    for (size_t i = 0; i < 2 * ix->bits; i++)
        ix->flips[i] = (uint32_t)(ev__mix(ix->p.seed ^ (0x51F700000000u + i)) >> 63) << 31;
    return EV_OK;
}

/* Butterflies between `count` rows, a power of two, of COLUMNS numbers; orthonormal. */
static void mix(float *at, size_t count) {
    for (size_t half = 1; half < count; half *= 2)
        for (size_t from = 0; from < count; from += 2 * half)
            for (size_t i = from; i < from + half; i++) {
                float *restrict a = at + i * COLUMNS, *restrict b = a + half * COLUMNS;
                for (size_t k = 0; k < COLUMNS; k++) {
                    float x = a[k], y = b[k];
                    a[k] = x + y;
                    b[k] = x - y;
                }
            }
    float scale = 1.0f / sqrtf((float)count);
    for (size_t i = 0; i < count * COLUMNS; i++) at[i] *= scale;
}

/* The same between the numbers of one row. */
static void mix_row(const float *restrict in, float *restrict out) {
    float a[COLUMNS], b[COLUMNS];
    for (size_t k = 0; k < 8; k++) a[k] = in[k] + in[k + 8], a[k + 8] = in[k] - in[k + 8];
    for (size_t k = 0; k < 8; k++) b[k] = a[2 * k] + a[2 * k + 1], b[k + 8] = a[2 * k] - a[2 * k + 1];
    for (size_t k = 0; k < 8; k++) a[k] = b[2 * k] + b[2 * k + 1], a[k + 8] = b[2 * k] - b[2 * k + 1];
    for (size_t k = 0; k < 8; k++)
        out[k] = (a[2 * k] + a[2 * k + 1]) * 0.25f, out[k + 8] = (a[2 * k] - a[2 * k + 1]) * 0.25f;
}

static void flip(float *v, const uint32_t *flips, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, sizeof bits);
        bits ^= flips[i];
        memcpy(v + i, &bits, sizeof bits);
    }
}

/* in[dim] -> s->rotated[bits] */
static void turn(const ev_index *ix, const float *in, ev__scratch *s) {
    size_t rows = ix->bits / COLUMNS, most = 1;
    while (most * 2 <= rows) most *= 2;
    memcpy(s->turning, in, ix->dim * sizeof(float));
    memset(s->turning + ix->dim, 0, (ix->bits - ix->dim) * sizeof(float));
    flip(s->turning, ix->flips, ix->bits);
    mix(s->turning, most);
    if (most < rows) mix(s->turning + (rows - most) * COLUMNS, most); /* overlapping, to reach the last rows */
    flip(s->turning, ix->flips + ix->bits, ix->bits);
    for (size_t i = 0; i < rows; i++) mix_row(s->turning + i * COLUMNS, s->rotated + i * COLUMNS);
}

/* The integers of a slot's code, turned; returns their squared length. */
static double turn_code(const ev_index *ix, uint32_t slot, ev__scratch *s) {
    const int8_t *code = (const int8_t *)ev__block(ix, slot);
    for (size_t i = 0; i < ix->dim; i++) s->decoded[i] = (float)code[i];
    turn(ix, s->decoded, s);
    return (double)ix->kernels->dot_i8(code, code, ix->dim);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void make_row(const ev_index *ix, uint32_t slot, char *row, ev__scratch *s) {
    ev__factor factor = ((const ev__factor *)(const void *)ix->store.factors.at)[slot];
    double norm2 = turn_code(ix, slot, s), magnitude = 0, bits = (double)ix->bits;
    memset(row, 0, ix->sift_bytes);
    for (size_t i = 0; i < ix->bits; i++) {
        magnitude += fabs((double)s->rotated[i]);
        row[i >> 3] |= (char)((s->rotated[i] >= 0) << (i & 7));
    }
    tail t = {.bias = factor.bias, .code_scale = factor.scale};
    if (magnitude > 0) {
        double straight = magnitude * magnitude / (bits * norm2); /* squared cosine between code and signs */
        double astray = straight < 1 ? (1 - straight) / (straight * (bits - 1)) : 0;
        t.scale = (float)((double)factor.scale * (norm2 / magnitude));
        t.error = (float)((double)factor.scale * sqrt(norm2 * astray));
    }
    memcpy(row + ix->bits / 8, &t, sizeof t);
}

void ev__sift_write(const ev_index *ix, uint32_t slot, ev__scratch *s) {
    if (ev__sifts(ix)) make_row(ix, slot, row_of(ix, slot), s);
}

bool ev__sift_ok(const ev_index *ix, uint32_t slot, ev__scratch *s) {
    if (!ev__sifts(ix)) return true;
    make_row(ix, slot, (char *)s->planes, s);
    return memcmp(s->planes, row_of(ix, slot), ix->sift_bytes) == 0;
}

int ev__sift_all(ev_index *ix) {
    ev__scratch *s;
    if (!ev__sifts(ix)) return EV_OK;
    int rc = ev__scratch_borrow(ix, &s);
    if (rc != EV_OK) return rc;
    rc = ev__array_resize(&ix->store.sift, ev__slots(ix));
    if (rc != EV_OK) rc = ev__fail(rc, "sign codes of %zu slots", ev__slots(ix));
    for (size_t slot = 0; rc == EV_OK && slot < ev__slots(ix); slot++)
        if (ev__state(ix, (uint32_t)slot) != EV_FREE) ev__sift_write(ix, (uint32_t)slot, s);
    ev__scratch_return(ix, s);
    return rc;
}

/* ---- probes ---------------------------------------------------------------------------------- */

/* Of what is in s->rotated. unit: of its numbers, in keys. The tails of rows lie against zeros of the planes. */
static void make_sieve(const ev_index *ix, double norm2, float unit, ev__sieve *sieve, ev__scratch *s) {
    sieve->planes = s->planes;
    sieve->scale = unit * ev__encode_planes(s->rotated, ix->bits, s->planes, ix->sift_bytes, &sieve->sum);
    sieve->error = TRUST * unit * (float)sqrt(norm2);
}

void ev__sift_query(const ev_index *ix, const float *query, double norm2, float unit, ev__probe *probe,
                    ev__scratch *s) {
    turn(ix, query, s);
    make_sieve(ix, norm2, unit, &probe->sieve, s);
}

void ev__sift_slot(const ev_index *ix, uint32_t slot, ev__probe *probe, ev__scratch *s) {
    if (!ev__sifts(ix) || !ev__walks_codes(ix)) return;
    double norm2 = turn_code(ix, slot, s);
    make_sieve(ix, norm2, probe->scale, &probe->sieve, s);
}

/* ---- sifting --------------------------------------------------------------------------------- */

/* The least that the keys of the slots may be, into `least`. */
static void estimate(const ev_index *ix, const ev__probe *probe, const uint32_t *slots, size_t n, float *least,
                     ev__scratch *s) {
    const ev__sieve *sieve = &probe->sieve;
    for (size_t i = 0; i < n; i++) s->rows[i] = row_of(ix, slots[i]);
    ix->kernels->dot_bits_rows(sieve->planes, s->rows, n, ix->sift_bytes, s->integers);
    s->stats.estimates += (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        const tail *t = tail_of(ix, slots[i]);
        float product = (float)(2 * s->integers[i] - sieve->sum);
        least[i] = probe->bias * t->bias - (sieve->scale * t->scale) * product - sieve->error * t->error;
    }
}

size_t ev__sift(const ev_index *ix, const ev__probe *probe, float bound, uint32_t *slots, size_t n, ev__scratch *s) {
    size_t kept = 0;
    estimate(ix, probe, slots, n, s->keys, s);
    for (size_t i = 0; i < n; i++) {
        slots[kept] = slots[i];
        kept += s->keys[i] < bound;
    }
    return kept;
}

size_t ev__sift_nearest(const ev_index *ix, const ev__probe *probe, size_t most, uint32_t *slots, size_t n,
                        ev__scratch *s) {
    if (n <= most) return n;
    ev__pool best = {s->candidates, 0, most};
    estimate(ix, probe, slots, n, s->keys, s);
    for (size_t i = 0; i < n; i++) ev__pool_insert(&best, most, s->keys[i], slots[i]);
    for (size_t i = 0; i < most; i++) slots[i] = best.at[i].slot;
    return most;
}

void ev__sifted_keys(const ev_index *ix, const ev__probe *probe, const uint32_t *slots, size_t n, float *keys,
                     ev__scratch *s) {
    for (size_t i = 0; i < n; i++) s->rows[i] = ev__block(ix, slots[i]);
    ix->kernels->dot_i8_rows(probe->data, s->rows, n, ix->dim, s->integers);
    for (size_t i = 0; i < n; i++) {
        const tail *t = tail_of(ix, slots[i]);
        keys[i] = ev__key(probe, (ev__factor){t->code_scale, t->bias}, (float)s->integers[i]);
    }
}
