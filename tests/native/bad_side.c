/* bad_side.c - must not compile: one line for each mistake, told by -DMISTAKE=n; with 0, there is none. */
#include "pool.h"

void mistake(struct rp_parent *parent, struct rp_worker *worker);

void mistake(struct rp_parent *parent, struct rp_worker *worker)
{
    (void)rp_pool_block(parent, 0, 0, 1);
    (void)rp_pool_block(worker, 0, 0, 1);
#if MISTAKE == 1
    (void)rp_pool_publish(worker, 1);
#elif MISTAKE == 2
    rp_pool_publish_result(parent, true);
#elif MISTAKE == 3
    (void)rp_pool_recover(worker, 0, (uint64_t[2]){0});
#elif MISTAKE == 4
    (void)rp_pool_block((const void *)parent, 0, 0, 1);
#elif MISTAKE == 5
    rp_pool_destroy(worker);
#endif
}
