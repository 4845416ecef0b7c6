#include "segment.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GONE 1u /* the key of a window that was unmapped: a search goes on behind it */

int rp_segment_create(struct rp_segment *seg, uint64_t bytes, uint64_t fixed, uint64_t layout)
{
    struct rp_segment s = {.fd = -1, .base = NULL, .fixed = fixed, .bytes = bytes};
    int err;
    if (bytes < RP_PAGE || fixed < RP_PAGE || fixed > bytes)
        return -EINVAL;
    err = rp_os_memfd("ringpool", bytes, &s.fd);
    if (!err)
        err = rp_os_file(s.fd, s.file);
    if (!err)
        err = rp_os_map(s.fd, 0, fixed, &s.base);
    if (err) {
        rp_segment_destroy(&s);
        return err;
    }
    *(struct rp_segment_header *)(void *)s.base = (struct rp_segment_header){
        .magic = RP_MAGIC,
        .version = RP_VERSION,
        .header_bytes = sizeof(struct rp_segment_header),
        .bytes = bytes,
        .layout = layout,
    };
    *seg = s;
    return 0;
}

int rp_segment_attach(struct rp_segment *seg, int fd, uint64_t fixed, uint64_t layout)
{
    struct rp_segment s = {.fd = fd, .base = NULL, .fixed = fixed, .bytes = 0};
    int err = rp_os_memfd_check(fd, &s.bytes);
    if (!err && (s.bytes < RP_PAGE || fixed < RP_PAGE || fixed > s.bytes))
        err = -EPROTO;
    if (!err)
        err = rp_os_file(fd, s.file);
    if (!err)
        err = rp_os_keep_private(fd);
    if (!err)
        err = rp_os_map(fd, 0, fixed, &s.base);
    if (!err) {
        const struct rp_segment_header *h = (const void *)s.base;
        if (h->magic != RP_MAGIC || h->version != RP_VERSION || h->header_bytes != sizeof *h || h->bytes != s.bytes ||
            h->layout != layout)
            err = -EPROTO;
    }
    if (err) {
        rp_segment_destroy(&s);
        return err;
    }
    *seg = s;
    return 0;
}

void rp_segment_divide(struct rp_segment *seg, uint64_t start, uint64_t stride)
{
    seg->start = start;
    seg->stride = stride;
}

static uint64_t window_bytes(const struct rp_window *w)
{
    return 1ull << (w->key & 63);
}

static uint32_t bits(uint64_t n)
{
    return n ? 64u - (uint32_t)__builtin_clzll(n) : 0;
}

/* The least window that holds all of it. */
static uint32_t least_shift(uint64_t at, uint64_t bytes)
{
    uint32_t shift = bits(at ^ (at + (bytes ? bytes - 1 : 0)));
    return shift > RP_WINDOW_LEAST ? shift : RP_WINDOW_LEAST;
}

static uint32_t usual_shift(const struct rp_segment *seg, uint64_t at, uint32_t least)
{
    uint32_t far = bits(at & (seg->stride - 1)), shift = RP_WINDOW_SHIFT + (seg->huge > 0);
    if (far > shift + 4)
        shift = far - 4; /* from 2^k on, 2^(k - 3) */
    if (shift < least)
        shift = least;
    return 1ull << shift > seg->stride ? bits(seg->stride) - 1 : shift;
}

static struct rp_window *place_of(const struct rp_segment *seg, uint64_t key)
{
    uint32_t i = (uint32_t)(key * 0x9e3779b97f4a7c15ull >> 32) & (seg->capacity - 1);
    while (seg->windows[i].key && seg->windows[i].key != key)
        i = (i + 1) & (seg->capacity - 1);
    return &seg->windows[i];
}

static void note_recent(struct rp_segment *seg, const struct rp_window *w)
{
    seg->recent[1] = seg->recent[0];
    seg->recent[0] = (struct rp_recent){seg->start + (w->key & ~63ull), window_bytes(w), w->address};
}

static uint8_t *find(struct rp_segment *seg, uint64_t at, uint32_t shift)
{
    const struct rp_window *w = place_of(seg, at >> shift << shift | shift);
    if (!w->key)
        return NULL;
    note_recent(seg, w);
    return w->address + (at & ((1ull << shift) - 1));
}

/* Room for one more, in a table that is never more than half full. */
static bool make_room(struct rp_segment *seg)
{
    struct rp_window *old = seg->windows;
    uint32_t n = seg->capacity, live = 1;
    if (2 * (seg->used + 1) <= n)
        return true;
    for (uint32_t i = 0; i < n; i++)
        live += old[i].key > GONE;
    for (seg->capacity = 32; seg->capacity < 4 * live;)
        seg->capacity *= 2;
    seg->windows = calloc(seg->capacity, sizeof *old);
    if (!seg->windows) {
        seg->windows = old;
        seg->capacity = n;
        return false;
    }
    seg->used = 0;
    for (uint32_t i = 0; i < n; i++)
        if (old[i].key > GONE) {
            *place_of(seg, old[i].key) = old[i];
            seg->used++;
        }
    free(old);
    return true;
}

static uint8_t *map_window(struct rp_segment *seg, uint64_t at, uint32_t shift)
{
    struct rp_window *w, window = {.key = at >> shift << shift | shift, .address = NULL};
    uint64_t file[2];
    if (!make_room(seg)) {
        seg->refused = -ENOMEM;
        return NULL;
    }
    /* User code may have closed the descriptor, and its number may be another file's. */
    seg->refused = rp_os_file(seg->fd, file);
    if (!seg->refused && (file[0] != seg->file[0] || file[1] != seg->file[1]))
        seg->refused = -EBADF;
    if (!seg->refused)
        seg->refused = rp_os_map(seg->fd, seg->start + (at >> shift << shift), 1ull << shift, &window.address);
    if (seg->refused)
        return NULL;
    if (seg->huge)
        rp_os_ask_huge(window.address, 1ull << shift, seg->huge > 0);
    w = place_of(seg, window.key);
    *w = window;
    seg->used++;
    seg->shifts |= 1ull << shift;
    seg->mapped += 1ull << shift;
    note_recent(seg, w);
    return window.address + (at & ((1ull << shift) - 1));
}

uint8_t *rp_segment_find(struct rp_segment *seg, uint64_t offset, uint64_t bytes)
{
    uint64_t at = offset - seg->start;
    uint32_t least = least_shift(at, bytes), usual = usual_shift(seg, at, least);
    uint8_t *found = seg->used ? find(seg, at, usual) : NULL;
    if (found)
        return found;
    if (least > usual)
        least = usual; /* the region is smaller */
    for (uint64_t left = seg->shifts >> least << least; left && seg->used && !found; left &= left - 1)
        found = find(seg, at, (uint32_t)__builtin_ctzll(left));
    if (!found)
        found = map_window(seg, at, usual);
    if (!found && least < usual)
        found = map_window(seg, at, least);
    return found;
}

static void unmap(struct rp_segment *seg, struct rp_window *w)
{
    rp_os_unmap(w->address, window_bytes(w));
    memset(seg->recent, 0, sizeof seg->recent); /* one of them may be this */
    seg->mapped -= window_bytes(w);
    w->address = NULL;
    w->key = GONE;
}

void rp_segment_unmap(struct rp_segment *seg, uint64_t from, uint64_t to, uint64_t behind)
{
    rp_mutex_lock(&seg->mutex);
    for (uint32_t i = 0; seg->mapped && i < seg->capacity; i++) {
        struct rp_window *w = &seg->windows[i];
        uint64_t at = seg->start + (w->key & ~63ull);
        if (w->key > GONE && at >= from && at + window_bytes(w) <= to && at + window_bytes(w) > behind)
            unmap(seg, w);
    }
    rp_mutex_unlock(&seg->mutex);
}

void rp_segment_unmap_regions(struct rp_segment *seg, bool (*idle)(const void *arg, uint64_t region), const void *arg)
{
    rp_mutex_lock(&seg->mutex);
    for (uint32_t i = 0; seg->mapped && i < seg->capacity; i++) {
        struct rp_window *w = &seg->windows[i];
        uint32_t first = usual_shift(seg, 0, RP_WINDOW_LEAST);
        if (w->key > GONE && (w->key & (seg->stride - 1)) != first && idle(arg, w->key / seg->stride))
            unmap(seg, w);
    }
    rp_mutex_unlock(&seg->mutex);
}

int rp_segment_punch(struct rp_segment *seg, uint64_t from, uint64_t bytes)
{
    return rp_os_punch(seg->fd, from, bytes);
}

void rp_segment_close_fd(struct rp_segment *seg)
{
    if (seg->fd >= 0)
        close(seg->fd);
    seg->fd = -1;
}

void rp_segment_destroy(struct rp_segment *seg)
{
    rp_segment_close_fd(seg);
    rp_os_unmap(seg->base, seg->fixed);
    seg->base = NULL;
    for (uint32_t i = 0; i < seg->capacity; i++)
        if (seg->windows[i].key > GONE)
            unmap(seg, &seg->windows[i]);
    free(seg->windows);
    seg->windows = NULL;
    seg->capacity = seg->used = 0;
}
