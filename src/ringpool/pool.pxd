# Mirrors csrc/herald.h and what it includes. Atomic fields are left out: Cython touches none. What takes a hold of either side
# is declared with `const void *`: it is a macro (rp_base in map.h), by which the C compiler checks the type.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "base.h" nogil:
    ctypedef uint64_t rp_word
    ctypedef uint64_t rp_thread_word
    ctypedef uint32_t rp_thread_half
    ctypedef int rp_thread_flag
    ctypedef unsigned char rp_thread_byte
    void rp_pause()
    uint64_t rp_load_acquire(const rp_word *word)
    void rp_store_release(rp_word *word, uint64_t n)
    void rp_store_before_look(rp_word *word, uint64_t n)
    uint64_t RP_PAGE


cdef extern from "step.h" nogil:
    void RP_STEP(const char *name)


cdef extern from "os.h" nogil:
    ctypedef uint32_t rp_futex
    uint64_t rp_os_page_bytes()
    int rp_os_futex_wait(rp_futex *word, uint32_t expected, int64_t timeout_ns)
    void rp_os_futex_wake(rp_futex *word)
    uint64_t rp_os_now_ns()
    int rp_os_nap(uint64_t ns)
    uint64_t rp_os_own_memory()
    struct pollfd:
        int fd
        short events
        short revents
    enum: POLLIN
    int rp_os_poll(pollfd *p, uint32_t n, int64_t timeout_ns, uint64_t *late_ns)
    void rp_os_notify(int eventfd)
    void rp_os_ask_huge(void *base, uint64_t bytes, bint wanted)
    int rp_os_inherit(void *base, uint64_t bytes, int inherited)
    int rp_os_move(void *from_, uint64_t bytes, void *to)
    int rp_os_reserve(uint64_t bytes, void **base)
    void rp_os_unmap(void *base, uint64_t bytes)
    int rp_os_memfd(const char *name, uint64_t bytes, int *fd)
    int rp_os_wait_peak_rss(int pidfd, uint64_t *bytes)
    int rp_os_guard(int pidfd)
    enum: RP_ORDER_BYTES
    int rp_os_zygote(int parent, int held, int *fd, void *order)
    int rp_os_zygote_make(int fd, const void *order, uint32_t order_bytes)
    void rp_os_zygote_dismiss(int fd)
    void rp_os_zygote_end(int fd, int pid)


cdef extern from "tree.h" nogil:
    int rp_tree_signal(int pidfd, int root, int home, int signum)


cdef extern from "stdbool.h" nogil:
    ctypedef bint c_bool "bool"  # of callbacks: bint is an int


cdef extern from "segment.h" nogil:
    struct rp_segment:
        int fd
        uint64_t mapped
        int refused
    uint64_t RP_WINDOWS_KEEP
    void rp_segment_unmap_regions(rp_segment *seg, c_bool (*idle)(const void *arg, uint64_t region), const void *arg)
    void rp_segment_close_fd(rp_segment *seg)


cdef extern from "arena.h" nogil:
    struct rp_arena:
        uint64_t used_bytes
        uint64_t quota
        uint64_t busy
        uint64_t used_blocks
    int rp_arena_alloc(rp_arena *a, uint64_t bytes, uint64_t *offset)
    int rp_arena_free(rp_arena *a, uint64_t offset, uint64_t *block_bytes)


cdef extern from "ring.h" nogil:
    struct rp_ring:
        pass
    void *rp_ring_try_peek(const rp_ring *r)
    void rp_ring_release(rp_ring *r)
    bint rp_ring_uncommitted(const rp_ring *r)


cdef extern from "board.h" nogil:
    enum: RP_SLOT_INLINE
    struct rp_slot:
        uint64_t task_id
        uint64_t fn_offset
        uint32_t fn_bytes
        uint32_t fn_id
        uint64_t offset
        uint64_t bytes
        uint32_t kind
        uint8_t *inline_bytes
    struct rp_board:
        pass
    rp_slot *rp_board_try_reserve(rp_board *b)
    bint rp_board_try_cancel(rp_board *b, uint64_t pos)
    bint rp_board_claimed(const rp_board *b, uint64_t pos)
    bint rp_board_ready(rp_board *b)


cdef extern from "wire.h" nogil:
    enum:
        TAG_NONE "RP_TAG_NONE"
        TAG_TRUE "RP_TAG_TRUE"
        TAG_FALSE "RP_TAG_FALSE"
        TAG_INT "RP_TAG_INT"
        TAG_FLOAT "RP_TAG_FLOAT"
        TAG_STR "RP_TAG_STR"
        TAG_BYTES "RP_TAG_BYTES"
        TAG_TUPLE "RP_TAG_TUPLE"
        TAG_LIST "RP_TAG_LIST"
        TAG_DICT "RP_TAG_DICT"
        TAG_LONG_STR "RP_TAG_LONG_STR"
        TAG_LONG_BYTES "RP_TAG_LONG_BYTES"
        TAG_BYTEARRAY "RP_TAG_BYTEARRAY"
        TAG_SHARED "RP_TAG_SHARED"
        TAG_ARRAY "RP_TAG_ARRAY"
        TAG_NUMBER "RP_TAG_NUMBER"
        KIND_ARGS "RP_KIND_ARGS"
        KIND_ARGS_PICKLE "RP_KIND_ARGS_PICKLE"
        KIND_KWARGS_PICKLE "RP_KIND_KWARGS_PICKLE"
        KIND_CALL_PICKLE "RP_KIND_CALL_PICKLE"
        KIND_CHUNK "RP_KIND_CHUNK"
        KIND_MASK "RP_KIND_MASK"
        LARGE_BUFFER "RP_LARGE_BUFFER"
        KIND_NAMED "RP_KIND_NAMED"
        KIND_TIMED "RP_KIND_TIMED"
        KIND_STREAM "RP_KIND_STREAM"
        KIND_VALUE "RP_KIND_VALUE"
        KIND_VALUE_PICKLE "RP_KIND_VALUE_PICKLE"
        KIND_ERROR "RP_KIND_ERROR"
        KIND_START_ERROR "RP_KIND_START_ERROR"
        KIND_PART "RP_KIND_PART"
        KIND_LAST "RP_KIND_LAST"
        KIND_ITEM "RP_KIND_ITEM"
        ITEM_NOT_ENCODED "RP_ITEM_NOT_ENCODED"
        KIND_NOT_ENCODED "RP_KIND_NOT_ENCODED"
        ITEM_APART "RP_ITEM_APART"
        WHY_OVERRUN "RP_WHY_OVERRUN"
        WHY_CANCELLED "RP_WHY_CANCELLED"
    enum rp_parcel_tag:
        RP_PARCEL
        RP_SPREAD
    struct rp_stream_head:
        rp_word written
    enum: STREAM_HEAD "sizeof(struct rp_stream_head)"
    struct rp_parcel_head:
        pass
    uint8_t read_once8 "rp_read_once8"(const void *p)
    int64_t read_once64 "rp_read_once64"(const void *p)
    uint64_t rp_buffer_aligned(uint64_t at)
    uint64_t rp_extent(uint64_t bytes, bint readonly)
    uint64_t rp_extent_bytes(uint64_t extent)
    bint rp_extent_readonly(uint64_t extent)
    void rp_parcel_begin(void *p, rp_parcel_tag tag, uint32_t buffers, uint64_t pickle_bytes)
    uint32_t rp_parcel_buffers(const void *p)
    uint64_t rp_parcel_pickle_bytes(const void *p)
    uint64_t rp_parcel_pickle_at(uint64_t buffers)
    uint64_t rp_parcel_extent(const void *p, uint64_t k)
    void rp_parcel_set_extent(void *p, uint64_t k, uint64_t extent)
    uint64_t rp_spread_pickle_at(uint64_t buffers)
    uint64_t rp_spread_extent(const void *p, uint64_t k)
    uint64_t rp_spread_offset(const void *p, uint64_t k)
    rp_word *rp_spread_holder(void *p, uint64_t k)
    void rp_spread_set(void *p, uint64_t k, uint64_t extent, uint64_t offset)
    uint64_t rp_share_table_bytes(uint32_t n_workers)
    rp_word *rp_share_dying(void *table)
    rp_word *rp_share_holder(void *table, uint32_t w)
    struct rp_apart:
        pass
    enum: RP_RECORD_HEAD
    uint64_t rp_record_of(uint32_t kind, uint64_t bytes)
    uint64_t rp_record_at(const void *p)
    void rp_record_put(void *p, uint64_t head)
    uint32_t rp_record_kind(uint64_t head)
    uint64_t rp_record_bytes(uint64_t head)
    uint64_t rp_record_span(uint64_t head)
    uint64_t rp_apart_offset(const void *p)
    uint64_t rp_apart_bytes(const void *p)
    void rp_apart_put(void *p, uint64_t offset, uint64_t bytes)
    struct rp_chunk_head:
        pass
    uint32_t rp_chunk_items(const void *p)
    uint32_t rp_chunk_function_bytes(const void *p)
    void rp_chunk_put(void *p, uint32_t items, uint32_t function_bytes)
    struct rp_tray:
        uint32_t first
        uint32_t ns
        uint32_t load_ns


cdef extern from "spin.h" nogil:
    uint64_t rp_pool_await_bytes "rp_spin_await_bytes"(const rp_word *written, uint64_t bytes)


cdef extern from "map.h" nogil:
    enum: RP_MAX_WORKERS
    enum: RP_RESULT_INLINE
    const uint64_t RP_NEVER
    enum: RP_ABSENT
    enum: RP_PARKED
    enum: RP_STARTED
    enum: RP_RETIRED
    bint rp_has_started(uint64_t state)
    enum: RP_SOON
    enum: RP_READY
    struct rp_result:
        uint64_t task_id
        uint64_t offset
        uint64_t bytes
        uint32_t kind
        uint32_t items
        uint8_t *inline_bytes
    struct rp_sizes:
        uint64_t arena_bytes
        uint64_t parent_quota
        uint64_t worker_quota
        uint64_t overflow_quota
    struct rp_pool:
        rp_arena arena
    struct rp_worker:
        rp_pool base
        rp_segment segment
        rp_board board
        rp_arena arena
        uint32_t own
        uint32_t n_workers
        uint32_t n_cpus
        rp_sizes sizes
        uint32_t index
    struct rp_parent:
        rp_pool base
        rp_segment segment
        rp_board board
        rp_arena arena
        uint64_t arenas
        uint32_t n_workers
        uint32_t n_cpus
        rp_sizes sizes
        rp_ring *results
        uint32_t *arena_of
        rp_arena overflow
    enum: RP_CHUNK_ITEMS
    uint32_t RP_ARENAS(uint32_t n_workers)
    uint32_t RP_OVERFLOW(uint32_t n_workers)
    uint64_t rp_pool_fixed_bytes(uint32_t n_workers)
    int rp_pool_create(rp_parent *p, uint32_t n_workers, uint32_t n_cpus, rp_sizes sizes)
    int rp_pool_attach(rp_worker *p, int fd, uint32_t n_workers, uint32_t n_cpus, rp_sizes sizes, uint32_t index)
    void rp_pool_detach(rp_worker *p)
    void rp_pool_destroy(rp_parent *p)
    bint rp_pool_within(const void *p, uint32_t arena, uint64_t offset, uint64_t bytes)
    uint8_t *rp_pool_block(const void *p, uint32_t arena, uint64_t offset, uint64_t bytes)
    uint8_t *rp_pool_writable(const void *p, uint64_t offset, uint64_t bytes)
    bint rp_pool_may_hold(const void *p, uint32_t arena, uint64_t offset, uint64_t bytes)
    void rp_pool_give_arena(rp_parent *p, uint32_t w, uint32_t arena)
    void rp_pool_clear(rp_parent *p, uint64_t offset, uint64_t bytes)


cdef extern from "wake.h" nogil:
    bint rp_pool_crowded(const void *p)
    void rp_pool_watch(rp_worker *p)
    enum: RP_WAIT
    enum: RP_RUN
    enum: RP_PURGE
    int rp_pool_next(rp_worker *p, rp_slot *task)
    int rp_pool_wait_task(rp_worker *p)
    bint rp_pool_apart(const rp_parent *p)
    uint64_t rp_pool_publish(rp_parent *p, uint64_t outstanding)
    void rp_pool_set_backlog(rp_parent *p, bint backlog)
    uint64_t rp_pool_current(const rp_parent *p, uint32_t w)
    uint32_t rp_pool_holder(const rp_parent *p, uint64_t task_id, uint64_t pos)
    uint64_t rp_pool_peak_rss(const rp_parent *p, uint32_t w)


cdef extern from "results.h" nogil:
    rp_result *rp_pool_try_result(rp_worker *p)
    int rp_pool_wait_space(rp_worker *p)
    void rp_pool_publish_result(rp_worker *p, bint last)
    bint rp_pool_has_results(const rp_parent *p)
    void rp_pool_commit(rp_parent *p, uint32_t w)
    void rp_pool_note_drained(rp_parent *p, uint64_t n)
    int rp_pool_wait_results(rp_parent *p, uint64_t outstanding, int64_t timeout_ns)
    void rp_pool_begin_leading(rp_parent *p)
    void rp_pool_kick_leader(rp_parent *p)
    int rp_pool_wait_service(rp_parent *p)
    void rp_pool_begin_service(rp_parent *p)
    void rp_pool_kick_service(rp_parent *p)
    void rp_pool_set_collect(rp_parent *p, bint on)


cdef extern from "memory.h" nogil:
    int rp_pool_alloc(rp_worker *p, uint64_t bytes, uint64_t *offset)
    void rp_pool_take_returns(rp_worker *p)
    int rp_pool_wait_memory(rp_worker *p)
    void rp_pool_ask_loan(rp_worker *p, uint64_t bytes)
    int rp_pool_await_loan(rp_worker *p, uint64_t *offset)
    void rp_pool_give_up_loan(rp_worker *p)
    void rp_pool_count_release(rp_worker *p)
    void rp_pool_note_purged(rp_worker *p)
    int rp_pool_return_block(rp_parent *p, uint32_t w, uint64_t offset)
    bint rp_pool_has_released(rp_parent *p, uint32_t w)
    void rp_pool_purge(rp_parent *p)
    bint rp_pool_is_to_purge(const rp_parent *p, uint32_t w, uint64_t *task_id)
    uint64_t rp_pool_wants_memory(rp_parent *p, uint32_t w, uint64_t *loan_bytes)
    void rp_pool_grant(rp_parent *p, uint32_t w, uint64_t request)
    uint64_t rp_pool_loan_wanted(const rp_parent *p, uint32_t w, uint64_t *bytes)
    int rp_pool_lend(rp_parent *p, uint32_t w, uint64_t request, uint64_t bytes, uint64_t *offset)
    bint rp_pool_is_past_loan(const rp_parent *p, uint32_t w, uint64_t request)
    void rp_pool_end_loan(rp_parent *p, uint64_t offset)


cdef extern from "chunk.h" nogil:
    uint64_t rp_pool_tray_used(const rp_tray *tray)
    void rp_pool_begin_chunk(rp_worker *p, uint64_t task_id, uint32_t n)
    bint rp_pool_claim_item(rp_worker *p, uint32_t *item)
    rp_tray *rp_pool_take_tray(rp_worker *p, uint64_t offset, uint64_t bytes, uint32_t first)
    void rp_pool_fill_tray(rp_tray *tray, uint64_t used)
    bint rp_pool_chunk(const rp_parent *p, uint32_t w, uint64_t task_id, uint32_t *next, uint32_t *end)
    bint rp_pool_cut_chunk(rp_parent *p, uint64_t task_id, uint64_t pos, uint32_t *from_, uint32_t *end)
    uint64_t rp_pool_chunk_of(const rp_parent *p, uint32_t w)
    uint64_t rp_pool_lost_tray(const rp_parent *p, uint32_t w, uint64_t task_id)


cdef extern from "ending.h" nogil:
    void rp_pool_start_clock(rp_worker *p)
    void rp_pool_stop_clock(rp_worker *p)
    bint rp_pool_take_interrupt(rp_worker *p, uint64_t task_id, uint64_t *why)
    bint rp_pool_is_condemned(const rp_worker *p, uint64_t task_id)
    uint64_t rp_pool_timed_task(const rp_parent *p, uint32_t w, uint64_t *started_ns)
    bint rp_pool_interrupt(rp_parent *p, uint32_t w, uint64_t task_id, uint64_t why)
    void rp_pool_condemn(rp_parent *p, uint32_t w, uint64_t task_id)


cdef extern from "recycle.h" nogil:
    int rp_pool_await_turn(rp_worker *p, uint64_t ticket, int notify_fd)
    void rp_pool_join(rp_worker *p)
    void rp_pool_retire(rp_worker *p, uint64_t when, int notify_fd)
    bint rp_pool_is_dismissed(const rp_worker *p)
    int rp_pool_await_dismissal(rp_worker *p, int notify_fd)
    void rp_pool_leave(rp_worker *p)
    uint32_t rp_pool_worker_state(const rp_parent *p, uint32_t w)
    bint rp_pool_is_retiring(const rp_parent *p, uint32_t w)
    bint rp_pool_may_go(const rp_parent *p, uint32_t w)
    void rp_pool_give_turn(const void *p, uint32_t w, uint64_t ticket)
    void rp_pool_name_successor(rp_parent *p, uint32_t w, uint32_t successor, uint64_t ticket)
    void rp_pool_dismiss(rp_parent *p, uint32_t w)


cdef extern from "pool.h" nogil:
    void rp_pool_stop(rp_parent *p)
    uint32_t rp_pool_recover(rp_parent *p, uint32_t w, uint64_t *task_ids)
    void rp_pool_resume_after_recovery(rp_parent *p, uint64_t outstanding)


cdef extern from "herald.h" nogil:
    struct rp_herald:
        pass
    int rp_herald_begin(rp_herald *h, rp_parent *pool, int notify_fd)
    void rp_herald_send(rp_herald *h)
    void rp_herald_end(rp_herald *h)
