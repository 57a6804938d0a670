/* The loss of a linear head on a GPU: what it computes, for each type, in one chunk and in several, and the
 * rules of rows and gradients. */
#include "cuda_linear_problem.h"
#include "device_memory.h"

#include <math.h>
#include <string.h>

static const linear_shape small = {37, 12, 75};
static const visatb_dtype dtypes[] = {VISATB_DTYPE_FLOAT32, VISATB_DTYPE_BFLOAT16, VISATB_DTYPE_FLOAT16};

enum { DTYPES = sizeof dtypes / sizeof *dtypes };

static visatb_context *context;

static int create_context(void **state) {
    (void)state;
    if (visatb_context_create(&context) == VISATB_OK)
        return 0;
    print_error("%s\n", visatb_last_error());
    return -1;
}

static int destroy_context(void **state) {
    (void)state;
    visatb_context_destroy(context);
    return 0;
}

static void make(cuda_linear_problem *p, visatb_dtype dtype) {
    cuda_linear_create(p, context, dtype, small);
}

static void make_chunks(cuda_linear_problem *p, int64_t rows) {
    p->host.args.chunk_bytes = cuda_linear_bytes_of_rows(p, rows);
}

static void assert_report(const cuda_linear_problem *p, visatb_report_code code, int64_t row) {
    assert_int_equal(p->host.report.code, code);
    assert_int_equal(p->host.report.reserved, 0);
    assert_int_equal(p->host.report.first_bad_row, row);
}

static bool all_of_row(const cuda_linear_problem *p, int64_t row, bool nan) {
    for (int64_t i = 0; i < p->host.args.hidden_size; ++i) {
        const double value = linear_hidden_gradient(&p->host, row, i);
        if (nan ? !isnan(value) : value != 0)
            return false;
    }
    return true;
}

static bool is_valid(const cuda_linear_problem *p, int64_t row) {
    return p->host.logits.labels[row] != p->host.args.ignore_index;
}

static int64_t count_valid(const cuda_linear_problem *p) {
    int64_t valid = 0;
    for (int64_t row = 0; row < p->host.args.rows; ++row)
        valid += is_valid(p, row);
    return valid;
}

/* ---- what is computed ---- */

static void check_in_chunks_of(cuda_linear_problem *p, int64_t rows) {
    const int64_t bound = p->host.args.max_valid_rows;
    const int64_t most = bound > 0 && bound < p->host.args.rows ? bound : p->host.args.rows;
    make_chunks(p, rows);
    cuda_linear_check(p);
    assert_int_equal(p->plan.chunks, (most + rows - 1) / rows);
}

static void check_in_one_chunk_and_in_several(cuda_linear_problem *p) {
    p->host.args.chunk_bytes = 0;
    cuda_linear_check(p);
    assert_int_equal(p->plan.chunks, 1);
    check_in_chunks_of(p, 8);
    check_in_chunks_of(p, 5);
}

static void every_type_with_and_without_bias(void **state) {
    (void)state;
    for (int i = 0; i < DTYPES; ++i) {
        cuda_linear_problem p;
        make(&p, dtypes[i]);
        check_in_one_chunk_and_in_several(&p);
        assert_report(&p, VISATB_REPORT_OK, -1);
        p.host.args.bias = NULL;
        check_in_one_chunk_and_in_several(&p);
        cuda_linear_destroy(&p);
    }
}

static void every_option(void **state) {
    (void)state;
    const float scale = -64;
    for (int i = 0; i < DTYPES; ++i) {
        cuda_linear_problem p;
        make(&p, dtypes[i]);
        p.host.args.label_smoothing = 0.1;
        p.host.args.softcap = 5;
        p.host.args.z_loss = 1e-3;
        p.host.args.grad_scale = &scale;
        cuda_linear_check(&p);
        p.host.args.reduction = VISATB_REDUCTION_SUM;
        cuda_linear_check(&p);
        cuda_linear_destroy(&p);
    }
}

static void rows_and_columns_that_fill_no_tile(void **state) {
    (void)state;
    static const linear_shape shapes[] = {{1, 1, 1}, {1, 7, 2}, {130, 3, 9}, {9, 129, 40}, {3, 600, 33}};
    for (size_t shape = 0; shape < sizeof shapes / sizeof *shapes; ++shape)
        for (int i = 0; i < DTYPES; ++i) {
            cuda_linear_problem p;
            cuda_linear_create(&p, context, dtypes[i], shapes[shape]);
            cuda_linear_check(&p);
            cuda_linear_destroy(&p);
        }
}

static void dense_rows_as_well_as_strided_ones(void **state) {
    (void)state;
    static const linear_shape shape = {20, 16, 64};
    for (int i = 0; i < DTYPES; ++i) {
        cuda_linear_problem p;
        cuda_linear_create(&p, context, dtypes[i], shape);
        const size_t row = (size_t)shape.hidden_size * reference_size(dtypes[i]);
        for (int64_t r = 1; r < shape.rows; ++r)
            memmove(p.host.hidden_memory + (size_t)r * row,
                    p.host.hidden_memory +
                        (size_t)(r * p.host.args.hidden_stride) * reference_size(dtypes[i]),
                    row);
        p.host.args.hidden_stride = 0;
        cuda_linear_solve(&p);
        p.host.args.hidden_stride = shape.hidden_size; /* for the copy to the device to know its size */
        p.host.args.hidden_gradient_stride = shape.hidden_size;
        p.host.hidden_gradient_bytes = (size_t)shape.rows * row;
        cuda_linear_run(&p);
        cuda_linear_compare(&p);
        cuda_linear_destroy(&p);
    }
}

/* ---- the same bits ---- */

static void same_bits_on_every_run_in_every_order_and_context(void **state) {
    (void)state;
    cuda_linear_problem p;
    visatb_context *other = NULL;
    assert_int_equal(visatb_context_create(&other), VISATB_OK);
    make(&p, VISATB_DTYPE_BFLOAT16);
    make_chunks(&p, 8);
    cuda_linear_run(&p);
    const double loss = p.host.loss_out;
    float head[75 * 12];
    memcpy(head, p.host.weight_gradient_memory, sizeof head);
    for (unsigned seed = 0; seed < 4; ++seed) {
        (void)device_shuffle(seed);
        p.context = seed % 2 == 0 ? other : context;
        cuda_linear_run(&p);
        assert_memory_equal(&p.host.loss_out, &loss, sizeof loss);
        assert_memory_equal(p.host.weight_gradient_memory, head, sizeof head);
    }
    (void)device_shuffle(0);
    cuda_linear_destroy(&p);
    visatb_context_destroy(other);
}

/* ---- the head's gradients ---- */

static void accumulating_adds_to_what_is_there(void **state) {
    (void)state;
    for (int i = 0; i < DTYPES; ++i) {
        cuda_linear_problem p;
        make(&p, dtypes[i]);
        p.host.args.accumulate = 1;
        check_in_one_chunk_and_in_several(&p);
        cuda_linear_destroy(&p);
    }
}

static void gradient_of_the_head_may_be_of_its_type(void **state) {
    (void)state;
    for (int i = 0; i < DTYPES; ++i)
        for (int32_t accumulate = 0; accumulate <= 1; ++accumulate) {
            cuda_linear_problem p;
            make(&p, dtypes[i]);
            p.host.args.head_gradient_dtype = dtypes[i];
            p.host.args.accumulate = accumulate;
            check_in_one_chunk_and_in_several(&p);
            cuda_linear_destroy(&p);
        }
}

static void gradient_of_a_bias_that_is_not_there_may_be_asked_for(void **state) {
    (void)state;
    cuda_linear_problem p;
    make(&p, VISATB_DTYPE_FLOAT32);
    p.host.args.bias = NULL;
    p.host.args.weight_gradient = NULL;
    p.host.args.hidden_gradient = NULL;
    cuda_linear_check(&p);
    cuda_linear_destroy(&p);
}

static void each_gradient_may_be_left_out(void **state) {
    (void)state;
    cuda_linear_problem p;
    make(&p, VISATB_DTYPE_BFLOAT16);
    cuda_linear_solve(&p);
    cuda_linear_run(&p);
    const double loss = p.host.loss_out;
    for (int left_out = 1; left_out < 8; ++left_out) {
        p.host.args.hidden_gradient = (left_out & 1) != 0 ? NULL : p.host.hidden_gradient_memory;
        p.host.args.weight_gradient = (left_out & 2) != 0 ? NULL : p.host.weight_gradient_memory;
        p.host.args.bias_gradient = (left_out & 4) != 0 ? NULL : p.host.bias_gradient_memory;
        cuda_linear_run(&p);
        cuda_linear_compare(&p);
        assert_memory_equal(&p.host.loss_out, &loss, sizeof loss);
    }
    cuda_linear_destroy(&p);
}

static void everything_but_the_loss_may_be_left_out(void **state) {
    (void)state;
    cuda_linear_problem p;
    make(&p, VISATB_DTYPE_FLOAT16);
    cuda_linear_run(&p);
    const double loss = p.host.loss_out;
    visatb_vitw_linear_loss_args *args = &p.host.args;
    args->hidden_gradient = args->weight_gradient = args->bias_gradient = NULL;
    args->numerator = args->denominator_out = args->task_nll = NULL;
    args->row_nll = args->row_lse = NULL;
    args->task_tokens = NULL;
    args->report = NULL;
    cuda_linear_run(&p);
    assert_memory_equal(&p.host.loss_out, &loss, sizeof loss);
    cuda_linear_destroy(&p);
}

/* ---- rows that do not train ---- */

static void ignore_all_rows(cuda_linear_problem *p) {
    for (int64_t row = 0; row < p->host.args.rows; ++row)
        p->host.logits.labels[row] = p->host.args.ignore_index;
}

static void without_valid_rows_loss_and_gradients_are_zero(void **state) {
    (void)state;
    for (int32_t accumulate = 0; accumulate <= 1; ++accumulate) {
        cuda_linear_problem p;
        make(&p, VISATB_DTYPE_BFLOAT16);
        ignore_all_rows(&p);
        p.host.args.accumulate = accumulate;
        cuda_linear_check(&p);
        assert_true(p.host.loss_out == 0 && p.host.numerator_out == 0 && p.host.denominator_out == 0);
        for (int64_t i = 0; i < small.vocab * small.hidden_size; ++i)
            assert_true(cuda_linear_head_gradient(&p, p.host.weight_gradient_memory, i) == accumulate);
        assert_report(&p, VISATB_REPORT_OK, -1);
        cuda_linear_destroy(&p);
    }
}

static void without_rows_too(void **state) {
    (void)state;
    static const linear_shape none = {0, 6, 11};
    for (int32_t accumulate = 0; accumulate <= 1; ++accumulate) {
        cuda_linear_problem p;
        cuda_linear_create(&p, context, VISATB_DTYPE_FLOAT16, none);
        p.host.args.hidden = NULL;
        p.host.args.labels = NULL;
        p.host.args.task_ids = NULL;
        p.host.args.accumulate = accumulate;
        p.host.args.head_gradient_dtype = VISATB_DTYPE_FLOAT16;
        cuda_linear_check(&p);
        assert_int_equal(p.plan.chunk_rows, 0);
        assert_int_equal(p.plan.chunks, 0);
        assert_true(p.host.loss_out == 0);
        assert_report(&p, VISATB_REPORT_OK, -1);
        cuda_linear_destroy(&p);
    }
}

static void ignored_rows_are_not_even_read(void **state) {
    (void)state;
    cuda_linear_problem p;
    make(&p, VISATB_DTYPE_FLOAT32);
    assert_false(is_valid(&p, 3));
    for (int64_t i = 0; i < small.hidden_size; ++i)
        linear_put_hidden(&p.host, 3, i, (double)NAN);
    p.host.logits.task_ids[3] = INT32_MAX;
    cuda_linear_run(&p);
    p.host.logits.task_ids[3] = 0;
    linear_put_hidden(&p.host, 3, 0, (double)NAN);
    cuda_linear_solve(&p);
    cuda_linear_compare(&p);
    assert_report(&p, VISATB_REPORT_OK, -1);
    cuda_linear_destroy(&p);
}

/* 0 times NaN is NaN: such a row must be kept out of the head's gradient by more than its zero weight. */
static void rows_of_weight_zero_do_not_train_even_over_nan(void **state) {
    (void)state;
    for (int i = 0; i < DTYPES; ++i) {
        cuda_linear_problem p;
        make(&p, dtypes[i]);
        linear_put_hidden(&p.host, 1, 2, (double)NAN);
        linear_put_hidden(&p.host, 7, 0, (double)INFINITY);
        cuda_linear_check(&p);
        assert_report(&p, VISATB_REPORT_LOGITS, 1);
        assert_true(isnan(p.host.row_nll[1]) && isnan(p.host.task_nll[1]) && isfinite(p.host.loss_out));
        make_chunks(&p, 8);
        cuda_linear_check(&p);
        for (int64_t j = 0; j < small.vocab * small.hidden_size; ++j)
            assert_true(isfinite(cuda_linear_head_gradient(&p, p.host.weight_gradient_memory, j)));
        cuda_linear_destroy(&p);
    }
}

static void rows_of_weight_zero_have_no_gradient_even_of_a_head_of_nan(void **state) {
    (void)state;
    for (int i = 0; i < DTYPES; ++i) {
        cuda_linear_problem p;
        make(&p, dtypes[i]);
        reference_put(dtypes[i], p.host.weight_memory, 0, (long double)NAN);
        cuda_linear_run(&p);
        assert_report(&p, VISATB_REPORT_LOGITS, 0);
        for (int64_t row = 0; row < small.rows; ++row) {
            const bool trains = is_valid(&p, row) && row % PROBLEM_TASKS != 1;
            assert_true(all_of_row(&p, row, trains));
        }
        cuda_linear_destroy(&p);
    }
}

static void bad_row_with_a_weight_is_reported_and_spoils_only_what_it_enters(void **state) {
    (void)state;
    cuda_linear_problem p;
    make(&p, VISATB_DTYPE_BFLOAT16);
    linear_put_hidden(&p.host, 5, 1, (double)NAN);
    cuda_linear_check(&p);
    assert_report(&p, VISATB_REPORT_LOGITS, 5);
    assert_true(isnan(p.host.loss_out));
    assert_true(all_of_row(&p, 5, true));
    assert_true(!isnan(linear_hidden_gradient(&p.host, 6, 0)));
    assert_true(isnan(cuda_linear_head_gradient(&p, p.host.weight_gradient_memory, 0)));
    cuda_linear_destroy(&p);
}

/* ---- what the host cannot see ---- */

static void assert_spoiled_by_row(cuda_linear_problem *p, visatb_report_code code, int64_t row) {
    cuda_linear_run(p);
    assert_report(p, code, row);
    assert_true(isnan(p->host.loss_out));
    for (int64_t r = 0; r < p->host.args.rows; ++r)
        assert_true(all_of_row(p, r, true) == (r == row));
    assert_true(isnan(p->host.row_nll[row]));
}

static void rows_that_the_cpu_would_refuse_are_reported(void **state) {
    (void)state;
    static const int64_t labels[] = {-1, 75, INT64_MAX, INT64_MIN};
    static const int32_t tasks[] = {-1, PROBLEM_TASKS, INT32_MAX, INT32_MIN};
    cuda_linear_problem p;
    for (int i = 0; i < 4; ++i) {
        make(&p, VISATB_DTYPE_BFLOAT16);
        p.host.logits.labels[6] = labels[i];
        assert_spoiled_by_row(&p, VISATB_REPORT_LABEL, 6);
        cuda_linear_destroy(&p);
        make(&p, VISATB_DTYPE_FLOAT32);
        p.host.logits.task_ids[8] = tasks[i];
        assert_spoiled_by_row(&p, VISATB_REPORT_TASK_ID, 8);
        cuda_linear_destroy(&p);
    }
}

static void bad_task_weight_is_reported_of_its_first_row(void **state) {
    (void)state;
    static const float bad[] = {-1, (float)NAN, (float)INFINITY};
    for (int i = 0; i < 3; ++i) {
        cuda_linear_problem p;
        make(&p, VISATB_DTYPE_FLOAT16);
        p.host.logits.weights[2] = bad[i];
        cuda_linear_run(&p);
        assert_report(&p, VISATB_REPORT_TASK_WEIGHT, 2);
        assert_true(isnan(p.host.loss_out));
        assert_true(all_of_row(&p, 2, true) && all_of_row(&p, 5, true) && all_of_row(&p, 3, false));
        assert_true(!isnan(linear_hidden_gradient(&p.host, 0, 0)));
        cuda_linear_destroy(&p);
    }
}

/* ---- scalars ---- */

static void scalars_may_be_of_the_host_or_of_the_device(void **state) {
    (void)state;
    const double denominator = 37.5;
    const float scale = -1024;
    for (int on_device = 0; on_device <= 1; ++on_device) {
        cuda_linear_problem p;
        make(&p, VISATB_DTYPE_BFLOAT16);
        p.scalars_on_device = on_device != 0;
        p.host.args.denominator = &denominator;
        cuda_linear_check(&p);
        p.host.args.grad_scale = &scale;
        cuda_linear_check(&p);
        cuda_linear_destroy(&p);
    }
}

static void bad_denominator_of_the_device_is_reported(void **state) {
    (void)state;
    static const double bad[] = {0, -1, (double)NAN, (double)INFINITY};
    for (int i = 0; i < 4; ++i) {
        cuda_linear_problem p;
        make(&p, VISATB_DTYPE_FLOAT32);
        p.scalars_on_device = true;
        p.host.args.denominator = &bad[i];
        cuda_linear_run(&p);
        assert_int_equal(p.host.report.code, VISATB_REPORT_DENOMINATOR);
        assert_true(isnan(p.host.loss_out));
        for (int64_t row = 0; row < small.rows; ++row)
            assert_true(all_of_row(&p, row, is_valid(&p, row) && row % PROBLEM_TASKS != 1));
        cuda_linear_destroy(&p);
    }
}

/* ---- the bound on valid rows ---- */

static void bound_on_valid_rows_may_be_exact_or_larger(void **state) {
    (void)state;
    for (int i = 0; i < DTYPES; ++i) {
        cuda_linear_problem p;
        make(&p, dtypes[i]);
        const int64_t valid = count_valid(&p);
        static const int64_t more[] = {0, 1, 3, 1000};
        for (size_t j = 0; j < sizeof more / sizeof *more; ++j) {
            p.host.args.max_valid_rows = valid + more[j];
            check_in_one_chunk_and_in_several(&p);
            assert_report(&p, VISATB_REPORT_OK, -1);
        }
        cuda_linear_destroy(&p);
    }
}

static int64_t valid_row_number(const cuda_linear_problem *p, int64_t number) {
    int64_t row = 0;
    for (int64_t seen = 0;; ++row)
        if (is_valid(p, row) && seen++ == number)
            return row;
}

/* Padding would have room for them; but a workspace of another size would not. */
static void more_valid_rows_than_the_bound_spoil_all_that_has_a_weight(void **state) {
    (void)state;
    cuda_linear_problem p;
    for (int several = 0; several <= 1; ++several) {
        make(&p, VISATB_DTYPE_BFLOAT16);
        if (several)
            make_chunks(&p, 8);
        p.host.args.max_valid_rows = count_valid(&p) - 3; /* of which one has no weight */
        const int64_t first_beyond = valid_row_number(&p, p.host.args.max_valid_rows);
        cuda_linear_run(&p);
        assert_report(&p, VISATB_REPORT_VALID_ROWS, first_beyond);
        assert_true(isnan(p.host.loss_out));
        for (int64_t row = 0; row < small.rows; ++row)
            assert_true(all_of_row(&p, row, is_valid(&p, row) && row % PROBLEM_TASKS != 1));
        assert_true(isnan(cuda_linear_head_gradient(&p, p.host.weight_gradient_memory, 0)));
        cuda_linear_destroy(&p);
    }
}

int main(void) {
    if (!device_is_there())
        return DEVICE_ABSENT;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_with_and_without_bias),
        cmocka_unit_test(every_option),
        cmocka_unit_test(rows_and_columns_that_fill_no_tile),
        cmocka_unit_test(dense_rows_as_well_as_strided_ones),
        cmocka_unit_test(same_bits_on_every_run_in_every_order_and_context),
        cmocka_unit_test(accumulating_adds_to_what_is_there),
        cmocka_unit_test(gradient_of_the_head_may_be_of_its_type),
        cmocka_unit_test(gradient_of_a_bias_that_is_not_there_may_be_asked_for),
        cmocka_unit_test(each_gradient_may_be_left_out),
        cmocka_unit_test(everything_but_the_loss_may_be_left_out),
        cmocka_unit_test(without_valid_rows_loss_and_gradients_are_zero),
        cmocka_unit_test(without_rows_too),
        cmocka_unit_test(ignored_rows_are_not_even_read),
        cmocka_unit_test(rows_of_weight_zero_do_not_train_even_over_nan),
        cmocka_unit_test(rows_of_weight_zero_have_no_gradient_even_of_a_head_of_nan),
        cmocka_unit_test(bad_row_with_a_weight_is_reported_and_spoils_only_what_it_enters),
        cmocka_unit_test(rows_that_the_cpu_would_refuse_are_reported),
        cmocka_unit_test(bad_task_weight_is_reported_of_its_first_row),
        cmocka_unit_test(scalars_may_be_of_the_host_or_of_the_device),
        cmocka_unit_test(bad_denominator_of_the_device_is_reported),
        cmocka_unit_test(bound_on_valid_rows_may_be_exact_or_larger),
        cmocka_unit_test(more_valid_rows_than_the_bound_spoil_all_that_has_a_weight),
    };
    return cmocka_run_group_tests_name("the loss of a linear head on a GPU", tests, create_context,
                                       destroy_context);
}
