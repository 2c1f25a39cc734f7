/* Locks, threads that share out rows, and the clock. */
#ifndef EV_THREAD_H
#define EV_THREAD_H

#include "base/platform.h"

#if !EV_THREADS
typedef struct {
    char none;
} ev__mutex;
typedef struct {
    char none;
} ev__rwlock;
#elif defined(_WIN32)
typedef struct {
    void *srw;
} ev__mutex; /* SRWLOCK, without <windows.h> in every file */
typedef struct {
    void *srw;
} ev__rwlock;
#else
#include <pthread.h>
typedef struct {
    pthread_mutex_t m;
} ev__mutex;
typedef struct {
    pthread_rwlock_t l;
} ev__rwlock;
#endif

void ev__mutex_init(ev__mutex *m);
void ev__mutex_free(ev__mutex *m);
void ev__lock(ev__mutex *m);
void ev__unlock(ev__mutex *m);

/* Writers are preferred: a stream of searches cannot keep one waiting for ever. So no thread may ask for a lock that it
 * has: ev__enter sees to that. */
void ev__rwlock_init(ev__rwlock *l);
void ev__rwlock_free(ev__rwlock *l);
void ev__read_lock(ev__rwlock *l);
void ev__read_unlock(ev__rwlock *l);
void ev__write_lock(ev__rwlock *l);
void ev__write_unlock(ev__rwlock *l);

/* A lock of four bytes for very short stretches. */
typedef struct {
    uint32_t held;
} ev__spin;
void ev__spin_lock(ev__spin *s);
void ev__spin_unlock(ev__spin *s);

int ev__cores(void);
double ev__now(void); /* seconds, monotonic */
/* Run work(arg, 0..threads-1) at once, number 0 on the calling thread; returns when all have. Where the system gives
 * fewer threads fewer run, so the work must be shared out by a counter. */
void ev__parallel(int threads, void (*work)(void *arg, int worker), void *arg);

/* Rows handed out in runs to the workers of ev__parallel, with progress told from worker 0. */
typedef struct {
    int64_t total, run;
    int64_t taken, done; /* atomic */
    uint32_t stopped;    /* atomic */
    int (*progress)(void *user, int64_t done, int64_t total);
    void *user;
    double told;
    int64_t base, base_total; /* what progress shows: base + done of base_total */
} ev__work;
/* the next run [*from, *to); false when there is none or the work was stopped */
bool ev__work_next(ev__work *w, int worker, int64_t *from, int64_t *to);

#endif
