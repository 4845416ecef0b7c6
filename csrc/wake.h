/* wake.h - tasks, from the board to a worker: which worker is woken for them, and which has which.
 *
 * For: publishing a task, claiming it, and the sleep of a worker that has none.
 * Guarantees: while tasks wait, no more workers sleep than there is no work for; a task that was claimed is named, at every
 * instant, by the board or by its worker's entry.
 * Does not: say in which order tasks end, nor wake more than one worker at a time.
 *
 * Waking workers. `sleepers` says which sleep; `awake` workers are the ready ones that do not. A worker holds one task at
 * a time, so if no more tasks are outstanding than workers are awake, each task has an awake worker of its own, which
 * looks at the board before it sleeps: no wake is needed, and a round trip costs no system call while its worker spins.
 * Otherwise one sleeper is woken, unless a wake is under way already (`waking`): then that worker, when it has come
 * round and cleared `waking`, looks whether more work waits and wakes the next. So a burst costs the parent one wake, and
 * no more workers wake than there is work for.
 *
 *   word                     writer                              if its writer dies there
 *   --------------------     --------------------------------    -----------------------------------------------------------
 *   a slot's word            see the table in board.h            claimed by the dead: rp_board_recover finds it
 *   current                  the worker                          names its task, or one that is settled
 *   sleepers, ready          worker sets, worker or waker        cleared at its recovery
 *                            clears
 *   waking                   waker sets, woken clears            cleared after recoveries, by rp_pool_resume_after_recovery
 *   a bell                   its sleeper; ringers, by            all are tolled after recoveries
 *                            compare-and-swap
 *   peak_rss                 the worker's guard                  as old as the last look
 *   refill_pos               the parent                          the pool dies with the parent
 */
#ifndef RP_WAKE_H
#define RP_WAKE_H

#include "map.h"

/* Are more processes of the pool awake than there are processors for them? Then no process should spin for long. */
bool rp_pool_crowded(const struct rp_pool *p);
#define rp_pool_crowded(p) rp_pool_crowded(rp_base(p))

/* Has the guard of this process (rp_os_guard) note the peak of its memory in the worker's entry, for the parent to read
 * when the worker is dead: at once, and about once a second but not while the worker sleeps without a task. Until
 * rp_pool_detach. */
void rp_pool_watch(struct rp_worker *p);

/* What a worker that has no task in hand does next. */
enum rp_next {
    RP_WAIT = 0,  /* nothing is there for it */
    RP_RUN = 1,   /* the first task of the board is its own: copied to *task, all but the word, and its slot is free again */
    RP_PURGE = 2, /* shared objects have been given up: it lets go of them, and calls rp_pool_note_purged. Said once */
};
enum rp_next rp_pool_next(struct rp_worker *p, struct rp_slot *task);

/* The two steps to a task. Claims the first, or gives NULL; its body is then copied out. Notes the task as this worker's
 * current one, then frees the slot: at every instant the entry or the slot names it. */
struct rp_slot *rp_pool_try_claim(struct rp_worker *p, uint64_t *pos);
void rp_pool_take(struct rp_worker *p, uint64_t task_id, uint64_t pos);

/* Waits until a task may be there (1) or the pool stops (0). -EINTR. */
int rp_pool_wait_task(struct rp_worker *p);

/* Publishes the reserved slot, then wakes a worker if one is needed. outstanding: tasks on the board or with workers,
 * this one included, whose results have not been taken. Returns the task's position. */
uint64_t rp_pool_publish(struct rp_parent *p, uint64_t outstanding);

/* Will a worker that takes a task run beside this thread, and not instead of it? A guess. */
bool rp_pool_apart(const struct rp_parent *p);

/* Encoded tasks wait for room (or no longer do): the workers will ring when half the board has been claimed. */
void rp_pool_set_backlog(struct rp_parent *p, bool backlog);

/* The task that worker w says it has in hand, or 0. Until its result has been taken in, with the loan if it has one, that
 * task is pending: a worker that names another has written wildly. */
uint64_t rp_pool_current(const struct rp_parent *p, uint32_t w);

/* The worker that has the task, published at `pos`, in its hands; n_workers if none has: it has been answered, or it died
 * with its worker. Only for a task that has been claimed. */
uint32_t rp_pool_holder(const struct rp_parent *p, uint64_t task_id, uint64_t pos);

uint64_t rp_pool_peak_rss(const struct rp_parent *p, uint32_t w); /* as far as it has been noted; 0: not at all */

/* For the protocols above. Is an awake worker, which the leader may be waiting for, on this processor? */
bool rp_wake_worker_on(const struct rp_parent *p, uint64_t cpu);

/* The woken worker is up: it has a task, or has found none. */
void rp_wake_came_round(struct rp_worker *p);

void rp_wake_one(struct rp_pool *p, uint64_t outstanding);
void rp_wake_one_if_work_waits(struct rp_pool *p);

/* Results that no thread asks for must not wait for the next task: their futures hold what the user let go. */
void rp_wake_tell_of_unread(struct rp_worker *p);

/* The ids of the tasks that a dead worker may have held go to task_ids; returns how many. */
uint32_t rp_wake_recover(struct rp_parent *p, uint32_t w, uint64_t task_ids[2]);

#endif
