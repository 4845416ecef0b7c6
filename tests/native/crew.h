/* crew.h - a pool at work, for the tests of the whole protocol: what a worker does, and the parent's books.
 *
 * A task is its id, 1 to n. Its payload, the size of its result and the result's bytes all follow from the id, so each
 * side can check all that it gets. A fate is entered for each task, once: that is what the tests are about.
 *
 *      UNSENT --post--> QUEUED --place--> SENT --take_in--> DONE     its result was read, and was right
 *                                          |----cancel----> CANCELLED
 *                                          '----recover---> LOST     recover named it, and no result was there
 *
 * The books stand for the Python side: one lock, if several threads of the parent use them, is the interpreter's.
 */
#ifndef CREW_H
#define CREW_H

#include "check.h"
#include "pool.h"

#define ARENA_BYTES (1u << 20)
#define SIZES(bytes) ((struct rp_sizes){(bytes), (bytes), (bytes), (bytes)}) /* of arenas that may be filled */
#define MAX_CREW 3u

/* ---- what follows from an id ---- */

static inline uint64_t mix(uint64_t id, uint64_t salt)
{
    struct rng r = rng_from(id * 4 + salt);
    return rng_next(&r) >> 8;
}

/* A test may lower it: to one unit, say, when there are more blocks in an arena than a return ring holds. */
static uint64_t largest_payload = UINT64_MAX;

/* Half of them fit into a slot, most of the others into a page; one in 32 takes several. */
static inline uint64_t size_of(uint64_t id, uint64_t salt, uint64_t slot_bytes)
{
    uint64_t h = mix(id, salt), kind = h % 32, n;
    h /= 32;
    n = kind < 16 ? h % (slot_bytes + 1) : kind < 31 ? h % 3000 : h % 40000;
    return n < largest_payload ? n : largest_payload;
}

static inline uint64_t argument_bytes(uint64_t id)
{
    return size_of(id, 1, RP_SLOT_INLINE);
}

static inline uint64_t result_bytes(uint64_t id)
{
    return size_of(id, 2, RP_RESULT_INLINE);
}

static inline void fill(uint8_t *at, uint64_t n, uint64_t id, uint64_t salt)
{
    uint64_t word = mix(id, salt);
    for (; n >= 8; n -= 8, at += 8, word += 3)
        memcpy(at, &word, 8);
    memcpy(at, &word, n);
}

static inline void check_filled(const uint8_t *at, uint64_t n, uint64_t id, uint64_t salt)
{
    uint64_t word = mix(id, salt), found;
    CHECK(at != NULL);
    for (; n >= 8; n -= 8, at += 8, word += 3) {
        memcpy(&found, at, 8);
        CHECK_EQ(found, word);
    }
    CHECK(memcmp(at, &word, n) == 0);
}

/* ---- a worker that is a thread ---- */

static pthread_mutex_t mapping = PTHREAD_MUTEX_INITIALIZER;

/* Attaches like a process, then moves to the parent's mapping: ThreadSanitizer knows bytes by their address, and would
 * not see two threads meet in the same memory mapped twice. */
static inline void attach_here(struct rp_worker *p, const struct rp_parent *parent, uint32_t index)
{
    uint8_t *own, *theirs = parent->segment.base;
    int n = open_fds(), fd = dup(parent->segment.fd);
    CHECK_EQ(rp_pool_attach(p, fd, parent->n_workers, parent->n_cpus, parent->sizes, index), 0);
    CHECK_EQ(open_fds(), n + 1);
    own = p->segment.base;
    p->shared = (void *)(theirs + ((uint8_t *)p->shared - own));
    p->board.shared = (void *)(theirs + ((uint8_t *)p->board.shared - own));
    p->board.slots = (void *)(theirs + ((uint8_t *)p->board.slots - own));
    p->entries = (void *)(theirs + ((uint8_t *)p->entries - own));
    p->results.shared = (void *)(theirs + ((uint8_t *)p->results.shared - own));
    p->results.slots = theirs + (p->results.slots - own);
    p->returns.shared = (void *)(theirs + ((uint8_t *)p->returns.shared - own));
    p->returns.slots = theirs + (p->returns.slots - own);
    rp_os_unmap(own, p->segment.fixed);
    p->segment.base = theirs;
    /* With a window of each arena as a whole, no other is ever needed. */
    CHECK_EQ(pthread_mutex_lock(&mapping), 0);
    for (uint32_t arena = 0; arena < RP_ARENAS(parent->n_workers); arena++)
        CHECK(rp_pool_block(parent, arena, parent->arenas + arena * parent->sizes.arena_bytes, parent->sizes.arena_bytes));
    ((struct rp_parent *)parent)->segment.mapped = 0; /* so none is ever unmapped before the end */
    CHECK_EQ(pthread_mutex_unlock(&mapping), 0);
    rp_segment_unmap(&p->segment, 0, p->segment.bytes, 0);
    free(p->segment.windows);
    p->segment.windows = parent->segment.windows;
    p->segment.capacity = parent->segment.capacity;
    p->segment.used = parent->segment.used;
    p->segment.shifts = parent->segment.shifts;
}

static inline void detach_here(struct rp_worker *p)
{
    p->segment.base = NULL;
    p->segment.windows = NULL;
    p->segment.capacity = p->segment.used = 0;
    rp_pool_detach(p);
}

/* ---- what a worker does ---- */

struct habits { /* 0: never; n: once in n times */
    uint64_t linger; /* between claim and take, for some turns of the scheduler */
    uint64_t spin;   /* over a task */
    uint64_t nap;    /* over a task */
    uint64_t limit;  /* tasks, then it leaves; 0: none */
};

/* Copies a slot but for its word, which others go on looking at. */
static inline void copy_slot(struct rp_slot *to, const struct rp_slot *from)
{
    memcpy(&to->task_id, &from->task_id, sizeof *to - offsetof(struct rp_slot, task_id));
}

static inline struct rp_slot *claim_and_copy(struct rp_worker *p, struct rp_slot *task, uint64_t *pos)
{
    struct rp_slot *slot = rp_pool_try_claim(p, pos);
    if (slot)
        copy_slot(task, slot);
    return slot;
}

/* rp_pool_next; with `linger`, a task in `linger` stays claimed for a while. */
static inline bool next_task(struct rp_worker *p, struct rp_slot *task, uint64_t linger, struct rng *r)
{
    uint64_t pos;
    if (linger == 0)
        return rp_pool_next(p, task) == RP_RUN;
    if (!claim_and_copy(p, task, &pos))
        return false;
    if (one_in(r, linger))
        for (uint64_t i = rng_below(r, 20); i > 0; i--)
            give_way();
    rp_pool_take(p, task->task_id, pos);
    return true;
}

static inline void check_argument(const struct rp_worker *p, const struct rp_slot *task)
{
    CHECK_EQ(task->bytes, argument_bytes(task->task_id));
    CHECK((task->offset == 0) == (task->bytes <= RP_SLOT_INLINE));
    check_filled(task->offset ? rp_pool_block(p, 0, task->offset, task->bytes) : task->inline_bytes, task->bytes,
                 task->task_id, 3);
}

/* Fills a reserved slot of the result ring, all but publishing it. */
static inline void prepare_result(struct rp_worker *p, uint64_t id)
{
    struct rp_result *result;
    uint64_t n = result_bytes(id), offset = 0;
    int err;
    if (n > RP_RESULT_INLINE) {
        while ((err = rp_pool_alloc(p, n, &offset)) == -ENOMEM)
            (void)rp_pool_wait_memory(p);
        CHECK_EQ(err, 0);
        fill(rp_pool_block(p, p->index + 1, offset, n), n, id, 4);
    }
    while (!(result = rp_pool_try_result(p)))
        (void)rp_pool_wait_space(p);
    result->task_id = id;
    result->offset = offset;
    result->bytes = n;
    result->kind = (uint32_t)id;
    if (offset == 0)
        fill(result->inline_bytes, n, id, 4);
}

static inline void run_task(struct rp_worker *p, const struct rp_slot *task)
{
    check_argument(p, task);
    prepare_result(p, task->task_id);
    rp_pool_publish_result(p, true);
}

/* A worker's life. Returns true if it left by itself, false if the pool has stopped. */
static inline bool run_worker(struct rp_worker *p, struct habits habits, uint64_t seed)
{
    struct rng r = rng_from(seed);
    rp_pool_join(p);
    for (uint64_t n = 0; habits.limit == 0 || n < habits.limit;) {
        struct rp_slot task;
        if (!next_task(p, &task, habits.linger, &r)) {
            int rc = rp_pool_wait_task(p);
            CHECK(rc == 1 || rc == 0 || rc == -EINTR);
            if (rc == 0) {
                rp_pool_leave(p);
                return false;
            }
            continue;
        }
        n++;
        if (habits.spin && one_in(&r, habits.spin))
            for (uint64_t i = rng_below(&r, 1000); i > 0; i--)
                rp_pause();
        if (habits.nap && one_in(&r, habits.nap))
            rp_os_nap(rng_below(&r, 200000));
        run_task(p, &task);
    }
    rp_pool_leave(p);
    return true;
}

/* ---- the parent's books ---- */

enum fate { UNSENT = 0, QUEUED, SENT, DONE, CANCELLED, LOST, FATES };

struct task {
    enum fate fate;
    uint64_t pos, block; /* while it is SENT */
};

struct books {
    struct rp_parent pool;
    struct rng rng;
    struct task *tasks; /* by id */
    uint64_t n_tasks;
    uint64_t posted, placed; /* ids up to these have been posted, and been put on the board */
    uint64_t outstanding;    /* SENT */
    uint64_t settled;
    uint64_t count[FATES];
    bool collect;    /* the collector is to hear of every result */
    bool keep;       /* results' blocks are given back when they are wanted, or by chance */
    uint64_t *kept[MAX_CREW]; /* blocks of results, by worker */
    uint64_t n_kept[MAX_CREW];
    uint64_t refused; /* returns that found their ring full */
};

static inline void open_books(struct books *b, uint32_t n_workers, uint32_t n_cpus, uint64_t n_tasks, uint64_t seed)
{
    memset(b, 0, sizeof *b);
    CHECK(n_workers <= MAX_CREW);
    CHECK_EQ(rp_pool_create(&b->pool, n_workers, n_cpus, SIZES(ARENA_BYTES)), 0);
    CHECK_EQ(b->pool.sizes.arena_bytes, ARENA_BYTES);
    b->rng = rng_from(seed);
    b->tasks = calloc(n_tasks + 1, sizeof *b->tasks);
    CHECK(b->tasks != NULL);
    b->n_tasks = n_tasks;
    for (uint32_t w = 0; w < n_workers; w++) {
        b->kept[w] = calloc(ARENA_BYTES >> RP_UNIT_SHIFT, sizeof(uint64_t));
        CHECK(b->kept[w] != NULL);
    }
}

static inline void close_books(struct books *b)
{
    CHECK_EQ(b->outstanding, 0);
    CHECK_EQ(b->settled, b->posted);
    CHECK_EQ(b->pool.arena.used_blocks, 0);
    CHECK_EQ(rp_arena_check(&b->pool.arena), 0);
    for (uint32_t w = 0; w < b->pool.n_workers; w++)
        free(b->kept[w]);
    free(b->tasks);
    rp_pool_destroy(&b->pool);
}

/* Enters the fate of a task that was SENT. */
static inline void settle(struct books *b, uint64_t id, enum fate fate)
{
    struct task *task = &b->tasks[id];
    uint64_t bytes;
    CHECK_EQ(task->fate, SENT);
    task->fate = fate;
    if (task->block)
        CHECK_EQ(rp_arena_free(&b->pool.arena, task->block, &bytes), 0);
    b->outstanding--;
    b->settled++;
    b->count[fate]++;
}

static inline bool place(struct books *b, uint64_t id)
{
    struct rp_slot *slot = rp_board_try_reserve(&b->pool.board);
    struct task *task = &b->tasks[id];
    uint64_t n = argument_bytes(id), offset = 0;
    if (!slot) {
        rp_pool_set_backlog(&b->pool, true);
        return false;
    }
    if (n > RP_SLOT_INLINE && rp_arena_alloc(&b->pool.arena, n, &offset)) {
        CHECK(b->outstanding > 0);
        rp_pool_set_backlog(&b->pool, false); /* room on the board is not what is wanting, results are */
        rp_pool_set_collect(&b->pool, true);
        return false;
    }
    fill(offset ? rp_pool_block(&b->pool, 0, offset, n) : slot->inline_bytes, n, id, 3);
    slot->task_id = id;
    slot->offset = offset;
    slot->bytes = n;
    CHECK_EQ(task->fate, QUEUED);
    task->fate = SENT;
    task->block = offset;
    b->outstanding++;
    task->pos = rp_pool_publish(&b->pool, b->outstanding);
    return true;
}

/* Moves queued tasks up. */
static inline void pump(struct books *b)
{
    while (b->placed < b->posted) {
        if (!place(b, b->placed + 1))
            return;
        b->placed++;
    }
    rp_pool_set_backlog(&b->pool, false);
    rp_pool_set_collect(&b->pool, b->collect);
}

static inline void post(struct books *b, uint64_t n)
{
    while (n-- && b->posted < b->n_tasks)
        b->tasks[++b->posted].fate = QUEUED;
    pump(b);
}

/* Cancels a task by chance, if no worker is faster. */
static inline void cancel_one(struct books *b)
{
    uint64_t back = rng_below(&b->rng, one_in(&b->rng, 2) ? 4 : RP_BOARD_CAPACITY);
    uint64_t id = b->placed > back ? b->placed - back : b->placed;
    if (id && b->tasks[id].fate == SENT && rp_board_try_cancel(&b->pool.board, b->tasks[id].pos))
        settle(b, id, CANCELLED);
}

static inline void return_kept(struct books *b, uint32_t w)
{
    while (b->n_kept[w]) {
        if (rp_pool_return_block(&b->pool, w, b->kept[w][b->n_kept[w] - 1])) {
            b->refused++;
            return;
        }
        b->n_kept[w]--;
    }
}

static inline void serve_memory(struct books *b)
{
    uint64_t bytes;
    for (uint32_t w = 0; w < b->pool.n_workers; w++)
        if (!b->keep || rp_pool_wants_memory(&b->pool, w, &bytes))
            return_kept(b, w);
}

static inline void take_in(struct books *b, uint32_t w, const struct rp_result *r)
{
    CHECK(r->task_id >= 1 && r->task_id <= b->posted);
    CHECK_EQ(r->kind, (uint32_t)r->task_id);
    CHECK_EQ(r->bytes, result_bytes(r->task_id));
    CHECK((r->offset == 0) == (r->bytes <= RP_RESULT_INLINE));
    check_filled(r->offset ? rp_pool_block(&b->pool, w + 1, r->offset, r->bytes) : r->inline_bytes, r->bytes,
                 r->task_id, 4);
    if (r->offset) {
        CHECK(b->n_kept[w] < ARENA_BYTES >> RP_UNIT_SHIFT);
        b->kept[w][b->n_kept[w]++] = r->offset;
        if (!b->keep)
            return_kept(b, w);
    }
    settle(b, r->task_id, DONE);
}

static inline uint64_t drain_worker(struct books *b, uint32_t w)
{
    const struct rp_result *slot;
    struct rp_result result;
    uint64_t n = 0;
    while ((slot = rp_ring_try_peek(&b->pool.results[w])) != NULL) {
        memcpy((void *)&result, (const void *)slot, sizeof result);
        rp_ring_release(&b->pool.results[w]);
        take_in(b, w, &result);
        n++;
    }
    if (n)
        rp_pool_commit(&b->pool, w);
    return n;
}

static inline uint64_t drain(struct books *b)
{
    uint64_t n = 0;
    for (uint32_t w = 0; w < b->pool.n_workers; w++)
        n += drain_worker(b, w);
    if (n)
        rp_pool_note_drained(&b->pool, n);
    pump(b);
    return n;
}

/* Takes in what the dead worker w left. Returns how many tasks were lost with it; one at most, if it was honest. */
static inline uint64_t recover_worker(struct books *b, uint32_t w)
{
    uint64_t ids[2] = {0, 0}, lost = 0;
    uint32_t n;
    (void)drain_worker(b, w);
    b->n_kept[w] = 0; /* its successor starts with an empty arena */
    n = rp_pool_recover(&b->pool, w, ids);
    CHECK(n <= 2);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(ids[i] >= 1 && ids[i] <= b->posted);
        if (b->tasks[ids[i]].fate == SENT) {
            settle(b, ids[i], LOST);
            lost++;
        } else { /* named twice, or its result was read */
            CHECK(b->tasks[ids[i]].fate == DONE || (i == 1 && ids[0] == ids[1]));
        }
    }
    CHECK(lost <= 1);
    CHECK_EQ(rp_pool_worker_state(&b->pool, w), RP_ABSENT);
    CHECK_EQ(rp_pool_peak_rss(&b->pool, w), 0);
    return lost;
}

/* ---- looking at the shared words ---- */

static inline bool bit_of(rp_word *mask, uint32_t w)
{
    return rp_load_seq_cst(&mask[w / 64]) >> (w % 64) & 1;
}

static inline bool is_sleeper(const struct books *b, uint32_t w)
{
    return bit_of(b->pool.shared->sleepers, w);
}

#endif
