/* Bad input to the loss on a GPU, as far as the host can see it: each mistake has its message, and nothing is
 * launched. */
#include "device_memory.h"
#include "fibres_control.h"
#include "loss_call.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* On the harness all memory is the device's, unless it was said to be another's. */
static unsigned char workspace[4096];

static void make_for_gpu(call *c) {
    make(c);
    c->args.device = VISATB_DEVICE_CUDA;
    c->args.workspace = workspace;
    c->args.workspace_bytes = sizeof workspace;
}

static void expect(visatb_status status, visatb_status expected, const char *message) {
    if (status != expected)
        fail_msg("status %d, expected %d: %s", (int)status, (int)expected, visatb_last_error());
    assert_string_equal(visatb_last_error(), message);
}

static void refuse_as(call *c, visatb_status status, const char *message) {
    const size_t launches = fibres_launches();
    expect(visatb_vitw_loss(&c->args), status, message);
    assert_int_equal(fibres_launches(), launches);
    assert_true(isnan(c->gradient[0][0]));
}

static void refuse(call *c, const char *message) {
    refuse_as(c, VISATB_ERROR_ARGUMENT, message);
}

static int forget(void **state) {
    (void)state;
    fibres_set_build(90);
    fibres_set_device(90, 232448, 233472);
    fibres_fail_launch(0);
    fibres_forget_memory();
    return 0;
}

static void device_is_one_that_there_is(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.device = (visatb_device)2;
    refuse(&c, "visatb_vitw_loss: device = 2; expected VISATB_DEVICE_CPU (0) or VISATB_DEVICE_CUDA (1)");
}

static void type_is_one_that_a_gpu_computes_with(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.dtype = VISATB_DTYPE_FLOAT64;
    c.args.rows = 1;
    refuse(&c, "visatb_vitw_loss: dtype = 4 (VISATB_DTYPE_FLOAT64); expected VISATB_DTYPE_FLOAT32 (1), "
               "_BFLOAT16 (2) or _FLOAT16 (3) on a GPU");
}

static void rows_are_as_many_as_a_gpu_counts(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.rows = 268435456;
    c.args.vocab = 1;
    c.args.gradient = NULL;
    c.args.logits_stride = c.args.gradient_stride = 0;
    refuse(&c, "visatb_vitw_loss: rows = 268435456; expected at most 268435455 on a GPU");
}

static void vocabulary_is_as_large_as_a_gpu_counts(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.rows = 0;
    c.args.vocab = 2147483616;
    refuse(&c, "visatb_vitw_loss: vocab = 2147483616; expected at most 2147483615 on a GPU");
}

static void path_is_one_that_there_is(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.cuda_path = (visatb_cuda_path)3;
    refuse(&c, "visatb_vitw_loss: cuda_path = 3; expected VISATB_CUDA_AUTO (0), _ONE_READ (1) or _TWO_READ "
               "(2)");
}

static void path_is_one_that_the_gpu_has_room_for(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.cuda_path = VISATB_CUDA_ONE_READ;
    fibres_set_device(86, 101376, 102400);
    refuse_as(&c, VISATB_ERROR_UNSUPPORTED,
              "visatb_vitw_loss: cuda_path = VISATB_CUDA_ONE_READ; expected VISATB_CUDA_AUTO or _TWO_READ, "
              "because it needs compute capability 9.0, and device 0 has 8.6");
    fibres_set_device(90, 232448, 233472);
    fibres_set_build(80);
    refuse_as(&c, VISATB_ERROR_UNSUPPORTED,
              "visatb_vitw_loss: cuda_path = VISATB_CUDA_ONE_READ; expected VISATB_CUDA_AUTO or _TWO_READ, "
              "because this library was not built for compute capability 9.0, and device 0 has 9.0");
    fibres_set_build(90);

    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    visatb_loss_plan plan = VISATB_LOSS_PLAN_INIT;
    args.rows = args.tasks = 1;
    args.vocab = 1000000;
    args.dtype = VISATB_DTYPE_BFLOAT16;
    args.device = VISATB_DEVICE_CUDA;
    args.cuda_path = VISATB_CUDA_ONE_READ;
    expect(visatb_vitw_loss_plan(&args, &plan), VISATB_ERROR_UNSUPPORTED,
           "visatb_vitw_loss_plan: cuda_path = VISATB_CUDA_ONE_READ; expected VISATB_CUDA_AUTO or "
           "_TWO_READ, because rows of 2000000 bytes pass the shared memory of 8 blocks of 232448 bytes");
}

static void without_a_gpu_the_message_says_so(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    fibres_set_device(0, 0, 0);
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_ERROR_UNSUPPORTED);
    assert_memory_equal(visatb_last_error(), "visatb_vitw_loss: ", 18);
    c.args.device = VISATB_DEVICE_CPU;
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
}

/* ---- memory ---- */

static void refuse_host_memory(call *c, const char *message) {
    refuse(c, message);
    fibres_forget_memory();
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
     "visatb_vitw_loss: " name " is in memory of the host; expected memory that the GPU can reach"}
        IN_HOST_MEMORY("loss", loss),           IN_HOST_MEMORY("logits", logits),
        IN_HOST_MEMORY("gradient", gradient),   IN_HOST_MEMORY("labels", labels),
        IN_HOST_MEMORY("task_ids", task_ids),   IN_HOST_MEMORY("task_weights", weights),
        IN_HOST_MEMORY("numerator", numerator), IN_HOST_MEMORY("denominator_out", denominator_out),
        IN_HOST_MEMORY("row_nll", row_nll),     IN_HOST_MEMORY("row_lse", row_lse),
        IN_HOST_MEMORY("task_nll", task_nll),   IN_HOST_MEMORY("task_tokens", task_tokens),
        IN_HOST_MEMORY("report", report),
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; ++i) {
        fibres_host_memory(arrays[i].start, arrays[i].bytes);
        refuse_host_memory(&c, arrays[i].message);
    }
    fibres_host_memory(workspace, sizeof workspace);
    refuse_host_memory(&c, "visatb_vitw_loss: workspace is in memory of the host; expected memory that the "
                           "GPU can reach");
}

static void logits_of_no_rows_may_lie_anywhere(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.rows = 0;
    fibres_host_memory(c.logits, sizeof c.logits);
    fibres_host_memory(c.gradient, sizeof c.gradient);
    if (visatb_vitw_loss(&c.args) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
    assert_true(c.loss == 0);
}

static void arrays_are_of_one_device(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    fibres_memory_of_device(c.labels, sizeof c.labels, 1);
    refuse(&c,
           "visatb_vitw_loss: labels is in memory of device 1; expected that of device 0, where the others "
           "are");
    c.args.denominator = &c.denominator;
    fibres_forget_memory();
    fibres_memory_of_device(&c.denominator, sizeof c.denominator, 1);
    refuse(&c, "visatb_vitw_loss: denominator is in memory of device 1; expected that of device 0, where the "
               "others are");
}

static void pinned_memory_is_as_good_as_the_devices(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    fibres_pinned_memory(&c.loss, sizeof c.loss);
    fibres_pinned_memory(&c.report, sizeof c.report);
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
    assert_true(c.loss > 0 && c.report.code == VISATB_REPORT_OK);
}

/* A fault on a GPU, after which the process can do nothing more there. */
static void arrays_are_aligned_to_their_elements(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.task_nll = (double *)(void *)((unsigned char *)c.task_nll + 4);
    char message[160];
    (void)snprintf(message, sizeof message,
                   "visatb_vitw_loss: task_nll = %p; expected a multiple of 8, the bytes of an element",
                   (void *)c.args.task_nll);
    refuse(&c, message);
}

static void workspace_is_as_large_as_planned(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    visatb_loss_plan plan = VISATB_LOSS_PLAN_INIT;
    assert_int_equal(visatb_vitw_loss_plan(&c.args, &plan), VISATB_OK);
    char message[160];
    (void)snprintf(message, sizeof message,
                   "visatb_vitw_loss: workspace_bytes = %zu; expected at least %zu, as visatb_vitw_loss_plan "
                   "tells",
                   plan.workspace_bytes - 1, plan.workspace_bytes);
    c.args.workspace_bytes = plan.workspace_bytes - 1;
    refuse(&c, message);
    (void)snprintf(message, sizeof message,
                   "visatb_vitw_loss: workspace = NULL; expected %zu bytes of the GPU's memory",
                   plan.workspace_bytes);
    c.args.workspace_bytes = plan.workspace_bytes;
    c.args.workspace = NULL;
    refuse(&c, message);
}

static void plan_needs_somewhere_to_go(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    expect(visatb_vitw_loss_plan(&c.args, NULL), VISATB_ERROR_ARGUMENT,
           "visatb_vitw_loss_plan: plan = NULL; expected a pointer");
    visatb_loss_plan plan = {.size = 8};
    assert_int_equal(visatb_vitw_loss_plan(&c.args, &plan), VISATB_ERROR_ARGUMENT);
    assert_memory_equal(visatb_last_error(), "visatb_vitw_loss_plan: plan->size = 8; expected ", 48);
}

/* ---- scalars ---- */

static void scalars_of_the_host_are_checked(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.denominator = &c.denominator;
    c.args.grad_scale = &c.grad_scale;
    fibres_host_memory(&c.denominator, sizeof c.denominator);
    fibres_host_memory(&c.grad_scale, sizeof c.grad_scale);
    c.denominator = -2;
    refuse(&c, "visatb_vitw_loss: *denominator = -2; expected a finite value > 0");
    c.denominator = 8;
    c.grad_scale = INFINITY;
    refuse(&c, "visatb_vitw_loss: *grad_scale = inf; expected a finite value");
    c.grad_scale = 1;
    c.args.reduction = VISATB_REDUCTION_SUM;
    refuse(&c, "visatb_vitw_loss: *denominator = 8; expected denominator = NULL with VISATB_REDUCTION_SUM");
}

static void denominator_of_the_device_does_not_go_with_a_sum(void **state) {
    (void)state;
    call c;
    make_for_gpu(&c);
    c.args.denominator = &c.denominator;
    c.args.reduction = VISATB_REDUCTION_SUM;
    refuse(&c,
           "visatb_vitw_loss: denominator is given; expected denominator = NULL with VISATB_REDUCTION_SUM");
}

/* ---- launches ---- */

static void launch_that_fails_is_an_error(void **state) {
    (void)state;
    enum { LAUNCHES = 4 }; /* the count, the loss, the sums, the rows */
    for (size_t n = 1; n <= LAUNCHES; ++n) {
        call c;
        make_for_gpu(&c);
        fibres_fail_launch(n);
        assert_int_equal(visatb_vitw_loss(&c.args), VISATB_ERROR_DEVICE);
        assert_memory_equal(visatb_last_error(), "visatb_vitw_loss: a launch", 26);
    }
    call c;
    make_for_gpu(&c);
    const size_t before = fibres_launches();
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
    assert_int_equal(fibres_launches() - before, LAUNCHES);
}

/* ---- visatb_scale_gradient ---- */

static void scaling_refuses_what_it_cannot_scale(void **state) {
    (void)state;
    float gradient[4] = {1, 2, 3, 4};
    float factor = 2;
    expect(visatb_scale_gradient(NULL, 1, 4, 0, VISATB_DTYPE_FLOAT32, &factor, NULL, NULL),
           VISATB_ERROR_ARGUMENT, "visatb_scale_gradient: gradient = NULL; expected a pointer");
    expect(visatb_scale_gradient(gradient, 1, 4, 0, VISATB_DTYPE_FLOAT32, NULL, NULL, NULL),
           VISATB_ERROR_ARGUMENT, "visatb_scale_gradient: factor = NULL; expected a pointer");
    expect(visatb_scale_gradient(gradient, 1, 4, 0, VISATB_DTYPE_FLOAT64, &factor, NULL, NULL),
           VISATB_ERROR_ARGUMENT,
           "visatb_scale_gradient: dtype = 4; expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 (2) or _FLOAT16 "
           "(3) on a GPU");
    expect(visatb_scale_gradient(gradient, -1, 4, 0, VISATB_DTYPE_FLOAT32, &factor, NULL, NULL),
           VISATB_ERROR_ARGUMENT,
           "visatb_scale_gradient: rows = -1; expected a value in [0, 1152921504606846975]");
    expect(visatb_scale_gradient(gradient, 2, 4, 3, VISATB_DTYPE_FLOAT32, &factor, NULL, NULL),
           VISATB_ERROR_ARGUMENT,
           "visatb_scale_gradient: gradient_stride = 3; expected 0 or at least width (4)");
    fibres_host_memory(&factor, sizeof factor);
    expect(visatb_scale_gradient(gradient, 1, 4, 0, VISATB_DTYPE_FLOAT32, &factor, NULL, NULL),
           VISATB_ERROR_ARGUMENT,
           "visatb_scale_gradient: factor is in memory of the host; expected memory that the GPU can reach");
    fibres_host_memory(gradient, sizeof gradient);
    expect(visatb_scale_gradient(gradient, 1, 4, 0, VISATB_DTYPE_FLOAT32, &factor, NULL, NULL),
           VISATB_ERROR_ARGUMENT,
           "visatb_scale_gradient: gradient is in memory of the host; expected memory that the GPU can "
           "reach");
    assert_true(gradient[0] == 1 && gradient[3] == 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_is_one_that_there_is),
        cmocka_unit_test(type_is_one_that_a_gpu_computes_with),
        cmocka_unit_test(rows_are_as_many_as_a_gpu_counts),
        cmocka_unit_test(vocabulary_is_as_large_as_a_gpu_counts),
        cmocka_unit_test(path_is_one_that_there_is),
        cmocka_unit_test_teardown(path_is_one_that_the_gpu_has_room_for, forget),
        cmocka_unit_test_teardown(without_a_gpu_the_message_says_so, forget),
        cmocka_unit_test_teardown(arrays_are_where_the_gpu_can_reach_them, forget),
        cmocka_unit_test_teardown(logits_of_no_rows_may_lie_anywhere, forget),
        cmocka_unit_test_teardown(arrays_are_of_one_device, forget),
        cmocka_unit_test_teardown(pinned_memory_is_as_good_as_the_devices, forget),
        cmocka_unit_test(arrays_are_aligned_to_their_elements),
        cmocka_unit_test(workspace_is_as_large_as_planned),
        cmocka_unit_test(plan_needs_somewhere_to_go),
        cmocka_unit_test_teardown(scalars_of_the_host_are_checked, forget),
        cmocka_unit_test(denominator_of_the_device_does_not_go_with_a_sum),
        cmocka_unit_test_teardown(launch_that_fails_is_an_error, forget),
        cmocka_unit_test_teardown(scaling_refuses_what_it_cannot_scale, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
