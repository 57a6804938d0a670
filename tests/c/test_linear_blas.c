/* Which products are taken, by what VISATB_BLAS and VISATB_BLAS_OFFER say; and what is done to an OpenBLAS.
 * CMake runs this once for each VISATB_BLAS, and the last tests run it again with other environments: the
 * library reads them once in its life. */
#include "cpu_paths.h"
#include "expect.h"
#include "linear_problem.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *variable(const char *name) {
    return getenv(name); /* NOLINT(concurrency-mt-unsafe): no thread is running */
}

static const char *environment(void) {
    return variable("VISATB_BLAS");
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
        char expected[1024];
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
    char line[1024];
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
    assert_non_null(strstr(visatb_build_info(), reason));
    assert_non_null(strstr(visatb_build_info(), "or no such variable\ncuda: "));
    assert_string_equal(visatb_last_error(), ""); /* it cannot fail, so it says nothing of one */
    expect_failure(plan(VISATB_DTYPE_FLOAT32, VISATB_CPU_AUTO, &found), VISATB_ERROR_UNSUPPORTED, expected);
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

static void *call_once(void *argument) {
    (void)visatb_vitw_linear_loss(argument);
    return NULL;
}

/* A call with a workspace of its own. */
static void make_caller(linear_problem *p, linear_shape shape) {
    linear_create(p, VISATB_DTYPE_FLOAT32, shape);
    p->args.cpu_path = VISATB_CPU_PORTABLE;
    p->args.workspace_bytes = linear_workspace_bytes(p);
    p->args.workspace = malloc(p->args.workspace_bytes);
    assert_non_null(p->args.workspace);
}

/* Were each call to restore what it found, one that began within another would leave one thread for ever. */
static void calls_that_overlap_give_its_threads_back_at_the_end(void **state) {
    (void)state;
    static const linear_shape shape = {20, 5, 30};
    linear_problem problems[CALLERS];
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; ++i)
        make_caller(&problems[i], shape);
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

/* ---- more callers than it serves ---- */

enum { CROWD = 90, SERVED = 64 };

static void crowd_waits_for_its_turn(void **state) {
    (void)state;
    static linear_problem problems[CROWD];
    static const linear_shape shape = {1, 1, 2};
    pthread_t threads[CROWD];
    for (int i = 0; i < CROWD; ++i)
        make_caller(&problems[i], shape);
    for (int i = 0; i < CROWD; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, call_once, &problems[i].args), 0);
    for (int i = 0; i < CROWD; ++i) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        free(problems[i].args.workspace);
        linear_destroy(&problems[i]);
    }
    assert_true(ask("fake_most_calls_at_once") > CALLERS);
    assert_true(ask("fake_most_calls_at_once") <= SERVED);
    assert_int_equal(ask("scipy_openblas_get_num_threads"), 5);
}

/* ---- other environments ---- */

/* In a process of its own: the reason that is expected goes with it. */
static void openblas_is_refused_as_expected(void **state) {
    (void)state;
    expect_refusal(variable("TEST_REASON"));
}

static void our_own_are_taken_for_the_expected_reason(void **state) {
    (void)state;
    expect_our_own(variable("TEST_REASON"));
}

typedef struct setting {
    const char *name;
    const char *value; /* NULL: not set */
} setting;

/* Runs a case again, in this environment. */
static void expect_case(const char *name, const setting *settings, size_t count) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        for (size_t i = 0; i < count; ++i)
            /* NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is running */
            if ((settings[i].value == NULL ? unsetenv(settings[i].name)
                                           : setenv(settings[i].name, settings[i].value, 1)) != 0)
                _exit(1);
        (void)execl("/proc/self/exe", "test_linear_blas", name, (char *)NULL);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Each kind of build that cannot be used, and why. */
static const struct {
    const char *config;
    const char *reason;
} unusable[] = {
    {"OpenBLAS 9.9.9 USE64BITINT DYNAMIC_ARCH MAX_THREADS=64", "it counts in 64-bit integers (USE64BITINT)"},
    {"OpenBLAS 9.9.9 DYNAMIC_ARCH USE_OPENMP Haswell MAX_THREADS=64",
     "its threads are those of OpenMP, which cannot be held to one from other threads (USE_OPENMP)"},
    {"OpenBLAS 9.9.9 DYNAMIC_ARCH Haswell SINGLE_THREADED",
     "it serves one thread at a time (SINGLE_THREADED)"},
    {"OpenBLAS 9.9.9 DYNAMIC_ARCH Haswell MAX_THREADS=63",
     "it serves too few threads (MAX_THREADS=63; expected at least 64)"},
    {"OpenBLAS 9.9.9 DYNAMIC_ARCH Haswell", "it does not say how many threads it serves (MAX_THREADS)"},
};
enum { UNUSABLE = sizeof unusable / sizeof *unusable };

static void builds_that_cannot_be_used_are_refused(void **state) {
    (void)state;
    for (int i = 0; i < UNUSABLE; ++i) {
        const setting settings[] = {{"FAKE_OPENBLAS_CONFIG", unusable[i].config},
                                    {"TEST_REASON", unusable[i].reason}};
        expect_case("refused", settings, 2);
    }
}

static void builds_for_more_threads_are_taken(void **state) {
    (void)state;
    const setting settings[] = {{"FAKE_OPENBLAS_CONFIG", "OpenBLAS 9.9.9 DYNAMIC_ARCH MAX_THREADS=128"}};
    expect_case("taken", settings, 1);
}

static void more_callers_than_it_serves_take_turns(void **state) {
    (void)state;
    const setting settings[] = {{"FAKE_OPENBLAS_SLOW", "1"}};
    expect_case("crowd", settings, 1);
}

/* A folder in which the fake goes by the system's names. */
static void make_system(char *folder) {
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so"};
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 2; ++i) {
        char link[128];
        (void)snprintf(link, sizeof link, "%s/%s", folder, names[i]);
        assert_int_equal(symlink(environment(), link), 0);
    }
}

static void remove_system(const char *folder) {
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so"};
    for (int i = 0; i < 2; ++i) {
        char link[128];
        (void)snprintf(link, sizeof link, "%s/%s", folder, names[i]);
        (void)unlink(link);
    }
    (void)rmdir(folder);
}

static void system_library_is_taken_or_it_is_said_why_not(void **state) {
    (void)state;
    char folder[] = "/tmp/test_linear_blas_XXXXXX";
    make_system(folder);
    const setting good[] = {{"VISATB_BLAS", NULL}, {"VISATB_BLAS_OFFER", NULL}, {"LD_LIBRARY_PATH", folder}};
    expect_case("taken", good, 3);
    for (int i = 0; i < UNUSABLE; ++i) {
        char reason[256];
        (void)snprintf(reason, sizeof reason, "libopenblas.so.0: %s", unusable[i].reason);
        const setting bad[] = {
            {"VISATB_BLAS", NULL},       {"VISATB_BLAS_OFFER", NULL},
            {"LD_LIBRARY_PATH", folder}, {"FAKE_OPENBLAS_CONFIG", unusable[i].config},
            {"TEST_REASON", reason},
        };
        expect_case("own", bad, 5);
    }
    remove_system(folder);
}

static void offered_library_is_tried_first_and_may_be_passed_over(void **state) {
    (void)state;
    static const char missing[] = "/nowhere/libopenblas.so";
    char reason[512];
    char folder[] = "/tmp/test_linear_blas_XXXXXX";
    make_system(folder);
    const setting taken[] = {{"VISATB_BLAS", NULL}, {"VISATB_BLAS_OFFER", environment()}};
    expect_case("taken", taken, 2);
    const setting passed_over[] = {
        {"VISATB_BLAS", NULL}, {"VISATB_BLAS_OFFER", missing}, {"LD_LIBRARY_PATH", folder}};
    expect_case("taken", passed_over, 3);
    (void)snprintf(reason, sizeof reason, "VISATB_BLAS_OFFER=%s: %s", environment(), unusable[1].reason);
    const setting nothing_else[] = {
        {"VISATB_BLAS", NULL},       {"VISATB_BLAS_OFFER", environment()},
        {"LD_LIBRARY_PATH", folder}, {"FAKE_OPENBLAS_CONFIG", unusable[1].config},
        {"TEST_REASON", reason},
    };
    expect_case("own", nothing_else, 5);
    remove_system(folder);
}

static void order_goes_before_an_offer(void **state) {
    (void)state;
    const setting none[] = {
        {"VISATB_BLAS", "none"}, {"VISATB_BLAS_OFFER", environment()}, {"TEST_REASON", "VISATB_BLAS=none"}};
    expect_case("own", none, 3);
    const setting named[] = {{"VISATB_BLAS_OFFER", "/nowhere/libopenblas.so"}};
    expect_case("taken", named, 1);
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
                                      cmocka_unit_test(build_info_says_what_multiplies),
                                      cmocka_unit_test(builds_that_cannot_be_used_are_refused),
                                      cmocka_unit_test(builds_for_more_threads_are_taken),
                                      cmocka_unit_test(more_callers_than_it_serves_take_turns),
                                      cmocka_unit_test(system_library_is_taken_or_it_is_said_why_not),
                                      cmocka_unit_test(offered_library_is_tried_first_and_may_be_passed_over),
                                      cmocka_unit_test(order_goes_before_an_offer)};
    /* Those that the tests of `full` run. */
    const struct CMUnitTest refused[] = {cmocka_unit_test(openblas_is_refused_as_expected)};
    const struct CMUnitTest own[] = {cmocka_unit_test(our_own_are_taken_for_the_expected_reason),
                                     cmocka_unit_test(build_info_says_what_multiplies)};
    const struct CMUnitTest crowd[] = {cmocka_unit_test(crowd_waits_for_its_turn)};
    const struct {
        const char *name;
        const struct CMUnitTest *tests;
        size_t count;
    } cases[] = {{"none", none, 2},       {"off", off, 2},       {"missing", missing, 1}, {"other", other, 1},
                 {"wide", wide, 1},       {"narrow", narrow, 4}, {"full", full, 8},       {"taken", full, 2},
                 {"refused", refused, 1}, {"own", own, 2},       {"crowd", crowd, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        if (strcmp(cases[i].name, name) == 0)
            return _cmocka_run_group_tests(name, cases[i].tests, cases[i].count, NULL, NULL);
    (void)fprintf(stderr, "test_linear_blas: no case %s\n", name);
    return 1;
}

int main(int count, char **arguments) {
    return run_case(count == 2 ? arguments[1] : "");
}
