/* test_os.c - the system calls keep what os.h promises. */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"
#include "os.h"

static void punched_pages_read_as_zero_and_their_neighbours_stay(void)
{
    uint8_t *base;
    int fd;
    CHECK_EQ(rp_os_memfd("holes", 4 * RP_PAGE, &fd), 0);
    CHECK_EQ(rp_os_map(fd, 0, 4 * RP_PAGE, &base), 0);
    memset(base, 7, 4 * RP_PAGE);
    CHECK_EQ(rp_os_punch(fd, RP_PAGE, 2 * RP_PAGE), 0);
    for (size_t i = 0; i < 4 * RP_PAGE; i++)
        CHECK_EQ(base[i], i / RP_PAGE == 1 || i / RP_PAGE == 2 ? 0 : 7);
    CHECK_EQ(rp_os_punch(-1, 0, RP_PAGE), -EBADF);
    rp_os_unmap(base, 4 * RP_PAGE);
    close(fd);
}

static void a_wait_on_a_changed_word_returns_at_once(void)
{
    rp_futex word = 1;
    CHECK_EQ(rp_os_futex_wait(&word, 2, -1), 0);
}

static void a_wait_ends_when_its_time_is_up(void)
{
    rp_futex word = 1;
    uint64_t start = rp_os_now_ns();
    CHECK_EQ(rp_os_futex_wait(&word, 1, 0), -ETIMEDOUT);
    CHECK_EQ(rp_os_futex_wait(&word, 1, 3000000), -ETIMEDOUT);
    CHECK(rp_os_now_ns() - start >= 3000000);
}

static struct sleeper {
    rp_futex word;
    _Atomic int thread, err;
} sleeper;

static void *sleep_on_the_word(void *unused)
{
    atomic_store(&sleeper.thread, this_thread());
    atomic_store(&sleeper.err, rp_os_futex_wait(&sleeper.word, 0, -1));
    return unused;
}

static void on_signal(int number)
{
    (void)number;
}

static void a_signal_ends_a_wait(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t thread;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    atomic_store(&sleeper.thread, 0);
    atomic_store(&sleeper.err, 1);
    thread = start_thread(sleep_on_the_word, NULL);
    while (atomic_load(&sleeper.thread) == 0 || !thread_sleeps(atomic_load(&sleeper.thread)))
        give_way();
    pthread_kill(thread, SIGUSR1);
    end_thread(thread);
    CHECK_EQ(atomic_load(&sleeper.err), -EINTR);
}

/* The guarded process spins in user code and never looks up; the one that it hangs on is ended with SIGKILL. */
static void the_guard_ends_its_process_when_the_watched_one_has_ended(void)
{
    int status;
    pid_t watched = fork(), guarded;
    CHECK(watched >= 0);
    if (watched == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    guarded = fork();
    CHECK(guarded >= 0);
    if (guarded == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int pidfd = (int)syscall(SYS_pidfd_open, watched, 0);
        if (pidfd < 0 || rp_os_guard(pidfd))
            _exit(9);
        for (;;)
            rp_pause();
    }
    CHECK_EQ(waitpid(guarded, &status, WNOHANG), 0);
    CHECK_EQ(kill(watched, SIGKILL), 0);
    CHECK_EQ(waitpid(guarded, &status, 0), guarded);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGKILL);
    CHECK_EQ(waitpid(watched, &status, 0), watched);
}

static void the_peak_of_memory_rises_and_never_falls(void)
{
    const size_t bytes = 64u << 20;
    uint64_t before = rp_os_peak_rss();
    void *block;
    CHECK(before > 0);
    CHECK_EQ(rp_os_reserve(bytes, &block), 0);
    memset(block, 1, bytes);
    rp_os_unmap(block, bytes);
    CHECK(rp_os_peak_rss() >= bytes);
    CHECK(rp_os_peak_rss() >= before);
}

static void the_peak_of_a_dead_child_is_told_and_its_status_stays(void)
{
    const size_t bytes = 200u << 20;
    uint64_t peak = 0;
    void *block;
    int status, pidfd;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_EQ(rp_os_reserve(bytes, &block), 0);
        memset(block, 1, bytes);
        rp_os_unmap(block, bytes);
        _exit(7);
    }
    pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    CHECK_EQ(rp_os_wait_peak_rss(pidfd, &peak), 0);
    CHECK(peak >= bytes);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(WEXITSTATUS(status), 7);
    CHECK_EQ(rp_os_wait_peak_rss(pidfd, &peak), -ECHILD);
    close(pidfd);
    pidfd = (int)syscall(SYS_pidfd_open, getppid(), 0);
    CHECK_EQ(rp_os_wait_peak_rss(pidfd, &peak), -ECHILD);
    close(pidfd);
}

static _Atomic int looks;

static int64_t look(void *ns)
{
    looks++;
    return *(int64_t *)ns;
}

static void await_looks(int n)
{
    while (looks < n) /* the watchdog ends it */
        rp_os_nap(100000);
}

static void the_guard_looks_when_it_is_poked_or_its_time_has_come(void)
{
    int64_t soon = 1000000, never = -1;
    int seen;
    CHECK_EQ(rp_os_guard((int)syscall(SYS_pidfd_open, getpid(), 0)), 0);
    rp_os_guard_look(look, &never);
    await_looks(1);
    rp_os_nap(20000000);
    CHECK_EQ(looks, 1);
    rp_os_guard_poke();
    await_looks(2);
    rp_os_guard_look(look, &soon);
    await_looks(10);
    rp_os_guard_look(NULL, NULL);
    seen = looks;
    rp_os_guard_poke();
    rp_os_nap(20000000);
    CHECK_EQ(looks, seen);
}

int main(void)
{
    begin(120);
    RUN(punched_pages_read_as_zero_and_their_neighbours_stay);
    RUN(a_wait_on_a_changed_word_returns_at_once);
    RUN(a_wait_ends_when_its_time_is_up);
    RUN(a_signal_ends_a_wait);
    RUN(the_peak_of_memory_rises_and_never_falls);
    RUN(the_peak_of_a_dead_child_is_told_and_its_status_stays);
    RUN(the_guard_ends_its_process_when_the_watched_one_has_ended);
    RUN(the_guard_looks_when_it_is_poked_or_its_time_has_come); /* last: its thread stays */
    return 0;
}
