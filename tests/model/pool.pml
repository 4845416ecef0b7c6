/* pool.pml - the protocol of csrc/ and of the .pxi files that drive it, for spin to search exhaustively.
 *
 * Who runs here, and what each is in the code:
 *
 *   user          the user's thread: submit, cancel, result (the leader's sleep), add_done_callback, shutdown
 *   collector     Client.serve
 *   supervisor    Supervisor._watch, ._bury, ._replace
 *   worker w      Worker.run; after a death the same process of the model is the successor
 *   killer        ends any living worker between any two of its steps, DEATHS times at most
 *   monitor       says which promise is broken; takes no step otherwise
 *
 * One step of the model is one access to a word that another thread or process may look at meanwhile. What is private to
 * a thread, or cannot be seen before a later step publishes it (the bodies of slots and results), goes with that step.
 * Threads of the parent hold the GIL but where the code gives it up: in their sleeps, and the last looks before them.
 *
 * Assumed: sequential consistency. All decisions of the code that rest on two words are made by seq_cst operations
 * (announce / publish, see bell.h), so one order of all of them is what it has. Weaker accesses, and what stands for them:
 *   - acquire and release on slot words, seq and read_pos: a body is read whole or not at all
 *   - relaxed `current`: stored before the slot is freed, and read by the parent only when its writer is dead
 *   - relaxed rp_bell_cancel: seen late, it costs a wasted wake; here it is seen at once
 *   - relaxed read_pos in rp_ring_unread, claim_pos in rp_pool_take, the parent's own words: figures and hints
 * ThreadSanitizer (test_native.py) is what looks after these.
 *
 * Left out: spins and naps (a look that finds something before a sleep is a choice here), time-outs and signals in workers,
 * memory blocks and the waits for them, functions, the ring of the collector for a ring half full and for every 64th
 * result (help that nothing may rely on), the drain at every 32nd submit, the initializer, breaking pools, several threads
 * in result(), growing pools; free-threaded builds, where a lock of Cython's stands for the GIL.
 *
 * Constants, all by -D: NW workers, NT tasks, CAP slots of the board (at least NW: that each worker's task has had a slot
 * is why a task that waits in the queue for one is always moved up), RING slots of a result ring, DEATHS, CANCELS,
 * LAST tasks after which a worker retires (0: never), WATCH 1: the first task may be given a callback, TOGETHER 1: no task
 * ends before every other has begun (or is settled), so that all must be given to workers at once, TIMEOUTS 1: result()
 * may give up.
 *
 * Promises, each a name that an assertion bears, and mutants (-DMUTANT_...), each of which breaks the promise that
 * tests/test_model.py says it does. */

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
#ifndef TIMEOUTS
#define TIMEOUTS 0
#endif
#ifndef WATCH
#define WATCH 0
#endif
#ifndef TOGETHER
#define TOGETHER 0
#endif

/* ---- the promises ---- */

/* Never set: an assertion that fails prints the name. */
hidden byte settled_once, cancelled_never_runs, runs_on_one_worker, only_the_held_task_fails, one_task_a_death,
    what_was_answered_never_fails, no_sleeper_left_with_work, no_queue_left_behind, no_result_left_unread,
    no_room_left_unnoticed, no_leader_left_asleep, no_watcher_left_untold, no_task_lost, the_pool_ends;

#define REQUIRE(name, condition) if :: (condition) :: else -> assert(name) fi

/* ---- the segment ---- */

/* A slot's word: lap, owner, state, in an order that can be compared. */
#define FREE(pos) ((pos) / CAP * 16)
#define READY(pos) ((pos) / CAP * 16 + 1)
#define CLAIMED(pos, w) ((pos) / CAP * 16 + ((w) + 1) * 4 + 2)
#define STATE(word) ((word) % 4)
#define OWNER(word) ((word) % 16 / 4)

#define BIT(w) (1 << (w))
#define NEVER 255

#define RESULTS NW        /* the bells: a worker's own, then these two */
#define SERVICE (NW + 1)
#define N_BELLS (NW + 2)

byte slot[CAP], body[CAP];
byte claim_pos;
byte seq[NW * RING], answer[NW * RING], read_pos[NW];
byte current[NW];         /* task + 1 */
bit waits_space[NW];
byte sleepers, ready;     /* masks */
byte waking;
bit stop, collect;
byte refill_pos = NEVER;
bit bell[N_BELLS];        /* 1: RP_ASLEEP */
bit in_kernel[N_BELLS];   /* its sleeper sleeps in the futex call */

/* ---- the parent's memory ---- */

#define NEW 0             /* of a future, in the order in which they come */
#define QUEUED 1
#define POSTED 2          /* on the board, or with a worker */
#define ANSWERED 3
#define CANCELLED 4
#define DIED 5
#define PENDING(t) (future[t] == QUEUED || future[t] == POSTED)

bit gil;
byte future[NT], pos_of[NT];
byte write_pos;
byte next_read[NW];       /* rp_ring.read_pos */
byte outstanding, queued;
bit in_queue[NT];         /* a cancelled future leaves the queue in spirit */
bit backlog, kick_leader, kick_service, closing;
byte awaited;             /* task + 1 for which a thread is in result() */
bit watched, news, told;  /* of task 0 */
bit user_idle = 1, collector_done;

#define VACANT 0          /* of a worker's place: its process has ended and no other is to start */
#define RUNNING 1
#define DEAD 2
byte process[NW];

/* ---- what only the model knows ---- */

bit has_run[NT], was_answered[NT];
byte held_by[NT];         /* worker + 1, from its claim to its answer */
byte deaths, lost, cancels;
bit in_task[NW];          /* runs a task that waits for others to begin */

#define BEGUN(t) (has_run[t] || future[t] > POSTED)
#if TOGETHER == 0
#define ALL_BEGUN 1
#elif NT == 2
#define ALL_BEGUN (BEGUN(0) && BEGUN(1))
#elif NT == 3
#define ALL_BEGUN (BEGUN(0) && BEGUN(1) && BEGUN(2))
#endif

/* ---- bell.h ---- */

/* One compare-and-swap: a look that finds AWAKE is one that fails. Then the system call. */
inline ring(b) {
    if
    :: d_step { bell[b] -> bell[b] = 0 }
       in_kernel[b] = 0
    :: else
    fi
}

inline sleep(b) {
    d_step { if :: bell[b] -> in_kernel[b] = 1 :: else fi }
    !in_kernel[b];
    bell[b] = 0
}

inline toll(b) {
    bell[b] = 0;
    in_kernel[b] = 0
}

/* ---- board.c ---- */

/* Each uses the byte variables p (position) and the bit variable ok of the process that calls it. */
inline first() {
    p = claim_pos;
    do
    :: d_step { slot[p % CAP] == READY(p) -> ok = 1 }
       break
    :: slot[p % CAP] <= FREE(p) -> break
    :: else ->
        d_step {
            if
            :: claim_pos == p -> p++; claim_pos = p
            :: else -> p = claim_pos
            fi
        }
    od
}

/* At the end ok says whether there is a READY slot. */
inline board_ready() {
    ok = 0;
    first();
    p = 0
}

/* ok: the slot at write_pos is free. */
inline try_reserve() {
    if
    :: slot[write_pos % CAP] == FREE(write_pos) ->
        if
        :: d_step { write_pos - claim_pos < CAP -> ok = 1 }
        :: else ->
            first();
            p = 0;
            ok = (write_pos - claim_pos < CAP)
        fi
    :: else -> ok = 0
    fi
}

/* ---- pool.c, both sides ---- */

#define LOWEST(mask) ((mask) & 1 -> 0 : ((mask) & 2 -> 1 : 2))
#define COUNT(mask) (((mask) & 1) + ((mask) >> 1 & 1) + ((mask) >> 2 & 1))

/* Each uses the byte variable who of its process. */
inline rouse_one() {
    do
    :: d_step { sleepers != 0 -> who = LOWEST(sleepers) }
       if
       :: d_step { waking == 0 -> waking = who + 1 }
          if
          :: d_step { sleepers & BIT(who) -> sleepers = sleepers & ~BIT(who) }
             ring(who);
             break
          :: else -> waking = 0
          fi
       :: else -> break
       fi
    :: else -> break
    od;
    who = 0
}

inline rouse() {
    if
    :: sleepers != 0 ->
#ifdef SLEEPERS_FIRST /* C leaves it open which of the two words is read first */
        who = sleepers;
        d_step { ok = (outstanding > COUNT(ready & ~who)); who = 0 }
#else
        who = ready;
        d_step { ok = (outstanding > COUNT(who & ~sleepers)); who = 0 }
#endif
        if
        :: ok -> ok = 0; rouse_one()
        :: else
        fi
    :: else
    fi
}

inline rouse_if_work_waits() {
    if
    :: sleepers != 0 ->
        board_ready();
        if
        :: ok -> ok = 0; rouse_one()
        :: else
        fi
    :: else
    fi
}

/* ---- the worker ---- */

inline came_round() {
    if
    :: woken ->
        d_step { woken = 0; waking = 0 }
#ifndef MUTANT_NO_CHAIN
        rouse_if_work_waits()
#endif
    :: else
    fi
}

/* ok: a task has been claimed, at position p. */
inline try_claim() {
    do
    :: ok = 0;
       first();
       if
       :: !ok -> p = 0; break
       :: else ->
#ifdef MUTANT_CLAIM_STORES
            if
            :: slot[p % CAP] == READY(p) ->
                d_step { slot[p % CAP] = CLAIMED(p, me); held_by[body[p % CAP]] = me + 1 }
#else
            if
            :: d_step { slot[p % CAP] == READY(p) -> slot[p % CAP] = CLAIMED(p, me); held_by[body[p % CAP]] = me + 1 }
#endif
               d_step { if :: claim_pos == p -> claim_pos = p + 1 :: else fi }
               break
            :: else
            fi
       fi
    od
}

inline take() {
#ifdef MUTANT_TAKE_FREES_FIRST
    slot[p % CAP] = FREE(p + CAP);
    current[me] = t + 1;
#elif defined(MUTANT_COPY_AFTER_FREEING)
    current[me] = body[p % CAP] + 1;
    slot[p % CAP] = FREE(p + CAP);
    t = body[p % CAP];
#else
    current[me] = t + 1;
    slot[p % CAP] = FREE(p + CAP);
#endif
    p = 0;
    if
    :: refill_pos != NEVER ->
        if
        :: claim_pos >= refill_pos -> ring(SERVICE)
        :: else
        fi
    :: else
    fi
}

inline run_task() {
    d_step {
        REQUIRE(cancelled_never_runs, future[t] != CANCELLED);
        REQUIRE(runs_on_one_worker, !has_run[t]);
        has_run[t] = 1;
        in_task[me] = TOGETHER
    }
    d_step { ALL_BEGUN -> in_task[me] = 0 }
}

/* ok: there is room in this worker's ring. */
inline try_result() {
    if
    :: d_step { answers == space ->
           if
           :: answers - read_pos[me] < RING -> space = read_pos[me] + RING; ok = 1
           :: else -> ok = 0
           fi
       }
    :: else -> ok = 1
    fi
}

inline reserve_result() {
    do
    :: try_result();
       if
       :: ok -> ok = 0; break
       :: else ->
            waits_space[me] = 1;
            bell[me] = 1;
            ring(SERVICE);
            try_result();
            if
            :: ok -> bell[me] = 0
            :: else -> sleep(me)
            fi;
            d_step { ok = 0; waits_space[me] = 0 }
       fi
    od
}

inline publish_result() {
#ifdef MUTANT_PUBLISH_FORGETS_FIRST
    current[me] = 0;
#endif
    d_step {
        seq[me * RING + answers % RING] = answers + 1;
        answer[me * RING + answers % RING] = t;
        answers++;
        held_by[t] = 0;
        was_answered[t] = 1;
        t = 0
    }
    current[me] = 0;
    if
    :: d_step { bell[RESULTS] -> bell[RESULTS] = 0 }
       in_kernel[RESULTS] = 0
    :: else ->
        if
        :: collect -> ring(SERVICE)
        :: else
        fi
    fi
}

inline lie_down() {
    came_round();
    bell[me] = 1;
    sleepers = sleepers | BIT(me);
#ifndef MUTANT_UNREAD_RINGS_NOBODY
    if
    :: answers != read_pos[me] -> ring(SERVICE)
    :: else
    fi;
#endif
#ifdef MUTANT_NO_LAST_LOOK
    ok = 0;
#else
    board_ready();
#endif
    if
    :: ok -> d_step { ok = 0; bell[me] = 0 }
    :: else ->
        if
        :: stop -> bell[me] = 0
        :: else -> sleep(me)
        fi
    fi;
    if
    :: d_step { sleepers & BIT(me) -> sleepers = sleepers & ~BIT(me) }
    :: else -> woken = (waking == me + 1)
    fi
}

#define FORGET p = 0; who = 0; t = 0; answers = 0; space = 0; left = 0; ok = 0; woken = 0
#define SOME_READY (STATE(slot[0]) == 1 || STATE(slot[CAP - 1]) == 1)

proctype worker(byte me) {
    byte p, who, t, answers, space, left;
    bit ok, woken;
    do
    :: d_step { process[me] == RUNNING -> space = RING; left = LAST }
    {
        ready = ready | BIT(me);
        do
        :: try_claim();
           if
           :: ok ->
                ok = 0;
                came_round();
                t = body[p % CAP];
                take();
                run_task();
                reserve_result();
                publish_result();
                if
                :: left == 1 -> left = 0; break
                :: left > 1 -> left--
                :: left == 0
                fi
           :: else ->
                if
                :: stop -> break
                :: !stop && SOME_READY /* found while it spun */
                :: !stop ->
                    lie_down();
                    if
                    :: stop -> break
                    :: else
                    fi
                fi
           fi
        od;
        ready = ready & ~BIT(me);
        came_round();
#ifndef MUTANT_LEAVE_ROUSES_NOBODY
        rouse_if_work_waits();
#endif
        d_step { process[me] = DEAD; FORGET }
    } unless {
        d_step { process[me] == DEAD -> FORGET }
    };
    :: process[me] == VACANT -> break
    od
}

#define KILL process[w] = DEAD; in_kernel[w] = 0; in_task[w] = 0; deaths++; w = 0

proctype killer() {
    byte w;
end:
    do
    :: d_step { deaths < DEATHS && process[0] == RUNNING -> w = 0; KILL }
    :: d_step { deaths < DEATHS && process[1] == RUNNING -> w = 1; KILL }
    od
}

/* ---- the parent, with the GIL held ---- */

inline kick_the_leader() {
    kick_leader = 1;
    ring(RESULTS)
}

inline kick_the_service() {
    kick_service = 1;
    ring(SERVICE)
}

inline update_collect() {
    if
    :: collect != (watched || closing) ->
        collect = 1 - collect;
#ifndef MUTANT_COLLECT_LOOKS_NOT
        if
        :: collect -> kick_the_service()
        :: else
        fi
#endif
    :: else
    fi
}

/* Client.finish, or what try_cancel does instead: a pending future comes to its end. */
inline settle(f, how) {
    d_step {
        REQUIRE(settled_once, PENDING(f));
        if
        :: future[f] == QUEUED -> queued--
        :: else -> outstanding--
        fi;
        future[f] = how
    }
    if
    :: f == 0 && watched ->
        d_step { watched = 0; if :: how == CANCELLED -> told = 1 :: else -> news = 1 fi }
        update_collect();
        if
        :: how != CANCELLED -> kick_the_service() /* a cancelled future's callbacks run in the thread that cancels */
        :: else
        fi
    :: else
    fi;
    if
    :: closing && outstanding + queued == 0 -> kick_the_service()
    :: else
    fi;
#ifndef MUTANT_LEADER_IS_NOT_KICKED
    if
    :: awaited == f + 1 -> kick_the_leader()
    :: else
    fi
#endif
}

#define FULL(w) (seq[(w) * RING + next_read[w] % RING] == next_read[w] + 1)

inline drain_worker(w) {
    do
    :: d_step { FULL(w) -> t = answer[(w) * RING + next_read[w] % RING]; next_read[w]++; some = 1; total = 1 }
       settle(t, ANSWERED);
       t = 0
    :: else -> break
    od;
    if
    :: some ->
        d_step { read_pos[w] = next_read[w]; some = 0 }
#ifndef MUTANT_COMMIT_RINGS_NOBODY
        if
        :: waits_space[w] -> ring(w)
        :: else
        fi
#endif
    :: else
    fi
}

#if NT > CAP
#define PUMP pump();
#else
#define PUMP /* there is always room */
#endif

inline drain() {
    drain_worker(0);
    drain_worker(1);
#if NW == 3
    drain_worker(2);
#endif
    if
    :: total -> total = 0; PUMP
    :: else
    fi
}

/* Into the slot that try_reserve has found. */
inline publish(f) {
#ifdef MUTANT_ROUSE_BEFORE_PUBLISHING
    outstanding++;
    rouse();
    outstanding--;
#endif
    d_step {
        if :: future[f] == QUEUED -> queued-- :: else fi;
        outstanding++;
        future[f] = POSTED;
        pos_of[f] = write_pos;
        body[write_pos % CAP] = f;
        slot[write_pos % CAP] = READY(write_pos);
        write_pos++
    }
#ifndef MUTANT_ROUSE_BEFORE_PUBLISHING
    rouse()
#endif
}

#if NT == 2
#define IN_QUEUE (in_queue[0] || in_queue[1])
#define HEAD (in_queue[0] -> 0 : 1)
#elif NT == 3
#define IN_QUEUE (in_queue[0] || in_queue[1] || in_queue[2])
#define HEAD (in_queue[0] -> 0 : (in_queue[1] -> 1 : 2))
#elif NT == 4
#define IN_QUEUE (in_queue[0] || in_queue[1] || in_queue[2] || in_queue[3])
#define HEAD (in_queue[0] -> 0 : (in_queue[1] -> 1 : (in_queue[2] -> 2 : 3)))
#endif

inline pump() {
    do
    :: IN_QUEUE ->
        t = HEAD;
        if
        :: future[t] == QUEUED ->
            try_reserve();
            if
            :: ok -> ok = 0; publish(t)
            :: else ->
                d_step { backlog = 1; refill_pos = (write_pos > CAP / 2 -> write_pos - CAP / 2 : 0); t = 0 }
                break
            fi
        :: else
        fi;
        d_step { in_queue[t] = 0; t = 0 }
    :: else ->
        if
        :: backlog -> d_step { backlog = 0; refill_pos = NEVER }
        :: else
        fi;
        break
    od
}

/* ---- the user's thread ---- */

#define TAKE_GIL !gil -> gil = 1
#if NW == 2
#define SOME_RESULT (FULL(0) || FULL(1))
#else
#define SOME_RESULT (FULL(0) || FULL(1) || FULL(2))
#endif

#if NT == 2
#define OLDEST (PENDING(0) -> 0 : (PENDING(1) -> 1 : NT))
#elif NT == 3
#define OLDEST (PENDING(0) -> 0 : (PENDING(1) -> 1 : (PENDING(2) -> 2 : NT)))
#elif NT == 4
#define OLDEST (PENDING(0) -> 0 : (PENDING(1) -> 1 : (PENDING(2) -> 2 : (PENDING(3) -> 3 : NT))))
#endif

inline submit() {
    if
    :: queued == 0 -> try_reserve()
    :: else
    fi;
    if
    :: ok -> ok = 0; publish(next)
    :: else ->
        d_step { future[next] = QUEUED; in_queue[next] = 1; queued++ }
        PUMP
    fi;
    next++
}

inline cancel(f) {
    if
    :: future[f] == QUEUED -> settle(f, CANCELLED)
    :: future[f] == POSTED ->
#ifdef MUTANT_CANCEL_STORES
        if
        :: slot[pos_of[f] % CAP] == READY(pos_of[f]) ->
            slot[pos_of[f] % CAP] = FREE(pos_of[f] + CAP);
#else
        if
        :: d_step { slot[pos_of[f] % CAP] == READY(pos_of[f]) -> slot[pos_of[f] % CAP] = FREE(pos_of[f] + CAP) }
#endif
            settle(f, CANCELLED)
        :: else
        fi
    fi
}

/* The nogil part of the leader's wait: announces, looks, sleeps. */
inline wait_results() {
    bell[RESULTS] = 1;
    if
    :: kick_leader -> bell[RESULTS] = 0
    :: else ->
        if
        :: FULL(0) -> bell[RESULTS] = 0
        :: else ->
            if
            :: FULL(1) -> bell[RESULTS] = 0
            :: else ->
                d_step { if :: bell[RESULTS] -> in_kernel[RESULTS] = 1 :: else fi }
                if
                :: !in_kernel[RESULTS]
                :: TIMEOUTS -> in_kernel[RESULTS] = 0
                fi;
                bell[RESULTS] = 0
            fi
        fi
    fi
}

proctype user() {
    byte p, who, t, next, f;
    bit ok, some, total;
end_idle:
    do
    :: atomic { next < NT && !closing && TAKE_GIL; user_idle = 0 }
       submit();
       d_step { gil = 0; user_idle = 1 }
    :: atomic { next > 0 && cancels < CANCELS && TAKE_GIL; user_idle = 0; cancels++;
           if
           :: PENDING(0) -> f = 0
           :: PENDING(1) -> f = 1
#if NT > 2
           :: PENDING(2) -> f = 2
#endif
           :: else -> f = NT
           fi }
       if
       :: f < NT -> cancel(f)
       :: else
       fi;
       d_step { f = 0; gil = 0; user_idle = 1 }
#if WATCH
    :: atomic { PENDING(0) && !watched && TAKE_GIL; user_idle = 0 }
       watched = 1;
       update_collect();
       d_step { gil = 0; user_idle = 1 }
#endif
    :: atomic { (!TOGETHER || next == NT) && OLDEST != NT && TAKE_GIL; user_idle = 0; f = OLDEST }
       do
       :: d_step { awaited = f + 1; kick_leader = 0 }
          drain();
          if
          :: !PENDING(f) -> break
          :: TIMEOUTS -> break /* the time is up */
          :: PENDING(f) -> gil = 0
          fi;
          if
          :: SOME_RESULT || kick_leader /* found while it spun */
          :: wait_results()
          fi;
          atomic { TAKE_GIL }
       od;
       atomic { awaited = 0; f = 0; gil = 0; user_idle = 1 }
    :: atomic { next == NT && !closing && TAKE_GIL; user_idle = 0; closing = 1 }
       update_collect();
       kick_the_service();
       d_step { gil = 0; user_idle = 1 }
    od
}

/* ---- the collector ---- */

/* The nogil part of its wait. ok: it has cause to get up. */
inline service_has_cause_of(w) {
    if
    :: !ok && sleepers & BIT(w) -> ok = FULL(w)
    :: else
    fi;
    if
    :: !ok && waits_space[w] -> ok = FULL(w)
    :: else
    fi
}

inline wait_service() {
    bell[SERVICE] = 1;
    ok = kick_service;
    if
    :: !ok && collect -> ok = SOME_RESULT
    :: else
    fi;
#if NT > CAP
    if
    :: !ok && backlog -> try_reserve()
    :: else
    fi;
#endif
    service_has_cause_of(0);
    service_has_cause_of(1);
#if NW == 3
    service_has_cause_of(2);
#endif
    if
    :: ok -> d_step { ok = 0; bell[SERVICE] = 0 }
    :: else -> sleep(SERVICE)
    fi
}

proctype collector() {
    byte p, who, t;
    bit ok, some, total;
    do
    :: atomic { TAKE_GIL; kick_service = 0 }
       drain();
       PUMP
       d_step { if :: news -> news = 0; told = 1 :: else fi }
       if
       :: closing && outstanding + queued == 0 ->
            stop = 1;
#ifndef MUTANT_STOP_TOLLS_NOBODY
            toll(0);
            toll(1);
#if NW == 3
            toll(2);
#endif
            toll(RESULTS);
            toll(SERVICE);
#endif
            break
       :: else -> gil = 0
       fi;
       wait_service()
    od;
    atomic { collector_done = 1; gil = 0 }
}

/* ---- the supervisor ---- */

/* One of the tasks that the dead worker may have held: task + 1, or NONE. */
#define NONE (NT + 1)

inline mourn(id) {
    if
#ifdef MUTANT_MOURN_WITHOUT_LOOKING
    :: id != NONE ->
#else
    :: id != NONE && PENDING(id - 1) ->
#endif
        d_step {
            lost++;
            REQUIRE(one_task_a_death, lost <= deaths);
            REQUIRE(what_was_answered_never_fails, !was_answered[id - 1]);
            REQUIRE(only_the_held_task_fails, held_by[id - 1] == w + 1);
            held_by[id - 1] = 0
        }
        settle((id - 1), DIED)
    :: else
    fi;
    id = NONE
}

inline recover_slot(i) {
    if
    :: d_step { STATE(slot[i]) == 2 && OWNER(slot[i]) == w + 1 ->
           claimed = body[i] + 1;
           slot[i] = slot[i] / 16 * 16 + 16
       }
    :: else
    fi
}

inline recover() {
    d_step { noted = (current[w] != 0 -> current[w] : NONE); claimed = NONE }
    recover_slot(0);
    recover_slot(1);
#if CAP == 3
    recover_slot(2);
#endif
    ready = ready & ~BIT(w);
    sleepers = sleepers & ~BIT(w);
    d_step { current[w] = 0; waits_space[w] = 0 }
    bell[w] = 0;
    d_step {
        next_read[w] = 0;
        read_pos[w] = 0;
        seq[w * RING] = 0;
        seq[w * RING + RING - 1] = 0
    }
}

/* The GIL may change hands between the calls into the core. */
inline bury() {
    atomic { TAKE_GIL }
    if
    :: stop -> d_step { process[w] = VACANT; gil = 0 } /* it left as it was told */
    :: else ->
#ifdef MUTANT_RECOVER_BEFORE_READING
        recover();
        drain_worker(w);
#else
        drain_worker(w);
        recover();
#endif
        d_step {
            total = 0;
#ifndef MUTANT_MOURN_WITHOUT_LOOKING
            if :: noted != NONE && !PENDING(noted - 1) -> noted = NONE :: else fi;
            if :: claimed != NONE && !PENDING(claimed - 1) -> claimed = NONE :: else fi;
#endif
            gil = 0
        }
        atomic { TAKE_GIL }
        mourn(noted);
        mourn(claimed);
        gil = 0;
        atomic { TAKE_GIL }
        PUMP
#ifndef MUTANT_WAKING_IS_LEFT
        waking = 0;
#endif
#ifndef MUTANT_DEATH_TOLLS_NOBODY
        toll(0);
        toll(1);
#if NW == 3
        toll(2);
#endif
        toll(RESULTS);
        toll(SERVICE);
#endif
        rouse();
        gil = 0;
        d_step { !gil -> process[w] = (stop || (closing && outstanding + queued == 0) -> VACANT : RUNNING) }
    fi;
    w = 0
}

proctype supervisor() {
    byte p, who, t, w, noted = NONE, claimed = NONE;
    bit ok, some, total;
end_waiting:
    do
    :: d_step { process[0] == DEAD -> w = 0 }
       bury()
    :: d_step { process[1] == DEAD -> w = 1 }
       bury()
#if NW == 3
    :: d_step { process[2] == DEAD -> w = 2 }
       bury()
#endif
    od
}

/* ---- the promises that are about rest ---- */

#define RESTS(w) (process[w] == VACANT || (process[w] == RUNNING && (in_kernel[w] || (in_task[w] && !ALL_BEGUN))))
#define WAITS_FOR_ROOM(w) (process[w] == RUNNING && waits_space[w])
#if NW == 2
#define ALL_REST (RESTS(0) && RESTS(1))
#define SOME_WAITS_FOR_ROOM (WAITS_FOR_ROOM(0) || WAITS_FOR_ROOM(1))
#define ALL_GONE (process[0] == VACANT && process[1] == VACANT)
#else
#define ALL_REST (RESTS(0) && RESTS(1) && RESTS(2))
#define SOME_WAITS_FOR_ROOM (WAITS_FOR_ROOM(0) || WAITS_FOR_ROOM(1) || WAITS_FOR_ROOM(2))
#define ALL_GONE (process[0] == VACANT && process[1] == VACANT && process[2] == VACANT)
#endif

/* Nobody will move any more, unless the user does something new or another worker dies. */
#define REST (!gil && (user_idle || in_kernel[RESULTS]) && (in_kernel[SERVICE] || collector_done) && ALL_REST)
#define NOTHING_IS_LEFT (!SOME_READY && !queued && !SOME_RESULT && !SOME_WAITS_FOR_ROOM && !in_kernel[RESULTS] && !news && \
                         outstanding == 0 && (!closing || (collector_done && ALL_GONE)))

proctype monitor() {
end:
    d_step {
        REST && !NOTHING_IS_LEFT ->
        REQUIRE(no_sleeper_left_with_work, !SOME_READY);
        REQUIRE(no_queue_left_behind, !queued);
        REQUIRE(no_leader_left_asleep, !in_kernel[RESULTS] || PENDING(awaited - 1));
        REQUIRE(no_room_left_unnoticed, !SOME_WAITS_FOR_ROOM || SOME_RESULT);
        REQUIRE(no_result_left_unread, !SOME_RESULT);
        REQUIRE(no_watcher_left_untold, !news);
        REQUIRE(no_task_lost, outstanding == 0);
        assert(the_pool_ends)
    }
}

init {
    atomic {
        process[0] = RUNNING;
        process[1] = RUNNING;
        run worker(0);
        run worker(1);
#if NW == 3
        process[2] = RUNNING;
        run worker(2);
#endif
        run user();
        run collector();
        run supervisor();
        run monitor();
#if DEATHS
        run killer()
#endif
    }
}
