/* words.c - where the shared words of a pool lie, for tests that look at them from outside: see words.py.
 *
 * A part is a structure of the map; a word is a field of it that tests or their reports ask for. The map is laid out by a
 * function that is map.c's own, so that file is included, and not linked.
 */
#include "map.c"

struct words_place {
    const char *part, *word;
    uint64_t at, bytes; /* from the beginning of the part */
};

#define PLACE(part, word, type, field) {part, word, offsetof(type, field), sizeof ((type *)0)->field}
#define SHARED(word, field) PLACE("shared", word, struct rp_pool_shared, field)
#define BOARD(word, field) PLACE("board", word, struct rp_board_shared, field)
#define SLOT(word, field) PLACE("slot", word, struct rp_slot, field)
#define WORKER(word, field) PLACE("worker", word, struct rp_worker_entry, field)
#define RING(word, field) PLACE("ring", word, struct rp_ring_shared, field)
#define RESULT(word, field) PLACE("result", word, struct rp_result, field)

extern const struct words_place words_places[];
const struct words_place words_places[] = {
    SHARED("stop", stop),
    SHARED("collect", collect),
    SHARED("refill_pos", refill_pos),
    SHARED("leader sleeps", results.word),
    SHARED("collector sleeps", service.word),
    SHARED("sleepers", sleepers),
    SHARED("ready", ready),
    SHARED("waking", waking),
    BOARD("claim_pos", claim_pos),
    SLOT("word", word),
    WORKER("sleeps", bell.word),
    WORKER("current", current),
    WORKER("started_ns", started_ns),
    WORKER("state", state),
    WORKER("waits_space", waits_space),
    WORKER("wants_memory", wants_memory),
    WORKER("retiring", retiring),
    WORKER("raised", raised),
    WORKER("releases", releases),
    WORKER("loan_bytes", loan_bytes),
    WORKER("interrupted", interrupted),
    WORKER("condemned", condemned),
    WORKER("successor", successor),
    WORKER("dismissed", dismissed),
    WORKER("turn", turn),
    WORKER("arena", arena),
    WORKER("granted", granted),
    WORKER("lent", lent),
    WORKER("range", range),
    WORKER("chunk", chunk),
    WORKER("tray", tray),
    RING("results read", read_pos),
    RESULT("seq", seq),
    RESULT("task_id", task_id),
    RESULT("offset", offset),
    RESULT("bytes", bytes),
    RESULT("kind", kind),
    RESULT("items", items),
    RESULT("inline_bytes", inline_bytes),
    {0},
};

struct words_part {
    const char *part;
    uint64_t at, bytes, count; /* the offset of the first one in the segment, how far it is to the next, how many there are */
};

/* The parts of a pool with n places; results are those of place 0, and as far from its ring in each other. */
int words_part(const char *part, uint32_t n, uint64_t arena_bytes, struct words_part *found);
int words_part(const char *part, uint32_t n, uint64_t arena_bytes, struct words_part *found)
{
    const struct layout l = lay_out(n, arena_bytes);
    const struct words_part parts[] = {
        {"shared", l.shared, sizeof(struct rp_pool_shared), 1},
        {"board", l.board, sizeof(struct rp_board_shared), 1},
        {"slot", l.board + sizeof(struct rp_board_shared), sizeof(struct rp_slot), RP_BOARD_CAPACITY},
        {"worker", l.entries, sizeof(struct rp_worker_entry), n},
        {"ring", l.results, (l.returns - l.results) / n, n},
        {"result", l.results + sizeof(struct rp_ring_shared), sizeof(struct rp_result), RP_RING_CAPACITY},
        {"arena", l.arenas, arena_bytes, RP_ARENAS(n)},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(parts[i].part, part)) {
            *found = parts[i];
            return 1;
        }
    return 0;
}
