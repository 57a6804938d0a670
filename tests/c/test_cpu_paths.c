/* Which path of the CPU a call takes: by what the CPU can run, by what the environment variable VISATB_CPU
 * says, and by what the call itself says. Run once for each content of the variable. */
#include "expect.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATHS = VISATB_CPU_AVX512_BF16 + 1 };

#ifdef __x86_64__
#define WHERE_A_PATH_IS_MISSING "CPU can run"
#else
#define WHERE_A_PATH_IS_MISSING "library was built with"
#endif

static const char *const names[PATHS] = {"auto", "portable", "avx2", "avx512", "avx512_bf16"};

static const char *environment; /* "" without */

/* "flags : fpu vme ... ", as Linux tells them; "" on another kind of CPU. */
static char cpu_flags[16384];

static void read_cpu_flags(void) {
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(cpu_flags, sizeof cpu_flags, file) != NULL &&
           strncmp(cpu_flags, "flags", 5) != 0)
        cpu_flags[0] = '\0';
    if (file != NULL)
        (void)fclose(file);
    char *const newline = strchr(cpu_flags, '\n');
    if (newline != NULL)
        *newline = ' '; /* so that each is between spaces */
}

static bool has_flags(const char *const *flags, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        char word[32];
        (void)snprintf(word, sizeof word, " %s ", flags[i]);
        if (strstr(cpu_flags, word) == NULL)
            return false;
    }
    return true;
}

/* Found out without the library. */
static bool cpu_has(visatb_cpu_path path) {
    static const char *const needed[] = {"avx2",     "fma",      "f16c",     "avx512f",
                                         "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"};
    static const size_t counts[PATHS] = {0, 0, 3, 7, 8};
    return has_flags(needed, counts[path]);
}

static void write_list(char *list, size_t size) {
    size_t used = 0;
    for (int path = VISATB_CPU_PORTABLE; path < PATHS; ++path)
        if (cpu_has((visatb_cpu_path)path))
            used += (size_t)snprintf(list + used, size - used, "%s%s", used > 0 ? ", " : "", names[path]);
}

static visatb_cpu_path best(void) {
    visatb_cpu_path found = VISATB_CPU_PORTABLE;
    for (int path = VISATB_CPU_PORTABLE; path < PATHS; ++path)
        if (cpu_has((visatb_cpu_path)path))
            found = (visatb_cpu_path)path;
    return found;
}

/* AUTO where the variable names no path. */
static visatb_cpu_path named_by_environment(void) {
    for (int path = VISATB_CPU_PORTABLE; path < PATHS; ++path)
        if (strcmp(environment, names[path]) == 0)
            return (visatb_cpu_path)path;
    return VISATB_CPU_AUTO;
}

/* What a call with VISATB_CPU_AUTO comes to: the path, or the message (which begins with the function). */
static visatb_cpu_path taken_by_default(const char *function, char *message, size_t size) {
    const visatb_cpu_path named = named_by_environment();
    if (environment[0] == '\0')
        return best();
    if (named != VISATB_CPU_AUTO && cpu_has(named))
        return named;
    char list[100];
    write_list(list, sizeof list);
    if (named == VISATB_CPU_AUTO)
        (void)snprintf(message, size,
                       "%s: the environment says VISATB_CPU=%.31s; expected portable, avx2, avx512 or "
                       "avx512_bf16, or no such variable",
                       function, environment);
    else
        (void)snprintf(
            message, size,
            "%s: the environment says VISATB_CPU=%s; expected one that this " WHERE_A_PATH_IS_MISSING ": %s",
            function, environment, list);
    return VISATB_CPU_AUTO;
}

static void best_path_or_that_of_the_environment_is_taken(void **state) {
    (void)state;
    char message[400];
    const visatb_cpu_path expected = taken_by_default("visatb_cpu_path_taken", message, sizeof message);
    visatb_cpu_path taken = (visatb_cpu_path)99;
    if (expected == VISATB_CPU_AUTO) {
        expect_failure(visatb_cpu_path_taken(VISATB_CPU_AUTO, &taken), VISATB_ERROR_UNSUPPORTED, message);
        assert_int_equal(taken, 99);
    } else {
        expect_ok(visatb_cpu_path_taken(VISATB_CPU_AUTO, &taken));
        assert_int_equal(taken, expected);
    }
}

static void path_that_is_named_is_taken_whatever_the_environment_says(void **state) {
    (void)state;
    char list[100], message[400];
    write_list(list, sizeof list);
    for (int path = VISATB_CPU_PORTABLE; path < PATHS; ++path) {
        visatb_cpu_path taken = (visatb_cpu_path)99;
        if (cpu_has((visatb_cpu_path)path)) {
            expect_ok(visatb_cpu_path_taken((visatb_cpu_path)path, &taken));
            assert_int_equal(taken, path);
        } else {
            (void)snprintf(
                message, sizeof message,
                "visatb_cpu_path_taken: cpu_path = %s; expected one that this " WHERE_A_PATH_IS_MISSING
                ": %s",
                names[path], list);
            expect_failure(visatb_cpu_path_taken((visatb_cpu_path)path, &taken), VISATB_ERROR_UNSUPPORTED,
                           message);
            assert_int_equal(taken, 99);
        }
    }
}

static void loss_takes_the_same_path_or_refuses_alike(void **state) {
    (void)state;
    static const float logits[2] = {1, 2}, weight = 1;
    static const int64_t label = 0;
    static const int32_t task = 0;
    char message[400];
    double loss = 7;
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = args.tasks = 1;
    args.vocab = 2;
    args.dtype = VISATB_DTYPE_FLOAT32;
    args.logits = logits;
    args.labels = &label;
    args.task_ids = &task;
    args.task_weights = &weight;
    args.loss = &loss;
    if (taken_by_default("visatb_vitw_loss", message, sizeof message) == VISATB_CPU_AUTO) {
        expect_failure(visatb_vitw_loss(&args), VISATB_ERROR_UNSUPPORTED, message);
        assert_true(loss == 7);
    } else {
        expect_ok(visatb_vitw_loss(&args));
    }
    args.cpu_path = VISATB_CPU_PORTABLE;
    expect_ok(visatb_vitw_loss(&args));
}

static void build_info_tells_the_path_and_what_there_is(void **state) {
    (void)state;
    char list[100], line[200];
    write_list(list, sizeof list);
    char message[400];
    if (taken_by_default("visatb_vitw_loss", message, sizeof message) == VISATB_CPU_AUTO) {
        (void)snprintf(line, sizeof line,
                       "\ncpu loss: refused: the environment says VISATB_CPU=%.31s (of %s)\n",
                       getenv("VISATB_CPU"), list);
    } else {
        const visatb_cpu_path named = named_by_environment();
        (void)snprintf(line, sizeof line, "\ncpu loss: %s (of %s)\n",
                       names[named != VISATB_CPU_AUTO ? named : best()], list);
    }
    if (strstr(visatb_build_info(), line) == NULL)
        fail_msg("no line%sin:\n%s", line, visatb_build_info());
}

static void no_such_path_is_an_error_of_the_caller(void **state) {
    (void)state;
    visatb_cpu_path taken = (visatb_cpu_path)99;
    expect_failure(visatb_cpu_path_taken((visatb_cpu_path)5, &taken), VISATB_ERROR_ARGUMENT,
                   "visatb_cpu_path_taken: cpu_path = 5; expected a visatb_cpu_path");
    expect_failure(visatb_cpu_path_taken((visatb_cpu_path)-1, &taken), VISATB_ERROR_ARGUMENT,
                   "visatb_cpu_path_taken: cpu_path = -1; expected a visatb_cpu_path");
    expect_failure(visatb_cpu_path_taken(VISATB_CPU_AUTO, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_cpu_path_taken: taken = NULL; expected a pointer");
    assert_int_equal(taken, 99);
}

static void every_path_has_a_name(void **state) {
    (void)state;
    for (int path = VISATB_CPU_AUTO; path < PATHS; ++path)
        assert_string_equal(visatb_cpu_path_name((visatb_cpu_path)path), names[path]);
    assert_string_equal(visatb_cpu_path_name((visatb_cpu_path)5), "unknown");
    assert_string_equal(visatb_cpu_path_name((visatb_cpu_path)-1), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_path_or_that_of_the_environment_is_taken),
        cmocka_unit_test(path_that_is_named_is_taken_whatever_the_environment_says),
        cmocka_unit_test(loss_takes_the_same_path_or_refuses_alike),
        cmocka_unit_test(build_info_tells_the_path_and_what_there_is),
        cmocka_unit_test(no_such_path_is_an_error_of_the_caller),
        cmocka_unit_test(every_path_has_a_name),
    };
    read_cpu_flags();
    const char *variable = getenv("VISATB_CPU");
    environment = variable != NULL ? variable : "";
    return cmocka_run_group_tests_name("paths of the CPU", tests, NULL, NULL);
}
