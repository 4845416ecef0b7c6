#include "results.h"
#include "memory.h"
#include "step.h"

/* Napping. On a crowded machine with many results to come, being rung for each costs more than the tasks themselves.
 * So the leader sleeps by the clock, for as long as about a quarter of what is outstanding should take. */
#define RP_NAP_MAX_NS 250000u

struct rp_result *rp_pool_try_result(struct rp_worker *p)
{
    return rp_ring_try_reserve(&p->results);
}

int rp_pool_wait_space(struct rp_worker *p)
{
    int err = 0;
    RP_STEP("space: begun");
    rp_store_seq_cst(&rp_pool_me(p)->waits_space, 1u);
    RP_STEP("space: wanted");
    rp_bell_announce(&rp_pool_me(p)->bell); /* announce / publish; the parent publishes by committing read_pos */
    RP_STEP("space: announced");
    (void)rp_bell_ring(&p->shared->service);
    RP_STEP("space: told");
    if (rp_pool_try_result(p))
        rp_bell_cancel(&rp_pool_me(p)->bell);
    else
        err = rp_bell_sleep(&rp_pool_me(p)->bell, -1);
    RP_STEP("space: up");
    rp_store_seq_cst(&rp_pool_me(p)->waits_space, 0u);
    RP_STEP("space: over");
    return err;
}

void rp_pool_commit(struct rp_parent *p, uint32_t w)
{
    rp_ring_commit(&p->results[w]);
    if (rp_load_seq_cst(&p->entries[w].waits_space)) /* announce / publish */
        (void)rp_bell_ring(&p->entries[w].bell);
}

void rp_pool_publish_result(struct rp_worker *p, bool last)
{
    struct rp_ring *ring = &p->results;
    RP_STEP("publish: filled");
    rp_ring_publish(ring);
    RP_STEP("publish: published");
    if (last)
        rp_store_release(&rp_pool_me(p)->current, 0u); /* after the publication: a task is answered or named, at every instant */
    RP_STEP("publish: cleared");
    if (rp_bell_ring(&p->shared->results))
        return;
    RP_STEP("publish: no leader");
    if (rp_load_seq_cst(&p->shared->collect) || /* announce / publish: see rp_pool_set_collect */
        (ring->write_pos % 64 == 0 && rp_ring_unread(ring) >= ring->capacity / 2))
        (void)rp_bell_ring(&p->shared->service);
}

bool rp_pool_has_results(const struct rp_parent *p)
{
    for (uint32_t w = 0; w < p->n_workers; w++)
        if (rp_ring_try_peek(&p->results[w]))
            return true;
    return false;
}

void rp_pool_note_drained(struct rp_parent *p, uint64_t n)
{
    uint64_t now = rp_os_now_ns(), gap = (now - p->drained_ns) / n;
    p->drained_ns = now;
    rp_store_relaxed(&p->gap_ns, (rp_load_relaxed(&p->gap_ns) * 3 + (gap < 1000000000u ? gap : 1000000000u)) / 4);
}

/* The leader's nap: 0 if it should rather be rung. */
static uint64_t nap_ns(const struct rp_parent *p, uint64_t outstanding)
{
    uint64_t gap = rp_load_relaxed(&p->gap_ns), ns = gap * outstanding / 4;
    if (ns < RP_NAP_MIN_NS || gap > RP_NAP_MAX_NS / 2)
        return 0;
    return ns < RP_NAP_MAX_NS ? ns : RP_NAP_MAX_NS;
}

static bool leader_has_cause(const struct rp_parent *p)
{
    return rp_load_seq_cst(&p->kick_leader) || rp_pool_has_results(p);
}

int rp_pool_wait_results(struct rp_parent *p, uint64_t outstanding, int64_t timeout_ns)
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
    } else if (rp_spin_apart(&p->spin, &p->shared->cpu, cpu, rp_wake_worker_on(p, cpu))) {
        do {
            for (uint32_t i = 0; i < RP_PAUSES; i++) {
                rp_pause();
                if (leader_has_cause(p)) {
                    rp_spin_learn(&p->spin, 0);
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
    rp_spin_learn(&p->spin, rp_os_now_ns() - start);
    return err;
}

void rp_pool_begin_leading(struct rp_parent *p)
{
    rp_store_seq_cst(&p->kick_leader, 0u);
}

void rp_pool_kick_leader(struct rp_parent *p)
{
    rp_store_seq_cst(&p->kick_leader, 1u); /* announce / publish */
    (void)rp_bell_ring(&p->shared->results);
}

static bool service_has_cause(struct rp_parent *p)
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
        if (rp_load_seq_cst(rp_ring_slot(ring, half)) == half + 1 || rp_memory_request(p, w))
            return true;
        if (rp_load_seq_cst(&p->entries[w].waits_space) && rp_ring_try_peek(ring))
            return true;
        if (rp_load_seq_cst(&p->entries[w].releases) != rp_load_relaxed(&p->swept[w])) /* announce / publish */
            return true;
    }
    return false;
}

int rp_pool_wait_service(struct rp_parent *p)
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

void rp_pool_begin_service(struct rp_parent *p)
{
    rp_store_seq_cst(&p->kick_service, 0u);
}

void rp_pool_kick_service(struct rp_parent *p)
{
    rp_store_seq_cst(&p->kick_service, 1u); /* announce / publish */
    (void)rp_bell_ring(&p->shared->service);
}

void rp_pool_set_collect(struct rp_parent *p, bool on)
{
    if (rp_load_relaxed(&p->shared->collect) == on)
        return;
    rp_store_seq_cst(&p->shared->collect, (uint64_t)on);
    if (on) /* results published before the store did not ring it: the collector looks once by itself */
        rp_pool_kick_service(p);
}

void rp_results_recover(struct rp_parent *p, uint32_t w)
{
    rp_store_relaxed(&p->entries[w].waits_space, 0u);
    rp_ring_reset(&p->results[w]);
}
