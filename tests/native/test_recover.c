/* test_recover.c - deaths, built by hand: the words are left as a process leaves them that dies at that very step.
 *
 * Worker 0 is the one that dies: this thread plays it, with the functions of pool.h as far as they go whole, and with
 * their single steps from there. Worker 1 is alive, in a thread of its own, and mostly asleep. The parent is this thread
 * again. A lost wake that is not repeated is a hang, which the watchdog ends.
 */
#include "check.h"
#include "crew.h"

#define DEAD 0u
#define LIVE 1u

static uint64_t seed;
static struct books books;
static struct rp_worker dead, live;
static pthread_t live_thread;
static _Atomic int live_id;

static void *live_on(void *unused)
{
    atomic_store(&live_id, this_thread());
    CHECK(!run_worker(&live, (struct habits){0}, seed));
    return unused;
}

/* Has worker 1 gone to sleep, and does nothing that was done since wake it? */
static bool live_sleeps(void)
{
    return atomic_load(&live_id) && is_sleeper(&books, LIVE) && thread_sleeps(atomic_load(&live_id)) &&
           rp_load_seq_cst(&books.pool.entries[LIVE].bell.word) == RP_ASLEEP;
}

static void await_live_sleeps(void)
{
    while (!live_sleeps())
        give_way();
}

/* `alive`: worker 1 is there from the start. */
static void open_scene(bool alive)
{
    open_books(&books, 2, 2, 3000, seed);
    attach_here(&dead, &books.pool, DEAD);
    rp_pool_join(&dead);
    atomic_store(&live_id, 0);
    if (alive) {
        attach_here(&live, &books.pool, LIVE);
        live_thread = start_thread(live_on, NULL);
        await_live_sleeps();
    }
}

static void settle_all(void)
{
    (void)drain(&books);
    while (books.outstanding) {
        CHECK_EQ(rp_pool_wait_results(&books.pool, books.outstanding, -1), 0);
        (void)drain(&books);
    }
}

static void do_task(struct rp_worker *p)
{
    struct rp_slot task;
    CHECK_EQ(rp_pool_next(p, &task), RP_RUN);
    run_task(p, &task);
}

/* The corpse is found: its place is cleared, all that may wait for it are woken. Returns how many tasks are lost. */
static uint64_t find_corpse(void)
{
    uint64_t lost;
    detach_here(&dead);
    lost = recover_worker(&books, DEAD);
    CHECK(!is_sleeper(&books, DEAD));
    CHECK(!bit_of(books.pool.shared->ready, DEAD));
    rp_pool_resume_after_recovery(&books.pool, books.outstanding);
    return lost;
}

/* A successor takes the place, works, and the books are closed: whatever was lost is one of `n_lost`. */
static void close_scene(bool alive, uint64_t n_lost)
{
    struct rp_worker successor;
    if (alive)
        settle_all();
    attach_here(&successor, &books.pool, DEAD);
    rp_pool_join(&successor);
    if (!alive) {
        post(&books, 3000); /* over all slots of the board and of the ring, twice */
        while (books.outstanding) {
            do_task(&successor);
            (void)drain(&books);
        }
    }
    rp_pool_leave(&successor);
    detach_here(&successor);
    if (alive) {
        (void)recover_worker(&books, DEAD);
        rp_pool_resume_after_recovery(&books.pool, 0); /* it had left: no wake may be owed to it either */
        await_live_sleeps();
        post(&books, 1); /* and from here on all is as ever */
        settle_all();
        rp_pool_stop(&books.pool);
        end_thread(live_thread);
        detach_here(&live);
    }
    CHECK_EQ(books.count[LOST], n_lost);
    CHECK_EQ(books.count[DONE], books.settled - n_lost);
    close_books(&books);
}

/* ---- the way of a task: claim, take, run, publish ---- */

static void dead_when_idle(void)
{
    open_scene(false);
    post(&books, 3);
    do_task(&dead);
    CHECK_EQ(find_corpse(), 0);
    CHECK_EQ(books.count[DONE], 1); /* what it had published is kept */
    close_scene(false, 0);
}

static void dead_before_it_joined(void)
{
    open_books(&books, 2, 2, 3000, seed);
    attach_here(&dead, &books.pool, DEAD);
    post(&books, 3);
    CHECK_EQ(find_corpse(), 0);
    close_scene(false, 0);
}

static void dead_after_the_claim(void)
{
    uint64_t pos;
    open_scene(false);
    post(&books, 3);
    CHECK(rp_pool_try_claim(&dead, &pos) != NULL);
    CHECK_EQ(find_corpse(), 1);
    CHECK_EQ(books.tasks[1].fate, LOST);
    close_scene(false, 1);
}

static void dead_after_the_claim_and_before_the_hint_was_pushed(void)
{
    uint64_t pos;
    open_scene(false);
    post(&books, 3);
    CHECK(rp_pool_try_claim(&dead, &pos) != NULL);
    rp_store_relaxed(&books.pool.board.shared->claim_pos, pos);
    CHECK_EQ(find_corpse(), 1);
    CHECK_EQ(books.tasks[1].fate, LOST);
    close_scene(false, 1);
}

static void dead_after_the_task_was_noted_and_before_the_slot_was_freed(void)
{
    uint64_t pos, ids[2] = {0, 0};
    open_scene(false);
    post(&books, 3);
    CHECK(rp_pool_try_claim(&dead, &pos) != NULL);
    rp_store_relaxed(&dead.entries[DEAD].current, 1u);
    detach_here(&dead);
    CHECK_EQ(rp_pool_recover(&books.pool, DEAD, ids), 2); /* both places name it */
    CHECK(ids[0] == 1 && ids[1] == 1);
    settle(&books, 1, LOST);
    CHECK_EQ(recover_worker(&books, DEAD), 0); /* and a second time neither does */
    close_scene(false, 1);
}

static void dead_while_the_task_ran(void)
{
    struct rp_slot task;
    open_scene(false);
    post(&books, 3);
    do_task(&dead);
    CHECK_EQ(rp_pool_next(&dead, &task), RP_RUN);
    CHECK_EQ(find_corpse(), 1);
    CHECK_EQ(books.tasks[1].fate, DONE);
    CHECK_EQ(books.tasks[2].fate, LOST);
    close_scene(false, 1);
}

static void dead_while_the_result_was_written(void)
{
    struct rp_slot task;
    open_scene(false);
    post(&books, 3);
    CHECK_EQ(rp_pool_next(&dead, &task), RP_RUN);
    prepare_result(&dead, task.task_id);
    CHECK_EQ(drain(&books), 0);
    CHECK_EQ(find_corpse(), 1);
    CHECK_EQ(books.tasks[1].fate, LOST);
    close_scene(false, 1);
}

static void dead_after_the_result_was_published_and_before_the_note_was_cleared(void)
{
    struct rp_slot task;
    open_scene(false);
    post(&books, 3);
    CHECK_EQ(rp_pool_next(&dead, &task), RP_RUN);
    prepare_result(&dead, task.task_id);
    rp_ring_publish(&dead.results);
    CHECK_EQ(rp_load_relaxed(&books.pool.entries[DEAD].current), 1);
    CHECK_EQ(find_corpse(), 0);
    CHECK_EQ(books.tasks[1].fate, DONE);
    close_scene(false, 0);
}

static void dead_after_it_left(void)
{
    open_scene(false);
    post(&books, 3);
    do_task(&dead);
    rp_pool_leave(&dead);
    CHECK_EQ(rp_pool_worker_state(&books.pool, DEAD), RP_RETIRED);
    CHECK_EQ(find_corpse(), 0);
    close_scene(false, 0);
}

static void dead_with_a_full_ring(void)
{
    open_scene(false);
    largest_payload = RP_RESULT_INLINE; /* so that it does not wait for memory first */
    while (books.posted < RP_RING_CAPACITY) {
        post(&books, 1);
        do_task(&dead);
    }
    post(&books, 1);
    {
        struct rp_slot task;
        CHECK_EQ(rp_pool_next(&dead, &task), RP_RUN);
    }
    CHECK(!rp_pool_try_result(&dead));
    rp_store_seq_cst(&dead.entries[DEAD].waits_space, 1u); /* rp_pool_wait_space, up to its sleep */
    rp_bell_announce(&dead.entries[DEAD].bell);
    CHECK_EQ(find_corpse(), 1);
    CHECK_EQ(books.count[DONE], RP_RING_CAPACITY);
    CHECK_EQ(rp_load_seq_cst(&books.pool.entries[DEAD].waits_space), 0);
    CHECK_EQ(rp_load_seq_cst(&books.pool.entries[DEAD].bell.word), RP_AWAKE);
    largest_payload = UINT64_MAX;
    close_scene(false, 1);
}

static void dead_while_it_waited_for_memory(void)
{
    struct rp_slot task;
    uint64_t pos, offset;
    open_scene(false);
    post(&books, 1);
    CHECK_EQ(rp_pool_next(&dead, &task), RP_RUN);
    CHECK_EQ(rp_pool_alloc(&dead, ARENA_BYTES, &offset), 0);
    CHECK_EQ(rp_pool_alloc(&dead, 1, &pos), -ENOMEM);
    rp_store_seq_cst(&dead.entries[DEAD].wants_memory, 1u); /* rp_pool_wait_memory, up to its sleep */
    rp_bell_announce(&dead.entries[DEAD].bell);
    CHECK(rp_pool_wants_memory(&books.pool, DEAD, &pos));
    CHECK_EQ(rp_pool_return_block(&books.pool, DEAD, offset), 0); /* too late: it is dead */
    CHECK_EQ(find_corpse(), 1);
    CHECK(!rp_pool_wants_memory(&books.pool, DEAD, &pos));
    close_scene(false, 1); /* the successor does not find the return */
}

static void dead_after_more_returns_than_their_ring_holds(void)
{
    uint64_t offset;
    open_scene(false);
    for (uint64_t n = 0; n < RP_RETURNS_CAPACITY + 100; n++) {
        CHECK_EQ(rp_pool_alloc(&dead, ARENA_BYTES, &offset), 0);
        CHECK_EQ(rp_pool_return_block(&books.pool, DEAD, offset), 0);
    }
    CHECK_EQ(find_corpse(), 0);
    close_scene(false, 0); /* the successor begins with the ring's first lap, and gets its blocks back */
}

static void only_what_the_dead_held_is_lost(void)
{
    uint64_t pos, other;
    open_scene(false);
    attach_here(&live, &books.pool, LIVE);
    rp_pool_join(&live);
    post(&books, 3);
    {
        struct rp_slot task;
        CHECK(claim_and_copy(&live, &task, &other) != NULL);
        CHECK(rp_pool_try_claim(&dead, &pos) != NULL);
        CHECK_EQ(find_corpse(), 1);
        CHECK_EQ(books.tasks[2].fate, LOST);
        rp_pool_take(&live, task.task_id, other);
        run_task(&live, &task);
    }
    CHECK_EQ(drain(&books), 1);
    CHECK_EQ(books.tasks[1].fate, DONE);
    rp_pool_leave(&live);
    detach_here(&live);
    CHECK_EQ(recover_worker(&books, LIVE), 0);
    close_scene(false, 1);
}

/* ---- wakes ---- */

static void the_awake_worker_on_which_the_parent_relied_dies(void)
{
    open_scene(true);
    post(&books, 1);
    CHECK(is_sleeper(&books, LIVE)); /* one task, one awake worker: no sleeper was woken */
    CHECK_EQ(find_corpse(), 0);
    close_scene(true, 0);
}

static void a_waker_dies_before_it_takes_the_sleepers_bit(void)
{
    open_scene(true);
    rp_store_seq_cst(&books.pool.shared->waking, LIVE + 1u);
    post(&books, 3);
    CHECK(live_sleeps()); /* the others leave it to the waker */
    CHECK_EQ(find_corpse(), 0);
    close_scene(true, 0);
}

static void a_waker_dies_before_it_rings(void)
{
    open_scene(true);
    rp_store_seq_cst(&books.pool.shared->waking, LIVE + 1u);
    rp_and_seq_cst(&books.pool.shared->sleepers[0], ~(1ull << LIVE));
    post(&books, 3);
    CHECK(thread_sleeps(atomic_load(&live_id)));
    CHECK_EQ(find_corpse(), 0);
    close_scene(true, 0);
}

static void a_waker_dies_during_its_ring(void)
{
    open_scene(true);
    rp_store_seq_cst(&books.pool.shared->waking, LIVE + 1u);
    rp_and_seq_cst(&books.pool.shared->sleepers[0], ~(1ull << LIVE));
    rp_store_seq_cst(&books.pool.entries[LIVE].bell.word, (uint32_t)RP_AWAKE);
    post(&books, 3);
    CHECK(thread_sleeps(atomic_load(&live_id)));
    CHECK_EQ(find_corpse(), 0);
    close_scene(true, 0);
}

static void a_waker_dies_when_its_sleeper_had_got_up_by_itself(void)
{
    open_scene(true);
    rp_store_seq_cst(&books.pool.shared->waking, LIVE + 1u);
    rp_bell_toll(&books.pool.entries[LIVE].bell); /* it gets up, finds nothing, goes back to sleep */
    await_live_sleeps();
    post(&books, 3);
    CHECK(live_sleeps());
    CHECK_EQ(find_corpse(), 0);
    close_scene(true, 0);
}

static void the_woken_dies_before_it_has_come_round(void)
{
    open_scene(true);
    rp_store_seq_cst(&books.pool.shared->waking, DEAD + 1u);
    dead.woken = true;
    post(&books, 3);
    CHECK(live_sleeps());
    CHECK_EQ(find_corpse(), 0);
    close_scene(true, 0);
}

static void the_woken_dies_with_its_task_before_it_has_woken_the_next(void)
{
    uint64_t pos;
    open_scene(true);
    rp_store_seq_cst(&books.pool.shared->waking, DEAD + 1u);
    post(&books, 3);
    CHECK(rp_board_try_claim(&dead.board, DEAD, &pos) != NULL); /* rp_pool_try_claim, without its end */
    CHECK(live_sleeps());
    CHECK_EQ(find_corpse(), 1);
    close_scene(true, 1);
}

static void the_woken_dies_after_it_cleared_waking_and_before_it_woke_the_next(void)
{
    uint64_t pos;
    open_scene(true);
    rp_store_seq_cst(&books.pool.shared->waking, DEAD + 1u);
    post(&books, 3);
    CHECK(rp_board_try_claim(&dead.board, DEAD, &pos) != NULL);
    rp_store_seq_cst(&books.pool.shared->waking, 0u);
    CHECK(live_sleeps());
    CHECK_EQ(find_corpse(), 1);
    close_scene(true, 1);
}

static void a_sleeper_dies_and_is_woken_in_place_of_a_living_one(void)
{
    open_scene(true);
    rp_bell_announce(&dead.entries[DEAD].bell);
    rp_or_seq_cst(&dead.shared->sleepers[0], 1ull << DEAD);
    post(&books, 1);
    CHECK(!is_sleeper(&books, DEAD)); /* the corpse was rung for */
    CHECK(live_sleeps());
    CHECK_EQ(rp_load_seq_cst(&books.pool.shared->waking), DEAD + 1);
    post(&books, 3);
    CHECK(live_sleeps());
    CHECK_EQ(find_corpse(), 0);
    close_scene(true, 0);
}

static void a_sleeper_dies_and_is_not_woken_once_it_is_recovered(void)
{
    open_scene(true);
    rp_bell_announce(&dead.entries[DEAD].bell);
    rp_or_seq_cst(&dead.shared->sleepers[0], 1ull << DEAD);
    CHECK_EQ(find_corpse(), 0);
    await_live_sleeps();
    post(&books, 1);
    close_scene(true, 0);
}

static void a_worker_dies_between_announcing_and_setting_its_bit(void)
{
    open_scene(true);
    rp_bell_announce(&dead.entries[DEAD].bell);
    post(&books, 1);
    CHECK(live_sleeps());
    CHECK_EQ(find_corpse(), 0);
    CHECK_EQ(rp_load_seq_cst(&books.pool.entries[DEAD].bell.word), RP_AWAKE);
    close_scene(true, 0);
}

static void all_sleepers_get_up_after_a_death_and_lie_down_again(void)
{
    open_scene(true);
    CHECK_EQ(find_corpse(), 0);
    await_live_sleeps();
    CHECK_EQ(rp_load_seq_cst(&books.pool.shared->waking), 0);
    close_scene(true, 0);
}

/* ---- the parent's sleepers ---- */

static _Atomic int waiter;

static void *wait_for_results(void *unused)
{
    atomic_store(&waiter, this_thread());
    CHECK_EQ(rp_pool_wait_results(&books.pool, 1, -1), 0);
    return unused;
}

static void *wait_for_service(void *unused)
{
    atomic_store(&waiter, this_thread());
    CHECK_EQ(rp_pool_wait_service(&books.pool), 0);
    return unused;
}

static void wait_for_a_ring_that_stays_half_done(void *(*wait)(void *), bool leader)
{
    struct rp_bell *bell;
    pthread_t thread;
    open_scene(false);
    bell = leader ? &books.pool.shared->results : &books.pool.shared->service;
    atomic_store(&waiter, 0);
    thread = start_thread(wait, NULL);
    while (rp_load_seq_cst(&bell->word) != RP_ASLEEP || !thread_sleeps(atomic_load(&waiter)))
        give_way();
    rp_store_seq_cst(&bell->word, (uint32_t)RP_AWAKE); /* the first half of a ring */
    CHECK(thread_sleeps(atomic_load(&waiter)));
    CHECK_EQ(find_corpse(), 0);
    end_thread(thread);
    close_scene(false, 0);
}

static void a_worker_dies_half_way_through_ringing_the_leader(void)
{
    wait_for_a_ring_that_stays_half_done(wait_for_results, true);
}

static void a_worker_dies_half_way_through_ringing_the_collector(void)
{
    wait_for_a_ring_that_stays_half_done(wait_for_service, false);
}

/* A thread of the parent looks at the rings, without the lock, while another recovers a worker. */
static _Atomic bool over;

static void *lead(void *unused)
{
    while (!atomic_load(&over))
        CHECK_EQ(rp_pool_wait_results(&books.pool, 0, -1), 0);
    return unused;
}

static void *collect(void *unused)
{
    while (!atomic_load(&over))
        CHECK_EQ(rp_pool_wait_service(&books.pool), 0);
    return unused;
}

static void a_leader_and_a_collector_wait_through_a_recovery(void)
{
    pthread_t leader, collector;
    open_scene(false);
    atomic_store(&over, false);
    rp_pool_begin_leading(&books.pool);
    leader = start_thread(lead, NULL);
    collector = start_thread(collect, NULL);
    for (int n = 0; n < 50; n++) {
        post(&books, 1);
        do_task(&dead);
        CHECK_EQ(find_corpse(), 0);
        attach_here(&dead, &books.pool, DEAD);
        rp_pool_join(&dead);
    }
    atomic_store(&over, true);
    rp_pool_kick_leader(&books.pool);
    rp_pool_kick_service(&books.pool);
    end_thread(leader);
    end_thread(collector);
    CHECK_EQ(find_corpse(), 0);
    close_scene(false, 0);
}

/* What is in a word when its worker dies must not be its successor's. The words that stay are the exceptions, with why. */
static void recovery_clears_every_word_of_an_entry(void)
{
    static const size_t stays[] = {
        offsetof(struct rp_worker_entry, cpu),   /* a hint, which the successor writes when it first waits */
        offsetof(struct rp_worker_entry, why),   /* read only with `interrupted` */
        offsetof(struct rp_worker_entry, arena), /* the parent's: the successor has it, or is given another */
    };
    static struct rp_worker_entry expected; /* 0xAA where it stays, and where no field is; else 0 */
    struct rp_worker_entry *e;
    struct rp_parent p;
    uint64_t ids[2], word, was;
    CHECK_EQ(rp_pool_create(&p, 2, 2, SIZES(ARENA_BYTES)), 0);
    e = &p.entries[1];
    memset((void *)&expected, 0xff, sizeof expected);
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define FINDS_PADDING
    __builtin_clear_padding(&expected);
#endif
#endif
    memset((void *)e, 0xAA, sizeof *e);
    rp_store_relaxed(&p.served[1], 1u);
    rp_store_relaxed(&p.swept[1], 1u);
    CHECK_EQ(rp_pool_recover(&p, 1, ids), 1);
    CHECK(ids[0] == 0xAAAAAAAAAAAAAAAAu);
    for (size_t at = 0; at < sizeof *e; at += 8) {
        bool kept = false;
        memcpy(&word, (const uint8_t *)e + at, 8);
        memcpy(&was, (const uint8_t *)&expected + at, 8);
        for (size_t i = 0; i < sizeof stays / sizeof *stays; i++)
            kept = kept || stays[i] == at;
#ifndef FINDS_PADDING
        kept = kept || word == 0xAAAAAAAAAAAAAAAAu;
#endif
        if ((kept ? 0 : word & was) != 0) {
            fprintf(stderr, "the word at %zu stays\n", at);
            _exit(1);
        }
        if (kept)
            CHECK(word == 0xAAAAAAAAAAAAAAAAu);
    }
    CHECK_EQ(rp_load_relaxed(&p.served[1]), 0);
    CHECK_EQ(rp_load_relaxed(&p.swept[1]), 0);
    rp_pool_destroy(&p);
}

int main(int argc, char **argv)
{
    begin(120);
    seed = seed_from(argc, argv, 1);
    RUN(recovery_clears_every_word_of_an_entry);
    RUN(dead_when_idle);
    RUN(dead_before_it_joined);
    RUN(dead_after_the_claim);
    RUN(dead_after_the_claim_and_before_the_hint_was_pushed);
    RUN(dead_after_the_task_was_noted_and_before_the_slot_was_freed);
    RUN(dead_while_the_task_ran);
    RUN(dead_while_the_result_was_written);
    RUN(dead_after_the_result_was_published_and_before_the_note_was_cleared);
    RUN(dead_after_it_left);
    RUN(dead_with_a_full_ring);
    RUN(dead_while_it_waited_for_memory);
    RUN(dead_after_more_returns_than_their_ring_holds);
    RUN(only_what_the_dead_held_is_lost);
    RUN(the_awake_worker_on_which_the_parent_relied_dies);
    RUN(a_waker_dies_before_it_takes_the_sleepers_bit);
    RUN(a_waker_dies_before_it_rings);
    RUN(a_waker_dies_during_its_ring);
    RUN(a_waker_dies_when_its_sleeper_had_got_up_by_itself);
    RUN(the_woken_dies_before_it_has_come_round);
    RUN(the_woken_dies_with_its_task_before_it_has_woken_the_next);
    RUN(the_woken_dies_after_it_cleared_waking_and_before_it_woke_the_next);
    RUN(a_sleeper_dies_and_is_woken_in_place_of_a_living_one);
    RUN(a_sleeper_dies_and_is_not_woken_once_it_is_recovered);
    RUN(a_worker_dies_between_announcing_and_setting_its_bit);
    RUN(all_sleepers_get_up_after_a_death_and_lie_down_again);
    RUN(a_worker_dies_half_way_through_ringing_the_leader);
    RUN(a_worker_dies_half_way_through_ringing_the_collector);
    RUN(a_leader_and_a_collector_wait_through_a_recovery);
    return 0;
}
