/* The library called from several threads at once: the same answers, and no data race (run under TSan). */
#include "expect.h"
#include "score_documents.h"

#include <pthread.h>
#include <stdio.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_get_the_same_answers_and_their_own_messages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
