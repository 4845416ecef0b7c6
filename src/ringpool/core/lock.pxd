# lock.pxd - the lock of a pool, which the threads of its process take to change what they share.
#
# With the GIL it is nothing, in an ordinary build: a stretch that calls no Python is atomic anyhow. Without, it is a mutex of
# CPython's. It is there before it is needed so that the stretches are named, and stay short: acquire() and release() say in
# the code where each begins and ends.
#
# A leaf: what holds it takes no other lock, does not block, runs no user code and encodes or decodes nothing. So functions
# that are open run without it, and so do those that take it. What its holder may call is raw or quiet; functions that are to
# be called with it stand in their header under "with the lock". tests/unit/test_parts.py checks both. In a debug build, what
# stands there asserts that this thread holds the lock; acquire(), the encoder, the decoder, callbacks and what drops the call
# of a task assert that it holds none.
#
# It guards the table of tasks, with its counts; the queue of tasks that wait for room; the board, from the reservation of a
# slot to its publication; the tasks that are to end, the gate, and what the supervisor is asked for; the parent's arena, loans,
# and the account of workers' arenas; waiters, watchers and needs: the headers of these say so. What was found out before a
# stretch is looked at again in it, in a build that looks_again(). docs/decisions/025-one-lock-a-pool.md says what it does not
# guard yet.
#
# In a child that was forked, where another thread may have held it, it is made anew: forget().

cdef extern from *:
    """
    #include <assert.h>
    #include <stdbool.h>

    struct pool_mutex {
    #ifdef Py_GIL_DISABLED
        PyMutex mutex;
    #endif
        bool held; /* by any thread; kept in a debug build */
    };

    #ifndef NDEBUG
    static _Thread_local const struct pool_mutex *lock_held_here; /* the one that this thread holds, or NULL */
    #endif

    static inline void pool_mutex_lock(struct pool_mutex *m)
    {
    #ifdef Py_GIL_DISABLED
        PyMutex_Lock(&m->mutex);
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
    """
    struct pool_mutex:
        pass
    void pool_mutex_lock(pool_mutex *m) nogil
    void pool_mutex_unlock(pool_mutex *m) nogil
    void pool_mutex_forget(pool_mutex *m) nogil
    bint pool_mutex_is_held(const pool_mutex *m) nogil
    bint holds_no_lock() nogil
    bint looks_again() nogil

@cython.final
cdef class PoolLock:
    cdef pool_mutex mutex
    # raw:
    cdef inline void acquire(self) noexcept nogil
    cdef inline void release(self) noexcept nogil
    cdef inline bint is_held(self) noexcept nogil
    cdef void forget(self) noexcept nogil
