/* The state of a grid that runs, and how a fibre waits; for the files of the harness. */
#ifndef VISATB_TESTS_FIBRES_SCHEDULER_H
#define VISATB_TESTS_FIBRES_SCHEDULER_H

#include "cuda/primitives.cuh"

#include "stacks.h"

#include <vector>

namespace fibres {

enum { MOST_BLOCKS = 8, MOST_BLOCK_THREADS = 1024 };

struct fibre {
    int rank;             /* of its block */
    int thread;           /* in the block */
    context *stack;       /* null before it begins, and after */
    const char *waits_at; /* the function, or null */
    const uint64_t *copy; /* the barrier, in bulk_wait */
    bool ended;
    bool arrived;           /* at the barrier of the cluster, for which it has not waited yet */
    uint64_t arrival_phase; /* its number */
};

/* Masks have a bit for each lane. Values of one exchange are read while those of the next are written. */
struct warp {
    fibre lanes[WARP];
    uint32_t ready;
    uint32_t ended;
    uint32_t in_cluster_wait;
    uint32_t came; /* to the exchange */
    uint64_t exchange;
    const char *function; /* what the first who came called, and with what */
    size_t bytes;
    int operand;
    uint64_t values[2][WARP];
};

enum class copy_state { READY, UNDER_WAY, DONE };

/* A barrier of an asynchronous copy, and the copy. */
struct bulk_state {
    uint64_t *barrier;
    int thread;     /* which made it */
    uint64_t epoch; /* when */
    copy_state state;
    void *to;
    const void *from;
    uint32_t bytes;
};

struct block {
    std::vector<warp> warps;
    uint32_t ready; /* warps with lanes that are */
    int warp_now;
    unsigned char *shared;
    bool begun;
    int ended;   /* threads */
    int arrived; /* at the block's barrier */
    uint64_t barriers;
    std::vector<bulk_state> copies;
};

struct grid {
    launch_shape shape;
    void (*kernel)(const void *);
    const void *arguments;
    int64_t cluster;
    std::vector<block> blocks; /* of the cluster */
    uint32_t ready;            /* blocks with warps that are */
    int rank_now;
    fibre *now;
    int ended;
    int arrived; /* at the cluster's barrier */
    uint64_t phase;
    uint64_t random;
    int order;
    bool wanders;  /* may leave a warp that could go on */
    bool clusters; /* the device has them, and asynchronous copies */
};

/* The grid of the calling thread; it fails outside a kernel. */
grid &running_grid();

static inline block &own_block(grid &g) {
    return g.blocks[static_cast<size_t>(g.now->rank)];
}

static inline warp &warp_of(block &b, int thread) {
    return b.warps[static_cast<size_t>(thread / WARP)];
}

static inline int cluster_threads(const grid &g) {
    return g.shape.cluster * g.shape.threads;
}

/* The current fibre goes on when it has been woken. */
void wait_in(grid &g, const char *function);
void wake(grid &g, int rank, int warp, uint32_t lanes);

/* Whether an object is in the shared memory of the block. */
bool in_shared(const grid &g, const block &b, const void *address, size_t bytes);

/* Complains of copies that were never waited for. */
void end_copies(const block &b);

} // namespace fibres

#endif
