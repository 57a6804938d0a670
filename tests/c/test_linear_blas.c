/* Which products are taken, by what VISATB_BLAS says; and what is done to an OpenBLAS. CMake runs this once
 * for each of them: the library reads the variable once in its life. */
#include "cpu_paths.h"
#include "expect.h"
#include "linear_problem.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *environment(void) {
    return getenv("VISATB_BLAS"); /* NOLINT(concurrency-mt-unsafe): no thread is running */
}

static visatb_status plan(visatb_dtype dtype, visatb_cpu_path path, visatb_linear_plan *found) {
    visatb_vitw_linear_loss_args args = VISATB_VITW_LINEAR_LOSS_ARGS_INIT;
    args.rows = args.hidden_size = args.vocab = 40;
    args.tasks = 1;
    args.dtype = dtype;
    args.cpu_path = path;
    *found = (visatb_linear_plan)VISATB_LINEAR_PLAN_INIT;
    return visatb_vitw_linear_loss_plan(&args, found);
}

static const char *product(visatb_dtype dtype, visatb_cpu_path path) {
    visatb_linear_plan found;
    expect_ok(plan(dtype, path, &found));
    return found.product;
}

static bool has_avx512(visatb_cpu_path path) {
    return path == VISATB_CPU_AVX512 || path == VISATB_CPU_AVX512_BF16;
}

/* ---- ours ---- */

static void expect_our_own(const char *reason) {
    for_each_cpu_path(path) {
        char expected[128];
        (void)snprintf(expected, sizeof expected, "plain%s (%s)",
                       path == VISATB_CPU_AVX2 ? " avx2"
                       : has_avx512(path)      ? " avx512"
                                               : "",
                       reason);
        assert_string_equal(product(VISATB_DTYPE_FLOAT32, path), expected);
        assert_string_equal(product(VISATB_DTYPE_BFLOAT16, path), expected);
        (void)snprintf(expected, sizeof expected, "plain (%s)", reason);
        assert_string_equal(product(VISATB_DTYPE_FLOAT64, path), expected);
    }
}

static void none_means_our_own(void **state) {
    (void)state;
    expect_our_own("VISATB_BLAS=none");
}

static void build_without_blas_has_our_own(void **state) {
    (void)state;
    expect_our_own("built without BLAS");
}

static void build_info_says_what_multiplies(void **state) {
    (void)state;
    char line[256];
    (void)snprintf(line, sizeof line, "\nblas: %s\n", product(VISATB_DTYPE_FLOAT32, VISATB_CPU_AUTO));
    assert_non_null(strstr(visatb_build_info(), line));
}

/* ---- what cannot be used ---- */

static void expect_refusal(const char *reason) {
    char expected[1024];
    (void)snprintf(expected, sizeof expected,
                   "visatb_vitw_linear_loss_plan: the environment says VISATB_BLAS=%s: %s; expected the path "
                   "of an OpenBLAS, none, or no such variable",
                   environment(), reason);
    visatb_linear_plan found;
    expect_failure(plan(VISATB_DTYPE_FLOAT32, VISATB_CPU_AUTO, &found), VISATB_ERROR_UNSUPPORTED, expected);
    assert_non_null(strstr(visatb_build_info(), reason));
    linear_problem p;
    static const linear_shape shape = {3, 2, 4};
    linear_create(&p, VISATB_DTYPE_FLOAT64, shape);
    assert_int_equal(visatb_vitw_linear_loss(&p.args), VISATB_ERROR_UNSUPPORTED);
    linear_destroy(&p);
}

static void library_that_is_not_there_is_refused(void **state) {
    (void)state;
    char reason[512];
    (void)snprintf(reason, sizeof reason, "%s: cannot open shared object file: No such file or directory",
                   environment());
    expect_refusal(reason);
}

static void library_that_is_no_openblas_is_refused(void **state) {
    (void)state;
    expect_refusal("it has no cblas_sgemm");
}

static void openblas_of_64_bit_integers_is_refused(void **state) {
    (void)state;
    expect_refusal("it counts in 64-bit integers (USE64BITINT)");
}

/* ---- an OpenBLAS ---- */

static void openblas_is_taken_on_every_path(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        assert_string_equal(product(VISATB_DTYPE_FLOAT32, path), "OpenBLAS 9.9.9");
        assert_string_equal(product(VISATB_DTYPE_FLOAT64, path), "OpenBLAS 9.9.9");
    }
}

/* It would take nearly twice as long as our own. */
static void openblas_that_does_not_see_avx512_is_left_aside_where_it_is(void **state) {
    (void)state;
    for_each_cpu_path(path) {
        assert_string_equal(product(VISATB_DTYPE_FLOAT32, path),
                            has_avx512(path) ? "plain avx512 (OpenBLAS 9.9.9 takes this CPU for a Haswell)"
                                             : "OpenBLAS 9.9.9");
        assert_string_equal(product(VISATB_DTYPE_FLOAT64, path), "OpenBLAS 9.9.9");
    }
}

typedef int number(void);

static int ask(const char *name) {
    void *library = dlopen(environment(), RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    void *symbol = dlsym(library, name);
    assert_non_null(symbol);
    number *function = NULL;
    memcpy(&function, &symbol, sizeof symbol);
    const int answer = function();
    (void)dlclose(library);
    return answer;
}

static void openblas_multiplies_with_one_thread_and_gets_its_own_back(void **state) {
    (void)state;
    static const linear_shape shape = {50, 9, 700};
    static const visatb_dtype dtypes[] = {VISATB_DTYPE_FLOAT32, VISATB_DTYPE_FLOAT16, VISATB_DTYPE_FLOAT64};
    for (int i = 0; i < 3; ++i) {
        linear_problem p;
        linear_create(&p, dtypes[i], shape);
        p.args.cpu_path = VISATB_CPU_PORTABLE;
        const int before = ask("fake_calls");
        linear_check(&p);
        assert_true(ask("fake_calls") > before);
        assert_int_equal(ask("scipy_openblas_get_num_threads"), 5);
        linear_destroy(&p);
    }
    assert_int_equal(ask("fake_calls_with_threads"), 0);
}

enum { CALLERS = 4 };

static void *call(void *argument) {
    const visatb_vitw_linear_loss_args *args = argument;
    for (int round = 0; round < 20; ++round)
        (void)visatb_vitw_linear_loss(args);
    return NULL;
}

/* Were each call to restore what it found, one that began within another would leave one thread for ever. */
static void calls_that_overlap_give_its_threads_back_at_the_end(void **state) {
    (void)state;
    static const linear_shape shape = {20, 5, 30};
    linear_problem problems[CALLERS];
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; ++i) {
        linear_create(&problems[i], VISATB_DTYPE_FLOAT32, shape);
        visatb_vitw_linear_loss_args *args = &problems[i].args;
        args->cpu_path = VISATB_CPU_PORTABLE;
        args->workspace_bytes = linear_workspace_bytes(&problems[i]);
        args->workspace = malloc(args->workspace_bytes);
        assert_non_null(args->workspace);
    }
    for (int i = 0; i < CALLERS; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, call, &problems[i].args), 0);
    for (int i = 0; i < CALLERS; ++i) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        free(problems[i].args.workspace);
        linear_destroy(&problems[i]);
    }
    assert_int_equal(ask("fake_calls_with_threads"), 0);
    assert_int_equal(ask("scipy_openblas_get_num_threads"), 5);
}

/* Which of the tests run is the program's argument. */
static int run_case(const char *name) {
    const struct CMUnitTest none[] = {cmocka_unit_test(none_means_our_own),
                                      cmocka_unit_test(build_info_says_what_multiplies)};
    const struct CMUnitTest off[] = {cmocka_unit_test(build_without_blas_has_our_own),
                                     cmocka_unit_test(build_info_says_what_multiplies)};
    const struct CMUnitTest missing[] = {cmocka_unit_test(library_that_is_not_there_is_refused)};
    const struct CMUnitTest other[] = {cmocka_unit_test(library_that_is_no_openblas_is_refused)};
    const struct CMUnitTest wide[] = {cmocka_unit_test(openblas_of_64_bit_integers_is_refused)};
    const struct CMUnitTest narrow[] = {
        cmocka_unit_test(openblas_that_does_not_see_avx512_is_left_aside_where_it_is),
        cmocka_unit_test(build_info_says_what_multiplies),
        cmocka_unit_test(openblas_multiplies_with_one_thread_and_gets_its_own_back),
        cmocka_unit_test(calls_that_overlap_give_its_threads_back_at_the_end)};
    const struct CMUnitTest full[] = {cmocka_unit_test(openblas_is_taken_on_every_path),
                                      cmocka_unit_test(build_info_says_what_multiplies)};
    const struct {
        const char *name;
        const struct CMUnitTest *tests;
        size_t count;
    } cases[] = {{"none", none, 2}, {"off", off, 2},       {"missing", missing, 1}, {"other", other, 1},
                 {"wide", wide, 1}, {"narrow", narrow, 4}, {"full", full, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        if (strcmp(cases[i].name, name) == 0)
            return _cmocka_run_group_tests(name, cases[i].tests, cases[i].count, NULL, NULL);
    (void)fprintf(stderr, "test_linear_blas: no case %s\n", name);
    return 1;
}

int main(int count, char **arguments) {
    return run_case(count == 2 ? arguments[1] : "");
}
