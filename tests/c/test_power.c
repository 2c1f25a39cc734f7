/* The power goes at any moment of a row of saves. What the saves ask of the system is recorded; then disks are made up
 * as they may be found afterwards: of the writes to a file since its last flush any have arrived, one of them perhaps
 * in part, and of what was done to the folder since its last flush, what came first. On every such disk the path holds
 * the file of one save, whole: of the last that has returned, or of the one that was under way. */
#include "check.h"
#include "edgevec_test.h"
#include "counting.h"
#include "base/file_system.h"
#include "files.h"

#define PATH "test_power.edgevec"
enum { SAVES = 3, FILES = SAVES, EVENTS = 400, EXHAUSTIVE = 10, RANDOM = 500 };

/* ---- what the saves did ---------------------------------------------------------------------- */

/* OPEN, RENAME, UNLINK: done to the folder. DONE: a save has returned. */
typedef enum { OPEN, WRITE, SYNC, RENAME, SYNC_FOLDER, UNLINK, DONE } what;
typedef struct {
    what what;
    int file; /* which of the new files, from 0 */
    size_t offset, count;
    char *bytes;
} event;

static ev_file_ops real;
static event log_[EVENTS];
static int events, files;
static size_t sizes[FILES];
static char names[FILES][64];

static event *note(what what, int file) {
    CHECK(events < EVENTS);
    log_[events] = (event){.what = what, .file = file};
    return &log_[events++];
}
static int file_named(const char *name) {
    for (int i = 0; i < files; i++)
        if (strcmp(name, names[i]) == 0) return i;
    CHECK(false);
    return 0;
}

static int r_open(void *user, const char *path, const char *like, void **file) {
    CHECK(files < FILES);
    snprintf(names[files], sizeof names[files], "%s", path);
    note(OPEN, files++);
    return real.open(user, path, like, file);
}
static int r_write(void *user, void *file, const void *bytes, size_t n, size_t *written) {
    event *e = note(WRITE, files - 1);
    int error = real.write(user, file, bytes, n, written);
    e->offset = sizes[e->file];
    e->count = *written;
    e->bytes = malloc(*written);
    memcpy(e->bytes, bytes, *written);
    sizes[e->file] += *written;
    return error;
}
static int r_sync(void *user, void *file) {
    (void)user, (void)file;
    note(SYNC, files - 1);
    return 0;
}
static int r_rename(void *user, const char *from, const char *to) {
    CHECK(strcmp(to, PATH) == 0);
    note(RENAME, file_named(from));
    return real.rename(user, from, to);
}
static int r_sync_folder(void *user, const char *path) {
    (void)user, (void)path;
    note(SYNC_FOLDER, 0);
    return 0;
}
static int r_unlink(void *user, const char *path) {
    note(UNLINK, file_named(path));
    return real.unlink(user, path);
}

/* ---- a disk that may be found ---------------------------------------------------------------- */

typedef struct {
    int until;         /* events that had begun */
    int folder;        /* of what was done to the folder and not flushed, so much has arrived */
    uint64_t arrived;  /* of the unflushed writes, a bit each */
    int torn;          /* of them, the one that arrived in part; -1: none */
    bool ignore[DONE]; /* flushes that do nothing, to see whether this test would notice */
} crash;

typedef struct {
    char *bytes[FILES];
    bool there[FILES];         /* under its own name */
    int path;                  /* the file at PATH, or -1 */
    int done;                  /* saves that have returned */
    int writes, folder_events; /* that were not flushed */
} disk;

static int last(const crash *c, what what, int file) {
    for (int i = c->until - 1; i >= 0 && !c->ignore[what]; i--)
        if (log_[i].what == what && (what == SYNC_FOLDER || log_[i].file == file)) return i;
    return -1;
}

static void do_to_folder(disk *d, const event *e) {
    if (e->what == OPEN) d->there[e->file] = true;
    if (e->what == UNLINK || e->what == RENAME) d->there[e->file] = false;
    if (e->what == RENAME) d->path = e->file;
}

static void write_on(disk *d, const crash *c, const event *e, bool flushed) {
    int n = flushed ? -1 : d->writes++;
    if (!flushed && n < 64 && !(c->arrived >> n & 1)) return;
    memcpy(d->bytes[e->file] + e->offset, e->bytes, !flushed && n == c->torn ? e->count / 2 : e->count);
}

static disk find(const crash *c) {
    disk d = {.path = -1};
    for (int i = 0; i < files; i++) d.bytes[i] = calloc(sizes[i] + 1, 1);
    int folder_flushed = last(c, SYNC_FOLDER, 0);
    for (int i = 0; i < c->until; i++) {
        const event *e = &log_[i];
        if (e->what == DONE) d.done++;
        if (e->what == WRITE) write_on(&d, c, e, i < last(c, SYNC, e->file));
        if (e->what == OPEN || e->what == RENAME || e->what == UNLINK)
            if (i < folder_flushed || d.folder_events++ < c->folder) do_to_folder(&d, e);
    }
    return d;
}

static void forget(disk *d) {
    for (int i = 0; i < files; i++) free(d->bytes[i]);
}

/* ---- is it whole? ---------------------------------------------------------------------------- */

static bytes saved[SAVES];

static bool is_whole(const disk *d) {
    int newest = d->path; /* the n-th new file is the n-th save's */
    if (newest < d->done - 1) return false;
    if (newest < 0) return true; /* none was there, and none had been promised */
    bytes there = {d->bytes[newest], sizes[newest]};
    return newest <= d->done && equal(there, saved[newest]);
}

/* The same with a folder on a real disk: what is there loads, and what was left over is gone after it. */
static void check_on_disk(const disk *d) {
    for (int i = 0; i < files; i++) {
        remove(names[i]);
        if (d->there[i]) write_all(names[i], (bytes){d->bytes[i], sizes[i]});
    }
    remove(PATH);
    if (d->path >= 0) write_all(PATH, (bytes){d->bytes[d->path], sizes[d->path]});
    ev_index *ix = NULL;
    CHECK(ev_load(PATH, d->path & 1, &ix) == (d->path < 0 ? EV_E_NOT_FOUND : EV_OK));
    if (!ix) ix = make(EV_METRIC_L2, EV_QUANT_SQ8, EV_VECTORS_SQ24);
#if !defined(_WIN32) /* which does not let a mapped file be replaced, and leaves what is left over */
    CHECK(ev_save(ix, PATH) == EV_OK);
    for (int i = 0; i < files; i++) CHECK(!exists(names[i]));
#endif
    ev_free(ix);
}

/* How many of the disks that may be found are not whole; *found: how many there are. */
static long broken(const bool ignore[DONE], long *found, bool on_disk) {
    long bad = 0;
    uint64_t random = 1;
    for (int until = 0; until <= events; until++) {
        crash c = {.until = until, .torn = -1};
        memcpy(c.ignore, ignore, sizeof c.ignore);
        disk d = find(&c);
        int writes = d.writes, folder_events = d.folder_events;
        forget(&d);
        long most = writes <= EXHAUSTIVE ? 1L << writes : RANDOM;
        for (c.folder = 0; c.folder <= folder_events; c.folder++)
            for (long i = 0; i < most; i++) {
                random = ev__mix(random);
                c.arrived = writes <= EXHAUSTIVE ? (uint64_t)i : i == 0 ? UINT64_MAX : random;
                c.torn = writes && random % 4 == 0 ? (int)(random / 4 % (uint64_t)writes) : -1;
                d = find(&c);
                bad += !is_whole(&d);
                if (on_disk && random % 997 == 0) check_on_disk(&d);
                forget(&d);
                ++*found;
            }
    }
    return bad;
}

int main(void) {
    count_allocations();
    real = *ev__file_ops();
    ev_file_ops recording = real;
    recording.open = r_open;
    recording.write = r_write;
    recording.sync = r_sync;
    recording.rename = r_rename;
    recording.sync_folder = r_sync_folder;
    recording.unlink = r_unlink;
    remove(PATH);
    ev_index *ix = make(EV_METRIC_L2, EV_QUANT_SQ8, EV_VECTORS_SQ24);
    ev_set_file_ops(&recording);
    for (int i = 0; i < SAVES; i++) {
        add_rows(ix, i * 20, 20);
        CHECK(ev_save(ix, PATH) == EV_OK);
        note(DONE, 0);
        saved[i] = read_all(PATH);
    }
    ev_set_file_ops(NULL);
    ev_free(ix);
    long found = 0, unused = 0;
    static const bool none[DONE], no_sync[DONE] = {[SYNC] = true}, no_folder_sync[DONE] = {[SYNC_FOLDER] = true};
    CHECK(broken(none, &found, true) == 0);
    CHECK(found > 10000);
    /* were a flush left out, it would show */
    CHECK(broken(no_sync, &unused, false) > 0);
    CHECK(broken(no_folder_sync, &unused, false) > 0);
    printf("%d events of %d saves, %ld disks after a loss of power\n", events, SAVES, found);
    for (int i = 0; i < events; i++) free(log_[i].bytes);
    for (int i = 0; i < SAVES; i++) free(saved[i].at);
    remove(PATH);
    return check_summary();
}
