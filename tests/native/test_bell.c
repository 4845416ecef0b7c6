/* test_bell.c - no wake is lost, whichever thread rings, and a half-done one is made good by a toll. A lost wake is a
 * hang, which the watchdog ends. */
#include "bell.h"
#include "check.h"

static uint64_t seed;

struct chair { /* a bell on lines of its own */
    _Alignas(RP_LINE) struct rp_bell bell;
};

/* Whether a loop whose threads wait for each other in each round goes on. On an idle machine all its rounds take a second.
 * Beside busy loops of other programs a round takes as long as their turns: then the loop ends after SECONDS, so that the
 * watchdog ends only what hangs. It has LEAST rounds in any case; beside sixteen loops on two processors a round took 6 ms
 * at most. */
#define SECONDS UINT64_C(15)
#define LEAST TIMES(500u)

static bool goes_on(uint64_t begin_ns, uint64_t done, uint64_t rounds)
{
    return done < rounds && (done < LEAST || clock_ns() - begin_ns < SECONDS * 1000000000u);
}

static void a_bell_without_a_sleeper_is_not_rung(void)
{
    struct rp_bell bell = {RP_AWAKE};
    CHECK(!rp_bell_ring(&bell));
    rp_bell_announce(&bell);
    CHECK(rp_bell_ring(&bell));
    CHECK(!rp_bell_ring(&bell));
    rp_bell_announce(&bell);
    rp_bell_cancel(&bell);
    CHECK(!rp_bell_ring(&bell));
}

static void a_sleep_ends_at_its_time_and_withdraws_the_announcement(void)
{
    struct rp_bell bell = {RP_AWAKE};
    rp_bell_announce(&bell);
    CHECK_EQ(rp_bell_sleep(&bell, 1000000), -ETIMEDOUT);
    CHECK(!rp_bell_ring(&bell));
    CHECK_EQ(rp_bell_sleep(&bell, -1), 0); /* unannounced: returns at once */
}

static void a_ring_before_the_sleep_is_not_lost(void)
{
    struct rp_bell bell = {RP_AWAKE};
    rp_bell_announce(&bell);
    CHECK(rp_bell_ring(&bell));
    CHECK_EQ(rp_bell_sleep(&bell, -1), 0);
    rp_bell_announce(&bell);
    rp_bell_toll(&bell);
    CHECK_EQ(rp_bell_sleep(&bell, -1), 0);
}

/* ---- announce / publish: of two threads that look at each other's word, one at least sees the other ---- */

#define ROUNDS TIMES(200000u)
#define OVER UINT64_MAX

static struct {
    struct chair chair;
    _Alignas(RP_LINE) rp_word work;
    _Alignas(RP_LINE) rp_word round; /* writer: the sleeper; OVER after the last */
    _Alignas(RP_LINE) rp_word done;  /* writer: the ringer; the round, and whether it rang */
} meeting;

static void *publish_and_ring(void *unused)
{
    for (uint64_t n = 1;; n++) {
        uint64_t round;
        for (uint64_t spins = 0; (round = rp_load_acquire(&meeting.round)) < n; spins++)
            if (spins > 1000)
                give_way();
        if (round == OVER)
            return unused;
        rp_store_seq_cst(&meeting.work, n);
        rp_store_release(&meeting.done, n << 1 | rp_bell_ring(&meeting.chair.bell));
    }
}

static void the_sleeper_sees_the_work_or_the_ringer_sees_the_sleeper(void)
{
    pthread_t ringer = start_thread(publish_and_ring, NULL);
    uint64_t begin = clock_ns(), both = 0, n = 0;
    while (goes_on(begin, n, ROUNDS)) {
        bool saw, rang;
        rp_store_release(&meeting.round, ++n);
        for (uint64_t i = n % 16; i > 0; i--) /* so that the ringer gets the line at about the same time */
            rp_pause();
        rp_bell_announce(&meeting.chair.bell);
        saw = rp_load_seq_cst(&meeting.work) == n;
        for (uint64_t spins = 0; rp_load_acquire(&meeting.done) >> 1 != n; spins++)
            if (spins > 1000)
                give_way();
        rang = rp_load_relaxed(&meeting.done) & 1;
        CHECK(saw || rang);
        both += saw && rang;
        rp_bell_cancel(&meeting.chair.bell);
    }
    rp_store_release(&meeting.round, OVER);
    end_thread(ringer);
    printf("    %llu of %llu rounds saw both\n", (unsigned long long)both, (unsigned long long)n);
}

/* ---- two threads take turns, each asleep while the other moves ---- */

static struct {
    _Alignas(RP_LINE) rp_word turn; /* writer: the thread whose turn it is; OVER after the last */
    struct chair chairs[2];
} table;

static void dither(struct rng *r)
{
    if (one_in(r, 2))
        for (uint64_t i = rng_below(r, 300); i > 0; i--)
            rp_pause();
}

static void *play(void *argument)
{
    uint64_t me = (uint64_t)(uintptr_t)argument;
    struct rng r = rng_from(seed + me);
    uint64_t begin = clock_ns();
    for (uint64_t n = me;; n += 2) {
        bool last;
        dither(&r);
        while (rp_load_seq_cst(&table.turn) < n) {
            rp_bell_announce(&table.chairs[me].bell);
            if (one_in(&r, 4))
                dither(&r);
            if (rp_load_seq_cst(&table.turn) >= n)
                rp_bell_cancel(&table.chairs[me].bell);
            else
                CHECK_EQ(rp_bell_sleep(&table.chairs[me].bell, -1), 0);
        }
        if (rp_load_seq_cst(&table.turn) == OVER)
            return NULL;
        CHECK_EQ(rp_load_seq_cst(&table.turn), n);
        last = !goes_on(begin, n, TIMES(30000u));
        dither(&r);
        rp_store_seq_cst(&table.turn, last ? OVER : n + 1);
        (void)rp_bell_ring(&table.chairs[1 - me].bell);
        if (last)
            return NULL;
    }
}

static void two_threads_wake_each_other_many_times(void)
{
    pthread_t a = start_thread(play, (void *)0), b = start_thread(play, (void *)1);
    end_thread(a);
    end_thread(b);
    CHECK_EQ(rp_load_seq_cst(&table.turn), OVER);
}

/* ---- several ringers, one sleeper ---- */

#define RINGERS 3u
#define LETTERS TIMES(10000u)

static struct {
    struct chair chair;
    struct {
        _Alignas(RP_LINE) rp_word posted; /* writer: the ringer */
        uint64_t letter;
        _Alignas(RP_LINE) rp_word taken; /* writer: the sleeper */
    } box[RINGERS];
    rp_word rung;
    rp_word gone; /* ringers that have no more letters */
} office;

static void *post(void *argument)
{
    uint64_t me = (uint64_t)(uintptr_t)argument;
    struct rng r = rng_from(seed + 10 + me);
    uint64_t begin = clock_ns(), n = 0;
    while (goes_on(begin, n, LETTERS)) {
        n++;
        office.box[me].letter = n * 3 + me;
        dither(&r);
        rp_store_seq_cst(&office.box[me].posted, n);
        if (rp_bell_ring(&office.chair.bell))
            atomic_fetch_add(&office.rung, 1);
        while (rp_load_acquire(&office.box[me].taken) != n)
            give_way();
    }
    atomic_fetch_add(&office.gone, 1);
    if (rp_bell_ring(&office.chair.bell))
        atomic_fetch_add(&office.rung, 1);
    return NULL;
}

static uint64_t empty_boxes(void)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < RINGERS; i++) {
        uint64_t posted = rp_load_seq_cst(&office.box[i].posted);
        if (posted != rp_load_relaxed(&office.box[i].taken)) {
            CHECK_EQ(office.box[i].letter, posted * 3 + i);
            rp_store_release(&office.box[i].taken, posted);
            n++;
        }
    }
    return n;
}

static void one_sleeper_hears_several_ringers(void)
{
    pthread_t ringers[RINGERS];
    uint64_t announced = 0;
    for (uint64_t i = 0; i < RINGERS; i++)
        ringers[i] = start_thread(post, (void *)(uintptr_t)i);
    while (rp_load_seq_cst(&office.gone) < RINGERS) {
        rp_bell_announce(&office.chair.bell);
        announced++;
        if (empty_boxes() || rp_load_seq_cst(&office.gone) == RINGERS)
            rp_bell_cancel(&office.chair.bell);
        else
            CHECK_EQ(rp_bell_sleep(&office.chair.bell, -1), 0);
    }
    for (uint64_t i = 0; i < RINGERS; i++)
        end_thread(ringers[i]);
    CHECK(rp_load_relaxed(&office.rung) <= announced); /* at most one wake for each announcement */
}

/* ---- of many that ring at once, one wakes ---- */

static pthread_barrier_t barrier;
static struct chair race;
static _Atomic int winners;
static _Atomic bool race_goes_on; /* written while the others wait at the barrier */

static void *ring_with_others(void *unused)
{
    for (;;) {
        pthread_barrier_wait(&barrier);
        if (!atomic_load(&race_goes_on))
            return unused;
        if (rp_bell_ring(&race.bell))
            atomic_fetch_add(&winners, 1);
        pthread_barrier_wait(&barrier);
    }
}

static void of_many_ringers_one_wakes(void)
{
    pthread_t ringers[2];
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, 3), 0);
    for (int i = 0; i < 2; i++)
        ringers[i] = start_thread(ring_with_others, NULL);
    for (uint64_t begin = clock_ns(), i = 0; goes_on(begin, i, TIMES(3000u)); i++) {
        atomic_store(&race_goes_on, true);
        atomic_store(&winners, 0);
        rp_bell_announce(&race.bell);
        pthread_barrier_wait(&barrier);
        if (rp_bell_ring(&race.bell))
            atomic_fetch_add(&winners, 1);
        pthread_barrier_wait(&barrier);
        CHECK_EQ(atomic_load(&winners), 1);
    }
    atomic_store(&race_goes_on, false);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2; i++)
        end_thread(ringers[i]);
    pthread_barrier_destroy(&barrier);
}

/* ---- deaths ---- */

static struct {
    struct chair chair;
    _Atomic int thread;
    _Atomic bool up;
} bed;

static void *sleep_once(void *unused)
{
    atomic_store(&bed.thread, this_thread());
    rp_bell_announce(&bed.chair.bell);
    CHECK_EQ(rp_bell_sleep(&bed.chair.bell, -1), 0);
    atomic_store(&bed.up, true);
    return unused;
}

static pthread_t put_to_bed(void)
{
    pthread_t thread;
    atomic_store(&bed.thread, 0);
    atomic_store(&bed.up, false);
    thread = start_thread(sleep_once, NULL);
    while (rp_load_seq_cst(&bed.chair.bell.word) != RP_ASLEEP || !thread_sleeps(atomic_load(&bed.thread)))
        give_way();
    return thread;
}

static void a_toll_wakes_the_sleeper_whose_ringer_died_half_way(void)
{
    uint32_t asleep = RP_ASLEEP;
    pthread_t thread = put_to_bed();
    CHECK(rp_cas_seq_cst(&bed.chair.bell.word, &asleep, (uint32_t)RP_AWAKE)); /* the ringer, and here it dies */
    CHECK(!rp_bell_ring(&bed.chair.bell));                                    /* no other ringer knows of the sleeper */
    CHECK(thread_sleeps(atomic_load(&bed.thread)) && !atomic_load(&bed.up));
    rp_bell_toll(&bed.chair.bell);
    end_thread(thread);
    CHECK(atomic_load(&bed.up));
}

static void a_toll_wakes_a_sleeper_that_has_not_been_rung(void)
{
    pthread_t thread = put_to_bed();
    rp_bell_toll(&bed.chair.bell);
    end_thread(thread);
    CHECK(!rp_bell_ring(&bed.chair.bell));
}

static void the_announcement_of_a_dead_sleeper_costs_one_ring(void)
{
    struct rp_bell bell = {RP_AWAKE};
    rp_bell_announce(&bell); /* and here it dies */
    CHECK(rp_bell_ring(&bell));
    CHECK(!rp_bell_ring(&bell));
}

int main(int argc, char **argv)
{
    begin(120);
    seed = seed_from(argc, argv, 1);
    RUN(a_bell_without_a_sleeper_is_not_rung);
    RUN(a_sleep_ends_at_its_time_and_withdraws_the_announcement);
    RUN(a_ring_before_the_sleep_is_not_lost);
    RUN(the_sleeper_sees_the_work_or_the_ringer_sees_the_sleeper);
    RUN(two_threads_wake_each_other_many_times);
    RUN(one_sleeper_hears_several_ringers);
    RUN(of_many_ringers_one_wakes);
    RUN(a_toll_wakes_the_sleeper_whose_ringer_died_half_way);
    RUN(a_toll_wakes_a_sleeper_that_has_not_been_rung);
    RUN(the_announcement_of_a_dead_sleeper_costs_one_ring);
    return 0;
}
