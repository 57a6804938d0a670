/* D without logits where only a GPU differs: bad rows in its memory, where the arrays are, orders of threads,
 * launches. */
#include "cuda/runtime.h"
#include "fibres_control.h"
#include "loss_call.h"

#include "expect.h"

#include <math.h>
#include <string.h>

static void make_for_gpu(call *c) {
    make(c);
    c->args.device = VISATB_DEVICE_CUDA;
    c->denominator_out = -1;
    memset(c->task_tokens, 0xff, sizeof c->task_tokens);
}

static int forget(void **state) {
    (void)state;
    fibres_set_device(90, 232448, 233472);
    fibres_set_order(FIBRES_FORWARD, 0);
    fibres_fail_launch(0);
    fibres_forget_memory();
    return 0;
}

/* Rows 0 and 2 are of task 0 and weigh 1.5 each, rows 1 and 3 of task 1 and weigh 0.5 each. */
static void bad_rows_have_no_part_in_it(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.labels[0] = VOCAB;
    expect_ok(visatb_vitw_denominator(&c.args, 0));
    assert_true(c.denominator_out == 2.5);
    make_for_gpu(&c);
    c.task_ids[1] = TASKS;
    c.task_ids[3] = -1;
    expect_ok(visatb_vitw_denominator(&c.args, 0));
    assert_true(c.denominator_out == 3 && c.task_tokens[0] == 2 && c.task_tokens[1] == 0);
    make_for_gpu(&c);
    c.weights[0] = NAN;
    expect_ok(visatb_vitw_denominator(&c.args, 0));
    assert_true(c.denominator_out == 1 && c.task_tokens[0] == 2);
}

/* Many rows or many tasks; each order of threads has the same bits. */
static void count_in_every_order(int rows, int tasks) {
    enum { STEP = 7, MOST_ROWS = 3001, MOST_TASKS = 1030 };
    static int64_t labels[MOST_ROWS];
    static int32_t task_ids[MOST_ROWS];
    static float weights[MOST_TASKS];
    static int64_t tokens[MOST_TASKS];
    int64_t expected_tokens[MOST_TASKS] = {0};
    double denominators[FIBRES_SHUFFLED + 1] = {0};
    double expected = 0;
    for (int task = 0; task < tasks; ++task)
        weights[task] = 1.0F / (float)(1 + task);
    for (int row = 0; row < rows; ++row) {
        task_ids[row] = row * STEP % tasks;
        expected_tokens[task_ids[row]] += 1;
        expected += (double)weights[task_ids[row]];
    }
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = rows;
    args.vocab = 1;
    args.tasks = tasks;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = weights;
    args.task_tokens = tokens;
    args.device = VISATB_DEVICE_CUDA;
    for (int order = FIBRES_FORWARD; order <= FIBRES_SHUFFLED; ++order) {
        fibres_set_order(order, 2);
        args.denominator_out = &denominators[order];
        memset(tokens, 0xff, (size_t)tasks * sizeof *tokens);
        expect_ok(visatb_vitw_denominator(&args, 0));
        assert_memory_equal(tokens, expected_tokens, (size_t)tasks * sizeof *tokens);
        assert_memory_equal(&denominators[0], &denominators[order], sizeof(double));
    }
    expect_close(denominators[0], expected, 1e-12 * expected);
}

/* More than a block has threads, and more than there are blocks. */
static void every_row_and_every_task_is_counted(void **state) {
    (void)state;
    count_in_every_order(3001, 3);
    count_in_every_order(70, 1030);
}

static void refuse(const call *c, const char *message) {
    const size_t launches = fibres_launches();
    expect_failure(visatb_vitw_denominator(&c->args, 0), VISATB_ERROR_ARGUMENT, message);
    assert_int_equal(fibres_launches(), launches);
    assert_true(c->denominator_out == -1 && c->task_tokens[0] == -1);
}

static void arrays_are_where_the_gpu_can_reach_them(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    const struct {
        const void *start;
        size_t bytes;
        const char *message;
    } arrays[] = {
#define IN_HOST_MEMORY(name, field)                                                                          \
    {&c.field, sizeof c.field,                                                                               \
     "visatb_vitw_denominator: " name " is in memory of the host; expected memory that the GPU can reach"}
        IN_HOST_MEMORY("labels", labels),           IN_HOST_MEMORY("task_ids", task_ids),
        IN_HOST_MEMORY("task_weights", weights),    IN_HOST_MEMORY("denominator_out", denominator_out),
        IN_HOST_MEMORY("task_tokens", task_tokens),
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; ++i) {
        fibres_host_memory(arrays[i].start, arrays[i].bytes);
        refuse(&c, arrays[i].message);
        fibres_forget_memory();
    }
    fibres_memory_of_device(c.labels, sizeof c.labels, 1);
    refuse(&c, "visatb_vitw_denominator: labels is in memory of device 1; expected that of device 0, where "
               "the others are");
    c.args.denominator_out = NULL;
    fibres_host_memory(c.task_tokens, sizeof c.task_tokens);
    refuse(&c, "visatb_vitw_denominator: task_tokens is in memory of the host; expected memory that the GPU "
               "can reach");
}

/* The device of the outputs, and the current one afterwards again. */
static void work_is_done_where_the_outputs_are(void **state) {
    (void)state;
    call c;
    cuda_device current;
    make_for_gpu(&c);
    fibres_memory_of_device(&c, sizeof c, 1);
    expect_ok(visatb_vitw_denominator(&c.args, 0));
    assert_true(c.denominator_out == 4);
    expect_ok(runtime_device("test", &current));
    assert_int_equal(current.ordinal, 0);
}

static void launch_that_fails_is_an_error(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    fibres_fail_launch(1);
    expect_failure(visatb_vitw_denominator(&c.args, 0), VISATB_ERROR_DEVICE,
                   "visatb_vitw_denominator: a launch: error 999");
    const size_t before = fibres_launches();
    expect_ok(visatb_vitw_denominator(&c.args, 0));
    assert_int_equal(fibres_launches() - before, 1);
}

static void without_a_gpu_the_message_says_so(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    fibres_set_device(0, 0, 0);
    expect_failure(visatb_vitw_denominator(&c.args, 0), VISATB_ERROR_UNSUPPORTED,
                   "visatb_vitw_denominator: there is no GPU");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_rows_have_no_part_in_it),
        cmocka_unit_test_teardown(every_row_and_every_task_is_counted, forget),
        cmocka_unit_test_teardown(arrays_are_where_the_gpu_can_reach_them, forget),
        cmocka_unit_test_teardown(work_is_done_where_the_outputs_are, forget),
        cmocka_unit_test_teardown(launch_that_fails_is_an_error, forget),
        cmocka_unit_test_teardown(without_a_gpu_the_message_says_so, forget),
    };
    return cmocka_run_group_tests_name("D without logits, on a GPU", tests, NULL, NULL);
}
