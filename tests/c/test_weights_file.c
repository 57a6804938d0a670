/* weights.json: written whole, read back by name in the trainer's own order. */
#include "expect.h"
#include "score_documents.h"

#include <math.h>
#include <stdio.h>

#define WEIGHTS                                                                                              \
    "{\"visatb_weights\":1,\"tasks\":[\"a\",\"b\"],\"weights\":{\"a\":0.75,\"b\":1.25},\"temperature\":0.5}"

static visatb_weights *weights_of_example(void) {
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    expect_ok(visatb_scores_parse(FULL_DOCUMENT, strlen(FULL_DOCUMENT), "scores.json", &scores));
    expect_ok(visatb_weights_compute(scores, NULL, &weights));
    visatb_scores_destroy(scores);
    return weights;
}

static void weights_outlive_their_scores_and_are_listed_in_file_order(void **state) {
    (void)state;
    visatb_weights *const weights = weights_of_example();
    static const char *const names[] = {"caption", "vqa", "box", "point", "chat"};
    size_t count = 0;
    expect_ok(visatb_weights_count(weights, &count));
    assert_int_equal(count, 5);
    double values[5] = {0};
    for (size_t k = 0; k < count; k++) {
        const char *name = NULL;
        expect_ok(visatb_weights_task(weights, k, &name, &values[k]));
        assert_string_equal(name, names[k]);
    }
    expect_close(values[2], values[3], 0.0); /* one group, one weight */
    expect_close(values[4], 1.0, 0.0);       /* fixed */
    expect_close(values[0] + values[1] + values[2], 3.0, 1e-14);
    expect_failure(visatb_weights_task(weights, 5, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_weights_task: index 5; expected one below 5");
    visatb_weights_destroy(weights);
}

static void a_trainer_reads_by_name_in_its_own_order(void **state) {
    (void)state;
    const char *const names[] = {"b", "a", "b"};
    float weights[3] = {0};
    expect_ok(visatb_weights_parse(WEIGHTS, strlen(WEIGHTS), "weights.json", 3, names, weights));
    assert_true(weights[0] == 1.25F && weights[1] == 0.75F && weights[2] == 1.25F);
}

static void what_was_written_is_read_back(void **state) {
    (void)state;
    char path[] = "/tmp/visatb-weights-XXXXXX";
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    visatb_weights *const weights = weights_of_example();
    expect_ok(visatb_weights_write(weights, path));
    const char *const names[] = {"chat", "point", "vqa"};
    float values[3] = {0};
    expect_ok(visatb_weights_read(path, 3, names, values));
    double vqa = 0.0;
    expect_ok(visatb_weights_task(weights, 1, NULL, &vqa));
    assert_true(values[0] == 1.0F && values[2] == (float)vqa);
    visatb_weights_destroy(weights);
    assert_int_equal(remove(path), 0);
}

static void a_file_that_cannot_be_written_is_named(void **state) {
    (void)state;
    visatb_weights *const weights = weights_of_example();
    expect_failure(visatb_weights_write(weights, "no/such/folder/weights.json"), VISATB_ERROR_IO,
                   "no/such/folder/weights.json: cannot be written: No such file or directory");
    expect_failure(visatb_weights_write(weights, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_weights_write: path is NULL");
    visatb_weights_destroy(weights);
}

static void bad_weights_files_are_refused_and_nothing_is_written(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"a task the file lacks", "\"a\":0.75,", "",
         "weights.json: weights.a: missing; the file has no weight for the task \"a\"", "weights.a"},
        {"a negative weight", "0.75", "-0.75",
         "weights.json: weights.a: -0.75; expected a number from 0 to 3.4e38", "weights.a"},
        {"a weight beyond float", "0.75", "1e39",
         "weights.json: weights.a: 1e+39; expected a number from 0 to 3.4e38", "weights.a"},
        {"a string", "0.75", "\"0.75\"", "weights.json: weights.a: expected a number, not a string",
         "weights.a"},
        {"another version", "\"visatb_weights\":1", "\"visatb_weights\":3",
         "weights.json: visatb_weights: unknown version 3; expected 1", "visatb_weights"},
        {"a scores file", "\"visatb_weights\":1", "\"visatb_scores\":1",
         "weights.json: visatb_weights: missing; there is visatb_scores, so it is another file",
         "visatb_weights"},
        {"no weights", "\"weights\":{\"a\":0.75,\"b\":1.25}", "\"x\":1", "weights.json: weights: missing",
         "weights"},
        {"half a file", ",\"temperature\":0.5}", "",
         "weights.json: weights: the document ends too early (line 1, column 67)", "weights"},
    };
    const char *const names[] = {"b", "a"};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char *const text = edited(WEIGHTS, cases[k].find, cases[k].replace);
        float weights[2] = {7.0F, 7.0F};
        expect_failure(visatb_weights_parse(text, strlen(text), "weights.json", 2, names, weights),
                       VISATB_ERROR_DATA, cases[k].message);
        assert_string_equal(visatb_last_error_path(), cases[k].path);
        assert_true(weights[0] == 7.0F && weights[1] == 7.0F);
        free(text);
    }
}

static void null_arguments_are_named(void **state) {
    (void)state;
    size_t count = 0;
    const char *const names[] = {"a", NULL};
    float weights[2];
    expect_failure(visatb_weights_count(NULL, &count), VISATB_ERROR_ARGUMENT,
                   "visatb_weights_count: weights is NULL");
    expect_failure(visatb_weights_compute(NULL, NULL, NULL), VISATB_ERROR_ARGUMENT,
                   "visatb_weights_compute: scores is NULL");
    expect_failure(visatb_weights_read(NULL, 2, names, weights), VISATB_ERROR_ARGUMENT,
                   "visatb_weights_read: path is NULL; expected a file's path");
    expect_failure(visatb_weights_parse(WEIGHTS, strlen(WEIGHTS), "w", 2, names, weights),
                   VISATB_ERROR_ARGUMENT, "visatb_weights_parse: names[1] is NULL");
    visatb_weights_destroy(NULL);
    visatb_scores_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_outlive_their_scores_and_are_listed_in_file_order),
        cmocka_unit_test(a_trainer_reads_by_name_in_its_own_order),
        cmocka_unit_test(what_was_written_is_read_back),
        cmocka_unit_test(a_file_that_cannot_be_written_is_named),
        cmocka_unit_test(bad_weights_files_are_refused_and_nothing_is_written),
        cmocka_unit_test(null_arguments_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
