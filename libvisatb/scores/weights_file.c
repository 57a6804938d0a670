/* Reading a weights.json for a trainer. Keys that only explain the weights are left alone. */
#include "scores/file.h"
#include "scores/json_document.h"

#include <stdlib.h>

static visatb_status read_weight(json_place *place, const json_t *object, const char *name, float *weight) {
    double value = 0.0;
    const json_t *const found = place_enter(place, object, name);
    if (!found)
        return place_error(place, "missing; the file has no weight for the task \"%s\"", name);
    const visatb_status status = place_number_of(place, found, &number_is_weight, &value);
    if (status == VISATB_OK)
        *weight = (float)value;
    return status;
}

static visatb_status read_weights(json_place *place, const json_t *root, size_t tasks,
                                  const char *const *names, float *weights) {
    const json_t *const object = place_enter(place, root, "weights");
    visatb_status status = place_object(place, object);
    if (status != VISATB_OK)
        return status;
    float *const result = calloc(tasks + 1, sizeof *result);
    if (!result)
        return error_out_of_memory("visatb_weights_parse");
    const size_t mark = place->path.length;
    for (size_t t = 0; status == VISATB_OK && t < tasks; t++) {
        status = names[t] ? read_weight(place, object, names[t], &result[t])
                          : error_set(VISATB_ERROR_ARGUMENT, "visatb_weights_parse: names[%zu] is NULL", t);
        if (status == VISATB_OK)
            json_path_leave(&place->path, mark);
    }
    for (size_t t = 0; status == VISATB_OK && t < tasks; t++)
        weights[t] = result[t];
    free(result);
    return status;
}

visatb_status visatb_weights_parse(const char *text, size_t length, const char *name, size_t tasks,
                                   const char *const *names, float *weights) {
    if (!text || !name || !names || !weights)
        return error_set(VISATB_ERROR_ARGUMENT, "visatb_weights_parse: %s is NULL",
                         !text    ? "text"
                         : !name  ? "name"
                         : !names ? "names"
                                  : "weights");
    json_place place = {.file = name};
    json_t *root = NULL;
    visatb_status status = json_document_parse(text, length, "visatb_weights", &place, &root);
    if (status == VISATB_OK)
        status = read_weights(&place, root, tasks, names, weights);
    json_decref(root);
    return status;
}

visatb_status visatb_weights_read(const char *path, size_t tasks, const char *const *names, float *weights) {
    static const char function[] = "visatb_weights_read";
    if (!names || !weights)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: %s is NULL", function, names ? "weights" : "names");
    char *text = NULL;
    size_t length = 0;
    visatb_status status = file_read(function, path, &text, &length);
    if (status != VISATB_OK)
        return status;
    status = visatb_weights_parse(text, length, path, tasks, names, weights);
    free(text);
    return status;
}
