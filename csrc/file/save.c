/* Saving: a new file beside the old one, flushed, then renamed over it, so that there is a whole file at every
 * moment. */
#include "base/file_system.h"
#include "file/format.h"
#include "file/replacement.h"

#include <stddef.h>
#include <stdio.h>

typedef struct {
    const char *name;
    const void *at; /* NULL: vectors on disk */
    size_t bytes;
} part;

/* In place of an errno: vectors on disk could not be read; they were others the second time. */
enum { EV_FILE_FAULT = -2, EV_FILE_CHANGED = -3 };

/* What the file holds behind its header, in order. */
static size_t list_parts(ev_index *ix, part out[EV_FILE_SECTIONS]) {
    ev__store *store = &ix->graph.store;
    ev__quantizer *q = &store->quantizer;
    ev__column columns[EV_COLUMNS];
    ev__list_columns(&store->columns, columns);
    size_t n = 0;
    for (size_t i = 0; i < EV_FILE_COLUMNS; i++) {
        const ev__array *array = columns[i].array;
        bool on_disk = store->paged && array == &store->columns.vectors;
        size_t bytes = array->count * (on_disk ? ev__paged_item(store) : array->item);
        if (array->count) out[n++] = (part){columns[i].name, on_disk ? NULL : array->at, bytes};
    }
    if (q->center) out[n++] = (part){"centre", q->center, q->dim * sizeof(float)};
    return n;
}

typedef int (*writer)(void *into, const void *bytes, size_t n); /* 0, or an errno */

/* Vectors on disk, read twice, with the same checksum; write: NULL the first time. */
typedef struct {
    const ev__store *store;
    char *rows; /* run bytes */
    size_t run;
    int64_t faults;
    uint32_t crc;
} stream;

static int write_rows(stream *s, size_t bytes, writer write, void *into) {
    size_t item = ev__paged_item(s->store), each = s->run / item, n;
    uint32_t crc = 0;
    int error = 0;
    for (size_t at = 0, rows = bytes / item; !error && at < rows; at += n) {
        n = rows - at < each ? rows - at : each;
        if (ev__is_to_stop()) return EV_FILE_STOPPED;
        ev__paged_read_run(s->store, at, n, s->rows);
        if (ev__paged_faults(s->store) != s->faults) return EV_FILE_FAULT;
        crc = s->store->quantizer.kernels.crc32c(crc, s->rows, n * item);
        if (write) error = write(into, s->rows, n * item);
    }
    if (write && !error && crc != s->crc) return EV_FILE_CHANGED;
    s->crc = crc;
    return error;
}

static bool open_stream(const ev_index *ix, stream *s) {
    *s = (stream){.store = &ix->graph.store, .faults = ev__paged_faults(&ix->graph.store)};
    if (!s->store->paged) return true;
    s->run = ev__paged_run(s->store, ev__paged_item(s->store) * s->store->columns.vectors.count);
    return (s->rows = ev__alloc(s->run, EV_LINE)) != NULL;
}

static void close_stream(stream *s) { ev__release(s->rows, s->run, EV_LINE); }

static int fill_header(const ev_index *ix, const part *parts, size_t count, stream *rows, ev__file_header *h) {
    const ev__store *store = &ix->graph.store;
    const ev__quantizer *q = &store->quantizer;
    *h = (ev__file_header){
        .version = ev__file_version(ix),
        .header_bytes = sizeof *h,
        .file_bytes = sizeof *h,
        .sections = (uint32_t)count,
        .dim = ix->params.dim,
        .metric = ix->params.metric,
        .quantization = q->quantization,
        .M = store->M,
        .ef_construction = ix->graph.ef_construction,
        .ef = ix->params.ef,
        .keep_vectors = q->keep_vectors,
        .seed = store->seed,
        .slots = ev__slots(store),
        .live = store->live,
        .dead = store->dead,
        .next_id = ix->next_id,
        .entry = ix->graph.entry,
        .trainings = ix->trainings,
        .trained_on = ix->trained_on,
        .unchecked = ix->unchecked,
        .unrepaired = ix->graph.unrepaired,
        .walk = (uint32_t)q->walk,
    };
    memcpy(h->magic, EV_FILE_MAGIC, sizeof h->magic);
    for (size_t i = 0; i < count; i++) {
        ev__file_section *section = &h->section[i];
        memcpy(section->name, parts[i].name, strlen(parts[i].name));
        section->offset = h->file_bytes;
        section->bytes = parts[i].bytes;
        if (!parts[i].at) {
            int error = write_rows(rows, parts[i].bytes, NULL, NULL);
            if (error) return error;
        }
        section->crc = parts[i].at ? q->kernels.crc32c(0, parts[i].at, parts[i].bytes) : rows->crc;
        h->file_bytes += ev__file_padded(parts[i].bytes);
    }
    h->crc = q->kernels.crc32c(0, h, offsetof(ev__file_header, crc));
    return 0;
}

static int write_parts(writer write, void *into, ev_index *ix, stream *rows) {
    static const char zeros[EV_LINE];
    part parts[EV_FILE_SECTIONS];
    ev__file_header header;
    size_t count = list_parts(ix, parts);
    int error = fill_header(ix, parts, count, rows, &header);
    if (!error) error = write(into, &header, sizeof header);
    for (size_t i = 0; !error && i < count; i++) {
        size_t filling = (size_t)(ev__file_padded(parts[i].bytes) - parts[i].bytes);
        if (!parts[i].at) error = write_rows(rows, parts[i].bytes, write, into);
        for (size_t at = 0; parts[i].at && !error && at < parts[i].bytes; at += EV_FILE_RUN) {
            size_t left = parts[i].bytes - at;
            if (ev__is_to_stop()) return EV_FILE_STOPPED;
            error = write(into, (const char *)parts[i].at + at, left < EV_FILE_RUN ? left : EV_FILE_RUN);
        }
        if (!error && filling) error = write(into, zeros, filling);
    }
    return error;
}

static int failed(const ev__call *call, int error, const char *path) {
    if (error == EV_FILE_STOPPED) return ev__stopped();
    if (error == EV_FILE_FAULT) return ev__call_trouble(call);
    if (error == EV_FILE_CHANGED) return ev__fail(EV_E_IO, "vectors on disk changed while they were read");
    return ev__refused(error, "write", path);
}

/* Where the vectors of an index on disk lie in the file, and what tells whether they are still those of its slots. */
typedef struct {
    uint64_t offset, version;
    int64_t appended;
    uint32_t crc; /* of the rows' numbers, slot by slot */
} written_rows;

static written_rows find_rows(ev_index *ix) {
    const ev__store *store = &ix->graph.store;
    const ev__array *numbers = &store->columns.vectors;
    part parts[EV_FILE_SECTIONS];
    written_rows rows = {.version = store->version, .appended = ev__paged_appended(store)};
    rows.crc = store->quantizer.kernels.crc32c(0, numbers->at, numbers->count * numbers->item);
    uint64_t at = sizeof(ev__file_header);
    for (size_t i = 0, count = list_parts(ix, parts); i < count; i++) {
        if (!parts[i].at) rows.offset = at;
        at += ev__file_padded(parts[i].bytes);
    }
    return rows;
}

static int write_index(ev_index *ix, writer write, void *into, const char *path, written_rows *rows) {
    ev__call call;
    stream vectors;
    int rc = ev__complete(ix, EV_LACKS_NOTHING);
    if (rc == EV_OK) rc = ev__enter(ix, EV_READ_AT_REST, &call);
    if (rc != EV_OK) return rc;
    if (open_stream(ix, &vectors)) {
        int error = write_parts(write, into, ix, &vectors);
        if (error) rc = failed(&call, error, path);
        if (rows && ix->graph.store.paged) *rows = find_rows(ix);
        close_stream(&vectors);
    } else {
        rc = ev__fail(EV_E_NOMEM, "to copy vectors on disk");
    }
    ev__leave(&call);
    return rc;
}

/* Write and flush a new file, and close it. Writers wait only while the index is read, not while the disk works. */
static int write_file(const ev_file_ops *ops, ev_index *ix, void *file, const char *path, written_rows *rows) {
    int error, rc = write_index(ix, ev__file_write, file, path, rows);
    if (rc == EV_OK && (error = ops->sync(ops->user, file)) != 0)
        rc = error == EV_FILE_STOPPED ? ev__stopped() : ev__refused(error, "flush", path);
    error = ops->close(ops->user, file);
    return rc == EV_OK && error ? ev__refused(error, "close", path) : rc;
}

/* From now on the vectors of the index are read from the file that was written, and a scratch file goes, unless some
 * have come meanwhile. A service. */
static bool read_from(ev_index *ix, void *reader, const char *target, const written_rows *rows) {
    ev__call call;
    if (ev__enter(ix, EV_WRITE, &call) != EV_OK) return false;
    ev__store *store = &ix->graph.store;
    written_rows now = find_rows(ix);
    bool adopted = !store->shadow && now.version == rows->version && now.appended == rows->appended &&
                   now.crc == rows->crc && ev__paged_adopt(store, reader, rows->offset, target) == EV_OK;
    ev__leave(&call);
    return adopted;
}

static int save(ev_index *ix, ev__replacement *r) {
    const ev_file_ops *ops = ev__file_ops();
    written_rows rows = {0};
    int rc = write_file(ops, ix, r->file, r->path, &rows);
    void *reader = NULL;
    bool follows = EV_RENAMES_OPEN_FILES && rc == EV_OK && rows.offset && !ops->open_old(ops->user, r->name, &reader);
    rc = ev__replacement_end(r, rc);
    if (!EV_RENAMES_OPEN_FILES && rc == EV_OK && rows.offset) follows = !ops->open_old(ops->user, r->target, &reader);
    if (follows && (rc != EV_OK || !read_from(ix, reader, r->target, &rows))) ops->close(ops->user, reader);
    return rc == EV_OK ? ev__replacement_flush(r) : rc;
}

int ev_save(ev_index *ix, const char *path) {
    ev__replacement *r;
    int rc = ev__replacement_begin(path, &r);
    if (rc != EV_OK) return rc;
    rc = save(ix, r);
    ev__replacement_free(r);
    return rc;
}

/* ---- to memory ------------------------------------------------------------------------------- */

static int append(void *into, const void *bytes, size_t n) {
    char **at = into;
    memcpy(*at, bytes, n);
    *at += n;
    return 0;
}

static int64_t size_of(ev_index *ix) {
    part parts[EV_FILE_SECTIONS];
    uint64_t bytes = sizeof(ev__file_header);
    for (size_t i = 0, count = list_parts(ix, parts); i < count; i++) bytes += ev__file_padded(parts[i].bytes);
    return (int64_t)bytes;
}

int ev_save_bytes(ev_index *ix, int64_t room, void *out, int64_t *n) {
    if (room < 0) return ev__fail(EV_E_PARAM, "room for %lld bytes", (long long)room);
    ev__call call;
    int rc = ev__complete(ix, EV_LACKS_NOTHING);
    if (rc == EV_OK) rc = ev__enter(ix, EV_READ_AT_REST, &call);
    if (rc != EV_OK) return rc;
    char *at = out;
    *n = size_of(ix);
    stream rows;
    if (*n <= room) {
        bool opened = open_stream(ix, &rows);
        int error = opened ? write_parts(append, &at, ix, &rows) : 0;
        rc = !opened ? ev__fail(EV_E_NOMEM, "to copy vectors on disk") : error ? failed(&call, error, "") : EV_OK;
        if (opened) close_stream(&rows);
    }
    ev__leave(&call);
    return rc == EV_OK ? ev__ok() : rc;
}
