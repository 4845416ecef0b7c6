#include "arena.h"

#include <string.h>

#define RP_USED 0x80u
#define GRAIN (1ull << RP_GRAIN_SHIFT)
#define GRAIN_ORDER (RP_GRAIN_SHIFT - RP_UNIT_SHIFT)

int rp_arena_init(struct rp_arena *a, uint64_t base, uint64_t bytes, uint8_t *memory, uint64_t keep)
{
    uint64_t units = bytes >> RP_UNIT_SHIFT, words;
    int err;
    if (units == 0 || (bytes & (bytes - 1)) || units >= RP_NIL)
        return -EINVAL;
    memset(a, 0, sizeof *a);
    a->base = base;
    a->bytes = bytes;
    words = ((bytes >> (RP_GRAIN_SHIFT + 6)) / 512 + 1) * 512; /* whole pages: so the records end with one */
    a->memory = memory;
    a->keep = keep;
    a->units = (uint32_t)units;
    while ((1ull << a->top) < units)
        a->top++;
    a->records_bytes = units * (2 * sizeof(uint32_t) + 1) + words * sizeof(uint64_t);
    err = rp_os_reserve(a->records_bytes, &a->records);
    if (err)
        return err;
    a->touched = a->records;
    a->next = (uint32_t *)(void *)(a->touched + words);
    a->prev = a->next + units;
    a->tag = (uint8_t *)(a->prev + units);
    for (uint32_t k = 0; k < RP_ORDERS; k++)
        a->free[k] = RP_NIL;
    a->free[a->top] = 0;
    a->next[0] = a->prev[0] = RP_NIL;
    a->tag[0] = (uint8_t)(a->top + 1);
    return 0;
}

void rp_arena_destroy(struct rp_arena *a)
{
    rp_os_unmap(a->records, a->records_bytes);
    a->records = NULL;
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
    return order < GRAIN_ORDER ? (uint64_t)1 << (order + RP_UNIT_SHIFT) : (uint64_t)a->next[unit] << RP_GRAIN_SHIFT;
}

static void cover(struct rp_arena *a, uint32_t unit, uint32_t order, uint64_t bytes)
{
    uint64_t grain = unit >> GRAIN_ORDER, end;
    a->next[unit] = (uint32_t)((bytes + GRAIN - 1) >> RP_GRAIN_SHIFT);
    end = grain + (order < GRAIN_ORDER ? 1 : a->next[unit]);
    a->busy += covered(a, unit, order);
    for (; grain < end; grain++) {
        uint64_t *word = &a->touched[grain / 64], bit = 1ull << (grain % 64);
        if (!(*word & bit)) {
            *word |= bit;
            a->resident += GRAIN;
        }
    }
}

/* Gives idle grains of this free block back, the highest first, until a quarter less than may be kept is idle: so the
 * next blocks find it warm, and do not come here in their turn. */
static void give_back(struct rp_arena *a, uint32_t unit, uint32_t order)
{
    uint64_t first = unit >> GRAIN_ORDER, grain = first + (1ull << (order - GRAIN_ORDER)), end;
    while (grain > first && a->resident - a->busy > a->keep - a->keep / 4) {
        uint64_t word = a->touched[(grain - 1) / 64];
        if (word == 0 && grain % 64 == 0 && grain - first >= 64) {
            grain -= 64;
            continue;
        }
        for (end = grain; grain > first && a->touched[(grain - 1) / 64] >> ((grain - 1) % 64) & 1; grain--)
            if (a->resident - a->busy - ((end - grain) << RP_GRAIN_SHIFT) <= a->keep - a->keep / 4)
                break;
        if (grain == end) {
            grain--;
            continue;
        }
        if (rp_os_punch(a->memory + (grain << RP_GRAIN_SHIFT), (end - grain) << RP_GRAIN_SHIFT))
            return; /* then it stays; nothing depends on it */
        a->resident -= (end - grain) << RP_GRAIN_SHIFT;
        for (uint64_t i = grain; i < end; i++)
            a->touched[i / 64] &= ~(1ull << (i % 64));
    }
}

int rp_arena_alloc(struct rp_arena *a, uint64_t bytes, uint64_t *offset)
{
    uint32_t want = 0, order, unit;
    if (bytes > a->bytes)
        return -E2BIG;
    while (((uint64_t)1 << (want + RP_UNIT_SHIFT)) < bytes)
        want++;
    for (order = want; order <= a->top && a->free[order] == RP_NIL; order++)
        ;
    if (order > a->top)
        return -ENOMEM;
    unit = a->free[order];
    take(a, unit, order);
    while (order > want) { /* keep the lower half, free the upper */
        order--;
        push(a, unit + (1u << order), order);
    }
    a->tag[unit] = (uint8_t)(RP_USED | (order + 1));
    a->used_bytes += (uint64_t)1 << (order + RP_UNIT_SHIFT);
    a->used_blocks++;
    cover(a, unit, order, bytes);
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
    a->tag[unit] = 0;
    a->busy -= covered(a, unit, order);
    *block_bytes = (uint64_t)1 << (order + RP_UNIT_SHIFT);
    a->used_bytes -= *block_bytes;
    a->used_blocks--;
    while (order < a->top) {
        uint32_t buddy = unit ^ (1u << order);
        if (a->tag[buddy] != order + 1)
            break;
        take(a, buddy, order);
        unit &= ~(1u << order);
        order++;
    }
    push(a, unit, order);
    if (a->resident - a->busy > a->keep && order >= GRAIN_ORDER && a->memory)
        give_back(a, unit, order);
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
            for (uint64_t at = 0; at < covered(a, unit, order); at += GRAIN) {
                uint64_t grain = (unit >> GRAIN_ORDER) + (at >> RP_GRAIN_SHIFT);
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
    for (uint64_t grain = 0; grain << RP_GRAIN_SHIFT < a->bytes; grain++)
        resident += (a->touched[grain / 64] >> (grain % 64) & 1) << RP_GRAIN_SHIFT;
    if (used_bytes != a->used_bytes || used_blocks != a->used_blocks || busy != a->busy || resident != a->resident)
        return 3; /* the sums */
    for (uint32_t k = 0; k <= a->top; k++)
        for (uint32_t u = a->free[k], p = RP_NIL; u != RP_NIL; p = u, u = a->next[u], listed++)
            if (a->tag[u] != k + 1 || a->prev[u] != p || listed > free_blocks)
                return 4; /* the lists hold just the free blocks */
    return listed == free_blocks ? 0 : 4;
}
