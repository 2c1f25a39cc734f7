/* Loading: nothing in the file is believed. Sizes are checked against the file's before anything is allocated, so a
 * load takes memory in proportion to the bytes that are really there; then checksums, then what the bytes mean
 * (verify.c). Where a mapped file is not to be verified, that is put off until a call needs it: searches stay within
 * the arrays whatever the bytes are. */
#include "base/file_system.h"
#include "file/format.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

typedef struct {
    const char *path;
    ev__file file;
    const char *memory; /* the file's bytes that come next, where there is no file; NULL: read it */
    ev__file_header header;
    char *map;       /* the file in memory, or NULL: it is read from start to end */
    bool unverified; /* look at no byte of the mapped sections */
    int64_t limit;   /* of its memory; 0: none */
    bool on_disk;    /* vectors stay in the file ... */
    bool kept;       /* ... which is the index's now */
    ev_index *ix;
} loader;

/* The next n bytes, of which the caller knows that there are as many. */
static int read_next(loader *l, void *out, size_t n) {
    if (l->memory) {
        memcpy(out, l->memory, n);
        l->memory += n;
        return EV_OK;
    }
    int error = ev__file_read(&l->file, out, n);
    return error ? ev__refused(error, "read", l->path) : EV_OK;
}

/* ---- the header ------------------------------------------------------------------------------ */

static int bad_header(const char *what) { return ev__fail(EV_E_CORRUPT, "section 'header': %s", what); }

static bool all_zero(const void *bytes, size_t n) {
    const char *at = bytes;
    for (size_t i = 0; i < n; i++)
        if (at[i]) return false;
    return true;
}

/* What every version has in common, then, if it is this one, all of it. */
static int read_header(loader *l) {
    const size_t common = offsetof(ev__file_header, sections);
    char bytes[EV_FILE_MOST_HEADER];
    ev__file_header *h = &l->header;
    if (l->file.bytes < common) return bad_header("the file is shorter than a header");
    int rc = read_next(l, bytes, common);
    if (rc != EV_OK) return rc;
    memcpy(h, bytes, common);
    if (memcmp(h->magic, EV_FILE_DISK_MAGIC, sizeof h->magic) == 0)
        return bad_header("a graph on disk, which DiskIndex opens");
    if (memcmp(h->magic, EV_FILE_SQLITE, sizeof h->magic) == 0)
        return bad_header("an SQLite database; if it is a collection, edgevec.open() opens it");
    if (memcmp(h->magic, EV_FILE_MAGIC, sizeof h->magic) != 0) return bad_header("not an edgevec index");
    if (h->header_bytes < common + sizeof h->crc || h->header_bytes > sizeof bytes)
        return bad_header("an impossible size");
    if (h->header_bytes > l->file.bytes) return bad_header("the file ends before it does");
    rc = read_next(l, bytes + common, h->header_bytes - common);
    if (rc != EV_OK) return rc;
    uint32_t crc;
    memcpy(&crc, bytes + h->header_bytes - sizeof crc, sizeof crc);
    if (crc != ev__kernels_scalar.crc32c(0, bytes, h->header_bytes - sizeof crc)) return bad_header("checksum differs");
    if (h->version > EV_FILE_VERSION)
        return ev__fail(EV_E_VERSION, "the file has format version %u; edgevec %s reads versions up to %d", h->version,
                        ev_version(), EV_FILE_VERSION);
    if (h->version < 1 || h->header_bytes != sizeof *h) return bad_header("an impossible version or size");
    memcpy(h, bytes, sizeof *h);
    return EV_OK;
}

/* Counters may be anything that arithmetic on them can bear. */
static bool is_counter(int64_t n) { return n >= 0 && n <= INT64_MAX / 4; }

static int check_fields(const ev__file_header *h) {
    if (h->slots > EV_NONE - 1) return bad_header("more slots than there are numbers for");
    if (h->live < 0 || h->dead < 0 || h->next_id < 0 || !is_counter(h->trained_on) || !is_counter(h->unchecked) ||
        !is_counter(h->unrepaired))
        return bad_header("an impossible count");
    if (h->trainings < 0 || h->trainings > INT32_MAX / 4) return bad_header("an impossible count");
    if (!all_zero(h->zeros, sizeof h->zeros)) return bad_header("reserved bytes are not zero");
    return EV_OK;
}

/* The columns and the center, in the order of the file. */
static void section_names(ev_index *ix, const char *names[EV_FILE_SECTIONS]) {
    ev__column columns[EV_COLUMNS];
    ev__list_columns(&ix->graph.store.columns, columns);
    for (size_t i = 0; i < EV_FILE_COLUMNS; i++) names[i] = columns[i].name;
    names[EV_FILE_COLUMNS] = "centre";
}

static bool is_named(const ev__file_section *section, const char *name) {
    return strncmp(section->name, name, EV_FILE_NAME) == 0 &&
           all_zero(section->name + strlen(name), EV_FILE_NAME - strlen(name));
}

/* Known sections in their order, one behind the other, to the end of the file. */
static int check_table(const loader *l) {
    const ev__file_header *h = &l->header;
    const char *names[EV_FILE_SECTIONS];
    uint64_t end = sizeof *h;
    section_names(l->ix, names);
    if (h->sections > EV_FILE_SECTIONS) return bad_header("an impossible number of sections");
    for (size_t i = 0, known = 0; i < h->sections; i++, known++) {
        const ev__file_section *section = &h->section[i];
        while (known < EV_FILE_SECTIONS && !is_named(section, names[known])) known++;
        if (known == EV_FILE_SECTIONS) return bad_header("an unknown section, or one in the wrong place");
        if (section->offset != end || section->zero || !section->bytes)
            return ev__fail(EV_E_CORRUPT, "section '%s': unexpected offset", names[known]);
        if (section->bytes > l->file.bytes - end || ev__file_padded(section->bytes) > l->file.bytes - end)
            return ev__fail(EV_E_CORRUPT, "section '%s': the file ends before it does", names[known]);
        end += ev__file_padded(section->bytes);
    }
    if (!all_zero(h->section + h->sections, (EV_FILE_SECTIONS - h->sections) * sizeof *h->section))
        return bad_header("reserved bytes are not zero");
    return end == h->file_bytes && end == l->file.bytes ? EV_OK : bad_header("the file has another length");
}

/* ---- the sections ---------------------------------------------------------------------------- */

static const ev__file_section *find_section(const ev__file_header *h, const char *name) {
    for (size_t i = 0; i < h->sections; i++)
        if (is_named(&h->section[i], name)) return &h->section[i];
    return NULL;
}

/* Has a column of `count` items the size that the parameters and the number of slots call for? */
static bool column_fits(const ev__store *store, const ev__array *array, uint64_t slots, uint64_t count) {
    bool quantized = store->quantizer.quantization != EV_QUANT_NONE;
    if (array == &store->columns.upper) return count <= UINT32_MAX; /* how many, the levels tell */
    if (array == &store->columns.next_duplicate && count == 0) return true;
    if (array == &store->columns.factors && !quantized) return count == 0;
    if (array == &store->columns.vectors && !(quantized && store->quantizer.keep_vectors)) return count == 0;
    return count == slots;
}

/* Bring a section's bytes to `into` (already there when mapped) and check them and their filling. */
static int fetch(loader *l, const ev__file_section *section, const char *name, void *into) {
    char room[EV_LINE];
    const char *filling = room;
    size_t bytes = (size_t)section->bytes, behind = (size_t)(ev__file_padded(section->bytes) - section->bytes);
    if (l->map) {
        filling = l->map + section->offset + bytes;
        if (into != l->map + section->offset) memcpy(into, l->map + section->offset, bytes);
    } else {
        int rc = EV_OK;
        for (size_t at = 0; rc == EV_OK && at < bytes; at += EV_FILE_RUN) {
            if (ev__is_to_stop()) return ev__stopped();
            rc = read_next(l, (char *)into + at, bytes - at < EV_FILE_RUN ? bytes - at : EV_FILE_RUN);
        }
        if (rc == EV_OK) rc = read_next(l, room, behind);
        if (rc != EV_OK) return rc;
    }
    if (l->unverified) return EV_OK;
    if (l->ix->graph.store.quantizer.kernels.crc32c(0, into, bytes) != section->crc)
        return ev__fail(EV_E_CORRUPT, "section '%s': checksum differs", name);
    return all_zero(filling, behind) ? EV_OK : ev__fail(EV_E_CORRUPT, "section '%s': data after its end", name);
}

/* Vectors that stay where they are: only their checksum is looked at, and that they are numbers. */
static int look_through(loader *l, const ev__file_section *section) {
    const ev__quantizer *q = &l->ix->graph.store.quantizer;
    size_t run = ev__paged_run(&l->ix->graph.store, section->bytes);
    char room[EV_LINE], *rows = ev__alloc(run, EV_LINE);
    if (!rows) return ev__fail(EV_E_NOMEM, "to look through vectors on disk");
    size_t behind = (size_t)(ev__file_padded(section->bytes) - section->bytes);
    uint32_t crc = 0;
    bool finite = true;
    int rc = EV_OK;
    for (uint64_t at = 0, n; rc == EV_OK && at < section->bytes; at += n) {
        n = section->bytes - at < run ? section->bytes - at : run;
        rc = ev__is_to_stop() ? ev__stopped() : read_next(l, rows, (size_t)n);
        if (rc != EV_OK) break;
        crc = q->kernels.crc32c(crc, rows, (size_t)n);
        finite &= q->codec->refined || ev__all_finite(rows, (size_t)n / sizeof(float));
    }
    ev__release(rows, run, EV_LINE);
    if (rc == EV_OK) rc = read_next(l, room, behind);
    if (rc != EV_OK) return rc;
    if (crc != section->crc) return ev__fail(EV_E_CORRUPT, "section 'vectors': checksum differs");
    if (!all_zero(room, behind)) return ev__fail(EV_E_CORRUPT, "section 'vectors': data after its end");
    return finite ? EV_OK : ev__fail(EV_E_CORRUPT, "section 'vectors': not a finite number");
}

static int fetch_column(loader *l, const ev__column *column) {
    const ev__file_section *section = find_section(&l->header, column->name);
    uint64_t bytes = section ? section->bytes : 0;
    ev__array *array = column->array;
    bool stays = l->on_disk && array == &l->ix->graph.store.columns.vectors;
    size_t item = stays ? ev__paged_item(&l->ix->graph.store) : array->item;
    if (bytes % item || !column_fits(&l->ix->graph.store, array, l->header.slots, bytes / item))
        return ev__fail(EV_E_CORRUPT, "section '%s': %llu bytes do not fit %llu slots", column->name,
                        (unsigned long long)bytes, (unsigned long long)l->header.slots);
    if (!section) return EV_OK;
    size_t count = (size_t)(bytes / item);
    if (l->map) {
        *array = (ev__array){l->map + section->offset, array->item, count, count, true};
    } else {
        int rc = ev__array_resize(array, count);
        if (rc != EV_OK) return ev__fail(rc, "section '%s': %llu bytes", column->name, (unsigned long long)bytes);
    }
    return stays ? look_through(l, section) : fetch(l, section, column->name, array->at);
}

static int fetch_center(loader *l) {
    const ev__file_section *section = find_section(&l->header, "centre");
    size_t bytes = l->ix->graph.store.quantizer.center ? l->ix->graph.store.quantizer.dim * sizeof(float) : 0;
    if ((section ? section->bytes : 0) != bytes)
        return ev__fail(EV_E_CORRUPT, "section 'centre': not one number for each dimension");
    return section ? fetch(l, section, "centre", l->ix->graph.store.quantizer.center) : EV_OK;
}

static int fetch_all(loader *l) {
    ev__column columns[EV_COLUMNS];
    ev__list_columns(&l->ix->graph.store.columns, columns);
    for (size_t i = 0; i < EV_FILE_COLUMNS; i++) {
        int rc = fetch_column(l, &columns[i]);
        if (rc != EV_OK) return rc;
    }
    return fetch_center(l);
}

/* ---- the index ------------------------------------------------------------------------------- */

static bool may_search_by(const ev__quantizer *q, uint32_t walk) {
    switch (walk) {
    case EV_WALK_CODES: return true;
    case EV_WALK_FLOATS: return q->quantization != EV_QUANT_NONE && q->keep_vectors;
    case EV_WALK_SCAN: return q->keep_vectors != EV_VECTORS_NONE;
    case EV_WALK_BLURRED: return !q->keep_vectors;
    default: return false;
    }
}

static int make_index(loader *l) {
    const ev__file_header *h = &l->header;
    ev_params p = {.dim = h->dim,
                   .metric = h->metric,
                   .quantization = h->quantization,
                   .M = h->M,
                   .ef_construction = h->ef_construction,
                   .ef = h->ef,
                   .keep_vectors = h->keep_vectors,
                   .seed = h->seed,
                   .storage = l->on_disk ? EV_STORAGE_DISK : EV_STORAGE_MEMORY};
    if (l->on_disk && ev__params_check(&p) != EV_OK) {
        p.storage = EV_STORAGE_MEMORY;
        if (ev__params_check(&p) == EV_OK) { /* it is a fault of the file's, but for this */
            p.storage = EV_STORAGE_DISK;
            return ev__params_check(&p);
        }
    }
    if (ev__params_check(&p) != EV_OK) {
        char what[128];
        snprintf(what, sizeof what, "%s", ev_error_detail());
        return bad_header(what);
    }
    int rc = ev__index_make(&p, &l->ix);
    if (rc != EV_OK) return rc;
    ev__charge_to(l->ix->account);
    ev__account_set_limit(l->ix->account, l->limit, 0);
    if (!may_search_by(&l->ix->graph.store.quantizer, h->walk))
        return bad_header("searches that its vectors do not allow");
    l->ix->graph.store.quantizer.walk = (int32_t)h->walk;
    bool fine = h->keep_vectors == EV_VECTORS_SQ24;
    if (fine != l->ix->graph.store.quantizer.codec->refined || h->version != ev__file_version(l->ix))
        return bad_header("vectors kept in a way that its version or its codes do not allow");
    return EV_OK;
}

static int map_file(loader *l) {
    void *at;
    int error = ev__map(&l->file, &at);
    if (error == ENOTSUP) return EV_OK; /* a file system without mapping: reading gives the same index */
    if (error) return ev__refused(error, "map", l->path);
    l->map = l->ix->map = at;
    l->ix->map_bytes = (size_t)l->file.bytes;
    return EV_OK;
}

/* Refused before anything is read: what all of it takes once it is there. */
static int check_room(const loader *l) {
    const ev__file_header *h = &l->header;
    ev__graph *g = &l->ix->graph;
    size_t slots = (size_t)h->slots;
    int64_t held = 0, peak = 0;
    for (size_t i = 0; !l->map && i < h->sections; i++) {
        bool stays = l->on_disk && is_named(&h->section[i], "vectors");
        held += (int64_t)ev__block_bytes(stays ? slots * sizeof(uint32_t) : (size_t)h->section[i].bytes);
    }
    if (ev__prefilters(&g->store.quantizer) && !l->unverified)
        held += (int64_t)ev__block_bytes(slots * g->store.columns.prefilter.item);
    if (!l->unverified) ev__table_plan(&g->store.id_table, (size_t)h->live, &held, &peak);
    if (!l->unverified) held += (int64_t)ev__block_bytes((slots + 1) * sizeof *g->store.free_slots);
    held += (int64_t)ev__search_bytes(l->ix, slots);
    return ev__may_charge((size_t)held) ? EV_OK : ev__fail(EV_E_MEMORY_LIMIT, "%lld vectors", (long long)h->live);
}

static void take_header(ev_index *ix, const ev__file_header *h) {
    ix->graph.store.live = h->live;
    ix->graph.store.dead = h->dead;
    ix->next_id = h->next_id;
    ix->graph.entry = h->entry;
    ix->trainings = h->trainings;
    ix->trained_on = h->trained_on;
    ix->unchecked = h->unchecked;
    ix->graph.unrepaired = h->unrepaired;
}

static int check_ids(const ev_index *ix) {
    if (ix->graph.store.id_table.used != (size_t)ix->graph.store.live)
        return ev__fail(EV_E_CORRUPT, "section 'ids': duplicate id");
    return EV_OK;
}

/* All that is in the arrays, and what is made from it. */
static int verify_all(ev_index *ix) {
    ev__store *store = &ix->graph.store;
    int rc = ev__verify(ix);
    if (rc != EV_OK) return rc;
    store->quantizer.longest = 0;
    if (ev__is_to_stop()) return ev__stopped();
    for (size_t slot = 0; !ev__is_to_stop_at(slot) && slot < ev__slots(store) && ev__vector(store, (uint32_t)slot);
         slot++)
        ev__note_length(ix, ev__vector(store, (uint32_t)slot));
    rc = ev__prefilter_all(ix);
    if (rc == EV_OK) rc = ev__store_index(store);
    return rc == EV_OK ? check_ids(ix) : rc;
}

/* ---- what was put off ------------------------------------------------------------------------ */

/* Only what is read without being looked at: the entry, and counts that are divided by or planned with. */
static int check_entry(const ev_index *ix) {
    const ev__store *store = &ix->graph.store;
    size_t slots = ev__slots(store);
    if (ix->graph.entry != EV_NONE && ix->graph.entry >= slots) return bad_header("the entry is no node");
    if ((uint64_t)store->live > slots || (uint64_t)store->dead > slots - (uint64_t)store->live)
        return bad_header("more vectors than slots");
    return EV_OK;
}

static int make_tables(ev_index *ix) {
    int rc = ev__verify_ids(ix);
    if (rc == EV_OK) rc = ev__store_index(&ix->graph.store);
    return rc == EV_OK ? check_ids(ix) : rc;
}

/* The file is still there as it was opened, or the header tells that it is not. */
static int verify_mapped(ev_index *ix) {
    loader l = {.map = ix->map, .file.bytes = ix->map_bytes, .ix = ix};
    memcpy(&l.header, ix->map, sizeof l.header);
    if (l.header.crc != ev__kernels_scalar.crc32c(0, &l.header, offsetof(ev__file_header, crc)) ||
        l.header.slots != ev__slots(&ix->graph.store))
        return bad_header("changed since it was opened");
    int rc = check_table(&l);
    if (rc == EV_OK) rc = fetch_all(&l);
    if (rc == EV_OK) rc = verify_all(ix);
    if (rc == EV_OK) ix->graph.store.quantizer.unprefiltered = false;
    return rc;
}

static int complete(ev_index *ix, uint32_t lacks) {
    ev__watch watch;
    ev__watch_begin(&watch, NULL, NULL, 0);
    int rc = lacks == EV_LACKS_NOTHING ? verify_mapped(ix) : make_tables(ix);
    if (rc == EV_OK && ev__is_to_stop()) rc = ev__stopped();
    ev__watch_end(&watch);
    if (rc == EV_OK) ev__store32_release(&ix->lacks, lacks);
    return rc;
}

static void put_off(ev_index *ix) {
    const double ANY = 1.9e19; /* the square of a longer vector is no float */
    ix->complete = complete;
    ix->lacks = EV_LACKS_MUCH;
    ix->graph.store.quantizer.unprefiltered = true;
    ix->graph.store.quantizer.longest = ANY;
}

/* ---- on disk --------------------------------------------------------------------------------- */

/* After the others: all that may fail has been seen to, and the states are known. */
static int leave_on_disk(loader *l) {
    const ev__file_section *section = find_section(&l->header, "vectors");
    int rc = section ? ev__paged_adopt(&l->ix->graph.store, l->file.handle, section->offset, l->path) : EV_OK;
    l->kept = section && rc == EV_OK;
    return rc;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int load(loader *l, int32_t map) {
    int rc = read_header(l);
    if (rc == EV_OK) rc = check_fields(&l->header);
    if (rc == EV_OK && l->header.file_bytes > PTRDIFF_MAX)
        rc = ev__fail(EV_E_FULL, "more bytes than the address space holds");
    if (rc == EV_OK) rc = make_index(l);
    if (rc == EV_OK) rc = check_table(l);
    if (rc == EV_OK && map && !l->on_disk) rc = map_file(l);
    l->unverified = map == EV_MAP_UNVERIFIED && l->map;
    if (rc == EV_OK) rc = check_room(l);
    if (rc == EV_OK) rc = fetch_all(l);
    if (rc != EV_OK) return rc;
    take_header(l->ix, &l->header);
    if (!l->unverified) {
        rc = verify_all(l->ix);
        return rc == EV_OK && l->on_disk ? leave_on_disk(l) : rc;
    }
    put_off(l->ix);
    return check_entry(l->ix);
}

static int load_whole(loader *l, int32_t map, ev_index **out) {
    ev__watch watch;
    ev__watch_begin(&watch, NULL, NULL, 0);
    ev__account *was = ev__charge_to(NULL);
    ev__refused_by_none();
    int rc = load(l, map);
    if (rc == EV_OK && ev__is_to_stop()) rc = ev__stopped();
    ev__charge_to(was);
    ev__watch_end(&watch);
    if (rc != EV_OK) {
        ev_free(l->ix); /* takes no part in the error's detail */
        return rc;
    }
    *out = l->ix;
    return ev__ok();
}

int ev_load_bytes_within(int64_t n, const void *bytes, int64_t memory_limit, ev_index **out) {
    if (n < 0) return ev__fail(EV_E_PARAM, "%lld bytes", (long long)n);
    loader l = {.memory = n ? bytes : "", .file.bytes = (uint64_t)n, .limit = memory_limit};
    int rc = ev__limit_check(memory_limit);
    return rc == EV_OK ? load_whole(&l, EV_MAP_NONE, out) : rc;
}

int ev_load_bytes(int64_t n, const void *bytes, ev_index **out) { return ev_load_bytes_within(n, bytes, 0, out); }

int ev_load(const char *path, int32_t map, ev_index **out) { return ev_load_within(path, map, 0, out); }

int ev_load_within(const char *path, int32_t map, int64_t memory_limit, ev_index **out) {
    loader l = {.path = path, .limit = memory_limit, .on_disk = map == EV_MAP_DISK};
    int rc = ev__limit_check(memory_limit);
    if (rc != EV_OK) return rc;
    int error = ev__file_open(path, &l.file);
    if (error == ENOENT) return ev__fail_errno(EV_E_NOT_FOUND, error, "%s: '%s'", strerror(error), path);
    if (error) return ev__refused(error, "open", path);
    ev__remove_left_over(path);
    rc = load_whole(&l, map, out);
    if (!l.kept) ev__file_close(&l.file);
    return rc;
}
