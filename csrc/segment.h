/* segment.h - one sealed, anonymous piece of shared memory.
 *
 * Its first page is the segment's own; the rest belongs to the caller (see the map in pool.h).
 * Guarantees: no name in any file system; the size never changes; the kernel frees it when the last process that has
 * it mapped or open is gone. Attaching checks that the other side was built from the same layout.
 * Not promised: that a process holding it behaves; whoever reads a word checks it.
 */
#ifndef RP_SEGMENT_H
#define RP_SEGMENT_H

#include "os.h"

#define RP_MAGIC 0x6c6f6f70676e6972ull /* "ringpool" read as a little-endian word: wrong byte order fails too */
#define RP_VERSION 1u

struct rp_segment_header { /* written once by the creator, before anybody can attach */
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; /* sizeof(struct rp_segment_header) of the creator */
    uint64_t bytes;        /* whole segment */
    uint64_t layout;       /* the caller's fingerprint of its structures and sizes */
};
RP_ASSERT_SIZE(struct rp_segment_header, 32);

struct rp_segment { /* one process's hold on it */
    int fd;         /* -1 once closed; the mapping stays */
    uint8_t *base;
    uint64_t bytes;
};

int rp_segment_create(struct rp_segment *seg, uint64_t bytes, uint64_t layout);

/* Takes fd over (closes it when it fails). -EPROTO: another magic, version, size or layout; -EINVAL: not sealed. */
int rp_segment_attach(struct rp_segment *seg, int fd, uint64_t layout);

void rp_segment_close_fd(struct rp_segment *seg);
void rp_segment_destroy(struct rp_segment *seg);

#endif
