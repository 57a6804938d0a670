/* How accurate the loss of a linear head and its gradients are, against products in long double: for every
 * type, on every path, for shapes that fill no tile, and in workspaces of all sizes. */
#include "cpu_paths.h"
#include "linear_problem.h"

#include <math.h>
#include <string.h>

static const visatb_dtype dtypes[] = {VISATB_DTYPE_FLOAT32, VISATB_DTYPE_BFLOAT16, VISATB_DTYPE_FLOAT16,
                                      VISATB_DTYPE_FLOAT64};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

static void check_shapes(visatb_dtype dtype, bool with_bias) {
    static const linear_shape shapes[] = {{1, 1, 1},  {9, 5, 1},     {9, 1, 7},      {10, 64, 7},
                                          {23, 5, 7}, {40, 5, 1003}, {40, 64, 1003}, {33, 600, 33}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i) {
        linear_problem p;
        linear_create(&p, dtype, shapes[i]);
        if (!with_bias)
            p.args.bias = NULL;
        linear_solve(&p);
        for_each_cpu_path(path) {
            p.args.cpu_path = path;
            linear_run(&p);
            linear_compare(&p);
        }
        linear_destroy(&p);
    }
}

static void loss_and_gradients_follow_the_formula(void **state) {
    (void)state;
    for (int i = 0; i < DTYPES; ++i)
        check_shapes(dtypes[i], true);
}

static void without_bias_they_do_too(void **state) {
    (void)state;
    for (int i = 0; i < DTYPES; ++i)
        check_shapes(dtypes[i], false);
}

/* From one row at a time to all at once: more bytes never mean more chunks. */
static void every_budget_gives_the_same_within_rounding(void **state) {
    (void)state;
    static const linear_shape shape = {60, 33, 300};
    for (int i = 0; i < DTYPES; ++i) {
        linear_problem p;
        linear_create(&p, dtypes[i], shape);
        linear_solve(&p);
        const size_t smallest = linear_smallest_budget(&p);
        int64_t chunks = 0;
        for (size_t budget = smallest; budget <= (size_t)64 << 20; budget += budget / 3) {
            p.args.chunk_bytes = budget;
            linear_run(&p);
            linear_compare(&p);
            if (budget == smallest)
                assert_int_equal(p.plan.chunk_rows, 1);
            else
                assert_true(p.plan.chunks <= chunks);
            chunks = p.plan.chunks;
        }
        assert_int_equal(chunks, 1);
        linear_destroy(&p);
    }
}

static void smallest_budget_serves_on_every_path(void **state) {
    (void)state;
    static const linear_shape shape = {12, 65, 1003};
    for (int i = 0; i < DTYPES; ++i) {
        linear_problem p;
        linear_create(&p, dtypes[i], shape);
        p.args.softcap = 3; /* which needs working memory for each thread */
        linear_solve(&p);
        for_each_cpu_path(path) {
            p.args.cpu_path = path;
            p.args.chunk_bytes = linear_smallest_budget(&p);
            linear_run(&p);
            assert_int_equal(p.plan.chunk_rows, 1);
            linear_compare(&p);
        }
        linear_destroy(&p);
    }
}

/* Tiles of 512: one more than that in every direction, so that what is added up tile by tile is seen. */
static void shapes_wider_than_a_tile_are_put_together(void **state) {
    (void)state;
    static const linear_shape shapes[] = {{300, 17, 520}, {5, 1030, 5}, {20, 520, 1030}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
        for (int k = 0; k < DTYPES; ++k) {
            linear_problem p;
            linear_create(&p, dtypes[k], shapes[i]);
            linear_check(&p);
            linear_destroy(&p);
        }
}

static void options_reach_the_gradients(void **state) {
    (void)state;
    static const linear_shape shape = {30, 19, 101};
    for (int i = 0; i < DTYPES; ++i) {
        linear_problem p;
        linear_create(&p, dtypes[i], shape);
        p.args.label_smoothing = 0.1;
        p.args.softcap = 2.5;
        p.args.z_loss = 1e-2;
        linear_solve(&p);
        for_each_cpu_path(path) {
            p.args.cpu_path = path;
            linear_run(&p);
            linear_compare(&p);
        }
        linear_destroy(&p);
    }
}

/* Every element of a 16-bit type, as the one column of a head: the logits are the elements themselves. */
static void every_16_bit_element_of_a_head_is_read_exactly(void **state) {
    (void)state;
    enum { PATTERNS = 65536 };
    static uint16_t weight[PATTERNS];
    static const float task_weights[1] = {1};
    for (int i = 0; i < PATTERNS; ++i)
        weight[i] = (uint16_t)i;
    for (int k = 1; k <= 2; ++k) {
        const visatb_dtype dtype = dtypes[k];
        uint16_t hidden = 0;
        reference_put(dtype, &hidden, 0, 1);
        for (int i = 0; i < PATTERNS; ++i) {
            const double expected = reference_get(dtype, weight, i);
            if (!isfinite(expected) || i % 7 != 0) /* one call each */
                continue;
            const int64_t label = 0;
            const int32_t task = 0;
            double loss = 0;
            float row_lse = 0;
            static unsigned char workspace[1 << 18];
            visatb_vitw_linear_loss_args args = VISATB_VITW_LINEAR_LOSS_ARGS_INIT;
            args.rows = args.hidden_size = args.vocab = args.tasks = 1;
            args.hidden = &hidden;
            args.weight = &weight[i];
            args.dtype = dtype;
            args.labels = &label;
            args.task_ids = &task;
            args.task_weights = task_weights;
            args.threads = 1;
            args.chunk_bytes = args.workspace_bytes = sizeof workspace;
            args.workspace = workspace;
            args.loss = &loss;
            args.row_lse = &row_lse;
            assert_int_equal(visatb_vitw_linear_loss(&args), VISATB_OK);
            assert_true((double)row_lse == expected);
        }
    }
}

static double loss_of(linear_problem *p) {
    linear_run(p);
    return p->loss_out;
}

static void assert_slope(linear_problem *p, double *element, double gradient) {
    const double step = 1e-5;
    const double before = *element;
    *element = before + step;
    const double above = loss_of(p);
    *element = before - step;
    const double slope = (above - loss_of(p)) / (2 * step);
    *element = before;
    if (!(fabs(slope - gradient) <= 1e-9))
        fail_msg("%.17g, by differences %.17g", gradient, slope);
}

static void gradients_agree_with_finite_differences(void **state) {
    (void)state;
    static const linear_shape shape = {8, 5, 6};
    linear_problem p;
    linear_create(&p, VISATB_DTYPE_FLOAT64, shape);
    p.args.label_smoothing = 0.2;
    p.args.softcap = 4;
    p.args.z_loss = 0.05;
    linear_solve(&p);
    linear_run(&p);
    linear_compare(&p);
    for (int64_t i = 0; i < shape.hidden_size; ++i) {
        for (int64_t row = 0; row < shape.rows; ++row)
            assert_slope(&p, (double *)(void *)p.hidden_memory + row * p.args.hidden_stride + i,
                         (double)p.hidden_gradient[row * shape.hidden_size + i]);
        for (int64_t j = 0; j < shape.vocab; ++j)
            assert_slope(&p, (double *)(void *)p.weight_memory + j * p.args.weight_stride + i,
                         (double)p.weight_gradient[j * shape.hidden_size + i]);
    }
    for (int64_t j = 0; j < shape.vocab; ++j)
        assert_slope(&p, (double *)(void *)p.bias_memory + j, (double)p.bias_gradient[j]);
    linear_destroy(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_gradients_follow_the_formula),
        cmocka_unit_test(without_bias_they_do_too),
        cmocka_unit_test(every_budget_gives_the_same_within_rounding),
        cmocka_unit_test(smallest_budget_serves_on_every_path),
        cmocka_unit_test(shapes_wider_than_a_tile_are_put_together),
        cmocka_unit_test(options_reach_the_gradients),
        cmocka_unit_test(every_16_bit_element_of_a_head_is_read_exactly),
        cmocka_unit_test(gradients_agree_with_finite_differences),
    };
    return cmocka_run_group_tests_name("accuracy of the loss of a linear head", tests, NULL, NULL);
}
