#include "os.h"

#include "tree.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#ifndef SYS_pidfd_open /* which older headers lack; Linux 5.3 */
#define SYS_pidfd_open 434
#endif

#define RP_MADV_POPULATE_WRITE 23 /* which older headers lack; Linux 5.14 */
#define RP_P_PIDFD 3 /* P_PIDFD, which older headers lack; Linux 5.4 */

#define RP_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

uint64_t rp_os_page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool is_whole_pages(uint64_t n)
{
    return (n & (RP_PAGE - 1)) == 0;
}

/* Where the system has smaller pages, it maps what is larger at any of those. */
static bool is_at_page(const void *address)
{
    return ((uintptr_t)address & (rp_os_page_bytes() - 1)) == 0;
}

int rp_os_memfd(const char *name, uint64_t bytes, int *fd)
{
    /* The first form is for kernels from 6.3 on, which ask that a memfd says it is not meant to be executed. */
    int f = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (f < 0 && errno == EINVAL)
        f = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (f < 0)
        return -errno;
    if (ftruncate(f, (off_t)bytes) || fchmod(f, 0600) || fcntl(f, F_ADD_SEALS, RP_SEALS | F_SEAL_SEAL)) {
        int err = errno;
        close(f);
        return -err;
    }
    *fd = f;
    return 0;
}

int rp_os_memfd_check(int fd, uint64_t *bytes)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &st))
        return -errno;
    if ((seals & RP_SEALS) != RP_SEALS || st.st_size < 0)
        return -EINVAL;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int rp_os_file(int fd, uint64_t file[2])
{
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    file[0] = (uint64_t)st.st_dev;
    file[1] = (uint64_t)st.st_ino;
    return 0;
}

int rp_os_keep_private(int fd)
{
    return fcntl(fd, F_SETFD, FD_CLOEXEC) ? -errno : 0;
}

int rp_os_map(int fd, uint64_t offset, uint64_t bytes, uint8_t **base)
{
    void *p;
    assert(is_whole_pages(offset));
    p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
    if (p == MAP_FAILED)
        return -errno;
    /* Neither is needed for correctness: a child that never touches the mapping is merely not charged for it. */
    (void)madvise(p, bytes, MADV_DONTFORK);
    (void)madvise(p, bytes, MADV_DONTDUMP);
    *base = p;
    return 0;
}

int rp_os_inherit(void *base, uint64_t bytes, int inherited)
{
    assert(is_whole_pages(bytes) && is_at_page(base));
    return madvise(base, bytes, inherited ? MADV_DOFORK : MADV_DONTFORK) ? -errno : 0;
}

int rp_os_move(void *from, uint64_t bytes, void *to)
{
    assert(is_whole_pages(bytes) && is_at_page(to));
    return mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED ? -errno : 0;
}

int rp_os_reserve(uint64_t bytes, void **base)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    *base = p;
    return 0;
}

int rp_os_resize(uint64_t bytes, uint64_t to, void **base)
{
    void *p = mremap(*base, bytes, to, MREMAP_MAYMOVE);
    if (p == MAP_FAILED)
        return -errno;
    *base = p;
    return 0;
}

void rp_os_unmap(void *base, uint64_t bytes)
{
    if (base)
        munmap(base, bytes);
}

int rp_os_punch(int fd, uint64_t offset, uint64_t bytes)
{
    assert(is_whole_pages(offset | bytes));
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) ? -errno : 0;
}

static bool read_text(const char *path, char *text, size_t room)
{
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, room - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    return n > 0;
}

uint64_t rp_os_huge_page_bytes(void)
{
    char text[128];
    if (!read_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text, sizeof text))
        return 0;
    if (strstr(text, "[never]") || strstr(text, "[deny]"))
        return 0;
    return read_text("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

void rp_os_ask_huge(void *base, uint64_t bytes, bool wanted)
{
    (void)madvise(base, bytes, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void rp_os_populate(void *base, uint64_t bytes)
{
    (void)madvise(base, bytes, RP_MADV_POPULATE_WRITE); /* before Linux 5.14 an error: then they come one by one */
}

int rp_os_futex_wait(rp_futex *word, uint32_t expected, int64_t timeout_ns)
{
    struct timespec ts = {(time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000)};
    if (syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout_ns < 0 ? NULL : &ts, NULL, 0) == 0 || errno == EAGAIN)
        return 0;
    return -errno;
}

void rp_os_futex_wake(rp_futex *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

int rp_os_poll(struct pollfd *p, uint32_t n, int64_t timeout_ns, uint64_t *late_ns)
{
    struct timespec ts = {(time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000)};
    uint64_t end = rp_os_now_ns() + (uint64_t)timeout_ns, now;
    int ready = ppoll(p, n, timeout_ns < 0 ? NULL : &ts, NULL);
    int err = ready < 0 ? errno : 0;
    now = rp_os_now_ns();
    *late_ns = timeout_ns >= 0 && now > end ? now - end : 0;
    return err == 0 ? ready : err == EINTR ? 0 : -err;
}

void rp_os_notify(int eventfd)
{
    const uint64_t one = 1;
    ssize_t n = eventfd < 0 ? 0 : write(eventfd, &one, sizeof one);
    (void)n; /* EAGAIN: it is full, so the reader has been told */
}

uint64_t rp_os_own_memory(void)
{
    unsigned long size, resident = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%lu %lu %lu", &size, &resident, &shared) != 3 || resident < shared)
        resident = shared = 0;
    fclose(f);
    return (uint64_t)(resident - shared) * rp_os_page_bytes();
}

uint64_t rp_os_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint32_t rp_os_cpu(void)
{
    int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (uint32_t)cpu;
}

int rp_os_nap(uint64_t ns)
{
    struct timespec ts = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    return nanosleep(&ts, NULL) ? -errno : 0;
}

void rp_os_yield(void)
{
    (void)sched_yield();
}

uint64_t rp_os_peak_rss(void)
{
    char text[4096]; /* the line is within the first 1500 bytes, but for a user in hundreds of groups */
    const char *line;
    if (!read_text("/proc/self/status", text, sizeof text))
        return 0;
    line = strstr(text, "\nVmHWM:");
    return line ? strtoull(line + 7, NULL, 10) * 1024 : 0;
}

int rp_os_wait_peak_rss(int pidfd, uint64_t *bytes)
{
    siginfo_t info;
    struct rusage usage;
    /* The system call: the function of the C library has no place for the usage. */
    while (syscall(SYS_waitid, RP_P_PIDFD, pidfd, &info, WEXITED | WNOWAIT, &usage) < 0)
        if (errno != EINTR)
            return -errno;
    *bytes = (uint64_t)usage.ru_maxrss * 1024;
    return 0;
}

/* A fork of the process has a copy of this but not the thread; its own rp_os_guard makes all of it anew. */
static struct {
    int pidfd;
    pid_t home; /* the process group that this process was born in */
    int bell; /* an eventfd; -1: there is none, and the guard never looks */
    pthread_mutex_t looking;
    int64_t (*look)(void *);
    void *arg;
} the_guard = {.pidfd = -1, .bell = -1};

/* The watched process has ended. Not exit(): no handler may run, for other threads may hold any lock. */
static _Noreturn void end_with_the_watched(void)
{
    int self;
    close(the_guard.pidfd); /* leaves room for another if this process has all the descriptors that it may */
    self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self >= 0)
        (void)rp_tree_signal(self, getpid(), the_guard.home, SIGKILL);
    _exit(1);
}

static void *guard(void *arg)
{
    struct pollfd p[2] = {{.fd = the_guard.pidfd, .events = POLLIN}, {.fd = the_guard.bell, .events = POLLIN}};
    int64_t next = -1;
    uint64_t pokes;
    (void)arg;
    for (;;) {
        struct timespec ts = {(time_t)(next / 1000000000), (long)(next % 1000000000)};
        int n = ppoll(p, 2, next < 0 ? NULL : &ts, NULL);
        if (n > 0 && p[0].revents)
            end_with_the_watched();
        if (n > 0)
            (void)!read(p[1].fd, &pokes, sizeof pokes);
        pthread_mutex_lock(&the_guard.looking);
        next = the_guard.look ? the_guard.look(the_guard.arg) : -1;
        pthread_mutex_unlock(&the_guard.looking);
    }
}

int rp_os_guard(int pidfd)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, old;
    int err = pthread_attr_init(&attr);
    if (err)
        return -err;
    the_guard.pidfd = pidfd;
    the_guard.home = getpgrp();
    the_guard.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    the_guard.look = NULL;
    pthread_mutex_init(&the_guard.looking, NULL);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 * 1024); /* thread-local storage of libraries is taken from it */
    /* The thread inherits a full mask: no signal of the user's is ever delivered to it. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&thread, &attr, guard, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (err) {
        close(pidfd);
        if (the_guard.bell >= 0)
            close(the_guard.bell);
        the_guard.bell = -1;
    }
    return -err;
}

void rp_os_guard_look(int64_t (*look)(void *), void *arg)
{
    if (the_guard.bell < 0)
        return;
    pthread_mutex_lock(&the_guard.looking);
    the_guard.look = look;
    the_guard.arg = arg;
    pthread_mutex_unlock(&the_guard.looking);
    rp_os_guard_poke();
}

void rp_os_guard_poke(void)
{
    const uint64_t one = 1;
    (void)!write(the_guard.bell, &one, sizeof one);
}

int rp_os_thread(void *(*run)(void *), void *arg, uintptr_t *thread)
{
    pthread_t started;
    sigset_t all, old;
    int err;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&started, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!err)
        *thread = (uintptr_t)started;
    return -err;
}

void rp_os_thread_join(uintptr_t thread)
{
    (void)pthread_join((pthread_t)thread, NULL);
}

struct thread_words { /* of the C library's and the kernel's common book-keeping of a thread */
    pid_t *tid;
    void *robust_list;
    size_t robust_bytes;
};

static void thread_words_find(struct thread_words *w)
{
    *w = (struct thread_words){NULL, NULL, 0};
    if (prctl(PR_GET_TID_ADDRESS, &w->tid, 0, 0, 0) || (w->tid && *w->tid != (pid_t)syscall(SYS_gettid)))
        w->tid = NULL;
    if (syscall(SYS_get_robust_list, 0, &w->robust_list, &w->robust_bytes))
        w->robust_list = NULL;
}

/* fork(), but the new process is the caller's sibling: the caller has one thread, and holds no lock.
 *
 * The system call alone leaves undone what glibc's fork() does after it. Locks, lists of threads and the handlers of
 * pthread_atfork() were seen to when the caller was forked. What remains is what belongs to the process itself: glibc
 * keeps the thread's id in its own record, for recursive and robust mutexes, pthread_kill() and pthread_getattr_np(),
 * and tells the kernel where the record and the list of robust mutexes are. fork() has shown the kernel the place of
 * that id, and the kernel tells. (Not if it was built without CONFIG_CHECKPOINT_RESTORE, and musl's place is another:
 * then the record keeps the zygote's id, as after glibc's own clone().) */
static int fork_sibling(const struct thread_words *w)
{
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        if (w->tid)
            *w->tid = (pid_t)syscall(SYS_set_tid_address, w->tid);
        if (w->robust_list)
            syscall(SYS_set_robust_list, w->robust_list, w->robust_bytes);
    }
    return pid < 0 ? -errno : (int)pid;
}

/* The zygote's life. Returns only in the processes that it makes. */
static void serve_orders(int fd, int parent, void *order)
{
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = parent, .events = POLLIN}};
    struct thread_words words;
    thread_words_find(&words);
    for (;;) {
        int pid;
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[1].revents)
            _exit(0);
        memset(order, 0, RP_ORDER_BYTES);
        if (recv(fd, order, RP_ORDER_BYTES, 0) <= 0)
            _exit(0);
        pid = fork_sibling(&words);
        if (pid == 0)
            return;
        if (send(fd, &pid, sizeof pid, MSG_NOSIGNAL) != (ssize_t)sizeof pid)
            _exit(0);
    }
}

static void block_handled_signals(void)
{
    sigset_t handled;
    sigemptyset(&handled);
    for (int s = 1; s < NSIG; s++) {
        struct sigaction action;
        if (!sigaction(s, NULL, &action) && action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN)
            sigaddset(&handled, s);
    }
    pthread_sigmask(SIG_SETMASK, &handled, NULL);
}

int rp_os_zygote(int parent, int held, int *fd, void *order)
{
    int ends[2], pid, err;
    sigset_t all, old;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* before the fork: no signal is ever delivered to the zygote */
    pid = fork();
    err = errno;
    if (pid == 0) {
        close(ends[0]);
        if (held >= 0)
            dup3(parent, held, O_CLOEXEC); /* not closed: the number is one that forked children close */
        serve_orders(ends[1], parent, order);
        close(ends[1]);
        block_handled_signals();
        return 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -err;
    }
    *fd = ends[0];
    return pid;
}

int rp_os_zygote_make(int fd, const void *order, uint32_t order_bytes)
{
    int pid;
    ssize_t n;
    if (order_bytes == 0 || order_bytes > RP_ORDER_BYTES)
        return -EINVAL;
    do
        n = send(fd, order, order_bytes, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    do
        n = recv(fd, &pid, sizeof pid, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;
    return n == (ssize_t)sizeof pid ? pid : -EPIPE;
}

void rp_os_zygote_dismiss(int fd)
{
    shutdown(fd, SHUT_RDWR); /* closing alone would do nothing while a forked child has a copy */
}

void rp_os_zygote_end(int fd, int pid)
{
    rp_os_zygote_dismiss(fd);
    close(fd);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}
