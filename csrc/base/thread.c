/* Locks, threads and the clock: pthreads, Win32, or none (browsers). */
#include "base/base.h"
#include "base/thread.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <errno.h>
#include <time.h>
#include <unistd.h>
#if EV_THREADS
#include <sched.h>
#endif
#endif

#define EV_MOST_THREADS 256
#define EV_TELL_EVERY 0.1 /* seconds between calls of the progress callback */

#if !EV_THREADS

void ev__mutex_init(ev__mutex *m) { (void)m; }
void ev__mutex_free(ev__mutex *m) { (void)m; }
void ev__lock(ev__mutex *m) { (void)m; }
void ev__unlock(ev__mutex *m) { (void)m; }
void ev__rwlock_init(ev__rwlock *l) { (void)l; }
void ev__rwlock_free(ev__rwlock *l) { (void)l; }
void ev__read_lock(ev__rwlock *l) { (void)l; }
void ev__read_unlock(ev__rwlock *l) { (void)l; }
void ev__write_lock(ev__rwlock *l) { (void)l; }
void ev__write_unlock(ev__rwlock *l) { (void)l; }
void ev__spin_lock(ev__spin *s) { (void)s; }
void ev__spin_unlock(ev__spin *s) { (void)s; }

int ev__cores(void) { return 1; }

void ev__parallel(int threads, void (*work)(void *arg, int worker), void *arg) {
    (void)threads;
    work(arg, 0);
}

#elif defined(_WIN32)

void ev__mutex_init(ev__mutex *m) { InitializeSRWLock((PSRWLOCK)&m->srw); }
void ev__mutex_free(ev__mutex *m) { (void)m; }
void ev__lock(ev__mutex *m) { AcquireSRWLockExclusive((PSRWLOCK)&m->srw); }
void ev__unlock(ev__mutex *m) { ReleaseSRWLockExclusive((PSRWLOCK)&m->srw); }
void ev__rwlock_init(ev__rwlock *l) { InitializeSRWLock((PSRWLOCK)&l->srw); }
void ev__rwlock_free(ev__rwlock *l) { (void)l; }
void ev__read_lock(ev__rwlock *l) { AcquireSRWLockShared((PSRWLOCK)&l->srw); }
void ev__read_unlock(ev__rwlock *l) { ReleaseSRWLockShared((PSRWLOCK)&l->srw); }
void ev__write_lock(ev__rwlock *l) { AcquireSRWLockExclusive((PSRWLOCK)&l->srw); }
void ev__write_unlock(ev__rwlock *l) { ReleaseSRWLockExclusive((PSRWLOCK)&l->srw); }

void ev__spin_lock(ev__spin *s) {
    while (InterlockedExchange((volatile LONG *)&s->held, 1)) SwitchToThread();
}
void ev__spin_unlock(ev__spin *s) { InterlockedExchange((volatile LONG *)&s->held, 0); }

int ev__cores(void) {
    DWORD n = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    return n > EV_MOST_THREADS ? EV_MOST_THREADS : n ? (int)n : 1;
}

typedef struct {
    void (*work)(void *, int);
    void *arg;
    int worker;
} thread_start;

static DWORD WINAPI thread_main(LPVOID p) {
    thread_start *start = p;
    start->work(start->arg, start->worker);
    return 0;
}

void ev__parallel(int threads, void (*work)(void *arg, int worker), void *arg) {
    HANDLE started[EV_MOST_THREADS];
    thread_start starts[EV_MOST_THREADS];
    int n = 0;
    for (int i = 1; i < threads && i < EV_MOST_THREADS; i++) {
        starts[n] = (thread_start){work, arg, i};
        started[n] = CreateThread(NULL, 0, thread_main, &starts[n], 0, NULL);
        if (!started[n]) break;
        n++;
    }
    work(arg, 0);
    for (int i = 0; i < n; i++) {
        WaitForSingleObject(started[i], INFINITE);
        CloseHandle(started[i]);
    }
}

#else

void ev__mutex_init(ev__mutex *m) { pthread_mutex_init(&m->m, NULL); }
void ev__mutex_free(ev__mutex *m) { pthread_mutex_destroy(&m->m); }
void ev__lock(ev__mutex *m) { pthread_mutex_lock(&m->m); }
void ev__unlock(ev__mutex *m) { pthread_mutex_unlock(&m->m); }

void ev__rwlock_init(ev__rwlock *l) {
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#if defined(__GLIBC__)
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&l->l, &attr);
    pthread_rwlockattr_destroy(&attr);
}
void ev__rwlock_free(ev__rwlock *l) { pthread_rwlock_destroy(&l->l); }
void ev__read_lock(ev__rwlock *l) {
    while (pthread_rwlock_rdlock(&l->l) == EAGAIN) sched_yield(); /* more readers than the system counts */
}
void ev__read_unlock(ev__rwlock *l) { pthread_rwlock_unlock(&l->l); }
void ev__write_lock(ev__rwlock *l) { pthread_rwlock_wrlock(&l->l); }
void ev__write_unlock(ev__rwlock *l) { pthread_rwlock_unlock(&l->l); }

void ev__spin_lock(ev__spin *s) {
    for (unsigned tries = 0; __atomic_exchange_n(&s->held, 1, __ATOMIC_ACQUIRE); tries++)
        if (tries > 64) sched_yield();
}
void ev__spin_unlock(ev__spin *s) { __atomic_store_n(&s->held, 0, __ATOMIC_RELEASE); }

int ev__cores(void) {
    long n = -1;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set); /* containers and taskset */
#endif
    if (n < 1) n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > EV_MOST_THREADS ? EV_MOST_THREADS : n < 1 ? 1 : (int)n;
}

typedef struct {
    void (*work)(void *, int);
    void *arg;
    int worker;
} thread_start;

static void *thread_main(void *p) {
    thread_start *start = p;
    start->work(start->arg, start->worker);
    return NULL;
}

void ev__parallel(int threads, void (*work)(void *arg, int worker), void *arg) {
    pthread_t started[EV_MOST_THREADS];
    thread_start starts[EV_MOST_THREADS];
    int n = 0;
    for (int i = 1; i < threads && i < EV_MOST_THREADS; i++) {
        starts[n] = (thread_start){work, arg, i};
        if (pthread_create(&started[n], NULL, thread_main, &starts[n]) != 0) break;
        n++;
    }
    work(arg, 0);
    for (int i = 0; i < n; i++) pthread_join(started[i], NULL);
}

#endif

double ev__now(void) {
#if defined(_WIN32)
    LARGE_INTEGER count, rate;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&rate);
    return (double)count.QuadPart / (double)rate.QuadPart;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

bool ev__work_next(ev__work *w, int worker, int64_t *from, int64_t *to) {
    if (w->progress && worker == 0) {
        double now = ev__now();
        if (now - w->told >= EV_TELL_EVERY) {
            w->told = now;
            if (!w->progress(w->user, w->base + ev__atomic_load64(&w->done), w->base_total))
                ev__store32(&w->stopped, 1);
        }
    }
    if (ev__load32(&w->stopped)) return false;
    *from = ev__add64(&w->taken, w->run);
    if (*from >= w->total) return false;
    *to = *from + w->run < w->total ? *from + w->run : w->total;
    return true;
}
