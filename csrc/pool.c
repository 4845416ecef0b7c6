#include "pool.h"
#include "step.h"

#include <stdlib.h>
#include <string.h>

#define RP_HUGE (2u << 20)
#define RP_KEEP (256u << 20) /* what an arena keeps warm, at most; arbitrary */
#define RP_ARENA_MIN (1u << 20)

/* Spinning. To wake a processor that has gone idle takes 30 to 120 us, so a wait spins about as long before it sleeps: at
 * most about twice the cost of the better choice, made in hindsight. A long wait halves the next spin, down to
 * RP_SPIN_MIN; a short one restores it. What counts is how long the wait was, not whether the spin caught the event, and
 * short is anything that two wakes could have caused (RP_SPIN_WORTH): two sides that both sleep make each other wait that
 * long, and if either took it for a long wait, a round trip that can take 1 us would stay at 80 us for ever. Where a wake
 * takes longer than the spin, each side falls asleep just before the other is up, and that would go on for ever too: so
 * one in RP_SPIN_STUBBORN waits after such ones spins as long as two wakes take.
 * Where more processes are awake than there are processors, a spin takes the time from the very process it waits for, and
 * RP_SPIN_CROWDED is all it gets. The same holds where both sides are on one processor, as happens when others keep the
 * rest busy: then neither spins, but for one wait in RP_SPIN_TOGETHER, which shows the scheduler two that want to run. */
#define RP_SPIN_MAX_NS 80000u
#define RP_SPIN_MIN_NS 2000u
#define RP_SPIN_WORTH_NS 300000u
#define RP_SPIN_CROWDED_NS 4000u
#define RP_SPIN_TOGETHER 8u /* arbitrary */
#define RP_SPIN_STUBBORN 8u /* arbitrary */
#define RP_PAUSES 16u /* between two looks at the clock: a look costs about as much */

/* Napping. On a crowded machine with many results to come, being rung for each costs more than the tasks themselves.
 * So the leader sleeps by the clock, for as long as about a quarter of what is outstanding should take. */
#define RP_NAP_MIN_NS 20000u
#define RP_NAP_MAX_NS 250000u

/* How often the guard of a worker at work looks at its memory: an older note could miss more of what a dead worker had
 * taken, and a look takes some 20 us. */
#define RP_LOOK_NS 1000000000

static void learn(struct rp_spin *spin, uint64_t waited_ns)
{
    if (waited_ns <= RP_SPIN_WORTH_NS)
        spin->budget_ns =
            waited_ns > RP_SPIN_MAX_NS && ++spin->slept % RP_SPIN_STUBBORN == 0 ? RP_SPIN_WORTH_NS : RP_SPIN_MAX_NS;
    else
        spin->budget_ns = spin->budget_ns / 2 > RP_SPIN_MIN_NS ? spin->budget_ns / 2 : RP_SPIN_MIN_NS;
}

/* Notes where this side is, and says whether it may spin, given whether the other is on the same processor. */
static bool apart(struct rp_spin *spin, rp_word *mine, uint64_t cpu, bool together)
{
    if (rp_load_relaxed(mine) != cpu) /* relaxed, here and where it is read: a hint */
        rp_store_relaxed(mine, cpu);
    return !together || spin->together++ % RP_SPIN_TOGETHER == 0;
}

struct layout {
    uint64_t shared, board, entries, results, returns, arenas, bytes;
};

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) & ~(to - 1);
}

static struct layout lay_out(uint32_t n, uint64_t arena_bytes)
{
    struct layout l;
    l.shared = RP_PAGE;
    l.board = l.shared + RP_PAGE;
    l.entries = l.board + round_up(rp_board_bytes(RP_BOARD_CAPACITY), RP_PAGE);
    l.results = l.entries + round_up((uint64_t)n * sizeof(struct rp_worker_entry), RP_PAGE);
    l.returns = l.results + (uint64_t)n * round_up(rp_ring_bytes(RP_RING_CAPACITY, 7), RP_PAGE);
    l.arenas = round_up(l.returns + (uint64_t)n * round_up(rp_ring_bytes(RP_RETURNS_CAPACITY, 4), RP_PAGE), RP_HUGE);
    l.bytes = l.arenas + (uint64_t)RP_ARENAS(n) * arena_bytes;
    return l;
}

uint64_t rp_pool_fixed_bytes(uint32_t n_workers)
{
    return lay_out(n_workers, 0).arenas;
}

/* Two builds that would disagree about a byte of the map get different numbers. */
static uint64_t fingerprint(uint32_t n, struct rp_sizes sizes)
{
    const uint64_t parts[] = {n, sizes.arena_bytes, sizes.parent_quota, sizes.worker_quota, sizes.overflow_quota,
                              RP_BOARD_CAPACITY, RP_RING_CAPACITY, RP_RETURNS_CAPACITY, RP_UNIT_SHIFT,
                              sizeof(struct rp_slot), sizeof(struct rp_result), sizeof(struct rp_worker_entry),
                              sizeof(struct rp_pool_shared), RP_LINE, RP_MAX_WORKERS};
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        h = (h ^ parts[i]) * 0x100000001b3ull;
    return h;
}

static uint64_t quota_of(const struct rp_pool *p, uint32_t arena)
{
    uint64_t quota = p->sizes.worker_quota;
    if (arena == 0)
        quota = p->sizes.parent_quota;
    else if (arena == RP_OVERFLOW(p->n_workers))
        quota = p->sizes.overflow_quota;
    return quota < p->sizes.arena_bytes ? quota : p->sizes.arena_bytes;
}

static int take_arena(struct rp_pool *p, struct rp_arena *arena, uint32_t which)
{
    uint64_t at = p->arenas + which * p->sizes.arena_bytes, quota = quota_of(p, which);
    uint64_t keep = quota / 8 < RP_KEEP ? quota / 8 : RP_KEEP;
    return rp_arena_init(arena, at, p->sizes.arena_bytes, &p->segment, quota, keep);
}

static int take_hold(struct rp_pool *p)
{
    struct layout l = lay_out(p->n_workers, p->sizes.arena_bytes);
    uint8_t *base = p->segment.base;
    int err;
    p->shared = (void *)(base + l.shared);
    rp_board_init(&p->board, base + l.board, RP_BOARD_CAPACITY);
    p->entries = (void *)(base + l.entries);
    p->arenas = l.arenas;
    rp_segment_divide(&p->segment, l.arenas, p->sizes.arena_bytes);
    p->mask_words = (p->n_workers + 63) / 64;
    p->spin.budget_ns = RP_SPIN_MAX_NS;
    p->results = calloc(p->n_workers, sizeof *p->results);
    p->returns = calloc(p->n_workers, sizeof *p->returns);
    p->served = calloc(p->n_workers, sizeof *p->served);
    p->swept = calloc(p->n_workers, sizeof *p->swept);
    p->arena_of = calloc(p->n_workers, sizeof *p->arena_of);
    if (!p->results || !p->returns || !p->served || !p->swept || !p->arena_of)
        return -ENOMEM;
    for (uint32_t w = 0; w < p->n_workers; w++) {
        rp_ring_init(&p->results[w], base + l.results + w * round_up(rp_ring_bytes(RP_RING_CAPACITY, 7), RP_PAGE),
                     RP_RING_CAPACITY, 7);
        rp_ring_init(&p->returns[w], base + l.returns + w * round_up(rp_ring_bytes(RP_RETURNS_CAPACITY, 4), RP_PAGE),
                     RP_RETURNS_CAPACITY, 4);
    }
    err = take_arena(p, &p->arena, p->own);
    if (!err && p->own == 0) {
        err = take_arena(p, &p->overflow, RP_OVERFLOW(p->n_workers));
        p->overflow.lends = true;
    }
    return err;
}

static int create(struct rp_pool *p, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes)
{
    struct layout l = lay_out(n_workers, sizes.arena_bytes);
    int err;
    memset(p, 0, sizeof *p);
    p->segment.fd = -1;
    p->n_workers = n_workers;
    p->n_cpus = n_cpus;
    p->sizes = sizes;
    err = rp_segment_create(&p->segment, l.bytes, l.arenas, fingerprint(n_workers, sizes));
    if (!err)
        err = take_hold(p);
    if (err) {
        rp_pool_destroy(p);
        return err;
    }
    rp_store_relaxed(&p->shared->refill_pos, RP_NEVER);
    for (uint32_t w = 0; w < n_workers; w++)
        rp_pool_give_arena(p, w, w + 1);
    return 0;
}

int rp_pool_create(struct rp_pool *p, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes)
{
    uint64_t bytes = RP_ARENA_MIN;
    int err;
    if (n_workers == 0 || n_workers > RP_MAX_WORKERS)
        return -EINVAL;
    while (bytes * 2 <= sizes.arena_bytes && bytes >> RP_UNIT_SHIFT < RP_NIL / 2)
        bytes *= 2;
    do { /* EFBIG: RLIMIT_FSIZE counts a memfd too */
        sizes.arena_bytes = bytes;
        err = create(p, n_workers, n_cpus, sizes);
        bytes /= 2;
    } while (err == -EFBIG && bytes >= RP_ARENA_MIN);
    return err;
}

int rp_pool_attach(struct rp_pool *p, int fd, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes, uint32_t index)
{
    int err;
    memset(p, 0, sizeof *p);
    p->segment.fd = -1;
    p->n_workers = n_workers;
    p->n_cpus = n_cpus;
    p->sizes = sizes;
    p->index = index;
    p->requests = rp_os_now_ns(); /* so that no number is a predecessor's */
    if (n_workers == 0 || n_workers > RP_MAX_WORKERS || index >= n_workers) {
        p->segment.fd = fd;
        rp_pool_destroy(p);
        return -EINVAL;
    }
    err = rp_segment_attach(&p->segment, fd, lay_out(n_workers, sizes.arena_bytes).arenas, fingerprint(n_workers, sizes));
    if (!err && p->segment.bytes != lay_out(n_workers, sizes.arena_bytes).bytes)
        err = -EPROTO;
    if (!err) {
        struct layout l = lay_out(n_workers, sizes.arena_bytes);
        const struct rp_worker_entry *entries = (const void *)(p->segment.base + l.entries);
        uint64_t arena = rp_load_acquire(&entries[index].arena);
        p->own = (uint32_t)arena;
        err = arena == 0 || arena >= RP_OVERFLOW(n_workers) ? -EPROTO : take_hold(p);
    }
    if (err)
        rp_pool_destroy(p);
    else {
        (void)rp_pool_block(p, 0, p->arenas, 1);
        (void)rp_pool_block(p, p->own, p->arenas + p->own * p->sizes.arena_bytes, 1);
    }
    return err;
}

void rp_pool_destroy(struct rp_pool *p)
{
    if (p->watched)
        rp_os_guard_look(NULL, NULL);
    p->watched = false;
    rp_arena_destroy(&p->arena);
    rp_arena_destroy(&p->overflow);
    /* The owner's end is the memory's, though others may hold the descriptor: another pool's zygote, for example. */
    if (p->own == 0 && p->served && p->segment.base)
        (void)rp_segment_punch(&p->segment, 0, p->segment.bytes);
    free(p->results);
    free(p->returns);
    free(p->served);
    free(p->swept);
    free(p->arena_of);
    p->results = p->returns = NULL;
    p->served = p->swept = NULL;
    p->arena_of = NULL;
    rp_segment_destroy(&p->segment);
    p->shared = NULL;
}

bool rp_pool_within(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes)
{
    uint64_t at = offset - (p->arenas + arena * p->sizes.arena_bytes); /* wraps below the arena, and is refused with the rest */
    return arena < RP_ARENAS(p->n_workers) && at < p->sizes.arena_bytes && bytes <= p->sizes.arena_bytes - at;
}

uint8_t *rp_pool_block(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes)
{
    /* What is mapped is a cache: nothing that the caller can tell changes. */
    return rp_pool_within(p, arena, offset, bytes) ? rp_segment_at((struct rp_segment *)&p->segment, offset, bytes) : NULL;
}

uint8_t *rp_pool_writable(const struct rp_pool *p, uint64_t offset, uint64_t bytes)
{
    return rp_pool_block(p, rp_pool_within(p, p->own, offset, bytes) ? p->own : RP_OVERFLOW(p->n_workers), offset, bytes);
}

bool rp_pool_may_hold(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes)
{
    uint64_t at = offset - (p->arenas + arena * p->sizes.arena_bytes), half = quota_of(p, arena) / 2;
    return at < half && bytes <= half - at;
}

/* ---- spinning and waking ---- */

static uint32_t awake(const struct rp_pool *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->mask_words; i++)
        n += (uint32_t)__builtin_popcountll(rp_load_seq_cst(&p->shared->ready[i]) & /* see rp_pool_leave */
                                            ~rp_load_seq_cst(&p->shared->sleepers[i]));
    return n;
}

bool rp_pool_crowded(const struct rp_pool *p)
{
    return awake(p) + 1 > p->n_cpus; /* the parent is the one more */
}

static bool anybody_sleeps(const struct rp_pool *p)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < p->mask_words; i++)
        any |= rp_load_seq_cst(&p->shared->sleepers[i]); /* announce / publish */
    return any != 0;
}

/* Wakes one sleeper, unless a wake is under way: then the one being woken looks for more work when it is up. */
static void rouse_one(struct rp_pool *p)
{
    uint32_t i = 0;
    while (i < p->mask_words) {
        uint64_t none = 0, set = rp_load_seq_cst(&p->shared->sleepers[i]);
        uint32_t bit, w;
        if (set == 0) {
            i++;
            continue;
        }
        bit = (uint32_t)__builtin_ctzll(set);
        w = i * 64 + bit;
        RP_STEP("rouse: seen");
        if (w >= p->n_workers || !rp_cas_seq_cst(&p->shared->waking, &none, w + 1ull))
            return;
        RP_STEP("rouse: named");
        if (rp_and_seq_cst(&p->shared->sleepers[i], ~(1ull << bit)) & (1ull << bit)) {
            RP_STEP("rouse: taken");
            (void)rp_bell_ring(&p->entries[w].bell);
            RP_STEP("rouse: rung");
            return;
        }
        /* It got up by itself in the meantime, and looks at the board. Others may have relied on this wake, so look for
         * another sleeper, from the start. */
        RP_STEP("rouse: missed");
        rp_store_seq_cst(&p->shared->waking, 0u);
        RP_STEP("rouse: again");
        i = 0;
    }
}

static void rouse(struct rp_pool *p, uint64_t outstanding)
{
    if (anybody_sleeps(p) && outstanding > awake(p))
        rouse_one(p);
}

static void rouse_if_work_waits(struct rp_pool *p)
{
    if (anybody_sleeps(p) && rp_board_ready(&p->board))
        rouse_one(p);
}

/* The woken worker is up: it has a task, or has found none. */
static void came_round(struct rp_pool *p)
{
    if (!p->woken)
        return;
    p->woken = false;
    RP_STEP("round: up");
    rp_store_seq_cst(&p->shared->waking, 0u); /* "my wake is over", before the look at the board */
    RP_STEP("round: over");
    rouse_if_work_waits(p);
}

/* ---- worker ---- */

static struct rp_worker_entry *me(struct rp_pool *p)
{
    return &p->entries[p->index];
}

static rp_word *mask_word(struct rp_pool *p, rp_word *mask, uint64_t *bit)
{
    *bit = 1ull << (p->index % 64);
    return &mask[p->index / 64];
}

/* Results that nobody asks for must not wait for the next task: their futures hold what the user let go. */
static void tell_of_unread(struct rp_pool *p)
{
    if (rp_ring_unread(&p->results[p->index]) > 0)
        (void)rp_bell_ring(&p->shared->service); /* announce / publish: it has cleared its ready or set its sleepers bit */
}

static void note_peak(struct rp_pool *p)
{
    rp_store_relaxed(&me(p)->peak_rss, rp_os_peak_rss()); /* relaxed: the parent reads it when this process is dead */
}

/* Runs in the guard's thread. A worker that sleeps has no timer: the guard announces that it looks no more, and the
 * worker, once up, pokes it. A peak outlasts what caused it, so nothing is lost by looking late, but at a death: then
 * the note is RP_LOOK_NS old at most. */
static int64_t look(void *arg)
{
    struct rp_pool *p = arg;
    uint64_t bit;
    rp_word *sleepers = mask_word(p, p->shared->sleepers, &bit);
    note_peak(p);
    if (!(rp_load_relaxed(sleepers) & bit))
        return RP_LOOK_NS;
    rp_store_seq_cst(&p->unwatched, 1u); /* announce / publish; the worker publishes by being out of the mask */
    return rp_load_seq_cst(sleepers) & bit ? -1 : RP_LOOK_NS;
}

void rp_pool_watch(struct rp_pool *p)
{
    note_peak(p); /* not left to the thread: the first task may be the last */
    p->watched = true;
    rp_os_guard_look(look, p);
}

void rp_pool_join(struct rp_pool *p)
{
    uint64_t bit;
    rp_word *ready = mask_word(p, p->shared->ready, &bit);
    RP_STEP("join: begun");
    rp_store_release(&me(p)->state, (uint64_t)RP_STARTED);
    RP_STEP("join: started");
    rp_or_seq_cst(ready, bit);
    RP_STEP("join: ready");
}

void rp_pool_leave(struct rp_pool *p)
{
    uint64_t bit;
    rp_word *ready = mask_word(p, p->shared->ready, &bit);
    uint64_t successor;
    RP_STEP("leave: begun");
    rp_store_seq_cst(&me(p)->state, (uint64_t)RP_RETIRED); /* announce / publish: see rp_pool_name_successor */
    RP_STEP("leave: retired");
    rp_and_seq_cst(ready, ~bit); /* announce / publish: from here on, a publisher does not count on this worker ... */
    RP_STEP("leave: not ready");
    successor = rp_load_seq_cst(&me(p)->successor);
    if (successor)
        rp_pool_give_turn(p, (uint32_t)(successor & 0xffff), successor >> 16);
    RP_STEP("leave: handed over");
    came_round(p);
    rouse_if_work_waits(p); /* ... and what was published before may have */
    RP_STEP("leave: roused");
    tell_of_unread(p); /* the process may take its time to end */
    RP_STEP("leave: left");
}

/* Sleeps once, unless the word is `wanted` already or the pool has stopped. */
static int sleep_until(struct rp_pool *p, const rp_word *word, uint64_t wanted)
{
    rp_bell_announce(&me(p)->bell); /* announce / publish */
    if (rp_load_seq_cst(word) != wanted && !rp_load_seq_cst(&p->shared->stop))
        return rp_bell_sleep(&me(p)->bell, -1);
    rp_bell_cancel(&me(p)->bell);
    return 0;
}

int rp_pool_await_turn(struct rp_pool *p, uint64_t ticket, int tell)
{
    const rp_word *turn = &me(p)->turn;
    int err = 0;
    if (rp_load_acquire(turn) != ticket) {
        rp_store_release(&me(p)->state, (uint64_t)RP_PARKED);
        RP_STEP("turn: parked");
        rp_os_tell(tell);
        RP_STEP("turn: told");
    }
    while (rp_load_acquire(turn) != ticket && !rp_load_acquire(&p->shared->stop) && err != -EINTR)
        err = sleep_until(p, turn, ticket);
    return err == -EINTR ? err : rp_load_acquire(turn) == ticket;
}

void rp_pool_retire(struct rp_pool *p, uint64_t when, int tell)
{
    rp_store_release(&me(p)->retiring, when);
    RP_STEP("retire: said");
    rp_os_tell(tell);
    RP_STEP("retire: told");
}

bool rp_pool_is_dismissed(const struct rp_pool *p)
{
    return rp_load_acquire(&p->entries[p->index].dismissed);
}

int rp_pool_await_dismissal(struct rp_pool *p, int tell)
{
    int err = 0;
    rp_os_tell(tell);
    RP_STEP("leave: told");
    while (!rp_pool_is_dismissed(p) && !rp_load_acquire(&p->shared->stop) && err != -EINTR)
        err = sleep_until(p, &me(p)->dismissed, 1);
    return err == -EINTR ? err : 0;
}

struct rp_slot *rp_pool_try_claim(struct rp_pool *p, uint64_t *pos)
{
    struct rp_slot *slot = rp_board_try_claim(&p->board, p->index, pos);
    if (slot)
        came_round(p);
    return slot;
}

void rp_pool_take(struct rp_pool *p, uint64_t task_id, uint64_t pos)
{
    uint64_t refill;
    RP_STEP("take: copied");
    /* release: a parent that sees this task sees the clock of the one before stopped */
    rp_store_release(&me(p)->current, task_id);
    RP_STEP("take: noted");
    rp_board_release(&p->board, pos);
    RP_STEP("take: freed");
    refill = rp_load_seq_cst(&p->shared->refill_pos); /* announce / publish */
    if (refill != RP_NEVER && rp_board_claim_pos(&p->board) >= refill)
        (void)rp_bell_ring(&p->shared->service);
}

int rp_pool_wait_task(struct rp_pool *p)
{
    uint64_t bit, budget = p->spin.budget_ns, start = rp_os_now_ns();
    uint64_t cpu = rp_os_cpu() + 1ull;
    rp_word *sleepers = mask_word(p, p->shared->sleepers, &bit);
    bool found = false;
    int err = 0;
    if (!apart(&p->spin, &me(p)->cpu, cpu, rp_load_relaxed(&p->shared->cpu) == cpu))
        budget = 0;
    else if (budget > RP_SPIN_CROWDED_NS && rp_pool_crowded(p))
        budget = RP_SPIN_CROWDED_NS;
    do {
        for (uint32_t i = 0; i < RP_PAUSES; i++)
            rp_pause();
        found = rp_board_ready(&p->board) || rp_load_acquire(&p->shared->stop);
    } while (!found && rp_os_now_ns() - start < budget);
    if (found) {
        learn(&p->spin, 0);
        return rp_load_acquire(&p->shared->stop) ? 0 : 1;
    }

    RP_STEP("wait: spun");
    came_round(p);
    rp_bell_announce(&me(p)->bell);
    RP_STEP("wait: announced");
    rp_or_seq_cst(sleepers, bit); /* announce / publish */
    RP_STEP("wait: sleeper");
    tell_of_unread(p);
    RP_STEP("wait: told");
    if (rp_board_ready(&p->board) || rp_load_seq_cst(&p->shared->stop) || rp_load_seq_cst(&me(p)->dismissed) ||
        rp_load_seq_cst(&p->shared->purges) != p->purged)
        rp_bell_cancel(&me(p)->bell);
    else
        err = rp_bell_sleep(&me(p)->bell, -1);
    RP_STEP("wait: up");
    /* If the bit is gone already, a waker has taken it, and named this worker in `waking` before that. */
    if (!(rp_and_seq_cst(sleepers, ~bit) & bit))
        p->woken = rp_load_seq_cst(&p->shared->waking) == p->index + 1ull;
    if (rp_load_seq_cst(&p->unwatched)) { /* announce / publish: see look() */
        rp_store_relaxed(&p->unwatched, 0u);
        rp_os_guard_poke();
    }
    RP_STEP("wait: over");
    learn(&p->spin, rp_os_now_ns() - start);
    if (rp_load_acquire(&p->shared->stop))
        return 0;
    return err == -EINTR ? err : 1;
}

struct rp_result *rp_pool_try_result(struct rp_pool *p)
{
    return rp_ring_try_reserve(&p->results[p->index]);
}

int rp_pool_wait_space(struct rp_pool *p)
{
    int err = 0;
    RP_STEP("space: begun");
    rp_store_seq_cst(&me(p)->waits_space, 1u);
    RP_STEP("space: wanted");
    rp_bell_announce(&me(p)->bell); /* announce / publish; the parent publishes by committing read_pos */
    RP_STEP("space: announced");
    (void)rp_bell_ring(&p->shared->service);
    RP_STEP("space: told");
    if (rp_pool_try_result(p))
        rp_bell_cancel(&me(p)->bell);
    else
        err = rp_bell_sleep(&me(p)->bell, -1);
    RP_STEP("space: up");
    rp_store_seq_cst(&me(p)->waits_space, 0u);
    RP_STEP("space: over");
    return err;
}

void rp_pool_publish_result(struct rp_pool *p, bool last)
{
    struct rp_ring *ring = &p->results[p->index];
    RP_STEP("publish: filled");
    rp_ring_publish(ring);
    RP_STEP("publish: published");
    if (last)
        rp_store_release(&me(p)->current, 0u); /* after the publication: a task is answered or named, at every instant */
    RP_STEP("publish: cleared");
    if (rp_bell_ring(&p->shared->results))
        return;
    RP_STEP("publish: no leader");
    if (rp_load_seq_cst(&p->shared->collect) || /* announce / publish: see rp_pool_set_collect */
        (ring->write_pos % 64 == 0 && rp_ring_unread(ring) >= ring->capacity / 2))
        (void)rp_bell_ring(&p->shared->service);
}

void rp_pool_start_clock(struct rp_pool *p)
{
    rp_store_release(&me(p)->started_ns, rp_os_now_ns());
}

void rp_pool_stop_clock(struct rp_pool *p)
{
    rp_store_relaxed(&me(p)->started_ns, 0u); /* relaxed: released by what is stored to `current` next */
}

bool rp_pool_take_interrupt(struct rp_pool *p, uint64_t task_id, uint64_t *why)
{
    struct rp_worker_entry *e = me(p);
    if (rp_load_acquire(&e->interrupted) != task_id)
        return false;
    *why = rp_load_relaxed(&e->why);
    rp_store_relaxed(&e->raised, task_id); /* relaxed: seen late, it costs one more signal, which the handler ignores */
    return true;
}

void rp_pool_begin_chunk(struct rp_pool *p, uint64_t task_id, uint32_t n)
{
    struct rp_worker_entry *e = me(p);
    uint64_t word = rp_load_relaxed(&e->range), end;
    rp_store_relaxed(&e->chunk, 0u);
    RP_STEP("chunk: over");
    do {
        end = word & 0xffffu;
        if ((word >> 16 & 0xffffu) <= end || end > n) /* nothing has been taken beforehand */
            end = n;
    } while (!rp_cas_seq_cst(&e->range, &word, ((word >> 32) + 1u) << 32 | end)); /* release: who sees it sees no chunk */
    RP_STEP("chunk: opened");
    rp_store_release(&e->chunk, task_id); /* release: who sees the task sees its range */
    RP_STEP("chunk: begun");
}

bool rp_pool_claim_item(struct rp_pool *p, uint32_t *item)
{
    rp_word *range = &me(p)->range;
    uint64_t word = rp_load_relaxed(range);
    do {
        *item = word >> 16 & 0xffffu;
        if (*item >= (word & 0xffffu))
            return false;
    } while (!rp_cas_seq_cst(range, &word, word + 0x10000u));
    RP_STEP("chunk: claimed");
    return true;
}

struct rp_tray *rp_pool_take_tray(struct rp_pool *p, uint64_t offset, uint64_t bytes, uint32_t first)
{
    struct rp_tray *tray = NULL;
    if (offset) {
        tray = (struct rp_tray *)(void *)rp_pool_writable(p, offset, bytes);
        rp_store_relaxed(&tray->used, sizeof *tray);
        tray->first = first;
        tray->ns = 0;
        tray->load_ns = 0;
        tray->unused = 0;
    }
    rp_store_release(&me(p)->tray, offset);
    RP_STEP("chunk: tray");
    return tray;
}

void rp_pool_fill_tray(struct rp_tray *tray, uint64_t used)
{
    rp_store_release(&tray->used, used); /* release: the bytes are there before they count */
    RP_STEP("chunk: filled");
}

uint64_t rp_pool_tray_used(const struct rp_tray *tray)
{
    return rp_load_acquire(&tray->used);
}

bool rp_pool_is_condemned(const struct rp_pool *p, uint64_t task_id)
{
    /* announce / publish: the result has been published with seq_cst */
    return rp_load_seq_cst(&p->entries[p->index].condemned) == task_id;
}

void rp_pool_take_returns(struct rp_pool *p)
{
    struct rp_ring *ring = &p->returns[p->index];
    const struct rp_return *r;
    uint64_t bytes;
    while ((r = rp_ring_try_peek(ring)) != NULL) {
        RP_STEP("returns: seen");
        (void)rp_arena_free(&p->arena, r->offset, &bytes); /* refuses what is not a block of ours */
        RP_STEP("returns: freed");
        rp_ring_release(ring);
        RP_STEP("returns: released");
    }
    rp_ring_commit(ring);
    RP_STEP("returns: committed");
}

int rp_pool_alloc(struct rp_pool *p, uint64_t bytes, uint64_t *offset)
{
    rp_pool_take_returns(p);
    return rp_arena_alloc(&p->arena, bytes, offset);
}

int rp_pool_wait_memory(struct rp_pool *p)
{
    int err = 0;
    RP_STEP("memory: begun");
    rp_store_seq_cst(&me(p)->wants_memory, ++p->requests);
    RP_STEP("memory: wanted");
    rp_bell_announce(&me(p)->bell); /* announce / publish; the parent publishes a return */
    RP_STEP("memory: announced");
    (void)rp_bell_ring(&p->shared->service);
    RP_STEP("memory: told");
    if (rp_ring_try_peek(&p->returns[p->index]) || rp_load_seq_cst(&me(p)->granted) == p->requests)
        rp_bell_cancel(&me(p)->bell);
    else
        err = rp_bell_sleep(&me(p)->bell, -1);
    RP_STEP("memory: up");
    rp_store_seq_cst(&me(p)->wants_memory, 0u);
    RP_STEP("memory: over");
    if (rp_load_seq_cst(&me(p)->granted) != p->requests)
        return err == -EINTR ? err : 0;
    rp_pool_take_returns(p);
    return 1;
}

void rp_pool_ask_loan(struct rp_pool *p, uint64_t bytes)
{
    rp_store_relaxed(&me(p)->loan_bytes, bytes);
    RP_STEP("loan: begun");
    rp_store_seq_cst(&me(p)->wants_memory, ++p->requests); /* announce / publish; "asked" to "asks": the size is there */
    RP_STEP("loan: asked");
}

static bool loan_is_answered(struct rp_pool *p)
{
    return rp_load_seq_cst(&me(p)->lent) == p->requests || rp_load_seq_cst(&me(p)->granted) == p->requests;
}

int rp_pool_await_loan(struct rp_pool *p, uint64_t *offset)
{
    int err = 0;
    rp_bell_announce(&me(p)->bell); /* announce / publish; the parent publishes its answer */
    RP_STEP("loan: announced");
    (void)rp_bell_ring(&p->shared->service);
    RP_STEP("loan: told");
    if (loan_is_answered(p))
        rp_bell_cancel(&me(p)->bell);
    else
        err = rp_bell_sleep(&me(p)->bell, -1);
    RP_STEP("loan: up");
    if (!loan_is_answered(p))
        return err == -EINTR ? err : -EAGAIN;
    err = rp_load_acquire(&me(p)->lent) == p->requests ? 0 : -ENOMEM; /* "lent" to "had": the offset is there */
    *offset = err ? 0 : rp_load_relaxed(&me(p)->loan);
    rp_pool_give_up_loan(p); /* the request, that is */
    return err;
}

void rp_pool_give_up_loan(struct rp_pool *p)
{
    rp_store_relaxed(&me(p)->loan_bytes, 0u);
    rp_store_seq_cst(&me(p)->wants_memory, 0u);
    RP_STEP("loan: over");
}

uint64_t rp_pool_await_bytes(const rp_word *written, uint64_t bytes)
{
    uint64_t have, start = 0;
    while ((have = rp_load_acquire(written)) < bytes) { /* "written" to "read": what it counts is there */
        /* The parent copies, and so is mostly faster than any sleep. If it has lost its processor, it may want this one, which
         * this worker took when it was woken. If it is dead, the guard ends this process. */
        uint64_t now;
        for (uint32_t i = 0; i < RP_PAUSES; i++)
            rp_pause();
        now = rp_os_now_ns();
        if (start == 0)
            start = now;
        else if (now - start > RP_SPIN_MAX_NS)
            (void)rp_os_nap(RP_NAP_MIN_NS);
        else if (now - start > RP_SPIN_CROWDED_NS)
            rp_os_yield();
    }
    return have;
}

bool rp_pool_has_purged(struct rp_pool *p)
{
    uint64_t purges = rp_load_acquire(&p->shared->purges);
    bool some = purges != p->purged;
    p->purged = purges;
    return some;
}

void rp_pool_note_purged(struct rp_pool *p)
{
    rp_store_release(&me(p)->purged, p->purged); /* release: who sees it sees what has been let go of */
    rp_pool_count_release(p);                    /* also if it was nothing: somebody may wait for this */
}

void rp_pool_count_release(struct rp_pool *p)
{
    rp_word *releases = &me(p)->releases;
    rp_store_seq_cst(releases, rp_load_relaxed(releases) + 1); /* announce / publish */
    RP_STEP("release: counted");
    (void)rp_bell_ring(&p->shared->service);
    RP_STEP("release: told");
}

/* ---- parent ---- */

uint64_t rp_pool_publish(struct rp_pool *p, uint64_t outstanding)
{
    uint64_t pos = rp_board_publish(&p->board);
    rouse(p, outstanding);
    return pos;
}

bool rp_pool_has_results(const struct rp_pool *p)
{
    for (uint32_t w = 0; w < p->n_workers; w++)
        if (rp_ring_try_peek(&p->results[w]))
            return true;
    return false;
}

void rp_pool_commit(struct rp_pool *p, uint32_t w)
{
    rp_ring_commit(&p->results[w]);
    if (rp_load_seq_cst(&p->entries[w].waits_space)) /* announce / publish */
        (void)rp_bell_ring(&p->entries[w].bell);
}

void rp_pool_note_drained(struct rp_pool *p, uint64_t n)
{
    uint64_t now = rp_os_now_ns(), gap = (now - p->drained_ns) / n;
    p->drained_ns = now;
    rp_store_relaxed(&p->gap_ns, (rp_load_relaxed(&p->gap_ns) * 3 + (gap < 1000000000u ? gap : 1000000000u)) / 4);
}

/* The leader's nap: 0 if it should rather be rung. */
static uint64_t nap_ns(const struct rp_pool *p, uint64_t outstanding)
{
    uint64_t gap = rp_load_relaxed(&p->gap_ns), ns = gap * outstanding / 4;
    if (ns < RP_NAP_MIN_NS || gap > RP_NAP_MAX_NS / 2)
        return 0;
    return ns < RP_NAP_MAX_NS ? ns : RP_NAP_MAX_NS;
}

/* Is an awake worker, which the leader may be waiting for, on this processor? */
static bool worker_on(const struct rp_pool *p, uint64_t cpu)
{
    for (uint32_t i = 0; i < p->mask_words; i++) {
        uint64_t up = rp_load_relaxed(&p->shared->ready[i]) & ~rp_load_relaxed(&p->shared->sleepers[i]);
        for (; up; up &= up - 1) {
            uint32_t w = i * 64 + (uint32_t)__builtin_ctzll(up);
            if (w < p->n_workers && rp_load_relaxed(&p->entries[w].cpu) == cpu)
                return true;
        }
    }
    return false;
}

bool rp_pool_apart(const struct rp_pool *p)
{
    uint32_t up = awake(p); /* if none is, one will be */
    return (up ? up : 1) + 1 <= p->n_cpus && !worker_on(p, rp_os_cpu() + 1ull);
}

static bool leader_has_cause(const struct rp_pool *p)
{
    return rp_load_seq_cst(&p->kick_leader) || rp_pool_has_results(p);
}

int rp_pool_wait_results(struct rp_pool *p, uint64_t outstanding, int64_t timeout_ns)
{
    uint64_t start, nap, cpu = rp_os_cpu() + 1ull;
    int err = 0;
    if (leader_has_cause(p))
        return 0;
    start = rp_os_now_ns();
    if (rp_pool_crowded(p)) {
        nap = nap_ns(p, outstanding);
        if (nap && (timeout_ns < 0 || (uint64_t)timeout_ns > nap)) {
            if (rp_os_nap(nap) == -EINTR)
                return -EINTR;
            if (leader_has_cause(p))
                return 0;
        }
    } else if (apart(&p->spin, &p->shared->cpu, cpu, worker_on(p, cpu))) {
        do {
            for (uint32_t i = 0; i < RP_PAUSES; i++) {
                rp_pause();
                if (leader_has_cause(p)) {
                    learn(&p->spin, 0);
                    return 0;
                }
            }
        } while (rp_os_now_ns() - start < p->spin.budget_ns);
    }
    RP_STEP("lead: looked");
    rp_bell_announce(&p->shared->results);
    RP_STEP("lead: announced");
    if (leader_has_cause(p)) /* announce / publish */
        rp_bell_cancel(&p->shared->results);
    else
        err = rp_bell_sleep(&p->shared->results, timeout_ns);
    learn(&p->spin, rp_os_now_ns() - start);
    return err;
}

void rp_pool_begin_leading(struct rp_pool *p)
{
    rp_store_seq_cst(&p->kick_leader, 0u);
}

void rp_pool_kick_leader(struct rp_pool *p)
{
    rp_store_seq_cst(&p->kick_leader, 1u); /* announce / publish */
    (void)rp_bell_ring(&p->shared->results);
}

/* The number of a request for memory that has not been seen; or 0. */
static uint64_t asks_for_memory(const struct rp_pool *p, uint32_t w)
{
    uint64_t request = rp_load_seq_cst(&p->entries[w].wants_memory); /* announce / publish */
    return request != rp_load_relaxed(&p->served[w]) ? request : 0;
}

static bool service_has_cause(struct rp_pool *p)
{
    if (rp_load_seq_cst(&p->kick_service))
        return true;
    if (rp_load_relaxed(&p->shared->collect) && rp_pool_has_results(p))
        return true;
    if (rp_load_relaxed(&p->backlog) && rp_board_try_reserve(&p->board))
        return true;
    for (uint32_t w = 0; w < p->n_workers; w++) {
        const struct rp_ring *ring = &p->results[w];
        uint64_t half = rp_load_relaxed(&ring->read_pos) + ring->capacity / 2;
        uint64_t up = rp_load_seq_cst(&p->shared->ready[w / 64]) & ~rp_load_seq_cst(&p->shared->sleepers[w / 64]);
        if (!(up >> (w % 64) & 1) && rp_ring_try_peek(ring))
            return true;
        if (rp_load_seq_cst(rp_ring_slot(ring, half)) == half + 1 || asks_for_memory(p, w))
            return true;
        if (rp_load_seq_cst(&p->entries[w].waits_space) && rp_ring_try_peek(ring))
            return true;
        if (rp_load_seq_cst(&p->entries[w].releases) != rp_load_relaxed(&p->swept[w])) /* announce / publish */
            return true;
    }
    return false;
}

int rp_pool_wait_service(struct rp_pool *p)
{
    int err = 0;
    RP_STEP("serve: looked");
    rp_bell_announce(&p->shared->service);
    RP_STEP("serve: announced");
    if (service_has_cause(p)) /* announce / publish */
        rp_bell_cancel(&p->shared->service);
    else
        err = rp_bell_sleep(&p->shared->service, -1);
    return err;
}

void rp_pool_begin_service(struct rp_pool *p)
{
    rp_store_seq_cst(&p->kick_service, 0u);
}

void rp_pool_kick_service(struct rp_pool *p)
{
    rp_store_seq_cst(&p->kick_service, 1u); /* announce / publish */
    (void)rp_bell_ring(&p->shared->service);
}

void rp_pool_set_collect(struct rp_pool *p, bool on)
{
    if (rp_load_relaxed(&p->shared->collect) == on)
        return;
    rp_store_seq_cst(&p->shared->collect, (uint64_t)on);
    if (on) /* results published before the store rang nobody: the collector looks once by itself */
        rp_pool_kick_service(p);
}

void rp_pool_set_backlog(struct rp_pool *p, bool backlog)
{
    uint64_t pos = rp_load_relaxed(&p->board.write_pos), half = p->board.capacity / 2;
    if (!backlog && !rp_load_relaxed(&p->backlog))
        return;
    rp_store_relaxed(&p->backlog, backlog);
    rp_store_seq_cst(&p->shared->refill_pos, backlog ? (pos > half ? pos - half : 0) : RP_NEVER);
}

int rp_pool_return_block(struct rp_pool *p, uint32_t w, uint64_t offset)
{
    struct rp_return *r = rp_ring_try_reserve(&p->returns[w]);
    if (!r)
        return -EAGAIN;
    r->offset = offset;
    rp_ring_publish(&p->returns[w]);
    if (rp_load_seq_cst(&p->entries[w].wants_memory)) /* announce / publish */
        (void)rp_bell_ring(&p->entries[w].bell);
    return 0;
}

bool rp_pool_has_released(struct rp_pool *p, uint32_t w)
{
    uint64_t releases = rp_load_seq_cst(&p->entries[w].releases);
    bool some = releases != rp_load_relaxed(&p->swept[w]);
    if (some)
        rp_store_relaxed(&p->swept[w], releases);
    return some;
}

void rp_pool_give_arena(struct rp_pool *p, uint32_t w, uint32_t arena)
{
    p->arena_of[w] = arena;
    rp_store_release(&p->entries[w].arena, (uint64_t)arena);
}

void rp_pool_purge(struct rp_pool *p)
{
    rp_store_seq_cst(&p->shared->purges, rp_load_relaxed(&p->shared->purges) + 1); /* announce / publish */
    for (uint32_t w = 0; w < p->n_workers; w++)
        (void)rp_bell_ring(&p->entries[w].bell);
}

bool rp_pool_is_to_purge(const struct rp_pool *p, uint32_t w, uint64_t *task_id)
{
    *task_id = rp_load_acquire(&p->entries[w].current);
    return rp_load_acquire(&p->entries[w].purged) != rp_load_relaxed(&p->shared->purges);
}

void rp_pool_clear(struct rp_pool *p, uint64_t offset, uint64_t bytes)
{
    uint64_t from = round_up(offset, RP_PAGE), to = (offset + bytes) & ~(uint64_t)(RP_PAGE - 1);
    if (from >= to)
        return;
    (void)rp_segment_punch(&p->segment, from, to - from);
    rp_segment_unmap(&p->segment, from, to, from);
}

uint64_t rp_pool_wants_memory(struct rp_pool *p, uint32_t w, uint64_t *loan_bytes)
{
    uint64_t request = asks_for_memory(p, w);
    *loan_bytes = rp_load_relaxed(&p->entries[w].loan_bytes); /* "asked" to "asks"; or of a later request: see below */
    if (request)
        rp_store_relaxed(&p->served[w], request);
    return request;
}

void rp_pool_grant(struct rp_pool *p, uint32_t w, uint64_t request)
{
    if (rp_load_seq_cst(&p->entries[w].wants_memory) != request)
        return; /* it has been given up; a later one may have had its answer, which this must not hide */
    rp_store_relaxed(&p->served[w], request);
    rp_store_seq_cst(&p->entries[w].granted, request); /* announce / publish */
    (void)rp_bell_ring(&p->entries[w].bell);
}

uint64_t rp_pool_loan_wanted(const struct rp_pool *p, uint32_t w, uint64_t *bytes)
{
    uint64_t request = rp_load_seq_cst(&p->entries[w].wants_memory); /* "asked" to "asks" */
    *bytes = rp_load_relaxed(&p->entries[w].loan_bytes); /* of this request, or of a later one: then this one is given up */
    return *bytes ? request : 0;
}

int rp_pool_lend(struct rp_pool *p, uint32_t w, uint64_t request, uint64_t bytes, uint64_t *offset)
{
    int err = rp_arena_alloc(&p->overflow, bytes, offset);
    if (err)
        return err;
    rp_store_relaxed(&p->served[w], request); /* each is answered once: after this, its worker may write there */
    rp_store_relaxed(&p->entries[w].loan, *offset);
    rp_store_seq_cst(&p->entries[w].lent, request); /* announce / publish; "lent" to "had" */
    (void)rp_bell_ring(&p->entries[w].bell);
    return 0;
}

bool rp_pool_is_past_loan(const struct rp_pool *p, uint32_t w, uint64_t request)
{
    const struct rp_worker_entry *e = &p->entries[w];
    uint64_t now = rp_load_seq_cst(&e->wants_memory);
    bool idle = rp_load_acquire(&e->current) == 0 && rp_load_acquire(&e->state) >= RP_STARTED; /* before, its initializer may fail */
    return (now && now != request) || idle;
}

uint64_t rp_pool_current(const struct rp_pool *p, uint32_t w)
{
    return rp_load_acquire(&p->entries[w].current);
}

void rp_pool_end_loan(struct rp_pool *p, uint64_t offset)
{
    uint64_t bytes;
    (void)rp_arena_free(&p->overflow, offset, &bytes);
}

static void toll_all(struct rp_pool *p)
{
    for (uint32_t w = 0; w < p->n_workers; w++)
        rp_bell_toll(&p->entries[w].bell);
    rp_bell_toll(&p->shared->results);
    rp_bell_toll(&p->shared->service);
}

void rp_pool_stop(struct rp_pool *p)
{
    rp_store_seq_cst(&p->shared->stop, 1u);
    toll_all(p);
}

uint32_t rp_pool_worker_state(const struct rp_pool *p, uint32_t w)
{
    return (uint32_t)rp_load_acquire(&p->entries[w].state);
}

/* ---- recycling ---- */

bool rp_pool_is_retiring(const struct rp_pool *p, uint32_t w)
{
    return rp_load_acquire(&p->entries[w].retiring) != RP_STAYING;
}

bool rp_pool_may_go(const struct rp_pool *p, uint32_t w)
{
    return rp_load_acquire(&p->entries[w].state) == RP_RETIRED || rp_load_acquire(&p->entries[w].retiring) == RP_READY;
}

void rp_pool_give_turn(struct rp_pool *p, uint32_t w, uint64_t ticket)
{
    if (w >= p->n_workers)
        return;
    rp_store_seq_cst(&p->entries[w].turn, ticket); /* announce / publish */
    (void)rp_bell_ring(&p->entries[w].bell);
}

void rp_pool_name_successor(struct rp_pool *p, uint32_t w, uint32_t successor, uint64_t ticket)
{
    rp_store_seq_cst(&p->entries[w].successor, ticket << 16 | successor); /* announce / publish: if it has left before ... */
    if (rp_load_seq_cst(&p->entries[w].state) == RP_RETIRED)
        rp_pool_give_turn(p, successor, ticket); /* ... it has not handed over */
}

void rp_pool_dismiss(struct rp_pool *p, uint32_t w)
{
    if (rp_load_relaxed(&p->entries[w].dismissed))
        return;
    rp_store_seq_cst(&p->entries[w].dismissed, 1u); /* announce / publish */
    (void)rp_bell_ring(&p->entries[w].bell);
}

/* ---- ending a task that runs ---- */

uint32_t rp_pool_holder(const struct rp_pool *p, uint64_t task_id, uint64_t pos)
{
    uint32_t w = rp_board_owner(&p->board, pos);
    if (w < p->n_workers)
        return w;
    /* A worker notes the task before it frees the slot, so one that is not in the slot any more is found here. */
    for (w = 0; w < p->n_workers; w++)
        if (rp_load_acquire(&p->entries[w].current) == task_id)
            break;
    return w;
}

bool rp_pool_chunk(const struct rp_pool *p, uint32_t w, uint64_t task_id, uint32_t *next, uint32_t *end)
{
    const struct rp_worker_entry *e = &p->entries[w];
    uint64_t word;
    if (rp_load_acquire(&e->chunk) != task_id)
        return false;
    word = rp_load_acquire(&e->range);
    *next = word >> 16 & 0xffffu;
    *end = word & 0xffffu;
    return rp_load_acquire(&e->chunk) == task_id; /* it is cleared before `range` becomes the next one's */
}

bool rp_pool_cut_chunk(struct rp_pool *p, uint64_t task_id, uint64_t pos, uint32_t *from, uint32_t *end)
{
    uint32_t w = rp_pool_holder(p, task_id, pos);
    struct rp_worker_entry *e;
    uint64_t word, next, stop;
    bool begun;
    if (w == p->n_workers || *from >= *end)
        return false;
    e = &p->entries[w];
    /* The worker has the task in its hands, so `range` is used up, or of this chunk. Should it be of a later one, `chunk`
     * says so, or the task is in nobody's hands any more. */
    word = rp_load_seq_cst(&e->range);
    do {
        begun = rp_load_acquire(&e->chunk) == task_id;
        if (!begun && rp_pool_holder(p, task_id, pos) != w)
            return false;
        next = word >> 16 & 0xffffu;
        stop = word & 0xffffu;
        if (!begun && next >= stop)
            next = RP_BEFOREHAND;
        else {
            *end = (uint32_t)stop;
            if (*from < next)
                *from = (uint32_t)next;
            if (*from >= stop)
                return false;
        }
    } while (!rp_cas_seq_cst(&e->range, &word, word >> 32 << 32 | next << 16 | *from));
    return true;
}

uint64_t rp_pool_chunk_of(const struct rp_pool *p, uint32_t w)
{
    return rp_load_acquire(&p->entries[w].chunk);
}

uint64_t rp_pool_lost_tray(const struct rp_pool *p, uint32_t w, uint64_t task_id)
{
    const struct rp_worker_entry *e = &p->entries[w];
    return rp_load_acquire(&e->chunk) == task_id ? rp_load_acquire(&e->tray) : 0;
}

uint64_t rp_pool_timed_task(const struct rp_pool *p, uint32_t w, uint64_t *started_ns)
{
    const struct rp_worker_entry *e = &p->entries[w];
    uint64_t task_id = rp_load_acquire(&e->current);
    *started_ns = rp_load_acquire(&e->started_ns);
    /* The clock is stopped before `current` changes: if that is the same before and after, the time is this task's. */
    return *started_ns && rp_load_acquire(&e->current) == task_id ? task_id : 0;
}

bool rp_pool_interrupt(struct rp_pool *p, uint32_t w, uint64_t task_id, uint64_t why)
{
    struct rp_worker_entry *e = &p->entries[w];
    if (rp_load_relaxed(&e->raised) == task_id)
        return false;
    rp_store_relaxed(&e->why, why);
    rp_store_release(&e->interrupted, task_id);
    return true;
}

void rp_pool_condemn(struct rp_pool *p, uint32_t w, uint64_t task_id)
{
    rp_store_seq_cst(&p->entries[w].condemned, task_id); /* announce / publish: the caller looks for the result next */
}

uint64_t rp_pool_peak_rss(const struct rp_pool *p, uint32_t w)
{
    return rp_load_relaxed(&p->entries[w].peak_rss);
}

uint32_t rp_pool_recover(struct rp_pool *p, uint32_t w, uint64_t task_ids[2])
{
    struct rp_worker_entry *e = &p->entries[w];
    uint64_t bit = 1ull << (w % 64);
    uint32_t n = 0;
    task_ids[n] = rp_load_acquire(&e->current);
    n += task_ids[n] != 0;
    n += rp_board_recover(&p->board, w, &task_ids[n]);
    rp_and_seq_cst(&p->shared->ready[w / 64], ~bit);
    rp_and_seq_cst(&p->shared->sleepers[w / 64], ~bit);
    rp_store_relaxed(&e->current, 0u);
    rp_store_relaxed(&e->started_ns, 0u);
    rp_store_relaxed(&e->peak_rss, 0u);
    rp_store_relaxed(&e->waits_space, 0u);
    rp_store_relaxed(&e->wants_memory, 0u);
    rp_store_relaxed(&e->loan_bytes, 0u);
    rp_store_relaxed(&e->interrupted, 0u);
    rp_store_relaxed(&e->condemned, 0u);
    rp_store_relaxed(&e->retiring, 0u);
    rp_store_relaxed(&e->raised, 0u);
    rp_store_relaxed(&e->successor, 0u);
    rp_store_relaxed(&e->dismissed, 0u);
    rp_store_relaxed(&e->turn, 0u);
    rp_store_relaxed(&e->chunk, 0u);
    rp_store_relaxed(&e->range, 0u);
    rp_store_relaxed(&e->tray, 0u);
    rp_store_relaxed(&e->releases, 0u);
    rp_store_relaxed(&e->purged, 0u);
    rp_store_relaxed(&e->granted, 0u);
    rp_store_relaxed(&e->lent, 0u);
    rp_store_relaxed(&e->loan, 0u);
    rp_store_relaxed(&p->served[w], 0u);
    rp_store_relaxed(&p->swept[w], 0u);
    rp_store_release(&e->state, (uint64_t)RP_ABSENT);
    rp_bell_cancel(&e->bell);
    rp_ring_reset(&p->results[w]);
    rp_ring_reset(&p->returns[w]);
    return n;
}

void rp_pool_rouse_after_death(struct rp_pool *p, uint64_t outstanding)
{
    rp_store_seq_cst(&p->shared->waking, 0u);
    toll_all(p);
    rouse(p, outstanding);
}
