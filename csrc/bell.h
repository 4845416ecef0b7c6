/* bell.h - one sleeper, many ringers, no lost wake-up.
 *
 * The race that this avoids (a sleeper S waits for work, a ringer R makes some):
 *
 *      broken                                     right
 *      S: looks, finds no work                    S: announces itself   (seq_cst)
 *      R: publishes work                          S: looks once more    (seq_cst)
 *      R: looks, finds no sleeper                 R: publishes work     (seq_cst)
 *      S: sleeps; no ring will come               R: looks for sleepers (seq_cst)
 *
 * On the right, in the one order that all seq_cst operations have, either S's second look comes after R's publication,
 * and S finds the work; or it comes before, and then so does S's announcement, and R finds S. That both sides use
 * sequentially consistent *operations* on both words is what makes it true; acquire and release would not do, since they
 * let each side's look overtake its own store. This pairing is called "announce / publish" wherever it is used.
 *
 * A ringer takes the announcement away before it wakes, so at most one wake is under way. Ringers that die at any
 * point: before taking it, the sleeper is still announced and the next ringer rings; between taking it and waking, the
 * sleeper sleeps on unannounced. The recovery of the ringer closes that one gap (rp_bell_toll).
 * A sleeper that dies leaves its announcement; ringing it is a wasted system call and nothing else.
 */
#ifndef RP_BELL_H
#define RP_BELL_H

#include "os.h"
#include "step.h"

enum { RP_AWAKE = 0, RP_ASLEEP = 1 };

struct rp_bell {
    rp_futex word; /* RP_ASLEEP: written by its one sleeper. RP_AWAKE: by the sleeper, or a ringer's compare-and-swap */
};

/* The sleeper: announce, look for work once more, then sleep (or cancel if there was work). */
static inline void rp_bell_announce(struct rp_bell *bell)
{
    rp_store_seq_cst(&bell->word, (uint32_t)RP_ASLEEP); /* announce / publish */
}

static inline void rp_bell_cancel(struct rp_bell *bell)
{
    /* A ringer that has seen the announcement wakes in vain, and rings no other thread: what the sleeper looks at after this
     * must hold what that one has published. */
    rp_store_seq_cst(&bell->word, (uint32_t)RP_AWAKE);
}

/* Sleeps until rung. 0, -EINTR or -ETIMEDOUT; the announcement is withdrawn in every case. */
static inline int rp_bell_sleep(struct rp_bell *bell, int64_t timeout_ns)
{
    int err = rp_os_futex_wait(&bell->word, RP_ASLEEP, timeout_ns);
    RP_STEP("sleep: up");
    rp_bell_cancel(bell);
    return err;
}

/* The ringer, after it has published (seq_cst). True if this call is the one that wakes the sleeper. */
static inline bool rp_bell_ring(struct rp_bell *bell)
{
    uint32_t asleep = RP_ASLEEP;
    if (rp_load_seq_cst(&bell->word) != RP_ASLEEP) /* announce / publish */
        return false;
    RP_STEP("ring: asleep");
    if (!rp_cas_seq_cst(&bell->word, &asleep, (uint32_t)RP_AWAKE))
        return false;
    RP_STEP("ring: taken");
    rp_os_futex_wake(&bell->word);
    RP_STEP("ring: woken");
    return true;
}

/* Wakes the sleeper whether announced or not: after a death, when a ringer may have died half-way. */
static inline void rp_bell_toll(struct rp_bell *bell)
{
    rp_store_seq_cst(&bell->word, (uint32_t)RP_AWAKE);
    rp_os_futex_wake(&bell->word);
}

#endif
