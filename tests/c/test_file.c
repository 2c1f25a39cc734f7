/* Saving under faults: whatever call fails, tears or lies, there is a whole file at the path, the old one or the new
 * one. */
#include "check.h"
#include "edgevec_test.h"
#include "counting.h"
#include "base/file_system.h"
#include "file/format.h"
#include "files.h"

#include <errno.h>
#include <stddef.h>

#define PATH "test_file.edgevec"

/* ---- a file system that fails ---------------------------------------------------------------- */

static ev_file_ops real;

static struct {
    char log[256];         /* a letter per call */
    char name[512];        /* of the temporary file */
    size_t calls, fail_at; /* number of the call that fails, from 1; 0: none */
    int error;
    bool dead; /* after the failing call nothing works: the machine lost its power */
    bool cannot_unlink;
    size_t tear_at;            /* bytes that reach the disk before a write fails */
    size_t lose_from, lose_to; /* bytes that never do, though the write says so */
    size_t written;
} faults;

static void reset(void) {
    memset(&faults, 0, sizeof faults);
    faults.error = ENOSPC;
    faults.tear_at = SIZE_MAX;
}

/* Is this the call that fails? */
static bool fails(char letter) {
    size_t length = strlen(faults.log);
    if (length + 1 < sizeof faults.log && (letter != 'w' || !length || faults.log[length - 1] != 'w'))
        faults.log[length] = letter;
    faults.calls++;
    return faults.fail_at && (faults.calls == faults.fail_at || (faults.dead && faults.calls > faults.fail_at));
}

static int faulty_open(void *user, const char *path, const char *like, void **file) {
    if (fails('o')) return faults.error;
    snprintf(faults.name, sizeof faults.name, "%s", path);
    return real.open(user, path, like, file);
}

static int faulty_lock(void *user, void *file, void **lock) {
    return fails('l') ? faults.error : real.lock(user, file, lock);
}

static int faulty_write(void *user, void *file, const void *from, size_t n, size_t *written) {
    if (fails('w')) return faults.error;
    size_t start = faults.written, room = faults.tear_at - start;
    bool torn = room < n;
    if (torn) n = room;
    faults.written += n;
    char *copy = malloc(n + 1);
    if (!copy) return ENOMEM;
    memcpy(copy, from, n);
    for (size_t i = 0; i < n; i++)
        if (start + i >= faults.lose_from && start + i < faults.lose_to) copy[i] = 0;
    int error = real.write(user, file, copy, n, written);
    CHECK(*written == n || error);
    free(copy);
    if (torn) {
        faults.fail_at = faults.calls;
        return faults.error;
    }
    return error;
}

static int faulty_sync(void *user, void *file) { return fails('s') ? faults.error : real.sync(user, file); }

static int faulty_close(void *user, void *file) {
    int error = real.close(user, file); /* even a dead machine's descriptors are gone */
    return fails('c') ? faults.error : error;
}

static int faulty_rename(void *user, const char *from, const char *to) {
    CHECK(strcmp(from, faults.name) == 0);
    return fails('r') ? faults.error : real.rename(user, from, to);
}

static int faulty_sync_folder(void *user, const char *path) {
    return fails('f') ? faults.error : real.sync_folder(user, path);
}

static int faulty_unlink(void *user, const char *path) {
    CHECK(strcmp(path, faults.name) == 0);
    return fails('u') || faults.cannot_unlink ? faults.error : real.unlink(user, path);
}

static ev_file_ops faulty;

static void make_faulty(void) {
    real = faulty = *ev__file_ops();
    faulty.open = faulty_open;
    faulty.lock = faulty_lock;
    faulty.write = faulty_write;
    faulty.sync = faulty_sync;
    faulty.close = faulty_close;
    faulty.rename = faulty_rename;
    faulty.sync_folder = faulty_sync_folder;
    faulty.unlink = faulty_unlink;
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* A file with ROWS rows at PATH, and an index with as many more. */
static ev_index *grown_beyond_file(void) {
    ev_index *ix = make(EV_METRIC_L2, EV_QUANT_SQ8, EV_VECTORS_SQ24);
    add_rows(ix, 0, ROWS);
    CHECK(ev_save(ix, PATH) == EV_OK);
    add_rows(ix, ROWS, ROWS);
    return ix;
}

static void order_of_calls(void) {
    ev_index *ix = make(EV_METRIC_L2, EV_QUANT_SQ8, EV_VECTORS_SQ24);
    add_rows(ix, 0, ROWS);
    reset();
    ev_set_file_ops(&faulty);
    CHECK(ev_save(ix, PATH) == EV_OK);
    ev_set_file_ops(NULL);
    CHECK(strcmp(faults.log, "olwscrf") == 0);
    CHECK(strncmp(faults.name, ".edgevec-", strlen(".edgevec-")) == 0); /* whatever the length of PATH */
    CHECK(!exists(faults.name));
    check_file(PATH, ROWS);
    ev_free(ix);
}

static void each_call_failing(bool cannot_unlink) {
    ev_index *ix = grown_beyond_file();
    bytes old = read_all(PATH);
    for (size_t n = 1;; n++) {
        reset();
        faults.fail_at = n;
        faults.cannot_unlink = cannot_unlink;
        ev_set_file_ops(&faulty);
        int rc = ev_save(ix, PATH);
        ev_set_file_ops(NULL);
        if (faults.calls < n) {
            CHECK(rc == EV_OK && n > 7);
            break;
        }
        CHECK(rc == EV_E_IO);
        CHECK(strstr(ev_error_detail(), strerror(ENOSPC)) && strstr(ev_error_detail(), PATH));
        bool renamed = strchr(faults.log, 'f') != NULL; /* too late to go back: then the new file is there */
        bytes now = read_all(PATH);
        CHECK(renamed ? !equal(now, old) : equal(now, old));
        if (faults.name[0]) CHECK(exists(faults.name) == (cannot_unlink && !renamed));
        check_file(PATH, renamed ? 2 * ROWS : ROWS);
        free(now.at);
#if !defined(_WIN32)
        CHECK(!faults.name[0] || !exists(faults.name)); /* that load has removed it */
#endif
        CHECK(is_sound(ix, 2 * ROWS));
    }
    check_file(PATH, 2 * ROWS);
    free(old.at);
    ev_free(ix);
}

static void out_of_memory_in_the_system(void) {
    ev_index *ix = grown_beyond_file();
    reset();
    faults.fail_at = 1;
    faults.error = ENOMEM;
    ev_set_file_ops(&faulty);
    CHECK(ev_save(ix, PATH) == EV_E_NOMEM);
    ev_set_file_ops(NULL);
    check_file(PATH, ROWS);
    ev_free(ix);
}

/* A name that is taken is not overwritten: another is tried. */
static void name_taken(void) {
    ev_index *ix = grown_beyond_file();
    reset();
    faults.fail_at = 1;
    faults.error = EEXIST;
    ev_set_file_ops(&faulty);
    CHECK(ev_save(ix, PATH) == EV_OK);
    ev_set_file_ops(NULL);
    CHECK(strcmp(faults.log, "oolwscrf") == 0);
    check_file(PATH, 2 * ROWS);
    ev_free(ix);
}

/* The power goes in the middle of a write: what is left of the temporary file is refused, the old file is whole. */
static void torn_writes(void) {
    ev_index *ix = grown_beyond_file();
    bytes old = read_all(PATH);
    for (size_t tear = 0;; tear += tear < 1400 ? 97 : 1009) {
        reset();
        faults.tear_at = tear;
        faults.dead = true;
        ev_set_file_ops(&faulty);
        int rc = ev_save(ix, PATH);
        ev_set_file_ops(NULL);
        if (faults.written < tear) break; /* behind the end of the file: nothing tore */
        CHECK(rc == EV_E_IO);
        ev_index *torn = NULL;
        CHECK(ev_load(faults.name, 0, &torn) == EV_E_CORRUPT);
        CHECK(ev_load(faults.name, 1, &torn) == EV_E_CORRUPT);
        CHECK(torn == NULL && strstr(ev_error_detail(), "section '"));
        bytes now = read_all(PATH);
        CHECK(equal(now, old));
        free(now.at);
        remove(faults.name);
    }
    check_file(PATH, 2 * ROWS);
    free(old.at);
    ev_free(ix);
}

/* A disk that says yes and loses a page: the file is there, and is refused. */
static void lost_writes(void) {
    ev_index *ix = grown_beyond_file();
    bytes old = read_all(PATH);
    for (size_t page = 0; page + 512 < old.count; page += 512 * 3) {
        reset();
        faults.lose_from = page;
        faults.lose_to = page + 512;
        ev_set_file_ops(&faulty);
        CHECK(ev_save(ix, PATH) == EV_OK);
        ev_set_file_ops(NULL);
        ev_index *loaded = NULL;
        CHECK(ev_load(PATH, 0, &loaded) == EV_E_CORRUPT);
        CHECK(ev_load(PATH, 1, &loaded) == EV_E_CORRUPT);
        CHECK(loaded == NULL);
    }
    free(old.at);
    ev_free(ix);
}

static void same_bytes_again(void) {
    for (int32_t metric = EV_METRIC_COSINE; metric <= EV_METRIC_L2; metric++)
        for (int32_t kind = 0; kind < 5; kind++) {
            ev_index *ix = make(metric, (kind + 1) / 2, kind % 2 == 0);
            CHECK(ev_save(ix, PATH) == EV_OK); /* empty */
            check_file(PATH, 0);
            add_rows(ix, 0, ROWS);
            for (int64_t id = 0; id < ROWS; id += 3) CHECK(ev_remove(ix, 1, &id, NULL) == EV_OK);
            CHECK(ev_save(ix, PATH) == EV_OK);
            bytes first = read_all(PATH);
            for (int32_t map = 0; map <= 1; map++) {
                ev_index *loaded = load(PATH, map);
                CHECK(is_sound(loaded, ROWS - (ROWS + 2) / 3));
                CHECK(ev_save(loaded, PATH ".again") == EV_OK);
                bytes second = read_all(PATH ".again");
                CHECK(equal(first, second));
                free(second.at);
                ev_free(loaded);
            }
            free(first.at);
            ev_free(ix);
        }
    remove(PATH ".again");
}

#if !defined(_WIN32) /* which does not let a mapped file be replaced */
static void saved_over_its_own_map(void) {
    ev_free(grown_beyond_file());
    ev_index *mapped = load(PATH, 1);
    add_rows(mapped, ROWS, ROWS);
    CHECK(ev_save(mapped, PATH) == EV_OK);
    CHECK(is_sound(mapped, 2 * ROWS));
    check_file(PATH, 2 * ROWS);
    ev_free(mapped);
}
#endif

static void what_is_no_file(void) {
    ev_index *ix = make(EV_METRIC_L2, EV_QUANT_NONE, EV_VECTORS_FLOAT32), *loaded = NULL;
    CHECK(ev_save(ix, "no such folder/" PATH) == EV_E_IO);
    CHECK(strstr(ev_error_detail(), strerror(ENOENT)) && strstr(ev_error_detail(), "no such folder/" PATH));
    CHECK(ev_load("no such file", 0, &loaded) == EV_E_NOT_FOUND);
    CHECK(strstr(ev_error_detail(), "no such file"));
    CHECK(ev_load(".", 0, &loaded) == EV_E_IO);
    FILE *f = fopen(PATH, "wb");
    if (f) fclose(f);
    CHECK(ev_load(PATH, 0, &loaded) == EV_E_CORRUPT && strstr(ev_error_detail(), "section 'header'"));
    CHECK(ev_load(PATH, 1, &loaded) == EV_E_CORRUPT && strstr(ev_error_detail(), "section 'header'"));
    CHECK(loaded == NULL);
    ev_free(ix);
}

/* Loading takes memory for what is in the file, not for what the file says of itself. */
static void memory_for_what_is_there(void) {
    enum { KINDS = 5, ABOUT = 64 * 1024 }; /* the index itself, its rotation and center, small tables */
    const ev__file_header claims[KINDS] = {
        {.slots = 0}, {.slots = EV_NONE - 1}, {.dim = EV_MAX_DIM}, {.M = EV_MAX_M}, {.live = INT32_MAX}};
    for (int32_t quantization = EV_QUANT_NONE; quantization <= EV_QUANT_BINARY; quantization++) {
        ev_index *ix = make(EV_METRIC_L2, quantization, EV_VECTORS_SQ24);
        for (int64_t i = 0; i < 40; i++) add_rows(ix, i * ROWS, ROWS);
        CHECK(ev_save(ix, PATH) == EV_OK);
        ev_free(ix);
        CHECK(held_bytes == 0);
        bytes file = read_all(PATH);
        ev__file_header header, *h = (ev__file_header *)(void *)file.at;
        memcpy(&header, h, sizeof header);
        for (size_t i = 0; i < KINDS; i++) {
            *h = header;
            if (claims[i].slots) h->slots = claims[i].slots;
            if (claims[i].dim) h->dim = claims[i].dim;
            if (claims[i].M) h->M = claims[i].M;
            if (claims[i].live) h->live = claims[i].live;
            h->crc = ev__kernels_scalar.crc32c(0, h, offsetof(ev__file_header, crc));
            write_all(PATH, file);
            most_held_bytes = 0;
            ix = NULL;
            CHECK(ev_load(PATH, 0, &ix) == (i ? EV_E_CORRUPT : EV_OK));
            int64_t room = claims[i].dim ? EV_MAX_DIM * 6 : 0; /* a center and a rotation for as many dimensions */
            CHECK(most_held_bytes < (int64_t)file.count * 3 / 2 + ABOUT + room);
            CHECK(i || most_held_bytes > (int64_t)file.count / 2);
            ev_free(ix);
            CHECK(held_bytes == 0);
        }
        free(file.at);
    }
}

int main(void) {
    count_allocations();
    make_faulty();
    order_of_calls();
    each_call_failing(false);
    each_call_failing(true);
    out_of_memory_in_the_system();
    name_taken();
    torn_writes();
    lost_writes();
    same_bytes_again();
#if !defined(_WIN32)
    saved_over_its_own_map();
#endif
    what_is_no_file();
    memory_for_what_is_there();
    CHECK(held_bytes == 0);
    remove(PATH);
    return check_summary();
}
