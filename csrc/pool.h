/* pool.h - the whole of it: the map of the segment, and what the two sides do there.
 *
 * The map (every part starts on a page of its own):
 *
 *   part                     who writes                                        size
 *   ---------------------    ----------------------------------------------    --------------------------
 *   segment header           parent, once                                      1 page
 *   struct rp_pool_shared    parent; the bells and masks: everybody            1 page
 *   board                    parent fills; workers claim and release           256 KiB
 *   worker entries           worker w its own; ringers the bell; parent a line 640 bytes a worker
 *   result rings             worker w its own; parent the read_pos             128 KiB a worker
 *   return rings             parent; worker w the read_pos                     16 KiB a worker
 *   arenas 0..2n + 2         0: parent; the last: who has a loan there;        sparse: struct rp_sizes
 *                            others: the worker that has it
 *
 * All but the arenas is mapped in each process. Of the arenas a process maps windows as it comes by blocks (segment.h):
 * rp_pool_block is the one place where an offset becomes an address. The windows of its own arena go with memory that is given
 * back (arena.h); those of others when nothing of their arena is in use here and RP_WINDOWS_KEEP bytes have been mapped
 * since that was last looked for, or when address space runs out. Then, if there is still none, it is as if the arena were
 * full: tasks wait in the parent, results in their workers; and if nothing is under way that could make room, or what
 * another process has sent cannot be mapped to be read, that one task fails with MemoryError.
 *
 * Glossary: a *task* is a call on its way; its *slot* on the *board* carries it to a worker. A *result* goes back through
 * the worker's own *ring*. A payload too large for either travels in a *block* of the sender's *arena*; the parent frees
 * its own when the task is settled, and returns a worker's through that worker's *return ring*. A *bell* wakes.
 *
 * Some blocks are not copied out of, but *held*: the receiver's objects are views of them. A worker says so in the block
 * that leads to them (struct rp_spread_buffer), counts in `releases` those that it lets go after its answer, and rings the collector.
 * What the parent holds of a worker outlives that worker: the arena stays as it is until the parent has let go of all, and
 * the worker's place goes on with another one: RP_ARENAS.
 *
 * Loans. A result that its worker's arena cannot hold goes into a block of the last arena, the *overflow*, whose allocator is
 * the parent's. The worker asks for it (`wants_memory`, `loan_bytes`), the parent lends it (`loan`, `lent`). It is one block
 * for all of the result, and a worker has one at most, which ends with its next result or request: then the block is the
 * result's, or free. It runs none of the user's code meanwhile. So nobody who has a loan waits for another, or for long, and
 * all that wait come to their turn.
 *
 * Who may sleep, where, and who wakes him (all by the announce / publish pairing of bell.h):
 *
 *   sleeper                              bell          woken by
 *   ---------------------------------    ----------    --------------------------------------------------------------
 *   worker without a task                its own       rouse(): whoever publishes a task while too few are awake
 *   worker that is parked, or retired    its own       its predecessor's leave, or the parent's word
 *   worker whose ring is full            its own       the parent's commit, which looks at waits_space
 *   worker whose arena is full           its own       the parent's return of a block, which looks at wants_memory; its
 *                                                      answer to a request
 *   the parent's thread in result()      results       any result; rp_pool_kick_leader
 *   the parent's collector thread        service       a result while `collect` is set and no leader sleeps; a ring half
 *                                                      full; a worker that sleeps or leaves with results unread; the claim
 *                                                      of refill_pos; rp_pool_kick_service
 *
 * Waking workers. `sleepers` says who sleeps; `awake` workers are the ready ones that do not. A worker holds one task at
 * a time, so if no more tasks are outstanding than workers are awake, each task has an awake worker of its own, which
 * looks at the board before it sleeps: no wake is needed, and a round trip costs no system call while its worker spins.
 * Otherwise one sleeper is woken, unless a wake is under way already (`waking`): then that worker, when it has come
 * round and cleared `waking`, looks whether more work waits and wakes the next. So a burst costs the parent one wake, and
 * only so many workers get up as there is work for.
 *
 * Ending a task that runs. The parent names the task in the worker's `interrupted` and sends a signal; the handler there
 * raises an exception if that task is still the one that runs, and says so in `raised`. Until it has, the signal is sent
 * again and again: one that comes just before a system call does not end that, and the handler waits for its return. If
 * the task goes on, its worker is killed, and that must not cost
 * the task that the worker may have begun in the meantime. So the parent condemns first, and then looks for the result;
 * the worker publishes the result, and then looks whether it is condemned (announce / publish). Either the parent finds
 * the result and pardons, or the worker sees that it is condemned and takes no other task: whatever the parent kills has
 * no task but that one.
 *
 * Chunks. A task may hold many items. The worker claims them one by one from its `range`, and the parent may take away
 * those that it has not come to, both by compare-and-swap: so an idle worker gets what lies before a busy one. From a
 * worker that has taken the task and not begun its chunk, it takes them beforehand: it leaves in the range, which is used
 * up then, where that chunk is to end, and the worker opens the chunk by a compare-and-swap, too. Results are collected in
 * a *tray*, a block of the worker's arena, and published when it is full, or after a while, or at the end. The worker
 * counts a result into its tray when it is whole; so when it dies, the parent finds what was done (the tray), the one item
 * that was being run, if any (claimed and not in the tray), and what was not begun.
 *
 * Recycling. A worker that is to leave says so (`retiring`) while it still works. Its successor is started in another
 * place, initialises itself, and is PARKED until its turn: until the first has taken its last task and hands over, or is
 * dead and the parent does. So never do more workers take tasks than the pool has, and no task waits for a start. Each
 * start has a ticket of its own, so that a late hand-over cannot be taken for another's. The first then stays, without
 * tasks, until the parent has seen its successor ready and dismisses it.
 *
 * If a worker dies: at any point, rp_pool_recover() gives its task, takes its bits out of the masks, clears `waking`
 * (it may have died as the waker or as the woken), and tolls every bell it could have been about to ring.
 */
#ifndef RP_POOL_H
#define RP_POOL_H

#include "arena.h"
#include "bell.h"
#include "board.h"
#include "ring.h"
#include "segment.h"
#include "wire.h"

#define RP_MAX_WORKERS 2048u /* places: while workers are recycled, twice as many as take tasks */
#define RP_MASK_WORDS (RP_MAX_WORKERS / 64u)

/* Slots: enough that neither side waits for the other within one slice of the scheduler at a million tasks a second and
 * few enough to stay in the second-level cache. What does not fit on the board waits in the parent's own memory. */
#define RP_BOARD_CAPACITY 1024u
#define RP_RING_CAPACITY 1024u
#define RP_RETURNS_CAPACITY 1024u

#define RP_RESULT_INLINE 88u
#define RP_NEVER UINT64_MAX

enum rp_worker_state { RP_ABSENT = 0, RP_PARKED = 1, RP_STARTED = 2, RP_RETIRED = 3 };

/* Why a worker wants a successor. SOON: it leaves after so many tasks. READY: it leaves when its successor is ready. */
enum rp_retiring { RP_STAYING = 0, RP_SOON = 1, RP_READY = 2 };

struct rp_result {
    rp_word seq;
    uint64_t task_id;
    uint64_t offset; /* the payload's block in the worker's arena; 0: it is inline */
    uint64_t bytes;  /* of the payload */
    uint32_t kind;   /* how the payload is encoded: enum rp_result_kind */
    uint32_t items;  /* of a chunk: how many results the payload holds */
    uint8_t inline_bytes[RP_RESULT_INLINE];
};
RP_ASSERT_SIZE(struct rp_result, 128);

struct rp_return {
    rp_word seq;
    uint64_t offset;
};
RP_ASSERT_SIZE(struct rp_return, 16);

struct rp_worker_entry {
    _Alignas(RP_LINE) struct rp_bell bell;

    /* Writer: the worker, at each task. */
    _Alignas(RP_LINE) rp_word current; /* id of the task it has claimed and not yet answered, or 0 */
    rp_word started_ns; /* since when it runs a task that has a time limit, else 0 */

    /* Writer: the worker, seldom. */
    _Alignas(RP_LINE) rp_word state; /* enum rp_worker_state */
    rp_word cpu;                     /* the processor it was on when it last waited, plus 1 */
    rp_word waits_space;             /* 1 while it waits for room in its result ring */
    rp_word wants_memory;            /* number of the request while it waits for a block, else 0 */
    rp_word retiring;                /* enum rp_retiring */
    rp_word raised;                  /* id of the last task in which the handler has raised the exception, or 0 */
    rp_word peak_rss;                /* writer: its guard. The most bytes of memory it has had in use, or 0: see look() */
    rp_word releases;                /* held blocks that it has let go of after the task they came with, counted */
    rp_word purged;                  /* of `purges`: how many it has seen to */
    rp_word loan_bytes;              /* with wants_memory: how large a loan is wanted; 0: a block of its own arena is */

    /* Writer: the parent, seldom. See "Ending a task that runs". */
    _Alignas(RP_LINE) rp_word interrupted; /* id of the task in which an exception is to be raised, or 0 */
    rp_word why;                           /* which exception: enum rp_why; written before `interrupted` */
    rp_word condemned;                     /* id of the task after which it takes no other, or 0 */
    rp_word successor;                     /* ticket << 16 | its place; 0: none yet */
    rp_word dismissed;                     /* 1: its successor is ready, it may go */

    /* Writer: the parent; and the worker that this one succeeds, if that is alive. Only ever set to a ticket. */
    rp_word turn; /* the worker with this ticket may take tasks */

    /* Writer: the parent, seldom. */
    rp_word arena;   /* which one it has; read once, when it attaches */
    rp_word granted; /* the last request for memory after which nothing more can be given back */
    rp_word lent;    /* the last request for a loan that has been met, */
    rp_word loan;    /* by the block at this offset; written before `lent` */

    /* Writers: the worker; of `range` also the parent, by compare-and-swap, when it takes items away. See "Chunks". */
    _Alignas(RP_LINE) rp_word range; /* count of its chunks << 32 | first item not begun, or RP_BEFOREHAND << 16 | end */
    rp_word chunk;                   /* id of the task that `range` and `tray` are about, or 0 */
    rp_word tray;                    /* offset of the block with results that have not been published, or 0 */
};
RP_ASSERT_SIZE(struct rp_worker_entry, 5 * RP_LINE);

#define RP_OVERFLOW(n_workers) (2 * (n_workers) + 2) /* after the parent's, one a worker, as many to spare and one; arbitrary */
#define RP_ARENAS(n_workers) (RP_OVERFLOW(n_workers) + 1)

#define RP_CHUNK_ITEMS 0xffffu /* the most items of a chunk */
#define RP_BEFOREHAND 0xffffu  /* in front of a smaller end: that will be the end of the worker's next chunk */

struct rp_pool_shared {
    /* Writer: the parent. */
    _Alignas(RP_LINE) rp_word stop; /* 1: nothing is outstanding and nothing will come; workers leave */
    rp_word collect;                /* 1: the collector wants to hear of every result */
    rp_word cpu;                    /* the processor the leader was on when it last waited, plus 1 */
    rp_word refill_pos;             /* once this position has been claimed, a slot given back rings the collector */
    rp_word purges;                 /* times that a shared object has been given up that workers may have */

    _Alignas(RP_LINE) struct rp_bell results; /* the leader: one thread of the parent, waiting in result() */
    _Alignas(RP_LINE) struct rp_bell service; /* the collector */

    /* A bit a worker, changed by single atomic operations. ready: set by the worker when its initializer has run,
     * cleared by it when it leaves, or by the parent. sleepers: set by the worker, cleared by it or by its waker. */
    _Alignas(RP_LINE) rp_word sleepers[RP_MASK_WORDS];
    _Alignas(RP_LINE) rp_word ready[RP_MASK_WORDS];
    _Alignas(RP_LINE) rp_word waking; /* worker + 1 while a wake is under way. Set by the waker, cleared by the woken */
};
_Static_assert(sizeof(struct rp_pool_shared) <= RP_PAGE, "the map gives it one page");

struct rp_sizes { /* of the arenas, in bytes */
    uint64_t arena_bytes;  /* of each: of the file, which costs nothing until it is used */
    uint64_t parent_quota; /* how much of its own the parent fills at a time, */
    uint64_t worker_quota; /* and each worker, */
    uint64_t overflow_quota; /* and what it lends of the overflow */
};

struct rp_spin { /* how long a wait spins before it sleeps; private */
    uint64_t budget_ns;
    uint32_t together; /* waits since it was found on one processor with the other side */
    uint32_t slept;    /* short waits that were slept through */
};

struct rp_pool { /* one process's hold */
    struct rp_segment segment;
    struct rp_pool_shared *shared;
    struct rp_board board;
    struct rp_worker_entry *entries;
    struct rp_ring *results; /* parent: one a worker; worker: its own at [index] */
    struct rp_ring *returns;
    struct rp_arena arena; /* this process's own */
    uint32_t n_workers;
    uint32_t n_cpus;
    uint32_t mask_words;
    uint32_t index; /* worker: which */
    uint32_t own;   /* which arena is this process's */
    struct rp_sizes sizes;
    uint64_t arenas; /* offset of arena 0 */
    struct rp_spin spin;

    /* worker */
    bool woken;        /* it is the one that `waking` names */
    bool watched;      /* the guard has been told to look, and must be told to stop */
    rp_word unwatched; /* 1: the guard has found the worker asleep and looks no more until it is poked */
    uint64_t requests; /* the number of the last one for memory */
    uint64_t purged;   /* how many purges it has seen */

    /* parent: process-private, shared by its threads */
    rp_word kick_leader, kick_service;
    _Atomic bool backlog; /* encoded tasks wait for room on the board */
    rp_word gap_ns;      /* running mean of the time between results; relaxed: an estimate */
    uint64_t drained_ns; /* when results were last taken */
    rp_word *served;     /* a worker: its last request for memory that the collector has seen */
    rp_word *swept;      /* a worker: its releases that the parent has seen */
    uint32_t *arena_of;  /* a worker: which one it has */
    struct rp_arena overflow;
};

/* ---- both sides ---- */

/* What a pool takes besides its arenas. */
uint64_t rp_pool_fixed_bytes(uint32_t n_workers);

/* A new pool, which stays where it is. The arenas' size is an upper limit; where the system will not have so large a file
 * (RLIMIT_FSIZE), halves are tried down to 1 MiB, and pool->sizes says what it became. */
int rp_pool_create(struct rp_pool *p, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes);

/* Worker `index` takes hold of the segment behind fd (which it then owns), and maps where small payloads lie: so one that has
 * no address space left later still learns which function to call, and says what is wrong. */
int rp_pool_attach(struct rp_pool *p, int fd, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes, uint32_t index);
void rp_pool_destroy(struct rp_pool *p);

/* Do the bytes [offset, offset + bytes) lie within that arena? */
bool rp_pool_within(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes);

/* They, all of them, if so; else NULL. NULL also where they have no address yet and the system gives none: see `refused` in
 * segment.h. What lies in a block that this process has allocated, or within what has been given an address, has one. */
uint8_t *rp_pool_block(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes);

/* The same, of this process's own arena or the overflow: where it may write. */
uint8_t *rp_pool_writable(const struct rp_pool *p, uint64_t offset, uint64_t bytes);

/* May the receiver hold this block, and not only copy what is in it? Those within the first bytes of an arena, half as many
 * as its owner's quota, and no others: however much is held for however long, half the quota is to be had when what is not
 * held has come back. */
bool rp_pool_may_hold(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes);

/* Are more processes of the pool awake than there are processors for them? Then nobody should spin for long. */
bool rp_pool_crowded(const struct rp_pool *p);

/* ---- worker ---- */

/* Parked until its turn (1), or until the pool stops (0). -EINTR. Returns at once if it has it from the start; otherwise
 * `tell` is written to, an eventfd, when it is parked. */
int rp_pool_await_turn(struct rp_pool *p, uint64_t ticket, int tell);

void rp_pool_join(struct rp_pool *p); /* ready for tasks */

/* Will leave, and says when (enum rp_retiring): asks for a successor through the eventfd. */
void rp_pool_retire(struct rp_pool *p, uint64_t when, int tell);

/* It may go, or if it said READY, should: its successor is ready. */
bool rp_pool_is_dismissed(const struct rp_pool *p);

void rp_pool_leave(struct rp_pool *p); /* takes no more tasks, and hands over */

/* After leaving: waits until it is dismissed or the pool stops. 0 or -EINTR. */
int rp_pool_await_dismissal(struct rp_pool *p, int tell);
/* Has the guard of this process (rp_os_guard) note the peak of its memory in the worker's entry, for the parent to read
 * when the worker is dead: at once, and about once a second but while the worker sleeps for want of tasks. Until
 * rp_pool_destroy. */
void rp_pool_watch(struct rp_pool *p);

/* The first task, claimed; or NULL. Its body is then copied out, and rp_pool_take called. */
struct rp_slot *rp_pool_try_claim(struct rp_pool *p, uint64_t *pos);

/* Notes the task as this worker's current one, then gives the slot back: at no instant is it nobody's. */
void rp_pool_take(struct rp_pool *p, uint64_t task_id, uint64_t pos);

/* Waits until a task may be there (1) or the pool stops (0). -EINTR. */
int rp_pool_wait_task(struct rp_pool *p);

/* The time that a task may take counts from now; and no longer. */
void rp_pool_start_clock(struct rp_pool *p);
void rp_pool_stop_clock(struct rp_pool *p);

/* Is an exception to be raised in this task? Gives which, and tells the parent that it is raised. */
bool rp_pool_take_interrupt(struct rp_pool *p, uint64_t task_id, uint64_t *why);

/* Begins a chunk of n items, at most RP_CHUNK_ITEMS; claims the next of those that the parent has left, false if none is. */
void rp_pool_begin_chunk(struct rp_pool *p, uint64_t task_id, uint32_t n);
bool rp_pool_claim_item(struct rp_pool *p, uint32_t *item);

/* Collects results in the block at `offset` from now on, 0 for none: to be called when what is in the one before has been
 * published. bytes: how many of it may be used. Then counts one in, when its bytes are there. */
struct rp_tray *rp_pool_take_tray(struct rp_pool *p, uint64_t offset, uint64_t bytes, uint32_t first);
void rp_pool_fill_tray(struct rp_tray *tray, uint64_t used);
uint64_t rp_pool_tray_used(const struct rp_tray *tray);

/* After the task's result has been published: may no other be taken? */
bool rp_pool_is_condemned(const struct rp_pool *p, uint64_t task_id);

/* A slot of the result ring, waiting for the parent to make room if need be (it may take as long as the parent likes). */
struct rp_result *rp_pool_try_result(struct rp_pool *p);
int rp_pool_wait_space(struct rp_pool *p);
void rp_pool_publish_result(struct rp_pool *p, bool last); /* last: the task is answered, not a part of it */

/* A block of this worker's arena, after taking in what came back. -ENOMEM: wait; -E2BIG: never. */
int rp_pool_alloc(struct rp_pool *p, uint64_t bytes, uint64_t *offset);

/* Takes in what came back. */
void rp_pool_take_returns(struct rp_pool *p);

/* Waits until blocks have come back (0), or the parent says that it has none to give back but those that are held, after
 * which those that did come back have been taken in (1). -EINTR. */
int rp_pool_wait_memory(struct rp_pool *p);

/* Asks for a loan; waits for it: 0 and its offset, -ENOMEM if there is none to be had, -EINTR or -EAGAIN: wait again, or
 * give the request up. */
void rp_pool_ask_loan(struct rp_pool *p, uint64_t bytes);
int rp_pool_await_loan(struct rp_pool *p, uint64_t *offset);
void rp_pool_give_up_loan(struct rp_pool *p);

/* Waits until so many bytes of a payload have been written, which the parent is at. How many there are then. */
uint64_t rp_pool_await_bytes(const rp_word *written, uint64_t bytes);

/* Have shared objects been given up since this was last asked? */
bool rp_pool_has_purged(struct rp_pool *p);

/* What it knows of them has been let go of, but for what tasks keep. */
void rp_pool_note_purged(struct rp_pool *p);

/* A block of the parent's is not held any more, whose task has been answered. */
void rp_pool_count_release(struct rp_pool *p);

/* ---- parent ---- */

/* Publishes the reserved slot, then wakes a worker if one is needed. outstanding: tasks on the board or with workers,
 * this one included, whose results have not been taken. Returns the task's position. */
uint64_t rp_pool_publish(struct rp_pool *p, uint64_t outstanding);

bool rp_pool_has_results(const struct rp_pool *p);

/* Will a worker that takes a task run beside this thread, and not instead of it? As far as one can tell. */
bool rp_pool_apart(const struct rp_pool *p);

/* Hands back the slots of worker w's ring that have been read, and wakes w if it waits for them. */
void rp_pool_commit(struct rp_pool *p, uint32_t w);

/* Keeps the mean time between results: n were taken just now. */
void rp_pool_note_drained(struct rp_pool *p, uint64_t n);

/* The leader: waits until there may be results, or it was kicked since rp_pool_begin_leading (0); -EINTR; -ETIMEDOUT.
 * A kick is how another thread of the parent says that the leader's wish has come true; the leader begins anew (which
 * forgets kicks) before it looks at what it waits for. */
int rp_pool_wait_results(struct rp_pool *p, uint64_t outstanding, int64_t timeout_ns);
void rp_pool_begin_leading(struct rp_pool *p);
void rp_pool_kick_leader(struct rp_pool *p);

/* The collector: waits until there is something for it. It begins anew before it looks through its duties. */
int rp_pool_wait_service(struct rp_pool *p);
void rp_pool_begin_service(struct rp_pool *p);
void rp_pool_kick_service(struct rp_pool *p);
void rp_pool_set_collect(struct rp_pool *p, bool on);

/* Encoded tasks wait for room (or no longer do): the workers will ring when half the board has been claimed. */
void rp_pool_set_backlog(struct rp_pool *p, bool backlog);

/* Gives a block back to worker w. -EAGAIN: its return ring is full, try again later. */
int rp_pool_return_block(struct rp_pool *p, uint32_t w, uint64_t offset);

/* Has worker w let go of blocks since this was last asked? */
bool rp_pool_has_released(struct rp_pool *p, uint32_t w);

/* The worker that starts next in place w will have this arena. */
void rp_pool_give_arena(struct rp_pool *p, uint32_t w, uint32_t arena);

/* Has all workers look which shared objects have been given up. */
void rp_pool_purge(struct rp_pool *p);

/* Has worker w yet to look? *task_id: what it may run first, or 0. */
bool rp_pool_is_to_purge(const struct rp_pool *p, uint32_t w, uint64_t *task_id);

/* Gives the whole pages of [offset, offset + bytes), of which nothing is in use here, back to the system. */
void rp_pool_clear(struct rp_pool *p, uint64_t offset, uint64_t bytes);

/* The collector: the number of worker w's request for memory, and of how large a loan, 0 if for a block of its own arena; each
 * number once, then 0. Then, when all that is not held has been given back, or there is no loan to be had: says so, unless the
 * request has been given up. */
uint64_t rp_pool_wants_memory(struct rp_pool *p, uint32_t w, uint64_t *loan_bytes);
void rp_pool_grant(struct rp_pool *p, uint32_t w, uint64_t request);

/* The number of worker w's request for a loan, and of how many bytes; 0 if it waits for none. Then: lends it, and says where;
 * or -ENOMEM (not now) or -E2BIG (never). A loan that has ended, or the result that lay there, is freed. */
uint64_t rp_pool_loan_wanted(const struct rp_pool *p, uint32_t w, uint64_t *bytes);
int rp_pool_lend(struct rp_pool *p, uint32_t w, uint64_t request, uint64_t bytes, uint64_t *offset);
void rp_pool_end_loan(struct rp_pool *p, uint64_t offset);

/* Has worker w no use for the loan that was its answer to this request? It has asked anew, or has no task in hand. */
bool rp_pool_is_past_loan(const struct rp_pool *p, uint32_t w, uint64_t request);

/* The task that worker w says it has in hand, or 0. Until its result has been taken in, with the loan if it has one, that
 * task is pending: a worker that names another has written wildly. */
uint64_t rp_pool_current(const struct rp_pool *p, uint32_t w);

void rp_pool_stop(struct rp_pool *p);

uint32_t rp_pool_worker_state(const struct rp_pool *p, uint32_t w);
bool rp_pool_is_retiring(const struct rp_pool *p, uint32_t w);

/* Does worker w, whose successor is ready, have nothing more to do? */
bool rp_pool_may_go(const struct rp_pool *p, uint32_t w);

/* The worker that starts, or has started, in place w with this ticket may take tasks. */
void rp_pool_give_turn(struct rp_pool *p, uint32_t w, uint64_t ticket);

/* The worker in place w is succeeded by the one in place `successor`, not yet started, with this ticket. */
void rp_pool_name_successor(struct rp_pool *p, uint32_t w, uint32_t successor, uint64_t ticket);

/* Lets worker w go. */
void rp_pool_dismiss(struct rp_pool *p, uint32_t w);

/* The worker that has the task, published at `pos`, in its hands; n_workers if none has: it has been answered, or it died
 * with its worker. Only for a task that has been claimed. */
uint32_t rp_pool_holder(const struct rp_pool *p, uint64_t task_id, uint64_t pos);

/* The items [*next, *end) of the chunk have not been begun. False if worker w is not at that chunk, or at its first step. */
bool rp_pool_chunk(const struct rp_pool *p, uint32_t w, uint64_t task_id, uint32_t *next, uint32_t *end);

/* Takes the items from *from on of a chunk, published at `pos` and claimed, away from its worker, as far as that has not
 * begun them: [*from, *end) are then the parent's. *end: where the caller knows the chunk to end; another one comes back
 * only if the worker has written wildly. False if there are none. */
bool rp_pool_cut_chunk(struct rp_pool *p, uint64_t task_id, uint64_t pos, uint32_t *from, uint32_t *end);

/* The chunk that worker w is at, or 0. */
uint64_t rp_pool_chunk_of(const struct rp_pool *p, uint32_t w);

/* Of a dead worker: the block with the results of that chunk that it has not published, or 0. */
uint64_t rp_pool_lost_tray(const struct rp_pool *p, uint32_t w, uint64_t task_id);

/* The task with a time limit that worker w runs, and since when; 0 if it runs none. */
uint64_t rp_pool_timed_task(const struct rp_pool *p, uint32_t w, uint64_t *started_ns);

/* Wants an exception raised in the task that worker w runs, if that has not been done. If so, the caller then sends the
 * signal. */
bool rp_pool_interrupt(struct rp_pool *p, uint32_t w, uint64_t task_id, uint64_t why);

/* Lets worker w take no other task after this one (0: any). If the result is not there when this has returned, w may be
 * killed. */
void rp_pool_condemn(struct rp_pool *p, uint32_t w, uint64_t task_id);
uint64_t rp_pool_peak_rss(const struct rp_pool *p, uint32_t w); /* as far as it has been noted; 0: not at all */

/* After the death of worker w, when its results have been read and copied: gives the ids of the tasks it may have held (it
 * held one at most; its entry and the board can each name it), and makes its place ready for a successor. What lies in its
 * arena stays: see rp_pool_give_arena and rp_pool_clear. Returns how many. */
uint32_t rp_pool_recover(struct rp_pool *p, uint32_t w, uint64_t task_ids[2]);

/* After recoveries: wakes whoever the dead should have woken. */
void rp_pool_rouse_after_death(struct rp_pool *p, uint64_t outstanding);

#endif
