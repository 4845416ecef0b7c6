/* chunk.pml - the items of a batch: claimed one by one, taken away, cancelled, and what is true of them when a worker dies.
 *
 * The processes of the model, and what each is in the code:
 *
 *   worker(w)    ChunkRunner.run with rp_pool_begin_chunk, rp_pool_claim_item, the tray and its publication. It may
 *                die before any of its steps; the same process of the model is then its successor.
 *   parent       Chunks.on_partial_result, .rebalance, .try_cancel_item and .steal_tail with rp_pool_cut_chunk; Recovery.begin
 *                with Chunks.recover_chunk.
 *
 * A step is one access to a word that others may look at meanwhile. The board is that of pool.pml, where it is proved: here
 * a slot is claimed, taken back and freed in a step, and no process sleeps. The same goes for the result rings. A result that
 * is too large for its tray, and a task that is to end though it runs, are left out.
 *
 * Constants, by -D: NW workers, NI items, CHUNKS that they are sent in, STEALS, CANCELS, DEATHS.
 *
 * Each promise has a name, which its assertion prints. For each there is a mutant, -DMUTANT_..., that breaks it;
 * test_model.py holds the table. */

#ifndef NW
#define NW 2
#endif
#ifndef NI
#define NI 3
#endif
#ifndef CHUNKS
#define CHUNKS 1
#endif
#ifndef STEALS
#define STEALS 0
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#define NT (CHUNKS + STEALS + CANCELS + DEATHS) /* tasks: each of these may make one */

/* ---- the promises ---- */

/* These are never set: `assert(name)` fails. At each step: */
hidden byte runs_once, item_settled_once, cancelled_item_never_runs, result_at_its_place, a_death_costs_one_item,
    what_was_done_is_not_lost, the_account_is_right;
/* When no process will move any more: */
hidden byte no_item_lost;

#define REQUIRE(name, condition) if :: (condition) :: else -> assert(name) fi

/* ---- what all see ---- */

#define NONE 255
#define BEFOREHAND 254

byte slot[NT];    /* of the board, for each task */
byte owner[NT];
byte start[NT];   /* the payload: the item that it begins with, how many, and which of them are wanted; */
byte size[NT];    /* written before the slot is ready, read before it is freed */
byte wanted[NT];
#define ABSENT 0
#define READY 1
#define CLAIMED 2
#define FREED 3

byte current[NW] = NONE;
byte chunk[NW] = NONE;
byte count[NW];   /* these three are one word, `range` */
byte next[NW];    /* BEFOREHAND: the next chunk ends at `end` */
byte end[NW];
byte first[NW];   /* the tray */
byte used[NW];
byte held[NW * NI];

chan ring[NW] = [NI + NT] of { bit, byte, byte, byte }; /* last, task, first item, items */

bit dead[NW];
byte deaths;
bit stopped;

/* ---- what is true of the items ---- */

#define PENDING 0
#define RESULT 1
#define LOST 2
#define CANCELLED 3
byte ended[NI];
bit begun[NI];
bit done[NI];     /* its result counts */
byte lost;

#define IS_READY(t) ((t) < NT && slot[(t) % NT] == READY)
#define STEP(w) if :: atomic { deaths < DEATHS -> deaths++ }; goto dies :: skip fi

/* ---- a worker ---- */

proctype worker(byte w)
{
    byte t, from, n, item, mask, k;
    byte my_first, my_used;
again:
    do
    :: stopped -> goto out
    :: atomic {
        IS_READY(0) || IS_READY(1) || IS_READY(2) || IS_READY(3) || IS_READY(4) || IS_READY(5) ->
        t = 0;
        do
        :: slot[t] != READY -> t++
        :: else -> break
        od;
        slot[t] = CLAIMED;
        owner[t] = w;
       }
       STEP(w);
       current[w] = t;
       STEP(w);
       d_step { from = start[t]; n = size[t]; mask = wanted[t]; slot[t] = FREED }
       STEP(w);
#ifndef MUTANT_CHUNK_STAYS
       chunk[w] = NONE;
       STEP(w);
#endif
#ifdef MUTANT_OPENED_BY_A_STORE
       if
       :: next[w] == BEFOREHAND && end[w] < n -> n = end[w]
       :: else
       fi;
       STEP(w);
#endif
       d_step {
#ifndef MUTANT_CHUNKS_ARE_NOT_COUNTED
        count[w] = (count[w] + 1) % 4;
#endif
#ifndef MUTANT_OPENED_BY_A_STORE
        if
        :: next[w] == BEFOREHAND && end[w] < n -> n = end[w]
        :: else
        fi;
#endif
        next[w] = 0; end[w] = n
       }
       STEP(w);
       chunk[w] = t;
       my_first = 0;
       my_used = 0;
       STEP(w);
       used[w] = 0;
       STEP(w);
       first[w] = 0;
       do
       :: STEP(w);
#ifdef MUTANT_CLAIM_STORES
          item = next[w];
          if
          :: item >= end[w] -> break
          :: else
          fi;
          next[w] = item + 1;
#else
          atomic {
            if
            :: next[w] < end[w] -> item = next[w]; next[w] = item + 1
            :: else -> break
            fi
          }
#endif
          STEP(w);
          if
          :: mask & (1 << (from + item)) ->
            atomic {
                REQUIRE(cancelled_item_never_runs, ended[from + item] != CANCELLED);
                REQUIRE(runs_once, !begun[from + item]);
                begun[from + item] = 1
            }
          :: else
          fi;
          STEP(w);
#ifdef MUTANT_COUNTED_BEFORE_IT_IS_THERE
          used[w] = my_used + 1;
          STEP(w);
          held[w * NI + my_used] = from + item;
#else
          held[w * NI + my_used] = from + item;
          STEP(w);
          atomic { used[w] = my_used + 1; done[from + item] = 1 }
#endif
          my_used++;
          if
          :: STEP(w); /* it has been long enough */
             ring[w]!0, t, my_first, my_used;
             my_first = my_first + my_used;
             my_used = 0;
             STEP(w);
#ifdef MUTANT_NEW_TRAY_KEEPS_ITS_COUNT
             first[w] = my_first;
             STEP(w);
             used[w] = 0;
#else
             used[w] = 0;
             STEP(w);
             first[w] = my_first;
#endif
          :: skip
          fi
       od;
       STEP(w);
       ring[w]!1, t, my_first, my_used;
       STEP(w);
       current[w] = NONE;
       STEP(w);
       used[w] = 0;
       STEP(w);
       first[w] = my_first + my_used
    od;
dies:
    dead[w] = 1;
    !dead[w] || stopped;
    goto again;
out:
    skip
}

/* ---- the parent ---- */

bit alive[NT];    /* in its table: the chunk whose task it is */
byte origin[NT];  /* the item that its payload began with */
byte base[NT];    /* of these, those before it have been split off */
byte left[NT];    /* items */
byte tasks;
byte steals, cancels;

inline settle(i, how)
{
    REQUIRE(item_settled_once, ended[i] == PENDING || (ended[i] == CANCELLED && how == RESULT));
    if
    :: ended[i] == PENDING -> ended[i] = how
    :: else
    fi
}

inline send(r) /* what has not been cancelled of it */
{
    d_step {
        alive[r] = 1;
        origin[r] = origin[r] + base[r];
        base[r] = 0;
        start[r] = origin[r];
        size[r] = left[r];
        wanted[r] = 0;
        j = 0;
        do
        :: j < NI -> wanted[r] = wanted[r] | ((ended[j] == PENDING) << j); j++
        :: else -> break
        od;
        j = 0;
        slot[r] = READY
    }
}

inline settle_results(r, k) /* of its first k items; they have been */
{
    j = 0;
    do
    :: j < k ->
       settle(origin[r] + base[r] + j, RESULT);
       j++
    :: else -> break
    od;
    base[r] = base[r] + k;
    left[r] = left[r] - k;
    j = 0
}

inline take_part(w)
{
    atomic {
        ring[w]?last, t, at, k;
        REQUIRE(the_account_is_right, alive[t] && at == base[t] && k <= left[t] && (!last || k == left[t]));
        settle_results(t, k);
        alive[t] = !last;
        last = 0; t = 0; at = 0; k = 0
    }
}

inline salvage(w, r)
{
    atomic {
        if
#ifndef MUTANT_TRAY_IS_FORGOTTEN
        :: chunk[w] == r && first[w] == base[r] ->
           k = (used[w] < left[r] -> used[w] : left[r]);
           j = 0;
           do
           :: j < k -> REQUIRE(result_at_its_place, held[w * NI + j] == origin[r] + base[r] + j); j++
           :: else -> break
           od;
           settle_results(r, k);
           k = 0
#endif
        :: else
        fi;
        if
        :: left[r] == 0 -> alive[r] = 0
        :: left[r] > 0 && chunk[w] == r && next[w] <= base[r] -> send(r)
        :: left[r] > 0 && !(chunk[w] == r && next[w] <= base[r]) ->
           lost++;
#ifdef MUTANT_ALL_PAY
           lost = lost + left[r] - 1;
           left[r] = 1;
#endif
           REQUIRE(a_death_costs_one_item, lost <= deaths);
           REQUIRE(what_was_done_is_not_lost, !done[origin[r] + base[r]]);
           if
           :: ended[origin[r] + base[r]] != CANCELLED -> settle(origin[r] + base[r], LOST)
           :: else
           fi;
           alive[r] = 0;
           if
           :: left[r] > 1 ->
              origin[tasks] = origin[r] + base[r] + 1;
              base[tasks] = 0;
              left[tasks] = left[r] - 1;
              tasks++;
              send(tasks - 1)
           :: else
           fi
        fi
    }
}

inline recover_worker(w)
{
    atomic {
#ifndef MUTANT_RECOVERY_DOES_NOT_READ
        do
        :: len(ring[w]) > 0 -> take_part(w)
        :: else -> break
        od;
#else
        do
        :: len(ring[w]) > 0 -> ring[w]?last, t, at, k
        :: else -> break
        od;
#endif
        t = NONE;
        if
        :: chunk[w] != NONE && alive[chunk[w]] -> t = chunk[w]; salvage(w, t)
        :: else
        fi;
#ifndef MUTANT_CLAIMED_IS_FORGOTTEN
        /* recover: what it has claimed, or noted */
        m = 0;
        do
        :: m < tasks ->
           if
           :: m != t && alive[m] && ((slot[m] == CLAIMED && owner[m] == w) || current[w] == m) ->
              if
              :: slot[m] == CLAIMED -> slot[m] = FREED
              :: else
              fi;
              salvage(w, m)
           :: else
           fi;
           m++
        :: else -> break
        od;
#endif
        if
        :: t != NONE && slot[t] == CLAIMED && owner[t] == w -> slot[t] = FREED
        :: else
        fi;
        current[w] = NONE;
        chunk[w] = NONE;
#ifndef MUTANT_RANGE_IS_INHERITED
        count[w] = 0; next[w] = 0; end[w] = 0;
#endif
        first[w] = 0; used[w] = 0;
        t = 0; m = 0;
        dead[w] = 0
    }
}

#define ALL_ENDED (ended[0] && (NI < 2 || ended[1 % NI]) && (NI < 3 || ended[2 % NI]) && (NI < 4 || ended[3 % NI]))
#define STEAL 1
#define CANCEL 2

init
{
    byte t, at, k, j, m, h, i, word_count, word_next, word_end, what;
    bit last, begun_it, before;
    atomic {
        do
        :: i < NW -> current[i] = NONE; chunk[i] = NONE; i++
        :: else -> break
        od;
        /* the items in CHUNKS chunks, of one length but for the last */
        tasks = CHUNKS;
        i = 0;
        do
        :: i < CHUNKS ->
           origin[i] = i * (NI / CHUNKS);
           left[i] = (i == CHUNKS - 1 -> NI - origin[i] : NI / CHUNKS);
           send(i);
           i++
        :: else -> break
        od;
        i = 0;
        run worker(0);
        if
        :: NW > 1 -> run worker(NW - 1)
        :: else
        fi
    }
    do
    :: nempty(ring[0]) -> take_part(0)
    :: NW > 1 && nempty(ring[NW - 1]) -> take_part((NW - 1))
    :: dead[0] -> recover_worker(0)
    :: NW > 1 && dead[NW - 1] -> recover_worker((NW - 1))
    :: ALL_ENDED -> break
    :: timeout -> assert(no_item_lost)
    :: atomic {
        /* Takes away the items of a chunk from one on, as far as they have not been begun: to give them to others, or to
         * cancel that one. */
        if
        :: steals < STEALS -> steals++; what = STEAL
        :: cancels < CANCELS -> cancels++; what = CANCEL
        fi;
        if
        :: i = 0
        :: NI > 1 -> i = 1
        :: NI > 2 -> i = 2
        :: NI > 3 -> i = 3
        fi;
        t = 0;
        do
        :: t < tasks && !(alive[t] && origin[t] + base[t] <= i && i < origin[t] + base[t] + left[t]) -> t++
        :: else -> break
        od;
        if
        :: t == tasks || ended[i] -> goto over
        :: else -> at = i - origin[t]
        fi;
        if
        :: slot[t] == READY && what == STEAL -> goto over
        :: slot[t] == READY && what == CANCEL -> slot[t] = ABSENT; settle(i, CANCELLED); send(t); goto over
        :: slot[t] == CLAIMED -> h = owner[t]
        :: slot[t] == FREED && current[0] == t -> h = 0
        :: slot[t] == FREED && current[0] != t && current[NW - 1] == t -> h = NW - 1
        :: slot[t] == FREED && current[0] != t && current[NW - 1] != t -> goto over
        fi
       };
       d_step { word_count = count[h]; word_next = next[h]; word_end = end[h] }
retry:
       begun_it = chunk[h] == t;
#ifndef MUTANT_HANDS_ARE_NOT_LOOKED_AT
       if
       :: !begun_it && !(slot[t] == CLAIMED && owner[t] == h) && current[h] != t -> goto over
       :: else
       fi;
#endif
       atomic {
           if
           :: !begun_it && word_next >= word_end -> before = 1
           :: else ->
              before = 0;
#ifndef MUTANT_CUT_TAKES_WHAT_IS_BEGUN
              at = (at < word_next -> word_next : at);
#endif
              if
              :: at >= word_end -> goto over
              :: else
              fi
           fi
       };
#ifdef MUTANT_CUT_STORES
       end[h] = at;
#else
       atomic {
           if
           :: count[h] == word_count && next[h] == word_next && end[h] == word_end ->
              end[h] = at;
              next[h] = (before -> BEFOREHAND : next[h]);
              word_end = (before -> base[t] + left[t] : word_end)
           :: else -> word_count = count[h]; word_next = next[h]; word_end = end[h]; goto retry
           fi
       };
#endif
       atomic {
           REQUIRE(the_account_is_right, at >= base[t] && word_end == base[t] + left[t]);
           m = tasks;
           tasks++;
           origin[m] = origin[t] + at;
           base[m] = 0;
           left[m] = left[t] - (at - base[t]);
           left[t] = at - base[t];
           if
           :: what == CANCEL && origin[m] == i -> settle(i, CANCELLED)
           :: else
           fi;
           send(m)
       };
over:  atomic { t = 0; i = 0; at = 0; h = 0; m = 0; what = 0; begun_it = 0; before = 0; word_count = 0; word_next = 0; word_end = 0 }
    od;
    stopped = 1
}
