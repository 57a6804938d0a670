/* Rows that are hard on a loss that has a vocabulary in slices: slices of nothing but masks, and slices whose
 * logits are far from each other. Run in slices alone (in_slices.h); the rows are made for four. */
#include "cpu_paths.h"
#include "in_slices.h"
#include "loss_problem.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- slices of nothing but masks ---- */

enum { ROWS = 6, VOCAB = 4400, SLICES = 4 };

static bool is_in_slice(int64_t word, int64_t slice) {
    return word >= in_slices_first(VOCAB, SLICES, slice) && word < in_slices_first(VOCAB, SLICES, slice + 1);
}

static bool is_masked(int64_t row, int64_t word) {
    switch (row) {
    case 0: return is_in_slice(word, 2);                         /* a slice */
    case 1: return !is_in_slice(word, 2);                        /* all but one */
    case 2: return !is_in_slice(word, 1) || word % 7 != 0;       /* and most of that */
    case 4: return true;                                         /* all: bad */
    case 5: return is_in_slice(word, 0) || is_in_slice(word, 3); /* with the label */
    default: return false;
    }
}

static double masked(const problem *p, int64_t row, int64_t i) {
    (void)p;
    return is_masked(row, i) ? (double)-INFINITY : problem_random(-6, 6);
}

static void check_masked(visatb_dtype dtype, double softcap, double label_smoothing) {
    problem p;
    problem_create(&p, dtype, ROWS, VOCAB);
    p.weights[1] = 0.5F;
    for (int64_t row = 0; row < ROWS; ++row) {
        p.labels[row] = in_slices_first(VOCAB, SLICES, row == 2 ? 1 : 2);
        p.labels[row] += row == 2 ? (7 - p.labels[row] % 7) % 7 : 1;
        p.task_ids[row] = (int32_t)(row % 2);
    }
    p.labels[0] = 1;
    p.labels[5] = VOCAB - 1;
    p.args.softcap = softcap;
    p.args.label_smoothing = label_smoothing;
    problem_fill(&p, masked);
    problem_solve(&p);
    problem_check_on_every_path(&p);
    assert_int_equal(p.report.first_bad_row, 4);
    problem_destroy(&p);
}

static void slice_may_be_all_masked(void **state) {
    (void)state;
    for (int dtype = VISATB_DTYPE_FLOAT32; dtype <= VISATB_DTYPE_FLOAT64; ++dtype) {
        check_masked((visatb_dtype)dtype, 0, 0);
        check_masked((visatb_dtype)dtype, 0, 0.1);
        check_masked((visatb_dtype)dtype, 5, 0.1);
        check_masked((visatb_dtype)dtype, 2e6, 0); /* too large a cap for vectors */
    }
}

/* ---- masks that are numbers ---- */

/* What masks are made of where -inf is not: torch.finfo(float32).min. In the third row the label alone is
 * less than that (a cap makes them the same), and in the fourth a slice has something else. */
static double masked_with_numbers(const problem *p, int64_t row, int64_t i) {
    if (row == 2 && i == p->labels[row] && p->args.softcap == 0)
        return (double)-INFINITY;
    return row == 3 && is_in_slice(i, 1) ? problem_random(-6, 6) : (double)-FLT_MAX;
}

static void check_masked_with_numbers(visatb_dtype dtype, double softcap) {
    problem p;
    problem_create(&p, dtype, ROWS, VOCAB);
    p.weights[1] = 0.5F;
    for (int64_t row = 0; row < ROWS; ++row)
        p.labels[row] = row % 2 == 0 ? 1 : VOCAB - 2;
    p.args.softcap = softcap;
    problem_fill(&p, masked_with_numbers);
    problem_solve(&p);
    problem_check_on_every_path(&p);
    assert_int_equal(p.report.code, VISATB_REPORT_OK);
    problem_destroy(&p);
}

/* In bf16 and fp16 it is -inf. */
static void slice_may_be_all_of_the_least_number(void **state) {
    (void)state;
    static const visatb_dtype dtypes[] = {VISATB_DTYPE_FLOAT32, VISATB_DTYPE_FLOAT64};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; ++i) {
        check_masked_with_numbers(dtypes[i], 0);
        check_masked_with_numbers(dtypes[i], 5);
    }
}

/* ---- slices that are far from each other ---- */

/* Each slice a thousand above the one before: exponentials of one are nothing beside those of another. */
static double in_steps(const problem *p, int64_t row, int64_t i) {
    int64_t slice = 0;
    while (!is_in_slice(i, slice))
        ++slice;
    (void)p;
    return 1000 * (double)(row % 2 == 0 ? slice : -slice) + problem_random(-3, 3);
}

static void slices_may_be_far_from_each_other(void **state) {
    (void)state;
    for (int dtype = VISATB_DTYPE_FLOAT32; dtype <= VISATB_DTYPE_FLOAT64; ++dtype) {
        problem p;
        problem_create(&p, (visatb_dtype)dtype, ROWS, VOCAB);
        p.args.z_loss = 1e-5;
        problem_fill(&p, in_steps);
        problem_solve(&p);
        problem_check_on_every_path(&p);
        problem_destroy(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slice_may_be_all_masked),
        cmocka_unit_test(slice_may_be_all_of_the_least_number),
        cmocka_unit_test(slices_may_be_far_from_each_other),
    };
    return cmocka_run_group_tests_name("edges of slices", tests, NULL, NULL);
}
