/* A results.json to dI, dE and dI_zero (Eq. 9). */
#include "balance/balance.h"
#include "scores/score_set.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct visatb_evaluation {
    char *text;
};

static const char *const root_keys[] = {"visatb_results",     "note",   "plan", "tasks", "baseline",
                                        "zero_shot_baseline", "methods"};

/* The methods of a results file with the scores of the two baselines. */
typedef struct results {
    json_t *root;
    task_list list;
    const json_t *methods;
    const char *baseline_name;
    const char *zero_shot_name;
    bool *lower_is_better;
    double *baseline; /* [metrics], and so the next two */
    double *zero_shot;
    double *scores; /* of the method at hand */
} results;

static bool is_trained(const task *member, size_t unused) {
    (void)unused;
    return !member->zero_shot && member->metrics > 0;
}

static bool is_zero_shot(const task *member, size_t unused) {
    (void)unused;
    return member->zero_shot && member->metrics > 0;
}

static size_t count_tasks(const task_list *list, bool (*which)(const task *, size_t)) {
    size_t count = 0;
    for (size_t t = 0; t < list->task_count; t++)
        count += which(&list->tasks[t], 0);
    return count;
}

/* A method's scores, complete for the tasks for which `needs` holds. */
static visatb_status read_method(json_place *place, const results *data, const char *name,
                                 bool (*needs)(const task *, size_t), double *scores) {
    json_path_clear(&place->path);
    json_path_key(&place->path, "methods");
    const json_t *const object = place_enter(place, data->methods, name);
    const visatb_status status = score_set_read(place, object, &data->list, scores);
    return status == VISATB_OK ? score_set_require(place, object, &data->list, needs, 0) : status;
}

/* The baseline in use, or the one that the file names. */
static bool is_baseline(const results *data, const char *name) {
    const char *const of_file = json_string_value(json_object_get(data->root, "baseline"));
    return strcmp(name, data->baseline_name) == 0 || (of_file && strcmp(name, of_file) == 0);
}

static bool has_zero_shot_scores(const results *data, const json_t *method) {
    for (size_t t = 0; t < data->list.task_count; t++) {
        const task *const member = &data->list.tasks[t];
        if (is_zero_shot(member, 0) && json_object_get(method, member->name))
            return true;
    }
    return false;
}

/* A baseline's name, the caller's or the file's, must be one of the methods. */
static visatb_status find_baseline(json_place *place, const results *data, const char *key,
                                   const char *chosen, const char *absent, const char **name) {
    const json_t *const value = place_enter(place, data->root, key);
    const char *of_file = absent;
    visatb_status status = VISATB_OK;
    if (value || (!chosen && !absent))
        status = place_string(place, value, &of_file);
    if (status != VISATB_OK)
        return status;
    *name = chosen ? chosen : of_file;
    if (!json_object_get(data->methods, *name))
        return place_error(place, "\"%s\" is not among the methods", *name);
    json_path_clear(&place->path);
    return VISATB_OK;
}

static visatb_status allocate(results *data) {
    const size_t metrics = data->list.metric_count + 1;
    data->lower_is_better = calloc(metrics, sizeof *data->lower_is_better);
    data->baseline = calloc(metrics, sizeof *data->baseline);
    data->zero_shot = calloc(metrics, sizeof *data->zero_shot);
    data->scores = calloc(metrics, sizeof *data->scores);
    if (!data->lower_is_better || !data->baseline || !data->zero_shot || !data->scores)
        return error_out_of_memory("visatb_evaluation_compute");
    for (size_t m = 0; m < data->list.metric_count; m++)
        data->lower_is_better[m] = data->list.metrics[m].lower_is_better;
    return VISATB_OK;
}

static visatb_status read_results(json_place *place, const char *baseline, results *data) {
    visatb_status status = PLACE_KNOWN_KEYS(place, data->root, root_keys);
    if (status == VISATB_OK)
        status = place_optional_string(place, data->root, "note");
    if (status == VISATB_OK)
        status = place_optional_string(place, data->root, "plan");
    if (status == VISATB_OK)
        status = task_list_read(place, data->root, TASKS_OF_RESULTS, &data->list);
    if (status != VISATB_OK)
        return status;
    if (count_tasks(&data->list, is_trained) == 0) {
        json_path_key(&place->path, "tasks");
        return place_error(place, "no task with a metric that is not zero_shot");
    }
    data->methods = place_enter(place, data->root, "methods");
    status = place_object(place, data->methods);
    json_path_clear(&place->path);
    if (status == VISATB_OK)
        status = allocate(data);
    if (status == VISATB_OK)
        status = find_baseline(place, data, "baseline", baseline, NULL, &data->baseline_name);
    if (status == VISATB_OK)
        status = read_method(place, data, data->baseline_name, is_trained, data->baseline);
    if (status != VISATB_OK || count_tasks(&data->list, is_zero_shot) == 0)
        return status;

    json_path_clear(&place->path);
    status = find_baseline(place, data, "zero_shot_baseline", NULL, "EW", &data->zero_shot_name);
    if (status == VISATB_OK)
        status = read_method(place, data, data->zero_shot_name, is_zero_shot, data->zero_shot);
    return status;
}

static visatb_status explain(json_place *place, const results *data, const char *baseline,
                             balance_fault fault) {
    if (fault.kind == BALANCE_OK)
        return VISATB_OK;
    const metric *const of = &data->list.metrics[fault.metric];
    json_path_clear(&place->path);
    json_path_key(&place->path, "methods");
    json_path_key(&place->path, baseline);
    json_path_key(&place->path, data->list.tasks[of->task].name);
    json_path_key(&place->path, of->name);
    if (fault.kind == BALANCE_SCORE_NOT_POSITIVE)
        return place_error(place, "%g is not above 0, and improvement divides by the baseline (Eq. 9)",
                           fault.before);
    return place_error(place, "%g and %g are too far apart for a finite result", fault.before, fault.after);
}

/* Improvements in percent of the tasks for which `which` holds go into `tasks`; their summary into dI and dE.
 */
static visatb_status improve(json_place *place, results *data, bool (*which)(const task *, size_t),
                             const char *baseline_name, const double *baseline, json_t *tasks,
                             double *delta_i, double *delta_e) {
    double *const improvements = malloc((data->list.task_count + 1) * sizeof *improvements);
    if (!improvements)
        return error_out_of_memory("visatb_evaluation_compute");
    visatb_status status = VISATB_OK;
    size_t count = 0;
    for (size_t t = 0; status == VISATB_OK && t < data->list.task_count; t++) {
        const task *const member = &data->list.tasks[t];
        if (!which(member, 0))
            continue;
        const size_t first = member->first_metric;
        balance_fault fault = balance_improvement(member->metrics, data->scores + first, baseline + first,
                                                  data->lower_is_better + first, &improvements[count]);
        fault.metric += first;
        status = explain(place, data, baseline_name, fault);
        if (status == VISATB_OK &&
            json_object_set_new(tasks, member->name, json_real(100.0 * improvements[count++])) != 0)
            status = error_out_of_memory("visatb_evaluation_compute");
    }
    if (status == VISATB_OK) {
        balance_improvement_summary(count, improvements, delta_i, delta_e);
        if (!isfinite(*delta_i) || !isfinite(*delta_e))
            status = place_error(place, "the scores are too far apart for a finite mean");
    }
    free(improvements);
    return status;
}

static visatb_status evaluate_method(json_place *place, results *data, const char *name, json_t *methods) {
    visatb_status status = read_method(place, data, name, is_trained, data->scores);
    const json_t *const object = json_object_get(data->methods, name);
    /* A baseline that trains each task alone has no single model to ask zero-shot questions. */
    const bool excused = is_baseline(data, name) && !has_zero_shot_scores(data, object);
    const bool with_zero_shot = count_tasks(&data->list, is_zero_shot) > 0 && !excused;
    if (status == VISATB_OK && with_zero_shot)
        status = score_set_require(place, object, &data->list, is_zero_shot, 0);
    if (status != VISATB_OK)
        return status;

    json_t *const tasks = json_object();
    double delta_i = 0.0, delta_e = 0.0, delta_zero = 0.0, unused = 0.0;
    if (!tasks)
        return error_out_of_memory("visatb_evaluation_compute");
    status = improve(place, data, is_trained, data->baseline_name, data->baseline, tasks, &delta_i, &delta_e);
    if (status == VISATB_OK && with_zero_shot)
        status = improve(place, data, is_zero_shot, data->zero_shot_name, data->zero_shot, tasks, &delta_zero,
                         &unused);
    json_t *entry = NULL;
    if (status == VISATB_OK && with_zero_shot)
        entry = json_pack("{s:f, s:f, s:f, s:O}", "dI", delta_i, "dE", delta_e, "dI_zero", delta_zero,
                          "tasks", tasks);
    else if (status == VISATB_OK)
        entry = json_pack("{s:f, s:f, s:O}", "dI", delta_i, "dE", delta_e, "tasks", tasks);
    json_decref(tasks);
    if (status == VISATB_OK && json_object_set_new(methods, name, entry) != 0)
        status = error_out_of_memory("visatb_evaluation_compute");
    return status;
}

static visatb_status evaluate(json_place *place, results *data, visatb_evaluation *evaluation) {
    json_t *const methods = json_object();
    if (!methods)
        return error_out_of_memory("visatb_evaluation_compute");
    visatb_status status = VISATB_OK;
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)data->methods, name, value) {
        status = evaluate_method(place, data, name, methods);
        if (status != VISATB_OK)
            break;
    }
    json_t *root = NULL;
    if (status == VISATB_OK) {
        root = json_pack("{s:i, s:s, s:O}", "visatb_evaluation", 1, "baseline", data->baseline_name,
                         "methods", methods);
        evaluation->text = root ? json_document_text(root) : NULL;
        if (!evaluation->text)
            status = error_out_of_memory("visatb_evaluation_compute");
    }
    json_decref(root);
    json_decref(methods);
    return status;
}

visatb_status visatb_evaluation_compute(const char *text, size_t length, const char *name,
                                        const char *baseline, visatb_evaluation **evaluation) {
    static const char function[] = "visatb_evaluation_compute";
    if (!text || !name || !evaluation)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: %s is NULL", function,
                         !text   ? "text"
                         : !name ? "name"
                                 : "evaluation");
    visatb_evaluation *const result = calloc(1, sizeof *result);
    if (!result)
        return error_out_of_memory(function);
    json_place place = {.file = name};
    results data = {.root = NULL};
    visatb_status status = json_document_parse(text, length, "visatb_results", &place, &data.root);
    if (status == VISATB_OK)
        status = read_results(&place, baseline, &data);
    if (status == VISATB_OK)
        status = evaluate(&place, &data, result);
    if (status == VISATB_OK)
        *evaluation = result;
    else
        visatb_evaluation_destroy(result);
    free(data.lower_is_better);
    free(data.baseline);
    free(data.zero_shot);
    free(data.scores);
    task_list_free(&data.list);
    json_decref(data.root);
    return status;
}

visatb_status visatb_evaluation_json(const visatb_evaluation *evaluation, const char **text, size_t *length) {
    if (!evaluation || !text)
        return error_set(VISATB_ERROR_ARGUMENT, "visatb_evaluation_json: %s is NULL",
                         evaluation ? "text" : "evaluation");
    *text = evaluation->text;
    if (length)
        *length = strlen(evaluation->text);
    return VISATB_OK;
}

void visatb_evaluation_destroy(visatb_evaluation *evaluation) {
    if (!evaluation)
        return;
    free(evaluation->text);
    free(evaluation);
}
