/* What went wrong, in words: a line per code, and the calling thread's last detail. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>

static EV_THREAD_LOCAL char detail[512];
static EV_THREAD_LOCAL int64_t row = -1;
static EV_THREAD_LOCAL int system_error;

const char *ev_strerror(int code) {
    switch (code) {
    case EV_OK: return "no error";
    case EV_E_PARAM: return "a parameter is out of range";
    case EV_E_NOT_FINITE: return "a vector holds NaN or infinity, or is too long to square";
    case EV_E_ZERO: return "a zero vector has no direction, so no cosine";
    case EV_E_DUPLICATE: return "the same id twice in one call";
    case EV_E_NO_ID: return "no such id";
    case EV_E_NOMEM: return "out of memory";
    case EV_E_FULL: return "the index cannot hold more";
    case EV_E_MEMORY_LIMIT: return "the index's memory limit";
    case EV_E_SIMD: return "the SIMD path asked for is unavailable";
    case EV_E_IO: return "the system refused a file operation";
    case EV_E_CORRUPT: return "the file is damaged or is not an index";
    case EV_E_VERSION: return "the file was written by a newer version";
    case EV_E_NOT_FOUND: return "no such file";
    case EV_E_STOPPED: return "stopped";
    case EV_E_REENTRANT: return "called from a callback of a call on the same index";
    case EV_E_FORKED: return "another thread was changing the index when this process was forked";
    case EV_E_CLOSED: return "the index was closed";
    case EV_E_BUSY: return "in use";
    default: return "unknown error";
    }
}

const char *ev_error_detail(void) { return detail; }
int64_t ev_error_row(void) { return row; }
int ev_error_errno(void) { return system_error; }

const char *ev_version(void) { return EDGEVEC_VERSION; }

/* The figures of a refusal, before what it is that there was no room for. */
static size_t tell_refusal(void) {
    const ev__refusal *r = ev__last_refusal();
    int length =
        snprintf(detail, sizeof detail, "of %lld bytes %lld are held, and %lld more are needed: ", (long long)r->limit,
                 (long long)r->held, (long long)r->asked);
    return length > 0 ? (size_t)length : 0;
}

static int fail(int code, int64_t at, const char *format, va_list args) {
    row = at;
    system_error = 0;
    bool limited = (code == EV_E_NOMEM || code == EV_E_MEMORY_LIMIT) && ev__last_refusal()->asked;
    size_t told = limited ? tell_refusal() : 0;
    vsnprintf(detail + told, sizeof detail - told, format, args);
    return limited ? EV_E_MEMORY_LIMIT : code;
}

int ev__fail(int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    code = fail(code, -1, format, args);
    va_end(args);
    return code;
}

int ev__fail_row(int code, int64_t at, const char *format, ...) {
    va_list args;
    va_start(args, format);
    code = fail(code, at, format, args);
    va_end(args);
    return code;
}

int ev__fail_errno(int code, int error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail(code, -1, format, args);
    va_end(args);
    system_error = error;
    return code;
}

int ev__ok(void) {
    detail[0] = '\0';
    row = -1;
    system_error = 0;
    return EV_OK;
}
