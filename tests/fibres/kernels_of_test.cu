#include "kernels_of_test.h"

#include "cuda/primitives.cuh"

/* --- sums ---------------------------------------------------------------------------------------------- */

struct sum_arguments {
    const float *values;
    float *sums;
    int missing;
};

struct sum_state {
    float warps[WARP];
    float blocks[8];
};

DEVICE float sum_of_warp(float value) {
    for (int mask = WARP / 2; mask > 0; mask /= 2)
        value += shuffle_xor(value, mask);
    return value;
}

KERNEL(256, 1) sum_kernel(const sum_arguments a) {
    sum_state *const state = reinterpret_cast<sum_state *>(shared_memory());
    const int64_t block = cluster_index() * cluster_size() + cluster_rank();
    cluster_arrive();
    float sum = sum_of_warp(a.values[block * thread_count() + thread_index()]);
    if (thread_index() % WARP == 0)
        state->warps[thread_index() / WARP] = sum;
    block_barrier();
    sum = sum_of_warp(thread_index() < thread_count() / WARP ? state->warps[thread_index() % WARP] : 0);
    cluster_wait();
    if (thread_index() < cluster_size())
        *cluster_address(&state->blocks[cluster_rank()], thread_index()) = sum_of_warp(0) + sum;
    else if (thread_index() < WARP)
        (void)sum_of_warp(0);
    cluster_arrive();
    cluster_wait();
    if (cluster_rank() != 0 || thread_index() != 0)
        return;
    float total = 0;
    for (int i = 0; i < cluster_size(); ++i)
        total += state->blocks[i];
    a.sums[cluster_index()] = total;
}

int kernel_sum(const float *values, float *sums, int64_t clusters, int cluster, int threads) {
    const sum_arguments arguments = {values, sums, 0};
    const launch_shape shape = {clusters, cluster, threads, sizeof(sum_state), NULL};
    return launch(sum_kernel, shape, arguments);
}

KERNEL(256, 1) racy_sum(const sum_arguments a) {
    float *const warps = reinterpret_cast<float *>(shared_memory());
    for (int round = 0; round < ROUNDS; ++round) {
        const float part = sum_of_warp(a.values[thread_index()] * (float)(round + 1));
        if (thread_index() % WARP == 0)
            warps[thread_index() / WARP] = part;
        if (a.missing != 1)
            block_barrier();
        float sum = 0;
        for (int i = 0; i < thread_count() / WARP; ++i)
            sum += warps[i];
        a.sums[round * thread_count() + thread_index()] = sum;
        if (a.missing != 2)
            block_barrier();
    }
}

int kernel_racy_sum(const float *values, float *sums, int threads, int missing) {
    const sum_arguments arguments = {values, sums, missing};
    const launch_shape shape = {1, 1, threads, sizeof(float) * (size_t)threads / WARP, NULL};
    return launch(racy_sum, shape, arguments);
}

/* --- clusters ------------------------------------------------------------------------------------------ */

struct cluster_arguments {
    int *out;
    int missing;
};

DEVICE void meet(bool meets) {
    if (!meets)
        return;
    cluster_arrive();
    cluster_wait();
}

KERNEL(32, 1) racy_cluster(const cluster_arguments a) {
    int *const told = reinterpret_cast<int *>(shared_memory());
    const int other = 1 - cluster_rank();
    meet(a.missing != 1);
    if (thread_index() == 0)
        cluster_address(told, other)[0] = cluster_rank();
    meet(a.missing != 2);
    if (thread_index() == 0)
        a.out[cluster_rank()] = cluster_address(told, cluster_rank())[0];
    if (thread_index() == 0)
        a.out[2 + cluster_rank()] = cluster_address(told, other)[0];
    meet(a.missing != 3);
}

int kernel_racy_cluster(int *out, int missing) {
    const cluster_arguments arguments = {out, missing};
    const launch_shape shape = {1, 2, WARP, sizeof(int), NULL};
    return launch(racy_cluster, shape, arguments);
}

/* --- copies -------------------------------------------------------------------------------------------- */

struct copy_arguments {
    const float *from;
    float *out;
    float *early;
    int granules;
};

KERNEL(64, 1) copy_kernel(const copy_arguments a) {
    uint64_t *const barrier = reinterpret_cast<uint64_t *>(shared_memory());
    granule *const here = reinterpret_cast<granule *>(shared_memory() + 128);
    if (thread_index() == 0)
        bulk_barrier_init(barrier);
    block_barrier();
    if (thread_index() == WARP) {
        bulk_copy(here, a.from, (uint32_t)((size_t)a.granules * sizeof(granule)), barrier);
        if (a.granules > 0)
            a.early[0] = float_of_bits(here[0].words[0]);
    }
    bulk_wait(barrier);
    for (int i = thread_index(); i < a.granules; i += thread_count())
        store_granule(a.out + 4 * i, load_granule(here + i));
}

int kernel_copy(const float *from, float *out, float *early, int granules) {
    const copy_arguments arguments = {from, out, early, granules};
    const launch_shape shape = {1, 1, 2 * WARP, 128 + (size_t)granules * sizeof(granule), NULL};
    return launch(copy_kernel, shape, arguments);
}

/* --- places and shuffles ------------------------------------------------------------------------------- */

KERNEL(1024, 1) places_kernel(int64_t *const places) {
    const int64_t block = cluster_index() * cluster_size() + cluster_rank();
    int64_t *const mine = places + 6 * (block * thread_count() + thread_index());
    mine[0] = thread_index();
    mine[1] = thread_count();
    mine[2] = cluster_rank();
    mine[3] = cluster_size();
    mine[4] = cluster_index();
    mine[5] = cluster_count();
}

int kernel_places(int64_t *places, int64_t clusters, int cluster, int threads) {
    const launch_shape shape = {clusters, cluster, threads, 0, NULL};
    return launch(places_kernel, shape, places);
}

struct shuffle_arguments {
    const shuffled *in;
    shuffled *out;
    shuffled *up;
    int mask;
    int delta;
};

KERNEL(32, 1) shuffle_kernel(const shuffle_arguments a) {
    const int i = thread_index();
    a.out->floats[i] = shuffle_xor(a.in->floats[i], a.mask);
    a.out->doubles[i] = shuffle_xor(a.in->doubles[i], a.mask);
    a.out->ints[i] = shuffle_xor(a.in->ints[i], a.mask);
    a.out->longs[i] = shuffle_xor(a.in->longs[i], a.mask);
    a.out->words[i] = shuffle_xor(a.in->words[i], a.mask);
    a.up->floats[i] = shuffle_up(a.in->floats[i], a.delta);
    a.up->doubles[i] = shuffle_up(a.in->doubles[i], a.delta);
    a.up->ints[i] = shuffle_up(a.in->ints[i], a.delta);
    a.up->longs[i] = shuffle_up(a.in->longs[i], a.delta);
    a.up->words[i] = shuffle_up(a.in->words[i], a.delta);
}

int kernel_shuffles(const shuffled *in, shuffled *out, shuffled *up, int mask, int delta) {
    const shuffle_arguments arguments = {in, out, up, mask, delta};
    const launch_shape shape = {1, 1, WARP, 0, NULL};
    return launch(shuffle_kernel, shape, arguments);
}

KERNEL(1024, 1) nothing(int) {
}

int kernel_nothing(int64_t clusters, int cluster, int threads, size_t shared_bytes) {
    const launch_shape shape = {clusters, cluster, threads, shared_bytes, NULL, 232448};
    return launch(nothing, shape, 0);
}
