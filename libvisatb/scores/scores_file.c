#include "scores/scores_file.h"
#include "common/text.h"
#include "scores/file.h"
#include "scores/sha256.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const root_keys[] = {"visatb_scores", "form",       "note",       "plan",
                                        "tasks",         "runs",       "alphas",     "range",
                                        "sampling",      "per_sample", "temperature"};
static const char *const run_keys[] = {"base", "mini", "with_mini", "only", "mini_only"};

static visatb_status allocate_values(size_t sets, size_t metrics, double **values) {
    *values = malloc((sets * metrics + 1) * sizeof **values);
    if (!*values)
        return error_out_of_memory("visatb_scores_parse");
    for (size_t k = 0; k < sets * metrics; k++)
        (*values)[k] = NAN;
    return VISATB_OK;
}

static visatb_status read_single_run(json_place *place, const json_t *runs, const char *key,
                                     const task_list *list, run_scores *out) {
    const size_t mark = place->path.length;
    out->object = place_enter(place, runs, key);
    if (out->object) {
        visatb_status status = allocate_values(1, list->metric_count, &out->values);
        if (status == VISATB_OK)
            status = score_set_read(place, out->object, list, out->values);
        if (status != VISATB_OK)
            return status;
    }
    json_path_leave(&place->path, mark);
    return VISATB_OK;
}

/* What is wrong with a run called after `name`, which is no unit. */
static void describe_unknown_unit(const task_list *list, const char *name, char *problem, size_t size) {
    size_t t = 0;
    while (t < list->task_count && strcmp(list->tasks[t].name, name) != 0)
        t++;
    if (t == list->task_count)
        (void)snprintf(problem, size, "unknown; runs are called after a group, or after a task without one");
    else if (list->tasks[t].fixed)
        (void)snprintf(problem, size, "task \"%s\" has a fixed weight, so it has no run of its own", name);
    else
        (void)snprintf(problem, size,
                       "task \"%s\" is in group \"%s\", which is trained as one: call the run \"%s\"", name,
                       list->tasks[t].group, list->tasks[t].group);
    text_end_whole(problem);
}

static visatb_status refuse_unknown_unit(json_place *place, const json_t *object, const task_list *list) {
    json_t *const rest = json_copy((json_t *)object);
    for (size_t u = 0; rest && u < list->unit_count; u++)
        (void)json_object_del(rest, list->units[u]);
    const char *const name = json_object_iter_key(json_object_iter(rest));
    char problem[1024];
    describe_unknown_unit(list, name ? name : "", problem, sizeof problem);
    return place_leftover(place, rest, problem);
}

static visatb_status read_unit_runs(json_place *place, const json_t *runs, const char *key,
                                    const task_list *list, run_scores *out) {
    const size_t mark = place->path.length;
    out->object = place_enter(place, runs, key);
    if (!out->object) {
        json_path_leave(&place->path, mark);
        return VISATB_OK;
    }
    visatb_status status = place_object(place, out->object);
    if (status == VISATB_OK)
        status = allocate_values(list->unit_count, list->metric_count, &out->values);
    const size_t inner = place->path.length;
    size_t found = 0;
    for (size_t u = 0; status == VISATB_OK && u < list->unit_count; u++) {
        const json_t *const run = place_enter(place, out->object, list->units[u]);
        if (run) {
            found++;
            status = score_set_read(place, run, list, out->values + u * list->metric_count);
        }
        if (status == VISATB_OK)
            json_path_leave(&place->path, inner);
    }
    if (status == VISATB_OK && found != json_object_size(out->object))
        status = refuse_unknown_unit(place, out->object, list);
    if (status == VISATB_OK)
        json_path_leave(&place->path, mark);
    return status;
}

static visatb_status read_runs(json_place *place, visatb_scores *scores) {
    const json_t *const runs = place_enter(place, scores->root, "runs");
    visatb_status status = place_object(place, runs);
    if (status == VISATB_OK)
        status = PLACE_KNOWN_KEYS(place, runs, run_keys);
    if (status == VISATB_OK)
        status = read_single_run(place, runs, "base", &scores->list, &scores->base);
    if (status == VISATB_OK)
        status = read_single_run(place, runs, "mini", &scores->list, &scores->mini);
    if (status == VISATB_OK)
        status = read_unit_runs(place, runs, "with_mini", &scores->list, &scores->with_mini);
    if (status == VISATB_OK)
        status = read_unit_runs(place, runs, "only", &scores->list, &scores->only);
    if (status == VISATB_OK)
        status = read_unit_runs(place, runs, "mini_only", &scores->list, &scores->mini_only);
    if (status == VISATB_OK)
        json_path_clear(&place->path);
    return status;
}

static visatb_status check_unit_count(json_place *place, const task_list *list) {
    json_path_key(&place->path, "tasks");
    if (list->unit_count < 2)
        return place_error(place,
                           "N = %zu; weighing needs at least two tasks (or groups) without a fixed weight",
                           list->unit_count);
    if (list->unit_count > LARGEST_UNIT_COUNT)
        return place_error(place, "N = %zu; a file holds up to %d", list->unit_count, LARGEST_UNIT_COUNT);
    json_path_clear(&place->path);
    return VISATB_OK;
}

static visatb_status read_all(json_place *place, visatb_scores *scores) {
    visatb_status status = PLACE_KNOWN_KEYS(place, scores->root, root_keys);
    if (status == VISATB_OK)
        status = settings_read(place, scores->root, &scores->settings);
    if (status == VISATB_OK)
        status = task_list_read(place, scores->root, TASKS_OF_SCORES, &scores->list);
    if (status == VISATB_OK)
        status = check_unit_count(place, &scores->list);
    if (status == VISATB_OK)
        status = read_runs(place, scores);
    return status;
}

visatb_status visatb_scores_parse(const char *text, size_t length, const char *name, visatb_scores **scores) {
    static const char function[] = "visatb_scores_parse";
    if (!text || !name || !scores)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: %s is NULL", function,
                         !text   ? "text"
                         : !name ? "name"
                                 : "scores");
    visatb_scores *const result = calloc(1, sizeof *result);
    char *const file = malloc(strlen(name) + 1);
    if (!result || !file) {
        free(result);
        free(file);
        return error_out_of_memory(function);
    }
    memcpy(file, name, strlen(name) + 1);
    result->file = file;
    sha256_hex(text, length, result->sha256);

    json_place place = {.file = file};
    visatb_status status = json_document_parse(text, length, "visatb_scores", &place, &result->root);
    if (status == VISATB_OK)
        status = read_all(&place, result);
    if (status == VISATB_OK)
        *scores = result;
    else
        visatb_scores_destroy(result);
    return status;
}

visatb_status visatb_scores_read(const char *path, visatb_scores **scores) {
    static const char function[] = "visatb_scores_read";
    if (!scores)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: scores is NULL", function);
    char *text = NULL;
    size_t length = 0;
    visatb_status status = file_read(function, path, &text, &length);
    if (status != VISATB_OK)
        return status;
    status = visatb_scores_parse(text, length, path, scores);
    free(text);
    return status;
}

void visatb_scores_destroy(visatb_scores *scores) {
    if (!scores)
        return;
    run_scores *const runs[] = {&scores->base, &scores->mini, &scores->with_mini, &scores->only,
                                &scores->mini_only};
    for (size_t k = 0; k < sizeof runs / sizeof runs[0]; k++)
        free(runs[k]->values);
    task_list_free(&scores->list);
    json_decref(scores->root);
    free(scores->file);
    free(scores);
}
