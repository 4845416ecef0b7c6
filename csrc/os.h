/* os.h - every system call of the core but those of tree.h. A port to another system rewrites os.c and tree.c.
 *
 * All functions return 0 or a negative errno unless said otherwise. None prints, none exits the process but the
 * guard thread and the zygote, whose purpose that is.
 */
#ifndef RP_OS_H
#define RP_OS_H

#include "base.h"

#include <poll.h>

/* A page is one of RP_PAGE bytes below, which is a whole number of the system's: rp_os_page_bytes() each. */
uint64_t rp_os_page_bytes(void);

/* An anonymous file of `bytes` zero bytes, sparse, close-on-exec, private to its user, sealed against any change of
 * size: a mapped page can never vanish, so touching it never raises SIGBUS. The name is for /proc only. */
int rp_os_memfd(const char *name, uint64_t bytes, int *fd);

/* Checks that fd carries the seals of rp_os_memfd and gives its size. -EINVAL if it does not. */
int rp_os_memfd_check(int fd, uint64_t *bytes);

/* Which file a descriptor is of, and whether it still is: its number may have been closed and used again. */
int rp_os_file(int fd, uint64_t file[2]);

/* Maps part of the file, whole pages, shared, for reading and writing, reserving no memory. The mapping is not inherited
 * by a fork: a child that should have it attaches for itself, and one that should not cannot hold its memory. */
int rp_os_map(int fd, uint64_t offset, uint64_t bytes, uint8_t **base);

/* A descriptor that programs which this process starts do not inherit. */
int rp_os_keep_private(int fd);

/* Says for part of such a mapping, whole pages, whether a fork inherits it. */
int rp_os_inherit(void *base, uint64_t bytes, int inherited);

/* Moves private memory, whole pages, to where other pages are mapped, and takes their place. */
int rp_os_move(void *from, uint64_t bytes, void *to);

/* Private zeroed memory, reserved but not committed. Its size can be changed; what is new is zero, and it may move. */
int rp_os_reserve(uint64_t bytes, void **base);
int rp_os_resize(uint64_t bytes, uint64_t to, void **base);
void rp_os_unmap(void *base, uint64_t bytes);

/* Gives the pages [offset, offset + bytes) of the file back to the system, whatever has them mapped or holds the
 * descriptor; they read as zero afterwards. */
int rp_os_punch(int fd, uint64_t offset, uint64_t bytes);

/* How large the huge pages are that the system gives to shared memory, asked or unasked; 0: it gives none. */
uint64_t rp_os_huge_page_bytes(void);

/* Asks for huge pages, or for none; has pages found at once rather than when they are touched. Nothing depends on either. */
void rp_os_ask_huge(void *base, uint64_t bytes, bool wanted);
void rp_os_populate(void *base, uint64_t bytes);

/* Sleeps while *word == expected, at most timeout_ns (negative: no limit).
 * 0: woken, or the word had changed; -EINTR: a signal came; -ETIMEDOUT. Shared between processes. */
int rp_os_futex_wait(rp_futex *word, uint32_t expected, int64_t timeout_ns);
void rp_os_futex_wake(rp_futex *word);

/* Waits until one of n descriptors is ready, at most timeout_ns (negative: no limit). How many are; 0 also after a signal.
 * late_ns: by how much it returns later than asked. A process that is stopped meanwhile, by a Ctrl-Z, returns later by the
 * time that it was: the kernel has it sleep the rest when it goes on. (Only if something is ready by then, by less.) */
int rp_os_poll(struct pollfd *p, uint32_t n, int64_t timeout_ns, uint64_t *late_ns);

/* Writes to an eventfd; does nothing for -1. */
void rp_os_notify(int eventfd);

/* Bytes of memory that this process has to itself: what is resident, less what is shared or of files. 0 if the system
 * does not say. */
uint64_t rp_os_own_memory(void);

uint64_t rp_os_now_ns(void); /* monotonic */
uint32_t rp_os_cpu(void);    /* the processor this thread runs on, or ran on a moment ago */
int rp_os_nap(uint64_t ns);  /* sleeps about this long; -EINTR if a signal ends it early */
void rp_os_yield(void);      /* lets another thread that waits for this processor run */

/* The most memory, in bytes, that this process has had in use since it became the program that it is (VmHWM of
 * proc_pid_status(5)); 0 if the system does not tell. Not ru_maxrss, which what execs inherits from its parent. */
uint64_t rp_os_peak_rss(void);

/* Waits until the child behind `pidfd` has ended, and gives the most memory, in bytes, that it or any child it waited for
 * has had in use, without taking its exit status. It counts what the parent had when the child exec'ed, if it did.
 * -ECHILD: it is no child of this process, or its status has been taken already. */
int rp_os_wait_peak_rss(int pidfd, uint64_t *bytes);

/* Starts a thread that waits for the process behind `pidfd` to end and then kills this one, whatever it is doing, with
 * its tree (tree.h); its home is the process group that it is in by now. The descriptor belongs to the thread from then
 * on. One guard a process. */
int rp_os_guard(int pidfd);

/* Gives the guard something to do besides: it calls look(arg) now, and again after as many ns as look has returned, or
 * when it is poked; only then, if that was negative. NULL takes it away: no look is under way when that returns. */
void rp_os_guard_look(int64_t (*look)(void *), void *arg);
void rp_os_guard_poke(void);

/* A thread that runs run(arg), and to which no signal is delivered; and the wait for its end. */
int rp_os_thread(void *(*run)(void *), void *arg, uintptr_t *thread);
void rp_os_thread_join(uintptr_t thread);

/* A zygote: a fork of this process that waits, in C and with all signals blocked, and makes copies of itself when it is
 * told to. The copies are children of this process, not of the zygote's: waitpid() finds them. Each returns from
 * rp_os_zygote as from a fork, and is what this process was then, whatever its threads do and lock by now.
 *
 *   this process                       the zygote                            a process that it has made
 *   rp_os_zygote() = its pid    -->    waits
 *   rp_os_zygote_make(order)    -->    copies itself                  -->    rp_os_zygote() = 0, with the order
 *                = the pid      <--    waits
 *   rp_os_zygote_dismiss()      -->    ends
 *   rp_os_zygote_end()          -->    is no more
 *
 * It ends with this process too, however that ends: `parent` is a pidfd of this process. (The end of the socket would
 * not tell: children that the user forks hold copies of it. PR_SET_PDEATHSIG would tell of the end of one thread.)
 * Where there are no pidfds, `parent` is the end of a pipe whose other end, `held`, this process alone keeps open; else
 * `held` is -1.
 * A process that is made has those signals blocked that have handlers, and no others. Its order is padded with zeros. */
#define RP_ORDER_BYTES 256u
int rp_os_zygote(int parent, int held, int *fd, void *order);

/* The pid of a new process. -EPIPE: the zygote has died; otherwise what clone() says. One call at a time; does not
 * return early for signals, since an answer that no call has taken would be the next caller's. */
int rp_os_zygote_make(int fd, const void *order, uint32_t order_bytes);
/* Tells the zygote to end, and waits for nothing. rp_os_zygote_end is still to follow. */
void rp_os_zygote_dismiss(int fd);
void rp_os_zygote_end(int fd, int pid);

#endif
