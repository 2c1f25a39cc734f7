/* Locks, threads and the clock: pthreads, Win32, or none (browsers). */
#include "base/base.h"
#include "base/thread.h"
#include "edgevec_test.h"

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
#define EV_ASK_EVERY 0.05 /* seconds after which those who may stop a call are asked again */

/* How many forks lie between this process and the first that used the library. Atomic. */
static uint32_t forks;
uint32_t ev__forks(void) { return ev__load32(&forks); }

#if !EV_THREADS

static void sys_init(ev__sys_mutex *m, ev__sys_condition *c) { (void)m, (void)c; }
static void sys_free(ev__sys_mutex *m, ev__sys_condition *c) { (void)m, (void)c; }
static void sys_lock(ev__sys_mutex *m) { (void)m; }
static void sys_unlock(ev__sys_mutex *m) { (void)m; }
static void sys_wait(ev__sys_condition *c, ev__sys_mutex *m) { (void)c, (void)m; }
static void sys_wake_all(ev__sys_condition *c) { (void)c; }
static void watch_forks(void) {}
static void give_way(void) {}

int ev__cores(void) { return 1; }

void ev__parallel(int threads, void (*work)(void *arg, int worker), void *arg) {
    (void)threads;
    work(arg, 0);
}

#elif defined(_WIN32)

static void sys_init(ev__sys_mutex *m, ev__sys_condition *c) {
    InitializeSRWLock((PSRWLOCK)&m->at);
    if (c) InitializeConditionVariable((PCONDITION_VARIABLE)&c->at);
}
static void sys_free(ev__sys_mutex *m, ev__sys_condition *c) { (void)m, (void)c; }
static void sys_lock(ev__sys_mutex *m) { AcquireSRWLockExclusive((PSRWLOCK)&m->at); }
static void sys_unlock(ev__sys_mutex *m) { ReleaseSRWLockExclusive((PSRWLOCK)&m->at); }
static void sys_wait(ev__sys_condition *c, ev__sys_mutex *m) {
    SleepConditionVariableSRW((PCONDITION_VARIABLE)&c->at, (PSRWLOCK)&m->at, INFINITE, 0);
}
static void sys_wake_all(ev__sys_condition *c) { WakeAllConditionVariable((PCONDITION_VARIABLE)&c->at); }
static void watch_forks(void) {}

static void give_way(void) { SwitchToThread(); }

int ev__cores(void) {
    DWORD n = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    return n > EV_MOST_THREADS ? EV_MOST_THREADS : n ? (int)n : 1;
}

typedef struct {
    void (*work)(void *, int);
    void *arg;
    int worker;
    ev__account *account;
} thread_start;

static DWORD WINAPI thread_main(LPVOID p) {
    thread_start *start = p;
    ev__charge_to(start->account);
    start->work(start->arg, start->worker);
    return 0;
}

void ev__parallel(int threads, void (*work)(void *arg, int worker), void *arg) {
    HANDLE started[EV_MOST_THREADS];
    thread_start starts[EV_MOST_THREADS];
    ev__account *account = ev__charge_to(NULL);
    ev__charge_to(account);
    int n = 0;
    for (int i = 1; i < threads && i < EV_MOST_THREADS; i++) {
        starts[n] = (thread_start){work, arg, i, account};
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

static void sys_init(ev__sys_mutex *m, ev__sys_condition *c) {
    pthread_mutex_init(m, NULL);
    if (c) pthread_cond_init(c, NULL);
}
static void sys_free(ev__sys_mutex *m, ev__sys_condition *c) {
    pthread_mutex_destroy(m);
    if (c) pthread_cond_destroy(c);
}
static void sys_lock(ev__sys_mutex *m) { pthread_mutex_lock(m); }
static void sys_unlock(ev__sys_mutex *m) { pthread_mutex_unlock(m); }
static void sys_wait(ev__sys_condition *c, ev__sys_mutex *m) { pthread_cond_wait(c, m); }
static void sys_wake_all(ev__sys_condition *c) { pthread_cond_broadcast(c); }

static void count_fork(void) { ev__store32(&forks, forks + 1); }
static void register_handler(void) { pthread_atfork(NULL, NULL, count_fork); }
static void watch_forks(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_handler);
}

static void give_way(void) { sched_yield(); }

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
    ev__account *account;
} thread_start;

static void *thread_main(void *p) {
    thread_start *start = p;
    ev__charge_to(start->account);
    start->work(start->arg, start->worker);
    return NULL;
}

void ev__parallel(int threads, void (*work)(void *arg, int worker), void *arg) {
    pthread_t started[EV_MOST_THREADS];
    thread_start starts[EV_MOST_THREADS];
    ev__account *account = ev__charge_to(NULL);
    ev__charge_to(account);
    uint32_t born = ev__load32(&forks);
    int n = 0;
    for (int i = 1; i < threads && i < EV_MOST_THREADS; i++) {
        starts[n] = (thread_start){work, arg, i, account};
        if (pthread_create(&started[n], NULL, thread_main, &starts[n]) != 0) break;
        n++;
    }
    work(arg, 0);
    if (ev__load32(&forks) != born) return; /* a child, forked by a callback: the others are not here */
    for (int i = 0; i < n; i++) pthread_join(started[i], NULL);
}

#endif

/* ---- locks ----------------------------------------------------------------------------------- */

/* What a thread of this process leaves where it has taken something: threads of another are not here to give it back.
 */
static uint32_t tag(void) { return 2 * ev__load32(&forks) + 1; }

bool ev__try_take(uint32_t *p) { return ev__exchange32(p, tag()) != tag(); }
void ev__give_back(uint32_t *p) { ev__store32_release(p, 0); }

void ev__spin_lock(ev__spin *s) {
    for (unsigned tries = 0; !ev__try_take(&s->held); tries++)
        if (tries > 64) give_way();
}
void ev__spin_unlock(ev__spin *s) { ev__give_back(&s->held); }

static ev__spin renewing; /* one thread at a time makes an inherited lock anew */

static bool is_inherited(const uint32_t *made_at) { return ev__load32_acquire(made_at) != ev__load32(&forks); }

void ev__mutex_init(ev__mutex *m) {
    watch_forks();
    sys_init(&m->system, NULL);
    ev__store32_release(&m->forks, ev__load32(&forks));
}

void ev__mutex_free(ev__mutex *m) { sys_free(&m->system, NULL); }

void ev__lock(ev__mutex *m) {
    if (EV_UNLIKELY(is_inherited(&m->forks))) {
        ev__spin_lock(&renewing);
        if (is_inherited(&m->forks)) ev__mutex_init(m);
        ev__spin_unlock(&renewing);
    }
    sys_lock(&m->system);
}

void ev__unlock(ev__mutex *m) { sys_unlock(&m->system); }

static const int64_t READERS_MAX = (int64_t)1 << 40;

bool ev__readers_wait(const ev__rwlock *l) { return ev__atomic_load64(&l->readers) > -READERS_MAX; }

void ev__rwlock_init(ev__rwlock *l) {
    watch_forks();
    *l = (ev__rwlock){.lost = l->lost};
    sys_init(&l->system, &l->changed);
    ev__store32_release(&l->forks, ev__load32(&forks));
}

/* The condition of an inherited lock may seem to have threads waiting for it, and destroying it would wait for them. */
void ev__rwlock_free(ev__rwlock *l) {
    if (!is_inherited(&l->forks)) sys_free(&l->system, &l->changed);
}

static void renew(ev__rwlock *l) {
    ev__spin_lock(&renewing);
    if (is_inherited(&l->forks)) {
        l->lost |= l->writing;
        ev__rwlock_init(l);
    }
    ev__spin_unlock(&renewing);
}

bool ev__read_lock(ev__rwlock *l) {
    if (EV_UNLIKELY(is_inherited(&l->forks))) renew(l);
    if (EV_UNLIKELY(ev__add64_ordered(&l->readers, 1) < 0)) {
        sys_lock(&l->system);
        while (!l->admitted) sys_wait(&l->changed, &l->system);
        l->admitted--;
        sys_unlock(&l->system);
    }
    if (EV_LIKELY(!l->lost)) return true;
    ev__read_unlock(l);
    return false;
}

void ev__read_unlock(ev__rwlock *l) {
    if (EV_LIKELY(ev__add64_ordered(&l->readers, -1) > 0)) return;
    if (ev__add64_ordered(&l->leaving, -1) != 1) return;
    sys_lock(&l->system);
    l->all_left = true;
    sys_wake_all(&l->changed);
    sys_unlock(&l->system);
}

bool ev__write_lock(ev__rwlock *l) {
    if (EV_UNLIKELY(is_inherited(&l->forks))) renew(l);
    sys_lock(&l->system);
    uint64_t ticket = l->tickets++;
    while (l->serving != ticket) sys_wait(&l->changed, &l->system);
    int64_t in = ev__add64_ordered(&l->readers, -READERS_MAX);
    if (in && ev__add64_ordered(&l->leaving, in) != -in)
        while (!l->all_left) sys_wait(&l->changed, &l->system);
    l->all_left = false;
    l->writing = true;
    sys_unlock(&l->system);
    if (EV_LIKELY(!l->lost)) return true;
    ev__write_unlock(l);
    return false;
}

void ev__write_unlock(ev__rwlock *l) {
    if (EV_UNLIKELY(is_inherited(&l->forks))) {
        renew(l); /* forked by a callback of the writer's: the threads that helped it are gone */
        return;
    }
    sys_lock(&l->system);
    l->writing = false;
    l->admitted += ev__add64_ordered(&l->readers, READERS_MAX) + READERS_MAX;
    l->serving++;
    sys_wake_all(&l->changed);
    sys_unlock(&l->system);
}

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

/* ---- stopping -------------------------------------------------------------------------------- */

static EV_THREAD_LOCAL struct {
    ev_interrupt asked;
    void *user;
    ev__watch *call; /* the innermost */
    double last;     /* when somebody was asked */
} thread;

#ifdef EDGEVEC_TESTING
static double ask_every = EV_ASK_EVERY; /* set while one thread alone uses the library */
void ev_ask_every(double seconds) { ask_every = seconds < 0 ? EV_ASK_EVERY : seconds; }
#else
static const double ask_every = EV_ASK_EVERY;
#endif

void ev_set_interrupt(ev_interrupt asked, void *user) {
    thread.asked = asked;
    thread.user = user;
}

void ev__watch_begin(ev__watch *w, ev_progress progress, void *user, int64_t total) {
    *w = (ev__watch){.progress = progress, .user = user, .total = total, .outer = thread.call};
    thread.call = w;
    thread.last = ev__now();
}

void ev__watch_end(ev__watch *w) { thread.call = w->outer; }

/* What they call has calls of its own. A child that they fork has not the threads to go on. */
static bool ask(ev__watch *w, bool interrupt) {
    uint32_t born = ev__load32(&forks);
    thread.call = NULL;
    bool go_on = (!interrupt || !thread.asked || thread.asked(thread.user)) &&
                 (!w || !w->progress || w->progress(w->user, w->done, w->total));
    thread.call = w;
    thread.last = ev__now();
    bool forked = ev__load32(&forks) != born;
    if (w) w->forked |= forked;
    if (w) w->stopped |= forked || !go_on;
    return forked || !go_on;
}

bool ev__is_to_stop(void) {
    ev__watch *w = thread.call;
    if (w && w->finishing) return false;
    if (w && w->stopped) return true;
    if (!thread.asked && !(w && w->progress)) return false;
    return ev__now() - thread.last >= ask_every && ask(w, true);
}

int ev__stopped(void) {
    const ev__watch *w = thread.call;
    if (w && w->forked) return ev__fail(EV_E_FORKED, "by a callback of the call");
    if (!w || !w->total) return ev__fail(EV_E_STOPPED, "before its end");
    return ev__fail(EV_E_STOPPED, "after %lld of %lld", (long long)w->done, (long long)w->total);
}

bool ev__report_progress(int64_t done, int64_t total) {
    ev__watch *w = thread.call;
    if (!w) return true;
    w->done = done;
    w->total = total;
    return !w->stopped && !(w->progress && ask(w, false));
}

void ev__watch_commit(void) {
    if (thread.call) thread.call->progress = NULL;
}

void ev__watch_finish(void) {
    if (thread.call) thread.call->finishing = true;
}

bool ev__work_next(ev__work *w, int worker, int64_t *from, int64_t *to) {
    if (worker == 0 && !w->uninterruptible) {
        if (w->base_total && thread.call) thread.call->done = w->base + ev__atomic_load64(&w->done);
        if (ev__is_to_stop()) ev__store32(&w->stopped, 1);
    }
    if (ev__load32(&w->stopped)) return false;
    *from = ev__add64(&w->taken, w->run);
    if (*from >= w->total) return false;
    *to = *from + w->run < w->total ? *from + w->run : w->total;
    return true;
}
