/* threads.c: the threads that share long work with the thread that has it.
 *
 * They are started when work first asks for them, and wait on a condition between two pieces of work, so that they cost
 * nothing while idle. One piece of work has them at a time. Another thread that comes meanwhile does its own alone, and
 * so does work that is part of other work: the processors are busy then. The threads run kernels, nothing of the
 * caller's, take no memory from the pool of memory and handle no signals. Nobody waits for them at the end of the
 * process. Before a fork they end if they are idle, as a process with threads had better not fork and Python warns of
 * it; in the child there are none in any case. They are started anew when they are needed next.
 *
 * Mutable globals: the limit, the number of calls of libraries under way, and the pool of threads. This belongs to the
 * thread that has set `is_taken`; what other threads read of it, or count in it, is under the lock.
 */
#define _GNU_SOURCE             /* pthread_sigmask, where -std=c11 leaves it out */
#include "fastgrad.h"

#include <stdatomic.h>

static atomic_int limit = 1;

int fg_threads_limit(void) { return atomic_load_explicit(&limit, memory_order_relaxed); }

void fg_threads_set_limit(int n)
{
    atomic_store_explicit(&limit, n < 1 ? 1 : n > FG_MAX_THREADS ? FG_MAX_THREADS : n, memory_order_relaxed);
}

static atomic_int in_library;

void fg_threads_enter_library(void) { atomic_fetch_add_explicit(&in_library, 1, memory_order_relaxed); }
void fg_threads_leave_library(void) { atomic_fetch_sub_explicit(&in_library, 1, memory_order_relaxed); }

int64_t fg_claim(fg_parts *parts) { return atomic_fetch_add_explicit(&parts->next, 1, memory_order_relaxed); }

#if defined(_WIN32)
int fg_threads_run(int n, fg_work *work, void *context) { return (void)n, work(context, 0), 1; }
#else
#include <pthread.h>
#include <signal.h>

enum { STACK_BYTES = 1 << 20 }; /* kernels have some 100 KB of variables at most; musl's threads have less */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t there_is_work = PTHREAD_COND_INITIALIZER, all_have_left = PTHREAD_COND_INITIALIZER;
static struct {
    fg_work *work;              /* NULL: there is none, or nobody may begin with it any more */
    void *context;
    int wanted, joined, running;        /* threads, without the one that called */
    int started, must_end;
    int forks_are_handled;
    pthread_t thread[FG_MAX_THREADS];
    uint64_t number;            /* of the work */
} pool;
static atomic_flag is_taken = ATOMIC_FLAG_INIT;
static _Thread_local int has_stopped_them;      /* the fork of this thread that is under way has ended the threads */

static void *run_thread(void *unused)
{
    uint64_t seen = 0;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!pool.must_end && (!pool.work || pool.number == seen || pool.joined == pool.wanted))
            pthread_cond_wait(&there_is_work, &lock);
        if (pool.must_end)
            break;
        seen = pool.number;
        fg_work *work = pool.work;
        void *context = pool.context;
        int i = ++pool.joined;
        pool.running++;
        pthread_mutex_unlock(&lock);
        work(context, i);
        pthread_mutex_lock(&lock);
        if (--pool.running == 0)
            pthread_cond_signal(&all_have_left);
    }
    pthread_mutex_unlock(&lock);
    return unused;
}

static void stop_before_fork(void)
{
    if (atomic_flag_test_and_set(&is_taken))
        return;                                 /* another thread's work has them */
    has_stopped_them = 1;
    pthread_mutex_lock(&lock);
    pool.must_end = 1;
    pthread_cond_broadcast(&there_is_work);
    pthread_mutex_unlock(&lock);
    while (pool.started)
        pthread_join(pool.thread[--pool.started], NULL);
    pool.must_end = 0;
}

static void go_on_after_fork(void)
{
    if (has_stopped_them) {
        has_stopped_them = 0;
        atomic_flag_clear(&is_taken);
    }
}

/* In a forked child, which has one thread alone: whoever held the lock is not there. */
static void start_anew(void)
{
    static const pthread_mutex_t new_lock = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_cond_t new_condition = PTHREAD_COND_INITIALIZER;
    lock = new_lock;
    there_is_work = all_have_left = new_condition;
    pool.work = NULL;
    pool.started = pool.running = pool.must_end = has_stopped_them = 0;
    atomic_store(&in_library, 0);
    atomic_flag_clear(&is_taken);
}

/* Start threads until there are n, or as many as the system gives; under the lock. Signals are for the caller's. */
static void start_threads(int n)
{
    pthread_attr_t attr;
    sigset_t all, before;
    if (pool.started >= n)
        return;
    if (!pool.forks_are_handled && pthread_atfork(stop_before_fork, go_on_after_fork, start_anew))
        return;
    pool.forks_are_handled = 1;
    if (pthread_attr_init(&attr))
        return;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.started < n && !pthread_create(&pool.thread[pool.started], &attr, run_thread, NULL))
        pool.started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
}

int fg_threads_run(int n, fg_work *work, void *context)
{
    if (n < 2 || atomic_load_explicit(&in_library, memory_order_relaxed) || atomic_flag_test_and_set(&is_taken)) {
        work(context, 0);
        return 1;
    }
    pthread_mutex_lock(&lock);
    start_threads(n - 1);
    pool.work = work;
    pool.context = context;
    pool.wanted = n - 1;
    pool.joined = 0;
    pool.number++;
    pthread_cond_broadcast(&there_is_work);
    pthread_mutex_unlock(&lock);
    work(context, 0);
    pthread_mutex_lock(&lock);
    pool.work = NULL;
    int joined = pool.joined;
    while (pool.running)
        pthread_cond_wait(&all_have_left, &lock);
    pthread_mutex_unlock(&lock);
    atomic_flag_clear(&is_taken);
    return 1 + joined;
}
#endif

/* ---- a range of elements ---------------------------------------------------------------------------------------- */
typedef struct {
    fg_range_work *work;
    void *context;
    int64_t n, part;
    fg_parts parts;
} range;

static void share_range(void *context, int i)
{
    (void)i;
    range *r = context;
    for (int64_t from; (from = fg_claim(&r->parts) * r->part) < r->n;)
        r->work(r->context, from, r->n - from < r->part ? r->n : from + r->part);
}

void fg_threads_range(int64_t n, int64_t part, fg_range_work *work, void *context)
{
    int64_t parts = (n + part - 1) / part, most = fg_threads_limit();
    if (parts < 2 || most < 2) {
        work(context, 0, n);
        return;
    }
    range r = {work, context, n, part, {0}};
    fg_threads_run((int)(parts < most ? parts : most), share_range, &r);
}
