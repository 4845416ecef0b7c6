/* herald.h - a thread that sleeps in the collector's place, where that must not sleep.
 *
 * In a program whose threads are greenlets, one that sleeps in the kernel holds up all others. So the collector, which is
 * such a thread then, has a herald sleep on its bell, and waits for a descriptor meanwhile, by the program's own means.
 *
 *      collector (a greenlet)                    herald (a thread; runs no Python)
 *      rp_herald_send()                   -->    rp_pool_wait_service()
 *      waits until notify_fd is readable  <--    writes to notify_fd
 *      reads it, does its duties
 *
 * order has three writers, one at a time or by compare-and-swap: the collector sets WAIT only when it is IDLE, the herald
 * takes WAIT back to IDLE before it writes to `notify_fd`, and END, set by rp_herald_end, stays.
 */
#ifndef RP_HERALD_H
#define RP_HERALD_H

#include "pool.h"

struct rp_herald {
    rp_futex order;
    int notify_fd; /* a descriptor, not the herald's own */
    struct rp_parent *pool;
    uintptr_t thread;
};

/* Starts the thread. The herald must not move until rp_herald_end, nor the pool go. */
int rp_herald_begin(struct rp_herald *h, struct rp_parent *pool, int notify_fd);

/* Has it sleep until there is something for the collector. Not again before it has told. */
void rp_herald_send(struct rp_herald *h);

/* Ends the thread, asleep or not, and waits until it has ended. */
void rp_herald_end(struct rp_herald *h);

#endif
