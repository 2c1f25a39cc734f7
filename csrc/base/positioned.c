/* Reads and writes at a place in a file, by any number of threads at once.
 *
 * Linux: what lies in the page cache is read without waiting, and the disk is told of all the rest before the first of
 * it is waited for, so that it fetches many rows at a time without a thread for each. */
#include "base/file_system.h"

#include <errno.h>

#define EV_MOST_AT_ONCE ((size_t)1 << 30)

static size_t at_once(size_t n) { return n < EV_MOST_AT_ONCE ? n : EV_MOST_AT_ONCE; }

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <io.h>

static HANDLE handle_of(void *file) { return (HANDLE)_get_osfhandle((int)(intptr_t)file); }

static OVERLAPPED place(uint64_t at) {
    OVERLAPPED o = {0};
    o.Offset = (DWORD)at;
    o.OffsetHigh = (DWORD)(at >> 32);
    return o;
}

int ev__system_read_at(void *user, void *file, uint64_t at, void *out, size_t n, int wait, size_t *got) {
    OVERLAPPED o = place(at);
    DWORD done = 0;
    (void)user;
    *got = 0;
    if (!wait) return EAGAIN;
    if (!ReadFile(handle_of(file), out, (DWORD)at_once(n), &done, &o))
        return GetLastError() == ERROR_HANDLE_EOF ? 0 : EIO;
    *got = done;
    return 0;
}

int ev__system_write_at(void *user, void *file, uint64_t at, const void *bytes, size_t n, size_t *written) {
    OVERLAPPED o = place(at);
    DWORD done = 0;
    (void)user;
    if (!WriteFile(handle_of(file), bytes, (DWORD)at_once(n), &done, &o)) {
        *written = 0;
        return GetLastError() == ERROR_DISK_FULL ? ENOSPC : EIO;
    }
    *written = done;
    return done ? 0 : EIO;
}

void ev__system_advise(void *user, void *file, uint64_t at, size_t n) { (void)user, (void)file, (void)at, (void)n; }

#else

#include <fcntl.h>
#include <unistd.h>

static int fd_of(void *file) { return (int)(intptr_t)file; }

#if defined(__linux__) && !defined(__EMSCRIPTEN__)

#include <sys/syscall.h>
#include <sys/uio.h>

/* Older headers lack what newer kernels have. */
#if defined(SYS_preadv2)
#define EV_PREADV2 SYS_preadv2
#elif defined(__x86_64__) && !defined(__ILP32__)
#define EV_PREADV2 327
#elif defined(__aarch64__)
#define EV_PREADV2 286
#endif
#endif

/* Only what the page cache has. */
static int64_t read_cached(int fd, void *out, size_t n, uint64_t at) {
#if defined(EV_PREADV2)
    enum { NOWAIT = 8 }; /* RWF_NOWAIT */
    static uint32_t unknown;
    struct iovec into = {out, n};
    if (!ev__load32(&unknown)) {
        int64_t got = syscall(EV_PREADV2, fd, &into, 1L, (long)at, (long)(at >> 16 >> 16), NOWAIT);
        if (got >= 0 || errno == EAGAIN || errno == EINTR) return got;
        if (errno == ENOSYS || errno == EPERM) ev__store32(&unknown, 1);
    }
#else
    (void)fd, (void)out, (void)n, (void)at;
#endif
    errno = EAGAIN;
    return -1;
}

int ev__system_read_at(void *user, void *file, uint64_t at, void *out, size_t n, int wait, size_t *got) {
    (void)user;
    int64_t done = wait ? pread(fd_of(file), out, at_once(n), (off_t)at) : read_cached(fd_of(file), out, n, at);
    *got = done < 0 ? 0 : (size_t)done;
    return done < 0 ? errno : 0;
}

int ev__system_write_at(void *user, void *file, uint64_t at, const void *bytes, size_t n, size_t *written) {
    (void)user;
    int64_t done = pwrite(fd_of(file), bytes, at_once(n), (off_t)at);
    *written = done < 0 ? 0 : (size_t)done;
    return done < 0 ? errno : done == 0 ? EIO : 0;
}

#if defined(POSIX_FADV_WILLNEED) && !defined(__EMSCRIPTEN__)
void ev__system_advise(void *user, void *file, uint64_t at, size_t n) {
    (void)user;
    posix_fadvise(fd_of(file), (off_t)at, (off_t)n, n ? POSIX_FADV_WILLNEED : POSIX_FADV_RANDOM);
}
#else
void ev__system_advise(void *user, void *file, uint64_t at, size_t n) { (void)user, (void)file, (void)at, (void)n; }
#endif
#endif
