/* ring.h - a ring of fixed-size slots from one process to one other. Wait-free on both sides.
 *
 *      writer                          slot idx = pos & mask                       reader
 *      try_reserve: not lapping   -->  | seq = pos + 1 | body ...            |  --> try_peek: seq == read_pos + 1
 *      publish: seq = pos + 1          |      "published"                    |      release: read_pos + 1
 *      cached read_pos            <--  shared read_pos, "handed back"        <--    commit
 *
 * A slot is full when its first word says so: the reader finds out with the same cache line that brings the body, and
 * there is no shared write position at all.
 *
 * If the writer dies: before publishing, the slot's seq is still old and it is never read; after, the result is
 * whole. If the reader dies, the ring fills up, and the owner of the pool replaces it (rp_ring_reset) when no other process
 * has hold of it. Nothing read here is an index into memory: positions are private to each side but for read_pos,
 * of which the writer only takes the distance to its own and believes no more than the capacity.
 */
#ifndef RP_RING_H
#define RP_RING_H

#include "base.h"

struct rp_ring_shared { /* followed by capacity * slot_bytes of slots */
    _Alignas(RP_LINE) rp_word read_pos; /* writer: the reader */
    char pad[RP_LINE - sizeof(rp_word)];
};
RP_ASSERT_SIZE(struct rp_ring_shared, RP_LINE);

struct rp_ring { /* one side's hold; each side uses its own fields */
    struct rp_ring_shared *shared;
    uint8_t *slots;
    uint64_t capacity; /* a power of two */
    uint32_t slot_shift;
    uint64_t write_pos;  /* writer: the next position to publish */
    uint64_t space_pos;  /* writer: first position that the last known read_pos does not make room for */
    rp_word read_pos;    /* reader: the next position to read; relaxed: private, but its threads may glance at it */
    uint64_t commit_pos; /* reader: what shared->read_pos says */
};

static inline uint64_t rp_ring_bytes(uint64_t capacity, uint32_t slot_shift)
{
    return sizeof(struct rp_ring_shared) + (capacity << slot_shift);
}

static inline void rp_ring_rewind(struct rp_ring *r)
{
    r->space_pos = r->capacity;
    r->write_pos = r->commit_pos = 0;
    rp_store_relaxed(&r->read_pos, 0u);
}

static inline void rp_ring_init(struct rp_ring *r, void *at, uint64_t capacity, uint32_t slot_shift)
{
    r->shared = at;
    r->slots = (uint8_t *)at + sizeof(struct rp_ring_shared);
    r->capacity = capacity;
    r->slot_shift = slot_shift;
    rp_ring_rewind(r);
}

static inline rp_word *rp_ring_slot(const struct rp_ring *r, uint64_t pos)
{
    return (rp_word *)(void *)(r->slots + ((pos & (r->capacity - 1)) << r->slot_shift));
}

/* Makes the ring as new. Only while no other process uses it. */
static inline void rp_ring_reset(struct rp_ring *r)
{
    rp_store_relaxed(&r->shared->read_pos, 0u);
    for (uint64_t i = 0; i < r->capacity; i++)
        rp_store_relaxed(rp_ring_slot(r, i), 0u);
    rp_ring_rewind(r);
}

/* Writer: the slot to fill (all but its first word), or NULL if the ring is full. */
static inline void *rp_ring_try_reserve(struct rp_ring *r)
{
    if (r->write_pos == r->space_pos) {
        uint64_t read_pos = rp_load_seq_cst(&r->shared->read_pos); /* "handed back"; seq_cst: rp_pool_wait_space */
        if (r->write_pos - read_pos >= r->capacity)                /* full, or a reader that lies: wait */
            return NULL;
        r->space_pos = read_pos + r->capacity;
    }
    return rp_ring_slot(r, r->write_pos);
}

/* Writer: makes the reserved slot visible. seq_cst because the caller looks for a sleeper next (announce / publish). */
static inline void rp_ring_publish(struct rp_ring *r)
{
    rp_store_seq_cst(rp_ring_slot(r, r->write_pos), r->write_pos + 1); /* "published" */
    r->write_pos++;
}

/* Writer: slots published and not known to be handed back. Never less than the truth. */
static inline uint64_t rp_ring_unread(const struct rp_ring *r)
{
    return r->write_pos - rp_load_relaxed(&r->shared->read_pos); /* relaxed: a figure, nothing is read by it */
}

/* Reader: the next full slot, or NULL. seq_cst because a sleeper's last look comes through here; a plain mov on x86. */
static inline void *rp_ring_try_peek(const struct rp_ring *r)
{
    uint64_t pos = rp_load_relaxed(&r->read_pos);
    rp_word *slot = rp_ring_slot(r, pos);
    return rp_load_seq_cst(slot) == pos + 1 ? (void *)slot : NULL; /* "published" */
}

/* Reader: done with the peeked slot. The writer may have it back only after commit. */
static inline void rp_ring_release(struct rp_ring *r)
{
    rp_store_relaxed(&r->read_pos, rp_load_relaxed(&r->read_pos) + 1);
}

/* Reader: are there released slots that have not been handed back? */
static inline bool rp_ring_uncommitted(const struct rp_ring *r)
{
    return r->commit_pos != rp_load_relaxed(&r->read_pos); /* relaxed: private */
}

/* Reader: hands the released slots back, many at a time, so that the writer's line moves seldom.
 * seq_cst: the caller looks next whether the writer sleeps until there is space. */
static inline void rp_ring_commit(struct rp_ring *r)
{
    uint64_t pos = rp_load_relaxed(&r->read_pos);
    if (r->commit_pos != pos) {
        r->commit_pos = pos;
        rp_store_seq_cst(&r->shared->read_pos, pos); /* "handed back" */
    }
}

#endif
