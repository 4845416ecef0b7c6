# lock.pxd - what keeps the threads of a process apart where they share a pool. With the GIL both are nothing, in an
# ordinary build: a stretch that calls no Python is atomic anyhow. They are there all the same, so that the code says where
# each stretch begins and ends.
#
# 1. The lock: acquire() and release(). It is held for some dozens of instructions. It guards the table of tasks, with its
#    counts; the queue of tasks that wait for room; the board, from the reservation of a slot to its publication; the tasks
#    that are to end, the gate, and what the supervisor is asked for; the parent's arena, loans, and the account of workers'
#    arenas; waiters, watchers and needs: the headers of these say so. What was found out before a stretch is looked at
#    again in it, in a build that looks_again(). A leaf: what holds it takes no other lock, does not block, runs no user
#    code and encodes or decodes nothing. So functions that are open run without it, and so do those that take it. What its
#    holder may call is raw or quiet; functions that are to be called with it stand in their header under "with the lock".
#    tests/unit/test_parts.py checks both. In a debug build, what stands there asserts that this thread holds the lock;
#    acquire(), the encoder, the decoder, callbacks and what drops the call of a task assert that it holds none.
# 2. The engine: enter() and leave(). One thread is in it at a time, as one has the GIL; a thread that is in it may enter
#    once more. In it, results are taken in, chunks are cut and sent, tasks leave the queue, and workers that have died are
#    recovered: all that walks over state which the lock guards only entry by entry, and what has no lock of its own:
#    batches and their chunks, recovery. It is entered before the lock is taken, never with it. What may block in it, or run
#    user code, steps out meanwhile, as it would give up the GIL: step_out() and step_in(). So what is open finds the engine
#    as it was before a call of user code only where it looks again.
#
# The way of a small task to the board, and the end of what results lie in, need the lock alone: submit() waits for no
# thread that is in the engine. docs/decisions/025-one-lock-a-pool.md says what guards what.
#
# In a child that was forked, where another thread may have been in either, both are made anew: forget(). A free-threaded
# CPython deallocates there what other threads have left behind, before it calls any handler: what note_lock() has noted is
# made anew before that, and a young_child() has no pool, until grow_up().

cdef extern from *:
    """
    #include <assert.h>
    #include <stdbool.h>

    struct pool_engine {
    #ifdef Py_GIL_DISABLED
        PyMutex mutex;
        uint32_t depth;            /* how often the thread in it has entered */
        uint32_t away;             /* threads that have stepped out */
        struct pool_engine *outer; /* of another pool, which that thread was in before */
    #endif
        char none;
    };

    struct stepped_out { /* what step_out() has left */
        struct pool_engine *engine;
        uint32_t depth;
    };

    #ifdef Py_GIL_DISABLED
    static _Thread_local struct pool_engine *engine_here; /* that this thread is in, or NULL */

    static inline void pool_engine_enter(struct pool_engine *e)
    {
        for (struct pool_engine *each = engine_here; each; each = each->outer)
            if (each == e) {
                e->depth++;
                return;
            }
        PyMutex_Lock(&e->mutex);
        e->depth = 1;
        e->outer = engine_here;
        engine_here = e;
    }

    static inline void pool_engine_leave(struct pool_engine *e)
    {
        if (--e->depth)
            return;
        engine_here = e->outer;
        PyMutex_Unlock(&e->mutex);
    }

    static inline void step_out(struct stepped_out *s)
    {
        s->engine = engine_here;
        if (!s->engine)
            return;
        s->engine->away++;
        s->depth = s->engine->depth;
        s->engine->depth = 1;
        pool_engine_leave(s->engine);
    }

    static inline void step_in(struct stepped_out *s)
    {
        if (!s->engine)
            return;
        pool_engine_enter(s->engine);
        s->engine->depth = s->depth;
        s->engine->away--;
    }

    #define pool_engine_away(e) ((e)->away)

    static inline void pool_engine_forget(struct pool_engine *e)
    {
        struct pool_engine *each = engine_here;
        while (each && each != e)
            each = each->outer;
        if (!each)
            *e = (struct pool_engine){0};
    }

    struct Inside_ { /* from enter_here() to the end of the function, however it ends */
        struct pool_engine *engine;
    };

    static inline void leave_inside(struct Inside_ *i)
    {
        if (i->engine)
            pool_engine_leave(i->engine);
    }

    static inline void step_in_again(struct stepped_out *s)
    {
        step_in(s);
    }

    #define Outside __attribute__((cleanup(step_in_again))) struct stepped_out
    #define step_out_here(o) step_out(o)
    #define Inside __attribute__((cleanup(leave_inside))) struct Inside_
    #define pool_engine_enter_here(e, i) (pool_engine_enter(e), (void)((i)->engine = (e)))
    #else
    typedef char Inside;
    typedef char Outside;
    #define step_out_here(o) ((void)(o))
    #define pool_engine_enter_here(e, i) ((void)(e), (void)(i))
    #define pool_engine_enter(e) ((void)(e))
    #define pool_engine_leave(e) ((void)(e))
    #define pool_engine_forget(e) ((void)(e))
    #define pool_engine_away(e) ((void)(e), 0u)
    #define step_out(s) ((void)(s))
    #define step_in(s) ((void)(s))
    #endif

    struct pool_mutex {
    #ifdef Py_GIL_DISABLED
        PyMutex mutex;
    #endif
        bool held; /* by any thread; kept in a debug build */
    };

    #ifndef NDEBUG
    static _Thread_local const struct pool_mutex *lock_held_here; /* the one that this thread holds, or NULL */
    #endif

    #ifdef Py_GIL_DISABLED
    /* Held for so short a time that a look, a few times, is mostly enough. PyMutex_Lock() gives up the processor at once. */
    static inline void pool_mutex_spin(struct pool_mutex *m)
    {
        for (int i = 0; i < 64; i++) {
            uint8_t free = _Py_UNLOCKED;
            if (__atomic_load_n(&m->mutex._bits, __ATOMIC_RELAXED) == _Py_UNLOCKED
                && __atomic_compare_exchange_n(&m->mutex._bits, &free, _Py_LOCKED, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return;
            rp_pause();
        }
        PyMutex_Lock(&m->mutex);
    }
    #endif

    static inline void pool_mutex_lock(struct pool_mutex *m)
    {
    #ifdef Py_GIL_DISABLED
        pool_mutex_spin(m);
    #endif
    #ifndef NDEBUG
        assert(lock_held_here == NULL && "this thread holds a pool's lock");
        assert(!m->held && "another thread has come into a stretch that holds the lock: it gave up the GIL");
        lock_held_here = m;
        m->held = true;
    #endif
        (void)m;
    }

    static inline void pool_mutex_unlock(struct pool_mutex *m)
    {
    #ifndef NDEBUG
        assert(lock_held_here == m);
        lock_held_here = NULL;
        m->held = false;
    #endif
    #ifdef Py_GIL_DISABLED
        PyMutex_Unlock(&m->mutex);
    #endif
        (void)m;
    }

    static inline void pool_mutex_forget(struct pool_mutex *m)
    {
        *m = (struct pool_mutex){0};
    #ifndef NDEBUG
        lock_held_here = NULL;
    #endif
    }

    /* For assertions: they are all that a debug build has of these. */
    #ifndef NDEBUG
    #define pool_mutex_is_held(m) (lock_held_here == (m))
    #define holds_no_lock() (lock_held_here == NULL)
    #else
    #define pool_mutex_is_held(m) true
    #define holds_no_lock() true
    #endif

    /* Whether what was found out before a stretch is looked at again in it. With the GIL nothing has changed where no Python
     * was called: an optimised build has no code for it. A debug build looks all the same, so that the code is run. */
    #if defined(Py_GIL_DISABLED) || !defined(NDEBUG)
    #define looks_again() true
    #else
    #define looks_again() false
    #endif

    /* Whether the thread that has the GIL, or is in the engine, sees the state of a pool at rest. */
    #ifdef Py_GIL_DISABLED
    #define runs_alone() false
    #else
    #define runs_alone() true
    #endif
    """
    struct pool_mutex:
        pass
    void pool_mutex_lock(pool_mutex *m) nogil
    void pool_mutex_unlock(pool_mutex *m) nogil
    void pool_mutex_forget(pool_mutex *m) nogil
    bint pool_mutex_is_held(const pool_mutex *m) nogil
    bint holds_no_lock() nogil
    bint looks_again() nogil
    bint runs_alone() nogil
    struct pool_engine:
        pass
    struct stepped_out:
        pass
    ctypedef struct Inside:
        pass
    void pool_engine_enter_here(pool_engine *e, Inside *i) nogil
    void pool_engine_enter(pool_engine *e) nogil
    void pool_engine_leave(pool_engine *e) nogil
    void pool_engine_forget(pool_engine *e) nogil
    uint32_t pool_engine_away(pool_engine *e) nogil
    ctypedef struct Outside:
        pass
    void step_out_here(Outside *o) nogil  # for the rest of a function that may raise, as its first statement
    void step_out(stepped_out *s) nogil
    void step_in(stepped_out *s) nogil

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #include <pthread.h>

    struct noted_lock {
        struct pool_mutex *mutex;
        struct pool_engine *engine; /* or NULL */
    };

    static _Thread_local struct {
        struct noted_lock *locks;
        size_t n;
    } fork_note; /* of the fork that this thread is about to make */

    static bool is_young; /* this process was forked, and has not called our handler yet */

    static void begin_child(void)
    {
        is_young = true;
        for (size_t i = 0; i < fork_note.n; i++) {
            pool_mutex_forget(fork_note.locks[i].mutex);
            if (fork_note.locks[i].engine)
                pool_engine_forget(fork_note.locks[i].engine);
        }
    }

    static inline int watch_forks(void)
    {
        return pthread_atfork(NULL, NULL, begin_child);
    }

    /* Room for the locks of a fork that this thread is about to make. */
    static inline int begin_note(size_t n)
    {
        void *locks = PyMem_RawRealloc(fork_note.locks, (n + 1) * sizeof *fork_note.locks);
        fork_note.n = 0;
        if (!locks)
            return -1;
        fork_note.locks = locks;
        return 0;
    }

    static inline void note_lock(struct pool_mutex *mutex, struct pool_engine *engine)
    {
        fork_note.locks[fork_note.n++] = (struct noted_lock){mutex, engine};
    }

    static inline void end_note(void)
    {
        PyMem_RawFree(fork_note.locks);
        fork_note.locks = NULL;
        fork_note.n = 0;
    }

    #define young_child() is_young
    #define grow_up() (end_note(), (void)(is_young = false))
    #else
    #define begin_child() ((void)0)
    #define watch_forks() 0
    #define begin_note(n) ((void)(n), 0)
    #define note_lock(mutex, engine) ((void)(mutex))
    #define end_note() ((void)0)
    #define young_child() false
    #define grow_up() ((void)0)
    #endif
    """
    void begin_child() nogil
    int watch_forks() nogil
    int begin_note(size_t n) nogil
    void note_lock(pool_mutex *mutex, pool_engine *engine) nogil
    void end_note() nogil
    bint young_child() nogil
    void grow_up() nogil

# What gives memory of a pool back when its last reference goes: the thread that drops that one deallocates it at once. (A
# free-threaded CPython leaves an object to the thread that has made it, which may sleep. So the object is made no thread's.)
cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    static inline void disown(PyObject *o)
    {
        Py_ssize_t n = Py_REFCNT(o);
        o->ob_tid = 0;
        Py_SET_REFCNT(o, n); /* which is shared by all threads, for an object of none */
    }
    #define disown(o) disown((PyObject *)(o))
    #else
    #define disown(o) ((void)(o))
    #endif
    """
    void disown(object o)  # no other thread has come by it yet

# A container that other threads may change, or a field with a reference that they may replace, is looked at between
# begin_object() and end_object(). That is CPython's own lock of the object: what blocks between the two gives it up.
cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define object_section PyCriticalSection
    #define begin_object(s, o) PyCriticalSection_Begin(s, (PyObject *)(o))
    #define end_object(s) PyCriticalSection_End(s)
    /* What may be taken out of its container while that is looked at, and looking at it may block. */
    #define HELD 1
    #define hold_item(o) Py_INCREF(o)
    #define let_item(o) Py_DECREF(o)
    #define keep(o) Py_INCREF(o)
    #define let_go(o) Py_XDECREF(o)
    #else
    typedef char object_section;
    #define begin_object(s, o) ((void)(s), (void)(o))
    #define end_object(s) ((void)(s))
    #define HELD 0
    #define hold_item(o) ((void)(o))
    #define let_item(o) ((void)(o))
    #define keep(o) ((void)(o))
    #define let_go(o) ((void)(o))
    #endif
    """
    ctypedef struct object_section:
        pass
    void begin_object(object_section *s, object o)
    void end_object(object_section *s)
    enum: HELD
    void hold_item(object o)
    void let_item(object o)
    void keep(PyObject *o) # of which another thread may drop the last reference meanwhile
    void let_go(PyObject *o)

@cython.final
cdef class PoolLock:
    cdef pool_mutex mutex
    cdef pool_engine engine
    # raw:
    cdef inline void enter(self) noexcept nogil
    cdef inline void enter_here(self, Inside *inside) noexcept nogil
    cdef inline void leave(self) noexcept nogil
    cdef inline bint is_left(self) noexcept nogil
    cdef inline void acquire(self) noexcept nogil
    cdef inline void release(self) noexcept nogil
    cdef inline bint is_held(self) noexcept nogil
    cdef void forget(self) noexcept nogil
    cdef void note(self) noexcept nogil
