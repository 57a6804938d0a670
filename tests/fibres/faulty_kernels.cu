/* Kernels that do one thing wrong each, some of which nvcc would not even compile. */
#include "kernels_of_test.h"

#include "cuda/primitives.cuh"

enum { SHARED = 1024, FAULTY_BLOCK = 1, FAULTY_THREAD = 3 };

struct fault_arguments {
    fault what;
    unsigned char *global; /* 64 bytes on a multiple of 16 */
};

DEVICE void shuffle_wrongly(fault what, bool faulty) {
    switch (what) {
    case FAULT_LANE_STAYS_AWAY:
        if (faulty)
            block_barrier();
        break;
    case FAULT_OTHER_SHUFFLE:
        if (faulty)
            (void)shuffle_xor(1.0, 2);
        break;
    case FAULT_SHUFFLE_RANGE:
        if (faulty)
            (void)shuffle_xor(1.0F, WARP);
        break;
    default: return;
    }
    (void)shuffle_xor(1.0F, 1);
    if (what == FAULT_LANE_STAYS_AWAY && !faulty)
        block_barrier();
}

DEVICE void meet_wrongly(fault what, bool faulty) {
    switch (what) {
    case FAULT_LANE_RETURNED:
        if (!faulty)
            (void)shuffle_up(1, 1);
        break;
    case FAULT_RETURNED:
        if (!faulty)
            block_barrier();
        break;
    case FAULT_OTHERS_RETURNED:
        if (faulty)
            block_barrier();
        break;
    case FAULT_NO_CLUSTER_ARRIVE:
        if (!faulty) {
            cluster_arrive();
            cluster_wait();
        }
        break;
    case FAULT_ARRIVE_TWICE:
    case FAULT_NO_CLUSTER_WAIT:
        if (faulty)
            cluster_arrive();
        if (faulty && what == FAULT_ARRIVE_TWICE)
            cluster_arrive();
        break;
    case FAULT_WAIT_FIRST:
        if (faulty)
            cluster_wait();
        break;
    default: break;
    }
}

DEVICE void address_wrongly(fault what, unsigned char *global) {
    unsigned char *const shared = shared_memory();
    switch (what) {
    case FAULT_LOAD: (void)load_granule(global + 8); break;
    case FAULT_STORE: store_granule(global + 8, load_granule(global)); break;
    case FAULT_ADDRESS_OUTSIDE: (void)cluster_address(global, 0); break;
    case FAULT_ADDRESS_RANK: (void)cluster_address(shared, 2); break;
    case FAULT_BEYOND_SHARED: ((volatile unsigned char *)shared)[SHARED] = 1; break;
    case FAULT_LAUNCH_IN_KERNEL: (void)kernel_nothing(1, 1, WARP, 0); break;
    default: break;
    }
}

DEVICE void copy_wrongly(fault what, unsigned char *global) {
    unsigned char *const shared = shared_memory();
    uint64_t *const barrier = reinterpret_cast<uint64_t *>(shared);
    unsigned char *const to = shared + 16;
    if (what == FAULT_BARRIER_OUTSIDE)
        bulk_barrier_init(reinterpret_cast<uint64_t *>(shared + SHARED - 4));
    if (what != FAULT_COPY_WITHOUT_BARRIER)
        bulk_barrier_init(barrier);
    if (what == FAULT_BARRIER_AGAIN)
        bulk_barrier_init(barrier);
    if (what == FAULT_BARRIER_WRITTEN_OVER)
        *barrier = 0;
    switch (what) {
    case FAULT_COPY_ALIGNMENT: bulk_copy(to, global + 4, 16, barrier); break;
    case FAULT_COPY_SIZE: bulk_copy(to, global, 8, barrier); break;
    case FAULT_COPY_OUTSIDE: bulk_copy(shared + SHARED - 16, global, 32, barrier); break;
    case FAULT_COPY_SHARED: bulk_copy(to, to + 16, 16, barrier); break;
    case FAULT_COPY_NEVER_BEGUN: break;
    default: bulk_copy(to, global, 16, barrier); break;
    }
    if (what == FAULT_COPY_TWICE)
        bulk_copy(to, global, 16, barrier);
    if (what != FAULT_COPY_LEFT)
        bulk_wait(barrier);
}

/* The barrier is another thread's. */
DEVICE void wait_too_early(bool faulty) {
    uint64_t *const barrier = reinterpret_cast<uint64_t *>(shared_memory());
    if (thread_index() == 0)
        bulk_barrier_init(barrier);
    else if (faulty)
        bulk_wait(barrier);
}

KERNEL(64, 1) faulty_kernel(const fault_arguments a) {
    const bool in_faulty = cluster_rank() == FAULTY_BLOCK;
    const bool faulty = in_faulty && thread_index() == FAULTY_THREAD;
    if (a.what == FAULT_SHARED_TOO_EARLY && !in_faulty)
        *(volatile unsigned char *)cluster_address(shared_memory(), 1) = 1;
    if (a.what == FAULT_ADDRESS_ENDED && faulty)
        (void)cluster_address(shared_memory(), 0);
    if (!in_faulty)
        return;
    shuffle_wrongly(a.what, faulty);
    meet_wrongly(a.what, faulty);
    if (a.what == FAULT_BARRIER_TOO_EARLY)
        wait_too_early(faulty);
    else if (faulty && a.what >= FAULT_COPY_ALIGNMENT)
        copy_wrongly(a.what, a.global);
    else if (faulty)
        address_wrongly(a.what, a.global);
}

int kernel_fault(fault what, void *global) {
    const fault_arguments arguments = {what, static_cast<unsigned char *>(global)};
    const launch_shape shape = {1, 2, 2 * WARP, SHARED, NULL};
    return launch(faulty_kernel, shape, arguments);
}
