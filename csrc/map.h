/* map.h - the map of the segment: which part lies where, which process writes it, and how an offset becomes an address.
 *
 * For: the structures that all processes of a pool share, and one process's hold on them. What is done with their words stands
 * with the protocols: wake.h, results.h, memory.h, chunk.h, ending.h, recycle.h; all of it together is pool.h.
 * Guarantees: two builds that differ in a byte of the map do not attach to each other; an offset that another process names
 * becomes an address only within the arena that it may name.
 * Does not: protect from a process that writes wildly. Each reader checks what it reads.
 *
 * The map (every part starts on a page of its own):
 *
 *   part                     written by                                        size
 *   ---------------------    ----------------------------------------------    --------------------------
 *   segment header           parent, once                                      1 page
 *   struct rp_pool_shared    parent; the bells and masks: all                  1 page
 *   board                    parent fills; workers claim and release           256 KiB
 *   worker entries           worker w its own; ringers the bell; parent a line 640 bytes a worker
 *   result rings             worker w its own; parent the read_pos             128 KiB a worker
 *   return rings             parent; worker w the read_pos                     16 KiB a worker
 *   arenas 0..2n + 2         0: parent; the last: a worker in its loan;        sparse: struct rp_sizes
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
 */
#ifndef RP_MAP_H
#define RP_MAP_H

#include "arena.h"
#include "bell.h"
#include "board.h"
#include "ring.h"
#include "segment.h"
#include "spin.h"
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

/* Has its initializer run? */
static inline bool rp_has_started(uint64_t state)
{
    return state >= RP_STARTED; /* the order of the states */
}

/* Why a worker wants a successor. SOON: it leaves at its limit of tasks. READY: it leaves when its successor is ready. */
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

/* What each side has of a pool:
 *   arena         this process's own, number `own`: 0 is the parent's
 *   mask_words    of the masks in struct rp_pool_shared
 *   arenas        offset of arena 0 */
#define RP_POOL_FIELDS               \
    struct rp_segment segment;       \
    struct rp_pool_shared *shared;   \
    struct rp_board board;           \
    struct rp_worker_entry *entries; \
    struct rp_arena arena;           \
    uint32_t own;                    \
    uint32_t n_workers;              \
    uint32_t n_cpus;                 \
    uint32_t mask_words;             \
    struct rp_sizes sizes;           \
    uint64_t arenas;                 \
    struct rp_spin spin;

/* A process's hold, whichever side it is on. */
struct rp_pool {
    RP_POOL_FIELDS
};

/* The two sides are two types, so that a compiler refuses a worker that publishes a task. */
struct rp_worker {
    union {
        struct rp_pool base;
        struct {
            RP_POOL_FIELDS
        };
    };
    uint32_t index; /* its place */
    struct rp_ring results, returns;
    bool woken;        /* it is the one that `waking` names */
    bool watched;      /* the guard has been told to look, and must be told to stop */
    rp_word unwatched; /* 1: the guard has found the worker asleep and looks no more until it is poked */
    uint64_t requests; /* the number of the last one for memory */
    uint64_t purged;   /* how many purges it has seen */
};

struct rp_parent { /* shared by the threads of the parent */
    union {
        struct rp_pool base;
        struct {
            RP_POOL_FIELDS
        };
    };
    struct rp_ring *results, *returns; /* one a worker */
    rp_word kick_leader, kick_service;
    _Atomic bool backlog; /* encoded tasks wait for room on the board */
    rp_word gap_ns;       /* running mean of the time between results; relaxed: an estimate */
    uint64_t drained_ns;  /* when results were last taken */
    rp_word *served;      /* a worker: its last request for memory that the collector has seen */
    rp_word *swept;       /* a worker: its releases that the parent has seen */
    uint32_t *arena_of;   /* a worker: which one it has */
    struct rp_arena overflow;
};

/* What either side may call takes any of the three. */
#define rp_base(p)                                                       \
    _Generic((p),                                                        \
        struct rp_pool *: (struct rp_pool *)(p),                         \
        struct rp_parent *: (struct rp_pool *)(p),                       \
        struct rp_worker *: (struct rp_pool *)(p),                       \
        const struct rp_pool *: (const struct rp_pool *)(p),             \
        const struct rp_parent *: (const struct rp_pool *)(p),           \
        const struct rp_worker *: (const struct rp_pool *)(p))

/* What a pool takes besides its arenas. */
uint64_t rp_pool_fixed_bytes(uint32_t n_workers);

/* A new pool, which stays where it is. The arenas' size is an upper limit; where the system will not have so large a file
 * (RLIMIT_FSIZE), halves are tried down to 1 MiB, and pool->sizes says what it became. */
int rp_pool_create(struct rp_parent *p, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes);

/* Worker `index` takes hold of the segment behind fd (which it then owns), and maps where small payloads lie: so one that has
 * no address space left later still learns which function to call, and says what is wrong. */
int rp_pool_attach(struct rp_worker *p, int fd, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes, uint32_t index);
void rp_pool_detach(struct rp_worker *p);

/* Its end is the memory's, too, though others may hold the descriptor. */
void rp_pool_destroy(struct rp_parent *p);

/* Do the bytes [offset, offset + bytes) lie within that arena? */
bool rp_pool_within(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes);
#define rp_pool_within(p, arena, offset, bytes) rp_pool_within(rp_base(p), arena, offset, bytes)

/* They, all of them, if so; else NULL. NULL also where they have no address yet and the system gives none: see `refused` in
 * segment.h. What lies in a block that this process has allocated, or within what has been given an address, has one. */
uint8_t *rp_pool_block(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes);
#define rp_pool_block(p, arena, offset, bytes) rp_pool_block(rp_base(p), arena, offset, bytes)

/* The same, of this process's own arena or the overflow: where it may write. */
uint8_t *rp_pool_writable(const struct rp_pool *p, uint64_t offset, uint64_t bytes);
#define rp_pool_writable(p, offset, bytes) rp_pool_writable(rp_base(p), offset, bytes)

/* May the receiver hold this block, and not only copy what is in it? Those within the first bytes of an arena, half as many
 * as its owner's quota, and no others: however much is held for however long, half the quota is available when what is not
 * held has come back. */
bool rp_pool_may_hold(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes);
#define rp_pool_may_hold(p, arena, offset, bytes) rp_pool_may_hold(rp_base(p), arena, offset, bytes)

/* The worker that starts next in place w will have this arena. */
void rp_pool_give_arena(struct rp_parent *p, uint32_t w, uint32_t arena);

/* Gives the whole pages of [offset, offset + bytes), of which nothing is in use here, back to the system. */
void rp_pool_clear(struct rp_parent *p, uint64_t offset, uint64_t bytes);

/* Of the worker itself. */
static inline struct rp_worker_entry *rp_pool_me(struct rp_worker *p)
{
    return &p->entries[p->index];
}

static inline rp_word *rp_pool_mask_word(struct rp_worker *p, rp_word *mask, uint64_t *bit)
{
    *bit = 1ull << (p->index % 64);
    return &mask[p->index / 64];
}

#endif
