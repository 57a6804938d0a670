/* Known answers: score files to weights, and the authors' published block. */
#include "score_documents.h"
#include "vectors.h"

#include <math.h>

static void expect_array(const json_t *by_name, const json_t *names, const json_t *expected) {
    assert_int_equal(json_array_size(names), json_array_size(expected));
    for (size_t k = 0; k < json_array_size(names); k++)
        expect_close(number_of(by_name, json_string_value(json_array_get(names, k))),
                     json_number_value(json_array_get(expected, k)), 1e-9);
}

static void expect_vector(const char *name) {
    json_t *const vector = load_vector(name);
    const json_t *const expected = json_object_get(vector, "expected");
    visatb_weights *const weights = weigh(json_object_get(vector, "scores"), NULL);
    json_t *const document = document_of(weights);
    const json_t *const by_task = json_object_get(expected, "weights");
    const char *task = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)by_task, task, value)
        expect_close(number_of(json_object_get(document, "weights"), task), json_number_value(value), 1e-9);
    assert_int_equal(json_object_size(json_object_get(document, "weights")), json_object_size(by_task));

    /* Units in the order of "outward" of the document. */
    json_t *const units = json_array();
    const char *unit = NULL;
    json_object_foreach(json_object_get(document, "outward"), unit, value)(void)
        json_array_append_new(units, json_string(unit));
    static const char *const tables[] = {"outward", "inward", "difficulty"};
    for (int k = 0; k < 3; k++)
        expect_array(json_object_get(document, tables[k]), units, json_object_get(expected, tables[k]));
    const json_t *const contribution = json_object_get(expected, "contribution");
    for (size_t i = 0; i < json_array_size(contribution); i++)
        expect_array(json_object_get(json_object_get(document, "contribution"),
                                     json_string_value(json_array_get(units, i))),
                     units, json_array_get(contribution, i));
    if (json_object_get(expected, "temperature"))
        expect_close(number_of(document, "temperature"), number_of(expected, "temperature"), 0.0);
    json_decref(units);
    json_decref(document);
    visatb_weights_destroy(weights);
    json_decref(vector);
}

static void the_full_form_gives_the_known_weights(void **state) {
    (void)state;
    expect_vector("scores_full.json");
}

static void the_simple_form_gives_the_known_weights(void **state) {
    (void)state;
    expect_vector("scores_simple.json");
}

static void groups_metrics_and_fixed_weights_give_the_known_tables(void **state) {
    (void)state;
    expect_vector("scores_groups.json");
}

static void read_doubles(const json_t *object, const char *key, double *values, size_t count) {
    const json_t *const array = json_object_get(object, key);
    assert_int_equal(json_array_size(array), count);
    for (size_t k = 0; k < count; k++)
        values[k] = json_number_value(json_array_get(array, k));
}

/* The authors' vectors of seven tasks. */
typedef struct published_block {
    json_t *vector;
    double outward[7], inward[7], difficulty[7];
    visatb_balance_options options;
} published_block;

static published_block load_7b(void) {
    published_block block = {.vector = load_vector("academic_7b.json"),
                             .options = VISATB_BALANCE_OPTIONS_INIT};
    double ratio[7];
    read_doubles(block.vector, "outward", block.outward, 7);
    read_doubles(block.vector, "inward", block.inward, 7);
    read_doubles(block.vector, "mini_over_full", ratio, 7);
    for (int k = 0; k < 7; k++)
        block.difficulty[k] = 1.0 - ratio[k];
    return block;
}

static void the_authors_7b_block_is_met_from_its_vectors(void **state) {
    (void)state;
    published_block block = load_7b();
    const json_t *const expected = json_object_get(block.vector, "expected");
    double known[28], found[28]; /* weights, then the components out, in, difficulty */
    static const char *const names[] = {"weights", "out", "in", "difficulty"};
    for (int c = 0; c < 4; c++)
        read_doubles(expected, names[c], known + (size_t)7 * (size_t)c, 7);
    block.options.temperature = number_of(block.vector, "temperature");
    expect_ok(visatb_balance_weights(7, block.outward, block.inward, block.difficulty, &block.options, found,
                                     found + 7, NULL));
    for (int k = 0; k < 28; k++)
        expect_close(found[k], known[k], 1e-12);
    json_decref(block.vector);
}

static void the_automatic_temperature_of_the_7b_block_is_the_authors(void **state) {
    (void)state;
    const published_block block = load_7b();
    double weights[7], temperature = 0.0;
    expect_ok(visatb_balance_weights(7, block.outward, block.inward, block.difficulty, &block.options,
                                     weights, NULL, &temperature));
    expect_close(temperature, 0.5, 0.0);
    json_decref(block.vector);
}

static void the_precise_form_takes_difficulty_from_tasks_trained_alone(void **state) {
    (void)state;
    char *const text = edited(FULL_DOCUMENT, "\"mini\":{\"caption\"", MORE_RUNS "\"mini\":{\"caption\"");
    json_t *const scores = json_loads(text, 0, NULL);
    visatb_weights_options options = VISATB_WEIGHTS_OPTIONS_INIT;
    visatb_weights *const full = weigh(scores, &options);
    options.form = VISATB_FORM_PRECISE;
    visatb_weights *const precise = weigh(scores, &options);
    json_t *const full_document = document_of(full), *const document = document_of(precise);
    assert_true(json_equal(json_object_get(document, "contribution"),
                           json_object_get(full_document, "contribution")));
    const json_t *const difficulty = json_object_get(document, "difficulty");
    expect_close(number_of(difficulty, "caption"), 0.75, 1e-15);
    expect_close(number_of(difficulty, "vqa"), (0.5 + 0.2) / 2, 1e-15);
    expect_close(number_of(difficulty, "grounding"), 0.5, 1e-15);
    json_decref(document);
    json_decref(full_document);
    visatb_weights_destroy(precise);
    visatb_weights_destroy(full);
    json_decref(scores);
    free(text);
}

static void options_win_over_the_file(void **state) {
    (void)state;
    json_t *const scores = json_loads(FULL_DOCUMENT, 0, NULL);
    const double temperature = 2.0, alphas[3] = {0.0, 0.0, 1.0};
    visatb_weights_options options = VISATB_WEIGHTS_OPTIONS_INIT;
    options.temperature = &temperature;
    options.alphas = alphas;
    options.scores_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    visatb_weights *const weights = weigh(scores, &options);
    json_t *const document = document_of(weights);
    expect_close(number_of(document, "temperature"), 2.0, 0.0);
    expect_close(number_of(json_object_get(document, "alphas"), "difficulty"), 1.0, 0.0);
    expect_close(number_of(json_object_get(document, "weights"), "vqa"),
                 number_of(json_object_get(json_object_get(document, "components"), "difficulty"), "vqa"),
                 0.0);
    assert_string_equal(json_string_value(json_object_get(document, "scores_sha256")), options.scores_sha256);
    json_decref(document);
    visatb_weights_destroy(weights);
    json_decref(scores);
}

static void the_recorded_hash_is_sha256_of_the_text(void **state) {
    (void)state;
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    expect_ok(visatb_scores_parse(FULL_DOCUMENT, strlen(FULL_DOCUMENT), "scores.json", &scores));
    expect_ok(visatb_weights_compute(scores, NULL, &weights));
    json_t *const document = document_of(weights);
    assert_string_equal(json_string_value(json_object_get(document, "scores_sha256")),
                        "379f264d112d72fa81968a3aeb51ff4844b9ff1278a485b5d11c16c93f472923");
    json_decref(document);
    visatb_weights_destroy(weights);
    visatb_scores_destroy(scores);
}

static void the_plan_of_the_scores_is_that_of_the_weights(void **state) {
    (void)state;
    json_t *const scores = json_loads(FULL_DOCUMENT, 0, NULL);
    visatb_weights *weights = weigh(scores, NULL);
    json_t *document = document_of(weights);
    assert_null(json_object_get(document, "plan"));
    json_decref(document);
    visatb_weights_destroy(weights);

    assert_int_equal(json_object_set_new(scores, "plan", json_string("an identity")), 0);
    weights = weigh(scores, NULL);
    json_decref(scores);
    document = document_of(weights);
    assert_string_equal(json_string_value(json_object_get(document, "plan")), "an identity");
    json_decref(document);
    visatb_weights_destroy(weights);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_full_form_gives_the_known_weights),
        cmocka_unit_test(the_simple_form_gives_the_known_weights),
        cmocka_unit_test(groups_metrics_and_fixed_weights_give_the_known_tables),
        cmocka_unit_test(the_authors_7b_block_is_met_from_its_vectors),
        cmocka_unit_test(the_automatic_temperature_of_the_7b_block_is_the_authors),
        cmocka_unit_test(the_precise_form_takes_difficulty_from_tasks_trained_alone),
        cmocka_unit_test(options_win_over_the_file),
        cmocka_unit_test(the_recorded_hash_is_sha256_of_the_text),
        cmocka_unit_test(the_plan_of_the_scores_is_that_of_the_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
