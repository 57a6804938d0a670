/* The functions of cuda/primitives.cuh on the CPU, for tests: a thread of a kernel is a fibre, the threads of
 * a cluster take turns, and the clusters of a grid run one after the other. A thread goes on until it has to
 * wait for others; which of them is next is set in fibres_control.h, and a barrier that is missing shows as a
 * wrong result under one order or another.
 *
 * What is wrong in a kernel for certain ends the program, with a line that says which thread was where:
 * threads that wait for ever or have returned from under a barrier, lanes of a warp at different shuffles,
 * addresses that are not aligned or not in the block's shared memory, barriers of copies out of their order.
 * Shared memory is as large as was asked for (ASan sees what lies beyond), reads as NaN before it is written
 * to, and belongs to no one before its block begins and after it ends. A copy fills its destination with NaN
 * and is made when it is waited for.
 *
 * What cannot be seen here: time; in which order a GPU's memory shows what was written, fences and the
 * proxies of asynchronous copies among it; a thread that reads a copy for which only another has waited;
 * threads that race while none of them waits, lanes that run in lock-step or apart; registers, banks and
 * other limits. */
#ifndef VISATB_TESTS_FIBRES_H
#define VISATB_TESTS_FIBRES_H

#include "fibres_control.h"
#include "fibres_numbers.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define KERNEL(most_threads, blocks) static void
#define DEVICE static inline
#define HOPPER 1

namespace fibres {

/* Says where the current thread is, and aborts. */
[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char *format, ...);

void need_aligned(const char *function, const void *address);
uint64_t exchange_xor(uint64_t bits, size_t bytes, int mask);
uint64_t exchange_up(uint64_t bits, size_t bytes, int delta);
void *address_in_cluster(void *own, size_t bytes, int rank);
int run(const launch_shape &shape, void (*kernel)(const void *), const void *arguments);

template <typename T> uint64_t to_bits(T value) {
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "what a GPU shuffles");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

template <typename T> T from_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace fibres

/* What these answer is always the same for one thread. */
[[gnu::const]] int thread_index();
[[gnu::const]] int thread_count();
[[gnu::const]] int cluster_rank();
[[gnu::const]] int cluster_size();
[[gnu::const]] int64_t cluster_index();
[[gnu::const]] int64_t cluster_count();
[[gnu::const]] unsigned char *shared_memory();

void block_barrier();
void cluster_arrive();
void cluster_wait();

template <typename T> static inline T *cluster_address(T *own, int rank) {
    return static_cast<T *>(fibres::address_in_cluster(own, sizeof(T), rank));
}

template <typename T> static inline T shuffle_xor(T value, int mask) {
    return fibres::from_bits<T>(fibres::exchange_xor(fibres::to_bits(value), sizeof value, mask));
}

template <typename T> static inline T shuffle_up(T value, int delta) {
    return fibres::from_bits<T>(fibres::exchange_up(fibres::to_bits(value), sizeof value, delta));
}

static inline granule load_granule(const void *from) {
    fibres::need_aligned("load_granule", from);
    granule loaded;
    std::memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

static inline void store_granule(void *to, const granule &g) {
    fibres::need_aligned("store_granule", to);
    std::memcpy(to, &g, sizeof g);
}

void bulk_barrier_init(uint64_t *barrier);
void bulk_copy(void *to_shared, const void *from, uint32_t bytes, uint64_t *barrier);
void bulk_wait(uint64_t *barrier);

namespace fibres {

template <typename Arguments> struct kernel_call {
    void (*kernel)(Arguments);
    const Arguments *arguments;

    static void make(const void *call) {
        const kernel_call &c = *static_cast<const kernel_call *>(call);
        c.kernel(*c.arguments);
    }
};

} // namespace fibres

/* What is never reached. */
inline void give_up() {
    fibres::fail("give_up: code that must never run");
}

/* As the library is said to have been built (fibres_control.h). */
template <typename Arguments> static int kernel_capability(void (*)(Arguments), int *capability) {
    *capability = fibres_current_settings()->built_for;
    return 0;
}

template <typename Arguments>
static int launch(void (*kernel)(Arguments), const launch_shape &shape, const Arguments &arguments) {
    static_assert(std::is_trivially_copyable<Arguments>::value, "arguments are copied to the GPU as bytes");
    const fibres::kernel_call<Arguments> call = {kernel, &arguments};
    return fibres::run(shape, fibres::kernel_call<Arguments>::make, &call);
}

#endif
