/* Best first, some nodes a round: their blocks are read at once, which tell their true distances and, by the codes of
 * their neighbors, which to read next. Results are ranked by true distances alone. */
#include "disk/scratch.h"

#include <math.h>
#include <stdlib.h>

enum {
    BEAM = 4,
    STARTS = 8,      /* of the entries, the nearest so many */
    LONGEST = 16384, /* list of a walk behind a filter; beyond it what is allowed is read and compared */
    BLOCKS = 16,     /* read at once, at least, where few are allowed */
    WALK_COST = 2    /* of a node that is met on a walk, in those that are read in the order of the file */
};

/* Of the squared distance from the center: where the query is nearer to a node, rounding its code to 4 bits takes more
 * than the 1-bit codes of neighbors do. */
static const float NEAR = 0.1f;

/* ---- the walk -------------------------------------------------------------------------------- */

static float shown(const ev__quantizer *q, double distance) {
    if (q->metric->product) return (float)(1 + distance);
    return distance <= (q->metric->unit ? 1e-14 : 0) ? 0.0f : (float)distance;
}

/* No further than this may be worth reading. */
static float worst(const ev__disk_scratch *s, size_t limit) {
    return s->count < limit ? INFINITY : s->list[s->count - 1].distance;
}

static void put(ev__disk_scratch *s, size_t limit, float distance, uint32_t number) {
    size_t from = 0, to = s->count;
    while (from < to) {
        size_t middle = (from + to) / 2;
        if (s->list[middle].distance < distance)
            from = middle + 1;
        else
            to = middle;
    }
    size_t tail = (s->count < limit ? s->count++ : limit - 1) - from;
    ev__move_up(s->list + from, tail * sizeof *s->list, sizeof *s->list);
    s->list[from] = (ev__disk_met){distance, number, false};
}

static void meet(ev__disk_scratch *s, size_t limit, float distance, uint32_t number) {
    if (distance < worst(s, limit) && ev__visit(&s->visited, number)) put(s, limit, distance, number);
}

/* The nearest entries, by their codes. */
static void begin(const ev__disk_call *c, const ev__query *query, ev__disk_scratch *s) {
    const ev_disk *d = c->d;
    const ev__quantizer *q = &d->quantizer;
    size_t limit = c->limit < STARTS ? c->limit : STARTS;
    s->count = 0;
    ev__visited_clear(&s->visited);
    for (size_t from = 0, n; from < d->header.entries; from += n) {
        n = d->header.entries - from < EV_BATCH ? d->header.entries - from : EV_BATCH;
        ev__space space = {.kind = q->codec->rows,
                           .rows = d->codes + from * q->code_bytes,
                           .stride = q->code_bytes,
                           .bytes = q->code_bytes,
                           .factors = d->factors + from};
        ev__approx_distances(q, &space, query, s->slots, n, s->distances, &s->work);
        for (size_t i = 0; i < n; i++) {
            float distance = query->offset + query->gain * s->distances[i];
            if (distance < worst(s, limit)) put(s, limit, distance, d->entries[from + i]);
        }
    }
    for (size_t i = 0; i < s->count; i++) ev__visit(&s->visited, s->list[i].number);
    s->estimates += d->header.entries;
}

/* The next nodes to read, in the order of the list: where they stand in it. */
static size_t pick(ev__disk_scratch *s, size_t beam, size_t *picked) {
    size_t n = 0;
    for (size_t i = 0; i < s->count && n < beam; i++) {
        if (s->list[i].read) continue;
        s->list[i].read = true;
        picked[n++] = i;
    }
    return n;
}

/* What was estimated is known now of some. */
static void sort(ev__disk_scratch *s) {
    for (size_t i = 1; i < s->count; i++) {
        ev__disk_met met = s->list[i];
        size_t at = i;
        for (; at && s->list[at - 1].distance > met.distance; at--) s->list[at] = s->list[at - 1];
        s->list[at] = met;
    }
}

/* The query around the node itself. Its code around the center stays. */
static void look_closely(const ev__disk_call *c, const char *block, ev__query *query, ev__space *space,
                         ev__disk_scratch *s) {
    const ev__disk_geometry *g = &c->d->geometry;
    const ev__disk_block *b = (const void *)block;
    const float *lengths = (const void *)(block + g->lengths);
    void *code = s->work.code;
    for (uint32_t i = 0; i < b->degree; i++) s->factors[i] = (ev__factor){space->factors[i].scale, lengths[i]};
    space->factors = s->factors;
    s->work.code = s->near;
    ev__disk_query(&c->d->quantizer, s->work.held, ev__disk_vector(b), query, &s->work);
    s->work.code = code;
}

static void look_around(const ev__disk_call *c, const ev__query *query, const char *block, float known,
                        ev__disk_scratch *s) {
    const ev__quantizer *q = &c->d->quantizer;
    const ev__disk_geometry *g = &c->d->geometry;
    const ev__disk_block *b = (const void *)block;
    const uint32_t *links = (const void *)(block + g->links);
    ev__query near;
    ev__space space = {.kind = q->codec->rows,
                       .rows = block + g->codes,
                       .stride = q->code_bytes,
                       .bytes = q->code_bytes,
                       .factors = (const void *)(block + g->factors)};
    if (!q->metric->product && known < NEAR * query->offset) {
        look_closely(c, block, &near, &space, s);
        query = &near;
    }
    ev__approx_distances(q, &space, query, s->slots, b->degree, s->distances, &s->work);
    s->estimates += b->degree;
    for (uint32_t i = 0; i < b->degree; i++) meet(s, c->limit, known + query->gain * s->distances[i], links[i]);
    if (b->variant != EV_NONE) meet(s, c->limit, known, b->variant);
}

static int walk(ev__disk_call *c, const ev__query *query, ev__disk_scratch *s) {
    const ev__quantizer *q = &c->d->quantizer;
    ev__disk_read reads[EV_DISK_AT_ONCE];
    size_t picked[EV_DISK_AT_ONCE];
    float known[EV_DISK_AT_ONCE];
    begin(c, query, s);
    for (size_t n; (n = pick(s, c->beam, picked)) != 0;) {
        if (ev__disk_is_to_stop(c)) return EV_OK;
        for (size_t i = 0; i < n; i++) reads[i] = (ev__disk_read){s->list[picked[i]].number, s->blocks + i * s->stride};
        int rc = ev__disk_fetch(&s->reader, reads, n);
        s->rounds++;
        for (size_t i = 0; rc == EV_OK && i < n; i++) {
            const ev__disk_block *b = (const void *)reads[i].at;
            double distance = ev__disk_distance(c, b, s);
            s->list[picked[i]].distance = known[i] = shown(q, distance);
            rc = ev__disk_offer(c, b, distance, s);
        }
        if (rc != EV_OK) return rc;
        sort(s);
        for (size_t i = 0; i < n; i++) look_around(c, query, reads[i].at, known[i], s);
    }
    return EV_OK;
}

/* ---- one query ------------------------------------------------------------------------------- */

static void write_out(const ev__disk_call *c, int64_t row, const ev__disk_scratch *s) {
    int64_t *ids = c->ids + (size_t)row * c->k;
    float *distances = c->distances + (size_t)row * c->k;
    for (size_t i = 0; i < c->k; i++) {
        bool found = i < s->found;
        ids[i] = found ? s->results[i].id : -1;
        distances[i] = found ? shown(&c->d->quantizer, s->results[i].distance) : INFINITY;
    }
}

static int answer(ev__disk_call *c, int64_t row, ev__disk_scratch *s) {
    const ev__quantizer *q = &c->d->quantizer;
    const float *given = c->queries + (size_t)row * q->dim, *held = ev__unit(q, given, s->work.unit);
    int64_t least = (int64_t)c->k < c->matches ? (int64_t)c->k : c->matches;
    int rc = EV_OK;
    s->found = 0;
    ev__query_in_double(q, given, held, &s->work);
    if (c->matches) {
        bool scans = c->exact || c->few;
        if (!scans) {
            ev__query query;
            ev__disk_query(q, held, q->center, &query, &s->work);
            rc = walk(c, &query, s);
            scans = rc == EV_OK && (int64_t)s->found < least && !ev__disk_is_to_stop(c);
        }
        if (scans) rc = ev__disk_scan(c, s);
    }
    write_out(c, row, s);
    return rc;
}

/* ---- the call -------------------------------------------------------------------------------- */

/* What an error said belongs to the thread that met it. */
static void note_error(ev__disk_call *c, int rc) {
    ev__spin_lock(&c->lock);
    if (c->rc == EV_OK) {
        c->rc = rc;
        c->error = ev_error_errno();
        const char *detail = ev_error_detail();
        size_t n = strlen(detail), most = sizeof c->detail - 1;
        memcpy(c->detail, detail, n < most ? n : most);
    }
    ev__spin_unlock(&c->lock);
    ev__store32(&c->work.stopped, 1);
}

static void answer_all(void *arg, int worker) {
    ev__disk_call *c = arg;
    for (int64_t from, to; ev__work_next(&c->work, worker, &from, &to);)
        for (int64_t i = from; i < to; i++) {
            int rc = answer(c, i, c->scratches[worker]);
            if (rc == EV_OK) continue;
            note_error(c, rc);
            return;
        }
}

static int run(ev__disk_call *c, int64_t n, int32_t threads) {
    enum { MOST = sizeof c->scratches / sizeof *c->scratches };
    int64_t workers = threads ? threads : ev__cores();
    if (workers > n / 4 + 1) workers = n / 4 + 1;
    if (workers > MOST) workers = MOST;
    size_t blocks = c->beam > BLOCKS ? c->beam : BLOCKS;
    int rc = EV_OK, ready = 0;
    while (ready < workers && rc == EV_OK) {
        rc = ev__disk_scratch_borrow(c->d, blocks, c->limit, c->k, &c->scratches[ready]);
        ready += rc == EV_OK;
    }
    if (rc == EV_OK) {
        c->work = (ev__work){.total = n, .run = 4};
        ev__parallel((int)workers, answer_all, c);
        if (c->rc != EV_OK)
            rc = ev__fail_errno(c->rc, c->error, "%s", c->detail);
        else if (c->work.stopped)
            rc = ev__stopped();
    }
    for (int i = 0; i < ready; i++) ev__disk_scratch_return(c->d, c->scratches[i]);
    ev__add64(&c->d->stats.queries, n);
    return rc;
}

/* ---- filters --------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int fill_sorted(const ev_disk *d, int64_t n, const int64_t *ids, uint64_t *bits, int64_t *count) {
    ev__disk_reader reader = {.d = d};
    ev__disk_ids *page = ev__alloc(sizeof *page, EV_LINE);
    if (!page) return ev__fail(EV_E_NOMEM, "a page of ids");
    uint64_t loaded = UINT64_MAX;
    int rc = EV_OK;
    for (int64_t i = 0; i < n && rc == EV_OK; i++) {
        uint32_t number, rank;
        bool held;
        if (i && ids[i] == ids[i - 1]) continue;
        rc = ev__is_to_stop_at((size_t)i) ? ev__stopped()
                                          : ev__disk_find(&reader, ids[i], page, &loaded, &number, &rank, &held);
        if (rc != EV_OK || !held) continue;
        *count += 1;
        ev__bit_set(bits, rank);
    }
    ev__release(page, sizeof *page, EV_LINE);
    return rc;
}

static int fill(void *arg, int64_t n, const int64_t *ids, uint64_t *bits, int64_t *count) {
    bool sorted = true;
    for (int64_t i = 1; i < n && sorted; i++) sorted = ids[i - 1] <= ids[i];
    if (sorted) return fill_sorted(arg, n, ids, bits, count);
    size_t bytes = (size_t)n * sizeof *ids;
    int64_t *copy = ev__alloc(bytes, EV_LINE);
    if (!copy) return ev__fail(EV_E_NOMEM, "to sort %lld ids", (long long)n);
    memcpy(copy, ids, bytes);
    qsort(copy, (size_t)n, sizeof *copy, ascending);
    int rc = fill_sorted(arg, n, copy, bits, count);
    ev__release(copy, bytes, EV_LINE);
    return rc;
}

static int filter(ev__disk_call *c, ev_filter *f, void **hold) {
    ev_disk *d = c->d;
    ev__filtered over = {.serial = d->serial, .account = d->account, .words = (size_t)d->header.live / 64 + 1};
    over.fill = fill;
    over.arg = d;
    int rc = ev__filter_bits(f, &over, &c->allowed, &c->matches, hold);
    if (rc != EV_OK || !c->matches) return rc;
    /* a list in which about as many are allowed as there would be without */
    double wanted = (double)c->limit * (double)d->header.live / (double)c->matches;
    c->few = wanted > LONGEST || (double)c->matches <= WALK_COST * wanted;
    if (!c->few && wanted > (double)c->limit) c->limit = (size_t)wanted;
    return EV_OK;
}

/* ---- public ---------------------------------------------------------------------------------- */

static int check(const ev_disk *d, int64_t n, const float *queries, const ev_disk_search_params *p) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld queries", (long long)n);
    if (p->k < 1) return ev__fail(EV_E_PARAM, "k %d is not at least 1", p->k);
    if (p->ef < 0 || p->ef > 1000000) return ev__fail(EV_E_PARAM, "ef %d is not in 1..1000000", p->ef);
    if (p->beam < 0 || p->beam > EV_DISK_AT_ONCE)
        return ev__fail(EV_E_PARAM, "beam %d is not in 1..%d", p->beam, EV_DISK_AT_ONCE);
    if (p->threads < 0) return ev__fail(EV_E_PARAM, "threads %d", p->threads);
    return ev__check_rows(&d->quantizer, n, queries);
}

static int search(ev_disk *d, int64_t n, const ev_disk_search_params *p, ev__disk_call *c) {
    int32_t ef = p->ef ? p->ef : d->header.ef, walk = d->header.walk;
    c->k = (size_t)p->k;
    c->limit = ef > p->k ? (size_t)ef : (size_t)p->k;
    if (c->limit > d->header.nodes) c->limit = d->header.nodes ? d->header.nodes : 1;
    c->beam = p->beam ? (size_t)p->beam : BEAM;
    c->matches = d->header.live;
    c->exact = p->exact || walk == EV_WALK_SCAN;
    void *hold = NULL;
    int rc = p->filter ? filter(c, p->filter, &hold) : EV_OK;
    if (rc == EV_OK) rc = run(c, n, p->threads);
    if (hold) ev__filter_release(p->filter, hold);
    return rc;
}

int ev_disk_search(ev_disk *d, int64_t n, const float *queries, const ev_disk_search_params *p, int64_t *out_ids,
                   float *out_distances) {
    ev__account *was;
    int rc = ev__disk_enter(d, &was);
    if (rc != EV_OK) return rc;
    ev__disk_call c = {.d = d, .queries = queries, .ids = out_ids, .distances = out_distances};
    rc = check(d, n, queries, p);
    if (rc == EV_OK && n) rc = search(d, n, p, &c);
    ev__disk_leave(d, was);
    return rc == EV_OK ? ev__ok() : rc;
}
