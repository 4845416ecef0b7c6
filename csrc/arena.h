/* arena.h - blocks of memory in a region of the segment, allocated by one process only.
 *
 * A binary buddy allocator: a block of order k is 1 << (RP_UNIT_SHIFT + k) bytes, aligned to its size within the region, and a
 * freed block joins its free buddy. All its records are in the owner's private memory; in the segment there is nothing
 * but payloads. So no process that writes wildly into the segment can spoil the allocator, an offset that comes back
 * from another process is checked against the records before it is believed, and when the owner dies nothing in the
 * region needs repair: the next owner starts with an empty one.
 *
 * The region is sparse: pages that were never touched cost nothing, and the lowest free block is split first, so reuse is warm.
 * What has been touched is known by *grains*. When a block becomes free and more is idle than is to be kept warm, grains go
 * back to the system, of that block last, the highest first: a page that is touched for the first time costs as much as four
 * that are copied, or more.
 *
 * The *quota* is how much may be touched at a time. The region is to be larger than that, so that blocks can be found
 * wherever the used ones lie. A block that would touch more first has idle grains given back, and is refused if that is not
 * enough.
 *
 * Address space is taken for what is used: the records begin with those of the region's first 64 MiB and double as no free
 * block is found, and a block is had only if the owner has it mapped (segment.h). With idle grains that are given back go the
 * windows that show them and nothing in use, if more is mapped than the memory that is left and RP_WINDOWS_KEEP; where the system refuses a window, all of free blocks go first.
 *
 * Invariants, checked by rp_arena_check(): the blocks (free and used) tile the region; no two free buddies stand beside
 * each other; used_bytes is the sum of the used blocks; every free block is on the list of its order, and only those; what
 * used blocks cover has been touched; no more than the quota has.
 */
#ifndef RP_ARENA_H
#define RP_ARENA_H

#include "segment.h"

#define RP_UNIT_SHIFT 9u /* 512 bytes: the least that does not fit into a slot, twice over */
#define RP_ORDERS 32u
#define RP_NIL UINT32_MAX

struct rp_arena {
    uint64_t base;  /* offset of the region in the segment */
    uint64_t bytes; /* of the region, as far as it is in use: 1 << RP_UNIT_SHIFT, times a power of two */
    uint32_t units;
    uint32_t top;             /* the order of all that */
    uint32_t grain_shift;     /* a grain is 64 KiB, or a huge page where the system gives those to shared memory */
    uint64_t used_bytes;      /* in whole blocks */
    uint64_t used_blocks;
    uint64_t resident;        /* grains that have been touched, in bytes: the most that the system has given */
    uint64_t busy;            /* of these, what used blocks cover */
    uint64_t keep;            /* of these, how much may be idle */
    uint64_t quota;           /* resident is never more: whole grains */
    uint64_t most;            /* bytes of the region */
    struct rp_segment *segment; /* NULL: nothing is mapped or given back */
    bool lends;               /* its blocks are for other processes to write to: they need not be mapped here */
    uint32_t free[RP_ORDERS]; /* first free block of each order, in units, or RP_NIL */
    uint64_t *touched;        /* a bit a grain */
    uint8_t *tag;             /* per unit: 0 inside a block; order + 1 at a free start; RP_USED | order + 1 at a used one */
    uint32_t *next, *prev;    /* per unit: the free list, at free starts; next at a used one: grains that it covers */
    uint64_t touched_bytes;   /* of the bitmap */
};

/* The region [base, base + bytes) of the segment, which stays where it is; bytes is a power of two, at least one unit. It
 * touches no more than `quota` bytes at a time, rounded down to grains, but one at least; of these, `keep` bytes stay with
 * it when they are idle. */
int rp_arena_init(struct rp_arena *a, uint64_t base, uint64_t bytes, struct rp_segment *segment, uint64_t quota, uint64_t keep);
void rp_arena_destroy(struct rp_arena *a);

/* 0; -ENOMEM: not now; -E2BIG: never, even in an empty arena. The offset counts from the start of the segment. Where the
 * segment's `refused` is not 0, it is the address space of this process that is wanting. */
int rp_arena_alloc(struct rp_arena *a, uint64_t bytes, uint64_t *offset);

/* 0 and the size of the freed block; -EINVAL if no used block starts there (nothing changes). */
int rp_arena_free(struct rp_arena *a, uint64_t offset, uint64_t *block_bytes);

/* 0, or the number of the broken invariant (see arena.c). Reads every record: for tests. */
int rp_arena_check(const struct rp_arena *a);

#endif
