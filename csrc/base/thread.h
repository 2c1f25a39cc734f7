/* Locks, threads that share out rows, and the clock. */
#ifndef EV_THREAD_H
#define EV_THREAD_H

#include "base/platform.h"
#include "edgevec.h"

/* The system's own. */
#if !EV_THREADS
typedef struct {
    char none;
} ev__sys_mutex, ev__sys_condition;
#elif defined(_WIN32)
typedef struct {
    void *at;
} ev__sys_mutex, ev__sys_condition; /* SRWLOCK, CONDITION_VARIABLE, without <windows.h> in every file */
#else
#include <pthread.h>
typedef pthread_mutex_t ev__sys_mutex;
typedef pthread_cond_t ev__sys_condition;
#endif

/* A child process has one thread, and locks as others had them when it was forked. Each lock knows how many forks its
 * process had behind it; a child makes those anew that it inherited, on first use. What a mutex guards must be in order
 * after each of the writes that are made under it. */
typedef struct {
    ev__sys_mutex system;
    uint32_t forks; /* atomic */
} ev__mutex;
void ev__mutex_init(ev__mutex *m);
void ev__mutex_free(ev__mutex *m);
void ev__lock(ev__mutex *m);
void ev__unlock(ev__mutex *m);

/* Readers together, or one writer; the same on every system. A writer waits for the readers that are in, and those that
 * come after it wait for it, but go before the next writer; writers go in the order they came in. So neither a stream
 * of searches nor one of additions keeps the other waiting for ever (a "phase-fair" lock: Brandenburg and Anderson). No
 * thread may ask for a lock that it has: ev__enter sees to that.
 *
 * All return false in a child that was forked while another thread wrote: what the lock guards is half changed. */
typedef struct {
    int64_t readers; /* atomic: in or waiting; less READERS_MAX from when a writer's turn has come until it leaves */
    int64_t leaving; /* atomic: the readers that a writer waits for */
    ev__sys_mutex system;
    ev__sys_condition changed; /* any of what follows, which is read and written under `system` */
    uint64_t tickets, serving; /* of writers */
    int64_t admitted;          /* readers that a writer has let in as it left, and that are not in yet */
    bool all_left;             /* the last reader that a writer waited for has left */
    bool writing, lost;
    uint32_t forks; /* atomic */
} ev__rwlock;
void ev__rwlock_init(ev__rwlock *l);
void ev__rwlock_free(ev__rwlock *l);
bool ev__read_lock(ev__rwlock *l);
void ev__read_unlock(ev__rwlock *l);
bool ev__write_lock(ev__rwlock *l);
void ev__write_unlock(ev__rwlock *l);
/* Is a reader waiting for the writer that asks? */
bool ev__readers_wait(const ev__rwlock *l);

/* Take what no thread of this process has; false where one has it. ev__give_back(p) ends that. */
bool ev__try_take(uint32_t *p);
void ev__give_back(uint32_t *p);

/* A lock of four bytes for very short stretches. */
typedef struct {
    uint32_t held;
} ev__spin;
void ev__spin_lock(ev__spin *s);
void ev__spin_unlock(ev__spin *s);

int ev__cores(void);
/* How many forks lie between this process and the first that used the library. */
uint32_t ev__forks(void);
double ev__now(void); /* seconds, monotonic */
/* Run work(arg, 0..threads-1) at once, number 0 on the calling thread; returns when all have. Where the system gives
 * fewer threads fewer run, so the work must be shared out by a counter. */
void ev__parallel(int threads, void (*work)(void *arg, int worker), void *arg);

/* A public call that changes or reads much, on its own stack, and those of the same thread in whose callbacks it is. */
typedef struct ev__watch {
    ev_progress progress; /* NULL: nobody is told */
    void *user;
    int64_t done, total; /* what is told */
    bool stopped, forked;
    bool finishing; /* what follows is done to its end */
    struct ev__watch *outer;
} ev__watch;
void ev__watch_begin(ev__watch *w, ev_progress progress, void *user, int64_t total);
void ev__watch_end(ev__watch *w);
/* Is the call of this thread to stop? Those who may say so are asked, at most every 50 ms. Once it is, it remains so
 * where the call is watched. A worker of ev__parallel but the first is told by ev__work. */
bool ev__is_to_stop(void);
/* The same, every so often in a loop that counts its rounds. */
static inline bool ev__is_to_stop_at(size_t round) { return (round & 1023) == 1023 && ev__is_to_stop(); }
/* The code of a call that stops: EV_E_STOPPED, or EV_E_FORKED in a child that its callback has forked. */
int ev__stopped(void);
/* Tell how far it is, now; false: stop. */
bool ev__report_progress(int64_t done, int64_t total);
/* Nobody can say any more that the call be stopped, but for what it does as a service. */
void ev__watch_commit(void);
/* From here on nobody is asked, and nothing stops: what follows is short. */
void ev__watch_finish(void);

/* Rows handed out in runs to the workers of ev__parallel; the first asks whether to stop. */
typedef struct {
    int64_t total, run;
    int64_t taken, done;      /* atomic */
    uint32_t stopped;         /* atomic */
    int64_t base, base_total; /* what is told: base + done of base_total; 0: not this */
    bool uninterruptible;     /* nobody is asked: it must be done */
} ev__work;
/* the next run [*from, *to); false when there is none or the work was stopped */
bool ev__work_next(ev__work *w, int worker, int64_t *from, int64_t *to);

#endif
