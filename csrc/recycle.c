#include "recycle.h"
#include "step.h"

uint32_t rp_pool_worker_state(const struct rp_parent *p, uint32_t w)
{
    return (uint32_t)rp_load_acquire(&p->entries[w].state);
}

void rp_pool_join(struct rp_worker *p)
{
    uint64_t bit;
    rp_word *ready = rp_pool_mask_word(p, p->shared->ready, &bit);
    RP_STEP("join: begun");
    rp_store_release(&rp_pool_me(p)->state, (uint64_t)RP_STARTED);
    RP_STEP("join: started");
    rp_or_seq_cst(ready, bit);
    RP_STEP("join: ready");
}

/* Sleeps once, unless the word is `wanted` already or the pool has stopped. */
static int sleep_until(struct rp_worker *p, const rp_word *word, uint64_t wanted)
{
    rp_bell_announce(&rp_pool_me(p)->bell); /* announce / publish */
    if (rp_load_seq_cst(word) != wanted && !rp_load_seq_cst(&p->shared->stop))
        return rp_bell_sleep(&rp_pool_me(p)->bell, -1);
    rp_bell_cancel(&rp_pool_me(p)->bell);
    return 0;
}

int rp_pool_await_turn(struct rp_worker *p, uint64_t ticket, int notify_fd)
{
    const rp_word *turn = &rp_pool_me(p)->turn;
    int err = 0;
    if (rp_load_acquire(turn) != ticket) {
        rp_store_release(&rp_pool_me(p)->state, (uint64_t)RP_PARKED);
        RP_STEP("turn: parked");
        rp_os_notify(notify_fd);
        RP_STEP("turn: told");
    }
    while (rp_load_acquire(turn) != ticket && !rp_load_acquire(&p->shared->stop) && err != -EINTR)
        err = sleep_until(p, turn, ticket);
    return err == -EINTR ? err : rp_load_acquire(turn) == ticket;
}

void (rp_pool_give_turn)(struct rp_pool *p, uint32_t w, uint64_t ticket)
{
    if (w >= p->n_workers)
        return;
    rp_store_seq_cst(&p->entries[w].turn, ticket); /* announce / publish */
    (void)rp_bell_ring(&p->entries[w].bell);
}

void rp_pool_retire(struct rp_worker *p, uint64_t when, int notify_fd)
{
    rp_store_release(&rp_pool_me(p)->retiring, when);
    RP_STEP("retire: said");
    rp_os_notify(notify_fd);
    RP_STEP("retire: told");
}

bool rp_pool_is_retiring(const struct rp_parent *p, uint32_t w)
{
    return rp_load_acquire(&p->entries[w].retiring) != RP_STAYING;
}

void rp_pool_name_successor(struct rp_parent *p, uint32_t w, uint32_t successor, uint64_t ticket)
{
    rp_store_seq_cst(&p->entries[w].successor, ticket << 16 | successor); /* announce / publish: if it has left before ... */
    if (rp_load_seq_cst(&p->entries[w].state) == RP_RETIRED)
        rp_pool_give_turn(p, successor, ticket); /* ... it has not handed over */
}

void rp_pool_leave(struct rp_worker *p)
{
    uint64_t bit;
    rp_word *ready = rp_pool_mask_word(p, p->shared->ready, &bit);
    uint64_t successor;
    RP_STEP("leave: begun");
    rp_store_seq_cst(&rp_pool_me(p)->state, (uint64_t)RP_RETIRED); /* announce / publish: see rp_pool_name_successor */
    RP_STEP("leave: retired");
    rp_and_seq_cst(ready, ~bit); /* announce / publish: from here on, a publisher does not count on this worker ... */
    RP_STEP("leave: not ready");
    successor = rp_load_seq_cst(&rp_pool_me(p)->successor);
    if (successor)
        rp_pool_give_turn(p, (uint32_t)(successor & 0xffff), successor >> 16);
    RP_STEP("leave: handed over");
    rp_wake_came_round(p);
    rp_wake_one_if_work_waits(&p->base); /* ... and what was published before may have */
    RP_STEP("leave: woke one");
    rp_wake_tell_of_unread(p); /* the process may take its time to end */
    RP_STEP("leave: left");
}

bool rp_pool_may_go(const struct rp_parent *p, uint32_t w)
{
    return rp_load_acquire(&p->entries[w].state) == RP_RETIRED || rp_load_acquire(&p->entries[w].retiring) == RP_READY;
}

void rp_pool_dismiss(struct rp_parent *p, uint32_t w)
{
    if (rp_load_relaxed(&p->entries[w].dismissed))
        return;
    rp_store_seq_cst(&p->entries[w].dismissed, 1u); /* announce / publish */
    (void)rp_bell_ring(&p->entries[w].bell);
}

bool rp_pool_is_dismissed(const struct rp_worker *p)
{
    return rp_load_acquire(&p->entries[p->index].dismissed);
}

int rp_pool_await_dismissal(struct rp_worker *p, int notify_fd)
{
    int err = 0;
    rp_os_notify(notify_fd);
    RP_STEP("leave: told");
    while (!rp_pool_is_dismissed(p) && !rp_load_acquire(&p->shared->stop) && err != -EINTR)
        err = sleep_until(p, &rp_pool_me(p)->dismissed, 1);
    return err == -EINTR ? err : 0;
}

void rp_recycle_recover(struct rp_worker_entry *e)
{
    rp_store_relaxed(&e->retiring, 0u);
    rp_store_relaxed(&e->successor, 0u);
    rp_store_relaxed(&e->dismissed, 0u);
    rp_store_relaxed(&e->turn, 0u);
    rp_store_release(&e->state, (uint64_t)RP_ABSENT);
}
