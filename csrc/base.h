/* base.h - the words the rest is written in: sizes, assertions, atomics.
 *
 * Every memory-order name of the project stands here. A name says its order, so a reader of a call site never has to
 * look one up, and `grep seq_cst` finds every place where two processes decide by looking at each other's words.
 */
#ifndef RP_BASE_H
#define RP_BASE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Distance that keeps two writers from sharing a line. 64 bytes is the line; x86 prefetches lines in pairs. */
#define RP_LINE 128u

/* The largest page that the processor has, whatever the kernel here was built with: 4, 16 or 64 KiB on aarch64. The map, and what
 * of it is given back, inherited or moved, is made of these. (Tests say 64 KiB where it is less.) */
#ifndef RP_PAGE
#if defined(__x86_64__) || defined(__i386__)
#define RP_PAGE 4096u
#else
#define RP_PAGE 65536u
#endif
#endif

#define RP_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " must be " #bytes " bytes")
#define RP_ASSERT_OFFSET(type, field, bytes) \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " must be at " #bytes)

typedef _Atomic uint64_t rp_word;  /* a shared 64-bit word */
typedef _Atomic uint32_t rp_futex; /* a shared 32-bit word that a thread may sleep on */

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "a lock hidden in an atomic would be left held by a process that dies");

#define rp_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define rp_load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define rp_load_seq_cst(p) atomic_load_explicit((p), memory_order_seq_cst)
#define rp_store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define rp_store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define rp_store_seq_cst(p, v) atomic_store_explicit((p), (v), memory_order_seq_cst)
#define rp_add_seq_cst(p, v) atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define rp_or_seq_cst(p, v) atomic_fetch_or_explicit((p), (v), memory_order_seq_cst)
#define rp_and_seq_cst(p, v) atomic_fetch_and_explicit((p), (v), memory_order_seq_cst)
#define rp_cas_seq_cst(p, expected, v) \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_seq_cst, memory_order_seq_cst)

/* Keeps the threads of one process apart, where there is no GIL that does. Held for a few instructions, or a call of the system. */
#ifdef RP_THREADS
#include <pthread.h>
typedef pthread_mutex_t rp_mutex; /* zeros: it is free */
/* Words of this process alone, which a thread may look at without the lock under which they change. */
typedef rp_word rp_thread_word;
typedef _Atomic uint32_t rp_thread_half;
typedef _Atomic int rp_thread_flag;
typedef _Atomic unsigned char rp_thread_byte;
#define rp_publish_byte(p, v) rp_store_release(p, (unsigned char)(v))
#define rp_look_byte(p) rp_load_acquire(p)
#define rp_store_before_look(p, v) rp_store_seq_cst(p, v) /* and then looks at a word of another thread's */
#define rp_mutex_lock(m) ((void)pthread_mutex_lock(m))
#define rp_mutex_unlock(m) ((void)pthread_mutex_unlock(m))
#else
typedef char rp_mutex;
typedef uint64_t rp_thread_word;
typedef uint32_t rp_thread_half;
typedef int rp_thread_flag;
typedef unsigned char rp_thread_byte;
#define rp_publish_byte(p, v) ((void)(*(p) = (unsigned char)(v)))
#define rp_look_byte(p) (*(p))
#define rp_store_before_look(p, v) rp_store_release(p, v)
#define rp_mutex_lock(m) ((void)(m))
#define rp_mutex_unlock(m) ((void)(m))
#endif

/* Tells the core that this is a spin: saves power, and gives the other hyperthread the execution units. */
static inline void rp_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
