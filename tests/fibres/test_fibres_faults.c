/* What is wrong in a kernel for certain: the program ends with the exact line. */
#include "in_child.h"
#include "kernels_of_test.h"

#include "fibres_control.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

static _Alignas(16) unsigned char global[64];

static int make_fault(int what) {
    return kernel_fault((enum fault)what, global);
}

/* With ucontext, ASan says first that it does not quite support it. */
static const char *line_of_harness(const char *text) {
    const char *const line = strstr(text, "fibres: ");
    return line != NULL ? line : text;
}

/* A * stands for an address. */
static void expect_end(enum fault what, int thread, const char *message) {
    char text[4096], expected[512];
    const int end = run_in_child(make_fault, (int)what, text, sizeof text);
    (void)snprintf(expected, sizeof expected, "fibres: cluster 0, block 1, thread %d: %s\n", thread, message);
    const char *at = line_of_harness(text);
    for (const char *e = expected; *e != '\0'; ++e) {
        if (*e == '*')
            at += strspn(at, "0123456789abcdefx");
        else if (*e != *at++)
            fail_msg("expected %s, got %s", expected, text);
    }
    assert_string_equal(at, "");
    assert_int_equal(end, -SIGABRT);
}

static void deadlocks_are_told(void **state) {
    (void)state;
    expect_end(
        FAULT_LANE_STAYS_AWAY, 0,
        "deadlock: waits at shuffle_xor (31 of 32 lanes of its warp came); so do others, 64 in all, and "
        "none can go on");
    expect_end(
        FAULT_NO_CLUSTER_ARRIVE, 0,
        "deadlock: waits at cluster_wait (63 of 128 threads of the cluster arrived); so do others, 63 in "
        "all, and none can go on");
    expect_end(
        FAULT_COPY_NEVER_BEGUN, 3,
        "deadlock: waits at bulk_wait (no copy was begun); so do others, 1 in all, and none can go on");
}

static void lanes_must_shuffle_alike(void **state) {
    (void)state;
    expect_end(FAULT_OTHER_SHUFFLE, 3,
               "shuffle_xor of 8 bytes by 2, while others of its warp are at shuffle_xor of 4 bytes by 1");
    expect_end(FAULT_SHUFFLE_RANGE, 3, "shuffle_xor by 32");
    expect_end(FAULT_LANE_RETURNED, 4, "shuffle_up, while 1 lanes of its warp have returned");
}

static void threads_must_meet_at_barriers(void **state) {
    (void)state;
    expect_end(
        FAULT_RETURNED, 3,
        "divergent barrier: returned, while others wait at block_barrier (3 of 64 threads of the block "
        "came)");
    expect_end(FAULT_OTHERS_RETURNED, 3,
               "divergent barrier: at block_barrier, while 3 of 64 threads of the block have returned");
    expect_end(FAULT_ARRIVE_TWICE, 3, "cluster_arrive twice without cluster_wait");
    expect_end(FAULT_NO_CLUSTER_WAIT, 3, "returned after cluster_arrive without cluster_wait");
    expect_end(FAULT_WAIT_FIRST, 3, "cluster_wait without cluster_arrive");
}

static void addresses_are_checked(void **state) {
    (void)state;
    expect_end(FAULT_LOAD, 3, "load_granule at *, which is no multiple of 16");
    expect_end(FAULT_STORE, 3, "store_granule at *, which is no multiple of 16");
    expect_end(FAULT_ADDRESS_OUTSIDE, 3, "cluster_address of *, which is not in the block's shared memory");
    expect_end(FAULT_ADDRESS_RANK, 3, "cluster_address in block 2 of a cluster of 2");
    expect_end(FAULT_ADDRESS_ENDED, 3, "cluster_address in block 0, which has ended");
    expect_end(FAULT_LAUNCH_IN_KERNEL, 3, "a launch inside a kernel");
}

static void copies_are_checked(void **state) {
    (void)state;
    expect_end(FAULT_COPY_ALIGNMENT, 3, "bulk_copy of 16 bytes from * to *: not all are multiples of 16");
    expect_end(FAULT_COPY_SIZE, 3, "bulk_copy of 8 bytes from * to *: not all are multiples of 16");
    expect_end(FAULT_COPY_OUTSIDE, 3,
               "bulk_copy of 32 bytes to *, which is not in the block's shared memory");
    expect_end(FAULT_COPY_SHARED, 3, "bulk_copy from the block's shared memory");
    expect_end(FAULT_COPY_WITHOUT_BARRIER, 3,
               "bulk_copy with a barrier at * that was not made by bulk_barrier_init");
    expect_end(FAULT_COPY_TWICE, 3, "bulk_copy with a barrier that has had its copy");
    expect_end(FAULT_COPY_LEFT, 63, "the block ended, and a bulk_copy of its was not waited for");
    expect_end(FAULT_BARRIER_TOO_EARLY, 3,
               "bulk_wait with a barrier that thread 0 made, and no block_barrier since");
    expect_end(FAULT_BARRIER_AGAIN, 3, "bulk_barrier_init of the same barrier again");
    expect_end(FAULT_BARRIER_WRITTEN_OVER, 3, "bulk_copy with a barrier that was written over");
    expect_end(FAULT_BARRIER_OUTSIDE, 3,
               "bulk_barrier_init at *, which is not aligned in the block's shared memory");
}

static int call_outside(int argument) {
    return kernel_outside(argument);
}

static int use_copies_of_a_newer_gpu(int argument) {
    (void)argument;
    fibres_set_device(80, 166912, 167936);
    float unused[4];
    return kernel_copy(unused, unused, unused, 0);
}

static void other_ends(void **state) {
    (void)state;
    char text[4096];
    assert_int_equal(run_in_child(call_outside, 0, text, sizeof text), -SIGABRT);
    assert_string_equal(line_of_harness(text), "fibres: a function of kernels outside a kernel\n");
    assert_int_equal(run_in_child(use_copies_of_a_newer_gpu, 0, text, sizeof text), -SIGABRT);
    assert_string_equal(
        line_of_harness(text),
        "fibres: cluster 0, block 0, thread 0: bulk_barrier_init needs compute capability 9.0\n");
}

static void asan_sees_shared_memory_end(void **state) {
    (void)state;
#ifdef WITH_ASAN
    char text[4096];
    assert_int_not_equal(run_in_child(make_fault, FAULT_BEYOND_SHARED, text, sizeof text), 0);
    assert_non_null(strstr(text, "heap-buffer-overflow"));
    assert_int_not_equal(run_in_child(make_fault, FAULT_SHARED_TOO_EARLY, text, sizeof text), 0);
    assert_non_null(strstr(text, "use-after-poison"));
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadlocks_are_told),
        cmocka_unit_test(lanes_must_shuffle_alike),
        cmocka_unit_test(threads_must_meet_at_barriers),
        cmocka_unit_test(addresses_are_checked),
        cmocka_unit_test(copies_are_checked),
        cmocka_unit_test(other_ends),
        cmocka_unit_test(asan_sees_shared_memory_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
