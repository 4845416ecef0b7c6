/* test_ring.c - one writer, one reader, and neither believes more of the other than it must. */
#include "check.h"
#include "ring.h"

#define SHIFT 7u

struct packet {
    rp_word seq;
    uint64_t pos;
    uint64_t body[14]; /* the pos in each */
};
RP_ASSERT_SIZE(struct packet, 1u << SHIFT);

static uint64_t seed;

/* A ring in memory of its own, and a hold of it for each side. */
struct pair {
    void *memory;
    struct rp_ring writer, reader;
};

static struct pair pair_of(uint64_t capacity)
{
    struct pair p;
    p.memory = zeroed(rp_ring_bytes(capacity, SHIFT));
    rp_ring_init(&p.writer, p.memory, capacity, SHIFT);
    rp_ring_init(&p.reader, p.memory, capacity, SHIFT);
    return p;
}

static bool try_write(struct rp_ring *r, uint64_t pos)
{
    struct packet *at = rp_ring_try_reserve(r);
    if (!at)
        return false;
    CHECK((uint8_t *)at >= r->slots && (uint8_t *)at < r->slots + (r->capacity << SHIFT));
    at->pos = pos;
    for (size_t i = 0; i < 14; i++)
        at->body[i] = pos;
    rp_ring_publish(r);
    return true;
}

static bool try_read(struct rp_ring *r, uint64_t pos)
{
    const struct packet *at = rp_ring_try_peek(r);
    if (!at)
        return false;
    CHECK_EQ(at->pos, pos);
    for (size_t i = 0; i < 14; i++)
        CHECK_EQ(at->body[i], pos);
    rp_ring_release(r);
    return true;
}

static void what_is_published_is_read_in_order(void)
{
    struct pair p = pair_of(8);
    for (uint64_t pos = 0; pos < 100; pos++) {
        CHECK(!rp_ring_try_peek(&p.reader));
        CHECK(try_write(&p.writer, pos));
        CHECK(try_read(&p.reader, pos));
        rp_ring_commit(&p.reader);
    }
    free(p.memory);
}

static void a_reserved_slot_is_not_seen_before_it_is_published(void)
{
    struct pair p = pair_of(8);
    struct packet *at = rp_ring_try_reserve(&p.writer);
    memset((uint8_t *)at + sizeof at->seq, 0xff, sizeof *at - sizeof at->seq);
    CHECK(!rp_ring_try_peek(&p.reader));
    CHECK(rp_ring_try_reserve(&p.writer) == at); /* and reserving again is no step */
    rp_ring_publish(&p.writer);
    CHECK(rp_ring_try_peek(&p.reader) == at);
    CHECK(rp_ring_try_peek(&p.reader) == at);
    free(p.memory);
}

static void a_full_ring_gives_no_slot_until_slots_are_committed(void)
{
    struct pair p = pair_of(8);
    uint64_t pos = 0;
    while (try_write(&p.writer, pos))
        pos++;
    CHECK_EQ(pos, 8);
    CHECK_EQ(rp_ring_unread(&p.writer), 8);
    for (uint64_t i = 0; i < 3; i++)
        CHECK(try_read(&p.reader, i));
    CHECK(!try_write(&p.writer, pos)); /* read, but not handed back */
    CHECK_EQ(rp_ring_unread(&p.writer), 8);
    rp_ring_commit(&p.reader);
    CHECK_EQ(rp_ring_unread(&p.writer), 5);
    while (try_write(&p.writer, pos))
        pos++;
    CHECK_EQ(pos, 11);
    for (uint64_t i = 3; i < 11; i++)
        CHECK(try_read(&p.reader, i));
    CHECK(!rp_ring_try_peek(&p.reader)); /* a slot of the last lap is not taken for one of this */
    free(p.memory);
}

static void a_commit_without_news_leaves_the_line_alone(void)
{
    struct pair p = pair_of(8);
    CHECK(try_write(&p.writer, 0));
    CHECK(try_read(&p.reader, 0));
    rp_ring_commit(&p.reader);
    rp_store_relaxed(&p.reader.shared->read_pos, 99u);
    rp_ring_commit(&p.reader);
    CHECK_EQ(rp_load_relaxed(&p.reader.shared->read_pos), 99);
    free(p.memory);
}

static void a_reset_ring_is_as_new(void)
{
    struct pair p = pair_of(8);
    uint64_t pos = 0;
    while (try_write(&p.writer, pos))
        pos++;
    for (uint64_t i = 0; i < 5; i++)
        CHECK(try_read(&p.reader, i));
    rp_ring_commit(&p.reader);
    rp_ring_reset(&p.reader);
    rp_ring_init(&p.writer, p.memory, 8, SHIFT); /* the successor */
    CHECK(!rp_ring_try_peek(&p.reader));
    CHECK_EQ(rp_ring_unread(&p.writer), 0);
    for (pos = 0; try_write(&p.writer, pos); pos++)
        ;
    CHECK_EQ(pos, 8);
    for (uint64_t i = 0; i < 8; i++)
        CHECK(try_read(&p.reader, i));
    CHECK(!rp_ring_try_peek(&p.reader));
    free(p.memory);
}

static void a_lying_read_pos_is_not_believed(void)
{
    const uint64_t lies[] = {9, 10, 1000, 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 7};
    struct pair p = pair_of(8);
    uint64_t pos = 0;
    while (try_write(&p.writer, pos))
        pos++;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        rp_store_relaxed(&p.writer.shared->read_pos, lies[i]);
        CHECK(!rp_ring_try_reserve(&p.writer));
    }
    rp_store_relaxed(&p.writer.shared->read_pos, 3u);
    while (try_write(&p.writer, pos))
        pos++;
    CHECK_EQ(pos, 11);
    rp_store_relaxed(&p.writer.shared->read_pos, 2u); /* back */
    CHECK(!rp_ring_try_reserve(&p.writer));
    /* All handed back, unread: the one lie that cannot be told from the truth. It costs results, not memory. */
    for (int lap = 0; lap < 20; lap++) {
        uint64_t start = pos;
        rp_store_relaxed(&p.writer.shared->read_pos, pos);
        while (try_write(&p.writer, pos))
            pos++;
        CHECK_EQ(pos - start, 8);
    }
    free(p.memory);
}

static void a_lying_slot_is_not_read(void)
{
    struct pair p = pair_of(8);
    const uint64_t lies[] = {0, 2, 9, UINT64_MAX};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        rp_store_relaxed(rp_ring_slot(&p.reader, 0), lies[i]);
        CHECK(!rp_ring_try_peek(&p.reader));
    }
    free(p.memory);
}

static uint64_t n_packets;

static void *write_all(void *argument)
{
    struct pair *p = argument;
    struct rng r = rng_from(seed);
    for (uint64_t pos = 0; pos < n_packets;) {
        if (try_write(&p->writer, pos))
            pos++;
        else
            give_way();
        CHECK(rp_ring_unread(&p->writer) <= p->writer.capacity);
        if (one_in(&r, 1000))
            give_way();
    }
    return NULL;
}

static void packets_cross_from_thread_to_thread(void)
{
    const uint64_t capacities[] = {1, 2, 8, 256};
    n_packets = TIMES(100000u);
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        struct pair p = pair_of(capacities[i]);
        struct rng r = rng_from(seed + i);
        pthread_t writer = start_thread(write_all, &p);
        for (uint64_t pos = 0; pos < n_packets;) {
            if (try_read(&p.reader, pos)) {
                pos++;
                if (one_in(&r, 1 + capacities[i] / 2))
                    rp_ring_commit(&p.reader);
            } else {
                rp_ring_commit(&p.reader);
                give_way();
            }
        }
        end_thread(writer);
        CHECK(!rp_ring_try_peek(&p.reader));
        rp_ring_commit(&p.reader);
        CHECK_EQ(rp_ring_unread(&p.writer), 0);
        free(p.memory);
    }
}

int main(int argc, char **argv)
{
    begin(120);
    seed = seed_from(argc, argv, 1);
    RUN(what_is_published_is_read_in_order);
    RUN(a_reserved_slot_is_not_seen_before_it_is_published);
    RUN(a_full_ring_gives_no_slot_until_slots_are_committed);
    RUN(a_commit_without_news_leaves_the_line_alone);
    RUN(a_reset_ring_is_as_new);
    RUN(a_lying_read_pos_is_not_believed);
    RUN(a_lying_slot_is_not_read);
    RUN(packets_cross_from_thread_to_thread);
    return 0;
}
