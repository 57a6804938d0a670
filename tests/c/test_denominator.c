/* D and the tokens by task without logits, and the sum over ranks where there is one rank. The rules are
 * those of the loss, on the CPU and, with the argument "cuda", on a GPU whose kernels run on the CPU. */
#include "expect.h"

#include <stdio.h>
#include <string.h>

static visatb_device device = VISATB_DEVICE_CPU;

enum { ROWS = 700, VOCAB = 2, TASKS = 3, IGNORE = -100 };

typedef struct step {
    visatb_vitw_loss_args args;
    int64_t labels[ROWS];
    int32_t task_ids[ROWS];
    float weights[TASKS];
    double denominator;
    int64_t tokens[TASKS];
} step;

/* Weights whose sums depend on their order; every third row is ignored, and its task id is none; task 2 has
 * no valid row. */
static void make(step *s) {
    *s = (step){
        .args = VISATB_VITW_LOSS_ARGS_INIT,
        .weights = {0.1F, 3.3F, 7},
        .denominator = -1,
        .tokens = {-1, -1, -1},
    };
    for (int row = 0; row < ROWS; ++row) {
        s->labels[row] = row % 3 == 2 ? IGNORE : row % VOCAB;
        s->task_ids[row] = row % 3 == 2 ? -7 : row % 7 == 0;
    }
    s->args.rows = ROWS;
    s->args.vocab = VOCAB;
    s->args.tasks = TASKS;
    s->args.labels = s->labels;
    s->args.task_ids = s->task_ids;
    s->args.task_weights = s->weights;
    s->args.denominator_out = &s->denominator;
    s->args.task_tokens = s->tokens;
    s->args.device = device;
}

static void expect_tokens(const step *s, int times) {
    int64_t expected[TASKS] = {0};
    for (int row = 0; row < ROWS; ++row)
        if (row % 3 != 2)
            expected[row % 7 == 0] += times;
    assert_memory_equal(s->tokens, expected, sizeof expected);
}

static void it_is_what_the_loss_divides_by(void **state) {
    (void)state;
    static const float logits[ROWS][VOCAB];
    static unsigned char workspace[1 << 16];
    step counted;
    step computed;
    double loss = 0;
    make(&counted);
    expect_ok(visatb_vitw_denominator(&counted.args, 0));
    make(&computed);
    computed.args.dtype = VISATB_DTYPE_FLOAT32;
    computed.args.logits = logits;
    computed.args.loss = &loss;
    computed.args.workspace = workspace;
    computed.args.workspace_bytes = sizeof workspace;
    expect_ok(visatb_vitw_loss(&computed.args));
    assert_memory_equal(&counted.denominator, &computed.denominator, sizeof(double));
    assert_memory_equal(counted.tokens, computed.tokens, sizeof counted.tokens);
    expect_tokens(&counted, 1);
}

static void what_is_there_is_added_to(void **state) {
    (void)state;
    step s;
    make(&s);
    expect_ok(visatb_vitw_denominator(&s.args, 0));
    const double once = s.denominator;
    expect_ok(visatb_vitw_denominator(&s.args, 1));
    assert_true(s.denominator == 2 * once);
    expect_tokens(&s, 2);
    s.args.rows = 0;
    expect_ok(visatb_vitw_denominator(&s.args, 1));
    assert_true(s.denominator == 2 * once);
    expect_tokens(&s, 2);
}

static void without_rows_it_is_zero(void **state) {
    (void)state;
    step s;
    make(&s);
    s.args.rows = 0;
    s.args.labels = NULL;
    s.args.task_ids = NULL;
    expect_ok(visatb_vitw_denominator(&s.args, 0));
    assert_true(s.denominator == 0);
    expect_tokens(&s, 0);
}

/* TLA's weights are made of the counts, so there are none before. */
static void tokens_are_counted_without_weights(void **state) {
    (void)state;
    step s;
    make(&s);
    s.args.denominator_out = NULL;
    s.args.task_weights = NULL;
    expect_ok(visatb_vitw_denominator(&s.args, 0));
    expect_tokens(&s, 1);
    assert_true(s.denominator == -1);
    make(&s);
    s.args.task_tokens = NULL;
    expect_ok(visatb_vitw_denominator(&s.args, 0));
    assert_true(s.denominator > 0 && s.tokens[0] == -1);
}

/* What the same struct holds for the loss. */
static void what_is_not_of_the_count_is_not_looked_at(void **state) {
    (void)state;
    step s;
    make(&s);
    const double given = -5;
    s.args.denominator = &given;
    s.args.reduction = (visatb_reduction)9;
    s.args.softcap = -1;
    s.args.threads = -1;
    s.args.logits_stride = -1;
    expect_ok(visatb_vitw_denominator(&s.args, 0));
    expect_tokens(&s, 1);
}

static void refuse(const step *s, int32_t accumulate, const char *message) {
    expect_failure(visatb_vitw_denominator(&s->args, accumulate), VISATB_ERROR_ARGUMENT, message);
    assert_true(s->denominator == -1 && s->tokens[0] == -1 && s->tokens[1] == -1 && s->tokens[2] == -1);
}

static void arguments_are_checked(void **state) {
    (void)state;
    step s;
    expect_failure(visatb_vitw_denominator(NULL, 0), VISATB_ERROR_ARGUMENT,
                   "visatb_vitw_denominator: args = NULL; expected a pointer");
#define REFUSE(change, accumulate, message)                                                                  \
    do {                                                                                                     \
        make(&s);                                                                                            \
        s.args.change;                                                                                       \
        refuse(&s, accumulate, "visatb_vitw_denominator: " message);                                         \
    } while (0)
    REFUSE(rows = -1, 0, "rows = -1; expected a value in [0, 1152921504606846975]");
    REFUSE(vocab = 0, 0, "vocab = 0; expected a value in [1, 1152921504606846975]");
    REFUSE(tasks = 0, 0, "tasks = 0; expected a value in [1, 1152921504606846975]");
    REFUSE(rows = ROWS, 2, "accumulate = 2; expected 0 or 1");
    REFUSE(labels = NULL, 0, "labels = NULL; expected a pointer, because rows = 700");
    REFUSE(task_ids = NULL, 0, "task_ids = NULL; expected a pointer, because rows = 700");
    REFUSE(task_weights = NULL, 0,
           "task_weights = NULL; expected a pointer, because denominator_out is given");
    REFUSE(device = (visatb_device)2, 0,
           "device = 2; expected VISATB_DEVICE_CPU (0) or VISATB_DEVICE_CUDA (1)");
    make(&s);
    s.args.denominator_out = NULL;
    s.args.task_tokens = NULL;
    refuse(
        &s, 0,
        "visatb_vitw_denominator: denominator_out = NULL and task_tokens = NULL; expected a pointer in one "
        "of them");
    char message[160];
    (void)snprintf(message, sizeof message,
                   "visatb_vitw_denominator: size = 8; expected %zu, as VISATB_VITW_LOSS_ARGS_INIT sets it",
                   sizeof s.args);
    make(&s);
    s.args.size = 8;
    refuse(&s, 0, message);
}

/* On a GPU they are not the host's to read (test_cuda_denominator.c). */
static void contents_are_checked_on_the_cpu(void **state) {
    (void)state;
    step s;
    make(&s);
    s.labels[4] = VOCAB;
    refuse(&s, 0,
           "visatb_vitw_denominator: labels[4] = 2; expected ignore_index (-100) or a value in [0, 2)");
    make(&s);
    s.task_ids[3] = TASKS;
    refuse(&s, 1, "visatb_vitw_denominator: task_ids[3] = 3; expected a value in [0, 3)");
    make(&s);
    s.weights[2] = -1;
    refuse(&s, 0, "visatb_vitw_denominator: task_weights[2] = -1; expected a finite value >= 0");
    s.args.denominator_out = NULL;
    expect_ok(visatb_vitw_denominator(&s.args, 0));
    expect_tokens(&s, 1);
}

/* ---- over ranks ---- */

static void one_rank_has_nothing_to_sum(void **state) {
    (void)state;
    double values[2] = {1.5, -2};
    int64_t tokens[1] = {7};
    expect_ok(visatb_sum_over_ranks(values, 2, tokens, 1, NULL, NULL));
    expect_ok(visatb_sum_over_ranks(NULL, 0, NULL, 0, NULL, NULL));
    assert_true(values[0] == 1.5 && values[1] == -2 && tokens[0] == 7);
}

static void arrays_to_sum_are_checked_with_one_rank_too(void **state) {
    (void)state;
    double values[1] = {1};
    int64_t tokens[1] = {7};
    expect_failure(visatb_sum_over_ranks(values, -1, NULL, 0, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: values_count = -1; expected a value in [0, 1152921504606846975]");
    expect_failure(visatb_sum_over_ranks(NULL, 0, tokens, -2, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: tokens_count = -2; expected a value in [0, 1152921504606846975]");
    expect_failure(visatb_sum_over_ranks(NULL, 3, tokens, 1, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: values = NULL; expected a pointer, because values_count = 3");
    expect_failure(visatb_sum_over_ranks(values, 1, NULL, 1, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: tokens = NULL; expected a pointer, because tokens_count = 1");
}

/* A build without it says so, and why, to a call that needs it. */
static void without_cuda_there_are_no_other_ranks(void **state) {
    (void)state;
    const char *info = strstr(visatb_build_info(), "\ncuda: no (");
    if (info == NULL)
        skip();
    char reason[256] = "";
    assert_int_equal(sscanf(info, "\ncuda: no (%255[^\n]", reason), 1);
    char message[512];
    double values[1] = {1};
    (void)snprintf(message, sizeof message, "visatb_sum_over_ranks: this library was built without CUDA (%s",
                   reason);
    expect_failure(visatb_sum_over_ranks(values, 1, NULL, 0, values, NULL), VISATB_ERROR_UNSUPPORTED,
                   message);
    assert_true(values[0] == 1);
    assert_non_null(strstr(visatb_build_info(), "\nnccl: no (built without CUDA)\n"));

    step s;
    make(&s);
    s.args.device = VISATB_DEVICE_CUDA;
    (void)snprintf(
        message, sizeof message,
        "visatb_vitw_denominator: device = VISATB_DEVICE_CUDA; expected VISATB_DEVICE_CPU, because "
        "this library was built without CUDA (%s",
        reason);
    expect_failure(visatb_vitw_denominator(&s.args, 0), VISATB_ERROR_UNSUPPORTED, message);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_what_the_loss_divides_by),
        cmocka_unit_test(what_is_there_is_added_to),
        cmocka_unit_test(without_rows_it_is_zero),
        cmocka_unit_test(tokens_are_counted_without_weights),
        cmocka_unit_test(what_is_not_of_the_count_is_not_looked_at),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(one_rank_has_nothing_to_sum),
        cmocka_unit_test(arrays_to_sum_are_checked_with_one_rank_too),
    };
    const struct CMUnitTest tests_of_cpu[] = {
        cmocka_unit_test(contents_are_checked_on_the_cpu),
        cmocka_unit_test(without_cuda_there_are_no_other_ranks),
    };
    if (argc == 2 && strcmp(argv[1], "cuda") == 0)
        device = VISATB_DEVICE_CUDA;
    int failed = cmocka_run_group_tests_name("D without logits", tests, NULL, NULL);
    if (device == VISATB_DEVICE_CPU)
        failed += cmocka_run_group_tests_name("D without logits, on the CPU", tests_of_cpu, NULL, NULL);
    return failed;
}
