/* test_herald.c - the thread that sleeps in the collector's place tells whatever it is told, and ends wherever it is. */
#include "check.h"
#include "herald.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SIZES ((struct rp_sizes){1u << 20, 1u << 20, 1u << 20, 1u << 20})
#define ROUNDS 2000

static bool told(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

static void take(int fd)
{
    uint64_t n;
    CHECK(told(fd, -1));
    CHECK_EQ(read(fd, &n, sizeof n), (ssize_t)sizeof n);
}

static void every_kick_is_told_whether_it_comes_before_or_after_the_herald_sleeps(void)
{
    struct rp_parent p;
    struct rp_herald h;
    int fd = eventfd(0, EFD_CLOEXEC);
    CHECK_EQ(rp_pool_create(&p, 1, 2, SIZES), 0);
    CHECK_EQ(rp_herald_begin(&h, &p, fd), 0);
    for (int round = 0; round < ROUNDS; round++) {
        rp_pool_begin_service(&p);
        if (round % 2)
            rp_pool_kick_service(&p);
        rp_herald_send(&h);
        if (round % 2 == 0)
            rp_pool_kick_service(&p);
        take(fd);
    }
    CHECK(!told(fd, 0)); /* as often as it was sent, and no more */
    rp_herald_end(&h);
    rp_pool_destroy(&p);
    close(fd);
}

static void it_ends_idle_asleep_and_on_its_way(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    for (int round = 0; round < ROUNDS / 10; round++) {
        struct rp_parent p;
        struct rp_herald h;
        CHECK_EQ(rp_pool_create(&p, 1, 2, SIZES), 0);
        CHECK_EQ(rp_herald_begin(&h, &p, fd), 0);
        rp_pool_begin_service(&p);
        if (round % 2)
            rp_herald_send(&h);
        if (round % 4 == 3)
            (void)told(fd, 1); /* most likely it sleeps by now */
        rp_herald_end(&h);
        rp_pool_destroy(&p);
    }
    close(fd);
}

int main(void)
{
    begin(120);
    RUN(every_kick_is_told_whether_it_comes_before_or_after_the_herald_sleeps);
    RUN(it_ends_idle_asleep_and_on_its_way);
    return 0;
}
