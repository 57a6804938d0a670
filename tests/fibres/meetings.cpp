/* The place of a thread, barriers, and shuffles. */
#include "scheduler.h"

using fibres::fail;
using fibres::running_grid;

int thread_index() {
    return running_grid().now->thread;
}

int thread_count() {
    return running_grid().shape.threads;
}

int cluster_rank() {
    return running_grid().now->rank;
}

int cluster_size() {
    return running_grid().shape.cluster;
}

int64_t cluster_index() {
    return running_grid().cluster;
}

int64_t cluster_count() {
    return running_grid().shape.clusters;
}

unsigned char *shared_memory() {
    return own_block(running_grid()).shared;
}

void block_barrier() {
    fibres::grid &g = running_grid();
    fibres::block &b = own_block(g);
    if (b.ended > 0)
        fail("divergent barrier: at block_barrier, while %d of %d threads of the block have returned",
             b.ended, g.shape.threads);
    if (++b.arrived < g.shape.threads) {
        wait_in(g, "block_barrier");
        return;
    }
    b.arrived = 0;
    ++b.barriers;
    for (int i = 0; i < g.shape.threads / WARP; ++i)
        wake(g, g.now->rank, i, ~0U);
}

void cluster_arrive() {
    fibres::grid &g = running_grid();
    if (!g.clusters)
        return;
    fibres::fibre &self = *g.now;
    if (self.arrived)
        fail("cluster_arrive twice without cluster_wait");
    self.arrived = true;
    self.arrival_phase = g.phase;
    if (++g.arrived < cluster_threads(g))
        return;
    g.arrived = 0;
    ++g.phase;
    for (int rank = 0; rank < g.shape.cluster; ++rank)
        for (int i = 0; i < g.shape.threads / WARP; ++i) {
            fibres::warp &w = warp_of(g.blocks[static_cast<size_t>(rank)], i * WARP);
            wake(g, rank, i, w.in_cluster_wait);
            w.in_cluster_wait = 0;
        }
}

void cluster_wait() {
    fibres::grid &g = running_grid();
    if (!g.clusters)
        return;
    fibres::fibre &self = *g.now;
    if (!self.arrived)
        fail("cluster_wait without cluster_arrive");
    if (g.phase == self.arrival_phase) {
        warp_of(own_block(g), self.thread).in_cluster_wait |= 1U << (self.thread % WARP);
        wait_in(g, "cluster_wait");
    }
    self.arrived = false;
}

namespace fibres {

bool in_shared(const grid &g, const block &b, const void *address, size_t bytes) {
    const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(b.shared);
    return offset <= g.shape.shared_bytes && bytes <= g.shape.shared_bytes - offset;
}

void *address_in_cluster(void *own, size_t bytes, int rank) {
    grid &g = running_grid();
    const block &b = own_block(g);
    if (!in_shared(g, b, own, bytes))
        fail("cluster_address of %p, which is not in the block's shared memory", own);
    if (rank < 0 || rank >= g.shape.cluster)
        fail("cluster_address in block %d of a cluster of %d", rank, g.shape.cluster);
    const block &other = g.blocks[static_cast<size_t>(rank)];
    if (other.ended == g.shape.threads)
        fail("cluster_address in block %d, which has ended", rank);
    return other.shared + (static_cast<unsigned char *>(own) - b.shared);
}

void need_aligned(const char *function, const void *address) {
    if (reinterpret_cast<uintptr_t>(address) % sizeof(granule) != 0)
        fail("%s at %p, which is no multiple of 16", function, address);
}

/* The value of lane `source`, when all lanes have come. The last one goes on at once, perhaps into the next
 * exchange; into the one after that it can come only when all have read this one's values. */
static uint64_t exchange(const char *function, uint64_t bits, size_t bytes, int operand, int source) {
    grid &g = running_grid();
    const int lane = g.now->thread % WARP;
    warp &w = warp_of(own_block(g), g.now->thread);
    if (w.ended != 0)
        fail("%s, while %d lanes of its warp have returned", function, __builtin_popcount(w.ended));
    if (w.came == 0) {
        w.function = function;
        w.bytes = bytes;
        w.operand = operand;
    } else if (w.function != function || w.bytes != bytes || w.operand != operand) {
        fail("%s of %zu bytes by %d, while others of its warp are at %s of %zu bytes by %d", function, bytes,
             operand, w.function, w.bytes, w.operand);
    }
    const uint64_t *const values = w.values[w.exchange % 2];
    w.values[w.exchange % 2][lane] = bits;
    w.came |= 1U << lane;
    if (w.came != ~0U) {
        wait_in(g, function);
    } else {
        w.came = 0;
        ++w.exchange;
        wake(g, g.now->rank, g.now->thread / WARP, ~0U);
    }
    return values[source];
}

uint64_t exchange_xor(uint64_t bits, size_t bytes, int mask) {
    static const char name[] = "shuffle_xor";
    if (mask < 0 || mask >= WARP)
        fail("%s by %d", name, mask);
    return exchange(name, bits, bytes, mask, (thread_index() % WARP) ^ mask);
}

uint64_t exchange_up(uint64_t bits, size_t bytes, int delta) {
    static const char name[] = "shuffle_up";
    if (delta < 0 || delta >= WARP)
        fail("%s by %d", name, delta);
    const int lane = thread_index() % WARP;
    return exchange(name, bits, bytes, delta, lane >= delta ? lane - delta : lane);
}

} // namespace fibres
