/* What is allowed but weakens the result is warned of, and nothing else is. */
#include "score_documents.h"
#include "vectors.h"

/* The document after one or two edits; find NULL for none. */
static json_t *edited_document(const char *find, const char *replace, const char *find_too,
                               const char *replace_too) {
    char *text = edited(FULL_DOCUMENT, find, replace);
    if (find_too) {
        char *const first = text;
        text = edited(first, find_too, replace_too);
        free(first);
    }
    json_t *const scores = json_loads(text, 0, NULL);
    assert_non_null(scores);
    free(text);
    return scores;
}

/* The warnings of one code are exactly these, in this order; each is "path: message". Ends with NULL. */
static void expect_warnings(const json_t *scores, visatb_form form, const char *code,
                            const char *const *expected) {
    visatb_weights_options options = VISATB_WEIGHTS_OPTIONS_INIT;
    options.form = form;
    visatb_weights *const weights = weigh(scores, &options);
    size_t count = 0;
    expect_ok(visatb_weights_warning_count(weights, &count));
    for (size_t k = 0; k < count; k++) {
        const char *said_code = NULL, *path = NULL, *message = NULL;
        expect_ok(visatb_weights_warning(weights, k, &said_code, &path, &message));
        if (strcmp(said_code, code) != 0)
            continue;
        char said[512];
        (void)snprintf(said, sizeof said, "%s: %s", path, message);
        if (!*expected) {
            fail_msg("%s: one too many: %s", code, said);
            break;
        }
        assert_string_equal(said, *expected++);
    }
    if (*expected)
        fail_msg("%s: not warned of: %s", code, *expected);
    visatb_weights_destroy(weights);
}

static void expect_after_edit(const char *find, const char *replace, const char *code, const char *expected) {
    json_t *const scores = edited_document(find, replace, NULL, NULL);
    expect_warnings(scores, VISATB_FORM_OF_FILE, code, (const char *const[]){expected, NULL});
    json_decref(scores);
}

static void the_example_has_nothing_to_warn_of(void **state) {
    (void)state;
    json_t *const scores = json_loads(FULL_DOCUMENT, 0, NULL);
    visatb_weights *const weights = weigh(scores, NULL);
    size_t count = 99;
    expect_ok(visatb_weights_warning_count(weights, &count));
    assert_int_equal(count, 0);
    visatb_weights_destroy(weights);
    json_decref(scores);
}

static void a_contribution_is_negative_below_zero_and_not_at_it(void **state) {
    (void)state;
    expect_after_edit("\"cider\":0.42", "\"cider\":0.39", "negative_contribution",
                      "runs.with_mini.vqa: negative contribution: vqa -> caption");
    expect_after_edit("\"cider\":0.42", "\"cider\":0.4", "negative_contribution", NULL);
}

static void a_task_that_much_training_made_worse_than_little_is_warned_of(void **state) {
    (void)state;
    json_t *const scores = edited_document("\"mini\":{\"caption\"", MORE_RUNS "\"mini\":{\"caption\"",
                                           "\"caption\":{\"cider\":0.2}", "\"caption\":{\"cider\":0.9}");
    static const char *const expected[] = {"runs.only.caption: negative difficulty: caption (-0.125)", NULL};
    expect_warnings(scores, VISATB_FORM_PRECISE, "negative_difficulty", expected);
    json_decref(scores);
}

static void alphas_are_scaled_with_a_warning_up_to_two_hundredths(void **state) {
    (void)state;
    expect_after_edit("\"out\":0.25", "\"out\":0.26", "alphas_scaled",
                      "alphas: the alphas sum to 1.01; scaled to 1");
    expect_after_edit("\"out\":0.25", "\"out\":0.27", "alphas_scaled",
                      "alphas: the alphas sum to 1.02; scaled to 1");
    expect_after_edit("\"out\":0.25", "\"out\":0.2500001", "alphas_scaled",
                      "alphas: the alphas sum to 1.0000001; scaled to 1");
    expect_after_edit("\"out\":0.25,\"in\":0.25,\"difficulty\":0.5",
                      "\"out\":0.34,\"in\":0.34,\"difficulty\":0.34", "alphas_scaled",
                      "alphas: the alphas sum to 1.02; scaled to 1");
}

static void weights_above_and_below_the_range_are_warned_of(void **state) {
    (void)state;
    expect_after_edit("[0.5,2.0]", "[0.5,1.1]", "weight_out_of_range",
                      "temperature: weight outside [0.5, 1.1]: grounding (1.16)");
    expect_after_edit("[0.5,2.0]", "[0.9,2.0]", "weight_out_of_range",
                      "temperature: weight outside [0.9, 2]: vqa (0.894)");
}

/* The other tasks' gains are 0.2, 0.333 and 1: with a small fourth the median is 0.267 and a tenth of it
 * 0.0267. */
static void a_signal_is_weak_below_a_tenth_of_the_median(void **state) {
    (void)state;
    static const char own[] = "\"caption\":{\"cider\":0.42},\"vqa\":{\"em\":70,\"f1\":60}";
    expect_after_edit(
        own, "\"caption\":{\"cider\":0.42},\"vqa\":{\"em\":61.2,\"f1\":51.2}", "weak_signal",
        "runs.with_mini.vqa.vqa: weak signal: training on vqa moved vqa by 2.2%, less than a tenth of the "
        "tasks' median 27%");
    expect_after_edit(own, "\"caption\":{\"cider\":0.42},\"vqa\":{\"em\":61.8,\"f1\":51.8}", "weak_signal",
                      NULL);
}

static void a_score_that_falls_to_zero_makes_no_other_signal_weak(void **state) {
    (void)state;
    json_t *const scores = json_loads(
        "{\"visatb_scores\":1,\"form\":\"full\",\"temperature\":1,\"tasks\":["
        "{\"name\":\"a\",\"metrics\":[{\"name\":\"err\",\"higher_is_better\":false}]},"
        "{\"name\":\"b\",\"metrics\":[{\"name\":\"err\",\"higher_is_better\":false}]}],\"runs\":{"
        "\"mini\":{\"a\":{\"err\":10},\"b\":{\"err\":10}},\"with_mini\":{"
        "\"a\":{\"a\":{\"err\":0},\"b\":{\"err\":9}},\"b\":{\"a\":{\"err\":9},\"b\":{\"err\":5}}}}}",
        0, NULL);
    static const char *const none[] = {NULL};
    expect_warnings(scores, VISATB_FORM_OF_FILE, "weak_signal", none);
    json_decref(scores);
}

static void subsets_below_the_papers_advice_are_warned_of(void **state) {
    (void)state;
    expect_after_edit("\"samples\":60000", "\"samples\":39999", "few_large_samples",
                      "tasks[1].samples: large subset of vqa: 9999 samples, fewer than 10000");
    expect_after_edit("\"large\":0.25,\"mini\":0.03125", "\"large\":0.5,\"mini\":0.02", "few_mini_samples",
                      "tasks[0].samples: mini subset of caption: 800 samples, fewer than 1000");
    /* A group is pointed to at its first task, and counts all of them. */
    expect_after_edit("\"samples\":50000", "\"samples\":10", "few_large_samples", NULL);
    json_t *const scores =
        edited_document("\"samples\":50000", "\"samples\":10", "\"samples\":70000", "\"samples\":39990");
    static const char *const expected[] = {
        "tasks[2].samples: large subset of grounding: 9999 samples, fewer than 10000", NULL};
    expect_warnings(scores, VISATB_FORM_OF_FILE, "few_large_samples", expected);
    json_decref(scores);
}

static void a_subset_is_pointed_to_where_its_unit_begins(void **state) {
    (void)state;
    json_t *const scores = edited_document("\"mini\":0.03125", "\"mini\":0.02", NULL, NULL);
    json_t *const tasks = json_object_get(scores, "tasks");
    /* The fixed-weight task, which is no unit, first. */
    (void)json_array_insert(tasks, 0, json_array_get(tasks, 4));
    (void)json_array_remove(tasks, 5);
    static const char *const expected[] = {
        "tasks[1].samples: mini subset of caption: 800 samples, fewer than 1000", NULL};
    expect_warnings(scores, VISATB_FORM_OF_FILE, "few_mini_samples", expected);
    json_decref(scores);
}

/* Samples of the subsets: mini 1250, 1875, 3749 and 1250 of the fixed-weight task; large 10000, 15000, 30000.
 */
static void expect_few_steps(visatb_form form, const char *batch_size, const char *const *expected) {
    json_t *const scores = edited_document("\"mini\":{\"caption\"", MORE_RUNS "\"mini\":{\"caption\"",
                                           "\"batch_size\":32", batch_size);
    expect_warnings(scores, form, "few_steps", expected);
    json_decref(scores);
}

static void runs_of_a_hundred_steps_or_fewer_are_warned_of_in_the_full_form(void **state) {
    (void)state;
    static const char *const none[] = {NULL};
    static const char *const all_mini[] = {
        "runs.mini: few steps: mini (100; the paper advises more than 100)", NULL};
    static const char *const one[] = {"runs.mini: few steps: mini (49; the paper advises more than 100)",
                                      NULL};
    static const char *const two[] = {
        "runs.mini: few steps: mini (49; the paper advises more than 100)",
        "runs.with_mini.caption: few steps: with_mini:caption (100; the paper advises more than 100)", NULL};
    expect_few_steps(VISATB_FORM_FULL, "\"batch_size\":81", none);     /* 8124 samples: 100.3 steps */
    expect_few_steps(VISATB_FORM_FULL, "\"batch_size\":82", all_mini); /* 99.07 */
    expect_few_steps(VISATB_FORM_FULL, "\"batch_size\":168", one);     /* with_mini.caption: 16874, 100.4 */
    expect_few_steps(VISATB_FORM_FULL, "\"batch_size\":169", two);
}

static void runs_of_a_hundred_steps_or_fewer_are_warned_of_in_the_simple_form(void **state) {
    (void)state;
    static const char *const expected[] = {
        "runs.only.caption: few steps: only:caption (100; the paper advises more than 100)",
        "runs.mini_only.caption: few steps: mini_only:caption (23; the paper advises more than 100)",
        "runs.mini_only.vqa: few steps: mini_only:vqa (28; the paper advises more than 100)",
        "runs.mini_only.grounding: few steps: mini_only:grounding (45; the paper advises more than 100)",
        NULL};
    expect_few_steps(VISATB_FORM_SIMPLE, "\"batch_size\":113",
                     expected); /* 11250, 2500, 3125, 4999 samples */
}

static void runs_of_a_hundred_steps_or_fewer_are_warned_of_in_the_precise_form(void **state) {
    (void)state;
    static const char *const none[] = {NULL};
    static const char *const expected[] = {
        "runs.mini_only.caption: few steps: mini_only:caption (100; the paper advises more than 100)", NULL};
    expect_few_steps(VISATB_FORM_PRECISE, "\"batch_size\":24", none);
    expect_few_steps(VISATB_FORM_PRECISE, "\"batch_size\":25", expected);
}

static void the_academic_benchmark_trains_116_mini_steps_and_is_warned_of_chartqa(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int samples;
    } tasks[] = {{"ShareGPT4V", 98000}, {"Ref-caption", 41000}, {"VQAv2", 83000},   {"GQA", 72000},
                 {"ChartQA", 18000},    {"OCRVQA", 80000},      {"Ref-bbox", 41000}};
    json_t *const scores =
        json_pack("{s:i, s:s, s:[], s:{s:{}, s:{}}, s:{s:f, s:i}}", "visatb_scores", 1, "form", "full",
                  "tasks", "runs", "mini", "with_mini", "sampling", "mini", 1.0 / 32, "batch_size", 128);
    json_t *const list = json_object_get(scores, "tasks"), *const runs = json_object_get(scores, "runs");
    for (size_t i = 0; i < 7; i++) {
        (void)json_array_append_new(list, json_pack("{s:s, s:i, s:[{s:s, s:b}]}", "name", tasks[i].name,
                                                    "samples", tasks[i].samples, "metrics", "name", "m",
                                                    "higher_is_better", 1));
        (void)json_object_set_new(json_object_get(runs, "mini"), tasks[i].name, json_pack("{s:f}", "m", 1.0));
        json_t *const run = json_object();
        for (size_t j = 0; j < 7; j++)
            (void)json_object_set_new(run, tasks[j].name, json_pack("{s:f}", "m", i == j ? 2.0 : 1.5));
        (void)json_object_set_new(json_object_get(runs, "with_mini"), tasks[i].name, run);
    }
    (void)json_array_append_new(
        list, json_pack("{s:s, s:i, s:f}", "name", "ShareGPT", "samples", 41000, "fixed_weight", 1.0));
    visatb_weights *const weights = weigh(scores, NULL);
    size_t count = 0;
    expect_ok(visatb_weights_warning_count(weights, &count));
    assert_int_equal(count, 1); /* and none of 116 steps, which is enough */
    const char *message = NULL;
    expect_ok(visatb_weights_warning(weights, 0, NULL, NULL, &message));
    assert_string_equal(message, "mini subset of ChartQA: 562 samples, fewer than 1000");
    visatb_weights_destroy(weights);
    /* 14810 samples in all: 100 steps at a batch of 149. */
    (void)json_object_set_new(json_object_get(scores, "sampling"), "batch_size", json_integer(149));
    visatb_weights *const few = weigh(scores, NULL);
    expect_ok(visatb_weights_warning(few, 1, NULL, NULL, &message));
    assert_string_equal(message, "few steps: mini (100; the paper advises more than 100)");
    visatb_weights_destroy(few);
    json_decref(scores);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_has_nothing_to_warn_of),
        cmocka_unit_test(a_contribution_is_negative_below_zero_and_not_at_it),
        cmocka_unit_test(a_task_that_much_training_made_worse_than_little_is_warned_of),
        cmocka_unit_test(alphas_are_scaled_with_a_warning_up_to_two_hundredths),
        cmocka_unit_test(weights_above_and_below_the_range_are_warned_of),
        cmocka_unit_test(a_signal_is_weak_below_a_tenth_of_the_median),
        cmocka_unit_test(a_score_that_falls_to_zero_makes_no_other_signal_weak),
        cmocka_unit_test(subsets_below_the_papers_advice_are_warned_of),
        cmocka_unit_test(a_subset_is_pointed_to_where_its_unit_begins),
        cmocka_unit_test(runs_of_a_hundred_steps_or_fewer_are_warned_of_in_the_full_form),
        cmocka_unit_test(runs_of_a_hundred_steps_or_fewer_are_warned_of_in_the_simple_form),
        cmocka_unit_test(runs_of_a_hundred_steps_or_fewer_are_warned_of_in_the_precise_form),
        cmocka_unit_test(the_academic_benchmark_trains_116_mini_steps_and_is_warned_of_chartqa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
