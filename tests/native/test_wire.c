/* test_wire.c - what is written is what is read, at any address, and where others expect it. */
#include "check.h"
#include "wire.h"

static uint8_t memory[512] __attribute__((aligned(64)));

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t n;
    memcpy(&n, p, 8);
    return n;
}

static void a_parcel_is_read_as_it_was_written_at_any_address(void)
{
    for (unsigned at = 0; at < 8; at++) {
        uint8_t *p = memory + at;
        memset(memory, 0xAA, sizeof memory);
        rp_parcel_begin(p, RP_PARCEL, 3, 1000);
        for (unsigned k = 0; k < 3; k++)
            rp_parcel_set_extent(p, k, rp_extent(UINT64_C(1) << (40 + k), k == 1));
        CHECK_EQ(rp_read_once8(p), RP_PARCEL);
        CHECK_EQ(rp_parcel_buffers(p), 3);
        CHECK_EQ(rp_parcel_pickle_bytes(p), 1000);
        for (unsigned k = 0; k < 3; k++) {
            CHECK_EQ(rp_extent_bytes(rp_parcel_extent(p, k)), 1ll << (40 + k));
            CHECK_EQ(rp_extent_readonly(rp_parcel_extent(p, k)), k == 1);
            CHECK_EQ(u64_at(p + 16 + 8 * k), rp_parcel_extent(p, k));
        }
        CHECK_EQ(rp_parcel_pickle_at(3), 16 + 8 * 3);
        CHECK_EQ(p[16 + 8 * 3], 0xAA);
        CHECK(p[1] == 0 && p[2] == 0 && p[3] == 0); /* nothing of this process's memory goes along */
    }
}

static void a_spread_begins_with_no_holder(void)
{
    uint8_t *p = memory + 64;
    memset(memory, 0xAA, sizeof memory);
    rp_parcel_begin(p, RP_SPREAD, 2, 7);
    rp_spread_set(p, 0, rp_extent(5, true), 4096);
    rp_spread_set(p, 1, rp_extent(6, false), 8192);
    CHECK_EQ(rp_spread_extent(p, 0), 5 << 1 | 1);
    CHECK_EQ(rp_spread_offset(p, 1), 8192);
    CHECK_EQ(rp_load_acquire(rp_spread_holder(p, 0)), 0);
    rp_store_release(rp_spread_holder(p, 1), 9);
    CHECK_EQ(u64_at(p + 16 + 24 + 16), 9);
    CHECK_EQ(rp_spread_offset(p, 1), 8192);
    CHECK_EQ(rp_spread_pickle_at(2), 16 + 24 * 2);
    CHECK_EQ(p[16 + 24 * 2], 0xAA);
}

static void the_words_of_a_shared_object_lie_behind_each_other(void)
{
    uint8_t *p = memory;
    memset(memory, 0, sizeof memory);
    rp_store_release(rp_share_dying(p), 1);
    rp_store_release(rp_share_holder(p, 0), 2);
    rp_store_release(rp_share_holder(p, 6), 3);
    CHECK_EQ(u64_at(p), 1);
    CHECK_EQ(u64_at(p + 8), 2);
    CHECK_EQ(u64_at(p + 8 + 8 * 6), 3);
    CHECK_EQ(rp_share_table_bytes(1), 64);
    CHECK_EQ(rp_share_table_bytes(7), 64);
    CHECK_EQ(rp_share_table_bytes(8), 128);
}

static void a_record_tells_its_kind_its_length_and_the_next(void)
{
    for (unsigned at = 0; at < 8; at++) {
        uint8_t *p = memory + at;
        uint64_t head = rp_record_of(RP_KIND_ARGS | RP_ITEM_APART, sizeof(struct rp_apart));
        memset(memory, 0xAA, sizeof memory);
        rp_record_put(p, head);
        rp_apart_put(p + RP_RECORD_HEAD, 1u << 20, 77);
        CHECK_EQ(rp_record_at(p), head);
        CHECK_EQ(rp_record_kind(head), RP_KIND_ARGS | RP_ITEM_APART);
        CHECK_EQ(rp_record_bytes(head), 16);
        CHECK_EQ(rp_record_span(head), 24);
        CHECK_EQ(rp_apart_offset(p + 8), 1 << 20);
        CHECK_EQ(rp_apart_bytes(p + 8), 77);
        CHECK_EQ(p[24], 0xAA);
    }
    CHECK(rp_record_bytes(rp_record_of(RP_KIND_LAST, (UINT64_C(1) << 56) - 1)) == (UINT64_C(1) << 56) - 1);
}

static void a_chunk_tells_its_items_and_its_function(void)
{
    for (unsigned at = 0; at < 8; at++) {
        uint8_t *p = memory + at;
        memset(memory, 0xAA, sizeof memory);
        rp_chunk_put(p, 65535, 12);
        CHECK_EQ(rp_chunk_items(p), 65535);
        CHECK_EQ(rp_chunk_function_bytes(p), 12);
        CHECK_EQ(p[sizeof(struct rp_chunk_head)], 0xAA);
    }
}

int main(void)
{
    begin(60);
    RUN(a_parcel_is_read_as_it_was_written_at_any_address);
    RUN(a_spread_begins_with_no_holder);
    RUN(the_words_of_a_shared_object_lie_behind_each_other);
    RUN(a_record_tells_its_kind_its_length_and_the_next);
    RUN(a_chunk_tells_its_items_and_its_function);
    return 0;
}
