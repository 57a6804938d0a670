/* Kernels for the tests of the harness; each function launches one and returns its error. */
#ifndef VISATB_TESTS_FIBRES_KERNELS_OF_TEST_H
#define VISATB_TESTS_FIBRES_KERNELS_OF_TEST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LANES = 32, ROUNDS = 3 };

/* sums[cluster] = the sum of the values of the cluster's blocks, one value a thread, by shuffles, shared
 * memory and cluster_address. */
int kernel_sum(const float *values, float *sums, int64_t clusters, int cluster, int threads);

/* One block that adds up its values ROUNDS times, without one of its two barriers or (0) with both: before
 * the sums of the warps are read (1), or before they are written in the next round (2). */
int kernel_racy_sum(const float *values, float *sums, int threads, int missing);

/* The same of what a cluster of 2 blocks tells each other: no barrier before the other's memory is written
 * to (1), read (2), or left (3). out[rank] = the other's rank. */
int kernel_racy_cluster(int *out, int missing);

/* out[i] = the i-th granule, after a bulk copy; early[0] = its first float as it is before the wait. */
int kernel_copy(const float *from, float *out, float *early, int granules);

/* Every thread writes where it is: thread, threads, rank, blocks, cluster, clusters. */
int kernel_places(int64_t *places, int64_t clusters, int cluster, int threads);

/* out[thread] = value[thread ^ mask], and up[thread] = value[thread - delta], of 32 threads. */
struct shuffled {
    float floats[LANES];
    double doubles[LANES];
    int32_t ints[LANES];
    int64_t longs[LANES];
    uint32_t words[LANES];
};
int kernel_shuffles(const struct shuffled *in, struct shuffled *out, struct shuffled *up, int mask,
                    int delta);

/* Does nothing, in any shape. */
int kernel_nothing(int64_t clusters, int cluster, int threads, size_t shared_bytes);

/* What a kernel can do wrong; by thread 3 of block 1 of a cluster of 2, with 1024 bytes of shared memory. */
enum fault {
    FAULT_LANE_STAYS_AWAY,
    FAULT_OTHER_SHUFFLE,
    FAULT_SHUFFLE_RANGE,
    FAULT_LANE_RETURNED,
    FAULT_RETURNED,
    FAULT_OTHERS_RETURNED,
    FAULT_NO_CLUSTER_ARRIVE,
    FAULT_ARRIVE_TWICE,
    FAULT_NO_CLUSTER_WAIT,
    FAULT_WAIT_FIRST,
    FAULT_LOAD,
    FAULT_STORE,
    FAULT_ADDRESS_OUTSIDE,
    FAULT_ADDRESS_RANK,
    FAULT_ADDRESS_ENDED,
    FAULT_LAUNCH_IN_KERNEL,
    FAULT_BEYOND_SHARED,    /* only ASan sees it */
    FAULT_SHARED_TOO_EARLY, /* likewise */
    FAULT_COPY_ALIGNMENT,
    FAULT_COPY_SIZE,
    FAULT_COPY_OUTSIDE,
    FAULT_COPY_SHARED,
    FAULT_COPY_WITHOUT_BARRIER,
    FAULT_COPY_TWICE,
    FAULT_COPY_LEFT,
    FAULT_COPY_NEVER_BEGUN,
    FAULT_BARRIER_TOO_EARLY,
    FAULT_BARRIER_AGAIN,
    FAULT_BARRIER_WRITTEN_OVER,
    FAULT_BARRIER_OUTSIDE,
};
int kernel_fault(enum fault fault, void *global);

/* Calls what only a kernel may call. */
int kernel_outside(int unused);

uint32_t number_pack_bf16(float low, float high);
uint32_t number_pack_half(float low, float high);
float number_widen_half(uint32_t bits);
float number_exp2(float x);
float number_maximum(float a, float b);

#ifdef __cplusplus
}
#endif

#endif
