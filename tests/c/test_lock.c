/* The reader-writer lock: it keeps apart what it should, nobody waits for ever, and a forked child can go on.
 * Where somebody would, the others give up after so many turns, and the count shows it. */
#include "check.h"
#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__unix__) || defined(__APPLE__)
#if !defined(__EMSCRIPTEN__)
#define FORKS 1
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

enum { THREADS = 4, TURNS = 300, GIVE_UP = 3000000 };

typedef struct {
    ev__rwlock lock;
    bool one_reads;    /* and the others write */
    int64_t started;   /* atomic: of the others */
    uint32_t finished; /* atomic: the one has had its turns */
    int64_t given_up;  /* atomic */
    int64_t torn;      /* atomic: not kept apart, or refused */
    int64_t a, b;      /* guarded: always equal */
} scene;

static void pass(void) {
#if defined(FORKS)
    sched_yield();
#elif defined(_WIN32)
    SwitchToThread();
#endif
}

static void read_once(scene *s) {
    if (!ev__read_lock(&s->lock)) ev__add64(&s->torn, 1);
    int64_t a = s->a;
    pass(); /* so that some reader is always in */
    if (a != s->b) ev__add64(&s->torn, 1);
    ev__read_unlock(&s->lock);
}

static void write_once(scene *s) {
    if (!ev__write_lock(&s->lock)) ev__add64(&s->torn, 1);
    s->a++;
    pass();
    s->b++;
    ev__write_unlock(&s->lock);
}

static void take_turns(void *arg, int worker) {
    scene *s = arg;
    if (worker == 0) {
        while (ev__atomic_load64(&s->started) < THREADS - 1) pass();
        for (int i = 0; i < TURNS; i++) s->one_reads ? read_once(s) : write_once(s);
        ev__store32_release(&s->finished, 1);
        return;
    }
    for (int i = 0; !ev__load32_acquire(&s->finished); i++) {
        s->one_reads ? write_once(s) : read_once(s);
        if (i == 0) ev__add64(&s->started, 1);
        if (i < GIVE_UP) continue;
        ev__add64(&s->given_up, 1);
        return;
    }
}

static void nobody_waits_for_ever(bool one_reads) {
    scene s = {.one_reads = one_reads};
    ev__rwlock_init(&s.lock);
    ev__parallel(THREADS, take_turns, &s);
    CHECK(s.given_up == 0);
    CHECK(s.torn == 0);
    CHECK(s.a == s.b && (one_reads ? s.a > 0 : s.a == TURNS));
    ev__rwlock_free(&s.lock);
}

static void all_kinds(void *arg, int worker) {
    scene *s = arg;
    for (int i = 0; i < TURNS; i++) (i + worker) % 3 ? read_once(s) : write_once(s);
}

static void writes_are_alone(void) {
    scene s = {0};
    ev__rwlock_init(&s.lock);
    ev__parallel(THREADS, all_kinds, &s);
    CHECK(s.torn == 0);
    CHECK(s.a == s.b && s.a == THREADS * TURNS / 3);
    ev__rwlock_free(&s.lock);
}

#if defined(FORKS)

typedef struct {
    ev__rwlock *lock;
    ev__mutex *mutex;
    bool writes;
    uint32_t ready, done; /* atomic */
    int status;
} moment;

/* 0: a reader came in; 1: neither a reader nor a writer; 2: only one of them. Killed by the alarm where it hangs. */
static int try_in_child(const moment *m) {
    alarm(60);
    ev__lock(m->mutex);
    ev__unlock(m->mutex);
    bool read = ev__read_lock(m->lock);
    if (read) ev__read_unlock(m->lock);
    bool written = ev__write_lock(m->lock);
    if (written) ev__write_unlock(m->lock);
    ev__rwlock_free(m->lock);
    return read && written ? 0 : !read && !written ? 1 : 2;
}

/* One thread has the lock and the mutex while the other forks. */
static void hold_or_fork(void *arg, int worker) {
    moment *m = arg;
    if (worker) {
        m->writes ? ev__write_lock(m->lock) : ev__read_lock(m->lock);
        ev__lock(m->mutex);
        ev__store32_release(&m->ready, 1);
        while (!ev__load32_acquire(&m->done)) pass();
        ev__unlock(m->mutex);
        m->writes ? ev__write_unlock(m->lock) : ev__read_unlock(m->lock);
        return;
    }
    while (!ev__load32_acquire(&m->ready)) pass();
    pid_t child = fork();
    if (child == 0) _exit(try_in_child(m));
    CHECK(child > 0 && waitpid(child, &m->status, 0) == child);
    ev__store32_release(&m->done, 1);
}

static void a_child_goes_on(bool writes) {
    ev__rwlock lock = {0};
    ev__mutex mutex;
    moment m = {.lock = &lock, .mutex = &mutex, .writes = writes};
    ev__rwlock_init(&lock);
    ev__mutex_init(&mutex);
    ev__parallel(2, hold_or_fork, &m);
    CHECK(WIFEXITED(m.status) && WEXITSTATUS(m.status) == (writes ? 1 : 0));
    CHECK(ev__write_lock(&lock)); /* the parent has seen nothing of it */
    ev__write_unlock(&lock);
    ev__rwlock_free(&lock);
    ev__mutex_free(&mutex);
}

#else
static void a_child_goes_on(bool writes) { (void)writes; }
#endif

int main(void) {
    nobody_waits_for_ever(false);
    nobody_waits_for_ever(true);
    writes_are_alone();
    a_child_goes_on(false);
    a_child_goes_on(true);
    return check_summary();
}
