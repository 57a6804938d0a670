/* Asynchronous copies. Until it is waited for, a copy's destination holds NaN and its source may still
 * change: on a GPU, either might be so. */
#include "scheduler.h"

using fibres::bulk_state;
using fibres::copy_state;
using fibres::fail;
using fibres::running_grid;

/* What a barrier holds once it is made. */
static const uint64_t MARK = UINT64_C(0xba441e4ba441e400);

static bulk_state *find(fibres::block &b, const uint64_t *barrier) {
    for (bulk_state &s : b.copies)
        if (s.barrier == barrier)
            return &s;
    return nullptr;
}

/* What a thread does before another waits for it is seen by that one from the next epoch on. */
static uint64_t epoch_of(const fibres::grid &g, const fibres::block &b) {
    return b.barriers + g.phase;
}

/* The barrier, if the thread may use it. */
static bulk_state &usable(fibres::grid &g, const char *function, const uint64_t *barrier) {
    fibres::block &b = own_block(g);
    bulk_state *const found = find(b, barrier);
    if (found == nullptr)
        fail("%s with a barrier at %p that was not made by bulk_barrier_init", function,
             static_cast<const void *>(barrier));
    if (found->thread != g.now->thread && found->epoch == epoch_of(g, b))
        fail("%s with a barrier that thread %d made, and no block_barrier since", function, found->thread);
    if (*barrier != MARK)
        fail("%s with a barrier that was written over", function);
    return *found;
}

static void need_device(const fibres::grid &g, const char *function) {
    if (!g.clusters)
        fail("%s needs compute capability 9.0", function);
}

void bulk_barrier_init(uint64_t *barrier) {
    fibres::grid &g = running_grid();
    fibres::block &b = own_block(g);
    need_device(g, "bulk_barrier_init");
    if (!in_shared(g, b, barrier, sizeof *barrier) || reinterpret_cast<uintptr_t>(barrier) % 8 != 0)
        fail("bulk_barrier_init at %p, which is not aligned in the block's shared memory",
             static_cast<void *>(barrier));
    if (find(b, barrier) != nullptr)
        fail("bulk_barrier_init of the same barrier again");
    *barrier = MARK;
    b.copies.push_back({barrier, g.now->thread, epoch_of(g, b), copy_state::READY, nullptr, nullptr, 0});
}

static void check_copy(const fibres::grid &g, const fibres::block &b, const bulk_state &s) {
    if (reinterpret_cast<uintptr_t>(s.to) % 16 != 0 || reinterpret_cast<uintptr_t>(s.from) % 16 != 0 ||
        s.bytes % 16 != 0)
        fail("bulk_copy of %u bytes from %p to %p: not all are multiples of 16", s.bytes, s.from, s.to);
    if (!in_shared(g, b, s.to, s.bytes))
        fail("bulk_copy of %u bytes to %p, which is not in the block's shared memory", s.bytes, s.to);
    if (in_shared(g, b, s.from, 1))
        fail("bulk_copy from the block's shared memory");
}

void bulk_copy(void *to_shared, const void *from, uint32_t bytes, uint64_t *barrier) {
    fibres::grid &g = running_grid();
    fibres::block &b = own_block(g);
    need_device(g, "bulk_copy");
    bulk_state &s = usable(g, "bulk_copy", barrier);
    if (s.state != copy_state::READY)
        fail("bulk_copy with a barrier that has had its copy");
    s.to = to_shared;
    s.from = from;
    s.bytes = bytes;
    s.state = copy_state::UNDER_WAY;
    if (bytes > 0) {
        check_copy(g, b, s);
        std::memset(to_shared, 0xff, bytes);
    }
    for (fibres::warp &w : b.warps)
        for (fibres::fibre &f : w.lanes)
            if (f.copy == barrier)
                wake(g, f.rank, f.thread / WARP, 1U << (f.thread % WARP));
}

void bulk_wait(uint64_t *barrier) {
    fibres::grid &g = running_grid();
    need_device(g, "bulk_wait");
    fibres::fibre &self = *g.now;
    if (usable(g, "bulk_wait", barrier).state == copy_state::READY) {
        self.copy = barrier;
        wait_in(g, "bulk_wait");
        self.copy = nullptr;
    }
    bulk_state &s = usable(g, "bulk_wait", barrier);
    if (s.state == copy_state::UNDER_WAY && s.bytes > 0)
        std::memcpy(s.to, s.from, s.bytes);
    s.state = copy_state::DONE;
}

void fibres::end_copies(const block &b) {
    for (const bulk_state &s : b.copies)
        if (s.state == copy_state::UNDER_WAY)
            fail("the block ended, and a bulk_copy of its was not waited for");
}
