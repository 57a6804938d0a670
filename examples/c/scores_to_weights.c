/* From a file of validation scores to a file of weights: scores_to_weights SCORES.json WEIGHTS.json */
#include <stdio.h>
#include <stdlib.h>
#include <visatb.h>

static void check(visatb_status status) {
    if (status == VISATB_OK)
        return;
    fprintf(stderr, "%s: %s\n", visatb_status_string(status), visatb_last_error());
    exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s SCORES.json WEIGHTS.json\n", argv[0]);
        return 2;
    }
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    check(visatb_scores_read(argv[1], &scores));
    check(visatb_weights_compute(scores, NULL, &weights));
    check(visatb_weights_write(weights, argv[2]));

    size_t tasks = 0;
    check(visatb_weights_count(weights, &tasks));
    for (size_t task = 0; task < tasks; task++) {
        const char *name = NULL;
        double weight = 0.0;
        check(visatb_weights_task(weights, task, &name, &weight));
        printf("%-20s %.4f\n", name, weight);
    }
    visatb_weights_destroy(weights);
    visatb_scores_destroy(scores);
    return 0;
}
