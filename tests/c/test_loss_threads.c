/* The number of threads changes nothing: every output has the same bits, on every path, whatever mixture of
 * rows they share. */
#include "cpu_paths.h"
#include "loss_problem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Everything that a call writes. */
typedef struct outputs {
    size_t gradient_bytes;
    unsigned char *gradient;
    float *row_nll, *row_lse;
    double task_nll[PROBLEM_TASKS];
    int64_t task_tokens[PROBLEM_TASKS];
    double loss, numerator, denominator;
    visatb_report report;
} outputs;

/* Wide enough that each row is worth a thread: those below 128 Ki elements are not given one. */
static int64_t vocabulary_for(int64_t rows) {
    return rows <= 5 ? 140003 : rows <= 33 ? 32003 : 5003;
}

static double ordinary(const problem *p, int64_t row, int64_t i) {
    (void)p;
    return (double)((row * 7919 + i * 31) % 257) / 16 - 8;
}

/* Ignored rows and rows of weight 0 are there already; of the others every 11th is bad. */
static void create(problem *p, visatb_dtype dtype, int64_t rows) {
    const int64_t vocab = vocabulary_for(rows);
    problem_create(p, dtype, rows, vocab);
    problem_fill(p, ordinary);
    for (int64_t row = 8; row < rows; row += 11)
        problem_put(p, row, vocab / 2, (double)NAN);
    p->args.label_smoothing = rows % 2 != 0 ? 0.1 : 0;
    memcpy(p->logits_before, p->logits_memory, p->logits_bytes);
}

static void *copy_of(const void *memory, size_t bytes) {
    void *copy = malloc(bytes + 1);
    assert_non_null(copy);
    memcpy(copy, memory, bytes);
    return copy;
}

static void run(problem *p, visatb_cpu_path path, int32_t threads, bool in_place, outputs *out) {
    const size_t size = reference_size(p->args.dtype);
    const size_t rows_bytes = (size_t)p->args.rows * sizeof *p->row_nll;
    visatb_vitw_loss_args args = p->args;
    memcpy(p->logits_memory, p->logits_before, p->logits_bytes);
    memset(p->gradient_memory, 0xff, p->gradient_bytes);
    args.cpu_path = path;
    args.threads = threads;
    if (in_place) {
        args.gradient = problem_logits(p);
        args.gradient_stride = args.logits_stride;
    }
    assert_int_equal(visatb_vitw_loss(&args), VISATB_OK);
    *out = (outputs){
        .gradient_bytes = (size_t)(p->args.rows * p->args.vocab) * size,
        .row_nll = copy_of(p->row_nll, rows_bytes),
        .row_lse = copy_of(p->row_lse, rows_bytes),
        .loss = p->loss,
        .numerator = p->numerator,
        .denominator = p->denominator_out,
        .report = p->report,
    };
    out->gradient = malloc(out->gradient_bytes + 1);
    assert_non_null(out->gradient);
    const size_t row_bytes = (size_t)p->args.vocab * size;
    for (int64_t row = 0; row < p->args.rows; ++row)
        memcpy(out->gradient + (size_t)row * row_bytes,
               (const unsigned char *)args.gradient + (size_t)(row * args.gradient_stride) * size, row_bytes);
    memcpy(out->task_nll, p->task_nll, sizeof out->task_nll);
    memcpy(out->task_tokens, p->task_tokens, sizeof out->task_tokens);
}

static void outputs_destroy(outputs *out) {
    free(out->gradient);
    free(out->row_nll);
    free(out->row_lse);
}

static void expect_same_bits(const outputs *a, const outputs *b, int64_t rows) {
    assert_memory_equal(a->gradient, b->gradient, a->gradient_bytes);
    assert_memory_equal(a->row_nll, b->row_nll, (size_t)rows * sizeof *a->row_nll);
    assert_memory_equal(a->row_lse, b->row_lse, (size_t)rows * sizeof *a->row_lse);
    assert_memory_equal(a->task_nll, b->task_nll, sizeof a->task_nll);
    assert_memory_equal(a->task_tokens, b->task_tokens, sizeof a->task_tokens);
    assert_memory_equal(&a->loss, &b->loss, sizeof a->loss);
    assert_memory_equal(&a->numerator, &b->numerator, sizeof a->numerator);
    assert_memory_equal(&a->denominator, &b->denominator, sizeof a->denominator);
    assert_int_equal(a->report.code, b->report.code);
    assert_int_equal(a->report.first_bad_row, b->report.first_bad_row);
}

static void compare_thread_counts(problem *p, visatb_cpu_path path) {
    static const int32_t counts[] = {1, 2, 7, 0, 64};
    outputs one;
    run(p, path, 1, false, &one);
    assert_int_equal(one.report.first_bad_row, p->args.rows > 8 ? 8 : -1);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; ++i) {
        for (int in_place = 0; in_place < 2; ++in_place) {
            outputs many;
            run(p, path, counts[i], in_place != 0, &many);
            expect_same_bits(&one, &many, p->args.rows);
            outputs_destroy(&many);
        }
    }
    outputs_destroy(&one);
}

static void every_output_has_the_same_bits_for_any_number_of_threads(void **state) {
    (void)state;
    static const int64_t rows[] = {0, 1, 2, 5, 33, 300};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; ++i) {
        problem p;
        create(&p, VISATB_DTYPE_BFLOAT16, rows[i]);
        for_each_cpu_path(path) {
            if (path != VISATB_CPU_PORTABLE || rows[i] == 5)
                compare_thread_counts(&p, path);
        }
        problem_destroy(&p);
    }
}

static void fp32_and_fp64_too(void **state) {
    (void)state;
    static const visatb_dtype dtypes[] = {VISATB_DTYPE_FLOAT32, VISATB_DTYPE_FLOAT64};
    for (int d = 0; d < 2; ++d) {
        problem p;
        create(&p, dtypes[d], 33);
        p.args.softcap = 4;
        compare_thread_counts(&p, VISATB_CPU_AUTO);
        problem_destroy(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_output_has_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(fp32_and_fp64_too),
    };
    return cmocka_run_group_tests_name("threads of the loss", tests, NULL, NULL);
}
