/* The n-th call that a save or load makes to the system fails, is cut short, is interrupted or torn, for every n and
 * every kind of call. Afterwards the file is the old one or the new one, the error names it and the reason, nothing is
 * held that was not before, and the call succeeds when made again. */
#include "check.h"
#include "edgevec_test.h"
#include "counting.h"
#include "files.h"
#include "unflushed.h"

#include <errno.h>

#if !defined(_WIN32)
#include <dirent.h>
#endif

#define PATH "test_faults.edgevec"

/* FAIL_ON: it and all that follow. SHORT: half of the bytes are moved, and more may follow. TORN: half of the bytes,
 * then nothing works, as when the disk is gone. INTERRUPTED: EINTR, once. */
typedef enum { FAIL, FAIL_ON, SHORT, TORN, INTERRUPTED, WAYS } way;

static ev_file_ops real;
static struct {
    long calls, fail_at; /* the number of the call that fails, from 1; 0: none */
    way how;
    int error;
    char kind; /* of the call that failed: a letter, 0: none did */
    long files, locks, maps;
} now;

/* The error of this call. */
static int fault(char kind) {
    long n = ++now.calls;
    bool moves = kind == 'w' || kind == 'R';
    bool hit = n == now.fail_at && !(now.how == SHORT) && !(now.how == INTERRUPTED && !moves);
    if (n == now.fail_at && (hit || moves)) now.kind = kind;
    if (hit) return now.how == INTERRUPTED ? EINTR : now.error;
    return now.fail_at && n > now.fail_at && (now.how == FAIL_ON || now.how == TORN) ? now.error : 0;
}

static bool halves(void) { return now.calls == now.fail_at && (now.how == SHORT || now.how == TORN); }

static int t_open(void *user, const char *path, const char *like, void **file) {
    int error = fault('o');
    if (!error) error = real.open(user, path, like, file);
    now.files += !error;
    return error;
}
static int t_open_old(void *user, const char *path, void **file) {
    int error = fault('O');
    if (!error) error = real.open_old(user, path, file);
    now.files += !error;
    return error;
}
static int t_lock(void *user, void *file, void **lock) {
    int error = fault('l');
    if (!error) error = real.lock(user, file, lock);
    now.locks += !error;
    return error;
}
static void t_unlock(void *user, void *lock) {
    now.locks--;
    real.unlock(user, lock);
}
static int t_close(void *user, void *file) {
    now.files--;
    int error = fault('c'), closed = real.close(user, file); /* the descriptor is gone whatever it says */
    return error ? error : closed;
}
static int t_write(void *user, void *file, const void *bytes, size_t n, size_t *written) {
    int error = fault('w');
    if (halves() && n > 1) n /= 2;
    if (error && !halves()) return error;
    int done = real.write(user, file, bytes, n, written);
    return error ? error : done;
}
static int t_read(void *user, void *file, void *out, size_t n, size_t *got) {
    int error = fault('R');
    if (halves() && n > 1) n /= 2;
    if (error && !halves()) return error;
    int done = real.read(user, file, out, n, got);
    return error ? error : done;
}
static int t_sync(void *user, void *file) {
    int error = fault('s');
    return error ? error : real.sync(user, file);
}
static int t_rename(void *user, const char *from, const char *to) {
    int error = fault('r');
    return error ? error : real.rename(user, from, to);
}
static int t_sync_folder(void *user, const char *path) {
    int error = fault('f');
    return error ? error : real.sync_folder(user, path);
}
static int t_unlink(void *user, const char *path) {
    int error = fault('u');
    return error ? error : real.unlink(user, path);
}
static int t_size(void *user, void *file, uint64_t *bytes) {
    int error = fault('S');
    return error ? error : real.size(user, file, bytes);
}
static int t_map(void *user, void *file, size_t bytes, void **at) {
    int error = fault('m');
    if (!error) error = real.map(user, file, bytes, at);
    now.maps += !error;
    return error;
}
static void t_unmap(void *user, void *at, size_t bytes) {
    now.maps--;
    real.unmap(user, at, bytes);
}

static const ev_file_ops faulty = {.open = t_open,
                                   .lock = t_lock,
                                   .write = t_write,
                                   .sync = t_sync,
                                   .close = t_close,
                                   .rename = t_rename,
                                   .sync_folder = t_sync_folder,
                                   .unlink = t_unlink,
                                   .unlock = t_unlock,
                                   .open_old = t_open_old,
                                   .size = t_size,
                                   .read = t_read,
                                   .map = t_map,
                                   .unmap = t_unmap};

/* ---- what there is --------------------------------------------------------------------------- */

/* Entries of a folder; where there is no such folder, or no way to look: 0. */
static int entries(const char *folder, const char *prefix) {
    int n = 0;
#if !defined(_WIN32)
    DIR *at = opendir(folder);
    for (const struct dirent *entry; at && (entry = readdir(at)) != NULL;)
        n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    if (at) closedir(at);
#else
    (void)folder, (void)prefix;
#endif
    return n;
}

static int descriptors(void) { return entries("/proc/self/fd", ""); }
static int temporaries(void) { return entries(".", EV_TEMPORARY); }

static bytes as_bytes(ev_index *ix) {
    int64_t n;
    CHECK(ev_save_bytes(ix, 0, NULL, &n) == EV_OK);
    bytes b = {malloc((size_t)n), (size_t)n};
    CHECK(ev_save_bytes(ix, n, b.at, &n) == EV_OK && n == (int64_t)b.count);
    return b;
}

/* An error that came from the call that failed says what, where and why. */
static void check_told(int rc) {
    CHECK(rc == (now.error == ENOMEM                             ? EV_E_NOMEM
                 : strchr("OS", now.kind) && now.error == ENOENT ? EV_E_NOT_FOUND
                                                                 : EV_E_IO));
    CHECK(strstr(ev_error_detail(), PATH) && strstr(ev_error_detail(), strerror(now.error)));
    CHECK(ev_error_errno() == now.error);
}

static bool is_harmless(void) { return !now.kind || now.how == SHORT || now.how == INTERRUPTED; }

static void begin(long n, way how, int error) {
    memset(&now, 0, sizeof now);
    now.fail_at = n;
    now.how = how;
    now.error = error;
    ev_set_file_ops(&faulty);
}

static void end(void) {
    ev_set_file_ops(&real);
    CHECK(now.files == 0 && now.locks == 0);
}

/* ---- save ------------------------------------------------------------------------------------ */

/* Returns how many calls were made. */
static long save(ev_index *ix, bytes old, bytes new, long n, way how, int error) {
    if (old.at)
        write_all(PATH, old);
    else
        remove(PATH);
    int64_t held = held_bytes;
    int open = descriptors();
    begin(n, how, error);
    int rc = ev_save(ix, PATH);
    end();
    CHECK(held_bytes == held && descriptors() == open);
    bytes there = read_all(PATH);
    bool is_old = old.at ? equal(there, old) : !there.at, is_new = equal(there, new);
    if (is_harmless()) {
        CHECK(rc == EV_OK && is_new);
    } else {
        check_told(rc);
        CHECK(is_old || (is_new && strchr("cf", now.kind)));
        CHECK(temporaries() == 0 || how == FAIL_ON || how == TORN); /* when nothing works, removing does not either */
        CHECK(is_sound(ix, 2 * ROWS));
    }
    free(there.at);
    CHECK(ev_save(ix, PATH) == EV_OK && temporaries() == 0);
    there = read_all(PATH);
    CHECK(equal(there, new));
    free(there.at);
    return now.calls;
}

/* ---- load ------------------------------------------------------------------------------------ */

static long load_with(bytes file, int32_t map, long n, way how, int error) {
    int64_t held = held_bytes;
    int open = descriptors();
    ev_index *ix = NULL;
    begin(n, how, error);
    int rc = ev_load(PATH, map, &ix);
    if (is_harmless() || now.kind == 'c') { /* all was read by then */
        CHECK(rc == EV_OK && ix && is_sound(ix, 2 * ROWS));
    } else {
        check_told(rc);
        CHECK(!ix);
    }
    ev_free(ix);
    end();
    CHECK(now.maps == 0 && held_bytes == held && descriptors() == open);
    bytes there = read_all(PATH);
    CHECK(equal(there, file));
    free(there.at);
    ev_free(load(PATH, map));
    return now.calls;
}

int main(void) {
    static const int errors[] = {ENOSPC, EIO, EACCES, ENOMEM, ENOENT};
    enum { ERRORS = sizeof errors / sizeof *errors };
    count_allocations();
    real = without_flushes();
    ev_set_file_ops(&real);
    ev_index *ix = make(EV_METRIC_L2, EV_QUANT_SQ8, EV_VECTORS_SQ24);
    add_rows(ix, 0, ROWS);
    bytes nothing = {NULL, 0}, old = as_bytes(ix);
    add_rows(ix, ROWS, ROWS);
    bytes new = as_bytes(ix);
    CHECK(ev_save(ix, PATH) == EV_OK && temporaries() == 0);
    for (way how = FAIL; how < WAYS; how++)
        for (int i = 0; i < (how == FAIL || how == FAIL_ON ? ERRORS : 1); i++) {
            long n = 0, saves = 0, loads = 0;
            while (save(ix, nothing, new, n + 1, how, errors[i]) >= n + 1) n++;
            CHECK(n > 15);
            for (saves = n, n = 0; save(ix, old, new, n + 1, how, errors[i]) >= n + 1;) n++;
            CHECK(n == saves);
            for (int32_t map = EV_MAP_NONE; map <= EV_MAP_UNVERIFIED; map++) {
                for (n = 0; load_with(new, map, n + 1, how, errors[i]) >= n + 1;) n++;
                CHECK(n >= 4);
                loads += n;
            }
            printf("way %d, errno %d: each of %ld calls of a save, twice, and %ld of three loads\n", how, errors[i],
                   saves, loads);
        }
    free(old.at);
    free(new.at);
    ev_free(ix);
    CHECK(held_bytes == 0);
    ev_set_file_ops(NULL);
    remove(PATH);
    return check_summary();
}
