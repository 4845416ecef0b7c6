/* ending.h - ending a task that runs: its clock, the exception raised in it, the end of its worker.
 *
 * For: time limits, cancel(running=True) and shutdown(timeout=). When that is to happen the supervisor decides.
 * Guarantees: whatever the parent kills has no task but the one that is to end.
 * Does not: end a task that takes no notice; the worker is killed for that, which is not done here.
 *
 * Ending a task that runs. The parent names the task in the worker's `interrupted` and sends a signal; the handler there
 * raises an exception if that task is still the one that runs, and says so in `raised`. Until it has, the signal is sent
 * again and again: one that comes just before a system call does not end that, and the handler waits for its return. If
 * the task goes on, its worker is killed, and that must not cost
 * the task that the worker may have begun in the meantime. So the parent condemns first, and then looks for the result;
 * the worker publishes the result, and then looks whether it is condemned (announce / publish). Either the parent finds
 * the result and pardons, or the worker sees that it is condemned and takes no other task: whatever the parent kills has
 * no task but that one.
 *
 *   word                          writer        if its writer dies there
 *   --------------------------    ----------    --------------------------------
 *   started_ns, raised            the worker    cleared at its recovery
 *   interrupted, why, condemned   the parent    the pool dies with the parent
 */
#ifndef RP_ENDING_H
#define RP_ENDING_H

#include "map.h"

/* The time that a task may take counts from now; and no longer. */
void rp_pool_start_clock(struct rp_worker *p);
void rp_pool_stop_clock(struct rp_worker *p);

/* Is an exception to be raised in this task? Gives which, and tells the parent that it is raised. */
bool rp_pool_take_interrupt(struct rp_worker *p, uint64_t task_id, uint64_t *why);

/* After the task's result has been published: may no other be taken? */
bool rp_pool_is_condemned(const struct rp_worker *p, uint64_t task_id);

/* The task with a time limit that worker w runs, and since when; 0 if it runs none. */
uint64_t rp_pool_timed_task(const struct rp_parent *p, uint32_t w, uint64_t *started_ns);

/* Wants an exception raised in the task that worker w runs, if that has not been done. If so, the caller then sends the
 * signal. */
bool rp_pool_interrupt(struct rp_parent *p, uint32_t w, uint64_t task_id, uint64_t why);

/* Lets worker w take no other task after this one (0: any). If the result is not there when this has returned, w may be
 * killed. */
void rp_pool_condemn(struct rp_parent *p, uint32_t w, uint64_t task_id);

void rp_ending_recover(struct rp_worker_entry *e);

#endif
