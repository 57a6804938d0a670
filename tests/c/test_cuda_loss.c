/* What the loss is on a GPU and nowhere else: paths and their plans, bad data in the GPU's memory, scalars
 * there and on the host, threads in any order, the factor of a backward. The formula, options and edges are
 * promised of both (test_loss_*_on_gpu). */
#include "device_memory.h"
#include "fibres_control.h"
#include "loss_call.h"
#include "loss_problem.h"
#include "on_gpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const visatb_dtype dtypes[] = {VISATB_DTYPE_FLOAT32, VISATB_DTYPE_BFLOAT16, VISATB_DTYPE_FLOAT16};
static const visatb_cuda_path paths[] = {VISATB_CUDA_ONE_READ, VISATB_CUDA_TWO_READ};

enum { DTYPES = 3, PATHS = 2 };

static double ordinary(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    (void)i;
    return problem_random(-8, 8);
}

static int forget_settings(void **state) {
    (void)state;
    fibres_set_device(90, 232448, 233472);
    fibres_set_build(90);
    fibres_set_order(FIBRES_FORWARD, 0);
    fibres_fail_launch(0);
    device_free_all_on_host();
    return 0;
}

/* ---- paths ---- */

static visatb_loss_plan plan_of(visatb_dtype dtype, int64_t vocab, visatb_cuda_path path) {
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    visatb_loss_plan plan = VISATB_LOSS_PLAN_INIT;
    args.rows = 5;
    args.vocab = vocab;
    args.tasks = 1;
    args.dtype = dtype;
    args.device = VISATB_DEVICE_CUDA;
    args.cuda_path = path;
    if (visatb_vitw_loss_plan(&args, &plan) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
    return plan;
}

/* As few blocks as let three of them share a multiprocessor; then two, then one. */
static void rows_are_read_once_up_to_the_memory_of_eight_multiprocessors(void **state) {
    (void)state;
    static const struct {
        visatb_dtype dtype;
        int64_t vocab;
        visatb_cuda_path path;
        int32_t cluster;
    } expected[] = {
        {VISATB_DTYPE_BFLOAT16, 1, VISATB_CUDA_ONE_READ, 1},
        {VISATB_DTYPE_BFLOAT16, 32000, VISATB_CUDA_ONE_READ, 1},
        {VISATB_DTYPE_BFLOAT16, 32064, VISATB_CUDA_ONE_READ, 1},
        {VISATB_DTYPE_BFLOAT16, 128256, VISATB_CUDA_ONE_READ, 4},
        {VISATB_DTYPE_BFLOAT16, 152064, VISATB_CUDA_ONE_READ, 4},
        {VISATB_DTYPE_BFLOAT16, 262144, VISATB_CUDA_ONE_READ, 8},
        {VISATB_DTYPE_BFLOAT16, 304632, VISATB_CUDA_ONE_READ, 8}, /* three blocks to a multiprocessor */
        {VISATB_DTYPE_BFLOAT16, 304633, VISATB_CUDA_ONE_READ, 8}, /* two */
        {VISATB_DTYPE_BFLOAT16, 927224, VISATB_CUDA_ONE_READ, 8}, /* one */
        {VISATB_DTYPE_BFLOAT16, 927225, VISATB_CUDA_TWO_READ, 1},
        {VISATB_DTYPE_FLOAT32, 32000, VISATB_CUDA_ONE_READ, 2},
        {VISATB_DTYPE_FLOAT32, 152064, VISATB_CUDA_ONE_READ, 8},
        {VISATB_DTYPE_FLOAT32, 500000, VISATB_CUDA_TWO_READ, 1},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; ++i) {
        const visatb_loss_plan plan = plan_of(expected[i].dtype, expected[i].vocab, VISATB_CUDA_AUTO);
        assert_int_equal(plan.cuda_path, expected[i].path);
        assert_int_equal(plan.cluster, expected[i].cluster);
        assert_true(plan.threads >= 32 && plan.threads <= 384 && plan.threads % 32 == 0);
        assert_int_equal(plan.cpu_path, VISATB_CPU_AUTO);
    }
    assert_int_equal(plan_of(VISATB_DTYPE_BFLOAT16, 32000, VISATB_CUDA_TWO_READ).cuda_path,
                     VISATB_CUDA_TWO_READ);
}

static void older_gpus_read_twice(void **state) {
    (void)state;
    fibres_set_device(80, 166912, 167936);
    assert_int_equal(plan_of(VISATB_DTYPE_BFLOAT16, 100, VISATB_CUDA_AUTO).cuda_path, VISATB_CUDA_TWO_READ);
}

static void library_that_was_built_for_older_gpus_reads_twice(void **state) {
    (void)state;
    fibres_set_build(80);
    assert_int_equal(plan_of(VISATB_DTYPE_BFLOAT16, 100, VISATB_CUDA_AUTO).cuda_path, VISATB_CUDA_TWO_READ);
}

/* What is on the host is the reference; the copy of it is what is computed on. */
static void run_on_gpu(problem *p, visatb_cuda_path path) {
    p->args.cuda_path = path;
    if (on_gpu_run(&p->args) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
}

/* Shapes that a fast path is for, and those just beside: widths that are not whole granules, one more than a
 * cluster of a size holds, rows that begin anywhere. */
static void wide_rows_follow_the_formula_whatever_their_width(void **state) {
    (void)state;
    static const int64_t vocabs[] = {32000, 32003, 32064, 128256, 131073, 152064, 262144};
    for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; ++i)
        for (int path = 0; path < PATHS; ++path) {
            problem p;
            problem_create(&p, dtypes[(i + (size_t)path) % DTYPES], 2, vocabs[i]);
            problem_fill(&p, ordinary);
            problem_solve(&p);
            p.call = on_gpu_run;
            p.args.cuda_path = paths[path];
            problem_check(&p, VISATB_CPU_AUTO, NULL);
            problem_destroy(&p);
        }
}

static double far_below_the_first(const problem *p, int64_t row, int64_t i) {
    (void)p;
    (void)row;
    return i == 0 ? 12 : problem_random(-2, 2);
}

/* x / ln 2 of a logit so far below loses some of its digits, and fp16 shows it: without care for them 52 of
 * these 108,027 entries are rounded wrongly, with it 14. */
static void fp16_gradients_far_below_the_largest_logit_are_rounded_correctly(void **state) {
    (void)state;
    for (int path = 0; path < PATHS; ++path) {
        problem p;
        problem_tally tally = {0, 0};
        problem_create(&p, VISATB_DTYPE_FLOAT16, 48, 4001);
        problem_fill(&p, far_below_the_first);
        p.grad_scale = 65536;
        p.args.grad_scale = &p.grad_scale;
        problem_solve(&p);
        p.call = on_gpu_run;
        p.args.cuda_path = paths[path];
        problem_check(&p, VISATB_CPU_AUTO, &tally);
        const int64_t wrong = tally.normal_entries - tally.correctly_rounded;
        print_message("rounded wrongly: %lld of %lld\n", (long long)wrong, (long long)tally.normal_entries);
        assert_true(tally.normal_entries > 70000);
        assert_true(wrong * 4000 <= tally.normal_entries);
        problem_destroy(&p);
    }
}

static void any_number_of_rows_follows_the_formula(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 131, 8192};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; ++i)
        for (int path = 0; path < PATHS; ++path) {
            problem p;
            problem_create(&p, dtypes[(i + (size_t)path) % DTYPES], rows[i], 19);
            problem_fill(&p, ordinary);
            problem_solve(&p);
            p.call = on_gpu_run;
            p.args.cuda_path = paths[path];
            problem_check(&p, VISATB_CPU_AUTO, NULL);
            problem_destroy(&p);
        }
}

/* ---- the same bits ---- */

/* A barrier that is missing would show in one of these orders. */
static void order_of_threads_changes_no_bit(void **state) {
    (void)state;
    for (int path = 0; path < PATHS; ++path) {
        problem p;
        problem_create(&p, VISATB_DTYPE_BFLOAT16, 9, 3001);
        problem_fill(&p, ordinary);
        p.args.label_smoothing = 0.1;
        p.args.softcap = 20;
        problem_solve(&p);
        const size_t bytes = p.gradient_bytes;
        unsigned char *first = malloc(bytes);
        assert_non_null(first);
        fibres_set_device(90, 2048, 3072); /* a row takes all 8 blocks of a cluster */
        run_on_gpu(&p, paths[path]);
        memcpy(first, p.gradient_memory, bytes);
        const double loss = p.loss;
        for (unsigned seed = 0; seed < 6; ++seed) {
            fibres_set_order(seed == 0 ? FIBRES_BACKWARD : FIBRES_SHUFFLED, seed);
            memset(p.gradient_memory, 0xff, bytes);
            run_on_gpu(&p, paths[path]);
            assert_memory_equal(first, p.gradient_memory, bytes);
            assert_memory_equal(&loss, &p.loss, sizeof loss);
        }
        free(first);
        problem_destroy(&p);
    }
}

static void order_of_threads_changes_no_sum(void **state) {
    (void)state;
    call first;
    make(&first);
    assert_int_equal(on_gpu_run(&first.args), VISATB_OK);
    for (unsigned seed = 0; seed < 6; ++seed) {
        call c;
        make(&c);
        fibres_set_order(seed == 0 ? FIBRES_BACKWARD : FIBRES_SHUFFLED, seed);
        assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
        assert_memory_equal(&c.loss, &first.loss, sizeof c.loss);
        assert_memory_equal(c.task_nll, first.task_nll, sizeof c.task_nll);
        assert_memory_equal(c.task_tokens, first.task_tokens, sizeof c.task_tokens);
    }
}

/* ---- bad data ---- */

/* A call one of whose rows is bad, on each path: it alone is NaN, and what is computed of the others is what
 * is computed without it. */
static void expect_bad_row(const call *bad, int row, visatb_report_code code) {
    for (int path = 0; path < PATHS; ++path) {
        call c = *bad;
        call without;
        make(&without);
        without.labels[row] = IGNORE;
        assert_int_equal(on_gpu_run(&without.args), VISATB_OK);
        visatb_vitw_loss_args args = without.args; /* its arrays, but for those that hold what is bad */
        args.labels = c.labels;
        args.task_ids = c.task_ids;
        args.task_weights = c.weights;
        args.cuda_path = paths[path];
        const float expected = without.gradient[(row + 1) % ROWS][0];
        assert_int_equal(on_gpu_run(&args), VISATB_OK);
        assert_true(isnan(without.loss) && isnan(without.numerator));
        assert_report(&without, code, row);
        assert_nan_gradient(&without, row);
        assert_true(without.gradient[(row + 1) % ROWS][0] == expected);
        assert_true(isnan(without.row_nll[row]) && isnan(without.row_lse[row]));
    }
}

static void bad_label_is_reported_and_spoils_its_row(void **state) {
    (void)state;
    static const int64_t labels[] = {VOCAB, -1, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; ++i) {
        call c;
        make(&c);
        c.labels[2] = labels[i];
        expect_bad_row(&c, 2, VISATB_REPORT_LABEL);
    }
}

static void bad_task_id_is_reported_and_spoils_its_row(void **state) {
    (void)state;
    static const int32_t tasks[] = {TASKS, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; ++i) {
        call c;
        make(&c);
        c.task_ids[1] = tasks[i];
        expect_bad_row(&c, 1, VISATB_REPORT_TASK_ID);
    }
}

static void bad_task_weight_is_reported_and_spoils_the_rows_of_its_task(void **state) {
    (void)state;
    static const float weights[] = {-1, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof weights / sizeof *weights; ++i) {
        call c;
        make(&c);
        c.weights[2] = weights[i]; /* without rows nobody looks at it */
        assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
        assert_report(&c, VISATB_REPORT_OK, -1);
        c.task_ids[3] = 2;
        expect_bad_row(&c, 3, VISATB_REPORT_TASK_WEIGHT);
    }
}

static void lowest_bad_row_is_the_one_reported(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[3] = 77;
    c.task_ids[2] = -5;
    c.logits[1][0] = NAN;
    assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
    assert_report(&c, VISATB_REPORT_LOGITS, 1);
    for (int row = 1; row < ROWS; ++row)
        assert_nan_gradient(&c, row);
}

static void task_beside_an_ignored_label_is_not_looked_at(void **state) {
    (void)state;
    call c;
    make(&c);
    c.labels[1] = IGNORE;
    c.task_ids[1] = 1 << 30;
    assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
    assert_report(&c, VISATB_REPORT_OK, -1);
    assert_zero_gradient(&c, 1);
}

/* ---- denominator and grad_scale ---- */

typedef struct scalars {
    double *denominator;
    float *grad_scale;
} scalars;

static scalars scalars_on_device(double denominator, float grad_scale) {
    const scalars made = {device_alloc(sizeof denominator), device_alloc(sizeof grad_scale)};
    device_copy_in(made.denominator, &denominator, sizeof denominator);
    device_copy_in(made.grad_scale, &grad_scale, sizeof grad_scale);
    return made;
}

static void free_scalars(scalars made) {
    device_free(made.denominator);
    device_free(made.grad_scale);
}

static void scalars_may_be_the_hosts_or_the_devices(void **state) {
    (void)state;
    call host;
    make(&host);
    double *denominator = device_alloc_on_host(sizeof *denominator);
    float *grad_scale = device_alloc_on_host(sizeof *grad_scale);
    *denominator = 8;
    *grad_scale = 1024;
    host.args.denominator = denominator;
    host.args.grad_scale = grad_scale;
    assert_int_equal(on_gpu_run(&host.args), VISATB_OK);

    call device;
    make(&device);
    const scalars there = scalars_on_device(8, 1024);
    device.args.denominator = there.denominator;
    device.args.grad_scale = there.grad_scale;
    assert_int_equal(on_gpu_run(&device.args), VISATB_OK);
    free_scalars(there);

    assert_true(host.loss > 0 && host.denominator_out == 8 && device.denominator_out == 8);
    assert_memory_equal(&host.loss, &device.loss, sizeof host.loss);
    assert_memory_equal(host.gradient, device.gradient, sizeof host.gradient);
}

/* Whoever has a weight has no gradient then; the others are what they are. */
static void bad_denominator_on_the_device_is_reported_and_spoils_what_it_divides(void **state) {
    (void)state;
    static const double denominators[] = {0, -1, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof denominators / sizeof *denominators; ++i) {
        call c;
        make(&c);
        c.weights[0] = 0;
        c.labels[3] = IGNORE;
        const scalars there = scalars_on_device(denominators[i], 1);
        c.args.denominator = there.denominator;
        assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
        free_scalars(there);
        assert_report(&c, VISATB_REPORT_DENOMINATOR, 1);
        assert_true(isnan(c.loss) && !isnan(c.numerator) && !isnan(c.row_nll[1]));
        assert_zero_gradient(&c, 0);
        assert_nan_gradient(&c, 1);
        assert_zero_gradient(&c, 3);
    }
}

/* The report tells of the lowest row, but no loss comes of the others. */
static void bad_denominator_spoils_the_loss_whatever_else_is_reported(void **state) {
    (void)state;
    call c;
    make(&c);
    c.weights[0] = 0;
    c.logits[0][0] = NAN;
    const scalars there = scalars_on_device(0, 1);
    c.args.denominator = there.denominator;
    assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
    free_scalars(there);
    assert_report(&c, VISATB_REPORT_LOGITS, 0);
    assert_true(isnan(c.loss));
    assert_nan_gradient(&c, 1);
}

static void denominator_of_zero_will_do_where_no_row_has_a_weight(void **state) {
    (void)state;
    call c;
    make(&c);
    c.weights[0] = c.weights[1] = 0;
    const scalars there = scalars_on_device(0, 1);
    c.args.denominator = there.denominator;
    assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
    free_scalars(there);
    assert_report(&c, VISATB_REPORT_OK, -1);
    assert_true(c.loss == 0);
    for (int row = 0; row < ROWS; ++row)
        assert_zero_gradient(&c, row);
}

static void bad_denominator_without_weights_is_reported_too(void **state) {
    (void)state;
    call c;
    make(&c);
    for (int row = 0; row < ROWS; ++row)
        c.labels[row] = IGNORE;
    const scalars there = scalars_on_device(-3, 1);
    c.args.denominator = there.denominator;
    assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
    free_scalars(there);
    assert_report(&c, VISATB_REPORT_DENOMINATOR, -1);
    assert_true(isnan(c.loss));
    assert_zero_gradient(&c, 2);
}

/* As a loss scaler finds out that its factor was too large; the loss has no part in it. */
static void grad_scale_that_is_not_finite_makes_gradients_nan(void **state) {
    (void)state;
    static const float scales[] = {INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; ++i) {
        call c;
        make(&c);
        c.labels[3] = IGNORE;
        const scalars there = scalars_on_device(1, scales[i]);
        c.args.grad_scale = there.grad_scale;
        assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
        free_scalars(there);
        assert_report(&c, VISATB_REPORT_OK, -1);
        assert_true(isfinite(c.loss));
        assert_nan_gradient(&c, 0);
        assert_zero_gradient(&c, 3);
    }
}

/* ---- the factor of a backward ---- */

/* In rows of WIDTH, a piece of a kernel and a little, of which the last is shorter by what they stand apart.
 */
enum { SCALED_ROWS = 3, WIDTH = 20001, STRIDE = 20005, SCALED = (SCALED_ROWS - 1) * STRIDE + WIDTH };

static void scale(visatb_dtype dtype, void *host, float factor, const float *expected) {
    const size_t bytes = SCALED * reference_size(dtype);
    enum { PHASE = 4 }; /* so that the first granule is not whole */
    unsigned char *gradient = device_alloc(bytes + PHASE);
    const scalars there = scalars_on_device(0, factor);
    const scalars other = scalars_on_device(0, expected != NULL ? *expected : 1);
    device_copy_in(gradient + PHASE, host, bytes);
    if (visatb_scale_gradient(gradient + PHASE, SCALED_ROWS, WIDTH, STRIDE, dtype, there.grad_scale,
                              expected != NULL ? other.grad_scale : NULL, NULL) != VISATB_OK)
        fail_msg("%s", visatb_last_error());
    device_copy_out(host, gradient + PHASE, bytes);
    device_free(gradient);
    free_scalars(there);
    free_scalars(other);
}

static void grad_scale_of_zero_makes_gradients_zero(void **state) {
    (void)state;
    call c;
    make(&c);
    const scalars there = scalars_on_device(1, 0);
    c.args.grad_scale = there.grad_scale;
    assert_int_equal(on_gpu_run(&c.args), VISATB_OK);
    free_scalars(there);
    for (int row = 0; row < ROWS; ++row)
        for (int i = 0; i < VOCAB; ++i)
            assert_true(c.gradient[row][i] == 0);
}

static void gradient_is_scaled_by_the_factor_over_the_expected_one(void **state) {
    (void)state;
    static const float expected = 4096;
    static uint32_t before[SCALED];
    static uint32_t after[SCALED];
    for (int d = 0; d < DTYPES; ++d) {
        for (int i = 0; i < SCALED; ++i)
            reference_put(dtypes[d], before, i, (long double)(0.0001 * i - 3));
        memcpy(after, before, sizeof before);
        scale(dtypes[d], after, expected, &expected);
        assert_memory_equal(after, before, reference_size(dtypes[d]) * SCALED);
        scale(dtypes[d], after, 1, NULL);
        assert_memory_equal(after, before, reference_size(dtypes[d]) * SCALED);
        scale(dtypes[d], after, 3 * expected, &expected);
        for (int i = 0; i < SCALED; ++i) {
            double rounded = 0;
            const long double by = i % STRIDE < WIDTH ? 3 : 1;
            reference_put(dtypes[d], &rounded, 0, by * (long double)reference_get(dtypes[d], before, i));
            assert_true(reference_get(dtypes[d], after, i) == reference_get(dtypes[d], &rounded, 0));
        }
    }
}

static void gradient_without_elements_is_fine(void **state) {
    (void)state;
    float one = 1;
    assert_int_equal(visatb_scale_gradient(NULL, 0, 7, 0, VISATB_DTYPE_FLOAT32, &one, NULL, NULL), VISATB_OK);
    assert_int_equal(visatb_scale_gradient(NULL, 7, 0, 0, VISATB_DTYPE_FLOAT32, &one, NULL, NULL), VISATB_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(rows_are_read_once_up_to_the_memory_of_eight_multiprocessors,
                                  forget_settings),
        cmocka_unit_test_teardown(older_gpus_read_twice, forget_settings),
        cmocka_unit_test_teardown(library_that_was_built_for_older_gpus_reads_twice, forget_settings),
        cmocka_unit_test(wide_rows_follow_the_formula_whatever_their_width),
        cmocka_unit_test(fp16_gradients_far_below_the_largest_logit_are_rounded_correctly),
        cmocka_unit_test(any_number_of_rows_follows_the_formula),
        cmocka_unit_test_teardown(order_of_threads_changes_no_bit, forget_settings),
        cmocka_unit_test_teardown(order_of_threads_changes_no_sum, forget_settings),
        cmocka_unit_test(bad_label_is_reported_and_spoils_its_row),
        cmocka_unit_test(bad_task_id_is_reported_and_spoils_its_row),
        cmocka_unit_test(bad_task_weight_is_reported_and_spoils_the_rows_of_its_task),
        cmocka_unit_test(lowest_bad_row_is_the_one_reported),
        cmocka_unit_test(task_beside_an_ignored_label_is_not_looked_at),
        cmocka_unit_test_teardown(scalars_may_be_the_hosts_or_the_devices, forget_settings),
        cmocka_unit_test(bad_denominator_on_the_device_is_reported_and_spoils_what_it_divides),
        cmocka_unit_test(bad_denominator_spoils_the_loss_whatever_else_is_reported),
        cmocka_unit_test(denominator_of_zero_will_do_where_no_row_has_a_weight),
        cmocka_unit_test(bad_denominator_without_weights_is_reported_too),
        cmocka_unit_test(grad_scale_that_is_not_finite_makes_gradients_nan),
        cmocka_unit_test(grad_scale_of_zero_makes_gradients_zero),
        cmocka_unit_test(gradient_is_scaled_by_the_factor_over_the_expected_one),
        cmocka_unit_test(gradient_without_elements_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
