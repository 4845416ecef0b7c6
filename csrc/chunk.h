/* chunk.h - a task of many items: which are begun, which the parent takes away, and what has been done of it.
 *
 * For: giving a worker without work what lies before a busy one, and finding after a death what was done.
 * Guarantees: each item is begun once, by its worker, or taken away once, by the parent; a result that counts is whole.
 *
 * Chunks. A task may hold many items. The worker claims them one by one from its `range`, and the parent may take away
 * those that it has not come to, both by compare-and-swap: so an idle worker gets what lies before a busy one. From a
 * worker that has taken the task and not begun its chunk, it takes them beforehand: it leaves in the range, which is used
 * up then, where that chunk is to end, and the worker opens the chunk by a compare-and-swap, too. Results are collected in
 * a *tray*, a block of the worker's arena, and published when it is full, or after a while, or at the end. The worker
 * counts a result into its tray when it is whole; so when it dies, the parent finds what was done (the tray), the one item
 * that was being run, if any (claimed and not in the tray), and what was not begun.
 *
 *   word            writer                    if its writer dies there
 *   ------------    ----------------------    --------------------------------------------------------------------
 *   range           worker and parent, by     says which item was begun last, or where the chunk that is taken
 *                   compare-and-swap          will end; cleared at its recovery, so that no successor inherits it
 *   chunk, tray     the worker                lead to the results that were not published; cleared at its recovery
 *   a tray's used   the worker                counts whole results only
 */
#ifndef RP_CHUNK_H
#define RP_CHUNK_H

#include "wake.h"

/* Begins a chunk of n items, at most RP_CHUNK_ITEMS; claims the next of those that the parent has left, false if none is. */
void rp_pool_begin_chunk(struct rp_worker *p, uint64_t task_id, uint32_t n);
bool rp_pool_claim_item(struct rp_worker *p, uint32_t *item);

/* Collects results in the block at `offset` from now on, 0 for none: to be called when what is in the one before has been
 * published. bytes: how many of it may be used. Then counts one in, when its bytes are there. */
struct rp_tray *rp_pool_take_tray(struct rp_worker *p, uint64_t offset, uint64_t bytes, uint32_t first);
void rp_pool_fill_tray(struct rp_tray *tray, uint64_t used);
uint64_t rp_pool_tray_used(const struct rp_tray *tray);

/* The items [*next, *end) of the chunk have not been begun. False if worker w is not at that chunk, or at its first step. */
bool rp_pool_chunk(const struct rp_parent *p, uint32_t w, uint64_t task_id, uint32_t *next, uint32_t *end);

/* Takes the items from *from on of a chunk, published at `pos` and claimed, away from its worker, as far as that has not
 * begun them: [*from, *end) are then the parent's. *end: where the caller knows the chunk to end; another one comes back
 * only if the worker has written wildly. False if there are none. */
bool rp_pool_cut_chunk(struct rp_parent *p, uint64_t task_id, uint64_t pos, uint32_t *from, uint32_t *end);

/* The chunk that worker w is at, or 0. */
uint64_t rp_pool_chunk_of(const struct rp_parent *p, uint32_t w);

/* Of a dead worker: the block with the results of that chunk that it has not published, or 0. */
uint64_t rp_pool_lost_tray(const struct rp_parent *p, uint32_t w, uint64_t task_id);

void rp_chunk_recover(struct rp_worker_entry *e);

#endif
