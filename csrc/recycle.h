/* recycle.h - the life of a worker: started, parked, ready, retired, gone; and how one takes the place of another.
 *
 * For: the hand-over from a worker that leaves to its successor.
 * Guarantees: never do more workers take tasks than the pool has, and no task waits for a start.
 * Does not: start or end a process; the supervisor does.
 *
 * Recycling. A worker that is to leave says so (`retiring`) while it still works. Its successor is started in another
 * place, initialises itself, and is PARKED until its turn: until the first has taken its last task and hands over, or is
 * dead and the parent does. So never do more workers take tasks than the pool has, and no task waits for a start. Each
 * start has a ticket of its own, so that a late hand-over cannot be taken for another's. The first then stays, without
 * tasks, until the parent has seen its successor ready and dismisses it.
 *
 *   word                   writer                     if its writer dies there
 *   -------------------    -----------------------    -----------------------------------------------------
 *   state, retiring        the worker                 cleared at its recovery
 *   successor, dismissed   the parent                 the pool dies with the parent
 *   turn                   parent; the predecessor    the parent gives the turn when it recovers the predecessor
 */
#ifndef RP_RECYCLE_H
#define RP_RECYCLE_H

#include "wake.h"

/* Parked until its turn (1), or until the pool stops (0). -EINTR. Returns at once if it has it from the start; otherwise
 * `notify_fd` is written to, an eventfd, when it is parked. */
int rp_pool_await_turn(struct rp_worker *p, uint64_t ticket, int notify_fd);

void rp_pool_join(struct rp_worker *p); /* ready for tasks */

/* Will leave, and says when (enum rp_retiring): asks for a successor through the eventfd. */
void rp_pool_retire(struct rp_worker *p, uint64_t when, int notify_fd);

/* It may go, or if it said READY, should: its successor is ready. */
bool rp_pool_is_dismissed(const struct rp_worker *p);

void rp_pool_leave(struct rp_worker *p); /* takes no more tasks, and hands over */

/* After leaving: waits until it is dismissed or the pool stops. 0 or -EINTR. */
int rp_pool_await_dismissal(struct rp_worker *p, int notify_fd);

uint32_t rp_pool_worker_state(const struct rp_parent *p, uint32_t w);
bool rp_pool_is_retiring(const struct rp_parent *p, uint32_t w);

/* Does worker w, whose successor is ready, have nothing more to do? */
bool rp_pool_may_go(const struct rp_parent *p, uint32_t w);

/* The worker that starts, or has started, in place w with this ticket may take tasks. */
void rp_pool_give_turn(struct rp_pool *p, uint32_t w, uint64_t ticket);
#define rp_pool_give_turn(p, w, ticket) rp_pool_give_turn(rp_base(p), w, ticket)

/* The worker in place w is succeeded by the one in place `successor`, not yet started, with this ticket. */
void rp_pool_name_successor(struct rp_parent *p, uint32_t w, uint32_t successor, uint64_t ticket);

/* Lets worker w go. */
void rp_pool_dismiss(struct rp_parent *p, uint32_t w);

void rp_recycle_recover(struct rp_worker_entry *e);

#endif
