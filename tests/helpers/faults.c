/* Preloaded (LD_PRELOAD): makes calls on the files under one folder fail, be cut short or torn; delays them; logs them.
 *
 * Python arms it through ctypes. Nothing is armed at first. Calls of libc from inside libc are not seen. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, RENAME = 16, TRUNCATE = 32, MAP = 64, UNLINK = 128, FOLDER = 256 };
enum { FAIL, SHORT, TORN };

#define MAX_FDS 4096
#define NAME_BYTES 512

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char folder[NAME_BYTES];
static int kinds, what, number, delay_ms, hit_kind;
static long nth, calls;
static char names[MAX_FDS][NAME_BYTES]; /* of the files that are open, by descriptor */
static int log_fd = -1;

#define REAL(name)                 \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Make the n-th call (from 1) of these kinds fail with errno `number`; 0: count only. */
void faults_arm(const char *under, int which, long n, int how, int error) {
    pthread_mutex_lock(&guard);
    snprintf(folder, sizeof folder, "%s", under);
    kinds = which, nth = n, what = how, number = error, calls = 0, hit_kind = 0;
    pthread_mutex_unlock(&guard);
}

/* The number of calls since faults_arm(). */
long faults_disarm(void) {
    pthread_mutex_lock(&guard);
    kinds = 0;
    long made = calls;
    pthread_mutex_unlock(&guard);
    return made;
}

/* The kind of the call that was made to fail; 0: none. */
int faults_hit(void) { return hit_kind; }

/* Each fsync and fdatasync takes so much longer. */
void faults_delay(int milliseconds) { delay_ms = milliseconds; }

static int under(const char *path) {
    size_t size = strlen(folder);
    return size && path && !strncmp(path, folder, size);
}

static const char *name_of(int fd) { return fd >= 0 && fd < MAX_FDS && names[fd][0] ? names[fd] : NULL; }

static void remember(int fd, const char *path) {
    if (fd >= 0 && fd < MAX_FDS) snprintf(names[fd], NAME_BYTES, "%s", path ? path : "");
}

/* The path of a file in a folder that is open. */
static void join(char full[2 * NAME_BYTES], int at, const char *path) {
    const char *name = path[0] == '/' ? NULL : name_of(at);
    snprintf(full, 2 * NAME_BYTES, "%s%s%s", name ? name : "", name ? "/" : "", path);
}

/* Whether this call of a kind on a file is the one that is meant. */
static int due(int kind, const char *path) {
    if (!(kinds & kind) || !under(path)) return 0;
    pthread_mutex_lock(&guard);
    int now = ++calls == nth;
    if (now) hit_kind = kind;
    pthread_mutex_unlock(&guard);
    return now;
}

/* ---- the log of what a disk is told, for a loss of power ---- */

static void put(const void *bytes, size_t size) {
    REAL(write);
    const char *at = bytes;
    while (size) {
        ssize_t done = real(log_fd, at, size);
        if (done <= 0) abort();
        at += done, size -= (size_t)done;
    }
}

static void record(char kind, const char *path, const char *other, int64_t offset, const void *data, int64_t size) {
    if (log_fd < 0 || !(under(path) || under(other))) return;
    pthread_mutex_lock(&guard);
    uint16_t lengths[2] = {(uint16_t)strlen(path), (uint16_t)(other ? strlen(other) : 0)};
    int64_t numbers[2] = {offset, size};
    put(&kind, 1), put(lengths, sizeof lengths), put(numbers, sizeof numbers);
    put(path, lengths[0]);
    if (other) put(other, lengths[1]);
    if (data) put(data, (size_t)size);
    pthread_mutex_unlock(&guard);
}

/* Log all calls that change files under a folder to a file elsewhere. */
void faults_record(const char *under_folder, const char *file) {
    REAL(open);
    snprintf(folder, sizeof folder, "%s", under_folder);
    log_fd = real(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

/* A line of the caller's own in the log: what it was told by now is durable. */
void faults_mark(const char *text) { record('M', folder, text, 0, NULL, 0); }

/* ---- calls ---- */

static int opened(int fd, const char *path, int flags) {
    if (fd < 0) return fd;
    remember(fd, path);
    if (flags & O_CREAT) record('C', path, NULL, 0, NULL, 0);
    if (flags & O_TRUNC) record('T', path, NULL, 0, NULL, 0);
    return fd;
}

#define OPENS(name)                                                                  \
    int name(const char *path, int flags, ...) {                                     \
        REAL(name);                                                                  \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0; \
        va_end(rest);                                                                \
        if (due(OPEN, path)) return errno = number, -1;                              \
        return opened(real(path, flags, mode), path, flags);                         \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                                               \
    int name(int at, const char *path, int flags, ...) {                             \
        REAL(name);                                                                  \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0; \
        va_end(rest);                                                                \
        char full[2 * NAME_BYTES];                                                   \
        join(full, at, path);                                                        \
        if (due(OPEN, full)) return errno = number, -1;                              \
        return opened(real(at, path, flags, mode), full, flags);                     \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

int close(int fd) {
    REAL(close);
    remember(fd, NULL);
    return real(fd);
}

/* What is read is cut to a half; there is nothing to be torn. */
#define CUT_READ(size)                                \
    if (due(READ, name_of(fd))) {                     \
        if (what != SHORT) return errno = number, -1; \
        size = (size + 1) / 2;                        \
    }

ssize_t read(int fd, void *out, size_t size) {
    REAL(read);
    CUT_READ(size)
    return real(fd, out, size);
}

#define READS(name)                                                \
    ssize_t name(int fd, void *out, size_t size, off64_t offset) { \
        REAL(name);                                                \
        CUT_READ(size)                                             \
        return real(fd, out, size, offset);                        \
    }
READS(pread64)

ssize_t pread(int fd, void *out, size_t size, off_t offset) { return pread64(fd, out, size, offset); }

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    const char *name = name_of(fd);
    int64_t offset = name && log_fd >= 0 ? (int64_t)lseek(fd, 0, SEEK_CUR) : 0;
    int now = due(WRITE, name);
    if (now && what == FAIL) return errno = number, -1;
    ssize_t done = real(fd, data, now ? (size + 1) / 2 : size);
    if (name && done > 0) record('W', name, NULL, offset, data, done);
    return now && what == TORN ? (errno = number, -1) : done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    const char *name = name_of(fd);
    int now = due(WRITE, name);
    if (now && what == FAIL) return errno = number, -1;
    ssize_t done = real(fd, data, now ? (size + 1) / 2 : size, offset);
    if (name && done > 0) record('W', name, NULL, offset, data, done);
    return now && what == TORN ? (errno = number, -1) : done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

/* The disk itself is not waited for: the tests are about what happens, and fsync takes most of their time. */
static int synced(int fd) {
    const char *name = name_of(fd);
    if (name && under(name) && delay_ms) usleep((useconds_t)delay_ms * 1000);
    if (due(SYNC, name)) return errno = number, -1;
    if (name) record('S', name, NULL, 0, NULL, 0);
    return 0;
}

int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

int rename(const char *from, const char *to) {
    REAL(rename);
    if (due(RENAME, to)) return errno = number, -1;
    int code = real(from, to);
    if (!code) record('R', from, to, 0, NULL, 0);
    return code;
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    const char *name = name_of(fd);
    if (due(TRUNCATE, name)) return errno = number, -1;
    int code = real(fd, size);
    if (name && !code) record('T', name, NULL, size, NULL, 0);
    return code;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset) {
    REAL(mmap64);
    if (fd >= 0 && due(MAP, name_of(fd))) return errno = number, MAP_FAILED;
    return real(at, size, protection, flags, fd, offset);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    return mmap64(at, size, protection, flags, fd, offset);
}

int unlink(const char *path) {
    REAL(unlink);
    if (due(UNLINK, path)) return errno = number, -1;
    int code = real(path);
    if (!code) record('U', path, NULL, 0, NULL, 0);
    return code;
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (due(FOLDER, path)) return errno = number, -1;
    int code = real(path, mode);
    if (!code) record('D', path, NULL, 0, NULL, 0);
    return code;
}

int rmdir(const char *path) {
    REAL(rmdir);
    if (due(FOLDER, path)) return errno = number, -1;
    int code = real(path);
    if (!code) record('U', path, NULL, 0, NULL, 0);
    return code;
}

/* shutil.rmtree: from a descriptor of the folder. */
int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    char full[2 * NAME_BYTES];
    join(full, at, path);
    if (due(flags & AT_REMOVEDIR ? FOLDER : UNLINK, full)) return errno = number, -1;
    int code = real(at, path, flags);
    if (!code) record('U', full, NULL, 0, NULL, 0);
    return code;
}
