#include "wake.h"
#include "step.h"

#include <string.h>

/* How often the guard of a worker at work looks at its memory: an older note could miss more of what a dead worker had
 * taken, and a look takes some 20 us. */
#define RP_LOOK_NS 1000000000

static uint32_t awake(const struct rp_pool *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->mask_words; i++)
        n += (uint32_t)__builtin_popcountll(rp_load_seq_cst(&p->shared->ready[i]) & /* see rp_pool_leave */
                                            ~rp_load_seq_cst(&p->shared->sleepers[i]));
    return n;
}

bool (rp_pool_crowded)(const struct rp_pool *p)
{
    return awake(p) + 1 > p->n_cpus; /* the parent is the one more */
}

bool rp_wake_worker_on(const struct rp_parent *p, uint64_t cpu)
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

bool rp_pool_apart(const struct rp_parent *p)
{
    uint32_t up = awake(&p->base); /* if none is, one will be */
    return (up ? up : 1) + 1 <= p->n_cpus && !rp_wake_worker_on(p, rp_os_cpu() + 1ull);
}

static bool any_worker_sleeps(const struct rp_pool *p)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < p->mask_words; i++)
        any |= rp_load_seq_cst(&p->shared->sleepers[i]); /* announce / publish */
    return any != 0;
}

/* Wakes one sleeper, unless a wake is under way: then the one being woken looks for more work when it is up. */
static void wake_sleeper(struct rp_pool *p)
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
        RP_STEP("wake: seen");
        if (w >= p->n_workers || !rp_cas_seq_cst(&p->shared->waking, &none, w + 1ull))
            return;
        RP_STEP("wake: named");
        if (rp_and_seq_cst(&p->shared->sleepers[i], ~(1ull << bit)) & (1ull << bit)) {
            RP_STEP("wake: taken");
            (void)rp_bell_ring(&p->entries[w].bell);
            RP_STEP("wake: rung");
            return;
        }
        /* It got up by itself in the meantime, and looks at the board. Others may have relied on this wake, so look for
         * another sleeper, from the start. */
        RP_STEP("wake: missed");
        rp_store_seq_cst(&p->shared->waking, 0u);
        RP_STEP("wake: again");
        i = 0;
    }
}

static inline void wake_one(struct rp_pool *p, uint64_t outstanding)
{
    if (any_worker_sleeps(p) && outstanding > awake(p))
        wake_sleeper(p);
}

void rp_wake_one(struct rp_pool *p, uint64_t outstanding)
{
    wake_one(p, outstanding);
}

void rp_wake_one_if_work_waits(struct rp_pool *p)
{
    if (any_worker_sleeps(p) && rp_board_ready(&p->board))
        wake_sleeper(p);
}

void rp_wake_came_round(struct rp_worker *p)
{
    if (!p->woken)
        return;
    p->woken = false;
    RP_STEP("round: up");
    rp_store_seq_cst(&p->shared->waking, 0u); /* "my wake is over", before the look at the board */
    RP_STEP("round: over");
    rp_wake_one_if_work_waits(&p->base);
}

uint64_t rp_pool_publish(struct rp_parent *p, uint64_t outstanding)
{
    uint64_t pos = rp_board_publish(&p->board);
    wake_one(&p->base, outstanding);
    return pos;
}

inline struct rp_slot *rp_pool_try_claim(struct rp_worker *p, uint64_t *pos)
{
    struct rp_slot *slot = rp_board_try_claim(&p->board, p->index, pos);
    if (slot)
        rp_wake_came_round(p);
    return slot;
}

inline void rp_pool_take(struct rp_worker *p, uint64_t task_id, uint64_t pos)
{
    uint64_t refill;
    RP_STEP("take: copied");
    /* release: a parent that sees this task sees the clock of the one before stopped */
    rp_store_release(&rp_pool_me(p)->current, task_id);
    RP_STEP("take: noted");
    rp_board_release(&p->board, pos);
    RP_STEP("take: freed");
    refill = rp_load_seq_cst(&p->shared->refill_pos); /* announce / publish */
    if (refill != RP_NEVER && rp_board_claim_pos(&p->board) >= refill)
        (void)rp_bell_ring(&p->shared->service);
}

enum rp_next rp_pool_next(struct rp_worker *p, struct rp_slot *task)
{
    const size_t body = offsetof(struct rp_slot, task_id); /* others go on looking at the word before it */
    uint64_t pos, purges = rp_load_acquire(&p->shared->purges);
    struct rp_slot *slot;
    if (purges != p->purged) {
        p->purged = purges;
        return RP_PURGE;
    }
    slot = rp_pool_try_claim(p, &pos);
    if (!slot)
        return RP_WAIT;
    RP_STEP("take: begun");
    memcpy((uint8_t *)task + body, (const uint8_t *)slot + body, sizeof *task - body);
    rp_pool_take(p, task->task_id, pos);
    return RP_RUN;
}

uint64_t rp_pool_current(const struct rp_parent *p, uint32_t w)
{
    return rp_load_acquire(&p->entries[w].current);
}

uint32_t rp_pool_holder(const struct rp_parent *p, uint64_t task_id, uint64_t pos)
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

void rp_pool_set_backlog(struct rp_parent *p, bool backlog)
{
    uint64_t pos = rp_load_relaxed(&p->board.write_pos), half = p->board.capacity / 2;
    if (!backlog && !rp_load_relaxed(&p->backlog))
        return;
    rp_store_relaxed(&p->backlog, backlog);
    rp_store_seq_cst(&p->shared->refill_pos, backlog ? (pos > half ? pos - half : 0) : RP_NEVER);
}

void rp_wake_tell_of_unread(struct rp_worker *p)
{
    if (rp_ring_unread(&p->results) > 0)
        (void)rp_bell_ring(&p->shared->service); /* announce / publish: it has cleared its ready or set its sleepers bit */
}

static void note_peak(struct rp_worker *p)
{
    rp_store_relaxed(&rp_pool_me(p)->peak_rss, rp_os_peak_rss()); /* relaxed: the parent reads it when this process is dead */
}

/* Runs in the guard's thread. A worker that sleeps has no timer: the guard announces that it looks no more, and the
 * worker, once up, pokes it. A peak outlasts what caused it, so nothing is lost by looking late, but at a death: then
 * the note is RP_LOOK_NS old at most. */
static int64_t look(void *arg)
{
    struct rp_worker *p = arg;
    uint64_t bit;
    rp_word *sleepers = rp_pool_mask_word(p, p->shared->sleepers, &bit);
    note_peak(p);
    if (!(rp_load_relaxed(sleepers) & bit))
        return RP_LOOK_NS;
    rp_store_seq_cst(&p->unwatched, 1u); /* announce / publish; the worker publishes by being out of the mask */
    return rp_load_seq_cst(sleepers) & bit ? -1 : RP_LOOK_NS;
}

void rp_pool_watch(struct rp_worker *p)
{
    note_peak(p); /* not left to the thread: the first task may be the last */
    p->watched = true;
    rp_os_guard_look(look, p);
}

uint64_t rp_pool_peak_rss(const struct rp_parent *p, uint32_t w)
{
    return rp_load_relaxed(&p->entries[w].peak_rss);
}

int rp_pool_wait_task(struct rp_worker *p)
{
    uint64_t bit, budget = p->spin.budget_ns, start = rp_os_now_ns();
    uint64_t cpu = rp_os_cpu() + 1ull;
    rp_word *sleepers = rp_pool_mask_word(p, p->shared->sleepers, &bit);
    bool found = false;
    int err = 0;
    if (!rp_spin_apart(&p->spin, &rp_pool_me(p)->cpu, cpu, rp_load_relaxed(&p->shared->cpu) == cpu))
        budget = 0;
    else if (budget > RP_SPIN_CROWDED_NS && rp_pool_crowded(p))
        budget = RP_SPIN_CROWDED_NS;
    do {
        for (uint32_t i = 0; i < RP_PAUSES; i++)
            rp_pause();
        found = rp_board_ready(&p->board) || rp_load_acquire(&p->shared->stop);
    } while (!found && rp_os_now_ns() - start < budget);
    if (found) {
        rp_spin_learn(&p->spin, 0);
        return rp_load_acquire(&p->shared->stop) ? 0 : 1;
    }

    RP_STEP("wait: spun");
    rp_wake_came_round(p);
    rp_bell_announce(&rp_pool_me(p)->bell);
    RP_STEP("wait: announced");
    rp_or_seq_cst(sleepers, bit); /* announce / publish */
    RP_STEP("wait: sleeper");
    rp_wake_tell_of_unread(p);
    RP_STEP("wait: told");
    if (rp_board_ready(&p->board) || rp_load_seq_cst(&p->shared->stop) || rp_load_seq_cst(&rp_pool_me(p)->dismissed) ||
        rp_load_seq_cst(&p->shared->purges) != p->purged)
        rp_bell_cancel(&rp_pool_me(p)->bell);
    else
        err = rp_bell_sleep(&rp_pool_me(p)->bell, -1);
    RP_STEP("wait: up");
    /* If the bit is gone already, a waker has taken it, and named this worker in `waking` before that. */
    if (!(rp_and_seq_cst(sleepers, ~bit) & bit))
        p->woken = rp_load_seq_cst(&p->shared->waking) == p->index + 1ull;
    if (rp_load_seq_cst(&p->unwatched)) { /* announce / publish: see look() */
        rp_store_relaxed(&p->unwatched, 0u);
        rp_os_guard_poke();
    }
    RP_STEP("wait: over");
    rp_spin_learn(&p->spin, rp_os_now_ns() - start);
    if (rp_load_acquire(&p->shared->stop))
        return 0;
    return err == -EINTR ? err : 1;
}

uint32_t rp_wake_recover(struct rp_parent *p, uint32_t w, uint64_t task_ids[2])
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
    rp_store_relaxed(&e->peak_rss, 0u);
    rp_bell_cancel(&e->bell);
    return n;
}
