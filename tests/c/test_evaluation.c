/* results.json to dI, dE and dI_zero: the paper's tables, and refusals. */
#include "score_documents.h"
#include "vectors.h"

#include <math.h>

#define RESULTS                                                                                              \
    "{\"visatb_results\":1,\"tasks\":["                                                                      \
    "{\"name\":\"vqa\",\"metrics\":[{\"name\":\"em\",\"higher_is_better\":true}],\"group\":\"g\"},"          \
    "{\"name\":\"box\",\"metrics\":[{\"name\":\"l1\",\"higher_is_better\":false}],\"group\":\"g\"},"         \
    "{\"name\":\"pope\",\"metrics\":[{\"name\":\"f1\",\"higher_is_better\":true}],\"zero_shot\":true}],"     \
    "\"baseline\":\"STL\",\"methods\":{"                                                                     \
    "\"VisATB\":{\"vqa\":{\"em\":44},\"box\":{\"l1\":11},\"pope\":{\"f1\":60}},"                             \
    "\"STL\":{\"vqa\":{\"em\":40},\"box\":{\"l1\":10}},"                                                     \
    "\"EW\":{\"vqa\":{\"em\":42},\"box\":{\"l1\":8},\"pope\":{\"f1\":50}}}}"

static visatb_status evaluate(const char *text, const char *baseline, json_t **root) {
    visatb_evaluation *evaluation = NULL;
    const visatb_status status =
        visatb_evaluation_compute(text, strlen(text), "results.json", baseline, &evaluation);
    if (status != VISATB_OK) {
        assert_null(evaluation);
        return status;
    }
    const char *json = NULL;
    expect_ok(visatb_evaluation_json(evaluation, &json, NULL));
    *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(*root);
    visatb_evaluation_destroy(evaluation);
    return VISATB_OK;
}

static const json_t *method(const json_t *root, const char *name) {
    return json_object_get(json_object_get(root, "methods"), name);
}

static void improvements_are_in_percent_of_the_baseline(void **state) {
    (void)state;
    json_t *root = NULL;
    expect_ok(evaluate(RESULTS, NULL, &root));
    assert_string_equal(json_string_value(json_object_get(root, "baseline")), "STL");
    const json_t *const visatb = method(root, "VisATB");
    expect_close(number_of(visatb, "dI"), 0.0, 1e-12); /* +10 and, lower being better, -10 */
    expect_close(number_of(visatb, "dE"), 5.0, 1e-12);
    expect_close(number_of(visatb, "dI_zero"), 20.0, 1e-12); /* against EW */
    expect_close(number_of(json_object_get(visatb, "tasks"), "box"), -10.0, 1e-12);
    expect_close(number_of(json_object_get(visatb, "tasks"), "pope"), 20.0, 1e-12);
    json_decref(root);
}

static void single_task_learning_needs_no_zero_shot_scores(void **state) {
    (void)state;
    json_t *root = NULL;
    expect_ok(evaluate(RESULTS, NULL, &root));
    assert_null(json_object_get(method(root, "STL"), "dI_zero"));
    expect_close(number_of(method(root, "STL"), "dI"), 0.0, 0.0);
    json_decref(root);
}

static void another_baseline_may_be_chosen(void **state) {
    (void)state;
    json_t *root = NULL;
    expect_ok(evaluate(RESULTS, "EW", &root));
    expect_close(number_of(json_object_get(method(root, "VisATB"), "tasks"), "box"), -37.5, 1e-12);
    json_decref(root);
    expect_failure(evaluate(RESULTS, "MTL", &root), VISATB_ERROR_DATA,
                   "results.json: baseline: \"MTL\" is not among the methods");
}

static void expect_printed(const char *name) {
    json_t *const vector = load_vector(name);
    char *const text = json_dumps(json_object_get(vector, "results"), 0);
    json_t *root = NULL;
    expect_ok(evaluate(text, NULL, &root));
    const char *row = NULL, *key = NULL;
    json_t *printed = NULL, *value = NULL;
    json_object_foreach(json_object_get(vector, "printed"), row, printed) {
        json_object_foreach(printed, key, value) {
            char ours[32], theirs[32];
            (void)snprintf(ours, sizeof ours, "%.2f", number_of(method(root, row), key) + 0.0);
            (void)snprintf(theirs, sizeof theirs, "%.2f", json_number_value(value));
            if (strcmp(ours, theirs) != 0)
                fail_msg("%s, %s %s: %s, printed %s", name, row, key, ours, theirs);
        }
    }
    json_decref(root);
    free(text);
    json_decref(vector);
}

static void the_papers_tables_are_met_to_the_printed_digits(void **state) {
    (void)state;
    expect_printed("improvement_7b.json");
    expect_printed("improvement_13b.json");
}

static void bad_results_are_refused(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"a baseline score of 0", "\"em\":40", "\"em\":0",
         "results.json: methods.STL.vqa.em: 0 is not above 0, and improvement divides by the baseline (Eq. "
         "9)",
         "methods.STL.vqa.em"},
        {"a zero-shot baseline below 0", "\"f1\":50", "\"f1\":-1",
         "results.json: methods.EW.pope.f1: -1 is not above 0, and improvement divides by the baseline (Eq. "
         "9)",
         "methods.EW.pope.f1"},
        {"a task not evaluated", "\"vqa\":{\"em\":44},", "", "results.json: methods.VisATB.vqa: missing",
         "methods.VisATB.vqa"},
        {"a task not evaluated by the baseline", "\"STL\":{\"vqa\":{\"em\":40},", "\"STL\":{",
         "results.json: methods.STL.vqa: missing", "methods.STL.vqa"},
        {"a zero-shot task not evaluated", ",\"pope\":{\"f1\":60}", "",
         "results.json: methods.VisATB.pope: missing", "methods.VisATB.pope"},
        {"no zero-shot baseline", "\"EW\":{", "\"ew\":{",
         "results.json: zero_shot_baseline: \"EW\" is not among the methods", "zero_shot_baseline"},
        {"no baseline", "\"baseline\":\"STL\",", "", "results.json: baseline: missing", "baseline"},
        {"scores too far apart", "\"em\":44", "\"em\":1e308",
         "results.json: methods.STL.vqa.em: 40 and 1e+308 are too far apart for a finite result",
         "methods.STL.vqa.em"},
        {"a baseline that is no name", "\"baseline\":\"STL\"", "\"baseline\":5",
         "results.json: baseline: expected a string, not a number", "baseline"},
        {"an unknown task", "\"em\":44}", "\"em\":44},\"gqa\":{\"em\":1}",
         "results.json: methods.VisATB.gqa: unknown task; it is not in \"tasks\"", "methods.VisATB.gqa"},
        {"a string for a number", "\"em\":44", "\"em\":\"44\"",
         "results.json: methods.VisATB.vqa.em: expected a number, not a string", "methods.VisATB.vqa.em"},
        {"a method twice", "\"EW\":{", "\"STL\":{",
         "results.json: methods.STL: duplicate key (line 1, column 401)", "methods.STL"},
        {"a scores file", "visatb_results", "visatb_scores",
         "results.json: visatb_results: missing; there is visatb_scores, so it is another file",
         "visatb_results"},
        {"a plan that is no name", "\"baseline\"", "\"plan\":5,\"baseline\"",
         "results.json: plan: expected a string, not a number", "plan"},
        {"no methods", "\"methods\"", "\"note\":\"x\",\"rows\"",
         "results.json: rows: unknown key; expected one of visatb_results, note, plan, tasks, "
         "baseline, zero_shot_baseline, methods",
         "rows"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char *const text = edited(RESULTS, cases[k].find, cases[k].replace);
        json_t *root = NULL;
        if (!text)
            fail_msg("%s: nothing to edit", cases[k].what);
        expect_failure(evaluate(text, NULL, &root), VISATB_ERROR_DATA, cases[k].message);
        assert_string_equal(visatb_last_error_path(), cases[k].path);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(improvements_are_in_percent_of_the_baseline),
        cmocka_unit_test(single_task_learning_needs_no_zero_shot_scores),
        cmocka_unit_test(another_baseline_may_be_chosen),
        cmocka_unit_test(the_papers_tables_are_met_to_the_printed_digits),
        cmocka_unit_test(bad_results_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
