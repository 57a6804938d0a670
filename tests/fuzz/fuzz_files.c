/* Any bytes through every reader of files, in every form. A reader may refuse them, but only with a message,
 * and what it accepts must come out whole: weights that are finite and not negative. */
#include "fuzz_files.h"

#include <math.h>
#include <stdlib.h>
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *const text = (const char *)data;
    static const char *const names[] = {"a", "caption"};
    float weights[2];
    visatb_evaluation *evaluation = NULL;
    weigh(text, size);
    require_message(visatb_weights_parse(text, size, "weights.json", 2, names, weights));
    require_message(visatb_evaluation_compute(text, size, "results.json", NULL, &evaluation));
    visatb_evaluation_destroy(evaluation);
    return 0;
}
