#include "segment.h"

#include <unistd.h>

int rp_segment_create(struct rp_segment *seg, uint64_t bytes, uint64_t layout)
{
    struct rp_segment s = {.fd = -1, .base = NULL, .bytes = bytes};
    int err;
    if (bytes < RP_PAGE)
        return -EINVAL;
    err = rp_os_memfd("ringpool", bytes, &s.fd);
    if (!err)
        err = rp_os_map(s.fd, bytes, &s.base);
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

int rp_segment_attach(struct rp_segment *seg, int fd, uint64_t layout)
{
    struct rp_segment s = {.fd = fd, .base = NULL, .bytes = 0};
    int err = rp_os_memfd_check(fd, &s.bytes);
    if (!err && s.bytes < RP_PAGE)
        err = -EPROTO;
    if (!err)
        err = rp_os_map(fd, s.bytes, &s.base);
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

void rp_segment_close_fd(struct rp_segment *seg)
{
    if (seg->fd >= 0)
        close(seg->fd);
    seg->fd = -1;
}

void rp_segment_destroy(struct rp_segment *seg)
{
    rp_segment_close_fd(seg);
    rp_os_unmap(seg->base, seg->bytes);
    seg->base = NULL;
}
