#include "memory.h"
#include "step.h"

void rp_pool_take_returns(struct rp_worker *p)
{
    struct rp_ring *ring = &p->returns;
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

int rp_pool_return_block(struct rp_parent *p, uint32_t w, uint64_t offset)
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

int rp_pool_alloc(struct rp_worker *p, uint64_t bytes, uint64_t *offset)
{
    rp_pool_take_returns(p);
    return rp_arena_alloc(&p->arena, bytes, offset);
}

int rp_pool_wait_memory(struct rp_worker *p)
{
    int err = 0;
    RP_STEP("memory: begun");
    rp_store_seq_cst(&rp_pool_me(p)->wants_memory, ++p->requests);
    RP_STEP("memory: wanted");
    rp_bell_announce(&rp_pool_me(p)->bell); /* announce / publish; the parent publishes a return */
    RP_STEP("memory: announced");
    (void)rp_bell_ring(&p->shared->service);
    RP_STEP("memory: told");
    if (rp_ring_try_peek(&p->returns) || rp_load_seq_cst(&rp_pool_me(p)->granted) == p->requests)
        rp_bell_cancel(&rp_pool_me(p)->bell);
    else
        err = rp_bell_sleep(&rp_pool_me(p)->bell, -1);
    RP_STEP("memory: up");
    rp_store_seq_cst(&rp_pool_me(p)->wants_memory, 0u);
    RP_STEP("memory: over");
    if (rp_load_seq_cst(&rp_pool_me(p)->granted) != p->requests)
        return err == -EINTR ? err : 0;
    rp_pool_take_returns(p);
    return 1;
}

uint64_t rp_memory_request(const struct rp_parent *p, uint32_t w)
{
    uint64_t request = rp_load_seq_cst(&p->entries[w].wants_memory); /* announce / publish */
    return request != rp_load_relaxed(&p->served[w]) ? request : 0;
}

uint64_t rp_pool_wants_memory(struct rp_parent *p, uint32_t w, uint64_t *loan_bytes)
{
    uint64_t request = rp_memory_request(p, w);
    *loan_bytes = rp_load_relaxed(&p->entries[w].loan_bytes); /* "asked" to "asks"; or of a later request: see below */
    if (request)
        rp_store_relaxed(&p->served[w], request);
    return request;
}

void rp_pool_grant(struct rp_parent *p, uint32_t w, uint64_t request)
{
    if (rp_load_seq_cst(&p->entries[w].wants_memory) != request)
        return; /* it has been given up; a later one may have had its answer, which this must not hide */
    rp_store_relaxed(&p->served[w], request);
    rp_store_seq_cst(&p->entries[w].granted, request); /* announce / publish */
    (void)rp_bell_ring(&p->entries[w].bell);
}

void rp_pool_ask_loan(struct rp_worker *p, uint64_t bytes)
{
    rp_store_relaxed(&rp_pool_me(p)->loan_bytes, bytes);
    RP_STEP("loan: begun");
    rp_store_seq_cst(&rp_pool_me(p)->wants_memory, ++p->requests); /* announce / publish; "asked" to "asks": the size is there */
    RP_STEP("loan: asked");
}

static bool loan_is_answered(struct rp_worker *p)
{
    return rp_load_seq_cst(&rp_pool_me(p)->lent) == p->requests || rp_load_seq_cst(&rp_pool_me(p)->granted) == p->requests;
}

int rp_pool_await_loan(struct rp_worker *p, uint64_t *offset)
{
    int err = 0;
    rp_bell_announce(&rp_pool_me(p)->bell); /* announce / publish; the parent publishes its answer */
    RP_STEP("loan: announced");
    (void)rp_bell_ring(&p->shared->service);
    RP_STEP("loan: told");
    if (loan_is_answered(p))
        rp_bell_cancel(&rp_pool_me(p)->bell);
    else
        err = rp_bell_sleep(&rp_pool_me(p)->bell, -1);
    RP_STEP("loan: up");
    if (!loan_is_answered(p))
        return err == -EINTR ? err : -EAGAIN;
    err = rp_load_acquire(&rp_pool_me(p)->lent) == p->requests ? 0 : -ENOMEM; /* "lent" to "had": the offset is there */
    *offset = err ? 0 : rp_load_relaxed(&rp_pool_me(p)->loan);
    rp_pool_give_up_loan(p); /* the request, that is */
    return err;
}

void rp_pool_give_up_loan(struct rp_worker *p)
{
    rp_store_relaxed(&rp_pool_me(p)->loan_bytes, 0u);
    rp_store_seq_cst(&rp_pool_me(p)->wants_memory, 0u);
    RP_STEP("loan: over");
}

uint64_t rp_pool_loan_wanted(const struct rp_parent *p, uint32_t w, uint64_t *bytes)
{
    uint64_t request = rp_load_seq_cst(&p->entries[w].wants_memory); /* "asked" to "asks" */
    *bytes = rp_load_relaxed(&p->entries[w].loan_bytes); /* of this request, or of a later one: then this one is given up */
    return *bytes ? request : 0;
}

int rp_pool_lend(struct rp_parent *p, uint32_t w, uint64_t request, uint64_t bytes, uint64_t *offset)
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

bool rp_pool_is_past_loan(const struct rp_parent *p, uint32_t w, uint64_t request)
{
    const struct rp_worker_entry *e = &p->entries[w];
    uint64_t now = rp_load_seq_cst(&e->wants_memory);
    bool idle = rp_load_acquire(&e->current) == 0 && rp_has_started(rp_load_acquire(&e->state)); /* before, its initializer may fail */
    return (now && now != request) || idle;
}

void rp_pool_end_loan(struct rp_parent *p, uint64_t offset)
{
    uint64_t bytes;
    (void)rp_arena_free(&p->overflow, offset, &bytes);
}

void rp_pool_count_release(struct rp_worker *p)
{
    rp_word *releases = &rp_pool_me(p)->releases;
    (void)rp_add_seq_cst(releases, 1); /* announce / publish. Any thread of a task may let go of what it has brought */
    RP_STEP("release: counted");
    (void)rp_bell_ring(&p->shared->service);
    RP_STEP("release: told");
}

bool rp_pool_has_released(struct rp_parent *p, uint32_t w)
{
    uint64_t releases = rp_load_seq_cst(&p->entries[w].releases);
    bool some = releases != rp_load_relaxed(&p->swept[w]);
    if (some)
        rp_store_relaxed(&p->swept[w], releases);
    return some;
}

void rp_pool_purge(struct rp_parent *p)
{
    rp_store_seq_cst(&p->shared->purges, rp_load_relaxed(&p->shared->purges) + 1); /* announce / publish */
    for (uint32_t w = 0; w < p->n_workers; w++)
        (void)rp_bell_ring(&p->entries[w].bell);
}

void rp_pool_note_purged(struct rp_worker *p)
{
    rp_store_release(&rp_pool_me(p)->purged, p->purged); /* release: a reader of it sees what has been let go of */
    rp_pool_count_release(p);                    /* also if it was nothing: the parent may wait for this */
}

bool rp_pool_is_to_purge(const struct rp_parent *p, uint32_t w, uint64_t *task_id)
{
    *task_id = rp_load_acquire(&p->entries[w].current);
    return rp_load_acquire(&p->entries[w].purged) != rp_load_relaxed(&p->shared->purges);
}

void rp_memory_recover(struct rp_parent *p, uint32_t w)
{
    struct rp_worker_entry *e = &p->entries[w];
    rp_store_relaxed(&e->wants_memory, 0u);
    rp_store_relaxed(&e->loan_bytes, 0u);
    rp_store_relaxed(&e->releases, 0u);
    rp_store_relaxed(&e->purged, 0u);
    rp_store_relaxed(&e->granted, 0u);
    rp_store_relaxed(&e->lent, 0u);
    rp_store_relaxed(&e->loan, 0u);
    rp_store_relaxed(&p->served[w], 0u);
    rp_store_relaxed(&p->swept[w], 0u);
    rp_ring_reset(&p->returns[w]);
}
