/* From candidates to results: exact distances, in their true order. */
#include "index/search.h"

#include <math.h>

enum {
    RERANK_FACTOR = 2, /* of an sq8 walk, the best 2 k + 16 hold the k nearest: codes err by about 1% of a distance */
    RERANK_MARGIN = 16,
    RERANK_BATCH = 4, /* of those, so many at a time */
    Z_SCORE = 4       /* standard deviations */
};

static bool before(const ev__store *store, const ev__result *a, const ev__result *b) {
    if (a->distance != b->distance) return a->distance < b->distance;
    return ev__ids_of(store)[a->slot] < ev__ids_of(store)[b->slot];
}

/* Does the order of two belongs to what float32 sums have rounded off? */
static bool unclear(const ev__result *a, const ev__result *b) {
    double error = a->error + b->error;
    return error > 0 && fabs(a->distance - b->distance) <= error;
}

/* Where it belongs. What cannot be told apart from its neighbors there is summed in double first, and they are too:
 * all that is in the list is in its true order. */
static size_t place_of(ev__reranker *r, ev__result *new) {
    const ev_index *ix = r->b->ix;
    ev__results *list = &r->s->results;
    for (;;) {
        size_t from = 0, to = list->count;
        while (from < to) {
            size_t middle = (from + to) / 2;
            if (before(&ix->graph.store, &list->at[middle], new))
                from = middle + 1;
            else
                to = middle;
        }
        ev__result *left = from ? &list->at[from - 1] : NULL, *right = from < list->count ? &list->at[from] : NULL;
        ev__result *other = left && unclear(left, new) ? left : right && unclear(right, new) ? right : NULL;
        if (!other) return from;
        ev__exact_in_double(&ix->graph.store, new->error > 0 ? new : other, &r->s->work);
    }
}

double ev__rerank_bound(const ev__reranker *r) {
    const ev__results *list = &r->s->results;
    const ev__result *last = &list->at[r->b->k - 1];
    double bound = list->count == r->b->k ? last->distance + last->error : INFINITY;
    return bound < r->limit ? bound : r->limit;
}

static void insert(ev__reranker *r, ev__result new) {
    ev__results *list = &r->s->results;
    size_t k = r->b->k, place = place_of(r, &new);
    if (place == k) return;
    size_t tail = (list->count < k ? list->count++ : k - 1) - place;
    ev__move_up(list->at + place, tail * sizeof *list->at, sizeof *list->at);
    list->at[place] = new;
}

void ev__rerank_flush(ev__reranker *r) {
    ev__result results[EV_SCAN_BATCH];
    size_t n = ev__exact_distances(&r->b->ix->graph.store, r->query, r->slots, r->count, ev__rerank_bound(r), results,
                                   &r->s->work);
    for (size_t i = 0; i < n; i++)
        if (results[i].distance - results[i].error <= ev__rerank_bound(r)) insert(r, results[i]);
    r->s->stats.reranked += (int64_t)r->count;
    r->count = 0;
}

static void rank(ev__reranker *r, uint32_t slot) {
    if (slot == r->excluded) return;
    r->slots[r->count++] = slot;
    if (r->count == EV_SCAN_BATCH) ev__rerank_flush(r);
}

/* A node and its duplicates. Of duplicates equal to the last bit k are enough. */
static void rank_node(ev__reranker *r, uint32_t node) {
    const ev_index *ix = r->b->ix;
    size_t duplicates = 0;
    for (ev__chain at = ev__chain_from(node); at.slot != EV_NONE; ev__chain_step(&ix->graph.store, &at)) {
        uint32_t slot = at.slot;
        if (!ev__slot_ok(&ix->graph.store, &r->b->mask, slot)) continue;
        if ((ev__states(&ix->graph.store)[slot] & EV_SAME_VECTOR) && duplicates++ >= r->b->k) continue;
        rank(r, slot);
    }
}

/* Can a candidate of a walk on floats or 8-bit codes still be among the k nearest? Its distance is known to within the
 * rounding of sums, or of both codes; where it is further than the k-th by more than that, so are all behind it. */
static bool may_enter(const ev__reranker *r, ev__candidate candidate) {
    const ev_index *ix = r->b->ix;
    const ev__query *p = r->query;
    const ev__results *results = &r->s->results;
    if (results->count < r->b->k) return true;
    const ev__result *last = &results->at[r->b->k - 1];
    bool ip = ix->graph.store.quantizer.metric->product;
    if (!ev__searches_codes(&ix->graph.store.quantizer)) {
        double distance = (double)p->gain * (double)candidate.distance -
                          (ip && ix->graph.store.quantizer.codec->refined ? r->s->work.against : 0);
        return distance - ev__exact_error(&ix->graph.store, candidate.slot, distance, &r->s->work) <=
               last->distance + last->error;
    }
    if (ip) return true; /* codes do not tell lengths */
    ev__factor factor = ((const ev__factor *)(const void *)ix->graph.store.columns.factors.at)[candidate.slot];
    float query2 = p->offset / p->gain, scale = p->scale / 2; /* the query's squared length and the scale of its code */
    float variance = (query2 * factor.scale * factor.scale + factor.bias * scale * scale) / 12; /* of rounding */
    float nearest = p->offset + p->gain * (candidate.distance - Z_SCORE * 2 * sqrtf(variance));
    return nearest < last->distance + last->error;
}

/* The slots that rank_node, or rank, takes of a candidate, behind those that are there; false: they do not fit. Of one
 * alone the first. */
static bool gather(const ev__reranker *r, bool nodes, uint32_t node, uint32_t *slots, size_t *n) {
    const ev__store *store = &r->b->ix->graph.store;
    size_t before = *n;
    for (ev__chain at = ev__chain_from(node); at.slot != EV_NONE; ev__chain_step(store, &at)) {
        bool wanted = at.slot != r->excluded && ev__slot_ok(store, &r->b->mask, at.slot);
        if (wanted && *n == ev__paged_room(store)) {
            if (before) *n = before;
            return false;
        }
        if (wanted) slots[(*n)++] = at.slot;
        if (!nodes) break;
    }
    return true;
}

/* Where vectors lie on disk: those of candidates from `from` to `next` where all of them are cached, as they are when
 * nothing has to be waited for; else as many up to `most` as can be at hand, which the disk then fetches in one go.
 * Returns the first whose are not. */
static size_t fetch_ahead(const ev__reranker *r, bool nodes, size_t from, size_t next, size_t most) {
    const ev__store *store = &r->b->ix->graph.store;
    uint32_t slots[EV_SCAN_BATCH] = {0};
    size_t n = 0, i = from;
    while (i < next && gather(r, nodes, r->s->candidates.at[i].slot, slots, &n)) i++;
    if (!ev__paged_fetch_cached(store, slots, n, &r->s->work)) {
        while (i == next && i < most && gather(r, nodes, r->s->candidates.at[i].slot, slots, &n)) next = ++i;
        ev__paged_fetch(store, slots, n, &r->s->work);
    }
    return i > from ? i : from + 1;
}

/* The candidates of a walk or scan -> s->results. */
void ev__rerank_candidates(ev__reranker *r, bool nodes) {
    const ev_index *ix = r->b->ix;
    ev__candidates *candidates = &r->s->candidates;
    size_t most = candidates->count;
    bool by_floats = !ev__searches_codes(&ix->graph.store.quantizer),
         by_bytes = !by_floats && !ix->graph.store.quantizer.codec->coarse;
    for (size_t i = 0; i < most && i < r->b->k; i++) EV_PREFETCH(ev__ids_of(&ix->graph.store) + candidates->at[i].slot);
    if (by_bytes && most > RERANK_FACTOR * r->b->k + RERANK_MARGIN) most = RERANK_FACTOR * r->b->k + RERANK_MARGIN;
    for (size_t i = 0, asked = 0, ahead = 0; i < most; i++) {
        if (EV_UNLIKELY(i % 1024 == 1023) && ev__search_is_to_stop(r->b)) break;
        for (size_t ahead = (i < r->b->k ? r->b->k : i) + RERANK_BATCH; asked < most && asked < ahead; asked++)
            ev__exact_prefetch(&ix->graph.store, candidates->at[asked].slot);
        if ((by_bytes || by_floats) && i >= r->b->k && (i - r->b->k) % RERANK_BATCH == 0) {
            ev__rerank_flush(r);
            if (!may_enter(r, candidates->at[i])) break;
        }
        if (ix->graph.store.paged && i == ahead) {
            if (r->count) ev__rerank_flush(r);
            size_t run = !(by_bytes || by_floats) ? most : i < r->b->k ? r->b->k - i : RERANK_BATCH;
            ahead = fetch_ahead(r, nodes, i, run < most - i ? i + run : most, most);
        }
        if (nodes)
            rank_node(r, candidates->at[i].slot);
        else
            rank(r, candidates->at[i].slot);
    }
    ev__rerank_flush(r);
}

/* What is clear is shown as float32 has summed it, unless it is so small a distance that it has few digits so. Under ip
 * rounding goes by the vectors' lengths, of which a product may always be a small part. */
static bool shows_its_error(const ev__quantizer *q, const ev__result *result) {
    if (q->metric->product) return false;
    return result->error > (5e-6 + 1e-8 * (double)q->dim) * fabs(result->distance);
}

void ev__rerank_write(const ev__search_call *b, ev__scratch *s, int64_t row) {
    ev__results *results = &s->results;
    int64_t *ids = b->ids + (size_t)row * b->k;
    float *distances = b->distances + (size_t)row * b->k;
    for (size_t i = 0; i < b->k; i++) {
        bool found = i < results->count;
        if (found && shows_its_error(&b->ix->graph.store.quantizer, &results->at[i]))
            ev__exact_in_double(&b->ix->graph.store, &results->at[i], &s->work);
        ids[i] = found ? ev__ids_of(&b->ix->graph.store)[results->at[i].slot] : -1;
        distances[i] = found ? ev__exact_shown(&b->ix->graph.store, &results->at[i]) : INFINITY;
    }
}
