/* Any bytes through every reader of files and states, in every form. A reader may refuse them, but only with
 * a message, and what it accepts must come out whole: weights that are finite and not negative. */
#include "fuzz_files.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <visatb.h>

static void require(int condition) {
    if (!condition)
        abort();
}

static void require_message(visatb_status status) {
    if (status != VISATB_OK)
        require(visatb_last_error()[0] != '\0');
}

static void read_back(const visatb_weights *weights) {
    const char *text = NULL, *name = NULL;
    size_t length = 0, tasks = 0;
    require(visatb_weights_json(weights, &text, &length) == VISATB_OK);
    require(visatb_weights_count(weights, &tasks) == VISATB_OK);
    for (size_t t = 0; t < tasks; t++) {
        double weight = -1.0;
        float again = -1.0F;
        require(visatb_weights_task(weights, t, &name, &weight) == VISATB_OK);
        require(isfinite(weight) && weight >= 0.0);
        require(visatb_weights_parse(text, length, "weights.json", 1, &name, &again) == VISATB_OK);
        require(again == (float)weight);
    }
}

static void weigh(const char *text, size_t size) {
    visatb_scores *scores = NULL;
    const visatb_status status = visatb_scores_parse(text, size, "scores.json", &scores);
    require_message(status);
    for (int form = VISATB_FORM_FULL; scores && form <= VISATB_FORM_PRECISE; form++) {
        visatb_weights_options options = VISATB_WEIGHTS_OPTIONS_INIT;
        visatb_weights *weights = NULL;
        options.form = (visatb_form)form;
        options.allow_negative_denominator = form == VISATB_FORM_SIMPLE;
        require_message(visatb_weights_compute(scores, &options, &weights));
        if (weights)
            read_back(weights);
        visatb_weights_destroy(weights);
    }
    visatb_scores_destroy(scores);
}

/* Weights that are finite, also after losses at the ends of what is finite, and a state that is one. */
static void require_it_goes_on(visatb_method *method) {
    static const double nll[][2] = {{1.0, 0.0}, {DBL_MAX, 0.0}, {0.0, DBL_MAX}, {DBL_TRUE_MIN, 1.7e308}};
    static const int64_t tokens[][2] = {{1, 0}, {1, 1}, {INT64_MAX, 1}, {1, 1}};
    enum { STEPS = sizeof nll / sizeof *nll, MOST_BYTES = 256 };
    for (size_t told = 0;; told++) {
        double weights[2] = {-1.0, -1.0};
        require(visatb_method_weights(method, NULL, weights) == VISATB_OK);
        require(isfinite(weights[0]) && weights[0] >= 0.0 && isfinite(weights[1]) && weights[1] >= 0.0);
        if (told == STEPS)
            break;
        require(visatb_method_update(method, nll[told], tokens[told]) == VISATB_OK);
    }
    uint8_t saved[MOST_BYTES];
    size_t size = 0;
    require(visatb_method_state_size(method, &size) == VISATB_OK && size <= sizeof saved);
    require(visatb_method_save(method, saved, size) == VISATB_OK);
    require(visatb_method_restore(method, saved, size) == VISATB_OK);
}

/* As a state, also with the checksum that such bytes would have, which no fuzzer guesses. */
static void restore(const uint8_t *data, size_t size, visatb_method_kind kind) {
    visatb_method_options options = VISATB_METHOD_OPTIONS_INIT;
    options.kind = kind;
    options.tasks = 2;
    options.window = 2;
    visatb_method *method = NULL;
    require(visatb_method_create(&options, &method) == VISATB_OK);
    require_message(visatb_method_restore(method, data, size));
    uint8_t *const summed = malloc(size + 1);
    require(summed != NULL);
    memcpy(summed, data, size);
    uint64_t sum = 0xcbf29ce484222325U;
    for (size_t k = 0; k + 8 < size; k++)
        sum = (sum ^ data[k]) * 0x100000001b3U;
    for (size_t k = 0; k < 8 && size >= 8; k++)
        summed[size - 8 + k] = (uint8_t)(sum >> (8 * k));
    require_message(visatb_method_restore(method, summed, size));
    free(summed);
    require_it_goes_on(method);
    visatb_method_destroy(method);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *const text = (const char *)data;
    static const char *const names[] = {"a", "caption"};
    float weights[2];
    visatb_evaluation *evaluation = NULL;
    weigh(text, size);
    require_message(visatb_weights_parse(text, size, "weights.json", 2, names, weights));
    require_message(visatb_evaluation_compute(text, size, "results.json", NULL, &evaluation));
    visatb_evaluation_destroy(evaluation);
    restore(data, size, VISATB_METHOD_DWA);
    restore(data, size, VISATB_METHOD_IGBV1);
    return 0;
}
