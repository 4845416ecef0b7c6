/* test_arena.c - the allocator against a model that knows, for each unit, whose it is. */
#include "arena.h"
#include "check.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT (1u << RP_UNIT_SHIFT)
#define BASE 0x40000000u /* no memory is behind it: the allocator touches only its own records */
#define UNITS 256u

static uint64_t seed;

static void a_region_that_is_no_power_of_two_is_refused(void)
{
    struct rp_arena a;
    CHECK_EQ(rp_arena_init(&a, BASE, 0, NULL, UINT64_MAX, 0), -EINVAL);
    CHECK_EQ(rp_arena_init(&a, BASE, UNIT / 2, NULL, UINT64_MAX, 0), -EINVAL);
    CHECK_EQ(rp_arena_init(&a, BASE, 3 * UNIT, NULL, UINT64_MAX, 0), -EINVAL);
    CHECK_EQ(rp_arena_init(&a, BASE, 1ull << 63, NULL, UINT64_MAX, 0), -EINVAL);
}

static void a_new_arena_is_one_free_block(void)
{
    struct rp_arena a;
    CHECK_EQ(rp_arena_init(&a, BASE, UNITS * UNIT, NULL, UINT64_MAX, 0), 0);
    CHECK_EQ(rp_arena_check(&a), 0);
    CHECK_EQ(a.used_blocks, 0);
    CHECK_EQ(a.used_bytes, 0);
    CHECK_EQ(a.free[a.top], 0);
    rp_arena_destroy(&a);
}

static void one_block_takes_the_whole_region(void)
{
    struct rp_arena a;
    uint64_t offset, other, bytes;
    CHECK_EQ(rp_arena_init(&a, BASE, UNITS * UNIT, NULL, UINT64_MAX, 0), 0);
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(rp_arena_alloc(&a, UNITS * UNIT - (round == 1 ? UNIT : 0), &offset), 0);
        CHECK_EQ(offset, BASE);
        CHECK_EQ(a.used_bytes, UNITS * UNIT);
        CHECK_EQ(rp_arena_alloc(&a, 1, &other), -ENOMEM);
        CHECK_EQ(rp_arena_check(&a), 0);
        CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
        CHECK_EQ(bytes, UNITS * UNIT);
        CHECK_EQ(rp_arena_check(&a), 0);
    }
    rp_arena_destroy(&a);
}

static void the_smallest_arena_holds_one_unit(void)
{
    struct rp_arena a;
    uint64_t offset, other, bytes;
    CHECK_EQ(rp_arena_init(&a, BASE, UNIT, NULL, UINT64_MAX, 0), 0);
    CHECK_EQ(rp_arena_alloc(&a, 0, &offset), 0);
    CHECK_EQ(rp_arena_alloc(&a, 0, &other), -ENOMEM);
    CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
    CHECK_EQ(bytes, UNIT);
    CHECK_EQ(rp_arena_check(&a), 0);
    rp_arena_destroy(&a);
}

static void too_big_is_told_from_not_now(void)
{
    struct rp_arena a;
    uint64_t offset = 77, bytes, half;
    CHECK_EQ(rp_arena_init(&a, BASE, UNITS * UNIT, NULL, UINT64_MAX, 0), 0);
    CHECK_EQ(rp_arena_alloc(&a, UNITS * UNIT + 1, &offset), -E2BIG);
    CHECK_EQ(rp_arena_alloc(&a, UINT64_MAX, &offset), -E2BIG);
    CHECK_EQ(offset, 77);
    CHECK_EQ(rp_arena_alloc(&a, UNIT, &half), 0);
    CHECK_EQ(rp_arena_alloc(&a, UNITS * UNIT, &offset), -ENOMEM);
    CHECK_EQ(rp_arena_alloc(&a, UNITS * UNIT + 1, &offset), -E2BIG);
    CHECK_EQ(offset, 77);
    CHECK_EQ(rp_arena_free(&a, half, &bytes), 0);
    CHECK_EQ(rp_arena_alloc(&a, UNITS * UNIT, &offset), 0);
    rp_arena_destroy(&a);
}

static void check_free_refused(struct rp_arena *a, uint64_t offset)
{
    uint64_t bytes = 77, used_bytes = a->used_bytes, used_blocks = a->used_blocks;
    CHECK_EQ(rp_arena_free(a, offset, &bytes), -EINVAL);
    CHECK_EQ(bytes, 77);
    CHECK_EQ(a->used_bytes, used_bytes);
    CHECK_EQ(a->used_blocks, used_blocks);
    CHECK_EQ(rp_arena_check(a), 0);
}

static void an_offset_that_is_no_block_is_refused(void)
{
    struct rp_arena a;
    uint64_t offset, bytes;
    CHECK_EQ(rp_arena_init(&a, BASE, UNITS * UNIT, NULL, UINT64_MAX, 0), 0);
    check_free_refused(&a, BASE); /* free */
    CHECK_EQ(rp_arena_alloc(&a, 4 * UNIT, &offset), 0);
    check_free_refused(&a, 0);
    check_free_refused(&a, offset + 1);
    check_free_refused(&a, offset + UNIT / 2);
    check_free_refused(&a, offset + UNIT);     /* inside */
    check_free_refused(&a, offset + 2 * UNIT); /* where its upper half would start */
    check_free_refused(&a, offset + 4 * UNIT); /* its free buddy */
    check_free_refused(&a, BASE - UNIT);
    check_free_refused(&a, BASE + UNITS * UNIT);
    check_free_refused(&a, BASE + (1ull << 40));
    check_free_refused(&a, UINT64_MAX);
    check_free_refused(&a, UINT64_MAX - UNIT + 1);
    CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
    check_free_refused(&a, offset); /* twice */
    rp_arena_destroy(&a);
    /* The records end with a page: a step over them is seen. */
    CHECK_EQ(rp_arena_init(&a, BASE, 4096 * UNIT, NULL, UINT64_MAX, 0), 0);
    check_free_refused(&a, BASE + 4096 * UNIT);
    rp_arena_destroy(&a);
}

/* Every way of freeing the units of a full arena ends in one block again. */
static void neighbours_join_in_whatever_order_they_are_freed(void)
{
    struct rng r = rng_from(seed);
    struct rp_arena a;
    uint64_t offsets[64], bytes;
    CHECK_EQ(rp_arena_init(&a, BASE, 64 * UNIT, NULL, UINT64_MAX, 0), 0);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 64; i++)
            CHECK_EQ(rp_arena_alloc(&a, UNIT, &offsets[i]), 0);
        for (uint64_t n = 64; n > 0; n--) {
            uint64_t i = rng_below(&r, n);
            CHECK_EQ(rp_arena_free(&a, offsets[i], &bytes), 0);
            offsets[i] = offsets[n - 1];
            CHECK_EQ(rp_arena_check(&a), 0);
        }
        CHECK_EQ(a.free[a.top], 0);
    }
    rp_arena_destroy(&a);
}

struct model {
    uint16_t owner[UNITS]; /* block number + 1, or 0 */
    uint64_t offset[UNITS];
    uint32_t units[UNITS];
    uint32_t n;
};

/* Is there a free, aligned run of that many units? By full joining, that is when an allocation must succeed. */
static bool has_room(const struct model *m, uint32_t units)
{
    for (uint32_t u = 0; u < UNITS; u += units) {
        uint32_t i = 0;
        while (i < units && m->owner[u + i] == 0)
            i++;
        if (i == units)
            return true;
    }
    return false;
}

static void own(struct model *m, uint32_t block, uint16_t from, uint16_t to)
{
    uint64_t first = (m->offset[block] - BASE) / UNIT;
    for (uint32_t i = 0; i < m->units[block]; i++) {
        CHECK_EQ(m->owner[first + i], from);
        m->owner[first + i] = to;
    }
}

static void allocate(struct rp_arena *a, struct model *m, uint64_t want)
{
    uint64_t offset;
    uint32_t units = 1;
    int err = rp_arena_alloc(a, want, &offset);
    while ((uint64_t)units * UNIT < want)
        units *= 2;
    if (units > UNITS) {
        CHECK_EQ(err, -E2BIG);
        return;
    }
    CHECK_EQ(err, has_room(m, units) ? 0 : -ENOMEM);
    if (err)
        return;
    CHECK(offset >= BASE && (offset - BASE) % (units * UNIT) == 0 && offset + units * UNIT <= BASE + UNITS * UNIT);
    m->offset[m->n] = offset;
    m->units[m->n] = units;
    own(m, m->n, 0, (uint16_t)(m->n + 1));
    m->n++;
}

static void release(struct rp_arena *a, struct model *m, uint32_t block)
{
    uint64_t bytes;
    uint32_t last = m->n - 1;
    CHECK_EQ(rp_arena_free(a, m->offset[block], &bytes), 0);
    CHECK_EQ(bytes, m->units[block] * UNIT);
    own(m, block, (uint16_t)(block + 1), 0);
    if (block != last) {
        m->offset[block] = m->offset[last];
        m->units[block] = m->units[last];
        own(m, block, (uint16_t)(last + 1), (uint16_t)(block + 1));
    }
    m->n = last;
}

static void poke(struct rp_arena *a, const struct model *m, struct rng *r)
{
    uint64_t offset = one_in(r, 2) ? BASE + rng_below(r, UNITS + 2) * UNIT : rng_next(r);
    for (uint32_t i = 0; i < m->n; i++)
        if (m->offset[i] == offset)
            return;
    check_free_refused(a, offset);
}

static void random_use_keeps_every_invariant(void)
{
    static struct model m;
    struct rng r = rng_from(seed);
    struct rp_arena a;
    uint64_t greed = 2;
    CHECK_EQ(rp_arena_init(&a, BASE, UNITS * UNIT, NULL, UINT64_MAX, 0), 0);
    for (uint64_t step = 0; step < TIMES(100000u); step++) {
        if (step % 500 == 0)
            greed = 1 + rng_below(&r, 4); /* fills up and empties in turn */
        if (rng_below(&r, 5) < greed)
            allocate(&a, &m, rng_next(&r) & ((2ull << rng_below(&r, 18)) - 1));
        else if (m.n)
            release(&a, &m, (uint32_t)rng_below(&r, m.n));
        if (one_in(&r, 8))
            poke(&a, &m, &r);
        CHECK_EQ(a.used_blocks, m.n);
        CHECK_EQ(rp_arena_check(&a), 0);
    }
    while (m.n)
        release(&a, &m, (uint32_t)rng_below(&r, m.n));
    CHECK_EQ(rp_arena_check(&a), 0);
    CHECK_EQ(a.used_bytes, 0);
    CHECK_EQ(a.free[a.top], 0); /* one block again */
    rp_arena_destroy(&a);
}

#define REGION (8u << 20)
#define KEEP (1u << 20)

/* The last byte of each page of a block. */
static void fill(uint8_t *block, uint64_t bytes, uint8_t with)
{
    for (uint64_t at = 0; at < bytes; at += 4096)
        block[at + 4096 < bytes ? at + 4095 : bytes - 1] = with;
}

static void check_filled(const uint8_t *block, uint64_t bytes, uint8_t with)
{
    for (uint64_t at = 0; at < bytes; at += 4096)
        CHECK_EQ(block[at + 4096 < bytes ? at + 4095 : bytes - 1], with);
}

static uint64_t given(const struct rp_segment *seg) /* by the system, besides the segment's first page */
{
    struct stat st;
    CHECK_EQ(fstat(seg->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512 - rp_os_page_bytes();
}

/* A segment with a region, which the test has mapped for itself: an arena's windows come and go. */
static void make_region(struct rp_segment *seg, uint8_t **memory)
{
    CHECK_EQ(rp_segment_create(seg, BASE + REGION, RP_PAGE, 1), 0);
    rp_segment_divide(seg, BASE, REGION);
    CHECK_EQ(rp_os_map(seg->fd, BASE, REGION, memory), 0);
}

static void what_is_idle_is_given_back_and_nothing_else(void)
{
    struct rng r = rng_from(seed);
    struct rp_arena a;
    struct {
        uint64_t offset, bytes;
        uint8_t with;
    } blocks[512], *b;
    uint32_t n = 0, returned = 0, greed = 2;
    uint64_t bytes, before;
    struct rp_segment seg;
    uint8_t *memory;
    make_region(&seg, &memory);
    CHECK_EQ(rp_arena_init(&a, BASE, REGION, &seg, UINT64_MAX, KEEP), 0);
    for (uint64_t step = 0; step < TIMES(20000u) || returned <= 10; step++) {
        if (step % 200 == 0)
            greed = 1 + (uint32_t)rng_below(&r, 4);
        if (rng_below(&r, 5) < greed && n < 512) {
            b = &blocks[n];
            b->bytes = 1 + (rng_next(&r) & ((2ull << rng_below(&r, 21)) - 1));
            if (rp_arena_alloc(&a, b->bytes, &b->offset))
                continue;
            b->with = (uint8_t)(1 + rng_below(&r, 255));
            fill(memory + (b->offset - BASE), b->bytes, b->with);
            n++;
        } else if (n) {
            uint32_t i = (uint32_t)rng_below(&r, n);
            check_filled(memory + (blocks[i].offset - BASE), blocks[i].bytes, blocks[i].with);
            before = a.resident;
            CHECK_EQ(rp_arena_free(&a, blocks[i].offset, &bytes), 0);
            returned += a.resident < before;
            blocks[i] = blocks[--n];
        }
        CHECK_EQ(rp_arena_check(&a), 0);
        if (step % 16 == 0)
            CHECK(given(&seg) <= a.resident);
    }
    while (n) {
        n--;
        check_filled(memory + (blocks[n].offset - BASE), blocks[n].bytes, blocks[n].with);
        CHECK_EQ(rp_arena_free(&a, blocks[n].offset, &bytes), 0);
    }
    CHECK_EQ(rp_arena_check(&a), 0);
    CHECK_EQ(a.busy, 0);
    CHECK(a.resident <= KEEP);
    CHECK(given(&seg) <= KEEP);
    rp_arena_destroy(&a);
    rp_os_unmap(memory, REGION);
    rp_segment_destroy(&seg);
}

static void a_block_that_comes_again_is_warm(void)
{
    struct rp_arena a;
    uint64_t offset, bytes, resident;
    struct rp_segment seg;
    uint8_t *memory;
    make_region(&seg, &memory);
    CHECK_EQ(rp_arena_init(&a, BASE, REGION, &seg, UINT64_MAX, KEEP), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(rp_arena_alloc(&a, KEEP, &offset), 0);
        fill(memory + (offset - BASE), KEEP, 1);
        resident = given(&seg);
        CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
        CHECK_EQ(given(&seg), resident);
    }
    CHECK_EQ(rp_arena_alloc(&a, 4 * KEEP, &offset), 0);
    fill(memory + (offset - BASE), 4 * KEEP, 1);
    CHECK_EQ(given(&seg), 4 * KEEP);
    CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
    CHECK_EQ(given(&seg), KEEP - KEEP / 4); /* and some room to the next time */
    CHECK_EQ(memory[0] | memory[4095], 1); /* the lowest, which is split first */
    rp_arena_destroy(&a);
    rp_os_unmap(memory, REGION);
    rp_segment_destroy(&seg);
}

/* However used blocks lie, no more than the quota is touched, and what is idle is no hindrance. */
static void no_more_than_the_quota_is_touched(void)
{
    const uint64_t quota = REGION / 4, piece = quota / 8;
    struct rp_arena a;
    uint64_t offset, bytes, pieces[8];
    struct rp_segment seg;
    uint8_t *memory;
    make_region(&seg, &memory);
    CHECK_EQ(rp_arena_init(&a, BASE, REGION, &seg, quota + 1, REGION), 0);
    CHECK_EQ(rp_arena_alloc(&a, quota + 1, &offset), -E2BIG);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++) {
            CHECK_EQ(rp_arena_alloc(&a, piece, &pieces[i]), 0);
            fill(memory + (pieces[i] - BASE), piece, (uint8_t)(i + 1));
        }
        CHECK_EQ(rp_arena_alloc(&a, 1, &offset), -ENOMEM);
        CHECK_EQ(rp_arena_check(&a), 0);
        for (int i = 0; i < 8; i += 2)
            CHECK_EQ(rp_arena_free(&a, pieces[i], &bytes), 0);
        CHECK_EQ(a.resident, quota); /* all is kept warm, */
        CHECK_EQ(rp_arena_alloc(&a, quota / 2 + 1, &offset), -ENOMEM);
        CHECK_EQ(rp_arena_alloc(&a, quota / 2, &offset), 0); /* but not at the expense of a block that lies elsewhere */
        fill(memory + (offset - BASE), quota / 2, 99);
        CHECK_EQ(rp_arena_check(&a), 0);
        CHECK(given(&seg) <= quota);
        for (int i = 1; i < 8; i += 2) {
            check_filled(memory + (pieces[i] - BASE), piece, (uint8_t)(i + 1));
            CHECK_EQ(rp_arena_free(&a, pieces[i], &bytes), 0);
        }
        CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
        CHECK_EQ(rp_arena_alloc(&a, quota, &offset), 0);
        fill(memory + (offset - BASE), quota, 1);
        CHECK_EQ(given(&seg), quota);
        CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
    }
    rp_arena_destroy(&a);
    rp_os_unmap(memory, REGION);
    rp_segment_destroy(&seg);
}

/* What others have touched may lie in the end of a block, which the block has no use for. It goes back to the system like
 * all that is idle: where the quota has room for what used blocks cover and for one more, that one is had. */
static void what_a_block_does_not_cover_is_no_hindrance(void)
{
    const uint64_t grain = 64u << 10, quota = REGION / 4;
    struct rng r = rng_from(seed);
    struct rp_arena a;
    uint64_t offset, bytes, pieces[64];
    uint32_t n = 0, refused = 0;
    struct rp_segment seg;
    uint8_t *memory;
    make_region(&seg, &memory);
    CHECK_EQ(rp_arena_init(&a, BASE, REGION, &seg, 24 * grain, 3 * grain), 0);
    CHECK_EQ(rp_arena_alloc(&a, 12 * grain, &pieces[0]), 0);
    for (int i = 1; i < 10; i++)
        CHECK_EQ(rp_arena_alloc(&a, grain, &pieces[i]), 0);
    CHECK_EQ(pieces[9], BASE + 24 * grain);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(rp_arena_free(&a, pieces[i], &bytes), 0);
    CHECK_EQ(a.resident, 3 * grain); /* the highest of those, within the block of 32 that comes next */
    CHECK_EQ(rp_arena_alloc(&a, 24 * grain, &offset), 0);
    CHECK_EQ(rp_arena_check(&a), 0);
    rp_arena_destroy(&a);
    CHECK_EQ(rp_arena_init(&a, BASE, REGION, &seg, quota, quota / 8), 0);
    for (uint64_t step = 0; step < TIMES(50000u); step++) {
        if (one_in(&r, 2) && n < 64) {
            uint64_t busy = a.busy;
            uint32_t order;
            bytes = grain * (1 + rng_below(&r, one_in(&r, 8) ? 32 : 6));
            if (rp_arena_alloc(&a, bytes, &pieces[n]) == 0) {
                n++;
            } else if (busy + bytes <= quota) {
                for (order = 0; (uint64_t)UNIT << order < bytes; order++)
                    ;
                for (; order <= a.top; order++)
                    CHECK_EQ(a.free[order], RP_NIL);
            } else {
                refused++;
            }
        } else if (n) {
            uint32_t i = (uint32_t)rng_below(&r, n);
            CHECK_EQ(rp_arena_free(&a, pieces[i], &bytes), 0);
            pieces[i] = pieces[--n];
        }
        CHECK_EQ(rp_arena_check(&a), 0);
    }
    CHECK(refused > 10);
    rp_arena_destroy(&a);
    rp_os_unmap(memory, REGION);
    rp_segment_destroy(&seg);
}

/* The records are for as much of the region as has been in use, and what is behind comes as it is needed. */
static void the_records_grow_with_what_is_used(void)
{
    const uint64_t most = 4ull << 30, large = 256ull << 20;
    struct rng r = rng_from(seed);
    struct rp_arena a;
    uint64_t blocks[64], offset, bytes;
    uint32_t n = 0;
    CHECK_EQ(rp_arena_init(&a, BASE, most, NULL, UINT64_MAX, 0), 0);
    CHECK_EQ(rp_arena_alloc(&a, most + 1, &offset), -E2BIG);
    CHECK(a.bytes <= large);
    CHECK_EQ(rp_arena_alloc(&a, 1, &offset), 0);
    CHECK_EQ(rp_arena_alloc(&a, most, &bytes), -ENOMEM);
    CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
    CHECK_EQ(rp_arena_alloc(&a, most, &offset), 0); /* of free buddies that grew together */
    CHECK_EQ(offset, BASE);
    CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
    CHECK_EQ(bytes, most);
    CHECK_EQ(a.free[a.top], 0);
    rp_arena_destroy(&a);
    CHECK_EQ(rp_arena_init(&a, BASE, most, NULL, UINT64_MAX, 0), 0);
    for (int step = 0; step < 300; step++) {
        if (one_in(&r, 2) && n < 64) {
            if (rp_arena_alloc(&a, 1 + rng_below(&r, large), &blocks[n]) == 0) {
                CHECK(blocks[n] < BASE + a.bytes);
                n++;
            } else
                CHECK_EQ(a.bytes, most);
        } else if (n) {
            uint32_t i = (uint32_t)rng_below(&r, n);
            CHECK_EQ(rp_arena_free(&a, blocks[i], &bytes), 0);
            blocks[i] = blocks[--n];
        }
        if (step % 50 == 0)
            CHECK_EQ(rp_arena_check(&a), 0);
    }
    rp_arena_destroy(&a);
}

/* Where the system gives no more address space, a block is refused, and nothing has changed; one that has been given back
 * leaves its address space to another. */
static inline void a_block_that_cannot_be_mapped_is_refused(void)
{
    struct rlimit old, low;
    struct rp_segment seg;
    struct rp_arena a;
    uint64_t offset, second, bytes;
    uint8_t *memory;
    make_region(&seg, &memory);
    CHECK_EQ(rp_arena_init(&a, BASE, REGION, &seg, UINT64_MAX, 0), 0);
    CHECK_EQ(rp_arena_alloc(&a, REGION / 2, &offset), 0);
    CHECK_EQ(seg.refused, 0);
    CHECK_EQ(getrlimit(RLIMIT_AS, &old), 0);
    low = old;
    low.rlim_cur = 1; /* less than there is: none can be added */
    CHECK_EQ(setrlimit(RLIMIT_AS, &low), 0);
    CHECK_EQ(rp_arena_alloc(&a, REGION / 4, &second), -ENOMEM);
    CHECK_EQ(seg.refused, -ENOMEM);
    CHECK_EQ(rp_arena_check(&a), 0);
    CHECK_EQ(a.used_blocks, 1);
    CHECK_EQ(setrlimit(RLIMIT_AS, &old), 0);
    CHECK_EQ(rp_arena_alloc(&a, REGION / 4, &second), 0);
    CHECK_EQ(seg.refused, 0);
    CHECK_EQ(rp_arena_free(&a, second, &bytes), 0);
    CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
    rp_arena_destroy(&a);
    rp_segment_unmap(&seg, 0, seg.bytes, 0);
    CHECK_EQ(seg.mapped, 0);
    CHECK_EQ(rp_arena_init(&a, BASE, REGION, &seg, UINT64_MAX, 0), 0);
    CHECK_EQ(rp_arena_alloc(&a, REGION / 4, &offset), 0);
    CHECK_EQ(rp_arena_alloc(&a, REGION / 4, &second), 0);
    CHECK_EQ(rp_arena_free(&a, second, &bytes), 0);
    CHECK_EQ(seg.mapped, REGION / 2); /* that of the free one is there for the next, */
    CHECK_EQ(setrlimit(RLIMIT_AS, &low), 0);
    CHECK_EQ(rp_arena_alloc(&a, REGION / 2, &second), -ENOMEM);
    CHECK_EQ(setrlimit(RLIMIT_AS, &old), 0);
    CHECK_EQ(seg.mapped, REGION / 4); /* unless another needs the room */
    CHECK_EQ(rp_arena_free(&a, offset, &bytes), 0);
    rp_arena_destroy(&a);
    rp_os_unmap(memory, REGION);
    rp_segment_destroy(&seg);
}

/* The checker itself must see what it is there for. */
static void the_check_notices_each_broken_invariant(void)
{
    struct rp_arena a;
    uint64_t one, two;
    CHECK_EQ(rp_arena_init(&a, BASE, 4 * UNIT, NULL, UINT64_MAX, 0), 0);
    CHECK_EQ(rp_arena_alloc(&a, UNIT, &one), 0);
    CHECK_EQ(rp_arena_alloc(&a, UNIT, &two), 0);
    CHECK_EQ(rp_arena_check(&a), 0);
    a.used_bytes++;
    CHECK_EQ(rp_arena_check(&a), 3);
    a.used_bytes--;
    a.tag[0] = 0;
    CHECK_EQ(rp_arena_check(&a), 1);
    a.tag[0] = a.tag[1] = 1;
    CHECK_EQ(rp_arena_check(&a), 2);
    a.tag[0] = a.tag[1] = 0x81;
    CHECK_EQ(rp_arena_check(&a), 0);
    a.touched[0] = 0;
    CHECK_EQ(rp_arena_check(&a), 5);
    a.touched[0] = 1;
    a.busy++;
    CHECK_EQ(rp_arena_check(&a), 3);
    a.busy--;
    a.quota = 0;
    CHECK_EQ(rp_arena_check(&a), 6);
    a.quota = UINT64_MAX;
    a.free[1] = RP_NIL;
    CHECK_EQ(rp_arena_check(&a), 4);
    rp_arena_destroy(&a);
}

int main(int argc, char **argv)
{
    begin(120);
    seed = seed_from(argc, argv, 1);
    RUN(a_region_that_is_no_power_of_two_is_refused);
    RUN(a_new_arena_is_one_free_block);
    RUN(one_block_takes_the_whole_region);
    RUN(the_smallest_arena_holds_one_unit);
    RUN(too_big_is_told_from_not_now);
    RUN(an_offset_that_is_no_block_is_refused);
    RUN(neighbours_join_in_whatever_order_they_are_freed);
    RUN(random_use_keeps_every_invariant);
    RUN(what_is_idle_is_given_back_and_nothing_else);
    RUN(a_block_that_comes_again_is_warm);
    RUN(no_more_than_the_quota_is_touched);
    RUN(what_a_block_does_not_cover_is_no_hindrance);
    RUN(the_records_grow_with_what_is_used);
#ifndef __SANITIZE_THREAD__ /* which needs address space for itself */
    RUN_UNLESS_EMULATED(a_block_that_cannot_be_mapped_is_refused);
#endif
    RUN(the_check_notices_each_broken_invariant);
    return 0;
}
