/* The states of methods: what goes on from one, and which are refused. */
#include "expect.h"
#include "method_calls.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void expect_same_future(visatb_method *method, visatb_method *other, unsigned step) {
    static const int64_t tokens[4] = {1, 2, 0, 4};
    for (unsigned last = step + 6; step < last; step++) {
        double weights[4], same[4];
        expect_ok(visatb_method_weights(method, tokens, weights));
        expect_ok(visatb_method_weights(other, tokens, same));
        assert_memory_equal(weights, same, sizeof weights);
        tell(method, 4, step);
        tell(other, 4, step);
    }
}

static void restore_after(visatb_method_kind kind, unsigned told) {
    visatb_method *const method = make(kind, 4), *const other = make(kind, 4);
    for (unsigned step = 0; step < told; step++)
        tell(method, 4, step);
    tell(other, 4, 99); /* which it forgets */
    unsigned char saved[MOST_BYTES], again[MOST_BYTES];
    const size_t size = state_of(method, saved);
    expect_ok(visatb_method_restore(other, saved, size));
    expect_same_future(method, other, told);
    assert_int_equal(state_of(method, saved), state_of(other, again));
    assert_memory_equal(saved, again, size);
    visatb_method_destroy(method);
    visatb_method_destroy(other);
}

static void a_restored_method_goes_on_with_the_same_bits(void **state) {
    (void)state;
    for (int kind = VISATB_METHOD_EW; kind <= VISATB_METHOD_IGBV1; kind++) {
        for (unsigned told = 0; told < 9; told++)
            restore_after((visatb_method_kind)kind, told);
    }
}

static void a_state_is_the_same_bytes_on_every_machine(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_IGBV1, 1);
    const double nll[2] = {3, 5};
    const int64_t tokens[1] = {2};
    expect_ok(visatb_method_update(method, &nll[0], tokens));
    expect_ok(visatb_method_update(method, &nll[1], tokens));
    static const unsigned char expected[] = {
        'V', 'I', 'S', 'A', 'T', 'B', 'M',  'S',  /* */
        1,   0,   0,   0,   5,   0,   0,    0,    /* version, kind */
        1,   0,   0,   0,   0,   0,   0,    0,    /* tasks */
        0,   0,   0,   0,   0,   0,   0,    0,    /* seed */
        0,   0,   0,   0,   0,   0,   0,    0,    /* window */
        0,   0,   0,   0,   0,   0,   0,    0,    /* temperature */
        1,   0,   0,   0,   0,   0,   0,    0,    /* base_first */
        3,   0,   0,   0,   0,   0,   0,    0,    /* base_end */
        2,   0,   0,   0,   0,   0,   0,    0,    /* steps */
        0,   0,   0,   0,   0,   0,   0x04, 0x40, /* last: 2.5 */
        0,   0,   0,   0,   0,   0,   0x04, 0x40, /* base: 2.5 */
        1,   0,   0,   0,   0,   0,   0,    0,    /* steps of the base */
    };
    unsigned char saved[MOST_BYTES];
    assert_int_equal(state_of(method, saved), sizeof expected + 8);
    assert_memory_equal(saved, expected, sizeof expected);
    visatb_method_destroy(method);
}

/* ---- refusals ---- */

static void a_state_that_is_cut_or_changed_anywhere_is_refused(void **state) {
    (void)state;
    for (int kind = VISATB_METHOD_RLW; kind <= VISATB_METHOD_IGBV1; kind++) {
        visatb_method *const method = make((visatb_method_kind)kind, 3);
        tell(method, 3, 0);
        unsigned char whole[MOST_BYTES], changed[MOST_BYTES], after[MOST_BYTES];
        const size_t size = state_of(method, whole);
        for (size_t length = 0; length < size; length++) {
            /* Exactly as long, so that a read past its end is seen. */
            unsigned char *const cut = malloc(length + (length == 0));
            memcpy(cut, whole, length);
            assert_int_equal(visatb_method_restore(method, cut, length), VISATB_ERROR_DATA);
            free(cut);
        }
        for (size_t byte = 0; byte < size; byte++) {
            memcpy(changed, whole, size);
            changed[byte] ^= 0x10U;
            assert_int_equal(visatb_method_restore(method, changed, size), VISATB_ERROR_DATA);
        }
        assert_int_equal(state_of(method, after), size);
        assert_memory_equal(after, whole, size);
        visatb_method_destroy(method);
    }
}

typedef struct damage {
    size_t at;
    unsigned char byte;
    bool is_summed; /* the checksum is that of the damaged state */
    const char *message;
} damage;

static void damaged_states_say_what_is_wrong(void **state) {
    (void)state;
    static const damage cases[] = {
        {0, 'v', true,
         "visatb_method_restore: the state does not begin with VISATBMS; expected one of visatb_method_save"},
        {8, 2, true, "visatb_method_restore: the state is of version 2 of its format; expected 1"},
        {70, 1, false,
         "visatb_method_restore: the state's checksum is wrong; expected that of what stands before: it is "
         "cut or damaged"},
        {12, 4, true, "visatb_method_restore: the state is of a method with kind = 4; expected 5"},
        {16, 3, true, "visatb_method_restore: the state is of a method with tasks = 3; expected 2"},
        {24, 1, true, "visatb_method_restore: the state is of a method with seed = 1; expected 0"},
        {47, 0x40, true, "visatb_method_restore: the state is of a method with temperature = 2; expected 0"},
        {48, 0, true, "visatb_method_restore: the state is of a method with base_first = 0; expected 1"},
        {56, 4, true, "visatb_method_restore: the state is of a method with base_end = 4; expected 3"},
        {79, 0x80, true,
         "visatb_method_restore: loss 0 of the state is -0.5; expected a finite number of 0 or more, or -1"},
        {104, 3, true, "visatb_method_restore: count 0 of the state is 3; expected at most 0 after 1 steps"},
    };
    visatb_method *const method = make(VISATB_METHOD_IGBV1, 2);
    const double nll[2] = {0.5, 0.5};
    const int64_t tokens[2] = {1, 1};
    expect_ok(visatb_method_update(method, nll, tokens));
    unsigned char whole[MOST_BYTES], damaged[MOST_BYTES], after[MOST_BYTES];
    const size_t size = state_of(method, whole);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        memcpy(damaged, whole, size);
        damaged[cases[k].at] = cases[k].at == 79 ? damaged[79] | 0x80U : cases[k].byte;
        if (cases[k].is_summed)
            put_checksum(damaged, size);
        expect_failure(visatb_method_restore(method, damaged, size), VISATB_ERROR_DATA, cases[k].message);
    }
    memcpy(damaged, whole, size);
    put_checksum(damaged, size - 8);
    expect_failure(visatb_method_restore(method, damaged, size - 8), VISATB_ERROR_DATA,
                   "visatb_method_restore: the state has 120 bytes; expected 128");
    expect_failure(visatb_method_restore(method, whole, 79), VISATB_ERROR_DATA,
                   "visatb_method_restore: the state has 79 bytes; expected 80 or more: it is cut");
    state_of(method, after);
    assert_memory_equal(after, whole, size);
    visatb_method_destroy(method);
}

/* An IGBv1 of one task, as a state has it; its base are the steps 1 and 2. */
typedef struct igb_content {
    uint64_t steps;
    double last, base;
    uint64_t count;
    const char *message; /* NULL for one that can be */
} igb_content;

static void put_word(unsigned char *at, const void *word) {
    uint64_t number = 0;
    memcpy(&number, word, sizeof number);
    for (int k = 0; k < 8; k++)
        at[k] = (unsigned char)(number >> (8 * k));
}

/* The state is taken, where there is no message; else it is refused by that. */
static void expect_restored(visatb_method *method, const unsigned char *state, size_t size,
                            const char *refusal) {
    if (!refusal) {
        expect_ok(visatb_method_restore(method, state, size));
        return;
    }
    char message[256] = "visatb_method_restore: ";
    (void)strncat(message, refusal, sizeof message - strlen(message) - 1);
    expect_failure(visatb_method_restore(method, state, size), VISATB_ERROR_DATA, message);
}

static void a_state_that_no_steps_lead_to_is_refused(void **state) {
    (void)state;
    static const igb_content cases[] = {
        {0, -1, -1, 0, NULL},
        {1, 0.5, -1, 0, NULL},
        {2, 0.5, 0.5, 1, NULL},
        {9, 0.5, 0.5, 2, NULL},
        {9, -1, -1, 0, NULL},
        {9, 0, 0, 2, NULL},
        {UINT64_MAX, 0.5, 0.5, 2, NULL},
        {0, 0.5, 0.5, 1, "count 0 of the state is 1; expected at most 0 after 0 steps"},
        {1, 0.5, 0.5, 1, "count 0 of the state is 1; expected at most 0 after 1 steps"},
        {2, 0.5, 0.5, 2, "count 0 of the state is 2; expected at most 1 after 2 steps"},
        {9, 0.5, 0.5, 3, "count 0 of the state is 3; expected at most 2 after 9 steps"},
        {9, 0.5, 0.5, 0, "base 0 of the state is 0.5 with count 0; expected -1"},
        {9, 0.5, -1, 2, "base 0 of the state is -1 with count 2; expected a loss"},
        {9, -1, 0.5, 2, "last loss 0 of the state is -1 with count 2; expected a loss"},
        {0, 3, -1, 0, "last loss 0 of the state is 3 with count 0 after 0 steps; expected -1"},
    };
    visatb_method *const method = make(VISATB_METHOD_IGBV1, 1);
    unsigned char made[MOST_BYTES];
    const size_t size = state_of(method, made);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        put_word(made + 64, &cases[k].steps);
        put_word(made + 72, &cases[k].last);
        put_word(made + 80, &cases[k].base);
        put_word(made + 88, &cases[k].count);
        put_checksum(made, size);
        expect_restored(method, made, size, cases[k].message);
    }
    visatb_method_destroy(method);
}

static void a_last_loss_needs_a_step_outside_of_the_base_where_the_base_has_none(void **state) {
    (void)state;
    visatb_method_options options = VISATB_METHOD_OPTIONS_INIT;
    options.kind = VISATB_METHOD_IGBV1;
    options.tasks = 1;
    options.base_first = 0;
    options.base_end = 2;
    visatb_method *method = NULL;
    expect_ok(visatb_method_create(&options, &method));
    unsigned char made[MOST_BYTES];
    const size_t size = state_of(method, made);
    const double last = 3.0;
    put_word(made + 72, &last);
    const uint64_t steps[2] = {2, 3};
    put_word(made + 64, &steps[0]);
    put_checksum(made, size);
    expect_failure(visatb_method_restore(method, made, size), VISATB_ERROR_DATA,
                   "visatb_method_restore: last loss 0 of the state is 3 with count 0 after 2 steps; "
                   "expected -1");
    put_word(made + 64, &steps[1]);
    put_checksum(made, size);
    expect_ok(visatb_method_restore(method, made, size));
    visatb_method_destroy(method);
}

static void losses_of_the_base_alone_may_be_in_a_state(void **state) {
    (void)state;
    visatb_method_options options = VISATB_METHOD_OPTIONS_INIT;
    options.kind = VISATB_METHOD_IGBV1;
    options.tasks = 1;
    options.base_first = 0;
    visatb_method *method = NULL;
    expect_ok(visatb_method_create(&options, &method));
    tell(method, 1, 1);
    unsigned char saved[MOST_BYTES];
    const size_t size = state_of(method, saved);
    expect_ok(visatb_method_restore(method, saved, size));
    visatb_method_destroy(method);
}

/* A DWA of one task and two windows of two steps, as a state has it, with one loss. */
typedef struct dwa_content {
    uint64_t steps;
    int row;
    const char *message; /* NULL for one that can be */
} dwa_content;

static void a_loss_of_a_step_that_was_not_is_refused(void **state) {
    (void)state;
    static const dwa_content cases[] = {
        {1, 0, NULL},
        {3, 2, NULL},
        {4, 3, NULL},
        {5, 3, NULL}, /* of step 3, while step 4 has taken row 0 */
        {UINT64_MAX, 3, NULL},
        {0, 0, "loss 0 of the state is 3 after 0 steps; expected -1"},
        {0, 3, "loss 3 of the state is 3 after 0 steps; expected -1"},
        {1, 1, "loss 1 of the state is 3 after 1 steps; expected -1"},
        {3, 3, "loss 3 of the state is 3 after 3 steps; expected -1"},
    };
    visatb_method *const method = make(VISATB_METHOD_DWA, 1);
    unsigned char fresh[MOST_BYTES], made[MOST_BYTES];
    const size_t size = state_of(method, fresh);
    const double loss = 3.0;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        memcpy(made, fresh, size);
        put_word(made + 64, &cases[k].steps);
        put_word(made + 72 + 8 * (size_t)cases[k].row, &loss);
        put_checksum(made, size);
        expect_restored(method, made, size, cases[k].message);
    }
    visatb_method_destroy(method);
}

static void the_rows_of_a_step_have_all_tasks(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_DWA, 3);
    const double nll[3] = {1, 2, 3};
    const int64_t tokens[3] = {1, 1, 1};
    expect_ok(visatb_method_update(method, nll, tokens));
    unsigned char made[MOST_BYTES];
    const size_t size = state_of(method, made);
    expect_ok(visatb_method_restore(method, made, size));
    put_word(made + 96, &nll[2]); /* the first task of step 1 */
    put_checksum(made, size);
    expect_failure(visatb_method_restore(method, made, size), VISATB_ERROR_DATA,
                   "visatb_method_restore: loss 3 of the state is 3 after 1 steps; expected -1");
    visatb_method_destroy(method);
}

static void temperatures_that_differ_in_the_last_digit_are_told_apart(void **state) {
    (void)state;
    visatb_method_options options = VISATB_METHOD_OPTIONS_INIT;
    options.kind = VISATB_METHOD_DWA;
    options.tasks = 1;
    options.window = 1;
    visatb_method *method = NULL, *other = NULL;
    options.temperature = 0.7;
    expect_ok(visatb_method_create(&options, &method));
    options.temperature = nextafter(0.7, 1.0);
    expect_ok(visatb_method_create(&options, &other));
    unsigned char saved[MOST_BYTES];
    const size_t size = state_of(other, saved);
    expect_failure(visatb_method_restore(method, saved, size), VISATB_ERROR_DATA,
                   "visatb_method_restore: the state is of a method with temperature = 0.70000000000000007; "
                   "expected 0.69999999999999996");
    visatb_method_destroy(method);
    visatb_method_destroy(other);
}

static void the_number_of_steps_does_not_begin_anew(void **state) {
    (void)state;
    visatb_method *const method = make(VISATB_METHOD_RLW, 2);
    unsigned char saved[MOST_BYTES], after[MOST_BYTES];
    const size_t size = state_of(method, saved);
    memset(saved + 64, 0xff, 8);
    put_checksum(saved, size);
    expect_ok(visatb_method_restore(method, saved, size));
    expect_ok(visatb_method_update(method, NULL, NULL));
    state_of(method, after);
    assert_memory_equal(saved, after, size);
    visatb_method_destroy(method);
}

/* Told of one more step: what it says is finite, and its state is one. */
static void expect_finite_after(visatb_method *method, const double *nll, const int64_t *tokens) {
    double weights[3], sum = 0.0;
    expect_ok(visatb_method_update(method, nll, tokens));
    expect_ok(visatb_method_weights(method, NULL, weights));
    for (int task = 0; task < 3; task++) {
        assert_true(isfinite(weights[task]) && weights[task] >= 0.0);
        sum += weights[task];
    }
    expect_close(sum, 3.0, 1e-14);
    unsigned char saved[MOST_BYTES];
    const size_t size = state_of(method, saved);
    expect_ok(visatb_method_restore(method, saved, size));
}

static void extreme_losses_in_any_order_give_finite_weights(void **state) {
    (void)state;
    static const double losses[4] = {DBL_MAX, DBL_TRUE_MIN, 0.0, 1.7e308};
    static const int64_t tokens[3] = {1, 1, INT64_MAX};
    for (unsigned order = 0; order < 4096; order++) {
        visatb_method *const methods[2] = {make(VISATB_METHOD_DWA, 3), make(VISATB_METHOD_IGBV1, 3)};
        for (unsigned step = 0; step < 6; step++) {
            const unsigned now = order >> (2 * step);
            const double nll[3] = {losses[now % 4], losses[(now + step) % 4], losses[(now / 4) % 4]};
            expect_finite_after(methods[0], nll, tokens);
            expect_finite_after(methods[1], nll, tokens);
        }
        visatb_method_destroy(methods[0]);
        visatb_method_destroy(methods[1]);
    }
}

static void extreme_losses_that_stay_have_ratio_1(void **state) {
    (void)state;
    static const double nll[3] = {DBL_MAX, DBL_TRUE_MIN, 1.0};
    static const int64_t tokens[3] = {1, 1, 1};
    visatb_method *const methods[2] = {make(VISATB_METHOD_DWA, 3), make(VISATB_METHOD_IGBV1, 3)};
    for (int m = 0; m < 2; m++) {
        double weights[3];
        for (int step = 0; step < 4; step++)
            expect_ok(visatb_method_update(methods[m], nll, tokens));
        expect_ok(visatb_method_weights(methods[m], NULL, weights));
        assert_true(weights[0] == 1.0 && weights[1] == 1.0 && weights[2] == 1.0);
        visatb_method_destroy(methods[m]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restored_method_goes_on_with_the_same_bits),
        cmocka_unit_test(a_state_is_the_same_bytes_on_every_machine),
        cmocka_unit_test(a_state_that_is_cut_or_changed_anywhere_is_refused),
        cmocka_unit_test(damaged_states_say_what_is_wrong),
        cmocka_unit_test(a_state_that_no_steps_lead_to_is_refused),
        cmocka_unit_test(a_last_loss_needs_a_step_outside_of_the_base_where_the_base_has_none),
        cmocka_unit_test(losses_of_the_base_alone_may_be_in_a_state),
        cmocka_unit_test(a_loss_of_a_step_that_was_not_is_refused),
        cmocka_unit_test(the_rows_of_a_step_have_all_tasks),
        cmocka_unit_test(temperatures_that_differ_in_the_last_digit_are_told_apart),
        cmocka_unit_test(the_number_of_steps_does_not_begin_anew),
        cmocka_unit_test(extreme_losses_in_any_order_give_finite_weights),
        cmocka_unit_test(extreme_losses_that_stay_have_ratio_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
