#include "arena.h"

#include <string.h>

#define RP_USED 0x80u
#define GRAIN_MIN (64u << 10)
#define HUGE_FEW 32u /* an arena that may have fewer huge pages does without: each is had as a whole. Arbitrary */

/* For this many untouched bytes or more, the pages are had in one call rather than one by one as they are written:
 * that takes 40 ms for 128 MiB, not 55. Below, a call costs about what it saves. */
#define PREPARE (512ull << 10)

#define BEGINNING (64ull << 20) /* of the region: what the records are for at first. They take 9 bytes a unit */

static void *reserved(uint64_t bytes)
{
    void *at;
    return rp_os_reserve(bytes, &at) ? NULL : at;
}

static void *resized(void *at, uint64_t bytes, uint64_t to)
{
    return rp_os_resize(bytes, to, &at) ? NULL : at;
}

int rp_arena_init(struct rp_arena *a, uint64_t base, uint64_t bytes, struct rp_segment *segment, uint64_t quota, uint64_t keep)
{
    uint64_t units = bytes >> RP_UNIT_SHIFT, grain = GRAIN_MIN, huge = segment ? rp_os_huge_page_bytes() : 0;
    if (units == 0 || (bytes & (bytes - 1)) || units >= RP_NIL)
        return -EINVAL;
    memset(a, 0, sizeof *a);
    a->base = base;
    a->most = bytes;
    a->bytes = bytes < BEGINNING ? bytes : BEGINNING;
    units = a->bytes >> RP_UNIT_SHIFT;
    if (huge)
        segment->huge = huge <= quota / HUGE_FEW ? 1 : -1;
    while (grain < huge && huge <= quota / HUGE_FEW)
        grain *= 2;
    while ((uint64_t)1 << a->grain_shift < grain)
        a->grain_shift++;
    a->segment = segment;
    a->keep = keep;
    a->quota = quota < grain ? grain : quota / grain * grain;
    a->units = (uint32_t)units;
    while ((1ull << a->top) < units)
        a->top++;
    a->touched_bytes = ((bytes >> (a->grain_shift + 6)) + 1) * sizeof *a->touched;
    a->touched = reserved(a->touched_bytes);
    a->next = reserved(units * sizeof *a->next);
    a->prev = reserved(units * sizeof *a->prev);
    a->tag = reserved(units);
    if (!a->touched || !a->next || !a->prev || !a->tag) {
        rp_arena_destroy(a);
        return -ENOMEM;
    }
    for (uint32_t k = 0; k < RP_ORDERS; k++)
        a->free[k] = RP_NIL;
    a->free[a->top] = 0;
    a->next[0] = a->prev[0] = RP_NIL;
    a->tag[0] = (uint8_t)(a->top + 1);
    return 0;
}

void rp_arena_destroy(struct rp_arena *a)
{
    rp_os_unmap(a->touched, a->touched_bytes);
    rp_os_unmap(a->next, a->units * sizeof *a->next);
    rp_os_unmap(a->prev, a->units * sizeof *a->prev);
    rp_os_unmap(a->tag, a->units);
    a->touched = NULL;
    a->next = a->prev = NULL;
    a->tag = NULL;
}

static uint32_t grain_order(const struct rp_arena *a)
{
    return a->grain_shift - RP_UNIT_SHIFT;
}

static void push(struct rp_arena *a, uint32_t unit, uint32_t order)
{
    uint32_t first = a->free[order];
    a->next[unit] = first;
    a->prev[unit] = RP_NIL;
    if (first != RP_NIL)
        a->prev[first] = unit;
    a->free[order] = unit;
    a->tag[unit] = (uint8_t)(order + 1);
}

static void take(struct rp_arena *a, uint32_t unit, uint32_t order)
{
    uint32_t next = a->next[unit], prev = a->prev[unit];
    if (next != RP_NIL)
        a->prev[next] = prev;
    if (prev != RP_NIL)
        a->next[prev] = next;
    else
        a->free[order] = next;
    a->tag[unit] = 0;
}

/* How many bytes of the used block at `unit` count: all of a small one, of a large one those that were asked for. */
static uint64_t covered(const struct rp_arena *a, uint32_t unit, uint32_t order)
{
    return order < grain_order(a) ? (uint64_t)1 << (order + RP_UNIT_SHIFT) : (uint64_t)a->next[unit] << a->grain_shift;
}

/* Gives what has been touched of these idle grains back, the highest first, until no more than `most` is resident. */
static void give_back(struct rp_arena *a, uint64_t first, uint64_t grain, uint64_t most)
{
    const uint64_t above = grain, resident = a->resident;
    uint64_t end;
    while (grain > first && a->resident > most) {
        uint64_t word = a->touched[(grain - 1) / 64];
        if (word == 0 && grain % 64 == 0 && grain - first >= 64) {
            grain -= 64;
            continue;
        }
        for (end = grain; grain > first && a->touched[(grain - 1) / 64] >> ((grain - 1) % 64) & 1; grain--)
            if (a->resident - ((end - grain) << a->grain_shift) <= most)
                break;
        if (grain == end) {
            grain--;
            continue;
        }
        if (rp_segment_punch(a->segment, a->base + (grain << a->grain_shift), (end - grain) << a->grain_shift))
            return; /* then it stays; nothing depends on it */
        a->resident -= (end - grain) << a->grain_shift;
        for (uint64_t i = grain; i < end; i++)
            a->touched[i / 64] &= ~(1ull << (i % 64));
    }
    if (a->resident < resident && a->segment->mapped > a->resident + (a->quota < RP_WINDOWS_KEEP ? a->quota : RP_WINDOWS_KEEP))
        rp_segment_unmap(a->segment, a->base + (first << a->grain_shift), a->base + (above << a->grain_shift),
                         a->base + (grain << a->grain_shift));
}

/* The same for a free block. */
static void give_block_back(struct rp_arena *a, uint32_t unit, uint32_t order, uint64_t most)
{
    uint64_t first = unit >> grain_order(a);
    give_back(a, first, first + (1ull << (order - grain_order(a))), most);
}

/* The same for all free blocks. */
static void trim(struct rp_arena *a, uint64_t most)
{
    for (uint32_t order = a->top + 1; a->segment && order-- > grain_order(a);)
        for (uint32_t unit = a->free[order]; unit != RP_NIL && a->resident > most; unit = a->next[unit])
            give_block_back(a, unit, order, most);
}

/* The same for what used blocks do not cover: an earlier owner of that memory may have touched it. Reads all blocks. */
static void trim_ends(struct rp_arena *a, uint64_t most)
{
    uint32_t order;
    for (uint32_t unit = 0; a->segment && unit < a->units && a->resident > most; unit += 1u << order) {
        uint64_t first = unit >> grain_order(a);
        order = (a->tag[unit] & ~RP_USED) - 1u;
        if (a->tag[unit] & RP_USED && order >= grain_order(a))
            give_back(a, first + a->next[unit], first + (1ull << (order - grain_order(a))), most);
    }
}

/* Accounts for what a block, which has its tag, is going to touch. False if that would be more than the quota. */
static bool cover(struct rp_arena *a, uint32_t unit, uint32_t order, uint64_t bytes)
{
    uint64_t first = unit >> grain_order(a), grains = (bytes + ((uint64_t)1 << a->grain_shift) - 1) >> a->grain_shift;
    uint64_t end = first + (order < grain_order(a) ? 1 : grains), fresh = 0;
    for (uint64_t i = first; i < end; i++)
        fresh += !(a->touched[i / 64] >> (i % 64) & 1);
    fresh <<= a->grain_shift;
    a->next[unit] = (uint32_t)grains;
    if (fresh > a->quota)
        return false;
    if (a->resident + fresh > a->quota) {
        trim(a, a->quota - fresh);
        trim_ends(a, a->quota - fresh);
        if (a->resident + fresh > a->quota)
            return false;
    }
    for (uint64_t i = first; i < end; i++)
        a->touched[i / 64] |= 1ull << (i % 64);
    a->resident += fresh;
    a->busy += covered(a, unit, order);
    if (a->segment && fresh >= PREPARE) {
        uint8_t *at = rp_segment_at(a->segment, a->base + (first << a->grain_shift), bytes);
        if (at)
            rp_os_populate(at, bytes);
    }
    return true;
}

/* Sees to it that a block has an address here. */
static bool is_mapped(struct rp_arena *a, uint32_t unit, uint64_t bytes)
{
    uint64_t offset = a->base + ((uint64_t)unit << RP_UNIT_SHIFT);
    if (!a->segment || a->lends || rp_segment_at(a->segment, offset, bytes))
        return true;
    for (uint32_t order = RP_WINDOW_LEAST - RP_UNIT_SHIFT; order <= a->top; order++)
        for (uint32_t i = a->free[order]; i != RP_NIL; i = a->next[i])
            rp_segment_unmap(a->segment, a->base + ((uint64_t)i << RP_UNIT_SHIFT),
                             a->base + ((uint64_t)(i + (1u << order)) << RP_UNIT_SHIFT), 0);
    return rp_segment_at(a->segment, offset, bytes) != NULL;
}

/* A block joins its free buddies. */
static uint32_t join(struct rp_arena *a, uint32_t unit, uint32_t *order)
{
    a->tag[unit] = 0;
    while (*order < a->top) {
        uint32_t buddy = unit ^ (1u << *order);
        if (a->tag[buddy] != *order + 1)
            break;
        take(a, buddy, *order);
        unit &= ~(1u << *order);
        (*order)++;
    }
    push(a, unit, *order);
    return unit;
}

/* Twice as much of the region is in use from now on. */
static bool grow(struct rp_arena *a)
{
    uint64_t units = a->units, bytes = units * sizeof *a->next;
    void *tag = NULL, *next = NULL, *prev = NULL;
    if (a->bytes >= a->most)
        return false;
    if ((tag = resized(a->tag, units, 2 * units)))
        a->tag = tag;
    if (tag && (next = resized(a->next, bytes, 2 * bytes)))
        a->next = next;
    if (next && (prev = resized(a->prev, bytes, 2 * bytes)))
        a->prev = prev;
    if (!prev) { /* what has grown shrinks again, where it is */
        if (tag)
            (void)resized(tag, 2 * units, units);
        if (next)
            (void)resized(next, 2 * bytes, bytes);
        return false;
    }
    a->units *= 2;
    a->bytes *= 2;
    if (a->free[a->top] == RP_NIL) {
        push(a, (uint32_t)units, a->top++);
    } else { /* all was free, and is again */
        take(a, 0, a->top++);
        push(a, 0, a->top);
    }
    return true;
}

int rp_arena_alloc(struct rp_arena *a, uint64_t bytes, uint64_t *offset)
{
    uint32_t want = 0, order, unit;
    if (bytes > a->most || bytes > a->quota)
        return -E2BIG;
    while (((uint64_t)1 << (want + RP_UNIT_SHIFT)) < bytes)
        want++;
    if (a->segment)
        a->segment->refused = 0;
    do
        for (order = want; order <= a->top && a->free[order] == RP_NIL; order++)
            ;
    while (order > a->top && grow(a));
    if (order > a->top)
        return -ENOMEM;
    unit = a->free[order];
    take(a, unit, order);
    while (order > want) { /* keep the lower half, free the upper */
        order--;
        push(a, unit + (1u << order), order);
    }
    a->tag[unit] = (uint8_t)(RP_USED | (order + 1));
    if (!is_mapped(a, unit, bytes) || !cover(a, unit, order, bytes)) {
        (void)join(a, unit, &order);
        return -ENOMEM;
    }
    a->used_bytes += (uint64_t)1 << (order + RP_UNIT_SHIFT);
    a->used_blocks++;
    *offset = a->base + ((uint64_t)unit << RP_UNIT_SHIFT);
    return 0;
}

int rp_arena_free(struct rp_arena *a, uint64_t offset, uint64_t *block_bytes)
{
    uint64_t at = offset - a->base; /* wraps for an offset below base, and is refused with the rest */
    uint32_t unit, order;
    if (at >= a->bytes || (at & ((1u << RP_UNIT_SHIFT) - 1)))
        return -EINVAL;
    unit = (uint32_t)(at >> RP_UNIT_SHIFT);
    if (!(a->tag[unit] & RP_USED))
        return -EINVAL;
    order = (a->tag[unit] & ~RP_USED) - 1u;
    a->busy -= covered(a, unit, order);
    *block_bytes = (uint64_t)1 << (order + RP_UNIT_SHIFT);
    a->used_bytes -= *block_bytes;
    a->used_blocks--;
    /* Too much is idle: what others have left goes first, for this block is the likeliest to come again. A quarter less than
     * may be kept stays, so that the next blocks do not come here in their turn. */
    if (a->resident - a->busy > a->keep)
        trim(a, a->busy + a->keep - a->keep / 4);
    unit = join(a, unit, &order);
    if (a->resident - a->busy > a->keep && order >= grain_order(a) && a->segment)
        give_block_back(a, unit, order, a->busy + a->keep - a->keep / 4);
    return 0;
}

int rp_arena_check(const struct rp_arena *a)
{
    uint64_t used_bytes = 0, used_blocks = 0, free_blocks = 0, listed = 0, busy = 0, resident = 0;
    uint32_t unit = 0;
    while (unit < a->units) {
        uint32_t tag = a->tag[unit], order = (tag & ~RP_USED) - 1u;
        if (tag == 0 || order > a->top || (unit & ((1u << order) - 1)))
            return 1; /* the blocks tile the region, each aligned to its size */
        if (tag & RP_USED) {
            used_bytes += (uint64_t)1 << (order + RP_UNIT_SHIFT);
            used_blocks++;
            busy += covered(a, unit, order);
            for (uint64_t at = 0; at < covered(a, unit, order); at += (uint64_t)1 << a->grain_shift) {
                uint64_t grain = (unit >> grain_order(a)) + (at >> a->grain_shift);
                if (!(a->touched[grain / 64] >> (grain % 64) & 1))
                    return 5; /* what used blocks cover has been touched */
            }
        } else {
            free_blocks++;
            if (order < a->top && a->tag[unit ^ (1u << order)] == order + 1)
                return 2; /* two free buddies */
        }
        for (uint32_t i = 1; i < 1u << order; i++)
            if (a->tag[unit + i])
                return 1;
        unit += 1u << order;
    }
    for (uint64_t grain = 0; grain << a->grain_shift < a->bytes; grain++)
        resident += (a->touched[grain / 64] >> (grain % 64) & 1) << a->grain_shift;
    if (a->resident > a->quota)
        return 6; /* the quota */
    if (used_bytes != a->used_bytes || used_blocks != a->used_blocks || busy != a->busy || resident != a->resident)
        return 3; /* the sums */
    for (uint32_t k = 0; k <= a->top; k++)
        for (uint32_t u = a->free[k], p = RP_NIL; u != RP_NIL; p = u, u = a->next[u], listed++)
            if (a->tag[u] != k + 1 || a->prev[u] != p || listed > free_blocks)
                return 4; /* the lists hold just the free blocks */
    return listed == free_blocks ? 0 : 4;
}
