#include "scores/weights_document.h"

/* {unit: value}; NULL where memory is exhausted. */
static json_t *by_unit(const task_list *list, const double *values) {
    json_t *const object = json_object();
    for (size_t u = 0; object && u < list->unit_count; u++) {
        if (json_object_set_new(object, list->units[u], json_real(values[u])) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *task_names(const task_list *list) {
    json_t *const array = json_array();
    for (size_t t = 0; array && t < list->task_count; t++) {
        if (json_array_append_new(array, json_string(list->tasks[t].name)) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *task_weights(const task_list *list, const double *unit_weights) {
    json_t *const object = json_object();
    for (size_t t = 0; object && t < list->task_count; t++) {
        const task *const member = &list->tasks[t];
        const double weight = member->fixed ? member->fixed_weight : unit_weights[member->unit];
        if (json_object_set_new(object, member->name, json_real(weight)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *contributions(const task_list *list, const double *contribution) {
    json_t *const object = json_object();
    for (size_t u = 0; object && u < list->unit_count; u++) {
        json_t *const row = by_unit(list, contribution + u * list->unit_count);
        if (json_object_set_new(object, list->units[u], row) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* The document with the plan that the scores are of, where they name one. Takes the document. */
static json_t *with_plan(json_t *document, const visatb_scores *scores) {
    const char *const plan = json_string_value(json_object_get(scores->root, "plan"));
    if (plan && json_object_set_new(document, "plan", json_string(plan)) != 0) {
        json_decref(document);
        return NULL;
    }
    return document;
}

json_t *weights_document(const visatb_scores *scores, const balance_request *request,
                         const balance_result *result, json_t *warnings, const char *sha256) {
    const task_list *const list = &scores->list;
    const size_t units = list->unit_count;
    const double *const alphas = request->alphas;
    const double sum = alphas[0] + alphas[1] + alphas[2];
    /* json_pack takes over every "o", also where it fails; a NULL among them makes it fail. */
    json_t *const document = json_pack(
        "{s:i, s:o, s:o, s:f, s:{s:f, s:f, s:f}, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:o, s:s}", //
        "visatb_weights", 1,                                                                        //
        "tasks", task_names(list),                                                                  //
        "weights", task_weights(list, result->weights),                                             //
        "temperature", result->temperature,                                                         //
        "alphas", "out", alphas[0] / sum, "in", alphas[1] / sum, "difficulty", alphas[2] / sum,     //
        "contribution", contributions(list, result->contribution),                                  //
        "outward", by_unit(list, result->outward),                                                  //
        "inward", by_unit(list, result->inward),                                                    //
        "difficulty", by_unit(list, result->difficulty),                                            //
        "components",                                                                               //
        "out", by_unit(list, result->components),                                                   //
        "in", by_unit(list, result->components + units),                                            //
        "difficulty", by_unit(list, result->components + 2 * units),                                //
        "warnings", warnings,                                                                       //
        "scores_sha256", sha256);
    return with_plan(document, scores);
}
