/* segment.h - one sealed, anonymous piece of shared memory.
 *
 * Its first page is the segment's own; the rest belongs to the caller (see the map in map.h).
 * Guarantees: no name in any file system; the size never changes; the kernel frees it when the last process that has
 * it mapped or open is gone. Attaching checks that the other side was built from the same layout.
 * Not promised: that a process holding it behaves; each reader of a word checks it.
 *
 * It is sparse, and much larger than the memory that it will ever have. Address space is not free, though: a limit
 * (RLIMIT_AS) counts all that is mapped. So a process has the first `fixed` bytes mapped for good, and of the rest, which
 * is divided into regions of one size, only *windows*, as it needs them:
 *
 *   region     0 .......................... stride       what lies there is asked for by its offset and its length, all
 *   windows    |--|--|--|--|----|----|--------|          of it, since one window is to hold it; so a block of 2^k bytes
 *              |-----------|         a larger block       that begins at a multiple of 2^k never takes more than 2^k
 *
 * A window has 2^k bytes, from a multiple of 2^k on: 1 MiB, or an eighth of what lies before it in its region, or as much
 * as what was asked for needs, whichever is the most. So there are few of them (some hundred a region at most), and they
 * take about as much address space as a region whose lowest parts are used first has had in use. Where the system allows
 * no such window, one as small as what was asked for will do.
 *
 * Windows may overlap: they show the same pages. A window stays where it is until it is unmapped, which is for those to
 * order that know that nothing of it is in use. One thread at a time uses a hold: to look something up writes, too.
 */
#ifndef RP_SEGMENT_H
#define RP_SEGMENT_H

#include "os.h"

#define RP_MAGIC 0x6c6f6f70676e6972ull /* "ringpool" read as a little-endian word: wrong byte order fails too */
#define RP_VERSION 1u

#define RP_WINDOW_SHIFT 20u /* the usual size. Larger: hundreds of workers cost the parent more; smaller: more mappings */
#define RP_WINDOW_LEAST 16u /* a multiple of any page size */

/* For those that unmap: up to this many bytes may be mapped and not in use, of the process's own and of others'. */
#define RP_WINDOWS_KEEP (256u << 20) /* more costs address space, less costs mapping large payloads again; arbitrary */

struct rp_segment_header { /* written once by the creator, before another process can attach */
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; /* sizeof(struct rp_segment_header) of the creator */
    uint64_t bytes;        /* whole segment */
    uint64_t layout;       /* the caller's fingerprint of its structures and sizes */
};
RP_ASSERT_SIZE(struct rp_segment_header, 32);

struct rp_window {
    uint64_t key; /* its offset from `start` | log2 of its size; 0: free; 1: it was not always free */
    uint8_t *address;
};

struct rp_recent { /* a window that was asked for a moment ago; bytes is 0 if there is none */
    uint64_t offset, bytes;
    uint8_t *address;
};

struct rp_segment { /* one process's hold on it */
    struct rp_recent recent[2]; /* the last one first. Two: a payload goes from one arena to another */
    int fd;         /* -1 once closed: then no window can be added */
    uint8_t *base;  /* where the first `fixed` bytes are mapped */
    uint64_t fixed;
    uint64_t bytes;
    uint64_t file[2];          /* which file fd was when it was opened */
    uint64_t start, stride;    /* of the regions; stride is a power of two, 0: there are none */
    struct rp_window *windows; /* a hash table of `capacity`, a power of two or 0 */
    uint32_t capacity, used;   /* used: those with a key other than 0 */
    uint64_t shifts;           /* bit k: there is, or was, a window of 2^k bytes */
    uint64_t mapped;           /* bytes of all windows */
    int huge;                  /* 1: huge pages are asked for, -1: none are */
    int refused;               /* the system's last answer to a wish for a window: 0, or a negative errno */
    rp_mutex mutex;            /* of the windows */
};

/* The first `fixed` bytes are mapped. */
int rp_segment_create(struct rp_segment *seg, uint64_t bytes, uint64_t fixed, uint64_t layout);

/* Takes fd over (closes it when it fails). -EPROTO: another magic, version, size or layout; -EINVAL: not sealed. */
int rp_segment_attach(struct rp_segment *seg, int fd, uint64_t fixed, uint64_t layout);

/* What is behind `start`, a multiple of RP_PAGE, is divided into regions. Before any window is asked for. */
void rp_segment_divide(struct rp_segment *seg, uint64_t start, uint64_t stride);

/* Looks among all windows, and maps one if there is none. The caller holds the mutex. */
uint8_t *rp_segment_find(struct rp_segment *seg, uint64_t offset, uint64_t bytes);

/* In one of the windows that were asked for a moment ago, or NULL. The caller holds the mutex. */
static inline uint8_t *rp_segment_recent(const struct rp_segment *seg, uint64_t offset, uint64_t bytes)
{
    for (int i = 0; i < 2; i++) {
        const struct rp_recent *r = &seg->recent[i];
        uint64_t at = offset - r->offset; /* wraps before the window, and is refused with the rest */
        if (at < r->bytes && bytes <= r->bytes - at)
            return r->address + at;
    }
    return NULL;
}

/* Where [offset, offset + bytes), which the caller has found to lie within one region, is mapped, all in one; NULL if the
 * system refuses. What lies within a range that has been given an address before, and not unmapped, has one. (Looking
 * among all windows each time costs an echo of 1 KiB 430 instructions more, of 9,550.) */
static inline uint8_t *rp_segment_at(struct rp_segment *seg, uint64_t offset, uint64_t bytes)
{
    uint8_t *at;
    rp_mutex_lock(&seg->mutex);
    at = rp_segment_recent(seg, offset, bytes);
    if (!at)
        at = rp_segment_find(seg, offset, bytes);
    rp_mutex_unlock(&seg->mutex);
    return at;
}

/* Unmaps the windows that lie wholly within [from, to) and end behind `behind`; those of the regions for which
 * idle(arg, region) is true, but for the first of each: it is the likeliest to be wanted again. */
void rp_segment_unmap(struct rp_segment *seg, uint64_t from, uint64_t to, uint64_t behind);
void rp_segment_unmap_regions(struct rp_segment *seg, bool (*idle)(const void *arg, uint64_t region), const void *arg);

/* Gives whole pages back to the system. */
int rp_segment_punch(struct rp_segment *seg, uint64_t from, uint64_t bytes);

void rp_segment_close_fd(struct rp_segment *seg);
void rp_segment_destroy(struct rp_segment *seg);

#endif
