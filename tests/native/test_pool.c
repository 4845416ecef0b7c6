/* test_pool.c - the whole protocol, in threads of one process: the parent's threads on one side, workers on the other.
 *
 * Every wait here is without a time limit, so a wake that is lost is a hang, which the watchdog ends.
 */
#include <sys/resource.h>

#include "check.h"
#include "crew.h"

static uint64_t seed;

/* ---- opening and attaching ---- */

static void a_pool_of_an_impossible_size_is_refused(void)
{
    struct rp_parent p;
    int n = open_fds();
    CHECK_EQ(rp_pool_create(&p, 0, 2, SIZES(ARENA_BYTES)), -EINVAL);
    CHECK_EQ(rp_pool_create(&p, RP_MAX_WORKERS + 1, 2, SIZES(ARENA_BYTES)), -EINVAL);
    CHECK_EQ(open_fds(), n);
}

static void arena_bytes_are_rounded_down_to_a_power_of_two(void)
{
    const uint64_t asked[] = {0, 1u << 20, (1u << 21) - 1, (1u << 21) + 1}, got[] = {1u << 20, 1u << 20, 1u << 20, 1u << 21};
    for (int i = 0; i < 4; i++) {
        struct rp_parent p;
        CHECK_EQ(rp_pool_create(&p, 2, 2, SIZES(asked[i])), 0);
        CHECK_EQ(p.sizes.arena_bytes, got[i]);
        rp_pool_destroy(&p);
    }
}

static void a_largest_pool_finds_a_size_that_the_system_grants(void)
{
    struct rp_parent p;
    CHECK_EQ(rp_pool_create(&p, RP_MAX_WORKERS, 2, SIZES(UINT64_MAX)), 0);
    CHECK(p.sizes.arena_bytes >= 1u << 20 && (p.sizes.arena_bytes & (p.sizes.arena_bytes - 1)) == 0);
    rp_pool_destroy(&p);
}

static void a_limit_of_file_size_makes_the_arenas_smaller(void)
{
    struct rlimit old, low;
    struct rp_parent p;
    int n = open_fds();
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    low = (struct rlimit){44u << 20, old.rlim_max}; /* five arenas of 8 MiB, and the rest */
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
    CHECK_EQ(rp_pool_create(&p, 1, 2, SIZES(64u << 20)), 0);
    CHECK_EQ(p.sizes.arena_bytes, 8u << 20);
    rp_pool_destroy(&p);
    low.rlim_cur = 1u << 20;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
    CHECK_EQ(rp_pool_create(&p, 1, 2, SIZES(64u << 20)), -EFBIG);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
    CHECK_EQ(open_fds(), n);
}

static void check_attach_refused(const struct rp_parent *parent, uint32_t n, uint64_t arena_bytes, uint32_t index, int err)
{
    struct rp_worker p;
    int before = open_fds(), fd = dup(parent->segment.fd);
    CHECK_EQ(rp_pool_attach(&p, fd, n, 2, SIZES(arena_bytes), index), err);
    CHECK(!fd_is_open(fd));
    CHECK_EQ(open_fds(), before);
}

static void a_worker_with_other_sizes_is_refused(void)
{
    struct rp_parent p;
    CHECK_EQ(rp_pool_create(&p, 2, 2, SIZES(ARENA_BYTES)), 0);
    check_attach_refused(&p, 3, ARENA_BYTES, 0, -EPROTO);
    check_attach_refused(&p, 2, 2 * ARENA_BYTES, 0, -EPROTO);
    check_attach_refused(&p, 2, ARENA_BYTES, 2, -EINVAL);
    check_attach_refused(&p, 0, ARENA_BYTES, 0, -EINVAL);
    check_attach_refused(&p, RP_MAX_WORKERS + 1, ARENA_BYTES, 0, -EINVAL);
    rp_pool_destroy(&p);
}

static void two_mappings_of_a_pool_agree_on_every_part(void)
{
    struct rp_parent p;
    struct rp_worker w;
    uint64_t offset, pos;
    CHECK_EQ(rp_pool_create(&p, 3, 2, SIZES(ARENA_BYTES)), 0);
    CHECK_EQ(rp_pool_attach(&w, dup(p.segment.fd), 3, 2, SIZES(ARENA_BYTES), 2), 0);
    CHECK(w.segment.base != p.segment.base);
    rp_pool_join(&w);
    CHECK_EQ(rp_pool_worker_state(&p, 2), RP_STARTED);
    rp_board_try_reserve(&p.board)->task_id = 5;
    (void)rp_pool_publish(&p, 1);
    CHECK_EQ(rp_pool_try_claim(&w, &pos)->task_id, 5);
    rp_pool_take(&w, 5, pos);
    CHECK_EQ(rp_pool_alloc(&w, 700, &offset), 0);
    *rp_pool_block(&w, 3, offset, 700) = 99;
    rp_pool_try_result(&w)->offset = offset;
    rp_pool_publish_result(&w, true);
    CHECK_EQ(((struct rp_result *)rp_ring_try_peek(&p.results[2]))->offset, offset);
    CHECK_EQ(*rp_pool_block(&p, 3, offset, 700), 99);
    CHECK_EQ(rp_pool_return_block(&p, 2, offset), 0);
    CHECK_EQ(rp_pool_alloc(&w, ARENA_BYTES, &offset), 0); /* the block came back: the arena is whole again */
    rp_pool_leave(&w);
    CHECK_EQ(rp_pool_worker_state(&p, 2), RP_RETIRED);
    rp_pool_detach(&w);
    rp_pool_destroy(&p);
}

static void a_block_outside_its_arena_has_no_address(void)
{
    struct rp_parent p;
    CHECK_EQ(rp_pool_create(&p, 2, 2, SIZES(ARENA_BYTES)), 0);
    for (uint32_t arena = 0; arena < RP_ARENAS(2); arena++) {
        uint64_t start = p.arenas + arena * ARENA_BYTES, end = start + ARENA_BYTES;
        uint8_t *at = rp_pool_block(&p, arena, start, ARENA_BYTES);
        CHECK(at != NULL);
        CHECK(rp_pool_block(&p, arena, end - 1, 1) == at + ARENA_BYTES - 1);
        CHECK(!rp_pool_block(&p, arena, end - 1, 2));
        CHECK(!rp_pool_block(&p, arena, start - 1, 1));
        CHECK(!rp_pool_block(&p, arena, end, 0));
        CHECK(!rp_pool_block(&p, arena, 0, 1));
        CHECK(!rp_pool_block(&p, arena, start, ARENA_BYTES + 1));
        CHECK(!rp_pool_block(&p, arena, start + 8, UINT64_MAX));
        CHECK(!rp_pool_block(&p, arena, UINT64_MAX, 1));
    }
    CHECK(!rp_pool_block(&p, RP_ARENAS(2), p.arenas + (uint64_t)RP_ARENAS(2) * ARENA_BYTES, 1));
    CHECK(!rp_pool_block(&p, UINT32_MAX, p.arenas, 1));
    rp_pool_destroy(&p);
}

static void a_worker_has_the_arena_that_its_place_was_given(void)
{
    struct rp_parent p;
    struct rp_worker w;
    uint64_t offset, end;
    uint8_t *block;
    CHECK_EQ(rp_pool_create(&p, 2, 2, SIZES(ARENA_BYTES)), 0);
    rp_pool_give_arena(&p, 1, 4);
    CHECK_EQ(rp_pool_attach(&w, dup(p.segment.fd), 2, 2, SIZES(ARENA_BYTES), 1), 0);
    CHECK_EQ(w.own, 4);
    CHECK_EQ(rp_pool_alloc(&w, 8 * RP_PAGE, &offset), 0);
    CHECK(!rp_pool_block(&p, 2, offset, 8 * RP_PAGE));
    block = rp_pool_block(&p, 4, offset, 8 * RP_PAGE);
    CHECK(block != NULL);
    memset(block, 7, 8 * RP_PAGE);
    rp_pool_detach(&w);
    CHECK_EQ(block[0], 7); /* a worker's end is not the memory's */
    end = offset + 3 * RP_PAGE;
    rp_pool_clear(&p, offset + 1, end - offset); /* whole pages only */
    CHECK(block[RP_PAGE - 1] == 7 && block[RP_PAGE] == 0 && block[3 * RP_PAGE - 1] == 0 && block[3 * RP_PAGE] == 7);
    rp_pool_clear(&p, offset + 4 * RP_PAGE + 1, 100);
    CHECK_EQ(block[4 * RP_PAGE + 2], 7);
    for (uint32_t arena = 0; arena < 8; arena++) { /* what cannot be is refused */
        rp_pool_give_arena(&p, 0, arena);
        CHECK_EQ(rp_pool_attach(&w, dup(p.segment.fd), 2, 2, SIZES(ARENA_BYTES), 0), arena == 0 || arena >= RP_OVERFLOW(2) ? -EPROTO : 0);
        if (arena && arena < RP_OVERFLOW(2))
            rp_pool_detach(&w);
    }
    rp_pool_destroy(&p);
}

static void releases_are_seen_once_each(void)
{
    struct rp_parent p;
    struct rp_worker w;
    uint64_t ids[2];
    CHECK_EQ(rp_pool_create(&p, 2, 2, SIZES(ARENA_BYTES)), 0);
    CHECK_EQ(rp_pool_attach(&w, dup(p.segment.fd), 2, 2, SIZES(ARENA_BYTES), 1), 0);
    CHECK(!rp_pool_has_released(&p, 1));
    rp_pool_count_release(&w);
    CHECK_EQ(rp_pool_wait_service(&p), 0); /* it has cause, so this returns */
    CHECK(!rp_pool_has_released(&p, 0));
    CHECK(rp_pool_has_released(&p, 1));
    CHECK(!rp_pool_has_released(&p, 1));
    rp_pool_count_release(&w);
    rp_pool_count_release(&w);
    CHECK(rp_pool_has_released(&p, 1));
    CHECK(!rp_pool_has_released(&p, 1));
    rp_pool_count_release(&w);
    rp_pool_detach(&w);
    CHECK_EQ(rp_pool_recover(&p, 1, ids), 0); /* the next one counts from the start */
    CHECK(!rp_pool_has_released(&p, 1));
    rp_pool_destroy(&p);
}

static void *grants_what_is_asked(void *pool)
{
    struct rp_parent *p = pool;
    uint64_t request, bytes;
    while ((request = rp_pool_wants_memory(p, 0, &bytes)) == 0) {
        rp_pool_begin_service(p);
        (void)rp_pool_wait_service(p);
    }
    CHECK_EQ(bytes, 0);
    CHECK(!rp_pool_wants_memory(p, 0, &bytes)); /* once a request */
    rp_pool_grant(p, 0, request);
    return NULL;
}

static void a_loan_is_asked_for_lent_and_ended(void)
{
    struct rp_parent p;
    struct rp_worker w;
    uint64_t a = 0, b = 0, c = 0, bytes, request, ids[2];
    CHECK_EQ(rp_pool_create(&p, 1, 2, SIZES(ARENA_BYTES)), 0);
    CHECK_EQ(rp_pool_attach(&w, dup(p.segment.fd), 1, 2, SIZES(ARENA_BYTES), 0), 0);
    CHECK_EQ(rp_pool_loan_wanted(&p, 0, &bytes), 0);
    rp_pool_ask_loan(&w, 1000);
    request = rp_pool_loan_wanted(&p, 0, &bytes);
    CHECK(request != 0);
    CHECK_EQ(bytes, 1000);
    CHECK_EQ(rp_pool_wants_memory(&p, 0, &bytes), request); /* so the collector looks */
    CHECK_EQ(bytes, 1000);
    CHECK(!rp_pool_wants_memory(&p, 0, &bytes));
    CHECK(!rp_pool_is_past_loan(&p, 0, request)); /* that may be for its initializer's exception */
    rp_pool_join(&w);
    CHECK(rp_pool_is_past_loan(&p, 0, request)); /* it has no task */
    rp_store_release(&w.entries[0].current, 77u);
    CHECK(!rp_pool_is_past_loan(&p, 0, request));
    CHECK_EQ(rp_pool_lend(&p, 0, request, bytes, &a), 0);
    CHECK_EQ(rp_pool_await_loan(&w, &b), 0);
    CHECK_EQ(a, b);
    CHECK_EQ(rp_pool_loan_wanted(&p, 0, &bytes), 0);
    CHECK(!rp_pool_is_past_loan(&p, 0, request));
    CHECK(rp_pool_writable(&w, a, 1000) == rp_pool_block(&w, RP_OVERFLOW(1), a, 1000));
    CHECK(rp_pool_writable(&w, a, 1000) != NULL);
    CHECK(rp_pool_block(&w, w.own, a, 1) == NULL);
    CHECK_EQ(p.overflow.used_blocks, 1);

    /* One that is given up is not taken for an answer to the next. */
    rp_pool_ask_loan(&w, 2000);
    CHECK(rp_pool_is_past_loan(&p, 0, request));
    request = rp_pool_loan_wanted(&p, 0, &bytes);
    rp_pool_give_up_loan(&w);
    CHECK_EQ(rp_pool_loan_wanted(&p, 0, &bytes), 0);
    rp_pool_ask_loan(&w, 3000);
    CHECK_EQ(rp_pool_lend(&p, 0, request, 2000, &b), 0);
    CHECK(rp_pool_loan_wanted(&p, 0, &bytes) != request);
    CHECK_EQ(bytes, 3000);
    CHECK_EQ(rp_pool_lend(&p, 0, request + 1, bytes, &c), 0);
    CHECK_EQ(rp_pool_await_loan(&w, &a), 0);
    CHECK_EQ(a, c);
    CHECK(b != c);
    CHECK(!rp_pool_wants_memory(&p, 0, &bytes)); /* an answer is given once, whichever call has found the request */

    /* None is available, now or ever. */
    rp_pool_ask_loan(&w, ARENA_BYTES);
    request = rp_pool_loan_wanted(&p, 0, &bytes);
    CHECK_EQ(rp_pool_lend(&p, 0, request, bytes, &a), -ENOMEM);
    CHECK_EQ(rp_pool_lend(&p, 0, request, ARENA_BYTES + 1, &a), -E2BIG);
    rp_pool_grant(&p, 0, request);
    CHECK_EQ(rp_pool_await_loan(&w, &a), -ENOMEM);
    CHECK_EQ(a, 0);
    rp_pool_end_loan(&p, c);
    rp_pool_end_loan(&p, b);
    CHECK_EQ(p.overflow.used_blocks, 1);

    /* What comes late for one that has been given up hides no later answer. */
    rp_pool_ask_loan(&w, ARENA_BYTES);
    request = rp_pool_wants_memory(&p, 0, &bytes);
    rp_pool_give_up_loan(&w);
    rp_pool_ask_loan(&w, ARENA_BYTES);
    rp_pool_grant(&p, 0, request + 1);
    rp_pool_grant(&p, 0, request);
    CHECK_EQ(rp_pool_await_loan(&w, &a), -ENOMEM);

    /* A dead worker waits for nothing, and its successor takes no answer for its own. */
    rp_pool_ask_loan(&w, 4000);
    request = rp_pool_loan_wanted(&p, 0, &bytes);
    CHECK_EQ(rp_pool_lend(&p, 0, request, bytes, &a), 0);
    rp_pool_detach(&w);
    CHECK_EQ(rp_pool_recover(&p, 0, ids), 1);
    CHECK_EQ(ids[0], 77);
    CHECK_EQ(rp_pool_loan_wanted(&p, 0, &bytes), 0);
    CHECK_EQ(rp_load_seq_cst(&p.entries[0].lent), 0);
    rp_pool_destroy(&p);
}

static void a_worker_that_waits_for_memory_is_told_that_there_is_no_more(void)
{
    struct rp_parent p;
    struct rp_worker w;
    pthread_t thread;
    uint64_t a, b, c;
    CHECK_EQ(rp_pool_create(&p, 1, 2, SIZES(ARENA_BYTES)), 0);
    CHECK_EQ(rp_pool_attach(&w, dup(p.segment.fd), 1, 2, SIZES(ARENA_BYTES), 0), 0);
    CHECK_EQ(rp_pool_alloc(&w, ARENA_BYTES / 2, &a), 0);
    CHECK_EQ(rp_pool_alloc(&w, ARENA_BYTES / 2, &b), 0);
    CHECK_EQ(rp_pool_return_block(&p, 0, a), 0);
    CHECK_EQ(rp_pool_wait_memory(&w), 0); /* something has come back: no need to ask */
    CHECK_EQ(rp_pool_alloc(&w, ARENA_BYTES / 2, &a), 0);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(rp_pool_alloc(&w, ARENA_BYTES, &c), -ENOMEM);
        CHECK_EQ(pthread_create(&thread, NULL, grants_what_is_asked, &p), 0);
        while (rp_pool_wait_memory(&w) != 1)
            ;
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    rp_pool_detach(&w);
    rp_pool_destroy(&p);
}

/* ---- a crew at work ---- */

struct plan {
    uint64_t n_tasks;
    uint32_t n_cpus;     /* 1: crowded, so all sleep; many: all spin first */
    bool leader;         /* the main thread waits in rp_pool_wait_results */
    bool submitter;      /* a thread of its own submits, while the main thread leads */
    bool collector;      /* a thread waits in rp_pool_wait_service */
    bool collect;        /* it is to hear of every result */
    bool keep;           /* results' blocks are kept until the memory is wanted */
    uint64_t burst;      /* most tasks submitted at once */
    struct habits habits;
};

static struct crew {
    struct books books;
    struct plan plan;
    pthread_mutex_t lock; /* stands for the interpreter's lock */
    pthread_cond_t news;  /* a worker has left, or all tasks are settled */
    bool over;
    struct hand {
        struct rp_worker pool;
        pthread_t thread;
        uint32_t index;
        uint64_t seed;
        bool left;
    } hands[MAX_CREW];
} crew;

static void *hand(void *argument)
{
    struct hand *me = argument;
    bool left = run_worker(&me->pool, crew.plan.habits, me->seed);
    pthread_mutex_lock(&crew.lock);
    me->left = left;
    pthread_cond_broadcast(&crew.news);
    pthread_mutex_unlock(&crew.lock);
    return NULL;
}

static void hire(uint32_t w)
{
    struct hand *h = &crew.hands[w];
    attach_here(&h->pool, &crew.books.pool, w);
    h->index = w;
    h->seed = rng_next(&crew.books.rng);
    h->left = false;
    h->thread = start_thread(hand, h);
}

static bool all_settled(void)
{
    return crew.books.settled == crew.books.n_tasks;
}

/* What every thread of the parent does when it has the lock. */
static void look_after(void)
{
    (void)drain(&crew.books);
    serve_memory(&crew.books);
    if (all_settled()) {
        pthread_cond_broadcast(&crew.news);
        rp_pool_kick_leader(&crew.books.pool);
    }
}

static void submit_some(void)
{
    struct books *b = &crew.books;
    post(b, 1 + rng_below(&b->rng, crew.plan.burst));
    if (one_in(&b->rng, 3))
        cancel_one(b);
    look_after();
}

static void *submitter(void *unused)
{
    struct rng r = rng_from(seed + 7);
    bool more = true;
    while (more) {
        pthread_mutex_lock(&crew.lock);
        submit_some();
        more = crew.books.posted < crew.books.n_tasks;
        pthread_mutex_unlock(&crew.lock);
        if (one_in(&r, 4)) /* long enough for all to fall asleep */
            rp_os_nap(rng_below(&r, 400000));
        else if (one_in(&r, 2))
            give_way();
    }
    return unused;
}

static void *collector(void *unused)
{
    bool over = false;
    uint64_t bytes;
    while (!over) {
        rp_pool_begin_service(&crew.books.pool);
        pthread_mutex_lock(&crew.lock);
        look_after();
        for (uint32_t w = 0; w < crew.books.pool.n_workers; w++)
            if (rp_pool_wants_memory(&crew.books.pool, w, &bytes))
                return_kept(&crew.books, w);
        over = crew.over;
        pthread_mutex_unlock(&crew.lock);
        if (!over)
            (void)rp_pool_wait_service(&crew.books.pool);
    }
    return unused;
}

/* Replaces the workers that leave after some tasks. */
static void *supervisor(void *unused)
{
    pthread_mutex_lock(&crew.lock);
    while (!crew.over) {
        bool any = false;
        for (uint32_t w = 0; w < crew.books.pool.n_workers; w++)
            if (crew.hands[w].left) {
                any = true;
                end_thread(crew.hands[w].thread);
                detach_here(&crew.hands[w].pool);
                CHECK_EQ(recover_worker(&crew.books, w), 0); /* it left with nothing in its hands */
                look_after();
                rp_pool_resume_after_recovery(&crew.books.pool, crew.books.outstanding);
                hire(w);
            }
        if (!any)
            pthread_cond_wait(&crew.news, &crew.lock);
    }
    pthread_mutex_unlock(&crew.lock);
    return unused;
}

static void lead(void)
{
    struct books *b = &crew.books;
    for (;;) {
        uint64_t outstanding, enough;
        rp_pool_begin_leading(&b->pool);
        if (crew.plan.submitter || b->posted == b->n_tasks) {
            enough = 0;
        } else { /* it is the submitter too: now and then it waits for all, or for some */
            submit_some();
            enough = one_in(&b->rng, 3) ? 0 : rng_below(&b->rng, b->outstanding + 1);
            if (one_in(&b->rng, 8)) {
                pthread_mutex_unlock(&crew.lock);
                rp_os_nap(rng_below(&b->rng, 400000));
                pthread_mutex_lock(&crew.lock);
            }
        }
        look_after();
        while (!all_settled() && (b->outstanding > enough || crew.plan.submitter || b->posted == b->n_tasks)) {
            outstanding = b->outstanding;
            pthread_mutex_unlock(&crew.lock);
            CHECK_EQ(rp_pool_wait_results(&b->pool, outstanding, -1), 0);
            pthread_mutex_lock(&crew.lock);
            rp_pool_begin_leading(&b->pool);
            look_after();
        }
        if (all_settled())
            return;
    }
}

/* Takes back what every worker still has out, and sees that its arena is empty. */
static void check_hands_are_empty(void)
{
    for (uint32_t w = 0; w < crew.books.pool.n_workers; w++) {
        struct rp_worker *p = &crew.hands[w].pool;
        uint64_t offset, bytes;
        do {
            return_kept(&crew.books, w);
            if (rp_pool_alloc(p, 1, &offset) == 0)
                CHECK_EQ(rp_arena_free(&p->arena, offset, &bytes), 0);
        } while (crew.books.n_kept[w]);
        CHECK_EQ(rp_pool_alloc(p, 1, &offset), 0);
        CHECK_EQ(rp_arena_free(&p->arena, offset, &bytes), 0);
        CHECK_EQ(p->arena.used_blocks, 0);
        CHECK_EQ(rp_arena_check(&p->arena), 0);
        CHECK_EQ(rp_load_relaxed(&p->entries[w].current), 0);
    }
}

static void work(struct plan plan)
{
    struct books *b = &crew.books;
    pthread_t submits = 0, collects = 0, supervises;
    memset(&crew, 0, sizeof crew);
    crew.plan = plan;
    CHECK_EQ(pthread_mutex_init(&crew.lock, NULL), 0);
    CHECK_EQ(pthread_cond_init(&crew.news, NULL), 0);
    open_books(b, MAX_CREW, plan.n_cpus, plan.n_tasks, seed);
    b->keep = plan.keep;
    b->collect = plan.collect;
    pthread_mutex_lock(&crew.lock);
    for (uint32_t w = 0; w < MAX_CREW; w++)
        hire(w);
    supervises = start_thread(supervisor, NULL);
    if (plan.collector)
        collects = start_thread(collector, NULL);
    if (plan.submitter)
        submits = start_thread(submitter, NULL);
    if (plan.leader)
        lead();
    else
        while (!all_settled())
            pthread_cond_wait(&crew.news, &crew.lock);
    crew.over = true;
    pthread_cond_broadcast(&crew.news);
    rp_pool_kick_service(&b->pool);
    pthread_mutex_unlock(&crew.lock);
    end_thread(supervises);
    if (plan.collector)
        end_thread(collects);
    if (plan.submitter)
        end_thread(submits);
    rp_pool_stop(&b->pool);
    for (uint32_t w = 0; w < MAX_CREW; w++)
        end_thread(crew.hands[w].thread);
    for (uint64_t id = 1; id <= plan.n_tasks; id++)
        CHECK(b->tasks[id].fate == DONE || b->tasks[id].fate == CANCELLED);
    CHECK_EQ(b->count[DONE] + b->count[CANCELLED], plan.n_tasks);
    check_hands_are_empty();
    for (uint32_t w = 0; w < MAX_CREW; w++)
        detach_here(&crew.hands[w].pool);
    printf("    %llu done, %llu cancelled, %llu returns refused\n", (unsigned long long)b->count[DONE],
           (unsigned long long)b->count[CANCELLED], (unsigned long long)b->refused);
    close_books(b);
    pthread_cond_destroy(&crew.news);
    pthread_mutex_destroy(&crew.lock);
}

static const struct habits various = {.linger = 30, .spin = 4, .nap = 100, .limit = 0};

static void one_thread_submits_and_waits(void)
{
    work((struct plan){.n_tasks = TIMES(20000u), .n_cpus = 2, .leader = true, .burst = 40, .habits = various});
}

static void one_after_the_other_with_all_falling_asleep(void)
{
    work((struct plan){.n_tasks = TIMES(4000u), .n_cpus = 1, .leader = true, .burst = 1, .habits = various});
}

static void one_after_the_other_with_all_spinning(void)
{
    work((struct plan){.n_tasks = TIMES(4000u), .n_cpus = 64, .leader = true, .burst = 1, .habits = {.linger = 30}});
}

static void large_bursts_fill_the_board_and_the_arena(void)
{
    work((struct plan){.n_tasks = TIMES(30000u), .n_cpus = 2, .leader = true, .burst = 3000, .habits = various});
}

static void a_leader_a_submitter_and_a_collector_share_the_parent(void)
{
    work((struct plan){.n_tasks = TIMES(30000u), .n_cpus = 2, .leader = true, .submitter = true, .collector = true,
                       .burst = 200, .habits = various});
}

static void the_collector_alone_hears_of_every_result(void)
{
    work((struct plan){.n_tasks = TIMES(20000u), .n_cpus = 2, .submitter = true, .collector = true, .collect = true,
                       .burst = 40, .habits = various});
}

static void results_without_a_waiter_are_taken_in_all_the_same(void)
{
    work((struct plan){.n_tasks = TIMES(60000u), .n_cpus = 2, .submitter = true, .collector = true, .burst = 6000,
                       .habits = {.linger = 30}});
}

static void memory_is_given_back_when_it_is_wanted(void)
{
    work((struct plan){.n_tasks = TIMES(30000u), .n_cpus = 2, .leader = true, .submitter = true, .collector = true,
                       .keep = true, .burst = 500, .habits = various});
}

static void more_blocks_come_back_than_a_return_ring_holds(void)
{
    largest_payload = 512;
    work((struct plan){.n_tasks = TIMES(60000u), .n_cpus = 2, .leader = true, .submitter = true, .collector = true,
                       .keep = true, .burst = 500, .habits = {.linger = 30}});
    largest_payload = UINT64_MAX;
}

static void workers_leave_and_others_take_their_places(void)
{
    struct habits brief = various;
    brief.limit = 40;
    work((struct plan){.n_tasks = TIMES(30000u), .n_cpus = 2, .leader = true, .submitter = true, .collector = true,
                       .burst = 200, .habits = brief});
}

/* ---- by hand ---- */

/* One worker, played by this thread; the collector, the leader and other workers are what is looked at. */
static struct rp_parent parent;
static struct rp_worker worker;

static void open_by_hand(uint32_t n_workers)
{
    CHECK_EQ(rp_pool_create(&parent, n_workers, 1, SIZES(ARENA_BYTES)), 0);
    attach_here(&worker, &parent, 0);
    rp_pool_join(&worker);
}

static void close_by_hand(void)
{
    detach_here(&worker);
    rp_pool_destroy(&parent);
}

static void post_by_hand(uint64_t n)
{
    while (n--) {
        struct rp_slot *slot = rp_board_try_reserve(&parent.board);
        CHECK(slot != NULL);
        slot->task_id = 1;
        (void)rp_pool_publish(&parent, 1);
    }
}

static struct {
    _Atomic int thread;
    _Atomic bool up;
} waiter;

static void *wait_for_service(void *unused)
{
    atomic_store(&waiter.thread, this_thread());
    CHECK_EQ(rp_pool_wait_service(&parent), 0);
    atomic_store(&waiter.up, true);
    return unused;
}

static void *wait_for_results(void *unused)
{
    atomic_store(&waiter.thread, this_thread());
    CHECK_EQ(rp_pool_wait_results(&parent, 1, -1), 0);
    atomic_store(&waiter.up, true);
    return unused;
}

static pthread_t put_to_sleep(void *(*wait)(void *), struct rp_bell *bell)
{
    pthread_t thread;
    atomic_store(&waiter.thread, 0);
    atomic_store(&waiter.up, false);
    thread = start_thread(wait, NULL);
    while (rp_load_seq_cst(&bell->word) != RP_ASLEEP || !thread_sleeps(atomic_load(&waiter.thread)))
        give_way();
    return thread;
}

static void a_result_wakes_the_leader_and_leaves_the_collector_alone(void)
{
    pthread_t leader;
    open_by_hand(1);
    rp_pool_set_collect(&parent, true);
    rp_pool_begin_service(&parent);
    leader = put_to_sleep(wait_for_results, &parent.shared->results);
    rp_bell_announce(&parent.shared->service);
    (void)rp_pool_try_result(&worker);
    rp_pool_publish_result(&worker, true);
    end_thread(leader);
    CHECK_EQ(rp_load_seq_cst(&parent.shared->service.word), RP_ASLEEP);
    close_by_hand();
}

static void a_kick_wakes_the_leader_and_is_kept_until_it_begins_anew(void)
{
    pthread_t leader;
    open_by_hand(1);
    leader = put_to_sleep(wait_for_results, &parent.shared->results);
    rp_pool_kick_leader(&parent);
    end_thread(leader);
    CHECK_EQ(rp_pool_wait_results(&parent, 1, -1), 0); /* it would hang if the kick were forgotten */
    rp_pool_begin_leading(&parent);
    CHECK_EQ(rp_pool_wait_results(&parent, 1, 1000000), -ETIMEDOUT);
    close_by_hand();
}

static void on_signal(int number)
{
    (void)number;
}

static void *wait_until_interrupted(void *unused)
{
    atomic_store(&waiter.thread, this_thread());
    CHECK_EQ(rp_pool_wait_results(&parent, 1000, -1), -EINTR);
    return unused;
}

static void a_signal_ends_the_wait_of_the_leader(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t leader;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    open_by_hand(1);
    atomic_store(&waiter.thread, 0);
    leader = start_thread(wait_until_interrupted, NULL);
    while (rp_load_seq_cst(&parent.shared->results.word) != RP_ASLEEP || !thread_sleeps(atomic_load(&waiter.thread)))
        give_way();
    pthread_kill(leader, SIGUSR1);
    end_thread(leader);
    close_by_hand();
}

static void a_kick_wakes_the_collector(void)
{
    pthread_t thread;
    open_by_hand(1);
    thread = put_to_sleep(wait_for_service, &parent.shared->service);
    rp_pool_kick_service(&parent);
    end_thread(thread);
    CHECK_EQ(rp_pool_wait_service(&parent), 0);
    close_by_hand();
}

static void asking_for_every_result_wakes_the_collector_once(void)
{
    pthread_t thread;
    open_by_hand(1);
    thread = put_to_sleep(wait_for_service, &parent.shared->service);
    rp_pool_set_collect(&parent, true);
    end_thread(thread);
    rp_pool_begin_service(&parent);
    thread = put_to_sleep(wait_for_service, &parent.shared->service);
    rp_pool_set_collect(&parent, true); /* no news */
    CHECK(thread_sleeps(atomic_load(&waiter.thread)));
    (void)rp_pool_try_result(&worker);
    rp_pool_publish_result(&worker, true);
    end_thread(thread);
    close_by_hand();
}

static void a_ring_half_full_wakes_the_collector(void)
{
    pthread_t thread;
    open_by_hand(1);
    thread = put_to_sleep(wait_for_service, &parent.shared->service);
    for (uint64_t n = 0; n < RP_RING_CAPACITY / 2 + 64; n++) {
        (void)rp_pool_try_result(&worker);
        rp_pool_publish_result(&worker, true);
    }
    end_thread(thread);
    close_by_hand();
}

static void a_worker_that_waits_for_space_wakes_the_collector_and_is_woken_by_a_commit(void)
{
    uint64_t n = 0;
    pthread_t thread;
    open_by_hand(1);
    while (rp_pool_try_result(&worker)) {
        rp_pool_publish_result(&worker, true);
        n++;
    }
    CHECK_EQ(n, RP_RING_CAPACITY);
    thread = start_thread(wait_for_service, NULL);
    end_thread(thread); /* the ring is more than half full: at once */
    while (rp_ring_try_peek(&parent.results[0]))
        rp_ring_release(&parent.results[0]);
    rp_store_seq_cst(&worker.entries[0].waits_space, 1u); /* half of rp_pool_wait_space, up to its sleep */
    rp_bell_announce(&worker.entries[0].bell);
    CHECK(!rp_pool_try_result(&worker));
    rp_pool_commit(&parent, 0);
    CHECK_EQ(rp_load_seq_cst(&worker.entries[0].bell.word), RP_AWAKE);
    CHECK(rp_pool_try_result(&worker) != NULL);
    close_by_hand();
}

static void a_full_return_ring_says_try_again(void)
{
    uint64_t offset, n = 0;
    int err;
    open_by_hand(1);
    CHECK_EQ(rp_pool_alloc(&worker, 1, &offset), 0);
    while ((err = rp_pool_return_block(&parent, 0, offset)) == 0)
        n++;
    CHECK_EQ(err, -EAGAIN);
    CHECK_EQ(n, RP_RETURNS_CAPACITY);
    CHECK_EQ(rp_pool_alloc(&worker, ARENA_BYTES, &offset), 0); /* one is good, the repetitions are refused */
    CHECK_EQ(rp_pool_return_block(&parent, 0, offset), 0);
    CHECK_EQ(rp_pool_return_block(&parent, 0, offset + 1), 0);
    CHECK_EQ(rp_pool_return_block(&parent, 0, 0), 0);
    CHECK_EQ(rp_pool_return_block(&parent, 0, UINT64_MAX), 0);
    CHECK_EQ(rp_pool_alloc(&worker, ARENA_BYTES, &offset), 0);
    CHECK_EQ(rp_arena_check(&worker.arena), 0);
    close_by_hand();
}

/* What has been given up comes before the next task, whose arguments may name the same address. */
static void a_worker_is_told_once_of_a_purge_and_then_of_the_task(void)
{
    struct rp_slot task;
    open_by_hand(1);
    CHECK_EQ(rp_pool_next(&worker, &task), RP_WAIT);
    post_by_hand(1);
    rp_pool_purge(&parent);
    CHECK_EQ(rp_pool_next(&worker, &task), RP_PURGE);
    CHECK_EQ(rp_pool_current(&parent, 0), 0);
    CHECK_EQ(rp_pool_next(&worker, &task), RP_RUN);
    CHECK_EQ(task.task_id, 1);
    CHECK_EQ(rp_pool_current(&parent, 0), 1);
    CHECK_EQ(rp_board_owner(&parent.board, 0), UINT32_MAX); /* its slot is free */
    CHECK_EQ(rp_pool_next(&worker, &task), RP_WAIT);
    close_by_hand();
}

static void a_claim_near_the_end_wakes_the_collector_when_there_is_a_backlog(void)
{
    uint64_t pos;
    pthread_t thread;
    open_by_hand(1);
    post_by_hand(RP_BOARD_CAPACITY);
    CHECK(!rp_board_try_reserve(&parent.board));
    rp_pool_set_backlog(&parent, true);
    thread = put_to_sleep(wait_for_service, &parent.shared->service);
    for (uint64_t n = 1; n < RP_BOARD_CAPACITY / 2; n++) {
        CHECK(rp_pool_try_claim(&worker, &pos) != NULL);
        rp_pool_take(&worker, 1, pos);
    }
    CHECK(rp_pool_try_claim(&worker, &pos) != NULL);
    CHECK(thread_sleeps(atomic_load(&waiter.thread)) && !atomic_load(&waiter.up));
    rp_pool_take(&worker, 1, pos);
    end_thread(thread);
    close_by_hand();
}

/* Room comes with the slot that is given back, which need not be the one that was claimed last. */
static void a_slot_given_back_late_wakes_the_collector_when_there_is_a_backlog(void)
{
    uint64_t first, pos;
    pthread_t thread;
    open_by_hand(1);
    post_by_hand(RP_BOARD_CAPACITY);
    rp_pool_set_backlog(&parent, true);
    CHECK(rp_pool_try_claim(&worker, &first) != NULL);
    for (uint64_t n = 1; n < RP_BOARD_CAPACITY; n++) {
        CHECK(rp_pool_try_claim(&worker, &pos) != NULL);
        rp_pool_take(&worker, 1, pos);
    }
    thread = put_to_sleep(wait_for_service, &parent.shared->service); /* the slot to be filled next is still held */
    CHECK(thread_sleeps(atomic_load(&waiter.thread)) && !atomic_load(&waiter.up));
    rp_pool_take(&worker, 1, first);
    end_thread(thread);
    close_by_hand();
}

/* ---- close meetings: two threads start together, again and again, and neither may miss the other ---- */

static rp_word round_begun, round_ended;

static void start_together(rp_word *word, uint64_t n, struct rng *r)
{
    for (uint64_t spins = 0; rp_load_acquire(word) != n; spins++)
        if (spins > 1000)
            give_way();
    for (uint64_t i = rng_below(r, 40); i > 0; i--)
        rp_pause();
}

static void *publish_one_each_round(void *unused)
{
    struct rng r = rng_from(seed + 1);
    for (uint64_t n = 1; n <= TIMES(30000u); n++) {
        start_together(&round_begun, n, &r);
        CHECK(rp_pool_try_result(&worker) != NULL);
        rp_pool_publish_result(&worker, true);
        rp_store_release(&round_ended, n);
    }
    return unused;
}

static void the_leader_misses_no_result_however_close(void)
{
    struct rng r = rng_from(seed);
    pthread_t thread;
    open_by_hand(1); /* one processor: the leader does not spin before it sleeps */
    rp_store_relaxed(&round_begun, 0u);
    thread = start_thread(publish_one_each_round, NULL);
    for (uint64_t n = 1; n <= TIMES(30000u); n++) {
        rp_store_release(&round_begun, n);
        start_together(&round_begun, n, &r);
        CHECK_EQ(rp_pool_wait_results(&parent, 1, -1), 0);
        while (!rp_ring_try_peek(&parent.results[0])) /* woken by the last round's ring, perhaps */
            CHECK_EQ(rp_pool_wait_results(&parent, 1, -1), 0);
        rp_ring_release(&parent.results[0]);
        rp_pool_commit(&parent, 0);
        while (rp_load_acquire(&round_ended) != n)
            give_way();
    }
    end_thread(thread);
    close_by_hand();
}

static rp_word n_claimed;

static void *claim_until_stopped(void *unused)
{
    uint64_t pos;
    for (;;) {
        while (rp_pool_try_claim(&worker, &pos)) {
            rp_pool_take(&worker, 1, pos);
            atomic_fetch_add(&n_claimed, 1);
        }
        if (rp_pool_wait_task(&worker) == 0)
            return unused;
    }
}

/* The worker gets up by itself, for a toll, just when it is to be woken: the waker must not count on its wake. */
static void a_sleeper_that_gets_up_by_itself_confuses_no_waker(void)
{
    struct rng r = rng_from(seed);
    pthread_t thread;
    open_by_hand(1);
    rp_store_relaxed(&n_claimed, 0u);
    thread = start_thread(claim_until_stopped, NULL);
    for (uint64_t n = 1; n <= TIMES(20000u); n++) {
        for (uint64_t spins = 0; !bit_of(parent.shared->sleepers, 0); spins++)
            if (spins > 1000)
                give_way();
        if (one_in(&r, 2))
            rp_os_nap(1); /* it is fast asleep by then */
        rp_bell_toll(&parent.entries[0].bell);
        for (uint64_t i = rng_below(&r, 400); i > 0; i--)
            rp_pause();
        CHECK(rp_board_try_reserve(&parent.board) != NULL);
        (void)rp_pool_publish(&parent, 100);
        while (rp_load_acquire(&n_claimed) != n)
            give_way();
    }
    rp_pool_stop(&parent);
    end_thread(thread);
    close_by_hand();
}

/* ---- chunks ---- */

#define CHUNKS 30000u
#define ITEMS 16u

static _Atomic uint8_t hands[CHUNKS + 1][ITEMS]; /* through which each item of each chunk has gone */
static uint8_t ends[CHUNKS + 1];                     /* of the chunks, as the parent knows */
static rp_word chunks_done;

static void *run_chunks(void *unused)
{
    struct rng r = rng_from(seed + 1);
    for (uint64_t n = 1; n <= TIMES(CHUNKS); n++) {
        uint32_t item, last = 0;
        rp_store_release(&worker.entries[0].current, n);
        for (uint64_t i = rng_below(&r, 40); i > 0; i--)
            rp_pause();
        rp_pool_begin_chunk(&worker, n, ITEMS);
        while (rp_pool_claim_item(&worker, &item)) {
            CHECK(item == 0 || item == last + 1);
            last = item;
            atomic_fetch_add(&hands[n][item], 1);
            for (uint64_t i = rng_below(&r, 8); i > 0; i--)
                rp_pause();
        }
        rp_store_seq_cst(&worker.entries[0].current, 0u);
        rp_store_release(&chunks_done, n);
    }
    return unused;
}

static void take_items_away(struct rng *r, uint64_t *taken, uint64_t *beforehand)
{
    uint64_t task;
    pthread_t thread;
    open_by_hand(1);
    rp_store_relaxed(&chunks_done, 0u);
    memset(hands, 0, sizeof hands);
    memset(ends, ITEMS, sizeof ends);
    thread = start_thread(run_chunks, NULL);
    while (rp_load_acquire(&chunks_done) != TIMES(CHUNKS)) {
        uint32_t from = (uint32_t)rng_below(r, ITEMS), next, end;
        task = rp_load_acquire(&parent.entries[0].current);
        if (task == 0)
            continue;
        if (rp_pool_chunk(&parent, 0, task, &next, &end))
            CHECK((next <= end && end == ends[task]) || rp_load_seq_cst(&parent.entries[0].current) != task);
        end = ends[task];
        if (rp_pool_cut_chunk(&parent, task, 0, &from, &end)) {
            CHECK(from < end && end == ends[task]);
            *beforehand += rp_pool_chunk_of(&parent, 0) != task;
            ends[task] = (uint8_t)from;
            for (*taken += end - from; from < end; from++)
                atomic_fetch_add(&hands[task][from], 1);
        }
    }
    end_thread(thread);
    for (uint64_t n = 1; n <= TIMES(CHUNKS); n++)
        for (uint32_t i = 0; i < ITEMS; i++)
            CHECK_EQ(hands[n][i], 1);
    close_by_hand();
}

/* Just when the worker goes on to the next item, or to the next chunk, which it may have taken and not begun: until both
 * have been. Where the two have one processor, that takes a while. */
static void an_item_is_the_workers_or_is_taken_away_never_both(void)
{
    struct rng r = rng_from(seed);
    uint64_t taken = 0, beforehand = 0;
    do
        take_items_away(&r, &taken, &beforehand);
    while (taken == 0 || beforehand == 0);
}

static void what_a_dead_worker_had_of_a_chunk_is_found(void)
{
    uint64_t offset, ids[2];
    uint32_t item, next, end;
    struct rp_tray *tray;
    open_by_hand(1);
    CHECK_EQ(rp_pool_alloc(&worker, 4096, &offset), 0);
    rp_pool_begin_chunk(&worker, 7, 3);
    tray = rp_pool_take_tray(&worker, offset, 4096, 0);
    CHECK(rp_pool_claim_item(&worker, &item) && item == 0);
    rp_pool_fill_tray(tray, 24);
    CHECK(rp_pool_claim_item(&worker, &item) && item == 1);

    CHECK_EQ(rp_pool_chunk_of(&parent, 0), 7);
    CHECK(!rp_pool_chunk(&parent, 0, 8, &next, &end));
    CHECK(rp_pool_chunk(&parent, 0, 7, &next, &end) && next == 2 && end == 3);
    CHECK_EQ(rp_pool_lost_tray(&parent, 0, 8), 0);
    CHECK_EQ(rp_pool_lost_tray(&parent, 0, 7), offset);
    CHECK_EQ(rp_pool_tray_used((struct rp_tray *)rp_pool_block(&parent, 1, offset, 24)), 24);
    (void)rp_pool_recover(&parent, 0, ids);
    CHECK_EQ(rp_pool_chunk_of(&parent, 0), 0);
    CHECK_EQ(rp_pool_lost_tray(&parent, 0, 7), 0);
    close_by_hand();
}

/* ---- which worker is woken ---- */

/* Sleeping workers, played: announced, with their bits set. */
static void play_asleep(uint32_t w)
{
    rp_or_seq_cst(&parent.shared->ready[w / 64], 1ull << (w % 64));
    rp_bell_announce(&parent.entries[w].bell);
    rp_or_seq_cst(&parent.shared->sleepers[w / 64], 1ull << (w % 64));
}

static bool sleeps(uint32_t w)
{
    bool asleep = bit_of(parent.shared->sleepers, w);
    CHECK_EQ(rp_load_seq_cst(&parent.entries[w].bell.word), asleep ? RP_ASLEEP : RP_AWAKE);
    return asleep;
}

static void no_worker_is_woken_while_enough_are_awake(void)
{
    open_by_hand(3);
    play_asleep(1);
    play_asleep(2);
    post_by_hand(1);
    CHECK(sleeps(1) && sleeps(2)); /* worker 0 is awake, and will look */
    (void)rp_board_try_reserve(&parent.board);
    (void)rp_pool_publish(&parent, 2);
    CHECK(!sleeps(1) && sleeps(2));
    CHECK_EQ(rp_load_seq_cst(&parent.shared->waking), 2);
    (void)rp_board_try_reserve(&parent.board);
    (void)rp_pool_publish(&parent, 3); /* a wake is under way */
    CHECK(sleeps(2));
    close_by_hand();
}

static void the_woken_worker_wakes_the_next_if_work_is_left(void)
{
    uint64_t pos;
    open_by_hand(3);
    play_asleep(1);
    play_asleep(2);
    worker.woken = true;
    rp_store_seq_cst(&parent.shared->waking, 1u);
    post_by_hand(2);
    CHECK(sleeps(1));
    CHECK(rp_pool_try_claim(&worker, &pos) != NULL);
    CHECK(!sleeps(1) && sleeps(2));
    CHECK_EQ(rp_load_seq_cst(&parent.shared->waking), 2);
    CHECK(!worker.woken);
    rp_store_seq_cst(&parent.shared->waking, 1u);
    worker.woken = true;
    CHECK(rp_pool_try_claim(&worker, &pos) != NULL); /* the last task: no other worker is needed */
    CHECK(sleeps(2));
    CHECK_EQ(rp_load_seq_cst(&parent.shared->waking), 0);
    close_by_hand();
}

static void sleepers_beyond_the_first_64_are_found(void)
{
    open_by_hand(200);
    play_asleep(150);
    play_asleep(199);
    (void)rp_board_try_reserve(&parent.board);
    (void)rp_pool_publish(&parent, 3);
    CHECK(!sleeps(150) && sleeps(199));
    rp_store_seq_cst(&parent.shared->waking, 0u);
    (void)rp_board_try_reserve(&parent.board);
    (void)rp_pool_publish(&parent, 4);
    CHECK(!sleeps(199));
    close_by_hand();
}

/* A task for which worker 0 counted as awake must not be forgotten when that worker goes. */
static void a_worker_that_leaves_hands_its_task_to_a_sleeper(void)
{
    open_by_hand(2);
    play_asleep(1);
    post_by_hand(1);
    CHECK(sleeps(1));
    rp_pool_leave(&worker);
    CHECK(!bit_of(parent.shared->ready, 0));
    CHECK(!sleeps(1));
    close_by_hand();
}

static void *wait_for_a_task(void *pool)
{
    CHECK_EQ(rp_pool_wait_task(pool), 1);
    return NULL;
}

static void await_word(rp_word *word, bool set)
{
    while ((rp_load_seq_cst(word) != 0) != set) /* the watchdog ends it */
        rp_os_nap(100000);
}

/* The looks are told apart by zeroing what each of them writes. */
static void the_guard_looks_at_a_worker_but_while_it_sleeps(void)
{
    struct rp_parent p;
    struct rp_worker w;
    rp_word *peak;
    pthread_t thread;
    CHECK_EQ(rp_pool_create(&p, 1, 2, SIZES(ARENA_BYTES)), 0);
    CHECK_EQ(rp_pool_attach(&w, dup(p.segment.fd), 1, 2, SIZES(ARENA_BYTES), 0), 0);
    CHECK_EQ(rp_os_guard((int)syscall(SYS_pidfd_open, getpid(), 0)), 0);
    peak = &w.entries[0].peak_rss;
    rp_pool_watch(&w);
    CHECK(rp_pool_peak_rss(&p, 0) > 0);
    rp_pool_join(&w);
    for (int i = 0; i < 2; i++) { /* awake: a second later, again and again */
        rp_store_seq_cst(peak, 0u);
        await_word(peak, true);
    }
    thread = start_thread(wait_for_a_task, &w);
    await_word(&w.unwatched, true); /* asleep: not any more */
    rp_store_seq_cst(peak, 0u);
    rp_os_nap(1500000000);
    CHECK_EQ(rp_load_seq_cst(peak), 0);
    rp_board_try_reserve(&p.board)->task_id = 1;
    (void)rp_pool_publish(&p, 1); /* woken: at once */
    end_thread(thread);
    await_word(&w.unwatched, false);
    await_word(peak, true);
    rp_pool_detach(&w); /* the guard must not look where nothing is */
    rp_os_guard_poke();
    rp_os_nap(20000000);
    rp_pool_destroy(&p);
}

/* Its process may take its time to end, and is recovered only then. */
static void a_worker_that_leaves_results_unread_wakes_the_collector(void)
{
    pthread_t thread;
    open_by_hand(1);
    thread = put_to_sleep(wait_for_service, &parent.shared->service);
    (void)rp_pool_try_result(&worker);
    rp_pool_publish_result(&worker, true);
    rp_pool_leave(&worker);
    end_thread(thread);
    CHECK_EQ(rp_pool_wait_service(&parent), 0); /* and it does not fall asleep again over them */
    close_by_hand();
}

static void a_stop_wakes_all(void)
{
    pthread_t thread;
    open_by_hand(2);
    play_asleep(1);
    thread = put_to_sleep(wait_for_service, &parent.shared->service);
    rp_pool_stop(&parent);
    end_thread(thread);
    CHECK_EQ(rp_load_seq_cst(&parent.entries[1].bell.word), RP_AWAKE);
    CHECK_EQ(rp_pool_wait_task(&worker), 0);
    close_by_hand();
}

int main(int argc, char **argv)
{
    begin(120);
    seed = seed_from(argc, argv, 1);
    RUN(a_pool_of_an_impossible_size_is_refused);
    RUN(arena_bytes_are_rounded_down_to_a_power_of_two);
    RUN(a_largest_pool_finds_a_size_that_the_system_grants);
    RUN(a_loan_is_asked_for_lent_and_ended);
    RUN(a_limit_of_file_size_makes_the_arenas_smaller);
    RUN(a_worker_has_the_arena_that_its_place_was_given);
    RUN(releases_are_seen_once_each);
    RUN(a_worker_that_waits_for_memory_is_told_that_there_is_no_more);
    RUN(a_worker_with_other_sizes_is_refused);
    RUN(two_mappings_of_a_pool_agree_on_every_part);
    RUN(a_block_outside_its_arena_has_no_address);
    RUN(one_thread_submits_and_waits);
    RUN(one_after_the_other_with_all_falling_asleep);
    RUN(one_after_the_other_with_all_spinning);
    RUN(large_bursts_fill_the_board_and_the_arena);
    RUN(a_leader_a_submitter_and_a_collector_share_the_parent);
    RUN(the_collector_alone_hears_of_every_result);
    RUN(results_without_a_waiter_are_taken_in_all_the_same);
    RUN(memory_is_given_back_when_it_is_wanted);
    RUN(more_blocks_come_back_than_a_return_ring_holds);
    RUN(workers_leave_and_others_take_their_places);
    RUN(a_result_wakes_the_leader_and_leaves_the_collector_alone);
    RUN(a_kick_wakes_the_leader_and_is_kept_until_it_begins_anew);
    RUN(a_signal_ends_the_wait_of_the_leader);
    RUN(a_kick_wakes_the_collector);
    RUN(asking_for_every_result_wakes_the_collector_once);
    RUN(a_ring_half_full_wakes_the_collector);
    RUN(a_worker_that_waits_for_space_wakes_the_collector_and_is_woken_by_a_commit);
    RUN(a_full_return_ring_says_try_again);
    RUN(a_worker_is_told_once_of_a_purge_and_then_of_the_task);
    RUN(a_claim_near_the_end_wakes_the_collector_when_there_is_a_backlog);
    RUN(a_slot_given_back_late_wakes_the_collector_when_there_is_a_backlog);
    RUN(the_leader_misses_no_result_however_close);
    RUN(a_sleeper_that_gets_up_by_itself_confuses_no_waker);
    RUN(an_item_is_the_workers_or_is_taken_away_never_both);
    RUN(what_a_dead_worker_had_of_a_chunk_is_found);
    RUN(no_worker_is_woken_while_enough_are_awake);
    RUN(the_woken_worker_wakes_the_next_if_work_is_left);
    RUN(sleepers_beyond_the_first_64_are_found);
    RUN(a_stop_wakes_all);
    RUN(a_worker_that_leaves_hands_its_task_to_a_sleeper);
    RUN(a_worker_that_leaves_results_unread_wakes_the_collector);
    RUN(the_guard_looks_at_a_worker_but_while_it_sleeps); /* last: its thread stays */
    return 0;
}
