/* spin.h - how long a wait spins before it sleeps.
 *
 * For: every wait of either side that may be short. Private to a process; nothing here is shared but the words that a caller
 * passes in. Guarantees no more than that a spin ends: what it waits for is looked at again before the sleep.
 */
#ifndef RP_SPIN_H
#define RP_SPIN_H

#include "os.h"

struct rp_spin { /* how long a wait spins before it sleeps; private */
    uint64_t budget_ns;
    uint32_t together; /* waits since it was found on one processor with the other side */
    uint32_t slept;    /* short waits that were slept through */
};

/* Waits until `bytes` of a payload that the parent is writing have been written. Returns how many are by then. */
uint64_t rp_spin_await_bytes(const rp_word *written, uint64_t bytes);

#define RP_PAUSES 16u /* between two looks at the clock: a look costs about as much */
#define RP_SPIN_CROWDED_NS 4000u
#define RP_NAP_MIN_NS 20000u /* of a sleep by the clock: a shorter one is not worth the call */

void rp_spin_init(struct rp_spin *spin);

/* A wait has taken so long. */
void rp_spin_learn(struct rp_spin *spin, uint64_t waited_ns);

/* Notes where this side is, and says whether it may spin, given whether the other is on the same processor. */
bool rp_spin_apart(struct rp_spin *spin, rp_word *mine, uint64_t cpu, bool together);

#endif
