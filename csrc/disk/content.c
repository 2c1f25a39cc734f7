/* Which ids there are, their vectors, and whether all of the file is whole. */
#include "disk/disk.h"

#include <stdlib.h>

/* What these calls read with. */
typedef struct {
    ev__disk_reader reader;
    ev__disk_ids *page;
    char *run;
    size_t bytes;
    uint32_t each; /* blocks of a run */
} reading;

static int begin(ev_disk *d, reading *r) {
    *r = (reading){.reader.d = d};
    r->bytes = ev__disk_run(d, &r->each) + sizeof *r->page;
    char *memory = ev__alloc(r->bytes, EV_LINE);
    r->page = (ev__disk_ids *)(void *)memory;
    r->run = memory + sizeof *r->page;
    return memory ? EV_OK : ev__fail(EV_E_NOMEM, "to read a graph on disk");
}

static void end(ev_disk *d, reading *r) {
    ev__add64(&d->stats.reads, r->reader.reads);
    ev__add64(&d->stats.bytes_read, r->reader.bytes);
    ev__release(r->page, r->bytes, EV_LINE);
}

/* ---- get ------------------------------------------------------------------------------------- */

typedef struct {
    int64_t id;
    int64_t row;
} wanted;

static int by_id(const void *a, const void *b) {
    int64_t x = ((const wanted *)a)->id, y = ((const wanted *)b)->id;
    return (x > y) - (x < y);
}

/* Some at a time, in the order of ids, so that a page is read once. */
static int get_some(reading *r, const int64_t *ids, size_t n, int64_t first, float *out) {
    const ev_disk *d = r->reader.d;
    size_t most = (r->bytes - sizeof *r->page) / d->geometry.bytes, dim = d->quantizer.dim;
    wanted all[EV_DISK_AT_ONCE];
    uint32_t numbers[EV_DISK_AT_ONCE], rank;
    uint64_t loaded = UINT64_MAX;
    int rc = EV_OK;
    if (most > n) most = n;
    for (size_t i = 0; i < n; i++) all[i] = (wanted){ids[i], first + (int64_t)i};
    qsort(all, n, sizeof *all, by_id);
    for (size_t i = 0; i < n && rc == EV_OK; i++) {
        bool held;
        rc = ev__disk_find(&r->reader, all[i].id, r->page, &loaded, &numbers[i], &rank, &held);
        if (rc == EV_OK && !held) rc = ev__fail_row(EV_E_NO_ID, all[i].row, "id %lld", (long long)all[i].id);
    }
    for (size_t from = 0, m; rc == EV_OK && from < n; from += m) {
        ev__disk_read reads[EV_DISK_AT_ONCE];
        m = n - from < most ? n - from : most;
        for (size_t i = 0; i < m; i++) reads[i] = (ev__disk_read){numbers[from + i], r->run + i * d->geometry.bytes};
        rc = ev__disk_fetch(&r->reader, reads, m);
        for (size_t i = 0; rc == EV_OK && i < m; i++)
            memcpy(out + (size_t)all[from + i].row * dim, ev__disk_vector((const void *)reads[i].at),
                   dim * sizeof *out);
    }
    return rc;
}

int ev_disk_get(ev_disk *d, int64_t n, const int64_t *ids, float *out) {
    ev__account *was;
    reading r;
    int rc = ev__disk_enter(d, &was);
    if (rc != EV_OK) return rc;
    rc = begin(d, &r);
    if (rc == EV_OK) {
        for (int64_t i = 0, m; i < n && rc == EV_OK; i += m) {
            m = n - i < EV_DISK_AT_ONCE ? n - i : EV_DISK_AT_ONCE;
            rc = ev__is_to_stop() ? ev__stopped() : get_some(&r, ids + i, (size_t)m, i, out);
        }
        end(d, &r);
    }
    ev__disk_leave(d, was);
    return rc == EV_OK ? ev__ok() : rc;
}

/* ---- ids ------------------------------------------------------------------------------------- */

int ev_disk_contains(ev_disk *d, int64_t id, int32_t *held) {
    ev__account *was;
    ev__disk_reader reader = {.d = d};
    ev__disk_ids page;
    uint64_t loaded = UINT64_MAX;
    uint32_t number, rank;
    bool found = false;
    int rc = ev__disk_enter(d, &was);
    if (rc != EV_OK) return rc;
    rc = ev__disk_find(&reader, id, &page, &loaded, &number, &rank, &found);
    ev__disk_leave(d, was);
    *held = found;
    return rc == EV_OK ? ev__ok() : rc;
}

int ev_disk_ids(ev_disk *d, int64_t *cursor, int64_t n, int64_t *ids, int64_t *written) {
    if (*cursor < 0) return ev__fail(EV_E_PARAM, "cursor %lld", (long long)*cursor);
    ev__account *was;
    ev__disk_reader reader = {.d = d};
    ev__disk_ids page;
    *written = 0;
    int rc = ev__disk_enter(d, &was);
    if (rc != EV_OK) return rc;
    for (uint64_t loaded = UINT64_MAX; rc == EV_OK && *written < n && *cursor < d->header.live;) {
        uint64_t at = (uint64_t)*cursor / EV_DISK_IDS;
        if (at != loaded) rc = ev__disk_page(&reader, EV_DISK_ID_PAGES, at, &page);
        loaded = at;
        if (rc == EV_OK) ids[(*written)++] = page.ids[(*cursor)++ % EV_DISK_IDS];
    }
    ev__disk_leave(d, was);
    return rc == EV_OK ? ev__ok() : rc;
}

/* ---- check ----------------------------------------------------------------------------------- */

/* Every id leads to a node that is there, and they ascend, as the directory has it. node_of: by rank. */
static int check_ids(reading *r, uint32_t *node_of) {
    const ev_disk *d = r->reader.d;
    int64_t last = 0;
    for (uint64_t i = 0; i < (uint64_t)d->header.live; i++) {
        uint64_t page = i / EV_DISK_IDS, at = i % EV_DISK_IDS;
        if (!at) {
            if (ev__is_to_stop()) return ev__stopped();
            int rc = ev__disk_page(&r->reader, EV_DISK_ID_PAGES, page, r->page);
            if (rc != EV_OK) return rc;
            if (r->page->ids[0] != d->directory[page])
                return ev__disk_damaged(d, "page of ids", page, "the directory has another id");
        }
        if (i && r->page->ids[at] <= last) return ev__disk_damaged(d, "page of ids", page, "not in order");
        last = r->page->ids[at];
        node_of[i] = r->page->numbers[at];
    }
    return EV_OK;
}

/* The id of that rank belongs to the node; and to no other that was looked at before. */
static int check_rank(const ev_disk *d, uint32_t number, uint32_t rank, uint32_t *node_of, int64_t *found) {
    if (node_of[rank] != number) return ev__disk_damaged(d, "block", number, "an id is another one's");
    node_of[rank] = EV_NONE;
    ++*found;
    return EV_OK;
}

static int check_copies(reading *r, const ev__disk_block *b, uint32_t *node_of, int64_t *found) {
    uint64_t loaded = UINT64_MAX;
    int rc = EV_OK;
    for (uint64_t i = b->copies_at, end = b->copies_at + b->copies; i < end && rc == EV_OK; i++) {
        uint64_t page = i / EV_DISK_IDS;
        if (page != loaded) rc = ev__disk_page(&r->reader, EV_DISK_COPIES, page, r->page);
        loaded = page;
        if (rc == EV_OK) rc = check_rank(r->reader.d, b->number, r->page->numbers[i % EV_DISK_IDS], node_of, found);
    }
    return rc;
}

static int check_blocks(reading *r, uint32_t *node_of, ev_disk_report *out) {
    const ev_disk *d = r->reader.d;
    int64_t found = 0;
    out->min_degree = d->header.nodes ? d->header.degree : 0;
    for (uint32_t from = 0, n; from < d->header.nodes; from += n) {
        n = d->header.nodes - from < r->each ? d->header.nodes - from : r->each;
        int rc = ev__is_to_stop() ? ev__stopped() : ev__disk_fetch_run(&r->reader, from, n, r->run);
        for (uint32_t i = 0; i < n && rc == EV_OK; i++) {
            uint64_t at = ev__disk_place(&d->geometry, from + i) - ev__disk_place(&d->geometry, from);
            const ev__disk_block *b = (const void *)(r->run + at);
            if (b->rank != EV_NONE) rc = check_rank(d, from + i, b->rank, node_of, &found);
            if (rc == EV_OK) rc = check_copies(r, b, node_of, &found);
            out->edges += b->degree;
            out->duplicates += b->copies;
            if (b->degree < out->min_degree) out->min_degree = b->degree;
            if (b->degree > out->max_degree) out->max_degree = b->degree;
        }
        if (rc != EV_OK) return rc;
    }
    if (found == d->header.live) return EV_OK;
    return ev__fail(EV_E_CORRUPT, "a graph on disk: blocks hold %lld ids of %lld: '%s'", (long long)found,
                    (long long)d->header.live, d->path);
}

static int check(ev_disk *d, reading *r, ev_disk_report *out) {
    size_t bytes = (size_t)d->header.live * sizeof(uint32_t);
    uint32_t *node_of = ev__alloc(bytes, EV_LINE);
    if (!node_of) return ev__fail(EV_E_NOMEM, "to check %lld ids", (long long)d->header.live);
    *out = (ev_disk_report){.live = d->header.live, .nodes = d->header.nodes};
    int rc = check_ids(r, node_of);
    if (rc == EV_OK) rc = check_blocks(r, node_of, out);
    ev__release(node_of, bytes, EV_LINE);
    return rc;
}

int ev_disk_check(ev_disk *d, ev_disk_report *out) {
    ev__account *was;
    reading r;
    int rc = ev__disk_enter(d, &was);
    if (rc != EV_OK) return rc;
    rc = begin(d, &r);
    if (rc == EV_OK) {
        rc = check(d, &r, out);
        end(d, &r);
    }
    ev__disk_leave(d, was);
    return rc == EV_OK ? ev__ok() : rc;
}
