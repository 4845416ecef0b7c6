/* pool.pml - the protocol of csrc/, and of the parts of the core that drive it, for spin to search exhaustively.
 *
 * The processes of the model, and what each is in the code:
 *
 *   worker(w)    Worker.run. It may die before any of its steps; the same process of the model is then its successor.
 *   parent       the parent's threads while they hold the GIL, one section of code at a time: the user's submit, cancel,
 *                result, add_done_callback and shutdown; the collector's rounds (Client.run_collector); the supervisor's
 *                recoveries (recovery.Recovery). Between two sections it checks the promises.
 *   leader       rp_pool_wait_results, which a thread in result() runs without the GIL
 *   collector    rp_pool_wait_service, likewise
 *
 * A step is one access to a word that others may look at meanwhile. What is private, and what cannot be seen before a later
 * step publishes it (the bodies of slots and results), goes with that step. Where a step holds more, its comment says why
 * nothing is lost. So it is with spins: what a spin finds is what the look after it finds, made later.
 *
 * Assumed: sequential consistency. All decisions of the code that rest on two words are made by seq_cst operations
 * (announce / publish, see bell.h), so one order of all of these is what it has. Weaker accesses, and what they become:
 *   acquire and release on slot words, seq and read_pos    a body is read whole
 *   `current`, relaxed                                     a store; its reader comes after its writer's death
 *   read_pos in rp_ring_unread, claim_pos in rp_pool_take  a look; figures and hints
 *   what the parent clears at a recovery                   one step; the successor starts later
 * What a weak machine makes of them is for ThreadSanitizer (test_native.py).
 *
 * Left out: naps, time-outs and signals in workers, memory blocks and the waits for them, functions, the ring of a worker
 * whose result ring is half full (a help that nothing may rely on), the drain at every 32nd submit, the initializer,
 * broken pools, several threads in result(), pools that grow, and builds without a GIL.
 *
 * Constants, by -D: NW workers (3 at most), NT tasks (4), CAP slots of the board (3), RING slots of a result ring (2),
 * DEATHS of workers, CANCELS; LAST tasks after which a worker retires (0: never); LEADS 0: no thread calls result(); TIMEOUTS 1:
 * result() may give up; SHUTDOWN 1: at any time, else when all rest; WATCH 1: the first task may get a callback, and the
 * last does not end before it is called; TOGETHER 1: neither of two tasks ends before both have begun or are settled, so
 * both must be with workers at once; SLOW 1: the process of worker 0 takes any time to start and to end, so nothing may
 * wait for that, and worker 0 alone retires; HINTS 1: claim_pos is pushed step by step; SLEEPERS_FIRST: see wake_one.
 * Where tasks wait for each other, CAP is to be NW at least, as in the code: with fewer slots than workers, a task could
 * wait in the queue while a worker idles.
 *
 * Each promise has a name, which its assertion prints. For each there is a mutant, -DMUTANT_..., that breaks it;
 * test_model.py holds the table. */

#ifndef NW
#define NW 2
#endif
#ifndef NT
#define NT 2
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef RING
#define RING 1
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef LAST
#define LAST 0
#endif
#ifndef SHUTDOWN
#define SHUTDOWN 0
#endif
#ifndef HINTS
#define HINTS 0
#endif
#ifndef LEADS
#define LEADS 1
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 0
#endif
#ifndef WATCH
#define WATCH 0
#endif
#ifndef SLOW
#define SLOW 0
#endif
#ifndef TOGETHER
#define TOGETHER 0
#endif

/* ---- the promises ---- */

/* These are never set: `assert(name)` fails. At each step: */
hidden byte settled_once, cancelled_never_runs, runs_on_one_worker, only_the_held_task_fails,
    what_was_answered_never_fails;
/* When no process will move any more, unless the user does something new or another worker dies: (And one more: every run comes
 * to such an end. There is no cycle.) */
hidden byte no_sleeper_left_with_work, no_queue_left_behind, no_result_left_unread, no_room_left_unnoticed,
    no_leader_left_asleep, no_watcher_left_untold, no_task_lost, the_pool_ends;

#define REQUIRE(name, condition) if :: (condition) :: else -> assert(name) fi

/* ---- the segment ---- */

/* A slot's word: lap, owner, state, in an order that can be compared. */
#define FREE(pos) ((pos) / CAP * 16)
#define READY(pos) (FREE(pos) + 1)
#define CLAIMED(pos, w) (FREE(pos) + ((w) + 1) * 4 + 2)
#define STATE(word) ((word) % 4)
#define OWNER(word) ((word) % 16 / 4)

#define BIT(w) (1 << (w))
#define NEVER 255
#define NONE 255

#define RESULTS NW        /* the bells: each worker's own, then these two */
#define SERVICE (NW + 1)

#if NW == 1
#define EACH_WORKER(do) do(0);
#define ANY_WORKER(is) is(0)
#elif NW == 2
#define EACH_WORKER(do) do(0); do(1);
#define ANY_WORKER(is) (is(0) || is(1))
#else
#define EACH_WORKER(do) do(0); do(1); do(2);
#define ANY_WORKER(is) (is(0) || is(1) || is(2))
#endif

byte slot[CAP], body[CAP], claim_pos;
byte seq[NW * RING], answer[NW * RING], read_pos[NW];
byte current[NW];         /* task + 1 */
bit waits_space[NW];
byte sleepers, ready;     /* masks */
byte waking;
bit stop, collect;
byte refill_pos = NEVER;
bit bell[NW + 2];         /* 1: RP_ASLEEP */
bit in_kernel[NW + 2];    /* its sleeper is in the futex call */

/* ---- what the parent's threads may look at without the GIL ---- */

byte write_pos;
byte next_read[NW];       /* rp_ring.read_pos */
bit backlog, kick_leader, kick_service;

mtype = { IDLE, UP, SLEEPS, GONE };
mtype user = IDLE;        /* UP and SLEEPS: in result() */
mtype service = SLEEPS;   /* the collector */

/* ---- what only the model knows ---- */

mtype = { RUNS, DEAD, VACANT }; /* a place: VACANT if no successor is to start */
mtype place[NW] = RUNS;
bit begun[NT], settled[NT], cancelled[NT], answered[NT];
byte held_by[NT];         /* worker + 1, from the claim to the answer */
byte deaths;
bit in_task[NW];          /* runs a task that waits for others to begin */

bit watched, news;        /* the first task has a callback; it is done and the callback has not been called */

/* What some tasks wait for before they end. */
#if TOGETHER && NT == 2
#define WAITS_IN_TASK(t) 1
#define MAY_END ((begun[0] || settled[0]) && (begun[1] || settled[1]))
#elif WATCH
#define WAITS_IN_TASK(t) (t == NT - 1 && NT > 1)
#define MAY_END (!watched && !news)
#else
#define WAITS_IN_TASK(t) 0
#define MAY_END true
#endif

bit away = SLOW;          /* worker 0 starts or ends */

/* Where a worker may die: before each step of its own. The parent, whose `me` is no worker's, does not. */
#if DEATHS
#define OR_DIE \
    :: d_step { me < NW && deaths < DEATHS -> deaths++; place[me] = DEAD; in_kernel[me] = 0; in_task[me] = 0 } \
       goto dead
#else
#define OR_DIE
#endif

/* ---- bell.h ---- */

/* One compare-and-swap, for a look that finds AWAKE is one that fails; then the system call, in one step with it if its
 * caller does not die: a wake that comes late may end a later sleep, which does no harm. */
inline ring(b) {
    if
#if DEATHS == 0
    :: d_step { bell[b] -> bell[b] = 0; in_kernel[b] = 0 }
#else
    :: d_step { bell[b] -> bell[b] = 0 }
       if
       :: in_kernel[b] = 0
       OR_DIE
       fi
#endif
    :: !bell[b]
    OR_DIE
    fi
}

inline parent_rings(b) {
    if
    :: d_step { bell[b] -> bell[b] = 0; in_kernel[b] = 0 }
    :: !bell[b]
    fi
}

/* The last look, unless it finds cause to stay up, and the sleep are one step: a process that comes between them
 * finds the announcement, as it does when the sleep has begun. So are all looks of one sleeper. Likewise the getting up and
 * the withdrawal of the announcement: it is the same whether the sleeper sleeps, rung, or is awake and about to withdraw. */
inline sleep_unless(cause, b) {
    if
    :: d_step {
           if
           :: !bell[b]
           :: bell[b] && (cause) -> bell[b] = 0
           :: bell[b] && !(cause) -> in_kernel[b] = 1
           fi
       }
       if
       :: d_step { !in_kernel[b] -> bell[b] = 0 }
       OR_DIE
       fi
    OR_DIE
    fi
}

inline toll(b) {
    d_step { bell[b] = 0; in_kernel[b] = 0 }
}

/* ---- board.h ---- */

/* Without HINTS, a look over the board is one step, and so is a claim. That loses nothing: a slot that was seen READY and is
 * gone means another look, which is the same as having looked later, and a claimer that finds the hint behind pushes it. */
#define SOME_READY (STATE(slot[0]) == 1 || STATE(slot[CAP / 2]) == 1 || STATE(slot[CAP - 1]) == 1) /* CAP <= 3 */

/* Here and below: p, seen and ok are variables of the process that calls. */
inline first() {
#if HINTS == 0
    if
    :: ok = SOME_READY
    OR_DIE
    fi
#else
    if
    :: p = claim_pos
    OR_DIE
    fi;
    do
    :: d_step { slot[p % CAP] == READY(p) -> ok = 1 }
       break
    :: d_step { slot[p % CAP] <= FREE(p) -> ok = 0 }
       break
    :: slot[p % CAP] > READY(p) ->
        if
        :: d_step { claim_pos == p -> p++; claim_pos = p }
        :: d_step { claim_pos != p -> p = claim_pos }
        OR_DIE
        fi
    OR_DIE
    od
#endif
}

#define RESERVE \
    p = claim_pos; \
    do :: slot[p % CAP] > READY(p) -> p++ :: else -> break od; \
    claim_pos = p; \
    p = 0; \
    ok = (slot[write_pos % CAP] == FREE(write_pos) && write_pos - claim_pos < CAP)

/* The parent's. ok: the slot at write_pos is free. */
inline try_reserve() {
#if HINTS == 0
    d_step { RESERVE }
#else
    if
    :: slot[write_pos % CAP] == FREE(write_pos) ->
        if
        :: d_step { write_pos - claim_pos < CAP -> ok = 1 }
        :: write_pos - claim_pos >= CAP ->
            first();
            atomic { p = 0; ok = (write_pos - claim_pos < CAP) }
        fi
    :: d_step { slot[write_pos % CAP] != FREE(write_pos) -> ok = 0 }
    fi
#endif
}

/* ---- wake.c and results.c, both sides ---- */

#define LOWEST(mask) ((mask) & 1 -> 0 : ((mask) & 2 -> 1 : 2))
#define COUNT(mask) (((mask) & 1) + ((mask) >> 1 & 1) + ((mask) >> 2 & 1))

inline wake_sleeper() {
    do
    :: d_step { sleepers != 0 -> seen = LOWEST(sleepers) }
       if
       :: d_step { waking == 0 -> waking = seen + 1 }
          if
          :: d_step { sleepers & BIT(seen) -> sleepers = sleepers & ~BIT(seen) }
             ring(seen);
             seen = 0;
             break
          :: (sleepers & BIT(seen)) == 0 ->
             if
#ifdef MUTANT_WAKE_OF_ONE_THAT_IS_UP_STAYS
             :: seen = 0
#else
             :: d_step { waking = 0; seen = 0 }
#endif
             OR_DIE
             fi
          OR_DIE
          fi
       :: d_step { waking != 0 -> seen = 0 }
          break
       OR_DIE
       fi
    :: sleepers == 0 -> break
    OR_DIE
    od
}

inline wake_one() {
    if
    :: sleepers != 0 ->
#ifdef SLEEPERS_FIRST /* C leaves it open which of the two words is read first */
        seen = sleepers;
        d_step { ok = (outstanding > COUNT(ready & ~seen)); seen = 0 }
#else
        seen = ready;
        d_step { ok = (outstanding > COUNT(seen & ~sleepers)); seen = 0 }
#endif
        if
        :: ok -> ok = 0; wake_sleeper()
        :: !ok
        fi
    :: sleepers == 0
    fi
}

inline wake_one_if_work_waits() {
    if
    :: sleepers != 0 ->
        first();
        p = 0;
        if
        :: ok -> ok = 0; wake_sleeper()
        :: !ok
        fi
    :: sleepers == 0
    OR_DIE
    fi
}

/* ---- the worker ---- */

inline came_round() {
    if
    :: woken ->
        if
#ifdef MUTANT_LOOKS_BEFORE_THE_WAKE_IS_OVER
        :: woken = 0
        fi;
        wake_one_if_work_waits();
        waking = 0
#else
        :: d_step { woken = 0; waking = 0 }
        OR_DIE
        fi;
#ifndef MUTANT_NO_CHAIN
        wake_one_if_work_waits()
#endif
#endif
    :: !woken
    fi
}

#define CLAIM slot[p % CAP] = CLAIMED(p, me); t = body[p % CAP]; held_by[t] = me + 1; at = p

/* ok: the task t has been claimed, at position at. */
inline try_claim() {
#if HINTS == 0 && !defined(MUTANT_CLAIM_STORES)
    if
    :: d_step {
           SOME_READY ->
           p = claim_pos;
           do :: slot[p % CAP] == READY(p) -> break :: else -> p++ od;
           CLAIM;
           claim_pos = p + 1;
           p = 0;
           ok = 1
       }
    :: !SOME_READY
    OR_DIE
    fi
#else
    do
    :: first();
       if
       :: !ok -> p = 0; break
       :: ok ->
            ok = 0;
#ifdef MUTANT_CLAIM_STORES
            if
            :: slot[p % CAP] == READY(p) ->
                CLAIM;
#else
            if
            :: d_step { slot[p % CAP] == READY(p) -> CLAIM }
#endif
               if
               :: d_step { if :: claim_pos == p -> claim_pos = p + 1 :: else fi; p = 0; ok = 1 }
               OR_DIE
               fi;
               break
            :: slot[p % CAP] != READY(p)
            OR_DIE
            fi
       fi
    od
#endif
}

/* That the task runs is no more than a note. */
#define RUN \
    REQUIRE(cancelled_never_runs, !cancelled[t]); \
    REQUIRE(runs_on_one_worker, !begun[t]); \
    begun[t] = 1; \
    in_task[me] = WAITS_IN_TASK(t); \
    at = 0

inline take() {
#ifdef MUTANT_TAKE_FREES_FIRST
    if :: slot[at % CAP] = FREE(at + CAP) OR_DIE fi;
    if :: d_step { current[me] = t + 1; RUN } OR_DIE fi;
#elif defined(MUTANT_COPY_AFTER_FREEING)
    if :: slot[at % CAP] = FREE(at + CAP) OR_DIE fi;
    if :: d_step { t = body[at % CAP]; RUN } OR_DIE fi;
#else
#if DEATHS /* the only time at which it is read */
    if :: current[me] = t + 1 OR_DIE fi;
#endif
    if :: d_step { slot[at % CAP] = FREE(at + CAP); RUN } OR_DIE fi;
#endif
#if NT > CAP
    if
    :: refill_pos != NEVER ->
        if
        :: claim_pos >= refill_pos -> ring(SERVICE)
        :: claim_pos < refill_pos
        OR_DIE
        fi
    :: refill_pos == NEVER
    OR_DIE
    fi;
#endif
#if TOGETHER || WATCH
    if
    :: d_step { !in_task[me] || MAY_END -> in_task[me] = 0 }
    OR_DIE
    fi
#endif
}

/* ok: there is room in this worker's ring. */
inline try_result() {
    if
    :: answers != space -> ok = 1
    :: answers == space ->
        if
        :: d_step { answers - read_pos[me] < RING -> space = read_pos[me] + RING; ok = 1 }
        :: d_step { answers - read_pos[me] >= RING -> ok = 0 }
        OR_DIE
        fi
    fi
}

inline reserve_result() {
    do
    :: try_result();
       if
       :: ok -> ok = 0; break
       :: !ok ->
            if :: waits_space[me] = 1 OR_DIE fi;
            if :: bell[me] = 1 OR_DIE fi;
            ring(SERVICE);
            sleep_unless(answers - read_pos[me] < RING, me);
            if :: waits_space[me] = 0 OR_DIE fi
       fi
    od
}

inline ring_collector() {
    if
    :: collect -> ring(SERVICE)
    :: !collect
    OR_DIE
    fi
}

#if WATCH || SHUTDOWN
#define IF_COLLECTING(x) x
#else
#define IF_COLLECTING(x) /* it is not while there are results */
#endif

inline publish_result() {
#if DEATHS && defined(MUTANT_PUBLISH_FORGETS_FIRST)
    if :: current[me] = 0 OR_DIE fi;
#endif
    if
    :: d_step {
           seq[me * RING + answers % RING] = answers + 1;
           answer[me * RING + answers % RING] = t;
           answers++;
           held_by[t] = 0;
           answered[t] = 1;
           t = 0
       }
    OR_DIE
    fi;
#if DEATHS
    if :: current[me] = 0 OR_DIE fi;
#endif
#if LEADS
    if
    :: d_step { bell[RESULTS] -> bell[RESULTS] = 0 }
       if :: in_kernel[RESULTS] = 0 OR_DIE fi
    :: !bell[RESULTS] -> IF_COLLECTING(ring_collector())
    OR_DIE
    fi;
#else
    IF_COLLECTING(ring_collector())
#endif
}

inline tell_of_unread() {
    if
    :: answers != read_pos[me] -> ring(SERVICE)
    :: answers == read_pos[me]
    OR_DIE
    fi
}

inline lie_down() {
    came_round();
#ifdef MUTANT_BELL_AFTER_BIT
    if :: sleepers = sleepers | BIT(me) OR_DIE fi;
    if :: bell[me] = 1 OR_DIE fi;
#else
    if :: bell[me] = 1 OR_DIE fi;
    if :: sleepers = sleepers | BIT(me) OR_DIE fi;
#endif
#ifndef MUTANT_UNREAD_DOES_NOT_RING
    tell_of_unread();
#endif
#if HINTS /* the look that pushes the hint on the way */
    first();
    p = 0;
    sleep_unless(ok || stop, me);
    ok = 0;
#elif defined(MUTANT_NO_LAST_LOOK)
    sleep_unless(stop, me);
#else
    sleep_unless(SOME_READY || stop, me);
#endif
    if
    :: d_step { sleepers & BIT(me) -> sleepers = sleepers & ~BIT(me) }
    :: (sleepers & BIT(me)) == 0 -> /* a waker took it, and named this worker before that */
        if :: woken = (waking == me + 1) OR_DIE fi
    OR_DIE
    fi
}

proctype worker(byte me) {
    byte p, at, seen, t, answers, space, left;
    bit ok, woken;
born:
    do
    :: place[me] == RUNS -> break
    :: place[me] == VACANT -> goto over
    od;
    space = RING;
    left = (SLOW && me > 0 -> 0 : LAST);
    if :: d_step { ready = ready | BIT(me); if :: me == 0 -> away = 0 :: else fi } OR_DIE fi;
    do
    :: try_claim();
       if
       :: ok ->
            ok = 0;
            came_round();
            take();
#if RING < NT
            reserve_result();
#endif
            publish_result();
            if
            :: left == 0
            :: left == 1 -> break
            :: left > 1 -> left--
            fi
       :: !ok ->
            lie_down();
            if
            :: stop -> break
            :: !stop
            OR_DIE
            fi
       fi
    od;
    if :: ready = ready & ~BIT(me) OR_DIE fi;
    came_round();
#ifndef MUTANT_LEAVE_DOES_NOT_WAKE
    wake_one_if_work_waits();
#endif
#ifndef MUTANT_LEAVE_TELLS_NOT_OF_UNREAD
    tell_of_unread();
#endif
#if SLOW
    if :: d_step { if :: me == 0 -> away = 1 :: else fi } OR_DIE fi;
#endif
    place[me] = DEAD;
dead:
    atomic { p = 0; at = 0; seen = 0; t = 0; answers = 0; space = 0; left = 0; ok = 0; woken = 0; goto born };
over:
    skip
}

/* ---- the parent, with the GIL held: all that follows is of one process ---- */

#define NEW 0             /* futures */
#define QUEUED 1
#define POSTED 2          /* on the board, or with a worker */
#define DONE 3
#define PENDING(t) (future[t] == QUEUED || future[t] == POSTED)

/* A collector that is up has not announced itself. */
inline kick_the_service() {
    d_step { kick_service = 1; ok = (service == SLEEPS) }
    if
    :: ok -> ok = 0; parent_rings(SERVICE)
    :: !ok
    fi
}

/* ok: whether the collector must be told. */
#define UPDATE_COLLECT \
    ok = (!collect && (watched || closing)); \
    collect = (watched || closing)

inline update_collect() {
    d_step { UPDATE_COLLECT }
#ifdef MUTANT_COLLECT_LOOKS_NOT
    ok = 0;
#else
    if
    :: ok -> kick_the_service()
    :: !ok
    fi
#endif
}

/* Settlement.finish; for a cancelled one, what try_cancel does instead. A leader that is up forgets kicks before it looks. */
inline settle(f) {
    d_step {
        REQUIRE(settled_once, PENDING(f));
        if
        :: future[f] == QUEUED -> queued--
        :: else -> outstanding--
        fi;
        future[f] = DONE;
        settled[f] = 1;
        last = (closing && outstanding + queued == 0);
        ok = (awaited == f + 1 && user == SLEEPS)
    }
#ifdef MUTANT_LEADER_IS_NOT_KICKED
    ok = 0;
#else
    if
    :: ok -> ok = 0; kick_leader = 1; parent_rings(RESULTS)
    :: !ok
    fi;
#endif
#if WATCH
    if
    :: f == 0 && watched ->
        d_step { watched = 0; news = !cancelled[0] } /* a cancelled one's callbacks run in the thread that cancels */
        update_collect();
        if
        :: news -> kick_the_service()
        :: !news
        fi
    :: !(f == 0 && watched)
    fi;
#endif
    if
    :: last -> last = 0; kick_the_service()
    :: !last
    fi
}

#define FULL(w) (seq[(w) * RING + next_read[w] % RING] == next_read[w] + 1)
#define SOME_RESULT ANY_WORKER(FULL)

inline drain_worker(w) {
    do
    :: d_step { FULL(w) -> t = answer[(w) * RING + next_read[w] % RING]; answer[(w) * RING + next_read[w] % RING] = 0; next_read[w]++; some = 1; total = 1 }
       settle(t);
       t = 0
    :: !FULL(w) -> break
    od;
    if
    :: some ->
        d_step { read_pos[w] = next_read[w]; some = 0 };
#if RING < NT && !defined(MUTANT_COMMIT_DOES_NOT_RING)
        if
        :: waits_space[w] -> parent_rings(w)
        :: !waits_space[w]
        fi
#endif
    :: !some
    fi
}

#if NT > CAP
#define PUMP pump();
#else
#define PUMP /* there is always room */
#endif

inline drain() {
    EACH_WORKER(drain_worker)
    if
    :: total -> total = 0; PUMP
    :: !total
    fi
}

/* Into the slot that try_reserve has found. */
#define FILL(f) \
    outstanding++; \
    future[f] = POSTED; \
    pos_of[f] = write_pos; \
    body[write_pos % CAP] = f; \
    slot[write_pos % CAP] = READY(write_pos); \
    write_pos++

inline publish(f) {
#ifdef MUTANT_ROUSE_BEFORE_PUBLISHING
    outstanding++;
    wake_one();
    outstanding--;
    d_step { FILL(f) }
#else
    d_step { FILL(f) }
    wake_one()
#endif
}

inline pump() {
    do
    :: head < tail && future[queue[head]] == QUEUED ->
        try_reserve();
        if
        :: ok -> ok = 0; queued--; publish(queue[head]); head++
        :: !ok ->
            backlog = 1;
            refill_pos = (write_pos > CAP / 2 -> write_pos - CAP / 2 : 0);
            break
        fi
    :: head < tail && future[queue[head]] != QUEUED -> head++ /* cancelled: it left the queue in spirit */
    :: head == tail ->
        if
        :: backlog -> d_step { backlog = 0; refill_pos = NEVER }
        :: !backlog
        fi;
        break
    od
}

inline submit() {
#if HINTS || defined(MUTANT_ROUSE_BEFORE_PUBLISHING)
    if
    :: queued == 0 -> try_reserve()
    :: queued > 0
    fi;
    if
    :: ok -> ok = 0; publish(next); next++
#else /* a slot that is free stays so until it is filled */
    d_step {
        if
        :: queued == 0 -> RESERVE
        :: queued > 0
        fi;
        if
        :: ok -> FILL(next); next++
        :: !ok
        fi
    }
    if
    :: ok -> ok = 0; wake_one()
#endif
    :: !ok ->
        d_step { future[next] = QUEUED; queue[tail] = next; tail++; queued++; next++ }
        PUMP
    fi
}

inline cancel(f) {
    if
    :: future[f] == QUEUED ->
        cancelled[f] = 1;
        settle(f)
    :: future[f] == POSTED ->
#ifdef MUTANT_CANCEL_STORES
        if
        :: slot[pos_of[f] % CAP] == READY(pos_of[f]) ->
            d_step { slot[pos_of[f] % CAP] = FREE(pos_of[f] + CAP); cancelled[f] = 1 }
#else
        if
        :: d_step { slot[pos_of[f] % CAP] == READY(pos_of[f]) ->
               slot[pos_of[f] % CAP] = FREE(pos_of[f] + CAP);
               cancelled[f] = 1
           }
#endif
#if NT > CAP && !defined(MUTANT_CANCEL_LEAVES_THE_QUEUE)
            if
            :: queued > 0 -> kick_the_service()
            :: queued == 0
            fi;
#endif
            settle(f)
        :: slot[pos_of[f] % CAP] != READY(pos_of[f])
        fi
    fi
}

/* ---- recoveries ---- */

#ifdef MUTANT_RECOVER_TAKES_ANY_CLAIM
#define IS_OF_THE_DEAD(word) true
#else
#define IS_OF_THE_DEAD(word) (OWNER(word) == w + 1)
#endif

inline recover_slot(i) {
    if
    :: d_step { STATE(slot[i]) == 2 && IS_OF_THE_DEAD(slot[i]) ->
           claimed = body[i];
           slot[i] = slot[i] / 16 * 16 + 16
       }
    :: !(STATE(slot[i]) == 2 && IS_OF_THE_DEAD(slot[i]))
    fi
}

inline recover() {
    d_step { noted = (current[w] != 0 -> current[w] - 1 : NONE); claimed = NONE }
    recover_slot(0);
#if CAP > 1
    recover_slot(1);
#endif
#if CAP > 2
    recover_slot(2);
#endif
#ifndef MUTANT_DEAD_STAY_READY
    ready = ready & ~BIT(w);
#endif
#ifndef MUTANT_DEAD_STAY_ASLEEP
    sleepers = sleepers & ~BIT(w);
#endif
    d_step { current[w] = 0; waits_space[w] = 0 }
    bell[w] = 0;
    d_step {
        next_read[w] = 0;
        read_pos[w] = 0;
#ifndef MUTANT_RING_IS_NOT_EMPTIED
        seq[w * RING] = 0;
        seq[w * RING + RING - 1] = 0
#endif
    }
}

/* A task that the dead worker may have held: found under its id, if it is pending. */
inline fail(f) {
    if
#ifdef MUTANT_FAIL_WITHOUT_LOOKING
    :: f != NONE ->
#else
    :: f != NONE && PENDING(f) ->
#endif
        d_step {
            lost++;
            REQUIRE(what_was_answered_never_fails, !answered[f]);
            REQUIRE(only_the_held_task_fails, held_by[f] == w + 1 && lost <= deaths);
            held_by[f] = 0
        }
        settle(f)
    :: else
    fi;
    f = NONE
}

inline toll_all() {
    EACH_WORKER(toll)
    toll(RESULTS);
    toll(SERVICE)
}

inline begin_recovery() {
#ifdef MUTANT_RECOVER_BEFORE_READING
    recover();
    drain_worker(w);
#else
    drain_worker(w);
    recover();
#endif
    total = 0
}

inline resume_after_recovery() {
    PUMP
#ifndef MUTANT_WAKING_IS_LEFT
    waking = 0;
#endif
#ifndef MUTANT_DEATH_DOES_NOT_TOLL
    toll_all();
#endif
    wake_one()
}

/* ---- the promises that are about rest ---- */

#define IS_AWAY(w) (w == 0 && away && NW > 1)
#define RESTS(w) (place[w] == VACANT || (place[w] == RUNS && (in_kernel[w] || IS_AWAY(w) || (in_task[w] && !MAY_END))))
#define IS_THERE(w) (place[w] != VACANT && !IS_AWAY(w))
#define MOVES(w) (!RESTS(w))
#define WAITS_FOR_ROOM(w) (place[w] == RUNS && waits_space[w])
#define REST (stage == 0 && (!TOGETHER || next == NT) && (user == IDLE || in_kernel[RESULTS]) && (service == GONE || in_kernel[SERVICE]) && !ANY_WORKER(MOVES))
#define ALL_IS_WELL (!SOME_READY && queued == 0 && user == IDLE && !SOME_RESULT && !ANY_WORKER(WAITS_FOR_ROOM) && !news && \
                     outstanding == 0 && (!closing || (service == GONE && !ANY_WORKER(IS_THERE))))

/* In a d_step the first option that holds is taken: the promise that is named is the one nearest to the cause. */
inline check_promises() {
    if
    :: SOME_READY -> assert(no_sleeper_left_with_work)
    :: queued > 0 -> assert(no_queue_left_behind)
    :: user == SLEEPS && !PENDING(awaited - 1) -> assert(no_leader_left_asleep)
    :: ANY_WORKER(WAITS_FOR_ROOM) && !SOME_RESULT -> assert(no_room_left_unnoticed)
    :: news || (watched && answered[0]) -> assert(no_watcher_left_untold)
    :: SOME_RESULT -> assert(no_result_left_unread)
    :: outstanding > 0 -> assert(no_task_lost)
    :: else -> assert(the_pool_ends)
    fi
}

#if NT == 1
#define OLDEST (PENDING(0) -> 0 : NONE)
#elif NT == 2
#define OLDEST (PENDING(0) -> 0 : (PENDING(1) -> 1 : NONE))
#elif NT == 3
#define OLDEST (PENDING(0) -> 0 : (PENDING(1) -> 1 : (PENDING(2) -> 2 : NONE)))
#elif NT == 4
#define OLDEST (PENDING(0) -> 0 : (PENDING(1) -> 1 : (PENDING(2) -> 2 : (PENDING(3) -> 3 : NONE))))
#endif

proctype parent() {
    byte me = NW;
    byte p, seen, t;
    bit ok, some, total, last;
    byte future[NT], pos_of[NT], queue[NT], head, tail;
    byte outstanding, queued, next, cancels, awaited;
    bit closing;
    byte stage, w, noted = NONE, claimed = NONE, lost; /* of the recovery of w */
end:
    do
    /* the user */
    :: user == IDLE && next < NT && !closing -> submit()
#if CANCELS
    :: user == IDLE && cancels < CANCELS && PENDING(0) -> cancels++; cancel(0)
#if NT > 1
    :: user == IDLE && cancels < CANCELS && PENDING(1) -> cancels++; cancel(1)
#endif
#if NT > 2
    :: user == IDLE && cancels < CANCELS && PENDING(2) -> cancels++; cancel(2)
#endif
#endif
#if WATCH
    :: user == IDLE && PENDING(0) && !watched -> watched = 1; update_collect()
#endif
#if LEADS
    :: d_step { user == IDLE && OLDEST != NONE && (!TOGETHER || next == NT) -> user = UP; awaited = OLDEST + 1 }
#endif
    :: user == UP ->
       drain();
       if
       :: d_step { !PENDING(awaited - 1) -> user = IDLE; awaited = 0 }
       :: d_step { PENDING(awaited - 1) -> kick_leader = 0; user = SLEEPS }
       :: d_step { TIMEOUTS && PENDING(awaited - 1) -> user = IDLE; awaited = 0 }
       fi
    #if SHUTDOWN
    :: user == IDLE && next == NT && !closing ->
#else
    :: user == IDLE && next == NT && !closing && REST ->
#endif
        d_step { closing = 1; collect = 1 }
        kick_the_service()

    /* the collector */
    :: d_step { service == UP -> kick_service = 0 }
       drain();
       PUMP
       news = 0;
       if
       :: closing && outstanding + queued == 0 ->
            stop = 1;
#ifndef MUTANT_STOP_DOES_NOT_TOLL
            toll_all();
#endif
            service = GONE
       :: else -> service = SLEEPS
       fi

    /* the supervisor; the GIL may change hands between its calls into the core */
    :: d_step { stage == 0 && place[0] == DEAD -> w = 0; stage = (stop -> 4 : 1) }
#if NW > 1
    :: d_step { stage == 0 && place[1] == DEAD -> w = 1; stage = (stop -> 4 : 1) }
#endif
#if NW > 2
    :: d_step { stage == 0 && place[2] == DEAD -> w = 2; stage = (stop -> 4 : 1) }
#endif
    :: stage == 1 -> begin_recovery(); stage = 2
    :: stage == 2 -> fail(noted); fail(claimed); stage = 3
    :: stage == 3 -> resume_after_recovery(); stage = 4
    :: d_step { stage == 4 ->
           place[w] = (stop || (closing && outstanding + queued == 0) -> VACANT : RUNS);
           if :: w == 0 -> away = SLOW :: else fi;
           w = 0;
           stage = 0
       }

    :: d_step { REST && !ALL_IS_WELL -> check_promises() }
    od;
dead: /* the pool would end with it */
    skip
}

/* ---- the parent, without the GIL ---- */

proctype leader() {
end:
    do
    :: d_step { user == SLEEPS -> bell[RESULTS] = 1 }
       d_step {
           if
           :: !bell[RESULTS] || kick_leader || SOME_RESULT
           :: else -> in_kernel[RESULTS] = 1
           fi
       }
       if
       :: d_step { !in_kernel[RESULTS] -> bell[RESULTS] = 0; user = UP }
#if TIMEOUTS
       :: d_step { in_kernel[RESULTS] -> in_kernel[RESULTS] = 0; bell[RESULTS] = 0; user = UP }
#endif
       fi
    od
}

#ifdef MUTANT_SLEEPER_IS_CAUSE_ENOUGH
#define CAUSE_BY(w) (sleepers & BIT(w))
#else
#define CAUSE_BY(w) ((sleepers & BIT(w) || !(ready & BIT(w)) || waits_space[w]) && FULL(w))
#endif

proctype collector() {
    byte me = NW, p;
    bit ok;
end:
    do
    :: d_step { service == SLEEPS -> bell[SERVICE] = 1 }
#if NT > CAP
       if
       :: backlog -> try_reserve()
       :: !backlog
       fi;
#endif
       d_step {
           if
           :: ok || !bell[SERVICE] || kick_service || (collect && SOME_RESULT) || ANY_WORKER(CAUSE_BY)
           :: else -> in_kernel[SERVICE] = 1
           fi;
           ok = 0
       }
       d_step { !in_kernel[SERVICE] -> bell[SERVICE] = 0; service = UP }
    :: service == GONE -> break
    od;
dead:
    skip
}

init {
    atomic {
#define HIRE(w) run worker(w)
        EACH_WORKER(HIRE)
        run parent();
        run leader();
        run collector()
    }
}
