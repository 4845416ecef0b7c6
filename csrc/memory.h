/* memory.h - blocks that go back, requests for memory, and loans.
 *
 * For: how a worker's blocks return to it, what it does when its arena is full, and how the parent hears that blocks of its own
 * are held no more. The allocators themselves: arena.h.
 * Guarantees: each request has one answer, and all that ask come to their turn. A worker has one loan at most.
 * Does not: free anything that is in use; which that is, the callers know.
 *
 * Some blocks are not copied out of, but *held*: the receiver's objects are views of them. A worker says so in the block
 * that leads to them (struct rp_spread_buffer), counts in `releases` those that it lets go after its answer, and rings the collector.
 * What the parent holds of a worker outlives that worker: the arena stays as it is until the parent has let go of all, and
 * the worker's place goes on with another one: RP_ARENAS.
 *
 * Loans. A result that its worker's arena cannot hold goes into a block of the last arena, the *overflow*, whose allocator is
 * the parent's. The worker asks for it (`wants_memory`, `loan_bytes`), the parent lends it (`loan`, `lent`). It is one block
 * for all of the result, and a worker has one at most, which ends with its next result or request: then the block is the
 * result's, or free. It runs none of the user's code meanwhile. So no worker that has a loan waits for another, or for
 * long, and all that wait come to their turn.
 *
 *   word                            writer        if its writer dies there
 *   ----------------------------    ----------    ----------------------------------------------------------------
 *   wants_memory, loan_bytes        the worker    cleared at its recovery; the parent frees its loan
 *   releases, purged                the worker    cleared at its recovery, where all that it held is freed
 *   granted, lent, loan, purges     the parent    the pool dies with the parent
 */
#ifndef RP_MEMORY_H
#define RP_MEMORY_H

#include "map.h"

/* A block of this worker's arena, after taking in what came back. -ENOMEM: wait; -E2BIG: never. */
int rp_pool_alloc(struct rp_worker *p, uint64_t bytes, uint64_t *offset);

/* Takes in what came back. */
void rp_pool_take_returns(struct rp_worker *p);

/* Waits until blocks have come back (0), or the parent says that it has none to give back but those that are held, after
 * which those that did come back have been taken in (1). -EINTR. */
int rp_pool_wait_memory(struct rp_worker *p);

/* Asks for a loan; waits for it: 0 and its offset, -ENOMEM if none is available, -EINTR or -EAGAIN: wait again, or
 * give the request up. */
void rp_pool_ask_loan(struct rp_worker *p, uint64_t bytes);
int rp_pool_await_loan(struct rp_worker *p, uint64_t *offset);
void rp_pool_give_up_loan(struct rp_worker *p);

/* What this worker knows of shared objects that have been given up (RP_PURGE) has been let go of, but for what tasks keep. */
void rp_pool_note_purged(struct rp_worker *p);

/* A block of the parent's is not held any more, whose task has been answered. */
void rp_pool_count_release(struct rp_worker *p);

/* Gives a block back to worker w. -EAGAIN: its return ring is full, try again later. */
int rp_pool_return_block(struct rp_parent *p, uint32_t w, uint64_t offset);

/* Has worker w let go of blocks since this was last asked? */
bool rp_pool_has_released(struct rp_parent *p, uint32_t w);

/* Has all workers look which shared objects have been given up. */
void rp_pool_purge(struct rp_parent *p);

/* Has worker w yet to look? *task_id: what it may run first, or 0. */
bool rp_pool_is_to_purge(const struct rp_parent *p, uint32_t w, uint64_t *task_id);

/* The collector: the number of worker w's request for memory, and of how large a loan, 0 if for a block of its own arena; each
 * number once, then 0. Then, when all that is not held has been given back, or no loan is available: says so, unless the
 * request has been given up. */
uint64_t rp_pool_wants_memory(struct rp_parent *p, uint32_t w, uint64_t *loan_bytes);
void rp_pool_grant(struct rp_parent *p, uint32_t w, uint64_t request);

/* The number of worker w's request for a loan, and of how many bytes; 0 if it waits for none. Then: lends it, and says where;
 * or -ENOMEM (not now) or -E2BIG (never). A loan that has ended, or the result that lay there, is freed. */
uint64_t rp_pool_loan_wanted(const struct rp_parent *p, uint32_t w, uint64_t *bytes);
int rp_pool_lend(struct rp_parent *p, uint32_t w, uint64_t request, uint64_t bytes, uint64_t *offset);
void rp_pool_end_loan(struct rp_parent *p, uint64_t offset);

/* Has worker w no use for the loan that was its answer to this request? It has asked anew, or has no task in hand. */
bool rp_pool_is_past_loan(const struct rp_parent *p, uint32_t w, uint64_t request);

/* The number of a request for memory that has not been seen; or 0. */
uint64_t rp_memory_request(const struct rp_parent *p, uint32_t w);

void rp_memory_recover(struct rp_parent *p, uint32_t w);

#endif
