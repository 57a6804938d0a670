/* Every bad argument of the loss of a linear head and of its plan, with the words it is refused with, and
 * that a refused call leaves every output as it was. What it shares with the loss on logits is refused by the
 * same code (test_loss_arguments.c): of that, a few stand for all. */
#include "visatb.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 3, SIZE = 4, VOCAB = 5, TASKS = 2, STRIDE = 6, PATTERN = 0xa5, WORKSPACE = 1 << 18 };

/* All that a call may write to, in one piece, so that it can be compared in one piece. */
typedef struct outputs {
    double loss, numerator, denominator_out;
    float hidden_gradient[ROWS * STRIDE];
    float weight_gradient[VOCAB * SIZE];
    float bias_gradient[VOCAB];
    float row_nll[ROWS], row_lse[ROWS];
    double task_nll[TASKS];
    int64_t task_tokens[TASKS];
    visatb_report report;
} outputs;

typedef struct call {
    visatb_vitw_linear_loss_args args;
    float hidden[ROWS * STRIDE];
    float weight[VOCAB * STRIDE];
    float bias[VOCAB];
    int64_t labels[ROWS];
    int32_t task_ids[ROWS];
    float weights[TASKS];
    outputs out;
} call;

static unsigned char workspace[WORKSPACE];

/* A good call: each test spoils one thing. */
static void make(call *c) {
    *c = (call){
        .args = VISATB_VITW_LINEAR_LOSS_ARGS_INIT,
        .labels = {0, -100, 4},
        .task_ids = {0, 1, 1},
        .weights = {1, 2},
    };
    memset(&c->out, PATTERN, sizeof c->out);
    memset(workspace, PATTERN, sizeof workspace);
    visatb_vitw_linear_loss_args *args = &c->args;
    args->rows = ROWS;
    args->hidden_size = SIZE;
    args->vocab = VOCAB;
    args->tasks = TASKS;
    args->hidden = c->hidden;
    args->hidden_stride = STRIDE;
    args->weight = c->weight;
    args->weight_stride = STRIDE;
    args->bias = c->bias;
    args->dtype = VISATB_DTYPE_FLOAT32;
    args->labels = c->labels;
    args->task_ids = c->task_ids;
    args->task_weights = c->weights;
    args->threads = 1;
    args->chunk_bytes = args->workspace_bytes = sizeof workspace;
    args->workspace = workspace;
    args->loss = &c->out.loss;
    args->numerator = &c->out.numerator;
    args->denominator_out = &c->out.denominator_out;
    args->hidden_gradient = c->out.hidden_gradient;
    args->hidden_gradient_stride = STRIDE;
    args->weight_gradient = c->out.weight_gradient;
    args->bias_gradient = c->out.bias_gradient;
    args->row_nll = c->out.row_nll;
    args->row_lse = c->out.row_lse;
    args->task_nll = c->out.task_nll;
    args->task_tokens = c->out.task_tokens;
    args->report = &c->out.report;
}

/* Expects the call to be refused with "visatb_vitw_linear_loss: " and this. */
static void refuse_from(const call *c, const visatb_vitw_linear_loss_args *args, visatb_status status,
                        const char *message) {
    char expected[512];
    (void)snprintf(expected, sizeof expected, "visatb_vitw_linear_loss: %s", message);
    const call before = *c;
    assert_int_equal(visatb_vitw_linear_loss(args), status);
    assert_string_equal(visatb_last_error(), expected);
    assert_memory_equal(&before, c, sizeof before);
    for (size_t i = 0; i < sizeof workspace; ++i)
        assert_int_equal(workspace[i], PATTERN);
}

static void refuse(const call *c, const char *message) {
    refuse_from(c, &c->args, VISATB_ERROR_ARGUMENT, message);
}

/* The same from the plan, which knows of nothing but shapes and choices. */
static void refuse_plan(const call *c, const char *message) {
    char expected[512];
    (void)snprintf(expected, sizeof expected, "visatb_vitw_linear_loss_plan: %s", message);
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    const visatb_linear_plan before = plan;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c->args, &plan), VISATB_ERROR_ARGUMENT);
    assert_string_equal(visatb_last_error(), expected);
    assert_memory_equal(&plan, &before, sizeof plan);
}

static void refuse_both(const call *c, const char *message) {
    refuse(c, message);
    refuse_plan(c, message);
}

static void good_call_is_accepted(void **state) {
    (void)state;
    call c;
    make(&c);
    assert_int_equal(visatb_vitw_linear_loss(&c.args), VISATB_OK);
}

/* ---- the structs ---- */

static void args_are_required_and_of_a_known_size(void **state) {
    (void)state;
    call c;
    make(&c);
    refuse_from(&c, NULL, VISATB_ERROR_ARGUMENT, "args = NULL; expected a pointer");
    char message[200];
    (void)snprintf(message, sizeof message,
                   "size = 8; expected %zu, as VISATB_VITW_LINEAR_LOSS_ARGS_INIT sets it", sizeof c.args);
    c.args.size = 8;
    refuse_both(&c, message);
}

static void later_struct_that_asks_for_something_new_is_not_supported(void **state) {
    (void)state;
    struct {
        visatb_vitw_linear_loss_args args;
        unsigned char new_fields[16];
    } later = {0};
    call c;
    make(&c);
    later.args = c.args;
    later.args.size = sizeof later;
    later.new_fields[3] = 1;
    const size_t known = sizeof c.args;
    char message[200];
    (void)snprintf(message, sizeof message,
                   "size = %zu, and byte %zu is not 0: this asks for something that version %s, which knows "
                   "%zu bytes, does not have",
                   known + 16, known + 3, visatb_version(), known);
    refuse_from(&c, &later.args, VISATB_ERROR_UNSUPPORTED, message);
    later.new_fields[3] = 0;
    assert_int_equal(visatb_vitw_linear_loss(&later.args), VISATB_OK);
}

static void plan_is_required_and_of_a_known_size(void **state) {
    (void)state;
    call c;
    make(&c);
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, NULL), VISATB_ERROR_ARGUMENT);
    assert_string_equal(visatb_last_error(), "visatb_vitw_linear_loss_plan: plan = NULL; expected a pointer");
    visatb_linear_plan plan = {0};
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &plan), VISATB_ERROR_ARGUMENT);
    char expected[200];
    (void)snprintf(expected, sizeof expected,
                   "visatb_vitw_linear_loss_plan: plan->size = 0; expected %zu, as VISATB_LINEAR_PLAN_INIT "
                   "sets it",
                   sizeof plan);
    assert_string_equal(visatb_last_error(), expected);
}

static void plan_of_a_later_version_is_filled_as_far_as_it_is_known(void **state) {
    (void)state;
    struct {
        visatb_linear_plan plan;
        unsigned char new_fields[16];
    } later;
    call c;
    make(&c);
    memset(&later, PATTERN, sizeof later);
    later.plan.size = sizeof later;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &later.plan), VISATB_OK);
    assert_int_equal(later.plan.size, sizeof later);
    assert_int_equal(later.plan.chunk_rows, ROWS);
    for (size_t i = 0; i < sizeof later.new_fields; ++i)
        assert_int_equal(later.new_fields[i], PATTERN);
}

/* ---- numbers ---- */

static void counts_have_a_range(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.rows = -1;
    refuse_both(&c, "rows = -1; expected a value in [0, 1152921504606846975]");
    make(&c);
    c.args.tasks = 0;
    refuse_both(&c, "tasks = 0; expected a value in [1, 1152921504606846975]");
    make(&c);
    c.args.vocab = 0;
    refuse_both(&c, "vocab = 0; expected a value in [1, 1152921504606846975]");
    make(&c);
    c.args.vocab = (INT64_C(1) << 29) + 1;
    refuse_both(&c, "vocab = 536870913; expected a value in [1, 536870912]");
    make(&c);
    c.args.hidden_size = 0;
    refuse_both(&c, "hidden_size = 0; expected a value in [1, 536870912]");
    make(&c);
    c.args.hidden_size = (INT64_C(1) << 29) + 1;
    refuse_both(&c, "hidden_size = 536870913; expected a value in [1, 536870912]");
    make(&c);
    c.args.max_valid_rows = -1;
    refuse_both(&c, "max_valid_rows = -1; expected a value >= 0");
    make(&c);
    c.args.threads = -1;
    refuse_both(&c, "threads = -1; expected a value >= 0");
}

static void strides_hold_a_row(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.hidden_stride = 3;
    refuse_both(&c, "hidden_stride = 3; expected 0 or at least hidden_size (4)");
    make(&c);
    c.args.weight_stride = 3;
    refuse_both(&c, "weight_stride = 3; expected 0 or at least hidden_size (4)");
    make(&c);
    c.args.hidden_gradient_stride = -1;
    refuse_both(&c, "hidden_gradient_stride = -1; expected 0 or at least hidden_size (4)");
    make(&c);
    c.args.weight_stride = INT64_C(1) << 30;
    refuse_both(&c, "weight_stride = 1073741824; expected at most 536870912");
    make(&c);
    c.args.hidden_stride = INT64_MAX;
    refuse_both(&c, "hidden_stride = 9223372036854775807; expected less: 3 such rows pass any memory");
}

static void choices_are_known(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.dtype = (visatb_dtype)0;
    refuse_both(&c,
                "dtype = 0; expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 (2), _FLOAT16 (3) or _FLOAT64 (4)");
    make(&c);
    c.args.reduction = (visatb_reduction)7;
    refuse_both(&c, "reduction = 7; expected VISATB_REDUCTION_MEAN (0) or VISATB_REDUCTION_SUM (1)");
    make(&c);
    c.args.softcap = (double)NAN;
    refuse_both(&c, "softcap = nan; expected a finite value > 0, or 0 for none");
    make(&c);
    c.args.cpu_path = (visatb_cpu_path)99;
    refuse_both(&c, "cpu_path = 99; expected a visatb_cpu_path");
    make(&c);
    c.args.accumulate = 2;
    refuse_both(&c, "accumulate = 2; expected 0 or 1");
    make(&c);
    c.args.reserved = 1;
    refuse_both(&c, "reserved = 1; expected 0");
}

/* ---- pointers ---- */

static void inputs_and_loss_are_required(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.weight = NULL;
    refuse(&c, "weight = NULL; expected a pointer");
    make(&c);
    c.args.hidden = NULL;
    refuse(&c, "hidden = NULL; expected a pointer, because rows = 3");
    make(&c);
    c.args.labels = NULL;
    refuse(&c, "labels = NULL; expected a pointer, because rows = 3");
    make(&c);
    c.args.loss = NULL;
    refuse(&c, "loss = NULL; expected a pointer");
}

static void plan_reads_no_array_and_needs_none(void **state) {
    (void)state;
    call c;
    make(&c);
    visatb_linear_plan with = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &with), VISATB_OK);
    c.args.hidden = c.args.weight = c.args.bias = NULL;
    c.args.labels = NULL;
    c.args.task_ids = NULL;
    c.args.task_weights = NULL;
    c.args.loss = NULL;
    c.args.workspace = NULL;
    c.args.workspace_bytes = 0;
    visatb_linear_plan without = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &without), VISATB_OK);
    assert_memory_equal(&with, &without, sizeof with);
}

static void refuse_misaligned(const call *c, const char *name, const void *pointer) {
    char message[200];
    (void)snprintf(message, sizeof message,
                   "%s = 0x%" PRIxPTR "; expected a multiple of 4, the bytes of an element", name,
                   (uintptr_t)pointer);
    refuse(c, message);
}

static void matrices_are_aligned_to_their_elements(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.hidden = (const char *)c.hidden + 2;
    refuse_misaligned(&c, "hidden", c.args.hidden);
    make(&c);
    c.args.weight = (const char *)c.weight + 1;
    refuse_misaligned(&c, "weight", c.args.weight);
    make(&c);
    c.args.bias = (const char *)c.bias + 1;
    refuse_misaligned(&c, "bias", c.args.bias);
    make(&c);
    c.args.hidden_gradient = (char *)c.out.hidden_gradient + 3;
    refuse_misaligned(&c, "hidden_gradient", c.args.hidden_gradient);
    make(&c);
    c.args.dtype = VISATB_DTYPE_BFLOAT16; /* whose head gradients are fp32 all the same */
    c.args.weight_gradient = (char *)c.out.weight_gradient + 2;
    refuse_misaligned(&c, "weight_gradient", c.args.weight_gradient);
    make(&c);
    c.args.bias_gradient = (char *)c.out.bias_gradient + 2;
    refuse_misaligned(&c, "bias_gradient", c.args.bias_gradient);
}

static void outputs_overlap_nothing(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.hidden_gradient = c.hidden;
    refuse(&c, "hidden_gradient overlaps hidden; expected separate memory");
    make(&c);
    c.args.hidden_gradient = &c.weight[VOCAB * STRIDE - 3]; /* the padding of the last row is not of it */
    refuse(&c, "hidden_gradient overlaps weight; expected separate memory");
    make(&c);
    c.args.weight_gradient = c.weight;
    refuse(&c, "weight_gradient overlaps weight; expected separate memory");
    make(&c);
    c.args.weight_gradient = c.out.hidden_gradient;
    refuse(&c, "weight_gradient overlaps hidden_gradient; expected separate memory");
    make(&c);
    c.args.bias_gradient = &c.out.weight_gradient[VOCAB * SIZE - 1];
    refuse(&c, "bias_gradient overlaps weight_gradient; expected separate memory");
    make(&c);
    c.args.bias_gradient = c.bias;
    refuse(&c, "bias_gradient overlaps bias; expected separate memory");
    make(&c);
    c.args.row_lse = c.out.row_nll;
    refuse(&c, "row_lse overlaps row_nll; expected separate memory");
    make(&c);
    c.args.row_nll = (float *)(void *)c.labels;
    refuse(&c, "row_nll overlaps labels; expected separate memory");
    make(&c);
    c.args.hidden = (const float *)(const void *)(workspace + 64);
    refuse(&c, "workspace overlaps hidden; expected separate memory");
}

static void small_outputs_overlap_nothing_either(void **state) {
    (void)state;
    double denominator = 3;
    static const float scale = 2;
    call c;
    make(&c);
    c.args.denominator = &denominator;
    c.args.denominator_out = &denominator;
    refuse(&c, "denominator_out overlaps denominator; expected separate memory");
    make(&c);
    c.args.grad_scale = &c.out.row_lse[1];
    c.out.row_lse[1] = scale;
    refuse(&c, "row_lse overlaps grad_scale; expected separate memory");
    make(&c);
    c.args.row_nll = c.weights;
    refuse(&c, "row_nll overlaps task_weights; expected separate memory");
    make(&c);
    c.args.loss = (double *)(void *)c.out.weight_gradient;
    refuse(&c, "loss overlaps weight_gradient; expected separate memory");
    make(&c);
    c.args.numerator = c.args.loss;
    refuse(&c, "numerator overlaps loss; expected separate memory");
    make(&c);
    c.args.task_nll = &c.out.numerator;
    refuse(&c, "task_nll overlaps numerator; expected separate memory");
    make(&c);
    c.args.task_tokens = (int64_t *)(void *)&c.out.task_nll[1];
    refuse(&c, "task_tokens overlaps task_nll; expected separate memory");
    make(&c);
    c.args.report = (visatb_report *)(void *)c.out.task_tokens;
    refuse(&c, "report overlaps task_tokens; expected separate memory");
    make(&c);
    c.args.loss = (double *)(void *)(workspace + 8);
    refuse(&c, "workspace overlaps loss; expected separate memory");
}

/* What lies behind the planned bytes is not the call's, however many more are said to be there. */
static void workspace_reaches_as_far_as_planned(void **state) {
    (void)state;
    call c;
    make(&c);
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &plan), VISATB_OK);
    c.args.workspace_bytes = SIZE_MAX;
    const size_t behind = (plan.workspace_bytes + 7) / 8 * 8;
    c.args.loss = (double *)(void *)(workspace + behind);
    assert_int_equal(visatb_vitw_linear_loss(&c.args), VISATB_OK);
    make(&c);
    c.args.workspace_bytes = SIZE_MAX;
    c.args.loss = (double *)(void *)(workspace + behind - 8);
    refuse(&c, "workspace overlaps loss; expected separate memory");
}

static void ranges_without_elements_do_not_meet(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.rows = 0;
    c.args.hidden = &c.out.weight_gradient[1];
    c.args.hidden_gradient = &c.out.weight_gradient[1];
    c.args.row_nll = c.args.row_lse = &c.out.weight_gradient[2];
    c.args.workspace = NULL;
    c.args.workspace_bytes = 0;
    assert_int_equal(visatb_vitw_linear_loss(&c.args), VISATB_OK);
    c.args.workspace = c.out.weight_gradient;
    c.args.workspace_bytes = SIZE_MAX;
    assert_int_equal(visatb_vitw_linear_loss(&c.args), VISATB_OK);
}

/* ---- what the arrays hold ---- */

static void rows_are_checked_as_those_of_the_loss_on_logits(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[2] = 5;
    refuse(&c, "labels[2] = 5; expected ignore_index (-100) or a value in [0, 5)");
    make(&c);
    c.task_ids[0] = 2;
    refuse(&c, "task_ids[0] = 2; expected a value in [0, 2)");
    make(&c);
    c.weights[1] = -1;
    refuse(&c, "task_weights[1] = -1; expected a finite value >= 0");
    make(&c);
    const double denominator = -1;
    c.args.denominator = &denominator;
    refuse(&c, "*denominator = -1; expected a finite value > 0");
    make(&c);
    const float scale = INFINITY;
    c.args.grad_scale = &scale;
    refuse(&c, "*grad_scale = inf; expected a finite value");
}

static void there_are_no_more_valid_rows_than_was_said(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.max_valid_rows = 1;
    refuse(&c, "max_valid_rows = 1; expected 0 or at least 2, the labels that differ from ignore_index");
    c.args.max_valid_rows = 2;
    assert_int_equal(visatb_vitw_linear_loss(&c.args), VISATB_OK);
}

/* ---- memory ---- */

static void workspace_is_as_large_as_planned(void **state) {
    (void)state;
    call c;
    make(&c);
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &plan), VISATB_OK);
    char message[200];
    (void)snprintf(message, sizeof message,
                   "workspace_bytes = %zu; expected at least %zu, as visatb_vitw_linear_loss_plan tells",
                   plan.workspace_bytes - 1, plan.workspace_bytes);
    c.args.workspace_bytes = plan.workspace_bytes - 1;
    refuse(&c, message);
    (void)snprintf(message, sizeof message, "workspace = NULL; expected %zu bytes of memory",
                   plan.workspace_bytes);
    c.args.workspace_bytes = plan.workspace_bytes;
    c.args.workspace = NULL;
    refuse(&c, message);
    c.args.workspace = workspace;
    assert_int_equal(visatb_vitw_linear_loss(&c.args), VISATB_OK);
}

static void budget_holds_at_least_one_row(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.chunk_bytes = 1;
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &plan), VISATB_ERROR_ARGUMENT);
    size_t smallest = 0;
    int length = 0;
    /* NOLINTNEXTLINE(cert-err34-c): the number is the library's */
    (void)sscanf(visatb_last_error(),
                 "visatb_vitw_linear_loss_plan: chunk_bytes = 1; expected at least %zu, which one row takes, "
                 "or 0%n",
                 &smallest, &length);
    assert_int_equal(length, strlen(visatb_last_error()));
    char message[200];
    (void)snprintf(message, sizeof message,
                   "chunk_bytes = %zu; expected at least %zu, which one row takes, or 0", smallest - 1,
                   smallest);
    c.args.chunk_bytes = smallest - 1;
    refuse_both(&c, message);
    c.args.chunk_bytes = smallest;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &plan), VISATB_OK);
    assert_int_equal(plan.chunk_rows, 1);
    assert_int_equal(plan.workspace_bytes, smallest);
}

/* Where even the usual budget would not do, 0 is no way out. */
static void giant_row_needs_a_budget_of_its_own(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.chunk_bytes = 0;
    c.args.rows = 1;
    c.args.vocab = INT64_C(1) << 28;
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &plan), VISATB_ERROR_ARGUMENT);
    const char *end = strstr(visatb_last_error(), ", which one row takes");
    assert_non_null(end);
    assert_string_equal(end, ", which one row takes");
    c.args.chunk_bytes = SIZE_MAX;
    assert_int_equal(visatb_vitw_linear_loss_plan(&c.args, &plan), VISATB_OK);
}

/* The sizes of a workspace for so many rows pass 64 bits. */
static void more_rows_than_any_budget_holds_are_refused(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.rows = (INT64_C(1) << 60) - 1;
    c.args.hidden_size = 1;
    c.args.hidden_stride = c.args.hidden_gradient_stride = 0;
    c.args.dtype = VISATB_DTYPE_BFLOAT16;
    c.args.chunk_bytes = SIZE_MAX;
    refuse_plan(&c, "chunk_bytes = 18446744073709551615; expected at least 18446744073709551615, which one "
                    "row takes");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_call_is_accepted),
        cmocka_unit_test(args_are_required_and_of_a_known_size),
        cmocka_unit_test(later_struct_that_asks_for_something_new_is_not_supported),
        cmocka_unit_test(plan_is_required_and_of_a_known_size),
        cmocka_unit_test(plan_of_a_later_version_is_filled_as_far_as_it_is_known),
        cmocka_unit_test(counts_have_a_range),
        cmocka_unit_test(strides_hold_a_row),
        cmocka_unit_test(choices_are_known),
        cmocka_unit_test(inputs_and_loss_are_required),
        cmocka_unit_test(plan_reads_no_array_and_needs_none),
        cmocka_unit_test(matrices_are_aligned_to_their_elements),
        cmocka_unit_test(outputs_overlap_nothing),
        cmocka_unit_test(small_outputs_overlap_nothing_either),
        cmocka_unit_test(workspace_reaches_as_far_as_planned),
        cmocka_unit_test(ranges_without_elements_do_not_meet),
        cmocka_unit_test(rows_are_checked_as_those_of_the_loss_on_logits),
        cmocka_unit_test(there_are_no_more_valid_rows_than_was_said),
        cmocka_unit_test(workspace_is_as_large_as_planned),
        cmocka_unit_test(budget_holds_at_least_one_row),
        cmocka_unit_test(giant_row_needs_a_budget_of_its_own),
        cmocka_unit_test(more_rows_than_any_budget_holds_are_refused),
    };
    return cmocka_run_group_tests_name("arguments of the loss of a linear head", tests, NULL, NULL);
}
