/* Results, and searches that read every vector, or every one that a filter allows. */
#include "disk/scratch.h"

#include <stdlib.h>

double ev__disk_distance(const ev__disk_call *c, const ev__disk_block *b, const ev__disk_scratch *s) {
    const ev__quantizer *q = &c->d->quantizer;
    return q->metric->distance(&s->work, ev__disk_vector(b), q->dim);
}

/* ---- results --------------------------------------------------------------------------------- */

static bool before(const ev__disk_result *a, const ev__disk_result *b) {
    return a->distance != b->distance ? a->distance < b->distance : a->id < b->id;
}

static void insert(const ev__disk_call *c, ev__disk_scratch *s, double distance, int64_t id) {
    ev__disk_result new = {distance, id};
    if (!(distance == distance)) return;
    if (s->found == c->k && !before(&new, &s->results[c->k - 1])) return;
    size_t from = 0, to = s->found;
    while (from < to) {
        size_t middle = (from + to) / 2;
        if (before(&s->results[middle], &new))
            from = middle + 1;
        else
            to = middle;
    }
    size_t tail = (s->found < c->k ? s->found++ : c->k - 1) - from;
    ev__move_up(s->results + from, tail * sizeof *s->results, sizeof *s->results);
    s->results[from] = new;
}

static bool is_allowed(const ev__disk_call *c, uint32_t rank) { return !c->allowed || ev__bit(c->allowed, rank); }

/* They ascend, and all are equally far: k that are allowed are enough. */
static int offer_copies(const ev__disk_call *c, const ev__disk_block *b, double distance, ev__disk_scratch *s) {
    uint64_t loaded = UINT64_MAX;
    size_t taken = 0;
    for (uint64_t i = b->copies_at, end = b->copies_at + b->copies; i < end && taken < c->k; i++) {
        uint64_t page = i / EV_DISK_IDS;
        if (page != loaded) {
            int rc = ev__disk_page(&s->reader, EV_DISK_COPIES, page, s->ids);
            if (rc != EV_OK) return rc;
            loaded = page;
        }
        if (!is_allowed(c, s->ids->numbers[i % EV_DISK_IDS])) continue;
        insert(c, s, distance, s->ids->ids[i % EV_DISK_IDS]);
        taken++;
    }
    return EV_OK;
}

int ev__disk_offer(const ev__disk_call *c, const ev__disk_block *b, double distance, ev__disk_scratch *s) {
    if (s->found == c->k && distance > s->results[c->k - 1].distance) return EV_OK;
    if (b->rank != EV_NONE && is_allowed(c, b->rank)) insert(c, s, distance, b->id);
    return b->copies ? offer_copies(c, b, distance, s) : EV_OK;
}

/* ---- all ------------------------------------------------------------------------------------- */

static int scan_all(ev__disk_call *c, ev__disk_scratch *s) {
    const ev_disk *d = c->d;
    uint32_t nodes = d->header.nodes, each;
    int rc = ev__disk_scratch_run(s, d);
    ev__disk_run(d, &each);
    for (uint32_t from = 0, n; rc == EV_OK && from < nodes; from += n) {
        n = nodes - from < each ? nodes - from : each;
        if (ev__disk_is_to_stop(c)) return EV_OK;
        rc = ev__disk_fetch_run(&s->reader, from, n, s->run);
        s->rounds++;
        uint64_t start = ev__disk_place(&d->geometry, from);
        for (uint32_t i = 0; rc == EV_OK && i < n; i++) {
            const ev__disk_block *b = (const void *)(s->run + (ev__disk_place(&d->geometry, from + i) - start));
            rc = ev__disk_offer(c, b, ev__disk_distance(c, b, s), s);
        }
    }
    return rc;
}

/* ---- few ------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t number;
    int64_t id;
} match;

static int by_number(const void *a, const void *b) {
    uint32_t x = ((const match *)a)->number, y = ((const match *)b)->number;
    return (x > y) - (x < y);
}

/* In the order of the file, and each block once; of one block an id each. */
static int compare_matches(ev__disk_call *c, match *matches, size_t n, ev__disk_scratch *s) {
    ev__disk_read reads[EV_DISK_AT_ONCE];
    qsort(matches, n, sizeof *matches, by_number);
    for (size_t from = 0, to; from < n; from = to) {
        size_t m = 0;
        for (to = from; to < n && (m < s->room || matches[to].number == reads[m - 1].number); to++)
            if (!m || matches[to].number != reads[m - 1].number) {
                reads[m] = (ev__disk_read){matches[to].number, s->blocks + m * s->stride};
                m++;
            }
        if (ev__disk_is_to_stop(c)) return EV_OK;
        int rc = ev__disk_fetch(&s->reader, reads, m);
        if (rc != EV_OK) return rc;
        s->rounds++;
        double distance = 0;
        for (size_t i = from, at = 0; i < to; i++) {
            bool same = i > from && matches[i].number == matches[i - 1].number;
            if (!same) distance = ev__disk_distance(c, (const void *)reads[at++].at, s);
            insert(c, s, distance, matches[i].id);
        }
    }
    return EV_OK;
}

static int scan_matches(ev__disk_call *c, ev__disk_scratch *s) {
    match matches[EV_DISK_IDS];
    uint64_t pages = ev__disk_pages((uint64_t)c->d->header.live);
    for (uint64_t page = 0; page < pages && !ev__disk_is_to_stop(c); page++) {
        uint64_t first = page * EV_DISK_IDS, left = (uint64_t)c->d->header.live - first;
        size_t n = 0, ids = left < EV_DISK_IDS ? (size_t)left : EV_DISK_IDS;
        bool loaded = false;
        for (size_t i = 0; i < ids; i++) {
            if (!ev__bit(c->allowed, (uint32_t)(first + i))) continue;
            int rc = loaded ? EV_OK : ev__disk_page(&s->reader, EV_DISK_ID_PAGES, page, s->ids);
            if (rc != EV_OK) return rc;
            loaded = true;
            matches[n++] = (match){s->ids->numbers[i], s->ids->ids[i]};
        }
        int rc = compare_matches(c, matches, n, s);
        if (rc != EV_OK) return rc;
    }
    return EV_OK;
}

int ev__disk_scan(ev__disk_call *c, ev__disk_scratch *s) {
    s->found = 0;
    return c->allowed ? scan_matches(c, s) : scan_all(c, s);
}
