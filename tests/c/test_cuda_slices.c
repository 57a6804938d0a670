/* What the loss of a vocabulary in slices is on a GPU and nowhere else: bad data in its memory, threads in
 * any order, what the host refuses. The formula, options and edges are promised of it by the tests of whole
 * rows (test_*_in_slices_on_gpu). */
#include "device_memory.h"
#include "expect.h"
#include "fibres_control.h"
#include "in_slices.h"
#include "loss_call.h"
#include "loss_problem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLICES = 2, TOLD = ROWS * VISATB_SLICE_STATISTICS };

/* On the harness all memory is the device's, unless it was said to be another's. */
static unsigned char workspace[4096];
static const visatb_vocab_slice slices[SLICES] = {
    {.size = sizeof(visatb_vocab_slice), .first = 0, .width = 1},
    {.size = sizeof(visatb_vocab_slice), .first = 1, .width = 2},
};

static int forget(void **state) {
    (void)state;
    fibres_set_device(90, 232448, 233472);
    fibres_set_order(FIBRES_FORWARD, 0);
    fibres_fail_launch(0);
    device_free_all_on_host();
    return 0;
}

static void make_for_gpu(call *c) {
    make(c);
    c->args.device = VISATB_DEVICE_CUDA;
    c->args.workspace = workspace;
    c->args.workspace_bytes = sizeof workspace;
}

/* The call of a slice: its columns of the logits and of the gradient. */
static visatb_vitw_loss_args of_slice(const call *c, int slice) {
    visatb_vitw_loss_args args = c->args;
    args.logits = &c->logits[0][slices[slice].first];
    args.logits_stride = VOCAB;
    args.gradient = (float *)c->args.gradient + slices[slice].first;
    args.gradient_stride = VOCAB;
    return args;
}

static void tell_all(const call *c, double *told) {
    for (int slice = 0; slice < SLICES; ++slice) {
        const visatb_vitw_loss_args args = of_slice(c, slice);
        expect_ok(visatb_vitw_slice_statistics(&args, &slices[slice], told + (size_t)slice * TOLD));
    }
}

/* What the last slice says is what the call says: each says the same. */
static void run_in_slices(call *c) {
    double told[SLICES * TOLD];
    double loss[SLICES];
    tell_all(c, told);
    for (int slice = 0; slice < SLICES; ++slice) {
        const visatb_vitw_loss_args args = of_slice(c, slice);
        expect_ok(visatb_vitw_slice_loss(&args, &slices[slice], SLICES, told));
        loss[slice] = c->loss;
    }
    assert_memory_equal(&loss[0], &loss[1], sizeof loss[0]);
}

/* ---- bad data ---- */

static void bad_data_is_reported_and_spoils_its_row_alone(void **state) {
    (void)state;
    for (int code = VISATB_REPORT_LOGITS; code <= VISATB_REPORT_TASK_WEIGHT; ++code) {
        call c;
        make_for_gpu(&c);
        if (code == VISATB_REPORT_LOGITS)
            c.logits[1][2] = NAN;
        if (code == VISATB_REPORT_LABEL)
            c.labels[1] = VOCAB;
        if (code == VISATB_REPORT_TASK_ID)
            c.task_ids[1] = -1;
        c.task_ids[3] = 0;
        if (code == VISATB_REPORT_TASK_WEIGHT)
            c.weights[1] = -1;
        run_in_slices(&c);
        assert_report(&c, (visatb_report_code)code, 1);
        assert_true(isnan(c.loss));
        assert_nan_gradient(&c, 1);
        const double denominator = code == VISATB_REPORT_LOGITS ? 5 : 4.5;
        assert_near(c.denominator_out, denominator);
        assert_gradient(&c, 0, 1.5 / denominator);
    }
}

static void label_in_no_slice_is_a_bad_label(void **state) {
    (void)state;
    for (int holders = 0; holders <= SLICES; holders += SLICES) {
        call c;
        double told[SLICES * TOLD];
        make_for_gpu(&c);
        c.labels[0] = 0;
        tell_all(&c, told);
        /* The first slice has the label of row 0. Words, there are enough. */
        double *const first = told;
        double *const last = told + TOLD;
        memcpy(holders == 0 ? first : last, holders == 0 ? last : first, sizeof told / SLICES);
        for (int row = 0; row < ROWS; ++row) {
            first[(row + 1) * VISATB_SLICE_STATISTICS - 1] = 1;
            last[(row + 1) * VISATB_SLICE_STATISTICS - 1] = 2;
        }
        const visatb_vitw_loss_args args = of_slice(&c, 0);
        expect_ok(visatb_vitw_slice_loss(&args, &slices[0], SLICES, told));
        assert_report(&c, VISATB_REPORT_LABEL, 0);
        assert_true(isnan(c.loss));
        assert_true(isnan(c.gradient[0][0]));
    }
}

/* Where no label is missing that would show it. */
static void statistics_of_some_slices_are_reported_as_a_bad_label(void **state) {
    (void)state;
    call c;
    double told[SLICES * TOLD];
    make_for_gpu(&c);
    for (int row = 0; row < ROWS; ++row)
        c.labels[row] = c.labels[row] == IGNORE ? IGNORE : 0;
    c.labels[0] = IGNORE;
    c.labels[1] = 0;
    tell_all(&c, told);
    const visatb_vitw_loss_args args = of_slice(&c, 0);
    expect_ok(visatb_vitw_slice_loss(&args, &slices[0], 1, told));
    assert_report(&c, VISATB_REPORT_LABEL, 1);
    assert_true(isnan(c.loss));
    assert_true(isnan(c.gradient[1][0]));
    assert_true(c.gradient[0][0] == 0);
    expect_ok(visatb_vitw_slice_loss(&args, &slices[0], SLICES, told));
    assert_report(&c, VISATB_REPORT_OK, -1);
}

static void bad_denominator_spoils_every_row_with_a_weight(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.denominator = -1;
    c.args.denominator = &c.denominator;
    c.labels[2] = IGNORE;
    run_in_slices(&c);
    assert_report(&c, VISATB_REPORT_DENOMINATOR, 0);
    assert_true(isnan(c.loss));
    assert_nan_gradient(&c, 0);
    assert_zero_gradient(&c, 2);
}

/* ---- the same bits ---- */

static double ordinary(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    (void)i;
    return problem_random(-8, 8);
}

/* In place, where a thread may write the logit that another has yet to read. */
static void order_of_threads_changes_nothing(void **state) {
    (void)state;
    enum { FEW = 5, WIDE = 20011 };
    problem p;
    assert_int_equal(setenv("VISATB_TEST_SLICES", "3", 1), 0);
    problem_create(&p, VISATB_DTYPE_BFLOAT16, FEW, WIDE);
    problem_fill(&p, ordinary);
    p.call = in_slices_vitw_loss;
    p.args.label_smoothing = 0.1;
    problem_solve(&p);
    p.args.gradient = problem_logits(&p);
    p.args.gradient_stride = p.args.logits_stride;
    unsigned char *first = NULL;
    for (unsigned seed = 0; seed < 6; ++seed) {
        memcpy(p.logits_memory, p.logits_before, p.logits_bytes);
        assert_true(device_shuffle(seed));
        expect_ok(p.call(&p.args));
        if (first == NULL) {
            first = malloc(p.logits_bytes);
            assert_non_null(first);
            memcpy(first, p.logits_memory, p.logits_bytes);
        }
        assert_memory_equal(first, p.logits_memory, p.logits_bytes);
    }
    free(first);
    problem_destroy(&p);
}

/* ---- what a call does not need ---- */

/* ASan sees who reads them all the same. */
static void loss_without_gradient_needs_no_logits_any_more(void **state) {
    (void)state;
    call c;
    double told[SLICES * TOLD];
    make_for_gpu(&c);
    run_in_slices(&c);
    const double loss = c.loss;
    tell_all(&c, told);
    void *const gone = device_alloc(sizeof c.logits);
    device_free(gone);
    for (int slice = 0; slice < SLICES; ++slice) {
        visatb_vitw_loss_args args = of_slice(&c, slice);
        args.logits = (const float *)gone + slices[slice].first;
        args.gradient = NULL;
        expect_ok(visatb_vitw_slice_loss(&args, &slices[slice], SLICES, told));
        assert_memory_equal(&c.loss, &loss, sizeof loss);
    }
}

/* ---- what the host refuses ---- */

static void refuse(const call *c, const double *told, visatb_status status, const char *message) {
    const size_t launches = fibres_launches();
    const visatb_vitw_loss_args args = of_slice(c, 0);
    double own[TOLD];
    char of_statistics[300];
    char of_loss[300];
    (void)snprintf(of_statistics, sizeof of_statistics, "visatb_vitw_slice_statistics: %s", message);
    (void)snprintf(of_loss, sizeof of_loss, "visatb_vitw_slice_loss: %s", message);
    expect_failure(visatb_vitw_slice_statistics(&args, &slices[0], told != NULL ? (double *)told : own),
                   status, of_statistics);
    expect_failure(visatb_vitw_slice_loss(&args, &slices[0], SLICES, told != NULL ? told : own), status,
                   of_loss);
    assert_int_equal(fibres_launches(), launches);
}

static void slice_is_not_read_by_a_cluster(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.cuda_path = VISATB_CUDA_ONE_READ;
    refuse(
        &c, NULL, VISATB_ERROR_UNSUPPORTED,
        "cuda_path = VISATB_CUDA_ONE_READ; expected VISATB_CUDA_AUTO or _TWO_READ, because a slice is read "
        "once by each of two calls");
}

static void workspace_is_that_of_the_plan(void **state) {
    (void)state;
    call c;
    visatb_loss_plan plan = VISATB_LOSS_PLAN_INIT;
    char message[200];
    make_for_gpu(&c);
    expect_ok(visatb_vitw_loss_plan(&c.args, &plan));
    c.args.workspace_bytes = plan.workspace_bytes - 1;
    (void)snprintf(message, sizeof message,
                   "workspace_bytes = %zu; expected at least %zu, as visatb_vitw_loss_plan tells",
                   plan.workspace_bytes - 1, plan.workspace_bytes);
    refuse(&c, NULL, VISATB_ERROR_ARGUMENT, message);
    c.args.workspace_bytes = plan.workspace_bytes;
    run_in_slices(&c);
}

static void statistics_are_in_memory_that_the_gpu_reaches(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    double *told = device_alloc_on_host(sizeof *told * SLICES * TOLD);
    refuse(&c, told, VISATB_ERROR_ARGUMENT,
           "statistics is in memory of the host; expected memory that the GPU can reach");
}

static void failed_launch_is_an_error_of_the_device(void **state) {
    (void)state;
    call c;
    double told[SLICES * TOLD];
    make_for_gpu(&c);
    tell_all(&c, told);
    const visatb_vitw_loss_args args = of_slice(&c, 0);
    assert_true(device_fail_launch(1));
    assert_int_equal(visatb_vitw_slice_statistics(&args, &slices[0], told), VISATB_ERROR_DEVICE);
    for (size_t launch = 1; launch <= 3; ++launch) { /* count, rows, sums */
        assert_true(device_fail_launch(launch));
        assert_int_equal(visatb_vitw_slice_loss(&args, &slices[0], SLICES, told), VISATB_ERROR_DEVICE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(bad_data_is_reported_and_spoils_its_row_alone, forget),
        cmocka_unit_test_teardown(label_in_no_slice_is_a_bad_label, forget),
        cmocka_unit_test_teardown(statistics_of_some_slices_are_reported_as_a_bad_label, forget),
        cmocka_unit_test_teardown(bad_denominator_spoils_every_row_with_a_weight, forget),
        cmocka_unit_test_teardown(order_of_threads_changes_nothing, forget),
        cmocka_unit_test_teardown(loss_without_gradient_needs_no_logits_any_more, forget),
        cmocka_unit_test_teardown(slice_is_not_read_by_a_cluster, forget),
        cmocka_unit_test_teardown(workspace_is_that_of_the_plan, forget),
        cmocka_unit_test_teardown(statistics_are_in_memory_that_the_gpu_reaches, forget),
        cmocka_unit_test_teardown(failed_launch_is_an_error_of_the_device, forget),
    };
    return cmocka_run_group_tests_name("slices on a GPU", tests, NULL, NULL);
}
