/* pool.h - the whole of it: all protocols between the parent and its workers, what ends them, and what a death takes.
 *
 *   map.h        which part of the segment lies where, and how an offset becomes an address
 *   wake.h       tasks, from the board to a worker
 *   results.h    results, from a worker to the parent
 *   memory.h     blocks that go back, requests, loans
 *   chunk.h      a task of many items
 *   ending.h     ending a task that runs
 *   recycle.h    the life of a worker, and its successor
 *
 * In each, both ends of a sync point stand in one file, and X_recover() there clears the words of X that a dead worker has
 * left. A hold is used by one thread at a time, but for the waits of the
 * parent, which several of its threads may be in.
 *
 * Which thread may sleep where, and what wakes it (all by the announce / publish pairing of bell.h):
 *
 *   sleeper                              bell          woken by
 *   ---------------------------------    ----------    --------------------------------------------------------------
 *   worker without a task                its own       rp_wake_one(): the publisher of a task, while too few are awake
 *   worker that is parked, or retired    its own       its predecessor's leave, or the parent's word
 *   worker whose ring is full            its own       the parent's commit, which looks at waits_space
 *   worker whose arena is full           its own       the parent's return of a block, which looks at wants_memory; its
 *                                                      answer to a request
 *   the parent's thread in result()      results       any result; rp_pool_kick_leader
 *   the parent's collector thread        service       a result while `collect` is set and no leader sleeps; a ring half
 *                                                      full; a worker that sleeps or leaves with results unread; the claim
 *                                                      of refill_pos; rp_pool_kick_service
 *
 * If a worker dies: at any point, rp_pool_recover() gives its task, takes its bits out of the masks, clears `waking`
 * (it may have died as the waker or as the woken), and tolls every bell it could have been about to ring.
 */
#ifndef RP_POOL_H
#define RP_POOL_H

#include "chunk.h"
#include "ending.h"
#include "memory.h"
#include "recycle.h"
#include "results.h"

void rp_pool_stop(struct rp_parent *p);

/* After the death of worker w, when its results have been read and copied: gives the ids of the tasks it may have held (it
 * held one at most; its entry and the board can each name it), and makes its place ready for a successor. What lies in its
 * arena stays: see rp_pool_give_arena and rp_pool_clear. Returns how many. */
uint32_t rp_pool_recover(struct rp_parent *p, uint32_t w, uint64_t task_ids[2]);

/* After recoveries: repeats any wake-up that a dead worker may have owed. */
void rp_pool_resume_after_recovery(struct rp_parent *p, uint64_t outstanding);

#endif
