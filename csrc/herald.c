#include "herald.h"

enum { IDLE = 0, WAIT = 1, END = 2 };

static void *run(void *arg)
{
    struct rp_herald *h = arg;
    for (;;) {
        uint32_t order = rp_load_seq_cst(&h->order);
        if (order == END)
            return NULL;
        if (order == IDLE) {
            (void)rp_os_futex_wait(&h->order, IDLE, -1);
            continue;
        }
        (void)rp_pool_wait_service(h->pool); /* what cuts its sleep short costs the collector a look in vain */
        order = WAIT;
        (void)rp_cas_seq_cst(&h->order, &order, (uint32_t)IDLE);
        rp_os_notify(h->notify_fd);
    }
}

int rp_herald_begin(struct rp_herald *h, struct rp_parent *pool, int notify_fd)
{
    h->pool = pool;
    h->notify_fd = notify_fd;
    rp_store_seq_cst(&h->order, (uint32_t)IDLE);
    return rp_os_thread(run, h, &h->thread);
}

void rp_herald_send(struct rp_herald *h)
{
    rp_store_seq_cst(&h->order, (uint32_t)WAIT);
    rp_os_futex_wake(&h->order);
}

void rp_herald_end(struct rp_herald *h)
{
    rp_store_seq_cst(&h->order, (uint32_t)END);
    rp_os_futex_wake(&h->order);
    rp_pool_kick_service(h->pool); /* it may sleep there, or be about to */
    rp_os_thread_join(h->thread);
}
