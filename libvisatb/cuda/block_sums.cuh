/* Sums over the threads of a block, always added in the same order. */
#ifndef VISATB_CUDA_BLOCK_SUMS_CUH
#define VISATB_CUDA_BLOCK_SUMS_CUH

#include "cuda/primitives.cuh"

/* At most; a warp's threads add up what the warps have. */
enum { SUM_THREADS = 1024, SUM_WARPS = SUM_THREADS / WARP };
static_assert((int)SUM_WARPS <= (int)WARP, "a warp has a thread for each warp");

/* No more threads than there are values, in whole warps. */
static inline int sum_threads(int64_t values) {
    const int64_t warps = (values + WARP - 1) / WARP;
    const int64_t most = SUM_WARPS;
    return (int)(warps < 1 ? 1 : warps < most ? warps : most) * WARP;
}

/* What the warp with this thread's number put into its place; `nothing` where there is none. */
template <typename T> DEVICE T place_of_lane(const T *places, T nothing) {
    const int lane = thread_index() % WARP;
    return lane < thread_count() / WARP ? places[lane] : nothing;
}

/* The sum of a value of each thread, in all of them. `places` is shared memory, [SUM_WARPS]. */
template <typename T> DEVICE T sum_over_block(T value, T *places) {
    for (int mask = WARP / 2; mask > 0; mask /= 2)
        value += shuffle_xor(value, mask);
    if (thread_index() % WARP == 0)
        places[thread_index() / WARP] = value;
    block_barrier();
    T sum = place_of_lane(places, (T)0);
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
    int64_t least = place_of_lane(places, INT64_MAX);
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
    const int64_t up_to_warp = sum_up_to_lane(place_of_lane(places, (int64_t)0));
    block_barrier();
    if (warp == 0)
        places[lane] = up_to_warp;
    block_barrier();
    const int64_t of_warps_before = warp > 0 ? places[warp - 1] : 0;
    block_barrier();
    return of_warps_before + up_to_lane - value;
}

#endif
