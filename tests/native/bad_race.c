/* bad_race.c - wrong on purpose: ThreadSanitizer must refuse it, or its silence about the other programs means nothing.
 *
 * The writer publishes with a plain store where ring.h has an atomic one, in a mapped segment, as the pool has it.
 */
#include "check.h"
#include "ring.h"
#include "segment.h"

static struct rp_segment segment;
static struct rp_ring writer, reader;

static void *publish_plainly(void *unused)
{
    uint64_t *slot = rp_ring_try_reserve(&writer);
    slot[1] = 42;
    slot[0] = 1;
    return unused;
}

int main(void)
{
    pthread_t thread;
    begin(120);
    CHECK_EQ(rp_segment_create(&segment, 4 * RP_PAGE, 4 * RP_PAGE, 0), 0);
    rp_ring_init(&writer, segment.base + RP_PAGE, 8, 7);
    rp_ring_init(&reader, segment.base + RP_PAGE, 8, 7);
    thread = start_thread(publish_plainly, NULL);
    for (const uint64_t *slot = NULL; !slot; slot = rp_ring_try_peek(&reader))
        give_way();
    end_thread(thread);
    return 0;
}
