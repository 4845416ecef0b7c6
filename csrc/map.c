#include "map.h"

#include <stdlib.h>
#include <string.h>

#define RP_HUGE (2u << 20)
#define RP_KEEP (256u << 20) /* what an arena keeps warm, at most; arbitrary */
#define RP_ARENA_MIN (1u << 20)

struct layout {
    uint64_t shared, board, entries, results, returns, arenas, bytes;
};

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) & ~(to - 1);
}

static struct layout lay_out(uint32_t n, uint64_t arena_bytes)
{
    struct layout l;
    l.shared = RP_PAGE;
    l.board = l.shared + RP_PAGE;
    l.entries = l.board + round_up(rp_board_bytes(RP_BOARD_CAPACITY), RP_PAGE);
    l.results = l.entries + round_up((uint64_t)n * sizeof(struct rp_worker_entry), RP_PAGE);
    l.returns = l.results + (uint64_t)n * round_up(rp_ring_bytes(RP_RING_CAPACITY, 7), RP_PAGE);
    l.arenas = round_up(l.returns + (uint64_t)n * round_up(rp_ring_bytes(RP_RETURNS_CAPACITY, 4), RP_PAGE), RP_HUGE);
    l.bytes = l.arenas + (uint64_t)RP_ARENAS(n) * arena_bytes;
    return l;
}

uint64_t rp_pool_fixed_bytes(uint32_t n_workers)
{
    return lay_out(n_workers, 0).arenas;
}

/* Two builds that would disagree about a byte of the map get different numbers. */
static uint64_t fingerprint(uint32_t n, struct rp_sizes sizes)
{
    const uint64_t parts[] = {n, sizes.arena_bytes, sizes.parent_quota, sizes.worker_quota, sizes.overflow_quota,
                              RP_BOARD_CAPACITY, RP_RING_CAPACITY, RP_RETURNS_CAPACITY, RP_UNIT_SHIFT,
                              sizeof(struct rp_slot), sizeof(struct rp_result), sizeof(struct rp_worker_entry),
                              sizeof(struct rp_pool_shared), RP_LINE, RP_MAX_WORKERS};
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        h = (h ^ parts[i]) * 0x100000001b3ull;
    return h;
}

static uint64_t quota_of(const struct rp_pool *p, uint32_t arena)
{
    uint64_t quota = p->sizes.worker_quota;
    if (arena == 0)
        quota = p->sizes.parent_quota;
    else if (arena == RP_OVERFLOW(p->n_workers))
        quota = p->sizes.overflow_quota;
    return quota < p->sizes.arena_bytes ? quota : p->sizes.arena_bytes;
}

static int take_arena(struct rp_pool *p, struct rp_arena *arena, uint32_t which)
{
    uint64_t at = p->arenas + which * p->sizes.arena_bytes, quota = quota_of(p, which);
    uint64_t keep = quota / 8 < RP_KEEP ? quota / 8 : RP_KEEP;
    return rp_arena_init(arena, at, p->sizes.arena_bytes, &p->segment, quota, keep);
}

static int take_hold(struct rp_pool *p)
{
    struct layout l = lay_out(p->n_workers, p->sizes.arena_bytes);
    uint8_t *base = p->segment.base;
    p->shared = (void *)(base + l.shared);
    rp_board_init(&p->board, base + l.board, RP_BOARD_CAPACITY);
    p->entries = (void *)(base + l.entries);
    p->arenas = l.arenas;
    rp_segment_divide(&p->segment, l.arenas, p->sizes.arena_bytes);
    p->mask_words = (p->n_workers + 63) / 64;
    rp_spin_init(&p->spin);
    return take_arena(p, &p->arena, p->own);
}

/* The two rings of worker w. */
static void take_rings(const struct rp_pool *p, uint32_t w, struct rp_ring *results, struct rp_ring *returns)
{
    struct layout l = lay_out(p->n_workers, p->sizes.arena_bytes);
    uint8_t *base = p->segment.base;
    rp_ring_init(results, base + l.results + w * round_up(rp_ring_bytes(RP_RING_CAPACITY, 7), RP_PAGE), RP_RING_CAPACITY, 7);
    rp_ring_init(returns, base + l.returns + w * round_up(rp_ring_bytes(RP_RETURNS_CAPACITY, 4), RP_PAGE),
                 RP_RETURNS_CAPACITY, 4);
}

static int take_all(struct rp_parent *p)
{
    int err = take_hold(&p->base);
    if (err)
        return err;
    p->results = calloc(p->n_workers, sizeof *p->results);
    p->returns = calloc(p->n_workers, sizeof *p->returns);
    p->served = calloc(p->n_workers, sizeof *p->served);
    p->swept = calloc(p->n_workers, sizeof *p->swept);
    p->arena_of = calloc(p->n_workers, sizeof *p->arena_of);
    if (!p->results || !p->returns || !p->served || !p->swept || !p->arena_of)
        return -ENOMEM;
    for (uint32_t w = 0; w < p->n_workers; w++)
        take_rings(&p->base, w, &p->results[w], &p->returns[w]);
    err = take_arena(&p->base, &p->overflow, RP_OVERFLOW(p->n_workers));
    p->overflow.lends = true;
    return err;
}

static int create(struct rp_parent *p, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes)
{
    struct layout l = lay_out(n_workers, sizes.arena_bytes);
    int err;
    memset(p, 0, sizeof *p);
    p->segment.fd = -1;
    p->n_workers = n_workers;
    p->n_cpus = n_cpus;
    p->sizes = sizes;
    err = rp_segment_create(&p->segment, l.bytes, l.arenas, fingerprint(n_workers, sizes));
    if (!err)
        err = take_all(p);
    if (err) {
        rp_pool_destroy(p);
        return err;
    }
    rp_store_relaxed(&p->shared->refill_pos, RP_NEVER);
    for (uint32_t w = 0; w < n_workers; w++)
        rp_pool_give_arena(p, w, w + 1);
    return 0;
}

int rp_pool_create(struct rp_parent *p, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes)
{
    uint64_t bytes = RP_ARENA_MIN;
    int err;
    if (n_workers == 0 || n_workers > RP_MAX_WORKERS)
        return -EINVAL;
    while (bytes * 2 <= sizes.arena_bytes && bytes >> RP_UNIT_SHIFT < RP_NIL / 2)
        bytes *= 2;
    do { /* EFBIG: RLIMIT_FSIZE counts a memfd too */
        sizes.arena_bytes = bytes;
        err = create(p, n_workers, n_cpus, sizes);
        bytes /= 2;
    } while (err == -EFBIG && bytes >= RP_ARENA_MIN);
    return err;
}

int rp_pool_attach(struct rp_worker *p, int fd, uint32_t n_workers, uint32_t n_cpus, struct rp_sizes sizes, uint32_t index)
{
    int err;
    memset(p, 0, sizeof *p);
    p->segment.fd = -1;
    p->n_workers = n_workers;
    p->n_cpus = n_cpus;
    p->sizes = sizes;
    p->index = index;
    p->requests = rp_os_now_ns(); /* so that no number is a predecessor's */
    if (n_workers == 0 || n_workers > RP_MAX_WORKERS || index >= n_workers) {
        p->segment.fd = fd;
        rp_pool_detach(p);
        return -EINVAL;
    }
    err = rp_segment_attach(&p->segment, fd, lay_out(n_workers, sizes.arena_bytes).arenas, fingerprint(n_workers, sizes));
    if (!err && p->segment.bytes != lay_out(n_workers, sizes.arena_bytes).bytes)
        err = -EPROTO;
    if (!err) {
        struct layout l = lay_out(n_workers, sizes.arena_bytes);
        const struct rp_worker_entry *entries = (const void *)(p->segment.base + l.entries);
        uint64_t arena = rp_load_acquire(&entries[index].arena);
        p->own = (uint32_t)arena;
        err = arena == 0 || arena >= RP_OVERFLOW(n_workers) ? -EPROTO : take_hold(&p->base);
    }
    if (err)
        rp_pool_detach(p);
    else {
        take_rings(&p->base, index, &p->results, &p->returns);
        (void)rp_pool_block(p, 0, p->arenas, 1);
        (void)rp_pool_block(p, p->own, p->arenas + p->own * p->sizes.arena_bytes, 1);
    }
    return err;
}

void rp_pool_detach(struct rp_worker *p)
{
    if (p->watched)
        rp_os_guard_look(NULL, NULL);
    p->watched = false;
    rp_arena_destroy(&p->arena);
    rp_segment_destroy(&p->segment);
    p->shared = NULL;
}

void rp_pool_destroy(struct rp_parent *p)
{
    rp_arena_destroy(&p->arena);
    rp_arena_destroy(&p->overflow);
    /* The owner's end is the memory's, though others may hold the descriptor: another pool's zygote, for example. */
    if (p->served && p->segment.base)
        (void)rp_segment_punch(&p->segment, 0, p->segment.bytes);
    free(p->results);
    free(p->returns);
    free(p->served);
    free(p->swept);
    free(p->arena_of);
    p->results = p->returns = NULL;
    p->served = p->swept = NULL;
    p->arena_of = NULL;
    rp_segment_destroy(&p->segment);
    p->shared = NULL;
}

bool (rp_pool_within)(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes)
{
    uint64_t at = offset - (p->arenas + arena * p->sizes.arena_bytes); /* wraps below the arena, and is refused with the rest */
    return arena < RP_ARENAS(p->n_workers) && at < p->sizes.arena_bytes && bytes <= p->sizes.arena_bytes - at;
}

uint8_t *(rp_pool_block)(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes)
{
    /* What is mapped is a cache: nothing that the caller can tell changes. */
    return rp_pool_within(p, arena, offset, bytes) ? rp_segment_at((struct rp_segment *)&p->segment, offset, bytes) : NULL;
}

uint8_t *(rp_pool_writable)(const struct rp_pool *p, uint64_t offset, uint64_t bytes)
{
    return rp_pool_block(p, rp_pool_within(p, p->own, offset, bytes) ? p->own : RP_OVERFLOW(p->n_workers), offset, bytes);
}

bool (rp_pool_may_hold)(const struct rp_pool *p, uint32_t arena, uint64_t offset, uint64_t bytes)
{
    uint64_t at = offset - (p->arenas + arena * p->sizes.arena_bytes), half = quota_of(p, arena) / 2;
    return at < half && bytes <= half - at;
}

void rp_pool_give_arena(struct rp_parent *p, uint32_t w, uint32_t arena)
{
    p->arena_of[w] = arena;
    rp_store_release(&p->entries[w].arena, (uint64_t)arena);
}

void rp_pool_clear(struct rp_parent *p, uint64_t offset, uint64_t bytes)
{
    uint64_t from = round_up(offset, RP_PAGE), to = (offset + bytes) & ~(uint64_t)(RP_PAGE - 1);
    if (from >= to)
        return;
    (void)rp_segment_punch(&p->segment, from, to - from);
    rp_segment_unmap(&p->segment, from, to, from);
}
