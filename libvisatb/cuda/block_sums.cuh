/* Sums over the threads of a block of SUM_THREADS, always added in the same order. */
#ifndef VISATB_CUDA_BLOCK_SUMS_CUH
#define VISATB_CUDA_BLOCK_SUMS_CUH

#include "cuda/primitives.cuh"

enum { SUM_THREADS = 1024, SUM_WARPS = SUM_THREADS / WARP };

/* The last step of each is one warp's, with a warp of the block for each of its threads. */
static_assert((int)SUM_WARPS == (int)WARP, "one warp adds up what the warps have");

/* The sum of a value of each thread, in all of them. `places` is shared memory, [SUM_WARPS]. */
template <typename T> DEVICE T sum_over_block(T value, T *places) {
    for (int mask = WARP / 2; mask > 0; mask /= 2)
        value += shuffle_xor(value, mask);
    if (thread_index() % WARP == 0)
        places[thread_index() / WARP] = value;
    block_barrier();
    T sum = places[thread_index() % WARP];
    block_barrier(); /* before the places are written for something else */
    for (int mask = WARP / 2; mask > 0; mask /= 2)
        sum += shuffle_xor(sum, mask);
    return sum;
}

/* The smallest of a value of each thread, likewise. */
DEVICE int64_t least_of_block(int64_t value, int64_t *places) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        const int64_t other = shuffle_xor(value, mask);
        value = other < value ? other : value;
    }
    if (thread_index() % WARP == 0)
        places[thread_index() / WARP] = value;
    block_barrier();
    int64_t least = places[thread_index() % WARP];
    block_barrier();
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        const int64_t other = shuffle_xor(least, mask);
        least = other < least ? other : least;
    }
    return least;
}

/* The sum of the values of the warp's threads up to this one. */
DEVICE int64_t sum_up_to_lane(int64_t value) {
    for (int delta = 1; delta < WARP; delta *= 2) {
        const int64_t before = shuffle_up(value, delta);
        if (thread_index() % WARP >= delta)
            value += before;
    }
    return value;
}

/* The sum of the values of the block's threads before this one. */
DEVICE int64_t sum_before(int64_t value, int64_t *places) {
    const int lane = thread_index() % WARP;
    const int warp = thread_index() / WARP;
    const int64_t up_to_lane = sum_up_to_lane(value);
    if (lane == WARP - 1)
        places[warp] = up_to_lane;
    block_barrier();
    const int64_t up_to_warp = sum_up_to_lane(places[lane]);
    block_barrier();
    if (warp == 0)
        places[lane] = up_to_warp;
    block_barrier();
    const int64_t of_warps_before = warp > 0 ? places[warp - 1] : 0;
    block_barrier();
    return of_warps_before + up_to_lane - value;
}

#endif
