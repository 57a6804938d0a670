/* The library called from several threads at once: the same answers, and no data race (run under TSan). */
#include "expect.h"
#include "score_documents.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 4, ROUNDS = 20, ROWS = 8, VOCAB = 300 };

/* What one thread found, compared with the others afterwards: cmocka's assertions belong to the main thread.
 */
typedef struct outcome {
    double loss;
    double weight;
    char message[64];
    visatb_status status;
    int index;
} outcome;

/* Wide enough that a call given three threads takes three. */
enum { WIDE_ROWS = 12, WIDE = 40000, THREADS_OF_A_CALL = 3 };

static visatb_status run_wide_loss(visatb_dtype dtype, double *loss) {
    static float logits[WIDE_ROWS * WIDE];
    static const int64_t labels[WIDE_ROWS] = {0, 1, 2, -100, 4, 5, 39999, 7, 1024, -100, 30, 31};
    static const int32_t task_ids[WIDE_ROWS] = {0, 1, 0, 1, 2, 1, 0, 1, 0, 1, 0, 2};
    static const float weights[3] = {0.5F, 1.5F, 0};
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    void *gradient = malloc(sizeof logits);
    args.rows = WIDE_ROWS;
    args.vocab = WIDE;
    args.tasks = 3;
    args.dtype = dtype;
    args.logits = logits;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = weights;
    args.threads = THREADS_OF_A_CALL;
    args.loss = loss;
    args.gradient = gradient;
    const visatb_status status = gradient == NULL ? VISATB_ERROR_MEMORY : visatb_vitw_loss(&args);
    free(gradient);
    return status;
}

static visatb_status run_loss(double *loss) {
    static float logits[ROWS][VOCAB];
    static const int64_t labels[ROWS] = {0, 1, 2, -100, 4, 5, 299, 7};
    static const int32_t task_ids[ROWS] = {0, 1, 0, 1, 0, 1, 0, 1};
    static const float weights[2] = {0.5F, 1.5F};
    float gradient[ROWS][VOCAB];
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = ROWS;
    args.vocab = VOCAB;
    args.tasks = 2;
    args.dtype = VISATB_DTYPE_FLOAT32;
    args.logits = logits;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = weights;
    args.loss = loss;
    args.gradient = gradient;
    return visatb_vitw_loss(&args);
}

#ifdef VISATB_TEST_WITH_JSON
static visatb_status run_weights(double *weight) {
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    visatb_status status = visatb_scores_parse(FULL_DOCUMENT, strlen(FULL_DOCUMENT), "scores.json", &scores);
    if (status == VISATB_OK)
        status = visatb_weights_compute(scores, NULL, &weights);
    if (status == VISATB_OK)
        status = visatb_weights_task(weights, 0, NULL, weight);
    visatb_weights_destroy(weights);
    visatb_scores_destroy(scores);
    return status;
}
#else
static visatb_status run_weights(double *weight) {
    *weight = 0.0;
    return VISATB_OK;
}
#endif

static void *work(void *argument) {
    outcome *const out = argument;
    for (int round = 0; round < ROUNDS && out->status == VISATB_OK; round++) {
        out->status = run_loss(&out->loss);
        if (out->status == VISATB_OK)
            out->status = run_weights(&out->weight);
        double value = 1.0;
        (void)visatb_softmax_weights(1, &value, -1.0 - out->index, &value);
        (void)snprintf(out->message, sizeof out->message, "%s", visatb_last_error());
    }
    return NULL;
}

static void threads_get_the_same_answers_and_their_own_messages(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    outcome outcomes[THREADS] = {{0}};
    for (int t = 0; t < THREADS; t++) {
        outcomes[t].index = t;
        assert_int_equal(pthread_create(&threads[t], NULL, work, &outcomes[t]), 0);
    }
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_join(threads[t], NULL), 0);
    for (int t = 0; t < THREADS; t++) {
        assert_int_equal(outcomes[t].status, VISATB_OK);
        assert_true(outcomes[t].loss > 0.0 && outcomes[t].loss == outcomes[0].loss);
        assert_true(outcomes[t].weight == outcomes[0].weight);
        char expected[64];
        (void)snprintf(expected, sizeof expected, "visatb_softmax_weights: temperature = %d;", -1 - t);
        assert_memory_equal(outcomes[t].message, expected, strlen(expected));
    }
}

static void *work_with_threads(void *argument) {
    outcome *const out = argument;
    for (int dtype = VISATB_DTYPE_FLOAT32; dtype <= VISATB_DTYPE_BFLOAT16; dtype++) {
        for (int round = 0; round < 3 && out->status == VISATB_OK; round++) {
            double loss = 0.0;
            out->status = run_wide_loss((visatb_dtype)dtype, &loss);
            out->loss += loss;
        }
    }
    return NULL;
}

static void calls_that_use_threads_may_come_from_several_threads(void **state) {
    (void)state;
    enum { CALLERS = 2 };
    pthread_t threads[CALLERS];
    outcome outcomes[CALLERS] = {{0}};
    for (int t = 0; t < CALLERS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, work_with_threads, &outcomes[t]), 0);
    for (int t = 0; t < CALLERS; t++)
        assert_int_equal(pthread_join(threads[t], NULL), 0);
    for (int t = 0; t < CALLERS; t++) {
        assert_int_equal(outcomes[t].status, VISATB_OK);
        assert_true(outcomes[t].loss > 0.0 && outcomes[t].loss == outcomes[0].loss);
    }
}

/* The first call finds out what the CPU can run: so this comes first, from many threads at once. */
static void *ask_for_the_path(void *argument) {
    outcome *const out = argument;
    visatb_cpu_path path = VISATB_CPU_AUTO;
    out->status = visatb_cpu_path_taken(VISATB_CPU_AUTO, &path);
    (void)snprintf(out->message, sizeof out->message, "%s", visatb_cpu_path_name(path));
    out->weight = (double)strlen(visatb_build_info());
    return NULL;
}

static void path_is_found_out_once_for_all_threads(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    outcome outcomes[THREADS] = {{0}};
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, ask_for_the_path, &outcomes[t]), 0);
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_join(threads[t], NULL), 0);
    for (int t = 0; t < THREADS; t++) {
        assert_int_equal(outcomes[t].status, VISATB_OK);
        assert_string_equal(outcomes[t].message, outcomes[0].message);
        assert_true(outcomes[t].weight > 0 && outcomes[t].weight == outcomes[0].weight);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_is_found_out_once_for_all_threads),
        cmocka_unit_test(threads_get_the_same_answers_and_their_own_messages),
        cmocka_unit_test(calls_that_use_threads_may_come_from_several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
