/* Everything in a kernel that only a GPU has: the place of a thread, barriers, shuffles, asynchronous copies,
 * clusters, a few instructions, and the launch. Kernels are written with these and with plain C++; so the
 * tests can compile the same kernels for the CPU, with another set of the same functions (tests/fibres). */
#ifndef VISATB_CUDA_PRIMITIVES_CUH
#define VISATB_CUDA_PRIMITIVES_CUH

#include <stddef.h>
#include <stdint.h>

/* How a kernel is launched. Blocks come in clusters of `cluster`, which share what shared memory they have.
 */
struct launch_shape {
    int64_t clusters;    /* <= 2^31 - 1 blocks in all */
    int cluster;         /* 1, 2, 4 or 8; more than 1 needs compute capability 9.0 */
    int threads;         /* of a block, a multiple of WARP */
    size_t shared_bytes; /* of a block */
    void *stream;
    size_t shared_limit = 0; /* beyond 48 KB: the most that any launch of the kernel here may ask for */
};

/* What loads and stores of 16 bytes move; its address is a multiple of 16. */
struct alignas(16) granule {
    uint32_t words[4];
};

enum { WARP = 32 };

#ifndef __CUDACC__
#include "fibres.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define KERNEL(most_threads, blocks) static __global__ void __launch_bounds__(most_threads, blocks)
#define DEVICE static __device__ __forceinline__

/* Code for which the GPU needs compute capability 9.0; on older ones it is there and never called. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define HOPPER 0
#else
#define HOPPER 1
#endif

/* --- the place of a thread ---------------------------------------------------------------------------- */

DEVICE int thread_index() {
    return (int)threadIdx.x;
}

DEVICE int thread_count() {
    return (int)blockDim.x;
}

/* The block's number in its cluster. */
DEVICE int cluster_rank() {
#if HOPPER
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return (int)rank;
#else
    return 0;
#endif
}

DEVICE int cluster_size() {
#if HOPPER
    uint32_t size;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return (int)size;
#else
    return 1;
#endif
}

DEVICE int64_t cluster_index() {
    return (int64_t)(blockIdx.x / (uint32_t)cluster_size());
}

DEVICE int64_t cluster_count() {
    return (int64_t)(gridDim.x / (uint32_t)cluster_size());
}

/* --- shared memory and barriers ----------------------------------------------------------------------- */

/* The block's shared memory, launch_shape.shared_bytes of it, on a multiple of 128. */
DEVICE unsigned char *shared_memory() {
    extern __shared__ __align__(128) unsigned char memory[];
    return memory;
}

DEVICE void block_barrier() {
    __syncthreads();
}

/* The two halves of a barrier for all threads of a cluster, always one and then the other: what they wrote
 * before they arrived can be read after the wait. No block of a cluster may touch another's memory before the
 * first such barrier, or after the last. */
DEVICE void cluster_arrive() {
#if HOPPER
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}

DEVICE void cluster_wait() {
#if HOPPER
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

/* Where the variable that this block has at `own` is in block `rank` of its cluster. */
template <typename T> DEVICE T *cluster_address(T *own, int rank) {
#if HOPPER
    T *there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(own), "r"(rank));
    return there;
#else
    (void)rank;
    return own;
#endif
}

/* --- warps: all of its threads call these together ----------------------------------------------------- */

template <typename T> DEVICE T shuffle_xor(T value, int mask) {
    return __shfl_xor_sync(0xffffffffU, value, mask);
}

/* The value of the thread `delta` before; its own for the first ones. */
template <typename T> DEVICE T shuffle_up(T value, int delta) {
    return __shfl_up_sync(0xffffffffU, value, (unsigned)delta);
}

/* --- memory ------------------------------------------------------------------------------------------- */

DEVICE granule load_granule(const void *from) {
    const uint4 bits = *static_cast<const uint4 *>(from);
    return {{bits.x, bits.y, bits.z, bits.w}};
}

/* To memory that this kernel will not read again. */
DEVICE void store_granule(void *to, const granule &g) {
    __stcs(static_cast<uint4 *>(to), make_uint4(g.words[0], g.words[1], g.words[2], g.words[3]));
}

/* --- asynchronous copies: by one thread, waited for by all that read
 * --------------------------------------------- */

/* Readies a barrier in shared memory for one copy, which is waited for before the block ends. The other
 * threads of the block see it after a block_barrier. */
DEVICE void bulk_barrier_init(uint64_t *barrier) {
#if HOPPER
    const uint32_t place = (uint32_t)__cvta_generic_to_shared(barrier);
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(place) : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* Begins the barrier's one copy; addresses and size are multiples of 16, and 0 bytes are fine. */
DEVICE void bulk_copy(void *to_shared, const void *from, uint32_t bytes, uint64_t *barrier) {
#if HOPPER
    const uint32_t place = (uint32_t)__cvta_generic_to_shared(barrier);
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(to_shared);
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(place), "r"(bytes)
                 : "memory");
    if (bytes > 0)
        asm volatile(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                to),
            "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(place)
            : "memory");
#endif
}

/* Returns when the copy is there for this thread to read. */
DEVICE void bulk_wait(uint64_t *barrier) {
#if HOPPER
    const uint32_t place = (uint32_t)__cvta_generic_to_shared(barrier);
    uint32_t done = 0;
    while (!done)
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; "
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(done)
                     : "r"(place)
                     : "memory");
#endif
}

/* --- instructions ------------------------------------------------------------------------------------- */

/* 2^x within 2.4e-7 of its value; 0 below 2^-126. */
DEVICE float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* The larger one; NaN if either is. */
DEVICE float maximum(float a, float b) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}

/* Two values rounded to bf16 or fp16, to the nearest, ties to even; the first in the low half. */
DEVICE uint32_t pack_bf16(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

DEVICE uint32_t pack_half(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

/* The fp16 in the low half, as it is. */
DEVICE float widen_half(uint32_t bits) {
    return __half2float(__ushort_as_half((unsigned short)bits));
}

DEVICE uint32_t bits_of_float(float value) {
    return __float_as_uint(value);
}

DEVICE float float_of_bits(uint32_t bits) {
    return __uint_as_float(bits);
}

/* Ends the kernel, and every later call with an error. For code that must never be reached. */
DEVICE void give_up() {
    __trap();
}

/* --- the launch --------------------------------------------------------------------------------------- */

/* The compute capability that the kernel which this device would run was compiled for, 90 for 9.0; a
 * cudaError_t. */
template <typename Arguments> static int kernel_capability(void (*kernel)(Arguments), int *capability) {
    cudaFuncAttributes attributes = {};
    const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
    *capability = attributes.ptxVersion;
    return error;
}

/* A block gets more than 48 KB only where that was allowed before, for the kernel and not for the launch: so
 * it is allowed once, and as much as any thread's launch may need. */
template <typename Arguments>
static int allow_shared_memory(void (*kernel)(Arguments), const launch_shape &shape) {
    enum { ALWAYS_ALLOWED = 48 * 1024 };
    cudaFuncAttributes attributes = {};
    if (shape.shared_bytes <= ALWAYS_ALLOWED)
        return cudaSuccess;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
    if (error != cudaSuccess || attributes.maxDynamicSharedSizeBytes >= (int)shape.shared_bytes)
        return error;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shape.shared_limit);
}

/* Puts the kernel into the stream; a cudaError_t. */
template <typename Arguments>
static int launch(void (*kernel)(Arguments), const launch_shape &shape, const Arguments &arguments) {
    if (shape.clusters == 0)
        return cudaSuccess;
    const int error = allow_shared_memory(kernel, shape);
    if (error != cudaSuccess)
        return error;
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = (unsigned)shape.cluster;
    cluster.val.clusterDim.y = 1;
    cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(shape.clusters * shape.cluster));
    config.blockDim = dim3((unsigned)shape.threads);
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = static_cast<cudaStream_t>(shape.stream);
    config.attrs = &cluster;
    config.numAttrs = shape.cluster > 1 ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, arguments);
}

#endif /* __CUDACC__ */
#endif
