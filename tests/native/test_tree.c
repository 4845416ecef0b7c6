/* test_tree.c - a process is signalled with what it has started and what has not left it. */
#include "check.h"
#include "tree.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* A second copy: what it opens to find the children of a thread can be missing, and a test can act between two walks. */
static const char LISTED[] = "children", NOT_LISTED[] = "not there";
static const char *children_file = NOT_LISTED;
static void (*between_walks)(void); /* called once, in the helper, when the first walk has sent its SIGSTOPs */

static int act_and_sleep(const struct timespec *time, struct timespec *rest)
{
    void (*act)(void) = between_walks;
    between_walks = NULL;
    if (act)
        act();
    return nanosleep(time, rest);
}

int rp_tree_signal_2(int pidfd, int root, int home, int signum);
#define RP_TREE_CHILDREN children_file
#define rp_tree_signal rp_tree_signal_2
#define nanosleep act_and_sleep
#include "tree.c"
#undef nanosleep
#undef rp_tree_signal

/* Where the kernel does not list the children of a thread, all of /proc is looked through. */
static int rp_tree_signal_by_scan(int pidfd, int root, int home, int signum)
{
    children_file = NOT_LISTED;
    return rp_tree_signal_2(pidfd, root, home, signum);
}

typedef int signal_tree_fn(int, int, int, int);
static signal_tree_fn *const WAYS[] = {rp_tree_signal, rp_tree_signal_by_scan};

/* Each process of a tree holds a copy of `held`, so the other end tells when all have ended; and says "here" by a byte.
 * One that leaves the tree stays until `go` is closed. */
struct family {
    int held[2], here[2], go[2], pidfd;
    pid_t root;
};

static struct family begin_family(void)
{
    struct family f = {.pidfd = -1};
    CHECK_EQ(pipe2(f.held, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(f.here, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(f.go, O_CLOEXEC), 0);
    return f;
}

static void say_here(const struct family *f)
{
    CHECK_EQ(write(f->here[1], "x", 1), 1);
}

static _Noreturn void stay(const struct family *f)
{
    alarm(60); /* should it be left */
    say_here(f);
    for (;;)
        pause();
}

static _Noreturn void stay_outside(const struct family *f)
{
    char byte;
    close(f->held[1]);
    close(f->go[1]);
    say_here(f);
    (void)!read(f->go[0], &byte, 1);
    _exit(0);
}

static void await_here(const struct family *f, int n)
{
    char byte;
    while (n--)
        CHECK_EQ(read(f->here[0], &byte, 1), 1);
}

static void start(struct family *f, void (*life)(const struct family *))
{
    f->root = fork();
    CHECK(f->root >= 0);
    if (f->root == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        life(f);
        _exit(0);
    }
    close(f->held[1]);
    f->pidfd = (int)syscall(SYS_pidfd_open, f->root, 0);
    CHECK(f->pidfd >= 0);
}

static void await_held(struct family *f)
{
    char byte;
    CHECK_EQ(read(f->held[0], &byte, 1), 0); /* the watchdog ends it if one is left */
}

/* Returns the status of the root when it and all that hold `held` have ended. */
static int await_end(struct family *f)
{
    int status;
    CHECK_EQ(waitpid(f->root, &status, 0), f->root);
    await_held(f);
    for (int end = 0; end < 2; end++) {
        close(f->here[end]);
        close(f->go[end]);
    }
    close(f->held[0]);
    close(f->pidfd);
    return status;
}

static void have_a_child_and_a_grandchild(const struct family *f)
{
    if (fork() == 0) {
        if (fork() == 0)
            stay(f);
        stay(f);
    }
    stay(f);
}

static void all_of_a_tree_are_killed(void)
{
    for (int way = 0; way < 2; way++) {
        struct family f = begin_family();
        int status;
        start(&f, have_a_child_and_a_grandchild);
        await_here(&f, 3);
        CHECK_EQ(WAYS[way](f.pidfd, f.root, getpgrp(), SIGKILL), 0);
        status = await_end(&f);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
}

/* What has left, and a child of it that is back in the group. */
static void have_one_that_leaves(const struct family *f)
{
    const pid_t home = getpgrp();
    if (fork() == 0) {
        setpgid(0, 0);
        if (fork() == 0) {
            setpgid(0, home);
            stay(f);
        }
        stay_outside(f);
    }
}

static void have_children_that_leave(const struct family *f)
{
    have_one_that_leaves(f);
    if (fork() == 0) {
        if (fork() == 0) {
            setsid();
            stay_outside(f);
        }
        _exit(0);
    }
    stay(f);
}

static void what_has_left_the_group_stays(void)
{
    for (int way = 0; way < 2; way++) {
        struct family f = begin_family();
        char byte;
        start(&f, have_children_that_leave);
        await_here(&f, 4);
        CHECK_EQ(fcntl(f.here[0], F_SETFL, O_NONBLOCK), 0);
        close(f.here[1]);
        CHECK_EQ(WAYS[way](f.pidfd, f.root, getpgrp(), SIGKILL), 0);
        f.here[1] = -1;
        await_held(&f);
        CHECK(read(f.here[0], &byte, 1) < 0 && errno == EAGAIN); /* the processes that have left hold the other end */
        close(f.go[1]);
        f.go[1] = -1;
        while (read(f.here[0], &byte, 1) != 0) /* now they go */
            usleep(1000);
        (void)await_end(&f);
    }
}

static void lead_a_group_late(const struct family *f)
{
    if (fork() == 0)
        stay(f);
    setsid();
    if (fork() == 0)
        stay(f);
    stay(f);
}

static void a_root_in_a_group_of_its_own_has_that_and_the_one_that_it_was_born_in(void)
{
    struct family f = begin_family();
    start(&f, lead_a_group_late);
    await_here(&f, 3);
    CHECK_EQ(rp_tree_signal(f.pidfd, f.root, getpgrp(), SIGKILL), 0);
    (void)await_end(&f);
}

static void *fork_without_end(void *arg)
{
    const struct family *f = arg;
    for (int i = 0; i < 100; i++) {
        if (fork() == 0) {
            alarm(60);
            if (i % 2)
                (void)!fork();
            for (;;)
                pause();
        }
        if (i == 20)
            say_here(f);
    }
    return NULL;
}

static void fork_in_threads(const struct family *f)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fork_without_end, (void *)(uintptr_t)f), 0);
    fork_without_end((void *)(uintptr_t)f);
    stay(f);
}

static void fork_in_a_child(const struct family *f)
{
    if (fork() == 0)
        fork_in_threads(f);
    stay(f);
}

static void what_forks_while_it_is_killed_leaves_nothing(void)
{
    for (int i = 0; i < 8; i++) {
        struct family f = begin_family();
        start(&f, i % 2 ? fork_in_a_child : fork_in_threads);
        await_here(&f, 2);
        CHECK_EQ(WAYS[i / 2 % 2](f.pidfd, f.root, getpgrp(), SIGKILL), 0);
        (void)await_end(&f);
    }
}

static void kill_itself(const struct family *f)
{
    if (fork() == 0)
        fork_in_threads(f);
    await_here(f, 2);
    rp_tree_signal((int)syscall(SYS_pidfd_open, getpid(), 0), getpid(), getpgrp(), SIGKILL);
}

static void a_process_can_have_its_own_tree_killed(void)
{
    struct family f = begin_family();
    int status;
    start(&f, kill_itself);
    status = await_end(&f);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void kill_itself_without_a_helper(const struct family *f)
{
    if (getuid() == 0)
        CHECK_EQ(setuid(65534), 0);
    if (fork() == 0)
        have_a_child_and_a_grandchild(f);
    await_here(f, 3);
    CHECK_EQ(setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 0}), 0);
    CHECK(fork() < 0);
    rp_tree_signal((int)syscall(SYS_pidfd_open, getpid(), 0), getpid(), getpgrp(), SIGKILL);
}

static void no_process_more_is_needed(void)
{
    struct family f = begin_family();
    start(&f, kill_itself_without_a_helper);
    (void)await_end(&f);
}

static void no_descriptor_more_is_needed(void)
{
    struct family f = begin_family();
    struct rlimit old, none;
    start(&f, have_a_child_and_a_grandchild);
    await_here(&f, 3);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){(rlim_t)f.pidfd + 1, old.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK(dup(0) < 0);
    CHECK_EQ(rp_tree_signal(f.pidfd, f.root, getpgrp(), SIGKILL), 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    (void)await_end(&f);
}

static void exit_7(int signum)
{
    (void)signum;
    _exit(7);
}

static void clean_up_at_sigterm(const struct family *f)
{
    signal(SIGTERM, exit_7);
    have_a_child_and_a_grandchild(f);
}

static void a_signal_that_can_be_handled_is(void)
{
    struct family f = begin_family();
    int status;
    start(&f, clean_up_at_sigterm);
    await_here(&f, 3);
    CHECK_EQ(rp_tree_signal(f.pidfd, f.root, getpgrp(), SIGTERM), 0);
    status = await_end(&f);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void a_stopped_tree_is_killed(void)
{
    struct family f = begin_family();
    start(&f, have_a_child_and_a_grandchild);
    await_here(&f, 3);
    CHECK_EQ(kill(f.root, SIGSTOP), 0);
    CHECK_EQ(rp_tree_signal(f.pidfd, f.root, getpgrp(), SIGKILL), 0);
    (void)await_end(&f);
}

/* ---- what happens between two walks ---- */

static volatile pid_t *pids; /* shared by all processes of a test: the helper has no descriptors */

#define TURNS 60000 /* of a millisecond or more: the watchdog does not end a helper */

static void await_state(pid_t pid, const char *states)
{
    struct status s;
    for (int i = 0; i < TURNS && read_status(pid, 0, &s) && !strchr(states, s.state); i++)
        usleep(1000);
}

static void await_group(pid_t pid, pid_t group)
{
    struct status s;
    for (int i = 0; i < TURNS && read_status(pid, 0, &s) && s.group != group; i++)
        usleep(1000);
}

static void have_descendants_whose_pids_are_known(const struct family *f)
{
    if (fork() == 0) {
        pids[0] = getpid();
        if (fork() == 0) {
            pids[1] = getpid();
            stay(f);
        }
        stay(f);
    }
    stay(f);
}

static void end_the_child_when_the_grandchild_has_stopped(void)
{
    await_state(pids[1], "T");
    kill(pids[0], SIGKILL);
    await_state(pids[0], "ZX");
}

static void have_the_child_outside_move_its_own(void)
{
    await_state(pids[1], "T");
    kill(pids[0], SIGUSR1);
    await_group(pids[1], pids[1]);
}

static void move_the_child(int signum)
{
    (void)signum;
    (void)setpgid(pids[1], pids[1]);
}

static void have_a_child_outside_that_moves_its_own(const struct family *f)
{
    const pid_t home = getpgrp();
    if (fork() == 0) {
        pids[0] = getpid();
        setpgid(0, 0);
        if (fork() == 0) {
            pids[1] = getpid();
            setpgid(0, home);
            stay(f);
        }
        signal(SIGUSR1, move_the_child);
        stay_outside(f);
    }
    stay(f);
}

static void signal_while(const struct family *f, void (*act)(void), const char *children)
{
    children_file = children;
    between_walks = act;
    CHECK_EQ(rp_tree_signal_2(f->pidfd, f->root, getpgrp(), SIGKILL), 0);
    between_walks = NULL; /* the helper has done so unless it had a copy */
}

static void a_stopped_process_whose_parent_ends_is_killed(void)
{
    for (int way = 0; way < 2; way++) {
        struct family f = begin_family();
        start(&f, have_descendants_whose_pids_are_known);
        await_here(&f, 3);
        signal_while(&f, end_the_child_when_the_grandchild_has_stopped, way ? NOT_LISTED : LISTED);
        (void)await_end(&f);
    }
}

static void end_the_root_when_the_grandchild_has_stopped(void)
{
    await_state(pids[1], "T");
    kill(pids[2], SIGKILL);
    await_state(pids[2], "ZX");
}

static void a_stopped_tree_whose_root_ends_is_killed(void)
{
    for (int way = 0; way < 2; way++) {
        struct family f = begin_family();
        start(&f, have_descendants_whose_pids_are_known);
        await_here(&f, 3);
        pids[2] = f.root;
        signal_while(&f, end_the_root_when_the_grandchild_has_stopped, way ? NOT_LISTED : LISTED);
        (void)await_end(&f);
    }
}

static void a_process_that_changes_its_group_when_it_has_been_stopped_is_killed(void)
{
    for (int way = 0; way < 2; way++) {
        struct family f = begin_family();
        start(&f, have_a_child_outside_that_moves_its_own);
        await_here(&f, 3);
        signal_while(&f, have_the_child_outside_move_its_own, way ? NOT_LISTED : LISTED);
        await_held(&f);
        close(f.go[1]);
        f.go[1] = -1;
        (void)await_end(&f);
    }
}

static void kill_the_group_of_the_caller(void)
{
    kill(-pids[0], SIGKILL);
}

static void kill_a_tree_in_another_group(const struct family *f)
{
    struct family other = *f;
    setpgid(0, 0);
    pids[0] = getpid();
    other.root = fork();
    if (other.root == 0)
        lead_a_group_late(f);
    other.pidfd = (int)syscall(SYS_pidfd_open, other.root, 0);
    await_here(f, 3);
    signal_while(&other, kill_the_group_of_the_caller, LISTED);
}

static void a_caller_that_is_killed_with_its_group_leaves_nothing_stopped(void)
{
    struct family f = begin_family();
    start(&f, kill_a_tree_in_another_group);
    (void)await_end(&f);
}

static void note_hangup(int signum)
{
    (void)signum;
    pids[3] = 1;
}

static void have_one_that_comes_back(const struct family *f)
{
    have_one_that_leaves(f);
    stay(f);
}

static void leave_the_children_behind(const struct family *f)
{
    if (fork() == 0)
        stay(f);
    setpgid(0, 0);
    if (fork() == 0)
        stay(f);
    stay(f);
}

static void (*of_the_root)(const struct family *);

/* A session of its own, whose group is no orphan only as long as one member has a parent outside. */
static void kill_a_tree_that_links_the_group(const struct family *f)
{
    struct family other = *f;
    CHECK(setsid() > 0);
    signal(SIGHUP, note_hangup);
    other.root = fork();
    if (other.root == 0) {
        signal(SIGHUP, SIG_DFL);
        for (int i = 0; i < 30; i++)
            if (fork() == 0)
                stay(f);
        of_the_root(f);
    }
    other.pidfd = (int)syscall(SYS_pidfd_open, other.root, 0);
    await_here(f, 33);
    CHECK_EQ(rp_tree_signal(other.pidfd, other.root, getpgrp(), SIGKILL), 0);
    CHECK_EQ(waitpid(other.root, NULL, 0), other.root);
}

static void the_group_of_the_program_is_not_hung_up(void)
{
    void (*const kinds[])(const struct family *) = {have_one_that_comes_back, leave_the_children_behind};
    for (int kind = 0; kind < 2; kind++) {
        struct family f = begin_family();
        int status;
        pids[3] = 0;
        of_the_root = kinds[kind];
        start(&f, kill_a_tree_that_links_the_group);
        CHECK_EQ(waitpid(f.root, &status, 0), f.root);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK_EQ(pids[3], 0);
        close(f.go[1]); /* the one that has left goes */
    }
}

#ifndef __SANITIZE_THREAD__
static void wait_within_vfork(const struct family *f)
{
    if (vfork() == 0) {
        (void)!write(f->here[1], "x", 1);
        for (;;)
            pause();
    }
}

static void a_parent_that_waits_within_vfork_is_killed(void)
{
    struct family f = begin_family();
    start(&f, wait_within_vfork);
    await_here(&f, 1);
    CHECK_EQ(rp_tree_signal(f.pidfd, f.root, getpgrp(), SIGKILL), 0);
    (void)await_end(&f);
}

#endif

/* In a folder without a /proc. Only root may go there. */
static void kill_a_child_without_proc(const struct family *f)
{
    char folder[] = "/tmp/test_tree.XXXXXX";
    pid_t child;
    int pidfd, status;
    CHECK(mkdtemp(folder) != NULL);
    CHECK_EQ(chdir(folder), 0);
    CHECK_EQ(rmdir(folder), 0);
    if (chroot("."))
        _exit(errno == EPERM ? 0 : 1);
    child = fork();
    if (child == 0)
        stay(f);
    await_here(f, 1);
    pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    CHECK_EQ(rp_tree_signal(pidfd, child, getpgrp(), SIGKILL), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void without_proc_the_process_alone_is_killed(void)
{
    struct family f = begin_family();
    int status;
    start(&f, kill_a_child_without_proc);
    status = await_end(&f);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_process_that_has_been_waited_for_gets_no_signal(void)
{
    pid_t child = fork();
    int pidfd;
    CHECK(child >= 0);
    if (child == 0)
        _exit(0);
    pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(rp_tree_signal(pidfd, child, getpgrp(), SIGKILL), -ESRCH);
    CHECK_EQ(rp_tree_signal(pidfd, getpid(), getpgrp(), SIGKILL), -ESRCH); /* whatever has its number by now */
    close(pidfd);
}

int main(void)
{
    begin(120);
    pids = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(pids != MAP_FAILED);
    RUN(all_of_a_tree_are_killed);
    RUN(what_has_left_the_group_stays);
    RUN(a_root_in_a_group_of_its_own_has_that_and_the_one_that_it_was_born_in);
    RUN(what_forks_while_it_is_killed_leaves_nothing);
    RUN(a_process_can_have_its_own_tree_killed);
    RUN(no_process_more_is_needed);
    RUN(no_descriptor_more_is_needed);
    RUN(a_signal_that_can_be_handled_is);
    RUN(a_stopped_tree_is_killed);
    RUN(a_stopped_process_whose_parent_ends_is_killed);
    RUN(a_stopped_tree_whose_root_ends_is_killed);
    RUN(a_process_that_changes_its_group_when_it_has_been_stopped_is_killed);
    RUN_UNLESS_EMULATED(a_caller_that_is_killed_with_its_group_leaves_nothing_stopped);
    RUN(the_group_of_the_program_is_not_hung_up);
#ifndef __SANITIZE_THREAD__ /* which makes it a fork() */
    RUN_UNLESS_EMULATED(a_parent_that_waits_within_vfork_is_killed);
#endif
    RUN(without_proc_the_process_alone_is_killed);
    RUN(a_process_that_has_been_waited_for_gets_no_signal);
    return 0;
}
