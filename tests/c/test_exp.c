/* The exponentials that a path of the CPU makes, over all of their range, against expl. One program for each
 * path that has its own. */
#include "exp_of_path.h"
#include "visatb.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Relative: EXP_OF_PATH_BOUND, and so much more for each unit away from the reference, whose ln2 is a float.
 */
static const double bound_by_unit = 2.8e-9;

static const float references[] = {0,     37,   -80,     2000, -16384, 16383.5F,
                                   16385, 1e5F, -2.5e5F, 1e6F, -1e6F,  3e7F};
enum { REFERENCES = sizeof references / sizeof *references, BLOCK = 64 };

typedef struct worst {
    double error;        /* relative */
    double at;           /* z - reference */
    double beside_drift; /* what grows with the distance taken off */
} worst;

static void compare(worst *so_far, float z, float low, double reference, float e) {
    const long double exact = expl((long double)z + (long double)low - (long double)reference);
    if (exact < (long double)FLT_MIN)
        return;
    const double error = (double)fabsl((long double)e / exact - 1);
    if (error > so_far->error) {
        so_far->error = error;
        so_far->at = (double)z - reference;
    }
    const double beside_drift = error - bound_by_unit * fabs((double)z - reference);
    if (beside_drift > so_far->beside_drift)
        so_far->beside_drift = beside_drift;
}

/* From where exp is no normal number any more to the headroom above a reference. */
static void sweep(float near, double first, double last, double step, bool with_low) {
    worst found = {0};
    float z[BLOCK], low[BLOCK] = {0}, e[BLOCK];
    const int64_t blocks = (int64_t)((last - first) / (BLOCK * step));
    for (int64_t block = 0; block < blocks; ++block) {
        for (int i = 0; i < BLOCK; ++i) {
            const double exact = (double)near + first + (double)(block * BLOCK + i) * step;
            z[i] = (float)exact;
            low[i] = with_low ? (float)(exact - (double)z[i]) : 0;
        }
        const double reference = exp_of_path(near, BLOCK, z, with_low ? low : NULL, e);
        for (int i = 0; i < BLOCK; ++i)
            compare(&found, z[i], low[i], reference, e[i]);
    }
    print_message("exp near %g%s: largest relative error %.3g at %.4g, %.3g without the drift\n",
                  (double)near, with_low ? ", in two parts" : "", found.error, found.at, found.beside_drift);
    assert_true(found.beside_drift <= EXP_OF_PATH_BOUND);
}

static void exp_keeps_its_accuracy_wherever_the_reference_is(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCES; ++i)
        sweep(references[i], -88, 61, i == 0 ? 1.7e-5 : 1.3e-4, false);
}

static void exp_of_two_parts_keeps_its_accuracy(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCES; ++i)
        sweep(references[i], -88, 61, 1.3e-4, true);
}

/* Below every normal number it goes to 0, not up again, and not past it; also where only a second part, of
 * half a unit in the last place of the first, leads there. */
static void check_end(float near, bool with_low) {
    const double half_unit = (double)(nextafterf(fabsf(near) + 87, INFINITY) - (fabsf(near) + 87)) / 2;
    float z[BLOCK], low[BLOCK], e[BLOCK];
    for (int k = 0; k < 400; ++k) {
        for (int i = 0; i < BLOCK; ++i) {
            z[i] = (float)((double)near - 86 - (double)(k * BLOCK + i) / (k < 200 ? 2048 : 64));
            low[i] = with_low ? (float)(half_unit * (i % 3 - 1)) : 0;
        }
        const double reference = exp_of_path(near, BLOCK, z, with_low ? low : NULL, e);
        for (int i = 0; i < BLOCK; ++i) {
            const double distance = (double)z[i] + (double)low[i] - reference;
            assert_true(e[i] >= 0 && !signbit(e[i]));
            assert_true((double)e[i] <= 1.01 * exp(distance) + (double)FLT_TRUE_MIN);
            assert_true(distance > -90 || e[i] == 0);
        }
    }
}

static void exp_ends_in_zero(void **state) {
    (void)state;
    for (int r = 0; r < REFERENCES; ++r) {
        check_end(references[r], false);
        check_end(references[r], true);
    }
}

/* -inf is how masks are written: what they get must be exactly 0, whatever the reference, and whatever a
 * second part says. */
static void expect_zeros(float near, const float *z, const float *low) {
    float e[BLOCK];
    (void)exp_of_path(near, BLOCK, z, low, e);
    for (int i = 0; i < BLOCK; ++i)
        assert_true(e[i] == 0 && !signbit(e[i]));
}

static void exp_of_minus_infinity_is_zero_for_every_reference(void **state) {
    (void)state;
    static const float lows[] = {0, 0.03F, -0.03F, 1e22F, -1e22F};
    static const float huge[] = {1e5F, -1e5F, 1e30F, FLT_MAX};
    float z[BLOCK], low[BLOCK];
    for (int i = 0; i < BLOCK; ++i) {
        z[i] = i % 2 == 0 ? -INFINITY : -FLT_MAX;
        low[i] = lows[i / 2 % 5];
    }
    for (int near = -51000; near < 51000; ++near) {
        expect_zeros((float)near / 3, z, NULL);
        expect_zeros((float)near / 3, z, low);
    }
    for (size_t h = 0; h < sizeof huge / sizeof *huge; ++h) {
        expect_zeros(huge[h], z, NULL);
        expect_zeros(huge[h], z, low);
    }
}

static void exp_of_nan_is_nan_in_every_lane(void **state) {
    (void)state;
    const float low[BLOCK] = {0};
    for (int r = 0; r < 2 * REFERENCES; ++r) {
        for (int lane = 0; lane < BLOCK; ++lane) {
            float z[BLOCK], e[BLOCK];
            for (int i = 0; i < BLOCK; ++i)
                z[i] = references[r / 2];
            z[lane] = lane % 2 == 0 ? NAN : -NAN;
            (void)exp_of_path(references[r / 2], BLOCK, z, r % 2 == 0 ? NULL : low, e);
            for (int i = 0; i < BLOCK; ++i)
                assert_true(isnan(e[i]) == (i == lane));
        }
    }
}

static double error_in_double(double x) {
    return (double)fabsl((long double)exp_of_path_nonpositive(x) / expl((long double)x) - 1);
}

/* What soft-capping is made of. */
static void exp_in_double_keeps_its_accuracy(void **state) {
    (void)state;
    enum { STEPS = 1000000 };
    double largest = 0;
    for (int i = 0; i <= STEPS; ++i) {
        const double line = error_in_double(-700 * (double)i / STEPS);
        const double powers = error_in_double(-exp(-50 * (double)i / STEPS));
        largest = fmax(largest, fmax(line, powers));
    }
    print_message("exp in double: largest relative error %.3g\n", largest);
    assert_true(largest <= 2e-12);
    static const double below[] = {-701, -745, -1e4, -1e300, (double)-INFINITY};
    for (size_t i = 0; i < sizeof below / sizeof *below; ++i) {
        const double e = exp_of_path_nonpositive(below[i]);
        assert_true(e >= 0 && e <= 1.1 * exp(-700));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_keeps_its_accuracy_wherever_the_reference_is),
        cmocka_unit_test(exp_of_two_parts_keeps_its_accuracy),
        cmocka_unit_test(exp_ends_in_zero),
        cmocka_unit_test(exp_of_minus_infinity_is_zero_for_every_reference),
        cmocka_unit_test(exp_of_nan_is_nan_in_every_lane),
        cmocka_unit_test(exp_in_double_keeps_its_accuracy),
    };
    visatb_cpu_path taken = VISATB_CPU_AUTO;
    if (visatb_cpu_path_taken(EXP_OF_CPU_PATH, &taken) != VISATB_OK) {
        print_message("skipped: %s\n", visatb_last_error());
        return 0;
    }
    return cmocka_run_group_tests_name("exponentials of " EXP_OF_PATH, tests, NULL, NULL);
}
