/* The number of threads changes no bit of the loss of a linear head, and calls may run at the same time
 * (under TSan: without a data race). */
#include "cpu_paths.h"
#include "linear_problem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Enough to do that every thread gets some of it, in tiles and chunks that do not come out even. */
static const linear_shape shape = {260, 70, 2003};
static const size_t budget = (size_t)2 << 20;

/* The bytes of everything that came out. */
typedef struct outcome {
    unsigned char *bytes;
    size_t length;
} outcome;

static void append(outcome *to, const void *from, size_t bytes) {
    memcpy(to->bytes + to->length, from, bytes);
    to->length += bytes;
}

static outcome outcome_of(const linear_problem *p) {
    const size_t row_bytes = (size_t)p->args.rows * sizeof(float);
    outcome all = {malloc(p->hidden_gradient_bytes + p->weight_gradient_bytes + p->bias_gradient_bytes +
                          2 * row_bytes + sizeof(double)),
                   0};
    assert_non_null(all.bytes);
    append(&all, p->hidden_gradient_memory, p->hidden_gradient_bytes);
    append(&all, p->weight_gradient_memory, p->weight_gradient_bytes);
    append(&all, p->bias_gradient_memory, p->bias_gradient_bytes);
    append(&all, p->row_nll, row_bytes);
    append(&all, p->row_lse, row_bytes);
    append(&all, &p->loss_out, sizeof p->loss_out);
    return all;
}

static void check_threads(visatb_dtype dtype, visatb_cpu_path path) {
    static const int32_t threads[] = {1, 2, 7};
    linear_problem p;
    linear_create(&p, dtype, shape);
    p.args.cpu_path = path;
    p.args.chunk_bytes = budget;
    outcome first = {NULL, 0};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; ++i) {
        p.args.threads = threads[i];
        linear_run(&p);
        assert_true(p.plan.chunks > 1);
        const outcome now = outcome_of(&p);
        if (i == 0) {
            first = now;
            continue;
        }
        assert_memory_equal(first.bytes, now.bytes, first.length);
        free(now.bytes);
    }
    free(first.bytes);
    linear_destroy(&p);
}

static void same_bits_for_any_number_of_threads(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        check_threads(VISATB_DTYPE_FLOAT32, path);
        check_threads(VISATB_DTYPE_BFLOAT16, path);
        check_threads(VISATB_DTYPE_FLOAT16, path);
    }
    check_threads(VISATB_DTYPE_FLOAT64, VISATB_CPU_AUTO);
}

/* The CPUs that the process may run on can be more at the call than they were when it was planned. */
static void without_a_number_of_threads_those_are_taken_that_have_room(void **state) {
    (void)state;
    linear_problem p;
    linear_create(&p, VISATB_DTYPE_FLOAT32, shape);
    p.args.chunk_bytes = budget;
    p.args.threads = 1;
    linear_run(&p);
    const double loss = p.loss_out;
    p.args.workspace_bytes = p.plan.workspace_bytes;
    p.args.workspace = malloc(p.args.workspace_bytes);
    assert_non_null(p.args.workspace);
    p.args.threads = 0;
    assert_int_equal(visatb_vitw_linear_loss(&p.args), VISATB_OK);
    assert_memory_equal(&p.loss_out, &loss, sizeof loss);
    p.args.threads = 7;
    /* Where no thread needs a room of its own (OpenBLAS for AVX-512), the workspace does for any number. */
    assert_int_equal(visatb_vitw_linear_loss_plan(&p.args, &p.plan), VISATB_OK);
    const bool does = p.plan.workspace_bytes <= p.args.workspace_bytes;
    assert_int_equal(visatb_vitw_linear_loss(&p.args), does ? VISATB_OK : VISATB_ERROR_ARGUMENT);
    free(p.args.workspace);
    linear_destroy(&p);
}

/* ---- calls at the same time ---- */

enum { CALLERS = 3, ROUNDS = 4 };

/* One caller's call, its outputs its own. cmocka's assertions belong to the main thread. */
typedef struct caller {
    visatb_vitw_linear_loss_args args;
    double loss;
    visatb_status status;
} caller;

static void *call_again_and_again(void *argument) {
    caller *of = argument;
    for (int round = 0; round < ROUNDS && of->status == VISATB_OK; ++round)
        of->status = visatb_vitw_linear_loss(&of->args);
    return NULL;
}

static caller caller_of(const linear_problem *p) {
    caller of = {.args = p->args};
    of.args.workspace_bytes = p->plan.workspace_bytes;
    of.args.workspace = malloc(p->plan.workspace_bytes);
    of.args.hidden_gradient = malloc(p->hidden_gradient_bytes);
    of.args.weight_gradient = malloc(p->weight_gradient_bytes);
    assert_true(of.args.workspace != NULL && of.args.hidden_gradient != NULL &&
                of.args.weight_gradient != NULL);
    of.args.bias_gradient = NULL;
    of.args.numerator = of.args.denominator_out = of.args.task_nll = NULL;
    of.args.row_nll = of.args.row_lse = NULL;
    of.args.task_tokens = NULL;
    of.args.report = NULL;
    return of;
}

static void check_calls_at_once(visatb_cpu_path path) {
    linear_problem p;
    linear_create(&p, VISATB_DTYPE_BFLOAT16, shape);
    p.args.cpu_path = path;
    p.args.chunk_bytes = budget;
    p.args.threads = 2;
    linear_run(&p);
    pthread_t threads[CALLERS];
    caller callers[CALLERS];
    for (int i = 0; i < CALLERS; ++i) {
        callers[i] = caller_of(&p);
        callers[i].args.loss = &callers[i].loss;
    }
    for (int i = 0; i < CALLERS; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, call_again_and_again, &callers[i]), 0);
    for (int i = 0; i < CALLERS; ++i) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(callers[i].status, VISATB_OK);
        assert_memory_equal(&callers[i].loss, &p.loss_out, sizeof p.loss_out);
        assert_memory_equal(callers[i].args.weight_gradient, p.weight_gradient_memory,
                            p.weight_gradient_bytes);
        free(callers[i].args.workspace);
        free(callers[i].args.hidden_gradient);
        free(callers[i].args.weight_gradient);
    }
    linear_destroy(&p);
}

static void calls_at_the_same_time_give_the_same_bits(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        check_calls_at_once(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_for_any_number_of_threads),
        cmocka_unit_test(without_a_number_of_threads_those_are_taken_that_have_room),
        cmocka_unit_test(calls_at_the_same_time_give_the_same_bits),
    };
    return cmocka_run_group_tests_name("threads of the loss of a linear head", tests, NULL, NULL);
}
