/* The harness itself: kernels that are right come out right under every order, and what is missing in one
 * that is wrong shows. */
#include "fibres_control.h"
#include "in_child.h"
#include "kernels_of_test.h"

#include "cuda/runtime.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct {
    int order;
    unsigned seed;
} orders[] = {
    {FIBRES_FORWARD, 0},  {FIBRES_BACKWARD, 0}, {FIBRES_SHUFFLED, 0},          {FIBRES_SHUFFLED, 1},
    {FIBRES_SHUFFLED, 2}, {FIBRES_SHUFFLED, 3}, {FIBRES_SHUFFLED, 4294967295}, {FIBRES_SHUFFLED, 4},
};

static int forward(void **state) {
    (void)state;
    fibres_set_order(FIBRES_FORWARD, 0);
    fibres_set_device(90, 232448, 233472);
    fibres_fail_launch(0);
    fibres_forget_memory();
    return 0;
}

/* --- kernels that are right ------------------------------------------------------------------------------
 */

enum { CLUSTERS = 3, MOST_THREADS = 256, MOST_BLOCKS = 8 };

static void check_sum(int cluster, int threads) {
    static float values[CLUSTERS * MOST_BLOCKS * MOST_THREADS];
    float sums[CLUSTERS], expected[CLUSTERS] = {0};
    const int of_cluster = cluster * threads;
    for (int i = 0; i < CLUSTERS * of_cluster; ++i) {
        values[i] = (float)(i % 101);
        expected[i / of_cluster] += values[i];
    }
    for (size_t i = 0; i < COUNT(orders); ++i) {
        fibres_set_order(orders[i].order, orders[i].seed);
        memset(sums, 0, sizeof sums);
        assert_int_equal(kernel_sum(values, sums, CLUSTERS, cluster, threads), 0);
        assert_memory_equal(sums, expected, sizeof sums); /* whole numbers: exact */
    }
}

static void sums_come_out_under_every_order(void **state) {
    (void)state;
    for (int cluster = 1; cluster <= MOST_BLOCKS; cluster *= 2) {
        check_sum(cluster, MOST_THREADS);
        check_sum(cluster, LANES);
    }
    fibres_set_device(80, 166912, 167936);
    check_sum(1, MOST_THREADS);
}

static void *sum_often(void *fine) {
    float values[4 * LANES], sum = 0;
    for (int i = 0; i < 4 * LANES; ++i)
        values[i] = 1;
    bool *const all_fine = fine;
    *all_fine = true;
    for (int i = 0; i < 100; ++i) {
        const int error = kernel_sum(values, &sum, 1, 2, 2 * LANES);
        *all_fine = *all_fine && error == 0 && sum == 4 * LANES;
    }
    return NULL;
}

static void threads_of_the_host_launch_at_once(void **state) {
    (void)state;
    pthread_t threads[3];
    bool fine[3];
    for (int i = 0; i < 3; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, sum_often, &fine[i]), 0);
    for (int i = 0; i < 3; ++i) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(fine[i]);
    }
}

static void threads_know_their_places(void **state) {
    (void)state;
    enum { THREADS = 1024, BLOCKS = 2 };
    static int64_t places[CLUSTERS * BLOCKS * THREADS][6];
    assert_int_equal(kernel_places(&places[0][0], CLUSTERS, BLOCKS, THREADS), 0);
    for (int i = 0; i < CLUSTERS * BLOCKS * THREADS; ++i) {
        const int block = i / THREADS;
        const int64_t expected[6] = {i % THREADS, THREADS, block % BLOCKS, BLOCKS, block / BLOCKS, CLUSTERS};
        assert_memory_equal(places[i], expected, sizeof expected);
    }
}

static void check_shuffles(const struct shuffled *in, int mask, int delta) {
    struct shuffled out, up;
    assert_int_equal(kernel_shuffles(in, &out, &up, mask, delta), 0);
    for (int i = 0; i < LANES; ++i) {
        const int x = i ^ mask, u = i < delta ? i : i - delta;
        assert_memory_equal(&out.floats[i], &in->floats[x], sizeof(float));
        assert_memory_equal(&out.doubles[i], &in->doubles[x], sizeof(double));
        assert_int_equal(out.ints[i], in->ints[x]);
        assert_int_equal(out.longs[i], in->longs[x]);
        assert_int_equal(out.words[i], in->words[x]);
        assert_memory_equal(&up.floats[i], &in->floats[u], sizeof(float));
        assert_memory_equal(&up.doubles[i], &in->doubles[u], sizeof(double));
        assert_int_equal(up.ints[i], in->ints[u]);
        assert_int_equal(up.longs[i], in->longs[u]);
        assert_int_equal(up.words[i], in->words[u]);
    }
}

static void shuffles_move_every_type(void **state) {
    (void)state;
    struct shuffled in;
    for (int i = 0; i < LANES; ++i) {
        in.floats[i] = 1.0F / (float)(i + 1);
        in.doubles[i] = -1.0 / (i + 1);
        in.ints[i] = -i * 1000003;
        in.longs[i] = INT64_MIN + i * INT64_C(1000000007);
        in.words[i] = UINT32_MAX - (uint32_t)i;
    }
    const uint32_t nan_with_a_message = 0x7fc12345;
    memcpy(&in.floats[5], &nan_with_a_message, sizeof nan_with_a_message);
    for (size_t order = 0; order < COUNT(orders); ++order) {
        fibres_set_order(orders[order].order, orders[order].seed);
        for (int i = 0; i < LANES; ++i)
            check_shuffles(&in, i, LANES - 1 - i);
    }
}

static void copies_arrive_when_they_are_waited_for(void **state) {
    (void)state;
    enum { MOST = 100 };
    static _Alignas(16) float from[4 * MOST], out[4 * MOST];
    for (int i = 0; i < 4 * MOST; ++i)
        from[i] = (float)i;
    for (size_t order = 0; order < COUNT(orders); ++order)
        for (int granules = 0; granules <= MOST; granules += MOST / 2) {
            fibres_set_order(orders[order].order, orders[order].seed);
            memset(out, 0, sizeof out);
            float early = 0;
            assert_int_equal(kernel_copy(from, out, &early, granules), 0);
            assert_memory_equal(out, from, (size_t)granules * 16);
            assert_true(granules == 0 || early != early);
        }
}

/* --- barriers that are missing ---------------------------------------------------------------------------
 */

enum { RACY_THREADS = 128 };

static int racy_sum_is_wrong(int missing) {
    float values[RACY_THREADS], sums[ROUNDS * RACY_THREADS], total = 0;
    for (int i = 0; i < RACY_THREADS; ++i)
        total += values[i] = (float)i;
    (void)kernel_racy_sum(values, sums, RACY_THREADS, missing);
    for (int round = 0; round < ROUNDS; ++round)
        for (int i = 0; i < RACY_THREADS; ++i)
            if (sums[round * RACY_THREADS + i] != total * (float)(round + 1))
                return 1;
    return 0;
}

static int racy_cluster_is_wrong(int missing) {
    int out[4] = {-2, -2, -2, -2};
    (void)kernel_racy_cluster(out, missing);
    return out[0] != 1 || out[1] != 0 || out[2] != 0 || out[3] != 1;
}

/* Under how many orders the kernel came out wrong or was stopped. */
static int orders_that_show(int (*is_wrong)(int), int missing) {
    char text[4096];
    int count = 0;
    for (size_t i = 0; i < COUNT(orders); ++i) {
        fibres_set_order(orders[i].order, orders[i].seed);
        count += run_in_child(is_wrong, missing, text, sizeof text) != 0;
    }
    return count;
}

static void missing_barriers_show(void **state) {
    (void)state;
    assert_int_equal(orders_that_show(racy_sum_is_wrong, 0), 0);
    assert_int_equal(orders_that_show(racy_cluster_is_wrong, 0), 0);
    for (int missing = 1; missing <= 2; ++missing)
        assert_in_range(orders_that_show(racy_sum_is_wrong, missing), 2, COUNT(orders));
    for (int missing = 1; missing <= 3; ++missing)
        assert_in_range(orders_that_show(racy_cluster_is_wrong, missing), 2, COUNT(orders));
}

/* --- launches and the pretended GPU ----------------------------------------------------------------------
 */

static void shapes_are_refused_as_by_a_gpu(void **state) {
    (void)state;
    assert_int_equal(kernel_nothing(0, 3, 7, 0), 0);
    assert_int_equal(kernel_nothing(1, 1, 1024, 232448), 0);
    assert_int_equal(kernel_nothing(1, 1, 1024, 232449), 9);
    assert_int_equal(kernel_nothing(1, 1, 1056, 0), 9);
    assert_int_equal(kernel_nothing(1, 1, 48, 0), 9);
    assert_int_equal(kernel_nothing(1, 1, 0, 0), 9);
    assert_int_equal(kernel_nothing(1, 3, 32, 0), 9);
    assert_int_equal(kernel_nothing(1, 16, 32, 0), 9);
    assert_int_equal(kernel_nothing(-1, 1, 32, 0), 9);
    assert_int_equal(kernel_nothing(INT64_C(1) << 30, 2, 32, 0), 9);
    fibres_set_device(80, 166912, 167936);
    assert_int_equal(kernel_nothing(1, 1, 32, 166912), 0);
    assert_int_equal(kernel_nothing(1, 2, 32, 0), 9);
    fibres_set_device(0, 0, 0);
    assert_int_equal(kernel_nothing(1, 1, 32, 0), 100);
}

static void launches_are_counted_and_fail_when_told(void **state) {
    (void)state;
    const size_t before = fibres_launches();
    char bytes[3] = {1, 1, 1};
    fibres_fail_launch(2);
    assert_int_equal(kernel_nothing(1, 1, 32, 0), 0);
    assert_int_equal(runtime_clear(bytes, 1, NULL), 999);
    assert_int_equal(runtime_clear(bytes + 1, 1, NULL), 0);
    assert_memory_equal(bytes, ((const char[]){1, 0, 1}), 3);
    assert_int_equal(fibres_launches() - before, 3);
    fibres_fail_launch(1);
    int64_t place[6] = {-1};
    assert_int_equal(kernel_places(place, 1, 1, 32), 999);
    assert_int_equal(place[0], -1);
    fibres_fail_launch(1);
    fibres_fail_launch(0);
    assert_int_equal(kernel_nothing(1, 1, 32, 0), 0);

    assert_int_equal(runtime_check("f", "the kernel", 0), VISATB_OK);
    assert_int_equal(runtime_check("f", "the kernel", 999), VISATB_ERROR_DEVICE);
    assert_string_equal(visatb_last_error(), "f: the kernel: error 999");
}

static void device_is_what_the_test_says(void **state) {
    (void)state;
    cuda_device device;
    assert_int_equal(runtime_device("f", &device), VISATB_OK);
    assert_int_equal(device.ordinal, 0);
    assert_int_equal(device.capability, 90);
    assert_int_equal(device.multiprocessors, 132);
    assert_int_equal(device.shared_of_block, 232448);
    assert_int_equal(device.shared_of_multiprocessor, 233472);
    int before = -1;
    assert_int_equal(runtime_use_device("f", 1, &before), VISATB_OK);
    assert_int_equal(before, 0);
    fibres_set_device(80, 1, 2);
    assert_int_equal(runtime_device("f", &device), VISATB_OK);
    assert_int_equal(device.ordinal, 1);
    assert_int_equal(device.shared_of_multiprocessor, 2);
    assert_int_equal(runtime_use_device("f", 2, &before), VISATB_ERROR_DEVICE);
    assert_int_equal(runtime_use_device("f", 0, &before), VISATB_OK);
    assert_int_equal(before, 1);
    fibres_set_device(75, 1, 2);
    assert_int_equal(runtime_device("f", &device), VISATB_ERROR_UNSUPPORTED);
    assert_string_equal(visatb_last_error(), "f: the GPU is of compute capability 7.5, before 8.0");
    fibres_set_device(0, 0, 0);
    assert_int_equal(runtime_device("f", &device), VISATB_ERROR_UNSUPPORTED);
    assert_string_equal(visatb_last_error(), "f: there is no GPU");
    assert_string_equal(runtime_description(), "fibres");
}

static void expect_place(const void *pointer, cuda_place expected_place, int expected_ordinal) {
    cuda_place place = CUDA_PLACE_HOST;
    int ordinal = -2;
    assert_int_equal(runtime_place("f", pointer, &place, &ordinal), VISATB_OK);
    assert_int_equal(place, expected_place);
    assert_int_equal(ordinal, expected_ordinal);
}

static void memory_is_where_the_test_says(void **state) {
    (void)state;
    static char memory[40];
    fibres_host_memory(memory, 10);
    fibres_pinned_memory(memory + 10, 10);
    fibres_memory_of_device(memory + 20, 10, 1);
    expect_place(memory, CUDA_PLACE_HOST, -1);
    expect_place(memory + 9, CUDA_PLACE_HOST, -1);
    expect_place(memory + 10, CUDA_PLACE_PINNED, -1);
    expect_place(memory + 29, CUDA_PLACE_DEVICE, 1);
    expect_place(memory + 30, CUDA_PLACE_DEVICE, 0);
    expect_place(NULL, CUDA_PLACE_HOST, -1);
    fibres_forget_memory();
    expect_place(memory, CUDA_PLACE_DEVICE, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sums_come_out_under_every_order, forward),
        cmocka_unit_test_setup(threads_of_the_host_launch_at_once, forward),
        cmocka_unit_test_setup(threads_know_their_places, forward),
        cmocka_unit_test_setup(shuffles_move_every_type, forward),
        cmocka_unit_test_setup(copies_arrive_when_they_are_waited_for, forward),
        cmocka_unit_test_setup(missing_barriers_show, forward),
        cmocka_unit_test_setup(shapes_are_refused_as_by_a_gpu, forward),
        cmocka_unit_test_setup(launches_are_counted_and_fail_when_told, forward),
        cmocka_unit_test_setup(device_is_what_the_test_says, forward),
        cmocka_unit_test_setup(memory_is_where_the_test_says, forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
