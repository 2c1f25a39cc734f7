/* Saving: a new file beside the old one, flushed, then renamed over it, so that there is a whole file at every
 * moment. */
#include "base/file_system.h"
#include "file/format.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#define EV_NAME_TRIES \
    16 /* a temporary name is 64 random bits, so one is enough unless another process makes the same on purpose */

typedef struct {
    const char *name;
    const void *at;
    size_t bytes;
} part;

/* What the file holds behind its header, in order. */
static size_t list_parts(ev_index *ix, part out[EV_FILE_SECTIONS]) {
    ev__quantizer *q = &ix->graph.store.quantizer;
    ev__column columns[EV_COLUMNS];
    ev__list_columns(&ix->graph.store.columns, columns);
    size_t n = 0;
    for (size_t i = 0; i < EV_FILE_COLUMNS; i++) {
        const ev__array *array = columns[i].array;
        if (array->count) out[n++] = (part){columns[i].name, array->at, array->count * array->item};
    }
    if (q->center) out[n++] = (part){"centre", q->center, q->dim * sizeof(float)};
    return n;
}

static void fill_header(const ev_index *ix, const part *parts, size_t count, ev__file_header *h) {
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
        section->crc = q->kernels.crc32c(0, parts[i].at, parts[i].bytes);
        h->file_bytes += ev__file_padded(parts[i].bytes);
    }
    h->crc = q->kernels.crc32c(0, h, offsetof(ev__file_header, crc));
}

typedef int (*writer)(void *into, const void *bytes, size_t n); /* 0, or an errno */

static int write_parts(writer write, void *into, ev_index *ix) {
    static const char zeros[EV_LINE];
    part parts[EV_FILE_SECTIONS];
    ev__file_header header;
    size_t count = list_parts(ix, parts);
    fill_header(ix, parts, count, &header);
    int error = write(into, &header, sizeof header);
    for (size_t i = 0; !error && i < count; i++) {
        size_t filling = (size_t)(ev__file_padded(parts[i].bytes) - parts[i].bytes);
        for (size_t at = 0; !error && at < parts[i].bytes; at += EV_FILE_RUN) {
            size_t left = parts[i].bytes - at;
            if (ev__is_to_stop()) return EV_FILE_STOPPED;
            error = write(into, (const char *)parts[i].at + at, left < EV_FILE_RUN ? left : EV_FILE_RUN);
        }
        if (!error && filling) error = write(into, zeros, filling);
    }
    return error;
}

static int failed(int error, const char *what, const char *path) {
    return error == EV_FILE_STOPPED ? ev__stopped() : ev__refused(error, what, path);
}

/* Write and flush a new file. Writers wait only while the index is read, not while the disk works. */
static int write_file(const ev_file_ops *ops, ev_index *ix, void *file, const char *path) {
    ev__call call;
    int error = 0, rc = ev__complete(ix, EV_LACKS_NOTHING);
    if (rc == EV_OK) rc = ev__enter(ix, EV_READ_AT_REST, &call);
    if (rc == EV_OK) {
        error = write_parts(ev__file_write, file, ix);
        ev__leave(&call);
    }
    if (error) rc = failed(error, "write", path);
    if (rc == EV_OK && (error = ops->sync(ops->user, file)) != 0) rc = failed(error, "flush", path);
    error = ops->close(ops->user, file);
    return rc == EV_OK && error ? ev__refused(error, "close", path) : rc;
}

/* A new file with its lock, or none of both. */
static int create(const ev_file_ops *ops, const char *name, const char *like, void **file, void **lock) {
    int error = ops->open(ops->user, name, like, file);
    if (error) return error;
    error = ops->lock(ops->user, *file, lock);
    if (error) {
        ops->close(ops->user, *file);
        ops->unlink(ops->user, name);
    }
    return error;
}

/* Create a file that nobody else has in the folder of `path`. Its name does not grow with that of `path`, which may be
 * as long as names can be. */
static int create_beside(const ev_file_ops *ops, const char *path, char name[EV_PATH], void **file, void **lock) {
    static int64_t names;
    size_t folder = ev__folder_length(path);
    if (folder + sizeof EV_TEMPORARY "0123456789abcdef" > EV_PATH) return ENAMETOOLONG;
    memcpy(name, path, folder);
    int error = EEXIST;
    for (int i = 0; error == EEXIST && i < EV_NAME_TRIES; i++) {
        uint64_t time;
        double now = ev__now();
        memcpy(&time, &now, sizeof time);
        uint64_t random = ev__mix(ev__mix(time ^ (uintptr_t)&now) + (uint64_t)ev__add64(&names, 1));
        snprintf(name + folder, EV_PATH - folder, EV_TEMPORARY "%016llx", (unsigned long long)random);
        error = create(ops, name, path, file, lock);
    }
    return error;
}

/* target, name: of the file to be replaced and of the new one; errors name the path that the caller gave. */
static int save(const ev_file_ops *ops, ev_index *ix, const char *path, char target[EV_PATH], char name[EV_PATH]) {
    void *file, *lock;
    int error = ev__file_target(path, target);
    if (error == EINVAL)
        return ev__fail_errno(EV_E_IO, error, "not a regular file, and pipes and devices cannot be written to: '%s'",
                              path);
    if (error) return ev__refused(error, "replace", path);
    ev__remove_left_over(target); /* before more room is taken */
    error = create_beside(ops, target, name, &file, &lock);
    if (error) return ev__refused(error, "create a file for", path);
    int rc = write_file(ops, ix, file, path);
    error = rc == EV_OK ? ops->rename(ops->user, name, target) : 0;
    if (error) rc = ev__refused(error, "replace", path);
    if (rc != EV_OK) ops->unlink(ops->user, name);
    ops->unlock(ops->user, lock);
    if (rc != EV_OK) return rc;
    error = ops->sync_folder(ops->user, target);
    return error ? ev__refused(error, "flush the folder of", path) : ev__ok();
}

int ev_save(ev_index *ix, const char *path) {
    char *memory = ev__alloc(2 * EV_PATH, 1);
    if (!memory) return ev__fail(EV_E_NOMEM, "the names of two files");
    int rc = save(ev__file_ops(), ix, path, memory, memory + EV_PATH);
    ev__release(memory, 2 * EV_PATH, 1);
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
    if (*n <= room && write_parts(append, &at, ix)) rc = ev__stopped();
    ev__leave(&call);
    return rc == EV_OK ? ev__ok() : rc;
}
