/* board.h - the task board: a ring of slots that one process fills and many empty.
 *
 * A slot's word packs (lap, owner, state); lap = pos / capacity says for which round the state holds, so a late reader
 * can never take one round's state for another's. The life of the slot at position pos, lap L:
 *
 *   word               moved on by         how                                  if its mover dies here
 *   ---------------    ----------------    ---------------------------------    -------------------------------------
 *   FREE(L)            the parent          fills the body, then store READY     the pool dies with the parent
 *   READY(L)           any worker w        compare-and-swap to CLAIMED(L, w)    the claim happened or did not: one step
 *                      the parent          compare-and-swap to FREE(L + 1):     (parent)
 *                                          cancelled, the task never runs
 *   CLAIMED(L, w)      worker w            copies the body out, notes the task  parent: finds the word, settles the task
 *                                          in its entry, then store FREE(L+1)   and stores FREE(L + 1) (board_recover)
 *
 * claim_pos is a hint where the first READY slot may be: every position below it has been claimed or cancelled. Anyone
 * may push it past a slot that is no longer READY, so a worker that dies between its claim and the push delays no other.
 * (There is no CANCELLED state: a cancelled slot is free at once, and the lap in the word tells those that pass by.)
 */
#ifndef RP_BOARD_H
#define RP_BOARD_H

#include "base.h"

#define RP_SLOT_BYTES 256u
#define RP_SLOT_INLINE 200u /* payload bytes that fit into a slot */

struct rp_slot {
    rp_word word;
    uint64_t task_id;
    uint64_t fn_offset; /* the function's pickle, a block in the parent's arena */
    uint32_t fn_bytes;
    uint32_t fn_id; /* 0: the payload holds the function too */
    uint64_t offset;  /* the payload's block in the parent's arena; 0: it is inline */
    uint64_t bytes;   /* of the payload */
    uint32_t kind;    /* how the payload is encoded: enum rp_task_kind of wire.h */
    uint32_t reserved;
    uint8_t inline_bytes[RP_SLOT_INLINE];
};
RP_ASSERT_SIZE(struct rp_slot, RP_SLOT_BYTES);

struct rp_board_shared { /* followed by the slots */
    _Alignas(RP_LINE) rp_word claim_pos; /* only ever grows, by compare-and-swap; writer: anyone */
    char pad[RP_LINE - sizeof(rp_word)];
};
RP_ASSERT_SIZE(struct rp_board_shared, RP_LINE);

struct rp_board { /* one process's hold */
    struct rp_board_shared *shared;
    struct rp_slot *slots;
    uint64_t capacity; /* a power of two */
    uint32_t lap_shift;
    rp_word write_pos; /* parent: the next position to publish; relaxed: private, but its threads may glance at it */
};

static inline uint64_t rp_board_bytes(uint64_t capacity)
{
    return sizeof(struct rp_board_shared) + capacity * RP_SLOT_BYTES;
}

void rp_board_init(struct rp_board *b, void *at, uint64_t capacity);

/* Parent: the slot to fill, or NULL if the board is full. */
struct rp_slot *rp_board_try_reserve(struct rp_board *b);

/* Parent: makes the reserved slot READY and returns its position. */
uint64_t rp_board_publish(struct rp_board *b);

/* Parent: takes a task back. False if a worker was faster. */
bool rp_board_try_cancel(struct rp_board *b, uint64_t pos);

/* Parent: has the task at pos been claimed (or cancelled)? */
bool rp_board_claimed(const struct rp_board *b, uint64_t pos);

/* Parent: the worker in whose hands the slot at pos is, UINT32_MAX if in none's. */
uint32_t rp_board_owner(const struct rp_board *b, uint64_t pos);

/* Anyone: every position before this one has been claimed or cancelled. */
uint64_t rp_board_claim_pos(const struct rp_board *b);

/* Worker `owner`: claims the first READY slot. NULL if there is none. */
struct rp_slot *rp_board_try_claim(struct rp_board *b, uint32_t owner, uint64_t *pos);

/* Worker: the body has been copied out, the slot may be filled again. */
void rp_board_release(struct rp_board *b, uint64_t pos);

/* Anyone: is there a READY slot? A "no" is the last look of a sleeper (announce / publish). */
bool rp_board_ready(struct rp_board *b);

/* Parent, when worker `owner` is dead: frees the slot it had claimed and gives its task. False if there is none. */
bool rp_board_recover(struct rp_board *b, uint32_t owner, uint64_t *task_id);

#endif
