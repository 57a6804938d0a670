/* Every bad argument of visatb_vitw_loss, with the words it is refused with, and that a refused call leaves
 * every output as it was. */
#include "visatb.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 3, VOCAB = 4, TASKS = 2, STRIDE = 6, PATTERN = 0xa5 };

/* All that a call may write to, in one piece, so that it can be compared in one piece. */
typedef struct outputs {
    double loss, numerator, denominator_out;
    float gradient[ROWS * STRIDE];
    float row_nll[ROWS], row_lse[ROWS];
    double task_nll[TASKS];
    int64_t task_tokens[TASKS];
    visatb_report report;
} outputs;

typedef struct call {
    visatb_vitw_loss_args args;
    float logits[ROWS * STRIDE];
    int64_t labels[ROWS];
    int32_t task_ids[ROWS];
    float weights[TASKS];
    double denominator;
    float grad_scale;
    outputs out;
} call;

/* A good call: each test spoils one thing. */
static void make(call *c) {
    *c = (call){
        .args = VISATB_VITW_LOSS_ARGS_INIT,
        .labels = {0, -100, 3},
        .task_ids = {0, 1, 1},
        .weights = {1, 2},
        .denominator = 5,
        .grad_scale = 2,
    };
    memset(&c->out, PATTERN, sizeof c->out);
    visatb_vitw_loss_args *args = &c->args;
    args->rows = ROWS;
    args->vocab = VOCAB;
    args->tasks = TASKS;
    args->dtype = VISATB_DTYPE_FLOAT32;
    args->logits = c->logits;
    args->logits_stride = STRIDE;
    args->labels = c->labels;
    args->task_ids = c->task_ids;
    args->task_weights = c->weights;
    args->denominator = &c->denominator;
    args->grad_scale = &c->grad_scale;
    args->loss = &c->out.loss;
    args->numerator = &c->out.numerator;
    args->denominator_out = &c->out.denominator_out;
    args->gradient = c->out.gradient;
    args->gradient_stride = STRIDE;
    args->row_nll = c->out.row_nll;
    args->row_lse = c->out.row_lse;
    args->task_nll = c->out.task_nll;
    args->task_tokens = c->out.task_tokens;
    args->report = &c->out.report;
}

/* Runs the call from `args`, which may be a larger struct, and expects it to be refused. */
static void refuse_from(const call *c, const visatb_vitw_loss_args *args, visatb_status status,
                        const char *message) {
    const call before = *c;
    assert_int_equal(visatb_vitw_loss(args), status);
    assert_string_equal(visatb_last_error(), message);
    assert_string_equal(visatb_last_error_path(), "");
    assert_memory_equal(&before.out, &c->out, sizeof before.out);
    assert_memory_equal(before.logits, c->logits, sizeof before.logits);
}

static void refuse(const call *c, const char *message) {
    refuse_from(c, &c->args, VISATB_ERROR_ARGUMENT, message);
}

static void unsupported(const call *c, const char *message) {
    refuse_from(c, &c->args, VISATB_ERROR_UNSUPPORTED, message);
}

static void good_call_is_accepted(void **state) {
    (void)state;
    call c;
    make(&c);
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
}

/* ---- the struct ---- */

static void args_are_required(void **state) {
    (void)state;
    call c;
    make(&c);
    refuse_from(&c, NULL, VISATB_ERROR_ARGUMENT, "visatb_vitw_loss: args = NULL; expected a pointer");
}

static void size_comes_from_the_initialiser(void **state) {
    (void)state;
    const size_t right = sizeof(visatb_vitw_loss_args);
    const size_t wrong[] = {0, 8, right - 1, 65537, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        char message[200];
        (void)snprintf(message, sizeof message,
                       "visatb_vitw_loss: size = %zu; expected %zu, as VISATB_VITW_LOSS_ARGS_INIT sets it",
                       wrong[i], right);
        call c;
        make(&c);
        c.args.size = wrong[i];
        refuse(&c, message);
    }
}

static void later_struct_that_asks_for_something_new_is_not_supported(void **state) {
    (void)state;
    struct {
        visatb_vitw_loss_args args;
        unsigned char new_fields[16];
    } later = {0};
    call c;
    make(&c);
    later.args = c.args;
    later.args.size = sizeof later;
    later.new_fields[9] = 1;
    const size_t known = sizeof(visatb_vitw_loss_args);
    char message[200];
    (void)snprintf(
        message, sizeof message,
        "visatb_vitw_loss: size = %zu, and byte %zu is not 0: this asks for something that version %s, "
        "which knows %zu bytes, does not have",
        known + 16, known + 9, visatb_version(), known);
    refuse_from(&c, &later.args, VISATB_ERROR_UNSUPPORTED, message);
}

/* ---- numbers ---- */

static void counts_have_a_range(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.rows = -1;
    refuse(&c, "visatb_vitw_loss: rows = -1; expected a value in [0, 1152921504606846975]");
    make(&c);
    c.args.vocab = 0;
    refuse(&c, "visatb_vitw_loss: vocab = 0; expected a value in [1, 1152921504606846975]");
    make(&c);
    c.args.tasks = 0;
    refuse(&c, "visatb_vitw_loss: tasks = 0; expected a value in [1, 1152921504606846975]");
    make(&c);
    c.args.tasks = INT64_MAX;
    refuse(&c, "visatb_vitw_loss: tasks = 9223372036854775807; expected a value in [1, 1152921504606846975]");
}

static void strides_hold_a_row(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.logits_stride = 3;
    refuse(&c, "visatb_vitw_loss: logits_stride = 3; expected 0 or at least vocab (4)");
    make(&c);
    c.args.gradient_stride = -6;
    refuse(&c, "visatb_vitw_loss: gradient_stride = -6; expected 0 or at least vocab (4)");
}

static void matrices_fit_into_memory(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.logits_stride =
        (INT64_C(1) << 60) - 1; /* the last row begins within 2^63 bytes, and ends beyond */
    refuse(
        &c,
        "visatb_vitw_loss: logits_stride = 1152921504606846975; expected less: 3 such rows pass any memory");
    make(&c);
    c.args.gradient_stride = INT64_MAX;
    refuse(&c, "visatb_vitw_loss: gradient_stride = 9223372036854775807; expected less: 3 such rows pass any "
               "memory");
    make(&c);
    c.args.rows = c.args.vocab = INT64_C(1) << 32; /* their product is 2^64, or 0 */
    c.args.logits_stride = c.args.gradient_stride = 0;
    refuse(
        &c,
        "visatb_vitw_loss: logits_stride = 4294967296; expected less: 4294967296 such rows pass any memory");
}

static void dtype_is_set_and_known(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.dtype = (visatb_dtype)0;
    refuse(&c,
           "visatb_vitw_loss: dtype = 0; expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 (2), _FLOAT16 (3) or "
           "_FLOAT64 (4)");
    c.args.dtype = (visatb_dtype)5;
    refuse(&c,
           "visatb_vitw_loss: dtype = 5; expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 (2), _FLOAT16 (3) or "
           "_FLOAT64 (4)");
}

static void reduction_is_known(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.reduction = (visatb_reduction)2;
    refuse(&c,
           "visatb_vitw_loss: reduction = 2; expected VISATB_REDUCTION_MEAN (0) or VISATB_REDUCTION_SUM (1)");
}

static void label_smoothing_is_a_part_of_one(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.label_smoothing = 1.5;
    refuse(&c, "visatb_vitw_loss: label_smoothing = 1.5; expected a value in [0, 1]");
    c.args.label_smoothing = -0.1;
    refuse(&c, "visatb_vitw_loss: label_smoothing = -0.1; expected a value in [0, 1]");
    c.args.label_smoothing = (double)NAN;
    refuse(&c, "visatb_vitw_loss: label_smoothing = nan; expected a value in [0, 1]");
    c.args.label_smoothing = 1;
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
}

static void softcap_is_finite_and_positive_or_off(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.softcap = -30;
    refuse(&c, "visatb_vitw_loss: softcap = -30; expected a finite value > 0, or 0 for none");
    c.args.softcap = (double)INFINITY;
    refuse(&c, "visatb_vitw_loss: softcap = inf; expected a finite value > 0, or 0 for none");
    c.args.softcap = (double)NAN;
    refuse(&c, "visatb_vitw_loss: softcap = nan; expected a finite value > 0, or 0 for none");
}

static void z_loss_is_finite_and_not_negative(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.z_loss = -1e-4;
    refuse(&c, "visatb_vitw_loss: z_loss = -0.0001; expected a finite value >= 0");
    c.args.z_loss = (double)INFINITY;
    refuse(&c, "visatb_vitw_loss: z_loss = inf; expected a finite value >= 0");
    c.args.z_loss = (double)NAN;
    refuse(&c, "visatb_vitw_loss: z_loss = nan; expected a finite value >= 0");
}

static void threads_are_not_negative(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.threads = -1;
    refuse(&c, "visatb_vitw_loss: threads = -1; expected a value >= 0");
    c.args.threads = INT32_MIN;
    refuse(&c, "visatb_vitw_loss: threads = -2147483648; expected a value >= 0");
    c.args.threads = INT32_MAX;
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
}

static void cpu_path_is_one_that_there_is(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.cpu_path = (visatb_cpu_path)9;
    refuse(&c, "visatb_vitw_loss: cpu_path = 9; expected a visatb_cpu_path");
    c.args.cpu_path = (visatb_cpu_path)-1;
    refuse(&c, "visatb_vitw_loss: cpu_path = -1; expected a visatb_cpu_path");
}

/* The words for it are those of visatb_cpu_path_taken (test_cpu_paths), but for the name of the function. */
static void cpu_path_is_one_that_the_cpu_can_run(void **state) {
    (void)state;
    for (int path = VISATB_CPU_PORTABLE; path <= VISATB_CPU_AVX512_BF16; ++path) {
        visatb_cpu_path taken = VISATB_CPU_AUTO;
        call c;
        make(&c);
        c.args.cpu_path = (visatb_cpu_path)path;
        if (visatb_cpu_path_taken(c.args.cpu_path, &taken) == VISATB_OK) {
            assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
            continue;
        }
        char message[400];
        (void)snprintf(message, sizeof message, "visatb_vitw_loss%s", strchr(visatb_last_error(), ':'));
        unsupported(&c, message);
        c.args.dtype = VISATB_DTYPE_FLOAT64; /* is computed by another path, but asked of this one */
        unsupported(&c, message);
    }
}

/* ---- pointers ---- */

static void inputs_and_loss_are_required(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.loss = NULL;
    refuse(&c, "visatb_vitw_loss: loss = NULL; expected a pointer");
    make(&c);
    c.args.task_weights = NULL;
    refuse(&c, "visatb_vitw_loss: task_weights = NULL; expected a pointer");
    make(&c);
    c.args.logits = NULL;
    refuse(&c, "visatb_vitw_loss: logits = NULL; expected a pointer, because rows = 3");
    make(&c);
    c.args.labels = NULL;
    refuse(&c, "visatb_vitw_loss: labels = NULL; expected a pointer, because rows = 3");
    make(&c);
    c.args.task_ids = NULL;
    refuse(&c, "visatb_vitw_loss: task_ids = NULL; expected a pointer, because rows = 3");
}

static void without_rows_all_but_the_rows_is_still_checked(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.rows = 0;
    c.args.task_weights = NULL;
    refuse(&c, "visatb_vitw_loss: task_weights = NULL; expected a pointer");
    make(&c);
    c.args.rows = 0;
    c.weights[1] = -2;
    refuse(&c, "visatb_vitw_loss: task_weights[1] = -2; expected a finite value >= 0");
    make(&c);
    c.args.rows = 0;
    c.args.gradient_stride = 1;
    refuse(&c, "visatb_vitw_loss: gradient_stride = 1; expected 0 or at least vocab (4)");
}

static void matrices_are_aligned_to_their_elements(void **state) {
    (void)state;
    char message[200];
    call c;
    make(&c);
    c.args.logits = (const char *)c.logits + 2;
    (void)snprintf(message, sizeof message,
                   "visatb_vitw_loss: logits = 0x%" PRIxPTR
                   "; expected a multiple of 4, the bytes of an element",
                   (uintptr_t)c.args.logits);
    refuse(&c, message);
    make(&c);
    c.args.gradient = (char *)c.out.gradient + 1;
    (void)snprintf(message, sizeof message,
                   "visatb_vitw_loss: gradient = 0x%" PRIxPTR
                   "; expected a multiple of 4, the bytes of an element",
                   (uintptr_t)c.args.gradient);
    refuse(&c, message);
}

static void gradient_is_the_logits_or_apart_from_them(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.gradient = c.logits;
    c.args.gradient_stride = 0;
    refuse(
        &c,
        "visatb_vitw_loss: gradient row 0 overlaps logits row 0; expected separate memory, or logits itself "
        "with gradient_stride = 6 (logits_stride)");
    make(&c);
    c.args.gradient = c.logits + STRIDE;
    refuse(
        &c,
        "visatb_vitw_loss: gradient row 0 overlaps logits row 1; expected separate memory, or logits itself "
        "with gradient_stride = 6 (logits_stride)");
    make(&c);
    c.args.gradient = c.logits + VOCAB - 1; /* columns 3 to 6, where row 0 has 0 to 3 */
    refuse(
        &c,
        "visatb_vitw_loss: gradient row 0 overlaps logits row 0; expected separate memory, or logits itself "
        "with gradient_stride = 6 (logits_stride)");
    make(&c);
    c.args.rows = 2;
    c.args.logits = c.logits + STRIDE - 1; /* columns 5 to 8 and on: rows of the gradient end at 3 and 9 */
    c.args.gradient = c.logits;
    refuse(
        &c,
        "visatb_vitw_loss: gradient row 1 overlaps logits row 0; expected separate memory, or logits itself "
        "with gradient_stride = 6 (logits_stride)");
}

static void interleaved_rows_that_meet_late_are_found(void **state) {
    (void)state;
    enum { WIDE_ROWS = 3, WIDE = 9, NARROW = 8 };
    float buffer[WIDE_ROWS * WIDE + VOCAB];
    call c;
    make(&c);
    memset(buffer, 0, sizeof buffer);
    c.args.logits = buffer;
    c.args.logits_stride = WIDE; /* columns 0-3, 9-12, 18-21 */
    c.args.gradient = buffer + VOCAB + 1;
    c.args.gradient_stride = NARROW; /* columns 5-8, 13-16, 21-24 */
    refuse(
        &c,
        "visatb_vitw_loss: gradient row 2 overlaps logits row 2; expected separate memory, or logits itself "
        "with gradient_stride = 9 (logits_stride)");
    c.args.gradient_stride = NARROW + 1; /* 5-8, 14-17, 23-26 */
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
}

/* ---- what the arrays hold ---- */

static void task_weights_are_finite_and_not_negative(void **state) {
    (void)state;
    call c;
    make(&c);
    c.weights[0] = -0.5F;
    refuse(&c, "visatb_vitw_loss: task_weights[0] = -0.5; expected a finite value >= 0");
    make(&c);
    c.weights[1] = NAN;
    refuse(&c, "visatb_vitw_loss: task_weights[1] = nan; expected a finite value >= 0");
    make(&c);
    c.weights[1] = INFINITY;
    refuse(&c, "visatb_vitw_loss: task_weights[1] = inf; expected a finite value >= 0");
}

static void labels_are_in_the_vocabulary_or_ignored(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[2] = 4;
    refuse(&c, "visatb_vitw_loss: labels[2] = 4; expected ignore_index (-100) or a value in [0, 4)");
    make(&c);
    c.labels[0] = -1;
    refuse(&c, "visatb_vitw_loss: labels[0] = -1; expected ignore_index (-100) or a value in [0, 4)");
    make(&c);
    c.args.ignore_index = -1;
    refuse(&c, "visatb_vitw_loss: labels[1] = -100; expected ignore_index (-1) or a value in [0, 4)");
    make(&c);
    c.labels[2] = INT64_C(1) << 32; /* 0, if it were cut to 32 bits */
    refuse(&c, "visatb_vitw_loss: labels[2] = 4294967296; expected ignore_index (-100) or a value in [0, 4)");
}

static void task_ids_of_valid_rows_are_tasks(void **state) {
    (void)state;
    call c;
    make(&c);
    c.task_ids[2] = 2;
    refuse(&c, "visatb_vitw_loss: task_ids[2] = 2; expected a value in [0, 2)");
    make(&c);
    c.task_ids[0] = -1;
    refuse(&c, "visatb_vitw_loss: task_ids[0] = -1; expected a value in [0, 2)");
}

/* ---- denominator and scale ---- */

static void denominator_is_finite_and_positive(void **state) {
    (void)state;
    call c;
    make(&c);
    c.denominator = -3;
    refuse(&c, "visatb_vitw_loss: *denominator = -3; expected a finite value > 0");
    make(&c);
    c.denominator = (double)NAN;
    refuse(&c, "visatb_vitw_loss: *denominator = nan; expected a finite value > 0");
    make(&c);
    c.denominator = (double)INFINITY;
    refuse(&c, "visatb_vitw_loss: *denominator = inf; expected a finite value > 0");

    c.denominator = 5e-324;
    refuse(
        &c,
        "visatb_vitw_loss: *denominator = 4.94066e-324; expected a value that a task weight can be divided "
        "by");
}

static void denominator_is_zero_only_without_weighted_rows(void **state) {
    (void)state;
    call c;
    make(&c);
    c.denominator = 0;
    c.weights[0] = 0;
    refuse(&c,
           "visatb_vitw_loss: *denominator = 0; expected a finite value > 0, because row 2 has the weight 2");
    c.weights[1] = 0;
    assert_int_equal(visatb_vitw_loss(&c.args), VISATB_OK);
}

static void sum_takes_no_denominator(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.reduction = VISATB_REDUCTION_SUM;
    refuse(&c, "visatb_vitw_loss: *denominator = 5; expected denominator = NULL with VISATB_REDUCTION_SUM");
}

static void grad_scale_is_finite(void **state) {
    (void)state;
    call c;
    make(&c);
    c.grad_scale = NAN;
    refuse(&c, "visatb_vitw_loss: *grad_scale = nan; expected a finite value");
    make(&c);
    c.grad_scale = -INFINITY;
    refuse(&c, "visatb_vitw_loss: *grad_scale = -inf; expected a finite value");
}

static void refused_call_in_place_keeps_the_logits(void **state) {
    (void)state;
    call c;
    make(&c);
    c.args.gradient = c.logits;
    c.labels[ROWS - 1] = VOCAB; /* the last thing looked at in the rows */
    refuse(&c, "visatb_vitw_loss: labels[2] = 4; expected ignore_index (-100) or a value in [0, 4)");
    make(&c);
    c.args.gradient = c.logits;
    c.grad_scale = INFINITY;
    refuse(&c, "visatb_vitw_loss: *grad_scale = inf; expected a finite value");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_call_is_accepted),
        cmocka_unit_test(args_are_required),
        cmocka_unit_test(size_comes_from_the_initialiser),
        cmocka_unit_test(later_struct_that_asks_for_something_new_is_not_supported),
        cmocka_unit_test(counts_have_a_range),
        cmocka_unit_test(strides_hold_a_row),
        cmocka_unit_test(matrices_fit_into_memory),
        cmocka_unit_test(dtype_is_set_and_known),
        cmocka_unit_test(reduction_is_known),
        cmocka_unit_test(label_smoothing_is_a_part_of_one),
        cmocka_unit_test(softcap_is_finite_and_positive_or_off),
        cmocka_unit_test(z_loss_is_finite_and_not_negative),
        cmocka_unit_test(threads_are_not_negative),
        cmocka_unit_test(cpu_path_is_one_that_there_is),
        cmocka_unit_test(cpu_path_is_one_that_the_cpu_can_run),
        cmocka_unit_test(inputs_and_loss_are_required),
        cmocka_unit_test(without_rows_all_but_the_rows_is_still_checked),
        cmocka_unit_test(matrices_are_aligned_to_their_elements),
        cmocka_unit_test(gradient_is_the_logits_or_apart_from_them),
        cmocka_unit_test(interleaved_rows_that_meet_late_are_found),
        cmocka_unit_test(task_weights_are_finite_and_not_negative),
        cmocka_unit_test(labels_are_in_the_vocabulary_or_ignored),
        cmocka_unit_test(task_ids_of_valid_rows_are_tasks),
        cmocka_unit_test(denominator_is_finite_and_positive),
        cmocka_unit_test(denominator_is_zero_only_without_weighted_rows),
        cmocka_unit_test(sum_takes_no_denominator),
        cmocka_unit_test(grad_scale_is_finite),
        cmocka_unit_test(refused_call_in_place_keeps_the_logits),
    };
    return cmocka_run_group_tests_name("arguments of the loss", tests, NULL, NULL);
}
