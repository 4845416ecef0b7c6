#include "spin.h"

/* Spinning. To wake a processor that has gone idle takes 30 to 120 us, so a wait spins about as long before it sleeps: at
 * most about twice the cost of the better choice, made in hindsight. A long wait halves the next spin, down to
 * RP_SPIN_MIN_NS; a short one restores it. What counts is how long the wait was, not whether the spin caught the event, and
 * short is anything that two wakes could have caused (RP_SPIN_WORTH_NS): two sides that both sleep make each other wait that
 * long, and if either took it for a long wait, a round trip that can take 1 us would stay at 80 us for ever. Where a wake
 * takes longer than the spin, each side falls asleep just before the other is up, and that would go on for ever too: so
 * one in RP_SPIN_STUBBORN waits after such ones spins as long as two wakes take.
 * Where more processes are awake than there are processors, a spin takes the time from the very process it waits for, and
 * RP_SPIN_CROWDED_NS is all it gets. The same holds where both sides are on one processor, as happens when others keep the
 * rest busy: then neither spins, but for one wait in RP_SPIN_TOGETHER, which shows the scheduler two that want to run. */
#define RP_SPIN_MAX_NS 80000u
#define RP_SPIN_MIN_NS 2000u
#define RP_SPIN_WORTH_NS 300000u
#define RP_SPIN_TOGETHER 8u /* arbitrary */
#define RP_SPIN_STUBBORN 8u /* arbitrary */

void rp_spin_init(struct rp_spin *spin)
{
    spin->budget_ns = RP_SPIN_MAX_NS;
}

void rp_spin_learn(struct rp_spin *spin, uint64_t waited_ns)
{
    if (waited_ns <= RP_SPIN_WORTH_NS)
        spin->budget_ns =
            waited_ns > RP_SPIN_MAX_NS && ++spin->slept % RP_SPIN_STUBBORN == 0 ? RP_SPIN_WORTH_NS : RP_SPIN_MAX_NS;
    else
        spin->budget_ns = spin->budget_ns / 2 > RP_SPIN_MIN_NS ? spin->budget_ns / 2 : RP_SPIN_MIN_NS;
}

bool rp_spin_apart(struct rp_spin *spin, rp_word *mine, uint64_t cpu, bool together)
{
    if (rp_load_relaxed(mine) != cpu) /* relaxed, here and where it is read: a hint */
        rp_store_relaxed(mine, cpu);
    return !together || spin->together++ % RP_SPIN_TOGETHER == 0;
}

uint64_t rp_spin_await_bytes(const rp_word *written, uint64_t bytes)
{
    uint64_t have, start = 0;
    while ((have = rp_load_acquire(written)) < bytes) { /* "written" to "read": what it counts is there */
        /* The parent copies, and so is mostly faster than any sleep. If it has lost its processor, it may want this one, which
         * this worker took when it was woken. If it is dead, the guard ends this process. */
        uint64_t now;
        for (uint32_t i = 0; i < RP_PAUSES; i++)
            rp_pause();
        now = rp_os_now_ns();
        if (start == 0)
            start = now;
        else if (now - start > RP_SPIN_MAX_NS)
            (void)rp_os_nap(RP_NAP_MIN_NS);
        else if (now - start > RP_SPIN_CROWDED_NS)
            rp_os_yield();
    }
    return have;
}
