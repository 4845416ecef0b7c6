/* results.h - results, from a worker to the parent: the rings, the thread that reads them, and the collector.
 *
 * For: publishing a result, room for it, and the sleep of the parent's two kinds of threads: the *leader*, one of those that
 * wait in result(), and the *collector*, which does what must be done although no thread waits.
 * Guarantees: a published result is whole, and some thread that should read it is up or will be rung.
 * Does not: believe what a result says; the reader does that, or not.
 *
 *   word           writer        if its writer dies there
 *   -----------    ----------    -----------------------------------------------------------------------
 *   seq            the worker    not published: it is never read; published: it is whole
 *   read_pos       the parent    the pool dies with the parent
 *   waits_space    the worker    cleared at its recovery, and the ring is reset
 *   collect        the parent    the pool dies with the parent
 */
#ifndef RP_RESULTS_H
#define RP_RESULTS_H

#include "wake.h"

/* A slot of the result ring, waiting for the parent to make room if need be (it may take as long as the parent likes). */
struct rp_result *rp_pool_try_result(struct rp_worker *p);
int rp_pool_wait_space(struct rp_worker *p);
void rp_pool_publish_result(struct rp_worker *p, bool last); /* last: the task is answered, not a part of it */

bool rp_pool_has_results(const struct rp_parent *p);

/* Hands back the slots of worker w's ring that have been read, and wakes w if it waits for them. */
void rp_pool_commit(struct rp_parent *p, uint32_t w);

/* Keeps the mean time between results: n were taken just now. */
void rp_pool_note_drained(struct rp_parent *p, uint64_t n);

/* The leader: waits until there may be results, or it was kicked since rp_pool_begin_leading (0); -EINTR; -ETIMEDOUT.
 * A kick is how another thread of the parent says that the leader's wish has come true; the leader begins anew (which
 * forgets kicks) before it looks at what it waits for. */
int rp_pool_wait_results(struct rp_parent *p, uint64_t outstanding, int64_t timeout_ns);
void rp_pool_begin_leading(struct rp_parent *p);
void rp_pool_kick_leader(struct rp_parent *p);

/* The collector: waits until there is something for it. It begins anew before it looks through its duties. */
int rp_pool_wait_service(struct rp_parent *p);
void rp_pool_begin_service(struct rp_parent *p);
void rp_pool_kick_service(struct rp_parent *p);
void rp_pool_set_collect(struct rp_parent *p, bool on);

void rp_results_recover(struct rp_parent *p, uint32_t w);

#endif
