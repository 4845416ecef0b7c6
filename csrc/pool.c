#include "pool.h"

static void toll_all(struct rp_parent *p)
{
    for (uint32_t w = 0; w < p->n_workers; w++)
        rp_bell_toll(&p->entries[w].bell);
    rp_bell_toll(&p->shared->results);
    rp_bell_toll(&p->shared->service);
}

void rp_pool_stop(struct rp_parent *p)
{
    rp_store_seq_cst(&p->shared->stop, 1u);
    toll_all(p);
}

uint32_t rp_pool_recover(struct rp_parent *p, uint32_t w, uint64_t task_ids[2])
{
    struct rp_worker_entry *e = &p->entries[w];
    uint32_t n = rp_wake_recover(p, w, task_ids);
    rp_results_recover(p, w);
    rp_memory_recover(p, w);
    rp_chunk_recover(e);
    rp_ending_recover(e);
    rp_recycle_recover(e);
    return n;
}

void rp_pool_resume_after_recovery(struct rp_parent *p, uint64_t outstanding)
{
    rp_store_seq_cst(&p->shared->waking, 0u);
    toll_all(p);
    rp_wake_one(&p->base, outstanding);
}
