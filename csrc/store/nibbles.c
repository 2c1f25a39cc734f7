/* One query, or a few, against all rows: 4-bit codes tell which rows may be within its bound, in half the memory that
 * 8-bit ones take. They are made when exact searches come again and again, kept until the index changes, and in no
 * file.
 *
 * A row's integers u are made of its 8-bit code x8, with a scale such that what they leave out is at right angles to
 * x8. With q and x the query and the vector from the center, q^ the query's code, x~ what u says of the row,
 * e = |x~ - x8|, h >= |x - x8| and m >= |q - q^|, a row within b of the query has, with B = b + m,
 *   |q^ - x8| <= B + h,
 *   q^ x~ = q^ x8 + (q^ - x8) (x~ - x8) >= q^ x8 - (B + h) e,
 *   so 2 q^ x~ >= |q^|^2 + |x8|^2 - (B + h)^2 - 2 (B + h) e;
 *   q x <= q^ x~ + m (|x8| + e) + |q| (h + e)
 * Both make limits of products of integers as in tiles.c, where the queries come from. */
#include "store/store.h"

#include <math.h>

enum {
    AT_ONCE = 8,                 /* coordinates, four of them in the lower halves of bytes */
    RUN = AT_ONCE / 2 * EV_TILE, /* bytes of a tile for so many */
    SHIFT = 16,                  /* of rates */
    MOST = 127,                  /* integers of queries */
    MADE_OF = 64,                /* rows whose mean is the center where there are no 8-bit codes */
    BETWEEN = 16                 /* tiles after which it is asked whether to stop */
};
static const double CLIP = 2.7, /* standard deviations: then the fewest of normal numbers are kept */
    SPIKY = 4,                  /* rows with a coordinate beyond so many are tried without clipping too */
    SLACK = 4e-6;               /* relative: as in tiles.c */

bool ev__nibbles_pay(const ev__store *store) { return store->quantizer.kernels.tile_i4 && ev__tiles_pay(store); }

/* ---- rows ------------------------------------------------------------------------------------ */

typedef struct {
    uint8_t *numbers; /* u, dim rounded up to AT_ONCE */
    int32_t along;    /* c (2 u - 15) */
    int32_t norm2;    /* of 2 u - 15 */
} nibbles;

static void encode(const int8_t *code, size_t dim, double rate, nibbles *out) {
    const int32_t by = (int32_t)(rate * (1 << SHIFT));
    int32_t along = 0, norm2 = 0;
    for (size_t i = 0; i < dim; i++) {
        int32_t number = (code[i] * by + (8 << SHIFT)) >> SHIFT;
        number = number < 0 ? 0 : number > 15 ? 15 : number;
        int32_t odd = 2 * number - 15;
        out->numbers[i] = (uint8_t)number;
        along += code[i] * odd;
        norm2 += odd * odd;
    }
    out->along = along;
    out->norm2 = norm2;
}

static double straight(const nibbles *n) { return n->along > 0 ? (double)n->along * n->along / n->norm2 : 0; }

/* Of a few large coordinates and many small ones it depends which are to be told well. */
static void encode_best(const int8_t *code, size_t dim, double norm2, nibbles *out) {
    double deviation = sqrt(norm2 / (double)dim), whole = 8.0 / 127, clipped = 8 / (CLIP * deviation);
    encode(code, dim, clipped > whole ? clipped : whole, out);
    if (SPIKY * deviation > 127) return;
    double so_far = straight(out);
    encode(code, dim, whole, out);
    if (straight(out) < so_far) encode(code, dim, clipped, out);
}

static void set_limit(const ev__quantizer *q, ev__tile_limits *limits, size_t i, double scale, double norm2,
                      const nibbles *n) {
    double half = 0.51 * sqrt((double)q->dim), rate = norm2 / n->along, off2 = rate * rate * n->norm2 - norm2;
    double off = sqrt(off2 > 0 ? off2 : 0), error = half + off;
    bool product = q->metric->product;
    double fixed = product ? -error : scale * (norm2 - half * half - 2 * half * off),
           size = product ? error : scale * (norm2 + error * error);
    limits->fixed[i] = (float)((fixed - SLACK * size) / rate);
    limits->extent[i] = (float)(1.00001 * (product ? sqrt(norm2) + off : error) / rate);
    limits->inverse[i] = (float)(1 / (scale * rate));
}

/* Kept whatever the query is. */
static void set_no_limit(ev__tile_limits *limits, size_t i) {
    limits->fixed[i] = -INFINITY;
    limits->extent[i] = limits->inverse[i] = 0;
}

static void put(char *runs, size_t row, size_t dim, const uint8_t *numbers) {
    runs += row * sizeof(uint32_t);
    for (size_t i = 0; i < dim; i += AT_ONCE, runs += RUN) {
        uint32_t low, high;
        memcpy(&low, numbers + i, sizeof low);
        memcpy(&high, numbers + i + sizeof low, sizeof high);
        low |= high << 4;
        memcpy(runs, &low, sizeof low);
    }
}

/* ---- making them ----------------------------------------------------------------------------- */

static ev__tile_limits *limits_of(const ev__nibbles *n, size_t tile) {
    return (ev__tile_limits *)(void *)(n->tiles + tile * n->tile_bytes);
}

static void make_tile(const ev__store *store, ev__nibbles *n, size_t tile, int8_t *made, nibbles *room) {
    const ev__quantizer *q = &store->quantizer;
    bool makes = !ev__code_bounds(store);
    ev__tile_limits *limits = limits_of(n, tile);
    for (size_t i = 0; i < EV_TILE; i++) {
        uint32_t slot = (uint32_t)(tile * EV_TILE + i);
        set_no_limit(limits, i);
        if (slot >= n->slots || !ev__alive(store, slot)) continue;
        const int8_t *code = makes ? made : (const void *)ev__block(store, slot);
        double scale = makes ? (double)q->kernels.encode_i8(ev__vector(store, slot), n->center, q->dim, made)
                             : (double)ev__factor_of(store, slot)->scale;
        double norm2 = (double)ev__dot_i8(&q->kernels, code, code, q->dim);
        if (!(scale > 0) || norm2 == 0) continue;
        encode_best(code, q->dim, norm2, room);
        if (room->along <= 0) continue;
        set_limit(q, limits, i, scale, norm2, room);
        put((char *)(limits + 1), i, q->dim, room->numbers);
    }
}

/* What codes are made around, as tiles.c does it. */
static void find_center(const ev__store *store, ev__nibbles *n) {
    const ev__quantizer *q = &store->quantizer;
    uint32_t rows = 0, some[MADE_OF];
    memset(n->center, 0, q->dim * sizeof *n->center);
    if (ev__code_bounds(store)) {
        memcpy(n->center, q->center, q->dim * sizeof *n->center);
        return;
    }
    for (uint32_t slot = 0; slot < n->slots && rows < MADE_OF && !q->metric->product; slot++)
        if (ev__alive(store, slot)) some[rows++] = slot;
    for (uint32_t i = 0; i < rows; i++)
        for (size_t j = 0; j < q->dim; j++) n->center[j] += ev__vector(store, some[i])[j] / (float)rows;
}

static bool make_all(const ev__store *store, ev__nibbles *n) {
    size_t dim = store->quantizer.dim, room = ev__round_up(dim, AT_ONCE);
    char *buffer = ev__alloc_zero(2 * room, EV_LINE);
    if (!buffer) return false;
    bool whole = true;
    find_center(store, n);
    for (size_t tile = 0; tile * EV_TILE < n->slots && whole; tile++) {
        make_tile(store, n, tile, (int8_t *)buffer, &(nibbles){.numbers = (uint8_t *)buffer + room});
        whole = tile % BETWEEN != BETWEEN - 1 || !ev__is_to_stop();
    }
    ev__release(buffer, 2 * room, EV_LINE);
    return whole;
}

/* Room for all slots, in which nothing is kept that there was. */
static bool make_room(const ev__store *store, ev__nibbles *n) {
    size_t dim = store->quantizer.dim, around = ev__round_up(dim * sizeof *n->center, EV_LINE);
    n->slots = ev__slots(store);
    n->tile_bytes = sizeof(ev__tile_limits) + ev__round_up(dim, AT_ONCE) / AT_ONCE * RUN;
    size_t bytes = around + (n->slots + EV_TILE - 1) / EV_TILE * n->tile_bytes;
    if (bytes != ev__nibbles_bytes(n)) {
        ev__nibbles_free(n);
        if (!(n->memory = ev__alloc(bytes, EV_LINE))) return false;
        ev__atomic_store64(&n->bytes, (int64_t)bytes);
    }
    n->center = (float *)(void *)n->memory;
    n->tiles = n->memory + around;
    return true;
}

void ev__nibbles_free(ev__nibbles *n) {
    ev__release(n->memory, ev__nibbles_bytes(n), EV_LINE);
    n->memory = NULL;
    ev__atomic_store64(&n->made, 0);
    ev__atomic_store64(&n->bytes, 0);
}

/* Who made them wrote this last; who reads it sees what it was made of. */
static bool made_of(ev__nibbles *n, uint64_t version) { return ev__add64_ordered(&n->made, 0) == (int64_t)version + 1; }

/* By the one thread that has them. Searches that come before look at nothing of them, and while they last nothing
 * changes the index. */
static bool make(const ev__store *store, ev__nibbles *n, int64_t queries) {
    if (n->version != store->version) n->asked = 0;
    n->version = store->version;
    n->asked += queries;
    if (n->asked <= EV_NIBBLES_DUE || !make_room(store, n) || !make_all(store, n)) return false;
    ev__add64_ordered(&n->made, (int64_t)store->version + 1 - ev__atomic_load64(&n->made));
    return true;
}

bool ev__nibbles_ready(ev__store *store, int64_t queries) {
    ev__nibbles *n = &store->nibbles;
    if (!made_of(n, store->version)) {
        if (!ev__try_take(&n->busy)) return false;
        bool made = made_of(n, store->version) || make(store, n, queries);
        ev__give_back(&n->busy);
        if (!made) return false;
    }
    /* codes may be made anew around another center while the vectors stay */
    const ev__quantizer *q = &store->quantizer;
    return !ev__code_bounds(store) || memcmp(n->center, q->center, q->dim * sizeof *q->center) == 0;
}

/* ---- a query --------------------------------------------------------------------------------- */

void ev__nibbles_query(const ev__store *store, ev__tiles *t, ev__workspace *w) {
    ev__tiles_begin(store, t, NULL, 0);
    memcpy(t->center, store->nibbles.center, store->quantizer.dim * sizeof *t->center);
    t->most = MOST;
    ev__tiles_query(store, t, 0, w);
}

uint64_t ev__nibbles_keep(const ev__store *store, const ev__tiles *t, size_t tile) {
    const ev__kernels *kernels = &store->quantizer.kernels;
    const ev__tile_limits *limits = limits_of(&store->nibbles, tile);
    kernels->tile_i4(t->codes, *t->sums, limits + 1, store->quantizer.dim, t->products);
    return kernels->tile_reach(t->products, limits, &t->query->test);
}
