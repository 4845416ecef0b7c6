/* test_segment.c - what a segment promises: sealed, nameless, and refused to a process that was built otherwise. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "segment.h"

#define LAYOUT 0x1234u
#define BYTES (4u * RP_PAGE)

static struct rp_segment made(void)
{
    struct rp_segment seg;
    CHECK_EQ(rp_segment_create(&seg, BYTES, BYTES, LAYOUT), 0);
    return seg;
}

/* Attaches a duplicate, checks that it was refused with `err`, that the descriptor is closed and *seg untouched. */
static void check_refused(int fd, uint64_t layout, int err)
{
    struct rp_segment seg, before;
    int n = open_fds(), copy = dup(fd);
    CHECK(copy >= 0);
    memset(&seg, 0x5a, sizeof seg);
    before = seg;
    CHECK_EQ(rp_segment_attach(&seg, copy, BYTES, layout), err);
    CHECK(!fd_is_open(copy));
    CHECK_EQ(open_fds(), n);
    CHECK(memcmp(&seg, &before, sizeof seg) == 0);
}

static void both_sides_see_the_same_bytes(void)
{
    struct rp_segment a = made(), b;
    int n = open_fds(), fd = dup(a.fd);
    CHECK_EQ(rp_segment_attach(&b, fd, BYTES, LAYOUT), 0);
    CHECK_EQ(b.fd, fd);
    CHECK_EQ(b.bytes, BYTES);
    CHECK(a.base != b.base);
    a.base[RP_PAGE] = 11;
    b.base[BYTES - 1] = 22;
    CHECK_EQ(b.base[RP_PAGE], 11);
    CHECK_EQ(a.base[BYTES - 1], 22);
    rp_segment_close_fd(&b);
    CHECK_EQ(b.fd, -1);
    CHECK_EQ(open_fds(), n);
    rp_segment_destroy(&a);
    b.base[RP_PAGE] = 33; /* it lives on as long as one has it mapped */
    rp_segment_destroy(&b);
    CHECK_EQ(open_fds(), n - 1);
}

static void it_is_destroyed_twice_without_harm(void)
{
    struct rp_segment seg = made();
    rp_segment_destroy(&seg);
    rp_segment_destroy(&seg);
    CHECK(seg.fd == -1 && seg.base == NULL);
}

static void new_bytes_are_zero_and_only_the_header_is_written(void)
{
    struct rp_segment seg = made();
    for (size_t i = sizeof(struct rp_segment_header); i < BYTES; i++)
        CHECK_EQ(seg.base[i], 0);
    rp_segment_destroy(&seg);
}

static void a_foreign_header_is_refused(void)
{
    struct rp_segment seg = made();
    struct rp_segment_header *header = (void *)seg.base;
    const struct rp_segment_header good = *header;
    check_refused(seg.fd, LAYOUT + 1, -EPROTO);

    header->magic = __builtin_bswap64(good.magic);
    check_refused(seg.fd, LAYOUT, -EPROTO);
    *header = good;
    header->version++;
    check_refused(seg.fd, LAYOUT, -EPROTO);
    *header = good;
    header->header_bytes += 8;
    check_refused(seg.fd, LAYOUT, -EPROTO);
    *header = good;
    header->bytes += RP_PAGE;
    check_refused(seg.fd, LAYOUT, -EPROTO);
    *header = good;
    header->layout ^= 1;
    check_refused(seg.fd, LAYOUT, -EPROTO);
    memset(header, 0, sizeof *header);
    check_refused(seg.fd, LAYOUT, -EPROTO);

    *header = good;
    {
        struct rp_segment again;
        CHECK_EQ(rp_segment_attach(&again, dup(seg.fd), BYTES, LAYOUT), 0);
        rp_segment_destroy(&again);
    }
    rp_segment_destroy(&seg);
}

static void a_file_too_small_for_a_header_is_refused(void)
{
    int fd;
    CHECK_EQ(rp_os_memfd("small", RP_PAGE - 1, &fd), 0);
    check_refused(fd, LAYOUT, -EPROTO);
    close(fd);
    CHECK_EQ(rp_os_memfd("empty", 0, &fd), 0);
    check_refused(fd, LAYOUT, -EPROTO);
    close(fd);
}

static void a_file_that_may_change_its_size_is_refused(void)
{
    const int seals[] = {0, F_SEAL_SHRINK, F_SEAL_GROW};
    struct rp_segment good = made();
    for (size_t i = 0; i < sizeof seals / sizeof *seals; i++) {
        int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        CHECK(fd >= 0);
        CHECK_EQ(ftruncate(fd, BYTES), 0);
        CHECK_EQ(write(fd, good.base, sizeof(struct rp_segment_header)), sizeof(struct rp_segment_header));
        CHECK_EQ(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
        check_refused(fd, LAYOUT, -EINVAL);
        close(fd);
    }
    rp_segment_destroy(&good);
}

static void what_is_no_memory_file_is_refused(void)
{
    struct rp_segment seg;
    int ends[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    check_refused(ends[0], LAYOUT, -EINVAL);
    check_refused(null, LAYOUT, -EINVAL);
    close(ends[0]);
    close(ends[1]);
    close(null);
    CHECK_EQ(rp_segment_attach(&seg, -1, BYTES, LAYOUT), -EBADF);
}

static void no_process_can_shrink_it_grow_it_or_add_a_seal(void)
{
    struct rp_segment seg = made();
    struct stat st;
    CHECK(ftruncate(seg.fd, RP_PAGE) == -1 && errno == EPERM);
    CHECK(ftruncate(seg.fd, 2 * BYTES) == -1 && errno == EPERM);
    CHECK(fallocate(seg.fd, 0, 0, 2 * BYTES) == -1 && errno == EPERM);
    CHECK(fcntl(seg.fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EPERM);
    CHECK_EQ(fstat(seg.fd, &st), 0);
    CHECK_EQ(st.st_size, BYTES);
    rp_segment_destroy(&seg);
}

static void it_is_its_users_own_and_not_handed_to_other_programs(void)
{
    struct rp_segment seg = made();
    struct stat st;
    CHECK_EQ(fstat(seg.fd, &st), 0);
    CHECK_EQ(st.st_mode & 07777, 0600);
    CHECK_EQ(st.st_nlink, 0);
    CHECK(fcntl(seg.fd, F_GETFD) & FD_CLOEXEC);
    rp_segment_destroy(&seg);
}

static void a_forked_child_does_not_inherit_the_mapping(void)
{
    struct rp_segment seg = made();
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) /* ENOMEM: nothing is mapped there */
        _exit(msync(seg.base, RP_PAGE, MS_ASYNC) == -1 && errno == ENOMEM ? 0 : 1);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    rp_segment_destroy(&seg);
}

static void a_size_that_cannot_be_is_refused_without_a_leak(void)
{
    struct rp_segment seg, before;
    int n = open_fds();
    memset(&seg, 0x5a, sizeof seg);
    before = seg;
    CHECK_EQ(rp_segment_create(&seg, RP_PAGE - 1, RP_PAGE - 1, LAYOUT), -EINVAL);
    CHECK_EQ(rp_segment_create(&seg, 0, 0, LAYOUT), -EINVAL);
    CHECK_EQ(rp_segment_create(&seg, 1ull << 62, 1ull << 62, LAYOUT), -ENOMEM);
    CHECK(rp_segment_create(&seg, 1ull << 63, 1ull << 63, LAYOUT) < 0);
    CHECK_EQ(open_fds(), n);
    CHECK(memcmp(&seg, &before, sizeof seg) == 0);
}

#define START (16u * RP_PAGE)
#define STRIDE (64u << 20)
#define REGIONS 3u

static struct rp_segment divided(void)
{
    struct rp_segment seg;
    CHECK_EQ(rp_segment_create(&seg, START + REGIONS * STRIDE, START, LAYOUT), 0);
    rp_segment_divide(&seg, START, STRIDE);
    return seg;
}

/* Whatever is asked for has an address, all in one, that shows just these bytes; and what lies within it has the address
 * that it has there, without another window. */
static void every_range_of_a_region_has_an_address(void)
{
    struct rng r = rng_from(7);
    struct rp_segment seg = divided();
    uint8_t *whole;
    CHECK_EQ(rp_os_map(seg.fd, 0, seg.bytes, &whole), 0);
    for (uint64_t i = 0; i < seg.bytes; i += 512)
        memcpy(whole + i, &i, 8);
    for (uint32_t step = 0; step < TIMES(2000u); step++) {
        uint64_t region = rng_below(&r, REGIONS), at, bytes, from, found, mapped;
        uint8_t *p;
        bytes = 1 + rng_below(&r, 1ull << rng_below(&r, 27));
        if (bytes > STRIDE)
            bytes = STRIDE;
        at = rng_below(&r, STRIDE - bytes + 1);
        from = START + region * STRIDE + at;
        p = rp_segment_at(&seg, from, bytes);
        CHECK(p != NULL);
        for (uint64_t i = (from + 511) / 512 * 512; i + 8 <= from + bytes; i += 512 * (1 + rng_below(&r, 1000))) {
            memcpy(&found, p + (i - from), 8);
            CHECK_EQ(found, i);
        }
        CHECK_EQ(p[bytes - 1], whole[from + bytes - 1]);
        mapped = seg.mapped;
        CHECK(rp_segment_at(&seg, from + bytes / 2, bytes - bytes / 2) != NULL);
        CHECK_EQ(rp_segment_at(&seg, from, bytes), p);
        CHECK(seg.mapped == mapped || bytes / 2 > 0);
        if (step % 100 == 99) {
            rp_segment_unmap(&seg, START + region * STRIDE, START + (region + 1) * STRIDE, 0);
            CHECK(seg.mapped < mapped);
        }
    }
    rp_segment_unmap(&seg, 0, seg.bytes, 0);
    CHECK_EQ(seg.mapped, 0);
    rp_os_unmap(whole, seg.bytes);
    rp_segment_destroy(&seg);
}

/* A region that is used from its lowest parts on takes an eighth more address space than was used, and few mappings. */
static void windows_are_about_as_large_as_what_is_used(void)
{
    struct rp_segment seg = divided();
    uint32_t n = 0;
    for (uint64_t at = 0; at < STRIDE; at += 4096) {
        CHECK(rp_segment_at(&seg, START + at, 4096) != NULL);
        CHECK(seg.mapped <= at + at / 8 + (1u << RP_WINDOW_SHIFT));
    }
    for (uint32_t i = 0; i < seg.capacity; i++)
        n += seg.windows[i].key > 1;
    CHECK(n < 50);
    CHECK(rp_segment_at(&seg, START, STRIDE) != NULL);
    CHECK_EQ(seg.mapped, 2ull * STRIDE);
    rp_segment_destroy(&seg);
}

static bool is_second(const void *arg, uint64_t region)
{
    CHECK_EQ(*(const int *)arg, 5);
    return region == 1;
}

static void windows_of_idle_regions_are_unmapped_and_no_others(void)
{
    struct rp_segment seg = divided();
    uint8_t *first = rp_segment_at(&seg, START, 10), *last = rp_segment_at(&seg, START + REGIONS * STRIDE - 1, 1);
    uint64_t mapped = seg.mapped;
    const int five = 5;
    CHECK(rp_segment_at(&seg, START + STRIDE, STRIDE) != NULL);
    rp_segment_unmap_regions(&seg, is_second, &five);
    CHECK_EQ(seg.mapped, mapped);
    CHECK_EQ(rp_segment_at(&seg, START, 10), first);
    CHECK_EQ(rp_segment_at(&seg, START + REGIONS * STRIDE - 1, 1), last);
    rp_segment_destroy(&seg);
}

/* What has an address keeps it where no more address space is available; what has none is refused, and mapped later. */
static inline void a_limit_of_the_address_space_refuses_windows(void)
{
    struct rlimit old, low;
    struct rp_segment seg = divided();
    uint8_t *first = rp_segment_at(&seg, START, 10);
    CHECK_EQ(getrlimit(RLIMIT_AS, &old), 0);
    low = old;
    low.rlim_cur = 1;
    CHECK_EQ(setrlimit(RLIMIT_AS, &low), 0);
    CHECK(rp_segment_at(&seg, START + STRIDE, 10) == NULL);
    CHECK_EQ(seg.refused, -ENOMEM);
    CHECK_EQ(rp_segment_at(&seg, START + 5, 10), first + 5);
    CHECK_EQ(setrlimit(RLIMIT_AS, &old), 0);
    CHECK(rp_segment_at(&seg, START + STRIDE, 10) != NULL);
    CHECK_EQ(seg.refused, 0);
    rp_segment_destroy(&seg);
}

/* User code may close descriptors that are not its own, and open others that get their numbers. */
static void another_file_with_the_number_of_the_descriptor_is_not_mapped(void)
{
    struct rp_segment seg = divided(), other = divided();
    CHECK_EQ(dup2(other.fd, seg.fd), seg.fd);
    CHECK(rp_segment_at(&seg, START, 10) == NULL);
    CHECK_EQ(seg.refused, -EBADF);
    CHECK_EQ(close(seg.fd), 0);
    CHECK(rp_segment_at(&seg, START, 10) == NULL);
    CHECK_EQ(seg.refused, -EBADF);
    seg.fd = -1;
    rp_segment_destroy(&seg);
    rp_segment_destroy(&other);
}

static void an_attached_descriptor_is_not_handed_to_other_programs(void)
{
    struct rp_segment seg = made(), again;
    int fd = dup(seg.fd);
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
    CHECK_EQ(rp_segment_attach(&again, fd, BYTES, LAYOUT), 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    rp_segment_destroy(&again);
    rp_segment_destroy(&seg);
}

int main(void)
{
    begin(120);
    RUN(both_sides_see_the_same_bytes);
    RUN(it_is_destroyed_twice_without_harm);
    RUN(new_bytes_are_zero_and_only_the_header_is_written);
    RUN(a_foreign_header_is_refused);
    RUN(a_file_too_small_for_a_header_is_refused);
    RUN(a_file_that_may_change_its_size_is_refused);
    RUN(what_is_no_memory_file_is_refused);
    RUN(no_process_can_shrink_it_grow_it_or_add_a_seal);
    RUN(it_is_its_users_own_and_not_handed_to_other_programs);
    RUN_UNLESS_EMULATED(a_forked_child_does_not_inherit_the_mapping);
    RUN(a_size_that_cannot_be_is_refused_without_a_leak);
    RUN(every_range_of_a_region_has_an_address);
    RUN(windows_are_about_as_large_as_what_is_used);
    RUN(windows_of_idle_regions_are_unmapped_and_no_others);
#ifndef __SANITIZE_THREAD__ /* which needs address space for itself */
    RUN_UNLESS_EMULATED(a_limit_of_the_address_space_refuses_windows);
#endif
    RUN(another_file_with_the_number_of_the_descriptor_is_not_mapped);
    RUN(an_attached_descriptor_is_not_handed_to_other_programs);
    return 0;
}
