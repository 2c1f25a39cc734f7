/* Learning the center of the codes, and seeing whether what is walked on tells the vectors apart.
 *
 * Both go by a sample of what is held. It is looked at with the first vectors, again as the index grows from a few to
 * many, and then whenever it has grown by an eighth: where the data have moved away from the center, everything is
 * encoded anew.
 *
 * The center is the mean of the sample, but for rows that lie so far off that codes around that mean would not tell the
 * others apart: a sentinel, a mistaken unit. All sums are in double in a fixed order, so every machine learns the
 * same. */
#include "index/build.h"

#include <math.h>

enum {
    STABLE_COUNT = 16384, /* vectors after which the mean is taken as known, unless the data move */
    LEAST_GROWTH = 256,
    LEAST_GROWTH_SLOWLY = 4096, /* by few rows a call: to look takes as long as to add a hundred */
    FEW = 8,
    SOON = 2048, /* slots that are encoded anew in three milliseconds */
    SAMPLE = 512,
    MOST_NUMBERS = 1 << 22, /* of a sample */
    QUERIES = 64,           /* rows of the sample whose neighbors in it are looked for */
    JUDGED = 256,           /* a sample of fewer says nothing */
    NEAREST = 10,           /* neighbors of a query ... */
    TAKEN = 20,             /* ... looked for among so many nearest by code ... */
    BLURRED_FOUND = 3,      /* ... where finding no more is little better than chance */
    BLURRED_MANY = QUERIES / 8,
    BLURRED_FEW = QUERIES / 16 /* once they were many */
};
static const double DRIFT = 0.1;      /* squared shift of the mean over the variance that calls for a new center */
static const double LARGE_DRIFT = 16; /* the same, that makes ev_compact link anew: codes were coarser than need be */
static const double LOST = 4096;      /* half of what 24 bits tell */
static const double FAR = 256;        /* squared: 16 times as far as a quarter of the rows is from each other */

typedef struct {
    size_t dim, count, queries;
    int64_t total; /* rows it stands for */
    float *rows;   /* count * dim, as the index holds them */
    float *mean;   /* of all */
    float *middle; /* of those that are not far off */
    float *least;  /* the shortest of the rows to be added, where has_least */
    bool has_least;
    bool apart;        /* do mean and middle differ? */
    double variance;   /* around the middle */
    double *exact;     /* dim: a row in double */
    double *distances; /* count, and as much room to select in */
    double *nearest;   /* per query: how far its NEAREST-th neighbor is */
    float *estimates;
    uint32_t *slots; /* 0, 1, .. */
    char *codes;
    ev__factor *factors;
    size_t bytes;
    void *memory;
} sample;

/* ---- taking it ------------------------------------------------------------------------------- */

static size_t layout_buffers(const ev__quantizer *q, sample *m, char *memory) {
    ev__arena a = {memory, 0};
    size_t n = m->count;
    m->rows = ev__arena_take(&a, n * m->dim * sizeof(float));
    m->mean = ev__arena_take(&a, m->dim * sizeof(float));
    m->middle = ev__arena_take(&a, m->dim * sizeof(float));
    m->least = ev__arena_take(&a, m->dim * sizeof(float));
    m->exact = ev__arena_take(&a, m->dim * sizeof(double));
    m->distances = ev__arena_take(&a, 2 * n * sizeof(double));
    m->nearest = ev__arena_take(&a, QUERIES * sizeof(double));
    m->estimates = ev__arena_take(&a, n * sizeof(float));
    m->slots = ev__arena_take(&a, n * sizeof(uint32_t));
    m->codes = ev__arena_take(&a, n * q->code_bytes);
    m->factors = ev__arena_take(&a, n * sizeof(ev__factor));
    return a.used;
}

static void size_sample(const ev__quantizer *q, sample *m) {
    size_t most = MOST_NUMBERS / q->dim < SAMPLE ? MOST_NUMBERS / q->dim : SAMPLE;
    m->dim = q->dim;
    m->count = m->total < (int64_t)most ? (size_t)m->total : most;
    m->queries = m->count < QUERIES ? m->count : QUERIES;
    m->bytes = layout_buffers(q, m, NULL);
}

static int make_sample(const ev__quantizer *q, sample *m) {
    size_sample(q, m);
    m->memory = ev__alloc_zero(m->bytes, EV_LINE);
    if (!m->memory) return ev__fail(EV_E_NOMEM, "a sample of %zu vectors", m->count);
    layout_buffers(q, m, m->memory);
    return EV_OK;
}

static void free_sample(sample *m) { ev__release(m->memory, m->bytes, EV_LINE); }

/* The i-th of the sample: somewhere, always the same, in the i-th of as many equal parts. */
static int64_t place_in(const sample *m, size_t i) {
    uint64_t total = (uint64_t)m->total, count = m->count;
    return (int64_t)((i * total + (total > count ? ev__mix(i) % total : 0)) / count);
}

/* Vectors, with those that are staged. */
static int64_t all_held(const ev_index *ix) { return ix->graph.store.live + ev__staged(ix); }

/* The next one's slot, those that are staged last; *at: 0 first. */
static uint32_t next_held(const ev_index *ix, size_t *at) {
    const ev__store *store = &ix->graph.store;
    size_t slots = ev__slots(store);
    while (*at < slots && !ev__alive(store, (uint32_t)*at)) ++*at;
    size_t found = (*at)++;
    return found < slots ? (uint32_t)found : ev__staged_slot(ix, (int64_t)(found - slots));
}

/* Of n rows, then of what is held. */
static void draw(const ev_index *ix, sample *m, int64_t n, const float *rows, ev__scratch *s) {
    const ev__store *store = &ix->graph.store;
    int64_t at = n;
    size_t i = 0, next = 0;
    for (; i < m->count && place_in(m, i) < n; i++) {
        const float *row = ev__unit(&store->quantizer, rows + (size_t)place_in(m, i) * m->dim, s->work.unit);
        memcpy(m->rows + i * m->dim, row, m->dim * sizeof *row);
    }
    while (i < m->count) {
        uint32_t slot = next_held(ix, &next);
        if (at++ < place_in(m, i)) continue;
        const float *row = ev__vector_read(store, slot, s->work.unit, &s->work);
        memcpy(m->rows + i++ * m->dim, row, m->dim * sizeof *row);
    }
    for (i = 0; i < m->count; i++) m->slots[i] = (uint32_t)i;
}

/* ---- the middle of it ------------------------------------------------------------------------ */

static const float *row_of(const sample *m, size_t i) { return m->rows + i * m->dim; }
static size_t query_at(const sample *m, size_t p) { return p * m->count / m->queries; }

/* The k-th smallest, from 0; v is put into another order. */
static double kth_of(double *v, size_t n, size_t k) {
    for (size_t from = 0, to = n; to - from > 1;) {
        double pivot = v[from + (to - from - 1) / 2]; /* not the last: both parts are shorter */
        size_t i = from, j = to - 1;
        for (;; i++, j--) {
            while (v[i] < pivot) i++;
            while (pivot < v[j]) j--;
            if (i >= j) break;
            double x = v[i];
            v[i] = v[j];
            v[j] = x;
        }
        if (k <= j)
            to = j + 1;
        else
            from = j + 1;
    }
    return v[k];
}

static double select_distance(const sample *m, size_t k) {
    double *copy = m->distances + m->count;
    memcpy(copy, m->distances, m->count * sizeof *copy);
    return kth_of(copy, m->count, k);
}

/* Squared distances of all rows from one, into m->distances. */
static void distances_from(const sample *m, const float *row) {
    for (size_t i = 0; i < m->dim; i++) m->exact[i] = (double)row[i];
    for (size_t i = 0; i < m->count; i++) m->distances[i] = ev__l2_fixed(m->exact, row_of(m, i), m->dim);
}

/* The mean of the rows whose key is at most `far`; returns how many. */
static size_t mean_within(const sample *m, double far, float *mean) {
    size_t count = 0;
    double *sum = m->exact;
    memset(sum, 0, m->dim * sizeof *sum);
    for (size_t i = 0; i < m->count; i++) {
        if (!(m->distances[i] <= far)) continue;
        for (size_t j = 0; j < m->dim; j++) sum[j] += (double)row_of(m, i)[j];
        count++;
    }
    for (size_t j = 0; j < m->dim; j++) mean[j] = (float)(sum[j] / (double)count);
    return count;
}

/* Of the queries the one with a quarter of the rows around it at the least distance; the middle is the mean of what is
 * not far off from it, as seen by that distance. */
static void find_middle(sample *m) {
    size_t quarter = m->count < 8 ? m->count > 1 : m->count / 4, densest = 0;
    double least = INFINITY;
    for (size_t p = 0; p < m->queries && (p == 0 || !ev__is_to_stop()); p++) {
        distances_from(m, row_of(m, query_at(m, p)));
        double reach = select_distance(m, quarter); /* the 0-th is the query itself */
        if (reach >= least) continue;
        least = reach;
        densest = query_at(m, p);
    }
    distances_from(m, row_of(m, densest));
    mean_within(m, INFINITY, m->mean);
    double far = FAR * least;
    size_t within = mean_within(m, far, m->middle), i;
    m->apart = within < m->count;
    double *kept = m->distances + m->count, sum = 0;
    memcpy(kept, m->distances, m->count * sizeof *kept);
    distances_from(m, m->middle);
    for (i = 0; i < m->count; i++)
        if (kept[i] <= far) sum += m->distances[i];
    m->variance = sum / (double)within;
}

/* How far from a center half of the rows are. */
static double median_from(const sample *m, const float *center) {
    distances_from(m, center);
    return select_distance(m, m->count / 2);
}

/* ---- do codes tell them apart? --------------------------------------------------------------- */

/* What comparisons with a query go by, in double, into m->distances. */
static void true_distances(const ev__quantizer *q, const sample *m, size_t query) {
    if (!q->metric->product)
        distances_from(m, row_of(m, query));
    else
        for (size_t i = 0; i < m->count; i++) m->distances[i] = -ev__dot_fixed(row_of(m, query), row_of(m, i), m->dim);
    m->distances[query] = INFINITY;
}

static void find_nearest(const ev__quantizer *q, const sample *m) {
    for (size_t p = 0; p < m->queries && !ev__is_to_stop(); p++) {
        true_distances(q, m, query_at(m, p));
        m->nearest[p] = select_distance(m, NEAREST - 1);
    }
}

/* How many of a query's nearest are among those nearest by m->estimates. */
static size_t found_by(const ev__quantizer *q, const sample *m, size_t p) {
    size_t query = query_at(m, p), taken = 0, found = 0;
    for (size_t i = 0; i < m->count; i++) m->distances[i] = i == query ? INFINITY : (double)m->estimates[i];
    double bound = select_distance(m, TAKEN - 1);
    for (size_t i = 0; i < m->count; i++) taken += m->distances[i] < bound;
    true_distances(q, m, query);
    for (size_t i = 0; i < m->count; i++) {
        double estimate = (double)m->estimates[i];
        if (i == query || estimate > bound || (estimate == bound && taken++ >= TAKEN)) continue;
        found += m->distances[i] <= m->nearest[p];
    }
    return found < NEAREST ? found : NEAREST;
}

/* With codes around this center, or with float32 distances where it is NULL: of how many queries the neighbors are not
 * to be told from other rows. *all: how many neighbors were found in all. */
static size_t count_blurred(const ev__quantizer *held, const sample *m, float *center, size_t *all, ev__workspace *w) {
    ev__quantizer view = *held, *q = &view; /* others may be searching the index */
    size_t row_bytes = m->dim * sizeof(float), blurred = 0;
    ev__space space = {.kind = &ev__f32_rows, .rows = (const char *)m->rows, .stride = row_bytes, .bytes = row_bytes};
    *all = 0;
    if (center) {
        q->center = center;
        q->walk = EV_WALK_CODES;
        for (size_t i = 0; i < m->count; i++)
            q->codec->encode(q, row_of(m, i), m->codes + i * q->code_bytes, &m->factors[i], NULL, w);
        space = (ev__space){.kind = q->codec->rows,
                            .rows = m->codes,
                            .stride = q->code_bytes,
                            .bytes = q->code_bytes,
                            .factors = m->factors};
    }
    for (size_t p = 0; p < m->queries && !ev__is_to_stop(); p++) {
        const float *row = row_of(m, query_at(m, p));
        ev__query query = {.data = row, .scale = 1, .gain = 1};
        if (center) ev__query_init(q, row, &query, w);
        ev__approx_distances(q, &space, &query, m->slots, m->count, m->estimates, w);
        size_t found = found_by(q, m, p);
        *all += found;
        blurred += found <= BLURRED_FOUND;
    }
    return blurred;
}

/* With so many blurred queries. */
static int32_t choose_walk(const ev__quantizer *q, const sample *m, size_t blurred, ev__workspace *w) {
    size_t all;
    bool quantized = q->quantization != EV_QUANT_NONE;
    if (quantized && blurred < (q->walk == EV_WALK_CODES ? BLURRED_MANY : BLURRED_FEW)) return EV_WALK_CODES;
    if (!q->keep_vectors) return EV_WALK_BLURRED;
    if (count_blurred(q, m, NULL, &all, w) >= BLURRED_MANY) return EV_WALK_SCAN;
    return quantized ? EV_WALK_FLOATS : EV_WALK_CODES;
}

/* Of the mean of all and that of those not far off: the one around which codes find more neighbors, or the one that
 * more rows are near to. */
static float *middle_or_mean(const ev__quantizer *q, const sample *m, ev__workspace *w) {
    if (!m->apart) return m->mean;
    if (m->count >= JUDGED) {
        size_t with_mean, with_middle, slack = NEAREST * m->queries / 50;
        count_blurred(q, m, m->mean, &with_mean, w);
        count_blurred(q, m, m->middle, &with_middle, w);
        if (with_mean > with_middle + slack) return m->mean;
        if (with_middle > with_mean + slack) return m->middle;
    }
    return median_from(m, m->middle) <= median_from(m, m->mean) ? m->middle : m->mean;
}

/* Beside the length of the center, is this so short that what codes and their refinement round off is much of it? */
static bool is_lost(const ev__quantizer *q, const float *center, double length) {
    return length > 0 && sqrt(ev__norm2(center, q->dim)) > LOST * length;
}

/* Where vectors are kept by their codes alone, and some would be lost: the shortest, if the others bear it. */
static float *choose_center(const ev__quantizer *q, sample *m, ev__workspace *w) {
    float *center = middle_or_mean(q, m, w);
    size_t all;
    if (!m->has_least || !is_lost(q, center, sqrt(ev__norm2(m->least, m->dim)))) return center;
    if (m->count >= JUDGED ? count_blurred(q, m, m->least, &all, w) >= BLURRED_MANY
                           : median_from(m, m->least) > 16 * median_from(m, center))
        return center;
    return m->least;
}

/* ---- learning -------------------------------------------------------------------------------- */

/* By more than so much, squared, over the variance. */
static bool has_moved(const ev__quantizer *q, const sample *m, const float *center, double far) {
    double shift = 0;
    for (size_t i = 0; i < m->dim; i++) {
        double off = (double)center[i] - (double)q->center[i];
        shift += off * off;
    }
    return shift > far * m->variance;
}

static bool is_young(const ev_index *ix, int64_t n) {
    return ix->trained_on == 0 || (ix->trained_on < STABLE_COUNT && all_held(ix) + n >= 4 * ix->trained_on);
}

/* With the n rows that come now, by so many since it was looked at. */
static bool has_grown(const ev_index *ix, int64_t n, int64_t since) {
    int64_t least = n > FEW ? LEAST_GROWTH : LEAST_GROWTH_SLOWLY, eighth = all_held(ix) / 8;
    return since + n >= (eighth > least ? eighth : least);
}

static bool signs_only(const ev__quantizer *q) { return !q->keep_vectors && q->codec->coarse; }

static bool due(const ev_index *ix, int64_t n) {
    const ev__quantizer *q = &ix->graph.store.quantizer;
    if (q->quantization == EV_QUANT_NONE) return has_grown(ix, n, ix->fresh);
    if (signs_only(q) && ix->trained_on) return false; /* signs cannot be encoded twice */
    if (ix->graph.store.shadow) return false;          /* under way */
    return is_young(ix, n) || has_grown(ix, n, ix->unchecked);
}

/* For n rows that `call` adds; or for none, of what is held. */
typedef struct {
    ev_index *ix;
    int64_t n;
    int threads;
    ev__scratch *s;
    ev__old_codes *old;
    ev__call *call;
    bool young;
    bool may_wait; /* what is to be encoded anew may be shared out among additions to come */
} lesson;

/* The codes are to lie around another center from now on, or after some additions more. */
static int move_to(lesson *l, const sample *m, const float *center, bool was_blurred) {
    ev_index *ix = l->ix;
    if (l->may_wait && !was_blurred && ev__shadow_begin(&ix->graph.store, center) == EV_OK) return EV_OK;
    if (l->call) ev__pause(l->call);
    int rc = ev__old_codes_keep(l->old, ix);
    if (l->call) ev__resume(l->call);
    if (rc == EV_OK) rc = ev__encode_anew(ix, center, l->threads, l->old->slots != 0, l->call);
    if (rc == EV_E_MEMORY_LIMIT && ix->trained_on) { /* nothing has changed; it is looked at again with more rows */
        ev__old_codes_free(l->old);
        return EV_OK;
    }
    if (rc != EV_OK) return rc;
    ix->trained_on = m->total;
    ix->trainings++;
    return EV_OK;
}

/* Learn from the sample where that is called for, and judge. */
static int learn(lesson *l, sample *m) {
    ev_index *ix = l->ix;
    ev__store *store = &ix->graph.store;
    ev__quantizer *q = &store->quantizer;
    ev__workspace *w = &l->s->work;
    bool judged = m->count >= JUDGED, was_blurred = q->walk != EV_WALK_CODES, quantized = q->center != NULL;
    size_t all, blurred = 0;
    if (!q->keep_vectors && (int64_t)m->count > l->n) judged = false; /* what is held is no more than its codes */
    if (judged) find_nearest(q, m);
    if (quantized) {
        find_middle(m);
        const float *center = choose_center(q, m, w);
        if (l->young || has_moved(q, m, center, DRIFT)) {
            if (l->n == 0) was_blurred |= has_moved(q, m, center, LARGE_DRIFT);
            if (judged && all_held(ix)) was_blurred |= count_blurred(q, m, q->center, &all, w) >= BLURRED_MANY;
            if (ev__is_to_stop()) return ev__stopped();
            int rc = move_to(l, m, center, was_blurred);
            if (rc != EV_OK || store->shadow) return rc;
        }
        if (judged) blurred = count_blurred(q, m, q->center, &all, w);
    }
    int32_t walk = judged ? choose_walk(q, m, blurred, w) : q->walk;
    if (ev__is_to_stop()) return ev__stopped();
    bool kept = walk == EV_WALK_CODES ? !was_blurred : walk == q->walk || walk == EV_WALK_SCAN;
    if (kept || all_held(ix) == 0 || !q->keep_vectors) {
        if (walk != q->walk) ev__duplicates_free(store); /* it goes by what is walked on */
        q->walk = walk;
        return EV_OK;
    }
    ix->looked += all_held(ix);
    return ev__link_anew(ix, walk, l->threads);
}

/* shortest: of the rows, or NULL. */
static int look(lesson *l, const float *rows, const float *shortest) {
    ev_index *ix = l->ix;
    sample m = {.total = l->n + all_held(ix), .has_least = shortest != NULL};
    int rc = make_sample(&ix->graph.store.quantizer, &m);
    if (rc != EV_OK) return rc;
    if (shortest) memcpy(m.least, shortest, m.dim * sizeof *shortest);
    int64_t faults = ev__paged_faults(&ix->graph.store);
    draw(ix, &m, l->n, rows, l->s);
    ix->looked += (int64_t)m.count;
    rc = ev__paged_trouble(&ix->graph.store, faults);
    if (rc == EV_OK) rc = learn(l, &m);
    free_sample(&m);
    /* with a shadow copy it is looked at again when that has taken its place, or could not */
    if (rc == EV_OK && !ix->graph.store.shadow) ix->unchecked = ix->fresh = 0;
    return rc;
}

void ev__note_length(ev_index *ix, const float *row) {
    ev__quantizer *q = &ix->graph.store.quantizer;
    if (q->quantization != EV_QUANT_NONE || !q->metric->product) return;
    double length = sqrt(ev__norm2(row, q->dim));
    if (length > q->longest) q->longest = length;
}

/* The shortest that is not 0, and its length; NULL where no vector can be lost to its code. */
static const float *shortest_of(const ev_index *ix, int64_t n, const float *rows, double *length) {
    const float *shortest = NULL;
    *length = INFINITY;
    if (!ix->graph.store.quantizer.center || ix->graph.store.quantizer.codec->coarse ||
        ix->graph.store.quantizer.keep_vectors == EV_VECTORS_FLOAT32 || ix->graph.store.quantizer.metric->unit)
        return NULL;
    for (int64_t i = 0; i < n && !ev__is_to_stop_at((size_t)i); i++) {
        double norm2 = ev__norm2(rows + (size_t)i * ix->graph.store.quantizer.dim, ix->graph.store.quantizer.dim);
        if (norm2 == 0 || !(norm2 < *length)) continue;
        *length = norm2;
        shortest = rows + (size_t)i * ix->graph.store.quantizer.dim;
    }
    *length = sqrt(*length);
    return shortest;
}

size_t ev__train_bytes(const ev_index *ix, int64_t n) {
    sample m = {.total = n + all_held(ix)};
    if (!due(ix, n)) return 0;
    size_sample(&ix->graph.store.quantizer, &m);
    return ev__block_bytes(m.bytes);
}

int ev__train(ev_index *ix, int64_t n, const float *rows, int threads, ev__scratch *s, ev__old_codes *old,
              ev__call *call) {
    ev__quantizer *q = &ix->graph.store.quantizer;
    double length;
    for (int64_t i = 0; i < n; i++) {
        ev__note_length(ix, rows + (size_t)i * q->dim);
        if (ev__is_to_stop_at((size_t)i)) return ev__stopped();
    }
    const float *shortest = shortest_of(ix, n, rows, &length);
    if (ev__is_to_stop()) return ev__stopped();
    bool tried = ix->unfit > 0 && length > ix->unfit / 2;
    bool lost = ix->trained_on && shortest && !tried && is_lost(q, q->center, length);
    if (n == 0 || (!lost && !due(ix, n))) {
        *(q->center ? &ix->unchecked : &ix->fresh) += n;
        return EV_OK;
    }
    lesson l = {ix, n, threads, s, old, call, .young = is_young(ix, n)};
    l.may_wait = !lost && n <= FEW && ev__slots(&ix->graph.store) > SOON;
    int rc = look(&l, rows, shortest);
    if (rc == EV_OK && shortest && is_lost(q, q->center, length)) ix->unfit = length;
    return rc;
}

int ev__train_again(ev_index *ix, ev__scratch *s, ev__old_codes *old, ev__call *call) {
    if (ix->graph.store.live == 0 || signs_only(&ix->graph.store.quantizer)) return EV_OK;
    lesson l = {.ix = ix, .s = s, .old = old, .call = call};
    return look(&l, NULL, NULL);
}

int ev__judge(ev_index *ix, int32_t *walk, ev__scratch *s) {
    ev__quantizer *q = &ix->graph.store.quantizer;
    sample m = {.total = ix->graph.store.live};
    *walk = q->walk;
    if (ix->graph.store.live < JUDGED || !q->keep_vectors) return EV_OK;
    int rc = make_sample(q, &m);
    if (rc != EV_OK) return rc;
    size_t all, blurred = 0;
    draw(ix, &m, 0, NULL, s);
    if (m.count >= JUDGED) {
        find_nearest(q, &m);
        if (q->center) blurred = count_blurred(q, &m, q->center, &all, &s->work);
        *walk = choose_walk(q, &m, blurred, &s->work);
    }
    free_sample(&m);
    return ev__is_to_stop() ? ev__stopped() : EV_OK;
}

int ev__prefilter_all(ev_index *ix) {
    ev__store *store = &ix->graph.store;
    ev__scratch *s;
    if (!ev__prefilters(&store->quantizer)) return EV_OK;
    int rc = ev__scratch_borrow(&ix->graph, &s);
    if (rc != EV_OK) return rc;
    rc = ev__array_resize(&store->columns.prefilter, ev__slots(store));
    if (rc != EV_OK) rc = ev__fail(rc, "sign codes of %zu slots", ev__slots(store));
    for (size_t slot = 0; rc == EV_OK && slot < ev__slots(store); slot++)
        if (ev__is_to_stop_at(slot))
            rc = ev__stopped();
        else if (ev__state(store, (uint32_t)slot) != EV_FREE)
            ev__prefilter_write(store, (uint32_t)slot, &s->work);
    ev__scratch_return(&ix->graph, s);
    return rc;
}
