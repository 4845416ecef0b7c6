#include "board.h"
#include "step.h"

enum { FREE = 0, READY = 1, CLAIMED = 2 };

#define STATE(word) ((uint32_t)((word) & 0xff))
#define OWNER(word) ((uint32_t)((word) >> 8) & 0xffff)
#define LAP_SHIFT 24 /* 40 bits: at a million tasks a second on 1,024 slots, 35 years */

static inline uint64_t pack(uint64_t lap, uint32_t owner, uint32_t state)
{
    return lap << LAP_SHIFT | (uint64_t)owner << 8 | state;
}

static inline uint64_t lap_of(const struct rp_board *b, uint64_t pos)
{
    return pos >> b->lap_shift;
}

static inline struct rp_slot *slot_at(const struct rp_board *b, uint64_t pos)
{
    return &b->slots[pos & (b->capacity - 1)];
}

void rp_board_init(struct rp_board *b, void *at, uint64_t capacity)
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
static bool first(struct rp_board *b, uint64_t steps, uint64_t *at, uint64_t *word)
{
    uint64_t pos = rp_load_seq_cst(&b->shared->claim_pos);
    while (steps--) {
        uint64_t lap = lap_of(b, pos);
        /* seq_cst: a sleeper's last look (announce / publish); the body is read after a claim, which acquires */
        uint64_t w = rp_load_seq_cst(&slot_at(b, pos)->word);
        *at = pos;
        *word = w;
        if (w == pack(lap, 0, READY))
            return true;
        /* FREE(lap): next to be filled. An earlier lap: its worker is still copying, and it will be filled after that.
         * Pushing the hint past either would lose the task that comes there. */
        if (w <= pack(lap, 0, FREE))
            return false;
        /* Claimed, or of a later lap: help the hint along. If the exchange fails, pos becomes what another process pushed. */
        RP_STEP("hint: behind");
        if (rp_cas_seq_cst(&b->shared->claim_pos, &pos, pos + 1))
            pos++;
        RP_STEP("hint: pushed");
    }
    return false;
}

struct rp_slot *rp_board_try_reserve(struct rp_board *b)
{
    uint64_t at, word, pos = rp_load_relaxed(&b->write_pos);
    struct rp_slot *slot = slot_at(b, pos);
    /* acquire: "freed", the worker that had the slot has read all of it */
    if (rp_load_acquire(&slot->word) != pack(lap_of(b, pos), 0, FREE))
        return NULL;
    /* Cancelled slots are free before the hint has passed them. A whole lap of them must be passed before more follow,
     * or the hint would point a lap back, where FREE of this lap reads as "claimed". */
    if (pos - rp_load_relaxed(&b->shared->claim_pos) >= b->capacity) {
        (void)first(b, b->capacity + 1, &at, &word); /* bounded: a hint scribbled over must not hold the parent */
        if (pos - rp_load_relaxed(&b->shared->claim_pos) >= b->capacity)
            return NULL;
    }
    return slot;
}

uint64_t rp_board_publish(struct rp_board *b)
{
    uint64_t pos = rp_load_relaxed(&b->write_pos);
    /* seq_cst: "posted", releases the body, and comes before the look for sleepers (announce / publish) */
    rp_store_seq_cst(&slot_at(b, pos)->word, pack(lap_of(b, pos), 0, READY));
    rp_store_relaxed(&b->write_pos, pos + 1);
    return pos;
}

uint64_t rp_board_claim_pos(const struct rp_board *b)
{
    return rp_load_relaxed(&b->shared->claim_pos);
}

bool rp_board_try_cancel(struct rp_board *b, uint64_t pos)
{
    uint64_t ready = pack(lap_of(b, pos), 0, READY);
    return rp_cas_seq_cst(&slot_at(b, pos)->word, &ready, pack(lap_of(b, pos) + 1, 0, FREE));
}

bool rp_board_claimed(const struct rp_board *b, uint64_t pos)
{
    return rp_load_acquire(&slot_at(b, pos)->word) != pack(lap_of(b, pos), 0, READY);
}

uint32_t rp_board_owner(const struct rp_board *b, uint64_t pos)
{
    uint64_t word = rp_load_acquire(&slot_at(b, pos)->word);
    return STATE(word) == CLAIMED && word >> LAP_SHIFT == lap_of(b, pos) ? OWNER(word) - 1 : UINT32_MAX;
}

struct rp_slot *rp_board_try_claim(struct rp_board *b, uint32_t owner, uint64_t *at)
{
    for (;;) {
        uint64_t pos, word;
        if (!first(b, UINT64_MAX, &pos, &word))
            return NULL;
        RP_STEP("claim: found");
        /* "posted": the claim acquires the body */
        if (rp_cas_seq_cst(&slot_at(b, pos)->word, &word, pack(lap_of(b, pos), owner + 1, CLAIMED))) {
            uint64_t hint = pos;
            RP_STEP("claim: claimed");
            (void)rp_cas_seq_cst(&b->shared->claim_pos, &hint, pos + 1);
            RP_STEP("claim: passed");
            *at = pos;
            return slot_at(b, pos);
        }
    }
}

void rp_board_release(struct rp_board *b, uint64_t pos)
{
    /* "freed". seq_cst: the caller looks next whether the parent waits for room (announce / publish) */
    rp_store_seq_cst(&slot_at(b, pos)->word, pack(lap_of(b, pos) + 1, 0, FREE));
}

bool rp_board_ready(struct rp_board *b)
{
    uint64_t pos, word;
    return first(b, UINT64_MAX, &pos, &word);
}

bool rp_board_recover(struct rp_board *b, uint32_t owner, uint64_t *task_id)
{
    for (uint64_t i = 0; i < b->capacity; i++) {
        uint64_t word = rp_load_acquire(&b->slots[i].word);
        if (STATE(word) == CLAIMED && OWNER(word) == owner + 1) {
            *task_id = b->slots[i].task_id;
            rp_store_release(&b->slots[i].word, pack((word >> LAP_SHIFT) + 1, 0, FREE)); /* "freed" */
            return true;
        }
    }
    return false;
}
