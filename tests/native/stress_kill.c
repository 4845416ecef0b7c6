/* stress_kill.c [seconds] [seed] - workers are killed at random instants, and every task ends once: with a result, by
 * being cancelled, or by being reported lost when its worker is recovered.
 *
 * These are processes, each with a mapping of its own, as in a real pool. The parent has one thread. Some workers leave
 * by themselves, some are killed before they have joined, some two at a time.
 */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"
#include "crew.h"

#define MAX_TASKS 3000000u

static struct books books;
static pid_t pids[MAX_CREW];
static uint64_t n_killed, n_left, n_settled_down;

static void hire(uint32_t w)
{
    struct habits habits = {.linger = 20, .spin = 3, .nap = 20, .limit = 0};
    uint64_t seed = rng_next(&books.rng);
    pid_t parent = getpid();
    if (one_in(&books.rng, 4))
        habits.limit = 1 + rng_below(&books.rng, 1000);
    pids[w] = fork();
    CHECK(pids[w] >= 0);
    if (pids[w] == 0) {
        struct rp_worker p;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        CHECK_EQ(rp_pool_attach(&p, dup(books.pool.segment.fd), books.pool.n_workers, books.pool.n_cpus, SIZES(ARENA_BYTES), w),
                 0);
        (void)run_worker(&p, habits, seed);
        CHECK_EQ(rp_arena_check(&p.arena), 0);
        _exit(0);
    }
}

/* Waits for the end of worker w, or looks whether it has come. True if it is over. */
static bool ended(uint32_t w, bool wait)
{
    int status;
    pid_t pid = waitpid(pids[w], &status, wait ? 0 : WNOHANG);
    if (pid == 0)
        return false;
    CHECK_EQ(pid, pids[w]);
    if (WIFEXITED(status)) {
        CHECK_EQ(WEXITSTATUS(status), 0);
        n_left++;
    } else {
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        n_killed++;
    }
    return true;
}

static void replace(uint32_t w)
{
    (void)recover_worker(&books, w);
    rp_pool_resume_after_recovery(&books.pool, books.outstanding);
    hire(w);
}

static void replace_those_that_left(void)
{
    for (uint32_t w = 0; w < books.pool.n_workers; w++)
        if (ended(w, false))
            replace(w);
}

static void kill_some(void)
{
    bool killed[MAX_CREW] = {false};
    uint32_t first = (uint32_t)rng_below(&books.rng, books.pool.n_workers);
    switch (rng_below(&books.rng, 3)) {
    case 0:
        for (uint64_t i = rng_below(&books.rng, 2000); i > 0; i--)
            rp_pause();
        break;
    case 1:
        rp_os_nap(rng_below(&books.rng, 300000));
        break;
    default:
        break;
    }
    for (uint32_t w = 0; w < books.pool.n_workers; w++)
        if (w == first || one_in(&books.rng, 8)) {
            CHECK_EQ(kill(pids[w], SIGKILL), 0); /* it is there until it has been waited for */
            killed[w] = true;
        }
    if (one_in(&books.rng, 2)) /* tasks go on being posted before the death is known */
        post(&books, 1 + rng_below(&books.rng, 10));
    for (uint32_t w = 0; w < books.pool.n_workers; w++)
        if (killed[w]) {
            (void)ended(w, true);
            replace(w);
        }
}

/* No worker is killed until every task is settled: a wake lost with one of the dead shows up here, as a hang. */
static void let_it_settle(void)
{
    uint64_t start = rp_os_now_ns();
    for (;;) {
        (void)drain(&books);
        for (uint32_t w = 0; w < books.pool.n_workers; w++)
            return_kept(&books, w);
        replace_those_that_left();
        if (books.settled == books.posted)
            break;
        (void)rp_pool_wait_results(&books.pool, books.outstanding, 50000000);
        if (rp_os_now_ns() - start > 20000000000u) {
            fprintf(stderr, "%llu tasks are neither settled nor lost; waking %llu sleepers %llx ready %llx; the first:",
                    (unsigned long long)books.outstanding, (unsigned long long)rp_load_seq_cst(&books.pool.shared->waking),
                    (unsigned long long)rp_load_seq_cst(&books.pool.shared->sleepers[0]),
                    (unsigned long long)rp_load_seq_cst(&books.pool.shared->ready[0]));
            for (uint64_t id = 1; id <= books.posted; id++)
                if (books.tasks[id].fate == SENT) {
                    fprintf(stderr, " %llu at %llu\n", (unsigned long long)id, (unsigned long long)books.tasks[id].pos);
                    break;
                }
            CHECK(!"settled within 20 s");
        }
    }
    n_settled_down++;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 2;
    uint64_t end, seed;
    begin((unsigned)seconds + 120);
    seed = seed_from(argc, argv, 2);
    open_books(&books, 2 + (uint32_t)(seed % 2), 2, MAX_TASKS, seed);
    books.keep = true;
    for (uint32_t w = 0; w < books.pool.n_workers; w++)
        hire(w);
    end = rp_os_now_ns() + (uint64_t)(seconds * 1e9);
    while (rp_os_now_ns() < end && books.posted < MAX_TASKS - 10000) {
        if (books.posted - books.settled < 2500)
            post(&books, one_in(&books.rng, 10) ? rng_below(&books.rng, 2000) : rng_below(&books.rng, 20));
        if (one_in(&books.rng, 3))
            cancel_one(&books);
        if (one_in(&books.rng, 2))
            (void)rp_pool_wait_results(&books.pool, books.outstanding, (int64_t)rng_below(&books.rng, 200000));
        (void)drain(&books);
        serve_memory(&books);
        replace_those_that_left();
        if (one_in(&books.rng, 10))
            kill_some();
        if (one_in(&books.rng, 200))
            let_it_settle();
    }
    let_it_settle();
    rp_pool_stop(&books.pool);
    for (uint32_t w = 0; w < books.pool.n_workers; w++) {
        (void)ended(w, true);
        CHECK_EQ(recover_worker(&books, w), 0);
    }
    for (uint64_t id = 1; id <= books.posted; id++)
        CHECK(books.tasks[id].fate == DONE || books.tasks[id].fate == CANCELLED || books.tasks[id].fate == LOST);
    CHECK_EQ(books.count[DONE] + books.count[CANCELLED] + books.count[LOST], books.posted);
    printf("%llu tasks: %llu done, %llu cancelled, %llu lost; %llu workers killed, %llu left; settled %llu times\n",
           (unsigned long long)books.posted, (unsigned long long)books.count[DONE],
           (unsigned long long)books.count[CANCELLED], (unsigned long long)books.count[LOST],
           (unsigned long long)n_killed, (unsigned long long)n_left, (unsigned long long)n_settled_down);
    CHECK(n_killed > 0 && books.count[DONE] > 0);
    close_books(&books);
    return 0;
}
