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
#include "step.h"

#define RP_SLOT_BYTES 256u
#define RP_SLOT_INLINE 200u /* payload bytes that fit into a slot */

enum { RP_SLOT_FREE = 0, RP_SLOT_READY = 1, RP_SLOT_CLAIMED = 2 };

#define RP_SLOT_STATE(word) ((uint32_t)((word) & 0xff))
#define RP_SLOT_OWNER(word) ((uint32_t)((word) >> 8) & 0xffff)
#define RP_SLOT_LAP_SHIFT 24 /* 40 bits: at a million tasks a second on 1,024 slots, 35 years */

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

/* The word of the slot at pos, in that state. */
static inline uint64_t rp_board_word(const struct rp_board *b, uint64_t pos, uint32_t owner, uint32_t state)
{
    return pos >> b->lap_shift << RP_SLOT_LAP_SHIFT | (uint64_t)owner << 8 | state;
}

/* The word with which the slot at pos, its task gone, waits for its next lap. */
static inline uint64_t rp_board_word_of_next_lap(const struct rp_board *b, uint64_t pos)
{
    return rp_board_word(b, pos + b->capacity, 0, RP_SLOT_FREE);
}

static inline struct rp_slot *rp_board_slot(const struct rp_board *b, uint64_t pos)
{
    return &b->slots[pos & (b->capacity - 1)];
}

static inline void rp_board_init(struct rp_board *b, void *at, uint64_t capacity)
{
    b->shared = at;
    b->slots = (void *)((uint8_t *)at + sizeof(struct rp_board_shared));
    b->capacity = capacity;
    b->lap_shift = 0;
    rp_store_relaxed(&b->write_pos, 0u);
    while (1ull << b->lap_shift < capacity)
        b->lap_shift++;
}

/* Finds the first position that is not behind us: READY, or not filled yet (then the board is empty). Pushes claim_pos on
 * the way, at most `steps` times. True if it is READY; *word is then what a claim must find. */
static inline bool rp_board_first(struct rp_board *b, uint64_t steps, uint64_t *at, uint64_t *word)
{
    uint64_t pos = rp_load_seq_cst(&b->shared->claim_pos);
    while (steps--) {
        /* seq_cst: a sleeper's last look (announce / publish); the body is read after a claim, which acquires */
        uint64_t w = rp_load_seq_cst(&rp_board_slot(b, pos)->word);
        *at = pos;
        *word = w;
        if (w == rp_board_word(b, pos, 0, RP_SLOT_READY))
            return true;
        /* FREE(lap): next to be filled. An earlier lap: its worker is still copying, and it will be filled after that.
         * Pushing the hint past either would lose the task that comes there. */
        if (w <= rp_board_word(b, pos, 0, RP_SLOT_FREE))
            return false;
        /* Claimed, or of a later lap: help the hint along. If the exchange fails, pos becomes what another process pushed. */
        RP_STEP("hint: behind");
        if (rp_cas_seq_cst(&b->shared->claim_pos, &pos, pos + 1))
            pos++;
        RP_STEP("hint: pushed");
    }
    return false;
}

/* Parent: the slot to fill, or NULL if the board is full. */
static inline struct rp_slot *rp_board_try_reserve(struct rp_board *b)
{
    uint64_t at, word, pos = rp_load_relaxed(&b->write_pos);
    struct rp_slot *slot = rp_board_slot(b, pos);
    /* acquire: "freed", the worker that had the slot has read all of it */
    if (rp_load_acquire(&slot->word) != rp_board_word(b, pos, 0, RP_SLOT_FREE))
        return NULL;
    /* Cancelled slots are free before the hint has passed them. A whole lap of them must be passed before more follow,
     * or the hint would point a lap back, where FREE of this lap reads as "claimed". */
    if (pos - rp_load_relaxed(&b->shared->claim_pos) >= b->capacity) {
        (void)rp_board_first(b, b->capacity + 1, &at, &word); /* bounded: a hint scribbled over must not hold the parent */
        if (pos - rp_load_relaxed(&b->shared->claim_pos) >= b->capacity)
            return NULL;
    }
    return slot;
}

/* Parent: makes the reserved slot READY and returns its position. */
static inline uint64_t rp_board_publish(struct rp_board *b)
{
    uint64_t pos = rp_load_relaxed(&b->write_pos);
    /* seq_cst: "posted", releases the body, and comes before the look for sleepers (announce / publish) */
    rp_store_seq_cst(&rp_board_slot(b, pos)->word, rp_board_word(b, pos, 0, RP_SLOT_READY));
    rp_store_relaxed(&b->write_pos, pos + 1);
    return pos;
}

/* Parent: takes a task back. False if a worker was faster. */
static inline bool rp_board_try_cancel(struct rp_board *b, uint64_t pos)
{
    uint64_t ready = rp_board_word(b, pos, 0, RP_SLOT_READY);
    return rp_cas_seq_cst(&rp_board_slot(b, pos)->word, &ready, rp_board_word_of_next_lap(b, pos));
}

/* Parent: has the task at pos been claimed (or cancelled)? */
static inline bool rp_board_claimed(const struct rp_board *b, uint64_t pos)
{
    return rp_load_acquire(&rp_board_slot(b, pos)->word) != rp_board_word(b, pos, 0, RP_SLOT_READY);
}

/* Parent: the worker in whose hands the slot at pos is, UINT32_MAX if in none's. */
static inline uint32_t rp_board_owner(const struct rp_board *b, uint64_t pos)
{
    uint64_t word = rp_load_acquire(&rp_board_slot(b, pos)->word);
    uint32_t owner = RP_SLOT_OWNER(word);
    return word == rp_board_word(b, pos, owner, RP_SLOT_CLAIMED) ? owner - 1 : UINT32_MAX;
}

/* Anyone: every position before this one has been claimed or cancelled. */
static inline uint64_t rp_board_claim_pos(const struct rp_board *b)
{
    return rp_load_relaxed(&b->shared->claim_pos);
}

/* Worker `owner`: claims the first READY slot. NULL if there is none. */
static inline struct rp_slot *rp_board_try_claim(struct rp_board *b, uint32_t owner, uint64_t *at)
{
    for (;;) {
        uint64_t pos, word;
        if (!rp_board_first(b, UINT64_MAX, &pos, &word))
            return NULL;
        RP_STEP("claim: found");
        /* "posted": the claim acquires the body */
        if (rp_cas_seq_cst(&rp_board_slot(b, pos)->word, &word, rp_board_word(b, pos, owner + 1, RP_SLOT_CLAIMED))) {
            uint64_t hint = pos;
            RP_STEP("claim: claimed");
            (void)rp_cas_seq_cst(&b->shared->claim_pos, &hint, pos + 1);
            RP_STEP("claim: passed");
            *at = pos;
            return rp_board_slot(b, pos);
        }
    }
}

/* Worker: the body has been copied out, the slot may be filled again. */
static inline void rp_board_release(struct rp_board *b, uint64_t pos)
{
    /* "freed". seq_cst: the caller looks next whether the parent waits for room (announce / publish) */
    rp_store_seq_cst(&rp_board_slot(b, pos)->word, rp_board_word_of_next_lap(b, pos));
}

/* Anyone: is there a READY slot? A "no" is the last look of a sleeper (announce / publish). */
static inline bool rp_board_ready(struct rp_board *b)
{
    uint64_t pos, word;
    return rp_board_first(b, UINT64_MAX, &pos, &word);
}

/* Parent, when worker `owner` is dead: frees the slot it had claimed and gives its task. False if there is none. */
static inline bool rp_board_recover(struct rp_board *b, uint32_t owner, uint64_t *task_id)
{
    for (uint64_t i = 0; i < b->capacity; i++) {
        uint64_t word = rp_load_acquire(&b->slots[i].word);
        if (RP_SLOT_STATE(word) == RP_SLOT_CLAIMED && RP_SLOT_OWNER(word) == owner + 1) {
            *task_id = b->slots[i].task_id;
            word = ((word >> RP_SLOT_LAP_SHIFT) + 1) << RP_SLOT_LAP_SHIFT | RP_SLOT_FREE; /* of its next lap */
            rp_store_release(&b->slots[i].word, word); /* "freed" */
            return true;
        }
    }
    return false;
}

#endif
