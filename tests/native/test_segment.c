/* test_segment.c - what a segment promises: sealed, nameless, and refused to whoever was built otherwise. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "segment.h"

#define LAYOUT 0x1234u
#define BYTES (4u * RP_PAGE)

static struct rp_segment made(void)
{
    struct rp_segment seg;
    CHECK_EQ(rp_segment_create(&seg, BYTES, LAYOUT), 0);
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
    CHECK_EQ(rp_segment_attach(&seg, copy, layout), err);
    CHECK(!fd_is_open(copy));
    CHECK_EQ(open_fds(), n);
    CHECK(memcmp(&seg, &before, sizeof seg) == 0);
}

static void both_sides_see_the_same_bytes(void)
{
    struct rp_segment a = made(), b;
    int n = open_fds(), fd = dup(a.fd);
    CHECK_EQ(rp_segment_attach(&b, fd, LAYOUT), 0);
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
        CHECK_EQ(rp_segment_attach(&again, dup(seg.fd), LAYOUT), 0);
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
    CHECK_EQ(rp_segment_attach(&seg, -1, LAYOUT), -EBADF);
}

static void nobody_can_shrink_it_grow_it_or_add_a_seal(void)
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
    CHECK_EQ(rp_segment_create(&seg, RP_PAGE - 1, LAYOUT), -EINVAL);
    CHECK_EQ(rp_segment_create(&seg, 0, LAYOUT), -EINVAL);
    CHECK_EQ(rp_segment_create(&seg, 1ull << 62, LAYOUT), -ENOMEM);
    CHECK(rp_segment_create(&seg, 1ull << 63, LAYOUT) < 0);
    CHECK_EQ(open_fds(), n);
    CHECK(memcmp(&seg, &before, sizeof seg) == 0);
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
    RUN(nobody_can_shrink_it_grow_it_or_add_a_seal);
    RUN(it_is_its_users_own_and_not_handed_to_other_programs);
    RUN(a_forked_child_does_not_inherit_the_mapping);
    RUN(a_size_that_cannot_be_is_refused_without_a_leak);
    return 0;
}
