#include "ending.h"

void rp_pool_start_clock(struct rp_worker *p)
{
    rp_store_release(&rp_pool_me(p)->started_ns, rp_os_now_ns());
}

void rp_pool_stop_clock(struct rp_worker *p)
{
    rp_store_relaxed(&rp_pool_me(p)->started_ns, 0u); /* relaxed: released by what is stored to `current` next */
}

uint64_t rp_pool_timed_task(const struct rp_parent *p, uint32_t w, uint64_t *started_ns)
{
    const struct rp_worker_entry *e = &p->entries[w];
    uint64_t task_id = rp_load_acquire(&e->current);
    *started_ns = rp_load_acquire(&e->started_ns);
    /* The clock is stopped before `current` changes: if that is the same before and after, the time is this task's. */
    return *started_ns && rp_load_acquire(&e->current) == task_id ? task_id : 0;
}

bool rp_pool_interrupt(struct rp_parent *p, uint32_t w, uint64_t task_id, uint64_t why)
{
    struct rp_worker_entry *e = &p->entries[w];
    if (rp_load_relaxed(&e->raised) == task_id)
        return false;
    rp_store_relaxed(&e->why, why);
    rp_store_release(&e->interrupted, task_id);
    return true;
}

bool rp_pool_take_interrupt(struct rp_worker *p, uint64_t task_id, uint64_t *why)
{
    struct rp_worker_entry *e = rp_pool_me(p);
    if (rp_load_acquire(&e->interrupted) != task_id)
        return false;
    *why = rp_load_relaxed(&e->why);
    rp_store_relaxed(&e->raised, task_id); /* relaxed: seen late, it costs one more signal, which the handler ignores */
    return true;
}

void rp_pool_condemn(struct rp_parent *p, uint32_t w, uint64_t task_id)
{
    rp_store_seq_cst(&p->entries[w].condemned, task_id); /* announce / publish: the caller looks for the result next */
}

bool rp_pool_is_condemned(const struct rp_worker *p, uint64_t task_id)
{
    /* announce / publish: the result has been published with seq_cst */
    return rp_load_seq_cst(&p->entries[p->index].condemned) == task_id;
}

void rp_ending_recover(struct rp_worker_entry *e)
{
    rp_store_relaxed(&e->started_ns, 0u);
    rp_store_relaxed(&e->interrupted, 0u);
    rp_store_relaxed(&e->condemned, 0u);
    rp_store_relaxed(&e->raised, 0u);
}
