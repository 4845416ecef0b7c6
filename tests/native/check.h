/* check.h - what the native tests share: a check that ends the program, random numbers from a seed, a watchdog.
 *
 * A test is a function without arguments whose name is a sentence. It is run by RUN, which prints that name first, so
 * the last line of a program that hung or crashed names the culprit. A program that fails exits with 1; one that hangs
 * is ended by SIGALRM. Programs with chance in them print their seed, and take it as an argument.
 */
#ifndef CHECK_H
#define CHECK_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* How often a loop runs: ThreadSanitizer makes a step some ten times slower. */
#ifdef __SANITIZE_THREAD__
#define TIMES(n) ((n) / 10)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TIMES(n) ((n) / 10)
#endif
#endif
#ifndef TIMES
#define TIMES(n) (n)
#endif

/* _exit: other threads may be anywhere in their work. */
#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);     \
            _exit(1);                                                                   \
        }                                                                               \
    } while (0)

#define CHECK_EQ(left, right)                                                                                  \
    do {                                                                                                       \
        long long left_ = (long long)(left), right_ = (long long)(right);                                      \
        if (left_ != right_) {                                                                                 \
            fprintf(stderr, "%s:%d: %s is %lld, not %s, which is %lld\n", __FILE__, __LINE__, #left, left_,    \
                    #right, right_);                                                                           \
            _exit(1);                                                                                          \
        }                                                                                                      \
    } while (0)

#define RUN(test)               \
    do {                        \
        printf("%s\n", #test);  \
        test();                 \
    } while (0)

/* One about what qemu's emulation of a system does not do: MADV_DONTFORK, limits of the address space, vfork(), and to stop
 * a process without its leave. */
#define RUN_UNLESS_EMULATED(test)           \
    do {                                    \
        if (!getenv("RINGPOOL_EMULATED"))   \
            RUN(test);                      \
    } while (0)

/* ---- random numbers: xorshift64*, Vigna, "An experimental exploration of Marsaglia's xorshift generators" ---- */

struct rng {
    uint64_t x; /* never 0 */
};

static inline struct rng rng_from(uint64_t seed)
{
    struct rng r = {(seed + 1) * 0x9e3779b97f4a7c15u};
    if (r.x == 0)
        r.x = 1;
    return r;
}

static inline uint64_t rng_next(struct rng *r)
{
    r->x ^= r->x >> 12;
    r->x ^= r->x << 25;
    r->x ^= r->x >> 27;
    return r->x * 0x2545f4914f6cdd1du;
}

/* 0 to n - 1. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (rng_next(r) >> 33) % n;
}

static inline bool one_in(struct rng *r, uint64_t n)
{
    return rng_below(r, n) == 0;
}

/* ---- threads ---- */

static inline uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Lets another thread of the program run. Beside busy loops of other programs, each of which takes its turn first, a yield
 * takes tens of milliseconds: from the first such one on, the thread sleeps for a moment, since the kernel prefers those
 * that have slept. */
static inline void give_way(void)
{
    static _Thread_local bool crowded;
    const struct timespec moment = {0, 1000};
    uint64_t start = clock_ns();
    if (crowded)
        nanosleep(&moment, NULL);
    else {
        sched_yield();
        crowded = clock_ns() - start > 1000000;
    }
}

/* ---- the frame of a program ---- */

/* Starts the watchdog. Its action stays the default one, the end of the process: a handler would have to wait for its
 * turn where a sanitizer delays signals. A forked child has no watchdog. */
static inline void begin(unsigned watchdog_s)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    alarm(watchdog_s);
}

/* The seed given as argument number `at`, or one made of the time; printed in both cases. */
static inline uint64_t seed_from(int argc, char **argv, int at)
{
    struct timespec now;
    uint64_t seed;
    clock_gettime(CLOCK_REALTIME, &now);
    seed = ((uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 20) % 1000000000u;
    if (argc > at)
        seed = strtoull(argv[at], NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static inline pthread_t start_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, run, argument), 0);
    return thread;
}

static inline void end_thread(pthread_t thread)
{
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static inline int this_thread(void)
{
    return (int)syscall(SYS_gettid);
}

/* Does the kernel have this thread of ours asleep? 'S' in the field behind the name, which is in parentheses. */
static inline bool thread_sleeps(int thread)
{
    char path[64], line[256];
    FILE *file;
    char *end;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    file = fopen(path, "r");
    CHECK(file != NULL);
    CHECK(fgets(line, sizeof line, file) != NULL);
    fclose(file);
    end = strrchr(line, ')');
    CHECK(end != NULL);
    return end[2] == 'S';
}

static inline bool fd_is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Descriptors that this process has open. */
static inline int open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    CHECK(dir != NULL);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Zeroed memory that starts on a line, as parts of a segment do. Its end is exact, so that a sanitizer sees a step over
 * it. */
static inline void *zeroed(size_t bytes)
{
    void *at = aligned_alloc(128, bytes);
    CHECK(at != NULL && bytes % 128 == 0);
    memset(at, 0, bytes);
    return at;
}

#endif
