/* wire.h - the bytes that travel: what a slot, a block, a tray holds, byte for byte.
 *
 * For: the one place where an offset within a payload or a flag of a word has a number. board.h and ring.h say how a slot or a
 * result moves; this file says what is in it. Nothing here knows an object of Python's: what a value is, core/codec/ decides.
 *
 * Guarantees: a function that reads what another process may be writing reads each word once, so that what the caller has
 * checked is what it uses. Each works at any address: a payload may lie behind a record of any length.
 * Does not: check. A count, a length or an offset that has been read is a claim of the sender's until the caller has compared it
 * with the end of the memory. All is in the byte order of the machine.
 *
 * compact value := tag byte (enum rp_tag), then
 *   NONE, TRUE, FALSE   nothing
 *   INT                 8 bytes, signed              (others: pickle)
 *   FLOAT               8 bytes
 *   STR                 u8 width (0: ASCII; 1, 2, 4: bytes a character), u16 characters, the characters as CPython holds them
 *   BYTES               u16 length, the bytes
 *   LONG_STR            u8 width, u64 characters, the characters
 *   LONG_BYTES          u64 length, the bytes
 *   BYTEARRAY           u64 length, the bytes
 *   TUPLE, LIST         u8 length, that many values
 *   DICT                u8 length, that many times a key and a value
 *   ARRAY               u8 type, u8 dimensions, u64 each of its dimensions, the elements in C's order
 *   NUMBER              u8 type, the number. The type is a place in NUMBERS of arrays.pyx
 *   SHARED              u64 number, u64 offset and u64 length of where it lies: a shared object. In arguments only
 *
 * stream   := struct rp_stream_head, a compact value. Only in a block, of arguments
 * parcel   := struct rp_parcel_head (RP_PARCEL), a u64 (length << 1 | read-only) for each buffer, the pickle, the buffers, each
 *             at a multiple of RP_BUFFER_ALIGN bytes. A pickle begins with another byte
 * spread   := struct rp_parcel_head (RP_SPREAD), a struct rp_spread_buffer for each buffer, the pickle. Only in a block. In a
 *             loan, the buffers are in that block
 * shared   := struct rp_share_table, the words of the workers, zeros up to a multiple of RP_BUFFER_ALIGN bytes, a spread
 * chunk    := struct rp_chunk_head, the pickle of the function (none if the slot names it), a record for each item
 * tray     := struct rp_tray, a record for each result
 * record   := u64 (length << 8 | kind), that many bytes; with RP_ITEM_APART, a struct rp_apart
 */
#ifndef RP_WIRE_H
#define RP_WIRE_H

#include <string.h>

#include "base.h"

/* ---- tags and kinds ---- */

enum rp_tag {
    RP_TAG_NONE = 0,
    RP_TAG_TRUE = 1,
    RP_TAG_FALSE = 2,
    RP_TAG_INT = 3,
    RP_TAG_FLOAT = 4,
    RP_TAG_STR = 5,
    RP_TAG_BYTES = 6,
    RP_TAG_TUPLE = 7,
    RP_TAG_LIST = 8,
    RP_TAG_DICT = 9,
    RP_TAG_LONG_STR = 10,
    RP_TAG_LONG_BYTES = 11,
    RP_TAG_BYTEARRAY = 12,
    RP_TAG_SHARED = 13,
    RP_TAG_ARRAY = 14,
    RP_TAG_NUMBER = 15,
};

/* The first byte of what stands in the place of a pickle. A pickle's own is 0x80, from protocol 2 on. */
enum rp_parcel_tag {
    RP_PARCEL = 1,
    RP_SPREAD = 2, /* a parcel with each buffer in a block of its own, of which the receiver makes a view */
};

/* The least buffer, in bytes, that is left out of a pickle: a smaller one costs less as part of it. One that is spread begins at a
 * multiple of this, on pages of its own, so that it can be used in place, inherited and moved. */
#define RP_LARGE_BUFFER (RP_PAGE > 16384u ? RP_PAGE : 16384u)

#define RP_KIND_MASK 15u /* what is left of a kind without its flags */

/* What the payload of a task holds. */
enum rp_task_kind {
    RP_KIND_ARGS = 1,          /* compact: the tuple of positional arguments */
    RP_KIND_ARGS_PICKLE = 2,   /* pickle of that tuple */
    RP_KIND_KWARGS_PICKLE = 3, /* pickle of (args, kwargs) */
    RP_KIND_CALL_PICKLE = 4,   /* pickle of (fn, args, kwargs) */
    RP_KIND_CHUNK = 5,         /* many items */
    RP_KIND_NAMED = 32,        /* flag: the function's block holds a pickle of (module, qualified name), not of itself */
    RP_KIND_TIMED = 64,        /* flag: the worker notes when the call starts */
    RP_KIND_STREAM = 128,      /* flag: the compact value is a stream */
};

/* What the payload of a result holds. */
enum rp_result_kind {
    RP_KIND_VALUE = 1, /* compact */
    RP_KIND_VALUE_PICKLE = 2,
    RP_KIND_ERROR = 3,       /* what encode_error() makes of an exception */
    RP_KIND_START_ERROR = 4, /* the same, of an initializer */
    RP_KIND_PART = 5,        /* results of a chunk: a tray */
    RP_KIND_LAST = 6,        /* the same, and the worker is done with the chunk */
    RP_KIND_ITEM = 16,       /* flag: the next result of a chunk, as that of a task; more may follow. A tray's head is inline */
};

/* What the record of an item holds, beside RP_KIND_ARGS and RP_KIND_ARGS_PICKLE; and that of its result. */
enum rp_item_kind {
    RP_ITEM_NOT_ENCODED = 0, /* it could not be encoded: no bytes */
    RP_KIND_NOT_ENCODED = 7, /* the result of RP_ITEM_NOT_ENCODED */
    RP_ITEM_APART = 8,       /* flag: it lies apart, in a block of its own; the record is a struct rp_apart */
};

/* The codec encodes before it knows which way the value goes. */
_Static_assert((int)RP_KIND_ARGS == RP_KIND_VALUE && (int)RP_KIND_ARGS_PICKLE == RP_KIND_VALUE_PICKLE,
               "arguments and results are encoded alike");
_Static_assert(((RP_KIND_NAMED | RP_KIND_TIMED | RP_KIND_STREAM | RP_KIND_ITEM) & RP_KIND_MASK) == 0,
               "a flag is none of the kinds");
_Static_assert(RP_KIND_CHUNK <= RP_KIND_MASK && RP_KIND_NOT_ENCODED < RP_KIND_MASK, "no result has the kind RP_KIND_MASK");
_Static_assert(((RP_KIND_ARGS | RP_KIND_ARGS_PICKLE | RP_ITEM_NOT_ENCODED) & RP_ITEM_APART) == 0, "and so within a chunk");

/* Why a task is to end that runs: what its worker's `why` says. */
enum rp_why {
    RP_WHY_OVERRUN = 1, /* it has taken longer than its time limit */
    RP_WHY_CANCELLED = 2,
};

/* ---- words at any address ---- */

struct __attribute__((packed, may_alias)) rp_loose32 {
    uint32_t n;
};
struct __attribute__((packed, may_alias)) rp_loose64 {
    uint64_t n;
};

/* Reads once: the compiler may neither read again what has been checked, nor read it before. */
static inline uint8_t rp_read_once8(const void *p)
{
    return *(const volatile uint8_t *)p;
}

static inline uint32_t rp_read_once32(const void *p)
{
    return ((const volatile struct rp_loose32 *)p)->n;
}

static inline uint64_t rp_read_once64(const void *p)
{
    return ((const volatile struct rp_loose64 *)p)->n;
}

static inline void rp_put64(void *p, uint64_t n)
{
    ((struct rp_loose64 *)p)->n = n;
}

static inline const uint8_t *rp_past(const void *p, uint64_t bytes)
{
    return (const uint8_t *)p + bytes;
}

static inline uint8_t *rp_past_mutable(void *p, uint64_t bytes)
{
    return (uint8_t *)p + bytes;
}

/* ---- streams ---- */

struct rp_stream_head {
    rp_word written;    /* writer: the parent. Bytes of the value that are there: "written" */
    uint8_t unused[56]; /* a line for what the reader polls; arbitrary */
};
RP_ASSERT_SIZE(struct rp_stream_head, 64);

/* ---- parcels ---- */

#define RP_BUFFER_ALIGN 64u /* bytes: of every buffer, as of every block. What NumPy and vector code like best */

struct rp_parcel_head {
    uint8_t tag; /* enum rp_parcel_tag */
    uint8_t unused[3];
    uint32_t buffers;
    uint64_t pickle_bytes;
};
RP_ASSERT_SIZE(struct rp_parcel_head, 16);
RP_ASSERT_OFFSET(struct rp_parcel_head, buffers, 4);
RP_ASSERT_OFFSET(struct rp_parcel_head, pickle_bytes, 8);

struct rp_spread_buffer {
    uint64_t extent; /* length << 1 | read-only */
    uint64_t offset; /* of its block */
    rp_word holder;  /* writer: the worker that reads the arguments. Itself + 1 while it uses the buffer, else 0 */
};
RP_ASSERT_SIZE(struct rp_spread_buffer, 24);
RP_ASSERT_OFFSET(struct rp_spread_buffer, offset, 8);
RP_ASSERT_OFFSET(struct rp_spread_buffer, holder, 16);

static inline uint64_t rp_buffer_aligned(uint64_t at)
{
    return (at + RP_BUFFER_ALIGN - 1) & ~(uint64_t)(RP_BUFFER_ALIGN - 1);
}

static inline uint64_t rp_extent(uint64_t bytes, bool readonly)
{
    return bytes << 1 | readonly;
}

static inline uint64_t rp_extent_bytes(uint64_t extent)
{
    return extent >> 1;
}

static inline bool rp_extent_readonly(uint64_t extent)
{
    return extent & 1;
}

static inline void rp_parcel_begin(void *p, enum rp_parcel_tag tag, uint32_t buffers, uint64_t pickle_bytes)
{
    struct rp_parcel_head head = {.tag = (uint8_t)tag, .buffers = buffers, .pickle_bytes = pickle_bytes};
    memcpy(p, &head, sizeof head);
}

static inline uint32_t rp_parcel_buffers(const void *p)
{
    return rp_read_once32(rp_past(p, offsetof(struct rp_parcel_head, buffers)));
}

static inline uint64_t rp_parcel_pickle_bytes(const void *p)
{
    return rp_read_once64(rp_past(p, offsetof(struct rp_parcel_head, pickle_bytes)));
}

/* Where the pickle of a parcel begins. */
static inline uint64_t rp_parcel_pickle_at(uint64_t buffers)
{
    return sizeof(struct rp_parcel_head) + sizeof(uint64_t) * buffers;
}

static inline uint64_t rp_parcel_extent(const void *p, uint64_t k)
{
    return rp_read_once64(rp_past(p, rp_parcel_pickle_at(k)));
}

static inline void rp_parcel_set_extent(void *p, uint64_t k, uint64_t extent)
{
    rp_put64(rp_past_mutable(p, rp_parcel_pickle_at(k)), extent);
}

/* Where the pickle of a spread begins. */
static inline uint64_t rp_spread_pickle_at(uint64_t buffers)
{
    return sizeof(struct rp_parcel_head) + sizeof(struct rp_spread_buffer) * buffers;
}

static inline uint64_t rp_spread_extent(const void *p, uint64_t k)
{
    return rp_read_once64(rp_past(p, rp_spread_pickle_at(k)));
}

static inline uint64_t rp_spread_offset(const void *p, uint64_t k)
{
    return rp_read_once64(rp_past(p, rp_spread_pickle_at(k) + offsetof(struct rp_spread_buffer, offset)));
}

/* The word that says which worker holds it. */
static inline rp_word *rp_spread_holder(void *p, uint64_t k)
{
    return (rp_word *)(void *)rp_past_mutable(p, rp_spread_pickle_at(k) + offsetof(struct rp_spread_buffer, holder));
}

/* As the sender fills it in, before another process knows of it: held by none. */
static inline void rp_spread_set(void *p, uint64_t k, uint64_t extent, uint64_t offset)
{
    uint8_t *at = rp_past_mutable(p, rp_spread_pickle_at(k));
    rp_put64(at, extent);
    rp_put64(at + offsetof(struct rp_spread_buffer, offset), offset);
    rp_put64(at + offsetof(struct rp_spread_buffer, holder), 0);
}

/* ---- shared objects ---- */

struct rp_share_table {
    rp_word dying;     /* writer: the parent. 1 when the last handle is gone */
    rp_word holders[]; /* writers: worker w its own; the parent a dead one's. 1 while it uses the object or views of its buffers */
};
RP_ASSERT_SIZE(struct rp_share_table, 8);

/* Bytes from a table to the spread behind it. */
static inline uint64_t rp_share_table_bytes(uint32_t n_workers)
{
    return rp_buffer_aligned(sizeof(struct rp_share_table) + sizeof(rp_word) * (uint64_t)n_workers);
}

static inline rp_word *rp_share_dying(void *table)
{
    return &((struct rp_share_table *)table)->dying;
}

static inline rp_word *rp_share_holder(void *table, uint32_t w)
{
    return &((struct rp_share_table *)table)->holders[w];
}

/* ---- records ---- */

#define RP_RECORD_HEAD 8u /* bytes: a u64, length << 8 | kind */

struct rp_apart { /* an item that lies apart: its block */
    uint64_t offset;
    uint64_t bytes;
};
RP_ASSERT_SIZE(struct rp_apart, 16);

static inline uint64_t rp_record_of(uint32_t kind, uint64_t bytes)
{
    return bytes << 8 | kind;
}

static inline uint64_t rp_record_at(const void *p)
{
    return rp_read_once64(p);
}

static inline void rp_record_put(void *p, uint64_t head)
{
    rp_put64(p, head);
}

static inline uint32_t rp_record_kind(uint64_t head)
{
    return head & 0xff;
}

static inline uint64_t rp_record_bytes(uint64_t head)
{
    return head >> 8;
}

/* Bytes from its head to the next record. */
static inline uint64_t rp_record_span(uint64_t head)
{
    return RP_RECORD_HEAD + (head >> 8);
}

static inline uint64_t rp_apart_offset(const void *p)
{
    return rp_read_once64(p);
}

static inline uint64_t rp_apart_bytes(const void *p)
{
    return rp_read_once64(rp_past(p, offsetof(struct rp_apart, bytes)));
}

static inline void rp_apart_put(void *p, uint64_t offset, uint64_t bytes)
{
    struct rp_apart apart = {.offset = offset, .bytes = bytes};
    memcpy(p, &apart, sizeof apart);
}

/* ---- chunks ---- */

struct rp_chunk_head {
    uint32_t items;
    uint32_t function_bytes;
};
RP_ASSERT_SIZE(struct rp_chunk_head, 8);

static inline uint32_t rp_chunk_items(const void *p)
{
    return rp_read_once32(p);
}

static inline uint32_t rp_chunk_function_bytes(const void *p)
{
    return rp_read_once32(rp_past(p, offsetof(struct rp_chunk_head, function_bytes)));
}

static inline void rp_chunk_put(void *p, uint32_t items, uint32_t function_bytes)
{
    struct rp_chunk_head head = {.items = items, .function_bytes = function_bytes};
    memcpy(p, &head, sizeof head);
}

struct rp_tray {      /* followed by the records */
    rp_word used;     /* bytes, this header included */
    uint32_t first;   /* the item whose result comes first */
    uint32_t ns;      /* since the first of these items was begun; at most UINT32_MAX */
    uint32_t load_ns; /* what the function took to load before that, if it has been; not in ns */
    uint32_t unused;
};
RP_ASSERT_SIZE(struct rp_tray, 24);

#endif
