#include "tree.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal /* which older headers lack; Linux 5.1 */
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open /* Linux 5.3 */
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range /* Linux 5.9; before, an error */
#define SYS_close_range 436
#endif

#define STACK_BYTES (128u << 10) /* of which a sanitizer's build needs the most */
#define NAP_NS 100000            /* between two walks, if a process has yet to stop; arbitrary */
#define LOOK_BYTES 4096u

/* ThreadSanitizer's runtime takes every clone() for a fork; there the helper has a copy of the memory, but for the tree. */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define SHARES 0
#else
#define SHARES CLONE_VM
#endif

#ifndef RP_TREE_CHILDREN /* a test names a file that is not there */
#define RP_TREE_CHILDREN "children"
#endif

struct member {
    pid_t pid;
    bool left;      /* it gets no signal, but what it has started may be in the tree */
    bool link;      /* its parent is in another group: see mark_links() */
    uint64_t start; /* in ticks since boot */
};

struct tree {
    int pidfd; /* of the root */
    pid_t home, group, self;
    int signum, err;
    bool listed;     /* the kernel lists the children of a thread (CONFIG_PROC_CHILDREN) */
    uint32_t count;  /* members found so far; the first is the root */
    uint32_t kin;    /* of these, how many have not left */
    uint32_t moving; /* in this walk, threads of theirs that had not stopped, and so could fork */
    struct member members[RP_TREE_MOST];
};

struct status { /* what proc_pid_stat(5) says */
    char state;
    pid_t parent, group;
    uint64_t start;
};

/* ---- /proc, without stdio ---- */

static char *put_text(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    *at = 0;
    return at;
}

static char *put_number(char *at, pid_t n)
{
    char digits[16];
    int i = 0;
    do
        digits[i++] = (char)('0' + n % 10);
    while (n /= 10);
    while (i)
        *at++ = digits[--i];
    *at = 0;
    return at;
}

/* /proc/PID/file, or /proc/PID/task/TID/file. */
static int open_of(pid_t pid, pid_t tid, const char *file)
{
    char path[64];
    char *at = put_number(put_text(path, "/proc/"), pid);
    if (tid)
        at = put_number(put_text(at, "/task/"), tid);
    put_text(put_text(at, "/"), file);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static bool read_status(pid_t pid, pid_t tid, struct status *s)
{
    char text[512]; /* the name, which may hold any character, has at most 64; what follows are numbers */
    const char *at;
    uint64_t number = 0;
    int field = 3;
    ssize_t n;
    int fd = open_of(pid, tid, "stat");
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
    at = strrchr(text, ')');
    if (!at || at[1] != ' ' || !at[2])
        return false;
    s->state = at[2];
    for (at += 4; field < 22 && *at; at++) {
        if (*at != ' ') {
            number = *at >= '0' && *at <= '9' ? number * 10 + (uint64_t)(*at - '0') : number;
            continue;
        }
        field++;
        if (field == 4)
            s->parent = (pid_t)number;
        if (field == 5)
            s->group = (pid_t)number;
        if (field == 22)
            s->start = number;
        number = 0;
    }
    return field == 22;
}

static bool is_still(char state)
{
    return state == 'T' || state == 't' || state == 'Z' || state == 'X';
}

/* ---- a walk ---- */

static int open_pid(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static int send_to(int pidfd, int signum)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signum, NULL, 0) ? -errno : 0;
}

/* False if the member has been waited for; another process may have its number by now. */
static bool read_member(const struct member *m, struct status *s)
{
    return read_status(m->pid, 0, s) && s->start == m->start;
}

static bool is_same(const struct member *m)
{
    struct status s;
    return read_member(m, &s);
}

static int signal_member(const struct tree *t, uint32_t i, int signum)
{
    int err, fd;
    if (i == 0)
        return send_to(t->pidfd, signum);
    fd = open_pid(t->members[i].pid);
    if (fd < 0)
        return -errno;
    /* Opened before the look: if the number is the member's still, so is the descriptor. */
    err = is_same(&t->members[i]) ? send_to(fd, signum) : -ESRCH;
    close(fd);
    return err;
}

/* Whether a process is a resource tracker of multiprocessing's, or of one that is made like it (loky's). */
static bool is_tracker(pid_t pid)
{
    static const char says[] = "resource_tracker import main";
    char text[LOOK_BYTES];
    ssize_t n;
    int fd = open_of(pid, 0, "cmdline");
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text);
    close(fd);
    return n > 0 && memmem(text, (size_t)n, says, sizeof says - 1);
}

static bool has_left(const struct tree *t, pid_t pid, const struct status *s)
{
    return (s->group != t->group && s->group != t->home) || is_tracker(pid);
}

static bool is_known(const struct tree *t, pid_t pid, const struct status *s)
{
    for (uint32_t i = 0; i < t->count; i++)
        if (t->members[i].pid == pid && t->members[i].start == s->start)
            return true;
    return false;
}

/* A process that is said to be a child of a member. */
static void note(struct tree *t, uint32_t parent, pid_t pid)
{
    struct status s;
    struct member *m = &t->members[t->count];
    if (pid == t->self || t->count == RP_TREE_MOST || !read_status(pid, 0, &s) || s.parent != t->members[parent].pid)
        return;
    if (is_known(t, pid, &s))
        return;
    if (!is_same(&t->members[parent])) /* it has ended, and this is of another with its number */
        return;
    *m = (struct member){.pid = pid, .left = has_left(t, pid, &s), .start = s.start};
    t->kin += !m->left;
    t->count++;
}

/* Any process. */
static void note_if_child(struct tree *t, uint32_t unused, pid_t pid)
{
    struct status s;
    uint32_t parent = t->count;
    (void)unused;
    if (!read_status(pid, 0, &s) || is_known(t, pid, &s))
        return;
    for (uint32_t i = 0; i < t->count; i++)
        if (t->members[i].pid == s.parent)
            parent = i;
    if (parent < t->count)
        note(t, parent, pid);
}

static void note_listed(struct tree *t, uint32_t parent, pid_t tid)
{
    char text[LOOK_BYTES];
    ssize_t n;
    pid_t pid = 0;
    int fd = open_of(t->members[parent].pid, tid, RP_TREE_CHILDREN);
    if (fd < 0)
        return;
    while ((n = read(fd, text, sizeof text)) > 0) { /* a number may lie across two reads */
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
            } else if (pid) {
                note(t, parent, pid);
                pid = 0;
            }
        }
    }
    if (pid)
        note(t, parent, pid);
    close(fd);
}

/* Calls visit for each number that is the name of an entry of the directory. */
static void each_number(int dir, struct tree *t, uint32_t i, void (*visit)(struct tree *, uint32_t, pid_t))
{
    struct entry { /* linux_dirent64, of getdents(2) */
        uint64_t inode;
        int64_t next;
        uint16_t bytes;
        uint8_t type;
        char name[];
    };
    _Alignas(uint64_t) char text[LOOK_BYTES];
    long n;
    while ((n = syscall(SYS_getdents64, dir, text, sizeof text)) > 0) {
        for (long at = 0; at < n;) {
            const struct entry *e = (const void *)(text + at);
            pid_t number = 0;
            for (const char *c = e->name; *c; c++)
                number = *c < '0' || *c > '9' || number < 0 ? -1 : number * 10 + (*c - '0');
            if (number > 0)
                visit(t, i, number);
            at += e->bytes;
        }
    }
}

static void visit_thread(struct tree *t, uint32_t i, pid_t tid)
{
    struct status s;
    /* Before its children: a thread that has stopped by then has forked all that it ever will. (That all its threads
     * are at a stop must be seen: the first of them stops while another may still be within a fork.) */
    if (!t->members[i].left && read_status(t->members[i].pid, tid, &s) && !is_still(s.state))
        t->moving++;
    if (t->listed)
        note_listed(t, i, tid);
}

static void visit(struct tree *t, uint32_t i)
{
    const uint32_t moving = t->moving;
    struct member *m = &t->members[i];
    struct status s;
    int dir;
    if (!read_member(m, &s))
        return;
    /* It may come back. One that was in the tree stays in it, wherever it goes: it may have been stopped. */
    if (m->left && i > 0 && !has_left(t, m->pid, &s)) {
        m->left = false;
        t->kin++;
    }
    dir = open_of(m->pid, 0, "task");
    if (dir < 0)
        return;
    each_number(dir, t, i, visit_thread);
    close(dir);
    if (t->moving > moving && signal_member(t, i, SIGSTOP) == -EPERM) { /* another user's, by set-user-ID */
        m->left = true;
        t->kin--;
        t->moving = moving;
    }
}

/* Visits all that have been found so far, and finds more. What has been found is not looked for again: when a process
 * ends, whatever ends it, its children have another parent, and those that have been stopped would stay so for ever. */
static void walk(struct tree *t)
{
    bool more = !t->listed;
    t->moving = 0;
    while (more) { /* as a rule twice, for a child has mostly the larger number */
        const uint32_t before = t->count;
        int dir = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            break;
        each_number(dir, t, 0, note_if_child);
        close(dir);
        more = t->count != before;
    }
    for (uint32_t i = 0; i < t->count; i++)
        visit(t, i);
}

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Finds the tree and stops it. False if /proc does not tell. */
static bool stop_tree(struct tree *t)
{
    const struct timespec nap = {0, NAP_NS};
    int64_t end = now_ns() + RP_TREE_STOP_NS;
    struct status s;
    char self[16], seen[16];
    uint32_t before = 0, most = 0, moved = 0, least = 0;
    ssize_t n = readlink("/proc/self", seen, sizeof seen);
    int fd;
    put_number(self, t->self);
    if (n <= 0 || (size_t)n != strlen(self) || memcmp(self, seen, (size_t)n) != 0)
        return false; /* there is none, or it is another namespace's and would name others */
    fd = open_of(t->self, t->self, RP_TREE_CHILDREN);
    t->listed = fd >= 0;
    if (fd >= 0)
        close(fd);
    if (!read_status(t->members[0].pid, 0, &s) || send_to(t->pidfd, 0)) /* in this order: then the number is the pidfd's */
        return false;
    t->members[0].start = s.start;
    t->kin = 1;
    for (;;) {
        if (read_member(&t->members[0], &s))
            t->group = s.group; /* its own, if a task has made one */
        walk(t);
        /* Where /proc is looked through, states are seen after children: then those of the walk before are what counts. */
        if (t->moving == 0 && t->kin == before && (t->listed || moved == 0))
            return true;
        if (t->kin > most || t->moving < least) {
            most = t->kin > most ? t->kin : most;
            least = t->moving;
            end = now_ns() + RP_TREE_STOP_NS;
        } else if (now_ns() >= end) {
            return true;
        }
        if (t->moving)
            nanosleep(&nap, NULL);
        before = t->kin;
        moved = t->moving;
    }
}

/* The root as the last. */
/* A group is an orphan when no member has a parent in another group of the session. If the last such member ends while others
 * are stopped, the kernel hangs up the whole group (kill_orphaned_pgrp() in kernel/exit.c), with the program and all that it
 * runs. So these members are signalled after the others: one that has been sent a SIGKILL, or a SIGCONT, counts as stopped no
 * more. */
static void mark_links(struct tree *t)
{
    struct status own, parent;
    for (uint32_t i = 1; i < t->count; i++) {
        struct member *m = &t->members[i];
        m->link = read_status(m->pid, 0, &own) && read_status(own.parent, 0, &parent) && own.group != parent.group;
    }
}

static void signal_others(const struct tree *t, bool link, int signum)
{
    for (uint32_t i = t->count; i-- > 1;)
        if (!t->members[i].left && t->members[i].link == link)
            (void)signal_member(t, i, signum);
}

static int signal_all(const struct tree *t, int signum)
{
    /* A root in a group of its own is the parent of such members, and its end has the same effect: it is the last. So it is if
     * no helper could be made, and it does this itself; then it has not been stopped. */
    const bool last = t->group != t->home || t->members[0].pid == t->self;
    int err = 0;
    signal_others(t, false, signum);
    if (!last)
        err = send_to(t->pidfd, signum);
    signal_others(t, true, signum);
    return last ? send_to(t->pidfd, signum) : err;
}

static void signal_tree(struct tree *t)
{
    bool found = stop_tree(t);
    mark_links(t);
    t->err = signal_all(t, t->signum);
    if (found && t->signum != SIGKILL)
        (void)signal_all(t, SIGCONT);
}

static int help(void *tree)
{
    struct tree *t = tree;
    if (t->pidfd > 0)
        (void)syscall(SYS_close_range, 0, t->pidfd - 1, 0);
    (void)syscall(SYS_close_range, t->pidfd + 1, ~0u, 0);
    t->self = (pid_t)syscall(SYS_getpid);
    (void)setpgid(0, 0); /* else a SIGKILL of the caller's group, or a helper that stops the caller's tree, reaches it */
    signal_tree(t);
    _exit(0);
}

int rp_tree_signal(int pidfd, int root, int home, int signum)
{
    const size_t bytes = (sizeof(struct tree) + STACK_BYTES) & ~(size_t)(RP_PAGE - 1);
    struct tree *t = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    sigset_t all, old;
    pid_t helper;
    int err;
    if (t == MAP_FAILED)
        return send_to(pidfd, signum);
    t->pidfd = pidfd;
    t->home = home;
    t->signum = signum;
    t->members[0].pid = root;
    t->count = 1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    /* No signal for its end: the program's own waits, for any child, must not find it. It shares this thread's errno too,
     * so errno is not looked at before the helper has ended. */
    helper = clone(help, (char *)t + bytes, SHARES, t);
    if (helper < 0) { /* no process more is allowed: then by ourselves, less safely */
        t->self = getpid();
        t->members[0].left = root == t->self; /* not to be stopped, for this thread would stop too */
        signal_tree(t);
    } else {
        while (waitpid(helper, NULL, __WALL) < 0 && errno == EINTR)
            ;
    }
    err = t->err;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    munmap(t, bytes);
    return err;
}
