/* test_board.c - each task is claimed once or cancelled once, in order, however slow a claimer is or wherever it dies. */
#include "board.h"
#include "check.h"

static uint64_t seed;

static struct rp_board board_of(uint64_t capacity)
{
    struct rp_board b;
    rp_board_init(&b, zeroed(rp_board_bytes(capacity)), capacity);
    return b;
}

static void let_go(struct rp_board *b)
{
    free(b->shared);
}

/* The task at position pos has the id pos + 1. */
static bool try_post(struct rp_board *b)
{
    struct rp_slot *slot = rp_board_try_reserve(b);
    uint64_t pos = rp_load_relaxed(&b->write_pos);
    if (!slot)
        return false;
    slot->task_id = pos + 1;
    memset(slot->inline_bytes, (int)(pos & 0xff), sizeof slot->inline_bytes);
    CHECK_EQ(rp_board_publish(b), pos);
    return true;
}

static void post(struct rp_board *b, uint64_t n)
{
    while (n--)
        CHECK(try_post(b));
}

static void check_claim(struct rp_board *b, uint32_t owner, uint64_t pos)
{
    uint64_t at = UINT64_MAX;
    struct rp_slot *slot = rp_board_try_claim(b, owner, &at);
    CHECK(slot != NULL);
    CHECK_EQ(at, pos);
    CHECK_EQ(slot->task_id, pos + 1);
    CHECK(rp_board_claimed(b, pos));
}

static void check_empty(struct rp_board *b)
{
    uint64_t pos;
    CHECK(!rp_board_ready(b));
    CHECK(!rp_board_try_claim(b, 0, &pos));
}

static void tasks_are_claimed_in_the_order_they_were_posted(void)
{
    struct rp_board b = board_of(4);
    check_empty(&b);
    for (uint64_t pos = 0; pos < 40; pos += 2) {
        post(&b, 2);
        CHECK(rp_board_ready(&b));
        CHECK(!rp_board_claimed(&b, pos));
        check_claim(&b, 1, pos);
        check_claim(&b, 2, pos + 1);
        check_empty(&b);
        rp_board_release(&b, pos + 1);
        rp_board_release(&b, pos);
    }
    let_go(&b);
}

static void a_full_board_takes_no_more_until_a_slot_is_released(void)
{
    struct rp_board b = board_of(4);
    post(&b, 4);
    CHECK(!try_post(&b));
    check_claim(&b, 0, 0);
    CHECK(!try_post(&b)); /* claimed, but its worker still copies */
    rp_board_release(&b, 0);
    CHECK(try_post(&b));
    CHECK(!try_post(&b));
    let_go(&b);
}

static void a_reserved_slot_is_not_claimed(void)
{
    struct rp_board b = board_of(4);
    struct rp_slot *slot = rp_board_try_reserve(&b);
    memset((uint8_t *)slot + sizeof slot->word, 0xff, sizeof *slot - sizeof slot->word);
    check_empty(&b);
    CHECK(rp_board_try_reserve(&b) == slot);
    let_go(&b);
}

static void a_cancelled_task_is_never_claimed_and_a_claimed_one_never_cancelled(void)
{
    struct rp_board b = board_of(4);
    post(&b, 3);
    CHECK(rp_board_try_cancel(&b, 1));
    CHECK(!rp_board_try_cancel(&b, 1));
    CHECK(rp_board_claimed(&b, 1));
    check_claim(&b, 0, 0);
    CHECK(!rp_board_try_cancel(&b, 0));
    check_claim(&b, 0, 2);
    rp_board_release(&b, 0);
    CHECK(!rp_board_try_cancel(&b, 0));
    rp_board_release(&b, 2);
    post(&b, 4); /* the next lap: the old positions name nothing in it */
    for (uint64_t pos = 0; pos < 3; pos++)
        CHECK(!rp_board_try_cancel(&b, pos));
    check_claim(&b, 0, 3);
    check_claim(&b, 0, 4);
    let_go(&b);
}

static void whole_laps_of_cancelled_tasks_leave_the_board_in_order(void)
{
    for (uint64_t claimed = 0; claimed < 4; claimed++) {
        struct rp_board b = board_of(4);
        uint64_t pos = 0;
        for (; pos < claimed; pos++) {
            post(&b, 1);
            check_claim(&b, 0, pos);
            rp_board_release(&b, pos);
        }
        for (int lap = 0; lap < 10; lap++) {
            post(&b, 4);
            for (int i = 0; i < 4; i++)
                CHECK(rp_board_try_cancel(&b, pos++));
        }
        post(&b, 1);
        CHECK(rp_board_ready(&b));
        check_claim(&b, 0, pos);
        check_empty(&b);
        let_go(&b);
    }
}

static void a_slow_claimer_holds_up_its_slot_and_loses_nothing(void)
{
    struct rp_board b = board_of(4);
    post(&b, 4);
    check_claim(&b, 1, 0); /* and keeps it for a lap */
    for (uint64_t pos = 1; pos < 4; pos++) {
        check_claim(&b, 2, pos);
        rp_board_release(&b, pos);
    }
    CHECK(!try_post(&b));
    check_empty(&b); /* the hint must stay before the slot that is still to be filled */
    CHECK_EQ(rp_load_relaxed(&b.shared->claim_pos), 4);
    rp_board_release(&b, 0);
    check_empty(&b);
    post(&b, 4);
    for (uint64_t pos = 4; pos < 8; pos++)
        check_claim(&b, 2, pos);
    let_go(&b);
}

static void a_slow_claimer_among_cancelled_tasks_loses_nothing(void)
{
    struct rp_board b = board_of(4);
    post(&b, 4);
    check_claim(&b, 1, 0);
    for (uint64_t pos = 1; pos < 4; pos++)
        CHECK(rp_board_try_cancel(&b, pos));
    CHECK(!try_post(&b));
    check_empty(&b);
    rp_board_release(&b, 0);
    post(&b, 4);
    check_claim(&b, 2, 4);
    CHECK(!try_post(&b));
    for (uint64_t pos = 5; pos < 8; pos++)
        check_claim(&b, 3, pos);
    let_go(&b);
}

/* claim_pos is a hint: a claimer may die, or sleep, before it has pushed it. */
static void a_hint_that_lags_costs_time_and_no_task(void)
{
    struct rp_board b = board_of(4);
    for (uint64_t pos = 0; pos < 9; pos++) {
        post(&b, 1);
        check_claim(&b, 0, pos);
        rp_board_release(&b, pos);
    }
    post(&b, 2);
    rp_store_relaxed(&b.shared->claim_pos, 6u);
    CHECK(rp_board_ready(&b));
    CHECK_EQ(rp_load_relaxed(&b.shared->claim_pos), 9);
    rp_store_relaxed(&b.shared->claim_pos, 7u);
    CHECK(try_post(&b)); /* the parent helps it along when it must */
    check_claim(&b, 0, 9);
    check_claim(&b, 0, 10);
    check_claim(&b, 0, 11);
    check_empty(&b);
    let_go(&b);
}

static void a_hint_scribbled_over_does_not_hold_the_parent(void)
{
    const uint64_t scribbles[] = {0, 1, 1000, 1ull << 40, 1ull << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof scribbles / sizeof *scribbles; i++) {
        struct rp_board b = board_of(4);
        for (uint64_t pos = 0; pos < 40; pos++) {
            post(&b, 1);
            check_claim(&b, 0, pos);
            rp_board_release(&b, pos);
        }
        rp_store_relaxed(&b.shared->claim_pos, scribbles[i]);
        for (int n = 0; n < 8; n++)
            (void)try_post(&b);
        let_go(&b);
    }
}

/* ---- deaths ---- */

static void a_claim_of_the_dead_is_named_and_its_slot_freed(void)
{
    struct rp_board b = board_of(4);
    uint64_t id = 0;
    post(&b, 4);
    check_claim(&b, 5, 0);
    check_claim(&b, 6, 1);
    CHECK(!rp_board_recover(&b, 7, &id)); /* it held nothing */
    CHECK_EQ(id, 0);
    CHECK(rp_board_recover(&b, 6, &id));
    CHECK_EQ(id, 2);
    CHECK(!rp_board_recover(&b, 6, &id));
    CHECK(!try_post(&b)); /* the slot of the living is still its own */
    rp_board_release(&b, 0);
    post(&b, 2);
    for (uint64_t pos = 2; pos < 6; pos++)
        check_claim(&b, 6, pos);
    let_go(&b);
}

static void a_claimer_that_died_before_it_pushed_the_hint_delays_no_other(void)
{
    struct rp_board b = board_of(4);
    uint64_t id;
    post(&b, 2);
    check_claim(&b, 0, 0);
    rp_store_relaxed(&b.shared->claim_pos, 0u); /* it died between the claim and the push */
    check_claim(&b, 1, 1);
    rp_store_relaxed(&b.shared->claim_pos, 0u);
    CHECK(rp_board_recover(&b, 0, &id));
    CHECK_EQ(id, 1);
    check_empty(&b);
    rp_board_release(&b, 1);
    post(&b, 4);
    for (uint64_t pos = 2; pos < 6; pos++)
        check_claim(&b, 1, pos);
    let_go(&b);
}

static void the_last_claim_of_a_lap_is_recovered_in_the_right_lap(void)
{
    struct rp_board b = board_of(4);
    uint64_t id;
    for (uint64_t pos = 0; pos < 21; pos++) {
        post(&b, 1);
        check_claim(&b, 3, pos);
        CHECK(rp_board_recover(&b, 3, &id));
        CHECK_EQ(id, pos + 1);
    }
    post(&b, 4);
    check_claim(&b, 3, 21);
    let_go(&b);
}

/* ---- one poster, several claimers ---- */

#define CLAIMERS 3u
#define TASKS TIMES(200000u)

static struct {
    struct rp_board board;
    rp_word clock;
    _Atomic bool all_posted;
    struct {
        _Atomic uint32_t claims;
        uint64_t begun, ended; /* the clock just before and just after the claim */
        bool cancelled, too_late;
    } *tasks;
} work;

static void *claim_all(void *argument)
{
    uint32_t me = (uint32_t)(uintptr_t)argument;
    struct rng r = rng_from(seed + 100 + me);
    struct rp_board b;
    uint64_t last = 0;
    rp_board_init(&b, work.board.shared, work.board.capacity);
    for (;;) {
        bool all_posted = atomic_load(&work.all_posted);
        uint64_t pos, begun = atomic_fetch_add(&work.clock, 1);
        struct rp_slot *slot = rp_board_try_claim(&b, me, &pos), task;
        if (!slot) {
            if (all_posted)
                return NULL;
            give_way();
            continue;
        }
        CHECK(pos < TASKS && (last == 0 || pos >= last));
        last = pos + 1;
        work.tasks[pos].begun = begun;
        work.tasks[pos].ended = atomic_fetch_add(&work.clock, 1);
        CHECK_EQ(atomic_fetch_add(&work.tasks[pos].claims, 1), 0);
        if (one_in(&r, 50)) /* slow: others go on for a lap */
            for (uint64_t i = rng_below(&r, 20); i > 0; i--)
                give_way();
        memcpy(&task.task_id, &slot->task_id, sizeof task - sizeof task.word);
        CHECK_EQ(task.task_id, pos + 1);
        CHECK_EQ(task.inline_bytes[0], pos & 0xff);
        CHECK_EQ(task.inline_bytes[RP_SLOT_INLINE - 1], pos & 0xff);
        CHECK(rp_board_claimed(&b, pos));
        rp_board_release(&b, pos);
    }
}

static void cancel(uint64_t pos)
{
    if (rp_board_try_cancel(&work.board, pos))
        work.tasks[pos].cancelled = true;
    else
        work.tasks[pos].too_late = true;
}

static void run_claimers(uint64_t capacity)
{
    pthread_t claimers[CLAIMERS];
    struct rng r = rng_from(seed + capacity);
    uint64_t posted = 0, n_cancelled = 0, earliest = UINT64_MAX;
    memset(&work, 0, sizeof work);
    work.board = board_of(capacity);
    work.tasks = calloc(TASKS, sizeof *work.tasks);
    CHECK(work.tasks != NULL);
    for (uint32_t i = 0; i < CLAIMERS; i++)
        claimers[i] = start_thread(claim_all, (void *)(uintptr_t)i);
    while (posted < TASKS) {
        if (try_post(&work.board))
            posted++;
        else
            give_way();
        if (posted > 0 && one_in(&r, 4)) {
            uint64_t back = 1 + rng_below(&r, 2 * capacity);
            cancel(posted > back ? posted - back : 0);
        }
        if (posted > capacity && one_in(&r, 400)) /* a whole lap, as far as it is not claimed */
            for (uint64_t i = 1; i <= capacity; i++)
                cancel(posted - i);
        if (one_in(&r, 300))
            give_way();
    }
    atomic_store(&work.all_posted, true);
    for (uint32_t i = 0; i < CLAIMERS; i++)
        end_thread(claimers[i]);
    for (uint64_t pos = 0; pos < TASKS; pos++) {
        CHECK_EQ(atomic_load(&work.tasks[pos].claims), work.tasks[pos].cancelled ? 0 : 1);
        n_cancelled += work.tasks[pos].cancelled;
        if (work.tasks[pos].too_late && !work.tasks[pos].cancelled)
            CHECK_EQ(atomic_load(&work.tasks[pos].claims), 1);
    }
    /* First come, first served: no claim of a later task ended before the claim of an earlier one began. */
    for (uint64_t pos = TASKS; pos-- > 0;)
        if (!work.tasks[pos].cancelled) {
            CHECK(work.tasks[pos].begun < earliest);
            if (work.tasks[pos].ended < earliest)
                earliest = work.tasks[pos].ended;
        }
    check_empty(&work.board);
    CHECK_EQ(rp_load_relaxed(&work.board.shared->claim_pos), TASKS);
    CHECK(n_cancelled > 0 && n_cancelled < TASKS);
    free(work.tasks);
    let_go(&work.board);
}

static void several_claimers_share_a_small_board(void)
{
    run_claimers(4);
}

static void several_claimers_share_a_large_board(void)
{
    run_claimers(256);
}

int main(int argc, char **argv)
{
    begin(120);
    seed = seed_from(argc, argv, 1);
    RUN(tasks_are_claimed_in_the_order_they_were_posted);
    RUN(a_full_board_takes_no_more_until_a_slot_is_released);
    RUN(a_reserved_slot_is_not_claimed);
    RUN(a_cancelled_task_is_never_claimed_and_a_claimed_one_never_cancelled);
    RUN(whole_laps_of_cancelled_tasks_leave_the_board_in_order);
    RUN(a_slow_claimer_holds_up_its_slot_and_loses_nothing);
    RUN(a_slow_claimer_among_cancelled_tasks_loses_nothing);
    RUN(a_hint_that_lags_costs_time_and_no_task);
    RUN(a_hint_scribbled_over_does_not_hold_the_parent);
    RUN(a_claim_of_the_dead_is_named_and_its_slot_freed);
    RUN(a_claimer_that_died_before_it_pushed_the_hint_delays_no_other);
    RUN(the_last_claim_of_a_lap_is_recovered_in_the_right_lap);
    RUN(several_claimers_share_a_small_board);
    RUN(several_claimers_share_a_large_board);
    return 0;
}
