/* Writing a graph on disk, from start to end: sizes are known before the first byte. Blocks are made by all threads,
 * some hundred at a time, and written in their order. */
#include "base/thread.h"
#include "disk/plan.h"
#include "file/replacement.h"

#include <math.h>
#include <stddef.h>

enum {
    RUN = 1 << 20,        /* bytes of blocks made at a time, at least a page of them */
    SAMPLE = 4096,        /* vectors of which the center is the mean where the index has none */
    ENTRIES_PER_ROOT = 4, /* so many for each unit of the root of all nodes */
    MOST_WORKERS = 64
};

typedef struct {
    ev__workspace work;
    ev__scratch *source; /* of the index */
    float *own, *around, *other, *copy;
    void *memory;
    size_t bytes;
} worker;

typedef struct {
    ev_index *ix;
    const ev__store *store;
    ev__watch *watch;
    void *file;
    uint64_t at; /* bytes written */
    int error;   /* an errno */
    ev__disk_header header;
    ev__disk_geometry geometry;
    ev__quantizer quantizer;
    ev__disk_plan plan;
    worker workers[MOST_WORKERS];
    int count;
    uint32_t *entries;
    char *tables, *run;
    size_t tables_bytes, run_bytes;
    uint32_t first; /* of the blocks that are being made */
    ev__work work;
} writing;

/* ---- memory ---------------------------------------------------------------------------------- */

static void lay_out(const ev__quantizer *q, worker *w) {
    ev__arena arena = {w->memory, 0};
    ev__workspace_lay_out(q, &arena, &w->work);
    size_t numbers = q->bits > q->dim ? q->bits : q->dim;
    w->own = ev__arena_take(&arena, q->dim * sizeof *w->own);
    w->other = ev__arena_take(&arena, q->dim * sizeof *w->other);
    w->copy = ev__arena_take(&arena, q->dim * sizeof *w->copy);
    w->around = ev__arena_take(&arena, numbers * sizeof *w->around);
    w->bytes = arena.used;
}

static int make_worker(writing *w, worker *one) {
    lay_out(&w->quantizer, one);
    if (!(one->memory = ev__alloc_zero(one->bytes, EV_LINE))) return ev__fail(EV_E_NOMEM, "to write a graph on disk");
    lay_out(&w->quantizer, one);
    w->count++;
    return ev__scratch_borrow(&w->ix->graph, &one->source);
}

static int make_workers(writing *w, int32_t threads) {
    int wanted = threads ? threads : ev__cores(), rc = EV_OK;
    if (wanted > MOST_WORKERS) wanted = MOST_WORKERS;
    while (w->count < wanted && rc == EV_OK) rc = make_worker(w, &w->workers[w->count]);
    return rc;
}

static void free_all(writing *w) {
    for (int i = 0; i < w->count; i++) {
        if (w->workers[i].source) ev__scratch_return(&w->ix->graph, w->workers[i].source);
        ev__release(w->workers[i].memory, w->workers[i].bytes, EV_LINE);
    }
    ev__release(w->tables, w->tables_bytes, EV_LINE);
    ev__release(w->run, w->run_bytes, EV_LINE);
    ev__disk_plan_free(&w->plan);
    ev__quantizer_free(&w->quantizer);
}

/* ---- bytes to the file ----------------------------------------------------------------------- */

static bool put(writing *w, const void *bytes, size_t n) {
    if (!w->error) w->error = ev__file_write(w->file, bytes, n);
    w->at += n;
    return !w->error;
}

static bool fill_up_to(writing *w, uint64_t place) {
    static const char zeros[EV_DISK_PAGE];
    while (w->at < place && put(w, zeros, place - w->at < sizeof zeros ? (size_t)(place - w->at) : sizeof zeros)) {
    }
    return !w->error;
}

/* ---- what is kept in memory of it ------------------------------------------------------------ */

static const float *vector_of(const writing *w, uint32_t number, float *buffer, worker *one) {
    return ev__vector_read(w->store, w->plan.slot_of[number], buffer, &one->source->work);
}

static void find_center(writing *w) {
    ev__quantizer *q = &w->quantizer;
    const float *known = w->store->quantizer.center;
    uint32_t nodes = w->plan.nodes, n = nodes < SAMPLE ? nodes : SAMPLE;
    if (known) memcpy(q->center, known, q->dim * sizeof *known);
    for (uint32_t i = 0; i < n && !known; i++) {
        const float *v = vector_of(w, (uint32_t)((uint64_t)i * nodes / n), w->workers[0].own, &w->workers[0]);
        for (size_t j = 0; j < q->dim; j++) q->center[j] += v[j] / (float)n;
    }
}

/* Living nodes on the highest levels, so that they lie all over. */
static void choose_entries(writing *w) {
    const ev__disk_plan *p = &w->plan;
    double wanted = ENTRIES_PER_ROOT * sqrt((double)p->nodes) + 1;
    uint32_t most = wanted < EV_DISK_MOST_ENTRIES ? (uint32_t)wanted : EV_DISK_MOST_ENTRIES, n = 0;
    for (int level = EV_MAX_LEVEL + 1; level >= 0 && n < most; level--)
        for (uint32_t i = 0; i < p->nodes && n < most; i++) {
            uint32_t slot = p->slot_of[i];
            if (ev__is_node(w->store, slot) && ev__levels(w->store)[slot] == level) w->entries[n++] = i;
        }
    w->header.entries = n;
}

static void encode_entries(writing *w, ev__factor *factors, char *codes) {
    float length;
    const ev__quantizer *q = &w->quantizer;
    worker *one = &w->workers[0];
    for (uint32_t i = 0; i < w->header.entries; i++) {
        const float *v = vector_of(w, w->entries[i], one->own, one);
        for (size_t j = 0; j < q->dim; j++) one->work.decoded[j] = v[j] - q->center[j];
        ev__disk_encode(q, NULL, codes + i * q->code_bytes, &factors[i], &length, &one->work);
    }
}

/* Entries and directory lie in one allocation, as they are in the file. */
static int make_tables(writing *w) {
    const ev__quantizer *q = &w->quantizer;
    size_t entry = sizeof(uint32_t) + sizeof(ev__factor) + q->code_bytes, pages;
    size_t room = w->plan.nodes < EV_DISK_MOST_ENTRIES ? w->plan.nodes : EV_DISK_MOST_ENTRIES;
    pages = (size_t)ev__disk_pages((uint64_t)w->header.live);
    w->tables_bytes = ev__round_up(room * entry, EV_LINE) + pages * sizeof(int64_t) + 1;
    if (!(w->tables = ev__alloc_zero(w->tables_bytes, EV_LINE))) return ev__fail(EV_E_NOMEM, "entries");
    w->entries = (uint32_t *)(void *)w->tables;
    choose_entries(w);
    ev__factor *factors = (ev__factor *)(void *)(w->entries + w->header.entries);
    encode_entries(w, factors, (char *)(factors + w->header.entries));
    int64_t *directory = (int64_t *)(void *)(w->tables + ev__round_up(room * entry, EV_LINE));
    for (size_t i = 0; i < pages; i++) directory[i] = w->plan.ids[i * EV_DISK_IDS].id;
    ev__disk_lay_out(q, &w->header);
    ev__disk_section *s = w->header.section;
    const void *at[] = {q->center, w->entries, directory};
    for (int i = 0; i < EV_DISK_ID_PAGES; i++) s[i].crc = q->kernels.crc32c(0, at[i], (size_t)s[i].bytes);
    w->header.crc = q->kernels.crc32c(0, &w->header, offsetof(ev__disk_header, crc));
    put(w, &w->header, sizeof w->header);
    for (int i = 0; i < EV_DISK_ID_PAGES; i++) {
        fill_up_to(w, s[i].offset);
        put(w, at[i], (size_t)s[i].bytes);
    }
    return EV_OK;
}

/* ---- ids ------------------------------------------------------------------------------------- */

/* A page that is full, or the last one. */
static void put_page(writing *w, ev__disk_ids *page) {
    page->crc = w->quantizer.kernels.crc32c(0, page, offsetof(ev__disk_ids, crc));
    put(w, page, sizeof *page);
    *page = (ev__disk_ids){.at = page->at + 1};
}

static int put_ids(writing *w) {
    const ev__disk_plan *p = &w->plan;
    ev__disk_ids page = {.at = 0};
    fill_up_to(w, w->header.section[EV_DISK_ID_PAGES].offset);
    for (int64_t i = 0; i < w->header.live && !w->error; i++) {
        size_t at = (size_t)(i % EV_DISK_IDS);
        page.ids[at] = p->ids[i].id;
        page.numbers[at] = p->ids[i].number;
        if (at == EV_DISK_IDS - 1 || i == w->header.live - 1) put_page(w, &page);
        if (ev__is_to_stop_at((size_t)i)) return ev__stopped();
    }
    return EV_OK;
}

static int put_copies(writing *w) {
    const ev__disk_plan *p = &w->plan;
    ev__disk_ids page = {.at = 0};
    uint64_t n = 0;
    fill_up_to(w, w->header.section[EV_DISK_COPIES].offset);
    for (uint32_t node = 0; node < p->nodes && n < p->copies && !w->error; node++) {
        if (ev__is_to_stop_at(node)) return ev__stopped();
        for (uint32_t i = p->first[node] + 1; i < p->first[node + 1]; i++, n++) {
            size_t at = (size_t)(n % EV_DISK_IDS);
            page.ids[at] = p->ids[p->of_node[i]].id;
            page.numbers[at] = p->of_node[i];
            if (at == EV_DISK_IDS - 1 || n == p->copies - 1) put_page(w, &page);
        }
    }
    return EV_OK;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* A link to a node that the file has: of an index at rest that is every one. */
static bool has_link(const writing *w, uint32_t slot) {
    return slot < ev__slots(w->store) && w->plan.number_of[slot] != EV_NONE;
}

/* Where vectors lie in files: those that are linked, at once. */
static void fetch_links(const writing *w, const uint32_t *links, worker *one) {
    if (!w->store->paged) return;
    size_t n = 0, room = ev__paged_room(w->store);
    while (n < w->header.degree && n < room && links[n] != EV_NONE) n++;
    ev__paged_fetch(w->store, links, n, &one->source->work);
}

static void make_links(const writing *w, uint32_t number, char *block, worker *one) {
    const ev__quantizer *q = &w->quantizer;
    const ev__disk_plan *p = &w->plan;
    ev__disk_block *b = (void *)block;
    uint32_t *links = (void *)(block + w->geometry.links), slot = p->slot_of[number];
    ev__factor *factors = (void *)(block + w->geometry.factors);
    float *lengths = (void *)(block + w->geometry.lengths);
    const uint32_t *from = ev__links0(w->store, slot);
    if (!ev__is_node(w->store, slot)) return; /* it is a duplicate, and has none */
    const float *around = ev__disk_around(q, one->own, one->around, &one->work);
    fetch_links(w, from, one);
    for (uint32_t i = 0; i < w->header.degree && from[i] != EV_NONE; i++) {
        if (!has_link(w, from[i])) continue;
        uint32_t to = p->number_of[from[i]];
        const float *v = vector_of(w, to, one->other, one);
        for (size_t j = 0; j < q->dim; j++) one->work.decoded[j] = v[j] - one->own[j];
        ev__disk_encode(q, around, block + w->geometry.codes + b->degree * q->code_bytes, &factors[b->degree],
                        &lengths[b->degree], &one->work);
        links[b->degree++] = to;
    }
}

static void make_block(const writing *w, uint32_t number, char *block, worker *one) {
    const ev__quantizer *q = &w->quantizer;
    const ev__disk_plan *p = &w->plan;
    uint32_t from = p->first[number], ids = p->first[number + 1] - from;
    ev__disk_block *b = (void *)block;
    *b = (ev__disk_block){.number = number, .variant = p->variant[number], .rank = EV_NONE};
    if (ids) {
        b->rank = p->of_node[from];
        b->id = p->ids[b->rank].id;
        b->copies = ids - 1;
    }
    const float *v = vector_of(w, number, one->copy, one);
    memcpy(one->own, v, q->dim * sizeof *v);
    memcpy(b + 1, v, q->dim * sizeof *v);
    make_links(w, number, block, one);
}

static void make_some(void *arg, int index) {
    writing *w = arg;
    for (int64_t from, to; ev__work_next(&w->work, index, &from, &to);)
        for (int64_t i = from; i < to; i++) {
            uint32_t number = w->first + (uint32_t)i;
            uint64_t at = ev__disk_place(&w->geometry, number) - ev__disk_place(&w->geometry, w->first);
            make_block(w, number, w->run + at, &w->workers[index]);
        }
}

/* What depends on the blocks before: where the copies of each lie. */
static void complete(writing *w, uint32_t n, uint64_t *copies) {
    size_t from = offsetof(ev__disk_block, number);
    for (uint32_t i = 0; i < n; i++) {
        char *block = w->run + (ev__disk_place(&w->geometry, w->first + i) - ev__disk_place(&w->geometry, w->first));
        ev__disk_block *b = (void *)block;
        b->copies_at = b->copies ? *copies : 0;
        *copies += b->copies;
        b->crc = w->quantizer.kernels.crc32c(0, block + from, w->geometry.bytes - from);
    }
}

static int put_blocks(writing *w, const ev__call *call) {
    const ev__disk_geometry *g = &w->geometry;
    size_t page = g->in_page ? EV_DISK_PAGE : ev__round_up(g->bytes, EV_DISK_PAGE), pages = RUN / page ? RUN / page : 1;
    uint32_t each = (uint32_t)(pages * (g->in_page ? g->in_page : 1)), nodes = w->plan.nodes, n;
    uint64_t copies = 0;
    w->run_bytes = pages * page;
    if (!(w->run = ev__alloc(w->run_bytes, EV_LINE))) return ev__fail(EV_E_NOMEM, "to write a graph on disk");
    fill_up_to(w, w->header.section[EV_DISK_BLOCKS].offset);
    for (w->first = 0; w->first < nodes && !w->error; w->first += n) {
        n = nodes - w->first < each ? nodes - w->first : each;
        memset(w->run, 0, w->run_bytes);
        w->work = (ev__work){.total = n, .run = 8, .base = w->first, .base_total = nodes};
        ev__parallel(w->count, make_some, w);
        if (w->work.stopped) return ev__stopped();
        int rc = ev__call_trouble(call);
        if (rc != EV_OK) return rc;
        complete(w, n, &copies);
        put(w, w->run, (size_t)(ev__disk_place(g, w->first + n - 1) - ev__disk_place(g, w->first)) + g->bytes);
        fill_up_to(w, w->first + n == nodes
                          ? w->header.file_bytes
                          : w->header.section[EV_DISK_BLOCKS].offset + ev__disk_place(g, w->first + n));
    }
    return EV_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int begin(writing *w, int32_t threads) {
    const ev__store *store = w->store;
    const ev_params *params = &w->ix->params;
    w->header = (ev__disk_header){
        .version = EV_DISK_VERSION,
        .header_bytes = sizeof w->header,
        .dim = params->dim,
        .metric = params->metric,
        .ef = params->ef,
        .walk = store->quantizer.walk,
        .degree = store->m0,
        .seed = store->seed,
        .live = store->live,
    };
    memcpy(w->header.magic, EV_DISK_MAGIC, sizeof w->header.magic);
    int rc = ev__disk_quantizer(&w->quantizer, &w->header);
    w->geometry = ev__disk_geometry_of(&w->quantizer, w->header.degree);
    if (rc == EV_OK) rc = make_workers(w, threads);
    if (rc == EV_OK) rc = ev__disk_plan_make(store, &w->plan);
    if (rc != EV_OK) return rc;
    w->header.nodes = w->plan.nodes;
    w->watch->total = w->plan.nodes;
    w->header.copies = w->plan.copies;
    find_center(w);
    return EV_OK;
}

static int write_all(ev_index *ix, void *file, const char *path, int32_t threads, const ev__call *call,
                     ev__watch *watch) {
    writing *w = ev__alloc_zero(sizeof *w, EV_LINE);
    if (!w) return ev__fail(EV_E_NOMEM, "to write a graph on disk");
    w->ix = ix;
    w->store = &ix->graph.store;
    w->watch = watch;
    w->file = file;
    int rc = begin(w, threads);
    if (rc == EV_OK) rc = make_tables(w);
    if (rc == EV_OK) rc = put_ids(w);
    if (rc == EV_OK) rc = put_copies(w);
    if (rc == EV_OK) rc = put_blocks(w, call);
    if (rc == EV_OK) fill_up_to(w, w->header.file_bytes);
    if (rc == EV_OK && w->error)
        rc = w->error == EV_FILE_STOPPED ? ev__stopped() : ev__refused(w->error, "write", path);
    if (rc == EV_OK) rc = ev__call_trouble(call);
    if (rc == EV_OK && !ev__report_progress(watch->total, watch->total)) rc = ev__stopped();
    free_all(w);
    ev__release(w, sizeof *w, EV_LINE);
    return rc;
}

/* Calls that change the index wait while it is read, not while the disk works. */
static int write_file(ev_index *ix, ev__replacement *r, int32_t threads, ev_progress progress, void *user) {
    const ev_file_ops *ops = ev__file_ops();
    ev__call call;
    ev__watch watch;
    int error, rc = ev__complete(ix, EV_LACKS_NOTHING);
    if (rc == EV_OK) rc = ev__enter(ix, EV_READ_AT_REST, &call);
    if (rc == EV_OK) {
        ev__watch_begin(&watch, progress, user, ix->graph.store.live);
        rc = write_all(ix, r->file, r->path, threads, &call, &watch);
        ev__watch_end(&watch);
        ev__leave(&call);
    }
    if (rc == EV_OK && (error = ops->sync(ops->user, r->file)) != 0)
        rc = error == EV_FILE_STOPPED ? ev__stopped() : ev__refused(error, "flush", r->path);
    error = ops->close(ops->user, r->file);
    return rc == EV_OK && error ? ev__refused(error, "close", r->path) : rc;
}

int ev_disk_write(ev_index *ix, const char *path, int32_t threads, ev_progress progress, void *user) {
    if (threads < 0) return ev__fail(EV_E_PARAM, "threads %d", threads);
    ev__replacement *r;
    int rc = ev__replacement_begin(path, &r);
    if (rc != EV_OK) return rc;
    rc = ev__replacement_end(r, write_file(ix, r, threads, progress, user));
    if (rc == EV_OK) rc = ev__replacement_flush(r);
    ev__replacement_free(r);
    return rc;
}
