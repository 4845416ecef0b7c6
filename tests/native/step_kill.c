/* step_kill.c [stride] [seed] - a worker is killed after one instruction of its way, then after two, and so on to the end;
 * with a stride of 4, after every fourth, from a first one that the seed names.
 *
 * What stress_kill.c hits by chance, if ever, is hit here for certain: a death between any two instructions of a claim,
 * a wake, a publication, a lying down, a leaving. Worker 0 is the one that dies, each time in a new process that the
 * parent leads by single steps. Worker 1 lives and is asleep when it begins. After each death every task must be settled
 * once, by a result or by being named as lost, and worker 1 must be awake if there is work: a hang is the watchdog's.
 *
 * Exits with 77 where the system lets no process trace another.
 */
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "check.h"
#include "crew.h"

#define MAX_STEPS 20000u
#define STUCK_NS 20000000 /* a step that takes so long is a sleep */

static struct books books;
static uint64_t stride, seed;
static pid_t live;

static pid_t start(uint32_t w, void (*run)(struct rp_worker *))
{
    pid_t parent = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rp_worker p;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        CHECK_EQ(rp_pool_attach(&p, dup(books.pool.segment.fd), books.pool.n_workers, books.pool.n_cpus, SIZES(ARENA_BYTES), w),
                 0);
        run(&p);
        _exit(0);
    }
    return pid;
}

static void run_live(struct rp_worker *p)
{
    CHECK(!run_worker(p, (struct habits){0}, 1));
}

static void stop_here(void)
{
    CHECK_EQ(raise(SIGSTOP), 0);
}

static void begin_steps(struct rp_worker *p)
{
    rp_pool_join(p);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
        _exit(77);
    stop_here();
}

/* ---- the ways to die on ---- */

/* It has been woken, and wakes worker 1 in its turn, for there are two tasks. The leader is announced, so it is rung. */
static void prepare_task(void)
{
    rp_store_seq_cst(&books.pool.shared->waking, 1u);
    rp_bell_announce(&books.pool.shared->results);
    post(&books, 2);
}

static void run_one_task(struct rp_worker *p)
{
    struct rp_slot task;
    p->woken = true;
    begin_steps(p);
    CHECK_EQ(rp_pool_next(p, &task), RP_RUN);
    run_task(p, &task);
    stop_here();
}

/* It finds nothing to do and goes to sleep; a task comes before its death is known. */
static void prepare_nothing(void)
{
}

static void lie_down(struct rp_worker *p)
{
    begin_steps(p);
    (void)rp_pool_wait_task(p);
    stop_here();
}

/* It leaves, although a task has come for which the parent counted on it. */
static void prepare_leaving(void)
{
    post(&books, 1);
}

static void leave(struct rp_worker *p)
{
    begin_steps(p);
    rp_pool_leave(p);
    stop_here();
}

/* ---- the parent ---- */

/* False when the process has come to the end of its way: it stops by itself, or sleeps. */
static bool step(pid_t pid)
{
    const struct timespec stuck = {.tv_nsec = STUCK_NS};
    sigset_t child;
    int status;
    pid_t found;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    CHECK_EQ(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    while ((found = waitpid(pid, &status, WNOHANG)) == 0) /* a SIGCHLD may be that of the step before */
        if (sigtimedwait(&child, NULL, &stuck) < 0 && errno == EAGAIN)
            return false;
    CHECK_EQ(found, pid);
    CHECK(WIFSTOPPED(status));
    CHECK(WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP);
    return WSTOPSIG(status) == SIGTRAP;
}

static void settle_all(void)
{
    (void)drain(&books);
    while (books.outstanding) {
        CHECK_EQ(rp_pool_wait_results(&books.pool, books.outstanding, -1), 0);
        (void)drain(&books);
    }
}

static void await_live_sleeps(void)
{
    while (!is_sleeper(&books, 1) || rp_load_seq_cst(&books.pool.entries[1].bell.word) != RP_ASLEEP)
        give_way();
}

/* One life of n instructions. False if it was over before. */
static bool die_after(uint64_t n, void (*prepare)(void), void (*run)(struct rp_worker *))
{
    int status;
    bool going = true;
    pid_t pid = start(0, run);
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        printf("no process may be traced here\n");
        _exit(77);
    }
    CHECK(WIFSTOPPED(status));
    CHECK_EQ(WSTOPSIG(status), SIGSTOP);
    await_live_sleeps();
    prepare();
    for (uint64_t i = 0; i < n && going; i++)
        going = step(pid);
    if (n / stride % 2) /* a task that comes before the death is known */
        post(&books, 1);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    do
        CHECK_EQ(waitpid(pid, &status, 0), pid);
    while (WIFSTOPPED(status));
    CHECK(WIFSIGNALED(status));
    (void)recover_worker(&books, 0);
    rp_bell_cancel(&books.pool.shared->results);
    rp_pool_resume_after_recovery(&books.pool, books.outstanding);
    settle_all();
    return going;
}

static void die_on_the_way(const char *name, void (*prepare)(void), void (*run)(struct rp_worker *))
{
    uint64_t n = seed % stride, ends = 0, lost = books.count[LOST], done = books.count[DONE];
    while (ends < 4) { /* ways differ a little in length */
        ends = die_after(n, prepare, run) ? 0 : ends + 1;
        n += stride;
        CHECK(n < MAX_STEPS);
    }
    printf("    %s: some %llu instructions; %llu tasks done, %llu lost\n", name, (unsigned long long)n,
           (unsigned long long)(books.count[DONE] - done), (unsigned long long)(books.count[LOST] - lost));
}

static void death_while_a_task_is_claimed_run_and_answered(void)
{
    die_on_the_way("a task", prepare_task, run_one_task);
    CHECK(books.count[LOST] > 0);
}

static void death_while_it_goes_to_sleep(void)
{
    uint64_t lost = books.count[LOST];
    die_on_the_way("going to sleep", prepare_nothing, lie_down);
    CHECK_EQ(books.count[LOST], lost);
}

static void death_while_it_leaves(void)
{
    uint64_t lost = books.count[LOST];
    die_on_the_way("leaving", prepare_leaving, leave);
    CHECK_EQ(books.count[LOST], lost);
}

int main(int argc, char **argv)
{
    sigset_t child;
    cpu_set_t one;
    int status;
    begin(120);
    /* SIGCHLD waits to be asked for; and with all processes on one processor a step is a switch and no more. */
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &child, NULL), 0);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    stride = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    CHECK(stride > 0);
    seed = seed_from(argc, argv, 2);
    largest_payload = 100; /* more than fits into the slot of a result, so blocks are there, and not more steps */
    open_books(&books, 2, 1, 4 * MAX_STEPS, seed);
    live = start(1, run_live);
    RUN(death_while_a_task_is_claimed_run_and_answered);
    RUN(death_while_it_goes_to_sleep);
    RUN(death_while_it_leaves);
    rp_pool_stop(&books.pool);
    CHECK_EQ(waitpid(live, &status, 0), live);
    CHECK_EQ(status, 0);
    CHECK_EQ(recover_worker(&books, 1), 0);
    close_books(&books);
    return 0;
}
