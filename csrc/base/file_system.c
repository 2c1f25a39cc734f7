/* The system's files: POSIX, or Windows through its C runtime, which brings descriptors and errno along. */
#include "base/file_system.h"

#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <io.h>
#else
#include <unistd.h>
#if !defined(__EMSCRIPTEN__)
#include <sys/file.h>
#include <sys/mman.h>
#if !defined(MAP_NORESERVE) /* systems that never set memory aside for a copy */
#define MAP_NORESERVE 0
#endif
#endif
#endif

/* Some systems refuse to move 2 GB or more in one call. */
#define EV_MOST_AT_ONCE ((size_t)1 << 30)

static int fd_of(void *file) { return (int)(intptr_t)file; }

/* ---- the differences ------------------------------------------------------------------------- */

#if defined(_WIN32)

#define EV_WIDE_PATH 32768 /* the longest that Windows knows */
typedef struct _stat64 file_info;

static int widen(const char *path, wchar_t out[EV_WIDE_PATH]) {
    if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, out, EV_WIDE_PATH)) return 0;
    return GetLastError() == ERROR_INSUFFICIENT_BUFFER ? ENAMETOOLONG : EILSEQ;
}

static int open_path(const char *path, int flags) {
    wchar_t wide[EV_WIDE_PATH];
    int rc = widen(path, wide);
    if (rc) {
        errno = rc;
        return -1;
    }
    return _wopen(wide, flags | _O_BINARY | _O_NOINHERIT, _S_IREAD | _S_IWRITE);
}

/* A new file's permissions come from its folder. */
static int open_new(const char *path, const char *like) {
    (void)like;
    return open_path(path, _O_WRONLY | _O_CREAT | _O_EXCL);
}
static int open_old(const char *path) { return open_path(path, _O_RDONLY); }
static int open_nameless(const char *path) { return open_path(path, _O_RDWR | _O_CREAT | _O_EXCL | _O_TEMPORARY); }
static bool temporary_folder(char out[EV_PATH]) {
    wchar_t wide[MAX_PATH + 2];
    DWORD length = GetTempPathW(MAX_PATH + 2, wide);
    return length && length < MAX_PATH + 2 && WideCharToMultiByte(CP_UTF8, 0, wide, -1, out, EV_PATH, NULL, NULL);
}
static int64_t write_some(int fd, const void *bytes, size_t n) { return _write(fd, bytes, (unsigned)n); }
static int64_t read_some(int fd, void *out, size_t n) { return _read(fd, out, (unsigned)n); }
static int flush(int fd) { return _commit(fd); }
static int close_fd(int fd) { return _close(fd); }
static int describe(int fd, file_info *out) { return _fstat64(fd, out); }
static bool is_regular(const file_info *info) { return (info->st_mode & _S_IFMT) == _S_IFREG; }
static bool is_folder(const file_info *info) { return (info->st_mode & _S_IFMT) == _S_IFDIR; }

static int system_errno(void) {
    switch (GetLastError()) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND: return ENOENT;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION:
    case ERROR_USER_MAPPED_FILE: return EACCES;
    case ERROR_DISK_FULL: return ENOSPC;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY:
    case ERROR_COMMITMENT_LIMIT: return ENOMEM;
    default: return EIO;
    }
}

static bool is_separator(char c) { return c == '/' || c == '\\' || c == ':'; }

static int final_path(HANDLE file, char out[EV_PATH]) {
    wchar_t wide[EV_WIDE_PATH];
    DWORD length = GetFinalPathNameByHandleW(file, wide, EV_WIDE_PATH, FILE_NAME_NORMALIZED);
    if (!length) return system_errno();
    if (length >= EV_WIDE_PATH || !WideCharToMultiByte(CP_UTF8, 0, wide, -1, out, EV_PATH, NULL, NULL))
        return ENAMETOOLONG;
    return 0;
}

/* A dangling link is not followed here: it cannot be opened. */
int ev__file_target(const char *path, char out[EV_PATH]) {
    wchar_t wide[EV_WIDE_PATH];
    int rc = widen(path, wide);
    if (rc) return rc;
    strcpy(out, path); /* a path that can be widened fits */
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes == INVALID_FILE_ATTRIBUTES) return 0;
    if (attributes & FILE_ATTRIBUTE_DIRECTORY) return EISDIR;
    DWORD shared = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    HANDLE file = CreateFileW(wide, 0, shared, NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE) return 0;
    if (GetFileType(file) != FILE_TYPE_DISK)
        rc = EINVAL;
    else if (attributes & FILE_ATTRIBUTE_REPARSE_POINT)
        rc = final_path(file, out);
    CloseHandle(file);
    return rc;
}

/* Windows refuses while anybody has the old file open: a load, another save, a scanner. Most are done in a moment. */
static int system_rename(void *user, const char *from, const char *to) {
    (void)user;
    enum { TRIES = 20, PAUSE = 10 /* milliseconds */ };
    wchar_t wide_from[EV_WIDE_PATH], wide_to[EV_WIDE_PATH];
    int rc = widen(from, wide_from);
    if (!rc) rc = widen(to, wide_to);
    if (rc) return rc;
    for (int left = TRIES;; left--) {
        if (MoveFileExW(wide_from, wide_to, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH)) return 0;
        rc = system_errno();
        if (rc != EACCES || left == 0) return rc;
        Sleep(PAUSE);
    }
}

static int system_sync_folder(void *user, const char *path) {
    /* a folder has no flush of its own; MOVEFILE_WRITE_THROUGH has done it */
    (void)user, (void)path;
    return 0;
}

static int system_unlink(void *user, const char *path) {
    (void)user;
    wchar_t wide[EV_WIDE_PATH];
    int rc = widen(path, wide);
    if (rc) return rc;
    return _wunlink(wide) == 0 ? 0 : errno;
}

static int system_map(void *user, void *file, size_t bytes, void **out) {
    (void)user, (void)bytes;
    HANDLE handle = CreateFileMappingW((HANDLE)_get_osfhandle(fd_of(file)), NULL, PAGE_WRITECOPY, 0, 0, NULL);
    if (!handle) return system_errno();
    *out = MapViewOfFile(handle, FILE_MAP_COPY, 0, 0, 0);
    int rc = *out ? 0 : system_errno();
    CloseHandle(handle); /* the view keeps it alive */
    return rc;
}

static void system_unmap(void *user, void *map, size_t bytes) {
    (void)user, (void)bytes;
    UnmapViewOfFile(map);
}

/* A file that is open here can be removed by nobody, but one that is closed and not yet renamed could. So files of
 * killed processes are not looked for. */
static int system_lock(void *user, void *file, void **lock) {
    (void)user, (void)file;
    *lock = NULL;
    return 0;
}

static void system_unlock(void *user, void *lock) { (void)user, (void)lock; }

#else

typedef struct stat file_info;

/* O_NONBLOCK: opening a pipe that nobody writes to must not wait; regular files do not care. */
static int open_old(const char *path) { return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); }

static int open_nameless(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) unlink(path);
    return fd;
}

/* With a slash at its end. /tmp is last: on many systems it lies in memory. */
static bool temporary_folder(char out[EV_PATH]) {
    const char *chosen = getenv("TMPDIR"), *folders[] = {chosen ? chosen : "", "/var/tmp", "/tmp"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        if (!*folders[i] || strlen(folders[i]) + 2 > EV_PATH || access(folders[i], W_OK | X_OK) != 0) continue;
        snprintf(out, EV_PATH, "%s/", folders[i]);
        return true;
    }
    return false;
}

/* The owner where that is permitted, and the mode; a group that is another's gets no more than all others have. */
static void take_after(int fd, const struct stat *old) {
    mode_t mode = old->st_mode & 0777;
    if (fchown(fd, old->st_uid, old->st_gid) != 0 && fchown(fd, (uid_t)-1, old->st_gid) != 0)
        mode = (mode & 0707) | (mode & 07) << 3;
    fchmod(fd, mode); /* a file system without modes refuses */
}

/* In the place of an old file, it may be read by nobody else until it has that one's mode. */
static int open_new(const char *path, const char *like) {
    struct stat old;
    bool known = like && stat(like, &old) == 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, known ? 0600 : 0666);
    if (fd >= 0 && known) take_after(fd, &old);
    return fd;
}

static int64_t write_some(int fd, const void *bytes, size_t n) { return write(fd, bytes, n); }
static int64_t read_some(int fd, void *out, size_t n) { return read(fd, out, n); }
static int close_fd(int fd) { return close(fd); }
static int describe(int fd, file_info *out) { return fstat(fd, out); }
static bool is_regular(const file_info *info) { return S_ISREG(info->st_mode); }
static bool is_folder(const file_info *info) { return S_ISDIR(info->st_mode); }

static bool is_separator(char c) { return c == '/'; }

/* `path` becomes what the symbolic link there leads to. */
static int follow_link(char path[EV_PATH]) {
    char to[EV_PATH];
    ssize_t length = readlink(path, to, sizeof to);
    if (length < 0) return errno;
    size_t start = *to == '/' ? 0 : ev__folder_length(path);
    if (start + (size_t)length >= EV_PATH) return ENAMETOOLONG;
    memcpy(path + start, to, (size_t)length);
    path[start + (size_t)length] = '\0';
    return 0;
}

int ev__file_target(const char *path, char out[EV_PATH]) {
    enum { MOST_LINKS = 40 }; /* as in Linux */
    struct stat info;
    int rc = stat(path, &info) == 0 ? 0 : errno;
    if (rc && rc != ENOENT) return rc;
    if (!rc && !S_ISREG(info.st_mode)) return S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
    if (strlen(path) >= EV_PATH) return ENAMETOOLONG;
    strcpy(out, path);
    for (int links = 0; lstat(out, &info) == 0 && S_ISLNK(info.st_mode); links++) {
        rc = links == MOST_LINKS ? ELOOP : follow_link(out);
        if (rc) return rc;
    }
    return 0;
}

static int flush(int fd) {
#if defined(F_FULLFSYNC)
    /* macOS: fsync leaves the bytes in the drive's cache; file systems without the stronger call still have fsync */
    if (fcntl(fd, F_FULLFSYNC) == 0) return 0;
#endif
    return fsync(fd);
}

static int system_rename(void *user, const char *from, const char *to) {
    (void)user;
#if defined(__EMSCRIPTEN__)
    /* There, a file that is renamed over comes back when the name is deleted. A page that ends between these two calls
     * loses its files anyway; both are in one folder, so the second has no reason to fail. */
    if (unlink(to) != 0 && errno != ENOENT) return errno;
#endif
    return rename(from, to) == 0 ? 0 : errno;
}

static int system_sync_folder(void *user, const char *path) {
    (void)user;
    char folder[EV_PATH] = ".";
    size_t length = ev__folder_length(path);
    if (length >= sizeof folder) return ENAMETOOLONG;
    if (length) {
        memcpy(folder, path, length);
        folder[length] = '\0';
    }
    int fd = open(folder, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    int rc = flush(fd) == 0 ? 0 : errno;
    close(fd);
    /* some file systems have nothing to flush in a folder, and say so */
    return rc == EINVAL || rc == ENOTSUP ? 0 : rc;
}

static int system_unlink(void *user, const char *path) {
    (void)user;
    return unlink(path) == 0 ? 0 : errno;
}

#if defined(__EMSCRIPTEN__)

static int system_map(void *user, void *file, size_t bytes, void **out) {
    (void)user, (void)file, (void)bytes, (void)out;
    return ENOTSUP;
}

static void system_unmap(void *user, void *map, size_t bytes) { (void)user, (void)map, (void)bytes; }

/* One process, and files in its memory: nothing can be left over. */
static int system_lock(void *user, void *file, void **lock) {
    (void)user, (void)file;
    *lock = NULL;
    return 0;
}

static void system_unlock(void *user, void *lock) { (void)user, (void)lock; }

#else

static int system_map(void *user, void *file, size_t bytes, void **out) {
    (void)user;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd_of(file), 0);
    if (at == MAP_FAILED) return errno == ENODEV || errno == ENOSYS ? ENOTSUP : errno;
    *out = at;
    return 0;
}

static void system_unmap(void *user, void *map, size_t bytes) {
    (void)user;
    munmap(map, bytes);
}

/* On a second descriptor, so that it outlasts the close. A file system without locks grants none to others either. */
static int system_lock(void *user, void *file, void **lock) {
    (void)user;
    struct stat info;
    int fd = fcntl(fd_of(file), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return errno;
    bool taken = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (taken || (fstat(fd, &info) == 0 && info.st_nlink == 0)) {
        close(fd);
        return EEXIST;
    }
    *lock = (void *)((intptr_t)fd + 1);
    return 0;
}

static void system_unlock(void *user, void *lock) {
    (void)user;
    if (lock) close((int)((intptr_t)lock - 1));
}

#endif
#endif

/* ---- the calls --------------------------------------------------------------------------------- */

size_t ev__folder_length(const char *path) {
    size_t length = strlen(path);
    while (length && !is_separator(path[length - 1])) length--;
    return length;
}

static int system_open(void *user, const char *path, const char *like, void **file) {
    (void)user;
    int fd = open_new(path, like);
    if (fd < 0) return errno;
    *file = (void *)(intptr_t)fd;
    return 0;
}

static int system_write(void *user, void *file, const void *bytes, size_t n, size_t *written) {
    (void)user;
    int64_t done = write_some(fd_of(file), bytes, n < EV_MOST_AT_ONCE ? n : EV_MOST_AT_ONCE);
    *written = done < 0 ? 0 : (size_t)done;
    return done < 0 ? errno : done == 0 ? EIO : 0;
}

#if defined(SYNC_FILE_RANGE_WRITE) && !defined(__EMSCRIPTEN__)
/* So that the flush afterwards, which nothing can stop, has little left to do. What the file system cannot do by parts,
 * it does then. */
static int flush_by_runs(int fd) {
    enum { WRITTEN = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER };
    const off_t run = EV_FILE_RUN;
    struct stat info;
    if (fstat(fd, &info) != 0) return errno;
    for (off_t at = 0; at < info.st_size; at += run) {
        if (ev__is_to_stop()) return EV_FILE_STOPPED;
        sync_file_range(fd, at + run, run, SYNC_FILE_RANGE_WRITE); /* the next is on its way meanwhile */
        if (sync_file_range(fd, at, run, WRITTEN) != 0) return errno == EIO || errno == ENOSPC ? errno : 0;
    }
    return 0;
}
#else
static int flush_by_runs(int fd) {
    (void)fd;
    return 0;
}
#endif

static int system_sync(void *user, void *file) {
    (void)user;
    int rc = flush_by_runs(fd_of(file));
    if (rc) return rc;
    do rc = flush(fd_of(file)) == 0 ? 0 : errno;
    while (rc == EINTR);
    return rc;
}

static int system_close(void *user, void *file) {
    (void)user;
    /* an interrupted close has closed */
    return close_fd(fd_of(file)) == 0 || errno == EINTR ? 0 : errno;
}

static int system_open_old(void *user, const char *path, void **file) {
    (void)user;
    int fd = open_old(path);
    if (fd < 0) return errno;
    *file = (void *)(intptr_t)fd;
    return 0;
}

static int system_size(void *user, void *file, uint64_t *bytes) {
    (void)user;
    file_info info;
    if (describe(fd_of(file), &info) != 0) return errno;
    if (!is_regular(&info)) return is_folder(&info) ? EISDIR : EINVAL;
    *bytes = (uint64_t)info.st_size;
    return 0;
}

static int system_read(void *user, void *file, void *out, size_t n, size_t *got) {
    (void)user;
    int64_t done = read_some(fd_of(file), out, n < EV_MOST_AT_ONCE ? n : EV_MOST_AT_ONCE);
    *got = done < 0 ? 0 : (size_t)done;
    return done < 0 ? errno : 0;
}

bool ev__temporary_name(char name[EV_PATH], size_t folder) {
    static int64_t names;
    uint64_t time;
    double now = ev__now();
    if (folder + sizeof EV_TEMPORARY "0123456789abcdef" > EV_PATH) return false;
    memcpy(&time, &now, sizeof time);
    uint64_t random = ev__mix(ev__mix(time ^ (uintptr_t)&now) + (uint64_t)ev__add64(&names, 1));
    snprintf(name + folder, EV_PATH - folder, EV_TEMPORARY "%016llx", (unsigned long long)random);
    return true;
}

/* It loses its name at once, so a process that is killed leaves nothing; within the moment before, ev__remove_left_over
 * finds it. */
static int system_open_scratch(void *user, const char *folder, void **file) {
    enum { TRIES = 16 };
    char name[EV_PATH];
    size_t length = strlen(folder);
    int fd = -1;
    (void)user;
    if (length + 1 >= EV_PATH) return ENAMETOOLONG;
    memcpy(name, folder, length + 1);
    if (!length && !temporary_folder(name)) return ENOENT;
    length = strlen(name);
    for (int i = 0; fd < 0 && i < TRIES; i++) {
        if (!ev__temporary_name(name, length)) return ENAMETOOLONG;
        fd = open_nameless(name);
        if (fd < 0 && errno != EEXIST) break;
    }
    if (fd < 0) return errno;
    *file = (void *)(intptr_t)fd;
    return 0;
}

static const ev_file_ops system_ops = {.open = system_open,
                                       .lock = system_lock,
                                       .write = system_write,
                                       .sync = system_sync,
                                       .close = system_close,
                                       .rename = system_rename,
                                       .sync_folder = system_sync_folder,
                                       .unlink = system_unlink,
                                       .unlock = system_unlock,
                                       .open_old = system_open_old,
                                       .size = system_size,
                                       .read = system_read,
                                       .map = system_map,
                                       .unmap = system_unmap,
                                       .open_scratch = system_open_scratch,
                                       .read_at = ev__system_read_at,
                                       .write_at = ev__system_write_at,
                                       .advise = ev__system_advise};
#ifdef EDGEVEC_TESTING
static const ev_file_ops *ops = &system_ops;
static ev_file_ops replaced;

void ev_set_file_ops(const ev_file_ops *o) {
    if (o) replaced = *o;
    ops = o ? &replaced : &system_ops;
}

const ev_file_ops *ev__file_ops(void) { return ops; }
#else
const ev_file_ops *ev__file_ops(void) { return &system_ops; }
#endif

int ev__refused(int error, const char *what, const char *path) {
    /* the reason first, since a long path may not fit */
    int code = error == ENOMEM ? EV_E_NOMEM : EV_E_IO;
    return ev__fail_errno(code, error, "%s: cannot %s '%s'", strerror(error), what, path);
}

/* ---- whole files ----------------------------------------------------------------------------- */

int ev__file_write(void *file, const void *bytes, size_t n) {
    const ev_file_ops *o = ev__file_ops();
    for (const char *at = bytes; n;) {
        size_t written = 0;
        int error = o->write(o->user, file, at, n, &written);
        if (error && error != EINTR) return error;
        at += written;
        n -= written;
    }
    return 0;
}

int ev__file_open(const char *path, ev__file *out) {
    const ev_file_ops *o = ev__file_ops();
    int error = o->open_old(o->user, path, &out->handle);
    if (error) return error;
    error = o->size(o->user, out->handle, &out->bytes);
    if (error) ev__file_close(out);
    return error;
}

int ev__file_read(const ev__file *file, void *out, size_t n) {
    const ev_file_ops *o = ev__file_ops();
    for (char *at = out; n;) {
        size_t got = 0;
        int error = o->read(o->user, file->handle, at, n, &got);
        if (error == EINTR) continue;
        if (error) return error;
        if (got == 0) return EIO;
        at += got;
        n -= got;
    }
    return 0;
}

int ev__file_read_at(void *file, uint64_t at, void *out, size_t n, size_t *done) {
    const ev_file_ops *o = ev__file_ops();
    for (*done = 0; *done < n;) {
        size_t got = 0;
        int error = o->read_at(o->user, file, at + *done, (char *)out + *done, n - *done, 1, &got);
        if (error == EINTR || error == EAGAIN) continue;
        if (error || !got) return error;
        *done += got;
    }
    return 0;
}

int ev__file_write_at(void *file, uint64_t at, const void *bytes, size_t n) {
    const ev_file_ops *o = ev__file_ops();
    for (size_t done = 0; done < n;) {
        size_t written = 0;
        int error = o->write_at(o->user, file, at + done, (const char *)bytes + done, n - done, &written);
        if (error && error != EINTR) return error;
        done += written;
    }
    return 0;
}

/* What was read is here, whatever the close says. */
void ev__file_close(const ev__file *file) {
    const ev_file_ops *o = ev__file_ops();
    o->close(o->user, file->handle);
}

int ev__map(const ev__file *file, void **out) {
    const ev_file_ops *o = ev__file_ops();
    if (file->bytes > SIZE_MAX) return ENOMEM;
    return o->map(o->user, file->handle, (size_t)file->bytes, out);
}

void ev__unmap(void *map, size_t bytes) {
    const ev_file_ops *o = ev__file_ops();
    o->unmap(o->user, map, bytes);
}

void ev__map_at_random(void *map, size_t bytes) {
#if defined(MADV_RANDOM)
    madvise(map, bytes, MADV_RANDOM);
#else
    (void)map, (void)bytes;
#endif
}
