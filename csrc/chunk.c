#include "chunk.h"
#include "step.h"

void rp_pool_begin_chunk(struct rp_worker *p, uint64_t task_id, uint32_t n)
{
    struct rp_worker_entry *e = rp_pool_me(p);
    uint64_t word = rp_load_relaxed(&e->range), end;
    rp_store_relaxed(&e->chunk, 0u);
    RP_STEP("chunk: over");
    do {
        end = word & 0xffffu;
        if ((word >> 16 & 0xffffu) <= end || end > n) /* nothing has been taken beforehand */
            end = n;
    } while (!rp_cas_seq_cst(&e->range, &word, ((word >> 32) + 1u) << 32 | end)); /* release: what sees it sees no chunk */
    RP_STEP("chunk: opened");
    rp_store_release(&e->chunk, task_id); /* release: what sees the task sees its range */
    RP_STEP("chunk: begun");
}

bool rp_pool_claim_item(struct rp_worker *p, uint32_t *item)
{
    rp_word *range = &rp_pool_me(p)->range;
    uint64_t word = rp_load_relaxed(range);
    do {
        *item = word >> 16 & 0xffffu;
        if (*item >= (word & 0xffffu))
            return false;
    } while (!rp_cas_seq_cst(range, &word, word + 0x10000u));
    RP_STEP("chunk: claimed");
    return true;
}

bool rp_pool_chunk(const struct rp_parent *p, uint32_t w, uint64_t task_id, uint32_t *next, uint32_t *end)
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

bool rp_pool_cut_chunk(struct rp_parent *p, uint64_t task_id, uint64_t pos, uint32_t *from, uint32_t *end)
{
    uint32_t w = rp_pool_holder(p, task_id, pos);
    struct rp_worker_entry *e;
    uint64_t word, next, stop;
    bool begun;
    if (w == p->n_workers || *from >= *end)
        return false;
    e = &p->entries[w];
    /* The worker has the task in its hands, so `range` is used up, or of this chunk. Should it be of a later one, `chunk`
     * says so, or the task is in no worker's hands any more. */
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

uint64_t rp_pool_chunk_of(const struct rp_parent *p, uint32_t w)
{
    return rp_load_acquire(&p->entries[w].chunk);
}

struct rp_tray *rp_pool_take_tray(struct rp_worker *p, uint64_t offset, uint64_t bytes, uint32_t first)
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
    rp_store_release(&rp_pool_me(p)->tray, offset);
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

uint64_t rp_pool_lost_tray(const struct rp_parent *p, uint32_t w, uint64_t task_id)
{
    const struct rp_worker_entry *e = &p->entries[w];
    return rp_load_acquire(&e->chunk) == task_id ? rp_load_acquire(&e->tray) : 0;
}

void rp_chunk_recover(struct rp_worker_entry *e)
{
    rp_store_relaxed(&e->chunk, 0u);
    rp_store_relaxed(&e->range, 0u);
    rp_store_relaxed(&e->tray, 0u);
}
