/* Known answers from tests/vectors, read through jansson directly and not through the library. */
#ifndef VISATB_TESTS_VECTORS_H
#define VISATB_TESTS_VECTORS_H

#include "expect.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline json_t *load_vector(const char *name) {
    char path[1024];
    json_error_t error;
    (void)snprintf(path, sizeof path, "%s/%s", VISATB_TEST_VECTORS, name);
    json_t *const root = json_load_file(path, 0, &error);
    if (!root)
        fail_msg("%s: %s", path, error.text);
    return root;
}

static inline double number_of(const json_t *object, const char *key) {
    const json_t *const value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("no number \"%s\"", key);
    return json_number_value(value);
}

static inline visatb_weights *weigh(const json_t *scores_json, const visatb_weights_options *options) {
    char *const text = json_dumps(scores_json, 0);
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    expect_ok(visatb_scores_parse(text, strlen(text), "scores.json", &scores));
    expect_ok(visatb_weights_compute(scores, options, &weights));
    visatb_scores_destroy(scores);
    free(text);
    return weights;
}

static inline json_t *document_of(const visatb_weights *weights) {
    const char *text = NULL;
    size_t length = 0;
    expect_ok(visatb_weights_json(weights, &text, &length));
    assert_int_equal(length, strlen(text));
    json_t *const root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    return root;
}

#endif
