/* The file functions of a library built without JSON: each says so. */
#include "common/error.h"

static visatb_status without_json(const char *function) {
    return error_set(
        VISATB_ERROR_UNSUPPORTED,
        "%s: this library was built without JSON; install jansson and build again with -DVISATB_JSON=ON",
        function);
}

visatb_status visatb_scores_read(const char *path, visatb_scores **scores) {
    (void)path;
    (void)scores;
    return without_json("visatb_scores_read");
}

visatb_status visatb_scores_parse(const char *text, size_t length, const char *name, visatb_scores **scores) {
    (void)text;
    (void)length;
    (void)name;
    (void)scores;
    return without_json("visatb_scores_parse");
}

void visatb_scores_destroy(visatb_scores *scores) {
    (void)scores;
}

visatb_status visatb_weights_compute(const visatb_scores *scores, const visatb_weights_options *options,
                                     visatb_weights **weights) {
    (void)scores;
    (void)options;
    (void)weights;
    return without_json("visatb_weights_compute");
}

void visatb_weights_destroy(visatb_weights *weights) {
    (void)weights;
}

visatb_status visatb_weights_count(const visatb_weights *weights, size_t *tasks) {
    (void)weights;
    (void)tasks;
    return without_json("visatb_weights_count");
}

visatb_status visatb_weights_task(const visatb_weights *weights, size_t task, const char **name,
                                  double *weight) {
    (void)weights;
    (void)task;
    (void)name;
    (void)weight;
    return without_json("visatb_weights_task");
}

visatb_status visatb_weights_warning_count(const visatb_weights *weights, size_t *warnings) {
    (void)weights;
    (void)warnings;
    return without_json("visatb_weights_warning_count");
}

visatb_status visatb_weights_warning(const visatb_weights *weights, size_t warning, const char **code,
                                     const char **path, const char **message) {
    (void)weights;
    (void)warning;
    (void)code;
    (void)path;
    (void)message;
    return without_json("visatb_weights_warning");
}

visatb_status visatb_weights_json(const visatb_weights *weights, const char **text, size_t *length) {
    (void)weights;
    (void)text;
    (void)length;
    return without_json("visatb_weights_json");
}

visatb_status visatb_weights_write(const visatb_weights *weights, const char *path) {
    (void)weights;
    (void)path;
    return without_json("visatb_weights_write");
}

visatb_status visatb_weights_read(const char *path, size_t tasks, const char *const *names, float *weights) {
    (void)path;
    (void)tasks;
    (void)names;
    (void)weights;
    return without_json("visatb_weights_read");
}

visatb_status visatb_weights_parse(const char *text, size_t length, const char *name, size_t tasks,
                                   const char *const *names, float *weights) {
    (void)text;
    (void)length;
    (void)name;
    (void)tasks;
    (void)names;
    (void)weights;
    return without_json("visatb_weights_parse");
}

visatb_status visatb_evaluation_compute(const char *text, size_t length, const char *name,
                                        const char *baseline, visatb_evaluation **evaluation) {
    (void)text;
    (void)length;
    (void)name;
    (void)baseline;
    (void)evaluation;
    return without_json("visatb_evaluation_compute");
}

visatb_status visatb_evaluation_json(const visatb_evaluation *evaluation, const char **text, size_t *length) {
    (void)evaluation;
    (void)text;
    (void)length;
    return without_json("visatb_evaluation_json");
}

void visatb_evaluation_destroy(visatb_evaluation *evaluation) {
    (void)evaluation;
}
